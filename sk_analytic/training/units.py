"""Units in which a full-batch method sees the parameters: those of the gradient's spread over samples.

In the user's units, a step may be long in one entry and short in another, and a small gradient has no fixed meaning.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..data.arrays import sampled
from ..data.batch import SPREAD, Batch
from ..data.rows import Rows
from ..least_squares import derivatives
from ..objective import Objective
from ..parameters import Parameters
from ..typing import Array

ROWS = 200  # whose gradients are looked at for their spread
CURVED = 100  # rows of a model that is not linear, of which spreads are all that is used
GROUPS = 20  # of rows, where the loss is no sum over them
ROWS_PER_ENTRY = 10  # if more, for a matrix
LARGEST_MATRIX = 50  # entries whose products are looked at too
PROBED, PROBE = 20, 0.1  # rows that are looked at again, and how far away
CAUTION = 0.1  # how long a first step is where gradients change, in units that would suit a line
LARGEST_PRODUCTS = 2000  # entries of which pairs are looked at
ALIKE = 0.01  # how far the correlation of gradients that have a common part is from 1
WEAK = 0.02  # the share of a direction in the gradients of a sample that says little
ROUNDED = 1e3  # units in the last place, beside the gradient of all rows, that gradients of rows are more than
PARALLEL = 1e-6  # how far the cosine of an angle is from 1
RANGE = 1e10  # of spreads, above and below the median; below it are those of entries that the loss ignores


class Units:
    """Units of the trained entries and the loss, as a method sees them: ``unit * z``, and ``scale`` times the loss.

    Parameters
    ----------
    unit : ndarray of shape (size,), default=1.0
    scale : float, default=1.0

    Attributes
    ----------
    hold_everywhere : bool
        Whether the units are the same at every θ.
    may_vanish : bool
        Whether the gradients used to measure them may all be rounding errors, as in an exact fit.
    of_groups : bool
        Whether they are measured from groups of samples, because single ones carry no information.
    """

    hold_everywhere = False
    may_vanish = False
    of_groups = False

    def __init__(self, unit: Any = 1.0, scale: float = 1.0) -> None:
        self.unit, self.scale = unit, scale

    @classmethod
    def of_spread(cls, spread: Array, size: float) -> Units:
        """Return units in which the mean square of gradients, and the Hessian of the loss, are about 1.

        Parameters
        ----------
        spread : ndarray of shape (size,)
            Their root mean square.
        size : float
            Size of the derivatives of the loss in the predictions, which sets the scale of a loss.
        """
        square = size * size
        return cls(CAUTION * square / spread, 1 / square / CAUTION)

    def enter(self, x: Array) -> Array:
        """Return entries as the method sees them."""
        return np.asarray(x / self.unit)

    def leave(self, z: Array) -> Array:
        """Return entries in the user's units."""
        return np.asarray(self.unit * z)

    def gradient(self, gradient: Array) -> Array:
        """Return a gradient as the method sees it, in its own dtype, by which the method knows its rounding."""
        return np.asarray(self.unit * gradient * self.scale).astype(gradient.dtype, copy=False)

    def gradient_left(self, gradient: Array) -> Array:
        """Return a gradient in the user's units."""
        return np.asarray(gradient / self.scale / self.unit)


class MatrixUnits(Units):
    """Units in which the mean outer product of the samples' gradients is the identity.

    Columns with a large offset, whose gradients nearly equal the intercept's, are then as good as centered ones.

    Parameters
    ----------
    rows : ndarray of shape (n, size)
        Gradients of rows, which add up to the mean product.
    spread, size
        As of `Units.of_spread`.
    precision : float
        Relative, of the gradients.

    Attributes
    ----------
    weak : tuple of int
        Directions that the sampled rows hardly determine.
    """

    weak: tuple[int, ...] = ()

    def __init__(self, rows: Array, spread: Array, size: float, precision: float) -> None:
        super().__init__(size * size / spread, 1 / size / size)
        _, found, directions = np.linalg.svd(rows / spread)
        roots = np.zeros(len(spread))
        roots[: len(found)] = found[: len(spread)]
        self.vectors, self.shares = directions.T, roots**2  # directions, and their shares in the gradients
        self.roots = roots.clip(precision**0.375, None)
        self.roots[roots < max(rows.shape) * np.finfo(np.float64).eps * roots[0]] = 1.0  # no row knows of these

    def stretch(self, index: int, factor: float) -> None:
        """Lengthen a direction, so that the same step in it moves the entries less."""
        self.roots[index] *= factor

    def _along(self, factors: Array, vector: Array) -> Array:
        """Return a vector whose parts along the directions are multiplied."""
        product: Array = self.vectors @ (factors * (self.vectors.T @ vector))
        return product

    def enter(self, x: Array) -> Array:
        return self._along(self.roots, super().enter(x))

    def leave(self, z: Array) -> Array:
        return super().leave(self._along(1 / self.roots, z))

    def gradient(self, gradient: Array) -> Array:
        seen = self._along(1 / self.roots, super().gradient(gradient.astype(np.float64)))
        return seen.astype(gradient.dtype, copy=False)

    def gradient_left(self, gradient: Array) -> Array:
        return super().gradient_left(self._along(self.roots, gradient))


class CenteredUnits(Units):
    """Units without a common part: most gradients nearly share that of one entry, as of the intercept if X has offsets.

    Parameters
    ----------
    units : Units
    pivot : int
        Index of that entry.
    common : ndarray of shape (size,)
        Its share in the gradients of the other entries.
    """

    def __init__(self, units: Units, pivot: int, common: Array) -> None:
        super().__init__(units.unit, units.scale)
        self.pivot, self.common = pivot, common

    def enter(self, x: Array) -> Array:
        x = x.copy()
        x[self.pivot] += self.common @ x
        return super().enter(x)

    def leave(self, z: Array) -> Array:
        x: Array = super().leave(z)
        x[self.pivot] -= self.common @ x
        return x

    def gradient(self, gradient: Array) -> Array:
        return super().gradient(gradient - (self.common * gradient[self.pivot]).astype(gradient.dtype))

    def gradient_left(self, gradient: Array) -> Array:
        left = super().gradient_left(gradient)
        whole: Array = left + self.common * left[self.pivot]
        return whole


def measured(
    objective: Objective,
    theta: Parameters,
    rows: Rows,
    free: Any,
    find_size: Callable[[Array], float],
    *,
    diagonal: bool = False,
    by_groups: bool = False,
) -> Units:
    """Return units of the trained entries, in which the samples' gradients at θ have a mean square of 1.

    For a named loss, the gradients are those for a prediction equal to the mean of y, so that they
    do not vanish if the model fits every sample. Samples are evaluated one by one, so that a sample of weight 2
    counts twice; if there are many, only some are. Groups are used if the loss does not decompose over samples.

    Each entry has its own unit. In a network (the gradients of some matrix rotate as θ changes), entries that are small
    here may soon be large, so all entries of a block with rotating gradients share one unit. In a model
    linear in a few parameters, the units are a matrix. A penalty contributes as it does to the Hessian. The units are 1
    if the loss can only be computed for all samples.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
    rows : rows
    free : slice or ndarray of bool
        Where the trained entries are in θ.
    find_size : callable
        ``find_size(spread)``, the size of the derivatives of the loss in predictions by the curvature of the objective,
        for a loss that does not say it.
    diagonal : bool, default=False
        Whether each entry must have a unit of its own, without a matrix and without a common part, as bounds demand.
    by_groups : bool, default=False
        Whether rows are known to say nothing one by one.

    Returns
    -------
    units : Units
    """
    if not np.zeros(theta.layout.size)[free].size:
        return Units()
    here = theta.vector.copy()
    for is_row in (False,) if by_groups or objective.additive is False else (True, False):
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                units = _measured(objective, theta, rows, free, find_size, diagonal, is_row)
                units.of_groups = not is_row
                return units
        except Exception:  # of a function that needs several rows, or all
            continue
        finally:
            theta.vector[...] = here
    return Units()


def _measured(
    objective: Objective,
    theta: Parameters,
    rows: Rows,
    free: Any,
    find_size: Callable[[Array], float],
    diagonal: bool,
    is_row: bool,
) -> Units:
    """Return the units by rows, or by groups of them."""
    layout = theta.layout
    here, n_entries = theta.vector.copy(), theta.vector[free].size
    is_small, is_kept = n_entries <= LARGEST_MATRIX, n_entries <= LARGEST_PRODUCTS
    n_wanted = max(ROWS, ROWS_PER_ENTRY * n_entries * is_small)
    sample = (_Rows if is_row else _Groups)(objective, theta, free, rows, n_wanted)
    found: list[Array] = []
    square, total = np.zeros(n_entries), 0.0

    def add(begin: int, end: int | None) -> Array:
        """Add squares of gradients; return the root mean squares of all so far."""
        nonlocal square, total
        for gradient, weight in zip(sample.gradients(begin, end), sample.weights[begin:end], strict=True):
            is_finite = np.isfinite(gradient).all()  # not that of a group without an event
            rooted = math.sqrt(weight) * gradient if is_finite else np.zeros(n_entries)
            square, total = square + rooted * rooted, total + weight * is_finite
            if is_kept or len(found) < PROBED:
                found.append(rooted)
        mean: Array = square / total
        return np.sqrt(mean)

    raw = add(0, CURVED)
    sample.require_telling(raw)
    spread = _filled(raw)
    places = np.full(layout.size, -1)
    places[free] = np.arange(n_entries)
    blocks = [places[where][places[where] >= 0] for where in layout.slices]
    matrices = [block for block, shape in zip(blocks, layout.shapes, strict=True) if len(shape) > 1]
    size = sample.size if sample.is_sized else find_size(_by_block(spread, blocks if matrices else []))
    theta.vector[free] += np.where(np.arange(n_entries) % 2, -PROBE, PROBE) * size * size / spread
    theta.vector[...] = theta.confined(theta.vector)
    second = np.array(list(sample.gradients(0, PROBED))) / spread
    first = np.array(found[:PROBED]) / spread
    theta.vector[...] = here
    is_linear, n_rows = _is_parallel(first, second), len(sample.weights)
    if is_linear and n_rows > CURVED:
        raw = add(CURVED, None)
        size = sample.size if sample.is_sized else size * math.sqrt(np.mean((_filled(raw) / spread) ** 2))
    of_penalty = objective.curvature_of_penalty(theta)[free] * size * size
    spread = _filled(np.sqrt(raw * raw + of_penalty))
    units = Units.of_spread(spread, size)
    if is_linear:
        precision = float(np.finfo(layout.dtype).eps)
        rows_found = np.array(found) / math.sqrt(total)  # whose products add up to their mean
        if is_small and not diagonal and (n_rows >= 2 * n_entries or sample.is_all):
            parts = np.concatenate([rows_found, np.diag(np.sqrt(of_penalty))])
            units = _of_matrix(parts, spread, size, precision, sample.is_all)
        elif is_kept and not diagonal:
            units = _without_common_part(rows_found, of_penalty, spread, size, precision)
        units.hold_everywhere = sample.is_sized
    elif not all(_is_parallel(first[:, block], second[:, block]) for block in matrices):  # a network
        blocks = [block for block in blocks if not _is_parallel(first[:, block], second[:, block])]
        units = Units.of_spread(_by_block(spread, blocks), size)
    units.may_vanish = not sample.is_sized
    return units


def _of_matrix(rows: Array, spread: Array, size: float, precision: float, is_all: bool) -> MatrixUnits:
    units = MatrixUnits(rows, spread, size, precision)
    if not is_all:
        units.weak = tuple(np.flatnonzero(units.shares < WEAK).tolist())
    return units


def _by_block(spread: Array, blocks: list[Array]) -> Array:
    """Return root mean squares, one for all entries of a block."""
    common = spread.copy()
    for block in blocks:
        if block.size:
            common[block] = math.sqrt(np.mean(spread[block] ** 2))
    return common


def _without_common_part(gradients: Array, of_penalty: Array, spread: Array, size: float, precision: float) -> Units:
    """Return units by what is left of the gradients of entries beside what they share with one of them."""
    directions = gradients / np.linalg.norm(gradients, axis=0).clip(np.finfo(float).tiny)
    is_common = np.count_nonzero(gradients, axis=0) > len(gradients) / 2  # of rare ones a sample knows little
    alike = (np.abs(directions.T @ directions) > 1 - ALIKE) & is_common & is_common[:, None]
    pivot = int(np.argmax(alike.sum(axis=0)))
    if alike[pivot].sum() < 2:
        return Units.of_spread(spread, size)
    common = directions[:, pivot]
    shares = gradients.T @ common / np.linalg.norm(gradients[:, pivot])
    shares[pivot] = 0.0
    square = ((gradients - np.outer(gradients[:, pivot], shares)) ** 2).sum(axis=0)
    left = np.sqrt(square + of_penalty + of_penalty[pivot] * shares**2)
    left = np.where(gradients.any(axis=0), np.maximum(left, precision**0.375 * spread), spread)
    return CenteredUnits(Units.of_spread(left, size), pivot, shares)


class _Groups:
    """The gradients of groups of rows, each as large as that of a row.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
    free : slice or ndarray of bool
    rows : rows
    n_wanted : int
        How many rows; not used here.

    Attributes
    ----------
    weights : ndarray
        Of rows, or of rows in a group.
    is_sized : bool
        Whether the size of the derivatives in the prediction is known, which is then ``size``.
    is_all : bool
        Whether no other row has a weight.
    """

    is_sized = is_all = False
    size = 1.0

    def __init__(self, objective: Objective, theta: Parameters, free: Any, rows: Rows, n_wanted: int) -> None:
        self.objective, self.theta, self.free = objective, theta, free
        self.batches = self._drawn(rows, n_wanted)
        weights = [1.0 if batch.sample_weight is None else float(batch.sample_weight.mean()) for batch in self.batches]
        self.weights = np.array(weights)

    def _drawn(self, rows: Rows, n_wanted: int) -> list[Batch]:
        return rows.sample(GROUPS, SPREAD, batch_size=max(2, rows.n_samples // GROUPS))

    def gradients(self, begin: int, end: int | None) -> Iterator[Array]:
        """Yield some of them, apart from the weights."""
        for batch, weight in zip(self.batches[begin:end], self.weights[begin:end], strict=True):
            yield self._gradient(self.objective, batch) * (math.sqrt(batch.n) / weight)

    def require_telling(self, spread: Array) -> None:
        """Raise if rows say nothing one by one."""

    def _gradient(self, objective: Objective, batch: Batch) -> Array:
        gradient: Array = objective.contribution(self.theta, batch).dense().gradient[self.free].astype(np.float64)
        return gradient


class _Rows(_Groups):
    """The gradients of rows, those at a prediction of the mean of y if there is one.

    What can be had of all rows at once is evaluated so.
    """

    def _drawn(self, rows: Rows, n_wanted: int) -> list[Batch]:
        (self.whole,) = rows.sample(1, SPREAD, batch_size=n_wanted)
        self.is_all = not self.whole.n == n_wanted < rows.n_samples
        columns = dict(self.whole.columns)
        return sampled((self.whole.X, columns, self.whole.sample_weight), 1, 1.0, self.whole.position[:2])

    def __init__(self, objective: Objective, theta: Parameters, free: Any, rows: Rows, n_wanted: int) -> None:
        super().__init__(objective, theta, free, rows, n_wanted)
        constant = objective.constant_prediction(theta, self.whole)
        self.is_sized = constant is not None
        if constant is not None:
            self.derivative = objective.named_loss(constant, self.whole)[1] * self.whole.n
            self.lengths = _lengths(self.derivative)
            self.size = math.sqrt(np.average((self.lengths / self.weights) ** 2, weights=self.weights))
            self.size = self.size if math.isfinite(self.size) and self.size > 0 else 1.0

    def require_telling(self, spread: Array) -> None:
        if not self.is_sized:
            together = np.abs(self._gradient(self.objective, self.whole)).max(initial=0.0)
            if spread.max(initial=0.0) <= ROUNDED * np.finfo(self.theta.layout.dtype).eps * together:
                raise ValueError(
                    "The gradients of single samples are zero, as for a partial likelihood; those of groups of samples "
                    "may not be."
                )

    def gradients(self, begin: int, end: int | None) -> Iterator[Array]:
        if not self.is_sized:
            return super().gradients(begin, end)
        form = self.objective.model.gradient_form
        if not form.composes_loss or self.objective.numerical:
            return self._rescaled(begin, end)
        return self._products(begin, end) if form.is_matrix else self._composed(begin, end)

    def _rescaled(self, begin: int, end: int | None) -> Iterator[Array]:
        """Gradients with the length that they would have; nothing is known of a row that agrees."""
        whole = self.whole
        here = self.objective.named_loss(self.objective.predictions(self.theta.structure, whole), whole)[1] * whole.n
        with np.errstate(all="ignore"):
            factors = np.nan_to_num(self.lengths / _lengths(here), nan=0.0, posinf=0.0)
        for factor, gradient in zip(factors[begin:end], super().gradients(begin, end), strict=True):
            yield factor * gradient

    def _composed(self, begin: int, end: int | None) -> Iterator[Array]:
        composed = _Composed.of(self.objective)
        for row in range(*slice(begin, end).indices(len(self.batches))):
            composed.derivative = self.derivative[row : row + 1]
            yield self._gradient(composed, self.batches[row]) / self.weights[row]

    def _products(self, begin: int, end: int | None) -> Iterator[Array]:
        head = self.whole.head(end)
        derivative = self.derivative[:end]
        n_outputs = derivative[0].size
        leaves = derivatives(self.objective, self.theta, head, derivative.shape)
        for row in range(begin, head.n):
            gradient = np.zeros(self.theta.layout.size)
            part = slice(row * n_outputs, (row + 1) * n_outputs)
            for where, leaf in zip(self.theta.layout.slices, leaves, strict=True):
                if leaf is not None:
                    gradient[where] = derivative[row].ravel() @ leaf[part]
            yield gradient[self.free] / self.weights[row]


class _Composed(Objective):
    """An objective whose loss has some derivative in the prediction, whatever the model says."""

    derivative: Array

    @classmethod
    def of(cls, objective: Objective) -> _Composed:
        """Return the same objective with such a loss."""
        other = object.__new__(cls)
        other.__setstate__(objective.__getstate__())
        return other

    def named_loss(self, prediction: Any, batch: Batch) -> tuple[float, Array]:
        return 0.0, self.derivative


def _lengths(derivative: Array) -> Array:
    lengths: Array = np.linalg.norm(derivative.reshape(len(derivative), -1).astype(np.float64), axis=1)
    return lengths


def _filled(spread: Array) -> Array:
    """Root mean squares with the median for those that are 0, not finite, or so small that they are rounding."""
    is_known = np.isfinite(spread) & (spread > 0)
    if not is_known.any():
        return np.ones_like(spread)
    median = float(np.median(spread[is_known]))
    is_known &= spread > median / RANGE
    return np.where(is_known, spread, median).clip(None, median * RANGE)


def _is_parallel(first: Array, second: Array) -> bool:
    """Whether the rows of two matrices have the same directions, or opposite ones."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        products = np.abs((first * second).sum(axis=1))
    return bool(((products > (1 - PARALLEL) * lengths) | (lengths == 0)).all())
