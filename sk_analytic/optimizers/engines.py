"""How formulas are run over arrays: NumPy, over blocks that fit the cache.

The formulas of links that stand in a row are called once, with symbols in place of arrays. What they
do becomes a `Tape`: a list of elementwise calls, in which a second link is only a few calls more.
`write_source` gives each call a place for its result (an array that nothing reads any more, or the
slot or the θ that it is the new value of, so that nothing is copied) and writes the calls down as a
Python function, as ``collections.namedtuple`` and ``attrs`` do. `Kernel` runs that function over
pieces of θ, so that scratch stays in the cache.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike

from ..sparse_gradients import SparseGradient
from ..typing import Array, DType

if TYPE_CHECKING:
    from .plan import Leg


PIECE = 16384
"""Entries a piece. From 16 to 32 thousand was fastest where a core has a cache of 1 MB (Adam, both dtypes)."""


MOST_KEPT = 256
"""Of what can be made anew: beyond so many all are dropped. Those in use stay with their users."""


class Call(NamedTuple):
    """One elementwise call: names of what goes in, and of the result."""

    function: Any
    inputs: tuple[Any, ...]
    result: str


class Symbol(NDArrayOperatorsMixin):
    """What a formula gets in place of an array or a coefficient; it notes what is done to it."""

    def __init__(self, tape: Tape, name: str, sample: Any, entrywise: bool = True) -> None:
        self.tape, self.name, self.sample, self.entrywise = tape, name, sample, entrywise

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method != "__call__" or out is not None or kwargs or ufunc.nout != 1:
            raise TypeError(f"{self.tape.owner}: np.{ufunc.__name__} may only be called entry by entry, not in place.")
        return self.tape.note(ufunc, inputs)

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function is not np.where or len(args) != 3:
            raise TypeError(f"{self.tape.owner}: np.{function.__name__} does not work entry by entry.")
        return self.tape.note(where, args)

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self.tape.owner}: a formula cannot branch on a value; use np.where or a coefficient.")


def where(condition: Any, a: Any, b: Any, out: Any = None) -> Any:
    """Do what ``np.where`` does, with a place for the result."""
    chosen = np.where(condition, a, b)
    if out is None:
        return chosen
    out[...] = chosen
    return out


class Tape:
    """The calls that one or several formulas make.

    Parameters
    ----------
    dtype : dtype
        Of θ, its slots and the coefficients.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = dtype
        self.owner = ""  # whose formula is read, for messages
        self.calls: list[Call] = []
        self.dtypes: dict[str, Any] = {}
        self._known: dict[tuple[Any, ...], Symbol] = {}

    def symbol(self, name: str, entrywise: bool = True) -> Symbol:
        """Return the symbol of an array, or of a coefficient."""
        self.dtypes[name] = self.dtype
        sample = np.ones(1 if entrywise else (), self.dtype)
        return Symbol(self, name, sample, entrywise)

    def note(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Symbol:
        """Write down a call, unless the same was made before, and return the symbol of its result."""
        for value in inputs:
            if not isinstance(value, Symbol):
                raise TypeError(f"{self.owner}: {value!r} stands in the formula; it must be a coefficient.")
        if not any(value.entrywise for value in inputs):
            raise TypeError(f"{self.owner} computes with coefficients alone; do that in `coefficients`.")
        key = function, *(value.name for value in inputs)
        if key not in self._known:
            # A sample of one entry tells the dtype. Its value means nothing.
            with np.errstate(all="ignore"):
                sample = function(*(value.sample for value in inputs))
            result = Symbol(self, f"x{len(self.calls)}", sample)
            self.dtypes[result.name] = sample.dtype
            self.calls.append(Call(function, key[1:], result.name))
            self._known[key] = result
        return self._known[key]

    def link(
        self, link: Any, flow: Symbol, theta: Symbol, slots: Sequence[Symbol], coefficients: Sequence[Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        """Write down what a link does.

        Returns
        -------
        flow : Symbol
            What flows on.
        news : tuple of Symbol
            The new values of the slots.
        """
        self.owner = f"{type(link).__name__}.formula"
        results = as_tuple(link.formula(flow, theta, *slots, *coefficients))
        self._expect_entries(results)
        if len(results) != 1 + len(slots):
            raise ValueError(
                f"{self.owner} returned {len(results)} values; expected what flows on, and {len(slots)} slots."
            )
        return results[0], results[1:]

    def measure(
        self, link: Any, flow: Symbol, theta: Symbol, slots: Sequence[Symbol], scales: Sequence[Any]
    ) -> tuple[Any, ...]:
        """Write down what a link measures; return the symbols whose entries are to be summed."""
        self.owner = f"{type(link).__name__}.measures"
        entries = as_tuple(link.measures(flow, theta, *slots, *scales))
        self._expect_entries(entries)
        return entries

    def _expect_entries(self, values: Iterable[Any]) -> None:
        for value in values:
            if not isinstance(value, Symbol) or not value.entrywise:
                raise TypeError(f"{self.owner} returned something that is not computed from θ, the gradient or a slot.")


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return what a formula returned, as a tuple."""
    return value if isinstance(value, tuple) else (value,)


@dataclass
class Places:
    """Which array holds each value of a tape while it runs.

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


def copied(values: Any, out: Any = None) -> Any:
    """Give values a place of their own, in the dtype of that place."""
    if out is None:
        return np.array(values)
    np.copyto(out, values)
    return out


@dataclass
class Pass:
    """A pass over θ, as elementwise calls: what engines run.

    Attributes
    ----------
    dtype : dtype
        Of θ, the slots and the coefficients.
    arrays : list of str
        Names of the flow and the slots in the calls; beside them there are ``g`` and ``theta``.
    coefficients : list of str
        Names of the coefficients.
    calls : list of Call
        In their order.
    bound : dict of {str: str}
        Maps a result to the argument whose new value it is.
    sums : list of str
        Names of the values whose entries are summed.
    dtypes : dict
        Of every name.
    """

    dtype: np.dtype
    arrays: list[str]
    coefficients: list[str]
    calls: list[Call]
    bound: dict[str, str]
    sums: list[str]
    dtypes: dict[str, DType]


def write_source(recorded: Pass) -> tuple[str, Any, dict[str, Any]]:
    """Write a pass down as a Python function of whole arrays.

    Parameters
    ----------
    recorded : Pass

    Returns
    -------
    source : str
        Of ``kernel(g, theta, *arrays, *scratch)``, which returns the sums.
    functions : dict
        Maps names in the source to the functions they stand for.
    scratch : dict
        Maps each scratch array's name to its dtype.
    """
    calls, bound, sums = recorded.calls, recorded.bound, recorded.sums
    last_use = {name: position for position, call in enumerate(calls) for name in call.inputs}
    last_use.update(dict.fromkeys([*bound, *sums], len(calls)))
    places = Places(recorded.dtypes, bound)
    lines = []
    for position, call in enumerate(calls):
        inputs = ", ".join(places.of(name) for name in call.inputs)
        place = places.choose(call, position, last_use)
        # By position is faster by 50 ns a call. NumPy 2.4 deprecates it for these two only.
        out = f"out={place}" if call.function in {np.maximum, np.minimum} else place
        lines.append(f"{call.function.__name__}({inputs}, {out})")
    lines.append(f"sums = [{', '.join(f'float(total({places.of(name)}))' for name in sums)}]")
    lines += [f"copyto({to}, {places.of(name)})" for name, to in bound.items() if places.of(name) != to]
    head = f"def kernel({', '.join(['g', 'theta', *recorded.arrays, *places.scratch])}):"
    functions = {call.function.__name__: call.function for call in calls}
    functions |= {"total": np.add.reduce, "copyto": np.copyto}
    return "\n    ".join([head, *lines, "return sums"]), functions, places.scratch


def _with_copies(tape: Tape, outputs: Any) -> tuple[list[Call], dict[str, str]]:
    """Return the calls, and the argument of which each result is the new value.

    What is the new value of two arguments, or an argument itself, is copied.
    """
    calls, bound = list(tape.calls), {}
    results = {call.result for call in calls}
    for to, name in outputs.items():
        if name == to:
            continue
        if name in bound or name not in results or tape.dtypes[name] != tape.dtype:
            calls.append(Call(copied, (name,), f"copy_{to}"))
            tape.dtypes[f"copy_{to}"] = tape.dtype
            name = f"copy_{to}"
        bound[name] = to
    return calls, bound


def _needed(calls: Sequence[Call], wanted: set[str]) -> list[Call]:
    """Leave out the calls whose results nobody reads."""
    kept = []
    for call in reversed(calls):
        if call.result in wanted:
            wanted = wanted | set(call.inputs)
            kept.append(call)
    return kept[::-1]


class _Written(NamedTuple):
    """A pass, and the code that `write_source` made of it: nothing that belongs to one θ."""

    recorded: Pass
    code: Any
    functions: dict[str, Any]
    scratch: dict[str, DType]


_written: dict[tuple[Any, ...], _Written] = {}
"""Passes by what decides their calls: a fit need not write what another has written."""


def written(leg: Leg, counts: tuple[int, ...], dtype: DType) -> _Written:
    """Return a leg as code; see `NumpyEngine.kernel`."""
    key = leg.key, counts, dtype
    if key not in _written:
        if len(_written) >= MOST_KEPT:
            _written.clear()
        recorded = _recorded(leg, counts, dtype)
        source, functions, scratch = write_source(recorded)
        _written[key] = _Written(recorded, compile(source, f"<pass of {leg}>", "exec"), functions, scratch)
    return _written[key]


def _recorded(leg: Leg, counts: tuple[int, ...], dtype: DType) -> Pass:
    """Call the formulas of a leg's links with symbols."""
    tape = Tape(dtype)
    names, outputs, sums = _record(tape, leg, counts)
    calls, bound = _with_copies(tape, outputs)
    calls = _needed(calls, {*bound, *sums})
    return Pass(dtype, names, [f"c{i}" for i in range(sum(counts))], calls, bound, sums, tape.dtypes)


def _record(tape: Tape, leg: Leg, counts: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Write a leg down; return the names of its arrays, those of their new values, and of what is summed."""
    names = ["flow"] if leg.uses_flow else []
    flow, theta = tape.symbol(leg.source), tape.symbol("theta")
    outputs: dict[str, str] = {}
    sums: list[str] = []
    first = 0
    for position, ((link, slots), count) in enumerate(zip(leg.members, counts, strict=True)):
        own = [f"s{len(names) + i}" for i in range(len(slots))]
        names += own
        coefficients = [tape.symbol(f"c{i}", entrywise=False) for i in range(first, first + count)]
        first += count
        values = flow, theta, [tape.symbol(name) for name in own], coefficients
        if leg.measures and position == len(leg.members) - 1:
            sums = [value.name for value in tape.measure(link, *values)]
        else:
            flow, news = tape.link(link, *values)
            outputs |= {name: new.name for name, new in zip(own, news, strict=True)}
    if leg.target:
        outputs[leg.target] = flow.name
    return names, outputs, sums


class Kernel:
    """A pass over θ in one function of whole arrays, run over pieces that fit the cache.

    Parameters
    ----------
    recorded : Pass
    function : callable
        What `write_source` wrote.
    arrays : list of ndarray
        The flow and the slots, as the pass names them.
    scratch : list of ndarray
        Its scratch, of `PIECE` entries at most.
    coefficients : ndarray
        The vector on which the coefficients of its calls are views.
    """

    def __init__(
        self, recorded: Pass, function: Callable[..., Any], arrays: Any, scratch: Any, coefficients: Array
    ) -> None:
        self.recorded, self.arrays, self.coefficients = recorded, arrays, coefficients
        self._function: Callable[..., list[float]] = function
        self._scratch = scratch
        # Writing Python floats this way takes half as long as assigning them to a slice.
        self.write: Callable[..., None] = struct.Struct(f"{coefficients.size}{coefficients.dtype.char}").pack_into
        self._pieces: dict[Any, Any] = {}

    def run(self, g: Array, theta: Array, start: int, stop: int, coefficients: Sequence[float]) -> list[float]:
        """Run over the entries from start to stop; return the sums of what was measured."""
        self.write(self.coefficients, 0, *coefficients)
        pieces = self._pieces.get((start, stop)) or self._cut(start, stop)
        if len(pieces) == 1:
            piece, arrays = pieces[0]
            if stop - start == len(theta):
                return self._function(g, theta, *arrays)
            return self._function(g[piece], theta[piece], *arrays)
        sums = [self._function(g[piece], theta[piece], *arrays) for piece, arrays in pieces]
        return [sum(column) for column in zip(*sums, strict=True)]

    def run_rows(self, gradient: SparseGradient, theta: Array, coefficients: Sequence[float]) -> list[float]:
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
        return [sum(column) for column in zip(*sums, strict=True)]

    @cached_property
    def _uses(self) -> list[tuple[str, bool, bool]]:
        """θ and the arrays by name: whether the pass has any use for them, and whether it writes to them."""
        recorded = self.recorded
        new = {*recorded.bound.values()}
        used = {name for call in recorded.calls for name in call.inputs} | new
        return [(name, name in used, name in new) for name in ("theta", *recorded.arrays)]

    def _cut(self, start: int, stop: int) -> list[Any]:
        """Cut a run of entries into pieces, each with its views of the arrays."""
        pieces = []
        for piece in pieces_of(start, stop):
            scratch = [array[: piece.stop - piece.start] for array in self._scratch]
            pieces.append((piece, [*(array[piece] for array in self.arrays), *scratch]))
        self._pieces[start, stop] = pieces
        return pieces


def pieces_of(start: int, stop: int) -> list[slice]:
    """Return the pieces of a run of entries; a block without entries is a piece too."""
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
        self._scratch: dict[Any, Array] = {}
        self._kernels: dict[Any, Any] = {}
        self._flow: np.ndarray | None = None

    def kernel(self, leg: Leg, coefficients: Any) -> Kernel:
        """Return the kernel of a leg.

        Parameters
        ----------
        leg : Leg
            Links with their slots, what is measured after them, where the flow comes from and goes to.
        coefficients : list of tuple
            What each member gave: their number is how many it takes.

        Returns
        -------
        kernel : Kernel
        """
        counts = tuple(map(len, coefficients))
        key = leg.key, counts
        if key not in self._kernels:
            if len(self._kernels) >= MOST_KEPT:
                self._kernels.clear()
            self._kernels[key] = self._compile(leg, counts)
        kernel: Kernel = self._kernels[key]
        return kernel

    def _compile(self, leg: Leg, counts: tuple[int, ...]) -> Any:
        recorded, code, functions, scratch = written(leg, counts, self.dtype)
        arrays = [self._flow_array()] if leg.uses_flow else []
        arrays += [slot for _, slots in leg.members for slot in slots]
        # Arrays without dimensions: NumPy takes them in half the time of Python floats.
        vector = np.empty(sum(counts), self.dtype)
        namespace = functions | {f"c{i}": vector[i, ...] for i in range(vector.size)}
        exec(code, namespace)
        return Kernel(recorded, namespace["kernel"], arrays, self._scratch_arrays(scratch), vector)

    def _flow_array(self) -> Array:
        """What flows from one pass to the next; the user's gradient is never written to."""
        if self._flow is None:
            self._flow = np.empty(self.size, self.dtype)
        return self._flow

    def _scratch_arrays(self, wanted: Mapping[str, DType]) -> list[Array]:
        """Scratch arrays of the given names and dtypes, the same for all kernels."""
        for key in wanted.items():
            if key not in self._scratch:
                self._scratch[key] = np.empty(min(PIECE, self.size), key[1])
        return [self._scratch[key] for key in wanted.items()]
