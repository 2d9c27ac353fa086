"""The objective as half a sum of squares: its terms and their Jacobian, for the least-squares methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.linalg import qr

from .data.batch import Batch
from .data.rows import Rows
from .losses import SquaredError
from .objective import Objective, match_target
from .parameters import Parameters
from .typing import Array, Shape


class Residuals:
    """The objective as half a sum of squares, for the methods that need its terms.

    Parameters
    ----------
    objective : Objective
        With the `jacobian` form and the squared error.

    Raises
    ------
    ValueError
        For another gradient form or loss.
    """

    def __init__(self, objective: Objective) -> None:
        if not objective.model.gradient_form.is_matrix or type(objective.loss) is not SquaredError:
            raise ValueError(
                "A least-squares method needs the jacobian form and loss='squared_error'; got "
                f"{objective.model.form} and {objective.loss!r}. Use 'lbfgs' or another method instead."
            )
        self.objective = objective

    def values(self, theta: Parameters, rows: Rows) -> Array:
        """Return the residuals, of shape (n * k [+ penalised entries],); half the sum of squares is the objective.

        Of rows in several parts, the length of those of each part stands for them.
        """
        n_samples, of_penalty = rows.n_samples, self._of_penalty(theta)

        def of_batch(batch: Batch) -> Array:
            residuals = self._of_batch(theta, batch, n_samples)[0]
            return residuals if batch.n == n_samples else _length(residuals)

        return np.concatenate([*rows.map(of_batch), *of_penalty])

    def tangents(self, theta: Parameters, rows: Rows) -> tuple[Array, Array, tuple[int, ...]]:
        """Return the residuals, their derivative, and the blocks that have none.

        Of rows in several parts, those of each are rotated so that the matrix is a triangle: so much can be held, and
        sent, of any number of rows. All products and lengths are as before [Demmel2012]_.

        Parameters
        ----------
        theta : Parameters
        rows : Rows

        Returns
        -------
        residuals : ndarray of shape (n_residuals,)
        matrix : ndarray of shape (n_residuals, n_columns)
            With columns for the blocks that have a derivative only, in their order.
        missing : tuple of int
            The others: fixed, or None in every batch.

        References
        ----------
        .. [Demmel2012] J. Demmel, L. Grigori, M. Hoemmen and J. Langou, "Communication-optimal Parallel and Sequential
           QR and LU Factorizations", SIAM Journal on Scientific Computing 34, 2012.
        """
        n_samples, slices = rows.n_samples, theta.layout.slices

        def of_batch(batch: Batch) -> tuple[Array, Array, list[int]]:
            residuals, leaves = self._of_batch(theta, batch, n_samples, with_derivative=True)
            there = [index for index, leaf in enumerate(leaves) if leaf is not None]
            matrix = np.zeros((len(residuals), sum(slices[index].stop - slices[index].start for index in there)))
            for where, index in zip(_columns(slices, there).values(), there, strict=True):
                matrix[:, where] = leaves[index]
            return (residuals, matrix, there) if batch.n == n_samples else (*_triangle(residuals, matrix), there)

        parts = rows.map(of_batch)
        columns = _columns(slices, sorted(set().union(*(there for *_, there in parts))))
        of_penalty = penalty_rows(self.objective, theta)
        n_columns = sum(where.stop - where.start for where in columns.values())
        matrix = np.zeros((sum(len(residuals) for residuals, *_ in parts) + len(of_penalty), n_columns))
        top = 0
        for residuals, part, there in parts:
            for index, where in _columns(slices, there).items():
                matrix[top : top + len(residuals), columns[index]] = part[:, where]
            top += len(residuals)
        for index, where in columns.items():
            matrix[top:, where] = of_penalty[:, slices[index]]
        residuals = np.concatenate([*(residuals for residuals, *_ in parts), *self._of_penalty(theta)])
        return residuals, matrix, tuple(index for index in range(len(slices)) if index not in columns)

    def _of_penalty(self, theta: Parameters) -> list[Array]:
        return [alpha**0.5 * theta.block(index) for index, alpha in self.objective.penalties]

    def _of_batch(
        self, theta: Parameters, batch: Batch, n_samples: int, with_derivative: bool = False
    ) -> tuple[Array, list[Array | None]]:
        """The residuals of a batch, and their derivatives by each block; None for one without."""
        objective = self.objective
        predicted = objective.predictions(theta.structure, batch)
        y, prediction = match_target(batch.y, predicted)
        residuals = _weighted(prediction - y, self._root_weights(batch, n_samples, prediction)).ravel()
        if not with_derivative:
            return residuals, []
        weights = self._root_weights(batch, n_samples, predicted)
        weights = np.broadcast_to(weights, predicted.shape).reshape(-1, 1)
        leaves = derivatives(objective, theta, batch, predicted.shape)
        return residuals, [None if leaf is None else _weighted(leaf, weights) for leaf in leaves]

    @staticmethod
    def _root_weights(batch: Batch, n_samples: int, prediction: Array) -> Array:
        share = np.full(batch.n, 1 / n_samples) if batch.sample_weight is None else batch.sample_weight / n_samples
        roots: Array = np.sqrt(share).astype(prediction.dtype)
        return roots if prediction.ndim == 1 else roots[:, None]


def derivatives(objective: Objective, theta: Parameters, batch: Batch, shape: Shape) -> list[Array | None]:
    """Return the derivative of a prediction of some shape by each block of the vector; None for one without."""
    leaves = [
        None if leaf is None else theta.block_pulled_back(index, leaf)
        for index, leaf in enumerate(objective.jacobian(theta.structure, batch, shape))
    ]
    for index in set(objective.numerical).difference(objective.fixed):
        columns = objective.differences(objective.predictions, theta, batch, index)
        leaves[index] = columns.reshape(len(columns), -1).T
    for index in objective.fixed:
        leaves[index] = None
    return leaves


def penalty_rows(objective: Objective, theta: Parameters) -> Array:
    """Return a matrix R with R'R the curvature of the penalty by the vector, along straight lines of the parameters."""
    sizes = [math.prod(objective.layout.shapes[index]) for index, _ in objective.penalties]
    rows, top = np.zeros((sum(sizes), theta.layout.size)), 0
    for (index, alpha), size in zip(objective.penalties, sizes, strict=True):
        where = theta.layout.slices[index]
        rows[top : top + size, where] = theta.block_pulled_back(index, alpha**0.5 * np.eye(size))
        top += size
    return rows


def _columns(slices: Sequence[slice], blocks: Iterable[int]) -> dict[int, slice]:
    """Where the columns of blocks stand in a matrix that has no others."""
    columns, n = {}, 0
    for index in blocks:
        size = slices[index].stop - slices[index].start
        columns[index] = slice(n, n + size)
        n += size
    return columns


def _length(residuals: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.atleast_1d(np.linalg.norm(residuals.astype(np.float64))).astype(residuals.dtype)


def _triangle(residuals: Array, matrix: Array) -> tuple[Array, Array]:
    """Rotate residuals and their derivative; what is not finite stays so."""
    columns = np.column_stack([matrix, residuals])
    if not np.isfinite(columns).all():
        return np.full(1, np.nan, residuals.dtype), np.full((1, matrix.shape[1]), np.nan)
    (triangle,) = qr(columns, mode="r", overwrite_a=True, check_finite=False)
    triangle = triangle[: columns.shape[1]]
    return triangle[:, -1].astype(residuals.dtype), triangle[:, :-1].copy()


def _weighted(values: Array, weights: Array) -> Array:
    """Return products with weights; 0 if the weight is 0, whatever the value is."""
    with np.errstate(invalid="ignore"):
        products: Array = values * weights
    products[np.broadcast_to(weights == 0, products.shape)] = 0
    return products
