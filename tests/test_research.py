"""The scripts in research/ and tests/soak/ start from the root of the repository."""
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from paddle_fasternet import load_run
from paddle_fasternet.training import History
from paddle_fasternet.weights import CIFAR10_RUN

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([*(ROOT / "research").glob("*.py"), *(ROOT / "tests" / "soak").glob("[!t]*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_help(path):
    text = path.read_text(encoding="utf-8")
    if "import torch\n" in text and importlib.util.find_spec("torch") is None:
        pytest.skip("needs PyTorch")
    if "argparse" not in text:
        pytest.skip("is imported, not started")
    result = subprocess.run([sys.executable, str(path.relative_to(ROOT)), "--help"], cwd=ROOT, text=True,
                            capture_output=True)
    assert result.returncode == 0 and result.stdout.startswith("usage:"), result.stderr[-2000:]


def test_what_is_shipped_keeps_epochs_instead_of_steps(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "research"))
    from ship_run import by_epoch
    history = History(epochs=load_run(CIFAR10_RUN, "final").history.epochs[:2])
    history.add_steps(1, [3.0, 2.0, 1.0], [0.1, 0.2, 0.3])
    short = by_epoch(history)
    assert short.record["train"] == {key: [epoch[name] for epoch in history.epochs] for key, name in (
        ("iter", "step"), ("loss", "train_loss"), ("acc", "train_acc"))}
    assert short.epochs == history.epochs and history.record["train"]["iter"] == [1, 2, 3]
    short.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == short
