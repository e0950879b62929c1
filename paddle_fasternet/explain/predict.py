"""What is explained: a function from images to probabilities, made of a network where one is given."""
import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from .._check import check_choice, check_number, check_type
from .._modes import evaluating
from ..bundle import Classifier, check_range
from ..data.images import fit_channels
from ..deploy import EAGER, ENGINES, PRECISIONS, Predictor
from ..deploy.engines import check_offered, to_device

_EAGER_BYTES, _DEVICE_BYTES = 16 << 20, 256 << 20  # float32 images that go through a network at a time


class LayerPredictor:
    """Probabilities of a network for images at their own size.

    Args:
        layer: a network on float32 [N, 3, H, W], or on grey images [N, 1, H, W]; it keeps the mode it has, and stays as
            it is.
        mean, std: of each channel, 0..255.
        engine, precision: "eager" calls the network; any other engine makes a ``Predictor`` for square images ("auto":
            the fastest one), which follows what the network learns afterwards.

    Call: uint8 [N, H, W, 3] to float32 [N, K].
    """

    def __init__(self, layer, mean, std, engine="auto", precision="auto"):
        check_type("model", layer, nn.Layer)
        check_choice("engine", engine, ("auto", *ENGINES))
        check_choice("precision", precision, ("auto", *PRECISIONS))
        if "auto" not in (engine, precision):
            check_offered(engine, precision)
        if mean is None or std is None:
            raise ValueError("a network needs the mean and std of its input, 0..255 (a run's preprocess has them)")
        self.layer, self.engine, self.precision = layer, engine, precision
        self.channels = 1 if _input_channels(layer) == 1 else 3
        self.mean, self.std = (_channels(name, value, self.channels) for name, value in (("mean", mean), ("std", std)))
        if (self.std <= 0).any():
            raise ValueError(f"std={std} must be above 0")
        check_range(self.mean, self.std)
        self._predictors = {}

    def __call__(self, images):
        height, width = images.shape[1:3]
        if self.engine == EAGER or (self.engine == "auto" and height != width):
            return self._eager(images)
        if height != width:
            raise ValueError(f"engine={self.engine!r} takes square images, not {height} x {width}; engine={EAGER!r} "
                             "or 'auto' takes any")
        if height not in self._predictors:
            self._predictors[height] = Predictor(self.layer, self.engine, self.precision, image_size=height,
                                                 mean=self.mean, std=self.std)
        return self._predictors[height](images)

    def normalize(self, images):
        """uint8 [N, H, W, 3] to the network's float32 [N, C, H, W]."""
        x = fit_channels(images, self.channels).transpose(0, 3, 1, 2).astype(np.float32, order="C")
        x -= self.mean[:, None, None]
        x *= 1 / self.std[:, None, None]
        return x

    def _eager(self, images):
        on_cpu = paddle.get_device() == "cpu"
        rows = max(1, (_EAGER_BYTES if on_cpu else _DEVICE_BYTES) // (4 * images[0].size))
        with evaluating(self.layer), paddle.no_grad():
            parts = []
            for start in range(0, len(images), rows):
                part = images[start:start + rows]
                x = paddle.to_tensor(self.normalize(part)) if on_cpu else to_device(
                    fit_channels(part, self.channels), self.mean, self.std)
                parts.append(F.softmax(self.layer(x)).numpy())
            return np.concatenate(parts)


def _input_channels(layer):
    """The channels of a network's input, as far as it tells: its own word or that of its first convolution."""
    first = next((one for one in layer.sublayers() if isinstance(one, nn.Conv2D)), None)
    return getattr(layer, "in_channels", getattr(first, "_in_channels", None))


def _channels(name, value, channels):
    value = np.asarray(value, np.float32).ravel()
    if len(value) not in (1, channels) or not np.isfinite(value).all():
        raise ValueError(f"{name}={value.tolist()} must be one finite number{' or three' * (channels == 3)}, 0..255")
    return np.broadcast_to(value, channels)


def predict_function(model, mean=None, std=None, engine="auto", precision="auto"):
    """A function from uint8 [N, H, W, 3] to probabilities [N, K]: ``model`` itself, or what runs it.

    Raises:
        TypeError, ValueError: ``model`` is neither a network nor a classifier nor a function, or mean and std do not go
            with it.
    """
    check_choice("engine", engine, ("auto", *ENGINES))
    check_choice("precision", precision, ("auto", *PRECISIONS))
    if isinstance(model, nn.Layer) and (getattr(model, "bundle", None) is None or mean is not None or std is not None):
        return LayerPredictor(model, mean, std, engine, precision)
    known = isinstance(model, (nn.Layer, Classifier)) or isinstance(getattr(model, "classifier", None), Classifier)
    if known and not isinstance(model, Predictor):
        return Predictor(Classifier.of(model, mean=mean, std=std), engine, precision)
    if not callable(model):
        raise TypeError("model_or_predict_fn must be a network, a Predictor, or a function from uint8 [N, H, W, 3] to "
                        "probabilities [N, K], or a Classifier, or what load_run returned, not "
                        f"{type(model).__name__}")
    if mean is not None or std is not None:
        raise ValueError("mean and std go with a network; a function or Predictor normalises its images by itself")
    return model


def predict(function, images, classes=None):
    """Call a predict function and make sure of what it answers; float64 [N, K].

    Args:
        classes: K, where it is known.

    Raises:
        ValueError: it answers something else than finite numbers [N, K].
    """
    answer = function(images)
    try:
        probabilities = np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"predict_fn must return probabilities [N, K], not {type(answer).__name__}") from None
    rows = len(images)
    if probabilities.ndim != 2 or len(probabilities) != rows or classes not in (None, probabilities.shape[1]):
        raise ValueError(f"predict_fn returned shape {list(probabilities.shape)} for {rows} images; it must be "
                         f"[{rows}, {classes or 'K'}], a probability for each class")
    if not np.isfinite(probabilities).all():
        raise ValueError(f"predict_fn returned {probabilities[~np.isfinite(probabilities)][0]}; probabilities must be "
                         "finite")
    return probabilities


def pick_labels(labels, top_k, probabilities):
    """The classes to explain, as a list: those given, or the ``top_k`` likeliest of probabilities [K]."""
    classes = len(probabilities)
    if labels is None:
        top_k = check_number("top_k", top_k, low=1, high=classes, integer=True)
        return np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    given = np.asarray(labels)
    if given.dtype.kind not in "iu" or given.ndim > 1 or not given.size:
        raise TypeError(f"labels={labels!r} must be the number of a class, or several")
    outside = [label for label in given.ravel().tolist() if not 0 <= label < classes]
    if outside:
        raise ValueError(f"label {outside[0]} is outside the {classes} classes 0..{classes - 1}")
    return given.ravel().tolist()


def pick_label(label, probabilities):
    """The class to explain: that given, or the likeliest of probabilities [K]."""
    if label is not None and np.ndim(label):
        raise TypeError(f"label={label!r} must be the number of one class")
    return pick_labels(label, 1, probabilities)[0]
