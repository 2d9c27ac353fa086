"""Panels below each other that share the axis of epochs, and that become more when a display needs another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .figure import pyplot

STACK = "sk_analytic_stack"  # where axes remember the stack that they belong to
WIDTH, MARGINS = 6.4, 0.6  # inches of a new figure
TALL, LOW = 2.9, 1.35  # inches of a panel with a curve of training, and of those below


class Stack:
    """Panels by what they show, from top to bottom.

    Parameters
    ----------
    axes : sequence of matplotlib Axes
        One, which is divided as panels are added; or one for each panel.
    is_own : bool, default=False
        Whether the figure was made for this stack, so that it may become higher.

    Attributes
    ----------
    top : matplotlib Axes
        The first panel.
    names : dict of str to matplotlib Axes
        The panels by what they show.
    n_drawn : int
        Number of displays that were drawn.
    rows : list
        The names of phases in the top panel: for each display a list of annotations.
    limits : tuple of float or None
        Limits of the top panel, if they were set so that no curve is behind the names of phases.
    """

    def __init__(self, axes: Sequence[Any], *, is_own: bool = False) -> None:
        self.top = axes[0]
        self.place: Any = self.top.get_subplotspec() if len(axes) == 1 else None
        self.free = list(axes)
        self.is_own = is_own
        self.names: dict[str, Any] = {}
        self.n_drawn = 0
        self.rows: list[list[Any]] = []
        self.limits: tuple[float, float] | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter(self.names.values())

    def need(self, owner: str, names: Sequence[str], last: Sequence[str]) -> None:
        """Make the panels of some names; those of ``last`` stand below the others, in this order."""
        missing = [name for name in names if name not in self.names]
        wanted = [*self.names, *missing]
        if self.place is None and len(missing) > len(self.free):
            n = len(self.names) + len(self.free)
            raise ValueError(
                f"{owner} draws {len(wanted)} panels ({', '.join(wanted)}), but ax has room for {n}. Pass a single "
                f"axes from plt.subplots, which is divided, or an array of {len(wanted)} axes."
            )
        while missing and self.free:
            self._add(missing.pop(0), self.free.pop(0))
        if missing:
            first = [name for name in wanted if name not in last]
            self._divide([*first, *(name for name in last if name in wanted)], last)

    def _add(self, name: str, ax: Any) -> None:
        setattr(ax, STACK, self)
        self.names[name] = ax

    def _divide(self, names: list[str], low: Sequence[str]) -> None:
        """Divide the place of the stack among all panels."""
        from matplotlib.gridspec import GridSpecFromSubplotSpec

        heights = [LOW if name in low else TALL for name in names]
        if self.is_own:
            self.top.figure.set_size_inches(WIDTH, sum(heights) + MARGINS)
        grid = GridSpecFromSubplotSpec(len(names), 1, self.place, height_ratios=heights, hspace=0.12)
        panels = dict(self.names)
        self.names.clear()
        for at, name in enumerate(names):
            if name in panels:
                panels[name].set_subplotspec(grid[at])
            ax = panels.get(name) or self.top.figure.add_subplot(grid[at], sharex=self.top)
            self._add(name, ax)
            if at < len(names) - 1:
                ax.tick_params(labelbottom=False)
                ax.set_xlabel("")


def stack_for(owner: str, ax: Any, n: int) -> Stack:
    """Return the stack to draw on: that of given axes, or a new one on them or on a new figure."""
    if ax is None:
        figure = pyplot().figure(figsize=(WIDTH, TALL + MARGINS), layout="constrained")
        return Stack([figure.add_subplot()], is_own=True)
    axes = np.asarray(ax, dtype=object).ravel()
    if not len(axes) or not all(hasattr(one, "get_subplotspec") for one in axes):
        raise TypeError(f"{owner}: ax must be a matplotlib Axes or an array of them; got {ax!r}.")
    known: Stack | None = getattr(axes[0], STACK, None)
    if known is not None:
        return known
    if len(axes) not in (1, n):
        raise ValueError(f"{owner} draws {n} panels, so ax must be one axes or an array of {n}; got {len(axes)}.")
    return Stack(list(axes))
