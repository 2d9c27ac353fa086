"""matplotlib, which is imported when something is drawn."""

from typing import Any


def pyplot() -> Any:
    """Return `matplotlib.pyplot`; an error that names the extra where it is not installed."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("Drawing needs matplotlib, which is not installed: pip install sk-analytic[plot]") from error
    return plt


def axes_for(ax: Any) -> Any:
    """Return the axes to draw on: those given, or those of a new figure."""
    return pyplot().subplots(layout="constrained")[1] if ax is None else ax
