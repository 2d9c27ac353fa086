"""Gradients of some rows of a block: a large table, such as an embedding, of which a batch touches few rows.

A callable gives one as a leaf of its gradient: a pair ``(rows, values)``, or a `scipy.sparse` matrix of the
block's shape. A leaf of θ is never a tuple, so such a pair in its place can be nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array, issparse

from .exceptions import ParameterStructureError
from .sparse_matrices import require_inside
from .typing import Array, DType, Shape


class SparseGradient(NamedTuple):
    """The gradient of a block in the rows that a batch touches; in all others it is zero.

    Attributes
    ----------
    block : int
        Its index.
    where : slice
        Where the block lies in the vector θ.
    shape : tuple (n, width)
        Of the block, each row as a vector.
    rows : ndarray of shape (k,), dtype intp
        In ascending order, none twice.
    values : ndarray of shape (k, width)
        The gradient in these rows, each as a vector; only to be read.
    theta : ndarray or None
        The block of θ itself, where that does not lie in a vector.
    """

    block: int
    where: slice
    shape: tuple[int, int]
    rows: Array
    values: Array
    theta: Array | None = None

    def rows_of(self, vector: Array) -> Array:
        """Return the block of a vector as a matrix, a row for each of its rows."""
        return vector[self.where].reshape(self.shape)

    def times(self, factor: float) -> SparseGradient:
        """Return a multiple."""
        return self._replace(values=factor * self.values)


def is_sparse_gradient(leaf: object) -> bool:
    """Whether a leaf of a gradient speaks of some rows only."""
    return issparse(leaf) or (isinstance(leaf, tuple) and len(leaf) == 2 and _has_axes(leaf[0]))


def _has_axes(rows: object) -> bool:
    """Whether these may be rows: a tuple of two numbers is the gradient of a vector of two."""
    return isinstance(rows, list | tuple) or getattr(rows, "ndim", 0) > 0


def read_sparse(
    leaf: Any, block: int, where: slice, shape: Shape, dtype: DType, name: str, role: str
) -> SparseGradient:
    """Return a leaf that speaks of some rows as a `SparseGradient`.

    Parameters
    ----------
    leaf : tuple (rows, values), sparse matrix or sparse array
        Rows may come in any order, and repeatedly: their values are summed.
    block, where, shape, dtype, name
        The block's index, and what it is.
    role : str
        The callable to name in messages.

    Returns
    -------
    gradient : SparseGradient

    Raises
    ------
    ParameterStructureError
        For a block without rows, rows that are no whole numbers or not among the block's, and values that are
        no real floats of the rows' shape and a row's.
    """
    if not shape:
        raise ParameterStructureError(f"{role} speaks of some rows of block {name!r}, which is one number.")
    rows, values = _of_matrix(leaf, shape, name, role) if issparse(leaf) else _of_pair(leaf, shape, name, role)
    rows, values = _summed(rows, values.astype(dtype, copy=False))
    if rows.size and not 0 <= rows[0] <= rows[-1] < shape[0]:
        wrong = rows[0] if rows[0] < 0 else rows[-1]
        raise ParameterStructureError(
            f"{role} has values for row {wrong} of block {name!r}, which has the rows 0 to {shape[0] - 1}."
        )
    return SparseGradient(block, where, (shape[0], math.prod(shape[1:])), rows, values)


def are_rows(rows: Array, n: int) -> bool:
    """Whether these are rows of a block of n, if they are in ascending order."""
    return not rows.size or (rows.dtype == np.intp and bool(rows[0] >= 0 and rows[-1] < n))


def spread(vector: Array, gradients: Iterable[SparseGradient]) -> None:
    """Write row gradients into a gradient of all of θ: zeros in their blocks, but in these rows."""
    for gradient in gradients:
        table = gradient.rows_of(vector)
        table[...] = 0
        table[gradient.rows] = gradient.values


def outside(size: int, gradients: Sequence[SparseGradient]) -> list[slice]:
    """Return the parts of a vector of some size that belong to no block given by rows."""
    ends = [0, *(end for gradient in gradients for end in (gradient.where.start, gradient.where.stop)), size]
    return [slice(start, stop) for start, stop in zip(ends[::2], ends[1::2], strict=True) if start < stop]


def summed(several: Sequence[Sequence[SparseGradient]]) -> tuple[SparseGradient, ...]:
    """Return the sums of row gradients of the same blocks."""
    sums = []
    for gradients in zip(*several, strict=True):
        rows = np.concatenate([gradient.rows for gradient in gradients])
        rows, values = _summed(rows, np.concatenate([gradient.values for gradient in gradients]))
        sums.append(gradients[0]._replace(rows=rows, values=values))
    return tuple(sums)


def square(vector: Array, gradients: Sequence[SparseGradient]) -> float:
    """Return the square of the norm of a gradient of θ of which some blocks are given by rows.

    Unlike dot, vdot does not warn where it overflows.
    """
    parts = [vector[where] for where in outside(vector.size, gradients)]
    return float(sum(np.vdot(part, part) for part in (*parts, *(gradient.values for gradient in gradients))))


def _of_pair(pair: Any, shape: Shape, name: str, role: str) -> tuple[Array, Array]:
    rows, values = (np.asarray(part) for part in pair)
    if rows.dtype.kind not in "iu" and rows.size:
        raise ParameterStructureError(
            f"{role} has a tuple of two in block {name!r}: the first should be the rows, whole numbers, of which the "
            f"second is the gradient; it has dtype {rows.dtype}. The gradient of all rows is one array."
        )
    if values.shape != (*rows.shape, *shape[1:]) or (values.dtype.kind != "f" and values.size):
        raise ParameterStructureError(
            f"{role} has values of shape {values.shape} and dtype {values.dtype} for rows of shape {rows.shape} in "
            f"block {name!r}; expected real floats of shape {(*rows.shape, *shape[1:])}."
        )
    width = math.prod(shape[1:])
    return rows.reshape(-1).astype(np.intp, copy=False), values.reshape(rows.size, width)


def _of_matrix(matrix: Any, shape: Shape, name: str, role: str) -> tuple[Array, Array]:
    if matrix.shape != shape or matrix.dtype.kind != "f":
        raise ParameterStructureError(
            f"{role} is sparse, of shape {matrix.shape} and dtype {matrix.dtype}, in block {name!r}; expected real "
            f"floats of shape {shape}."
        )
    try:
        require_inside(matrix, "it")
        entries = matrix.tocoo()
    except ValueError as error:
        wrong = str(error).rstrip(".")
        raise ParameterStructureError(f"{role} is sparse in block {name!r}, with wrong indices: {wrong}.") from error
    row, *others = (entries.row, entries.col) if len(shape) == 2 else entries.coords
    column = np.ravel_multi_index(tuple(others), shape[1:]) if others else np.zeros(entries.nnz, int)
    rows, place = np.unique(row, return_inverse=True)
    compact = coo_array((entries.data, (place, column)), shape=(rows.size, math.prod(shape[1:])))
    return rows.astype(np.intp, copy=False), compact.toarray()


def _summed(rows: Array, values: Array) -> tuple[Array, Array]:
    """Rows in ascending order, with the sum of the values of each."""
    if (rows[1:] > rows[:-1]).all():
        return rows, values
    order = rows.argsort(kind="stable")
    rows = rows[order]
    begins = np.flatnonzero(rows[1:] != rows[:-1]) + 1
    if begins.size == rows.size - 1:
        return rows, values[order]
    pointers = np.concatenate([[0], begins, [rows.size]])
    ones = np.ones(rows.size, values.dtype)
    sums = csr_array((ones, order, pointers), shape=(pointers.size - 1, rows.size))
    return rows[pointers[:-1]], sums @ values
