"""Figures of a training run."""
import numpy as np

from .style import INK, TRAIN, VAL, new_figure, plain


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
    ax = new_figure(figure, 7, 4.2).add_subplot()
    _draw_curves(ax, curves, ylabel)
    ax.set_title(f"Learning curve of {title}", color=INK)
    return ax


def plot_history(history, figure=None):
    """Loss and accuracy of a ``History`` side by side."""
    loss, accuracy = _curves(history, "loss"), _curves(history, "acc")
    axes = new_figure(figure, 11, 4).subplots(1, 2)
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
    plain(ax)
    if ax.lines:
        ax.legend(frameon=False)
