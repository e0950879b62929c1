"""PConv in other people's networks: 3 x 3 convolutions become PConv and a pointwise convolution.

Paper: https://arxiv.org/abs/2303.03667, section 3.2, where the two together stand for a regular convolution.
"""
import copy
import dataclasses
from collections import Counter
from typing import List, Tuple

from paddle import nn

from .._check import check_number, check_type
from ..benchmark import count_parameters
from ..layers import PConv


@dataclasses.dataclass(frozen=True)
class Replacement:
    """What ``replace_conv`` made; printed, it is a table.

    Attributes:
        model: the new network.
        replaced: (name, parameters before, parameters after) of each convolution that was swapped.
        left: (name, why) of each that stayed.
    """

    model: nn.Layer
    replaced: List[Tuple[str, int, int]]
    left: List[Tuple[str, str]]

    def __str__(self):
        before, after = (sum(row[i] for row in self.replaced) for i in (1, 2))
        lines = [f"{len(self.replaced)} convolutions became PConv and pointwise: {before:,} to {after:,} parameters"]
        lines += [f"  {name}: {old:,} to {new:,}" for name, old, new in self.replaced]
        reasons = Counter(why for _, why in self.left)
        lines += [f"{len(self.left)} stayed:"] * bool(self.left)
        lines += [f"  {count} {why}: {', '.join(name for name, reason in self.left if reason == why)}"
                  for why, count in reasons.items()]
        return "\n".join(lines)


def replace_conv(model, n_div=4):
    """Swap the 3 x 3 convolutions of any network for PConv and a pointwise convolution, without an activation between.

    A convolution from c to d channels, 9 c d parameters, becomes PConv on c and a pointwise convolution from c to d:
    9 (c / n_div)^2 + c d. A bias goes on in the pointwise convolution. The other new weights start fresh, so a trained
    network has to be trained again.

    Swapped are regular convolutions of stride 1 that keep height and width. Those of stride 2 stay: a PConv keeps the
    resolution, and to sample its result would throw three quarters of the untouched channels' pixels away unseen.

    Args:
        model: the network; it stays as it is, the work is done on a copy. An optimizer must be given the copy's
            parameters.
        n_div: one in how many channels is convolved; a convolution whose input channels it does not divide stays.

    Returns:
        ``Replacement``: the network, what was swapped and what was left.

    Raises:
        ValueError: there is nothing to swap; the message says why.
    """
    check_type("model", model, nn.Layer)
    n_div = check_number("n_div", n_div, low=2, integer=True)
    result = Replacement(copy.deepcopy(model), [], [])
    root = nn.Sequential(result.model)  # so that the network itself may be the convolution
    swapped = {}  # a convolution that stands at two places still does afterwards
    for parent_name, parent in list(root.named_sublayers(include_self=True)):
        for child_name, child in list(parent._sub_layers.items()):
            if not isinstance(child, nn.Conv2D):
                continue
            if id(child) not in swapped:
                name = f"{parent_name}.{child_name}".lstrip(".")[2:] or type(child).__name__
                why = "inside a PConv" if isinstance(parent, PConv) else _why_not(child, n_div)
                swapped[id(child)] = child if why else _partial(child, n_div)
                if why:
                    result.left.append((name, why))
                else:
                    result.replaced.append((name, count_parameters(child), count_parameters(swapped[id(child)])))
            parent._sub_layers[child_name] = swapped[id(child)]
    if not result.replaced:
        reasons = "; ".join(f"{name}: {why}" for name, why in result.left[:4]) or "it has no Conv2D"
        raise ValueError(f"model={type(model).__name__} has no convolution to replace with n_div={n_div} ({reasons})")
    return dataclasses.replace(result, model=root[0])


def _why_not(conv, n_div):
    """Why a convolution stays, or None."""
    kernel, stride = conv._kernel_size, conv._stride
    reasons = [
        (list(kernel) != [3, 3], f"kernel {kernel[0]} x {kernel[1]}"),
        (type(conv) is not nn.Conv2D, f"of the class {type(conv).__name__}"),
        (conv._groups != 1, "grouped or depthwise"),
        (list(stride) != [1, 1], f"stride {max(stride)}"),
        (list(conv._dilation) != [1, 1], f"dilation {max(conv._dilation)}"),
        (conv._padding not in (1, [1, 1], (1, 1), [1] * 4, "SAME") or conv._padding_mode != "zeros",
         f"padding {conv._padding}, {conv._padding_mode}"),
        (conv._data_format != "NCHW", f"layout {conv._data_format}"),
        (conv._in_channels % n_div, f"input channels that n_div={n_div} does not divide"),
        (conv._forward_pre_hooks or conv._forward_post_hooks, "with hooks"),
    ]
    return next((why for applies, why in reasons if applies), None)


def _partial(conv, n_div):
    """PConv and pointwise for an eligible convolution; the pointwise takes its bias."""
    pointwise = nn.Conv2D(conv._in_channels, conv._out_channels, 1, bias_attr=None if conv.bias is not None else False)
    if conv.bias is not None:
        pointwise.bias.set_value(conv.bias.astype(pointwise.bias.dtype))
    layer = nn.Sequential(PConv(conv._in_channels, 3, n_div), pointwise)
    layer.to(dtype=conv.weight.dtype)
    layer.training = conv.training
    return layer
