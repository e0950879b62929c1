"""Is an explanation true to the model? Hide what it calls important, and see whether the model notices.

Petsiuk, Das, Saenko, "RISE", BMVC 2018 (arXiv 1806.07421). Deletion hides the most important parts first: the smaller
the area under the probability, the better. Insertion starts from nothing and shows them first: the larger, the better.
A random order is the measure of both.
"""
import dataclasses

import numpy as np

from .._check import check_number
from ..deploy import EAGER
from .predict import pick_label, predict, predict_function
from .segments import Hider, check_hide, check_image, number_segments

_BATCH = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Faithfulness:
    """Deletion and insertion curves.

    Attributes:
        share: float64 [T + 1], the share of the pixels that is deleted or inserted, 0 to 1.
        deletion, insertion: float64 [T + 1], the probability of the class.
    """

    share: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    def __repr__(self):
        return f"Faithfulness(deletion {self.deletion_area:.3f}, insertion {self.insertion_area:.3f})"

    @property
    def deletion_area(self):
        """Area under the deletion curve, 0 to 1; small where the explanation is true to the model."""
        return _area(self.share, self.deletion)

    @property
    def insertion_area(self):
        """Area under the insertion curve, 0 to 1; large where the explanation is true to the model."""
        return _area(self.share, self.insertion)


def measure_faithfulness(model_or_predict_fn, image, scores, label=None, segments=None, steps=20, hide="mean",
                         mean=None, std=None):
    """Deletion and insertion of one image in the order that an explanation gives.

    Args:
        model_or_predict_fn, mean, std: see ``LimeExplainer``.
        image: see ``LimeExplainer.explain``.
        scores: what matters: float [segments] (coefficients of LIME, say), or a map [H, W], whose mean over each
            segment counts where ``segments`` are given. Explanations are comparable where they have the same segments.
        label: the class; None takes the likeliest.
        segments: integers [H, W]; None goes by pixels, in ``steps`` equal shares.
        hide: what is seen of a hidden part: "mean", the mean colour of the image, or one colour.

    Returns:
        ``Faithfulness``.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    image = check_image(image)
    scores, segments = _ranked_parts(image, scores, segments, steps)
    function = predict_function(model_or_predict_fn, mean, std, EAGER)
    return _curves(function, image, segments, [np.argsort(-scores, kind="stable")], label, hide)[0]


def random_faithfulness(model_or_predict_fn, image, segments, label=None, repeats=10, seed=0, hide="mean", mean=None,
                        std=None):
    """The same for ``repeats`` random orders of the segments: a list of ``Faithfulness``."""
    image = check_image(image)
    segments = number_segments("segments", segments, image)
    rng = np.random.default_rng(check_number("seed", seed, low=0, integer=True))
    repeats = check_number("repeats", repeats, low=1, integer=True)
    orders = [rng.permutation(int(segments.max()) + 1) for _ in range(repeats)]
    return _curves(predict_function(model_or_predict_fn, mean, std, EAGER), image, segments, orders, label, hide)


def average(curves):
    """The mean of several ``Faithfulness`` on twenty equal steps."""
    share = np.linspace(0, 1, 21)
    return Faithfulness(share, *(np.mean([np.interp(share, one.share, getattr(one, name)) for one in curves], axis=0)
                                 for name in ("deletion", "insertion")))


def _ranked_parts(image, scores, segments, steps):
    """(score of each part, part of each pixel)."""
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    if segments is None:
        if scores.shape != image.shape[:2]:
            raise ValueError(f"scores of shape {scores.shape} must be a map {list(image.shape[:2])}, or come with "
                             "their segments")
        steps = check_number("steps", steps, low=2, high=scores.size, integer=True)
        rank = np.empty(scores.size, np.int64)
        rank[np.argsort(-scores.ravel(), kind="stable")] = np.arange(scores.size)
        return -np.arange(steps, dtype=float), (rank * steps // scores.size).reshape(scores.shape)
    segments = number_segments("segments", segments, image)
    count = int(segments.max()) + 1
    if scores.shape == image.shape[:2]:
        return np.bincount(segments.ravel(), scores.ravel()) / np.bincount(segments.ravel()), segments
    if scores.shape != (count,):
        raise ValueError(f"scores of shape {scores.shape} must be [{count}], one for each segment, or a map "
                         f"{list(image.shape[:2])}")
    return scores, segments


def _curves(function, image, segments, orders, label, hide):
    """One ``Faithfulness`` for each order of the segments."""
    hide = check_hide(hide)
    colour = image.mean((0, 1)).astype(np.uint8) if isinstance(hide, str) else hide
    hider = Hider(image, segments, np.broadcast_to(colour, image.shape))
    whole = predict(function, image[None])
    label = pick_label(label, whole[0])
    sizes, results = np.bincount(segments.ravel()), []
    for order in orders:
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        taken = place < np.arange(len(order) + 1)[:, None]  # [T + 1, segments], those of the first t places
        masks = np.concatenate([~taken, taken])
        values = np.concatenate([predict(function, hider(masks[start:start + _BATCH]), whole.shape[1])[:, label]
                                 for start in range(0, len(masks), _BATCH)])
        share = np.concatenate([[0], sizes[order].cumsum() / sizes.sum()])
        results.append(Faithfulness(share, *np.split(values, 2)))
    return results


def _area(x, y):
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())
