"""The table of spatial mixers: each entry says how to build the layer, what it costs, and how engines compute it.

A mixer keeps the shape of its input, [N, dim, H, W]. What a new entry needs is in ``Mixer``; ``register_mixer`` adds
one of the user's own while the program runs.
"""
import dataclasses
from typing import Callable, Optional

import numpy as np
import paddle
from paddle import nn

from ._check import check_choice, check_number
from ._modes import evaluating
from .layers import Conv, DWConv, GConv, PConv

KERNEL_SIZE = 3


@dataclasses.dataclass(frozen=True)
class Mixer:
    """A spatial mixer.

    Attributes:
        build: ``build(dim, kernel_size=..., n_div=..., groups=...)`` makes its layer. It takes only the arguments in
            ``arguments``.
        arguments: those of kernel_size, n_div, groups that ``build`` takes.
        layer: the class of its layers, by which ONNX and the native kernels know it; None for a registered one.
        conv: the attribute of the layer that holds its only convolution; "" without a convolution.
        native: whether the native kernels compute it, in training and inference. They convolve the first channels by
            ``conv``, which tells kernel size, groups and channels, and pass the others through; all without ``conv``.
        onnx: ``onnx(graph, layer, x, name)`` writes the layer (see ``deploy.onnx_graph``); None where the convolution
            ``conv`` is all that it computes.
        cost: ``cost(c, k, n_div, groups)`` gives (weights, channels read and written) of one pixel.
    """

    build: Callable
    arguments: tuple = ()
    layer: Optional[type] = None
    conv: str = ""
    native: bool = False
    onnx: Optional[Callable] = None
    cost: Optional[Callable] = None


def _write_pconv(graph, layer, x, name):
    conv = f"{name}.partial_conv3"
    if layer.dim_untouched == 0:
        return graph.layer(layer.partial_conv3, x, conv)
    sizes = graph.constant(f"{name}.sizes", np.array([layer.dim_conv, layer.dim_untouched], np.int64))
    convolved, untouched = graph.add("Split", [x, sizes], f"{name}.split", outputs=2, axis=1)
    return graph.add("Concat", [graph.layer(layer.partial_conv3, convolved, conv), untouched], name, axis=1)


# Costs: paper, equations 1 to 4. PConv's untouched channels stay where they are.
MIXERS = {
    "pconv": Mixer(PConv, ("kernel_size", "n_div"), PConv, "partial_conv3", True, _write_pconv,
                   lambda c, k, n_div, groups: (k * k * (c // n_div)**2, 2 * (c // n_div))),
    "dwconv": Mixer(DWConv, ("kernel_size",), DWConv, "conv", True,
                    cost=lambda c, k, n_div, groups: (k * k * c, 2 * c)),
    "gconv": Mixer(GConv, ("kernel_size", "groups"), GConv, "conv", True,
                   cost=lambda c, k, n_div, groups: (k * k * c * c // groups, 2 * c)),
    "conv": Mixer(Conv, ("kernel_size",), Conv, "conv", True,
                  cost=lambda c, k, n_div, groups: (k * k * c * c, 2 * c)),
    "identity": Mixer(lambda dim: nn.Identity(), layer=nn.Identity, native=True, onnx=lambda graph, layer, x, name: x,
                      cost=lambda c, k, n_div, groups: (0, 0)),
}


def mixer_of(layer):
    """The table's entry for a layer of exactly one of its classes; None for any other layer."""
    return next((mixer for mixer in MIXERS.values() if mixer.layer is type(layer)), None)


def register_mixer(name, build):
    """Make a mixer of one's own known by name, so that ``TrainConfig(mixer=name)`` trains it and runs record it.

    ``load_run`` and the command line find the mixer by its name: register it in every program that reads such a run,
    before it does. Engines take the layer if they know what it is made of::

        register_mixer("pconv5", lambda dim: PConv(dim, kernel_size=5))

    Args:
        name: how ``create_model``, ``TrainConfig`` and ``config.json`` call it.
        build: ``dim -> nn.Layer``; the layer keeps the shape [N, dim, H, W], which is checked when one is built.

    Raises:
        TypeError: ``name`` is no text, or ``build`` cannot be called.
        ValueError: another mixer has the name.
    """
    if not isinstance(name, str):
        raise TypeError(f"name={name!r} must be a text, not {type(name).__name__}")
    if not callable(build):
        raise TypeError(f"build={build!r} must be a callable dim -> nn.Layer")
    if not name:
        raise ValueError("name='' must name the mixer")
    if name in MIXERS and MIXERS[name].build is not build:
        raise ValueError(f"name={name!r} is the name of another mixer; choose one besides {', '.join(MIXERS)}")
    MIXERS.setdefault(name, Mixer(build))


def check_mixer(name, kernel_size=KERNEL_SIZE):
    """Raise ValueError unless ``name`` is a known mixer that can have this kernel size."""
    try:
        check_choice("mixer", name, MIXERS)
    except ValueError as error:
        raise ValueError(f"{error}. A mixer of your own needs register_mixer(name, build) first") from None
    if kernel_size != KERNEL_SIZE and "kernel_size" not in MIXERS[name].arguments:
        sized = ", ".join(name for name, mixer in MIXERS.items() if "kernel_size" in mixer.arguments)
        raise ValueError(f"kernel_size={kernel_size} goes with the mixers {sized}, not with mixer={name!r}")


def make_mixer(mixer, dim, n_div=4, kernel_size=KERNEL_SIZE):
    """Build a spatial mixer.

    Args:
        mixer: a name out of ``MIXERS``, or a callable ``dim -> nn.Layer`` whose layer keeps the shape [N, dim, H, W].
        dim: channels.
        n_div: for "pconv" alone.
        kernel_size: side of the kernel, for those mixers that have one.

    Raises:
        TypeError: the callable returns no layer.
        ValueError: the name is unknown, or an argument does not fit the mixer.
    """
    kernel_size = check_number("kernel_size", kernel_size, low=1, integer=True)
    if not isinstance(mixer, str) and callable(mixer):
        if kernel_size != KERNEL_SIZE:
            raise ValueError(f"kernel_size={kernel_size} goes with a mixer's name; mixer={mixer!r} has its own")
        return _build(mixer, mixer, dim)
    check_mixer(mixer, kernel_size)
    entry, given = MIXERS[mixer], {"kernel_size": kernel_size, "n_div": n_div}
    layer = _build(mixer, entry.build, dim, **{key: given[key] for key in given if key in entry.arguments})
    if entry.layer is None:
        _check_shape(mixer, layer, dim)
    return layer


def _build(mixer, build, dim, **arguments):
    layer = build(dim, **arguments)
    if not isinstance(layer, nn.Layer):
        raise TypeError(f"mixer={mixer!r} returned {type(layer).__name__} for dim={dim}; it must return a Layer")
    return layer


def _check_shape(mixer, layer, dim):
    """Raise ValueError unless the layer of a registered mixer keeps the shape of its input."""
    if not paddle.in_dynamic_mode():
        return
    shape = [1, dim, 16, 16]
    try:
        with evaluating(layer), paddle.no_grad():
            out = layer(paddle.zeros(shape))
    except Exception as error:
        raise ValueError(f"mixer={mixer!r}: its layer for dim={dim} fails on an input of shape {shape}: {error}"
                         ) from error
    if list(getattr(out, "shape", [])) != shape:
        raise ValueError(f"mixer={mixer!r}: its layer for dim={dim} must keep the shape {shape}, and gives "
                         f"{list(out.shape) if hasattr(out, 'shape') else type(out).__name__}")
