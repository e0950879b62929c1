import collections
import functools
import types

import paddle
import pytest
from paddle import nn

import paddle_fasternet
from paddle_fasternet import FasterNet, baselines
from paddle_fasternet._plain import oddities, oddity, places


def small(**arguments):
    return FasterNet(**{**dict(embed_dim=8, depths=(1, 1), merge_sizes=(2,), feature_dim=16, num_classes=5),
                        **arguments})


def double(layer, inputs, output=None):
    return inputs if output is None else 2 * output


def pre_hook(layer):
    layer.register_forward_pre_hook(double)


def post_hook(layer):
    layer.register_forward_post_hook(double)


def forward_on_the_object(layer):
    layer.forward = lambda x: x


def forward_bound_to_the_object(layer):
    layer.forward = types.MethodType(lambda self, x: x, layer)


def call_on_the_object(layer):
    layer._dygraph_call_func = lambda x: x


def weight_as_a_tensor(layer):
    value = layer.weight * 2
    del layer._parameters["weight"]
    layer.weight = value


def weight_outside_paddles_slots(layer):
    value = layer.weight * 2
    del layer._parameters["weight"]
    layer.__dict__["weight"] = value


def weight_hidden_by_an_attribute(layer):
    layer.__dict__["weight"] = layer.weight * 2


@pytest.mark.parametrize(("change", "expected"), [
    (pre_hook, "has a forward pre-hook, double"), (post_hook, "has a forward post-hook, double"),
    (forward_on_the_object, "has its forward replaced on the object"),
    (forward_bound_to_the_object, "has its forward replaced on the object"),
    (call_on_the_object, "has its _dygraph_call_func replaced on the object"),
    (nn.utils.weight_norm, "has a forward pre-hook, WeightNorm"),
    (nn.utils.spectral_norm, "has a forward pre-hook, SpectralNorm"),
    (weight_as_a_tensor, "has a weight that is no parameter"),
    (weight_outside_paddles_slots, "has a weight that is no parameter"),
    (weight_hidden_by_an_attribute, "has an attribute weight that hides its own weight")])
@pytest.mark.parametrize("make", [lambda: nn.Conv2D(4, 4, 3), lambda: nn.Linear(4, 4)], ids=["Conv2D", "Linear"])
def test_an_odd_layer_says_why(change, expected, make):
    layer = make()
    assert oddity(layer) == ""
    change(layer)
    assert expected in oddity(layer)


def test_after_the_hook_or_the_weight_norm_is_removed_a_layer_is_plain_again():
    conv = nn.Conv2D(4, 4, 3)
    conv.register_forward_post_hook(double).remove()
    nn.utils.weight_norm(conv)
    nn.utils.remove_weight_norm(conv)
    assert oddity(conv) == ""


class OwnForward(nn.Conv2D):
    def forward(self, x):
        return -super().forward(x)


class OwnWeight(nn.Conv2D):
    @property
    def weight(self):
        return self._parameters["weight"] * 2

    @weight.setter
    def weight(self, value):
        self._parameters["weight"] = value


class OwnHelper(nn.BatchNorm2D):
    def _check_input_dim(self, x):
        x.scale_(2)


class OwnFeatures(FasterNet):
    def forward_features(self, x):
        return [2 * x for x in super().forward_features(x)]


class Mixin:
    def __call__(self, *inputs):
        return -super().__call__(*inputs)


class Mixed(Mixin, nn.ReLU):
    pass


class OnlyBuiltDifferently(nn.Conv2D):
    """What does not change the computation is no oddity."""

    kernels = 3

    def __init__(self, channels):
        super().__init__(channels, channels, 3)

    def extra_repr(self):
        return "own"

    def train(self):
        super().train()

    def count(self):
        return 1


def test_a_class_is_odd_where_it_changes_what_its_base_computes():
    settings = dict(embed_dim=8, depths=(1,), merge_sizes=(), feature_dim=16)
    for layer, expected in ((OwnForward(4, 4, 3), "has its own forward (class OwnForward)"),
                            (OwnWeight(4, 4, 3), "has its own weight (class OwnWeight)"),
                            (OwnHelper(4), "has its own _check_input_dim"), (Mixed(), "has its own __call__"),
                            (OwnFeatures(**settings), "has its own forward_features")):
        assert expected in oddity(layer)
    assert oddity(OnlyBuiltDifferently(4)) == ""


def test_a_class_of_ones_own_is_what_it_is_unless_more_is_expected():
    class Own(nn.Layer):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", paddle.ones([1]))  # a fixed filter, say

        def forward(self, x):
            return x * self.weight

    layer = Own()
    assert oddity(layer) == ""
    assert "has its own forward" in oddity(layer, nn.Layer)
    post_hook(layer)
    assert "post-hook" in oddity(layer)


@pytest.mark.parametrize("wraps", [functools.wraps, lambda _: lambda function: function])
def test_a_method_replaced_on_the_class_is_found(monkeypatch, wraps):
    conv, original = nn.Conv2D(4, 4, 3), nn.Conv2D.forward

    @wraps(original)
    def forward(self, x):
        return 2 * original(self, x)

    monkeypatch.setattr(nn.Conv2D, "forward", forward)
    assert oddity(conv) == "has its forward replaced on the class Conv2D"


def test_paddles_and_our_own_networks_are_plain():
    layers = [small(), paddle_fasternet.fasternet_t0(), *(build() for build in (
        baselines.MobileViTXXS, paddle.vision.models.mobilenet_v2, paddle.vision.models.resnet18))]
    assert [list(oddities(layer)) for layer in layers] == [[]] * len(layers)


def test_odd_layers_of_a_network_are_named():
    model = small()
    post_hook(model.head)
    forward_on_the_object(model.stages[0].blocks[0].mlp)
    pre_hook(model)
    assert [name for name, _ in oddities(model)] == ["", "stages.0.blocks.0.mlp", "head"]


def test_every_place_of_a_layer_is_found():
    class Holder(nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv = conv = nn.Conv2D(4, 4, 1)
            self.again = nn.Sequential(conv)
            self.listed, self.nested = [conv], {"a": (0, [conv])}
            self.queue, self.object = collections.deque([conv]), types.SimpleNamespace(inner=conv)
            self.bound, self.partial = conv.forward, functools.partial(conv)
            self.closure = lambda x: conv(x)
            self.__dict__["alias"] = conv
            self.tied = nn.Conv2D(4, 4, 1)
            self.tied.weight = conv.weight

    model = Holder()
    found = places(model)
    kinds = [type(holder).__name__ for holder, _ in found[id(model.conv)]]
    assert collections.Counter(kinds) == {
        "Holder": 2, "Sequential": 1, "list": 2, "deque": 1, "SimpleNamespace": 1, "method": 1, "partial": 1,
        "function": 1}
    assert len(found[id(model.conv.weight)]) == 2 and len(found[id(model.conv.bias)]) == 1
    assert [(type(holder), key) for holder, key in found[id(model.tied)]] == [(Holder, "tied")]


def test_each_layer_of_a_fasternet_stands_at_one_place():
    model = small(layer_scale_init_value=0.5)
    found = places(model)
    assert all(len(found[id(layer)]) == 1 for layer in model.sublayers())
    assert all(len(found[id(value)]) == 1 for value in model.parameters())
