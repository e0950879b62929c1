"""Pictures with boxes out of folders in Pascal VOC or COCO layout; every mistake in them is an error with its file."""
import dataclasses
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Tuple

import numpy as np

from .._check import check_choice, check_number, check_path
from ..data.images import read_picture

PARTS = {"train": ("train",), "val": ("val", "valid", "validation", "test")}
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".JPG", ".JPEG", ".PNG")
_EDGE = 1.0  # pixels by which a box may leave its picture: Pascal VOC counts from 1, others from 0


@dataclasses.dataclass(frozen=True, eq=False)
class BoxSet:
    """Pictures with boxes.

    Attributes:
        files: paths of the pictures.
        boxes: for each picture float32 [n, 4]: x0, y0, x1, y1 in its pixels; n may be 0.
        labels: for each picture int64 [n].
        ignored: for each picture bool [n]: difficult objects and crowds, which evaluation does not count.
        sizes: (width, height) of each picture.
        class_names: names of the labels.
        notes: what was left out, in sentences.
    """

    files: Tuple[Path, ...]
    boxes: Tuple[np.ndarray, ...]
    labels: Tuple[np.ndarray, ...]
    ignored: Tuple[np.ndarray, ...]
    sizes: Tuple[Tuple[int, int], ...]
    class_names: Tuple[str, ...]
    notes: Tuple[str, ...] = ()

    def __len__(self):
        return len(self.files)

    def __getitem__(self, chosen):
        """A smaller set: ``boxes[:10]``, or by a list of indices."""
        indices = range(len(self))[chosen] if isinstance(chosen, slice) else chosen
        parts = {name: tuple(getattr(self, name)[i] for i in indices)
                 for name in ("files", "boxes", "labels", "ignored", "sizes")}
        return dataclasses.replace(self, **parts)

    def __repr__(self):
        counts = np.bincount(np.concatenate(self.labels) if len(self) else [], minlength=len(self.class_names))
        objects = ", ".join(f"{count:,} {name}" for name, count in zip(self.class_names, counts))
        return f"BoxSet({len(self):,} pictures; {objects})"

    def picture(self, index):
        """The picture, uint8 [H, W, 3], upright.

        Raises:
            ValueError: the file is damaged.
        """
        return read_picture(self.files[index])


def load_boxes(folder, *, class_names=None, val=0.2, seed=0):
    """Read a folder with pictures and boxes.

    Pascal VOC: ``images/`` (or JPEGImages), ``annotations/`` (or Annotations) and ``train.txt``, ``val.txt`` (there or
    in ImageSets/Main) with a name on each line; without the lists, a part of the pictures is drawn for validation.
    COCO: ``annotations/*train*.json`` and ``*val*.json`` beside ``train2017/``, ``train/`` or ``images/``, or a
    ``_annotations.coco.json`` within ``train/`` and ``valid/``.

    Args:
        folder: the folder.
        class_names: classes in the order of their labels; None takes ``labels.txt`` or ``label_list.txt`` where there
            is one, otherwise the names in the training pictures by the alphabet (VOC) or the file's order (COCO).
        val: share of the pictures for validation where there are no lists.
        seed: of that draw.

    Returns:
        (train, val), each a ``BoxSet``.

    Raises:
        ValueError: a file is broken, a class is unknown, a box lies outside its picture; the message names the file.
        FileNotFoundError: a picture, an annotation or the whole folder is missing.
    """
    folder = check_path("folder", folder)
    val = check_number("val", val, low=0.01, high=0.99)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder={str(folder)!r} is not there")
    if class_names is None:
        lists = [folder / name for name in ("labels.txt", "label_list.txt") if (folder / name).is_file()]
        class_names = lists[0].read_text(encoding="utf-8").split("\n") if lists else None
    if class_names is not None:
        class_names = tuple(name.strip() for name in class_names if name.strip())
    annotations = {part: _coco_file(folder, part) for part in PARTS}
    if annotations["train"]:
        train = _read_coco(folder, annotations["train"], "train", class_names)
        if annotations["val"] is None:
            return _split(train, val, seed)
        return train, _read_coco(folder, annotations["val"], "val", train.class_names)
    return _read_voc(folder, class_names, val, seed)


def _split(whole, val, seed):
    order = np.random.default_rng(seed).permutation(len(whole)).tolist()
    count = max(round(val * len(whole)), 1)
    if count >= len(whole):
        raise ValueError(f"{len(whole)} pictures are too few to be split into training and validation")
    return whole[sorted(order[count:])], whole[sorted(order[:count])]


# Pascal VOC

def _read_voc(folder, class_names, val, seed):
    pictures, annotations = _subfolder(folder, "images", "JPEGImages"), _subfolder(folder, "annotations", "Annotations")
    names = {part: _voc_list(folder, part) for part in PARTS}
    if names["train"] is None:
        stems = sorted(path.stem for path in annotations.glob("*.xml"))
        read = _read_voc_part(pictures, annotations, stems, class_names)
        return _split(read, val, seed)
    if names["val"] is None:
        raise FileNotFoundError(f"{folder} has a train.txt but no val.txt; without both, pictures are drawn for "
                                "validation")
    train = _read_voc_part(pictures, annotations, names["train"], class_names)
    return train, _read_voc_part(pictures, annotations, names["val"], train.class_names)


def _subfolder(folder, *names):
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise FileNotFoundError(f"{folder} is in neither layout: Pascal VOC has {' or '.join(names)}/, COCO has "
                            "annotations/*train*.json or train/_annotations.coco.json")


def _voc_list(folder, part):
    """The names on the lines of a list; of two columns, picture and annotation, the first. None: there is no list."""
    for name in PARTS[part]:
        for path in (folder / f"{name}.txt", folder / "ImageSets" / "Main" / f"{name}.txt"):
            if path.is_file():
                lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
                first = [line[0].replace("\\", "/").rsplit("/", 1)[-1] for line in lines]
                return [name[:-len(Path(name).suffix)] if Path(name).suffix in PICTURES else name for name in first]
    return None


def _read_voc_part(pictures, annotations, stems, class_names):
    if not stems:
        raise ValueError(f"{annotations}: there is no annotation, or the list of pictures is empty")
    found = [_read_xml(annotations / f"{stem}.xml") for stem in stems]
    if class_names is None:
        class_names = tuple(sorted({name for _, objects in found for name, _, _ in objects}))
        if not class_names:
            raise ValueError(f"{annotations}: no annotation has an object")
    entries, notes = [], []
    for stem, (file, objects) in zip(stems, found):
        picture = _find_picture(pictures, stem, file)
        entries.append(_entry(picture, annotations / f"{stem}.xml", objects, class_names, notes))
    return _box_set(entries, class_names, notes)


def _find_picture(folder, stem, file):
    for path in [folder / f"{stem}{suffix}" for suffix in PICTURES] + ([folder / Path(file).name] if file else []):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder / stem}.jpg: there is no such picture, though an annotation and a list name it")


def _read_xml(path):
    """(name of the picture, [(class, box, ignored), ...]) of an annotation."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such annotation, though a list names it")
    content = path.read_bytes()
    # Entities can expand to gigabytes; annotations need none. UTF-16 would hide the word from the search.
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", content, re.IGNORECASE) or b"\0" in content:
        raise ValueError(f"{path} has a document type or zero bytes, which no annotation needs; it is not read")
    try:
        root = ElementTree.fromstring(content)
        objects = [(_text(each, "name"), [float(_text(each, f"bndbox/{edge}")) for edge in
                                          ("xmin", "ymin", "xmax", "ymax")],
                    (each.findtext("difficult") or "0").strip() == "1") for each in root.iter("object")]
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path} is not an annotation that can be read: {error}") from None
    return (root.findtext("filename") or "").strip(), objects


def _text(element, path):
    text = element.findtext(path)
    if text is None or not text.strip():
        raise ValueError(f"an object has no {path}")
    return text.strip()


# COCO

def _coco_file(folder, part):
    for name in PARTS[part]:
        inner = folder / name / "_annotations.coco.json"
        found = [inner] if inner.is_file() else sorted((folder / "annotations").glob(f"*{name}*.json"))
        boxes = [path for path in found if not re.search("keypoints|captions|panoptic", path.name)]
        if boxes:
            return boxes[0]
    return None


def _read_coco(folder, path, part, class_names):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        categories = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        images = {int(each["id"]): str(each["file_name"]) for each in content["images"]}
        objects = {image: [] for image in images}
        for each in content.get("annotations", []):
            x, y, width, height = (float(value) for value in each["bbox"])
            if int(each["image_id"]) not in images:
                raise ValueError(f"annotation {each.get('id')} is of picture {each['image_id']}, which is not listed")
            if int(each["category_id"]) not in categories:
                raise ValueError(f"annotation {each.get('id')} is of the unknown class {each['category_id']}")
            objects[int(each["image_id"])].append((categories[int(each["category_id"])],
                                                   [x, y, x + width, y + height], bool(each.get("iscrowd", 0))))
    except (ValueError, KeyError, TypeError) as error:
        kind = f"{type(error).__name__}: " if not isinstance(error, ValueError) else ""
        raise ValueError(f"{path} is not an annotation file that can be read: {kind}{error}") from None
    if not images:
        raise ValueError(f"{path} lists no picture")
    if class_names is None:
        used = {name for found in objects.values() for name, _, _ in found}
        class_names = tuple(name for _, name in sorted(categories.items()) if name in used)
        if not class_names:
            raise ValueError(f"{path}: no picture has an object")
    folders = [path.parent, *(folder / pattern.format(name) for name in PARTS[part]
                              for pattern in ("{}2017", "{}", "images/{}", "images/{}2017")), folder / "images", folder]
    entries, notes = [], []
    for image, name in images.items():
        tried = [candidate / name for candidate in folders if (candidate / name).is_file()]
        if not tried:
            raise FileNotFoundError(f"{name}: there is no such picture in {folder}, though {path.name} lists it")
        entries.append(_entry(tried[0], path, objects[image], class_names, notes))
    return _box_set(entries, class_names, notes)


# Both

def _entry(picture, annotation, objects, class_names, notes):
    """(picture, boxes, labels, ignored, size), checked."""
    width, height = _size(picture)
    where = str(annotation) if annotation.suffix == ".xml" else f"{annotation}, picture {picture.name}"
    kept = []
    for name, (x0, y0, x1, y1), ignored in objects:
        box = f"box [{x0:g}, {y0:g}, {x1:g}, {y1:g}] of {name!r}"
        check_class(where, name, class_names)
        if not np.isfinite([x0, y0, x1, y1]).all() or x1 < x0 or y1 < y0:
            raise ValueError(f"{where}: {box} has its corners in the wrong order; it must be x0 < x1 and y0 < y1")
        if min(x0, y0) < -_EDGE or x1 > width + _EDGE or y1 > height + _EDGE:
            raise ValueError(f"{where}: {box} lies outside its picture of {width} x {height} pixels")
        if x1 - x0 < 1 or y1 - y0 < 1:
            notes.append(f"{where}: {box} has no area and is left out")
            continue
        kept.append(([max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)], class_names.index(name), ignored))
    boxes, labels, flags = zip(*kept) if kept else ((), (), ())
    return (picture, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64),
            np.array(flags, bool), (width, height))


def check_class(where, name, class_names):
    """Raise ValueError, which names the file, unless the class is known."""
    try:
        check_choice("class", name, class_names)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _size(path):
    """(width, height) of a picture as ``read_picture`` gives it: upright."""
    from PIL import Image
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from None


def _box_set(entries, class_names, notes):
    files, boxes, labels, ignored, sizes = zip(*entries)
    return BoxSet(files, boxes, labels, ignored, sizes, tuple(class_names), tuple(notes))
