"""Whether a folded network is a FasterNet as its builder makes it: the native engine reads weights, not layers."""
from paddle import nn

from .._plain import oddities
from ..layers import DropPath, PConv
from ..model import FasterNet, FasterNetBlock, PatchMerging, Stage, patch_shape

_ACTS = {nn.GELU: "gelu", nn.ReLU: "relu"}


def native_settings(network):
    """What ``NativeNetwork`` must know of a FasterNet beside its weights, or None where it is not made for it."""
    if not isinstance(network, FasterNet) or any(oddities(network)):
        return None
    stages, head = list(network.stages.children()), list(network.avgpool_pre_head.children())
    embeddings, blocks = [network.patch_embed, *stages[1::2]], []
    if not stages or [type(layer) for layer in stages] != ([Stage, PatchMerging] * len(stages))[:len(stages)]:
        return None
    for stage in stages[::2]:
        blocks += stage.blocks.children()
    if not all(map(_is_block, blocks)) or len(head) != 3 or type(network.head) not in (nn.Linear, nn.Identity):
        return None
    pooling, feature, last = head
    acts = {_ACTS.get(type(act)) for act in [last, *(block.mlp[2] for block in blocks)]}
    embed_acts = {"none" if type(embedding.act) is nn.Identity else _ACTS.get(type(embedding.act))
                  for embedding in embeddings}
    overlaps = {shape and shape[1] for shape in map(patch_shape, embeddings)}
    plain = [type(pooling) is nn.AdaptiveAvgPool2D and pooling._output_size in (1, [1, 1], (1, 1)),
             _is_conv(feature, 1), all(type(embedding.norm) is nn.Identity for embedding in embeddings),
             len(acts) == 1 and None not in acts, embed_acts in ({"none"}, acts),
             len(overlaps) == 1 and None not in overlaps,
             not any(getattr(layer, "_approximate", False) for layer in network.sublayers())]  # the tanh form of GELU
    if not all(plain):
        return None
    return {"act": acts.pop(), "embed_act": embed_acts != {"none"}, "embed_overlap": overlaps.pop()}


def _is_block(block):
    if not isinstance(block, FasterNetBlock) or block.layer_scale is not None:
        return False
    kinds = [type(layer) for layer in block.mlp.children()]
    return (kinds[:2] == [nn.Conv2D, nn.Identity] and kinds[3:] == [nn.Conv2D] and _is_mixer(block.spatial_mixing)
            and type(block.drop_path) in (DropPath, nn.Identity) and all(_is_conv(block.mlp[i], 1) for i in (0, 3)))


def _is_mixer(layer):
    if type(layer) is nn.Identity:
        return True
    return (type(layer) is PConv and type(layer.partial_conv3) is nn.Conv2D
            and _is_conv(layer.partial_conv3, layer.partial_conv3.weight.shape[2])
            and layer.partial_conv3.weight.shape[:2] == [layer.dim_conv] * 2)


def _is_conv(conv, size):
    """Whether this is a regular convolution of that kernel size and stride 1 that keeps H and W."""
    before, after = (size - 1) // 2, size // 2
    return (type(conv) is nn.Conv2D and list(conv.weight.shape[2:]) == [size] * 2 and list(conv._stride) == [1, 1]
            and list(conv._dilation) == [1, 1] and conv._groups == 1 and conv._data_format == "NCHW"
            and conv._padding_mode == "zeros" and conv._padding_algorithm != "SAME"
            and list(conv._updated_padding) in ([before, after] * 2, [before] * (2 if before == after else 0)))
