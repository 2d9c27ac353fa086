"""Our side of the comparisons: the only place that knows how the library is switched."""

import numpy as np

from sk_analytic import AnalyticClassifier, AnalyticRegressor
from sk_analytic.data.arrays import ArrayRows
from sk_analytic.data.batch import SHUFFLE, generator
from sk_analytic.optimizers import Adam, use_engine

from . import peers

SEED = 0  # random_state of every fit of ours


def engine_names(asked=None):
    """Return the engines that can run here, of those asked for."""
    there = ["numpy"] if peers.find("numba") is None else ["numpy", "numba"]
    return [name for name in there if asked is None or name in asked]


def on_engine(name, function):
    """Return a function that runs on an engine, whichever optimizers it makes."""

    def run():
        with use_engine(name):
            return function()

    return run


def estimator(problem, *, form="loss_and_gradient", **changes):
    """Return our estimator of a problem, set for as many epochs as the peers run."""
    kind = AnalyticClassifier if problem.n_classes else AnalyticRegressor
    settings = {
        "init": problem.start,
        "optimizer": Adam(learning_rate=problem.rate),
        "batch_size": problem.batch_size,
        "max_iter": problem.epochs,
        "tol": 0.0,
        "n_iter_no_change": problem.epochs + 1,
        "check_gradient": False,
        "random_state": SEED,
        form: getattr(problem.model, form),
    }
    return kind(problem.model.forward, **(settings | changes))


def fit_seed():
    """Return the seed that a fit draws from `SEED`."""
    return int(np.random.RandomState(SEED).randint(2**31 - 1))


def order(epoch, n):
    """Return the order of the rows in an epoch, for loops that shall see the same batches."""
    return generator(fit_seed(), SHUFFLE, epoch).permutation(n)


def rows_of(problem):
    """Return the rows of a problem as a fit has them."""
    return ArrayRows(problem.X, {"y": problem.y}, batch_size=problem.batch_size, shuffle=True, seed=fit_seed())
