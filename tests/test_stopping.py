"""When training ends, what it says of that, and what it undoes: patience, criteria, overflow."""

import warnings
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, DivergenceError, get_optimizer_names
from sk_analytic.optimizers import (
    SGD,
    Accumulate,
    Adam,
    Chain,
    ClipNorm,
    Polynomial,
    ReduceOnPlateau,
    WarmUp,
    get_optimizer,
    use_engine,
)
from sk_analytic.optimizers.scipy_methods import FullBatch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3))
Y = X @ [1.0, -2.0, 0.5] + 1.0 + 0.1 * RNG.normal(size=300)


def forward(params, X):
    return X @ params["w"] + params["b"]


def gradient(params, X, y):
    residual = forward(params, X) - y
    return {"w": X.T @ residual / len(X), "b": residual.mean()}


START = {"w": np.zeros(3), "b": 0.0}
LOSSLESS = {"forward": forward, "gradient": gradient, "init": START, "loss": None}


def make(**settings):
    return AnalyticRegressor(**{"optimizer": "adam", "random_state": 0} | settings)


def chunks(X, y):
    return [(X[i : i + 60], y[i : i + 60]) for i in range(0, len(X), 60)]


# Patience.


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e3, 1e9])
def test_the_unit_of_y_does_not_decide_when_training_stops(unit):
    """SGD is the same in every unit of y, and so is the number of epochs."""
    whole = make(optimizer=SGD(0.1)).fit(X, Y)
    other = make(optimizer=SGD(0.1)).fit(X, Y * unit)
    assert other.n_iter_ == whole.n_iter_ < 200
    assert_allclose(other.coef_ / unit, whole.coef_, rtol=1e-6)


def test_a_large_constant_in_y_does_not_end_training_early():
    """The fall of the loss at the start, which the constant makes, is no measure of what comes after it."""
    model = make(optimizer=SGD(0.1), max_iter=400).fit(X, Y + 1e4)
    assert_allclose(model.coef_, [1.0, -2.0, 0.5], atol=0.05)


SLOW = {
    "a tiny rate": SGD(1e-9),
    "no rate at all": SGD(WarmUp(100, then=1e-20, unit="epoch")),
    "accumulation": Chain([Accumulate(20), SGD(0.01)]),
    "accumulation without end": Chain([Accumulate(10**6), SGD(0.1)]),
    "a warm-up": SGD(WarmUp(100, then=0.1, unit="epoch")),
    "tight clipping": Chain([ClipNorm(1e-6), SGD(0.1)]),
}


@pytest.mark.parametrize("way", ["fit", "fit_chunks", "scored", "no loss"])
@pytest.mark.parametrize("optimizer", SLOW.values(), ids=SLOW)
def test_slow_progress_is_progress(optimizer, way):
    """It trains to the end and says that it has not converged, or says that no epoch improved; never nothing."""
    model = make(optimizer=optimizer, max_iter=60, batch_size=300, early_stopping=way == "scored")
    model.set_params(**LOSSLESS if way == "no loss" else {})
    with pytest.warns(ConvergenceWarning, match="The limit of 60 epochs was reached"):
        model.fit_chunks(chunks(X, Y)) if way == "fit_chunks" else model.fit(X, Y)
    assert model.n_iter_ == 60


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("settings", [{}, LOSSLESS, {"early_stopping": True}], ids=["loss", "gradient", "score"])
def test_standing_still_is_a_warning(settings, dtype):
    """With a rate that moves nothing, training ends by its patience, and names what has not improved."""
    judged = "validation score" if "early_stopping" in settings else "gradient norm" if settings else "training loss"
    model = make(optimizer=SGD(1e-30), **settings)
    with pytest.warns(ConvergenceWarning, match=f"No epoch improved on the first: the {judged} was"):
        model.fit(X.astype(dtype), Y.astype(dtype))
    assert model.n_iter_ == 12


def test_an_optimum_is_left_in_silence():
    """Who starts at the optimum, or at a perfect score, cannot improve: that is no fault."""
    labels = (X[:, 0] > 0).astype(int)
    separable = np.sign(X[:, :1]) * (1 + np.abs(X[:, :1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AnalyticDensity(random_state=0).fit(X)
        AnalyticDensity(optimizer="sgd", batch_size=300, random_state=0).fit(X)
        make(optimizer="sgd", init={"coef": np.zeros(3), "intercept": 0.0}).fit(X, np.zeros(300))
        AnalyticClassifier(early_stopping=True, optimizer=Adam(0.1), random_state=0).fit(separable, labels)


def test_an_optimum_after_the_first_epoch_is_no_fault():
    """A gradient alone is monitored after each epoch: the first may be perfect already, or as good as noise allows."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 2))
    signs = np.tile([-1.0, 1.0], 25)[:, None]

    def forward(params, X):
        return X @ params

    def gradient(params, X, y):
        return X.T @ (X @ params - y) / len(X)

    settings = {"forward": forward, "gradient": gradient, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AnalyticRegressor(init=np.zeros(1), optimizer=SGD(1.0), **settings).fit(signs, 2 * signs[:, 0])
        noisy = AnalyticRegressor(init=np.zeros(2), optimizer=SGD(0.05), batch_size=10, **settings)
        noisy.fit(rows, rows @ [1.0, -0.5] + rng.normal(size=len(rows)))


def test_a_first_epoch_that_scores_best_is_kept_in_silence():
    """If the training loss falls: then it is early stopping's work. A score that stays what it was is a warning."""
    scores = {"falls": lambda estimator, X, y: -estimator.n_iter_, "stays": lambda estimator, X, y: 0.5}
    model = make(early_stopping=True, optimizer=SGD(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_params(scoring=scores["falls"]).fit(X, Y)
    assert model.n_iter_ == 12
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    with pytest.warns(
        ConvergenceWarning, match="No epoch improved on the first: the validation score was 0.5 after the first"
    ):
        model.set_params(scoring=scores["stays"]).fit(X, Y)
    with pytest.warns(
        ConvergenceWarning, match="No epoch improved on the first: the validation score was -1 after the first"
    ):
        model.set_params(scoring=scores["falls"], optimizer=SGD(1e-30)).fit(X, Y)


# What was judged by another criterion is forgotten.

OTHER = {
    "alpha": ({"alpha": 10.0}, {}),
    "y in another unit": ({}, {"y": 1e3 * Y}),
    "weights": ({}, {"sample_weight": np.linspace(1, 100, 300)}),
    "loss": ({"loss": "absolute_error"}, {}),
}


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("settings", [{}, LOSSLESS | {"loss": "squared_error"}], ids=["loss", "monitored loss"])
def test_the_noise_of_batches_around_an_optimum_is_no_rise(settings, early_stopping):
    """A warm start of a fit that has converged begins at its optimum, and leaves it by a little."""
    y = Y + np.random.default_rng(1).normal(size=300)
    model = make(optimizer=Adam(0.03), batch_size=30, warm_start=True, early_stopping=early_stopping, **settings)
    for _ in range(4):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, y)
        assert not [w for w in caught if "rose" in str(w.message)]


SCORES = {"at once": (0.9, True), "never": (0.1, False), "and lost it": (0.05, False)}


@pytest.mark.parametrize(("after", "is_silent"), SCORES.values(), ids=SCORES)
def test_a_first_epoch_that_does_it_all_is_an_improvement(after, is_silent):
    """An accuracy is coarse: if it is better than at the start, training has not stood still."""

    def scoring(estimator, X, y):
        return after if np.any(estimator.coef_) else 0.1

    model = make(early_stopping=True, scoring=scoring)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y)
    assert model.n_iter_ == 12
    assert ["No epoch improved on the first" in str(w.message) for w in caught] == [True] * (not is_silent)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("settings", [{}, LOSSLESS | {"loss": "squared_error"}], ids=["loss", "monitored loss"])
def test_a_loss_of_zero_up_to_rounding_does_not_rise(settings, dtype, early_stopping):
    """Noise-free data are fitted to the last digit; what a warm start changes then means nothing."""
    exact = (X @ [1.0, -2.0, 0.5] + 1.0).astype(dtype)
    model = make(optimizer=Adam(0.1), warm_start=True, early_stopping=early_stopping, max_iter=400, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            model.fit(X.astype(dtype), exact)


@pytest.mark.parametrize(("settings", "data"), OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_warm_start_with_another_criterion_forgets_the_best(settings, data, early_stopping):
    """Patience, which then has nothing to compare with, begins anew; with the same criterion it goes on."""
    patient = {"early_stopping": early_stopping, "warm_start": True, "n_iter_no_change": 3, "optimizer": SGD(0.01)}
    model = make(max_iter=30, **patient)
    with pytest.warns(ConvergenceWarning, match=r"The limit of \d+ epochs was reached"):
        model.fit(X, Y)
    best = model._training.stopping.best
    assert np.isfinite(best)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(max_iter=1, **settings).fit(**{"X": X, "y": Y} | data)
    stopping = model._training.stopping
    judged = -model.validation_scores_[-1] if early_stopping else model.loss_curve_[-1]
    assert (stopping.first, stopping.best, stopping.without_improvement) == (judged, judged, 0)


def test_a_warm_start_with_other_rows_to_score_forgets_the_best():
    """With the same rows it does not, though other rows train."""
    settings = {"early_stopping": True, "warm_start": True, "max_iter": 3, "optimizer": SGD(0.001)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make(**settings).fit(X[:200], Y[:200], X_val=X[200:], y_val=Y[200:])
        first = model._training.stopping.first
        model.fit(X[:150], Y[:150], X_val=X[200:], y_val=Y[200:])
        assert model._training.stopping.first == first
        model.fit(X[:150], Y[:150], X_val=X[200:], y_val=Y[200:] * 10)
    assert model._training.stopping.first == -model.validation_scores_[6]


def test_a_schedule_compares_no_loss_with_that_of_another_criterion():
    """`ReduceOnPlateau` keeps its value in a warm start whose losses are all larger than the best before."""
    schedule = ReduceOnPlateau(0.01, factor=0.1, patience=0)
    model = make(optimizer=SGD(schedule), warm_start=True, max_iter=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, Y)
        model.fit(X, 100 * Y)
    assert set(model.optimizer_state_.learning_rates.values()) == {0.01}


# Divergence.


@pytest.mark.parametrize("way", ["loss", "no loss", "X_val", "fit_chunks"])
def test_a_rising_loss_is_a_warning_with_early_stopping_too(way):
    """The best parameters are kept, but they are those of a run that diverged."""
    settings = {"optimizer": SGD(3e-3), "early_stopping": True, **(LOSSLESS if way == "no loss" else {})}
    wide, model = 30 * X, make(**settings)
    held_out = {"X_val": wide[:50], "y_val": Y[:50]} if way == "X_val" else {}
    fit = partial(model.fit_chunks, chunks(wide, Y)) if way == "fit_chunks" else partial(model.fit, wide, Y, **held_out)
    with pytest.warns(ConvergenceWarning, match=r"(The loss|The norm of the gradient) increased from .* to .*e\+"):
        fit()


@pytest.mark.parametrize("way", ["loss", "monitored loss", "no loss", "fit_chunks", "scored"])
def test_a_rise_within_the_first_epoch_is_one_too(way):
    """θ jumps away in the first steps and then creeps back: what is compared is the start, not the first epoch."""
    model = make(optimizer=Chain([ClipNorm(1.0), Adam(1e4)]), batch_size=20, early_stopping=way == "scored")
    model.set_params(**LOSSLESS if "loss" in way.split()[1:] else {})
    model.set_params(loss=None if way == "no loss" else "squared_error")
    with pytest.warns(ConvergenceWarning, match=r"(The loss|The norm of the gradient) increased from .* to ") as caught:
        model.fit_chunks(chunks(X, Y)) if way == "fit_chunks" else model.fit(X, Y)
    assert len(caught) == 1
    assert "at the start" in str(caught[0].message)


@pytest.mark.parametrize("form", ["vjp", "jacobian", None])
def test_held_out_predictions_that_overflow_end_in_a_divergence(form):
    """The score of the epoch before the loss overflows is no improvement, and no error of its own."""
    forms = {"vjp": lambda params, X: (forward(params, X), lambda d: {"w": X.T @ d, "b": d.sum()})}
    forms["jacobian"] = lambda params, X: {"w": X, "b": np.ones(len(X))}
    ours = {} if form is None else {"forward": None if form == "vjp" else forward, form: forms[form], "init": START}
    model = make(optimizer=SGD(0.1), early_stopping=True, batch_size=300, **ours)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="in epoch 1, batch 0"):
        model.fit(1e306 * X, Y)


RULES = [name for name in get_optimizer_names() if not isinstance(get_optimizer(name), FullBatch)]


@pytest.mark.parametrize("way", ["every row", "one row"])
@pytest.mark.parametrize(("rule", "engine"), [*((rule, "numpy") for rule in RULES), ("adam", "numba")])
def test_an_overflow_in_float32_is_named_and_undone(rule, way, engine):
    """Time stamps in nanoseconds, say: an error, or finite slots to the end; never a rule that stands still."""
    if engine == "numba":
        pytest.importorskip("numba")
    stamps = X.astype(np.float32)
    stamps[7 if way == "one row" else slice(None), 0] = 1e14
    model = make(optimizer=rule, batch_size=50, max_iter=3)
    with use_engine(engine), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        with suppress(DivergenceError):
            model.fit(stamps, Y.astype(np.float32))
    state = model.optimizer_state_
    assert all(np.isfinite(slot).all() for link in state.links for slot in link.slots.values())
    assert np.isfinite(model.coef_).all()
    assert state.step == model.n_steps_


def test_the_step_that_overflows_is_undone_in_the_state_too():
    """θ and the slots are those of a fit that ends with the step before, to the bit."""
    broken = X.astype(np.float32)
    broken[250:, 0] = 1e16
    y = Y.astype(np.float32)
    model = make(batch_size=50, shuffle=False, check_gradient=False)
    message = (
        "The optimizer's Adam.square is not finite in parameter 'coef' after epoch 0, batch 5 .* "
        r"The largest entry of the gradient is .*e\+.., too large for this optimizer in float32. Scale X and y, "
        "use float64, or clip the gradient"
    )
    with pytest.raises(DivergenceError, match=message):
        model.fit(broken, y)
    start = {"coef": np.zeros(3, np.float32), "intercept": np.float32(y.mean(dtype=np.float64))}
    settings = {"init": start, "batch_size": 50, "shuffle": False, "check_gradient": False}
    before = make(**settings).partial_fit(broken[:250], y[:250])
    assert_array_equal(model.coef_, before.coef_)
    ours, theirs = (m.optimizer_state_.links[0] for m in (model, before))
    for name, slot in theirs.slots.items():
        assert_array_equal(ours.slots[name], slot)
    assert ours.records[0][0].t == theirs.records[0][0].t == 5


HUGE = {
    "X": (X * 1e307, Y, {}),
    "y": (X, Y * 1e200, {}),
    "a rate": (X, Y, {"optimizer": SGD(1e200)}),
    "y, full batch": (X, Y * 1e200, {"batch_size": 300}),
    "a monitored loss": (X, Y * 1e200, LOSSLESS | {"loss": "squared_error"}),
}


@pytest.mark.parametrize("way", ["fit", "partial_fit", "fit_chunks"])
@pytest.mark.parametrize(("X", "y", "settings"), HUGE.values(), ids=HUGE)
def test_what_overflows_in_float64_is_a_divergence(X, y, settings, way):
    """Without a warning of NumPy's, and with finite parameters."""
    model = make(**settings)
    train = partial(model.fit_chunks, chunks(X, y)) if way == "fit_chunks" else partial(getattr(model, way), X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DivergenceError, match="not finite|The loss is inf"):
            [train() for _ in range(3)]
    assert all(np.isfinite(leaf).all() for leaf in model.params_.values())
    assert all(np.isfinite(model.loss_curve_))


def test_a_decay_to_zero_ends_by_patience():
    """Epochs whose rate is zero are updates; those in which none was due are not counted."""
    model = make(optimizer=SGD(Polynomial(0.1, 5, unit="epoch"))).fit(X, Y)
    assert model.n_iter_ < 40
