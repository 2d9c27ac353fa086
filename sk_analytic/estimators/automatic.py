"""The optimizer chosen by "auto", according to the model, the loss and the size of a fit."""

from __future__ import annotations

from typing import Any

from ..hyperparameters import is_auto
from ..least_squares import Residuals
from ..objective import Objective
from ..optimizers import LBFGS, TRF, Adam

LARGEST_JACOBIAN = 10_000_000  # entries, 80 MB in float64
MOST_WORK = 5_000_000
"""Rows times parameters up to which L-BFGS, which takes all rows in each step, reaches a loss before Adam does:
``python -m benchmarks automatic``."""


def chosen(settings: Any, objective: Objective, n_samples: int, n_outputs: int, *, is_remote: bool = False) -> Any:
    """Return the optimizer of a fit whose samples can all be evaluated in one step.

    Parameters
    ----------
    settings : AnalyticEstimator
    objective : Objective
    n_samples : int
        Number of training samples.
    n_outputs : int
        Number of predictions per sample.
    is_remote : bool, default=False
        Whether the samples are on a cluster, where every step takes a round trip to the workers.
    """
    if objective.draws_random_numbers or not objective.has_value:
        return Adam()
    if not is_auto(settings.batch_size) and settings.batch_size < n_samples:
        return Adam()  # minibatches were asked for
    work = n_samples * objective.layout.size
    if work * n_outputs <= LARGEST_JACOBIAN and _is_least_squares(objective):
        return TRF()
    needs_all = objective.additive is False
    return LBFGS(maxcor=30) if needs_all or is_remote or work <= MOST_WORK else Adam()


def _is_least_squares(objective: Objective) -> bool:
    try:
        Residuals(objective)
    except ValueError:
        return False
    return objective.model.gradient is not None
