"""A training run as an object that can be run, continued, copied and pickled.

`Training` holds the full state of a run: the objective, θ, the remaining phases, the state of the optimizer, the
history and the stopping criterion. ``fit``, ``partial_fit``, ``warm_start`` and resuming from a file differ
in how they create one, by `Training` or `Training.after`; each then calls `Training.run`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from ..contribution import merge
from ..data.batch import MONITOR, Batch
from ..data.rows import Rows
from ..elsewhere import bare, on_host
from ..equality import is_same
from ..objective import Objective
from ..optimizers.phases import phases_of
from ..optimizers.projection import projected
from ..optimizers.scipy_methods import FullBatch
from ..optimizers.state import State
from ..parameters import Parameters
from ..trust import trusted
from .full_batch import minimize
from .minibatches import eval_params, norm, train
from .progress import History, Monitor, StoppingState

MONITORED_SAMPLES = 1000  # on about so many, and a tenth of all, the loss of the plain gradient form is monitored

FLAT = 1e-6  # what is left of the largest gradient if a method without a tolerance has come as far as it can

MUCH = 0.1  # share of a loss by which another is larger if it is not the noise of batches


class NotConverged(NamedTuple):
    """The reason why a run ended without converging.

    Attributes
    ----------
    reason : str
        In words.
    is_suspicious : bool
        Whether a wrong gradient may be the cause.
    """

    reason: str
    is_suspicious: bool = False


@trusted
class Training:
    """One run of training.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
        Starting parameters; written in place.
    optimizer : Optimizer, FullBatch or Phases
    max_iter : int
        Epochs or iterations. Not used if the optimizer is a `Phases`, which has its own.
    seed : int
        Seed of all random numbers.
    targets : Targets
        Targets at the beginning of training.
    features : dict
        Attributes of the estimator that describe the columns of X.

    Attributes
    ----------
    phases : list of tuple (method, int)
        Remaining methods, with their numbers of epochs or iterations.
    state : State or None
        State of the current method; None for a full-batch method.
    history : History
    stopping : StoppingState
    result : scipy.optimize.OptimizeResult or None
        Result of a full-batch method.
    report : GradientReport or None
        Report of the gradient check.
    is_checked : bool
        Whether its callables were checked, on samples that carry information.
    rows : Rows
        Samples of the current phase, during the run.
    ended : bool
        Whether `run` has returned; False in a snapshot.
    finished : bool
        Whether the run was completed, rather than interrupted or ended by an error.
    published : int or None
        Checksum of the parameters that were published instead of θ: an average, the best ones, or, under a map,
        the user's own numbers.
    is_told : bool
        Whether it was said that gradients come in a lower precision.
    is_average : bool
        Whether these differ from θ.
    fingerprint : dict or None
        Identification of the data; None after `partial_fit`.
    criterion : dict or None
        Criterion by which epochs are judged, besides the objective; None after `partial_fit`.
    """

    method: Any
    rows: Any
    phase_start: Any
    is_checked = False  # of a file that does not say
    is_told = False  # likewise
    is_average = True  # likewise

    def __init__(
        self,
        objective: Objective,
        theta: Parameters,
        optimizer: Any,
        *,
        max_iter: int,
        seed: int,
        targets: Any = None,
        features: dict[str, Any] | None = None,
        criterion: dict[str, Any] | None = None,
    ) -> None:
        self.objective, self.theta, self.optimizer, self.seed = objective, theta, optimizer, seed
        self.targets, self.features = targets, features or {}
        self.phases = phases_of(optimizer, max_iter)
        self.history = History()
        self.stopping = StoppingState()
        self.state: State | None = None
        self.result: Any = None
        self.report: Any = None
        self.is_checked = False
        self.fingerprint: dict[str, Any] | None = None
        self.criterion = criterion
        self.ended = self.finished = False
        self.published: int | None = None
        self._goes_on = False  # whether the next run with the same settings keeps counting towards stopping
        self._is_judged_anew = False
        self.release()

    @classmethod
    def after(
        cls,
        before: Training,
        objective: Objective,
        params: Parameters,
        optimizer: Any,
        *,
        max_iter: int,
        incremental: bool,
        resume: bool = False,
        **settings: Any,
    ) -> Training:
        """Return a run that continues another one.

        Parameters
        ----------
        before : Training
            Not modified. The new run takes over its history and state, or copies of them if it has not ended, because
            it is then still running or a snapshot.
        objective : Objective
        params : Parameters
            The estimator's ``params_``, which the user may have changed.
        optimizer : Optimizer, FullBatch or Phases
        max_iter : int
        incremental : bool
            Whether this is a single epoch, without a stopping criterion.
        resume : bool, default=False
            Whether to use what is left of ``max_iter``, even if the other run has ended.
        **settings : dict
            Further arguments of `Training`.

        Returns
        -------
        training : Training

        Notes
        -----
        Judgements by another criterion are discarded: another objective, other samples, or another score.
        """
        if not before.ended:
            before = before.copy()
        theta, state = before._where_it_is(params)
        training = cls(objective, theta, optimizer, max_iter=max_iter, seed=before.seed, **settings)
        training.history, training.result, training.report = before.history, before.result, before.report
        training.is_told = before.is_told
        known = before.criterion is not None and training.criterion is not None
        same = not known or is_same(before.criterion, training.criterion)
        same = same and is_same(before.objective.meaning, objective.meaning)
        training._is_judged_anew = not (same or resume)
        counts_on = resume or (before._goes_on and same and not incremental)
        stopping = before.stopping if counts_on else None
        unchecked = {*before.objective.fixed, *before.objective.numerical} - {*objective.fixed, *objective.numerical}
        is_alike = not unchecked and is_same(before.objective.functions, objective.functions)
        training.is_checked = resume or (before.is_checked and is_alike)
        if stopping is not None and before.ended and not resume:
            stopping = stopping.restarted(before.history)
        if stopping is not None:
            left = training._left(stopping)
            method = left[0][0]
            fits = isinstance(method, FullBatch) == (state is None)
            if fits and (state is None or projected(method, theta).accepts(state, theta.vector, theta.layout)):
                training.phases, training.stopping = left, dataclasses.replace(stopping)
            else:
                stopping = None  # of another optimizer
        if stopping is None:
            training.stopping.begin_phase(0, training.history)
        training.state = state
        return training

    def _where_it_is(self, params: Parameters) -> tuple[Parameters, State | None]:
        """Return the θ and the state to go on from, given the parameters that the estimator has now."""
        if self.published is None:
            return params, None if params.is_mapped else self.state
        if not params.is_like(self.theta):
            return params, None  # something else is moved now
        given = params.as_given.vector
        if checksum(given.astype(self.objective.layout.dtype)) == self.published:
            return params.at(self.theta.vector.astype(params.layout.dtype)), self.state
        # Averages of θ know nothing of parameters that the user has set.
        return params, None if self.is_average else self.state

    def _left(self, stopping: StoppingState) -> list[Any]:
        """The phases that an unfinished run has not completed; all of them if it was one of others."""
        if stopping.phase >= len(self.phases):
            return self.phases
        (method, max_iter), *later = self.phases[stopping.phase :]
        left = max_iter - (self.history.n_iter - stopping.n_iter)
        return [(method, max(left, int(isinstance(method, FullBatch)))), *later]

    def eval_params(self) -> Parameters:
        """Return the θ that predicts: the best one, an average that the optimizer keeps, or the last."""
        if self.stopping.best_theta is not None:
            return self.theta.at(self.stopping.best_theta)
        return self.theta if self.state is None else eval_params(self.theta, self.method, self.state)

    def begin(self) -> None:
        """Make the state of the first phase, or accept the present one; a full-batch method has none."""
        state, theta = self.state, self.theta
        method = self.phases[0][0]
        self.method = method = method if isinstance(method, FullBatch) else projected(method, theta)
        if isinstance(method, FullBatch):
            self.state = None
        elif state is not None and method.accepts(state, theta.vector, theta.layout):
            _make_writeable(state)
            if self._is_judged_anew:
                state.forget_losses()
        else:
            self.state = method.init(theta.vector, blocks=theta.layout)

    def run(
        self, rows: Sequence[Rows], monitor: Monitor, n_iter_no_change: float, incremental: bool = False
    ) -> NotConverged | None:
        """Train, phase after phase.

        Parameters
        ----------
        rows : list of Rows
            For each phase.
        monitor : Monitor
        n_iter_no_change : float
            Epochs without improvement after which a phase stops.
        incremental : bool, default=False
            Whether this is a single epoch of `partial_fit`.

        Returns
        -------
        failed : NotConverged or None
            Of the last phase.
        """
        failed = None
        several = len(self.phases) > 1
        is_over = True
        try:
            for position, own_rows in enumerate(rows):
                if position:
                    self._next_phase()
                self.rows, self.phase_start = own_rows, self.theta.copy()
                with self._without_warnings_of_ours():
                    failed = self._run_phase(monitor, n_iter_no_change)
                if monitor.asked_to_stop:
                    break
            is_over = monitor.stopped
            self.finished = True
        except KeyboardInterrupt:
            is_over = False
            raise
        finally:
            self.ended = True
            self._goes_on = not (is_over or incremental or several or self.state is None)
        return failed

    def _without_warnings_of_ours(self) -> AbstractContextManager[Any]:
        """Let a default model overflow in silence, which is found by the values; functions of the user's may warn."""
        uses_defaults = self.objective.model.uses_defaults
        return np.errstate(over="ignore", invalid="ignore") if uses_defaults else nullcontext()

    def _next_phase(self) -> None:
        """Between two phases: go on from the average that predicts, if the last method kept one."""
        if self.state is not None:
            self.theta.vector[...] = eval_params(self.theta, self.method, self.state).vector
            self.state.restart()
        self.phases = self.phases[1:]
        self.begin()
        self.stopping.begin_phase(self.stopping.phase + 1, self.history)

    def _run_phase(self, monitor: Monitor, n_iter_no_change: float) -> NotConverged | None:
        """Train by one method; return why it has not converged, or None."""
        method, max_iter = self.phases[0]
        full_batch = isinstance(method, FullBatch)
        unlimited = monitor.tol is None or (full_batch and monitor.score is None)
        monitor.n_iter_no_change = math.inf if unlimited else n_iter_no_change
        if monitor.stopped:  # an unfinished run that goes on had come to the end of this phase
            return None
        self.history.begin_phase(type(method).__name__)
        self.objective.needs_value = full_batch
        return self._minimize(monitor, max_iter) if full_batch else self._train(monitor, max_iter)

    def _minimize(self, monitor: Monitor, max_iter: int) -> NotConverged | None:
        """Run a full-batch method."""
        if monitor.verbose and self.history.n_iter:
            print(f"{type(self.method).__name__} continues from the current parameters.")
        arguments = self.objective, self.theta, self.method, self.rows, monitor
        self.result, failed = minimize(*arguments, max_iter=max_iter, tol=monitor.tol or 0.0)
        ended_early = self.result.nit < max_iter
        if monitor.tol is None:  # so many iterations were the plan, or as many as lower the gradient
            largest = max(self.history.gradient_norms[-max_iter:])
            slope = np.where(self.result.held, 0.0, self.result.jac)
            if not ended_early or np.abs(slope).max() <= FLAT * largest:
                return None
        return None if failed is None else NotConverged(failed, is_suspicious=ended_early)

    def _train(self, monitor: Monitor, max_iter: int) -> NotConverged | None:
        """Run epochs of a minibatch rule."""
        objective, rows, stopping = self.objective, self.rows, monitor.stopping
        sample = [] if objective.step_has_value or not objective.has_value else monitored(rows)
        assert self.state is not None  # for mypy: a minibatch rule has one
        stopped = train(objective, self.theta, self.method, self.state, rows, monitor, max_iter=max_iter, sample=sample)
        risen = self._risen(monitor, sample)
        if risen:
            return NotConverged(
                f"{risen}. The learning rate is probably too large, unless the gradient is wrong.", is_suspicious=True
            )
        if stopped and monitor.judges_nan:
            return NotConverged(
                f"The {monitor.judges} is nan after the last epoch, which does not count as an "
                "improvement. Check the function that returns it."
            )
        has_gained = monitor.asked_to_stop or stopping.has_improved
        if stopped and not (has_gained or self._gained_at_once(monitor, sample) or self._has_nothing_to_gain(monitor)):
            return NotConverged(
                f"No epoch improved on the first: the {monitor.judges} was {monitor.first:.6g} after the first and "
                f"{monitor.judged:.6g} after the last epoch. The learning rate may be too small or too large, or the "
                "gradient may be wrong. If progress takes more epochs to show, increase n_iter_no_change.",
                is_suspicious=True,
            )
        if stopped or math.isinf(monitor.n_iter_no_change):  # then max_iter epochs are the plan
            return None
        n_epochs = self.history.n_iter - stopping.n_iter  # with those of a run that this one goes on with
        return NotConverged(
            f"The limit of {n_epochs} epochs was reached. Increase max_iter, or adjust the learning rate or tol. To "
            "train for a fixed number of epochs, set tol=None."
        )

    def _risen(self, monitor: Monitor, sample: list[Batch]) -> str:
        """Say that the loss rose, or the gradient if there is no loss; empty if it did not.

        It may have risen within the first epoch. Then its first batch tells whether to look at where it began.
        """
        history, stopping = self.history, monitor.stopping
        losses, norms = history.loss_curve[stopping.n_losses :], history.gradient_norms[stopping.n_iter :]
        first_loss, first_norm = monitor.first_batch
        if losses:
            last, zero = losses[-1], self._zero(monitor)
            # A start at the optimum, as the default density's, is left by a little: that is no fault. A run that goes
            # on most often begins at one, around which batches make noise.
            share = MUCH if stopping.n_losses else 0.01
            margin = max(share * abs(losses[0]), 0.01 * (stopping.first - stopping.best), zero)
            if last > losses[0] + margin:
                # What is monitored after an epoch may be down at the noise of batches after the first.
                start = self._loss_at_start(sample) if sample else None
                is_noise = start is not None and last < start - margin
                return "" if is_noise else f"The loss increased from {losses[0]:.6g} to {last:.6g}"
            has_grown = first_loss is None or last > 2 * abs(first_loss) + zero
            is_suspicious = has_grown and norms[-1] > 0.5 * first_norm
            if is_suspicious:
                start = self._loss_at_start(sample)
                if start is not None and last > start + MUCH * abs(start) + zero:
                    return f"The loss increased from {start:.6g} at the start to {last:.6g}"
        elif norms:
            # Between a flat start and a minimum a gradient may well be larger than at first.
            if norms[-1] > 100 * norms[0] and norms[-1] == max(norms):
                return f"The norm of the gradient increased from {norms[0]:.6g} to {norms[-1]:.6g}"
            if norms[-1] > 100 * first_norm:
                start_norm = max(first_norm, self._at_start()[1])
                if norms[-1] > 100 * start_norm:
                    return f"The norm of the gradient increased from {start_norm:.6g} at the start to {norms[-1]:.6g}"
        return ""

    def _zero(self, monitor: Monitor) -> float:
        """What a loss is too small for to differ from zero, beside the largest since θ was initialized."""
        return monitor.rounding * max(map(abs, self.history.loss_curve), default=0.0)

    def _at_start(self) -> tuple[float | Any, float]:
        """The loss of all samples where the phase began, or None, and the norm of its gradient."""
        objective, start, rows = self.objective, self.phase_start, self.rows
        loss, gradient = objective.finish(start, rows.total(objective, start))
        return loss, norm(gradient)

    def _loss_at_start(self, sample: list[Batch]) -> float | None:
        """The loss where the phase began, of the samples that tell it after each epoch."""
        return self.objective.mean_value(self.phase_start, sample) if sample else self._at_start()[0]

    def _gained_at_once(self, monitor: Monitor, sample: list[Batch]) -> bool:
        """Whether the first epoch did it all: what is kept is still better than the start."""
        if monitor.score is not None:
            losses = self.history.loss_curve[monitor.stopping.n_losses :]
            if losses and max(losses) - min(losses) <= monitor.rounding * max(map(abs, losses)):
                return False  # nothing was trained, whatever the scores say
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a metric may well be undefined there
                return bool(monitor.first > monitor.score(self.phase_start))
        if sample:
            start = self._loss_at_start(sample)
            return start is not None and start - monitor.judged > monitor.rounding * abs(start)
        return not self.history.loss_curve and monitor.judged <= 0.5 * self._at_start()[1]

    def _has_nothing_to_gain(self, monitor: Monitor) -> bool:
        """Whether training that did not improve was at an optimum when it began, as far as its samples can tell."""
        if monitor.is_perfect:
            return True
        loss, slope = self._at_start()
        norms = self.history.gradient_norms[monitor.stopping.n_iter :]
        curve = self.history.loss_curve[monitor.stopping.n_losses :]
        if not curve:
            return slope <= 0.01 * max(norms)
        if max(map(abs, curve)) <= self._zero(monitor):
            return True
        if max(curve) - min(curve) > monitor.rounding * max(map(abs, curve)):
            return slope <= 0.5 * max(norms)  # it moved: not by the gradient, then, but by the noise of batches
        size = max(1.0, math.sqrt(np.vdot(self.phase_start.vector, self.phase_start.vector)))
        return bool(slope * size <= monitor.rounding * abs(curve[0] if loss is None else loss))

    def imprecision(self) -> str:
        """Say once, also of trainings that go on, that gradients came in a lower precision than that of θ."""
        narrow = self.objective.layout.narrow
        links = [] if self.state is None else self.state.links
        if narrow is None or self.is_told or any(getattr(link, "is_narrow", False) for link in links):
            return ""
        self.is_told = True
        name, dtype = narrow
        return (
            f"The gradient of parameter {name!r} is {dtype}, but the parameters are {self.objective.layout.dtype}, so "
            f'they are only as precise as {dtype}. With jax, call jax.config.update("jax_enable_x64", True) first. '
            f"Otherwise compute the gradient in {self.objective.layout.dtype}, or pass X in float32."
        )

    def publish(self) -> Parameters:
        """Return the parameters to publish after a run."""
        evaluated = self.eval_params()
        if evaluated is not self.theta and self.stopping.best_theta is not None and not self._goes_on:
            self.theta.vector[...] = evaluated.vector  # another run begins at the best parameters
            self.stopping = StoppingState()
            evaluated = self.theta
        self._note_published(evaluated)
        return evaluated.as_given if self.published is None else evaluated.as_given.copy()

    def _note_published(self, evaluated: Parameters) -> None:
        """Remember what is published, if θ cannot be had back from it."""
        self.is_average = evaluated is not self.theta
        is_theta = not (self.is_average or self.theta.is_mapped)
        self.published = None if is_theta else checksum(evaluated.as_given.vector)

    def copy(self, with_state: bool = True) -> Training:
        """Return a run that stands where this one does, and shares nothing with it that a run writes.

        As in a pickle, there is no θ if it is what the estimator has as ``params_``.
        """
        twin = object.__new__(Training)
        twin.__setstate__(self.__getstate__())
        twin.history, twin.stopping = self.history.copy(), dataclasses.replace(self.stopping)
        twin.state = self.state.copy() if with_state and self.state is not None else None
        if self.published is not None:
            twin.theta = self.theta.copy()
        return twin

    def snapshot(self) -> tuple[Training, Parameters]:
        """Return a copy as if the run had ended now and could go on, and a copy of the parameters it would publish."""
        evaluated = self.eval_params()
        twin = self.copy()
        twin._goes_on = True
        twin.theta = self.theta.copy()
        twin._note_published(evaluated if evaluated is not self.theta else twin.theta)
        return twin, evaluated.as_given.copy()

    def gradient(self, params: Any) -> Any:
        """Gradient of the loss at some parameters, without the penalty, over the same samples in every epoch."""
        layout = self.objective.layout
        at = Parameters(layout, layout.flatten(params))
        total = merge(self.objective.contribution(at, batch) for batch in monitored(self.rows)).dense()
        blocks = enumerate(layout.blocks(total.gradient))
        return layout.unflatten([None if index in total.missing else bare(block) for index, block in blocks])

    def on_host(self) -> Training:
        """Return what looks at this run with NumPy arrays: itself if it has no others."""
        if self.objective.layout.place is None:
            return self
        twin = copy.copy(self)
        twin.objective, twin.theta = self.objective.placed(None), self.theta.placed(None)
        if self.rows is not None:
            twin.rows, twin.phase_start = self.rows.on_host(), self.phase_start.placed(None)
        return twin

    def release(self) -> None:
        """Drop what belongs to `run` alone, the rows above all."""
        self.objective.model.forget()
        self.method = self.rows = self.phase_start = None

    def __getstate__(self) -> dict[str, Any]:
        kept = dict(self.__dict__)
        for name in ("method", "rows", "phase_start"):
            del kept[name]
        if self.published is None:
            kept.pop("theta", None)  # it is what the estimator has as params_
        return kept

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept)
        self.release()


def checksum(vector: Any) -> int:
    """Return a number that tells whether the values of a vector are still the same."""
    return zlib.crc32(on_host(vector))


def monitored(rows: Rows) -> list[Batch]:
    """The samples on which the loss of the plain gradient form is monitored: a tenth, within limits."""
    n_batches = min(rows.steps_per_epoch / 10, MONITORED_SAMPLES / rows.batch_size)
    return rows.sample(max(1, math.ceil(n_batches)), MONITOR)


def _make_writeable(state: State) -> None:
    """Copy the slots that cannot be written: a file that joblib maps into memory is read-only."""
    for link in state.links:
        for name, slot in link.slots.items():
            if not slot.flags.writeable:
                link.slots[name] = np.array(slot)
