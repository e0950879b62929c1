"""Whether a FasterNet is as its builder makes it: the native kernels read its weights and do not call its layers."""
from paddle import nn

from .._plain import oddities
from ..layers import DropPath
from ..mixers import MIXERS, mixer_of
from ..model import FasterNet, FasterNetBlock, PatchEmbed, PatchMerging, Stage, patch_shape
from ..native.inference import mixes

_ACTS = {nn.GELU: "gelu", nn.ReLU: "relu"}


def native_settings(network):
    """What ``NativeNetwork`` must know of a folded FasterNet beside its weights; None where it is not made for it."""
    if not isinstance(network, FasterNet) or foreign(network, nn.Identity):
        return None
    overlaps = {patch_shape(layer)[1] for layer in network.sublayers() if isinstance(layer, (PatchEmbed, PatchMerging))}
    act = _ACTS.get(type(network.avgpool_pre_head[2]))
    acts = {_ACTS.get(type(block.mlp[2])) for _, block in _blocks(network)}
    embed_act = "none" if type(network.patch_embed.act) is nn.Identity else _ACTS.get(type(network.patch_embed.act))
    tanh = any(getattr(layer, "_approximate", False) for layer in network.sublayers())  # the other form of GELU
    scaled = any(block.layer_scale is not None for _, block in _blocks(network))
    if (not all(_runs(block.spatial_mixing) for _, block in _blocks(network)) or act is None or not acts <= {act}
            or embed_act not in ("none", act) or tanh or len(overlaps) > 1 or scaled
            or type(network.head) not in (nn.Linear, nn.Identity) or any(oddities(network))):
        return None
    return {"act": act, "embed_act": embed_act == act, "embed_overlap": overlaps.pop()}


def why_not_native(network):
    """Why the native engine does not run a folded network, and what does; "" if it runs it."""
    if native_settings(network) is not None:
        return ""
    known = ", ".join(name for name, mixer in MIXERS.items() if mixer.native)
    text = f"the native engine runs FasterNet with the mixers {known} and ReLU or GELU alone"
    why = f"a {type(network).__name__}"
    if isinstance(network, FasterNet):
        why = foreign(network, nn.Identity) or "; ".join(f"{name}, which {why}" for name, why in oddities(network))
    return f"{text}{why and f': here is {why}'}; engine='eager' runs any network"


def foreign(network, norm):
    """The first layer between input and head that is not as the builder makes it, and what it is; "" if all are.

    Args:
        network: a FasterNet.
        norm: the class that its norms must have.
    """
    for name, why in oddities(network):
        if name.split(".")[0] != "head":
            return f"{name or 'model'}, which {why}"
    for name, right in _checks(network, norm):
        if not right:
            return f"{name}, which is not as FasterNet makes it"
    return ""


def _checks(network, norm):
    """(name of a layer, whether it is as the builder makes it)."""
    stages = list(network.stages.named_children())
    kinds = [type(stage) for _, stage in stages]
    yield "stages", kinds and kinds == ([Stage, PatchMerging] * len(kinds))[:len(kinds)]
    first = network.patch_embed
    for name, embedding in [("patch_embed", first), *((f"stages.{name}", stage) for name, stage in stages[1::2])]:
        yield name, patch_shape(embedding) and type(embedding.act) is type(first.act)
        yield f"{name}.norm", type(embedding.norm) is norm
    blocks = list(_blocks(network))
    for name, block in blocks:
        yield name, _is_block(block, norm) and type(block.mlp[2]) is type(blocks[0][1].mlp[2])
    kinds = [type(layer) for layer in network.avgpool_pre_head.children()]
    yield "avgpool_pre_head", kinds[:2] == [nn.AdaptiveAvgPool2D, nn.Conv2D] and len(kinds) == 3
    yield "avgpool_pre_head.0", network.avgpool_pre_head[0]._output_size in (1, [1, 1], (1, 1))
    yield "avgpool_pre_head.1", _is_conv(network.avgpool_pre_head[1])


def _blocks(network):
    return [(f"stages.{number}.blocks.{name}", block) for number, stage in network.stages.named_children()
            if isinstance(stage, Stage) for name, block in stage.blocks.named_children()]


def _is_block(block, norm):
    if not isinstance(block, FasterNetBlock) or type(block.drop_path) not in (DropPath, nn.Identity):
        return False
    kinds = [type(layer) for layer in block.mlp.children()]
    return (kinds[:2] == [nn.Conv2D, norm] and kinds[3:] == [nn.Conv2D] and _is_conv(block.mlp[0])
            and _is_conv(block.mlp[3]) and _is_mixer(block.spatial_mixing))


def _is_mixer(layer):
    """Whether this is a mixer of the table whose convolution, if any, is the builder's."""
    conv = _mixer_conv(layer)
    return mixer_of(layer) is not None and (conv is None or type(conv) is nn.Conv2D
                                            and _is_conv(conv, conv.weight.shape[2], conv._groups))


def _runs(layer):
    """Whether the native engine runs this mixer."""
    mixer, conv = mixer_of(layer), _mixer_conv(layer)
    return bool(mixer and mixer.native) and (
        conv is None or conv.bias is None and mixes(conv.weight.shape[0], conv._groups, conv.weight.shape[2]))


def _mixer_conv(layer):
    """The convolution of a mixer of the table; None where it has none."""
    mixer = mixer_of(layer)
    return getattr(layer, mixer.conv) if mixer and mixer.conv else None


def _is_conv(conv, size=1, groups=1):
    """Whether this is a convolution of that kernel size and stride 1 that keeps channels, H and W."""
    before, after = (size - 1) // 2, size // 2
    return (type(conv) is nn.Conv2D and list(conv.weight.shape[2:]) == [size] * 2 and list(conv._stride) == [1, 1]
            and list(conv._dilation) == [1, 1] and conv._groups == groups and conv._data_format == "NCHW"
            and conv._padding_mode == "zeros" and conv._padding_algorithm != "SAME"
            and list(conv._updated_padding) in ([before, after] * 2, [before] * (2 if before == after else 0)))
