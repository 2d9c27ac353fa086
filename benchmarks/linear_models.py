"""Logistic and linear regression to a given held-out loss, against scikit-learn's linear models.

Every side gets the rate and the number of epochs (iterations) with which it comes soonest within 0.1 % of the
best loss of held-out rows; then those fits are timed. What finds the optimum in one go is timed as it is.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor

from sk_analytic import AnalyticClassifier, AnalyticRegressor
from sk_analytic.optimizers import LBFGS, Adam

from .figures import Figure
from .timing import compare, per_call

ROW = "linear_models"
SIZES = (100_000,)
FEATURES = 20
TARGET = 1.001  # times the best held-out loss
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
LONGEST = 12  # epochs that are tried
GOAL = 1 / 2.3  # for logistic regression, whatever the peer


class Task(NamedTuple):
    """Rows to learn from, rows held out, and the loss there."""

    name: str
    train: tuple
    held_out: tuple
    loss: Callable

    def reached(self, coef, intercept):
        """Return the held-out loss of a linear model."""
        X, y = self.held_out
        return float(self.loss(y, X @ np.ravel(coef) + np.ravel(intercept)[0]))


def log_loss(y, score):
    """Return the mean log loss."""
    return np.mean(np.logaddexp(0, score) - y * score)


def squared_loss(y, prediction):
    """Return half the mean squared error."""
    return 0.5 * np.mean((prediction - y) ** 2)


def measure(options):
    """Yield a figure for each task and peer, for our minibatch Adam and our L-BFGS."""
    for dtype in options.dtypes:
        for n in options.sizes_or(SIZES, (5_000,)):
            for task in (logistic_task(n, dtype), linear_task(n, dtype)):
                if options.picks(task.name):
                    yield from _compare_all(options, task, f"{task.name} n={n} {dtype}")


def _draw(n, dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n + n // 4, FEATURES))
    return rng, X.astype(dtype), X @ rng.standard_normal(FEATURES) / np.sqrt(FEATURES) + 0.5


def logistic_task(n, dtype):
    """Return two classes whose log-odds are linear."""
    rng, X, score = _draw(n, dtype)
    y = (rng.random(len(X)) < expit(2 * score)).astype(int)
    return Task("logistic", (X[:n], y[:n]), (X[n:].astype(float), y[n:]), log_loss)


def linear_task(n, dtype):
    """Return a linear mean with noise."""
    rng, X, score = _draw(n, dtype)
    y = (score + rng.standard_normal(len(X))).astype(dtype)
    return Task("linear", (X[:n], y[:n]), (X[n:].astype(float), y[n:].astype(float)), squared_loss)


def _compare_all(options, task, case):
    best = min(_reached(task, make)[1] for make in _exact(task))
    sides = {}
    for name, makers in {**_ours(task), **_peers(task)}.items():
        sides[name] = _fastest(task, makers, TARGET * best)
    for ours in _ours(task):
        for peer in _peers(task):
            if not options.meets(peer):
                continue
            described = f"{case}, our {ours}"
            missing = [name for name in (ours, peer) if sides[name] is None]
            if missing:
                yield Figure(ROW, described, peer, note=f"{missing[0]} does not come within 0.1 % of the best loss")
                continue
            (make, words, loss), (make_peer, peer_words, peer_loss) = sides[ours], sides[peer]
            pair = compare(partial(_fit, task, make), partial(_fit, task, make_peer), **options.pairing)
            yield Figure.of(
                ROW,
                described,
                peer,
                pair,
                goal=GOAL if task.name == "logistic" else None,
                difference=max(loss, peer_loss) / best - 1,
                tolerance=TARGET - 1 + 1e-9,
                note=f"{words} against {peer_words}",
            )


def _fit(task, make):
    return make().fit(*task.train)


def _reached(task, make):
    """Return a fitted model and its held-out loss."""
    model = _fit(task, make)
    coef = (model.params_["coef"], model.params_["intercept"]) if hasattr(model, "params_") else None
    return model, task.reached(*(coef or (model.coef_, model.intercept_)))


def _fastest(task, makers, target):
    """Return the maker that reaches the target soonest, with its words and loss; None if none does."""
    reaching = []
    for words, make in makers.items():
        for epochs in range(1, LONGEST + 1):
            made = partial(make, epochs)
            loss = _reached(task, made)[1]
            if loss <= target:
                seconds = per_call(partial(_fit, task, made), repetitions=2, sample=0.0).low
                reaching.append((seconds, made, f"{words} x{epochs}", loss))
                break
    return min(reaching, key=lambda found: found[0])[1:] if reaching else None


def _exact(task):
    """Return makers of models that go to the optimum."""
    if task.name == "logistic":
        return [partial(LogisticRegression, C=np.inf, tol=1e-10, max_iter=1_000)]
    return [LinearRegression]


def _ours(task):
    kind = AnalyticClassifier if task.name == "logistic" else AnalyticRegressor

    def adam(rate, batch_size, epochs):
        return kind(
            optimizer=Adam(learning_rate=rate),
            batch_size=batch_size,
            max_iter=epochs,
            tol=0.0,
            random_state=0,
        )

    def lbfgs(epochs):
        return kind(optimizer=LBFGS(), max_iter=epochs, tol=1e-4)

    batches = {f"rate {r}, batch {b}": partial(adam, r, b) for r in RATES for b in (200, 1_000)}
    return {"adam": batches, "lbfgs": {"lbfgs": lbfgs}}


def _peers(task):
    def sgd(kind, rate, average, epochs, **settings):
        return kind(
            alpha=0.0,
            penalty=None,
            learning_rate="invscaling",
            eta0=rate,
            average=average,
            max_iter=epochs,
            tol=None,
            random_state=0,
            **settings,
        )

    settings = {"loss": "log_loss"} if task.name == "logistic" else {}
    kind = SGDClassifier if task.name == "logistic" else SGDRegressor
    rates = {
        f"rate {r}{', averaged' if average else ''}": partial(sgd, kind, r, average, **settings)
        for r in RATES
        for average in (False, True)
    }
    if task.name == "linear":
        return {"SGDRegressor": rates, "LinearRegression": {"exact": lambda epochs: LinearRegression()}}
    lbfgs = {"lbfgs": lambda epochs: LogisticRegression(C=np.inf, max_iter=epochs)}
    return {
        "SGDClassifier": rates,
        "LogisticRegression": lbfgs,
        "SGDClassifier default": {"as it is": lambda epochs: SGDClassifier(loss="log_loss", random_state=0)},
        "LogisticRegression default": {"as it is": lambda epochs: LogisticRegression()},
    }


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
