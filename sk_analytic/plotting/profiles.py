"""Plots of the loss around the estimates, minimized over all parameters but one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy.interpolate import PchipInterpolator

from ..readable import readable
from ..typing import Array
from ..validation import Interval, check_range
from .figure import font_size, line_style, panels_for, percent, pyplot, require_inference
from .labels import MARKERS, legend_above, params_of_inference, tell_apart

PANEL = (2.7, 2.3)  # inches
LEVEL = Interval(0, 1, closed="neither")
SCALES = {"root": "signed root deviance", "rise": "increase in deviance"}
ENDS = "_ends"  # label of the marks on a profile
N_WALD = 61  # points of a Wald curve
OWN_LINE = 15  # points by which a label moves down
BESIDE = 0.25  # of the range of a profile, which Wald's curve is drawn beyond it
N_BETWEEN = 201  # points of a smooth line through those of a profile


@readable
class ProfileDisplay:
    """Plot the profile of each parameter: the rise of the loss, minimized over all others, as this one varies.

    The rise is that of the negative log-likelihood, and twice the rise is the increase in deviance. The signed root of
    this increase (signed root deviance) is a straight line if the Wald interval is accurate, and a curve if it is not;
    the dashed line belongs to the Wald interval. Horizontal lines mark the levels of intervals: the interval of a level
    lies between the points at which the curve crosses its lines.

    Parameters
    ----------
    names : sequence of str
        Names of the parameters.
    curves : sequence of Bunch
        Points of each profile, with ``value`` and ``rise``, as `Inference.profile` returns them.
    estimates : array-like of shape (n_parameters,)
        The estimates.
    wald : sequence of tuple (values, roots) of ndarray
        For each parameter, the curve of its Wald interval.
    quantiles : dict of float to float
        For each level to mark, the root at which its intervals end.
    name : str, default=None
        Label of the profiles in the legend.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The profiles.
    wald_lines_ : list of matplotlib Line2D
        The curves of the Wald intervals.
    marks_ : list of matplotlib Line2D
        The ends of the intervals on each profile.
    axes_ : ndarray of matplotlib Axes of shape (n_parameters,)
        The panels.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    sk_analytic.Inference.profile : The points as numbers.
    PairsDisplay : Two parameters at a time.

    Examples
    --------
    .. plot::

        import numpy as np
        from sk_analytic import AnalyticRegressor, infer
        from sk_analytic.plotting import ProfileDisplay

        # Puromycin: the rate of a reaction at concentrations of a substrate
        # (Bates and Watts, 1988)
        X = np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.1], 2)[:, None]
        y = np.array([76.0, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200])

        def forward(params, X):
            return params["Vm"] * X[:, 0] / (params["K"] + X[:, 0])

        def jacobian(params, X):
            share = X[:, 0] / (params["K"] + X[:, 0])
            return {"Vm": share, "K": -params["Vm"] * share / (params["K"] + X[:, 0])}

        start = {"Vm": 200.0, "K": 0.1}
        model = AnalyticRegressor(forward, jacobian=jacobian, init=start).fit(X, y)
        ProfileDisplay.from_inference(infer(model, X, y))
    """

    def __init__(
        self,
        names: Sequence[str],
        curves: Sequence[Any],
        estimates: Any,
        wald: Sequence[tuple[Array, Array]],
        quantiles: Mapping[float, float],
        *,
        name: str | None = None,
    ) -> None:
        self.names = names
        self.curves = curves
        self.estimates = estimates
        self.wald = wald
        self.quantiles = quantiles
        self.name = name
        self._params: Mapping[str, Any] | None = None  # by which two results of one name are told apart

    @classmethod
    def from_inference(
        cls,
        result: Any,
        *,
        parameters: str | Iterable[str] | None = None,
        levels: Sequence[float] = (0.8, 0.95, 0.99),
        scale: str = "root",
        n_points: int = 21,
        n_jobs: int | None = None,
        axes: Any = None,
        name: str | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Plot the profiles of the parameters of an `Inference`.

        Parameters
        ----------
        result : Inference
            Result of `infer`.
        parameters : str or iterable of str, default=None
            Names of parameters or of entries; by default all that have a standard error.
        levels : sequence of float, default=(0.8, 0.95, 0.99)
            Levels to mark. The curves span the intervals of the largest.
        scale : {"root", "rise"}, default="root"
            Whether to plot the signed root deviance, or the increase in deviance, which is its square.
        n_points : int, default=21
            Number of points of each profile.
        n_jobs : int, default=None
            Number of processes over the parameters.
        axes : array-like of matplotlib Axes, default=None
            One axes per parameter, such as the ``axes_`` of another display; a new figure by default.
        name : str, default=None
            Label of the profiles in the legend; "profile" by default, with the differing settings if another result has
            the same label.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for the profiles.

        Returns
        -------
        display : ProfileDisplay
            The plotted display.

        Raises
        ------
        TypeError
            If ``result`` is not an `Inference`.
        ValueError
            If a name is unknown, a parameter has no standard error, or the result has no profiles, because its
            covariance is robust or the model has no loss.
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        pyplot()
        require_inference(cls.__name__, result)
        line_style(line_kw)
        check_range(cls.__name__, "scale", scale, tuple(SCALES))
        quantiles = quantiles_of(cls.__name__, result, levels)
        entries = entries_with_errors(cls.__name__, result, parameters)
        if axes is not None:
            panels_for(cls.__name__, axes, len(entries), 1, PANEL)
        curves = result._curves(entries, max(quantiles), n_points, n_jobs)
        wald = wald_curves(result, entries, max(quantiles.values()))
        names, estimates = [result.names[entry] for entry in entries], result._estimate[entries]
        display = cls(names, curves, estimates, wald, quantiles, name="profile" if name is None else name)
        display._params = params_of_inference(result) if name is None else None
        return display.plot(axes=axes, scale=scale, line_kw=line_kw)

    def plot(
        self,
        *,
        axes: Any = None,
        scale: str = "root",
        name: str | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw a panel for each parameter.

        Parameters
        ----------
        axes : array-like of matplotlib Axes, default=None
            One axes per parameter; a new figure by default.
        scale : {"root", "rise"}, default="root"
            Whether to plot the signed root deviance, or the increase in deviance, which is its square.
        name : str, default=None
            Label of the profiles in the legend; that of the display by default.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for the profiles.

        Returns
        -------
        display : ProfileDisplay
            This display.
        """
        pyplot()
        check_range(type(self).__name__, "scale", scale, tuple(SCALES))
        name = self.name if name is None else name
        style = {"label": name or "_"} | line_style(line_kw)
        n_columns = 4 if len(self.names) > 6 or len(self.names) == 4 else 3
        self.axes_ = panels_for(type(self).__name__, axes, len(self.names), n_columns, PANEL)
        self.figure_ = self.axes_[0].figure
        self.lines_: list[Any] = []
        self.wald_lines_: list[Any] = []
        self.marks_: list[Any] = []
        for at, (ax, curve, (values, roots)) in enumerate(zip(self.axes_, self.curves, self.wald, strict=True)):
            drawn = draw_profile(ax, curve, values, roots, self.quantiles, scale, style)
            for line, lines in zip(drawn, (self.lines_, self.wald_lines_, self.marks_), strict=True):
                lines.append(line)
            ax.set_xlabel(self.names[at], fontsize=font_size([self.names[at]], PANEL[0] - 0.6))
            few_ticks(ax)
            label_levels(ax, self.quantiles, scale)
            if axes is None and at % n_columns == 0:
                ax.set_ylabel(SCALES[scale], fontsize=font_size([SCALES[scale]], PANEL[1] - 0.5))
        is_chosen = name != self.name or "label" in (line_kw or {})
        tell_apart(self.axes_[0], self.lines_[0], name, None if is_chosen else self._params)
        legend_above(self.axes_[0])
        return self


def draw_profile(
    ax: Any,
    curve: Any,
    values: Array,
    roots: Array,
    quantiles: Mapping[float, float],
    scale: str,
    style: dict[str, Any],
) -> tuple[Any, Any, Any]:
    """Draw a profile, that of Wald's interval and the ends of intervals; ``curve`` may be None for Wald's alone.

    Returns
    -------
    lines : tuple of Line2D
        The profile, Wald's, and the marks.
    """
    number = sum(other.get_label() == ENDS for other in ax.lines)
    marker = {"marker": MARKERS[number % len(MARKERS)] or "o", "markersize": 3}
    style = marker | {"markevery": []} | style  # the marks are drawn below; the legend shows theirs
    if curve is None:
        known_values, known_roots = values, roots
        (line,) = ax.plot(values, _on(scale, roots), **style)
        wald_line = line
    else:
        known_values, known_roots = curve.value, roots_of(curve)
        distinct, first = np.unique(known_values, return_index=True)
        values_between = np.union1d(np.linspace(distinct[0], distinct[-1], N_BETWEEN), distinct)
        between = PchipInterpolator(distinct, known_roots[first])(values_between)
        (line,) = ax.plot(values_between, _on(scale, between), **style)
        is_first = not any(other.get_label() == "Wald" for other in ax.lines)
        label = "Wald" if is_first else "_Wald"
        margin = BESIDE * (distinct[-1] - distinct[0])
        near = (distinct[0] - margin <= values) & (values <= distinct[-1] + margin)
        values, roots = values[near], roots[near]
        (wald_line,) = ax.plot(values, _on(scale, roots), color="0.3", linestyle="--", linewidth=0.9, label=label)
    ends = [
        (end, sign * quantile)
        for quantile in quantiles.values()
        for sign in (-1, 1)
        for end in [crossing(known_values, known_roots, sign * quantile)]
        if np.isfinite(end)
    ]
    at, height = np.array(ends).reshape(-1, 2).T
    (marks,) = ax.plot(at, _on(scale, height), linestyle="", color=line.get_color(), label=ENDS, **marker)
    heights = {
        float(_on(scale, np.array(sign * quantile))) for quantile in quantiles.values() for sign in signs_of(scale)
    }
    drawn = {float(np.atleast_1d(other.get_ydata())[0]) for other in ax.lines if other.get_label() == "_level"}
    for level in heights - drawn:
        ax.axhline(level, color="0.8", linewidth=0.8, zorder=0, label="_level")
    highest = max(quantiles.values())
    top = float(_on(scale, np.array(highest)))
    ax.set_ylim(-1.08 * top if scale == "root" else -0.04 * top, 1.12 * top)
    return line, wald_line, marks


def label_levels(ax: Any, quantiles: Mapping[float, float], scale: str, *, with_room: bool = True) -> None:
    """Write the levels beside their lines, to the right of the axes; if ``with_room``, these make room for them."""
    place = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "va": "center", "ha": "left"}
    written = {text.get_text() for text in ax.texts}
    for level, quantile in quantiles.items():
        for sign in signs_of(scale):
            if percent(level) not in written:
                height = float(_on(scale, np.array(sign * quantile)))
                text = ax.annotate(percent(level), (1, height), (3, 0), fontsize="small", color="0.4", **place)
                text.set_in_layout(with_room)


def few_ticks(ax: Any, n: int = 4, size: str | float = "small") -> None:
    """Keep the numbers below narrow axes from touching each other, and the label from touching their common factor."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(n, min_n_ticks=2))
    ax.tick_params(labelsize=size)
    ax.xaxis.offsetText.set_fontsize(size)
    formatter = ax.xaxis.get_major_formatter()
    formatter.set_locs(ax.xaxis.get_majorticklocs())
    if formatter.get_offset():
        ax.xaxis.labelpad = OWN_LINE


def roots_of(curve: Any) -> Array:
    """Return the signed roots of the rises along a profile."""
    rises = np.asarray(curve.rise, dtype=np.float64).clip(0)
    below = np.arange(len(rises)) < int(np.argmin(rises))
    roots: Array = np.where(below, -1.0, 1.0) * np.sqrt(rises)
    return roots


def crossing(values: Array, roots: Array, root: float) -> float:
    """Return the value nearest to the estimate at which a profile has some signed root; NaN for none."""
    middle = int(np.argmin(np.abs(roots)))
    side = slice(middle, None) if root > 0 else slice(middle, None, -1)
    along, heights = values[side], np.abs(roots[side])
    (over,) = np.nonzero(heights >= abs(root) * (1 - 1e-4))
    if not len(over):
        return float("nan")
    last = int(over[0]) + 1
    along, heights = along[:last], np.maximum.accumulate(heights[:last])
    rising = np.r_[True, np.diff(heights) > 0]
    if rising.sum() < 2:
        return float(along[-1])
    interpolated = PchipInterpolator(heights[rising], along[rising])
    return float(interpolated(min(abs(root), heights[-1])))


def signs_of(scale: str) -> tuple[int, ...]:
    """Return the signs of the roots at which the line of a level is drawn."""
    return (1, -1) if scale == "root" else (1,)


def _on(scale: str, roots: Array) -> Array:
    return roots if scale == "root" else roots**2


def quantiles_of(owner: str, result: Any, levels: Sequence[float]) -> dict[float, float]:
    """Return the roots at which intervals of some levels end."""
    levels = [levels] if isinstance(levels, float | int | str) else list(levels)
    if not levels:
        raise ValueError(f"{owner}: levels must have at least one level, such as 0.95.")
    for level in levels:
        check_range(owner, "levels", level, LEVEL)
    return {float(level): result._quantile(level) for level in sorted(levels)}


def entries_of(owner: str, result: Any, parameters: str | Iterable[str] | None) -> list[int]:
    """Return the numbers of the entries that are named, at least one."""
    entries: list[int] = result._entries(parameters)
    if not entries:
        raise ValueError(
            f"{owner}: parameters={parameters!r} names no entry. Available: {', '.join(result.names[:5])}."
        )
    return entries


def entries_with_errors(owner: str, result: Any, parameters: str | Iterable[str] | None) -> list[int]:
    """Return the numbers of the entries that are named; of all, those that have a standard error."""
    entries = entries_of(owner, result, parameters)
    has_error = result._errors[entries] > 0
    without = [result.names[entry] for entry, has in zip(entries, has_error, strict=True) if not has]
    if without and (parameters is not None or not has_error.any()):
        some = ", ".join(without[:5]) + ", ..." * (len(without) > 5)
        raise ValueError(
            f"{owner}: {some} cannot be plotted without a standard error: fixed, on a bound, or not identified. Choose "
            "other parameters."
        )
    return [entry for entry, has in zip(entries, has_error, strict=True) if has]


def wald_curves(result: Any, entries: Sequence[int], quantile: float) -> list[tuple[Array, Array]]:
    """Return values of parameters and their distances from the estimates in standard errors, as Wald's intervals go."""
    roots = np.linspace(-1.1 * quantile, 1.1 * quantile, N_WALD)
    values = result._away(roots)
    return [(values[:, entry], roots) for entry in entries]
