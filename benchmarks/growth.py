"""Growth: the time a row takes as the data grow, and the time a parameter takes as θ grows.

Each size is paired with one ten times smaller. Straight lines have ratios of 1 or, while a fixed cost still
shows, below.
"""

import sys

import numpy as np

from sk_analytic import AnalyticRegressor
from sk_analytic.optimizers import Adam

from .figures import Figure
from .timing import compare

ROW = "growth"
ROWS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
PARAMETERS = (10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
FEATURES = 10
FEW_ROWS = 16
STRAIGHT = 1.25  # what leaves the cache on the way may cost more


def measure(options):
    """Yield a figure for each size, against the one before."""
    for dtype in options.dtypes:
        if options.picks("rows"):
            sizes = options.sizes_or(ROWS, (1_000, 10_000))
            yield from _grow(options, f"a row, d={FEATURES} {dtype}, n", sizes, _fit_of_rows, dtype)
        if options.picks("parameters"):
            sizes = options.sizes_or(PARAMETERS, (10, 100))
            yield from _grow(options, f"a parameter, n={FEW_ROWS} {dtype}, size of θ", sizes, _fit_of_parameters, dtype)


def _grow(options, what, sizes, make, dtype):
    smaller = make(sizes[0], dtype)
    for before, size in zip(sizes, sizes[1:], strict=False):
        larger = make(size, dtype)
        pair = compare(larger, smaller, **options.pairing)
        low, ratio, high = (value * before / size for value in pair.ratio)
        yield Figure(
            ROW,
            f"{what} {size:.0e}",
            f"{before:.0e}",
            ratio,
            low,
            high,
            ours=pair.ours / size,
            peers=pair.peer / before,
            goal=STRAIGHT,
        )
        smaller = larger


def _fit_of_rows(n, dtype):
    return _fit(n, FEATURES, 1_000, dtype, epochs=1)


def _fit_of_parameters(size, dtype):
    return _fit(FEW_ROWS, size - 1, FEW_ROWS // 2, dtype, epochs=5)


def _fit(n, d, batch_size, dtype, epochs):
    """Return a fit of a linear model."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=np.dtype(dtype))
    y = X[:, 0].copy()
    model = AnalyticRegressor(
        optimizer=Adam(),
        batch_size=batch_size,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=epochs + 1,
        check_gradient=False,
        random_state=0,
    )
    return lambda: model.fit(X, y)


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
