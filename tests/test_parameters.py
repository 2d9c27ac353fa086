"""θ in the user's structure and as one vector: round trips, views, gradients gathered, and what is refused."""

import collections
import copy
import pickle
import re
import types
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sk_analytic.exceptions import ParameterStructureError
from sk_analytic.parameters import Layout, Parameters


class Dense(NamedTuple):
    W: object
    b: object


class Single(NamedTuple):
    W: object


def arange(*shape):
    return np.arange(1.0, 1 + np.prod(shape)).reshape(shape)


# Structures, and the names of their blocks.
STRUCTURES = {
    "dict": ({"W": arange(2, 3), "b": arange(3)}, ["W", "b"]),
    "dict whose keys are in no order": ({"b": arange(3), "a": arange(2), "W": arange(2, 2)}, ["b", "a", "W"]),
    "dict of floats": ({"height": 1.5, "rate": -2.0}, ["height", "rate"]),
    "dict with a float": ({"coef": arange(4), "intercept": 0.5}, ["coef", "intercept"]),
    "dict with numpy scalars": ({"a": np.float64(2.5), "b": np.array(3.5)}, ["a", "b"]),
    "dict with keys that are numbers": ({0: arange(2), 1: 0.5}, ["0", "1"]),
    "ordered dict": (collections.OrderedDict(b=arange(2), a=arange(3)), ["b", "a"]),
    "read-only mapping": (types.MappingProxyType({"b": arange(2), "a": 1.0}), ["b", "a"]),
    "dict with an empty block": ({"W": arange(2), "nothing": np.empty((0, 3))}, ["W", "nothing"]),
    "tuple": ((arange(2), arange(3), arange(2, 3), arange(3, 2)), ["0", "1", "2", "3"]),
    "tuple of one": ((arange(2),), ["0"]),
    "tuple of a tuple of one": (((arange(2),),), ["0.0"]),
    "list": ([arange(2, 2), 1.0], ["0", "1"]),
    "list of one": ([arange(2)], ["0"]),
    "named tuple": (Dense(arange(2, 3), arange(3)), ["W", "b"]),
    "named tuple of one": (Single(arange(2, 3)), ["W"]),
    "nested": (
        {"layers": [Dense(arange(2, 2), 0.0), Dense(arange(2), arange(1))], "scale": (1.0, {"x": arange(2)})},
        ["layers.0.W", "layers.0.b", "layers.1.W", "layers.1.b", "scale.0", "scale.1.x"],
    ),
    "nested, with empty branches": ({"a": {}, "b": [arange(2), ()]}, ["b.0"]),
    "array": (arange(2, 3), ["params"]),
    "vector": (arange(4), ["params"]),
    "float": (0.5, ["params"]),
    "array without axes": (np.array(0.5), ["params"]),
}
EACH = pytest.mark.parametrize(("structure", "names"), STRUCTURES.values(), ids=STRUCTURES)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def leaves_of(structure):
    """The leaves, by a walk of the test's own."""
    if isinstance(structure, collections.abc.Mapping):
        structure = list(structure.values())
    if isinstance(structure, tuple | list):
        return [leaf for branch in structure for leaf in leaves_of(branch)]
    return [structure]


def shape_of(structure):
    """The structure with the types of its containers, and the shapes of its leaves."""
    if isinstance(structure, collections.abc.Mapping):
        return {key: shape_of(branch) for key, branch in structure.items()}
    if isinstance(structure, tuple | list):
        return type(structure), [shape_of(branch) for branch in structure]
    return np.shape(structure)


def mapped(function, structure):
    """The structure with a function of each leaf in its place."""
    if isinstance(structure, collections.abc.Mapping):
        return {key: mapped(function, branch) for key, branch in structure.items()}
    if isinstance(structure, tuple | list):
        branches = [mapped(function, branch) for branch in structure]
        return type(structure)(*branches) if hasattr(structure, "_fields") else type(structure)(branches)
    return function(structure)


def concatenated(structure):
    return np.concatenate([np.ravel(leaf) for leaf in leaves_of(structure)])


def as_gradient(structure):
    """A gradient for a structure: floats everywhere."""
    return mapped(lambda leaf: np.asarray(10.0 * leaf), structure)


# ---- there and back ----


@EACH
def test_blocks_are_named_by_keys_and_positions(structure, names):
    """Dict keys, fields of named tuples and positions, joined by dots; one array is called params."""
    assert list(Layout.of(structure).names) == names


@EACH
@DTYPES
def test_the_vector_holds_the_leaves_in_their_order(structure, names, dtype):
    """`flatten` gives one contiguous vector of the asked dtype: the leaves as they stand, rows first."""
    vector = Layout.of(structure, dtype).flatten(structure)
    assert vector.dtype == dtype
    assert vector.flags.c_contiguous
    assert_array_equal(vector, concatenated(structure))


@EACH
@DTYPES
def test_views_have_the_users_structure(structure, names, dtype):
    """Containers, key order, shapes and values come back as they were, floats as arrays without axes."""
    layout = Layout.of(structure, dtype)
    views = layout.views(layout.flatten(structure))
    assert shape_of(views) == shape_of(structure)
    assert_array_equal(concatenated(views), concatenated(structure))
    assert all(type(leaf) is np.ndarray and leaf.dtype == dtype for leaf in leaves_of(views))


@EACH
def test_views_are_on_the_vector(structure, names):
    """What is written to the vector is seen in every view, at once: nothing was copied."""
    layout = Layout.of(structure)
    vector = layout.flatten(structure)
    views, blocks, published = layout.views(vector), layout.blocks(vector), layout.to_structure(vector)
    vector += 100
    for made in (views, blocks):
        assert_array_equal(concatenated(made), vector)
    for leaf in leaves_of(published):
        assert isinstance(leaf, float) or not leaf.size or np.shares_memory(leaf, vector)


@EACH
def test_views_are_read_only_and_what_is_published_is_not(structure, names):
    """A callable cannot write θ through its views; `params_` belongs to the user."""
    layout = Layout.of(structure)
    vector = layout.flatten(structure)
    for leaf in leaves_of(layout.views(vector)):
        with pytest.raises(ValueError, match="read-only"):
            leaf[...] = 0
    assert vector.flags.writeable
    assert all(leaf.flags.writeable for leaf in leaves_of(layout.views(vector, writeable=True)))
    assert all(isinstance(leaf, float) or leaf.flags.writeable for leaf in leaves_of(layout.to_structure(vector)))


@EACH
@DTYPES
def test_publish_gives_floats_for_floats(structure, names, dtype):
    """Where the user wrote a number stands a Python float, where they wrote an array a view in its shape."""
    layout = Layout.of(structure, dtype)
    published = layout.to_structure(layout.flatten(structure))
    assert shape_of(published) == shape_of(structure)
    for ours, theirs in zip(leaves_of(published), leaves_of(structure), strict=True):
        assert type(ours) is (np.ndarray if isinstance(theirs, np.ndarray) else float)
    assert Layout.of(published, dtype) == layout
    assert Layout.of(published, dtype).scalars == layout.scalars


@EACH
def test_fill_and_leaves_undo_each_other(structure, names):
    """`fill` puts a list of anything into the structure; `leaves` lists it again, in block order."""
    layout = Layout.of(structure)
    marks = [f"leaf {i}" for i in range(len(names))]
    assert layout.leaves(layout.unflatten(marks)) == marks


@EACH
def test_the_users_structure_is_not_written(structure, names):
    """Reading a structure leaves it as it was, and keeps no view of it."""
    before = copy.deepcopy(leaves_of(structure))
    layout = Layout.of(structure)
    parameters = Parameters(layout, layout.flatten(structure))
    parameters.vector[...] = -1
    for ours, theirs in zip(before, leaves_of(structure), strict=True):
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("structure", "dtype"),
    [
        ({"a": np.ones(2, np.float32), "b": np.ones(1, np.float32)}, np.float32),
        ({"a": np.ones(2, np.float32), "b": np.ones(1)}, np.float64),
        ({"a": np.ones(2, np.float32), "b": 1.0}, np.float64),
        (np.float32(1), np.float32),
        ({"a": np.ones(2, np.float16)}, np.float64),
        ({"a": 1.0}, np.float64),
    ],
)
def test_dtype_is_single_only_if_every_leaf_is(structure, dtype):
    """Where no dtype is asked for, θ is float32 if all of it is; everything else becomes float64."""
    assert Layout.of(structure).dtype == dtype


def test_arrays_are_read_whatever_their_memory_looks_like():
    """Transposed, strided, read-only, other byte order: the values count, rows first."""
    strided, read_only = np.arange(20.0).reshape(4, 5)[::2, 1::2], arange(3)
    read_only.flags.writeable = False
    structure = {"F": np.asfortranarray(arange(2, 3)), "s": strided, "r": read_only, "big": arange(2).astype(">f8")}
    vector = Layout.of(structure).flatten(structure)
    assert_array_equal(vector, concatenated(structure))
    assert vector.dtype.isnative


@EACH
@DTYPES
def test_pickles_and_copies_see_their_own_vector(structure, names, dtype):
    """After pickling or deepcopy, views are on the new vector; `copy` and `astype` have one of their own too."""
    layout = Layout.of(structure, dtype)
    parameters = Parameters(layout, layout.flatten(structure))
    twins = [
        pickle.loads(pickle.dumps(parameters)),
        copy.deepcopy(parameters),
        parameters.copy(),
        parameters.astype(np.float32),
    ]
    for twin in twins:
        before = parameters.vector.copy()
        assert twin.layout == layout.astype(twin.vector.dtype)
        twin.vector += 1
        assert_array_equal(concatenated(twin.structure), before + 1)
        assert_array_equal(concatenated(parameters.structure), before)
        assert shape_of(twin.structure) == shape_of(structure)


def test_a_shallow_copy_shares_the_vector():
    """`copy.copy` copies no numbers, and its views are on the vector that both have."""
    layout = Layout.of({"W": arange(2)})
    parameters = Parameters(layout, layout.flatten({"W": arange(2)}))
    twin = copy.copy(parameters)
    parameters.vector[...] = 7
    assert twin.vector is parameters.vector
    assert_array_equal(twin.structure["W"], 7)


@EACH
def test_layouts_are_equal_if_all_but_the_values_is(structure, names):
    """Of the same structure with other values, after pickling and copying too."""
    layout = Layout.of(structure)
    others = [Layout.of(mapped(lambda leaf: leaf * 2, structure)), pickle.loads(pickle.dumps(layout))]
    assert all(other == layout for other in [*others, copy.deepcopy(layout), copy.copy(layout)])
    assert layout.astype(np.float32) != layout
    assert layout != "a layout"


def test_layouts_of_different_structures_differ():
    """Kind of container, names, their order and shapes all count."""
    different = [
        {"W": arange(2), "b": arange(3)},
        {"b": arange(3), "W": arange(2)},
        {"W": arange(3), "b": arange(2)},
        Dense(arange(2), arange(3)),
        (arange(2), arange(3)),
        [arange(2), arange(3)],
        arange(5),
    ]
    layouts = [Layout.of(structure) for structure in different]
    assert [[a == b for a in layouts] for b in layouts] == np.eye(len(layouts), dtype=bool).tolist()


# ---- gradients ----


@EACH
@DTYPES
def test_a_gradient_is_gathered_into_the_vector(structure, names, dtype):
    """Into a vector or its blocks, cast to its dtype; the user's leaves are only read."""
    layout = Layout.of(structure, dtype)
    gradient = as_gradient(structure)
    for leaf in leaves_of(gradient):
        leaf.flags.writeable = False
    vector = np.full(layout.size, np.nan, dtype)
    for out in (vector, layout.blocks(vector)):
        vector[...] = np.nan
        assert layout.read_gradient(gradient, out) == ((), ())
        assert_array_equal(vector, 10 * concatenated(structure))


@pytest.mark.parametrize(
    ("structure", "reordered"),
    [
        ({"W": arange(2), "b": arange(2)}, lambda g: dict(reversed(g.items()))),
        ({"W": arange(2), "b": arange(2)}, lambda g: collections.OrderedDict(reversed(g.items()))),
        ({"W": arange(2), "b": arange(2)}, types.MappingProxyType),
        ({"x": {"W": arange(2), "b": arange(2)}}, lambda g: {"x": dict(reversed(g["x"].items()))}),
        ((arange(2), 1.0), list),
        ([arange(2), 1.0], tuple),
        (Dense(arange(2), 1.0), tuple),
    ],
)
def test_order_of_keys_and_kind_of_sequence_do_not_matter(structure, reordered):
    """Dict keys may come in any order, a list may stand for a tuple, and the reverse."""
    layout = Layout.of(structure)
    out = np.empty(layout.size)
    layout.read_gradient(reordered(as_gradient(structure)), out)
    assert_array_equal(out, 10 * concatenated(structure))


class Foreign:
    """An array of another library: read-only memory behind ``__array__``."""

    def __init__(self, array):
        self.array = np.array(array)
        self.array.flags.writeable = False
        self.shape, self.dtype = self.array.shape, "foreign.float32"

    def __repr__(self):
        return f"Foreign({self.array!r})"

    def __array__(self, dtype=None, copy=None):
        return self.array


class Subclass(np.ndarray):
    pass


LEAVES = {
    "Fortran order": np.asfortranarray(arange(2, 3)),
    "a transposed view": arange(3, 2).T,
    "strided": np.arange(24.0).reshape(4, 6)[::2, ::2],
    "reversed": arange(2, 3)[::-1, ::-1],
    "single precision": arange(2, 3).astype(np.float32),
    "half precision": arange(2, 3).astype(np.float16),
    "long doubles": arange(2, 3).astype(np.longdouble),
    "other byte order": arange(2, 3).astype(">f8"),
    "broadcast": np.broadcast_to(np.arange(3.0), (2, 3)),
    "a subclass": arange(2, 3).view(Subclass),
    "an array of another library": Foreign(arange(2, 3)),
    "a buffer": memoryview(arange(2, 3)),
    "not finite": np.array([[np.nan, np.inf, -np.inf], [0, 0, 0]]),
}


@pytest.mark.parametrize("leaf", LEAVES.values(), ids=LEAVES)
@DTYPES
def test_a_leaf_may_be_any_array_of_real_floats(leaf, dtype):
    """Its values are taken, whatever its memory, precision or library; finite or not is the loop's to say."""
    layout = Layout.of({"W": arange(2, 3)}, dtype)
    out = np.empty(6, dtype)
    layout.read_gradient({"W": leaf}, out)
    assert_array_equal(out, np.ravel(np.asarray(leaf).astype(dtype)))


@pytest.mark.parametrize("leaf", [2.5, np.float64(2.5), np.float32(2.5), np.array(2.5), Foreign(2.5)], ids=repr)
def test_the_gradient_of_a_float_may_be_any_number(leaf):
    """A Python float, a NumPy scalar, an array without axes, another library's."""
    layout = Layout.of({"rate": 1.0})
    out = np.empty(1)
    layout.read_gradient({"rate": leaf}, out)
    assert out == [2.5]


@EACH
def test_a_leaf_without_a_gradient_is_named_and_zero(structure, names):
    """Where a leaf is None its part of the vector is 0, and its index is returned."""
    layout = Layout.of(structure)
    for index in range(len(names)):
        leaves = leaves_of(as_gradient(structure))
        leaves[index] = None
        out = np.full(layout.size, np.nan)
        assert layout.read_gradient(layout.unflatten(leaves), out) == ((index,), ())
        assert_array_equal(layout.blocks(out)[index], 0)
        assert np.isfinite(out).all()
    assert layout.read_gradient(layout.unflatten([None] * len(names)), out) == (tuple(range(len(names))), ())
    assert not out.any()


W = {"W": arange(2, 3), "b": arange(3)}
WRONG_STRUCTURES = [
    (
        W,
        {"W": arange(2, 3)},
        "gradient has no parameter 'b'. It has: 'W'. Return None for a parameter that is not trained.",
    ),
    (W, {"W": arange(2, 3), "B": arange(3)}, "gradient has no parameter 'b'. It has: 'W', 'B'."),
    (W, {}, "gradient has no parameter 'b'. It is empty.|gradient has no parameter 'W'. It is empty."),
    (W, W | {"w": 1.0}, "gradient has an unknown parameter 'w'. Did you mean 'W'? The parameters are: 'W'"),
    (W, None, "gradient is None; expected a dict with 'W', 'b'."),
    (W, arange(9), "gradient is an array of shape (9,); expected a dict with 'W', 'b'."),
    (W, (arange(2, 3), arange(3)), "gradient is of type tuple; expected a dict with 'W', 'b'."),
    (W, 1.0, "gradient is of type float; expected a dict"),
    ((1.0, 2.0), (1.0,), "gradient has 1 items; expected 2."),
    ((1.0, 2.0), (1.0, 2.0, 3.0), "gradient has 3 items; expected 2."),
    ((1.0, 2.0), {"0": 1.0, "1": 2.0}, "gradient is of type dict; expected a tuple of 2."),
    ([1.0, 2.0], np.ones(2), "gradient is an array of shape (2,); expected a list of 2."),
    (Dense(1.0, 2.0), (1.0,), "gradient has 1 items; expected 2."),
    ({"x": {"y": [1.0, 2.0]}}, {"x": {"y": [1.0]}}, "gradient at 'x.y' has 1 items; expected 2."),
    ({"x": [{"y": 1.0}]}, {"x": [{}]}, "gradient at 'x.0' has no parameter 'y'. It is empty."),
    ({"x": [{"y": 1.0}]}, {"x": [None]}, "gradient at 'x.0' is None; expected a dict with 'y'."),
    ({"x": (1.0, 2.0)}, {"x": 3.0}, "gradient at 'x' is of type float; expected a tuple of 2."),
    (
        arange(2),
        {"params": arange(2)},
        "gradient has a dict in parameter 'params'; a float array or a float is needed.",
    ),
    (arange(2), [1.0, 2.0], "gradient has a list in parameter 'params'; a float array or a float is needed."),
    (W, {"W": [[1.0] * 3] * 2, "b": arange(3)}, "gradient has a list in parameter 'W'"),
]


@pytest.mark.parametrize(("structure", "gradient", "message"), WRONG_STRUCTURES)
def test_a_gradient_of_another_structure_is_refused(structure, gradient, message):
    """A missing or unknown key, another length or kind: the message names the place and what was expected."""
    layout = Layout.of(structure)
    with pytest.raises(ParameterStructureError, match="|".join(map(re.escape, message.split("|")))):
        layout.read_gradient(gradient, np.empty(layout.size))


WRONG_ARRAYS = {
    "a column": (
        arange(3, 1),
        r"shape \(3, 1\) in parameter 'b'; expected \(3,\). Only axes of length 1 differ: reshape",
    ),
    "a row": (arange(1, 3), r"shape \(1, 3\) in parameter 'b'; expected \(3,\). Only axes of length 1 differ"),
    "too long": (arange(4), r"shape \(4,\) in parameter 'b'; expected \(3,\). A gradient must have the shape of its"),
    "not summed": (arange(50, 3), r"shape \(50, 3\) in parameter 'b'; expected \(3,\). Was the sum over the samples"),
    "summed too far": (np.array(1.0), r"shape \(\) in parameter 'b'; expected \(3,\). Was one axis too many summed"),
    "integers": (np.arange(3), "dtype int.. in parameter 'b'; real floats are needed. Was it rounded"),
    "unsigned": (np.arange(3, dtype=np.uint8), "dtype uint8 in parameter 'b'; real floats are needed. Was it rounded"),
    "bools": (np.ones(3, bool), "dtype bool in parameter 'b'; real floats are needed. Convert it with astype"),
    "complex": (np.ones(3, complex), "dtype complex128 in parameter 'b'; real floats are needed. Take the real part"),
    "text": (np.array(["1", "2", "3"]), "dtype <U1 in parameter 'b'; real floats are needed.$"),
    "dates": (np.zeros(3, "M8[s]"), r"dtype datetime64\[s\] in parameter 'b'; real floats are needed.$"),
}


@pytest.mark.parametrize(("leaf", "message"), WRONG_ARRAYS.values(), ids=WRONG_ARRAYS)
@pytest.mark.parametrize("kind", [np.asarray, Foreign])
def test_an_array_that_is_no_gradient_of_its_block_is_refused(leaf, message, kind):
    """Another shape or dtype: the message names the callable, the block, both shapes, and the likely slip."""
    layout = Layout.of({"W": arange(2, 3), "b": arange(3)})
    with pytest.raises(ParameterStructureError, match="^loss_and_gradient has " + message):
        layout.read_gradient({"W": arange(2, 3), "b": kind(leaf)}, np.empty(9), "loss_and_gradient")


WRONG_LEAVES = {
    "a float": (1.0, r"shape \(\) in parameter 'b'; expected \(3,\)."),
    "a whole number": (1, "dtype int.. in parameter 'b'; real floats are needed."),
    "an object array": (
        np.array([1.0, None, 2.0], object),
        "dtype object in parameter 'b'; .* rows of different lengths",
    ),
    "objects of another library": (Foreign(np.array([1.0, None], object)), "a Foreign in parameter 'b'; a float array"),
    "a string": ("b", "dtype <U1 in parameter 'b'; real floats are needed.$"),
    "a list": ([1.0, 2.0, 3.0], "a list in parameter 'b'; a float array or a float is needed."),
    "a tuple": ((1.0, 2.0, 3.0), "a tuple in parameter 'b'; a float array or a float is needed."),
    "a dict": ({"b": 1.0}, "a dict in parameter 'b'; a float array or a float is needed."),
    "a set": ({1.0, 2.0}, "a set in parameter 'b'; a float array or a float is needed."),
    "a function": (len, "a builtin_function_or_method in parameter 'b'; a float array or a float is needed."),
}


@pytest.mark.parametrize(("leaf", "message"), WRONG_LEAVES.values(), ids=WRONG_LEAVES)
def test_a_leaf_that_is_no_array_of_floats_is_refused(leaf, message):
    """Numbers, containers and objects in the place of an array: the message names the block and what came."""
    layout = Layout.of({"W": arange(2, 3), "b": arange(3)})
    with pytest.raises(ParameterStructureError, match="^gradient has " + message):
        layout.read_gradient({"W": arange(2, 3), "b": leaf}, np.empty(9))


def test_a_transposed_block_is_refused_with_a_hint():
    """(3, 2) for (2, 3) is no gradient, and the message asks whether it is transposed."""
    layout = Layout.of({"W": arange(2, 3)})
    with pytest.raises(ParameterStructureError, match=r"shape \(3, 2\) .* expected \(2, 3\). Is it transposed\?"):
        layout.read_gradient({"W": arange(3, 2)}, np.empty(6))


def test_hints_of_gradients_are_for_gradients():
    """Parameters are not summed over rows, and have no leaf None."""
    layout = Layout.of({"W": arange(2, 3), "b": arange(3)})
    for structure, message in [
        ({"W": arange(2, 3)}, "params_ has no parameter 'b'. It has: 'W'.$"),
        ({"W": arange(2, 3), "b": 1.0}, r"params_ has shape \(\) in parameter 'b'; expected \(3,\).$"),
    ]:
        with pytest.raises(ParameterStructureError, match=message):
            layout.flatten(structure, "params_")


def test_a_column_and_a_vector_are_told_apart_in_both_directions():
    """(n,) is no gradient for (n, 1): nothing is broadcast."""
    layout = Layout.of({"W": arange(3, 1)})
    with pytest.raises(
        ParameterStructureError, match=r"shape \(3,\) in parameter 'W'; expected \(3, 1\). Only axes of"
    ):
        layout.read_gradient({"W": arange(3)}, np.empty(3))


def test_the_gradient_of_a_float_has_no_axes():
    """An array of one number is refused where θ has a float: a forgotten sum would be hidden."""
    layout = Layout.of({"rate": 1.0})
    with pytest.raises(ParameterStructureError, match=r"shape \(1,\) in parameter 'rate'; expected \(\). Only axes of"):
        layout.read_gradient({"rate": np.ones(1)}, np.empty(1))


def test_a_leaf_that_cannot_be_read_is_refused_with_its_reason():
    """What another library raises when asked for an array is in the message, and the cause."""

    class OnAnotherDevice:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("copy it to the CPU first")

    layout = Layout.of({"W": arange(2)})
    message = "gradient has a OnAnotherDevice in parameter 'W' that is not an array: copy it to the CPU first"
    with pytest.raises(ParameterStructureError, match=message) as caught:
        layout.read_gradient({"W": OnAnotherDevice()}, np.empty(2))
    assert isinstance(caught.value.__cause__, RuntimeError)


# ---- starting values ----

WRONG_STARTS = {
    "None": (None, "params has None in parameter 'params'"),
    "a block None": (
        {"W": arange(2), "b": None},
        "params has None in parameter 'b'; a float array or a float is needed",
    ),
    "nested None": ({"x": [1.0, None]}, "params has None in parameter 'x.1'"),
    "a string": ({"W": "uniform"}, "params has dtype <U7 in parameter 'W'; real floats are needed.$"),
    "complex": ({"W": 1j * arange(2)}, "params has dtype complex128 in parameter 'W'; .* Take the real part"),
    "a whole number": (
        {"W": arange(2), "degree": 2},
        "dtype int64 in parameter 'degree'; .* use a float: 0.0, .* model_params",
    ),
    "a zero": (
        {"x": [{"b": 0}]},
        "dtype int64 in parameter 'x.0.b'; real floats are needed. If it is trained, use a float",
    ),
    "an index": (
        np.arange(3),
        "dtype int64 in parameter 'params'; .* a degree or an index, keep it out of the parameters",
    ),
    "small numbers": ({"W": np.ones(2, np.uint8)}, "dtype uint8 in parameter 'W'; .* astype"),
    "a truth value": (
        {"W": arange(2), "bias": True},
        "dtype bool in parameter 'bias'; real floats are needed. If it is",
    ),
    "a mask": ({"mask": np.ones(2, bool)}, "dtype bool in parameter 'mask'; real floats are needed. If it is trained"),
    "ragged": (
        {"W": np.array([[1.0], [1.0, 2.0]], object)},
        "dtype object in parameter 'W'; .* rows of different lengths",
    ),
    "a function": ({"W": np.zeros}, "params has a builtin_function_or_method in parameter 'W'; a float array or"),
    "an object": (object(), "params has a object in parameter 'params'; a float array or a float is needed"),
    "an empty dict": ({}, "contain no numbers; got {}"),
    "an empty tuple": ((), r"contain no numbers; got \(\)"),
    "an empty array": (np.empty(0), "contain no numbers; got array"),
    "empty arrays": ({"W": np.empty((0, 3))}, "contain no numbers"),
    "names that collide": ({1: 0.5, "1": 0.5}, "Two parameters have the same name: 1, 1."),
    "names that collide by a dot": ({"a.b": 0.5, "a": {"b": 0.5}}, "Two parameters .* same name: a.b, a.b."),
}


@pytest.mark.parametrize(("structure", "message"), WRONG_STARTS.values(), ids=WRONG_STARTS)
def test_what_is_no_parameter_structure_is_refused(structure, message):
    """Each leaf is a real number or an array of them, and there is at least one; the message names the block."""
    with pytest.raises(ParameterStructureError, match=message):
        Layout.of(structure)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", ["layers.0.W", "layers.0.b", "scale"])
def test_starting_values_that_are_not_finite_are_refused_by_block(value, block):
    """The message names who gave them and the block."""
    structure = {"layers": [Dense(arange(2, 2), arange(2))], "scale": 1.0}
    layout = Layout.of(structure)
    vector = layout.flatten(structure)
    layout.blocks(vector)[layout.names.index(block)][...] = value
    with pytest.raises(ParameterStructureError, match=f"^init has values that are not finite in parameter '{block}'"):
        layout.flatten(layout.views(vector), "init")


@pytest.mark.parametrize("leaf", [2, True, np.int8(2), np.arange(2), np.ones(2, bool)], ids=repr)
def test_whole_numbers_and_truth_values_never_become_floats(leaf):
    """Neither where a structure begins nor where its values are read later; the message names who, block and cure."""
    good = np.ones(np.shape(leaf))
    layout = Layout.of({"a": 1.0, "b": good})
    for read in (lambda s: Layout.of(s, role="params_"), lambda s: layout.flatten(s, "params_")):
        with pytest.raises(
            ParameterStructureError, match=r"^params_ has dtype \w+ in parameter 'b'; .* astype\(float\)"
        ):
            read({"a": 1.0, "b": leaf})


def test_starting_values_too_large_for_the_dtype_are_refused():
    """1e300 is finite, but not in float32; the message says so, and nothing warns."""
    layout = Layout.of({"W": np.array([1.0, 1e300])}, np.float32)
    with pytest.raises(ParameterStructureError, match=r"not finite in parameter 'W' \(as float32\)"):
        layout.flatten({"W": np.array([1.0, 1e300])})


# ---- Jacobians, names, wrappings ----


def test_stacked_leaves_have_leading_axes():
    """A Jacobian's leaf has the rows (and outputs) before its block's own axes; None stays None."""
    layout = Layout.of({"W": arange(2, 3), "rate": 1.0})
    leaves = layout.stacked({"rate": arange(5), "W": arange(5, 2, 3)}, (5,))
    assert [leaf.shape for leaf in leaves] == [(5, 2, 3), (5,)]
    assert layout.stacked({"rate": None, "W": arange(5, 4, 2, 3)}, (5, 4))[1] is None
    with pytest.raises(ParameterStructureError, match=r"jacobian has shape \(2, 3\) in parameter 'W'; expected \(5,"):
        layout.stacked({"rate": arange(5), "W": arange(2, 3)}, (5,))
    with pytest.raises(ParameterStructureError, match="jacobian has dtype int.. in parameter 'rate'"):
        layout.stacked({"rate": np.arange(5), "W": arange(5, 2, 3)}, (5,))


@pytest.mark.parametrize(
    ("names", "indices"),
    [
        ((), ()),
        ("scale", (4,)),
        (["scale", "layers.1.W"], (2, 4)),
        ("layers", (0, 1, 2, 3)),
        ("layers.1", (2, 3)),
        (("layers.1", "layers.1.b", "layers"), (0, 1, 2, 3)),
        (iter(["scale"]), (4,)),
        ({"scale"}, (4,)),
    ],
)
def test_a_name_or_a_dotted_prefix_finds_its_blocks(names, indices):
    """Indices come in block order and once each, however the names are given."""
    layers = [Dense(arange(2, 2), arange(2)) for _ in range(2)]
    assert Layout.of({"layers": layers, "scale": 1.0}).indices(names, "fixed") == indices


@pytest.mark.parametrize("name", [1, "1", [1], [np.int64(1)], np.int64(1)], ids=repr)
def test_positions_name_the_blocks_of_a_tuple(name):
    """As numbers or as text."""
    assert Layout.of((1.0, 2.0, 3.0)).indices(name, "fixed") == (1,)


@pytest.mark.parametrize("name", ["layer", "layers.", "layers.2", "ayers.0", "", ".", "scale.0", "W", 0, -1])
def test_a_name_of_no_block_is_refused(name):
    """A prefix ends at a dot; the message says who asked, and what there is."""
    layout = Layout.of({"layers": [1.0, 2.0], "scale": 1.0})
    with pytest.raises(ParameterStructureError, match=f"fixed names the parameter {name!r}, which .*: layers.0"):
        layout.indices(name, "fixed")


def test_the_nearest_block_is_suggested():
    """A slip of the pen is answered with the name that was probably meant."""
    with pytest.raises(ParameterStructureError, match="'intercpt', which does not exist. Did you mean 'intercept'?"):
        Layout.of({"coef": 1.0, "intercept": 1.0}).indices(["intercpt"], "alpha")


@pytest.mark.parametrize("names", [None, 1.5])
def test_what_is_no_name_is_refused(names):
    """`fixed=None` is a TypeError that names the argument."""
    with pytest.raises(TypeError, match=f"fixed must be a parameter name or several of them; got {names}"):
        Layout.of({"W": 1.0}).indices(names, "fixed")


@EACH
def test_the_tuple_around_a_pullbacks_result_is_undone(structure, names):
    """`jax.vjp`'s pullback returns ``(grads,)``; one that returns ``grads`` is read just so."""
    layout = Layout.of(structure)
    gradient = as_gradient(structure)
    for returned in (gradient, (gradient,)):
        out = np.empty(layout.size)
        layout.read_gradient(layout.unwrap(returned), out)
        assert_array_equal(out, 10 * concatenated(structure))


def test_a_gradient_that_is_none_is_kept_in_a_tuple_of_one():
    """``(None,)`` for a tuple of one block is that block's None, not a wrapped nothing."""
    assert Layout.of((arange(2),)).unwrap((None,)) == (None,)
    assert Layout.of({"W": arange(2)}).unwrap((None,)) is None
