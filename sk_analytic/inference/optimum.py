"""The optimum of a fitted objective: how far it is, and the way there."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..losses import SquaredError
from ..objective import Objective
from ..optimizers import LBFGS, TRF
from ..parameters import Parameters
from ..training.full_batch import minimize, units_at
from ..training.progress import History, Monitor
from ..training.units import Units
from ..typing import Array
from .covariances import information_of
from .information import Information
from .problem import Problem

POLISHED, POLISH_TOL, POLISH_STEPS = 1e-8, 1e-6, 20


def finished(
    objective: Objective, start: Parameters, rows: Any, units: Units | None = None
) -> tuple[Array, str | None]:
    """Return the optimum over rows from a start, by trf or lbfgs, and why it was not reached or None."""
    method = TRF() if _by_residuals(objective) else LBFGS(maxcor=30)
    theta = start.copy()
    objective.needs_value = True
    monitor = Monitor(History(), tol=POLISH_TOL)
    _, failed = minimize(objective, theta, method, rows, monitor, max_iter=1000, tol=POLISH_TOL, units=units)
    return theta.vector, failed


def _by_residuals(objective: Objective) -> bool:
    is_residual = objective.model.gradient_form.is_matrix and objective.model.gradient is not None
    return is_residual and type(objective.loss) is SquaredError


def units_for_refits(problem: Problem) -> Units | None:
    """Return the units in which refits of resampled rows begin: measured once, as a measure costs more than a refit."""
    objective = problem.objective
    if _by_residuals(objective):
        return None
    objective.needs_value = True
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return units_at(
            objective, problem.theta(problem.vector).copy(), problem.rows, Monitor(History(), tol=POLISH_TOL)
        )


def polished(problem: Problem, kind: str) -> Information:
    """Move a problem to the optimum; return the curvature there."""
    problem.is_polished = True
    if problem.objective.has_value:
        problem.look_at(finished(problem.objective, problem.theta(problem.vector), problem.rows)[0])
    steps_by = "hessian" if kind == "opg" and not problem.has_jacobian else kind.replace("opg", "gauss_newton")
    information = information_of(problem, steps_by)
    if problem.is_kinked:
        return information
    first = before = decrement(problem, information)
    for _ in range(POLISH_STEPS):
        here = problem.vector
        step = information.solve(problem.gradient_at_end[problem.free])
        problem.move_to(problem.start.confined(problem.moved(here[problem.free] - step)))
        now = decrement(problem, information)
        if not now < before:
            problem.move_to(here)
            break
        if now > before / 4:  # far from the optimum the curvature is another
            information = information_of(problem, steps_by)
            now = decrement(problem, information)
        before = now
    return information if steps_by == kind and first <= POLISHED else information_of(problem, kind)


def decrement(problem: Problem, information: Information) -> float:
    """Return the distance of a problem from its optimum in standard errors, for a scale of 1."""
    gradient = problem.gradient_at_end[problem.free]
    return math.sqrt(problem.total * float(gradient @ information.solve(gradient)))
