"""Ctrl-C: what it ends, and what it leaves."""

import contextlib
import importlib.util
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import AdaBoostRegressor, BaggingRegressor, StackingRegressor, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, SequentialFeatureSelector
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

import sk_analytic
from sk_analytic import AnalyticRegressor, AnalyticTransformer, callers
from sk_analytic.callbacks import Checkpoint, GradientMonitor
from sk_analytic.plotting import OptimizerPathDisplay
from sk_analytic.search import find_learning_rate, fit_from_starts

HAS_CALLBACKS = importlib.util.find_spec("sklearn.callback") is not None

# Most fits here are cut short on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.skipif(os.name == "nt", reason="signals are raised as POSIX does it"),
]

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=60)


class Calls:
    """Counts the calls of the model below, and interrupts one."""

    n, at, then = 0, None, None

    def begin(self, at, then=None):
        self.n, self.at, self.then = 0, at, then

    def count(self):
        self.n += 1
        if self.n == self.at:
            if self.then is not None:
                self.then()
            signal.raise_signal(signal.SIGINT)


CALLS = Calls()


@pytest.fixture(autouse=True)
def handler():
    """Ctrl-C as it is in a program, and that it is so again in the end."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread may set handlers")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    left = signal.signal(signal.SIGINT, before)
    CALLS.begin(None)
    assert left is signal.default_int_handler


def forward(params, X):
    return X @ params["coef"] + params["b"]


def loss_and_gradient(params, X, y):
    CALLS.count()
    residual = forward(params, X) - y
    return float(residual @ residual) / 2 / len(X), {"coef": X.T @ residual / len(X), "b": residual.mean()}


def init(n_features):
    return {"coef": np.zeros(n_features), "b": 0.0}


def make(**settings):
    fixed = {"forward": forward, "loss_and_gradient": loss_and_gradient, "init": init, "check_gradient": False}
    return AnalyticRegressor(**fixed | {"max_iter": 4, "batch_size": 20, "random_state": 0, "tol": 0.0} | settings)


def coefficients(model):
    return model.params_["coef"]


TWO = np.column_stack([Y, -Y])
OWN = {
    "alone": lambda: make().fit(X, Y),
    "in chunks": lambda: make().fit_chunks([(X[:30], Y[:30]), (X[30:], Y[30:])]),
    "the last step": lambda: make_pipeline(StandardScaler(), make()).fit(X, Y),
    "transformed target": lambda: TransformedTargetRegressor(make(), func=np.sinh, inverse_func=np.arcsinh).fit(X, Y),
}
ANOTHERS = {
    "grid": lambda: GridSearchCV(make(), {"alpha": [0.0, 1.0]}, cv=2).fit(X, Y),
    "grid of pipelines": lambda: GridSearchCV(make_pipeline(StandardScaler(), make()), {}, cv=2).fit(X, Y),
    "pipeline of a grid": lambda: make_pipeline(StandardScaler(), GridSearchCV(make(), {}, cv=2)).fit(X, Y),
    "halving": lambda: HalvingGridSearchCV(make(), {"alpha": [0.0, 1.0]}, cv=2, random_state=0).fit(X, Y),
    "cross_val_score": lambda: cross_val_score(make(), X, Y),
    "cross_val_predict": lambda: cross_val_predict(make(), X, Y),
    "cross_validate": lambda: cross_validate(make_pipeline(StandardScaler(), make()), X, Y),
    "learning_curve": lambda: learning_curve(make(), X, Y, cv=2),
    "bagging": lambda: BaggingRegressor(make_pipeline(StandardScaler(), make()), n_estimators=2).fit(X, Y),
    "boosting": lambda: AdaBoostRegressor(make()).fit(X, Y),
    "stacking": lambda: StackingRegressor([("a", make()), ("b", make())]).fit(X, Y),
    "voting": lambda: VotingRegressor([("a", make()), ("b", make())]).fit(X, Y),
    "outputs": lambda: MultiOutputRegressor(make()).fit(X, TWO),
    "chain": lambda: RegressorChain(make()).fit(X, TWO),
    "elimination": lambda: RFE(make(), importance_getter=coefficients).fit(X, Y),
    "selection": lambda: SequentialFeatureSelector(make(), cv=2).fit(X, Y),
    "joblib": lambda: joblib.Parallel(1)(joblib.delayed(make().fit)(X, Y) for _ in range(2)),
    "an earlier step": lambda: make_pipeline(transformer(), make()).fit(X, Y),
    "union": lambda: make_union(transformer(), transformer()).fit(X, Y),
    "a plot": lambda: OptimizerPathDisplay.from_estimator(make(), X, Y, params=("coef[0]", "coef[1]")),
    "a sweep": lambda: find_learning_rate(make(), X, Y),
    "several starts": lambda: fit_from_starts(make(), X, Y, 3),
}


def transformer():
    def transform(params, X):
        return X * params["scale"]

    def gradient(params, X):
        CALLS.count()
        return {"scale": params["scale"] - 2.0}

    return AnalyticTransformer(transform, gradient, {"scale": np.ones(3)}, loss=None, max_iter=3, check_gradient=False)


@pytest.mark.parametrize("fit", OWN.values(), ids=OWN)
def test_one_interrupt_ends_a_fit_that_the_user_started(fit):
    """With a warning; what was fitted predicts, and so does what is around it."""
    CALLS.begin(5)
    with pytest.warns(UserWarning, match="interrupted; the estimator keeps the parameters of its last update"):
        fitted = fit()
    assert CALLS.n == 5
    assert np.isfinite(fitted.predict(X)).all()


@pytest.mark.parametrize("fit", ANOTHERS.values(), ids=ANOTHERS)
def test_an_interrupt_goes_on_where_many_are_fitted(fit):
    """No other fit begins, and nothing is scored that was cut short."""
    CALLS.begin(2)
    with pytest.raises(KeyboardInterrupt):
        fit()
    assert CALLS.n == 2


def test_an_interrupt_goes_on_in_the_refit_of_a_search():
    """Its best estimator is not half trained."""
    CALLS.begin(None)
    search = GridSearchCV(make(), {}, cv=2)
    search.fit(X, Y)
    CALLS.begin(CALLS.n)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)


def test_in_a_loop_of_the_users_each_interrupt_ends_a_fit():
    """And the loop by the first one, if the warning is an error."""
    fitted = []
    for _ in range(3):
        CALLS.begin(5)
        with pytest.warns(UserWarning, match="Training was interrupted"):
            fitted.append(make().fit(X, Y))
    for model in fitted[1:]:
        assert_array_equal(model.predict(X), fitted[0].predict(X))
    CALLS.begin(5)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Training was interrupted")
        with pytest.raises(UserWarning, match="Training was interrupted"):
            list(map(make().fit, [X] * 3, [Y] * 3))
    assert CALLS.n == 5


def test_partial_fit_is_interrupted_with_its_loop():
    """It goes on; the estimator is whole, and further steps can be taken."""
    model = make().partial_fit(X, Y)
    CALLS.begin(2)
    with pytest.raises(KeyboardInterrupt):
        list(map(model.partial_fit, [X] * 10, [Y] * 10))
    assert (model.n_iter_, model.n_steps_, len(model.loss_curve_)) == (1, 4, 1)
    assert model.partial_fit(X, Y).n_iter_ == 2


def test_a_worker_is_interrupted_whole():
    """An interrupt in another thread or process is not the user's own."""
    found = [callers.is_users_own()]
    thread = threading.Thread(target=lambda: found.append(callers.is_users_own()))
    thread.start()
    thread.join()
    found.extend(joblib.Parallel(2)(joblib.delayed(callers.is_users_own)() for _ in range(2)))
    assert found == [True, False, False, False]


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_search_in_workers_ends_at_once(backend, tmp_path):
    """Ctrl-C reaches all processes of a terminal; the program gets KeyboardInterrupt."""
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "def forward(params, X):\n"
        "    return X @ params\n"
        "def gradient(params, X, y):\n"
        "    time.sleep(0.05)\n"
        "    return X.T @ (X @ params - y) / len(X)\n"
    )
    script = f"""
import numpy as np, slow, joblib
from sklearn.model_selection import GridSearchCV
from sk_analytic import AnalyticRegressor
X = np.random.default_rng(0).normal(size=(60, 3))
model = AnalyticRegressor(slow.forward, slow.gradient, np.zeros(3), check_gradient=False, max_iter=10_000)
print("begins", flush=True)
try:
    with joblib.parallel_backend({backend!r}):
        GridSearchCV(model, {{"alpha": list(range(20))}}, cv=2, n_jobs=2).fit(X, X[:, 0])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    path = os.pathsep.join([str(tmp_path), str(Path(sk_analytic.__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        assert process.stdout.readline() == "begins\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert out == "interrupted\n"


# At any line.

PACKAGE = str(Path(sk_analytic.__file__).parent)
ATTRIBUTES = {"_callback_fit_ctx", "_skl_callbacks_to_teardown", "_tasks", "_member", "_parent_callback_ctx"}
FITS = {
    "adam": ({}, True),
    "early stopping": ({"early_stopping": True}, False),
    "averages": ({"optimizer": "schedule_free_adamw"}, False),
    "lbfgs": ({"optimizer": "lbfgs", "batch_size": "auto"}, True),
}


class Lines:
    """Raises SIGINT at one line of the package, counted from where tracing begins."""

    def __init__(self, at=None):
        self.at, self.n, self.is_on, self.seen = at, 0, False, []

    def __call__(self, frame, event, arg):
        return self.line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def line(self, frame, event, arg):
        if event == "line" and self.is_on:
            self.n += 1
            self.seen.append((frame.f_code.co_filename, frame.f_lineno))
            if self.n == self.at:
                signal.raise_signal(signal.SIGINT)
        return self.line

    def begin(self):
        self.is_on = True


def fit_in(folder, settings, watched, lines, first=None):
    """Fit while lines are traced; return the estimator and whether KeyboardInterrupt came out."""
    model = make(**{"max_iter": 2, "batch_size": 30} | settings)
    if watched and HAS_CALLBACKS:
        model.set_callbacks(Checkpoint(folder / "model.pkl"), GradientMonitor())
    CALLS.begin(first, lines.begin)
    if first is None:
        lines.begin()
    before = sys.gettrace()
    sys.settrace(lines)
    interrupted = False
    with warnings.catch_warnings():
        # Also of a file that goes unclosed: only a tracer can interrupt where a `with` has ended but not yet closed it.
        warnings.simplefilter("ignore")
        try:
            model.fit(X, Y)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.settrace(before)
    return model, interrupted


def assert_whole(model, where):
    """A fit that was broken off has left all of its attributes, or none."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, where
    assert not ATTRIBUTES & set(vars(model)), where
    if not hasattr(model, "params_"):
        assert not [name for name in vars(model) if name.endswith("_")], where
        return
    epochs = len(model.gradient_norm_curve_)
    assert model.n_iter_ == max(1, epochs), where
    assert epochs == len(model.loss_curve_), where
    assert len(model.validation_scores_ or []) == (epochs if model.early_stopping else 0), where
    assert model.loss_ == (model.loss_curve_[-1] if epochs else None), where
    assert model.optimizer_state_ is None or model.optimizer_state_.step == model.n_steps_, where
    assert model.params_["coef"].flags.writeable, where
    assert np.isfinite(model.predict(X)).all(), where
    copied = pickle.loads(pickle.dumps(model.set_callbacks() if HAS_CALLBACKS else model))
    CALLS.begin(None)
    assert copied.set_params(warm_start=True, max_iter=1).fit(X, Y).n_iter_ > epochs, where


def lines_to_try(lines, every=1):
    """The first and the last time that each line was reached."""
    first, last = {}, {}
    for number, line in enumerate(lines.seen, 1):
        first.setdefault(line, number)
        last[line] = number
    return sorted({*first.values(), *last.values()})[::every]


@pytest.mark.parametrize(("settings", "watched"), FITS.values(), ids=FITS)
def test_an_interrupt_at_any_line_leaves_all_or_nothing(settings, watched, tmp_path):
    """In a fit from its beginning to its end: the attributes agree, and training can go on."""
    lines = Lines()
    fit_in(tmp_path, settings, watched, lines)
    for at in lines_to_try(lines, every=23):
        lines = Lines(at)
        model, _ = fit_in(tmp_path, settings, watched, lines)
        assert_whole(model, lines.seen[-1])


@pytest.mark.parametrize(("settings", "watched"), FITS.values(), ids=FITS)
def test_a_second_interrupt_at_any_line_goes_on_and_leaves_a_whole_estimator(settings, watched, tmp_path):
    """Once training is interrupted, nothing of the tidying is left out."""
    for at in itertools.count(1, 7):
        lines = Lines(at)
        model, interrupted = fit_in(tmp_path, settings, watched, lines, first=3)
        if lines.n < at:
            break
        if at > 10:  # before, the first one may still be on its way
            assert interrupted, lines.seen[-1]
        assert hasattr(model, "params_"), lines.seen[-1]
        assert_whole(model, lines.seen[-1])
    assert at > 100


@pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn has callbacks from 1.9 on")
def test_a_hook_that_hangs_at_the_end_can_be_interrupted():
    """A second interrupt is not held back in code of the user's, and the estimator is whole by then."""

    class Hanging:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "fit":
                while True:
                    signal.raise_signal(signal.SIGINT)

    CALLS.begin(5)
    model = make().set_callbacks(Hanging())
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert_whole(model, "the end of the fit")


def test_an_interrupt_that_a_callable_swallows_does_not_make_the_fit_deaf():
    """The next one ends the fit."""
    calls = []

    def swallowing(params, X, y):
        calls.append(None)
        if len(calls) in (3, 8):
            with contextlib.suppress(KeyboardInterrupt if len(calls) == 3 else ()):
                signal.raise_signal(signal.SIGINT)
        return loss_and_gradient(params, X, y)

    with pytest.warns(UserWarning, match="Training was interrupted"):
        make(loss_and_gradient=swallowing).fit(X, Y)
    assert len(calls) == 8


def test_a_fit_in_the_handler_of_an_interrupt_can_be_interrupted():
    """The interrupt that is being handled around the fit is not one of the fit."""
    CALLS.begin(5)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.warns(UserWarning, match="Training was interrupted"):
            make().fit(X, Y)
    assert CALLS.n == 5
