"""The native engine against the network itself; where it was not built, what it says."""
import os
import re
import types
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import paddle
import pytest
from networks import trained_like
from paddle import nn

from paddle_fasternet import FasterNet, fuse_conv_bn
from paddle_fasternet.deploy import ENGINES
from paddle_fasternet.deploy.native_form import native_settings
from paddle_fasternet.layers import Conv, DWConv, GConv, PConv
from paddle_fasternet.native import inference as native
from paddle_fasternet.native import library
from paddle_fasternet.training.native import why_not

BUILT = bool(library.available())
needs_native = pytest.mark.skipif(not BUILT, reason=library.why_not())

# every way in which sizes can be awkward: channels that fill no vector, one pixel, ragged borders, other strides
NETWORKS = [
    ({}, 16), ({"act_layer": nn.GELU}, 16), ({"mixer": "identity"}, 16), ({"n_div": 1}, 16), ({"n_div": 8}, 16),
    ({"embed_dim": 12, "n_div": 3}, 23), ({"embed_dim": 40, "act_layer": nn.GELU}, 37), ({"patch_size": 1}, 7),
    ({"patch_size": 2, "merge_sizes": (1,)}, 9), ({"embed_act": True}, 19), ({"embed_overlap": 1}, 19),
    ({"embed_overlap": 2, "patch_size": 1, "embed_dim": 24, "merge_sizes": (1,)}, 7), ({"num_classes": 0}, 16),
    ({"num_classes": 1}, 16), ({"in_channels": 1}, 16), ({"layer_scale_init_value": 0.3}, 16), ({"mlp_ratio": 1.5}, 16),
    ({"depths": (0, 2)}, 16), ({"depths": (2,), "merge_sizes": ()}, 4), ({"feature_dim": 7}, 16),
    ({"mixer": lambda dim: PConv(dim, kernel_size=5)}, 16), ({"mixer": lambda dim: PConv(dim, kernel_size=1)}, 16),
    ({"embed_dim": 136, "depths": (1, 1)}, 16),
]


def build(arguments):
    """(network, what NativeNetwork takes) with weights such that every layer matters."""
    folded = fuse_conv_bn(trained_like(1, **arguments))
    return folded, {"arrays": {name: value.numpy() for name, value in folded.state_dict().items()},
                    **native_settings(folded)}


def batch(count, size, channels=3):
    return np.random.RandomState(2).standard_normal((count, channels, size, size)).astype(np.float32)


def answer(model, x):
    with paddle.no_grad():
        return model(paddle.to_tensor(x)).numpy()


@needs_native
@pytest.mark.parametrize("arguments, size", NETWORKS, ids=str)
def test_logits_are_the_networks(arguments, size):
    model, given = build(arguments)
    x = batch(5, size, arguments.get("in_channels", 3))
    expected = answer(model, x)
    for kind in library.kinds():
        network = native.NativeNetwork(**given, precision=kind, threads=2)
        bound = (1e-5 if kind.startswith("fp32") else 0.05) * np.abs(expected).max()
        for count in (5, 1, 0):
            assert np.abs(network.logits(x[:count]) - expected[:count]).max(initial=0) <= bound, (kind, count)


MIXERS = {
    "pconv": PConv, "dwconv": DWConv, "conv": Conv, "gconv": GConv, "pconv, all": partial(PConv, n_div=1),
    "pconv, third": partial(PConv, n_div=3), "gconv, wide": partial(GConv, groups=2),
}


@needs_native
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("mixer", MIXERS)
def test_every_mixer(mixer, kernel):
    for size, more in [(13, {"patch_size": 1, "merge_sizes": (1,)}),
                       (19, {"embed_overlap": 1, "act_layer": nn.GELU, "embed_dim": 24, "patch_size": 2})]:
        model, given = build({"mixer": lambda dim: MIXERS[mixer](dim, kernel_size=kernel), "embed_dim": 12, **more})
        x = batch(3, size)
        expected = answer(model, x)
        for kind in library.kinds():
            bound = (0.06 if kind.startswith("bf16") else 1e-5) * np.abs(expected).max()
            results = [native.NativeNetwork(**given, precision=kind, threads=threads).logits(x) for threads in (1, 3)]
            assert np.abs(results[0] - expected).max() <= bound, kind
            assert np.array_equal(*results), kind


@needs_native
def test_neither_batch_nor_threads_change_an_answer():
    model, given = build({"embed_dim": 40, "act_layer": nn.GELU})
    x = batch(9, 24)
    for precision in library.available():
        one, three = (native.NativeNetwork(**given, precision=precision, threads=threads) for threads in (1, 3))
        together = one.logits(x)
        assert np.array_equal(three.logits(x), together)
        assert np.array_equal(np.concatenate([three.logits(x[i:i + 1]) for i in range(9)]), together)
        with ThreadPoolExecutor(3) as pool:
            assert all(np.array_equal(other, together) for other in pool.map(three.logits, [x] * 6))


@needs_native
@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_bytes_are_normalised_on_the_way(overlap):
    model, given = build({"embed_dim": 24, "embed_overlap": overlap})
    images = np.random.RandomState(3).randint(0, 256, (4, 20, 20, 3), np.uint8)
    mean, std = np.float32([120, 110, 100]), np.float32([60, 50, 55])
    x = np.ascontiguousarray(((images - mean) / std).transpose(0, 3, 1, 2), np.float32)
    expected = answer(model, x)
    network = native.NativeNetwork(**given, mean=mean, std=std)
    assert np.abs(network(images) - expected).max() <= 1e-5 * np.abs(expected).max()
    # planes first in memory, as LIME makes them
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    assert np.array_equal(network(planes), network(images))


@needs_native
def test_the_next_size_needs_no_new_network():
    model, given = build({})
    network = native.NativeNetwork(**given)
    for size, count in ((16, 2), (40, 3), (8, 1), (33, 40)):
        x = batch(count, size)
        expected = answer(model, x)
        assert np.abs(network.logits(x) - expected).max() <= 1e-5 * np.abs(expected).max()


@needs_native
def test_a_forked_child_has_its_own_threads():
    _, given = build({})
    network, x = native.NativeNetwork(**given, threads=2), batch(4, 16)
    expected = network.logits(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(network.logits(x), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0 and np.array_equal(network.logits(x), expected)


@needs_native
def test_what_does_not_fit_is_named():
    _, given = build({})
    network = native.NativeNetwork(**given)
    for x, message in [(batch(2, 16).astype(np.float64), "must be float32"), (batch(2, 16, 1), r"\[N, 3, H, W\]"),
                       (batch(2, 4), "smaller than the network's stride 8"),
                       (np.zeros(3, np.float32), "must be float32")]:
        with pytest.raises(ValueError, match=message):
            network.logits(x)
    with pytest.raises(ValueError, match="need mean and std"):
        network(np.zeros((1, 16, 16, 3), np.uint8))
    arrays = given["arrays"]
    for changed, message in [
            ({**arrays, "stages.0.blocks.0.spatial_mixing.conv.weight": np.ones((8, 1, 3, 3), np.float32)},
             "cannot be run by the native engine"),
            ({name: value for name, value in arrays.items() if "mlp.3" not in name}, "mlp.3.weight is missing"),
            ({**arrays, "head.weight": np.ones((3, 5), np.float32)}, r"head.weight has the shape \[3, 5\]")]:
        with pytest.raises(ValueError, match=message):
            native.NativeNetwork(changed, "relu")
    for more, message in [({"act": "gelo"}, "did you mean 'gelu'"), ({"precision": "fp16"}, "did you mean"),
                          ({"threads": 0}, "threads=0"), ({"mean": 3.0}, "must be given together"),
                          ({"mean": 3.0, "std": 0.0}, "must be positive"), ({"embed_overlap": 1}, "the overlap alone"),
                          ({"embed_overlap": -1}, "embed_overlap=-1")]:
        with pytest.raises(ValueError, match=message):
            native.NativeNetwork(**{**given, **more})


def test_other_networks_are_not_taken_for_a_fasternet():
    assert native_settings(paddle.vision.models.mobilenet_v1(num_classes=2)) is None
    tanh_form = FasterNet(embed_dim=8, depths=(1,), merge_sizes=(), act_layer=lambda: nn.GELU(approximate=True))
    assert native_settings(fuse_conv_bn(tanh_form)) is None


OTHER_STEMS = [dict(kernel_size=3, stride=2, padding=1), dict(kernel_size=2),
               dict(kernel_size=4, stride=4, padding="SAME"), dict(kernel_size=4, stride=4, dilation=2),
               dict(kernel_size=(4, 2), stride=(4, 2)), dict(kernel_size=6, stride=4, padding=[1, 1]),
               dict(kernel_size=6, stride=4, padding=1, padding_mode="reflect")]


@pytest.mark.parametrize("stem", OTHER_STEMS, ids=str)
@pytest.mark.cpu
def test_a_stem_of_another_kind_is_left_to_other_engines(stem):
    model = trained_like()
    assert native_settings(fuse_conv_bn(model)) is not None
    model.patch_embed.proj = nn.Conv2D(3, 8, bias_attr=False, **stem)
    assert native_settings(fuse_conv_bn(model)) is None
    assert not BUILT or "its stem or a merging layer" in why_not(model)


def test_an_overlap_in_one_place_alone_is_left_to_other_engines():
    model = trained_like()
    model.patch_embed.proj = nn.Conv2D(3, 8, 3, padding=1, bias_attr=False)
    assert native_settings(fuse_conv_bn(model)) is None


def put(path, layer):
    """A change of a network: this layer at that path, which does not change any shape."""
    def change(model):
        parent, _, name = path.rpartition(".")
        setattr(dict(model.named_sublayers(include_self=True))[parent], name, layer)
    return change


def append(path, layer):
    return lambda model: dict(model.named_sublayers())[path].add_sublayer("more", layer)


BLOCK = "stages.0.blocks.0"


@pytest.mark.parametrize("change", [
    put(f"{BLOCK}.mlp.2", nn.Identity()), put(f"{BLOCK}.mlp.2", nn.GELU()), append(f"{BLOCK}.mlp", nn.ReLU()),
    append("avgpool_pre_head", nn.ReLU()), append("stages", nn.ReLU()), append("stages.0.blocks", nn.ReLU()),
    put("avgpool_pre_head.2", nn.Identity()), put("avgpool_pre_head.0", nn.AdaptiveAvgPool2D((1, 2))),
    put("stages.1.act", nn.ReLU()), put("patch_embed.act", nn.GELU()), put(f"{BLOCK}.drop_path", nn.ReLU()),
    put(f"{BLOCK}.spatial_mixing.partial_conv3", nn.Conv2D(2, 2, 3, padding=2, dilation=2, bias_attr=False)),
    put(f"{BLOCK}.spatial_mixing.partial_conv3", nn.Conv2D(2, 2, 3, padding=1, padding_mode="reflect")),
    put(f"{BLOCK}.spatial_mixing.partial_conv3", nn.Conv2D(2, 2, 1, bias_attr=False, padding=[0, 0])),
    put(f"{BLOCK}.mlp.0", nn.Conv2D(8, 16, 1, groups=2)), put("head", nn.Sequential(nn.ReLU(), nn.Linear(16, 5))),
    lambda model: model.head.register_forward_post_hook(lambda layer, x, y: y / 4),
    lambda model: nn.utils.weight_norm(model.stages[0].blocks[0].mlp[3])])
def test_a_changed_fasternet_is_run_rightly_or_left_to_other_engines(change):
    model, x = trained_like(), batch(2, 16)
    change(model)
    model.eval()
    with paddle.no_grad():
        expected = None if "(1, 2)" in str(model.avgpool_pre_head[0]._output_size) else model(paddle.to_tensor(x))
    folded = fuse_conv_bn(model)
    settings = native_settings(folded)
    if settings is not None and BUILT and expected is not None:
        arrays = {name: value.numpy() for name, value in folded.state_dict().items()}
        assert np.abs(native.NativeNetwork(arrays, **settings).logits(x) - expected.numpy()).max() < 1e-4
    one_by_one = getattr(model.stages[0].blocks[0].spatial_mixing.partial_conv3, "_kernel_size", None) == [1, 1]
    assert (settings is not None) == one_by_one


CHANGED_TRAINING = [
    (put(f"{BLOCK}.mlp.2", nn.Identity()), "its activation is"), (append(f"{BLOCK}.mlp", nn.ReLU()), BLOCK),
    (append("stages", nn.ReLU()), "stages"), (append("stages.0.blocks", nn.ReLU()), "no FasterNetBlock"),
    (put("avgpool_pre_head.0", nn.AdaptiveAvgPool2D(2)), r"avgpool_pre_head\.0"),
    (put("stages.1.act", nn.ReLU()), r"stages\.1"), (put(f"{BLOCK}.drop_path", nn.ReLU()), BLOCK),
    (put(f"{BLOCK}.spatial_mixing.partial_conv3", nn.Conv2D(2, 2, 3, padding=2, dilation=2, bias_attr=False)), BLOCK),
    (put(f"{BLOCK}.mlp.0", nn.Conv2D(8, 16, 1, groups=2, bias_attr=False)), BLOCK),
    (lambda model: model.stages[0].register_forward_post_hook(lambda layer, x, y: y / 4), r"stages\.0, which has a fo"),
    (lambda model: nn.utils.weight_norm(model.stages[0].blocks[0].mlp[3]), r"mlp\.3, which has a forward pre-hook")]


@needs_native
@pytest.mark.parametrize(("change", "named"), CHANGED_TRAINING)
def test_training_refuses_a_changed_fasternet(change, named):
    model = FasterNet(embed_dim=8, depths=(2, 1), merge_sizes=(2,), feature_dim=16, num_classes=5)
    assert why_not(model) == ""
    model.head.register_forward_post_hook(lambda layer, x, y: y / 4)  # the head is called
    assert why_not(model) == ""
    change(model)
    assert re.search(named, why_not(model))


def test_weights_in_bfloat16_are_read_as_numbers():
    model = trained_like()
    model.to(dtype="bfloat16")
    files = types.SimpleNamespace(classifier=model, network=fuse_conv_bn(model))
    arrays, _ = ENGINES["native"].read(files)
    assert np.allclose(arrays["head.weight"], model.head.weight.astype("float32").numpy())


@needs_native
@pytest.mark.cpu
def test_training_refuses_a_convolution_with_a_bias():
    model = trained_like()
    model.patch_embed.proj = nn.Conv2D(3, 8, 4, stride=4)
    assert "has a bias" in why_not(model)


@needs_native
def test_arrays_of_other_types_and_layouts_are_copied_once():
    _, given = build({})
    x = batch(2, 16)
    expected = native.NativeNetwork(**given).logits(x)
    given["arrays"] = {name: np.asfortranarray(value.astype(np.float64)) for name, value in given["arrays"].items()}
    np.testing.assert_array_equal(native.NativeNetwork(**given).logits(x), expected)


@needs_native
def test_a_build_of_other_sources_is_not_used(monkeypatch):
    monkeypatch.setattr(library, "_built_from", lambda library: "older")
    library.load_library.cache_clear()
    try:
        assert library.available() == () and "built from other sources" in library.why_not()
    finally:
        library.load_library.cache_clear()


def test_a_missing_build_says_what_to_do(monkeypatch):
    monkeypatch.setattr(library.Path, "glob", lambda *_: [])
    library.load_library.cache_clear()
    try:
        assert library.available() == () and library.kinds() == {}
        assert "install g++" in library.why_not()
        with pytest.raises(RuntimeError, match="install g\\+\\+"):
            native.NativeNetwork({}, "relu")
    finally:
        library.load_library.cache_clear()
