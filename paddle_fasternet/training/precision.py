"""Paddle's arithmetic on the current device, where the native kernels do not compute: precision, order of sums."""
import contextlib
import functools

import paddle
from paddle import nn

from .statistics import moving_norms

# The scaler of float16 halves its factor at every overflow. Below this it is not the factor that overflows.
LEAST_SCALE = 1.0


def amp_dtype(amp):
    """The dtype of Paddle's mixed precision on the current device, or None."""
    if amp == "off" or (amp == "auto" and paddle.get_device() == "cpu"):
        return None
    if paddle.get_device() == "cpu":
        raise ValueError(f"amp={amp!r}: Paddle's layers have no mixed precision on a CPU. The native kernels have "
                         "bfloat16 where the processor has AVX512-BF16 or AMX; amp='auto' takes what there is")
    supported = [dtype for dtype, found in (("bfloat16", paddle.amp.is_bfloat16_supported()),
                                            ("float16", paddle.amp.is_float16_supported())) if found]
    if amp not in ("auto", *supported):
        raise ValueError(f"amp={amp!r}: this device has {' and '.join(supported) or 'neither bfloat16 nor float16'}; "
                         "amp='auto' takes what there is")
    return amp if amp in supported else next(iter(supported), None)


def cast(dtype):
    """A context in which Paddle's operators compute in ``dtype``, depthwise convolutions too; None: as they are.

    These are in none of Paddle's lists (2.6, 3.3): without this, DWConv computes in float32 beside PConv in half.
    """
    if dtype is None:
        return paddle.amp.auto_cast(enable=False, dtype="bfloat16")
    return paddle.amp.auto_cast(dtype=dtype, custom_white_list={"depthwise_conv2d"} if _has_depthwise(dtype) else None)


@functools.lru_cache(None)
def _has_depthwise(dtype):
    """Whether Paddle has a GPU's kernel of depthwise convolutions in ``dtype``, as far as it can be asked."""
    ask = getattr(paddle.base.core, "_get_all_register_op_kernels", None)
    kernels = ask("phi").get("depthwise_conv2d", ()) if ask else ()
    return any(f"{dtype}]" in kernel and "gpu" in kernel.lower() for kernel in kernels)


def float32_remark(model, dtype):
    """What a user should know of a network that is trained in ``dtype``; "" if there is nothing."""
    if dtype is None or _has_depthwise(dtype) or not any(map(_is_depthwise, model.sublayers())):
        return ""
    return (f"amp: depthwise convolutions compute in float32, for this Paddle has no kernel of them in {dtype}: their "
            "speed is not to be compared with that of other layers")


def _is_depthwise(layer):
    return isinstance(layer, nn.Conv2D) and 1 < layer._groups == layer._in_channels


@contextlib.contextmanager
def finite_statistics(model, dtype):
    """After the block, a forward pass, BatchNorm's running statistics that float16 made infinite are as before.

    The scaler skips the update of the weights at an overflow, but the statistics have taken it up by then, for good.
    """
    values = [value for layer in (moving_norms(model) if dtype == "float16" else ())
              for value in (layer._mean, layer._variance)]
    with paddle.no_grad():
        before = [value.clone() for value in values]
    yield
    with paddle.no_grad():
        for value, kept in zip(values, before):
            value.set_value(paddle.where(paddle.isfinite(value), value, kept))


@contextlib.contextmanager
def ordered_sums(wanted):
    """Within the block cuDNN takes only convolutions that give the same result each time, if that is ``wanted``."""
    flag = "FLAGS_cudnn_deterministic"
    if not wanted or not paddle.is_compiled_with_cuda():
        yield
        return
    before = paddle.get_flags(flag)
    paddle.set_flags({flag: True})
    try:
        yield
    finally:
        paddle.set_flags(before)
