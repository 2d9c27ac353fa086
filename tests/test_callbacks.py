"""Callbacks: how estimators tell them of a fit, those of scikit-learn, and ours."""

import copy
import functools
import importlib.util
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
from models import USER_MODELS, linear_forward, linear_gradient, linear_init, linear_squared_error
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import BaggingRegressor, VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    DivergenceError,
    get_optimizer,
    get_optimizer_names,
)
from sk_analytic.callback_support import WithoutCallbacks
from sk_analytic.callbacks import Checkpoint, GradientMonitor, LearningRateLog
from sk_analytic.optimizers import SGD, Adam, Exponential, PerBlock, Phases, ReduceOnPlateau, Step
from sk_analytic.optimizers.scipy_methods import FullBatch
from sk_analytic.parameters import Layout
from sk_analytic.training.progress import CURVES

HAS_CALLBACKS = importlib.util.find_spec("sklearn.callback") is not None
needs_callbacks = pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn has callbacks from 1.9 on")
if HAS_CALLBACKS:
    from sklearn.callback import FitCallback, ProgressBar, ScoringMonitor

# Most fits here are cut short on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=60)
LABELS = np.where(Y > 0, "yes", "no")
TARGETS = {AnalyticRegressor: Y, AnalyticClassifier: LABELS, AnalyticDensity: None, AnalyticTransformer: None}
OUTPUT = {
    AnalyticRegressor: "predict",
    AnalyticClassifier: "predict_proba",
    AnalyticDensity: "score_samples",
    AnalyticTransformer: "transform",
}
PHASES = Phases([(Adam(0.1), 3), ("lbfgs", 4), (SGD(0.01), 2)])
FULL_BATCH = [name for name in get_optimizer_names() if isinstance(get_optimizer(name), FullBatch)]
AVERAGED = "schedule_free_adamw"
every_estimator = pytest.mark.parametrize("cls", TARGETS)


def make(cls=AnalyticRegressor, **settings):
    return cls(**{"optimizer": "adam", "max_iter": 4, "batch_size": 20, "random_state": 0} | settings)


def output(estimator, rows=X):
    return getattr(estimator, OUTPUT[type(estimator)])(rows)


def blocks(params):
    """Blocks of a parameter structure by name, as copies."""
    layout = Layout.of(params)
    return {n: np.array(leaf) for n, leaf in zip(layout.names, layout.leaves(params), strict=True)}


class Recorder:
    """Record every hook with what it receives; stop after some epoch, or call a function of estimator and context."""

    def __init__(self, stop_after=None, look=None):
        self.calls, self.stop_after, self.look = [], stop_after, look

    def setup(self, estimator, context):
        self.calls.append(("setup", context, {}))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", context, {}))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.calls.append(("begin", context, {"X": X, "y": y, "metadata": metadata, "fitted": fitted_estimator}))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.calls.append(("end", context, {"X": X, "y": y, "metadata": metadata, "fitted": fitted_estimator}))
        if self.look is not None:
            self.look(estimator, context)
        return context.max_subtasks == 0 and context.task_id + 1 == self.stop_after

    def names(self):
        """Hooks in their order, each with the name of its task."""
        return [f"{hook} {context.task_name}" for hook, context, _ in self.calls]

    def received(self, hook="end", task="epoch"):
        return [values for name, context, values in self.calls if (name, context.task_name) == (hook, task)]


class Minimal:
    """A callback whose hooks ask for nothing."""

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...
    def on_fit_task_end(self, estimator, context): ...


class Looking(Minimal):
    """Collect what a function of the estimator returns at the end of each epoch."""

    def __init__(self, function):
        self.function, self.found = function, []

    def on_fit_task_end(self, estimator, context):
        if context.max_subtasks == 0:
            self.found.append(self.function(estimator))


# Without them.


def test_below_their_version_setting_one_is_an_error_that_names_it():
    """The stand-in for scikit-learn's mixin refuses, and points at what works everywhere."""
    with pytest.raises(NotImplementedError, match=r"Callbacks require scikit-learn 1\.9 or newer; this is .*verbose=1"):
        WithoutCallbacks().set_callbacks(object())


@pytest.mark.skipif(HAS_CALLBACKS, reason="there are callbacks")
@pytest.mark.parametrize("kind", [LearningRateLog, GradientMonitor, lambda: Checkpoint("model.pkl")])
def test_ours_are_refused_likewise(kind):
    """Making one says which version it needs; so does setting any."""
    with pytest.raises(NotImplementedError, match=r"require scikit-learn 1\.9 or newer"):
        kind()
    with pytest.raises(NotImplementedError, match=r"require scikit-learn 1\.9 or newer"):
        AnalyticRegressor().set_callbacks(object())


@needs_callbacks
@every_estimator
def test_no_context_is_made_where_no_callback_is_set(cls, monkeypatch):
    """A fit without callbacks does nothing for them; nor does partial_fit, whatever is set."""

    def unexpected(*args, **settings):
        raise AssertionError("a context was made")

    monkeypatch.setattr(cls, "_init_callback_context", unexpected)
    make(cls).fit(X, TARGETS[cls])
    watched = make(cls).set_callbacks(Minimal())
    watched.partial_fit(X, TARGETS[cls], **({"classes": ["no", "yes"]} if cls is AnalyticClassifier else {}))
    with pytest.raises(AssertionError, match="a context was made"):
        watched.fit(X, TARGETS[cls])


# The protocol.


@needs_callbacks
@every_estimator
@pytest.mark.parametrize(
    ("optimizer", "expected", "most"),
    [("adam", "e{4}", 4), ("lbfgs", "i{1,4}", 5), (PHASES, "e{3}i{1,4}e{2}", 10)],
    ids=["adam", "lbfgs", "phases"],
)
def test_hooks_come_in_their_order_and_know_their_task(cls, optimizer, expected, most):
    """One task for the fit, one below it for each epoch or iteration, whatever the phase; each begins and ends."""
    recorder = Recorder()
    settings = {"tol": 0.0, "n_iter_no_change": 100, "optimizer": optimizer}
    model = make(cls, **settings).set_callbacks(recorder).fit(X, TARGETS[cls])
    names = recorder.names()
    assert (names[:2], names[-2:]) == (["setup fit", "begin fit"], ["end fit", "teardown fit"])
    tasks = [name.removeprefix("end ") for name in names[3:-2:2]]
    assert names[2:-2] == [f"{hook} {task}" for task in tasks for hook in ("begin", "end")]
    assert re.fullmatch(expected, "".join(task[0] for task in tasks))
    assert model.n_iter_ == len(tasks)
    root = recorder.calls[0][1]
    assert (root.parent, root.max_subtasks, root.estimator_name) == (None, most, cls.__name__)
    epochs = [context for hook, context, _ in recorder.calls if hook == "end"][:-1]
    assert [(c.task_id, c.parent, c.max_subtasks) for c in epochs] == [(i, root, 0) for i in range(len(tasks))]
    assert not {"_tasks", "_callback_fit_ctx", "_parent_callback_ctx"} & set(vars(model))


@needs_callbacks
@pytest.mark.parametrize("optimizer", FULL_BATCH)
def test_every_begun_task_ends_with_full_batch_methods_too(optimizer):
    """Also where a method converges, stops at max_iter, or ends in a line search that fails."""
    model = USER_MODELS[AnalyticRegressor]["jacobian"]
    for max_iter, tol in ((1, 1e-8), (3, 1e-8), (30, 1e-6), (30, 1e-9)):
        recorder = Recorder()
        fitted = make(optimizer=optimizer, max_iter=max_iter, tol=tol, batch_size="auto", **model)
        fitted.set_callbacks(recorder).fit(X, Y)
        names = recorder.names()[1:-1]
        assert (names[0], names[-1]) == ("begin fit", "end fit")
        n = len(names) // 2 - 1
        assert n <= recorder.calls[0][1].max_subtasks
        assert names[1:-1] == ["begin iteration", "end iteration"] * n
        assert fitted.n_iter_ <= n <= fitted.n_iter_ + 1


@needs_callbacks
def test_hooks_receive_the_rows_that_are_trained_on_as_the_user_gave_them():
    """Frames stay frames and labels labels; what early stopping holds out is not among them."""
    frame, weight = pd.DataFrame(X, columns=["a", "b", "c"]), np.linspace(0.5, 1.5, 60)
    recorder = Recorder()
    model = make(AnalyticClassifier).set_callbacks(recorder).fit(frame, LABELS, sample_weight=weight)
    for _, _, values in recorder.calls[1:-1]:
        assert values["X"] is frame
        assert values["y"] is LABELS
        assert values["metadata"] == {"sample_weight": weight}
    assert recorder.received()[0]["fitted"].predict(frame)[0] in ("yes", "no")

    recorder = Recorder()
    model.set_params(early_stopping=True).set_callbacks(recorder).fit(frame, LABELS, sample_weight=weight)
    [*_, values] = recorder.received()
    assert type(values["X"]) is pd.DataFrame
    assert len(values["X"]) == len(values["y"]) == len(values["metadata"]["sample_weight"]) == 54
    rows = values["X"].index
    assert_array_equal(values["y"], LABELS[rows])
    assert_array_equal(values["metadata"]["sample_weight"], weight[rows])
    held_out = np.setdiff1d(np.arange(60), rows)
    last = recorder.received()[0]["fitted"]
    score = last.score(frame.iloc[held_out], LABELS[held_out], weight[held_out])
    assert last.validation_scores_ == [pytest.approx(score, rel=1e-12)]

    recorder = Recorder()
    make(AnalyticDensity).set_callbacks(recorder).fit(X, Y)
    assert (recorder.received()[0]["y"], recorder.received()[0]["metadata"]) == (None, None)


@needs_callbacks
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": AVERAGED},
        {"optimizer": "lbfgs"},
        {"early_stopping": True, "optimizer": SGD(0.5), "batch_size": 10, "max_iter": 12, "n_iter_no_change": 100},
    ],
    ids=["adam", "averages", "lbfgs", "early stopping"],
)
@every_estimator
def test_the_fitted_estimator_is_as_if_the_fit_had_ended_there(cls, settings):
    """It predicts, and has the public attributes, of a fit of so many epochs; what comes later does not change it."""
    recorder = Recorder()
    settings = {"tol": 1e-9} | settings
    model = make(cls, **settings).set_callbacks(recorder).fit(X, TARGETS[cls])
    task = "iteration" if "lbfgs" in settings.values() else "epoch"
    snapshots = [values["fitted"] for values in recorder.received(task=task)]
    assert len(snapshots) == model.n_iter_
    for n, snapshot in enumerate(snapshots, 1):
        ended = make(cls, **settings).set_params(max_iter=n).fit(X, TARGETS[cls])
        assert_array_equal(output(snapshot), output(ended))
        for name in ("loss_curve_", "validation_scores_", "gradient_norm_curve_", "n_iter_", "n_steps_", "loss_"):
            assert getattr(snapshot, name) == getattr(ended, name), name
    begun = recorder.received("begin", "fit")[0]["fitted"]
    assert (begun.n_iter_, begun.loss_curve_) == (0, [])
    [last] = recorder.received(task="fit")
    assert_array_equal(output(last["fitted"]), output(model))


@needs_callbacks
def test_the_snapshot_is_made_only_if_asked_for_and_shares_nothing(monkeypatch):
    """Slots of the optimizer are copied too and cannot be written to; training the snapshot leaves the fit as it is."""
    plain = make().fit(X, Y)
    monkeypatch.setattr(AnalyticRegressor, "_snapshot", None)
    log, monitor = LearningRateLog(), GradientMonitor()
    make().set_callbacks(Minimal(), log, monitor).fit(X, Y)
    monkeypatch.undo()

    def look(estimator, context):
        if context.max_subtasks == 0:
            fitted = recorder.calls[-1][2]["fitted"]
            assert not np.shares_memory(fitted.params_["coef"], estimator.params_["coef"])
            for ours, theirs in zip(fitted.optimizer_state_.links, estimator.optimizer_state_.links, strict=True):
                assert ours.slots
                for name in ours.slots:
                    assert not np.shares_memory(ours.slots[name], theirs.slots[name])
                    assert not ours.slots[name].flags.writeable
            assert fitted.optimizer_ is estimator.optimizer_
            fitted.params_["coef"][...] = 7.0
            fitted.partial_fit(X, Y)
            assert (fitted.n_iter_, len(fitted.loss_curve_)) == (estimator.n_iter_ + 1, estimator.n_iter_ + 1)

    recorder = Recorder(look=look)
    watched = make().set_callbacks(recorder).fit(X, Y)
    assert_array_equal(watched.predict(X), plain.predict(X))
    assert watched.loss_curve_ == plain.loss_curve_


@needs_callbacks
def test_public_attributes_are_there_in_each_epoch():
    """They say how far training has come; parameters are read-only, without a copy, and nothing stays of them."""
    found = []

    def look(estimator):
        assert not estimator.params_["coef"].flags.writeable
        found.append((estimator.params_["coef"].copy(), float(estimator.params_["intercept"])))
        return estimator.n_iter_, len(estimator.loss_curve_), estimator.n_steps_, estimator.optimizer_state_.step

    watcher = Looking(look)
    model = make().set_callbacks(watcher).fit(X, Y)
    assert watcher.found == [(n, n, 3 * n, 3 * n) for n in (1, 2, 3, 4)]
    assert_array_equal(found[-1][0], model.params_["coef"])
    assert type(model.params_["intercept"]) is float
    model.params_["coef"][...] = 0.0
    with pytest.raises(AttributeError, match="gradient_ is available only to callbacks, during a fit"):
        _ = model.gradient_


@needs_callbacks
@every_estimator
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", PHASES], ids=["adam", "lbfgs", "phases"])
@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_a_callback_that_asks_to_stop_is_obeyed(cls, optimizer):
    """At the end of that epoch, in the midst of phases too, without a warning and with both hooks of the fit."""
    recorder = Recorder(stop_after=2)
    settings = {"optimizer": optimizer, "tol": 0.0, "max_iter": 100, "n_iter_no_change": 100}
    model = make(cls, **settings).set_callbacks(recorder, Minimal()).fit(X, TARGETS[cls])
    assert model.n_iter_ == len(model.loss_curve_) == 2
    assert recorder.names()[-2:] == ["end fit", "teardown fit"]
    assert np.isfinite(output(model)).all()


@needs_callbacks
def test_callbacks_are_torn_down_however_a_fit_ends():
    """After a divergence, an error in a callback, which has a note of the epoch, and an interrupt."""

    def diverging(params, X, y):
        loss, gradient = linear_squared_error(params, X, y)
        if abs(params["W"]).sum() > 0.05:
            gradient["W"][0] = np.nan
        return loss, gradient

    user = {"forward": linear_forward, "init": linear_init, "loss_and_gradient": diverging, "check_gradient": False}
    recorder = Recorder()
    model = make(**user).set_callbacks(recorder)
    with pytest.raises(DivergenceError, match="not finite in epoch"):
        model.fit(X, Y)
    assert recorder.names()[-1] == "teardown fit"
    assert "end fit" not in recorder.names()

    def failing(error):
        def look(estimator, context):
            if context.task_id == 1:
                raise error

        return look

    recorder = Recorder(look=failing(RuntimeError("mine")))
    model = make().set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="mine") as raised:
        model.fit(X, Y)
    assert "After epoch 1 (counted from 0)." in raised.value.__notes__
    assert (recorder.names()[-1], model.n_iter_) == ("teardown fit", 2)
    assert np.isfinite(model.predict(X)).all()

    recorder = Recorder(look=failing(KeyboardInterrupt))
    with pytest.warns(UserWarning, match="interrupted"):
        make().set_callbacks(recorder).fit(X, Y)
    assert recorder.names()[-2:] == ["end fit", "teardown fit"]


@needs_callbacks
@pytest.mark.parametrize("settings", [{}, {"warm_start": True}, {"optimizer": "lbfgs"}], ids=str)
@pytest.mark.parametrize("hook", ["setup", "on_fit_task_begin"])
def test_a_fit_that_a_callback_refuses_changes_nothing(hook, settings):
    """Before the first epoch: what was fitted before stays whole, callbacks are torn down, and none is fitted anew."""

    def refusing(self, estimator, context):
        raise FileNotFoundError("mine")

    refusal = type("Refusal", (Minimal,), {hook: refusing})()
    model = make(**settings).fit(X, Y)
    before = pickle.dumps(copy.deepcopy(model))  # in which nothing is shared that need not be
    recorder = Recorder()
    with pytest.raises(FileNotFoundError, match="mine"):
        model.set_callbacks(recorder, refusal).fit(X if settings else X[:, :2], Y)
    assert recorder.names()[-1] == "teardown fit"
    assert pickle.dumps(copy.deepcopy(model.set_callbacks())) == before
    model.fit(X, Y)
    unfitted = make(**settings).set_callbacks(refusal)
    with pytest.raises(FileNotFoundError, match="mine"):
        unfitted.fit(X, Y)
    assert set(vars(unfitted)) == {*unfitted.get_params(deep=False), "_skl_callbacks"}


@needs_callbacks
@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"optimizer": AVERAGED}], ids=str)
def test_the_gradient_is_there_at_the_end_of_the_fit(settings):
    """For the task of the fit it is that of the parameters that predict."""
    found = []

    def look(estimator, context):
        found.append((context.task_name, blocks(estimator.params_), blocks(estimator.gradient_)))

    start = {"W": np.full((3, 1), 0.1), "b": np.zeros(1)}
    model = make(forward=linear_forward, init=start, gradient=linear_gradient, batch_size=60, **settings)
    recorder = Recorder(look=look)
    model.set_callbacks(recorder).fit(X, Y)
    rows = recorder.received(task="fit")[0]
    task, params, gradient = found[-1]
    assert (task, recorder.names()[-2]) == ("fit", "end fit")
    expected = linear_gradient(params, rows["X"], rows["y"])
    for name, block in blocks(model.params_).items():
        assert_array_equal(params[name], block)
        assert_allclose(gradient[name], expected[name], rtol=1e-10)


@needs_callbacks
def test_a_pickle_made_in_a_hook_is_in_no_fit():
    """The estimator itself, written by a callback of the user's, loads, predicts and fits."""
    copies = []

    def look(estimator, context):
        copies.append(cloudpickle.dumps(estimator))

    recorder = Recorder(look=look)
    model = make().set_callbacks(recorder).fit(X, Y)
    loaded = pickle.loads(copies[-2])  # of the last epoch
    assert_allclose(loaded.predict(X), model.predict(X), rtol=1e-15)
    assert not {"_tasks", "_callback_fit_ctx", "_parent_callback_ctx"} & set(vars(loaded))
    loaded.set_callbacks().fit(X, Y)


def exposed_forward(params, X, exposure):
    return X @ params["W"][:, 0] + exposure


def exposed_gradient(params, X, y, exposure, group=None):
    return {"W": X.T @ (exposed_forward(params, X, exposure) - y)[:, None] / len(X)}


@needs_callbacks
def test_hooks_receive_the_metadata_that_score_takes():
    """What `forward` names, for the rows that are trained on; so a scoring monitor can pass it on."""

    def score_with_exposure(estimator, X, y, exposure):
        return estimator.score(X, y, exposure=exposure)

    exposure, group = rng.normal(size=60), np.arange(60)
    settings = {"forward": exposed_forward, "gradient": exposed_gradient, "init": {"W": np.zeros((3, 1))}}
    recorder, monitor = Recorder(), ScoringMonitor(scoring={"score": score_with_exposure})
    model = make(**settings).set_callbacks(recorder, monitor).fit(X, Y, exposure=exposure, group=group)
    assert recorder.received()[0]["metadata"] == {"exposure": exposure}
    [score] = [row["score"] for row in monitor.get_logs().data if row["task_id_path"] == (0, 3)]
    assert score == pytest.approx(model.score(X, Y, exposure=exposure), rel=1e-12)
    recorder = Recorder()
    model.set_params(early_stopping=True).set_callbacks(recorder).fit(X, Y, exposure=exposure, group=group)
    values = recorder.received()[0]
    assert len(values["metadata"]["exposure"]) == len(values["X"]) == 54
    recorder = Recorder()
    validation = {"X_val": X[40:], "y_val": Y[40:], "exposure_val": exposure[40:]}
    model.set_callbacks(recorder).fit(X[:40], Y[:40], exposure=exposure[:40], **validation)
    assert (len(recorder.received()[0]["X"]), recorder.received()[0]["metadata"].keys()) == (40, {"exposure"})


# Those of scikit-learn.


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize(("cls", "scoring"), [(AnalyticRegressor, "r2"), (AnalyticClassifier, "accuracy")])
def test_scoring_monitor_scores_every_epoch(cls, scoring, n_jobs):
    """On the rows of fit, weights included; in a search each candidate's epochs have rows of their own."""
    frame, weight = pd.DataFrame(X, columns=["a", "b", "c"]), np.linspace(0.5, 1.5, 60)
    monitor = ScoringMonitor(scoring=scoring)
    model = make(cls).set_callbacks(monitor).fit(frame, TARGETS[cls], sample_weight=weight)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in rows] == [0, 1, 2, 3]
    assert rows[-1][scoring] == pytest.approx(model.score(frame, TARGETS[cls], weight), rel=1e-12)
    assert rows[0][scoring] != rows[-1][scoring] or cls is AnalyticClassifier  # whose labels may stay

    monitor = ScoringMonitor(scoring=scoring)
    search = GridSearchCV(make(cls).set_callbacks(monitor), {"alpha": [0.0, 1.0]}, cv=2, n_jobs=n_jobs)
    search.fit(frame, TARGETS[cls])
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len({row["task_id_path"] for row in rows}) == len(rows) == (4 + 1) * 4
    [last] = [row for row in rows if row["task_id_path"] == (0, 1, 3)]  # of the refit
    assert last[scoring] == pytest.approx(search.score(frame, TARGETS[cls]), rel=1e-12)


@needs_callbacks
class TestProgressBar:
    """Bars of our epochs, alone and where scikit-learn passes them on."""

    @pytest.fixture(autouse=True)
    def rich(self):
        pytest.importorskip("rich")

    @every_estimator
    def test_alone(self, cls, capsys):
        """A bar of the fit that ends at the hundredth part, though training stops early."""
        make(cls, max_iter=50, n_iter_no_change=2).set_callbacks(ProgressBar()).fit(X, TARGETS[cls])
        assert re.search(rf"{cls.__name__} - fit .*100%", capsys.readouterr().out)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_passed_on_by_a_search(self, n_jobs, capsys):
        """With max_propagation_depth=None each candidate has its bar of epochs, in workers too."""
        search = GridSearchCV(make(), {"alpha": [0.0, 1.0]}, cv=2, n_jobs=n_jobs)
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, Y)
        out = capsys.readouterr().out
        for task_id in range(4):
            assert f"AnalyticRegressor - fit #{task_id}" in out
        assert not re.search(r"\b\d{1,2}%", out.splitlines()[-1])
        assert not hasattr(search.best_estimator_, "_skl_callbacks")

    def test_passed_on_by_a_pipeline(self, capsys):
        """The last step's bar shows epochs."""
        model = make_pipeline(StandardScaler(), make(optimizer="lbfgs"))
        model.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, Y)
        assert re.search(r"fit-final-estimator \| AnalyticRegressor - fit #1 .*100%", capsys.readouterr().out)


@needs_callbacks
@pytest.mark.parametrize("through", ["search", "pipeline"])
def test_what_is_passed_on_sees_the_tree_of_tasks(through):
    """Our fit is the task that the other estimator began, and our epochs stand below it."""
    recorder = Recorder()
    recorder.max_propagation_depth = None
    if through == "search":
        outer, parents, n_fits = GridSearchCV(make(), {"alpha": [0.0, 1.0]}, cv=2), 2, 5
    else:
        outer, parents, n_fits = make_pipeline(StandardScaler(), make()), 1, 1
    outer.set_callbacks(recorder).fit(X, Y)
    ours = [(hook, context) for hook, context, _ in recorder.calls if context.estimator_name == "AnalyticRegressor"]
    fits = [context for hook, context in ours if hook == "begin" and context.task_name == "fit"]
    assert len(fits) == n_fits
    assert all(context.source_estimator_name == type(outer).__name__ for context in fits)
    epochs = [context for hook, context in ours if (hook, context.task_name) == ("end", "epoch")]
    assert len(epochs) == 4 * n_fits
    root = recorder.calls[0][1]
    for context in epochs:
        depth = 0
        while context.parent is not None:
            context, depth = context.parent, depth + 1
        assert (context, 1 < depth <= parents + 1) == (root, True)


@needs_callbacks
@pytest.mark.parametrize("kind", [LearningRateLog, GradientMonitor, lambda: Checkpoint("model.pkl")])
def test_ours_follow_the_protocol(kind):
    """As scikit-learn checks it; they are set on the estimator itself, and so are not passed on by others."""
    callback = kind()
    assert isinstance(callback, FitCallback)
    assert not hasattr(callback, "max_propagation_depth")
    with pytest.raises(TypeError, match="FitCallback protocol"):
        AnalyticRegressor().set_callbacks(kind)


# Checkpoint.

RESUMED = {
    "adam": (AnalyticRegressor, {}),
    "momentum on a schedule": (AnalyticDensity, {"optimizer": SGD(Step(0.1, every=10, factor=0.3), momentum=0.9)}),
    "averages": (AnalyticTransformer, {"optimizer": AVERAGED}),
    "plateau": (
        AnalyticRegressor,
        {"optimizer": SGD(ReduceOnPlateau(0.3, factor=0.5, patience=1)), "n_iter_no_change": 6},
    ),
    "finds its scale": (AnalyticRegressor, {"optimizer": "prodigy", "n_iter_no_change": 2, "tol": 1e-2}),
    "impatient": (AnalyticClassifier, {"n_iter_no_change": 2, "tol": 0.05}),
    "early stopping": (
        AnalyticClassifier,
        {"early_stopping": True, "n_iter_no_change": 3, "optimizer": SGD(0.3), "batch_size": 5},
    ),
    "phases": (AnalyticRegressor, {"optimizer": Phases([(Adam(0.1), 7), (SGD(0.01, momentum=0.9), 8)])}),
    "phases with averages": (AnalyticRegressor, {"optimizer": Phases([(AVERAGED, 7), ("adam", 8)])}),
}


@needs_callbacks
@pytest.mark.parametrize(("cls", "settings"), RESUMED.values(), ids=RESUMED)
def test_a_fit_goes_on_from_any_checkpoint_to_the_bit(cls, settings, tmp_path):
    """From each epoch, what was left leads to the same parameters, curves, counts and scores as without a break."""

    class Every(Checkpoint):
        """Keeps the files of all epochs."""

        def path_of(self, context):
            return super().path_of(context).with_suffix(f".{context.task_id if context.max_subtasks == 0 else 'end'}")

    settings = {"max_iter": 15} | settings
    whole = make(cls, **settings).set_callbacks(Every(tmp_path / "model", dump=cloudpickle.dump)).fit(X, TARGETS[cls])
    for k in range(whole.n_iter_):
        resumed = pickle.loads((tmp_path / f"model.{k}").read_bytes())
        assert (resumed.n_iter_, hasattr(resumed, "_skl_callbacks")) == (k + 1, False)
        resumed.set_params(warm_start=True).fit(X, TARGETS[cls])
        assert_array_equal(output(resumed), output(whole), err_msg=f"epoch {k}")
        for name in ("loss_curve_", "validation_scores_", "gradient_norm_curve_", "n_iter_", "n_steps_"):
            assert getattr(resumed, name) == getattr(whole, name), (name, k)
    ended = pickle.loads((tmp_path / "model.end").read_bytes())
    assert_array_equal(output(ended), output(whole))


@needs_callbacks
def test_a_killed_process_leaves_a_checkpoint_to_go_on_from(tmp_path):
    """A fit that is killed half way, at whatever moment, ends as it would have."""
    path = tmp_path / "model.pkl"
    script = f"""
import time
import numpy as np
from sk_analytic import AnalyticRegressor
from sk_analytic.callbacks import Checkpoint

class Slowly(Checkpoint):
    def on_fit_task_begin(self, estimator, context):
        time.sleep(0.02)

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
y = X @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=60)
model = AnalyticRegressor(max_iter=500, n_iter_no_change=500, batch_size=20, random_state=0)
model.set_callbacks(Slowly({str(path)!r})).fit(X, y)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    whole = make(max_iter=500, n_iter_no_change=500).fit(X, Y)
    resumed = pickle.loads(path.read_bytes())
    assert 1 <= resumed.n_iter_ < 500
    resumed.set_params(warm_start=True).fit(X, Y)
    assert resumed.loss_curve_ == whole.loss_curve_
    assert_array_equal(resumed.predict(X), whole.predict(X))


@needs_callbacks
def test_a_checkpoint_is_whole_or_as_it_was(tmp_path):
    """A dump that fails half way leaves the file of before and nothing beside it, and says so."""
    path = tmp_path / "model.pkl"

    def half(estimator, file):
        pickle.dump(estimator, file)
        if path.exists():
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full") as raised:
        make().set_callbacks(Checkpoint(path, dump=half)).fit(X, Y)
    assert pickle.loads(path.read_bytes()).n_iter_ == 1
    assert [file.name for file in tmp_path.iterdir()] == ["model.pkl"]
    assert f"Checkpoint was writing {path}; the previous file is unchanged." in raised.value.__notes__


@needs_callbacks
def test_checkpoint_points_at_the_way_out(tmp_path):
    """For functions that pickle refuses, a folder that is not there, and a wrong number."""
    of_lambdas = make(
        forward=lambda params, X: X @ params["W"] + params["b"], init=linear_init, gradient=linear_gradient
    )
    with pytest.raises((AttributeError, pickle.PicklingError)) as raised:
        of_lambdas.set_callbacks(Checkpoint(tmp_path / "model")).fit(X, Y)
    assert "dump=cloudpickle.dump" in raised.value.__notes__[1]
    of_lambdas.set_callbacks(Checkpoint(tmp_path / "model", dump=cloudpickle.dump)).fit(X, Y)
    assert_array_equal(joblib.load(tmp_path / "model").predict(X), of_lambdas.predict(X))
    with pytest.raises(FileNotFoundError, match="the folder .* does not exist"):
        make().set_callbacks(Checkpoint(tmp_path / "nowhere" / "model")).fit(X, Y)
    with pytest.raises(IsADirectoryError, match="cannot be written: it is a folder"):
        make().set_callbacks(Checkpoint(tmp_path)).fit(X, Y)
    with pytest.raises(ValueError, match=r"every must be a whole number in \[1, inf\); got 0"):
        Checkpoint("model", every=0)


@needs_callbacks
@pytest.mark.parametrize(
    "dump", [pickle.dump, functools.partial(pickle.dump, protocol=5), joblib.dump], ids=["pickle", "partial", "joblib"]
)
def test_what_cannot_be_written_is_found_out_before_the_first_epoch(dump, tmp_path):
    """A lambda, a folder that is missing or gone: no step is taken, and nothing is left."""
    steps = []

    def gradient(params, X, y):
        steps.append(None)
        return linear_gradient(params, X, y)

    settings = {"forward": linear_forward, "gradient": gradient, "init": linear_init, "check_gradient": False}
    model = make(**settings).set_callbacks(Checkpoint(tmp_path / "model.pkl", every=100, dump=dump))
    with pytest.raises((AttributeError, pickle.PicklingError)) as raised:
        model.fit(X, Y)
    assert f"Checkpoint tested whether it can write {tmp_path / 'model.pkl'}" in raised.value.__notes__[0]
    with pytest.raises((AttributeError, pickle.PicklingError)):
        GridSearchCV(make(**settings), {}, cv=2).set_callbacks(*model._skl_callbacks).fit(X, Y)
    for wrong in (tmp_path / "nowhere" / "model.pkl", tmp_path):
        with pytest.raises(OSError, match="cannot be written"):
            make(**settings).set_callbacks(Checkpoint(wrong, every=100)).fit(X, Y)
    assert (steps, list(tmp_path.iterdir())) == ([], [])
    assert not hasattr(model, "params_")


@needs_callbacks
@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions as POSIX has them")
def test_a_read_only_folder_is_found_out_before_the_first_epoch(tmp_path, monkeypatch):
    """Whatever keeps a file from being made there."""
    if os.geteuid() == 0:  # who may write everywhere

        def refused(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refused)
    tmp_path.chmod(0o500)
    model = make().set_callbacks(Checkpoint(tmp_path / "model.pkl", every=100))
    with pytest.raises(PermissionError):
        model.fit(X, Y)
    tmp_path.chmod(0o700)
    assert not hasattr(model, "params_")


@needs_callbacks
def test_a_dump_of_ones_own_is_called_for_epochs_only(tmp_path):
    """It may do more than write."""
    dumped = []
    checkpoint = Checkpoint(tmp_path / "model.pkl", dump=lambda model, file: dumped.append(model.n_iter_))
    make(max_iter=2).set_callbacks(checkpoint).fit(X, Y)
    assert dumped == [1, 2, 2]


@needs_callbacks
def test_a_checkpoint_keeps_the_mode_and_the_link_of_its_file(tmp_path):
    """As files of parameters do."""
    target, link = tmp_path / "real.pkl", tmp_path / "model.pkl"
    target.touch(mode=0o600)
    link.symlink_to(target)
    make().set_callbacks(Checkpoint(link)).fit(X, Y)
    assert link.is_symlink()
    assert pickle.loads(target.read_bytes()).n_iter_ == 4
    assert target.stat().st_mode & 0o777 == 0o600


@needs_callbacks
def test_checkpoints_of_every_few_epochs_hold_no_rows(tmp_path):
    """Written at 2, 4 and the end, joblib can load them, and they are small."""
    path = tmp_path / "model.joblib"
    written = Looking(lambda estimator: path.exists() and joblib.load(path).n_iter_)
    many = np.resize(X, (20_000, 3))
    checkpoint = Checkpoint(path, every=2, dump=joblib.dump)
    make(max_iter=5, batch_size=5000).set_callbacks(checkpoint, written).fit(many, np.resize(Y, 20_000))
    assert written.found == [False, 2, 2, 4, 4]
    assert path.stat().st_size < many.nbytes / 20
    assert joblib.load(path).n_iter_ == 5


@needs_callbacks
@pytest.mark.parametrize("duplicate", [lambda model: pickle.loads(pickle.dumps(model)), copy.copy, copy.deepcopy])
def test_a_checkpoint_after_many_epochs_converts_only_the_latest(duplicate):
    """The curves are written as arrays, to which each epoch adds a number, and read as the lists that they were."""
    kept = []

    def look(estimator, context):
        if context.max_subtasks == 0:
            fitted = recorder.calls[-1][2]["fitted"]
            packed = fitted._training.history.__getstate__()
            for curve in CURVES:
                assert isinstance(packed[curve], np.ndarray)
                assert packed[curve].tolist() == getattr(fitted._training.history, curve)
            assert not {"loss_curve_", "validation_scores_", "gradient_norm_curve_"} & fitted.__getstate__().keys()
            kept.append(duplicate(fitted.set_callbacks()))

    recorder = Recorder(look=look)
    model = make(early_stopping=True).set_callbacks(recorder).fit(X, Y)
    for epochs, fitted in enumerate(kept, 1):
        for name in ("loss_curve_", "validation_scores_", "gradient_norm_curve_"):
            curve = getattr(fitted, name)
            assert curve == getattr(model, name)[:epochs]
            assert {type(curve), *map(type, curve)} == {list, float}
    assert duplicate(model.set_callbacks()).loss_curve_ == model.loss_curve_


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_fits_of_a_search_have_files_of_their_own(n_jobs, tmp_path):
    """Named by the task; the refit's is the best estimator."""
    model = make().set_callbacks(Checkpoint(tmp_path / "model.pkl"))
    search = GridSearchCV(model, {"alpha": [0.0, 1.0]}, cv=2, n_jobs=n_jobs).fit(X, Y)
    assert {file.name for file in tmp_path.iterdir()} == {f"model-0-{i}.pkl" for i in range(4)} | {"model-1.pkl"}
    refit = pickle.loads((tmp_path / "model-1.pkl").read_bytes())
    assert_array_equal(refit.predict(X), search.predict(X))


SEARCHED = {"alpha": [0.0, 1.0]}
PASSED_ON = {
    "grid": (lambda model: GridSearchCV(model, SEARCHED, cv=2), [f"-0-{i}" for i in range(4)] + ["-1"]),
    "workers": (lambda model: GridSearchCV(model, SEARCHED, cv=2, n_jobs=2), [f"-0-{i}" for i in range(4)] + ["-1"]),
    "halving": (
        lambda model: HalvingGridSearchCV(model, SEARCHED, cv=2, random_state=0),
        [f"-0-0-{i}" for i in range(4)] + ["-1"],
    ),
    "pipeline": (lambda model: make_pipeline(StandardScaler(), model), ["-1"]),
    "grid of pipelines": (
        lambda model: GridSearchCV(make_pipeline(StandardScaler(), model), {}, cv=2),
        ["-0-0-1", "-0-1-1", "-1-1"],
    ),
    "in the grid": (lambda model: GridSearchCV(Pipeline([("a", Ridge())]), {"a": [Ridge(), model]}, cv=2), None),
}


@needs_callbacks
@pytest.mark.filterwarnings("ignore:The estimator Ridge does not support callbacks")
@pytest.mark.parametrize(("around", "stems"), PASSED_ON.values(), ids=PASSED_ON)
def test_set_on_a_search_or_a_pipeline_ours_are_passed_on(around, stems, tmp_path):
    """Files and rows are those of callbacks that are set on the estimator inside; again resumes them all."""
    checkpoint = Checkpoint(tmp_path / "model.pkl", resume=True)
    logs = {LearningRateLog(): LearningRateLog(), GradientMonitor(): GradientMonitor()}
    outer = around(make()).set_callbacks(checkpoint, *logs).fit(X, Y)
    files = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    if stems is not None:
        assert set(files) == {f"model{stem}.pkl" for stem in stems}
    assert files
    for callback in (checkpoint, *logs):
        assert not hasattr(callback, "max_propagation_depth")
    inner = around(make().set_callbacks(*logs.values())).fit(X, Y)
    for passed_on, own in logs.items():
        ours, theirs = ([row | {"run_id": ""} for row in log.get_logs()] for log in (passed_on, own))
        assert ours == theirs
        assert ours
    again = around(make()).set_callbacks(checkpoint).fit(X, Y)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files
    for one in (outer, again):
        assert_array_equal(one.predict(X), inner.predict(X))


@needs_callbacks
@pytest.mark.parametrize("kind", [LearningRateLog, GradientMonitor, lambda: Checkpoint("model.pkl")])
@pytest.mark.parametrize(
    "other",
    [StandardScaler(), GridSearchCV(Ridge(), {"alpha": [1.0]}), make_pipeline(StandardScaler(), Ridge())],
    ids=["scaler", "grid", "pipeline"],
)
def test_ours_are_refused_where_no_estimator_of_ours_is(kind, other):
    """In words, before anything is fitted."""
    with pytest.raises(TypeError, match=r"works only with estimators of sk_analytic; [A-Z]\w+ contains none\.$"):
        clone(other).set_callbacks(kind()).fit(X, Y)


MEMBERS = {
    "bagging": (lambda model: BaggingRegressor(model, n_estimators=3, random_state=0).fit(X, Y), 3),
    "bagging in workers": (lambda m: BaggingRegressor(m, n_estimators=3, random_state=0, n_jobs=2).fit(X, Y), 3),
    "pipelines": (lambda m: BaggingRegressor(make_pipeline(StandardScaler(), m), 3, random_state=0).fit(X, Y), 3),
    "outputs": (lambda model: MultiOutputRegressor(model).fit(X, np.column_stack([Y, -Y])), 2),
    "cross_val_score": (lambda model: cross_val_score(model, X, Y, cv=3), 3),
    "nested": (lambda model: cross_val_score(GridSearchCV(model, SEARCHED, cv=2), X, Y, cv=2), 10),
    "joblib": (lambda m: joblib.Parallel(1)(joblib.delayed(clone(m).fit)(X, y) for y in (Y, -Y)), 2),
    "settings": (lambda m: VotingRegressor([("a", m), ("b", clone(m).set_params(alpha=1.0))]).fit(X, Y), 2),
}


@needs_callbacks
@pytest.mark.parametrize(("fit", "n_files"), MEMBERS.values(), ids=MEMBERS)
def test_fits_that_scikit_learn_does_not_number_have_files_of_their_own(fit, n_files, tmp_path):
    """Named by what they are, so that the same program resumes each of them."""
    model = make().set_callbacks(Checkpoint(tmp_path / "model.pkl", resume=True))
    fit(model)
    files = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(files) == n_files
    assert all(re.fullmatch(r"model(-\d+)*-[0-9a-f]{8}\.pkl", name) for name in files)
    fit(model)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files


@needs_callbacks
def test_an_unfinished_fit_that_is_not_gone_on_with_is_forgotten():
    """A new fit begins at the start; partial_fit is one epoch; fewer epochs than were trained leave none."""
    recorder = Recorder(stop_after=3)
    make(max_iter=6).set_callbacks(recorder).fit(X, Y)
    third = recorder.received()[-1]["fitted"].set_callbacks()

    def load():
        return pickle.loads(pickle.dumps(third))

    assert_array_equal(load().fit(X, Y).predict(X), make(max_iter=6).fit(X, Y).predict(X))
    assert load().partial_fit(X, Y).n_iter_ == 4
    assert load().partial_fit(X, Y).set_params(warm_start=True).fit(X, Y).n_iter_ == 4 + 6
    with pytest.warns(ConvergenceWarning, match="The limit of 3 epochs was reached"):
        assert load().set_params(warm_start=True, max_iter=2).fit(X, Y).n_iter_ == 3
    assert load().set_params(warm_start=True).fit(X, Y).fit(X, Y).n_iter_ == 6 + 6


@needs_callbacks
def test_a_full_batch_method_begins_anew_from_the_parameters_of_a_checkpoint():
    """And gets as far as the iterations that were left allow."""
    recorder = Recorder(stop_after=2)
    settings = {"optimizer": "lbfgs", "tol": 1e-8, "max_iter": 40}
    make(**settings).set_callbacks(recorder).fit(X, Y)
    resumed = recorder.received(task="iteration")[-1]["fitted"].set_callbacks()
    resumed.set_params(warm_start=True).fit(X, Y)
    assert_allclose(resumed.predict(X), make(**settings).fit(X, Y).predict(X), rtol=1e-6)
    assert 2 < resumed.n_iter_ <= 40


# Logs.


@needs_callbacks
def test_gradient_monitor_logs_norms_and_ratios_of_each_block():
    """They are those of the parameters before and after each epoch, penalty apart, over a sample that here is all."""
    start = {"W": np.full((3, 1), 0.1), "b": np.zeros(1)}
    seen = [blocks(start)]
    watcher = Looking(lambda estimator: seen.append(blocks(estimator.params_)))
    monitor = GradientMonitor()
    model = make(forward=linear_forward, init=start, gradient=linear_gradient, alpha=0.5, fixed=("b",), batch_size=60)
    model.set_callbacks(monitor, watcher).fit(X, Y)
    rows = monitor.get_logs()
    assert [row["n_iter"] for row in rows] == [1, 2, 3, 4]
    for row, before, after in zip(rows, seen[:-1], seen[1:], strict=True):
        gradient = linear_gradient(after, X, Y)["W"]
        assert row["gradient_norm"] == {"W": pytest.approx(np.linalg.norm(gradient), rel=1e-12)}
        ratio = np.linalg.norm(after["W"] - before["W"]) / np.linalg.norm(after["W"])
        assert row["update_ratio"] == {"W": pytest.approx(ratio, rel=1e-12), "b": 0.0}
        assert row["dead"] == []


@needs_callbacks
@pytest.mark.parametrize(("cls", "form"), [(c, f) for c, models in USER_MODELS.items() for f in models])
@pytest.mark.parametrize("optimizer", ["adam", AVERAGED, "lbfgs"])
def test_gradient_monitor_takes_every_model(cls, form, optimizer):
    """Whatever the structure of the parameters, and without a change to what is trained."""
    monitor = GradientMonitor()
    settings = USER_MODELS[cls][form] | {"optimizer": optimizer}
    model = make(cls, **settings).set_callbacks(monitor).fit(X, TARGETS[cls])
    assert_array_equal(output(model), output(make(cls, **settings).fit(X, TARGETS[cls])))
    rows = monitor.get_logs()
    assert len(rows) == model.n_iter_
    assert set(rows[0]["update_ratio"]) == set(Layout.of(model.params_).names) >= set(rows[0]["gradient_norm"])


@needs_callbacks
def test_gradient_monitor_names_dead_blocks():
    """Behind units that are all switched off, a penalty or not; a block that the user leaves out is not dead."""

    def vjp(params, X):
        h = np.maximum(X @ params["W"] + params["a"], 0)

        def pullback(d):
            da = np.outer(d, params["v"]) * (h > 0)
            return {"W": X.T @ da, "a": da.sum(axis=0), "v": h.T @ d, "b": d.sum(), "unused": None}

        return h @ params["v"] + params["b"], pullback

    start = {"W": np.full((3, 2), 0.1), "a": np.full(2, -9.0), "v": np.ones(2), "b": 0.0, "unused": np.ones(2)}
    for alpha in (0.0, 0.1):
        monitor = GradientMonitor()
        make(vjp=vjp, init=start, alpha=alpha).set_callbacks(monitor).fit(X, Y)
        assert [row["dead"] for row in monitor.get_logs()] == [["W", "a", "v"]] * 4


@needs_callbacks
def test_learning_rates_are_those_of_the_last_step():
    """Of each block, by its own schedule; a full-batch phase has none."""
    log = LearningRateLog()
    halved = Exponential(0.1, decay=0.5, unit="epoch")
    per_block = PerBlock({"coef": SGD(halved)}, default=Adam(0.03))
    phases = Phases([(per_block, 3), ("lbfgs", 2), (SGD(Exponential(1e-3, decay=0.1)), 1)])
    make(optimizer=phases, tol=0.0).set_callbacks(log).fit(X, Y)
    rates = [row["learning_rate"] for row in log.get_logs()]
    assert rates == [
        {"coef": 0.1, "intercept": 0.03},
        {"coef": 0.05, "intercept": 0.03},
        {"coef": 0.025, "intercept": 0.03},
        {"coef": pytest.approx(1e-5), "intercept": pytest.approx(1e-5)},  # the third step of its first epoch
    ]
    assert [row["n_iter"] for row in log.get_logs()] == [1, 2, 3, 6]


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("kind", [LearningRateLog, GradientMonitor])
def test_logs_of_a_search_are_kept_by_the_path_of_the_task(kind, n_jobs):
    """Clones share the instance, in workers too: no row is lost or mixed with another's, and runs are apart."""
    log = kind()
    model = make().set_callbacks(log)
    GridSearchCV(model, {"optimizer__learning_rate": [0.1, 0.2]}, cv=2, n_jobs=n_jobs).fit(X, Y)
    rows = log.get_logs()
    fits = [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 1)]
    assert sorted(row["task_id_path"] for row in rows) == sorted((*fit, k) for fit in fits for k in range(4))
    assert {row["parent_task_id_path"] for row in rows} == set(fits)
    assert all(row["n_iter"] == row["task_id_path"][-1] + 1 for row in rows)
    if kind is LearningRateLog:
        by_fit = {row["parent_task_id_path"]: row["learning_rate"]["coef"] for row in rows}
        assert [by_fit[fit] for fit in fits[:4]] == [0.1, 0.1, 0.2, 0.2]
    model.fit(X, Y)
    assert [row["task_id_path"] for row in log.get_logs()] == [(0, k) for k in range(4)]
    assert len(log.get_logs(select="all")) == 6 * 4
    assert len(pd.json_normalize(log.get_logs(select="all"))) == 6 * 4


@needs_callbacks
def test_a_run_without_rows_is_the_latest_run_too():
    """A full-batch fit logs no rate, and one that fails at the start none of its epochs."""
    log = LearningRateLog()
    make().set_callbacks(log).fit(X, Y)
    make(optimizer="lbfgs").set_callbacks(log).fit(X, Y)
    assert (log.get_logs(), len(log.get_logs("all"))) == ([], 4)

    def raising(params, X, y):
        raise RuntimeError("mine")

    make().set_callbacks(log).fit(X, Y)
    failing = make(forward=linear_forward, init=linear_init, gradient=raising, check_gradient=False)
    with pytest.raises(RuntimeError, match="mine"):
        failing.set_callbacks(log).fit(X, Y)
    assert (log.get_logs(), len(log.get_logs("all"))) == ([], 8)


@needs_callbacks
@pytest.mark.parametrize("kind", [LearningRateLog, GradientMonitor])
def test_a_log_goes_with_its_estimator(kind):
    """A pickled copy keeps the rows and writes its own; it outlives its file, and the file not its log."""
    log = kind()
    model = make().set_callbacks(log).fit(X, Y)
    copied = pickle.loads(pickle.dumps(model))
    copied.fit(X, Y)
    [own] = copied._skl_callbacks
    assert (len(log.get_logs("all")), len(own.get_logs("all"))) == (4, 8)
    assert own.get_logs("all")[:4] == log.get_logs()
    with pytest.raises(ValueError, match="select must be one of 'most_recent', 'all'; got 'latest'"):
        log.get_logs(select="latest")
    file = Path(own._file)
    assert file.exists()
    file.unlink()
    copied.fit(X, Y)
    assert len(own.get_logs("all")) == 4
    unused = kind()
    assert unused.get_logs() == []
    file = Path(unused._file)
    assert file.exists()
    del unused
    assert not file.exists()


@needs_callbacks
def test_a_fit_that_fails_leaves_nothing_behind_in_the_monitor():
    """Parameters kept at the beginning of an epoch are forgotten when the fit ends, however it does."""

    def raising(params, X, y):
        raise RuntimeError("mine")

    monitor = GradientMonitor()
    model = make(forward=linear_forward, init=linear_init, gradient=raising, check_gradient=False)
    with pytest.raises(RuntimeError, match="mine"):
        model.set_callbacks(monitor).fit(X, Y)
    assert monitor._before == {}


@needs_callbacks
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_fits_of_chunks_have_tasks_too(optimizer, tmp_path):
    """A task for each epoch, from whose checkpoint the fit goes on; hooks receive no rows, which are not in memory."""
    chunks = [(X[:25], Y[:25]), (X[25:], Y[25:])]
    recorder, monitor, written = Recorder(), GradientMonitor(), []
    checkpoint = Checkpoint(tmp_path / "model.pkl", dump=lambda model, file: written.append(pickle.dumps(model)))
    whole = make(optimizer=optimizer, tol=0.0, max_iter=6).set_callbacks(recorder, monitor, checkpoint)
    whole.fit_chunks(chunks)
    assert recorder.names().count(f"end {'epoch' if optimizer == 'adam' else 'iteration'}") == whole.n_iter_ > 1
    assert {recorder.calls[2][2][name] for name in ("X", "y", "metadata")} == {None}
    assert [row["n_iter"] for row in monitor.get_logs()] == list(range(1, whole.n_iter_ + 1))
    resumed = pickle.loads(written[1]).set_params(warm_start=True).fit_chunks(chunks)
    if optimizer == "adam":
        assert_array_equal(resumed.predict(X), whole.predict(X))
        assert resumed.loss_curve_ == whole.loss_curve_
    else:
        assert_allclose(resumed.predict(X), whole.predict(X), rtol=1e-3, atol=0.1)  # after so few iterations


# Resuming from a checkpoint.


def resuming(path, **settings):
    checkpoint = Checkpoint(path, resume=True)
    return make(**{"max_iter": 6, "n_iter_no_change": 100} | settings).set_callbacks(checkpoint)


def dies_after(epoch, path, rows, **settings):
    """A fit whose program is ended after an epoch has been written."""

    class Killed(BaseException):
        pass

    def kill(estimator, context):
        if context.max_subtasks == 0 and context.task_id + 1 == epoch:
            raise Killed

    model = resuming(path, **settings)
    model.set_callbacks(*model._skl_callbacks, Recorder(look=kill))
    with pytest.raises(Killed):
        model.fit(rows, Y)


RESUMED = {
    "adam": {},
    "averages": {"optimizer": AVERAGED},
    "early stopping": {"early_stopping": True, "optimizer": SGD(0.5)},
    "float32": {"dtype": np.float32},
    "phases": {"optimizer": PHASES},
}


@needs_callbacks
@pytest.mark.parametrize("epoch", [1, 3, 5])
@pytest.mark.parametrize("settings", RESUMED.values(), ids=RESUMED)
def test_the_same_program_resumes_to_the_bit(settings, epoch, tmp_path):
    """One that was killed after some epoch ends as one that was not; the phases of full-batch methods begin again."""
    settings = dict(settings)
    rows = X.astype(settings.pop("dtype", float))
    path = tmp_path / "model.pkl"
    whole = make(**{"max_iter": 6, "n_iter_no_change": 100} | settings).fit(rows, Y)
    dies_after(epoch, path, rows, **settings)
    resumed = resuming(path, **settings).fit(rows, Y)
    if "optimizer" in settings and settings["optimizer"] is PHASES:
        assert resumed.n_iter_ >= 6
        return
    assert resumed.loss_curve_ == whole.loss_curve_
    assert_array_equal(resumed.predict(rows), whole.predict(rows))


@needs_callbacks
@every_estimator
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_every_estimator_resumes(cls, optimizer, tmp_path):
    """From the epoch that was written last; a full-batch method from its parameters."""
    path = tmp_path / "model.pkl"
    settings = {"optimizer": optimizer, "tol": 1e-6, "max_iter": 8, "n_iter_no_change": 100}

    def dies(estimator, context):
        if context.max_subtasks == 0 and context.task_id == 0:
            raise SystemExit

    def model(*others):
        return make(cls, **settings).set_callbacks(Checkpoint(path, resume=True), *others)

    with pytest.raises(SystemExit):
        model(Recorder(look=dies)).fit(X, TARGETS[cls])
    resumed = model().fit(X, TARGETS[cls])
    whole = make(cls, **settings).fit(X, TARGETS[cls])
    if optimizer == "adam":
        assert resumed.loss_curve_ == whole.loss_curve_
        assert_array_equal(output(resumed), output(whole))
    else:
        assert_allclose(output(resumed), output(whole), rtol=0.1, atol=0.1)


@needs_callbacks
@every_estimator
def test_a_finished_fit_stays_finished(cls, tmp_path):
    """The program that is run again after the end of its fit trains nothing, and has the same attributes."""
    path = tmp_path / "model.pkl"
    make_one = lambda: make(cls).set_callbacks(Checkpoint(path, resume=True))  # noqa: E731
    first = make_one().fit(X, TARGETS[cls])
    written = path.read_bytes()
    recorder = Recorder()
    again = make(cls).set_callbacks(Checkpoint(path, resume=True), recorder).fit(X, TARGETS[cls])
    assert (again.n_iter_, again.loss_curve_, again.n_steps_) == (first.n_iter_, first.loss_curve_, first.n_steps_)
    assert_array_equal(output(again), output(first))
    assert recorder.calls == []
    assert path.read_bytes() == written


OTHER = {
    "learning rate": (
        {"optimizer": SGD(0.2)},
        {},
        r"contains a fit with optimizer='adam', but now optimizer=SGD\(.*\. Use another",
    ),
    "alpha": ({"alpha": 0.1}, {}, "contains a fit with alpha=0.0, but now alpha=0.1"),
    "more epochs": (
        {"max_iter": 700},
        {},
        r"but now max_iter=700\..*To train that fit for more epochs, .*warm_start=True",
    ),
    "seed": ({"random_state": 1}, {}, "contains a fit with random_state=0, but now random_state=1"),
    "X": ({}, {"X": X + 1}, r"other data: X was shape \(60, 3\), float64, checksum"),
    "y": ({}, {"y": Y[::-1]}, r"other data: y was shape \(60,\)"),
    "rows": ({}, {"X": X[:50], "y": Y[:50]}, r"other data: X was shape \(60, 3\).* now is shape \(50, 3\)"),
    "weights": ({}, {"sample_weight": np.ones(60)}, "other data: sample_weight was absent"),
    "column names": ({}, {"X": pd.DataFrame(X, columns=["a", "b", "c"])}, "columns was absent, and now is a, b, c"),
    "no seed": ({"random_state": None}, {}, "contains a fit with random_state=0, but now random_state=None"),
    "generator": (
        {"random_state": np.random.RandomState(1)},
        {},
        r"random_state=0, but now random_state=RandomState\(MT19937\)",
    ),
}


@needs_callbacks
@pytest.mark.parametrize(("settings", "data", "message"), OTHER.values(), ids=OTHER)
def test_a_checkpoint_of_another_fit_is_refused(settings, data, message, tmp_path):
    """The error says what differs; neither the file nor the estimator is changed."""
    path = tmp_path / "model.pkl"
    resuming(path).fit(X, Y)
    written = path.read_bytes()
    model = resuming(path, **settings)
    with pytest.raises(ValueError, match=message):
        model.fit(**{"X": X, "y": Y} | data)
    assert path.read_bytes() == written
    assert not hasattr(model, "params_")


@needs_callbacks
def test_a_checkpoint_of_other_classes_is_refused(tmp_path):
    """Though callables receive the same indices of classes: the predictions would be labels of the other fit."""
    path = tmp_path / "model.pkl"
    model = make(AnalyticClassifier).set_callbacks(Checkpoint(path, resume=True))
    model.fit(X, LABELS)
    with pytest.raises(ValueError, match=r"other data: classes was \['no', 'yes'\], and now is \[False, True\]"):
        model.fit(X, LABELS == "yes")
    assert set(model.predict(X)) == {"no", "yes"}


@needs_callbacks
def test_only_files_that_can_say_what_they_hold_are_resumed(tmp_path):
    """A file of another estimator, and one of a training that no fit began."""
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(resuming(path).set_callbacks().partial_fit(X, Y)))
    with pytest.raises(ValueError, match="was written during partial_fit, which fit cannot resume"):
        resuming(path).fit(X, Y)
    path.write_bytes(pickle.dumps(make(AnalyticDensity).fit(X)))
    with pytest.raises(ValueError, match="does not contain a fit of AnalyticRegressor; got AnalyticDensity"):
        resuming(path).fit(X, Y)
    path.write_bytes(b"no pickle")
    with pytest.raises(pickle.UnpicklingError) as raised:
        resuming(path).fit(X, Y)
    assert f"Checkpoint was reading {path} to resume from it. Remove the file to train from the start." in (
        raised.value.__notes__
    )


@needs_callbacks
def test_chunks_and_functions_by_value_resume_too(tmp_path):
    """Chunks are known by their checksums, functions that cloudpickle copied by their code."""
    path = tmp_path / "model.pkl"
    chunks = [(X[:30], Y[:30]), (X[30:], Y[30:])]

    def fit(scale=1.0, of=chunks):
        def forward(params, X):
            return scale * (X @ params["W"] + params["b"])

        def gradient(params, X, y):
            d = scale * (forward(params, X) - y) / len(X)
            return {"W": X.T @ d, "b": d.sum()}

        model = make(forward=forward, gradient=gradient, init={"W": np.zeros(3), "b": 0.0})
        checkpoint = Checkpoint(path, resume=True, dump=cloudpickle.dump)
        return model.set_callbacks(checkpoint).fit_chunks(of)

    first, again = fit(), fit()
    assert_array_equal(again.predict(X), first.predict(X))
    with pytest.raises(ValueError, match="contains a fit with forward="):
        fit(scale=2.0)
    with pytest.raises(ValueError, match="other data: X of chunk 1 was"):
        fit(of=[chunks[0], (X[30:] + 1, Y[30:])])


CALLS = []


def interrupting(params, X, y):
    """The gradient; its eleventh call is interrupted."""
    CALLS.append(None)
    if len(CALLS) == 11:
        raise KeyboardInterrupt
    return linear_gradient(params, X, y)


@needs_callbacks
@pytest.mark.parametrize("resume", [True, False])
def test_ctrl_c_in_the_middle_of_an_epoch_resumes_to_the_bit(resume, tmp_path):
    """The file is that of the last whole epoch, whoever loads it: no step is taken twice."""
    CALLS.clear()
    settings = {"forward": linear_forward, "gradient": interrupting, "init": linear_init, "check_gradient": False}
    path = tmp_path / "model.pkl"
    checkpoint = Checkpoint(path, resume=resume)
    with pytest.warns(UserWarning, match="Training was interrupted"):
        make(**settings).set_callbacks(checkpoint).fit(X, Y)
    loaded = pickle.loads(path.read_bytes()).set_params(warm_start=True)
    resumed = (make(**settings).set_callbacks(checkpoint) if resume else loaded).fit(X, Y)
    whole = make(**settings).fit(X, Y)
    assert resumed.n_steps_ == whole.n_steps_
    assert_array_equal(resumed.predict(X), whole.predict(X))


@needs_callbacks
def test_a_name_and_its_object_are_the_same_fit_and_a_generator_its_seed(tmp_path):
    """`"adam"` and `Adam()`; two generators that start alike."""
    path = tmp_path / "model.pkl"
    first = resuming(path, random_state=np.random.RandomState(3)).fit(X, Y)
    again = resuming(path, random_state=np.random.RandomState(3), optimizer=Adam()).fit(X, Y)
    assert_array_equal(again.predict(X), first.predict(X))
    with pytest.raises(ValueError, match=r"contains a fit with random_state=RandomState"):
        resuming(path, random_state=np.random.RandomState(4)).fit(X, Y)
