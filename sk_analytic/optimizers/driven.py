"""Optimizers driven by the training loop of another library: checks, and a step on its arrays."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from .base import Optimizer
from .engine.blocks import BlockState
from .engine.run import parts_of
from .outside import OutsideRule
from .registry import get_optimizer
from .schedules import Schedule


def driven(optimizer: object, by: str) -> Any:
    """Return a copy of an optimizer that another library's loop can drive.

    Parameters
    ----------
    optimizer : str or Optimizer
        A name, a rule, or a chain of links and a rule.
    by : str
        Name of the driver, for messages.

    Returns
    -------
    optimizer : Optimizer
        A copy that nobody else holds.

    Raises
    ------
    TypeError
        For full-batch methods, phases, and optimizers with an ``update`` of their own or of another library.
    ValueError
        For a schedule that depends on epochs or losses, which the loop does not report.
    """
    found = get_optimizer(optimizer)
    if getattr(type(found), "update", None) is not Optimizer.update:
        raise TypeError(
            f"{by} supports update rules such as 'adam', alone or in a Chain; {found!r} can only be used in the "
            "estimators."
        )
    found.check()
    for part in parts_of(found):
        if isinstance(part, OutsideRule):
            raise TypeError(f"{part!r} already belongs to another library. Use the original in {by}.")
        if isinstance(part, Schedule) and part.unit == "epoch":
            raise ValueError(
                f"The schedule {part!r} counts epochs, but {by} does not report when one ends. Use a schedule with "
                f"unit='step', or a schedule of {by}."
            )
    return copy.deepcopy(found)


def step(
    optimizer: Optimizer, state: BlockState, theta: list[Any], grads: Sequence[Any], missing: tuple[int, ...] = ()
) -> None:
    """Take one step of `Optimizer.update` on a list of blocks.

    Parameters
    ----------
    optimizer : Optimizer
    state : BlockState
    theta : list of array
        Vectors, which are written in place, with a `ViewEngine`; with a `ReplayEngine` the list gets new arrays.
    grads : sequence of array
        Of the blocks; None for those that have none.
    missing : tuple of int, default=()
        Blocks that have none.
    """
    optimizer._run(state, theta).step(theta, grads, missing)
    state.step += 1
