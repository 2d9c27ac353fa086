"""The way through `fit` and `predict` that the four estimators share, and the attributes that it leaves.

Below it lie, each on the one before, ``settings.py`` (parameters), ``data.py`` (rows) and ``assembly.py`` (the
objective). Who receives what is decided in ``model.py``, what is minimised in ``objective.py``, how in ``training.py``.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from ..callback_support import OF_A_FIT, CallbackSupport, FitTasks, with_callbacks
from ..contribution import merge
from ..data.batch import CALLABLE, MONITOR, Batch, read_only
from ..data.rows import Rows
from ..exceptions import DivergenceError, noted
from ..objective import Objective, read_prediction
from ..optimizers import get_optimizer
from ..optimizers.base import Optimizer
from ..optimizers.phases import phases_of
from ..optimizers.scipy_methods import FullBatch
from ..optimizers.state import State
from ..parameters import Parameters
from ..training.minibatches import History, Monitor, Standing, answering, failure, minimize, train
from ..typing import Array, MatrixLike
from .assembly import AssembledEstimator, checksum, own
from .scoring import score_by

MONITORED_ROWS = 1000  # on about so many rows, and a tenth of all, the plain gradient form's loss is watched


class AnalyticEstimator(CallbackSupport, AssembledEstimator):
    """Base of the four estimators."""

    loss_curve_: list[float]
    loss_: float | None
    best_loss_: float | None
    validation_scores_: list[float] | None
    n_iter_: int
    n_steps_: int

    _history: History
    _state: Any
    _method: Any
    _model: Any
    _fitted_loss: Any
    _tasks: FitTasks
    _watch: Any = None  # for pictures of a fit: sees θ before it and after each epoch

    def _fit(self, read: Callable[..., Any], *, incremental: bool = False) -> Self:
        """Train on what ``read(continuing=, incremental=)`` returns.

        A maker of rows, held-out rows or None, and the `GivenRows` that callbacks may see.
        """
        before = self.__dict__.copy()
        with self._undone_if_refused(before):
            prepared = self._prepare_fit(read, incremental)
        self._run(before, *prepared)
        return self

    @contextmanager
    def _undone_if_refused(self, before: Mapping[str, Any]) -> Iterator[None]:
        """Lose nothing by an error before the first epoch: what was fitted before stays whole."""
        try:
            yield
        except BaseException:
            of_this_fit = {name: value for name, value in self.__dict__.items() if name in OF_A_FIT}
            self.__dict__.clear()
            self.__dict__.update(before, **of_this_fit)  # callbacks are still to be torn down
            raise

    def _prepare_fit(self, read: Callable[..., Any], incremental: bool) -> tuple[Any, ...]:
        """All that can be refused before the first step; what `_run` needs."""
        self._check_parameters()
        optimizer = own(get_optimizer, self.optimizer)
        optimizer.check()
        continuing = hasattr(self, "params_") and (incremental or self.warm_start)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True: it has no rows to hold out.")
        make_rows, held_out, given = read(continuing=continuing, incremental=incremental)
        phases = phases_of(optimizer, 1 if incremental else self.max_iter)
        unfinished = self.__dict__.pop("_standing", None)
        standing = None if incremental or not continuing else unfinished
        if standing is not None:
            phases = _what_is_left(phases, standing, self._history)
        objective, theta, rows = self._assemble(make_rows, [method for method, _ in phases], continuing)
        if not continuing:
            self._forget()
            self._inspect(objective, theta, rows[0])
            self._history, self._state = History(), None
        elif self._training_vector is not None and not self._are_params_as_published():
            self._state = self._training_vector = None  # averages of θ know nothing of the user's own
        self.optimizer_, self._model, self._fitted_loss = optimizer, objective.model, objective.loss
        self._begin(phases[0][0], theta)
        if standing is not None and (
            self._state is not self.optimizer_state_ or (standing.best_theta is None) != (held_out is None)
        ):
            standing = None  # of another optimizer, or judged by something else
        return incremental, objective, theta, phases, rows, self._monitor(objective, theta, held_out, standing), given

    def _monitor(
        self, objective: Objective, theta: Parameters, held_out: Rows | None, standing: Standing | None
    ) -> Monitor:
        if standing is None:
            standing = Standing()
            standing.begin_phase(0, self._history)
        score = None if held_out is None else self._scorer_on(objective, theta, held_out)
        return Monitor(
            self._history, tol=self.tol, score=score, verbose=self.verbose, standing=standing, watch=self._watch
        )

    def _scorer_on(self, objective: Objective, theta: Parameters, held_out: Rows) -> Callable[[Parameters], float]:
        """Return ``score(theta)`` of held-out rows: by `scoring`, tried at the start, else as `score` does."""
        if self.scoring is None:
            return lambda theta: self._validation_score(objective, theta, held_out)
        score = score_by(self.scoring, self, objective, held_out)
        with warnings.catch_warnings(), noted("In the first call of scoring, before the first step."):
            warnings.simplefilter("ignore")  # a metric may well be undefined there
            score(theta)
        return score

    def _validation_score(self, objective: Objective, theta: Parameters, rows: Rows) -> float:
        """Return the score of held-out rows that `score` would give, larger is better."""

        def outcome(batch: Batch) -> list[Any]:
            prediction = self._check_prediction(objective.predictions(theta.structure, batch))
            return [None if array is None else array.copy() for array in (prediction, batch.y, batch.sample_weight)]

        pooled: list[Any] = [
            None if parts[0] is None else np.concatenate(parts) for parts in zip(*rows.map(outcome), strict=True)
        ]
        return float(self._score_of(*pooled))

    def _score_of(self, prediction: Array, y: Any, sample_weight: Array | None) -> float:
        """Return the score of predictions, larger is better."""
        raise NotImplementedError

    def _targets(self, y: Any) -> Any:
        """Return targets as the user gave them, None where there are none."""
        return y

    def _forget(self) -> None:
        """Drop what a former fit left and this one may not set."""
        for name in ("gradient_report_", "optimizer_result_"):
            self.__dict__.pop(name, None)

    def _run(self, before: Mapping[str, Any], *prepared: Any) -> None:
        """Train, and warn of what kept training from its end."""
        try:
            warning = self._train(before, *prepared)
        finally:
            self.__dict__.pop("_tasks", None)
        if warning is not None:
            warnings.warn(warning, stacklevel=4)

    @with_callbacks
    def _train(
        self,
        before: Mapping[str, Any],
        incremental: bool,
        objective: Objective,
        theta: Parameters,
        phases: Any,
        rows: Sequence[Rows],
        monitor: Monitor,
        given: Any,
    ) -> str | None:
        """Train phase after phase; set the fitted attributes however it ends. Return a warning or None."""
        with self._undone_if_refused(before):
            if monitor.watch is not None:
                monitor.watch(theta)
            if getattr(self, "_skl_callbacks", None) and not incremental:
                monitor.tasks = self._tell(objective, theta, phases, rows, monitor, given)
        warning, is_over = None, True
        try:
            for position, ((method, max_iter), own_rows) in enumerate(zip(phases, rows, strict=True)):
                if position:
                    self._hand_over(theta)
                    self._begin(method, theta)
                    monitor.standing.begin_phase(monitor.standing.phase + 1, self._history)
                start = theta.copy()
                failed = self._run_phase(objective, theta, start, method, own_rows, monitor, max_iter)
                if monitor.asked_to_stop:
                    break
            is_over = monitor.stopped
            if failed and not incremental:
                warning = ConvergenceWarning(f"{type(self).__name__} has not converged. {failed}")
        except DivergenceError as error:
            error.args = (f"{error} {self._second_opinion(objective, theta, start, own_rows)}".rstrip(),)
            raise
        except KeyboardInterrupt:
            warning = UserWarning("Training was interrupted; the estimator is fitted as far as it came.")
            is_over = False
        finally:
            self._publish(theta, monitor, is_over or incremental or len(phases) > 1 or self._state is None)
        if monitor.tasks is not None:
            monitor.tasks.finish()
        return warning

    def _tell(
        self, objective: Objective, theta: Parameters, phases: Any, rows: Sequence[Rows], monitor: Monitor, given: Any
    ) -> FitTasks | None:
        """Tell the callbacks that the fit begins; return what will tell them of its epochs."""

        def publish() -> None:
            self.__dict__.update(_recorded(self._history, self._state))
            self.params_, self._training_vector, self._layout = theta.structure, None, theta.layout

        def gradient() -> Any:
            sample, layout = _monitored(rows[monitor.standing.phase - first_phase]), self._layout
            at = Parameters(layout, layout.flatten(self.params_))  # at the end of the fit those that predict
            total = merge(objective.contribution(at, batch) for batch in sample)
            blocks = enumerate(layout.blocks(total.gradient))
            return layout.unflatten([None if index in total.missing else block for index, block in blocks])

        first_phase = monitor.standing.phase
        self._tasks = FitTasks(
            self,
            # A full-batch method may begin a line search after its last iteration.
            sum(max_iter + isinstance(method, FullBatch) for method, max_iter in phases),
            given,
            publish=publish,
            snapshot=lambda: self._snapshot(theta, monitor),
            gradient=gradient,
        )
        self._tasks.begin_fit()
        return self._tasks

    @property
    def gradient_(self) -> Any:
        """Gradient of the loss by the parameters in ``params_``, in their structure.

        It is there for callbacks, during a fit, and evaluated when it is read: over the same rows in each epoch, a
        tenth of all or some thousand; without the penalty; None for blocks that are not trained.
        """
        if "_tasks" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has gradient_ for callbacks only, during a fit.")
        return self._tasks.gradient()

    def _begin(self, method: Any, theta: Parameters) -> None:
        """Make the state of a method, or go on with that of the last fit; a full-batch method has none."""
        full_batch = isinstance(method, FullBatch)
        self._state = None if full_batch else self._compatible_state(method, theta)
        self._method = None if full_batch else method

    def _hand_over(self, theta: Parameters) -> None:
        """Between two phases: go on from the average that predicts, where the last method kept one."""
        if self._state is not None:
            theta.vector[...] = answering(theta, self._method, self._state).vector
            self._state.restart()

    def _run_phase(
        self,
        objective: Objective,
        theta: Parameters,
        start: Parameters,
        method: Any,
        rows: Rows,
        monitor: Monitor,
        max_iter: int,
    ) -> str | None:
        """Train by one method; return why it has not converged, or None."""
        full_batch = isinstance(method, FullBatch)
        monitor.n_iter_no_change = math.inf if full_batch and monitor.score is None else self.n_iter_no_change
        if monitor.stopped:  # an unfinished fit that goes on had come to the end of this phase
            return None
        self._history.begin_phase(type(method).__name__)
        objective.needs_value = full_batch
        if full_batch:
            if self.verbose and self._history.n_iter:
                print(f"{type(method).__name__} begins anew at the parameters so far.")
            result = minimize(objective, theta, method, rows, monitor, max_iter=max_iter, tol=self.tol)
            self.optimizer_result_ = result
            # "Converged" where it started, in a slope: every step was refused.
            stayed = np.array_equal(theta.vector, start.vector) and np.abs(result.jac).max() > self.tol
            if (result.success and not stayed) or monitor.stopped:
                return None
            stuck = result.get("nit", max_iter) < max_iter
            opinion = self._second_opinion(objective, theta, start, rows) if stuck else ""
            return f"{failure(result)} {opinion}".rstrip()
        sample = [] if objective.step_has_value or not objective.has_value else _monitored(rows)
        stopped = train(objective, theta, method, self._state, rows, monitor, max_iter=max_iter, sample=sample)
        losses = self._history.loss_curve[monitor.standing.n_losses :]
        # A start at the optimum, as the default density's, is left by a little: that is no fault.
        if monitor.score is None and losses and losses[-1] > losses[0] + 0.01 * abs(losses[0]) + self.tol:
            opinion = self._second_opinion(objective, theta, start, rows)
            return (
                f"The loss rose from {losses[0]:.6g} to {losses[-1]:.6g}: the learning rate is probably too large, or "
                f"the gradient is wrong. {opinion}".rstrip()
            )
        if stopped and monitor.judges_nan:
            judged = "loss" if monitor.score is None else "validation score"
            return f"The {judged} is nan after the last epoch, which counts as no improvement: look at what returns it."
        if stopped:
            return None
        n_epochs = self._history.n_iter - monitor.standing.n_iter  # with those of a fit that this one goes on with
        return f"The {n_epochs} epochs were not enough; a larger max_iter, another learning rate or tol may help."

    def _compatible_state(self, optimizer: Optimizer, theta: Parameters) -> State:
        """The optimizer's state so far where it belongs to this optimizer, else a new one."""
        if self._state is not None and optimizer.accepts(self._state, theta.vector, theta.layout):
            _make_writeable(self._state)
            state: State = self._state
            return state
        return optimizer.init(theta.vector, blocks=theta.layout)

    def _publish(self, theta: Parameters, monitor: Monitor, is_over: bool) -> None:
        """Set the fitted attributes, however the fit ended; of one that is not over, what another goes on with."""
        answer, history = self._answer(theta, monitor), self._history
        self._training_vector = None
        if not is_over:
            self._standing = dataclasses.replace(
                monitor.standing, n_iter=history.n_iter, n_losses=len(history.loss_curve)
            )
        # What predicts is copied from the optimizer's average, and from the best θ of a fit that is not over.
        if answer is not theta:
            if not is_over or monitor.standing.best_theta is None:
                self._training_vector, self._published = theta.vector, checksum(answer.vector)
            answer = answer.copy()
        self.params_ = answer.layout.to_structure(answer.vector)
        self._layout = answer.layout
        self.__dict__.update(_recorded(history, self._state))
        self.n_iter_ = max(1, history.n_iter)  # an epoch that was interrupted is one too

    def _answer(self, theta: Parameters, monitor: Monitor) -> Parameters:
        """The θ that predicts if the fit ends now: the best one, an average that the optimizer keeps, or the last."""
        if monitor.standing.best_theta is not None:
            return Parameters(theta.layout, monitor.standing.best_theta)
        return theta if self._state is None else answering(theta, self._method, self._state)

    def _snapshot(self, theta: Parameters, monitor: Monitor) -> dict[str, Any]:
        """Return the attributes of a copy as if the fit had ended now, which can also go on with it.

        θ is copied; the slots of the optimizer are not.
        """
        history = self._history.copy()
        state = None if self._state is None else self._state.snapshot()
        answer = self._answer(theta, monitor)
        return {
            **_recorded(history, state),
            "params_": answer.layout.to_structure(answer.vector.copy()),
            "_layout": answer.layout,
            "_training_vector": None if answer is theta else theta.vector.copy(),
            "_published": checksum(answer.vector),
            "_history": history,
            "_state": state,
            "_standing": dataclasses.replace(monitor.standing),
        }

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        of_a_fit = (*OF_A_FIT, "_watch") if "_callback_fit_ctx" in state else ("_watch",)
        return {name: value for name, value in state.items() if name not in of_a_fit}  # a copy is in no fit

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "params_")

    def _predictions(self, X: MatrixLike, metadata: Mapping[str, Any]) -> Array:
        """Return what `forward` says of validated rows."""
        check_is_fitted(self)
        X = self._read_X(X, reset=False)
        columns = self._read_metadata(metadata, self._model.predictor.nameable, X.shape[0])
        model = self._model.bound_to(columns)
        shown = {name: read_only(column) for name, column in columns.items()}
        batch = Batch(read_only(X), shown, position=(self._seed, CALLABLE, 0, 0))
        prediction = read_prediction(model.predictions(self._read_params().structure, batch), batch.n)
        return self._check_prediction(prediction).astype(X.dtype, copy=False)


def _what_is_left(phases: Any, standing: Standing, history: History) -> Any:
    """The phases that an unfinished fit has not come through yet; all where it was one of others."""
    if standing.phase >= len(phases):
        return phases
    (method, max_iter), *later = phases[standing.phase :]
    left = max_iter - (history.n_iter - standing.n_iter)
    return [(method, max(left, int(isinstance(method, FullBatch)))), *later]


def _recorded(history: History, state: State | None) -> dict[str, Any]:
    """The public attributes that tell how training has gone."""
    return {
        "optimizer_state_": state,
        "loss_curve_": history.loss_curve,
        "validation_scores_": history.validation_scores or None,
        "gradient_norm_curve_": history.gradient_norms,
        "loss_": history.loss_curve[-1] if history.loss_curve else None,
        "best_loss_": min((loss for loss in history.loss_curve if not math.isnan(loss)), default=None),
        "n_iter_": history.n_iter,
        "n_steps_": history.n_steps,
    }


def _make_writeable(state: State) -> None:
    """Copy the slots that cannot be written: a file that joblib maps into memory is read-only."""
    for link in state.links:
        for name, slot in link.slots.items():
            if not slot.flags.writeable:
                link.slots[name] = np.array(slot)


def _monitored(rows: Rows) -> list[Batch]:
    """The rows on which the plain gradient form's loss is watched: a tenth, within limits."""
    n_batches = min(rows.steps_per_epoch / 10, MONITORED_ROWS / rows.batch_size)
    return rows.sample(max(1, math.ceil(n_batches)), MONITOR)
