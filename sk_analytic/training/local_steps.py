"""Local SGD: each chunk of a dask collection takes some steps, then parameters and optimizer states are averaged."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..data.batch import Batch
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
    """Steps that each chunk takes independently, with its share of each batch; see [Stich2019]_.

    The parameters and the state of the optimizer are averaged, weighted by the number of samples in the chunks. The
    state stays in this process between the rounds.

    References
    ----------
    .. [Stich2019] S. Stich, "Local SGD converges fast and communicates little", ICLR 2019, algorithm 1.
    """

    def steps(self, epoch: int, steps: range) -> Iterator[tuple[float | Any, float, int]]:
        rows: Any = self.rows
        for step in steps[:: rows.local_steps]:
            n_steps = min(rows.local_steps, steps.stop - step)
            run = partial(_taken, self.optimizer, self.state, epoch, self.total is not None, self.history.n_steps)
            rounds = rows.local(run, self.objective, self.theta, epoch, step, n_steps)
            taken = [each for each in rounds if each.n]
            if not taken:
                continue
            n = sum(each.n for each in taken)
            shares = [each.n / n for each in taken]
            self.interrupts.updating = True
            try:
                self.theta.vector[...] = self.theta.confined(_mean(shares, [each.vector for each in taken]))
                self.state.return_to(State.averaged([each.state for each in taken], shares))
                self.history.n_steps += n_steps
            finally:
                self.interrupts.updating = False
            if self.total is not None:
                self.total += sum(each.total for each in taken)
            if self.interrupts.held is not None:
                self.interrupts.deliver()
            losses = [each.loss for each in taken]
            yield None if None in losses else _mean(shares, losses), _mean(shares, [each.size for each in taken]), n


class Taken(NamedTuple):
    """Result of some steps of a chunk.

    Attributes
    ----------
    vector, state
        θ and the state of the optimizer after them.
    loss, size : float
        Means over the rows of the loss, None if there is none, and of the norm of the gradient.
    n : int
        Rows.
    total : ndarray or None
        Sum of the gradients over the rows, if it is wanted.
    """

    vector: Array
    state: State
    loss: float | None
    size: float
    n: int
    total: Any


def _taken(
    optimizer: Optimizer,
    state: State,
    epoch: int,
    with_total: bool,
    n_steps: int,
    objective: Objective,
    theta: Parameters,
    rows: Any,
) -> Taken:
    """Take the steps of a chunk."""
    history = History()
    history.n_steps = n_steps
    loop = Loop(objective, theta, optimizer, state.copy(), rows, history, Interrupts())
    if with_total:
        loop.total = np.zeros_like(theta.vector)
    taken = list(loop.steps(epoch, range(rows.first_step, rows.steps_per_epoch)))
    if not taken:
        return Taken(theta.vector, loop.state, None, 0.0, 0, None)
    losses, sizes, numbers = zip(*taken, strict=True)
    n = sum(numbers)
    shares = [each / n for each in numbers]
    loss = None if None in losses else _mean(shares, losses)
    return Taken(theta.vector, loop.state, loss, _mean(shares, sizes), n, loop.total)


def _mean(shares: Iterable[float], values: Iterable[Any]) -> Any:
    return sum(share * value for share, value in zip(shares, values, strict=True))


def warn_of_differences(objective: Objective, theta: Parameters, rows: Any, targets: Any) -> None:
    """Warn if the chunks differ visibly, in the proportions of classes or in the initial loss."""
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
        what = f"their proportions of class {targets.classes.tolist()[index]!r}"
    if not what and objective.has_value:
        halves = np.array(rows.map(partial(_losses_of_halves, objective, theta)))
        losses, noise = halves.mean(axis=1), np.median(np.abs(halves[:, 0] - halves[:, 1]))
        far = np.abs(losses - np.median(losses)).max()
        if far > NOISES * noise and far > VISIBLE * np.abs(losses).mean():
            what = f"the initial loss, which ranges from {losses.min():.3g} to {losses.max():.3g}"
    if what:
        warnings.warn(
            f"The chunks differ in {what}. With local_steps={rows.local_steps}, they diverge between averages, which "
            "biases the result. Shuffle the samples across chunks, or set local_steps=1.",
            UserWarning,
            stacklevel=7,
        )


def _shares_of(targets: Any, batch: Batch) -> list[float]:
    """The number of samples, and the proportion of each class or label."""
    is_classes = hasattr(targets, "classes")
    return [batch.n, *(targets.total(batch.y, None) / batch.n if is_classes else [])]


def _losses_of_halves(objective: Objective, theta: Parameters, batch: Batch) -> list[float]:
    """The loss of every second sample, and of the others; their difference estimates its noise."""

    def loss(part: slice) -> float:
        columns = {name: column[part] for name, column in batch.columns.items()}
        weight = None if batch.sample_weight is None else batch.sample_weight[part]
        return float(objective.value(theta, Batch(batch.X[part], columns, weight, batch.position)))

    halves = [slice(None)] * 2 if batch.n == 1 else [slice(0, None, 2), slice(1, None, 2)]
    return [loss(half) for half in halves]
