"""What some rows contribute to the objective and its gradient; contributions add."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .sparse_gradients import SparseGradient, outside, spread, summed
from .typing import Array


class Contribution(NamedTuple):
    """What some rows contribute, as means over them; those of several batches are merged.

    ``gradient`` is None where nothing is to be learned (no rows, or weights all zero), and ``loss``
    where the gradient form gives none. ``missing`` are the indices of blocks without a gradient. Blocks of which
    some rows have one are in ``sparse_grads``, in the order of blocks; what ``gradient`` holds there means nothing.
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


def merge(contributions: Iterable[Contribution]) -> Contribution:
    """Return the contribution of all the rows of several, summed in their order.

    The gradients of later batches may reuse the memory of earlier ones: the sum is kept apart. Blocks that all of them
    have by rows stay so.
    """
    loss: float | None = 0.0
    missing: tuple[int, ...] = ()
    gradient: Array | Any = None
    n = 0
    by_rows: list[tuple[SparseGradient, ...]] = []  # of each batch, in the same blocks
    for part in contributions:
        n += part.n
        if part.gradient is None:
            continue
        loss = None if loss is None or part.loss is None else loss + part.loss * part.n
        if by_rows and [g.block for g in part.sparse_grads] != [g.block for g in by_rows[0]]:
            spread(gradient, summed(by_rows))
            by_rows = []
        if gradient is not None and not by_rows:
            part = part.dense()
        places = outside(part.gradient.size, part.sparse_grads)
        if gradient is None:
            gradient, missing = np.zeros_like(part.gradient), part.missing
        else:
            missing = tuple(index for index in missing if index in part.missing)
        for where in places:
            gradient[where] += part.gradient[where] * part.n
        if part.sparse_grads:
            by_rows.append(tuple(g.times(part.n) for g in part.sparse_grads))
    if gradient is None:
        return Contribution(loss, None, n)
    gradient /= n
    sparse_grads = tuple(g._replace(values=g.values / n) for g in summed(by_rows))
    return Contribution(None if loss is None else loss / n, gradient, n, missing, sparse_grads)
