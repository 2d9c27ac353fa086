"""Gradients of some rows of a block: a large table, such as an embedding, of which a batch uses few rows.

A callable returns one as a leaf of its gradient: a pair ``(rows, values)``, or a `scipy.sparse` matrix of the
block's shape. A leaf of θ is never a tuple, so a pair is unambiguous.
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
    """Gradient of a block in the rows that a batch uses; it is zero in all others.

    Attributes
    ----------
    block : int
        Index of the block.
    where : slice
        Position of the block in the vector θ.
    shape : tuple (n, width)
        Shape of the block, with each row flattened.
    rows : ndarray of shape (k,), dtype intp
        Row indices, in ascending order and unique.
    values : ndarray of shape (k, width)
        Gradient in these rows, each flattened; read-only.
    theta : ndarray or None
        The block of θ, if θ is not one vector.
    """

    block: int
    where: slice
    shape: tuple[int, int]
    rows: Array
    values: Array
    theta: Array | None = None

    def rows_of(self, vector: Array) -> Array:
        """Return the block of a vector as a matrix with one flattened row per row."""
        return vector[self.where].reshape(self.shape)

    def times(self, factor: float) -> SparseGradient:
        """Return a multiple."""
        return self._replace(values=factor * self.values)


def is_sparse_gradient(leaf: object) -> bool:
    """Whether a leaf of a gradient has some rows only."""
    return issparse(leaf) or (isinstance(leaf, tuple) and len(leaf) == 2 and _has_axes(leaf[0]))


def _has_axes(rows: object) -> bool:
    """Whether these may be row indices: a tuple of two numbers is the gradient of two numbers."""
    return isinstance(rows, list | tuple) or getattr(rows, "ndim", 0) > 0


def read_sparse(
    leaf: Any, block: int, where: slice, shape: Shape, dtype: DType, name: str, role: str
) -> SparseGradient:
    """Return a leaf with some rows of a gradient as a `SparseGradient`.

    Parameters
    ----------
    leaf : tuple (rows, values), sparse matrix or sparse array
        Rows may be in any order and repeated; values of the same row are summed.
    block, where, shape, dtype, name
        Properties of the block.
    role : str
        Name of the callable, for messages.

    Returns
    -------
    gradient : SparseGradient

    Raises
    ------
    ParameterStructureError
        If the block has no rows, if rows are not integers or out of range, or if values are not real floats of the
        matching shape.
    """
    if not shape:
        raise ParameterStructureError(
            f"{role} has a gradient of some rows for parameter {name!r}, which is one number."
        )
    rows, values = _of_matrix(leaf, shape, name, role) if issparse(leaf) else _of_pair(leaf, shape, name, role)
    rows, values = _summed(rows, values.astype(dtype, copy=False))
    if rows.size and not 0 <= rows[0] <= rows[-1] < shape[0]:
        wrong = rows[0] if rows[0] < 0 else rows[-1]
        raise ParameterStructureError(
            f"{role} has values for row {wrong} of parameter {name!r}, which has rows 0 to {shape[0] - 1}."
        )
    return SparseGradient(block, where, (shape[0], math.prod(shape[1:])), rows, values)


def are_rows(rows: Array, n: int) -> bool:
    """Whether rows in ascending order are rows of a block with n rows."""
    return not rows.size or (rows.dtype == np.intp and bool(rows[0] >= 0 and rows[-1] < n))


def spread(vector: Array, gradients: Iterable[SparseGradient]) -> None:
    """Write sparse gradients into a gradient of all of θ, with zeros in their other rows."""
    for gradient in gradients:
        table = gradient.rows_of(vector)
        table[...] = 0
        table[gradient.rows] = gradient.values


def outside(size: int, gradients: Sequence[SparseGradient]) -> list[slice]:
    """Return the parts of a vector that belong to no block with a sparse gradient."""
    ends = [0, *(end for gradient in gradients for end in (gradient.where.start, gradient.where.stop)), size]
    return [slice(start, stop) for start, stop in zip(ends[::2], ends[1::2], strict=True) if start < stop]


def summed(several: Sequence[Sequence[SparseGradient]]) -> tuple[SparseGradient, ...]:
    """Return the sums of sparse gradients of the same blocks."""
    sums = []
    for gradients in zip(*several, strict=True):
        rows = np.concatenate([gradient.rows for gradient in gradients])
        rows, values = _summed(rows, np.concatenate([gradient.values for gradient in gradients]))
        sums.append(gradients[0]._replace(rows=rows, values=values))
    return tuple(sums)


def square(vector: Array, gradients: Sequence[SparseGradient]) -> float:
    """Return the squared norm of a gradient of θ in which some blocks are sparse.

    Unlike dot, vdot does not warn about overflow.
    """
    parts = [vector[where] for where in outside(vector.size, gradients)]
    return float(sum(np.vdot(part, part) for part in (*parts, *(gradient.values for gradient in gradients))))


def _of_pair(pair: Any, shape: Shape, name: str, role: str) -> tuple[Array, Array]:
    rows, values = (np.asarray(part) for part in pair)
    if rows.dtype.kind not in "iu" and rows.size:
        raise ParameterStructureError(
            f"{role} has a tuple of two for parameter {name!r}. Its first item must be integer row indices, but has "
            f"dtype {rows.dtype}; its second item is their gradient. For the gradient of all rows, return one array."
        )
    if values.shape != (*rows.shape, *shape[1:]) or (values.dtype.kind != "f" and values.size):
        raise ParameterStructureError(
            f"{role} has values of shape {values.shape} and dtype {values.dtype} for rows of shape {rows.shape} in "
            f"parameter {name!r}; expected real floats of shape {(*rows.shape, *shape[1:])}."
        )
    width = math.prod(shape[1:])
    return rows.reshape(-1).astype(np.intp, copy=False), values.reshape(rows.size, width)


def _of_matrix(matrix: Any, shape: Shape, name: str, role: str) -> tuple[Array, Array]:
    if matrix.shape != shape or matrix.dtype.kind != "f":
        raise ParameterStructureError(
            f"{role} returned a sparse matrix of shape {matrix.shape} and dtype {matrix.dtype} for parameter {name!r}; "
            f"expected real floats of shape {shape}."
        )
    try:
        require_inside(matrix, "it")
        entries = matrix.tocoo()
    except ValueError as error:
        wrong = str(error).rstrip(".")
        raise ParameterStructureError(
            f"{role} is sparse in parameter {name!r}, with invalid indices: {wrong}."
        ) from error
    row, *others = (entries.row, entries.col) if len(shape) == 2 else entries.coords
    column = np.ravel_multi_index(tuple(others), shape[1:]) if others else np.zeros(entries.nnz, int)
    rows, place = np.unique(row, return_inverse=True)
    compact = coo_array((entries.data, (place, column)), shape=(rows.size, math.prod(shape[1:])))
    return rows.astype(np.intp, copy=False), compact.toarray()


def _summed(rows: Array, values: Array) -> tuple[Array, Array]:
    """Return the rows in ascending order, with the sum of the values of each."""
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
