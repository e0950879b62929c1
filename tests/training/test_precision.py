import math

import numpy as np
import paddle
import pytest
from networks import TINY
from paddle import nn

from paddle_fasternet import FasterNet, FasterNetBlock, History, plots
from paddle_fasternet.training import precision
from paddle_fasternet.training.precision import cast, finite_statistics, float32_remark, ordered_sums

HALF_ON_GPU = ("{data_type[::phi::dtype::float16]; data_layout[Undefined(AnyLayout)]; place[Place(gpu:0)]; "
               "library_type[PLAIN]}")


@pytest.fixture
def kernels(monkeypatch):
    """A function that sets which kernels of depthwise convolutions Paddle says that it has."""
    def say(*keys):
        precision._has_depthwise.cache_clear()
        monkeypatch.setattr(paddle.base.core, "_get_all_register_op_kernels", lambda _: {"depthwise_conv2d": keys})
    yield say
    precision._has_depthwise.cache_clear()


@pytest.mark.parametrize("dtype, white", [("float16", {"depthwise_conv2d"}), ("bfloat16", None)])
def test_depthwise_convolutions_compute_in_half_where_paddle_can(kernels, monkeypatch, dtype, white):
    asked = {}
    kernels(HALF_ON_GPU)
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **arguments: asked.update(arguments))
    cast(dtype)
    assert asked == {"dtype": dtype, "custom_white_list": white}


def test_a_slow_depthwise_convolution_is_said(kernels):
    pconv, dwconv = (FasterNet(num_classes=3, mixer=mixer, **TINY) for mixer in ("pconv", "dwconv"))
    kernels()
    assert "depthwise convolutions compute in float32" in float32_remark(dwconv, "float16")
    assert not float32_remark(pconv, "float16") and not float32_remark(dwconv, None)
    kernels(HALF_ON_GPU)
    assert not float32_remark(dwconv, "float16") and float32_remark(dwconv, "bfloat16")


def test_a_paddle_that_does_not_tell_its_kernels_keeps_its_lists(monkeypatch):
    precision._has_depthwise.cache_clear()
    monkeypatch.delattr(paddle.base.core, "_get_all_register_op_kernels", raising=False)
    assert not precision._has_depthwise("float16")
    precision._has_depthwise.cache_clear()


def test_layer_scale_stays_in_the_branch_s_precision():
    class Double(nn.Layer):
        def forward(self, x):
            return x.astype("float64")

    class Back(nn.Layer):
        def forward(self, x):
            seen.append(x.dtype)
            return x.astype("float32")

    seen, block = [], FasterNetBlock(8, layer_scale_init_value=0.5)
    block.mlp, block.drop_path = Double(), Back()  # float64 stands for a half-precision branch
    block(paddle.ones([1, 8, 4, 4]))
    assert seen == [paddle.float64]


def test_an_overflow_leaves_the_running_statistics_as_they_were():
    norm = nn.BatchNorm2D(3)
    before = [norm._mean.numpy().copy(), norm._variance.numpy().copy()]
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(np.float32)
    x[0, 1, 2, 2] = np.inf
    with finite_statistics(nn.Sequential(norm), "float16"):
        norm(paddle.to_tensor(x))
        assert not np.isfinite(norm._mean.numpy()[1])
    for now, then in zip((norm._mean.numpy(), norm._variance.numpy()), before):
        assert now[1] == then[1]  # the channel that overflowed
        assert np.isfinite(now).all() and (now[[0, 2]] != then[[0, 2]]).all()


def test_a_skipped_step_has_no_loss_in_the_history(tmp_path):
    history = History()
    history.add_steps(1, [2.0, math.inf, math.nan, 1.0], [0.1, 0.2, 0.3, 0.4])
    assert history.record["train"]["loss"] == [2.0, None, None, 1.0]
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history
    plots.save_figure(tmp_path / "curve.png", plots.plot_history, history)


def test_ordered_sums_set_paddle_s_flag_for_the_training_alone(monkeypatch):
    flags = {"FLAGS_cudnn_deterministic": False}
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle, "get_flags", lambda name: {name: flags[name]})
    monkeypatch.setattr(paddle, "set_flags", flags.update)
    with ordered_sums(False):
        assert not flags["FLAGS_cudnn_deterministic"]
    with pytest.raises(KeyError), ordered_sums(True):
        assert flags["FLAGS_cudnn_deterministic"]
        raise KeyError
    assert not flags["FLAGS_cudnn_deterministic"]
