"""Copies of estimators, in memory, in files and in other processes: what they predict, and how they go on.

And parameters in files of their own.
"""

import copy
import functools
import io
import math
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
import traceback
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import cloudpickle
import joblib
import numpy as np
import pytest
import safetensors.numpy
import skops.io as skops_io
from models import USER_MODELS, linear_forward, linear_init, linear_vjp
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    ParameterStructureError,
    check_gradient,
    get_optimizer,
    get_optimizer_names,
    load_params,
    save_params,
    trusted_types,
)
from sk_analytic.losses import Huber
from sk_analytic.optimizers import (
    SGD,
    Accumulate,
    Adam,
    Chain,
    ClipNorm,
    Cosine,
    ExponentialAverage,
    Lookahead,
    OneCycle,
    PerBlock,
    PolyakAverage,
    ReduceOnPlateau,
    RMSprop,
    WarmUp,
)
from sk_analytic.optimizers.scipy_methods import FullBatch
from sk_analytic.persistence import replacing
from sk_analytic.trust import trusted

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
    settings = {"optimizer": "adam", "max_iter": 5} | settings
    return AnalyticRegressor(forward, gradient, lambda n_features: {"offset": 0.0}, **settings)


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


# ---- training that goes on ----

EPOCHS = 3  # k: fits of so many epochs, of three steps each
BY_BATCHES = {name: name for name in get_optimizer_names() if not isinstance(get_optimizer(name), FullBatch)}
OPTIMIZERS = BY_BATCHES | {
    "chain by block": Chain([ClipNorm(0.5), PerBlock({"W": Adam(Cosine(0.1, length=15))}, default=SGD(0.05))]),
    "accumulated": Chain([Accumulate(2), Adam(0.05)]),
    "lookahead": Chain([RMSprop(0.05), Lookahead(4)]),
    "polyak average": Chain([SGD(0.1), PolyakAverage(start=5)]),
    "exponential average": Chain([Adam(0.1), ExponentialAverage(0.9)]),
    "reduced on plateau": SGD(ReduceOnPlateau(0.8, factor=0.5, patience=0), momentum=0.9),
    "warmed up": Adam(WarmUp(8, then=Cosine(0.1, length=30))),
    "one cycle": SGD(OneCycle(0.3, length=18), momentum=0.5, nesterov=True),
}
LEFT = SimpleNamespace(calls=math.inf)  # of the callable below, before it ends its process


def mortal_vjp(params, X, rng):
    """A linear model with noise on its inputs, in which a process can be killed while it trains."""
    LEFT.calls -= 1
    if LEFT.calls < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return linear_vjp(params, X + 0.1 * rng.normal(size=X.shape))


def unfinished(optimizer, max_iter=EPOCHS, **settings):
    model = {"forward": linear_forward, "init": linear_init, "vjp": mortal_vjp, "check_gradient": False}
    fixed = {"batch_size": 20, "random_state": 0, "warm_start": True, "alpha": 0.01}
    return AnalyticRegressor(optimizer=optimizer, max_iter=max_iter, **(model | fixed | settings))


def train_and_die(folder):
    """Let a process a rule train for k epochs, write the estimator, and be killed in the epoch after the next."""
    for name, optimizer in OPTIMIZERS.items():
        child = os.fork()
        if not child:
            estimator = unfinished(optimizer).fit(X, Y)
            (Path(folder) / f"{name}.pickle").write_bytes(pickle.dumps(estimator))
            LEFT.calls = 4
            estimator.fit(X, Y)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, name


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory):
    """Files of processes that were killed while they trained."""
    folder = tmp_path_factory.mktemp("killed")
    command = "import sys, test_persistence; test_persistence.train_and_die(sys.argv[1])"
    path = os.pathsep.join(map(str, [Path(__file__).parent, Path(__file__).parents[1]]))
    subprocess.run([sys.executable, "-c", command, str(folder)], check=True, env=os.environ | {"PYTHONPATH": path})
    return folder


def assert_same(ours, theirs):
    """The same parameters, curve, counts and optimizer state, to the bit."""
    for name in ("W", "b"):
        assert_array_equal(ours.params_[name], theirs.params_[name])
    assert ours.loss_curve_ == theirs.loss_curve_
    assert ours.validation_scores_ == theirs.validation_scores_
    assert (ours.n_iter_, ours.n_steps_) == (theirs.n_iter_, theirs.n_steps_)
    assert repr(ours.optimizer_state_) == repr(theirs.optimizer_state_)
    for one, other in zip(ours.optimizer_state_.links, theirs.optimizer_state_.links, strict=True):
        for slot in one.slots:
            assert_array_equal(one.slots[slot], other.slots[slot])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is killed as POSIX does it")
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("how", ["warm_start", "partial_fit"])
def test_k_epochs_a_kill_and_k_more_are_2k_epochs(name, how, left_behind):
    """With every minibatch rule: slots, counters, memory, schedules and seed come back from the file."""
    resumed = pickle.loads((left_behind / f"{name}.pickle").read_bytes())
    assert resumed.n_iter_ == EPOCHS
    if how == "warm_start":
        resumed.fit(X, Y)
    else:
        for _ in range(EPOCHS):
            resumed.partial_fit(X, Y)
    assert_same(resumed, unfinished(OPTIMIZERS[name], 2 * EPOCHS).fit(X, Y))


@pytest.mark.parametrize("first", [1, 2, 4])
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("adam", {"early_stopping": True, "n_iter_no_change": 5, "tol": 0.0}),
        (Adam(0.1), {"early_stopping": True, "n_iter_no_change": 3, "tol": 0.5}),
        (OPTIMIZERS["exponential average"], {"early_stopping": True, "n_iter_no_change": 50}),
        ("adam", {"n_iter_no_change": 4, "tol": 0.05}),
        ("asgd", {"n_iter_no_change": 4, "tol": 0.05}),
    ],
    ids=["score", "score, soon stopped", "score of an average", "loss", "loss of an average"],
)
def test_what_counts_for_stopping_goes_on(optimizer, settings, first):
    """The best so far, the epochs without improvement, the best parameters: training is stopped in the same epoch."""
    whole = unfinished(optimizer, 40, **settings).fit(X, Y)
    assert whole.n_iter_ > first
    parts = pickle.loads(pickle.dumps(unfinished(optimizer, first, **settings).fit(X, Y)))
    assert_same(parts.set_params(max_iter=40 - first).fit(X, Y), whole)


def test_a_fit_that_was_stopped_counts_anew():
    """Going on after a stop is the user's decision; it is not stopped at once."""
    stopped = unfinished("adam", 200, n_iter_no_change=3, tol=0.1).fit(X, Y)
    first = stopped.n_iter_
    assert first < 200
    assert stopped.fit(X, Y).n_iter_ >= first + 3


def test_after_early_stopping_training_goes_on_from_the_best():
    """Where training was stopped it goes on from what is in ``params_``."""
    stopped = unfinished("sgd", 200, early_stopping=True, n_iter_no_change=3, tol=0.1).fit(X, Y)
    assert stopped.n_iter_ < 200
    twin = copy.deepcopy(stopped)
    twin.params_ = copy.deepcopy(stopped.params_)
    assert_same(twin.fit(X, Y), stopped.fit(X, Y))


@pytest.mark.parametrize(
    "name", ["asgd", "lookahead", "exponential average", "schedule_free_sgd", "schedule_free_adamw"]
)
def test_parameters_set_by_hand_are_gone_on_from(name):
    """Also where an average predicts, from which training itself does not go on: it begins anew from them."""
    settings = {"vjp": linear_vjp, "shuffle": False}
    estimator = unfinished(OPTIMIZERS[name], **settings).fit(X, Y)
    before = copy.deepcopy(estimator.params_)
    own = {"W": np.full((3, 1), 10.0), "b": np.zeros(1)}
    estimator.params_ = copy.deepcopy(own)
    fresh = unfinished(OPTIMIZERS[name], init=own, **settings)
    assert_array_equal(estimator.partial_fit(X, Y).params_["W"], fresh.partial_fit(X, Y).params_["W"])
    assert (estimator.params_["W"] != before["W"]).all()
    assert_array_equal(own["W"], 10.0)


@pytest.mark.parametrize(
    ("own", "came"),
    [
        ({"W": np.ones((3, 1)), "b": np.zeros(40)}, r"'W' \(3, 1\), 'b' \(40,\)"),
        ({"W": np.ones((3, 1)), "b": np.zeros(1), "q": 1.0}, r"'W' \(3, 1\), 'b' \(1,\), 'q' \(\)"),
        ({"W": np.ones((3, 1))}, r"'W' \(3, 1\)"),
        ((np.ones((3, 1)), np.zeros(1)), r"'0' \(3, 1\), '1' \(1,\)"),
    ],
    ids=["shape", "one more", "one less", "tuple"],
)
@pytest.mark.parametrize("going_on", ["partial_fit", "fit", "predict", "check_gradient"])
def test_parameters_set_by_hand_have_the_blocks_of_the_fit(own, came, going_on):
    """Other ones are refused wherever they are read: the message is about them, and no function of the user's runs."""
    estimator = AnalyticRegressor(vjp=linear_vjp, init=linear_init, warm_start=True).fit(X, Y)
    estimator.params_ = own
    calls = {
        "partial_fit": lambda: estimator.partial_fit(X, Y),
        "fit": lambda: estimator.fit(X, Y),
        "predict": lambda: estimator.predict(X),
        "check_gradient": lambda: check_gradient(estimator, X, Y),
    }
    message = rf"params_ has {came}; the fit had 'W' \(3, 1\), 'b' \(1,\)\. .*init=params"
    with pytest.raises(ParameterStructureError, match=message) as raised:
        calls[going_on]()
    assert not hasattr(raised.value, "__notes__")
    assert estimator.params_ is own


def test_a_full_batch_method_begins_anew_and_says_so(capsys):
    """Nothing of the curvature is kept: a warm start is a new start from the parameters."""
    estimator = unfinished("lbfgs", 2, verbose=1).fit(X, Y)
    assert "anew" not in capsys.readouterr().out
    start = copy.deepcopy(estimator.params_)
    estimator.fit(X, Y)
    assert "LBFGS continues from the current parameters." in capsys.readouterr().out
    fresh = unfinished("lbfgs", 2).set_params(init=start).fit(X, Y)
    assert_array_equal(estimator.params_["W"], fresh.params_["W"])
    assert estimator.n_iter_ == 2 + fresh.n_iter_


# ---- skops ----


def through_skops(estimator, *functions):
    return skops_io.loads(skops_io.dumps(estimator), trusted=trusted_types(*functions))


def functions_of(estimator):
    given = [estimator.forward, estimator.gradient, estimator.init, estimator.loss, estimator.loss_and_gradient]
    return {f for f in [*given, estimator.vjp, estimator.jacobian] if callable(f)}


@every_model
def test_skops_loads_what_is_trusted(cls, form):
    """Own types and the user's functions, fitted or not; the copy predicts and goes on to the bit."""
    original = make(cls, form)
    assert_array_equal(
        output(through_skops(original, *functions_of(original)).fit(X, target(cls))),
        output(original.fit(X, target(cls))),
    )
    loaded = through_skops(original, *functions_of(original), *([type(original.params_)] * (cls is AnalyticDensity)))
    assert_array_equal(output(loaded), output(original))
    assert_array_equal(output(loaded.partial_fit(X, target(cls))), output(original.partial_fit(X, target(cls))))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_after_skops(name):
    """With every minibatch rule, to the bit."""
    estimator = unfinished(OPTIMIZERS[name]).fit(X, Y)
    loaded = through_skops(estimator, linear_forward, linear_init, mortal_vjp)
    assert_same(loaded.fit(X, Y), estimator.fit(X, Y))


@pytest.mark.parametrize("name", [name for name in get_optimizer_names() if name not in BY_BATCHES])
def test_skops_loads_the_results_of_full_batch_methods(name):
    """With what scipy returned."""
    jacobian = USER_MODELS[AnalyticRegressor]["jacobian"]
    estimator = AnalyticRegressor(**jacobian, optimizer=name, max_iter=3).fit(X, Y)
    loaded = through_skops(estimator, *functions_of(estimator))
    assert_array_equal(output(loaded), output(estimator))
    assert loaded.optimizer_result_.fun == estimator.optimizer_result_.fun


def test_skops_names_the_users_functions_as_what_is_to_be_trusted():
    """Beside this package's own types there is nothing else; without trust nothing is loaded."""
    estimator = make_pipeline(StandardScaler(), unfinished("adam")).fit(X, Y)
    data = skops_io.dumps(estimator)
    untrusted = set(skops_io.get_untrusted_types(data=data)) - set(trusted_types())
    assert untrusted == {"models.linear_forward", "models.linear_init", "test_persistence.mortal_vjp"}
    with pytest.raises(skops_io.exceptions.UntrustedTypesFoundException, match="mortal_vjp"):
        skops_io.loads(data, trusted=trusted_types())
    loaded = skops_io.loads(data, trusted=trusted_types(linear_forward, linear_init, mortal_vjp))
    assert_array_equal(loaded.predict(X), estimator.predict(X))


class Scaled:
    """A callable with a state of its own."""

    def __init__(self, factor, function=linear_forward):
        self.factor, self.function = factor, function

    def __call__(self, params, X):
        return self.factor * self.function(params, X)

    def predict(self, params, X):
        return self(params, X)


def shifted(params, X, shift):
    return linear_forward(params, X) + shift


@pytest.mark.parametrize(
    ("forward", "trusted"),
    [
        (functools.partial(shifted, shift=2.0), [functools.partial, shifted]),
        (Scaled(2.0), [Scaled]),
    ],
    ids=["partial", "object"],
)
def test_skops_keeps_partials_and_callable_objects(forward, trusted):
    """With what they hold."""
    estimator = AnalyticRegressor(
        forward, vjp=linear_vjp, init={"W": np.ones((3, 1)), "b": np.zeros(1)}, check_gradient=False, max_iter=1
    ).fit(X, Y)
    loaded = through_skops(estimator, linear_forward, linear_vjp, *trusted)
    assert_array_equal(loaded.predict(X), estimator.predict(X))


def local_function(params, X):
    return None


def make_local(module_level_name):
    def inner(params, X):
        return linear_forward(params, X)

    if module_level_name:
        inner.__name__ = inner.__qualname__ = module_level_name
    return inner


def local_tuple():
    class Local(NamedTuple):
        slope: float

    return Local(1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forward": lambda params, X: X}, r"forward holds a lambda \(.*test_persistence.py, line \d+\)"),
        ({"vjp": make_local(None)}, "vjp holds the function make_local.<locals>.inner"),
        ({"forward": make_local("local_function")}, "forward holds the function local_function"),
        ({"forward": functools.partial(lambda params, X, a: X, a=1)}, "forward holds a lambda"),
        ({"forward": Scaled(2.0, lambda params, X: X)}, "forward holds a lambda"),
        ({"forward": Scaled(2.0, lambda params, X: X).predict}, "forward holds a lambda"),
        ({"model_params": {"activations": [np.tanh, lambda x: x]}}, "model_params holds a lambda"),
        ({"init": local_tuple()}, "init holds the class local_tuple.<locals>.Local of test_persistence"),
        ({"loss": staticmethod(lambda: 0).__func__}, "loss holds a lambda"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_skops_is_refused_what_has_no_import_path(settings, message):
    """It would write a name under which nothing, or another function, is found later."""
    estimator = AnalyticRegressor(**settings)
    with pytest.raises(TypeError, match=f"This AnalyticRegressor cannot be saved by skops: {message}"):
        skops_io.dumps(estimator)
    with pytest.raises(TypeError, match="cloudpickle"):
        skops_io.dumps(make_pipeline(StandardScaler(), estimator))
    assert (
        pickle.loads(cloudpickle.dumps(estimator)).get_params(deep=False).keys() == estimator.get_params(False).keys()
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x, "got a lambda"),
        (make_local(None), "make_local"),
        (Scaled(1.0), "accepts only functions and classes"),
    ],
    ids=["lambda", "local", "object"],
)
def test_only_what_has_an_import_path_can_be_trusted(wrong, message):
    """A name that leads nowhere would not be the user's function."""
    with pytest.raises(TypeError, match=message):
        trusted_types(wrong)


class LikeThePackage(Huber):
    """A class of a user's that claims to be defined in this package."""

    __module__ = "sk_analytic.losses"


class LikeAnEstimator(AnalyticRegressor):
    """An estimator of a user's."""


class LikeALoss(Huber):
    """A loss of a user's."""


@pytest.mark.parametrize("mine", [LikeThePackage, LikeAnEstimator, LikeALoss])
def test_a_class_of_the_users_is_trusted_only_if_passed(mine):
    """Whatever it inherits, and whatever module it claims to be from."""
    assert not any(name.endswith(mine.__name__) for name in trusted_types())


def test_what_the_package_does_not_define_never_enters():
    """The decorator is for its own classes and functions."""
    with pytest.raises(ValueError, match="linear_forward .* is not defined in sk_analytic"):
        trusted(linear_forward)


# ---- parameters in files ----


class Line(NamedTuple):
    slope: float
    offset: np.ndarray


STRUCTURES = {
    "dict": {"W": np.arange(6.0).reshape(3, 2), "b": 0.5},
    "tuple": (np.ones(3), np.zeros((2, 0)), 2.0),
    "named tuple": Line(1.5, np.array([1.0, 2.0])),
    "nested": {"layers": [{"W": np.eye(2), "b": 1.0}, {"W": -np.eye(2), "b": 2.0}], 7: np.float64(3.0)},
    "array": np.linspace(0, 1, 5),
    "one number": 4.25,
    "float32": {"W": np.array([[0.1, 0.2]], np.float32)},
    "names of arguments": {"file": np.ones(1), "allow_pickle": 0.5, "a/b": 1.0, "x.npy": 2.0},
    "other memory orders": {"F": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "strided": np.arange(8.0)[::3]},
}
every_format = pytest.mark.parametrize("ending", ["npz", "safetensors"])


def leaves(structure):
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, tuple | list):
        return [leaf for child in structure for leaf in leaves(child)]
    return [structure]


@every_format
@pytest.mark.parametrize("name", STRUCTURES)
def test_parameters_come_back_from_a_file(name, ending, tmp_path):
    """In their structure, to the bit; floats stay floats, and the file is independent of what was saved."""
    params = STRUCTURES[name]
    path = tmp_path / f"params.{ending}"
    save_params(path, params)
    loaded = load_params(path, like=params)
    assert type(loaded) is type(params)
    for ours, theirs in zip(leaves(loaded), leaves(params), strict=True):
        assert_array_equal(ours, theirs, strict=isinstance(theirs, np.ndarray))
        assert isinstance(ours, float) == isinstance(theirs, float)
    assert os.listdir(tmp_path) == [path.name]
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


@every_format
def test_files_are_read_by_others_under_block_names(ending, tmp_path):
    """numpy and safetensors see plain arrays, and what they write is read."""
    path = tmp_path / f"params.{ending}"
    save_params(str(path), STRUCTURES["nested"])
    if ending == "npz":
        with np.load(path, allow_pickle=False) as archive:
            read = dict(archive)
    else:
        read = safetensors.numpy.load_file(path)
    assert set(read) == {"layers.0.W", "layers.0.b", "layers.1.W", "layers.1.b", "7"}
    assert {name: array.tolist() for name, array in load_params(path).items()} == {
        n: a.tolist() for n, a in read.items()
    }
    np.savez(tmp_path / "theirs.npz", **read)
    assert load_params(tmp_path / "theirs.npz", like=STRUCTURES["nested"])["layers"][1]["b"] == 2.0


@every_format
def test_an_estimator_takes_over_what_another_has_learned(ending, tmp_path):
    """Its parameters go to a file, and into another estimator's structure or its start."""
    fitted = AnalyticRegressor(optimizer="lbfgs").fit(X, Y)
    save_params(tmp_path / f"params.{ending}", fitted)
    other = AnalyticRegressor(optimizer="lbfgs").fit(X, -Y)
    other.params_ = load_params(tmp_path / f"params.{ending}", like=other)
    assert_array_equal(other.predict(X), fitted.predict(X))
    assert type(other.params_["intercept"]) is float
    begun = AnalyticRegressor(init=other.params_, optimizer=SGD(0.0), max_iter=1).fit(X, Y)
    assert_array_equal(begun.predict(X), fitted.predict(X))


@every_format
def test_a_file_that_does_not_fit_is_refused(ending, tmp_path):
    """The message has the file, the block, what came and what was expected."""
    path = tmp_path / f"params.{ending}"
    save_params(path, {"W": np.ones((3, 2)), "b": np.ones(2)})
    for like, message in [
        (
            {"W": np.ones((2, 3)), "b": np.ones(2)},
            rf"params.{ending} has shape \(3, 2\) in parameter 'W'; expected \(2, 3\). Is it",
        ),
        (
            {"W": np.ones((3, 2)), "c": np.ones(2)},
            rf"params.{ending} lacks the parameter 'c'.*It has: W, b. Requested: W, c",
        ),
        ({"W": np.ones((3, 2))}, rf"params.{ending} has a parameter 'b' that was not requested"),
        ({"W": np.ones((3, 2)), "b": np.ones(4)}, rf"params.{ending} .* parameter 'b'; expected \(4,\)\.$"),
    ]:
        with pytest.raises(ParameterStructureError, match=message):
            load_params(path, like=like)
    with pytest.raises(TypeError, match="This AnalyticRegressor is not fitted"):
        load_params(path, like=AnalyticRegressor())
    np.save(tmp_path / "array.npy", np.ones(3))
    for content in [b"nothing of the kind", b"", pickle.dumps([1.0]), (tmp_path / "array.npy").read_bytes()]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"params.{ending} is not a .{ending} file") as raised:
            load_params(path)
        assert "allow_pickle" not in "".join(traceback.format_exception(raised.value))
    with pytest.raises(FileNotFoundError):
        load_params(tmp_path / f"absent.{ending}")


def test_values_that_cannot_be_parameters_are_refused(tmp_path):
    """Before anything is written, or taken over."""
    path = tmp_path / "params.npz"
    with pytest.raises(ParameterStructureError, match="parameter 'W'"):
        save_params(path, {"W": np.array(["a"])})
    assert not path.exists()
    np.savez(path, W=np.array([1.0, np.nan]))
    with pytest.raises(ParameterStructureError, match="params.npz has values that are not finite in parameter 'W'"):
        load_params(path, like={"W": np.ones(2)})
    np.savez(path, W=np.array(["a"]))
    with pytest.raises(
        ParameterStructureError, match="params.npz has dtype <U1 in parameter 'W'; real floats are needed"
    ):
        load_params(path)
    np.savez(path, W=np.array([print, None]))
    with pytest.raises(ValueError, match="is not a .npz file of plain arrays"):
        load_params(path)


NAMES = [
    "__metadata__",
    "x\0y",
    "\0",
    "\ud800",
    "",
    " ",
    "x\n",
    "x.npy",
    "x.npy.npy",
    "/etc/x",
    "../x",
    "a/",
    "a\\b",
    "c:\\x",
    "\u202e",
    "é",
    "日" * 30_000,
    *("a" * n for n in (65_531, 65_532, 70_000)),
]


def outcome(function, *arguments):
    """The error of a call in words, or nothing."""
    try:
        function(*arguments)
    except Exception as error:  # whatever it is, a test says what it must be
        return f"{type(error).__name__}: {error}"
    return ""


@every_format
@pytest.mark.parametrize("beside", [(), ("x", "A")], ids=["alone", "beside others"])
def test_a_name_is_refused_or_read_back(ending, beside, tmp_path):
    """Whatever it is, alone and beside others: no block takes the place of another, and a refusal leaves no file."""
    path = tmp_path / f"params.{ending}"
    refused = set()
    for name in NAMES:
        params = {key: np.full(2, float(value)) for value, key in enumerate([name, *beside])}
        message = outcome(save_params, path, params)
        if message:
            refused.add(name)
            assert re.match(rf"ParameterStructureError: Parameter .* cannot be saved in a \.{ending} file: ", message)
            assert len(message) < 300
            assert os.listdir(tmp_path) == []
            continue
        loaded, found = load_params(path, like=params), load_params(path)
        for key, value in params.items():
            assert_array_equal(loaded[key], value)
        assert set(found) == {key or "params" for key in params}
        path.unlink()
    long = {name for name in NAMES if len(name.encode(errors="replace")) > 65_531}
    if ending == "npz":
        assert refused == {"x\0y", "\0", "\ud800", *long, *(["x.npy"] if beside else [])}
    else:
        assert refused == {"__metadata__", "\ud800"}


def test_dtypes_that_safetensors_lacks_are_refused(tmp_path):
    """By the name of the block, with the format that has them."""
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long double is double")
    params = {"W": np.ones(2, np.longdouble)}
    with pytest.raises(
        ParameterStructureError, match=r"Parameter 'W' cannot be saved .*does not support dtype .* ends in \.npz\.$"
    ):
        save_params(tmp_path / "a.safetensors", params)
    save_params(tmp_path / "a.npz", params)
    assert load_params(tmp_path / "a.npz")["W"].dtype == np.longdouble


def damages(whole):
    """What may become of a file: cut, flipped, overwritten, with bytes too many or too few, and mere noise."""
    n, noise = len(whole), np.random.default_rng(0)
    yield from (whole[:i] for i in range(n))
    yield from (whole[:i] + bytes([whole[i] ^ bits]) + whole[i + 1 :] for i in range(n) for bits in (1, 0xFF))
    for i in range(0, n, 13):
        for length in (2, 64):
            part = len(whole[i : i + length])
            for filled in (bytes(part), b"\xff" * part, b"", noise.bytes(part), noise.bytes(part + length)):
                yield whole[:i] + filled + whole[i + part :]
    yield from (noise.bytes(int(length)) for length in noise.integers(1, 400, 100))


@every_format
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_every_damage_is_a_value_error_that_names_the_file(ending, tmp_path):
    """Or nothing that matters; only the numbers of a safetensors file, which has no checksum, may change unseen."""
    params = {"W": np.arange(4.0).reshape(2, 2), "b.c": 0.5}
    path = tmp_path / f"params.{ending}"
    save_params(path, params)
    good, found = load_params(path), 0
    for damaged in damages(path.read_bytes()):
        path.write_bytes(damaged)
        message = outcome(load_params, path)
        if message:
            assert message.startswith("ValueError: "), damaged
            assert str(path) in message, damaged
            found += 1
        elif ending == "npz":
            loaded = load_params(path)
            assert loaded.keys() == good.keys(), damaged
            for name, block in good.items():
                assert_array_equal(loaded[name], block, strict=True)
    assert found > 400


def test_an_npz_of_others_is_read_whole_or_refused(tmp_path):
    """Compressed members are read; members that are no arrays, or there twice, are not passed over."""
    path = tmp_path / "params.npz"
    np.savez_compressed(path, W=np.arange(3.0), n=np.arange(2.0))
    assert {name: array.tolist() for name, array in load_params(path).items()} == {
        "W": [0.0, 1.0, 2.0],
        "n": [0.0, 1.0],
    }
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme", "text")
    with pytest.raises(ValueError, match=r"params\.npz is not a \.npz file .*'readme' is not an array"):
        load_params(path)
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ones(1))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W.npy", content.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("W.npy", content.getvalue())
    with pytest.raises(ValueError, match=r"'W\.npy' is not an array, or occurs twice"):
        load_params(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(ValueError, match=r"params\.npz .*has no arrays"):
        load_params(path)


@pytest.mark.parametrize("path", ["params", "params.pt", "params.npz.gz", Path("params.npy")], ids=str)
def test_only_known_formats_are_written(path):
    """The message has those that are known."""
    with pytest.raises(ValueError, match=r"path must end in .npz or .safetensors"):
        save_params(path, 1.0)
    with pytest.raises(ValueError, match=r"path must end in .npz or .safetensors"):
        load_params(path)


def test_a_place_where_no_file_can_stand_is_named(tmp_path):
    """A folder that is missing, a folder in the place of the file, arguments that were swapped."""
    with pytest.raises(
        FileNotFoundError, match=r"nowhere.a\.npz cannot be written: the folder .*nowhere does not exist\.$"
    ):
        save_params(tmp_path / "nowhere" / "a.npz", 1.0)
    (tmp_path / "b.npz").mkdir()
    with pytest.raises(IsADirectoryError, match=r"b\.npz cannot be written: it is a folder"):
        save_params(tmp_path / "b.npz", 1.0)
    with pytest.raises(
        TypeError, match=r"path must be a str .* of type dict. It is the first argument: save_params\(path, par"
    ):
        save_params({"W": 1.0}, "a.npz")


def test_without_safetensors_the_message_names_the_extra(tmp_path, monkeypatch):
    """And the format that needs nothing; no file is left behind."""
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        save_params(tmp_path / "params.safetensors", 1.0)
    assert not os.listdir(tmp_path)


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path, monkeypatch):
    """What fails half way leaves the old one as it was, and nothing beside it."""
    path = tmp_path / "params.npz"
    save_params(path, (1.0, 2.0))
    write = np.lib.format.write_array

    def write_one(file, array, **kwargs):
        if array == 4:
            raise OSError("No space left on device")
        write(file, array, **kwargs)

    monkeypatch.setattr(np.lib.format, "write_array", write_one)
    with pytest.raises(OSError, match="No space left"):
        save_params(path, (3.0, 4.0))
    assert load_params(path, like=(0.0, 0.0)) == (1.0, 2.0)
    assert os.listdir(tmp_path) == ["params.npz"]


@pytest.mark.skipif(os.name == "nt", reason="permissions and links as POSIX has them")
class TestReplacedFiles:
    """What stays of a file that is replaced, and what does not stay of writes that were killed."""

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
    def test_permissions_are_kept(self, mode, tmp_path):
        """Also while it is written: a private file is never readable for others."""
        path = tmp_path / "params.npz"
        save_params(path, 1.0)
        path.chmod(mode)
        with replacing(path) as unfinished:
            assert not stat.S_IMODE(unfinished.stat().st_mode) & ~(mode | 0o200)
            unfinished.write_bytes(b"new")
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_link_stays_a_link(self, exists, tmp_path):
        """The file behind it is replaced, or created."""
        (tmp_path / "disk").mkdir()
        target, link = tmp_path / "disk" / "real.npz", tmp_path / "params.npz"
        link.symlink_to(target)
        if exists:
            save_params(target, 1.0)
        save_params(link, 2.0)
        assert link.is_symlink()
        assert load_params(target, like=0.0) == 2.0
        assert os.listdir(tmp_path / "disk") == ["real.npz"]

    def test_what_is_no_file_is_not_replaced(self, tmp_path):
        """A pipe, or a device such as /dev/null."""
        os.mkfifo(tmp_path / "params.npz")
        with pytest.raises(OSError, match=r"params\.npz cannot be written: it is a device or a pipe"):
            save_params(tmp_path / "params.npz", 1.0)

    def test_what_a_killed_write_left_is_removed_by_the_next(self, tmp_path):
        """Not what another write has not yet finished, nor files of other names."""
        path = tmp_path / "params.npz"
        script = (
            "import os, signal, sys; from sk_analytic.persistence import replacing\n"
            "with replacing(sys.argv[1]) as unfinished:\n"
            "    unfinished.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
        )
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        killed = subprocess.run([sys.executable, "-c", script, path], env=environment, check=False)
        assert killed.returncode == -signal.SIGKILL
        [left] = os.listdir(tmp_path)
        others = [f".params.npz-{'0' * 31}", f".other.npz-{'0' * 32}", ".params.npz-backup"]
        for name in others:
            (tmp_path / name).touch()
        with replacing(path) as unfinished:
            assert sorted(os.listdir(tmp_path)) == sorted([*others, unfinished.name])
            unfinished.write_bytes(b"first")
            with replacing(path) as second:
                assert unfinished.exists()
                second.write_bytes(b"second")
        assert path.read_bytes() == b"first"
        assert sorted(os.listdir(tmp_path)) == sorted([*others, path.name])
        assert re.fullmatch(r"\.params\.npz-[0-9a-f]{32}", left)
