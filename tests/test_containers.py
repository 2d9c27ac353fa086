"""What a callable is handed is only to be read: dicts, lists, the arrays of model_params."""

import copy
import pickle
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import coo_array, csr_array

from sk_analytic import AnalyticDensity, AnalyticRegressor, check_gradient
from sk_analytic.exceptions import ParameterStructureError
from sk_analytic.model.callables import Receiver
from sk_analytic.model.containers import MOST_COMPARED, Watch, shown

# A few steps are enough here.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(40, 3))
Y = X @ [1.0, -2.0, 0.5] + 1.0


def start():
    return {"w": np.ones(3), "b": 0.5}


def forward(params, X):
    return X @ params["w"] + params["b"]


def pull(X, d):
    return {"w": X.T @ d, "b": d.sum()}


def gradient(params, X, y):
    return pull(X, (forward(params, X) - y) / len(X))


def replaces(params):
    params["w"] = params["w"] / 2


def makes_a_number(params):
    params["b"] = float(params["b"])


def adds(params):
    params["cache"] = 1.0


def removes(params):
    params.pop("b")


def renames(params):
    params["v"] = params.pop("w")


def updates(params):
    params |= {"b": np.zeros(())}


WRITES = {
    replaces: "'w' was replaced",
    makes_a_number: "'b' was replaced",
    adds: "'cache' was added",
    removes: "'b' was removed",
    renames: "'w' was removed",
    updates: "'b' was replaced",
}
EACH_WRITE = pytest.mark.parametrize(("write", "what"), WRITES.items(), ids=[write.__name__ for write in WRITES])


def wrong(role, write):
    """The callables of an estimator, of which one writes to its parameters after it has read them."""

    def after(value, params):
        write(params)
        return value

    def in_forward(params, X):
        return after(forward(params, X), params)

    def in_gradient(params, X, y):
        return after(gradient(params, X, y), params)

    def loss(params, X, y):
        return after(0.5 * np.mean((forward(params, X) - y) ** 2), params)

    def loss_and_gradient(params, X, y):
        return after((0.5 * np.mean((forward(params, X) - y) ** 2), gradient(params, X, y)), params)

    def vjp(params, X):
        return after((forward(params, X), lambda d: pull(X, d)), params)

    def pullback(params, X):
        return forward(params, X), lambda d: after(pull(X, d), params)

    def jacobian(params, X):
        return after({"w": X, "b": np.ones(len(X))}, params)

    return {
        "forward": {"forward": in_forward, "gradient": gradient},
        "gradient": {"forward": forward, "gradient": in_gradient, "loss": None},
        "loss": {"forward": forward, "gradient": gradient, "loss": loss},
        "loss_and_gradient": {"forward": forward, "loss_and_gradient": loss_and_gradient},
        "vjp": {"vjp": vjp},
        "pullback": {"vjp": pullback},
        "jacobian": {"forward": forward, "jacobian": jacobian},
    }[role]


ROLES = ["forward", "gradient", "loss", "loss_and_gradient", "vjp", "pullback", "jacobian"]


@EACH_WRITE
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("settings", [{}, {"check_gradient": False}, {"optimizer": "lbfgs"}], ids=str)
def test_a_callable_that_writes_to_its_parameters_is_named(write, what, role, settings):
    """In its first call, with the container, the change and the cure; nothing is trained with it."""
    if role == "gradient" and "optimizer" in settings:
        pytest.skip("needs a loss")
    model = AnalyticRegressor(init=start(), max_iter=2, random_state=0, **wrong(role, write) | settings)
    who = (
        "The pullback returned by vjp" if role == "pullback" else f"The callable given as {role}( in place of forward)?"
    )
    message = rf"{who} wrote to the dict params: {what}\. .* Change a copy, dict\(params\), .* It is .*\(.*, line \d+\)"
    with pytest.raises(ParameterStructureError, match=message):
        model.fit(X, Y)
    if hasattr(model, "params_") and role != "loss":  # which is called after the first epoch
        assert_array_equal(model.params_["w"], 1.0)


def test_partial_fit_prediction_and_the_check_look_too():
    """Wherever a callable is called."""
    model = AnalyticRegressor(init=start(), check_gradient=False, **wrong("gradient", replaces))
    with pytest.raises(ParameterStructureError, match="given as gradient wrote to the dict params"):
        model.partial_fit(X, Y)
    fitted = AnalyticRegressor(forward, gradient, start(), max_iter=2).fit(X, Y)
    receiver = fitted._training.objective.model.forward
    receiver.function = wrong("forward", replaces)["forward"]
    receiver._prepare()
    with pytest.raises(ParameterStructureError, match="given as forward wrote to the dict params"):
        fitted.predict(X)
    with pytest.raises(ParameterStructureError, match="given as loss wrote to the dict params"):
        check_gradient(X=X, y=Y, params=start(), loss=wrong("loss", adds)["loss"], gradient=gradient)


class Pair(NamedTuple):
    first: object
    second: object


NESTED = {
    "a list": ([np.ones(3), np.zeros(())], lambda p: p.__setitem__(0, p[0] * 2), r"list params: 0 was replaced"),
    "a longer list": ([np.ones(3), np.zeros(())], lambda p: p.append(1.0), r"list params: 2 was added"),
    "turned round": ([np.ones(3), np.zeros(3)], list.reverse, r"list params: 0 was replaced"),
    "in a dict": ({"x": {"w": np.ones(3)}}, lambda p: p["x"].clear(), r"dict params\['x'\]: 'w' was removed"),
    "in a tuple": (([np.ones(3)],), lambda p: p[0].pop(), r"list params\[0\]: 0 was removed"),
    "in a named tuple": (
        Pair({"w": np.ones(3)}, 0.0),
        lambda p: p.first.update(w=p.first["w"] + 1),
        r"dict params\[0\]: 'w' was replaced",
    ),
    "another order": (
        {"a": np.ones(3), "b": np.ones(3)},
        lambda p: p.update(a=p.pop("a")),
        r"dict params: its order was changed",
    ),
}


@pytest.mark.parametrize(("structure", "write", "message"), NESTED.values(), ids=NESTED)
def test_containers_within_containers_are_looked_at(structure, write, message):
    """Dicts and lists at any depth; the message says how the one is reached."""

    def function(params, X):
        write(params)

    with pytest.raises(ParameterStructureError, match=f"wrote to the {message}"):
        AnalyticDensity(gradient=function, loss=None, forward=lambda params, X: X[:, 0], init=structure).fit(X)


def test_the_usual_ways_to_use_a_dict_still_work():
    """It is a plain dict: copies, unions, unpacking, isinstance, pickling, and gradients of its kind."""

    def usual(params, X, y):
        assert type(params) is dict
        own = {**params}
        own["w"] = own["w"] * 1.0
        another = params | {"b": params["b"] + 0.0}
        copied = copy.deepcopy(params)
        copied["w"] *= 1.0
        assert pickle.loads(pickle.dumps(params)).keys() == params.keys()
        return gradient(own | {"b": another["b"]}, X, y)

    model = AnalyticRegressor(forward, usual, start(), max_iter=3, random_state=0).fit(X, Y)
    expected = AnalyticRegressor(forward, gradient, start(), max_iter=3, random_state=0).fit(X, Y)
    assert_array_equal(model.params_["w"], expected.params_["w"])


# ---- model_params ----


class Table:
    """An object of the user's own."""

    value = 1.0


GIVEN = {
    "array": np.ones(3),
    "csr": csr_array(np.eye(3)),
    "dict": {"a": np.ones(3), "n": 2},
    "list": [np.ones(3), [np.zeros(2)]],
    "tuple": (np.ones(3), {"x": np.ones(2)}),
    "pair": Pair(np.ones(2), [1, 2]),
}


@pytest.mark.parametrize("name", GIVEN)
def test_arrays_of_model_params_are_read_only_at_any_depth(name):
    """In dicts, lists, tuples; the user's own stay writable, and are not copied."""

    def arrays(node):
        if isinstance(node, np.ndarray):
            return [node]
        if isinstance(node, csr_array):
            return [node.data, node.indices]
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else []
        return [array for child in children for array in arrays(child)]

    handed = shown(GIVEN[name])
    assert type(handed) is type(GIVEN[name])
    pairs = list(zip(arrays(handed), arrays(GIVEN[name]), strict=True))
    assert pairs
    for ours, theirs in pairs:
        assert np.shares_memory(ours, theirs)
        assert theirs.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            ours[...] = 0


def test_other_objects_in_model_params_are_handed_out_as_they_are():
    """An object of one's own may remember something; a matrix in another sparse format is a copy."""
    table, matrix = Table(), coo_array(np.eye(2))
    assert shown(table) is table
    assert not np.shares_memory(shown(matrix).data, matrix.data)


@pytest.mark.parametrize(
    ("given", "write", "message"),
    [
        ([1, 2], lambda t: t.append(3), r"list model_params\['t'\]: 2 was added"),
        ({"n": 2}, lambda t: t.update(n=3), r"dict model_params\['t'\]: 'n' was replaced"),
        ({"n": [np.ones(2)]}, lambda t: t["n"].clear(), r"list model_params\['t'\]\['n'\]: 0 was removed"),
    ],
)
def test_a_callable_that_writes_to_model_params_is_named(given, write, message):
    """The user's own is as it was."""

    def writing(params, X, t):
        write(t)
        return forward(params, X)

    before = copy.deepcopy(given)
    with pytest.raises(ParameterStructureError, match=f"given as forward wrote to the {message}"):
        AnalyticRegressor(writing, gradient, start(), model_params={"t": given}).fit(X, Y)
    assert str(given) == str(before)


def test_init_is_looked_at_too():
    """It receives model_params as the others do."""

    def init(sizes):
        sizes.append(1)
        return start()

    sizes = [3]
    with pytest.raises(ParameterStructureError, match=r"given as init wrote to the list model_params\['sizes'\]"):
        AnalyticRegressor(forward, gradient, init, model_params={"sizes": sizes}).fit(X, Y)
    assert sizes == [3]


def test_a_long_container_in_model_params_is_copied_and_not_compared():
    """A vocabulary costs nothing in each step; writing to it does not reach the user's."""
    words = {f"word {i}": i for i in range(MOST_COMPARED + 1)}
    handed = shown(words)
    watch = Watch({"words": handed})
    assert watch.held == []
    handed.clear()
    assert len(words) == MOST_COMPARED + 1


def test_arrays_are_read_only_after_pickling():
    """Pickles do not keep that of an array; a file holds what the user gave once."""
    table = np.arange(10_000.0)
    receiver = Receiver("forward", forward_with_table, (), {"table": table})
    size = len(pickle.dumps((receiver, table)))
    assert size < 1.5 * table.nbytes
    loaded = pickle.loads(pickle.dumps(receiver))
    assert not loaded._fixed["table"].flags.writeable


def forward_with_table(params, X, table):
    return X @ params["w"]


# ---- what is returned ----


def test_a_prediction_is_the_callers_own():
    """`forward` may return a column of X, a parameter or a buffer of its own: what `predict` gives is a copy."""
    buffer = np.empty(len(X))

    def column(params, X):
        return X[:, 0]

    def reused(params, X):
        buffer[:] = X @ params["w"]
        return buffer

    for function in (column, reused):
        model = AnalyticRegressor(
            function, lambda params, X, y: None, {"w": np.ones(3)}, loss=None, check_gradient=False
        )
        model.set_params(gradient=lambda params, X, y: {"w": np.zeros(3)}, max_iter=1)
        model.fit(X, Y)
        first = model.predict(X)
        kept = first.copy()
        assert first.flags.writeable
        assert not np.shares_memory(first, X)
        model.predict(X + 1)
        assert_array_equal(first, kept)


def test_nobody_keeps_the_parameters_of_a_prediction():
    """The copy that a prediction reads is let go of."""
    model = AnalyticRegressor(forward, gradient, start(), max_iter=2).fit(X, Y)
    receiver = model._training.objective.model.forward
    assert receiver.watch.seen is receiver.watch
    model.predict(X)
    assert receiver.watch.seen is receiver.watch
