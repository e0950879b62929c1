"""A network together with what its input and its outputs mean."""
import dataclasses
import math

import numpy as np
import paddle
from paddle import nn

from ._check import check_names, check_number, check_type
from ._modes import evaluating, input_type
from .data import Augment

# The statistics that PaddleClas's ImageNet-1k weights expect, in 0..255.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
GREY_MEAN, GREY_STD = (117.0,), (57.0,)  # of the same images in grey, roughly


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Classifier:
    """A network that classifies images, with its preprocessing and its class names.

    ``Predictor``, ``evaluate``, ``LimeExplainer`` and ``export`` take one. A run has one (``run.classifier``), and so
    has a pretrained network (``model.bundle``).

    Args:
        model: a network from float32 [N, C, S, S] to logits [N, K].
        image_size: S, the side of its input in pixels.
        mean, std: of the pixels in 0..255, one number or one for each channel; the input is (pixel - mean) / std.
        class_names: K names; None numbers the classes, for which the network is called once.

    Raises:
        TypeError, ValueError: an argument is not as above; the message names it.
    """

    model: nn.Layer
    image_size: int
    mean: tuple
    std: tuple
    class_names: tuple = None

    def __post_init__(self):
        check_type("model", self.model, nn.Layer)
        size = check_number("image_size", self.image_size, low=1, integer=True)
        mean, std = channel_values("mean", self.mean), channel_values("std", self.std)
        if len(mean) == len(std) == 1:  # one number stands for all channels
            channels = getattr(self.model, "in_channels", 1)
            mean, std = mean * channels, std * channels
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean={mean} and std={std} must have one value for each channel, std above 0")
        for name, value in [("image_size", size), ("mean", tuple(mean)), ("std", tuple(std))]:
            object.__setattr__(self, name, value)
        names = self.class_names
        names = range(self.count_outputs()) if names is None else names
        object.__setattr__(self, "class_names", check_names("class_names", names))

    def __repr__(self):
        return (f"Classifier({type(self.model).__name__}, image_size={self.image_size}, "
                f"classes={len(self.class_names)})")

    @property
    def preprocess(self):
        """The ``Augment`` from uint8 images [N, C, H, W] of any size to the network's input."""
        return Augment("none", self.image_size, self.mean, self.std)

    def count_outputs(self):
        """K, by a forward pass.

        Raises:
            ValueError: the network does not take its input, or gives something else than [N, K].
        """
        with evaluating(self.model), paddle.no_grad():
            x = paddle.zeros([1, len(self.mean), self.image_size, self.image_size], input_type(self.model))
            shape = self.model(x).shape
        if len(shape) != 2:
            raise ValueError(f"the network's outputs have the shape {shape}; it must be [N, classes]")
        return shape[1]

    @classmethod
    def of(cls, source, image_size=None, mean=None, std=None, class_names=None):
        """The classifier that ``source`` is, has, or becomes with the other arguments.

        Args:
            source: a ``Classifier``, what ``load_run`` returned, or a network.
            image_size, mean, std, class_names: used instead of what ``source`` knows. A network that was not pretrained
                knows nothing: it needs ``image_size``; ``mean`` and ``std`` are then ImageNet's unless given.

        Raises:
            TypeError: ``source`` is something else.
            ValueError: a network needs ``image_size``, or an argument does not fit it.
        """
        given = {name: value for name, value in (("image_size", image_size), ("mean", mean), ("std", std),
                                                 ("class_names", class_names)) if value is not None}
        known = source
        for name in ("classifier", "bundle"):  # of a run, of a pretrained network
            if isinstance(getattr(source, name, None), cls):
                known = getattr(source, name)
        if isinstance(known, cls):
            if not given:
                return known
            classifier = dataclasses.replace(known, **given)
        elif not isinstance(source, nn.Layer):
            raise TypeError(f"{type(source).__name__} is neither a network, nor a Classifier, nor what load_run "
                            "returned, nor a folder")
        else:
            if image_size is None:
                raise ValueError("image_size=None: a network does not know it; give the side of its input in pixels")
            grey = getattr(source, "in_channels", 3) == 1
            known = {"mean": GREY_MEAN, "std": GREY_STD} if grey else {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
            classifier = cls(source, **{**known, **given})
        if mean is not None or std is not None:
            check_range(classifier.mean, classifier.std)
        if class_names is not None and len(classifier.class_names) != classifier.count_outputs():
            raise ValueError(f"class_names has {len(classifier.class_names)} names for a network of "
                             f"{classifier.count_outputs()} outputs")
        return classifier


def channel_values(argument, values):
    """Floats for each channel; ValueError or TypeError where they are not finite numbers."""
    try:
        values = [float(value) for value in np.asarray(values, float).ravel()]
    except (TypeError, ValueError):
        raise TypeError(f"{argument}={values!r} must hold a number for each channel, in 0..255") from None
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"{argument}={values!r} must hold a finite number for each channel, in 0..255")
    return values


def check_range(mean, std):
    """Raise ValueError where mean and std are plainly those of images 0..1, as torchvision has them."""
    if 0 < max(mean) <= 1 and max(std) <= 1:
        raise ValueError(f"mean={list(mean)} and std={list(std)} are those of images 0..1; multiply both by 255")
