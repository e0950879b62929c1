"""What the figures have in common."""
import functools
from pathlib import Path

import numpy as np

from .._files import replacing
from .fonts import fit_fonts

TRAIN, VAL, RIGHT, WRONG, INK = "#4C78A8", "#E4572E", "#2E7D32", "#C62828", "#333333"
PICTURES = (".png", ".jpg", ".pdf", ".svg")


def save_figure(path, draw, *args, **kwargs):
    """Draw into a file, whole or not at all: ``save_figure("curve.png", plot_history, history)``."""
    from matplotlib.figure import Figure
    figure, path = Figure(), Path(path).expanduser()
    draw(*args, figure=figure, **kwargs)
    fit_fonts(figure)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.lstrip(".") or "png", dpi=150, bbox_inches="tight")


def new_figure(figure, width, height):
    """A new pyplot figure of that size in inches, or the given one brought to it."""
    if figure is None:
        import matplotlib.pyplot as plt
        return plt.figure(figsize=(width, height))
    figure.set_size_inches(width, height)
    return figure


def drawing(function):
    """A function that returns axes: their texts have fonts for all characters."""
    @functools.wraps(function)
    def draw(*args, **kwargs):
        axes = function(*args, **kwargs)
        fit_fonts(np.ravel(axes)[0].figure)
        return axes
    return draw


def tighten(figure, pad=1.08):
    """``tight_layout`` with fonts for all characters, which it measures."""
    fit_fonts(figure)
    figure.tight_layout(pad=pad)


def plain(ax, grid="both"):
    """The house style: light grid behind, no box."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis=grid, color="#DDDDDD", linewidth=0.7)
