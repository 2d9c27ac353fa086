"""Where the user's functions are called with arrays of another namespace, and NumPy's face ends."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NoReturn

import numpy as np

from ..elsewhere import TO_HOST, Elsewhere, Place, bare, copied_to_host, detached, is_foreign, mapped

_ON_HOST = {"init", "sample", "inverse"}  # roles whose functions are called from the host alone, and may draw by NumPy


class Boundary:
    """A function of the user's, called from inside with arrays behind NumPy's face, or with NumPy arrays.

    It receives arrays of its place, and what it returns comes back as what it was called with: so what runs on the
    host, the gradient check for one, can call it as well.

    Parameters
    ----------
    function : callable
    place : Place
    role : str
        What it is, for messages.
    as_given : collection of str
        Names of arguments that are handed over as they are.
    """

    def __init__(self, function: Callable[..., Any], place: Place, role: str, as_given: Collection[str] = ()) -> None:
        self.function, self.place, self.role, self.as_given = function, place, role, as_given
        # As which function messages describe it.
        self.__qualname__ = getattr(function, "__qualname__", repr(function))
        self.__code__ = getattr(function, "__code__", None)

    def __call__(self, *args: Any, **named: Any) -> Any:
        is_inside = False

        def handed_over(value: Any) -> Any:
            nonlocal is_inside
            if isinstance(value, Elsewhere):
                is_inside = True
                return value.array
            return bare(self.place.taken_in(value)) if isinstance(value, np.ndarray) else value

        args = tuple(mapped(value, handed_over) for value in args)
        named = {n: v if n in self.as_given else mapped(v, handed_over) for n, v in named.items()}
        returned = self.function(*args, **named)
        return mapped(returned, self._taken_in if is_inside else self._taken_to_host)

    def _taken_in(self, value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic) and self.role not in _ON_HOST:
            self._refuse_numpy()
        if is_foreign(value):
            return self.place.taken_in(detached(value), f"The result of {self.role}")
        return Boundary(value, self.place, f"the pullback of {self.role}") if callable(value) else value

    def _taken_to_host(self, value: Any) -> Any:
        value = self._taken_in(value)
        return copied_to_host(value) if isinstance(value, Elsewhere) else value

    def _refuse_numpy(self) -> NoReturn:
        raise TypeError(
            f"{self.role} returned a NumPy array, but X is an array of {self.place}. Write {self.role} with functions "
            f"of {self.place.library}. Alternatively: {TO_HOST}"
        )
