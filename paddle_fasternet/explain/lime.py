"""LIME for images: which superpixels speak for a class, by a linear model of what hiding them does.

Ribeiro, Singh, Guestrin, "Why Should I Trust You?", KDD 2016, https://github.com/marcotcr/lime. Superpixels, masks,
weights and regression are those of InterpretDL 0.8.0's LIMECVInterpreter: one seed gives one explanation in both. What
differs: every image gets its own superpixels, samples are made and weighed in batches, and of the samples only sums are
needed, so that their number has no bearing on memory.
"""
import collections
import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .. import plots
from .._check import check_choice, check_number, check_path
from .._files import replacing
from .predict import pick_labels, predict, predict_function
from .regression import REGRESSORS, Moments, kernel_weights
from .segments import SEGMENTATIONS, Hider, check_hide, check_image, hidden_image, number_segments, segment

_BATCH_BYTES, _MOST_IN_BATCH = 10 << 20, 256  # uint8 images handed over at a time, unless batch_size says otherwise
_KEPT_BYTES = 256 << 20  # of masks and probabilities
_CALM_ROUNDS, _MOST_ROUNDS = 3, 30  # until_stable: rounds without a change that end it, and rounds at most


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """What ``LimeExplainer.explain`` found.

    Attributes:
        labels: the explained classes, as asked for or the likeliest first.
        coefficients: float64 [labels, segments]; positive where showing the segment makes the class likelier.
        intercepts, r2: float64 [labels], of the linear models; R2 is weighted as the samples are.
        segments: int64 [H, W], the segment of each pixel.
        masks: bool [N, segments], true where the sample shows the segment.
        probabilities: float32 [N, classes], what the model said of the samples. Masks and probabilities are those of
            the first samples, as many as 256 MB hold (a million of 60 segments and 50 classes).
        prediction: float32 [classes], what it said of the image itself.
        image: uint8 [H, W, 3].
        num_samples: how many samples there were in all.
        spread: float64 [labels, segments], the standard deviation of the coefficients between the repeats; None where
            there was only one.
        stable: whether the top segments stayed the same in the end; None where that was not asked for.
        class_names: names of all classes, or None.
    """

    labels: tuple
    coefficients: np.ndarray
    intercepts: np.ndarray
    r2: np.ndarray
    segments: np.ndarray
    masks: np.ndarray
    probabilities: np.ndarray
    prediction: np.ndarray
    image: np.ndarray
    num_samples: int
    spread: np.ndarray = None
    stable: bool = None
    class_names: tuple = None

    def __repr__(self):
        first = f", {self.name()} {self.prediction[self.labels[0]]:.1%}, R² {self.r2[0]:.2f}"
        return (f"Explanation({len(self.labels)} of {len(self.prediction)} classes, {self.segments.max() + 1} "
                f"segments, {self.num_samples:,} samples{first})")

    def _row(self, label):
        if label is None:
            return 0
        if label not in self.labels:
            raise ValueError(f"label={label!r} was not explained; explained are: {', '.join(map(str, self.labels))}")
        return self.labels.index(label)

    def top(self, label=None, k=5, positive_only=False):
        """The ``k`` segments of the largest coefficients by size, [(segment, coefficient), ...].

        Args:
            label: one of ``labels``; None takes the first.
            positive_only: leave out those that speak against the class.
        """
        k = check_number("k", k, low=1, integer=True)
        coefficients = self.coefficients[self._row(label)]
        order = np.argsort(-np.abs(coefficients), kind="stable")
        if positive_only:
            order = order[coefficients[order] > 0]
        return [(int(i), float(coefficients[i])) for i in order[:k]]

    def mask(self, label=None, k=5, positive_only=True):
        """Where the ``top`` segments are; bool [H, W]."""
        return np.isin(self.segments, [i for i, _ in self.top(label, k, positive_only)])

    def heatmap(self, label=None):
        """The coefficient of each pixel's segment; float64 [H, W]."""
        return self.coefficients[self._row(label)][self.segments]

    def name(self, label=None):
        """A class's name where names are known, otherwise its number as text."""
        label = self.labels[self._row(label)]
        return self.class_names[label] if self.class_names else f"class {label}"

    def plot(self, label=None, k=5, figure=None):
        """Draw the image, its top segments, and all coefficients; see ``plots.plot_explanation``."""
        return plots.plot_explanation(self, label, k, figure)

    def save(self, path, label=None, k=5):
        """Write the drawing (.png, .jpg, .pdf, .svg), or all arrays (.npz, which ``Explanation.load`` reads)."""
        path = Path(path).expanduser()
        check_choice("suffix", path.suffix.lower(), (*plots.PICTURES, ".npz"))
        if path.suffix.lower() != ".npz":
            plots.save_figure(path, plots.plot_explanation, self, label, k)
            return
        with replacing(path) as file:
            np.savez_compressed(file, **{key: value for key, value in vars(self).items() if value is not None})

    @classmethod
    def load(cls, path):
        """Read what ``save`` wrote as .npz; nothing in the file is executed.

        Raises:
            ValueError: it is something else.
        """
        with open(check_path("path", path), "rb") as file:  # the error is its own where there is no such file
            try:
                with np.load(file, allow_pickle=False) as stored:
                    content = dict(stored)
            except Exception as error:  # damaged archives trip zipfile, zlib and numpy in many ways: one kind of error
                raise ValueError(f"{path} is not an explanation saved as .npz: {error}") from error
        try:
            for name in ("labels", "class_names"):
                if name in content:
                    content[name] = tuple(content[name].tolist())
            for name in ("num_samples", "stable"):
                if name in content:
                    content[name] = content[name].item()
            return cls(**content)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not an explanation saved as .npz: {error}") from error


class LimeExplainer:
    """Explains the predictions of a network, as it is at each call, or of any function from images to probabilities.

    Args:
        model_or_predict_fn: a ``Classifier``, what ``load_run`` returned, a pretrained network or a ``Predictor``, all
            of which prepare the image by themselves; another network (``nn.Layer`` on [N, 3, H, W]); or a function from
            uint8 [N, H, W, 3] to probabilities [N, K].
        mean, std: of a network's input, 0..255; only for a network that does not know them.
        segmentation: "quickshift", "slic", or a function from uint8 [H, W, 3] to integers [H, W].
        kernel_width: how far from the whole image samples count; they weigh sqrt(exp(-d² / kernel_width²)).
        hide: what is seen of a hidden segment: "mean", its mean colour, or one colour, a number or three, 0..255.
        batch_size: images handed to the model at a time; None chooses by their size.
        seed: of the masks; equal seeds give equal explanations.
        regressor: "least_squares"; "ridge" with ``alpha``; "forward", least squares on ``num_features`` segments chosen
            one by one, the others 0.
        engine, precision: what runs a network, see ``Predictor``: "auto" is the fastest engine here at fp32, "eager"
            the network itself. "bf16", where the processor has it, is faster, and its rounding smaller than the
            differences between seeds.

    Raises:
        TypeError, ValueError: an argument is out of range; the message names it.
    """

    def __init__(self, model_or_predict_fn, mean=None, std=None, segmentation="quickshift", kernel_width=0.25,
                 hide="mean", batch_size=None, seed=0, *, regressor="least_squares", alpha=1.0, num_features=10,
                 engine="auto", precision="auto"):
        self.predict_fn = predict_function(model_or_predict_fn, mean, std, engine, precision)
        if not callable(segmentation):
            check_choice("segmentation", segmentation, SEGMENTATIONS)
        check_choice("regressor", regressor, REGRESSORS)
        self.segmentation, self.hide, self.regressor = segmentation, check_hide(hide), regressor
        self.kernel_width = check_number("kernel_width", kernel_width, low=1e-3)
        self.batch_size = batch_size if batch_size is None else check_number("batch_size", batch_size, 1, integer=True)
        self.seed = check_number("seed", seed, low=0, high=2**31, integer=True)
        self.alpha = check_number("alpha", alpha, low=0)
        self.num_features = check_number("num_features", num_features, low=1, integer=True)

    def explain(self, image, labels=None, top_k=1, num_samples=1000, segments=None, masks=None, progress=True, *,
                repeats=1, until_stable=0):
        """Explain what the model says of one image.

        Args:
            image: a path, bytes, an open file, a PIL image, or array or tensor [H, W], [H, W, C] or [C, H, W], C 1, 3
                or 4: integers 0..255 or floats 0..1, not normalised. A grey network sees its luma.
            labels: a class or several; None takes the ``top_k`` likeliest, the likeliest first.
            num_samples: images with hidden segments to try, in each round.
            segments: integers [H, W]; None cuts the image itself. They are numbered anew from 0, in their order.
            masks: [num_samples, segments] of 0 and 1, the samples; None draws them, the first one showing everything.
            progress: show a bar.
            repeats: rounds, each with a seed of its own, one after ``seed`` each; the coefficients are those of all
                samples together, ``spread`` is between the rounds.
            until_stable: above 0, goes on round after round until the top ``until_stable`` segments of every label
                have stayed the same in three (30 rounds at most; ``stable`` tells).

        Returns:
            ``Explanation``.

        Raises:
            TypeError, ValueError: an argument is not as above, the samples do not determine the coefficients, or the
                predict function answers something else than finite numbers [N, K].
        """
        image = check_image(image)
        num_samples = check_number("num_samples", num_samples, low=1, integer=True)
        repeats = check_number("repeats", repeats, low=1, integer=True)
        until_stable = check_number("until_stable", until_stable, low=0, integer=True)
        segments = segment(image, self.segmentation) if segments is None else number_segments("segments", segments,
                                                                                             image)
        sampler = _Sampler(self, image, segments, labels, top_k)
        if masks is not None:
            if repeats > 1 or until_stable:
                raise ValueError("masks are one round of samples: they go with repeats=1 and until_stable=0")
            masks = _check_masks(masks, sampler.count)
            num_samples = len(masks)
        else:
            sampler.check_enough(num_samples)

        total, rounds, tops, stable = None, [], [], None
        with _bar(num_samples * repeats, progress) as bar:
            for i in itertools.count():
                moments = sampler.run(_blocks(masks, num_samples, sampler, self.seed + i), bar)
                rounds.append(moments.solve(self.regressor, self.alpha, self.num_features))
                if total is None:
                    total = moments
                else:
                    total += moments
                if until_stable:
                    fitted = total.solve(self.regressor, self.alpha, self.num_features)[0]
                    tops.append([frozenset(np.argsort(-np.abs(row), kind="stable")[:until_stable]) for row in fitted])
                    stable = len(tops) >= _CALM_ROUNDS and all(top == tops[-1] for top in tops[-_CALM_ROUNDS:])
                if i + 1 >= repeats and (not until_stable or stable or i + 1 >= _MOST_ROUNDS):
                    break
                if i + 1 >= repeats:
                    bar.total += num_samples
        coefficients, intercepts, r2 = total.solve(self.regressor, self.alpha, self.num_features)
        spread = np.std([fit[0] for fit in rounds], axis=0, ddof=1) if len(rounds) > 1 else None
        names = getattr(self.predict_fn, "class_names", None)
        return Explanation(tuple(sampler.labels), coefficients, intercepts, r2, segments, *sampler.kept(),
                           sampler.prediction, image, total.samples, spread, stable, tuple(names) if names else None)


class _Sampler:
    """Runs the model on samples of one image and gathers what the regression needs."""

    def __init__(self, explainer, image, segments, labels, top_k):
        self.explainer = explainer
        self.count = int(segments.max()) + 1
        self.hide = Hider(image, segments, hidden_image(image, segments, explainer.hide))
        self.rows = explainer.batch_size or int(np.clip(_BATCH_BYTES // image.size, 1, _MOST_IN_BATCH))
        whole, = predict(explainer.predict_fn, image[None])
        self.classes = len(whole)
        self.labels = pick_labels(labels, top_k, whole)
        self.origin = whole[self.labels]
        self.prediction = whole.astype(np.float32)
        self._masks, self._probabilities, self._room = [], [], _KEPT_BYTES

    def check_enough(self, num_samples):
        """Say so before the model has worked for nothing."""
        if self.explainer.regressor == "least_squares" and num_samples <= self.count:
            raise ValueError(f"num_samples={num_samples} is too few for the {self.count} segments of this image; take "
                             "more, or regressor='ridge' or 'forward'")

    def run(self, blocks, bar):
        """The moments of one round of samples."""
        moments = Moments(self.origin)
        for masks, images in self._ahead(blocks):
            probabilities = predict(self.explainer.predict_fn, images, self.classes)
            moments.add(masks, probabilities[:, self.labels], kernel_weights(masks, self.explainer.kernel_width))
            self._keep(masks, probabilities.astype(np.float32))
            bar.update(len(masks))
        return moments

    def _ahead(self, blocks):
        """Pairs (masks, images), the next images being made while the model is at work."""
        with ThreadPoolExecutor(1, "lime") as pool:
            making = collections.deque()
            for masks in blocks:
                making.append((masks, pool.submit(self.hide, masks)))
                if len(making) > 1:
                    masks, images = making.popleft()
                    yield masks, images.result()
            masks, images = making.popleft()
            yield masks, images.result()

    def _keep(self, masks, probabilities):
        rows = min(len(masks), self._room // (self.count + 4 * self.classes))
        if rows:
            self._masks.append(masks[:rows])
            self._probabilities.append(probabilities[:rows])
            self._room -= rows * (self.count + 4 * self.classes)
        if rows < len(masks):
            self._room = 0

    def kept(self):
        """Masks and probabilities of the first samples."""
        return np.concatenate(self._masks), np.concatenate(self._probabilities)


def _blocks(masks, num_samples, sampler, seed):
    """The masks of one round, bool [rows, segments] at a time: those given, or drawn."""
    random = np.random.RandomState(seed)
    for start in range(0, num_samples, sampler.rows):
        rows = min(sampler.rows, num_samples - start)
        if masks is not None:
            yield masks[start:start + rows]
            continue
        drawn = random.randint(0, 2, (rows, sampler.count)).astype(bool)
        if start == 0:
            drawn[0] = True
        yield drawn


def _check_masks(masks, count):
    masks = np.asarray(masks)
    if masks.ndim != 2 or masks.shape[1] != count or not len(masks):
        raise ValueError(f"masks of shape {masks.shape} must be [num_samples, {count}], a column for each segment")
    if not np.isin(masks, (0, 1)).all():
        raise ValueError("masks must hold 0 (hidden) and 1 (shown)")
    return masks.astype(bool)


def _bar(total, progress):
    from tqdm import tqdm
    return tqdm(total=total, desc="LIME", unit="img", disable=not progress)
