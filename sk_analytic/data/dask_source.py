"""Dask collections as a source of chunks, which lie on the workers of a cluster."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dask
import numpy as np
from distributed import Future
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from ..dask_collections import cuts, is_collection, joined, parts_of, require_rows
from ..exceptions import noted
from ..typing import T
from .chunks import Chunk, as_chunk, where_read
from .cluster import Cluster
from .dask_rows import Partitions
from .dask_worker import aligned
from .parts import where_in


class DaskSource:
    """Chunks on the workers of a cluster, by number from 0.

    Parameters
    ----------
    cluster : Cluster
    chunks : list of Future
        Each of a `Chunk`.
    lengths : list of int, default=None
        Their numbers of rows, if they are those of a collection.
    """

    def __init__(self, cluster: Cluster, chunks: Sequence[Future], lengths: Sequence[int] | None = None) -> None:
        self._cluster, self._chunks, self._lengths = cluster, chunks, lengths
        self._where = where_read if lengths is None else _where_in

    @classmethod
    def of_collections(cls, limit: float, X: Any, beside: Mapping[str, Any]) -> DaskSource:
        """Return the chunks of X, with what goes with their rows by the name of the argument.

        What lies in other chunks is cut as X is, and so are arrays in memory.
        """
        require_rows(X, beside)
        cluster = Cluster.current(limit)
        collections = {"X": X, **{name: values for name, values in beside.items() if is_collection(values)}}
        parts = _computed_together(cluster, collections)
        lengths = {name: _lengths(cluster, collections[name], parts[name]) for name in collections}
        rows, of_X = parts["X"], lengths["X"]

        def column(name: str, values: Any) -> Sequence[Any]:
            if name in parts:
                return parts[name] if lengths[name] == of_X else _cut(cluster, name, parts[name], lengths[name], of_X)
            if values is None or np.isscalar(values):
                return [values] * len(rows)
            cuts(name, [_num_samples(values)], of_X)  # raises if there are more, or fewer
            spans = itertools.pairwise([0, *itertools.accumulate(of_X)])
            return [cluster.value(_safe_indexing(values, slice(*span))) for span in spans]

        columns = {name: column(name, values) for name, values in beside.items()}
        each = zip(rows, *columns.values(), strict=True)
        return cls(cluster, [cluster.submit(_chunk, tuple(columns), *values) for values in each], of_X)

    @classmethod
    def of_delayed(cls, limit: float, chunks: Iterable[Any]) -> DaskSource:
        """Return chunks that are delayed, or hold what is."""
        cluster = Cluster.current(limit)
        delayed = [dask.delayed(_as_chunk, pure=False)(item, number) for number, item in enumerate(chunks)]
        return cls(cluster, cluster.client.compute(delayed))

    def map(self, function: Callable[[Chunk], T]) -> dict[int, T]:
        """Apply a function to each chunk with samples; return the results by chunk number."""
        shared = self._cluster.value(function)
        numbers = self._with_rows()
        futures = [self._cluster.submit(_said, shared, self._chunks[number], number) for number in numbers]
        return dict(zip(numbers, self._cluster.results(futures, numbers), strict=True))

    def _with_rows(self) -> list[int]:
        """The numbers of the chunks that have rows, or are none at all, which reading them will tell."""
        if self._lengths is None:
            counts = [self._cluster.submit(_count, chunk) for chunk in self._chunks]
            self._lengths = self._cluster.results(counts, range(len(counts)))
        return [number for number, n in enumerate(self._lengths) if n != 0]

    def survey(self, read: Any) -> Partitions:
        """Read all chunks, each where it lies; the first one in this process, so that ``read`` knows what y is."""
        with_rows = self._with_rows()
        if not with_rows:
            raise ValueError("X has no samples.")
        first = with_rows[0]
        (chunk,) = self._cluster.results([self._chunks[first]], [first])
        with noted(self._where(first, chunk)):
            fetched = {first: aligned(read(*chunk, reset=True))}
        shared = self._cluster.value(read)
        parts = {
            number: self._cluster.submit(_read, shared, self._chunks[number], number, self._where)
            for number in with_rows
        }
        return Partitions(self._cluster, parts, shared, fetched=fetched)


def _computed_together(cluster: Cluster, collections: Mapping[str, Any]) -> dict[str, list[Future]]:
    """The chunks of collections as futures, computed together so that what they share is computed once."""
    delayed = {name: parts_of(values)[0] for name, values in collections.items()}
    futures = iter(cluster.client.compute(list(itertools.chain.from_iterable(delayed.values()))))
    return {name: list(itertools.islice(futures, len(parts))) for name, parts in delayed.items()}


def _lengths(cluster: Cluster, values: Any, parts: Sequence[Future]) -> list[int]:
    """The rows of the chunks of a collection; where they are unknown, they are counted."""
    known = parts_of(values)[1]
    if np.isnan(known).any():
        known = cluster.results([cluster.submit(_num_samples, part) for part in parts], range(len(parts)))
    return list(map(int, known))


def _cut(cluster: Cluster, name: str, parts: Sequence[Future], own: Sequence[int], of_X: Sequence[int]) -> list[Future]:
    """Cut chunks as those of X are."""
    return [
        cluster.submit(joined, [span[1:] for span in spans], *(parts[index] for index, *_ in spans))
        for spans in cuts(name, own, of_X)
    ]


# What workers compute.


def _chunk(names: Sequence[str], X: Any, *values: Any) -> Chunk:
    beside = dict(zip(names, values, strict=True))
    y, weight = (beside.pop(name, None) for name in ("y", "sample_weight"))
    return Chunk(X, y, weight, {name: column for name, column in beside.items() if column is not None})


def _as_chunk(item: Any, number: int) -> Chunk:
    with noted(where_in(number)):
        return as_chunk(item() if callable(item) else item)


def _count(chunk: Chunk) -> int | None:
    return chunk.n


def _said(function: Callable[[Chunk], T], chunk: Chunk, number: int) -> T:
    with noted(where_in(number)):
        return function(chunk)


def _where_in(number: int, chunk: Chunk) -> str:
    return where_in(number)


def _read(read: Any, chunk: Chunk, number: int, where: Callable[[int, Chunk], str]) -> Any:
    with noted(where(number, chunk)):
        return aligned(read(*chunk, reset=False))
