"""Blocks that share memory: refused by both names, wherever θ comes from; what only looks like it passes."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.testing import assert_array_equal

from sk_analytic import AnalyticRegressor, load_params, save_params
from sk_analytic.exceptions import ParameterStructureError
from sk_analytic.optimizers import SGD, Adam
from sk_analytic.parameters import Layout
from sk_analytic.shared_memory import shared_by

X = np.random.default_rng(0).normal(size=(40, 3))
Y = X @ [1.0, -2.0, 0.5]


def matrix():
    return np.arange(1.0, 10.0).reshape(3, 3)


def tied(pick):
    """Two arrays on one matrix."""
    whole = matrix()
    return pick(whole)


TIED = {
    "the same array twice": lambda W: (W, W),
    "two views of all of it": lambda W: (W[:], W.reshape(-1)),
    "a transpose": lambda W: (W, W.T),
    "reversed": lambda W: (W[::-1], W),
    "overlapping rows": lambda W: (W[:2], W[1:]),
    "overlapping columns": lambda W: (W[:, :2], W[:, 1:]),
    "one entry": lambda W: (W[0], W[:, 0]),
    "a row of it": lambda W: (W, W[1]),
    "strided": lambda W: (W.reshape(-1)[::2], W.reshape(-1)[::4]),
    "halves of an entry": lambda W: (W.view(np.float32).reshape(-1)[::2], W.view(np.float32).reshape(-1)[:3]),
}
APART = {
    "split": lambda W: np.split(W.reshape(-1), 3),
    "rows": tuple,
    "columns": lambda W: tuple(W.T),
    "a checkerboard": lambda W: (W[::2, ::2], W[1::2, 1::2]),
    "odd and even": lambda W: (W.reshape(-1)[::2], W.reshape(-1)[1::2]),
    "reversed halves": lambda W: (W.reshape(-1)[:4][::-1], W.reshape(-1)[:3:-1]),
    "a copy": lambda W: (W, W.copy(), W.T.copy()),
    "nothing in it": lambda W: (W, W[:0], W[3:], W[:, :0]),
}
EACH_TIED = pytest.mark.parametrize("pick", TIED.values(), ids=TIED)
EACH_APART = pytest.mark.parametrize("pick", APART.values(), ids=APART)


@EACH_TIED
def test_two_leaves_in_one_memory_are_found(pick):
    """As NumPy's exact answer for the pair is; alone, or among others."""
    pair = tied(pick)
    assert np.shares_memory(*pair)
    assert shared_by(pair) == (0, 1)
    assert shared_by([np.ones(2), 1.0, pair[0], np.ones((2, 2)), pair[1], None]) == (2, 4)


@EACH_APART
def test_leaves_that_have_no_entry_in_common_pass(pick):
    """Also if they are parts of one array, and interleaved in it."""
    assert shared_by(tied(pick)) is None


def test_what_cannot_be_tied_passes():
    """Numbers, and read-only arrays that repeat one number: nothing could be written there."""
    one, number = np.zeros(()), 0.5
    assert shared_by([number, number, np.float64(1), np.float64(1)]) is None
    assert shared_by([np.broadcast_to(one, 3), np.broadcast_to(one, (2, 2))]) is None
    row = np.ones(3)
    assert shared_by([row, np.broadcast_to(row, (2, 3))]) is None


@pytest.mark.parametrize(
    "array",
    [as_strided(np.zeros(1), (3,), (0,)), sliding_window_view(np.zeros(5), 3, writeable=True)],
    ids=["0", "rolled"],
)
def test_an_array_that_repeats_its_own_entries_is_found(array):
    """It is tied with itself, as long as it can be written to."""
    assert shared_by([np.ones(2), array]) == (1, 1)
    with pytest.raises(ParameterStructureError, match="theta has entries that share memory in parameter '1'"):
        SGD().init([np.ones(2), array])


def test_a_vector_that_repeats_its_own_entries_is_refused():
    """Likewise where θ is one vector."""
    with pytest.raises(ParameterStructureError, match="theta has entries that share memory. Pass a copy"):
        SGD().init(as_strided(np.zeros(1), (3,), (0,)))


@pytest.mark.parametrize("n", [2000])
def test_the_time_is_that_of_sorting(n):
    """Thousands of blocks, side by side or interleaved, are no thousands squared: the columns of a matrix, at last."""
    columns = np.zeros((3, n)).T
    assert shared_by(list(np.zeros((n, 3)))) is None
    assert shared_by(list(columns)) is None
    assert shared_by([*columns, columns[n // 2]]) == (n // 2, n)


# ---- in an optimizer ----


@EACH_TIED
def test_init_of_an_optimizer_names_both_blocks(pick):
    """The message says what to do, copy or tie in the model."""
    a, b = tied(pick)
    with pytest.raises(
        ParameterStructureError, match="theta has parameters 'a' and 'x.b' that share memory. Copy one of them. To tie"
    ):
        Adam().init({"a": a, "x": {"b": b}})


@EACH_TIED
def test_an_update_finds_leaves_that_were_tied_later(pick):
    """Nothing is written: neither the leaves nor the state."""
    a, b = tied(pick)
    theta = {"a": a.copy(), "b": b.copy()}
    state = Adam().init(theta)
    gradient = {"a": np.ones_like(a), "b": np.ones_like(b)}
    Adam().update(state, theta, gradient)
    theta |= {"a": a, "b": b}
    before, slots = a.copy(), state.links[0].slots["mean"].copy()
    with pytest.raises(ParameterStructureError, match="theta has parameters 'a' and 'b' that share memory"):
        Adam().update(state, theta, gradient)
    assert_array_equal(a, before)
    assert_array_equal(state.links[0].slots["mean"], slots)
    assert state.step == 1


@EACH_APART
def test_parts_of_one_array_are_trained_each_by_its_gradient(pick):
    """What has no entry in common steps as copies would."""
    leaves = [leaf for leaf in tied(pick) if leaf.size]
    copies = [leaf.copy() for leaf in leaves]
    gradient = [np.full_like(leaf, 1.0 + index) for index, leaf in enumerate(leaves)]
    for theta in (leaves, copies):
        optimizer = Adam(0.1)
        state = optimizer.init(theta)
        for _ in range(3):
            optimizer.update(state, theta, gradient)
    for leaf, copied in zip(leaves, copies, strict=True):
        assert_array_equal(leaf, copied)


@pytest.mark.parametrize(
    "look", [lambda theta: theta, lambda theta: theta[::-1], lambda theta: theta[:]], ids=["θ", "turned", "view"]
)
@pytest.mark.parametrize("n", [5, 40_000])
def test_a_gradient_in_the_memory_of_theta_is_read_as_it_was(look, n):
    """x is the gradient of x²/2: a step of which a part is written does not change the rest of it."""
    theta = np.linspace(1, 2, n)
    expected, optimizer = theta.copy(), Adam(0.1)
    state, other = optimizer.init(theta), optimizer.init(expected)
    for _ in range(4):
        optimizer.update(state, theta, look(theta))
        optimizer.update(other, expected, look(expected).copy())
    assert_array_equal(theta, expected)


# ---- in an estimator ----


def forward(params, X):
    return X @ params["a"] + X @ params["b"]


def gradient(params, X, y):
    slope = X.T @ (forward(params, X) - y) / len(X)
    return {"a": slope, "b": slope.copy()}


@pytest.mark.parametrize("make", [lambda start: start, lambda start: lambda: start], ids=["structure", "function"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_init_of_an_estimator_names_both_blocks(make, optimizer):
    """It lays each block out for itself, so that the tie would be lost in silence."""
    w = np.zeros(3)
    model = AnalyticRegressor(forward, gradient, make({"a": w, "b": w}), optimizer=optimizer)
    with pytest.raises(
        ParameterStructureError, match="init has parameters 'a' and 'b' that share memory. Copy one of them"
    ):
        model.fit(X, Y)


def test_params_set_by_hand_predict_but_do_not_train_if_they_are_tied():
    """A prediction reads them; training would part them."""
    model = AnalyticRegressor(forward, gradient, {"a": np.zeros(3), "b": np.zeros(3)}, random_state=0)
    model.partial_fit(X, Y)
    w = np.array([0.5, -1.0, 0.25])
    model.params_ = {"a": w, "b": w}
    np.testing.assert_allclose(model.predict(X), Y)
    with pytest.raises(ParameterStructureError, match="params_ has parameters 'a' and 'b' that share memory"):
        model.partial_fit(X, Y)
    model.params_ = {"a": w, "b": w.copy()}
    model.partial_fit(X, Y)


def test_files_hold_blocks_that_are_apart(tmp_path):
    """One rule wherever parameters are read."""
    w = np.ones(2)
    with pytest.raises(ParameterStructureError, match="params has parameters 'a' and 'b' that share memory"):
        save_params(tmp_path / "p.npz", {"a": w, "b": w})
    save_params(tmp_path / "p.npz", {"a": w, "b": w.copy()})
    with pytest.raises(ParameterStructureError, match="params has parameters 'a' and 'b' that share memory"):
        load_params(tmp_path / "p.npz", like={"a": w, "b": w})


class Foreign:
    """An array of another library that can be read only, such as those of jax."""

    def __init__(self, array):
        self.array = array.view()
        self.array.flags.writeable = False
        self.shape, self.dtype = array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_arrays_that_never_change_are_values():
    """The same immutable array of another library in two blocks is two starts."""
    zeros = Foreign(np.zeros(3))
    assert Layout.of({"a": zeros, "b": zeros}).size == 6
