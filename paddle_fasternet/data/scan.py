"""Find picture files in folders and read their headers; nothing is decoded that looks whole."""
import os
import stat
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .depth import is_deep
from .images import read_picture

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic",
           ".heif")
_THREADS = 8  # headers wait for the disk more than for the processor
_ORIENTATION = 0x0112
# How OpenCV reads a file: not at all (Pillow does), at full scale, also at a half, a quarter and an eighth
SLOW, WHOLE, REDUCED = 0, 1, 2


def is_picture(name):
    """Whether a file's name is that of a picture which is not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS


def subfolders(folder):
    """(name in Unicode's composed form, path) of the folders in a folder that are not hidden, by the alphabet."""
    with os.scandir(folder) as entries:
        return sorted((unicodedata.normalize("NFC", entry.name), entry.path) for entry in entries
                      if not _hidden(entry.name) and _is_folder(entry))


def pictures(folder):
    """Paths of all pictures in a folder and below it, by the alphabet. Links are followed, but never in a circle."""
    parents = Path(os.path.abspath(folder)).parents
    return sorted(_walk(os.fspath(folder), tuple(map(_identity, parents))))


def _identity(folder):
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _walk(folder, above):
    identity = _identity(folder)
    if identity in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        return
    for entry in entries:
        if _is_folder(entry):
            if not _hidden(entry.name):
                yield from _walk(entry.path, (*above, identity))
        elif is_picture(entry.name):
            yield entry.path


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _hidden(name):
    return name.startswith(".") or name in ("__MACOSX", "@eaDir", "__pycache__")


def read_headers(paths, progress=True):
    """(heights, widths, kinds, problems): arrays int32, int32, uint8 [N], and {number: what is wrong with that file}.

    The sizes are those of the upright pictures. A file that seems to be cut off is decoded to make sure.
    """
    from PIL import Image
    headers, problems = np.zeros((3, len(paths)), np.int32), {}
    # Warnings are filtered here, because filters belong to the process and not to a thread
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS, "headers") as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        found = pool.map(_header, paths, chunksize=64)
        for number, header in enumerate(tqdm(found, total=len(paths), desc="reading headers", unit="img", delay=2,
                                             leave=False, disable=not progress)):
            if isinstance(header, str):
                problems[number] = header
            else:
                headers[:, number] = header
    return headers[0], headers[1], headers[2].astype(np.uint8), problems


def _header(path):
    """(height, width, kind) of a file, or what is wrong with it in a few words."""
    from PIL import Image, UnidentifiedImageError
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            return "no regular file"
        if not found.st_size:
            return "empty"
        with open(path, "rb") as file:
            with Image.open(file) as image:
                width, height = image.size
                if width * height > (Image.MAX_IMAGE_PIXELS or float("inf")):
                    return f"too large, {width} x {height} pixels"
                if "exif" in image.info and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
                    width, height = height, width
                kind = _kind(image)
                whole = _is_whole(file, image.format, found.st_size)
        if not whole:
            read_picture(path)
        return height, width, kind
    except UnidentifiedImageError:
        return "no picture that can be read"
    except FileNotFoundError:
        return "a link to nowhere" if os.path.islink(path) else "not there"
    except PermissionError:
        return "no permission"
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
            Image.DecompressionBombError) as error:
        return "cut off or damaged" if isinstance(error, ValueError) else str(error)[:60] or type(error).__name__


def _kind(image):
    moving = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"
    if image.mode not in ("RGB", "L") or is_deep(image) or image.has_transparency_data or moving:
        return SLOW
    return REDUCED if image.format in ("JPEG", "MPO") else WHOLE if image.format in ("PNG", "BMP") else SLOW


def _is_whole(file, kind, size):
    """Whether a file ends as its format does; False only says that a closer look is due."""
    file.seek(max(size - 64, 0))
    end = file.read(64)
    if kind in ("JPEG", "MPO"):
        return end.rstrip(b"\0\r\n ").endswith(b"\xff\xd9")
    if kind == "PNG":
        return b"IEND" in end
    file.seek(0)
    start = file.read(8)
    if kind == "WEBP":
        return int.from_bytes(start[4:], "little") + 8 <= size
    return kind == "BMP" and int.from_bytes(start[2:6], "little") <= size
