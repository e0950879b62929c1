"""Sets of picture files, which are decoded when they are needed."""
import dataclasses
import os
import sys
import threading
from pathlib import Path

import cv2
import numpy as np

from .augment import interpolation
from .draws import crop_boxes
from .images import read_picture
from .imageset import Images
from .scan import REDUCED, SLOW

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CACHE_MB = 1024
_TRIES = 10  # neighbours that may stand in for a picture before the disk is thought to be gone


class Cache:
    """Decoded pictures up to a bound; what is in it stays, because a random order gives no picture precedence.

    Copies (pickled, deep, in another process) begin empty.
    """

    def __init__(self, megabytes):
        self.megabytes, self.used, self.pictures, self.named = megabytes, 0, {}, set()
        self._lock = threading.Lock()

    def __reduce__(self):
        return Cache, (self.megabytes,)

    def __deepcopy__(self, memo):
        return Cache(self.megabytes)

    def keep(self, key, picture):
        """Keep a picture if there is room; never waits, so that a forked process cannot hang on the lock."""
        if self.used + picture.nbytes <= self.megabytes * 2**20 and self._lock.acquire(blocking=False):
            try:
                if key not in self.pictures and self.used + picture.nbytes <= self.megabytes * 2**20:
                    self.pictures[key] = picture
                    self.used += picture.nbytes
            finally:
                self._lock.release()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ImageFolder(Images):
    """Labelled picture files of any size, decoded when they are needed; ``load_folder`` makes one.

    It has what an ``ImageSet`` has but ``images``: ``len``, slices and arrays, ``labels``, ``class_names``, ``mean``,
    ``std``, ``name``, ``source``; ``folder[i]`` is (the full upright picture uint8 [3, H, W], label). Grey pictures
    become RGB, transparent ones lie on white.

    Attributes:
        files: paths of the pictures, an array of N texts.
        labels: int64 [N].
        class_names: the K names.
        sizes: int32 [N, 2], heights and widths of the upright pictures.
        name, source: of the data set, and where it lies in words.
        root, inside: the folder or list that a run records, and the subfolder of it that this set is.
        part: "whole"; "listed" or "rest" where a split chose the files of ``root``.
        mean, std: ImageNet's, in 0..255: they fit photographs, and do not change with the pictures.

    A picture that turns out damaged while training is named once, and the next one of its class stands in for it:
    always the same one, so that a run can be made again.
    """

    files: np.ndarray
    labels: np.ndarray
    class_names: tuple
    sizes: np.ndarray
    kinds: np.ndarray
    name: str
    source: str
    root: str
    inside: str = ""
    part: str = "whole"
    cache: Cache = dataclasses.field(default_factory=lambda: Cache(CACHE_MB))
    mean: tuple = IMAGENET_MEAN
    std: tuple = IMAGENET_STD

    crops, channels = True, 3

    def __repr__(self):
        return (f"ImageFolder({self.name!r}, {len(self):,} pictures, {len(self.class_names)} classes, "
                f"{os.path.join(self.root, self.inside)!r})")

    @property
    def names(self):
        """The files relative to the folder, or to that of the list, with "/": what a run records. A list."""
        folder = self.base
        return [Path(os.path.relpath(file, folder)).as_posix() for file in self.files]

    @property
    def base(self):
        """The folder that ``names`` are relative to."""
        return base_of(self.root, self.inside)

    def record(self):
        """{"folder", "inside"} and, where a split or an index chose them, the "files" or that they are the "rest"."""
        found = {"folder": os.path.abspath(self.root), "inside": self.inside, "part": self.part}
        return {**found, "files": self.names} if self.part == "listed" else found

    def pixels(self, index, size=None, crop=0.0, rng=None):
        """Decode some pictures as uint8 [n, 3, size, size].

        Args:
            index: array of their numbers, or a slice.
            size: side of the squares in pixels.
            crop: 0 takes the central squares; otherwise random crops of the full pictures, of at least this share of
                their areas and with aspect ratios 3/4 to 4/3.
            rng: ``numpy.random.Generator`` of the crops.

        A JPEG file is decoded at a half, a quarter or an eighth of its scale where that is not below ``size``.
        """
        if size is None:
            raise ValueError("pictures in a folder have many sizes: give an image_size (Augment(..., image_size=224))")
        chosen = np.arange(len(self))[index]
        heights, widths = self.sizes[chosen].T
        if crop:
            boxes = crop_boxes(len(chosen), heights, widths, crop, rng)
        else:
            side = np.minimum(heights, widths)
            boxes = np.stack([(heights - side) // 2, (widths - side) // 2, side, side], axis=1).tolist()
        out = np.empty((len(chosen), 3, size, size), np.uint8)
        for target, number, box in zip(out, chosen.tolist(), boxes):
            target[:] = self._square(number, box, size, keep_square=not crop).transpose(2, 0, 1)
        return out

    def _square(self, number, box, size, keep_square):
        """A box (top, left, height, width) of a picture, resized to RGB [size, size, 3]."""
        key = (self.files[number], size, "square")
        if keep_square and key in self.cache.pictures:
            return self.cache.pictures[key]
        scale = 1
        if self.kinds[number] == REDUCED:
            scale = next(scale for scale in (8, 4, 2, 1) if scale == 1 or min(box[2:]) >= scale * size)
        picture = self._decode(number, scale, keep=not keep_square)
        # at a reduced scale, or for the picture that stands in, the box lies elsewhere
        tall, wide = picture.shape[0] / self.sizes[number, 0], picture.shape[1] / self.sizes[number, 1]
        top, left = int(box[0] * tall), int(box[1] * wide)
        height, width = max(round(box[2] * tall), 1), max(round(box[3] * wide), 1)
        part = picture[top:top + height, left:left + width]
        square = cv2.resize(part, (size, size), interpolation=interpolation(*part.shape[:2], size))
        square = cv2.cvtColor(square, cv2.COLOR_BGR2RGB)
        if keep_square:
            self.cache.keep(key, square)
        return square

    def _decode(self, number, scale, keep):
        """The upright picture as BGR, uint8 [H, W, 3], or the next one of its class where it is damaged."""
        key = (self.files[number], scale)
        if key in self.cache.pictures:
            return self.cache.pictures[key]
        picture, problem = _read(self.files[number], self.kinds[number], scale)
        if problem:
            picture = self._stand_in(number, scale, problem)
        if keep:
            self.cache.keep(key, picture)
        return picture

    def _stand_in(self, number, scale, problem):
        if number not in self.cache.named:
            self.cache.named.add(number)
            print(f"{self.files[number]} cannot be read ({problem}); another picture of "
                  f"{self.class_names[self.labels[number]]!r} stands in for it", file=sys.stderr)
        same = np.flatnonzero(self.labels == self.labels[number])
        same = np.roll(same, -int(np.searchsorted(same, number)) - 1)[:_TRIES]
        for other in same[same != number].tolist():
            picture, problem = _read(self.files[other], self.kinds[other], scale)
            if not problem:
                return picture
        raise OSError(f"{self.files[number]} and its neighbours cannot be read ({problem}); is the disk still there?")

    def _picture(self, number):
        return np.ascontiguousarray(self._decode(number, 1, keep=False)[..., ::-1].transpose(2, 0, 1))

    def _subset(self, index):
        chosen = np.arange(len(self))[index]
        if not len(chosen):
            raise ValueError(f"the index chooses none of the {len(self)} pictures of {self.name}")
        return dataclasses.replace(self, files=self.files[chosen], labels=self.labels[chosen],
                                   sizes=self.sizes[chosen], kinds=self.kinds[chosen],
                                   part="rest" if self.part == "rest" else "listed")


def base_of(root, inside):
    """The folder that the recorded names of files are relative to: ``inside`` of ``root``, or that of a list."""
    path = Path(root).parent / inside[3:] if inside.startswith("../") else Path(root, inside)
    return path.parent if path.suffix.lower() == ".txt" and not path.is_dir() else path


_FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
          8: cv2.IMREAD_REDUCED_COLOR_8}


def _read(path, kind, scale):
    """(BGR uint8 [H, W, 3], "") of a file; (None, what is wrong with it) where it cannot be read."""
    try:
        if kind != SLOW:
            content = np.fromfile(path, np.uint8)  # OpenCV's own reading fails on some names on Windows
            picture = cv2.imdecode(content, _FLAGS[scale]) if len(content) else None
            if picture is not None:
                return picture, ""
        return cv2.cvtColor(read_picture(path), cv2.COLOR_RGB2BGR), ""  # also of what OpenCV does not understand
    except (OSError, ValueError, cv2.error) as error:
        return None, str(error).rpartition(": ")[2] or type(error).__name__
