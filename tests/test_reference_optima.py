"""At the optimum every loss is scikit-learn's: the same objective has the same coefficients, weighted or not."""

from typing import NamedTuple

import numpy as np
import pytest
from models import coef_forward, coef_jacobian, coef_pull, coef_vjp
from numpy.testing import assert_allclose
from scipy.linalg import subspace_angles
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.linear_model import (
    GammaRegressor,
    HuberRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    TweedieRegressor,
)
from sklearn.metrics import mean_pinball_loss
from threadpoolctl import threadpool_limits

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.losses import (
    LOSSES,
    AbsoluteError,
    Gamma,
    Huber,
    LogLoss,
    NegativeLogLikelihood,
    Poisson,
    Quantile,
    SquaredError,
    Tweedie,
)
from sk_analytic.optimizers import Adam, Exponential

RTOL = 1e-4
N, N_FEATURES = 200, 4
X = np.random.default_rng(0).normal(size=(N, N_FEATURES))
COEF = np.array([0.5, -0.4, 0.3, 0.6])
WEIGHT = np.random.default_rng(1).uniform(0, 3, size=N) * (np.arange(N) % 5 > 0)
REPEATS = np.random.default_rng(2).integers(4, size=N)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The problems are tiny: threads would only wait for one another."""
    with threadpool_limits(1):
        yield


WEIGHTED = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])


# The losses by hand, entry by entry.


def squared_error(y, s):
    return (y - s) ** 2 / 2, s - y


def huber(y, s, epsilon):
    far = np.abs(y - s) > epsilon
    return np.where(far, epsilon * np.abs(y - s) - epsilon**2 / 2, (y - s) ** 2 / 2), np.clip(s - y, -epsilon, epsilon)


def pinball(y, s, quantile):
    return np.where(y > s, quantile * (y - s), (1 - quantile) * (s - y)), np.where(y > s, -quantile, 1 - quantile)


def deviance(y, mean, power):
    """Half the Tweedie deviance without the terms that lack the mean, and its derivative in the mean."""
    if power == 1:
        return mean - y * np.log(mean), 1 - y / mean
    if power == 2:
        return np.log(mean) + y / mean, (mean - y) / mean**2
    values = mean ** (2 - power) / (2 - power) - y * mean ** (1 - power) / (1 - power)
    return values, (mean - y) * mean**-power


def log_deviance(y, s, power):
    values, derivative = deviance(y, np.exp(s), power)
    return values, derivative * np.exp(s)


def binary(y, s):
    return np.logaddexp(0, s) - y * s, expit(s) - y


def multinomial(y, s):
    own = np.eye(s.shape[1])[y]
    return -own * np.log(softmax(s, axis=1)), softmax(s, axis=1) - own


def model(form, loss, by_hand):
    """The arguments of an estimator for a gradient form: composed with the loss by name, or with that by hand."""
    if form == "default":
        return {"loss": loss}
    if form in ("vjp", "jacobian"):
        return {"loss": loss, "forward": coef_forward, form: {"vjp": coef_vjp, "jacobian": coef_jacobian}[form]}

    def loss_and_gradient(params, X, y, sample_weight=None):
        values, derivative = by_hand(y, coef_forward(params, X))
        share = np.ones(len(X)) / len(X) if sample_weight is None else sample_weight / len(X)
        share = share.reshape(-1, *[1] * (values.ndim - 1))
        return (share * values).sum(), coef_pull(X, share * derivative)

    def gradient(params, X, y, sample_weight=None):
        return loss_and_gradient(params, X, y, sample_weight)[1]

    return {"loss": loss, "forward": coef_forward} | (
        {"gradient": gradient} if form == "gradient" else {"loss_and_gradient": loss_and_gradient}
    )


EACH_FORM = pytest.mark.parametrize("form", ["default", "vjp", "jacobian", "loss_and_gradient", "gradient"])


def fitted(estimator, form, loss, by_hand, y, weight, *, strength=0.0, outputs=(), level=0.0, **settings):
    """Our estimator, trained from a level without slopes; only the slopes are penalized."""
    start = {"coef": np.zeros((N_FEATURES, *outputs)), "intercept": np.full(outputs, level)}
    settings = {"optimizer": "lbfgs", "tol": 1e-7, "max_iter": 1000} | settings
    ours = estimator(**model(form, loss, by_hand), init=start, alpha={"coef": strength}, **settings)
    return ours.fit(X, y, sample_weight=weight)


def total(weight):
    return N if weight is None else weight.sum()


# Smooth losses: the coefficients.


class Case(NamedTuple):
    """A regression of scikit-learn's and ours."""

    reference: BaseEstimator
    strength: object  # of our penalty, from the fitted reference and the sum of weights
    loss: object  # from the fitted reference
    by_hand: object  # likewise
    draw: object  # y, from a generator and the linear prediction
    level: float = 0.0


def normal(rng, eta):
    return rng.normal(eta)


def heavy_tailed(rng, eta):
    return eta + rng.standard_t(2, size=eta.shape)


def counts(rng, eta):
    return rng.poisson(np.exp(eta)).astype(float)


def positive(rng, eta):
    return rng.gamma(2, np.exp(eta) / 2)


def counts_around(level):
    return lambda rng, eta: rng.poisson(level + eta).astype(float)


def positive_around(level):
    return lambda rng, eta: rng.gamma(20, (level + eta) / 20)


class SettledHuberRegressor(HuberRegressor):
    """Each of its fits is ended early by a tolerance of scipy's on the objective, so that it needs several."""

    def fit(self, X, y, sample_weight=None):
        self.set_params(warm_start=True)
        for _ in range(5):
            super().fit(X, y, sample_weight)
        return self


def own_strength(reference, total):
    """The generalized linear models have our objective, to the letter."""
    return reference.alpha


def tweedie(power, draw):
    return Case(
        TweedieRegressor(power=power, link="log", alpha=0.1, tol=1e-10, max_iter=1000),
        own_strength,
        lambda reference: Tweedie(power=power),
        lambda reference: lambda y, s: log_deviance(y, s, power),
        draw,
    )


def tweedie_identity(power, draw, level):
    return Case(
        TweedieRegressor(power=power, link="identity", alpha=0.1, tol=1e-10, max_iter=1000),
        own_strength,
        lambda reference: Tweedie(power=power, link="identity"),
        lambda reference: lambda y, s: deviance(y, s, power),
        draw,
        level,
    )


REGRESSIONS = {
    # sum of w r^2 + a |coef|^2, divided by twice the sum of w
    "Ridge": Case(
        Ridge(alpha=3.0, tol=1e-12),
        lambda reference, total: reference.alpha / total,
        lambda reference: SquaredError(),
        lambda reference: squared_error,
        normal,
    ),
    "LinearRegression": Case(
        LinearRegression(), lambda *_: 0.0, lambda reference: SquaredError(), lambda reference: squared_error, normal
    ),
    # With r = y - f and scale s, scikit-learn's H(r / s) s is 2 / s times our loss with epsilon s: so the sum of
    # w H(r / s) s + a |coef|^2 is divided by 2 / s times the sum of w.
    "HuberRegressor": Case(
        SettledHuberRegressor(epsilon=1.5, alpha=3.0, tol=1e-9, max_iter=1000),
        lambda reference, total: reference.alpha * reference.scale_ / total,
        lambda reference: Huber(epsilon=reference.epsilon * reference.scale_),
        lambda reference: lambda y, s: huber(y, s, reference.epsilon * reference.scale_),
        heavy_tailed,
    ),
    "PoissonRegressor": Case(
        PoissonRegressor(alpha=0.1, solver="newton-cholesky", tol=1e-10),
        own_strength,
        lambda reference: Poisson(),
        lambda reference: lambda y, s: log_deviance(y, s, 1),
        counts,
    ),
    "GammaRegressor": Case(
        GammaRegressor(alpha=0.1, solver="newton-cholesky", tol=1e-10),
        own_strength,
        lambda reference: Gamma(),
        lambda reference: lambda y, s: log_deviance(y, s, 2),
        positive,
    ),
    "TweedieRegressor of power -1": tweedie(-1, normal),
    "TweedieRegressor of power 0": tweedie(0, normal),
    "TweedieRegressor of power 1": tweedie(1, counts),
    "TweedieRegressor of power 1.5": tweedie(1.5, counts),
    "TweedieRegressor of power 2": tweedie(2, positive),
    "TweedieRegressor of power 2.5": tweedie(2.5, positive),
    "TweedieRegressor of power 3": tweedie(3, positive),
    "TweedieRegressor of power 0, identity": tweedie_identity(0, normal, 0.0),
    "TweedieRegressor of power 1, identity": tweedie_identity(1, counts_around(6), 6.0),
    "TweedieRegressor of power 1.5, identity": tweedie_identity(1.5, counts_around(6), 6.0),
    "TweedieRegressor of power 2, identity": tweedie_identity(2, positive_around(6), 6.0),
    "TweedieRegressor of power 3, identity": tweedie_identity(3, positive_around(6), 6.0),
}


@WEIGHTED
@EACH_FORM
@pytest.mark.parametrize("case", REGRESSIONS.values(), ids=REGRESSIONS)
def test_a_regression_has_the_coefficients_of_scikit_learns(case, form, weight):
    """The same objective, minimized by lbfgs in any gradient form, ends at the same coefficients and predictions."""
    y = case.draw(np.random.default_rng(3), X @ COEF + 0.5)
    theirs = clone(case.reference).fit(X, y, sample_weight=weight)
    strength = case.strength(theirs, total(weight))
    ours = fitted(
        AnalyticRegressor,
        form,
        case.loss(theirs),
        case.by_hand(theirs),
        y,
        weight,
        strength=strength,
        level=case.level,
    )
    assert_allclose(ours.params_["coef"], theirs.coef_, rtol=RTOL)
    assert_allclose(ours.params_["intercept"], theirs.intercept_, rtol=RTOL)
    assert_allclose(ours.predict(X), theirs.predict(X), rtol=RTOL, atol=RTOL * np.abs(y).mean())


@WEIGHTED
@EACH_FORM
def test_ridge_of_several_outputs(form, weight):
    """The loss of a row is the sum over its outputs, so that several outputs are as many regressions."""
    y = np.random.default_rng(4).normal(X @ np.stack([COEF, 1 - COEF, -COEF], axis=1) + [0.5, 1, -2])
    theirs = Ridge(alpha=3.0, tol=1e-12).fit(X, y, sample_weight=weight)
    ours = fitted(
        AnalyticRegressor,
        form,
        SquaredError(),
        squared_error,
        y,
        weight,
        strength=theirs.alpha / total(weight),
        outputs=(3,),
    )
    assert_allclose(ours.params_["coef"].T, theirs.coef_, rtol=RTOL)
    assert_allclose(ours.params_["intercept"], theirs.intercept_, rtol=RTOL)


# Classification. scikit-learn minimizes C times the sum of w l, plus half of |coef|^2: our objective times C times
# the sum of w, so that alpha is the inverse of that.

C = 0.5


def logistic_regression(y, weight):
    return LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10).fit(X, y, sample_weight=weight)


def labels(*, n_classes):
    """Classes drawn from the probabilities of a linear model."""
    rng = np.random.default_rng(5)
    scores = X @ rng.normal(size=(N_FEATURES, n_classes)) + rng.normal(size=n_classes)
    return (softmax(scores, axis=1).cumsum(axis=1) < rng.uniform(size=(N, 1))).sum(axis=1)


@WEIGHTED
@EACH_FORM
def test_binary_log_loss_is_logistic_regression(form, weight):
    """One score column: the same coefficients, scores and probabilities."""
    y = labels(n_classes=2)
    theirs = logistic_regression(y, weight)
    ours = fitted(AnalyticClassifier, form, LogLoss(), binary, y, weight, strength=1 / (C * total(weight)))
    assert_allclose(ours.params_["coef"], theirs.coef_[0], rtol=RTOL)
    assert_allclose(ours.params_["intercept"], theirs.intercept_[0], rtol=RTOL)
    assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=RTOL, atol=RTOL)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=RTOL)


@WEIGHTED
@EACH_FORM
def test_multinomial_log_loss_is_logistic_regression(form, weight):
    """K score columns: the same coefficients; intercepts up to a constant that no probability depends on."""
    y = labels(n_classes=3)
    theirs = logistic_regression(y, weight)
    ours = fitted(
        AnalyticClassifier, form, LogLoss(), multinomial, y, weight, strength=1 / (C * total(weight)), outputs=(3,)
    )
    intercept, expected = ours.params_["intercept"], theirs.intercept_
    assert_allclose(ours.params_["coef"].T, theirs.coef_, rtol=RTOL)
    assert_allclose(intercept - intercept.mean(), expected - expected.mean(), rtol=RTOL)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=RTOL)


@WEIGHTED
@pytest.mark.parametrize("form", ["vjp", "jacobian", "loss_and_gradient", "gradient"])
def test_two_score_columns_are_one_under_twice_the_penalty(form, weight):
    """The best split of a coefficient c over two columns is c/2 and -c/2, which halves its penalty."""
    y = labels(n_classes=2)
    theirs = logistic_regression(y, weight)
    strength = 2 / (C * total(weight))
    ours = fitted(AnalyticClassifier, form, LogLoss(), multinomial, y, weight, strength=strength, outputs=(2,))
    assert_allclose(ours.params_["coef"] @ [-1, 1], theirs.coef_[0], rtol=RTOL)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=RTOL)


@WEIGHTED
@EACH_FORM
def test_multilabel_log_loss_is_one_logistic_regression_a_label(form, weight):
    """The loss of a row is the sum over its labels: coefficients and probabilities are those of independent models."""
    y = (labels(n_classes=4)[:, None] > np.arange(3)).astype(int)
    ours = fitted(
        AnalyticClassifier, form, LogLoss(), binary, y, weight, strength=1 / (C * total(weight)), outputs=(3,)
    )
    theirs = [logistic_regression(label, weight) for label in y.T]
    assert_allclose(ours.params_["coef"].T, [m.coef_[0] for m in theirs], rtol=RTOL)
    assert_allclose(ours.params_["intercept"], [m.intercept_[0] for m in theirs], rtol=RTOL)
    assert_allclose(ours.predict_proba(X).T, [m.predict_proba(X)[:, 1] for m in theirs], rtol=RTOL)


# Losses with kinks: the objective that is reached. A full batch and a rate that is halved every 40 epochs settle on
# the kinks; the fit ends when the steps no longer change the parameters.

HALVED = {
    "optimizer": Adam(learning_rate=Exponential(0.2, decay=0.5, every=40, unit="epoch")),
    "batch_size": N,
    "max_iter": 4000,
    "tol": 0,
    "n_iter_no_change": 100,
}
PINBALLS = {
    "absolute_error": (AbsoluteError(), 0.5, 2),
    "quantile 0.5": (Quantile(), 0.5, 1),
    "quantile 0.1": (Quantile(quantile=0.1), 0.1, 1),
    "quantile 0.8": (Quantile(quantile=0.8), 0.8, 1),
}


@WEIGHTED
@EACH_FORM
@pytest.mark.parametrize(("loss", "quantile", "scale"), PINBALLS.values(), ids=PINBALLS)
def test_a_loss_with_kinks_reaches_the_objective_of_quantile_regression(loss, quantile, scale, form, weight):
    """The mean loss is within a thousandth of the minimum that linear programming finds."""
    y = heavy_tailed(np.random.default_rng(6), X @ COEF + 0.5)
    theirs = QuantileRegressor(quantile=quantile, alpha=0.0).fit(X, y, sample_weight=weight)

    def by_hand(y, s):
        values, derivative = pinball(y, s, quantile)
        return scale * values, scale * derivative

    def reached(estimator):
        return scale * mean_pinball_loss(y, estimator.predict(X), alpha=quantile, sample_weight=weight)

    ours = fitted(AnalyticRegressor, form, loss, by_hand, y, weight, **HALVED)
    assert reached(theirs) - 1e-12 <= reached(ours) <= (1 + 1e-3) * reached(theirs)
    assert_allclose(ours.loss_, reached(ours), rtol=1e-3)


# Densities and codes.


def density_forward(params, X):
    z = (X - params["mean"]) / np.exp(params["log_scale"])
    return -(0.5 * z * z + params["log_scale"] + 0.5 * np.log(2 * np.pi)).sum(axis=1)


def density_jacobian(params, X):
    z = (X - params["mean"]) / np.exp(params["log_scale"])
    return {"mean": z / np.exp(params["log_scale"]), "log_scale": z * z - 1}


def density_vjp(params, X):
    jacobian = density_jacobian(params, X)
    return density_forward(params, X), lambda d: {name: d @ leaf for name, leaf in jacobian.items()}


def density_loss_and_gradient(params, X, sample_weight):
    log_density, pullback = density_vjp(params, X)
    return -(sample_weight @ log_density) / len(X), pullback(-sample_weight / len(X))


DENSITIES = {
    "default": {},
    "vjp": {"forward": density_forward, "vjp": density_vjp},
    "jacobian": {"forward": density_forward, "jacobian": density_jacobian},
    "loss_and_gradient": {"forward": density_forward, "loss_and_gradient": density_loss_and_gradient},
}


@WEIGHTED
@pytest.mark.parametrize("form", DENSITIES)
def test_a_gaussian_density_has_the_mean_and_the_standard_deviation_of_the_data(form, weight):
    """From a standard normal start, maximum likelihood ends at the (weighted) moments of each column."""
    rows = X * [0.1, 1, 3, 20] + [5, 0, -2, 30]
    start = {"mean": np.zeros(N_FEATURES), "log_scale": np.full(N_FEATURES, 2.0)}
    smallest = {"smallest_scale": 1e-3} if form == "default" else {}
    ours = AnalyticDensity(**DENSITIES[form], init=start | smallest, optimizer="lbfgs", tol=1e-7, max_iter=2000)
    ours.fit(rows, sample_weight=weight)
    mean = np.average(rows, axis=0, weights=weight)
    std = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weight))
    scale = np.sqrt(np.exp(2 * ours.params_["log_scale"]) + smallest.get("smallest_scale", 0) ** 2)
    assert_allclose(ours.params_["mean"], mean, rtol=RTOL)
    assert_allclose(scale, std, rtol=RTOL)


@WEIGHTED
@pytest.mark.parametrize(("optimizer", "atol"), [("lbfgs", 1e-4), ("adam", 1e-2)])
def test_the_default_density_starts_and_stays_at_the_moments_of_the_data(optimizer, atol, weight):
    """It begins at the maximum of the likelihood, and training does not leave it; Adam shakes a little there."""
    rows = X * [1, 2, 3, 4] + [5, 0, -2, 3]
    ours = AnalyticDensity(optimizer=optimizer, tol=1e-8, batch_size=N).fit(rows, sample_weight=weight)
    mean = np.average(rows, axis=0, weights=weight)
    variance = np.average((rows - mean) ** 2, axis=0, weights=weight)
    log_density = -0.5 * ((rows - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)
    assert_allclose(ours.params_["mean"], mean, atol=atol)
    assert_allclose(ours.score(rows, sample_weight=weight), np.average(log_density, weights=weight), rtol=atol**2)


def autoencoder_vjp(params, X):
    """Decoder after encoder: the prediction is the reconstruction."""
    codes = X @ params["encoder"]

    def pullback(d):
        return {"encoder": X.T @ (d @ params["decoder"]), "decoder": d.T @ codes}

    return codes @ params["decoder"].T, pullback


def autoencoder_loss_and_gradient(params, X, sample_weight):
    reconstruction, pullback = autoencoder_vjp(params, X)
    d = sample_weight[:, None] * (reconstruction - X) / len(X)
    return 0.5 * (d * (reconstruction - X)).sum(), pullback(d)


def principal_axes(X, repeats):
    repeated = X if repeats is None else np.repeat(X, repeats, axis=0)
    return PCA(2).fit(repeated).components_.T


@pytest.mark.parametrize("repeats", [None, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("form", ["default", "vjp", "loss_and_gradient"])
def test_a_linear_autoencoder_spans_the_principal_components(form, repeats):
    """The largest principal angle between the decoder's columns and the first two components is nil.

    Weights are whole numbers here: PCA has none, but rows can be repeated.
    """
    rows = load_iris().data
    repeats = np.resize(REPEATS, len(rows)) if repeats else None
    axes = principal_axes(rows, repeats)
    settings = {"optimizer": "lbfgs", "tol": 1e-7, "max_iter": 10_000, "random_state": 0}
    if form == "default":
        ours = AnalyticTransformer(**settings).fit(rows, sample_weight=repeats)
        learned = ours.params_["components"]
        assert_allclose(learned.T @ learned, np.eye(2), atol=1e-4)
    else:
        centered = rows - np.average(rows, axis=0, weights=repeats)
        rng = np.random.default_rng(7)
        start = {"encoder": rng.normal(size=(4, 2)), "decoder": rng.normal(size=(4, 2))}
        if form == "vjp":
            ours = AnalyticRegressor(vjp=autoencoder_vjp, init=start, **settings)
            ours.fit(centered, centered, sample_weight=repeats)
        else:
            ours = AnalyticTransformer(
                lambda params, X: X @ params["encoder"],
                loss_and_gradient=autoencoder_loss_and_gradient,
                init=start,
                **settings | {"tol": 5e-7},  # beyond it one scipy or another stops at rounding
            ).fit(centered, sample_weight=repeats)
        learned = ours.params_["decoder"]
    assert np.max(subspace_angles(learned, axes)) < RTOL


def test_every_loss_is_held_against_a_reference():
    """No loss by name is missing in the tables above."""
    covered = {type(case.loss(HuberRegressor().fit(X, X[:, 0] + X[:, 1] ** 2))) for case in REGRESSIONS.values()}
    covered |= {type(loss) for loss, *_ in PINBALLS.values()} | {LogLoss, NegativeLogLikelihood}
    assert covered == set(LOSSES.values())
