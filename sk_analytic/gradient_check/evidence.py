"""One failed block under diagnosis: sketches of its true derivative, and the engine that weighs an explanation.

The derivative is never computed entry by entry: a handful of random directions in the block, the same for every
hypothesis, distinguish a right explanation from a wrong one whatever the number of entries. An explanation is accepted
only if it predicts more numbers than it has free ones: a factor is fitted on some directions, and must hold on others,
on other samples and at another θ.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..finite_differences import size_of
from ..typing import Array
from .evaluation import Situation, SpentError

CHOSEN_ON, VERIFIED_ON, ELSEWHERE = 6, 4, 4  # directions
EXPLAINS = 2e-5  # relative difference up to which a hypothesis explains the numbers
LEFT_OVER = 0.05  # and no more than this share of the fault may be left over

Numbers: TypeAlias = Callable[..., Any]


class Way(NamedTuple):
    """One way in which a hypothesis may hold.

    Attributes
    ----------
    words : dict
        What fills in the template of the explanation; evidence too.
    numbers : callable
        ``numbers(situation, count) -> (expected, errors, claimed)`` along up to ``count`` directions, or None if it
        does not apply there: what differences of the loss give, their errors, and what should be equal to it by the
        analytic gradient.
    n_free : int
        Free numbers: 1 if ``claimed`` may be ``expected`` times a constant.
    """

    words: dict[str, Any]
    numbers: Numbers
    n_free: int = 0


class Fit(NamedTuple):
    """How well a way fits: claimed over expected, the largest relative difference, and how many numbers agree."""

    factor: float
    agreement: float
    n_numbers: int

    @property
    def evidence(self) -> dict[str, Any]:
        """The numbers, for a finding."""
        return self._asdict()


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
        tangents = [situation.block(index, situation.direction(index, draw)) for draw in draws]
        self.directions = self.scale * np.array(tangents)
        self._sketches: dict[int, Any] = {}

    @property
    def others(self) -> list[int]:
        """Indices of the other blocks."""
        return [i for i in range(len(self.subject.layout.names)) if i != self.index]

    @property
    def situations(self) -> list[Situation]:
        """Its own situation, then those elsewhere."""
        return [self.situation, *self.elsewhere]

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

    def directions_at(self, situation: Situation) -> Array:
        """Return the directions of a situation: fewer elsewhere than at the case's own."""
        return self.directions if situation is self.situation else self.directions[:ELSEWHERE]

    def project(self, array: Array, directions: Array | None = None) -> Array:
        """Return the derivatives along the directions if the gradient were this array."""
        directions = self.directions if directions is None else directions
        slopes: Array = directions.reshape(len(directions), -1) @ np.ravel(array)
        return slopes

    def sketch(self, situation: Situation | None = None) -> tuple[Array, Array]:
        """Return the derivatives of the loss along a situation's directions, and their errors; computed once."""
        situation = situation or self.situation
        if id(situation) not in self._sketches:
            self._sketches[id(situation)] = (situation, *self.slopes(situation, self.directions_at(situation)))
        _, slopes, errors = self._sketches[id(situation)]
        return slopes, errors

    def difference(self, situation: Situation, count: int) -> tuple[Array, Array]:
        """Return true minus analytic derivative along some of a situation's directions, and the errors."""
        true, errors = (part[:count] for part in self.sketch(situation))
        claimed = self.project(self.analytic(situation), self.directions_at(situation)[:count])
        return true - claimed, errors + 1e-9 * np.abs(true)

    def slopes(self, situation: Situation, directions: Array) -> tuple[Array, Array]:
        """Return the derivatives of the loss along directions of the block, and their errors."""
        if self.size > 1:
            slopes, errors = np.array([situation.slope(self.index, d) for d in directions]).T
            return slopes, errors
        slope, error = situation.slope(self.index, np.full(self.shape, self.scale))  # one serves all directions
        lengths = directions.reshape(-1) / self.scale
        return slope * lengths, error * np.abs(lengths)

    @cached_property
    def mismatch(self) -> float:
        """Size of the fault along the directions."""
        true, _ = self.sketch()
        return float(np.linalg.norm(self.project(self.analytic()) - true))

    # The kinds of prediction.

    def repaired(self, function: Callable[..., Any]) -> Numbers:
        """Return the numbers of the claim that ``function(situation)`` is the true derivative."""

        def numbers(situation: Situation, count: int) -> Any:
            repaired = function(situation)
            if repaired is None:
                return None
            true, errors = self.sketch(situation)
            return true[:count], errors[:count], self.project(repaired, self.directions_at(situation))[:count]

        return numbers

    def derivative_at(self, change: Callable[..., Any]) -> Numbers:
        """Return the numbers of the claim that the analytic gradient is the derivative at ``change(situation)``."""

        def numbers(situation: Situation, count: int) -> Any:
            there, directions = change(situation), self.directions_at(situation)[:count]
            if there is None:
                return None
            return *self.slopes(there, directions), self.project(self.analytic(situation), directions)

        return numbers

    def differs_by(self, term: Callable[[Situation], Array]) -> Numbers:
        """Return the numbers of the claim that true minus analytic derivative is a multiple of ``term(situation)``."""

        def numbers(situation: Situation, count: int) -> Any:
            missing, errors = self.difference(situation, count)
            return self.project(term(situation), self.directions_at(situation)[:count]), errors, missing

        return numbers

    # Their evidence.

    def compare(self, way: Way, at: Sequence[Situation] | None = None) -> Fit | None:
        """Weigh a way: None if its predictions fail, or if they are no more than its free numbers.

        Parameters
        ----------
        way : Way
        at : sequence of Situation, default=None
            Where it must hold; at the case's own situation and elsewhere by default.

        Returns
        -------
        fit : Fit or None
        """
        first, *others = self.situations if at is None else at
        if not way.n_free and self._agreement(way.numbers(first, 2)) is None:
            return None
        numbers = _sound(way.numbers(first, len(self.directions)))
        factor = self._factor(numbers) if way.n_free else 1.0
        worst = self._agreement(numbers, factor) if factor else None
        if worst is None or np.linalg.norm(factor * numbers[0] - numbers[2]) > LEFT_OVER * self.mismatch:
            return None
        n_numbers = min(len(numbers[0]), self.size)
        for situation in others:
            numbers = way.numbers(situation, ELSEWHERE)
            agreement = self._agreement(numbers, factor, may_vanish=True)
            if agreement is None:
                return None
            worst = max(worst, agreement)
            n_numbers += min(len(numbers[0]), self.size)
        return Fit(float(factor), worst, n_numbers) if n_numbers > 2 * way.n_free else None

    @staticmethod
    def _factor(numbers: Any) -> float | Any:
        """The factor that fits best on the first directions, or None."""
        if numbers is None:
            return None
        expected, _, claimed = (part[:CHOSEN_ON] for part in numbers)
        square = float(expected @ expected)
        return float(expected @ claimed) / square if square else None

    @staticmethod
    def _agreement(numbers: Any, factor: float = 1.0, may_vanish: bool = False) -> float | None:
        """The relative difference between claimed and expected numbers, or None if that is too much."""
        numbers = _sound(numbers)
        if numbers is None:
            return None
        expected, errors, claimed = factor * numbers[0], factor * numbers[1], numbers[2]
        left, scale, error = (float(np.linalg.norm(a)) for a in (claimed - expected, expected, errors))
        if scale <= 10 * error and not may_vanish:  # the derivative is zero to rounding
            return None
        if left > EXPLAINS * max(scale, float(np.linalg.norm(claimed))) + 5 * error:
            return None
        return left / scale if scale else left


def quietly(function: Callable[[], Any]) -> Any:
    """Return what a function that calls the user's returns; None if theirs fails, as it may on inputs of our making."""
    try:
        return function()
    except SpentError:
        raise
    except Exception:
        return None


def _sound(numbers: Any) -> Any:
    """The numbers, or None if there are none or one is not finite."""
    return numbers if numbers is not None and all(np.isfinite(part).all() for part in numbers) else None
