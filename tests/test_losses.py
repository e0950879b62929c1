import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddle_fasternet import LabelSmoothingCrossEntropy


def test_by_hand():
    # logits (0, ln 3): probabilities 1/4, 3/4; target 1 with smoothing 0.2 is (0.1, 0.9)
    logits = paddle.to_tensor([[0.0, np.log(3.0)]], dtype="float32")
    expected = -(0.1 * np.log(0.25) + 0.9 * np.log(0.75))
    assert LabelSmoothingCrossEntropy(0.2)(logits, paddle.to_tensor([1])).item() == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 9), classes=st.integers(1, 30), smoothing=st.floats(0, 1), seed=st.integers(0, 99))
def test_all_forms_of_labels_agree_with_each_other_and_with_paddle(n, classes, smoothing, seed):
    rng = np.random.default_rng(seed)
    logits = paddle.to_tensor(rng.normal(0, 3, (n, classes)).astype(np.float32))
    labels = rng.integers(0, classes, n)
    one_hot = np.eye(classes, dtype=np.float32)[labels]
    loss = LabelSmoothingCrossEntropy(smoothing)
    values = [loss(logits, paddle.to_tensor(form)).item() for form in (
        labels, labels[:, None], labels.astype(np.int32), one_hot)]
    expected = F.cross_entropy(logits, paddle.to_tensor(
        (1 - smoothing) * one_hot + smoothing / classes), soft_label=True).item()
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=1e-5)
    if 0 < smoothing < 1 and classes > 1:  # where Paddle's own argument is defined
        own = F.cross_entropy(logits, paddle.to_tensor(labels), label_smoothing=smoothing).item()
        assert values[0] == pytest.approx(own, rel=2e-5, abs=1e-5)


def test_soft_labels_of_mixup():
    logits = paddle.randn([3, 5])
    soft = np.random.default_rng(0).dirichlet(np.ones(5), 3).astype(np.float32)
    expected = F.cross_entropy(logits, paddle.to_tensor(0.9 * soft + 0.02), soft_label=True).item()
    assert LabelSmoothingCrossEntropy(0.1)(logits, paddle.to_tensor(soft)).item() == pytest.approx(expected, rel=1e-5)


def test_half_precision_logits_are_computed_in_float32():
    logits = paddle.randn([4, 10])
    labels = paddle.to_tensor([1, 2, 3, 4])
    half = LabelSmoothingCrossEntropy()(logits.astype("bfloat16"), labels)
    assert half.dtype == paddle.float32
    assert half.item() == pytest.approx(
        LabelSmoothingCrossEntropy()(logits.astype("bfloat16").astype("float32"), labels).item(), rel=1e-6)


@pytest.mark.parametrize("labels", [[0, 2, 1], [[0.2, 0.3, 0.5], [1, 0, 0], [0, 0.5, 0.5]]])
def test_gradient_is_probabilities_minus_target(labels):
    logits = paddle.to_tensor(np.random.default_rng(1).normal(0, 2, (3, 3)).astype(np.float32), stop_gradient=False)
    target = np.eye(3)[labels] if np.ndim(labels) == 1 else np.array(labels)
    LabelSmoothingCrossEntropy(0.1)(logits, paddle.to_tensor(np.array(labels), dtype=None if np.ndim(labels) == 1
                                                             else "float32")).backward()
    expected = (F.softmax(logits).numpy() - (0.9 * target + 0.1 / 3)) / 3
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("labels", "message"), [
    ([0, 1, 4], r"label 4 is outside the 4 classes \(0..3\)"),
    ([0, -1, 1], "label -1 is outside the 4 classes"),
    ([0, 1], r"integer labels of shape \[2\] must be \[N\] or \[N, 1\] with N = 3"),
    ([[0, 1], [1, 1], [0, 0]], "integer labels of shape"),
    ([0.0, 1.0, 2.0], r"labels of shape \[3\] and type .*float32 do not fit logits of shape \[3, 4\]"),
    ([[0.5, 0.5]] * 3, "do not fit logits"),
])
@pytest.mark.cpu
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        LabelSmoothingCrossEntropy()(paddle.randn([3, 4]), paddle.to_tensor(labels))


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="smoothing=1.5"):
        LabelSmoothingCrossEntropy(1.5)
    with pytest.raises(ValueError, match=r"logits of shape \[4\] must be \[N, K\]"):
        LabelSmoothingCrossEntropy()(paddle.randn([4]), paddle.to_tensor([0]))
