"""Every engine against the network itself."""
import importlib.util
import re
import subprocess
import sys

import numpy as np
import paddle
import pytest
from deploying import MEAN, STD, answer, batch, close, pictures, small
from paddle import nn

from paddle_fasternet import Classifier, LimeExplainer, evaluate, load_run
from paddle_fasternet.data import ImageSet
from paddle_fasternet.deploy import (
    ENGINES,
    Predictor,
    export,
    offered,
)
from paddle_fasternet.native import cpu, library
from paddle_fasternet.weights import CIFAR10_RUN


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


def test_auto_passes_over_an_engine_that_fails(folder, monkeypatch):
    def fail(files, precision, threads):
        raise AssertionError("of a kind that nobody foresaw")
    monkeypatch.setattr(ENGINES["openvino"], "start", fail)
    assert Predictor(folder[0], precision="fp32").engine != "openvino"


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


@pytest.mark.cpu
def test_an_engine_with_nothing_to_run_says_why(folder, tmp_path):
    with pytest.raises(ValueError, match="the native engine runs FasterNet with the mixers pconv"):
        Predictor(small(act_layer=nn.Hardswish), "native", image_size=16)
    export(folder[1], tmp_path / "paddle", 16, formats="paddle", progress=False)
    with pytest.raises(ValueError, match="has no model.onnx; export with formats="):
        Predictor(tmp_path / "paddle", "onnxruntime")


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


def temperature(model):
    model.head.register_forward_post_hook(lambda layer, inputs, output: output / 4)


def doubled_input(model):
    model.head.register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 2,))


def forward_of_a_layer(model):
    own = model.head.forward
    model.head.forward = lambda x: own(x) / 4


def forward_of_the_network(model):
    own = model.forward
    model.forward = lambda x: own(x) / 4


def features_of_the_network(model):
    own = model.forward_features
    model.forward_features = lambda x: [maps * 2 for maps in own(x)]


def weight_norm(model):
    nn.utils.weight_norm(model.avgpool_pre_head[1])
    model.avgpool_pre_head[1].weight_g.set_value(model.avgpool_pre_head[1].weight_g * 2)


@pytest.mark.parametrize("change", [temperature, doubled_input, forward_of_a_layer, forward_of_the_network,
                                    features_of_the_network, weight_norm])
def test_an_odd_network_is_run_as_it_is_or_refused(change, tmp_path):
    model, x, plain = small(), batch(), answer(small(), batch())
    change(model)
    expected = answer(model, x)
    assert not close(plain, expected, 0.1)
    taken = []
    for engine in filter(offered, ENGINES):
        try:
            found = Predictor(model, engine, "fp32", image_size=16).logits(x)
        except ValueError as error:
            assert re.search(r"head|forward|weight", str(error)) and "engine='eager'" in str(error), (engine, error)
        else:
            taken.append(engine)
            assert close(found, expected, 1e-4), engine
    assert "eager" in taken
    assert close(Predictor(model, "auto", "fp32", image_size=16).logits(x), expected, 1e-4)
    images = pictures(3)
    wanted = Predictor(model, "eager", image_size=16, mean=MEAN, std=STD)(images)
    assert np.abs(LimeExplainer(model, MEAN, STD).predict_fn(images) - wanted).max() < 1e-4
    known = ImageSet(images.transpose(0, 3, 1, 2), np.arange(3), tuple("01234"))
    assert np.abs(evaluate(Classifier(model, 16, MEAN, STD), known).probabilities - wanted).max() < 1e-4
    for formats in ("paddle", "onnx"):
        try:
            export(model, tmp_path / formats, 16, formats=formats, progress=False)
        except ValueError as error:
            assert re.search(r"head|forward|weight", str(error)), (formats, error)
        else:
            for engine in (name for name in ENGINES if offered(name) and ENGINES[name].reads == formats):
                found = Predictor(tmp_path / formats, engine, "fp32").logits(x)
                assert close(found, expected, 1e-4), (formats, engine)
