"""Dask collections: recognized without dask being imported, taken apart into chunks, cut as others are."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse, vstack
from sklearn.utils import _safe_indexing

SHOWN = 5  # chunks whose rows a message lists


def is_collection(value: object) -> bool:
    """Whether a value is a collection of dask's: an array, a dataframe, a series, a delayed value."""
    graph = None if isinstance(value, type) else getattr(value, "__dask_graph__", None)
    return callable(graph) and (type(value).__module__.startswith("dask") or graph() is not None)


def any_collection(values: Iterable[object]) -> bool:
    """Whether one of several values is a collection."""
    return any(map(is_collection, values))


def is_remote(chunk: object) -> bool:
    """Whether a chunk is a collection of dask's, or a future of a cluster, or has one among its parts."""
    parts = chunk.values() if isinstance(chunk, Mapping) else chunk if isinstance(chunk, tuple | list) else (chunk,)
    return any(is_collection(part) or _is_future(part) for part in parts)


def _is_future(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "distributed"


def is_remote_list(chunks: object) -> bool:
    """Whether chunks are a list, or an array of objects as `to_delayed` returns it, some of which are remote."""
    if isinstance(chunks, np.ndarray) and chunks.dtype == object:
        chunks = chunks.ravel().tolist()
    return isinstance(chunks, tuple | list) and any(map(is_remote, chunks))


def in_memory(*values: Any) -> tuple[Any, ...]:
    """Return what collections compute, all at once so that what they share is computed once; others as they are."""
    if not any_collection(values):
        return values
    import dask

    computed: tuple[Any, ...] = dask.compute(*values, traverse=False)
    return computed


def refuse_collections(**arguments: Any) -> None:
    """Raise if an argument of a method that works in memory is a collection."""
    for name, value in arguments.items():
        if _is_future(value):
            raise TypeError(f"{name} is a dask future. Pass it as a chunk: fit_chunks([(X, y)]).")
        if is_collection(value):
            raise TypeError(
                f"{name} is a dask {type(value).__name__}, but this method needs data in memory. Pass "
                f"{name}.compute(), or some of the samples: {name}.partitions[0].compute()."
            )


def require_rows(X: Any, beside: Mapping[str, Any]) -> None:
    """Raise if y, weights or metadata are dask collections but X is not a collection with rows."""
    if not is_collection(X):
        name = next(name for name, value in beside.items() if is_collection(value))
        raise TypeError(
            f"{name} is a dask {type(beside[name]).__name__}, but X is a {type(X).__name__}. Pass both as collections, "
            f"or both in memory: {name}.compute()."
        )
    for name, value in {"X": X, **beside}.items():
        if is_collection(value) and (not hasattr(type(value), "to_delayed") or getattr(value, "ndim", 1) == 0):
            raise TypeError(
                f"{name} is a dask {type(value).__name__}, which may not be an array with rows. Convert it to one "
                "(dask.array.from_delayed), or pass it as a chunk: fit_chunks([(X, y)])."
            )


def parts_of(values: Any) -> tuple[list[Any], list[float]]:
    """Return the chunks of a collection, delayed, and their numbers of rows, NaN where these are unknown."""
    if hasattr(values, "chunks") and values.ndim > 1:
        values = values.rechunk(dict.fromkeys(range(1, values.ndim), -1))
    parts = list(np.ravel(np.array(values.to_delayed(), dtype=object)))
    return parts, list(values.chunks[0]) if hasattr(values, "chunks") else [np.nan] * len(parts)


def cuts(name: str, own: Sequence[int], of_X: Sequence[int]) -> list[list[tuple[int, int, int]]]:
    """Return where the rows of each chunk of X lie in chunks of other lengths: the chunk, and the rows in it.

    Raises
    ------
    ValueError
        If there are more rows, or fewer, than in X.
    """
    if sum(own) != sum(of_X):
        raise ValueError(
            f"{name} has {sum(own)} rows, in chunks of {_listed(own)}, but X has {sum(of_X)}, in chunks of "
            f"{_listed(of_X)}. Pass one row for each sample of X."
        )
    spans = list(itertools.pairwise([0, *itertools.accumulate(own)]))
    return [
        [
            (index, max(begin, low) - low, min(end, high) - low)
            for index, (low, high) in enumerate(spans)
            if low < end and high > begin
        ]
        or [(0, 0, 0)]
        for begin, end in itertools.pairwise([0, *itertools.accumulate(of_X)])
    ]


def joined(spans: Sequence[tuple[int, int]], *chunks: Any) -> Any:
    """Return some rows of each of several chunks in one."""
    pieces = [_safe_indexing(chunk, slice(*span)) for chunk, span in zip(chunks, spans, strict=True)]
    if len(pieces) == 1:
        return pieces[0]
    if issparse(pieces[0]):
        return vstack(pieces, format="csr")
    if hasattr(pieces[0], "iloc"):
        import pandas as pd  # which the collection is made of

        return pd.concat(pieces)
    return np.concatenate(pieces)


def _listed(lengths: Sequence[int]) -> str:
    more = f" and {len(lengths) - SHOWN} more" if len(lengths) > SHOWN else ""
    return f"{', '.join(map(str, lengths[:SHOWN]))}{more}"
