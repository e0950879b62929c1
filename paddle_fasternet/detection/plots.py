"""Figures of detection: pictures with boxes, curves of a training."""
from pathlib import Path

import numpy as np

from .._files import replacing
from ..data.images import read_picture
from ..plots.fonts import fit_fonts
from ..plots.style import INK, RIGHT, TRAIN, VAL, WRONG, drawing, new_figure, plain
from .score import match

MISSED = "#E6A100"
COLOURS = ("#D62728", "#1F77B4", "#2CA02C", "#9467BD", "#FF7F0E", "#17BECF", "#8C564B", "#E377C2")  # of the classes


def plot_boxes(detector, boxes, indices=(0, 1, 2, 3), threshold=None, columns=2, figure=None):
    """Pictures of a ``BoxSet`` with what a detector finds: found in green, false in red, missed in yellow, dashed.

    Args:
        detector: ``Detector``; None draws the objects of the set alone.
        boxes: the set.
        indices: which of its pictures.
        threshold: lowest score; None is the detector's.
        columns: pictures in a row.

    Returns:
        (found, false, missed): counts over these pictures; None without a detector.
    """
    rows = -(-len(indices) // columns)
    axes = np.ravel(new_figure(figure, 5 * columns, 3.9 * rows).subplots(rows, columns, squeeze=False))
    totals = np.zeros(3, int)
    for ax in axes:
        ax.axis("off")
    for ax, index in zip(axes, indices):
        ax.imshow(boxes.picture(index))
        if detector is None:
            for box, label in zip(boxes.boxes[index], boxes.labels[index]):
                _frame(ax, box, COLOURS[label % len(COLOURS)], boxes.class_names[label])
            continue
        found = detector(boxes.files[index], threshold)
        predicted = np.array([[box.label, box.score, *box.xyxy] for box in found], np.float32).reshape(-1, 6)
        seen, right = match(boxes.boxes[index], boxes.labels[index], predicted)
        for box, good in zip(found, right):
            _frame(ax, box.xyxy, RIGHT if good else WRONG, f"{box.name} {box.score:.2f}")
        for box in boxes.boxes[index][~seen & ~boxes.ignored[index]]:
            _frame(ax, box, MISSED, "", "--")
        totals += [right.sum(), (~right).sum(), (~seen & ~boxes.ignored[index]).sum()]
        ax.set_title(f"{boxes.files[index].name}: {right.sum()} found, {(~right).sum()} false, {(~seen).sum()} missed",
                     fontsize=9, color=INK)
    fit_fonts(ax.figure)
    return None if detector is None else tuple(int(value) for value in totals)


def _frame(ax, box, color, text, style="-"):
    from matplotlib.patches import Rectangle
    x0, y0, x1, y1 = box
    ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=1.4, linestyle=style))
    if text:
        ax.text(x0 + 2, y0 + 2, text, color="white", fontsize=6, va="top",
                bbox={"facecolor": color, "edgecolor": "none", "pad": 1, "alpha": 0.8})


@drawing
def plot_detection_history(history, figure=None):
    """Losses of a training and average precision on the validation pictures, over minutes."""
    losses, precision = new_figure(figure, 11, 4).subplots(1, 2)
    minutes = [entry["seconds"] / 60 for entry in history["steps"]]
    for name, label in (("loss", "sum"), ("loss_cls", "classes"), ("loss_iou", "overlap"), ("loss_dfl", "edges")):
        losses.plot(minutes, [entry[name] for entry in history["steps"]], linewidth=1.2, label=label)
    losses.set_ylabel("loss")
    minutes = [entry["seconds"] / 60 for entry in history["evaluations"]]
    for name, label, color in (("ap50", "AP50", VAL), ("ap", "AP", TRAIN)):
        precision.plot(minutes, [entry[name] for entry in history["evaluations"]], marker="o", markersize=3,
                       color=color, label=label)
    precision.set_ylim(0, 1)
    precision.set_ylabel("average precision")
    for ax in (losses, precision):
        ax.set_xlabel("minutes")
        ax.legend(frameon=False)
        plain(ax)
    return losses, precision


def draw_boxes(picture, boxes, path):
    """Write a picture with its boxes, at its own size.

    Args:
        picture: what ``Detector`` takes.
        boxes: list of ``Box``.
        path: a .png or .jpg file.
    """
    from PIL import Image, ImageDraw
    image = Image.fromarray(picture if isinstance(picture, np.ndarray) else read_picture(picture))
    draw, width = ImageDraw.Draw(image), max(round(max(image.size) / 400), 1)
    for box in boxes:
        color = COLOURS[box.label % len(COLOURS)]
        draw.rectangle(box.xyxy, outline=color, width=width)
        text, corner = f"{box.name} {box.score:.2f}", (box.xyxy[0] + width, box.xyxy[1] + width)
        draw.rectangle(draw.textbbox(corner, text), fill=color)
        draw.text(corner, text, fill="white")
    path = Path(path)
    with replacing(path) as file:
        image.save(file, format={".jpg": "jpeg"}.get(path.suffix, path.suffix.lstrip(".")))
