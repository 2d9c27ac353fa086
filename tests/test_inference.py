"""Standard errors and intervals beside statsmodels, scipy and NIST, and the warnings that numbers come with."""

import pickle
import re
import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from joblib import parallel_config
from nist_problems import MODELS, functions, read
from numpy.testing import assert_allclose
from scipy.optimize import curve_fit
from scipy.sparse import csr_array
from scipy.special import digamma, expit, gammaln
from scipy.stats import norm
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from statsmodels.miscmodels.ordinal_model import OrderedModel

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    InferenceWarning,
    infer,
)
from sk_analytic.losses import Loss

RTOL = 1e-6  # of standard errors, beside another implementation


def rand(n=400, p=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, p))


def intercept_first(structure, coef="coef", intercept="intercept"):
    """What statsmodels has in one array: the intercept, then the coefficients."""
    return np.r_[structure[intercept], np.ravel(structure[coef])]


def silently(model, *args, **kwargs):
    """What `infer` returns, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InferenceWarning)
        return infer(model, *args, **kwargs)


# Likelihoods beside statsmodels.


@pytest.fixture(scope="module")
def randhie():
    """Visits to a doctor: 20190 rows, a count and nine covariates."""
    frame = sm.datasets.randhie.load_pandas().data
    return frame.drop(columns="mdvis").to_numpy(float), frame.mdvis.to_numpy(float)


@pytest.fixture(scope="module")
def poisson(randhie):
    X, y = randhie
    reference = sm.Poisson(y, sm.add_constant(X))
    model = AnalyticRegressor(
        log_mean,
        jacobian=lambda params, X: {"coef": X, "intercept": np.ones(len(X))},
        init={"coef": np.zeros(9), "intercept": 0.0},
        loss="poisson",
        optimizer="lbfgs",
    )
    return model.fit(X, y), reference


EXACT = {"disp": 0, "method": "newton", "tol": 1e-13, "maxiter": 100}


@pytest.mark.parametrize("covariance", ["hessian", "gauss_newton", "HC0", "cluster", "opg"])
def test_poisson_regression_is_that_of_statsmodels(poisson, randhie, covariance):
    """Of 20190 counts: Hessian and Gauss-Newton, which agree on the log link, HC0, clusters, and outer products."""
    X, y = randhie
    model, reference = poisson
    groups = np.arange(len(y)) // 7
    kinds = {"HC0": {"cov_type": "HC0"}, "cluster": {"cov_type": "cluster", "cov_kwds": {"groups": groups}}}
    expected = reference.fit(**EXACT, **kinds.get(covariance, {}))
    errors = expected.bse
    if covariance == "opg":
        scores = reference.score_obs(expected.params)
        errors = np.sqrt(np.diag(np.linalg.inv(scores.T @ scores)))
    given = {"groups": [f"family {group}" for group in groups]} if covariance == "cluster" else {}
    result = infer(model, X, y, covariance=covariance, polish=True, **given)
    assert_allclose(intercept_first(result.params), expected.params, rtol=1e-8)
    assert_allclose(intercept_first(result.standard_errors), errors, rtol=RTOL)
    assert result.kind == covariance
    assert result.distance < 1e-6
    assert np.isinf(result.df)
    assert result.warnings == []


def test_clusters_are_auto_with_groups_and_hessian_without(poisson, randhie):
    """And the squared error has Gauss-Newton, the others a sandwich."""
    X, y = (part[:500] for part in randhie)
    model, _ = poisson
    assert silently(model, X, y).kind == "hessian"
    assert silently(model, X, y, groups=np.arange(500) // 5).kind == "cluster"
    assert silently(model, X, y, sample_weight=np.ones(500), weights="sampling").kind == "HC0"
    assert silently(AnalyticRegressor().fit(X, y), X, y).kind == "gauss_newton"
    huber = AnalyticRegressor(loss="huber", optimizer="lbfgs").fit(X, y)
    assert silently(huber, X, y).kind == "HC0"


def negative_binomial_init(n_features, y):
    return {"coef": np.zeros(n_features), "intercept": np.log(y.mean()), "log_alpha": 0.0}


def negative_binomial(params, X, y):
    """Variance mu + alpha mu², alpha on a logarithmic scale."""
    mean, k = np.exp(X @ params["coef"] + params["intercept"]), np.exp(-params["log_alpha"])
    log_share = np.log(k / (k + mean))
    likelihood = gammaln(y + k) - gammaln(k) - gammaln(y + 1) + k * log_share + y * np.log(mean / (k + mean))
    d = (mean - y) / (1 + mean / k)
    by_k = digamma(y + k) - digamma(k) + log_share + 1 - (k + y) / (k + mean)
    return -likelihood.mean(), {"coef": X.T @ d / len(y), "intercept": d.mean(), "log_alpha": k * by_k.mean()}


def log_mean(params, X):
    return X @ params["coef"] + params["intercept"]


NEGATIVE_BINOMIAL = {
    "forward": log_mean,
    "loss_and_gradient": negative_binomial,
    "init": negative_binomial_init,
    "optimizer": "lbfgs",
}


def test_negative_binomial_regression_is_that_of_statsmodels(randhie):
    """With the dispersion by the delta method, of a likelihood of the user's own."""
    X, y = randhie
    expected = sm.NegativeBinomial(y, sm.add_constant(X)).fit(**EXACT)
    result = infer(AnalyticRegressor(**NEGATIVE_BINOMIAL).fit(X, y), X, y, polish=True)
    assert_allclose(intercept_first(result.standard_errors), expected.bse[:-1], rtol=RTOL)
    alpha = result.delta(lambda params: np.exp(params["log_alpha"]))
    assert alpha.value == pytest.approx(expected.params[-1], rel=1e-8)
    assert alpha.standard_error == pytest.approx(expected.bse[-1], rel=RTOL)
    assert alpha.covariance == pytest.approx(alpha.standard_error**2)


def test_negative_binomial_of_diabetes():
    """The log-likelihood -2369.3744, and alpha 0.13668 ± 0.00956."""
    X, y = load_diabetes(return_X_y=True)
    model = AnalyticRegressor(**NEGATIVE_BINOMIAL).fit(X, y)
    result = infer(model, X, y, polish=True)
    assert -len(y) * negative_binomial(result.params, X, y)[0] == pytest.approx(-2369.3744, abs=5e-5)
    alpha = result.delta(lambda params: np.exp(params["log_alpha"]))
    assert (round(alpha.value, 5), round(alpha.standard_error, 5)) == (0.13668, 0.00956)


@pytest.mark.filterwarnings(
    "ignore:Maximum Likelihood optimization failed"
)  # theirs, by differences, as far as they go
def test_ordered_logit_of_quartiles():
    """Of diabetes, by `np.digitize`: -470.5448; the thresholds are rises on a logarithmic scale, as in statsmodels."""
    X, y = load_diabetes(return_X_y=True)
    codes = np.digitize(y, np.quantile(y, [0.25, 0.5, 0.75]))

    def shares(params, X):
        cuts = np.cumsum(np.r_[params["first"], np.exp(params["rises"])])
        below = expit(cuts - (X @ params["coef"])[:, None])
        return np.column_stack([np.zeros(len(X)), below, np.ones(len(X))])

    def loss_and_gradient(params, X, y):
        below, rows = shares(params, X), np.arange(len(X))
        k, slope = y.astype(int), below * (1 - below)
        share = below[rows, k + 1] - below[rows, k]
        upper, lower = slope[rows, k + 1] / share, slope[rows, k] / share
        by_cut = np.zeros((len(X), 5))
        by_cut[rows, k + 1], by_cut[rows, k] = -upper, lower
        by_cut = by_cut[:, 1:4].mean(axis=0)
        from_right = np.cumsum(by_cut[::-1])[::-1]
        return -np.log(share).mean(), {
            "coef": X.T @ (upper - lower) / len(X),
            "first": from_right[0],
            "rises": from_right[1:] * np.exp(params["rises"]),
        }

    init = {"coef": np.zeros(10), "first": -1.0, "rises": np.zeros(2)}
    model = AnalyticRegressor(
        loss_and_gradient=loss_and_gradient,
        forward=lambda params, X: X @ params["coef"],
        init=init,
        optimizer="lbfgs",
    ).fit(X, codes)
    expected = OrderedModel(codes, X, distr="logit").fit(method="bfgs", gtol=1e-9, maxiter=1000, disp=0)
    hessian = OrderedModel(codes, X, distr="logit").hessian
    result = infer(model, X, codes, polish=True)
    assert -len(y) * loss_and_gradient(result.params, X, codes)[0] == pytest.approx(-470.5448, abs=5e-5)
    flat = np.r_[result.params["coef"], result.params["first"], result.params["rises"]]
    assert_allclose(flat, expected.params, rtol=1e-4)
    reference = np.sqrt(np.diag(np.linalg.inv(-hessian(flat))))
    errors = result.standard_errors
    assert_allclose(
        np.r_[errors["coef"], errors["first"], errors["rises"]], reference, rtol=1e-3
    )  # theirs: differences


def classes(n=500, seed=0, n_classes=3):
    """Overlapping classes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    scores = X @ rng.normal(size=(3, n_classes)) + rng.gumbel(size=(n, n_classes))
    return X, scores.argmax(axis=1)


@pytest.mark.parametrize("covariance", ["hessian", "gauss_newton", "HC0"])
def test_logistic_regression_is_that_of_statsmodels(covariance):
    """The default classifier of two classes."""
    X, y = classes(n_classes=2)
    kind = "HC0" if covariance == "HC0" else "nonrobust"
    expected = sm.Logit(y, sm.add_constant(X)).fit(**EXACT, cov_type=kind)
    model = AnalyticClassifier(optimizer="lbfgs").fit(X, np.array(["no", "yes"])[y])
    result = infer(model, X, np.array(["no", "yes"])[y], covariance=covariance, polish=True)
    assert_allclose(intercept_first(result.standard_errors), expected.bse, rtol=RTOL)


def test_probit_is_that_of_statsmodels():
    """A loss of the user's own in a class, whose observed and expected curvatures differ."""

    class Probit(Loss):
        link = "logit"

        def formula(self, y, prediction):
            sign = 2 * y - 1
            return -norm.logcdf(sign * prediction), -sign * np.exp(
                norm.logpdf(prediction) - norm.logcdf(sign * prediction)
            )

    X, y = classes(n_classes=2)
    expected = sm.Probit(y, sm.add_constant(X)).fit(**EXACT)
    model = AnalyticClassifier(loss=Probit(), optimizer="lbfgs").fit(X, y)
    for covariance in ("auto", "gauss_newton"):
        result = infer(model, X, y, covariance=covariance, polish=True)
        assert_allclose(intercept_first(result.standard_errors), expected.bse, rtol=RTOL)


def multinomial_forward(params, X):
    """Scores with the first class as reference."""
    scores = X @ params["W"] + params["b"]
    return np.column_stack([np.zeros(len(X)), scores])


def multinomial_vjp(params, X):
    def pullback(d):
        return {"W": X.T @ d[:, 1:], "b": d[:, 1:].sum(axis=0)}

    return multinomial_forward(params, X), pullback


@pytest.mark.parametrize("covariance", ["hessian", "gauss_newton"])
def test_multinomial_logit_is_that_of_statsmodels(covariance):
    """Without the coefficients of a class of reference."""
    X, y = classes()
    expected = sm.MNLogit(y, sm.add_constant(X)).fit(**EXACT)
    model = AnalyticClassifier(
        vjp=multinomial_vjp, init={"W": np.zeros((3, 2)), "b": np.zeros(2)}, optimizer="lbfgs"
    ).fit(X, y)
    result = infer(model, X, y, covariance=covariance, polish=True)
    assert_allclose(np.vstack([result.standard_errors["b"], result.standard_errors["W"]]), expected.bse, rtol=RTOL)


def test_all_coefficients_of_a_multinomial_logit_are_not_identified():
    """The directions are named and their entries NaN; differences of classes and predictions keep their errors."""
    X, y = classes()
    reference = sm.MNLogit(y, sm.add_constant(X)).fit(**EXACT)
    model = AnalyticClassifier(optimizer="lbfgs").fit(X, y)
    named = re.escape("coef[0, 0] + coef[0, 1] + coef[0, 2]")
    with pytest.warns(InferenceWarning, match=f"Not identified: the loss does not change along .*{named}"):
        result = infer(model, X, y, polish=True)
    assert np.isnan(result.standard_errors["coef"]).all()
    assert np.isnan(result.covariance).all()
    contrast = result.delta(lambda params: params["coef"][:, 1] - params["coef"][:, 0])
    assert_allclose(contrast.standard_error, reference.bse[1:, 0], rtol=RTOL)
    predicted = result.predict(X[:5], interval="mean")
    assert_allclose(predicted.value, reference.predict(sm.add_constant(X)[:5]), rtol=1e-6)
    assert np.isfinite(predicted.standard_error).all()
    assert (predicted.low > 0).all()
    assert (predicted.high < 1).all()
    with pytest.warns(InferenceWarning, match="1 of 1 values depend on directions that are not identified"):
        lost = result.delta(lambda params: params["coef"][0, 0])
    assert np.isnan(lost.standard_error)


def cox(params, X, y):
    """Breslow's partial likelihood over n, of ``y`` with the fields time and event."""
    risk = np.exp(X @ params["coef"])
    at_risk = y["time"][None, :] >= y["time"][:, None]
    event = y["event"].astype(float)
    totals = at_risk @ risk
    value = -(event * (X @ params["coef"] - np.log(totals))).mean()
    means = (at_risk @ (risk[:, None] * X)) / totals[:, None]
    return value, {"coef": -(event[:, None] * (X - means)).mean(axis=0)}


@pytest.fixture(scope="module")
def survival():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    time = rng.exponential(np.exp(-X @ [0.5, -0.3, 0.0]))
    y = np.rec.fromarrays([np.minimum(time, 2.0), time < 2.0], names="time, event")
    model = AnalyticRegressor(
        loss_and_gradient=cox,
        forward=lambda params, X: X @ params["coef"],
        init={"coef": np.zeros(3)},
        optimizer="lbfgs",
        additive=False,
    )
    return model.fit(X, y), X, y


def test_proportional_hazards_are_those_of_statsmodels(survival):
    """A loss that is no sum over rows has a Hessian."""
    model, X, y = survival
    expected = sm.PHReg(y["time"], X, status=y["event"].astype(int)).fit()
    result = infer(model, X, y, polish=True)
    assert_allclose(result.params["coef"], expected.params, rtol=1e-6)
    assert_allclose(result.standard_errors["coef"], expected.bse, rtol=RTOL)


@pytest.mark.parametrize("covariance", ["opg", "sandwich", "HC1", "cluster"])
@pytest.mark.parametrize("additive", [False, "auto"])
def test_a_loss_that_is_no_sum_over_rows_has_no_sandwich(survival, covariance, additive):
    """Whether that was declared or is found by halves."""
    model, X, y = survival
    model = clone(model).set_params(additive=additive).fit(X, y)
    groups = np.arange(len(X)) // 2 if covariance == "cluster" else None
    with pytest.raises(
        ValueError, match=f"The loss does not decompose over samples.*covariance='{covariance}' needs|HC0"
    ):
        infer(model, X, y, covariance=covariance, groups=groups)


def test_gamma_and_its_dispersion_are_those_of_statsmodels():
    """Pearson's, on the log link; the observed information."""
    X = rand()
    rng = np.random.default_rng(1)
    y = rng.gamma(2.0, np.exp(X @ [0.3, -0.2, 0.0] + 1) / 2)
    reference = sm.GLM(y, sm.add_constant(X), family=sm.families.Gamma(sm.families.links.Log()))
    expected = reference.fit(tol=1e-14)
    result = infer(AnalyticRegressor(loss="gamma", optimizer="lbfgs").fit(X, y), X, y, polish=True)
    hessian = reference.hessian(expected.params, scale=expected.scale, observed=True)
    assert result.scale == pytest.approx(expected.scale, rel=1e-8)
    assert_allclose(intercept_first(result.standard_errors), np.sqrt(np.diag(np.linalg.inv(-hessian))), rtol=RTOL)


@pytest.mark.parametrize("quantile", [0.5, 0.8])
def test_quantile_regression_is_that_of_statsmodels(quantile):
    """A kernel's density takes the place of the Hessian, which a loss with kinks does not have."""
    X = rand(300, 2)
    y = X @ [1.0, -1.0] + np.random.default_rng(1).standard_t(4, size=300) * (1 + 0.5 * np.abs(X[:, 0]))
    reference = sm.QuantReg(y, sm.add_constant(X)).fit(q=quantile, p_tol=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kinks do not converge
        model = AnalyticRegressor(loss="quantile", optimizer="lbfgs").set_params(loss__quantile=quantile).fit(X, y)
    model.params_ = {"coef": reference.params[1:].copy(), "intercept": float(reference.params[0])}
    result = silently(model, X, y)
    assert_allclose(intercept_first(result.standard_errors), reference.bse, rtol=1e-3)  # two residuals are 0 or not
    with pytest.raises(ValueError, match="Quantile has kinks and no second derivative. Use covariance='sandwich'"):
        infer(model, X, y, covariance="hessian")


# Least squares beside statsmodels, scipy and NIST.


@pytest.mark.parametrize("covariance", ["auto", "hessian", "HC0", "HC1", "HC2", "HC3", "cluster"])
def test_linear_regression_is_that_of_statsmodels(covariance):
    """The default regressor, with t quantiles; clusters have C - 1 degrees of freedom."""
    X, y = load_diabetes(return_X_y=True)
    groups = np.arange(len(y)) // 4
    kinds = {"auto": "nonrobust", "hessian": "nonrobust"}
    kwds = {"cov_kwds": {"groups": groups}} if covariance == "cluster" else {}
    reference = sm.OLS(y, sm.add_constant(X)).fit(cov_type=kinds.get(covariance, covariance), use_t=True, **kwds)
    given = {"groups": groups} if covariance == "cluster" else {}
    result = infer(AnalyticRegressor().fit(X, y), X, y, covariance=covariance, polish=True, **given)
    assert_allclose(intercept_first(result.standard_errors), reference.bse, rtol=RTOL)
    frame = result.to_frame(level=0.9)
    order = [10, *range(10)]
    assert_allclose(frame["p_value"].to_numpy()[order], reference.pvalues, rtol=1e-5)
    assert_allclose(frame[["low", "high"]].to_numpy()[order], reference.conf_int(0.1), rtol=1e-6)
    assert list(frame.index[:2]) == ["coef[0]", "coef[1]"]


def power_law(params, X):
    return params["a"] * X[:, 0] ** params["b"]


def power_law_jacobian(params, X):
    power = X[:, 0] ** params["b"]
    return {"a": power, "b": params["a"] * power * np.log(X[:, 0])}


POWER_LAW = {"forward": power_law, "jacobian": power_law_jacobian, "init": {"a": 1.0, "b": 1.0}}


@pytest.fixture(scope="module")
def iris():
    data = load_iris().data
    return data[:, 2:3], data[:, 3]


def by_curve_fit(X, y, **settings):
    return curve_fit(
        lambda x, a, b: a * x**b, X[:, 0], y, p0=(1.0, 1.0), ftol=1e-15, xtol=1e-15, gtol=1e-15, **settings
    )


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_power_law_is_that_of_curve_fit(iris, weighted, absolute):
    """The whole matrix, with sigma as precision weights and absolute_sigma as scale=1."""
    X, y = iris
    weight = np.linspace(0.5, 2, len(y)) if weighted else None
    sigma = None if weight is None else weight**-0.5
    optimum, expected = by_curve_fit(X, y, sigma=sigma, absolute_sigma=absolute)
    model = AnalyticRegressor(**POWER_LAW).fit(X, y, sample_weight=weight)
    result = infer(model, X, y, sample_weight=weight, weights="precision", scale=1.0 if absolute else "auto")
    assert_allclose([result.params["a"], result.params["b"]], optimum, rtol=1e-7)
    if absolute and not weighted:  # which curve_fit knows by sigma only
        expected = by_curve_fit(X, y, sigma=np.ones(len(y)), absolute_sigma=True)[1]
    assert_allclose(result.covariance, expected, rtol=RTOL)
    assert result.df == (np.inf if absolute else 148)


def test_the_power_law_of_iris(iris):
    """a 0.184047 ± 0.016811, b 1.378732 ± 0.055517."""
    result = infer(AnalyticRegressor(**POWER_LAW).fit(*iris), *iris)
    assert result.params == {"a": pytest.approx(0.184047, abs=5e-7), "b": pytest.approx(1.378732, abs=5e-7)}
    expected = {"a": pytest.approx(0.016811, abs=5e-7), "b": pytest.approx(0.055517, abs=5e-7)}
    assert result.standard_errors == expected
    assert result.names == ["a", "b"]


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", MODELS)
def test_the_certified_standard_deviations_are_reached(name, start):
    """To six digits, as NIST has them; of residuals that are rounding of y, as Lanczos1's, nothing is claimed."""
    problem = read(name)
    forward, jacobian = functions(name)
    model = AnalyticRegressor(forward, jacobian=jacobian, init=problem.starts[start].copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of trial points
        model.fit(problem.X, problem.y)
        if name == "Lanczos1":
            with pytest.warns(InferenceWarning, match="The residuals are rounding"):
                infer(model, problem.X, problem.y)
            return
        result = infer(model, problem.X, problem.y)
    assert_allclose(result.standard_errors, problem.deviations, rtol=1e-6)
    assert result.names[0] == "params[0]"


# Weights, chunks, forms and dtypes.


def test_frequency_weights_count_rows():
    """As if rows were repeated, for every kind of covariance; by statsmodels' meat with w and not its square."""
    X, y = load_diabetes(return_X_y=True)
    times = np.arange(len(y)) % 3
    repeated = np.repeat(np.arange(len(y)), times)
    model = AnalyticRegressor().fit(X, y, sample_weight=times)
    for covariance in ("gauss_newton", "hessian", "opg", "HC0", "HC1", "HC2", "HC3"):
        weighted = infer(model, X, y, sample_weight=times, weights="frequency", covariance=covariance, polish=True)
        expected = infer(model, X[repeated], y[repeated], covariance=covariance, polish=True)
        assert_allclose(weighted.covariance, expected.covariance, rtol=1e-6, atol=1e-9 * expected.covariance.max())
        assert weighted.df == expected.df
        assert weighted.n_obs == len(repeated)


@pytest.mark.parametrize("covariance", ["gauss_newton", "HC0", "HC1", "HC2", "HC3"])
def test_precision_weights_are_those_of_weighted_least_squares(covariance):
    """Of statsmodels' WLS, robust ones too."""
    X, y = load_diabetes(return_X_y=True)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    kind = "nonrobust" if covariance == "gauss_newton" else covariance
    reference = sm.WLS(y, sm.add_constant(X), weights=weight).fit(cov_type=kind)
    model = AnalyticRegressor().fit(X, y, sample_weight=weight)
    result = infer(model, X, y, sample_weight=weight, weights="precision", covariance=covariance, polish=True)
    assert_allclose(intercept_first(result.standard_errors), reference.bse, rtol=RTOL)


def test_sampling_weights_have_a_sandwich_that_ignores_their_size():
    """The gradients of rows are multiplied by them; nothing else is defined."""
    X, y = load_diabetes(return_X_y=True)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    model = AnalyticRegressor().fit(X, y, sample_weight=weight)
    small, large = (
        infer(model, X, y, sample_weight=w, weights="sampling", polish=True) for w in (weight, 1e3 * weight)
    )
    assert_allclose(small.covariance, large.covariance, rtol=1e-9)
    reference = sm.WLS(y, sm.add_constant(X), weights=weight).fit(cov_type="HC0")
    assert_allclose(intercept_first(small.standard_errors), reference.bse, rtol=RTOL)
    with pytest.raises(ValueError, match="weights='sampling' does not support covariance='hessian'"):
        infer(model, X, y, sample_weight=weight, weights="sampling", covariance="hessian")


def parts(X, y, weight=None):
    cuts = [0, 100, 250, len(y)]
    columns = (X, y) if weight is None else (X, y, weight)
    return [tuple(column[a:b] for column in columns) for a, b in zip(cuts, cuts[1:], strict=False)]


@pytest.mark.parametrize("covariance", ["gauss_newton", "hessian", "opg", "HC1", "HC3", "cluster"])
@pytest.mark.parametrize("weighted", [False, True])
def test_chunks_have_the_result_of_arrays(covariance, weighted):
    """Rows of weight 0 included."""
    X, y = load_diabetes(return_X_y=True)
    weight = np.arange(len(y)) % 3 if weighted else None
    model = AnalyticRegressor().fit(X, y, sample_weight=weight)
    given = {"covariance": covariance, "groups": np.arange(len(y)) // 5 if covariance == "cluster" else None}
    given |= {"weights": "frequency"} if weighted else {}
    expected = silently(model, X, y, sample_weight=weight, **given)
    result = silently(model, chunks=parts(X, y, weight), **given)
    assert_allclose(result.covariance, expected.covariance, rtol=1e-7, atol=1e-12 * expected.covariance.max())


def decay(params, X):
    return params["a"] * np.exp(-params["b"] * X[:, 0]) + params["c"]


def decay_jacobian(params, X):
    e = np.exp(-params["b"] * X[:, 0])
    return {"a": e, "b": -params["a"] * X[:, 0] * e, "c": np.ones(len(X))}


def decay_vjp(params, X):
    def pullback(d):
        return {name: d @ column for name, column in decay_jacobian(params, X).items()}

    return decay(params, X), pullback


def decay_gradient(params, X, y, sample_weight=None):
    d = decay(params, X) - y
    d = d if sample_weight is None else d * sample_weight
    return {name: d @ column / len(y) for name, column in decay_jacobian(params, X).items()}


def decay_loss_and_gradient(params, X, y, sample_weight):
    loss = 0.5 * np.mean(sample_weight * (decay(params, X) - y) ** 2)
    return loss, decay_gradient(params, X, y, sample_weight)


def a_decay(n=60, seed=0, noise=0.05):
    X = np.linspace(0, 4, n)[:, None]
    return X, decay({"a": 2.0, "b": 1.5, "c": 0.5}, X) + noise * np.random.default_rng(seed).normal(size=n)


START = {"a": 1.5, "b": 1.0, "c": 0.0}
FORMS = {
    "jacobian": {"jacobian": decay_jacobian},
    "vjp": {"vjp": decay_vjp},
    "gradient": {"gradient": decay_gradient},
    "loss_and_gradient": {"loss_and_gradient": decay_loss_and_gradient},
    "numerical": {"numerical": ["a", "b", "c"]},
    "numerical in part": {"jacobian": lambda params, X: {**decay_jacobian(params, X), "b": None}, "numerical": ["b"]},
}


@pytest.mark.parametrize("covariance", ["hessian", "opg", "HC0", "HC1", "cluster", "gauss_newton", "HC3"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_covariance(form, covariance):
    """Weighted; except for Gauss-Newton and leverages, which need derivatives of predictions and say so."""
    X, y = a_decay()
    weight = np.linspace(0, 2, len(y))
    groups = np.arange(len(y)) // 2 if covariance == "cluster" else None
    settings = {"sample_weight": weight, "weights": "precision", "groups": groups, "polish": True, "scale": 1.0}
    settings["covariance"] = covariance
    exact = AnalyticRegressor(decay, jacobian=decay_jacobian, init=START).fit(X, y, sample_weight=weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numerical says its price
        model = AnalyticRegressor(decay, init=START, optimizer="lbfgs", **FORMS[form])
        model.fit(X, y, sample_weight=weight)
    if form in ("gradient", "loss_and_gradient") and covariance in ("gauss_newton", "HC3"):
        with pytest.raises(ValueError, match=f"covariance='{covariance}' needs the derivative of each prediction"):
            infer(model, X, y, **settings)
        return
    expected, result = (silently(each, X, y, **settings) for each in (exact, model))
    bread = "hessian" if form in ("gradient", "loss_and_gradient") else "gauss_newton"
    if covariance in ("HC0", "HC1", "cluster") and bread == "hessian":
        return  # another matrix on the outside, beside a curve; see the test of lines
    rtol = 1e-4 if "numerical" in form else 1e-6
    assert_allclose(result.covariance, expected.covariance, rtol=rtol, atol=rtol * np.abs(expected.covariance).max())


def test_a_gradient_without_a_loss_has_a_hessian():
    """And can be polished by its own steps."""
    X, y = a_decay()
    model = AnalyticRegressor(decay, decay_gradient, init=START, loss=None, optimizer="adam", random_state=0)
    model.set_params(max_iter=2000, tol=1e-8).fit(X, y)
    by_loss = AnalyticRegressor(decay, decay_gradient, init=START, optimizer="lbfgs").fit(X, y)
    expected = infer(by_loss, X, y, covariance="hessian", scale=1.0, polish=True)
    result = infer(model, X, y, polish=True, scale=1.0)
    assert_allclose(result.covariance, expected.covariance, rtol=1e-5)
    assert result.distance < 1e-4


def test_single_precision_is_evaluated_in_double():
    """The covariance of float32 rows is that of the same numbers in float64, at the same parameters."""
    X, y = (part.astype(np.float32) for part in load_diabetes(return_X_y=True))
    for covariance in ("hessian", "gauss_newton", "HC0"):
        model = AnalyticRegressor(optimizer="lbfgs").fit(X, y)
        double = AnalyticRegressor(optimizer="lbfgs").fit(X.astype(float), y.astype(float))
        double.params_ = model.params_
        expected = silently(double, X.astype(float), y.astype(float), covariance=covariance)
        assert_allclose(silently(model, X, y, covariance=covariance).covariance, expected.covariance, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("covariance", ["gauss_newton", "hessian", "HC0"])
def test_standard_errors_follow_the_units_of_y(unit, covariance):
    """Differences are as good in micrometres as in metres."""
    X, y = load_diabetes(return_X_y=True)
    model = AnalyticRegressor().fit(X, y)
    scaled = AnalyticRegressor().fit(X, y * unit)
    one = infer(model, X, y, covariance=covariance, polish=True)
    other = infer(scaled, X, y * unit, covariance=covariance, polish=True)
    assert_allclose(other.covariance, one.covariance * unit**2, rtol=1e-6, atol=1e-7 * one.covariance.max() * unit**2)


def test_densities_and_transformers_have_no_y():
    """Mean and logarithm of the deviation of a normal density; what is data has no error."""
    X = rand(500, 2)
    model = AnalyticDensity(optimizer="lbfgs").fit(X)
    result = infer(model, X, polish=True)
    deviation = X.std(axis=0)
    assert_allclose(result.standard_errors["mean"], deviation / 500**0.5, rtol=1e-5)
    assert result.standard_errors["smallest_scale"] == 0
    assert isinstance(result.standard_errors["smallest_scale"], float)
    assert np.isfinite(result.predict(X[:3]).standard_error).all()


@pytest.mark.parametrize(
    ("polish", "words"), [(False, "Weakly identified|The Hessian is not positive definite"), (True, "Not identified")]
)
def test_an_invariance_is_found_beside_the_optimum(polish, words):
    """Components may be rotated; before the optimum is reached, rounding does not tell that from a curvature."""
    model = AnalyticTransformer(optimizer="lbfgs", random_state=0).fit(rand(200, 4))
    with pytest.warns(InferenceWarning, match=f"({words}):? .*components"):
        infer(model, rand(200, 4), polish=polish, scale=1.0)


# What is held, penalized, not identified, not converged.


def test_fixed_parameters_have_no_error_and_the_others_hold_them():
    """Standard errors of 0, as in lmfit and statsmodels; the others are those of a model without the block."""
    X, y = a_decay()
    model = AnalyticRegressor(decay, jacobian=decay_jacobian, init={**START, "c": 0.5}, fixed="c").fit(X, y)
    result = infer(model, X, y)
    assert result.standard_errors["c"] == 0
    assert (result.covariance[2] == 0).all()
    assert np.isnan(result.correlation[2]).all()
    expected = curve_fit(lambda x, a, b: a * np.exp(-b * x) + 0.5, X[:, 0], y, p0=(1.5, 1.0), ftol=1e-15, xtol=1e-15)[1]
    assert_allclose(result.covariance[:2, :2], expected, rtol=RTOL)
    assert result.df == 58


def test_adam_ends_away_from_the_optimum_which_is_said_and_repaired():
    """The distance is that of the estimates, and `polish` changes the result only."""
    X, y = rand(2000, 4), np.random.default_rng(1).normal(size=2000)
    model = AnalyticRegressor(optimizer="adam", random_state=0).fit(X, y)
    before = {name: np.copy(value) for name, value in model.params_.items()}
    with pytest.warns(InferenceWarning, match=r"standard errors from the optimum.*polish=True"):
        rough = infer(model, X, y)
    fine = infer(model, X, y, polish=True)
    assert fine.distance < 1e-6
    assert fine.warnings == []
    gap = np.array(intercept_first(rough.params)) - intercept_first(fine.params)
    order = [4, 0, 1, 2, 3]
    expected = np.sqrt(gap @ np.linalg.inv(fine.covariance[np.ix_(order, order)]) @ gap)
    assert rough.distance == pytest.approx(expected, rel=1e-3)
    assert rough.distance > 0.1
    for name, value in before.items():
        assert (model.params_[name] == value).all()


def test_parameters_that_were_set_are_read():
    """By hand, far off."""
    X, y = a_decay()
    model = AnalyticRegressor(decay, jacobian=decay_jacobian, init=START).fit(X, y)
    model.params_ = {**model.params_, "a": model.params_["a"] + 0.1}
    with pytest.warns(InferenceWarning, match="standard errors from the optimum"):
        assert infer(model, X, y).params["a"] == model.params_["a"]
    assert infer(model, X, y, polish=True).params["a"] == pytest.approx(model.params_["a"] - 0.1, abs=1e-6)


def test_a_penalty_is_said():
    """Its curvature is in the covariance, as in a posterior."""
    X, y = rand(), np.random.default_rng(1).normal(size=400)
    model = AnalyticRegressor(alpha={"coef": 0.5}, optimizer="lbfgs").fit(X, y)
    with pytest.warns(InferenceWarning, match="alpha shrinks the estimates"):
        result = infer(model, X, y, scale=1.0, polish=True)
    full = sm.add_constant(X)
    expected = np.linalg.inv(full.T @ full + 400 * np.diag([0, 0.5, 0.5, 0.5]))
    order = [3, 0, 1, 2]
    assert_allclose(result.covariance[np.ix_(order, order)], expected, rtol=1e-6, atol=1e-12)
    assert silently(model, X, y, covariance="HC0", polish=True).distance < 1e-6


@pytest.mark.parametrize("covariance", ["gauss_newton", "hessian"])
def test_duplicate_columns_are_named_and_sums_keep_their_errors(covariance):
    """An entry that is identified beside them has its error too, and so has the prediction."""
    X = rand()
    y = X.sum(axis=1) + np.random.default_rng(1).normal(size=400)
    double = np.column_stack([X, X[:, 0]])
    named = re.escape("coef[0] - coef[3]")
    with pytest.warns(InferenceWarning, match=f"the loss does not change along {named}. "):
        result = infer(
            AnalyticRegressor(optimizer="lbfgs").fit(double, y), double, y, covariance=covariance, polish=True
        )
    single = infer(AnalyticRegressor().fit(X, y), X, y)
    assert_allclose(result.standard_errors["coef"][1:3], single.standard_errors["coef"][1:], rtol=1e-6)
    assert np.isnan(result.standard_errors["coef"][[0, 3]]).all()
    total = result.delta(lambda params: params["coef"][0] + params["coef"][3])
    assert total.standard_error == pytest.approx(single.standard_errors["coef"][0], rel=1e-6)
    assert_allclose(result.predict(double[:4]).standard_error, single.predict(X[:4]).standard_error, rtol=1e-6)
    assert result.df == single.df


def test_a_saddle_is_no_minimum():
    """The direction of negative curvature is named."""

    def loss_and_gradient(params, X, y):
        u, v = params["u"], params["v"]
        return (u * u - v * v) / 2 + v**4 / 4, {"u": u, "v": v**3 - v}

    X = np.zeros((10, 1))
    model = AnalyticRegressor(
        loss_and_gradient=loss_and_gradient,
        forward=lambda params, X: X[:, 0],
        init={"u": 0.0, "v": 0.0},
        optimizer="lbfgs",
    ).fit(X, X[:, 0])
    with pytest.warns(InferenceWarning, match="not positive definite: the loss curves downward along v,"):
        result = infer(model, X, X[:, 0], scale=1.0)
    assert np.isnan(result.standard_errors["v"])
    assert result.standard_errors["u"] == pytest.approx(10**-0.5)


def test_too_few_rows_have_no_variance():
    """As many parameters as rows: a number would be a division by 0."""
    X, y = rand(4, 3), rand(4, 1)[:, 0]
    with pytest.warns(InferenceWarning, match="4 samples are too few for 4 parameters"):
        result = infer(AnalyticRegressor().fit(X, y), X, y)
    assert np.isnan(result.covariance).all()
    assert "nan" in str(result)


def test_weights_that_add_up_to_1_are_no_numbers_of_rows():
    """They were normalized, and so are no frequencies."""
    X, y = rand(50, 3), rand(50, 1)[:, 0]
    weight = np.full(50, 1 / 50)
    model = AnalyticRegressor().fit(X, y, sample_weight=weight)
    said = " ".join(silently(model, X, y, sample_weight=weight, weights="frequency").warnings)
    assert re.search(r"Frequency weights add up to 1, .* too few for 4 .* Pass weights=", said)
    with pytest.raises(TypeError, match="themselves as sample_weight"):
        infer(model, X, y, weights=weight)


@pytest.mark.parametrize(("weights", "said"), [("frequency", True), ("precision", False), ("sampling", False)])
def test_frequencies_that_are_no_whole_numbers_are_said(weights, said):
    """1 / sigma², say: under the default the standard errors depend on the unit of sigma."""
    X, y = rand(50, 3), rand(50, 1)[:, 0]
    weight = np.random.default_rng(0).uniform(1, 9, 50)
    model = AnalyticRegressor().fit(X, y, sample_weight=weight)
    result = silently(model, X, y, sample_weight=weight, weights=weights)
    assert any("non-integer values" in text for text in result.warnings) == said
    whole = np.rint(weight)
    assert (
        infer(AnalyticRegressor().fit(X, y, sample_weight=whole), X, y, sample_weight=whole, weights=weights).warnings
        == []
    )


def test_the_meaning_of_weights_is_required():
    """1/sigma² may be whole numbers, and would count as thousands of samples."""
    X, y = rand(40, 2), rand(40, 1)[:, 0]
    model = AnalyticRegressor().fit(X, y, sample_weight=np.full(40, 400.0))
    for given in ({"sample_weight": np.full(40, 400.0)}, {"sample_weight": np.tile([0.5, 1.5], 20)}):
        with pytest.raises(ValueError, match="depend on the meaning of the weights.*weights='frequency'.*'precision'"):
            infer(model, X, y, **given)
    with pytest.raises(ValueError, match="depend on the meaning of the weights"):
        infer(model, chunks=[(X, y, np.full(40, 2.0))])
    by_precision = infer(model, X, y, sample_weight=np.full(40, 400.0), weights="precision")
    plain = infer(AnalyticRegressor().fit(X, y), X, y)
    assert_allclose(list(by_precision.standard_errors["coef"]), list(plain.standard_errors["coef"]), rtol=1e-6)
    counted = infer(model, X, y, sample_weight=np.full(40, 400.0), weights="frequency")
    assert "16000 observations (frequency weights of 40 samples)" in str(counted)
    some = np.tile([0, 1], 20)
    assert infer(AnalyticRegressor().fit(X, y, sample_weight=some), X, y, sample_weight=some).n_obs == 20


@pytest.mark.parametrize("wrong", ["y", "weights", "rows"])
def test_of_a_fit_that_had_converged_the_data_are_doubted_first(wrong):
    """Polishing would end the warning, and hide the mistake."""
    X, y = rand(60, 2), rand(60, 1)[:, 0]
    weight = np.arange(1.0, 61.0)
    model = AnalyticRegressor(optimizer="lbfgs").fit(X, y, sample_weight=weight)
    given = {"y": (X, y[::-1], weight), "weights": (X, y, np.ones(60)), "rows": (X[:30], y[:30], weight[:30])}[wrong]
    result = silently(model, *given[:2], sample_weight=given[2], weights="precision")
    assert re.search("unreliable. The fit had converged, so X, y, sample_weight or the metadata", result.warnings[0])


def normal_log_density(params, X):
    return norm.logpdf(X[:, 0], params["m"], params["s"])


@pytest.mark.parametrize("covariance", ["auto", "sandwich"])
def test_the_loss_of_a_sum_is_said(covariance):
    """Its gradient fits its value, so that the check of gradients finds nothing."""

    def summed(params, X):
        d = (X[:, 0] - params["m"]) / params["s"]
        grads = {"m": -(d / params["s"]).sum(), "s": -((d * d - 1) / params["s"]).sum()}
        return -normal_log_density(params, X).sum(), grads

    X = rand(100, 1)
    start = {"m": 0.5, "s": 2.0}
    model = AnalyticDensity(normal_log_density, loss_and_gradient=summed, init=start, reparametrize={"s": "log"})
    with pytest.warns(InferenceWarning, match=r"that of the sum over samples, not of the mean.*reduction='sum'"):
        result = infer(model.fit(X), X, covariance=covariance, polish=True)
    assert len(result.warnings) == 1
    right = infer(model.set_params(reduction="sum").fit(X), X, covariance=covariance, polish=True)
    assert right.warnings == []
    assert right.standard_errors["m"] == pytest.approx(X.std() / 10, rel=1e-5)


def test_the_cure_of_a_polish_that_failed_is_no_polish():
    """Two classes apart: the loss falls without end."""
    X = rand(100, 2)
    y = X[:, 0] > 0
    result = silently(AnalyticClassifier().fit(X, y), X, y, polish=True)
    assert not any("polish=True to" in text or "use polish=True" in text for text in result.warnings)


def test_a_curve_without_noise_has_no_standard_errors():
    """Which is said, in place of a distance of rounding."""
    X, _ = a_decay()
    y = decay({"a": 2.0, "b": 1.5, "c": 0.5}, X)
    model = AnalyticRegressor(decay, jacobian=decay_jacobian, init=START).fit(X, y)
    with pytest.warns(InferenceWarning, match="The residuals are rounding"):
        infer(model, X, y)


@pytest.mark.parametrize("noise", [0.05, 1.0, 10.0])
def test_a_loss_that_is_no_likelihood_is_suspected(noise):
    """Half a mean square is one for a variance of 1 only; `scale` and a sandwich are right for any."""
    X, y = a_decay(400, noise=noise)
    y = y if noise < 5 else 10 * y
    model = AnalyticRegressor(decay, loss_and_gradient=decay_loss_and_gradient, init=START, optimizer="lbfgs")
    model.fit(X, y)
    if noise == 1.0:
        assert infer(model, X, y, polish=True).warnings == []
        return
    with pytest.warns(InferenceWarning, match="is assumed to be a negative log-likelihood in nats, but"):
        infer(model, X, y, polish=True)
    residual = decay(model.params_, X) - y
    scaled = infer(model, X, y, polish=True, scale=residual @ residual / 397)
    named = AnalyticRegressor(decay, jacobian=decay_jacobian, init=model.params_).fit(X, y)
    expected = infer(named, X, y, covariance="hessian")
    assert_allclose(scaled.covariance, expected.covariance, rtol=1e-3)


def test_class_weights_are_no_frequencies():
    """They change what is estimated."""
    X, y = classes(n_classes=2)
    model = AnalyticClassifier(optimizer="lbfgs", class_weight="balanced").fit(X, y)
    with pytest.warns(InferenceWarning, match="class_weight multiplies the sample weights"):
        infer(model, X, y)
    assert infer(model, X, y, weights="sampling").warnings == []


# The result.


def test_names_say_where_an_entry_is():
    """In nested structures, of arrays and numbers."""

    def forward(params, X):
        return X @ params["layer"]["W"] @ [1.0, 1.0] + params["tau"]

    def jacobian(params, X):
        return {"layer": {"W": np.repeat(X[:, :, None], 2, axis=2)}, "tau": np.ones(len(X))}

    X = rand()
    model = AnalyticRegressor(
        forward, jacobian=jacobian, init={"layer": {"W": np.zeros((3, 2))}, "tau": 0.0}, optimizer="lbfgs"
    ).fit(X, X[:, 0] + np.random.default_rng(1).normal(size=400))
    result = silently(model, X, X[:, 0])
    assert result.names[:3] == ["layer.W[0, 0]", "layer.W[0, 1]", "layer.W[1, 0]"]
    assert result.names[-1] == "tau"
    assert isinstance(result.params["tau"], float)
    assert result.standard_errors["layer"]["W"].shape == (3, 2)
    assert isinstance(result.standard_errors["tau"], float)


def test_intervals_of_predictions_are_those_of_statsmodels():
    """For means and for new observations, by t; for the rates of a Poisson model on the log link."""
    X, y = load_diabetes(return_X_y=True)
    result = infer(AnalyticRegressor().fit(X, y), X, y, polish=True)
    reference = sm.OLS(y, sm.add_constant(X)).fit().get_prediction(sm.add_constant(X)[:6]).summary_frame(alpha=0.1)
    for interval, prefix in (("mean", "mean_ci"), ("observation", "obs_ci")):
        found = result.predict(X[:6], interval=interval, level=0.9)
        assert_allclose(found.value, reference["mean"], rtol=1e-7)
        assert_allclose(found.standard_error, reference["mean_se"], rtol=RTOL)
        assert_allclose(found.low, reference[f"{prefix}_lower"], rtol=RTOL)
        assert_allclose(found.high, reference[f"{prefix}_upper"], rtol=RTOL)
    counts = np.random.default_rng(0).poisson(np.exp(5 * X[:, 2] + 1))
    of_counts = infer(AnalyticRegressor(loss="poisson", optimizer="lbfgs").fit(X, counts), X, counts, polish=True)
    glm = sm.GLM(counts, sm.add_constant(X), family=sm.families.Poisson()).fit(tol=1e-13)
    reference = glm.get_prediction(sm.add_constant(X)[:6]).summary_frame()
    found = of_counts.predict(X[:6], interval="mean")
    assert_allclose(found.standard_error, reference["mean_se"], rtol=RTOL)
    assert_allclose(found.low, reference["mean_ci_lower"], rtol=RTOL)
    with pytest.raises(ValueError, match="interval='observation' requires the squared error"):
        of_counts.predict(X, interval="observation")


def test_a_later_fit_does_not_change_a_result(iris):
    """It has a copy of the model, which pickles with it."""
    X, y = iris
    model = AnalyticRegressor(**POWER_LAW).fit(X, y)
    result = infer(model, X, y)
    expected = result.predict(X[:3]).standard_error
    model.fit(X, 2 * y)
    assert_allclose(result.predict(X[:3]).standard_error, expected)
    again = pickle.loads(pickle.dumps(result))
    assert_allclose(again.predict(X[:3]).standard_error, expected)
    assert_allclose(again.covariance, result.covariance)


def test_a_result_is_shown_as_a_table(iris):
    """In text and in HTML, with its warnings."""
    X, y = iris
    model = AnalyticRegressor(**POWER_LAW).fit(X, y)
    result = infer(model, X, y)
    assert re.search(r"a +0\.184047 +0\.01681 +10\.9", str(result))
    assert repr(result).startswith("Inference(2 parameters, covariance: gauss_newton, 150 samples")
    assert "<td>a</td><td>0.184047</td>" in result._repr_html_()
    model.params_ = {"a": 0.2, "b": 1.3}
    assert "[1] The parameters are" in str(silently(model, X, y))
    assert "<li>The parameters are" in silently(model, X, y)._repr_html_()


def test_functions_of_parameters_have_arrays_of_any_shape(iris):
    """Beside the delta method by hand."""
    result = infer(AnalyticRegressor(**POWER_LAW).fit(*iris), *iris)
    found = result.delta(lambda p: np.array([[p["a"], p["b"]], [p["a"] * p["b"], 1.0]]))
    a, b = result.params["a"], result.params["b"]
    derivative = np.array([[1, 0], [0, 1], [b, a], [0, 0]])
    expected = derivative @ result.covariance @ derivative.T
    assert_allclose(found.covariance, expected, rtol=1e-7, atol=1e-15)
    assert found.standard_error.shape == (2, 2)
    assert_allclose(found.standard_error.ravel(), np.sqrt(np.diag(expected)), rtol=1e-7, atol=1e-15)


# Errors.


def test_mistakes_are_named(iris, poisson, randhie):
    """What came, and what to do."""
    X, y = iris
    model = AnalyticRegressor(**POWER_LAW)
    with pytest.raises(NotFittedError, match="This AnalyticRegressor instance is not fitted yet"):
        infer(model, X, y)
    model.fit(X, y)
    with pytest.raises(ValueError, match="groups has 3 labels for 150 samples"):
        infer(model, X, y, groups=[1, 2, 3])
    with pytest.raises(ValueError, match="groups has a single cluster"):
        infer(model, X, y, groups=np.zeros(150))
    with pytest.raises(ValueError, match="groups require covariance='cluster' or 'auto'; got covariance='HC1'"):
        infer(model, X, y, groups=np.arange(150), covariance="HC1")
    with pytest.raises(ValueError, match="covariance='cluster' requires groups"):
        infer(model, X, y, covariance="cluster")
    with pytest.raises(ValueError, match="covariance.*'HC4'"):
        infer(model, X, y, covariance="HC4")
    with pytest.raises(ValueError, match="weights.*'design'"):
        infer(model, X, y, weights="design")
    with pytest.raises(ValueError, match="scale"):
        infer(model, X, y, scale=-1.0)
    with pytest.raises(TypeError, match="infer requires X .* or chunks"):
        infer(model)
    with pytest.raises(TypeError, match="pass y and sample_weight in the chunks"):
        infer(model, chunks=[(X, y)], sample_weight=np.ones(150))
    with pytest.raises(TypeError, match="For a pipeline, pass its last step"):
        infer(make_pipeline(model), X, y)
    result = infer(model, X, y)
    with pytest.raises(ValueError, match="There is no parameter 'A'.*Available: a, b"):
        result.confidence_intervals(parameters=["A"])
    assert result.confidence_intervals(parameters="b").shape == (1, 2)


def test_rows_alone_need_a_loss_of_rows():
    """A model that draws random numbers has others for a row alone."""

    def forward(params, X):
        return X @ params["coef"]

    def gradient(params, X, y, rng):
        factor = rng.normal(1.0, 0.1)
        return {"coef": X.T @ (X @ params["coef"] * factor - y) * factor / len(y)}

    X = rand()
    model = AnalyticRegressor(forward, gradient, init={"coef": np.zeros(3)}, check_gradient=False, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, X[:, 0])
    with pytest.raises(ValueError, match="draws random numbers"):
        infer(model, X, X[:, 0], covariance="HC0")


# Intervals by profiles, by resamples, and how often they hold.


def lmfit_intervals(X, y):
    """Of the decay, by an F test of the sum of squares."""
    lmfit = pytest.importorskip("lmfit")
    minimizer = lmfit.Minimizer(
        lambda p: decay({name: p[name].value for name in START}, X) - y, lmfit.create_params(**START)
    )
    found = lmfit.conf_interval(minimizer, minimizer.minimize(xtol=1e-13, ftol=1e-13), sigmas=[0.9])
    return [[ends[0][1], ends[2][1]] for ends in found.values()]


def test_profile_intervals_are_those_of_lmfit():
    """Which are not symmetric about the estimates."""
    X, y = a_decay(noise=0.3)
    model = AnalyticRegressor(decay, jacobian=decay_jacobian, init=START).fit(X, y)
    result = infer(model, X, y)
    intervals = result.confidence_intervals(0.9, method="profile")
    assert_allclose(intervals, lmfit_intervals(X, y), rtol=1e-5)
    assert (np.diff(intervals - np.array([list(result.params.values())]).T).ravel() > 0).all()
    assert_allclose(result.confidence_intervals(0.9, method="profile", parameters=["c"]), intervals[2:], rtol=1e-6)
    with parallel_config(backend="threading", n_jobs=2):
        assert (result.confidence_intervals(0.9, method="profile") == intervals).all()


def test_a_profile_of_a_likelihood_rises_by_the_quantile_of_chi_squared():
    """At both ends of each interval, the other coefficients fitted anew by statsmodels."""
    X, y = classes(200, n_classes=2)
    model = AnalyticClassifier(optimizer="lbfgs").fit(X, y)
    result = infer(model, X, y, polish=True)
    full = sm.add_constant(X)
    best = sm.Logit(y, full).fit(**EXACT).llf
    for number, ends in enumerate(result.confidence_intervals(method="profile", parameters="coef")):
        others = np.delete(full, number + 1, axis=1)
        for end in ends:
            held = sm.GLM(y, others, family=sm.families.Binomial(), offset=end * X[:, number]).fit(tol=1e-13)
            assert 2 * (best - held.llf) == pytest.approx(norm.ppf(0.975) ** 2, rel=1e-4)


def test_an_open_profile_is_infinite():
    """A rate that the rows do not bound from above, as the curve has fallen before the second of them."""
    X = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])[:, None]
    y = np.array([2.0, 0.02, -0.1, 0.1, 0.03, -0.05])

    def forward(params, X):
        return params["a"] * np.exp(-params["b"] * X[:, 0])

    def jacobian(params, X):
        e = np.exp(-params["b"] * X[:, 0])
        return {"a": e, "b": -params["a"] * X[:, 0] * e}

    model = AnalyticRegressor(forward, jacobian=jacobian, init={"a": 1.5, "b": 2.0}).fit(X, y)
    result = infer(model, X, y)
    with pytest.warns(InferenceWarning, match="The profile interval is open for b: "):
        low, high = result.confidence_intervals(method="profile", parameters="b")[0]
    assert 0 < low < result.params["b"]
    assert high == np.inf


def test_a_profile_says_that_a_smaller_loss_is_near():
    """Where the parameters were set by hand."""
    X, y = a_decay(noise=0.3)
    model = AnalyticRegressor(decay, jacobian=decay_jacobian, init=START).fit(X, y)
    model.params_ = {**model.params_, "c": model.params_["c"] + 0.05}
    with pytest.warns(InferenceWarning, match="A smaller loss was found on the profile of a"):
        silently(model, X, y).confidence_intervals(method="profile", parameters="a")


def test_profiles_and_resamples_need_what_they_evaluate(survival):
    """A likelihood, a loss, rows at hand."""
    X, y = a_decay()
    model = AnalyticRegressor(decay, jacobian=decay_jacobian, init=START).fit(X, y)
    with pytest.raises(
        ValueError, match="method='profile' treats the loss as a likelihood, but covariance='HC0' does not"
    ):
        infer(model, X, y, covariance="HC0").confidence_intervals(method="profile")
    with pytest.raises(ValueError, match="does not support chunks"):
        infer(model, chunks=[(X, y)]).confidence_intervals(method="bootstrap")
    with pytest.raises(ValueError, match="method.*'jackknife'"):
        infer(model, X, y).confidence_intervals(method="jackknife")
    model, X, y = survival
    assert infer(model, X, y, polish=True).confidence_intervals(method="profile").shape == (3, 2)


def test_the_bootstrap_refits_resampled_rows():
    """Beside `curve_fit` on other resamples; the same whatever the number of processes."""
    X, y = a_decay(noise=0.1)
    model = AnalyticRegressor(decay, jacobian=decay_jacobian, init=START).fit(X, y)
    result = infer(model, X, y)
    settings = {"method": "bootstrap", "n_resamples": 100, "random_state": 0}
    intervals = result.confidence_intervals(0.8, **settings)
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        rows = rng.integers(len(y), size=len(y))
        curve = curve_fit(
            lambda x, a, b, c: a * np.exp(-b * x) + c, X[rows, 0], y[rows], p0=list(result.params.values())
        )
        found.append(curve[0])
    expected = np.percentile(found, [10, 90], axis=0).T
    length = np.diff(expected)
    assert_allclose(intervals / length, expected / length, atol=0.35)  # of the length: some 4 errors of a quantile
    with parallel_config(backend="threading", n_jobs=2):
        assert (result.confidence_intervals(0.8, **settings) == intervals).all()


def test_a_refit_of_the_bootstrap_costs_no_more_than_a_fit_from_the_optimum():
    """The units of the optimizer are measured once, not row by row in each resample."""
    X = rand(300, 1)
    calls = []

    def loss_and_gradient(params, X):
        calls.append(len(X))
        d = (X[:, 0] - params["m"]) / params["s"]
        grads = {"m": -(d / params["s"]).mean(), "s": -((d * d - 1) / params["s"]).mean()}
        return -normal_log_density(params, X).mean(), grads

    model = AnalyticDensity(normal_log_density, loss_and_gradient=loss_and_gradient, init={"m": 0.5, "s": 2.0}).fit(X)
    result = infer(model, X)
    calls.clear()
    result.confidence_intervals(method="bootstrap", n_resamples=20, random_state=0)
    assert calls.count(300) < 20 * 20
    assert calls.count(1) < 300


def test_the_bootstrap_draws_clusters_and_counts_weights():
    """Equal rows within clusters make intervals as wide as those of clusters, not of rows."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(60, 1)), 6, axis=0)
    y = X[:, 0] + np.repeat(rng.normal(size=60), 6) + 0.01 * rng.normal(size=360)
    groups = np.repeat(np.arange(60), 6)
    model = AnalyticRegressor(**LINE).fit(X, y)
    settings = {"method": "bootstrap", "n_resamples": 100, "random_state": 0}
    clustered = np.diff(infer(model, X, y, groups=groups).confidence_intervals(**settings)).ravel()
    single = np.diff(infer(model, X, y).confidence_intervals(**settings)).ravel()
    assert (clustered / single > 1.6).all()  # the root of 6, but for chance
    times = np.full(360, 4)
    weighted = infer(model, X, y, sample_weight=times, weights="frequency").confidence_intervals(**settings)
    assert_allclose(np.diff(weighted).ravel() / single, 0.5, atol=0.2)


def test_refits_that_fail_are_counted():
    """A model that refuses resamples without the first row."""
    X, y = a_decay(noise=0.1)

    def jacobian(params, X):
        if X[0, 0] > 2 or len(np.unique(X)) > 60:
            raise RuntimeError("The first row is late.")
        return decay_jacobian(params, X)

    model = AnalyticRegressor(decay, jacobian=jacobian, init=START).fit(X, y)
    with pytest.warns(InferenceWarning, match=r"of 40 refits failed.*left out. The first: RuntimeError: The first row"):
        infer(model, X, y).confidence_intervals(method="bootstrap", n_resamples=40, random_state=0)


N_FITS = 100
LINE = {
    "forward": lambda params, X: X[:, 0] * params["slope"] + params["offset"],
    "jacobian": lambda params, X: {"slope": X[:, 0], "offset": np.ones(len(X))},
    "init": {"slope": 0.0, "offset": 0.0},
}


@pytest.mark.parametrize("kind", ["gauss_newton", "hessian", "HC1"])
def test_intervals_hold_as_often_as_they_say(kind):
    """90 % of 100, within 4 standard deviations of a binomial; the table of 2000 is in the benchmarks."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1))
    hits = 0
    for _ in range(N_FITS):
        mean = np.exp(0.5 + 0.4 * X[:, 0])
        if kind == "hessian":
            model, y = AnalyticRegressor(loss="poisson", optimizer="lbfgs"), rng.poisson(mean)
        else:
            spread = 0.5 + np.abs(X[:, 0]) if kind == "HC1" else 1.0
            model, y = AnalyticRegressor(**LINE), 0.5 + 0.4 * X[:, 0] + spread * rng.normal(size=200)
        result = infer(model.set_params(check_gradient=False).fit(X, y), X, y, covariance=kind)
        low, high = result.confidence_intervals(0.9)[0]
        hits += low < 0.4 < high
    assert abs(hits / N_FITS - 0.9) < 4 * (0.9 * 0.1 / N_FITS) ** 0.5


# Neighbors: metadata, several outputs, sparse rows.


def test_metadata_reach_every_function():
    """An exposure, in the fit, in row gradients and in predictions; beside statsmodels' offset."""
    X = rand()
    exposure = np.random.default_rng(1).uniform(0.5, 3.0, 400)
    y = np.random.default_rng(2).poisson(exposure * np.exp(X @ [0.3, -0.2, 0.1]))

    def forward(params, X, exposure):
        return X @ params["coef"] + params["intercept"] + np.log(exposure)

    def jacobian(params, X, exposure):
        return {"coef": X, "intercept": np.ones(len(X))}

    init = {"coef": np.zeros(3), "intercept": 0.0}
    model = AnalyticRegressor(forward, jacobian=jacobian, init=init, loss="poisson", optimizer="lbfgs")
    model.fit(X, y, exposure=exposure)
    reference = sm.GLM(y, sm.add_constant(X), family=sm.families.Poisson(), offset=np.log(exposure))
    for covariance, kind in (("auto", "nonrobust"), ("HC0", "HC0")):
        expected = reference.fit(tol=1e-13, cov_type=kind)
        result = infer(model, X, y, exposure=exposure, covariance=covariance, polish=True)
        assert_allclose(intercept_first(result.standard_errors), expected.bse, rtol=RTOL)
    predicted = result.predict(X[:4], exposure=np.full(4, 2.0))
    assert_allclose(predicted.value, 2 * np.exp(sm.add_constant(X)[:4] @ expected.params), rtol=1e-7)


def test_several_outputs_share_a_variance():
    """The default regressor of two targets: the residuals of both are pooled."""
    X = rand()
    Y = X @ np.random.default_rng(1).normal(size=(3, 2)) + np.random.default_rng(2).normal(size=(400, 2))
    result = infer(AnalyticRegressor().fit(X, Y), X, Y, polish=True)
    full = sm.add_constant(X)
    residuals = Y - full @ np.linalg.lstsq(full, Y, rcond=None)[0]
    variance = (residuals**2).sum() / (800 - 8)
    expected = np.sqrt(variance * np.diag(np.linalg.inv(full.T @ full)))
    assert result.scale == pytest.approx(variance, rel=1e-9)
    assert result.df == 792
    for output in (0, 1):
        assert_allclose(result.standard_errors["coef"][:, output], expected[1:], rtol=RTOL)
    assert result.predict(X[:5]).standard_error.shape == (5, 2)
    with pytest.raises(ValueError, match="HC2 and HC3 need one prediction per sample; got 2"):
        infer(AnalyticRegressor().fit(X, Y), X, Y, covariance="HC3")


@pytest.mark.parametrize("covariance", ["hessian", "gauss_newton", "HC0"])
def test_sparse_rows_have_the_result_of_dense_ones(covariance):
    """Also for weights of 0."""
    X, y = classes(200, n_classes=2)
    X = X * (np.abs(X) > 0.5)
    weight = np.arange(200) % 3
    fits = []
    for rows in (X, csr_array(X)):
        model = AnalyticClassifier(optimizer="lbfgs").fit(rows, y, sample_weight=weight)
        fits.append(
            infer(model, rows, y, sample_weight=weight, weights="frequency", covariance=covariance, polish=True)
        )
    dense, sparse = fits
    assert_allclose(sparse.covariance, dense.covariance, rtol=1e-7, atol=1e-10)
    assert_allclose(sparse.predict(csr_array(X[:5])).standard_error, dense.predict(X[:5]).standard_error, rtol=1e-6)


def test_a_price_is_said_before_it_is_paid(monkeypatch):
    """Of a Hessian, and of the gradients of rows that come one by one."""
    monkeypatch.setattr("sk_analytic.inference.problem.SLOW", -1.0)
    X, y = load_diabetes(return_X_y=True)
    model = AnalyticRegressor().fit(X, y)
    with pytest.warns(InferenceWarning, match="The Hessian of 11 entries, by 77 gradients, will take about 0 s"):
        result = infer(model, X, y, covariance="hessian", polish=True)
    assert len(result.warnings) == 1
    with pytest.warns(InferenceWarning, match="The gradients of 442 samples will take about 0 s"):
        infer(model, X, y, polish=True)


def test_too_many_entries_are_refused():
    """With the memory that they would take."""
    X = np.random.default_rng(0).normal(size=(5, 10_001))
    model = AnalyticRegressor(optimizer="adam", max_iter=1, tol=None).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="the covariance of 10002 entries would take 0.8 GB"):
        infer(model, X, X[:, 0])
