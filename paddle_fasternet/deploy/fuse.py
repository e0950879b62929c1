"""Fold what is linear at inference, BatchNorm and layer scale, into the convolutions beside it."""
import copy
from collections import Counter

import numpy as np
import paddle
from paddle import nn

from .._check import check_type
from ..model import FasterNetBlock, PatchEmbed, PatchMerging


def fuse_conv_bn(model):
    """A copy of a network in evaluation mode with every BatchNorm folded that directly follows a convolution.

    Folded are the stem, the merging layers and the middle of each block, layer scale, and neighbours in any
    ``nn.Sequential``, so a mixer of your own too. A folded BatchNorm becomes ``nn.Identity``; names stay.

    Args:
        model: any network; it stays as it is, on its device and in its mode.

    Returns:
        The copy: equal outputs in evaluation mode to float precision, and of no use for training.
    """
    check_type("model", model, nn.Layer)
    model = copy.deepcopy(model)
    model.eval()
    layers = model.sublayers(include_self=True)
    # a convolution with two parents, each of which normalises it in its own way, stays as it is
    once = {number for number, count in Counter(id(child) for layer in layers for child in layer.children()).items()
            if count == 1}
    for layer in layers:
        if isinstance(layer, PatchEmbed):
            _fold(layer, "proj", "norm", once)
        elif isinstance(layer, PatchMerging):
            _fold(layer, "reduction", "norm", once)
        elif isinstance(layer, FasterNetBlock) and layer.layer_scale is not None:
            _scale_outputs(layer.mlp[-1], layer.layer_scale.numpy().astype(np.float64))
            layer.layer_scale = None
        elif isinstance(layer, nn.Sequential):
            names = [name for name, _ in layer.named_children()]
            for conv, norm in zip(names, names[1:]):
                _fold(layer, conv, norm, once)
    return model


def _fold(parent, conv_name, norm_name, once):
    """norm(conv(x)) = (conv(x) - mean) * scale + bias, where they are such a pair and ``id(conv)`` is in ``once``."""
    conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
    if (not isinstance(conv, nn.Conv2D) or not isinstance(norm, (nn.BatchNorm2D, nn.SyncBatchNorm))
            or id(conv) not in once):
        return
    mean, variance = (value.numpy().astype(np.float64) for value in (norm._mean, norm._variance))
    scale = 1 / np.sqrt(variance + norm._epsilon)
    if norm.weight is not None:
        scale *= norm.weight.numpy()
    shift = -mean * scale
    if norm.bias is not None:
        shift += norm.bias.numpy()
    _scale_outputs(conv, scale, shift)
    setattr(parent, norm_name, nn.Identity())


@paddle.no_grad()
def _scale_outputs(conv, scale, shift=0.0):
    """Make the convolution return scale * conv(x) + shift; both float64 [out_channels]."""
    bias = scale * (0 if conv.bias is None else conv.bias.numpy()) + shift
    conv.weight.set_value((conv.weight.numpy() * scale[:, None, None, None]).astype(np.float32))
    if conv.bias is None and np.any(bias):
        conv.bias = conv.create_parameter([len(scale)], is_bias=True)
    if conv.bias is not None:
        conv.bias.set_value(bias.astype(np.float32))
