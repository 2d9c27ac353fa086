"""Analytic and numerical gradient entry by entry: for plots, not for verdicts."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from ..data.batch import CHECK, Batch, generator
from ..objective import Objective
from ..parameters import Parameters
from ..typing import Array, Shape
from .evaluation import LEAST_SIZE, Situation, Subject, sizes_of


class Entries(NamedTuple):
    """The entries of one block.

    Attributes
    ----------
    block : str
        Name of the block.
    shape : tuple of int
        Shape of the block.
    analytic, numerical : ndarray
        Derivatives of the entries, with the block's number of axes; of an evenly spaced grid if there are many.
    indices : tuple of ndarray
        Along each axis, the indices of the compared entries.
    """

    block: str
    shape: tuple[int, ...]
    analytic: np.ndarray
    numerical: np.ndarray
    indices: tuple[Any, ...]

    @property
    def relative_error(self) -> Array:
        """Difference by entry, relative to the larger of the two or, if more, a millionth of the block's largest."""
        size = np.maximum(np.abs(self.analytic), np.abs(self.numerical))
        floor = 1e-6 * np.nanmax(size, initial=0.0) or 1.0
        relative: Array = np.abs(self.analytic - self.numerical) / np.maximum(size, floor)
        return relative


def compare_entries(
    objective: Objective,
    theta: Parameters,
    batch: Batch,
    *,
    seed: int,
    blocks: Any = None,
    max_entries: int = 400,
    near: float = 0.05,
) -> list[Entries]:
    """Compare the entries of every block that has a gradient.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
        Not changed.
    batch : Batch
    seed : int
    blocks : str or iterable of str, default=None
        Blocks to compare; all by default.
    max_entries : int, default=400
        Largest number of entries to compare in a block; of a larger block, an evenly spaced grid is compared.
    near : float, default=0.05
        Distance from θ at which to compare, relative to the size of each block.

    Returns
    -------
    entries : list of Entries
    """
    double = objective.astype(np.float64)
    layout = double.layout
    chosen = range(len(layout.names)) if blocks is None else layout.indices(blocks, "blocks")
    subject = Subject(double, generator(seed, CHECK), theta.astype(np.float64))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        start = theta.as_given.vector.astype(np.float64)
        vector = subject.nearby(start, near)
        situation = Situation(subject, vector, batch.astype(np.float64))
        if not np.isfinite(situation.value):
            situation = situation.at(start)
        if situation.gradient is None or not objective.has_value:
            raise ValueError("Comparing entries requires a loss and a gradient, and one is missing.")
        missing = double.contribution(subject.parameters(situation.vector), situation.batch).missing
        return [_block(situation, index, max_entries) for index in chosen if index not in missing]


def _block(situation: Situation, index: int, max_entries: int) -> Entries:
    layout = situation.subject.layout
    shape = layout.shapes[index]
    indices = _grid(shape, max_entries)
    sizes = sizes_of(situation.block(index, situation.vector), LEAST_SIZE)
    numerical = np.empty([len(i) for i in indices])
    for place in np.ndindex(numerical.shape):
        entry, unit = tuple(i[p] for i, p in zip(indices, place, strict=True)), np.zeros(shape)
        unit[entry] = sizes[entry]
        numerical[place] = situation.slope(index, unit)[0] / sizes[entry]
    analytic = situation.block(index)[np.ix_(*indices)] if shape else situation.block(index)
    return Entries(layout.names[index], shape, np.array(analytic), numerical, indices)


def _grid(shape: Shape, most: int) -> tuple[Array, ...]:
    """Evenly spaced indices along each axis, so many that their product is at most ``most``."""
    lengths = list(shape)
    while np.prod(lengths, dtype=float) > most:
        longest = int(np.argmax(lengths))
        lengths[longest] = max(1, int(lengths[longest] * 0.9))
    return tuple(np.linspace(0, n - 1, m).round().astype(int) for n, m in zip(shape, lengths, strict=True))
