"""One look at a gradient, however it comes: to a vector, a structure, a step function, or an estimator."""

import copy
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array

from sk_analytic import AnalyticRegressor
from sk_analytic.exceptions import ParameterStructureError
from sk_analytic.optimizers import (
    LARS,
    SGD,
    Adam,
    Chain,
    ClipBlockNorm,
    ClipNorm,
    DivideByNorm,
    DoG,
    NovoGrad,
    TrustRatio,
    use_engine,
)
from sk_analytic.optimizers.engine import numba_kernel
from sk_analytic.optimizers.engine.numpy_kernel import norm_of
from sk_analytic.parameters import Layout
from sk_analytic.sparse_gradients import SparseGradient

needs_numba = pytest.mark.skipif(not numba_kernel.is_installed(), reason="needs numba")
ENGINES = pytest.mark.parametrize("engine", ["numpy", pytest.param("numba", marks=needs_numba)])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])

REFUSED = {
    "int8": (np.full(4, 100, np.int8), "dtype int8.*; real floats are needed. Was it rounded"),
    "uint16": (np.ones(4, np.uint16), "dtype uint16.*; real floats"),
    "int64": (np.arange(4), "dtype int64.*; real floats"),
    "bool": (np.ones(4, bool), "dtype bool.*; real floats"),
    "complex": (np.ones(4, complex), "dtype complex128.*; real floats .* Take the real part"),
    "objects": (np.array([1.0, 2.0, None, 3.0]), "dtype object.*; real floats"),
    "floats as objects": (np.ones(4).astype(object), "dtype object.*; real floats"),
    "text": (np.array(list("abcd")), "dtype <U1.*; real floats"),
    "dates": (np.zeros(4, "M8[s]"), "dtype datetime64.*; real floats"),
    "too long": (np.ones(5), r"shape \(5,\).*; expected \(4,\)"),
    "a column": (np.ones((4, 1)), r"shape \(4, 1\).*; expected \(4,\)"),
    "a number": (1.0, r"shape \(\).*; expected \(4,\)"),
    "a dict": ({"W": np.ones(4)}, "a dict.*; a float array or a float is needed"),
    "a set": ({1.0, 2.0}, "a set.*; a float array or a float is needed"),
}
EACH_REFUSED = pytest.mark.parametrize(("bad", "message"), REFUSED.values(), ids=REFUSED)
GOOD = np.array([0.5, -1.0, 0.25, 2.0])


def as_vector(optimizer, theta):
    state = optimizer.init(theta)
    return state, lambda g: optimizer.update(state, theta, g)


def as_structure(optimizer, theta):
    structure = {"W": theta, "b": np.ones(2, theta.dtype)}
    state = optimizer.init(structure)
    return state, lambda g: optimizer.update(state, structure, {"b": np.zeros(2), "W": g})


def as_array(optimizer, theta):
    """A single array with two axes, whose only leaf is itself."""
    matrix = theta.reshape(2, 2)
    state = optimizer.init(matrix)
    return state, lambda g: optimizer.update(state, matrix, g.reshape(2, 2) if np.size(g) == 4 else g)


def by_step_function(optimizer, theta):
    state = optimizer.init(theta)
    return state, optimizer.step_function(state, theta)


def with_missing(optimizer, theta):
    state = optimizer.init(theta, Layout.of({"a": np.ones(3, theta.dtype), "b": np.ones(1, theta.dtype)}))
    return state, lambda g: optimizer.update(state, theta, g, missing=(1,))


def with_sparse_grads(optimizer, theta):
    state = optimizer.init(theta, Layout.of({"a": np.ones(3, theta.dtype), "b": np.ones(1, theta.dtype)}))
    rows = SparseGradient(0, slice(0, 3), (3, 1), np.array([1]), np.ones((1, 1), theta.dtype))
    return state, lambda g: optimizer.update(state, theta, g, sparse_grads=(rows,))


WAYS = {f.__name__: f for f in (as_vector, as_structure, as_array, by_step_function, with_missing, with_sparse_grads)}
EACH_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def kept_of(state):
    """All that a state remembers, to be compared."""
    links = [(link.slots, [(now.t, now.memory) for now, _ in link.records]) for link in state.links]
    return copy.deepcopy((state.step, links))


def assert_kept(state, before):
    step, links = kept_of(state)
    assert step == before[0]
    for (slots, records), (slots_before, records_before) in zip(links, before[1], strict=True):
        assert records == records_before
        for name, slot in slots.items():
            assert_array_equal(slot, slots_before[name])


@EACH_REFUSED
@EACH_WAY
@ENGINES
def test_what_is_no_gradient_is_refused_before_anything_is_written(way, engine, bad, message):
    """In the first step and in a later one, which runs as one function: θ and the state are as they were."""
    if way is as_array and isinstance(bad, np.ndarray) and bad.size == 4 and bad.dtype == float:
        pytest.skip("has the right shape there")
    theta, optimizer = np.ones(4), Chain([ClipNorm(10.0), Adam(0.1)])
    with use_engine(engine):
        state, update = way(optimizer, theta)
    for _ in range(3):
        before, values = kept_of(state), theta.copy()
        with pytest.raises(
            ParameterStructureError, match="^gradient has .*" if way is as_array else f"^gradient has {message}"
        ):
            update(bad)
        assert_kept(state, before)
        assert_array_equal(theta, values)
        update(GOOD)


@pytest.mark.parametrize("bad", [None, [1.0, None, 2.0, 3.0], [[1.0], [1.0, 2.0]]], ids=["None", "a hole", "ragged"])
def test_a_vector_says_what_is_wrong_in_our_words(bad):
    """Lists of numbers are gradients of a vector; NumPy's own errors do not come through."""
    theta = np.ones(4)
    _, update = as_vector(Adam(0.1), theta)
    with pytest.raises(ParameterStructureError, match="^gradient has (None|a list)"):
        update(bad)
    assert_array_equal(theta, 1.0)


@EACH_WAY
@ENGINES
@DTYPES
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble, ">f8"], ids=str)
def test_a_gradient_of_any_precision_is_cast_before_the_rule_runs(way, engine, dtype, kind):
    """Half precision would overflow in the square of 500; the step is that of θ's own precision."""
    paths = []
    for cast in (lambda g: g.astype(kind), lambda g: g.astype(dtype)):
        theta, optimizer = np.ones(4, dtype), Chain([ClipNorm(10.0), Adam(0.1)])
        with use_engine(engine):
            _, update = way(optimizer, theta)
        for _ in range(4):
            update(cast(500 * GOOD))
        paths.append(theta)
    assert_array_equal(*paths)


@pytest.mark.parametrize(
    ("rows", "values", "message"),
    [
        ([0], np.ones((1, 1), np.int8), "dtype int8"),
        ([0], np.ones((1, 1), complex), "dtype complex128"),
        ([0], np.ones((1, 1)).astype(object), "dtype object"),
        ([0], np.ones((2, 1)), r"shape \(2, 1\)"),
        ([3], np.ones((1, 1)), "row 3 of parameter 'a', which has rows 0 to 2"),
        ([-1], np.ones((1, 1)), "row -1 of parameter 'a'"),
    ],
)
def test_sparse_grads_are_looked_at_too(rows, values, message):
    """What `update` gets as a sparse gradient of a vector is what it would read itself."""
    theta, optimizer = np.ones(4), Adam(0.1)
    state = optimizer.init(theta, Layout.of({"a": np.ones(3), "b": np.ones(1)}))
    given = SparseGradient(0, slice(0, 3), (3, 1), np.array(rows), values)
    with pytest.raises(ParameterStructureError, match=message):
        optimizer.update(state, theta, np.zeros(4), sparse_grads=(given,))
    assert_array_equal(theta, 1.0)
    assert state.step == 0
    assert not state.links[0].slots["mean"].any()
    half = given._replace(rows=np.array([2]), values=np.ones((1, 1), np.float16))
    optimizer.update(state, theta, np.zeros(4), sparse_grads=(half,))
    assert_allclose(theta[:3], [1.0, 1.0, 0.9])


def test_a_block_that_does_not_exist_cannot_be_missing():
    """Before anything has changed."""
    theta, optimizer = np.ones(4), SGD(0.1)
    state = optimizer.init(theta, Layout.of({"a": np.ones(3), "b": np.ones(1)}))
    with pytest.raises(ParameterStructureError, match="missing has parameter 5; theta has parameters 0 to 1"):
        optimizer.update(state, theta, np.ones(4), missing=(5,))
    assert state.step == 0


@pytest.mark.parametrize(
    ("form", "attribute", "where", "value"),
    [
        ("csr", "indices", 0, 7),
        ("csr", "indptr", 1, 50),
        ("csc", "indices", 0, 2),
        ("csc", "indptr", -1, 50),
        ("coo", "row", 0, 2),
        ("coo", "col", 0, -1),
        ("bsr", "indices", 0, 7),
        ("lil", "rows", 0, [0, 1, 7]),
    ],
)
def test_a_sparse_leaf_with_wrong_indices_names_its_block(form, attribute, where, value):
    """scipy does not look at the indices that it is given, and would write outside of its arrays."""
    wrong = csr_array(np.ones((2, 3))).asformat(form)
    getattr(wrong, attribute)[where] = value
    theta = {"E": np.ones((2, 3))}
    with pytest.raises(
        ParameterStructureError, match="gradient is sparse in parameter 'E', with invalid indices: it is a broken"
    ):
        SGD().update(SGD().init(theta), theta, {"E": wrong})


@EACH_REFUSED
@pytest.mark.parametrize("form", ["gradient", "loss_and_gradient", "vjp"])
@pytest.mark.parametrize("init", [np.zeros(4), {"W": np.zeros(4)}], ids=["vector", "structure"])
def test_an_estimator_looks_in_the_same_way(form, init, bad, message):
    """In each form; θ stays where it was."""
    X = np.ones((10, 4))

    def wrong(params):
        return {"W": bad} if isinstance(params, dict) else bad

    def forward(params, X):
        return X @ (params["W"] if isinstance(params, dict) else params)

    forms = {
        "gradient": lambda params, X, y: wrong(params),
        "loss_and_gradient": lambda params, X, y: (1.0, wrong(params)),
        "vjp": lambda params, X: (forward(params, X), lambda d: wrong(params)),
    }
    model = AnalyticRegressor(forward, init=init, check_gradient=False, max_iter=2, **{form: forms[form]})
    with pytest.raises(ParameterStructureError, match=f"^{form} (has|is) "):
        model.fit(X, np.ones(10))


# ---- norms whose squares are too large, or too small ----

LINKS = {
    "clip norm": (lambda: Chain([ClipNorm(1.0), SGD(0.5)]), True),
    "clip block norm": (lambda: Chain([ClipBlockNorm(1.0), SGD(0.5)]), True),
    "divide by norm": (lambda: Chain([DivideByNorm(epsilon=0.0), SGD(0.1)]), False),
    "trust ratio": (lambda: Chain([TrustRatio(0.1), SGD(1.0)]), False),
    "lars": (lambda: LARS(0.5, weight_decay=0.0), False),
    "novograd": (lambda: NovoGrad(0.1, epsilon=0.0), False),
    "dog": (lambda: DoG(initial_distance=0.1, epsilon=0.0), False),
}
SCALES = [
    (np.float32, 1e30),
    (np.float32, 1e38),
    (np.float32, 1e-30),
    (np.float32, 1e-38),
    (np.float64, 1e160),
    (np.float64, 1e300),
    (np.float64, 1e-200),
    (np.float64, 1e-300),
]


@pytest.mark.parametrize(("make", "clips"), LINKS.values(), ids=LINKS)
@pytest.mark.parametrize(("dtype", "scale"), SCALES)
@ENGINES
def test_a_step_by_norm_does_not_depend_on_the_scale_of_the_gradient(make, clips, dtype, scale, engine):
    """What divides by a norm takes the same step at any scale, though squares overflow, or vanish; nobody is warned.

    Clipping does so for a norm above the bound; one below is left alone.
    """
    paths = []
    for factor in (100.0, scale):
        theta, optimizer = np.array([3.0, 1.0, 2.0], dtype), make()
        with use_engine(engine):
            state = optimizer.init(theta)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for sign in (1.0, 1.0, -0.5, 0.25):
                optimizer.update(state, theta, (sign * np.array([2.0, -1.0, 0.5]) * factor).astype(dtype))
        paths.append(theta)
    if clips and scale < 1:
        assert_array_equal(paths[1], np.array([3.0, 1.0, 2.0], dtype))
    else:
        assert np.isfinite(paths[1]).all()
        assert_allclose(paths[1], paths[0], rtol=2e-5 if dtype == np.float32 else 1e-12)


def test_clip_norm_has_the_values_of_its_definition():
    """g c / |g| for entries of 1e30 in float32: 3, 4 and 12 thirteenths."""
    theta, optimizer = np.zeros(3, np.float32), Chain([ClipNorm(1.3), SGD(1.0)])
    optimizer.update(optimizer.init(theta), theta, np.array([3e30, 4e30, -12e30], np.float32))
    assert_allclose(theta, [-0.3, -0.4, 1.2], rtol=1e-6)


@pytest.mark.parametrize("n", [3, 40_000])
@pytest.mark.parametrize("where", ["blocks", "sparse"])
def test_norms_over_pieces_blocks_and_rows_are_one(n, where):
    """Parts of a gradient are put together without squares: 1e30 in float32, over several pieces and blocks."""
    theta = {"a": np.zeros(n, np.float32), "b": np.zeros((n, 1), np.float32)}
    full = {"a": np.full(n, 3e30, np.float32), "b": np.full((n, 1), 4e30, np.float32)}
    if where == "sparse":
        full["b"] = (np.arange(n), full["b"])
    optimizer = Chain([ClipNorm(5.0), SGD(1.0)])
    optimizer.update(optimizer.init(theta), theta, full)
    assert_allclose(theta["a"], -3 / n**0.5, rtol=1e-5)
    assert_allclose(theta["b"], -4 / n**0.5, rtol=1e-5)


@DTYPES
@pytest.mark.parametrize("values", [[], [0.0], [3.0, 4.0], [-np.inf, 1.0], [np.nan, 1.0], [1e-40, 1e-40]], ids=str)
def test_a_norm_is_that_of_double_precision(values, dtype):
    """Also of nothing, of what is not finite and of denormal numbers."""
    values = np.array(values, dtype)
    assert_allclose(norm_of(values), np.linalg.norm(values.astype(np.float64)), rtol=1e-6)
    assert_allclose(norm_of(np.repeat(values, 2)[::2]), norm_of(values), rtol=0)
