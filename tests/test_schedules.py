"""Schedules: what they are worth when, in a rule, in one another, and in an estimator."""

import math
import pickle
import warnings

import numpy as np
import pytest
from models import vector_forward
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from sk_analytic import AnalyticRegressor
from sk_analytic.optimizers import (
    SGD,
    Adam,
    Chain,
    ClipNorm,
    Constant,
    Cosine,
    Exponential,
    InverseSquareRoot,
    InverseTime,
    Joined,
    Link,
    OneCycle,
    Phases,
    Piecewise,
    Polynomial,
    ReduceOnPlateau,
    Schedule,
    Step,
    WarmUp,
    WeightDecay,
)
from sk_analytic.optimizers import schedules as module


def cosine(initial, final, share):
    """Loshchilov and Hutter 2017, equation 5."""
    return final + 0.5 * (initial - final) * (1 + math.cos(math.pi * share))


def restarted(k, length, growth):
    """How far count k is in its fall, found by walking from fall to fall; as a share of it."""
    while k >= length:
        k, length = k - length, growth * length
    return k / length


def one_cycle(k, n=40, p=0.25, values=(0.04, 1.0, 0.0004)):
    """Two halves of waves, which meet at unit p n - 1."""
    rise = p * n - 1
    if k <= rise:
        return cosine(values[0], values[1], k / rise)
    return cosine(values[1], values[2], min((k - rise) / (n - 1 - rise), 1))


FORMULAS = {
    "constant": (Constant(0.3), lambda k: 0.3),
    "exponential": (Exponential(2.0, 0.5, every=3), lambda k: 2 * 0.5 ** (k / 3)),
    "inverse time": (InverseTime(2.0, 0.5, every=3), lambda k: 2 / (1 + 0.5 * k / 3)),
    "polynomial": (Polynomial(1.0, 20, final=0.2, power=2.0), lambda k: 0.2 + 0.8 * (1 - min(k, 20) / 20) ** 2),
    "linear, upward": (Polynomial(0.0, 20, final=2.0), lambda k: 2 * min(k, 20) / 20),
    "step": (Step(3.0, every=7, factor=0.5), lambda k: 3 * 0.5 ** math.floor(k / 7)),
    "piecewise": (Piecewise([1.0, 0.5, 0.1], [5, 30]), lambda k: 1.0 if k < 5 else 0.5 if k < 30 else 0.1),
    "cosine": (Cosine(1.0, 30, final=0.1), lambda k: cosine(1.0, 0.1, min(k / 30, 1))),
    "cosine, restarts": (Cosine(1.0, 7, final=0.1, restarts=True), lambda k: cosine(1.0, 0.1, (k % 7) / 7)),
    "cosine, slower": (
        Cosine(1.0, 7, restarts=True, growth=2),
        lambda k: cosine(1.0, 0.0, restarted(k, 7, 2)),
    ),
    "inverse square root": (
        InverseSquareRoot(512**-0.5 * 10**-0.5, warm_up=10),
        lambda k: 512**-0.5 * min((k + 1) ** -0.5, (k + 1) * 10**-1.5),
    ),
    "one cycle": (OneCycle(1.0, 40, initial=0.04, final=0.0004, peak_at=0.25), one_cycle),
    "one cycle of the momentum": (
        OneCycle(0.85, 40, initial=0.95, final=0.95, peak_at=0.25),
        lambda k: one_cycle(k, values=(0.95, 0.85, 0.95)),
    ),
    "one cycle, linear": (
        OneCycle(1.0, 41, initial=0.2, final=0.0, peak_at=11 / 41, shape="linear"),
        lambda k: np.interp(k, [0, 10, 40], [0.2, 1.0, 0.0]),
    ),
    "one cycle, three phases": (
        OneCycle(1.0, 41, initial=0.2, final=0.0, peak_at=11 / 41, shape="linear", three_phases=True),
        lambda k: np.interp(k, [0, 10, 20, 40], [0.2, 1.0, 0.2, 0.0]),
    ),
    "warm-up": (WarmUp(10, then=0.5), lambda k: 0.5 * min(k / 10, 1)),
    "warm-up, cosine": (
        WarmUp(10, then=Cosine(1.0, 20), start_factor=0.1),
        lambda k: 0.1 + 0.9 * k / 10 if k < 10 else cosine(1.0, 0.0, min((k - 10) / 20, 1)),
    ),
    "joined": (
        Joined([0.5, Exponential(1.0, 0.9), Polynomial(1.0, 10)], [8, 20]),
        lambda k: 0.5 if k < 8 else 0.9 ** (k - 8) if k < 20 else 1 - min(k - 20, 10) / 10,
    ),
    "joined, one in another": (
        WarmUp(5, then=Joined([1.0, WarmUp(4, then=Step(0.5, 10))], [10])),
        lambda k: (
            k / 5 if k < 5 else 1.0 if k < 15 else 0.5 * (k - 15) / 4 if k < 19 else 0.5 * 0.1 ** ((k - 19) // 10)
        ),
    ),
}
every_schedule = pytest.mark.parametrize(("schedule", "formula"), FORMULAS.values(), ids=FORMULAS)


def in_epochs(schedule):
    """Return a copy that counts epochs wherever it counts."""
    units = {name: "epoch" for name in schedule.get_params() if name.rpartition("__")[2] == "unit"}
    return clone(schedule).set_params(**units)


@every_schedule
def test_each_count_has_the_value_of_the_formula(schedule, formula):
    """Over twice the longest horizon, counted in steps or in epochs; the other count makes no difference."""
    for k in range(80):
        assert schedule(k, 3) == pytest.approx(formula(k), rel=1e-12, abs=1e-15)
        assert in_epochs(schedule)(5, k) == schedule(k, 0)


@every_schedule
def test_values_are_floats_for_any_count(schedule, formula):
    """Far beyond every horizon too: a plain float, not an array or a NumPy scalar."""
    for k in (0, 1, 10**3, 10**6):
        assert type(schedule(k, 0)) is float
        assert math.isfinite(schedule(k, 0))


@every_schedule
def test_scikit_learn_can_handle_it(schedule, formula):
    """It is cloned, printed and pickled, and its own parameters put back change nothing."""
    schedule.check()
    assert repr(clone(schedule)) == repr(pickle.loads(pickle.dumps(schedule))) == repr(schedule)
    params = schedule.get_params()
    assert schedule.set_params(**params).get_params() == params


def test_every_schedule_is_in_the_table():
    """A class of the module without a formula here fails; the one that sees the loss has tests of its own."""
    classes = {cls for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, Schedule)}
    public = {cls for cls in classes if cls.__name__[0] != "_"} - {Schedule, ReduceOnPlateau}
    assert {type(schedule) for schedule, _ in FORMULAS.values()} == public


@pytest.mark.parametrize("growth", [1, 1.5, 2, 3])
@pytest.mark.parametrize("length", [1, 3, 10, 17])
def test_restarts_come_on_time(length, growth):
    """The first unit of each fall has the initial value, the one before does not: no rounding shifts it."""
    schedule = Cosine(1.0, length, restarts=True, growth=growth)
    begin, fall = 0, length
    while begin < 10**6 and fall == int(fall):
        assert schedule(begin, 0) == 1.0
        assert begin <= 1 or schedule(begin - 1, 0) < 1.0 or fall == 1
        begin, fall = begin + fall, growth * fall
        if growth == 1 and begin > 1000:
            break


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_cycle_too_short_for_a_rise_begins_at_its_peak(length):
    """So it does not divide by zero."""
    schedule = OneCycle(1.0, length, peak_at=0.3)
    assert schedule(0, 0) == 1.0
    assert schedule(length, 0) == 1 / 25 / 1e4


# In rules and chains


def rates(optimizer, steps, epochs=None, losses=()):
    """Return how far each update moves θ against a gradient of one; the loss of each epoch is appended after it."""
    theta = np.zeros(1)
    state = optimizer.init(theta)
    moved = []
    for step in range(steps):
        before = theta.copy()
        optimizer.update(state, theta, np.ones(1))
        moved.append(float((before - theta)[0]))
        if epochs and (step + 1) % epochs == 0:
            state.epoch += 1
            state.loss_curve.extend(losses[state.epoch - 1 : state.epoch])
    return moved


def test_a_warm_up_in_steps_goes_with_what_counts_epochs():
    """The rise counts its steps, and what follows its epochs, from the very start."""
    schedule = WarmUp(4, then=Step(1.0, every=2, factor=0.5, unit="epoch"))
    moved = rates(SGD(schedule), 12, epochs=2)
    np.testing.assert_allclose(moved, [0, 0.25, 0.5, 0.75, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25], atol=1e-15)


def test_any_hyperparameter_may_have_one():
    """The bound of a link, the strength of a decay, the momentum and the rate, each with its own."""
    theta = np.array([1.0])
    optimizer = Chain(
        [
            ClipNorm(Piecewise([1.0, 2.0], [1])),
            WeightDecay(Step(0.5, every=1, factor=0.1)),
            SGD(Polynomial(0.1, 2), momentum=Piecewise([0.9, 0.5], [1])),
        ]
    )
    state = optimizer.init(theta)
    expected, velocity = 1.0, 0.0
    for bound, decay, rate, momentum in ((1.0, 0.5, 0.1, 0.9), (2.0, 0.05, 0.05, 0.5), (2.0, 0.005, 0.0, 0.5)):
        optimizer.update(state, theta, np.array([10.0]))
        velocity = momentum * velocity + bound + decay * expected
        expected -= rate * velocity
        assert theta[0] == pytest.approx(expected, rel=1e-14)


def test_a_cycle_of_the_momentum_goes_with_that_of_the_rate():
    """Where one has its peak, so has the other: momentum is smallest where the rate is largest."""
    rate = OneCycle(0.5, length=20)
    momentum = OneCycle(0.85, length=20, initial=0.95, final=0.95)
    values = np.array([(rate(k, 0), momentum(k, 0)) for k in range(20)])
    assert np.argmax(values[:, 0]) == np.argmin(values[:, 1])
    assert (values[0, 1], values[-1, 1]) == (0.95, 0.95)
    assert np.isfinite(rates(SGD(rate, momentum=momentum), 25)).all()


@pytest.mark.parametrize("value", [-0.5, math.nan, None, "0.1"])
def test_a_value_that_is_no_rate_names_the_whole_schedule(value):
    """Also where it comes out of a schedule inside another: owner, schedule, hyperparameter, step and epoch."""

    class Late(Schedule):
        def __call__(self, step, epoch):
            return 0.1 if step < 1 else value

    optimizer = Adam(Joined([Late()], []))
    theta = np.ones(2)
    state = optimizer.init(theta)
    optimizer.update(state, theta, theta)
    with pytest.raises(
        ValueError,
        match=rf"Adam: the schedule Joined\(schedules=\[Late\(\)\], boundaries=\[\]\) of learning_rate gave {value!r} "
        r"at step 1, epoch 0; expected a number in \[0, inf\)",
    ):
        optimizer.update(state, theta, theta)


@pytest.mark.parametrize("value", [math.nan, None, "0.1"])
def test_a_value_that_is_no_number_is_refused_for_any_hyperparameter(value):
    """Also by a link of the user's own that gives no ranges."""

    class Scale(Link):
        def __init__(self, factor):
            self.factor = factor

        def coefficients(self, now):
            return (self.factor,)

        @staticmethod
        def formula(g, theta, factor):
            return factor * g

    class Wrong(Schedule):
        def __call__(self, step, epoch):
            return value

    with pytest.raises(ValueError, match=rf"Scale: the schedule Wrong\(\) of factor gave {value!r} at step 0"):
        Chain([Scale(Wrong()), SGD()]).init(np.ones(2))


# Parameters


def test_parameters_are_reached_as_deep_as_they_lie():
    """By the names of the parameters, and in a list by those of the classes, numbered if one comes twice."""
    schedule = WarmUp(5, then=Joined([Cosine(1.0, 10), ("end", Constant(0.5)), Cosine(0.5, 10)], [10, 20]))
    model = AnalyticRegressor(optimizer=Chain([ClipNorm(), Adam(schedule)]))
    params = model.get_params()
    assert params["optimizer__adam__learning_rate__length"] == 5
    assert params["optimizer__adam__learning_rate__then__cosine-2__initial"] == 0.5
    model.set_params(
        **{
            "optimizer__adam__learning_rate__then__cosine-1__initial": 2.0,
            "optimizer__adam__learning_rate__then__end__value": 0.25,
        }
    )
    joined = model.optimizer.links[1].learning_rate.then
    assert (joined.schedules[0].initial, joined.schedules[1][1].value) == (2.0, 0.25)
    assert (joined(0, 0), joined(10, 0)) == (2.0, 0.25)


def test_a_grid_reaches_a_schedule():
    """A search over the start of a rate, and over what takes the place of one schedule among several."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = X @ [1.0, -2.0]
    model = AnalyticRegressor(optimizer=SGD(Joined([0.1, Step(0.1, 5)], [3], unit="epoch")), max_iter=20)
    grid = {
        "optimizer__learning_rate__step__initial": [1e-6, 0.3],
        "optimizer__learning_rate__boundaries": [[1], [100]],
    }
    search = GridSearchCV(model, grid, cv=2)
    ignoring_convergence(search.fit, X, y)
    assert len(search.cv_results_["params"]) == 4
    assert model.optimizer.learning_rate.schedules[1].initial == 0.1
    search = GridSearchCV(model, {"optimizer__learning_rate__step": [Constant(0.1), Constant(0.2)]}, cv=2)
    ignoring_convergence(search.fit, X, y)
    assert search.best_estimator_.get_params()["optimizer__learning_rate__step__value"] in {0.1, 0.2}


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (Constant("fast"), ValueError, "Constant: value must be a number in .*; got 'fast'"),
        (Polynomial(0.1, length=0), ValueError, r"Polynomial: length must be a number in \(0, inf\); got 0"),
        (Polynomial(0.1, length=10, unit="steps"), ValueError, "Polynomial: unit must be one of 'step', 'epoch'"),
        (Step(math.nan, 3), ValueError, "Step: initial must be a number in .*; got nan"),
        (Cosine(0.1, 10, growth=0.5), ValueError, r"Cosine: growth must be a number in \[1, inf\); got 0.5"),
        (InverseSquareRoot(0.1, warm_up=0), ValueError, "InverseSquareRoot: warm_up must be a number in"),
        (OneCycle(0.1, 10, initial="slow"), ValueError, "OneCycle: initial must be a number in .*; got 'slow'"),
        (OneCycle(0.1, 10, peak_at=0.6, three_phases=True), ValueError, "OneCycle: peak_at of three phases must be"),
        (OneCycle(0.1, 10, shape="cos"), ValueError, "OneCycle: shape must be one of 'cosine', 'linear'; got 'cos'"),
        (Piecewise([0.1], [5]), ValueError, r"Piecewise: 1 values need 0 boundaries between them; got 1: \[5\]"),
        (Piecewise([0.1, 0.2, 0.3], [5, 5]), ValueError, r"Piecewise: boundaries must increase; got \[5, 5\]"),
        (Piecewise([0.1, 0.2], [-1]), ValueError, "Piecewise: each of the boundaries must be a number in"),
        (Piecewise([0.1, None], [1]), ValueError, "Piecewise: each of the values must be a number in .*; got None"),
        (Piecewise(0.1, [1]), TypeError, "Piecewise: values must be a list; got 0.1"),
        (Joined([0.1, Cosine], [3]), TypeError, r"Joined: each of the schedules must be .* Pass an instance: Cosine\("),
        (Joined([0.1, Step(0.1, -1)], [3]), ValueError, "Step: every must be a number in"),
        (Joined([0.1], 3), TypeError, "Joined: boundaries must be a list; got 3"),
        (Joined(0.1, [3]), TypeError, "Joined: schedules must be a list; got 0.1"),
        (WarmUp(5, then=None), TypeError, "WarmUp: then must be a schedule or a number; got None"),
        (WarmUp(5, then=Cosine(0.1, -2)), ValueError, "Cosine: length must be a number in"),
        (ReduceOnPlateau(0.1, factor=1.0), ValueError, "ReduceOnPlateau: factor must be a number in"),
        (ReduceOnPlateau(0.1, patience=1.5), ValueError, "ReduceOnPlateau: patience must be a whole number in"),
    ],
)
def test_a_wrong_hyperparameter_is_refused_by_name(schedule, error, message):
    """When the optimizer starts, before any step; it is printed and read without complaint until then."""
    repr(schedule), schedule.get_params()
    with pytest.raises(error, match=message):
        SGD(schedule).init(np.ones(1))


def test_an_unknown_parameter_names_the_nearest():
    """Of a schedule, and of one among several."""
    with pytest.raises(ValueError, match="Cosine has no hyperparameter 'lenght'. Did you mean 'length'"):
        Cosine(0.1, 10).set_params(lenght=3)
    with pytest.raises(ValueError, match="Joined has no hyperparameter 'cosin'. Did you mean 'cosine'"):
        Joined([Cosine(0.1, 10)], []).set_params(cosin__length=3)


# The loss


def plateau(losses, **settings):
    """Return the value before each loss and after the last."""
    theta = np.zeros(1)
    schedule = ReduceOnPlateau(1.0, **settings)
    state = SGD().init(theta)
    values = [schedule.at(state)]
    for loss in losses:
        state.loss_curve.append(loss)
        values.append(schedule.at(state))
    return values


@pytest.mark.parametrize(
    ("losses", "settings", "values"),
    [
        ([3, 2, 1, 0], {"patience": 0}, [1, 1, 1, 1, 1]),
        ([3, 3, 3, 3], {"patience": 1, "factor": 0.5}, [1, 1, 1, 0.5, 0.5]),
        ([3, 3, 3, 3, 3], {"patience": 1, "factor": 0.5}, [1, 1, 1, 0.5, 0.5, 0.25]),
        ([3, 4, 2, 4, 4], {"patience": 1, "factor": 0.5}, [1, 1, 1, 1, 1, 0.5]),
        ([3, 3, 3, 3, 3, 3], {"patience": 0, "factor": 0.5, "cooldown": 2}, [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ([3, 3, 3, 3], {"patience": 0, "factor": 0.5, "minimum": 0.3}, [1, 1, 0.5, 0.3, 0.3]),
        ([3, 3], {"patience": 0, "minimum": 2.0}, [1, 1, 1]),
        ([10, 9.5, 9.4], {"patience": 0, "threshold": 0.1, "factor": 0.5}, [1, 1, 0.5, 0.25]),
        ([10, 9.5, 9.4], {"patience": 0, "threshold": 0.4, "threshold_mode": "absolute"}, [1, 1, 1, 0.1]),
        ([-10, -10.5, -10.4], {"patience": 0, "threshold": 0.01}, [1, 1, 1, 0.1]),
        ([math.nan, math.nan, 1.0], {"patience": 0, "factor": 0.5}, [1, 0.5, 0.25, 0.25]),
    ],
)
def test_the_value_falls_where_the_loss_does_not(losses, settings, values):
    """Patience, cooldown, minimum and threshold; a NaN is no improvement, a negative loss is one if it is lower."""
    assert plateau(losses, **settings) == pytest.approx(values)


def test_what_was_seen_is_not_looked_at_again():
    """An update between epochs costs the same after many epochs; the curve is read once, entry by entry."""

    class Counting(list):
        reads = 0

        def __getitem__(self, item):
            type(self).reads += 1
            return super().__getitem__(item)

    state = SGD().init(np.zeros(1))
    state.loss_curve = Counting()
    schedule = ReduceOnPlateau(1.0)
    for _ in range(50):
        state.loss_curve.append(1.0)
        for _ in range(10):
            schedule.at(state)
    assert Counting.reads == 50


def test_it_is_a_function_of_the_curve_and_its_hyperparameters():
    """A copy of the state, another object with the same settings and a changed setting all see the whole curve."""
    state = SGD().init(np.zeros(1))
    state.loss_curve += [1.0] * 5
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0)
    assert schedule.at(state) == 0.5**4
    assert clone(schedule).at(pickle.loads(pickle.dumps(state))) == 0.5**4
    assert schedule.set_params(factor=0.1).at(state) == pytest.approx(0.1**4)
    state.restart()
    assert schedule.at(state) == 1.0
    assert schedule(100, 10) == 1.0


def test_a_warm_up_before_it():
    """Steps of the rise, then the value that the losses leave."""
    schedule = WarmUp(3, then=ReduceOnPlateau(1.0, factor=0.5, patience=0))
    moved = rates(SGD(schedule), 10, epochs=2, losses=[5.0, 4.0, 4.0, 4.0])
    np.testing.assert_allclose(moved, [0, 1 / 3, 2 / 3, 1, 1, 1, 0.5, 0.5, 0.25, 0.25], atol=1e-15)


# In an estimator


class Recording(Schedule):
    """Another schedule, of which the values are written down."""

    seen: list = []

    def __init__(self, schedule):
        self.schedule = schedule

    def at(self, state):
        value = self.schedule.at(state)
        self.seen.append((state.step, state.epoch, value))
        return value


@pytest.fixture
def recorded(monkeypatch):
    """The list to which `Recording` writes."""
    monkeypatch.setattr(Recording, "seen", [])
    return Recording.seen


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    return X, X @ [1.0, -2.0, 0.5] + rng.normal(size=60)


PLATEAU = ReduceOnPlateau(0.5, factor=0.5, patience=1, threshold=0.01)


def regressor(optimizer, **settings):
    """A regressor of three steps an epoch that never stops early."""
    settings = {"batch_size": 20, "max_iter": 30, "n_iter_no_change": 10**6, "random_state": 0} | settings
    return AnalyticRegressor(optimizer=optimizer, **settings)


def ignoring_convergence(function, *args):
    """Call it; that so few epochs are not enough is no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return function(*args)


def test_fit_reduces_the_rate_where_its_loss_curve_is_flat(data, recorded):
    """Every step of an epoch has the rate that the losses before that epoch give."""
    model = ignoring_convergence(regressor(SGD(Recording(PLATEAU))).fit, *data)
    by_epoch = {epoch: value for _, epoch, value in recorded if value is not None}
    expected = [0.5 * value for value in plateau(model.loss_curve_, factor=0.5, patience=1, threshold=0.01)]
    assert [by_epoch[epoch] for epoch in range(30)] == pytest.approx(expected[:30])
    assert by_epoch[29] < by_epoch[0]
    assert len({value for _, epoch, value in recorded if epoch == 29}) == 1


def test_with_early_stopping_it_follows_the_validation_score(data, recorded):
    """Which is what then decides when to stop; the score is turned around, so that less is better."""
    model = regressor(SGD(Recording(PLATEAU)), early_stopping=True, validation_fraction=0.3)
    ignoring_convergence(model.fit, *data)
    by_epoch = {epoch: value for _, epoch, value in recorded if value is not None}
    turned = [-score for score in model.validation_scores_]
    expected = [0.5 * value for value in plateau(turned, factor=0.5, patience=1, threshold=0.01)]
    assert [by_epoch[epoch] for epoch in range(30)] == pytest.approx(expected[:30])
    assert expected != [0.5 * value for value in plateau(model.loss_curve_, factor=0.5, patience=1, threshold=0.01)]


def test_partial_fit_goes_on_with_it(data):
    """Epoch by epoch, each time from a pickle, θ, losses and rate are to the bit those of one fit."""
    whole = ignoring_convergence(regressor(SGD(PLATEAU)).fit, *data)
    parts = regressor(SGD(PLATEAU))
    for _ in range(30):
        parts = pickle.loads(pickle.dumps(parts)).partial_fit(*data)
    np.testing.assert_equal(parts.params_, whole.params_)
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.optimizer_.learning_rate.at(parts.optimizer_state_) < 0.5


@pytest.mark.parametrize(
    "schedule", [PLATEAU, Cosine(0.3, 7, restarts=True, unit="epoch"), WarmUp(10, Step(0.3, 4, 0.5, unit="epoch"))]
)
def test_a_warm_start_goes_on_with_its_counts(data, schedule):
    """Two fits of 15 epochs are one of 30."""
    whole = ignoring_convergence(regressor(SGD(schedule)).fit, *data)
    parts = regressor(SGD(schedule), max_iter=15, warm_start=True)
    for _ in range(2):
        parts = ignoring_convergence(pickle.loads(pickle.dumps(parts)).fit, *data)
    np.testing.assert_equal(parts.params_, whole.params_)


def test_each_phase_counts_from_its_own_start(data, recorded):
    """Steps, epochs and losses of the phases before are not a schedule's, whether the rule is another or the same."""
    for first in ("adam", SGD(0.1)):
        recorded.clear()
        phases = Phases([(first, 5), (SGD(Recording(Cosine(0.1, 4, unit="epoch"))), 4)])
        ignoring_convergence(regressor(phases).fit, *data)
        values = {epoch: value for _, epoch, value in recorded}
        assert values == pytest.approx({k: cosine(0.1, 0.0, k / 4) for k in range(4)})
        assert max(step for step, _, _ in recorded) == 11
    recorded.clear()
    phases = Phases([(SGD(0.1), 10), (SGD(Recording(PLATEAU)), 8)])
    model = ignoring_convergence(regressor(phases).fit, *data)
    expected = [0.5 * v for v in plateau(model.loss_curve_[10:], factor=0.5, patience=1, threshold=0.01)]
    assert [value for step, _, value in recorded if step % 3 == 1] == pytest.approx(expected[:8])


def test_without_a_loss_it_stays_as_it_is(data, recorded):
    """A gradient alone gives no loss to see."""

    def gradient(params, X, y):
        return 0.0 * params

    model = AnalyticRegressor(
        vector_forward,
        gradient,
        np.zeros(3),
        loss=None,
        optimizer=SGD(Recording(PLATEAU)),
        max_iter=5,
        n_iter_no_change=10**6,
    )
    ignoring_convergence(model.fit, *data)
    assert {value for _, _, value in recorded} == {0.5}
