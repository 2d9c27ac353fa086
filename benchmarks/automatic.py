"""The border of optimizer="auto": how soon L-BFGS reaches the loss at which Adam ends by default.

For problems of growing size, rows times parameters. Adam runs as it is by default; then L-BFGS, as "auto" makes it,
runs until its loss is as small, or for as many iterations as Adam had epochs.
"""

import sys
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sk_analytic import AnalyticClassifier, AnalyticRegressor
from sk_analytic.estimators.automatic import MOST_WORK
from sk_analytic.optimizers import LBFGS

from .figures import Figure

ROW = "automatic"
SIZES = (1_000, 10_000, 40_000)
FEATURES = 50
HIDDEN = (10, 50)


def measure(options):
    """Yield a figure for each model and number of rows."""
    for n in options.sizes_or(SIZES, (500,)):
        for name, estimator, X, y in problems(n):
            if options.picks(name):
                yield _compare(f"{name} n={n}", estimator, X, y)


def problems(n):
    """Yield the name of each problem of n rows, an estimator, and its rows."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, FEATURES))
    score = X @ rng.standard_normal(FEATURES) / np.sqrt(FEATURES)
    yield "linear", AnalyticRegressor(), X, score + rng.standard_normal(n)
    yield "softmax", AnalyticClassifier(), X, np.digitize(score + rng.standard_normal(n), [-1, 0, 1])
    curved = np.sin(2 * score) + 0.3 * rng.standard_normal(n)
    for n_hidden in HIDDEN:
        net = AnalyticRegressor(vjp=network_vjp, init=network_init, model_params={"n_hidden": n_hidden})
        yield f"network of {n_hidden}", net, X, curved


def network_init(n_features, rng, n_hidden):
    """Start a layer of tanh units."""
    W = rng.standard_normal((n_features, n_hidden)) / np.sqrt(n_features)
    return {"W": W, "a": np.zeros(n_hidden), "v": rng.standard_normal(n_hidden) / np.sqrt(n_hidden), "b": 0.0}


def network_vjp(params, X):
    """Return the prediction of the layer, and its adjoint."""
    h = np.tanh(X @ params["W"] + params["a"])

    def pullback(d):
        da = np.outer(d, params["v"]) * (1 - h * h)
        return {"W": X.T @ da, "a": da.sum(axis=0), "v": h.T @ d, "b": d.sum()}

    return h @ params["v"] + params["b"], pullback


def _compare(case, estimator, X, y):
    fits = {}
    for optimizer in ("adam", LBFGS(maxcor=30)):
        estimator.set_params(optimizer=optimizer, check_gradient=False, random_state=0)
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(X, y)
        fits[str(optimizer)] = estimator.loss_curve_, time.perf_counter() - began
    (adam, seconds), (lbfgs, whole) = fits.values()
    size = estimator._training.theta.vector.size
    reached = int(np.argmax(np.array(lbfgs) <= adam[-1])) + 1 if min(lbfgs) <= adam[-1] else None
    took = whole * (reached or len(lbfgs)) / len(lbfgs)
    outcome = f"reached after {reached}" if reached else f"not reached, {lbfgs[-1]:.4g} after {len(lbfgs)}"
    return Figure(
        ROW,
        f"{case}, n x size of θ {len(X) * size:.0e}",
        f"adam, {len(adam)} epochs",
        took / seconds,
        ours=took,
        peers=seconds,
        goal=1.0 if len(X) * size <= MOST_WORK else None,
        note=f"loss {adam[-1]:.4g} {outcome}",
    )


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
