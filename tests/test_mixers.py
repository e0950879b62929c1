import numpy as np
import paddle
import pytest
from paddle import nn

import paddle_fasternet as pf
from paddle_fasternet import FasterNet, PConv, TrainConfig, fit, load_run, mixers, plots, register_mixer
from paddle_fasternet.deploy.onnx_graph import WRITERS
from paddle_fasternet.mixers import MIXERS, make_mixer
from paddle_fasternet.model import VARIANTS
from paddle_fasternet.operators.costs import cost
from paddle_fasternet.training.native import why_not


@pytest.fixture(autouse=True)
def table_of_its_own(monkeypatch):
    monkeypatch.setitem(VARIANTS, "fasternet_t0", dict(embed_dim=8, depths=(1, 1, 1, 1), feature_dim=32))
    monkeypatch.setattr(plots, "save_figure", lambda *_: None)
    before = dict(MIXERS)
    yield
    MIXERS.clear()
    MIXERS.update(before)


def pconv5(dim):
    return PConv(dim, kernel_size=5)


@pytest.mark.parametrize("name", list(MIXERS))
def test_every_entry_serves_every_engine(name):
    entry = MIXERS[name]
    layer = make_mixer(name, 16)
    assert type(layer) is entry.layer and entry.layer in WRITERS
    weights = sum(parameter.size for parameter in layer.parameters())
    assert cost(name, 1, 1, 16).parameters == weights if name != "identity" else entry.cost(16, 3, 4, 16) == (0, 0)
    assert not entry.conv or isinstance(getattr(layer, entry.conv), nn.Conv2D)


@pytest.mark.parametrize("name", [name for name in MIXERS if "kernel_size" in MIXERS[name].arguments])
@pytest.mark.parametrize("size", [1, 5, 15])
def test_kernel_size_reaches_the_mixer_and_the_native_kernels(name, size):
    model = FasterNet(embed_dim=16, depths=(1,), merge_sizes=(), feature_dim=8, mixer=name, kernel_size=size)
    conv = getattr(model.stages[0].blocks[0].spatial_mixing, MIXERS[name].conv)
    assert conv.weight.shape[2:] == [size, size]
    assert "cannot be trained" not in why_not(model)
    assert model(paddle.zeros([1, 3, 32, 32])).shape == [1, 1000]


def test_a_registered_mixer_is_trained_recorded_and_found_again(tiny_set, tmp_path):
    register_mixer("pconv5", pconv5)
    register_mixer("pconv5", pconv5)  # a notebook's cell may run twice
    fit(TrainConfig(mixer="pconv5", epochs=1, batch_size=20), tiny_set, tiny_set, tmp_path, progress=False)
    model = load_run(tmp_path).model
    assert model.stages[0].blocks[0].spatial_mixing.partial_conv3.weight.shape[2:] == [5, 5]
    del MIXERS["pconv5"]
    with pytest.raises(ValueError, match=r"mixer='pconv5' is not known.*needs register_mixer\(name, build\) first"):
        load_run(tmp_path)


class Strided(nn.Conv2D):
    def __init__(self, dim):
        super().__init__(dim, dim, 3, stride=2, padding=1)


@pytest.mark.parametrize(("build", "message"), [
    (Strided, r"mixer='mine': its layer for dim=8 must keep the shape \[1, 8, 16, 16\], and gives \[1, 8, 8, 8\]"),
    (lambda dim: nn.Conv2D(3, dim, 1), "mixer='mine': its layer for dim=8 fails on an input of shape"),
    (nn.Softmax, r"must keep the shape|returned|fails"),
    (lambda dim: "conv", "mixer='mine' returned str for dim=8; it must return a Layer")])
def test_what_is_no_mixer_is_refused_when_it_is_built(build, message):
    register_mixer("mine", build)
    with pytest.raises((ValueError, TypeError), match=message):
        FasterNet(embed_dim=8, depths=(1,), merge_sizes=(), mixer="mine")


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (("pconv", pconv5), ValueError, "name='pconv' is the name of another mixer"),
    ((3, pconv5), TypeError, "name=3 must be a text"), (("", pconv5), ValueError, "name=''"),
    (("mine", "conv"), TypeError, "build='conv' must be a callable")])
def test_registration_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        register_mixer(*arguments)


@pytest.mark.parametrize("make", [
    lambda: TrainConfig(mixer="identity", kernel_size=5), lambda: make_mixer(pconv5, 8, kernel_size=5),
    lambda: register_mixer("pconv5", pconv5) or TrainConfig(mixer="pconv5", kernel_size=7)])
def test_a_kernel_size_that_nobody_reads_is_refused(make):
    with pytest.raises(ValueError, match=r"kernel_size=\d goes with"):
        make()


def test_the_shape_check_leaves_a_layer_as_it_was():
    class Normed(nn.Layer):
        def __init__(self, dim):
            super().__init__()
            self.norm = nn.BatchNorm2D(dim)

        def forward(self, x):
            return self.norm(x + 1)

    register_mixer("normed", Normed)
    layer = mixers.make_mixer("normed", 8)
    assert layer.training and layer.norm.training
    np.testing.assert_array_equal(layer.norm._mean.numpy(), 0)


def test_activation_and_kernel_size_are_settings(tiny_set, tmp_path):
    config = TrainConfig(act="silu", kernel_size=5, mixer="dwconv", epochs=1, batch_size=20)
    fit(config, tiny_set, tiny_set, tmp_path, progress=False)
    run = load_run(tmp_path)
    block = run.model.stages[0].blocks[0]
    assert run.config == config and type(block.mlp[2]) is nn.Silu
    assert block.spatial_mixing.conv.weight.shape[2:] == [5, 5]
    with pytest.raises(ValueError, match="act='gleu' is not known; did you mean 'gelu'"):
        TrainConfig(act="gleu")
    assert pf.create_model("fasternet_t0", kernel_size=7).stages[0].blocks[0].spatial_mixing.partial_conv3.weight.shape[
        2:] == [7, 7]


def test_settings_that_load_run_could_not_build_are_refused(tiny_set, tmp_path):
    class Other(TrainConfig):
        def build_model(self, num_classes, in_channels=3):
            return FasterNet(embed_dim=16, depths=(1,), merge_sizes=(), num_classes=num_classes)

    class Named(TrainConfig):
        """Only a name: its fields say all."""

    with pytest.raises(ValueError, match="config is a Other with a build_model of its own.*register_mixer"):
        fit(Other(epochs=1), tiny_set, tiny_set, tmp_path, progress=False)
    config = TrainConfig(epochs=1)
    object.__setattr__(config, "width", 3)
    with pytest.raises(ValueError, match="further field 'width'"):
        fit(config, tiny_set, tiny_set, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
    fit(Named(epochs=1, batch_size=20), tiny_set, tiny_set, tmp_path, progress=False)
