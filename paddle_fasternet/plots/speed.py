"""Figures of speed and cost."""
import numpy as np

from .style import INK, TRAIN, VAL, drawing, new_figure, plain, tighten


@drawing
def plot_roofline(rows, peak, figure=None):
    """Draw ``measure_operators``'s figures under the roof that ``measure_peak`` found for this device.

    The higher, the more multiply-adds in a second; left of the roof's bend memory sets the limit.
    """
    ax = new_figure(figure, 8.5, 5.5).add_subplot()
    names, engines = (list(dict.fromkeys(row[key] for row in rows)) for key in ("operator", "engine"))
    intensities = [row["macs"] / row["bytes"] for row in rows]
    x = np.geomspace(min(intensities) / 2, max(intensities) * 2, 200)
    ax.plot(x, np.minimum(peak["macs_per_second"], peak["bytes_per_second"] * x) / 1e9, color=INK, linewidth=1.5)
    for row, intensity in zip(rows, intensities):
        ax.plot(intensity, row["macs_per_second"] / 1e9, color=f"C{names.index(row['operator'])}", linestyle="",
                marker="os^Dv"[engines.index(row["engine"])], markersize=7, alpha=0.8)
    for number, name in enumerate(names):
        ax.plot([], [], color=f"C{number}", marker="o", linestyle="", label=name)
    for number, engine in enumerate(engines):
        ax.plot([], [], color=INK, marker="os^Dv"[number], fillstyle="none", linestyle="", label=engine)
    ax.set(xscale="log", yscale="log", xlabel="multiply-adds for each byte that has to be moved",
           ylabel="G multiply-adds in a second")
    ax.set_title(f"measured roof: {peak['macs_per_second'] / 1e9:,.0f} G multiply-adds/s, "
                 f"{peak['bytes_per_second'] / 1e9:,.0f} GB/s", fontsize=10, color=INK)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    plain(ax)
    return ax


@drawing
def plot_speed(rows, highlight="fasternet", figure=None):
    """Draw ``compare_networks``'s speeds against multiply-adds and against parameters, with quartiles.

    Args:
        highlight: names that begin so are joined by a line and have their own colour.
    """
    from matplotlib.ticker import LogLocator
    axes = new_figure(figure, 12, 4.8).subplots(1, 2, sharey=True)
    ours = sorted((row for row in rows if row["network"].startswith(highlight)), key=lambda row: row["macs"])
    for ax, key, unit, label in zip(axes, ("macs", "parameters"), (1e9, 1e6),
                                    ("G multiply-adds of an image", "M parameters")):
        for group, color, line in ((ours, VAL, "-"), ([row for row in rows if row not in ours], TRAIN, "")):
            x = [row[key] / unit for row in group]
            y = np.array([[row["images"] / row[at] for row in group] for at in ("median", "high", "low")])
            if group:
                ax.errorbar(x, y[0], [y[0] - y[1], y[2] - y[0]], color=color, marker="o", linestyle=line, capsize=2)
                # names of ours below, of the others above and at two heights, so that neighbours' do not meet
                for number, (row, at) in enumerate(sorted(zip(group, x), key=lambda pair: pair[1])):
                    ax.annotate(row["network"], (at, row["images"] / row["median"]), color=color, fontsize=8,
                                xytext=(-5, -11) if group is ours else (4, (5, 15)[number % 2]),
                                textcoords="offset points", ha="right" if group is ours else "left")
        ax.set(xscale="log", yscale="log", xlabel=label)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        ax.margins(0.2)
        plain(ax)
    axes[0].set_ylabel("images/s")
    return axes


@drawing
def plot_imitation(rows, positions, figure=None):
    """Draw where the weight of trained 3 x 3 filters lies, and how far operators are from a trained convolution.

    Args:
        rows: of ``imitate``, each with "layer", which convolution was imitated; "stdev" is drawn where it is given.
        positions: of ``filter_positions``.
    """
    left, right = new_figure(figure, 11, 4).subplots(1, 2, gridspec_kw={"width_ratios": (1, 2.2)})
    share = np.asarray(positions["share"])
    left.imshow(share, cmap="Blues", vmin=0)
    for (row, column), value in np.ndenumerate(share):
        left.text(column, row, f"{value:.0%}", ha="center", va="center",
                  color="white" if value > share.max() / 2 else INK)
    left.set(xticks=[], yticks=[], title=f"share of the squared norm,\nmean of {positions['filters']:,} filters")
    layers, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("layer", "operator"))
    for number, name in enumerate(names):
        found = {row["layer"]: row for row in rows if row["operator"] == name}
        width = 0.8 / len(names)
        right.bar(np.arange(len(layers)) + (number - (len(names) - 1) / 2) * width,
                  [found[layer]["error"] for layer in layers], width, color=f"C{number}", label=name, capsize=2,
                  yerr=[found[layer]["stdev"] for layer in layers] if found[layers[0]].get("stdev") else None)
    right.set_xticks(range(len(layers)), layers)
    right.set(ylabel="test error over the variance", title="imitating a trained 3 x 3 convolution")
    right.legend(frameon=False, fontsize=8)
    for ax in (left, right):
        ax.title.set(fontsize=10, color=INK)
    left.spines[:].set_visible(False)
    plain(right, grid="y")
    return left, right


@drawing
def plot_engines(rows, figure=None):
    """Draw images/s of engines, a panel for each network and batch size, a colour for each precision.

    Args:
        rows: dicts with "model", "precision", "batch", "contender", "images_per_second", and "ours", whether the bar is
            to stand out.
    """
    panels = list(dict.fromkeys((row["model"], row["batch"]) for row in rows))
    names = list(dict.fromkeys(row["contender"] for row in rows))[::-1]
    models = list(dict.fromkeys(model for model, _ in panels))
    columns = max(sum(1 for model, _ in panels if model == first) for first in models)
    axes = new_figure(figure, 5.5 * columns, (0.32 * len(names) + 0.9) * len(models)).subplots(
        len(models), columns, sharey=True, squeeze=False)
    precisions = [name for name in ("fp32", "bf16", "int8") if any(row["precision"] == name for row in rows)]
    height = 0.8 / len(precisions)
    for ax, (model, batch) in zip(axes.ravel(), panels):
        for row in rows:
            if (row["model"], row["batch"]) == (model, batch):
                number = precisions.index(row["precision"])
                place = names.index(row["contender"]) + ((len(precisions) - 1) / 2 - number) * height
                ax.barh(place, row["images_per_second"], height, color=f"C{number}", alpha=1 if row["ours"] else 0.45)
                ax.text(row["images_per_second"], place, f" {row['images_per_second']:,.0f}", va="center", fontsize=6)
        ax.set_yticks(range(len(names)), names)
        ax.set_title(f"{model}, {'one image' if batch == 1 else f'batch {batch}'}", fontsize=10, color=INK)
        ax.set_xlabel("images/s")
        plain(ax, grid="x")
    for number, name in enumerate(precisions):
        axes[0, -1].barh(0, 0, color=f"C{number}", label=name)
    axes[0, -1].legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1.05), ncols=3)
    tighten(axes[0, 0].figure)
    return axes
