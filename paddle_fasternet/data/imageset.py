"""Sets of labelled images: what training, evaluation, export and figures take, and the kind that lies in memory.

Two classes share one protocol, ``ImageSet`` (in memory) and ``ImageFolder`` (picture files, module ``folder``):

- ``len(s)``; ``s[i]`` is (uint8 [C, H, W], label); ``s[1:9]`` and ``s[array]`` are sets of the same class;
- ``s.labels`` int64 [N], ``s.class_names``, ``s.name``, ``s.source`` (where it came from, in words);
- ``s.channels``, 1 or 3; ``s.mean`` and ``s.std`` of each channel in 0..255;
- ``s.pixels(index, size, crop, rng)`` is a batch uint8 [n, C, H, W] of the images that the array ``index`` names. A set
  in memory gives them as they are; a folder gives [n, 3, size, size]: the central squares, or with ``crop`` random
  crops of the full pictures. ``s.crops`` says whether ``pixels`` takes the crops;
- ``s.record()``: what a run writes down to find the images again, plain values for JSON.

``check_images`` is the one check of an argument; ``Augment.batch(s, index, rng)`` is ``pixels``, augmented and
normalised.
"""
import abc
import dataclasses
import functools
import operator

import numpy as np

from .._check import check_names
from .images import read_picture


class Images(abc.ABC):
    """The protocol; see the module."""

    crops = False

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        """(uint8 [C, H, W], label) for an integer; the set of the images that an array or a slice chooses otherwise."""
        if isinstance(index, slice) or np.ndim(index):
            return self._subset(index)
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"{type(self).__name__} is indexed by integers, slices and arrays, not by {index!r}"
                            ) from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"image {number} of {len(self)}")
        return self._picture(number % len(self)), int(self.labels[number])

    @abc.abstractmethod
    def _subset(self, index):
        """The set of the images that an array or a slice chooses."""

    @abc.abstractmethod
    def _picture(self, number):
        """One image, uint8 [C, H, W]."""

    @abc.abstractmethod
    def pixels(self, index, size=None, crop=0.0, rng=None):
        """A batch uint8 [n, C, H, W]; see the module."""

    def record(self):
        """What a run writes down to find the images again."""
        return {}


def check_images(argument, value):
    """Raise TypeError unless ``value`` is an ``ImageSet`` or an ``ImageFolder``."""
    if not isinstance(value, Images):
        raise TypeError(f"{argument} must be a ImageSet, not {type(value).__name__}; load_dataset and load_folder make "
                        "sets of pictures in a folder")


def check_labels(labels, count, class_names):
    """(labels as int64 [N], class_names as a tuple of texts); TypeError or ValueError where they do not fit."""
    labels = np.asarray(labels)
    class_names = check_names("class_names", class_names, letters=True)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels of shape {labels.shape} and type {labels.dtype} must be integers [{count}], one for "
                         "each image")
    outside = (labels < 0) | (labels >= len(class_names))
    if outside.any():
        raise ValueError(f"label {labels[outside][0]} of image {int(outside.argmax())} is outside the "
                         f"{len(class_names)} classes of class_names")
    return labels.astype(np.int64), class_names


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet(Images):
    """Labelled images in memory.

    Args:
        images: uint8 [N, C, H, W], C 1 or 3.
        labels: integers [N] in 0..K-1; kept as int64.
        class_names: the K names.
        name: of the data set, such as "cifar10".
        source: where it came from, in words.

    ``images[i]`` is (uint8 [C, H, W], label), so ``paddle.io.DataLoader(images)`` works; a slice or an array chooses a
    smaller set.

    Raises:
        TypeError, ValueError: shapes, types or labels do not fit.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple
    name: str = "images"
    source: str = ""

    def __post_init__(self):
        images = np.asarray(self.images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
            raise ValueError(f"images of shape {images.shape} and type {images.dtype} must be uint8 [N, C, H, W], "
                             "C 1 or 3, and not empty")
        labels, class_names = check_labels(self.labels, len(images), self.class_names)
        for field, value in [("images", np.ascontiguousarray(images)), ("labels", labels),
                             ("class_names", class_names)]:
            object.__setattr__(self, field, value)

    def __repr__(self):
        count, channels, height, width = self.images.shape
        kind = "grey" if channels == 1 else "colour"
        return (f"ImageSet({self.name!r}, {count:,} images {height} x {width}, {kind}, "
                f"{len(self.class_names)} classes)")

    @classmethod
    def from_dataset(cls, dataset, class_names=None, name=None):
        """Copy a ``paddle.vision`` data set, or any sequence of (image, label), into memory.

        Args:
            dataset: gives (PIL image or array [H, W], [H, W, C], values 0..255; label) for 0..len-1, all of one size.
                It must have no transform that normalises.
            class_names: None takes ``dataset.classes`` or the names of the known data sets, and numbers otherwise.
            name: of the set; None takes the class's name.

        Raises:
            TypeError: ``dataset`` has no length or no items.
            ValueError: the images differ in size, are no pixels, or have no labels.
        """
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(f"dataset={dataset!r} must have a length and items (image, label)")
        images, labels = [], []
        for i in range(len(dataset)):
            try:
                image, label = dataset[i]
                labels.append(int(np.asarray(label).reshape(())))
            except (TypeError, ValueError) as error:
                raise ValueError(f"dataset[{i}] is no pair of an image and an integer label") from error
            images.append(_as_pixels(image, i))
            if images[i].shape != images[0].shape:
                raise ValueError(f"dataset[{i}] is {images[i].shape} and dataset[0] is {images[0].shape} (C, H, W): a "
                                 "set in memory has one size; load_folder takes pictures of many sizes from files")
        kind = type(dataset).__name__
        if class_names is None:
            class_names = getattr(dataset, "classes", None) or _class_names(kind) or range(max(labels, default=0) + 1)
        return cls(np.stack(images) if images else np.zeros((0, 3, 1, 1), np.uint8), labels, class_names,
                   kind.lower() if name is None else name, f"{type(dataset).__module__}.{kind}")

    @property
    def channels(self):
        """1 for grey images, 3 for colour."""
        return self.images.shape[1]

    def pixels(self, index, size=None, crop=0.0, rng=None):
        """The images as they are, uint8 [n, C, H, W]; an ``Augment`` resizes and crops them."""
        return self.images[index]

    def _picture(self, number):
        return self.images[number]

    def _subset(self, index):
        return dataclasses.replace(self, images=self.images[index], labels=self.labels[index])

    @functools.cached_property
    def _statistics(self):
        # a histogram of 256 values for each channel: exact, and no more than a block of images is copied
        counts = sum(np.stack([np.bincount(block[:, c].ravel(), minlength=256) for c in range(block.shape[1])])
                     for block in np.array_split(self.images, -(-len(self.images) // 1024)))
        share, value = counts / counts.sum(1, keepdims=True), np.arange(256)
        mean = share @ value
        return mean, np.sqrt(np.maximum(share @ value**2 - mean**2, 1e-6))

    @property
    def mean(self):
        """Mean of each channel, in 0..255."""
        return tuple(self._statistics[0].tolist())

    @property
    def std(self):
        """Standard deviation of each channel, in 0..255."""
        return tuple(self._statistics[1].tolist())


class Mirrored(Images):
    """The mirror images of a set, to be classified."""

    def __init__(self, images):
        self.images, self.labels, self.crops = images, images.labels, images.crops

    def pixels(self, index, size=None, crop=0.0, rng=None):
        return self.images.pixels(index, size, crop, rng)[..., ::-1]

    def _picture(self, number):
        return self.images[number][0][..., ::-1]

    def _subset(self, index):
        return Mirrored(self.images[index])


def _as_pixels(image, number):
    """uint8 [C, H, W] of a PIL image or an array [H, W] or [H, W, C]."""
    if getattr(image, "mode", "RGB") not in ("RGB", "L"):  # a palette's pixels are numbers of colours
        image = read_picture(image)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"dataset[{number}] has an image of shape {pixels.shape}; it must be [H, W] or [H, W, C], "
                         "C 1 or 3: leave out a transform that moves the channels")
    if pixels.dtype != np.uint8 and not (pixels == np.clip(np.rint(pixels), 0, 255)).all():
        raise ValueError(f"dataset[{number}] has an image of type {pixels.dtype} from {pixels.min():g} to "
                         f"{pixels.max():g}; it must hold whole numbers 0..255: leave out a transform that normalises")
    return pixels.astype(np.uint8).transpose(2, 0, 1)


def _class_names(kind):
    """Names that a ``paddle.vision`` data set does not carry, or None."""
    from .known.cifar import CIFAR10_CLASSES
    return {"Cifar10": CIFAR10_CLASSES,
            "FashionMNIST": ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
                             "ankle boot")}.get(kind)
