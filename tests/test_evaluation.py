import numpy as np
import pytest

from paddle_fasternet import plots
from paddle_fasternet.data import ImageSet
from paddle_fasternet.training import Evaluation


def made(probabilities, labels, names="abc"):
    probabilities = np.array(probabilities, np.float32)
    labels = np.array(labels)
    return Evaluation(0.5, float((probabilities.argmax(1) == labels).mean()), probabilities, labels, tuple(names))


def test_per_class():
    result = made([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.2, 0.8, 0], [0.7, 0.3, 0]], [0, 0, 1, 1])
    a, b, c = result.per_class()
    assert (a["class"], a["images"]) == ("a", 2) and a["precision"] == pytest.approx(2 / 3) and a["recall"] == 1
    assert a["f1"] == pytest.approx(0.8)
    assert (b["precision"], b["recall"]) == (1, 0.5) and b["f1"] == pytest.approx(2 / 3)
    assert c == {"class": "c", "images": 0, "precision": 0, "recall": 0, "f1": 0}


def test_per_class_is_what_scikit_learn_says():
    from sklearn.metrics import precision_recall_fscore_support, top_k_accuracy_score
    rng = np.random.default_rng(0)
    result = made(rng.dirichlet(np.ones(8), 200), rng.integers(0, 8, 200), "abcdefgh")
    expected = precision_recall_fscore_support(result.labels, result.predicted)
    rows = result.per_class()
    for key, values in zip(("precision", "recall", "f1", "images"), expected):
        np.testing.assert_allclose([row[key] for row in rows], values)
    assert result.top5 == pytest.approx(top_k_accuracy_score(result.labels, result.probabilities, k=5))


def test_top5_of_fewer_classes_is_all():
    assert made([[0.9, 0.1, 0], [0.2, 0.8, 0]], [2, 2]).top5 == 1


def test_surest_mistakes(tmp_path):
    result = made([[0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [1, 0, 0], [0, 0.3, 0.7], [0, 1, 0]], [1, 0, 0, 2, 0])
    assert result.surest_mistakes().tolist() == [4, 1, 0] and result.surest_mistakes(2).tolist() == [4, 1]
    images = ImageSet(np.zeros((5, 1, 8, 8), np.uint8), result.labels, "abc")
    axes = plots.plot_top_losses(images, result)
    assert [ax.get_title() for ax in axes[:3]] == ["b 100%\nis a", "b 80%\nis a", "a 50%\nis b"]
    assert axes[0].texts[0].get_text() == "image 4" and len(axes) == 3
    right = made(np.eye(3), [0, 1, 2])
    assert plots.plot_top_losses(images[:3], right)[0].get_title() == "every prediction is right"
    with pytest.raises(ValueError, match="result is of 3 images, the set has 5"):
        plots.plot_top_losses(images, right)
    plots.save_figure(tmp_path / "a.png", plots.plot_top_losses, images, result)
