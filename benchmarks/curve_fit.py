"""A curve of 3 parameters and 200 rows, against scipy and lmfit; and predict of one row: the cost of the shell.

All get the same function, analytic derivative and start, and must end at the same sum of squares.
"""

import sys

import numpy as np
import scipy.optimize
from sklearn.linear_model import LinearRegression

from sk_analytic import AnalyticRegressor, optimizers
from sk_analytic.optimizers import LBFGS

from . import peers
from .figures import Figure
from .timing import compare

ROW = "curve_fit"
N_ROWS = 200
START = (1.0, 1.0, 0.0)
TOL = 1e-6  # on the gradient
SAME_LOSS = 1e-6


def curve(t, height, rate, floor):
    """Return an exponential decay to a floor."""
    return height * np.exp(-rate * t) + floor


def slopes(t, height, rate, floor):
    """Return its derivative by each parameter, one a column."""
    decay = np.exp(-rate * t)
    return np.stack([decay, -height * t * decay, np.ones_like(t)], axis=1)


def forward(params, X):
    """Return the curve, as our estimators want it."""
    return curve(X[:, 0], *params)


def jacobian(params, X):
    """Return the slopes, one array a parameter."""
    height, rate, _ = params
    t = X[:, 0]
    decay = np.exp(-rate * t)
    return decay, -height * t * decay, np.ones_like(t)


def loss_and_gradient(params, X, y):
    """Return half the mean square and its gradient."""
    height, rate, floor = params
    t = X[:, 0]
    decay = np.exp(-rate * t)
    residual = height * decay + floor - y
    n = len(y)
    return residual @ residual / (2 * n), (
        residual @ decay / n,
        -height * (residual @ (t * decay)) / n,
        residual.mean(),
    )


def draw():
    """Return times and values."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 4, N_ROWS)
    return t, curve(t, 2.0, 1.5, 0.5) + 0.05 * rng.standard_normal(N_ROWS)


def measure(options):
    """Yield a figure for each of our ways and each peer, then for predict."""
    t, y = draw()
    X = t[:, None]

    def half_mean_square(params):
        return 0.5 * np.mean((curve(t, *params) - y) ** 2)

    for ours, fit in _ours(X, y).items():
        for peer, theirs in _peers(t, y).items():
            if not options.meets(peer):
                continue
            if theirs is None:
                yield Figure(ROW, ours, peer, note=peers.why_missing("lmfit"))
                continue
            pair = compare(fit, theirs, **options.pairing)
            yield Figure.of(
                ROW,
                ours,
                peer,
                pair,
                goal=1.7 if peer == "scipy minimize, L-BFGS-B" and ours.startswith("lbfgs") else None,
                difference=abs(half_mean_square(fit()) / half_mean_square(theirs()) - 1),
                tolerance=SAME_LOSS,
            )
    yield _predict(options)


def _ours(X, y):
    """Return our fits, which return the three parameters."""

    def fit(optimizer, **gradient):
        model = AnalyticRegressor(
            forward, init=START, optimizer=optimizer, tol=TOL, check_gradient=False, random_state=0, **gradient
        )
        return model.fit(X, y).params_

    ways = {
        "lbfgs, loss_and_gradient": lambda: fit(LBFGS(), loss_and_gradient=loss_and_gradient),
        "lbfgs, jacobian": lambda: fit(LBFGS(), jacobian=jacobian),
    }
    if hasattr(optimizers, "LM"):
        ways["lm, jacobian"] = lambda: fit(optimizers.LM(), jacobian=jacobian)
    return ways


def _peers(t, y):
    X = t[:, None]

    def objective(x):
        loss, grads = loss_and_gradient(x, X, y)
        return loss, np.array(grads)

    def minimize():
        return scipy.optimize.minimize(
            objective, np.array(START), jac=True, method="L-BFGS-B", options={"gtol": TOL, "ftol": 0.0}
        ).x

    def least_squares(method):
        return scipy.optimize.least_squares(
            lambda x: curve(t, *x) - y, START, jac=lambda x: slopes(t, *x), method=method
        ).x

    return {
        "scipy minimize, L-BFGS-B": minimize,
        "scipy least_squares, trf": lambda: least_squares("trf"),
        "scipy least_squares, lm": lambda: least_squares("lm"),
        "scipy curve_fit": lambda: scipy.optimize.curve_fit(curve, t, y, p0=START, jac=slopes)[0],
        "lmfit": _lmfit(t, y),
    }


def _lmfit(t, y):
    """Return lmfit's fit of the curve, or None."""
    lmfit = peers.find("lmfit")
    if lmfit is None:
        return None
    names = "height", "rate", "floor"
    start = lmfit.create_params(**dict(zip(names, START, strict=True)))

    def values(params):
        return [params[name].value for name in names]

    def fit():
        return values(
            lmfit.minimize(
                lambda p: curve(t, *values(p)) - y, start, Dfun=lambda p: slopes(t, *values(p)), col_deriv=False
            ).params
        )

    return fit


def _predict(options):
    """Compare predict of one row."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N_ROWS, 3))
    y = X @ [1.0, 2.0, 3.0] + 0.1 * rng.standard_normal(N_ROWS)
    ours = AnalyticRegressor(optimizer="lbfgs", tol=1e-10).fit(X, y)
    theirs = LinearRegression().fit(X, y)
    row = X[:1]
    pair = compare(lambda: ours.predict(row), lambda: theirs.predict(row), **options.pairing)
    difference = float(abs(ours.predict(row) / theirs.predict(row) - 1)[0])
    return Figure.of(
        ROW, "predict of one row", "LinearRegression", pair, goal=1.3, difference=difference, tolerance=SAME_LOSS
    )


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
