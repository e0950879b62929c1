"""What is random in the augmentation of one batch, drawn on the host.

Augmenting is split in two: the draws, by NumPy's generator in a fixed order, and their application, by NumPy
(``augment.py``) or on Paddle's device (``device.py``). One seed so gives the same pictures on every device.
"""
import dataclasses
from typing import Optional

import numpy as np


@dataclasses.dataclass(frozen=True)
class Draws:
    """One entry for each of n images; None for what is not augmented.

    Attributes:
        shift: int64 [2, n], pixels down and to the right.
        flipped: bool [n], mirrored left to right.
        jitter: float32 [3, n], factors of brightness, contrast and saturation.
        crops: int64 [n, 4], (top, left, height, width).
        angles: float64 [n], degrees counterclockwise.
        cutout: int64 [n, 4], (top, bottom, left, right) of the erased square.
        keep: float32 [n], the share of the image itself where the next image is mixed in.
        pasted: int64 [n, 4], (top, bottom, left, right) of what "cutmix" takes from the next image; None for "mixup".
    """

    shift: Optional[np.ndarray] = None
    flipped: Optional[np.ndarray] = None
    jitter: Optional[np.ndarray] = None
    crops: Optional[np.ndarray] = None
    angles: Optional[np.ndarray] = None
    cutout: Optional[np.ndarray] = None
    keep: Optional[np.ndarray] = None
    pasted: Optional[np.ndarray] = None


def draw(strength, n, height, width, size, rng, mirrored=None):
    """Draw for a batch.

    Args:
        strength: {augmentation: its strength}, see ``parse_augment``.
        n, height, width: of the source images [n, C, height, width].
        size: side of the output.
        rng: a ``numpy.random.Generator``; None will do where nothing is random.
        mirrored: bool [n], what "altflip" mirrors; None: half of the images, at random.
    """
    found = {}
    flip, shift = strength.get("flip", 0), int(strength.get("shift", 0))
    if "altflip" in strength:
        flip = 0.5 if mirrored is None else mirrored
    if np.any(flip) or shift:
        if shift >= min(height, width):
            raise ValueError(f"augment shift={shift} must be smaller than the image ({height} x {width} pixels)")
        found["shift"] = rng.integers(-shift, shift + 1, (2, n, 1))[..., 0]
        found["flipped"] = rng.random(n) < flip
    if strength.get("jitter"):
        width_of = strength["jitter"]
        found["jitter"] = rng.uniform(1 - width_of, 1 + width_of, (3, n)).astype(np.float32)
    if strength.get("crop") or strength.get("rotate"):
        if strength.get("crop"):
            found["crops"] = crop_boxes(n, height, width, strength["crop"], rng)
        degrees = strength.get("rotate", 0)
        angles = rng.uniform(-degrees, degrees, n)
        if degrees:
            found["angles"] = angles
        height = width = size  # from here on
    if strength.get("cutout"):
        found["cutout"] = _boxes(n, height, width, strength["cutout"], rng)
    mixes = [name for name in ("mixup", "cutmix") if name in strength]
    if mixes:
        name = mixes[rng.integers(len(mixes))]
        found["keep"] = rng.beta(strength[name], strength[name], n).astype(np.float32)
        if name == "cutmix":
            found["pasted"] = _boxes(n, height, width, np.sqrt(1 - found["keep"]), rng)
            top, bottom, left, right = found["pasted"].T
            found["keep"] = (1 - (bottom - top) * (right - left) / (height * width)).astype(np.float32)
    return Draws(**found)


def crop_boxes(n, height, width, smallest, rng):
    """int64 [n, 4]: (top, left, height, width) of random crops (Szegedy et al. 2015); one that does not fit is clipped.

    ``smallest``: the smallest share of the area that a crop keeps. ``height`` and ``width`` are those of all images, or
    of each [n].
    """
    area = height * width * rng.uniform(smallest, 1.0, n)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), n))
    h = np.clip(np.rint(np.sqrt(area / aspect)), 1, height).astype(int)
    w = np.clip(np.rint(np.sqrt(area * aspect)), 1, width).astype(int)
    top = rng.integers(0, height - h + 1)
    left = rng.integers(0, width - w + 1)
    return np.stack([top, left, h, w], axis=1)


def _boxes(n, height, width, side, rng):
    """int64 [n, 4]: (top, bottom, left, right) of boxes of ``side`` (one or [n]) times the image, cut at its border."""
    y, x = rng.uniform(0, height, n), rng.uniform(0, width, n)
    rows, columns = ([centre - side * length / 2, centre + side * length / 2]
                     for centre, length in ((y, height), (x, width)))
    return np.stack([*np.rint(rows).clip(0, height).astype(int), *np.rint(columns).clip(0, width).astype(int)], axis=1)
