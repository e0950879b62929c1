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
from ._modes import evaluating, input_type
from .native.cpu import cores, paddle_threads

_TRANSPOSED = (nn.Conv1DTranspose, nn.Conv2DTranspose, nn.Conv3DTranspose)
_CONVOLUTIONS = (nn.Conv1D, nn.Conv2D, nn.Conv3D, *_TRANSPOSED)


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


def time_in_turn(calls, images, repeats=20, warmup=3, pause=0.0, seconds=None):
    """Time several functions in turn, so that a slow moment of the machine meets all of them alike.

    Args:
        calls: {name: function without arguments}.
        images: images that one call handles.
        repeats, warmup: timed and untimed calls of each.
        pause: seconds of rest and an untimed call before each timed one. For contenders with threads of their own:
            those of the one before spin on for a while (0.2 s in Paddle) and would slow down the next.
        seconds: bound for slow functions: after a quarter of it no further untimed turn begins, after all of it no
            further timed one. One of each kind always takes place. None: no bound.

    Returns:
        {name: Timing}; ``repeats`` says how many calls were timed.
    """
    check_number("repeats", repeats, low=1, integer=True)
    check_number("warmup", warmup, low=0, integer=True)
    check_number("pause", pause, low=0)
    if seconds is not None:
        check_number("seconds", seconds, low=0)
    begun, found = time.perf_counter(), {name: [] for name in calls}
    for timed, turns, share in ((False, warmup, 0.25), (True, repeats, 1)):
        for turn in range(turns):
            if turn and seconds is not None and time.perf_counter() - begun >= share * seconds:
                break
            for name, call in calls.items():
                if pause:
                    time.sleep(pause)
                    call()
                _synchronize()
                start = time.perf_counter()
                call()
                _synchronize()
                if timed:
                    found[name].append(time.perf_counter() - start)
    quartiles = {name: np.percentile(values, (50, 25, 75)).tolist() for name, values in found.items()}
    return {name: Timing(*values, len(found[name]), images) for name, values in quartiles.items()}


def measure_speed(model, preprocess, images, repeats=20, warmup=3, seconds=None):
    """Time a network in evaluation mode.

    Args:
        model: a network on [N, C, S, S].
        preprocess: an ``Augment`` that makes its input.
        images: uint8 [N, C, H, W], the batch.
        repeats, warmup: timed and untimed calls of each.
        seconds: bound for a slow network, see ``time_in_turn``; a quarter of it is for "latency".

    Returns:
        {"latency": Timing of the forward pass on one image, "throughput": of that on the batch, "pipeline": of the way
        from the images in memory to classes (preprocessing, network, argmax), timed in turn with "throughput"}.
    """
    x = paddle.to_tensor(preprocess(images, None, None)[0])

    def classify():
        return model(paddle.to_tensor(preprocess(images, None, None)[0])).argmax(1).numpy()

    with evaluating(model), paddle.no_grad():
        both = time_in_turn({"throughput": lambda: model(x), "pipeline": classify}, len(images), repeats, warmup,
                            seconds=None if seconds is None else 0.75 * seconds)
        one = time_in_turn({"latency": lambda: model(x[:1])}, 1, repeats, warmup,
                           seconds=None if seconds is None else 0.25 * seconds)
        return {**one, **both}


def compare_networks(networks, batch_size=1, repeats=20, warmup=3, make_call=None):
    """Time networks in turn on random images, in evaluation mode.

    Args:
        networks: {name: (network on [N, 3, S, S], S)}.
        batch_size: images in a call.
        repeats, warmup: timed and untimed calls of each.
        make_call: makes a function without arguments of a network and its input, float32 [N, 3, S, S]; None runs the
            network eager.

    Returns:
        A dict for each network: "network", "image_size", "parameters", "macs" (of one image), the ``Timing``'s values,
        "macs_per_second".
    """
    batch_size = check_number("batch_size", batch_size, low=1, integer=True)
    calls, rows = {}, []
    with evaluating(*(model for model, _ in networks.values())):
        for name, (model, size) in networks.items():
            x = np.random.default_rng(0).standard_normal((batch_size, 3, size, size)).astype(np.float32)
            calls[name] = (make_call or eager_call)(model, x)
            rows.append({"network": name, "image_size": size, "parameters": count_parameters(model),
                         "macs": count_macs(model, size)})
        timings = time_in_turn(calls, batch_size, repeats, warmup)
    return [{**row, **timings[row["network"]].to_dict(),
             "macs_per_second": round(batch_size * row["macs"] / timings[row["network"]].median)} for row in rows]


def network_table(rows):
    """The rows of ``compare_networks`` as lines of text."""
    width = max(len(row["network"]) for row in rows) + 2
    lines = [f"{'network':{width}}{'image':>5}{'M parameters':>14}{'G MACs':>9}{'ms':>10}  {'(quartiles)':20}"
             f"{'images/s':>9}{'G MAC/s':>9}"]
    for row in rows:
        low, median, high = (1e3 * row[key] for key in ("low", "median", "high"))
        lines.append(f"{row['network']:{width}}{row['image_size']:5}{row['parameters'] / 1e6:14.2f}"
                     f"{row['macs'] / 1e9:9.2f}{median:10.2f}  {f'({low:.2f} to {high:.2f})':20}"
                     f"{row['images_per_second']:9.1f}{row['macs_per_second'] / 1e9:9.1f}")
    return "\n".join(lines)


def eager_call(model, x):
    """A function without arguments that runs a network on an array once, as a script does."""
    tensor = paddle.to_tensor(x)

    def call():
        with paddle.no_grad():
            return model(tensor)

    return call


def count_parameters(model):
    """Trainable values of a network."""
    return sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)


def count_macs(model, image_size=224, channels=3):
    """Multiply-adds of convolutions and linear layers for one square image; normalisation, activations, sums: nothing.

    A convolution counts out_channels * H * W * kernel area * in_channels / groups, a transposed one the same with its
    input's channels and size. A layer with a method ``macs(inputs, output)`` says for itself what a call costs, with
    all that it calls.
    """
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        if hasattr(layer, "macs"):
            total += layer.macs(inputs, output)
            return
        # a weight is used once for each output position, that is each value of one output feature; in a transposed
        # convolution once for each input position
        features = layer.weight.shape[1 if isinstance(layer, nn.Linear) else 0]
        values = inputs[0] if isinstance(layer, _TRANSPOSED) else output
        total += int(np.prod(layer.weight.shape)) * (int(np.prod(values.shape)) // features)

    layers = model.sublayers(include_self=True)
    inside = {id(child) for layer in layers if hasattr(layer, "macs") for child in layer.sublayers()}
    handles = []
    for layer in layers:
        if id(layer) not in inside and (isinstance(layer, (*_CONVOLUTIONS, nn.Linear)) or hasattr(layer, "macs")):
            handles.append(layer.register_forward_post_hook(count))
            # the first one: those of the network may return another output
            layer._forward_post_hooks.move_to_end(handles[-1]._hook_id, last=False)
    try:
        with evaluating(model), paddle.no_grad():
            model(paddle.zeros([1, channels, image_size, image_size], input_type(model)))
    finally:
        for handle in handles:
            handle.remove()
    return total


def machine():
    """What the record of a measurement must carry: device, its name, cores, threads, versions.

    Threads are Paddle's on a CPU: one, unless OMP_NUM_THREADS said otherwise before Paddle was imported. Of a GPU also
    how many there are, and the versions of CUDA and cuDNN that Paddle was built for.
    """
    import platform
    device = paddle.get_device()
    name, more = platform.processor() or platform.machine(), {}
    if device.startswith("gpu"):
        name = paddle.device.cuda.get_device_name()
        more = {"gpus": paddle.device.cuda.device_count(), "cuda": paddle.version.cuda(),
                "cudnn": paddle.version.cudnn()}
    elif os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    return {"device": device, "name": name, "cores": cores(), "threads": paddle_threads(),
            "paddle": paddle.__version__, "python": platform.python_version(), **more}
