"""PConv in other people's networks: 3 x 3 convolutions become PConv and a pointwise convolution.

Paper: https://arxiv.org/abs/2303.03667, section 3.2, where the two together stand for a regular convolution.
"""
import dataclasses
from collections import Counter
from typing import List, Tuple

from paddle import nn

from .._check import check_number, check_type
from .._modes import check_dynamic
from .._plain import copied, oddity, places
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

    A convolution is swapped at each of its places: under all its names, and in lists, tuples and dicts that a layer
    holds beside its sublayers. One that something else holds (a function, a deque, an object) stays, and so does one
    with a shared weight or a hook; ``left`` says which.

    Args:
        model: the network; it stays as it is, the work is done on a copy. An optimizer must be given the copy's
            parameters.
        n_div: one in how many channels is convolved; a convolution whose input channels it does not divide stays.

    Returns:
        ``Replacement``: the network, what was swapped and what was left.

    Raises:
        ValueError: there is nothing to swap; the message says why.
    """
    check_dynamic("replace_conv")
    check_type("model", model, nn.Layer)
    n_div = check_number("n_div", n_div, low=2, integer=True)
    given = nn.Sequential(model)  # so that the network itself may be the convolution
    root = nn.Sequential(copied(model))
    # a function that the network holds calls the convolution given, not its copy: what holds it is asked of the given
    held, own = places(given), places(root)
    result, rebuilt = Replacement(root, [], _unregistered(given, held)), {}
    twins, done = dict(zip(map(id, given.sublayers()), root.sublayers())), set()
    for parent_name, parent in given.named_sublayers(include_self=True):
        for child_name, conv in parent._sub_layers.items():
            if not isinstance(conv, nn.Conv2D) or id(conv) in done:
                continue
            done.add(id(conv))
            name = f"{parent_name}.{child_name}".lstrip(".")[2:] or type(conv).__name__
            why = "inside a PConv" if isinstance(parent, PConv) else _why_not(conv, n_div, held)
            if why:
                result.left.append((name, why))
                continue
            new = _partial(conv, n_div)
            result.replaced.append((name, count_parameters(conv), count_parameters(new)))
            for holder, key in own[id(twins[id(conv)])]:
                _put(new, holder, key, own, rebuilt)
    if not result.replaced:
        reasons = "; ".join(f"{name}: {why}" for name, why in result.left[:4]) or "it has no Conv2D"
        raise ValueError(f"model={type(model).__name__} has no convolution to replace with n_div={n_div} ({reasons})")
    return dataclasses.replace(result, model=root[0])


def _unregistered(network, held):
    """(name, why) of the convolutions that a network holds in lists, tuples and dicts without knowing them."""
    known = {id(layer): name for name, layer in network.named_sublayers(include_self=True)}
    names = []
    for spots in held.values():
        holder, key = spots[0]
        if key is None or _fixed(holder, key, held):
            continue
        conv = getattr(holder, key) if isinstance(holder, nn.Layer) else holder[key]
        if isinstance(conv, nn.Conv2D) and id(conv) not in known:
            path = ""
            while id(holder) not in known:
                path = f".{key}{path}" if isinstance(holder, nn.Layer) else f"[{key!r}]{path}"
                holder, key = held[id(holder)][0]
            names.append(f"{known[id(holder)]}.{key}{path}".lstrip(".")[2:])
    return [(name, "not registered, so its weights are no parameters; use add_sublayer or nn.LayerList")
            for name in names]


def _put(new, holder, key, found, rebuilt):
    """Put a layer at a place out of ``places``. A tuple is built again and takes the old one's places itself."""
    if isinstance(holder, tuple):
        items = list(rebuilt.get(id(holder), holder))
        items[key] = new
        rebuilt[id(holder)] = again = getattr(type(holder), "_make", type(holder))(items)
        for outer, place in found[id(holder)]:
            _put(again, outer, place, found, rebuilt)
    elif isinstance(holder, nn.Layer):
        (holder._sub_layers if key in holder._sub_layers else vars(holder))[key] = new
    else:
        holder[key] = new


def _fixed(holder, key, found):
    """What holds a layer in such a way that another cannot take its place, or None."""
    if isinstance(holder, tuple):
        return next((why for why in (_fixed(*place, found) for place in found[id(holder)]) if why), None)
    changeable = isinstance(holder, (nn.Layer, list, dict)) and key is not None
    return None if changeable else type(holder).__name__


def _why_not(conv, n_div, held):
    """Why a convolution stays, or None."""
    kernel, stride, odd = conv._kernel_size, conv._stride, oddity(conv)
    same = conv._padding_algorithm == "SAME" or list(conv._updated_padding) == [1, 1]
    fixed = [why for why in (_fixed(*place, held) for place in held[id(conv)]) if why]
    shared = [key for key, value in conv._parameters.items() if value is not None and len(held[id(value)]) > 1]
    reasons = [
        (list(kernel) != [3, 3], f"kernel {kernel[0]} x {kernel[1]}"),
        (type(conv) is not nn.Conv2D, f"of the class {type(conv).__name__}"),
        (conv._groups != 1, "grouped or depthwise"),
        (list(stride) != [1, 1], f"stride {max(stride)}"),
        (list(conv._dilation) != [1, 1], f"dilation {max(conv._dilation)}"),
        (not same or conv._padding_mode != "zeros", f"padding {conv._padding}, {conv._padding_mode}"),
        (conv._data_format != "NCHW", f"layout {conv._data_format}"),
        (conv._in_channels % n_div, f"input channels that n_div={n_div} does not divide"),
        (conv._forward_pre_hooks or conv._forward_post_hooks, "with hooks"),
        (odd, f"odd: it {odd}"),
        (shared, f"with a {' and a '.join(shared)} used elsewhere too"),
        (fixed, f"also held by a {' and a '.join(fixed)}, which cannot be changed"),
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
