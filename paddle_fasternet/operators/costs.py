"""What the convolution operators cost: multiply-adds, parameters, memory access.

Paper: Chen et al., "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks", CVPR 2023,
https://arxiv.org/abs/2303.03667, sections 3.1 and 3.2. It counts a multiply-add as one FLOP; so does this module, and
says "macs". Memory access is in values, those that have to be read or written at least once: input, output, weights.

For PConv followed by a pointwise convolution h w (k^2 cp^2 + c^2) multiply-adds are counted, where the paper's text is
mistaken: the pointwise convolution mixes all c channels.
"""
import dataclasses

import paddle
from paddle import nn

from .._check import check_choice, check_number
from ..mixers import MIXERS

OPERATORS = {
    "conv": "regular convolution",
    "gconv": "grouped convolution",
    "dwconv": "depthwise convolution",
    "pconv": "partial convolution",
    "pconv+pw": "partial, then pointwise",
    "tconv": "T-shaped convolution",
    "gconv+pw": "grouped, then pointwise",
    "dwconv+pw": "depthwise, then pointwise",
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one image: ``macs``; ``activations``, values read and written; and ``parameters``, values of the weights."""

    macs: int
    parameters: int
    activations: int

    def memory(self, batch_size=1):
        """Values (4 bytes each in float32) that a batch reads and writes; it reads the weights once."""
        return batch_size * self.activations + self.parameters


class TConv(nn.Layer):
    """The T-shaped convolution, for which PConv and a pointwise convolution stand: k x k on the first ``dim // n_div``
    channels, 1 x 1 on the others, summed. Shape: [N, dim, H, W] to the same. Paper, section 3.2.
    """

    def __init__(self, dim, kernel_size=3, n_div=4):
        super().__init__()
        parts = [dim // n_div, dim - dim // n_div]
        self.parts = parts
        self.conv = nn.Conv2D(parts[0], dim, kernel_size, padding=kernel_size // 2, bias_attr=False)
        self.pointwise = nn.Conv2D(parts[1], dim, 1, bias_attr=False)

    def forward(self, x):
        convolved, others = paddle.split(x, self.parts, axis=1)
        return self.conv(convolved) + self.pointwise(others)


def cost(operator, h, w, c, k=3, n_div=4, groups=16):
    """The ``Cost`` of an operator on a map of h x w pixels and c channels, which it keeps.

    Args:
        operator: a key of ``OPERATORS``: conv, gconv, dwconv, pconv, pconv+pw, tconv, gconv+pw, dwconv+pw.
        h, w, c: height, width and channels.
        k: side of the kernel.
        n_div: one in how many channels PConv convolves; the partial ratio is 1 / n_div.
        groups: of the grouped convolution.

    Raises:
        TypeError, ValueError: the operator is unknown, or a number is no positive integer or does not divide ``c``.
    """
    _check(operator, c, k, n_div, groups)
    pixels = check_number("h", h, low=1, integer=True) * check_number("w", w, low=1, integer=True)
    first, _, pointwise = operator.partition("+")
    cp = c // n_div
    # weights, each used once for every pixel, and channels read and written
    if first == "tconv":
        weights, channels = k * k * cp * c + c * (c - cp), 2 * c  # paper, equation 5
    else:
        weights, channels = MIXERS[first].cost(c, k, n_div, groups)
    if pointwise:
        weights, channels = weights + c * c, channels + 2 * c
    return Cost(pixels * weights, weights, pixels * channels)


def build_operator(operator, c, k=3, n_div=4, groups=16):
    """A layer of an operator without bias; arguments as in ``cost``. Shape: [N, c, H, W] to the same."""
    _check(operator, c, k, n_div, groups)
    first, _, pointwise = operator.partition("+")
    if first == "tconv":
        layer = TConv(c, k, n_div)
    else:
        given = {"kernel_size": k, "n_div": n_div, "groups": groups}
        layer = MIXERS[first].build(c, **{name: given[name] for name in MIXERS[first].arguments})
    return nn.Sequential(layer, nn.Conv2D(c, c, 1, bias_attr=False)) if pointwise else layer


def _check(operator, c, k, n_div, groups):
    check_choice("operator", operator, OPERATORS)
    for argument, value in (("c", c), ("k", k), ("n_div", n_div), ("groups", groups)):
        check_number(argument, value, low=1, integer=True)
    if operator.startswith("gconv") and c % groups:
        raise ValueError(f"c={c} cannot be split into groups={groups} groups")
    if operator.startswith(("pconv", "tconv")) and c % n_div:
        raise ValueError(f"c={c} cannot be split into n_div={n_div} parts")
    if operator == "tconv" and (k % 2 == 0 or n_div == 1):
        raise ValueError(f"tconv needs an odd k and n_div >= 2, not k={k} and n_div={n_div}")
