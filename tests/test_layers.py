import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from paddle_fasternet import DropPath, DWConv, PConv, drop_path
from paddle_fasternet.layers import Conv, GConv
from paddle_fasternet.mixers import MIXERS, make_mixer


def naive_conv(x, weight):
    """3 x 3 correlation with zero padding, written out: [C, H, W] and [O, C, 3, 3] to [O, H, W]."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), *x.shape[1:]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            out[:, i, j] = (weight * padded[None, :, i:i + 3, j:j + 3]).sum((1, 2, 3))
    return out


@pytest.mark.parametrize("forward", ["split_cat", "slicing"])
def test_pconv_convolves_the_first_channels_and_passes_the_others(forward):
    layer = PConv(8, forward=forward)
    x = paddle.randn([2, 8, 5, 6])
    out = layer(x).numpy()
    for image, result in zip(x.numpy(), out):
        np.testing.assert_allclose(result[:2], naive_conv(image[:2], layer.partial_conv3.weight.numpy()), atol=1e-5)
        np.testing.assert_array_equal(result[2:], image[2:])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kernel_size", "n_div"), [(1, 2), (2, 4), (3, 4), (3, 1), (4, 3), (5, 12), (7, 2)])
def test_both_forwards_of_pconv_are_equal_gradients_too(kernel_size, n_div, training):
    outs, grads = [], []
    for forward in ("split_cat", "slicing"):
        paddle.seed(1)
        layer = PConv(12, kernel_size, n_div, forward=forward)
        layer.train() if training else layer.eval()
        x = paddle.randn([2, 12, 6, 5])
        x.stop_gradient = False
        y = layer(x * 1.0)  # not a leaf, as within a network
        (y * y).sum().backward()
        outs.append(y.numpy())
        grads.append((x.grad.numpy(), layer.partial_conv3.weight.grad.numpy()))
    assert outs[0].shape == (2, 12, 6, 5)
    np.testing.assert_array_equal(*outs)
    for a, b in zip(*grads):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("forward", ["split_cat", "slicing"])
def test_pconv_leaves_its_input_as_it_is(forward):
    x = paddle.randn([1, 8, 4, 4])
    before = x.numpy().copy()
    PConv(8, forward=forward)(x)
    np.testing.assert_array_equal(x.numpy(), before)


@pytest.mark.parametrize("forward", ["split_cat", "slicing"])
def test_pconv_becomes_static_with_the_same_answer(forward):
    layer = PConv(8, forward=forward)
    layer.eval()
    x = paddle.randn([2, 8, 5, 5])
    expected = layer(x).numpy()
    np.testing.assert_allclose(paddle.jit.to_static(layer)(x).numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("forward", ["split_cat", "slicing"])
def test_pconv_refuses_other_channels(forward):
    with pytest.raises(ValueError, match=r"input of shape \[1, 9, 4, 4\] must be \[N, 8, H, W\]"):
        PConv(8, forward=forward)(paddle.ones([1, 9, 4, 4]))


def test_numpy_numbers_are_numbers():
    assert PConv(np.int64(8), np.int32(3), np.int64(2))(paddle.ones([1, 8, 4, 4])).shape == [1, 8, 4, 4]


def test_even_kernels_reach_right_and_down():
    layer = PConv(1, kernel_size=2, n_div=1)
    layer.partial_conv3.weight.set_value(np.array([[[[0, 0], [0, 1]]]], np.float32))
    x = paddle.arange(9, dtype="float32").reshape([1, 1, 3, 3])
    assert layer(x)[0, 0].tolist() == [[4, 5, 0], [7, 8, 0], [0, 0, 0]]


def test_depthwise_keeps_channels_apart_and_grouped_keeps_groups_apart():
    for layer, reach in [(DWConv(8), 1), (GConv(8, groups=4), 2), (Conv(8), 8)]:
        x = paddle.randn([1, 8, 4, 4])
        x.stop_gradient = False
        layer(x)[0, 0].sum().backward()
        touched = (x.grad.abs().sum([0, 2, 3]) > 0).tolist()
        assert touched == [True] * reach + [False] * (8 - reach)


def test_grouped_costs_what_pconv_costs():
    # PConv (dim / 4)^2 * 9 weights, each used once a pixel; grouped by 16: dim^2 / 16 * 9
    assert GConv(64).conv.weight.size == PConv(64).partial_conv3.weight.size == 64 * 64 // 16 * 9
    assert GConv(40).conv._groups == 8


@pytest.mark.parametrize("mixer", [*MIXERS, lambda dim: nn.Conv2D(dim, dim, 1)])
def test_every_mixer_keeps_the_shape(mixer):
    assert make_mixer(mixer, 12)(paddle.randn([2, 12, 7, 5])).shape == [2, 12, 7, 5]


@pytest.mark.parametrize("make", [lambda: PConv(8), lambda: PConv(8, forward="slicing"), lambda: PConv(6, 2, 3),
                                  lambda: DWConv(8), lambda: GConv(8, groups=2), lambda: Conv(4)])
def test_gradients_equal_differences(make, check_gradient):
    layer = make()
    layer.to(dtype="float64")
    channels = 4 if isinstance(layer, Conv) else 6 if getattr(layer, "dim_conv", 0) == 2 and layer.dim_untouched == 4 \
        else 8
    x = paddle.randn([2, channels, 4, 3]).astype("float64")
    x.stop_gradient = False
    check_gradient(lambda: (layer(x) ** 2).sum(), {"x": x, **dict(layer.named_parameters())})


@pytest.mark.parametrize(("call", "message"), [
    (lambda: PConv(30), "dim=30 cannot be split into n_div=4 parts"),
    (lambda: PConv(8, n_div=0), "n_div=0 must be an integer >= 1"),
    (lambda: PConv(8, kernel_size=0), "kernel_size=0 must be an integer >= 1"),
    (lambda: PConv(8, forward="slice"), "forward='slice' is not known; did you mean 'slicing'"),
    (lambda: GConv(10, groups=4), "dim=10 cannot be split into groups=4"),
    (lambda: make_mixer("dwcon", 8), "mixer='dwcon' is not known; did you mean 'dwconv'"),
    (lambda: DropPath(1.2), "drop_prob=1.2 must be a number >= 0 and <= 1"),
    (lambda: drop_path(paddle.ones([1]), -0.1, True), "drop_prob=-0.1"),
    (lambda: drop_path(paddle.ones([1]), float("nan"), True), "drop_prob=nan"),
])
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
        call()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: PConv("8"), "dim='8' must be an integer, not str"),
    (lambda: PConv(8, n_div=2.0), "n_div=2.0 must be an integer, not float"),
    (lambda: PConv(8, kernel_size=(3, 3)), r"kernel_size=\(3, 3\) must be an integer"),
    (lambda: make_mixer(lambda dim: "conv", 8), "returned str for dim=8; it must return a Layer"),
    (lambda: DropPath("0.1"), "drop_prob='0.1' must be a number, not str"),
])
def test_bad_types_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@settings(deadline=None, max_examples=40)
@given(prob=st.floats(0, 1), n=st.integers(1, 64), rank=st.integers(0, 3))
def test_drop_path_drops_whole_samples_and_keeps_the_scale(prob, n, rank):
    x = paddle.to_tensor(np.random.default_rng(n).uniform(1, 2, (n, *[3] * rank)).astype(np.float32))
    out = drop_path(x, prob, training=True).numpy().reshape(n, -1)
    for got, given_ in zip(out, x.numpy().reshape(n, -1)):
        if (got != 0).any():
            np.testing.assert_allclose(got, given_ / (1 - prob), rtol=1e-5)
    if prob == 1:
        assert (out == 0).all()
    if prob == 0:
        np.testing.assert_array_equal(out, x.numpy().reshape(n, -1))


def test_drop_path_keeps_the_mean_and_draws_anew():
    paddle.seed(0)
    layer = DropPath(0.3)
    first, second = (layer(paddle.ones([4000, 1])).numpy() for _ in range(2))
    assert (first != second).any()
    # share kept 0.7 with a standard error of 0.007, times 1 / 0.7
    assert first.mean() == pytest.approx(1, abs=0.05) and (first == 0).mean() == pytest.approx(0.3, abs=0.035)


@pytest.mark.parametrize("layer", [DropPath(0.5), DropPath(None), DropPath(1.0)])
def test_drop_path_does_nothing_in_evaluation(layer):
    layer.eval()
    x = paddle.randn([4, 2])
    assert layer(x) is x


def test_drop_path_keeps_half_precision():
    assert drop_path(paddle.ones([4, 2]).astype("bfloat16"), 0.5, True).dtype == paddle.bfloat16
