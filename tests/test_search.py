"""Searches: one grid over names, their hyperparameters and the user's own, through pipelines and processes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import loguniform, randint
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_limits

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.losses import Huber, SquaredError
from sk_analytic.optimizers import SGD, Adam, Chain, ClipNorm

# The candidates are trained for a few epochs: which comes out best is no matter here.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The problems are tiny: threads would only wait for one another."""
    with threadpool_limits(1):
        yield


DIGITS, DIGIT = (array[:400] for array in load_digits(return_X_y=True))
DIABETES, PROGRESSION = load_diabetes(return_X_y=True)
DIABETES, PROGRESSION = 20 * DIABETES[:100], (PROGRESSION[:100] - 150) / 80


def network(activate, slope):
    """One hidden layer for an activation and its slope as a function of its value: closures and lambdas."""

    def init(n_features, n_outputs, rng, n_hidden=4):
        first = rng.normal(size=(n_features, n_hidden)) / np.sqrt(n_features)
        return {"V": first, "W": np.zeros((n_hidden, n_outputs)), "b": np.zeros(n_outputs)}

    def vjp(params, X):
        h = activate(X @ params["V"])

        def pullback(d):
            return {"V": X.T @ ((d @ params["W"].T) * slope(h)), "W": h.T @ d, "b": d.sum(axis=0)}

        return h @ params["W"] + params["b"], pullback

    return {
        "vjp": vjp,
        "init": init,
        "forward": lambda params, X: activate(X @ params["V"]) @ params["W"] + params["b"],
    }


def digits_pipeline(**settings):
    model = network(np.tanh, lambda h: 1 - h * h)
    settings = {"optimizer": "adam", "max_iter": 5, "batch_size": 32, "random_state": 0} | settings
    return Pipeline([("scaler", MinMaxScaler()), ("clf", AnalyticClassifier(**model, **settings))])


def test_one_grid_over_optimizers_their_rates_and_model_parameters_runs_in_two_processes():
    """On digits, with closures and lambdas; the best of all is refitted with all of its settings."""
    grid = {
        "clf__optimizer": ["adam", "rmsprop"],
        "clf__optimizer__learning_rate": [1e-4, 1e-2],
        "clf__model_params__n_hidden": [2, 16],
    }
    pipeline = digits_pipeline()
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=2, error_score="raise").fit(DIGITS, DIGIT)
    best = search.best_estimator_["clf"]
    assert len(search.cv_results_["params"]) == 8
    assert search.best_params_["clf__model_params__n_hidden"] == 16
    assert search.best_params_["clf__optimizer__learning_rate"] == 1e-2
    assert best.params_["V"].shape == (64, 16)
    assert best.optimizer_.learning_rate == 1e-2
    assert search.predict(DIGITS).shape == DIGIT.shape
    assert search.score(DIGITS, DIGIT) > 0.9
    assert pipeline["clf"].optimizer == "adam"
    assert pipeline["clf"].model_params is None


def test_processes_find_what_one_process_finds():
    """The scores of a seeded search do not depend on n_jobs."""
    grid = {"clf__model_params__n_hidden": [2, 3], "clf__optimizer": ["sgd"]}
    parallel, serial = (
        GridSearchCV(digits_pipeline(max_iter=2), grid, n_jobs=n_jobs, cv=2, error_score="raise").fit(DIGITS, DIGIT)
        for n_jobs in (2, None)
    )
    assert_array_equal(parallel.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"])
    assert_allclose(parallel.decision_function(DIGITS), serial.decision_function(DIGITS))


def test_a_list_of_dicts_gives_each_optimizer_its_own_hyperparameters():
    """lbfgs, which has no learning rate, beside adam, which has no maxcor."""
    grid = [
        {"clf__optimizer": ["adam"], "clf__optimizer__learning_rate": [1e-3, 1e-2]},
        {"clf__optimizer": ["lbfgs"], "clf__optimizer__maxcor": [5, 10], "clf__alpha": [1e-2]},
    ]
    search = GridSearchCV(digits_pipeline(), grid, cv=2, error_score="raise").fit(DIGITS, DIGIT)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert_array_equal(search.predict(DIGITS), search.best_estimator_.predict(DIGITS))


def test_a_hyperparameter_that_one_name_lacks_stops_the_search_at_once():
    """Before anything is trained, whatever error_score is; the message shows the list of dicts that works."""
    fits = []
    model = digits_pipeline()
    model.set_params(clf__init=lambda n_features, n_outputs: fits.append(1))
    grid = {"clf__optimizer": ["lbfgs", "adam"], "clf__optimizer__learning_rate": [0.1]}
    with pytest.raises(ValueError, match="optimizer='lbfgs' has no hyperparameter 'learning_rate'") as caught:
        GridSearchCV(model, grid, cv=2, error_score=0.0).fit(DIGITS, DIGIT)
    assert "[{'optimizer': [...], 'optimizer__learning_rate': [...]}, {'optimizer': ['lbfgs']}]" in str(caught.value)
    assert not fits


def test_a_model_parameter_that_nobody_accepts_is_named():
    """It is no matter of set_params but of the callables, so that the fit says so."""
    search = GridSearchCV(digits_pipeline(), {"clf__model_params__n_hiden": [3]}, cv=2, error_score="raise")
    with pytest.raises(
        TypeError, match=r"model_params has 'n_hiden', which no callable accepts. Did you mean 'n_hidden'"
    ):
        search.fit(DIGITS, DIGIT)


def test_losses_and_their_hyperparameters_are_searched_by_name():
    """A grid over epsilon beside a loss that has none."""
    grid = [
        {"loss": ["huber"], "loss__epsilon": [0.1, 1.0]},
        {"loss": ["squared_error", "absolute_error"]},
        {"loss": ["quantile"], "loss__quantile": [0.4, 0.6]},
    ]
    model = AnalyticRegressor(max_iter=20, random_state=0)
    search = GridSearchCV(model, grid, cv=3, error_score="raise", refit="mean", scoring={"mean": "r2"})
    search.fit(DIABETES, PROGRESSION)
    scores = search.cv_results_["mean_test_mean"]
    assert len(np.unique(scores)) == 6
    assert repr(search.best_estimator_) == repr(clone(model).set_params(**search.best_params_))
    grid = {"loss": ["huber", "squared_error"], "loss__epsilon": [1.0]}
    with pytest.raises(ValueError, match=r"loss='squared_error' has no hyperparameter 'epsilon'.* It has: none at all"):
        GridSearchCV(model, grid).fit(DIABETES, PROGRESSION)


def test_objects_and_names_stand_side_by_side_in_a_grid():
    """A hyperparameter of the grid reaches both; the user's objects are left as they are."""
    momentum, huber = SGD(momentum=0.9), Huber(epsilon=0.5)
    grid = {
        "optimizer": ["adam", momentum],
        "optimizer__learning_rate": [1e-3, 1e-2],
        "loss": ["squared_error", huber, SquaredError()],
    }
    model = AnalyticRegressor(max_iter=5, random_state=0)
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(DIABETES, PROGRESSION)
    scores = dict(zip(map(repr, search.cv_results_["params"]), search.cv_results_["mean_test_score"], strict=True))
    assert len(scores) == 12
    assert len(set(scores.values())) == 8  # SquaredError() is "squared_error"
    assert momentum.learning_rate == 0.01
    assert huber.epsilon == 0.5
    chain = Chain([ClipNorm(1.0), Adam(learning_rate=0.1)])
    search = GridSearchCV(model, {"optimizer": [chain, "lbfgs"]}, cv=2, error_score="raise")
    assert np.isfinite(search.fit(DIABETES, PROGRESSION).cv_results_["mean_test_score"]).all()


def test_a_candidate_that_diverges_is_passed_over():
    """Its score is NaN with a warning that tells why, and the others are compared."""
    grid = {"optimizer": ["sgd"], "optimizer__learning_rate": [1e-2, 1e30]}
    search = GridSearchCV(AnalyticRegressor(random_state=0, max_iter=20), grid, cv=2)
    with pytest.warns(FitFailedWarning, match="DivergenceError"), pytest.warns(UserWarning, match="non-finite"):
        search.fit(DIABETES, PROGRESSION)
    assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), [False, True])
    assert search.best_params_["optimizer__learning_rate"] == 1e-2


def test_distributions_are_drawn_from():
    """A log-uniform rate and a number of hidden units, for names of optimizers."""
    distributions = {
        "clf__optimizer": ["adam", "rmsprop", "adagrad"],
        "clf__optimizer__learning_rate": loguniform(1e-3, 1e-1),
        "clf__model_params__n_hidden": randint(2, 20),
        "clf__alpha": loguniform(1e-6, 1e-2),
    }
    search = RandomizedSearchCV(digits_pipeline(), distributions, n_iter=4, cv=2, random_state=0, error_score="raise")
    search.fit(DIGITS, DIGIT)
    assert len({params["clf__optimizer__learning_rate"] for params in search.cv_results_["params"]}) == 4
    assert search.best_estimator_["clf"].params_["V"].shape == (64, search.best_params_["clf__model_params__n_hidden"])
    assert search.score(DIGITS, DIGIT) > 0.5


def test_cross_validation_scores_each_estimator_by_its_own_score():
    """R², accuracy and mean log-density."""
    regressor = AnalyticRegressor(optimizer="lbfgs", max_iter=50)
    scores = cross_val_score(regressor, DIABETES, PROGRESSION, cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert scores.mean() > 0.2
    assert (
        cross_val_score(digits_pipeline(model_params={"n_hidden": 16}), DIGITS, DIGIT, cv=3, error_score="raise").mean()
        > 0.8
    )
    density = AnalyticDensity(optimizer="lbfgs")
    halves = cross_validate(density, DIABETES, cv=2, return_estimator=True, error_score="raise")
    means = [
        fitted.score(DIABETES[rows])
        for fitted, rows in zip(halves["estimator"], (slice(50), slice(50, 100)), strict=True)
    ]
    assert_allclose(halves["test_score"], means)


def test_weights_of_rows_go_with_the_folds():
    """A search that is given weights trains on them: rows of weight 0 are as if they were not there."""
    noise = PROGRESSION.copy()
    noise[::2] += 100
    model = AnalyticRegressor(optimizer="lbfgs", tol=1e-6)
    grid = {"alpha": [0.01, 1.0]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(DIABETES, noise, sample_weight=np.arange(100) % 2)
    expected = model.set_params(alpha=search.best_params_["alpha"]).fit(DIABETES[1::2], PROGRESSION[1::2])
    assert_allclose(search.best_estimator_.params_["coef"], expected.params_["coef"], rtol=1e-3)


def test_a_density_is_chosen_by_its_likelihood():
    """No y, no scoring: the mean log-density of the rows left out decides."""
    grid = {"alpha": [0.0, 10.0], "optimizer": ["lbfgs"]}
    search = GridSearchCV(AnalyticDensity(), grid, cv=2, error_score="raise").fit(DIABETES + 5)
    assert search.best_params_["alpha"] == 0.0  # a penalty would draw the mean to 0
    assert search.best_score_ == pytest.approx(search.cv_results_["mean_test_score"][0])


def test_a_transformer_is_chosen_by_what_follows_it():
    """Codes of an autoencoder before a classifier: more of them are better here."""
    steps = [
        ("scaler", StandardScaler()),
        ("codes", AnalyticTransformer(optimizer="lbfgs", random_state=0, max_iter=30)),
        ("clf", LogisticRegression()),
    ]
    search = GridSearchCV(Pipeline(steps), {"codes__model_params__n_components": [1, 5]}, cv=2, error_score="raise")
    search.fit(DIGITS, DIGIT)
    assert search.best_params_ == {"codes__model_params__n_components": 5}
    assert search.best_estimator_[:-1].get_feature_names_out()[-1] == "analytictransformer4"
