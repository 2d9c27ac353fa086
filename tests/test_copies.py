"""θ, history and state belong to one object: what leaves it is a copy, or cannot be written to."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.callback_support import CallbackSupportMixin
from sk_analytic.optimizers import ASGD, SGD, Adam, Phases, ScheduleFreeAdamW

# Fits of a few epochs are enough here.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

needs_callbacks = pytest.mark.skipif(CallbackSupportMixin is None, reason="needs callbacks")

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 1.0
Y_OF = {AnalyticRegressor: Y, AnalyticClassifier: (Y > 1).astype(int), AnalyticDensity: None, AnalyticTransformer: None}
SETTINGS = {
    "adam": {},
    "momentum": {"optimizer": SGD(0.01, momentum=0.9)},
    "an average": {"optimizer": ASGD(0.01)},
    "schedule free": {"optimizer": ScheduleFreeAdamW(0.01)},
    "early stopping": {"early_stopping": True},
    "scored": {"early_stopping": True, "scoring": "r2"},
    "lbfgs": {"optimizer": "lbfgs"},
    "phases": {"optimizer": Phases([(Adam(), 3), ("lbfgs", 3)])},
}


def made(max_iter=4, **settings):
    return AnalyticRegressor(max_iter=max_iter, batch_size=20, random_state=0, tol=0, warm_start=True, **settings)


def seen(model):
    """All that training writes, as values of its own that can be compared."""
    state = model.optimizer_state_
    slots = [] if state is None else [slot.tolist() for link in state.links for slot in link.slots.values()]
    counts = model.n_iter_, model.n_steps_, None if state is None else (state.step, state.epoch)
    params = {name: np.array(leaf).tolist() for name, leaf in model.params_.items()}
    curves = model.loss_curve_, model.gradient_norm_curve_, model.validation_scores_
    return params, slots, curves, counts, model.predict(X).tolist()


def spoil(model):
    """Write to all that is handed out, as far as it can be."""
    model.params_["coef"][...] = np.nan
    model.params_["intercept"] = np.nan
    for curve in (model.loss_curve_, model.gradient_norm_curve_, model.validation_scores_ or []):
        curve.clear()
    for link in getattr(model.optimizer_state_, "links", []):
        for slot in link.slots.values():
            with pytest.raises(ValueError, match="read-only"):
                slot[...] = np.nan
        link.slots.clear()
        link.records.clear()


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("change", ["write", "fit", "partial_fit"])
@pytest.mark.parametrize("which", ["the copy", "the original"])
def test_what_is_done_to_one_does_not_change_the_other(settings, change, which):
    """`copy.copy` of a fitted estimator: writing to it, fitting it further, one epoch more."""
    original = made(**settings).fit(X, Y)
    twin = copy.copy(original)
    assert seen(twin) == seen(original)
    one, other = (twin, original) if which == "the copy" else (original, twin)
    before = seen(other)
    if change == "write":
        spoil(one)
    elif change == "fit":
        one.fit(X, Y)
    elif (
        "optimizer" in settings and not hasattr(settings["optimizer"], "learning_rate") or "early_stopping" in settings
    ):
        pytest.skip("has no partial_fit")
    else:
        one.partial_fit(X, Y)
    assert seen(other) == before


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_copy_goes_on_as_the_original_does(settings):
    """To the bit, as one from a pickle does: nothing is lost in copying."""
    original = made(**settings).fit(X, Y)
    twins = [
        copy.copy(original),
        copy.deepcopy(original),
        pickle.loads(pickle.dumps(original)),
        copy.copy(copy.copy(original)),
    ]
    for model in (original, *twins):
        model.fit(X, Y)
    assert all(seen(twin) == seen(original) for twin in twins)


@pytest.mark.parametrize("cls", Y_OF)
def test_a_copy_of_each_estimator_has_parameters_of_its_own(cls):
    """Copies and originals share no memory that training writes; the hyperparameters are the same objects."""
    original = cls(max_iter=3, random_state=0).fit(X, Y_OF[cls])
    twin = copy.copy(original)
    for name, leaf in original.params_.items():
        assert not np.shares_memory(leaf, twin.params_[name])
    assert twin._training is not original._training
    assert twin.get_params() == original.get_params()
    assert copy.copy(cls()).get_params() == cls().get_params()


def test_a_copy_keeps_what_the_user_has_set():
    """Attributes of one's own, and parameters set by hand."""
    original = made().fit(X, Y)
    original.mine, original.params_ = "mine", {"coef": np.ones(3), "intercept": 2.0}
    twin = copy.copy(original)
    assert twin.mine == "mine"
    original.params_["coef"][...] = 0
    assert_array_equal(twin.params_["coef"], 1.0)
    assert_array_equal(twin.predict(X), X @ np.ones(3) + 2)


def test_curves_are_lists_of_their_own():
    """Whoever changes one changes neither the model nor what is read next."""
    model = made(early_stopping=True).fit(X, Y)
    for name in ("loss_curve_", "gradient_norm_curve_", "validation_scores_"):
        first = getattr(model, name)
        assert type(first) is list
        assert len(first) == model.n_iter_
        first.clear()
        assert len(getattr(model, name)) == model.n_iter_


@pytest.mark.parametrize("name", ["loss_curve_", "gradient_norm_curve_", "validation_scores_", "optimizer_state_"])
def test_an_estimator_that_is_not_fitted_has_none(name):
    """As any fitted attribute of scikit-learn's."""
    assert not hasattr(AnalyticRegressor(), name)
    with pytest.raises(AttributeError, match=f"This AnalyticRegressor is not fitted, so it has no {name}"):
        getattr(AnalyticRegressor(), name)


# ---- scorers ----


def r2(estimator, X, y):
    return 1 - np.mean((y - estimator.predict(X)) ** 2) / np.var(y)


def normalize(estimator, X, y):
    estimator.params_["coef"] /= np.abs(estimator.params_["coef"]).max() + 1.0
    estimator.params_["intercept"] = 0.0
    return r2(estimator, X, y)


def train(estimator, X, y):
    estimator.set_params(early_stopping=False, scoring=None).partial_fit(X, y)
    return 0.0


def write(estimator, X, y):
    estimator.params_["coef"][...] = 0
    estimator.loss_curve_.clear()
    estimator.__dict__.pop("n_iter_")
    return 0.0


@pytest.mark.parametrize("optimizer", ["adam", ScheduleFreeAdamW(0.01), "lbfgs"], ids=str)
@pytest.mark.parametrize("scorer", [normalize, write, train])
def test_a_scorer_changes_its_copy_alone(scorer, optimizer):
    """What it does to the parameters, the curves, or by training further, is not seen by the fit."""
    if scorer is train and optimizer == "lbfgs":
        pytest.skip("has no partial_fit")

    def constant(estimator, X, y):
        return 0.0

    def spoiling(estimator, X, y):
        scorer(estimator, X, y)
        return 0.0

    settings = {"early_stopping": True, "n_iter_no_change": np.inf, "optimizer": optimizer}
    fits = [made(scoring=scoring, max_iter=5, **settings).fit(X, Y) for scoring in (constant, spoiling)]
    assert seen(fits[0]) == seen(fits[1])


def test_a_scorer_predicts_with_what_it_has_made_of_its_copy():
    """Arrays written in place and numbers that were replaced: the copy is an estimator of its own."""
    values = []

    def scorer(estimator, X, y):
        estimator.params_["coef"][...] = [1.0, 0.0, 0.0]
        estimator.params_["intercept"] = 5.0
        values.append(np.abs(estimator.predict(X) - X[:, 0] - 5).max())
        estimator.params_ = {"coef": np.zeros(3), "intercept": 7.0}
        values.append(np.abs(estimator.predict(X) - 7).max())
        return 0.0

    made(early_stopping=True, scoring=scorer).fit(X, Y)
    assert max(values) < 1e-12


def test_a_copy_that_a_scorer_keeps_stays_as_it_was():
    """Each call has one of its own: parameters, curves and counts of that epoch; it predicts and trains further."""
    kept, told = [], []

    def scorer(estimator, X, y):
        kept.append(estimator)
        told.append((estimator.n_iter_, estimator.loss_curve_, estimator.params_["coef"].copy()))
        return 0.0

    model = made(early_stopping=True, scoring=scorer, max_iter=5, n_iter_no_change=np.inf).fit(X, Y)
    before = seen(model)
    assert [n_iter for n_iter, _, _ in told] == [0, 1, 2, 3, 4, 5]
    for estimator, (n_iter, curve, coef) in zip(kept, told, strict=True):
        assert estimator.n_iter_ == n_iter == len(curve)
        assert estimator.loss_curve_ == curve
        assert_array_equal(estimator.params_["coef"], coef)
        assert_array_equal(estimator.predict(X), X @ coef + estimator.params_["intercept"])
        estimator.set_params(early_stopping=False, scoring=None).partial_fit(X, Y)
        assert estimator.n_iter_ == n_iter + 1
    assert seen(model) == before


# ---- callbacks ----


class Each:
    """A callback that does something with what it is handed after each epoch."""

    def __init__(self, do):
        self.do = do

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name in ("epoch", "iteration"):
            self.do(estimator, fitted_estimator)


def rename(estimator, fitted):
    estimator.params_["coef"] = np.zeros(3)
    estimator.params_.pop("intercept")


def further(model):
    model.set_callbacks().set_params(early_stopping=False, scoring=None).fit(X, Y)


CALLBACKS = {
    "writes to its copy": lambda estimator, fitted: spoil(fitted),
    "trains its copy": lambda estimator, fitted: further(fitted),
    "writes to a copy of the estimator": lambda estimator, fitted: spoil(copy.copy(estimator)),
    "trains a copy of the estimator": lambda estimator, fitted: further(copy.copy(estimator)),
    "writes to the estimator's dict": rename,
    "clears the estimator's curves": lambda estimator, fitted: estimator.loss_curve_.clear(),
}


@needs_callbacks
@pytest.mark.parametrize("do", CALLBACKS.values(), ids=CALLBACKS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_callback_changes_nothing_of_the_fit(do, settings):
    """In its midst: the fit ends as it does without."""
    plain = made(**settings).fit(X, Y)
    watched = made(**settings).set_callbacks(Each(do)).fit(X, Y)
    assert seen(watched) == seen(plain)


@needs_callbacks
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_copies_made_in_the_midst_of_a_fit_stay_as_they_were(settings):
    """Those that are handed out and those that are made: later epochs, and the state's slots, do not reach them."""
    kept = []

    def keep(estimator, fitted):
        twin = copy.copy(estimator)
        kept.extend([(fitted, seen(fitted)), (twin, seen(twin))])

    made(max_iter=5, **settings).set_callbacks(Each(keep)).fit(X, Y)
    assert len(kept) >= 4
    for model, before in kept:
        assert seen(model) == before
