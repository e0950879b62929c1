"""Every figure of the library.

Each function draws on a new pyplot figure, or on the ``figure`` it is given, and returns its axes, so that a notebook
shows it once; ``save_figure`` draws straight to a file and leaves pyplot alone.
"""
from pathlib import Path

import numpy as np

from ._files import replacing

TRAIN, VAL, RIGHT, WRONG, INK = "#4C78A8", "#E4572E", "#2E7D32", "#C62828", "#333333"


def save_figure(path, draw, *args, **kwargs):
    """Draw into a file, whole or not at all: ``save_figure("curve.png", plot_history, history)``."""
    from matplotlib.figure import Figure
    figure, path = Figure(), Path(path).expanduser()
    draw(*args, figure=figure, **kwargs)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.lstrip(".") or "png", dpi=150, bbox_inches="tight")


def _figure(figure, width, height):
    """A new pyplot figure of that size in inches, or the given one brought to it."""
    if figure is None:
        import matplotlib.pyplot as plt
        return plt.figure(figsize=(width, height))
    figure.set_size_inches(width, height)
    return figure


def _plain(ax, grid="both"):
    """The house style: light grid behind, no box."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis=grid, color="#DDDDDD", linewidth=0.7)


def plot_learning_curve(record, title="loss", ylabel="CE Loss", figure=None):
    """Draw one quantity of a run against its steps.

    Args:
        record: a ``History``, its ``record``, or the 2023 notebook's {"train" | "val": {title: [...], "iter": [...]}}.
        title: the quantity, "loss" or "acc".
        ylabel: label of the vertical axis.

    Raises:
        ValueError: the record does not hold the quantity, or its lengths differ.
    """
    curves = _curves(record, title)
    ax = _figure(figure, 7, 4.2).add_subplot()
    _draw_curves(ax, curves, ylabel)
    ax.set_title(f"Learning curve of {title}", color=INK)
    return ax


def plot_history(history, figure=None):
    """Loss and accuracy of a ``History`` side by side."""
    loss, accuracy = _curves(history, "loss"), _curves(history, "acc")
    axes = _figure(figure, 11, 4).subplots(1, 2)
    _draw_curves(axes[0], loss, "cross-entropy")
    _draw_curves(axes[1], accuracy, "accuracy")
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    best = getattr(history, "best", None)
    if best:
        axes[1].set_title(f"best validation accuracy {best['val_acc']:.2%} after epoch {best['epoch']}", fontsize=10,
                          color=INK)
    return axes


def _curves(record, quantity):
    """{"train" | "val": (steps, values)} out of a ``History`` or a record."""
    record, curves = getattr(record, "record", record), {}
    for part in ("train", "val"):
        try:
            steps, values = np.asarray(record[part]["iter"], float), np.asarray(record[part][quantity], float)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"record has no record[{part!r}][{quantity!r}] with its 'iter'") from error
        if len(steps) != len(values):
            raise ValueError(f"record[{part!r}] has {len(values)} values of {quantity!r} for {len(steps)} steps")
        curves[part] = steps, values
    return curves


def _draw_curves(ax, curves, ylabel):
    for part, color in (("train", TRAIN), ("val", VAL)):
        steps, values = curves[part]
        if not len(steps):
            continue
        window = len(steps) // 60 if part == "train" else 0
        if window > 1:  # single steps pale, their running mean above them
            ax.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            values = np.convolve(values, np.ones(window) / window, mode="valid")
            steps = steps[window - 1:]
        marker = "o" if len(steps) <= 40 else None
        ax.plot(steps, values, color=color, label=part, linewidth=1.8, marker=marker, markersize=4)
    ax.set_xlabel("training steps")
    ax.set_ylabel(ylabel)
    _plain(ax)
    if ax.lines:
        ax.legend(frameon=False)


def show_images(imgs, num_rows, num_cols, pred=None, gt=None, scale=1.5, figure=None):
    """Draw a grid of images, with predicted and true names where they are given.

    Args:
        imgs: arrays or tensors [H, W, C] or [C, H, W]; integers are 0..255, floats 0..1. An image with other values
            is stretched between its own extremes.
        num_rows, num_cols: of the grid; further images are left out.
        pred, gt: names, one for each image. With both, right is green and wrong red with the true name below.
        scale: side of a cell in inches.

    Returns:
        The axes, a flat array.
    """
    names = [None if values is None else [str(value) for value in values] for values in (pred, gt)]
    shown = min(len(imgs), num_rows * num_cols)
    for argument, values in zip(("pred", "gt"), names):
        if values is not None and len(values) < shown:
            raise ValueError(f"{argument} has {len(values)} names for {shown} images")
    pred, gt = names
    title_space = 0.45 if pred and gt else 0.25 if pred or gt else 0.0
    axes = _figure(figure, num_cols * scale, num_rows * (scale + title_space)).subplots(
        num_rows, num_cols, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for i in range(shown):
        image = _displayable(imgs[i])
        axes[i].imshow(image, cmap="gray" if image.ndim == 2 else None)
        if pred and gt:
            right = pred[i] == gt[i]
            text = pred[i] if right else f"{pred[i]}\nis {gt[i]}"
            axes[i].set_title(text, fontsize=9, color=RIGHT if right else WRONG)
        elif pred or gt:
            axes[i].set_title((pred or gt)[i], fontsize=9, color=INK)
    axes[0].figure.tight_layout(pad=0.4)
    return axes


def _displayable(image):
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


def plot_confusion(labels, predicted, class_names, figure=None):
    """Draw how often each class (rows) was taken for which (columns), in percent of the row."""
    count = len(class_names)
    counts = confusion_matrix(labels, predicted, count)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(4.5, 0.62 * count)
    ax = _figure(figure, side + 0.8, side).add_subplot()
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for true in range(count):
        for guess in range(count):
            if counts[true, guess]:
                ax.text(guess, true, f"{100 * share[true, guess]:.0f}" if share[true, guess] >= 0.005 else "<1",
                        ha="center", va="center", fontsize=8, color="white" if share[true, guess] > 0.5 else INK)
    ax.set_xticks(range(count), class_names, rotation=45, ha="right")
    ax.set_yticks(range(count), class_names)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.set_title("percent of each true class", fontsize=10, color=INK)
    ax.spines[:].set_visible(False)
    return ax


def plot_class_accuracy(labels, predicted, class_names, figure=None):
    """Draw the share of right answers for each class, and over all as a line."""
    counts = confusion_matrix(labels, predicted, len(class_names))
    accuracy = counts.diagonal() / np.maximum(counts.sum(1), 1)
    overall = counts.diagonal().sum() / max(counts.sum(), 1)
    ax = _figure(figure, 7, max(2.5, 0.36 * len(class_names) + 0.8)).add_subplot()
    bars = ax.barh(range(len(class_names)), accuracy, color=TRAIN, height=0.7)
    ax.bar_label(bars, [f"{value:.1%}" if value > 0.1 else "" for value in accuracy], label_type="center", fontsize=8,
                 color="white")
    ax.axvline(overall, color=VAL, linewidth=1.2, label=f"all images {overall:.1%}")
    ax.set_yticks(range(len(class_names)), class_names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xticks(np.linspace(0, 1, 6), [f"{value:.0%}" for value in np.linspace(0, 1, 6)])
    ax.set_xlabel("accuracy")
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    _plain(ax, grid="x")
    return ax
