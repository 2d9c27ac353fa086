"""By default settings a fit arrives: `optimizer="auto"` chooses, and intercepts start where y is."""

import warnings

import numpy as np
import pandas as pd
import pytest
from models import coef_forward, coef_jacobian, coef_vjp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import curve_fit
from scipy.special import logit
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    load_wine,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import GammaRegressor, LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import check_is_fitted

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer, Model
from sk_analytic.estimators import automatic
from sk_analytic.losses import SquaredError
from sk_analytic.optimizers import LBFGS, TRF, Adam
from sk_analytic.search import find_learning_rate

RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=(N, 2))
Y = X @ [1.0, -2.0] + 5 + RNG.normal(scale=0.1, size=N)
WEIGHT = RNG.uniform(0.5, 2, size=N)
ZERO = {"coef": np.zeros(2), "intercept": 0.0}


# The scores of scikit-learn and scipy.

COUNTS_X = np.random.default_rng(1).normal(5, 2, size=(2000, 4))
COUNTS = np.random.default_rng(2).poisson(np.exp(0.1 * COUNTS_X[:, 0] - 0.2 * COUNTS_X[:, 1] + 0.5))
LOGISTIC = LogisticRegression(C=np.inf, max_iter=10_000)
PEERS = {
    "diabetes": (AnalyticRegressor(), load_diabetes(return_X_y=True, scaled=False), LinearRegression()),
    "diabetes, scaled": (AnalyticRegressor(), load_diabetes(return_X_y=True), LinearRegression()),
    "linnerud": (AnalyticRegressor(), load_linnerud(return_X_y=True), LinearRegression()),
    "many rows": (AnalyticRegressor(), make_regression(20_000, 50, noise=10, random_state=0), LinearRegression()),
    "breast cancer": (AnalyticClassifier(), load_breast_cancer(return_X_y=True), LOGISTIC),
    "iris": (AnalyticClassifier(), load_iris(return_X_y=True), LOGISTIC),
    "wine": (AnalyticClassifier(), load_wine(return_X_y=True), LOGISTIC),
    "digits": (AnalyticClassifier(), load_digits(return_X_y=True), LOGISTIC),
    "counts": (
        AnalyticRegressor(loss="poisson"),
        (COUNTS_X, COUNTS),
        PoissonRegressor(alpha=0, solver="newton-cholesky"),
    ),
    "diabetes by poisson": (
        AnalyticRegressor(loss="poisson"),
        load_diabetes(return_X_y=True, scaled=False),
        PoissonRegressor(alpha=0, solver="newton-cholesky"),
    ),
    "diabetes by gamma": (
        AnalyticRegressor(loss="gamma"),
        load_diabetes(return_X_y=True, scaled=False),
        GammaRegressor(alpha=0, solver="newton-cholesky"),
    ),
}


@pytest.mark.parametrize("case", PEERS)
def test_the_score_is_that_of_scikit_learn(case):
    """On data as they come, unscaled, and without a warning."""
    ours, (X, y), theirs = PEERS[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # LogisticRegression's
        expected = clone(theirs).fit(X, y).score(X, y)
    score = clone(ours).fit(X, y).score(X, y)
    assert score > expected - 0.01
    if not isinstance(ours, AnalyticClassifier):  # whose accuracy may be the better one
        assert score < expected + 1e-6


def michaelis(conc, vmax, k):
    return vmax * conc / (k + conc)


def michaelis_slopes(conc, vmax, k):
    return np.column_stack([conc / (k + conc), -vmax * conc / (k + conc) ** 2])


def decay(t, height, rate, floor):
    return height * np.exp(-rate * t) + floor


def decay_slopes(t, height, rate, floor):
    e = np.exp(-rate * t)
    return np.column_stack([e, -height * t * e, np.ones_like(t)])


# Treloar (1974), in Bates and Watts, "Nonlinear Regression Analysis", table A1.3: substrate in ppm, counts/min^2.
PUROMYCIN = np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.10], 2)
VELOCITY = np.array([76, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200.0])
T = np.linspace(0, 4, 50)
DECAY = 2 * np.exp(-1.5 * T) + 0.5 + np.random.default_rng(3).normal(scale=0.05, size=50)
CURVES = {
    "puromycin": (michaelis, michaelis_slopes, {"vmax": 200.0, "k": 0.1}, PUROMYCIN, VELOCITY),
    "decay": (decay, decay_slopes, {"height": 1.0, "rate": 1.0, "floor": 0.0}, T, DECAY),
}


def curve(function, slopes, start, **settings):
    def forward(params, X):
        return function(X[:, 0], **params)

    def jacobian(params, X):
        return dict(zip(start, slopes(X[:, 0], **params).T, strict=True))

    return AnalyticRegressor(forward, jacobian=jacobian, init=start, **settings)


@pytest.mark.parametrize("case", CURVES)
def test_a_curve_is_that_of_curve_fit(case):
    """From starting values of the right magnitude."""
    function, slopes, start, x, y = CURVES[case]
    fitted = curve(function, slopes, start).fit(x[:, None], y)
    expected, _ = curve_fit(function, x, y, p0=list(start.values()))
    assert isinstance(fitted.optimizer_, TRF)
    assert_allclose(list(fitted.params_.values()), expected, rtol=1e-3)
    total = ((y - y.mean()) ** 2).sum()
    assert fitted.score(x[:, None], y) > 1 - ((y - function(x, *expected)) ** 2).sum() / total - 0.01


# What is chosen.


def gradient(params, X, y):
    residual = coef_forward(params, X) - y
    return {"coef": X.T @ residual / len(X), "intercept": residual.mean()}


def pair(params, X, y):
    residual = coef_forward(params, X) - y
    return residual @ residual / (2 * len(X)), gradient(params, X, y)


def noisy(params, X, rng):
    return coef_vjp(params, X + 0.01 * rng.normal(size=X.shape))


MODEL = {"forward": coef_forward, "init": ZERO}
CHOICES = {
    "default model": ({}, LBFGS),
    "default model, another loss": ({"loss": "huber"}, LBFGS),
    "vjp": ({**MODEL, "vjp": coef_vjp}, LBFGS),
    "gradient": ({**MODEL, "gradient": gradient}, LBFGS),
    "gradient without a loss": ({**MODEL, "gradient": gradient, "loss": None}, Adam),
    "loss_and_gradient": ({**MODEL, "loss_and_gradient": pair}, LBFGS),
    "differences": ({**MODEL, "numerical": ["coef", "intercept"]}, LBFGS),
    "jacobian": ({**MODEL, "jacobian": coef_jacobian}, TRF),
    "jacobian, the loss as an object": ({**MODEL, "jacobian": coef_jacobian, "loss": SquaredError()}, TRF),
    "jacobian, another loss": ({**MODEL, "jacobian": coef_jacobian, "loss": "huber"}, LBFGS),
    "jacobian and differences": ({**MODEL, "jacobian": coef_jacobian, "numerical": ["coef"]}, TRF),
    "rng": ({**MODEL, "vjp": noisy, "check_gradient": False}, Adam),
    "minibatches asked for": ({"batch_size": 10}, Adam),
    "batches of all rows": ({"batch_size": N}, LBFGS),
    "no sum over rows": ({**MODEL, "loss_and_gradient": pair, "additive": False}, LBFGS),
}


@pytest.mark.filterwarnings("ignore:numerical")
@pytest.mark.parametrize("case", CHOICES)
def test_the_choice_follows_the_documented_rule(case):
    """And `optimizer_` shows it, while the parameter stays "auto"."""
    settings, expected = CHOICES[case]
    fitted = AnalyticRegressor(**settings, tol=None, max_iter=2, random_state=0).fit(X, Y)
    assert type(fitted.optimizer_) is expected
    assert fitted.optimizer == "auto"
    assert fitted.get_params()["optimizer"] == "auto"
    assert clone(fitted).optimizer == "auto"
    if expected is LBFGS:
        assert fitted.optimizer_.get_params() == LBFGS(maxcor=30).get_params()


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (AnalyticClassifier(), Y > 5),
        (AnalyticDensity(), None),
        (AnalyticTransformer(model_params={"n_components": 1}), None),
    ],
)
def test_the_other_estimators_choose_likewise(estimator, y):
    """One rule."""
    fitted = clone(estimator).set_params(tol=None, max_iter=2, random_state=0).fit(X, y)
    assert isinstance(fitted.optimizer_, LBFGS)


def test_a_loss_of_all_rows_is_not_trained_in_minibatches():
    """Asked for both, `fit` says that they do not go together."""
    model = AnalyticRegressor(**MODEL, loss_and_gradient=pair, additive=False, batch_size=10)
    with pytest.raises(ValueError, match="does not decompose over samples .* batch_size >= 60"):
        model.fit(X, Y)


def test_large_work_is_done_in_minibatches(monkeypatch):
    """The borders are entries of the Jacobian, and rows times parameters."""
    model = AnalyticRegressor(**MODEL, jacobian=coef_jacobian, tol=None, max_iter=1, random_state=0)
    monkeypatch.setattr(automatic, "LARGEST_JACOBIAN", N * 3)
    assert isinstance(model.fit(X, Y).optimizer_, TRF)
    monkeypatch.setattr(automatic, "LARGEST_JACOBIAN", N * 3 - 1)
    monkeypatch.setattr(automatic, "MOST_WORK", N * 3)
    assert isinstance(model.fit(X, Y).optimizer_, LBFGS)
    monkeypatch.setattr(automatic, "MOST_WORK", N * 3 - 1)
    assert isinstance(model.fit(X, Y).optimizer_, Adam)
    assert isinstance(model.set_params(additive=False).fit(X, Y).optimizer_, LBFGS)  # there is no other way


def test_parts_and_chunks_are_trained_by_adam():
    """What is here is not all there is."""
    assert isinstance(AnalyticRegressor().partial_fit(X, Y).optimizer_, Adam)
    chunks = [{"X": X[:30], "y": Y[:30]}, {"X": X[30:], "y": Y[30:]}]
    fitted = AnalyticRegressor(tol=None, max_iter=2).fit_chunks(chunks)
    assert isinstance(fitted.optimizer_, Adam)


def test_with_rows_held_out_it_chooses_for_those_that_train():
    """Early stopping ends a full-batch method too."""
    fitted = AnalyticRegressor(early_stopping=True, random_state=0).fit(X, Y)
    assert isinstance(fitted.optimizer_, LBFGS)
    assert fitted.best_validation_score_ > 0.99


@pytest.mark.parametrize("then", ["fit", "partial_fit"])
def test_training_goes_on_from_the_parameters(then):
    """With warm_start=True, and by `partial_fit`: as near as before, with what is chosen for that."""
    model = AnalyticRegressor(warm_start=True, random_state=0).fit(X, Y)
    before = model.score(X, Y)
    getattr(model, then)(X, Y)
    check_is_fitted(model)
    assert model.score(X, Y) > before - 1e-3
    assert isinstance(model.optimizer_, LBFGS if then == "fit" else Adam)


def test_nothing_can_be_set_of_what_is_not_chosen_yet():
    """The error has the way out; so has a search."""
    with pytest.raises(ValueError, match=r"'auto' is chosen by fit.*set_params\(optimizer='adam', optimizer__learning"):
        AnalyticRegressor().set_params(optimizer__learning_rate=0.1)
    with pytest.raises(ValueError, match="'auto' is chosen by fit"):
        GridSearchCV(AnalyticRegressor(), {"optimizer__learning_rate": [0.1]}).fit(X, Y)
    model = AnalyticRegressor().set_params(optimizer="adam", optimizer__learning_rate=0.1)
    assert model.optimizer == "adam" or model.optimizer.learning_rate == 0.1


def test_a_grid_may_have_auto_among_names():
    """It is a name like the others."""
    grid = [{"optimizer": ["auto"]}, {"optimizer": ["adam"], "optimizer__learning_rate": [0.1]}]
    search = GridSearchCV(AnalyticRegressor(max_iter=300, random_state=0), grid, cv=2).fit(X, Y)
    assert len(search.cv_results_["params"]) == 2
    assert search.best_score_ > 0.99


def test_the_sweep_of_rates_names_the_rule_that_it_swept():
    """What it suggests can be set."""
    model = AnalyticRegressor(random_state=0)
    sweep = find_learning_rate(model, X, Y)
    assert sweep.params == {"optimizer": "adam", "optimizer__learning_rate": sweep.suggested}
    assert model.set_params(**sweep.params).optimizer.learning_rate == sweep.suggested


# Where it starts.


def started(estimator, y, weight=None, **settings):
    """Parameters of a fit that trains nothing."""
    return estimator.set_params(fixed=["coef", "intercept"], **settings).fit(X, y, sample_weight=weight).params_


POSITIVE = np.exp(Y / 5)
LINKS = {
    "squared_error": (Y, lambda mean: mean),
    "huber": (Y, lambda mean: mean),
    "poisson": (POSITIVE, np.log),
    "gamma": (POSITIVE, np.log),
}


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("loss", LINKS)
def test_the_intercept_starts_at_the_link_of_the_mean(loss, weight):
    """As in scikit-learn's generalized linear models; the coefficients at zero."""
    y, link = LINKS[loss]
    start = started(AnalyticRegressor(loss=loss), y, weight)
    assert_allclose(start["intercept"], link(np.average(y, weights=weight)))
    assert_array_equal(start["coef"], np.zeros(2))


def test_several_outputs_start_at_a_mean_each():
    """In the order of y's columns."""
    both = np.column_stack([Y, 10 * Y])
    assert_allclose(started(AnalyticRegressor(), both)["intercept"], both.mean(axis=0))


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
def test_a_classifier_starts_at_the_frequencies_of_its_classes(weight):
    """Two classes at their log-odds, more at their logarithms."""
    two = Y > 4
    share = np.average(two, weights=weight)
    assert_allclose(started(AnalyticClassifier(), two, weight)["intercept"], logit(share))
    three = np.digitize(Y, [4, 6])
    start = started(AnalyticClassifier(), three, weight)["intercept"]
    probability = np.exp(start) / np.exp(start).sum()
    assert_allclose(probability, np.average(np.eye(3)[three], axis=0, weights=weight))


def test_the_mean_on_the_edge_of_a_link_counts_as_half_a_row():
    """So that the start is finite."""
    assert_allclose(started(AnalyticRegressor(loss="poisson"), np.zeros(N))["intercept"], np.log(0.5 / N))


def test_parameters_given_stay_as_they_are():
    """By `init`, and where a training goes on."""
    assert started(AnalyticRegressor(init=ZERO), Y)["intercept"] == 0
    model = AnalyticRegressor(warm_start=True).fit(X, Y)
    before = model.params_["intercept"]
    assert started(model, Y + 100)["intercept"] == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_start_has_the_dtype_of_X(dtype):
    """Frames too."""
    frame = pd.DataFrame(X.astype(dtype), columns=["a", "b"])
    fitted = AnalyticRegressor(fixed=["coef", "intercept"]).fit(frame, Y)
    assert fitted._training.theta.vector.dtype == dtype
    assert_allclose(fitted.params_["intercept"], Y.mean(), rtol=1e-6)


# Units.


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
def test_units_of_X_do_not_matter(loss, weight):
    """L-BFGS in units of the gradient's spread takes the same steps for columns in other units."""
    y = Y if loss == "squared_error" else np.floor(POSITIVE)
    model = AnalyticRegressor(loss=loss, random_state=0)
    plain = clone(model).fit(X, y, sample_weight=weight)
    units = np.array([2.0**10, 2.0**-12])
    scaled = clone(model).fit(X * units, y, sample_weight=weight)
    assert scaled.n_iter_ == plain.n_iter_
    assert_allclose(scaled.params_["coef"] * units, plain.params_["coef"], rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_units_of_y_do_not_decide_when_it_has_converged(unit):
    """The gradient is compared with its own spread over the rows."""
    fitted = AnalyticRegressor(random_state=0).fit(X, Y * unit)
    assert_allclose(fitted.params_["coef"], LinearRegression().fit(X, Y * unit).coef_, rtol=1e-3)


def test_weights_count_as_repeated_rows_in_the_units():
    """A row of weight 3 is three rows."""
    repeats = np.arange(N) % 3 + 1
    model = AnalyticRegressor(random_state=0)
    weighted = clone(model).fit(X, Y, sample_weight=repeats)
    repeated = clone(model).fit(np.repeat(X, repeats, axis=0), np.repeat(Y, repeats))
    assert weighted.n_iter_ == repeated.n_iter_
    assert_allclose(weighted.params_["coef"], repeated.params_["coef"], rtol=1e-9)


def test_a_column_of_zeros_keeps_its_coefficient():
    """Its gradient has no spread to go by."""
    wide = np.column_stack([X, np.zeros(N)])
    fitted = AnalyticRegressor().fit(wide, Y)
    assert fitted.params_["coef"][2] == 0
    assert_allclose(fitted.params_["coef"][:2], LinearRegression().fit(X, Y).coef_, rtol=1e-3)


# Where L-BFGS ends.


class Normal(Model):
    """A normal density of one column, whose gradients have another scale far from the data than near."""

    def init(self):
        return {"mean": 0.0, "log_scale": 0.0}

    def vjp(self, params, X):
        scale = np.exp(params["log_scale"])
        z = (X[:, 0] - params["mean"]) / scale

        def pullback(d):
            return {"mean": (d * z).sum() / scale, "log_scale": (d * (z**2 - 1)).sum()}

        return -0.5 * z**2 - params["log_scale"] - 0.5 * np.log(2 * np.pi), pullback


@pytest.mark.parametrize(("mean", "scale"), [(1000, 100), (0, 1000), (100, 10), (0, 1), (1e6, 1)])
def test_a_start_far_off_loosens_no_tolerance(mean, scale):
    """The gradient is compared with its spread at the end: the ends are those of the sample."""
    rows = np.random.default_rng(0).normal(mean, scale, size=(500, 1))
    fitted = AnalyticDensity(model=Normal()).fit(rows)
    assert_allclose(fitted.params_["mean"], rows.mean(), atol=1e-3 * scale)
    assert_allclose(np.exp(fitted.params_["log_scale"]), rows.std(), rtol=1e-3)


OFFSETS = {
    "timestamps of a day": (1.7e9, 86400),
    "Julian days": (2460000, 30),
    "easting in metres": (5.8e6, 3000),
    "latitudes of a city": (52.5, 0.05),
}


@pytest.mark.parametrize("forms", [{}, {"vjp": coef_vjp}, {"gradient": "mean"}], ids=["default", "vjp", "gradient"])
@pytest.mark.parametrize("offset", OFFSETS)
def test_columns_far_from_zero_are_as_good_as_centered_ones(offset, forms):
    """In a model that is linear in its parameters, the user's too."""
    origin, length = OFFSETS[offset]
    rng = np.random.default_rng(0)
    inside, other = rng.uniform(size=1000), rng.normal(size=1000)
    rows = np.column_stack([origin + length * inside, other])
    y = 3 * inside + 0.5 * other + 0.3 * rng.normal(size=1000)
    settings = {"forward": coef_forward, "init": ZERO} | forms if forms else {}
    if "gradient" in forms:
        settings["gradient"] = gradient
    fitted = AnalyticRegressor(**settings, check_gradient=False).fit(rows, y)
    assert fitted.score(rows, y) > LinearRegression().fit(rows, y).score(rows, y) - 1e-4
    assert fitted.n_iter_ < 50


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e5, 1e20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_of_y_do_not_matter(unit, dtype):
    """Nor in single precision."""
    if dtype == np.float32 and unit in (1e-12, 1e20):
        pytest.skip("squares have no number in float32")
    fitted = AnalyticRegressor().fit(X.astype(dtype), (Y * unit).astype(dtype))
    assert_allclose(fitted.coef_ / unit, LinearRegression().fit(X, Y).coef_, rtol=1e-3)


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1.0, 1e6])
def test_means_of_any_size_have_a_logarithm(unit):
    """Small ones are no edge of the domain."""
    y = np.exp(0.5 * X[:, 0]) * unit
    assert AnalyticRegressor(loss="poisson").fit(X, y).score(X, y) > 0.999


class Network(Model):
    """A layer of tanh units, which many starts saturate."""

    def init(self, n_features, rng):
        W = rng.normal(size=(n_features, 8)) / np.sqrt(n_features)
        return {"W": W, "a": np.zeros(8), "v": rng.normal(size=8) * 0.1, "b": 0.0}

    def vjp(self, params, X):
        h = np.tanh(X @ params["W"] + params["a"])

        def pullback(d):
            da = np.outer(d, params["v"]) * (1 - h * h)
            return {"W": X.T @ da, "a": da.sum(axis=0), "v": h.T @ d, "b": d.sum()}

        return h @ params["v"] + params["b"], pullback


@pytest.mark.parametrize("shift", [0, 5])
def test_a_network_is_trained_as_well_as_by_plain_lbfgs(shift):
    """Units that are saturated at the start get no large steps, which would saturate all."""
    scores = {"auto": [], "lbfgs": []}
    for seed in range(4):
        rows = np.random.default_rng(seed).normal(size=(200, 4)) + shift
        y = np.sin(2 * rows[:, 0]) + 0.5 * rows[:, 1]
        for optimizer, found in scores.items():
            model = AnalyticRegressor(model=Network(), optimizer=optimizer, max_iter=100, tol=None, random_state=0)
            found.append(model.fit(rows, y).score(rows, y))
    assert np.mean(scores["auto"]) > np.mean(scores["lbfgs"]) - 0.05


def test_nothing_random_is_in_a_full_batch_fit():
    """Without a seed it is the same fit each time: also the rows that are looked at, of many."""
    rows = np.random.default_rng(0).normal(size=(2000, 3))
    y = rows @ [1.0, 2.0, 3.0] + np.random.default_rng(1).normal(size=2000)
    first, second = (AnalyticRegressor(loss="huber").fit(rows, y).params_["coef"] for _ in range(2))
    assert_array_equal(first, second)


def test_a_model_without_noise_is_found_without_a_warning():
    """Also by a gradient and a loss of the user's own, where no row says how large gradients could be."""
    y = X @ [1.0, -2.0] + 3
    for unit in (1e-6, 1e-3, 1.0, 1e4):
        fitted = AnalyticRegressor(**MODEL, loss_and_gradient=pair).fit(X, y * unit)
        assert_allclose(fitted.params_["coef"], np.array([1.0, -2.0]) * unit, rtol=1e-5)
        assert AnalyticRegressor().fit(X, y * unit).score(X, y * unit) > 1 - 1e-7


@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 1.0, 100.0])
def test_a_penalty_is_part_of_the_units(alpha):
    """Columns that nearly agree are told apart by it alone; and a strong one leaves little to find."""
    X, y = load_iris(return_X_y=True)
    X, y = np.column_stack([X, X[:, :1] + 1e-6 * X[:, 1:2]])[::5], y[::5]
    fitted = AnalyticClassifier(alpha=alpha).fit(X, y)
    theirs = LogisticRegression(C=1 / (alpha * len(X)), max_iter=10_000, tol=1e-8).fit(X, y)
    assert fitted.n_iter_ < 100
    assert_allclose(fitted.predict_proba(X), theirs.predict_proba(X), atol=5e-3)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize(("n", "p"), [(60, 40), (2000, 60)], ids=["few rows", "many columns"])
def test_offsets_do_not_matter_in_larger_models_either(n, p, offset):
    """Where a matrix of all entries is known badly, or too large: what their gradients share is taken out."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, p))
    y = rows[:, : p // 2].sum(axis=1) / 2 + rng.normal(size=n)
    rows[:, : p // 4] += offset
    expected = LinearRegression().fit(rows, y).score(rows, y)
    assert AnalyticRegressor().fit(rows, y).score(rows, y) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("unit", [1.0, 1e4])
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_rare_categories_are_no_trouble(loss, unit):
    """All categories beside an intercept, some in none of the rows that are looked at."""
    rng = np.random.default_rng(0)
    dummies = np.eye(26)[np.minimum(rng.geometric(0.3, 10_000), 25)]
    dummies = dummies[:, dummies.sum(axis=0) > 0]
    numbers = rng.normal(size=(10_000, 3))
    y = dummies @ rng.normal(size=dummies.shape[1]) + numbers[:, 0] + rng.normal(size=10_000)
    fitted = AnalyticRegressor(loss=loss).fit(np.column_stack([dummies, numbers * unit]), y)
    assert fitted.n_iter_ < 120
    if loss == "squared_error":
        rows = np.column_stack([dummies, numbers * unit])
        assert fitted.score(rows, y) > LinearRegression().fit(rows, y).score(rows, y) - 1e-5


def test_a_huge_loss_at_the_start_excuses_nothing():
    """Iterations that end before the minimum end with a warning."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 2))
    y = rng.poisson(np.exp(rows[:, 0])).astype(float)
    start = {"coef": np.zeros(2), "intercept": 40.0}
    settings = {"forward": coef_forward, "vjp": coef_vjp, "init": start, "loss": "poisson"}
    with pytest.warns(ConvergenceWarning, match="Increase max_iter"):
        AnalyticRegressor(**settings, max_iter=30).fit(rows, y)
    fitted = AnalyticRegressor(**settings).fit(rows, y)
    assert fitted.score(rows, y) == pytest.approx(
        AnalyticRegressor(loss="poisson").fit(rows, y).score(rows, y), abs=1e-6
    )
