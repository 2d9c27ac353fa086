"""Subclasses of the estimators with a constructor of their own: scikit-learn's convention holds for them."""

import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from models import (
    LogisticByVjp,
    LogisticDensity,
    NetworkRegressor,
    linear_forward,
    linear_init,
    linear_jacobian,
    network_forward,
    network_init,
    network_vjp,
)
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_analytic import AnalyticClassifier, AnalyticRegressor, check_gradient
from sk_analytic.callbacks import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
y = np.tanh(X @ [1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=60)


def test_a_subclass_trains_as_its_base_does():
    """The same parameters as the base with what the constructor passes on."""
    own = NetworkRegressor(n_hidden=4, max_iter=3, random_state=0).fit(X, y)
    base = AnalyticRegressor(
        network_forward,
        init=network_init,
        vjp=network_vjp,
        model_params={"n_hidden": 4},
        loss="huber",
        alpha=0.1,
        optimizer="adam",
        max_iter=3,
        random_state=0,
    ).fit(X, y)
    for ours, theirs in zip(own.params_, base.params_, strict=True):
        assert_array_equal(ours, theirs)


def test_parameters_are_those_of_the_constructor():
    """In get_params, the line, the diagram and the signature; what is behind a shown optimizer is there too."""
    estimator = NetworkRegressor(n_hidden=4)
    shallow = estimator.get_params(deep=False)
    assert list(shallow) == ["alpha", "max_iter", "n_hidden", "optimizer", "random_state"]
    assert estimator.get_params()["optimizer__learning_rate"] == 0.01
    assert repr(estimator) == "NetworkRegressor(n_hidden=4)"
    assert "n_hidden" in estimator._repr_html_()
    assert "jacobian" not in estimator._repr_html_()


def test_clone_keeps_what_the_constructor_passed_on():
    """Parameters that a subclass does not show are those of its own constructor."""
    twin = clone(NetworkRegressor(n_hidden=4))
    assert (twin.n_hidden, twin.model_params, twin.loss) == (4, {"n_hidden": 4}, "huber")


def test_what_the_constructor_passes_on_follows():
    """set_params sets what the subclass shows, and what depends on it."""
    estimator = NetworkRegressor(max_iter=1).set_params(n_hidden=7, optimizer__learning_rate=0.5)
    assert estimator.fit(X, y).params_[0].shape == (3, 7)
    assert estimator.optimizer_.learning_rate == 0.5
    assert LogisticDensity().set_params(smallest=0.5).model.smallest == 0.5


def test_a_grid_over_a_subclass_has_its_effect():
    """Also in other processes, and in a pipeline."""
    pipeline = make_pipeline(StandardScaler(), NetworkRegressor(max_iter=2, random_state=0))
    grid = {"networkregressor__n_hidden": [1, 6], "networkregressor__optimizer": ["adam", "sgd"]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
    n_hidden = search.best_params_["networkregressor__n_hidden"]
    assert search.best_estimator_[-1].params_[0].shape == (3, n_hidden)
    assert len({round(score, 12) for score in search.cv_results_["mean_test_score"]}) == 4


def test_a_constructor_that_refuses_leaves_the_estimator_as_it_was():
    """set_params of a value that the subclass checks itself."""

    class Careful(NetworkRegressor):
        def __init__(self, n_hidden=5):
            if n_hidden < 1:
                raise ValueError("n_hidden must be positive")
            super().__init__(n_hidden)

    estimator = Careful(n_hidden=4)
    with pytest.raises(ValueError, match="n_hidden must be positive"):
        estimator.set_params(n_hidden=0)
    assert (estimator.n_hidden, estimator.model_params) == (4, {"n_hidden": 4})


def test_a_subclass_of_a_subclass_hides_more():
    """Each constructor is a function of its own parameters."""

    class Small(NetworkRegressor):
        def __init__(self, max_iter=2):
            super().__init__(n_hidden=max_iter, max_iter=max_iter)

    assert Small().set_params(max_iter=3).fit(X, y).params_[0].shape == (3, 3)
    assert list(Small().get_params()) == ["max_iter"]


def test_a_subclass_without_a_constructor_has_all_parameters():
    """It adds behaviour only."""

    class Logged(AnalyticRegressor):
        def fit(self, X, y, **others):
            self.n_fits_ = getattr(self, "n_fits_", 0) + 1
            return super().fit(X, y, **others)

    fitted = clone(Logged(max_iter=1)).fit(X, y)
    assert (fitted.n_fits_, fitted.max_iter) == (1, 1)
    assert Logged().get_params() == AnalyticRegressor().get_params()


@pytest.mark.parametrize("name", ["loss", "forward", "model"])
def test_a_hidden_parameter_is_refused_in_words(name):
    """By the constructor and by set_params: the class sets it itself."""
    with pytest.raises(TypeError, match=f"NetworkRegressor sets '{name}' itself.* It has: alpha, max_iter, n_hidden"):
        NetworkRegressor(**{name: None})
    with pytest.raises(ValueError, match=f"NetworkRegressor sets '{name}' itself"):
        NetworkRegressor().set_params(**{name: None})


def test_an_unknown_parameter_is_refused_by_the_subclass():
    with pytest.raises(TypeError, match="NetworkRegressor has no parameter 'n_hiden'. Did you mean 'n_hidden'?"):
        NetworkRegressor(n_hiden=3)


def test_a_loss_that_a_subclass_sets_is_trained():
    """A gradient form without a value of its own, whose loss by name the constructor fixes."""

    class Poisson(AnalyticRegressor):
        def __init__(self, alpha=0.0):
            super().__init__(linear_forward, jacobian=linear_jacobian, init=linear_init, loss="poisson", alpha=alpha)

    assert (Poisson().fit(X, np.abs(y)).predict(X) > 0).all()
    assert check_gradient(Poisson(), X, np.abs(y)).ok


def test_a_classifier_hides_its_class_weight():
    class Balanced(AnalyticClassifier):
        def __init__(self, max_iter=5):
            super().__init__(class_weight="balanced", max_iter=max_iter)

    labels = (X[:, 0] > 1).astype(int)
    assert_array_equal(
        clone(Balanced()).fit(X, labels).predict(X),
        AnalyticClassifier(class_weight="balanced", max_iter=5).fit(X, labels).predict(X),
    )


def test_partial_fit_and_warm_start_go_on():
    """As for the base."""
    estimator = NetworkRegressor(max_iter=2, random_state=0).fit(X, y).partial_fit(X, y)
    assert estimator.n_iter_ == 3


@pytest.mark.parametrize("estimator", [NetworkRegressor(4), LogisticDensity(0.1)], ids=["functions", "model"])
def test_a_pickle_is_read_in_a_new_process(estimator, tmp_path):
    """By the import path of the class and its functions."""
    estimator.set_params(random_state=0)
    estimator.fit(X, y if isinstance(estimator, AnalyticRegressor) else None)
    method = "predict" if isinstance(estimator, AnalyticRegressor) else "score_samples"
    expected = getattr(estimator, method)(X)
    joblib.dump((estimator, X, expected), tmp_path / "file")
    code = (
        "import sys, joblib, numpy; "
        f"estimator, X, expected = joblib.load(sys.argv[1]); "
        f"numpy.testing.assert_array_equal(estimator.{method}(X), expected)"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths}; {code}", str(tmp_path / "file")], check=True
    )
    assert_array_equal(getattr(pickle.loads(pickle.dumps(estimator)), method)(X), expected)


def test_a_checkpoint_sees_what_the_constructor_passed_on(tmp_path):
    """A class that passes on something else does not resume what another one began."""
    if not hasattr(NetworkRegressor(), "set_callbacks"):
        pytest.skip("this scikit-learn has no callbacks")
    checkpoint = Checkpoint(tmp_path / "file", resume=True)
    estimator = NetworkRegressor(max_iter=2, random_state=0)
    estimator.set_callbacks(checkpoint).fit(X, y)
    other = NetworkRegressor(max_iter=2, random_state=0)
    other.loss = "squared_error"
    with pytest.raises(ValueError, match="holds a fit with loss='huber'; it is 'squared_error' now"):
        other.set_callbacks(checkpoint).fit(X, y)


def test_the_model_of_a_subclass_is_its_own():
    """What a fit trains is a copy of the model that the constructor made."""
    fitted = LogisticDensity(0.1).fit(X)
    assert type(fitted.model_) is LogisticByVjp
    assert fitted.model_ is not fitted.model
    assert fitted.sample(2).shape == (2, 3)
