"""Optimizers that the loop of another library drives: what it may be given, and a step on its own arrays."""

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
    """Return a copy of an optimizer that a loop elsewhere can drive.

    Parameters
    ----------
    optimizer : str or Optimizer
        A name, a rule, or what is made of one and of links.
    by : str
        Who drives it, for messages.

    Returns
    -------
    optimizer : Optimizer
        Which nobody else can change.

    Raises
    ------
    TypeError
        For what takes steps of its own: full-batch methods, phases, optimizers of the user's or of other libraries.
    ValueError
        For a schedule that counts epochs or looks at losses, of which the loop does not tell.
    """
    found = get_optimizer(optimizer)
    if getattr(type(found), "update", None) is not Optimizer.update:
        raise TypeError(
            f"{by} drives rules such as 'adam', alone or in a Chain; {found!r} does not step by formulas of one "
            "gradient each, so it runs in fit only."
        )
    found.check()
    for part in parts_of(found):
        if isinstance(part, OutsideRule):
            raise TypeError(f"{by} drives our rules, and {part!r} belongs to another library: use it there as it is.")
        if isinstance(part, Schedule) and part.unit == "epoch":
            raise ValueError(
                f"The schedule {part!r} counts epochs, and {by} does not say when one ends. Use a schedule of steps, "
                f"unit='step', or one of {by}."
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
