"""Weight files: read without running them, renamed into this library's names, loaded whole or not at all, written."""
from .convert import convert
from .load import LoadReport, load_arrays, load_weights
from .names import TARGETS
from .pretrained import (
    CIFAR10_RUN,
    bundle_of,
    fetch_pretrained,
    find_pretrained,
    load_pretrained,
    shipped_arguments,
)
from .read import read_weights
from .resample import resample_patches
from .write import save_weights

__all__ = ["CIFAR10_RUN", "TARGETS", "LoadReport", "bundle_of", "convert", "fetch_pretrained", "find_pretrained",
           "load_arrays", "load_pretrained", "load_weights", "read_weights", "resample_patches", "save_weights",
           "shipped_arguments"]
