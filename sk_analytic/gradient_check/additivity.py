"""Whether a loss decomposes over samples: the gradient of some samples against the gradients of their halves.

Minibatches train the mean of the batch losses, which equals the loss of all samples only if the loss is a sum over
samples. A partial likelihood, a rank or a statistic of the batch makes it another loss, which trains without an error.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np

from ..data.batch import CHECK, Batch, generator
from ..objective import Objective
from ..parameters import Parameters
from ..typing import Array
from .check import NEAR
from .evaluation import Situation, Subject, take

MOST_ROWS = 50  # of a half
LARGEST = 1e-3  # disagreement, relative to the block; more than rounding in the callables explains
NOTICED = 1e-5  # relative to the whole gradient: a block may be rounding alone


class Coupling(NamedTuple):
    """What shows that a loss is no sum over rows.

    Attributes
    ----------
    n : int
        Rows of the whole.
    block : str
        Where the gradients disagree most; empty if there is no gradient but the change of the loss.
    disagreement : float
        Relative to their size.
    losses : tuple of float
        Of the whole, and the mean of those of its halves; NaN where there is no loss.
    """

    n: int
    block: str
    disagreement: float
    losses: tuple[float, float]


def coupling(objective: Objective, theta: Parameters, batch: Batch, *, seed: int) -> Coupling | None:
    """Return what shows that the loss of a batch is not the mean of those of its halves; None if nothing does.

    Nothing can for callables that draw random numbers, or that do not take such batches.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
        Not changed.
    batch : Batch
        At most ``2 * MOST_ROWS`` rows.
    seed : int
        Seed of the fit.

    Returns
    -------
    found : Coupling or None
    """
    model = objective.model
    receivers = [receiver for receiver in (model.gradient, model.forward, model.loss) if receiver is not None]
    if batch.n < 2 or model.uses_defaults or any("rng" in receiver.wanted for receiver in receivers):
        return None
    double = objective.astype(np.float64)
    double.fixed = tuple(sorted({*double.fixed, *double.numerical}))
    subject = Subject(double, generator(seed, CHECK), theta.astype(np.float64))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        start = theta.as_given.vector.astype(np.float64)
        near = subject.nearby(start, NEAR)
        batch = batch.astype(np.float64).copy().read_only()
        order = np.argsort(batch.X @ subject.rng.normal(size=batch.X.shape[1]), kind="stable")
        parts = [take(batch, part) for part in np.array_split(order, 2)]  # unlike each other: so are their statistics
        for vector in (near, start):
            whole = Situation(subject, vector, batch)
            halves = [whole.of(part) for part in parts]
            slopes = [_slope(situation, near + near - start) for situation in (whole, *halves, whole.at(vector))]
            if all(slope is not None and np.isfinite(slope).all() for slope in slopes):
                return _disagreement(whole, halves, slopes)
    return None


def _slope(situation: Situation, elsewhere: Array) -> Array:
    """The gradient; if there is none, the change of the loss on the way to another θ, in which constants cancel."""
    subject = situation.subject
    if len(subject.objective.fixed) < len(subject.layout.names) or not subject.objective.has_value:
        return situation.gradient
    return np.array([situation.at(elsewhere).value - situation.value])


def _disagreement(whole: Situation, halves: list[Situation], slopes: list[Array]) -> Coupling | None:
    """Compare the whole with its halves, put together in any of the ways of a sum over rows."""
    slope, *of_halves, again = slopes
    if _relative(slope, again) > NOTICED:
        return None  # random without `rng`
    found = []
    for shares in _shares(halves):
        mean = sum(share * half for share, half in zip(shares, of_halves, strict=True))
        blocks = _disagreements(whole, mean, slope)
        worst = max(blocks, key=blocks.__getitem__)
        if not (_relative(mean, slope) > NOTICED and blocks[worst] > LARGEST):  # NaN is neither
            return None
        found.append(Coupling(whole.n, worst, blocks[worst], _losses(whole, halves, shares)))
    return found[0]


def _disagreements(whole: Situation, mean: Array, slope: Array) -> dict[str, float]:
    layout = whole.subject.layout
    if len(slope) != layout.size:
        return {"": _relative(mean, slope)}
    blocks = zip(layout.names, layout.blocks(mean), layout.blocks(slope), strict=True)
    return {name: _relative(mine, theirs) for name, mine, theirs in blocks}


def _losses(whole: Situation, halves: list[Situation], shares: Array) -> tuple[float, float]:
    if not whole.subject.objective.has_value:
        return math.nan, math.nan
    return whole.value, sum(share * half.value for share, half in zip(shares, halves, strict=True))


def _shares(halves: list[Situation]) -> list[Array]:
    """Return what halves are multiplied with to make the whole; which of the ways is right, the gradient check says.

    In a mean over rows, a sum, a mean that is taken for a sum, and a mean that is divided by the batch's weights.
    """
    by_rows = np.array([half.n for half in halves]) / sum(half.n for half in halves)
    shares = [by_rows, np.ones(2), by_rows**2]
    sums = [half.batch.sample_weight.sum() for half in halves if half.batch.sample_weight is not None]
    return [*shares, np.array(sums) / sum(sums)] if sums else shares


def _relative(one: Array, other: Array) -> float:
    """How far apart two gradients are, relative to their size."""
    size = float(np.linalg.norm(one) + np.linalg.norm(other)) / 2
    return float(np.linalg.norm(one - other)) / size if size else 0.0
