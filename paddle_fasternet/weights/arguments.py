"""Which arguments of ``FasterNet`` the shapes of its weights tell."""
import re

_STAGE = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.0\.weight$")
_MERGING = re.compile(r"stages\.(\d+)\.reduction\.weight$")


def read_arguments(shapes, strides=()):
    """The arguments with which ``FasterNet`` has weights of these shapes.

    Args:
        shapes: {our name: shape}.
        strides: (patch_size, *merge_sizes) of a network to compare with. The side of a patch is its step and twice the
            overlap: of the ways to part them, the one with most of these steps is taken, then the least overlap.

    Returns:
        A dict; without an argument that the shapes do not tell, such as the mixer where it is none of the table's, and
        empty where they are of no FasterNet.
    """
    stem, blocks = shapes.get("patch_embed.proj.weight"), {}
    for name in shapes:
        if found := _STAGE.match(name):
            blocks.setdefault(int(found[1]), []).append(int(found[2]))
    if stem is None or len(stem) != 4 or not blocks:
        return {}
    found = {"in_channels": stem[1], "embed_dim": stem[0],
             "depths": tuple(len(blocks.get(stage, ())) for stage in range(0, max(blocks) + 1, 2)),
             **_patches([stem[2], *(shapes[name][2] for name in _in_order(shapes))], strides)}
    first = min(blocks)
    dim = stem[0] * 2 ** (first // 2)
    prefix = f"stages.{first}.blocks.{min(blocks[first])}."
    found["mlp_ratio"] = shapes[prefix + "mlp.0.weight"][0] / dim
    found["layer_scale_init_value"] = "above 0" if prefix + "layer_scale" in shapes else 0
    found.update(_mixer(shapes, prefix + "spatial_mixing.", dim))
    if "avgpool_pre_head.1.weight" in shapes:
        found["feature_dim"] = shapes["avgpool_pre_head.1.weight"][0]
    found["num_classes"] = shapes["head.bias"][0] if "head.bias" in shapes else 0
    return found


def strides_of(model):
    """(patch_size, *merge_sizes) of a network; () where it has no such layers."""
    try:
        layers = [model.patch_embed.proj, *(layer.reduction for layer in model.stages if hasattr(layer, "reduction"))]
        return tuple(layer._stride[0] for layer in layers)
    except (AttributeError, TypeError):
        return ()


def _in_order(shapes):
    """The names of the merging layers' weights."""
    return sorted(filter(_MERGING.match, shapes), key=lambda name: int(_MERGING.match(name)[1]))


def _patches(sides, strides):
    """patch_size, merge_sizes and embed_overlap for the sides of the stem's and the merging layers' kernels."""
    ways = [(overlap, [side - 2 * overlap for side in sides]) for overlap in range((min(sides) + 1) // 2)]
    overlap, steps = min(ways, key=lambda way: (-sum(map(int.__eq__, way[1], strides)), way[0]))
    return {"patch_size": steps[0], "merge_sizes": tuple(steps[1:]), "embed_overlap": overlap}


def _mixer(shapes, prefix, dim):
    """mixer, n_div and kernel_size for the weights of a block's mixer."""
    own = {name[len(prefix):]: shape for name, shape in shapes.items() if name.startswith(prefix)}
    if not own:
        return {"mixer": "identity"}
    (name, shape), *others = own.items()
    if others or len(shape) != 4 or shape[2] != shape[3]:
        return {}
    if name == "partial_conv3.weight" and dim % shape[0] == 0:
        return {"mixer": "pconv", "n_div": dim // shape[0], "kernel_size": shape[2]}
    if name == "conv.weight" and shape[0] == dim:
        kind = {1: "dwconv", dim: "conv"}.get(shape[1], "gconv")
        return {"mixer": kind, "kernel_size": shape[2]}
    return {}
