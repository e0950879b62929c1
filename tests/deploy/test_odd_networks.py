"""A folded or exported network computes what the network computes, whatever it is made of, or is left or refused."""
import copy
import re
import types
import warnings

import numpy as np
import onnxruntime
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import trained_like
from paddle import nn

from paddle_fasternet import FasterNet, fuse_conv_bn
from paddle_fasternet.deploy import to_onnx
from paddle_fasternet.layers import DropPath, PConv
from paddle_fasternet.model import FasterNetBlock, PatchEmbed

X = np.random.RandomState(0).standard_normal((2, 4, 6, 6)).astype(np.float32)


def shake(model, seed=0):
    """Give the norms statistics and factors as training leaves them; returns the network in evaluation mode."""
    rng = np.random.RandomState(seed)
    for layer in model.sublayers(include_self=True):
        if isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm)):
            for value in (layer.weight, layer.bias, layer._mean, layer._variance):
                if value is not None:
                    value.set_value(paddle.to_tensor(rng.uniform(0.5, 2, value.shape)).astype(value.dtype))
    model.eval()
    return model


def outputs(model, x=X):
    with warnings.catch_warnings(), paddle.no_grad():
        warnings.filterwarnings("ignore", "When training, we now always track")
        found = model(paddle.to_tensor(x))
        return found.astype("float32").numpy()


def same(found, expected, tolerance=1e-5, rounding=0.0):
    return np.abs(found - expected).max() <= max(tolerance * np.abs(expected).max(), rounding)


def norms(model):
    return sum(isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm)) for layer in model.sublayers())


def pair(**norm):
    return nn.Sequential(nn.Conv2D(4, 4, 3, padding=1), nn.BatchNorm2D(4, **norm))


def twice(layer, inputs, output):
    return output * 2


def recompute(layer, inputs):
    layer[0].weight.set_value(layer[0].weight / layer[0].weight.abs().max())


class Standardised(nn.Conv2D):
    def forward(self, x):
        return nn.functional.conv2d(x, self.weight - self.weight.mean(), self.bias, padding=self._padding)


class Backwards(nn.Sequential):
    def forward(self, x):
        for layer in list(self.children())[::-1]:
            x = layer(x)
        return x


class Tapped(nn.Layer):
    """Calls the layers of a Sequential apart."""

    def __init__(self):
        super().__init__()
        self.body = pair()

    def forward(self, x):
        between = self.body[0](x)
        return self.body[1](between) + between


class Whole(nn.Layer):
    def __init__(self):
        super().__init__()
        self.body = pair()

    def forward(self, x):
        return self.body(x) + x


class Batchwise(nn.Sequential):
    """Its norm normalises by the batch's own statistics in evaluation too."""

    def eval(self):
        super().eval()
        self[1].training = True


class BatchwiseFasterNet(FasterNet):
    def eval(self):
        super().eval()
        self.patch_embed.norm.training = True


class Listed(nn.Layer):
    """Holds a convolution of its Sequential in a container too."""

    def __init__(self, container):
        super().__init__()
        self.body = pair()
        self.more = container(self.body[0])

    def forward(self, x):
        more = next(iter(self.more.values())) if isinstance(self.more, dict) else next(iter(self.more))
        return self.body(x) + more(x)


def with_hook(path, register="register_forward_post_hook", hook=twice):
    def build():
        model = nn.Sequential(pair(), nn.ReLU())
        layer = model if path == "" else dict(model.named_sublayers())[path]
        getattr(layer, register)(hook)
        return model
    return build


def changed(change):
    def build():
        model = pair()
        return change(model) or model
    return build


def shared_weight():
    first, second = pair(), pair()
    second[0].weight = first[0].weight
    return nn.Sequential(first, second)


def shared_bias():
    first, second = pair(), pair()
    second[0].bias = first[0].bias
    return nn.Sequential(first, second)


def shared_convolution():
    first = pair()
    return nn.Sequential(first, nn.Sequential(first[0], nn.BatchNorm2D(4)))


def shared_norm():
    first = pair()
    return nn.Sequential(first, first[1])


class First(nn.Layer):
    """Calls the first layer of a Sequential alone."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body[0](x)


def called_apart_elsewhere():
    body = pair()
    return nn.Sequential(body, First(body))


def of_a_norm(layer):
    def build():
        return nn.Sequential(nn.Conv2D(4, 4, 1), layer())
    return build


def own_forward(model):
    model.forward = types.MethodType(lambda self, x: self[0](x), model)


def on_the_convolution(model):
    conv, = (layer for layer in model.sublayers() if isinstance(layer, nn.Conv2D))
    conv.forward = lambda x: nn.functional.conv2d(x, conv.weight ** 2, padding=1)


def without_a_parameter(model):
    weight = model[0].weight.clone().detach()
    del model[0]._parameters["weight"]
    model[0].weight = weight


def taller(model):
    """The conv's layout is NCHW, the norm's NHWC, with as many columns as channels."""
    return nn.Sequential(nn.Conv2D(4, 6, 1), nn.BatchNorm2D(6, data_format="NHWC"))


STAY = {
    "weight_norm": changed(lambda model: nn.utils.weight_norm(model[0]) and None),
    "spectral_norm": changed(lambda model: nn.utils.spectral_norm(model[0]) and None),
    "standardised": lambda: nn.Sequential(Standardised(4, 4, 3, padding=1), nn.BatchNorm2D(4)),
    "weight that is no parameter": changed(without_a_parameter),
    **{f"{register} on {path or 'the network'}": with_hook(path, register, hook)
       for path in ("", "0", "0.0", "0.1") for register, hook in (
           ("register_forward_post_hook", twice),
           ("register_forward_pre_hook", lambda layer, inputs: (inputs[0] + 1,)))},
    "weight recomputed by a hook of the parent": with_hook("0", "register_forward_pre_hook", recompute),
    "forward of the object": changed(own_forward),
    "forward of the convolution object": changed(on_the_convolution),
    "Sequential with its own forward": lambda: Backwards(*pair()),
    "layers called apart": Tapped, "layer with its own forward": Whole,
    "shared weight": shared_weight, "shared bias": shared_bias, "shared convolution": shared_convolution,
    "shared norm": shared_norm, "Sequential that another layer calls apart": called_apart_elsewhere,
    "held in a list": lambda: Listed(lambda conv: [conv]), "held in a dict": lambda: Listed(lambda conv: {"a": conv}),
    "held in a set": lambda: Listed(lambda conv: {conv}), "held in a tuple": lambda: Listed(lambda conv: (conv,)),
    "batch statistics": lambda: pair(use_global_stats=False),
    "norm that stays in training": lambda: Batchwise(*pair()),
    "another layout": changed(taller),
    "InstanceNorm": of_a_norm(lambda: nn.InstanceNorm2D(4)),
    "transposed convolution": lambda: nn.Sequential(nn.Conv2DTranspose(4, 4, 3, padding=1), nn.BatchNorm2D(4)),
}

FOLD = {
    "plain": pair, "in a Sequential": lambda: nn.Sequential(pair(), nn.ReLU(), pair()),
    "affine": lambda: pair(weight_attr=False, bias_attr=False), "no factor": lambda: pair(weight_attr=False),
    "no shift": lambda: pair(bias_attr=False), "global statistics": lambda: pair(use_global_stats=True),
    "no bias": lambda: nn.Sequential(nn.Conv2D(4, 4, 3, padding=1, bias_attr=False), nn.BatchNorm2D(4)),
    "depthwise": lambda: nn.Sequential(nn.Conv2D(4, 8, 3, groups=4), nn.BatchNorm2D(8)),
    "dilated": lambda: nn.Sequential(nn.Conv2D(4, 6, 2, 2, [1, 2, 0, 1], 2), nn.BatchNorm2D(6)),
    **{f"padding {mode}": lambda mode=mode: nn.Sequential(
        nn.Conv2D(4, 4, 3, padding=1, padding_mode=mode), nn.BatchNorm2D(4))
       for mode in ("reflect", "circular", "replicate")},
    **{f"padding {padding}": lambda padding=padding: nn.Sequential(
        nn.Conv2D(4, 4, 3, padding=padding), nn.BatchNorm2D(4)) for padding in ("SAME", "VALID")},
    "frozen": changed(lambda model: [setattr(value, "stop_gradient", True) for value in model.parameters()] and None),
    "children with names": lambda: nn.Sequential(("a", nn.Conv2D(4, 4, 1)), ("b", nn.BatchNorm2D(4))),
}


@pytest.mark.parametrize("name", [*STAY, *FOLD])
def test_folding_never_changes_the_outputs(name):
    paddle.seed(1)
    model = shake({**STAY, **FOLD}[name]())
    outputs(model)  # in no_grad: a weight norm then leaves no graph behind
    folded = fuse_conv_bn(model)
    assert same(outputs(folded), outputs(model))
    assert norms(folded) == (norms(model) if name in STAY else 0)


@pytest.mark.parametrize("kind", ["float64", "float16", "bfloat16"])
def test_weights_of_any_type_are_folded_in_it(kind):
    model = shake(nn.Sequential(nn.Conv2D(4, 4, 3, padding=1, bias_attr=False), nn.BatchNorm2D(4)))
    model[0].weight.set_value(model[0].weight.astype(kind).astype("float32"))
    expected = outputs(model)
    model.to(dtype=kind)
    folded = fuse_conv_bn(model)
    assert {str(value.dtype) for value in folded.parameters()} == {f"paddle.{kind}"} and not norms(folded)
    # no CPU kernel takes float16: the values are compared in float32
    tolerance = {"float64": 1e-6, "float16": 5e-3, "bfloat16": 3e-2}[kind]
    assert same(outputs(folded.to(dtype="float32")), expected, tolerance)


def test_a_factor_too_large_for_the_type_stays_outside():
    model = shake(pair())
    model[1].weight.set_value(paddle.full([4], 6e4))
    model[0].to(dtype="float16")
    model[0].weight.set_value(paddle.full(model[0].weight.shape, 3, "float16"))
    assert isinstance(fuse_conv_bn(model)[1], nn.BatchNorm2D)


def test_synchronised_norms_are_folded_as_the_others():
    model = shake(nn.Sequential(pair(), nn.ReLU(), pair()))
    expected = outputs(model)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # which computes on GPUs alone, folded everywhere
    folded = fuse_conv_bn(model)
    assert isinstance(model[0][1], nn.SyncBatchNorm) and norms(folded) == 0 and same(outputs(folded), expected)


@pytest.mark.filterwarnings("ignore")
def test_a_network_turned_into_a_static_graph_is_copied_as_it_is():
    model = shake(nn.Sequential(pair(), nn.ReLU()))
    expected = outputs(model)
    model = paddle.jit.to_static(model)
    assert same(outputs(fuse_conv_bn(model)), expected)
    with pytest.raises(ValueError, match="model has its forward replaced on the object"):
        to_onnx(model, (4, 6, 6))


def test_layout_nhwc_is_folded():
    model = shake(nn.Sequential(nn.Conv2D(4, 5, 3, data_format="NHWC"), nn.BatchNorm2D(5, data_format="NHWC")))
    folded = fuse_conv_bn(model)
    x = X.transpose(0, 2, 3, 1)
    assert same(outputs(folded, x), outputs(model, x)) and not norms(folded)


def test_convolutions_of_other_dimensions_stay():
    for conv, norm, x in ((nn.Conv1D, nn.BatchNorm1D, X[..., 0]), (nn.Conv3D, nn.BatchNorm3D, X[..., None])):
        model = nn.Sequential(conv(4, 4, 1), norm(4))
        model.train()
        model(paddle.to_tensor(x * 2 + 1))
        model.eval()
        assert same(outputs(fuse_conv_bn(model), x), outputs(model, x))


def test_with_an_example_pairs_inside_a_forward_of_ones_own_are_folded_where_that_is_right():
    for build, left in ((Whole, 0), (Tapped, 1)):
        model = shake(build())
        model.train()
        folded = fuse_conv_bn(model, paddle.to_tensor(X))
        assert model.training and norms(folded) == left
        model.eval()
        assert same(outputs(folded), outputs(model))


def test_a_layer_that_cannot_be_copied_is_named():
    import threading
    model = nn.Sequential(pair(), nn.ReLU())
    model[0][1].lock = threading.Lock()
    with pytest.raises(ValueError, match=r"^0\.1 \(BatchNorm2D\) cannot be copied: .*lock.*; remove the hook or attr"):
        fuse_conv_bn(model)


IMAGES = np.random.RandomState(1).standard_normal((2, 3, 16, 16)).astype(np.float32)


def hook_on(path):
    return lambda model: dict(model.named_sublayers(include_self=True))[path].register_forward_post_hook(twice)


def share_last_convolution(model):
    model.stages[2].blocks[0].extra = [model.stages[2].blocks[0].mlp[3]]


def share_block(model):
    model.stages[0].blocks = nn.Sequential(model.stages[0].blocks[0], model.stages[0].blocks[0])


def stay_in_training(model):
    model.__class__ = BatchwiseFasterNet


def of_a_layer(path, method="forward"):
    def change(model):
        layer = dict(model.named_sublayers(include_self=True))[path]
        old = getattr(layer, method)
        setattr(layer, method, lambda x: [2 * value for value in old(x)] if "features" in method else 2 * old(x))
    return change


def own_class(path):
    """The layer gets a class of its own, derived from its class."""
    def change(model):
        layer = dict(model.named_sublayers(include_self=True))[path]
        kind = type(layer)
        layer.__class__ = type("Own", (kind,), {"forward": lambda self, x: 2 * kind.forward(self, x)})
    return change


PATHS = ["", "patch_embed", "patch_embed.proj", "patch_embed.norm", "stages.0", "stages.0.blocks", "stages.0.blocks.0",
         "stages.0.blocks.0.spatial_mixing", "stages.0.blocks.0.mlp", "stages.0.blocks.0.mlp.1",
         "stages.0.blocks.0.mlp.3", "stages.0.blocks.0.drop_path", "stages.1", "stages.1.reduction", "avgpool_pre_head",
         "avgpool_pre_head.0", "head"]
CHANGES = {
    **{f"hook on {path or 'the network'}": hook_on(path) for path in PATHS},
    **{f"forward of the object {path or 'itself'}": of_a_layer(path) for path in PATHS},
    **{f"own class of {path or 'the network'}": own_class(path) for path in PATHS},
    "features of the object": of_a_layer("", "forward_features"),
    "a convolution held twice": share_last_convolution, "a block that stands twice": share_block,
    "a norm that stays in training": stay_in_training,
    "weight norm": lambda model: nn.utils.weight_norm(model.stages[0].blocks[0].mlp[0]),
}
REFUSED = "can(not)? be written as ONNX"


def rounding_of(model, x, expected):
    """How far float32 brings a network's answer from float64's."""
    exact = copy.deepcopy(model)
    exact.to(dtype="float64")
    with paddle.no_grad():
        return np.abs(exact(paddle.to_tensor(x.astype("float64"))).numpy() - expected).max()


def check(model, x, rounding=0.0):
    """Folded it is equal, or as near as ``rounding``; written as ONNX, folded or not, it is so or refused by name."""
    expected = outputs(model, x)
    folded = fuse_conv_bn(model)
    assert same(outputs(folded, x), expected, rounding=rounding)
    for network in (model, folded):
        try:
            proto = to_onnx(network, x.shape[1:])
        except ValueError as error:
            assert re.search(REFUSED, str(error)) and "formats=('paddle',)" in str(error)
        else:
            session = onnxruntime.InferenceSession(proto.SerializeToString())
            assert same(session.run(None, {"x": x})[0], expected, 1e-4, rounding)


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_fasternet_is_folded_and_exported_rightly_or_refused(name):
    model = trained_like(layer_scale_init_value=0.3, drop_path_rate=0.1)
    plain = outputs(model, IMAGES)
    CHANGES[name](model)
    model.eval()
    assert name in ("a convolution held twice", "weight norm") or not same(outputs(model, IMAGES), plain)
    check(model, IMAGES)
    if name not in ("a convolution held twice", "a block that stands twice"):
        with pytest.raises(ValueError, match=REFUSED):
            to_onnx(model, (3, 16, 16))


CONVOLUTIONS = st.builds(
    lambda kernel, groups, padding, bias: nn.Conv2D(
        4, 4, kernel, 1, padding, groups=groups, bias_attr=None if bias else False),
    st.sampled_from([1, 3]), st.sampled_from([1, 2, 4]),
    st.sampled_from([1, [1, 2], [2, 1, 0, 2], [[0, 0], [0, 0], [1, 1], [2, 0]], "SAME"]), st.booleans())
NORMS = st.builds(
    lambda weight, bias, statistics: nn.BatchNorm2D(
        4, weight_attr=weight, bias_attr=bias, use_global_stats=statistics),
    st.sampled_from([None, False]), st.sampled_from([None, False]), st.sampled_from([None, None, True, False]))
OTHERS = st.sampled_from([
    nn.ReLU, nn.GELU, nn.ReLU6, nn.Silu, nn.Swish, nn.LeakyReLU, nn.ELU, nn.Hardsigmoid, nn.Hardswish, nn.Tanh,
    nn.Sigmoid, nn.Softmax, nn.PReLU, nn.Identity, nn.Dropout, nn.Dropout2D, nn.AlphaDropout, DropPath, nn.LogSigmoid,
    lambda: nn.Dropout(0.3, mode="downscale_in_infer"), lambda: PConv(4, n_div=2), lambda: nn.PReLU(4),
    lambda: nn.GELU(approximate=True), lambda: FasterNetBlock(4, layer_scale_init_value=0.5),
    lambda: PatchEmbed(4, 4, 1, nn.BatchNorm2D, nn.ReLU)]).map(lambda make: make())
LAYERS = st.recursive(
    CONVOLUTIONS | NORMS | st.tuples(CONVOLUTIONS, NORMS).map(lambda two: nn.Sequential(*two)) | OTHERS,
    lambda inner: st.lists(inner, min_size=1, max_size=4).map(lambda layers: nn.Sequential(*layers)), max_leaves=8)
ODDITIES = [
    lambda layer: layer.register_forward_post_hook(twice),
    lambda layer: layer.register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 0.5,)),
    lambda layer: setattr(layer, "forward", types.MethodType(lambda self, x: -type(self).forward(self, x), layer)),
    lambda layer: type(layer) is nn.Conv2D and not hasattr(layer, "weight_g") and nn.utils.weight_norm(layer),
    lambda layer: setattr(layer, "__class__", type("Own", (type(layer),), {"forward": lambda self, x: x})),
]


@settings(deadline=None, max_examples=60)
@given(st.lists(LAYERS, min_size=1, max_size=4), st.lists(
    st.tuples(st.integers(0, 999), st.integers(0, len(ODDITIES) - 1)), max_size=2), st.booleans())
def test_any_network_is_folded_and_exported_rightly_or_refused(layers, oddities, again):
    model, rng = nn.Sequential(*layers, *layers[:again]), np.random.RandomState(0)
    for weight in model.parameters():  # Paddle's own draws would be others the next time
        if weight.ndim == 4:
            weight.set_value(rng.uniform(-1, 1, weight.shape).astype("float32"))
    shake(model)
    inside = model.sublayers(include_self=True)
    for number, change in oddities:
        ODDITIES[change](inside[number % len(inside)])
    expected = outputs(model)
    if np.isfinite(expected).all() and np.abs(expected).max() > 1e-3:
        # a norm by the statistics of the batch can make any rounding large
        check(model, X, 30 * rounding_of(model, X, expected))


@pytest.mark.parametrize("padding", [2, [1, 2], [2, 1, 0, 1], [[0, 0], [0, 0], [1, 1], [2, 0]], "VALID"], ids=str)
def test_padding_in_every_form_is_written(padding):
    model = shake(nn.Sequential(nn.Conv2D(4, 4, (2, 3), (2, 1), padding, dilation=(1, 2)), nn.BatchNorm2D(4)))
    session = onnxruntime.InferenceSession(to_onnx(model, (4, 6, 6)).SerializeToString())
    assert same(session.run(None, {"x": X})[0], outputs(model))


def test_a_temperature_on_the_head_is_refused_by_name():
    model = trained_like()
    model.head.register_forward_post_hook(lambda layer, inputs, output: output / 4)
    with pytest.raises(ValueError, match=r"head has a forward post-hook, .*<lambda>, so it cannot be written as ONNX"):
        to_onnx(model, (3, 16, 16))


def test_dropout_before_the_head_exports_as_nothing():
    model = trained_like()
    model.head = nn.Sequential(nn.Dropout(0.5), model.head)
    model.eval()
    check(model, IMAGES)
    assert "Mul" not in {node.op_type for node in to_onnx(fuse_conv_bn(model), (3, 16, 16)).graph.node}


def test_weights_of_other_types_are_written_as_float32():
    model = trained_like()
    expected = outputs(model, IMAGES)
    model.to(dtype="float64")
    session = onnxruntime.InferenceSession(to_onnx(model, (3, 16, 16)).SerializeToString())
    assert same(session.run(None, {"x": IMAGES})[0], expected)


@pytest.mark.parametrize("model", [nn.Conv2D(4, 5, 1), nn.Sequential(("x", nn.ReLU()), ("logits", nn.Conv2D(4, 4, 1)))])
def test_names_never_collide(model):
    check(shake(model), X)


def test_a_network_in_training_mode_is_written_as_it_evaluates():
    model = trained_like(drop_path_rate=0.5)
    expected = outputs(model, IMAGES)
    model.train()
    session = onnxruntime.InferenceSession(to_onnx(model, (3, 16, 16)).SerializeToString())
    assert same(session.run(None, {"x": IMAGES})[0], expected) and model.training


def test_a_fasternet_inside_another_network_keeps_its_names():
    model = nn.Sequential(FasterNet(4, 0, 8, (1,), feature_dim=8, patch_size=1, merge_sizes=()), nn.Linear(8, 3))
    check(shake(model), X)
