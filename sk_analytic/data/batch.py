"""A batch: some samples, their metadata by name, and the position of their random numbers.

Every random number comes from a position (purpose, epoch, step) under the seed of the fit, so that a repeat or a
resume meets the same rows.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.recfunctions import repack_fields
from numpy.typing import DTypeLike
from scipy.sparse import issparse

from ..elsewhere import Elsewhere, on_host
from ..exceptions import ReceivedArgumentError
from ..typing import Array
from .weights import AS_GIVEN, Weights

# Purposes of random numbers, the first entry of a position.
INIT, SHUFFLE, CALLABLE, CHECK, MONITOR, CHUNKS, HELD_OUT, SAMPLE, SPREAD, STARTS = range(10)


def generator(seed: int, *position: Any) -> np.random.Generator:
    """Return the generator of a position under a seed: always the same numbers, whatever ran before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=position))


class Batch:
    """Some samples: X, their other columns by name, and their weights.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, n_features)
        Read-only.
    columns : dict of str to array
        ``y`` and further sample metadata, read-only.
    sample_weight : ndarray of shape (n,) or None
        Weights as the objective needs them.
    position : tuple
        Seed, purpose, epoch and step of the generator that ``rng`` stands for.
    """

    __slots__ = ("X", "columns", "n", "position", "sample_weight")

    def __init__(
        self,
        X: Any,
        columns: Mapping[str, Array],
        sample_weight: Array | None = None,
        position: tuple[int, ...] = (0, CALLABLE, 0, 0),
    ) -> None:
        self.X, self.columns, self.sample_weight, self.position = X, columns, sample_weight, position
        self.n = X.shape[0]

    def argument(self, name: str) -> Any:
        """Return what a callable receives under a name."""
        if name in self.columns:
            return self.columns[name]
        if name == "rng":
            return generator(*self.position)
        if name == "sample_weight":
            weight = self.sample_weight
            if weight is None and isinstance(self.X, Elsewhere):
                return np.ones_like(self.X, shape=(self.n,))
            return np.ones(self.n, self.X.dtype) if weight is None else weight
        if name == "X":
            return self.X
        raise ReceivedArgumentError(
            f"These samples have no {name!r}. If it is passed for X, pass it for X_val too, as {name}_val."
        )

    @property
    def y(self) -> Any:
        """The targets, or None."""
        return self.columns.get("y")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be learned here: no rows, or none with a weight."""
        return not self.n or (self.sample_weight is not None and not self.sample_weight.any())

    def with_columns(self, columns: Mapping[str, Any], position: tuple[int, ...]) -> Batch:
        """Return the same rows with more that callables can receive by name, at another position."""
        return Batch(self.X, {**self.columns, **columns}, self.sample_weight, position)

    def astype(self, dtype: DTypeLike) -> Batch:
        """Return the batch with its floating arrays in another dtype."""

        return self._mapped(lambda array: array.astype(dtype) if np.dtype(array.dtype).kind == "f" else array)

    def copy(self) -> Batch:
        """Return a batch of writable copies."""
        return self._mapped(
            lambda array: np.array(array, subok=True) if isinstance(array, np.ndarray) else array.copy()
        )

    def head(self, n: int | None) -> Batch:
        """Return a batch of copies of the first rows; of all by default."""
        return self._mapped(lambda array: array[:n].copy())

    def read_only(self) -> Any:
        """Return a batch of read-only views."""
        return self._mapped(read_only)

    def _mapped(self, change: Callable[[Any], Any]) -> Batch:
        columns = {name: change(column) for name, column in self.columns.items()}
        weight = None if self.sample_weight is None else change(self.sample_weight)
        return Batch(change(self.X), columns, weight, self.position)


def identity(X: Any, columns: Mapping[str, Array], sample_weight: Weights | None) -> dict[str, str]:
    """Return what identifies arrays, by name: shape, dtype and a checksum of the values."""
    weight = None if sample_weight is None else sample_weight.scaled(AS_GIVEN, np.float64)
    arrays = {"X": on_host(X), **columns, "sample_weight": weight}
    return {name: _identity_of(array) for name, array in arrays.items() if array is not None}


def _identity_of(array: Any) -> str:
    if not issparse(array) and array.dtype.names is not None:
        array = repack_fields(array, recurse=True)  # what is between its fields is no value
    parts = (array.data, array.indices, array.indptr) if issparse(array) else (array,)
    total = 0
    for part in parts:
        values: Any = repr(part.tolist()).encode() if part.dtype == object else np.ascontiguousarray(part)
        total = zlib.crc32(values, total)
    return f"shape {tuple(array.shape)}, {array.dtype}, checksum {total:08x}"


def read_only(array: Any) -> Any:
    """Return a view of an array, or of a CSR matrix, that cannot be written through."""
    if issparse(array):
        view = copy.copy(array)  # another object on the same arrays
        view.data, view.indices, view.indptr = (read_only(a) for a in (array.data, array.indices, array.indptr))
        return view
    view = array.view()
    view.flags.writeable = False
    return view
