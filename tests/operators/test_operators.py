import collections
import functools
import json
import types

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from paddle import nn

from paddle_fasternet import FasterNet, PConv, cli, plots, replace_conv
from paddle_fasternet.benchmark import compare_networks, count_macs, count_parameters, network_table
from paddle_fasternet.operators import (
    OPERATORS,
    build_operator,
    check_claims,
    cost,
    filter_positions,
    imitate,
    layer_inputs,
    measure_operators,
    measure_peak,
    operator_table,
    verdicts,
)
from paddle_fasternet.operators.paper import LAYERS, SIZES, TABLE


def test_costs_by_hand():
    # 8 channels on 5 x 4 pixels: a regular 3 x 3 convolution has 8 x 8 x 9 weights, each used at 20 pixels
    regular = cost("conv", 5, 4, 8)
    assert (regular.parameters, regular.macs, regular.activations) == (576, 11520, 320)
    assert regular.memory() == 320 + 576 and regular.memory(10) == 3200 + 576
    # PConv convolves 2 of the 8: 2 x 2 x 9 weights; 20 x 2 values read and as many written
    partial = cost("pconv", 5, 4, 8)
    assert (partial.parameters, partial.macs, partial.activations) == (36, 720, 80)
    assert partial.macs * 16 == regular.macs and partial.activations * 4 == regular.activations
    # and the pointwise convolution behind it has 8 x 8 weights
    assert cost("pconv+pw", 5, 4, 8).macs == 20 * (9 * 2 * 2 + 8 * 8)
    # T-shaped: 9 positions of 2 channels and the middle of 6, for each of 8 outputs
    assert cost("tconv", 5, 4, 8).macs == 20 * (9 * 2 * 8 + 6 * 8)
    assert cost("dwconv", 5, 4, 8, k=5).macs == 20 * 25 * 8
    assert cost("gconv", 5, 4, 8, groups=4).macs == 20 * 9 * 2 * 2 * 4


@settings(deadline=None, max_examples=40)
@given(operator=st.sampled_from(sorted(OPERATORS)), quarter=st.integers(1, 6), n_div=st.sampled_from([2, 4]),
       groups=st.sampled_from([1, 2, 4]), k=st.sampled_from([1, 3, 5]), size=st.integers(3, 9))
def test_formulas_agree_with_layers(operator, quarter, n_div, groups, k, size):
    c = 4 * quarter
    layer, spent = build_operator(operator, c, k, n_div, groups), cost(operator, size, size, c, k, n_div, groups)
    assert count_parameters(layer) == spent.parameters and count_macs(layer, size, c) == spent.macs
    assert layer(paddle.zeros([2, c, size, size])).shape == [2, c, size, size]


@pytest.mark.parametrize("operator", ["conv", "pconv+pw"])
def test_paddles_own_counter_agrees(operator, capsys):
    assert paddle.flops(build_operator(operator, 32), [1, 32, 6, 6]) == cost(operator, 6, 6, 32).macs


def test_t_shape_contains_pconv_and_pointwise():
    # with the right weights the T-shaped convolution is PConv and a pointwise convolution in one
    paddle.seed(0)
    both, shaped = build_operator("pconv+pw", 8), build_operator("tconv", 8)
    kernel, mix = both[0].partial_conv3.weight.numpy(), both[1].weight.numpy()[:, :, 0, 0]
    shaped.conv.weight.set_value(np.einsum("om,mihw->oihw", mix[:, :2], kernel))
    shaped.pointwise.weight.set_value(mix[:, 2:, None, None])
    x = paddle.randn([2, 8, 5, 5])
    np.testing.assert_allclose(shaped(x).numpy(), both(x).numpy(), atol=1e-5)


def test_costs_are_those_of_the_papers_table():
    for (operator, channels), (million, *_) in TABLE.items():
        macs = LAYERS * cost(operator, dict(SIZES)[channels], dict(SIZES)[channels], channels).macs / 1e6
        # the paper prints 162.57 as 163 and as 162, and 3.387 as 3.38
        assert macs == pytest.approx(million, abs=0.01 if million < 100 else 0.6), (operator, channels)
    # the averages that it prints beside them: G multiply-adds/s on GPU, CPU and ARM
    printed = {"conv": (10151, 72.06, 3.95), "gconv": (1923, 25.98, 1.93), "dwconv": (313, 6.42, 0.12),
               "pconv": (3274, 39.27, 2.74)}
    for operator, averages in printed.items():
        rows = [TABLE[operator, channels] for channels, _ in SIZES]
        found = [np.mean([macs * gpu / 1e3 for macs, gpu, _, _ in rows]),
                 np.mean([macs / cpu for macs, _, cpu, _ in rows]), np.mean([macs / arm for macs, _, _, arm in rows])]
        np.testing.assert_allclose(found, averages, rtol=0.005, atol=0.008)


@pytest.mark.parametrize(("arguments", "message"), [
    (("pcnv", 4, 4, 8), "operator='pcnv' is not known; did you mean 'pconv'"), (("conv", 0, 4, 8), "h=0"),
    (("conv", 4, 4, 8, 0), "k=0"), (("pconv", 4, 4, 6), "c=6 cannot be split into n_div=4"),
    (("gconv+pw", 4, 4, 8), "c=8 cannot be split into groups=16"), (("tconv", 4, 4, 8, 2), "odd k"),
    (("tconv", 4, 4, 8, 3, 1), "n_div=1")])
def test_costs_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        cost(*arguments)


def test_measured_rows_follow_from_their_times():
    rows = measure_operators(sizes=((16, 6), (32, 3)), operators=("conv", "pconv"), layers=2, batch_size=3,
                             engines=("eager", "paddle"), repeats=2, warmup=0)
    assert [(row["channels"], row["engine"], row["operator"]) for row in rows] == [
        (c, engine, name) for c in (16, 32) for engine in ("eager", "paddle") for name in ("conv", "pconv")]
    for row in rows:
        spent = cost(row["operator"], row["size"], row["size"], row["channels"])
        assert row["macs"] == 2 * 3 * spent.macs and row["bytes"] == 4 * 2 * (3 * spent.activations + spent.parameters)
        assert row["macs_per_second"] == pytest.approx(row["macs"] / row["median"], rel=0.02)
        assert row["low"] <= row["median"] <= row["high"] and "paper" not in row
    table = operator_table(rows).splitlines()
    assert len(table) == 1 + 8 + 3 and "partial convolution" in table[2] and "16 x 6²" in table[2]
    json.dumps(rows)


def test_the_papers_figures_stand_beside_the_stacks_it_measured():
    row, = measure_operators(sizes=SIZES[3:], operators=("dwconv",), repeats=1, warmup=0)
    assert row["paper"] == {"million_macs": 3.38, "gpu_images_per_second": 88889, "cpu_ms": 0.68, "arm_ms": 150.89}
    assert "0.68 ms, 5.0 G/s" in operator_table([row])
    row, = measure_operators(sizes=SIZES[3:], operators=("dwconv",), layers=9, repeats=1, warmup=0)
    assert "paper" not in row


def test_peak_is_positive_and_above_its_quartiles():
    peak = measure_peak(repeats=2, side=64, megabytes=1)
    for name in ("macs_per_second", "bytes_per_second"):
        assert 0 < peak["quartiles"][name][0] <= peak["quartiles"][name][1] <= peak[name] + 1


def test_networks_are_compared_in_turn_and_left_in_their_mode():
    small, large = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), nn.Conv2D(3, 8, 3)
    large.eval()
    rows = compare_networks({"small": (small, 8), "large": (large, 16)}, batch_size=5, repeats=2, warmup=0)
    assert [row["network"] for row in rows] == ["small", "large"]
    assert [row["macs"] for row in rows] == [3 * 64 * 2, 14 * 14 * 8 * 27] and rows[1]["images"] == 5
    assert rows[0]["macs_per_second"] == pytest.approx(5 * 384 / rows[0]["median"], rel=0.02)
    assert small.training and not large.training
    assert len(network_table(rows).splitlines()) == 3


def test_claims_are_held_against_rows():
    rows = [{"network": "fasternet_t0", "low": 0.9, "median": 1.0, "high": 1.1},
            {"network": "mobilevit_xxs", "low": 2.7, "median": 3.0, "high": 3.3},
            {"network": "swin_b", "low": 1.0, "median": 1.0, "high": 1.0}]
    claim, = check_claims(rows)
    assert (claim["faster"], claim["slower"]) == ("fasternet_t0", "mobilevit_xxs")
    assert claim["here"] == 3 and claim["range"] == [2.45, 3.67]
    assert claim["paper"] == (2.8 if paddle.get_device().startswith("gpu") else 3.3)


def test_verdicts_by_hand():
    def row(operator, channels, macs, low, median, high):
        return {"engine": "eager", "operator": operator, "channels": channels, "size": 4, "macs": macs, "low": low,
                "median": median, "high": high}

    rows = [row("pconv", 8, 60, 1.8, 2, 2.2), row("dwconv", 8, 10, 0.9, 1, 1.1),  # 30 a second against 10
            row("pconv", 16, 60, 1.8, 2, 2.2), row("dwconv", 16, 30, 0.9, 1, 1.1)]  # 30 against 30
    faster, quicker = verdicts(rows)
    assert faster["statement"].startswith("PConv does more multiply-adds a second than the depthwise")
    assert faster["sizes"] == {"8 x 4": "yes", "16 x 4": "undecided"}
    assert faster["answer"] == "yes at 1 of 2 sizes, undecided at 1 of 2 sizes" and faster["times"] == [1, 3]
    assert quicker["answer"] == "no at 2 of 2 sizes" and quicker["times"] == [0.5, 0.5]


def test_filter_positions_by_hand():
    conv = nn.Conv2D(2, 2, 3)
    weight = np.zeros((2, 2, 3, 3), np.float32)
    weight[0, :, 1, 1], weight[0, 0, 0, 2] = 2, 2  # squares 8 in the middle, 4 in the corner
    weight[1, 1, 0, 0] = -5
    conv.weight.set_value(weight)
    found = filter_positions(nn.Sequential(conv, nn.Conv2D(2, 2, 3, groups=2), nn.Conv2D(2, 2, 1)))
    assert found["filters"] == 2 and found["largest"] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(found["share"], [[1 / 2, 0, 1 / 6], [0, 1 / 3, 0], [0, 0, 0]], atol=1e-7)
    with pytest.raises(ValueError, match="model=Linear has no regular 3 x 3"):
        filter_positions(nn.Linear(2, 2))


def test_what_an_operator_can_do_it_learns():
    paddle.seed(0)
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((96, 8, 5, 5)).astype(np.float32)
    conv = nn.Conv2D(8, 8, 3, padding=1)
    weight = np.zeros((8, 8, 3, 3), np.float32)
    weight[range(8), range(8)] = rng.standard_normal((8, 3, 3))  # in truth depthwise
    conv.weight.set_value(weight)
    depthwise, pointwise = imitate(conv, maps[:64], maps[64:], ("dwconv", "pconv+pw"), steps=250, lr=5e-2, groups=2)
    assert depthwise["error"] < 1e-3 < 0.2 < pointwise["error"] < 1
    assert depthwise["macs"] == 25 * 9 * 8 and np.array_equal(conv.weight.numpy(), weight)


def test_layer_inputs_are_what_the_layer_sees():
    model = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Conv2D(2, 2, 3))
    x = np.random.default_rng(0).standard_normal((5, 2, 4, 4)).astype(np.float32)
    seen = layer_inputs(model, model[2], [paddle.to_tensor(x[:3]), paddle.to_tensor(x[3:])])
    np.testing.assert_array_equal(seen, np.maximum(x, 0))  # no dropout
    assert model.training and not model[2]._forward_pre_hooks


class Wide(nn.Layer):
    """One convolution of each kind that stays, and three that go."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2D(3, 8, 3, padding=1)
        self.first = nn.Conv2D(8, 12, 3, padding=1)
        self.blocks = nn.Sequential(nn.Conv2D(12, 12, 3, padding=[1, 1], bias_attr=False), nn.ReLU(),
                                    nn.LayerList([nn.Conv2D(12, 12, 3, padding=1, groups=4)])[0])
        self.again = self.blocks[0]
        self.down = nn.Conv2D(12, 16, 3, stride=2, padding=1)
        self.valid = nn.Conv2D(16, 16, 3)
        self.dilated = nn.Conv2D(16, 16, 3, padding=2, dilation=2)
        self.wrap = nn.Conv2D(16, 16, 3, padding=1, padding_mode="circular")
        self.one = nn.Conv2D(16, 16, 1)
        self.partial = PConv(16)
        self.last = nn.Conv2D(16, 4, 3, padding="SAME")

    def forward(self, x):
        x = self.again(self.blocks(self.first(self.stem(x))))
        return self.last(self.partial(self.one(self.wrap(self.dilated(self.valid(self.down(x)))))))


def test_replace_swaps_what_is_eligible_and_says_what_stays():
    paddle.seed(0)
    model = Wide()
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    result = replace_conv(model)
    assert result.replaced == [("first", 8 * 12 * 9 + 12, 2 * 2 * 9 + 8 * 12 + 12), ("again", 12 * 12 * 9, 9 * 9 + 144),
                               ("last", 16 * 4 * 9 + 4, 4 * 4 * 9 + 16 * 4 + 4)]
    assert dict(result.left) == {
        "stem": "input channels that n_div=4 does not divide", "blocks.2": "grouped or depthwise", "down": "stride 2",
        "valid": "padding 0, zeros", "dilated": "dilation 2", "wrap": "padding 1, circular", "one": "kernel 1 x 1",
        "partial.partial_conv3": "inside a PConv"}
    assert result.model.again is result.model.blocks[0]  # one layer at two places
    x = paddle.randn([2, 3, 12, 12])
    assert result.model(x).shape == model(x).shape
    # the bias goes on; those that stay have their weights; the network that was given is as it was
    after = result.model.state_dict()
    np.testing.assert_array_equal(after["first.1.bias"].numpy(), before["first.bias"])
    np.testing.assert_array_equal(after["down.weight"].numpy(), before["down.weight"])
    assert result.model.blocks[0][1].bias is None
    assert set(before) == set(model.state_dict()) and isinstance(model.first, nn.Conv2D)
    text = str(result)
    assert text.startswith("3 convolutions became PConv and pointwise") and "1 stride 2: down" in text


def test_replaced_networks_train():
    model = replace_conv(nn.Sequential(nn.Conv2D(4, 8, 3, padding=1), nn.BatchNorm2D(8), nn.ReLU(),
                                       nn.Conv2D(8, 8, 3, padding=1))).model
    assert model.training
    model(paddle.randn([2, 4, 6, 6])).square().mean().backward()
    for name, parameter in model.named_parameters():
        if not parameter.stop_gradient:
            assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("mixer", ["conv", "gconv", "dwconv"])
def test_this_librarys_own_mixers_are_networks_like_others(mixer):
    model = FasterNet(embed_dim=16, depths=(1,), merge_sizes=(), feature_dim=8, mixer=mixer)
    if mixer == "conv":
        model = replace_conv(model).model
        assert isinstance(model.stages[0].blocks[0].spatial_mixing.conv[0], PConv)
    assert model(paddle.zeros([1, 3, 16, 16])).shape == [1, 1000]
    with pytest.raises(ValueError, match=r"must be \[N, 16, H, W\]"):
        model.stages[0].blocks[0].spatial_mixing(paddle.zeros([1, 8, 4, 4]))


def test_resnet18_by_hand():
    resnet = paddle.vision.models.resnet18(num_classes=10)
    result = replace_conv(resnet)
    # 13 of the 16 convolutions in blocks have stride 1: 4 of width 64, 3 each of 128, 256, 512
    saved = sum(n * (9 * c * c - 9 * (c // 4) ** 2 - c * c) for n, c in ((4, 64), (3, 128), (3, 256), (3, 512)))
    assert len(result.replaced) == 13 and len(result.left) == 7
    assert count_parameters(resnet) - count_parameters(result.model) == saved
    assert len({parameter.name for parameter in result.model.parameters()}) == len(result.model.parameters())


def test_replace_takes_the_convolution_itself_and_other_types():
    result = replace_conv(nn.Conv2D(8, 8, 3, padding=1), n_div=2)
    assert result.replaced[0][0] == "Conv2D" and isinstance(result.model[0], PConv)
    model = nn.Sequential(nn.Conv2D(4, 4, 3, padding=1))
    model.to(dtype="float64")
    assert replace_conv(model).model(paddle.zeros([1, 4, 5, 5], "float64")).dtype == paddle.float64


class Holder(nn.Layer):
    """A convolution that is called through what ``hold`` makes of it, beside its name."""

    def __init__(self, hold):
        super().__init__()
        self.conv = nn.Conv2D(8, 8, 3, padding=1)
        self.held = hold(self.conv)

    def forward(self, x):
        held = self.held
        while not callable(held) or isinstance(held, (nn.LayerList, nn.LayerDict)):
            if isinstance(held, types.SimpleNamespace):
                held = held.a
            else:
                held = held["a"] if isinstance(held, (dict, nn.LayerDict)) else next(iter(held))
        return held(x)


Pair = collections.namedtuple("Pair", "first second")


@pytest.mark.parametrize("hold", [
    lambda conv: conv, lambda conv: [conv], lambda conv: (conv,), lambda conv: {"a": conv}, lambda conv: [[conv]],
    lambda conv: ((conv, 1), conv), lambda conv: {"a": ([conv],)}, lambda conv: Pair(conv, conv),
    lambda conv: [(conv,)], lambda conv: collections.OrderedDict(a=conv), lambda conv: nn.LayerList([conv]),
    lambda conv: nn.LayerDict({"a": conv}), lambda conv: nn.Sequential(conv)])
def test_replace_reaches_what_is_called(hold):
    model, x = Holder(hold), paddle.randn([1, 8, 5, 5])
    result = replace_conv(model)
    assert result.replaced == [("conv", 584, 108)] and not result.left
    before = result.model(x)
    assert not np.allclose(before, model(x))
    result.model.conv[1].weight.set_value(2 * result.model.conv[1].weight)  # the one that is trained is the one called
    assert not np.allclose(before, result.model(x))
    assert isinstance(result.model.held, (type(model.held), nn.Sequential)) and isinstance(model.conv, nn.Conv2D)


def test_replace_reaches_an_alias_that_paddle_does_not_see():
    model = Holder(lambda conv: None)
    model.__dict__["held"] = model.conv
    assert isinstance(replace_conv(model).model.held, nn.Sequential)


def test_replace_reaches_several_in_one_tuple():
    class Pyramid(nn.Layer):
        def __init__(self):
            super().__init__()
            self.convs = tuple(self.add_sublayer(f"conv{i}", nn.Conv2D(8, 8, 3, padding=1)) for i in range(3))
            self.again = [self.convs, {"all": self.convs}]

    model = replace_conv(Pyramid()).model
    assert all(layer is model._sub_layers[f"conv{i}"] for i, layer in enumerate(model.convs))
    assert all(isinstance(layer, nn.Sequential) for layer in model.convs)
    assert model.again[0] is model.again[1]["all"] and list(model.again[0]) == list(model.convs)


class Slots:
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, x):
        return self.inner(x)


@pytest.mark.parametrize(("hold", "holder"), [
    (lambda conv: lambda x: conv(x), "function"), (lambda conv: collections.deque([conv]), "deque"),
    (lambda conv: types.SimpleNamespace(a=conv), "SimpleNamespace"), (Slots, "Slots"),
    (lambda conv: conv.forward, "method"), (lambda conv: functools.partial(lambda layer, x: layer(x), conv), "partial"),
    (lambda conv: {conv}, "set"), (lambda conv: collections.deque([(conv,)]), "deque"),
    (lambda conv: [lambda x, conv=conv: conv(x)], "function")])
def test_replace_leaves_what_it_cannot_reach(hold, holder):
    """The network's copy would call the old convolution, or the given network's, and nothing the new one."""
    model = Holder(hold)
    with pytest.raises(ValueError, match=f"conv: also held by a {holder}, which cannot be changed"):
        replace_conv(model)
    both = replace_conv(nn.Sequential(model, nn.Conv2D(8, 8, 3, padding=1)))
    assert [name for name, *_ in both.replaced] == ["1"] and "1 also held by a" in str(both)
    assert type(both.model[0].conv) is nn.Conv2D


def test_replace_names_convolutions_that_are_no_sublayers():
    model = Holder(lambda conv: [{"a": nn.Sequential(nn.Conv2D(8, 8, 3, padding=1))}])
    result = replace_conv(nn.Sequential(model))
    assert [name for name, *_ in result.replaced] == ["0.conv"]
    assert result.left == [("0.held[0]['a'].0", "not registered, so its weights are no parameters; use add_sublayer or "
                            "nn.LayerList")]


def test_replace_leaves_odd_convolutions():
    shared, other = nn.Conv2D(8, 8, 3, padding=1), nn.Conv2D(8, 8, 1)
    other.bias = shared.bias
    replaced = nn.Conv2D(8, 8, 3, padding=1)
    replaced.forward = lambda x: x
    model = nn.Sequential(shared, other, replaced, nn.Conv2D(8, 8, 3, padding=[[0, 0], [0, 0], [1, 1], [1, 1]]))
    result = replace_conv(model)
    assert [name for name, *_ in result.replaced] == ["3"]
    assert dict(result.left) == {"0": "with a bias used elsewhere too", "1": "kernel 1 x 1",
                                 "2": "odd: it has its forward replaced on the object"}


class Standardised(nn.Conv2D):
    """A convolution with a forward of its own."""


@pytest.mark.parametrize(("model", "error", "message"), [
    (3, TypeError, "model must be a Layer, not int"),
    (nn.Linear(2, 2), ValueError, "model=Linear has no convolution to replace with n_div=4 .it has no Conv2D"),
    (nn.Sequential(nn.Conv2D(4, 4, 3, 2, padding=1)), ValueError, "0: stride 2"),
    (nn.Sequential(Standardised(4, 4, 3, padding=1)), ValueError, "of the class Standardised"),
    (nn.utils.weight_norm(nn.Conv2D(4, 4, 3, padding=1)), ValueError, "with hooks"),
    (FasterNet(embed_dim=8, depths=(1,), merge_sizes=(), feature_dim=8), ValueError, "inside a PConv")])
def test_replace_refuses(model, error, message):
    with pytest.raises(error, match=message):
        replace_conv(model)


def test_pictures():
    rows = [{"operator": name, "engine": engine, "macs": macs, "bytes": 10, "macs_per_second": 3e9}
            for name, engine, macs in (("conv", "eager", 1000), ("conv", "paddle", 1000), ("dwconv", "eager", 10))]
    ax = plots.plot_roofline(rows, {"macs_per_second": 8e9, "bytes_per_second": 2e9}, figure=Figure())
    x, roof = ax.lines[0].get_data()
    np.testing.assert_allclose(roof, np.minimum(8, 2 * x))  # G multiply-adds/s: the bend at 4 a byte
    assert [line.get_xydata().tolist() for line in ax.lines[1:4]] == [[[100, 3]], [[100, 3]], [[1, 3]]]

    rows = [{"network": name, "macs": macs, "parameters": 5e6, "images": 2, "low": 0.1, "median": 0.2, "high": 0.4}
            for name, macs in (("fasternet_s", 4e9), ("resnet50", 3e9), ("fasternet_t0", 1e9))]
    left, right = plots.plot_speed(rows, figure=Figure())
    assert left.containers[0][0].get_xydata().tolist() == [[1, 10], [4, 10]]  # smallest first
    assert right.containers[1][0].get_xydata().tolist() == [[5, 10]]
    segment, = left.containers[1][2][0].get_segments()
    assert segment[:, 1].tolist() == [5, 20]  # the quartiles

    rows = [{"operator": name, "layer": layer, "error": error} for name, layer, error in (
        ("conv", "a", 0.0), ("pconv", "a", 0.5), ("conv", "b", 0.1), ("pconv", "b", 0.25))]
    left, right = plots.plot_imitation(rows, {"filters": 3, "share": np.eye(3) / 3}, figure=Figure())
    assert [text.get_text() for text in left.texts].count("33%") == 3
    assert [bar.get_height() for bar in right.patches] == [0, 0.1, 0.5, 0.25]


def test_command_operators(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.speed, "measure_operators", lambda **kwargs: measure_operators(sizes=((16, 4),), **kwargs))
    monkeypatch.setattr(cli.speed, "measure_peak", lambda: measure_peak(2, 64, 1))
    assert cli.main(["operators", "--engines", "eager", "--repeats", "2", "--n-div", "2"]) == 0
    said = capsys.readouterr().out
    assert "depthwise, then pointwise" in said and "this device at best" in said
    record = json.loads((tmp_path / "work/operators/operators.json").read_text())
    assert len(record["rows"]) == len(OPERATORS) and record["machine"]["threads"] >= 1
    assert (tmp_path / "work/operators/operators.png").read_bytes()[:4] == b"\x89PNG"


def test_command_benchmark_against(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["benchmark", "--against", "mobilevit_xxs, fasternet_t0,shufflenet_v2", "--image-size", "64",
                     "--repeats", "2", "--json", "a.json"]) == 0
    said = capsys.readouterr().out
    assert "fasternet_t0 against mobilevit_xxs: 3.3 times as fast in the paper" in said
    record = json.loads((tmp_path / "work/benchmark/benchmark.json").read_text())
    assert record == json.loads((tmp_path / "a.json").read_text())
    assert [row["network"] for row in record["rows"]] == ["fasternet_t0", "mobilevit_xxs", "shufflenet_v2"]
    assert (tmp_path / "work/benchmark/benchmark.png").stat().st_size > 5000


@pytest.mark.parametrize(("arguments", "message"), [
    (["operators", "--engines", "egaer"], "engines='egaer' is not known; did you mean 'eager'"),
    (["operators", "--engines", "eager", "--repeats", "0"], "repeats=0"),
    (["operators", "--batch-size", "0"], "--batch-size=0"),
    (["operators", "--operators", "conv,dwcnv"], "operators='dwcnv' is not known; did you mean 'dwconv'"),
    (["operators", "--engines", "onnxruntime"], "engines='onnxruntime' is not known; choose from: eager, paddle"),
    (["operators", "--n-div", "5"], "c=96 cannot be split into --n-div=5"),
    (["benchmark", "--against", "resnet5"], "against='resnet5' is not known; did you mean 'resnet50'"),
    (["benchmark", "--against", ""], "against='' is not known"),
    (["benchmark", "--against", "resnet50", "--engine", "tensorrt"], "engine='tensorrt' is not known"),
    (["benchmark", "--against", "resnet50", "--run", "work/run"], "not with --run='work/run'"),
    (["benchmark", "--against", "mobilevit_xxs", "--image-size", "96"], "takes multiples of 64"),
    (["benchmark", "--engine", "eager"], "engine='eager' goes with --against NAMES")])
def test_commands_refuse(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(("conv", "options", "message"), [
    (nn.Conv2D(4, 4, 3, padding=1), {"batch_size": 0}, "batch_size=0"),
    (nn.Conv2D(4, 4, 3, padding=1, stride=2), {}, r"stride \[2, 2\] must be a 3 x 3 convolution of 4 to 4"),
    (nn.Conv2D(4, 8, 3, padding=1), {}, r"weight of \[8, 4, 3, 3\]")])
def test_bad_imitations(conv, options, message):
    maps = np.zeros((2, 4, 5, 5), np.float32)
    with pytest.raises(ValueError, match=message):
        imitate(conv, maps, maps, **options)
