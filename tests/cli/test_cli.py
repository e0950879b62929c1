import dataclasses
import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from paddle_fasternet import TrainConfig, cli, load_dataset
from paddle_fasternet.data import DATASETS
from paddle_fasternet.weights import read_weights


@pytest.fixture(autouse=True)
def quick(small_variant, monkeypatch, tmp_path):
    """A small network under T0's name, an empty home, no network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("PADDLE_FASTERNET_DATA", raising=False)
    monkeypatch.setattr("paddle_fasternet.data.known.cifar.CIFAR10.url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    monkeypatch.chdir(tmp_path)


def picture_size(path):
    with Image.open(path) as picture:
        return picture.size


def test_train_evaluate_predict_benchmark(tmp_path, capsys):
    assert cli.main(["train", "--data", "digits", "--epochs", "4", "--patch-size", "4", "--batch-size", "64",
                     "--augment", "shift", "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert "data: digits, 1,437 training and 360 test images" in said and "after the last epoch, at best" in said
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["augment"] == "shift"

    assert cli.main(["evaluate", "--run", "run", "--out", "pictures"]) == 0  # on the run's own data
    accuracy = float(capsys.readouterr().out.split("accuracy ")[1].split("%")[0])
    assert accuracy > 40
    for name in ("predictions.png", "confusion.png", "class_accuracy.png"):
        width, height = picture_size(tmp_path / "pictures" / name)
        assert width > 300 and height > 300

    Image.fromarray(np.zeros((50, 70, 3), np.uint8)).save("black.png")
    assert cli.main(["predict", "black.png", "--run", "run", "--top", "2"]) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith("black.png: ") and line.count("%") == 2

    assert cli.main(["benchmark", "--run", "run", "--batch-size", "4", "--repeats", "2", "--json", "speed.json"]) == 0
    said = capsys.readouterr().out
    assert "one image:" in said and "network alone:" in said and "images to classes:" in said and "quartiles" in said
    record = json.loads((tmp_path / "speed.json").read_text())
    assert record["throughput"]["images"] == 4 and record["machine"]["cores"] >= 1 and record["image_size"] == 32


def test_demo_takes_the_digits_where_there_is_no_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(DATASETS["digits"].demo, "epochs", 1)
    assert cli.main(["demo", "--out", "demo"]) == 0
    captured = capsys.readouterr()
    assert "Taking the embedded handwritten digits" in captured.err
    assert "images a second" in captured.out and (tmp_path / "demo/learning_curve.png").exists()
    assert cli.main(["demo", "--out", "demo"]) == 0  # again, over the first


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.train, "load_dataset", interrupted)
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "paddle-fasternet train: stopped; files written until now stay\n"


def test_every_setting_is_an_option_with_its_default():
    options = vars(cli._parser().parse_args(["train"]))
    assert not options.keys() & {f.name for f in dataclasses.fields(TrainConfig)}
    given = cli._parser().parse_args(["train", "--merge-sizes", "1", "2", "2", "--embed-act", "--drop-path-rate",
                                        "0.1"])
    assert (given.merge_sizes, given.embed_act, given.drop_path_rate) == ([1, 2, 2], True, 0.1)


def test_options_are_over_a_recipe(tmp_path, monkeypatch):
    assert cli.main(["train", "--data", "digits", "--recipe", "cpu", "--epochs", "2", "--batch-size", "500",
                     "--warmup-epochs", "0", "--init", "paper", "--out", "run"]) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())["config"]
    own = {"epochs": 2, "batch_size": 500, "warmup_epochs": 0, "init": "paper"}
    assert config == TrainConfig.recipe("cpu", **own).to_dict() and config["init"] == "paper"
    seen, evaluate = [], cli.train.evaluate
    monkeypatch.setattr(cli.train, "evaluate", lambda *a, **given: seen.append(given["flips"]) or evaluate(*a, **given))
    for flips in ([], ["--flips"], ["--no-flips"]):  # not given: as the recipe has it
        assert cli.main(["evaluate", "--run", "run", "--which", "final", "--engine", "eager", *flips]) == 0
    assert seen == [True, True, False]


def test_convert(capsys):
    golden = Path(__file__).parents[1] / "golden" / "paddleclas_tiny.pdparams"
    assert cli.main(["convert", str(golden), "official.pth"]) == 0
    assert "official.pth: " in capsys.readouterr().out
    assert cli.main(["convert", "official.pth", "back.pdparams"]) == 0
    assert "(official names)" in capsys.readouterr().out
    before, after = read_weights(golden), read_weights("back.pdparams")
    assert set(before) == set(after)
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])


@pytest.mark.parametrize("command", [[], ["convert"], ["train"], ["evaluate"], ["predict"], ["benchmark"], ["demo"]])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "usage: paddle-fasternet" in text and len(text) > 300 and "None" not in text


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "--model", "fasternet_t9"], "train: --model='fasternet_t9' is not known; did you mean"),
    (["train", "--recipe", "cpy"], "--recipe='cpy' is not known; did you mean 'cpu'"),
    (["train", "--data", "cifar"], "--data='cifar' is not known; did you mean 'cifar10'"),
    (["train", "--data", "digits", "--augment", "flpi"], "--augment='flpi' is not known; did you mean 'flip'"),
    (["train", "--data", "digits", "--augment", "none", "--n-div", "3"], "dim=8 cannot be split into --n-div=3 parts"),
    (["train", "--data", "digits", "--augment", "none", "--image-size", "8"], "smaller than the network's stride"),
    (["train", "--data-file", "missing.tar.gz"], "--data-file='missing.tar.gz': there is no such file"),
    (["train", "--data", "digits", "--augment", "none", "--out", "black.png/run"],
     "--out='black.png/run' cannot be written"),
    (["evaluate", "--run", "nowhere"], "nowhere is not the folder of a finished run"),
    (["predict", "black.png", "--run", "nowhere"], "nowhere is not the folder of a finished run"),
    (["predict", "black.png", "--top", "0"], "--top=0 must be an integer >= 1"),
    (["convert", "black.png", "a.pth"], "'black.png' cannot be "),
    (["convert", "missing.pth", "a.pth"], "missing.pth"),
    (["convert", "black.png", "a.onnx"], "must end in one of: .pdparams"),
    (["benchmark", "--model", "resnet"], "--model='resnet' is not known"),
    (["benchmark", "--image-size", "0"], "--image-size=0 must be an integer >= 1"),
    (["benchmark", "--batch-size", "0"], "--batch-size=0 must be an integer >= 1"),
    (["benchmark", "--run", "run", "--model", "fasternet_s"], "--run='run' has its own: give one"),
    (["benchmark", "--image-size", "16"], "input of 16 x 16 pixels is smaller than the network's stride 32"),
])
def test_errors_are_one_line_and_status_2(arguments, message, capsys):
    Image.new("RGB", (40, 40)).save("black.png")
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("paddle-fasternet ") and error.count("\n") == 1


@pytest.mark.parametrize(("arguments", "usage", "message"), [
    (["trian"], "usage: paddle-fasternet [", "invalid choice: 'trian'"),
    (["train", "--epoch", "3"], "usage: paddle-fasternet train ", "--epoch (did you mean --epochs?) 3"),
    (["predict", "a.png", "--egnine=eager"], "usage: paddle-fasternet predict ", "did you mean --engine?"),
    (["train", "--epochs", "many"], "usage: paddle-fasternet train ", "argument --epochs: invalid int value: 'many'"),
    (["predict"], "usage: paddle-fasternet predict ", "IMAGE")])
def test_typos_in_options_stop_with_the_commands_usage(arguments, usage, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith(usage) and message in error


@pytest.mark.parametrize(("message", "shown"), [
    ("engine='opnvino' is not known", "--engine='opnvino' is not known"),
    ("batch_size=0 must be an integer >= 1", "--batch-size=0 must be an integer >= 1"),
    ("go on with resume=True (--resume), or overwrite=True (--overwrite)", "go on with --resume, or --overwrite"),
    ("from it, with pretrained='a b' (--pretrained 'a b')", "from it, with --pretrained 'a b'"),
    ("flip_test=False and drop_path_rate=None", "--no-flip-test and --drop-path-rate"),
    ("out_dir='a' holds", "--out='a' holds"), ("dim=8 cannot be split", "dim=8 cannot be split"),
    ("'epochs=3' and /data/epochs=3/run", "'epochs=3' and /data/epochs=3/run")])
def test_errors_name_options_as_they_are_typed(message, shown):
    assert cli._in_options(message, cli._parser().parse_args(["train"]).parser) == shown.replace("--engine=", "engine=")
    assert cli._in_options("engine='a'", cli._parser().parse_args(["evaluate"]).parser) == "--engine='a'"


def test_no_command_prints_help(capsys):
    assert cli.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: paddle-fasternet [-h]")


def test_a_trained_network_is_exported_and_the_export_predicts(capsys, tmp_path):
    assert cli.main(["train", "--data", "digits", "--epochs", "1", "--batch-size", "512", "--patch-size", "4",
                     "--out", "run"]) == 0
    assert cli.main(["export", "--run", "run", "--which", "final", "--out", "net", "--check", "--int8"]) == 0
    text = capsys.readouterr().out
    assert "model_int8.onnx: " in text and "inference.yml: " in text and "fp32: " in text and "int8: " in text
    digits = load_dataset("digits")[1]
    for i in range(3):
        Image.fromarray(digits.images[i].transpose(1, 2, 0)).save(f"{i}.png")
    names = [f"{i}.png" for i in range(3)]
    answers = []
    for options in (["--run", "run", "--which", "final", "--engine", "eager"], ["--run", "net", "--precision", "fp32"]):
        assert cli.main(["predict", *names, "--top", "1", *options]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] and answers[0].count("\n") == 3
    accuracies = []
    for run, engine in (("run", "eager"), ("net", "openvino")):
        assert cli.main(["evaluate", "--run", run, "--which", "final", "--data", "digits", "--engine", engine,
                         "--precision", "fp32", "--out", "pictures"]) == 0
        accuracies.append(capsys.readouterr().out.split(" (")[0])
    assert accuracies[0] == accuracies[1] and "test images" in accuracies[0]
    for arguments, message in [
            (["export", "--run", "run", "--out", "net"], "holds an export already"),
            (["export", "--run", "run", "--formats", "onnxx", "--out", "new"], "did you mean 'onnx'"),
            (["export", "--run", "missing", "--out", "new"], "not the folder of a finished run"),
            (["predict", "0.png", "--run", "net", "--engine", "openvin"], "did you mean 'openvino'"),
            (["predict", "0.png", "--run", "net", "--threads", "0"], "--threads=0 must be an integer >= 1")]:
        assert cli.main(arguments) == 2
        assert message in capsys.readouterr().err, arguments


def test_a_home_folder_in_a_file_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    golden = Path(__file__).parents[1] / "golden" / "paddleclas_tiny.pdparams"
    assert cli.main(["convert", str(golden), "~/t0.pth"]) == 0
    assert (tmp_path / "home" / "t0.pth").is_file() and not (tmp_path / "~").exists()


def test_the_device_is_paddle_s_or_refused(monkeypatch, capsys):
    used = []
    monkeypatch.setattr(paddle, "set_device", used.append)
    assert cli.main(["benchmark", "--device", "cpu", "--repeats", "0"]) == 2  # a later argument is wrong
    for arguments in (["detect", "--device", "gpu:1", "predict", "no.jpg"],
                      ["detect", "predict", "no.jpg", "--device", "gpu:2"]):
        cli.main(arguments)
    assert used == ["cpu", "gpu:1", "gpu:2"]
    monkeypatch.undo()
    capsys.readouterr()
    for name in ("gpu", "cpuu"):
        assert cli.main(["predict", "no.jpg", "--device", name]) == 2
        assert f"--device='{name}' is not to be had" in capsys.readouterr().err
