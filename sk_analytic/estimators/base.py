"""`fit`, `partial_fit`, `fit_chunks` and `predict`, as the four estimators share them.

`fit` reads what the user passes (``inputs.py``), makes a `Training` of it (``problem.py``), runs it, and publishes what
it has reached. The estimator holds that last `Training` and nothing else of a fit but its public attributes.
"""

from __future__ import annotations

import copy
import copyreg
import functools
import inspect
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, Self
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from .. import callers
from ..callback_support import OF_A_FIT, CallbackSupport, FitTasks, checkpoints, member_of, with_callbacks
from ..constraints import require_inside
from ..dask_collections import any_collection, is_remote_list
from ..data.batch import CALLABLE, Batch, read_only
from ..data.chunks import Source
from ..data.rows import Rows
from ..data.weights import Weights
from ..display import block, labeled, single_block
from ..elsewhere import Place, bare, place_of, structure_on_host
from ..exceptions import DivergenceError, ParameterStructureError, noted
from ..gradient_check.report import GradientReport
from ..hyperparameters import NamedParametersMixin, SignatureOfInit, advice_on_hidden, is_auto
from ..importable import require_importable
from ..losses import Loss, get_loss
from ..maps import Map
from ..model.argument_names import PARAMETERS
from ..model.callables import is_function, names_of, runs_default
from ..model.metadata import of_validation, read_metadata
from ..model.roles import functions_of
from ..objective import Objective, read_prediction
from ..optimizers import Adam, get_optimizer
from ..optimizers.base import Optimizer
from ..optimizers.phases import Phases, phases_of
from ..optimizers.scipy_methods import FullBatch
from ..parameters import Parameters, require_apart
from ..readable import readable
from ..training.interrupts import Interrupts
from ..training.progress import Monitor
from ..training.session import NotConverged, Training
from ..typing import (
    Array,
    Forward,
    Gradient,
    Grads,  # noqa: F401  # what `typing.get_type_hints` looks for here: `Gradient` has it as text
    Jacobian,
    LossAndGradient,
    LossFunction,
    MatrixLike,
    Params,
    RandomState,
    Vjp,
)
from . import problem, routing
from .automatic import chosen
from .inputs import ArrayData, ChunkData, PartitionData, read_arrays, read_chunks, read_collections, read_to_score
from .lazy import lazily
from .samples import read_weight, read_X, require_place_of_fit
from .scoring import HeldOut, check_domain, default_score, mean_loss, require_loss, score_by
from .settings import ELSEWHERE, check_settings, in_batches, refuse_unknown
from .targets import Targets, require_loss_fits


class Before(NamedTuple):
    """The training that a fit continues, with its public parameters, which the user may have set."""

    training: Training
    params: Any
    resume: bool = False  # from a file, through what was left of it


class Prepared(NamedTuple):
    """A training that is ready to start: its samples for each phase, and the samples to score."""

    training: Training
    rows: list[Any]
    held_out: HeldOut | None
    given: Any

    def release(self) -> None:
        """Release what the samples hold outside this process."""
        for rows in [*self.rows, *([] if self.held_out is None else [self.held_out.rows])]:
            rows.release()


@readable
class AnalyticEstimator(CallbackSupport, NamedParametersMixin, BaseEstimator):
    """Base of the four estimators; by itself it has no targets."""

    params_: Any  # in the user's structure
    loss_: float | None
    n_iter_: int
    n_steps_: int
    gradient_report_: GradientReport

    _named = {"optimizer": get_optimizer, "loss": get_loss}
    _dictionaries = ("model_params",)
    _elsewhere = ELSEWHERE
    _default_model: Mapping[str, Callable[..., Any]]
    _labels_of_fit: Mapping[str, Any] = {}  # what `_read` is told in a fit beside what it is told elsewhere
    _may_score_by_loss = False  # whether `score` is minus the mean loss, if the loss is the user's own
    _default_takes_sparse = False  # whether the default model leaves a sparse X sparse
    _other_start: Callable[[Parameters], Parameters] | None = None  # where to begin in place of θ from `init`
    _training: Training
    _tasks: FitTasks
    _member: str

    def __init__(
        self,
        forward: Forward | None = None,
        gradient: Gradient | None = None,
        init: Params | Callable[..., Params] | None = None,
        *,
        model: Any = None,
        loss_and_gradient: LossAndGradient | None = None,
        vjp: Vjp | None = None,
        jacobian: Jacobian | None = None,
        loss: str | Loss | LossFunction | None = "squared_error",
        model_params: dict[str, Any] | None = None,
        reduction: str = "mean",
        additive: bool | str = "auto",
        accept_sparse: bool | str = "auto",
        fixed: Iterable[str | int] | Mapping[str | int, Any] = (),
        numerical: Iterable[str | int] = (),
        bounds: Mapping[str | int, Any] | None = None,
        reparametrize: Mapping[str | int, str | Map] | None = None,
        alpha: float | dict[str, float] = 0.0,
        optimizer: str | Optimizer | FullBatch | Phases = "auto",
        batch_size: int | str = "auto",
        max_iter: int | str = "auto",
        shuffle: bool = True,
        drop_last: bool = False,
        tol: float | None = 1e-4,
        n_iter_no_change: float = 10,
        early_stopping: bool = False,
        scoring: str | Callable[..., float] | None = None,
        validation_fraction: float = 0.1,
        local_steps: int = 1,
        worker_timeout: float = 300.0,
        check_gradient: bool | str = True,
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.forward = forward
        self.gradient = gradient
        self.init = init
        self.model = model
        self.loss_and_gradient = loss_and_gradient
        self.vjp = vjp
        self.jacobian = jacobian
        self.loss = loss
        self.model_params = model_params
        self.reduction = reduction
        self.additive = additive
        self.accept_sparse = accept_sparse
        self.fixed = fixed
        self.numerical = numerical
        self.bounds = bounds
        self.reparametrize = reparametrize
        self.alpha = alpha
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.scoring = scoring
        self.validation_fraction = validation_fraction
        self.local_steps = local_steps
        self.worker_timeout = worker_timeout
        self.check_gradient = check_gradient
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    __signature__ = SignatureOfInit()

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Refuse a parameter that does not exist, in words that name the class that was called."""
        refuse_unknown(cls, settings)
        made: Self = super().__new__(cls)
        return made

    # The way through fit.

    def fit(
        self,
        X: MatrixLike,
        y: object | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        **metadata: Any,
    ) -> Self:
        """Train the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples. float32 and float64 are kept; other dtypes are converted to float64. If X is a dask array
            or dataframe, each chunk is processed on the worker of the current client's cluster that holds it, together
            with y, weights and metadata.
        y : None, default=None
            Ignored; present for compatibility with scikit-learn's pipelines.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, scaled to mean 1: a sample of weight 2 counts like the same sample twice.
        X_val : array-like of shape (n_val, n_features), default=None
            Validation samples to score after each epoch with ``early_stopping=True``, in place of samples held out
            from X. A pipeline created with ``transform_input=["X_val"]`` transforms them like X.
        y_val : None, default=None
            Ignored.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the validation samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the callables that name it: ``exposure=...``, and ``exposure_val=...`` for
            `X_val`.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        GradientCheckError
            If the analytic gradient is clearly not the derivative of the loss.
        DivergenceError
            If the loss or the gradient is not finite. ``params_`` keeps the last finite parameters.
        """
        return self._fit_arrays(X, None, sample_weight, metadata, (X_val, None, sample_weight_val))

    @in_batches
    def partial_fit(
        self, X: MatrixLike, y: object | None = None, sample_weight: ArrayLike | None = None, **metadata: Any
    ) -> Self:
        """Train for one pass over a batch of samples, starting from the current parameters.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : None, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, not rescaled: a sample of weight 2 counts as two.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the callables that name it.

        Returns
        -------
        self : estimator
            The fitted estimator.
        """
        return self._partial_fit_arrays(X, None, sample_weight, metadata)

    def fit_chunks(
        self,
        chunks: Any,
        *,
        X_val: MatrixLike = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        **metadata: Any,
    ) -> Self:
        """Train the model on data that do not fit into memory, one chunk at a time.

        Parameters
        ----------
        chunks : sequence, iterable or callable
            A chunk is ``X``, ``(X, y)``, ``(X, y, sample_weight)``, a dict of the arguments of `fit`,
            including sample metadata, or a function without arguments that loads one of these. Chunks without samples
            are skipped. Dask's delayed values, in a list, are processed on the workers that hold them. Pass a list (or
            another object with a length and an index), whose chunks are shuffled before each epoch; another
            object that can be iterated over repeatedly; or a generator function, which is called in every pass.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Validation samples to score after each epoch with ``early_stopping=True``, in place of held-out chunks.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Targets of the validation samples.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the validation samples.
        **metadata : array-like of shape (n_val,) or (n_val, k)
            Metadata of the validation samples, passed to the callables that name it: ``exposure_val=...``.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        TypeError
            If `chunks` can be iterated over only once, or does not contain chunks.
        ValueError
            If a chunk differs from the first in its features, its dtype, the shape of y, whether X is sparse, or
            whether it has weights; or if it has other samples in a later pass. A note names the chunk.

        See Also
        --------
        partial_fit : Train for one pass over a single chunk.

        Notes
        -----
        A first pass reads every chunk once. It validates and counts the samples, checks that y lies in the domain
        of the loss, and sums the weights, which are scaled to mean 1 over all samples. Training then reads all
        chunks in every epoch, or in every evaluation of a full-batch method, which adds up sums over the
        chunks in order. One chunk is held in memory at a time, and it is validated each time it is read.

        A batch does not span chunks: if ``batch_size`` does not divide the size of a chunk, its last batch is
        shorter. The order of samples and chunks depends only on the seed, the epoch and the index of the chunk. A
        single chunk gives the same result as `fit`, bit for bit.

        ``init`` receives the samples of the first chunk; the gradient is checked on them too. With
        ``early_stopping=True``, a share of the chunks, ``validation_fraction``, is held out and scored together.
        If there is only one chunk, samples are held out from it as in `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from sk_analytic import AnalyticRegressor
        >>> def load(number):
        ...     X = np.random.default_rng(number).normal(size=(200, 3))
        ...     return X, X @ [1.0, -2.0, 0.5]
        >>> def chunks():
        ...     for number in range(5):
        ...         yield load(number)
        >>> model = AnalyticRegressor(tol=None, random_state=0).fit_chunks(chunks)
        >>> model.params_["coef"].round(2)
        array([ 1. , -2. ,  0.5])
        """
        return self._fit_chunks(chunks, metadata, (X_val, y_val, sample_weight_val))

    def _fit_arrays(
        self, X: Any, y: Any, sample_weight: Any, metadata: Any, validation: Any, watch: Any = None
    ) -> Self:
        with fitting(self):
            check_settings(self)
            before = self._before(self.warm_start)
            known = _targets_of(before)
            data: ArrayData | ChunkData
            if any_collection((X, y, sample_weight, *metadata.values())):
                data = read_collections(self, X, y, sample_weight, metadata, validation=validation, known=known)
            else:
                settings = {"validation": validation, "known": known, **self._labels_of_fit}
                data = read_arrays(self, X, y, sample_weight, metadata, **settings)
            return self._fit(data, before, watch=watch)

    def _partial_fit_arrays(self, X: Any, y: Any, sample_weight: Any, metadata: Any, **labels: Any) -> Self:
        with fitting(self):
            check_settings(self)
            if self.early_stopping:
                raise ValueError("partial_fit does not support early_stopping=True: it has no samples to hold out.")
            before = self._before(True)
            data = read_arrays(self, X, y, sample_weight, metadata, known=_targets_of(before), **labels)
            return self._fit(data, before, incremental=True)

    def _fit_chunks(self, chunks: Any, metadata: Any, validation: Any, **labels: Any) -> Self:
        with fitting(self):
            check_settings(self)
            before = self._before(self.warm_start)
            data = read_chunks(self, chunks, metadata, validation=validation, known=_targets_of(before), **labels)
            return self._fit(data, before)

    def _before(self, goes_on: bool) -> Before | None:
        """The training that a fit continues; None if it starts from the beginning."""
        return Before(self._training, self.params_) if goes_on and hasattr(self, "params_") else None

    def _fit(
        self, data: ArrayData | ChunkData, before: Before | None, *, incremental: bool = False, watch: Any = None
    ) -> Self:
        """Train on what was read, and publish; ``watch(theta)`` sees θ before and after each epoch."""
        with Interrupts().hold() as interrupts:
            try:
                try:
                    interrupts.release()
                    warning = self._train(data, before, interrupts, incremental, watch)
                finally:  # an interrupt may come here too
                    interrupts.hold()
            finally:
                for name in OF_A_FIT[1:]:
                    self.__dict__.pop(name, None)
                if "_training" in self.__dict__:
                    self._training.release()
        imprecision = self._training.imprecision()
        for each in (imprecision and UserWarning(imprecision), warning):
            if each:
                warnings.warn(each, stacklevel=4)
        return self

    def _train(
        self, data: ArrayData | ChunkData, before: Before | None, interrupts: Interrupts, incremental: bool, watch: Any
    ) -> Warning | None:
        """Train from the start, after an earlier training, or from a checkpoint; return what `_run` does."""
        fingerprint = None if incremental else data.fingerprint()
        if fingerprint is not None and checkpoints(self):
            resumed = self._resumed(fingerprint)
            if resumed is not None:
                before = resumed
                if before.training.finished:
                    interrupts.hold()
                    self._publish(before.training, before.params)
                    return None
        prepared: Prepared | None = None
        try:
            prepared = self._prepare(data, before, incremental=incremental, fingerprint=fingerprint)
            if before is None or (self.check_gradient is not False and not prepared.training.is_checked):
                problem.look_at(self, prepared.training, prepared.rows)
            return self._run(prepared, interrupts, incremental, watch)
        except ParameterStructureError as error:
            if before is not None and "params_" not in str(error):
                error.add_note(
                    "Training continues from the params_ of an earlier fit, in their shapes. To start again, set "
                    "warm_start=False and call fit, or train a clone."
                )
            raise
        finally:
            if prepared is not None:
                prepared.release()

    def _resumed(self, fingerprint: dict[str, Any]) -> Before | None:
        """Return what there is to resume from; before that, note which of several uncounted fits this is."""
        seed = None if self.random_state is None else problem.draw_seed(copy.deepcopy(self.random_state))
        if not callers.is_told_apart():
            self._member = member_of(self, fingerprint, seed)
        resuming = next((callback for callback in checkpoints(self) if callback.resume), None)
        earlier = None if resuming is None else resuming.resumed(self, fingerprint, seed)
        return None if earlier is None else Before(earlier._training, earlier.params_, resume=True)

    def _prepare(
        self,
        data: ArrayData | ChunkData,
        before: Before | None,
        *,
        incremental: bool = False,
        seed: int | None = None,
        optimizer: Any = None,
        holds_out: bool = True,
        fingerprint: dict[str, Any] | None = None,
    ) -> Prepared:
        """Make a training of data; nothing of this estimator or of ``before`` is changed.

        The seed is that of ``before`` or of ``random_state``, and the optimizer the estimator's, unless they are given.
        """
        if seed is None:
            seed = problem.draw_seed(self.random_state) if before is None else before.training.seed
        held_out: HeldOut | None = None
        if incremental:
            data = data.unscaled(is_first=before is None)  # type: ignore[union-attr]
        elif holds_out:
            data, held_out = data.split(self, seed)
        else:
            data = data.scaled()
        first, objective, theta = self._begin(data, before, seed)
        if optimizer is None:
            optimizer = self._optimizer_for(data, objective, incremental)
        if not incremental and problem.no_step_takes_all(self, data, optimizer):
            counted = data.counted()
            if counted is not data:
                data = counted
                first, objective, theta = self._begin(data, before, seed)
        if (place := place_of(getattr(data, "X", None))) is not None:
            problem.refuse_elsewhere(self, objective, theta, optimizer)
            objective, theta = objective.placed(place), theta.placed(place)
        training = self._new_training(data, objective, theta, before, seed, optimizer, fingerprint, incremental)
        rows = [data.rows(**problem.batching(self, method, seed)) for method, _ in training.phases]
        problem.require_suitable(training.objective, theta, training.phases, rows, first.sample_weight is not None)
        return Prepared(training, rows, held_out, data.given)

    def _prepare_start(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        metadata: Mapping[str, Any],
        *,
        goes_on: bool,
        seed: int,
        optimizer: Any = None,
        **labels: Any,
    ) -> tuple[Training, list[Any]]:
        """Where a fit would start, or go on if it is fitted: for what looks at a training without running it."""
        before = self._before(goes_on)
        data = read_arrays(self, X, y, sample_weight, metadata, known=_targets_of(before), **labels).on_host()
        training, rows, _, _ = self._prepare(data, before, seed=seed, optimizer=optimizer, holds_out=False)
        return training, rows

    def _prepare_check(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        random_state: RandomState,
        metadata: Mapping[str, Any],
        params: Any = None,
    ) -> tuple[Any, ...]:
        """What `check_gradient` looks at: objective, θ (its own, or parameters that are given), batch and seed."""
        seed = problem.draw_seed(random_state)
        training, rows = self._prepare_start(X, y, sample_weight, metadata, goes_on=True, seed=seed)
        objective, theta = training.objective, training.theta
        if params is not None:
            vector = objective.layout.flatten(params)
            require_inside(theta, vector)
            theta = theta.entered(vector)
        return objective, theta, problem.batch_to_check(objective, theta, rows[0].first), seed

    def _prepare_sweep(
        self, X: Any, y: Any, sample_weight: Any, random_state: RandomState, optimizer: Any, metadata: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """What `find_learning_rate` goes through, after the checks that `fit` makes: objective, θ and rows."""
        check_settings(self)
        seed = problem.draw_seed(random_state)
        settings = {"goes_on": self.warm_start, "seed": seed, "optimizer": optimizer, **self._labels_of_fit}
        training, [rows] = self._prepare_start(X, y, sample_weight, metadata, **settings)
        problem.look_at(self, training, [rows])
        return training.objective, training.theta, rows

    def _prepare_starts(
        self, X: Any, y: Any, sample_weight: Any, metadata: Mapping[str, Any]
    ) -> tuple[Objective, Parameters, Rows]:
        """What `fit_from_starts` draws from and compares by: the objective, θ where a fit begins or has ended, rows."""
        check_settings(self)
        metadata, _ = of_validation(metadata, self._metadata_names("partial_fit"))
        seed = problem.draw_seed(copy.deepcopy(self.random_state))
        settings = {"goes_on": True, "seed": seed, **self._labels_of_fit}
        training, rows = self._prepare_start(X, y, sample_weight, metadata, **settings)
        theta = self._read_params() if hasattr(self, "params_") else training.theta
        theta = theta if theta.layout.place is None else theta.placed(None)
        return training.objective, theta, rows[0]

    def _prepare_inference(
        self, X: Any, y: Any, sample_weight: Any, chunks: Any, metadata: Mapping[str, Any]
    ) -> tuple[Objective, Parameters, Any, ArrayData | ChunkData]:
        """What `infer` looks at: the objective and ``params_`` in float64, the rows, and the data they come from."""
        check_is_fitted(self)
        check_settings(self)
        before = Before(self._training, self.params_)
        known = before.training.targets
        if is_remote_list(chunks):
            raise TypeError(
                "infer needs the samples in this process, but some chunks are delayed. Pass functions that load them, "
                "without dask.delayed."
            )
        if chunks is None:
            data: Any = read_arrays(self, X, y, sample_weight, metadata, known=known).on_host().scaled()
        else:
            data = read_chunks(self, chunks, metadata, known=known).scaled()
        first, fitted, theta = self._begin(data, before, before.training.seed)
        objective = fitted.astype(np.float64)
        rows = data.rows(seed=before.training.seed)
        problem.require_suitable(objective, theta, (), [rows], first.sample_weight is not None)
        there = problem.constrained_by(self, problem.read_params(objective.layout, structure_on_host(self.params_)))
        return objective, there, rows, data

    def _prepare_prediction(self, X: MatrixLike, metadata: Mapping[str, Any]) -> Callable[[Any], Array]:
        """Return a function of the user's structure that predicts for some rows, in float64 and on the scale of y."""
        training = self._training
        batch = self._with_metadata(read_X(self, X, reset=False), metadata, training.objective.model.predictor.nameable)
        bound, batch = training.objective.model.bound_to(batch.columns), batch.astype(np.float64)

        def predicted(params: Any) -> Array:
            prediction = read_prediction(bound.predictions(params, batch), batch.n)
            bound.forget()
            return self._on_scale_of_y(training.targets.check_prediction(prediction))

        return predicted

    def _on_scale_of_y(self, prediction: Array) -> Array:
        """Return what a prediction says of y; of an estimator without y, the prediction itself."""
        return prediction

    @property
    def _link(self) -> str:
        """The link on which what `_on_scale_of_y` returns has no limits."""
        return "identity"

    def _begin(
        self, data: ArrayData | ChunkData, before: Before | None, seed: int
    ) -> tuple[Batch, Objective, Parameters]:
        """Bind the callables to the first samples, and lay out θ."""
        place = data.place
        if before is not None:
            require_place_of_fit(self, before.training, place, "fit")
        data = data if place is None else data.on_host()  # type: ignore[union-attr]
        first = data.first
        model = problem.bind(self, first.columns, None if before is None else before.training.objective.model)
        model = model if place is None else model.placed(place)
        problem.require_weights_accepted(model, first.sample_weight)
        if before is None:
            theta = problem.starting_theta(model, data, seed)
            begin = problem.constrained_by(self, theta)
            if self._other_start is not None:
                begin = self._other_start(begin)
            return first, problem.make_objective(self, model, theta.layout), begin
        layout = before.training.objective.layout.astype(first.X.dtype)
        params = before.params if place is None else structure_on_host(before.params)
        theta = problem.read_params(layout, params)
        require_apart(layout.names, layout.leaves(params), "params_")
        return first, problem.make_objective(self, model, layout), problem.constrained_by(self, theta)

    def _optimizer_for(self, data: ArrayData | ChunkData, objective: Objective, incremental: bool) -> Any:
        """The optimizer that was passed, or the one that "auto" chooses."""
        if not is_auto(self.optimizer):
            return problem.own(get_optimizer, self.optimizer)
        if incremental or type(data) is ChunkData or data.place is not None:
            return Adam()
        n_samples = data.extent.n
        return chosen(self, objective, n_samples, data.targets.n_outputs, is_remote=isinstance(data, PartitionData))

    def _new_training(
        self,
        data: ArrayData | ChunkData,
        objective: Objective,
        theta: Parameters,
        before: Before | None,
        seed: int,
        optimizer: Any,
        fingerprint: dict[str, Any] | None,
        incremental: bool,
    ) -> Training:
        criterion = None if fingerprint is None else problem.criterion(self, fingerprint)
        # Those of a file know of their predictions; others were read in view of what there was before.
        targets = before.training.targets if before is not None and before.resume else data.targets
        known: dict[str, Any] = {"targets": targets, "features": data.features, "criterion": criterion}
        known["max_iter"] = 1 if incremental else problem.iterations(self, optimizer)
        if before is None:
            training = Training(objective, theta, optimizer, seed=seed, **known)
        else:
            settings = {"incremental": incremental, "resume": before.resume, **known}
            training = Training.after(before.training, objective, theta, optimizer, **settings)
        training.fingerprint = fingerprint
        return training

    @with_callbacks
    def _run(self, prepared: Prepared, interrupts: Interrupts, incremental: bool, watch: Any) -> Warning | None:
        """Train, and publish however that ends; return what kept training from its end, as a warning."""
        training, rows, held_out, given = prepared
        training.begin()
        monitor = self._monitor(training, held_out, watch)
        has_callbacks = getattr(self, "_skl_callbacks", None) and not incremental
        tasks = monitor.tasks = self._tell(training, given) if has_callbacks else None
        warning: Warning | None = None
        interrupts.hold()
        try:
            failed = self._run_and_publish(training, rows, monitor, incremental, interrupts)
            interrupts.release()
            warning = None if failed is None or incremental else self._not_converged(training, failed)
        except DivergenceError as error:
            interrupts.release()
            error.args = (f"{error} {problem.second_opinion(training)}".rstrip(),)
            raise
        except KeyboardInterrupt:
            if incremental or interrupts.held is not None or not callers.is_users_own():
                raise
            warning = UserWarning("Training was interrupted; the estimator keeps the parameters of its last update.")
        interrupts.release()
        if tasks is not None:
            tasks.finish()
        return warning

    def _run_and_publish(
        self, training: Training, rows: list[Any], monitor: Monitor, incremental: bool, interrupts: Interrupts
    ) -> NotConverged | None:
        """Train, and publish; interrupts, which are held back before, are so again from the end of training on."""
        training.history.mark()
        try:
            try:
                interrupts.release()
                return training.run(rows, monitor, self.n_iter_no_change, incremental)
            finally:
                interrupts.hold()
        finally:  # also if an interrupt came in the line before
            training.history.cut()
            self._publish(training, training.publish().to_structure())

    def _not_converged(self, training: Training, failed: NotConverged) -> ConvergenceWarning:
        opinion = problem.second_opinion(training) if failed.is_suspicious else ""
        reason = f"{failed.reason}{advice_on_hidden(type(self), failed.reason)}"
        return ConvergenceWarning(f"{type(self).__name__} has not converged. {reason} {opinion}".rstrip())

    def _monitor(self, training: Training, held_out: HeldOut | None, watch: Any) -> Monitor:
        score = None if held_out is None else self._scorer_on(training, held_out)
        if watch is not None:
            watch(training.theta)
        return Monitor(
            training.history,
            tol=self.tol,
            score=score,
            verbose=self.verbose,
            stopping=training.stopping,
            watch=watch,
            rounding=8 * float(np.finfo(training.theta.vector.dtype).eps),
            largest_score=training.targets.largest_score if self.scoring is None else math.inf,
        )

    def _scorer_on(self, training: Training, held_out: HeldOut) -> Callable[[Parameters], float]:
        """Return ``score(theta)`` of held-out samples: by `scoring`, tried at the start, else as `score` does."""
        if self.scoring is None:
            if training.targets.scores_by_loss:
                with noted("While scoring the held-out samples, with early_stopping=True."):
                    require_loss(training.objective)
            return default_score(training.targets, training.objective, held_out)
        score = score_by(self.scoring, self, training, held_out)
        with warnings.catch_warnings(), noted("In the first call of scoring, before the first step."):
            warnings.simplefilter("ignore")  # a metric may be undefined at the starting parameters
            score(training.theta)
        return score

    # What is published.

    def _publish(self, training: Training, params: Any) -> None:
        """Set the fitted attributes."""
        for name in _SOMETIMES_PUBLISHED:
            self.__dict__.pop(name, None)
        self.__dict__.update(_published(training, params))
        self.n_iter_ = max(1, training.history.n_iter)  # an epoch that was interrupted is one too

    def _as_fitted(self, training: Training, theta: Parameters) -> Self:
        """Return a copy that is fitted with the current parameters of the training, which it owns from now on.

        It has no optimizer state: further training starts from these parameters with a new state.
        """
        twin = self._twin()
        params = theta.to_structure()
        twin.__dict__.update(_published(training.copy(with_state=False), params))
        return twin

    def _snapshot(self, training: Training) -> dict[str, Any]:
        """Return the attributes of a copy as if the fit had ended now, which can also go on with it."""
        twin, params = training.snapshot()
        return _published(twin, params.to_structure())

    # Callbacks.

    def _tell(self, training: Training, given: Any) -> FitTasks:
        """Tell the callbacks that the fit begins; return what will tell them of its epochs."""
        tasks = FitTasks(
            self,
            # A full-batch method may begin a line search after its last iteration.
            sum(max_iter + isinstance(method, FullBatch) for method, max_iter in training.phases),
            given,
            publish=lambda: self.__dict__.update(_published(training, training.theta.to_read())),
            snapshot=lambda: self._snapshot(training),
            gradient=lambda: training.gradient(self.params_),
        )
        tasks.begin_fit()  # where one may refuse, before anything is published
        self._tasks = tasks
        return tasks

    # What is read of the training; what the caller gets is a copy, or cannot be written to.

    @property
    def loss_curve_(self) -> list[float]:
        """Objective (loss and penalty) of each epoch."""
        return list(self._trained("loss_curve_").history.loss_curve)

    @property
    def gradient_norm_curve_(self) -> list[float]:
        """Norm of the gradient in each epoch."""
        return list(self._trained("gradient_norm_curve_").history.gradient_norms)

    @property
    def validation_scores_(self) -> list[float] | None:
        """Score of the validation samples after each epoch; None without early stopping."""
        return list(self._trained("validation_scores_").history.validation_scores) or None

    @property
    def optimizer_state_(self) -> Any:
        """State of the optimizer, read-only; None for a full-batch method."""
        state = self._trained("optimizer_state_").state
        return None if state is None else state.snapshot()

    @property
    def best_loss_(self) -> float | None:
        """Smallest value of ``loss_curve_``; None if that is empty."""
        return min(_numbers(self._trained("best_loss_").history.loss_curve), default=None)

    @property
    def best_validation_score_(self) -> float | None:
        """Largest value of ``validation_scores_``; None without early stopping."""
        return max(_numbers(self._trained("best_validation_score_").history.validation_scores), default=None)

    def _trained(self, name: str) -> Training:
        """The training from which an attribute is read."""
        if "_training" not in self.__dict__:
            raise AttributeError(f"This {type(self).__name__} is not fitted, so it has no {name}.")
        return self._training

    @property
    def gradient_(self) -> Any:
        """Gradient of the loss with respect to ``params_``, in the same structure.

        Available to callbacks during a fit. It is evaluated when it is read, on the same samples in each epoch (a
        tenth of all, or some thousand), and excludes the penalty. Parameters that are not trained have None.
        """
        if "_tasks" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}.gradient_ is available only to callbacks, during a fit.")
        return self._tasks.gradient()

    # Reading samples: what differs between tasks.

    def _read(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, known: Any = None
    ) -> tuple[Any, dict[str, Array], Weights | None, Targets]:
        """Validate samples; return X, the columns that go with it, the weights or None, and what the targets are."""
        X = read_X(self, X, reset=reset)
        return X, {}, read_weight(sample_weight, X), self._new_targets() if known is None else known

    def _new_targets(self) -> Targets:
        raise NotImplementedError

    def _survey_labels(self, source: Source, known: Any) -> dict[str, Any]:
        """Return what `_read` has to know of all chunks before it can read one."""
        return {}

    def _look_at_targets(self) -> Callable[[Mapping[str, Array]], object]:
        """Return a function that raises if targets, all or those of a chunk, do not go with the loss."""
        given = self._trained_loss
        if given is None or is_function(given):
            return lambda columns: None
        loss: Any = get_loss(given)
        loss.check()
        return partial(self._check_loss, loss)

    def _check_loss(self, loss: Loss, columns: Mapping[str, Array]) -> None:
        """Raise if a loss by name does not fit the task."""
        require_loss_fits(loss, self._trained_loss, columns, type(self).__name__)

    def _takes_sparse(self) -> bool:
        """Whether X may be sparse. Functions of the user's do not say so by themselves; a default model knows."""
        if not isinstance(self.accept_sparse, str):
            return bool(self.accept_sparse) and (self._default_takes_sparse or self._has_own_model())
        if self.model is not None:  # "auto"
            return bool(getattr(self.model, "accept_sparse", False))
        return self._default_takes_sparse and not (self._has_own_model() or self._hands_X_on())

    def _takes_other_arrays(self) -> bool:
        """Whether X may be an array of another namespace. A default model can have any; a model object says so."""
        if self.model is not None:
            takes = bool(getattr(self.model, "array_api_support", False))
        else:
            takes = not (self._has_own_model() or self._hands_X_on())
        with suppress(Exception):  # which `fit` raises
            methods = [method for method, _ in phases_of(get_optimizer(self.optimizer), 1)]
            return takes and not any(isinstance(method, FullBatch) for method in methods)
        return takes

    def _has_own_model(self) -> bool:
        """Whether the model is the user's and not the default one."""
        return self.model is not None or not runs_default(vars(self))

    def _hands_X_on(self) -> bool:
        """Whether a loss or an `init` of the user receives X together with the default model."""
        return is_function(self.loss) or (callable(self.init) and "X" in names_of({"init": self.init}, lenient=True))

    def _why_dense(self) -> str:
        """Say why a sparse X is refused, and what can be done."""
        if not self._has_own_model() and not self._default_takes_sparse:
            name = type(self).__name__
            return f"The default model of {name} subtracts the mean from X, which would make it dense."
        if self.accept_sparse is False:
            return "accept_sparse=False does not allow sparse input."
        who = "Your functions receive arrays unless accept_sparse=True declares"
        if self.model is not None:
            who = "A model object receives arrays unless its attribute accept_sparse = True, or the parameter, declares"
        return f"{who} that they work with CSR matrices: use X @ W, X.T @ d and X.shape[0] instead of X * w and len(X)."

    @classmethod
    @functools.cache
    def _default_loss(cls) -> Any:
        constructors = (vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base))
        signatures = (inspect.signature(constructor).parameters for constructor in constructors)
        return next(parameters["loss"].default for parameters in signatures if "loss" in parameters)

    @property
    def _trained_loss(self) -> Any:
        """The loss that is trained: that of the model object if it has one, else the parameter."""
        return functions_of(self)["loss"]

    # Predictions.

    def _predictions(self, X: MatrixLike, metadata: Mapping[str, Any]) -> Array:
        """Return what `forward` says of validated samples."""
        check_is_fitted(self)
        training = self._training
        X = read_X(self, X, reset=False)
        batch = self._with_metadata(X, metadata, training.objective.model.predictor.nameable)
        bound = training.objective.model.bound_to(batch.columns)
        returned = bound.predictions(self._read_params().structure, batch)
        bound.forget()
        prediction = training.targets.check_prediction(read_prediction(returned, batch.n))
        converted: Array = prediction.astype(X.dtype)  # a copy: it may be a view of X or of a parameter
        return converted

    @lazily
    def _predicted(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return what `forward` says of samples, lazily of those of a dask collection."""
        return self._predictions(X, metadata)

    def _rows_of(self, role: str, batch: Batch) -> Array:
        """Return the rows of features that a function of the model, which `fit` has bound, makes of a batch."""
        receiver = getattr(self._training.objective.model, role)
        name = PARAMETERS.get(role, role)
        if receiver is None:
            raise NotFittedError(f"{name} was set after fit. Call fit on this {type(self).__name__} again to use it.")
        bound, params = receiver.bound_to(batch.columns), self._read_params()
        place = params.layout.place
        rows = np.asarray(bound((params if place is None else params.placed(None)).structure, batch))
        bound.forget()
        expected = (batch.n, self.n_features_in_)
        if rows.shape != expected or rows.dtype.kind not in "fiub":
            raise ParameterStructureError(
                f"{role} returned {rows.dtype} of shape {rows.shape}; expected real numbers of shape {expected}: one "
                f"row per sample, with the {expected[1]} features seen in fit."
            )
        rows = rows.astype(self._training.objective.layout.dtype)  # a copy: it may be a view of a parameter
        return rows if place is None else bare(place.taken_in(rows))

    def _with_metadata(self, X: Any, metadata: Mapping[str, Any], names: Collection[str]) -> Batch:
        """Return validated samples with their metadata, read-only, for a function that takes metadata of some names."""
        given = self.model_params if isinstance(self.model_params, dict) else ()
        columns = read_metadata(metadata, names, X.shape[0], model_params=given)
        place = place_of(X)
        beside = columns if place is None else {n: place.taken_in(column, n) for n, column in columns.items()}
        shown = {name: read_only(column) for name, column in beside.items()}
        return Batch(read_only(X), shown, position=(self._training.seed, CALLABLE, 0, 0))

    def mean_loss(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None, **metadata: Any) -> float:
        """Return the mean training loss of the samples, without the penalty of ``alpha``.

        The loss is the one that `fit` minimized, whether named or your own. Smaller is better; use
        :data:`~sk_analytic.neg_mean_loss` as a scorer.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets as for `fit`; the labels of a classifier must be among its ``classes_``. Ignored by
            :class:`AnalyticDensity` and :class:`AnalyticTransformer`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, used for a weighted mean. The ``class_weight`` of a classifier applies in training only.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the loss and to `forward` if they name it.

        Returns
        -------
        loss : float
            Mean loss, in the units of the loss: nats for a density.

        Raises
        ------
        ValueError
            If there is no loss, because `gradient` was given with ``loss=None``.
        """
        check_is_fitted(self)
        return self._mean_loss(X, y, sample_weight, metadata)

    def _mean_loss(self, X: Any, y: Any, sample_weight: Any, metadata: Mapping[str, Any]) -> float:
        rows, columns = read_to_score(self, X, y, sample_weight, metadata)
        with noted(
            "While evaluating mean_loss, which takes the metadata that the loss or forward names. With metadata "
            "routing, request it from the scorer: neg_mean_loss.set_score_request(name=True)."
        ):
            objective = self._training.objective.bound_to(columns)
        if objective.valued_by == "predictor":
            if objective.loss is not None and "y" in columns:
                rows.map(partial(check_domain, objective.loss))
        elif sample_weight is not None:
            problem.require_accepts_weights(getattr(objective.model, objective.valued_by))
        loss = mean_loss(objective, self._read_params(), rows)
        objective.model.forget()
        return loss

    def _read_params(self) -> Parameters:
        """``params_``, which the user may have set by hand, in the layout of the fit."""
        return problem.read_params(self._training.objective.layout, self.params_)

    # What scikit-learn asks.

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        routing.request_by_instance(cls)

    def _metadata_names(self, method: str) -> set[str]:
        """Names of the metadata that a method accepts, in addition to the arguments in its signature."""
        return routing.metadata_names_of(self, method)

    def _get_metadata_request(self) -> Any:
        of_class = super(AnalyticEstimator, type(self).__new__(type(self)))._get_metadata_request()
        return routing.complete(super()._get_metadata_request(), of_class, self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._takes_sparse()
        tags.array_api_support = self._takes_other_arrays()
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "params_")

    def _sk_visual_block_(self) -> Any:
        parts = {} if self.model is None or "model" in self._hidden_names() else {"model": self.model}
        if "optimizer" not in self._hidden_names() and not is_auto(self.optimizer):
            parts["optimizer"] = get_optimizer(self.optimizer)
        return block("parallel", labeled(parts)) if parts else single_block(self)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in OF_A_FIT}  # a copy is in no fit

    def __copy__(self) -> Self:
        """Return an estimator with the same parameters, and, if it is fitted, with a training of its own."""
        twin = self._twin()
        if "_training" in twin.__dict__:
            twin._training = self._training.copy()
            twin.params_ = copy.deepcopy(self.params_)
        return twin

    def _twin(self) -> Self:
        """Return an estimator with the same attributes."""
        twin = type(self).__new__(type(self))
        state = self.__getstate__()
        twin.__dict__.update((name, problem.rebound(value, self, twin)) for name, value in state.items())
        return twin

    def _unfitted(self) -> Self:
        """Return an estimator with the same attributes, those of a fit and the callbacks aside."""
        twin = self._twin()
        for name in ("_training", "params_", "_skl_callbacks"):
            twin.__dict__.pop(name, None)
        return twin

    # pickle, copy and what rests on them ask the first of these, and copy functions in their own ways; skops asks the
    # second.

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        require_importable(self)
        return self.__reduce_ex__(2)


class _Fit:
    """A fit under way; it goes with the call, however that ends."""


_under_way: WeakValueDictionary[int, _Fit] = WeakValueDictionary()


@contextmanager
def fitting(estimator: AnalyticEstimator) -> Iterator[None]:
    """Refuse a fit of an estimator in the midst of its own: what it has begun would be lost."""
    me = id(estimator)
    if me in _under_way:
        name = type(estimator).__name__
        raise RuntimeError(
            f"This {name} is already being fitted: one of its functions, callbacks or chunks calls fit, partial_fit or "
            "fit_chunks on it. Train a clone instead: sklearn.base.clone(model).fit(...)."
        )
    _under_way[me] = fit = _Fit()
    try:
        yield
    except Exception as error:
        advice = advice_on_hidden(type(estimator), str(error))
        if advice:
            error.add_note(advice.strip())
        raise
    finally:
        del fit


_SOMETIMES_PUBLISHED = ("model_", "gradient_report_", "optimizer_result_", "feature_names_in_")


def _published(training: Training, params: Any) -> dict[str, Any]:
    """The attributes of an estimator that is fitted as far as a training has come."""
    history = training.history
    known = {
        "model_": training.objective.model.of,
        "gradient_report_": training.report,
        "optimizer_result_": training.result,
    }
    return {
        "_training": training,
        "params_": params,
        "optimizer_": training.optimizer,
        "loss_": history.loss_curve[-1] if history.loss_curve else None,
        "n_iter_": history.n_iter,
        "n_steps_": history.n_steps,
        **{name: value for name, value in known.items() if value is not None},
        **training.features,
        **(
            {
                name: _shown_at(training.objective.layout.place, value)
                for name, value in training.targets.attributes.items()
            }
        ),
    }


def _shown_at(place: Place | None, value: Any) -> Any:
    """A fitted attribute as the user finds it: numbers in X's namespace, labels of other kinds in NumPy's."""
    is_moved = place is not None and isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    return bare(place.taken_in(value)) if is_moved else value  # type: ignore[union-attr]


def _numbers(curve: Iterable[float]) -> Iterator[float]:
    """The values of a curve that are numbers."""
    return (value for value in curve if not math.isnan(value))


def _targets_of(before: Before | None) -> Any:
    return None if before is None else before.training.targets
