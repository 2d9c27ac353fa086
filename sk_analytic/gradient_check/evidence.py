"""One failed block under diagnosis: sketches of its true derivative, and what explains them.

The derivative is never computed entry by entry: a handful of random directions in the block, the same for every
hypothesis, distinguish a right explanation from a wrong one whatever the number of entries. A hypothesis is chosen on
some directions and must hold on others, on other samples and at another θ.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ..finite_differences import size_of
from ..typing import Array
from .evaluation import Situation

CHOSEN_ON, VERIFIED_ON, ELSEWHERE = 6, 4, 4  # directions
EXPLAINS = 2e-5  # relative difference up to which a hypothesis explains the numbers
LEFT_OVER = 0.05  # and no more than this share of the fault may be left over


class Fit:
    """How well a hypothesis fits: its factor, and the largest relative difference left over."""

    def __init__(self, factor: float, agreement: float) -> None:
        self.factor, self.agreement = factor, agreement

    @property
    def evidence(self) -> dict[str, float]:
        """The numbers, for a finding."""
        return {"factor": self.factor, "agreement": self.agreement}


class Case:
    """A failed block.

    Parameters
    ----------
    situation : Situation
        The θ and the samples on which it failed.
    index : int
        Of the block.
    elsewhere : list of Situation
        Situations with other θ and samples, to verify on.
    start : ndarray
        The user's θ.
    """

    def __init__(self, situation: Situation, index: int, elsewhere: list[Situation], start: Array) -> None:
        self.situation, self.index, self.elsewhere, self.start = situation, index, elsewhere, start
        self.subject = situation.subject
        layout = self.subject.layout
        self.name, self.shape = layout.names[index], layout.shapes[index]
        self.size = int(np.prod(self.shape))
        self.scale = size_of(self.theta())
        draws = self.subject.rng.standard_normal((CHOSEN_ON + VERIFIED_ON, *self.shape))
        self.directions = draws * self.scale
        self._sketches: dict[int, Any] = {}

    @property
    def others(self) -> list[int]:
        """Indices of the other blocks."""
        return [i for i in range(len(self.subject.layout.names)) if i != self.index]

    def theta(self, situation: Situation | None = None) -> Array:
        """Return this block's parameters."""
        situation = situation or self.situation
        return situation.block(self.index, situation.vector)

    def analytic(self, situation: Situation | None = None) -> Array:
        """Return this block's analytic gradient."""
        return (situation or self.situation).block(self.index)

    def analytic_of(self, gradient: Array) -> Array:
        """Return this block of a gradient vector."""
        return self.situation.block(self.index, gradient)

    def project(self, array: Array, directions: Array | None = None) -> Array:
        """Return the derivatives along the directions if the gradient were this array."""
        directions = self.directions if directions is None else directions
        slopes: Array = directions.reshape(len(directions), -1) @ np.ravel(array)
        return slopes

    def sketch(self, situation: Situation | None = None, directions: Array | None = None) -> Any:
        """Return the derivatives of the loss along the directions, and their errors.

        Fewer directions elsewhere than at the case's own situation.
        """
        situation = situation or self.situation
        if directions is None:
            if id(situation) not in self._sketches:
                chosen = self.directions if situation is self.situation else self.directions[:ELSEWHERE]
                self._sketches[id(situation)] = (situation, *self._slopes(situation, chosen))
            return self._sketches[id(situation)][1:]
        return self._slopes(situation, directions)

    def _slopes(self, situation: Situation, directions: Array) -> tuple[Array, Array]:
        slopes = [situation.slope(self.index, direction) for direction in directions]
        return np.array([s for s, _ in slopes]), np.array([e for _, e in slopes])

    @cached_property
    def mismatch(self) -> float:
        """Size of the fault along the directions."""
        true, _ = self.sketch()
        return float(np.linalg.norm(self.project(self.analytic()) - true))

    def explain(
        self,
        predict: Callable[..., Any],
        free: bool = False,
        everywhere: bool = True,
        directions: Array | None = None,
        at: Situation | None = None,
    ) -> Fit | None:
        """Test a prediction of the true derivative.

        Parameters
        ----------
        predict : callable
            ``predict(situation) -> array`` of the block's shape, or None if it does not apply.
        free : bool, default=False
            Whether a constant factor may be chosen.
        everywhere : bool, default=True
            Whether it must also hold on other samples and at another θ.
        directions : ndarray, default=None
            Instead of the case's own; then only at its own situation, or at another.
        at : Situation, default=None
            That other one.

        Returns
        -------
        fit : Fit or None
            None if it does not explain the derivative.
        """

        def sketch(situation: Situation) -> Any:
            predicted = predict(situation)
            if predicted is None or not np.isfinite(predicted).all():
                return None
            true, error = self.sketch(situation, directions)
            chosen = self.directions if directions is None else directions
            return self.project(predicted, chosen[: len(true)]), true, error

        if directions is None:
            return self.compare(sketch, free, everywhere)
        situation = at or self.situation
        predicted = predict(situation)
        if predicted is None or not np.isfinite(predicted).all():
            return None
        claimed = self.project(self.analytic(situation), directions)
        return self.match(self.project(predicted, directions), situation, directions, free, claimed)

    def match(
        self,
        predicted: Array,
        situation: Situation,
        directions: Array,
        free: bool = False,
        claimed: Array | None = None,
    ) -> Fit | None:
        """Test predicted numbers against the true ones along directions of a situation; two of them may refute it.

        ``claimed`` are the numbers of the fault that is to be explained, if not the case's own.
        """
        for few in (slice(0, 2), slice(None)):
            true, error = self.sketch(situation, directions[few])
            if not np.isfinite(true).all():
                return None
            mismatch = None if claimed is None else float(np.linalg.norm(claimed[few] - true))
            numbers = predicted[few], true, error
            fit = self.compare(lambda _, n=numbers: n, free, False, mismatch)
            if fit is None:
                return None
        return fit

    def compare(
        self, sketch: Callable[..., Any], free: bool = False, everywhere: bool = True, mismatch: float | None = None
    ) -> Fit | None:
        """Test predicted against true numbers: ``sketch(situation) -> (predicted, true, error)`` or None."""
        numbers = sketch(self.situation)
        if numbers is None:
            return None
        predicted, true, error = numbers
        factor = 1.0
        if free:
            half = slice(0, CHOSEN_ON)
            square = float(predicted[half] @ predicted[half])
            if not square:
                return None
            factor = float(predicted[half] @ true[half]) / square
        if np.linalg.norm(true) <= 10 * np.linalg.norm(error):  # the derivative is zero to rounding
            return None
        left = np.linalg.norm(factor * predicted - true)
        mismatch = self.mismatch if mismatch is None else mismatch
        worst = self._share(factor * predicted, true, error)
        if worst is None or left > LEFT_OVER * mismatch:
            return None
        if everywhere:
            if not self.elsewhere and free and self.size < 2:
                return None
            for situation in self.elsewhere:
                numbers = sketch(situation)
                share = None if numbers is None else self._share(factor * numbers[0], *numbers[1:])
                if share is None:
                    return None
                worst = max(worst, share)
        return Fit(factor, worst)

    @staticmethod
    def _share(predicted: Array, true: Array, error: Array) -> float | None:
        """The relative difference left over, or None if that is too much."""
        left, scale = np.linalg.norm(predicted - true), np.linalg.norm(true)
        if not np.isfinite(left) or left > EXPLAINS * max(scale, np.linalg.norm(predicted)) + 5 * np.linalg.norm(error):
            return None
        return float(left / scale) if scale else float(left)
