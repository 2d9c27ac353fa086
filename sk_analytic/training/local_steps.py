"""Local SGD: each chunk of a dask collection takes some steps by itself, then parameters and state are averaged."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..data.batch import Batch
from ..data.rows import Rows
from ..objective import Objective
from ..optimizers.base import Optimizer
from ..optimizers.state import State
from ..parameters import Parameters
from ..typing import Array
from .interrupts import Interrupts
from .minibatches import Loop
from .progress import History

VISIBLE, NOISES = 0.1, 5.0  # differences of chunks that are told: as a share, and in units of their noise


class LocalLoop(Loop):
    """Steps that each chunk takes by itself, with its share of the rows of each; see [Stich2019]_.

    The parameters are averaged with the rows of the chunks as weights, and so is what the optimizer remembers, which
    stays with this process between the rounds.

    References
    ----------
    .. [Stich2019] S. Stich, "Local SGD converges fast and communicates little", ICLR 2019, algorithm 1.
    """

    def steps(self, epoch: int) -> Iterator[tuple[float | Any, float, int]]:
        rows: Any = self.rows
        for step in range(0, rows.steps_per_epoch, rows.local_steps):
            n_steps = min(rows.local_steps, rows.steps_per_epoch - step)
            run = partial(_taken, self.optimizer, self.state, epoch, self.total is not None)
            found = [each for each in rows.local(run, self.objective, self.theta, epoch, step, n_steps) if each[4]]
            if not found:
                continue
            thetas, states, losses, sizes, numbers, totals = zip(*found, strict=True)
            shares = np.array(numbers) / sum(numbers)
            self.interrupts.updating = True
            try:
                self.theta.vector[...] = self.theta.confined(_averaged(thetas, shares))
                self.state.return_to(State.averaged(states, shares.tolist()))
                self.history.n_steps += n_steps
            finally:
                self.interrupts.updating = False
            if self.total is not None:
                self.total += sum(totals)
            if self.interrupts.held is not None:
                self.interrupts.deliver()
            yield None if None in losses else float(shares @ losses), float(shares @ sizes), sum(numbers)


def _taken(
    optimizer: Optimizer,
    state: State,
    epoch: int,
    with_total: bool,
    objective: Objective,
    theta: Parameters,
    rows: Rows,
) -> tuple[Array, State, float | None, float, int, Any]:
    """Take the steps of a chunk: θ and state after them, means of loss and norm over its rows, and their number."""
    loop = Loop(objective, theta, optimizer, state.copy(), rows, History(), Interrupts())
    if with_total:
        loop.total = np.zeros_like(theta.vector)
    taken = list(loop.steps(epoch))
    if not taken:
        return theta.vector, loop.state, None, 0.0, 0, None
    losses, sizes, numbers = zip(*taken, strict=True)
    n = sum(numbers)
    loss = None if None in losses else float(np.dot(losses, numbers)) / n
    return theta.vector, loop.state, loss, float(np.dot(sizes, numbers)) / n, n, loop.total


def _averaged(vectors: Any, shares: Array) -> Array:
    average: Array = sum(share * vector for share, vector in zip(shares.tolist(), vectors, strict=True))
    return average


def warn_of_differences(objective: Objective, theta: Parameters, rows: Any, targets: Any) -> None:
    """Warn if chunks that train by themselves differ visibly: in the shares of classes, or in the loss at the start."""
    if rows.n_chunks == 1:
        return
    of_rows = np.array(rows.map(partial(_shares_of, targets)))
    n, shares = of_rows[:, :1], of_rows[:, 1:]
    mean = (n * shares).sum(axis=0) / n.sum()
    noise = np.sqrt(mean * (1 - mean).clip(0) / n)
    unlike = np.abs(shares - mean) > VISIBLE + NOISES * noise
    what = ""
    if unlike.any():
        index = int(np.argmax(unlike.any(axis=0))) + targets.is_binary
        what = f"their shares of class {targets.classes[index].item()!r}"
    if not what and objective.has_value:
        halves = np.array(rows.map(partial(_halves, objective, theta)))
        losses, noise = halves.mean(axis=1), np.median(np.abs(halves[:, 0] - halves[:, 1]))
        far = np.abs(losses - np.median(losses)).max()
        if far > NOISES * noise and far > VISIBLE * np.abs(losses).mean():
            what = f"the loss at the start, which is from {losses.min():.3g} to {losses.max():.3g}"
    if what:
        warnings.warn(
            f"The chunks differ in {what}: with local_steps={rows.local_steps} each goes its own way before the "
            "parameters are averaged, and their average may be far from what all rows say. Shuffle the rows between "
            "the chunks, or set local_steps=1.",
            UserWarning,
            stacklevel=7,
        )


def _shares_of(targets: Any, batch: Batch) -> list[float]:
    """The number of rows, and the share of each class or label."""
    is_classes = hasattr(targets, "classes")
    return [batch.n, *(targets.total(batch.y, None) / batch.n if is_classes else [])]


def _halves(objective: Objective, theta: Parameters, batch: Batch) -> list[float]:
    """The loss of every second row, and of the others; their difference tells its noise."""

    def loss(part: slice) -> float:
        columns = {name: column[part] for name, column in batch.columns.items()}
        weight = None if batch.sample_weight is None else batch.sample_weight[part]
        return float(objective.value(theta, Batch(batch.X[part], columns, weight, batch.position)))

    return (
        [loss(slice(None)), loss(slice(None))] if batch.n == 1 else [loss(slice(0, None, 2)), loss(slice(1, None, 2))]
    )
