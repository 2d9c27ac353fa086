"""What some rows contribute to the objective and its gradient; contributions add."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .sparse_gradients import SparseGradient, spread
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

    The gradients of later batches may reuse the memory of earlier ones: the sum is kept apart.
    """
    loss: float | None = 0.0
    missing: tuple[int, ...] = ()
    gradient, n = None, 0
    for part in contributions:
        n += part.n
        if part.gradient is None:
            continue
        part = part.dense()
        loss = None if loss is None or part.loss is None else loss + part.loss * part.n
        if gradient is None:
            gradient, missing = part.gradient * part.n, part.missing
        else:
            gradient += part.gradient * part.n
            missing = tuple(index for index in missing if index in part.missing)
    if gradient is not None:
        gradient /= n
        loss = None if loss is None else loss / n
    return Contribution(loss, gradient, n, missing)
