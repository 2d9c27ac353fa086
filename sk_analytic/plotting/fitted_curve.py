"""Plots of a fitted curve over one feature, with its bands and the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.utils import Bunch, check_consistent_length

from ..readable import readable
from ..typing import Array, MatrixLike
from ..validation import Interval, check_range, nearest
from .figure import axes_for, fill_style, line_style, percent, pyplot, require_inference
from .labels import DASHES, MARKERS, legend_above

BAND_NAMES = {"mean": "confidence band", "observation": "prediction band"}  # in the legend
BANDS = ("auto", "mean", "observation", "both", None)
COUNT = Interval(2, np.inf, integral=True)
RUG = 0.035  # between the rows of points of classes, of the height from 0 to 1
CURVE = "sk_analytic_curve"  # what tells the curves of displays from other lines
MARGIN = 0.03  # of the range of the feature, to each side of it


@readable
class FittedCurveDisplay:
    """Plot the prediction of a fitted model along one feature, with confidence and prediction bands, and the data.

    At each value of the feature, the inner band contains the mean of y with a given probability; the outer band
    contains a new observation. All other features are held at one value. Points show the data themselves, so with
    several features they also scatter around the curve because the other features vary.

    For a classifier, the curve is the probability of a class: of the second class if there are two, otherwise one curve
    per class. Points are 1 for samples of the class and 0 for others; with several classes, points are drawn in rows
    above 1.

    Parameters
    ----------
    grid : ndarray of shape (n_grid,)
        Values of the feature.
    curves : sequence of Bunch
        For each curve its ``value``, and ``mean`` and ``observation``: tuples (low, high) of a band, or None. All are
        ndarrays of shape (n_grid,).
    points : sequence of tuple (x, y) of ndarray, default=()
        The data for each curve.
    labels : sequence of str or None, default=None
        Label of each curve in the legend.
    feature_name : str, default="x0"
        Label of the axis of the feature.
    target_name : str, default="y"
        Label of the axis of the curve.
    level : float, default=0.95
        Level of the bands, for the legend.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The curves.
    mean_bands_ : list of matplotlib PolyCollection or None
        The confidence bands.
    observation_bands_ : list of matplotlib PolyCollection or None
        The prediction bands.
    points_ : list of matplotlib Line2D or None
        The data.
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    sk_analytic.Inference.predict : The bands as numbers.

    Examples
    --------
    .. plot::

        import numpy as np
        from sk_analytic import AnalyticRegressor, infer
        from sk_analytic.plotting import FittedCurveDisplay

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
        display = FittedCurveDisplay.from_inference(infer(model, X, y), X, y)
        display.ax_.set(xlabel="concentration (ppm)", ylabel="rate (counts/min²)")
    """

    def __init__(
        self,
        grid: Array,
        curves: Sequence[Any],
        *,
        points: Sequence[tuple[Array, Array]] = (),
        labels: Sequence[str | None] | None = None,
        feature_name: str = "x0",
        target_name: str = "y",
        level: float = 0.95,
    ) -> None:
        self.grid = grid
        self.curves = curves
        self.points = points
        self.labels = labels
        self.feature_name = feature_name
        self.target_name = target_name
        self.level = level

    @classmethod
    def from_inference(
        cls,
        result: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        feature: int | str = 0,
        at: Mapping[int | str, float] | None = None,
        grid: ArrayLike | None = None,
        n_grid: int = 200,
        band: str | None = "auto",
        level: float = 0.95,
        target: Any = None,
        ax: Any = None,
        name: str | None = None,
        line_kw: Mapping[str, Any] | None = None,
        band_kw: Mapping[str, Any] | None = None,
        points_kw: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> Self:
        """Plot the curve of an `Inference` along a feature.

        Parameters
        ----------
        result : Inference
            Result of `infer`.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, which determine the range of the feature and the medians of the others.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets of the samples, drawn as points; no points if None.
        feature : int or str, default=0
            Index or column name of the feature.
        at : dict of int or str to float, default=None
            Values at which other features are held, by index or name; their medians in ``X`` by default.
        grid : array-like of shape (n_grid,), default=None
            Values of the feature; by default an even grid over its range in ``X`` and a little beyond.
        n_grid : int, default=200
            Size of this even grid.
        band : {"auto", "mean", "observation", "both"} or None, default="auto"
            Bands to draw: of the mean, of a new observation, or both. "auto" draws both for the squared error, and the
            mean for other losses and with precision weights, which have no band of observations.
        level : float, default=0.95
            Level of the bands.
        target : int or label, default=None
            Output of a regressor with several outputs, or class of a classifier. By default all outputs, the second of
            two classes, or all of more classes.
        ax : matplotlib Axes, default=None
            Axes to draw on, such as the ``ax_`` of another display; those of a new figure by default.
        name : str, default=None
            Label of the curve in the legend.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for the curves.
        band_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.fill_between` for the bands.
        points_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for the data.
        **metadata : float, or array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it. It is held at its median, or at the number given.

        Returns
        -------
        display : FittedCurveDisplay
            The plotted display.

        Raises
        ------
        TypeError
            If ``result`` is not an `Inference`.
        ValueError
            If the feature or the target does not exist, or the band is not available for the loss.
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        pyplot()
        require_inference(cls.__name__, result)
        _styles(line_kw, band_kw, points_kw)
        check_range(cls.__name__, "band", band, BANDS)
        check_range(cls.__name__, "n_grid", n_grid, COUNT)
        columns = _Columns(cls.__name__, X, getattr(result._model, "feature_names_in_", None))
        number = columns.number(feature)
        values = columns.values(number)
        check_consistent_length(values, y)
        if grid is None:
            grid = np.linspace(*_range_of(values), n_grid)
        grid = np.asarray(grid, dtype=np.float64)
        if grid.ndim != 1 or len(grid) < 2:
            raise ValueError(
                f"{cls.__name__}: grid must have at least two values of the feature; got shape {grid.shape}."
            )
        rows = columns.held(number, grid, at or {})
        held = {key: _held(cls.__name__, key, given, len(values), len(grid)) for key, given in metadata.items()}
        has_observations = result._problem.has_observations
        kinds = {"auto": ("mean", "observation") if has_observations else ("mean",), "both": ("mean", "observation")}
        chosen = () if band is None else kinds.get(band, (band,))
        predicted = {kind: result.predict(rows, interval=kind, level=level, **held) for kind in chosen or (None,)}
        outputs = _Outputs(cls.__name__, result, y, next(iter(predicted.values())).value, target)
        curves = [_curve(predicted, column) for column in outputs.columns]
        labels: list[str | None] = list(outputs.labels)
        if name is not None:
            labels = [name if label is None else f"{name}, {label}" for label in labels]
        display = cls(
            grid,
            curves,
            points=[] if y is None else outputs.points(values),
            labels=labels,
            feature_name=columns.names[number],
            target_name=outputs.name,
            level=level,
        )
        return display.plot(ax, line_kw=line_kw, band_kw=band_kw, points_kw=points_kw)

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        line_kw: Mapping[str, Any] | None = None,
        band_kw: Mapping[str, Any] | None = None,
        points_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the curves, their bands and the data.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; those of a new figure by default.
        name : str, default=None
            Label of the curve in the legend, if there is one curve; that of the display by default.
        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for the curves.
        band_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.fill_between` for the bands.
        points_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot` for the data.

        Returns
        -------
        display : FittedCurveDisplay
            This display.
        """
        pyplot()
        line, fill, dots = _styles(line_kw, band_kw, points_kw)
        self.ax_ = ax = axes_for(ax)
        self.figure_ = ax.figure
        labels = list(self.labels or [None] * len(self.curves))
        if name is not None and len(labels) == 1:
            labels = [name]
        self.lines_, self.points_ = [], []
        self.mean_bands_: list[Any] = []
        self.observation_bands_: list[Any] = []
        for at, (curve, label) in enumerate(zip(self.curves, labels, strict=True)):
            number = sum(hasattr(other, CURVE) for other in ax.lines)
            is_only = len(self.curves) == 1 and label is None
            names = ("fitted curve", "data") if is_only else (label or "_curve", "_data")
            look = {"label": names[0], "linestyle": DASHES[number % len(DASHES)], "zorder": 3}
            (drawn,) = ax.plot(self.grid, curve.value, **(look | line))
            setattr(drawn, CURVE, True)
            self.lines_.append(drawn)
            color = {"color": drawn.get_color()}
            for kind, opacity, bands in (
                ("mean", 0.3, self.mean_bands_),
                ("observation", 0.12, self.observation_bands_),
            ):
                ends = curve.get(kind)
                text = f"{percent(self.level)} {BAND_NAMES[kind]}" if is_only else None
                own = color | {"alpha": opacity, "linewidth": 0, "zorder": 1, "label": text}
                bands.append(None if ends is None else ax.fill_between(self.grid, *ends, **(own | fill)))
            if len(self.points):
                look = color | {"label": names[1], "marker": MARKERS[number % len(MARKERS)] or "o", "zorder": 2}
                (points,) = ax.plot(*self.points[at], **(look | dots))
                self.points_.append(points)
            else:
                self.points_.append(None)
        ax.set(xlabel=self.feature_name, ylabel=self.target_name)
        legend_above(ax)
        return self


def _styles(line_kw: Any, band_kw: Any, points_kw: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    points = {"linestyle": "", "markersize": 4, "alpha": 0.7, "markeredgewidth": 0}
    return line_style(line_kw), fill_style(band_kw), line_style(points_kw, **points)


def _range_of(values: Array) -> tuple[float, float]:
    """Return the range of a feature with a margin that leaves its sign: no time or concentration is negative."""
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low) or 1.0
    return max(low - margin, 0.0) if low >= 0 else low - margin, min(high + margin, 0.0) if high <= 0 else high + margin


def _curve(predicted: Mapping[str | None, Bunch], column: int | None) -> Bunch:
    """Return a curve with its bands, of a column of what was predicted."""

    def of(values: Array) -> Array:
        return values if column is None else values[:, column]

    first = next(iter(predicted.values()))
    bands = {kind: (of(found.low), of(found.high)) for kind, found in predicted.items() if kind}
    return Bunch(**({"value": of(first.value), "mean": None, "observation": None} | bands))


class _Columns:
    """The features of some samples, in whatever container they came.

    Parameters
    ----------
    owner : str
        Who asks, for messages.
    X : array-like, sparse matrix or data frame
    names : array-like of str or None
        Of the features, as the estimator knows them.
    """

    def __init__(self, owner: str, X: Any, names: Any) -> None:
        self.owner, self.X = owner, X
        if not sparse.issparse(X) and not hasattr(X, "columns"):
            self.X = np.asarray(X)
        if len(self.X.shape) != 2 or not self.X.shape[0]:
            raise ValueError(f"{owner}: X must be of shape (n_samples, n_features), not empty; got {self.X.shape}.")
        self.n = int(self.X.shape[1])
        self.is_named = hasattr(X, "columns") or names is not None
        given = list(X.columns) if hasattr(X, "columns") else names
        self.names = [str(name) for name in given] if given is not None else [f"x{number}" for number in range(self.n)]

    def number(self, feature: int | str) -> int:
        """Return the index of a feature by its index or name."""
        if isinstance(feature, str):
            if self.is_named and feature in self.names:
                return self.names.index(feature)
            if not self.is_named:
                raise ValueError(
                    f"{self.owner}: there is no feature {feature!r}: X has {self.n} columns without names."
                )
            hint = nearest(feature, self.names)
            listed = ", ".join(self.names[:20]) + ", ..." * (self.n > 20)
            raise ValueError(f"{self.owner}: there is no feature {feature!r}.{hint} X has: {listed}.")
        if not isinstance(feature, Integral) or not -self.n <= feature < self.n:
            raise ValueError(f"{self.owner}: there is no feature {feature!r}: X has {self.n} features.")
        return int(feature) % self.n

    def values(self, number: int) -> Array:
        """Return a column as floats."""
        if sparse.issparse(self.X):
            return np.asarray(sparse.csc_array(self.X)[:, [number]].toarray(), dtype=np.float64).ravel()
        if hasattr(self.X, "columns"):
            return np.asarray(self.X[self.X.columns[number]], dtype=np.float64)
        return np.asarray(self.X[:, number], dtype=np.float64)

    def held(self, number: int, grid: Array, at: Mapping[int | str, float]) -> Any:
        """Return rows along a feature, with the others at the values given or at their medians, as X came."""
        rows = np.empty((len(grid), self.n))
        fixed = {self.number(feature): value for feature, value in at.items()}
        if number in fixed:
            raise ValueError(
                f"{self.owner}: at contains {self.names[number]!r}, the feature of the curve. Leave it out."
            )
        for column in range(self.n):
            if column != number:
                rows[:, column] = fixed[column] if column in fixed else np.median(self.values(column))
        rows[:, number] = grid
        if sparse.issparse(self.X):
            return sparse.csr_array(rows)
        if hasattr(self.X, "columns"):
            return type(self.X)(dict(zip(self.X.columns, rows.T, strict=True)))
        return rows


def _held(owner: str, name: str, given: Any, n_samples: int, n_grid: int) -> Array:
    """Return metadata for the grid: the number given, or the median of those of the samples."""
    values = np.asarray(given)
    if values.ndim:
        if len(values) != n_samples:
            raise ValueError(
                f"{owner}: {name} must be a number, or have one row for each of the {n_samples} samples; got "
                f"{len(values)} rows."
            )
        values = np.median(values, axis=0)
    return np.broadcast_to(values, (n_grid, *values.shape)).copy()


class _Outputs:
    """Which columns of predictions are drawn, what they are called, and the data for each.

    Parameters
    ----------
    owner : str
        Who asks, for messages.
    result : Inference
    y : array-like or None
    value : ndarray
        Predictions.
    target : int, label or None
    """

    def __init__(self, owner: str, result: Any, y: Any, value: Array, target: Any) -> None:
        self.y = None if y is None else np.asarray(y)
        self.classes = getattr(result._model, "classes_", None)
        self.is_multilabel = self.classes is not None and result._model._class_targets.multilabel
        if value.ndim > 2:
            raise ValueError(f"{owner} requires predictions of shape (n,) or (n, k); got shape {value.shape}.")
        known: list[Any] = list(range(value.shape[1])) if value.ndim == 2 else [0]
        if self.classes is not None:
            known = self.classes.tolist()
        if target is not None and target not in known:
            raise ValueError(f"{owner}: target={target!r} is not one of {', '.join(map(repr, known))}.")
        chosen = known if target is None else [target]
        if target is None and self.classes is not None and not self.is_multilabel and len(known) == 2:
            chosen = known[1:]
        self.chosen = chosen
        self.columns = [known.index(one) if value.ndim == 2 else None for one in chosen]
        named = str(getattr(y, "name", None) or "y")
        word = "label" if self.is_multilabel else named if named != "y" else "class"
        self.labels: list[str | None] = [None]
        if len(chosen) > 1:
            self.labels = [f"{word if self.classes is not None else named} {one}" for one in chosen]
        self.name = named
        if self.classes is not None:
            self.name = "probability" if len(chosen) > 1 else f"probability of {word} {chosen[0]}"
        elif len(chosen) == 1 and len(known) > 1:
            self.name = f"{named} {chosen[0]}"

    def points(self, x: Array) -> list[tuple[Array, Array]]:
        """Return the data for each curve."""
        y = np.asarray(self.y)
        if self.classes is None or self.is_multilabel:
            return [(x, y if y.ndim == 1 else y[:, column or 0]) for column in self.columns]
        if len(self.chosen) == 1:
            return [(x, (y == self.chosen[0]).astype(np.float64))]
        rows = [1 + RUG * (number + 1) for number in range(len(self.chosen))]
        return [
            (x[y == one], np.full(np.count_nonzero(y == one), row)) for one, row in zip(self.chosen, rows, strict=True)
        ]
