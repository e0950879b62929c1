"""Speed and size of a network, measured properly.

Every figure is a median over repeats after a warm-up, with the device synchronised before each look at the clock, and
carries its spread: the quartiles. A throughput without them is not comparable with anything.
"""
import dataclasses
import os
import time

import numpy as np
import paddle
from paddle import nn

from ._check import check_number


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and quartiles over ``repeats``, and images in a call."""

    median: float
    low: float
    high: float
    repeats: int
    images: int

    @property
    def images_per_second(self):
        return self.images / self.median

    def to_dict(self):
        """Plain values for a record: seconds and images per second."""
        return {**{key: round(value, 6) if isinstance(value, float) else value
                   for key, value in dataclasses.asdict(self).items()},
                "images_per_second": round(self.images_per_second, 2)}

    def __str__(self):
        low, high = self.images / self.high, self.images / self.low
        return (f"{self.images_per_second:,.0f} images/s (quartiles {low:,.0f} to {high:,.0f}), "
                f"{1e3 * self.median:.2f} ms for {self.images}")


def _synchronize():
    """Wait for the device; a CPU has nothing to wait for, and Paddle refuses the call there."""
    if paddle.get_device() != "cpu":
        paddle.device.synchronize()


def time_in_turn(calls, images, repeats=20, warmup=3):
    """Time several functions in turn, so that a slow moment of the machine meets all of them alike.

    Args:
        calls: {name: function without arguments}.
        images: images that one call handles.
        repeats, warmup: timed and untimed calls of each.

    Returns:
        {name: Timing}.
    """
    check_number("repeats", repeats, low=1, integer=True)
    check_number("warmup", warmup, low=0, integer=True)
    seconds = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            _synchronize()
            start = time.perf_counter()
            call()
            _synchronize()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    quartiles = {name: np.percentile(values, (25, 50, 75)).tolist() for name, values in seconds.items()}
    return {name: Timing(median, low, high, repeats, images) for name, (low, median, high) in quartiles.items()}


def measure_speed(model, preprocess, images, repeats=20, warmup=3):
    """Time a network in evaluation mode.

    Args:
        model: a network on [N, C, S, S].
        preprocess: an ``Augment`` that makes its input.
        images: uint8 [N, C, H, W], the batch.
        repeats, warmup: timed and untimed calls of each.

    Returns:
        {"latency": Timing of the forward pass on one image, "throughput": of that on the batch, "pipeline": of the way
        from the images in memory to classes (preprocessing, network, argmax), timed in turn with "throughput"}.
    """
    x = paddle.to_tensor(preprocess(images, None, None)[0])

    def classify():
        return model(paddle.to_tensor(preprocess(images, None, None)[0])).argmax(1).numpy()

    was_training = model.training
    model.eval()
    try:
        with paddle.no_grad():
            both = time_in_turn({"throughput": lambda: model(x), "pipeline": classify}, len(images), repeats, warmup)
            return {**time_in_turn({"latency": lambda: model(x[:1])}, 1, repeats, warmup), **both}
    finally:
        if was_training:
            model.train()


def count_parameters(model):
    """Trainable values of a network."""
    return sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)


def count_macs(model, image_size=224, channels=3):
    """Multiply-adds of convolutions and linear layers for one square image; normalisation, activations, sums: nothing.

    A convolution counts out_channels * H * W * kernel area * in_channels / groups.
    """
    total = 0

    def count(layer, _, output):
        nonlocal total
        # a weight is used once for each output position: H W of [1, C, H, W], or whatever stands before [.., features]
        positions = output.shape[2:] if isinstance(layer, nn.Conv2D) else output.shape[1:-1]
        total += int(np.prod(layer.weight.shape)) * int(np.prod(positions))

    handles = [layer.register_forward_post_hook(count) for layer in model.sublayers(include_self=True)
               if isinstance(layer, (nn.Conv2D, nn.Linear))]
    was_training = model.training
    model.eval()
    try:
        with paddle.no_grad():
            model(paddle.zeros([1, channels, image_size, image_size]))
    finally:
        for handle in handles:
            handle.remove()
        if was_training:
            model.train()
    return total


def machine():
    """What the record of a measurement must carry: device, its name, cores, threads, versions.

    Threads are Paddle's on a CPU: one, unless OMP_NUM_THREADS said otherwise before Paddle was imported.
    """
    import platform
    device = paddle.get_device()
    name = platform.processor() or platform.machine()
    if device.startswith("gpu"):
        name = paddle.device.cuda.get_device_name()
    elif os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"device": device, "name": name, "cores": cores, "threads": int(os.environ.get("OMP_NUM_THREADS", 1)),
            "paddle": paddle.__version__, "python": platform.python_version()}
