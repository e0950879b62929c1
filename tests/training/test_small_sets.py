"""Few images, few steps: the batch, BatchNorm's statistics, the best epoch; and one training at a time."""
import json
import os
import threading

import numpy as np
import paddle
import pytest

from paddle_fasternet import History, TrainConfig, evaluate, fit, load_run, plots
from paddle_fasternet.data import ImageSet
from paddle_fasternet.model import VARIANTS
from paddle_fasternet.training import small, statistics, trainer
from paddle_fasternet.training.parallel import Processes, alone_in_this_process


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    monkeypatch.setitem(VARIANTS, "fasternet_t0", dict(embed_dim=8, depths=(1, 1, 1, 1), feature_dim=32))
    monkeypatch.setattr(plots, "save_figure", lambda *_: None)


@pytest.fixture
def uneven(tiny_set):
    """Ninety images: every red one three times and each other one twice."""
    index = np.concatenate([np.arange(40), np.arange(40), np.arange(0, 40, 4)])
    return tiny_set[index]


@pytest.mark.parametrize(("config", "images", "batch", "words"), [
    (TrainConfig(), 50_000, 256, ""), (TrainConfig(), 2560, 256, ""),
    (TrainConfig(), 500, 32, "train has 500 images: batch_size=32 instead of 256, so that an epoch has 15 steps"),
    (TrainConfig(), 2000, 128, "train has 2000 images: batch_size=128 instead of 256"),
    (TrainConfig(), 40, 16, "an epoch has 2 steps"), (TrainConfig(), 7, 7, "an epoch has 1 step;"),
    (TrainConfig(batch_size=256), 500, 256,
     "batch_size=256: an epoch of train's 500 images has 1 step, leaving 244 images out; batch_size=32 makes 15"),
    (TrainConfig(batch_size=20), 40, 20, ""), (TrainConfig(batch_size=250), 500, 250, ""),
    (TrainConfig.recipe("gpu"), 50_000, 512, ""), (TrainConfig.recipe("gpu"), 500, 32, "batch_size=32 instead of 512"),
    (TrainConfig.recipe("gpu", batch_size=512), 500, 512, "batch_size=512: an epoch of train's 500 images has 1 step")])
def test_a_small_set_has_a_batch_that_fits_unless_told(config, images, batch, words):
    suited, said = small.suit_batch(config, images)
    assert suited.batch_size == batch and type(suited.batch_size) is int
    assert words in said and bool(said) == bool(words)


def test_several_processes_share_a_batch_that_fits():
    assert small.suit_batch(TrainConfig(), 500, 3)[0].batch_size == 30


def test_the_batch_that_was_used_is_recorded_and_resumed(uneven, tmp_path, capsys):
    config = TrainConfig(epochs=2, warmup_epochs=0.5)
    fit(config, uneven, uneven, tmp_path, progress=False)
    assert "batch_size=16 instead of 256" in capsys.readouterr().err
    assert json.loads((tmp_path / "config.json").read_text())["config"]["batch_size"] == 16
    assert load_run(tmp_path).config.batch_size == 16
    assert len(fit(config, uneven, uneven, tmp_path, progress=False, resume=True).record["train"]["iter"]) == 2 * 5
    assert capsys.readouterr().err == ""


def test_estimated_statistics_are_the_exact_ones(tiny_set):
    training = trainer.Trainer(TrainConfig(batch_size=20, kernels="paddle"), tiny_set, Processes())
    training.model.train()
    batches = [batch for batch, _ in training.loader.epoch(0)]
    norm = training.model.patch_embed.norm
    before = norm._mean.numpy().copy(), norm._variance.numpy().copy(), norm._momentum
    found = {id(layer): (mean, variance) for layer, mean, variance in
             statistics.estimate(training.model, training.loader.epoch(0), training.processes)}
    assert len(found) == 8 and training.model.training
    for old, new in zip(before, (norm._mean.numpy(), norm._variance.numpy(), norm._momentum)):
        np.testing.assert_array_equal(old, new)
    values = training.model.patch_embed.proj(paddle.concat(batches)).numpy()
    np.testing.assert_allclose(found[id(norm)][0], values.mean((0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(found[id(norm)][1], values.var((0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("change", [{}, {"ema_decay": 0.9}, {"kernels": "paddle"}, {"drop_path_rate": 0.5}])
def test_after_few_steps_validation_is_as_good_as_training(uneven, tmp_path, monkeypatch, change):
    config = TrainConfig(epochs=2, batch_size=30, lr=4e-3, warmup_epochs=0.5, augment="none", **change)
    fit(config, uneven, uneven, tmp_path / "run", progress=False)
    losses = {"run": load_run(tmp_path / "run", "final").history.epochs[-1]["val_loss"]}
    run = load_run(tmp_path / "run", "final")
    assert evaluate(run.model, uneven, run.preprocess).loss == pytest.approx(losses["run"], abs=1e-5)
    assert abs(run.model.patch_embed.norm._variance.numpy()).max() < 0.9  # 1 at first; moving: 0.9 ** 6 of it
    monkeypatch.setattr(statistics, "SETTLED_AFTER", 0)
    fit(config, uneven, uneven, tmp_path / "moving", progress=False)
    moving = load_run(tmp_path / "moving", "final")
    assert losses["run"] < moving.history.epochs[-1]["val_loss"]
    # what is evaluated and saved changes, the training does not
    assert run.history.record["train"] == moving.history.record["train"]
    np.testing.assert_array_equal(run.model.head.weight.numpy(), moving.model.head.weight.numpy())


def test_settled_statistics_stay_as_they_are(tiny_set):
    training = trainer.Trainer(TrainConfig(batch_size=20), tiny_set, Processes())
    training.steps = statistics.SETTLED_AFTER
    with training.saved_weights():
        np.testing.assert_array_equal(training.model.patch_embed.norm._mean.numpy(), 0)


def entry(accuracy, **more):
    return {"epoch": 1, "step": 1, "val_loss": 1.0, "val_acc": accuracy, **more}


def test_the_best_epoch_is_not_one_that_gives_all_images_one_class():
    history = History()
    for epoch, best in [(entry(0.6, one_class=True), 0), (entry(0.7, one_class=True), 1), (entry(0.4), 2),
                        (entry(0.5), 3), (entry(0.5), 3), (entry(0.9, one_class=True), 3)]:
        history.add_epoch(epoch)
        assert history.best is history.epochs[best]


def test_a_network_of_one_class_is_noticed_and_said(tiny_set, tmp_path, capsys, monkeypatch):
    images = ImageSet(tiny_set.images, tiny_set.labels, tiny_set.class_names)
    config = TrainConfig(epochs=1, batch_size=20, lr=1e-12, warmup_epochs=0)
    real = TrainConfig.build_model

    def biased(self, *args, **kwargs):
        model = real(self, *args, **kwargs)
        model.head.bias.set_value(np.array([9, 0, 0, 0], np.float32))
        return model

    monkeypatch.setattr(TrainConfig, "build_model", biased)
    history = fit(config, images, images, tmp_path / "a", progress=False)
    assert history.epochs[0]["one_class"] is True and history.best is history.epochs[0]
    assert "gave all validation images one class; train for more epochs" in capsys.readouterr().err
    reds = images[np.flatnonzero(images.labels == 0)]  # a set of one class has one answer that is right
    assert "one_class" not in fit(config, images, reds, tmp_path / "b", progress=False).epochs[0]


def test_a_second_training_in_a_thread_is_refused(tiny_set, tmp_path, monkeypatch):
    config, errors = TrainConfig(epochs=1, batch_size=20), []

    def second():
        try:
            fit(config, tiny_set, tiny_set, tmp_path / "second", progress=False)
        except RuntimeError as error:
            errors.append(str(error))

    with alone_in_this_process():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        with monkeypatch.context() as patch:  # a forked child has no other training
            patch.setattr(os, "getpid", lambda: 1)
            with alone_in_this_process():
                pass
    assert len(errors) == 1 and "another fit is going on in this process" in errors[0]
    assert "process of its own" in errors[0]
    assert not (tmp_path / "second").exists()
    second()
    assert len(errors) == 1 and (tmp_path / "second" / "history.json").exists()
