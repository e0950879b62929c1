"""A folder of one's own on the command line, from training to predictions."""
import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from paddle_fasternet import cli, load_dataset, load_run

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from pictures import colours, draw  # noqa: E402


@pytest.fixture(autouse=True)
def quick(small_variant, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


def train(capsys, *options):
    assert cli.main(["train", "--data", "photos", "--epochs", "6", "--batch-size", "16", "--augment", "crop=0.5,flip",
                     "--lr", "0.01", "--out", "run", *options]) == 0
    return capsys.readouterr()


def test_from_the_folder_to_predictions(tmp_path, capsys):
    colours(tmp_path / "photos", (20, 20, 10))
    assert ("data: photos, 40 training and 10 test images (the folder photos, 20% of each class for testing, seed 0)"
            in train(capsys).out)
    again = load_dataset("run")  # a run's folder stands for its data
    assert [len(part) for part in again] == [40, 10]
    assert again[1].names == json.loads(Path("run/config.json").read_text())["data"]["val_from"]["files"]

    assert cli.main(["evaluate", "--run", "run"]) == 0
    captured = capsys.readouterr()
    assert "on 10 test images" in captured.out and "top_losses.png" in captured.out
    assert "blue        2 " in captured.out and "precision  recall" in captured.out
    accuracy = captured.out.split(" on ")[0]

    assert cli.main(["explain", again[1].files[0], "--run", "run", "--samples", "200"]) == 0
    assert cli.main(["predict", "photos/red", "photos/blue/1.jpg", "--run", "run", "--out", "answers.csv"]) == 0
    assert "21 images classified; written to answers.csv" in capsys.readouterr().out
    with open("answers.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 21 and rows[-1]["file"] == "photos/blue/1.jpg" and set(rows[0]) == {
        "file", "class 1", "probability 1", "class 2", "probability 2", "class 3", "probability 3"}
    assert cli.main(["predict", "photos/red", "--run", "run", "--top", "1", "--out", "answers.json"]) == 0
    found = json.loads(Path("answers.json").read_text())
    assert found[0]["file"] == rows[0]["file"] and found[0]["classes"][0]["name"] == rows[0]["class 1"]
    assert found[0]["classes"][0]["probability"] == pytest.approx(float(rows[0]["probability 1"]), abs=1e-6)
    capsys.readouterr()

    shutil.move("photos", "moved")
    assert cli.main(["evaluate", "--run", "run"]) == 2
    assert "the pictures of the run are no longer there; name their folder with --data" in capsys.readouterr().err
    draw(Path("moved/red/new.jpg"))
    assert cli.main(["evaluate", "--run", "run", "--data", "moved"]) == 0  # the same ten, though there is a new one
    assert capsys.readouterr().out.split(" on ")[0] == accuracy

    colours(tmp_path / "others", (3, 3, 3), seed=9)
    assert cli.main(["evaluate", "--run", "run", "--data", "others", "--out", "pictures"]) == 0
    assert "on 9 test images" in capsys.readouterr().out  # none of them was trained on
    draw(Path("others/violet/1.jpg"))
    assert cli.main(["evaluate", "--run", "run", "--data", "others"]) == 2
    assert "has the class 'violet', which is not among the 3 class names" in capsys.readouterr().err


def test_resume_needs_the_same_pictures(tmp_path, capsys):
    colours(tmp_path / "photos", (20, 20, 10))
    train(capsys)
    train(capsys, "--resume")  # finished: nothing to do
    draw(Path("photos/red/new.jpg"))
    (tmp_path / "photos/red/1.jpg").unlink()
    assert cli.main(["train", "--data", "photos", "--epochs", "6", "--batch-size", "16", "--augment", "crop=0.5,flip",
                     "--lr", "0.01", "--out", "run", "--resume"]) == 2
    assert "_files is '" in capsys.readouterr().err


def test_export_with_the_runs_own_pictures(tmp_path, capsys):
    for part, counts in (("train", (6, 6, 6)), ("val", (2, 2, 2))):
        colours(tmp_path / "photos" / part, counts)
    train(capsys, "--epochs", "1")
    assert cli.main(["export", "--run", "run", "--out", "net", "--check", "--formats", "paddle"]) == 0
    assert "on 6 images" in capsys.readouterr().out
    assert cli.main(["evaluate", "--run", "net", "--data", "photos", "--out", "pictures"]) == 0
    assert "on 6 test images" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "--data", "photos"], "its 1 pictures lie in no class; expected is a subfolder for each class"),
    (["train", "--data", "./nowhere"], "there is no such folder, and no data set of that name"),
    (["predict", "empty", "--run", "run"], "not the folder of a finished run"),
    (["predict", "photos", "--out", "a.txt"], "ending of --out='.txt' is not known"),
])
def test_errors_teach(arguments, message, tmp_path, capsys):
    draw(tmp_path / "photos/1.jpg")
    (tmp_path / "empty").mkdir()
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_what_a_run_says_about_its_pictures(tmp_path, capsys):
    colours(tmp_path / "photos", (20, 20, 10))
    train(capsys, "--epochs", "1")
    data = load_run("run").data
    assert data["train_from"] == {"folder": str(tmp_path / "photos"), "inside": "", "part": "rest"}
    assert data["val_from"]["part"] == "listed" and len(data["val_from"]["files"]) == 10


def test_names_that_are_no_utf_8(tmp_path, capsys):
    """Such names come out of archives of other systems; they are recorded, shown and written like any other."""
    folder = colours(tmp_path / "photos", (20, 20, 10))
    for file in sorted((folder / "red").iterdir()):
        os.rename(file, folder / "red" / os.fsdecode(b"\xff" + os.fsencode(file.name)))
    train(capsys, "--epochs", "1")
    assert cli.main(["evaluate", "--run", "run"]) == 0
    assert "on 10 test images" in capsys.readouterr().out
    assert cli.main(["predict", "photos/red", "--run", "run"]) == 0
    assert "photos/red/\\udcff0.jpg: " in capsys.readouterr().out
    for name in ("a.csv", "a.json"):
        assert cli.main(["predict", "photos/red", "--run", "run", "--out", name]) == 0
        assert Path(name).read_bytes().decode("utf-8")


def test_flips_of_what_has_no_mirror_image_are_pointed_out(tmp_path, capsys):
    for augment, said in (("flip,shift", True), ("shift", False)):
        assert cli.main(["train", "--data", "digits", "--epochs", "1", "--batch-size", "700", "--patch-size", "4",
                         "--augment", augment, "--out", augment[:2]]) == 0
        assert ("a mirror image means something else here" in capsys.readouterr().err) == said
