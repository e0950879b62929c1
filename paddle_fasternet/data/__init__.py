"""Sets of images in memory and in folders, augmentation by the batch, and the loader that joins them.

What training, evaluation, export and figures take as a set is described in the module ``imageset``.
"""
from .augment import AUGMENTATIONS, PRESETS, Augment, parse_augment
from .datasets import DATASETS, list_datasets, load_dataset
from .folder import ImageFolder
from .images import read_image
from .imageset import ImageSet, Mirrored, check_images
from .known.cifar import get_cifar10_labels, read_cifar10, read_cifar100
from .layout import load_folder, load_known
from .loader import Loader
from .recorded import describe_files, is_recorded, load_recorded

__all__ = ["AUGMENTATIONS", "DATASETS", "PRESETS", "Augment", "ImageFolder", "ImageSet", "Loader", "Mirrored",
           "check_images", "describe_files", "get_cifar10_labels", "is_recorded", "list_datasets", "load_dataset",
           "load_folder", "load_known", "load_recorded", "parse_augment", "read_cifar10", "read_cifar100", "read_image"]
