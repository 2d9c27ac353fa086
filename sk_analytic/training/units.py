"""In which units a full-batch method sees the parameters: those of the gradient's spread over rows.

In the user's units a step is long in one entry and short in another, and whether a gradient is small depends on both.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..data.batch import SPREAD, Batch
from ..data.rows import Rows
from ..objective import Objective
from ..parameters import Parameters
from ..typing import Array

ROWS = 200  # whose gradients are looked at for their spread
GROUPS = 20  # of rows, where the loss is no sum over them
ROWS_PER_ENTRY = 10  # if more, for a matrix
LARGEST_MATRIX = 50  # entries whose products are looked at too
PROBED, PROBE = 10, 0.1  # rows that are looked at again, and how far away
CAUTION = 0.1  # how long a first step is where gradients change, in units that would suit a line
LARGEST_PRODUCTS = 2000  # entries of which pairs are looked at
ALIKE = 0.01  # how far the correlation of gradients that have a common part is from 1
WEAK = 0.02  # the share of a direction in the gradients of a sample that says little
PARALLEL = 1e-6  # how far the cosine of an angle is from 1
RANGE = 1e10  # of spreads, above and below the median


class Units:
    """In which a method sees the trained entries and the loss: ``unit * z`` for entries, ``scale`` times the loss.

    Parameters
    ----------
    unit : ndarray of shape (size,), default=1.0
    scale : float, default=1.0

    Attributes
    ----------
    hold_everywhere : bool
        Whether they are the same wherever they are measured.
    """

    hold_everywhere = False

    def __init__(self, unit: Any = 1.0, scale: float = 1.0) -> None:
        self.unit, self.scale = unit, scale

    @classmethod
    def of_spread(cls, spread: Array, size: float) -> Units:
        """Return those in which gradients have a mean square of about 1, and so has the Hessian of the loss.

        Parameters
        ----------
        spread : ndarray of shape (size,)
            Their root mean square.
        size : float
            Of the derivatives of the loss in the predictions, by which losses differ in scale.
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
    """Those in which the mean product of the gradients of rows is the identity.

    Columns far from zero, whose gradients nearly agree with the intercept's, are then as good as centred ones.

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
        Directions that a sample of rows hardly determines.
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
        """Make a direction longer: the same step in it moves the entries less."""
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


class CentredUnits(Units):
    """Units of entries apart from one, whose gradient most others nearly share, as the intercept's if X is far off.

    Parameters
    ----------
    units : Units
    pivot : int
        The one.
    common : ndarray of shape (size,)
        How much of its gradient the others have.
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
    curvature: Callable[[Array], float],
    *,
    diagonal: bool = False,
) -> Units:
    """Return units of the trained entries, by what the gradients of rows are here: with a mean square of 1.

    Under a loss by name these are the gradients that the rows would have if the mean of y were predicted: so they
    do not vanish where every row agrees with the model. Rows are evaluated one by one, so that a row of weight 2
    counts as two; of many, a sample. Groups of rows stand for them where the loss is no sum over rows.

    An entry has a unit of its own in a model of few parameters, and in a block whose gradients keep their directions as
    θ changes, such as weights of columns; elsewhere, as in the layers of a network, what is small here may be large
    soon, and a block has one unit. In a model that is linear in its few parameters the units are those of a matrix. A
    penalty adds to them as it adds to the Hessian. They are 1 if the loss can only be had of all rows.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
    rows : rows
    free : slice or ndarray of bool
        Where the trained entries are in θ.
    curvature : callable
        ``curvature(direction)``, the second derivative of the objective along a direction of the trained entries; nan
        if it is not known.
    diagonal : bool, default=False
        Whether each entry must have a unit of its own, without a matrix and without a common part, as bounds demand.

    Returns
    -------
    units : Units
    """
    if not np.zeros(theta.layout.size)[free].size:
        return Units()
    here = theta.vector.copy()
    for is_row in (True, False) if objective.additive is not False else (False,):
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _measured(objective, theta, rows, free, curvature, diagonal, is_row)
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
    curvature: Callable[[Array], float],
    diagonal: bool,
    is_row: bool,
) -> Units:
    """Return the units by rows, or by groups of them."""
    layout = theta.layout
    n_entries = np.zeros(layout.size)[free].size
    is_small = n_entries <= LARGEST_MATRIX
    is_kept = n_entries <= LARGEST_PRODUCTS
    n_batches = max(ROWS, ROWS_PER_ENTRY * n_entries if is_small else 0) if is_row else GROUPS
    batches = rows.sample(n_batches, SPREAD, batch_size=1 if is_row else max(2, rows.n_samples // GROUPS))
    constant = objective.constant_prediction(theta, batches) if is_row else None
    square, mean = np.zeros((2, n_entries))
    total = derivatives = 0.0
    found: list[Array] = []
    for gradient, derivative, weight in _of_rows(objective, theta, free, batches, constant):
        if not np.isfinite(gradient).all():
            continue  # as of a group without an event
        square += weight * gradient * gradient
        mean += weight * gradient
        derivatives += weight * derivative * derivative
        total += weight
        if is_kept or len(found) < PROBED:
            found.append(math.sqrt(weight) * gradient)
    square /= total
    size = math.sqrt(derivatives / total)
    if constant is None:
        size = _size(mean, _filled(np.sqrt(square)), curvature)
    size = size if math.isfinite(size) and size > 0 else 1.0
    of_penalty = objective.curvature_of_penalty(theta)[free] * size * size
    spread = _filled(np.sqrt(square + of_penalty))
    theta.vector[free] += np.where(np.arange(n_entries) % 2, -PROBE, PROBE) * size * size / spread
    theta.vector[...] = theta.confined(theta.vector)
    there = [gradient for gradient, *_ in _of_rows(objective, theta, free, batches[:PROBED], constant)]
    first, second = np.array(found[:PROBED]) / spread, np.array(there) / spread
    units = Units.of_spread(spread, size)
    if _is_parallel(first, second):
        is_sample = len(batches) == n_batches < rows.n_samples  # else these are all rows that have a weight
        precision = float(np.finfo(layout.dtype).eps)
        if is_small and not diagonal and (len(batches) >= 2 * n_entries or not is_sample):
            rows_and_penalty = np.concatenate([np.array(found) / math.sqrt(total), np.diag(np.sqrt(of_penalty))])
            units = matrix = MatrixUnits(rows_and_penalty, spread, size, precision)
            if is_sample:
                matrix.weak = tuple(np.flatnonzero(matrix.shares < WEAK).tolist())
        elif is_kept and not diagonal:
            units = _without_common_part(np.array(found), spread, size, precision)
        units.hold_everywhere = constant is not None
    elif not is_small:
        places = np.full(layout.size, -1)
        places[free] = np.arange(n_entries)
        units = Units.of_spread(_by_block(spread, [places[where] for where in layout.slices], first, second), size)
    return units


def _size(gradient: Array, spread: Array, curvature: Callable[[Array], float]) -> float:
    """Return the size of a loss whose derivatives in predictions nobody knows, by its curvature along a gradient."""
    seen = gradient / spread
    length = float(np.linalg.norm(seen))
    direction = seen / length if length else np.full_like(seen, 1 / math.sqrt(seen.size))
    found = abs(curvature(direction / spread))
    return 1 / math.sqrt(found) if found else 1.0


def _by_block(spread: Array, blocks: list[Array], first: Array, second: Array) -> Array:
    """Return root mean squares, one for all of a block whose gradients change their directions."""
    spread = spread.copy()
    for block in blocks:
        entries = block[block >= 0]
        if entries.size and not _is_parallel(first[:, entries], second[:, entries]):
            spread[entries] = math.sqrt(np.mean(spread[entries] ** 2))
    return spread


def _without_common_part(gradients: Array, spread: Array, size: float, precision: float) -> Units:
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
    left = np.sqrt(((gradients - np.outer(gradients[:, pivot], shares)) ** 2).mean(axis=0))
    left = np.where(gradients.any(axis=0), np.maximum(left, precision**0.375 * spread), spread)
    return CentredUnits(Units.of_spread(left, size), pivot, shares)


def _of_rows(
    objective: Objective, theta: Parameters, free: Any, batches: list[Batch], constant: Array | None
) -> Iterator[tuple[Array, float, float]]:
    """Yield, for each row, its gradient, the size of the derivative in the prediction, 1 if unknown, and the weight.

    They are those at a constant prediction, if there is one. The gradient of a batch of several rows, without one, is
    made as large as that of a row.
    """
    of_constant = objective.model.gradient_form.composes_loss and not objective.numerical
    evaluated = objective
    if constant is not None and of_constant:
        evaluated = objective.with_loss(_AtConstant(objective.loss, constant))
    for batch in batches:
        weight = 1.0 if batch.sample_weight is None else float(batch.sample_weight.mean())
        gradient = evaluated.contribution(theta, batch).dense().gradient[free].astype(np.float64) * math.sqrt(batch.n)
        derivative = weight
        if constant is not None:
            derivative = float(np.linalg.norm(objective.named_loss(constant, batch)[1]))
            if not of_constant:
                here = np.linalg.norm(objective.named_loss(objective.predictions(theta.structure, batch), batch)[1])
                gradient *= derivative / here if here else 0.0  # of a row that agrees nothing is known
        yield gradient / weight, derivative / weight, weight


def _filled(spread: Array) -> Array:
    """Root mean squares without those that are 0, not finite or far from the others."""
    is_known = np.isfinite(spread) & (spread > 0)
    if not is_known.any():
        return np.ones_like(spread)
    median = float(np.median(spread[is_known]))
    return np.where(is_known, spread, median).clip(median / RANGE, median * RANGE)


def _is_parallel(first: Array, second: Array) -> bool:
    """Whether the rows of two matrices have the same directions, or opposite ones."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        products = np.abs((first * second).sum(axis=1))
    return bool(((products > (1 - PARALLEL) * lengths) | (lengths == 0)).all())


class _AtConstant:
    """A loss where every row has the same prediction, whatever the model says."""

    additive = True

    def __init__(self, loss: Any, constant: Array) -> None:
        self.loss, self.constant = loss, constant

    def value_and_derivative(self, y: Array, prediction: Array, **metadata: Array) -> tuple[Array, Array]:
        values: tuple[Array, Array] = self.loss.value_and_derivative(
            y, self.constant.reshape(prediction.shape).astype(prediction.dtype), **metadata
        )
        return values
