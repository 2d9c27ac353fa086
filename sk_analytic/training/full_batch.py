"""Full-batch training: scipy's methods on the objective over all rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from ..contribution import Contribution, merge
from ..data.rows import Rows
from ..exceptions import DivergenceError
from ..least_squares import Residuals
from ..objective import Objective
from ..optimizers.scipy_methods import FullBatch
from ..parameters import Parameters
from ..typing import Array, T
from .divergence import HINTS, not_finite
from .progress import Monitor


def minimize(
    objective: Objective,
    theta: Parameters,
    method: FullBatch,
    rows: Rows,
    monitor: Monitor,
    *,
    max_iter: int,
    tol: float,
) -> OptimizeResult:
    """Minimise over all rows by a full-batch method; θ is written in place.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
    method : FullBatch
    rows : rows
        One batch, or several that are summed in their order.
    monitor : Monitor
        Is told of each iteration.
    max_iter : int
        Iterations.
    tol : float
        scipy's tolerance on the gradient.

    Returns
    -------
    result : scipy.optimize.OptimizeResult
        scipy's own; ``fun`` and ``jac`` are the objective and its gradient.

    Raises
    ------
    DivergenceError
        If the start or an iterate is not finite. θ then is the best point met.
    """
    evaluation = (_ResidualEvaluation if method.residuals else _Evaluation)(objective, theta, rows, monitor)
    begun_at = monitor.history.n_iter

    def iterated(result: OptimizeResult) -> bool:
        evaluation.require_finite(result)
        theta.vector[...] = result.x
        monitor.history.n_steps += 1
        return monitor.epoch_ended(theta, float(result.fun), math.sqrt(np.vdot(result.jac, result.jac)))

    start = theta.vector.astype(np.float64)
    try:
        result = method.minimize(evaluation, start, max_iter=max_iter, tol=tol, callback=iterated)
        evaluation.require_finite(result)
        if monitor.history.n_iter == begun_at:  # it ended where it started
            theta.vector[...] = result.x
            monitor.epoch_ended(theta, float(result.fun), math.sqrt(np.vdot(result.jac, result.jac)))
    finally:
        theta.vector[...] = evaluation.best[1]
    if not np.isfinite(result.fun):
        raise DivergenceError(
            f"{type(method).__name__} ended where the objective is {result.fun} ({result.message}). "
            "The parameters are the best finite ones that it met."
        )
    if monitor.stopping.best_theta is None:
        theta.vector[...] = result.x
    monitor.epoch_broken_off()
    return result


def failure(result: OptimizeResult) -> str:
    """Return in words why a full-batch method did not converge, with what is likely wrong."""
    if any(word in str(result.message).lower() for word in ("exceeded", "limit")):
        return f"{result.message} A larger max_iter or tol may help."
    if result.nit <= 1:
        return (
            f"{result.message} A line search that fails at once is nearly always a wrong gradient: run check_gradient."
        )
    return (
        f"{result.message} The gradient is {np.abs(result.jac).max():.2g} at most; a tol below what the precision of "
        "the loss allows, a kink or a gradient that is wrong in places ends a line search like this."
    )


class _Evaluation:
    """The objective over all rows as scipy calls it: value and gradient at a float64 vector."""

    def __init__(self, objective: Objective, theta: Parameters, rows: Rows, monitor: Monitor) -> None:
        self.objective, self.theta, self.rows, self.monitor = objective, theta, rows, monitor
        self.best = (math.inf, theta.vector.copy())
        self.sent_back: Array | None = None  # the last trial whose loss was not finite
        self.calls = 0

    def __call__(self, x: Array) -> tuple[float, Array]:
        theta = self.theta
        contribution = self._at(x, self._contribution)
        loss, gradient = self.objective.finish(theta, contribution)
        if self.calls == 1:
            self._require_finite_start(loss, gradient)
        self._keep(loss)
        if not math.isfinite(loss):
            return self._send_back(x)
        return loss, gradient.astype(np.float64)

    def _send_back(self, x: Array) -> tuple[float, Array]:
        """Value and gradient for a trial whose loss is not finite.

        The line searches of scipy interpolate the values of trials; an infinite one makes the next step NaN,
        which some of them take for convergence. A finite value above the best makes them try a shorter step.
        """
        self.sent_back = np.array(x)
        best = self.best[0]
        return best + 10 * max(1.0, abs(best)), np.zeros(self.theta.layout.size)

    def _contribution(self) -> Contribution:
        """The contribution of all rows: of one batch, or a sum in their order."""
        first, *later = range(self.rows.steps_per_epoch)
        contribution = self.rows.contribution(self.objective, self.theta, 0, first).dense()
        if later:
            contribution = merge([contribution])  # kept apart from what the next batch writes over
        for step in later:
            contribution = merge([contribution, self.rows.contribution(self.objective, self.theta, 0, step)])
        return contribution

    def _at(self, x: Array, evaluate: Callable[..., T], *arguments: Any) -> T:
        """Put θ at a point and evaluate something of the objective there; count it."""
        self.monitor.epoch_begins("iteration")
        self.theta.vector[...] = x
        try:
            evaluated = evaluate(*arguments)
        except Exception as error:
            error.add_note(f"In evaluation {self.calls} of the objective over all rows (counted from 0).")
            raise
        self.calls += 1
        return evaluated

    def _keep(self, loss: float) -> None:
        if -math.inf < loss < self.best[0]:
            self.best = (loss, self.theta.vector.copy())

    def _require_finite_start(self, loss: float | None, gradient: Array) -> None:
        message = not_finite(self.theta, loss, gradient, "at the starting parameters")
        if message is not None:
            raise DivergenceError(f"{message} {HINTS['start']}")

    def require_finite(self, result: OptimizeResult) -> None:
        """Raise if an iterate, not a mere trial of a line search, is not finite."""
        message = not_finite(self.theta, result.fun, result.jac, "at an iterate")
        if self.sent_back is not None and np.array_equal(self.sent_back, result.x):  # some methods take it all the same
            message = "The loss is not finite at an iterate."
        if message is not None:
            raise DivergenceError(f"{message} The parameters are the best finite ones that were met.")


class _ResidualEvaluation(_Evaluation):
    """The objective as residuals and their Jacobian, over all rows at once."""

    def __init__(self, objective: Objective, theta: Parameters, rows: Rows, monitor: Monitor) -> None:
        super().__init__(objective, theta, rows, monitor)
        self.terms = Residuals(objective)

    def residuals(self, x: Array) -> Array:
        """Return the terms at a float64 vector."""
        residuals = self._at(x, self.terms.values, self.theta, self.rows).astype(np.float64)
        loss = 0.5 * float(residuals @ residuals)
        if self.calls == 1:
            self._require_finite_start(loss, np.zeros(self.theta.layout.size))
        self._keep(loss)
        return residuals

    def residual_jacobian(self, x: Array) -> Array:
        """Return their derivative."""
        return self._at(x, self.terms.jacobian, self.theta, self.rows)
