"""Arrays of other namespaces, torch tensors above all, behind NumPy's face.

Under scikit-learn's ``array_api_dispatch`` arrays stay where they are: in a namespace and on a device, a `Place`. What
this package computes itself (formulas of rules and of losses, default models, batches, sums) is written once, with
NumPy's functions. An `Elsewhere` stands in for an array there: NumPy's ufuncs and functions, called on it, run the
functions of the same names in its namespace. The user's functions never see one: see `model.boundary`.
"""

from __future__ import annotations

import functools
import importlib
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike
from scipy.sparse import issparse
from sklearn import get_config

from .trust import trusted
from .typing import DType

TO_HOST = "Pass NumPy arrays: X = np.asarray(X), or X = X.cpu().numpy() for a tensor on a GPU."  # the cure in messages

_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "matmul": operator.matmul,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
}
"""What an array does by itself, also beside a Python number, which need not become an array then."""
_TAKING_NUMBERS = set(_OPERATORS.values())

_RENAMED = {"absolute": "abs", "arctan2": "atan2", "invert": "bitwise_invert"}
_RENAMED |= {f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
"""Functions of NumPy's that have another name in the standard."""

_NUMBERS: dict[str, Callable[[Any], Any]] = {"b": bool, "i": int, "u": int, "f": float}  # by the kind of a dtype


@functools.cache
def _compat() -> Any:
    """The package ``array_api_compat``, or the copy that newer versions of scikit-learn bring along."""
    try:
        return importlib.import_module("array_api_compat")
    except ImportError:
        return importlib.import_module("sklearn.externals.array_api_compat")


@functools.cache
def _namespace(library: str) -> ModuleType:
    try:
        return importlib.import_module(f"{_compat().__name__}.{library}")
    except ImportError:
        return importlib.import_module(library)


@functools.cache
def _numpy_dtype(dtype: Any) -> DType:
    found = np.dtype(str(dtype).rpartition(".")[2])
    if found.kind == "V":  # of ml_dtypes, which jax brings along
        raise TypeError(f"NumPy does not support dtype {found}.")
    return found


@trusted
@dataclass(frozen=True)
class Place:
    """Where arrays are: the library that they belong to, and the device.

    Attributes
    ----------
    library : str
        As it is imported.
    device : object
        As the library has it.
    """

    library: str
    device: Any

    @classmethod
    def of(cls, array: Any) -> Place:
        """Return the place of an array."""
        name = _compat().array_namespace(array).__name__
        return cls(name.removeprefix(f"{_compat().__name__}."), _compat().device(array))

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (self.library, self.device)

    @functools.cached_property
    def xp(self) -> Any:
        """The namespace."""
        return _namespace(self.library)

    @functools.cached_property
    def _functions(self) -> dict[str, Callable[..., Any]]:
        return dict(_OPERATORS)

    def __str__(self) -> str:
        return f"{self.library} on device {self.device}"

    def dtype(self, dtype: DTypeLike) -> Any:
        """Return what NumPy's dtype is called there; a device without float64 has float32 in its place."""
        dtype = np.dtype(dtype)
        return self.xp.float32 if dtype == np.float64 and self._is_narrow else getattr(self.xp, dtype.name)

    @functools.cached_property
    def _is_narrow(self) -> bool:
        return "float64" not in self.xp.__array_namespace_info__().dtypes(device=self.device)

    def function(self, name: str) -> Callable[..., Any]:
        """Return the function of a ufunc's name, NumPy's or scipy's."""
        if name not in self._functions:
            own = _RENAMED.get(name, name)
            found = getattr(self.xp, own, None) or getattr(getattr(self.xp, "special", None), own, None)
            if not callable(found):
                raise TypeError(f"X is an array of {self.library}, which has no function {name}. {TO_HOST}")
            self._functions[name] = found
        return self._functions[name]

    def empty(self, size: int, dtype: DTypeLike) -> Elsewhere:
        """Return a vector."""
        return Elsewhere(self.xp.empty(size, dtype=self.dtype(dtype), device=self.device), self)

    def taken_in(self, values: Any, name: str = "This") -> Elsewhere:
        """Return values as an array here: what is here already itself, what is NumPy's moved."""
        if isinstance(values, Elsewhere):
            return values
        if is_foreign(values):
            self._require_here(values, name)
            return Elsewhere(values, self)
        array = np.array(values, order="C")
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} has dtype {array.dtype}, which {self.library} does not support. {TO_HOST}")
        return Elsewhere(self.xp.asarray(array, dtype=self.dtype(array.dtype), device=self.device), self)

    def _require_here(self, array: Any, name: str) -> None:
        if Place.of(array) != self:
            raise TypeError(f"{name} is an array of {Place.of(array)}, but X is an array of {self}. Move {name} there.")


def is_foreign(value: object) -> bool:
    """Whether a value is an array of another namespace than NumPy's."""
    if not hasattr(value, "shape") or isinstance(value, np.ndarray | np.generic) or issparse(value):
        return False
    try:
        return bool(_compat().is_array_api_obj(value))
    except ImportError:  # without the package nothing can be dispatched
        return False


def is_dispatched(value: object) -> bool:
    """Whether a value is an array of another namespace, and arrays are to stay where they are."""
    return bool(get_config()["array_api_dispatch"]) and is_foreign(value)


def entered(X: Any) -> Any:
    """Return an array that is to stay where it is behind NumPy's face, and anything else as it is."""
    if type(X) in (np.ndarray, Elsewhere) or not is_dispatched(X):
        return X
    place = Place.of(X)
    if str(getattr(X, "layout", "strided")).rpartition(".")[2] != "strided":
        raise TypeError(f"X is a sparse tensor of {place.library}. Pass X.to_dense(), or a scipy sparse matrix.")
    if not _compat().is_writeable_array(X):
        raise TypeError(
            f"X is an array of {place.library}, whose arrays are read-only, but training writes in place. {TO_HOST}"
        )
    face = Elsewhere(detached(X), place)
    try:
        face.dtype  # noqa: B018
    except TypeError as error:
        raise TypeError(
            f"X has dtype {X.dtype}, which NumPy does not support. Convert it to float32 or float64."
        ) from error
    return face


def place_of(X: object) -> Place | None:
    """Return the place of an array behind NumPy's face; None for any other."""
    return X.place if isinstance(X, Elsewhere) else None


def bare(value: Any) -> Any:
    """Return the array behind NumPy's face, and anything else as it is."""
    return value.array if isinstance(value, Elsewhere) else value


def on_host(value: Any) -> Any:
    """Return what stays in another namespace as a NumPy array, and anything else as it is."""
    if isinstance(value, Elsewhere):
        return copied_to_host(value.array)
    return copied_to_host(value) if type(value) is not np.ndarray and is_dispatched(value) else value


def structure_on_host(structure: Any) -> Any:
    """Return a structure with all arrays of other namespaces as NumPy's."""
    return mapped(structure, lambda leaf: copied_to_host(leaf) if is_foreign(leaf) else leaf)


def chosen(values: np.ndarray, index: Any) -> Any:
    """Return values by their indices, on the device of the indices; values that are not numbers stay in NumPy."""
    if not isinstance(index, Elsewhere):
        return values[index]
    return index.place.taken_in(values)[index] if values.dtype.kind in "fiub" else values[on_host(index)]


def detached(array: Any) -> Any:
    """Return a tensor of torch without its history of derivatives, and any other array as it is."""
    return array.detach() if hasattr(array, "detach") else array


def copied_to_host(array: Any) -> np.ndarray:
    """Return an array of another namespace as a NumPy array, which may share its memory."""
    array = detached(bare(array))
    try:
        return np.asarray(array)
    except (TypeError, RuntimeError):  # of a device that is not the host
        if hasattr(array, "get"):  # CuPy's
            return np.asarray(array.get())
        xp = _compat().array_namespace(array)
        return np.asarray(_compat().to_device(array, xp.Device("CPU_DEVICE") if hasattr(xp, "Device") else "cpu"))


def mapped(node: Any, change: Callable[[Any], Any]) -> Any:
    """Return a structure of dicts, lists and tuples whose leaves are changed."""
    if isinstance(node, Mapping):
        return {key: mapped(child, change) for key, child in node.items()}
    if isinstance(node, list | tuple):
        children = [mapped(child, change) for child in node]
        return type(node)(*children) if hasattr(node, "_fields") else type(node)(children)
    return change(node)


@trusted
class Elsewhere(NDArrayOperatorsMixin):
    """An array of another namespace behind NumPy's face: attributes and methods are NumPy's, as far as they are used.

    Sums, extremes and truth values over all entries are Python numbers; those along an axis are arrays.

    Parameters
    ----------
    array : array
        Of the namespace; not copied.
    place : Place
    writeable : bool, default=True
        Whether it may be written to by this name.
    """

    __slots__ = ("array", "place", "writeable")

    base = None
    c_contiguous = True
    flags = property(lambda self: self)  # which are its own attributes

    def __init__(self, array: Any, place: Place, writeable: bool = True) -> None:
        self.array, self.place, self.writeable = array, place, writeable

    def __reduce__(self) -> tuple[Any, ...]:
        return Elsewhere, (self.array, self.place, self.writeable)

    def _like(self, array: Any) -> Elsewhere:
        return Elsewhere(array, self.place)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        return len(self.array.shape)

    @property
    def size(self) -> int:
        return math.prod(self.array.shape)

    @property
    def dtype(self) -> DType:
        """NumPy's dtype of the same name."""
        return _numpy_dtype(self.array.dtype)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def T(self) -> Elsewhere:
        backwards = tuple(reversed(range(self.ndim)))
        return self._like(self.place.xp.permute_dims(self.array, backwards))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Elsewhere({self.array!r})"

    def __float__(self) -> float:
        return float(self.array)

    def __bool__(self) -> bool:
        return bool(self.array)

    def __array__(self, *args: Any, **settings: Any) -> NoReturn:
        # What catches a TypeError, as scipy does, would say less.
        raise RuntimeError(f"X is an array of {self.place}, but this only works with NumPy arrays. {TO_HOST}")

    # Parts and copies.

    def __getitem__(self, key: Any) -> Elsewhere:
        if isinstance(key, np.ndarray) and key.dtype.kind in "iu":
            return self.take(key, axis=0)
        return Elsewhere(self.array[self._key(key)], self.place, self.writeable)

    def __setitem__(self, key: Any, value: Any) -> None:
        if not self.writeable:
            raise ValueError("assignment destination is read-only")
        self.array[self._key(key)] = self._operand(value, self.dtype, may_be_number=True)

    def _key(self, key: Any) -> Any:
        if isinstance(key, np.ndarray):
            key = self.place.taken_in(key)
        if isinstance(key, Elsewhere):
            return key.array
        if key is Ellipsis:
            return key
        parts = key if isinstance(key, tuple) else (key,)
        lengths = iter(self.shape)  # the standard has no slices that end beyond the last entry
        sizes = [0 if part is None else next(lengths, 0) for part in parts]
        cut = [slice(*p.indices(n)) if isinstance(p, slice) else p for p, n in zip(parts, sizes, strict=True)]
        return (*cut,) if Ellipsis in parts else (*cut, Ellipsis)

    def view(self) -> Elsewhere:
        """Return another name of the same memory."""
        return Elsewhere(self.array, self.place, self.writeable)

    def copy(self) -> Elsewhere:
        return self._like(self.place.xp.asarray(self.array, copy=True))

    def astype(self, dtype: DTypeLike, copy: bool = True) -> Elsewhere:
        return self._like(self.place.xp.astype(self.array, self.place.dtype(dtype), copy=copy))

    def reshape(self, *shape: Any) -> Elsewhere:
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        return Elsewhere(self.place.xp.reshape(self.array, shape), self.place, self.writeable)

    def ravel(self) -> Elsewhere:
        return self.reshape(-1)

    def take(self, rows: Any, axis: int = 0, out: Any = None, mode: str = "raise") -> Elsewhere:
        rows = self.place.taken_in(rows).array
        taken = self._like(self.place.xp.take(self.array, rows, axis=axis))
        if out is not None:
            out[...] = taken
        return taken

    # Reductions.

    def _reduced(self, name: str, axis: Any, keepdims: bool = False, **settings: Any) -> Any:
        found = getattr(self.place.xp, name)(self.array, axis=axis, keepdims=keepdims, **settings)
        return _NUMBERS[_numpy_dtype(found.dtype).kind](found) if axis is None else self._like(found)

    def sum(self, axis: Any = None, dtype: DTypeLike | None = None, keepdims: bool = False) -> Any:
        dtype = np.int64 if dtype is None and self.dtype.kind == "b" else self.dtype if dtype is None else dtype
        return self.astype(dtype, copy=False)._reduced("sum", axis, keepdims)

    def any(self, axis: Any = None) -> Any:
        return (self != 0)._reduced("any", axis)

    def all(self, axis: Any = None) -> Any:
        return (self != 0)._reduced("all", axis)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduced("max", axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduced("min", axis, keepdims)

    def argmax(self, axis: Any = None) -> Any:
        return self._reduced("argmax", axis)

    def dot(self, other: Any) -> Any:
        """As NumPy's; a number of two vectors."""
        product = self @ other
        return float(product) if product.ndim == 0 else product

    # NumPy's functions.

    def _operand(self, value: Any, dtype: DType, may_be_number: bool = False) -> Any:
        """Return another operand of a call, converted to this array's place and a dtype."""
        if isinstance(value, Elsewhere):
            return value.array if value.dtype == dtype else value.astype(dtype).array
        if np.ndim(value):
            raise TypeError(f"X is an array of {self.place}, but it was combined with a NumPy array. {TO_HOST}")
        value = value.item() if isinstance(value, np.ndarray | np.generic) else value
        if may_be_number:
            return _NUMBERS[dtype.kind](value)
        return self.place.xp.asarray(value, dtype=self.place.dtype(dtype), device=self.place.device)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **settings: Any) -> Any:
        first = next(value for value in (*inputs, *(out or ())) if isinstance(value, Elsewhere))
        if ufunc is np.add and method == "reduce":
            return inputs[0].sum(settings.get("axis", 0), settings.get("dtype"))
        if method != "__call__" or settings or ufunc.nout != 1:
            raise TypeError(
                f"X is an array of {self.place}, for which np.{ufunc.__name__} may only be called elementwise."
            )
        result = first._called(first.place.function(ufunc.__name__), inputs)
        if out is None:
            return result
        out[0][...] = result
        return out[0]

    def _called(self, function: Callable[..., Any], inputs: Collection[Any]) -> Elsewhere:
        """Call a function of the namespace on arrays and numbers, in their common dtype."""
        kinds = [
            v.dtype if isinstance(v, Elsewhere) else v if type(v) in {bool, int, float} else float(v) for v in inputs
        ]
        common = np.result_type(*kinds)
        takes_numbers = function in _TAKING_NUMBERS
        return self._like(function(*(self._operand(value, common, takes_numbers) for value in inputs)))

    def __array_function__(self, function: Any, types: Any, args: Any, settings: Any) -> Any:
        name = function.__name__
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](*args, **settings)
        if args and isinstance(args[0], Elsewhere) and hasattr(type(args[0]), name):
            found = getattr(args[0], name)
            return found(*args[1:], **settings) if callable(found) else found
        raise TypeError(f"X is an array of {self.place}, which np.{name} does not support. {TO_HOST}")


def _where(condition: Elsewhere, a: Any, b: Any) -> Any:
    like = next(value for value in (condition, a, b) if isinstance(value, Elsewhere))
    mask = like._operand(condition, np.dtype(bool))
    return like._called(lambda a, b: like.place.xp.where(mask, a, b), (a, b))


def _copyto(to: Any, values: Any) -> None:
    to[...] = values


def _empty_like(like: Elsewhere, dtype: Any = None, shape: Any = None, **_: Any) -> Elsewhere:
    shape = like.shape if shape is None else shape
    dtype = like.place.dtype(like.dtype if dtype is None else dtype)
    return Elsewhere(like.place.xp.empty(shape, dtype=dtype, device=like.place.device), like.place)


def _full_like(like: Elsewhere, value: Any, **settings: Any) -> Elsewhere:
    full = _empty_like(like, **settings)
    full[...] = value
    return full


def _joined(name: str) -> Callable[..., Elsewhere]:
    def joined(arrays: Any, axis: int = 0) -> Elsewhere:
        place = arrays[0].place
        return Elsewhere(getattr(place.xp, name)([array.array for array in arrays], axis=axis), place)

    return joined


def _vdot(a: Elsewhere, b: Elsewhere) -> float:
    return float((a.ravel() * b.ravel()).sum())


def _einsum(subscripts: str, values: Elsewhere) -> Any:
    if subscripts != "ij->i":
        raise TypeError(f"X is an array of {values.place}, which np.einsum({subscripts!r}) does not support. {TO_HOST}")
    return values.sum(axis=1)


def _nan_to_num(values: Elsewhere, nan: float = 0.0) -> Any:
    return np.where(np.isnan(values), nan, values)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "where": _where,
    "copyto": _copyto,
    "empty_like": _empty_like,
    "full_like": _full_like,
    "zeros_like": lambda like, **settings: _full_like(like, 0, **settings),
    "ones_like": lambda like, **settings: _full_like(like, 1, **settings),
    "concatenate": _joined("concat"),
    "stack": _joined("stack"),
    "vdot": _vdot,
    "einsum": _einsum,
    "nan_to_num": _nan_to_num,
    "amax": Elsewhere.max,
    "amin": Elsewhere.min,
}
"""NumPy's functions that are no methods of an array."""


def expit(values: Elsewhere) -> Elsewhere:
    """Return the logistic function, which the array API standard lacks."""
    return 1 / (1 + np.exp(-values))  # type: ignore[no-any-return]


def softmax(scores: Elsewhere) -> Elsewhere:
    """Return the softmax of each row."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def norm(values: Elsewhere) -> float:
    """Return the Euclidean norm, which is right where squares are too large or too small."""
    largest = float(np.abs(values).max()) if values.size else 0.0
    if not 0 < largest < math.inf:
        return largest
    scaled = values / largest
    return largest * math.sqrt(_vdot(scaled, scaled))
