import re

import pytest

from paddle_fasternet import cli, doctor
from paddle_fasternet.deploy import ENGINES, offered

pytestmark = pytest.mark.usefixtures("small_variant")


def test_doctor_where_all_is_well(monkeypatch, capsys):
    monkeypatch.setenv("PADDLE_FASTERNET_DATA", "/nowhere/cifar.tar.gz")
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for line in [r"paddle_fasternet [\d.]+, Paddle [\d.]+, Python 3", r"cpu: .+ cores; Paddle computes on \d+ of them",
                 r"  numpy [\d.]+$", r"  opencv-[a-z-]+ [\d.]+$", r"  onnx .+ \(export to ONNX\)$",
                 r"  engine eager: fp32$", "  CIFAR-10: .*/nowhere/cifar.tar.gz.: there is no such file",
                 r"train: works \([\d.]+ s\)$", r"export: works", r"explain: works", r"Everything tried works\."]:
        assert re.search(f"^{line}", said, re.MULTILINE), line
    assert said.count("predict with") == sum(bool(offered(engine)) for engine in ENGINES)


def test_doctor_names_what_fails(monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(doctor.deploy, "export", broken)
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert cli.main(["doctor"]) == 2
    captured = capsys.readouterr()
    assert "  tqdm is MISSING: pip install tqdm\n" in captured.out and "  visualdl not installed (train" in captured.out
    assert "train: works" in captured.out and "export: FAILED, RuntimeError: no kernel\n" in captured.out
    assert "predict with eager: works" in captured.out  # from the run itself: also where nothing can be exported
    assert captured.err.startswith("paddle-fasternet doctor: does not work here: export, explain")


def test_answers_that_differ_are_found(monkeypatch):
    class Predictor:
        def __init__(self, folder, engine, precision):
            self.wrong = engine == "paddle"

        def __call__(self, images):
            return images[:, 0, 0, :2] * 0.0 + [[0.5, 0.5 + 0.1 * self.wrong]]

    monkeypatch.setattr(doctor.deploy, "Predictor", Predictor)
    doctor._predict("folder", "eager")
    with pytest.raises(ValueError, match="differ from those of Paddle itself by 0.1"):
        doctor._predict("folder", "paddle")
