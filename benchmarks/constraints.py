"""A step with one constrained block: a fit under a bound, a map or a mask, and the same fit without.

``ours`` and ``theirs`` are seconds a step; the goal, 5 µs more, is written as a ratio of these.
"""

import numpy as np

from sk_analytic import AnalyticRegressor

from .figures import Figure
from .timing import compare

ROW = "constraints"
N_FEATURES = (20, 100_000)
BATCH_SIZE, N_STEPS = 10, 4_000
MORE = 5e-6  # seconds a step
CASES = {
    "bounds of a number": {"bounds": {"scale": (0.1, 10.0)}},
    "bounds of each entry": {"bounds": {"shift": (np.linspace(-5.0, -4.0, 5), None)}},
    "log": {"reparametrize": {"scale": "log"}},
    "logit": {"reparametrize": {"share": "logit"}},
    "simplex": {"reparametrize": {"mixture": "simplex"}},
    "ordered": {"reparametrize": {"shift": "ordered"}},
    "cholesky": {"reparametrize": {"factor": "cholesky"}},
    "mask": {"fixed": {"shift": np.arange(5) < 2}},
}


def measure(options):
    """Yield a figure for each kind of constraint and number of features."""
    for n_features in options.sizes_or(N_FEATURES, (20,)):
        n_steps = max(40, N_STEPS // (10 if options.quick else 1) // max(1, n_features // 1_000))
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(BATCH_SIZE * n_steps, n_features)), rng.normal(size=BATCH_SIZE * n_steps)
        start = {
            "w": np.zeros(n_features),
            "scale": 1.0,
            "share": 0.5,
            "shift": np.arange(5.0),
            "mixture": np.full(5, 0.2),
            "factor": np.eye(3),
        }
        free = _fit(X, y, start, {})
        for case, settings in CASES.items():
            if options.picks(case):
                pair = compare(_fit(X, y, start, settings), free, **options.pairing)
                pair = pair._replace(ours=pair.ours / n_steps, peer=pair.peer / n_steps)
                goal = 1 + MORE / pair.peer
                yield Figure.of(ROW, f"{case}, {n_features} features", "the same without", pair, goal=goal)


def _fit(X, y, start, settings):
    """Return a function that fits: a linear model, and blocks of which the loss has a parabola each."""
    targets = {name: block for name, block in start.items() if name != "w"}

    def loss_and_gradient(params, X, y):
        residual = X @ params["w"] - y
        gradient = {"w": X.T @ residual / len(y)}
        loss = 0.5 * float(residual @ residual) / len(y)
        for name, target in targets.items():
            gradient[name] = params[name] - target
        return loss, gradient

    model = AnalyticRegressor(
        lambda params, X: X @ params["w"],
        loss_and_gradient=loss_and_gradient,
        init=start,
        optimizer="adam",
        batch_size=BATCH_SIZE,
        max_iter=1,
        tol=None,
        check_gradient=False,
        random_state=0,
        **settings,
    )
    return lambda: model.fit(X, y)
