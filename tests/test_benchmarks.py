"""The scripts in benchmarks/: each runs with --quick, says what it lacks before it measures, and measures fairly."""
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = {  # script: (its record, what it needs beside the package)
    "data_pipeline": ("data_pipeline", ()),
    "detect": ("detect", ("ppdet",)),
    "explain": ("explain", ("interpretdl",)),
    "folder_loader": ("folder_loader", ()),
    "inference": ("inference", ("openvino", "onnxruntime", "nncf")),
    "mixers": ("mixers_speed", ("openvino", "onnxruntime", "nncf")),
    "operators": ("operators", ()),
    "paddlex_agreement": ("paddlex", ("paddlex",)),
    "side_effect": ("side_effect", ()),
    "train_step": ("train_step", ()),
}
HELPERS = {"child", "contenders", "report", "turns"}
# a contender that spins on in a second thread, which counts rounds in a file; and others that fail
CONTENDERS = """
import threading, time

def spinning(path):
    def spin():
        while True:
            with open(path, "a") as file:
                file.write("x")
            time.sleep(0.001)
    threading.Thread(target=spin, daemon=True).start()
    return lambda: time.sleep(0.01)

class Counting:
    def __init__(self, step):
        self.calls, self.step = 0, step
    def __call__(self):
        self.calls += self.step
        print("not an answer")
        return self.calls
    def facts(self):
        return self.calls

def broken():
    raise ValueError("no such engine")

def breaking():
    def call():
        raise ValueError("out of memory, say")
    return call
"""


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import turns
    return turns


@pytest.fixture
def script(tmp_path):
    (tmp_path / "made_up.py").write_text(CONTENDERS)
    return tmp_path / "made_up.py"


def run(name, *arguments, **environment):
    return subprocess.run([sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *map(str, arguments)], text=True,
                          capture_output=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environment})


def test_these_are_all():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == {*SCRIPTS, *HELPERS}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_quick(name, tmp_path):
    record, needs = SCRIPTS[name]
    missing = [package for package in needs if importlib.util.find_spec(package) is None]
    if missing:
        result = run(name, "--quick", "--out", tmp_path)
        assert result.returncode == 2 and f"needs {', '.join(missing)}" in result.stderr
        pytest.skip(f"needs {', '.join(missing)}")
    result = run(name, "--quick", "--out", tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert result.returncode == 0, result.stderr[-3000:]
    content = json.loads((tmp_path / f"{record}.json").read_text())
    assert content["command"] == f"python benchmarks/{name}.py --quick" and content["machine"]["cores"] >= 1
    assert not list(tmp_path.glob("*.partial.json"))
    assert not content["not_run"], content["not_run"]


@pytest.mark.parametrize("name, arguments, message", [
    ("mixers", ["--only", "PConf"], "--only 'PConf' is not known; choose from: 'PConv', 'DWConv'"),
    ("train_step", ["--only", "ours fp32"], "'ours, fp32'"),
    ("train_step", ["--torch-python", "/no/python"], "--torch-python /no/python does not import torch"),
    ("operators", ["--turns", "0"], "--turns 0 must be at least 1"),
    ("operators", ["--compare", "no.json"], "--compare no.json: there is no such file"),
    ("data_pipeline", ["--data-file", "no-archive"], "no-archive"),
])
def test_what_is_wrong_is_said_before_anything_is_measured(name, arguments, message, tmp_path):
    result = run(name, *arguments, "--out", tmp_path)
    assert result.returncode and message in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_noticed_first(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("train_step", "--out", tmp_path / "file" / "results")
    assert result.returncode == 2 and "choose another folder" in result.stderr


def test_others_stand_still_during_a_turn(turns, script, tmp_path):
    paths = [tmp_path / name for name in "ab"]
    processes = [turns.Process(turns.Contender(f"{script}:spinning", 1, {"path": str(path)})) for path in paths]
    try:
        sizes = [path.stat().st_size for path in paths]
        values = processes[0].ask({"calls": 3, "seconds": 0.05, "warmup": 1})
        assert len(values) >= 3 and sum(values) >= 0.05
        time.sleep(0.05)
        grown = [path.stat().st_size - size for path, size in zip(paths, sizes)]
        assert grown[0] > 5 and grown[1] == 0
    finally:
        for process in processes:
            process.close()


def test_one_that_fails_is_named_and_the_others_are_measured(turns, script, tmp_path, monkeypatch, capsys):
    found = turns.in_turn({
        "counting": turns.Contender(f"{script}:Counting", 8, {"step": 2}), "broken": turns.Contender(
            f"{script}:broken", 1), "breaking": turns.Contender(f"{script}:breaking", 1)},
        turns=2, calls=3, seconds=0, warmup=1)
    assert found.timings["counting"].repeats == 6 and found.timings["counting"].images == 8
    assert found.facts == {"counting": 2 * 3 * (3 + 1)}  # the turn that does not count is there too
    assert found.refused.keys() == {"broken", "breaking"} and "no such engine" in found.refused["broken"]
    monkeypatch.setattr(sys, "argv", ["benchmarks/some.py", "--out", "here", "--turns", "2", "--data-file=there"])
    record = turns.Record(tmp_path, "some", first=1)
    record.add("rows", found, setting="32")
    assert json.loads((tmp_path / "some.partial.json").read_text())["rows"][0]["setting"] == "32"
    record.finish(last=2)
    content = json.loads((tmp_path / "some.json").read_text())
    assert content["command"] == "python benchmarks/some.py --turns 2 --data-file CIFAR10.tar.gz"
    assert content["first"] == 1 and content["last"] == 2 and "out of memory, say" in content["not_run"]["32 breaking"]
    assert not (tmp_path / "some.partial.json").exists() and "32 breaking" in capsys.readouterr().err
    assert turns.alone(f"{script}:Counting", step=5) == 5


def test_contenders_end_with_the_script(turns, script, tmp_path):
    """Even where the script is killed while they are stopped."""
    code = (f"import turns; process = turns.Process(turns.Contender({str(script)!r} + ':spinning', 1, "
            f"dict(path={str(tmp_path / 'a')!r}))); print(process._process.pid, flush=True); input()")
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"})
    child = int(parent.stdout.readline())
    assert Path(f"/proc/{child}/stat").read_text().split(") ")[1][0] == "T"
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or Path(f"/proc/{child}/stat").read_text().split(") ")[1][0] == "Z":
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the contender is still there")
