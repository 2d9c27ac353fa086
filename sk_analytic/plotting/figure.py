"""Import of matplotlib when something is drawn, axes to draw on, and styles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..inference import Inference

POINTS_PER_LETTER = 0.6  # width of a letter, of the size of its font


def pyplot() -> Any:
    """Return `matplotlib.pyplot`; raise an error that names the extra if it is not installed."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Plotting requires matplotlib, which is not installed: pip install matplotlib, or in a clone "
            'pip install -e ".[plot]"'
        ) from error
    return plt


def require_inference(owner: str, result: Any) -> None:
    """Raise if a value is not what `infer` returns."""
    if not isinstance(result, Inference):
        hint = " Pass infer(model, X, y)." if hasattr(result, "fit") else ""
        raise TypeError(f"{owner} requires an Inference, the result of infer; got {result!r}.{hint}")


def axes_for(ax: Any) -> Any:
    """Return the axes to draw on: those given, or those of a new figure."""
    return pyplot().subplots(layout="constrained")[1] if ax is None else ax


def panels_for(owner: str, axes: Any, n: int, n_columns: int, panel: tuple[float, float]) -> Any:
    """Return an array of axes to draw on, one for each panel: those given, or those of a new figure.

    Parameters
    ----------
    owner : str
        Name of the display, for the message if there are too few axes.
    axes : array of matplotlib Axes or None
    n, n_columns : int
        Number of panels, and the largest number beside each other.
    panel : tuple of float
        Width and height of a panel in inches.
    """
    if axes is None:
        n_columns = min(n, n_columns)
        n_rows = -(-n // n_columns)
        size = (n_columns * panel[0] + 0.6, n_rows * panel[1] + 0.4)
        axes = pyplot().subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)[1]
        for unused in axes.flat[n:]:
            unused.remove()
        axes = axes.flat[:n]
    axes = np.asarray(axes, dtype=object).ravel()
    if len(axes) != n:
        raise ValueError(f"{owner}: axes must be {n} axes, one for each parameter; got {len(axes)}.")
    return axes


def line_style(line_kw: Mapping[str, Any] | None, **defaults: Any) -> dict[str, Any]:
    """Return how to draw a line; matplotlib raises for arguments that it does not know."""
    from matplotlib import cbook
    from matplotlib.lines import Line2D

    style = defaults | cbook.normalize_kwargs(dict(line_kw or {}), Line2D)
    Line2D([], [], **style)
    return style


def fill_style(fill_kw: Mapping[str, Any] | None, **defaults: Any) -> dict[str, Any]:
    """Return how to fill an area; matplotlib raises for arguments that it does not know."""
    from matplotlib import cbook
    from matplotlib.collections import PolyCollection

    style = defaults | cbook.normalize_kwargs(dict(fill_kw or {}), PolyCollection)
    PolyCollection([], **style)
    return style


def percent(level: float) -> str:
    """Return a probability as it is written beside a line."""
    return f"{100 * level:.4g} %"


def font_size(texts: Sequence[str], inches: float) -> float:
    """Return a size of font at which each of some texts fits into a length."""
    longest = max(map(len, texts), default=1) or 1
    return min(10.0, max(4.0, 72 * inches / (POINTS_PER_LETTER * longest)))
