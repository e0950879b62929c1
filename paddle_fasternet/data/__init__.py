"""Data sets in memory, augmentation by the batch, and the loader that joins them."""
from .augment import AUGMENTATIONS, PRESETS, Augment, parse_augment
from .datasets import DATASETS, ImageSet, get_cifar10_labels, load_dataset, read_cifar10
from .images import read_image
from .loader import Loader

__all__ = ["AUGMENTATIONS", "DATASETS", "PRESETS", "Augment", "ImageSet", "Loader", "get_cifar10_labels",
           "load_dataset", "parse_augment", "read_cifar10", "read_image"]
