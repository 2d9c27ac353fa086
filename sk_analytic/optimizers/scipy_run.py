"""A supervised run of a scipy method: the values it receives for each trial, its iterates, and how it ends.

scipy's methods assume a finite function in exact arithmetic. A run makes it look so: a non-finite trial is replaced
by a steep parabola, and differences of values that are lost in rounding are computed from the gradient. It converges
by the gradient alone, or reports that it did not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import qr, solve_triangular
from scipy.linalg.lapack import dgecon
from scipy.optimize import OptimizeResult

from ..exceptions import DivergenceError
from ..typing import Array

ENDED = {
    "gradient": (0, "No entry of the gradient is larger than tol."),
    "rounding": (0, "No entry of the gradient is larger than its rounding error."),
    "iterations": (1, "Maximum number of iterations has been exceeded."),
    "callback": (99, "The callback stopped the run."),
    "stalled": (2, "The method evaluated the function repeatedly without taking a step."),
}
TOLD = ("gradient", "iterations", "callback", "bottomless")  # reasons after which there is no further attempt
LOST = ("lost", "not finite", "no curvature", "bottomless")  # reasons that involve non-finite numbers
SAID = ("success", "status", "message")  # from scipy's last attempt; the rest, as `hess_inv`, is from the first
PRECISION_LOSS = 2  # scipy's status of a line search that gave up

LARGEST = 1e307  # a value beyond it leaves a method no room for its arithmetic
FAR, BOTTOM = 1e7, 1e100  # a loss that fell so far below the start has no minimum: at the end, and on the way
SHRINKAGE = 4  # the parabola of a trial that is not finite has its minimum at 1 / (2 SHRINKAGE + 2) of the step
NEAR_BOUND = 1e-3  # the share of the value that a step to a bound may gain at most, for it to have been meant
RESOLVED = 1e-3  # the relative change of a loss with the last digits of x that is none
HALVINGS = 6  # of a Gauss-Newton step
ROUNDING = 100  # units in the last place that a sum of losses is wrong by, at most
NEAR = 1e-2  # an offset that rounding may excuse


class Ended(Exception):
    """Raised to stop scipy from outside, with the reason or with an error of the user's; scipy catches neither."""

    def __init__(self, why: str = "", error: Exception | None = None) -> None:
        super().__init__(why)
        self.why, self.error = why, error


class Point(NamedTuple):
    """A function at a point.

    ``level`` is the value passed to scipy. ``held`` marks entries on a bound that the gradient pushes them against,
    whose gradient need not be small. Least-squares points also have the residuals and, unless the point is worse than
    the iterate, their Jacobian, both rotated, and the relative offset.
    """

    x: Array
    fun: float
    jac: Array
    level: float = 0.0
    held: Any = False
    residuals: Array | None = None
    jacobian: Array | None = None
    tangents: Tangents | None = None
    offset: float | None = None

    @property
    def is_finite(self) -> bool:
        """Whether a method can calculate with its value and gradient."""
        return abs(self.fun) < LARGEST and math.isfinite(np.vdot(self.jac, self.jac))

    @property
    def steepness(self) -> float:
        """The largest entry of the gradient, except those held by bounds."""
        return float(np.abs(np.where(self.held, 0.0, self.jac)).max(initial=0.0))

    @property
    def distance(self) -> float:
        """The quantity compared with `tol`: the relative offset for least squares, else the largest gradient entry."""
        return self.steepness if self.offset is None else self.offset


class Run:
    """The minimization of a function by a method of scipy.

    Parameters
    ----------
    method : FullBatch
    fun : callable
        ``fun(x) -> (value, gradient)``.
    callback : callable or None
        Called with each iterate; stops the run if it returns True.
    tol : float
        Tolerance on the largest entry of the gradient.
    max_iter : int
        Largest number of iterations.
    limits : tuple (low, high) of ndarray, default=None
        Bounds, outside of which the function is not evaluated.
    """

    def __init__(
        self,
        method: Any,
        fun: Any,
        callback: Callable[[OptimizeResult], object] | None,
        *,
        tol: float,
        max_iter: int,
        limits: tuple[Array, Array] | None = None,
    ) -> None:
        self.method, self.fun, self.callback, self.tol, self.max_iter = method, fun, callback, tol, max_iter
        self.limits = limits
        self.nit = self.nfev = self._n_asked = 0
        self.eps = float(np.finfo(np.float64).eps)  # of the gradient's dtype
        self.base: float | None = None  # the value where the method gave up
        self.noise = 0.0  # how much rounding changes it there, if that was looked at
        self.scale = 1.0  # of what scipy is told; then about the inverse of the gradient
        self._trial: Point | None = None
        self._unused = 0  # evaluations since the last iterate
        self._errstate = np.geterr()
        self._error: Exception | None = None
        self._rounding: Any = np.zeros(1)
        self._is_resolved = False
        self._finishes = False  # though it has converged

    def minimize(self, x0: Array) -> OptimizeResult:
        """Run; restart the method from where it gave up, as long as that makes progress.

        Raises
        ------
        DivergenceError
            If the start or the end is not finite.
        """
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"scipy\.|sk_analytic\.optimizers\.scipy_")
            first = self._evaluated(np.array(x0, dtype=np.float64))
            self.first = self.start = self.iterate = first._replace(level=first.fun)
            if not self.first.is_finite:
                raise DivergenceError(f"{self._name}: {_not_finite(self.first)} at the start.")
            why, result = "gradient", OptimizeResult()
            if self.first.distance > self.tol:
                why, result = self._attempt(self._solve)
            goes_on = not self._is_over(why)
            while goes_on:
                self._ended(self._look_at_noise)
                self.base, self.scale = self.iterate.fun, 2.0 ** -math.frexp(self.iterate.steepness)[1]
                self.start = self.iterate = self.iterate._replace(level=0.0)
                again = self._attempt(self._solve_again)
                goes_on = not self._is_over(again[0]) and self._has_progressed()
                if goes_on or self._is_over(again[0]):
                    why = again[0]
                    result.update({name: again[1][name] for name in SAID if name in again[1]})
            self._finish(why)
            return self._result(why, result)

    def _finish(self, why: str) -> None:
        """Improve on the final iterate, if possible."""
        if why not in ("callback", "bottomless"):
            self._ended(self.put_on_bounds)

    def put_on_bounds(self) -> None:
        """Set entries to the bounds that a method, staying inside, has approached, unless the value increases."""
        if self.limits is None:
            return
        end, (low, high) = self.iterate, self.limits
        bound = np.where(end.jac > 0, low, high)
        distance = np.abs(end.x - bound)
        is_crossed = distance * self._curvatures(end) <= np.abs(end.jac)  # by a step to the minimum along the entry
        is_near = is_crossed & (distance * np.abs(end.jac) <= NEAR_BOUND * abs(end.fun)) & (distance > 0)
        if is_near.any():
            there = self._evaluated(np.where(is_near, bound, end.x))
            if there.is_finite and there.fun <= end.fun + self._value_rounding(abs(end.fun)):
                self._take(there._replace(level=self._level(there)))

    def _curvatures(self, point: Point) -> Any:
        """About the second derivatives by the entries: those in units that suit them."""
        return 1.0

    def _inside(self, x: Array) -> Array:
        """Return the nearest point inside the bounds, which a method may leave by rounding."""
        return x if self.limits is None else np.clip(x, *self.limits)

    def _held(self, x: Array, jac: Array) -> Any:
        """Return the mask of entries on a bound that the gradient pushes them against."""
        if self.limits is None:
            return False
        low, high = self.limits
        return ((x <= low) & (jac > 0)) | ((x >= high) & (jac < 0))

    def _is_over(self, why: str) -> bool:
        """Whether the run is finished: it converged, was asked to stop, or stopped by an option of the user."""
        if why in TOLD or self.nit >= self.max_iter or self.iterate.distance <= self.tol:
            return True
        return bool(self.method.stopping_options())

    def _has_progressed(self) -> bool:
        """Whether the last attempt halved the quantity compared with tol, or reduced the loss by a thousandth."""
        start, end = self.start, self.iterate
        return end.distance < 0.5 * start.distance or start.fun - end.fun > 1e-3 * abs(start.fun)

    def _attempt(self, solve: Callable[[], OptimizeResult]) -> tuple[str, OptimizeResult]:
        """Run a method once; return the reason why it was stopped, or "", and its result.

        If it gave up, the lowest point since its last iterate becomes an iterate.
        """
        self._trial, self._lowest, self._unused, self._error = None, self.iterate, 0, None
        result = OptimizeResult()
        why = self._ended(lambda: result.update(solve()))
        if why not in TOLD and self._lowest.level < self.iterate.level:
            why = self._ended(lambda: self._take(self._lowest)) or why
        return why, result

    def _ended(self, work: Callable[[], object]) -> str:
        """Do some work; return why the run was ended in it, or "". Errors of the user's go on unchanged."""
        n_before = self._n_asked
        try:
            work()
            return ""
        except Ended as ended:
            why, of_the_user = ended.why, ended.error
        except Exception as error:  # of scipy's own
            is_refusal = isinstance(error, ValueError | TypeError) and not isinstance(error, np.linalg.LinAlgError)
            if is_refusal and self._n_asked == n_before:
                raise  # an option that it does not take
            why, of_the_user, self._error = "lost", None, error
        if of_the_user is not None:
            raise of_the_user
        return why

    def _solve(self) -> OptimizeResult:
        return self.method._solve(self, self.iterate.x.copy(), self.max_iter - self.nit)

    _solve_again = _solve

    # What scipy calls.

    def value(self, x: Array) -> float:
        """Return the value at a point, as passed to scipy."""
        return self.at(x).level * self.scale

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Return value and gradient at a point, as passed to scipy."""
        point = self.at(x)
        gradient = point.jac if point.is_finite else self._parabola(point.x)[1]
        return point.level * self.scale, gradient * self.scale

    def derivative(self, x: Array) -> Array:
        """Return the gradient, which SLSQP asks for at the start and at iterates only."""
        point = self.at(x)
        if point is not self.iterate:
            self._take(point)
        return point.jac * self.scale

    def hessian_product(self, x: Array, p: Array) -> Array:
        """Return a product with the Hessian, from differences of the gradient: central ones where it is finite."""
        if not p.any():
            return np.zeros_like(p)
        step = float(np.cbrt(self.eps) * np.min(np.maximum(1.0, np.abs(x)) / np.abs(p)))
        ends = [(t, self._evaluated(x + t * p)) for t in (step, -step)]
        finite = [(t, point.jac) for t, point in ends if point.is_finite]
        if len(finite) < 2:
            finite.append((0.0, self.at(x).jac))
        (above, high), (below, low) = finite[0], finite[-1]
        if above == below:
            raise Ended("no curvature")
        product: Array = (high - low) * (self.scale / (above - below))
        return product

    def iterated(self, x: Any, *state: Any) -> None:
        """Process an iterate that a method reports to its callback."""
        self._take(self.at(getattr(x, "x", x)))

    # Points.

    def at(self, x: Array) -> Point:
        """Return the function at a point, cached because the last evaluation is usually the next iterate."""
        self._n_asked += 1
        x = self._inside(x)
        for known in (self._trial, self.iterate):
            if known is not None and np.array_equal(known.x, x):
                return known
        trial = self._evaluated(x)
        self._trial = trial = trial._replace(level=self._level(trial))
        if trial.level < self._lowest.level:
            self._lowest = trial
        return trial

    def _evaluated(self, x: Array) -> Point:
        x = self._inside(x)
        fun, jac = self._call(self.fun, x)
        self.eps = float(np.finfo(jac.dtype).eps)
        jac = np.array(jac, dtype=np.float64)
        return Point(np.array(x), float(fun), jac, held=self._held(x, jac))

    def _call(self, function: Callable[[Array], Any], x: Array) -> Any:
        """Evaluate and count a function of the user, and propagate its errors and warnings."""
        if not np.isfinite(x).all():
            raise Ended("lost")
        self.nfev += 1
        self._unused += 1
        if self._unused > 1000 + 100 * x.size:
            raise Ended("stalled")
        try:
            with np.errstate(**self._errstate):
                return function(x)
        except Exception as error:
            raise Ended(error=error) from None

    def _level(self, trial: Point) -> float:
        """Return the value for scipy: the value itself or, after the method gave up, relative to that point.

        Near a minimum, the values of two points differ by less than their rounding error, but their gradients are
        accurate to many digits. If the change computed from the gradients, which is exact for a parabola, agrees with
        that of the values up to rounding, it is used, so that line searches continue to the precision of the gradient.
        """
        if not trial.is_finite:
            return self._parabola(trial.x)[0]
        if self.base is None:
            return trial.fun
        iterate, level = self.iterate, trial.fun - self.base
        by_gradients = iterate.level + 0.5 * float((iterate.jac + trial.jac) @ (trial.x - iterate.x))
        rounding = self._value_rounding(min(abs(iterate.fun), abs(trial.fun)))
        return by_gradients if abs(by_gradients - level) <= rounding else level

    def _value_rounding(self, value: float) -> float:
        """Return the possible rounding error of a value."""
        return max(ROUNDING * self.eps * value, min(self.noise, RESOLVED * value))

    def _parabola(self, x: Array) -> tuple[float, Array]:
        """Return value and gradient for a trial that is not finite: of a parabola through the iterate, along the step.

        A line search that interpolates finds its minimum, at a tenth of the step. An infinite value would make that
        NaN, and a gradient of zero would look like convergence.
        """
        iterate = self.iterate
        step = x - iterate.x
        length = float(np.abs(step).max())
        unit = step / length
        fall = min(abs(float(iterate.jac @ unit)) * length, LARGEST)
        fall = max(fall, 4 * self.eps * abs(iterate.level), np.finfo(float).tiny)
        slope = (2 * SHRINKAGE + 1) * fall / length
        return iterate.level + SHRINKAGE * fall, slope / float(unit @ unit) * unit

    def _take(self, point: Point) -> None:
        """Process an iterate; stop the run if scipy would not."""
        if not point.is_finite:
            self._trial = point
            raise Ended("not finite")
        self.iterate = self._lowest = point
        self._unused = 0
        self.nit += 1
        if self.callback is not None:
            told = OptimizeResult(x=point.x, fun=point.fun, jac=point.jac, nit=self.nit)
            try:
                with np.errstate(**self._errstate):
                    is_over = self.callback(told)
            except Exception as error:
                raise Ended(error=error) from None
            if is_over is True:
                raise Ended("callback")
        if self._has_fallen(BOTTOM):
            raise Ended("bottomless")
        if self.method.tolerance is None and point.distance <= self.tol and not self._finishes:
            raise Ended("gradient")
        if self.method.iterations is None and self.nit >= self.max_iter:
            raise Ended("iterations")

    # The end.

    def _has_fallen(self, far: float) -> bool:
        """Whether the loss is that far below the start and decreases faster than there."""
        first, end = self.first, self.iterate
        return end.fun < -far * max(1.0, abs(first.fun)) and end.steepness >= first.steepness

    @property
    def _name(self) -> str:
        return type(self.method).__name__

    def _result(self, why: str, result: OptimizeResult) -> OptimizeResult:
        """Return scipy's result at the last iterate; success means a small gradient and nothing else."""
        end = self.iterate
        if why != "callback" and self._has_fallen(FAR):
            why = "bottomless"
        success = end.distance <= self.tol or self._has_vanished
        if success and not result.get("success") and why != "callback":
            why = "gradient"
        elif not success and why not in ("callback", "bottomless") and (self.tol or self.nit < self.max_iter):
            self._ended(self._look_at_rounding)
            small = end.held | (np.abs(end.jac) <= np.maximum(self.tol if end.offset is None else 0.0, self._rounding))
            success = self._is_resolved and bool(small.all())
            why = "rounding" if success else why
        if not success and why in LOST:
            raise DivergenceError(f"{self._name}: {self._lost(why)}") from self._error
        if why in ENDED:
            result.status, result.message = ENDED[why]
        elif not success and result.get("success"):
            result.status = PRECISION_LOSS
        result.update(x=end.x, fun=end.fun, jac=end.jac, nit=self.nit, nfev=self.nfev, njev=self.nfev, success=success)
        result.rounding = float(np.max(self._rounding, initial=0.0))
        result.held = np.zeros(end.x.size, bool) | end.held
        if end.offset is not None:
            result.offset = end.offset
            for name in ("cost", "grad", "optimality"):  # of scipy's, before the finish
                result.pop(name, None)
        return result

    @property
    def _has_vanished(self) -> bool:
        """Whether only rounding errors are left to explain."""
        return False

    def _look_at_rounding(self) -> None:
        """Measure how much each entry of the gradient changes with the last digits of x, which is its rounding error.

        If the loss changes with them as well, x itself is not resolved, and no entry is known to be small; nor if the
        gradient differs when evaluated again.
        """
        self._unused = 0
        end, steps = self.iterate, self._last_digits()
        changes = [self._gradient(end.x + step) - end.jac for step in steps]
        self._rounding = np.abs(changes).max(axis=0)
        change = max(abs(float(step @ change)) for step, change in zip(steps, changes, strict=True))
        is_repeatable = np.array_equal(self._gradient(end.x), end.jac)
        self._is_resolved = is_repeatable and change <= RESOLVED * abs(end.fun)

    def _look_at_noise(self) -> None:
        """Measure how much the value changes with the last digits of x, beyond the change given by the gradient.

        Small residuals of large numbers have lost digits that the value, a sum of their squares, does not show.
        """
        end = self.iterate
        changes = [self._evaluated(end.x + step).fun - end.fun - float(end.jac @ step) for step in self._last_digits()]
        self.noise = 4 * float(np.nan_to_num(np.abs(changes), nan=0.0, posinf=0.0).max())

    def _last_digits(self) -> list[Array]:
        """Return two steps from the iterate that change its last digits."""
        x = self.iterate.x
        alternating = np.where(np.arange(x.size) % 2, 1.0, -1.0)
        return [8 * self.eps * sign * x for sign in (1.0, alternating)]

    def _gradient(self, x: Array) -> Array:
        return self._evaluated(x).jac

    def _lost(self, why: str) -> str:
        """Return a message on how a method arrived at non-finite numbers."""
        when = f"after {self.nit} iterations" if self.nit != 1 else "after 1 iteration"
        if why == "bottomless":
            return f"the loss decreases without bound: it is {self.iterate.fun:.3g} {when}."
        if why == "no curvature":
            return f"the gradient near the iterate, which the method differentiates numerically, is not finite {when}."
        if why == "not finite" and self._trial is not None:
            return f"{_not_finite(self._trial)} at an iterate, {when}."
        if self._error is not None:
            return f"scipy's arithmetic failed {when} with {type(self._error).__name__}: {self._error}."
        return f"scipy's arithmetic overflowed {when}: the next parameters would not be finite."


class ResidualRun(Run):
    """The solution of a least-squares problem by a method of scipy, which asks for the Jacobian once per iterate.

    ``fun`` has ``residuals(x)``, and ``residual_jacobian(x)``, which returns them and their Jacobian, both of them
    rotated perhaps.
    """

    def residuals(self, x: Array) -> Array:
        """Return the residuals, as scipy is told them: rotated.

        Of a point without a Jacobian, which scipy will not go to, it is told the length alone; of one that is not
        finite, or whose Jacobian is not, that of the iterate doubled in cost.
        """
        point = self.at(x)
        if point.is_finite and point.tangents is not None:
            return np.asarray(self._unit * point.tangents.residuals)
        cost = point.fun if point.is_finite else 2 * self.iterate.fun
        first: Any = self.first.tangents
        told = np.zeros(len(first.residuals))
        told[-1] = self._unit * math.sqrt(2 * cost)
        return told

    @property
    def _unit(self) -> float:
        """What scipy is told small residuals in, since its tolerance on their gradient is absolute."""
        return max(1.0, 2.0 ** -math.frexp(math.sqrt(self.first.fun))[1])

    def jacobian(self, x: Array) -> Array:
        """Return their derivative, at the start or an iterate."""
        point: Any = self.at(x)
        if point.jacobian is None:
            point = self._with_jacobian(point)
        if not np.array_equal(point.x, self.iterate.x):
            self._take(point)
        return np.asarray(self._unit * point.tangents.matrix)

    def _evaluated(self, x: Array) -> Point:
        x = self._inside(x)
        residuals = self._call(self.fun.residuals, x)
        self.eps = float(np.finfo(residuals.dtype).eps)
        residuals = residuals.astype(np.float64)
        fun = 0.5 * float(residuals @ residuals)
        point = Point(np.array(x), fun, np.zeros(x.size), fun, residuals=residuals, offset=math.inf)
        return self._with_jacobian(point) if self._is_acceptable(fun) else point

    def _is_acceptable(self, fun: float) -> bool:
        """Whether the Jacobian will be asked for next: the value is finite and no worse than the iterate's."""
        iterate = getattr(self, "iterate", None)
        return fun < LARGEST and (iterate is None or fun <= iterate.fun + self._value_rounding(abs(iterate.fun)))

    def _with_jacobian(self, point: Point) -> Point:
        told, jacobian = self._call(self.fun.residual_jacobian, point.x)
        residuals: Array = told.astype(np.float64)
        point = point._replace(residuals=residuals)
        gradient: Array = jacobian.T @ residuals
        if not np.isfinite(gradient).all():
            return point._replace(jac=gradient, jacobian=jacobian)
        tangents, held = Tangents.of(residuals, jacobian), self._held(point.x, gradient)
        offset = tangents.without(held).offset()
        return point._replace(jac=gradient, jacobian=jacobian, tangents=tangents, offset=offset, held=held)

    def _curvatures(self, point: Point) -> Any:
        return np.linalg.norm(point.jacobian, axis=0) ** 2  # type: ignore[arg-type]

    def _gradient(self, x: Array) -> Array:
        point = self._evaluated(x)
        return self._with_jacobian(point).jac if point.jacobian is None else point.jac

    def _level(self, trial: Point) -> float:
        return trial.fun if trial.is_finite else math.inf

    def _solve_again(self) -> OptimizeResult:
        self._gauss_newton()
        return OptimizeResult(message="Gauss-Newton steps no longer reduce the offset.", status=PRECISION_LOSS)

    def _finish(self, why: str) -> None:
        super()._finish(why)
        if why not in ("callback", "iterations", "bottomless") and not self.method.stopping_options():
            self._finishes = True
            self._ended(self._gauss_newton)

    def _gauss_newton(self) -> None:
        """Take Gauss-Newton steps, or parts of them, as long as the offset falls and is not rounding.

        It is known to many more digits than the value, which near the end is the same for all of them.
        """
        while self.nit < self.max_iter and (self.iterate.offset or 0.0) > ROUNDING * self.eps:
            here: Any = self.iterate
            step = np.zeros(here.x.size)
            step[~(np.zeros(here.x.size, bool) | here.held)] = here.tangents.without(here.held).gauss_newton()
            for part in 0.5 ** np.arange(1 + HALVINGS):
                there = self._evaluated(here.x + part * step)
                there = self._with_jacobian(there) if there.jacobian is None and there.is_finite else there
                if self._is_better(here, there):
                    break
            else:
                return
            self._take(there)

    def _is_better(self, here: Any, there: Any) -> bool:
        """Whether the offset falls, or, where residuals can vanish, most of the value, which may not rise."""
        if not there.is_finite or there.fun > here.fun + self._rounding_of(here) * math.sqrt(2 * here.fun):
            return False
        return bool(there.offset < here.offset or there.fun < 0.25 * here.fun)

    @property
    def _has_vanished(self) -> bool:
        return self.iterate.jacobian is not None and math.sqrt(2 * self.iterate.fun) <= self._rounding_of(self.iterate)

    def _look_at_rounding(self) -> None:
        """See also whether what the residuals share with the tangents is less than the last digits of the predictions.

        No other x has less then, though all residuals are so small that they change with its last digits.
        """
        super()._look_at_rounding()
        end: Any = self.iterate
        shared = end.offset * math.sqrt(2 * end.fun)
        self._is_resolved |= end.offset <= NEAR and shared <= self._rounding_of(end) / ROUNDING

    def _rounding_of(self, point: Any) -> float:
        """How long residuals are that are only rounding: as that of the terms of the predictions."""
        return ROUNDING * self.eps * float(np.linalg.norm(np.abs(point.jacobian) @ np.abs(point.x)))


class Tangents(NamedTuple):
    """Residuals and their Jacobian, rotated so that the matrix is a triangle: all norms and products are as before.

    What methods of least squares need of thousands of rows is then read off as many as there are parameters.
    """

    matrix: Array
    residuals: Array
    tolerance: float  # singular values below it, of columns of length 1, are rounding

    @classmethod
    def of(cls, residuals: Array, jacobian: Array) -> Tangents:
        """Rotate them, of shapes (m,) and (m, size); it leaves min(m, size + 1) rows."""
        columns = np.concatenate([jacobian.T, residuals[None]]).T  # in the order that LAPACK wants
        (rotated,) = qr(columns, mode="r", overwrite_a=True, check_finite=False)
        rotated = rotated[: columns.shape[1]].copy()
        return cls(rotated[:, :-1], rotated[:, -1], float(np.finfo(np.float64).eps) * max(jacobian.shape))

    def without(self, held: Any) -> Tangents:
        """Return them without the columns of some entries."""
        if not np.any(held):
            return self
        return Tangents.of(self.residuals, self.matrix[:, ~held])._replace(tolerance=self.tolerance)

    def _scaled(self) -> tuple[Array, Array]:
        """The matrix with columns of length 1, or of zeros, and the lengths that they had."""
        lengths = np.linalg.norm(self.matrix, axis=0)
        lengths = np.where(lengths > 0, lengths, 1.0)
        return self.matrix / lengths, lengths

    def _triangle(self, matrix: Array) -> Array | None:
        """The scaled matrix without its row of zeros, if its columns are independent."""
        size = matrix.shape[1]
        if len(matrix) < size:
            return None
        triangle = matrix[:size]
        return triangle if not size or dgecon(triangle, np.linalg.norm(triangle, 1))[0] > self.tolerance else None

    def offset(self) -> float:
        """Return the share of the residuals that lies in the space of the columns."""
        length = float(np.linalg.norm(self.residuals))
        if not length:
            return 0.0
        matrix, _ = self._scaled()
        if self._triangle(matrix) is not None:
            return float(np.linalg.norm(self.residuals[: matrix.shape[1]])) / length
        tangents, triangle, _ = qr(matrix, mode="economic", pivoting=True)
        sizes = np.abs(np.diag(triangle))
        independent = sizes > self.tolerance * sizes.max(initial=0.0)
        return float(np.linalg.norm(tangents[:, independent].T @ self.residuals)) / length

    def gauss_newton(self) -> Array:
        """Return the step to the minimum of the linear model: the shortest, columns scaled, if there are several."""
        matrix, lengths = self._scaled()
        triangle = self._triangle(matrix)
        if triangle is None:
            step = np.linalg.lstsq(matrix, -self.residuals, rcond=self.tolerance)[0]
        else:
            step = solve_triangular(triangle, -self.residuals[: len(triangle)])
        return np.asarray(step / lengths)


def relative_offset(residuals: Array, jacobian: Array) -> float:
    """Return how far residuals are from being orthogonal to the columns of their Jacobian, between 0 and 1.

    It does not depend on the units of y, X and θ [Bates1988]_, section 2.2.3.

    References
    ----------
    .. [Bates1988] D. Bates and D. Watts, "Nonlinear Regression Analysis and Its Applications", Wiley 1988.
    """
    return Tangents.of(residuals, jacobian).offset()


def _not_finite(point: Point) -> str:
    """Say what is not finite at a point."""
    if not abs(point.fun) < LARGEST:
        return f"the value is {point.fun}"
    return f"the gradient is not finite, or too large, and the value is {point.fun:.6g}"
