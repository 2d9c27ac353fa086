"""Dicts and lists that callables are handed: whether one of them was written to.

Arrays are handed out read-only. A dict or a list that refused to be written to would no longer be one to jax, numba or
`isinstance`, so each is compared with what it held, by identity, after each call.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..data.batch import read_only

MOST_COMPARED = 1000
"""Entries of a container in ``model_params`` that are compared in each call; a longer one is only copied."""


class Watch:
    """The dicts and lists that one callable is handed: its parameters, and what it gets of ``model_params``.

    Parameters
    ----------
    fixed : dict
        What it gets of ``model_params`` in every call.

    Attributes
    ----------
    seen : object
        The parameters that it was handed last.
    held : list of tuple (collection, list of int)
        The items of each container, live, and who they should be.
    """

    __slots__ = ("_fixed", "_places", "held", "seen")

    def __init__(self, fixed: Mapping[str, Any]) -> None:
        self._fixed = [
            place
            for name, value in fixed.items()
            for place in _containers(value, f"model_params[{name!r}]", MOST_COMPARED)
        ]
        self.forget()

    def forget(self) -> None:
        """Let go of the parameters."""
        self.seen: Any = self
        self._take(self._fixed)

    def see(self, params: Any) -> None:
        """Take note of what parameters hold before they are handed out."""
        self.seen = params
        self._take([*_containers(params, "params"), *self._fixed])

    def _take(self, places: list[tuple[str, Any, Any]]) -> None:
        self._places = places
        self.held: list[tuple[Collection[Any], list[int]]] = [
            (container.values() if isinstance(container, dict) else container, [id(item) for item in _items(before)])
            for _, container, before in places
        ]

    def is_intact(self) -> bool:
        """Whether each container holds what it held."""
        for items, who in self.held:  # noqa: SIM110  all() takes twice as long
            if [*map(id, items)] != who:
                return False
        return True

    def change(self) -> str:
        """Say which container was written to, and what to do instead."""
        name, container, before = next(
            place for place, (items, who) in zip(self._places, self.held, strict=True) if [*map(id, items)] != who
        )
        kind = type(container).__name__
        return (
            f"the {kind} {name}: {_difference(container, before)}. Other functions receive the same {kind}, so do not "
            f"modify it. Change a copy, {kind}({name}), or use a local variable, w = params['w'] / scale."
        )


def _containers(node: Any, name: str, most: float = math.inf) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dicts and lists of a structure by name, each with a copy; none of more than ``most`` entries."""
    if not isinstance(node, dict | list | tuple) or len(node) > most:
        return
    if not isinstance(node, tuple):
        yield name, node, dict(node) if isinstance(node, dict) else list(node)
    for key, item in node.items() if isinstance(node, dict) else enumerate(node):
        yield from _containers(item, f"{name}[{key!r}]", most)


def _items(container: Any) -> Collection[Any]:
    return container.values() if isinstance(container, dict) else container


def _difference(container: Any, before: Any) -> str:
    """How a container differs from what it was."""
    now, then = (part if isinstance(part, dict) else dict(enumerate(part)) for part in (container, before))
    for key, item in then.items():
        if key not in now:
            return f"{key!r} was removed"
        if now[key] is not item:
            return f"{key!r} was replaced"
    added = [key for key in now if key not in then]
    return f"{added[0]!r} was added" if added else "its order was changed"


def shown(value: Any) -> Any:
    """Return a value of ``model_params`` as a callable gets it: arrays are read-only, dicts, lists and tuples copied.

    What else it may be is handed out as it is.
    """
    if isinstance(value, np.ndarray):
        return read_only(value)
    if issparse(value):
        return read_only(value) if value.format in ("csr", "csc", "bsr") else value.copy()
    if type(value) is dict:
        return {key: shown(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(shown, value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(shown, value))
    return value
