"""Sparse matrices that point outside of themselves: compiled code reads and writes there without looking."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy.sparse import issparse

_REBUILD = "Rebuild it from (data, (rows, columns)) with the right shape."


def require_inside(matrix: Any, name: str) -> None:
    """Raise if a sparse matrix points outside of itself."""
    if not issparse(matrix) or matrix.ndim != 2 or matrix.format not in ("csr", "csc", "bsr", "coo", "lil"):
        return
    rows, columns = (n // size for n, size in zip(matrix.shape, getattr(matrix, "blocksize", (1, 1)), strict=True))
    if matrix.format == "coo":
        pointers = {0: matrix.row, 1: matrix.col}
    elif matrix.format == "lil":
        pointers = {1: np.fromiter(itertools.chain.from_iterable(matrix.rows), np.int64)}
    else:
        _require_rising(matrix, columns if matrix.format == "csc" else rows, name)
        pointers = {0 if matrix.format == "csc" else 1: matrix.indices[: matrix.indptr[-1]]}
    blocks = " of blocks" if matrix.format == "bsr" else ""
    for axis, found in pointers.items():
        least, most = (int(found.min()), int(found.max())) if len(found) else (0, -1)
        n = (rows, columns)[axis]
        if least < 0 or most >= n:
            kind = ("row", "column")[axis]
            raise ValueError(
                f"{name} is a broken {matrix.format.upper()} matrix: it has the {kind} index "
                f"{least if least < 0 else most}, but {n} {kind}s{blocks}. {_REBUILD}"
            )


def _require_rising(matrix: Any, n: int, name: str) -> None:
    """Raise unless the ``indptr`` of a matrix delimits its stored values."""
    indptr, stored = matrix.indptr, min(len(matrix.indices), len(matrix.data))
    if len(indptr) != n + 1 or indptr[0] or indptr[-1] > stored or (np.diff(indptr) < 0).any():
        raise ValueError(
            f"{name} is a broken {matrix.format.upper()} matrix: indptr must rise from 0 to at most {stored}, the "
            f"number of stored values, in {n} steps. {_REBUILD}"
        )
