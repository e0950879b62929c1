"""Average precision by pycocotools, and which boxes of a picture are found, missed or false."""
import contextlib
import dataclasses
import io

import numpy as np

from ._ppdet import ppdet  # noqa: F401 -- says what to install where pycocotools is missing


@dataclasses.dataclass(frozen=True)
class Score:
    """Average precision of a detector on a set, as COCO counts it; printed, it is a table.

    Attributes:
        ap: mean over classes and over overlaps 0.50, 0.55, ... 0.95.
        ap50, ap75: at an overlap of 0.5, of 0.75.
        classes: {name: {"ap", "ap50", "objects"}}; the first two are None where the set has no object of the class.
    """

    ap: float
    ap50: float
    ap75: float
    classes: dict

    def __str__(self):
        lines = [f"AP50 {self.ap50:.3f}   AP {self.ap:.3f}   AP75 {self.ap75:.3f}"]
        width = max(map(len, self.classes))
        for name, found in self.classes.items():
            values = "no object" if found["ap"] is None else f"AP50 {found['ap50']:.3f}   AP {found['ap']:.3f}"
            lines.append(f"  {name:{width}}  {values}   ({found['objects']:,})")
        return "\n".join(lines)


def score(truth, predictions):
    """Hold predictions against a ``BoxSet``.

    Args:
        truth: the set.
        predictions: for each of its pictures an array [n, 6]: label, score, x0, y0, x1, y1 in the picture's pixels.

    Returns:
        ``Score``.

    Raises:
        ValueError: the numbers of pictures differ, or the set has no object.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    if len(predictions) != len(truth):
        raise ValueError(f"predictions of {len(predictions)} pictures for a set of {len(truth)}")
    if not any((~ignored).any() for ignored in truth.ignored):
        raise ValueError("the set has no object, so there is no average precision")
    annotations = [{"image_id": image, "category_id": int(label), "bbox": _xywh(box), "area": _area(box),
                    "iscrowd": int(ignored)}
                   for image in range(len(truth)) for box, label, ignored in zip(
                       truth.boxes[image], truth.labels[image], truth.ignored[image])]
    found = [{"image_id": image, "category_id": int(row[0]), "score": float(row[1]), "bbox": _xywh(row[2:]),
              "area": _area(row[2:]), "iscrowd": 0, "id": number} for number, (image, row) in enumerate(
                  ((image, row) for image, rows in enumerate(predictions) for row in rows), 1)]
    images = [{"id": image, "width": width, "height": height} for image, (width, height) in enumerate(truth.sizes)]
    categories = [{"id": label, "name": name} for label, name in enumerate(truth.class_names)]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        sets = []
        for content in ([{**each, "id": number} for number, each in enumerate(annotations, 1)], found):
            sets.append(COCO())
            sets[-1].dataset = {"images": images, "categories": categories, "annotations": content}
            sets[-1].createIndex()
        measured = COCOeval(*sets, iouType="bbox")
        measured.evaluate()
        measured.accumulate()
    precision = measured.eval["precision"][:, :, :, 0, -1]  # [overlap, recall, class], of all sizes, 100 boxes
    classes = {}
    for label, name in enumerate(truth.class_names):
        objects = sum(int(((labels == label) & ~ignored).sum()) for labels, ignored in zip(truth.labels, truth.ignored))
        classes[name] = {"ap": _mean(precision[:, :, label]), "ap50": _mean(precision[0, :, label]), "objects": objects}
    return Score(*(_mean(part) for part in (precision, precision[0], precision[5])), classes)


def _mean(precision):
    """The mean of what is counted: pycocotools has -1 where there is no object."""
    counted = precision[precision > -1]
    return float(counted.mean()) if counted.size else None


def _xywh(box):
    x0, y0, x1, y1 = (float(value) for value in box)
    return [x0, y0, x1 - x0, y1 - y0]


def _area(box):
    return float((box[2] - box[0]) * (box[3] - box[1]))


def overlaps(first, second):
    """Intersection over union of boxes [n, 4] and [m, 4]: [n, m]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)


def match(truth_boxes, truth_labels, rows, overlap=0.5):
    """Which boxes are found: the best-scored prediction takes the object that it overlaps most, once.

    Args:
        truth_boxes, truth_labels: [n, 4], [n].
        rows: [m, 6]: label, score, x0, y0, x1, y1.

    Returns:
        (found, right): bool [n], objects that a prediction has; bool [m], predictions that have an object.
    """
    found, right = np.zeros(len(truth_boxes), bool), np.zeros(len(rows), bool)
    shared = overlaps(rows[:, 2:], truth_boxes)
    for row in np.argsort(-rows[:, 1], kind="stable"):
        free = np.where(~found & (truth_labels == rows[row, 0]), shared[row], 0)
        if free.size and free.max() >= overlap:
            found[free.argmax()] = right[row] = True
    return found, right
