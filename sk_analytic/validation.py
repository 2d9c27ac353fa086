"""The values that a setting may take: an interval, one of some choices, or true and false.

`check_range` raises for any other value. `nearest` suggests the right word for a misspelt one.
"""

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Interval:
    """A range of real numbers, for hyperparameters and for the domain of a loss.

    Parameters
    ----------
    low, high : float
        The ends; infinite ends are always open.
    closed : {"both", "left", "right", "neither"}, default="both"
        Which ends belong to the range.
    integral : bool, default=False
        Whether only whole numbers belong to it.

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

    def holds(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Whether each of the values lies in the range; NaN never does."""
        inside: NDArray[np.bool_] = self._inside(np.asarray(values))
        return inside

    def _inside(self, values: Any) -> Any:
        above = values >= self.low if self._closes("left") else values > self.low
        below = values <= self.high if self._closes("right") else values < self.high
        return above & below

    def admits(self, value: object) -> bool:
        """Whether one hyperparameter's value is a number of this range."""
        kind = numbers.Integral if self.integral else numbers.Real
        return not isinstance(value, bool) and isinstance(value, kind) and bool(self._inside(value))

    def _closes(self, side: str) -> bool:
        end = self.low if side == "left" else self.high
        return math.isfinite(end) and self.closed in (side, "both")

    def __str__(self) -> str:
        opening = "[" if self._closes("left") else "("
        closing = "]" if self._closes("right") else ")"
        return f"{opening}{self.low}, {self.high}{closing}"

    def __repr__(self) -> str:
        integral = ", integral=True" if self.integral else ""
        return f"Interval({self.low}, {self.high}, closed={self.closed!r}{integral})"


Range: TypeAlias = Interval | tuple[Any, ...] | type[bool]
"""What a hyperparameter may be: a number of an interval, one of some choices, or true or false."""


def check_range(owner: str, name: str, value: object, allowed: Range) -> None:
    """Raise if a value is not what ``allowed`` says: an `Interval`, a tuple of choices, or ``bool``."""
    if isinstance(allowed, Interval):
        kind = "a whole number" if allowed.integral else "a number"
        fits, expected = allowed.admits(value), f"{kind} in {allowed}"
    elif allowed is bool:
        fits, expected = isinstance(value, bool | np.bool_), "True or False"
    else:
        fits = any(value is choice or _is_choice(value, choice) for choice in allowed)
        expected = "one of " + ", ".join(map(repr, allowed))
    if not fits:
        raise ValueError(f"{owner}: {name} must be {expected}; got {value!r}.")


def _is_choice(value: object, choice: object) -> bool:
    """Whether a value is one of the choices. NumPy's bools and strings count as Python's; 1 does not count as True."""
    if isinstance(choice, bool):
        return isinstance(value, bool | np.bool_) and bool(value) is choice
    return isinstance(value, type(choice)) and value == choice


def nearest(word: object, words: Iterable[object]) -> str:
    """A hint for a message: the word that was probably meant, or nothing; case does not count."""
    candidates = {str(candidate).lower(): str(candidate) for candidate in words}
    close = difflib.get_close_matches(str(word).lower(), candidates, n=1)
    return f" Did you mean {candidates[close[0]]!r}?" if close else ""
