"""The kinds of covariance: the choice of "auto", which kinds a fit supports, and the middle matrix of a sandwich."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.batch import Batch
from ..gradient_check import MOST_ROWS, coupling
from ..losses import LOSSES, LogLoss, NegativeLogLikelihood, Tweedie
from ..typing import Array
from .information import FLAT, NUMERICAL_FLAT, ROOT_FLAT, Information
from .problem import Problem

CURVATURE = ("hessian", "gauss_newton", "opg")
ROBUST = ("HC0", "HC1", "HC2", "HC3")
KINDS = ("auto", *CURVATURE, "sandwich", *ROBUST, "cluster")


def resolved(problem: Problem, covariance: str, weights: str) -> str:
    """Return the kind of covariance that "auto" chooses, or the requested one."""
    if covariance == "sandwich":
        return "HC0"
    if covariance != "auto":
        return covariance
    if problem.codes is not None:
        return "cluster"
    if weights == "sampling":
        return "HC0"
    if problem.is_squared:
        return "gauss_newton" if problem.has_jacobian else "hessian"
    is_own = type(problem.loss) not in LOSSES.values()  # None too
    is_likelihood = is_own or isinstance(problem.loss, Tweedie | LogLoss | NegativeLogLikelihood)
    return "hessian" if is_likelihood else "HC0"


def require_possible(problem: Problem, kind: str, weights: str) -> None:
    """Raise if a covariance cannot be had of a fit."""
    objective = problem.objective
    of_loss = "the loss is your own" if problem.loss is None else type(problem.loss).__name__
    if problem.codes is not None and kind != "cluster":
        raise ValueError(f"groups require covariance='cluster' or 'auto'; got covariance={kind!r}.")
    if kind == "cluster" and problem.codes is None:
        raise ValueError("covariance='cluster' requires groups, the cluster of each sample.")
    if weights == "sampling" and kind in CURVATURE:
        raise ValueError(
            f"weights='sampling' does not support covariance={kind!r}, which assumes equal sampling probabilities. Use "
            "'sandwich', or 'cluster' with groups."
        )
    needs_jacobian = kind in ("gauss_newton", "HC2", "HC3") or problem.is_kinked
    if needs_jacobian and not problem.has_jacobian:
        raise ValueError(
            f"covariance={kind!r} needs the derivative of each prediction, which requires the vjp or jacobian form and "
            f"a named loss; got {objective.model.form}, and {of_loss}. Use "
            f"{'another form' if problem.is_kinked else repr('hessian') + ' or ' + repr('sandwich')}."
        )
    if problem.is_kinked and kind in CURVATURE:
        raise ValueError(f"{of_loss} has kinks and no second derivative. Use covariance='sandwich' or 'cluster'.")
    if kind not in ("hessian", "gauss_newton"):
        _require_rows(problem, kind)


def has_rows(problem: Problem) -> bool:
    """Return whether rows have gradients of their own."""
    try:
        _require_rows(problem, "sandwich")
    except ValueError:
        return False
    return True


def _require_rows(problem: Problem, kind: str) -> None:
    """Raise if rows have no gradient of their own."""
    objective = problem.objective
    otherwise = f"but covariance={kind!r} needs the gradient of each sample. Use covariance='hessian'."
    if objective.additive is False:
        raise ValueError(f"The loss does not decompose over samples (additive=False), {otherwise}")
    if objective.draws_random_numbers:
        raise ValueError(f"The model draws random numbers (rng), which differ for a single sample, {otherwise}")
    if objective.additive == "auto":
        batch = problem.rows.sample(1, 0, batch_size=2 * MOST_ROWS)[0]
        found = coupling(objective, problem.theta(problem.vector), batch, seed=0)
        if found is not None:
            raise ValueError(
                f"The loss does not decompose over samples (its gradient on {found.n} samples differs from the mean "
                f"over their two halves by {found.disagreement:.1%}), {otherwise}"
            )


def codes_of(groups: Any, data: Any) -> Array | None:
    """Return the cluster of each row as a number."""
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.ndim != 1:
        raise ValueError(f"groups must be 1-d, one label per sample; got shape {labels.shape}.")
    if len(labels) != data.extent.n:
        raise ValueError(f"groups has {len(labels)} labels for {data.extent.n} samples. Pass one label per sample.")
    codes: Array = np.unique(labels, return_inverse=True)[1]
    if codes.max(initial=0) == 0:
        raise ValueError("groups has a single cluster; clustered standard errors need several.")
    return codes


# The covariance.


def information_of(problem: Problem, kind: str) -> Information:
    """Return the curvature that a covariance is the inverse of, or lies between two of."""
    if kind == "opg":
        return Information.of_root(problem.root_of_scores(), ROOT_FLAT)
    by_root = kind == "gauss_newton" or problem.is_kinked or (problem.is_squared and kind != "hessian")
    if by_root and problem.has_jacobian:
        is_exact = not problem.objective.numerical
        return Information.of_root(problem.root(), ROOT_FLAT if is_exact else NUMERICAL_FLAT)
    return Information.of_matrix(problem.hessian())


def robust(problem: Problem, kind: str, information: Information) -> Array:
    """Return the sandwich of two inverse curvatures and the spread of the gradients of rows between them."""
    p, n_obs = len(problem.free), problem.n_obs
    power = {"HC2": 0.5, "HC3": 1.0}.get(kind)
    leverages = None
    if power is not None:
        exact = Information.of_root(problem.root(), ROOT_FLAT)
        leverages = _leverages(problem, exact)
    n_groups = 0 if problem.codes is None else int(problem.codes.max()) + 1
    of_groups = np.zeros((n_groups, p))

    def of_batch(batch: Batch, weight: Array, numbers: Array) -> Array:
        influence = information.solve(problem.scores(problem.vector, batch)) / problem.total
        if problem.codes is not None:
            np.add.at(of_groups, problem.codes[numbers], weight[:, None] * influence)
            return np.zeros((p, p))
        if leverages is not None:
            influence /= ((1 - leverages(batch, weight)) ** power)[:, None]
        influence *= (np.sqrt(weight) if problem.weights == "frequency" else weight)[:, None]
        return influence.T @ influence

    covariance: Array = sum(problem.each(of_batch), np.zeros((p, p)))
    freedom = n_obs - information.rank
    if kind == "HC1":
        covariance *= n_obs / freedom if freedom > 0 else math.nan
    elif problem.codes is not None:
        covariance = of_groups.T @ of_groups
        covariance *= n_groups / (n_groups - 1) * ((n_obs - 1) / freedom if freedom > 0 else math.nan)
    return covariance


def _leverages(problem: Problem, information: Information) -> Callable[[Batch, Array], Array]:
    """Return a function that says how much each row draws its own prediction to its y, from 0 to 1."""

    def of_batch(batch: Batch, weight: Array) -> Array:
        prediction, jacobian = problem.linearized(problem.vector, batch)
        if jacobian.shape[1] > 1:
            raise ValueError(
                f"HC2 and HC3 need one prediction per sample; got {jacobian.shape[1]}. Use 'HC0' or 'HC1'."
            )
        roots = jacobian[:, 0] @ information.inverse_root.T
        squares = problem.curvature(batch, prediction)[:, 0, 0] * (roots * roots).sum(axis=1)
        leverages: Array = squares / problem.total * (1.0 if problem.weights == "frequency" else weight)
        if (leverages > 1 - FLAT).any():
            raise ValueError("A sample has leverage 1, so HC2 and HC3 are not defined. Use 'HC0' or 'HC1'.")
        return leverages

    return of_batch
