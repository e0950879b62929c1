"""Paddle Inference."""
import paddle

from ...native import cpu
from ..formats import PADDLE_FILES, write_paddle
from .base import Engine, in_forked_child, on_cpu, to_device, watch_forks


class PaddleInference(Engine):
    """Paddle Inference: oneDNN on a CPU, CUDA where Paddle's current device is a GPU."""

    name, order = "paddle", 3
    reads, checks = "paddle", True
    starts_quickly = takes_any_layer = follows_device = True

    def precisions(self):
        if not on_cpu():
            return ("fp32", *["bf16"] * paddle.amp.is_bfloat16_supported(),
                    *["fp16"] * paddle.amp.is_float16_supported())
        # bf16 is broken in Paddle 2.6.2: 11.6 % of this library's CIFAR-10 network's predictions match fp32
        right = int(paddle.__version__.split(".")[0]) >= 3
        return ("fp32", "bf16") if cpu.has_bfloat16() and right else ("fp32",)

    def files(self, precision):
        return PADDLE_FILES

    def start(self, files, precision, threads):
        return Program(files, threads, precision) if on_cpu() else DeviceProgram(files, threads, precision)


class Program:
    """Runs an inference program of Paddle's on Paddle's current device.

    Args:
        files: with the program, whose second output are the logits.
        threads: on a CPU.
        precision: "fp32" or "bf16"; "fp16" on a GPU.
        optimised: by Paddle Inference: fused operators, and oneDNN on a CPU.
    """

    def __init__(self, files, threads, precision="fp32", optimised=True):
        from paddle import inference
        paths = files.find(PADDLE_FILES, write_paddle, "Paddle inference files; export with formats=('paddle',)")
        config = inference.Config(*map(str, paths))
        config.disable_glog_info()
        config.switch_ir_optim(optimised)
        if not on_cpu():
            modes = inference.PrecisionType
            mode = {"fp32": modes.Float32, "bf16": modes.Bfloat16, "fp16": modes.Half}[precision]
            config.enable_use_gpu(256, int(paddle.get_device().split(":")[1]), mode)
        else:
            config.disable_gpu()
            if in_forked_child():  # Paddle's OpenMP library may wait for ever for threads that only the parent has
                threads = 1
                paddle.base.core.set_num_threads(threads)
            config.set_cpu_math_library_num_threads(threads)
            if not optimised:
                getattr(config, "disable_mkldnn", lambda: None)()  # Paddle 2.6 leaves it off by itself
            else:
                config.enable_mkldnn()
                if precision == "bf16":
                    config.enable_mkldnn_bfloat16()
        self._predictor = inference.create_predictor(config)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._logits = self._predictor.get_output_handle(self._predictor.get_output_names()[1])
        watch_forks(self)

    def __call__(self, x):
        self._input.copy_from_cpu(x)
        self._predictor.run()
        return self._logits.copy_to_cpu()


class DeviceProgram(Program):
    """Runs it on a GPU, which also prepares the images."""

    def __init__(self, files, threads, precision):
        super().__init__(files, threads, precision)
        self._mean, self._std = files.mean, files.std

    def run_uint8(self, images):
        x = to_device(images, self._mean, self._std)
        paddle.device.synchronize()  # Paddle Inference has a stream of its own
        self._input.share_external_data(x)
        self._predictor.run()
        return self._logits.copy_to_cpu()
