"""The loop tax: a fit's time over the time of the user's callables alone.

The callables are called as often as in the fit, on the same batches, which lie ready: what else the fit
takes is ours (drawing, gathering, checking, stepping). Networks, or linear models up to 100 parameters.
"""

import sys

import numpy as np

from .figures import Figure
from .models import count, problem_of_size
from .ours import engine_names, estimator, on_engine, rows_of
from .timing import compare

ROW = "loop_tax"
SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
BATCHES = (1, 8, 32, 128, 1_024)
SECONDS = 0.1  # that the callables take in a fit, about; a tenth of it where it shall be quick
FEWEST_STEPS = 24  # so that what a fit does once hardly counts, whatever the size of θ
READY = 1 << 18  # bytes of rows that lie ready: what a fit keeps in the cache
DATA = 1 << 21  # bytes of X, about: rows that lie outside the cache are the business of another row, gather


def measure(options):
    """Yield a figure for each size of θ, batch size, dtype, form of the gradient and engine."""
    for form in ("loss_and_gradient", "vjp"):
        if not options.picks(form):
            continue
        for dtype in options.dtypes:
            for size in options.sizes_or(SIZES, (10, 1_000)):
                for batch_size in options.batch_sizes_or(BATCHES, (32,)):
                    yield from _engines(options, form, np.dtype(dtype), size, batch_size)


def _engines(options, form, dtype, size, batch_size):
    seconds = SECONDS / 10 if options.quick else SECONDS
    problem = _problem(form, dtype, size, batch_size, seconds)
    fitted, callables = estimator(problem, form=form), alone(problem, form)
    n_steps = problem.epochs * -(-len(problem.y) // batch_size)
    for engine in engine_names(options.engines):
        pair = compare(on_engine(engine, lambda: fitted.fit(problem.X, problem.y)), callables, **options.pairing)
        case = f"{form} {engine} {dtype} {count(problem.start)} parameters, batch {batch_size}, {n_steps} steps"
        yield Figure.of(ROW, case, "the callables alone", pair, goal=_goal(engine, size, batch_size))


def _problem(form, dtype, size, batch_size, seconds):
    """Return a problem whose callables are busy for about so long in a fit."""
    trial = problem_of_size(size, batch_size, dtype, batch_size=batch_size, epochs=5)
    call = alone(trial, form)
    n_steps = np.clip(5 * seconds / compare(call, call, repetitions=3, sample=0.002).ours, FEWEST_STEPS, 4_000)
    per_epoch = np.clip(DATA / (batch_size * trial.X[:1].nbytes), 4, n_steps / 2)
    n_rows = batch_size * int(per_epoch)
    return problem_of_size(size, n_rows, dtype, batch_size=batch_size, epochs=round(n_steps / int(per_epoch)))


def alone(problem, form):
    """Return a function that calls the callables as often as a fit does, and does nothing else."""
    batches = [(batch.X, batch.y) for batch in ready(rows_of(problem), problem)]
    steps = problem.epochs * -(-len(problem.y) // problem.batch_size)
    turns = [batches[step % len(batches)] for step in range(steps)]
    params = problem.start
    call = getattr(problem.model, form)

    def loss_and_gradient():
        for X, y in turns:
            call(params, X, y)

    def vjp():
        derivative = np.ones_like(batches[0][1])
        for X, _ in turns:
            call(params, X)[1](derivative)

    return vjp if form == "vjp" else loss_and_gradient


def ready(rows, problem):
    """Return copies of the first batches, as many as a fit has in its cache at a time."""
    batch_bytes = problem.batch_size * problem.X[:1].nbytes
    return rows.sample(int(np.clip(READY // batch_bytes, 1, rows.steps_per_epoch)), purpose=0)


GOALS = {  # by engine: for large θ by batch size, and for small θ at batch 32
    "numpy": ({128: 1.3, 1_024: 1.08}, 1.8),
    "numba": ({128: 1.17, 1_024: 1.05}, 1.5),
}


def _goal(engine, size, batch_size):
    """Return what the tax should not exceed, where that is stated."""
    large, small = GOALS[engine]
    if size >= 10_000:
        return large.get(batch_size)
    return small if size <= 1_000 and batch_size == 32 else None


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
