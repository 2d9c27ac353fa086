"""The gradient check: its time over that of one epoch, and the evaluations that it costs.

Once with a right gradient, as before every first fit; the note has the evaluations of that, and those and the
seconds of a full diagnosis where the sign of one block is flipped.
"""

import sys
from time import process_time

import numpy as np

from sk_analytic.gradient_check import check_gradient, examine

from .figures import Figure
from .models import count, problem_of_size
from .ours import SEED, estimator
from .timing import compare

ROW = "gradient_check"
SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
ROWS = 5_000
BATCH_SIZE = 200


def measure(options):
    """Yield a figure for each size of θ: the check before a fit against one epoch of it."""
    for size in options.sizes_or(SIZES, (10, 1_000)):
        n_rows = 500 if options.quick else ROWS
        problem = problem_of_size(size, n_rows, np.dtype(float), batch_size=BATCH_SIZE, epochs=1)
        model = estimator(problem)
        prepared = model._prepare_check(problem.X, problem.y, None, SEED, {})
        report = _look(*prepared)
        pair = compare(
            lambda prepared=prepared: _look(*prepared),
            lambda model=model, problem=problem: model.fit(problem.X, problem.y),
            **options.pairing,
        )
        evaluations, seconds, cause = _diagnosis(problem)
        note = (
            f"{report.n_evaluations} evaluations, {'right' if report.ok else 'WRONG'}; "
            f"the diagnosis {cause!r} takes {evaluations} and {seconds:.2g} s"
        )
        case = f"{count(problem.start)} parameters, batch {BATCH_SIZE}"
        yield Figure.of(ROW, case, f"one epoch of {n_rows} rows", pair, note=note)


def _look(objective, theta, batch, seed):
    """Return the report of the check before a fit."""
    return examine(objective, theta, batch, seed=seed)


def _diagnosis(problem):
    """Return evaluations, seconds and cause of a full check where the sign of the first block is flipped."""
    right = problem.model.loss_and_gradient

    def flipped(params, X, y):
        loss, (first, *others) = right(params, X, y)
        return loss, (-first, *others)

    model = estimator(problem, loss_and_gradient=flipped)
    X, y = problem.X[:BATCH_SIZE], problem.y[:BATCH_SIZE]
    start = process_time()
    report = check_gradient(model, X, y, random_state=SEED)
    return report.n_evaluations, process_time() - start, report.findings[0].cause


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
