"""Gathering of shuffled rows, a row, against copying them in order; dense, CSR and memory-mapped.

An epoch of batches is drawn and looked at by nobody. The order is drawn too, once an epoch.
"""

import sys
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
import scipy.sparse

from sk_analytic.data.arrays import GATHERED_BYTES, GATHERED_CSR_BYTES, ArrayRows

from .figures import Figure
from .timing import compare

ROW = "gather"
FEATURES = (20, 100, 784)
BATCHES = (32, 200, 1_000)
MOST_ROWS = 100_000
MOST_BYTES = 80_000_000  # of X
DENSITY = 0.02  # of the CSR matrix


def measure(options):
    """Yield a figure for each kind of X, width, batch size and way to copy."""
    for dtype in options.dtypes:
        for kind in ("dense", "memmap", "csr"):
            if options.picks(kind):
                for d in options.sizes_or(FEATURES, (20,)):
                    yield from _kind(options, kind, d, np.dtype(dtype))


def _kind(options, kind, d, dtype):
    n = min(MOST_ROWS, MOST_BYTES // (d * dtype.itemsize)) if not options.quick else 2_000
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        if kind == "csr":
            X = scipy.sparse.csr_array(scipy.sparse.random(n, d, DENSITY, "csr", dtype, rng))
        else:
            X = rng.standard_normal((n, d)).astype(dtype)
        if kind == "memmap":
            X = _mapped(X, Path(folder) / "X")
        for batch_size in options.batch_sizes_or(BATCHES, (32,)):
            yield from _batches(options, kind, X, batch_size, dtype)


def _mapped(X, path):
    mapped = np.memmap(path, X.dtype, "w+", shape=X.shape)
    mapped[...] = X
    return mapped


def _batches(options, kind, X, batch_size, dtype):
    case = f"{kind} d={X.shape[1]} n={X.shape[0]} {dtype} batch {batch_size}"
    rows = ArrayRows(X, {}, batch_size=batch_size, shuffle=True, seed=0)
    in_order = ArrayRows(X, {}, batch_size=batch_size)
    epochs = count()

    def ours():
        _epoch(rows, next(epochs))

    row_bytes, most = (_csr_bytes(X), GATHERED_CSR_BYTES) if kind == "csr" else (X.nbytes, GATHERED_BYTES)
    ways = {
        "X[idx]": _indexing(X, batch_size),
        "copy in order, by batch": _copying(X, batch_size),
        "copy in order, at once": _copying(X, max(1, most // (row_bytes // X.shape[0]))),
        "ours, not shuffled": lambda: _epoch(in_order, 0),
    }
    for peer, copy in ways.items():
        if options.meets(peer):
            pair = compare(ours, copy, **options.pairing)
            per_row = pair._replace(ours=pair.ours / X.shape[0], peer=pair.peer / X.shape[0])
            yield Figure.of(ROW, case, peer, per_row, goal=_goal(kind, peer, X.shape[1], batch_size))


def _epoch(rows, epoch):
    for step in range(rows.steps_per_epoch):
        rows.batch(epoch, step)


def _csr_bytes(X):
    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes


def _copying(X, size):
    if scipy.sparse.issparse(X):
        return _copying_csr(X, size)
    buffer = np.empty((size, *X.shape[1:]), X.dtype)

    def copy():
        for start in range(0, len(X), size):
            part = X[start : start + size]
            np.copyto(buffer[: len(part)], part)

    return copy


def _copying_csr(X, size):
    """The three arrays of a CSR matrix, copied side by side; what makes a matrix of them is left out."""
    starts = X.indptr[::size].tolist() + [X.nnz]
    longest = max(stop - start for start, stop in zip(starts, starts[1:], strict=False))
    data, indices = np.empty(longest, X.data.dtype), np.empty(longest, X.indices.dtype)
    indptr = np.empty(size + 1, X.indptr.dtype)

    def copy():
        for step, start in enumerate(range(0, X.shape[0], size)):
            first, last = starts[step : step + 2]
            np.copyto(data[: last - first], X.data[first:last])
            np.copyto(indices[: last - first], X.indices[first:last])
            pointers = X.indptr[start : start + size + 1]
            np.copyto(indptr[: len(pointers)], pointers)

    return copy


def _indexing(X, size):
    rng = np.random.default_rng(0)
    n = X.shape[0]

    def index():
        order = rng.permutation(n)
        for start in range(0, n, size):
            X[order[start : start + size]]

    return index


def _goal(kind, peer, d, batch_size):
    if (d, batch_size) != (20, 32):
        return None
    goals = {"X[idx]": 0.2} if kind == "csr" else {"copy in order, by batch": 1.3}
    return goals.get(peer)


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
