"""The engines that run an exported network: what each needs, what it offers here, and how it is started.

An engine is started as ``Engine(files, precision, threads)`` on the ``Files`` of a network and called with a float32
batch [N, C, S, S], for logits float32 [N, K]. One that has ``run_uint8`` takes images uint8 [N, S, S, C] as they are.
"""
import functools
import importlib.util
import math

import numpy as np
import paddle

from .._check import check_choice
from ..native import library as native
from ..native.cpu import has_bfloat16
from ..native.inference import NativeNetwork

PRECISIONS = ("fp32", "bf16", "int8")

# Images in one request of OpenVINO: the maps of so few stay in a core's cache.
_PART = 16


class Eager:
    """The network as Paddle runs it in a script, on Paddle's current device and with Paddle's own threads."""

    def __init__(self, files, precision, threads):
        self._layer = files.layer()

    def __call__(self, x):
        with paddle.no_grad():
            return self._layer(paddle.to_tensor(x)).astype("float32").numpy()


class PaddleInference:
    """Paddle Inference: oneDNN on a CPU, CUDA where Paddle's current device is a GPU."""

    def __init__(self, files, precision, threads):
        from paddle import inference
        config = inference.Config(*map(str, files.paddle()))
        config.disable_glog_info()
        if paddle.get_device().startswith("gpu"):
            config.enable_use_gpu(256, int(paddle.get_device().split(":")[1]))
        else:
            config.disable_gpu()
            config.enable_mkldnn()
            config.set_cpu_math_library_num_threads(threads)
            if precision == "bf16":
                config.enable_mkldnn_bfloat16()
        self._predictor = inference.create_predictor(config)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._logits = self._predictor.get_output_handle(self._predictor.get_output_names()[1])

    def __call__(self, x):
        self._input.copy_from_cpu(x)
        self._predictor.run()
        return self._logits.copy_to_cpu()


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(self, files, precision, threads):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(files.onnx(precision)), options, ["CPUExecutionProvider"])

    def __call__(self, x):
        return self._session.run(["logits"], {"x": x})[0]


@functools.lru_cache(None)
def openvino_core():
    """One for the whole process: of two, the second to go leaves signals a stack that went with the first (2026.4)."""
    import openvino
    return openvino.Core()


class OpenVINO:
    """OpenVINO on the CPU: one image on all threads, more than one in parts on streams of one thread each."""

    def __init__(self, files, precision, threads):
        self._network = openvino_core().read_model(str(files.openvino(precision)))
        # for int8 that of the layers which are not: float32 would slow them down for digits that int8 does not have
        self._precision = "bf16" if precision != "fp32" and has_bfloat16() else "f32"
        self._threads, self._mean, self._std = threads, files.mean, files.std
        self._queues = {}

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
        compiled = openvino_core().compile_model(network, "CPU", {
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT", "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self._threads, "INFERENCE_PRECISION_HINT": self._precision})
        return AsyncInferQueue(compiled, streams)

    def __call__(self, x):
        streams = 1 if len(x) == 1 else self._threads
        size = min(_PART, 1 << math.ceil(math.log2(len(x) / streams)) if len(x) > streams else 1)
        key = streams, (size, *x.shape[1:]), x.dtype.type
        if key not in self._queues:
            self._queues[key] = self._compile(*key)
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


class Native:
    """This library's own kernels for FasterNet on x86 CPUs, see ``native.py``."""

    def __init__(self, files, precision, threads):
        arrays, settings = files.folded_arrays()
        self._network = NativeNetwork(arrays, **settings, mean=files.mean, std=files.std, precision=precision,
                                             threads=threads)
        self.run_uint8 = self._network

    def __call__(self, x):
        return self._network.logits(x)


# name: (class, package that it needs beside Paddle)
ENGINES = {
    "eager": (Eager, None),
    "paddle": (PaddleInference, None),
    "openvino": (OpenVINO, "openvino"),
    "onnxruntime": (OnnxRuntime, "onnxruntime"),
    "native": (Native, None),
}


def offered(engine):
    """Precisions that an engine has on this machine, () where it is not installed."""
    package = ENGINES[engine][1]
    if package and importlib.util.find_spec(package) is None:
        return ()
    on_cpu = not paddle.get_device().startswith("gpu")
    if engine == "native":
        return native.available() if on_cpu else ()
    if engine == "paddle":
        # Paddle 2.6.2 answers wrongly in bf16: 11.6 % of this library's CIFAR-10 network's answers stayed the same
        right = int(paddle.__version__.split(".")[0]) >= 3
        return ("fp32", "bf16") if on_cpu and has_bfloat16() and right else ("fp32",)
    return {"eager": ("fp32",), "onnxruntime": ("fp32", "int8"),
            "openvino": ("fp32", "bf16", "int8") if has_bfloat16() else ("fp32", "int8")}[engine]


def why_not(engine):
    """Why an engine has no precision on this machine and what to do; "" if it has one."""
    if offered(engine):
        return ""
    if engine == "native":
        return native.why_not() or "it runs on a CPU, and Paddle's current device is a GPU: paddle.set_device('cpu')"
    return (f"not installed: pip install {ENGINES[engine][1]} (or all engines: pip install "
            "'paddle_fasternet[deploy]')")


def check_offered(engine, precision):
    """Raise what a user needs to hear where ``engine`` does not run here, or not at that precision.

    Raises:
        ImportError: the engine is not installed.
        ValueError: the precision is not offered on this machine.
    """
    check_choice("engine", engine, ENGINES)
    check_choice("precision", precision, PRECISIONS)
    precisions = offered(engine)
    if not precisions:
        raise ImportError(f"engine={engine!r}: {why_not(engine)}")
    if precision == "bf16" and not has_bfloat16():
        raise ValueError("precision='bf16' needs a processor with bfloat16 instructions (AVX512_BF16 or AMX), which "
                         "this one has not; take precision='fp32'")
    if precision not in precisions:
        raise ValueError(f"precision={precision!r} is not offered by engine={engine!r}, which has "
                         f"{', '.join(precisions)}")
