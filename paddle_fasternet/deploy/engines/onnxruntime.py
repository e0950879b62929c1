"""ONNX Runtime."""
from ..formats import INT8_ONNX_FILE, ONNX, quantised_onnx
from .base import watch_forks
from .onnx_base import OnnxEngine


class OnnxRuntime(OnnxEngine):
    """ONNX Runtime on the CPU."""

    name, package, order = "onnxruntime", "onnxruntime", 2
    checks = True
    int8_file = INT8_ONNX_FILE

    def precisions(self):
        return ("fp32", "int8")

    def quantise(self, folder, batches):
        import onnx
        onnx.save(quantised_onnx(folder / ONNX, batches), str(folder / self.int8_file))

    def start(self, files, precision, threads):
        return Session(self.find(files, precision), threads)


class Session:
    """Runs an ONNX file."""

    def __init__(self, path, threads):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        watch_forks(self)

    def __call__(self, x):
        return self._session.run(["logits"], {"x": x})[0]
