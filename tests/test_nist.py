"""Least squares at default settings reach the certified parameters of NIST's nonlinear problems, in any units."""

import warnings

import numpy as np
import pytest
import scipy
from nist_problems import MODELS, functions, read
from numpy.testing import assert_allclose
from scipy.optimize import curve_fit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sk_analytic import AnalyticRegressor
from sk_analytic.optimizers import TRF
from sk_analytic.optimizers.scipy_run import Tangents, relative_offset

BEFORE_C = tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 15)  # when scipy's lm was MINPACK in Fortran
FAR = {  # from where they end elsewhere
    ("lm", "BoxBOD", 0),
    ("dogbox", "MGH09", 0),
    ("dogbox", "MGH17", 0),
    ("dogbox", "Rat43", 0),
    *([("lm", "MGH10", 0)] if BEFORE_C else []),
}
EXACT_DATA = "Lanczos1"  # to 14 digits: the residuals are rounding, nearly


def fitted(name, start, **settings):
    """A fit, whose trial points may overflow in the curve."""
    problem = read(name)
    forward, jacobian = functions(name)
    model = AnalyticRegressor(forward, jacobian=jacobian, init=problem.starts[start].copy(), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        return problem, model.fit(problem.X, problem.y)


@pytest.mark.parametrize("method", ["auto", "lm", "dogbox"])
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", MODELS)
def test_the_certified_parameters_are_reached(name, start, method):
    """To eight digits and more, of the eleven that are certified, from both starts and without a warning."""
    if (method, name, start) in FAR:
        pytest.skip("another minimum, or none, is nearer")
    problem, model = fitted(name, start, optimizer=method)
    assert_allclose(model.params_, problem.parameters, rtol=1e-8)
    assert model.optimizer_result_.offset < (1e-2 if name == EXACT_DATA else 1e-4)
    assert model.optimizer_result_.success
    if method == "auto":
        assert isinstance(model.optimizer_, TRF)


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("of", ["y", "x"])
@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
def test_units_do_not_matter(method, of, unit):
    """Of y and of x, to which the parameters follow: a curve in micrometres ends where that in metres does."""
    problem = read("Misra1a")
    forward, jacobian = functions("Misra1a")
    of_params = np.array([unit, 1.0]) if of == "y" else np.array([1.0, 1 / unit])
    X, y = (problem.X, problem.y * unit) if of == "y" else (problem.X * unit, problem.y)
    model = AnalyticRegressor(forward, jacobian=jacobian, init=problem.starts[1] * of_params, optimizer=method)
    assert_allclose(model.fit(X, y).params_, problem.parameters * of_params, rtol=1e-8)


def test_the_offset_is_that_of_bates_and_watts():
    """The cosine between the residuals and the space of tangents, whatever the scale of columns."""
    rng = np.random.default_rng(0)
    jacobian, residuals = rng.normal(size=(20, 3)), rng.normal(size=20)
    tangents = np.linalg.qr(jacobian)[0]
    expected = np.linalg.norm(tangents.T @ residuals) / np.linalg.norm(residuals)
    assert relative_offset(residuals, jacobian) == pytest.approx(expected, rel=1e-12)
    assert relative_offset(1e-30 * residuals, jacobian * [1e-8, 1, 1e12]) == pytest.approx(expected, rel=1e-9)
    dependent = np.column_stack([jacobian, jacobian[:, 0] + jacobian[:, 1], np.zeros(20)])
    assert relative_offset(residuals, dependent) == pytest.approx(expected, rel=1e-9)
    assert relative_offset(np.zeros(20), jacobian) == 0


@pytest.mark.parametrize("shape", [(3000, 40), (41, 40), (40, 40), (20, 40)])
def test_a_rotated_problem_is_the_same_in_fewer_rows(shape):
    """Products and norms, of which the methods are made, are; and so is the Gauss-Newton step, in any units."""
    rng = np.random.default_rng(0)
    jacobian, residuals = rng.normal(size=shape) * 10.0 ** rng.integers(-9, 9, shape[1]), rng.normal(size=shape[0])
    rotated = Tangents.of(residuals, jacobian)
    assert len(rotated.matrix) == len(rotated.residuals) == min(shape[0], shape[1] + 1)
    lengths = np.linalg.norm(jacobian, axis=0)
    among = rotated.matrix.T @ rotated.matrix / np.outer(lengths, lengths)
    assert_allclose(among, jacobian.T @ jacobian / np.outer(lengths, lengths), atol=1e-13)
    assert_allclose(rotated.matrix.T @ rotated.residuals / lengths, jacobian.T @ residuals / lengths, atol=1e-12)
    assert rotated.residuals @ rotated.residuals == pytest.approx(residuals @ residuals, rel=1e-13)
    step = np.linalg.lstsq(jacobian / lengths, -residuals, rcond=None)[0] / lengths
    assert_allclose(rotated.gauss_newton() * lengths, step * lengths, rtol=1e-9, atol=1e-12)


def test_the_shortest_step_is_taken_where_there_are_several():
    """Of dependent columns, and of one that is zero."""
    rng = np.random.default_rng(0)
    jacobian, residuals = rng.normal(size=(30, 2)), rng.normal(size=30)
    jacobian /= np.linalg.norm(jacobian, axis=0)
    dependent = np.column_stack([jacobian, jacobian[:, 0], np.zeros(30)])
    step = Tangents.of(residuals, dependent).gauss_newton()
    assert_allclose(step, np.linalg.pinv(dependent) @ -residuals, atol=1e-13)


def test_scipy_is_given_as_many_rows_as_there_are_parameters(monkeypatch):
    """And one: a step costs as much for 30 rows as for 3000, the factorization at each point aside."""
    shapes = []
    solve = TRF._solve

    def watched(self, run, x0, max_iter):
        shapes.append((run.residuals(x0).shape, run.jacobian(x0).shape))
        return solve(self, run, x0, max_iter)

    monkeypatch.setattr(TRF, "_solve", watched)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 5)), rng.normal(size=3000)
    model = AnalyticRegressor(lambda w, X: X @ w, jacobian=lambda w, X: X, init=np.zeros(5), optimizer="trf")
    assert_allclose(model.fit(X, y).params_, np.linalg.lstsq(X, y, rcond=None)[0], rtol=1e-10)
    assert shapes == [((6,), (6, 5))]


def test_max_iter_is_larger_for_least_squares_by_default():
    """MGH17 needs hundreds of iterations from its first start; a number is a limit."""
    _, model = fitted("MGH17", 0)
    assert 200 < model.n_iter_ <= 1000
    with pytest.raises(ConvergenceWarning, match="TRF stopped with a relative offset of .* Increase max_iter"):
        fitted("MGH17", 0, max_iter=50)
    rows = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.warns(ConvergenceWarning, match="The limit of 200 epochs was reached"):
        AnalyticRegressor(optimizer="adam", tol=0.0, n_iter_no_change=1000).fit(rows, 100 * rows[:, 0])


def test_weights_and_penalties_are_terms_of_the_sum():
    """As `curve_fit` has weights, by standard deviations."""
    problem = read("Misra1a")
    forward, jacobian = functions("Misra1a")
    weight = np.linspace(0.5, 2, len(problem.y))
    model = AnalyticRegressor(forward, jacobian=jacobian, init=problem.starts[1])
    expected, _ = curve_fit(
        lambda x, *b: MODELS["Misra1a"](b, x),
        problem.X[:, 0],
        problem.y,
        p0=problem.starts[1],
        sigma=weight**-0.5,
        ftol=1e-15,
        xtol=1e-15,
    )
    weighted = clone(model).fit(problem.X, problem.y, sample_weight=weight)
    assert_allclose(weighted.params_, expected, rtol=1e-7)
    penalized = clone(model).set_params(alpha=1e-4, tol=1e-8).fit(problem.X, problem.y)
    by_gradient = clone(model).set_params(alpha=1e-4, optimizer="bfgs", tol=1e-7, max_iter=2000)
    assert_allclose(penalized.params_, by_gradient.fit(problem.X, problem.y).params_, rtol=1e-5)


def decay(params, X):
    return params["a"] * np.exp(-params["b"] * X[:, 0]) + params["c"]


def decay_jacobian(params, X):
    e = np.exp(-params["b"] * X[:, 0])
    return {"a": e, "b": -params["a"] * X[:, 0] * e, "c": np.ones(len(X))}


T = np.linspace(0, 4, 50)[:, None]
EXACT = decay({"a": 2.0, "b": 1.5, "c": 0.5}, T)


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1.0, 1e9])
@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
def test_a_curve_without_noise_is_found_in_any_unit(method, unit):
    """And once more from there, without a warning: what is left is rounding."""
    start = {"a": unit, "b": 1.0, "c": 0.0}
    model = AnalyticRegressor(decay, jacobian=decay_jacobian, init=start, optimizer=method, warm_start=True)
    for _ in range(3):
        model.fit(T, EXACT * unit)
        assert model.params_["b"] == pytest.approx(1.5, rel=1e-9)
        assert model.loss_ < 1e-25 * unit**2


def test_a_huge_loss_at_the_start_is_no_success_later():
    """Iterations that are over before the minimum are said to be."""
    y = EXACT + 0.05 * np.random.default_rng(0).normal(size=50)
    model = AnalyticRegressor(decay, jacobian=decay_jacobian, init={"a": 1.0, "b": -20.0, "c": 0.0}, max_iter=300)
    with pytest.warns(ConvergenceWarning, match="TRF stopped with a relative offset"):
        model.fit(T, y)
    assert not model.optimizer_result_.success


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("unit", [1.0, 1e9, 1e12])
def test_the_finish_never_raises_the_loss(unit, seed):
    """Of five points and three parameters, in units in which everything cancels."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 3, 5)[:, None]

    def forward(params, X):
        return params["h"] * np.exp(-0.5 * ((X[:, 0] - params["m"]) / params["s"]) ** 2)

    def jacobian(params, X):
        z = (X[:, 0] - params["m"]) / params["s"]
        e = np.exp(-0.5 * z * z)
        by_m = params["h"] * e * z / params["s"]
        return {"h": e, "m": by_m, "s": by_m * z}

    y = unit * (forward({"h": 2.0, "m": 1.0, "s": 0.7}, x) + 0.1 * rng.normal(size=5))
    model = AnalyticRegressor(forward, jacobian=jacobian, init={"h": unit, "m": 1.5, "s": 1.0}, optimizer="trf")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curve = model.fit(x, y).loss_curve_
    assert model.loss_ <= min(curve) * (1 + 1e-9)
