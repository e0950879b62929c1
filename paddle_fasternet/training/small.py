"""Sets that are small or uneven: how many images a step takes, and how much each class weighs."""
import dataclasses

import numpy as np

from .config import Unchosen

_STEPS = 10  # that an epoch has at least, where the batch may be chosen
_SMALLEST = 16  # images: BatchNorm normalises by the batch


def suit_batch(config, images, parts=1):
    """(config with the batch size that the training takes, a remark or ""), for a set of so many images.

    A batch size that nobody chose is halved until an epoch has ``_STEPS`` steps. One that was given stays. ``parts`` is
    the number of processes that share a batch.
    """
    batch = min(config.batch_size, images)
    chosen = not isinstance(config.batch_size, Unchosen)
    fitting = _fitting(config.batch_size if not chosen else 256, images, parts)
    steps, left = divmod(images, batch)
    text = ""
    if chosen:
        if fitting < batch and (steps == 1 or left > images / 10):
            text = (f"batch_size={config.batch_size}: an epoch of train's {images} images has {_count(steps)}, leaving "
                    f"{left} images out; batch_size={fitting} makes {_count(images // fitting)}")
    elif fitting < config.batch_size:
        text = (f"train has {images} images: batch_size={fitting} instead of {config.batch_size}, so that an epoch has "
                f"{_count(images // fitting)}; give batch_size to choose another")
        config = dataclasses.replace(config, batch_size=fitting)
    return dataclasses.replace(config, batch_size=int(config.batch_size)), text


def _count(steps):
    return f"{steps} step{'s' * (steps != 1)}"


def _fitting(batch, images, parts):
    """The largest half, quarter, ... of ``batch`` that makes enough steps; a multiple of ``parts``."""
    while batch > _SMALLEST and images // batch < _STEPS:
        batch //= 2
    return max(min(batch, images) // parts * parts, 2 * parts)


def class_weights(images):
    """[K]: a weight for each class, so that every class of a set weighs the same and an image weighs 1 on average.

    A class without images has 1.
    """
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    present = np.count_nonzero(counts)
    return np.where(counts > 0, len(images) / (present * np.maximum(counts, 1)), 1.0)
