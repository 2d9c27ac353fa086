"""The picture of the scoreboard: a dot for each ratio, row by row."""

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

COLORS = {"met": "tab:green", "missed": "tab:red", "": "tab:gray"}


def draw(figures, path):
    """Draw the ratios of all figures, a panel for each row.

    Parameters
    ----------
    figures : list of Figure
    path : Path
        Where to write it.
    """
    by_row = {}
    for figure in figures:
        if figure.ratio is not None:
            by_row.setdefault(figure.row, {}).setdefault(figure.peer, []).append(figure)
    if not by_row:
        return
    heights = [len(peers) + 1 for peers in by_row.values()]
    drawing, axes = plt.subplots(
        len(by_row),
        1,
        figsize=(8, 0.32 * sum(heights) + 1),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (row, peers) in zip(axes[:, 0], by_row.items(), strict=True):
        _panel(axis, row, peers)
    axes[-1, 0].set_xlabel("ours over the peer's; left of the line we are faster, or smaller")
    drawing.savefig(path, dpi=120)
    plt.close(drawing)


def _panel(axis, row, peers):
    for height, found in enumerate(peers.values()):
        heights = height + np.linspace(-0.25, 0.25, len(found)) if len(found) > 1 else [height]
        for at, figure in zip(heights, found, strict=True):
            axis.plot([figure.low, figure.high], [at, at], color=COLORS[figure.verdict], lw=1, alpha=0.6)
            axis.plot(figure.ratio, at, "o", ms=3, color=COLORS[figure.verdict])
    axis.axvline(1, color="black", lw=0.8)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_yticks(range(len(peers)), list(peers), fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_title(row, fontsize=9, loc="left")
    axis.invert_yaxis()
