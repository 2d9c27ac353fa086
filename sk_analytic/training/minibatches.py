"""The loop: steps, epochs, stopping, divergence.

`train` runs a minibatch rule over epochs of rows, `minimize` hands the same objective to a full-batch
method of scipy. Both report to one `Monitor`, which records, prints and decides when to stop.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

import numpy as np
from scipy.optimize import OptimizeResult

from ..contribution import Contribution, merge
from ..data.batch import Batch
from ..data.rows import Rows
from ..exceptions import DivergenceError, noted
from ..least_squares import Residuals
from ..objective import Objective
from ..optimizers.base import Optimizer
from ..optimizers.scipy_methods import FullBatch
from ..optimizers.state import State
from ..parameters import Layout, Parameters
from ..sparse_gradients import square
from ..typing import Array, T

_HINTS = {
    "start": (
        "It is the first step, at the starting parameters: look for log(0), 0/0 or an overflowing exp in the "
        "callable, and at the scale of X and of the starting values."
    ),
    "grown": (
        "The parameters had grown {growth:.2g} times over since the start: the learning rate is probably too "
        "large. Lower it, scale X, or clip the gradient: Chain([ClipNorm(1.0), ...])."
    ),
    "later": (
        "The parameters were of moderate size: look for log(0), 0/0 or an overflowing exp in the callable; a "
        "smaller learning rate or clipping, Chain([ClipNorm(1.0), ...]), may avoid the place."
    ),
}


@dataclass
class History:
    """What has happened to θ since it was initialised.

    Attributes
    ----------
    loss_curve, validation_scores, gradient_norms : list of float
        One entry an epoch; an epoch without a loss has none in ``loss_curve``.
    n_iter, n_steps : int
        Epochs (iterations of a full-batch method), and updates of θ.
    phases : list of tuple (int, str)
        For each optimizer that has trained the epochs before it, and its class.
    learning_rates : dict of int to dict of str to float
        By epoch, from 0, the rate of each block; iterations of a full-batch method have none.
    """

    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    n_iter: int = 0
    n_steps: int = 0
    phases: list[tuple[int, str]] = field(default_factory=list)
    learning_rates: dict[int, dict[str, float]] = field(default_factory=dict)

    def begin_phase(self, name: str) -> None:
        """Take note of the optimizer that trains from now on; there is nothing new in one that goes on."""
        if not self.phases or self.phases[-1][1] != name:
            self.phases.append((self.n_iter, name))

    def copy(self) -> History:
        """Return the same history, to which a fit that goes on does not add."""
        return dataclasses.replace(
            self,
            loss_curve=list(self.loss_curve),
            validation_scores=list(self.validation_scores),
            gradient_norms=list(self.gradient_norms),
            phases=list(self.phases),
            learning_rates=dict(self.learning_rates),
        )


@dataclass
class Standing:
    """How far a fit has come on the way to its end, which one that goes on with it must know.

    Attributes
    ----------
    best : float
        The smallest of what epochs were judged by.
    best_theta : ndarray or None
        The θ that had it, where held-out rows are scored.
    without_improvement : int
        Epochs in a row without improvement.
    phase, n_iter : int
        Position of the present phase, and epochs before it.
    n_losses : int
        Entries of the loss curve before it.
    """

    best: float = math.inf
    best_theta: np.ndarray | None = None
    without_improvement: int = 0
    phase: int = 0
    n_iter: int = 0
    n_losses: int = 0

    def begin_phase(self, phase: int, history: History) -> None:
        """Take note that a phase begins: patience with it begins anew."""
        self.phase, self.n_iter, self.n_losses = phase, history.n_iter, len(history.loss_curve)
        self.without_improvement = 0


class Monitor:
    """Records an epoch, prints it, keeps the best θ, and says when to stop.

    Parameters
    ----------
    history : History
        Is appended to.
    tol : float
        An epoch is an improvement if it gains more.
    score : callable, default=None
        ``score(theta) -> float`` on held-out rows, larger is better; it then decides, and the best θ is
        kept. Without it the loss decides, and where there is none the norm of the gradient.
    verbose : bool or int, default=False
        Whether to print a line an epoch.
    standing : Standing, default=None
        Of a fit that this one goes on with.
    tasks : FitTasks, default=None
        What tells callbacks of each epoch, and whether one of them asks to stop.
    watch : callable, default=None
        ``watch(theta)`` sees the θ that predicts after each epoch.
    """

    def __init__(
        self,
        history: History,
        *,
        tol: float,
        score: Callable[[Parameters], float] | Any = None,
        verbose: bool | int = False,
        standing: Standing | None = None,
        tasks: Any = None,
        watch: Callable[[Parameters], object] | None = None,
    ) -> None:
        self.history, self.tol = history, tol
        self.score, self.verbose = score, verbose
        self.standing = Standing() if standing is None else standing
        self.tasks = tasks
        self.watch = watch
        self.n_iter_no_change = math.inf
        self.asked_to_stop = False
        self._judged = math.inf

    def wait(self) -> None:
        """Begin to count epochs without improvement anew: the optimizer has not found its scale yet."""
        self.standing.without_improvement = 0

    @property
    def stopped(self) -> bool:
        """Whether too many epochs in a row were no improvement, or a callback asked to stop."""
        return self.asked_to_stop or self._is_stale

    @property
    def _is_stale(self) -> bool:
        return self.standing.without_improvement > self.n_iter_no_change

    def epoch_begins(self, name: str = "epoch") -> None:
        """Take note that work begins that belongs to the next epoch; may be called more than once."""
        if self.tasks is not None:
            self.tasks.begin(name)

    def epoch_broken_off(self) -> None:
        """Take note that work which had begun, the line search after the last iteration, led to no epoch."""
        if self.tasks is not None:
            self.tasks.break_off()

    def epoch_ended(
        self, theta: Parameters, loss: float | None, gradient_norm: float, curve: list[float] | None = None
    ) -> bool:
        """Take in an epoch; return whether to stop.

        Parameters
        ----------
        theta : Parameters
            The θ that predicts.
        loss : float or None
        gradient_norm : float
        curve : list of float, default=None
            For schedules: is appended the loss, or minus the validation score where there is one.
        """
        history = self.history
        history.n_iter += 1
        history.gradient_norms.append(gradient_norm)
        if loss is not None:
            history.loss_curve.append(loss)
        if self.verbose:
            self._print(loss, gradient_norm)
        judged = loss if self.score is None else -self._scored(theta)
        if judged is not None and curve is not None:
            curve.append(judged)
        self._judge(gradient_norm if judged is None else judged, theta)
        if self.watch is not None:
            self.watch(theta)
        if self.tasks is not None:
            self.asked_to_stop |= self.tasks.end()
        if self.verbose and self._is_stale:
            self._print_stop(loss)
        return self.stopped

    def _scored(self, theta: Parameters) -> float:
        score = self.score(theta)
        self.history.validation_scores.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}", flush=True)
        return score

    @property
    def judges_nan(self) -> bool:
        """Whether what decides about stopping is not a number."""
        return math.isnan(self._judged)

    def _judge(self, value: float, theta: Parameters) -> None:
        """Count an epoch without improvement, which NaN never is; keep the best θ if it is scored."""
        self._judged = value
        standing = self.standing
        improved = value < standing.best - self.tol
        standing.without_improvement = 0 if improved else standing.without_improvement + 1
        if self.score is not None and (value < standing.best or standing.best_theta is None):
            standing.best_theta = theta.vector.copy()
        standing.best = min(standing.best, value)  # NaN is not taken

    def _print(self, loss: float | None, gradient_norm: float) -> None:
        shown = f"gradient norm = {gradient_norm:.8f}" if loss is None else f"loss = {loss:.8f}"
        print(f"Iteration {self.history.n_iter}, {shown}", flush=True)

    def _print_stop(self, loss: float | None) -> None:
        judged = "Validation score" if self.score else "Gradient norm" if loss is None else "Training loss"
        print(
            f"{judged} did not improve more than tol={self.tol:f} for {self.n_iter_no_change:g} consecutive epochs. "
            "Stopping.",
            flush=True,
        )


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
    with _Interrupts() as interrupts:
        loop = _Loop(objective, theta, optimizer, state, rows, monitor.history, interrupts)
        for _ in range(max_iter):
            epoch = monitor.history.n_iter
            monitor.epoch_begins()
            loss, gradient_norm = loop.epoch(epoch)
            state.epoch += 1
            monitor.history.learning_rates[epoch] = state.learning_rates
            answer = answering(theta, optimizer, state)
            with noted(f"After epoch {epoch} (counted from 0)."):
                if sample:
                    loss = objective.mean_value(answer, sample)
                if optimizer.is_growing(state, theta.vector):
                    monitor.wait()
                if monitor.epoch_ended(answer, loss, gradient_norm, state.loss_curve):
                    return True
    return False


def steps(
    objective: Objective, theta: Parameters, optimizer: Optimizer, state: State, rows: Rows
) -> Iterator[float | Any]:
    """Take one step after another, through epoch after epoch, and yield the loss of each before its update.

    Nothing is recorded and nothing ends it but a loss or gradient that is not finite.
    """
    loop = _Loop(objective, theta, optimizer, state, rows, History(), nullcontext())
    for epoch in itertools.count():
        state.epoch = epoch
        for step in range(rows.steps_per_epoch):
            loss, _, n = loop.step(epoch, step)
            if n:
                yield loss


def answering(theta: Parameters, optimizer: Any, state: State) -> Parameters:
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
        interrupts: AbstractContextManager[Any],
    ) -> None:
        self.objective, self.theta, self.optimizer, self.state = objective, theta, optimizer, state
        self.rows, self.history, self.interrupts = rows, history, interrupts
        self.finite = theta.vector.copy()
        self.size_at_start = float(max(theta.vector.max(), -theta.vector.min()))  # abs would make one more vector

    def epoch(self, epoch: int) -> tuple[float | None, float]:
        """Return the mean loss over the rows of an epoch, or None, and the mean norm of the gradient."""
        loss: float | None = 0.0
        norm, n = 0.0, 0
        for step in range(self.rows.steps_per_epoch):
            step_loss, step_norm, step_n = self.step(epoch, step)
            loss = None if loss is None or step_loss is None else loss + step_loss * step_n
            norm += step_norm * step_n
            n += step_n
        self._require_finite_theta(epoch)
        return (None if loss is None or not n else loss / n), (norm / n if n else math.nan)

    def step(self, epoch: int, step: int) -> tuple[float | None, float, int]:
        """Update θ by one batch; return its loss, the norm of its gradient and its number of rows."""
        theta = self.theta
        try:
            partial = self.rows.contribution(self.objective, theta, epoch, step)
        except Exception as error:
            error.add_note(f"In epoch {epoch}, batch {step} (both counted from 0).")
            raise
        if partial.gradient is None:
            return 0.0, 0.0, 0
        loss, gradient = self.objective.finish(theta, partial)
        sparse_grads = partial.sparse_grads
        # Unlike dot, vdot does not warn where it overflows.
        size = float(np.vdot(gradient, gradient)) if not sparse_grads else square(gradient, sparse_grads)
        if not math.isfinite(size if loss is None else size + loss):
            self._refuse_not_finite(loss, partial.dense().gradient, epoch, step)
        with self.interrupts:
            if not sparse_grads:
                self.optimizer.update(self.state, theta.vector, gradient, missing=partial.missing)
            else:
                self.optimizer.update(
                    self.state, theta.vector, gradient, missing=partial.missing, sparse_grads=sparse_grads
                )
            self.history.n_steps += 1
        return loss, math.sqrt(size), partial.n

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
        blocks = _not_finite_blocks(self.theta.layout, vector)
        self._diverged(f"The parameters are not finite after epoch {epoch} (counted from 0): block {blocks}.")

    def _diverged(self, message: str) -> NoReturn:
        cause = self._cause()
        if not np.isfinite(self.theta.vector).all():
            self.theta.vector[...] = self.finite
        raise DivergenceError(f"{message} {cause} The parameters are the last finite ones.")

    def _cause(self) -> str:
        if not self.history.n_steps:
            return _HINTS["start"]
        size = np.nan_to_num(np.abs(self.theta.vector), nan=np.inf).max()
        growth = float(size) / max(self.size_at_start, 1.0)
        return _HINTS["later"] if growth < 10 else _HINTS["grown"].format(growth=growth)


def not_finite(theta: Parameters, loss: float | None, gradient: Array, where: str) -> str | None:
    """Return a message that names what is not finite, block by block; None if everything is."""
    if math.isfinite(float(np.vdot(gradient, gradient)) + (loss or 0.0)):
        return None
    blocks = _not_finite_blocks(theta.layout, gradient)
    if blocks:
        value = "" if loss is None else f", the loss is {loss}"
        return f"The gradient is not finite {where}: block {blocks}{value}."
    if loss is not None and not math.isfinite(loss):
        return f"The loss is {loss} {where}, though the gradient is finite."
    return None


def _not_finite_blocks(layout: Layout, vector: Array) -> str:
    """Names of the blocks with entries that are not finite, with their number."""
    counts = {
        name: int((~np.isfinite(block)).sum()) for name, block in zip(layout.names, layout.blocks(vector), strict=True)
    }
    return ", ".join(f"{name!r} ({count} entries)" for name, count in counts.items() if count)


def minimize(
    objective: Objective,
    theta: Parameters,
    method: FullBatch,
    rows: Rows,
    monitor: Monitor,
    *,
    max_iter: int,
    tol: float,
) -> OptimizeResult:
    """Minimise over all rows by a full-batch method; θ is written in place.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
    method : FullBatch
    rows : rows
        One batch, or several that are summed in their order.
    monitor : Monitor
        Is told of each iteration.
    max_iter : int
        Iterations.
    tol : float
        scipy's tolerance on the gradient.

    Returns
    -------
    result : scipy.optimize.OptimizeResult
        scipy's own; ``fun`` and ``jac`` are the objective and its gradient.

    Raises
    ------
    DivergenceError
        If the start or an iterate is not finite. θ then is the best point met.
    """
    evaluation = (_ResidualEvaluation if method.residuals else _Evaluation)(objective, theta, rows, monitor)
    begun_at = monitor.history.n_iter

    def iterated(result: OptimizeResult) -> bool:
        evaluation.require_finite(result)
        theta.vector[...] = result.x
        monitor.history.n_steps += 1
        return monitor.epoch_ended(theta, float(result.fun), math.sqrt(np.vdot(result.jac, result.jac)))

    start = theta.vector.astype(np.float64)
    try:
        result = method.minimize(evaluation, start, max_iter=max_iter, tol=tol, callback=iterated)
        evaluation.require_finite(result)
        if monitor.history.n_iter == begun_at:  # it ended where it started
            theta.vector[...] = result.x
            monitor.epoch_ended(theta, float(result.fun), math.sqrt(np.vdot(result.jac, result.jac)))
    finally:
        theta.vector[...] = evaluation.best[1]
    if not np.isfinite(result.fun):
        raise DivergenceError(
            f"{type(method).__name__} ended where the objective is {result.fun} ({result.message}). "
            "The parameters are the best finite ones that it met."
        )
    if monitor.standing.best_theta is None:
        theta.vector[...] = result.x
    monitor.epoch_broken_off()
    return result


def failure(result: OptimizeResult) -> str:
    """Return in words why a full-batch method did not converge, with what is likely wrong."""
    if any(word in str(result.message).lower() for word in ("exceeded", "limit")):
        return f"{result.message} A larger max_iter or tol may help."
    if result.nit <= 1:
        return (
            f"{result.message} A line search that fails at once is nearly always a wrong gradient: run check_gradient."
        )
    return (
        f"{result.message} The gradient is {np.abs(result.jac).max():.2g} at most; a tol below what the precision of "
        "the loss allows, a kink or a gradient that is wrong in places ends a line search like this."
    )


class _Evaluation:
    """The objective over all rows as scipy calls it: value and gradient at a float64 vector."""

    def __init__(self, objective: Objective, theta: Parameters, rows: Rows, monitor: Monitor) -> None:
        self.objective, self.theta, self.rows, self.monitor = objective, theta, rows, monitor
        self.best = (math.inf, theta.vector.copy())
        self.sent_back: Array | None = None  # the last trial whose loss was not finite
        self.calls = 0

    def __call__(self, x: Array) -> tuple[float, Array]:
        theta = self.theta
        partial = self._at(x, self._partial)
        loss, gradient = self.objective.finish(theta, partial)
        if self.calls == 1:
            self._require_finite_start(loss, gradient)
        self._keep(loss)
        if not math.isfinite(loss):
            return self._send_back(x)
        return loss, gradient.astype(np.float64)

    def _send_back(self, x: Array) -> tuple[float, Array]:
        """Value and gradient for a trial whose loss is not finite.

        The line searches of scipy interpolate the values of trials; an infinite one makes the next step NaN,
        which some of them take for convergence. A finite value above the best makes them try a shorter step.
        """
        self.sent_back = np.array(x)
        best = self.best[0]
        return best + 10 * max(1.0, abs(best)), np.zeros(self.theta.layout.size)

    def _partial(self) -> Contribution:
        """The contribution of all rows: of one batch, or a sum in their order."""
        first, *later = range(self.rows.steps_per_epoch)
        partial = self.rows.contribution(self.objective, self.theta, 0, first).dense()
        if later:
            partial = merge([partial])  # kept apart from what the next batch writes over
        for step in later:
            partial = merge([partial, self.rows.contribution(self.objective, self.theta, 0, step)])
        return partial

    def _at(self, x: Array, evaluate: Callable[..., T], *arguments: Any) -> T:
        """Put θ at a point and evaluate something of the objective there; count it."""
        self.monitor.epoch_begins("iteration")
        self.theta.vector[...] = x
        try:
            evaluated = evaluate(*arguments)
        except Exception as error:
            error.add_note(f"In evaluation {self.calls} of the objective over all rows (counted from 0).")
            raise
        self.calls += 1
        return evaluated

    def _keep(self, loss: float) -> None:
        if -math.inf < loss < self.best[0]:
            self.best = (loss, self.theta.vector.copy())

    def _require_finite_start(self, loss: float | None, gradient: Array) -> None:
        message = not_finite(self.theta, loss, gradient, "at the starting parameters")
        if message is not None:
            raise DivergenceError(f"{message} {_HINTS['start']}")

    def require_finite(self, result: OptimizeResult) -> None:
        """Raise if an iterate, not a mere trial of a line search, is not finite."""
        message = not_finite(self.theta, result.fun, result.jac, "at an iterate")
        if self.sent_back is not None and np.array_equal(self.sent_back, result.x):  # some methods take it all the same
            message = "The loss is not finite at an iterate."
        if message is not None:
            raise DivergenceError(f"{message} The parameters are the best finite ones that were met.")


class _ResidualEvaluation(_Evaluation):
    """The objective as residuals and their Jacobian, over all rows at once."""

    def __init__(self, objective: Objective, theta: Parameters, rows: Rows, monitor: Monitor) -> None:
        super().__init__(objective, theta, rows, monitor)
        self.terms = Residuals(objective)

    def residuals(self, x: Array) -> Array:
        """Return the terms at a float64 vector."""
        residuals = self._at(x, self.terms.values, self.theta, self.rows).astype(np.float64)
        loss = 0.5 * float(residuals @ residuals)
        if self.calls == 1:
            self._require_finite_start(loss, np.zeros(self.theta.layout.size))
        self._keep(loss)
        return residuals

    def residual_jacobian(self, x: Array) -> Array:
        """Return their derivative."""
        return self._at(x, self.terms.jacobian, self.theta, self.rows)


class _Interrupts:
    """Lets Ctrl-C wait until an update of θ is complete.

    Entered twice: around a fit, where it stands in for the handler of SIGINT (in the main thread only),
    and around each update, during which the signal is held back.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.held: tuple[Any, ...] | None = None
        self.previous: Any = None

    def __enter__(self) -> Self:
        if self.depth == 0 and threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self.previous = handler
                signal.signal(signal.SIGINT, self._received)
        self.depth += 1
        return self

    def __exit__(self, *exception: Any) -> None:
        self.depth -= 1
        if self.depth == 0 and self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
        if self.held is not None:
            held, self.held = self.held, None
            self.previous(*held)

    def _received(self, signum: int, frame: Any) -> None:
        if self.depth > 1:
            self.held = (signum, frame)
        else:
            self.previous(signum, frame)
