"""Coefficients of many steps at once: those of the steps one by one, to the bit, and counts as after as many steps."""

import numpy as np
import pytest

from sk_analytic import get_optimizer, get_optimizer_names
from sk_analytic.optimizers import (
    SGD,
    Adam,
    Chain,
    Cosine,
    ExponentialAverage,
    Lookahead,
    PerBlock,
    Rule,
)
from sk_analytic.optimizers.engine.many_steps import Counts, MixedError, NotCompiledError
from sk_analytic.parameters import Layout

OPTIMIZERS = {name: get_optimizer(name) for name in get_optimizer_names() if hasattr(get_optimizer(name), "place")}
OPTIMIZERS["lookahead"] = Chain([Adam(), Lookahead()])
OPTIMIZERS["an average"] = Chain([SGD(momentum=0.9), ExponentialAverage()])
OPTIMIZERS["a schedule"] = Adam(Cosine(0.1, 50), beta_1=Cosine(0.9, 20))
OPTIMIZERS["by block"] = PerBlock({"W": Adam(1e-3)}, default=SGD(0.1))
THETA = {"W": np.ones((3, 2)), "b": np.ones(2)}


def bound(optimizer, dtype, n_steps):
    """θ, the state and the run of an optimizer after some steps."""
    layout = Layout.of(THETA, dtype)
    vector = layout.flatten(THETA)
    state = optimizer.init(vector, blocks=layout)
    rng = np.random.default_rng(0)
    for _ in range(n_steps):
        optimizer.update(state, vector, rng.normal(size=layout.size).astype(dtype))
    return layout, vector, state, optimizer._run(state, vector)


MEASURE = {"prodigy", "dog", "lamb", "lars", "novograd"}
KNOWN = [name for name, optimizer in OPTIMIZERS.items() if name not in MEASURE]


def counts(state):
    """All counts of a state."""
    return state.step, [[(repr(now), now.rate) for now, _ in link.records] for link in state.links]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("begin", [0, 7])
@pytest.mark.parametrize("name", KNOWN)
def test_tables_are_those_of_single_steps(name, begin, dtype):
    """For every optimizer by name whose steps are known before, from the start and later."""
    optimizer = OPTIMIZERS[name]
    _, _, state, run = bound(optimizer, dtype, begin)
    steps, before = run.many_steps(()), counts(state)
    tables = steps.tables(40)
    assert counts(state) == before
    for number in range(40):
        single = steps.tables(1)
        for table, line in zip(tables, single, strict=True):
            np.testing.assert_array_equal(table[number], line[0])
        steps.take(1)


@pytest.mark.parametrize("taken", [0, 1, 13, 40])
@pytest.mark.parametrize("name", KNOWN)
def test_counts_are_those_of_the_steps_taken(name, taken):
    """Fewer than the table has, none, or all."""
    optimizer = OPTIMIZERS[name]
    _, _, state, run = bound(optimizer, np.float64, 3)
    steps = run.many_steps(())
    steps.tables(40)
    steps.take(taken)
    layout, vector, other, _ = bound(optimizer, np.float64, 3)
    for _ in range(taken):
        optimizer.update(other, vector, np.zeros(layout.size))
    assert counts(state) == counts(other)


@pytest.mark.parametrize("name", sorted(MEASURE))
def test_what_measures_has_no_table(name):
    """Its coefficients depend on the gradient of the step."""
    _, _, _, run = bound(OPTIMIZERS[name], np.float64, 0)
    with pytest.raises(NotCompiledError, match="measures the gradient before each step"):
        run.many_steps(())


def test_counts_round_as_numbers_of_python():
    """Powers too, in which NumPy may differ; one number is not made of several."""
    t = np.arange(1, 3000).view(Counts)
    assert (0.999**t).tolist() == [0.999**k for k in range(1, 3000)]
    assert ((1.0 - 0.9**t) ** 0.5).tolist() == [(1.0 - 0.9**k) ** 0.5 for k in range(1, 3000)]
    assert float(t[:1]) == 1.0
    for ask in (bool, float, int, range):
        with pytest.raises(MixedError):
            ask(t)
    assert bool(t > 0)


def test_a_rule_that_asks_for_the_count_is_asked_step_by_step():
    """As a loop, a branch or an index of a user's rule does."""

    class Odd(Rule):
        def __init__(self, learning_rate=0.1):
            self.learning_rate = learning_rate

        def coefficients(self, now):
            return (sum(1.0 / k for k in range(1, now.t + 1)) if now.t % 2 else 0.5,)

        @staticmethod
        def formula(g, theta, factor):
            return factor * g

    class Drawn(Odd):
        def coefficients(self, now):
            return (np.random.default_rng(now.t).random(),)

    _, _, _, run = bound(Drawn(), np.float64, 0)
    (table,) = run.many_steps(()).tables(3)
    np.testing.assert_array_equal(table[:, 0], [np.random.default_rng(t).random() for t in (1, 2, 3)])
    _, _, _, run = bound(Odd(), np.float64, 0)
    (table,) = run.many_steps(()).tables(4)
    np.testing.assert_array_equal(table[:, 0], [1.0, 0.5, 1.0 + 1 / 2 + 1 / 3, 0.5])
