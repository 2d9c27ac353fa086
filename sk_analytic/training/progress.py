"""Progress of training: the history of the epochs, the stopping criterion, and the monitor of both."""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from ..parameters import Parameters
from ..trust import trusted

CURVES = ("loss_curve", "validation_scores", "gradient_norms")
Rates: TypeAlias = tuple[tuple[tuple[str, ...], ...], tuple[float, ...]]  # blocks that share a rate, and the rates


@trusted
@dataclass
class History:
    """Record of training since θ was initialized.

    Attributes
    ----------
    loss_curve, validation_scores, gradient_norms : list of float
        One entry per epoch, except that an epoch without a loss has none in ``loss_curve``.
    n_iter, n_steps : int
        Number of epochs (iterations for a full-batch method), and of updates of θ.
    phases : list of tuple (int, str)
        For each optimizer, the number of epochs before it and its class name.
    rates : dict of int to tuple
        By epoch, from 0: names of the blocks that share a rate, and those rates. Epochs that are alike share them too,
        so that what is kept does not grow with the blocks. Iterations of a full-batch method have none.
    """

    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    n_iter: int = 0
    n_steps: int = 0
    phases: list[tuple[int, str]] = field(default_factory=list)
    rates: dict[int, Rates] = field(default_factory=dict)

    _whole: tuple[int, ...] = field(default=(0, 0, 0, 0), init=False, repr=False, compare=False)
    _packed: dict[str, array[float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def begin_phase(self, name: str) -> None:
        """Record the optimizer of the following epochs, unless it is the same as before."""
        if not self.phases or self.phases[-1][1] != name:
            self.phases.append((self.n_iter, name))

    def mark(self) -> None:
        """Record that the figures of all epochs so far are complete."""
        lengths = len(self.loss_curve), len(self.validation_scores), len(self.gradient_norms)
        self._whole = self.n_iter, *lengths

    def cut(self) -> None:
        """Drop the figures of an epoch that was interrupted before they were complete."""
        n_iter, *lengths = self._whole
        for curve, length in zip(CURVES, lengths, strict=True):
            del getattr(self, curve)[length:]
        self.n_iter = n_iter
        self.rates.pop(n_iter, None)

    def note_rates(self, epoch: int, learning_rates: Mapping[str, float]) -> None:
        """Record the learning rate of each block in an epoch."""
        together: dict[float, list[str]] = {}
        for name, rate in learning_rates.items():
            together.setdefault(rate, []).append(name)
        groups = tuple(map(tuple, together.values()))
        before = next(reversed(self.rates.values()), ((), ()))
        found = (before[0] if before[0] == groups else groups), tuple(together)
        self.rates[epoch] = before if before == found else found

    @property
    def learning_rates(self) -> dict[int, dict[str, float]]:
        """The learning rate of each block by name, by epoch from 0."""
        return {
            epoch: {name: rate for names, rate in zip(*found, strict=True) for name in names}
            for epoch, found in self.rates.items()
        }

    def copy(self) -> History:
        """Return a copy of the history, which a continued fit does not change.

        Its curves are packed, so that it takes no longer to write it after many epochs: only what is new is converted.
        """
        twin = dataclasses.replace(
            self,
            loss_curve=list(self.loss_curve),
            validation_scores=list(self.validation_scores),
            gradient_norms=list(self.gradient_norms),
            phases=list(self.phases),
            rates=dict(self.rates),
        )
        for curve in CURVES:
            packed = self._packed.setdefault(curve, array("d"))
            packed.extend(getattr(self, curve)[len(packed) :])
            twin._packed[curve] = packed[:]
        return twin

    def __getstate__(self) -> dict[str, Any]:
        packed = {
            curve: np.frombuffer(values)
            for curve, values in self._packed.items()
            if values and len(values) == len(getattr(self, curve))
        }
        return {**vars(self), **packed, "_packed": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for curve in CURVES:
            if isinstance(state[curve], np.ndarray):
                setattr(self, curve, state[curve].tolist())


@trusted
@dataclass
class StoppingState:
    """Progress of a fit towards its stopping criterion, which a fit that continues it needs.

    Attributes
    ----------
    best, first : float
        Smallest value of the criterion, and its value after the first epoch.
    best_theta : ndarray or None
        The θ of the best epoch, if held-out samples are scored.
    without_improvement : int
        Number of consecutive epochs without improvement.
    has_improved : bool
        Whether any epoch has improved on the first.
    largest_rate : float
        The largest learning rate in the present phase; infinite before its first epoch.
    phase, n_iter : int
        Position of the present phase, and epochs before it.
    n_losses : int
        Entries of the loss curve before it.
    """

    best: float = math.inf
    first: float = math.inf
    best_theta: np.ndarray | None = None
    without_improvement: int = 0
    has_improved: bool = False
    largest_rate: float = math.inf
    phase: int = 0
    n_iter: int = 0
    n_losses: int = 0

    def begin_phase(self, phase: int, history: History) -> None:
        """Record the beginning of a phase, and reset the count of epochs without improvement."""
        self.phase, self.n_iter, self.n_losses = phase, history.n_iter, len(history.loss_curve)
        self.without_improvement, self.largest_rate = 0, math.inf

    def restarted(self, history: History) -> StoppingState:
        """Return a copy for a run that may take as many epochs again."""
        return dataclasses.replace(self, n_iter=history.n_iter, n_losses=len(history.loss_curve))


class Monitor:
    """Records an epoch, prints it, keeps the best θ, and says when to stop.

    Parameters
    ----------
    history : History
        The history to append to.
    tol : float or None
        An epoch improves if the value decreases by more than this fraction of the best value, or of the total decrease
        so far if that is less. None means 0.
    rounding : float, default=0.0
        Fraction of the best value below which no gain counts, because the precision of θ does not resolve it.
    largest_score : float, default=inf
        Score of perfect predictions.
    score : callable, default=None
        ``score(theta) -> float`` on held-out samples, larger is better. If given, it is monitored and the best θ is
        kept. Otherwise the loss is monitored or, if there is none, the norm of the gradient.
    verbose : bool or int, default=False
        Whether to print progress after each epoch.
    stopping : StoppingState, default=None
        State of the fit that this one continues.
    tasks : FitTasks, default=None
        Notifies callbacks of each epoch, and tells whether one of them asks to stop.
    watch : callable, default=None
        Called as ``watch(theta)`` after each epoch, with the θ used for prediction.
    """

    def __init__(
        self,
        history: History,
        *,
        tol: float | None,
        score: Callable[[Parameters], float] | Any = None,
        verbose: bool | int = False,
        stopping: StoppingState | None = None,
        tasks: Any = None,
        watch: Callable[[Parameters], object] | None = None,
        rounding: float = 0.0,
        largest_score: float = math.inf,
    ) -> None:
        self.history, self.tol = history, tol
        self.score, self.verbose = score, verbose
        self.stopping = StoppingState() if stopping is None else stopping
        self.tasks = tasks
        self.watch = watch
        self.rounding, self.largest_score = rounding, largest_score
        self.n_iter_no_change = math.inf
        self.asked_to_stop = False
        self.first_batch: tuple[float | None, float] = None, math.inf  # of a phase: loss and norm of the gradient
        self._judged = math.inf

    def wait(self) -> None:
        """Reset the count of epochs without improvement, because the optimizer has not found its scale yet."""
        self.stopping.without_improvement = 0

    def rises(self, rate: float) -> bool:
        """Whether a learning rate is larger than any in the phase before: the schedule is still warming up."""
        before = self.stopping.largest_rate
        self.stopping.largest_rate = rate if math.isinf(before) else max(before, rate)
        return rate > before

    @property
    def stopped(self) -> bool:
        """Whether too many consecutive epochs brought no improvement, or a callback asked to stop."""
        return self.asked_to_stop or self._is_stale

    @property
    def _is_stale(self) -> bool:
        return self.stopping.without_improvement > self.n_iter_no_change

    def epoch_begins(self, name: str = "epoch") -> None:
        """Record that work on the next epoch begins; may be called more than once."""
        if self.tasks is not None:
            self.tasks.begin(name)

    def epoch_broken_off(self) -> None:
        """Record that the work begun, such as the last line search, did not complete an epoch."""
        if self.tasks is not None:
            self.tasks.break_off()

    def epoch_ended(
        self,
        theta: Parameters,
        loss: float | None,
        gradient_norm: float,
        slope: float | None = None,
        curve: list[float] | None = None,
        counts: bool = True,
    ) -> bool:
        """Record an epoch; return whether to stop.

        Parameters
        ----------
        theta : Parameters
            The θ used for prediction.
        loss : float or None
        gradient_norm : float
        slope : float, default=None
            Monitored if there is no loss, instead of the norm.
        curve : list of float, default=None
            For schedules: list to which the loss is appended or, if there is one, minus the validation score.
        counts : bool, default=True
            Whether an epoch without improvement counts; False if it had no update.
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
        if judged is None:
            judged = gradient_norm if slope is None else slope
        self._judge(judged, theta, counts)
        history.mark()
        if self.watch is not None:
            self.watch(theta)
        if self.tasks is not None:
            self.asked_to_stop |= self.tasks.end()
        if self.verbose and self._is_stale:
            self._print_stop()
        return self.stopped

    def _scored(self, theta: Parameters) -> float:
        score = self.score(theta)
        self.history.validation_scores.append(score)
        if self.verbose:
            print(f"Validation score: {score:f}", flush=True)
        return score

    @property
    def judges(self) -> str:
        """Name of the quantity that is monitored for stopping."""
        if self.score is not None:
            return "validation score"
        return "training loss" if self.history.loss_curve else "gradient norm"

    @property
    def first(self) -> float:
        """Its value after the first epoch."""
        return self.stopping.first if self.score is None else -self.stopping.first

    @property
    def judged(self) -> float:
        """Its value after the last epoch."""
        return self._judged if self.score is None else -self._judged

    @property
    def is_perfect(self) -> bool:
        """Whether the validation score is the largest possible."""
        return self.score is not None and self.judged >= self.largest_score - self.rounding

    @property
    def judges_nan(self) -> bool:
        """Whether the monitored quantity is NaN."""
        return math.isnan(self._judged)

    def _judge(self, value: float, theta: Parameters, counts: bool) -> None:
        """Count an epoch without improvement, which NaN never is; keep the best θ if it is scored."""
        self._judged = value
        stopping = self.stopping
        is_first = math.isinf(stopping.best)
        if is_first:
            stopping.first = value
        improved = value < stopping.best if is_first else stopping.best - value > self._needed_gain()
        stopping.has_improved |= improved and not is_first
        if improved:
            stopping.without_improvement = 0
        elif counts:
            stopping.without_improvement += 1
        if self.score is not None and (value < stopping.best or stopping.best_theta is None):
            stopping.best_theta = theta.vector.copy()
        stopping.best = min(stopping.best, value)  # NaN is not taken

    def _needed_gain(self) -> float:
        """The gain that an improvement exceeds.

        It does not depend on the unit of the loss, nor does it grow with a constant that is added to it.
        """
        best, size = self.stopping.best, abs(self.stopping.best)
        return max((self.tol or 0.0) * min(size, self.stopping.first - best), self.rounding * size)

    def _print(self, loss: float | None, gradient_norm: float) -> None:
        shown = f"gradient norm = {gradient_norm:.8f}" if loss is None else f"loss = {loss:.8f}"
        print(f"Iteration {self.history.n_iter}, {shown}", flush=True)

    def _print_stop(self) -> None:
        print(
            f"{self.judges.capitalize()} did not improve more than tol={self.tol:f} for "
            f"{self.n_iter_no_change:g} consecutive epochs. Stopping.",
            flush=True,
        )
