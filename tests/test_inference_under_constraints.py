"""Standard errors under maps, bounds and masks: those of the parameters themselves, whatever training moved."""

import warnings

import numpy as np
import pytest
from scipy.optimize import curve_fit
from test_constraints import START, X, Y, covariance_loss, curve, decay, density
from test_constraints import decay_loss_and_gradient as mean_square

from sk_analytic import AnalyticRegressor, infer
from sk_analytic.exceptions import InferenceWarning
from sk_analytic.maps import Logit

RNG = np.random.default_rng(1)
COUNTS = RNG.poisson(30 * np.exp(-X[:, 0] / 1.3) + 3)


def poisson(params, X, y):
    """Negative log-likelihood of counts along a decay, and its gradient by the height and the time."""
    share = np.exp(-X[:, 0] / params["tau"])
    mean = params["height"] * share + 3
    d = (1 - y / mean) / len(y)
    slopes = {"height": d @ share, "tau": d @ (params["height"] * share * X[:, 0]) / params["tau"] ** 2}
    return float(np.mean(mean - y * np.log(mean))), slopes


def counts(**settings):
    return AnalyticRegressor(
        lambda params, X: decay(params, X) + 3, loss_and_gradient=poisson, init={"height": 20.0, "tau": 1.0}, **settings
    ).fit(X, COUNTS)


MAPS = [{"tau": "log"}, {"tau": Logit(0, 5), "height": "log"}]


@pytest.mark.parametrize("maps", MAPS, ids=str)
@pytest.mark.parametrize("kind", ["hessian", "opg", "HC0"])
def test_errors_of_a_likelihood_do_not_depend_on_maps(kind, maps):
    """At the optimum the covariance of x is the same through z, since the gradient vanishes."""
    plain = infer(counts(tol=1e-10), X, COUNTS, covariance=kind, polish=True)
    mapped = infer(counts(tol=1e-10, reparametrize=maps), X, COUNTS, covariance=kind, polish=True)
    np.testing.assert_allclose(mapped.covariance, plain.covariance, rtol=1e-6)
    assert mapped.names == ["height", "tau"]
    assert mapped.params["tau"] == pytest.approx(plain.params["tau"], rel=1e-8)


@pytest.mark.parametrize("maps", [None, *MAPS], ids=str)
def test_errors_of_a_curve_are_those_of_curve_fit(maps):
    """By Gauss-Newton, under maps too; predictions and functions keep their errors."""
    result = infer(curve(optimizer="trf", reparametrize=maps).fit(X, Y), X, Y)
    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}

    def function(t, height, tau):
        return height * np.exp(-t / tau)

    best, covariance = curve_fit(function, X[:, 0], Y, [1.0, 1.0], **tight)
    np.testing.assert_allclose(list(result.params.values()), best, rtol=1e-7)
    np.testing.assert_allclose(result.covariance, covariance, rtol=1e-5)
    rate = result.delta(lambda params: 1 / params["tau"])
    assert rate.standard_error == pytest.approx(covariance[1, 1] ** 0.5 / best[1] ** 2, rel=1e-5)
    assert result.predict(X[:3], interval="mean").standard_error.shape == (3,)


def test_wald_intervals_stay_where_a_map_can_reach():
    """A time that the data hardly determine: the interval under "log" is positive; without, it is symmetric."""
    few = slice(0, 6)
    noisy = Y[few] + np.array([0.5, -0.4, 0.3, -0.6, 0.4, 0.2])
    settings = {"optimizer": "trf", "init": {"height": 1.0, "tau": 1.0}}
    plain = infer(curve(**settings).fit(X[few], noisy), X[few], noisy)
    mapped = infer(curve(**settings, reparametrize={"tau": "log"}).fit(X[few], noisy), X[few], noisy)
    (_, tau), (_, tau_plain) = mapped.confidence_intervals(), plain.confidence_intervals()
    assert tau[0] > 0
    estimate = mapped.params["tau"]
    assert tau[0] * tau[1] == pytest.approx(estimate**2, rel=1e-10)
    assert tau_plain.mean() == pytest.approx(plain.params["tau"], rel=1e-10)
    np.testing.assert_allclose(mapped.confidence_intervals()[0], plain.confidence_intervals()[0], rtol=1e-4)


@pytest.mark.parametrize("maps", MAPS, ids=str)
def test_profiles_do_not_depend_on_maps(maps):
    """A likelihood ratio knows no coordinates."""
    plain = infer(counts(), X, COUNTS, polish=True).confidence_intervals(method="profile")
    mapped = infer(counts(reparametrize=maps), X, COUNTS, polish=True).confidence_intervals(method="profile")
    np.testing.assert_allclose(mapped, plain, rtol=1e-4)


def test_the_bootstrap_gives_parameters():
    """Of resamples, in the user's own numbers."""
    result = infer(counts(reparametrize={"tau": "log"}), X, COUNTS)
    intervals = result.confidence_intervals(method="bootstrap", n_resamples=30, random_state=0)
    assert (intervals[:, 0] < list(result.params.values())).all()
    assert (intervals[:, 1] > list(result.params.values())).all()


def test_a_parameter_on_its_bound():
    """It is named, has no error, and the others have theirs with it held; the profile ends on the bound."""
    model = curve(optimizer="trf", bounds={"height": (None, 1.5)}).fit(X, Y)
    assert model.params_["height"] == 1.5
    with pytest.warns(InferenceWarning, match="On a bound: height"):
        result = infer(model, X, Y)
    held = infer(curve(optimizer="trf", init={"height": 1.5, "tau": 1.0}, fixed=("height",)).fit(X, Y), X, Y)
    assert np.isnan(result.standard_errors["height"])
    assert result.standard_errors["tau"] == pytest.approx(held.standard_errors["tau"], rel=1e-6)
    wide = curve(optimizer="trf", bounds={"height": (0, 2.0), "tau": (0, None)}).fit(X, Y)
    inside = infer(wide, X, Y)
    low, high = inside.confidence_intervals(0.999999, method="profile", parameters="height")[0]
    assert low < inside.params["height"] < high == 2.0
    assert inside.confidence_intervals(0.999999)[0, 1] == 2.0


def test_polish_stays_between_bounds():
    """From Adam's end to the bounded optimum, in the result alone."""
    model = curve("vjp", optimizer="adam", max_iter=30, tol=None, bounds={"height": (None, 1.5)}).fit(X, Y)
    before = dict(model.params_)
    with pytest.warns(InferenceWarning, match="On a bound"):
        result = infer(model, X, Y, polish=True)
    exact = curve(optimizer="trf", bounds={"height": (None, 1.5)}).fit(X, Y).params_
    assert result.params["height"] == 1.5
    assert result.params["tau"] == pytest.approx(exact["tau"], rel=1e-6)
    assert model.params_ == before


def test_maps_of_several_entries():
    """Of a covariance by its Cholesky factor: errors of the entries that move; a profile of one alone is refused."""
    rng = np.random.default_rng(0)
    data = rng.multivariate_normal(np.zeros(2), [[2.0, 0.6], [0.6, 1.0]], 400)
    model = density(covariance_loss, init={"L": np.eye(2)}, reparametrize={"L": "cholesky"}, tol=1e-9).fit(data)
    result = infer(model, data)
    assert result.names == ["L[0, 0]", "L[0, 1]", "L[1, 0]", "L[1, 1]"]
    errors = result.standard_errors["L"]
    assert errors[0, 1] == 0
    # The first entry is the root of a variance, whose estimate has the relative error sqrt(2 / n) / 2.
    assert errors[0, 0] == pytest.approx(result.params["L"][0, 0] / np.sqrt(2 * 400), rel=1e-4)
    variance = result.delta(lambda params: (params["L"] @ params["L"].T)[1, 1])
    assert variance.standard_error == pytest.approx(variance.value * np.sqrt(2 / 400), rel=1e-4)

    def shares(params, X):
        w, observed = params["w"], np.array([np.mean(X[:, 0] == code) for code in range(3)])
        return float(-(observed * np.log(w)).sum()), {"w": -observed / w}

    codes = np.repeat([0.0, 1.0, 2.0], [200, 120, 80])[:, None]
    model = density(shares, init={"w": np.full(3, 1 / 3)}, reparametrize={"w": "simplex"}, tol=1e-9).fit(codes)
    result = infer(model, codes)
    w = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(result.covariance, (np.diag(w) - np.outer(w, w)) / 400, rtol=1e-4, atol=1e-9)
    with pytest.raises(ValueError, match=r"w\[0\], w\[1\], w\[2\] cannot vary alone"):
        result.confidence_intervals(method="profile")


def test_held_entries_have_no_error():
    """0, as for whole blocks; the others have theirs for known values of it."""
    rng = np.random.default_rng(0)
    X, target = rng.normal(size=(80, 3)), np.array([1.0, 0.5, -1.0])
    y = X @ target + 0.1 * rng.normal(size=80)
    mask = np.array([False, True, False])
    model = AnalyticRegressor(
        lambda coef, X: X @ coef, jacobian=lambda coef, X: X, init=np.full(3, 0.5), fixed={"params": mask}
    ).fit(X, y)
    result = infer(model, X, y)
    assert result.standard_errors[1] == 0
    rest = X[:, ~mask]
    residual = y - X @ model.params_
    expected = np.linalg.inv(rest.T @ rest) * (residual @ residual) / 78
    np.testing.assert_allclose(result.covariance[np.ix_(~mask, ~mask)], expected, rtol=1e-8)


def test_a_penalty_under_a_map_is_of_x():
    """Its curvature is that of x: the same covariance as without the map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)
        results = [
            infer(curve(optimizer="trf", alpha=0.05, reparametrize=maps).fit(X, Y), X, Y, covariance="hessian")
            for maps in (None, {"tau": "log"})
        ]
        scores = [
            infer(
                AnalyticRegressor(
                    decay, loss_and_gradient=mean_square, init=START, alpha=0.05, reparametrize=maps, tol=1e-10
                ).fit(X, Y),
                X,
                Y,
                covariance="HC0",
            )
            for maps in (None, {"tau": "log"})
        ]
    for first, second in (results, scores):
        np.testing.assert_allclose(second.covariance, first.covariance, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_parameter_on_the_edge_of_its_map_is_said():
    """A height that is negative, under a map to positive numbers."""
    model = curve(optimizer="lbfgs", reparametrize={"height": "log"}).fit(X, -Y)
    with pytest.warns(InferenceWarning, match="On the edge of a map: height. .*use bounds in place of the map"):
        infer(model, X, -Y)
    right = curve(optimizer="lbfgs", reparametrize={"height": "log"}).fit(X, Y)
    assert not any("edge" in text for text in infer(right, X, Y).warnings)
