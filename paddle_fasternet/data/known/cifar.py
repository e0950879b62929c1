"""CIFAR-10 and CIFAR-100 from wherever they are.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.
The archives' pickles are read without running anything in them.
"""
import dataclasses
import gzip
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np

from ..._check import check_path
from ..._files import download, file_digest
from ...safe_pickle import loads
from ..imageset import ImageSet
from . import Dataset

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclasses.dataclass
class Archive:
    """An archive in the official Python layout."""

    name: str
    title: str
    file: str
    url: str  # Paddle's own copy of the official archive
    md5: str
    folder: str
    train: tuple
    test: str
    labels: str
    classes: int
    names: str  # the member that holds the class names, and their key; "": CIFAR10_CLASSES
    largest: int  # bytes of a member; the official ones have 31 and 155 MB


CIFAR10 = Archive("cifar10", "CIFAR-10", "cifar-10-python.tar.gz",
                  "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a",
                  "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "labels", 10, "",
                  64 << 20)
CIFAR100 = Archive("cifar100", "CIFAR-100", "cifar-100-python.tar.gz",
                   "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85",
                   "cifar-100-python", ("train",), "test", "fine_labels", 100, "meta", 320 << 20)


def get_cifar10_labels(labels):
    """Names of CIFAR-10 labels: [3, 5] gives ["cat", "dog"]. Takes a list, an array or a tensor."""
    labels = np.asarray(labels).reshape(-1)
    if labels.size and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9):
        raise ValueError(f"labels={labels.tolist()} must be integers in 0..9")
    return [CIFAR10_CLASSES[i] for i in labels]


def find_cifar10(data_file):
    """The path of CIFAR-10's archive on this machine, or None."""
    return _find(CIFAR10, data_file)


def read_cifar10(path):
    """Read an archive (or its unpacked folder) in the official Python layout into ``(train, test)``.

    Raises:
        ValueError: it is empty, truncated, altered, or its pickles hold more than arrays, lists and texts.
    """
    return _read(CIFAR10, path)


def read_cifar100(path):
    """``read_cifar10`` for CIFAR-100 with its 100 fine labels."""
    return _read(CIFAR100, path)


def _load(archive, data_file):
    return _read(archive, _find(archive, data_file) or _download(archive))


def _find(archive, data_file):
    """The path of the archive on this machine, or None."""
    for origin, value in [("data_file", data_file),
                          ("$PADDLE_FASTERNET_DATA", os.environ.get("PADDLE_FASTERNET_DATA") or None)]:
        if value is not None:
            path = check_path(origin, value)
            if not path.exists():
                raise FileNotFoundError(f"{origin}={str(value)!r}: there is no such file")
            if origin == "data_file" or _fits(archive, path):
                return path
    for folder in (Path.cwd(), Path(os.path.expanduser("~"))):
        mounted = sorted(folder.glob(f"data/data*/{archive.file}"))
        if mounted:
            return mounted[0]
    return _cache_path(archive) if _cache_path(archive).exists() else None


def _fits(archive, path):
    """Whether the environment's path may be this archive: it speaks of CIFAR-10 unless it names CIFAR-100."""
    names_100 = "100" in path.name or (path / CIFAR100.folder).is_dir()
    return names_100 if archive is CIFAR100 else not names_100


def _cache_path(archive):
    return Path(os.path.expanduser("~/.cache/paddle/dataset/cifar")) / archive.file  # as paddle.vision.datasets has it


def _download(archive):
    """Download into Paddle's cache, whole and verified or not at all."""
    path = _cache_path(archive)

    def check(part):
        md5 = file_digest(part, "md5")
        if md5 != archive.md5:
            raise ValueError(f"what {archive.url} sent has MD5 {md5} instead of {archive.md5}")

    try:
        download(archive.url, path, check)
    except (ConnectionError, ValueError) as error:
        raise ConnectionError(f"{error}; put the archive at {path} by hand, or name it with data_file") from None
    return path


def _read(archive, path):
    path = check_path("path", path)
    try:
        batches, source = _read_batches(archive, path)
        missing = [name for name in _members(archive) if name not in batches]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        names = _class_names(archive, batches)
        train = _image_set(archive, [batches[name] for name in archive.train], names, source)
        test = _image_set(archive, [batches[archive.test]], names, source)
    except (ValueError, KeyError, EOFError, OSError, zlib.error, tarfile.TarError) as error:
        way_out = ("delete it to have it downloaded again" if path == _cache_path(archive) else
                   "name another with data_file")
        raise ValueError(f"{path} is not a readable {archive.title} archive: {error}; {way_out}") from error
    return train, test


def _members(archive):
    return [*archive.train, archive.test, *filter(None, [archive.names])]


def _read_batches(archive, path):
    """{member's last name: unpickled content}, and the source in words."""
    wanted = set(_members(archive))
    if path.is_dir():
        folder = path / archive.folder if (path / archive.folder).is_dir() else path
        batches = {file.name: loads(file.read_bytes()) for file in folder.iterdir() if file.name in wanted}
        return batches, f"the folder {folder.name}"
    if path.stat().st_size == 0:
        raise ValueError("it is empty")
    batches, md5 = {}, file_digest(path, "md5")
    with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            if member.isfile() and name in wanted:
                if member.size > archive.largest:
                    raise ValueError(f"{name} has {member.size} bytes, more than any {archive.title} batch")
                batches[name] = loads(tar.extractfile(member).read())
        while unpacked.read(1 << 20):  # to the end, where gzip keeps its checksum
            pass
    official = "the official archive" if md5 == archive.md5 else "not the official archive"
    return batches, f"{path.name}, MD5 {md5}, {official}"


def _class_names(archive, batches):
    if not archive.names:
        return CIFAR10_CLASSES
    meta = batches[archive.names]
    names = meta.get("fine_label_names") if isinstance(meta, dict) else None
    if not isinstance(names, list) or len(names) != archive.classes or not all(type(name) is str for name in names):
        raise ValueError(f"{archive.names} has no list of {archive.classes} fine_label_names")
    return tuple(names)


def _image_set(archive, batches, names, source):
    images, labels = [], []
    for batch in batches:
        if not isinstance(batch, dict) or not {"data", archive.labels} <= set(batch):
            raise ValueError(f"a batch has no data and {archive.labels}")
        data, given = batch["data"], batch[archive.labels]
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
            raise ValueError("a batch's data is not uint8 [N, 3072]")
        if not isinstance(given, list) or len(given) != len(data):
            raise ValueError("a batch has not one label for each image")
        if not all(type(label) is int and 0 <= label < archive.classes for label in given):
            raise ValueError(f"a batch has a label outside the {archive.classes} classes")
        images.append(data.reshape(-1, 3, 32, 32))
        labels.extend(given)
    return ImageSet(np.concatenate(images), np.array(labels, np.int64), names, archive.name, source)


_DEMO = {"recipe": "short", "epochs": 2, "batch_size": 128}
DATASETS = {
    "cifar10": Dataset(lambda data_file: _load(CIFAR10, data_file), mirror=True, demo=_DEMO),
    "cifar100": Dataset(lambda data_file: _load(CIFAR100, data_file), mirror=True, demo=_DEMO),
}
