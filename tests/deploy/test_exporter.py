"""What an export holds, and how it comes and stays."""
import json
import os
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
from deploying import MEAN, STD, answer, copy, small
from PIL import Image

from paddle_fasternet import load_run
from paddle_fasternet.data import ImageSet
from paddle_fasternet.deploy import (
    Predictor,
    export,
    fuse_conv_bn,
)
from paddle_fasternet.weights import CIFAR10_RUN


def test_what_an_export_holds(folder):
    out, model, _ = folder
    index = json.loads((out / "export.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == sorted([*index["files"], "export.json"])
    assert {"model.onnx", "model_int8.onnx", "model_int8.xml", "model_int8.bin", "inference.pdiparams",
            "inference.yml"} <= set(index["files"])
    assert index["class_names"] == list("abcde") and index["image_size"] == 16 and index["mean"] == list(MEAN)
    assert index["parameters"] == sum(value.size for value in fuse_conv_bn(model).parameters())
    assert index["accuracy"]["fp32"]["top1"] == 1.0  # the labels are the network's own answers
    assert set(index["accuracy"]) >= {"fp32", "int8"} and index["accuracy"]["int8"]["same_as_fp32"] > 0.8
    program = onnx.load(str(out / "model.onnx"))
    assert program.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    kinds = {node.op_type for node in program.graph.node}
    assert "BatchNormalization" not in kinds and "Conv" in kinds
    assert {node.op_type for node in onnx.load(str(out / "model_int8.onnx")).graph.node} >= {"QuantizeLinear"}


def test_the_paddlex_description_says_what_the_network_needs(folder):
    content = json.loads((folder[0] / "inference.yml").read_text())  # JSON is YAML too
    steps = {name: values for step in content["PreProcess"]["transform_ops"] for name, values in step.items()}
    assert steps["ResizeImage"] == {"resize_short": 16} and steps["CropImage"] == {"size": 16}
    normal = steps["NormalizeImage"]
    pixel = np.array([10.0, 20.0, 30.0])
    assert np.allclose((pixel * normal["scale"] - normal["mean"]) / normal["std"], (pixel - MEAN) / STD)
    assert content["PostProcess"]["Topk"] == {"topk": 5, "label_list": list("abcde")}
    assert content["Global"]["model_name"] == "FasterNet-T0"


@pytest.mark.parametrize("name, engine", [("model.onnx", "onnxruntime"), ("model.onnx", "openvino"),
                                          ("inference.pdiparams", "paddle"), ("inference.pdiparams", "eager"),
                                          ("model_int8.onnx", "onnxruntime"), ("model_int8.xml", "openvino"),
                                          ("model_int8.bin", "openvino")])
def test_damaged_files_are_found_before_an_engine_sees_them(folder, tmp_path, name, engine):
    out, precision = copy(folder[0], tmp_path / "net"), "int8" if "int8" in name else "fp32"
    content = (out / name).read_bytes()
    for damaged in (content[:-10], content[:100] + bytes([content[100] ^ 1]) + content[101:], b""):
        (out / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name} is damaged: it is not what export wrote"):
            Predictor(out, engine, precision)
    (out / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing; export the network again"):
        Predictor(out, engine, precision)


def test_damaged_indexes(folder, tmp_path):
    out = copy(folder[0], tmp_path / "net")
    content = json.loads((out / "export.json").read_text())
    for damaged in ("", "[]", "{}", "null", json.dumps({**content, "image_size": "big"}),
                    json.dumps({**content, "mean": [float("nan")]}), json.dumps({**content, "files": 3}),
                    json.dumps({**content, "accuracy": [1]})):
        (out / "export.json").write_text(damaged)
        with pytest.raises(ValueError, match="export.json is damaged or not of this library"):
            Predictor(out)
    # an index of a stranger cannot lead out of its folder
    (out / "export.json").write_text(json.dumps({**content, "files": {"../../model.onnx": "0", "model.onnx": "0"}}))
    with pytest.raises(ValueError, match="damaged"):
        Predictor(out, "onnxruntime")


def test_export_refuses_what_it_cannot_do(folder, tmp_path):
    out, model, known = folder
    with pytest.raises(FileExistsError, match=r"holds an export already: .* overwrite=True \(--overwrite\)"):
        export(model, out, 16)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is there already and is no export"):
        export(model, tmp_path / "mine", 16, overwrite=True)
    for arguments, message in [
            ({"formats": ("onx",)}, "formats='onx' is not known; did you mean 'onnx'"),
            ({"formats": ()}, "is empty"), ({"image_size": 4}, "smaller than the network's stride"),
            ({"image_size": None}, "image_size=None"),
            ({"calibration": known, "formats": "paddle"}, "int8 is made from"),
            ({"validation": known}, "validation has the classes"), ({"calibration": [1]}, "calibration must be a")]:
        with pytest.raises((ValueError, TypeError), match=message):
            export(model, tmp_path / "new", **{"image_size": 16, **arguments})
        assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["mine"]


def test_a_failing_export_leaves_what_was_there(folder, tmp_path, monkeypatch):
    from paddle_fasternet.deploy import export as function
    module = sys.modules[function.__module__]
    out = copy(folder[0], tmp_path / "net")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(module, "_compare", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(folder[1], out, 16, formats="onnx", overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["net"]
    monkeypatch.undo()
    export(folder[1], out, 16, formats="onnx", overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.onnx"]


def test_files_of_others_stay_in_an_export(folder, tmp_path):
    out = copy(folder[0], tmp_path / "net")
    (out / "notes.txt").write_text("mine")
    (out / "pictures").mkdir()
    export(folder[1], out, 16, formats="onnx", overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.onnx", "notes.txt", "pictures"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["net"]


def test_what_was_written_must_answer_as_the_network(folder, tmp_path, monkeypatch):
    module = sys.modules[export.__module__]
    write = module.write_onnx
    monkeypatch.setattr(module, "write_onnx", lambda network, *rest: write(fuse_conv_bn(small(n_div=2)), *rest))
    with pytest.raises(ValueError, match="the exported onnx files answer otherwise than the network"):
        export(folder[1], tmp_path / "net", 16, formats="onnx")


def test_a_killed_export_leaves_no_folder(tmp_path):
    code = ("import sys, time, paddle_fasternet as pf\nfrom paddle_fasternet.deploy import export\n"
            "module = sys.modules[export.__module__]\n"
            "module.write_onnx = lambda *a: (print('now', flush=True), time.sleep(60))\n"
            f"export(pf.FasterNet(embed_dim=8, depths=(1,), merge_sizes=()), {str(tmp_path / 'net')!r}, 16)")
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert any("now" in line for line in process.stdout)
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "net").exists()
    leftover, = [path for path in tmp_path.iterdir() if path.name != "cache"]
    assert leftover.name.startswith(".net.") and leftover.name.endswith(".part")
    with pytest.raises(ValueError, match="no export.json"):
        Predictor(leftover)


def test_int8_of_the_shipped_network_follows_fp32_and_shows_no_bars(tmp_path, capsys):
    run = load_run(CIFAR10_RUN, "final")
    rough = np.random.RandomState(0).randint(0, 256, (200, 5, 5, 3), np.uint8)
    images = np.stack([Image.fromarray(image).resize((32, 32), Image.BICUBIC) for image in rough]).transpose(0, 3, 1, 2)
    export(run, tmp_path / "net", calibration=ImageSet(images, np.zeros(200, int), run.class_names, "made", "here"),
           progress=False)
    assert capsys.readouterr() == ("", "")  # NNCF's bars obey progress
    x, _ = run.preprocess(images, None, None)
    expected = answer(run.model, x)
    for engine in ("openvino", "onnxruntime"):
        error = Predictor(tmp_path / "net", engine, "int8").logits(x) - expected
        assert np.linalg.norm(error) < 0.1 * np.linalg.norm(expected), engine


def test_the_bars_of_nncf_obey_progress(tmp_path, capfd):
    images = ImageSet(np.random.RandomState(0).randint(0, 256, (4, 3, 16, 16), np.uint8), [0] * 4, list("abcde"))
    for progress in (True, False):
        export(small(), tmp_path / str(progress), 16, formats=["onnx"], calibration=images, progress=progress)
        assert bool(capfd.readouterr().out) == progress
