"""How a full-batch method ends: at a small gradient, or in a word about it; never in invented or infinite numbers."""

import contextlib
import functools
import re
import warnings

import numpy as np
import pytest
from scipy.optimize import curve_fit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor

from sk_analytic import (
    AnalyticDensity,
    AnalyticRegressor,
    DivergenceError,
    ParameterStructureError,
    get_optimizer,
    get_optimizer_names,
)
from sk_analytic.losses import Poisson
from sk_analytic.optimizers import LBFGS, LM, TrustNCG
from sk_analytic.optimizers.scipy_methods import FullBatch

METHODS = [name for name in get_optimizer_names() if isinstance(get_optimizer(name), FullBatch)]
GRADIENT_METHODS = [name for name in METHODS if not get_optimizer(name).residuals]

each_method = pytest.mark.parametrize("method", METHODS)
each_gradient_method = pytest.mark.parametrize("method", GRADIENT_METHODS)


def linear(params, X):
    return X @ params["w"] + params["b"]


def linear_jacobian(params, X):
    return {"w": X, "b": np.ones(len(X), X.dtype)}


def line(method, **settings):
    default = {"init": {"w": np.zeros(3), "b": 0.0}, "max_iter": 300, "random_state": 0, "check_gradient": False}
    return AnalyticRegressor(linear, jacobian=linear_jacobian, optimizer=method, **(default | settings))


def rows(scales=(1.0, 1.0, 1.0), unit=1.0, offset=0.0, dtype=np.float64):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(100, 3))
    y = (Z @ [1.0, 2.0, -1.0] + 0.3 * rng.normal(size=100)) * unit + offset
    return (Z * scales).astype(dtype), y.astype(dtype)


SILENT_OR_SMALL = {
    "plain": {},
    "y in millions": {"unit": 1e6},
    "y in milliards": {"unit": 1e9},
    "features on three scales": {"scales": (1.0, 1e6, 1e-3)},
    "an offset of a million": {"offset": 1e6},
    "float32": {"dtype": np.float32},
    "float32, y in thousands": {"dtype": np.float32, "unit": 1e3},
}


@pytest.mark.parametrize("tol", [1e-4, 1e-8])
@pytest.mark.parametrize("data", SILENT_OR_SMALL.values(), ids=SILENT_OR_SMALL)
@each_method
def test_a_fit_without_a_warning_has_a_small_gradient(method, data, tol):
    """Over its spread from row to row, as small as `tol`, or as the rounding of its terms; a warning says how large."""
    X, y = rows(**data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = line(method, tol=tol, max_iter=100).fit(X, y)
    residual = X.astype(float) @ model.params_["w"].astype(float) + float(model.params_["b"]) - y.astype(float)
    gradient = np.abs([*(X.astype(float).T @ residual / len(y)), residual.mean()])
    terms = np.abs(X).astype(float).T @ (np.abs(y) + np.abs(X) @ np.abs(model.params_["w"])) / len(y)
    rounding = 64 * np.finfo(X.dtype).eps * np.append(terms, np.abs(y).max())
    spread = np.sqrt(np.mean((np.c_[X, np.ones(len(X))] * (y - y.mean())[:, None]).astype(float) ** 2, axis=0))
    result = model.optimizer_result_
    if not caught:
        assert result.success
        assert (gradient <= np.maximum(4 * tol * spread, rounding)).all(), gradient / spread  # 4 entries decorrelated
    else:
        (warning,) = caught
        assert issubclass(warning.category, ConvergenceWarning)
        assert f"larger than tol={tol:g}" in str(warning.message)
        measure = "relative offset" if "offset" in result else "gradient over its spread"
        said = re.search(rf"stopped with a {measure} of ([^,]+), ", str(warning.message))
        assert float(said[1]) >= float(f"{tol:.2g}")
        assert not result.success


@pytest.mark.parametrize("unit", [1.0, 1e3, 1e6])
@each_method
def test_no_other_rule_than_the_gradient_ends_a_fit(method, unit):
    """Where differences of the loss drown in rounding, the gradient leads on to the solution of least squares."""
    X, y = rows(unit=unit)
    model = line(method, tol=1e-6 / unit).fit(X, y)
    expected = np.linalg.lstsq(np.c_[X, np.ones(len(X))], y, rcond=None)[0]
    np.testing.assert_allclose([*model.params_["w"], model.params_["b"]], expected, atol=2e-6)
    assert np.abs(model.optimizer_result_.jac).max() <= 1e-5


@pytest.mark.parametrize("unit", [1.0, 1e9])
def test_the_inverse_hessian_is_that_of_the_objective(unit):
    """Also where the method was begun anew, on another scale, and for the trained entries only."""
    X, y = rows(unit=unit)
    model = line("bfgs", tol=1e-6, fixed=("b",)).fit(X, y)
    np.testing.assert_allclose(model.optimizer_result_.hess_inv, np.linalg.inv(X.T @ X / len(X)), atol=0.03)


def test_a_gradient_that_is_noise_has_not_converged():
    """A gradient which is another one at each call is not taken for one that is small up to rounding."""
    rng = np.random.default_rng(0)
    result = LBFGS().minimize(lambda x: (float(x @ x), 2 * x + 0.1 * rng.normal(size=3)), np.ones(3), max_iter=500)
    assert not result.success


def test_an_option_that_ends_it_early_is_named():
    """A choice of the user's is kept to, and the warning says which, as the gradient is not small."""
    X, y = rows(unit=1e3)
    with pytest.warns(
        ConvergenceWarning, match=r"It may have stopped because of ftol=0\.5; by default it continues until tol"
    ):
        model = line(LBFGS(ftol=0.5), tol=1e-8).fit(X, y)
    assert model.n_iter_ < 10


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "newton-cg"])
def test_an_offset_that_swallows_the_differences_is_said(method, dtype):
    """Of 1e15 in float64, or a million in float32: y itself knows no more digits, and the warning says what to do."""
    X, y = rows(offset=1e15 if dtype == np.float64 else 1e7, dtype=dtype)
    with pytest.warns(ConvergenceWarning, match=rf"Rounding in {np.dtype(dtype)} alone .* Subtract large offsets"):
        line(method).fit(X, y)


# What is tried on the way.


def density(params, X, y=None):
    """Half the mean square and the log scale of a normal density, up to a constant, and the gradient."""
    with np.errstate(all="ignore"):
        scale = np.exp(params["log_scale"])
        u = (X[:, 0] - params["mean"]) / scale
        value = float(np.mean(0.5 * u * u) + params["log_scale"])
        return value, {"mean": -np.mean(u) / scale, "log_scale": 1 - np.mean(u * u)}


@pytest.mark.parametrize("log_scale", [-3.0, -6.0, 3.0])
@each_gradient_method
def test_a_rough_start_is_no_divergence(method, log_scale):
    """A normal density from too narrow or too wide a start ends at mean and standard deviation of the sample."""
    X = np.random.default_rng(0).normal(2.0, 3.0, size=(200, 1))
    start = {"mean": np.array(0.0), "log_scale": np.array(log_scale)}
    model = AnalyticDensity(
        lambda params, X: -density(params, X)[0] * np.ones(len(X)),
        loss_and_gradient=density,
        init=start,
        optimizer=method,
        max_iter=1000,
        tol=1e-6,
        check_gradient=False,
    ).fit(X)
    assert model.params_["mean"] == pytest.approx(X.mean(), abs=1e-4)
    assert np.exp(model.params_["log_scale"]) == pytest.approx(X.std(), rel=1e-5)
    assert model.loss_ == model.loss_curve_[-1] == density(model.params_, X)[0]


@each_gradient_method
def test_trials_outside_the_domain_of_the_loss_are_refused(method):
    """A Poisson loss that is nan for means below 0 leads to no such mean, and most methods to the optimum.

    The others end at the edge of the domain, as scipy's own do, and say what is there.
    """
    rng = np.random.default_rng(0)
    X = rng.random((200, 2))
    y = rng.poisson(0.5 + X @ [2.0, 0.5]).astype(float)
    start = {"coef": np.array([5.0, 5.0]), "intercept": np.array(5.0)}
    model = AnalyticRegressor(
        loss=Poisson(link="identity"), optimizer=method, init=start, check_gradient=False, max_iter=500, tol=1e-6
    )
    if method in ("bfgs", "cg", "trust-constr", "trust-ncg", "trust-krylov"):
        with pytest.warns(ConvergenceWarning, match="The loss is nan at a trial"):
            model.fit(X, y)
    else:
        model.fit(X, y)
        mean = X @ model.params_["coef"] + model.params_["intercept"]
        np.testing.assert_allclose(np.c_[X, np.ones(200)].T @ (1 - y / mean) / 200, 0, atol=1e-5)
        assert model.loss_ < 1.3
    assert (X @ model.params_["coef"] + model.params_["intercept"] > -1e-12).all()
    assert model.loss_ == model.loss_curve_[-1] <= model.loss_curve_[0]


def cliff(params, X, y):
    """A bowl around 3, with a right loss but no gradient beyond 4."""
    w = params["w"]
    with np.errstate(all="ignore"):
        return float(np.sum((w - 3) ** 2)), {"w": np.where(w > 4, np.nan, 2 * (w - 3))}


@pytest.mark.parametrize("batch_size", ["auto", 2])
@each_gradient_method
def test_a_trial_without_a_gradient_is_refused(method, batch_size):
    """A gradient that is nan beside a finite loss makes a shorter step, and the minimum is found."""
    model = AnalyticRegressor(
        lambda params, X: X @ params["w"],
        loss_and_gradient=cliff,
        init={"w": np.array([-20.0, 3.9])},
        optimizer=method,
        batch_size=batch_size,
        check_gradient=False,
        tol=1e-6,
    ).fit(np.ones((4, 2)), np.ones(4))
    np.testing.assert_allclose(model.params_["w"], 3.0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the optimum is at infinity
@each_method
def test_no_function_meets_parameters_that_overflow(method):
    """Towards infinity the exponential of a trial overflows; it is refused before a function of the user is called."""

    def prediction(params, X):
        if not np.isfinite(params["scale"]):
            raise ValueError("array must not contain infs or NaNs")
        return X[:, 0] * params["scale"] ** -0.01

    def jacobian(params, X):
        return {"scale": -0.01 * prediction(params, X) / params["scale"]}

    model = AnalyticRegressor(
        prediction,
        jacobian=jacobian,
        init={"scale": 1.0},
        reparametrize={"scale": "log"},
        optimizer=method,
        tol=1e-9,
    )
    with contextlib.suppress(DivergenceError):  # of a method that goes on to what it was refused
        model.fit(np.ones((5, 1)), np.zeros(5))
    assert np.isfinite(model.params_["scale"])
    assert model.params_["scale"] > 1


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
def test_a_trial_without_a_jacobian_is_refused(method):
    """Likewise for least squares, where the Jacobian is nan at a point that would be accepted."""

    def forward(params, X):
        return X[:, 0] * params["w"]

    def jacobian(params, X):
        return {"w": X[:, 0] * (np.nan if params["w"] > 3.5 else 1.0)}

    X = np.arange(1.0, 6.0)[:, None]
    model = AnalyticRegressor(forward, jacobian=jacobian, init={"w": 0.5}, optimizer=method, check_gradient=False)
    with pytest.warns(ConvergenceWarning, match=r"The gradient is not finite at a trial: parameter 'w' \(1 entries\)"):
        model.fit(X, 4 * X[:, 0])
    assert 0.5 < model.params_["w"] <= 3.5


@each_method
def test_a_start_from_which_no_step_is_finite_names_the_nan(method):
    """The parameters stay, and the warning speaks of the nan in its block, not of a wrong gradient."""

    def forward(params, X):
        return linear({"b": 0.0, **params}, X)

    def jacobian(params, X):
        return {"w": X * (1.0 if (params["w"] == 1.0).all() else np.nan)}

    X, y = rows()
    model = AnalyticRegressor(
        forward, jacobian=jacobian, init={"w": np.ones(3)}, optimizer=method, check_gradient=False, max_iter=50
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(X, y)
        except DivergenceError as error:
            caught = [error]
    assert (model.params_["w"] == 1.0).all()
    (said,) = (str(getattr(message, "message", message)) for message in caught)
    assert "gradient is not finite at a trial: parameter 'w' (3 entries)" in said


# Numbers without end.


FALLING = {
    "square": lambda w: (-float(w @ w), -2 * w),
    "cube": lambda w: (float(np.sum(w**3)), 3 * w**2),
    "exponential": lambda w: (-float(np.exp(w).sum()), -np.exp(w)),
}


@pytest.mark.parametrize("fall", FALLING)
@each_gradient_method
def test_a_loss_that_falls_without_bound_is_a_divergence(method, fall):
    """In words, after few evaluations, with parameters that are finite and belong to the last loss recorded."""
    calls = []

    def loss_and_gradient(params, X, y):
        calls.append(1)
        with np.errstate(all="ignore"):
            value, gradient = FALLING[fall](params["w"])
            return value, {"w": gradient}

    model = AnalyticRegressor(
        lambda params, X: X @ params["w"],
        loss_and_gradient=loss_and_gradient,
        init={"w": np.array([-0.5, -1.0])},
        optimizer=method,
        max_iter=100,
        check_gradient=False,
    )
    if fall == "exponential":
        model.set_params(init={"w": np.array([0.5, 1.0])})
    with pytest.raises(DivergenceError, match=r"decreases without bound.*last iterate"):
        model.fit(np.ones((4, 2)), np.ones(4))
    assert np.isfinite(model.params_["w"]).all()
    assert model.loss_ == model.loss_curve_[-1] == FALLING[fall](model.params_["w"])[0]
    assert len(calls) < 20_000


@pytest.mark.parametrize(("scale", "unit"), [(1.0, 1e153), (1.0, 1e200), (1e100, 1.0), (1e150, 1.0), (1e307, 1.0)])
@each_method
def test_the_end_of_floats_is_a_divergence_or_a_warning(method, scale, unit):
    """No nan, no error of scipy's, no loop without end, no silence."""
    X, y = rows(scales=scale, unit=unit)
    start = {"w": np.full(3, 0.1 / scale), "b": 0.0}
    with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = line(method, init=start)
        try:
            model.fit(X, y)
        except DivergenceError as error:
            said = str(error)
        else:
            said = " ".join(str(warning.message) for warning in caught if warning.category is ConvergenceWarning)
    assert np.isfinite([*model.params_["w"], model.params_["b"]]).all()
    assert said or model.optimizer_result_.success


def test_a_method_that_is_lost_says_so_to_those_who_call_it():
    """`minimize` itself raises, and refuses a start that is not finite."""
    with pytest.raises(DivergenceError, match="LBFGS: the loss decreases without bound: it is -"):
        LBFGS().minimize(lambda x: (-float(x @ x), -2 * x), np.ones(2))
    with pytest.raises(DivergenceError, match="LBFGS: the value is nan at the start"):
        LBFGS().minimize(lambda x: (np.nan, x), np.ones(2))
    with pytest.raises(ValueError, match="trust radius must be less than"):
        TrustNCG(initial_trust_radius=2.0, max_trust_radius=1.0).minimize(lambda x: (float(x @ x), 2 * x), np.ones(2))


@each_gradient_method
def test_evaluations_without_a_step_are_bounded(method):
    """A gradient that changes with each call leads nowhere: the method gives up."""
    rng = np.random.default_rng(0)
    calls = []

    def noise(x):
        calls.append(1)
        return rng.normal(), rng.normal(size=3)

    with contextlib.suppress(DivergenceError):
        assert not get_optimizer(method).minimize(noise, np.ones(3), max_iter=20).success
    assert len(calls) < 20_000


# Everything agrees.


def last_loss(model, X, y):
    residual = linear(model.params_, X) - y
    return float(0.5 * np.mean(residual**2))


@pytest.mark.parametrize("limits", [{"tol": 1e-6}, {"tol": 1e-12, "max_iter": 3}], ids=["converged", "iterations"])
@pytest.mark.parametrize("batch_size", ["auto", 30])
@each_method
def test_loss_and_curve_and_parameters_agree(method, batch_size, limits):
    """However it ends, `loss_`, the last of `loss_curve_`, scipy's result and `params_` are of one point."""
    X, y = rows(unit=30.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = line(method, batch_size=batch_size, **limits).fit(X, y)
    result = model.optimizer_result_
    np.testing.assert_array_equal(result.x, [*model.params_["w"], model.params_["b"]])
    assert model.loss_ == model.loss_curve_[-1] == result.fun == pytest.approx(last_loss(model, X, y), rel=1e-12)
    assert model.n_iter_ == max(1, result.nit) == len(model.loss_curve_)
    residual = linear(model.params_, X) - y
    np.testing.assert_allclose(result.jac, [*(X.T @ residual / len(y)), residual.mean()], atol=1e-9)


@each_gradient_method
def test_every_iterate_is_lower_than_the_one_before(method):
    """A callback sees accepted points only, with their own values, also where a method of scipy's reports trials."""

    def valley(x):
        a, b = x
        return 100 * (b - a * a) ** 2 + (1 - a) ** 2, np.array(
            [-400 * a * (b - a * a) - 2 * (1 - a), 200 * (b - a * a)]
        )

    seen = []
    result = get_optimizer(method).minimize(valley, np.array([-1.2, 1.0]), max_iter=500, tol=1e-6, callback=seen.append)
    values = [iterate.fun for iterate in seen]
    assert (np.diff(values) <= 0).all()
    assert values == [valley(iterate.x)[0] for iterate in seen]
    assert result.fun == values[-1] == valley(result.x)[0]
    np.testing.assert_array_equal(result.jac, valley(result.x)[1])
    assert result.nit == len(seen)

    ended = get_optimizer(method).minimize(valley, np.array([-1.2, 1.0]), callback=lambda iterate: iterate.nit == 3)
    assert (ended.nit, ended.fun) == (3, values[2])


# What is not trained.


def peak(params, X):
    u = (X[:, 0] - params["middle"]) / params["width"]
    return params["height"] * np.exp(-0.5 * u * u) + params["ground"]


def peak_jacobian(params, X, without=()):
    u = (X[:, 0] - params["middle"]) / params["width"]
    bell = np.exp(-0.5 * u * u)
    slope = params["height"] * bell * u / params["width"]
    leaves = {"height": bell, "middle": slope, "width": slope * u, "ground": np.ones(len(X))}
    return {name: None if name in without else leaf for name, leaf in leaves.items()}


START = {"height": 3.0, "middle": 8.0, "width": 1.0, "ground": 6.8}


def peak_rows(dtype=np.float64):
    rng = np.random.default_rng(0)
    t = np.linspace(0, 20, 80)
    y = peak({"height": 5.0, "middle": 9.0, "width": 1.7, "ground": 7.0}, t[:, None]) + 0.1 * rng.normal(size=80)
    return t[:, None].astype(dtype), y.astype(dtype)


def free_optimum(held):
    """What scipy's `curve_fit` makes of the parameters that are not held at their start."""
    X, y = peak_rows()
    free = [name for name in START if name not in held]

    def curve(t, *values):
        return peak({**START, **dict(zip(free, values, strict=True))}, t[:, None])

    values = curve_fit(curve, X[:, 0], y, [START[name] for name in free], xtol=1e-14, ftol=1e-14)[0]
    return {**START, **dict(zip(free, map(float, values), strict=True))}


@pytest.mark.parametrize(("held", "dtype"), [(("ground",), np.float64), (("height", "width"), np.float32)])
@pytest.mark.parametrize("way", ["fixed", "None", "parts", "chunks"])
@each_method
def test_what_is_held_is_no_business_of_the_method(method, held, way, dtype):
    """Fixed blocks, and those without a gradient, stay to the bit; the others are where `curve_fit` has them."""
    X, y = peak_rows(dtype)
    jacobian = functools.partial(peak_jacobian, without=held) if way == "None" else peak_jacobian
    model = AnalyticRegressor(
        peak,
        jacobian=jacobian,
        init=START,
        fixed=() if way == "None" else held,
        optimizer=method,
        batch_size=30 if way == "parts" else "auto",
        tol=1e-7 if dtype == np.float64 else 1e-4,
        max_iter=500,
        check_gradient=False,
    )
    if way == "chunks":
        model.fit_chunks([(X[:50], y[:50]), (X[50:], y[50:])])
    else:
        model.fit(X, y)
    assert model.params_ == pytest.approx(free_optimum(held), rel=1e-5 if dtype == np.float64 else 1e-3)
    for name in held:
        assert model.params_[name] == dtype(START[name])
    result = model.optimizer_result_
    np.testing.assert_allclose(result.x, [model.params_[name] for name in START], rtol=1e-6)
    assert not any(slope for name, slope in zip(START, result.jac, strict=True) if name in held)


def test_a_penalty_on_a_held_block_is_a_constant():
    """Its terms stay in the sum of squares, and move nothing."""
    X, y = peak_rows()
    results = []
    for method in ("lm", "trf", "dogbox", "lbfgs"):
        model = AnalyticRegressor(
            peak, jacobian=peak_jacobian, init=START, fixed=("ground",), alpha=0.01, optimizer=method, tol=1e-8
        ).fit(X, y)
        results.append([*model.params_.values(), model.loss_])
    np.testing.assert_allclose(results, [results[0]] * 4, rtol=1e-6)
    assert model.params_["ground"] == START["ground"]


@each_method
def test_nothing_to_train_ends_at_once(method):
    """With every block fixed there is one evaluation, success, and the parameters of the start."""
    X, y = peak_rows()
    model = AnalyticRegressor(peak, jacobian=peak_jacobian, init=START, fixed=tuple(START), optimizer=method)
    model.set_params(check_gradient=False).fit(X, y)
    assert model.params_ == START
    assert model.optimizer_result_.success
    assert len(model.loss_curve_) == model.n_iter_ == 1


def test_lm_counts_trained_parameters_only():
    """Three samples are enough for three of them, and too few for four."""
    X, y = (part[[30, 36, 44]] for part in peak_rows())
    model = AnalyticRegressor(peak, jacobian=peak_jacobian, init=START, optimizer="lm", check_gradient=False, tol=1e-8)
    model.set_params(fixed=("ground",)).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-6)
    with pytest.raises(ValueError, match=r"LM needs at least as many residuals .* got 3 .* for 4 parameters"):
        model.set_params(fixed=()).fit(X, y)
    assert isinstance(model.optimizer_, LM)


@each_method
def test_a_block_without_a_gradient_has_none_throughout(method):
    """A gradient that is None at the start and an array later is an error that names the block."""
    X, y = peak_rows()
    calls = []

    def jacobian(params, X):
        calls.append(1)
        return peak_jacobian(params, X, without=("width",) if len(calls) == 1 else ())

    model = AnalyticRegressor(peak, jacobian=jacobian, init=START, optimizer=method, check_gradient=False)
    with pytest.raises(ParameterStructureError, match="None for parameter 'width' in some evaluations and an array in"):
        model.fit(X, y)


# Errors and warnings of others.


@each_method
def test_an_error_of_the_users_is_not_taken_for_one_of_scipys(method):
    """Also one that scipy would catch, with its cause: from any evaluation."""
    X, y = rows()
    for last in (1, 2) if get_optimizer(method).residuals else (2, 4, 7):
        calls = []

        def forward(params, X, calls=calls, last=last):
            calls.append(1)
            if len(calls) > last:
                raise np.linalg.LinAlgError("the user's") from KeyError("a cause")
            return linear(params, X)

        model = line(method, tol=1e-13).set_params(forward=forward)
        with pytest.raises(np.linalg.LinAlgError, match="the user's") as caught:
            model.fit(X, y)
        assert isinstance(caught.value.__cause__, KeyError)


@each_gradient_method
def test_an_error_of_a_callback_goes_on(method):
    """It is not taken for a failure of the method's arithmetic."""

    def broken(iterate):
        raise ZeroDivisionError("in the callback")

    with pytest.raises(ZeroDivisionError, match="in the callback"):
        get_optimizer(method).minimize(lambda x: (float(x @ x), 2 * x), np.ones(3), callback=broken)


def test_warnings_and_errors_of_numpy_are_as_the_user_has_set_them():
    """scipy's arithmetic is silent; within the user's functions nothing changes."""

    def loss_and_gradient(params, X, y):
        np.float64(1e300) * np.float64(1e300)
        return float(params["w"] @ params["w"]), {"w": 2 * params["w"]}

    model = AnalyticRegressor(
        lambda params, X: X @ params["w"],
        loss_and_gradient=loss_and_gradient,
        init={"w": np.ones(2)},
        optimizer="lbfgs",
        check_gradient=False,
    )
    with pytest.warns(RuntimeWarning, match="overflow encountered in scalar multiply"):
        model.fit(np.ones((3, 2)), np.ones(3))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
        model.fit(np.ones((3, 2)), np.ones(3))


def test_the_estimators_of_scikit_learn_agree():
    """A Poisson regression of theirs, to many digits."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = rng.poisson(np.exp(X @ [0.5, -0.3, 0.1] + 1)).astype(float)
    theirs = PoissonRegressor(alpha=0.1, tol=1e-10, max_iter=1000).fit(X, y)
    for method in GRADIENT_METHODS:
        model = AnalyticRegressor(loss="poisson", optimizer=method, alpha=0.1, tol=1e-8, max_iter=500).fit(X, y)
        np.testing.assert_allclose(model.params_["coef"], theirs.coef_, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e3, 1e8])
@pytest.mark.parametrize("method", ["lbfgs", "trust-constr", "bfgs", "cg"])
def test_a_gradient_of_rounding_is_one_at_the_last_iteration_too(method, unit):
    """In float32 a method may wander among the last digits until its iterations are over: that is no failure."""
    X, y = (array.astype(np.float32) for array in rows(unit=unit))
    expected = np.linalg.lstsq(np.c_[X, np.ones(len(X))].astype(float), y.astype(float), rcond=None)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = line(method, tol=1e-12, max_iter=1000).fit(X, y)
    assert model.optimizer_result_.success
    np.testing.assert_allclose([*model.params_["w"], model.params_["b"]], expected, rtol=1e-4, atol=1e-4 * unit)


@each_method
def test_small_residuals_of_large_numbers_hide_no_progress(method):
    """Their squares have lost digits that the sum does not show, and yet the gradient falls to tol."""
    x = np.linspace(0, 10, 80)[:, None]

    def forward(params, X):
        return params["h"] * np.exp(-0.5 * ((X[:, 0] - params["c"]) / params["s"]) ** 2)

    def jacobian(params, X):
        z = (X[:, 0] - params["c"]) / params["s"]
        bell = np.exp(-0.5 * z * z)
        return {"h": bell, "c": params["h"] * bell * z / params["s"], "s": params["h"] * bell * z * z / params["s"]}

    rng = np.random.default_rng(5)
    for _ in range(8):
        true = {"h": rng.uniform(20, 50), "c": rng.uniform(3, 7), "s": rng.uniform(1.0, 2.0)}
        y = forward(true, x) + 0.05 * rng.normal(size=80)
        start = {"h": float(y.max()), "c": float(x[y.argmax(), 0]), "s": 1.0}
        model = AnalyticRegressor(forward, jacobian=jacobian, init=start, optimizer=method, tol=2e-13, max_iter=500)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(x, y)
        assert np.abs(model.optimizer_result_.jac).max() <= 1e-10


def test_a_kink_is_not_told_as_an_offset_alone():
    """The gradient of an absolute error jumps with the last digits of θ, whatever the scale of X and y."""
    X, _ = rows()
    y = X @ np.arange(1.0, X.shape[1] + 1) + np.random.default_rng(0).laplace(size=len(X))
    with pytest.warns(ConvergenceWarning, match="At a kink|causes are a kink"):
        AnalyticRegressor(loss="absolute_error", optimizer="bfgs").fit(X, y)
