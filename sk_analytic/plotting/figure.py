"""The import of matplotlib, when something is drawn and not before."""

from typing import Any


def pyplot() -> Any:
    """Return `matplotlib.pyplot`; raise an error that names the extra if it is not installed."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("Drawing needs matplotlib, which is not installed: pip install sk-analytic[plot]") from error
    return plt


def axes_for(ax: Any) -> Any:
    """Return the axes to draw on: those given, or those of a new figure."""
    return pyplot().subplots(layout="constrained")[1] if ax is None else ax
