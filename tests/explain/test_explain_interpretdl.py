"""InterpretDL 0.8.0 itself, through the bridge. ``make interpretdl`` installs it, ``make test`` has it."""
import inspect
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import paddle
import pytest
from networks import telling_apart

from paddle_fasternet import LimeExplainer
from paddle_fasternet.explain import grad_cam, integrated_gradients

MEAN, STD = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255


@pytest.fixture(scope="module")
def bridge():
    from paddle_fasternet.explain import interpretdl
    return interpretdl


@pytest.fixture
def model():
    model = telling_apart(num_classes=6, drop_path_rate=0.5)
    model.head.weight.set_value(model.head.weight / 50)  # unsure of itself, so that no probability is 0 or 1
    return model


@pytest.fixture
def image():
    rng = np.random.default_rng(0)  # textured, so that the mean colour of a segment is seen to be another
    return (np.kron(rng.integers(40, 200, (4, 4, 3)), np.ones((24, 24, 1))) + rng.integers(-40, 41, (96, 96, 3))
            ).astype(np.uint8)


def normalised(image):
    return ((image.transpose(2, 0, 1) - MEAN[:, None, None]) / STD[:, None, None])[None].astype(np.float32)


def test_the_notebooks_call(bridge, model, image):
    """And ours gives the same: superpixels, samples and coefficients."""
    interpreter = bridge.LIMECVInterpreter(model, random_seed=3)
    weights = interpreter.interpret(normalised(image), interpret_class=2, num_samples=400, visual=False)
    found = LimeExplainer(model, MEAN, STD, seed=3, engine="eager").explain(
        interpreter.lime_results["input"], 2, num_samples=400, progress=False)
    np.testing.assert_array_equal(found.segments, interpreter.lime_results["segmentation"])
    theirs = dict(weights[2])
    theirs = np.array([theirs[i] for i in range(len(theirs))])
    np.testing.assert_allclose(found.coefficients[0], theirs, atol=1e-4 * np.abs(theirs).max())
    assert found.r2[0] == pytest.approx(interpreter.lime_results["r2_scores"][2], abs=1e-4)
    assert [i for i, _ in found.top()] == [int(i) for i, _ in weights[2][:5]]


def test_gradients(bridge, model, image):
    """Grad-CAM and integrated gradients have the same shape as ours; SmoothGrad runs."""
    theirs = bridge.GradCAMInterpreter(model).interpret(image, "stages.4", label=[2], visual=False)
    ours = grad_cam(model, normalised(image), 2, "stages.4", of="probability")
    place = np.unravel_index(theirs[0].argmax(), theirs[0].shape)
    factor = ours.shape[1] // theirs.shape[1]
    peak = np.array(np.unravel_index(ours[0].argmax(), ours[0].shape)) // factor
    assert theirs.max() > 0 and np.abs(peak - place).max() <= 1
    with paddle.no_grad():  # their hook stays on the model
        model(paddle.to_tensor(normalised(image)))
    theirs = bridge.IntGradCVInterpreter(model).interpret(image, labels=[1], steps=40, visual=False)
    ours = integrated_gradients(model, normalised(image), 1, steps=40, of="probability")
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.9
    smooth = bridge.SmoothGradInterpreter(model).interpret(image, labels=[1], n_samples=2, visual=False)
    assert smooth.shape == (1, 3, 96, 96) and np.abs(smooth).max() > 0


def test_nobody_elses_packages_change(bridge):
    from sklearn.linear_model import Ridge
    assert "normalize" not in inspect.signature(Ridge).parameters
    assert not any(getattr(finder, "__module__", "") == bridge.__name__ for finder in sys.meta_path)
    import interpretdl
    assert interpretdl.LIMECVInterpreter is bridge.LIMECVInterpreter


@pytest.fixture
def forgotten(monkeypatch):
    """As in a process that has not imported InterpretDL yet."""
    for name in [name for name in sys.modules if name.split(".")[0] == "interpretdl"]:
        monkeypatch.delitem(sys.modules, name)


def test_import_says_nothing_and_brings_no_package_named_tests(bridge, forgotten, capsys):
    assert bridge._import().__version__ == "0.8.0"
    assert capsys.readouterr() == ("", "")
    assert not Path(metadata.distribution("interpretdl").locate_file("tests")).exists()


def test_not_installed(bridge, forgotten, monkeypatch):
    monkeypatch.setitem(sys.modules, "interpretdl", None)
    with pytest.raises(ImportError, match="not installed: pip install --no-deps interpretdl==0.8.0"):
        bridge._import()


def test_another_version(bridge, forgotten, monkeypatch, tmp_path):
    (tmp_path / "interpretdl" / "interpreter").mkdir(parents=True)
    (tmp_path / "interpretdl" / "__init__.py").write_text("from .interpreter import *\n")
    (tmp_path / "interpretdl" / "interpreter" / "__init__.py").write_text("other = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="__init__.py is not that of InterpretDL 0.8.0: it lacks 'print"):
        bridge._import()
    assert bridge._Finder not in sys.meta_path
