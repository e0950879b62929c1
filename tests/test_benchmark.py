import time

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_fasternet.benchmark import (
    Timing,
    count_macs,
    count_parameters,
    machine,
    measure_speed,
    time_in_turn,
)
from paddle_fasternet.data import Augment


def test_time_in_turn_takes_turns_and_medians():
    order = []

    def call(name, seconds):
        order.append(name)
        time.sleep(seconds)

    timings = time_in_turn({"a": lambda: call("a", 0.002), "b": lambda: call("b", 0.01)}, images=4, repeats=5, warmup=1)
    assert order == ["a", "b"] * 6
    assert 0.002 <= timings["a"].low <= timings["a"].median <= timings["a"].high
    assert 0.01 <= timings["b"].median < 0.1 and timings["b"].images_per_second == 4 / timings["b"].median


def test_seconds_bound_what_a_slow_function_takes():
    def slow():
        time.sleep(0.02)
    begun = time.perf_counter()
    timing = time_in_turn({"a": slow}, 1, repeats=1000, warmup=1000, seconds=0.2)["a"]
    assert 0.2 <= time.perf_counter() - begun < 1 and 1 < timing.repeats < 10
    assert time_in_turn({"a": slow}, 1, repeats=5, warmup=5, seconds=0)["a"].repeats == 1
    assert time_in_turn({"a": slow}, 1, repeats=3, warmup=0, seconds=60)["a"].repeats == 3
    with pytest.raises(ValueError, match="seconds=-1"):
        time_in_turn({"a": slow}, 1, seconds=-1)


def test_timing_prints_median_and_quartiles():
    assert str(Timing(0.5, 0.4, 0.8, 9, 100)) == "200 images/s (quartiles 125 to 250), 500.00 ms for 100"
    assert Timing(0.5, 0.4, 0.8, 9, 100).to_dict()["images_per_second"] == 200


def test_macs_by_hand():
    model = nn.Sequential(nn.Conv2D(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2D(8, 8, 3, groups=4),
                          nn.Flatten(), nn.Linear(8 * 2 * 2, 5))
    # 4 x 4 outputs of 8 x 3 x 9, then 2 x 2 outputs of 8 x 2 x 9, then 32 x 5
    assert count_macs(model, 8) == 16 * 216 + 4 * 144 + 160
    assert count_parameters(model) == 8 * 27 + 8 + 8 * 18 + 8 + 160 + 5
    assert model.training
    # a Linear over positions: [1, 3, 16] to [1, 3, 5]
    assert count_macs(nn.Sequential(nn.Flatten(2), nn.Linear(16, 5)), 4) == 3 * 16 * 5
    # positions in the batch's place, as Swin's windows are: [6, 2, 4] to [6, 2, 5]
    assert count_macs(nn.Sequential(nn.Unflatten(2, [2, 2]), nn.Flatten(0, 2), nn.Linear(4, 5)), 4) == 12 * 4 * 5


class Squares(nn.Layer):
    def forward(self, x):
        return x * x

    @staticmethod
    def macs(inputs, output):
        return int(np.prod(inputs[0].shape))


def test_a_layer_may_say_what_it_costs():
    assert count_macs(nn.Sequential(Squares(), nn.Conv2D(3, 2, 1)), 4) == 48 + 16 * 6


def test_a_layer_that_says_what_it_costs_counts_its_sublayers_itself():
    class Twice(nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2D(3, 3, 1)

        def forward(self, x):
            return self.conv(self.conv(x))

    class Counted(Twice):
        @staticmethod
        def macs(inputs, output):
            return 7

    assert count_macs(Twice(), 4) == 2 * 16 * 9 and count_macs(nn.Sequential(Counted(), Twice()), 4) == 7 + 2 * 16 * 9


def test_convolutions_of_every_kind_count():
    # [1, 3, 16] to 2 features; back to 3; then [1, 3, 4, 4], with 16 positions in the transposed input
    model = nn.Sequential(nn.Flatten(2), nn.Conv1D(3, 2, 1), nn.Conv1DTranspose(2, 3, 1), nn.Unflatten(2, [4, 4]),
                          nn.Conv2DTranspose(3, 6, 2, stride=2, groups=3))
    assert count_macs(model, 4) == 16 * 6 + 16 * 6 + 16 * (3 * 2 * 4)
    assert count_macs(nn.Sequential(nn.Unflatten(1, [3, 1]), nn.Conv3D(3, 2, (1, 2, 2))), 4) == 9 * 3 * 2 * 4


def test_a_hook_of_the_network_does_not_change_the_count():
    conv = nn.Conv2D(3, 2, 1)
    conv.register_forward_post_hook(lambda layer, inputs, output: output.mean([2, 3]))
    assert count_macs(conv, 4) == 16 * 6 and len(conv._forward_post_hooks) == 1


def test_measuring_leaves_the_mode_and_counts_images():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    result = measure_speed(model, Augment("none", 8), np.zeros((6, 3, 16, 16), np.uint8), repeats=2, warmup=0)
    assert {name: timing.images for name, timing in result.items()} == {"latency": 1, "throughput": 6, "pipeline": 6}
    assert model.training


def test_machine_says_what_a_record_needs():
    assert set(machine()) == {"device", "name", "cores", "threads", "paddle", "python"}
    assert machine()["paddle"] == paddle.__version__ and machine()["cores"] >= 1


def test_threads_of_nested_regions(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert machine()["threads"] == 4


def test_bad_values():
    with pytest.raises(ValueError, match="repeats=0"):
        time_in_turn({}, 1, repeats=0)


def test_the_record_of_a_gpu_names_it_and_cuda(monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", lambda: "A GPU")
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(paddle.version, "cuda", lambda: "12.6")
    monkeypatch.setattr(paddle.version, "cudnn", lambda: "9.5")
    assert {"name": "A GPU", "gpus": 2, "cuda": "12.6", "cudnn": "9.5"}.items() <= machine().items()
