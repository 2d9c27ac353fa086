"""Trace: the formulas of fused links, called once with symbols, become recorded operations.

`Trace` is the record: a list of elementwise calls, in which a second link is only a few calls more. Which
array each result is the new value of, and what is summed, stands in `Operations`: what a kernel does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike

from ...typing import DType
from .links import Fused


class Call(NamedTuple):
    """One elementwise call: names of what goes in, and of the result."""

    function: Any
    inputs: tuple[Any, ...]
    result: str


class Symbol(NDArrayOperatorsMixin):
    """What a formula gets in place of an array or a coefficient; it records what is done to it."""

    def __init__(self, trace: Trace, name: str, sample: Any, entrywise: bool = True) -> None:
        self.trace, self.name, self.sample, self.entrywise = trace, name, sample, entrywise

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method != "__call__" or out is not None or kwargs or ufunc.nout != 1:
            raise TypeError(f"{self.trace.owner}: np.{ufunc.__name__} must be called elementwise and not in place.")
        return self.trace.record(ufunc, inputs)

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function is not np.where or len(args) != 3:
            raise TypeError(f"{self.trace.owner}: np.{function.__name__} is not an elementwise function.")
        return self.trace.record(where, args)

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self.trace.owner}: a formula cannot branch on a value. Use np.where or a coefficient.")


def where(condition: Any, a: Any, b: Any, out: Any = None) -> Any:
    """Do what ``np.where`` does, with a place for the result."""
    chosen = np.where(condition, a, b)
    if out is None:
        return chosen
    out[...] = chosen
    return out


def copied(values: Any, out: Any = None) -> Any:
    """Give values a place of their own, in the dtype of that place."""
    if out is None:
        return np.copy(values)
    np.copyto(out, values)
    return out


class Trace:
    """The calls that one or several formulas make.

    Parameters
    ----------
    dtype : dtype
        Of θ, its slots and the coefficients.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = dtype
        self.owner = ""  # whose formula is traced, for messages
        self.calls: list[Call] = []
        self.dtypes: dict[str, Any] = {}
        self._known: dict[tuple[Any, ...], Symbol] = {}

    def symbol(self, name: str, entrywise: bool = True) -> Symbol:
        """Return the symbol of an array, or of a coefficient."""
        self.dtypes[name] = self.dtype
        sample = np.ones(1 if entrywise else (), self.dtype)
        return Symbol(self, name, sample, entrywise)

    def record(self, function: Callable[..., Any], inputs: Sequence[Any]) -> Symbol:
        """Record a call, unless the same was made before, and return the symbol of its result."""
        for value in inputs:
            if not isinstance(value, Symbol):
                raise TypeError(f"{self.owner}: numeric literal {value!r} in a formula; return it from `coefficients`.")
        if not any(value.entrywise for value in inputs):
            raise TypeError(f"{self.owner} computes with coefficients alone. Compute the result in `coefficients`.")
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

    def formula(self, link: Any, *values: Any) -> tuple[Any, tuple[Any, ...]]:
        """Trace what a link does to flow, θ, a list of slots and a list of coefficients.

        Returns
        -------
        flow : Symbol
            What flows on.
        news : tuple of Symbol
            The new values of the slots.
        """
        flow, theta, slots, coefficients = values
        self.owner = f"{type(link).__name__}.formula"
        results = self._entries(link.formula(flow, theta, *slots, *coefficients))
        if len(results) != 1 + len(slots):
            raise ValueError(
                f"{self.owner} returned {len(results)} values; expected the output and {len(slots)} slots."
            )
        return results[0], results[1:]

    def measures(self, link: Any, *values: Any) -> list[str]:
        """Trace what a link measures; return the names of what is to be summed."""
        flow, theta, slots, scales = values
        self.owner = f"{type(link).__name__}.measures"
        return [value.name for value in self._entries(link.measures(flow, theta, *slots, *scales))]

    def _entries(self, returned: Any) -> tuple[Any, ...]:
        values = as_tuple(returned)
        for value in values:
            if not isinstance(value, Symbol) or not value.entrywise:
                raise TypeError(f"{self.owner} returned a value that is not computed from θ, the gradient or a slot.")
        return values


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return what a formula returned, as a tuple."""
    return value if isinstance(value, tuple) else (value,)


@dataclass
class Operations:
    """What a kernel does, as elementwise calls.

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
        Names of the values that are measured.
    norms : bool
        Whether the norms of the values are measured, or the sums of their entries.
    dtypes : dict
        Of every name.
    """

    dtype: np.dtype
    arrays: list[str]
    coefficients: list[str]
    calls: list[Call]
    bound: dict[str, str]
    sums: list[str]
    norms: bool
    dtypes: dict[str, DType]

    @property
    def used(self) -> set[str]:
        """Names of what is read, written or summed."""
        return {name for call in self.calls for name in call.inputs} | {*self.bound, *self.sums}


def trace(fused: Fused, counts: Sequence[int], dtype: DType) -> Operations:
    """Return the operations of fused links, of which each takes so many coefficients."""
    record = Trace(dtype)
    flow, theta = record.symbol(fused.source), record.symbol("theta")
    names = ["flow"] if fused.uses_flow else []
    outputs: dict[str, str] = {}
    sums: list[str] = []
    first = 0
    for bound, count in zip(fused.links, counts, strict=True):
        own = [f"s{len(names) + i}" for i in range(len(bound.key[-1]))]
        names += own
        numbers = [record.symbol(f"c{i}", entrywise=False) for i in range(first, first + count)]
        first += count
        values = flow, theta, [record.symbol(name) for name in own], numbers
        if fused.measures and bound is fused.links[-1]:
            sums = record.measures(bound.declared, *values)
        else:
            flow, news = record.formula(bound.declared, *values)
            outputs |= {name: new.name for name, new in zip(own, news, strict=True)}
    if fused.target:
        outputs[fused.target] = flow.name
    calls, bound_results = _with_copies(record, outputs)
    calls = _needed(calls, {*bound_results, *sums})
    coefficients = [f"c{i}" for i in range(first)]
    return Operations(dtype, names, coefficients, calls, bound_results, sums, fused.norms, record.dtypes)


def _with_copies(record: Trace, outputs: Mapping[str, str]) -> tuple[list[Call], dict[str, str]]:
    """Return the calls, and the argument of which each result is the new value.

    What is the new value of two arguments, or an argument itself, is copied.
    """
    calls, bound = list(record.calls), {}
    results = {call.result for call in calls}
    for to, name in outputs.items():
        if name == to:
            continue
        if name in bound or name not in results or record.dtypes[name] != record.dtype:
            calls.append(Call(copied, (name,), f"copy_{to}"))
            record.dtypes[f"copy_{to}"] = record.dtype
            name = f"copy_{to}"
        bound[name] = to
    return calls, bound


def _needed(calls: Iterable[Call], wanted: set[str]) -> list[Call]:
    """Leave out the calls whose results nobody reads."""
    kept = []
    for call in reversed(list(calls)):
        if call.result in wanted:
            wanted = wanted | set(call.inputs)
            kept.append(call)
    return kept[::-1]
