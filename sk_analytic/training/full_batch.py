"""Full-batch training: scipy's methods applied to the objective over all samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import LbfgsInvHessProduct, OptimizeResult

from ..data.rows import Rows
from ..exceptions import DivergenceError, ParameterStructureError
from ..least_squares import Residuals
from ..objective import Objective
from ..optimizers.scipy_methods import FullBatch
from ..optimizers.scipy_run import ENDED, Point
from ..parameters import Parameters
from ..typing import Array, T
from .divergence import HINTS, not_finite, not_finite_blocks
from .progress import Monitor
from .units import MatrixUnits, Units, measured

SETTLED = 1e-2  # rounding of a gradient over its spread if that is rounding too
ROUNDED = 1e3  # units in the last place by which the slopes of a straight line may differ
GROWN, MOST_TAMED = 100.0, 20  # how much more a unit has grown than others; entries that are looked at then
CHANGE = 1e-2  # of a gradient over its spread, to find a size by
SMALL = 1e-4  # step to find a curvature by
KNOWN = 1e-10  # the curvature of a direction that some row knows of, as a share of the best known one's
EPS = float(np.finfo(np.float64).eps)
TRIALS = 30  # of steps to find one by
TOO_MUCH = 1e-6  # what a step is multiplied by that was far too long
STIFF = 4  # how many times as large a curvature is as one that it should equal
SEEN = ("grad", "lagrangian_grad", "optimality", "tr_radius", "multipliers")  # in the method's units only
KEPT = (
    "The parameters are those of the last iterate. Scale X and y, start closer to the optimum, or check that the loss "
    "is bounded below."
)


def minimize(
    objective: Objective,
    theta: Parameters,
    method: FullBatch,
    rows: Rows,
    monitor: Monitor,
    *,
    max_iter: int,
    tol: float,
    units: Units | None = None,
) -> tuple[OptimizeResult, str | None]:
    """Minimize over all samples by a full-batch method, writing θ in place.

    The method sees only the trained entries of θ.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
    method : FullBatch
    rows : rows
        One batch, or several that are summed in order.
    monitor : Monitor
        Notified of each iteration.
    max_iter : int
        Iterations.
    tol : float
        Tolerance on the largest entry of the gradient in units of its spread over samples, or on the relative offset.
    units : Units, default=None
        Units of the gradient's spread, if known, in place of a measurement. See `units_at`.

    Returns
    -------
    result : scipy.optimize.OptimizeResult
        Result of scipy; ``x``, ``fun`` and ``jac`` are θ, the objective and its gradient, for all entries of θ.
    failed : str or None
        The reason why it did not converge, with advice.

    Raises
    ------
    DivergenceError
        If the start or a later iterate is not finite. θ is then the last finite iterate.
    """
    evaluation = (_ResidualEvaluation if method.residuals else _Evaluation)(objective, theta, rows, monitor, max_iter)

    def iterated(result: OptimizeResult) -> bool:
        loss = evaluation.accept(result)
        monitor.history.n_steps += 1
        return monitor.epoch_ended(theta, loss, evaluation.norm(result.jac))

    try:
        begin = evaluation.begin()
        run: Callable[..., OptimizeResult] = partial(method.minimize, evaluation, tol=tol, callback=iterated)
        if evaluation.limits is not None:
            run = evaluation.between_bounds(run)
        try:
            if method.residuals:  # whose relative offset has no units
                result = run(begin, max_iter=max_iter)
            else:
                result = _in_units_of_the_spread(run, begin, evaluation, max_iter, tol, units)
        except DivergenceError as error:
            error.args = (" ".join(filter(None, (str(error), evaluation.trouble, KEPT))),)
            raise
        if not result.nit:  # it ended where it started
            monitor.epoch_ended(theta, evaluation.accept(result), evaluation.norm(result.jac))
        failed = None if result.success or monitor.stopped else evaluation.failure(result, method, max_iter, tol)
        evaluation.rescale(result)
    finally:
        evaluation.restore()
    monitor.epoch_broken_off()
    return result, failed


def units_at(objective: Objective, theta: Parameters, rows: Rows, monitor: Monitor) -> Units:
    """Return the units of the gradient's spread over samples at θ, for several fits that begin there."""
    evaluation = _Evaluation(objective, theta, rows, monitor, 0)
    evaluation.begin()
    return evaluation.measured()


def _in_units_of_the_spread(
    run: Callable[..., OptimizeResult],
    begin: Array,
    evaluation: _Evaluation,
    max_iter: int,
    tol: float,
    known: Units | None = None,
) -> OptimizeResult:
    """Run a method in units of the gradient's spread over rows, until the gradient is small in those of the end too.

    From a start far off, the spread at the end may be another one, and the method begins anew with that.
    """
    n_iterations = n_evaluations = 0
    evaluation.units = first = evaluation.measured() if known is None else known
    while True:
        evaluation.look_around(begin)
        result = run(evaluation.enter(begin), max_iter=max_iter - n_iterations)
        n_iterations += result.nit
        n_evaluations += result.nfev
        largest = np.abs(np.where(result.held, 0.0, result.jac)).max(initial=0.0)
        is_rounding = result.rounding >= (min(largest, SETTLED) if n_iterations > result.nit else SETTLED)
        if evaluation.units.may_vanish and is_rounding:
            result.success = True  # a model without noise is found, and the spread is rounding too
        if not result.success or evaluation.monitor.stopped or largest > tol:
            break
        if evaluation.units.hold_everywhere or known is not None:
            break
        evaluation.restore()
        begin, gradient = evaluation.full(result.x)[evaluation.free], evaluation.units.gradient_left(result.jac)
        there = evaluation.measured()
        evaluation.tame(there, begin)
        has_vanished = first.may_vanish and (result.held | (np.abs(first.gradient(gradient)) <= EPS)).all()
        if has_vanished or (result.held | (np.abs(there.gradient(gradient)) <= tol)).all():
            break
        loss, evaluation.units = evaluation.loss(result.fun), there
        if n_iterations >= max_iter:
            told = evaluation.tell(loss)
            result.update(x=evaluation.enter(begin), fun=told, jac=there.gradient(gradient), success=False)
            result.status, result.message = ENDED["iterations"]
            break
    result.update(nit=n_iterations, nfev=n_evaluations, njev=n_evaluations)
    return result


class _Evaluation:
    """The objective over all rows as scipy calls it: value and gradient at a float64 vector of the trained entries."""

    def __init__(self, objective: Objective, theta: Parameters, rows: Rows, monitor: Monitor, max_iter: int) -> None:
        self.objective, self.theta, self.rows, self.monitor = objective, theta, rows, monitor
        self.max_iter = max_iter
        self.accepted = theta.vector.copy()  # θ of the last iterate
        self.missing: tuple[int, ...] | None = None  # blocks that are not trained
        self.free: Any = slice(None)  # where the entries of the others are
        self.calls = self.n_accepted = 0
        self._refused = (0, "")  # iterates before the last trial that was not finite, and what was not
        self._start: Any = None  # what is known there, until the method asks for it
        self.units = Units()
        # Where the method starts, as it sees it and in the user's units.
        self._origin: tuple[Array, Array] | None = None
        self.limits: tuple[Array, Array] | None = None  # of the trained entries, if any of them has a bound
        self._losses: dict[float, float] = {}  # by what the method is told, since the last iterate

    def _iteration_begins(self) -> None:
        """Tell callbacks, unless there is none to come: the end of a run may still be looked at."""
        if self.n_accepted < self.max_iter:
            self.monitor.epoch_begins("iteration")

    def begin(self) -> Array:
        """Evaluate the start, learn which blocks are trained; return their entries."""
        self._iteration_begins()
        start: Array = self.theta.vector.astype(np.float64)
        loss, gradient = self._evaluate(start)
        self._require_finite_start(loss, gradient)
        self._start = loss, gradient.copy()  # whose memory the next evaluation writes to
        entries: Array = start[self.free]
        self._first = entries
        return entries

    def __call__(self, x: Array) -> tuple[float, Array]:
        self._iteration_begins()
        known, self._start = self._start, None
        loss, gradient = self._evaluate(self.full(x)) if known is None else known
        self._look(loss, gradient)
        return self.tell(loss), self.units.gradient(gradient[self.free])

    def tell(self, loss: float) -> float:
        """Return a loss as the method sees it."""
        told = float(loss) * self.units.scale
        self._losses[told] = loss
        return told

    def enter(self, begin: Array) -> Array:
        """Return where the method starts, as it sees it."""
        self._origin = self.units.enter(begin), begin
        return self._origin[0]

    def _evaluate(self, x: Array) -> tuple[float, Array]:
        """Value and gradient, with an entry for each of θ."""
        if self._overflown(x):
            return math.inf, np.zeros(self.theta.layout.size)
        contribution = self._at(x, self.rows.total, self.objective, self.theta)
        self._learn(contribution.missing)
        return self.objective.finish(self.theta, contribution)

    def full(self, x: Array) -> Array:
        """Return θ at a point as the method sees it: entries that are not trained are as they were."""
        whole: Array = self.accepted.astype(np.float64)
        is_start = self._origin is not None and np.array_equal(self._origin[0], x)
        entries = self._origin[1] if self._origin and is_start else self.units.leave(x)
        if self.limits is not None and not is_start:  # of which rounding would lose the last digit
            low, high = self.limits
            entries = np.where(x <= self.units.enter(low), low, np.where(x >= self.units.enter(high), high, entries))
            entries = entries.clip(low, high)
        whole[self.free] = entries
        return whole

    def full_gradient(self, gradient: Array) -> Array:
        """Return a gradient of the trained entries with an entry for each of θ, 0 for the others."""
        whole = np.zeros(self.theta.layout.size)
        whole[self.free] = gradient
        return whole

    def loss(self, value: float) -> float:
        """Return a loss that the method has seen, in the user's units: to the bit, if of the last iterate or later."""
        return self._losses.get(float(value), float(value) / self.units.scale)

    def norm(self, gradient: Array) -> float:
        """Return the norm of a gradient that the method has seen, in the user's units."""
        gradient = self.units.gradient_left(gradient)
        return math.sqrt(np.vdot(gradient, gradient))

    def rescale(self, result: OptimizeResult) -> None:
        """Change what a method has found to the user's units, with an entry for each of θ."""
        units, inverse = self.units, result.get("hess_inv")
        result.x, result.fun = self.full(result.x), self.loss(result.fun)
        result.jac = self.full_gradient(units.gradient_left(result.jac))
        result.held = self.full_gradient(result.held) != 0
        if isinstance(inverse, LbfgsInvHessProduct) and len(inverse.sk):
            steps = np.array([units.leave(step) for step in inverse.sk])
            changes = np.array([units.gradient_left(change) for change in inverse.yk])
            result.hess_inv = LbfgsInvHessProduct(steps, changes)
        elif isinstance(inverse, np.ndarray):
            half = np.array([units.leave(column) for column in inverse.T])
            result.hess_inv = units.scale * np.array([units.leave(row) for row in half.T])
        for name in SEEN:
            result.pop(name, None)

    def measured(self) -> Units:
        """Return the units of the trained entries, by what the gradients of rows are at the last iterate."""
        settings = {"diagonal": self.limits is not None, "by_groups": self.units.of_groups}
        return measured(self.objective, self.theta, self.rows, self.free, self._size, **settings)

    def between_bounds(self, run: Callable[..., OptimizeResult]) -> Callable[..., OptimizeResult]:
        """Return a run that is given the bounds, in the units that it begins with."""

        def bounded(begin: Array, **settings: Any) -> OptimizeResult:
            low, high = self.limits  # type: ignore[misc]
            return run(begin, bounds=(self.units.enter(low), self.units.enter(high)), **settings)

        return bounded

    def tame(self, units: Units, begin: Array) -> None:
        """Make units shorter that have grown far beyond the others since the last measure, if curvatures say so.

        Where all rows agree about an entry, their gradients by it vanish together at the optimum, and tell nothing.
        """
        before = self.units.unit
        if type(units) is not Units or type(self.units) is not Units or not np.ndim(units.unit) or not np.ndim(before):
            return
        growth = units.unit / before
        suspects = np.flatnonzero(growth > GROWN * np.median(growth))[:MOST_TAMED]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for entry in suspects.tolist():
                direction = np.zeros(begin.size)
                direction[entry] = 1.0
                step = CHANGE * before[entry] * direction
                change = self._slope(begin + step, direction) - self._slope(begin - step, direction)
                curvature = change / (2 * step[entry]) * units.unit[entry] ** 2 * units.scale
                if math.isfinite(curvature) and curvature > 1:
                    units.unit[entry] /= math.sqrt(curvature)
        self.restore()

    def _size(self, spread: Array) -> float:
        """Return the size of derivatives of the loss in predictions, by its curvature.

        It is that along the way so far, at the start along the gradient. The step is found by trying, for the units of
        θ say nothing: it begins as a share of θ, or, at zero, of the loss. It is not made so short that last digits
        alone change.
        """
        begin = self.accepted[self.free].astype(np.float64)
        loss, gradient = self._evaluate(self.accepted.astype(np.float64)) if self._start is None else self._start
        penalty = self.objective.curvature_of_penalty(self.theta)[self.free]  # which is known, no part of that size
        way = begin - self._first
        if not way.any():
            way = (gradient - self.objective.gradient_of_penalty(self.theta))[self.free] / spread**2
        length = float(np.linalg.norm(spread * way))
        direction = way / length if length else np.full(way.size, way.size**-0.5) / spread
        direction = self._inward(begin, direction)
        here = float(direction @ gradient[self.free])
        of_penalty = float(direction @ (penalty * direction))
        distance = float(np.linalg.norm(begin * spread))
        step = SMALL * (distance or (abs(loss / here) if here else 0.0)) or SMALL
        shortest = min(SMALL, float(np.finfo(self.theta.layout.dtype).eps) ** 0.5) * distance
        found, fastest = 0.0, 1 / TOO_MUCH
        for _ in range(TRIALS):
            change = self._slope(begin + step * direction, direction) - here - step * of_penalty
            if not math.isfinite(change):
                step, shortest = step * TOO_MUCH, 0.0
                fastest = 10.0  # so that it does not go back there
                continue
            found = change / step
            if 0.1 * CHANGE <= abs(change) <= 10 * CHANGE or (abs(change) > CHANGE and step <= shortest):
                break
            factor = min(max(CHANGE / abs(change) if change else math.inf, TOO_MUCH), fastest)
            step = max(step * factor, shortest)
        back = here - self._slope(begin - step * direction, direction) - step * of_penalty
        found = 0.5 * (found + back / step) if math.isfinite(back) else found  # a step the other way makes it exact
        is_line = abs(found * step) <= ROUNDED * float(np.finfo(self.theta.layout.dtype).eps) * abs(here)
        found = max(0.0 if is_line else abs(found), of_penalty)  # beside which a curve that is hardly one is none
        return 1 / math.sqrt(found) if found and math.isfinite(found) else 1.0

    def _inward(self, begin: Array, direction: Array) -> Array:
        """A direction in which no entry that is on a bound moves; if all are, one that leads inside."""
        if self.limits is None:
            return direction
        low, high = self.limits
        is_low, is_high = begin <= low, begin >= high
        if (is_low | is_high).all():
            return np.where(is_low, np.abs(direction), -np.abs(direction))
        return np.where(is_low | is_high, 0.0, direction)

    def _slope(self, entries: Array, direction: Array) -> float:
        """The first derivative along a direction at trained entries; nan where there is none, and outside of bounds."""
        whole = self.accepted.astype(np.float64)
        whole[self.free] = entries
        if not np.array_equal(self.theta.confined(whole), whole):
            return math.nan
        try:
            return float(direction @ self._evaluate(whole)[1][self.free])
        except Exception:  # of a function that refuses such parameters
            return math.nan

    def look_around(self, begin: Array) -> None:
        """Correct the units of directions that hardly any row of a sample determines, as of a rare category.

        Others may determine them: the curvatures of the objective over all rows tell.
        """
        units = self.units
        if not (isinstance(units, MatrixUnits) and units.weak):
            return
        here = units.gradient(self._gradient_at(units.enter(begin)))
        best, *weak = (self._curvature_seen(index, here, begin) for index in (0, *units.weak))
        for index, found in zip(units.weak, weak, strict=True):
            ratio = found / best if best > 0 else 1.0  # to the curvature of the best determined
            if math.isfinite(ratio) and (ratio > STIFF or KNOWN < ratio < 1 / STIFF):
                units.stretch(index, math.sqrt(ratio))
        self.restore()

    def _curvature_seen(self, index: int, here: Array, begin: Array) -> float:
        """The second derivative along a direction of the matrix, as the method sees it."""
        units: Any = self.units
        direction, step = units.vectors[:, index], SMALL * float(units.roots[index])
        there = units.gradient(self._gradient_at(units.enter(begin) + step * direction))
        return float(direction @ (there - here)) / step

    def _gradient_at(self, z: Array) -> Array:
        """The gradient of the trained entries, in the user's units."""
        gradient: Array = self._evaluate(self.full(z))[1][self.free].astype(np.float64)
        return gradient

    def accept(self, iterate: OptimizeResult) -> float:
        """Put θ at an iterate; return its loss, in the user's units."""
        self.theta.vector[...] = self.full(iterate.x)
        self.accepted = self.theta.vector.copy()
        self.n_accepted += 1
        loss = self.loss(iterate.fun)
        self._losses = {float(iterate.fun): loss}
        return loss

    def restore(self) -> None:
        """Put θ back at the last iterate."""
        self.theta.vector[...] = self.accepted

    def _learn(self, missing: tuple[int, ...]) -> None:
        """Learn at the start what is not trained: blocks without a gradient, and entries that bounds leave no room."""
        layout = self.theta.layout
        if self.missing is None:
            self.missing, self.free = missing, np.ones(layout.size, dtype=bool)
            for index in missing:
                self.free[layout.slices[index]] = False
            if self.theta.limits is not None:
                low, high = self.theta.limits
                self.free &= low < high
                low, high = (limit[self.free].astype(np.float64) for limit in self.theta.limits)
                if np.isfinite(low).any() or np.isfinite(high).any():
                    self.limits = (low, high)
        elif missing != self.missing:
            names = ", ".join(repr(layout.names[index]) for index in sorted({*missing} ^ {*self.missing}))
            raise ParameterStructureError(
                f"{self.objective.model.form} returned None for parameter {names} in some evaluations and an array "
                "in others. A full-batch method trains the same parameters throughout. Return zeros for a parameter "
                "without influence."
            )

    def _at(self, x: Array, evaluate: Callable[..., T], *arguments: Any) -> T:
        """Put θ at a point and evaluate something of the objective there; count it."""
        with np.errstate(over="ignore"):  # float32 may have no such number
            self.theta.vector[...] = x
        try:
            evaluated = evaluate(*arguments)
        except Exception as error:
            error.add_note(f"In evaluation {self.calls} of the objective over all samples (counted from 0).")
            raise
        self.calls += 1
        return evaluated

    # What is not finite.

    def _overflown(self, x: Array) -> str:
        """Put θ at a point; name the user's parameters that overflow there, which no function of theirs has to meet."""
        with np.errstate(over="ignore"):  # float32 may have no such number
            self.theta.vector[...] = x
        given = self.theta.as_given if self.theta.is_mapped else self.theta
        return "" if np.isfinite(given.vector).all() else not_finite_blocks(given.layout, given.vector)

    def _look(self, loss: float, gradient: Array) -> None:
        """Remember what is not finite at a trial."""
        message = self._not_finite(loss, gradient, "at a trial")
        if message is not None:
            self._refused = self.n_accepted, message

    @property
    def trouble(self) -> str:
        """What was not finite near the end: since the iterate before the last, at most."""
        n_before, message = self._refused
        return f"{message} The method tried shorter steps." if message and self.n_accepted - n_before <= 1 else ""

    def _require_finite_start(self, loss: float, gradient: Array) -> None:
        message = self._not_finite(loss, gradient, "at the starting parameters")
        if message is not None:
            raise DivergenceError(f"{message} {HINTS['start']}")

    def _not_finite(self, loss: float, gradient: Array, where: str) -> str | None:
        """Return a message that names what is not finite, or too large to calculate with; None if nothing is."""
        gradient = gradient.astype(np.float64)
        if Point(gradient, loss, gradient).is_finite:
            return None
        if overflown := self._overflown(self.theta.vector):
            return f"The parameters overflow {where}: block {overflown}."
        largest, block = self._largest(gradient)
        return not_finite(self.theta, loss, gradient, where) or (
            f"The loss is {loss:.2g} and the gradient up to {largest:.2g}, in parameter {block!r}, {where}: "
            "their squares overflow float64."
        )

    # Why it has not converged.

    def failure(self, result: OptimizeResult, method: FullBatch, max_iter: int, tol: float) -> str:
        """Return in words why a method did not converge, with what is likely wrong."""
        largest, block = self._largest(self.full_gradient(np.where(result.held, 0.0, result.jac)))
        measured = f"gradient over its spread of {largest:.2g}, in parameter {block!r}"
        if method.residuals:
            measured = f"relative offset of {result.offset:.2g}"
        words = (
            f"{type(method).__name__} stopped with a {measured}, larger than tol={tol:g}. Message of the method: "
            f"{str(result.message).strip(' .:')}."
        )
        chosen = ", ".join(f"{name}={value!r}" for name, value in method.stopping_options().items())
        dtype = self.theta.layout.dtype
        rounding = max(result.rounding, float(np.finfo(dtype).eps) * largest)
        if self.trouble:
            hint = self.trouble
        elif result.nit >= max_iter and rounding <= 1e-3 * largest:
            hint = "Increase max_iter or tol."
        elif rounding > (tol or 1e-3 * largest):
            hint = (
                f"Rounding in {dtype} alone changes the gradient by {rounding:.1g} at a loss of "
                f"{self.loss(result.fun):.2g}, so smaller gradients are not meaningful. Subtract large offsets from "
                "X and y, scale them, or increase tol. At a kink, as of absolute_error, the gradient does not "
                "become small."
            )
        elif chosen:
            hint = f"It may have stopped because of {chosen}; by default it continues until tol is reached."
        elif result.nit <= 1:
            hint = "If the first line search fails, the gradient is nearly always wrong. Run check_gradient."
        else:
            hint = "Likely causes are a kink of the loss, a partly wrong gradient, and unscaled features in X."
        return f"{words} {hint}"

    def _largest(self, gradient: Array) -> tuple[float, str]:
        """Return the largest entry of a gradient and the name of its block."""
        layout = self.theta.layout
        largest = [np.abs(block).max(initial=0.0) for block in layout.blocks(gradient)]
        return float(np.max(largest)), layout.names[int(np.argmax(largest))]


class _ResidualEvaluation(_Evaluation):
    """The objective as residuals and their Jacobian, over all rows at once."""

    def __init__(self, objective: Objective, theta: Parameters, rows: Rows, monitor: Monitor, max_iter: int) -> None:
        super().__init__(objective, theta, rows, monitor, max_iter)
        self.terms = Residuals(objective)
        self._shapes: tuple[tuple[int, ...], tuple[int, ...]] = (), ()  # of the terms and their Jacobian

    def begin(self) -> Array:
        """Evaluate the start, learn which blocks are trained; return their entries."""
        self._iteration_begins()
        start = self.theta.vector.astype(np.float64)
        values, tangents = self._values(start), self._tangents(start)
        self._require_finite_start(_half_square(values), self._gradient(*tangents))
        self._start = {"values": values, "tangents": tangents}
        entries: Array = start[self.free]
        return entries

    def residuals(self, x: Array) -> Array:
        """Return the terms at a vector of the trained entries."""
        self._iteration_begins()
        known = self._start.pop("values", None)
        self._latest = self._values(self.full(x)) if known is None else known
        self._look(_half_square(self._latest), np.zeros(self.theta.layout.size))
        return self._latest

    def residual_jacobian(self, x: Array) -> tuple[Array, Array]:
        """Return the terms and their derivative, both rotated where that saves memory."""
        self._iteration_begins()
        known = self._start.pop("tangents", None)
        tangents = self._tangents(self.full(x)) if known is None else known
        self._look(_half_square(self._latest), self._gradient(*tangents))
        return tangents

    def _values(self, x: Array) -> Array:
        if self._overflown(x):
            return np.full_like(self._latest, np.inf)
        return self._at(x, self.terms.values, self.theta, self.rows)

    def _tangents(self, x: Array) -> tuple[Array, Array]:
        if self._overflown(x):
            return np.full(self._shapes[0], np.inf), np.full(self._shapes[1], np.nan)
        residuals, jacobian, missing = self._at(x, self.terms.tangents, self.theta, self.rows)
        self._learn(missing)
        if jacobian.shape[1] != np.count_nonzero(self.free):
            trained = np.ones(self.free.size, dtype=bool)  # with entries that bounds leave no room
            for index in missing:
                trained[self.theta.layout.slices[index]] = False
            jacobian = jacobian[:, self.free[trained]]
        self._shapes = residuals.shape, jacobian.shape
        return residuals, jacobian

    def _gradient(self, residuals: Array, jacobian: Array) -> Array:
        with np.errstate(all="ignore"):  # what is not finite is refused
            return self.full_gradient(jacobian.T @ residuals.astype(np.float64))


def _half_square(residuals: Array) -> float:
    residuals = residuals.astype(np.float64)
    return 0.5 * float(np.vdot(residuals, residuals))  # which overflows without a warning
