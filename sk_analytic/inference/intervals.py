"""Intervals that evaluate the loss again: by profiles of it, and by its optima over resampled rows."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from ..exceptions import DivergenceError
from ..optimizers import LBFGS
from ..training.units import Units
from ..typing import Array
from .information import FLAT, Information, nonzero
from .optimum import finished
from .problem import InDoubles, Problem

PROFILE_STEPS, PROFILE_TOL = 500, 1e-5  # of what is minimized on a profile, in units of the likelihood
BEYOND = 1e6  # in place of infinity, for a search of roots
FARTHEST = 1e4  # standard errors up to which an end of a profile interval is looked for


class ProfileInterval(NamedTuple):
    """The ends of an interval, the least rise of the loss on the way, and whether its ends were minimized over."""

    low: float
    high: float
    lowest: float
    has_converged: bool


def profile_interval(
    problem: Problem, information: Information, rows: float, quantile: float, place: int, error: float
) -> ProfileInterval:
    """Return the interval in which the profile of an entry rises by less than the square of a quantile."""
    profile = _Profile(problem.of_this_thread(), information, rows, place, error)
    profile.rise(0.0, profile.at_estimate)
    low, high = (profile.end(sign, quantile) for sign in (-1.0, 1.0))
    return ProfileInterval(low, high, profile.lowest, profile.has_converged)


class _Profile:
    """How much the loss of all rows rises, at least, if an entry is moved: by the likelihood ratio.

    The others are minimized over in coordinates in which the curvature at the estimate is the identity.

    Parameters
    ----------
    problem : Problem
    information : Information
    rows : float
        What the mean loss is multiplied with to be a log-likelihood.
    place : int
        Of the entry among the free ones.
    error : float
        Its standard error.
    """

    def __init__(self, problem: Problem, information: Information, rows: float, place: int, error: float) -> None:
        self.problem, self.rows, self.place, self.error = problem, rows, place, error
        self.x = problem.vector[problem.free]
        self.low, self.high = (end[problem.free] for end in problem.start.ends)
        self.others = np.delete(np.arange(len(self.x)), place)
        inverse = information.inverse_root
        inverse = inverse.T @ inverse / rows
        along = inverse[:, place] / inverse[place, place]  # where the others go, to first order
        self.slope = along[self.others]
        left = inverse - np.outer(along, inverse[place])
        left = left[np.ix_(self.others, self.others)]
        scale = nonzero(np.sqrt(np.maximum(np.diag(left), 0.0)))
        values, vectors = np.linalg.eigh((left + left.T) / 2 / scale / scale[:, None])
        kept = values > FLAT
        self.root = scale[:, None] * vectors[:, kept] * np.sqrt(values[kept])
        self.spread = nonzero(np.linalg.norm(self.root, axis=1))
        self.at_estimate = np.zeros(self.root.shape[1])
        self.loss = problem.value_and_gradient(self.x)[0]
        self.lowest = 0.0
        self.has_converged = True

    def rise(self, t: float, start: Array) -> tuple[float, Array, bool]:
        """Return twice the rise at t standard errors from the estimate, where the others are then, and if for sure."""
        x = self.x.copy()
        x[self.place] = self.moved(t)
        ahead = self.x[self.others] + self.slope * t * self.error

        def at(u: Array) -> tuple[float, Array]:
            x[self.others], beyond = self.confined(ahead + self.root @ u)
            loss, gradient = self.problem.value_and_gradient(x)
            slope = np.where(beyond == 0, self.rows * gradient[self.others], beyond / self.spread)
            return self.rows * (loss - self.loss) + float(beyond @ beyond) / 2, slope @ self.root

        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not len(start):
                return 2 * at(start)[0], start, True
            try:
                result = LBFGS().minimize(at, start, max_iter=PROFILE_STEPS, tol=PROFILE_TOL)
            except DivergenceError:
                return math.inf, start, False
        rise = 2 * float(result.fun)
        self.lowest = min(self.lowest, rise)
        return rise, result.x, bool(result.success)

    def end(self, sign: float, quantile: float) -> float:
        """Return where the rise is the square of a quantile; infinite if it is nowhere, or a bound."""
        bound = float((self.high if sign > 0 else self.low)[self.place])
        farthest = abs(bound - float(self.x[self.place])) / self.error
        known = {0.0: (self.at_estimate, True)}

        def over(t: float) -> float:
            before = max(place for place in known if place <= t)
            rise, there, is_sure = self.rise(sign * t, known[before][0] * (t / before if before else 1.0))
            if not math.isfinite(rise):
                return BEYOND
            known[t] = there, is_sure
            return math.sqrt(max(rise, 0.0)) - quantile

        low, high = 0.0, quantile
        high = min(high, farthest)
        while (reached := over(high)) < 0:
            if high == farthest:
                return bound
            if high > FARTHEST:
                return sign * math.inf
            low, high = high, min(2 * high, farthest)
        if reached == BEYOND:  # the loss is not defined there: does it reach the quantile before?
            high = _last_defined(over, low, high)
            if over(high) < 0:
                return sign * math.inf
        t = high if over(high) == 0 else float(brentq(over, low, high, xtol=1e-6, rtol=1e-6))
        self.has_converged &= known[min(known, key=lambda place: abs(place - t))][1]
        return float(self.x[self.place]) + sign * t * self.error

    def moved(self, t: float) -> float:
        """Return the entry at t standard errors from its estimate; rounding may not move it over a bound."""
        low, high = self.low[self.place], self.high[self.place]
        return float(np.clip(self.x[self.place] + t * self.error, low, high))

    def confined(self, others: Array) -> tuple[Array, Array]:
        """Return the other entries inside of their bounds, and how far they were beyond these, in their spreads.

        Half the square of this is added to what is minimized: it brings them back, and is 0 where they may be.
        """
        inside = np.clip(others, self.low[self.others], self.high[self.others])
        return inside, (others - inside) / self.spread

    def point(self, t: float, start: Array) -> tuple[float, Array, Array]:
        """Return twice the rise at t standard errors, where the others are then, and all free entries."""
        rise, there, *_ = self.rise(t, start)
        x = self.x.copy()
        x[self.others] = self.confined(x[self.others] + self.slope * t * self.error + self.root @ there)[0]
        x[self.place] = self.moved(t)
        return rise, there, x

    def curve(self, sign: float, quantile: float, n_points: int) -> list[tuple[float, Array]]:
        """Return the rise and all entries at points outward to where it is the square of a quantile.

        If it is nowhere, they go on to where an interval by the standard error ends. Those at which the loss is not
        defined are left out.
        """
        end = self.end(sign, quantile)
        farthest = abs(end - float(self.x[self.place])) / self.error if math.isfinite(end) else quantile
        points: list[tuple[float, Array]] = []
        before, there = 0.0, self.at_estimate
        for t in np.linspace(0.0, sign * farthest, n_points + 1)[1:].tolist():
            rise, found, x = self.point(t, there * (t / before if before else 1.0))
            if math.isfinite(rise):
                before, there = t, found
                points.append((rise, x))
        return points


def _last_defined(over: Callable[[float], float], low: float, high: float) -> float:
    """Return about the largest t at which a loss is defined."""
    for _ in range(30):
        middle = (low + high) / 2
        value = over(middle)
        if value == BEYOND:
            high = middle
        elif value >= 0:
            return middle
        else:
            low = middle
    return low


def profile_curve(
    problem: Problem, information: Information, rows: float, quantile: float, place: int, error: float, n_points: int
) -> tuple[Array, Array, float]:
    """Return points of the profile of an entry: twice the rises, all free entries there, and the least rise met."""
    profile = _Profile(problem.of_this_thread(), information, rows, place, error)
    here, _, x = profile.point(0.0, profile.at_estimate)
    below, above = (profile.curve(sign, quantile, n) for sign, n in ((-1.0, (n_points - 1) // 2), (1.0, n_points // 2)))
    points = [*reversed(below), (here, x), *above]
    return np.array([rise for rise, _ in points]), np.array([x for _, x in points]), profile.lowest


def refit(problem: Problem, seed: np.random.SeedSequence, units: Units | None) -> tuple[Array | None, str]:
    """Return the optimum over resampled rows, or None, and what went wrong if anything did."""
    problem = problem.of_this_thread()
    drawn = _drawn(problem, np.random.default_rng(seed))
    data = problem.data.take(drawn)
    if problem.weights == "frequency":
        data = replace(data, sample_weight=None)  # which the draws have followed
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = data.scaled().rows()
            rows = rows if data.X.dtype == np.float64 else InDoubles(rows)
            vector, failed = finished(problem.objective, problem.theta(problem.vector), rows, copy.deepcopy(units))
    except Exception as error:  # of a resample on which the user's functions fail
        return None, f"{type(error).__name__}: {error}"
    return vector, "" if problem.is_kinked or failed is None else failed


def _drawn(problem: Problem, rng: np.random.Generator) -> Array:
    """Return the numbers of resampled rows: of rows, or of all those of resampled clusters."""
    data = problem.data
    weights = data.sample_weight
    if problem.codes is not None:
        members = np.split(np.argsort(problem.codes, kind="stable"), np.cumsum(np.bincount(problem.codes))[:-1])
        drawn = np.concatenate([members[code] for code in rng.integers(len(members), size=len(members))])
        if problem.weights == "frequency" and weights is not None:
            drawn = np.repeat(drawn, np.rint(math.ldexp(1.0, weights.exponent) * weights.values[drawn]).astype(int))
        return drawn
    if weights is None:
        n = data.extent.n
        return np.asarray(rng.integers(n, size=n))
    if problem.weights == "frequency":
        shares = weights.values / weights.values.sum()
        return np.asarray(rng.choice(len(shares), size=max(1, round(problem.total)), p=shares))
    return np.asarray(rng.choice(weights.counted, size=len(weights.counted)))
