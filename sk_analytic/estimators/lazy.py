"""Lazy predictions for dask collections: each chunk is predicted on the worker that holds it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.utils.validation import _num_samples, check_is_fitted

from ..dask_collections import any_collection, cuts, is_collection, joined, parts_of, require_rows
from ..elsewhere import bare
from ..exceptions import noted
from ..typing import Array, F
from .samples import entered_as_in_fit


def lazily(method: F) -> F:
    """Let a method that maps rows to rows return a lazy array for a dask collection."""

    @functools.wraps(method)
    def mapped(self: Any, X: Any, **metadata: Any) -> Any:
        if any_collection((X, *metadata.values())):
            return lazy(self, method.__name__, X, metadata)
        return bare(method(self, entered_as_in_fit(self, X, method.__name__), **metadata))

    return mapped  # type: ignore[return-value]


def lazy(estimator: Any, method: str, X: Any, metadata: Mapping[str, Any]) -> Any:
    """Return what a method says of the rows of a collection, as a dask array with the chunks of X."""
    import dask
    import dask.array as da

    check_is_fitted(estimator)
    require_rows(X, metadata)
    _require_default_output(estimator, method)
    estimator = copy.copy(estimator)  # which a later fit does not change
    estimator.__dict__.pop("_skl_callbacks", None)
    parts, lengths = parts_of(X)
    beside = {name: _like(name, values, parts, lengths) for name, values in metadata.items()}
    example = _example(estimator, method, X, metadata)
    shared = dask.delayed(estimator, pure=False, traverse=False)
    call = dask.delayed(_called, pure=False)
    pieces = [
        da.from_delayed(
            call(shared, method, part, {name: values[index] for name, values in beside.items()}, example[:0]),
            (length, *example.shape[1:]),
            dtype=example.dtype,
        )
        for index, (part, length) in enumerate(zip(parts, lengths, strict=True))
    ]
    return da.concatenate(pieces, allow_unknown_chunksizes=True)


def _require_default_output(estimator: Any, method: str) -> None:
    """Raise if scikit-learn would make a dataframe in this process of what is lazy."""
    own = getattr(estimator, "_sklearn_output_config", {}).get(method)
    if method == "transform" and (own or get_config()["transform_output"]) != "default":
        raise TypeError(
            "set_output would compute the lazy result of transform for a dask collection. Call "
            "set_output(transform='default') and convert the lazy array to a dataframe."
        )


def _called(estimator: Any, method: str, X: Any, metadata: Mapping[str, Any], of_none: Array | None = None) -> Array:
    """What a method says of a chunk; of one without rows ``of_none``."""
    if of_none is not None and not _num_samples(X):
        return of_none
    return np.asarray(getattr(estimator, method)(X, **metadata))


def _like(name: str, values: Any, parts: Sequence[Any], lengths: Sequence[float]) -> Sequence[Any]:
    """Metadata in the chunks of X."""
    import dask

    if values is None or np.isscalar(values):
        return [values] * len(parts)
    own, own_lengths = parts_of(values) if is_collection(values) else ([values], [_num_samples(values)])
    are_unknown = np.isnan([*own_lengths, *lengths]).any()
    if own_lengths == lengths or (are_unknown and len(own) == len(parts)):
        return own
    if are_unknown:
        raise ValueError(
            f"{name} has {len(own)} chunks and X has {len(parts)}, and some chunk sizes are unknown, so they cannot be "
            "aligned. Call compute_chunk_sizes() first."
        )
    cut = dask.delayed(joined, pure=False)
    each = cuts(name, list(map(int, own_lengths)), list(map(int, lengths)))
    return [cut([span[1:] for span in spans], *(own[index] for index, *_ in spans)) for spans in each]


def _example(estimator: Any, method: str, X: Any, metadata: Mapping[str, Any]) -> Array:
    """What the method says of one row: a row of ones, or the first of all if that is none it can take."""
    try:
        ones = {name: _row_of_ones(values) for name, values in metadata.items()}
        return _called(estimator, method, _row_of_ones(X), ones)
    except Exception:
        with noted("Raised for the first sample, which is computed to infer the dtype and shape of the result."):
            first = {name: _first_row(values) for name, values in metadata.items()}
            return _called(estimator, method, _first_row(X), first)


def _row_of_ones(values: Any) -> Any:
    if hasattr(values, "_meta_nonempty"):  # a dataframe or a series, whose columns have names
        return values._meta_nonempty.iloc[:1]
    if values is None or np.isscalar(values):
        return values
    return np.ones((1, *np.shape(values)[1:]), getattr(values, "dtype", float))


def _first_row(values: Any) -> Any:
    if values is None or np.isscalar(values):
        return values
    if not is_collection(values):
        return np.asarray(values)[:1]
    return values.head(1) if hasattr(values, "head") else values[:1].compute()
