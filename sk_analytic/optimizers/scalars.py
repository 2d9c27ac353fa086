"""Functions of numbers, for coefficients and schedules: of floats, and of numbers that another library traces.

Python's `math` takes floats only. Under ``jax.jit`` the number of a step is no float but a symbol; the ufuncs of NumPy
reach such a symbol by ``__array_ufunc__``, and are slow and loud on floats. So floats take the one way, symbols the
other. Floors need no function here: ``math.floor`` asks its argument.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np


def as_float(value: Any) -> float:
    """Return a number as a float; a symbol as it is."""
    try:
        return float(value)
    except TypeError:
        symbol: float = value
        return symbol


def hypot(*values: float) -> float:
    """Return the root of the sum of the squares, which does not overflow on the way."""
    try:
        return math.hypot(*values)
    except TypeError:
        return functools.reduce(np.hypot, values)


def cos(value: float) -> float:
    """Return the cosine."""
    try:
        return math.cos(value)
    except TypeError:
        symbol: float = np.cos(value)
        return symbol


def log1p(value: float) -> float:
    """Return the logarithm of 1 plus the value."""
    try:
        return math.log1p(value)
    except TypeError:
        symbol: float = np.log1p(value)
        return symbol


def inverse_root_power_of_two(value: float) -> float:
    """Return a power of two whose square is about one over the value."""
    try:
        return math.ldexp(1.0, -math.frexp(value)[1] // 2)
    except TypeError:
        symbol: float = np.ldexp(1.0, -np.frexp(value)[1] // 2)
        return symbol
