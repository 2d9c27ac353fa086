"""Contributions of samples to the objective and its gradient, which can be added."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .sparse_gradients import SparseGradient, outside, spread, summed
from .typing import Array


class Contribution(NamedTuple):
    """Mean loss and gradient of some samples; contributions of several batches can be merged.

    ``gradient`` is None if there are no samples, or all weights are zero. ``loss`` is None if the gradient form does
    not return it. ``missing`` are the indices of blocks without a gradient. Blocks with a gradient of some rows only
    are in ``sparse_grads``, in the order of blocks; the values of ``gradient`` for them have no meaning.
    """

    loss: float | Any
    gradient: Array | Any
    n: int
    missing: tuple[int, ...] = ()
    sparse_grads: tuple[SparseGradient, ...] = ()

    def dense(self) -> Contribution:
        """Return the same with a gradient of all rows."""
        if self.gradient is None or not self.sparse_grads:
            return self
        spread(self.gradient, self.sparse_grads)
        return self._replace(sparse_grads=())


class Sum(NamedTuple):
    """Sum of the contributions of some parts: a node of the binary tree in which parts are added.

    It covers the parts from ``place * 2**level`` to ``(place + 1) * 2**level``. Because the tree depends only on the
    number of parts, the total is identical to the last bit wherever and whenever its nodes are added. A single part is
    multiplied by its number of rows only when it is added to another one, because a division does not undo the product
    to the last bit.
    """

    level: int
    place: int
    total: Contribution
    is_mean: bool = False

    @classmethod
    def of(cls, part: Contribution, place: int) -> Sum:
        """Return the sum for a single part, as a copy."""
        if part.gradient is None:
            return cls(0, place, part)
        gradient = np.zeros_like(part.gradient)
        for where in outside(gradient.size, part.sparse_grads):
            gradient[where] = part.gradient[where]
        by_rows = tuple(g._replace(rows=g.rows.copy(), values=g.values.copy()) for g in part.sparse_grads)
        return cls(0, place, part._replace(gradient=gradient, sparse_grads=by_rows), is_mean=True)

    def _summed(self) -> Contribution:
        """The contribution as a sum over rows, in its own memory."""
        part = self.total
        if not self.is_mean:
            return part
        gradient = part.gradient
        gradient *= part.n
        loss = None if part.loss is None else part.loss * part.n
        return part._replace(
            loss=loss, gradient=gradient, sparse_grads=tuple(g.times(part.n) for g in part.sparse_grads)
        )

    def plus(self, later: Sum) -> Sum:
        """Return the sum with that of later parts, in the memory of this one."""
        level, place = self.level + 1, self.place // 2
        ours, theirs = self._summed(), later._summed()
        n = ours.n + theirs.n
        if ours.gradient is None or theirs.gradient is None:
            kept = theirs if ours.gradient is None else ours
            return Sum(level, place, kept._replace(n=n))
        sparse_grads: tuple[SparseGradient, ...] = ()
        if [g.block for g in ours.sparse_grads] == [g.block for g in theirs.sparse_grads]:
            sparse_grads = summed([ours.sparse_grads, theirs.sparse_grads])
        else:
            ours, theirs = ours.dense(), theirs.dense()
        gradient = ours.gradient
        gradient += theirs.gradient
        loss = None if ours.loss is None or theirs.loss is None else ours.loss + theirs.loss
        missing = tuple(index for index in ours.missing if index in theirs.missing)
        return Sum(level, place, Contribution(loss, gradient, n, missing, sparse_grads))

    def is_before(self, other: Sum) -> bool:
        """Whether another sum is added to this one in the tree."""
        return self.level == other.level and self.place % 2 == 0 and other.place == self.place + 1


def added(sums: Iterable[Sum]) -> list[Sum]:
    """Add sums, in the order of their parts, as far as the tree allows; return those that are left."""
    left: list[Sum] = []
    for each in sums:
        left.append(each)
        while len(left) > 1 and left[-2].is_before(left[-1]):
            last = left.pop()
            left.append(left.pop().plus(last))
    return left


def mean_of(sums: Iterable[Sum]) -> Contribution:
    """Return the contribution of all the rows of some sums, which together are of all parts."""
    left = added(sorted(sums, key=lambda each: each.place << each.level))
    if not left:
        return Contribution(0.0, None, 0)
    whole = left.pop()
    while left:  # of a number of parts that is no power of two, the last ones first
        whole = left.pop().plus(whole)
    total, n = whole.total, whole.total.n
    if total.gradient is None or whole.is_mean:
        return total
    gradient = total.gradient
    gradient /= n
    loss = None if total.loss is None else total.loss / n
    sparse_grads = tuple(g._replace(values=g.values / n) for g in total.sparse_grads)
    return total._replace(loss=loss, gradient=gradient, sparse_grads=sparse_grads)


def merge(contributions: Iterable[Contribution]) -> Contribution:
    """Return the contribution of all the rows of several, added in the tree of their order.

    The gradients of later batches may reuse the memory of earlier ones: the sum is kept apart. Blocks that all of them
    have by rows stay so.
    """
    return mean_of(added(Sum.of(part, place) for place, part in enumerate(contributions)))
