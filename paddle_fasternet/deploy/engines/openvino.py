"""OpenVINO."""
import collections
import functools
import math
import os
import weakref

import numpy as np

from ...native import cpu
from ..formats import ONNX, quantised
from .base import watch_forks
from .onnx_base import OnnxEngine

_PART = 16  # images in one request: the maps of so few stay in a core's cache


class OpenVINO(OnnxEngine):
    """OpenVINO on the CPU: one image on all threads, more than one in parts on streams of one thread each."""

    name, package, order = "openvino", "openvino", 1
    int8_file, int8_needs = "model_int8.xml", ", where OpenVINO is installed"
    _int8_weights = "model_int8.bin"

    def precisions(self):
        return ("fp32", "bf16", "int8") if cpu.has_bfloat16() else ("fp32", "int8")

    def files(self, precision):
        return [(self.int8_file, self._int8_weights)] if precision == "int8" else super().files(precision)

    def quantise(self, folder, batches):
        """It has a file of its own, because it reads ONNX Runtime's wrongly on AVX-512 without AMX (2026.4: the values
        that meet at PConv's Concat lose their scale there), and runs its own graph faster.
        """
        if not self.offered():
            return
        import openvino
        core().get_property("CPU", "FULL_DEVICE_NAME")  # NNCF has a Core of its own: ours is to be the older
        model = core().read_model(str(folder / ONNX))
        products = [node.get_friendly_name() for node in model.get_ordered_ops()
                    if node.get_type_name() in ("Convolution", "GroupConvolution", "MatMul")]
        openvino.save_model(quantised(model, products, "PERFORMANCE", batches), str(folder / self.int8_file),
                            compress_to_fp16=False)

    def start(self, files, precision, threads):
        # int8: of the layers that are not quantised. float32 would slow them down for digits that int8 does not have
        other = "bf16" if precision != "fp32" and cpu.has_bfloat16() else "f32"
        return Requests(self.find(files, precision), other, threads, files.mean, files.std)


@functools.lru_cache(None)
def core():
    """Process-wide singleton: with two Cores, destroying the second restores a signal stack that was freed with the
    first (OpenVINO 2026.4).
    """
    import openvino
    return openvino.Core()


class Requests:
    """Runs a network that OpenVINO reads; compiled for each shape of batch when it is first met."""

    def __init__(self, path, precision, threads, mean, std):
        self._network = core().read_model(str(path))
        self._precision, self._threads, self._mean, self._std = precision, threads, mean, std
        self._queues = {}
        _requests.add(self)
        watch_forks(self, _occupy_idle_executors)

    def _compile(self, streams, shape, kind):
        """A queue of requests for batches of that shape: float32 [n, C, S, S] or uint8 [n, S, S, C]."""
        from openvino import AsyncInferQueue, Layout, Type, preprocess
        network = self._network.clone()
        if kind == np.uint8:
            n, height, width, channels = shape
            network.reshape([n, channels, height, width])
            steps = preprocess.PrePostProcessor(network)
            steps.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
            steps.input().model().set_layout(Layout("NCHW"))
            steps.input().preprocess().convert_element_type(Type.f32).mean(self._mean).scale(self._std)
            network = steps.build()
        else:
            network.reshape(list(shape))
        return AsyncInferQueue(_compiled(network, streams, self._threads, self._precision), streams)

    def __call__(self, x):
        streams = 1 if len(x) == 1 else self._threads
        size = min(_PART, 1 << math.ceil(math.log2(len(x) / streams)) if len(x) > streams else 1)
        key = streams, (size, *x.shape[1:]), x.dtype.type
        if key not in self._queues:
            self._queues[key] = self._compile(*key)
            _count_executors()
        queue, logits = self._queues[key], {}
        if len(x) == 1:  # computed in the calling thread: no other has to be woken
            return queue[0].infer({0: x}, share_inputs=True)[0]
        queue.set_callback(lambda request, start: logits.update({start: request.get_output_tensor().data.copy()}))
        for start in range(0, len(x), size):
            part = x[start:start + size]
            if len(part) < size:
                part = np.concatenate([part, np.zeros((size - len(part), *x.shape[1:]), x.dtype)])
            queue.start_async({0: part}, start)
        queue.wait_all()
        return np.concatenate([logits[start] for start in sorted(logits)])[:len(x)]

    run_uint8 = __call__


def _compiled(network, streams, threads, precision):
    return core().compile_model(network, "CPU", {
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT", "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision})


# OpenVINO keeps the threads of a compiled network that is gone and gives them to the next one of equal settings. In a
# forked child these threads do not exist, and compiling waits for them for ever. So before a fork the idle ones are
# given to a tiny network each, which the child keeps.
_requests, _most, _occupying = weakref.WeakSet(), collections.Counter(), []


def _executors():
    """How many compiled networks there are of each (streams, threads)."""
    return collections.Counter((key[0], run._threads) for run in list(_requests) for key in list(run._queues))


def _count_executors():
    for key, count in _executors().items():
        _most[key] = max(_most[key], count)


def _occupy_idle_executors():
    from openvino import Model, opset8
    used = _executors()
    for (streams, threads), most in _most.items():
        for _ in range(most - used[streams, threads]):
            x = opset8.parameter([1, 1], np.float32)
            _occupying.append(_compiled(Model([opset8.relu(x)], [x], "idle"), streams, threads, "f32"))
    _release_soon()


@functools.lru_cache(None)
def _release_soon():
    os.register_at_fork(after_in_parent=_occupying.clear)
