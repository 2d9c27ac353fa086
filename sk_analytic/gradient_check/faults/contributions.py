"""The contribution of each sample, and of each of its outputs, to the derivative along a direction.

If the loss has a name, differences of `forward` along a direction give all samples and outputs at once:
contribution = (derivative of the loss in the prediction) times (derivative of the prediction). A
user's own loss is evaluated sample by sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...finite_differences import extrapolated
from ...losses import Loss
from ...objective import match_target
from ...typing import Array
from ..differences import FIRST_STEP
from ..evaluation import Situation, replaced, take
from ..evidence import Case

MOST_ROWS = 128  # rows on which a user's own loss is evaluated one by one


class Contributions:
    """Rows, outputs and directions of one case at one situation.

    Attributes
    ----------
    rows : ndarray of shape (n, n_directions) or None
        Derivative of each row's own loss, without weights.
    slopes : ndarray of shape (n, k, n_directions) or None
        Derivative of each prediction.
    """

    def __init__(self, case: Case, situation: Situation) -> None:
        self.case, self.situation = case, situation
        self.subject, self.batch = situation.subject, situation.batch
        self.objective = self.subject.objective
        self.directions = case.directions if situation is case.situation else case.directions[:4]
        self.true, self.error = case.sketch(situation)
        self.analytic = case.project(case.analytic(situation), self.directions)
        self.slopes: Any = None
        self.prediction: Any = None
        if self.objective.model.predictor is not None:
            self._differentiate_predictions()
        self.rows = self._rows()

    @classmethod
    def of(cls, case: Case, situation: Situation) -> Contributions:
        """Return those of a case at a situation; made once."""
        made = case.__dict__.setdefault("_contributions", {})
        if id(situation) not in made:
            made[id(situation)] = cls(case, situation)
        contributions: Contributions = made[id(situation)]
        return contributions

    def _differentiate_predictions(self) -> None:
        here = self.subject.predictions(self.situation.vector, self.batch)
        if here is None:
            return
        slopes = []
        for array in self.directions:
            direction = self.situation.direction(self.case.index, array)
            at = {
                h: self.subject.predictions(self.situation.vector + h * direction, self.batch)
                for h in (FIRST_STEP, FIRST_STEP / 2, -FIRST_STEP / 2, -FIRST_STEP)
            }
            if any(p is None or p.shape != here.shape for p in at.values()):
                return
            slopes.append(extrapolated(at.__getitem__, FIRST_STEP).reshape(len(here), -1))
        self.prediction, self.slopes = here, np.stack(slopes, axis=-1)

    def derivative(self, loss: Loss | None = None, y: Array | None = None) -> Array | None:
        """Return a named loss's derivative in the predictions, (n, k), without weights or mean; None if it has none."""
        loss = self.objective.loss if loss is None else loss
        if loss is None or not loss.additive or self.prediction is None:
            return None
        try:
            target, matched = match_target(self.batch.y if y is None else y, self.prediction)
            derivative = loss.value_and_derivative(target, matched)[1]
        except Exception:
            return None
        return derivative.reshape(len(matched), -1) if np.isfinite(derivative).all() else None

    def combine(self, derivative: Array, row_weights: Array | None = None) -> Array:
        """Return what derivatives in the predictions give along the directions: the mean over the rows."""
        weight = self.row_weights if row_weights is None else row_weights
        combined: Array = np.einsum("n,nk,nkd->d", weight, derivative, self.slopes)
        return combined

    @property
    def row_weights(self) -> Array:
        """The weight of each row in the objective."""
        weight = self.batch.sample_weight
        weights: Array = (np.ones(self.batch.n) if weight is None else weight) / self.batch.n
        return weights

    def _rows(self) -> Array | None:
        """Derivative of each row's own loss; checked against the whole."""
        named = self.objective.model.loss is None and not self.objective.model.gradient_form.has_own_loss
        if named:
            derivative = self.derivative()
            rows = None if derivative is None else np.einsum("nk,nkd->nd", derivative, self.slopes)
        else:
            rows = self._one_by_one()
        if rows is None or not np.isfinite(rows).all():
            return None
        whole = self.row_weights @ rows
        left = np.linalg.norm(whole - self.true)
        return rows if left <= 1e-5 * np.abs(rows).max() + 10 * np.linalg.norm(self.error) else None

    def _one_by_one(self) -> Array | None:
        if not 1 < self.batch.n <= MOST_ROWS:
            return None
        rows = []
        for row in range(self.batch.n):
            one = self.situation.of(replaced(take(self.batch, [row]), sample_weight=None))
            steps = [one.slope(self.case.index, array)[0] for array in self.directions]
            if not np.isfinite(steps).all():
                return None
            rows.append(steps)
        return np.array(rows)
