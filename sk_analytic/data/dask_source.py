"""Dask collections as a source of chunks, which lie on the workers of a cluster."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dask
import numpy as np
from distributed import Future
from scipy.sparse import issparse, vstack
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from ..dask_collections import is_collection
from ..exceptions import noted
from ..typing import T
from .chunks import Chunk, as_chunk, where_in, where_read
from .dask_rows import Cluster, Partitions, aligned

SHOWN = 5  # chunks whose rows a message lists


class DaskSource:
    """Chunks on the workers of a cluster, by number from 0.

    Parameters
    ----------
    cluster : Cluster
    chunks : list of Future
        Each of a `Chunk`.
    lengths : list of int, default=None
        Their numbers of rows, if they are known.
    """

    def __init__(self, cluster: Cluster, chunks: Sequence[Future], lengths: Sequence[int] | None = None) -> None:
        self._cluster, self._chunks, self._lengths = cluster, chunks, lengths

    @classmethod
    def of_collections(cls, limit: float, X: Any, beside: Mapping[str, Any]) -> DaskSource:
        """Return the chunks of X, with what goes with their rows by the name of the argument.

        Where that lies in other chunks it is cut as X is; arrays in memory are too.
        """
        if not is_collection(X):
            name = next(name for name, value in beside.items() if is_collection(value))
            raise TypeError(
                f"{name} is a dask {type(beside[name]).__name__}, but X is a {type(X).__name__}. Pass both as "
                f"collections, or both as arrays: {name}.compute()."
            )
        cluster = Cluster.current(limit)
        rows, lengths = _parts(cluster, X)
        columns: dict[str, Sequence[Any]] = {}
        for name, values in beside.items():
            if values is None or np.isscalar(values):
                columns[name] = [values] * len(rows)
            else:
                parts, own = _parts(cluster, values)
                columns[name] = parts if own == lengths else _cut(cluster, name, parts, own, lengths)
        each = zip(rows, *columns.values(), strict=True)
        return cls(cluster, [cluster.submit(_chunk, tuple(columns), *values) for values in each], lengths)

    @classmethod
    def of_delayed(cls, limit: float, chunks: Iterable[Any]) -> DaskSource:
        """Return chunks that are delayed, or hold what is."""
        cluster = Cluster.current(limit)
        delayed = [dask.delayed(_as_chunk, pure=False)(item, number) for number, item in enumerate(chunks)]
        return cls(cluster, _computed(cluster, delayed))

    def map(self, function: Callable[[Chunk], T]) -> dict[int, T]:
        """Return what a function says of each chunk that has rows, by its number."""
        shared = self._cluster.value(function)
        numbers = self._with_rows()
        futures = [self._cluster.submit(_said, shared, self._chunks[number], number) for number in numbers]
        return dict(zip(numbers, self._cluster.results(futures), strict=True))

    def _with_rows(self) -> list[int]:
        """The numbers of the chunks that have rows, or are none at all, which reading them will tell."""
        if self._lengths is None:
            self._lengths = self._cluster.results([self._cluster.submit(_count, chunk) for chunk in self._chunks])
        return [number for number, n in enumerate(self._lengths) if n != 0]

    def survey(self, read: Any) -> Partitions:
        """Read all chunks, each where it lies; the first one in this process, so that ``read`` knows what y is."""
        with_rows = self._with_rows()
        if not with_rows:
            raise ValueError("X has no rows.")
        first = with_rows[0]
        (chunk,) = self._cluster.results([self._chunks[first]])
        with noted(where_read(first, chunk)):
            read(*chunk, reset=True)
        shared = self._cluster.value(read)
        parts = {number: self._cluster.submit(_read, shared, self._chunks[number], number) for number in with_rows}
        return Partitions(self._cluster, parts, shared)


def _parts(cluster: Cluster, values: Any) -> tuple[list[Future], tuple[int, ...]]:
    """The partitions of a collection, or the one of an array in memory, as futures, and their numbers of rows."""
    if not is_collection(values):
        return [cluster.value(values)], (_num_samples(values),)
    if getattr(values, "ndim", 1) > 1 and hasattr(values, "chunks"):
        values = values.rechunk(dict.fromkeys(range(1, values.ndim), -1))
    parts = _computed(cluster, list(np.ravel(np.array(values.to_delayed(), dtype=object))))
    known = values.chunks[0] if hasattr(values, "chunks") else (np.nan,)
    if np.isnan(known).any():
        known = cluster.results([cluster.submit(_num_samples, part) for part in parts])
    return parts, tuple(map(int, known))


def _computed(cluster: Cluster, delayed: Sequence[Any]) -> list[Future]:
    """Delayed chunks as futures, each on a worker of its neighbours' unless it lies elsewhere."""
    homes = cluster.homes(len(delayed))
    return [cluster.client.compute(chunk, **home) for chunk, home in zip(delayed, homes, strict=True)]


def _cut(
    cluster: Cluster, name: str, parts: Sequence[Future], own: Sequence[int], lengths: Sequence[int]
) -> list[Future]:
    """Cut partitions as those of X are; raise if there are more rows, or fewer."""
    if sum(own) != sum(lengths):
        raise ValueError(
            f"{name} has {sum(own)} rows, in chunks of {_listed(own)}, and X has {sum(lengths)}, in chunks of "
            f"{_listed(lengths)}: there must be one for each row of X."
        )
    ends, found = [0, *itertools.accumulate(own)], []
    for begin, end in itertools.pairwise([0, *itertools.accumulate(lengths)]):
        pieces = [
            (part, max(begin, low) - low, min(end, high) - low)
            for part, (low, high) in zip(parts, itertools.pairwise(ends), strict=True)
            if low < end and high > begin
        ]
        pieces = pieces or [(parts[0], 0, 0)]
        sources, *spans = zip(*pieces, strict=True)
        found.append(cluster.submit(_joined, list(zip(*spans, strict=True)), *sources))
    return found


def _listed(lengths: Sequence[int]) -> str:
    more = f" and {len(lengths) - SHOWN} more" if len(lengths) > SHOWN else ""
    return f"{', '.join(map(str, lengths[:SHOWN]))}{more}"


# What workers compute.


def _chunk(names: Sequence[str], X: Any, *values: Any) -> Chunk:
    beside = dict(zip(names, values, strict=True))
    y, weight = (beside.pop(name, None) for name in ("y", "sample_weight"))
    return Chunk(X, y, weight, {name: column for name, column in beside.items() if column is not None})


def _as_chunk(item: Any, number: int) -> Chunk:
    with noted(where_in(number)):
        return as_chunk(item)


def _count(chunk: Chunk) -> int | None:
    return chunk.n


def _said(function: Callable[[Chunk], T], chunk: Chunk, number: int) -> T:
    with noted(where_in(number)):
        return function(chunk)


def _read(read: Any, chunk: Chunk, number: int) -> Any:
    with noted(where_read(number, chunk)):
        return aligned(read(*chunk, reset=False))


def _joined(spans: Sequence[tuple[int, int]], *parts: Any) -> Any:
    pieces = [_safe_indexing(part, slice(*span)) for part, span in zip(parts, spans, strict=True)]
    if len(pieces) == 1:
        return pieces[0]
    if issparse(pieces[0]):
        return vstack(pieces, format="csr")
    if hasattr(pieces[0], "iloc"):
        import pandas as pd  # which the collection is made of

        return pd.concat(pieces)
    return np.concatenate(pieces)
