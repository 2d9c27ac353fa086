"""A fitted objective over all rows: its gradient and curvatures at any θ, and the gradients of rows."""

from __future__ import annotations

import copy
import math
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from ..contribution import Contribution, merge
from ..data.batch import Batch
from ..data.rows import BatchedRows
from ..exceptions import DivergenceError, InferenceWarning
from ..finite_differences import size_of
from ..least_squares import derivatives, penalty_rows
from ..losses import AbsoluteError, Quantile, SquaredError
from ..objective import Objective, match_target
from ..parameters import Parameters
from ..typing import Array, T
from .coordinates import on_bounds
from .information import four_point, roots_of, triangle

FINE, OF_ENTRY, LEAST = 1e-3, 3e-4, 1e-2  # steps of the Hessian: in units of the loss, of the entry, and the smallest
SLOW = 10.0  # seconds that are worth a warning
TIMED = 200  # rows
SAME = 1e-6  # how far two sums of gradients may be from each other


class InDoubles(BatchedRows):
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


class Problem:
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
        self.rows = rows if data.first.X.dtype == np.float64 else InDoubles(rows)
        self.start, self.vector, self.weights, self.codes = theta, theta.vector, weights, codes
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
        # Whether the scale is the variance of a new y; with precision weights, it is that of one of weight 1.
        self.has_observations = self.is_squared and weights != "precision"
        self.is_kinked = isinstance(self.loss, Quantile | AbsoluteError)
        self.n_outputs = 1
        self.is_polished = False
        self.prices: list[str] = []
        self._said: set[str] = set()
        self._known_density: tuple[bytes, float] = b"", math.nan
        self.look_at(self.vector)
        if not len(self.free):
            raise ValueError("infer: no parameter to infer: all are fixed, on a bound, or have no gradient.")

    def look_at(self, vector: Array) -> None:
        """Make a θ the one that is looked at, and learn which of its entries are free there."""
        self.vector = vector
        self.gradient_at_end, missing = self._gradient(vector)
        held = np.zeros(self.layout.size, dtype=bool)
        for index in missing:
            held[self.layout.slices[index]] = True
        self.bounded = np.setdiff1d(on_bounds(self.theta(vector)), np.flatnonzero(held))
        held[self.bounded] = True
        self.free = np.flatnonzero(~held)

    def theta(self, vector: Array) -> Parameters:
        """Return θ at a vector of all its entries."""
        return self.start.at(vector)

    def moved(self, x: Array) -> Array:
        """Return the vector of all entries, from that of the free ones."""
        vector = self.vector.copy()
        vector[self.free] = x
        return vector

    def of_this_thread(self) -> Problem:
        """Return the same with callables and memory of its own, unless this is the main thread of a process."""
        if threading.current_thread() is threading.main_thread():
            return self
        other = copy.copy(self)
        other.objective = copy.deepcopy(self.objective)
        return other

    def move_to(self, vector: Array) -> None:
        """Make another θ with the same free entries the one that is looked at."""
        self.vector = vector
        self.gradient_at_end = self._gradient(vector)[0]

    def _merged(self, vector: Array) -> tuple[Parameters, Contribution]:
        theta, objective = self.theta(vector), self.objective

        def of_batch(batch: Batch) -> Contribution:
            part = objective.contribution(theta, batch).dense()
            return part if part.gradient is None else part._replace(gradient=part.gradient.copy())

        return theta, merge(self.rows.map(of_batch)).dense()

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
        of_rows: Array = derivative.reshape(batch.n, -1) * batch.n
        return of_rows

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
        curvature: Array = self._curvature_by(batch, prediction.shape, flat, np.full(n, FINE * unit))
        outside = ~np.isfinite(curvature).all(axis=(1, 2))
        if outside.any():  # next to an end of the domain
            nearer = self._curvature_by(batch, prediction.shape, flat, OF_ENTRY * np.abs(flat).min(axis=1))
            curvature[outside] = nearer[outside]
        symmetric: Array = (curvature + curvature.transpose(0, 2, 1)) / 2
        return symmetric

    def _curvature_by(self, batch: Batch, shape: tuple[int, ...], flat: Array, step: Array) -> Array:
        curvature = np.empty((*flat.shape, flat.shape[1]))
        for column in range(flat.shape[1]):

            def at(t: float, column: int = column) -> Array:
                moved = flat.copy()
                moved[:, column] += t * step
                return self.derivative(batch, moved.reshape(shape))

            with np.errstate(all="ignore"):
                curvature[:, :, column] = four_point(at) / step[:, None]
        return curvature

    @property
    def density(self) -> float:
        """The density of the residuals, computed once for a θ."""
        at = self.vector.tobytes()
        if at != self._known_density[0]:
            self._known_density = at, self._density()
        return self._known_density[1]

    def _density(self) -> float:
        """Of the residuals at 0, times the jump of the derivative there: the curvature of a mean of kinks.

        By an Epanechnikov kernel at the bandwidth of Hall and Sheather, as for quantile regression in statsmodels.
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
                f"Most residuals are equal, so they have no density at 0, on which standard errors of "
                f"{type(self.loss).__name__} depend. Use a bootstrap of your own."
            )
        u = residual / width
        kernel = np.where(np.abs(u) <= 1, 0.75 * (1 - u * u), 0.0)
        return jump * float(weight @ kernel) / float(weight.sum() * width)

    def linearized(self, vector: Array, batch: Batch) -> tuple[Array, Array]:
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
        penalty = self.objective.gradient_of_penalty(self.theta(vector))[self.free]
        if self.has_jacobian and self.objective.model.gradient_form.is_matrix:
            prediction, jacobian = self.linearized(vector, batch)
            of_loss: Array = np.einsum("nk,nkp->np", self.derivative(batch, prediction), jacobian)
        else:
            of_loss = self._of_rows(self.objective, self.theta(vector), batch)
        scores: Array = of_loss + penalty
        return scores

    def is_sum(self, vector: Array, batch: Batch) -> bool:
        """Return whether the gradient of a batch is the sum of those of its rows, and not their mean."""
        if batch.n < 2:
            return False
        batch, theta = _rows_of(batch, slice(None)), self.theta(vector)
        total = self._of_rows(self.objective, theta, batch).sum(axis=0)
        whole = self.objective.contribution(theta, batch).dense().gradient[self.free]
        size = float(np.linalg.norm(total))
        return size > 0 and float(np.linalg.norm(whole - total)) < SAME * size

    def _of_rows(self, objective: Objective, theta: Parameters, batch: Batch) -> Array:
        """Return the gradient of each row by the free entries, row by row."""
        found = np.empty((batch.n, len(self.free)))
        objective.needs_value = False
        begin = time.process_time()
        for row in range(batch.n):
            try:
                one = objective.contribution(theta, _rows_of(batch, slice(row, row + 1))).dense()
            except Exception as error:
                error.add_note(
                    f"Raised in the gradient of the single sample {row}. If your functions need several samples, use "
                    "covariance='hessian'."
                )
                raise
            found[row] = one.gradient[self.free]
            if row == TIMED:
                self._say_price((time.process_time() - begin) / TIMED * batch.n, f"The gradients of {batch.n} samples")
        return found

    def _say_price(self, seconds: float, what: str) -> None:
        """Warn of what takes long, before it does; once."""
        if seconds > SLOW and what not in self._said:
            self._said.add(what)
            length = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
            self.prices.append(f"{what} will take about {length}.")
            warnings.warn(self.prices[-1], InferenceWarning, stacklevel=3)

    # Curvatures, of the mean over rows.

    @property
    def unit(self) -> float:
        """The root of the loss's scale: how large its derivative is beside the root of its curvature."""
        if self.loss is None:
            return 1.0

        def sums(batch: Batch, weight: Array, numbers: Array) -> tuple[float, float]:
            prediction = self.predictions(self.vector, batch)
            squares = (self.derivative(batch, prediction) ** 2).sum(axis=1)
            curvature = np.trace(self.curvature(batch, prediction), axis1=1, axis2=2)
            return float(weight @ squares), float(weight @ curvature)

        squares, curvature = np.sum(self.each(sums), axis=0)
        ratio = squares / curvature if curvature > 0 else 1.0
        return math.sqrt(ratio) if math.isfinite(ratio) and ratio > 0 else 1.0

    def root(self) -> Array:
        """Return R with R'R the Gauss-Newton matrix."""

        def of_batch(batch: Batch, weight: Array, numbers: Array) -> Array:
            prediction, jacobian = self.linearized(self.vector, batch)
            roots = np.sqrt(weight / self.total)[:, None, None] * roots_of(self.curvature(batch, prediction))
            rooted: Array = np.einsum("nij,njp->nip", roots, jacobian)
            return rooted.reshape(-1, len(self.free))

        of_penalty = penalty_rows(self.objective, self.theta(self.vector))[:, self.free]
        return triangle([*self.each(of_batch), of_penalty], len(self.free))

    def root_of_scores(self) -> Array:
        """Return R with R'R the mean outer product of the gradients of rows."""

        def of_batch(batch: Batch, weight: Array, numbers: Array) -> Array:
            weight = np.sqrt(weight) if self.weights == "frequency" else weight
            return weight[:, None] * self.scores(self.vector, batch) / math.sqrt(self.total)

        return triangle(self.each(of_batch), len(self.free))

    def hessian(self) -> Array:
        """Return the Hessian by differences of the gradient, not made symmetric."""
        x, p = self.vector[self.free], len(self.free)
        begin = time.process_time()
        here = self.gradient(x)
        self._say_price((time.process_time() - begin) * 7 * p, f"The Hessian of {p} entries, by {7 * p} gradients,")
        unit = self.unit
        sizes = np.concatenate([np.full(b.size, min(size_of(b.ravel()), 1.0)) for b in self.layout.blocks(self.vector)])
        hessian = np.empty((p, p))
        low, high = self.start.ends
        room = np.minimum(self.vector - low, high - self.vector) / 2  # to a bound

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
                step = min(step, room[self.free[entry]])
                hessian[entry] = four_point(at(entry, step)) / step
                if not np.isfinite(hessian[entry]).all() and x[entry]:  # next to an end of where the loss is defined
                    step = OF_ENTRY * abs(x[entry])
                    hessian[entry] = four_point(at(entry, step)) / step
        if not np.isfinite(hessian).all():
            raise DivergenceError(
                "infer: the gradient is not finite next to params_, so the Hessian cannot be computed. Check that "
                "training has converged, and that no parameter is at a limit beyond which the loss is undefined."
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
