"""The way of an optimizer over the loss, in two chosen parameters."""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from ..data.batch import MONITOR
from ..hyperparameters import nearest, require_estimator
from ..parameters import Layout, Parameters
from ..typing import Array
from .figure import axes_for, pyplot

MARGIN = 0.25  # of the path's extent, to each side
SMALLEST_LEVEL = 1e-4  # of the surface's height above its lowest point


class OptimizerPathDisplay:
    """The path of two parameters during a fit, over the contours of the loss.

    The contours show the objective (loss and penalty) as a function of the two, with all other parameters where they
    ended. Of a model of two parameters that is the surface on which the optimizer moved; of a larger one it is a cut
    through it, and a path that seems to climb may have gone down in another direction.

    Parameters
    ----------
    path : ndarray of shape (n_epochs + 1, 2)
        The two parameters before training and after each epoch.
    names : tuple of str
        What they are called.
    grid : tuple of ndarray of shape (n_grid,), default=None
        Values of the first and of the second parameter at which the surface is known.
    surface : ndarray of shape (n_grid, n_grid), default=None
        The objective there; rows belong to the second parameter.
    estimator_name : str, default=None
        What the legend says.

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
                return {"height": d @ decay, "rate": -params["height"] * (d @ (X[:, 0] * decay))}
            return params["height"] * decay, pullback

        X = np.linspace(0, 3, 40)[:, None]
        y = 2.5 * np.exp(-1.3 * X[:, 0])
        display = None
        for optimizer in (SGD(0.3, momentum=0.9), "lbfgs"):
            start = {"height": 1.0, "rate": 0.2}
            model = AnalyticRegressor(vjp=vjp, init=start, optimizer=optimizer, n_iter_no_change=50)
            display = OptimizerPathDisplay.from_estimator(
                model, X, y, ax=display and display.ax_, surface=display is None
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
        """Fit a copy of an estimator, and draw the way of two of its parameters.

        Parameters
        ----------
        estimator : estimator of this package
            Need not be fitted, and is not changed: a clone without its callbacks is trained from the start.
        X : array-like of shape (n_samples, n_features)
            Rows to train on.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets, where the estimator takes them.
        params : tuple of two str, default=None
            Entries of the parameters: a block that is one number, ``"rate"``, or an entry of a larger one,
            ``"coef[0]"`` or ``"W[1, 2]"``. They need not be named where there are only two.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        name : str, default=None
            What the legend says; the optimizer by default.
        surface : bool, default=True
            Whether to draw the contours; not for a second path on the axes of the first.
        n_grid : int, default=50
            The surface is evaluated at so many values of each of the two.
        max_rows : int, default=1000
            Where there are more rows, the surface is that of about so many of them.
        line_kw : dict, default=None
            Of `matplotlib.axes.Axes.plot`, for the path.
        **fit_params : array-like
            What else `fit` takes: further data of the rows, for the callables that name it, and rows to validate on.

        Returns
        -------
        display : OptimizerPathDisplay
            Drawn.

        Raises
        ------
        TypeError
            For what is no estimator of this package.
        ValueError
            If ``params`` are not two entries of the parameters, and if a surface is asked for where there is no loss.
            Like all that can be refused, before anything is trained.
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        pyplot()
        require_estimator(cls.__name__, estimator)
        _style(line_kw)
        trained = clone(estimator)
        if hasattr(trained, "_skl_callbacks"):
            trained.set_callbacks()  # they are the user's, whose fit this is not
        places: list[int] = []
        path: list[Array] = []

        def watch(theta: Parameters) -> None:
            if not path:
                places.extend(_places(theta.layout, params))
                if surface:
                    _require_value(trained)
            path.append(theta.vector[places])

        trained._watch = watch
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            trained.fit(X, y, **weights, **fit_params)
        display = cls(
            np.array(path, dtype=float),
            tuple(_name(trained._layout, place) for place in places),
            estimator_name=name or type(trained.optimizer_).__name__,
        )
        if surface:
            objective, theta, rows = trained._prepare_surface(X, y, sample_weight, fit_params)
            batches = rows.sample(
                max(1, max_rows // rows.batch_size), MONITOR, batch_size=min(max_rows, rows.batch_size)
            )
            display._evaluate(objective, theta, places, batches, n_grid)
        return display.plot(ax, line_kw=line_kw)

    def _evaluate(self, objective: Any, theta: Any, places: list[int], batches: list[Any], n_grid: int) -> None:
        """Look at the objective on a grid around the path."""
        low, high = self.path.min(axis=0), self.path.max(axis=0)
        extent = np.where(high > low, high - low, np.maximum(1.0, np.abs(high)))
        self.grid = tuple(np.linspace(low - MARGIN * extent, high + MARGIN * extent, n_grid).T)
        self.surface = np.empty((n_grid, n_grid))
        with np.errstate(all="ignore"):  # beside the path a model may overflow
            for row, second in enumerate(self.grid[1]):
                for column, first in enumerate(self.grid[0]):
                    theta.vector[places] = first, second
                    self.surface[row, column] = objective.mean_value(theta, batches)

    def plot(self, ax: Any = None, *, name: str | None = None, line_kw: Mapping[str, Any] | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure by default.
        name : str, default=None
            What the legend says; ``estimator_name`` by default.
        line_kw : dict, default=None
            Of `matplotlib.axes.Axes.plot`, for the path.

        Returns
        -------
        display : OptimizerPathDisplay
            This display.
        """
        self.ax_ = axes_for(ax)
        self.figure_ = self.ax_.figure
        self.contour_ = None if self.surface is None else self._draw_surface(np.ma.masked_invalid(self.surface))
        name = self.estimator_name if name is None else name
        style = {"label": name} | _style(line_kw)
        (self.line_,) = self.ax_.plot(*self.path.T, **style)
        self.ax_.plot(*self.path[-1:].T, marker="*", markersize=10, linestyle="", color=self.line_.get_color())
        self.ax_.set(xlabel=self.names[0], ylabel=self.names[1])
        if name:
            self.ax_.legend()
        return self

    def _draw_surface(self, values: Any) -> Any:
        """Contours that are dense at the bottom, where they tell most."""
        lowest, height = values.min(), np.nanmedian(values.filled(np.nan)) - values.min()
        levels = lowest + 4 * (height or 1.0) * np.geomspace(SMALLEST_LEVEL, 1.0, 15)
        return self.ax_.contour(*(self.grid or ()), values, levels=levels, colors="0.75", linewidths=0.7, zorder=0)


def _style(line_kw: Mapping[str, Any] | None) -> dict[str, Any]:
    """How the path is drawn; matplotlib's error for what it does not know."""
    from matplotlib import cbook
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"marker": ".", "markersize": 4, "linewidth": 1}
    style |= cbook.normalize_kwargs(dict(line_kw or {}), Line2D)
    Line2D([], [], **style)
    return style


def _require_value(estimator: Any) -> None:
    """Raise if an estimator trains without a loss."""
    if not estimator._model.has_value and estimator._fitted_loss is None:
        raise ValueError(
            "The surface needs the value of the loss, but there is none: the gradient form was given with loss=None. "
            "surface=False draws the path alone; or name a loss, pass your own, or use loss_and_gradient."
        )


def _places(layout: Layout, params: Sequence[str] | None) -> list[int]:
    """Indices in the vector of the two entries that are meant."""
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
        raise ValueError(f"params must be two different entries; {tuple(params)} is one.")
    return places


def _place(layout: Layout, entry: str) -> int:
    found = re.fullmatch(r"(.*?)(?:\[([-\d, ]*)\])?", str(entry), flags=re.DOTALL)
    block, written = found.groups() if found else (entry, None)
    if block not in layout.names:
        raise ValueError(f"There is no block {block!r}.{nearest(block, layout.names)} There are: {_listed(layout)}.")
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
            f"{entry!r} is no single entry of block {block!r}, which has shape {shape}: {example!r} is one."
        )
    return int(entries.reshape(()))


def _name(layout: Layout, place: int) -> str:
    """What an entry of the vector is called."""
    at = next(i for i, where in enumerate(layout.slices) if where.start <= place < where.stop)
    index = np.unravel_index(place - layout.slices[at].start, layout.shapes[at])
    return layout.names[at] + (f"[{', '.join(map(str, index))}]" if layout.shapes[at] else "")


def _listed(layout: Layout) -> str:
    return ", ".join(f"{name!r} {shape}" for name, shape in zip(layout.names, layout.shapes, strict=True))
