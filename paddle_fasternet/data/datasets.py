"""Image sets held in memory: CIFAR-10 from wherever it is, and an embedded set that needs no network.

CIFAR-10: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html. The archive's pickles are read without running anything in them.
"""
import dataclasses
import functools
import gzip
import hashlib
import os
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np

from .._check import check_choice, check_path
from .._files import download
from ..safe_pickle import loads

CIFAR10_URL = "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz"  # Paddle's own copy of the official archive
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-python.tar.gz"

_TRAIN_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
_LARGEST_BATCH = 64 << 20  # bytes; the official batches have 31 MB


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images in memory.

    Args:
        images: uint8 [N, C, H, W], C 1 or 3.
        labels: integers [N] in 0..K-1; kept as int64.
        class_names: the K names.
        name: of the data set, such as "cifar10".
        source: where it came from, in words.

    Raises:
        TypeError, ValueError: shapes, types or labels do not fit.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple
    name: str = "images"
    source: str = ""

    def __post_init__(self):
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if not np.iterable(self.class_names):
            raise TypeError(f"class_names={self.class_names!r} must be a list of names")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
            raise ValueError(f"images of shape {images.shape} and type {images.dtype} must be uint8 [N, C, H, W], "
                             "C 1 or 3, and not empty")
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(f"labels of shape {labels.shape} and type {labels.dtype} must be integers "
                             f"[{len(images)}], one for each image")
        outside = (labels < 0) | (labels >= len(self.class_names))
        if outside.any():
            raise ValueError(f"label {labels[outside][0]} of image {int(outside.argmax())} is outside the "
                             f"{len(self.class_names)} classes")
        for field, value in [("images", np.ascontiguousarray(images)), ("labels", labels.astype(np.int64)),
                             ("class_names", tuple(map(str, self.class_names)))]:
            object.__setattr__(self, field, value)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        """The set of the images that an array or a slice chooses."""
        if np.ndim(index) == 0 and not isinstance(index, slice):
            raise TypeError(f"an ImageSet is indexed by slices and arrays, not by {index!r}: one image is "
                            ".images[i], a set of one [i:i + 1]")
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


DATASETS = ("auto", "cifar10", "digits")


def load_dataset(name="auto", data_file=None):
    """Load a data set as ``(train, test)``, two ``ImageSet``.

    Args:
        name: "cifar10" raises where it cannot be had; "digits" is scikit-learn's handwritten digits (1,437 and 360
            images), drawn as 32 x 32 RGB, which needs no network; "auto" takes CIFAR-10 where it can be had and the
            digits otherwise, and says so in one line.
        data_file: an archive in the official Python layout (any name), or the folder it was unpacked into.

    CIFAR-10 is looked for in ``data_file``, ``$PADDLE_FASTERNET_DATA``, AI Studio's mount
    (``data/data*/cifar-10-python.tar.gz`` here or in the home folder) and Paddle's cache; then it is downloaded into
    that cache and its checksum verified.

    Raises:
        FileNotFoundError: the file named is not there.
        ConnectionError: CIFAR-10 is not on this machine and cannot be downloaded.
        ValueError: the name is unknown, or the archive is not what it should be.
    """
    check_choice("name", name, DATASETS)
    if name == "digits":
        if data_file is not None:
            raise ValueError(f"data_file={data_file!r} goes with name='cifar10' or 'auto'; the digits are embedded")
        return _digits()
    try:
        path = find_cifar10(data_file) or _download_cifar10()
    except ConnectionError as error:
        if name == "cifar10":
            raise
        print(f"CIFAR-10: {error}. Taking the embedded handwritten digits instead.", file=sys.stderr)
        return _digits()
    return read_cifar10(path)


def get_cifar10_labels(labels):
    """Names of CIFAR-10 labels: [3, 5] gives ["cat", "dog"]. Takes a list, an array or a tensor."""
    labels = np.asarray(labels).reshape(-1)
    if labels.size and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9):
        raise ValueError(f"labels={labels.tolist()} must be integers in 0..9")
    return [CIFAR10_CLASSES[i] for i in labels]


def find_cifar10(data_file):
    """The path of the archive on this machine, or None."""
    for origin, value in [("data_file", data_file),
                          ("$PADDLE_FASTERNET_DATA", os.environ.get("PADDLE_FASTERNET_DATA") or None)]:
        if value is not None:
            path = check_path(origin, value)
            if not path.exists():
                raise FileNotFoundError(f"{origin}={str(value)!r}: there is no such file")
            return path
    for folder in (Path.cwd(), Path(os.path.expanduser("~"))):
        mounted = sorted(folder.glob(f"data/data*/{ARCHIVE}"))
        if mounted:
            return mounted[0]
    return _cache_path() if _cache_path().exists() else None


def _cache_path():
    return Path(os.path.expanduser("~/.cache/paddle/dataset/cifar")) / ARCHIVE  # as paddle.vision.datasets.Cifar10


def _download_cifar10():
    """Download into Paddle's cache, whole and verified or not at all."""
    path = _cache_path()

    def check(part):
        md5 = _md5(part)
        if md5 != CIFAR10_MD5:
            raise ValueError(f"what {CIFAR10_URL} sent has MD5 {md5} instead of {CIFAR10_MD5}")

    try:
        download(CIFAR10_URL, path, check)
    except (ConnectionError, ValueError) as error:
        raise ConnectionError(f"{error}; put the archive at {path} by hand, or name it with data_file") from None
    return path


def _md5(path):
    digest = hashlib.md5()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_cifar10(path):
    """Read an archive (or its unpacked folder) in the official Python layout into ``(train, test)``.

    Raises:
        ValueError: it is empty, truncated, altered, or its pickles hold more than arrays, lists and texts.
    """
    path = check_path("path", path)
    try:
        batches, source = _read_batches(path)
        missing = [name for name in [*_TRAIN_BATCHES, "test_batch"] if name not in batches]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        train = _image_set([batches[name] for name in _TRAIN_BATCHES], source)
        test = _image_set([batches["test_batch"]], source)
    except (ValueError, KeyError, EOFError, OSError, zlib.error, tarfile.TarError) as error:
        way_out = "delete it to have it downloaded again" if path == _cache_path() else "name another with data_file"
        raise ValueError(f"{path} is not a readable CIFAR-10 archive: {error}; {way_out}") from error
    return train, test


def _read_batches(path):
    """{member's last name: unpickled content}, and the source in words."""
    wanted = {*_TRAIN_BATCHES, "test_batch"}
    if path.is_dir():
        folder = path / "cifar-10-batches-py" if (path / "cifar-10-batches-py").is_dir() else path
        batches = {file.name: loads(file.read_bytes()) for file in folder.iterdir() if file.name in wanted}
        return batches, f"the folder {folder.name}"
    if path.stat().st_size == 0:
        raise ValueError("it is empty")
    batches, md5 = {}, _md5(path)
    with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            if member.isfile() and name in wanted:
                if member.size > _LARGEST_BATCH:
                    raise ValueError(f"{name} has {member.size} bytes, more than any CIFAR-10 batch")
                batches[name] = loads(tar.extractfile(member).read())
        while unpacked.read(1 << 20):  # to the end, where gzip keeps its checksum
            pass
    official = "the official archive" if md5 == CIFAR10_MD5 else "not the official archive"
    return batches, f"{path.name}, MD5 {md5}, {official}"


def _image_set(batches, source):
    images, labels = [], []
    for batch in batches:
        if not isinstance(batch, dict) or not {"data", "labels"} <= set(batch):
            raise ValueError("a batch has no data and labels")
        data = batch["data"]
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
            raise ValueError("a batch's data is not uint8 [N, 3072]")
        if not isinstance(batch["labels"], list) or len(batch["labels"]) != len(data):
            raise ValueError("a batch has not one label for each image")
        if not all(type(label) is int and 0 <= label < 10 for label in batch["labels"]):
            raise ValueError("a batch has a label outside the 10 classes")
        images.append(data.reshape(-1, 3, 32, 32))
        labels.extend(batch["labels"])
    return ImageSet(np.concatenate(images), np.array(labels, np.int64), CIFAR10_CLASSES, "cifar10", source)


def _digits():
    """Scikit-learn's digits (UCI, 8 x 8, 0..16), enlarged smoothly, every fifth a test image after a fixed shuffle."""
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
