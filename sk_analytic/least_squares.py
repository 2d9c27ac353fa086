"""The objective as half a sum of squares: its terms and their Jacobian, for the least-squares methods."""

from __future__ import annotations

import math

import numpy as np

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
        """Return the residuals, of shape (n * k [+ penalised entries],); half the sum of squares is the objective."""
        objective = self.objective

        def of_batch(batch: Batch) -> Array:
            y, prediction = match_target(batch.y, objective.predictions(theta.structure, batch))
            weights = self._root_weights(batch, rows.n_samples, prediction)
            return _weighted(prediction - y, weights).ravel()

        return np.concatenate([*rows.map(of_batch), *(a**0.5 * theta.block(i) for i, a in objective.penalties)])

    def jacobian(self, theta: Parameters, rows: Rows) -> tuple[Array, tuple[int, ...]]:
        """Return the derivative of the residuals, and the blocks that have none.

        Parameters
        ----------
        theta : Parameters
        rows : Rows

        Returns
        -------
        matrix : ndarray of shape (n_residuals, n_columns)
            With columns for the blocks that have a derivative only, in their order.
        missing : tuple of int
            The others: fixed, or None in every batch.
        """
        parts = rows.map(lambda batch: self._leaves(theta, batch, rows.n_samples))
        of_penalty = penalty_rows(self.objective, theta)
        sizes = [where.stop - where.start for where in theta.layout.slices]
        columns, n_columns = {}, 0
        for index, size in enumerate(sizes):
            if any(leaves[index] is not None for _, leaves in parts):
                columns[index] = slice(n_columns, n_columns + size)
                n_columns += size
        matrix = np.zeros((sum(n for n, _ in parts) + len(of_penalty), n_columns))
        top = 0
        for n, leaves in parts:
            for index, where in columns.items():
                if leaves[index] is not None:
                    matrix[top : top + n, where] = leaves[index]
            top += n
        for index, where in columns.items():
            matrix[top:, where] = of_penalty[:, theta.layout.slices[index]]
        return matrix, tuple(index for index in range(len(sizes)) if index not in columns)

    def _leaves(self, theta: Parameters, batch: Batch, n_samples: int) -> tuple[int, list[Array | None]]:
        """The number of residuals of a batch, and their derivatives by each block; None for one without."""
        objective = self.objective
        prediction = objective.predictions(theta.structure, batch)
        weights = self._root_weights(batch, n_samples, prediction)
        weights = np.broadcast_to(weights, prediction.shape).reshape(-1, 1)
        leaves = derivatives(objective, theta, batch, prediction.shape)
        return prediction.size, [None if leaf is None else _weighted(leaf, weights) for leaf in leaves]

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


def _weighted(values: Array, weights: Array) -> Array:
    """Return products with weights; 0 if the weight is 0, whatever the value is."""
    with np.errstate(invalid="ignore"):
        products: Array = values * weights
    products[np.broadcast_to(weights == 0, products.shape)] = 0
    return products
