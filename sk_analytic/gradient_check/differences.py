"""Numerical derivatives along a line, each with an estimate of its error.

Central differences at a step and its half are extrapolated (Richardson); the step then moves to where
truncation and rounding balance. The same values reveal kinks, noise and low precision.
"""

from collections.abc import Callable

import numpy as np

from ..finite_differences import central, richardson

EPS = np.finfo(np.float64).eps
FIRST_STEP = 1e-3  # relative to the size of the block
STEPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
PRECISE = 1e-7  # relative error at which no other step is tried
SETTLED = 0.1  # two steps agree if they differ by less than this share of the difference to be explained
NOISE_SPACINGS = (1e-9, 1e-6)


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
        kink = max(0.0, self._jump(step / 2) - self._jump(step) / 2)  # 0 where the slope changes in proportion
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
        """The neighbouring step that should be better, or None."""
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
    def best_step(self) -> float:
        """The step of `best`."""
        return min(self.estimates, key=lambda step: self.estimates[step][0])

    @property
    def resolution(self) -> float:
        """Relative spacing of the numbers that the function returns: float64, float32 or float16."""
        values = np.array([v for v in self.values.values() if np.isfinite(v)])
        if len(set(values.tolist())) < 3 or np.array_equal(values, np.round(values)):
            return EPS
        for dtype in (np.float16, np.float32):
            if np.array_equal(values, values.astype(dtype)):
                return float(np.finfo(dtype).eps)
        return EPS

    def settle(self, difference: float) -> bool:
        """Whether another step confirms the best one, closely enough to call a difference real."""
        if len(self.estimates) < 2:
            smaller = [step for step in STEPS if step < min(self.estimates)]
            for step in smaller[:1]:
                self.extend(step)
        derivative, _ = self.best()
        near = [d for _, d, _ in self.estimates.values() if abs(d - derivative) <= SETTLED * difference]
        return len(near) >= 2

    def has_kink(self, difference: float) -> bool:
        """Whether the one-sided derivatives stay apart as the step shrinks, by enough to explain it."""
        steps = sorted({abs(t) for t in self.values if t and -t in self.values and abs(t) >= 1e-7})
        if len(steps) < 2:
            return False
        narrow, wide = steps[0], steps[-1]
        rounding = 8 * self.resolution * abs(self.here) / narrow
        near, far = self._jump(narrow), self._jump(wide)
        smooth, noise = far * narrow / wide, 3 * far * (wide / narrow) ** 0.5
        return max(0.1 * difference, 5 * smooth) < near - rounding and near <= noise

    def _jump(self, step: float) -> float:
        return abs(self.at(step) - 2 * self.here + self.at(-step)) / step

    def order(self, analytic: float) -> float:
        """Order at which the Taylor remainder of a claimed derivative shrinks: 2 if it is right, else 1."""
        step = self.best_step
        wide, narrow = (abs(self.at(h) - self.here - h * analytic) for h in (step, step / 2))
        return float(np.log2(wide / narrow)) if wide > 0 and narrow > 0 else float("nan")

    def quantum(self) -> float:
        """Smallest step between the function's values if it moves in steps; 0 if it does not, or never moves."""
        for side in (1, -1):
            values = [v for t, v in self.values.items() if t * side >= 0]
            if len(set(values)) < len(values):
                break
        else:
            return 0.0
        values = [self.at(t) for t in (0.1, -0.1, 1.0, -1.0)] + list(self.values.values())
        distinct = np.unique([v for v in values if np.isfinite(v)])
        return float(np.diff(distinct).min()) if len(distinct) > 1 else 0.0

    def noise(self) -> float:
        """Error of the best difference from the noise of the function itself.

        Second differences of values at tiny equal steps are pure noise (the first rows of Hamming's
        table, as in Moré and Wild, "Estimating computational noise", 2011).
        """
        sigma = 0.0
        for spacing in NOISE_SPACINGS:
            second = np.diff([self.at(spacing * k) for k in (-2, -1, 0, 1, 2)], n=2)
            sigma = max(sigma, float(np.abs(second).max()) / 6**0.5)
        return (2 * sigma + self.quantum()) / self.best_step
