"""The contract of optimizers, over every rule that has a name and over links made up here."""

import ast
import copy
import inspect
import math
import pickle
import textwrap
from collections import namedtuple

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der
from sklearn.base import clone

import sk_analytic.optimizers as library
from sk_analytic.exceptions import ParameterStructureError
from sk_analytic.hyperparameters import Hyperparameters
from sk_analytic.optimizers import (
    LBFGS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Chain,
    ClipBlockNorm,
    ClipNorm,
    ClipValue,
    Constant,
    Exponential,
    FullBatch,
    InverseTime,
    Link,
    NamedChain,
    Optimizer,
    PerBlock,
    RMSprop,
    Rule,
    Schedule,
    WeightDecay,
    get_optimizer,
    get_optimizer_names,
    use_engine,
)
from sk_analytic.optimizers.engine import numpy_kernel, trace
from sk_analytic.parameters import Layout


class NovoGrad(Rule):
    """Remembers the norm of each block [Ginsburg2019]_: measures and memory."""

    slots = {"mean": 0.0}
    memory = {"square": 0.0}

    def __init__(self, learning_rate=0.01, beta_1=0.9, beta_2=0.25, epsilon=1e-8):
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    @staticmethod
    def measures(g, theta, mean):
        return g * g

    def coefficients(self, now):
        keep = 0.0 if now.t == 1 else self.beta_2
        now.memory["square"] = keep * now.memory["square"] + (1 - keep) * now.sums
        return self.beta_1, 1 / (now.memory["square"] ** 0.5 + self.epsilon)

    @staticmethod
    def formula(g, theta, mean, keep, scale):
        mean = keep * mean + scale * g
        return mean, mean


class Distance(Rule):
    """Steps as long as θ has come so far (as DoG): one distance for all blocks, measured before the step."""

    slots = {"start": "theta"}
    memory = {"farthest": "first", "squares": 0.0}
    scope = "all"

    def __init__(self, learning_rate=1.0, first=1e-3):
        self.learning_rate = learning_rate
        self.first = first

    @staticmethod
    def measures(g, theta, start):
        return g * g, (theta - start) * (theta - start)

    def coefficients(self, now):
        square, distance = now.sums
        now.memory["squares"] += square
        now.memory["farthest"] = max(now.memory["farthest"], distance**0.5)
        return (now.memory["farthest"] / now.memory["squares"] ** 0.5,)

    @staticmethod
    def formula(g, theta, start, factor):
        return factor * g, start


class SignStep(Rule):
    """Gives θ itself (as Rprop and FTRL do): every entry moves by the rate, and not beyond a bound."""

    gives = "theta"

    def __init__(self, learning_rate=0.1, bound=1.0):
        self.learning_rate = learning_rate
        self.bound = bound

    def coefficients(self, now):
        return now.rate, -self.bound, self.bound

    @staticmethod
    def formula(g, theta, rate, low, high):
        return np.minimum(np.maximum(theta - rate * np.sign(g), low), high)


class Average(Link):
    """The average of θ over its steps answers for it."""

    takes = gives = "theta"
    slots = {"average": "theta"}
    eval_slot = "average"

    def coefficients(self, now):
        return (1 / now.t,)

    @staticmethod
    def formula(theta, before, average, weight):
        return theta, average + weight * (theta - average)


class Every(Link):
    """The mean of k gradients goes on; else nothing does."""

    slots = {"total": 0.0}

    def __init__(self, k=2):
        self.k = k

    def passes(self, t):
        return t % self.k == 0

    def coefficients(self, now):
        return 0.0 if now.t % self.k == 1 else 1.0, 1 / self.k

    @staticmethod
    def formula(g, theta, total, keep, share):
        total = keep * total + share * g
        return total, total


class Shrink(Link):
    """Moves the proposed θ towards zero by a share of the step's rate."""

    takes = gives = "theta"

    def coefficients(self, now):
        return (1 - now.rate,)

    @staticmethod
    def formula(theta, before, factor):
        return factor * theta


NAMED = {name: get_optimizer(name) for name in get_optimizer_names()}
STEPPING = {name: optimizer for name, optimizer in NAMED.items() if isinstance(optimizer, Optimizer)}
SETTINGS = {
    "sgd, momentum": SGD(0.1, momentum=0.9, dampening=0.3),
    "sgd, nesterov": SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop, centered": RMSprop(rho=0.9, momentum=0.5, centered=True),
    "adagrad, decay": Adagrad(0.1, lr_decay=0.1, initial_accumulator_value=0.5),
    "adam, amsgrad": Adam(amsgrad=True),
    "clipped": Chain([ClipNorm(1.0), Adam(), WeightDecay()]),
    "clipped blocks": Chain([WeightDecay(), ClipBlockNorm(0.5), ClipValue(0.1), SGD(momentum=0.5)]),
    "norm of each block": NovoGrad(),
    "distance": Distance(),
    "sign step": Chain([SignStep(), Average()]),
    "average": Chain([Every(2), Adam(), Shrink(), Average()]),
    "scheduled": SGD(Exponential(0.1, 0.9), momentum=InverseTime(0.9, 0.1)),
    "per block": Chain([ClipNorm(1.0), PerBlock({"W": NovoGrad(), "b": Chain([Every(3), SGD()])}, default=Adam())]),
}
CASES = STEPPING | SETTINGS
every_case = pytest.mark.parametrize("optimizer", CASES.values(), ids=CASES)


def draw(rng, dtype=float):
    """Return parameters in three blocks."""
    return {
        "W": rng.normal(size=(4, 3)).astype(dtype),
        "b": rng.normal(size=3).astype(dtype),
        "scale": np.array(0.5, dtype),
    }


def as_vectors(structures):
    """Return a layout, and each structure as a vector."""
    layout = Layout.of(structures[0])
    return layout, [layout.flatten(structure) for structure in structures]


def train(optimizer, state, theta, gradients, missing=()):
    """Update θ by each gradient in turn and return θ after each step."""
    path = []
    for gradient in gradients:
        optimizer.update(state, theta, gradient, missing=missing)
        path.append(theta.copy())
    return path


def slots_of(state):
    return [dict(link.slots) for link in state.links]


# The equations


def sgd(theta, g, kept, t, *, learning_rate, momentum=0.0, dampening=0.0, nesterov=False):
    """PyTorch's form of gradient descent with momentum, as its documentation has it."""
    b = g if t == 1 else momentum * kept["b"] + (1 - dampening) * g
    kept["b"] = b
    return theta - learning_rate * (g + momentum * b if nesterov else b)


def rmsprop(theta, g, kept, t, *, learning_rate, rho=0.99, epsilon=1e-8, momentum=0.0, centered=False):
    """Hinton's lecture; momentum and the centered form as PyTorch's documentation has them."""
    kept["v"] = rho * kept["v"] + (1 - rho) * g**2
    kept["m"] = rho * kept["m"] + (1 - rho) * g
    variance = kept["v"] - kept["m"] ** 2 if centered else kept["v"]
    kept["b"] = momentum * kept["b"] + g / (np.sqrt(variance) + epsilon)
    return theta - learning_rate * kept["b"]


def adagrad(theta, g, kept, t, *, learning_rate, lr_decay=0.0, initial_accumulator_value=0.0, epsilon=1e-10):
    """Duchi et al. 2011, with PyTorch's decay of the rate."""
    kept["s"] = (initial_accumulator_value if t == 1 else kept["s"]) + g**2
    return theta - learning_rate / (1 + (t - 1) * lr_decay) * g / (np.sqrt(kept["s"]) + epsilon)


def adam(theta, g, kept, t, *, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8, amsgrad=False, weight_decay=0.0):
    """Kingma and Ba 2015, algorithm 1; Reddi et al. 2018; Loshchilov and Hutter 2019, algorithm 2."""
    kept["m"] = beta_1 * kept["m"] + (1 - beta_1) * g
    kept["v"] = beta_2 * kept["v"] + (1 - beta_2) * g**2
    kept["largest"] = np.maximum(kept["largest"], kept["v"])
    m = kept["m"] / (1 - beta_1**t)
    v = (kept["largest"] if amsgrad else kept["v"]) / (1 - beta_2**t)
    return theta - learning_rate * (m / (np.sqrt(v) + epsilon) + weight_decay * theta)


@pytest.mark.parametrize(
    ("rule", "equations", "settings"),
    [
        (SGD, sgd, {"learning_rate": 0.1}),
        (SGD, sgd, {"learning_rate": 0.1, "momentum": 0.9}),
        (SGD, sgd, {"learning_rate": 0.1, "momentum": 0.9, "dampening": 0.4}),
        (SGD, sgd, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
        (RMSprop, rmsprop, {"learning_rate": 0.01}),
        (RMSprop, rmsprop, {"learning_rate": 0.01, "rho": 0.9, "epsilon": 1e-3, "momentum": 0.8}),
        (RMSprop, rmsprop, {"learning_rate": 0.01, "rho": 0.7, "centered": True, "epsilon": 1e-3}),
        (Adagrad, adagrad, {"learning_rate": 0.1}),
        (Adagrad, adagrad, {"learning_rate": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.1, "epsilon": 1e-2}),
        (Adam, adam, {"learning_rate": 0.01}),
        (Adam, adam, {"learning_rate": 0.01, "beta_1": 0.5, "beta_2": 0.7, "epsilon": 1e-2}),
        (Adam, adam, {"learning_rate": 0.01, "beta_1": 0.0, "beta_2": 0.7, "amsgrad": True, "epsilon": 1e-2}),
        (AdamW, adam, {"learning_rate": 0.01, "weight_decay": 0.1}),
        (AdamW, adam, {"learning_rate": 0.01, "weight_decay": 0.1, "beta_2": 0.5, "amsgrad": True}),
    ],
)
def test_each_step_is_that_of_the_equations(rule, equations, settings):
    """Along the path of 200 steps on Rosenbrock's function, θ is that of the paper to 1e-12."""
    optimizer = rule(**settings)
    theta = np.array([-1.0, 1.2, 0.5, -0.3])
    state = optimizer.init(theta)
    expected, kept = theta.copy(), dict.fromkeys("bvms", 0.0) | {"largest": 0.0}
    for t in range(1, 201):
        g = rosen_der(theta) / 100
        expected = equations(expected, g, kept, t, **settings)
        optimizer.update(state, theta, g)
        np.testing.assert_allclose(theta, expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 0.0])
def test_clipping(rng, scale):
    """Global, block and value clipping shorten what is too long, and nothing else."""
    g = {name: scale * block for name, block in draw(rng).items()}
    size = np.linalg.norm(np.concatenate([block.ravel() for block in g.values()]))

    def flow(link):
        theta = {name: np.zeros_like(block) for name, block in g.items()}
        optimizer = Chain([link, SGD(1.0)])
        optimizer.update(optimizer.init(theta), theta, g)
        return theta

    for name, block in g.items():
        shorter = block * min(1.0, 0.5 / size) if size else block
        np.testing.assert_allclose(flow(ClipNorm(0.5))[name], -shorter, rtol=1e-13)
        shorter = block * min(1.0, 0.5 / np.linalg.norm(block)) if size else block
        np.testing.assert_allclose(flow(ClipBlockNorm(0.5))[name], -shorter, rtol=1e-13)
        np.testing.assert_array_equal(flow(ClipValue(0.3))[name], -np.clip(block, -0.3, 0.3))


def test_the_place_of_weight_decay_decides_what_it_is(rng):
    """Before Adam it is part of the gradient; after it, θ shrinks by rate times strength."""
    theta, g = rng.normal(size=(2, 10))

    def after(optimizer, gradient=g):
        moved = theta.copy()
        optimizer.update(optimizer.init(moved), moved, gradient)
        return moved

    coupled = after(Chain([WeightDecay(0.5), Adam(0.1)]))
    np.testing.assert_allclose(coupled, after(Adam(0.1), g + 0.5 * theta), rtol=1e-15)
    decoupled = after(Chain([Adam(0.1), WeightDecay(0.5)]))
    np.testing.assert_allclose(decoupled, after(Adam(0.1)) - 0.05 * theta, rtol=1e-14)
    np.testing.assert_array_equal(decoupled, after(AdamW(0.1, weight_decay=0.5)))


def test_novograd_remembers_the_norm_of_each_block(rng):
    """Measures and memory are a block's own: the equations, block by block."""
    layout, (theta, *gradients) = as_vectors([draw(rng) for _ in range(6)])
    optimizer = NovoGrad(0.1)
    expected = theta.copy()
    mean, square = np.zeros_like(theta), {}
    for g in gradients:
        for block in layout.slices:
            now = g[block] @ g[block]
            square[block.start] = 0.25 * square[block.start] + 0.75 * now if block.start in square else now
            mean[block] = 0.9 * mean[block] + g[block] / (square[block.start] ** 0.5 + 1e-8)
        expected -= 0.1 * mean
    train(optimizer, optimizer.init(theta, layout), theta, gradients)
    np.testing.assert_allclose(theta, expected, rtol=1e-12)


def test_scope_all_measures_over_all_blocks(rng):
    """One memory and one sum for all of θ: blocks make no difference to rounding."""
    layout, (theta, *gradients) = as_vectors([draw(rng) for _ in range(6)])
    whole = theta.copy()
    optimizer = Distance()
    state = optimizer.init(theta, layout)
    train(optimizer, state, theta, gradients)
    train(optimizer, optimizer.init(whole), whole, gradients)
    np.testing.assert_allclose(theta, whole, rtol=1e-13)
    assert len(state.links[0].records) == 1


def test_a_rule_may_give_theta_itself(rng):
    """Then the engine takes no step of its own, and links for θ may follow."""
    theta, g = rng.uniform(-1, 1, size=(2, 10))
    expected = np.clip(theta - 0.5 * np.sign(g), -1, 1)
    optimizer = Chain([SignStep(0.5), Shrink()])
    optimizer.update(optimizer.init(theta), theta, g)
    np.testing.assert_array_equal(theta, 0.5 * expected)


def test_the_average_answers_and_training_goes_on(rng):
    """`eval_params` gives the slot that a link names, θ itself without one."""
    theta, *gradients = rng.normal(size=(6, 10))
    optimizer = Chain([SGD(0.1), Average()])
    state = optimizer.init(theta)
    path = train(optimizer, state, theta, gradients)
    np.testing.assert_allclose(optimizer.eval_params(state, theta), np.mean(path, axis=0), rtol=1e-12)
    plain = SGD()
    assert plain.eval_params(plain.init(theta), theta) is theta


def test_answers_of_some_blocks_and_of_structures(rng):
    """Where a link stands on one block only, θ answers for the rest; a structure is answered by one."""
    theta = draw(rng)
    optimizer = Chain([SGD(0.1), PerBlock({"W": Average()}, default=Chain([]))])
    state = optimizer.init(theta)
    path = []
    for _ in range(3):
        optimizer.update(state, theta, draw(rng))
        path.append(theta["W"].copy())
    answer = optimizer.eval_params(state, theta)
    np.testing.assert_allclose(answer["W"], np.mean(path, axis=0), rtol=1e-12)
    np.testing.assert_array_equal(answer["b"], theta["b"])


def test_behind_a_closed_gate_nothing_runs_or_counts(rng):
    """Adam on the mean of each two gradients is Adam with half as many steps."""
    theta, *gradients = rng.normal(size=(7, 10))
    expected = theta.copy()
    optimizer = Chain([Every(2), Adam()])
    state = optimizer.init(theta)
    path = train(optimizer, state, theta, gradients)
    np.testing.assert_array_equal(path[1], path[2])
    means = np.reshape(gradients, (3, 2, 10)).mean(axis=1)
    train(Adam(), Adam().init(expected), expected, means)
    np.testing.assert_allclose(theta, expected, rtol=1e-13)
    assert [link.records[0][0].t for link in state.links] == [6, 3]


def test_links_see_the_rate_of_their_own_rule(rng):
    """`now.rate` after rules with different rates is each block's own."""
    theta = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = Chain([PerBlock({"a": SGD(0.1)}, default=SGD(0.2)), Shrink()])
    optimizer.update(optimizer.init(theta), theta, {"a": np.zeros(2), "b": np.zeros(2)})
    np.testing.assert_allclose(theta["a"], 0.9)
    np.testing.assert_allclose(theta["b"], 0.8)


# Properties of every rule and of chains


def separate(optimizer, theta, gradients):
    """Run the links of an optimizer one by one, on arrays, as the contract says; return θ after each step."""
    links = [placement.link for placement in optimizer.place({"": 0})]
    slots = [
        {
            name: np.full_like(theta, theta if start == "theta" else getattr(link, str(start), start))
            for name, start in link.slots.items()
        }
        for link in links
    ]
    (rate,) = (link.learning_rate for link in links if isinstance(link, Rule))
    moments = [Moment(dict(link.memory), rate, link) for link in links]
    path = []
    for gradient in gradients:
        flow, is_gradient, before = gradient, True, theta
        for link, own, now in zip(links, slots, moments, strict=True):
            if link.takes == "theta" and is_gradient:
                flow, is_gradient = theta - theta.dtype.type(rate) * flow, False
            now.t += 1
            if link.measures:
                scales = map(theta.dtype.type, link.scales(now))
                entries = link.measures(flow, before, *own.values(), *scales)
                total = norm if link.norms else np.sum
                sums = tuple(float(total(each)) for each in trace.as_tuple(entries))
                now.sums = sums if len(sums) > 1 else sums[0]
            numbers = map(theta.dtype.type, link.coefficients(now))
            results = link.formula(flow, before, *own.values(), *numbers)
            flow, *news = results if isinstance(results, tuple) else (results,)
            own.update(zip(own, news, strict=True))
            is_gradient = link.gives == "gradient"
            if link.passes and not link.passes(now.t):
                break
        else:
            theta = theta - theta.dtype.type(rate) * flow if is_gradient else flow
        path.append(theta)
    return path


def norm(entries):
    """The root of the sum of squares, in one pass."""
    return math.sqrt(float(np.einsum("i,i->", entries, entries)))


class Moment:
    """What coefficients are told, for `separate`."""

    def __init__(self, memory, rate, link):
        self.t, self.rate, self.sums = 0, rate, 0.0
        self.memory = {name: getattr(link, str(start), start) for name, start in memory.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in CASES if name not in {"per block", "scheduled"}])
def test_a_chain_in_one_pass_is_its_links_one_by_one(name, dtype, rng):
    """Composing formulas, reusing scratch and writing in place change no bit of the result."""
    theta, *gradients = rng.normal(size=(7, 100)).astype(dtype)
    expected = separate(CASES[name], theta.copy(), gradients)
    path = train(CASES[name], CASES[name].init(theta), theta, gradients)
    np.testing.assert_array_equal(path, expected)


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(optimizer, dtype, rng):
    """θ, slots and answers are of θ's dtype, finite, and θ has moved."""
    layout, (theta, *gradients) = as_vectors([draw(rng, dtype) for _ in range(4)])
    start = theta.copy()
    state = optimizer.init(theta, layout)
    train(optimizer, state, theta, gradients)
    arrays = [theta, optimizer.eval_params(state, theta)] + [a for slots in slots_of(state) for a in slots.values()]
    assert all(array.dtype == dtype and np.isfinite(array).all() for array in arrays)
    assert not np.array_equal(theta[: layout.slices[0].stop], start[: layout.slices[0].stop])


Triple = namedtuple("Triple", "W b scale")
FORMS = {
    "dict": dict,
    "tuple": lambda blocks: tuple(blocks.values()),
    "list": lambda blocks: list(blocks.values()),
    "named tuple": lambda blocks: Triple(**blocks),
    "nested": lambda blocks: {"layer": {"W": blocks["W"]}, "rest": (blocks["b"], blocks["scale"])},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", [name for name in CASES if name != "per block"])
def test_structures_and_vectors_agree(name, form, rng):
    """θ in any structure moves bitwise as the same θ in a vector does, in its own arrays."""
    optimizer, missing = CASES[name], (1,)
    structures = [form(draw(rng)) for _ in range(4)]
    layout, (vector, *gradients) = as_vectors(structures)
    theta = structures[0]
    leaves = layout.leaves(theta)
    state, other = optimizer.init(theta), optimizer.init(vector, layout)
    for structure, gradient in zip(structures[1:], gradients, strict=True):
        without = layout.unflatten([None if i in missing else leaf for i, leaf in enumerate(layout.leaves(structure))])
        optimizer.update(state, theta, without)
        optimizer.update(other, vector, gradient, missing=missing)
    np.testing.assert_array_equal(layout.flatten(theta), vector)
    np.testing.assert_array_equal(
        layout.flatten(optimizer.eval_params(state, theta)), optimizer.eval_params(other, vector)
    )
    assert all(ours is theirs for ours, theirs in zip(leaves, layout.leaves(theta), strict=True))


def test_a_single_array_of_any_shape(rng):
    """θ may be one array; a matrix moves as its entries in a row do."""
    matrix, g = rng.normal(size=(2, 3, 4))
    row = matrix.ravel().copy()
    Adam().update(Adam().init(matrix), matrix, g)
    Adam().update(Adam().init(row), row, g.ravel())
    np.testing.assert_array_equal(matrix.ravel(), row)


@every_case
def test_missing_blocks_stay_untouched(optimizer, rng):
    """θ, slots, counts and memory of a block without gradient are as they were; it goes on later."""
    layout, (theta, *gradients) = as_vectors([draw(rng) for _ in range(8)])
    b = layout.slices[1]
    state = optimizer.init(theta, layout)
    train(optimizer, state, theta, gradients[:2])
    before, kept = theta.copy(), copy.deepcopy(state)
    train(optimizer, state, theta, gradients[2:4], missing=(1,))
    np.testing.assert_array_equal(theta[b], before[b])
    for ours, theirs in zip(state.links, kept.links, strict=True):
        for name in ours.slots:
            np.testing.assert_array_equal(ours.slots[name][b], theirs.slots[name][b])
        if 1 in ours.blocks and len(ours.records) == len(theirs.records) > 1:
            assert repr(moment(ours, 1)) == repr(moment(theirs, 1))
    train(optimizer, state, theta, gradients[4:])
    assert not np.array_equal(theta[b], before[b])


def moment(link, block):
    return next(now for now, blocks in link.records if block in blocks)


def test_a_block_that_was_missing_is_behind_in_its_count(rng):
    """Blocks that fall out of lockstep each have the correction of their own count."""
    layout, (theta, *gradients) = as_vectors([draw(rng) for _ in range(7)])
    alone = theta[layout.slices[1]].copy()
    optimizer = Adam()
    state = optimizer.init(theta, layout)
    for step, g in enumerate(gradients):
        optimizer.update(state, theta, g, missing=[1] if step % 2 else ())
    train(Adam(), Adam().init(alone), alone, [g[layout.slices[1]] for g in gradients[::2]])
    np.testing.assert_array_equal(theta[layout.slices[1]], alone)
    assert moment(state.links[0], 1).t == 3
    assert moment(state.links[0], 0).t == moment(state.links[0], 2).t == 6


def test_a_step_without_any_gradient(rng):
    """All blocks missing: nothing moves, nothing counts but the step."""
    layout, (theta, g) = as_vectors([draw(rng) for _ in range(2)])
    before = theta.copy()
    optimizer = Chain([ClipNorm(), Adam()])
    state = optimizer.init(theta, layout)
    train(optimizer, state, theta, [g, g], missing=(0, 1, 2))
    np.testing.assert_array_equal(theta, before)
    assert state.step == 2
    assert {now.t for link in state.links for now, _ in link.records} == {0}


@every_case
@pytest.mark.parametrize("way", [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
def test_a_copy_of_the_state_goes_on_bitwise(optimizer, way, rng):
    """Pickled or copied in the middle, training ends where it would have, also after a missing block."""
    layout, (theta, *gradients) = as_vectors([draw(rng) for _ in range(9)])
    state = optimizer.init(theta, layout)
    train(optimizer, state, theta, gradients[:3])
    train(optimizer, state, theta, gradients[3:4], missing=(1,))
    resumed, state_2, optimizer_2 = theta.copy(), way(state), clone(optimizer)
    path = train(optimizer, state, theta, gradients[4:])
    np.testing.assert_array_equal(path, train(optimizer_2, state_2, resumed, gradients[4:]))
    np.testing.assert_equal(slots_of(state_2), slots_of(state))
    assert repr(state_2) == repr(state)


@every_case
def test_scikit_learn_can_handle_it(optimizer):
    """`clone`, `repr`, `set_params(**get_params())` and pickling give an equal object."""
    assert repr(clone(optimizer)) == repr(optimizer)
    assert repr(pickle.loads(pickle.dumps(optimizer))) == repr(optimizer)
    params = optimizer.get_params()
    optimizer.set_params(**params)
    assert all(optimizer.get_params()[name] is value for name, value in params.items())
    assert optimizer._repr_html_()


@pytest.mark.parametrize("name", [name for name in CASES if name != "scheduled"])
def test_a_constant_schedule_is_its_number(name, rng):
    """Every hyperparameter that is a float may be a schedule, and changes nothing if constant."""
    optimizer = CASES[name]
    layout, (theta, *gradients) = as_vectors([draw(rng) for _ in range(4)])
    scheduled = clone(optimizer)
    numbers = {name: value for name, value in optimizer.get_params().items() if isinstance(value, float)}
    scheduled.set_params(**{name: Constant(value) for name, value in numbers.items() if value})
    other = theta.copy()
    path = train(optimizer, optimizer.init(theta, layout), theta, gradients)
    np.testing.assert_array_equal(path, train(scheduled, scheduled.init(other, layout), other, gradients))


def formulas():
    """Yield every static function that a link of the library may run."""
    for name in library.__all__:
        cls = getattr(library, name)
        if inspect.isclass(cls) and issubclass(cls, Link):
            for key, value in vars(cls).items():
                if isinstance(value, staticmethod):
                    yield pytest.param(value.__func__, id=f"{name}.{key}")


@pytest.mark.parametrize("formula", [*formulas()])
def test_formulas_hold_no_literals_and_no_globals(formula):
    """A literal or a global would break float32 or another engine; `np` is what an engine binds."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(formula)))
    literals = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert literals in ([], [formula.__doc__])
    assert set(inspect.getclosurevars(formula).globals) <= {"np"}
    assert not inspect.getclosurevars(formula).nonlocals


@pytest.mark.parametrize("optimizer", STEPPING.values(), ids=STEPPING)
@pytest.mark.parametrize("rate", [-0.1, np.nan, "fast", None])
def test_a_rate_that_is_no_rate(optimizer, rate):
    """A rate is a number that is not negative; the error names the rule and what came."""
    optimizer = clone(optimizer).set_params(learning_rate=rate)
    with pytest.raises(ValueError, match=rf"{type(optimizer).__name__}: learning_rate must be a number .*{rate!r}"):
        optimizer.init(np.ones(2))


@pytest.mark.parametrize("optimizer", NAMED.values(), ids=NAMED)
def test_every_hyperparameter_has_a_range(optimizer):
    """A value of the wrong kind is refused for each of them but those that scipy leaves open."""
    for name in set(optimizer.get_params()) - {"maxfun"}:
        changed = clone(optimizer).set_params(**{name: "nonsense"})
        with pytest.raises(ValueError, match=rf"{type(optimizer).__name__}: {name} must be .*'nonsense'"):
            changed.check()


# Names


def test_names_are_drawn_from_the_classes():
    """The first set is there; each name gives its class with default hyperparameters."""
    names = get_optimizer_names()
    assert names == sorted(names)
    assert {"sgd", "rmsprop", "adagrad", "adam", "adamw", "lbfgs"} <= set(names)
    assert all(type(get_optimizer(name)).__name__.lower() == name.replace("-", "").replace("_", "") for name in names)
    assert get_optimizer("adam") is not get_optimizer("adam")


def test_a_new_rule_needs_no_line_but_its_class(monkeypatch):
    """A class in `rules` has its lower-case name, or the one it gives itself."""

    class Quick(SGD):
        __module__ = library.rules.__name__

    class Brown(Quick):
        __module__ = library.rules.__name__
        name = "brown_fox"

    monkeypatch.setattr(library.rules, "Quick", Quick, raising=False)
    monkeypatch.setattr(library.rules, "Brown", Brown, raising=False)
    assert isinstance(get_optimizer("quick"), Quick)
    assert isinstance(get_optimizer("brown_fox"), Brown)
    assert "brown" not in get_optimizer_names()


def test_an_instance_is_returned_as_it_is():
    """Rules, chains and full-batch methods of any class are their own."""
    for optimizer in (Adam(), Chain([Adam()]), LBFGS(), NovoGrad()):
        assert get_optimizer(optimizer) is optimizer


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("adem", ValueError, "Unknown optimizer 'adem'. Did you mean 'adam'"),
        (Adam, TypeError, r"got <class .*Adam'>. Pass an instance: Adam\(\)"),
        (ClipNorm(), TypeError, r"must be a name or an instance of Optimizer; got ClipNorm\(\)"),
        (3, TypeError, "must be a name or an instance of Optimizer; got 3"),
    ],
)
def test_what_is_no_optimizer(value, error, message):
    """An unknown name has the nearest in its message, a class says to pass an instance."""
    with pytest.raises(error, match=message):
        get_optimizer(value)


def test_public_names_exist():
    """`__all__` is what there is, without bases that nobody needs."""
    assert {"Adam", "Chain", "ClipNorm", "Exponential", "LBFGS", "get_optimizer"} <= set(library.__all__)
    assert all(hasattr(library, name) and not name.startswith("_") for name in library.__all__)
    assert len(library.__all__) == len(set(library.__all__))


# Hyperparameters


def test_a_wrong_hyperparameter_names_the_nearest():
    """`set_params` of rules and chains; a wrong keyword is Python's own error."""
    with pytest.raises(ValueError, match="Adam has no hyperparameter 'learning_rat'. Did you mean 'learning_rate'"):
        Adam().set_params(learning_rat=0.1)
    with pytest.raises(ValueError, match="Chain has no hyperparameter 'adm'. Did you mean 'adam'"):
        Chain([Adam()]).set_params(adm__learning_rate=0.1)
    with pytest.raises(ValueError, match="Adam has no hyperparameter 'rate'"):
        Chain([Adam()]).set_params(adam__rate=0.1)
    with pytest.raises(TypeError, match="learning_rat"):
        Adam(learning_rat=0.1)


def test_a_changed_hyperparameter_holds_from_the_next_update(rng):
    """Rates, and also those that decide about slots: momentum switched on starts from nothing."""
    theta, g = np.zeros(3), np.ones(3)
    optimizer = SGD(1.0)
    state = optimizer.init(theta)
    optimizer.update(state, theta, g)
    optimizer.learning_rate = 10.0
    optimizer.update(state, theta, g)
    assert theta.tolist() == [-11.0] * 3
    optimizer.set_params(learning_rate=1.0, momentum=0.5)
    optimizer.update(state, theta, g)
    optimizer.update(state, theta, g)
    assert theta.tolist() == [-11.0 - 1.0 - 1.5] * 3
    optimizer.set_params(learning_rate=-1.0)
    with pytest.raises(ValueError, match="SGD: learning_rate must be"):
        optimizer.update(state, theta, g)


@pytest.mark.parametrize("change", [{"adamw__learning_rate": 10.0}, {"clipvalue__max_value": 1.0}])
def test_a_change_inside_a_chain_holds_from_the_next_update(change):
    """The hyperparameters of parts, and of parts of parts, are looked at too."""
    theta, g = np.zeros(3), np.full(3, 1e-3)
    optimizer = Chain([ClipValue(1e-9), AdamW(0.1, epsilon=1.0)])
    state = optimizer.init(theta)
    optimizer.update(state, theta, g)
    before = theta.copy()
    optimizer.set_params(**change)
    optimizer.update(state, theta, g)
    assert (np.abs(theta - before) > 5 * np.abs(before)).all()


def test_another_optimizer_cannot_go_on_with_a_state():
    """A state belongs to links of the same kinds on the same blocks; `accepts` tells beforehand."""
    theta = np.ones(3)
    state = Adam().init(theta)
    with pytest.raises(ValueError, match=r"The state was created by Adam; SGD\(\) cannot continue it"):
        SGD().update(state, theta, theta)
    assert Adam(0.5).accepts(state, theta)
    assert not SGD().accepts(state, theta)
    assert not Adam().accepts(state, np.ones(4))
    assert not Adam().accepts(state, np.ones(3, np.float32))
    assert not Adam().accepts(state, {"W": np.ones(3)})


def test_a_hyperparameter_of_a_named_chain_reaches_one_part():
    """A name that no part takes, or that two parts take, is refused when the class is made."""
    with pytest.raises(TypeError, match="Lost: beta belongs to no part; it must belong to one"):

        class Lost(NamedChain):
            parts = (SGD,)

            def __init__(self, learning_rate=0.1, beta=0.5):
                self.learning_rate = learning_rate
                self.beta = beta

    with pytest.raises(TypeError, match="Torn: max_norm belongs to ClipNorm and ClipBlockNorm"):

        class Torn(NamedChain):
            parts = ClipNorm, ClipBlockNorm, SGD

            def __init__(self, learning_rate=0.1, max_norm=0.5):
                self.learning_rate = learning_rate
                self.max_norm = max_norm

    class Fine(NamedChain):
        parts = ClipNorm, ClipBlockNorm, SGD
        shared = ("max_norm",)

        def __init__(self, learning_rate=0.1, max_norm=0.5):
            self.learning_rate = learning_rate
            self.max_norm = max_norm

    assert [link.max_norm for link in Fine(max_norm=3.0).links()[:2]] == [3.0, 3.0]


@pytest.mark.parametrize("optimizer", [o for o in STEPPING.values() if isinstance(o, NamedChain)])
def test_named_chains_have_the_defaults_of_their_parts(optimizer):
    """AdamW() is Adam() and what it adds: no default differs without the class saying that it is meant to."""
    for part in optimizer.links():
        usual = type(part)().get_params()
        differing = {name for name, value in part.get_params().items() if value != usual[name]}
        settings = {name: optimizer.settings.get(name, name) for name in differing}
        assert all(s in optimizer.own_defaults or s not in optimizer.get_params() for s in settings.values())


# Chains and blocks


def test_items_of_a_chain_are_named_as_in_a_pipeline():
    """Lower-case class names, numbered if repeated; or the names that are given."""
    chain = Chain([ClipValue(), ("decay", WeightDecay()), ClipValue(2.0), Adam()])
    parts = {name: value for name, value in chain.get_params().items() if hasattr(value, "get_params")}
    assert list(parts) == ["clipvalue-1", "decay", "clipvalue-2", "adam"]
    chain.set_params(**{"clipvalue-2__max_value": 3.0, "decay__weight_decay": 0.5})
    assert chain.links[2].max_value == 3.0
    assert chain.links[1][1].weight_decay == 0.5


def test_an_item_of_a_chain_can_be_replaced():
    """The name of the place stays, and nested settings reach the new item, in any order of keys."""
    original = Chain([ClipNorm(), Adam()])
    chain = clone(original).set_params(adam__learning_rate=0.5, adam=SGD())
    assert chain.get_params()["adam__learning_rate"] == 0.5
    assert isinstance(chain.get_params()["adam"], SGD)
    assert isinstance(original.links[1], Adam)


def test_get_params_never_raises():
    """Whatever stands in a chain; `init` refuses it."""
    for optimizer in (Chain(None), Chain([1, "adam"]), PerBlock([]), PerBlock({"W": None}), Chain([Adam])):
        optimizer.get_params()
        with pytest.raises(
            TypeError,
            match=r"takes (links and optimizers|a dict of parameter names|a list of links and optimizers); got",
        ):
            optimizer.init(np.ones(2))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Chain([]), "needs exactly one rule .*; found none in: nothing"),
        (Chain([ClipNorm()]), "found none in: ClipNorm"),
        (Chain([Adam(), ClipNorm(), SGD()]), "found Adam and SGD in: Adam, ClipNorm, SGD"),
        (Chain([Average(), SGD()]), "Average takes the proposed θ, so it must come after the rule SGD"),
        (Chain([SGD(), Average(), ClipNorm()]), "ClipNorm takes the gradient, but Average gives θ"),
        (Chain([SignStep(), WeightDecay()]), "WeightDecay takes the gradient, but SignStep gives θ"),
        (PerBlock({"W": SGD()}), "PerBlock has no optimizer for parameter 'b'.*set default"),
        (
            PerBlock({"W2": SGD()}, SGD()),
            "the parameter 'W2', which does not exist. Did you mean 'W'.* There are: 'W', 'b'",
        ),
        (PerBlock({"W": ClipNorm()}, SGD()), r"found none in: ClipNorm \(parameter 'W'\)"),
        (Chain([SGD(), PerBlock({"b": Adam()}, WeightDecay())]), r"found SGD and Adam in: SGD, Adam \(parameter 'b'\)"),
        (Chain([PerBlock({"W": SGD(-1.0)}, SGD())]), "SGD: learning_rate must be"),
    ],
)
def test_what_does_not_fit_together(optimizer, message):
    """No rule or two, links in the wrong order, blocks that do not exist: errors of `init`."""
    with pytest.raises(ValueError, match=message):
        optimizer.init({"W": np.ones(2), "b": np.ones(2)})


def test_per_block_runs_each_block_as_if_alone(rng):
    """Each block moves as by its own optimizer; a prefix stands for all blocks below it."""
    theta = {"layers": [{"W": rng.normal(size=3), "b": rng.normal(size=2)}], "scale": rng.normal(size=2)}
    layout, (start, *gradients) = as_vectors([theta, theta, theta])
    vector = start.copy()
    optimizer = PerBlock({"layers.0": Adam(0.1), "scale": SGD(0.1, momentum=0.9)})
    train(optimizer, optimizer.init(vector, layout), vector, gradients)
    for where, own in ((slice(0, 5), Adam(0.1)), (slice(5, 7), SGD(0.1, momentum=0.9))):
        alone = start[where].copy()
        train(own, own.init(alone), alone, [g[where] for g in gradients])
        np.testing.assert_array_equal(vector[where], alone)


def test_blocks_by_position_in_a_tuple():
    """Blocks of a tuple are named by their position, which may be written as a number."""
    theta = (np.ones(2), np.ones(2))
    optimizer = PerBlock({1: SGD(0.5)}, default=SGD(0.1))
    optimizer.update(optimizer.init(theta), theta, (np.ones(2), np.ones(2)))
    assert theta[0].tolist() == [0.9, 0.9]
    assert theta[1].tolist() == [0.5, 0.5]
    assert optimizer.get_params()["1__learning_rate"] == 0.5


def test_the_norm_is_clipped_over_what_passes_the_link(rng):
    """Before PerBlock over all of θ; inside it over its own blocks only."""
    theta = {"a": np.zeros(2), "b": np.zeros(2)}
    g = {"a": np.array([3.0, 0.0]), "b": np.array([0.0, 4.0])}
    outside = Chain([ClipNorm(1.0), PerBlock({"a": SGD(1.0)}, SGD(1.0))])
    outside.update(outside.init(theta), theta, g)
    np.testing.assert_allclose(theta["a"], [-0.6, 0.0])
    inside = PerBlock({"a": Chain([ClipNorm(1.0), SGD(1.0)])}, SGD(1.0))
    theta["a"][:] = 0.0
    inside.update(inside.init(theta), theta, g)
    np.testing.assert_allclose(theta["a"], [-1.0, 0.0])


def test_neighboring_blocks_run_as_one(monkeypatch):
    """Eight blocks in lockstep are one run of the kernel, a missing one in their midst makes it two."""
    runs = []
    run = numpy_kernel.Kernel.run
    monkeypatch.setattr(numpy_kernel.Kernel, "run", lambda *args: runs.append(args[3:5]) or run(*args))
    layout, (theta,) = as_vectors([{f"b{i}": np.ones(10) for i in range(8)}])
    optimizer = Adam()
    with use_engine("numpy"):
        state = optimizer.init(theta, layout)
    optimizer.update(state, theta, theta.copy())
    optimizer.update(state, theta, theta.copy(), missing=(3,))
    assert runs == [(0, 80), (0, 30), (40, 80)]


def test_a_longer_chain_makes_no_further_pass(monkeypatch):
    """Links that measure nothing are composed into one pass; each that measures adds one."""
    runs = []
    run = numpy_kernel.Kernel.run
    monkeypatch.setattr(numpy_kernel.Kernel, "run", lambda *args: runs.append(1) or run(*args))
    for optimizer, passes in (
        (Chain([WeightDecay(), ClipValue(), AdamW(), Shrink(), Average()]), 1),
        (Chain([ClipNorm(), Adam()]), 2),
        (Chain([ClipNorm(), WeightDecay(), ClipBlockNorm(), Adam()]), 3),
    ):
        runs.clear()
        theta = np.ones(10)
        with use_engine("numpy"):
            state = optimizer.init(theta)
        optimizer.update(state, theta, np.ones(10))
        assert len(runs) == passes


# Schedules


@pytest.mark.parametrize(
    ("schedule", "step", "epoch", "value"),
    [
        (Constant(0.3), 10, 2, 0.3),
        (Exponential(1.0, 0.5), 3, 0, 0.125),
        (Exponential(1.0, 0.25, every=2), 1, 7, 0.5),
        (Exponential(1.0, 0.5, unit="epoch"), 100, 2, 0.25),
        (InverseTime(1.0, 0.5), 2, 0, 0.5),
        (InverseTime(1.0, 1.0, every=10, unit="epoch"), 3, 10, 0.5),
    ],
)
def test_schedules_follow_their_formula(schedule, step, epoch, value):
    """They count steps or epochs, from 0."""
    assert schedule(step, epoch) == pytest.approx(value)
    assert repr(clone(schedule)) == repr(schedule)


def test_a_schedule_sees_steps_epochs_and_the_loss():
    """The first update has step 0; the loop writes the epoch and the losses."""

    class Seen(Schedule):
        def at(self, state):
            return 1.0 if not state.loss_curve else state.loss_curve[-1]

    theta = np.zeros(1)
    optimizer = SGD(Exponential(1.0, 0.5))
    state = optimizer.init(theta)
    path = np.ravel(train(optimizer, state, theta, np.ones((3, 1))))
    np.testing.assert_allclose(path, [-1.0, -1.5, -1.75])

    optimizer = SGD(Exponential(1.0, 0.5, unit="epoch"))
    state = optimizer.init(theta)
    state.epoch = 2
    theta[:] = 0.0
    optimizer.update(state, theta, np.ones(1))
    assert theta == -0.25

    optimizer = SGD(Seen())
    state = optimizer.init(theta)
    state.loss_curve.append(0.125)
    theta[:] = 0.0
    optimizer.update(state, theta, np.ones(1))
    assert theta == -0.125


def test_hyperparameters_of_schedules_can_be_reached():
    """As deep as they lie, and with their ranges."""
    chain = Chain([AdamW(Exponential(0.1, 0.5))])
    chain.set_params(adamw__learning_rate__decay=0.9)
    assert chain.links[0].learning_rate.decay == 0.9
    chain.set_params(adamw__learning_rate__decay=-1.0)
    with pytest.raises(ValueError, match="Exponential: decay must be a number in"):
        chain.init(np.ones(2))


@pytest.mark.parametrize("value", [-0.5, np.nan])
def test_a_schedule_that_gives_no_rate(value):
    """The error names owner, schedule, hyperparameter and step; θ and state are as before."""

    class Late(Schedule):
        def __call__(self, step, epoch):
            return 0.1 if step < 2 else value

    theta = np.ones(2)
    optimizer = AdamW(Late())
    state = optimizer.init(theta)
    train(optimizer, state, theta, [theta, theta])
    before = theta.copy(), pickle.dumps(state.links)
    with pytest.raises(
        ValueError, match=rf"AdamW: the schedule Late\(\) of learning_rate gave {value} at step 2, epoch 0; expected"
    ):
        optimizer.update(state, theta, theta)
    np.testing.assert_array_equal(theta, before[0])
    assert pickle.dumps(state.links) == before[1]
    with pytest.raises(
        ValueError, match=r"SGD: the schedule Constant\(value=-1.0\) of learning_rate gave -1.0 at step 0"
    ):
        SGD(Constant(-1.0)).init(theta)


# What cannot be updated


def frozen(*shape):
    array = np.ones(shape)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            0.5,
            r"Parameter 'bad' of theta cannot be updated in place: it is of type float; use an array, np.array\(0.5\)",
        ),
        (frozen(2), "Parameter 'bad' .* it is a read-only array"),
        (np.ones(2, np.float32), "Parameter 'bad' .* its dtype is float32, but that of the parameters is float64"),
        (np.ones(2, np.float16), "Parameter 'bad' .* its dtype is float16"),
    ],
)
def test_a_leaf_that_cannot_be_written(bad, message):
    """It is refused by name at `init`, and at `update` before anything has changed."""
    good = {"good": np.ones(2), "bad": np.ones(np.shape(bad))}
    with pytest.raises(ParameterStructureError, match=message):
        Adam().init(good | {"bad": bad})
    state = Adam().init(good)
    theta = good | {"bad": bad}
    with pytest.raises(ParameterStructureError, match=message):
        Adam().update(state, theta, good)
    assert theta["good"].tolist() == [1.0, 1.0]
    assert state.step == 0


@pytest.mark.parametrize("leaf", [2, np.arange(2), np.ones(2, bool)], ids=repr)
def test_a_leaf_that_is_no_float_is_refused_at_init(leaf):
    """By name: it is no parameter."""
    with pytest.raises(
        ParameterStructureError, match="theta has dtype .* in parameter 'k'; .* keep it out of the parameters"
    ):
        Adam().init({"W": np.ones(2), "k": leaf})


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ({"W": np.ones(3), "b": np.ones(2)}, r"shape \(3,\) in parameter 'W'"),
        ({"W": np.ones(2)}, "'b'"),
        ({"W": np.ones(2), "b": np.ones(2), "c": np.ones(2)}, "'c'"),
        ({"W": np.ones(2), "b": np.ones(2, int)}, "int64 in parameter 'b'"),
    ],
)
def test_a_gradient_that_does_not_fit_its_structure(grads, message):
    """The error names the block; θ is as it was."""
    theta = {"W": np.ones(2), "b": np.ones(2)}
    state = Adam().init(theta)
    with pytest.raises(ParameterStructureError, match=message):
        Adam().update(state, theta, grads)
    assert theta["W"].tolist() == theta["b"].tolist() == [1.0, 1.0]


def test_vectors_are_looked_at_too():
    """Shape, dtype and writability of θ and the shape of the gradient, before anything has changed."""
    theta = np.ones(3)
    state = Adam().init(theta)
    with pytest.raises(ParameterStructureError, match=r"gradient has shape \(1,\); expected \(3,\)."):
        Adam().update(state, theta, np.ones(1))
    with pytest.raises(ParameterStructureError, match=r"theta is an array of shape \(4,\)"):
        Adam().update(state, np.ones(4), np.ones(4))
    with pytest.raises(ParameterStructureError, match="theta is an array of shape .* and dtype float32"):
        Adam().update(state, np.ones(3, np.float32), np.ones(3))
    with pytest.raises(ParameterStructureError, match="theta is of type list"):
        Adam().update(state, [1.0, 1.0, 1.0], np.ones(3))
    with pytest.raises(ParameterStructureError, match="theta is read-only"):
        Adam().update(state, frozen(3), np.ones(3))
    with pytest.raises(ParameterStructureError, match="theta is read-only"):
        Adam().init(frozen(3))
    assert state.step == 0
    Adam().update(state, theta, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(theta, 0.99)


def test_a_float64_gradient_for_float32_parameters(rng):
    """θ and slots stay float32."""
    theta = np.ones(5, np.float32)
    optimizer = Adam()
    state = optimizer.init(theta)
    train(optimizer, state, theta, rng.normal(size=(3, 5)))
    assert theta.dtype == state.links[0].slots["mean"].dtype == np.float32


def test_the_founding_case():
    """A loop of the user's own over tuples, as it stands in the README."""
    theta = (np.zeros(2), np.zeros((2, 2)))
    target = (np.ones(2), np.eye(2))
    optimizer = Adam(learning_rate=0.01)
    state = optimizer.init(theta)
    for _ in range(500):
        optimizer.update(state, theta, tuple(ours - its for ours, its in zip(theta, target, strict=True)))
    np.testing.assert_allclose(theta[0], target[0], atol=1e-2)
    np.testing.assert_allclose(theta[1], target[1], atol=1e-2)


# Full-batch methods


FULL_BATCH = {name: method for name, method in NAMED.items() if isinstance(method, FullBatch)}


def rosenbrock(x):
    return rosen(x), rosen_der(x)


class RosenbrockTerms:
    """Rosenbrock's function as half a sum of squares."""

    def residuals(self, x):
        return 2**0.5 * np.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])

    def residual_jacobian(self, x):
        n, at = len(x) - 1, np.arange(len(x) - 1)
        jacobian = np.zeros((2 * n, n + 1))
        jacobian[at, at + 1], jacobian[at, at], jacobian[n + at, at] = 10, -20 * x[:-1], -1
        return self.residuals(x), 2**0.5 * jacobian


def as_taken_by(method):
    """Rosenbrock's function in the form that a full-batch method takes."""
    return RosenbrockTerms() if method.residuals else rosenbrock


@pytest.mark.parametrize("method", FULL_BATCH.values(), ids=FULL_BATCH)
def test_a_full_batch_method_goes_on_to_its_tolerance(method):
    """With a small `tol` no other criterion stops it, and the start is not written to."""
    start = np.full(10, -1.0)
    result = method.minimize(as_taken_by(method), start, max_iter=1000, tol=1e-8)
    assert result.success
    assert np.abs(result.jac).max() <= 1e-8
    assert result.fun < 1e-15
    np.testing.assert_allclose(result.x, 1.0, atol=1e-7)
    assert (start == -1.0).all()


@pytest.mark.parametrize("method", FULL_BATCH.values(), ids=FULL_BATCH)
def test_iterations_are_limited_and_reported(method):
    """`max_iter` is the limit, the callback sees each iteration and may stop it."""
    seen = []
    result = method.minimize(as_taken_by(method), np.full(10, -1.0), max_iter=3, callback=seen.append)
    assert not result.success
    assert result.nit == len(seen) == 3
    for iterate in seen:
        assert iterate.fun == pytest.approx(rosen(iterate.x), rel=1e-12)
        np.testing.assert_allclose(iterate.jac, rosen_der(iterate.x), rtol=1e-9, atol=1e-9)

    result = method.minimize(as_taken_by(method), np.full(10, -1.0), callback=lambda iterate: True)
    assert (result.nit, result.success) == (1, False)

    def exhausted(iterate):
        raise StopIteration("a stream of the user's")

    with pytest.raises(StopIteration, match="a stream of the user's"):
        method.minimize(as_taken_by(method), np.full(10, -1.0), callback=exhausted)


def test_options_are_scipys_own():
    """Hyperparameters reach scipy under its names; a wrong value is refused."""
    method = LBFGS(maxcor=3, maxfun=2)
    assert method.options() == {"maxcor": 3, "ftol": 0.0, "maxfun": 2, "maxls": 20}
    assert method.minimize(rosenbrock, np.full(10, -1.0)).nfev <= 22
    with pytest.raises(ValueError, match="LBFGS: maxcor must be a whole number in"):
        LBFGS(maxcor=0.5).minimize(rosenbrock, np.ones(2))
    assert isinstance(method, Hyperparameters)
    assert repr(clone(method)) == repr(method)
