"""Training that starts from weights: what is taken, what is resampled, what stays as it is."""
import copy
import json
import pickle

import numpy as np
import paddle
import pytest
from paddle import nn

from paddle_fasternet import (
    DWConv,
    FasterNet,
    LabelSmoothingCrossEntropy,
    TrainConfig,
    fit,
    load_run,
    plots,
    register_mixer,
    save_weights,
)
from paddle_fasternet.data import ImageSet, Loader
from paddle_fasternet.mixers import MIXERS
from paddle_fasternet.model import VARIANTS
from paddle_fasternet.training import small, start, trainer
from paddle_fasternet.training.parallel import Processes
from paddle_fasternet.weights import read_weights, resample_patches

QUICK = dict(epochs=2, batch_size=20, lr=4e-3, augment="flip", warmup_epochs=0.5)
SMALL = dict(embed_dim=8, depths=(1, 1, 1, 1), feature_dim=32)


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    monkeypatch.setitem(VARIANTS, "fasternet_t0", SMALL)
    monkeypatch.setitem(VARIANTS, "fasternet_t1", dict(SMALL, depths=(1, 1, 2, 1)))
    monkeypatch.setattr(plots, "save_figure", lambda *_: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on four colours, with the default settings of the network."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    colours = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])
    images = (colours[labels][:, :, None, None] + rng.integers(-30, 31, (40, 3, 32, 32))).clip(0, 255).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "fasternet_t0", SMALL)
        patch.setattr(plots, "save_figure", lambda *_: None)
        fit(TrainConfig(**{**QUICK, "epochs": 12}), *[ImageSet(images, labels, ("red", "green", "blue", "yellow"))] * 2,
            folder, progress=False)
    return folder


def begin(pretrained, images, **settings):
    """A ``Trainer`` that starts from ``pretrained``."""
    config = TrainConfig(**{**QUICK, **settings})
    return trainer.Trainer(config, images, Processes(), start.find_source(pretrained, config))


def other_classes(images, names=("a", "b", "c", "d")):
    return ImageSet(images.images, images.labels % len(names), names)


def weights_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("form", ["folder", "run", "network", "classifier", "pdparams", "pth", "safetensors"])
def test_every_source_gives_its_weights(trained, tiny_set, tmp_path, form):
    run = load_run(trained)
    path = tmp_path / f"weights.{form}"
    if form in ("pdparams", "pth", "safetensors"):
        save_weights(run.model, path)
    source = {"folder": str(trained), "run": run, "network": run.model, "classifier": run.classifier}.get(form, path)
    training = begin(source, tiny_set)
    expected = weights_of(run.model)
    for name, value in weights_of(training.model).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert len(training.remarks) == 1 and training.remarks[0].endswith("all weights are taken")
    training = begin(source, other_classes(tiny_set, ("a", "b", "c")))
    assert "head starts fresh (3 classes instead of 4)" in training.remarks[0]
    assert training.model.head.weight.shape == [32, 3]
    np.testing.assert_array_equal(training.model.patch_embed.proj.weight.numpy(), expected["patch_embed.proj.weight"])


def test_the_shipped_weights_and_imagenets(tiny_set, monkeypatch, tmp_path):
    monkeypatch.undo()
    config = TrainConfig(merge_sizes=(1, 2, 2), embed_overlap=1)
    source = start.find_source("cifar10", config)
    training = trainer.Trainer(config, tiny_set, Processes(), source)
    assert training.remarks == ["pretrained='cifar10': head starts fresh (4 classes instead of 10)"]
    monkeypatch.setattr(start, "fetch_pretrained", lambda name: tmp_path / f"{name}.pdparams")
    save_weights(FasterNet(**VARIANTS["fasternet_t0"]), tmp_path / "fasternet_t0.pdparams")
    config = TrainConfig()
    training = trainer.Trainer(config, tiny_set, Processes(), start.find_source(True, config))
    assert training.remarks == ["pretrained='imagenet': head starts fresh (4 classes instead of 1000); "
                                "patch_embed.proj is resampled from 4 x 4 to 2 x 2 pixels"]


def test_a_head_of_as_many_other_classes_starts_fresh(trained, tiny_set):
    training = begin(trained, other_classes(tiny_set))
    assert "head starts fresh (other classes)" in training.remarks[0]
    assert (training.model.head.bias.numpy() == 0).all()


def test_a_stem_of_other_channels_starts_fresh_with_its_norm(trained, tiny_set):
    grey = ImageSet(tiny_set.images[:, :1], tiny_set.labels, tiny_set.class_names)
    training = begin(trained, grey)
    assert "patch_embed starts fresh (in_channels 1 instead of 3)" in training.remarks[0]
    np.testing.assert_array_equal(training.model.patch_embed.norm._mean.numpy(), 0)


@pytest.mark.parametrize(("change", "argument", "there"), [
    ({"model": "fasternet_t1"}, "model='fasternet_t1'", "has fasternet_t0"),
    ({"mixer": "dwconv"}, "mixer='dwconv'", ""), ({"mixer": "identity"}, "mixer='identity'", ""),
    ({"n_div": 2}, "n_div=2", ""),
    ({"kernel_size": 5}, "kernel_size=5", "has kernels of 3 x 3"), ({"act": "gelu"}, "act='gelu'", "has ReLU"),
    ({"embed_act": True}, "embed_act=True", "has Identity")])
def test_another_network_is_refused_by_the_arguments_name(trained, tiny_set, change, argument, there):
    for source in (trained, load_run(trained).model):
        with pytest.raises(ValueError, match=f"{argument}, but pretrained=.*{there}"):
            begin(source, tiny_set, **change)


def test_a_mixer_of_the_same_weights_but_another_class_is_refused(trained, tiny_set, monkeypatch):
    class Doubled(DWConv):
        def forward(self, x):
            return 2 * super().forward(x)

    monkeypatch.setitem(MIXERS, "doubled", None)
    del MIXERS["doubled"]
    register_mixer("doubled", Doubled)
    model = TrainConfig(mixer="doubled").build_model(4)
    with pytest.raises(ValueError, match="mixer='dwconv', but pretrained='a network' has Doubled"):
        begin(model, tiny_set, mixer="dwconv")


@pytest.mark.parametrize(("source", "error", "message"), [
    ("nowhere", FileNotFoundError, "pretrained='nowhere': there is no such file or folder"),
    (3, TypeError, "pretrained=3 must be True"), (nn.Linear(2, 2), TypeError, "must be True")])
def test_what_is_no_source_is_refused(tiny_set, source, error, message):
    with pytest.raises(error, match=message):
        begin(source, tiny_set)


def test_resampled_patches_compute_the_same_at_another_resolution():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 3, 2, 2)).astype(np.float32)
    image = paddle.to_tensor(rng.standard_normal((1, 3, 16, 16)).astype(np.float32))
    convolve = nn.functional.conv2d
    larger = paddle.to_tensor(resample_patches(weight, (2, 0), (4, 0)))
    np.testing.assert_allclose(convolve(image, larger, stride=4).numpy(),
                               convolve(nn.functional.avg_pool2d(image, 2), paddle.to_tensor(weight), stride=2).numpy(),
                               atol=1e-5)
    smaller = paddle.to_tensor(resample_patches(larger.numpy(), (4, 0), (2, 0)))
    doubled = nn.functional.interpolate(image, scale_factor=2, mode="nearest")
    np.testing.assert_allclose(convolve(image, smaller, stride=2).numpy(), convolve(doubled, larger, stride=4).numpy(),
                               atol=1e-5)
    # an overlap that is added reads nothing new
    wider = paddle.to_tensor(resample_patches(weight, (2, 0), (2, 1)))
    np.testing.assert_allclose(convolve(image, wider, stride=2, padding=1).numpy(),
                               convolve(image, paddle.to_tensor(weight), stride=2).numpy(), atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [((2, 1), (4, 0)), ((4, 1), (2, 0)), ((1, 1), (2, 1)), ((3, 0), (2, 1))])
def test_resampling_keeps_the_response_to_a_constant(old, new):
    sizes = [step + 2 * overlap for step, overlap in (old, new)]
    weight = np.random.default_rng(0).standard_normal((2, 3, sizes[0], sizes[0]))
    found = resample_patches(weight, old, new)
    assert found.shape == (2, 3, sizes[1], sizes[1])
    np.testing.assert_allclose(found.sum((2, 3)), weight.sum((2, 3)), atol=1e-5)


def test_patches_of_another_size_are_resampled_and_said(trained, tiny_set):
    training = begin(trained, tiny_set, patch_size=4, merge_sizes=(1, 2, 2))
    assert training.remarks[0].endswith("patch_embed.proj is resampled from 2 x 2 to 4 x 4 pixels; "
                                        "stages.1.reduction is resampled from 2 x 2 to 1 x 1 pixels")
    old = load_run(trained).model.patch_embed.proj.weight.numpy()
    np.testing.assert_allclose(training.model.patch_embed.proj.weight.numpy(), np.kron(old, np.full((2, 2), 0.25)),
                               atol=1e-6)


@pytest.mark.parametrize("change", [{}, {"optimizer": "muon"}, {"ema_decay": 0.9},
                                    {"early_epochs": 1, "early_size": 16}])
def test_a_frozen_backbone_stays_and_the_head_is_trained(trained, tiny_set, tmp_path, change):
    config = TrainConfig(**{**QUICK, "epochs": 5, **change}, freeze="backbone")
    history = fit(config, *[other_classes(tiny_set)] * 2, tmp_path, pretrained=trained, progress=False)
    before, after = weights_of(load_run(trained).model), weights_of(load_run(tmp_path, "final").model)
    assert {name for name in before if (before[name] != after[name]).any()} == {"head.weight", "head.bias"}
    assert history.epochs[-1]["train_loss"] < history.epochs[0]["train_loss"]


def test_features_of_a_frozen_backbone_are_the_networks(trained, tiny_set):
    training = begin(trained, other_classes(tiny_set), freeze="backbone")
    images, labels = next(iter(Loader(tiny_set, 8)))
    training.model.eval()
    expected = float(LabelSmoothingCrossEntropy(0.1)(training.model(images), labels))
    training._train_mode()
    assert float(training.step_once(images, labels)[0]) == pytest.approx(expected, abs=1e-5)
    assert not training.model.patch_embed.norm.training and training.model.head.training


def test_a_fresh_stem_of_a_frozen_backbone_is_trained(trained, tiny_set, tmp_path, capsys):
    grey = ImageSet(tiny_set.images[:, :1], tiny_set.labels, tiny_set.class_names)
    fit(TrainConfig(**QUICK, freeze="backbone"), grey, grey, tmp_path, pretrained=trained, progress=False)
    assert "patch_embed is trained too, so every step goes through the whole network" in capsys.readouterr().err
    model, before = load_run(tmp_path, "final").model, load_run(trained).model
    for name, value in weights_of(before).items():
        if not name.startswith(("head.", "patch_embed.")):
            np.testing.assert_array_equal(value, weights_of(model)[name], err_msg=name)
    assert (model.patch_embed.norm.weight.numpy() != 1).any()


def test_settings_of_the_backbone_need_weights(tiny_set, tmp_path):
    for change in ({"freeze": "backbone"}, {"backbone_lr": 0.1}):
        with pytest.raises(ValueError, match="the backbone would be random; give pretrained"):
            fit(TrainConfig(**QUICK, **change), tiny_set, tiny_set, tmp_path, progress=False)
    with pytest.raises(ValueError, match="backbone_lr=0: freeze='backbone' leaves"):
        TrainConfig(backbone_lr=0)
    with pytest.raises(ValueError, match="kernels='native': they train the backbone, which freeze='backbone' leaves"):
        begin(FasterNet(num_classes=4, **SMALL, patch_size=2), tiny_set, freeze="backbone", kernels="native")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("kernels", ["auto", "paddle"])
def test_the_backbones_rate_is_a_factor_on_its_update(trained, tiny_set, optimizer, kernels):
    """The first update of AdamW and Muon is proportional to the rate, whatever the gradient's size."""
    changes = []
    for factor in (1.0, 0.25):
        training = begin(trained, other_classes(tiny_set), backbone_lr=factor, optimizer=optimizer, kernels=kernels,
                         weight_decay=0, clip_grad=0, amp="off", augment="none")
        before = weights_of(training.model)
        training._train_mode()
        training.step_once(*next(iter(Loader(tiny_set, 8))))
        after = weights_of(training.model)
        changes.append({name: after[name] - before[name] for name in before})
    for name in ("stages.0.blocks.0.mlp.0.weight", "patch_embed.proj.weight", "head.weight"):
        factor = 1 if name.startswith("head.") else 0.25
        np.testing.assert_allclose(changes[1][name], factor * changes[0][name], atol=3e-7, err_msg=name)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("change", [{}, {"freeze": "backbone"}, {"backbone_lr": 0.2, "optimizer": "muon"},
                                    {"balance": "sampling"}])
def test_a_run_from_weights_resumes_to_the_bit(trained, tiny_set, tmp_path, monkeypatch, change):
    config, images = TrainConfig(**QUICK, **change), other_classes(tiny_set)
    settings = dict(pretrained=trained, progress=False)
    fit(config, images, images, tmp_path / "whole", **settings)
    real = trainer.Trainer._fetch

    def fetch(self, *args):
        if self.steps == 3:
            raise Killed
        return real(self, *args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(trainer.Trainer, "_fetch", fetch)
        fit(config, images, images, tmp_path / "killed", checkpoint_seconds=0, **settings)
    with pytest.raises(ValueError, match="pretrained is '.*' there, None here"):
        fit(TrainConfig(**QUICK), images, images, tmp_path / "killed", progress=False, resume=True)
    fit(config, images, images, tmp_path / "killed", resume=True, **settings)
    for name in ("best_model.pdparams", "final_model.pdparams"):
        whole, killed = (read_weights(tmp_path / folder / name) for folder in ("whole", "killed"))
        assert {key: value.tobytes() for key, value in whole.items()} == {
            key: value.tobytes() for key, value in killed.items()}


def test_where_a_run_started_is_recorded_and_other_weights_are_not_resumed(trained, tiny_set, tmp_path):
    config, folder = TrainConfig(**QUICK), tmp_path / "run"
    fit(config, tiny_set, tiny_set, folder, pretrained=trained, progress=False)
    record = json.loads((folder / "config.json").read_text())["pretrained"]
    assert record["from"] == str(trained) and len(record["checksum"]) == 8
    fit(config, tiny_set, tiny_set, folder, pretrained=load_run(trained).model, progress=False, resume=True)  # the same
    other = TrainConfig().build_model(4)
    with pytest.raises(ValueError, match="pretrained is '.*' there, 'a network' here"):
        fit(config, tiny_set, tiny_set, folder, pretrained=other, progress=False, resume=True)


def test_more_epochs_are_another_run(trained, tiny_set, tmp_path):
    config = TrainConfig(**QUICK)
    fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="epochs is 2 there, 5 here.*finish this run with epochs=2.*pretrained='.*run'"
                       ):
        fit(TrainConfig(**{**QUICK, "epochs": 5}), tiny_set, tiny_set, tmp_path / "run", progress=False, resume=True)


# ---- uneven classes ----

@pytest.fixture
def uneven(tiny_set):
    """30 red, 6 green, 3 blue, 1 yellow."""
    labels = np.repeat([0, 1, 2, 3], [30, 6, 3, 1])
    return ImageSet(tiny_set.images, labels, tiny_set.class_names)


def test_weighted_loss_by_hand():
    logits = paddle.to_tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    p = np.log(np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True))
    losses = [-(0.9 * p[i, k] + 0.1 * p[i].mean()) for i, k in enumerate((0, 0, 1))]
    loss = LabelSmoothingCrossEntropy(0.1, weight=[1, 3])
    hard = loss(logits, paddle.to_tensor([0, 0, 1]))
    assert float(hard) == pytest.approx((losses[0] + losses[1] + 3 * losses[2]) / 5, rel=1e-6)
    assert float(loss(logits, paddle.to_tensor([[1.0, 0], [1, 0], [0, 1]]))) == pytest.approx(float(hard), rel=1e-6)
    assert float(loss(logits[:1], paddle.to_tensor([[0.5, 0.5]]))) == pytest.approx(
        -(0.9 * p[0].mean() + 0.1 * p[0].mean()), rel=1e-6)
    even = LabelSmoothingCrossEntropy(0.1, weight=[2, 2])(logits, paddle.to_tensor([0, 0, 1]))
    assert float(even) == pytest.approx(float(LabelSmoothingCrossEntropy(0.1)(logits, paddle.to_tensor([0, 0, 1]))))
    static = paddle.jit.to_static(lambda logits, labels: loss(logits, labels))
    assert float(static(logits, paddle.to_tensor([[0], [0], [1]]))) == pytest.approx(float(hard), rel=1e-6)
    for weight, message in [([1, 0], "positive"), ([[1]], "positive"), ([1, 2, 3], "3 values for logits of 2 classes")]:
        with pytest.raises(ValueError, match=message):
            LabelSmoothingCrossEntropy(0.1, weight)(logits, paddle.to_tensor([0, 0, 1]))


def test_class_weights_by_hand(uneven):
    np.testing.assert_allclose(small.class_weights(uneven), [1 / 3, 40 / 24, 40 / 12, 10])
    assert small.class_weights(uneven)[uneven.labels].mean() == pytest.approx(1)
    np.testing.assert_allclose(small.class_weights(uneven[:36]), [36 / 60, 3, 1, 1])


def test_balanced_sampling_is_even_in_classes_and_fair_to_images(uneven):
    loader = Loader(uneven, 40, shuffle=True, balanced=True, seed=3, workers=0)
    epochs = [loader.images.labels[order] for order in (loader._order(0), loader._order(1))]
    assert [np.bincount(labels).tolist() for labels in epochs] == [[10] * 4] * 2
    for label in (1, 2, 3):
        times = np.bincount(loader._order(0), minlength=40)[uneven.labels == label]
        assert times.max() - times.min() <= 1 and times.min() >= 1
    assert np.bincount(loader._order(0), minlength=40)[uneven.labels == 0].max() == 1
    assert (loader._order(0) == Loader(uneven, 40, shuffle=True, balanced=True, seed=3)._order(0)).all()
    assert (loader._order(0) != loader._order(1)).any()
    with pytest.raises(ValueError, match="balanced=True needs shuffle=True"):
        Loader(uneven, 40, balanced=True)


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_balanced_trainings_learn_the_rare_classes(uneven, tmp_path, balance):
    fit(TrainConfig(**QUICK, balance=balance), uneven, uneven, tmp_path, progress=False)
    assert load_run(tmp_path).config.balance == balance


def test_the_optimizer_has_no_state_of_frozen_parameters(trained, tiny_set):
    training = begin(trained, other_classes(tiny_set), freeze="backbone", optimizer="muon")
    training.step_once(*next(iter(Loader(tiny_set, 8))))
    assert {name.split("/")[1] for name in training.state()[0] if name.startswith("optimizer/")} == {
        "head.weight", "head.bias"}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
def test_a_run_can_be_copied_and_pickled(trained, tiny_set, copied):
    run = load_run(trained)
    other = copied(run)
    x = paddle.to_tensor(run.preprocess(tiny_set.images, None, None)[0])
    np.testing.assert_array_equal(other.model(x).numpy(), run.model(x).numpy())
    assert other.config == run.config and other.history == run.history and other.class_names == run.class_names
    assert not other.model.training
