import importlib.util
import json
import os
import signal
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
from networks import trained_like
from paddle import nn
from PIL import Image

from paddle_fasternet import FasterNet, evaluate, load_run
from paddle_fasternet.data import Augment, ImageSet
from paddle_fasternet.deploy import (
    ENGINES,
    Predictor,
    export,
    fuse_conv_bn,
    offered,
    predictor,
    to_onnx,
)
from paddle_fasternet.native import cpu, library
from paddle_fasternet.weights import CIFAR10_RUN

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 55.0)


@pytest.fixture(autouse=True)
def own_memory(tmp_path, monkeypatch):
    """Measured choices go to the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def small(**arguments):
    return trained_like(**{"drop_path_rate": 0.2, **arguments})


def close(actual, expected, tolerance=1e-5):
    return np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def answer(model, x):
    with paddle.no_grad():
        return model(paddle.to_tensor(x)).numpy()


def batch(count=3, size=16, channels=3):
    return np.random.RandomState(1).standard_normal((count, channels, size, size)).astype(np.float32)


def pictures(count, size=16):
    return np.random.RandomState(2).randint(0, 256, (count, size, size, 3), np.uint8)


def own_mixer(dim):
    """A mixer of a user: a convolution with a bias, and its BatchNorm."""
    return nn.Sequential(nn.Conv2D(dim, dim, 3, padding=1, groups=dim), nn.BatchNorm2D(dim), nn.ReLU())


NETWORKS = [{"mixer": name} for name in ("pconv", "dwconv", "gconv", "conv", "identity", own_mixer)] + [
    {"act_layer": nn.GELU, "layer_scale_init_value": 0.3}, {"n_div": 1}, {"embed_act": True, "patch_size": 2},
    {"merge_sizes": (1,), "patch_size": 1}, {"num_classes": 0}, {"norm_layer": nn.Identity},
    {"embed_overlap": 1}, {"mixer": lambda dim: nn.Conv2D(dim, dim, 4, padding=[1, 2, 1, 2])}]


@pytest.mark.parametrize("arguments", NETWORKS, ids=str)
def test_folded_and_written_as_onnx_it_answers_the_same(arguments):
    model, x = small(**arguments), batch()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    expected = answer(model, x)
    folded = fuse_conv_bn(model)
    assert close(answer(folded, x), expected)
    assert not any(isinstance(layer, nn.BatchNorm2D) for layer in folded.sublayers())
    session = onnxruntime.InferenceSession(to_onnx(folded, (3, 16, 16)).SerializeToString())
    unfolded = onnxruntime.InferenceSession(to_onnx(model, (3, 16, 16)).SerializeToString())
    for part in (x, x[:1]):  # the batch size is free
        assert close(session.run(None, {"x": part})[0], expected[:len(part)])
        assert close(unfolded.run(None, {"x": part})[0], expected[:len(part)])
    after = model.state_dict()
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name].numpy()) for name in before)


def test_folding_by_hand():
    pair = nn.Sequential(nn.Conv2D(1, 1, 1), nn.BatchNorm2D(1, epsilon=0.0))
    for value, number in ((pair[0].weight, 3.0), (pair[0].bias, 1.0), (pair[1].weight, 2.0), (pair[1].bias, 5.0),
                          (pair[1]._mean, 7.0), (pair[1]._variance, 4.0)):
        value.set_value(paddle.full(value.shape, number))
    pair.train()
    folded = fuse_conv_bn(pair)
    # ((3 x + 1) - 7) / 2 * 2 + 5 = 3 x - 1
    assert float(folded[0].weight) == 3.0 and float(folded[0].bias) == -1.0
    assert isinstance(folded[1], nn.Identity) and pair.training and isinstance(pair[1], nn.BatchNorm2D)


def test_a_convolution_with_two_normalisations_stays():
    class TwoHeads(nn.Layer):
        def __init__(self):
            super().__init__()
            conv = nn.Conv2D(3, 4, 1)
            self.a, self.b = nn.Sequential(conv, nn.BatchNorm2D(4)), nn.Sequential(conv, nn.BatchNorm2D(4))
            self.b[1]._variance.set_value(paddle.full([4], 9.0))

        def forward(self, x):
            return paddle.concat([self.a(x), self.b(x)], 1)

    model, x = TwoHeads(), batch()
    model.eval()
    assert close(answer(fuse_conv_bn(model), x), answer(model, x))


def test_a_batchnorm_that_follows_no_convolution_stays():
    model = nn.Sequential(nn.Conv2D(3, 4, 1), nn.ReLU(), nn.BatchNorm2D(4))
    assert isinstance(fuse_conv_bn(model)[2], nn.BatchNorm2D)
    with pytest.raises(TypeError, match="model must be a Layer, not str"):
        fuse_conv_bn("fasternet_t0")


def test_a_forward_of_ones_own_is_not_passed_over():
    class Half(FasterNet):
        def forward(self, x):
            return super().forward(x) / 2

    class PConv(nn.Layer):  # the name alone proves nothing
        def __init__(self, dim):
            super().__init__()
            self.partial_conv3 = nn.Conv2D(dim // 4, dim // 4, 3, padding=1, bias_attr=False)

        def forward(self, x):
            first, rest = paddle.split(x, [self.partial_conv3.weight.shape[0], -1], 1)
            return paddle.concat([-self.partial_conv3(first), rest], 1)

    class Quiet(nn.ReLU):
        def forward(self, x):
            return 0.1 * super().forward(x)

    half = Half(embed_dim=8, depths=(1, 1), merge_sizes=(2,), feature_dim=16, num_classes=5)
    half.eval()
    for model in (half, small(mixer=PConv), small(act_layer=Quiet)):
        with pytest.raises(ValueError, match="cannot be written as ONNX"):
            to_onnx(model, (3, 16, 16))
        with pytest.raises(ValueError, match="the native engine runs FasterNet with PConv or identity mixers"):
            Predictor(model, "native", image_size=16)
        assert close(Predictor(model, "eager", image_size=16).logits(batch()), answer(model, batch()))


def test_layers_that_onnx_has_not_are_named():
    with pytest.raises(ValueError, match=r"mlp\.2 is a LogSigmoid, which cannot be written as ONNX"):
        to_onnx(small(act_layer=nn.LogSigmoid), (3, 16, 16))
    with pytest.raises(ValueError, match="tanh form of GELU"):
        to_onnx(small(act_layer=lambda: nn.GELU(approximate=True)), (3, 16, 16))
    with pytest.raises(ValueError, match="padding by numbers of zeros"):
        to_onnx(small(mixer=lambda dim: nn.Conv2D(dim, dim, 3, padding="SAME")), (3, 16, 16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One export of everything, int8 included, and the network it was made of."""
    model, out = small(act_layer=nn.GELU), tmp_path_factory.mktemp("export") / "net"
    images = pictures(40).transpose(0, 3, 1, 2)
    labels = Predictor(model, "eager", image_size=16, mean=MEAN, std=STD)(images.transpose(0, 2, 3, 1)).argmax(1)
    known = ImageSet(images, labels, tuple("abcde"), "made", "here")
    export(model, out, 16, class_names=list("abcde"), mean=MEAN, std=STD, calibration=known, validation=known,
           progress=False)
    return out, model, known


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


@pytest.mark.parametrize("engine", [name for name in ENGINES if offered(name)])
def test_every_engine_gives_the_networks_answers(folder, engine):
    out, model, _ = folder
    images, x = pictures(37), batch(5)
    expected = nn.functional.softmax(paddle.to_tensor(answer(
        model, ((images - np.array(MEAN)) / STD).astype(np.float32).transpose(0, 3, 1, 2)))).numpy()
    for source, more in ((str(out), {}), (model, {"image_size": 16, "mean": MEAN, "std": STD})):
        fast = Predictor(source, engine, "fp32", **more)
        assert (fast.engine, fast.precision) == (engine, "fp32")
        assert np.abs(fast(images) - expected).max() < 1e-5
        assert np.abs(fast(images[:1]) - expected[:1]).max() < 1e-5
        assert close(fast.logits(x), answer(model, x)) and close(fast.logits(paddle.to_tensor(x)), answer(model, x))
        assert fast(images[:0]).shape == (0, 5) and fast.logits(x[:0]).shape == (0, 5)
        assert fast(images).dtype == np.float32
    if "bf16" in offered(engine):
        assert np.abs(Predictor(out, engine, "bf16")(images) - expected).max() < 0.05
    if "int8" in offered(engine):
        assert (Predictor(out, engine, "int8")(images).argmax(1) == expected.argmax(1)).mean() > 0.8


def test_on_the_shipped_network_no_engine_changes_an_answer():
    run = load_run(CIFAR10_RUN, "final")
    images = np.random.RandomState(0).randint(0, 256, (64, 3, 32, 32), np.uint8)
    images[1::2] = images[1::2] // 64 * 20 + 60
    x, _ = run.preprocess(images, None, None)
    expected = answer(run.model, x).argmax(1)
    assert len(set(expected)) > 1
    for engine in ENGINES:
        if offered(engine):
            assert (Predictor(run, engine, "fp32")(images.transpose(0, 2, 3, 1)).argmax(1) == expected).all(), engine


def test_int8_of_the_shipped_network_follows_fp32(tmp_path):
    run = load_run(CIFAR10_RUN, "final")
    rough = np.random.RandomState(0).randint(0, 256, (200, 5, 5, 3), np.uint8)
    images = np.stack([Image.fromarray(image).resize((32, 32), Image.BICUBIC) for image in rough]).transpose(0, 3, 1, 2)
    export(run, tmp_path / "net", calibration=ImageSet(images, np.zeros(200, int), run.class_names, "made", "here"),
           progress=False)
    x, _ = run.preprocess(images, None, None)
    expected = answer(run.model, x)
    for engine in ("openvino", "onnxruntime"):
        error = Predictor(tmp_path / "net", engine, "int8").logits(x) - expected
        assert np.linalg.norm(error) < 0.1 * np.linalg.norm(expected), engine


def test_any_kind_and_number_of_images(folder, tmp_path):
    fast = Predictor(folder[0], "onnxruntime")
    images = pictures(70)
    expected = fast(images)
    assert expected.shape == (70, 5) and np.allclose(expected.sum(1), 1, atol=1e-6)
    assert np.allclose(fast(list(images)), expected, atol=1e-6)
    assert np.allclose(fast(image for image in images), expected, atol=1e-6)
    paths = []
    for i, image in enumerate(images[:3]):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    mixed = [paths[0], str(paths[1]), Image.fromarray(images[2]), images[3]]
    assert np.allclose(fast(mixed), expected[:4], atol=1e-6)
    for single in (str(paths[0]), paths[0], Image.fromarray(images[0]), images[0]):
        assert np.allclose(fast(single), expected[:1], atol=1e-6)
    # the central square of what is not square, resized where it has another size
    wide = np.concatenate([np.zeros((16, 5, 3), np.uint8), images[0], np.zeros((16, 5, 3), np.uint8)], 1)
    assert np.allclose(fast(wide), expected[:1], atol=1e-6)
    assert np.allclose(fast(images[:2].repeat(2, 1).repeat(2, 2)), expected[:2], atol=1e-5)


def test_a_stream_of_images_is_not_gathered_in_memory(folder):
    taken, done = [], []

    def stream():
        for i in range(400):
            taken.append(i)
            yield np.zeros((16, 16, 3), np.uint8)

    fast = Predictor(folder[0], "onnxruntime")
    run = fast._run

    def watched(x):
        done.append(len(x))
        assert len(taken) - sum(done) <= 3 * 32
        return run(x)

    fast._run = watched
    assert fast(stream()).shape == (400, 5) and sum(done) == 400


def test_auto_measures_once_and_remembers(folder, monkeypatch):
    first = Predictor(folder[0])
    assert first.precision in ("fp32", "bf16", "int8") and first.engine in ENGINES
    memory = json.loads(predictor._memory().read_text())
    assert [entry["choice"] for entry in memory.values()] == [[first.engine, first.precision]]
    speeds = next(iter(memory.values()))["images_per_second"]
    assert f"{first.engine} {first.precision}" in speeds and len(speeds) >= 4

    def never(*arguments, **options):
        raise AssertionError("it was measured again")

    monkeypatch.setattr(predictor, "time_in_turn", never)
    again = Predictor(folder[0])
    assert (again.engine, again.precision) == (first.engine, first.precision)
    predictor._memory().write_text("{ damaged")
    with pytest.raises(ValueError, match="measured again"):
        Predictor(folder[0])


def test_auto_passes_over_an_engine_that_fails(folder, monkeypatch):
    def fail(files, precision, threads):
        raise AssertionError("of a kind that nobody foresaw")
    monkeypatch.setattr(ENGINES["openvino"], "start", fail)
    assert Predictor(folder[0], precision="fp32").engine != "openvino"


def test_auto_takes_only_precisions_that_the_record_shows_to_be_good(folder, monkeypatch):
    fast = Predictor(folder[0], "onnxruntime", "fp32")
    good = {"top1": 0.7, "same_as_fp32": 1.0}
    for record, accepted in [({}, False), ({"fp32": good}, False), ({"fp32": good, "bf16": good}, True),
                             ({"fp32": good, "bf16": {**good, "top1": 0.696}}, False),
                             ({"fp32": good, "bf16": {**good, "same_as_fp32": 0.98}}, False)]:
        fast._files.accuracy = record
        assert fast._accepted("bf16") == accepted, record


def test_a_home_that_cannot_be_written_is_no_obstacle(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert Predictor(folder[0], "onnxruntime", "auto")(pictures(2)).shape == (2, 5)
    assert Predictor(folder[0])(pictures(2)).shape == (2, 5)


@pytest.mark.parametrize("images, message", [
    (np.zeros((2, 16, 16, 3)), "float64 must be uint8"),
    (np.zeros((2, 3, 16, 16), np.uint8), r"move the channels: images.transpose\(0, 2, 3, 1\)"),
    (np.zeros((16, 16, 2), np.uint8), r"\[16, 16, 2\] must have 1, 3 or 4 channels last$"),
    (np.zeros((3, 16, 16), np.uint8), r"move the channels: images.transpose\(1, 2, 0\)"),
    (np.zeros((2, 0, 16, 3), np.uint8), r"must be \[N, H, W, C\]"),
    ([np.zeros((2, 16, 16, 3), np.uint8)], "among single images"),
    (3, "must be uint8"), ("missing.png", "no such image file"), ([__file__], "is not an image"),
])
def test_images_that_are_none(folder, images, message):
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=message):
        Predictor(folder[0], "onnxruntime")(images)


def test_batches_that_do_not_fit(folder):
    fast = Predictor(folder[0], "onnxruntime")
    for x in (batch(size=20), batch().astype(np.float64), batch(channels=1), "x", None):
        with pytest.raises(ValueError, match=r"must be float32 \['N', 3, 16, 16\]"):
            fast.logits(x)


def test_sources_and_settings_that_are_none(folder, tmp_path, monkeypatch):
    out, model, _ = folder
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Predictor(tmp_path / "missing")
    with pytest.raises(ValueError, match="is not an exported network: it has no export.json"):
        Predictor(tmp_path)
    with pytest.raises(ValueError, match=r"it holds a trained run: use load_run\(folder\), or export it first"):
        Predictor(CIFAR10_RUN)
    with pytest.raises(TypeError, match="int is neither a network"):
        Predictor(3)
    with pytest.raises(ValueError, match="image_size=None: a network does not know it"):
        Predictor(model)
    with pytest.raises(ValueError, match="image_size, mean: an exported folder has its own"):
        Predictor(out, image_size=16, mean=MEAN)
    with pytest.raises(ValueError, match="smaller than the network's stride"):
        Predictor(model, image_size=4)
    with pytest.raises(ValueError, match="class_names has 2 names for a network of 5 outputs"):
        Predictor(model, image_size=16, class_names=["a", "b"])
    with pytest.raises(TypeError, match="mean='grey' must hold a number for each channel"):
        Predictor(model, image_size=16, mean="grey")
    with pytest.raises(ValueError, match="std above 0"):
        Predictor(model, image_size=16, std=(1, 0, 1))
    with pytest.raises(ValueError, match="engine='openvin' is not known; did you mean 'openvino'"):
        Predictor(out, "openvin")
    with pytest.raises(ValueError, match="precision='fp16' is not known; did you mean"):
        Predictor(out, "auto", "fp16")
    with pytest.raises(ValueError, match="threads=0 must be an integer >= 1"):
        Predictor(out, threads=0)
    with pytest.raises(ValueError, match="'bf16' is not offered by engine='onnxruntime', which has fp32, int8"):
        monkeypatch.setattr(cpu, "has_bfloat16", lambda: True)
        Predictor(out, "onnxruntime", "bf16")
    with pytest.raises(ValueError, match="precision='int8' needs a quantised network: export it with calibration"):
        Predictor(model, "auto", "int8", image_size=16)


def test_a_processor_without_bfloat16_says_so(folder, monkeypatch):
    monkeypatch.setattr(cpu, "has_bfloat16", lambda: False)
    monkeypatch.setattr(library, "available", lambda: ("fp32",))
    for engine in ("openvino", "paddle", "auto"):
        with pytest.raises(ValueError, match="precision='bf16' needs a processor with bfloat16 instructions"):
            Predictor(folder[0], engine, "bf16")
    assert Predictor(folder[0], "openvino").precision == "fp32"


def test_an_engine_that_is_not_installed_says_what_to_install(folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name in ("openvino", "onnxruntime", "nncf") else find(name))
    with pytest.raises(ImportError, match="engine='openvino': not installed: pip install openvino"):
        Predictor(folder[0], "openvino")
    with pytest.raises(ImportError, match="'onnx' needs the packages onnx and onnxruntime"):
        export(folder[1], folder[0].parent / "new", 16)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nncf" else find(name))
    with pytest.raises(ImportError, match="calibration needs the package nncf"):
        export(folder[1], folder[0].parent / "new", 16, calibration=folder[2])
    assert sorted(path.name for path in folder[0].parent.iterdir()) == ["net"]


def copy(folder, target):
    import shutil
    shutil.copytree(folder, target)
    return target


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


def test_several_threads_may_share_a_predictor(folder):
    from concurrent.futures import ThreadPoolExecutor
    fast, images = Predictor(folder[0], "openvino"), pictures(40)
    expected = fast(images)
    with ThreadPoolExecutor(4) as pool:
        for actual in pool.map(fast, [images] * 8):
            assert np.array_equal(actual, expected)


def test_ctrl_c_after_two_predictors_of_openvino_are_gone():
    """OpenVINO's plugin gives signals a stack of its own, and takes it away as it goes."""
    code = ("import faulthandler, gc, os, signal, numpy, paddle_fasternet as pf\n"
            "faulthandler.enable()\n"
            "model = pf.FasterNet(embed_dim=8, depths=(1,), merge_sizes=())\n"
            "x = numpy.zeros((1, 3, 16, 16), 'float32')\n"
            "two = [pf.Predictor(model, 'openvino', 'fp32', image_size=16) for _ in range(2)]\n"
            "for one in two:\n    one.logits(x)\n"
            "del one\nwhile two:\n    del two[0]\n    gc.collect()\n"
            "signal.signal(signal.SIGINT, lambda *_: print('heard'))\n"
            "os.kill(os.getpid(), signal.SIGINT)")
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.endswith("heard\n"), result


@pytest.mark.parametrize("engine", [name for name in ENGINES if offered(name)])
def test_a_network_that_changes_is_followed(engine):
    model, x = small(), batch()
    fast = Predictor(model, engine, "fp32", image_size=16)
    expected = fast.logits(x)
    model.train()  # a mode is no change
    run = fast._run
    np.testing.assert_array_equal(fast.logits(x), expected)
    assert fast._run is run and model.training
    changes = [lambda: model.head.weight.set_value(model.head.weight * 2),
               lambda: model.patch_embed.norm._mean.set_value(model.patch_embed.norm._mean + 1),
               lambda: train_a_step(model),
               lambda: setattr(model, "head", nn.Linear(16, 5))]
    for change in changes:
        change()
        model.eval()
        now = answer(model, x)
        assert close(fast.logits(x), now, 1e-4) and not close(now, expected, 1e-3)
        expected = now


def train_a_step(model):
    optimizer = paddle.optimizer.Adam(1e-2, parameters=model.parameters())
    model(paddle.to_tensor(batch()))[:, 0].mean().backward()
    optimizer.step()
    optimizer.clear_grad()


def test_a_hook_that_comes_later_is_followed_or_refused():
    model, x = small(), batch()
    chosen, fixed = Predictor(model, "auto", "fp32", image_size=16), Predictor(model, "onnxruntime", image_size=16)
    expected = answer(model, x)
    hook = model.head.register_forward_post_hook(lambda layer, inputs, output: output / 4)
    assert close(chosen.logits(x), expected / 4)
    with pytest.raises(ValueError, match="head has a forward post-hook"):
        fixed.logits(x)
    hook.remove()
    assert close(chosen.logits(x), expected) and close(fixed.logits(x), expected)


def test_evaluation_through_a_predictor_is_the_same(folder):
    out, model, known = folder
    known = ImageSet(known.images, np.arange(40) % 5, known.class_names, "made", "here")
    slow = evaluate(model, known, Augment("none", 16, MEAN, STD))
    fast = evaluate(Predictor(out, "onnxruntime"), known)
    assert fast.accuracy == slow.accuracy and fast.loss == pytest.approx(slow.loss, rel=1e-5)
    assert np.abs(fast.probabilities - slow.probabilities).max() < 1e-5
    with pytest.raises(ValueError, match="a Predictor prepares the images by itself"):
        evaluate(Predictor(out, "onnxruntime"), known, Augment("none", 16, MEAN, STD))
    with pytest.raises(ValueError, match=r"outputs of shape \[None, 5\], the images have 2 classes"):
        evaluate(Predictor(out, "onnxruntime"), ImageSet(known.images, np.arange(40) % 2, ("a", "b"), "made", "here"))


def test_images_that_are_not_square_are_cropped_by_all(folder):
    _, model, _ = folder
    wide = ImageSet(pictures(6, 24).transpose(0, 3, 1, 2)[:, :, :16], np.arange(6) % 5, tuple("abcde"))
    slow = evaluate(model, wide, Augment("none", 16, MEAN, STD))
    fast = evaluate(Predictor(model, "eager", image_size=16, mean=MEAN, std=STD, class_names=tuple("abcde")), wide)
    np.testing.assert_allclose(fast.probabilities, slow.probabilities, atol=1e-6)


def test_statistics_of_images_from_0_to_1_are_refused_and_one_number_is_for_all_channels(tmp_path):
    model = small()
    with pytest.raises(ValueError, match="are those of images 0..1; multiply both by 255"):
        Predictor(model, "eager", image_size=16, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    with pytest.raises(ValueError, match="multiply both by 255"):
        export(model, tmp_path / "new", 16, mean=0.5, std=0.5)
    one, three = (Predictor(model, "eager", image_size=16, mean=mean, std=std)(pictures(3))
                  for mean, std in ((127.5, 64), ([127.5] * 3, [64] * 3)))
    np.testing.assert_array_equal(one, three)


def test_a_grey_network_reads_files(tmp_path):
    model, grey = small(in_channels=1), pictures(1)[0, :, :, :1]
    Image.fromarray(grey[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(grey.repeat(3, 2)).save(tmp_path / "colour.png")
    predictor = Predictor(model, "eager", image_size=16, mean=120, std=60)
    expected = predictor(grey)
    for image in (tmp_path / "grey.png", tmp_path / "colour.png", Image.open(tmp_path / "grey.png")):
        np.testing.assert_array_equal(predictor(image), expected)


@pytest.mark.cpu
def test_an_engine_with_nothing_to_run_says_why(folder, tmp_path):
    with pytest.raises(ValueError, match="the native engine runs FasterNet with PConv or identity mixers"):
        Predictor(small(mixer="dwconv"), "native", image_size=16)
    export(folder[1], tmp_path / "paddle", 16, formats="paddle", progress=False)
    with pytest.raises(ValueError, match="has no model.onnx; export with formats="):
        Predictor(tmp_path / "paddle", "onnxruntime")


def test_classify_gives_names_and_probabilities(folder):
    predictor = Predictor(folder[0], "paddle", "fp32")
    images = pictures(5, 40)
    probabilities = predictor(images)
    for found, row in zip(predictor.classify(images, k=2), probabilities):
        assert [name for name, _ in found] == [predictor.class_names[i] for i in np.argsort(-row)[:2]]
        assert [value for _, value in found] == sorted(map(float, row), reverse=True)[:2]
    assert len(predictor.classify(images[0], k=99)[0]) == len(predictor.class_names)
    with pytest.raises(ValueError, match="k=0"):
        predictor.classify(images, k=0)
