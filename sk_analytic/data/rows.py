"""The interface between training and samples, wherever these are, and a base class for custom batch sources.

`Rows` is the interface: arrays in memory, chunks from disk, or a cluster whose workers compute contributions of their
samples. `BatchedRows` implements it for samples that come as batches into this process: a subclass only needs
``batch(epoch, step)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..contribution import Contribution, merge
from ..parameters import Parameters
from ..typing import Array, T
from .batch import Batch


class BatchObjective(Protocol):
    """Interface of an objective for samples: its contribution of one batch. It may be sent to another process."""

    def contribution(self, theta: Parameters, batch: Batch) -> Contribution:
        """Return the contribution of a batch."""


class Rows(Protocol):
    """Interface that training uses to access samples, which may be in another process.

    Attributes
    ----------
    n_samples : int
        Number of samples.
    batch_size : int
        Number of samples in a batch; the last of an epoch may be smaller, or left out.
    steps_per_epoch : int
    local_steps : int
        Number of steps that parts of the data take independently; 1 if none.
    """

    n_samples: int
    batch_size: int
    steps_per_epoch: int
    local_steps: int

    @property
    def first(self) -> BatchedRows:
        """The samples that `init` uses."""

    @property
    def telling(self) -> BatchedRows:
        """The samples that the gradient check uses."""

    def contribution(self, objective: BatchObjective, theta: Parameters, epoch: int, step: int) -> Contribution:
        """Return the objective's contribution of one batch; its gradient is valid until the next call."""

    def total(self, objective: BatchObjective, theta: Parameters) -> Contribution:
        """Return the objective's contribution of all samples, without sparse gradients; valid until the next call."""

    def map(self, function: Callable[[Batch], T]) -> list[T]:
        """Apply a function to all batches; return the list of results."""

    def sample(self, n_batches: int, purpose: int, batch_size: int | None = None) -> list[Batch]:
        """Return a fixed random subset of the samples with non-zero weight."""

    def release(self) -> None:
        """Release resources held elsewhere, at the end of a fit."""


class BatchedRows(ABC):
    """Samples that come as batches into this process; base class of custom batch sources.

    A subclass implements `batch`. Everything else follows from it, and may be overridden. A batch must depend only on
    its epoch and step, so that a repeated or resumed run gets the same samples: use `generator(seed, epoch, step)`.

    Parameters
    ----------
    batch_size : int
        Rows of a batch.
    steps_per_epoch : int
        Number of batches per epoch. If samples are drawn without end, it sets how often training records the loss,
        calls callbacks and decides whether to stop.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.data.batch import Batch, generator
    >>> from sk_analytic.data.rows import BatchedRows
    >>> class NoisyLine(BatchedRows):
    ...     def batch(self, epoch, step):
    ...         rng = generator(0, epoch, step)
    ...         X = rng.normal(size=(self.batch_size, 1))
    ...         return Batch(X, {"y": 2 * X[:, 0] + rng.normal(size=self.batch_size)})
    >>> rows = NoisyLine(batch_size=32, steps_per_epoch=10)
    >>> rows.n_samples, rows.batch(3, 1).X.shape
    (320, (32, 1))
    """

    n_samples: int
    batch_size: int
    steps_per_epoch: int
    local_steps = 1

    def __init__(self, batch_size: int, steps_per_epoch: int) -> None:
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.n_samples = batch_size * steps_per_epoch

    @abstractmethod
    def batch(self, epoch: int, step: int) -> Batch:
        """Return the samples of a step; valid until the next call.

        If a callable receives ``rng``, its random numbers are determined by the batch's ``position``, which should be
        ``(seed, CALLABLE, epoch, step)``.
        """

    def n_of(self, epoch: int, step: int) -> int:
        """Return the number of samples in a step."""
        return self.batch_size

    @property
    def first(self) -> BatchedRows:
        """The samples used by `init` and the gradient check: these."""
        return self

    @property
    def telling(self) -> BatchedRows:
        """The samples used by the gradient check if the first ones carry no information."""
        return self.first

    @property
    def everything(self) -> Batch:
        """The batch that `init` receives: the first."""
        return self.batch(0, 0)

    def contribution(self, objective: BatchObjective, theta: Parameters, epoch: int, step: int) -> Contribution:
        """Return the objective's contribution of one batch; its gradient is valid until the next call."""
        batch = self.batch(epoch, step)
        try:
            return objective.contribution(theta, batch)
        except Exception as error:
            note_if_short(error, self, epoch, step)
            raise

    def total(self, objective: BatchObjective, theta: Parameters) -> Contribution:
        """Return the objective's contribution of all batches of epoch 0, without row gradients."""
        if self.steps_per_epoch == 1:
            return self.contribution(objective, theta, 0, 0).dense()
        return merge(self.contribution(objective, theta, 0, step) for step in range(self.steps_per_epoch)).dense()

    def map(self, function: Callable[[Batch], T]) -> list[T]:
        """Apply a function to the batches of epoch 0; return the list of results."""
        return [function(self.batch(0, step)) for step in range(self.steps_per_epoch)]

    def release(self) -> None:  # noqa: B027
        """Do nothing, because no resources are held elsewhere."""

    def drawn(self, n: int, purpose: int) -> Array:
        """Return the numbers of the rows of a sample: the first."""
        return np.arange(min(n, self.n_samples))

    def sample(self, n_batches: int, purpose: int, batch_size: int | None = None) -> list[Batch]:
        """Return the first batches of epoch 0, or the first rows of each.

        Parameters
        ----------
        n_batches : int
            Number of batches, at most those of an epoch.
        purpose : int
            Purpose of the random numbers: part of the position of the generator that callables receive.
        batch_size : int, default=None
            Number of samples in a batch, by default as in training.

        Returns
        -------
        batches : list of Batch
            Copies.
        """
        steps = range(min(n_batches, self.steps_per_epoch))
        return [_kept(self.batch(0, step), batch_size, purpose, step) for step in steps]


def shortness(rows: Rows, epoch: int, step: int) -> str:
    """Return a note if a batch is shorter than the others, otherwise an empty string."""
    n = rows.n_of(epoch, step) if isinstance(rows, BatchedRows) else rows.batch_size
    if n == rows.batch_size:
        return ""
    return (
        f"This batch has {n} sample{'s' * (n > 1)}, the remainder after batches of {rows.batch_size}. Choose another "
        "batch_size, or leave it out of minibatches with drop_last=True."
    )


def note_if_short(error: Exception, rows: Rows, epoch: int, step: int) -> None:
    """Add a note to an error if its batch is shorter than the others."""
    note = shortness(rows, epoch, step)
    if note:
        error.add_note(note)


def _kept(batch: Batch, n: int | None, purpose: int, step: int) -> Batch:
    """A copy of the first rows of a batch, at a position of its own."""
    kept = batch.head(n)
    kept.position = (batch.position[0], purpose, 0, step)
    return kept
