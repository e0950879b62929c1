"""Explanations from gradients: Grad-CAM, SmoothGrad, integrated gradients. Any network will do.

Selvaraju and others, "Grad-CAM", ICCV 2017 (arXiv 1610.02391); Smilkov and others, "SmoothGrad", 2017 (arXiv
1706.03825); Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017 (arXiv 1703.01365).

All take the network's own input, float32 [N, 3, H, W], and leave the network as it was: its mode, its parameters'
gradients, its hooks. ``of`` is what is differentiated: "logit", or "probability", whose gradients vanish where the
network is certain.
"""
import contextlib

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from .._check import check_choice, check_number, check_type
from .._modes import evaluating


def grad_cam(model, x, labels=None, layer=None, of="logit"):
    """Which places of a feature map speak for a class: its channels, weighted by their mean gradients, above 0.

    Args:
        labels: a class, or one for each image; None takes the likeliest.
        layer: a layer of ``model`` that returns [N, C, h, w], or its name; None takes the last one in the forward pass
            whose map is larger than 1 x 1, in a FasterNet the last stage.

    Returns:
        float32 [N, H, W] of the input's size (bilinear), >= 0.

    Raises:
        TypeError, ValueError: ``layer`` is not in the model or returns no map; an argument is out of range.
    """
    layer = _find_layer(model, layer)
    maps = []

    def keep(_, __, output):
        if layer is not None or (isinstance(output, paddle.Tensor) and output.ndim == 4 and max(output.shape[2:]) > 1):
            maps[:] = [output]

    watched = [layer] if layer is not None else model.sublayers()
    with _prepared(model, x) as x:
        hooks = [one.register_forward_post_hook(keep) for one in watched]
        try:
            target = _target(model, x, labels, of)
        finally:
            for hook in hooks:
                hook.remove()
        if not maps or not isinstance(maps[0], paddle.Tensor) or maps[0].ndim != 4:
            raise ValueError("layer returned no feature map [N, C, h, w]; name another one" if layer is not None else
                             "model has no layer that returns a feature map larger than 1 x 1")
        gradient, = paddle.grad(target, maps, allow_unused=True)
        if gradient is None:
            raise ValueError("the output does not depend on what layer returned; name another one")
        cam = F.relu((gradient.mean([2, 3], keepdim=True) * maps[0]).sum(1, keepdim=True))
        return F.interpolate(cam, x.shape[2:], mode="bilinear").squeeze(1).numpy()


def smooth_grad(model, x, labels=None, samples=50, noise=0.1, seed=0, of="logit"):
    """The gradient with respect to the input, averaged over noisy copies of it.

    Args:
        labels: a class, or one for each image; None takes the likeliest.
        samples: noisy copies.
        noise: their standard deviation, as a share of each image's range.
        seed: of the noise.

    Returns:
        float32 [N, 3, H, W]; ``to_map`` sums its sizes over the channels.
    """
    samples = check_number("samples", samples, low=1, integer=True)
    noise = check_number("noise", noise, low=0)
    rng = np.random.default_rng(check_number("seed", seed, low=0, integer=True))
    with _prepared(model, x) as x:
        labels = _labels(model, x, labels)
        values = x.numpy()
        scale = noise * (values.max((1, 2, 3), keepdims=True) - values.min((1, 2, 3), keepdims=True))
        total = np.zeros_like(values)
        for _ in range(samples):
            noisy = values + scale * rng.standard_normal(values.shape, np.float32)
            total += _gradient(model, paddle.to_tensor(noisy), labels, of)
        return total / samples


def integrated_gradients(model, x, labels=None, baseline=None, steps=50, of="logit"):
    """What each value of the input adds to the output on the straight way from a baseline.

    Args:
        labels: a class, or one for each image; None takes the likeliest.
        baseline: the input that stands for nothing, of x's shape or broadcast to it; None is 0, the mean colour.
        steps: places on the way (at the middle of as many equal parts).

    Returns:
        float32 [N, 3, H, W]. Each image's sum is nearly output(x) - output(baseline), the nearer the more steps.
    """
    steps = check_number("steps", steps, low=1, integer=True)
    with _prepared(model, x) as x:
        labels = _labels(model, x, labels)
        values = x.numpy()
        try:
            start = np.broadcast_to(np.asarray(0 if baseline is None else baseline, values.dtype), values.shape)
        except ValueError:
            raise ValueError(f"baseline of shape {np.shape(baseline)} does not fit x of {values.shape}") from None
        total = np.zeros_like(values)
        for step in range(steps):
            share = np.asarray((step + 0.5) / steps, values.dtype)
            total += _gradient(model, paddle.to_tensor(start + share * (values - start)), labels, of)
        return (values - start) * total / steps


def to_map(gradients):
    """How much each pixel matters: sizes summed over the channels, [N, 3, H, W] to [N, H, W]."""
    return np.abs(gradients).sum(1)


@contextlib.contextmanager
def _prepared(model, x):
    """The input as a tensor that wants a gradient; the network in evaluation mode until the end."""
    check_type("model", model, nn.Layer)
    x = paddle.to_tensor(np.asarray(x))  # a copy, off any graph
    if x.ndim != 4 or "float" not in str(x.dtype):
        raise ValueError(f"x of shape {list(x.shape)} and type {x.dtype} must be the network's input, float32 "
                         "[N, 3, H, W]")
    x.stop_gradient = False
    with evaluating(model), paddle.enable_grad():
        yield x


def _labels(model, x, labels):
    """The classes to differentiate, int64 [N]."""
    with paddle.no_grad():
        logits = model(x)
    return _check_labels(logits, labels)


def _check_labels(logits, labels):
    if logits.ndim != 2:
        raise ValueError(f"model returned shape {list(logits.shape)}; it must be logits [N, K]")
    rows, classes = logits.shape
    if labels is None:
        return logits.argmax(1)
    given = np.asarray(labels)
    if given.dtype.kind not in "iu" or given.shape not in ((), (rows,)):
        raise TypeError(f"labels={labels!r} must be the number of a class, or one for each of {rows} images")
    outside = given[(given < 0) | (given >= classes)]
    if outside.size:
        raise ValueError(f"label {outside.flat[0]} is outside the {classes} classes 0..{classes - 1}")
    return paddle.to_tensor(np.broadcast_to(given, rows).astype(np.int64))


def _target(model, x, labels, of):
    """The sum over the images of what is differentiated."""
    check_choice("of", of, ("logit", "probability"))
    logits = model(x)
    labels = _check_labels(logits, labels)
    values = logits if of == "logit" else F.softmax(logits)
    return (values * F.one_hot(labels, values.shape[1])).sum()


def _gradient(model, x, labels, of):
    x.stop_gradient = False
    return paddle.grad(_target(model, x, labels.numpy(), of), x)[0].numpy()


def _find_layer(model, layer):
    """The layer of that name or the layer itself; None stays None."""
    check_type("model", model, nn.Layer)
    if layer is None:
        return None
    if isinstance(layer, str):
        layers = dict(model.named_sublayers())
        check_choice("layer", layer, layers)
        return layers[layer]
    check_type("layer", layer, nn.Layer)
    if not any(layer is own for own in model.sublayers(include_self=True)):
        raise ValueError(f"layer, a {type(layer).__name__}, is not a layer of model")
    return layer
