"""Chunks: `fit_chunks` over ten chunks that lie in memory, against `fit` on all of their rows.

What is left is the price of streaming: a survey of the chunks, and their validation whenever one is read.
"""

import sys

import numpy as np

from .figures import Figure
from .models import regression_problem
from .ours import estimator
from .timing import compare

ROW = "chunks"
SIZES = (1_000_000,)
BATCH_SIZES = (32, 200)
N_CHUNKS = 10
GOAL = 1.1
SAME_LOSS = 1e-12


def measure(options):
    """Yield a figure for each size and batch size."""
    for dtype in options.dtypes:
        for n in options.sizes_or(SIZES, (2_000,)):
            for batch_size in options.batch_sizes_or(BATCH_SIZES, (200,)):
                yield _against_fit(options, regression_problem(n, np.dtype(dtype), batch_size=batch_size, epochs=2))


def _against_fit(options, problem):
    chunks = list(zip(np.array_split(problem.X, N_CHUNKS), np.array_split(problem.y, N_CHUNKS), strict=True))

    def streamed(**changes):
        return estimator(problem, **changes).fit_chunks(chunks)

    def whole(**changes):
        return estimator(problem, **changes).fit(problem.X, problem.y)

    # In order, both take the same steps; shuffled, each has batches of its own.
    ours, theirs = (problem.loss(fit(shuffle=False).params_) for fit in (streamed, whole))
    return Figure.of(
        ROW,
        f"{N_CHUNKS} chunks of n={len(problem.X) // N_CHUNKS} {problem.X.dtype} batch {problem.batch_size}",
        "fit",
        compare(streamed, whole, **options.pairing),
        goal=GOAL,
        difference=abs(ours / theirs - 1),
        tolerance=SAME_LOSS,
    )


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
