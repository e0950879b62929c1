import ctypes
import gc
import json
import math
import resource
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddle_fasternet import FasterNetBlock, History, TrainConfig, evaluate, fit, load_run, plots
from paddle_fasternet.benchmark import machine
from paddle_fasternet.data import Augment, ImageSet
from paddle_fasternet.deploy import Predictor, offered, start_fastest
from paddle_fasternet.training import RECIPES, Evaluation, trainer
from paddle_fasternet.training.optimizers import WeightAverage, build_optimizer, learning_rate
from paddle_fasternet.training.parallel import Processes

QUICK = dict(epochs=3, batch_size=20, lr=4e-3, augment="flip,shift=2", warmup_epochs=0.5)
pytestmark = pytest.mark.usefixtures("small_variant")


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Drawing curves takes longer than these trainings; one test looks at them."""
    if "with_pictures" not in request.fixturenames:
        monkeypatch.setattr(plots, "save_figure", lambda *_: None)


@pytest.fixture
def with_pictures():
    pass


def test_a_run_leaves_everything_and_is_read_back(tiny_set, tmp_path, with_pictures):
    config = TrainConfig(**{**QUICK, "epochs": 12})
    history = fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "history.json", "best_model.pdparams", "best_model.pdopt", "final_model.pdparams",
        "final_model.pdopt", "learning_curve.png", "log.jsonl"}
    assert history.best["val_acc"] > 0.9  # a quarter by chance
    assert history.record["train"]["loss"][-1] < history.record["train"]["loss"][0]
    assert history.record["train"]["iter"] == list(range(1, 25))
    assert history.record["val"]["iter"] == [epoch["step"] for epoch in history.epochs] == list(range(2, 25, 2))
    run = load_run(tmp_path / "run")
    assert run.config == config and run.class_names == tiny_set.class_names and run.history == history
    assert run.machine == machine()
    assert evaluate(run.model, tiny_set, run.preprocess).accuracy == pytest.approx(history.best["val_acc"], abs=1e-6)
    final = load_run(tmp_path / "run", "final")
    assert evaluate(final.model, tiny_set, final.preprocess).loss == pytest.approx(
        history.epochs[-1]["val_loss"], abs=1e-5)


def test_equal_seeds_give_equal_runs(tiny_set, tmp_path):
    config = TrainConfig(**{**QUICK, "augment": "notebook", "drop_path_rate": 0.3})
    losses = [fit(config, tiny_set, tiny_set, tmp_path / name, progress=False).record for name in "ab"]
    assert losses[0] == losses[1]
    other = fit(TrainConfig(**{**config.to_dict(), "seed": 1}), tiny_set, tiny_set, tmp_path / "c", progress=False)
    assert other.record != losses[0]


@pytest.mark.parametrize("change", [
    {"amp": "off"}, {"ema_decay": 0.9}, {"clip_grad": 0}, {"augment": "mixup,cutmix"}, {"mixer": "dwconv"},
    {"merge_sizes": (1, 2, 2)}, {"image_size": 48}, {"smoothing": 0}, {"batch_size": 1000}, {"embed_act": True},
    {"embed_overlap": 1}, {"init": "he"}, {"optimizer": "muon"}, {"schedule": "linear"}, {"flip_test": True},
    {"augment": "altflip"}, {"final_epochs": 1, "final_augment": "none"}, {"early_epochs": 1, "early_size": 16}])
def test_every_setting_trains_and_is_read_back(tiny_set, tmp_path, change):
    fit(TrainConfig(**{**QUICK, "epochs": 1, **change}), tiny_set, tiny_set, tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    assert run.config.to_dict() == {**run.config.to_dict(), **json.loads(json.dumps(change))}
    assert evaluate(run.model, tiny_set, run.preprocess).probabilities.shape == (40, 4)


def test_grey_images(tiny_set, tmp_path):
    grey = ImageSet(tiny_set.images[:, :1], tiny_set.labels, tiny_set.class_names)
    fit(TrainConfig(**{**QUICK, "epochs": 1}), grey, grey, tmp_path / "run", progress=False)
    assert load_run(tmp_path / "run").model.in_channels == 1


def test_averaged_weights_are_saved_and_the_trained_ones_go_on(tiny_set, tmp_path):
    plain = fit(TrainConfig(**QUICK), tiny_set, tiny_set, tmp_path / "plain", progress=False)
    averaged = fit(TrainConfig(**QUICK, ema_decay=0.99), tiny_set, tiny_set, tmp_path / "average", progress=False)
    assert plain.record["train"] == averaged.record["train"]  # averaging does not touch the training
    a, b = (load_run(tmp_path / name, "final").model.head.weight.numpy() for name in ("plain", "average"))
    assert (a != b).any()


def test_weight_average_by_hand():
    layer = paddle.nn.Linear(1, 1, bias_attr=False)
    layer.weight.set_value(np.array([[0.0]], np.float32))
    average = WeightAverage(layer, 0.5)
    for step, value in [(3, 10.0), (31, 20.0), (32, 30.0)]:  # decays (4 / 13)**4, then the full 0.5**4, then none
        layer.weight.set_value(np.array([[value]], np.float32))
        average.update(step)
    first = 10 * (1 - (4 / 13)**4)
    with average.in_place():
        assert layer.weight.item() == pytest.approx(first / 16 + 20 * 15 / 16)
    assert layer.weight.item() == 30


def test_a_run_of_a_few_steps_has_an_average_too(tiny_set, tmp_path):
    fit(TrainConfig(**{**QUICK, "epochs": 1, "batch_size": 20}, ema_decay=0.99), tiny_set, tiny_set, tmp_path / "run",
        progress=False)
    plain = fit(TrainConfig(**{**QUICK, "epochs": 1, "batch_size": 20}), tiny_set, tiny_set, tmp_path / "plain",
                progress=False)
    averaged, trained = (load_run(tmp_path / name, "final").model.head.weight.numpy() for name in ("run", "plain"))
    assert len(plain.record["train"]["loss"]) == 2
    np.testing.assert_array_equal(averaged, trained)


def test_averaging_holds_on_to_nothing():
    model = paddle.nn.Sequential(*(paddle.nn.Linear(2, 2) for _ in range(20)))
    average = WeightAverage(model, 0.9)

    def resident():  # bytes, without what could be given back at once
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    average.update(0)
    before = resident()
    for step in range(3, 6000, 4):
        average.update(step)
    assert resident() - before < 2e6  # lerp_ by a number, in Paddle 3.3: 6.7e6


def test_first_and_last_epochs_have_their_own_images(tiny_set):
    config = TrainConfig(epochs=5, augment="shift=3", final_epochs=1, final_augment="altflip", early_epochs=2,
                         early_size=16)
    training = trainer.Trainer(config, tiny_set, Processes())
    chosen = [training._augment(epoch, tiny_set) for epoch in range(5)]
    assert [augment.image_size for augment in chosen] == [16, 16, 32, 32, 32]
    assert [list(augment.strength) for augment in chosen] == 4 * [["shift"]] + [["altflip"]]
    shapes = []
    training.step_once = lambda images, labels: shapes.append(images.shape[2]) or tuple(paddle.zeros([2]))
    for epoch in (0, 1, 2):
        list(training.train_epoch(epoch, lambda: False))
    assert shapes == [16, 16, 32]


@pytest.mark.cpu
def test_evaluation_within_training_takes_an_engine(tiny_set, tmp_path):
    for change in ({}, {"mixer": "dwconv"}, {"flip_test": True}):
        config = TrainConfig(**{**QUICK, **change})
        training = trainer.Trainer(config, tiny_set, Processes())
        network = start_fastest(training.classifier)
        native = "fp32" in offered("native")
        assert isinstance(network, Predictor) and network.engine == ("native" if native else "paddle")
        history = fit(config, tiny_set, tiny_set, tmp_path / str(len(change) + config.flip_test), overwrite=True,
                      progress=False)
        run = load_run(tmp_path / str(len(change) + config.flip_test), "final")
        again = evaluate(run.model, tiny_set, run.preprocess, flips=config.flip_test)
        assert again.loss == pytest.approx(history.epochs[-1]["val_loss"], abs=1e-5)
        assert again.accuracy == history.epochs[-1]["val_acc"]


@pytest.mark.cpu
def test_evaluation_within_training_needs_no_engine(tiny_set, monkeypatch):
    def broken(*_):
        raise OSError("no room for its files")

    training = trainer.Trainer(TrainConfig(**QUICK), tiny_set, Processes())
    expected = training._evaluate(tiny_set)
    monkeypatch.setattr(sys.modules[start_fastest.__module__], "Predictor", broken)
    with pytest.warns(UserWarning, match="engine .* failed and is not used: OSError: no room for its files"):
        assert training._evaluate(tiny_set) == pytest.approx(expected, rel=1e-5)


def test_learning_rate_goes_down_in_a_line():
    config = TrainConfig(epochs=4, lr=1.0, warmup_epochs=2, schedule="linear")
    rates = [learning_rate(config, step, 5) for step in range(20)]
    assert rates[10:] == pytest.approx([1 - i / 10 for i in range(10)]) and rates[:10] == pytest.approx(
        [(i + 1) / 11 for i in range(10)])


def test_learning_rate_warms_up_and_falls_as_a_cosine():
    config = TrainConfig(epochs=10, lr=1.0, warmup_epochs=2)
    rates = [learning_rate(config, step, 5) for step in range(50)]
    assert rates[0] == pytest.approx(1 / 11) and max(rates) == rates[10] == 1.0 and rates[49] > 0
    assert rates[30] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert sorted(rates[:11]) == rates[:11] and sorted(rates[10:], reverse=True) == rates[10:]
    assert min(learning_rate(TrainConfig(epochs=2, lr=1.0, warmup_epochs=2), s, 3) for s in range(6)) > 0


def test_norms_biases_and_layer_scale_are_not_decayed():
    model = FasterNetBlock(4, layer_scale_init_value=0.3)
    before = {name: p.numpy().copy() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, TrainConfig(lr=0.1, weight_decay=0.5))
    (model(paddle.zeros([2, 4, 2, 2])).sum() * 0).backward()  # no gradient: what changes is decay
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if np.abs(p.numpy() - before[name]).max() > 1e-6
               and not p.stop_gradient}
    assert changed == {"spatial_mixing.partial_conv3.weight", "mlp.0.weight", "mlp.3.weight"}


def test_a_loss_that_is_not_finite_stops_the_run(tiny_set, tmp_path, monkeypatch):
    real, calls = trainer._make_step, []

    def make_step(*args):
        step, scaler = real(*args)

        def broken(images, labels):
            calls.append(1)
            loss, accuracy = step(images, labels)
            return (loss * float("nan") if len(calls) == 4 else loss), accuracy
        return broken, scaler

    monkeypatch.setattr(trainer, "_make_step", make_step)
    with pytest.raises(FloatingPointError, match=r"is nan at step 4 \(epoch 2\), learning rate about .* lower lr"):
        fit(TrainConfig(**QUICK), tiny_set, tiny_set, tmp_path / "run", progress=False)
    assert len(load_run(tmp_path / "run").history.epochs) == 1  # the first epoch's files stay good


def test_a_run_is_not_written_over_unasked(tiny_set, tmp_path):
    config = TrainConfig(**{**QUICK, "epochs": 1})
    fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False)
    with pytest.raises(FileExistsError, match="holds a run already; go on with it with resume=True .*, overwrite it"):
        fit(config, tiny_set, tiny_set, tmp_path / "run", progress=False)
    fit(config, tiny_set, tiny_set, tmp_path / "run", overwrite=True, progress=False)


@pytest.mark.cpu
def test_bad_runs_leave_nothing(tiny_set, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="out_dir=.*cannot be written"):
        fit(TrainConfig(**QUICK), tiny_set, tiny_set, tmp_path / "file" / "run", progress=False)
    for small in ({"image_size": 8}, {"early_epochs": 1, "early_size": 8}):
        with pytest.raises(ValueError, match="input of 8 x 8 pixels is smaller than the network's stride 16"):
            fit(TrainConfig(**QUICK, **small), tiny_set, tiny_set, tmp_path / "run", progress=False)
    other = ImageSet(tiny_set.images, tiny_set.labels, ("a", "b", "c", "d"))
    with pytest.raises(ValueError, match="train has the classes .*, val has"):
        fit(TrainConfig(**QUICK), tiny_set, other, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"shift=32 must be smaller than the image \(32 x 32"):
        fit(TrainConfig(**{**QUICK, "augment": "shift=32"}), tiny_set, tiny_set, tmp_path / "run", progress=False)
    grey = ImageSet(tiny_set.images[:, :1], tiny_set.labels, tiny_set.class_names)
    with pytest.raises(ValueError, match="images of 1 channels need a mean and a std for each, not 3 and 3"):
        fit(TrainConfig(**QUICK), tiny_set, grey, tmp_path / "run", progress=False)
    for amp in ("float16", "bfloat16"):
        with pytest.raises(ValueError, match=f"amp='{amp}': Paddle's layers have no mixed precision on a CPU"):
            fit(TrainConfig(**QUICK, amp=amp, kernels="paddle"), tiny_set, tiny_set, tmp_path / "run", progress=False)
    for config, train, out, message in [({"epochs": 1}, tiny_set, "run", "config must be a TrainConfig, not dict"),
                                        (TrainConfig(), tiny_set.images, "run", "train must be a ImageSet"),
                                        (TrainConfig(**QUICK), tiny_set, None, "out_dir=None must be a path")]:
        with pytest.raises(TypeError, match=message):
            fit(config, train, tiny_set, out and tmp_path / out, progress=False)
    with pytest.raises(ValueError, match="overwrite=True and resume=True contradict each other"):
        fit(TrainConfig(**QUICK), tiny_set, tiny_set, tmp_path / "run", True, False, resume=True)
    with pytest.raises(ValueError, match="checkpoint_seconds=-1 must be a number >= 0"):
        fit(TrainConfig(**QUICK), tiny_set, tiny_set, tmp_path / "run", progress=False, checkpoint_seconds=-1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nobody_elses_files_are_removed(tiny_set, tmp_path):
    config = TrainConfig(**{**QUICK, "epochs": 1})
    for text in ('{"my": "app"}', '{"config": [], "data": 1, "versions": "2"}', '{"config": {}, "data": {}}',
                 '{"config": {}, "data": {}, "machine": "2"}', "[]", "mine"):
        (tmp_path / "config.json").write_text(text)
        for choice in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(FileExistsError, match="config.json is not of this library and stays as it is"):
                fit(config, tiny_set, tiny_set, tmp_path, progress=False, **choice)
    (tmp_path / "config.json").unlink()
    (tmp_path / "history.json").write_text("mine")
    for choice in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(FileExistsError, match="has a history.json but no config.json of a run"):
            fit(config, tiny_set, tiny_set, tmp_path, progress=False, **choice)
    assert (tmp_path / "history.json").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_validation_loss_that_is_not_finite_overwrites_nothing(tiny_set, tmp_path, monkeypatch):
    config = TrainConfig(**QUICK)
    real, calls = trainer.evaluate, []

    def broken(*args, **kwargs):
        calls.append(1)
        result = real(*args, **kwargs)
        return result if len(calls) == 1 else Evaluation(float("inf"), 0.0, result.probabilities)

    monkeypatch.setattr(trainer, "evaluate", broken)
    with pytest.raises(FloatingPointError, match=r"the validation loss is inf at step 4 \(epoch 2\)"):
        fit(config, tiny_set, tiny_set, tmp_path, progress=False)
    run = load_run(tmp_path, "final")
    assert len(run.history.epochs) == 1
    assert real(run.model, tiny_set, run.preprocess).loss == pytest.approx(run.history.epochs[0]["val_loss"], abs=1e-5)
    # what died before its first epoch is no run that stands in the way
    calls.append(1)
    with pytest.raises(FloatingPointError):
        fit(config, tiny_set, tiny_set, tmp_path / "early", progress=False)
    monkeypatch.setattr(trainer, "evaluate", real)
    fit(config, tiny_set, tiny_set, tmp_path / "early", progress=False)


def test_numpy_numbers_are_numbers(tiny_set, tmp_path):
    config = TrainConfig(**{**QUICK, "epochs": np.int64(1), "lr": np.float32(0.001),
                            "merge_sizes": np.array([2, 2, 2])})
    fit(config, tiny_set, tiny_set, tmp_path, progress=False)
    assert load_run(tmp_path).config.epochs == 1 and type(config.lr) is float


def test_a_failed_write_keeps_the_good_file(tmp_path, monkeypatch):
    from paddle_fasternet._files import replacing, write_json
    path = tmp_path / "a.json"
    write_json(path, {"good": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"bad": float("nan")})
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"good": 1} and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_evaluate_by_hand(tiny_set):
    class Constant(paddle.nn.Layer):
        def forward(self, x):
            return paddle.to_tensor([[0.0, 1.0, 0.0, 0.0]]).expand([len(x), 4])

    model = Constant()
    result = evaluate(model, tiny_set, batch_size=7)
    assert result.accuracy == 0.25 and (result.predicted == 1).all() and model.training
    expected = math.log(3 + math.e) - 0.25
    assert result.loss == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"the network has outputs of shape \[40, 2\], the images have 4 classes"):
        evaluate(paddle.nn.Sequential(paddle.nn.Flatten(), paddle.nn.Linear(3072, 2)), tiny_set)


def test_each_layer_gets_its_mode_back(tiny_set):
    model = TrainConfig().build_model(4)
    model.train()
    frozen = model.patch_embed.norm
    frozen.eval()
    evaluate(model, tiny_set)
    assert model.training and model.head.training and not frozen.training
    model.eval()
    model.head.train()
    evaluate(model, tiny_set)
    assert not model.training and model.head.training


def test_flips_by_hand(tiny_set):
    class LeftEdge(paddle.nn.Layer):
        """Logits [edge, 0]: 2 where the left edge is bright."""
        def forward(self, x):
            edge = (x[:, 0, 0, :1] > 0).astype("float32")
            return paddle.concat([2 * edge, paddle.zeros_like(edge)], 1)

    pixels = np.zeros((3, 3, 8, 8), np.uint8)
    pixels[1, ..., 0] = pixels[2, ..., 0] = pixels[2, ..., -1] = 255  # bright at no edge, the left one, both
    images = ImageSet(pixels, [1, 0, 0], ("bright", "dark"), "edges", "made")
    plain, both = (evaluate(LeftEdge(), images, flips=flips) for flips in (False, True))
    odds = [probabilities[:, 0] / probabilities[:, 1] for probabilities in (plain.probabilities, both.probabilities)]
    np.testing.assert_allclose(np.log(odds), [[0, 2, 2], [0, 1, 2]], atol=1e-6)
    assert both.loss == pytest.approx(-math.log(0.5 / (1 + math.exp(-1)) / (1 + math.exp(-2))) / 3, rel=1e-5)


def test_flips_of_a_predictor(tiny_set):
    paddle.seed(0)
    model = TrainConfig(init="he").build_model(4)
    preprocess = Augment("none", 32, tiny_set.mean, tiny_set.std)
    predictor = Predictor(model, "eager", image_size=32, mean=tiny_set.mean, std=tiny_set.std)
    expected, got = evaluate(model, tiny_set, preprocess, flips=True), evaluate(predictor, tiny_set, flips=True)
    np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=1e-6)
    assert got.loss == pytest.approx(expected.loss, rel=1e-5)
    assert np.abs(evaluate(predictor, tiny_set).probabilities - got.probabilities).max() > 1e-3


@pytest.mark.parametrize(("name", "content", "message"), [
    ("config.json", "{", "config.json is not a run's configuration"),
    ("config.json", '{"config": {"modle": "x"}}', "config field='modle' is not known; did you mean 'model'"),
    ("history.json", "[]", "history.json is not a history"),
    ("best_model.pdparams", "junk", "best_model.pdparams"),
])
def test_a_damaged_run(tiny_set, tmp_path, name, content, message):
    fit(TrainConfig(**{**QUICK, "epochs": 1}), tiny_set, tiny_set, tmp_path, progress=False)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_run(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"is not the folder of a finished run: it has no {name}"):
        load_run(tmp_path)


@pytest.mark.parametrize(("field", "value", "message"), [
    ("model", "fasternet_t9", "model='fasternet_t9' is not known; did you mean"),
    ("mixer", "pconf", "mixer='pconf' is not known; did you mean 'pconv'"),
    ("amp", "fp16", "amp='fp16' is not known"),
    ("epochs", 0, "epochs=0 must be an integer >= 1"), ("batch_size", 1, "batch_size=1: normalisation"),
    ("lr", 0, "lr=0 would train nothing"), ("lr", -1.0, "lr=-1.0"), ("lr", float("inf"), "lr=inf"),
    ("smoothing", 1.1, "smoothing=1.1"), ("drop_path_rate", 2, "drop_path_rate=2"), ("seed", -1, "seed=-1"),
    ("merge_sizes", (2, 0, 2), r"merge_sizes=\(2, 0, 2\) must hold integers >= 1"),
    ("augment", "fliip", "augment='fliip'.*'flip'"), ("augment", "shift=1.5", "whole"),
    ("merge_sizes", (2, 2), r"merge_sizes=\(2, 2\) must have 3 entries"), ("seed", 2**64, "seed=18446744073709551616"),
    ("warmup_epochs", 11, "warmup_epochs=11 is longer than the training, epochs=10"),
    ("ema_decay", 1.5, "ema_decay=1.5"), ("n_div", 0, "n_div=0"), ("init", "hee", "init='hee'.*'he'"),
    ("optimizer", "adam", "optimizer='adam' is not known; did you mean 'adamw'"), ("schedule", "cos", "schedule='cos'"),
    ("final_augment", "altflp", "final_augment='altflp' is not known; did you mean 'altflip'"),
    ("final_epochs", 11, "final_epochs=11 is longer than the training, epochs=10"),
    ("early_epochs", 11, "early_epochs=11 is longer"), ("early_epochs", -1, "early_epochs=-1"),
    ("early_size", 0, "early_size=0 must be an integer >= 1")])
def test_config_refuses_values(field, value, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{field: value})


@pytest.mark.parametrize(("field", "value"), [
    ("epochs", 1.5), ("epochs", np.array([1, 2])), ("merge_sizes", None),
    ("epochs", "3"), ("lr", "fast"), ("embed_act", 1), ("merge_sizes", 2), ("merge_sizes", "222"),
    ("augment", None), ("patch_size", None), ("seed", True), ("flip_test", 0), ("final_augment", None),
    ("early_epochs", 1.5)])
def test_config_refuses_types(field, value):
    with pytest.raises(TypeError, match=field):
        TrainConfig(**{field: value})


def test_recipes():
    for name, settings in RECIPES.items():
        config = TrainConfig.recipe(name)
        assert {key: getattr(config, key) for key in settings} == settings
        assert TrainConfig.recipe(name, seed=5) == TrainConfig.from_dict({**config.to_dict(), "seed": 5})
        assert config.build_model(4)(paddle.zeros([1, 3, config.image_size, config.image_size])).shape == [1, 4]
    notebook = TrainConfig.recipe("notebook")  # its settings of 2023
    assert (notebook.image_size, notebook.patch_size, notebook.epochs, notebook.batch_size, notebook.lr) == (
        224, 4, 100, 256, 1e-3)
    assert (notebook.weight_decay, notebook.smoothing, notebook.schedule, notebook.optimizer) == (
        0.005, 0.1, "cosine", "adamw")
    for arguments, message in [(("notbook",), "recipe='notbook' is not known; did you mean 'notebook'"),
                               ((["cpu"],), "recipe=.* is not known")]:
        with pytest.raises(ValueError, match=message):
            TrainConfig.recipe(*arguments)
    with pytest.raises(ValueError, match="config field='epoch' is not known; did you mean 'epochs'"):
        TrainConfig.recipe("cpu", epoch=3)


def test_config_goes_through_json():
    config = TrainConfig(merge_sizes=[1, 2, 2], drop_path_rate=0.1)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert set(TrainConfig.help_texts()) == set(config.to_dict()) and all(TrainConfig.help_texts().values())
    with pytest.raises(ValueError, match="config field='learning_rate' is not known"):
        TrainConfig.from_dict({"learning_rate": 1})
    with pytest.raises(AttributeError):
        config.lr = 1


def test_history_goes_through_json(tmp_path):
    history = History()
    assert history.best is None
    history.add_steps(1, [2.0, 1.0], [0.1, 0.2])
    for accuracy in (0.5, 0.7, 0.7):
        history.add_epoch({"epoch": len(history.epochs) + 1, "step": 2, "val_loss": 1.0, "val_acc": accuracy})
    history.save(tmp_path / "h.json")
    assert History.load(tmp_path / "h.json") == history and history.best["epoch"] == 2


def test_preprocess_does_what_training_did(tiny_set, tmp_path):
    fit(TrainConfig(**{**QUICK, "epochs": 1}), tiny_set, tiny_set[:20], tmp_path, progress=False)
    run = load_run(tmp_path)
    x, _ = run.preprocess(tiny_set.images, None, None)
    expected, _ = Augment("none", 32, tiny_set.mean, tiny_set.std)(tiny_set.images, None, None)
    np.testing.assert_array_equal(x, expected)
