"""Whether a loss decomposes over samples: its gradient on some samples in batches, and in other batches of them.

Minibatches train the mean of the batch losses, which equals the loss of all samples only if the loss is a sum over
samples. A partial likelihood, a rank or a statistic of the batch makes it another loss, which trains without an error.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from ..data.batch import CHECK, Batch, generator
from ..objective import Objective
from ..parameters import Parameters
from ..typing import Array
from .check import NEAR, fewer
from .evaluation import Situation, Subject, take

MOST_ROWS = 50  # of a batch, where none trains
LARGEST = 1e-3  # disagreement, relative to the block; more than rounding in the callables explains
NOTICED = 1e-5  # relative to the whole gradient: a block may be rounding alone


class Coupling(NamedTuple):
    """Evidence that a loss does not decompose over samples.

    Attributes
    ----------
    n : int
        Rows of all batches.
    block : str
        Where the gradients disagree most; empty if there is no gradient but the change of the loss.
    disagreement : float
        Relative to their size.
    losses : tuple of float
        In batches, and in the others; NaN where there is no loss.
    """

    n: int
    block: str
    disagreement: float
    losses: tuple[float, float]


def coupling(
    objective: Objective,
    theta: Parameters,
    batch: Batch,
    *,
    size: int | None = None,
    other_size: int | None = None,
    seed: int,
) -> Coupling | None:
    """Return what shows that the loss of rows depends on which batches they are in; None if nothing does.

    The rows are parted into two batches that are unlike each other, and into two that are alike. Then one row is taken
    several times, in batches of two sizes: what counts once a batch differs. Nothing can be shown for callables that
    draw random numbers, or that do not take such batches.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
        Not changed.
    batch : Batch
        Some rows, up to twice ``size``.
    size : int, default=None
        Rows of each batch, so that the callables see a shape that they see in training; by default half of those that
        there are. Batches of one row are compared with one of two.
    other_size : int, default=None
        The other size; by default six tenths.
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
        size = batch.n // 2 if size is None or size >= batch.n else size
        other_size = fewer(size) if other_size is None else other_size
        found = (
            _first(subject, (near, start), [take(batch, rows) for rows in one], [take(batch, rows) for rows in other])
            for one, other in _parted(order, size, other_size)
        )
        with suppress(_RandomError):
            return next(filter(None, found), None)
    return None


class _RandomError(Exception):
    """Two calls of the same function with the same arguments differ, although it does not receive ``rng``."""


def _parted(order: Array, size: int, other_size: int) -> Iterator[tuple[list[Array], list[Array]]]:
    """Yield rows in batches, and in other batches."""
    low, high = order[:size], order[len(order) - size :]  # unlike each other: so are their statistics
    both = np.empty(2 * size, order.dtype)
    both[::2], both[1::2] = low, high
    if size == 1:
        yield [low, high], [both]
        return
    yield [low, high], [both[:size], both[size:]]
    middle = order[len(order) // 2]
    yield [np.full(size, middle)], [np.full(other_size, middle)]


def _first(subject: Subject, vectors: Iterable[Array], ones: list[Batch], others: list[Batch]) -> Coupling | None:
    """Compare batches with others at the first θ at which all can be evaluated."""
    near, start = vectors
    for vector in (near, start):
        one, other = ([Situation(subject, vector, batch) for batch in batches] for batches in (ones, others))
        again = one[0].at(vector)
        slopes = [_slope(situation, near + near - start) for situation in (*one, *other, again)]
        if all(slope is not None and np.isfinite(slope).all() for slope in slopes):
            return _disagreement(one, other, slopes)
    return None


def _slope(situation: Situation, elsewhere: Array) -> Array:
    """The gradient; if there is none, the change of the loss on the way to another θ, in which constants cancel."""
    subject = situation.subject
    if len(subject.objective.fixed) < len(subject.layout.names) or not subject.objective.has_value:
        return situation.gradient
    return np.array([situation.at(elsewhere).value - situation.value])


def _disagreement(ones: list[Situation], others: list[Situation], slopes: list[Array]) -> Coupling | None:
    """Compare batches with others, put together in any of the ways of a sum over rows."""
    *slopes, again = slopes
    if _relative(slopes[0], again) > NOTICED:
        raise _RandomError
    found = []
    for shares in zip(_shares(ones), _shares(others), strict=True):
        means = _sum(shares[0], slopes[: len(ones)]), _sum(shares[1], slopes[len(ones) :])
        blocks = _disagreements(ones[0], *means)
        worst = max(blocks, key=blocks.__getitem__)
        if not (_relative(*means) > NOTICED and blocks[worst] > LARGEST):  # NaN is neither
            return None
        losses = _loss(ones, shares[0]), _loss(others, shares[1])
        found.append(Coupling(sum(situation.n for situation in ones), worst, blocks[worst], losses))
    return found[0]


def _sum(shares: Array, slopes: list[Array]) -> Array:
    total: Array = sum(share * slope for share, slope in zip(shares, slopes, strict=True))
    return total


def _disagreements(one: Situation, mean: Array, slope: Array) -> dict[str, float]:
    layout = one.subject.layout
    if len(slope) != layout.size:
        return {"": _relative(mean, slope)}
    blocks = zip(layout.names, layout.blocks(mean), layout.blocks(slope), strict=True)
    return {name: _relative(mine, theirs) for name, mine, theirs in blocks}


def _loss(situations: list[Situation], shares: Array) -> float:
    if not situations[0].subject.objective.has_value:
        return math.nan
    return float(sum(share * each.value for share, each in zip(shares, situations, strict=True)))


def _shares(situations: list[Situation]) -> list[Array]:
    """Return what batches are multiplied with before they are added; which way is right, the gradient check says.

    In a mean over rows, a sum, a mean that is taken for a sum, and a mean that is divided by the batch's weights.
    """
    n = np.array([each.n for each in situations])
    shares = [n / n.sum(), np.ones(len(n)) / n.sum(), n**2 / n.sum()]
    sums = [each.batch.sample_weight.sum() for each in situations if each.batch.sample_weight is not None]
    return [*shares, np.array(sums) / sum(sums)] if sums else shares


def _relative(one: Array, other: Array) -> float:
    """How far apart two gradients are, relative to their size."""
    size = float(np.linalg.norm(one) + np.linalg.norm(other)) / 2
    return float(np.linalg.norm(one - other)) / size if size else 0.0
