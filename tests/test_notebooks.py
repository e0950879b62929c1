"""The notebooks as they are committed; `make notebooks` runs them."""
import ast
import json
import os
import re
import subprocess
import sys
import types
import zlib
from pathlib import Path

import pytest
from run_notebooks import NOTEBOOKS, OWN_DATA, WIDGET, complaints, outputs, tidy

from paddle_fasternet import TrainConfig, load_dataset, load_run
from paddle_fasternet.native.cpu import default_threads
from paddle_fasternet.weights import CIFAR10_RUN

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
PENDING = {"MyPictures", "Detect"}  # names without outputs until a full run is made
MACHINE_PATH = re.compile(r"(?<![\w./])/(?:work|tmp|root|home|mnt|usr|opt|Users)\b")


@pytest.fixture(params=NOTEBOOKS)
def name(request):
    return request.param


@pytest.fixture
def prepare(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import prepare
    return prepare


@pytest.fixture
def notebook(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def cells(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_these_are_all():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NOTEBOOKS)


def test_parameters(name, notebook):
    tagged = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1 and tagged[0] is notebook["cells"][2]
    tree = ast.parse("".join(tagged[0]["source"])).body
    assert all(isinstance(statement, ast.Assign) for statement in tree)
    named = {statement.targets[0].id: statement.value for statement in tree}
    expected = {"data", "out_dir", "quick"} | (set() if name in OWN_DATA else {"data_file"})
    assert expected <= set(named) and named["quick"].value is False
    if name in ("FasterNet", "DWConv", "Compare"):
        assert {"recipe", "model", "epochs", "image_size"} <= set(named)


def test_thin(name, notebook):
    assert (FOLDER / f"{name}.ipynb").stat().st_size <= 1 << 20
    for number, source in enumerate(cells(notebook, "code")):
        assert len(source.splitlines()) <= 15, source
        used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}  # no %magic, no !command
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(source))), source
        assert number == 0 or not used & {"subprocess", "pip"}, "only the first code cell may install"


def test_both_languages(notebook):
    first, *_ = texts = cells(notebook, "markdown")
    assert first.startswith("# ") and "您会看到 / You will see" in first and "用时 / Time" in first
    headings = [line for text in texts for line in text.splitlines() if line.startswith("#")]
    for line in headings:
        chinese, _, english = line.rpartition(" / ")
        assert CHINESE.search(chinese) and not CHINESE.search(english) and re.search("[A-Za-z]{3}", english), line


def test_no_path_of_a_machine(notebook):
    shown = [text for _, output in outputs(notebook)
             for text in ["".join(output.get("text", "")), *("".join(value) for kind, value in
                                                            output.get("data", {}).items() if kind.startswith("text"))]]
    for text in [*cells(notebook, "code"), *cells(notebook, "markdown"), *shown]:
        assert not MACHINE_PATH.search(text), MACHINE_PATH.search(text)


def test_outputs_are_of_one_run_from_top_to_bottom(name, notebook):
    executed = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if name in PENDING:
        assert not any(executed) and not list(outputs(notebook)), f"{name} has been run: take it out of PENDING"
        return
    assert executed == list(range(1, len(executed) + 1)), f"python tests/run_notebooks.py --full {name} writes them"
    assert not any(output["output_type"] == "error" for _, output in outputs(notebook))
    assert not complaints(notebook)
    assert notebook == tidy(json.loads(json.dumps(notebook)))


def test_one_road_for_two_mixers():
    """FasterNet and DWConv differ in the title, in one paragraph and in the mixer."""
    ours, theirs = (json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
                    for name in ("FasterNet", "DWConv"))
    assert len(ours["cells"]) == len(theirs["cells"])
    code, prose = ([pair for pair in zip(cells(ours, kind), cells(theirs, kind)) if pair[0] != pair[1]]
                   for kind in ("code", "markdown"))
    assert len(code) == 1 and code[0][0].replace('"pconv"', '"dwconv"', 1) == code[0][1] and len(prose) == 2


@pytest.mark.parametrize("name", ["FasterNet", "DWConv", "Compare"], indirect=True)
def test_other_settings_and_other_data_get_a_folder_of_their_own(notebook, tiny_set):
    lines = [line for cell in cells(notebook, "code") for line in cell.splitlines() if "crc32" in line or "08x" in line]
    found = set()
    for config in (TrainConfig(), TrainConfig(epochs=3)):
        for train in (tiny_set, tiny_set[:20]):
            names = {"zlib": zlib, "Path": Path, "config": config, "configs": {("pconv", 0): config}, "train": train,
                     "mixer": "pconv", "seed": 0, "out_dir": "", "out": Path(), "quick": False}
            exec("\n".join(lines), names)
            found.add(names.get("folder") or names["folders"]["pconv", 0])
    assert len(found) == 4


@pytest.mark.parametrize("name", ["Explain", "Deploy"], indirect=True)
def test_a_run_is_never_swapped_for_another_network(notebook, tmp_path):
    """With data of other classes than the run's: the given run leads to an error, the shipped one to a training."""
    cell, = (text for text in cells(notebook, "code") if "run_folder and" in text)
    trained = []

    def fit(config, train, test, folder, **_):
        trained.append(train.class_names)
        raise InterruptedError

    library = types.SimpleNamespace(load_run=load_run, load_dataset=load_dataset, TrainConfig=TrainConfig, fit=fit)
    given = {"pf": library, "CIFAR10_RUN": CIFAR10_RUN, "data": "digits", "data_file": "", "out": tmp_path}
    with pytest.raises(ValueError, match="the run has other classes than digits.*'airplane'"):
        exec(cell, {**given, "run_folder": str(CIFAR10_RUN)})
    assert not trained
    with pytest.raises(InterruptedError):
        exec(cell, {**given, "run_folder": ""})
    assert trained == [load_dataset("digits")[0].class_names]


def test_an_old_python_is_told_what_to_choose(prepare):
    for version in ((3, 7), (2, 7)):
        said = prepare.too_old(version)
        assert "AI Studio" in said and "Python 3.10" in said and CHINESE.search(said) and ".".join(
            map(str, version)) in said
    assert not prepare.too_old((3, 9)) and not prepare.too_old((3, 14))
    # it is read by such a Python before it can say so: nothing newer than Python 3.7's grammar
    ast.parse((FOLDER / "prepare.py").read_text(encoding="utf-8"), feature_version=(3, 7))


def test_installing_leaves_what_a_paddle_stands_on(prepare, monkeypatch, tmp_path):
    here = {"numpy": "1.26.4", "opencv-python": "4.5.5.64", "paddlepaddle-gpu": "2.6.2", "tqdm": "4.66"}
    assert prepare.constraints(here) == ["numpy==1.26.4", "opencv-python==4.5.5.64", "paddlepaddle-gpu==2.6.2"]
    needs = ["numpy<2.4,>=1.22", "opencv-python-headless>=4.5", "tqdm>=4.60", "scikit_learn>=1.0",
             'onnx>=1.14; extra == "deploy"', "paddlepaddle>=2.6; extra == 'cpu'"]
    assert prepare.wanted(needs, [], here) == ["scikit_learn>=1.0"]
    assert prepare.wanted(needs, ["deploy"], {}) == [*needs[:4], "onnx>=1.14"]
    asked = []
    monkeypatch.setattr(prepare, "pip", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(prepare, "list_installed", lambda: here)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: needs)
    prepare.install(["deploy"])
    assert asked[0] == ("--no-deps", "-e", str(ROOT))
    assert asked[1][0] == "-c" and asked[1][2:] == ("scikit_learn>=1.0", "onnx>=1.14")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    prepare.install(["deploy"])
    assert asked[2:] == [("-e", f"{ROOT}[cpu,deploy]")]


def test_preparing_gives_the_cores_of_this_container(prepare):
    done = subprocess.run([sys.executable, "prepare.py"], cwd=FOLDER, text=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "7"})
    assert done.returncode == 0 and done.stdout == f"{default_threads()}\n", done.stderr


def test_first_screen_of_the_readmes_shows_a_picture_of_the_notebooks():
    picture = "work/results/mixers.png"
    for readme in ("README.md", "README.zh-CN.md"):
        shown = f"({picture})" in (ROOT / readme).read_text(encoding="utf-8")[:1500]
        assert shown != ("Compare" in PENDING), readme
    if "Compare" in PENDING:
        assert not (ROOT / picture).exists()
        return
    assert (ROOT / picture).stat().st_size < 150_000, "python tests/run_notebooks.py --full Compare writes it"


def executed(*shown, **metadata):
    return {"metadata": {"kernelspec": {}, "language_info": {}, **metadata}, "cells": [
        {"cell_type": "code", "metadata": {"tags": ["parameters"], **metadata}, "outputs": list(shown)}]}


def test_complaints_and_tidying():
    picture, bar = ({"output_type": "display_data", "data": {kind: "..."}} for kind in ("image/png", WIDGET))
    warning = {"output_type": "stream", "name": "stderr", "text": ["be", "ware\n"]}
    assert complaints(executed(picture, bar)) == []
    assert complaints(executed(picture, warning)) == ["cell 0 wrote to stderr: beware"]
    assert complaints(executed(bar)) == ["it left no picture"]
    assert tidy(executed(picture, bar, papermill={"input_path": "here"})) == executed(picture)
