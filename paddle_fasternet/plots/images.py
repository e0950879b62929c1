"""Figures of images and their classes."""
import numpy as np

from .._check import check_number
from ..data.imageset import Images
from .style import INK, RIGHT, TRAIN, VAL, WRONG, new_figure, plain

SHOWN = 256  # side in pixels of a picture of a folder in a figure


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
    axes[0].figure.tight_layout(pad=0.4)
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


def plot_confusion(labels, predicted, class_names, figure=None):
    """Draw how often each class (rows) was taken for which (columns), in percent of the row."""
    count = len(class_names)
    counts = confusion_matrix(labels, predicted, count)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(4.5, 0.62 * count)
    ax = new_figure(figure, side + 0.8, side).add_subplot()
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
    ax = new_figure(figure, 7, max(2.5, 0.36 * len(class_names) + 0.8)).add_subplot()
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
    plain(ax, grid="x")
    return ax
