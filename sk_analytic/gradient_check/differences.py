"""Numerical derivatives along a line, each with an estimate of its error.

Central differences at a step and its half are extrapolated (Richardson); the step then moves to where truncation and
rounding balance. That settles a right gradient in a few evaluations. If it does not, `Ladder` follows the differences
from steps as wide as θ down to those that noise hides, because a loss may hold anything between two scales.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..finite_differences import central, richardson
from ..typing import Array

EPS = float(np.finfo(np.float64).eps)
FIRST_STEP = 1e-3  # relative to the size of the entries
STEPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
PRECISE = 1e-7  # relative error at which no other step is tried

WIDEST = 2.0  # step of the first rung of a ladder
WIDE, NARROW, NARROW_FROM = 1.8, 9.7, 1e-2  # factors between rungs, and the step from which they are narrow
SHORTEST = 64  # rounding units of θ that a step has at least
SETTLED = 0.25  # share of a disagreement that the rungs may differ by, and their errors have, if it is to be real
RESOLVED = 20  # times its noise that the function varies by over the rungs, so that they show the function
UNMOVED = 1e-3  # share of a change by which a function is said not to move
KINKED = 0.1  # share of a disagreement that a jump of the slope must have to be its reason


class Differences:
    """Central differences of a function along a line, at several steps.

    Parameters
    ----------
    at : callable
        ``at(t) -> float``: the function at a signed distance.
    here : float
        Its value at 0.
    """

    def __init__(self, at: Callable[[float], float], here: float) -> None:
        self._at, self.here = at, here
        self.values = {0.0: here}
        self.estimates: dict[float, tuple[float, float, float]] = {}  # step: error, derivative, its rounding part

    def at(self, t: float) -> float:
        """Return the function at a distance; evaluated once."""
        if t not in self.values:
            self.values[t] = self._at(t)
        return self.values[t]

    def central(self, step: float) -> float:
        """Return the central difference."""
        difference: float = central(self.at, step)
        return difference

    def extend(self, step: float) -> None:
        """Add the extrapolation from a step and its half."""
        coarse, fine = self.central(step), self.central(step / 2)
        extrapolated = richardson(coarse, fine)
        rounding = 4 * self.resolution * abs(self.here) / step
        kink = max(0.0, self.jump(step / 2) - self.jump(step) / 2)  # 0 where the slope changes in proportion
        if np.isfinite(extrapolated):
            self.estimates[step] = abs(extrapolated - fine) + rounding + kink, extrapolated, rounding

    def refine(
        self, analytic: float | None = None, scale: float = 0.0, good: float = 1e-6, most: int = 4
    ) -> tuple[float, float]:
        """Move the step until the error is small, or until an expected value is met well enough."""
        step = FIRST_STEP
        for _ in range(most):
            self.extend(step)
            derivative, error = self.best()
            size = max(scale, abs(derivative))
            met = analytic is not None and abs(analytic - derivative) <= good * size and error <= 0.01 * size
            following = self._next(step)
            if met or error <= PRECISE * size or not following:
                break
            step = following
        return self.best()

    def _next(self, step: float) -> float | None:
        """The neighboring step that should be better, or None."""
        error, _, rounding = self.estimates.get(step, (np.inf, 0, 0))
        place = STEPS.index(step) + (1 if error > 2 * rounding or not np.isfinite(error) else -1)
        better = STEPS[place] if 0 <= place < len(STEPS) else None
        return None if better in self.estimates else better

    def best(self) -> tuple[float, float]:
        """Return the derivative with the smallest estimated error, and that error."""
        if not self.estimates:
            return np.nan, np.inf
        error, derivative, _ = min(self.estimates.values())
        return derivative, error

    @property
    def resolution(self) -> float:
        """Relative spacing of the numbers that the function returns: float64, float32 or float16."""
        return spacing_of(self.values.values())

    def jump(self, step: float) -> float:
        """Return the change of slope within a step: proportional to the step, but at a kink."""
        return abs(self.at(step) - 2 * self.here + self.at(-step)) / step

    def order(self, analytic: float, step: float) -> float:
        """Order at which the Taylor remainder of a claimed derivative shrinks: 2 if it is right, else 1."""
        wide, narrow = (abs(self.at(h) - self.here - h * analytic) for h in (step, step / 2))
        return float(np.log2(wide / narrow)) if wide > 0 and narrow > 0 else float("nan")


def spacing_of(numbers: Iterable[float]) -> float:
    """Return the relative spacing of the narrowest floating type that holds some numbers, if they are telling."""
    values = np.array([v for v in numbers if np.isfinite(v)])
    if len(set(values.tolist())) < 3 or np.array_equal(values, np.round(values)):
        return EPS
    for dtype in (np.float16, np.float32):
        if np.array_equal(values, values.astype(dtype)):
            return float(np.finfo(dtype).eps)
    return EPS


class Rung(NamedTuple):
    """The derivative at one step: its truncation is estimated from the step before, its rounding from the noise."""

    step: float
    derivative: float
    error: float


class Ladder:
    """Central differences at steps as wide as θ down to those that noise hides, beside a claimed derivative.

    A structure of the function that no rung can see would have to be as small as the noise.

    Parameters
    ----------
    differences : Differences
    claim : float
        The claimed derivative.
    unit : float
        Distance along the line that amounts to the rounding of θ.
    shift : callable
        ``shift(t) -> float``: what the claim says that the rounding of θ changes the function by, at a distance.
    doubt : float, default=0.0
        Noise that is known already.
    quantum : float, default=0.0
        Unit to which the function is rounded.
    """

    def __init__(
        self,
        differences: Differences,
        claim: float,
        unit: float,
        shift: Callable[[float], float],
        doubt: float = 0.0,
        quantum: float = 0.0,
    ) -> None:
        self.differences, self.claim, self.unit, self._shift = differences, claim, unit, shift
        self._doubt, self._quantum = doubt, quantum

    def at(self, t: float) -> float:
        """Return the function at a distance, at the θ that is meant and not at the rounded one."""
        return self.differences.at(t) - (0.0 if self.is_constant else self._shift(t))

    @cached_property
    def is_constant(self) -> bool:
        """Whether the function moves nowhere, though the claim says that it should, by more than it rounds."""
        moves = any(self._moved(t) for t in (WIDEST, WIDEST / WIDE, WIDEST / WIDE**2))
        return not moves and abs(self.claim) * WIDEST > 100 * max(self.rounding, self._doubt, self._quantum)

    @cached_property
    def rounding(self) -> float:
        """The noise that the spacing of the function's own numbers makes."""
        return self.differences.resolution * abs(self.differences.here)

    @cached_property
    def _measured(self) -> tuple[float, float]:
        return noise_of(self.differences.at, self.at, self.unit)

    @cached_property
    def _flat(self) -> tuple[float, float, float]:
        """The distance in which the function does not move, how far it moves then, and at twice that distance."""
        near = self._measured[1]
        if not near:
            return 0.0, 0.0, 0.0
        far = 2 * near
        while far < WIDEST and not self._moved(far):
            near, far = far, 2 * far
        while far > 1.01 * near:
            middle = near**0.5 * far**0.5  # whose product might be 0
            near, far = (near, middle) if self._moved(middle) else (middle, far)
        return near, self._moved(far), self._moved(2 * far)

    @cached_property
    def noise(self) -> float:
        """The standard deviation of the function's noise, but at least its rounding, and half of the steps it makes.

        NaN if it moves, but never enough to show any.
        """
        if self.is_constant:
            return max(self._doubt, self.rounding / 4)
        return max(self._measured[0], self._flat[1] / 2, self._doubt, self.rounding / 4)

    @property
    def is_flat(self) -> bool:
        """Whether the function does not move beside 0, as the claim says, and begins to gently at some distance.

        One that moves in steps begins with a whole one.
        """
        near, first, then = self._flat
        return near > 0 and first <= 0.1 * then and abs(self.claim) * near <= UNMOVED * then

    def _moved(self, t: float) -> float:
        """How far the function moves at a distance to either side."""
        return max(abs(self.differences.at(place) - self.differences.here) for place in (t, -t))

    @cached_property
    def rungs(self) -> list[Rung]:
        """The rungs, from the widest step to the narrowest."""
        return list(self._climbed())

    def _climbed(self) -> Iterator[Rung]:
        step, before, factor = WIDEST, np.nan, np.inf
        while step > SHORTEST * self.unit:
            slope = central(self.at, step)
            noise = 2 * self.noise / step
            if np.isfinite(slope) and np.isfinite(before):
                gained = (slope - before) / (factor**2 - 1)
                yield Rung(step, slope + gained, 3 * abs(gained) + noise)
            if noise > abs(self.claim - slope) / 3:  # from here on any disagreement is noise
                return
            before, factor = slope, WIDE if step > NARROW_FROM else NARROW
            step /= factor

    def meets(self, rung: Rung, tolerance: float, largest_error: float, times: float = 1) -> bool:
        """Whether a rung meets the claim within a tolerance and its error, if that is small."""
        return rung.error <= largest_error and abs(self.claim - rung.derivative) <= tolerance + times * rung.error

    def agrees(self, tolerance: float, largest_error: float) -> Rung | None:
        """Return the better of two neighboring rungs that meet the claim, the best such two; or None."""
        pairs = [p for p in pairwise(self.rungs) if all(self.meets(rung, tolerance, largest_error) for rung in p)]
        return min((rung for pair in pairs for rung in pair), key=lambda rung: rung.error, default=None)

    def plateau(self) -> tuple[Rung, ...]:
        """Return the narrowest three neighboring rungs that agree in contradicting the claim; empty if none do.

        No narrower rung may contradict them by more than its noise: they would not have converged.
        """
        rungs = self.rungs
        for last in range(len(rungs), 2, -1):
            three = tuple(rungs[last - 3 : last])
            middle = three[1].derivative
            most = SETTLED * abs(self.claim - middle)
            agree = all(abs(r.derivative - middle) <= most and r.error <= most for r in three)
            last_word = all(abs(r.derivative - middle) <= most + 4 * self.noise / r.step for r in rungs[last:])
            if agree and last_word and self._resolves(three):
                return () if self.is_flat else three
        return ()

    def _resolves(self, rungs: tuple[Rung, ...]) -> bool:
        """Whether the function varies by more than its noise, or has none."""
        if self.noise <= RESOLVED * self.rounding:
            return True
        return self._moved(rungs[0].step) >= RESOLVED * self.noise

    def has_kink(self, difference: float) -> bool:
        """Whether the slope jumps at 0, by enough to explain a difference: the jump stays as the step shrinks."""
        steps = [r.step for r in self.rungs if 8 * self.noise / r.step <= KINKED * difference]
        wider = [step for step in steps if step > 8 * steps[-1]]
        if not wider:
            return False
        wide, narrow = (self.differences.jump(step) for step in (wider[-1], steps[-1]))
        return narrow >= KINKED * difference and narrow >= 0.5 * wide


def noise_of(values: Callable[[float], float], at: Callable[[float], float], unit: float) -> tuple[float, float]:
    """Return the standard deviation of a function's noise along a line, NaN if unknown, and how far it does not move.

    It is measured at tiny equal steps. They grow until ``values(t)``, the numbers of which ``at(t)`` is corrected, vary
    at all: before that, a function which moves in steps has no noise to show.
    """
    found: list[float] = []
    spacing, flat = 4 * unit, 0.0
    while spacing < WIDEST / 10 and len(found) < 2:
        places = [spacing * k for k in (0, -3, 3, -2, -1, 1, 2)]
        moves = len({values(t) for t in places[:3]}) > 1
        if found or (moves and len({values(t) for t in places}) > 2):
            found.append(noise_in([at(t) for t in sorted(places)]))
        elif not moves:
            flat = 3 * spacing
        spacing *= 1000 if found else 100
    return max((noise for noise in found if not np.isnan(noise)), default=np.nan), flat if found else 0.0


def noise_in(values: Sequence[float]) -> float:
    """Return the standard deviation of the noise in values at equal steps.

    The fourth differences of a smooth function at tiny steps are noise alone: a column of Hamming's table (Moré and
    Wild, "Estimating computational noise", 2011).
    """
    fourth = np.diff(values, n=4)
    return norm(fourth) / float(np.sqrt(70 * fourth.size))


def norm(terms: Array) -> float:
    """Return the Euclidean norm, which does not overflow unless the largest term does."""
    largest = float(np.abs(terms).max(initial=0.0))
    return largest * float(np.linalg.norm(terms / largest)) if 0 < largest < np.inf else largest
