"""What is added is one class in one place: each kind is added here, as CONTRIBUTING says, and used everywhere.

Samples of one's own are in test_rows.py, causes of the gradient doctor in test_gradient_doctor.py.
"""

import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV

from sk_analytic import AnalyticRegressor, losses
from sk_analytic.gradient_check import check_gradient
from sk_analytic.losses import Loss
from sk_analytic.optimizers import Chain, Link, Rule, get_optimizer, get_optimizer_names, rules, use_engine
from sk_analytic.optimizers.base import UNIT

X, Y = load_diabetes(return_X_y=True)
Y = (Y - Y.mean()) / Y.std()


class Signed(Rule):
    """The sign of an average of gradients."""

    slots = {"momentum": 0.0}
    ranges = Rule.ranges | {"beta": UNIT}

    def __init__(self, learning_rate=0.01, beta=0.9):
        self.learning_rate = learning_rate
        self.beta = beta

    def coefficients(self, now):
        return (1.0 - self.beta,)

    @staticmethod
    def formula(g, theta, momentum, mix):
        momentum = momentum + mix * (g - momentum)
        return np.sign(momentum), momentum


class Centered(Link):
    """The gradient less its mean over the entries of the block."""

    def __init__(self, share=1.0):
        self.share = share

    @staticmethod
    def measures(g, theta):
        return g, g * g - g * g + theta - theta  # the second is nothing

    def coefficients(self, now):
        return (self.share * now.sums[0] / 10,)

    @staticmethod
    def formula(g, theta, mean):
        return g - mean


class LogCosh(Loss):
    """log cosh of the residual: smooth, and linear for outliers."""

    name = "log_cosh"

    def formula(self, y, prediction):
        residual = prediction - y
        return np.logaddexp(residual, -residual) - math.log(2), np.tanh(residual)


def engines():
    """The engines that are there."""
    return ["numpy", pytest.param("numba", marks=pytest.mark.skipif(not _has_numba(), reason="numba is missing"))]


def _has_numba():
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.fixture
def added(monkeypatch):
    """The rule in a module of its family, as ``from .family import *`` has it there."""
    monkeypatch.setattr(Signed, "__module__", f"{rules.__name__}.sign_based")
    monkeypatch.setattr(rules, "Signed", Signed, raising=False)


@pytest.mark.usefixtures("added")
def test_a_rule_has_a_name_hyperparameters_and_a_place_in_a_grid():
    """All drawn from the class."""
    assert "signed" in get_optimizer_names()
    assert get_optimizer("signed").get_params() == {"learning_rate": 0.01, "beta": 0.9}
    grid = {"optimizer": ["signed", "sgd"], "optimizer__learning_rate": [0.001, 0.01]}
    search = GridSearchCV(AnalyticRegressor(max_iter=5, tol=0.0, n_iter_no_change=9, random_state=0), grid, cv=2)
    with pytest.warns(UserWarning, match=r"The limit of \d+ epochs was reached"):
        search.fit(X, Y)
    assert len(search.cv_results_["params"]) == 4
    with pytest.raises(ValueError, match=r"Signed: beta must be a number in \[0, 1\)"):
        AnalyticRegressor(optimizer=Signed(beta=2.0)).fit(X, Y)


@pytest.mark.parametrize("engine", engines())
@pytest.mark.parametrize("optimizer", [Signed(), Chain([Centered(), Signed()])], ids=["rule", "link"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rules_and_links_run_in_both_engines_and_resume(optimizer, engine, dtype, rng):
    """As the formula says, to the bit in either engine, in θ's dtype, also after a copy in the middle."""
    theta, expected = np.ones(10, dtype), np.ones(10, dtype)
    with use_engine(engine):
        state = optimizer.init(theta)
    with use_engine("numpy"):
        reference = optimizer.init(expected)
    for step in range(6):
        g = rng.normal(size=10).astype(dtype)
        optimizer.update(state, theta, g)
        optimizer.update(reference, expected, g)
        if step == 2:
            state, optimizer = pickle.loads(pickle.dumps(state)), clone(optimizer)
    assert theta.dtype == dtype
    assert_array_equal(theta, expected)
    assert len(np.unique(theta)) > 1


def test_a_loss_serves_every_form_that_composes_it(monkeypatch):
    """By name, as an object, in fit and in the gradient check."""
    monkeypatch.setitem(losses.LOSSES, LogCosh.name, LogCosh)
    by_name = AnalyticRegressor(loss="log_cosh", optimizer="lbfgs", tol=1e-8).fit(X, Y)
    by_object = AnalyticRegressor(loss=LogCosh(), optimizer="lbfgs", tol=1e-8).fit(X, Y)
    assert_array_equal(by_name.coef_, by_object.coef_)
    residual = by_name.predict(X) - Y
    assert_allclose(X.T @ np.tanh(residual) / len(X), 0, atol=1e-6)
    assert check_gradient(by_name, X, Y).ok
