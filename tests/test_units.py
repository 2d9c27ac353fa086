"""Units do not matter to a full-batch method: it finds the same estimate whatever y, θ and X are measured in."""

import functools
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import LbfgsInvHessProduct, curve_fit
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from sk_analytic import AnalyticClassifier, AnalyticRegressor, get_optimizer, get_optimizer_names
from sk_analytic.objective import Objective
from sk_analytic.optimizers import BFGS, LBFGS, TNC, NewtonCG, TrustConstr
from sk_analytic.optimizers.scipy_methods import FullBatch
from sk_analytic.training.units import CenteredUnits, MatrixUnits, Units, measured

METHODS = [name for name in get_optimizer_names() if isinstance(get_optimizer(name), FullBatch)]
GRADIENT_METHODS = [name for name in METHODS if not get_optimizer(name).residuals]
SCALES = (1e-6, 1e-3, 1e3, 1e6)
UNITS = [{}, *({name: scale} for name in ("y", "theta", "X") for scale in SCALES)]

each_gradient_method = pytest.mark.parametrize("method", GRADIENT_METHODS)

RNG = np.random.default_rng(0)
TIME = np.linspace(0.1, 3, 40)
DECAY = 2.5 * np.exp(-1.3 * TIME) + 0.05 * RNG.normal(size=40)
ROWS = RNG.normal(size=(80, 2))
SCORE = 0.5 + ROWS @ [0.4, -0.7]
COUNTS = RNG.poisson(np.exp(SCORE)).astype(float)
LABELS = (RNG.random(80) < 1 / (1 + np.exp(-SCORE))).astype(float)


def decay(form, y=1.0, theta=1.0, X=1.0):
    """An exponential decay, θ one array: settings of an estimator, rows, and what undoes the units."""

    def vjp(params, X):
        height, rate = params * theta
        falling = np.exp(-rate * X[:, 0])

        def pullback(d):
            return np.array([theta * (d @ falling), -theta * height * (d @ (X[:, 0] * falling))])

        return height * falling, pullback

    def loss_and_gradient(params, X, y):
        prediction, pullback = vjp(params, X)
        residual = prediction - y
        return 0.5 * np.mean(residual**2), pullback(residual / len(y))

    given = {"vjp": vjp} if form == "vjp" else {"forward": lambda params, X: vjp(params, X)[0], "loss": None}
    if form != "vjp":
        given["loss_and_gradient"] = loss_and_gradient
    start = np.array([1.0 * y, 0.5 / X]) / theta
    return given | {"init": start}, TIME[:, None] * X, DECAY * y, lambda params: params * theta * [1 / y, X]


def likelihood(name, targets, form, start, y=1.0, theta=1.0, X=1.0):
    """A generalized linear model; the unit of y is that of the loss, where it is the user's own."""
    inverse_link = np.exp if name == "poisson" else lambda score: 1 / (1 + np.exp(-score))
    unit = y if form == "callable" else 1.0

    def forward(params, X):
        return theta * (params["b"] + X @ params["w"])

    def gradient(params, X, y):
        residual = unit * theta * (inverse_link(forward(params, X)) - y)
        return {"b": residual.mean(), "w": X.T @ residual / len(y)}

    def loss(params, X, y):
        score = forward(params, X)
        partition = np.exp(score) if name == "poisson" else np.logaddexp(0, score)
        return unit * np.mean(partition - y * score)

    init = {"b": start / theta, "w": np.full(2, start / theta / X)}
    settings = {"forward": forward, "gradient": gradient, "loss": loss if form == "callable" else name, "init": init}
    return settings, ROWS * X, targets, lambda params: theta * np.array([params["b"], *(params["w"] * X)])


def decay_of_scipy():
    return curve_fit(lambda t, h, r: h * np.exp(-r * t), TIME, DECAY, [1.0, 0.5], ftol=1e-15, xtol=1e-15)[0]


def model_of_scikit_learn(model, targets):
    fitted = model.fit(ROWS, targets)
    return np.append(fitted.intercept_, fitted.coef_)


poisson = functools.partial(model_of_scikit_learn, PoissonRegressor(alpha=0, tol=1e-12, solver="newton-cholesky"))
logistic = functools.partial(model_of_scikit_learn, LogisticRegression(C=1e20, tol=1e-12, solver="newton-cholesky"))
PROBLEMS = {
    "decay, vjp": (functools.partial(decay, "vjp"), decay_of_scipy),
    "decay, loss_and_gradient": (functools.partial(decay, "loss_and_gradient"), decay_of_scipy),
    "poisson, by name": (functools.partial(likelihood, "poisson", COUNTS, "name", 0.1), lambda: poisson(COUNTS)),
    "logistic, own loss": (functools.partial(likelihood, "logit", LABELS, "callable", 0.1), lambda: logistic(LABELS)),
    "poisson, own loss from zero": (
        functools.partial(likelihood, "poisson", COUNTS, "callable", 0.0),
        lambda: poisson(COUNTS),
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
@each_gradient_method
def test_every_method_finds_the_same_estimate_in_any_units(method, problem):
    """That of scipy or scikit-learn, to a millionth, once the units are undone; or it warns, which none does here."""
    stated, reference = PROBLEMS[problem]
    expected = reference()
    for units in UNITS:
        settings, X, y, undo = stated(**units)
        model = AnalyticRegressor(**settings, optimizer=method, tol=1e-8, check_gradient=False).fit(X, y)
        assert_allclose(undo(model.params_), expected, rtol=1e-6, err_msg=str(units))


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
def test_least_squares_find_the_same_estimate_in_any_units(method):
    """By their relative offset, which has no unit."""

    def jacobian(params, X, theta):
        falling = np.exp(-theta * params[1] * X[:, 0])
        return np.stack([theta * falling, -(theta**2) * params[0] * X[:, 0] * falling], axis=1)

    def forward(params, X, theta):
        return theta * params[0] * np.exp(-theta * params[1] * X[:, 0])

    for units in UNITS:
        settings, X, y, undo = decay("vjp", **units)
        given = {"model_params": {"theta": units.get("theta", 1.0)}, "init": settings["init"]}
        model = AnalyticRegressor(forward, jacobian=jacobian, optimizer=method, check_gradient=False, **given).fit(X, y)
        assert_allclose(undo(model.params_), decay_of_scipy(), rtol=1e-6, err_msg=str(units))


def partial_likelihood(params, X, y):
    """Cox's, of rows in the order of their times, and its gradient: no sum over rows."""
    order = np.argsort(y[:, 0])
    X, event = X[order], y[order, 1]
    score = X @ params["w"]
    weight = np.exp(score - score.max())
    at_risk = np.cumsum(weight[::-1])[::-1]
    mean = np.cumsum((weight[:, None] * X)[::-1], axis=0)[::-1] / at_risk[:, None]
    return -np.mean(event * (score - score.max() - np.log(at_risk))), {"w": -event @ (X - mean) / len(y)}


@each_gradient_method
def test_a_loss_that_is_no_sum_over_rows_has_units_too(method):
    """Groups of rows show how much its gradient varies: a tiny gradient in tiny units is no convergence."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 2))
    y = np.column_stack([rng.exponential(np.exp(-X @ [0.4, -0.7])), rng.random(200) < 0.7])
    estimates = []
    for unit in (1.0, *SCALES):
        model = AnalyticRegressor(
            lambda params, X: X @ params["w"],
            loss_and_gradient=partial_likelihood,
            loss=None,
            additive=False,
            init={"w": np.zeros(2)},
            optimizer=method,
            tol=1e-8,
            check_gradient=False,
        )
        estimates.append(model.fit(X * unit, y).params_["w"] * unit)
    assert np.linalg.norm(partial_likelihood({"w": estimates[0]}, X, y)[1]["w"]) < 1e-7
    assert_allclose(estimates, [estimates[0]] * 5, rtol=1e-6)


# How it ends.


ENDS = {
    "ftol": (LBFGS(ftol=0.3), {}),
    "ftol of tnc": (TNC(ftol=1e3), {}),
    "xtol of newton-cg": (NewtonCG(xtol=1e3), {}),
    "xrtol": (BFGS(xrtol=1e3), {}),
    "xtol of trust-constr": (TrustConstr(xtol=1e3), {}),
    "maxfun": (LBFGS(maxfun=3), {}),
    **{f"max_iter of {name}": (name, {"max_iter": 1}) for name in METHODS},
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("unit", SCALES)
def test_an_end_without_a_small_gradient_is_a_warning(end, unit):
    """Whatever ends a method, and however small the gradient is in the user's units."""
    optimizer, settings = ENDS[end]

    def jacobian(params, X):
        falling = np.exp(-params["rate"] * X[:, 0])
        return {"height": falling, "rate": -params["height"] * X[:, 0] * falling}

    def forward(params, X):
        return params["height"] * np.exp(-params["rate"] * X[:, 0])

    start = {"height": 1.0 * unit, "rate": 0.5}
    model = AnalyticRegressor(forward, jacobian=jacobian, init=start, optimizer=optimizer, tol=1e-6, **settings)
    with pytest.warns(ConvergenceWarning, match="larger than tol=1e-06"):
        model.set_params(check_gradient=False).fit(TIME[:, None], DECAY * unit)
    assert not model.optimizer_result_.success


@each_gradient_method
def test_without_a_warning_the_fit_has_converged(method):
    """In a problem where rounding comes before `tol`, it is a success only where nothing smaller can be told."""
    settings, X, y, undo = decay("loss_and_gradient", y=1e-6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = AnalyticRegressor(**settings, optimizer=method, tol=1e-17, check_gradient=False).fit(X, y)
    assert bool(caught) is not model.optimizer_result_.success
    if not caught:
        assert_allclose(undo(model.params_), decay_of_scipy(), rtol=1e-6)


# What comes back is in the user's units.


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("method", ["bfgs", "lbfgs"])
def test_the_inverse_hessian_is_in_the_users_units(method, unit):
    """As that of the objective, which the units of the method have no part in."""
    X = ROWS * [unit, 1.0]
    model = AnalyticRegressor(optimizer=method, tol=1e-10).fit(X, ROWS @ [1.0, 2.0] + COUNTS)
    inverse = model.optimizer_result_.hess_inv
    inverse = inverse.todense() if isinstance(inverse, LbfgsInvHessProduct) else inverse
    design = np.column_stack([X, np.ones(len(X))])
    scales = [1 / unit, 1.0, 1.0]
    expected = np.linalg.inv(design.T @ design / len(X)) / np.outer(scales, scales)
    assert inverse.shape == (3, 3)
    if method == "bfgs":
        assert_allclose(inverse / np.outer(scales, scales), expected, atol=0.1)
    gradient = design.T @ (model.predict(X) - ROWS @ [1.0, 2.0] - COUNTS) / len(X)
    assert_allclose(model.optimizer_result_.jac, gradient, atol=1e-8 * max(1.0, unit))


def test_the_start_is_kept_to_the_bit():
    """A fit that goes on where the last one converged moves nothing, in units in which the start is another number."""
    model = AnalyticRegressor(optimizer="lbfgs", warm_start=True, tol=1e-6).fit(ROWS / 3, COUNTS)
    before = model.params_["coef"].copy()
    assert model.fit(ROWS / 3, COUNTS).optimizer_result_.nit == 0
    np.testing.assert_array_equal(model.params_["coef"], before)


# The measure itself.


def units_of(X, y, weight=None, **settings):
    """Those of the default model, at its start."""
    found = []

    def spy(objective, theta, rows, free, find_size, **given):
        found.append(measured(objective, theta, rows, free, find_size, **given | settings))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sk_analytic.training.full_batch.measured", spy)
        AnalyticRegressor(optimizer="lbfgs", check_gradient=False).fit(X, y, sample_weight=weight)
    return found[0]


def test_diagonal_units_have_one_for_each_entry():
    """In few parameters and in many, where the units are else those of a matrix, or without a common part."""
    many = np.random.default_rng(2).normal(size=(300, 60)) + 100.0
    for X, y, kind in ((ROWS + 100.0, COUNTS, MatrixUnits), (many, many[:, 0], CenteredUnits)):
        assert type(units_of(X, y)) is kind
        units = units_of(X, y, diagonal=True)
        assert type(units) is Units
        n_entries = X.shape[1] + 1
        assert units.unit.shape == (n_entries,)
        z = np.arange(1.0, n_entries + 1)
        assert_allclose(units.leave(z), units.unit * z)
        assert_allclose(units.enter(units.leave(z)), z)
        assert units.hold_everywhere


@pytest.mark.parametrize("n_features", [3, 60])
def test_equal_weights_do_not_matter(n_features):
    """The units of a matrix, and those without a common part."""
    X = np.random.default_rng(2).normal(size=(300, n_features)) + 100.0
    none, two = units_of(X, X[:, 0]), units_of(X, X[:, 0], weight=np.full(300, 2.0))
    z = np.arange(n_features + 1.0)
    assert_allclose(two.leave(z), none.leave(z), rtol=1e-10)
    assert_allclose(two.scale, none.scale)


@pytest.mark.parametrize("alpha", [1e-3, 1e-2, 1e-1])
def test_a_penalty_decides_where_gradients_are_rare(alpha):
    """Pixels that are dark in nearly all digits are held by the penalty alone, and steps in them are as short."""
    X, y = load_digits(return_X_y=True)
    reference = LogisticRegression(C=1 / (alpha * len(y)), max_iter=1000, tol=1e-6).fit(X / 16, y)
    ours = AnalyticClassifier(optimizer="lbfgs", alpha=alpha).fit(X / 16, y)  # a warning would be an error
    assert ours.n_iter_ <= 200
    assert_allclose(ours.params_["coef"].T, reference.coef_, atol=0.02)
    assert_allclose(ours.predict_proba(X / 16), reference.predict_proba(X / 16), atol=0.01)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["jacobian", "vjp", "gradient"])
def test_rows_at_once_have_the_gradients_of_rows_one_by_one(form, weighted, monkeypatch):
    """Every form has the spread that its gradients have if y's mean is predicted, in one unit an entry."""
    X, y = ROWS, COUNTS
    weight = np.linspace(0.5, 2.0, len(y)) if weighted else None

    def forward(params, X):
        return X @ params["w"] + params["b"]

    forms = {
        "jacobian": lambda params, X: {"w": X, "b": np.ones(len(X))},
        "vjp": lambda params, X: (forward(params, X), lambda d: {"w": X.T @ d, "b": d.sum()}),
        "gradient": lambda params, X, y, sample_weight: {
            "w": X.T @ (sample_weight * (forward(params, X) - y)) / len(y),
            "b": np.mean(sample_weight * (forward(params, X) - y)),
        },
    }
    found = []

    def spy(objective: Objective, theta, rows, free, find_size, **given):
        found.append(measured(objective, theta, rows, free, find_size, diagonal=True))
        return found[-1]

    monkeypatch.setattr("sk_analytic.training.full_batch.measured", spy)
    start = {"w": np.full(2, 0.1), "b": 0.3}
    AnalyticRegressor(forward, init=start, optimizer="lbfgs", check_gradient=False, **{form: forms[form]}).fit(
        X, y, sample_weight=weight
    )
    derivative = np.average(y, weights=weight) - y
    gradients = derivative[:, None] * np.column_stack([X, np.ones(len(y))])
    spread = np.sqrt(np.average(gradients**2, axis=0, weights=weight))
    size = np.sqrt(np.average(derivative**2, weights=weight))
    assert_allclose(found[0].unit, 0.1 * size**2 / spread, rtol=1e-10)
    assert_allclose(found[0].scale, 10 / size**2, rtol=1e-10)
