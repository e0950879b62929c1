"""Paddle's layers."""
import numpy as np
import paddle

from ..._modes import evaluating
from ...bundle import input_type
from ..formats import PADDLE_FILES
from .base import Engine, on_cpu, to_device
from .paddle_inference import Program


class Eager(Engine):
    """The network as Paddle runs it in a script, on Paddle's current device and with Paddle's own threads.

    Of a network in memory the layers themselves are called, in evaluation mode. An exported folder holds a program,
    which is run operator by operator, without Paddle Inference's optimisations.
    """

    name, order = "eager", 4
    reads = "paddle"
    takes_any_layer = runs_layers = follows_device = True

    def precisions(self):
        return ("fp32",)

    def files(self, precision):
        return PADDLE_FILES

    def start(self, files, precision, threads):
        if files.network is None:
            return Program(files, threads if on_cpu() else None, optimised=False)
        return Layers(files.classifier.model) if paddle.get_device() == "cpu" else DeviceLayers(files)


class Layers:
    """Calls a network."""

    def __init__(self, network):
        self._network = network

    def __call__(self, x):
        network = self._network
        with evaluating(network), paddle.no_grad():
            x, own = x if isinstance(x, paddle.Tensor) else paddle.to_tensor(x), input_type(network)
            return np.asarray(network(x if x.dtype == own else x.astype(own)).astype("float32").numpy())


class DeviceLayers(Layers):
    """Calls a network on a device that is no CPU, which also prepares the images."""

    def __init__(self, files):
        super().__init__(files.classifier.model)
        self._mean, self._std = files.mean, files.std

    def run_uint8(self, images):
        return self(to_device(images, self._mean, self._std))
