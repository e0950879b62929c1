"""Figures of explanations."""
import numpy as np

from .images import displayable
from .style import INK, RIGHT, WRONG, drawing, new_figure, plain, tighten


@drawing
def plot_explanation(explanation, label=None, k=5, figure=None):
    """Draw a LIME ``Explanation``: the image, its ``k`` top segments, and the coefficients of all.

    Args:
        label: which of the explained classes; None takes the first.
    """
    axes = new_figure(figure, 11, 3.8).subplots(1, 3)
    image, heat = explanation.image, explanation.heatmap(label)
    top = [number for number, _ in explanation.top(label, k)]
    chosen = np.isin(explanation.segments, top)
    pale = (0.25 * image + 0.75 * 255).astype(np.uint8)
    axes[0].imshow(image)
    row = 0 if label is None else explanation.labels.index(label)
    axes[0].set_title(f"{explanation.name(label)}, {explanation.prediction[explanation.labels[row]]:.1%}")
    axes[1].imshow(np.where(chosen[..., None], image, pale))
    for number in top:
        color = RIGHT if heat[explanation.segments == number][0] > 0 else WRONG
        axes[1].contour(explanation.segments == number, [0.5], colors=color, linewidths=1.5)
    axes[1].set_title(f"top {len(top)} of {explanation.segments.max() + 1} segments")
    shown = draw_heat(axes[2], image, heat)
    axes[2].figure.colorbar(shown, cax=axes[2].inset_axes([1.03, 0, 0.04, 1]))
    axes[2].set_title(f"coefficients, R² {explanation.r2[row]:.2f}")
    for ax in axes:
        ax.set_axis_off()
        ax.title.set(fontsize=10, color=INK)
    return axes


@drawing
def plot_heatmaps(image, maps, title=None, figure=None):
    """Draw an image and explanations of it side by side.

    Args:
        image: see ``show_images``.
        maps: {name: [H, W]}; a map with negative values is drawn from red (against) over white to blue (for), the
            others from transparent to green.
        title: above the image.
    """
    axes = new_figure(figure, 2.7 * (len(maps) + 1), 3.1).subplots(1, len(maps) + 1, squeeze=False)[0]
    image = displayable(image)
    axes[0].imshow(image)
    axes[0].set_title(title or "")
    for ax, (name, heat) in zip(axes[1:], maps.items()):
        draw_heat(ax, image, np.asarray(heat))
        ax.set_title(name)
    for ax in axes:
        ax.set_axis_off()
        ax.title.set(fontsize=10, color=INK)
    tighten(axes[0].figure, 0.4)
    return axes


def draw_heat(ax, image, heat):
    """A map over its image, which is left in pale grey."""
    if heat.shape != image.shape[:2]:
        raise ValueError(f"a map of shape {heat.shape} does not fit the image {image.shape[:2]}")
    grey = image if image.ndim == 2 else image.mean(-1)
    ax.imshow(grey, cmap="gray", vmin=-grey.max(), vmax=grey.max() * 1.15 + 1e-9)
    signed = heat.min() < 0
    low = 0 if signed else float(heat.min())
    # one pixel that stands out would leave all the others white
    high = max(float(np.percentile(np.abs(heat), 99.5)), low + 1e-12)
    return ax.imshow(heat, cmap="RdBu" if signed else "Greens", vmin=-high if signed else low, vmax=high,
                     alpha=0.85 * np.clip((np.abs(heat) - low) / (high - low), 0, 1) ** 0.5)


@drawing
def plot_faithfulness(curves, figure=None, axes=None):
    """Draw deletion and insertion curves, {name: Faithfulness}, with their areas; on the two ``axes``, if given."""
    axes = new_figure(figure, 10, 4).subplots(1, 2, sharey=True) if axes is None else axes
    for ax, kind, better in zip(axes, ("deletion", "insertion"), ("lower", "higher")):
        for number, (name, curve) in enumerate(curves.items()):
            line = {"color": "#999999", "linestyle": "--"} if name.startswith("random") else {"color": f"C{number}"}
            ax.plot(curve.share, getattr(curve, kind), label=f"{name}: {getattr(curve, kind + '_area'):.3f}",
                    linewidth=1.8, **line)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.set_title(f"{kind}: {better} is better", fontsize=10, color=INK)
        ax.set_xlabel(f"of the pixels {'deleted' if kind == 'deletion' else 'shown'}")
        ax.legend(frameon=False, title="area", alignment="left")
        plain(ax)
    axes[0].set_ylabel("probability of the class")
    return axes
