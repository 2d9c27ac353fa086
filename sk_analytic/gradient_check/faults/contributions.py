"""Contributions of each sample, and of each of its outputs, to the derivative along a direction and to the gradient.

If the loss has a name, differences of `forward` along a direction give all samples and outputs at once:
contribution = (derivative of the loss in the prediction) times (derivative of the prediction). A
user's own loss is evaluated sample by sample. The gradient's own contributions are the rows of a Jacobian, a pullback
of one sample and output at a time, or a gradient of one sample at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...finite_differences import central, extrapolated
from ...losses import Loss
from ...objective import match_target
from ...typing import Array
from ..differences import FIRST_STEP
from ..evaluation import Situation, replaced, take
from ..evidence import Case, Numbers, quietly

MOST_ROWS = 128  # rows on which a user's own loss is evaluated one by one
MOST_PULLBACKS = 400
ROUGH = 1e-5  # change between two steps, relative to the largest slope, from which there may be a kink
TINY = np.finfo(float).tiny

# How samples may be weighted: n samples of weights w.
SHARES: dict[str, Callable[[Array, int], Array]] = {
    "multiply the samples, and the sum is divided by the number of samples": lambda w, n: w / n,
    "multiply the samples, and the sum is divided by the weights' sum": lambda w, n: w / w.sum(),
    "multiply the samples, and the sum is not divided": lambda w, n: w,
    "are ignored": lambda w, n: np.ones(n) / n,
    "are ignored, and the sum is not divided": lambda w, n: np.ones(n),
    "are ignored, and the sum is divided by the weights' sum": lambda w, n: np.ones(n) / w.sum(),
    "are applied twice": lambda w, n: w * w / n,
    "are applied twice, and the sum is divided by the weights' sum": lambda w, n: w * w / w.sum(),
    "are applied twice, and the sum is divided by theirs": lambda w, n: w * w / (w @ w),
    "are applied twice, and the sum is divided by the square of the weights' sum": lambda w, n: w * w / w.sum() ** 2,
    "enter as their square roots": lambda w, n: np.sqrt(w) / n,
    "enter as their square roots, and the sum is divided by the weights' sum": lambda w, n: np.sqrt(w) / w.sum(),
    "enter as their square roots, and the sum is divided by theirs": lambda w, n: np.sqrt(w) / np.sqrt(w).sum(),
    "divide instead of multiplying": lambda w, n: 1 / w / n,
}


class Parts(NamedTuple):
    """Contributions by sample (and output), along each direction: those of the loss, their errors, the gradient's.

    Attributes
    ----------
    true, errors, claimed : ndarray of shape (n, k, n_directions)
    """

    true: Array
    errors: Array
    claimed: Array


class Contributions:
    """Rows, outputs and directions of one case at one situation.

    Attributes
    ----------
    prediction : ndarray or None
        What `forward` returns.
    slopes : ndarray of shape (n, k, n_directions) or None
        Derivative of each prediction.
    rows : ndarray of shape (n, n_directions) or None
        Derivative of each row's own loss, without weights.
    shares : ndarray of shape (n,)
        The weight of each row in the objective.
    """

    def __init__(self, case: Case, situation: Situation) -> None:
        self.case, self.situation = case, situation
        self.subject, self.batch = situation.subject, situation.batch
        self.objective = self.subject.objective
        self.directions = case.directions_at(situation)
        self.true, self.error = case.sketch(situation)
        self.analytic = case.project(case.analytic(situation), self.directions)
        self.slopes: Any = None
        self.prediction: Any = None
        if self.objective.model.predictor is not None:
            self._differentiate_predictions()
        self.how, self.shares = "", self._plain_shares()
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
        for array in self.directions if self.case.size > 1 else self.directions[:1]:
            slope = self._slopes_along(self.situation.direction(self.case.index, array), here)
            if slope is None:
                return
            slopes.append(slope.reshape(len(here), -1))
        self.prediction, self.slopes = here, np.stack(slopes, axis=-1)
        if self.case.size == 1:  # one direction serves all
            self.slopes = self.slopes * (self.directions.reshape(-1) / self.directions.reshape(-1)[0])

    def _slopes_along(self, direction: Array, here: Array) -> Array | None:
        """Derivative of each prediction; by a smaller step where the first meets a kink."""
        slopes, rough = np.zeros(here.shape), np.ones(here.shape, bool)
        for step in (FIRST_STEP, FIRST_STEP / 100):
            at = {
                h: self.subject.predictions(self.situation.vector + h * direction, self.batch)
                for h in (step, step / 2, -step / 2, -step)
            }
            if any(p is None or p.shape != here.shape for p in at.values()):
                return None
            better = extrapolated(at.__getitem__, step)
            slopes = np.where(rough, better, slopes)
            change = np.abs(better - central(at.__getitem__, step / 2))
            rough = change > ROUGH * np.abs(better).max(initial=0.0)
            if not rough.any():
                break
        return slopes

    def derivative(
        self, loss: Loss | None = None, y: Array | None = None, prediction: Array | None = None
    ) -> Array | None:
        """Return a named loss's derivative in the predictions, (n, k), without weights or mean; None if it has none."""
        loss = self.objective.loss if loss is None else loss
        prediction = self.prediction if prediction is None else prediction
        if loss is None or not loss.additive or prediction is None:
            return None

        def evaluated() -> Array:
            target, matched = match_target(self.batch.y if y is None else y, prediction)
            beside = self.objective.metadata_of(self.batch) if loss is self.objective.loss else {}
            return loss.value_and_derivative(target, matched, **beside)[1].reshape(len(matched), -1)

        derivative: Any = quietly(evaluated)
        return derivative if derivative is not None and np.isfinite(derivative).all() else None

    @property
    def targets(self) -> Array | None:
        """What was observed, in the shape of the predictions (n, k): one-hot for classes; None if there is no y."""
        y = self.batch.y
        if y is None or self.prediction is None or y.dtype.kind not in "fiub":
            return None
        k = self.prediction.reshape(self.batch.n, -1).shape[1]
        if y.ndim == 1 and k > 1:
            return np.eye(k)[y] if y.dtype.kind in "iu" and y.min() >= 0 and y.max() < k else None
        return y.reshape(self.batch.n, -1).astype(float) if y.size == self.prediction.size else None

    def combine(self, derivative: Array, slopes: Array | None = None) -> Array:
        """Return what derivatives in the predictions give along the directions: the mean over the rows."""
        slopes = self.slopes if slopes is None else slopes
        combined: Array = np.einsum("n,nk,nkd->d", self.shares, derivative, slopes)
        return combined

    def _plain_shares(self) -> Array:
        weight, n = self.batch.sample_weight, self.batch.n
        shares: Array = (np.ones(n) if weight is None else weight) / n
        return shares

    def _rows(self) -> Array | Any:
        """Derivative of each row's own loss, if they add up to the whole: by the first convention that does."""
        named = self.objective.model.loss is None and not self.objective.model.gradient_form.has_own_loss
        if named:
            derivative = self.derivative()
            rows = None if derivative is None else np.einsum("nk,nkd->nd", derivative, self.slopes)
        else:
            rows = self._one_by_one()
        if rows is None or not np.isfinite(rows).all():
            return None
        tolerance = 1e-5 * np.linalg.norm(self.true) + 10 * np.linalg.norm(self.error)
        for how, shares in self.conventions():
            if np.linalg.norm(shares @ rows - self.true) <= tolerance:
                self.how, self.shares = how, shares
                return rows
        return None

    def conventions(self) -> list[tuple[str, Array]]:
        """Pairs of words and shares: how the rows may be weighted."""
        weight, n = self.batch.sample_weight, self.batch.n
        if weight is None:
            return [("", self._plain_shares())]
        with np.errstate(all="ignore"):
            return [(how, shares(weight, n)) for how, shares in SHARES.items()]

    def _single(self, row: int) -> Situation:
        return self.situation.of(replaced(take(self.batch, [row]), sample_weight=None))

    def _one_by_one(self) -> Array | None:
        if not 1 < self.batch.n <= MOST_ROWS:
            return None
        rows = np.array([self.case.slopes(self._single(row), self.directions)[0] for row in range(self.batch.n)])
        return rows if np.isfinite(rows).all() else None

    @cached_property
    def parts(self) -> Parts | None:
        """The contributions of loss and gradient, side by side; None if they do not add up to loss and gradient."""
        if self.objective.model.gradient_form.composes_loss:
            true, claimed, derivative = self.slopes, self._claimed_outputs(), self.derivative()
            if true is None or claimed is None or derivative is None or claimed.shape != true.shape:
                return None
            whole = self.combine(derivative, claimed)
        else:
            claimed = None if self.rows is None else self._claimed_rows()
            if claimed is None:
                return None
            true, claimed, whole = self.rows[:, None], claimed[:, None], self.shares @ claimed
        left = np.linalg.norm(whole - self.analytic)
        if not left <= 1e-6 * np.linalg.norm(self.analytic) + 1e-9 * np.abs(claimed).max():
            return None
        scale = np.abs(true).max(initial=0.0)
        errors = np.full(true.shape, 1e-8 * scale if self.prediction is not None else 1e-7 * scale)
        return Parts(true, errors, claimed)

    def _claimed_rows(self) -> Array | None:
        """The gradient of each sample alone."""
        if not 1 < self.batch.n <= MOST_ROWS:
            return None
        gradients = [self._single(row).gradient for row in range(self.batch.n)]
        if any(g is None or not np.isfinite(g).all() for g in gradients):
            return None
        return np.array([self.case.project(self.case.analytic_of(g), self.directions) for g in gradients])

    def _claimed_outputs(self) -> Array | None:
        """The gradient of each prediction: the rows of the Jacobian, or pullbacks of one at a time."""
        here = self.prediction
        if here is None:
            return None
        model, theta = self.objective.model, self.subject.parameters(self.situation.vector)
        if model.gradient_form.is_matrix:
            leaves = quietly(lambda: self.objective.jacobian(theta.structure, self.batch, here.shape))
            leaf = None if leaves is None else leaves[self.case.index]
            rows = None if leaf is None else leaf @ self.directions.reshape(len(self.directions), -1).T
        else:
            rows = self._pulled_back(theta.structure, here)
        return None if rows is None else rows.reshape(len(here), -1, len(self.directions))

    def _pulled_back(self, structure: Any, here: Array) -> Any:
        if here.size > MOST_PULLBACKS:
            return None

        def evaluated() -> Array:
            pullback = self.objective.model.gradient(structure, self.batch)[1]
            rows = []
            for unit in np.eye(here.size):
                self.subject.spend()
                rows.append(self.case.project(self._block_of(pullback(unit.reshape(here.shape))), self.directions))
            return np.array(rows)

        return quietly(evaluated)

    def _block_of(self, grads: Any) -> Array:
        layout = self.subject.layout
        vector = np.zeros(layout.size)
        layout.read_gradient(layout.unwrap(grads) if type(grads) is tuple else grads, layout.blocks(vector), "vjp")
        return self.case.analytic_of(vector)


def of_contributions(case: Case, predict: Callable[[Contributions], Any]) -> Numbers:
    """Return the numbers of the claim that ``predict(contributions)`` is the analytic gradient along the directions."""

    def numbers(situation: Situation, count: int) -> Any:
        contributions = Contributions.of(case, situation)
        predicted = predict(contributions)
        if predicted is None:
            return None
        share = min(1.0, float(np.linalg.norm(predicted) / max(np.linalg.norm(contributions.true), TINY)))
        return predicted[:count], share * contributions.error[:count], contributions.analytic[:count]

    return numbers
