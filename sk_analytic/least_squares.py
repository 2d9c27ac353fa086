"""The objective as half a sum of squares: its terms and their Jacobian, for the least-squares methods."""

from __future__ import annotations

import math

import numpy as np

from .data.batch import Batch
from .data.rows import Rows
from .losses import SquaredError
from .objective import Objective, match_target
from .optimizers.scipy_run import Tangents
from .parameters import Parameters
from .typing import Array, Shape


class Residuals:
    """The objective as half a sum of squares, for methods that need the residuals.

    Parameters
    ----------
    objective : Objective
        Objective with the `jacobian` form and the squared error.

    Raises
    ------
    ValueError
        If the gradient form or the loss is another one.
    """

    def __init__(self, objective: Objective) -> None:
        if not objective.model.gradient_form.is_matrix or type(objective.loss) is not SquaredError:
            raise ValueError(
                "A least-squares method needs the jacobian form and loss='squared_error'; got "
                f"{objective.model.form} and {objective.loss!r}. Use another method, such as 'lbfgs'."
            )
        self.objective = objective

    def values(self, theta: Parameters, rows: Rows) -> Array:
        """Return the residuals, of shape (n * k [+ penalized entries],); half their sum of squares is the objective.

        If the samples are in several parts, each part contributes the norm of its residuals only.
        """
        n_samples, of_penalty = rows.n_samples, self._of_penalty(theta)

        def of_batch(batch: Batch) -> Array:
            residuals = self._of_batch(theta, batch, n_samples)[0]
            return residuals if batch.n == n_samples else _length(residuals)

        return np.concatenate([*rows.map(of_batch), *of_penalty])

    def tangents(self, theta: Parameters, rows: Rows) -> tuple[Array, Array, tuple[int, ...]]:
        """Return the residuals, their derivative, and the blocks that have none.

        If the samples are in several parts, each part is rotated to a triangular matrix, whose size does not grow with
        the number of samples. All inner products are preserved [Demmel2012]_.

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

        def of_batch(batch: Batch) -> tuple[Array, dict[int, Array]]:
            residuals, leaves = self._of_batch(theta, batch, n_samples, with_derivative=True)
            return (residuals, leaves) if batch.n == n_samples else _triangle(residuals, leaves)

        parts = rows.map(of_batch)
        of_penalty = penalty_rows(self.objective, theta)
        columns, n_columns = {}, 0
        for index in sorted(set().union(*(leaves for _, leaves in parts))):
            size = slices[index].stop - slices[index].start
            columns[index] = slice(n_columns, n_columns + size)
            n_columns += size
        matrix = np.zeros((sum(len(residuals) for residuals, _ in parts) + len(of_penalty), n_columns))
        top = 0
        for residuals, leaves in parts:
            for index, leaf in leaves.items():
                matrix[top : top + len(residuals), columns[index]] = leaf
            top += len(residuals)
        for index, where in columns.items():
            matrix[top:, where] = of_penalty[:, slices[index]]
        residuals = np.concatenate([*(residuals for residuals, _ in parts), *self._of_penalty(theta)])
        return residuals, matrix, tuple(index for index in range(len(slices)) if index not in columns)

    def _of_penalty(self, theta: Parameters) -> list[Array]:
        return [alpha**0.5 * theta.block(index) for index, alpha in self.objective.penalties]

    def _of_batch(
        self, theta: Parameters, batch: Batch, n_samples: int, with_derivative: bool = False
    ) -> tuple[Array, dict[int, Array]]:
        """The residuals of a batch, and their derivatives by the blocks that have one."""
        objective = self.objective
        predicted = objective.predictions(theta.structure, batch)
        y, prediction = match_target(batch.y, predicted)
        residuals = _weighted(prediction - y, self._root_weights(batch, n_samples, prediction)).ravel()
        if not with_derivative:
            return residuals, {}
        weights = self._root_weights(batch, n_samples, predicted)
        weights = np.broadcast_to(weights, predicted.shape).reshape(-1, 1)
        leaves = derivatives(objective, theta, batch, predicted.shape)
        return residuals, {index: _weighted(leaf, weights) for index, leaf in enumerate(leaves) if leaf is not None}

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


def _length(residuals: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.atleast_1d(np.linalg.norm(residuals.astype(np.float64))).astype(residuals.dtype)


def _triangle(residuals: Array, leaves: dict[int, Array]) -> tuple[Array, dict[int, Array]]:
    """Rotate residuals and their derivatives by blocks; what is not finite stays so."""
    matrix = np.column_stack([np.empty((len(residuals), 0)), *leaves.values()])
    if not (np.isfinite(matrix).all() and np.isfinite(residuals).all()):
        return np.full(1, np.nan, residuals.dtype), {
            i: np.full((1, leaf.shape[1]), np.nan) for i, leaf in leaves.items()
        }
    rotated = Tangents.of(residuals.astype(np.float64), matrix)
    ends = np.cumsum([leaf.shape[1] for leaf in leaves.values()])
    parts = np.split(rotated.matrix, ends[:-1], axis=1)
    return rotated.residuals.astype(residuals.dtype), dict(zip(leaves, parts, strict=True))


def _weighted(values: Array, weights: Array) -> Array:
    """Return products with weights; 0 if the weight is 0, whatever the value is."""
    with np.errstate(invalid="ignore"):
        products: Array = values * weights
    products[np.broadcast_to(weights == 0, products.shape)] = 0
    return products
