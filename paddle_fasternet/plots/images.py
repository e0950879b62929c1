"""Figures of images and their classes."""
import numpy as np

from .._check import check_number
from ..data.imageset import Images
from .style import INK, RIGHT, TRAIN, VAL, WRONG, drawing, new_figure, plain, tighten

SHOWN = 256  # side in pixels of a picture of a folder in a figure

# Above _CELLS classes a matrix has no room for numbers and all names. Inches of a figure's side; lines of a list.
_CELLS, _SIDE, _LISTED = 40, 13, 40


@drawing
def show_images(imgs, num_rows, num_cols, pred=None, gt=None, scale=1.5, figure=None):
    """Draw a grid of images, with predicted and true names where they are given.

    Args:
        imgs: arrays or tensors [H, W, C] or [C, H, W]; integers are 0..255, floats 0..1. An image with other values
            is stretched between its own extremes. Or a set of images, which gives ``gt`` too.
        num_rows, num_cols: of the grid; further images are left out.
        pred, gt: names, one for each image. With both, right is green and wrong red with the true name below.
        scale: side of a cell in inches.

    Returns:
        The axes, a flat array.
    """
    num_rows, num_cols = (check_number(argument, value, low=1, high=1000, integer=True)
                          for argument, value in (("num_rows", num_rows), ("num_cols", num_cols)))
    scale = check_number("scale", scale, low=0.1, high=100)
    for argument, values in (("imgs", imgs), ("pred", pred), ("gt", gt)):
        if not np.iterable(values) and (values is not None or argument == "imgs"):
            raise TypeError(f"{argument}={values!r} must be a list or an array")
    if isinstance(imgs, Images):
        imgs = imgs[:num_rows * num_cols]
        gt = [imgs.class_names[label] for label in imgs.labels] if gt is None else gt
        imgs = imgs.pixels(slice(None), SHOWN)
    names = [None if values is None else [str(value) for value in values] for values in (pred, gt)]
    shown = min(len(imgs), num_rows * num_cols)
    for argument, values in zip(("pred", "gt"), names):
        if values is not None and len(values) < shown:
            raise ValueError(f"{argument} has {len(values)} names for {shown} images")
    pred, gt = names
    title_space = 0.45 if pred and gt else 0.25 if pred or gt else 0.0
    axes = new_figure(figure, num_cols * scale, num_rows * (scale + title_space)).subplots(
        num_rows, num_cols, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for i in range(shown):
        image = displayable(imgs[i])
        axes[i].imshow(image, cmap="gray" if image.ndim == 2 else None)
        if pred and gt:
            right = pred[i] == gt[i]
            text = pred[i] if right else f"{pred[i]}\nis {gt[i]}"
            axes[i].set_title(text, fontsize=9, color=RIGHT if right else WRONG)
        elif pred or gt:
            axes[i].set_title((pred or gt)[i], fontsize=9, color=INK)
    tighten(axes[0].figure, 0.4)
    return axes


def displayable(image):
    """Any image as uint8 or float 0..1, [H, W, 3] or [H, W]."""
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[-1] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3):
        raise ValueError(f"an image of shape {image.shape} is neither [H, W, C] nor [C, H, W] with C 1 or 3")
    if image.dtype == np.uint8:
        return image
    image = image / 255 if image.dtype.kind in "iu" else image.astype(float)
    low, high = image.min(), image.max()
    return (image - low) / max(high - low, 1e-12) if low < 0 or high > 1 else image


def confusion_matrix(labels, predicted, num_classes):
    """Counts [true, predicted] of integer labels, int64 [K, K]."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != predicted.shape or labels.ndim != 1:
        raise ValueError(f"labels of shape {labels.shape} and predicted of shape {predicted.shape} must both be [N]")
    for argument, values in (("labels", labels), ("predicted", predicted)):
        if values.size and (values.min() < 0 or values.max() >= num_classes):
            raise ValueError(f"{argument} from {values.min()} to {values.max()} are outside the {num_classes} classes")
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


@drawing
def plot_confusion(labels, predicted, class_names, figure=None):
    """Draw how often each class (rows) was taken for which (columns), in percent of the row.

    Of more than 40 classes the cells have no numbers, as many names stand at the sides as can be read, and the most
    frequent confusions are listed beside the matrix.
    """
    count, names = len(class_names), [_brief(name) for name in class_names]
    counts = confusion_matrix(labels, predicted, count)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    if count > _CELLS:
        return _plot_many_classes(counts, share, names, figure)
    side = min(max(4.5, 0.62 * count), _SIDE)
    size = min(8, 0.5 * 72 * 0.77 * side / count)  # the matrix takes 0.77 of the figure
    ax = new_figure(figure, side + 0.8, side).add_subplot()
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for true, guess in np.argwhere(counts):
        ax.text(guess, true, f"{100 * share[true, guess]:.0f}" if share[true, guess] >= 0.005 else "<1", ha="center",
                va="center", fontsize=size, color="white" if share[true, guess] > 0.5 else INK)
    ax.set_xticks(range(count), names, rotation=45 if count <= 20 else 90, ha="right" if count <= 20 else "center")
    ax.set_yticks(range(count), names)
    ax.set_title("percent of each true class", fontsize=10, color=INK)
    return _label_confusion(ax)


def _plot_many_classes(counts, share, names, figure):
    ax, side = new_figure(figure, _SIDE + 1, _SIDE - 3).subplots(1, 2, gridspec_kw={
        "width_ratios": (2.6, 1), "left": 0.11, "right": 0.99, "bottom": 0.12, "top": 0.95, "wspace": 0.15})
    shown = ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # the root: rare confusions are to be seen too
    bar = ax.figure.colorbar(shown, cax=ax.inset_axes([1.02, 0, 0.02, 1]), ticks=np.sqrt([0, 0.01, 0.05, 0.2, 0.5, 1]))
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "20 %", "50 %", "100 %"], fontsize=7)
    step = -(-len(names) // 100)
    ax.set_xticks(range(0, len(names), step), names[::step], rotation=90, fontsize=5)
    ax.set_yticks(range(0, len(names), step), names[::step], fontsize=5)
    each = f"; every {step}th name" if step > 1 else ""
    ax.set_title(f"share of each true class{each}", fontsize=10, color=INK)
    wrong = counts * (1 - np.eye(len(names), dtype=counts.dtype))
    worst = [np.unravel_index(i, wrong.shape) for i in np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]]
    lines = [f"{names[true]} as {names[guess]}: {wrong[true, guess]:,} of {counts[true].sum():,}"
             for true, guess in worst if wrong[true, guess]]
    side.set_axis_off()
    side.text(0, 1, "\n".join(lines), va="top", fontsize=7.5, linespacing=1.5, color=INK)
    side.set_title("most frequent confusions", fontsize=10, color=INK, loc="left")
    return _label_confusion(ax)


def _label_confusion(ax):
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.spines[:].set_visible(False)
    return ax


def _brief(name):
    """A name short enough for a tick."""
    name = str(name)
    return name if len(name) <= 24 else f"{name[:22]}…"


@drawing
def plot_class_accuracy(labels, predicted, class_names, figure=None):
    """Draw the share of right predictions for each class, and over all as a line.

    Of more than 40 classes the 40 with the lowest shares are drawn, the lowest first.
    """
    counts, names = confusion_matrix(labels, predicted, len(class_names)), list(class_names)
    accuracy = counts.diagonal() / np.maximum(counts.sum(1), 1)
    overall = counts.diagonal().sum() / max(counts.sum(), 1)
    few = len(names) <= _CELLS
    if not few:
        there = np.flatnonzero(counts.sum(1))
        lowest = there[np.argsort(accuracy[there], kind="stable")][:_CELLS]
        accuracy, names = accuracy[lowest], [_brief(names[label]) for label in lowest]
    ax = new_figure(figure, 7, min(max(2.5, 0.36 * len(names) + 0.8), _SIDE)).add_subplot()
    bars = ax.barh(range(len(names)), accuracy, color=TRAIN, height=0.7)
    ax.bar_label(bars, [f"{value:.1%}" if value > 0.1 else "" for value in accuracy], label_type="center", fontsize=8,
                 color="white")
    ax.axvline(overall, color=VAL, linewidth=1.2, label=f"all images {overall:.1%}")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xticks(np.linspace(0, 1, 6), [f"{value:.0%}" for value in np.linspace(0, 1, 6)])
    ax.set_xlabel("accuracy" if few else f"accuracy; the {len(names)} lowest of {len(class_names)} classes")
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    plain(ax, grid="x")
    return ax
