"""Messages about a curvature and an estimate, which describe directions by the names of their entries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import qr

from ..typing import Array
from .information import Information
from .problem import Problem

FEW_GROUPS = 30  # clusters
UNSYMMETRIC = 1e-4  # of a Hessian, worth a warning
HARDLY = 10.0  # as many times the curvature that a gradient explains is clearly more
LISTED, TERMS = 3, 5  # directions that a message names, and terms of each
NEGLIGIBLE = 1e-4  # coefficients of a direction that are not shown


def named(information: Information, which: Array, names: Sequence[str]) -> str:
    """Name some directions by the entries that they move."""
    basis = information.vectors[:, which]
    pivots = qr(basis.T, pivoting=True, mode="r")[1][: basis.shape[1]]
    basis = basis @ np.linalg.inv(basis[pivots])  # each has an entry to itself, and so few
    basis[np.abs(basis) < NEGLIGIBLE * np.abs(basis).max(axis=0)] = 0.0
    basis = basis / information.scale[:, None]
    basis /= np.abs(basis).max(axis=0)
    listed = "; ".join(_terms(column, names) for column in basis.T[:LISTED])
    more = basis.shape[1] - LISTED
    return listed + (f"; and {more} more" if more > 0 else "")


def _terms(direction: Array, names: Sequence[str]) -> str:
    """Write a direction as a sum, of its largest terms if it has many."""
    entries = np.flatnonzero(direction)
    direction = direction * np.sign(direction[entries[0]])
    largest = np.sort(entries[np.argsort(-np.abs(direction[entries]), kind="stable")[:TERMS]])
    words: list[str] = []
    for entry in largest.tolist():
        size = abs(direction[entry])
        factor = "" if f"{size:.3g}" == "1" else f"{size:.3g} "
        sign = "-" if direction[entry] < 0 else "+"
        first = "-" if direction[entry] < 0 else ""
        words.append(f"{sign} {factor}{names[entry]}" if words else f"{first}{factor}{names[entry]}")
    more = len(entries) - TERMS
    return " ".join(words) + (f" + {more} smaller terms" if more > 0 else "")


def hardly(problem: Problem, information: Information) -> Array:
    """Return which known curvatures may be those of a curve of equal losses, beside an optimum that was not reached.

    On such a curve, through a θ of the length |x|, the second derivative is as large as the gradient over |x|.
    """
    if information.is_root:
        return np.zeros(len(problem.free), dtype=bool)
    gradient = problem.gradient_at_end[problem.free] / information.scale
    length = float(np.linalg.norm(problem.vector[problem.free] * information.scale))
    largest = HARDLY * float(np.linalg.norm(gradient)) / length if length else 0.0
    weak: Array = information.known & (information.values < largest)
    return weak


def messages_of(problem: Problem, kind: str, information: Information, names: Sequence[str]) -> list[str]:
    """Return what is to be said of a curvature and of the estimate."""
    found = []
    free = [names[entry] for entry in problem.free.tolist()]
    if len(problem.bounded):
        listed = ", ".join(names[entry] for entry in problem.bounded.tolist())
        found.append(
            f"On a bound: {listed}. Parameters on a bound have no standard error; the other standard errors are "
            "conditional on their values."
        )
    if problem.objective.penalties:
        found.append(
            "alpha shrinks the estimates, so intervals are not centered on the true values, and the covariance "
            "includes the curvature of the penalty, as in a posterior. For unbiased estimates, fit with alpha=0."
        )
    if information.flat.any():
        found.append(
            f"Not identified: the loss does not change along {named(information, information.flat, free)}. These "
            "entries have NaN as standard errors; delta and predict still give errors for quantities that do not "
            "depend on them. Fix or drop an entry."
        )
    if information.negative.any():
        found.append(
            "The Hessian is not positive definite: the loss curves downward along "
            f"{named(information, information.negative, free)}, whose standard errors are NaN. Training has not "
            "reached a minimum: "
            + ("train longer, or from another start." if problem.is_polished else "use polish=True, or train longer.")
        )
    weak = hardly(problem, information)
    if weak.any():
        found.append(
            f"Weakly identified: along {named(information, weak, free)}, the curvature of the loss is no larger than "
            "the remaining gradient explains, so the loss may not change at all. "
            + (
                "Fix or drop an entry. If estimates grow without bound, as with separable classes, set alpha."
                if problem.is_polished
                else "Use polish=True to find out."
            )
        )
    if not information.is_root and information.noise > UNSYMMETRIC:
        found.append(
            f"The Hessian is not symmetric, by {information.noise:.1g} of its diagonal: the gradient is noisy, or not "
            "the derivative of a loss. Run check_gradient."
        )
    n_groups = 0 if problem.codes is None else int(problem.codes.max()) + 1
    if 0 < n_groups < FEW_GROUPS:
        found.append(
            f"There are {n_groups} clusters. With fewer than {FEW_GROUPS}, standard errors tend to be too small."
        )
    return found
