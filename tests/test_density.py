"""Densities, which scikit-learn's suite hardly looks at."""

import pickle

import numpy as np
import pytest
from models import USER_MODELS, logistic_forward
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from sk_analytic import AnalyticDensity, ParameterStructureError
from sk_analytic.optimizers import SGD

# Most fits here are cut short on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MODELS = {"default": {}, **USER_MODELS[AnalyticDensity]}


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)) * [1.0, 3.0, 0.2] + [0.0, -5.0, 2.0]


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


def make_density(model, **settings):
    return AnalyticDensity(**model | {"random_state": 0} | settings)


# The default model starts at its optimum, where Adam divides rounding errors by their own size.
FULL_BATCH = [(name, optimizer) for name in MODELS for optimizer in ("lbfgs", "sgd", "adam")]
FULL_BATCH.remove(("default", "adam"))


@pytest.mark.parametrize(("name", "optimizer"), FULL_BATCH)
def test_weights_count_like_repeated_rows(name, optimizer, X):
    """Whole weights, zeros among them, equal so many copies of a row, in a full batch."""
    model = MODELS[name]
    weight = np.arange(len(X)) % 4
    settings = {"optimizer": optimizer, "batch_size": 1000, "max_iter": 50}
    if optimizer == "lbfgs":  # the sums of many iterations differ by rounding, which the way to the optimum forgets
        settings |= {"max_iter": 500, "tol": 1e-8}
    weighted = make_density(model, **settings).fit(X, sample_weight=weight)
    repeated = make_density(model, **settings).fit(np.repeat(X, weight, axis=0))
    assert_allclose(weighted.score_samples(X), repeated.score_samples(X), rtol=1e-7)
    assert_allclose(weighted.loss_curve_[-1], repeated.loss_curve_[-1], rtol=1e-9)
    assert_allclose(weighted.loss_curve_[:3], repeated.loss_curve_[:3], rtol=1e-6)


def test_weights_of_any_scale_are_the_same(model, X):
    """Weights are relative: a common factor changes nothing."""
    weight = 0.5 + np.arange(len(X)) % 3
    one, other = (make_density(model, max_iter=5).fit(X, sample_weight=w) for w in (weight, 1024 * weight))
    assert_array_equal(one.score_samples(X), other.score_samples(X))


def test_zero_weights_leave_a_row_out(model, X):
    """A row of weight 0 may hold anything finite."""
    outlier = np.vstack([X, [[1e3, -1e3, 1e3]]])
    weight = np.r_[np.ones(len(X)), 0.0]
    one = make_density(model, optimizer="lbfgs").fit(outlier, sample_weight=weight)
    other = make_density(model, optimizer="lbfgs").fit(X)
    assert_allclose(one.score_samples(X), other.score_samples(X), rtol=1e-7)


def test_score_is_the_mean_of_score_samples(model, X):
    """A float, in nats a row; with weights the weighted mean."""
    density = make_density(model, max_iter=5).fit(X)
    each = density.score_samples(X)
    assert each.shape == (60,)
    score = density.score(X)
    assert type(score) is float
    assert score == pytest.approx(each.mean(), rel=1e-14)
    weight = np.arange(60.0)
    assert density.score(X, sample_weight=weight) == pytest.approx(np.average(each, weights=weight), rel=1e-14)


def test_default_gaussian_agrees_with_scipy(X):
    """It is the maximum likelihood estimate, column by column, and its density is scipy's."""
    density = AnalyticDensity(optimizer="lbfgs", tol=1e-8).fit(X)
    mean, log_scale, smallest = density.params_.values()
    scale = np.sqrt(np.exp(2 * log_scale) + smallest**2)
    assert_allclose(mean, X.mean(axis=0), rtol=1e-6, atol=1e-8)
    assert_allclose(scale, X.std(axis=0), rtol=1e-6)
    elsewhere = X + [1.0, -20.0, 0.3]
    expected = stats.norm(mean, scale).logpdf(elsewhere).sum(axis=1)
    assert_allclose(density.score_samples(elsewhere), expected, rtol=1e-12)


def test_default_gaussian_with_weights_is_the_weighted_estimate(X):
    """Mean and scale are those of numpy's weighted averages."""
    weight = np.linspace(0.1, 2.0, len(X))
    density = AnalyticDensity(optimizer="lbfgs", tol=1e-8).fit(X, sample_weight=weight)
    mean = np.average(X, axis=0, weights=weight)
    assert_allclose(density.params_["mean"], mean, rtol=1e-6, atol=1e-8)
    scale = np.hypot(np.exp(density.params_["log_scale"]), density.params_["smallest_scale"])
    assert_allclose(scale**2, np.average((X - mean) ** 2, axis=0, weights=weight), rtol=1e-6)


def test_user_model_agrees_with_scipy(X):
    """The logistic density of a user, in log-densities that are scipy's."""
    density = make_density(USER_MODELS[AnalyticDensity]["vjp"], optimizer="lbfgs").fit(X)
    scale = np.exp(density.params_.log_scale) + 0.01
    expected = stats.logistic(density.params_.mean, scale).logpdf(X).sum(axis=1)
    assert_allclose(density.score_samples(X), expected, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_constant_columns_have_a_density(optimizer, dtype):
    """Some pixels of the digits never vary: their scale stays above a thousandth of all scales together."""
    X = load_digits().data.astype(dtype)
    density = AnalyticDensity(optimizer=optimizer, max_iter=20, random_state=0).fit(X)
    smallest = density.params_["smallest_scale"]
    assert smallest == pytest.approx(1e-3 * np.sqrt(X.var(axis=0).mean()), rel=1e-4)
    log_density = density.score_samples(X)
    assert log_density.dtype == dtype
    assert np.isfinite(log_density).all()
    constant = X.std(axis=0) == 0
    assert constant.sum() == 3
    assert (np.exp(density.params_["log_scale"][constant]) < 0.1).all()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_one_row_and_constant_rows_have_a_density(model, optimizer, X):
    """The likelihood of a single point has no maximum, but the models here keep a smallest scale."""
    for rows in (X[:1], np.ones((5, 2))):
        density = make_density(model, optimizer=optimizer, max_iter=30).fit(rows)
        assert np.isfinite(density.score(rows))


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_early_stopping_keeps_the_best_density(model, optimizer, X):
    """The scores are mean log-densities of the rows held out, and the best epoch's parameters are kept."""
    settings = {"optimizer": optimizer, "early_stopping": True, "n_iter_no_change": 2, "tol": 0.0}
    density = make_density(model, max_iter=30, **settings).fit(X)
    scores = density.validation_scores_
    assert len(scores) == density.n_iter_
    best = make_density(model, max_iter=int(np.argmax(scores)) + 1, **settings).fit(X)
    assert best.validation_scores_[-1] == max(scores)
    assert_array_equal(density.score_samples(X), best.score_samples(X))


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "Input X contains NaN"), (-np.inf, "Input X contains infinity")]
)
@pytest.mark.parametrize("method", ["fit", "partial_fit", "score_samples", "score"])
def test_missing_values_are_refused(model, method, value, message, X):
    """In training and in scoring."""
    density = make_density(model, max_iter=2).fit(X)
    X[3, 1] = value
    with pytest.raises(ValueError, match=message):
        getattr(density, method)(X)


@pytest.mark.parametrize("method", ["score_samples", "score"])
def test_not_fitted(model, method, X):
    """Scoring before fit is scikit-learn's error."""
    with pytest.raises(NotFittedError, match="This AnalyticDensity instance is not fitted yet"):
        getattr(make_density(model), method)(X)


def test_targets_are_ignored(model, X):
    """A pipeline passes y on; whatever it holds, nothing changes."""
    one, other = (make_density(model, max_iter=3).fit(X, y) for y in (None, np.full(len(X), np.nan)))
    assert_array_equal(one.score_samples(X), other.score_samples(X))
    assert one.score(X, "anything") == other.score(X)


def test_results_survive_pickling(model, X):
    """To the bit, score and log-densities."""
    density = make_density(model, max_iter=3).fit(X)
    reloaded = pickle.loads(pickle.dumps(density))
    assert_array_equal(reloaded.score_samples(X), density.score_samples(X))
    assert reloaded.score(X) == density.score(X)


def test_float32_is_kept(model, X):
    """Parameters and log-densities are of X's type, and close to those of float64."""
    narrow, wide = (make_density(model, optimizer=SGD(learning_rate=0.02), max_iter=20) for _ in range(2))
    narrow.fit(X.astype(np.float32))
    leaves = narrow.params_.values() if isinstance(narrow.params_, dict) else narrow.params_
    assert all(leaf.dtype == np.float32 for leaf in leaves if isinstance(leaf, np.ndarray))
    log_density = narrow.score_samples(X.astype(np.float32))
    assert log_density.dtype == np.float32
    assert_allclose(log_density, wide.fit(X).score_samples(X), rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f[:, None],
            r"forward returned shape \(60, 1\); a density returns one log-density per sample, of shape \(60,\)",
        ),
        (lambda f: np.stack([f, f], axis=1), r"forward returned shape \(60, 2\); a density returns one"),
        (lambda f: f.mean(), r"forward returned shape \(\) for 60 samples"),
        (lambda f: f[:-1], r"forward returned shape \(59,\) for 60 samples"),
    ],
)
def test_a_log_density_is_one_number_a_row(change, message, X):
    """Any other shape is an error before the first step, on the rows of a step."""
    settings = USER_MODELS[AnalyticDensity]["loss_and_gradient"]
    density = make_density(settings, forward=lambda params, X, smallest: change(logistic_forward(params, X, smallest)))
    with pytest.raises(ParameterStructureError, match=message):
        density.fit(X)


def test_model_selection_by_likelihood(X):
    """score serves cross-validation, and model parameters can be searched."""
    density = make_density(USER_MODELS[AnalyticDensity]["vjp"], optimizer="lbfgs")
    assert cross_val_score(density, X, cv=3).shape == (3,)
    search = GridSearchCV(density, {"model_params__smallest": [0.01, 10.0]}, cv=3).fit(X)
    assert search.best_params_ == {"model_params__smallest": 0.01}
