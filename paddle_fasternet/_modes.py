"""Modes of networks and of Paddle itself."""
import contextlib
import functools

import paddle
from paddle.base.dygraph.base import in_to_static_mode
from paddle.jit.sot import psdb


def traced():
    """Whether a static graph is being built, by ``paddle.jit.to_static`` of either kind or by ``paddle.enable_static``.

    Then tensors have shapes and types only; their values and their places must not be asked for.
    """
    return psdb.in_sot() or not paddle.in_dynamic_mode()


def dynamic(function):
    """Decorator of functions that need Paddle's dynamic mode and float32 as the type of new tensors.

    The function refuses ``paddle.enable_static()`` with a RuntimeError. What ``paddle.set_default_dtype`` chose holds
    again when it returns.
    """
    @functools.wraps(function)
    def checked(*args, **kwargs):
        check_dynamic(function.__qualname__.replace(".__init__", ""))
        before = paddle.get_default_dtype()
        paddle.set_default_dtype("float32")
        try:
            return function(*args, **kwargs)
        finally:
            paddle.set_default_dtype(before)
    return checked


def check_dynamic(what):
    """Raise RuntimeError after ``paddle.enable_static()``; ``what`` needs the dynamic mode."""
    if not paddle.in_dynamic_mode() and not in_to_static_mode():
        raise RuntimeError(f"{what} needs Paddle's dynamic mode, but paddle.enable_static() was called: call "
                           "paddle.disable_static() first; paddle.jit.to_static makes a static graph of a network")


def input_type(network):
    """The type of a network's input: that of its first weight, float32 where it has none."""
    return next((parameter.dtype for parameter in network.parameters()), paddle.float32)


@contextlib.contextmanager
def evaluating(*networks):
    """Within the block the networks are in evaluation mode; then each of their layers is in the mode that it had."""
    check_dynamic("a forward pass")
    modes = [(layer, layer.training) for network in networks for layer in network.sublayers(include_self=True)]
    training = [network for network in networks if network.training]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network in training:
            network.train()  # Paddle keeps a mode of its own, too
        for layer, mode in modes:
            layer.training = mode
