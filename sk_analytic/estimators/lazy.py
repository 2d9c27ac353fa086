"""Predictions for dask collections: lazy, chunk by chunk, where their rows lie."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..dask_collections import any_collection, is_collection
from ..exceptions import noted
from ..typing import F


def lazily(method: F) -> F:
    """Let a method that maps rows to rows return a lazy array for a dask collection."""

    @functools.wraps(method)
    def mapped(self: Any, X: Any, **metadata: Any) -> Any:
        if any_collection((X, *metadata.values())):
            return lazy(self, method.__name__, X, metadata)
        return method(self, X, **metadata)

    return mapped  # type: ignore[return-value]


def lazy(estimator: Any, method: str, X: Any, metadata: Mapping[str, Any]) -> Any:
    """Return what a method says of the rows of a collection, as a dask array with the chunks of X."""
    import dask
    import dask.array as da

    estimator = copy.copy(estimator)  # which a later fit does not change
    if not is_collection(X):
        name = next(name for name, value in metadata.items() if is_collection(value))
        raise TypeError(f"{name} is a dask collection, but X is a {type(X).__name__}: pass both as arrays, or neither.")
    parts, lengths = _parts(X)
    beside = {name: _like(name, values, parts, lengths) for name, values in metadata.items()}
    example = _example(estimator, method, X, metadata)
    shared = dask.delayed(estimator, pure=False, traverse=False)
    call = dask.delayed(_called, pure=False)
    pieces = [
        da.from_delayed(
            call(shared, method, part, {name: values[index] for name, values in beside.items()}),
            (length, *example.shape[1:]),
            dtype=example.dtype,
        )
        for index, (part, length) in enumerate(zip(parts, lengths, strict=True))
    ]
    return da.concatenate(pieces, allow_unknown_chunksizes=True)


def _called(estimator: Any, method: str, X: Any, metadata: Mapping[str, Any]) -> Any:
    return np.asarray(getattr(estimator, method)(X, **metadata))


def _parts(values: Any) -> tuple[list[Any], list[float]]:
    """The chunks of a collection, delayed, and their numbers of rows, NaN where they are not known."""
    if hasattr(values, "chunks"):
        values = values.rechunk(dict.fromkeys(range(1, values.ndim), -1))
    parts = list(np.ravel(np.array(values.to_delayed(), dtype=object)))
    return parts, list(values.chunks[0]) if hasattr(values, "chunks") else [np.nan] * len(parts)


def _like(name: str, values: Any, parts: list[Any], lengths: list[float]) -> list[Any]:
    """Metadata in the chunks of X."""
    if not is_collection(values):
        values = np.asarray(values)
        if np.isnan(lengths).any():
            raise ValueError(
                f"{name} is an array, and how many rows the chunks of X have is not known. Pass it as a collection "
                "with chunks like those of X, or call X.compute_chunk_sizes() before."
            )
        return np.split(values, np.cumsum(lengths[:-1]).astype(int))
    own, own_lengths = _parts(values)
    if own_lengths == lengths or (len(own) == len(parts) and np.isnan([*own_lengths, *lengths]).any()):
        return own
    if np.isnan([*own_lengths, *lengths]).any() or sum(own_lengths) != sum(lengths):
        raise ValueError(f"{name} has chunks of {own_lengths} rows, and X of {lengths}: they must go together.")
    return _parts(values.rechunk({0: tuple(lengths)}))[0]


def _example(estimator: Any, method: str, X: Any, metadata: Mapping[str, Any]) -> Any:
    """What the method says of one row: a row of ones, or the first of all if that is none it can take."""
    try:
        return _called(estimator, method, _row_of_ones(X), {name: _row_of_ones(v) for name, v in metadata.items()})
    except Exception:
        with noted("This came from the first row, which is computed to learn the dtype and shape of the result."):
            first = {name: _first_row(values) for name, values in metadata.items()}
            return _called(estimator, method, _first_row(X), first)


def _row_of_ones(values: Any) -> Any:
    if hasattr(values, "_meta_nonempty"):  # a dataframe or a series, whose columns have names
        return values._meta_nonempty.iloc[:1]
    return np.ones((1, *np.shape(values)[1:]), getattr(values, "dtype", float))


def _first_row(values: Any) -> Any:
    if not is_collection(values):
        return np.asarray(values)[:1]
    return values.head(1) if hasattr(values, "head") else values[:1].compute()
