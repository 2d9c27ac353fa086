"""`tol=None`: a fixed number of epochs, or iterations, is the plan, and nothing is judged."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.optimizers import Adam, Phases, get_optimizer, get_optimizer_names
from sk_analytic.optimizers.scipy_methods import FullBatch

CLASSES = (AnalyticRegressor, AnalyticClassifier, AnalyticDensity, AnalyticTransformer)
NAMES = get_optimizer_names()
FULL_BATCH = [name for name in NAMES if isinstance(get_optimizer(name), FullBatch)]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * RNG.normal(size=60)


def forward(params, X):
    return X @ params["w"] + params["b"]


def jacobian(params, X):
    return {"w": X, "b": np.ones(len(X))}


def gradient(params, X, y):
    residual = forward(params, X) - y
    return {"w": X.T @ residual / len(X), "b": residual.mean()}


START = {"w": np.zeros(3), "b": 0.0}


def line(**settings):
    given = {"jacobian": jacobian, "optimizer": "adam", "tol": None, "random_state": 0} | settings
    return AnalyticRegressor(forward, init=START, **given)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("cls", CLASSES)
def test_all_epochs_are_trained_and_nothing_is_said(cls, early_stopping):
    """In every estimator, though the patience is a single epoch and nothing has converged; in chunks too."""
    y = {AnalyticRegressor: Y, AnalyticClassifier: Y > 0}.get(cls)
    settings = {"max_iter": 7, "n_iter_no_change": 1, "early_stopping": early_stopping, "random_state": 0}
    model = cls(tol=None, optimizer=Adam(1e-12), **settings).fit(X, y)
    assert model.n_iter_ == 7
    chunks = cls(tol=None, optimizer=Adam(1e-12), **settings).fit_chunks([X if y is None else (X, y)])
    assert chunks.n_iter_ == 7
    assert model.set_params(early_stopping=False, warm_start=True).fit(X, y).n_iter_ == 14


def test_it_is_what_an_infinite_patience_is():
    """To the bit; where there is no loss, and with early stopping, whose best epoch is kept, too."""
    for settings in ({}, {"early_stopping": True}, {"gradient": gradient, "jacobian": None, "loss": None}):
        planned = line(max_iter=9, **settings).fit(X, Y)
        patient = line(max_iter=9, tol=1e-4, n_iter_no_change=np.inf, **settings).fit(X, Y)
        assert planned.n_iter_ == patient.n_iter_ == 9
        assert_array_equal(planned.params_["w"], patient.params_["w"])


def test_other_warnings_are_given():
    """A loss that rises is no plan."""
    with pytest.warns(ConvergenceWarning, match="The loss increased from"):
        line(optimizer="sgd", max_iter=2).set_params(optimizer__learning_rate=2.5).fit(X, Y)


@pytest.mark.parametrize("name", FULL_BATCH)
def test_a_full_batch_method_takes_its_iterations(name):
    """As many as were planned, or as far as rounding lets it go; neither is a warning."""
    assert line(optimizer=name, max_iter=1).fit(X, Y).n_iter_ == 1
    if name != "trust-krylov":  # which multiplies by infinity where it cannot go on
        model = line(optimizer=name, max_iter=60).fit(X, Y)
        expected = np.linalg.lstsq(np.c_[X, np.ones(len(X))], Y, rcond=None)[0]
        np.testing.assert_allclose([*model.params_["w"], model.params_["b"]], expected, rtol=1e-6)


def test_phases_take_their_iterations():
    """Each of them."""
    assert line(optimizer=Phases([("adam", 5), ("lbfgs", 3)])).fit(X, Y).n_iter_ == 8


@pytest.mark.parametrize("name", ["lbfgs", "bfgs", "cg", "lm", "trf"])
def test_a_method_that_cannot_begin_is_told(name):
    """A line search that fails at once is nearly always a wrong gradient, planned or not."""

    def turned(params, X):
        return {block: -leaf for block, leaf in jacobian(params, X).items()}

    with pytest.warns(ConvergenceWarning, match="gradient is nearly always wrong"):
        line(optimizer=name, jacobian=turned, check_gradient=False).fit(X, Y)
