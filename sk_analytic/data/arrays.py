"""Samples in arrays in memory: epochs, shuffling, gathering."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse, vstack

from ..elsewhere import on_host, place_of
from ..typing import Array, T
from .batch import CALLABLE, CHECK, SHUFFLE, SPREAD, Batch, generator, read_only
from .rows import BatchedRows
from .telling import telling_rows

_Parts = tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]  # X, columns, weights

GATHERED_BYTES = 1 << 18  # rows of several batches are gathered at once, up to what stays in the cache
GATHERED_CSR_BYTES = 1 << 20  # more of a CSR matrix: each time costs as much as some thousand values


class ArrayRows(BatchedRows):
    """Rows of arrays in memory.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features)
        Never copied as a whole and never written to. Batches of a CSR matrix are of its own class.
    columns : dict of str to ndarray
        Arrays with one entry for each sample.
    sample_weight : ndarray of shape (n_samples,) or None
        Weights, scaled by the caller.
    batch_size : int, default=None
        Number of samples in a batch; all by default.
    shuffle : bool, default=False
        Whether to shuffle the samples before each epoch.
    drop_last : bool, default=False
        Whether to leave out the last batch of an epoch if it is shorter than the others.
    seed : int, default=0
        Seed of the fit.
    place : tuple of int, default=()
        Position of this part among others, used for random numbers.
    """

    def __init__(
        self,
        X: Any,
        columns: Mapping[str, Array],
        sample_weight: Array | None = None,
        *,
        batch_size: int | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        place: tuple[int, ...] = (),
    ) -> None:
        self.n_samples = X.shape[0]
        self.batch_size = min(batch_size or self.n_samples, self.n_samples)
        self.steps_per_epoch = n_batches(self.n_samples, self.batch_size, drop_last) if self.n_samples else 0
        self.shuffle = shuffle and self.batch_size < self.n_samples
        self.drop_last = drop_last
        self.seed, self.place = seed, place
        self._names = tuple(columns)
        arrays = [X, *columns.values()] + ([] if sample_weight is None else [sample_weight])
        there = place_of(X)
        if there is not None:
            names = ("X", *columns, "sample_weight")
            arrays = [there.taken_in(array, name) for name, array in zip(names, arrays, strict=False)]
        self._arrays = [read_only(array) for array in arrays]
        self._sliced = [_Slices(array) if issparse(array) else array for array in self._arrays]
        self._weighted = sample_weight is not None
        self._order_of: int | None = None
        self._gathered: int | None = None  # epoch of the order, and what of it is in the buffers
        self._buffers: list[Any] = []
        self._ready: list[Batch] = []  # batches of this epoch that need only be handed out,
        self._ready_epoch, self._ready_from = -1, 0  # from this step on
        self._only: Batch | None = None

    def on_host(self) -> ArrayRows:
        """Return the same rows as NumPy arrays: themselves if they are."""
        if place_of(self._arrays[0]) is None:
            return self
        X, columns, weight = self._parts(map(on_host, self._arrays))
        batching = {"shuffle": self.shuffle, "drop_last": self.drop_last, "seed": self.seed, "place": self.place}
        return ArrayRows(X, columns, weight, batch_size=self.batch_size, **batching)  # type: ignore[arg-type]

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the samples of a step; valid until the next call."""
        place = step - self._ready_from
        if epoch == self._ready_epoch and 0 <= place < len(self._ready):
            batch = self._ready[place]
        else:
            batch = self._shuffled(epoch, step) if self.shuffle else self._in_order(step)
        batch.position = (self.seed, CALLABLE, epoch, step, *self.place)
        return batch

    def order(self, epoch: int) -> Array | None:
        """Return the order of the rows in an epoch; None if it is that of the arrays."""
        if self.shuffle and self._order_of != epoch:
            self._order = generator(self.seed, SHUFFLE, epoch, *self.place).permutation(self.n_samples)
            self._order_of, self._gathered = epoch, None
        return self._order if self.shuffle else None

    def in_memory(self, epoch: int, step: int) -> tuple[ArrayRows, int]:
        """Return the samples in memory that a step comes from, and the number of the step among theirs."""
        return self, step

    def n_of(self, epoch: int, step: int) -> int:
        """Return the number of samples in a step."""
        return min(self.batch_size, self.n_samples - step * self.batch_size)

    @property
    def everything(self) -> Batch:
        """All samples as one batch of views."""
        position = (self.seed, CALLABLE, 0, 0, *self.place)
        return Batch(*self._parts([read_only(array) for array in self._arrays]), position=position)

    def map(self, function: Callable[[Batch], T]) -> list[T]:
        """Apply a function to all samples as one batch; return a list of its result."""
        return [function(self.everything)]

    def sample(self, n_batches: int, purpose: int, batch_size: int | None = None) -> list[Batch]:
        """Return a fixed random subset of the samples with non-zero weight, in batches of the shapes used in training.

        Their weights are scaled so that the mean over the subset estimates the mean over all samples.

        Parameters
        ----------
        n_batches : int
            Number of batches; all such samples if there are fewer.
        purpose : int
            Purpose of the random numbers: part of the generator's position.
        batch_size : int, default=None
            Number of samples in a batch, by default as in training.

        Returns
        -------
        batches : list of Batch
            Copies.
        """
        share = len(self.eligible) / max(1, self.n_samples)
        size = min(batch_size or self.batch_size, self.n_samples)
        return sampled(
            self.take(self.drawn(n_batches * size, purpose)), size, share, (self.seed, purpose), self.drop_last
        )

    def drawn(self, n: int, purpose: int) -> Array:
        """Return the numbers of the rows of a sample; to check a gradient, those on which a fault would show."""
        eligible = self.eligible
        if purpose == CHECK:
            X, columns, _ = self._parts(self._arrays)
            return telling_rows(X, columns, eligible, n, generator(self.seed, CHECK))
        numbers: Array = eligible[draw(len(eligible), n, self.seed, purpose)]
        return numbers

    @property
    def eligible(self) -> Array:
        """The numbers of the rows that a sample may have: those with a weight."""
        return np.flatnonzero(on_host(self._arrays[-1])) if self._weighted else np.arange(self.n_samples)

    def take(self, rows: Any) -> _Parts:
        """Return copies of some rows: X, the columns by name, the weights or None."""
        return self._parts([array[rows] for array in self._arrays])

    def take_eligible(self, numbers: Array) -> _Parts:
        """Return copies of some of the rows that have a weight, by their numbers among these."""
        return self.take(self.eligible[numbers])

    def _parts(self, arrays: Iterable[Any]) -> _Parts:
        """Tell apart what stands side by side in ``_arrays``: X, the columns by name, the weights or None."""
        X, *columns = arrays
        weight = columns.pop() if self._weighted else None
        return X, dict(zip(self._names, columns, strict=True)), weight

    def _in_order(self, step: int) -> Batch:
        """The rows of a step as they stand in the arrays; made once where that is all of them."""
        if self._only is not None:
            return self._only
        start = step * self.batch_size
        stop = min(start + self.batch_size, self.n_samples)
        batch = Batch(*self._parts([array[start:stop] for array in self._sliced]))
        if self.steps_per_epoch == 1:
            self._only = batch
        return batch

    def _shuffled(self, epoch: int, step: int) -> Batch:
        """The rows of a step, views on gathered rows; those of several steps are gathered at once."""
        if not self._buffers:
            self._allocate()
        self.order(epoch)
        group, place = divmod(step, self._steps_at_once)
        if self._gathered != group:
            self._gather(epoch, group)
        if place < len(self._ready):
            return self._ready[place]
        first = place * self.batch_size  # of the last, short batch, or of rows that lie elsewhere in every group
        n = min(self.batch_size, self.n_samples - step * self.batch_size)
        return Batch(*self._parts([buffer[first : first + n] for buffer in self._shown]))

    def _gather(self, epoch: int, group: int) -> None:
        """Gather the rows of a group of steps; the full batches among them are views that lie ready."""
        rows = self._order[group * self._rows_at_once : (group + 1) * self._rows_at_once]
        for array, buffer in zip(self._arrays, self._buffers, strict=True):
            _gather(array, rows, buffer)
        self._gathered = group
        self._ready_epoch, self._ready_from = epoch, group * self._steps_at_once
        self._ready = self._batches[: max(0, self._full_steps - self._ready_from)]

    def _allocate(self) -> None:
        X = self._arrays[0]
        row_bytes = max(1, _n_bytes(X) // self.n_samples)
        most = GATHERED_CSR_BYTES if issparse(X) else GATHERED_BYTES
        self._steps_at_once = int(np.clip(most // (row_bytes * self.batch_size), 1, self.steps_per_epoch))
        self._rows_at_once = self._steps_at_once * self.batch_size
        self._buffers = [
            _Slices(array)
            if issparse(array)
            else np.empty_like(array, order="C", shape=(self._rows_at_once, *array.shape[1:]))
            for array in self._arrays
        ]
        self._shown = [b if isinstance(b, _Slices) else read_only(b) for b in self._buffers]
        starts = range(0, 0 if issparse(X) else self._rows_at_once, self.batch_size)
        self._full_steps = self.n_samples // self.batch_size
        self._batches = [
            Batch(*self._parts([buffer[i : i + self.batch_size] for buffer in self._shown])) for i in starts
        ]


class _Slices:
    """Slices of a CSR matrix, ``slices[start:stop]``, as views on its arrays.

    What scipy looks for when it makes a matrix need not be looked for in rows of one that is right: there is one
    object for each number of rows, which is given other arrays for each slice.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = self._like = matrix
        self._made: dict[int, tuple[Any, Array]] = {}

    def show(self, matrix: Any) -> None:
        """Slice other rows of the same kind from now on."""
        self.matrix = matrix

    def __getitem__(self, where: slice) -> Any:
        start, stop = where.start, where.stop
        n = stop - start
        if n not in self._made:
            self._made[n] = self._make(n)
        made, indptr = self._made[n]
        matrix = self.matrix
        bounds = matrix.indptr[start : stop + 1]
        first, last = bounds.item(0), bounds.item(-1)
        np.subtract(bounds, first, indptr)
        made.data, made.indices = matrix.data[first:last], matrix.indices[first:last]
        return made

    def _make(self, n: int) -> tuple[Any, Array]:
        """A matrix of n rows, and the array behind its ``indptr``."""
        matrix = self.matrix
        indptr = np.empty(n + 1, matrix.indptr.dtype)
        made = type(matrix)((n, matrix.shape[1]), dtype=matrix.dtype)
        made.indptr = read_only(indptr)
        made.has_canonical_format = self._like.has_canonical_format
        return made, indptr


def stacked(parts: Iterable[_Parts]) -> ArrayRows:
    """Return the rows of several X, columns and weights as one `ArrayRows`, without an order of its own."""
    Xs, columns, weights = zip(*parts, strict=True)
    named = {name: joined([column[name] for column in columns]) for name in columns[0]}
    X = vstack(Xs, format="csr") if issparse(Xs[0]) else np.concatenate(Xs)
    return ArrayRows(X, named, None if weights[0] is None else np.concatenate(weights))


def joined(arrays: Sequence[Array]) -> Array:
    """Return arrays one after the other, in an array of the class of the first: records that are read by attributes."""
    return np.concatenate(arrays).view(type(arrays[0]))


def n_batches(n: int, batch_size: int, drop_last: bool) -> int:
    """Return how many batches rows make, with or without a last one that is shorter."""
    return n // batch_size if drop_last else -(-n // batch_size)


def draw(n: int, n_drawn: int, seed: int, purpose: int) -> Array:
    """Return some of the numbers below n without repetition, by the generator of a purpose; all of them in order.

    Those that a full-batch method takes its units from are the same whatever the seed, as its result should be.
    """
    seed = 0 if purpose == SPREAD else seed
    return generator(seed, purpose).choice(n, n_drawn, replace=False) if n_drawn < n else np.arange(n)


def sampled(parts: _Parts, size: int, share: float, position: tuple[int, ...], drop_last: bool = False) -> list[Batch]:
    """Return drawn rows as batches of a size; with ``drop_last``, a shorter one only if there is no other.

    ``share`` is that of the rows which have a weight, and may be drawn, among all.
    """
    X, columns, sample_weight = parts
    if sample_weight is not None:
        sample_weight = sample_weight * np.asarray(share, sample_weight.dtype)

    def batch(step: int) -> Batch:
        part = slice(step * size, (step + 1) * size)
        weight = None if sample_weight is None else read_only(sample_weight[part])
        named = {name: read_only(column[part]) for name, column in columns.items()}
        return Batch(read_only(X[part]), named, weight, (*position, 0, step))

    return [batch(step) for step in range(max(1, n_batches(X.shape[0], max(1, size), drop_last)))]


def _gather(array: Any, rows: Array, out: Any) -> None:
    """Write some rows of an array into the first of another."""
    if issparse(array):  # scipy's compiled way, which has no `out`
        out.show(read_only(array[rows]))
    elif array.flags.c_contiguous:
        np.take(array, rows, axis=0, out=out[: len(rows)], mode="clip")
    else:  # `np.take` would copy it as a whole
        out[: len(rows)] = array[rows]


def _n_bytes(array: Any) -> Any:
    return array.data.nbytes + array.indices.nbytes + array.indptr.nbytes if issparse(array) else array.nbytes
