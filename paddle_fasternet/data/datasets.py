"""Data sets by name or by folder, as ``(train, test)``."""
import json
import os
import sys

from .._check import check_choice, check_number, check_path
from .known import table
from .layout import read_folder_pair
from .recorded import is_recorded, load_recorded

DATASETS = table()


def list_datasets():
    """Names that ``load_dataset`` takes; it also takes a folder."""
    return ["auto", *DATASETS]


def load_dataset(name="auto", data_file=None, *, val=0.2, seed=0):
    """Load a data set as ``(train, test)``: two ``ImageSet``, or two ``ImageFolder`` of pictures in a folder.

    Args:
        name: a folder of pictures, or one of ``list_datasets()``. "cifar10" and "cifar100" raise where they cannot be
            had; "digits" is scikit-learn's handwritten digits (1,437 and 360 images), drawn as 32 x 32 RGB, which needs
            no network; "auto" takes CIFAR-10 where it can be had and the digits otherwise, and says so in one line.
        data_file: for CIFAR an archive in the official Python layout (any name), or the folder it was unpacked into.
            For a list of pictures the file of its class names.
        val, seed: for a folder that is not split yet: share of each class that becomes ``test``, and which pictures.

    A folder has a subfolder for each class, full of pictures (see ``load_folder``); or ``train/`` and one of ``val/``,
    ``validation/``, ``test/`` (the first of these), each with such subfolders; or ``train_list.txt`` and
    ``val_list.txt`` as PaddleClas has them. A list itself will do, too. The split is by class and by ``seed``; a run
    records it by file name, and ``name`` may be a run's folder, for the sets that it was trained and evaluated on.

    CIFAR is looked for in ``data_file``, ``$PADDLE_FASTERNET_DATA``, AI Studio's mount
    (``data/data*/cifar-10-python.tar.gz`` here or in the home folder) and Paddle's cache; then it is downloaded into
    that cache and its checksum verified.

    Raises:
        FileNotFoundError: the file named is not there.
        ConnectionError: CIFAR is not on this machine and cannot be downloaded.
        ValueError: the name is unknown, the archive is not what it should be, or the folder has no classes.
    """
    share = check_number("val", val, low=0.001, high=0.999)
    seed = check_number("seed", seed, low=0, high=2**63 - 1, integer=True)
    if isinstance(name, os.PathLike) or (isinstance(name, str) and name not in list_datasets() and _is_path(name)):
        path = check_path("name", name)
        data = _run_data(path)
        if data:
            return tuple(load_recorded(data)) if is_recorded(data) else load_dataset(data["name"], data_file)
        return read_folder_pair(path, data_file, share, seed)
    check_choice("name", name, list_datasets())
    if name != "auto":
        return DATASETS[name].load(data_file)
    try:
        return DATASETS["cifar10"].load(data_file)
    except ConnectionError as error:
        print(f"CIFAR-10: {error}. Taking the embedded handwritten digits instead.", file=sys.stderr)
        return DATASETS["digits"].load(None)


def _run_data(path):
    """``data`` of the run whose folder this is, or None."""
    try:
        data = json.loads((path / "config.json").read_text(encoding="utf-8"))["data"]
        return data if {"name", "class_names", "train_images"} <= set(data) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_path(name):
    """Whether a text is rather a path than a misspelt name."""
    return bool(name) and (os.path.exists(os.path.expanduser(name)) or os.sep in name or "/" in name
                           or name.lower().endswith(".txt"))
