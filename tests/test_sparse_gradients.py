"""Gradients of some rows of a block: read from pairs and sparse matrices, and used for these rows alone."""

import pickle
import tracemalloc

import numpy as np
import pytest
import scipy
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.utils.fixes import parse_version

from sk_analytic import AnalyticRegressor, check_gradient, get_optimizer, get_optimizer_names
from sk_analytic.exceptions import DivergenceError, GradientCheckError, ParameterStructureError
from sk_analytic.optimizers import (
    FTRL,
    SGD,
    Accumulate,
    Adagrad,
    Adam,
    Chain,
    ClipBlockNorm,
    ClipNorm,
    ClipValue,
    ExponentialAverage,
    Lookahead,
    Optimizer,
    PerBlock,
    PolyakAverage,
    SignDecay,
    Step,
    TrustRatio,
    WeightDecay,
    use_engine,
)
from sk_analytic.optimizers.engine.numba_kernel import is_installed
from sk_analytic.parameters import Layout
from sk_analytic.sparse_gradients import spread

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RULES = {name: get_optimizer(name) for name in get_optimizer_names()}
RULES = {name: rule for name, rule in RULES.items() if isinstance(rule, Optimizer)}

# As the guide on sparse gradients has it: for which a row without a gradient stays as it is anyway, and for which
# all rows of a block are needed. For all others such a row is left out, though its turn would have moved it.
EXACT = ("sgd", "adagrad")
WHOLE = ("asgd", "dog", "lamb", "lars", "prodigy", "schedule_free_adamw", "schedule_free_sgd")


def draw(rng, n, k, width, steps):
    """Rows and values for each of some steps."""
    return [(rng.choice(n, k, replace=False), rng.normal(size=(k, width))) for _ in range(steps)]


def dense(gradient, shape):
    rows, values = gradient
    whole = np.zeros(shape)
    np.add.at(whole, rows, values)
    return whole


def run(optimizer, start, gradients):
    """Return θ after steps along gradients, and the state."""
    theta = {name: block.copy() for name, block in start.items()}
    state = optimizer.init(theta)
    for gradient in gradients:
        optimizer.update(state, theta, gradient)
    return theta, state


# ---- what a leaf may be ----


def read(leaf, shape, dtype=np.float64):
    """The gradient of all rows that a leaf stands for, beside two other blocks."""
    layout = Layout.of({"a": np.zeros(3), "table": np.zeros(shape), "z": 0.0}, dtype)
    out = np.full(layout.size, np.nan, dtype)
    missing, sparse_grads = layout.read_gradient({"a": np.ones(3), "table": leaf, "z": 2.0}, out)
    assert missing == ()
    assert [gradient.block for gradient in sparse_grads] == [1]
    assert (np.diff(sparse_grads[0].rows) > 0).all()
    assert sparse_grads[0].values.dtype == dtype
    spread(out, sparse_grads)
    assert_array_equal(out[[0, 1, 2, -1]], [1, 1, 1, 2])
    return layout.blocks(out)[1]


PAIRS = {
    "in order": [0, 2, 5],
    "in any order": [5, 0, 2],
    "repeated": [2, 5, 2, 2, 0],
    "one": [3],
    "none": [],
    "of two axes": [[0, 2], [2, 5], [1, 1]],
    "unsigned": np.array([4, 1], np.uint8),
}


@pytest.mark.parametrize("rows", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("rest", [(), (3,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pair_is_rows_and_their_values(rows, rest, dtype, rng):
    """In any order; what comes repeatedly is summed. Neither array is written to."""
    rows = np.asarray(rows, None if np.size(rows) else float)
    values = rng.normal(size=(*rows.shape, *rest)).astype(np.float32)
    before = rows.copy(), values.copy()
    expected = dense((rows.astype(int), values), (6, *rest))
    assert_allclose(read((rows, values), (6, *rest), dtype), expected, rtol=1e-6)
    assert_array_equal(rows, before[0])
    assert_array_equal(values, before[1])


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "bsr", "dok"])
@pytest.mark.parametrize("family", ["matrix", "array"])
def test_a_sparse_leaf_is_the_rows_that_hold_something(kind, family):
    """Of any format; the other entries of these rows are zeros of the gradient."""
    whole = np.zeros((6, 3))
    whole[[1, 4], [2, 0]] = 1.5, -2.0
    assert_array_equal(read(getattr(sparse, f"{kind}_{family}")(whole), (6, 3)), whole)
    assert_array_equal(read(getattr(sparse, f"{kind}_{family}")((6, 3)), (6, 3)), np.zeros((6, 3)))


@pytest.mark.skipif(parse_version(scipy.__version__) < parse_version("1.13"), reason="scipy has no sparse vectors yet")
def test_a_vector_may_be_sparse():
    """Its rows are numbers."""
    whole = np.array([0.0, 2.0, 0.0, -1.0])
    assert_array_equal(read(sparse.coo_array(whole), (4,)), whole)


@pytest.mark.skipif(parse_version(scipy.__version__) < parse_version("1.15"), reason="scipy has two axes at most yet")
@pytest.mark.parametrize("shape", [(6, 2, 2), (6, 2, 3, 2), (6, 0, 2)], ids=str)
def test_a_sparse_leaf_has_as_many_axes_as_its_block(shape, rng):
    """The values of a row stay in their places."""
    whole = rng.normal(size=shape)
    whole[[0, 2, 3]] = 0
    whole[4] *= rng.random(shape[1:]) > 0.5
    assert_array_equal(read(sparse.coo_array(whole), shape), whole)


def test_a_sparse_leaf_may_give_a_place_twice():
    """The values are summed, as scipy has it."""
    leaf = sparse.coo_array((np.array([1.0, 2.0, 4.0]), ([3, 3, 0], [1, 1, 0])), shape=(6, 3))
    assert_array_equal(read(leaf, (6, 3)), leaf.toarray())


def test_a_pair_is_known_by_its_place(rng):
    """In any structure: a leaf is never a tuple, so two arrays in its place are rows and values."""
    rows, values = np.array([1]), np.ones((1, 2))
    table, other = np.zeros((4, 2)), np.zeros(2)
    for structure, gradient in (
        ({"E": table, "b": other}, {"b": other, "E": (rows, values)}),
        ((table, other), ((rows, values), other)),
        ([table, [other]], [(rows, values), [other]]),
        (table, (rows, values)),
        ((table,), ((rows, values),)),
    ):
        layout = Layout.of(structure)
        assert len(layout.read_gradient(layout.unwrap(gradient), np.zeros(layout.size))[1]) == 1
    layout = Layout.of(table)
    assert (
        len(layout.read_gradient(layout.unwrap(((rows, values),)), np.zeros(layout.size))[1]) == 1
    )  # as jax.vjp wraps it
    layout = Layout.of((table, other))
    assert layout.read_gradient((table, other), np.zeros(layout.size))[1] == ()


WRONG = {
    "rows of floats": ((np.ones(1), np.ones((1, 3))), "integer row indices, but has dtype float64"),
    "two arrays that are no pair": ((np.ones((6, 3)), np.ones(3)), "integer row indices"),
    "row too large": (([0, 6], np.ones((2, 3))), "values for row 6 of parameter 'table', which has rows 0 to 5"),
    "row below zero": (([-1, 2], np.ones((2, 3))), "values for row -1"),
    "another number of values": (
        ([0, 1], np.ones((3, 3))),
        r"shape \(3, 3\).*rows of shape \(2,\).*expected.*\(2, 3\)",
    ),
    "rows of another width": (([0, 1], np.ones((2, 4))), r"expected real floats of shape \(2, 3\)"),
    "whole numbers for values": (([0], np.ones((1, 3), int)), "dtype int64 .*expected real floats"),
    "complex values": (([0], np.ones((1, 3), complex)), "dtype complex128"),
    "sparse of another shape": (sparse.csr_array(np.ones((3, 6))), r"sparse matrix of shape \(3, 6\)"),
    "sparse whole numbers": (sparse.csr_array(np.ones((6, 3), int)), "dtype int64"),
    "two numbers": ((0, 0.5), "has a tuple in parameter 'table'"),
    "three arrays": ((np.ones(1), np.ones(1), np.ones(1)), "has a tuple in parameter 'table'"),
}


@pytest.mark.parametrize(("leaf", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_gradient_of_rows_is_refused(leaf, message, rng):
    """By an error that names the block and what came; θ and the state stay as they were."""
    theta = {"table": rng.normal(size=(6, 3))}
    before = theta["table"].copy()
    state = Adam().init(theta)
    with pytest.raises(ParameterStructureError, match=message):
        Adam().update(state, theta, {"table": leaf})
    assert_array_equal(theta["table"], before)
    assert state.step == 0


def test_a_number_has_no_rows():
    """A pair for a block without axes is refused."""
    theta = {"rate": np.array(1.0)}
    with pytest.raises(ParameterStructureError, match="some rows for parameter 'rate', which is one number"):
        SGD().update(SGD().init(theta), theta, {"rate": (np.array([0]), np.ones(1))})


# ---- what an optimizer does with it ----


@pytest.mark.parametrize("name", [name for name in RULES if name not in WHOLE])
def test_the_touched_rows_move_as_if_they_were_all(name, rng):
    """Where rows are left out, those with a gradient do what they would do as a block of their own, to the bit."""
    rule, start = RULES[name], rng.normal(size=(7, 3))
    rows = np.array([1, 2, 5])
    values = rng.normal(size=(8, 3, 3))
    moved, state = run(rule, {"E": start}, [{"E": (rows, each)} for each in values])
    alone, _ = run(rule, {"E": start[rows]}, [{"E": each} for each in values])
    assert_array_equal(moved["E"][rows], alone["E"])
    others = np.setdiff1d(np.arange(7), rows)
    assert_array_equal(moved["E"][others], start[others])
    for link, fresh in zip(state.links, rule.init({"E": start.copy()}).links, strict=True):
        for slot in link.slots:
            kept, expected = (one.slots[slot].reshape(7, 3)[others] for one in (link, fresh))
            assert_array_equal(kept, expected)


@pytest.mark.parametrize("name", RULES)
def test_the_table_of_the_guide(name, rng):
    """Which rules do what they do with a gradient of all rows, and which leave the other rows out."""
    rule, start = RULES[name], {"E": rng.normal(size=(7, 3)), "b": rng.normal(size=2)}
    steps = draw(rng, 7, 3, 3, 10)
    moved, _ = run(rule, start, [{"E": step, "b": np.ones(2)} for step in steps])
    expected, _ = run(rule, start, [{"E": dense(step, (7, 3)), "b": np.ones(2)} for step in steps])
    same = np.array_equal(moved["E"], expected["E"])
    assert same == (name in (*EXACT, *WHOLE))
    assert_array_equal(moved["b"], expected["b"])
    assert rule.init(start)._run.leaves_out == [name not in WHOLE] * 2


@pytest.mark.parametrize("l1", [0.0, 0.1])
def test_ftrl_by_rows_is_exact_from_zero(l1, rng):
    """A row that has not been touched is what the rule makes of zero."""
    start = {"E": np.zeros((7, 3))}
    steps = draw(rng, 7, 3, 3, 10)
    rule = FTRL(learning_rate=0.1, **{next(n for n in FTRL().get_params() if "1" in n): l1})
    moved, _ = run(rule, start, [{"E": step} for step in steps])
    expected, _ = run(rule, start, [{"E": dense(step, (7, 3))} for step in steps])
    assert_allclose(moved["E"], expected["E"], rtol=1e-14)


NORMS = {
    "ClipNorm": lambda: Chain([ClipNorm(0.5), SGD(0.1)]),
    "ClipBlockNorm": lambda: Chain([ClipBlockNorm(0.5), SGD(0.1)]),
    "ClipValue": lambda: Chain([ClipValue(0.3), Adagrad(0.1)]),
    "after a rule": lambda: Chain([Adagrad(0.1), ClipNorm(0.5)]),
}


@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS)
def test_norms_of_gradients_need_no_other_rows(make, rng):
    """Clipping by the norm, of a block or of all, is exact: the other rows add zeros to it."""
    start = {"a": rng.normal(size=4), "E": rng.normal(size=(7, 3)), "b": rng.normal(size=2)}
    steps = draw(rng, 7, 3, 3, 6)

    def with_others(table):
        return {"a": 3 * np.ones(4), "E": table, "b": np.ones(2)}

    moved, state = run(make(), start, map(with_others, steps))
    expected, _ = run(make(), start, [with_others(dense(step, (7, 3))) for step in steps])
    assert state._run.leaves_out == [True] * 3
    for name in start:
        assert_allclose(moved[name], expected[name], rtol=1e-13)


NEED_ALL = {
    "Lookahead": lambda: Chain([SGD(0.1), Lookahead(steps=2)]),
    "PolyakAverage": lambda: Chain([SGD(0.1), PolyakAverage()]),
    "ExponentialAverage": lambda: Chain([Adam(0.1), ExponentialAverage(decay=0.5)]),
    "Accumulate": lambda: Chain([Accumulate(2), SGD(0.1)]),
    "TrustRatio": lambda: Chain([TrustRatio(), SGD(0.1)]),
}


@pytest.mark.parametrize("make", NEED_ALL.values(), ids=NEED_ALL)
@pytest.mark.parametrize("as_vector", [False, True], ids=["structure", "vector"])
def test_links_that_need_all_rows_get_them(make, as_vector, rng):
    """To the bit what they do with zeros in the other rows; the answer too."""
    start = {"E": rng.normal(size=(7, 3)), "b": rng.normal(size=2)}
    steps = draw(rng, 7, 3, 3, 7)
    expected, reference = run(make(), start, [{"E": dense(step, (7, 3)), "b": np.ones(2)} for step in steps])
    optimizer = make()
    if not as_vector:
        moved, state = run(optimizer, start, [{"E": step, "b": np.ones(2)} for step in steps])
        assert_array_equal(moved["E"], expected["E"])
        assert_array_equal(optimizer.eval_params(state, moved)["E"], make().eval_params(reference, expected)["E"])
        return
    layout = Layout.of(start)
    vector = layout.flatten(start)
    state = optimizer.init(vector, layout)
    for step in steps:
        g = np.zeros(layout.size)
        g[:-2] = np.nan  # what stands there means nothing
        _, sparse_grads = layout.read_gradient({"E": step, "b": np.ones(2)}, g)
        before = g.copy()
        optimizer.update(state, vector, g, sparse_grads=sparse_grads)
        assert_array_equal(g, before)
    assert_array_equal(layout.blocks(vector)[0], expected["E"])


@pytest.mark.parametrize("decay", [WeightDecay(0.5), SignDecay(0.5)], ids=repr)
@pytest.mark.parametrize("first", [True, False], ids=["coupled", "decoupled"])
def test_decay_is_of_the_touched_rows(decay, first, rng):
    """A row without a gradient does not decay."""
    chain = Chain([decay, SGD(0.1)] if first else [SGD(0.1), decay])
    start = rng.normal(size=(7, 3))
    rows, values = np.array([2, 4]), rng.normal(size=(2, 3))
    moved, _ = run(chain, {"E": start}, [{"E": (rows, values)}] * 3)
    alone, _ = run(chain, {"E": start[rows]}, [{"E": values}] * 3)
    assert_array_equal(moved["E"][rows], alone["E"])
    assert_array_equal(np.delete(moved["E"], rows, axis=0), np.delete(start, rows, axis=0))


def test_steps_count_by_block(rng):
    """Adam's correction counts the steps of the block, as in ``torch.optim.SparseAdam``, not those of a row."""
    start = np.zeros((3, 1))
    gradients = [(np.array([0]), np.ones((1, 1)))] * 3 + [(np.array([1]), np.ones((1, 1)))]
    moved, state = run(Adam(0.1), {"E": start}, [{"E": g} for g in gradients])
    mean, square = 0.1 / (1 - 0.9**4), 0.001 / (1 - 0.999**4)
    assert_allclose(moved["E"][1, 0], -0.1 * mean / (np.sqrt(square) + 1e-8), rtol=1e-12)
    assert state.links[0].records[0][0].t == 4


def test_a_step_without_rows_counts(rng):
    """No row moves, but the block has had its step; None is no step at all."""
    start = {"E": rng.normal(size=(3, 2))}
    none = (np.empty(0, int), np.empty((0, 2)))
    moved, state = run(Adam(), start, [{"E": none}, {"E": None}])
    assert_array_equal(moved["E"], start["E"])
    assert state.links[0].records[0][0].t == 1


@pytest.mark.parametrize("make", [lambda: Adam(0.1), lambda: Chain([ClipNorm(1.0), Adam(0.1)])], ids=["rule", "chain"])
def test_forms_may_change_from_step_to_step(make, rng):
    """All rows, some, none, and a schedule on top: each step is what it is by itself."""
    start = {"a": rng.normal(size=2), "E": rng.normal(size=(5, 2)), "F": rng.normal(size=(4, 3))}
    optimizer = make().set_params(
        **{"learning_rate" if isinstance(make(), Adam) else "adam__learning_rate": Step(0.1, every=2)}
    )
    some = {"E": (np.array([3, 1]), rng.normal(size=(2, 2))), "F": (np.array([0]), rng.normal(size=(1, 3)))}
    whole = {"E": dense(some["E"], (5, 2)), "F": dense(some["F"], (4, 3))}
    order = [some, whole, {**some, "F": None}, {"E": whole["E"], "F": some["F"]}, some]
    moved, _ = run(optimizer, start, [{"a": np.ones(2), **each} for each in order])
    for name, rows in (("E", [3, 1]), ("F", [0])):
        # All rows that ever had a gradient, as a block of their own.
        alone, _ = run(
            optimizer,
            {**start, "E": start["E"][[3, 1]], "F": start["F"][[0]]},
            [
                {
                    "a": np.ones(2),
                    "E": some["E"][1],
                    "F": None if each["F"] is None else some["F"][1],
                }
                for each in order
            ],
        )
        assert_allclose(moved[name][rows], alone[name], rtol=1e-12)


def test_blocks_of_other_optimizers_go_on_as_before(rng):
    """A table by rows with one rule, the rest with another."""
    start = {"E": rng.normal(size=(5, 2)), "b": rng.normal(size=2)}
    steps = draw(rng, 5, 2, 2, 4)
    optimizer = PerBlock({"E": Adagrad(0.1)}, default=Chain([SGD(0.1, momentum=0.9), PolyakAverage()]))
    moved, state = run(optimizer, start, [{"E": step, "b": np.ones(2)} for step in steps])
    expected, _ = run(optimizer, start, [{"E": dense(step, (5, 2)), "b": np.ones(2)} for step in steps])
    assert state._run.leaves_out == [True, False]
    for name in start:
        assert_array_equal(moved[name], expected[name])


@pytest.mark.parametrize("width", [1, 40, 20_000])
def test_rows_of_any_width_run_in_pieces(width, rng):
    """Many narrow rows, and rows longer than a piece."""
    start = rng.normal(size=(2000 if width == 1 else 5, width))
    rows = np.arange(0, len(start), 2)
    values = rng.normal(size=(len(rows), width))
    chain = Chain([ClipNorm(1.0), Adam(0.1)])
    moved, _ = run(chain, {"E": start}, [{"E": (rows, values)}] * 2)
    alone, _ = run(chain, {"E": start[rows]}, [{"E": values}] * 2)
    assert_array_equal(moved["E"][rows], alone["E"])


LEAVES = {
    "vector": lambda rng: rng.normal(size=7),
    "Fortran order": lambda rng: np.asfortranarray(rng.normal(size=(7, 2, 3))),
    "every other": lambda rng: rng.normal(size=(14, 6))[::2, ::2],
}


@pytest.mark.parametrize("make", LEAVES.values(), ids=LEAVES)
def test_leaves_of_any_memory_are_written_in_place(make, rng):
    """The step is taken on the user's own array, whatever its strides."""
    leaf = make(rng)
    start, rows = leaf.copy(), np.array([5, 0])
    values = rng.normal(size=(2, *leaf.shape[1:]))
    theta = {"E": leaf}
    state = Adagrad(0.1).init(theta)
    Adagrad(0.1).update(state, theta, {"E": (rows, values)})
    assert theta["E"] is leaf
    assert_allclose(leaf[rows], start[rows] - 0.1 * np.sign(values), rtol=1e-6)
    assert_array_equal(np.delete(leaf, rows, axis=0), np.delete(start, rows, axis=0))


@pytest.mark.skipif(not is_installed(), reason="numba is not installed")
def test_engines_agree(rng):
    """To the bit, with and without numba."""
    start = {"E": rng.normal(size=(7, 3)), "b": rng.normal(size=2)}
    steps = [{"E": step, "b": np.ones(2)} for step in draw(rng, 7, 3, 3, 5)]
    results = []
    for engine in ("numpy", "numba"):
        with use_engine(engine):
            results.append(run(Chain([ClipNorm(1.0), Adam(0.1)]), start, steps)[0])
    assert_array_equal(results[0]["E"], results[1]["E"])
    assert_array_equal(results[0]["b"], results[1]["b"])


def test_one_vector_has_rows_of_one_number(rng):
    """θ as a single vector takes a pair."""
    start = rng.normal(size=9)
    for theta in (start.copy(), start.astype(np.float32)):
        before = theta.copy()
        state = SGD(0.5).init(theta)
        SGD(0.5).update(state, theta, (np.array([3, 3, 1]), np.array([1.0, 2.0, 4.0])))
        expected = before.copy()
        expected[[3, 1]] -= 1.5, 2.0
        assert_allclose(theta, expected, rtol=1e-6)


@pytest.mark.parametrize("gradient", [(0, 0.5), (np.int64(1), np.float64(0.5)), (np.array(0), np.array(0.5))], ids=str)
def test_two_numbers_are_the_gradient_of_two(gradient):
    """They are no pair of a row and its value: rows have an axis."""
    theta = np.zeros(2)
    SGD(1.0).update(SGD(1.0).init(theta), theta, gradient)
    assert_array_equal(theta, -np.array(gradient))


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(0.1), Chain([ClipNorm(1.0), Adam(0.1)])], ids=repr)
@pytest.mark.parametrize("as_vector", [False, True], ids=["structure", "vector"])
def test_a_step_does_not_look_at_the_other_rows(optimizer, as_vector):
    """Nothing of the table's size is made or read in a step: other rows may even be NaN, and no memory is taken."""
    n = 100_000
    table = np.full((n, 16), np.nan)
    rows = np.arange(0, n, n // 100)
    table[rows] = 0.0
    gradient = {"E": (rows, np.ones((len(rows), 16)))}
    layout = Layout.of({"E": table})
    theta = table.reshape(-1) if as_vector else {"E": table}
    state = optimizer.init(theta, layout if as_vector else None)

    def step():
        if as_vector:
            g = np.empty(layout.size)
            optimizer.update(state, theta, g, sparse_grads=layout.read_gradient(gradient, layout.blocks(g))[1])
        else:
            optimizer.update(state, theta, gradient)

    step()
    tracemalloc.start()
    step()
    peak = tracemalloc.get_traced_memory()[1] - (8 * layout.size if as_vector else 0)
    tracemalloc.stop()
    assert peak < 0.03 * table.nbytes
    assert np.isfinite(table[rows]).all()
    assert (table[rows] != 0).all()
    assert np.isnan(np.delete(table, rows, axis=0)).all()


# ---- in estimators ----

N_USERS, N_ITEMS, RANK = 12, 9, 2
PAIRS_OF_IDS = np.stack([np.repeat(np.arange(N_USERS), N_ITEMS), np.tile(np.arange(N_ITEMS), N_USERS)], axis=1)


def ratings():
    """Ids of users and items, as floats, and a rating for two thirds of the pairs."""
    rng = np.random.default_rng(1)
    table = rng.normal(size=(N_USERS, 2)) @ rng.normal(size=(2, N_ITEMS))
    seen = PAIRS_OF_IDS[rng.random(len(PAIRS_OF_IDS)) < 0.67]
    return seen.astype(float), table[seen[:, 0], seen[:, 1]]


def init(rng):
    return {
        "users": rng.normal(size=(N_USERS, RANK)),
        "items": rng.normal(size=(N_ITEMS, RANK)),
        "offset": np.zeros(1),
    }


def forward(params, X):
    user, item = X.T.astype(int)
    return (params["users"][user] * params["items"][item]).sum(axis=1) + params["offset"]


def vjp(params, X):
    user, item = X.T.astype(int)

    def pullback(d):
        return {
            "users": (user, d[:, None] * params["items"][item]),
            "items": (item, d[:, None] * params["users"][user]),
            "offset": d.sum(keepdims=True),
        }

    return forward(params, X), pullback


def spread_out(params, grads):
    """The same gradient with all rows."""
    shapes = {name: np.shape(block) for name, block in params.items()}
    return {n: dense(leaf, shapes[n]) if isinstance(leaf, tuple) else leaf for n, leaf in grads.items()}


def dense_vjp(params, X):
    prediction, pullback = vjp(params, X)
    return prediction, lambda d: spread_out(params, pullback(d))


def sum_gradient(params, X, y, sample_weight):
    prediction, pullback = vjp(params, X)
    return pullback(sample_weight * (prediction - y))


def factorization(**settings):
    defaults = {"vjp": vjp, "init": init, "batch_size": 10, "max_iter": 5, "random_state": 0}
    settings = {**defaults, **settings}
    if "gradient" in settings:
        settings.update(vjp=None, forward=forward)
    return AnalyticRegressor(**settings)


def assert_same_fit(model, expected, **tolerance):
    for name, block in expected.params_.items():
        assert_allclose(model.params_[name], block, **tolerance)
    assert_allclose(model.loss_curve_, expected.loss_curve_, **tolerance)
    assert_allclose(model._training.history.gradient_norms, expected._training.history.gradient_norms, **tolerance)


VARIANTS = {
    "sgd": {"optimizer": SGD(0.05)},
    "clipped": {"optimizer": Chain([ClipNorm(0.1), Adagrad(0.1)])},
    "averaged": {"optimizer": Chain([SGD(0.05), PolyakAverage()])},
    "penalized": {"optimizer": Adam(0.05), "alpha": 0.1},
    "fixed": {"optimizer": SGD(0.05), "fixed": ("users",)},
    "in full batches": {"optimizer": "lbfgs", "batch_size": "auto"},
    "in parts": {"optimizer": "lbfgs", "batch_size": 10},
    "early stopping": {"optimizer": SGD(0.05), "early_stopping": True},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_fit_by_rows_is_the_fit_with_all_rows(settings):
    """Wherever the other rows stay put, or all rows are needed: losses, norms, parameters."""
    X, y = ratings()
    model = factorization(**settings).fit(X, y)
    assert_same_fit(model, factorization(vjp=dense_vjp, **settings).fit(X, y), rtol=1e-9)


@pytest.mark.filterwarnings("ignore:numerical")
def test_a_block_that_is_differenced_is_so_whatever_its_leaf_is():
    """The differences replace the gradient by rows, as they replace any other."""
    X, y = ratings()
    model = factorization(optimizer=SGD(0.05), numerical=("users",), max_iter=2).fit(X, y)
    expected = factorization(optimizer=SGD(0.05), vjp=dense_vjp, max_iter=2).fit(X, y)
    assert_same_fit(model, expected, rtol=1e-6)


def test_sums_over_rows_become_means():
    """With reduction="sum", weights and all."""
    X, y = ratings()
    weight = np.random.default_rng(0).random(len(y))
    settings = {"optimizer": SGD(0.05)}
    model = factorization(gradient=sum_gradient, reduction="sum", **settings).fit(X, y, sample_weight=weight)
    expected = factorization(**settings).fit(X, y, sample_weight=weight)
    for name, block in expected.params_.items():
        assert_allclose(model.params_[name], block, rtol=1e-9)


def test_a_lazy_fit_is_the_loop_written_out():
    """Adam by rows in an estimator: what `update` does on the batches one after the other."""
    X, y = ratings()
    model = factorization(optimizer=Adam(0.05), shuffle=False, max_iter=3).fit(X, y)
    theta = {
        name: block.copy() for name, block in factorization(max_iter=1, optimizer=SGD(0.0)).fit(X, y).params_.items()
    }
    optimizer = Adam(0.05)
    state = optimizer.init(theta)
    for _ in range(3):
        for first in range(0, len(X), 10):
            part = slice(first, first + 10)
            prediction, pullback = vjp(theta, X[part])
            optimizer.update(state, theta, pullback((prediction - y[part]) / len(y[part])))
    for name, block in theta.items():
        assert_allclose(model.params_[name], block, rtol=1e-12)
    dense_fit = factorization(optimizer=Adam(0.05), shuffle=False, max_iter=3, vjp=dense_vjp).fit(X, y)
    assert not np.allclose(dense_fit.params_["users"], model.params_["users"], rtol=1e-3)


def test_a_fit_goes_on_after_a_pickle():
    """Bit for bit: the slots of all rows are in the state."""
    X, y = ratings()
    whole = factorization(optimizer=Adam(0.05), max_iter=6).fit(X, y)
    half = factorization(optimizer=Adam(0.05), max_iter=3, warm_start=True).fit(X, y)
    again = pickle.loads(pickle.dumps(half)).fit(X, y)
    for name, block in whole.params_.items():
        assert_array_equal(again.params_[name], block)


def wrong_vjp(params, X):
    prediction, pullback = vjp(params, X)

    def wrong(d):
        grads = pullback(d)
        return {**grads, "items": (grads["items"][0], -grads["items"][1])}

    return prediction, wrong


def test_the_gradient_check_sees_all_rows():
    """A right gradient by rows is right; a wrong one is found, and its fault named."""
    X, y = ratings()
    assert check_gradient(factorization(), X, y, random_state=0).ok
    with pytest.raises(GradientCheckError) as raised:
        factorization(vjp=wrong_vjp).fit(X, y)
    assert [(f.block, f.cause) for f in raised.value.report.findings if f.verdict == "wrong"] == [("items", "sign")]


def test_values_that_are_not_finite_are_never_applied():
    """The error names the block; the parameters are those before the step."""
    X, y = ratings()

    def breaking(params, X):
        prediction, pullback = vjp(params, X)

        def broken(d):
            rows, values = pullback(d)["users"]
            values[3, 1] = np.inf
            return {**pullback(d), "users": (rows, values)}

        return prediction, broken

    model = factorization(vjp=breaking, check_gradient=False, optimizer=SGD(0.05))
    with pytest.raises(DivergenceError, match=r"gradient is not finite in epoch 0, batch 0 .*'users' \(1 entries\)"):
        model.fit(X, y)
    start = factorization(optimizer=SGD(0.0), max_iter=1).fit(X, y)
    assert_array_equal(model.params_["users"], start.params_["users"])
