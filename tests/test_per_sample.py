"""Gradients of one sample: ``gradient(params, x, y, out)`` gives what a gradient of whole batches gives."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from sk_analytic import AnalyticDensity, AnalyticRegressor, check_gradient
from sk_analytic.exceptions import ParameterStructureError, ReceivedArgumentError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(203, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 + 0.1 * RNG.normal(size=203)
WEIGHTS = RNG.integers(0, 3, 203).astype(float)
SCALE = RNG.uniform(0.5, 2, 203)
START = {"w": np.array([0.1, 0.2, -0.1]), "b": 0.0}


def forward(params, X):
    """A line."""
    return X @ params["w"] + params["b"]


def of_batch(params, X, y, sample_weight=None, scale=None):
    """Half the mean square and its gradient."""
    weight = np.ones(len(y)) if sample_weight is None else sample_weight
    scale = 1.0 if scale is None else scale
    residual = forward(params, X) - y
    pull = residual * weight * scale
    return 0.5 * np.mean(residual * pull), {"w": X.T @ pull / len(y), "b": pull.mean()}


def of_sample(params, x, y, out, scale=1.0):
    """The same of one sample."""
    residual = x @ params["w"] + params["b"] - y
    out["w"][...] = scale * residual * x
    out["b"][...] += scale * residual
    return 0.5 * scale * residual**2


def gradient_of_batch(params, X, y, sample_weight=None, scale=None):
    """Without the loss."""
    return of_batch(params, X, y, sample_weight, scale)[1]


def gradient_of_sample(params, x, y, out, scale=1.0):
    """Likewise."""
    of_sample(params, x, y, out, scale)


FORMS = {
    "loss_and_gradient": (of_batch, of_sample),
    "gradient": (gradient_of_batch, gradient_of_sample),
}
CASES = {
    "plain": ({}, {}),
    "weights": ({"sample_weight": WEIGHTS}, {}),
    "metadata": ({"scale": SCALE}, {"loss": None}),
    "penalty": ({}, {"alpha": 0.3}),
    "fixed": ({}, {"fixed": ["b"]}),
    "full batch": ({}, {"optimizer": "lbfgs"}),
    "one row a batch": ({}, {"batch_size": 1}),
    "bounds": ({}, {"bounds": {"w": (-0.5, 0.5)}}),
}


@pytest.mark.filterwarnings("ignore:.*has not converged")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_same_as_the_gradient_of_a_batch(form, case):
    """In both forms that have one, with all that a fit may have beside."""
    fit, settings = CASES[case]
    if form == "loss_and_gradient":
        settings = {name: value for name, value in settings.items() if name != "loss"}
    settings = {
        "init": START,
        "optimizer": "adam",
        "batch_size": 16,
        "max_iter": 4,
        "tol": None,
        "random_state": 0,
    } | settings
    if settings["optimizer"] == "lbfgs" and form == "gradient":
        settings["loss"] = "squared_error"
    models = [AnalyticRegressor(forward, **{form: function}, **settings).fit(X, Y, **fit) for function in FORMS[form]]
    for name in START:
        np.testing.assert_allclose(models[0].params_[name], models[1].params_[name], rtol=1e-10, atol=1e-12)


def test_the_doctor_judges_it():
    """Right and wrong ones alike."""
    model = AnalyticRegressor(forward, loss_and_gradient=of_sample, init=START)
    assert check_gradient(model, X, Y).ok

    def wrong(params, x, y, out):
        loss = of_sample(params, x, y, out)
        out["b"][...] *= -1
        return loss

    assert check_gradient(AnalyticRegressor(forward, loss_and_gradient=wrong, init=START), X, Y).wrong == ("b",)


@pytest.mark.filterwarnings("ignore:.*has not converged")
def test_densities_have_no_y():
    """``gradient(params, x, out)``."""

    def gradient(params, x, out):
        out[0][...] = params[0] - x

    model = AnalyticDensity(
        lambda params, X: -0.5 * np.sum((X - params[0]) ** 2, axis=1), gradient, init=(np.zeros(3),), optimizer="lbfgs"
    )
    np.testing.assert_allclose(model.fit(X).params_[0], X.mean(axis=0), atol=1e-3)


def fit(**given):
    """Fit a regressor to something."""
    return AnalyticRegressor(forward, init=START, check_gradient=False, **given).fit(X, Y)


def test_what_does_not_go_together_is_said():
    """Weights and random numbers as arguments, sums, sparse matrices, results that are none."""

    def with_weight(params, x, y, out, sample_weight):
        """Weigh."""

    def with_rng(params, x, y, out, rng):
        """Draw."""

    with pytest.raises(ReceivedArgumentError, match="'out'.* also\\s+has 'sample_weight': the estimator multiplies"):
        fit(gradient=with_weight)
    with pytest.raises(ReceivedArgumentError, match="has 'rng': random numbers belong to a batch"):
        fit(gradient=with_rng)
    with pytest.raises(ValueError, match="reduction='sum' does not apply to a gradient of one sample"):
        fit(gradient=gradient_of_sample, reduction="sum")
    with pytest.raises(TypeError, match=r"must write the gradient of one sample there and return nothing; it returned"):
        fit(gradient=of_sample)
    with pytest.raises(
        ParameterStructureError, match="return the loss of that sample, one real number; it returned None"
    ):
        fit(loss_and_gradient=gradient_of_sample)
    model = AnalyticRegressor(
        lambda params, X: X @ params["w"], gradient_of_sample, init=START, accept_sparse=True, check_gradient=False
    )
    with pytest.raises(TypeError, match=r"X is a sparse matrix\. Pass X\.toarray\(\)"):
        model.fit(csr_matrix(X), Y)


def test_the_row_of_an_error_is_told():
    """As a note beside that of the batch."""

    def failing(params, x, y, out):
        if y > 2:
            raise ZeroDivisionError
        of_sample(params, x, y, out)

    with pytest.raises(ZeroDivisionError) as caught:
        fit(gradient=failing)
    assert any("It was called for sample" in note for note in caught.value.__notes__)


def test_shapes_are_those_of_the_parameters():
    """What does not fit into out is numpy's error, and nothing is lost."""

    def wrong(params, x, y, out):
        out["w"][...] = np.ones(2)

    with pytest.raises(ValueError, match="could not broadcast"):
        fit(gradient=wrong)
