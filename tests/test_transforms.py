"""The links that are no rules: what each does, and what holds for all of them in any place."""

import copy
import os
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import sk_analytic.optimizers as library
from sk_analytic import AnalyticRegressor
from sk_analytic.optimizers import (
    SGD,
    Accumulate,
    Adam,
    Chain,
    ClipBlockNorm,
    ClipNorm,
    ClipValue,
    DivideByNorm,
    DivideByRMS,
    ExponentialAverage,
    Link,
    Lookahead,
    Maximize,
    Optimism,
    PerBlock,
    Piecewise,
    PolyakAverage,
    Rule,
    ScheduleFree,
    Sign,
    SignDecay,
    TrustRatio,
    WeightDecay,
    use_engine,
)
from sk_analytic.optimizers.engine import numba_kernel
from sk_analytic.parameters import Layout

BEFORE = {
    "clip value": ClipValue(0.5),
    "clip block norm": ClipBlockNorm(0.5),
    "clip norm": ClipNorm(0.5),
    "weight decay": WeightDecay(0.1),
    "sign decay": SignDecay(0.1),
    "divide by rms": DivideByRMS(0.9, corrected=True),
    "divide by norm": DivideByNorm(),
    "trust ratio": TrustRatio(),
    "sign": Sign(),
    "optimism": Optimism(0.5),
    "accumulate": Accumulate(2),
    "maximize": Maximize(),
}
"""Links that take the gradient, and may stand on either side of a rule."""
AFTER = {
    "lookahead": Lookahead(2, 0.3),
    "polyak average": PolyakAverage(start=2),
    "exponential average": ExponentialAverage(0.5),
    "schedule-free": ScheduleFree(),
}
"""Links that give θ."""
LINKS = BEFORE | AFTER
LONG = Chain(
    [
        Maximize(),
        Accumulate(2),
        ClipNorm(1.0),
        SignDecay(0.05),
        ClipBlockNorm(0.8),
        Adam(0.1),
        TrustRatio(0.1),
        WeightDecay(0.1),
        Lookahead(2),
        PolyakAverage(),
        ExponentialAverage(0.9),
    ]
)
BY_BLOCK = Chain(
    [
        ClipNorm(2.0),
        PerBlock({"W": Chain([Accumulate(3), Adam(0.1), Lookahead(2)]), "b": Chain([SignDecay(0.1), SGD(0.1)])}, LONG),
    ]
)
CHAINS = {name: Chain([link, Adam(0.1)]) for name, link in BEFORE.items()}
CHAINS |= {f"{name}, after the rule": Chain([Adam(0.1), link]) for name, link in LINKS.items()}
CHAINS |= {"long": LONG, "by block": BY_BLOCK}
every_chain = pytest.mark.parametrize("optimizer", CHAINS.values(), ids=CHAINS)
SHAPES = {"W": (4, 3), "b": (3,), "deep": (2, 2)}


def draw(rng, dtype=float):
    """Return a layout of three blocks, θ, and gradients as vectors."""
    layout = Layout.of({name: np.zeros(shape, dtype) for name, shape in SHAPES.items()})
    vectors = rng.normal(size=(14, layout.size)).astype(dtype)
    return layout, vectors[0].copy(), vectors[1:]


def run(optimizer, theta, gradients, layout=None):
    """Update a copy of θ; return it after each step, and what predicts in the end."""
    theta = theta.copy()
    state = optimizer.init(theta, layout)
    path = []
    for gradient in gradients:
        optimizer.update(state, theta, gradient)
        path.append(theta.copy())
    return np.array(path), optimizer.eval_params(state, theta).copy()


def test_every_link_is_in_the_tables():
    """A link of the library that is no rule, and stands in none of them, fails."""
    classes = {cls for cls in map(library.__dict__.get, library.__all__) if isinstance(cls, type)}
    links = {cls for cls in classes if issubclass(cls, Link) and not issubclass(cls, Rule)} - {Link}
    assert {type(link) for link in LINKS.values()} == links


# What each does


def test_sign_decay_is_the_slope_of_an_l1_penalty(rng):
    """Before Adam it is part of the gradient, zero at zero; after it, entries move by rate times strength."""
    theta, g = rng.normal(size=(2, 10))
    theta[3] = 0.0
    coupled, _ = run(Chain([SignDecay(0.5), Adam(0.1)]), theta, [g])
    np.testing.assert_array_equal(coupled, run(Adam(0.1), theta, [g + 0.5 * np.sign(theta)])[0])
    decoupled, _ = run(Chain([Adam(0.1), SignDecay(0.5)]), theta, [g])
    np.testing.assert_allclose(decoupled, run(Adam(0.1), theta, [g])[0] - 0.05 * np.sign(theta), rtol=1e-13)


def test_maximize_climbs_what_its_negative_descends(rng):
    """Adam uphill on f is Adam downhill on -f, and decay pulls to zero either way."""
    _, theta, gradients = draw(rng)
    for links in ([Adam(0.1)], [WeightDecay(0.1), Adam(0.1)], [Adam(0.1), WeightDecay(0.1)], [SignDecay(), SGD(0.1)]):
        uphill, _ = run(Chain([Maximize(), *links]), theta, gradients)
        np.testing.assert_array_equal(uphill, run(Chain(links), theta, -gradients)[0])


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_accumulate_steps_by_means(rng, k):
    """Every k-th update is a step by the mean of the last k gradients, and nothing else moves or counts."""
    _, theta, gradients = draw(rng)
    links = [WeightDecay(0.1), ClipNorm(0.5), Adam(0.1), PolyakAverage()]
    path, answer = run(Chain([Accumulate(k), *links]), theta, gradients)
    n = len(gradients) // k
    means = gradients[: n * k].reshape(n, k, -1).mean(axis=1)
    expected, average = run(Chain(links), theta, means)
    np.testing.assert_allclose(path[k - 1 :: k], expected, rtol=1e-12)
    np.testing.assert_allclose(answer, average, rtol=1e-12)
    expected_path = np.repeat(np.vstack([theta, path[k - 1 :: k]]), k, axis=0)[1 : len(path) + 1]
    np.testing.assert_array_equal(path, expected_path)


def test_accumulate_leaves_no_trace_of_the_last_mean(rng):
    """With k = 1 it is bitwise as if it were not there."""
    _, theta, gradients = draw(rng)
    path, _ = run(Chain([Accumulate(1), Adam(0.1)]), theta, gradients)
    np.testing.assert_array_equal(path, run(Adam(0.1), theta, gradients)[0])


def test_accumulate_with_a_changing_number(rng):
    """A schedule, or a change in the middle: what flows on is the mean of what came since the last step."""
    _, theta, gradients = draw(rng)
    path, _ = run(Chain([Accumulate(Piecewise([2, 3], [4])), SGD(1.0)]), theta, gradients[:9])
    steps = np.diff(np.vstack([theta, path]), axis=0)
    moved = [i for i in range(9) if steps[i].any()]
    assert moved == [1, 3, 5, 8]
    for begin, end in ((0, 1), (2, 3), (4, 5), (6, 8)):
        np.testing.assert_allclose(steps[end], -gradients[begin : end + 1].mean(axis=0), rtol=1e-10, atol=1e-14)


def test_a_block_accumulates_its_own_gradients(rng):
    """A block that has a gradient in every other step only takes half as many steps, each by k of its own."""
    layout, theta, gradients = draw(rng)
    b = layout.slices[1]
    optimizer = Chain([Accumulate(2), ClipNorm(100.0), Adam(0.1)])
    alone, _ = run(Chain([Accumulate(2), Adam(0.1)]), theta[b], gradients[::2, b])
    others, _ = run(Chain([Accumulate(2), Adam(0.1)]), theta, gradients)
    moved = theta.copy()
    state = optimizer.init(moved, layout)
    for step, gradient in enumerate(gradients):
        optimizer.update(state, moved, gradient, missing=(1,) if step % 2 else ())
    np.testing.assert_allclose(moved[b], alone[-1], rtol=1e-13)
    np.testing.assert_allclose(moved[layout.slices[0]], others[-1][layout.slices[0]], rtol=1e-13)


def test_lookahead_is_the_papers_algorithm(rng):
    """Zhang et al. 2019, algorithm 1, with momentum kept: k fast steps, one step of the slow weights."""
    _, theta, gradients = draw(rng)
    path, answer = run(Chain([SGD(0.1, momentum=0.9), Lookahead(steps=4, slow_rate=0.3)]), theta, gradients)
    fast, slow, velocity = theta.copy(), theta.copy(), np.zeros_like(theta)
    for t, g in enumerate(gradients, 1):
        velocity = 0.9 * velocity + g
        fast = fast - 0.1 * velocity
        if t % 4 == 0:
            slow = slow + 0.3 * (fast - slow)
            fast = slow
        np.testing.assert_allclose(path[t - 1], fast, rtol=1e-13)
    np.testing.assert_allclose(answer, slow, rtol=1e-13)


@pytest.mark.parametrize("start", [0, 3, 100])
def test_the_polyak_average_is_the_mean_of_the_path(rng, start):
    """From its start on; before, it is θ. The path is that without it."""
    _, theta, gradients = draw(rng)
    path, answer = run(Chain([Adam(0.1), PolyakAverage(start)]), theta, gradients)
    np.testing.assert_array_equal(path, run(Adam(0.1), theta, gradients)[0])
    np.testing.assert_allclose(answer, path[start:].mean(axis=0) if start < len(path) else path[-1], rtol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_exponential_average_weighs_the_path(rng, decay):
    """By powers of the decay that sum to one, from the first step on."""
    _, theta, gradients = draw(rng)
    path, answer = run(Chain([Adam(0.1), ExponentialAverage(decay)]), theta, gradients)
    np.testing.assert_array_equal(path, run(Adam(0.1), theta, gradients)[0])
    weights = decay ** np.arange(len(path))[::-1]
    np.testing.assert_allclose(answer, weights @ path / weights.sum(), rtol=1e-12)


def test_an_average_with_a_scheduled_decay_has_weights_that_sum_to_one():
    """A θ that stays where it is is its own average, whatever the decay does."""
    theta = np.array([1.7, -0.3])
    optimizer = Chain([SGD(0.0), ExponentialAverage(Piecewise([0.0, 0.9, 0.5], [2, 5]))])
    np.testing.assert_allclose(run(optimizer, theta, np.ones((9, 2)))[1], theta, rtol=1e-14)


def test_a_bad_start_is_forgotten():
    """A huge θ before the average begins, or a huge gradient in the mean before, leaves nothing behind."""
    huge = np.array([-1e300])
    _, answer = run(Chain([SGD(1.0), PolyakAverage(start=1)]), np.zeros(1), [huge, -huge, np.zeros(1)])
    assert answer == 0.0
    path, _ = run(Chain([Accumulate(2), SGD(1.0)]), np.zeros(1), [huge, huge, -np.ones(1), -np.ones(1)])
    assert path[-1] - path[-2] >= 0.0


def test_the_last_average_answers(rng):
    """Of two links that could predict, the one behind does."""
    _, theta, gradients = draw(rng)
    path, answer = run(Chain([SGD(0.1), Lookahead(3), PolyakAverage()]), theta, gradients)
    np.testing.assert_allclose(answer, path.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (Accumulate(0), r"Accumulate: steps must be a whole number in \[1, inf\); got 0"),
        (Accumulate(2.5), "Accumulate: steps must be a whole number in .*; got 2.5"),
        (Lookahead(steps=0), "Lookahead: steps must be a whole number"),
        (Lookahead(slow_rate=1.5), r"Lookahead: slow_rate must be a number in \[0, 1\]; got 1.5"),
        (PolyakAverage(-1), "PolyakAverage: start must be a number in"),
        (ExponentialAverage(1.0), r"ExponentialAverage: decay must be a number in \[0, 1\); got 1.0"),
        (SignDecay(-0.1), "SignDecay: sign_decay must be a number in"),
    ],
)
def test_a_wrong_hyperparameter_is_refused_by_name(link, message):
    """When the optimizer starts."""
    with pytest.raises(ValueError, match=message):
        Chain([SGD(), link]).init(np.ones(2))


@pytest.mark.parametrize("link", [link for link in AFTER.values() if link.takes == "theta"])
def test_what_takes_theta_stands_behind_the_rule(link):
    """Before it the error names both, and no link of the gradient may follow."""
    name = type(link).__name__
    with pytest.raises(ValueError, match=f"{name} takes the proposed θ, so it must come after the rule SGD"):
        Chain([link, SGD()]).init(np.ones(2))
    with pytest.raises(ValueError, match=f"WeightDecay takes the gradient, but {name} gives θ"):
        Chain([SGD(), link, WeightDecay()]).init(np.ones(2))


# What holds for all of them


@every_chain
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(optimizer, dtype, rng):
    """θ, the answer and what is remembered are of θ's dtype, finite, and θ has moved."""
    layout, theta, gradients = draw(rng, dtype)
    path, answer = run(optimizer, theta, gradients, layout)
    assert path.dtype == answer.dtype == dtype
    assert np.isfinite(path).all()
    assert np.isfinite(answer).all()
    assert not np.array_equal(path[-1], theta)


@every_chain
def test_a_copy_in_the_middle_goes_on_bitwise(optimizer, rng):
    """Pickled after any number of steps, also within a mean or between meetings, and with blocks out of step."""
    layout, theta, gradients = draw(rng)
    missing = [(), (1,), (), (0, 2), (), (), (1,), (), (), (), (2,), (), ()]
    state = optimizer.init(theta, layout)
    copies = []
    for gradient, absent in zip(gradients, missing, strict=True):
        copies.append((pickle.dumps(state), theta.copy()))
        optimizer.update(state, theta, gradient, missing=absent)
    for begin, (kept, resumed) in enumerate(copies):
        other, its_state = clone(optimizer), pickle.loads(kept)
        for gradient, absent in zip(gradients[begin:], missing[begin:], strict=True):
            other.update(its_state, resumed, gradient, missing=absent)
        np.testing.assert_array_equal(resumed, theta)
        np.testing.assert_array_equal(other.eval_params(its_state, resumed), optimizer.eval_params(state, theta))
        assert repr(its_state) == repr(state)


@every_chain
def test_a_block_without_gradients_stays_untouched(optimizer, rng):
    """θ, slots and answer of it are as they were, and it goes on later."""
    layout, theta, gradients = draw(rng)
    b = layout.slices[1]
    state = optimizer.init(theta, layout)
    for gradient in gradients[:3]:
        optimizer.update(state, theta, gradient)
    before, kept = theta.copy(), copy.deepcopy(state)
    answer = optimizer.eval_params(state, theta)[b].copy()
    for gradient in gradients[3:6]:
        optimizer.update(state, theta, gradient, missing=(1,))
    np.testing.assert_array_equal(theta[b], before[b])
    np.testing.assert_array_equal(optimizer.eval_params(state, theta)[b], answer)
    for ours, theirs in zip(state.links, kept.links, strict=True):
        for name in ours.slots:
            np.testing.assert_array_equal(ours.slots[name][b], theirs.slots[name][b])
    for gradient in gradients[6:]:
        optimizer.update(state, theta, gradient)
    assert not np.array_equal(theta[b], before[b])


@pytest.mark.parametrize("name", LINKS)
def test_on_one_block_a_link_does_what_it_does_alone(name, rng):
    """Inside PerBlock its block moves as if it were all of θ, and the others as without the link."""
    link, layout = LINKS[name], draw(rng)[0]
    theta, *gradients = rng.normal(size=(8, layout.size))
    sides = (True, False) if name in BEFORE else (False,)
    for is_before in sides:
        one = PerBlock({"W": link}, default=Chain([]))
        links, alone = ([one, Adam(0.1)], [link, Adam(0.1)]) if is_before else ([Adam(0.1), one], [Adam(0.1), link])
        path, answer = run(Chain(links), theta, gradients, layout)
        W = layout.slices[0]
        expected, its_answer = run(Chain(alone), theta[W], [g[W] for g in gradients])
        np.testing.assert_array_equal(path[:, W], expected)
        np.testing.assert_array_equal(answer[W], its_answer)
        plain, _ = run(Adam(0.1), theta, gradients)
        np.testing.assert_array_equal(path[:, W.stop :], plain[:, W.stop :])
        np.testing.assert_array_equal(answer[W.stop :], plain[-1][W.stop :])


@pytest.mark.parametrize("name", LINKS)
def test_each_is_reached_by_name(name):
    """In an estimator's grid, as `make_pipeline` would call it, next to the rule."""
    link = LINKS[name]
    model = AnalyticRegressor(optimizer=Chain([link, Adam()]))
    params = model.get_params()
    prefix = f"optimizer__{type(link).__name__.lower()}"
    assert params[prefix] is link
    assert all(params[f"{prefix}__{key}"] == value for key, value in link.get_params().items())
    model.set_params(optimizer__adam__learning_rate=0.25)
    assert model.optimizer.links[1].learning_rate == 0.25


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """What is compiled here is kept until the tests end, and no other test runs it."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "numba"))
    monkeypatch.setattr(numba_kernel, "_loaded", {})


COMPILED = {
    "before the rule": Chain([Maximize(), SignDecay(0.1), Accumulate(2), SGD(0.1, momentum=0.9)]),
    "after the rule": Chain([SGD(0.1), SignDecay(0.1), Lookahead(2, 0.3), PolyakAverage(2), ExponentialAverage(0.9)]),
    "long": LONG,
    "by block": BY_BLOCK,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", COMPILED)
def test_both_engines_give_the_same_numbers(own_cache, name, dtype, rng):
    """Long chains too, blocks out of step included: θ, the answer and all slots, to the bit."""
    if not os.environ.get("SK_ANALYTIC_REQUIRE_PARITY"):
        pytest.importorskip("numba", reason="needs numba")
    layout, start, gradients = draw(rng, dtype)
    results = []
    for engine in ("numpy", "numba"):
        theta, optimizer = start.copy(), COMPILED[name]
        with use_engine(engine):
            state = optimizer.init(theta, layout)
        for step, gradient in enumerate(gradients):
            optimizer.update(state, theta, gradient, missing=(1,) if step == 3 else ())
        results.append((theta, optimizer.eval_params(state, theta), [link.slots for link in state.links]))
    np.testing.assert_equal(results[1], results[0])


# In an estimator


@pytest.fixture
def data(rng):
    X = rng.normal(size=(50, 3))
    return X, X @ [1.0, -2.0, 0.5] + 1 + 0.1 * rng.normal(size=50)


def regressor(optimizer, **settings):
    """A regressor of three steps an epoch that never stops early."""
    settings = {"batch_size": 20, "max_iter": 8, "n_iter_no_change": 10**6, "random_state": 0} | settings
    return AnalyticRegressor(optimizer=optimizer, **settings)


def fitted(model, X, y):
    """Fit; that so few epochs are not enough is no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


ESTIMATED = {
    "accumulate": Chain([Accumulate(2), Adam(0.1)]),
    "lookahead": Chain([Adam(0.1), Lookahead(4)]),
    "polyak average": Chain([SGD(0.1), PolyakAverage()]),
    "exponential average": Chain([ClipNorm(1.0), Adam(0.1), ExponentialAverage(0.9)]),
    "all": Chain([Accumulate(2), Adam(0.1), SignDecay(), Lookahead(3), ExponentialAverage(0.9)]),
    "by block": PerBlock({"coef": Chain([Accumulate(2), SGD(0.1), PolyakAverage()])}, default=Adam(0.1)),
}
every_estimated = pytest.mark.parametrize("optimizer", ESTIMATED.values(), ids=ESTIMATED)


@every_estimated
def test_interrupted_training_is_that_without(optimizer, data):
    """One fit of 8 epochs, a warm start after 5 and 8 times partial_fit, each from a pickle, are one to the bit.

    Of the 24 steps 15 lie before the warm start, which so comes in the middle of a mean of two.
    """
    whole = fitted(regressor(optimizer), *data)
    warm = regressor(optimizer, max_iter=5, warm_start=True)
    warm = pickle.loads(pickle.dumps(fitted(warm, *data))).set_params(max_iter=3)
    parts = regressor(optimizer)
    for _ in range(8):
        parts = pickle.loads(pickle.dumps(parts)).partial_fit(*data)
    for other in (fitted(warm, *data), parts):
        np.testing.assert_equal(other.params_, whole.params_)
        assert other.loss_curve_ == whole.loss_curve_
        assert repr(other.optimizer_state_) == repr(whole.optimizer_state_)


@pytest.mark.parametrize("link", [Lookahead(4), PolyakAverage(), ExponentialAverage(0.9)])
def test_the_average_predicts_while_training_goes_on_from_theta(link, data):
    """`params_` and predictions are the average's; the losses of the steps are those of training without it."""
    X, y = data
    with_average = regressor(Chain([SGD(0.1), link]))
    plain = regressor(Chain([SGD(0.1), clone(link)]) if isinstance(link, Lookahead) else SGD(0.1))
    for _ in range(4):
        with_average.partial_fit(X, y)
        plain.partial_fit(X, y)
        average = with_average.optimizer_state_.links[1].slots[link.eval_slot]
        np.testing.assert_array_equal(np.append(*with_average.params_.values()), average)
        np.testing.assert_allclose(
            with_average.predict(X), X @ with_average.params_["coef"] + with_average.params_["intercept"], rtol=1e-12
        )
        assert with_average.loss_curve_ == plain.loss_curve_
    if not isinstance(link, Lookahead):
        assert not np.allclose(with_average.params_["coef"], plain.params_["coef"], rtol=1e-6)


@every_estimated
def test_fixed_blocks_stay(optimizer, data):
    """A fixed block has no gradient: it never accumulates, moves or averages."""
    start = {"coef": np.zeros(3), "intercept": np.array(0.75)}
    model = AnalyticRegressor(
        lambda params, X: X @ params["coef"] + params["intercept"],
        vjp=lambda params, X: (
            X @ params["coef"] + params["intercept"],
            lambda d: {"coef": X.T @ d, "intercept": d.sum()},
        ),
        init=start,
        fixed=("intercept",),
        optimizer=optimizer,
        max_iter=5,
        random_state=0,
    )
    fitted(model, *data)
    assert model.params_["intercept"] == 0.75
    assert model.params_["coef"].all()


def test_early_stopping_keeps_the_best_average(data):
    """What is scored, kept and returned is what predicts."""
    model = fitted(regressor(Chain([SGD(0.02), ExponentialAverage(0.5)]), early_stopping=True), *data)
    again = fitted(regressor(Chain([SGD(0.02), ExponentialAverage(0.5)]), early_stopping=True), *data)
    np.testing.assert_equal(model.params_, again.params_)
    assert max(model.validation_scores_) == model.validation_scores_[-1]
    state = model.optimizer_state_
    np.testing.assert_array_equal(np.append(*model.params_.values()), state.links[1].slots["average"])


def test_a_search_over_links(data):
    """Numbers of batches, decay of the average and rate, in one grid."""
    model = regressor(Chain([Accumulate(), Adam(), ExponentialAverage()]))
    grid = {
        "optimizer__accumulate__steps": [1, 2],
        "optimizer__adam__learning_rate": [0.01, 0.3],
        "optimizer__exponentialaverage__decay": [0.0, 0.5],
    }
    search = fitted(GridSearchCV(model, grid, cv=2), *data)
    assert len(search.cv_results_["params"]) == 8
    assert search.best_params_["optimizer__adam__learning_rate"] == 0.3
