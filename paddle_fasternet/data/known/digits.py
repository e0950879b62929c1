"""Scikit-learn's handwritten digits, which need no network."""
import numpy as np

from ..imageset import ImageSet
from . import Dataset


def _load(data_file):
    """UCI's digits (8 x 8, 0..16), enlarged smoothly, every fifth a test image after a fixed shuffle."""
    if data_file is not None:
        raise ValueError(f"data_file={data_file!r} goes with name='cifar10' or 'auto'; the digits are embedded")
    import cv2
    from sklearn.datasets import load_digits
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    gray = [cv2.resize(image.astype(np.float32), (32, 32), interpolation=cv2.INTER_CUBIC) for image in digits.images]
    gray = np.rint(np.clip(np.stack(gray) * (255 / 16), 0, 255)).astype(np.uint8)
    images = np.repeat(gray[:, None], 3, axis=1)[order]
    labels = digits.target[order].astype(np.int64)
    test = np.arange(len(labels)) % 5 == 0
    names = tuple(map(str, range(10)))
    return tuple(ImageSet(images[part], labels[part], names, "digits", "scikit-learn's handwritten digits")
                 for part in (~test, test))


DATASETS = {"digits": Dataset(_load, mirror=False,
                              demo={"epochs": 16, "patch_size": 4, "batch_size": 64, "augment": "shift=3,rotate=10"})}
