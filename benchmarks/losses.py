"""A loss of many rows, taken in parts as an estimator does, against its formula over all of them at once."""

import sys

import numpy as np

from sk_analytic.losses import get_loss

from .figures import Figure
from .timing import compare

ROW = "losses"
SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
NAMES = ("squared_error", "log_loss", "poisson")


def measure(options):
    """Yield a figure for each loss, dtype and number of rows."""
    for name in NAMES:
        if options.picks(name):
            for dtype in options.dtypes:
                for n in options.sizes_or(SIZES, (100, 100_000)):
                    yield _figure(options, name, dtype, n)


def _figure(options, name, dtype, n):
    rng = np.random.default_rng(0)
    loss = get_loss(name)
    y, prediction = rng.integers(0, 2, n).astype(dtype), rng.standard_normal(n).astype(dtype)
    pair = compare(
        lambda: loss.value_and_derivative(y, prediction), lambda: loss.formula(y, prediction), **options.pairing
    )
    ours, theirs = loss.value_and_derivative(y, prediction), loss.formula(y, prediction)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    per_row = pair._replace(ours=pair.ours / n, peer=pair.peer / n)
    return Figure.of(ROW, f"{name} {dtype} n={n:.0e}", "all at once", per_row, difference=difference, tolerance=0.0)


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
