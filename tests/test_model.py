import inspect
import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from networks import RECORDED
from paddle import nn

import paddle_fasternet
from paddle_fasternet import (
    FasterNet,
    FasterNetBlock,
    LabelSmoothingCrossEntropy,
    TrainConfig,
    create_model,
    list_models,
)
from paddle_fasternet.benchmark import count_macs, count_parameters

GOLDEN = Path(__file__).parent / "golden"
# parameters and multiply-adds at 224 x 224 of the official network (its own code, counted)
COUNTS = json.loads((GOLDEN / "official_counts.json").read_text())
TINY = dict(embed_dim=8, depths=(1, 1, 2, 1), feature_dim=16, num_classes=5)


def tiny(**kwargs):
    model = FasterNet(**{**TINY, **kwargs})
    model.eval()
    return model


def trainable(layer):
    """Named parameters without BatchNorm's statistics, which Paddle counts among them."""
    return {name: parameter for name, parameter in layer.named_parameters() if not parameter.stop_gradient}


@pytest.mark.parametrize("name", list_models())
def test_parameters_and_macs_equal_the_official_counts(name):
    counts = COUNTS[name.split("_")[1]]
    for classes in (10, 1000):
        model = create_model(name, num_classes=classes)
        assert count_parameters(model) == counts[f"parameters_{classes}"]
        assert count_macs(model, 224) == counts[f"macs_224_{classes}"]


def test_paddleclas_file_loads_under_its_own_names_and_gives_its_logits():
    model = FasterNet(**RECORDED)
    missing, unexpected = model.set_state_dict(paddle.load(str(GOLDEN / "paddleclas_tiny.pdparams")))
    assert not missing and not unexpected
    model.eval()
    recorded = np.load(GOLDEN / "paddleclas_tiny.npz")
    logits = model(paddle.to_tensor(recorded["x"])).numpy()
    np.testing.assert_allclose(logits, recorded["logits"], rtol=0, atol=1e-5 * np.abs(recorded["logits"]).max())


def test_variants_build_with_ten_classes_and_are_what_create_model_builds():
    for name in list_models():
        function = getattr(paddle_fasternet, name)
        assert inspect.signature(function).parameters["num_classes"].default == 10
        paddle.seed(3)
        ours = function(depths=(1, 1, 1, 1), embed_dim=8)
        paddle.seed(3)
        built = create_model(name, depths=(1, 1, 1, 1), embed_dim=8)
        for (key, a), (_, b) in zip(ours.state_dict().items(), built.state_dict().items()):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=key)


@pytest.mark.parametrize("name", ["fasternet_t0.in1k", "timm/fasternet_t0.in1k", "hf-hub:timm/fasternet_t0.in1k"])
def test_timms_names_are_understood(name):
    shapes = {name: value.shape for name, value in create_model("fasternet_t0").state_dict().items()}
    assert {name: value.shape for name, value in create_model(name).state_dict().items()} == shapes
    assert TrainConfig(model=name).model == "fasternet_t0"


@pytest.mark.parametrize("name", ["fasternet_t0.in22k", "run/fasternet_t0", "timm/resnet50.in1k", ".in1k"])
def test_other_names_like_timms_are_refused(name):
    with pytest.raises(ValueError, match="is not known"):
        create_model(name)


def test_stage_maps_have_strides_4_8_16_32():
    maps = tiny().forward_features(paddle.randn([2, 3, 64, 96]))
    assert [m.shape for m in maps] == [[2, 8, 16, 24], [2, 16, 8, 12], [2, 32, 4, 6], [2, 64, 2, 3]]


@pytest.mark.parametrize(("kwargs", "side"), [
    ({}, 32), ({}, 33), ({}, 75), ({"patch_size": 1}, 8), ({"patch_size": 2}, 16), ({"patch_size": 3}, 32),
    ({"merge_sizes": (1, 2, 2)}, 32), ({"merge_sizes": (1, 1, 1), "patch_size": 1}, 1),
    ({"embed_overlap": 1}, 32), ({"embed_overlap": 3, "patch_size": 2, "merge_sizes": (1, 2, 1)}, 4)])
def test_any_input_from_the_stride_up(kwargs, side):
    assert tiny(**kwargs)(paddle.randn([2, 3, side, side])).shape == [2, 5]


@pytest.mark.parametrize("kwargs", [
    {"num_classes": 0}, {"in_channels": 1}, {"depths": (1, 2), "merge_sizes": (2,)},
    {"depths": (2,), "merge_sizes": ()}, {"n_div": 2}, {"mlp_ratio": 3}, {"layer_scale_init_value": 0.3},
    {"norm_layer": nn.Identity}, {"embed_act": True}, {"embed_overlap": 1},
    {"mixer": "dwconv"}, {"mixer": "gconv"}, {"mixer": "conv"}, {"mixer": "identity"},
    {"mixer": lambda dim: nn.Conv2D(dim, dim, 5, padding=2)}])
def test_every_option_trains_every_parameter(kwargs):
    model = FasterNet(**{**TINY, "drop_path_rate": 0.0, **kwargs})
    out = model(paddle.randn([4, kwargs.get("in_channels", 3), 64, 64]))
    assert out.shape == [4, 16 if kwargs.get("num_classes") == 0 else 5]
    (out**2).mean().backward()
    for name, parameter in trainable(model).items():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name


def test_embed_overlap_lets_patches_reach_into_their_neighbours():
    paddle.seed(0)
    plain, wide = tiny(), tiny(embed_overlap=2)
    assert wide.patch_embed.proj.weight.shape == [8, 3, 8, 8] and wide.stages[1].reduction.weight.shape[2:] == [6, 6]
    inner = paddle.zeros_like(wide.patch_embed.proj.weight)
    inner[:, :, 2:-2, 2:-2] = plain.patch_embed.proj.weight
    wide.patch_embed.proj.weight.set_value(inner)
    x = paddle.randn([2, 3, 67, 64])
    np.testing.assert_allclose(wide.patch_embed(x).numpy(), plain.patch_embed(x).numpy(), atol=1e-6)


def test_embed_act_puts_the_activation_behind_stem_and_merging():
    paddle.seed(0)
    plain = tiny()
    with_act = tiny(embed_act=True)
    with_act.set_state_dict(plain.state_dict())
    x = paddle.randn([1, 3, 32, 32])
    stem = plain.patch_embed(x)
    np.testing.assert_array_equal(with_act.patch_embed(x).numpy(), nn.functional.relu(stem).numpy())
    merge = plain.stages[1](stem)
    np.testing.assert_array_equal(with_act.stages[1](stem).numpy(), nn.functional.relu(merge).numpy())


def test_drop_path_rises_linearly_over_the_blocks():
    model = FasterNet(**{**TINY, "drop_path_rate": 0.4})
    rates = [layer.drop_path.drop_prob for layer in model.sublayers() if isinstance(layer, FasterNetBlock)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_initialisation_is_the_authors():
    paddle.seed(0)
    model = create_model("fasternet_t0")
    weights = model.stages[6].blocks[0].mlp[0].weight.numpy()
    assert weights.std() == pytest.approx(0.02, rel=0.02) and abs(weights.mean()) < 1e-3
    assert (model.head.bias.numpy() == 0).all()
    norm = model.patch_embed.norm
    assert norm._momentum == 0.9 and norm._epsilon == 1e-5  # torch's momentum 0.1 and epsilon 1e-5


def test_block_by_hand():
    block = FasterNetBlock(8, layer_scale_init_value=0.5, norm_layer=nn.Identity)
    x = paddle.randn([2, 8, 3, 3])
    first, second = (layer.weight.numpy()[:, :, 0, 0] for layer in (block.mlp[0], block.mlp[3]))
    mixed = block.spatial_mixing(x).numpy()
    hidden = np.maximum(np.einsum("oc,nchw->nohw", first, mixed), 0)
    expected = x.numpy() + 0.5 * np.einsum("oc,nchw->nohw", second, hidden)
    np.testing.assert_allclose(block(x).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mixer", ["pconv", "dwconv"])
def test_gradients_of_a_block_equal_differences(mixer, check_gradient):
    block = FasterNetBlock(8, layer_scale_init_value=0.5, act_layer=nn.GELU, mixer=mixer)
    block.to(dtype="float64")
    x = paddle.randn([3, 8, 3, 3]).astype("float64")
    x.stop_gradient = False
    check_gradient(lambda: (block(x) ** 2).sum(), {"x": x, **trainable(block)}, tolerance=1e-4)


def test_drop_path_of_one_leaves_the_shortcut():
    block = FasterNetBlock(8, drop_path=1.0)
    x = paddle.randn([2, 8, 3, 3])
    np.testing.assert_array_equal(block(x).numpy(), x.numpy())


def test_to_static_gives_the_same_logits():
    model = tiny()
    x = paddle.randn([2, 3, 64, 64])
    expected = model(x).numpy()
    static = paddle.jit.to_static(model)
    np.testing.assert_allclose(static(x).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.cpu
def test_to_static_trains():
    paddle.seed(0)
    model = paddle.jit.to_static(FasterNet(**{**TINY, "drop_path_rate": 0.2}))
    loss = LabelSmoothingCrossEntropy()(model(paddle.randn([4, 3, 32, 32])), paddle.to_tensor([0, 1, 2, 3]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in trainable(model).values())


@pytest.mark.parametrize("mixer", ["pconv", "dwconv", "gconv", "conv", "identity"])
def test_summary_and_flops(mixer, capsys):
    model = tiny(mixer=mixer)
    info = paddle.summary(model, (1, 3, 64, 64))
    assert int(info["trainable_params"]) == count_parameters(model)
    # Paddle's count adds BatchNorm and pooling to the multiply-adds: two for a value and one
    flops = paddle.flops(model, [1, 3, 64, 64])
    assert count_macs(model, 64) < flops < 1.35 * count_macs(model, 64)
    capsys.readouterr()


def test_high_level_api_trains_it(tiny_set):
    images = (tiny_set.images / 255).astype(np.float32)
    data = paddle.io.TensorDataset([paddle.to_tensor(images), paddle.to_tensor(tiny_set.labels[:, None])])
    model = paddle.Model(FasterNet(**{**TINY, "num_classes": 4}))
    model.prepare(paddle.optimizer.AdamW(1e-2, parameters=model.parameters()), LabelSmoothingCrossEntropy(),
                  paddle.metric.Accuracy())
    model.fit(data, epochs=4, batch_size=20, verbose=0)
    losses = [model.train_batch([images], [tiny_set.labels[:, None]])[0][0] for _ in range(8)]
    assert np.ravel(losses[-1])[0] < 1.1  # untrained: ln 4 = 1.39


def test_he_initialisation_keeps_the_size_of_what_it_is_given():
    paddle.seed(0)
    model = create_model("fasternet_t0", init="he")
    block = model.stages[6].blocks[0]
    for conv, inputs in ((block.mlp[0], 320), (block.mlp[3], 640), (block.spatial_mixing.partial_conv3, 80 * 9)):
        assert conv.weight.numpy().std() == pytest.approx((2 / inputs) ** 0.5, rel=0.02)
    x = paddle.nn.functional.relu(paddle.randn([4, 640, 4, 4]))
    assert block.mlp[3](x).square().mean().item() == pytest.approx(1, rel=0.1)  # relu halves a square, 2 doubles it
    assert model.head.weight.numpy().std() == pytest.approx(0.02, rel=0.05) and (model.head.bias.numpy() == 0).all()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: tiny(init="hee"), "init='hee' is not known; did you mean 'he'"),
    (lambda: create_model("fasternet_to"), "name='fasternet_to' is not known; did you mean 'fasternet_t"),
    (lambda: tiny(mixer="dwcnv"), "mixer='dwcnv' is not known; did you mean 'dwconv'"),
    (lambda: tiny(merge_sizes=(2, 2)), r"merge_sizes=\(2, 2\) must have one entry fewer than depths"),
    (lambda: tiny(patch_size=0), "patch_size=0 must be an integer >= 1"),
    (lambda: tiny(drop_path_rate=2), "drop_path_rate=2"),
    (lambda: tiny(embed_dim=6), "dim=6 cannot be split into n_div=4 parts"),
    (lambda: tiny(layer_scale_init_value=-1), "layer_scale_init_value=-1"),
    (lambda: tiny()(paddle.ones([1, 3, 31, 40])), "input of 31 x 40 pixels is smaller than the network's stride 32"),
    (lambda: tiny()(paddle.ones([1, 1, 32, 32])), r"input of shape \[1, 1, 32, 32\] must be \[N, 3, H, W\]"),
    (lambda: tiny()(paddle.ones([3, 32, 32])), r"input of shape \[3, 32, 32\]"),
])
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: tiny(depths=3), "depths=3 must be a sequence of integers"),
    (lambda: tiny(merge_sizes=2), "merge_sizes=2 must be a sequence of integers"),
    (lambda: tiny(act_layer="relu"), "act_layer='relu' must be a layer class"),
    (lambda: FasterNetBlock("8"), "dim='8' must be an integer"),
    (lambda: tiny()(np.ones([1, 3, 32, 32], np.float32)), "input must be a Tensor, not ndarray"),
])
def test_bad_types_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_inputs_of_other_types_are_refused(dtype):
    with pytest.raises(ValueError, match=f"input of type .*{dtype} must be .*float32; uint8 images go through"):
        tiny()(paddle.ones([1, 3, 32, 32]).astype(dtype))


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="patch_sz"):
        create_model("fasternet_t0", patch_sz=2)
