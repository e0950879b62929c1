"""How well a classifier does on an image set."""
import dataclasses

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from tqdm.auto import tqdm

from ._check import check_number, check_type
from ._modes import dynamic, evaluating
from .bundle import Classifier
from .data import Augment, Loader, Mirrored, check_images
from .deploy import Predictor, start_fastest


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        loss: mean cross-entropy.
        accuracy: share of right predictions.
        probabilities: float32 [N, K].
        labels: the true ones, int64 [N].
        class_names: the K names.
    """

    loss: float
    accuracy: float
    probabilities: np.ndarray
    labels: np.ndarray = None
    class_names: tuple = ()

    def __repr__(self):
        count, classes = self.probabilities.shape
        return f"Evaluation(accuracy {self.accuracy:.2%}, loss {self.loss:.4f}, {count:,} images, {classes} classes)"

    @property
    def predicted(self):
        """The most likely label of each image, int64 [N]."""
        return self.probabilities.argmax(1)

    @property
    def top5(self):
        """Share of the images whose true class is among the five likeliest."""
        own = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(((self.probabilities > own[:, None]).sum(1) < 5).mean())

    def per_class(self):
        """A dict for each class: "class", "images", "precision", "recall", "f1"; 0 where nothing defines a share."""
        rows = []
        for label, name in enumerate(self.class_names):
            true, predicted = self.labels == label, self.predicted == label
            both = int((true & predicted).sum())
            precision, recall = (both / max(int(part.sum()), 1) for part in (predicted, true))
            rows.append({"class": name, "images": int(true.sum()), "precision": precision, "recall": recall,
                         "f1": 2 * precision * recall / max(precision + recall, 1e-12)})
        return rows

    def surest_mistakes(self, count=16):
        """Numbers of the wrongly predicted images, int64 [at most count], the surest wrong prediction first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(1), kind="stable")][:count]


@dynamic
def evaluate(model, images, preprocess=None, batch_size=256, progress=False, flips=False, threads=None):
    """Classify a set of images and compare with its labels.

    Args:
        model: a ``Predictor``; a ``Classifier`` or what ``load_run`` returned, which the fastest engine that takes it
            runs, and Paddle's layers where none does; or a network with logits [N, K], which Paddle's layers run in
            evaluation mode, and whose layers keep their modes.
        images: an ``ImageSet`` or an ``ImageFolder``.
        preprocess: for a network, an ``Augment`` (a run's ``preprocess``); None normalises with the set's own
            statistics.
        batch_size: images in a forward pass of Paddle's layers.
        progress: show a bar.
        flips: take the mean of the logits of each image and of its mirror image, for twice the time.
        threads: of the engine that runs a ``Classifier``; None takes all cores of this process.

    Returns:
        ``Evaluation``: mean cross-entropy, share of right answers, probabilities.

    Raises:
        ValueError: the network has other outputs than the set has classes.
    """
    check_images("images", images)
    check_type("flips", flips, bool)
    if preprocess is not None:
        check_type("preprocess", preprocess, Augment)
    if isinstance(model, nn.Layer):
        return _evaluate_layers(model, images, preprocess, batch_size, progress, flips)
    if threads is not None:
        check_number("threads", threads, low=1, integer=True)
    if not isinstance(model, Predictor):
        classifier = Classifier.of(model)  # refuses what is no classifier
    if preprocess is not None:
        raise ValueError(f"preprocess goes with a network; a {type(model).__name__} prepares the images by itself: "
                         "leave it out")
    if not isinstance(model, Predictor):
        model = start_fastest(classifier, threads)
        if model is None:
            return _evaluate_layers(classifier.model, images, classifier.preprocess, batch_size, progress, flips)
    return _evaluate_function(model, len(model.class_names), images, progress, flips)


def _evaluate_layers(network, images, preprocess, batch_size, progress, flips):
    """Through Paddle's layers."""
    loader = Loader(images, batch_size, preprocess)
    logits, classes = [], len(images.class_names)
    with evaluating(network), paddle.no_grad():
        for batch, _ in tqdm(loader, desc="evaluating", disable=not progress, leave=False):
            logits.append(network(batch).astype("float32"))
            _check_classes(logits[-1].shape, classes)
            if flips:
                logits[-1] = (logits[-1] + network(batch.flip(3)).astype("float32")) / 2
    logits = paddle.concat(logits)
    probabilities = F.softmax(logits).numpy()
    return Evaluation(float(F.cross_entropy(logits, paddle.to_tensor(images.labels))),
                      float((probabilities.argmax(1) == images.labels).mean()), probabilities, images.labels,
                      images.class_names)


def _evaluate_function(function, classes, images, progress, flips):
    """Through a function (set of images, progress) -> probabilities [N, K]."""
    _check_classes([None, classes], len(images.class_names))
    probabilities = function(images, progress)
    if flips:  # the softmax of a mean of logits is the geometric mean, normalised
        product = np.sqrt(probabilities.astype(np.float64) * function(Mirrored(images), progress))
        probabilities = (product / product.sum(1, keepdims=True)).astype(np.float32)
    own = probabilities[np.arange(len(images)), images.labels]
    return Evaluation(float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
                      float((probabilities.argmax(1) == images.labels).mean()), probabilities, images.labels,
                      images.class_names)


def _check_classes(shape, classes):
    if list(shape[1:]) != [classes]:
        raise ValueError(f"the network has outputs of shape {list(shape)}, the images have {classes} classes")
