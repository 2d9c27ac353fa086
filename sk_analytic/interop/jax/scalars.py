"""Numbers for coefficients and schedules under jit, where the step number is a symbol.

A coefficient is a plain function of numbers, which may branch on them: ``1.0 if now.t == 1 else ...``. Under jit, there
is no number to branch on. `Scalars.run` therefore runs the function once for each combination of branches, and selects
among the results by the conditions. If the function requires a Python float, as an argument of ``math.sin``, this
raises `NeedsFloat`, and the caller evaluates the function on the host instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

MOST_CONDITIONS = 40
"""On one way through a function: a loop that waits for a symbol to change would go on for ever."""

KEEP_INTEGERS = {np.add, np.subtract, np.multiply, np.floor_divide, np.remainder, np.negative, np.absolute}
KEEP_INTEGERS |= {np.maximum, np.minimum, np.ldexp, np.less, np.less_equal, np.greater, np.greater_equal}
KEEP_INTEGERS |= {np.equal, np.not_equal}


def number_dtype() -> Any:
    """Return the dtype of numbers: float64 where jax has it, else float32."""
    return jnp.zeros((), float).dtype


class NeedsFloat(TypeError):
    """A symbol is needed as a Python number."""


class _Undecided(Exception):
    """A function branches on a condition of which the value is not known."""

    def __init__(self, condition: Scalar) -> None:
        self.condition = condition


class Scalar(NDArrayOperatorsMixin):
    """A number of jax, which ufuncs of NumPy and the operators of Python take as they take a float."""

    def __init__(self, scalars: Scalars, value: Any, key: Any) -> None:
        self.scalars, self.value, self.key = scalars, value, key

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs.keys() - {"out"}:  # out is what `+=` asks for: a new number will do
            return NotImplemented
        return self.scalars.call(ufunc, inputs)

    def __bool__(self) -> bool:
        return self.scalars.decide(self)

    def __floor__(self) -> Any:
        return self.scalars.of(jnp.floor(self.value).astype(int), ("floor", self.key))

    def __float__(self) -> NoReturn:
        raise NeedsFloat("This number is a symbol under jit.")

    __int__ = __index__ = __float__


class Scalars:
    """The numbers of one trace: the same operation on the same numbers is made once."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}
        self._decided: dict[Any, bool] = {}

    def of(self, value: Any, key: Any = None) -> Scalar:
        """Return a number of jax as one that Python code can compute with."""
        key = ("given", len(self._known)) if key is None else key
        if key not in self._known:
            self._known[key] = Scalar(self, value, key)
        found: Scalar = self._known[key]
        return found

    def call(self, ufunc: Any, inputs: Any) -> Any:
        """Return what a ufunc makes of numbers, some of which are symbols."""
        key = ufunc.__name__, *(value.key if isinstance(value, Scalar) else (type(value), value) for value in inputs)
        if key not in self._known:
            values = [_operand(value) for value in inputs]
            if ufunc not in KEEP_INTEGERS:
                values = [jnp.asarray(value, number_dtype()) for value in values]
            results = getattr(jnp, ufunc.__name__)(*values)
            several = isinstance(results, tuple)
            made = [Scalar(self, each, (*key, i)) for i, each in enumerate(results if several else [results])]
            self._known[key] = tuple(made) if several else made[0]
        return self._known[key]

    def decide(self, condition: Scalar) -> bool:
        """Return the value of a condition: a known one, or the one that is tried."""
        if not isinstance(condition.value, jax.core.Tracer):
            return bool(condition.value)
        if condition.key not in self._decided:
            if len(self._decided) >= MOST_CONDITIONS:
                raise NeedsFloat("More conditions under jit than a formula has.")
            raise _Undecided(condition)
        return self._decided[condition.key]

    def run(self, function: Callable[[], Any]) -> Any:
        """Return what a function returns, numbers in tuples and dicts; it may branch on symbols."""
        try:
            return function()
        except _Undecided as branch:
            condition = branch.condition
        results = []
        for choice in (True, False):
            self._decided[condition.key] = choice
            try:
                results.append(self.run(function))
            finally:
                del self._decided[condition.key]
        return self._choose(condition, *results)

    def _choose(self, condition: Scalar, yes: Any, no: Any) -> Any:
        if isinstance(yes, dict):
            return {name: self._choose(condition, yes[name], no[name]) for name in yes}
        if isinstance(yes, tuple):
            return tuple(self._choose(condition, a, b) for a, b in zip(yes, no, strict=True))
        keys = [value.key if isinstance(value, Scalar) else (type(value), value) for value in (yes, no)]
        if keys[0] == keys[1]:
            return yes
        chosen = jnp.where(condition.value != 0, *jnp.broadcast_arrays(_operand(yes), _operand(no)))
        return self.of(chosen, ("where", condition.key, *keys))


def _operand(value: Any) -> Any:
    """Return a number for jax: floats in the dtype of numbers, truth values as integers."""
    value = value.value if isinstance(value, Scalar) else value
    dtype = jnp.result_type(value)
    kind = int if jnp.issubdtype(dtype, jnp.bool_) or jnp.issubdtype(dtype, jnp.integer) else number_dtype()
    return jnp.asarray(value, kind)


def as_number(value: Any) -> Any:
    """Return a number, a symbol or not, as an array of jax."""
    return jnp.asarray(value.value if isinstance(value, Scalar) else value, number_dtype())
