"""Models without any gradient: all blocks in `numerical`, and differences of the loss train them."""

import warnings

import numpy as np
import pytest
from models import (
    USER_MODELS,
    autoencoder_loss,
    coef_forward,
    linear_forward,
    linear_init,
    linear_jacobian,
    linear_loss,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer, check_gradient
from sk_analytic.model.gradient_forms import GRADIENT_FORMS
from sk_analytic.optimizers import get_optimizer, get_optimizer_names
from sk_analytic.optimizers.scipy_methods import FullBatch

pytestmark = pytest.mark.filterwarnings("ignore:numerical")

CLASSES = (AnalyticRegressor, AnalyticClassifier, AnalyticDensity, AnalyticTransformer)
X, LABELS = load_iris(return_X_y=True)
X = scale(X)
Y = X @ [1.0, -2.0, 0.5, 0.0] + np.cos(3 * X[:, 0])
WEIGHT = np.linspace(0.2, 1.8, len(X))
BLOCKS = {
    AnalyticRegressor: ("W", "b"),
    AnalyticClassifier: ("W", "b"),
    AnalyticDensity: ("mean", "log_scale"),
    AnalyticTransformer: (0, 1),
}
FORMS = {
    AnalyticRegressor: "jacobian",
    AnalyticClassifier: "gradient",
    AnalyticDensity: "vjp",
    AnalyticTransformer: "gradient",
}
FULL_BATCH = [name for name in get_optimizer_names() if isinstance(get_optimizer(name), FullBatch)]
PLANNED = {"max_iter": 3, "batch_size": 40, "tol": None, "random_state": 0}


def target(cls):
    return {AnalyticRegressor: Y, AnalyticClassifier: LABELS}.get(cls)


def with_gradient(cls, **settings):
    return cls(**USER_MODELS[cls][FORMS[cls]] | PLANNED | settings)


def without_gradient(cls, **settings):
    """The same model, its gradient taken away."""
    given = {name: value for name, value in USER_MODELS[cls][FORMS[cls]].items() if name not in GRADIENT_FORMS}
    fixed = (2,) if cls is AnalyticTransformer else ()
    return cls(**given | {"numerical": BLOCKS[cls], "fixed": fixed} | PLANNED | settings)


def flat(params):
    leaves = params.values() if isinstance(params, dict) else params
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def fitted(model, rows=X, weight=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows, target(type(model)), sample_weight=weight)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("cls", CLASSES)
def test_differences_train_as_the_gradient_does(cls, optimizer, weight):
    """Every estimator, by minibatches and by full batches: parameters and curves are those of the gradient."""
    ours = fitted(without_gradient(cls, optimizer=optimizer), weight=weight)
    theirs = fitted(with_gradient(cls, optimizer=optimizer), weight=weight)
    rtol, atol = (1e-5, 1e-7) if optimizer == "adam" else (1e-3, 1e-5)  # a line search magnifies what they differ by
    assert_allclose(flat(ours.params_), flat(theirs.params_), rtol=rtol, atol=atol)
    assert ours.n_iter_ == theirs.n_iter_ == 3
    if optimizer == "lbfgs":  # by minibatches the curve is that of a sample of rows, as for the gradient form
        assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-5)


@pytest.mark.parametrize("cls", CLASSES)
def test_differences_serve_every_way_to_train(cls):
    """Pass by pass, in chunks, in single precision, and on sparse rows where the functions take them."""
    model, y = without_gradient(cls), target(cls)
    labels = {"classes": [0, 1, 2]} if cls is AnalyticClassifier else {}
    parts, twin = clone(model), with_gradient(cls)
    for rows in (slice(0, 90), slice(90, 150)):
        beside = () if y is None else (y[rows],)
        parts.partial_fit(X[rows], *beside, **labels)
        twin.partial_fit(X[rows], *beside, **labels)
    assert_allclose(flat(parts.params_), flat(twin.params_), rtol=1e-5, atol=1e-7)
    whole = fitted(clone(model))
    chunks = clone(model).fit_chunks([X if y is None else (X, y)])
    assert_array_equal(flat(chunks.params_), flat(whole.params_))
    assert_allclose(flat(fitted(clone(model), csr_array(X)).params_), flat(whole.params_), rtol=1e-6, atol=1e-8)
    single = fitted(clone(model), X.astype(np.float32))
    assert flat(single.params_).dtype == np.float32
    assert_allclose(flat(single.params_), flat(whole.params_), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", FULL_BATCH)
def test_every_full_batch_method_reaches_the_optimum(optimizer):
    """Least squares included, of which predictions are differenced."""
    model = AnalyticRegressor(linear_forward, init=linear_init, numerical=("W", "b"), optimizer=optimizer)
    model.set_params(tol=1e-6, max_iter=2000).fit(X, Y)
    expected = np.linalg.lstsq(np.c_[X, np.ones(len(X))], Y, rcond=None)[0]
    assert_allclose(flat(model.params_), expected, atol=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_of_the_users_is_differenced(reduction):
    """A callable loss alone, a mean or a sum, in whole and in minibatches; weights reach it."""

    def loss(params, X, y, sample_weight=None):
        return (len(X) if reduction == "sum" else 1) * linear_loss(params, X, y, sample_weight)

    for optimizer in ("lbfgs", "adam"):
        own = AnalyticRegressor(linear_forward, init=linear_init, loss=loss, reduction=reduction, numerical=("W", "b"))
        named = AnalyticRegressor(linear_forward, jacobian=linear_jacobian, init=linear_init)
        settings = PLANNED | {"optimizer": optimizer}
        if optimizer == "lbfgs":  # which knows less of a loss without a name, and comes to the optimum by another way
            settings |= {"max_iter": 200, "tol": 1e-7}
        ours, theirs = (m.set_params(**settings).fit(X, Y, WEIGHT) for m in (own, named))
        assert_allclose(flat(ours.params_), flat(theirs.params_), rtol=1e-5, atol=1e-7)


def test_a_loss_of_the_users_takes_the_place_of_a_default_model_s():
    """The median line of the default model, and its autoencoder with untied weights as it is."""

    def absolute(params, X, y):
        return float(np.mean(np.abs(coef_forward(params, X) - y)))

    settings = {"init": {"coef": np.zeros(X.shape[1]), "intercept": 0.0}, "optimizer": "adam", "max_iter": 20}
    settings |= {"tol": None, "random_state": 0}
    model = AnalyticRegressor(loss=absolute, numerical=("coef", "intercept"), **settings)
    named = AnalyticRegressor(loss="absolute_error", **settings)
    assert_allclose(model.fit(X, Y).coef_, named.fit(X, Y).coef_, rtol=1e-5)

    def reconstruction(params, X):
        return autoencoder_loss([params["components"], params["components"], params["mean"]], X)

    coder = AnalyticTransformer(loss=reconstruction, numerical="components", fixed="mean", optimizer="lbfgs")
    assert coder.set_params(random_state=0).fit(X).loss_ == pytest.approx(
        AnalyticTransformer(optimizer="lbfgs", random_state=0).fit(X).loss_, rel=1e-6
    )


def test_the_cost_is_told():
    """Once, before the first step; blocks that are fixed cost nothing."""
    model = without_gradient(AnalyticRegressor)
    with pytest.warns(
        UserWarning, match="the gradient of 'W', 'b' is computed from finite differences, with 10 evaluations"
    ):
        model.fit(X, Y)
    with pytest.warns(UserWarning, match="the gradient of 'W' is computed from finite differences, with 8 evaluations"):
        model.set_params(fixed="b").fit(X, Y)


def test_there_is_nothing_to_check():
    """The report has no findings, and says so."""
    model = without_gradient(AnalyticRegressor).fit(X, Y)
    for report in (model.gradient_report_, check_gradient(model, X, Y)):
        assert report.ok
        assert report.findings == ()
        assert "Nothing was checked" in str(report)


REFUSED = {
    "a block left out": (
        {"numerical": ("W",)},
        "No gradient is given, and numerical leaves out 'b'. Add every parameter",
    ),
    "a block misspelt": ({"numerical": ("W", "c")}, "numerical names the parameter 'c', which does not exist"),
    "nothing named": (
        {"numerical": ()},
        "Pass exactly one analytic gradient, .*; got none. .* name all parameters in numerical",
    ),
    "no iterable": ({"numerical": None}, "numerical must be a parameter name or several of them; got None"),
    "no loss": ({"loss": None}, r"there is no loss. Name one, or pass a function, loss=function\(params, X, ...\)"),
    "a sum of a loss by name": ({"reduction": "sum"}, "reduction='sum' applies to .*, not to numerical, because"),
    "no model": ({"forward": None}, "init has parameters 'W', 'b'. No callables are given, and the default model has"),
    "no start": ({"init": None}, "init is required if callables are given"),
    "residuals of another loss": (
        {"optimizer": "lm", "loss": "huber"},
        "A least-squares method needs .* got numerical",
    ),
    "weights unknown to the loss": ({"loss": lambda p, X, y: 0.0}, "but loss does not accept sample_weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_differenced_is_refused(case):
    """The message says which block or which argument, and what to do."""
    settings, message = REFUSED[case]
    model = AnalyticRegressor(linear_forward, init=linear_init, numerical=("W", "b")).set_params(**settings)
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(X, Y, WEIGHT)
    assert not hasattr(model, "params_")


def test_parameters_of_one_array_may_have_any_units():
    """NIST's Misra1a, its two parameters as one array: the certified values, five orders of magnitude apart."""
    volume = np.array([77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0])
    pressure = [10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78]

    def forward(params, X):
        return params[0] * (1 - np.exp(-params[1] * X[:, 0]))

    for optimizer in ("lm", "trf", "dogbox"):
        model = AnalyticRegressor(forward, init=np.array([500.0, 1e-4]), numerical="params", optimizer=optimizer)
        model.set_params(tol=1e-9, max_iter=1000).fit(volume[:, None], np.array(pressure))
        assert_allclose(model.params_, [2.3894212918e2, 5.5015643181e-4], rtol=1e-6)
