"""Plots of analytic against numerical derivatives, entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..gradient_check import compare_entries
from ..gradient_check.check import of_callables
from ..hyperparameters import require_estimator
from ..readable import readable
from ..typing import MatrixLike, Params, RandomState
from .figure import POINTS_PER_LETTER, font_size, pyplot
from .labels import SMALL

SMALLEST_ERROR, LARGEST_ERROR = 1e-10, 1e1  # the colors' range
TICKS = [1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1e0]
TOLERANCE = 1e-4  # relative error from which an entry is shown as wrong
AGREES, DIFFERS = "agrees", "differs: relative error above 1e\N{MINUS SIGN}4"  # as numbers on axes
STRIP = 0.2  # height of the heat map of a vector, of its width
FEW_CELLS = 30  # along an axis of a heat map, up to which cells are separated
# Told apart by shape and by lightness as well, and blue from orange by everybody.
RIGHT = {"marker": "o", "s": 16, "c": "#0072b2", "linewidths": 0, "zorder": 2}
WRONG = {"marker": "x", "s": 34, "c": "#d55e00", "linewidths": 1.8, "zorder": 3}


@readable
class GradientCheckDisplay:
    """Plot analytic against numerical derivatives, entry by entry.

    For each block (parameter array), the left panel plots the analytic derivative of every entry against the numerical
    one. Correct entries are dots on the identity line. Entries whose relative error is larger than 1e-4 are crosses.
    The right panel shows the relative error of every entry in the shape of the block, with a cross on each wrong entry,
    so that a wrong row, column or triangle is easy to see. A block of a single entry has no heat map. Large blocks are
    compared on an even grid of entries.

    Parameters
    ----------
    entries : list of Entries
        The compared entries, from `from_estimator` or `from_callables`.

    Attributes
    ----------
    entries : list of Entries
        For each block its ``block``, ``shape``, ``analytic``, ``numerical``, ``indices`` and ``relative_error``.
    figure_ : matplotlib.figure.Figure
        The figure.
    axes_ : ndarray of shape (n_blocks, 2)
        The panels; None for the heat map of a single entry.

    See Also
    --------
    sk_analytic.check_gradient : Verdicts and diagnosis.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.plotting import GradientCheckDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> display = GradientCheckDisplay.from_estimator(
    ...     AnalyticRegressor(), X, X[:, 0], random_state=0
    ... )
    >>> [
    ...     (entries.block, bool(entries.relative_error.max() < 1e-6))
    ...     for entries in display.entries
    ... ]
    [('coef', True), ('intercept', True)]
    """

    def __init__(self, entries: Any) -> None:
        self.entries = entries

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        params: Params | None = None,
        sample_weight: ArrayLike | None = None,
        blocks: str | Iterable[str] | None = None,
        max_entries: int = 400,
        random_state: RandomState = None,
        plot: bool = True,
        **metadata: Any,
    ) -> GradientCheckDisplay:
        """Compare the gradient of an estimator and plot the result.

        Parameters
        ----------
        estimator : estimator of this package
            Estimator to check, at its ``params_`` if it is fitted, otherwise at its starting parameters.
        X : array-like of shape (n_samples, n_features)
            Samples. A few dozen are enough.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets, if the estimator takes them.
        params : structure, default=None
            Parameters near which to compare, instead of those of the estimator.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        blocks : str or iterable of str, default=None
            Blocks to compare, by name; all by default.
        max_entries : int, default=400
            Largest number of entries to compare in a block; each takes at least four evaluations of the loss.
        random_state : int, RandomState instance or None, default=None
            Determines the starting parameters, and the point near them at which the gradients are compared.
        plot : bool, default=True
            Whether to draw if matplotlib is installed. The method `plot` draws in any case.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the callables that name it.

        Returns
        -------
        display : GradientCheckDisplay
            The display, plotted if ``plot`` is True and matplotlib is installed.

        Raises
        ------
        TypeError
            If ``estimator`` is not one of this package.
        """
        require_estimator(cls.__name__, estimator)
        objective, theta, batch, seed = estimator._prepare_check(X, y, sample_weight, random_state, metadata, params)
        display = cls(compare_entries(objective, theta, batch, seed=seed, blocks=blocks, max_entries=max_entries))
        return display._drawn(plot)

    @classmethod
    def from_callables(
        cls,
        loss: Callable[..., Any],
        gradient: Callable[..., Any],
        params: Params,
        X: MatrixLike = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        blocks: str | Iterable[str] | None = None,
        max_entries: int = 400,
        random_state: int = 0,
        plot: bool = True,
        **metadata: Any,
    ) -> GradientCheckDisplay:
        """Compare the gradient of plain functions and plot the result.

        Parameters
        ----------
        loss : callable
            ``loss(params, X, y) -> float``, or ``loss(params)``.
        gradient : callable
            ``gradient(params, X, y) -> grads``, or ``gradient(params)``.
        params : structure
            The parameters near which to compare.
        X : array-like of shape (n_samples, n_features), default=None
            Data, if the functions take it.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets, if the functions take them.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        blocks : str or iterable of str, default=None
            Blocks to compare, by name; all by default.
        max_entries : int, default=400
            Largest number of entries to compare in a block; each takes at least four evaluations of the loss.
        random_state : int, default=0
            Determines the point near ``params`` at which the gradients are compared.
        plot : bool, default=True
            Whether to draw if matplotlib is installed. The method `plot` draws in any case.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the callables that name it.

        Returns
        -------
        display : GradientCheckDisplay
            The display, plotted if ``plot`` is True and matplotlib is installed.
        """
        objective, theta, batch = of_callables(loss, gradient, params, X, y, sample_weight, metadata)
        entries = compare_entries(objective, theta, batch, seed=random_state, blocks=blocks, max_entries=max_entries)
        return cls(entries)._drawn(plot)

    def _drawn(self, plot: bool) -> GradientCheckDisplay:
        """This display, drawn if that is asked for and possible."""
        if plot:
            try:
                pyplot()
            except ImportError:
                return self
            self.plot()
        return self

    def plot(self, *, axes: Any = None) -> GradientCheckDisplay:
        """Draw two panels for each block.

        Parameters
        ----------
        axes : ndarray of matplotlib Axes of shape (n_blocks, 2), default=None
            Axes to draw on; those of a new figure by default.

        Returns
        -------
        display : GradientCheckDisplay
            This display, with ``figure_`` and ``axes_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        pyplot()
        n = len(self.entries)
        is_new = axes is None
        has_map = [_has_map(entries) for entries in self.entries]
        if is_new:
            self.figure_, self.axes_ = _new_panels(has_map)
        else:
            self.axes_ = np.array(axes, dtype=object).reshape(n, 2)
        if not n:
            return self
        self.figure_ = self.axes_[0, 0].figure
        side = _arrangement(n)[1]
        image = None
        for entries, panels in zip(self.entries, self.axes_, strict=True):
            _draw_identity(panels[0], entries, side)
            if _has_map(entries):
                image = _draw_errors(panels[1], entries, side)
            elif panels[1] is not None:
                panels[1].set_axis_off()
                panels[1] = None
        if image is not None:
            self._draw_bar(image, is_new)
        if is_new:
            handles = [drawn for drawn in self.axes_[0, 0].collections if drawn.get_label() in (AGREES, DIFFERS)]
            self.figure_.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize="small")
        return self

    def _draw_bar(self, image: Any, is_new: bool) -> None:
        """Draw the color bar to the right of the heat maps."""
        panels = [ax for ax in (self.axes_ if is_new else self.axes_[:, 1]).flat if ax is not None]
        n_rows = len({ax.get_subplotspec().rowspan.start for ax in panels}) if is_new else 1
        height = 1 if n_rows <= 3 else 2  # rows
        place = {"shrink": height / n_rows, "anchor": (0.0, 1.0), "panchor": False} if n_rows > height else {}
        bar = self.figure_.colorbar(image, ax=panels, ticks=TICKS, location="right", **place)
        bar.set_label("relative error of an entry", fontsize="small")
        bar.ax.yaxis.set_major_formatter(lambda value, _: _with_minus(f"1e{round(np.log10(value))}"))
        bar.ax.tick_params(labelsize="small")


def _has_map(entries: Any) -> bool:
    """Return whether a block has more entries than one, so that there is something to see in a heat map."""
    return int(np.prod(entries.shape)) != 1


def _arrangement(n: int) -> tuple[int, float]:
    """Return how many blocks stand beside each other, and the inches of a panel's side."""
    return (1, 3.0) if n <= 3 else (2, 2.3) if n <= 12 else (3, 1.9)


def _new_panels(has_map: Sequence[bool]) -> tuple[Any, Any]:
    """Return a new figure and its axes: two beside each other for a block with a heat map, one for another."""
    across, side = _arrangement(len(has_map))
    n_columns = min(2 * across, max(1, sum(1 + two for two in has_map)))
    places, place = [], 0
    for two in has_map:
        place += two and place % n_columns == n_columns - 1  # both in one row
        places.append(place)
        place += 1 + two
    n_rows = max(1, -(-place // n_columns))
    size = (n_columns * (side + 0.4) + 0.5, n_rows * (side + 0.25) + 0.4)
    figure, axes = pyplot().subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)
    used = np.full((len(has_map), 2), None, dtype=object)
    for number, (place, two) in enumerate(zip(places, has_map, strict=True)):
        used[number, : 1 + two] = axes.flat[place : place + 1 + two]
    for ax in axes.flat:
        if ax not in used.flat:
            ax.remove()
    return figure, used


def _numbers() -> Any:
    """Return how numbers on all axes are written: each in full, so that none has a factor elsewhere."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: _written(value))


def _written(value: float) -> str:
    """Return a number with three digits: 0.015, 1200, 1e-8."""
    text = f"{value:.3g}"
    if "e" in text:
        digits, exponent = text.split("e")
        text = str(int(float(text))) if 0 < int(exponent) < 4 else f"{digits}e{int(exponent)}"
    return _with_minus(text)


def _with_minus(text: str) -> str:
    """Return a number with the minus signs of all other numbers on axes."""
    from matplotlib.ticker import ScalarFormatter

    return str(ScalarFormatter.fix_minus(text))


def _draw_identity(ax: Any, entries: Any, side: float) -> None:
    """Plot analytic against numerical derivatives, and the identity line."""
    from matplotlib.ticker import MaxNLocator

    numerical, analytic = entries.numerical.ravel(), entries.analytic.ravel()
    finite = np.isfinite(numerical) & np.isfinite(analytic)
    both = np.concatenate([numerical[finite], analytic[finite]])
    low, high = (both.min(), both.max()) if both.size else (0.0, 1.0)
    margin = max(0.05 * (high - low), 0.05 * np.abs(both).max(initial=0.0)) or 1.0  # rounding is no difference
    ends = [low - margin, high + margin]
    ax.plot(ends, ends, color="0.6", linewidth=1, zorder=1)
    wrong = _is_wrong(entries).ravel()
    for chosen, label, look in ((finite & ~wrong, AGREES, RIGHT), (finite & wrong, DIFFERS, WRONG)):
        ax.scatter(numerical[chosen], analytic[chosen], label=label, **look)
    n_wrong = np.count_nonzero(wrong)
    title = [
        f"{entries.block} {entries.shape}" if entries.shape else entries.block,
        "the entry " + ("differs" if n_wrong else "agrees"),
    ]
    if wrong.size > 1:
        title[1] = f"{n_wrong} of {wrong.size} entries differ" if n_wrong else f"all {wrong.size} entries agree"
    ax.set_title("\n".join(title), loc="left", fontsize=font_size(title, (1 + _has_map(entries)) * (side + 0.35)))
    ax.set(xlim=ends, ylim=ends, xlabel="numerical", ylabel="analytic")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(_numbers())
        axis.set_major_locator(
            MaxNLocator(5 if side > 2.5 else 4 if side > 2 else 3, min_n_ticks=2, steps=[1, 2, 5, 10])
        )
    ax.tick_params(labelsize="small")
    ax.set_aspect("equal")


def _is_wrong(entries: Any) -> Any:
    """Return which entries differ, or are not finite."""
    return ~(entries.relative_error <= TOLERANCE)


def _draw_errors(ax: Any, entries: Any, side: float) -> Any:
    """Relative error by entry as a heat map in the shape of the block, axes beyond the second side by side."""
    from matplotlib.colors import LogNorm

    errors = entries.relative_error
    shape = (errors.shape[0], -1) if errors.ndim > 1 else (1, -1)
    table = errors.reshape(shape)
    table = np.clip(np.nan_to_num(table, nan=LARGEST_ERROR, posinf=LARGEST_ERROR), SMALLEST_ERROR, LARGEST_ERROR)
    norm = LogNorm(SMALLEST_ERROR, LARGEST_ERROR)
    image = ax.imshow(table, norm=norm, cmap="cividis", aspect="auto", interpolation="nearest")
    size = min(6.0, 40 * side / max(table.shape))  # points, within a cell
    rows, columns = np.nonzero(_is_wrong(entries).reshape(shape))
    ax.plot(columns, rows, linestyle="", marker="x", markersize=size, color="black", label=DIFFERS)
    ax.set(xlabel=f"axis {errors.ndim - 1}", ylabel="axis 0" if errors.ndim > 1 else "")
    ax.tick_params(labelsize="small")
    if errors.ndim < 2:
        ax.set_yticks([])
        ax.set_box_aspect(STRIP)
    if max(table.shape) <= FEW_CELLS:
        ax.set_xticks(np.arange(0.5, table.shape[1] - 1), minor=True)
        ax.set_yticks(np.arange(0.5, table.shape[0] - 1), minor=True)
        ax.grid(which="minor", color="white", linewidth=0.8)
        ax.tick_params(which="minor", length=0)
    _label_ticks(ax.xaxis, entries.indices[-1], table.shape[1], side)
    if errors.ndim > 1:
        _label_ticks(ax.yaxis, entries.indices[0], table.shape[0], side)
    return image


def _label_ticks(axis: Any, indices: Any, length: int, side: float) -> None:
    """Label as many of the compared entries by their index in the block as have room."""
    if len(indices) != length:
        axis.set_ticks([])  # several axes of the block lie side by side
        return
    letters = len(str(indices[-1])) + 1 if axis.axis_name == "x" else 2
    most = max(2, min(6, int(72 * side / (2 * letters * POINTS_PER_LETTER * SMALL))))
    places = np.arange(0, length, -(-length // most))
    axis.set_ticks(places, [str(indices[place]) for place in places])
