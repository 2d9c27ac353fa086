"""Minibatch training: steps and epochs of an optimizer over rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from ..data.batch import Batch
from ..data.rows import Rows
from ..exceptions import DivergenceError, noted
from ..objective import Objective, evaluator
from ..optimizers.base import Optimizer
from ..optimizers.state import State
from ..parameters import Parameters
from ..sparse_gradients import square
from ..typing import Array
from .divergence import HINTS, not_finite, not_finite_blocks
from .interrupts import Interrupts
from .progress import History, Monitor


def train(
    objective: Objective,
    theta: Parameters,
    optimizer: Optimizer,
    state: State,
    rows: Rows,
    monitor: Monitor,
    *,
    max_iter: int,
    sample: Sequence[Batch] = (),
) -> bool:
    """Train θ in place by a minibatch rule.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
        Written in place, by whole updates only.
    optimizer : Optimizer
    state : state of `optimizer`
    rows : rows
        See `rows.ArrayRows` and `chunks.ChunkRows`.
    monitor : Monitor
    max_iter : int
        Epochs.
    sample : list of Batch
        Rows on which to evaluate the loss after each epoch, where the steps give none.

    Returns
    -------
    stopped : bool
        Whether the monitor stopped it.

    Raises
    ------
    DivergenceError
        When a loss or gradient is not finite. θ is as it was before that step.
    """
    with Interrupts() as interrupts:
        loop = _Loop(objective, theta, optimizer, state, rows, monitor.history, interrupts)
        for _ in range(max_iter):
            epoch = monitor.history.n_iter
            monitor.epoch_begins()
            loss, gradient_norm = loop.epoch(epoch)
            state.epoch += 1
            state.flush_denormals()
            monitor.history.note_rates(epoch, state.learning_rates)
            predicting = eval_params(theta, optimizer, state)
            with noted(f"After epoch {epoch} (counted from 0)."):
                if sample:
                    loss = objective.mean_value(predicting, sample)
                if optimizer.is_growing(state, theta.vector):
                    monitor.wait()
                if monitor.epoch_ended(predicting, loss, gradient_norm, state.loss_curve):
                    return True
    return False


def steps(
    objective: Objective, theta: Parameters, optimizer: Optimizer, state: State, rows: Rows
) -> Iterator[float | Any]:
    """Take one step after another, through epoch after epoch, and yield the loss of each before its update.

    Nothing is recorded and nothing ends it but a loss or gradient that is not finite.
    """
    loop = _Loop(objective, theta, optimizer, state, rows, History(), Interrupts())
    for epoch in itertools.count():
        state.epoch = epoch
        for loss, _, _ in loop.steps(epoch):
            yield loss


def eval_params(theta: Parameters, optimizer: Any, state: State) -> Parameters:
    """Return the θ that predicts: the optimizer's average where it keeps one, else θ itself."""
    vector = optimizer.eval_params(state, theta.vector)
    return theta if vector is theta.vector else Parameters(theta.layout, vector)


class _Loop:
    """Steps and epochs of `train`."""

    def __init__(
        self,
        objective: Objective,
        theta: Parameters,
        optimizer: Optimizer,
        state: State,
        rows: Rows,
        history: History,
        interrupts: Interrupts,
    ) -> None:
        self.theta, self.rows, self.history, self.interrupts = theta, rows, history, interrupts
        self.evaluate = evaluator(objective, theta, rows)
        self.update = optimizer.step_function(state, theta.vector)
        self.update_parts = partial(optimizer.update, state, theta.vector)  # where some blocks have no whole gradient
        self.finite = theta.vector.copy()
        self.size_at_start = float(max(theta.vector.max(), -theta.vector.min()))  # abs would make one more vector

    def epoch(self, epoch: int) -> tuple[float | None, float]:
        """Return the mean loss over the samples of an epoch, or None, and the mean norm of the gradient."""
        losses: float | None = 0.0
        norms, n = 0.0, 0
        for loss, norm, n_samples in self.steps(epoch):
            losses = None if losses is None or loss is None else losses + loss * n_samples
            norms += norm * n_samples
            n += n_samples
        self._require_finite_theta(epoch)
        return (None if losses is None or not n else losses / n), (norms / n if n else math.nan)

    def steps(self, epoch: int) -> Iterator[tuple[float | Any, float, int]]:
        """Update θ batch by batch; yield the loss of each, the norm of its gradient and its number of samples."""
        evaluate, update, interrupts, history = self.evaluate, self.update, self.interrupts, self.history
        vdot, isfinite, sqrt = np.vdot, math.isfinite, math.sqrt
        for step in range(self.rows.steps_per_epoch):
            try:
                contribution = evaluate(epoch, step)
            except Exception as error:
                error.add_note(f"In epoch {epoch}, batch {step} (both counted from 0).")
                raise
            loss, gradient, n_samples, missing, sparse_grads = contribution
            if gradient is None:
                continue
            # Unlike dot, vdot does not warn where it overflows.
            size = square(gradient, sparse_grads) if sparse_grads else vdot(gradient, gradient)
            if not isfinite(size if loss is None else size + loss):
                self._refuse_not_finite(loss, contribution.dense().gradient, epoch, step)
            interrupts.updating = True
            try:
                if sparse_grads:
                    self.update_parts(gradient, missing=missing, sparse_grads=sparse_grads)
                elif missing:
                    self.update_parts(gradient, missing=missing)
                else:
                    update(gradient)
                history.n_steps += 1
            finally:
                interrupts.updating = False
            if interrupts.held is not None:
                interrupts.deliver()
            yield loss, sqrt(size), n_samples

    def _refuse_not_finite(self, loss: float | None, gradient: Array, epoch: int, step: int) -> None:
        """Raise if the step is really not finite: a square may overflow where no entry does."""
        where = f"in epoch {epoch}, batch {step} (both counted from 0)"
        message = not_finite(self.theta, loss, gradient, where)
        if message is not None:
            self._diverged(message)

    def _require_finite_theta(self, epoch: int) -> None:
        """Keep θ at the end of an epoch; raise if an update has overflowed, though its gradient was finite."""
        vector = self.theta.vector
        if math.isfinite(np.vdot(vector, vector)) or np.isfinite(vector).all():
            self.finite[...] = vector
            return
        blocks = not_finite_blocks(self.theta.layout, vector)
        self._diverged(f"The parameters are not finite after epoch {epoch} (counted from 0): block {blocks}.")

    def _diverged(self, message: str) -> NoReturn:
        cause = self._cause()
        if not np.isfinite(self.theta.vector).all():
            self.theta.vector[...] = self.finite
        raise DivergenceError(f"{message} {cause} The parameters are the last finite ones.")

    def _cause(self) -> str:
        if not self.history.n_steps:
            return HINTS["start"]
        size = np.nan_to_num(np.abs(self.theta.vector), nan=np.inf).max()
        growth = float(size) / max(self.size_at_start, 1.0)
        return HINTS["later"] if growth < 10 else HINTS["grown"].format(growth=growth)
