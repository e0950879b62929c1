"""What several test modules share."""
from pathlib import Path

import numpy as np
import paddle
import pytest
from networks import TINY

from paddle_fasternet.data import ImageSet
from paddle_fasternet.model import VARIANTS

GOLDEN = Path(__file__).parent / "golden"
REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


@pytest.fixture
def reference():
    """A function from the name of a recorded network or output to its path.

    ``golden/`` has those of every origin. A large one lies beside the repository alone: without it the test is skipped.
    """

    def find(name):
        path = next((folder / name for folder in (GOLDEN, REFERENCE) if (folder / name).exists()), None)
        return path or pytest.skip(f"{name} is neither in tests/golden nor in ../shared/reference")

    return find


@pytest.fixture
def small_variant(monkeypatch):
    """A network that trains in a second under the name fasternet_t0."""
    monkeypatch.setitem(VARIANTS, "fasternet_t0", TINY)


@pytest.fixture
def check_gradient():
    """Hold the gradients of ``function()`` (a scalar tensor) against central differences along random directions."""

    def check(function, tensors, tolerance=1e-5):
        for name, tensor in tensors.items():
            assert tensor.dtype == paddle.float64, f"{name} must be float64 for differences to be exact enough"
            tensor.clear_gradient()
        function().backward()
        rng = np.random.default_rng(0)
        for name, tensor in tensors.items():
            assert tensor.grad is not None, f"{name} got no gradient"
            gradient, value = tensor.grad.numpy(), tensor.numpy()
            for _ in range(3):
                direction = rng.standard_normal(value.shape)
                step = 1e-6
                ends = []
                for sign in (1, -1):
                    with paddle.no_grad():
                        tensor.set_value(value + sign * step * direction)
                        ends.append(float(function()))
                tensor.set_value(value)
                expected = (ends[0] - ends[1]) / (2 * step)
                actual = float((gradient * direction).sum())
                assert actual == pytest.approx(expected, rel=tolerance, abs=tolerance), name

    return check


@pytest.fixture
def tiny_set():
    """Forty images of 32 x 32 in four classes that a network can tell apart by their colour."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    colours = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])
    images = colours[labels][:, :, None, None] + rng.integers(-30, 31, (40, 3, 32, 32))
    return ImageSet(images.clip(0, 255).astype(np.uint8), labels, ("red", "green", "blue", "yellow"), "colours", "made")
