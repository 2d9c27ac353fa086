"""What holds for every rule that has a name, beyond the contract; what a step is, the parity tests tell."""

import ast
import inspect
import re
import textwrap

import numpy as np
import pytest
from scipy.optimize import rosen_der
from sklearn.base import clone

from sk_analytic.optimizers import (
    LAMB,
    LARS,
    SGD,
    Adam,
    Chain,
    Constant,
    Lion,
    NAdam,
    NamedChain,
    NovoGrad,
    Optimizer,
    RAdam,
    Rprop,
    ScheduleFreeAdamW,
    WeightDecay,
    get_optimizer,
    get_optimizer_names,
)
from sk_analytic.parameters import Layout

RULES = {name: get_optimizer(name) for name in get_optimizer_names()}
RULES = {name: rule for name, rule in RULES.items() if isinstance(rule, Optimizer)}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)

BY_BLOCK = LARS, LAMB, NovoGrad
"""Rules that take norms of blocks."""


def run(rule, theta, gradient, steps, blocks=None):
    """Update a copy of θ and return it after each step, with the θ that predicts in the end."""
    theta = theta.copy()
    state = rule.init(theta, blocks)
    path = []
    for step in range(steps):
        rule.update(state, theta, gradient(theta, step))
        path.append(theta.copy())
    return np.array(path), rule.eval_params(state, theta).copy()


# θ after 20 steps on Rosenbrock's function over 500, from (-1.2, 1, -1.2, 1), as the references have it.
# The tests in tests/parity compare every step and more settings, where the references are installed.
RECORDED = {
    "AdaBelief": ({}, [-0.92331401613, 0.699455099327, -0.922733899937, 1.15148465535]),
    "Adadelta": ({}, [-1.13630605683, 0.933865787308, -1.13602132325, 1.0566997786]),
    "Adagrad": ({}, [-1.12838273878, 0.926578650564, -1.12817992823, 1.06544064533]),
    "Adam": ({}, [-1.01167103409, 0.80616254944, -1.01130661975, 1.15140023066]),
    "Adamax": ({}, [-1.03591965158, 0.822269878466, -1.0349578744, 1.121845808]),
    "AdamaxW": ({"weight_decay": 0.0001}, [-1.03590164353, 0.822253789337, -1.03493776796, 1.12182080499]),
    "AdamW": ({}, [-1.0096408349, 0.804416623367, -1.00918050678, 1.1488088631]),
    "Adan": ({}, [-1.00324580423, 0.801257498757, -1.00310041005, 1.17353916618]),
    "ASGD": ({}, [-1.11237663545, 0.771628740482, -1.01163707912, 1.01611314647]),
    "DoG": ({}, [-1.19982559562, 0.999359913012, -1.19947014931, 1.0000710772]),
    "FTRL": ({}, [-0.908945450119, 0.583699822146, -0.836027171194, 0.96139693358]),
    "LAMB": ({}, [-0.981450414991, 0.773505252844, -0.981014421071, 1.15942253105]),
    "LARS": ({}, [-1.19446218316, 0.979986955858, -1.18343323007, 1.00219870173]),
    "Lion": ({}, [-1.18, 0.98, -1.18, 1.02]),
    "NAdam": ({}, [-1.0475332357, 0.83976716315, -1.04695198778, 1.11420902553]),
    "NAdamW": ({}, [-1.04559346747, 0.838054228601, -1.04485331251, 1.11161274615]),
    "NovoGrad": ({}, [-0.719540184984, 0.24064939877, -0.584992714895, 0.930622384132]),
    "OptimisticAdam": ({}, [-1.01312228877, 0.806981020214, -1.01270220913, 1.14486115944]),
    "Prodigy": ({}, [-1.19829136155, 0.99829159958, -1.19829139867, 1.00170918178]),
    "RAdam": ({}, [-1.16933224684, 0.915534706336, -1.12859118719, 1.01643424302]),
    "RMSprop": ({}, [-0.740377957387, 0.465283005792, -0.690339961061, 0.64806532868]),
    "Rprop": ({}, [-0.209940449151, 0.0870611515884, -0.56417355352, 0.588987035978]),
    "ScheduleFreeAdamW": ({}, [-1.09415803161, 0.890575820256, -1.09379954112, 1.09282925204]),
    "ScheduleFreeSGD": ({}, [0.118515536228, 0.0554064217406, -0.0378273489064, -0.0760677831932]),
    "SGD": ({"learning_rate": 0.1}, [-0.694074143204, 0.291833519164, -0.625875297518, 0.77912338486]),
    "Signum": ({"momentum": 0.0}, [-1.18, 0.98, -1.18, 1.02]),
    "Yogi": ({}, [-1.01272278491, 0.806796489706, -1.01193612749, 1.14963224773]),
}


@every_rule
def test_twenty_steps_as_recorded(rule):
    """Without any reference installed, a rule still is what it was when it was compared."""
    kind = type(rule).__name__
    settings, expected = RECORDED.get(kind, ({}, None))
    path, _ = run(
        clone(rule).set_params(**settings), np.array([-1.2, 1.0, -1.2, 1.0]), lambda x, _: rosen_der(x) / 500, 20
    )
    assert expected is not None, (
        f"Once {kind} passes the parity tests, add to RECORDED what they have confirmed: "
        f"{kind!r}: ({{}}, {np.array2string(path[-1], separator=', ', precision=12)})"
    )
    np.testing.assert_allclose(path[-1], expected, rtol=1e-9)


def bowl(theta, step=0):
    """Gradient of a quadratic with its bottom at 3 and curvatures from 0.2 to 1."""
    return np.linspace(0.2, 1.0, theta.size).astype(theta.dtype) * (theta - 3)


def height(theta):
    return bowl(theta) @ (theta - 3)


@every_rule
def test_a_step_goes_down(rule, rng):
    """One step with default settings lowers a quadratic; two hundred lower it further, for what predicts too."""
    theta = rng.normal(size=10)
    path, answer = run(rule, theta, bowl, 200)
    assert height(path[0]) < height(theta)
    assert height(path[-1]) < height(path[0])
    assert height(answer) < height(path[0])


@every_rule
def test_float32_follows_float64(rule, rng):
    """Ten steps in float32 end where those in float64 do, to its precision."""
    theta = rng.normal(size=10).astype(np.float32)
    single, _ = run(rule, theta, bowl, 10)
    double, _ = run(rule, theta.astype(np.float64), bowl, 10)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=2e-4, atol=2e-4)


@every_rule
def test_blocks_make_no_difference_but_to_their_norms(rule, rng):
    """θ in three blocks moves as in one, for all rules but those that take norms of blocks."""
    layout = Layout.of({"W": np.ones((2, 3)), "b": np.ones(3), "c": np.ones(())})
    theta = rng.normal(size=10)
    whole, _ = run(rule, theta, bowl, 5)
    parts, _ = run(rule, theta, bowl, 5, blocks=layout)
    assert np.allclose(whole, parts, rtol=1e-12, atol=0) != isinstance(rule, BY_BLOCK)


@every_rule
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e12])
def test_any_size_of_gradient_gives_finite_steps(rule, scale, rng):
    """Zero, tiny and huge gradients, from a θ that is zero or not; and zero again afterwards."""
    for theta in (np.zeros(6), rng.normal(size=6)):
        gradients = scale * rng.normal(size=(5, 6)) * [[1], [1], [0], [1], [0]]
        path, answer = run(rule, theta, lambda _, step, rows=gradients: rows[step], 5)
        assert np.isfinite(path).all()
        assert np.isfinite(answer).all()


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if not isinstance(rule, Rprop)], ids=repr)
def test_at_a_rate_of_zero_nothing_moves(rule, rng):
    """Every rule multiplies by its rate; Rprop, whose rate is the first step size, keeps to its least step."""
    theta = rng.normal(size=10)
    path, answer = run(clone(rule).set_params(learning_rate=0.0), theta, bowl, 3)
    np.testing.assert_allclose(path[-1], theta, rtol=1e-14)
    np.testing.assert_allclose(answer, theta, rtol=1e-14)


@every_rule
def test_what_a_docstring_tells(rule):
    """It has equations, the paper, the reference and an example; every default that it names is the default."""
    text = inspect.getdoc(rule)
    assert ".. math::" in text
    assert re.search(r"^\.\. \[\w+\d{4}\] .*\d{4}", text, flags=re.MULTILINE | re.DOTALL)
    assert re.search(r"``(torch|optax)\.", text) or "No library serves as a reference" in text
    assert ">>> " in text
    told = {}
    for names, values in re.findall(r"^(\w[\w, ]*) : .*, default=(.*)$", text, flags=re.MULTILINE):
        told |= dict(zip(names.split(", "), map(ast.literal_eval, values.split(", ")), strict=True))
    assert told == rule.get_params()


@every_rule
def test_a_rule_is_short(rule):
    """One formula and what goes into it: at most 30 lines of code beside its settings, a signature being one line."""
    source = textwrap.dedent(inspect.getsource(type(rule)))
    tree = ast.parse(source).body[0]
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    settings = [node for node in tree.body if getattr(node, "name", "") == "__init__" or isinstance(node, ast.Assign)]
    left_out = {line for node in strings + settings for line in range(node.lineno, node.end_lineno + 1)}
    methods = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    left_out |= {line for node in methods for line in range(node.lineno + 1, node.body[0].lineno)}
    lines = [line for number, line in enumerate(source.splitlines(), start=1) if number not in left_out]
    assert sum(bool(line.strip()) for line in lines) <= 30


def steps_of(theta, *rules):
    """Return the θ after three steps by each rule, with the same gradients."""
    return [run(rule, theta, bowl, 3)[0] for rule in rules]


def test_settings_that_make_one_rule_another(rng):
    """Lion of equal betas is the sign of an average; RAdam of a high threshold is momentum; NAdam's limits."""
    theta = rng.normal(size=10)
    lion, sign = steps_of(
        theta, Lion(0.1, beta_1=0.9, beta_2=0.9), get_optimizer("signum").set_params(learning_rate=0.1)
    )
    np.testing.assert_array_equal(lion, sign)
    radam, adam = steps_of(theta, RAdam(0.1, beta_2=0.99, threshold=1e6), Adam(0.1, beta_2=0.0, epsilon=0.0))
    assert np.allclose(radam[0], theta - 0.1 * bowl(theta))
    assert np.allclose(adam[0], theta - 0.1 * np.sign(bowl(theta)))
    nadam, adam = steps_of(theta, NAdam(beta_1=0.0), Adam(beta_1=0.0))
    np.testing.assert_allclose(nadam, adam, rtol=1e-13)


def test_named_chains_route_their_settings():
    """A part may know a hyperparameter by another name, or have a value that the chain fixes."""
    divide, decay, sgd = NovoGrad(beta_1=0.5, beta_2=0.75, weight_decay=0.1).links()
    assert (divide.rho, decay.weight_decay, sgd.momentum) == (0.75, 0.1, 0.5)
    divide, *_, average = ScheduleFreeAdamW(beta_1=0.5, beta_2=0.75).links()
    assert (divide.rho, divide.corrected, average.beta) == (0.75, True, 0.5)
    with pytest.raises(ValueError, match=r"NovoGrad: beta_2 must be a number in \[0, 1\)"):
        NovoGrad(beta_2=1.0).check()


@pytest.mark.parametrize("settings", [{"rate": "learning_rate"}, {"momentum": "beta_3"}, {"rho": 0.5}])
def test_a_setting_that_reaches_no_part(settings):
    """A hyperparameter that is renamed must be one of a part, and the chain's name for it must exist."""
    with pytest.raises(TypeError, match="Wrong: .* belongs to no part; it must belong to one"):
        type("Wrong", (NamedChain,), {"parts": (SGD,), "settings": settings, "__init__": Adam.__init__})


def test_what_is_remembered_without_a_measure_keeps_blocks_together(rng):
    """NAdam's product of momenta is the same for all blocks, so they run as one; a missing block goes its own way."""
    theta = {"a": rng.normal(size=3), "b": rng.normal(size=3)}
    optimizer = NAdam()
    state = optimizer.init(theta)
    optimizer.update(state, theta, theta)
    assert len(state.links[0].records) == 1
    optimizer.update(state, theta, theta | {"b": None})
    products = {blocks: now.memory["product"] for now, blocks in state.links[0].records}
    assert products[(0,)] < products[(1,)]


def test_ftrl_leaves_entries_at_zero_and_starts_anywhere(rng):
    """With l1, entries of small gradients are exactly zero; without penalties it starts as Adagrad from any θ."""
    theta = np.zeros(4)
    ftrl = get_optimizer("ftrl").set_params(l1=1.0)
    path, _ = run(ftrl, theta, lambda x, _: np.array([0.1, -0.1, 2.0, -2.0]), 5)
    assert (path[-1] == 0).tolist() == [True, True, False, False]
    theta = rng.normal(size=4)
    path, _ = run(get_optimizer("ftrl").set_params(learning_rate=0.5), theta, bowl, 1)
    np.testing.assert_allclose(path[0], theta - 0.5 * bowl(theta) / (1 + np.abs(bowl(theta))), rtol=1e-14)


def test_schedule_free_answers_with_the_average(rng):
    """With a constant rate, what predicts is the mean of the fast iterates."""
    theta = rng.normal(size=4)
    rule = get_optimizer("schedule_free_sgd").set_params(learning_rate=0.1, beta=0.0)
    path, answer = run(rule, theta, bowl, 10)
    np.testing.assert_allclose(answer, path.mean(axis=0), rtol=1e-13)
    warm = clone(rule).set_params(learning_rate=Constant(0.0))
    assert np.isfinite(run(warm, theta, bowl, 3)[1]).all()


def test_decay_in_a_chain_is_decay_of_the_rule(rng):
    """A name with a W is its rule before a WeightDecay, to the bit."""
    theta = rng.normal(size=10)
    for name in ("adam", "nadam", "adamax"):
        named, chain = steps_of(theta, get_optimizer(f"{name}w"), Chain([get_optimizer(name), WeightDecay()]))
        np.testing.assert_array_equal(named, chain)
