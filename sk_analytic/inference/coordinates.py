"""The entries of θ: their names, those on a bound, and the way from the vector that moves to the user's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..parameters import Layout, Parameters
from ..typing import Array


def names_of(layout: Layout) -> list[str]:
    """Return a name for each entry: ``"w[3]"``, ``"layer.W[1, 2]"``, and ``"tau"`` for a number."""
    return [
        f"{name}[{', '.join(map(str, place))}]" if shape else name
        for name, shape in zip(layout.names, layout.shapes, strict=True)
        for place in np.ndindex(*shape)
    ]


def names_moved(theta: Parameters, names: Sequence[str]) -> list[str]:
    """Return a name for each entry of the vector: that of the parameter that it moves, or else a number."""
    layout = theta.layout
    owners = [name for name, where in zip(layout.names, layout.slices, strict=True) for _ in range(*_ends(where))]
    moved = []
    for entry, direction in enumerate(to_user(theta, np.eye(layout.size))):
        (places,) = np.nonzero(direction)
        moved.append(names[places[0]] if len(places) == 1 else f"coordinate {entry} of {owners[entry]}")
    return moved


def _ends(where: slice) -> tuple[int, int]:
    return where.start, where.stop


def on_bounds(theta: Parameters) -> Array:
    """Return the numbers of the entries of the vector that lie on a bound, where they are held."""
    low, high = theta.ends
    return np.flatnonzero((theta.vector <= low) | (theta.vector >= high))


def entries_of(theta: Parameters) -> Array:
    """Return a copy of the user's parameters as one vector."""
    return theta.as_given.vector.copy()


def structure_of(theta: Parameters) -> Any:
    """Return the user's structure to keep, of its own memory."""
    return theta.copy().to_structure()


def to_user(theta: Parameters, directions: Array) -> Array:
    """Return directions of the vector, as rows, as directions of the user's parameters: times J', J the derivative."""
    return theta.moved_by(directions)
