"""Step by step, each rule beside the reference that defines it: torch, optax, or the equations of its paper.

The references come with the extra ``parity``. Without it the tests are skipped, unless the environment
says that they must not be.
"""

import contextlib

import numpy as np
import pytest
from references import CASES, Optax, Torch, require

from sk_analytic.optimizers import Optimizer, get_optimizer, get_optimizer_names

STEPS = 200
SHAPES = {"W": (2, 3), "b": (2,)}
rng = np.random.default_rng(0)


class Quadratic:
    """A bowl 10,000 times as steep in one direction as in another."""

    def __init__(self):
        axes = np.linalg.qr(rng.normal(size=(8, 8)))[0]
        self.hessian = axes * np.logspace(0, -4, 8) @ axes.T
        self.start, self.bottom = rng.normal(size=(2, 8))

    def gradient(self, theta, step):
        return self.hessian @ (theta - self.bottom)


class Rosenbrock:
    """The sum of 100 (y - x²)² + (1 - x)² over neighboring entries, over 500."""

    start = np.tile([-1.2, 1.0], 4)

    def gradient(self, theta, step):
        gradient = np.zeros_like(theta)
        away = theta[1:] - theta[:-1] ** 2
        gradient[:-1] = -400 * theta[:-1] * away - 2 * (1 - theta[:-1])
        gradient[1:] += 200 * away
        return gradient / 500


class LogisticRegression:
    """Batches of 20 of 120 rows, in a fixed order. The second block starts at zero."""

    def __init__(self):
        self.X = rng.normal(size=(120, 8))
        self.y = (self.X @ rng.normal(size=8) + rng.normal(size=120) > 0).astype(float)
        self.start = np.concatenate([rng.normal(size=6), np.zeros(2)])

    def gradient(self, theta, step):
        rows = slice(20 * (step % 6), 20 * (step % 6) + 20)
        X, y = self.X[rows], self.y[rows]
        return X.T @ (1 / (1 + np.exp(-X @ theta)) - y) / 20


PROBLEMS = [Quadratic(), Rosenbrock(), LogisticRegression()]


def in_blocks(vector):
    """Cut a vector into blocks of θ."""
    pieces = np.split(vector, np.cumsum([np.prod(shape) for shape in SHAPES.values()])[:-1])
    return [piece.reshape(shape).copy() for piece, shape in zip(pieces, SHAPES.values(), strict=True)]


def as_vector(blocks):
    return np.concatenate([block.ravel() for block in blocks])


def start_ours(optimizer, blocks):
    """Start an optimizer of ours as a reference starts: return its step."""
    theta = dict(zip(SHAPES, blocks, strict=True))
    state = optimizer.init(theta)

    def step(gradients):
        optimizer.update(state, theta, dict(zip(SHAPES, gradients, strict=True)))
        return theta.values(), optimizer.eval_params(state, theta).values()

    return step


def path(start, problem, theta):
    """Return θ, and the θ that predicts, after each step: an array of shape (steps, 2, entries)."""
    step = start(in_blocks(theta))
    steps = []
    for number in range(STEPS):
        gradients = in_blocks(problem.gradient(theta, number))
        steps.append([as_vector(blocks) for blocks in step(gradients)])
        theta = steps[-1][0]
    return np.array(steps)


def size(paths):
    """Return the largest entry of each step."""
    return np.abs(paths).max(axis=(1, 2))


def noise(start, problem, expected):
    """Return how far the reference has gone astray after each step if it starts one ulp away."""
    directions = rng.choice([-np.inf, np.inf], size=(3, problem.start.size))
    others = [path(start, problem, np.nextafter(problem.start, direction)) for direction in directions]
    return np.maximum.accumulate(np.max([size(other - expected) for other in others], axis=0))


@contextlib.contextmanager
def in_float64(reference):
    """Let the reference keep everything in float64, and only as long as it runs."""
    if isinstance(reference, Torch):
        torch = require("torch")
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
    elif isinstance(reference, Optax):
        require("optax")
        with require("jax").enable_x64(True):
            yield
    else:
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_step_is_that_of_the_reference(case):
    """θ and what predicts agree to 1e-10 after each of 200 steps; beyond, to 100 times the reference's own noise."""
    ours, reference = case
    with in_float64(reference):
        for problem in PROBLEMS:
            expected = path(reference.start, problem, problem.start)
            found = path(lambda blocks: start_ours(ours, blocks), problem, problem.start)
            assert np.isfinite(expected).all()
            deviation, allowed = size(found - expected), 1e-10 * size(expected)
            if (deviation > allowed).any():
                allowed = np.maximum(allowed, 100 * noise(reference.start, problem, expected))
            astray = np.flatnonzero(deviation > allowed)
            assert not astray.size, (
                f"{type(problem).__name__}: step {astray[0] + 1} is {deviation[astray[0]]:.1e} off, "
                f"{allowed[astray[0]]:.1e} allowed"
            )


def links_of(optimizer):
    """Yield an optimizer, and what it is made of."""
    yield optimizer
    for link in getattr(optimizer, "links", ()) if not callable(getattr(optimizer, "links", None)) else ():
        yield from links_of(link)


RULES = {name: get_optimizer(name) for name in get_optimizer_names()}
RULES = {name: rule for name, rule in RULES.items() if isinstance(rule, Optimizer)}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_has_cases_for_all_its_settings(rule):
    """A rule that is new needs a reference, with each hyperparameter away from its default at least once."""
    tried = [link for case in CASES for link in links_of(case.ours) if type(link) is type(rule)]
    kind = type(rule).__name__
    where = "to CASES in tests/parity/references.py"
    assert tried, f"Add {where} the reference of {kind}: Case({kind}(), Torch(...)), Optax(...), or its equations."
    for name, default in rule.get_params().items():
        away = any(getattr(link, name) != default for link in tried)
        assert away, f"Add {where} a case of {kind} in which {name} is not its default, {default!r}."


def test_a_missing_reference_skips_or_fails(monkeypatch):
    """The reason names the extra; where references are required, it is a failure."""
    monkeypatch.delenv("SK_ANALYTIC_REQUIRE_PARITY", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no_such_package .*\.\[parity\]"):
        require("no_such_package")
    monkeypatch.setenv("SK_ANALYTIC_REQUIRE_PARITY", "1")
    with pytest.raises(pytest.fail.Exception, match=r"no_such_package .*SK_ANALYTIC_REQUIRE_PARITY is set"):
        require("no_such_package")
