"""Dask collections, recognised without dask being imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def is_collection(value: object) -> bool:
    """Whether a value is a collection of dask's: an array, a dataframe, a series, a delayed value."""
    return not isinstance(value, type) and hasattr(value, "__dask_graph__")


def any_collection(values: Iterable[object]) -> bool:
    """Whether one of several values is a collection."""
    return any(map(is_collection, values))


def is_remote(chunk: object) -> bool:
    """Whether a chunk is a collection of dask's, or a future of a cluster, or has one among its parts."""
    parts = chunk.values() if isinstance(chunk, Mapping) else chunk if isinstance(chunk, tuple) else (chunk,)
    return any(is_collection(part) or type(part).__module__.partition(".")[0] == "distributed" for part in parts)


def in_memory(value: Any) -> Any:
    """Return a collection as what it computes, and anything else as it is."""
    return value.compute() if is_collection(value) else value


def refuse_collections(**arguments: Any) -> None:
    """Raise if an argument of what works in memory is a collection."""
    for name, value in arguments.items():
        if is_collection(value):
            raise TypeError(
                f"{name} is a dask {type(value).__name__}, and this works on rows in memory, unlike fit and predict: "
                f"pass {name}.compute(), or that of a part of the rows, {name}.partitions[0].compute()."
            )
