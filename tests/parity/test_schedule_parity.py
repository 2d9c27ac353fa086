"""Schedules, and the links that average, beside torch and optax, count by count and step by step.

The references come with the extra ``parity``; without it the tests are skipped, and say so.
"""

import contextlib
import warnings

import numpy as np
import pytest
from references import require

from sk_analytic.optimizers import (
    SGD,
    Accumulate,
    Adam,
    Chain,
    Cosine,
    Exponential,
    ExponentialAverage,
    Joined,
    Lookahead,
    Maximize,
    OneCycle,
    Piecewise,
    PolyakAverage,
    Polynomial,
    ReduceOnPlateau,
    Step,
    WarmUp,
    WeightDecay,
)

COUNTS = 60


class TorchSchedule:
    """A schedule of ``torch.optim.lr_scheduler``, for a rule whose rate is ``initial``."""

    def __init__(self, build, initial=1.0, of="lr", last=COUNTS):
        self.build, self.initial, self.of, self.last = build, initial, of, last

    def values(self):
        torch = require("torch")
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=self.initial, momentum=0.9)
        values = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SequentialLR steps its parts by a way of calling that torch deprecates
            scheduler = self.build(torch.optim.lr_scheduler, optimizer)
            for count in range(self.last):
                values.append(optimizer.param_groups[0][self.of])
                optimizer.step()
                if count + 1 < self.last:
                    scheduler.step()
        return [float(value) for value in values]


class OptaxSchedule:
    """A schedule of ``optax``."""

    last = COUNTS

    def __init__(self, build):
        self.build = build

    def values(self):
        optax = require("optax")
        jax = require("jax")
        with _double(jax):
            return np.array(self.build(optax)(jax.numpy.arange(self.last, dtype=float)))


@contextlib.contextmanager
def _double(jax):
    """Run jax in double precision."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def sequential(torch, optimizer):
    parts = [torch.LinearLR(optimizer, 0.25, total_iters=8), torch.ExponentialLR(optimizer, 0.9)]
    return torch.SequentialLR(optimizer, parts, milestones=[8])


CYCLE = {"max_lr": 1.0, "total_steps": COUNTS, "base_momentum": 0.8, "max_momentum": 0.95}

SCHEDULES = {
    "exponential, torch": (Exponential(1.0, 0.9), TorchSchedule(lambda t, o: t.ExponentialLR(o, 0.9))),
    "exponential, optax": (
        Exponential(0.5, 0.3, every=7),
        OptaxSchedule(lambda o: o.exponential_decay(0.5, 7, 0.3)),
    ),
    "polynomial, torch": (Polynomial(1.0, 40, power=1.5), TorchSchedule(lambda t, o: t.PolynomialLR(o, 40, 1.5))),
    "polynomial, optax": (
        Polynomial(0.7, 40, final=0.1, power=2.5),
        OptaxSchedule(lambda o: o.polynomial_schedule(0.7, 0.1, 2.5, 40)),
    ),
    "linear, optax": (Polynomial(0.0, 40, final=0.3), OptaxSchedule(lambda o: o.linear_schedule(0.0, 0.3, 40))),
    "step, torch": (Step(1.0, every=7, factor=0.3), TorchSchedule(lambda t, o: t.StepLR(o, 7, 0.3))),
    "step, optax": (
        Step(1.0, every=7, factor=0.3),
        OptaxSchedule(lambda o: o.exponential_decay(1.0, 7, 0.3, staircase=True)),
    ),
    "piecewise, torch": (
        Piecewise([1.0, 0.3, 0.09], [10, 25]),
        TorchSchedule(lambda t, o: t.MultiStepLR(o, [10, 25], 0.3)),
    ),
    "piecewise, optax": (
        Piecewise([1.0, 0.5, 0.1], [10, 25]),
        OptaxSchedule(lambda o: o.piecewise_constant_schedule(1.0, {10: 0.5, 25: 0.2})),
    ),
    "cosine, torch": (
        Cosine(1.0, 40, final=0.1),
        TorchSchedule(lambda t, o: t.CosineAnnealingLR(o, 40, 0.1), last=41),  # then it rises again
    ),
    "cosine, optax": (
        Cosine(0.5, 40, final=0.05),
        OptaxSchedule(lambda o: o.cosine_decay_schedule(0.5, 40, alpha=0.1)),
    ),
    "restarts, torch": (
        Cosine(1.0, 7, final=0.01, restarts=True),
        TorchSchedule(lambda t, o: t.CosineAnnealingWarmRestarts(o, 7, eta_min=0.01)),
    ),
    "slower restarts, torch": (
        Cosine(1.0, 7, final=0.01, restarts=True, growth=2),
        TorchSchedule(lambda t, o: t.CosineAnnealingWarmRestarts(o, 7, 2, eta_min=0.01)),
    ),
    "one cycle, torch": (
        OneCycle(1.0, COUNTS),
        TorchSchedule(lambda t, o: t.OneCycleLR(o, **CYCLE)),
    ),
    "one cycle of the momentum, torch": (
        OneCycle(0.8, COUNTS, initial=0.95, final=0.95),
        TorchSchedule(lambda t, o: t.OneCycleLR(o, **CYCLE), of="momentum"),
    ),
    "one cycle, three phases, torch": (
        OneCycle(1.0, COUNTS, initial=0.1, final=0.001, peak_at=0.4, shape="linear", three_phases=True),
        TorchSchedule(
            lambda t, o: t.OneCycleLR(
                o,
                **CYCLE,
                pct_start=0.4,
                anneal_strategy="linear",
                div_factor=10,
                final_div_factor=100,
                three_phase=True,
            )
        ),
    ),
    "three phases of the momentum, torch": (
        OneCycle(0.8, COUNTS, initial=0.95, final=0.95, peak_at=0.4, three_phases=True),
        TorchSchedule(lambda t, o: t.OneCycleLR(o, **CYCLE, pct_start=0.4, three_phase=True), of="momentum"),
    ),
    "warm-up, optax": (WarmUp(12, 0.5), OptaxSchedule(lambda o: o.warmup_constant_schedule(0.0, 0.5, 12))),
    "warm-up and cosine, optax": (
        WarmUp(12, Cosine(0.5, 30, final=0.1), start_factor=0.2),
        OptaxSchedule(lambda o: o.warmup_cosine_decay_schedule(0.1, 0.5, 12, 42, 0.1)),
    ),
    "warm-up and exponential, torch": (
        WarmUp(8, Exponential(1.0, 0.9), start_factor=0.25),
        TorchSchedule(sequential),
    ),
    "joined, optax": (
        Joined([0.3, Exponential(0.5, 0.9), Polynomial(1.0, 10)], [10, 30]),
        OptaxSchedule(
            lambda o: o.join_schedules(
                [o.constant_schedule(0.3), o.exponential_decay(0.5, 1, 0.9), o.linear_schedule(1.0, 0.0, 10)], [10, 30]
            )
        ),
    ),
}


@pytest.mark.parametrize(("schedule", "reference"), SCHEDULES.values(), ids=SCHEDULES)
def test_each_count_has_the_value_of_the_reference(schedule, reference):
    """In double precision, up to the rounding of products and powers."""
    expected = reference.values()
    ours = [schedule(count, 0) for count in range(reference.last)]
    np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"factor": 0.5, "patience": 2, "cooldown": 3, "threshold": 0.05},
        {"factor": 0.7, "patience": 0, "threshold_mode": "absolute", "threshold": 0.02, "minimum": 0.1},
    ],
)
def test_reductions_on_a_plateau_are_those_of_torch(settings):
    """Over 200 noisy losses that fall for a while, loss by loss; torch's ``eps`` is 0."""
    torch = require("torch")
    losses = np.exp(-np.arange(200) / 30) + 0.1 * np.random.default_rng(0).random(200)
    names = {"threshold_mode": "threshold_mode", "minimum": "min_lr"}
    words = {"relative": "rel", "absolute": "abs"}
    theirs = {names.get(name, name): words.get(value, value) for name, value in settings.items()}
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, eps=0.0, **theirs)
    schedule, state = ReduceOnPlateau(1.0, **settings), SGD().init(np.zeros(1))
    for loss in losses:
        scheduler.step(loss)
        state.loss_curve.append(float(loss))
        assert schedule.at(state) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert schedule.at(state) < 1.0


# Links


rng = np.random.default_rng(0)
THETA, GRADIENTS = rng.normal(size=8), rng.normal(size=(50, 8))


def ours(optimizer):
    """Return θ after each step, and the answers."""
    theta = THETA.copy()
    state = optimizer.init(theta)
    path, answers = [], []
    for gradient in GRADIENTS:
        optimizer.update(state, theta, gradient)
        path.append(theta.copy())
        answers.append(optimizer.eval_params(state, theta).copy())
    return path, answers


def optax_path(build, read=lambda optax, theta: theta, begin=lambda optax, theta: theta):
    """Return θ after each step of a transform of optax, in double precision."""
    optax, jax = require("optax"), require("jax")
    with _double(jax):
        transform, theta = build(optax), begin(optax, jax.numpy.asarray(THETA))
        state, update = transform.init(theta), jax.jit(transform.update)
        path = []
        for gradient in GRADIENTS:
            updates, state = update(jax.numpy.asarray(gradient), state, theta)
            theta = optax.apply_updates(theta, updates)
            path.append([np.array(leaf) for leaf in jax.tree.leaves(read(optax, theta))])
        return np.array(path)


@pytest.mark.parametrize("k", [1, 3])
def test_accumulation_is_that_of_optax(k):
    """``optax.MultiSteps`` around Adam; its mean would be in single precision if it were not told."""
    path, _ = ours(Chain([Accumulate(k), Adam(0.1)]))
    expected = optax_path(lambda optax: optax.MultiSteps(optax.adam(0.1), k, accumulator_dtype="float64"))
    np.testing.assert_allclose(path, expected[:, 0], rtol=1e-11)


def test_lookahead_is_that_of_optax():
    """Fast and slow weights, momentum kept."""
    path, answers = ours(Chain([SGD(0.1, momentum=0.9), Lookahead(4, 0.3)]))
    expected = optax_path(
        lambda optax: optax.lookahead(optax.sgd(0.1, momentum=0.9), 4, 0.3),
        begin=lambda optax, theta: optax.LookaheadParams.init_synced(theta),
    )
    np.testing.assert_allclose(path, expected[:, 0], rtol=1e-11)
    np.testing.assert_allclose(answers, expected[:, 1], rtol=1e-11)


def test_the_exponential_average_is_that_of_optax():
    """``optax.ema`` with its correction, of θ."""
    optax, jax = require("optax"), require("jax")
    path, answers = ours(Chain([Adam(0.1), ExponentialAverage(0.9)]))
    with _double(jax):
        average = optax.ema(0.9, debias=True)
        state = average.init(jax.numpy.asarray(THETA))
        for theta, answer in zip(path, answers, strict=True):
            expected, state = average.update(jax.numpy.asarray(theta), state)
            np.testing.assert_allclose(answer, expected, rtol=1e-11)


def test_the_polyak_average_is_that_of_torch():
    """``AveragedModel``, updated after each step."""
    torch = require("torch")
    path, answers = ours(Chain([Adam(0.1), PolyakAverage()]))
    model = torch.nn.Linear(8, 1, bias=False, dtype=torch.float64)
    average = torch.optim.swa_utils.AveragedModel(model)
    for theta, answer in zip(path, answers, strict=True):
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(theta))
        average.update_parameters(model)
        np.testing.assert_allclose(answer, average.module.weight.detach().numpy()[0], rtol=1e-11)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_maximize_is_that_of_torch(decay):
    """It turns the gradient before the decay is added."""
    torch = require("torch")
    path, _ = ours(Chain([Maximize(), WeightDecay(decay), Adam(0.1)]))
    theta = torch.tensor(THETA, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=0.1, weight_decay=decay, maximize=True)
    for gradient, expected in zip(GRADIENTS, path, strict=True):
        theta.grad = torch.from_numpy(gradient)
        optimizer.step()
        np.testing.assert_allclose(expected, theta.detach().numpy(), rtol=1e-8)
