"""Peak memory of a fit over the size of X: dense, CSR, and chunks of ten times what is allowed.

All that NumPy allocates is traced, X itself included; there is no copy of X if the ratio is near 1.
"""

import gc
import sys
import tracemalloc
from functools import partial

import numpy as np
import scipy.sparse

from sk_analytic import AnalyticRegressor

from .figures import Figure
from .models import regression_problem
from .ours import estimator

ROW = "memory"
SIZES = (300_000,)
VECTORS = 6  # of θ's size, that a fit may have beside X
SHARE = 1.05  # of X
N_CHUNKS = 10
CSR_WIDTH, CSR_VALUES = 10_000, 100  # columns, and values in a row: as of words in documents


def measure(options):
    """Yield a figure for each kind of X."""
    for dtype in options.dtypes:
        for n in options.sizes_or(SIZES, (5_000,)):
            for kind, measured in {"dense": _dense, "csr": _csr, "chunks": _chunks}.items():
                if options.picks(kind):
                    yield measured(n, np.dtype(dtype))


def peak(function):
    """Return the most bytes that were allocated at a time while a function ran, beyond what was before."""
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _dense(n, dtype):
    problem = regression_problem(n, dtype, d=100, batch_size=200, epochs=1)
    fitted = estimator(problem)
    used = peak(lambda: fitted.fit(problem.X, problem.y))
    theta = sum(np.asarray(block).nbytes for block in problem.start)
    return _figure(f"dense n={n} d=100 {dtype}", problem.X.nbytes, used, VECTORS * theta)


def _csr(n, dtype):
    rng = np.random.default_rng(0)
    X = _random_csr(n, dtype, rng)
    y = rng.standard_normal(n).astype(dtype)
    model = AnalyticRegressor(max_iter=1, random_state=0)
    used = peak(lambda: model.fit(X, y))
    size = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    return _figure(f"CSR n={n} d={CSR_WIDTH} {dtype}", size, used, VECTORS * (CSR_WIDTH + 1) * dtype.itemsize)


def _random_csr(n, dtype, rng):
    """A CSR matrix with a value in each of as many strips of columns of a row."""
    strips = np.arange(0, CSR_WIDTH, CSR_WIDTH // CSR_VALUES, dtype=np.int32)
    columns = rng.integers(0, CSR_WIDTH // CSR_VALUES, (n, len(strips)), dtype=np.int32)
    columns += strips
    pointers = np.arange(0, columns.size + 1, len(strips), dtype=np.int32)
    values = rng.standard_normal(columns.size, dtype=dtype)
    return scipy.sparse.csr_array((values, columns.ravel(), pointers), shape=(n, CSR_WIDTH))


def _chunks(n, dtype):
    """Data of ten times what is allowed, which is a chunk; each is made when asked for, and held by nobody else."""

    def load(number):
        X = np.random.default_rng(number).standard_normal((n, 100), dtype=dtype)
        return X, X[:, 0]

    loaders = [partial(load, number) for number in range(N_CHUNKS)]
    used = peak(lambda: AnalyticRegressor(max_iter=1, random_state=0).fit_chunks(loaders))
    size = n * 100 * dtype.itemsize
    case = f"{N_CHUNKS} chunks of n={n} d=100 {dtype}"
    return _figure(case, size, used - size, VECTORS * 101 * dtype.itemsize, "the size of a chunk")


def _figure(case, size, used, allowed, peer="the size of X"):
    """Return X and what the fit used beside it, over X; what is allowed beside X is left out."""
    ratio = (size + max(0, used - allowed)) / size
    return Figure(
        ROW,
        case,
        peer,
        ratio,
        ratio,
        ratio,
        ours=size + used,
        peers=size,
        goal=SHARE,
        unit="B",
        note=f"beside X {used / 1e6:.2f} MB, of which {allowed / 1e6:.2f} MB are allowed for vectors of θ's size",
    )


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
