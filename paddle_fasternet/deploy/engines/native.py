"""This library's own kernels."""
from ...native import library
from ...native.inference import NativeNetwork
from ..formats import ONNX, write_onnx
from ..native_form import native_settings, why_not_native
from .base import Engine, is_installed, on_cpu


class Native(Engine):
    """This library's own kernels for FasterNet on x86 CPUs."""

    name, order = "native", 0
    reads, keeps_notes = "onnx", True
    starts_quickly = True

    def precisions(self):
        return library.available() if on_cpu() else ()

    def why_not_here(self):
        if self.offered():
            return ""
        return library.why_not() or "it runs on a CPU, and Paddle's current device is a GPU: paddle.set_device('cpu')"

    def files(self, precision):
        return [(ONNX,)]

    def has(self, files, precision):
        if precision == "int8":
            return False
        if files.classifier is not None:
            return native_settings(files.network) is not None
        return files.notes(self.name) is not None and is_installed("onnx") and super().has(files, precision)

    def notes(self, network):
        return native_settings(network)

    def start(self, files, precision, threads):
        arrays, settings = self.read(files)
        network = NativeNetwork(arrays, **settings, mean=files.mean, std=files.std, precision=precision,
                                       threads=threads)
        return Kernels(network)

    def read(self, files):
        """(weights by official name, what ``NativeNetwork`` must know beside them)."""
        if files.classifier is not None:
            reason = why_not_native(files.network)
            if reason:
                raise ValueError(reason)
            weights = files.network.state_dict()
            return ({name: value.astype("float32").numpy() for name, value in weights.items()},
                    native_settings(files.network))
        if files.notes(self.name) is None:
            raise ValueError("the exported network is not a FasterNet that the native engine runs")
        if not is_installed("onnx"):
            raise ImportError(f"engine={self.name!r} reads the exported folder with the package onnx: pip install onnx")
        import onnx
        from onnx import numpy_helper
        path, = files.find(self.files("fp32"), write_onnx, f"{ONNX}; export with formats=('onnx',)")
        weights = onnx.load(str(path)).graph.initializer
        return {weight.name: numpy_helper.to_array(weight) for weight in weights
                if weight.name.endswith((".weight", ".bias"))}, files.notes(self.name)


class Kernels:
    """Calls a ``NativeNetwork``."""

    def __init__(self, network):
        self._network = self.run_uint8 = network

    def __call__(self, x):
        return self._network.logits(x)
