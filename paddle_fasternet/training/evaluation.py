"""How well a network does on an image set."""
import dataclasses

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from tqdm.auto import tqdm

from .._check import check_type
from .._modes import evaluating
from ..data import Augment, ImageSet, Loader
from ..deploy import Predictor


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What ``evaluate`` found: mean cross-entropy, share of right answers, and probabilities float32 [N, K]."""

    loss: float
    accuracy: float
    probabilities: np.ndarray

    @property
    def predicted(self):
        """The most likely label of each image, int64 [N]."""
        return self.probabilities.argmax(1)


def evaluate(model, images, preprocess=None, batch_size=256, progress=False, flips=False):
    """Classify an ``ImageSet`` and compare with its labels.

    Args:
        model: a network with logits [N, K]; it is evaluated in evaluation mode and its layers left in the modes they
            had. Or a ``Predictor``, which is faster, and prepares the images by itself.
        images: an ``ImageSet``.
        preprocess: an ``Augment`` (a run's ``preprocess``); None normalises with the set's own statistics.
        batch_size: images in a forward pass of a network.
        progress: show a bar.
        flips: take the mean of the logits of each image and of its mirror image, for twice the time.

    Returns:
        ``Evaluation``: mean cross-entropy, share of right answers, probabilities.

    Raises:
        ValueError: the network has other outputs than the set has classes.
    """
    check_type("images", images, ImageSet)
    check_type("flips", flips, bool)
    if preprocess is not None:
        check_type("preprocess", preprocess, Augment)
    if isinstance(model, Predictor):
        return _evaluate_predictor(model, images, preprocess, progress, flips)
    check_type("model", model, nn.Layer)
    loader = Loader(images, batch_size, preprocess)
    logits, classes = [], len(images.class_names)
    with evaluating(model), paddle.no_grad():
        for batch, _ in tqdm(loader, desc="evaluating", disable=not progress, leave=False):
            logits.append(model(batch).astype("float32"))
            _check_classes(logits[-1].shape, classes)
            if flips:
                logits[-1] = (logits[-1] + model(batch.flip(3)).astype("float32")) / 2
    logits = paddle.concat(logits)
    labels = paddle.to_tensor(images.labels)
    probabilities = F.softmax(logits).numpy()
    return Evaluation(float(F.cross_entropy(logits, labels)),
                      float((probabilities.argmax(1) == images.labels).mean()), probabilities)


def _evaluate_predictor(predictor, images, preprocess, progress, flips):
    if preprocess is not None:
        raise ValueError("preprocess goes with a network; a Predictor prepares the images by itself: leave it out")
    _check_classes([None, len(predictor.class_names)], len(images.class_names))
    pixels = images.images.transpose(0, 2, 3, 1)
    probabilities = predictor(pixels, progress)
    if flips:  # the softmax of a mean of logits is the geometric mean, normalised
        product = np.sqrt(probabilities.astype(np.float64) * predictor(pixels[:, :, ::-1], progress))
        probabilities = (product / product.sum(1, keepdims=True)).astype(np.float32)
    own = probabilities[np.arange(len(images)), images.labels]
    return Evaluation(float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
                      float((probabilities.argmax(1) == images.labels).mean()), probabilities)


def _check_classes(shape, classes):
    if list(shape[1:]) != [classes]:
        raise ValueError(f"the network has outputs of shape {list(shape)}, the images have {classes} classes")
