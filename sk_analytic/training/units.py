"""In which units a full-batch method sees the parameters: those of the gradient's spread over rows.

In the user's units a step is long in one entry and short in another, and whether a gradient is small depends on both.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..data.batch import SPREAD, Batch
from ..data.rows import Rows
from ..objective import Objective
from ..parameters import Parameters
from ..typing import Array

ROWS = 200  # whose gradients are looked at for their spread
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
    """In which a method sees the trained entries x and the loss: ``z = inverse @ x``, and ``scale`` times the loss.

    Parameters
    ----------
    basis, inverse : ndarray of shape (size, size) or (size,), default=1.0
        Or the diagonal of a matrix.
    scale : float, default=1.0

    Attributes
    ----------
    hold_everywhere : bool
        Whether they are the same wherever they are measured.
    """

    hold_everywhere = False
    is_sized = True  # whether the Hessian is known to be about 1 in them
    weak: tuple[int, ...] = ()  # directions of a matrix that a sample of rows hardly determines
    vectors: Array  # the directions, their shares in the gradients, the roots of these, and the units of single entries
    shares: Array
    roots: Array
    entries: Array

    def __init__(self, basis: Any = 1.0, inverse: Any = 1.0, scale: float = 1.0) -> None:
        self.basis, self.inverse, self.scale = basis, inverse, scale

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
        return cls(CAUTION * square / spread, spread / square / CAUTION, 1 / square / CAUTION)

    @classmethod
    def of_matrix(cls, rows: Array, spread: Array, size: float, precision: float) -> Units:
        """Return those in which the mean product of gradients is the identity.

        Columns far from zero, whose gradients nearly agree with the intercept's, are then as good as centred ones.
        """
        _, found, directions = np.linalg.svd(rows / spread)
        roots = np.zeros(len(spread))
        roots[: len(found)] = found[: len(spread)]
        units = cls(scale=1 / size / size)
        units.vectors, units.entries, units.shares = directions.T, size * size / spread, roots**2
        units.roots = roots.clip(precision**0.375, None)
        units.roots[roots < max(rows.shape) * np.finfo(np.float64).eps * roots[0]] = 1.0  # no row knows of these
        units._compose()
        return units

    def _compose(self) -> None:
        vectors, roots = self.vectors, self.roots
        self.basis = (vectors / roots) @ vectors.T * self.entries[:, None]
        self.inverse = (vectors * roots) @ vectors.T / self.entries

    def stretch(self, index: int, factor: float) -> None:
        """Make a direction of a matrix longer: the same step in it moves the entries less."""
        self.roots[index] *= factor
        self._compose()

    def divide(self, curvature: float) -> None:
        """Make a curvature 1 that has been found in them."""
        self.basis, self.inverse = self.basis / curvature, self.inverse * curvature
        self.scale *= curvature
        if self.weak:
            self.entries = self.entries / curvature

    def enter(self, x: Array) -> Array:
        """Return entries as the method sees them."""
        return _times(self.inverse, x)

    def leave(self, z: Array) -> Array:
        """Return entries in the user's units."""
        return _times(self.basis, z)

    def gradient(self, gradient: Array) -> Array:
        """Return a gradient as the method sees it, in its own dtype, by which the method knows its rounding."""
        seen = _times(_transposed(self.basis), gradient) * self.scale
        return seen.astype(gradient.dtype, copy=False)

    def gradient_left(self, gradient: Array) -> Array:
        """Return a gradient in the user's units."""
        return _times(_transposed(self.inverse), gradient / self.scale)


class _Centred(Units):
    """Units of entries apart from one, whose gradient most others nearly share, as the intercept's if X is far off."""

    def __init__(self, units: Units, pivot: int, shares: Array) -> None:
        super().__init__(units.basis, units.inverse, units.scale)
        self.pivot, self.shares = pivot, shares  # of the pivot's gradient in the others'

    def enter(self, x: Array) -> Array:
        x = x.copy()
        x[self.pivot] += self.shares @ x
        return super().enter(x)

    def leave(self, z: Array) -> Array:
        x: Array = super().leave(z)
        x[self.pivot] -= self.shares @ x
        return x

    def gradient(self, gradient: Array) -> Array:
        return super().gradient(gradient - (self.shares * gradient[self.pivot]).astype(gradient.dtype))

    def gradient_left(self, gradient: Array) -> Array:
        left = super().gradient_left(gradient)
        whole: Array = left + self.shares * left[self.pivot]
        return whole


def _transposed(matrix: Any) -> Any:
    return matrix.T if np.ndim(matrix) == 2 else matrix


def _times(matrix: Any, vector: Array) -> Array:
    return np.asarray(matrix @ vector if np.ndim(matrix) == 2 else matrix * vector)


def measured(objective: Objective, theta: Parameters, rows: Rows, free: Any) -> Units:
    """Return units of the trained entries, by what the gradients of rows are here: with a mean square of 1.

    Under a loss by name these are the gradients that the rows would have if the mean of y were predicted: so they
    do not vanish where every row agrees with the model. Rows are evaluated one by one, so that a row of weight 2
    counts as two; of many, a sample.

    An entry has a unit of its own in a block whose gradients keep their directions as θ changes, such as weights of
    columns; elsewhere, as in the layers of a network, what is small here may be large soon, and a block has one
    unit. In a model that is linear in its few parameters the units are those of a matrix. A penalty adds to them as it
    adds to the Hessian. They are 1 if the loss is no sum over rows.
    """
    layout = theta.layout
    n_entries = np.zeros(layout.size)[free].size
    if objective.additive is False or not n_entries:
        return Units()
    is_small = n_entries <= LARGEST_MATRIX
    n_rows = max(ROWS, ROWS_PER_ENTRY * n_entries if is_small else 0)
    square = np.zeros(n_entries)
    total = derivatives = 0.0
    here = theta.vector.copy()
    first: list[Array] = []
    is_kept = n_entries <= LARGEST_PRODUCTS
    found: list[Array] = []
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batches = rows.sample(n_rows, SPREAD, batch_size=1)
            constant = objective.constant_prediction(theta, batches)
            for gradient, derivative, weight in _of_rows(objective, theta, free, batches, constant):
                square += weight * gradient * gradient
                derivatives += weight * derivative * derivative
                total += weight
                if len(first) < PROBED:
                    first.append(gradient)
                if is_kept:
                    found.append(math.sqrt(weight) * gradient)
            size = math.sqrt(derivatives / total)
            size = size if math.isfinite(size) and size > 0 else 1.0
            square /= total
            curvature = objective.curvature_of_penalty[free] * size * size
            spread = _filled(np.sqrt(square + curvature))
            theta.vector[free] += np.where(np.arange(n_entries) % 2, -PROBE, PROBE) * size * size / spread
            probed = [gradient for gradient, *_ in _of_rows(objective, theta, free, batches[:PROBED], constant)]
    except Exception:  # of a function that needs several rows
        return Units()
    finally:
        theta.vector[...] = here
    precision, units = float(np.finfo(layout.dtype).eps), Units.of_spread(spread, size)
    if _is_parallel(np.array(first), np.array(probed)):
        is_sample = len(batches) == n_rows < rows.n_samples  # else these are all rows that have a weight
        if is_small and (len(batches) >= 2 * n_entries or not is_sample):
            rows_and_penalty = np.concatenate([np.array(found) / math.sqrt(total), np.diag(np.sqrt(curvature))])
            units = Units.of_matrix(rows_and_penalty, spread, size, precision)
            if is_sample:
                units.weak = tuple(np.flatnonzero(units.shares < WEAK).tolist())
        else:
            units = _without_common_part(np.array(found), spread, size, precision) if is_kept else units
        units.hold_everywhere = units.is_sized = constant is not None
        return units
    places = np.full(layout.size, -1)
    places[free] = np.arange(n_entries)
    units = Units.of_spread(_by_block(spread, [places[where] for where in layout.slices], first, probed), size)
    units.is_sized = constant is not None
    return units


def _by_block(spread: Array, blocks: list[Array], first: list[Array], second: list[Array]) -> Array:
    """Return root mean squares, one for all of a block whose gradients change their directions."""
    spread = spread.copy()
    for block in blocks:
        entries = block[block >= 0]
        if entries.size and not _is_parallel(*(np.array([g[entries] for g in rows]) for rows in (first, second))):
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
    return _Centred(Units.of_spread(left, size), pivot, shares)


def _of_rows(
    objective: Objective, theta: Parameters, free: Any, batches: list[Batch], constant: Array | None
) -> Iterator[tuple[Array, float, float]]:
    """Yield, for each row, its gradient, the size of the derivative in the prediction, 1 if unknown, and the weight.

    They are those at a constant prediction, if there is one; batches have one row each.
    """
    of_constant = objective.model.gradient_form.composes_loss and not objective.numerical
    evaluated = objective
    if constant is not None and of_constant:
        evaluated = objective.with_loss(_AtConstant(objective.loss, constant))
    for batch in batches:
        weight = 1.0 if batch.sample_weight is None else float(batch.sample_weight[0])
        gradient = evaluated.contribution(theta, batch).dense().gradient[free].astype(np.float64)
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
