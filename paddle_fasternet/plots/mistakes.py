"""The pictures that a network is most wrong about."""
from pathlib import Path

from .._check import check_number
from .images import SHOWN, displayable
from .style import INK, WRONG, drawing, new_figure, tighten


@drawing
def plot_top_losses(images, result, count=16, figure=None):
    """Draw the images with the surest wrong predictions, with the names of their files.

    Args:
        images: the set that was evaluated, ``ImageSet`` or ``ImageFolder``.
        result: what ``evaluate`` returned for it.
        count: how many at most.

    Returns:
        The axes, a flat array; one without a picture where nothing is wrong.

    Raises:
        ValueError: ``result`` is of another set.
    """
    count = check_number("count", count, low=1, high=400, integer=True)
    if len(images) != len(result.probabilities):
        raise ValueError(f"result is of {len(result.probabilities)} images, the set has {len(images)}")
    worst = result.surest_mistakes(count)
    columns = min(max(len(worst), 1), 8 if count > 16 else 4)
    rows = -(-max(len(worst), 1) // columns)
    axes = new_figure(figure, 2.1 * columns, 2.75 * rows).subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    if not len(worst):
        axes[0].set_title("every prediction is right", fontsize=10, color=INK)
    names, files = images.class_names, getattr(images, "files", None)
    for ax, number in zip(axes, worst.tolist()):
        image = displayable(images.pixels([number], SHOWN)[0])
        ax.imshow(image, cmap="gray" if image.ndim == 2 else None)
        guess = result.predicted[number]
        where = f"image {number}" if files is None else _short(files[number])
        ax.set_title(f"{names[guess]} {result.probabilities[number, guess]:.0%}\nis {names[images.labels[number]]}",
                     fontsize=8, color=WRONG)
        ax.text(0.5, -0.03, where, fontsize=6, color=INK, ha="center", va="top", transform=ax.transAxes)
    tighten(axes[0].figure, 0.6)
    return axes


def _short(file):
    """The last folder and name of a file; of a long name its end."""
    text = "/".join(Path(file).parts[-2:]).encode("utf-8", "replace").decode()  # names may be no UTF-8
    return text if len(text) <= 34 else "…" + text[-33:]
