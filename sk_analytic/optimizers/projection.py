"""Bounds for minibatch rules: after each step, θ is projected onto its limits.

The projection comes right after the step. Averages and slow weights are means of points within the limits, so they
satisfy them too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from ..typing import Array, Arrays
from .base import Link, Optimizer
from .engine.links import Placement
from .scheduled import Scheduled

SMALL = 10_000  # entries of a θ of which all pass the same links, bounded or not


class Blocks(Protocol):
    """Positions of the blocks of a vector."""

    names: tuple[str, ...]
    slices: tuple[slice, ...]


class Projection(Link):
    """Project the proposed θ onto its limits.

    Parameters
    ----------
    low, high : float or ndarray of shape (size,)
        Limits of all entries of the blocks, or of each entry of θ.
    """

    takes = gives = "theta"
    accepts_sparse_grads = True  # rows that do not move are between their limits

    def __init__(self, low: Any, high: Any) -> None:
        self.low = low
        self.high = high

    @property
    def slots(self) -> Any:
        """The limits, if each entry has its own."""
        return {"low": self.low, "high": self.high} if isinstance(self.low, np.ndarray) else {}

    def coefficients(self, now: Any) -> tuple[float, ...]:
        """Return the limits, if all entries share them."""
        return () if isinstance(self.low, np.ndarray) else (self.low, self.high)

    @property
    def formula(self) -> Any:
        """The projection, with what it leaves for the next step if that is an array."""
        return self._between_arrays if isinstance(self.low, np.ndarray) else self._between_numbers

    @staticmethod
    def _between_numbers(flow: Array, theta: Array, low: float, high: float) -> Array:
        return np.minimum(np.maximum(flow, low), high)

    @staticmethod
    def _between_arrays(flow: Array, theta: Array, low: Array, high: Array) -> Arrays:
        return np.minimum(np.maximum(flow, low), high), low, high


class Projected(Scheduled, Optimizer):
    """An optimizer whose steps are projected onto limits.

    Parameters
    ----------
    optimizer : Optimizer
    limits : tuple (low, high) of ndarray of shape (size,)
    blocks : Layout
        Names and slices of the blocks of θ.

    Raises
    ------
    ValueError
        If points of the optimizer other than θ would leave the limits.
    """

    def __init__(self, optimizer: Any, limits: tuple[Array, Array], blocks: Blocks) -> None:
        self.optimizer = optimizer
        self.limits = limits
        self.blocks = blocks

    def check(self) -> None:
        """Raise if a hyperparameter of the optimizer is outside its range."""
        self.optimizer.check()

    def place(self, blocks: dict[str, int]) -> list[Placement]:
        """Return the placements: the optimizer's links, and the projections of the proposed θ."""
        own = self.optimizer.place(blocks)
        owner = type(self.optimizer).__name__
        is_small = self.limits[0].size <= SMALL
        before: dict[int, list[int]] = {}  # by the position of a link, the blocks that are put back before it
        for name, block in blocks.items():
            where = self.blocks.slices[self.blocks.names.index(name)]
            is_bounded = any(np.isfinite(limit[where]).any() for limit in self.limits)
            if is_bounded or is_small:
                chain = [position for position, placement in enumerate(own) if block in placement.blocks]
                takers = (position for position in chain if own[position].link.takes == "theta")
                if is_bounded:
                    self._require_inside([own[position].link for position in chain], name)
                elif any(own[position].link.gives == "theta" for position in chain):
                    continue
                before.setdefault(next(takers, len(own)), []).append(block)
        placed: list[Placement] = []
        for position in range(len(own) + 1):
            placed += [Placement(link, on, owner) for link, on in self._links(before.get(position, []))]
            placed += own[position : position + 1]
        return placed

    @staticmethod
    def _require_inside(links: list[Any], name: str) -> None:
        for link in links:
            if (link.takes, link.gives) == ("gradient", "theta") and link.eval_slot is not None:
                kind = type(link).__name__
                raise ValueError(
                    f"{kind} averages points that may lie outside the bounds of parameter {name!r}. To average "
                    "points within the bounds, use Chain([Adam(), PolyakAverage()]), or replace bounds= with "
                    "reparametrize=."
                )

    def _links(self, blocks: list[int]) -> Iterator[tuple[Projection, tuple[int, ...]]]:
        """Yield projections and their blocks: one for those that have the same numbers, one for each other.

        In a small θ there is one for all, so that the step is a single kernel.
        """
        if blocks and self.limits[0].size <= SMALL:
            yield self._of_arrays(), tuple(blocks)
            return
        by_numbers: dict[tuple[float, float], list[int]] = {}
        for block in blocks:
            pair = tuple(limit[self.blocks.slices[block]] for limit in self.limits)
            if all((limit == limit[0]).all() for limit in pair):
                by_numbers.setdefault(tuple(_number(limit[0]) for limit in pair), []).append(block)  # type: ignore[arg-type]
            else:
                yield self._of_arrays(), (block,)
        for (low, high), same in by_numbers.items():
            yield Projection(low, high), tuple(same)

    def _of_arrays(self) -> Projection:
        """A projection by a limit for each entry of θ."""
        largest = np.finfo(self.limits[0].dtype).max
        return Projection(*(np.clip(limit, -largest, largest) for limit in self.limits))


def _number(limit: Any) -> float:
    """A limit that the arithmetic of a kernel can take."""
    largest = float(np.finfo(limit.dtype).max)
    return min(max(float(limit), -largest), largest)


def projected(optimizer: Any, theta: Any) -> Any:
    """Return an optimizer that keeps a θ between its limits; the same one if it has none.

    Parameters
    ----------
    optimizer : Optimizer
    theta : Parameters

    Raises
    ------
    ValueError
        For an optimizer that is not made of links.
    """
    if theta.limits is None:
        return optimizer
    if type(optimizer).update is not Optimizer.update or not hasattr(optimizer, "place"):
        raise ValueError(
            f"{type(optimizer).__name__} has its own update method, so bounds cannot be applied to its steps. Use a "
            "rule of sk_analytic.optimizers, a method such as 'lbfgs', or reparametrize= instead of bounds."
        )
    return Projected(optimizer, theta.limits, theta.layout)
