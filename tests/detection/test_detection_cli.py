import dataclasses
import json

import numpy as np
import pytest

from paddle_fasternet import cli

pytest.importorskip("ppdet", reason="needs PaddleDetection: make detection")

from paddle_fasternet import detection  # noqa: E402
from paddle_fasternet.cli.detect import SETTINGS  # noqa: E402


@pytest.fixture(scope="module")
def run(drawn, tmp_path_factory):
    """The folder of a training by the command line."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    arguments = ["--image-size", "96", "--batch-size", "4", "--epochs", "1", "--minutes", "0", "--evaluations", "1"]
    assert cli.main(["detect", "train", "--data", str(drawn), "--out", str(folder), *arguments]) == 0
    return folder


def test_train_evaluate_predict_export(run, drawn, tmp_path, capsys):
    assert (run / "curves.png").stat().st_size > 5000
    assert cli.main(["detect", "evaluate", "--data", str(drawn), "--run", str(run), "--json",
                     str(tmp_path / "ap.json")]) == 0
    written = json.loads((tmp_path / "ap.json").read_text())
    assert written["pictures"] == 3 and set(written["classes"]) == {"disc", "square"}
    assert cli.main(["detect", "export", "--run", str(run), "--out", str(tmp_path / "export")]) == 0
    pictures = [str(drawn / "images" / f"p{number}.png") for number in (7, 8)]
    capsys.readouterr()
    for folder in (run, tmp_path / "export"):
        assert cli.main(["detect", "predict", *pictures, "--run", str(folder), "--out", str(tmp_path / "out"),
                         "--threshold", "0.001"]) == 0
        found = json.loads((tmp_path / "out" / "boxes.json").read_text())
        assert list(found) == pictures and all(box["name"] in ("disc", "square") for box in found[pictures[0]])
        assert capsys.readouterr().out.startswith(f"{pictures[0]}: ")
        drawing = detection.data.read_picture(tmp_path / "out" / "p7.png")
        assert drawing.shape == (96, 128, 3)
        assert bool(found[pictures[0]]) == (drawing != detection.data.read_picture(pictures[0])).any()


def test_errors_are_one_line(run, drawn, tmp_path, capsys):
    for arguments, message in [
            (["train", "--data", str(tmp_path / "none")], "is not there"),
            (["train", "--data", str(drawn), "--out", str(run)], "--resume"),
            (["train", "--data", str(drawn), "--backbone", "ResNet19"], "did you mean 'ResNet18'"),
            (["predict", str(tmp_path / "none.png"), "--run", str(run), "--out", str(tmp_path)], "no such image"),
            (["evaluate", "--data", str(drawn), "--run", str(tmp_path)], "no detector.json")]:
        assert cli.main(["detect", *arguments]) == 2
        error = capsys.readouterr().err.strip()
        assert message in error and "\n" not in error and error.startswith("paddle-fasternet detect: "), error


def test_help_names_the_settings_defaults():
    defaults = {field.name: field.default for field in dataclasses.fields(detection.DetectConfig)}
    for name, (_, text, _) in SETTINGS.items():
        assert text == (f"{defaults[name]:g}" if isinstance(defaults[name], float) else str(defaults[name])), name


def test_pictures_with_found_missed_and_false_boxes(drawn):
    from matplotlib.figure import Figure
    _, val = detection.load_boxes(drawn)

    def network(x, factors):
        """The first object right, and one box where nothing is."""
        return [np.array([[val.labels[0][0], 0.9, *val.boxes[0][0]], [0, 0.8, 0, 90, 6, 96]], np.float32)]
    detector = detection.Detector(network, val.class_names, (96, 128))
    figure = Figure()
    assert detection.plot_boxes(detector, val, [0], figure=figure) == (1, 1, len(val.labels[0]) - 1)
    assert len(figure.axes[0].patches) == len(val.labels[0]) + 1
    assert detection.plot_boxes(None, val, [0, 1, 2], figure=Figure()) is None
