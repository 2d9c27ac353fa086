"""Plots of the joint confidence ellipses of parameters, two at a time."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from scipy import stats
from sklearn.utils import Bunch

from ..readable import readable
from ..typing import Array
from ..validation import check_range
from .figure import POINTS_PER_LETTER, font_size, line_style, percent, pyplot, require_inference
from .labels import HANDLE, MARKERS, SMALL, wrapped
from .profiles import SCALES, draw_profile, entries_with_errors, few_ticks, label_levels, quantiles_of, wald_curves

PANEL, SMALLEST, FIGURE = 2.3, 1.05, 11.0  # inches of a panel, of the smallest, and of a figure before panels shrink
N_ANGLES = 181
CENTRE = "_center"  # label of the mark of the estimates
DIAGONALS = ("wald", "profile")
# Of the second parameter given the first, and of the first given the second.
TRACES: tuple[dict[str, Any], ...] = (
    {"color": "#d55e00", "linestyle": "-."},
    {"color": "#cc79a7", "linestyle": ":"},
)
TRACE = "sk_analytic_trace"  # what tells traces from other lines
LEAST = 1.5  # inches of a panel from which the ellipses have room for their levels


@readable
class PairsDisplay:
    """Plot the joint confidence region of each pair of parameters, and the profile of each one.

    The panels below the diagonal show confidence ellipses from the covariance. An ellipse of level 0.95 contains both
    true values with this probability, so it is wider than the two intervals: in standard errors, it extends to the
    square root of twice the F quantile with 2 and ``df`` degrees of freedom, an interval to the t quantile. If
    `reparametrize` maps a parameter by itself, the ellipse is computed for the unconstrained parameter and then mapped,
    as Wald intervals are. Bounds clip it. Ellipses are labeled with their levels if there are at most seven parameters.

    The panels on the diagonal show the increase in deviance, as `ProfileDisplay` does with ``scale="rise"``: the Wald
    parabola and, on request, the profile. With profiles, the other panels show profile traces: the value of the second
    parameter that minimizes the loss as the first one varies. If the loss is quadratic, traces are straight lines
    through the points at which the ellipse is vertical or horizontal.

    Parameters
    ----------
    names : sequence of str
        Names of the parameters.
    estimates : array-like of shape (n_parameters,)
        The estimates.
    ellipses : dict of tuple (int, int) to dict of float to ndarray of shape (n_points, 2)
        For each pair of parameters (column, row) the ellipse of each level.
    wald : sequence of tuple (values, roots) of ndarray
        For each parameter, the curve of its Wald interval.
    quantiles : dict of float to float
        For each level, the root at which intervals end.
    curves : sequence of Bunch, default=None
        The profile of each parameter, as `Inference.profile` returns it, with ``params`` of these parameters.
    name : str, default=None
        Label in the legend.

    Attributes
    ----------
    lines_ : dict of tuple (int, int) to list of matplotlib Line2D
        The ellipses of each pair (row, column).
    trace_lines_ : dict of tuple (int, int) to list of matplotlib Line2D
        The traces of each pair.
    profile_lines_ : list of matplotlib Line2D
        The curves on the diagonal: profiles, or Wald's.
    axes_ : ndarray of shape (n_parameters, n_parameters)
        The panels; None above the diagonal.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    sk_analytic.Inference : Its ``covariance`` gives the ellipses.
    ProfileDisplay : Plot only the profiles.

    Examples
    --------
    .. plot::

        import numpy as np
        from sk_analytic import AnalyticRegressor, infer
        from sk_analytic.plotting import PairsDisplay

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
        PairsDisplay.from_inference(infer(model, X, y), diagonal="profile")
    """

    def __init__(
        self,
        names: Sequence[str],
        estimates: Any,
        ellipses: Mapping[tuple[int, int], Mapping[float, Array]],
        wald: Sequence[tuple[Array, Array]],
        quantiles: Mapping[float, float],
        *,
        curves: Sequence[Any] | None = None,
        name: str | None = None,
    ) -> None:
        self.names = names
        self.estimates = estimates
        self.ellipses = ellipses
        self.wald = wald
        self.quantiles = quantiles
        self.curves = curves
        self.name = name

    @classmethod
    def from_inference(
        cls,
        result: Any,
        *,
        parameters: str | Iterable[str] | None = None,
        levels: Sequence[float] = (0.68, 0.95),
        diagonal: str = "wald",
        n_points: int = 21,
        n_jobs: int | None = None,
        axes: Any = None,
        name: str | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Plot the pairs of parameters of an `Inference`.

        Parameters
        ----------
        result : Inference
            Result of `infer`.
        parameters : str or iterable of str, default=None
            Names of parameters or of entries; by default all that have a standard error.
        levels : sequence of float, default=(0.68, 0.95)
            Levels of the ellipses, and of the intervals on the diagonal.
        diagonal : {"wald", "profile"}, default="wald"
            Whether to compute the profile of each parameter, which evaluates the loss again.
        n_points : int, default=21
            Number of points of each profile.
        n_jobs : int, default=None
            Number of processes over the profiles.
        axes : array-like of matplotlib Axes of shape (n_parameters, n_parameters), default=None
            Axes to draw on, such as the ``axes_`` of another display; those of a new figure by default.
        name : str, default=None
            Label in the legend.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for ellipses and profiles.

        Returns
        -------
        display : PairsDisplay
            The plotted display.

        Raises
        ------
        TypeError
            If ``result`` is not an `Inference`.
        ValueError
            If a name is unknown, a parameter has no standard error, or the result has no profiles.
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        pyplot()
        require_inference(cls.__name__, result)
        line_style(line_kw)
        check_range(cls.__name__, "diagonal", diagonal, DIAGONALS)
        quantiles = quantiles_of(cls.__name__, result, levels)
        entries = entries_with_errors(cls.__name__, result, parameters)
        if len(set(entries)) < len(entries):
            raise ValueError(f"{cls.__name__}: parameters contains an entry twice.")
        if axes is not None:
            _panels(axes, len(entries))
        curves = None
        if diagonal == "profile":
            curves = result._curves(entries, max(quantiles), n_points, n_jobs)
            curves = [Bunch(**{**curve, "params": curve.params[:, entries]}) for curve in curves]
        display = cls(
            [result.names[entry] for entry in entries],
            result._estimate[entries],
            _ellipses(result, entries, list(quantiles)),
            wald_curves(result, entries, max(quantiles.values())),
            quantiles,
            curves=curves,
            name=name,
        )
        return display.plot(axes=axes, line_kw=line_kw)

    def plot(self, *, axes: Any = None, name: str | None = None, line_kw: Mapping[str, Any] | None = None) -> Self:
        """Draw a panel for each pair, and one for each parameter.

        Parameters
        ----------
        axes : array-like of matplotlib Axes of shape (n_parameters, n_parameters), default=None
            Axes to draw on; those of a new figure by default. Axes above the diagonal are not used.
        name : str, default=None
            Label in the legend; that of the display by default.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for ellipses and profiles.

        Returns
        -------
        display : PairsDisplay
            This display.
        """
        pyplot()
        style = line_style(line_kw)
        n = len(self.names)
        self.axes_ = _new_panels(n) if axes is None else _panels(axes, n)
        self.figure_ = self.axes_[0, 0].figure
        name = self.name if name is None else name
        if "color" not in style:
            style["color"] = self.axes_[0, 0]._get_lines.get_next_color()
        self.lines_: dict[tuple[int, int], list[Any]] = {}
        self.trace_lines_: dict[tuple[int, int], list[Any]] = {}
        self.profile_lines_: list[Any] = []
        for row in range(n):
            for column in range(row):
                self._draw_pair(row, column, style)
            ax, curve = self.axes_[row, row], None if self.curves is None else self.curves[row]
            label = {"label": name or "profile"} if curve is not None or name else {}
            drawn = draw_profile(ax, curve, *self.wald[row], self.quantiles, "rise", style | label)
            self.profile_lines_.append(drawn[0])
        if axes is None:
            self._label()
        if name or self.curves is not None:
            self._draw_legend()
        return self

    def _draw_pair(self, row: int, column: int, style: dict[str, Any]) -> None:
        ax, ellipses = self.axes_[row, column], self.ellipses[column, row]
        number = sum(line.get_label() == CENTRE for line in ax.lines)
        marker = MARKERS[number % len(MARKERS)]
        look = {"marker": marker, "markersize": 4, "markevery": N_ANGLES // 4} | style
        self.lines_[row, column] = [ax.plot(*points.T, **look)[0] for points in ellipses.values()]
        center = {"color": style["color"], "marker": marker or "+", "markersize": 6, "label": CENTRE}
        ax.plot(self.estimates[column], self.estimates[row], **center)
        self.trace_lines_[row, column] = []
        if self.curves is not None:
            for mover, moved, look in ((column, row, TRACES[0]), (row, column, TRACES[1])):
                names = (self.names[moved], self.names[mover])
                if len(self.names) > 2:
                    names = ("y-value", "x-value") if moved == row else ("x-value", "y-value")
                params = self.curves[mover].params
                (line,) = ax.plot(params[:, column], params[:, row], linewidth=1.3, marker=marker, markersize=3, **look)
                line.set(label="best {} given {}".format(*names), markevery=max(1, len(params) // 4), zorder=1.9)
                setattr(line, TRACE, True)
                self.trace_lines_[row, column].append(line)

    def _label(self) -> None:
        """Write the names at the left and below, and a few numbers."""
        n = len(self.names)
        side = _side(n)
        size = font_size(self.names, side) if n > 1 else 10.0
        ticks = SMALL if side >= LEAST else 7.0
        for row in range(n):
            for column in range(row + 1):
                ax = self.axes_[row, column]
                few_ticks(ax, 3, ticks)
                has_numbers = column == 0 or n == 1
                if row != column or has_numbers:
                    _few_rows(ax)
                ax.tick_params(axis="x", labelrotation=45 if side < 1.6 else 0, labelbottom=row == n - 1)
                ax.xaxis.offsetText.set_visible(row == n - 1)
                ax.tick_params(axis="y", labelleft=has_numbers, left=row != column or has_numbers)
                ax.yaxis.offsetText.set_visible(has_numbers)
                ax.xaxis.offsetText.set_fontsize(ticks)
                ax.yaxis.offsetText.set_fontsize(ticks)
            self.axes_[n - 1, row].set_xlabel(self.names[row], fontsize=size)
            if row:
                self.axes_[row, 0].set_ylabel(self.names[row], fontsize=size)
            label_levels(self.axes_[row, row], self.quantiles, "rise", with_room=row == n - 1)
        lines = [SCALES["rise"]] if side >= LEAST else textwrap.wrap(SCALES["rise"], 11)
        self.axes_[0, 0].set_ylabel("\n".join(lines), fontsize=font_size(lines, side))
        self.figure_.align_labels()
        if side >= LEAST:
            for pair, lines in self.lines_.items():
                traces = [_between(line) for line in self.trace_lines_[pair]]
                _label_ellipses(self.axes_[pair], list(self.quantiles), lines, traces, side)

    def _draw_legend(self) -> None:
        """Draw the legend in the upper right corner of the figure, where nothing else is drawn."""
        n = len(self.names)
        place: dict[str, Any] = {"loc": "upper center"}
        handles, labels = self.axes_[0, 0].get_legend_handles_labels()
        letters = int(72 * 3 / (SMALL * POINTS_PER_LETTER))
        if n > 1:
            place = {"loc": "upper right", "bbox_to_anchor": (1, 1), "bbox_transform": self.figure_.transFigure}
            traces = [line for line in self.axes_[1, 0].lines if hasattr(line, TRACE)][: len(TRACES)]
            handles, labels = [*handles, *traces], [*labels, *(line.get_label() for line in traces)]
            letters = int((72 * (n - 1) * _side(n) / SMALL - HANDLE) / POINTS_PER_LETTER)
        labels = [wrapped(label, letters) for label in labels]
        legend = self.axes_[0, 0].legend(handles, labels, fontsize="small", frameon=False, **place)
        legend.set_in_layout(False)


def _between(line: Any) -> Array:
    """Return points along a line, closer to each other than those that it was drawn through."""
    points = np.asarray(line.get_xydata(), dtype=np.float64)
    at = np.linspace(0, len(points) - 1, N_ANGLES)
    return np.stack([np.interp(at, np.arange(len(points)), along) for along in points.T], axis=1)


def _label_ellipses(
    ax: Any, levels: Sequence[float], lines: Sequence[Any], traces: Sequence[Array], side: float
) -> None:
    """Write the level of each ellipse on it, or beside all of them if they are too close to each other."""
    low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
    to_points = 72 * side / (high - low)
    ellipses, others = (
        [(points[np.isfinite(points).all(axis=1)] - low) * to_points for points in drawn]
        for drawn in ([np.asarray(line.get_xydata(), dtype=np.float64) for line in lines], traces)
    )
    if not all(map(len, ellipses)):
        return
    texts = [percent(level) for level in levels]
    spots = _spots_on(ellipses, others, texts, 72 * side)
    look = {"fontsize": SMALL, "color": lines[0].get_color(), "va": "center"}
    if spots is not None:
        behind = {"boxstyle": "square,pad=0.1", "facecolor": ax.get_facecolor(), "edgecolor": "none"}
        for text, spot in zip(texts, spots, strict=True):
            ax.annotate(text, spot / to_points + low, ha="center", bbox=behind, **look)
        return
    is_right = bool(np.cov(ellipses[-1].T)[0, 1] < 0)  # the side of their upper ends that is empty
    arrow = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
    for text, (end, spot) in zip(texts, _spots_beside(ellipses, is_right), strict=True):
        place = {"xytext": spot / to_points + low, "textcoords": "data", "ha": "left" if is_right else "right"}
        ax.annotate(text, end / to_points + low, arrowprops=arrow, **place, **look)


def _spots_on(ellipses: Sequence[Array], others: Sequence[Array], texts: Sequence[str], side: float) -> Any:
    """Return where on ellipses there is most room for a text, in points; None if one would cover another line."""
    spots: list[Array] = []
    for number, (ellipse, text) in enumerate(zip(ellipses, texts, strict=True)):
        size = SMALL * np.array([POINTS_PER_LETTER * (len(text) + 1.5), 1.5])
        written = [spot + size * [[-0.5, 0], [0, 0], [0.5, 0]] for spot in spots]
        drawn = [*ellipses[:number], *ellipses[number + 1 :], *others, *written]
        distances = [
            np.abs((ellipse[:, None] - points) / size).max(axis=2).min(axis=1, initial=np.inf) for points in drawn
        ]
        room = np.min([*distances, np.full(len(ellipse), np.inf)], axis=0)
        inside = np.all((ellipse > size / 2) & (ellipse < side - size / 2), axis=1)
        best = int(np.argmax(np.where(inside, room, -1.0)))
        if not inside[best] or room[best] < 0.5:
            return None
        spots.append(ellipse[best])
    return spots


def _spots_beside(ellipses: Sequence[Array], is_right: bool) -> Iterator[tuple[Array, Array]]:
    """Yield the upper end of each ellipse, and a place at its height for a text beside all of them, in points."""
    spots = {}
    height = np.inf
    outer = ellipses[-1]
    for number in reversed(range(len(ellipses))):
        end = ellipses[number][np.argmax(ellipses[number][:, 1])]
        height = min(end[1] - SMALL / 2, height - 1.4 * SMALL)
        near = outer[np.abs(outer[:, 1] - height) < SMALL, 0]
        edge = (near.max(initial=end[0]) + SMALL) if is_right else (near.min(initial=end[0]) - SMALL)
        spots[number] = end, np.array([edge, height])
    yield from (spots[number] for number in range(len(ellipses)))


def _side(n: int) -> float:
    """Return the inches of a panel."""
    return max(SMALLEST, min(PANEL, FIGURE / n)) if n > 1 else 3.2


def _new_panels(n: int) -> Any:
    """Return the axes of a new figure; None above the diagonal."""
    size = _side(n) * n + 0.8
    _, axes = pyplot().subplots(n, n, figsize=(size, size), sharex="col", layout="constrained", squeeze=False)
    axes = axes.astype(object)
    for above in zip(*np.triu_indices(n, 1), strict=True):
        axes[above].remove()
        axes[above] = None
    for row in range(1, n):
        for column in range(1, row):
            axes[row, column].sharey(axes[row, 0])
    return axes


def _panels(axes: Any, n: int) -> Any:
    """Return the axes that were given; None above the diagonal."""
    given = np.array(axes, dtype=object)
    if given.shape != (n, n):
        if given.size != n * n:
            raise ValueError(
                f"PairsDisplay: axes must have shape ({n}, {n}), one row and column per parameter; got {given.shape}."
            )
        given = given.reshape(n, n)
    given[np.triu_indices(n, 1)] = None
    return given


def _few_rows(ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))


def _ellipses(
    result: Any, entries: Sequence[int], levels: Sequence[float]
) -> dict[tuple[int, int], dict[float, Array]]:
    """Return the ellipse of each pair and level, as points in the parameters."""
    angles = np.linspace(0, 2 * math.pi, N_ANGLES)
    found: dict[tuple[int, int], dict[float, Array]] = {}
    for level in levels:
        radius = joint_quantile(level, result.df)
        across = radius * np.cos(angles)
        at_columns = result._away(across)
        for position, row in enumerate(entries):
            for place, column in enumerate(entries[:position]):
                share = result.correlation[row, column]
                up = share * across + radius * math.sqrt(max(0.0, 1 - share**2)) * np.sin(angles)
                points = np.stack([at_columns[:, column], result._away(up)[:, row]], axis=1)
                found.setdefault((place, position), {})[level] = points
    return found


def joint_quantile(level: float, df: float) -> float:
    """Return how far the joint confidence region of two parameters reaches, in standard errors."""
    squared = stats.chi2.ppf(level, 2) if math.isinf(df) else 2 * stats.f.ppf(level, 2, df)
    return math.sqrt(float(squared))
