"""Partial convolution (PConv), the spatial mixers it is compared with, and stochastic depth.

Paper: Chen et al., "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks", CVPR 2023,
https://arxiv.org/abs/2303.03667, section 3.2. Original: https://github.com/JierunChen/FasterNet.

What differs from the original: any kernel size, one ``forward`` instead of a method replaced at construction, and an
error where ``n_div`` does not divide the channels (the original rounds down silently).

Every mixer keeps the shape of its input, [N, dim, H, W], and has no bias.
"""
import math

import paddle
from paddle import nn

from ._check import check_choice, check_number, check_type


def _check_input(x, dim):
    if paddle.in_dynamic_mode():
        check_type("input x", x, paddle.Tensor)
    if x.ndim != 4 or x.shape[1] not in (dim, -1):  # -1: not known while a static graph is built
        raise ValueError(f"input of shape {list(x.shape)} must be [N, {dim}, H, W]")


def _same_conv(channels, kernel_size, groups=1):
    """A convolution of stride 1 that keeps H and W; an even kernel reaches one pixel further right and down."""
    kernel_size = check_number("kernel_size", kernel_size, low=1, integer=True)
    before = (kernel_size - 1) // 2
    after = kernel_size - 1 - before
    padding = before if before == after else [before, after, before, after]
    return nn.Conv2D(channels, channels, kernel_size, padding=padding, groups=groups, bias_attr=False)


class PConv(nn.Layer):
    """Partial convolution: a regular convolution on the first ``dim // n_div`` channels, the others pass through.

    With n_div=4 it takes 1/16 of a regular convolution's multiply-adds and 1/4 of its memory access (paper, eq. 1-3).

    Args:
        dim: channels of the input and of the output.
        kernel_size: side of the square kernel.
        n_div: one in how many channels is convolved; must divide ``dim``. 1 is a regular convolution.
        forward: "split_cat" splits the channels and joins them again; "slicing" overwrites the convolved channels in
            a copy of the input. Equal results and gradients: the first builds the simpler graph for training, the
            second spares the concatenation in inference.

    Shape: [N, dim, H, W] to the same; the input is never modified.

    Raises:
        ValueError: ``n_div`` does not divide ``dim``, ``forward`` is not known, or the input has other channels.
    """

    def __init__(self, dim, kernel_size=3, n_div=4, forward="split_cat"):
        super().__init__()
        dim = check_number("dim", dim, low=1, integer=True)
        n_div = check_number("n_div", n_div, low=1, integer=True)
        check_choice("forward", forward, ("split_cat", "slicing"))
        if dim % n_div:
            divisors = [d for d in range(1, min(dim, 16) + 1) if dim % d == 0]
            raise ValueError(f"dim={dim} cannot be split into n_div={n_div} parts; n_div may be one of {divisors}")
        self.dim = dim
        self.dim_conv = dim // n_div
        self.dim_untouched = dim - self.dim_conv
        self.forward_type = forward
        self.partial_conv3 = _same_conv(self.dim_conv, kernel_size)  # the name that published weights use

    def forward(self, x):
        _check_input(x, self.dim)
        if self.dim_untouched == 0:
            return self.partial_conv3(x)
        if self.forward_type == "slicing":
            out = x.clone()
            out[:, : self.dim_conv] = self.partial_conv3(x[:, : self.dim_conv])
            return out
        convolved, untouched = paddle.split(x, [self.dim_conv, self.dim_untouched], axis=1)
        return paddle.concat([self.partial_conv3(convolved), untouched], axis=1)

    def extra_repr(self):
        return f"dim_conv={self.dim_conv}, dim_untouched={self.dim_untouched}, forward={self.forward_type}"


class DWConv(nn.Layer):
    """Depthwise convolution: one kernel for each channel. Shape: [N, dim, H, W] to the same."""

    def __init__(self, dim, kernel_size=3):
        super().__init__()
        self.dim = dim = check_number("dim", dim, low=1, integer=True)
        self.conv = _same_conv(dim, kernel_size, groups=dim)

    def forward(self, x):
        _check_input(x, self.dim)
        return self.conv(x)


class GConv(nn.Layer):
    """Grouped convolution. Shape: [N, dim, H, W] to the same.

    Args:
        dim: channels of the input and of the output.
        kernel_size: side of the square kernel.
        groups: must divide ``dim``. None takes the largest common divisor of ``dim`` and 16: with 16 groups its
            multiply-adds equal those of PConv with n_div=4.
    """

    def __init__(self, dim, kernel_size=3, groups=None):
        super().__init__()
        self.dim = dim = check_number("dim", dim, low=1, integer=True)
        if groups is None:
            groups = math.gcd(dim, 16)
        groups = check_number("groups", groups, low=1, integer=True)
        if dim % groups:
            raise ValueError(f"dim={dim} cannot be split into groups={groups} groups")
        self.conv = _same_conv(dim, kernel_size, groups=groups)

    def forward(self, x):
        _check_input(x, self.dim)
        return self.conv(x)


class Conv(nn.Layer):
    """Regular convolution, every channel with every other. Shape: [N, dim, H, W] to the same."""

    def __init__(self, dim, kernel_size=3):
        super().__init__()
        self.dim = dim = check_number("dim", dim, low=1, integer=True)
        self.conv = _same_conv(dim, kernel_size)

    def forward(self, x):
        _check_input(x, self.dim)
        return self.conv(x)


# activations by name, as TrainConfig(act=...) knows them
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.Silu, "hardswish": nn.Hardswish, "relu6": nn.ReLU6}


def drop_path(x, drop_prob=0.0, training=False):
    """Stochastic depth (Huang et al. 2016, https://arxiv.org/abs/1603.09382): drop whole samples of a residual branch.

    Args:
        x: [N, ...], the residual branch's output.
        drop_prob: probability in [0, 1] with which a sample becomes zero; the others are divided by 1 - drop_prob, so
            that the expectation stays.
        training: False returns ``x`` itself.

    Raises:
        ValueError: ``drop_prob`` is outside [0, 1].
    """
    drop_prob = check_number("drop_prob", drop_prob, low=0, high=1)
    if drop_prob == 0 or not training:
        return x
    if paddle.in_dynamic_mode():
        check_type("x", x, paddle.Tensor)
    return x * drop_factors(x.shape[0], drop_prob).reshape([-1] + [1] * (x.ndim - 1)).astype(x.dtype)


def drop_factors(count, drop_prob):
    """float32 [count]: 0 with probability ``drop_prob``, otherwise what makes the mean 1."""
    keep = 1.0 - drop_prob
    return paddle.bernoulli(paddle.full([count], keep, dtype="float32")) / max(keep, 1e-12)


class DropPath(nn.Layer):
    """``drop_path`` as a layer, active in training mode only; ``drop_prob=None`` means 0."""

    def __init__(self, drop_prob=None):
        super().__init__()
        self.drop_prob = check_number("drop_prob", 0.0 if drop_prob is None else drop_prob, low=0, high=1)

    def forward(self, x):
        return drop_path(x, self.drop_prob, self.training)

    def extra_repr(self):
        return f"drop_prob={self.drop_prob:g}"
