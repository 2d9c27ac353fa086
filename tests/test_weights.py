"""Weights equal row repetition: exactly in a full batch, in expectation in minibatches.

Every loss by name in every gradient form. In a full batch, each step and each entry of the loss curve is that of
the repeated rows, to rounding. A minibatch divides by its number of rows, not by its weights: only then is the
average over runs that of the repeated rows.
"""

import numpy as np
import pytest
from models import linear_forward, linear_vjp
from numpy.testing import assert_allclose
from sklearn.base import clone

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, get_loss, get_loss_names
from sk_analytic.model.gradient_forms import GRADIENT_FORMS

# Runs are a few steps long.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, N_FEATURES = 60, 3
X = np.random.default_rng(0).normal(size=(N, N_FEATURES))
NOISE = np.random.default_rng(1).normal(size=(N, 3))
SCORES = X @ [[1, 2, -1], [0.5, -1, 1], [-1, 1, 0.5]] + NOISE
REPEATS = np.arange(N) % 4

# A linear model, and a Gaussian of unit variance for the density: predictions, and what pulls a derivative back.


def linear_init(n_features, n_outputs):
    outputs = () if n_outputs == 1 else (n_outputs,)
    return {"W": np.full((n_features, *outputs), 0.1), "b": np.full(outputs, 0.2)}


def linear_jacobian(params, X):
    outputs = np.shape(params["b"])
    each = np.eye(*outputs, *outputs) if outputs else np.ones(())
    by_W = np.multiply.outer(X, each) if not outputs else np.einsum("if,jk->ijfk", X, each)
    return {"W": by_W, "b": np.broadcast_to(each, (len(X), *each.shape))}


def gaussian_init(n_features):
    return {"mean": np.full(n_features, 0.3)}


def gaussian(params, X):
    return -0.5 * ((X - params["mean"]) ** 2 + np.log(2 * np.pi)).sum(axis=1)


def gaussian_vjp(params, X):
    return gaussian(params, X), lambda d: {"mean": d @ (X - params["mean"])}


def gaussian_jacobian(params, X):
    return {"mean": X - params["mean"]}


def with_form(cls, form, loss):
    """An estimator whose gradient is given in a form; a gradient of a loss weighs by itself."""
    density = cls is AnalyticDensity
    forward, vjp, jacobian, init = (
        (gaussian, gaussian_vjp, gaussian_jacobian, gaussian_init)
        if density
        else (linear_forward, linear_vjp, linear_jacobian, linear_init)
    )

    def loss_and_gradient(params, X, y=None, sample_weight=None):
        prediction, pullback = vjp(params, X)
        values, derivative = get_loss(loss).value_and_derivative(y, prediction)
        share = (np.ones(len(X)) if sample_weight is None else sample_weight) / len(X)
        return share @ values, pullback((share * derivative.T).T)

    def gradient(params, X, y=None, sample_weight=None):
        return loss_and_gradient(params, X, y, sample_weight)[1]

    given = {"gradient": gradient, "loss_and_gradient": loss_and_gradient, "vjp": vjp, "jacobian": jacobian}
    return cls(forward, init=init, loss=loss, random_state=0, **{form: given[form]})


POSITIVE = np.exp(0.3 * SCORES[:, 0])
TARGETS = {
    "log_loss": [
        ("two classes", AnalyticClassifier, (SCORES[:, 0] > 0).astype(int)),
        ("three classes", AnalyticClassifier, SCORES.argmax(axis=1)),
        ("labels", AnalyticClassifier, (SCORES > 0).astype(int)),
    ],
    "negative_log_likelihood": [("density", AnalyticDensity, None)],
}
CASES = {
    f"{loss} of {kind}, {form}": (with_form(cls, form, loss), y)
    for loss in get_loss_names()
    for kind, cls, y in TARGETS.get(
        loss, [("one column", AnalyticRegressor, POSITIVE), ("several", AnalyticRegressor, np.exp(0.3 * SCORES))]
    )
    for form in GRADIENT_FORMS
}
EACH_CASE = pytest.mark.parametrize(("estimator", "y"), CASES.values(), ids=CASES)


def both(estimator, y, **settings):
    """The fit to weighted rows, and the fit to repeated ones."""
    model = clone(estimator).set_params(**settings)
    weighted = clone(model).fit(X, y, sample_weight=REPEATS)
    return weighted, clone(model).fit(
        np.repeat(X, REPEATS, axis=0), None if y is None else np.repeat(y, REPEATS, axis=0)
    )


def assert_same_fit(ours, expected, **tolerance):
    for name, block in expected.params_.items():
        assert_allclose(ours.params_[name], block, **tolerance)
    assert_allclose(ours.loss_curve_, expected.loss_curve_, **tolerance)


@EACH_CASE
def test_a_full_batch_is_that_of_repeated_rows(estimator, y):
    """Value and gradient, seen in steps of plain descent, whose length is the gradient's."""
    settings = {"optimizer": "sgd", "optimizer__learning_rate": 0.05, "batch_size": 1000, "max_iter": 4}
    assert_same_fit(*both(estimator, y, **settings), rtol=1e-11, atol=1e-14)


@EACH_CASE
def test_a_full_batch_method_goes_the_way_of_repeated_rows(estimator, y):
    """Iterate by iterate, the line search included; with the rows in parts too, whose sums are merged."""
    weighted, repeated = both(estimator, y, optimizer="lbfgs", max_iter=5, alpha=0.1)
    assert_same_fit(weighted, repeated, rtol=1e-6, atol=1e-9)
    in_parts, _ = both(estimator, y, optimizer="lbfgs", max_iter=5, alpha=0.1, batch_size=7)
    assert_same_fit(in_parts, repeated, rtol=1e-6, atol=1e-9)


# Minibatches: a twentieth of the rows has weight 20, and pulls where the others do not.

N_ROWS, BATCH, N_RUNS, RATE = 100, 10, 30, 0.003
HEAVY = np.arange(N_ROWS) % 20 == 0
WEIGHT = np.where(HEAVY, 20, 1)
ROWS = np.random.default_rng(2).normal(size=(N_ROWS, 2)) + HEAVY[:, None]
VALUES = ROWS @ [0.5, -0.5] + 3.0 * HEAVY
ZERO = {"coef": np.zeros(2), "intercept": 0.0}
GAUSSIAN = {"mean": np.zeros(2), "log_scale": np.zeros(2), "smallest_scale": 0.01}
RUNS = {
    **{f"regression, {form}": (with_form(AnalyticRegressor, form, "squared_error"), VALUES) for form in GRADIENT_FORMS},
    "default classification": (AnalyticClassifier(init=ZERO), VALUES > 1),
    "default density": (AnalyticDensity(init=GAUSSIAN, fixed=["log_scale"]), None),
}


def repeated_rows(y):
    return np.repeat(ROWS, WEIGHT, axis=0), None if y is None else np.repeat(y, WEIGHT)


def ends(estimator, X, y, weight=None, *, n_runs=N_RUNS, **settings):
    """Where short runs of plain descent end, a row a seed."""
    model = clone(estimator).set_params(optimizer="sgd", optimizer__learning_rate=RATE, batch_size=BATCH)
    model.set_params(check_gradient=False, **settings)
    runs = [clone(model).set_params(random_state=seed).fit(X, y, weight) for seed in range(n_runs)]
    return np.array([np.concatenate([np.ravel(block) for block in run.params_.values()]) for run in runs])


def start(estimator, y):
    """Where they begin."""
    return ends(estimator, ROWS, y, n_runs=1, max_iter=1, optimizer__learning_rate=1e-300)[0]


@pytest.mark.parametrize(("estimator", "y"), RUNS.values(), ids=RUNS)
def test_minibatches_are_in_expectation_those_of_repeated_rows(estimator, y):
    """Twenty steps each, in two epochs of weighted rows or one of repeated ones: on average the same way."""
    weighted = ends(estimator, ROWS, y, WEIGHT, max_iter=2)
    repeated = ends(estimator, *repeated_rows(y), max_iter=1)
    moved = repeated.mean(axis=0) - start(estimator, y)
    assert np.linalg.norm(weighted.mean(axis=0) - repeated.mean(axis=0)) < 0.02 * np.linalg.norm(moved)


def test_dividing_a_minibatch_by_its_weights_would_be_noticed():
    """The same runs by hand: with the number of rows they end where `fit` does, with the sum of weights far off."""
    by_fit = ends(AnalyticRegressor(init=ZERO), ROWS, VALUES, WEIGHT, max_iter=2).mean(axis=0)
    scaled = WEIGHT / WEIGHT.mean()

    def by_hand(divisor):
        found = []
        for seed in range(N_RUNS):
            rng, theta = np.random.default_rng(seed), np.zeros(3)
            for rows in np.concatenate([rng.permutation(N_ROWS) for _ in range(2)]).reshape(-1, BATCH):
                A, w = np.column_stack([ROWS[rows], np.ones(BATCH)]), scaled[rows]
                theta = theta - RATE * A.T @ (w * (A @ theta - VALUES[rows])) / divisor(w)
            found.append(theta)
        return np.mean(found, axis=0)

    assert np.linalg.norm(by_fit - by_hand(len)) < 0.02 * np.linalg.norm(by_fit)
    assert np.linalg.norm(by_fit - by_hand(np.sum)) > 0.3 * np.linalg.norm(by_fit)


@pytest.mark.parametrize(("estimator", "y"), RUNS.values(), ids=RUNS)
def test_the_batches_of_an_epoch_add_up_to_the_repeated_rows(estimator, y):
    """Where θ hardly moves, an epoch of weighted batches is a step on all repeated rows, whatever the order."""
    settings = {"optimizer__learning_rate": 1e-7, "max_iter": 1}
    epochs = ends(estimator, ROWS, y, WEIGHT, **settings) - start(estimator, y)
    step = ends(estimator, *repeated_rows(y), **settings, n_runs=1, batch_size=1000) - start(estimator, y)
    assert_allclose(epochs, np.repeat(10 * step, N_RUNS, axis=0), rtol=1e-4, atol=1e-12)
