"""Figures of training runs."""
import numpy as np

from .style import INK, TRAIN, VAL, drawing, new_figure, plain


@drawing
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


@drawing
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


@drawing
def plot_histories(runs, figure=None):
    """Draw the loss and the accuracy of several runs on common axes: validation as lines, training as dashes.

    Args:
        runs: {name: ``History``}, or what ``load_run`` returned.

    Raises:
        ValueError: there is no run, or one without an epoch.
    """
    runs = {name: getattr(run, "history", run) for name, run in runs.items()}
    empty = [name for name, history in runs.items() if not history.epochs]
    if not runs or empty:
        raise ValueError(f"runs={empty or {}} must have at least one epoch each")
    axes = new_figure(figure, 11.5, 4.2).subplots(1, 2)
    for number, (name, history) in enumerate(runs.items()):
        epochs = [epoch["epoch"] for epoch in history.epochs]
        for ax, quantity in zip(axes, ("loss", "acc")):
            for part, style in (("train", "--"), ("val", "-")):
                ax.plot(epochs, [epoch[f"{part}_{quantity}"] for epoch in history.epochs], style, color=f"C{number}",
                        linewidth=1.8 if part == "val" else 1, alpha=1 if part == "val" else 0.6,
                        marker="o" if len(epochs) == 1 else None, markersize=4, label=name if part == "val" else None)
    for ax, label in zip(axes, ("cross-entropy", "accuracy")):
        ax.set_xlabel("epochs")
        ax.set_ylabel(label)
        ax.xaxis.get_major_locator().set_params(integer=True)
        plain(ax)
    axes[1].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), alignment="left",
                   title="validation; dashed: training")
    return axes


@drawing
def plot_accuracy(runs, figure=None):
    """Draw validation accuracy over epochs and over seconds of training: means over seeds, from lowest to highest.

    Args:
        runs: {name: [``History``, ...]}, for each name runs that differ in their seed.

    Raises:
        ValueError: a name has no run, a run no epoch, or runs of one name differ in their epochs.
    """
    for name, histories in runs.items():
        counts = sorted({len(history.epochs) for history in histories})
        if len(counts) != 1 or not counts[0]:
            raise ValueError(f"runs[{name!r}] must be one or more histories with equally many epochs; they have "
                             f"{counts}")
    axes = new_figure(figure, 12, 4.6).subplots(1, 2, sharey=True)
    for number, (name, histories) in enumerate(runs.items()):
        accuracy, seconds = (np.array([[epoch[key] for epoch in history.epochs] for history in histories])
                             for key in ("val_acc", "train_seconds"))
        for ax, x in zip(axes, (np.arange(accuracy.shape[1]) + 1, seconds.cumsum(1).mean(0))):
            ax.plot(x, accuracy.mean(0), color=f"C{number}", linewidth=1.8, marker="o", markersize=3,
                    label=f"{name}: {describe_shares(accuracy[:, -1])}")
            ax.fill_between(x, accuracy.min(0), accuracy.max(0), color=f"C{number}", alpha=0.2, linewidth=0)
    for ax, label in zip(axes, ("epochs", "seconds of training")):
        ax.set_xlabel(label)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        plain(ax)
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("validation accuracy")
    if runs:
        axes[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title="after the last epoch",
                       alignment="left")
    return axes


@drawing
def plot_tradeoff(panels, figure=None):
    """Draw accuracy against speed: accuracies of all seeds and their mean, throughput with its quartiles.

    Args:
        panels: {title: rows of ``compare_networks``, each with "accuracy", the shares of all seeds}.

    Returns:
        The axes, an array.
    """
    from matplotlib.ticker import LogLocator
    axes = new_figure(figure, 5 * len(panels) + 1.5, 4.2).subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (title, rows) in zip(axes, panels.items()):
        for number, row in enumerate(rows):
            rate, slow, fast = (row["images"] / row[key] for key in ("median", "high", "low"))
            shares, color = np.asarray(row["accuracy"], float), f"C{number}"
            ax.errorbar(rate, shares.mean(), xerr=[[rate - slow], [fast - rate]], color=color, marker="o",
                        markersize=9, capsize=3, linestyle="", label=row["network"])
            ax.plot([rate] * len(shares), shares, color=color, marker="_", linewidth=1)
        ax.set(xscale="log", xlabel="images/s")
        ax.set_title(title, fontsize=10, color=INK)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.xaxis.set_minor_formatter("")
        ax.margins(0.12)
        plain(ax)
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axes[0].set_ylabel("validation accuracy")
    axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return axes


def describe_shares(shares):
    """A share in percent; of several the mean, the standard deviation, and how many."""
    shares = 100 * np.asarray(shares, float)
    if len(shares) == 1:
        return f"{shares[0]:.2f} %"
    return f"{shares.mean():.2f} ± {shares.std(ddof=1):.2f} % (n={len(shares)})"


def _curves(record, quantity):
    """{"train" | "val": (steps, values)} out of a ``History`` or a record."""
    record, curves = getattr(record, "record", record), {}
    for part in ("train", "val"):
        try:
            steps, values = np.asarray(record[part]["iter"], float), np.asarray(record[part][quantity], float)
        except (KeyError, TypeError, ValueError, IndexError) as error:
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
