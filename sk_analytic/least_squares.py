"""The objective as half a sum of squares: its terms and their Jacobian, for the least-squares methods."""

from __future__ import annotations

import numpy as np

from .data.batch import Batch
from .data.rows import Rows
from .losses import SquaredError
from .objective import Objective, match_target
from .parameters import Parameters
from .typing import Array


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
            residuals: Array = (prediction - y) * self._root_weights(batch, rows.n_samples, prediction.ndim)
            return residuals.ravel()

        blocks = objective.layout.blocks(theta.vector)
        return np.concatenate([*rows.map(of_batch), *(a**0.5 * blocks[i].ravel() for i, a in objective.penalties)])

    def jacobian(self, theta: Parameters, rows: Rows) -> Array:
        """Return the derivative of the residuals, a matrix with a column for each entry of θ."""
        parts = rows.map(lambda batch: self._jacobian(theta, batch, rows.n_samples))
        trained = [any(part) for part in zip(*(trained for _, trained in parts), strict=True)]
        diagonals = [self._penalty_rows(index, alpha, trained[index]) for index, alpha in self.objective.penalties]
        return np.concatenate([*(matrix for matrix, _ in parts), *diagonals])

    def _jacobian(self, theta: Parameters, batch: Batch, n_samples: int) -> tuple[Array, list[bool]]:
        """The rows of a batch in the Jacobian, and which blocks are trained."""
        objective = self.objective
        prediction = objective.predictions(theta.structure, batch)
        weights = self._root_weights(batch, n_samples, prediction.ndim)
        weights = np.broadcast_to(weights, prediction.shape).reshape(-1, 1)
        matrix = np.zeros((prediction.size, objective.layout.size))
        leaves = objective.jacobian(theta.structure, batch, prediction.shape)
        trained = [
            (leaf is not None or index in objective.numerical) and index not in objective.fixed
            for index, leaf in enumerate(leaves)
        ]
        for index, (leaf, where) in enumerate(zip(leaves, objective.layout.slices, strict=True)):
            if trained[index] and index in objective.numerical:
                columns = objective.differences(objective.predictions, theta, batch, index)
                matrix[:, where] = weights * columns.reshape(len(columns), -1).T
            elif trained[index]:
                matrix[:, where] = weights * leaf
        return matrix, trained

    def _penalty_rows(self, index: int, alpha: float, is_trained: bool) -> Array:
        layout = self.objective.layout
        where = layout.slices[index]
        rows = np.zeros((where.stop - where.start, layout.size))
        if is_trained:
            rows[:, where] = alpha**0.5 * np.eye(len(rows))
        return rows

    @staticmethod
    def _root_weights(batch: Batch, n_samples: int, ndim: int) -> Array:
        share = np.full(batch.n, 1 / n_samples) if batch.sample_weight is None else batch.sample_weight / n_samples
        return np.sqrt(share) if ndim == 1 else np.sqrt(share)[:, None]
