"""The loop: steps, epochs, stopping, going on, and what happens when something goes wrong."""

import functools
import itertools
import os
import pickle
import re
import signal
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from models import (
    USER_MODELS,
    linear_forward,
    linear_gradient,
    linear_init,
    linear_jacobian,
    linear_loss,
    linear_squared_error,
    linear_vjp,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils import check_random_state

from sk_analytic import (
    AnalyticClassifier,
    AnalyticRegressor,
    AnalyticTransformer,
    DivergenceError,
    get_optimizer,
    get_optimizer_names,
)
from sk_analytic.data.batch import CALLABLE, SHUFFLE, generator
from sk_analytic.optimizers import SGD, use_engine

# Most fits here are cut short on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RULES = [name for name in get_optimizer_names() if hasattr(AnalyticRegressor(optimizer=name), "partial_fit")]
ALL = [(cls, form) for cls, models in USER_MODELS.items() for form in ["default", *models]]
ENDLESS = {"tol": 0.0, "n_iter_no_change": 10**6}


def make_rows(n=50, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, X @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=n)


def make_estimator(cls, form="default", **settings):
    return cls(**{"random_state": 0} | ({} if form == "default" else USER_MODELS[cls][form]) | settings)


def make_target(cls, y):
    return (y > 0).astype(int) if cls is AnalyticClassifier else y


def linear(loss_and_gradient=linear_squared_error, **settings):
    """A regressor with the linear model of a user; it is not checked, so that only training calls it."""
    return AnalyticRegressor(
        linear_forward,
        init=linear_init,
        loss_and_gradient=loss_and_gradient,
        **{"optimizer": "adam", "random_state": 0, "check_gradient": False} | settings,
    )


def flat(params):
    """All numbers of a parameter structure in one vector."""
    leaves = params.values() if isinstance(params, dict) else params
    return np.concatenate([np.ravel(leaf) for leaf in leaves]) if isinstance(leaves, tuple | list) else flat([*leaves])


def assert_same_fit(one, other):
    """Parameters, history and optimizer state agree to the bit."""
    assert_array_equal(flat(one.params_), flat(other.params_))
    assert one.loss_curve_ == other.loss_curve_
    assert (one.n_iter_, one.n_steps_) == (other.n_iter_, other.n_steps_)
    for ours, theirs in zip(one.optimizer_state_.links, other.optimizer_state_.links, strict=True):
        for name in ours.slots:
            assert_array_equal(ours.slots[name], theirs.slots[name])


# Steps and epochs.


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_training_equals_a_loop_by_hand(name, shuffle, weighted):
    """The same batches, gradients and updates give the same parameters, loss curve and counts."""
    X, y = make_rows()
    weight = np.linspace(0.5, 1.5, len(X)) if weighted else None
    model = linear(optimizer=name, batch_size=20, max_iter=4, shuffle=shuffle, **ENDLESS)
    model.fit(X, y, sample_weight=weight)

    theta = linear_init(3, 1)
    curve = []
    optimizer = get_optimizer(name)
    state = optimizer.init(theta)
    seed = check_random_state(0).randint(2**31 - 1)
    for epoch in range(4):
        order = generator(seed, SHUFFLE, epoch).permutation(50) if shuffle else np.arange(50)
        losses = []
        for rows in (order[:20], order[20:40], order[40:]):
            loss, gradient = linear_squared_error(theta, X[rows], y[rows], None if weight is None else weight[rows])
            optimizer.update(state, theta, gradient)
            losses.append(loss * len(rows))
        curve.append(sum(losses) / 50)

    assert_allclose(flat(model.params_), flat(optimizer.eval_params(state, theta)), rtol=1e-12)
    assert_allclose(model.loss_curve_, curve, rtol=1e-12)
    assert (model.n_iter_, model.n_steps_, model.optimizer_state_.step) == (4, 12, 12)
    assert (model.loss_, model.best_loss_) == (model.loss_curve_[-1], min(model.loss_curve_))


def test_loss_of_the_plain_gradient_form_is_that_at_the_end_of_the_epoch():
    """A gradient gives no loss in its steps: it is evaluated after them, here on all rows, penalty included."""
    X, y = make_rows()
    model = AnalyticRegressor(linear_forward, linear_gradient, linear_init, max_iter=3, alpha=0.1).fit(X, y)
    penalty = 0.05 * float(np.sum(flat(model.params_) ** 2))
    assert len(model.loss_curve_) == 3
    assert model.loss_ == pytest.approx(linear_squared_error(model.params_, X, y)[0] + penalty, rel=1e-12)


def test_batch_without_weight_is_skipped():
    """Rows of weight 0 that fill a batch do not reach the callable, and the step counts nowhere."""
    X, y = make_rows(30)
    seen = []

    def loss_and_gradient(params, X, y, sample_weight):
        seen.append(len(X))
        return linear_squared_error(params, X, y, sample_weight)

    weight = np.r_[np.ones(10), np.zeros(10), np.ones(10)]
    model = linear(loss_and_gradient, batch_size=10, shuffle=False, max_iter=2).fit(X, y, sample_weight=weight)
    assert (seen, model.n_steps_, model.n_iter_) == ([10] * 4, 4, 2)


@pytest.mark.parametrize("cls", USER_MODELS)
def test_summing_blocks_of_rows_equals_one_call(cls):
    """For a full-batch method, batch_size only cuts the sum over rows into parts."""
    X, y = make_rows()
    y = make_target(cls, y)
    for form, model in USER_MODELS[cls].items():
        whole, parts = (
            cls(**model | {"optimizer": "lbfgs", "max_iter": 2, "random_state": 0, "batch_size": size}).fit(X, y)
            for size in ("auto", 7)
        )
        assert_allclose(flat(parts.params_), flat(whole.params_), rtol=1e-12, atol=1e-13, err_msg=form)
        assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-12, err_msg=form)


# Stopping.


def scripted(values):
    """A loss that takes one value after another, beside a gradient that is zero."""
    left = iter(values)
    return {
        "gradient": lambda params, X: {"W": np.zeros((3, 1)), "b": np.zeros(1)},
        "loss": lambda params, X: next(left),
    }


NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "n_epochs"),
    [
        ([1.0] * 9, 5),
        ([1.0, 0.95, 0.9, 0.85, 0.8], 5),
        ([1.0, 0.8, 0.6, 0.6, 0.6, 0.6, 0.6], 7),
        ([1.0, 0.95, 0.8, 0.8, 0.8, 0.8, 0.8], 7),
        ([1e-6, 0.95e-6, 0.9e-6, 0.85e-6, 0.8e-6, 0.799e-6, 0.798e-6, 0.797e-6, 0.796e-6], 9),
        ([1e6 + 1, 1e6 + 0.5, 1e6 + 0.4, 1e6 + 0.35, 1e6 + 0.35, 1e6 + 0.35, 1e6 + 0.35], 7),
    ],
)
def test_training_stops_after_more_than_n_iter_no_change_epochs_without_a_gain_of_tol(losses, n_epochs):
    """An epoch improves if it gains more than a share tol of the best loss, or of what was gained before if less."""
    X, y = make_rows()
    model = AnalyticRegressor(linear_forward, init=linear_init, **scripted(losses), tol=0.1, n_iter_no_change=3)
    model.set_params(optimizer="adam", check_gradient=False, max_iter=len(losses)).fit(X, y)
    assert model.n_iter_ == n_epochs
    assert_array_equal(model.loss_curve_, losses[:n_epochs])


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_at_the_end_of_an_epoch_is_a_divergence(value):
    """The epochs before it are kept, and nothing of its own."""
    X, y = make_rows()
    settings = scripted([1.0, 0.5, value]) | {"optimizer": "adam", "check_gradient": False}
    model = AnalyticRegressor(linear_forward, init=linear_init, **settings)
    with pytest.raises(DivergenceError, match=f"The loss is {value} after epoch 2"):
        model.fit(X, y)
    assert model.loss_curve_ == [1.0, 0.5]
    assert np.isfinite(flat(model.params_)).all()


def test_without_a_loss_the_norm_of_the_gradient_decides():
    """With loss=None there is no curve; training stops when the gradient no longer shrinks, with a small one."""
    X, y = make_rows()
    model = AnalyticRegressor(
        linear_forward,
        linear_gradient,
        linear_init,
        loss=None,
        optimizer=SGD(learning_rate=0.5),
        max_iter=500,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, y)
    assert (model.loss_curve_, model.loss_, model.best_loss_) == ([], None, None)
    assert model.n_iter_ < 200
    norms = np.array(model.gradient_norm_curve_)
    assert len(norms) == model.n_iter_
    best = np.minimum.accumulate(norms)[:-1]
    gains = (best - norms[1:]) / best
    assert gains[-12] > model.tol >= gains[-11:].max()
    assert np.abs(flat(linear_squared_error(model.params_, X, y)[1])).max() < 1e-3


@pytest.mark.parametrize("cls", USER_MODELS)
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_too_few_iterations_are_a_convergence_warning(cls, optimizer):
    """It names the estimator and is scikit-learn's; partial_fit, which never is the end, does not warn."""
    X, y = make_rows()
    y = make_target(cls, y)
    form = next(iter(USER_MODELS[cls]))
    model = make_estimator(cls, form, optimizer=optimizer, max_iter=2)
    with pytest.warns(ConvergenceWarning, match=f"{cls.__name__} has not converged"):
        model.fit(X, y)
    if optimizer == "adam":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.partial_fit(X, y)


def test_verbose_prints_a_line_an_epoch(capsys):
    """Epoch and loss; the norm of the gradient where there is no loss; the validation score beside it."""
    X, y = make_rows()
    model = linear(max_iter=3, verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Iteration {i + 1}, loss = {loss:.8f}" for i, loss in enumerate(model.loss_curve_)]
    linear(max_iter=2, verbose=True, early_stopping=True).fit(X, y)
    assert re.findall("^Validation score: -?[0-9.]+$", capsys.readouterr().out, re.MULTILINE).__len__() == 2
    gradient_only = AnalyticRegressor(linear_forward, linear_gradient, linear_init, loss=None)
    gradient_only.set_params(max_iter=2, verbose=1).fit(X, y)
    assert re.fullmatch(r"(Iteration \d, gradient norm = [0-9.]+\n){2}", capsys.readouterr().out)
    linear(max_iter=3).fit(X, y)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("settings", "judged"),
    [
        ({}, "Training loss"),
        ({"early_stopping": True}, "Validation score"),
        ({"loss_and_gradient": None, "gradient": linear_gradient, "loss": None}, "Gradient norm"),
    ],
    ids=["loss", "score", "gradient"],
)
def test_verbose_says_why_training_stopped(settings, judged, capsys):
    """In the words of scikit-learn's networks, with what was looked at."""
    X, y = make_rows()
    linear(verbose=1, tol=0.5, n_iter_no_change=2, **{"loss_and_gradient": linear_squared_error} | settings).fit(X, y)
    expected = f"{judged} did not improve more than tol=0.500000 for 2 consecutive epochs. Stopping."
    assert capsys.readouterr().out.splitlines()[-1] == expected

    if "loss" not in settings:
        y = (y > 0).astype(int)
        network = MLPClassifier if settings else MLPRegressor
        network(verbose=1, tol=0.5, n_iter_no_change=2, random_state=0, **settings).fit(X, y)
        assert capsys.readouterr().out.splitlines()[-1] == expected


# Early stopping.


@pytest.mark.parametrize("cls", USER_MODELS)
@pytest.mark.parametrize("optimizer", [SGD(learning_rate=0.3), "lbfgs"], ids=["sgd", "lbfgs"])
def test_early_stopping_keeps_the_parameters_of_the_best_score(cls, optimizer):
    """They are those of a run that ends with the best epoch, and training ends soon after it."""
    X, y = make_rows(60, seed=3)
    y = make_target(cls, y)
    settings = {"optimizer": optimizer, "early_stopping": True, "tol": 0.0, "n_iter_no_change": 3, "batch_size": 10}
    form = "loss_and_gradient"
    model = make_estimator(cls, form, max_iter=60, **settings).fit(X, y)
    scores = model.validation_scores_
    best = int(np.argmax(scores))
    assert len(scores) == model.n_iter_ <= best + 1 + 3 + 1
    shorter = make_estimator(cls, form, max_iter=best + 1, **settings).fit(X, y)
    assert_array_equal(flat(model.params_), flat(shorter.params_))
    assert shorter.validation_scores_ == scores[: best + 1]


@pytest.mark.parametrize("cls", USER_MODELS)
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_early_stopping_scores_rows_that_training_does_not_see(cls, optimizer):
    """A fifth of the rows is held out, and the last score is the estimator's own on just these."""
    X, y = make_rows()
    y = make_target(cls, y)
    model, trained_on = USER_MODELS[cls]["gradient"], set()

    @functools.wraps(model["gradient"])
    def gradient(params, X, **received):
        trained_on.update(X[:, 0].tolist())
        return model["gradient"](params, X, **received)

    settings = {"early_stopping": True, "validation_fraction": 0.2, "check_gradient": False, "random_state": 0}
    fitted = cls(**model | settings | {"gradient": gradient, "max_iter": 1, "optimizer": optimizer}).fit(X, y)
    held_out = np.array([value not in trained_on for value in X[:, 0]])
    assert held_out.sum() == 10
    if cls is AnalyticTransformer:  # which has no score but its loss
        score = -model["loss"](fitted.params_, X[held_out])
    else:
        score = fitted.score(X[held_out], y[held_out])
    assert fitted.validation_scores_ == [pytest.approx(score, rel=1e-12)]


def test_early_stopping_keeps_the_shares_of_the_classes():
    """The split is stratified: of 10 rare rows in 100, one is held out."""
    X, _ = make_rows(100)
    y = np.r_[np.ones(10, int), np.zeros(90, int)]
    seen = []

    def gradient(params, X, y):
        seen.append(y.copy())
        return {"W": np.zeros((3, 1)), "b": np.zeros(1)}

    model = AnalyticClassifier(linear_forward, gradient, linear_init, check_gradient=False, max_iter=1, random_state=0)
    model.set_params(early_stopping=True).fit(X, y)
    assert (len(seen[0]), seen[0].sum()) == (90, 9)


def test_early_stopping_needs_rows_to_hold_out():
    """One row cannot be split; the error says what wanted to split it."""
    X, y = make_rows(1)
    with pytest.raises(ValueError, match="train set will be empty") as raised:
        AnalyticRegressor(early_stopping=True).fit(X, y)
    assert "validation_fraction=0.1" in raised.value.__notes__[0]


# Going on.


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("reload", [False, True], ids=["same object", "reloaded"])
def test_warm_start_goes_on_as_if_it_had_not_stopped(name, reload):
    """Twice k epochs are 2k epochs to the bit: parameters, optimizer state, orders of rows, counts."""
    X, y = make_rows()
    settings = {"optimizer": name, "batch_size": 20, **ENDLESS}
    at_once = linear(max_iter=6, **settings).fit(X, y)
    in_two = linear(max_iter=3, warm_start=True, **settings).fit(X, y)
    if reload:
        in_two = pickle.loads(pickle.dumps(in_two))
    assert_same_fit(in_two.fit(X, y), at_once)


@pytest.mark.parametrize(("cls", "form"), ALL, ids=lambda value: getattr(value, "__name__", value))
def test_partial_fit_goes_on_as_if_it_were_one_fit(cls, form):
    """As many calls of partial_fit as epochs, reloaded in between, equal fit to the bit."""
    X, y = make_rows()
    y = make_target(cls, y)
    classes = {"classes": [0, 1]} if cls is AnalyticClassifier else {}
    settings = {"batch_size": 20, **ENDLESS}
    at_once = make_estimator(cls, form, max_iter=4, **settings).fit(X, y)
    in_parts = make_estimator(cls, form, **settings)
    for _ in range(4):
        in_parts = pickle.loads(pickle.dumps(in_parts.partial_fit(X, y, **classes)))
    assert_same_fit(in_parts, at_once)


@pytest.mark.parametrize("cls", USER_MODELS)
def test_warm_start_of_a_full_batch_method_begins_where_it_ended(cls):
    """Iterations are counted on, and the second run begins at the loss of the first."""
    X, y = make_rows()
    y = make_target(cls, y)
    model = make_estimator(cls, "loss_and_gradient", optimizer="lbfgs", max_iter=3, warm_start=True).fit(X, y)
    first = model.loss_
    model.fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == 6
    assert model.loss_curve_[3] <= first


def test_fit_after_partial_fit_starts_anew():
    """Without warm_start nothing is left of earlier calls."""
    X, y = make_rows()
    settings = {"batch_size": 20, "max_iter": 3}
    used = linear(**settings).partial_fit(X, y).partial_fit(X, y).fit(X, y)
    assert_same_fit(used, linear(**settings).fit(X, y))


def test_partial_fit_takes_weights_as_they_are():
    """A chunk of weight 2 counts twice, where fit would scale all weights to mean 1."""
    X, y = make_rows()

    def moved(method, weight):
        model = linear(optimizer=SGD(learning_rate=0.1), max_iter=1)
        return flat(getattr(model, method)(X, y, sample_weight=weight).params_)

    twice = np.full(50, 2.0)
    assert_allclose(moved("partial_fit", twice), 2 * moved("partial_fit", None), rtol=1e-14)
    assert_allclose(moved("fit", twice), moved("fit", None), rtol=1e-14)


# Random numbers.


@pytest.mark.parametrize(("cls", "form"), ALL, ids=lambda value: getattr(value, "__name__", value))
def test_the_same_random_state_gives_the_same_fit(cls, form):
    """To the bit, early stopping and shuffling included."""
    X, y = make_rows()
    y = make_target(cls, y)
    settings = {"max_iter": 3, "batch_size": 20, "early_stopping": True}
    assert_same_fit(*(make_estimator(cls, form, **settings).fit(X, y) for _ in range(2)))


def test_another_random_state_gives_another_order():
    """Seeds differ; a RandomState instance moves on from fit to fit, as everywhere in scikit-learn."""
    X, y = make_rows()
    state = np.random.RandomState(0)
    fits = [linear(random_state=s, batch_size=20, max_iter=1).fit(X, y) for s in (0, 1, state, state)]
    one, two, three, four = (flat(model.params_) for model in fits)
    assert_array_equal(one, three)
    assert (one != two).any()
    assert (three != four).any()


def test_rng_of_a_callable_comes_from_its_position():
    """Each (epoch, step) has numbers of its own, the same in a repeat and after a reload."""
    X, y = make_rows()

    def drawn(run):
        numbers = []

        def loss_and_gradient(params, X, y, rng):
            numbers.append(rng.random())
            return linear_squared_error(params, X, y)

        run(linear(loss_and_gradient, batch_size=20, max_iter=3))
        return numbers

    def fit(model):
        model.fit(X, y)

    def partial_fit(model):
        for _ in range(3):
            model.partial_fit(X, y)

    numbers = drawn(fit)
    seed = check_random_state(0).randint(2**31 - 1)
    assert numbers == [generator(seed, CALLABLE, epoch, step).random() for epoch in range(3) for step in range(3)]
    assert len(set(numbers)) == 9
    assert numbers == drawn(fit) == drawn(partial_fit)


# What is not finite.


class Recorded:
    """`linear_squared_error`, which remembers the parameters of each call and does something else in one of them."""

    def __init__(self, position, instead):
        self.position, self.instead, self.params = position, instead, []

    def __call__(self, params, X, y):
        self.params.append({name: leaf.copy() for name, leaf in params.items()})
        loss, gradient = linear_squared_error(params, X, y)
        return self.instead(loss, gradient) if len(self.params) == self.position + 1 else (loss, gradient)


def with_nan(loss, gradient):
    gradient["W"][1] = np.nan
    return loss, gradient


def with_inf(loss, gradient):
    return loss, gradient | {"b": np.full(1, -np.inf)}


@pytest.mark.parametrize(
    ("instead", "message"),
    [
        (
            with_nan,
            r"The gradient is not finite in epoch 2, batch 1 .*: parameter 'W' \(1 entries\), the loss is [0-9.]+",
        ),
        (
            with_inf,
            r"The gradient is not finite in epoch 2, batch 1 .*: parameter 'b' \(1 entries\), the loss is [0-9.]+",
        ),
        (lambda loss, gradient: (np.inf, gradient), "The loss is inf in epoch 2, batch 1 .*the gradient is finite"),
        (lambda loss, gradient: (np.nan, gradient), "The loss is nan in epoch 2, batch 1 .*the gradient is finite"),
    ],
)
def test_what_is_not_finite_is_not_applied(instead, message):
    """The error says what, where and in which block; the parameters are those before the step."""
    X, y = make_rows()
    recorded = Recorded(7, instead)
    model = linear(recorded, batch_size=20)
    with pytest.raises(DivergenceError, match=message):
        model.fit(X, y)
    assert (model.n_iter_, model.n_steps_, len(model.loss_curve_)) == (2, 7, 2)
    assert_array_equal(flat(model.params_), flat(recorded.params[7]))
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_divergence_in_the_first_step_points_to_the_start(optimizer):
    """Then neither the rate nor the number of steps is to blame."""
    X, y = make_rows()
    model = linear(Recorded(0, with_nan), optimizer=optimizer)
    with pytest.raises(DivergenceError, match=r"parameter 'W' \(1 entries\).* first step, at the starting parameters"):
        model.fit(X, y)
    assert_array_equal(flat(model.params_), np.zeros(4))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's own, in the user's callable
def test_divergence_after_growth_points_to_the_learning_rate():
    """A rate that is too large is named as the cause, with what to do; a smaller one then does."""
    X, y = make_rows()
    model = linear(optimizer=SGD(learning_rate=30.0), batch_size=10, max_iter=1000, n_iter_no_change=1000)
    with pytest.raises(DivergenceError, match="learning rate is probably too large. Decrease it, scale X, or clip"):
        model.fit(X, y)
    assert np.isfinite(flat(model.params_)).all()
    model.set_params(optimizer__learning_rate=0.1).fit(X, y)
    assert r2_score(y, model.predict(X)) > 0.9


def test_divergence_without_growth_points_to_the_callable():
    """With parameters of moderate size, log(0) and the like come first."""
    X, y = make_rows()
    with pytest.raises(DivergenceError, match=r"were of moderate size. Look for log\(0\)"):
        linear(Recorded(7, with_nan), batch_size=20).fit(X, y)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's own, in the update itself
@pytest.mark.parametrize("max_iter", [1, 5])
def test_a_step_that_overflows_is_noticed(max_iter):
    """A finite gradient times a huge rate: an error, also if it was the last step, and finite parameters."""
    X, y = make_rows()
    model = AnalyticRegressor(
        linear_forward,
        lambda params, X: {"W": np.full((3, 1), 1e300), "b": np.zeros(1)},
        linear_init,
        loss=None,
        optimizer=SGD(learning_rate=1e10),
        max_iter=max_iter,
    )
    with pytest.raises(DivergenceError, match="values are not finite .*'W'"):
        model.fit(X, y)
    assert np.isfinite(flat(model.params_)).all()


def test_a_gradient_whose_square_overflows_is_not_refused():
    """In float32 a gradient of 1e25 has no finite square, but it is finite, and so is the step."""
    X, y = make_rows()
    X, y = X.astype(np.float32), y.astype(np.float32)
    model = AnalyticRegressor(
        linear_forward,
        lambda params, X: {"W": np.full((3, 1), 1e25, np.float32), "b": np.zeros(1, np.float32)},
        linear_init,
        loss=None,
        optimizer=SGD(learning_rate=1e-25),
        max_iter=2,
    ).fit(X, y)
    assert model.n_steps_ == 2
    assert_allclose(flat(model.params_), [-2, -2, -2, 0], rtol=1e-6)


def test_a_trial_of_a_line_search_may_be_infinite():
    """A full-batch method is judged by its result: it steps back from a trial that overflows, and converges.

    Rows of size 1000 send the first trial of this Poisson regression to exp(500000).
    """
    X, _ = make_rows()
    y = np.round(np.exp(0.5 * X[:, 0]))
    with np.errstate(all="ignore"):
        model = AnalyticRegressor(loss="poisson", optimizer="lbfgs", tol=1e-5).fit(1000 * X, y)
    reference = AnalyticRegressor(loss="poisson", optimizer="lbfgs", tol=1e-6).fit(X, y)
    assert_allclose(1000 * model.params_["coef"], reference.params_["coef"], rtol=1e-3)


# Ctrl-C.


def interrupt(loss, gradient):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("optimizer", "position"), [("adam", 7), ("lbfgs", 80)])
def test_ctrl_c_in_a_callable_leaves_a_fitted_estimator(optimizer, position):
    """A warning, and the state as far as training came."""
    X, y = make_rows()
    recorded = Recorded(position, interrupt)
    model = linear(recorded, optimizer=optimizer, batch_size=20 if optimizer == "adam" else "auto")
    with pytest.warns(UserWarning, match="interrupted; the estimator keeps the parameters of its last update"):
        model.fit(X, y)
    assert model.n_iter_ == {"adam": 2, "lbfgs": 4}[optimizer]
    assert linear_squared_error(model.params_, X, y)[0] < linear_squared_error(recorded.params[0], X, y)[0]
    assert model.predict(X).shape == y.shape


class SignalsItself(SGD):
    """Gets SIGINT in the middle of its fourth update; Python then calls the handler before the next line."""

    def update(self, state, theta, grads, *, missing=()):
        if state.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        super().update(state, theta, grads, missing=missing)


@pytest.fixture
def sigint():
    """Puts the handler back that was there; a test sets its own."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread may set handlers")
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process on Windows")
def test_ctrl_c_waits_for_the_update(sigint):
    """The signal is held back until the update is complete: parameters, state and counts agree."""
    X, y = make_rows()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = linear(optimizer=SignalsItself(learning_rate=0.1), batch_size=20)
    with pytest.warns(UserWarning, match="Training was interrupted"):
        model.fit(X, y)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (model.n_steps_, model.optimizer_state_.step) == (4, 4)
    recorded = Recorded(4, interrupt)
    with pytest.warns(UserWarning, match="Training was interrupted"):
        linear(recorded, optimizer=SGD(learning_rate=0.1), batch_size=20).fit(X, y)
    assert_array_equal(flat(model.params_), flat(recorded.params[4]))


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process on Windows")
def test_the_users_own_handler_is_called_after_the_update(sigint):
    """A handler that does not raise is called once, when the update is complete, and training goes on."""
    X, y = make_rows()
    called = []
    signal.signal(signal.SIGINT, handler := lambda signum, frame: called.append(signum))
    settings = {"batch_size": 20, "max_iter": 3}
    model = linear(optimizer=SignalsItself(learning_rate=0.1), **settings).fit(X, y)
    assert called == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler
    undisturbed = linear(optimizer=SGD(learning_rate=0.1), **settings).fit(X, y)
    assert_array_equal(flat(model.params_), flat(undisturbed.params_))


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process on Windows")
@pytest.mark.parametrize("disposition", [signal.SIG_IGN])
def test_an_ignored_signal_stays_ignored(sigint, disposition):
    """Where Ctrl-C does nothing, as under nohup, training does not bring it back."""
    X, y = make_rows()
    signal.signal(signal.SIGINT, disposition)
    model = linear(optimizer=SignalsItself(learning_rate=0.1), batch_size=20, max_iter=3).fit(X, y)
    assert model.n_steps_ == 9
    assert signal.getsignal(signal.SIGINT) is disposition


@pytest.mark.parametrize("ending", ["error", "interrupt"])
def test_the_handler_is_restored_however_training_ends(sigint, ending):
    """After an exception and after an interrupt, Ctrl-C is again what it was."""
    X, y = make_rows()
    signal.signal(signal.SIGINT, handler := lambda signum, frame: None)
    if ending == "error":
        with pytest.raises(DivergenceError, match="not finite"):
            linear(Recorded(3, with_nan)).fit(X, y)
    else:
        with pytest.warns(UserWarning, match="Training was interrupted"):
            linear(Recorded(3, interrupt)).fit(X, y)
    assert signal.getsignal(signal.SIGINT) is handler


def test_training_works_outside_the_main_thread():
    """Where no handler can be set none is, and the result is the same."""
    X, y = make_rows()
    before = signal.getsignal(signal.SIGINT)
    inside = []

    def work():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            inside.append(linear(batch_size=20, max_iter=3).fit(X, y))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert_same_fit(inside[0], linear(batch_size=20, max_iter=3).fit(X, y))


# Exceptions of the user's.


class OwnError(Exception):
    """Nothing that the package knows."""


OWN = OwnError("mine")


def fails_in_call(number, function):
    """The function, but that one of its calls raises `OWN`; its arguments are read from the original."""
    calls = iter(range(number + 1))

    @functools.wraps(function)
    def failing(*args, **received):
        if next(calls, None) == number:
            raise OWN
        return function(*args, **received)

    return failing


def fails_from_call(number, function):
    """The function, but that it raises `OWN` from one of its calls on."""
    calls = itertools.count()

    @functools.wraps(function)
    def failing(*args, **received):
        if next(calls) >= number:
            raise OWN
        return function(*args, **received)

    return failing


def failing_pullback(number):
    inner = fails_from_call(number, lambda pullback, d: pullback(d))

    def vjp(params, X):
        prediction, pullback = linear_vjp(params, X)
        return prediction, lambda d: inner(pullback, d)

    return vjp


FAILING = {
    "gradient": {"gradient": lambda number: fails_from_call(number, linear_gradient)},
    "loss_and_gradient": {"loss_and_gradient": lambda number: fails_from_call(number, linear_squared_error)},
    "vjp": {"vjp": lambda number: fails_from_call(number, linear_vjp)},
    "pullback": {"vjp": failing_pullback},
    "jacobian": {"jacobian": lambda number: fails_from_call(number, linear_jacobian)},
}


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
@pytest.mark.parametrize(
    ("optimizer", "number", "where"),
    [("adam", 7, "In epoch 2, batch 1 "), ("lbfgs", 4, "In evaluation ")],
    ids=["adam", "lbfgs"],
)
def test_exception_in_a_gradient_goes_on_unchanged(failing, optimizer, number, where):
    """It is the same object, with notes that name callable, epoch and batch; the parameters so far are kept.

    What measures the units of a full-batch method does without a function that fails.
    """
    X, y = make_rows()
    [(form, make)] = failing.items()
    model = AnalyticRegressor(linear_forward, init=linear_init, **{form: make(number)}, optimizer=optimizer)
    model.set_params(batch_size=20 if optimizer == "adam" else "auto", check_gradient=False, random_state=0)
    OWN.__notes__ = []
    with pytest.raises(OwnError, match="mine") as raised:
        model.fit(X, y)
    assert raised.value is OWN
    inside = "the pullback returned by vjp" if make is failing_pullback else f"the callable given as {form}"
    assert any(inside in note for note in OWN.__notes__)
    assert any(note.startswith(where) for note in OWN.__notes__)
    if optimizer == "adam":
        reference = AnalyticRegressor(**model.get_params(deep=False) | {form: FAILING[form][form](10**6)})
        reference.set_params(max_iter=3).fit(X, y)
        assert model.n_steps_ == 7
        assert_array_equal(model.loss_curve_, reference.loss_curve_[: model.n_iter_])
    assert model.predict(X).shape == y.shape


@pytest.mark.parametrize("role", ["init", "forward", "loss"])
def test_exception_in_another_callable_goes_on_unchanged(role):
    """Of init nothing is left; forward and loss are called after each epoch, whose update is kept."""
    X, y = make_rows()
    callables = {"forward": linear_forward, "init": linear_init, "loss": linear_loss}
    number = 0 if role == "init" else 2
    callables[role] = fails_in_call(number, callables[role])
    if role == "forward":
        callables["loss"] = "squared_error"
    model = AnalyticRegressor(gradient=linear_gradient, **callables, optimizer="adam", check_gradient=False)
    OWN.__notes__ = []
    with pytest.raises(OwnError, match="mine") as raised:
        model.fit(X, y)
    assert raised.value is OWN
    assert f"the callable given as {role}: " in OWN.__notes__[0]
    if role == "init":
        assert not hasattr(model, "params_")
    else:
        assert model.n_steps_ == {"forward": 2, "loss": 3}[role]


# ---- memory ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fit_takes_six_vectors(dtype):
    """θ, its gradient and Adam's two averages; where training started, and the last finite θ."""
    size = 400_000
    X, y = np.ones((8, 1), dtype), np.ones(8, dtype)
    flat = np.zeros(size, dtype)  # a loss that rises would be looked into

    def vjp(params, X):
        return X[:, 0] * params["w"][:1], lambda d: {"w": flat}

    start = {"w": np.zeros(size, dtype)}
    model = AnalyticRegressor(vjp=vjp, init=start, batch_size=4, max_iter=3, check_gradient=False, random_state=0)
    tracemalloc.start()
    try:
        with use_engine("numpy"):
            model.fit(X, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6.25 * start["w"].nbytes


def test_a_score_of_nan_is_no_improvement():
    """Training ends by it, and says that it has not converged for that."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X @ [1.0, 2.0, 3.0]
    model = AnalyticRegressor(
        lambda params, X: X @ params["w"],
        lambda params, X, y: {"w": X.T @ (X @ params["w"] - y) / len(y)},
        {"w": np.zeros(3)},
        loss=None,
        early_stopping=True,
        scoring=lambda estimator, X, y: np.nan,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning, match="validation score is nan after the last epoch"):
        model.fit(X, y)
    assert model.best_loss_ is None
