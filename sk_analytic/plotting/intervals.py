"""Plots of parameters with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..readable import readable
from ..typing import Array, RandomState
from ..validation import check_range
from .figure import line_style, percent, pyplot, require_inference
from .labels import MARKERS, legend_above, params_of_inference, tell_apart
from .profiles import entries_of

ROW = 0.34  # inches of a parameter
WIDTH, MARGINS = 6.4, 1.1  # inches
SPREAD = 0.7  # of a row that the results beside each other take
SHIFT = "sk_analytic_shift"  # what a display's dots remember: by how much of a row they are moved


@readable
class IntervalsDisplay:
    """Plot each parameter as a dot with its interval.

    Several results share one axes: pass the ``ax_`` of the first display to the next. Parameters are matched by name,
    and intervals of the same parameter are drawn below each other.

    A hollow dot marks a parameter without an interval: it is fixed, on a bound, or not identified. An arrow marks the
    open end of an interval.

    Parameters
    ----------
    names : sequence of str
        Names of the parameters.
    estimates : array-like of shape (n_parameters,)
        Estimates of the parameters.
    intervals : array-like of shape (n_parameters, 2)
        Lower and upper ends of the intervals: NaN for none, infinite for an open end.
    name : str, default=None
        Label of the result in the legend.
    xlabel : str, default="parameter"
        Label of the axis of the values.

    Attributes
    ----------
    points_ : matplotlib Line2D
        The dots of parameters with an interval.
    hollow_ : matplotlib Line2D
        The dots of parameters without an interval.
    lines_ : matplotlib LineCollection
        The intervals, up to their finite ends.
    arrows_ : list of matplotlib Annotation
        Arrows at the open ends.
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    sk_analytic.Inference.confidence_intervals : The intervals as numbers.
    ProfileDisplay : The loss around the estimates.

    Examples
    --------
    .. plot::

        from sklearn.datasets import load_diabetes
        from sklearn.preprocessing import scale
        from sk_analytic import AnalyticRegressor, infer
        from sk_analytic.plotting import IntervalsDisplay

        X, y = load_diabetes(return_X_y=True)
        result = infer(AnalyticRegressor().fit(scale(X), y), scale(X), y)
        display = IntervalsDisplay.from_inference(result, parameters="coef")
        robust = infer(AnalyticRegressor().fit(scale(X), y), scale(X), y, covariance="HC3")
        IntervalsDisplay.from_inference(
            robust, parameters="coef", ax=display.ax_, name="95 % HC3"
        )
    """

    def __init__(
        self,
        names: Sequence[str],
        estimates: ArrayLike,
        intervals: ArrayLike,
        *,
        name: str | None = None,
        xlabel: str = "parameter",
    ) -> None:
        self.names = names
        self.estimates = estimates
        self.intervals = intervals
        self.name = name
        self.xlabel = xlabel
        self._params: Mapping[str, Any] | None = None  # by which two results of one name are told apart

    @classmethod
    def from_inference(
        cls,
        result: Any,
        *,
        parameters: str | Iterable[str] | None = None,
        level: float = 0.95,
        method: str = "wald",
        relative: bool = False,
        n_resamples: int = 999,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        ax: Any = None,
        name: str | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Plot the intervals of the parameters of an `Inference`.

        Parameters
        ----------
        result : Inference
            Result of `infer`.
        parameters : str or iterable of str, default=None
            Names of parameters or of entries; all by default.
        level : float, default=0.95
            Level of the intervals.
        method : {"wald", "profile", "bootstrap"}, default="wald"
            Method of the intervals; see `Inference.confidence_intervals`.
        relative : bool, default=False
            Whether to plot the distance from the estimate in standard errors, useful for parameters of very different
            size.
        n_resamples : int, default=999
            Number of resamples of the bootstrap.
        n_jobs : int, default=None
            Number of processes for profiles and resamples.
        random_state : int, RandomState instance or None, default=None
            Determines the resamples of the bootstrap.
        ax : matplotlib Axes, default=None
            Axes to draw on, such as the ``ax_`` of another display; those of a new figure by default.
        name : str, default=None
            Label in the legend; level and method by default, with the differing settings if another result has the same
            label.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for dots and intervals.

        Returns
        -------
        display : IntervalsDisplay
            The plotted display.

        Raises
        ------
        TypeError
            If ``result`` is not an `Inference`.
        ValueError
            If a name is unknown, or the method is not available for this result.
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        pyplot()
        require_inference(cls.__name__, result)
        _style(line_kw)
        check_range(cls.__name__, "relative", relative, bool)
        parameters = parameters if parameters is None or isinstance(parameters, str) else list(parameters)
        entries = entries_of(cls.__name__, result, parameters)
        intervals = result.confidence_intervals(
            level,
            method,
            parameters=parameters,
            n_resamples=n_resamples,
            n_jobs=n_jobs,
            random_state=random_state,
        )
        estimates, xlabel = result._estimate[entries], "parameter"
        if relative:
            errors = result._errors[entries]
            unit = np.where(errors > 0, errors, 1.0)[:, None]
            intervals = np.where(np.isnan(errors)[:, None], np.nan, (intervals - estimates[:, None]) / unit)
            estimates, xlabel = np.zeros(len(entries)), "distance from the estimate in standard errors"
        names = [result.names[entry] for entry in entries]
        default = f"{percent(level)} {'Wald' if method == 'wald' else method}"
        display = cls(names, estimates, intervals, name=default if name is None else name, xlabel=xlabel)
        display._params = params_of_inference(result) if name is None else None
        return display.plot(ax, line_kw=line_kw)

    def plot(self, ax: Any = None, *, name: str | None = None, line_kw: Mapping[str, Any] | None = None) -> Self:
        """Draw the dots and their intervals.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on, such as the ``ax_`` of another display; those of a new figure by default.
        name : str, default=None
            Label in the legend; that of the display by default.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for dots and intervals.

        Returns
        -------
        display : IntervalsDisplay
            This display.
        """
        plt = pyplot()
        style = _style(line_kw)
        if ax is None:
            size = (WIDTH, ROW * max(len(self.names), 2) + MARGINS)
            _, ax = plt.subplots(figsize=size, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        name = self.name if name is None else name
        rows = _rows_of(ax, self.names)
        shift = _make_room(ax)
        number = sum(hasattr(line, SHIFT) for line in ax.lines)
        marker = {"marker": MARKERS[number % len(MARKERS)] or "o"}
        self._draw(rows, shift, {"label": name or "_"} | marker | style)
        ax.set_xlabel(self.xlabel)
        ax.margins(x=0.08)
        is_chosen = name != self.name or "label" in style
        tell_apart(ax, self.points_, name, None if is_chosen else self._params)
        legend_above(ax)
        return self

    def _draw(self, rows: Array, shift: Any, style: dict[str, Any]) -> None:
        """Draw in rows, moved by some share of one."""
        from matplotlib.transforms import blended_transform_factory

        ax, moved = self.ax_, shift + self.ax_.transData
        estimates = np.asarray(self.estimates, dtype=np.float64)
        intervals = np.asarray(self.intervals, dtype=np.float64).reshape(-1, 2)
        has_none = np.isnan(intervals).any(axis=1) | (intervals[:, 0] == intervals[:, 1])
        dots = style | {"linestyle": ""}
        (self.points_,) = ax.plot(estimates[~has_none], rows[~has_none], transform=moved, zorder=3, **dots)
        setattr(self.points_, SHIFT, shift)
        color = self.points_.get_color()
        hollow = dots | {"label": None, "color": color, "markerfacecolor": "white"}
        (self.hollow_,) = ax.plot(estimates[has_none], rows[has_none], transform=moved, zorder=3, **hollow)
        finite = np.where(np.isfinite(intervals), intervals, estimates[:, None])[~has_none]
        width = self.points_.get_linewidth()
        self.lines_ = ax.hlines(
            rows[~has_none], *finite.T, transform=moved, colors=color, linewidth=width, alpha=style.get("alpha")
        )
        to_edge = blended_transform_factory(ax.transAxes, moved)
        arrow = {"arrowstyle": "->", "color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
        self.arrows_ = [
            ax.annotate("", (side, row), (estimate, row), xycoords=to_edge, textcoords=moved, arrowprops=arrow)
            for row, estimate, ends in zip(rows, estimates, intervals, strict=True)
            for side, end in enumerate(ends)
            if np.isinf(end)
        ]


def _style(line_kw: Mapping[str, Any] | None) -> dict[str, Any]:
    return line_style(line_kw, markersize=5, linewidth=1.6)


def _rows_of(ax: Any, names: Sequence[str]) -> Array:
    """Return the rows of parameters on axes, where another display may have some of them; label the rows."""
    is_shared = any(hasattr(line, SHIFT) for line in ax.lines)
    known = [label.get_text() for label in ax.get_yticklabels()] if is_shared else []
    known += [name for name in dict.fromkeys(names) if name not in known]
    ax.set_yticks(np.arange(len(known)), known)
    ax.set_ylim(len(known) - 0.5, -0.5)
    return np.array([known.index(name) for name in names], dtype=np.float64)


def _make_room(ax: Any) -> Any:
    """Move the displays on axes within their rows so that another one has room; return by how much that is moved."""
    from matplotlib.transforms import Affine2D

    shifts = [getattr(line, SHIFT) for line in ax.lines if hasattr(line, SHIFT)] + [Affine2D()]
    for number, shift in enumerate(shifts):
        shift.clear().translate(0, SPREAD * ((number + 0.5) / len(shifts) - 0.5))
    return shifts[-1]
