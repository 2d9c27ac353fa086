"""Kernels of NumPy: recorded operations as a Python function of whole arrays, over pieces that fit the cache.

`write_source` gives each call a place for its result (an array that nothing reads any more, or the slot or
the θ that it is the new value of, so that nothing is copied) and writes the calls down as a Python function,
as ``collections.namedtuple`` and ``attrs`` do. `Kernel` runs that function over pieces of θ, so that scratch
stays in the cache.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...sparse_gradients import SparseGradient
from ...typing import Array, DType
from .links import Fused, total
from .trace import Call, Operations, trace

PIECE = 16384
"""Entries a piece. From 16 to 32 thousand was fastest where a core has a cache of 1 MB (Adam, both dtypes)."""

MOST_KEPT = 256
"""Of what can be made anew: beyond so many all are dropped. Those in use stay with their users."""


@dataclass
class _Places:
    """Which array holds each value while a kernel runs.

    ``bound`` says which result is the new value of which argument.
    """

    dtypes: dict[str, DType]
    bound: dict[str, str]
    scratch: dict[str, DType] = field(default_factory=dict)  # name of a scratch array -> its dtype
    _chosen: dict[str, str] = field(default_factory=dict)
    _free: list[str] = field(default_factory=list)

    def of(self, name: str) -> str:
        """Return the array that holds a value; arguments hold themselves."""
        return self._chosen.get(name, name)

    def choose(self, call: Call, position: int, last_use: Mapping[str, int]) -> str:
        """Choose the array of a call's result, after those that nobody reads any more were given back."""
        for name in set(call.inputs):
            place = self.of(name)
            if place in self.scratch and last_use[name] == position:
                self._free.append(place)
        target = self.bound.get(call.result)
        # The old value of a slot may be overwritten by the call that reads it last.
        if target is None or last_use.get(target, -1) > position:
            target = self._take(self.dtypes[call.result])
        self._chosen[call.result] = target
        return self._chosen[call.result]

    def _take(self, dtype: DType) -> str:
        for place in self._free:
            if self.scratch[place] == dtype:
                self._free.remove(place)
                return place
        place = f"scratch_{len(self.scratch)}"
        self.scratch[place] = dtype
        return place


def write_source(operations: Operations) -> tuple[str, Any, dict[str, Any]]:
    """Write operations down as a Python function of whole arrays.

    Parameters
    ----------
    operations : Operations

    Returns
    -------
    source : str
        Of ``kernel(g, theta, *arrays, *scratch)``, which returns the sums.
    functions : dict
        Maps names in the source to the functions they stand for.
    scratch : dict
        Maps each scratch array's name to its dtype.
    """
    calls, bound, sums = operations.calls, operations.bound, operations.sums
    last_use = {name: position for position, call in enumerate(calls) for name in call.inputs}
    last_use.update(dict.fromkeys([*bound, *sums], len(calls)))
    places = _Places(operations.dtypes, bound)
    lines = []
    for position, call in enumerate(calls):
        inputs = ", ".join(places.of(name) for name in call.inputs)
        place = places.choose(call, position, last_use)
        # By position is faster by 50 ns a call. NumPy 2.4 deprecates it for these two only.
        out = f"out={place}" if call.function in {np.maximum, np.minimum} else place
        lines.append(f"{call.function.__name__}({inputs}, {out})")
    lines.append(f"sums = [{', '.join(f'measure({places.of(name)})' for name in sums)}]")
    lines += [f"copyto({to}, {places.of(name)})" for name, to in bound.items() if places.of(name) != to]
    head = f"def kernel({', '.join(['g', 'theta', *operations.arrays, *places.scratch])}):"
    functions = {call.function.__name__: call.function for call in calls}
    functions |= {"measure": norm_of if operations.norms else sum_of, "copyto": np.copyto}
    return "\n    ".join([head, *lines, "return sums"]), functions, places.scratch


def sum_of(values: Array) -> float:
    """Return the sum of some entries."""
    return float(np.add.reduce(values))


def norm_of(values: Array) -> float:
    """Return the Euclidean norm of some entries, which is right where their squares are too large or too small.

    It warns of nothing, and does not depend on where the entries lie, as a BLAS may.
    """
    if not values.flags.c_contiguous:
        values = values.copy()
    square = float(np.einsum("i,i->", values, values))
    if LEAST_SQUARE[values.itemsize] < square < math.inf:
        return math.sqrt(square)
    largest = float(max(values.max(initial=0), -values.min(initial=0)))
    if not 0 < largest < math.inf:
        return largest
    scaled = values.astype(np.float64) / largest
    return largest * math.sqrt(float(np.einsum("i,i->", scaled, scaled)))


LEAST_SQUARE = {dtype.itemsize: float(np.finfo(dtype).tiny / np.finfo(dtype).eps) for dtype in map(np.dtype, "fd")}
"""Below it a sum of squares, by the size of an entry, may lack squares that were too small for the dtype."""


class _Code(NamedTuple):
    """Operations, and the code that `write_source` made of them: nothing that belongs to one θ."""

    operations: Operations
    code: Any
    functions: dict[str, Any]
    scratch: dict[str, DType]


_codes: dict[tuple[Any, ...], _Code] = {}
"""Code by what decides the operations: a fit need not trace what another has traced."""


def code_of(fused: Fused, counts: tuple[int, ...], dtype: DType) -> _Code:
    """Return fused links as code; see `NumpyEngine.kernel`."""
    key = fused.key, counts, dtype
    if key not in _codes:
        operations = trace(fused, counts, dtype)
        source, functions, scratch = write_source(operations)
        keep(_codes, key, _Code(operations, compiled(source, f"<kernel of {fused}>"), functions, scratch))
    return _codes[key]


def keep(table: dict[Any, Any], key: Any, value: Any) -> None:
    """Put something into a table of what can be made anew, which does not grow for ever."""
    if len(table) >= MOST_KEPT:
        table.clear()
    table[key] = value


@functools.lru_cache(MOST_KEPT)
def compiled(source: str, name: str) -> Any:
    """Return the code of a source that was written here."""
    return compile(source, name, "exec")


class Kernel:
    """Fused links in one function of whole arrays, run over pieces that fit the cache.

    Parameters
    ----------
    operations : Operations
    function : callable
        What `write_source` wrote.
    arrays : list of ndarray
        The flow and the slots, as the operations name them.
    scratch : list of ndarray
        Its scratch, of `PIECE` entries at most.
    coefficients : ndarray
        The vector on which the coefficients of its calls are views.
    size : int
        Entries of θ.
    """

    limit = math.inf  # seconds of work after which to think about another way
    converts = False  # whether `launch` gives what takes a contiguous, writable gradient of θ's dtype only

    def __init__(
        self,
        operations: Operations,
        function: Callable[..., list[float]],
        arrays: list[Array],
        scratch: list[Array],
        coefficients: Array,
        size: int,
    ) -> None:
        self.operations, self.arrays, self.coefficients = operations, arrays, coefficients
        self._function, self._scratch, self._size = function, scratch, size
        # Writing Python floats this way takes half as long as assigning them to a slice.
        self.write: Callable[..., None] = struct.Struct(f"{coefficients.size}{coefficients.dtype.char}").pack_into
        self._launches: dict[tuple[int, int], Any] = {}

    def run(self, g: Array, theta: Array, start: int, stop: int, coefficients: Sequence[float]) -> list[float]:
        """Run over the entries from start to stop; return the sums of what was measured."""
        self.write(self.coefficients, 0, *coefficients)
        function, arguments = self.launch(theta, start, stop)
        sums: list[float] = function(g, theta, *arguments)
        return sums

    def launch(self, theta: Array, start: int, stop: int) -> tuple[Callable[..., list[float]], list[Any]]:
        """Return what runs over the entries from start to stop: a function, and its arguments after g and θ."""
        return self._launches.get((start, stop)) or self._launch(start, stop)

    def _launch(self, start: int, stop: int) -> tuple[Callable[..., list[float]], list[Any]]:
        pieces = self._cut(start, stop)
        if len(pieces) > 1:
            launch: tuple[Any, list[Any]] = self._over_pieces, [pieces]
        elif stop - start == self._size:
            launch = self._function, pieces[0][1]
        else:
            launch = self._over_piece, [*pieces[0]]
        self._launches[start, stop] = launch
        return launch

    def _over_piece(self, g: Array, theta: Array, piece: slice, arrays: list[Array]) -> list[float]:
        return self._function(g[piece], theta[piece], *arrays)

    def _over_pieces(self, g: Array, theta: Array, pieces: Any) -> list[float]:
        sums = [self._function(g[piece], theta[piece], *arrays) for piece, arrays in pieces]
        return [total(column, self.operations.norms) for column in zip(*sums, strict=True)]

    def run_sparse(self, gradient: SparseGradient, theta: Array, coefficients: Sequence[float]) -> list[float]:
        """Run over some rows of a block alone, gathered and put back; return the sums of what was measured.

        What flows on to the next pass lies at the beginning of the block.
        """
        self.write(self.coefficients, 0, *coefficients)
        g, rows, start = gradient.values.reshape(-1), gradient.rows, gradient.where.start
        arrays, written = [], []
        for (name, is_used, is_new), whole in zip(self._uses, (theta, *self.arrays), strict=True):
            if name == "flow":
                arrays.append(whole[start : start + g.size])
                continue
            is_apart = name == "theta" and gradient.theta is not None
            table: Any = gradient.theta if is_apart else gradient.rows_of(whole)
            part = table.take(rows, axis=0) if is_used else table[:0]
            arrays.append(part.reshape(-1))
            if is_new:
                written.append((table, part))
        sums = []
        for piece in pieces_of(0, g.size):
            scratch = [array[: piece.stop - piece.start] for array in self._scratch]
            sums.append(self._function(g[piece], *(array[piece] for array in arrays), *scratch))
        for table, part in written:
            table[rows] = part
        return [total(column, self.operations.norms) for column in zip(*sums, strict=True)]

    @cached_property
    def _uses(self) -> list[tuple[str, bool, bool]]:
        """θ and the arrays by name: whether they are used, and whether they are written to."""
        new = {*self.operations.bound.values()}
        used = {name for call in self.operations.calls for name in call.inputs} | new
        return [(name, name in used, name in new) for name in ("theta", *self.operations.arrays)]

    def _cut(self, start: int, stop: int) -> list[tuple[slice, list[Array]]]:
        """Cut a range of entries into pieces, each with its views of the arrays."""
        pieces = []
        for piece in pieces_of(start, stop):
            scratch = [array[: piece.stop - piece.start] for array in self._scratch]
            pieces.append((piece, [*(array[piece] for array in self.arrays), *scratch]))
        return pieces


def pieces_of(start: int, stop: int) -> list[slice]:
    """Return the pieces of a range of entries; a block without entries is a piece too."""
    return [slice(low, min(low + PIECE, stop)) for low in range(start, max(stop, start + 1), PIECE)]


class NumpyEngine:
    """Kernels over one θ, and the memory they share.

    Parameters
    ----------
    size : int
        Entries of θ.
    dtype : dtype
        Of θ.
    """

    def __init__(self, size: int, dtype: DType) -> None:
        self.size, self.dtype = size, np.dtype(dtype)
        self.seconds = 0.0  # of work, counted where something depends on it
        self._scratch: dict[Any, Array] = {}
        self._kernels: dict[Any, Any] = {}
        self._flow: np.ndarray | None = None

    def kernel(self, fused: Fused, counts: tuple[int, ...]) -> Any:
        """Return the kernel of fused links, of which each takes so many coefficients."""
        key = tuple(link.index for link in fused.links), fused.key, counts
        if key not in self._kernels:
            keep(self._kernels, key, self._make(fused, counts))
        return self._kernels[key]

    def _make(self, fused: Fused, counts: tuple[int, ...]) -> Any:
        arrays = [self.flow()] if fused.uses_flow else []
        arrays += [slot for link in fused.links for slot in link.arrays()]
        return self.kernel_over(arrays, fused, counts, self.size)

    def kernel_over(self, arrays: list[Array], fused: Fused, counts: tuple[int, ...], size: int) -> Any:
        """Return a kernel over some entries, with the arrays that hold the flow and the slots of these."""
        operations, code, functions, scratch = code_of(fused, counts, self.dtype)
        # Arrays without dimensions: NumPy takes them in half the time of Python floats.
        vector = np.empty(sum(counts), self.dtype)
        namespace = functions | {f"c{i}": vector[i, ...] for i in range(vector.size)}
        exec(code, namespace)
        return self._kernel(operations, namespace["kernel"], arrays, self._scratch_arrays(scratch), vector, size)

    def _kernel(self, *made_of: Any) -> Kernel:
        return Kernel(*made_of)

    def flow(self) -> Array:
        """Return what flows from one pass to the next; the user's gradient is never written to."""
        if self._flow is None:
            self._flow = np.empty(self.size, self.dtype)
        return self._flow

    def _scratch_arrays(self, wanted: Mapping[str, DType]) -> list[Array]:
        """Scratch arrays of the given names and dtypes, the same for all kernels."""
        for key in wanted.items():
            if key not in self._scratch:
                self._scratch[key] = np.empty(min(PIECE, self.size), key[1])
        return [self._scratch[key] for key in wanted.items()]
