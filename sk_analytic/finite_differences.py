"""Derivatives from central differences, of a function of one number that returns a number or an array."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .typing import Array


def size_of(block: Array) -> float:
    """Typical size of a block's entries, to scale a step by; 1 if all are zero."""
    return float(np.sqrt(np.mean(np.square(block)))) or 1.0 if block.size else 1.0


def central(at: Callable[[float], Any], step: float) -> Any:
    """Return the central difference of ``at(t)`` at 0; its error falls with the square of the step."""
    return (at(step) - at(-step)) / (2 * step)


def richardson(coarse: Any, fine: Any) -> Any:
    """Extrapolate central differences at a step and at half of it; the error falls with the fourth power."""
    return (4 * fine - coarse) / 3


def extrapolated(at: Callable[[float], Any], step: float) -> Any:
    """Return the derivative of ``at(t)`` at 0 from differences at a step and at half of it."""
    return richardson(central(at, step), central(at, step / 2))
