"""The entries of θ: their names, those on a bound, and the way from the vector that moves to the user's parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..objective import Objective
from ..parameters import Layout, Parameters
from ..typing import Array


def names_of(layout: Layout) -> list[str]:
    """Return a name for each entry: ``"w[3]"``, ``"layer.W[1, 2]"``, and ``"tau"`` for a number."""
    return [
        f"{name}[{', '.join(map(str, place))}]" if shape else name
        for name, shape in zip(layout.names, layout.shapes, strict=True)
        for place in np.ndindex(*shape)
    ]


def on_bounds(objective: Objective, theta: Parameters) -> Array:
    """Return the numbers of the entries that lie on a bound, where they are held."""
    return np.empty(0, dtype=np.intp)


def entries_of(theta: Parameters) -> Array:
    """Return a copy of the user's parameters as one vector."""
    return theta.vector.copy()


def structure_of(theta: Parameters) -> Any:
    """Return the user's structure to keep, of its own memory."""
    return theta.layout.to_structure(entries_of(theta))


def to_user(theta: Parameters, directions: Array) -> Array:
    """Return directions of the vector, as rows, as directions of the user's parameters: times J', J the derivative."""
    return directions
