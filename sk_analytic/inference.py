"""Standard errors, intervals and tests for the parameters of a fitted estimator, whatever optimizer found them.

`infer` reads ``params_``, evaluates gradients over the rows, and returns an `Inference`. Everything is computed in the
coordinates in which training moves, an entry for each of the vector of θ, and converted in one place.
"""

from __future__ import annotations

import html
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.linalg import qr
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch, check_array
from sklearn.utils.parallel import Parallel, delayed

from .contribution import Contribution, merge
from .data.batch import Batch
from .data.rows import BatchedRows
from .estimators.automatic import draws_random_numbers
from .estimators.problem import draw_seed
from .exceptions import DivergenceError, InferenceWarning
from .finite_differences import difference, size_of
from .gradient_check import MOST_ROWS, coupling
from .hyperparameters import require_estimator
from .least_squares import derivatives
from .losses import LOSSES, AbsoluteError, LogLoss, NegativeLogLikelihood, Quantile, SquaredError, Tweedie
from .objective import Objective, match_target
from .optimizers import LBFGS, TRF
from .parameters import Layout, Parameters
from .readable import readable
from .training.full_batch import minimize
from .training.progress import History, Monitor
from .typing import Array, MatrixLike, RandomState, T
from .validation import Interval, check_range, nearest

__all__ = ["Inference", "infer"]

FAR = 0.1  # standard errors from the optimum that are worth a warning
FINE, OF_ENTRY, LEAST = 1e-3, 3e-4, 1e-2  # steps of the Hessian: in units of the loss, of the entry, and the smallest
FLAT, ROOT_FLAT, NUMERICAL_FLAT = 1e-11, 1e-13, 1e-8  # scaled curvatures, singular values that are rounding
UNSYMMETRIC, MOST_NOISE = 1e-4, 1e-6  # of a Hessian: worth a warning; the most that may hide a curvature
MOVES = 1e-6  # share of a gradient along a direction; less is rounding
SLOW = 10.0  # seconds that are worth a warning
MOST_ENTRIES = 10_000  # of a dense covariance, 800 MB
TIMED = 10  # rows
POLISHED, POLISH_TOL, POLISH_STEPS = 1e-8, 1e-6, 20
ROUNDING = 1e-13  # residuals relative to predictions
LISTED = 5  # directions that a message names
NEGLIGIBLE = 1e-4  # coefficients of a direction that are not shown
FARTHEST = 1e4  # standard errors up to which an end of a profile interval is looked for
FEW_GROUPS = 30  # clusters
FAILED = 0.05  # share of failed refits that is worth a warning

LEVEL = Interval(0, 1, closed="neither")
COUNT = Interval(2, np.inf, integral=True)
POSITIVE = Interval(0, np.inf, closed="neither")

CURVATURE = ("hessian", "gauss_newton", "opg")
ROBUST = ("HC0", "HC1", "HC2", "HC3")
KINDS = ("auto", *CURVATURE, "sandwich", *ROBUST, "cluster")
WEIGHTS = ("frequency", "precision", "sampling")


# θ and its coordinates.


def _names_of(layout: Layout) -> list[str]:
    """Return a name for each entry: ``"w[3]"``, ``"layer.W[1, 2]"``, and ``"tau"`` for a number."""
    return [
        f"{name}[{', '.join(map(str, place))}]" if shape else name
        for name, shape in zip(layout.names, layout.shapes, strict=True)
        for place in np.ndindex(*shape)
    ]


def _on_bounds(theta: Parameters) -> Array:
    """Return the numbers of the entries that lie on a bound, where they are held."""
    return np.empty(0, dtype=np.intp)


def _structure_at(layout: Layout, vector: Array) -> Any:
    """Return the user's structure to keep, of its own memory."""
    return layout.to_structure(vector.copy())


def _to_user(theta: Parameters, directions: Array) -> Array:
    """Return directions of the vector, as rows, as directions of the user's parameters: times J', J the derivative."""
    return directions


# Matrices.


class _Information(NamedTuple):
    """A curvature as the squares of scaled directions, of which some may be unknown.

    Attributes
    ----------
    scale : ndarray of shape (p,)
        What entries are multiplied with.
    vectors : ndarray of shape (p, p)
        Directions in scaled entries, as columns.
    values : ndarray of shape (p,)
        Curvatures along them.
    flat, negative : ndarray of bool of shape (p,)
        Which of them are 0 but for rounding, and which are negative.
    noise : float
        The rounding of values, relative to the scaled curvature of an entry.
    """

    scale: Array
    vectors: Array
    values: Array
    flat: Array
    negative: Array
    noise: float

    @classmethod
    def of_root(cls, root: Array, flat: float) -> _Information:
        """Return that of R'R, whose small curvatures R knows better than the product does."""
        scale = _nonzero(np.linalg.norm(root, axis=0))
        _, values, directions = np.linalg.svd(root / scale, full_matrices=True)
        known = np.zeros(len(scale))
        known[: len(values)] = values[: len(scale)]
        is_flat = known <= flat * known.max(initial=0.0)
        return cls(scale, directions.T, known**2, is_flat, np.zeros(len(scale), dtype=bool), flat)

    @classmethod
    def of_matrix(cls, matrix: Array) -> _Information:
        """Return that of a matrix from differences, whose asymmetry tells how much of it is noise."""
        scale = _nonzero(np.sqrt(np.abs(np.diag(matrix))))
        scaled = matrix / scale / scale[:, None]
        noise = float(np.abs(scaled - scaled.T).max(initial=0.0))
        values, vectors = np.linalg.eigh((scaled + scaled.T) / 2)
        smallest = min(max(FLAT, 10 * noise), MOST_NOISE)
        return cls(scale, vectors, values, np.abs(values) <= smallest, values < -smallest, noise)

    def times(self, factor: float) -> _Information:
        """Return a multiple."""
        return self._replace(values=self.values * factor)

    @property
    def known(self) -> Array:
        """Which directions have a curvature that is positive."""
        return ~(self.flat | self.negative)

    @property
    def rank(self) -> int:
        """How many these are."""
        return int(np.count_nonzero(self.known))

    @property
    def inverse_root(self) -> Array:
        """A matrix with R'R the inverse, over the directions that are known."""
        root: Array = (self.vectors[:, self.known] / np.sqrt(self.values[self.known])).T / self.scale
        return root

    def solve(self, gradients: Array) -> Array:
        """Return the inverse, over the directions that are known, times rows of gradients."""
        root = self.inverse_root
        solved: Array = gradients @ root.T @ root
        return solved

    def along(self, which: Array) -> Array:
        """Return some of the directions in the units of the entries, as columns."""
        directions: Array = self.vectors[:, which] / self.scale[:, None]
        return directions

    def moves(self, derivative: Array) -> Array:
        """Return which rows of a derivative by the entries move along directions that are not known."""
        scaled = derivative / self.scale
        unknown = np.linalg.norm(scaled @ self.vectors[:, ~self.known], axis=-1)
        moves: Array = unknown > MOVES * np.linalg.norm(scaled, axis=-1)
        return moves


def _nonzero(scale: Array) -> Array:
    return np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)


def _triangle(parts: Iterable[Array], n_columns: int) -> Array:
    """Return R with R'R the sum of the products of parts with themselves."""
    triangle = np.empty((0, n_columns))
    for part in parts:
        triangle = np.linalg.qr(np.concatenate([triangle, part]), mode="r")
    return triangle


def _roots(curvature: Array) -> Array:
    """Return the symmetric roots of positive matrices of shape (n, k, k)."""
    values, vectors = np.linalg.eigh(curvature)
    if values.size and values.min() < -MOVES * np.abs(values).max():
        raise ValueError(
            "covariance='gauss_newton' needs a loss that is convex in the prediction, and this one is concave at some "
            "rows. Use covariance='hessian'."
        )
    roots: Array = np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(values.clip(0)), vectors)
    return roots


def _four_point(at: Callable[[float], Any]) -> Any:
    """Return the derivative of ``at(t)`` at 0 in units of t, from t = -2, -1, 1, 2; the error falls with t**4."""
    return (8 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / 12


# Rows.


class _InDoubles(BatchedRows):
    """Rows in float64, converted batch by batch."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self.n_samples, self.batch_size, self.steps_per_epoch = rows.n_samples, rows.batch_size, rows.steps_per_epoch

    def batch(self, epoch: int, step: int) -> Batch:
        batch: Batch = self._rows.batch(epoch, step).astype(np.float64)
        return batch

    def map(self, function: Callable[[Batch], T]) -> list[T]:
        mapped: list[T] = self._rows.map(lambda batch: function(batch.astype(np.float64)))
        return mapped

    def sample(self, n_batches: int, purpose: int, batch_size: int | None = None) -> list[Batch]:
        return [batch.astype(np.float64) for batch in self._rows.sample(n_batches, purpose, batch_size)]


class _Selected:
    """A loss that is one column of the prediction, so that its gradient is a row of the Jacobian."""

    additive = True

    def __init__(self, column: int) -> None:
        self.column = column

    def value_and_derivative(self, y: Any, prediction: Array, **metadata: Any) -> tuple[Array, Array]:
        derivative = np.zeros_like(prediction).reshape(len(prediction), -1)
        derivative[:, self.column] = 1.0
        return prediction.reshape(len(prediction), -1)[:, self.column], derivative.reshape(prediction.shape)


class _Problem:
    """A fitted objective over all rows: its gradient and curvatures at any θ, and the gradients of rows.

    Parameters
    ----------
    objective : Objective
        In float64.
    theta : Parameters
    rows : Rows
    data : ArrayData or ChunkData
        Where they come from.
    weights : {"frequency", "precision", "sampling"}
    codes : ndarray of int of shape (n_samples,) or None
        The cluster of each row.
    """

    def __init__(
        self, objective: Objective, theta: Parameters, rows: Any, data: Any, weights: str, codes: Array | None
    ) -> None:
        self.objective, self.layout, self.data = objective, theta.layout, data
        self.rows = rows if data.first.X.dtype == np.float64 else _InDoubles(rows)
        self.vector, self.weights, self.codes = theta.vector, weights, codes
        extent = data.extent
        self.total = math.ldexp(extent.total, extent.exponent)
        self.n_obs = self.total if weights == "frequency" else float(extent.n_weighted)
        self._per_weight = self.total / extent.n
        is_named = objective.loss is not None and objective.valued_by == "predictor"
        self.loss: Any = objective.loss if is_named else None
        form = objective.model.gradient_form
        is_composed = form.composes_loss or form.is_matrix
        self.has_jacobian = is_named and is_composed and objective.additive is not False
        self.is_squared = type(self.loss) is SquaredError
        self.is_kinked = isinstance(self.loss, Quantile | AbsoluteError)
        self.penalty = objective.curvature_of_penalty
        self.n_outputs = 1
        self.gradient_at_end, missing = self._gradient(self.vector)
        held = np.zeros(self.layout.size, dtype=bool)
        for index in missing:
            held[self.layout.slices[index]] = True
        self.bounded = np.setdiff1d(_on_bounds(theta), np.flatnonzero(held))
        held[self.bounded] = True
        self.free = np.flatnonzero(~held)
        if not len(self.free):
            raise ValueError("infer: no parameter is trained, all are fixed or have no gradient.")

    def theta(self, vector: Array) -> Parameters:
        """Return θ at a vector of all its entries."""
        return Parameters(self.layout, vector)

    def moved(self, x: Array) -> Array:
        """Return the vector of all entries, from that of the free ones."""
        vector = self.vector.copy()
        vector[self.free] = x
        return vector

    def move_to(self, vector: Array) -> None:
        """Make another θ the one that is looked at."""
        self.vector = vector
        self.gradient_at_end = self._gradient(vector)[0]

    def _merged(self, vector: Array) -> tuple[Parameters, Contribution]:
        theta, objective = self.theta(vector), self.objective

        def of_batch(batch: Batch) -> Contribution:
            part = objective.contribution(theta, batch).dense()
            return part if part.gradient is None else part._replace(gradient=part.gradient.copy())

        return theta, merge(self.rows.map(of_batch))

    def _gradient(self, vector: Array) -> tuple[Array, tuple[int, ...]]:
        self.objective.needs_value = False
        theta, contribution = self._merged(vector)
        return self.objective.finish(theta, contribution)[1], contribution.missing

    def gradient(self, x: Array) -> Array:
        """Return the gradient of the objective by the free entries, at some values of them."""
        gradient: Array = self._gradient(self.moved(x))[0][self.free]
        return gradient

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Return the objective with it."""
        self.objective.needs_value = True
        theta, contribution = self._merged(self.moved(x))
        loss, gradient = self.objective.finish(theta, contribution)
        return float(loss), gradient[self.free]

    def each(self, function: Callable[[Batch, Array, Array], T]) -> list[T]:
        """Return what a function says of the rows that have a weight, batch by batch: unweighted; weights; numbers."""
        n_before = 0
        found: list[T] = []

        def of_batch(batch: Batch) -> None:
            nonlocal n_before
            first, n_before = n_before, n_before + batch.n
            if batch.sample_weight is None:
                found.append(function(batch, np.ones(batch.n), np.arange(first, n_before)))
                return
            counted = np.flatnonzero(batch.sample_weight)
            if len(counted):
                weight = batch.sample_weight[counted].astype(np.float64) * self._per_weight
                rows = counted if len(counted) < batch.n else slice(None)
                found.append(function(_rows_of(batch, rows), weight, counted + first))

        self.rows.map(of_batch)
        return found

    # Predictions of rows and what the loss by name says of them.

    def predictions(self, vector: Array, batch: Batch) -> Array:
        """Return the predictions of rows."""
        return self.objective.predictions(self.theta(vector).structure, batch)

    def derivative(self, batch: Batch, prediction: Array) -> Array:
        """Return the derivative of the loss of each row in its predictions, of shape (n, k)."""
        derivative = self.objective.named_loss(prediction, batch)[1]
        return derivative.reshape(batch.n, -1) * batch.n

    def curvature(self, batch: Batch, prediction: Array) -> Array:
        """Return the second derivative of the loss of each row in its predictions, of shape (n, k, k)."""
        n, flat = batch.n, prediction.reshape(batch.n, -1).astype(np.float64)
        k = flat.shape[1]
        if self.is_squared or self.is_kinked:
            return np.broadcast_to(np.eye(k) * (self.density if self.is_kinked else 1.0), (n, k, k))
        unit = 1.0
        if self.loss.link == "identity" and self.loss.domain is not None:
            y, matched = match_target(batch.y, prediction)
            unit = math.sqrt(float(np.mean((y - matched) ** 2))) or 1.0
        curvature = self._curvature_by(batch, prediction.shape, flat, np.full(n, FINE * unit))
        outside = ~np.isfinite(curvature).all(axis=(1, 2))
        if outside.any():  # next to an end of the domain
            nearer = self._curvature_by(batch, prediction.shape, flat, OF_ENTRY * np.abs(flat).min(axis=1))
            curvature[outside] = nearer[outside]
        return (curvature + curvature.transpose(0, 2, 1)) / 2

    def _curvature_by(self, batch: Batch, shape: tuple[int, ...], flat: Array, step: Array) -> Array:
        curvature = np.empty((*flat.shape, flat.shape[1]))
        for column in range(flat.shape[1]):

            def at(t: float, column: int = column) -> Array:
                moved = flat.copy()
                moved[:, column] += t * step
                return self.derivative(batch, moved.reshape(shape))

            with np.errstate(all="ignore"):
                curvature[:, :, column] = _four_point(at) / step[:, None]
        return curvature

    @property
    def density(self) -> float:
        """Of the residuals at 0, times the jump of the derivative there: the curvature of a mean of kinks.

        By an Epanechnikov kernel at the bandwidth of Hall and Sheather, as for quantile regression in R and statsmodels.
        """
        quantile, jump = (self.loss.quantile, 1.0) if isinstance(self.loss, Quantile) else (0.5, 2.0)

        def residuals(batch: Batch, weight: Array, numbers: Array) -> tuple[Array, Array, Array]:
            y, matched = match_target(batch.y, self.predictions(self.vector, batch))
            return (y - matched).ravel(), np.asarray(y, dtype=np.float64).ravel(), np.repeat(weight, matched[0].size)

        found = self.each(residuals)
        residual, y, weight = (np.concatenate(parts) for parts in zip(*found, strict=True))
        normal = stats.norm.ppf(quantile)
        share = stats.norm.pdf(normal) ** 2 * 1.5 / (2 * normal**2 + 1)
        share = len(residual) ** (-1 / 3) * stats.norm.ppf(0.975) ** (2 / 3) * share ** (1 / 3)
        low, high = (stats.norm.ppf(np.clip(quantile + sign * share, 1e-9, 1 - 1e-9)) for sign in (-1, 1))
        spread = min(float(np.std(y)), float(np.subtract(*np.percentile(residual, [75, 25]))) / 1.34)
        width = spread * (high - low)
        if not width > 0:
            raise ValueError(
                f"The residuals of most rows are equal, so there is no density at 0, on which standard errors of "
                f"{type(self.loss).__name__} depend. Use a bootstrap of your own."
            )
        u = residual / width
        kernel = np.where(np.abs(u) <= 1, 0.75 * (1 - u * u), 0.0)
        return jump * float(weight @ kernel) / (float(weight.sum()) * width)

    def linearised(self, vector: Array, batch: Batch) -> tuple[Array, Array]:
        """Return the predictions of rows, and their derivative by the free entries, of shape (n, k, p)."""
        objective, theta = self.objective, self.theta(vector)
        prediction = objective.predictions(theta.structure, batch)
        k = prediction.size // batch.n
        if objective.model.gradient_form.is_matrix:
            matrix = np.zeros((prediction.size, self.layout.size))
            for where, leaf in zip(
                self.layout.slices, derivatives(objective, theta, batch, prediction.shape), strict=True
            ):
                if leaf is not None:
                    matrix[:, where] = leaf
            return prediction, matrix.reshape(batch.n, k, -1)[:, :, self.free]
        by_output = [self._of_rows(objective.with_loss(_Selected(column)), theta, batch) for column in range(k)]
        return prediction, np.stack(by_output, axis=1)

    def scores(self, vector: Array, batch: Batch) -> Array:
        """Return the gradient of the objective of each row by the free entries, penalty included: (n, p)."""
        penalty = (self.penalty * vector)[self.free]
        if self.has_jacobian and self.objective.model.gradient_form.is_matrix:
            prediction, jacobian = self.linearised(vector, batch)
            of_loss: Array = np.einsum("nk,nkp->np", self.derivative(batch, prediction), jacobian)
            return of_loss + penalty
        return self._of_rows(self.objective, self.theta(vector), batch) + penalty

    def _of_rows(self, objective: Objective, theta: Parameters, batch: Batch) -> Array:
        """Return the gradient of each row by the free entries, row by row."""
        found = np.empty((batch.n, len(self.free)))
        objective.needs_value = False
        begin = time.perf_counter()
        for row in range(batch.n):
            try:
                one = objective.contribution(theta, _rows_of(batch, slice(row, row + 1))).dense()
            except Exception as error:
                error.add_note(
                    f"In the gradient of row {row} alone. If your functions need several rows, use covariance='hessian'."
                )
                raise
            found[row] = one.gradient[self.free]
            if row == TIMED:
                _say_price((time.perf_counter() - begin) / TIMED * batch.n, f"The gradients of {batch.n} rows")
        return found

    # Curvatures, of the mean over rows.

    @property
    def unit(self) -> float:
        """The root of the loss's scale: how large its derivative is beside the root of its curvature."""
        if self.loss is None:
            return 1.0

        def sums(batch: Batch, weight: Array, numbers: Array) -> tuple[float, float]:
            prediction = self.predictions(self.vector, batch)
            squares = (self.derivative(batch, prediction) ** 2).sum(axis=1)
            return float(weight @ squares), float(weight @ np.trace(self.curvature(batch, prediction), axis1=1, axis2=2))

        squares, curvature = np.sum(self.each(sums), axis=0)
        ratio = squares / curvature if curvature > 0 else 1.0
        return math.sqrt(ratio) if math.isfinite(ratio) and ratio > 0 else 1.0

    def root(self) -> Array:
        """Return R with R'R the Gauss-Newton matrix."""

        def of_batch(batch: Batch, weight: Array, numbers: Array) -> Array:
            prediction, jacobian = self.linearised(self.vector, batch)
            roots = np.sqrt(weight / self.total)[:, None, None] * _roots(self.curvature(batch, prediction))
            return np.einsum("nij,njp->nip", roots, jacobian).reshape(-1, len(self.free))

        return _triangle([*self.each(of_batch), np.diag(np.sqrt(self.penalty[self.free]))], len(self.free))

    def root_of_scores(self) -> Array:
        """Return R with R'R the mean outer product of the gradients of rows."""

        def of_batch(batch: Batch, weight: Array, numbers: Array) -> Array:
            weight = np.sqrt(weight) if self.weights == "frequency" else weight
            return weight[:, None] * self.scores(self.vector, batch) / math.sqrt(self.total)

        return _triangle(self.each(of_batch), len(self.free))

    def hessian(self) -> Array:
        """Return the Hessian by differences of the gradient, not made symmetric."""
        x, p = self.vector[self.free], len(self.free)
        begin = time.perf_counter()
        here = self.gradient(x)
        _say_price((time.perf_counter() - begin) * 7 * p, f"The Hessian of {p} entries, by {7 * p} gradients,")
        unit = self.unit
        sizes = np.concatenate([np.full(b.size, min(size_of(b.ravel()), 1.0)) for b in self.layout.blocks(self.vector)])
        hessian = np.empty((p, p))

        def at(entry: int, step: float) -> Callable[[float], Array]:
            def moved(t: float) -> Array:
                there = x.copy()
                there[entry] += t * step
                return self.gradient(there)

            return moved

        with np.errstate(all="ignore"):
            for entry in range(p):
                step = OF_ENTRY * (abs(x[entry]) or sizes[self.free[entry]])
                for _ in range(2):  # the curvature, first with any step
                    found = at(entry, step)(1.0)[entry] - here[entry]
                    step = _step(abs(x[entry]), found / step, unit, step)
                hessian[entry] = _four_point(at(entry, step)) / step
                if not np.isfinite(hessian[entry]).all() and x[entry]:  # next to an end of where the loss is defined
                    step = OF_ENTRY * abs(x[entry])
                    hessian[entry] = _four_point(at(entry, step)) / step
        if not np.isfinite(hessian).all():
            raise DivergenceError(
                "infer: the gradient is not finite next to params_, so there is no Hessian. Was training finished, or "
                "is a parameter on the edge of where the loss is defined?"
            )
        return hessian

    def dispersion(self, rank: int) -> float:
        """Return the mean square of the residuals over that which the model says, of so many degrees of freedom."""

        def of_batch(batch: Batch, weight: Array, numbers: Array) -> tuple[float, float, int]:
            prediction = self.predictions(self.vector, batch)
            if self.is_squared:
                squares = self.derivative(batch, prediction) ** 2
            else:
                y, matched = match_target(batch.y, prediction)
                mean = self.loss.inverse_link(matched)
                squares = ((y - mean) ** 2 / mean**self.loss.power).reshape(batch.n, -1)
            self.n_outputs = squares.shape[1]
            return float(weight @ squares.sum(axis=1)), float(np.abs(prediction).max()), prediction.size

        sums, largest, _ = zip(*self.each(of_batch), strict=True)
        self.largest = max(largest)
        freedom = self.n_obs * self.n_outputs - rank
        return sum(sums) / freedom if freedom > 0 else math.nan


def _step(size: float, curvature: float, unit: float, before: float) -> float:
    """Return the step of differences for an entry of some size: in units of the loss, and of the entry."""
    if not (math.isfinite(curvature) and curvature > 0):
        return before
    longest = FINE * unit / math.sqrt(curvature)
    return max(min(longest, OF_ENTRY * size or longest), LEAST * longest)


def _rows_of(batch: Batch, rows: Any) -> Batch:
    """Return some rows of a batch, without weights."""
    return Batch(batch.X[rows], {name: column[rows] for name, column in batch.columns.items()}, None, batch.position)


def _say_price(seconds: float, what: str) -> None:
    """Warn of what takes long, before it does."""
    if seconds > SLOW:
        length = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
        warnings.warn(f"infer: {what} will take about {length}.", InferenceWarning, stacklevel=3)


# What is asked for.


def _resolved(problem: _Problem, covariance: str, weights: str) -> str:
    """Return the kind of covariance that "auto" stands for, or the one that was asked for."""
    if covariance == "sandwich":
        return "HC0"
    if covariance != "auto":
        return covariance
    if problem.codes is not None:
        return "cluster"
    if weights == "sampling":
        return "HC0"
    if problem.is_squared:
        return "gauss_newton" if problem.has_jacobian else "hessian"
    is_own = type(problem.loss) not in LOSSES.values()  # None too
    is_likelihood = is_own or isinstance(problem.loss, Tweedie | LogLoss | NegativeLogLikelihood)
    return "hessian" if is_likelihood else "HC0"


def _require_possible(problem: _Problem, kind: str, weights: str) -> None:
    """Raise if a covariance cannot be had of a fit."""
    objective = problem.objective
    of_loss = "the loss is your own" if problem.loss is None else type(problem.loss).__name__
    if problem.codes is not None and kind != "cluster":
        raise ValueError(f"groups go with covariance='cluster' or 'auto'; got covariance={kind!r}.")
    if kind == "cluster" and problem.codes is None:
        raise ValueError("covariance='cluster' needs groups: the cluster of each row.")
    if weights == "sampling" and kind in CURVATURE:
        raise ValueError(
            f"weights='sampling' have no covariance={kind!r}: use 'sandwich', or 'cluster' with groups, which know that "
            "rows were drawn with unequal probabilities."
        )
    needs_jacobian = kind in ("gauss_newton", "HC2", "HC3") or problem.is_kinked
    if needs_jacobian and not problem.has_jacobian:
        raise ValueError(
            f"covariance={kind!r} needs the derivative of each prediction, and so the vjp or jacobian form with a "
            f"loss by name; got {objective.model.form}, and {of_loss}. Use "
            f"{'another form' if problem.is_kinked else repr('hessian') + ' or ' + repr('sandwich')}."
        )
    if problem.is_kinked and kind in CURVATURE:
        raise ValueError(f"{of_loss} has kinks and no second derivative: use covariance='sandwich' or 'cluster'.")
    if kind not in ("hessian", "gauss_newton"):
        _require_rows(problem, kind)


def _require_rows(problem: _Problem, kind: str) -> None:
    """Raise if rows have no gradient of their own."""
    objective = problem.objective
    otherwise = f"so there is no gradient of a row, which covariance={kind!r} needs. Use covariance='hessian'."
    if objective.additive is False:
        raise ValueError(f"The loss is no sum over rows (additive=False), {otherwise}")
    if draws_random_numbers(objective):
        raise ValueError(f"The model draws random numbers (rng), others for a row alone, {otherwise}")
    if objective.additive == "auto":
        batch = problem.rows.sample(1, 0, batch_size=2 * MOST_ROWS)[0]
        found = coupling(objective, problem.theta(problem.vector), batch, seed=0)
        if found is not None:
            raise ValueError(
                f"The loss is no sum over rows: its gradient on {found.n} rows differs from the mean of those on "
                f"their halves by {found.disagreement:.1%}, {otherwise}"
            )


def _codes_of(groups: Any, data: Any) -> Array | None:
    """Return the cluster of each row as a number."""
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.ndim != 1:
        raise ValueError(f"groups must be 1-d, a label a row; got shape {labels.shape}.")
    if len(labels) != data.extent.n:
        raise ValueError(f"groups has {len(labels)} labels for {data.extent.n} rows; each row needs one.")
    codes: Array = np.unique(labels, return_inverse=True)[1]
    if codes.max(initial=0) == 0:
        raise ValueError("groups has a single cluster; standard errors by clusters need several.")
    return codes


# The covariance.


def _information(problem: _Problem, kind: str) -> _Information:
    """Return the curvature that a covariance is the inverse of, or lies between two of."""
    if kind == "opg":
        return _Information.of_root(problem.root_of_scores(), ROOT_FLAT)
    by_root = kind == "gauss_newton" or problem.is_kinked or (problem.is_squared and kind != "hessian")
    if by_root and problem.has_jacobian:
        is_exact = not problem.objective.numerical
        return _Information.of_root(problem.root(), ROOT_FLAT if is_exact else NUMERICAL_FLAT)
    return _Information.of_matrix(problem.hessian())


def _robust(problem: _Problem, kind: str, information: _Information) -> Array:
    """Return the sandwich of two inverse curvatures and the spread of the gradients of rows between them."""
    p, n_obs = len(problem.free), problem.n_obs
    power = {"HC2": 0.5, "HC3": 1.0}.get(kind)
    leverages = None
    if power is not None:
        exact = _Information.of_root(problem.root(), ROOT_FLAT)
        leverages = _leverages(problem, exact)
    n_groups = 0 if problem.codes is None else int(problem.codes.max()) + 1
    of_groups = np.zeros((n_groups, p))

    def of_batch(batch: Batch, weight: Array, numbers: Array) -> Array:
        influence = information.solve(problem.scores(problem.vector, batch)) / problem.total
        if problem.codes is not None:
            np.add.at(of_groups, problem.codes[numbers], weight[:, None] * influence)
            return np.zeros((p, p))
        if leverages is not None:
            influence /= ((1 - leverages(batch, weight)) ** power)[:, None]
        influence *= (np.sqrt(weight) if problem.weights == "frequency" else weight)[:, None]
        return influence.T @ influence

    covariance: Array = sum(problem.each(of_batch), np.zeros((p, p)))
    freedom = n_obs - information.rank
    if kind == "HC1":
        covariance *= n_obs / freedom if freedom > 0 else math.nan
    elif problem.codes is not None:
        covariance = of_groups.T @ of_groups
        covariance *= n_groups / (n_groups - 1) * ((n_obs - 1) / freedom if freedom > 0 else math.nan)
    return covariance


def _leverages(problem: _Problem, information: _Information) -> Callable[[Batch, Array], Array]:
    """Return a function that says how much each row draws its own prediction to its y, from 0 to 1."""

    def of_batch(batch: Batch, weight: Array) -> Array:
        prediction, jacobian = problem.linearised(problem.vector, batch)
        if jacobian.shape[1] > 1:
            raise ValueError(
                f"HC2 and HC3 are for one prediction a row; here are {jacobian.shape[1]}. Use 'HC0' or 'HC1'."
            )
        roots = jacobian[:, 0] @ information.inverse_root.T
        squares = problem.curvature(batch, prediction)[:, 0, 0] * (roots * roots).sum(axis=1)
        leverages: Array = squares / problem.total * (1.0 if problem.weights == "frequency" else weight)
        if (leverages > 1 - FLAT).any():
            raise ValueError("A row determines its own prediction (leverage 1): HC2 and HC3 are not defined. Use 'HC1'.")
        return leverages

    return of_batch


# The optimum.


def _finished(objective: Objective, vector: Array, layout: Layout, rows: Any) -> tuple[Array, str | None]:
    """Return the optimum over rows from a start, by trf or lbfgs, and why it was not reached or None."""
    is_residual = objective.model.gradient_form.is_matrix and objective.model.gradient is not None
    by_residuals = is_residual and type(objective.loss) is SquaredError
    method = TRF() if by_residuals else LBFGS(maxcor=30, x_scale="gradient")
    theta = Parameters(layout, vector.copy())
    objective.needs_value = True
    monitor = Monitor(History(), tol=POLISH_TOL)
    _, failed = minimize(objective, theta, method, rows, monitor, max_iter=1000, tol=POLISH_TOL)
    return theta.vector, failed


def _polished(problem: _Problem, kind: str) -> _Information:
    """Move a problem to the optimum; return the curvature there."""
    if problem.objective.has_value:
        problem.move_to(_finished(problem.objective, problem.vector, problem.layout, problem.rows)[0])
    information = _information(problem, kind)
    if problem.is_kinked:
        return information

    def distance() -> float:
        gradient = problem.gradient_at_end[problem.free]
        return math.sqrt(problem.total * float(gradient @ information.solve(gradient)))

    before = first = distance()
    for _ in range(POLISH_STEPS):
        here = problem.vector
        problem.move_to(problem.moved(here[problem.free] - information.solve(problem.gradient_at_end[problem.free])))
        now = distance()
        if not now < before / 2:
            if not now < before:
                problem.move_to(here)
            break
        before = now
    return information if first <= POLISHED else _information(problem, kind)


# Words.


def _directions(information: _Information, which: Array, names: Sequence[str]) -> str:
    """Name some directions by the entries that they move."""
    basis = information.vectors[:, which]
    pivots = qr(basis.T, pivoting=True, mode="r")[1][: basis.shape[1]]
    basis = basis @ np.linalg.inv(basis[pivots])  # each has an entry to itself, and so few
    basis[np.abs(basis) < NEGLIGIBLE * np.abs(basis).max(axis=0)] = 0.0
    basis = basis / information.scale[:, None]
    basis /= np.abs(basis).max(axis=0)
    listed = "; ".join(_terms(column, names) for column in basis.T[:LISTED])
    more = basis.shape[1] - LISTED
    return listed + (f"; and {more} more" if more > 0 else "")


def _terms(direction: Array, names: Sequence[str]) -> str:
    """Write a direction as a sum."""
    entries = np.flatnonzero(direction)
    direction = direction * np.sign(direction[entries[0]])
    words = []
    for entry in entries[: 2 * LISTED].tolist():
        size = abs(direction[entry])
        factor = "" if abs(size - 1) < 1e-6 else f"{size:.3g} "
        sign = "-" if direction[entry] < 0 else "+"
        words.append(f"{sign} {factor}{names[entry]}" if words else f"{factor}{names[entry]}")
    more = len(entries) - 2 * LISTED
    return " ".join(words) + (f" + {more} more" if more > 0 else "")


def _messages(problem: _Problem, kind: str, information: _Information, names: Sequence[str]) -> list[str]:
    """Return what is to be said of a curvature and of the estimate."""
    found = []
    free = [names[entry] for entry in problem.free]
    if len(problem.bounded):
        listed = ", ".join(names[entry] for entry in problem.bounded)
        found.append(
            f"On a bound: {listed}. Standard errors of the others hold it there, and it has none; see the profile."
        )
    if problem.objective.penalties:
        found.append(
            "alpha shrinks the estimates, so intervals are centred beside the truth, and the covariance has the "
            "curvature of the penalty, as a posterior has. For unbiased estimates fit with alpha=0."
        )
    if information.flat.any():
        found.append(
            f"Not identified: the loss does not change along {_directions(information, information.flat, free)}. Their "
            "entries are NaN; delta and predict keep the errors of what does not move along them. Fix or drop an entry."
        )
    if information.negative.any():
        found.append(
            "The Hessian is not positive definite: the loss curves downward along "
            f"{_directions(information, information.negative, free)}, whose entries are NaN. Training has not reached a "
            "minimum: polish=True, or train longer."
        )
    if kind not in ("gauss_newton", "opg") and information.noise > UNSYMMETRIC:
        found.append(
            f"The Hessian is not symmetric, by {information.noise:.1g} of its diagonal: the gradient is noisy, or "
            "not the derivative of a loss. Run check_gradient."
        )
    n_groups = 0 if problem.codes is None else int(problem.codes.max()) + 1
    if 0 < n_groups < FEW_GROUPS:
        found.append(f"There are {n_groups} clusters: of fewer than {FEW_GROUPS}, standard errors are too small.")
    return found



@readable
class Inference:
    """What `infer` found: parameters with their uncertainties, and functions of both.

    Attributes
    ----------
    params : structure
        The estimates, in the structure of ``params_``: these, or where ``polish=True`` has brought them.
    standard_errors : structure
        Of the same structure. 0 for what is held (``fixed``, or without a gradient), as in lmfit and statsmodels: the
        others' errors are those for known values of it. NaN for what the rows do not identify, and on a bound.
    covariance, correlation : ndarray of shape (n_entries, n_entries)
        Over all entries of all blocks, in the order of ``names``.
    names : list of str
        Of the entries: ``"w[3]"``, ``"layer.W[1, 2]"``, and ``"tau"`` for a number.
    kind : str
        Of the covariance: ``"hessian"``, ``"gauss_newton"``, ``"opg"``, ``"HC0"`` to ``"HC3"`` or ``"cluster"``.
    scale : float
        What the covariance of the model is multiplied with: the variance of the residuals for the squared error, the
        dispersion for gamma and tweedie, 1 for likelihoods, or what was given. Robust covariances need none.
    df : float
        Degrees of freedom of the t distribution of intervals and tests; infinite for the normal one.
    n_obs : float
        Number of rows, or the sum of frequency weights.
    distance : float
        From the optimum, in standard errors: :math:`\\sqrt{n\\, g^T H^{-1} g}` for the gradient g and the Hessian H of the
        mean loss in units of ``scale``. For robust kinds, the largest step of an entry to the optimum, in its
        standard errors.
    warnings : list of str
        All that was warned of.

    See Also
    --------
    infer : Where it comes from.
    """

    params: Any
    standard_errors: Any
    names: list[str]
    kind: str
    scale: float
    df: float
    n_obs: float
    distance: float
    warnings: list[str]

    def __init__(
        self, problem: _Problem, information: _Information, kind: str, scale: float, df: float, model: Any
    ) -> None:
        self._problem, self._information, self._model = problem, information, model
        self.kind, self.scale, self.df, self.n_obs = kind, scale, df, problem.n_obs
        layout = problem.layout
        theta = problem.theta(problem.vector)
        self.names = _names_of(layout)
        self.params = _structure_at(layout, problem.vector)
        if kind in CURVATURE:
            root = information.inverse_root * math.sqrt(scale / problem.total)
            self._free_covariance = root.T @ root
        else:
            self._free_covariance = _robust(problem, kind, information)
        whole = np.zeros((layout.size, layout.size))
        whole[np.ix_(problem.free, problem.free)] = self._free_covariance
        covariance = _to_user(theta, _to_user(theta, whole).T)
        embedded = np.eye(layout.size)[problem.free]
        has_none = information.moves(_to_user(theta, embedded).T)
        has_none[problem.bounded] = True
        covariance[has_none], covariance[:, has_none] = math.nan, math.nan
        self.covariance: Array = covariance
        self._errors = np.sqrt(np.diag(covariance))
        self.standard_errors = layout.to_structure(self._errors.copy())
        self.distance = self._distance()
        self.warnings = _messages(problem, kind, information, self.names)

    def _distance(self) -> float:
        problem, information = self._problem, self._information
        gradient = problem.gradient_at_end[problem.free]
        step = information.solve(gradient)
        if self.kind in CURVATURE:
            return math.sqrt(problem.total * float(gradient @ step) / self.scale) if self.scale else math.nan
        errors = np.sqrt(np.diag(self._free_covariance))
        known = (errors > 0) & ~np.isnan(self._errors[problem.free])
        return float(np.abs(step[known] / errors[known]).max(initial=0.0))

    @property
    def correlation(self) -> Array:
        """Of all pairs of entries; NaN for those without an error."""
        errors = np.where(self._errors > 0, self._errors, math.nan)
        correlation: Array = self.covariance / errors / errors[:, None]
        return correlation

    # Intervals.

    def confidence_intervals(
        self,
        level: float = 0.95,
        method: str = "wald",
        *,
        parameters: str | Iterable[str] | None = None,
        n_resamples: int = 999,
        n_jobs: int | None = None,
        random_state: RandomState = None,
    ) -> Array:
        """Return intervals that contain the parameters with some probability.

        Parameters
        ----------
        level : float, default=0.95
            That probability.
        method : {"wald", "profile", "bootstrap"}, default="wald"
            "wald": estimate and standard error, by quantiles of the t or normal distribution. "profile": where the loss,
            minimised over all other entries, has risen by as much as the quantile says; such intervals need not be
            symmetric, and may be open. "bootstrap": percentiles of the optima over resampled rows, or over resampled
            clusters if there are groups.
        parameters : str or iterable of str, default=None
            Names of entries or blocks; all by default.
        n_resamples : int, default=999
            Of the bootstrap.
        n_jobs : int, default=None
            Processes for profiles and resamples, as in scikit-learn; the results are the same for any.
        random_state : int, RandomState instance or None, default=None
            Seed of the bootstrap.

        Returns
        -------
        intervals : ndarray of shape (n_parameters, 2)
            Their ends, in the order of ``names``, or of ``parameters``; infinite where a profile is open.

        Raises
        ------
        ValueError
            For an unknown name, and for a method that this fit cannot have.

        Warns
        -----
        InferenceWarning
            If a profile is open or has found a smaller loss, or if refits failed.
        """
        check_range("confidence_intervals", "level", level, LEVEL)
        check_range("confidence_intervals", "method", method, ("wald", "profile", "bootstrap"))
        entries = self._entries(parameters)
        if method == "wald":
            return self._wald(level)[entries]
        if method == "profile":
            return self._profiles(entries, level, n_jobs)
        check_range("confidence_intervals", "n_resamples", n_resamples, COUNT)
        return self._bootstrap(level, n_resamples, n_jobs, random_state)[entries]

    def _entries(self, parameters: str | Iterable[str] | None) -> list[int]:
        """Return the numbers of entries that are named."""
        if parameters is None:
            return list(range(len(self.names)))
        layout = self._problem.layout
        found: list[int] = []
        for name in [parameters] if isinstance(parameters, str) else parameters:
            if name in self.names:
                found.append(self.names.index(name))
            elif name in layout.names:
                where = layout.slices[layout.names.index(name)]
                found += range(where.start, where.stop)
            else:
                known = [*self.names, *layout.names]
                raise ValueError(
                    f"There is no parameter {name!r}.{nearest(name, known)} There are: {', '.join(layout.names)}."
                )
        return found

    def _quantile(self, level: float) -> float:
        share = (1 + level) / 2
        return float(stats.t.ppf(share, self.df) if math.isfinite(self.df) else stats.norm.ppf(share))

    def _wald(self, level: float) -> Array:
        half = self._quantile(level) * self._errors
        return np.stack([self._problem.vector - half, self._problem.vector + half], axis=1)

    # Functions of the parameters.

    def delta(self, function: Callable[[Any], ArrayLike]) -> Bunch:
        """Return a function of the parameters with its standard error, by the delta method.

        Parameters
        ----------
        function : callable
            ``function(params) -> number or array``, of the user's structure. Its derivative is taken by differences.

        Returns
        -------
        result : Bunch
            ``value``, ``standard_error`` of the same shape, and ``covariance`` of its entries: a number for a number. NaN
            where the function moves along a direction that is not identified.

        Examples
        --------
        >>> import numpy as np
        >>> from sk_analytic import AnalyticRegressor, infer
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = X @ [2.0, 1.0] + 3 + 0.1 * rng.normal(size=200)
        >>> result = infer(AnalyticRegressor().fit(X, y), X, y)
        >>> ratio = result.delta(lambda params: params["coef"][0] / params["coef"][1])
        >>> round(ratio.value, 2), round(ratio.standard_error, 3)
        (1.99, 0.017)
        """
        layout = self._problem.layout
        value, derivative = self._derivative(lambda vector: function(_structure_at(layout, vector)))
        covariance = derivative @ self._free_covariance @ derivative.T
        lost = self._lost(derivative)
        covariance[lost], covariance[:, lost] = math.nan, math.nan
        errors = np.sqrt(np.diag(covariance)).reshape(value.shape)
        if not value.ndim:
            return Bunch(value=float(value), standard_error=float(errors), covariance=float(covariance[0, 0]))
        return Bunch(value=value, standard_error=errors, covariance=covariance)

    def _derivative(self, function: Callable[[Array], ArrayLike]) -> tuple[Array, Array]:
        """Return a function of θ's vector at the estimate, and its derivative by the free entries, (m, p)."""
        problem = self._problem
        value = np.array(function(problem.vector.copy()), dtype=np.float64)
        sizes = np.concatenate([np.full(b.size, size_of(b.ravel())) for b in problem.layout.blocks(problem.vector)])

        def along(entry: int) -> Array:
            def at(t: float) -> Array:
                vector = problem.vector.copy()
                vector[entry] += t
                return np.array(function(vector), dtype=np.float64).reshape(-1)

            slope: Array = difference(at, float(problem.vector[entry]), float(sizes[entry]))
            return slope

        return value, np.stack([along(entry) for entry in problem.free.tolist()], axis=1)

    def _lost(self, derivative: Array) -> Array:
        """Return which rows of a derivative have no error; warn if there are any."""
        lost = self._information.moves(derivative)
        if lost.any():
            warnings.warn(
                f"{np.count_nonzero(lost)} of {len(lost)} values move along directions that are not identified, "
                "see result.warnings: their errors are NaN.",
                InferenceWarning,
                stacklevel=3,
            )
        return lost

    def predict(self, X: MatrixLike, interval: str | None = None, level: float = 0.95, **metadata: Any) -> Bunch:
        """Predict with standard errors, and with intervals if they are asked for.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        interval : {None, "mean", "observation"}, default=None
            "mean": of the prediction, with the link's limits: between 0 and 1 for a probability. "observation": of a new
            y, for the squared error, whose residuals are taken to be normal with the variance ``scale``.
        level : float, default=0.95
            The probability of an interval.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        prediction : Bunch
            ``value`` as the regressor's ``predict``, the classifier's ``predict_proba``, or what `forward` says for the
            other estimators; ``standard_error``, ``low`` and ``high`` of its shape, the last two None without an interval.
        """
        check_range("predict", "interval", interval, (None, "mean", "observation"))
        check_range("predict", "level", level, LEVEL)
        problem, layout = self._problem, self._problem.layout
        if interval == "observation" and not problem.is_squared:
            raise ValueError(
                "predict: interval='observation' is for the squared error, whose scale is the variance of y; "
                "interval='mean' is for any loss."
            )
        predicted = self._model._prepare_prediction(X, metadata)
        value, derivative = self._derivative(lambda vector: predicted(Parameters(layout, vector).structure))
        variance = np.einsum("mp,pq,mq->m", derivative, self._free_covariance, derivative)
        variance[self._lost(derivative)] = math.nan
        variance = variance.reshape(value.shape)
        found = Bunch(value=value, standard_error=np.sqrt(variance), low=None, high=None)
        if interval is not None:
            link = "identity" if interval == "observation" else self._model._link
            error = np.sqrt(variance + self.scale) if interval == "observation" else found.standard_error
            found.low, found.high = _ends(link, value, self._quantile(level) * error)
        return found

    # Tables.

    def to_frame(self, level: float = 0.95) -> Any:
        """Return a table with a row for each entry, as a pandas DataFrame.

        Parameters
        ----------
        level : float, default=0.95
            The probability of the intervals, which are Wald's.

        Returns
        -------
        frame : pandas.DataFrame
            With columns ``estimate``, ``standard_error``, ``statistic`` (their ratio), ``p_value`` (two-sided, for a true
            value of 0), ``low`` and ``high``, indexed by ``names``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("Inference.to_frame needs pandas: pip install pandas") from error
        return pd.DataFrame(self._columns(level), index=pd.Index(self.names, name="parameter"))

    def _columns(self, level: float = 0.95) -> dict[str, Array]:
        check_range("to_frame", "level", level, LEVEL)
        estimate, errors = self._problem.vector, self._errors
        statistic = estimate / np.where(errors > 0, errors, math.nan)
        tail = stats.t(self.df).sf if math.isfinite(self.df) else stats.norm.sf
        low, high = self._wald(level).T
        return {
            "estimate": estimate.copy(),
            "standard_error": errors.copy(),
            "statistic": statistic,
            "p_value": 2 * tail(np.abs(statistic)),
            "low": low,
            "high": high,
        }

    @property
    def _title(self) -> str:
        distribution = "normal" if math.isinf(self.df) else f"t with {self.df:g} degrees of freedom"
        return (
            f"covariance: {self.kind}, {self.n_obs:g} rows, scale {self.scale:.4g}, {distribution}, "
            f"{self.distance:.2g} standard errors from the optimum"
        )

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """The table as text: its heads, and a row for each entry."""
        columns = self._columns()
        heads = ["parameter", "estimate", "standard error", "statistic", "p value", "95 % from", "to"]
        forms = [".6g", ".4g", ".4g", ".2g", ".5g", ".5g"]
        rows = zip(self.names, *columns.values(), strict=True)
        return heads, [[name, *(f"{v:{form}}" for v, form in zip(values, forms, strict=True))] for name, *values in rows]

    def __str__(self) -> str:
        heads, rows = self._cells()
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in [heads, *rows]
        ]
        notes = [f"[{number}] {message}" for number, message in enumerate(self.warnings, 1)]
        return "\n".join([self._title, "", *lines, *([""] if notes else []), *notes])

    def __repr__(self) -> str:
        return f"Inference({len(self.names)} parameters, {self._title})"

    def _repr_html_(self) -> str:
        heads, rows = self._cells()
        line = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        notes = "".join(f"<li>{html.escape(message)}</li>" for message in self.warnings)
        listed = f"<ol>{notes}</ol>" if notes else ""
        return (
            f"<table><caption>{html.escape(self._title)}</caption><thead><tr>{line}</tr></thead>"
            f"<tbody>{body}</tbody></table>{listed}"
        )

    # Intervals by profiles and by resamples.

    def _profiles(self, entries: Sequence[int], level: float, n_jobs: int | None) -> Array:
        return np.array([])

    def _bootstrap(self, level: float, n_resamples: int, n_jobs: int | None, random_state: RandomState) -> Array:
        return np.array([])


def _ends(link: str, value: Array, half: Array) -> tuple[Array, Array]:
    """Return the ends of intervals that are symmetric on a link; ``half`` their half lengths for the identity."""
    with np.errstate(all="ignore"):
        if link == "log":
            factor = np.exp(half / value)
            return value / factor, value * factor
        if link == "logit":
            odds, factor = value / (1 - value), np.exp(half / (value * (1 - value)))
            low, high = odds / factor, odds * factor
            return low / (1 + low), 1 / (1 + 1 / high)
    return value - half, value + half


@readable
def infer(
    model: Any,
    X: MatrixLike = None,
    y: ArrayLike | None = None,
    *,
    chunks: Any = None,
    covariance: str = "auto",
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    weights: str = "frequency",
    scale: float | str = "auto",
    polish: bool = False,
    **metadata: Any,
) -> Inference:
    r"""Return the parameters of a fitted estimator with standard errors, intervals and tests.

    It works after any optimizer and for any gradient form: it reads ``params_`` and evaluates the estimator's functions
    over the rows. The estimator is not changed.

    Parameters
    ----------
    model : estimator of this package
        Fitted.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The rows that it was fitted on.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets, where the estimator takes them.
    chunks : sequence, iterable or callable, default=None
        In place of X and y, what ``fit_chunks`` takes.
    covariance : str, default="auto"
        ================== =========================================================================================
        "hessian"          The inverse of the Hessian, from differences of the gradient.
        "gauss_newton"     The same for a model that is taken to be linear around the estimate: :math:`J^T \kappa J`,
                           J the derivative of the predictions and :math:`\kappa` the second derivative of the loss in
                           them, 1 for the squared error. For the vjp and jacobian forms.
        "opg"              The inverse of the sum of outer products of the gradients of rows.
        "sandwich", "HC0"  Both: right also if the likelihood is not, or variances are unequal.
        "HC1"              That, times n / (n - p).
        "HC2", "HC3"       That, with squares of gradients divided by 1 - h or its square, h the leverage of a row. For the
                           forms of "gauss_newton" with one prediction a row.
        "cluster"          A sandwich with gradients summed over the rows of a cluster, times
                           :math:`\frac{C}{C - 1} \frac{n - 1}{n - p}` for C clusters, as in statsmodels.
        ================== =========================================================================================

        "auto" is "cluster" with groups; "sandwich" for sampling weights; "gauss_newton" for the squared error with vjp or
        jacobian; "hessian" for likelihoods: log_loss, poisson, gamma, tweedie, negative_log_likelihood, and a
        loss of your own, which is taken for a negative log-likelihood in nats; "sandwich" for the other losses by name.
    groups : array-like of shape (n_samples,), default=None
        The cluster of each row, by labels of any kind; in the order of chunks.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, as for `fit` but not scaled to mean 1.
    weights : {"frequency", "precision", "sampling"}, default="frequency"
        What they are. "frequency": a row of weight 2 is two rows. "precision": variances are inversely proportional
        to them, as in weighted least squares, ``curve_fit(sigma=weight**-0.5)``. "sampling": inverse probabilities of having
        been drawn, whose covariance is a sandwich.
    scale : float or "auto", default="auto"
        "auto": the variance of the residuals for the squared error, by n - p degrees of freedom; Pearson's dispersion for
        gamma and tweedie; 1 for every other loss. A number is taken for known, as with ``curve_fit(absolute_sigma=True)``.
    polish : bool, default=False
        Whether to finish the optimisation by trf or lbfgs, and then by Newton steps. The end is ``result.params``; the
        estimator keeps its own.
    **metadata : array-like of shape (n_samples,) or (n_samples, k)
        Further data of the rows, for the callables that name it.

    Returns
    -------
    result : Inference

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        For a covariance that the form of the gradient or the loss cannot give, and for groups of another length.
    DivergenceError
        If the gradient is not finite next to the estimate.

    Warns
    -----
    InferenceWarning
        If a number does not mean what it should: the parameters are far from the optimum, directions are not
        identified, the Hessian is not positive definite. ``result.warnings`` has the texts.

    Notes
    -----
    The objective is the mean loss over rows; a covariance is that of n times it. With a penalty (``alpha``) the curvature
    is that of the penalised objective, as a posterior has; statsmodels has no such thing. Estimates are then
    biased towards zero, and intervals centred on them miss the truth more often than they say.

    The Hessian takes four evaluations of the gradient for each entry, at steps of :math:`\min(10^{-3} / \sqrt{H_{jj}},
    3 \cdot 10^{-4} |\theta_j|)` in units of the loss, and two that find them.

    The squared error has t quantiles, with n - p degrees of freedom (by clusters C - 1), unless ``scale`` is known; other
    losses have normal ones.

    "absolute_error" and "quantile" have no Hessian: the density of the residuals at 0 takes its place, by an
    Epanechnikov kernel at the bandwidth of Hall and Sheather, as in statsmodels' ``QuantReg``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sk_analytic import AnalyticRegressor, infer
    >>> def forward(params, X):
    ...     return params["a"] * X[:, 0] ** params["b"]
    >>> def jacobian(params, X):
    ...     power = X[:, 0] ** params["b"]
    ...     return {"a": power, "b": params["a"] * power * np.log(X[:, 0])}
    >>> data = load_iris().data
    >>> X, y = data[:, 2:3], data[:, 3]
    >>> model = AnalyticRegressor(forward, jacobian=jacobian, init={"a": 1.0, "b": 1.0}).fit(X, y)
    >>> print(infer(model, X, y))
    covariance: gauss_newton, 150 rows, scale 0.0417..., t with 148 degrees of freedom, ... standard errors from the optimum
    <BLANKLINE>
    parameter  estimate  standard error  statistic  p value  95 % from       to
    a          0.184047         0.01681      10.95  ...
    b           1.37873         0.05552      24.83  ...
    """
    require_estimator("infer", model)
    check_range("infer", "covariance", covariance, KINDS)
    check_range("infer", "weights", weights, WEIGHTS)
    if scale != "auto":
        check_range("infer", "scale", scale, POSITIVE)
    if (X is None) == (chunks is None):
        raise TypeError("infer takes X, and y if the estimator does, or chunks in their place.")
    if chunks is not None and (y is not None or sample_weight is not None):
        raise TypeError("infer: y and sample_weight of chunks are in them: (X, y, sample_weight).")
    objective, theta, rows, data = model._prepare_inference(X, y, sample_weight, chunks, metadata)
    problem = _Problem(objective, theta, rows, data, weights, _codes_of(groups, data))
    kind = _resolved(problem, covariance, weights)
    _require_possible(problem, kind, weights)
    information = _polished(problem, kind) if polish else _information(problem, kind)
    found = _scale(problem, information, scale)
    if kind == "opg":
        information = information.times(1 / found)
    df = math.inf
    if problem.is_squared and scale == "auto":
        df = problem.n_obs * problem.n_outputs - information.rank
    if problem.is_squared and problem.codes is not None:
        df = float(problem.codes.max())
    twin = model._as_fitted(model._training, problem.theta(problem.vector))
    result = Inference(problem, information, kind, found, df, twin)
    result.warnings += _about_the_estimate(result, model, scale)
    for message in result.warnings:
        warnings.warn(message, InferenceWarning, stacklevel=2)
    return result


def _scale(problem: _Problem, information: _Information, scale: float | str) -> float:
    """Return what a covariance of the model is multiplied with."""
    if not isinstance(scale, str):
        return float(scale)
    has_dispersion = isinstance(problem.loss, Tweedie) and problem.loss.power != 1
    return problem.dispersion(information.rank) if problem.is_squared or has_dispersion else 1.0


def _about_the_estimate(result: Inference, model: Any, scale: float | str) -> list[str]:
    """Return what is to be said of where the parameters are, and of weights."""
    problem = result._problem
    found = []
    if getattr(model, "class_weight", None) is not None and problem.weights != "sampling":
        found.append(
            "class_weight multiplies the weights of rows, which count as rows here: standard errors are those of other "
            "data. Use weights='sampling', or fit without class_weight."
        )
    if math.isnan(result.scale):
        found.append(
            f"{result.n_obs:g} rows are too few for {result._information.rank} parameters: there is no variance of "
            "residuals, and no standard error. Give scale, or more rows."
        )
    elif problem.is_squared and scale == "auto" and result.scale <= (ROUNDING * problem.largest) ** 2:
        found.append("The residuals are rounding: the curve goes through all rows, and standard errors mean nothing.")
    elif result.distance > FAR:
        found.append(
            f"The parameters are {result.distance:.2g} standard errors from the optimum, where standard errors and "
            "intervals belong. polish=True finishes the optimisation in the result; or train longer, with a smaller tol "
            "or optimizer='lbfgs'."
        )
    return found
