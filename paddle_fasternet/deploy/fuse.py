"""Fold what is linear at inference, BatchNorm and layer scale, into the convolutions beside it."""
import numpy as np
import paddle
from paddle import nn

from .._check import check_type
from .._modes import dynamic, evaluating
from .._plain import copied, oddity, places
from ..model import FasterNet, FasterNetBlock, PatchEmbed, PatchMerging, Stage

# layers that call their children as they stand, and the names of a convolution and the norm right after it
_PAIRS = {
    PatchEmbed: lambda layer: [("proj", "norm")],
    PatchMerging: lambda layer: [("reduction", "norm")],
    nn.Sequential: lambda layer: list(zip(layer._sub_layers, list(layer._sub_layers)[1:])),
    FasterNet: lambda layer: [], Stage: lambda layer: [], FasterNetBlock: lambda layer: [],
}


@dynamic
def fuse_conv_bn(model, example=None):
    """A copy of a network in evaluation mode with every BatchNorm folded that directly follows a convolution.

    Folded are the stem, the merging layers and the middle of each block, layer scale, and neighbours in any plain
    ``nn.Sequential``, so a mixer of your own too. A folded BatchNorm becomes ``nn.Identity``; names stay.

    A pair stays as it is where folding might change the output: a hook, a replaced method, a weight that is shared or
    that another function computes, a convolution or norm at two places, ``use_global_stats=False``. A layer with a
    ``forward`` of its own may call its sublayers in any order, so all inside it stays too, unless there is an
    ``example`` to check it on.

    Args:
        model: any network; it stays as it is, on its device and in its mode.
        example: an input. With it, pairs inside layers with a ``forward`` of their own are folded too if the outputs
            on this input stay the same.

    Returns:
        The copy: equal outputs in evaluation mode to the precision of the weights' type, and of no use for training.

    Raises:
        ValueError: a layer cannot be copied; the message names it.
    """
    check_type("model", model, nn.Layer)
    if example is not None:
        check_type("example", example, paddle.Tensor)
        folded = _folded(model, trusting=True)
        with evaluating(model), paddle.no_grad():
            if _agree(folded(example), model(example)):
                return folded
    return _folded(model)


def _folded(model, trusting=False):
    model = copied(model)
    model.eval()
    found = places(model)
    if not found[id(model)]:
        _fold_inside(model, found, trusting)
    return model


def _fold_inside(layer, found, trusting):
    """Fold the pairs in a layer, provided that all on the way to them is plain and stands at one place."""
    kind = next((kind for kind in _PAIRS if isinstance(layer, kind)), None)
    if oddity(layer) or (kind is None and not trusting):
        return
    for child in layer.children():
        if len(found[id(child)]) == 1:
            _fold_inside(child, found, trusting)
    for conv_name, norm_name in _PAIRS[kind](layer) if kind else ():
        conv, norm = getattr(layer, conv_name), getattr(layer, norm_name)
        if _is_conv(conv, found) and _is_norm(norm, found, conv):
            scale, shift = _affine(norm)
            if _scale_outputs(conv, scale, shift):
                setattr(layer, norm_name, nn.Identity())
    if kind is FasterNetBlock and layer.layer_scale is not None and _ends_in_conv(layer.mlp, found):
        if _scale_outputs(list(layer.mlp.children())[-1], _float64(layer.layer_scale)):
            layer.layer_scale = None


def _is_conv(layer, found):
    """Whether this is a convolution whose weights nothing else uses."""
    values = [value for value in (layer, getattr(layer, "weight", None), getattr(layer, "bias", None))
              if value is not None]
    return type(layer) is nn.Conv2D and not oddity(layer) and all(len(found[id(value)]) == 1 for value in values)


def _is_norm(layer, found, conv):
    """Whether this is a norm of the convolution's outputs by its running statistics."""
    return (type(layer) in (nn.BatchNorm2D, nn.SyncBatchNorm) and not oddity(layer) and len(found[id(layer)]) == 1
            and not layer.training and layer._use_global_stats is not False
            and layer._data_format == conv._data_format and layer._mean.shape == conv.weight.shape[:1])


def _ends_in_conv(layer, found):
    return (isinstance(layer, nn.Sequential) and not oddity(layer) and len(found[id(layer)]) == 1
            and _is_conv(list(layer.children())[-1], found))


def _affine(norm):
    """(scale, shift), float64 [channels], of a norm in evaluation mode."""
    scale = 1 / np.sqrt(_float64(norm._variance) + norm._epsilon)
    if norm.weight is not None:
        scale *= _float64(norm.weight)
    shift = -_float64(norm._mean) * scale
    return scale, shift if norm.bias is None else shift + _float64(norm.bias)


@paddle.no_grad()
def _scale_outputs(conv, scale, shift=0.0):
    """Make the convolution return scale * conv(x) + shift, both float64 [out_channels]; False where that overflows."""
    kind = conv.weight.dtype
    bias = scale * (0 if conv.bias is None else _float64(conv.bias)) + shift
    weight, bias = (paddle.to_tensor(value).astype(kind)
                    for value in (_float64(conv.weight) * scale[:, None, None, None], bias))
    if not all(np.isfinite(_float64(value)).all() for value in (weight, bias)):
        return False
    conv.weight.set_value(weight)
    if conv.bias is None and bool((bias != 0).any()):
        conv.bias = conv.create_parameter([len(scale)], dtype=kind, is_bias=True)
    if conv.bias is not None:
        conv.bias.set_value(bias)
    return True


def _float64(value):
    return value.astype("float64").numpy()


def _agree(found, expected):
    """Whether two outputs, tensors or nested lists of them, are equal to the precision of their type."""
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(_agree, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_agree(found[key], expected[key]) for key in expected)
    if not isinstance(expected, paddle.Tensor) or "float" not in str(expected.dtype):
        return bool(np.all(np.asarray(found) == np.asarray(expected)))
    limit = paddle.finfo(expected.dtype).eps ** 0.5 * float(expected.abs().max().astype("float64"))
    return bool(((found - expected).abs().astype("float64") <= limit).all())
