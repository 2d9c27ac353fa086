"""Copies of estimators, in memory, in files and in other processes: what they predict, and how they go on."""

import copy
import pickle
import subprocess
import sys

import cloudpickle
import joblib
import numpy as np
import pytest
from models import USER_MODELS, linear_forward, linear_init
from numpy.testing import assert_array_equal
from sklearn.base import clone

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.losses import Huber
from sk_analytic.optimizers import Adam, Chain, ClipNorm

# Most fits here are cut short on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ALL = [(cls, form) for cls, models in USER_MODELS.items() for form in ["default", *models]]
OUTPUT = {
    AnalyticRegressor: "predict",
    AnalyticClassifier: "predict_proba",
    AnalyticDensity: "score_samples",
    AnalyticTransformer: "transform",
}
every_model = pytest.mark.parametrize(("cls", "form"), ALL, ids=lambda value: getattr(value, "__name__", value))

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=50)
LABELS = (Y > 0).astype(int)


def through_file(load_mode):
    def reload(estimator, folder):
        joblib.dump(estimator, folder / "estimator.joblib")
        return joblib.load(folder / "estimator.joblib", mmap_mode=load_mode)

    return reload


COPIES = {
    "pickle": lambda estimator, folder: pickle.loads(pickle.dumps(estimator)),
    "deepcopy": lambda estimator, folder: copy.deepcopy(estimator),
    "cloudpickle": lambda estimator, folder: cloudpickle.loads(cloudpickle.dumps(estimator)),
    "joblib": through_file(None),
    "joblib, mapped": through_file("r"),
}
every_copy = pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)


def make(cls, form="default", **settings):
    model = {} if form == "default" else USER_MODELS[cls][form]
    return cls(**{"max_iter": 3, "batch_size": 20, "random_state": 0} | model | settings)


def target(cls):
    return LABELS if cls is AnalyticClassifier else Y


def output(estimator):
    return getattr(estimator, OUTPUT[type(estimator)])(X)


def make_of_lambdas(slope, **settings):
    """A regressor of lambdas and closures, which plain pickle refuses: a line of which only the offset is free."""

    def gradient(params, X, y):
        return {"offset": np.mean(forward(params, X) - y)}

    forward = lambda params, X: slope * X[:, 0] + params["offset"]  # noqa: E731
    return AnalyticRegressor(forward, gradient, lambda n_features: {"offset": 0.0}, max_iter=5, **settings)


@every_model
def test_clone_of_a_fitted_estimator_is_unfitted_and_fits_the_same(cls, form):
    """scikit-learn's clone shares the callables and nothing that was learned."""
    fitted = make(cls, form).fit(X, target(cls))
    cloned = clone(fitted)
    assert not [name for name in vars(cloned) if name.endswith("_")]
    for name, value in fitted.get_params(deep=False).items():
        assert getattr(cloned, name) is value or getattr(cloned, name) == value, name
    assert_array_equal(output(cloned.fit(X, target(cls))), output(fitted))


@pytest.mark.parametrize("settings", [{"optimizer": Chain([ClipNorm(1.0), Adam(0.1)])}, {"loss": Huber(2.0)}])
def test_clone_copies_the_objects_behind_parameters(settings):
    """An optimizer or loss is cloned with its estimator, equal but not shared."""
    estimator = make(AnalyticRegressor, "vjp", **settings)
    cloned = clone(estimator)
    [(name, value)] = settings.items()
    assert getattr(cloned, name) is not value
    assert repr(getattr(cloned, name)) == repr(value)
    assert_array_equal(output(cloned.fit(X, Y)), output(estimator.fit(X, Y)))


@every_copy
@every_model
def test_copies_of_an_unfitted_estimator_fit_the_same(cls, form, duplicate, tmp_path):
    """Whatever way they were made."""
    original = make(cls, form)
    duplicated = duplicate(original, tmp_path)
    assert_array_equal(output(duplicated.fit(X, target(cls))), output(original.fit(X, target(cls))))


@every_copy
@every_model
def test_copies_of_a_fitted_estimator_predict_and_go_on_the_same(cls, form, duplicate, tmp_path):
    """To the bit; and what one of them learns is not seen by the other."""
    original = make(cls, form).fit(X, target(cls))
    duplicated = duplicate(original, tmp_path)
    before = output(original)
    assert_array_equal(output(duplicated), before)
    duplicated.partial_fit(X, target(cls))
    assert_array_equal(output(original), before)
    assert (output(duplicated) != before).any()
    original.partial_fit(X, target(cls))
    assert_array_equal(output(duplicated), output(original))
    assert duplicated.loss_curve_ == original.loss_curve_


@every_copy
@every_model
def test_copies_after_a_full_batch_method(cls, form, duplicate, tmp_path):
    """They predict the same, and a warm start goes on from the same place."""
    original = make(cls, form, optimizer="lbfgs", warm_start=True).fit(X, target(cls))
    duplicated = duplicate(original, tmp_path)
    assert_array_equal(output(duplicated), output(original))
    for estimator in (original, duplicated):
        estimator.fit(X, target(cls))
    assert_array_equal(output(duplicated), output(original))


@pytest.mark.parametrize("cls", USER_MODELS)
def test_training_rows_are_not_pickled(cls):
    """A fitted estimator is the size of its parameters, not of its data."""
    many = np.resize(X, (50_000, 3))
    labels = np.resize(target(cls), 50_000)
    for settings in ({"batch_size": 10_000}, {"optimizer": "lbfgs"}, {"early_stopping": True, "batch_size": 10_000}):
        fitted = make(cls, "loss_and_gradient", max_iter=1, **settings).fit(many, labels)
        assert len(pickle.dumps(fitted)) < many.nbytes / 50


@pytest.mark.parametrize("duplicate", [COPIES["cloudpickle"], COPIES["deepcopy"]], ids=["cloudpickle", "deepcopy"])
def test_lambdas_and_closures_are_copied(duplicate, tmp_path):
    """Fitted or not, as long as the tool can copy functions by value."""
    original = make_of_lambdas(2.0)
    assert_array_equal(output(duplicate(original, tmp_path).fit(X, Y)), output(original.fit(X, Y)))
    duplicated = duplicate(original, tmp_path)
    assert_array_equal(output(duplicated.partial_fit(X, Y)), output(original.partial_fit(X, Y)))


def test_lambdas_and_closures_reach_other_processes_by_joblib():
    """Unfitted ones go there and fitted ones come back."""
    slopes = [1.0, 2.0]
    fits = joblib.Parallel(n_jobs=2)(joblib.delayed(make_of_lambdas(slope).fit)(X, Y) for slope in slopes)
    for slope, fitted in zip(slopes, fits, strict=True):
        assert_array_equal(output(fitted), output(make_of_lambdas(slope).fit(X, Y)))
        assert fitted.partial_fit(X, Y).n_iter_ == 6


def test_a_new_process_needs_nothing_but_the_file(tmp_path):
    """An estimator of lambdas, loaded where nothing of the model is defined, predicts and goes on."""
    fitted = make_of_lambdas(2.0).fit(X, Y)
    # By value: a test module cannot be imported there.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        (tmp_path / "estimator").write_bytes(cloudpickle.dumps((fitted, X, Y)))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    script = (
        "import pickle, sys; fitted, X, Y = pickle.load(open(sys.argv[1], 'rb'));"
        "print(fitted.predict(X).sum().hex(), fitted.partial_fit(X, Y).predict(X).sum().hex())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "estimator")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = fitted.predict(X).sum().hex(), fitted.partial_fit(X, Y).predict(X).sum().hex()
    assert tuple(done.stdout.split()) == expected


def test_plain_pickle_says_which_function_it_cannot_copy():
    """Its own error, with the name of the function."""
    with pytest.raises((AttributeError, pickle.PicklingError), match="make_of_lambdas"):
        pickle.dumps(make_of_lambdas(2.0))


def test_a_copy_shares_no_memory():
    """Changing the parameters of one in place leaves the other as it is."""
    original = AnalyticRegressor(linear_forward, init=linear_init, vjp=USER_MODELS[AnalyticClassifier]["vjp"]["vjp"])
    original.set_params(max_iter=3).fit(X, Y)
    duplicated = copy.deepcopy(original)
    before = output(duplicated)
    original.params_["W"][...] = 0
    assert_array_equal(output(duplicated), before)
