"""Minibatch training: steps and epochs of an optimizer over samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np
import scipy.linalg

from ..contribution import Contribution
from ..data.batch import Batch
from ..data.rows import Rows, shortness
from ..elsewhere import on_host
from ..exceptions import DivergenceError, noted
from ..objective import Objective, evaluator
from ..optimizers.base import Optimizer
from ..optimizers.state import State, is_finite
from ..parameters import Parameters
from ..sparse_gradients import square
from ..typing import Array
from .divergence import HINTS, not_finite, not_finite_blocks
from .epoch_function import is_compiled
from .interrupts import Interrupts
from .progress import History, Monitor

HUGE = 1e-8
"""Fraction of the largest float: a step whose squared gradient is larger is checked for overflow."""


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
        Written in place, only by complete updates.
    optimizer : Optimizer
    state : state of `optimizer`
    rows : rows
        See `rows.ArrayRows` and `chunks.ChunkRows`.
    monitor : Monitor
    max_iter : int
        Epochs.
    sample : list of Batch
        Samples on which to evaluate the loss after each epoch, if the steps do not compute it.

    Returns
    -------
    stopped : bool
        Whether the monitor stopped training.

    Raises
    ------
    DivergenceError
        If a loss or gradient is not finite. θ keeps its value from before that step.
    """
    with Interrupts() as interrupts:
        loop = _loop_over(rows, objective)(objective, theta, optimizer, state, rows, monitor.history, interrupts)
        n_before, _ = state.steps_taken()
        for _ in range(max_iter):
            epoch = monitor.history.n_iter
            monitor.epoch_begins()
            loss, gradient_norm, slope = loop.epoch(epoch)
            monitor.first_batch = loop.first or monitor.first_batch
            loop.require_finite(epoch)
            state.epoch += 1
            state.flush_denormals()
            predicting = eval_params(theta, optimizer, state)
            with noted(f"After epoch {epoch} (counted from 0)."):
                if sample:
                    loss = objective.mean_value(predicting, sample)
                loop.keep(epoch, loss)
                monitor.history.note_rates(epoch, state.learning_rates)
                n_steps, loop.rate = state.steps_taken()
                if optimizer.is_growing(state, theta.vector) or monitor.rises(loop.rate):
                    monitor.wait()
                counts, n_before = n_steps is None or n_steps != n_before, n_steps
                if monitor.epoch_ended(predicting, loss, gradient_norm, slope, state.loss_curve, counts):
                    return True
    return False


def _loop_over(rows: Rows, objective: Objective) -> type[Loop]:
    if rows.local_steps != 1:
        from .local_steps import LocalLoop

        return LocalLoop
    if objective.model.gradient is not None and is_compiled(objective.model.gradient.function):
        from .compiled import CompiledLoop

        return CompiledLoop
    return Loop


def steps(
    objective: Objective, theta: Parameters, optimizer: Optimizer, state: State, rows: Rows
) -> Iterator[float | Any]:
    """Take steps, epoch after epoch, and yield the loss of each before its update.

    Nothing is recorded. It ends only with an error for a loss or gradient that is not finite.
    """
    loop = Loop(objective, theta, optimizer, state, rows, History(), Interrupts())
    for epoch in itertools.count():
        state.epoch = epoch
        for loss, _, _ in loop.steps(epoch, range(rows.steps_per_epoch)):
            yield loss


def eval_params(theta: Parameters, optimizer: Any, state: State) -> Parameters:
    """Return the θ used for prediction: the optimizer's average if it keeps one, otherwise θ itself."""
    vector = optimizer.eval_params(state, theta.vector)
    return theta if vector is theta.vector else theta.at(theta.confined(vector))


class Sums(NamedTuple):
    """Sums over the samples of an epoch: the loss (None if there is none), the gradient norm, and their number."""

    loss: float | None
    norm: float
    n: int


class Loop:
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
        self.objective, self.theta, self.optimizer, self.state, self.rows = objective, theta, optimizer, state, rows
        self.history, self.interrupts = history, interrupts
        self.evaluate = evaluator(objective, theta, rows)
        self.update = optimizer.step_function(state, theta.vector)
        self.update_parts = partial(optimizer.update, state, theta.vector)  # where some blocks have no whole gradient
        self.finite = theta.vector.copy()
        self.rate = 0.0  # the largest of the last epoch
        self.first: tuple[float | Any, float] | None = None  # loss and norm of the gradient, in the first step
        self.total = None if objective.has_value else np.empty_like(theta.vector)  # of the gradients of an epoch
        self.huge = HUGE * float(np.finfo(theta.vector.dtype).max)
        self.size_at_start = float(max(theta.vector.max(), -theta.vector.min()))  # abs would make one more vector

    def epoch(self, epoch: int) -> tuple[float | None, float, float]:
        """Run an epoch; return the mean loss over its samples, or None, and the mean norm of the gradient.

        The third value is the norm of the mean gradient if there is no loss, because it has less batch noise than the
        mean norm.
        """
        if self.total is not None:
            self.total[...] = 0
        losses, norms, n = self.sums(epoch, range(self.rows.steps_per_epoch), Sums(0.0, 0.0, 0))
        mean_norm = norms / n if n else math.nan
        slope = mean_norm if self.total is None or not n else norm(self.total) / n
        return (None if losses is None or not n else losses / n), mean_norm, slope

    def sums(self, epoch: int, steps: range, sums: Sums) -> Sums:
        """Take some steps of an epoch, and return the sums over its samples so far."""
        losses, norms, n = sums
        for loss, size, n_samples in self.steps(epoch, steps):
            losses = None if losses is None or loss is None else losses + loss * n_samples
            norms += size * n_samples
            n += n_samples
            if self.first is None:
                self.first = loss, size
        return Sums(losses, norms, n)

    def steps(self, epoch: int, steps: range) -> Iterator[tuple[float | Any, float, int]]:
        """Update θ batch by batch; yield the loss of each, the norm of its gradient and its number of samples."""
        evaluate, interrupts, history = self.evaluate, self.interrupts, self.history
        update, update_parts = self._updates()
        vdot, sqrt, huge, total = np.vdot, math.sqrt, self.huge, self.total
        for step in steps:
            try:
                contribution = evaluate(epoch, step)
            except Exception as error:
                error.add_note(f"In epoch {epoch}, batch {step} (both counted from 0).")
                raise
            loss, gradient, n_samples, missing, sparse_grads = contribution
            if gradient is None:
                continue
            if total is not None:
                total += contribution.dense().gradient * n_samples
            # Unlike dot, vdot does not warn where it overflows.
            size = square(gradient, sparse_grads) if sparse_grads else vdot(gradient, gradient)
            is_huge = not -huge < (size if loss is None else size + loss) < huge
            if is_huge:
                before = self._before_huge_step(contribution, epoch, step)
                update, update_parts = self._quiet()
            interrupts.updating = True
            try:
                if sparse_grads:
                    update_parts(gradient, missing=missing, sparse_grads=sparse_grads)
                elif missing:
                    update_parts(gradient, missing=missing)
                else:
                    update(gradient)
                history.n_steps += 1
            finally:
                interrupts.updating = False
            if is_huge:
                self._after_huge_step(before, gradient, epoch, step)
            if interrupts.held is not None:
                interrupts.deliver()
            yield loss, norm(gradient) if is_huge else sqrt(size), n_samples

    def _updates(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """Return the updates of all and of some blocks, without warnings until overflows are ruled out."""
        calm = math.sqrt(self.huge)
        is_calm = 0.0 < self.rate < calm
        return (self.update, self.update_parts) if is_calm else self._quiet()

    def _quiet(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """Return the updates without NumPy's overflow warnings, because overflows are detected separately."""
        quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
        return quiet(self.update), quiet(self.update_parts)

    def _before_huge_step(self, contribution: Contribution, epoch: int, step: int) -> tuple[Array, State]:
        """Raise if a step is not finite; if it is only huge, return copies of θ and the state."""
        gradient = contribution.dense().gradient
        message = not_finite(self.theta, contribution.loss, gradient, f"in {_where(epoch, step)}")
        if message is not None:
            message = " ".join(filter(None, (message, shortness(self.rows, epoch, step), self._cause())))
            self._diverge(message) if self._spoiled() else self._refuse(message)
        return self.theta.vector.copy(), self.state.copy()

    def _after_huge_step(self, before: tuple[Array, State], gradient: Array, epoch: int, step: int) -> None:
        """If a step overflowed, undo it and raise."""
        spoiled = self._spoiled()
        if spoiled:
            self.history.n_steps -= 1
            self.theta.vector[...], kept = before
            self.state.return_to(kept)
            self._refuse(f"{spoiled} after {_where(epoch, step)}. {_too_large(gradient)}")

    def require_finite(self, epoch: int) -> None:
        """Raise at the end of an epoch if θ or the state has overflowed, though its gradients were finite."""
        spoiled = self._spoiled()
        if spoiled:
            self._diverge(f"{spoiled} after epoch {epoch} (counted from 0). {self._cause()}")

    def keep(self, epoch: int, loss: float | None) -> None:
        """Keep θ at the end of an epoch; raise if the loss is not finite there."""
        if loss is not None and not math.isfinite(loss):
            self._diverge(f"The loss is {loss} after epoch {epoch} (counted from 0). {self._cause()}")
        self.finite[...] = self.theta.vector

    def _spoiled(self) -> str:
        """Return a message on what is not finite in θ and the state; empty if nothing is."""
        vector = self.theta.vector
        if not is_finite(vector):
            return f"The values are not finite in parameter {not_finite_blocks(self.theta.layout, vector)}"
        slot, blocks = self.state.not_finite()
        return f"The optimizer's {slot} is not finite in parameter {', '.join(map(repr, blocks))}" if slot else ""

    def _diverge(self, message: str) -> NoReturn:
        """Raise, with θ reset to the end of the last epoch and a new optimizer state."""
        self.theta.vector[...] = self.finite
        fresh = self.optimizer.init(self.theta.vector, blocks=self.theta.layout)
        fresh.step, fresh.epoch, fresh.loss_curve = self.state.step, self.state.epoch, self.state.loss_curve
        self.state.return_to(fresh)
        self._refuse(message)

    @staticmethod
    def _refuse(message: str) -> NoReturn:
        raise DivergenceError(f"{message} The parameters are the last finite ones.")

    def _cause(self) -> str:
        if not self.history.n_steps:
            return HINTS["start"]
        size = np.nan_to_num(np.abs(self.theta.vector), nan=np.inf).max()
        growth = float(size) / max(self.size_at_start, 1.0)
        return HINTS["later"] if growth < 10 else HINTS["grown"].format(growth=growth)


def _where(epoch: int, step: int) -> str:
    return f"epoch {epoch}, batch {step} (both counted from 0)"


def norm(gradient: Array) -> float:
    """The norm of a gradient whose square may overflow."""
    return float(scipy.linalg.norm(on_host(gradient), check_finite=False))


def _too_large(gradient: Array) -> str:
    """Return a message on the size of a gradient that caused an overflow, with advice."""
    wider = "" if gradient.dtype == np.float64 else " use float64,"
    return (
        f"The largest entry of the gradient is {np.abs(gradient).max():.2g}, too large for this optimizer in "
        f"{gradient.dtype}. Scale X and y,{wider} or clip the gradient: Chain([ClipNorm(1.0), ...])."
    )
