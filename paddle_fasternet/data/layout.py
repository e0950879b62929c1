"""From a folder, or a list of files, to sets of pictures: which classes there are, and which are the test's."""
import dataclasses
import difflib
import os
import sys
import unicodedata
from pathlib import Path

import numpy as np

from .._check import check_names, check_number, check_path
from .folder import CACHE_MB, Cache, ImageFolder
from .scan import is_picture, pictures, read_headers, subfolders

TESTS = ("val", "validation", "test")
LABEL_FILES = ("label_list.txt", "labels.txt", "classes.txt", "class_names.txt")
_EXPECTED = """expected is a subfolder for each class, full of pictures, such as
  {folder}/cat/1.jpg
  {folder}/dog/2.jpg
or {folder}/train/ and {folder}/val/ with such subfolders each"""


@dataclasses.dataclass
class Listing:
    """Files and labels before any file was opened."""

    root: str
    inside: str
    files: list
    labels: list
    class_names: tuple
    fixed: bool = False  # whether the caller gave the class names
    part: str = "whole"


def load_folder(folder, class_names=None, *, cache_mb=CACHE_MB, progress=True):
    """Read a folder of pictures as one set, an ``ImageFolder``.

    Args:
        folder: with a subfolder for each class, in which the pictures lie at any depth; or a text file with a line
            "path<TAB or space>label" for each picture, paths relative to it, labels numbers or names.
        class_names: the classes in their order, also such as have no picture here; for a list also the path of a file
            with a name in each line. None: the subfolders by the alphabet; for a list the names in a file
            ``label_list.txt``, ``labels.txt``, ``classes.txt`` beside it, or what the list has.
        cache_mb: decoded pictures are kept in memory up to so many megabytes, which speeds up further epochs.
        progress: show a bar while the headers are read, if that takes some seconds.

    JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF (upper-case endings, too), turned as EXIF says. Hidden folders and files that
    are no pictures are passed over; pictures that cannot be read are left out and named in one line, and so are classes
    without a picture.

    Raises:
        FileNotFoundError: there is no such folder or list.
        ValueError: it has no class with pictures, or classes that are not in ``class_names``.
    """
    return build([list_pictures(check_path("folder", folder), "", class_names)], cache_mb, progress)[0]


def read_folder_pair(path, label_file, share, seed):
    """``load_dataset`` of a folder or a list: (train, test)."""
    if not path.exists():
        raise FileNotFoundError(f"name={str(path)!r}: there is no such folder, and no data set of that name")
    if path.is_dir() and label_file is not None:
        raise ValueError(f"data_file={label_file!r} goes with the name of a data set or a list of pictures, not with "
                         f"the folder {str(path)!r}")
    train, test = find_parts(path)
    listings = [list_pictures(path, train, label_file)]
    if test is None:
        train = build(listings)[0]
        _check_classes(train)
        return split(train, share, seed)
    names = listings[0].class_names
    listings.append(list_pictures(path, test, names))
    train, test = build(listings)
    _check_classes(train)
    if train.class_names != test.class_names:  # a class of training lost its last picture
        raise ValueError(f"{path}: the classes of training and test differ")
    return train, test


def load_known(folder, class_names, parts):
    """Sets for a network that knows ``class_names``, from pictures that it was not trained on.

    ``parts`` names "train", "val" or both. Of a folder that is not split each is all of it.
    """
    path = check_path("data", folder)
    if not path.exists():
        raise FileNotFoundError(f"data={str(folder)!r}: there is no such folder, and no data set of that name")
    train, test = find_parts(path)
    inside = {"train": train, "val": train if test is None else test}
    return build([list_pictures(path, inside[part], class_names) for part in parts])


def find_parts(path):
    """(part of ``path`` to train on, part to test on or None where it is not split); "" is ``path`` itself."""
    if path.is_file():
        for test in TESTS:
            other = path.with_name(path.name.replace("train", test))
            if "train" in path.name and other.is_file():
                return "", f"../{other.name}"
        return "", None
    inside = {name.lower(): name for name, _ in subfolders(path)}
    lists = {name.lower(): name for name in os.listdir(path) if name.lower().endswith("_list.txt")}
    for found, ending in ((lists, "_list.txt"), (inside, "")):
        tests = [found[test + ending] for test in TESTS if test + ending in found]
        if f"train{ending}" in found and tests:
            return found[f"train{ending}"], tests[0]
    if set(inside) == {"train"} and subfolders(path / inside["train"]):
        return inside["train"], None
    return "", None


def split(images, share, seed):
    """Divide an ``ImageFolder`` into (train, test) by class: ``share`` of each is the test's, but never all of it."""
    rng = np.random.default_rng(seed)
    test = np.zeros(len(images), bool)
    for label in range(len(images.class_names)):
        members = np.flatnonzero(images.labels == label)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        test[rng.permutation(members)[:max(count, 0)]] = True
    if not test.any():
        raise ValueError(f"{images.root}: with one picture in each class nothing is left to test on")
    source = f"{images.source}, {share:.0%} of each class for testing, seed {seed}"
    return tuple(dataclasses.replace(images[chosen], part=part, source=source)
                 for chosen, part in ((~test, "rest"), (test, "listed")))


def list_pictures(path, inside, class_names):
    """The ``Listing`` of a folder or a list."""
    if not path.exists():
        raise FileNotFoundError(f"folder={str(path)!r}: there is no such folder")
    whole = path.parent / inside[3:] if inside.startswith("../") else path / inside if inside else path
    if class_names is not None and isinstance(class_names, (str, os.PathLike)):
        class_names = _read_labels(check_path("class_names", class_names))
    if class_names is not None:
        class_names = tuple(unicodedata.normalize("NFC", name) for name in check_names("class_names", class_names))
        if len(set(class_names)) < len(class_names):
            raise ValueError(f"class_names={class_names} has a name twice")
    if whole.is_file():
        return _list_file(path, inside, whole, class_names)
    return _list_folder(path, inside, whole, class_names)


def _list_folder(path, inside, whole, class_names):
    folder, found = whole, subfolders(whole)
    beside = _pictures_beside(folder)
    while len(found) == 1 and not beside:  # an archive's folder within the folder it was unpacked into
        deeper = Path(found[0][1])
        if _pictures_beside(deeper) or not subfolders(deeper):
            break
        folder, found = deeper, subfolders(deeper)
        beside = _pictures_beside(folder)
    classes = {}
    for name, subfolder in found:
        classes.setdefault(name, []).extend(pictures(subfolder))
    if class_names is None and not any(classes.values()):
        what = f"its {len(beside)} pictures lie in no class" if beside else "there are no pictures in its subfolders"
        raise ValueError(f"folder={str(whole)!r}: {what}; " + _EXPECTED.format(folder=whole.name or whole))
    names = tuple(classes) if class_names is None else class_names
    _check_known(whole, [name for name in classes if classes[name]], names)
    if beside:
        _say(whole, f"{len(beside)} pictures lie beside the folders of the classes and are left out", beside)
    files = [file for name in names for file in classes.get(name, ())]
    labels = [label for label, name in enumerate(names) for _ in classes.get(name, ())]
    return Listing(str(path), inside, files, labels, names, class_names is not None)


def _pictures_beside(folder):
    return [name for name in sorted(os.listdir(folder)) if is_picture(name)]


def _list_file(path, inside, whole, class_names):
    """Lines "path<TAB or space>label"."""
    pairs = []
    for number, line in enumerate(_lines(whole), 1):
        pair = line.split("\t") if "\t" in line else line.rsplit(None, 1)
        if len(pair) != 2 or not pair[1].strip():
            raise ValueError(f"{whole}: line {number}, {line[:80]!r}, is not a path and a label")
        pairs.append((os.path.join(whole.parent, pair[0].strip().replace("\\", "/")), pair[1].strip()))
    if not pairs:
        raise ValueError(f"{whole} has no lines 'path<TAB or space>label'")
    if class_names is None:
        beside = next((whole.parent / name for name in LABEL_FILES if (whole.parent / name).is_file()), None)
        class_names = None if beside is None else tuple(_read_labels(beside))
    fixed = class_names is not None
    if all(label.isdecimal() for _, label in pairs):
        labels = [int(label) for _, label in pairs]
        names = class_names if fixed else tuple(map(str, range(max(labels) + 1)))
        if max(labels) >= len(names):
            raise ValueError(f"{whole} has the label {max(labels)}, but there are {len(names)} class names")
        return Listing(str(path), inside, [file for file, _ in pairs], labels, names, True)
    names = class_names if fixed else tuple(sorted({label for _, label in pairs}))
    _check_known(whole, list(dict.fromkeys(label for _, label in pairs)), names)
    return Listing(str(path), inside, [file for file, _ in pairs], [names.index(label) for _, label in pairs], names,
                    fixed)


def _lines(path):
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None
    return [line for line in text.splitlines() if line.strip()]


def _read_labels(path):
    """Names of classes, one a line, also as PaddleClas has them with their number before."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of class names")
    lines = [line.strip() for line in _lines(path)]
    numbered = [line.split(None, 1) for line in lines]
    if all(pair[0] == str(i) and len(pair) == 2 for i, pair in enumerate(numbered)):
        return [pair[1] for pair in numbered]
    return lines


def _check_known(path, found, names):
    unknown = [name for name in found if name not in set(names)]
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        others = f" and {len(unknown) - 1} more" if unknown[1:] else ""
        raise ValueError(f"{path} has the class {unknown[0]!r}{others}, which is not among the {len(names)} class names"
                         + (f"; did you mean {near[0]!r}?" if near else f": {', '.join(names[:10])}"))


def _check_classes(images):
    if len(images.class_names) < 2:
        raise ValueError(f"{images.root}: there is only one class, {images.class_names[0]!r}, and nothing to tell it "
                         "from; " + _EXPECTED.format(folder=Path(images.root).name))


def build(listings, cache_mb=CACHE_MB, progress=True):
    """Make each listing an ``ImageFolder``: headers are read once, the cache is one, a finding is one line."""
    cache = Cache(check_number("cache_mb", cache_mb, low=0))
    root, files = listings[0].root, [file for listing in listings for file in listing.files]
    heights, widths, kinds, problems = read_headers(files, progress)
    if problems:
        _say(root, f"{len(problems)} of {len(files):,} pictures cannot be read and are left out",
             [f"{os.path.relpath(files[i], root if os.path.isdir(root) else os.path.dirname(root))} ({problem})"
              for i, problem in problems.items()])
    good = np.ones(len(files), bool)
    good[list(problems)] = False
    sets, start = [], 0
    names = _names_in_use(listings[0], good[:len(listings[0].files)])
    for listing in listings:
        part = slice(start, start + len(listing.files))
        start = part.stop
        kept = good[part]
        if not kept.any():
            where = Path(listing.root, listing.inside)
            raise ValueError(f"{where} has no picture that can be read" if len(kept) else f"{where} has no pictures")
        labels = np.array([names.index(listing.class_names[label]) for label in listing.labels], np.int64) \
            if names != listing.class_names else np.array(listing.labels, np.int64)
        path = Path(listing.root)
        sets.append(ImageFolder(
            np.array(listing.files, object)[kept], labels[kept], names,
            np.stack([heights[part], widths[part]], axis=1)[kept], kinds[part][kept],
            path.resolve().name if path.is_dir() else path.stem, f"the {'folder' if path.is_dir() else 'list'} {path}",
            listing.root, listing.inside, listing.part, cache))
    return sets


def _names_in_use(listing, good):
    """The class names without those that have no picture, unless the caller chose them."""
    names = listing.class_names
    if listing.fixed:
        return names
    used = set(np.array(listing.labels)[good].tolist())
    empty = [name for label, name in enumerate(names) if label not in used]
    if empty and used:
        _say(listing.root, f"{len(empty)} classes have no picture and are left out", empty)
        names = tuple(name for name in names if name not in set(empty))
    small = {}
    for name in names:
        small.setdefault(name.casefold(), []).append(name)
    twins = [" and ".join(same) for same in small.values() if len(same) > 1]
    if twins:
        _say(listing.root, "classes that differ only in capital letters count as different ones", twins)
    return names


def _say(path, what, examples):
    """One line on stderr, with at most five examples."""
    shown = ", ".join(map(str, examples[:5])) + (f" and {len(examples) - 5} more" if len(examples) > 5 else "")
    print(f"{path}: {what}: {shown}", file=sys.stderr)
