"""Tests that need a device that is no CPU; ``test_no_cpu.py`` runs them there.

    python -m pytest -p tests.device.plugin tests/device/cases.py
"""
import numpy as np
import paddle
import pytest
from networks import trained_like

from paddle_fasternet import LimeExplainer, TrainConfig, fit
from paddle_fasternet.benchmark import machine
from paddle_fasternet.data import ImageSet
from paddle_fasternet.deploy import Predictor
from paddle_fasternet.training import checkpoint, trainer

SETTINGS = dict(epochs=2, batch_size=8, lr=4e-3, augment="flip,shift=2", amp="float16", image_size=16, patch_size=2,
                merge_sizes=(1, 2, 2), act="gelu")
OVERFLOWS = (3, 7)  # steps


def squares(image):
    return np.arange(16)[:, None] // 4 * 4 + np.arange(16) // 4


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return ImageSet(rng.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8), np.arange(40) % 4, tuple("abcd"))


@pytest.fixture
def overflow(monkeypatch, small_variant):
    """A function: from its call on the forward pass overflows in the steps that it names."""
    def steps(bad):
        made = trainer._make_step

        def make(model, forward, *arguments):
            count = [0]

            def forward_and_overflow(x):
                count[0] += 1
                done = own[0].steps + 1 if own else count[0]
                return forward(x * (float("inf") if done in bad else 1.0))

            return made(model, forward_and_overflow, *arguments)

        own, init = [], trainer.Trainer.__init__

        def remember(self, *arguments):
            own[:] = [self]
            init(self, *arguments)

        monkeypatch.setattr(trainer, "_make_step", make)
        monkeypatch.setattr(trainer.Trainer, "__init__", remember)
    return steps


def test_the_scaler_skips_what_overflows(images, overflow, tmp_path):
    overflow(OVERFLOWS)
    history = fit(TrainConfig(**SETTINGS), images, images, tmp_path / "run", progress=False)
    losses = history.record["train"]["loss"]
    assert [step for step, loss in zip(history.record["train"]["iter"], losses) if loss is None] == list(OVERFLOWS)
    assert np.isfinite([epoch["train_loss"] for epoch in history.epochs]).all()


@pytest.mark.parametrize("act, said", [("gelu", "the loss is nan"), ("relu", "float16 overflows at every factor")])
def test_a_network_that_always_overflows_is_refused(images, overflow, tmp_path, act, said):
    overflow(range(1, 1000))
    with pytest.raises(FloatingPointError, match=said):  # Paddle's ReLU makes 0 of NaN: the loss does not show it
        fit(TrainConfig(**{**SETTINGS, "epochs": 8, "act": act}), images, images, tmp_path / "run", progress=False)


def test_resume_after_an_overflow_is_bit_equal(images, overflow, tmp_path, monkeypatch):
    overflow(OVERFLOWS)
    config = TrainConfig(**SETTINGS)
    whole = fit(config, images, images, tmp_path / "whole", progress=False)
    save = checkpoint.Checkpoints.save

    def save_and_stop(self, arrays, progress):
        save(self, arrays, progress)
        if progress["steps"] >= 4:
            monkeypatch.setattr(checkpoint.Checkpoints, "save", save)
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoints, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        fit(config, images, images, tmp_path / "part", progress=False, checkpoint_seconds=0)
    rest = fit(config, images, images, tmp_path / "part", progress=False, resume=True)
    assert rest.record == whole.record
    ours, theirs = (paddle.load(str(tmp_path / name / "final_model.pdparams")) for name in ("part", "whole"))
    for name in theirs:
        np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy(), name)


def test_predictions_and_explanations_are_those_of_the_cpu(images):
    network = trained_like(num_classes=4)
    pixels = images.images.transpose(0, 2, 3, 1)
    predictor = Predictor(network, "eager", image_size=16)
    assert hasattr(predictor._run, "run_uint8")  # bytes go up, the device prepares them
    found = predictor(pixels)
    explained = LimeExplainer(network, 127.5, 64.0, squares, engine="eager").explain(pixels[0], num_samples=50)
    values = {name: value.numpy() for name, value in network.state_dict().items()}
    paddle.set_device("cpu")
    try:
        own = trained_like(num_classes=4)
        own.set_state_dict(values)
        expected = Predictor(own, "eager", image_size=16)(pixels)
        there = LimeExplainer(own, 127.5, 64.0, squares, engine="eager").explain(pixels[0], num_samples=50)
    finally:
        paddle.set_device("gpu_fake:0")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert explained.labels == there.labels
    np.testing.assert_allclose(explained.coefficients, there.coefficients, atol=1e-5)


def test_the_fastest_engine_is_one_of_the_device():
    predictor = Predictor(trained_like(num_classes=4), "eager", image_size=16)
    assert {engine for engine, _ in predictor._candidates("auto", "fp32")} == {"eager", "paddle"}
    assert all(engine == "paddle" for engine, _ in predictor._candidates("auto", "bf16"))


def test_a_record_names_cuda():
    assert {"cuda", "cudnn", "gpus"} <= set(machine())
