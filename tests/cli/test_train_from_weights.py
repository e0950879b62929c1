"""Training from weights, and resuming, on the command line."""
import json
from pathlib import Path

import pytest

from paddle_fasternet import cli, load_run
from paddle_fasternet.training import trainer

SETTINGS = ["--data", "digits", "--epochs", "1", "--patch-size", "4", "--batch-size", "256", "--lr", "0.002"]


@pytest.fixture(autouse=True)
def quick(small_variant, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


def recorded(folder):
    return json.loads(Path(folder, "config.json").read_text())


def test_a_run_starts_from_another_and_resumes_with_what_is_left_out(capsys, monkeypatch):
    assert cli.main(["train", *SETTINGS, "--out", "first"]) == 0
    start = ["train", *SETTINGS, "--out", "second", "--pretrained", "first", "--backbone-lr", "0.5", "--balance",
             "weights", "--freeze", "backbone"]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate", interrupted)
        assert cli.main([*start, "--checkpoint-seconds", "0"]) == 130
    assert "pretrained='first': all weights are taken" in capsys.readouterr().err
    assert recorded("second")["pretrained"]["from"] == "first"
    assert cli.main(["train", "--resume", "--out", "second", "--lr", "0.1"]) == 2
    assert "lr is 0.002 there, 0.1 here" in capsys.readouterr().err
    assert cli.main(["train", "--resume", "--out", "second"]) == 0
    assert "data: digits" in capsys.readouterr().out
    config = load_run("second").config
    assert (config.backbone_lr, config.balance, config.freeze, config.patch_size) == (0.5, "weights", "backbone", 4)


def test_resume_without_a_run_begins_one(capsys):
    assert cli.main(["train", *SETTINGS, "--out", "run", "--resume"]) == 0
    assert recorded("run")["config"]["patch_size"] == 4
    assert cli.main(["train", "--out", "run", "--resume", "--epochs", "3"]) == 2
    assert "for more start another one from it in another out_dir, with --pretrained run" in (
        capsys.readouterr().err)


def test_a_source_that_is_not_there(capsys):
    assert cli.main(["train", *SETTINGS, "--pretrained", "nowhere"]) == 2
    assert "--pretrained='nowhere': there is no such file or folder" in capsys.readouterr().err
