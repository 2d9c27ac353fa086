"""The path of an optimizer on the loss surface, in two chosen parameters."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from ..data.batch import MONITOR
from ..hyperparameters import require_estimator
from ..parameters import Layout, Parameters
from ..readable import readable
from ..typing import Array
from ..validation import nearest
from .figure import axes_for, line_style, pyplot
from .labels import MARKERS, legend_above, name_of, params_of, tell_apart

MARGIN = 0.25  # of the extent of the paths, by which the surface reaches beyond them to each side
EDGE = 0.05  # of the extent of the paths, between them and the frame
END = "_end"  # label of the last point of a path
START_MARK: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 8, "markerfacecolor": "white"}
END_MARK: dict[str, Any] = {"linestyle": "", "marker": "*", "markersize": 10}
END_MARK |= {"markeredgecolor": "black", "markeredgewidth": 0.5}
NEXT_END, LARGEST_END = 5, 24  # points by which the star of an earlier path is larger, and of the largest star
APART = 0.025  # least distance of the dots of a path, of the diagonal of the axes
SMALLEST_LEVEL = 1e-4  # of the surface's height above its lowest point


@readable
class OptimizerPathDisplay:
    """Plot the path of two parameters during a fit, on the contours of the loss.

    The contours show the objective (loss and penalty) as a function of the two parameters, with all others at their
    final values. For a model with two parameters, that is the surface on which the optimizer moved. For a larger model
    it is a cut through it, and a path that seems to climb may descend in another direction.

    A path begins at a circle and ends at a star. Its dots are epochs; dots that would overlap are left out. To compare
    optimizers, pass the ``ax_`` of one display to the next. The frame contains all paths. Draw the surface with the
    last one: its contours cover all paths. Optimizers of one class are labeled by the hyperparameters in which they
    differ.

    Parameters
    ----------
    path : ndarray of shape (n_epochs + 1, 2)
        The two parameters before training and after each epoch.
    names : tuple of str
        Names of the two parameters.
    grid : tuple of ndarray of shape (n_grid,), default=None
        Values of the first and of the second parameter at which the surface was evaluated.
    surface : ndarray of shape (n_grid, n_grid), default=None
        The objective on the grid; its rows belong to the second parameter.
    estimator_name : str, default=None
        Label of the path in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The path.
    contour_ : matplotlib ContourSet or None
        The surface.
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    .. plot::

        import numpy as np
        from sk_analytic import AnalyticRegressor
        from sk_analytic.optimizers import SGD
        from sk_analytic.plotting import OptimizerPathDisplay

        def vjp(params, X):
            decay = np.exp(-params["rate"] * X[:, 0])
            def pullback(d):
                slope = -params["height"] * X[:, 0] * decay
                return {"height": d @ decay, "rate": d @ slope}
            return params["height"] * decay, pullback

        X = np.linspace(0, 3, 40)[:, None]
        y = 2.5 * np.exp(-1.3 * X[:, 0])
        display = None
        for optimizer in (SGD(0.3), SGD(0.3, momentum=0.9), "lbfgs"):
            start = {"height": 1.0, "rate": 0.2}
            model = AnalyticRegressor(
                vjp=vjp, init=start, optimizer=optimizer, n_iter_no_change=50
            )
            display = OptimizerPathDisplay.from_estimator(
                model, X, y, ax=display and display.ax_, surface=optimizer == "lbfgs"
            )
    """

    def __init__(
        self,
        path: Array,
        names: tuple[str, ...],
        *,
        grid: tuple[Array, ...] | None = None,
        surface: Array | None = None,
        estimator_name: str | None = None,
    ) -> None:
        self.path = path
        self.names = names
        self.grid = grid
        self.surface = surface
        self.estimator_name = estimator_name
        self._params: Mapping[str, Any] | None = None  # by which two estimators of one name are told apart

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        params: Sequence[str] | None = None,
        sample_weight: ArrayLike | None = None,
        ax: Any = None,
        name: str | None = None,
        surface: bool = True,
        n_grid: int = 50,
        max_rows: int = 1000,
        line_kw: Mapping[str, Any] | None = None,
        **fit_params: Any,
    ) -> Self:
        """Fit a copy of an estimator and plot the path of two of its parameters.

        Parameters
        ----------
        estimator : estimator of this package
            Estimator to train. It is not changed: a clone without callbacks is trained from its starting parameters.
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets, if the estimator takes them.
        params : tuple of two str, default=None
            The two entries to plot: ``"rate"`` for a parameter that is a number, and ``"coef[0]"`` or ``"W[1, 2]"`` for
            an entry of an array. Not needed if the model has only two entries.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        ax : matplotlib Axes, default=None
            Axes to draw on, such as the ``ax_`` of another display; those of a new figure by default.
        name : str, default=None
            Label of the path in the legend; the optimizer by default, with hyperparameters if another path has the same
            one.
        surface : bool, default=True
            Whether to draw the contours, over all paths on the axes. Set it to False for all but one of them.
        n_grid : int, default=50
            Number of values of each parameter at which the surface is evaluated.
        max_rows : int, default=1000
            Largest number of samples on which the surface is evaluated, approximately.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for the path.
        **fit_params : array-like
            Further arguments of `fit`: sample metadata and validation data.

        Returns
        -------
        display : OptimizerPathDisplay
            The plotted display.

        Raises
        ------
        TypeError
            If ``estimator`` is not one of this package.
        ValueError
            If ``params`` are not two entries of the parameters, or if there is no loss for the surface. Raised
            before training.
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        pyplot()
        require_estimator(cls.__name__, estimator)
        _style(line_kw)
        fit = _WatchedFit(estimator, X, y, sample_weight, fit_params)
        start, _ = fit.prepared(goes_on=False)
        places = _places(start.objective.layout, params)
        names = tuple(_name(start.objective.layout, place) for place in places)
        if surface:
            _require_value(start.objective)
        path = fit.run(places)
        trained = fit.estimator
        display = cls(path, names, estimator_name=name or name_of(trained))
        display._params = None if name else params_of(estimator)
        if surface:
            end, rows = fit.prepared(goes_on=True, seed=trained._training.seed)
            batch_size = min(max_rows, rows[-1].batch_size)
            batches = rows[-1].sample(max(1, max_rows // rows[-1].batch_size), MONITOR, batch_size=batch_size)
            paths = [path, *(line.get_xydata() for line in getattr(ax, "lines", []))]
            display._evaluate(end.objective, trained._read_params(), places, batches, n_grid, np.concatenate(paths))
        return display.plot(ax, line_kw=line_kw)

    def _evaluate(
        self, objective: Any, theta: Any, places: list[int], batches: list[Any], n_grid: int, points: Array
    ) -> None:
        """Evaluate the objective on a grid around some points."""
        low, high = points.min(axis=0), points.max(axis=0)
        extent = np.where(high > low, high - low, np.maximum(1.0, np.abs(high)))
        self.grid = tuple(np.linspace(low - MARGIN * extent, high + MARGIN * extent, n_grid).T)
        self.surface = np.empty((n_grid, n_grid))
        with np.errstate(all="ignore"):  # beside the path a model may overflow
            for row, second in enumerate(self.grid[1]):
                for column, first in enumerate(self.grid[0]):
                    theta.vector[places] = first, second
                    self.surface[row, column] = objective.mean_value(theta, batches)

    def plot(self, ax: Any = None, *, name: str | None = None, line_kw: Mapping[str, Any] | None = None) -> Self:
        """Draw the path and the surface.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; those of a new figure by default.
        name : str, default=None
            Label of the path in the legend; ``estimator_name`` by default.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for the path.

        Returns
        -------
        display : OptimizerPathDisplay
            This display.
        """
        self.ax_ = axes_for(ax)
        self.figure_ = self.ax_.figure
        self.contour_ = None if self.surface is None else self._draw_surface(np.ma.masked_invalid(self.surface))
        name = self.estimator_name if name is None else name
        number = sum(line.get_label() == END for line in self.ax_.lines)
        marker: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)] or "o"}
        if len(self.path) > 1 and np.isfinite(self.path).all():
            marker["markevery"] = APART
        (self.line_,) = self.ax_.plot(*self.path.T, **({"label": name or "_"} | marker | _style(line_kw)))
        color = self.line_.get_color()
        self.ax_.plot(*self.path[:1].T, label="_start", color=color, zorder=1.9, **START_MARK)
        self.ax_.plot(*self.path[-1:].T, label=END, color=color, zorder=3, **END_MARK)
        ends = [line for line in self.ax_.lines if line.get_label() == END]
        for later, line in enumerate(reversed(ends)):  # of ends at one place, each is seen around the next
            line.set_markersize(min(END_MARK["markersize"] + NEXT_END * later, LARGEST_END))
        self.ax_.set(xlabel=self.names[0], ylabel=self.names[1])
        _frame(self.ax_)
        is_chosen = name != self.estimator_name or "label" in (line_kw or {})
        tell_apart(self.ax_, self.line_, name, None if is_chosen else self._params)
        legend_above(self.ax_, symbols=_symbols())
        return self

    def _draw_surface(self, values: Any) -> Any:
        """Draw contours that are dense near the minimum."""
        if not values.count():
            return None
        lowest = values.min()
        height = float(np.median(values.compressed())) - lowest
        levels = np.unique(lowest + 4 * (height or 1.0) * np.geomspace(SMALLEST_LEVEL, 1.0, 15))
        return self.ax_.contour(*(self.grid or ()), values, levels=levels, colors="0.75", linewidths=0.7, zorder=0)


class _WatchedFit:
    """A fit of a copy of an estimator that records two entries of its parameters, at the start and after each epoch.

    Parameters
    ----------
    estimator : estimator of this package
        Not changed.
    X, y, sample_weight : array-like
    fit_params : dict
        What else `fit` takes.
    """

    def __init__(self, estimator: Any, X: ArrayLike, y: Any, sample_weight: Any, fit_params: Mapping[str, Any]) -> None:
        self.estimator = clone(estimator)
        if hasattr(self.estimator, "_skl_callbacks"):
            self.estimator.set_callbacks()  # the user's callbacks are for the user's fits
        self.samples = X, y, sample_weight
        self.validation = tuple(fit_params.get(f"{name}_val") for name in ("X", "y", "sample_weight"))
        self.metadata = {name: fit_params[name] for name in fit_params.keys() - {"X_val", "y_val", "sample_weight_val"}}

    def prepared(self, *, goes_on: bool, seed: int = 0) -> Any:
        """The training where the fit would start, or where it has ended, and its rows."""
        names = self.estimator._metadata_names("partial_fit")
        metadata = {name: values for name, values in self.metadata.items() if name in names}
        return self.estimator._prepare_start(*self.samples, metadata, goes_on=goes_on, seed=seed)

    def run(self, places: list[int]) -> Array:
        """Train, and return the two entries, a row for each time."""
        points: list[Array] = []

        def watch(theta: Parameters) -> None:
            points.append(theta.as_given.vector[places])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.estimator._fit_arrays(*self.samples, self.metadata, self.validation, watch)
        return np.array(points, dtype=float)


def _style(line_kw: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how to draw the path."""
    return line_style(line_kw, markersize=3, linewidth=1.2)


def _symbols() -> list[Any]:
    """Return what the marks of the first and of the last point of a path look like, for the legend."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], label="start", color="0.4", **START_MARK),
        Line2D([], [], label="end", color="0.4", **END_MARK),
    ]


def _frame(ax: Any) -> None:
    """Set the limits that are not the user's so that all surfaces and paths are inside."""
    paths = np.concatenate([np.asarray(line.get_xydata(), dtype=np.float64) for line in ax.lines])
    paths = paths[np.isfinite(paths).all(axis=1)]
    if not len(paths):
        return
    for number, (limits, axis) in enumerate((("xlim", ax.xaxis), ("ylim", ax.yaxis))):
        if axis.get_scale() != "linear" or not getattr(ax, f"get_autoscale{limits[0]}_on")():
            continue
        low, high = paths[:, number].min(), paths[:, number].max()
        edge = EDGE * (high - low) or EDGE * max(1.0, abs(high))
        drawn = ax.dataLim.get_points()[:, number]
        known = drawn[np.isfinite(drawn)]
        getattr(ax, f"set_{limits}")(min([low - edge, *known]), max([high + edge, *known]), auto=True)


def _require_value(objective: Any) -> None:
    """Raise if training has no loss."""
    if not objective.has_value:
        raise ValueError(
            "The surface needs a loss, but gradient was given with loss=None. Use surface=False to draw only the path, "
            "pass a loss by name or as a function, or use loss_and_gradient."
        )


def _places(layout: Layout, params: Sequence[str] | None) -> list[int]:
    """Indices of the two named entries in the vector."""
    if params is None:
        if layout.size != 2:
            raise ValueError(
                f"params must name two entries of the {layout.size} in {_listed(layout)}: "
                'params=("rate", "height"), or ("coef[0]", "W[1, 2]").'
            )
        return [0, 1]
    if isinstance(params, str) or len(params) != 2:
        raise ValueError(f"params must be two names of entries; got {params!r}.")
    places = [_place(layout, entry) for entry in params]
    if places[0] == places[1]:
        raise ValueError(f"params must be two different entries; got {tuple(params)}.")
    return places


def _place(layout: Layout, entry: str) -> int:
    found = re.fullmatch(r"(.*?)(?:\[([-\d, ]*)\])?", str(entry), flags=re.DOTALL)
    block, written = found.groups() if found else (entry, None)
    if block not in layout.names:
        raise ValueError(
            f"There is no parameter {block!r}.{nearest(block, layout.names)} Available: {_listed(layout)}."
        )
    at = layout.names.index(block)
    shape, where = layout.shapes[at], layout.slices[at]
    try:
        index = tuple(int(part) for part in written.split(",")) if written else ()
        entries = np.arange(where.start, where.stop).reshape(shape)[index]
    except (IndexError, ValueError):
        entries = np.empty(0)
    if entries.size != 1:
        example = f"{block}[{', '.join('0' * len(shape))}]" if shape else block
        raise ValueError(
            f"{entry!r} is not a single entry of {block!r}, which has shape {shape}. Use an entry such as {example!r}."
        )
    return int(entries.reshape(()))


def _name(layout: Layout, place: int) -> str:
    """Return the name of an entry of the vector."""
    at = next(i for i, where in enumerate(layout.slices) if where.start <= place < where.stop)
    index = np.unravel_index(place - layout.slices[at].start, layout.shapes[at])
    return layout.names[at] + (f"[{', '.join(map(str, index))}]" if layout.shapes[at] else "")


def _listed(layout: Layout) -> str:
    return ", ".join(f"{name!r} {shape}" for name, shape in zip(layout.names, layout.shapes, strict=True))
