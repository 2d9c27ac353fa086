"""Validation of settings: intervals, choices, and Booleans.

`check_range` raises an error for any other value. `nearest` suggests the right word for a misspelt one.
"""

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Interval:
    """A range of real numbers, for hyperparameters and for the domain of a loss.

    Parameters
    ----------
    low, high : float
        Ends of the interval. Infinite ends are open.
    closed : {"both", "left", "right", "neither"}, default="both"
        Which ends belong to the interval.
    integral : bool, default=False
        Whether only integers belong to it.

    Examples
    --------
    >>> from sk_analytic.validation import Interval
    >>> print(Interval(0, 1, closed="left"))
    [0, 1)
    >>> Interval(0, 1, closed="left").holds([0.0, 1.0])
    array([ True, False])
    """

    def __init__(self, low: float, high: float, *, closed: str = "both", integral: bool = False) -> None:
        self.low, self.high, self.closed, self.integral = low, high, closed, integral
        self._has_low, self._has_high = (
            math.isfinite(end) and closed in (side, "both") for end, side in ((low, "left"), (high, "right"))
        )

    def holds(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each value lies in the interval. NaN never does."""
        inside: NDArray[np.bool_] = self._inside(np.asarray(values))
        return inside

    def _inside(self, values: Any) -> Any:
        above = values >= self.low if self._has_low else values > self.low
        below = values <= self.high if self._has_high else values < self.high
        return above & below

    def admits(self, value: object) -> bool:
        """Whether the value of a hyperparameter is a number in this interval."""
        # Nearly all values are plain numbers; asking an abstract class takes as long as a step of a small θ.
        if type(value) is int or (type(value) is float and not self.integral):
            return bool(self._inside(value))
        kind = numbers.Integral if self.integral else numbers.Real
        return not isinstance(value, bool) and isinstance(value, kind) and bool(self._inside(value))

    def __str__(self) -> str:
        return f"{'[' if self._has_low else '('}{self.low}, {self.high}{']' if self._has_high else ')'}"

    def __repr__(self) -> str:
        integral = ", integral=True" if self.integral else ""
        return f"Interval({self.low}, {self.high}, closed={self.closed!r}{integral})"


Range: TypeAlias = Interval | tuple[Any, ...] | type[bool]
"""Allowed values of a hyperparameter: a number in an interval, one of several choices (or intervals), or a Boolean."""


def check_range(owner: str, name: str, value: object, allowed: Range) -> None:
    """Raise an error unless a value is allowed: by an `Interval`, a tuple of choices (or intervals), or ``bool``."""
    if not _is_in(value, allowed):
        raise ValueError(f"{owner}: {name} must be {_described(allowed)}; got {value!r}.")


def _is_in(value: object, allowed: Range) -> bool:
    if isinstance(allowed, Interval):
        return allowed.admits(value)
    if allowed is bool:
        return isinstance(value, bool | np.bool_)
    choices: Any = allowed
    return any(value is choice or _is_choice(value, choice) for choice in choices)


def _is_choice(value: object, choice: object) -> bool:
    """Whether a value is one of the choices. NumPy's bools and strings count as Python's; 1 does not count as True."""
    if isinstance(choice, Interval):
        return choice.admits(value)
    if isinstance(choice, bool):
        return isinstance(value, bool | np.bool_) and bool(value) is choice
    return isinstance(value, type(choice)) and value == choice


def _described(allowed: Range) -> str:
    if isinstance(allowed, Interval):
        return f"{'a whole number' if allowed.integral else 'a number'} in {allowed}"
    if allowed is bool:
        return "True or False"
    choices: Any = allowed
    if any(isinstance(choice, Interval) for choice in choices):
        return " or ".join(_described(choice) if isinstance(choice, Interval) else repr(choice) for choice in choices)
    return "one of " + ", ".join(map(repr, choices))


def nearest(word: object, words: Iterable[object], elsewhere: Mapping[str, str] | None = None) -> str:
    """Return a hint for a message: the most similar word, ignoring case, or an empty string.

    ``elsewhere`` maps names in other libraries to names in this one.
    """
    if elsewhere and str(word).lower() in elsewhere:
        return f" Did you mean {elsewhere[str(word).lower()]!r}?"
    candidates = {str(candidate).lower(): str(candidate) for candidate in words}
    close = difflib.get_close_matches(str(word).lower(), candidates, n=1)
    return f" Did you mean {candidates[close[0]]!r}?" if close else ""
