"""Conversion between θ as the user wrote it and one flat vector with named views.

A `Layout` knows the user's structure (a dict, tuple, list or named tuple, possibly nested, or one array), names its
leaves ("blocks": ``"W"``, ``"0"``, ``"layers.0.W"``) and knows their positions in the vector. `Parameters` is a vector
together with the structure of read-only views on it that the user's functions receive.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from .elsewhere import TO_HOST, Elsewhere, Place, bare, on_host
from .exceptions import ParameterStructureError
from .model.gradient_forms import GRADIENT_FORMS
from .shared_memory import shared_by
from .sparse_gradients import SparseGradient, is_sparse_gradient, read_sparse
from .trust import trusted
from .typing import Array, DType, Grads, Params, Shape, T
from .validation import nearest

Tree: TypeAlias = Any  # the user's structure, an index in the place of each block; walked by what it is

ROOT = "params"  # the name of the only block where θ is a single array

NOTHING_SPECIAL: tuple[tuple[int, ...], tuple[SparseGradient, ...]] = (), ()  # no block missing, none given by rows

_PLAIN = {np.ndarray, np.float64, np.float32}  # leaves that are looked at without being converted


@trusted
class Layout:
    """Positions of the blocks of a parameter structure in one contiguous vector.

    Parameters
    ----------
    tree : object
        The structure with the index of its block at each leaf.
    names : tuple of str
        Dict keys or positions of the leaves, joined by dots if nested.
    shapes : tuple of tuple of int
        Their shapes.
    dtype : dtype
        Of the vector: float32 or float64.
    scalars : tuple of bool
        Whether the user wrote a leaf as a plain number.

    See Also
    --------
    Layout.of : The layout of a given structure.
    """

    narrow: tuple[str, DType] | None = None  # a block whose gradient came in a lower precision than that of the vector
    sent_once: tuple[Any, ...] = ()  # messages to where rows are name it, as they do an `Objective`
    place: Place | None = None  # of its vectors, if they are no NumPy arrays

    def __init__(
        self, tree: Tree, names: tuple[str, ...], shapes: tuple[Shape, ...], dtype: DTypeLike, scalars: tuple[bool, ...]
    ) -> None:
        self.tree, self.names, self.shapes, self.scalars = tree, names, shapes, scalars
        self.dtype = np.dtype(dtype)
        ends = list(itertools.accumulate(map(math.prod, shapes)))
        self.slices = tuple(slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))
        self.size = ends[-1]
        branches = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, tuple | list) else [None]
        self._is_flat = all(type(branch) is int for branch in branches)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_by_prefix", "narrow")}

    @classmethod
    def of(cls, structure: Params, dtype: DTypeLike | None = None, role: str = "params") -> Layout:
        """Return the layout of a parameter structure.

        Parameters
        ----------
        structure : dict, tuple, list, named tuple or array
            Leaves are float arrays or floats.
        dtype : dtype, default=None
            Dtype of the vector. By default float32 if every leaf is, otherwise float64.
        role : str, default="params"
            Name of the structure in messages.

        Returns
        -------
        layout : Layout

        Raises
        ------
        ParameterStructureError
            If a leaf is not a real float or an array of floats, if leaves share memory, or if there are none.
        """
        found: list[tuple[str, np.ndarray, Any]] = []
        tree = _grow(structure, (), found, role)
        if not sum(array.size for _, array, _ in found):
            raise ParameterStructureError(f"The parameters contain no numbers; got {structure!r}.")
        names, arrays, leaves = zip(*found, strict=True)
        if len(set(names)) < len(names):
            raise ParameterStructureError(f"Two parameters have the same name: {', '.join(names)}. Rename one of them.")
        require_apart(names, leaves, role)
        scalars = tuple(not hasattr(leaf, "shape") or isinstance(leaf, np.generic) for leaf in leaves)
        if dtype is None:
            narrow = all(array.dtype == np.float32 for array in arrays)
            dtype = np.float32 if narrow else np.float64
        return cls(tree, names, tuple(array.shape for array in arrays), dtype, scalars)

    def astype(self, dtype: DTypeLike) -> Layout:
        """Return the same layout for a vector of another dtype."""
        return Layout(self.tree, self.names, self.shapes, dtype, self.scalars)

    def placed(self, place: Place | None) -> Layout:
        """Return the same layout for vectors of a place; of NumPy if that is None."""
        layout = self.astype(self.dtype)
        if place is not None:
            layout.place, layout._is_flat = place, False  # no leaf is copied without a look at it
        return layout

    def empty(self) -> Array:
        """Return a new vector."""
        return np.empty(self.size, self.dtype) if self.place is None else self.place.empty(self.size, self.dtype)  # type: ignore[return-value]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return NotImplemented
        ours, theirs = ((layout.tree, layout.names, layout.shapes, layout.dtype) for layout in (self, other))
        return ours == theirs

    __hash__ = None  # type: ignore[assignment]

    def shape_of(self) -> dict[str, Shape]:
        """Return the shape of each block by its name."""
        return dict(zip(self.names, self.shapes, strict=True))

    def blocks(self, vector: Array) -> list[Array]:
        """Return the blocks as a list of views on a vector, each in its own shape."""
        return [vector[where].reshape(shape) for where, shape in zip(self.slices, self.shapes, strict=True)]

    def views(self, vector: Array, writeable: bool = False) -> Any:
        """Return the user's structure with views on a vector as leaves."""
        base = vector.view()
        base.flags.writeable = writeable
        return self.unflatten(self.blocks(base))

    def unflatten(self, leaves: Sequence[object]) -> Any:
        """Return the user's structure with the given leaves, in block order."""
        return _fill(self.tree, leaves)

    def to_structure(self, vector: Array) -> Any:
        """Return the user's structure to keep: writable views, and floats for leaves that were floats."""
        blocks = zip(self.blocks(vector), self.scalars, strict=True)
        return self.unflatten([float(block) if scalar else bare(block) for block, scalar in blocks])

    def flatten(self, structure: Params, role: str = "params") -> Array:
        """Return a new vector with the values of a structure.

        Raise an error if a block is missing, not a float, or not finite.
        """
        vector = self.empty()
        blocks = self.blocks(vector)
        with np.errstate(over="ignore"):  # what is too large for the dtype becomes infinite
            for index, leaf in enumerate(self.leaves(structure, role)):
                blocks[index][...] = self._checked(leaf, index, role)
        if not np.isfinite(vector).all():
            name = next(name for name, block in zip(self.names, blocks, strict=True) if not np.isfinite(block).all())
            raise ParameterStructureError(
                f"{role} has values that are not finite in parameter {name!r} (as {self.dtype})."
            )
        return vector

    def leaves(self, structure: Any, role: str = "gradient") -> list[Any]:
        """Return the leaves of a structure in block order; raise an error if its structure differs."""
        tree = self.tree
        if self._is_flat and type(structure) is type(tree) and len(structure) == len(tree):
            if type(tree) is not dict:
                return list(structure)
            if structure.keys() == tree.keys():
                return [structure[key] for key in tree]
        out: list[Any] = [None] * len(self.names)
        _collect(tree, structure, (), role, out)
        return out

    def read_gradient(
        self, grads: Grads, out: Array | list[Array], role: str = "gradient"
    ) -> tuple[tuple[int, ...], tuple[SparseGradient, ...]]:
        """Write a gradient into a vector; return the blocks without a gradient and the sparse gradients.

        Parameters
        ----------
        grads : structure
            Same structure as the layout, with keys in any order. A leaf is None for no gradient; a pair (rows, values)
            or a sparse matrix is a gradient of some rows only.
        out : ndarray of shape (size,) or list of ndarray
            A vector, or its `blocks`.
        role : str, default="gradient"
            Name of the callable, for messages.

        Returns
        -------
        missing : tuple of int
            Indices of the blocks whose leaf is ``None``. Their part of ``out`` is set to zero.
        sparse_grads : tuple of SparseGradient
            The gradients of some rows. Their part of ``out`` is not written.

        Raises
        ------
        ParameterStructureError
            If a key is missing or unknown, a shape is wrong, or a leaf is not of real floats. The vector may then be
            partly written.
        """
        blocks = out if isinstance(out, list) else self.blocks(out)
        return NOTHING_SPECIAL if self.copied(grads, blocks) else self._read_each(grads, blocks, role)

    def copied(self, grads: Any, blocks: Sequence[Array]) -> bool:
        """Write a gradient into blocks if all its leaves are arrays of the right shape; return whether that was so.

        It is for most gradients. If it is not, the blocks may be partly written.
        """
        tree = self.tree
        if type(grads) is not type(tree) or not self._is_flat or len(grads) != len(tree):
            return False
        leaves = map(grads.get, tree) if type(tree) is dict else grads
        dtype = self.dtype
        for leaf, block, shape in zip(leaves, blocks, self.shapes, strict=False):  # strict takes as long as a copy
            if type(leaf) not in _PLAIN or leaf.shape != shape:
                return False
            if leaf.dtype is not dtype and (leaf.dtype.kind != "f" or leaf.dtype.itemsize < dtype.itemsize):
                return False
            block[...] = leaf
        return True

    def _read_each(
        self, grads: Grads, blocks: Sequence[Array], role: str
    ) -> tuple[tuple[int, ...], tuple[SparseGradient, ...]]:
        """Write a gradient leaf by leaf; return the blocks without a gradient and the sparse gradients."""
        missing: list[int] = []
        sparse_grads: list[SparseGradient] = []
        for index, leaf in enumerate(self.leaves(grads, role)):
            block = blocks[index]
            if leaf is None:
                missing.append(index)
                leaf = 0.0
            elif is_sparse_gradient(leaf):
                if self.place is not None:
                    raise ParameterStructureError(
                        f"{role} has a sparse gradient{_in_block(self.names[index])}, which is only supported for "
                        f"NumPy arrays. Return a dense gradient. Alternatively: {TO_HOST}"
                    )
                sparse_grads.append(self.read_sparse(leaf, index, role))
                continue
            else:
                leaf = self._checked(leaf, index, role)
            block[...] = leaf
        return tuple(missing), tuple(sparse_grads)

    def read_sparse(self, leaf: Any, index: int, role: str = "gradient") -> SparseGradient:
        """Return a leaf of a gradient that has some rows of its block only."""
        self._note_precision(leaf[1] if isinstance(leaf, tuple) else leaf, index)
        return read_sparse(leaf, index, self.slices[index], self.shapes[index], self.dtype, self.names[index], role)

    def _checked(self, leaf: object, index: int, role: str, shape: Shape | None = None) -> Array:
        """Return a leaf as an array, or raise the error that names its block."""
        if self.place is not None and hasattr(leaf, "shape"):
            leaf = self.place.taken_in(leaf, f"{role}{_in_block(self.names[index])}")
        array = read_leaf(leaf, self.names[index], self.shapes[index] if shape is None else shape, role)
        if role in GRADIENT_FORMS:
            self._note_precision(array, index)
        return array

    def _note_precision(self, array: Any, index: int) -> None:
        dtype = getattr(array, "dtype", self.dtype)
        if dtype.kind == "f" and dtype.itemsize < self.dtype.itemsize:
            self.narrow = self.names[index], dtype

    def stacked(self, structure: Grads, leading: Shape, role: str = "jacobian") -> list[Array | None]:
        """Return the leaves of a structure whose leaves have ``leading`` axes before their block's own."""
        return [
            None if leaf is None else self._checked(leaf, index, role, shape=leading + self.shapes[index])
            for index, leaf in enumerate(self.leaves(structure, role))
        ]

    def indices(self, names: str | int | Iterable[str | int], argument: str) -> tuple[int, ...]:
        """Return the indices of the blocks with the given names; a dotted prefix selects all blocks below it.

        Parameters
        ----------
        names : str or iterable of str or int
            Names of parameters, or positions if θ is a tuple or list.
        argument : str
            Name of the argument, for messages.

        Returns
        -------
        indices : tuple of int
            In block order.

        Raises
        ------
        ParameterStructureError
            If a name matches no block.
        """
        if isinstance(names, str | numbers.Integral):
            names = (names,)
        if not isinstance(names, Iterable):
            raise TypeError(f"{argument} must be a parameter name or several of them; got {names!r}.")
        found = set()
        for name in names:
            matching = self._by_prefix.get(str(name))
            if matching is None:
                raise ParameterStructureError(
                    f"{argument} names the parameter {name!r}, which does not exist."
                    f"{nearest(name, self.names)} There are: {', '.join(self.names)}."
                )
            found.update(matching)
        return tuple(sorted(found))

    def of_blocks(self, named: Mapping[Any, T], argument: str) -> dict[int, T]:
        """Return a mapping by name as one by block index; the more specific of two names takes precedence.

        Parameters
        ----------
        named : mapping
            Names, as `indices` accepts them, and a value for each.
        argument : str
            Name of the argument, for messages.

        Returns
        -------
        of_blocks : dict
        """
        found: dict[int, T] = {}
        for name, given in sorted(named.items(), key=lambda item: str(item[0]).count(".")):
            found.update(dict.fromkeys(self.indices(name, argument), given))
        return found

    @cached_property
    def _by_prefix(self) -> dict[str, list[int]]:
        return by_prefix(self.names)

    def unwrap(self, grads: Any) -> Any:
        """Undo the 1-tuple around a pullback's result, as ``jax.vjp`` returns it."""
        if type(grads) is not tuple or len(grads) != 1:
            return grads
        return grads[0] if _wrappings(grads) > _wrappings(self.tree) else grads


@trusted
class Parameters:
    """θ of one fit: the vector that an optimizer writes, and the views that callables read.

    Copies and pickles contain the vector; the views are rebuilt.

    Parameters
    ----------
    layout : Layout
        The structure.
    vector : ndarray of shape (layout.size,)
        The values, of the layout's dtype; not copied.
    limits : tuple (low, high) of ndarray, default=None
        Bounds of the vector.

    Attributes
    ----------
    structure : structure
        The user's structure of read-only views on ``vector``.
    """

    __slots__ = ("layout", "limits", "structure", "vector")

    structure: Any

    is_mapped = False  # whether the user's numbers are others than those of the vector

    def __init__(self, layout: Layout, vector: Array, limits: tuple[Array, Array] | None = None) -> None:
        self.layout, self.vector, self.limits = layout, vector, limits
        self.structure = layout.views(vector)

    def __reduce__(self) -> tuple[Any, ...]:
        return Parameters, (self.layout, self.vector, self.limits)

    def to_read(self) -> Any:
        """Return a new structure of read-only views, whose containers the user may modify."""
        leaves = self.layout.leaves(self.layout.views(self.vector))
        return self.layout.unflatten([bare(leaf) for leaf in leaves])

    def to_structure(self) -> Any:
        """Return the user's structure to keep: writable views, and floats for leaves that were floats."""
        return self.layout.to_structure(self.vector)

    def at(self, vector: Array) -> Parameters:
        """Return the parameters of another vector, which is not copied."""
        return Parameters(self.layout, vector, self.limits)

    def copy(self) -> Parameters:
        """Return a copy with its own vector."""
        return self.at(self.vector.copy())

    def placed(self, place: Place | None) -> Parameters:
        """Return a copy at a place; of NumPy if that is None."""
        vector = np.array(on_host(self.vector)) if place is None else place.taken_in(self.vector)
        return Parameters(self.layout.placed(place), vector)  # type: ignore[arg-type]

    def astype(self, dtype: DTypeLike) -> Parameters:
        """Return a copy with another dtype."""
        limits = None if self.limits is None else (self.limits[0].astype(dtype), self.limits[1].astype(dtype))
        return Parameters(self.layout.astype(dtype), self.vector.astype(dtype), limits)

    def confined(self, vector: Array) -> Array:
        """Return a vector inside the limits."""
        return vector if self.limits is None else np.clip(vector, *self.limits)

    @property
    def ends(self) -> tuple[Array, Array]:
        """The bounds of the vector, infinite if there are none."""
        return self.limits or (np.full(self.vector.size, -np.inf), np.full(self.vector.size, np.inf))

    def well_inside(self, vector: Array, distance: Array) -> Array:
        """Return a vector at the given distance inside the limits, or as far inside as there is room."""
        if self.limits is None:
            return vector
        low, high = self.limits
        distance = np.minimum(distance, (high - low) / 4)
        return np.clip(vector, low + distance, high - distance)

    # The user's parameters, if they differ from the vector.

    @property
    def as_given(self) -> Parameters:
        """The same parameters, as a vector of the user's own numbers."""
        return self

    def is_like(self, other: Parameters) -> bool:
        """Whether the vector of another θ has the same meaning."""
        return not other.is_mapped

    def entered(self, vector: Array) -> Parameters:
        """Return the parameters for a vector of the user's own numbers."""
        return self.at(vector)

    def block(self, index: int) -> Array:
        """Return a block in the user's own numbers, flattened."""
        return self.vector[self.layout.slices[index]]

    def pulled_back(self, gradient: Array) -> Array:
        """Return the gradient with respect to the vector, given the user's; valid until the next call."""
        return gradient

    def block_pulled_back(self, index: int, gradient: Array) -> Array:
        """Return the gradient, or several (n, size), with respect to a block of the vector, given the user's."""
        return gradient

    @property
    def mapped_alone(self) -> Array:
        """Mask of the user's numbers that have an elementwise, increasing map."""
        return np.zeros(self.layout.size, dtype=bool)

    def moved_by(self, directions: Array) -> Array:
        """Return the change of the user's numbers for directions of the vector, one per row."""
        return directions

    def stretching(self, index: int) -> Any:
        """Return how far the user's numbers in a block move with each entry of the vector."""
        return 1.0

    @property
    def mapped_blocks(self) -> set[int]:
        """Blocks whose numbers differ from those of the vector, or in which some entries are fixed."""
        return set()

    @property
    def limits_as_given(self) -> tuple[Array, Array]:
        """The bounds of the user's numbers, infinite if there are none."""
        return self.ends

    def spread(self, distance: Array) -> Array:
        """Return the distance that the vector moves if the user's numbers move by a fraction of their size.

        Zero entries have a size of 1. Under a map, the fraction applies to the vector itself.
        """
        return np.where(self.vector == 0, 1.0, np.abs(self.vector)) * distance

    def tangent(self, direction: Array) -> Array:
        """Return the nearest direction in which the user's numbers can move."""
        return direction


def _is_namedtuple(value: object) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _rebuild(like: Any, items: Iterable[Any]) -> Any:
    """Return a sequence of the same type as ``like``."""
    return type(like)(*items) if _is_namedtuple(like) else type(like)(items)


def _keys(node: Any) -> Iterable[Any]:
    """Return the names of the children of a sequence: fields of a named tuple, otherwise positions."""
    return node._fields if _is_namedtuple(node) else range(len(node))


def by_prefix(names: Iterable[str]) -> dict[str, list[int]]:
    """Return the positions of the blocks that a name selects: its own, and those whose names continue after a dot."""
    found: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        dots = [place for place, character in enumerate(name) if character == "."]
        for end in (*dots, len(name)):
            found.setdefault(name[:end], []).append(position)
    return found


def _grow(node: Any, path: tuple[Any, ...], found: list[tuple[str, Array, Any]], role: str) -> Tree:
    """Build the tree of block indices, and append the leaves to ``found``."""
    if isinstance(node, Mapping):
        return {key: _grow(child, (*path, key), found, role) for key, child in node.items()}
    if isinstance(node, tuple | list):
        return _rebuild(node, [_grow(c, (*path, k), found, role) for k, c in zip(_keys(node), node, strict=True)])
    name = ".".join(map(str, path)) or ROOT
    array = _as_array(node, name, role)
    _require_floats(array, name, role)
    found.append((name, array, node))
    return len(found) - 1


def _fill(tree: Tree, leaves: Sequence[object]) -> Any:
    if isinstance(tree, dict):
        return {key: _fill(child, leaves) for key, child in tree.items()}
    if isinstance(tree, tuple | list):
        return _rebuild(tree, [_fill(child, leaves) for child in tree])
    return leaves[tree]


def _wrappings(node: object) -> int:
    """Return the number of nested one-item sequences around the rest."""
    return 1 + _wrappings(node[0]) if isinstance(node, tuple | list) and len(node) == 1 else 0


def _collect(tree: Tree, node: Any, path: tuple[Any, ...], role: str, out: list[Any]) -> None:
    """Write the leaves of ``node`` into ``out``, at the indices that ``tree`` has in the same places."""
    if type(tree) is int:
        out[tree] = node
    elif isinstance(tree, dict):
        if not isinstance(node, Mapping) or node.keys() != tree.keys():
            _refuse_mapping(tree, node, path, role)
        for key, child in tree.items():
            _collect(child, node[key], (*path, key), role, out)
    else:
        if not isinstance(node, tuple | list) or len(node) != len(tree):
            _refuse_sequence(tree, node, _where(role, path))
        for key, child, item in zip(_keys(tree), tree, node, strict=True):
            _collect(child, item, (*path, key), role, out)


def _where(role: str, path: tuple[Any, ...]) -> str:
    return f"{role} at {'.'.join(map(str, path))!r}" if path else role


def _refuse_sequence(tree: Sequence[Any], node: Any, where: str) -> NoReturn:
    if not isinstance(node, tuple | list):
        hint = ""
        if hasattr(node, "shape") and tuple(node.shape[:1]) == (len(tree),):
            hint = " A list of numbers is a structure of as many parameters. For one, use np.array([...]) in init."
        raise ParameterStructureError(
            f"{where} is {_kind(node)}; expected a {type(tree).__name__} of {len(tree)}.{hint}"
        )
    raise ParameterStructureError(f"{where} has {len(node)} items; expected {len(tree)}.")


def _refuse_mapping(tree: Mapping[Any, Any], node: Any, path: tuple[Any, ...], role: str) -> NoReturn:
    where = _where(role, path)
    if not isinstance(node, Mapping):
        raise ParameterStructureError(f"{where} is {_kind(node)}; expected a dict with {_listed(tree)}.")
    absent = [key for key in tree if key not in node]
    unknown = [key for key in node if key not in tree]
    if absent:
        came = f"It has: {_listed(node)}." if node else "It is empty."
        hint = " Return None for a parameter that is not trained." if role in GRADIENT_FORMS else ""
        raise ParameterStructureError(f"{where} has no parameter {absent[0]!r}. {came}{hint}")
    raise ParameterStructureError(
        f"{where} has an unknown parameter {unknown[0]!r}.{nearest(unknown[0], tree)} The parameters are: "
        f"{_listed(tree)}."
    )


def _listed(mapping: Iterable[object]) -> str:
    return ", ".join(repr(key) for key in mapping)


def _kind(node: Any) -> str:
    if hasattr(node, "shape"):
        return f"an array of shape {tuple(node.shape)}"
    return "None" if node is None else f"of type {type(node).__name__}"


def read_leaf(leaf: object, name: str, shape: Shape, role: str) -> Array:
    """Return a leaf of a gradient, or of θ, as an array of real floats of the block's shape.

    Parameters
    ----------
    leaf : object
    name : str
        Name of the parameter, for messages; empty if θ is a vector.
    shape : tuple of int
        Shape of the parameter.
    role : str
        Name of the structure or callable, for messages.

    Returns
    -------
    array : ndarray
        Of any precision.

    Raises
    ------
    ParameterStructureError
        For integers, Booleans, complex numbers, objects, None, or a different shape.
    """
    array = _as_array(leaf, name, role)
    _require_floats(array, name, role)
    if array.shape != shape:
        raise ParameterStructureError(
            f"{role} has shape {array.shape}{_in_block(name)}; expected {shape}.{_shape_hint(array.shape, shape, role)}"
        )
    return array


def _as_array(leaf: object, name: str, role: str) -> Array:
    kind = "None" if leaf is None else f"a {type(leaf).__name__}"
    is_structure = isinstance(leaf, Mapping | tuple | list if name else Mapping)  # a vector may be a list
    if leaf is None or is_structure:
        raise ParameterStructureError(f"{role} has {kind}{_in_block(name)}; a float array or a float is needed.")
    if isinstance(leaf, Elsewhere):
        return leaf  # type: ignore[return-value]
    try:
        array = np.asarray(leaf)
    except Exception as error:
        raise ParameterStructureError(f"{role} has {kind}{_in_block(name)} that is not an array: {error}") from error
    if array.dtype.kind == "O" and not isinstance(leaf, np.ndarray):
        raise ParameterStructureError(f"{role} has {kind}{_in_block(name)}; a float array or a float is needed.")
    return array


def _require_floats(array: Array, name: str, role: str) -> None:
    if array.dtype.kind != "f":
        raise ParameterStructureError(
            f"{role} has dtype {array.dtype}{_in_block(name)}; real floats are needed."
            f"{_dtype_hint(array.dtype.kind, role in GRADIENT_FORMS)}"
        )


def _in_block(name: str) -> str:
    return f" in parameter {name!r}" if name else ""


def _dtype_hint(kind: str, is_gradient: bool) -> str:
    """Return advice on a dtype kind."""
    if kind in "iub" and not is_gradient:
        return (
            " If it is trained, use a float: 0.0, or astype(float). If it is a setting, such as a degree or an index, "
            "keep it out of the parameters: an estimator takes it in model_params."
        )
    return {
        "c": " Take the real part if the imaginary part is zero.",
        "O": " An object array often results from rows of different lengths.",
        "i": " Was it rounded? Start from floats: np.zeros_like(parameter).",
        "u": " Was it rounded? Start from floats: np.zeros_like(parameter).",
        "b": " Convert it with astype(float) if True means 1.",
    }.get(kind, "")


def require_apart(names: Sequence[str], leaves: Iterable[Any], role: str) -> None:
    """Raise if two blocks share memory, because an update of one would overwrite the other."""
    pair = shared_by(leaves)
    if pair is None:
        return
    a, b = (names[position] for position in pair)
    cure = "Copy one of them. To tie weights, use one parameter in both places; its gradient is the sum of the two."
    if a == b:
        raise ParameterStructureError(f"{role} has entries that share memory{_in_block(a)}. Pass a copy.")
    raise ParameterStructureError(f"{role} has parameters {a!r} and {b!r} that share memory. {cure}")


def listed_shapes(shapes: Mapping[str, Shape]) -> str:
    """Return the names of parameters with their shapes, for messages."""
    return ", ".join(f"{name!r} {shape}" for name, shape in shapes.items())


def _shape_hint(came: Shape, expected: Shape, role: str) -> str:
    if np.prod(came) == np.prod(expected) and sorted(came) == sorted(expected) and came != expected:
        return " Is it transposed?"
    if tuple(n for n in came if n != 1) == tuple(n for n in expected if n != 1):
        return " Only axes of length 1 differ: reshape it, or use keepdims."
    if role not in GRADIENT_FORMS:
        return ""
    if len(came) > len(expected):
        return " Was the sum over the samples of the batch left out?"
    if len(came) < len(expected):
        return " Was one axis too many summed over?"
    return " A gradient must have the shape of its parameter."
