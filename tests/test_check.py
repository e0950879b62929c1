"""Wrong arguments are named, with their value."""
import os
from pathlib import Path

import numpy as np
import paddle
import pytest

import paddle_fasternet as pf
from paddle_fasternet._check import check_number, check_path, check_sizes


@pytest.mark.parametrize("function", [
    lambda path: pf.load_weights(pf.PConv(8), path), lambda path: pf.save_weights(pf.PConv(8), path), pf.load_run,
    lambda path: pf.load_dataset("cifar10", path), pf.History.load, pf.History().save])
def test_a_number_is_no_path(function):
    """open(n) takes the file that has the descriptor n, and closes it: the next to print would find no output."""
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(TypeError, match=f"={reading} must be a path, not int"):
        function(reading)
    os.close(reading)  # OSError if it were closed already


def test_numbers_that_are_none():
    for value in (float("nan"), float("inf"), -float("inf"), np.float32("nan")):
        with pytest.raises(ValueError, match="x=.* must be a number"):
            check_number("x", value)
    with pytest.raises(ValueError, match="x=2147483648 must be an integer >= 1 and <= 2147483647"):
        check_number("x", 2**31, low=1, integer=True)
    assert check_number("x", np.int32(3), integer=True) == 3 and check_number("x", 2**40, high=2**63, integer=True)


def test_sizes_and_paths_that_are_none(monkeypatch):
    assert check_sizes("x", np.array([2, 3]), low=1) == (2, 3) and check_sizes("x", [], low=1) == ()
    for value in (3, None, "22", np.array(2)):
        with pytest.raises(TypeError, match="must be a sequence of integers"):
            check_sizes("x", value, low=1)
    with pytest.raises(ValueError, match="x='' is no path"):
        check_path("x", "")
    monkeypatch.setenv("HOME", "/somewhere")
    assert check_path("x", "~/run") == Path("/somewhere/run")


@pytest.mark.parametrize("layer", [pf.PConv(8), pf.DWConv(8), pf.FasterNetBlock(8)], ids=lambda x: type(x).__name__)
def test_layers_want_tensors_of_their_shape(layer):
    with pytest.raises(TypeError, match="input x must be a Tensor, not ndarray"):
        layer(np.zeros((1, 8, 4, 4), np.float32))
    for shape in ([1, 6, 4, 4], [1, 8, 4], [8]):
        with pytest.raises(ValueError, match=r"input of shape .* must be \[N, 8, H, W\]"):
            layer(paddle.zeros(shape))


def test_switches_want_true_or_false(tiny_set, tmp_path):
    for name in ("overwrite", "resume", "visualdl"):
        with pytest.raises(TypeError, match=f"{name} must be a bool, not str"):
            pf.fit(pf.TrainConfig(), tiny_set, tiny_set, tmp_path / "run", **{name: "no"})
    with pytest.raises(TypeError, match="embed_act must be a bool, not str"):
        pf.FasterNet(embed_act="no")
    assert not list(tmp_path.iterdir())


def test_explainer_notices_a_misspelt_engine_where_it_would_not_need_one():
    with pytest.raises(ValueError, match="engine='natve' is not known; did you mean 'native'"):
        pf.LimeExplainer(lambda images: np.ones((len(images), 2)), engine="natve")
