"""Derivatives from central differences, of a function of one number that returns a number or an array."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .typing import Array

EPS = np.finfo(np.float64).eps
STEP = EPS ** (1 / 3)  # relative to what moves; balances truncation and rounding
CLEAR = 1e6 * EPS  # relative to the values; a smaller change is mostly rounding


def size_of(block: Array) -> float:
    """Typical size of a block's entries, to scale a step by; 1 if all are zero."""
    return float(np.sqrt(np.mean(np.square(block)))) or 1.0 if block.size else 1.0


def central(at: Callable[[float], Any], step: float) -> Any:
    """Return the central difference of ``at(t)`` at 0; its error falls with the square of the step."""
    return (at(step) - at(-step)) / (2 * step)


def difference(at: Callable[[float], Any], entry: float, size: float) -> Any:
    """Return the central difference by an entry of a block, whatever the units of either.

    The step is relative to the entry, so that entries of one block may differ by orders of magnitude. An entry that is
    small by chance, and not because of its units, would be moved by so little that nothing but rounding changes: the
    step is made longer until the values change clearly, up to what is common for an entry of size 1.

    Parameters
    ----------
    at : callable
        ``at(t)``: the function, a number or an array, with the entry moved by t.
    entry : float
        Its value.
    size : float
        Typical size of the entries of its block.

    Returns
    -------
    derivative : float or ndarray
    """
    step, longest = STEP * (abs(entry) or min(size, 1.0)), STEP * max(abs(entry), size, 1.0)
    above, below = at(step), at(-step)
    here = functools.cache(lambda: at(0.0))
    while step < longest and not _differ(above, below, here):
        longer = min(10 * step, longest)
        farther = at(longer), at(-longer)
        if not np.isfinite(farther).all():
            break
        step, (above, below) = longer, farther
    with np.errstate(all="ignore"):  # what is not finite is refused where it arrives
        return (above - below) / (2 * step)


def _differ(above: Any, below: Any, here: Callable[[], Any]) -> bool:
    """Whether a function changes clearly between three points, in its value or in its slope; NaN is a change."""
    with np.errstate(all="ignore"):
        rounding = CLEAR * np.max(np.abs(above))
        if not np.max(np.abs(above - below)) <= rounding:
            return True
    bend = here()
    with np.errstate(all="ignore"):
        return not np.max(np.abs(above + below - 2 * bend)) <= rounding


def richardson(coarse: Any, fine: Any) -> Any:
    """Extrapolate central differences at a step and at half of it; the error falls with the fourth power."""
    return (4 * fine - coarse) / 3


def extrapolated(at: Callable[[float], Any], step: float) -> Any:
    """Return the derivative of ``at(t)`` at 0 from differences at a step and at half of it."""
    return richardson(central(at, step), central(at, step / 2))
