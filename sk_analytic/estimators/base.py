"""What the four estimators share: parameters, the way through `fit`, fitted attributes.

They validate, delegate and set fitted attributes. Who receives what is decided in ``model.py``, what is
minimised in ``objective.py``, how in ``training.py``.
"""

from __future__ import annotations

import copy
import copyreg
import dataclasses
import inspect
import math
import numbers
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from ..exceptions import DivergenceError, ParameterStructureError, noted
from ..gradient_check.report import GradientReport
from ..losses import Loss, get_loss
from ..metadata import OF_VALIDATION, of_validation, read_metadata
from ..model import GRADIENT_FORMS, Model
from ..named import Interval, NamedParametersMixin, Range, check_range
from ..objective import Objective, merge, read_prediction
from ..optimizers import get_optimizer
from ..optimizers.base import Optimizer
from ..optimizers.full_batch import FullBatch
from ..optimizers.phases import Phases, phases_of
from ..optimizers.state import State
from ..parameters import Layout, Parameters
from ..representation import block, labelled
from ..rows import CHECK, INIT, MONITOR, ArrayRows, Batch, Rows, scale_to_mean_one
from ..tasks import OF_A_FIT, CallbackSupport, FitTasks, GivenRows, with_callbacks
from ..training import History, Monitor, Standing, answering, failure, minimize, train
from ..typing import (
    Array,
    F,
    Forward,
    Gradient,
    Jacobian,
    LossAndGradient,
    LossFunction,
    MatrixLike,
    Params,
    RandomState,
    Vjp,
)
from .routing import RoutesMetadata
from .scoring import score_by

FLOATS = [np.float64, np.float32]
MONITORED_ROWS = 1000  # on about so many rows, and a tenth of all, the plain gradient form's loss is watched
CHECKED_ROWS = 50  # for the gradient check where a batch is everything


def trains_by_batches(estimator: AnalyticEstimator) -> bool:
    """Whether the optimizer is one that partial_fit can go on with; a wrong name is for fit to refuse."""
    try:
        return not isinstance(get_optimizer(estimator.optimizer), FullBatch | Phases)
    except (TypeError, ValueError):
        return True


in_batches: Callable[[F], F] = available_if(trains_by_batches)
"""Decorates `partial_fit`: it is there where the optimizer goes from batch to batch."""

SHARED_DOC = """
    Parameters
    ----------
    forward : callable, default=None
        ``forward(params, X) -> prediction``: {forward}.
        Further arguments are received by name. Where neither it nor a gradient is given, the model is
        {default}; a `vjp` may stand in for it.
    gradient : callable, default=None
        ``gradient(params, X, y) -> grads``: gradient of the mean loss of the batch, in the structure of
        the parameters; a leaf ``None`` is not trained, a pair ``(rows, values)`` or a sparse matrix updates some
        rows of a block alone. Exactly one of the four gradient forms is given.
    init : callable or structure, default=None
        The starting parameters (dict, tuple, list, named tuple, nested or one array), or a function of
        those of ``n_features, n_outputs, rng, X, y, sample_weight`` and the model parameters that it names.
    loss_and_gradient : callable, default=None
        ``loss_and_gradient(params, X, y) -> (loss, grads)``: likewise, sharing the work with the value.
    vjp : callable, default=None
        ``vjp(params, X) -> (prediction, pullback)`` with ``pullback(d_prediction) -> grads``: adjoint of
        `forward`, composed with `loss`.
    jacobian : callable, default=None
        ``jacobian(params, X) -> J`` in the structure of the parameters, each leaf of shape
        (n, [k,] ...block): derivative of `forward`, composed with `loss`.
    loss : str, Loss, callable or None, default={loss}
        A name (see :func:`~sk_analytic.get_loss_names`), an object such as ``Huber(epsilon=1.5)``,
        ``loss(params, X, y) -> float`` (mean over the batch), or None. The forms `vjp` and `jacobian` are
        composed with it; for `gradient` it serves monitoring and the gradient check.
    model_params : dict, default=None
        Further arguments of the callables, by name; in a grid ``model_params__n_hidden``.
    reduction : {{"mean", "sum"}}, default="mean"
        What `gradient`, `loss_and_gradient` and a callable loss return, over the rows of the batch.
    fixed : iterable of str, default=()
        Blocks that are not trained: dict keys, fields of a named tuple or positions in another one, joined by
        dots where nested.
    numerical : iterable of str, default=()
        Blocks for which there is no analytic gradient yet: theirs is made of differences of the loss, at two
        evaluations an entry in every step. A dict may leave them out; elsewhere their leaf is None.
    alpha : float or dict, default=0.0
        Strength of the penalty ``alpha / 2 * sum of squares`` of all blocks (but not of the intercept of a
        default model), or by block name.
    optimizer : str or Optimizer, default="adam"
        A name (see :func:`~sk_analytic.get_optimizer_names`) or an object; its hyperparameters can be set
        as ``optimizer__learning_rate``. The rate of "adam" is 0.01 here: the 0.001 usual elsewhere
        undertrains in 200 epochs of a small data set.
    batch_size : int or "auto", default="auto"
        Rows of a minibatch; "auto" is min(200, n_samples). For a full-batch optimizer "auto" is one call
        with all rows, and a number the size of the parts that are summed.
    max_iter : int, default=200
        Epochs; iterations of a full-batch optimizer.
    shuffle : bool, default=True
        Whether to draw a new order of the rows for each epoch.
    tol : float, default=1e-4
        An epoch that does not gain more is no improvement. For full-batch optimizers the tolerance on the
        gradient.
    n_iter_no_change : int, default=10
        Training stops after more than so many epochs in a row without improvement of the training loss, of
        the validation score, or of the gradient's norm where there is no loss. NaN is no improvement.
    early_stopping : bool, default=False
        Whether to score rows that do not train after each epoch, and keep the best parameters: rows held out
        here (each class in its share), or the ``X_val`` of `fit`.
    scoring : str or callable, default=None
        What scores them: a name (see :func:`sklearn.metrics.get_scorer_names`) or a callable
        ``scorer(estimator, X, y)``; larger is better. It receives weights and metadata of the rows if it names
        them, and is called once before the first step. By default {score}.
    validation_fraction : float, default=0.1
        Share of the rows held out for early stopping.
    check_gradient : bool or "warn", default=True
        Whether to compare the analytic gradient with differences of the loss before the first step. A wrong
        one is an error, or a warning.
    random_state : int, RandomState instance or None, default=None
        Seed of the starting parameters, the orders, the split and the callables' ``rng``.
    warm_start : bool, default=False
        Whether `fit` goes on from where the last one ended: parameters, optimizer state, epochs, and the count of
        epochs without improvement if that had not yet stopped it. Two fits of 50 epochs then are one of 100, to
        the bit, also if the estimator was in a file meanwhile. A full-batch optimizer begins anew at the
        parameters: what it knew of the curvature is not kept.
    verbose : int, default=0
        Whether to print a line an epoch.{parameters}

    Attributes
    ----------
    params_ : structure
        The trained parameters, in the user's structure.
    loss_curve_ : list of float
        The objective (loss and penalty) of each epoch: the mean over its steps. For the plain `gradient`
        form, which gives no loss, that of a fixed sample of rows at the end of each epoch.
    loss_, best_loss_ : float or None
        The last and the smallest entry of `loss_curve_`.
    validation_scores_ : list of float or None
        With early stopping, the score of the rows that do not train, epoch by epoch.
    gradient_norm_curve_ : list of float
        The norm of the gradient in each epoch: the mean over its steps, or that at the iterate of a full-batch
        optimizer.
    n_iter_ : int
        Epochs since the parameters were initialised; iterations of a full-batch optimizer.
    n_steps_ : int
        Updates of the parameters.
    optimizer_ : Optimizer
        The optimizer used.
    optimizer_state_ : object or None
        Its state; None for a full-batch optimizer.
    optimizer_result_ : scipy.optimize.OptimizeResult
        What a full-batch optimizer returned.
    gradient_report_ : GradientReport
        What the gradient check found.
    n_features_in_ : int
        Features seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had some.{attributes}
"""


def shares_parameters(*, parameters: str = "", attributes: str = "", **words: Any) -> Callable[[Any], Any]:
    """Fill ``{shared}`` in a class's docstring: the four estimators have most parameters in common."""

    def fill(cls: Any) -> Any:
        default = inspect.signature(cls.__init__).parameters["loss"].default
        loss = "None" if default is None else f'"{default}"'
        shared = SHARED_DOC.format(loss=loss, parameters=parameters, attributes=attributes, **words)
        if cls.__doc__:  # python -OO has none
            cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("{shared}", inspect.cleandoc(shared))
        return cls

    return fill


class AnalyticEstimator(RoutesMetadata, CallbackSupport, NamedParametersMixin, BaseEstimator):
    """Base of the four estimators."""

    _named = {"optimizer": get_optimizer, "loss": get_loss}
    _dictionaries = ("model_params",)
    _default_model: Mapping[str, Callable[..., Any]]
    _ranges: Mapping[str, Range] = {
        "reduction": ("mean", "sum"),
        "max_iter": Interval(1, np.inf, integral=True),
        "shuffle": bool,
        "tol": Interval(0, np.inf),
        "n_iter_no_change": Interval(1, np.inf),
        "early_stopping": bool,
        "validation_fraction": Interval(0, 1, closed="neither"),
        "check_gradient": (True, False, "warn"),
        "warm_start": bool,
    }

    params_: Any  # in the user's structure
    loss_curve_: list[float]
    loss_: float | None
    best_loss_: float | None
    validation_scores_: list[float] | None
    n_iter_: int
    n_steps_: int
    gradient_report_: GradientReport

    def __init__(
        self,
        forward: Forward | None = None,
        gradient: Gradient | None = None,
        init: Params | Callable[..., Params] | None = None,
        *,
        loss_and_gradient: LossAndGradient | None = None,
        vjp: Vjp | None = None,
        jacobian: Jacobian | None = None,
        loss: str | Loss | LossFunction | None = "squared_error",
        model_params: dict[str, Any] | None = None,
        reduction: str = "mean",
        fixed: Iterable[str | int] = (),
        numerical: Iterable[str | int] = (),
        alpha: float | dict[str, float] = 0.0,
        optimizer: str | Optimizer | FullBatch | Phases = "adam",
        batch_size: int | str = "auto",
        max_iter: int = 200,
        shuffle: bool = True,
        tol: float = 1e-4,
        n_iter_no_change: float = 10,
        early_stopping: bool = False,
        scoring: str | Callable[..., float] | None = None,
        validation_fraction: float = 0.1,
        check_gradient: bool | str = True,
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.forward = forward
        self.gradient = gradient
        self.init = init
        self.loss_and_gradient = loss_and_gradient
        self.vjp = vjp
        self.jacobian = jacobian
        self.loss = loss
        self.model_params = model_params
        self.reduction = reduction
        self.fixed = fixed
        self.numerical = numerical
        self.alpha = alpha
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.scoring = scoring
        self.validation_fraction = validation_fraction
        self.check_gradient = check_gradient
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def _check_parameters(self) -> None:
        for name, allowed in self._ranges.items():
            check_range(type(self).__name__, name, getattr(self, name), allowed)
        if not (self.batch_size == "auto" or Interval(1, np.inf, integral=True).admits(self.batch_size)):
            raise ValueError(
                f"{type(self).__name__}: batch_size must be 'auto' or a whole number in [1, inf); "
                f"got {self.batch_size!r}."
            )
        if self.scoring is not None:
            if not (isinstance(self.scoring, str) or callable(self.scoring)):
                raise ValueError(
                    f"{type(self).__name__}: scoring must be the name of a scorer, a callable or None; "
                    f"got {self.scoring!r}."
                )
            check_scoring(self, scoring=self.scoring)
        if not isinstance(self.verbose, bool):
            check_range(type(self).__name__, "verbose", self.verbose, Interval(0, np.inf, integral=True))

    # pickle, copy and what rests on them ask the first of these, and copy functions in their own ways; skops asks the
    # second.

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        from ..persistence import require_importable

        require_importable(self)
        return self.__reduce_ex__(2)

    def _sk_visual_block_(self) -> Any:
        optimizer = get_optimizer(self.optimizer)
        return block("parallel", labelled({"optimizer": optimizer}))

    # What the subclasses say about their data.

    def _read(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None
    ) -> tuple[Any, dict[str, Array], Array | None]:
        """Validate rows; return X, the columns that go with it, and the weights or None."""
        raise NotImplementedError

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

    def _check_prediction(self, prediction: Array) -> Array:
        """Return a prediction; raise if its shape does not fit the task."""
        raise NotImplementedError

    def _learn_from_prediction(self, prediction: Array) -> None:
        """Take from the first prediction what only it can tell."""

    def _check_loss(self, loss: Loss, columns: Mapping[str, Array]) -> None:
        """Raise if a loss by name does not fit the task."""
        if (loss.domain is None) != ("y" not in columns):
            raise ValueError(
                f"loss={self.loss!r} compares {'predictions alone' if loss.domain is None else 'predictions with y'}; "
                f"{type(self).__name__} has {'targets' if 'y' in columns else 'no y'}. Choose another loss, or give "
                "gradient or loss_and_gradient, with a loss of your own or None."
            )
        if "y" in columns:
            loss.check_domain(columns["y"])

    _smallest_held_out = 1
    _scores_by_loss = False  # rather than by predictions

    _n_init_outputs = 1
    _seed: int
    _history: History
    _state: Any
    _method: Any
    _model: Any
    _fitted_loss: Any
    _layout: Any
    _tasks: FitTasks
    _training_vector: Any = None  # where training stands, where that is not what `params_` hold
    _published: int  # checksum of what they held then
    _watch: Any = None  # for pictures of a fit: sees θ before it and after each epoch

    def _stratify(self, y: Any) -> Any:
        return None

    _default_takes_sparse = False  # whether the default model leaves a sparse X sparse

    def _takes_sparse(self) -> bool:
        """Whether X may be sparse: what callables of the user's make of it is theirs to know."""
        has_own = self.forward is not None or any(getattr(self, form) is not None for form in GRADIENT_FORMS)
        return has_own or self._default_takes_sparse

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._takes_sparse()
        return tags

    def _read_X(self, X: MatrixLike, *args: Any, reset: bool, **settings: Any) -> Any:
        """Validate X, and y where that is given, as `validate_data` does; a sparse X is read as CSR."""
        sparse = "csr" if self._takes_sparse() else False
        read = validate_data(self, X, *args, accept_sparse=sparse, dtype=_floats_of(X), reset=reset, **settings)
        return (_canonical(read[0]), *read[1:]) if args else _canonical(read)

    # The way through fit.

    def _fit(self, read: Callable[..., Any], *, incremental: bool = False) -> Self:
        """Train on what ``read(continuing=, incremental=)`` returns.

        A maker of rows, held-out rows or None, and the `GivenRows` that callbacks may see.
        """
        before = self.__dict__.copy()
        try:
            prepared = self._prepare_fit(read, incremental)
        except BaseException:  # nothing is lost: what was fitted before stays whole
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        self._run(*prepared)
        return self

    def _prepare_fit(self, read: Callable[..., Any], incremental: bool) -> tuple[Any, ...]:
        """All that can be refused before the first step; what `_run` needs."""
        self._check_parameters()
        optimizer = _own(get_optimizer, self.optimizer)
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

    def _from_arrays(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        metadata: Mapping[str, Any],
        validation: tuple[Any, Any, Any] = (None, None, None),
        continuing: bool,
        incremental: bool,
        classes: Any = None,
    ) -> tuple[Any, ...]:
        """Read arrays: a maker of rows, held-out rows or None, and what callbacks may see of them."""
        names = self._metadata_names("partial_fit")
        metadata, held_metadata = of_validation(metadata, names)
        scored = {name: metadata[name] for name in self._metadata_names("score") & metadata.keys()}
        given = GivenRows(X, y, {"sample_weight": sample_weight, **scored})
        X, columns, weight = self._read(X, y, sample_weight, reset=not continuing, classes=classes)
        columns |= read_metadata(metadata, names, X.shape[0])
        if not continuing:
            self._draw_seed(self.random_state)
        held_out = self._given_to_validate(X, columns, validation, held_metadata)
        return self._arranged(X, columns, weight, held_out, given=given, continuing=continuing, incremental=incremental)

    def _arranged(
        self,
        X: Any,
        columns: Mapping[str, Array],
        weight: Array | None,
        held_out: Any = None,
        *,
        given: Any,
        continuing: bool,
        incremental: bool,
    ) -> tuple[Any, ...]:
        """Hold out rows if none are given, and scale weights: a maker of rows, those, and what callbacks may see."""
        if self.early_stopping and held_out is None:
            (X, columns, weight), held_out, given.chosen = self._split(X, columns, weight)
        if not incremental:
            weight = _scaled(weight)
        elif not continuing and weight is not None:
            scale_to_mean_one(len(weight), weight.sum())  # for its error: they are taken as they are
        return partial(ArrayRows, X, columns, weight), held_out, given

    def _draw_seed(self, random_state: RandomState) -> None:
        self._seed = int(check_random_state(random_state).randint(2**31 - 1))

    def _forget(self) -> None:
        """Drop what a former fit left and this one may not set."""
        for name in ("gradient_report_", "optimizer_result_"):
            self.__dict__.pop(name, None)

    def _given_to_validate(
        self, X: Any, columns: Mapping[str, Array], validation: tuple[Any, Any, Any], metadata: Mapping[str, Any]
    ) -> ArrayRows | None:
        """Return the rows that were passed to be scored, as an `ArrayRows`; None where there are none."""
        X_val, y_val, weight = validation
        beside = {"y_val": y_val, "sample_weight_val": weight}
        beside |= {name + OF_VALIDATION: values for name, values in metadata.items()}
        if X_val is None:
            for name, values in beside.items():
                if values is not None:
                    raise ValueError(f"{name} is provided, but X_val was not provided.")
            return None
        if y_val is None and "y" in columns:
            raise ValueError("X_val is provided, but y_val was not provided.")
        if not self.early_stopping:
            raise ValueError("X_val is passed to fit, but early_stopping is False: set early_stopping=True.")
        with noted("This is about the validation set: X_val, y_val and what goes with them."):
            X_val, columns_val, weight = self._read(X_val, y_val, weight, reset=False)
            columns_val |= read_metadata(metadata, columns.keys() - {"y"}, X_val.shape[0], OF_VALIDATION)
        scored_by_loss = self._scores_by_loss and self.scoring is None
        received = self._metadata_names("partial_fit" if scored_by_loss else "predict")
        for name in sorted(received & columns.keys() - columns_val.keys()):
            raise ValueError(f"{name} is passed for the rows of X; pass {name + OF_VALIDATION} for those of X_val.")
        held_out = ArrayRows(X_val.astype(X.dtype, copy=False), columns_val, weight, seed=self._seed)
        self._require_scorable(held_out, given=True)
        return held_out

    def _split(self, X: Any, columns: Mapping[str, Array], weight: Array | None) -> tuple[Any, ...]:
        """Return the training rows, the held-out ones as an `ArrayRows`, and the indices of the former."""
        try:
            train_rows, held_rows = train_test_split(
                np.arange(X.shape[0]),
                test_size=self.validation_fraction,
                random_state=self._seed,
                stratify=self._stratify(columns.get("y")),
            )
        except ValueError as error:
            error.add_note(f"early_stopping=True holds out validation_fraction={self.validation_fraction} of the rows.")
            raise

        def part(rows: Any) -> tuple[Any, ...]:
            named = {name: column[rows] for name, column in columns.items()}
            return X[rows], named, None if weight is None else weight[rows]

        held_out = ArrayRows(*part(held_rows), seed=self._seed)
        self._require_scorable(held_out)
        return part(train_rows), held_out, train_rows

    def _require_scorable(self, held_out: Rows, given: bool = False) -> None:
        n, needed = held_out.n_samples, self._smallest_held_out if self.scoring is None else 1
        if n < needed:
            held = (
                f"early_stopping=True holds out validation_fraction={self.validation_fraction} of the rows: {n} of them"
            )
            there = f"X_val has {n} rows" if given else held
            raise ValueError(f"{there}, and the score needs {needed}. {'Pass' if given else 'Hold out'} more.")
        if not held_out.sum_of_weights:
            weights = "sample_weight_val" if given else "sample_weight"
            rows = "row" if given else "row that early_stopping=True holds out"
            raise ValueError(f"{weights} is zero in every {rows} to be scored.")

    def _scorer_on(self, objective: Objective, theta: Parameters, held_out: Rows) -> Callable[[Parameters], float]:
        """Return ``score(theta)`` of held-out rows: by `scoring`, tried at the start, else as `score` does."""
        if self.scoring is None:
            return lambda theta: self._validation_score(objective, theta, held_out)
        score = score_by(self.scoring, self, objective, held_out)
        with warnings.catch_warnings(), noted("In the first call of scoring, before the first step."):
            warnings.simplefilter("ignore")  # a metric may well be undefined there
            score(theta)
        return score

    def _assemble(
        self, make_rows: Callable[..., Rows], methods: Sequence[Any], continuing: bool
    ) -> tuple[Objective, Parameters, list[Rows]]:
        """Bind the callables and lay out θ: the objective, the starting θ, and the rows as each method takes them."""
        rows = [make_rows(**self._batching(method)) for method in methods]
        first = rows[0].first.everything
        model = self._bind(first.columns)
        self._require_weights_accepted(model, first.sample_weight)
        theta = self._starting_theta(model, first, continuing)
        objective = Objective(
            model,
            self._loss_object(first.columns, model),
            theta.layout,
            alpha=self.alpha,
            unpenalized=("intercept",) if model.uses_defaults else (),
            reduction=self.reduction,
            fixed=self.fixed,
            numerical=self.numerical,
        )
        if any(isinstance(method, FullBatch) for method in methods):
            objective.require_value()
        if objective.loss is not None and not objective.loss.additive and any(r.steps_per_epoch > 1 for r in rows):
            raise ValueError(
                f"{type(objective.loss).__name__} is no sum over rows, so it needs all of them at once: use a "
                f"full-batch optimizer such as 'lbfgs', or batch_size >= {rows[0].n_samples}; of chunks, one chunk."
            )
        return objective, theta, rows

    def _batching(self, method: Any) -> dict[str, Any]:
        """How a method takes its rows."""
        full_batch = isinstance(method, FullBatch)
        batch_size: int | str | None = self.batch_size
        if batch_size == "auto":
            batch_size = None if full_batch else 200
        return {"batch_size": batch_size, "shuffle": self.shuffle and not full_batch, "seed": self._seed}

    def _bind(self, columns: Iterable[str]) -> Model:
        return Model.bind(
            forward=self.forward,
            forms={form: getattr(self, form) for form in GRADIENT_FORMS},
            init=self.init,
            default=self._default_model,
            loss=self.loss if self._loss_is_callable() else None,
            columns=columns,
            model_params=self.model_params,
        )

    def _loss_is_callable(self) -> bool:
        return callable(self.loss) and not isinstance(self.loss, type)

    def _loss_object(self, columns: Mapping[str, Array], model: Model) -> Loss | None:
        """The loss by name, or None; its domain is looked at here, once a fit."""
        if self.loss is None or self._loss_is_callable():
            if model.form in ("vjp", "jacobian"):
                composed = "the default model" if model.uses_defaults else model.form
                raise ValueError(
                    f"loss={self.loss!r} cannot be composed with {composed}, which needs the loss's derivative: give a "
                    "name or a Loss object. A callable loss goes with gradient."
                )
            return None
        loss: Loss = _own(get_loss, self.loss)
        loss.check()
        self._check_loss(loss, columns)
        return loss

    def _require_weights_accepted(self, model: Model, weight: Array | None) -> None:
        if weight is None:
            return
        receivers = [model.gradient] if model.form in ("gradient", "loss_and_gradient") else []
        for receiver in [*receivers, *([model.loss] if model.loss is not None else [])]:
            if "sample_weight" not in receiver.accepts:
                raise ValueError(
                    f"Rows are weighted (sample_weight or class_weight), but {receiver.role} does not accept "
                    f"sample_weight: add the argument to it, {receiver.role}(params, X, ..., sample_weight=None), "
                    f"and return {'' if receiver.role == 'loss' else 'the gradient of '}the mean over rows of weight "
                    "times loss."
                )

    def _starting_theta(self, model: Model, rows: Batch, continuing: bool) -> Parameters:
        dtype = rows.X.dtype
        if continuing:
            layout = Layout.of(self.params_, dtype)
            goes_on = self._training_vector is not None and self._are_params_as_published()
            return Parameters(
                layout, (self._training_vector if goes_on else layout.flatten(self.params_)).astype(dtype)
            )
        sizes = {"n_features": rows.X.shape[1], "n_outputs": self._n_init_outputs}
        start = rows.with_columns(sizes, (self._seed, INIT, 0, 0))
        structure = model.starting_params(start)
        layout = Layout.of(structure, dtype, "init")
        if model.default_init is not None:
            expected = Layout.of(model.default_init(None, start), dtype)
            if set(layout.names) != set(expected.names):
                blocks = ", ".join(f"{n!r} {shape}" for n, shape in zip(expected.names, expected.shapes, strict=True))
                raise ParameterStructureError(
                    f"init has blocks {', '.join(map(repr, layout.names))}. No callables are given, and the default "
                    f"model has {blocks}: start from those, or give forward and a gradient."
                )
        return Parameters(layout, layout.flatten(structure, "init"))

    def _are_params_as_published(self) -> bool:
        """Whether ``params_`` are what the last fit put there, and not the user's own."""
        return _checksum(Layout.of(self.params_, self._layout.dtype).flatten(self.params_)) == self._published

    def _inspect(self, objective: Objective, theta: Parameters, rows: Rows) -> None:
        """Before the first step: does the prediction fit, is the gradient right?"""
        batch = _check_batch(rows)
        try:
            with noted("In the first look at the callables, before the first step."):
                prediction = objective.predictions(theta.structure, batch)
        except ValueError as error:
            if self.check_gradient is False or "read-only" not in str(error):
                raise  # else the check will say which of its arguments `forward` writes to
        else:
            self._learn_from_prediction(prediction)
            self._check_prediction(prediction)
        _warn_of_differencing(objective)
        if self.check_gradient is False:
            return
        from ..gradient_check import require_right

        self.gradient_report_ = require_right(
            objective,
            theta,
            batch,
            seed=self._seed,
            preface=self._preface(objective),
            only_warn=self.check_gradient == "warn",
        )

    def _preface(self, objective: Objective) -> str:
        if objective.model.form != "gradient" or objective.loss is None or self.loss != self._default_loss():
            return ""
        return (
            f"The gradient was compared with loss={self.loss!r}, which is the default. If it belongs to another "
            "loss, name that, pass your own, loss=function(params, X, ...), or pass None for no comparison. "
        )

    @classmethod
    def _default_loss(cls) -> Any:
        return inspect.signature(cls.__init__).parameters["loss"].default

    def _run(self, incremental: bool, *prepared: Any) -> None:
        """Train, and warn of what kept training from its end."""
        warning = self._train(incremental, *prepared)
        if warning is not None:
            warnings.warn(warning, stacklevel=4)

    @with_callbacks
    def _train(
        self,
        incremental: bool,
        objective: Objective,
        theta: Parameters,
        phases: Any,
        rows: Sequence[Rows],
        monitor: Monitor,
        given: Any,
    ) -> str | None:
        """Train phase after phase; set the fitted attributes however it ends. Return a warning or None."""
        if monitor.watch is not None:
            monitor.watch(theta)
        warning, is_over = None, True
        try:
            if getattr(self, "_skl_callbacks", None) and not incremental:
                monitor.tasks = self._tell(objective, theta, phases, rows, monitor, given)
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
            self.__dict__.pop("_tasks", None)
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
            sample = _monitored(rows[monitor.standing.phase - first_phase])
            total = merge(objective.partial(theta, batch) for batch in sample)
            blocks = enumerate(theta.layout.blocks(total.gradient))
            return theta.layout.fill([None if index in total.missing else block for index, block in blocks])

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
        """Gradient of the loss by the parameters in training, in their structure.

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
        if stopped:
            return None
        return f"The {max_iter} epochs were not enough; a larger max_iter, another learning rate or tol may help."

    def _second_opinion(self, objective: Objective, theta: Parameters, start: Parameters, rows: Rows) -> str:
        """What the gradient check says, where training started and where it failed."""
        from ..gradient_check import second_opinion

        return second_opinion(objective, (start, theta), _check_batch(rows), seed=self._seed)

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
                self._training_vector, self._published = theta.vector, _checksum(answer.vector)
            answer = answer.copy()
        self.params_ = answer.layout.publish(answer.vector)
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
            "params_": answer.layout.publish(answer.vector.copy()),
            "_layout": answer.layout,
            "_training_vector": None if answer is theta else theta.vector.copy(),
            "_published": _checksum(answer.vector),
            "_history": history,
            "_state": state,
            "_standing": dataclasses.replace(monitor.standing),
        }

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "_callback_fit_ctx" not in state:
            return state
        return {name: value for name, value in state.items() if name not in OF_A_FIT}  # a copy is in no fit

    # Prediction.

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "params_")

    def _predictions(self, X: MatrixLike, metadata: Mapping[str, Any]) -> Array:
        """Return what `forward` says of validated rows."""
        check_is_fitted(self)
        X = self._read_X(X, reset=False)
        columns = read_metadata(metadata, self._model.predictor.nameable, X.shape[0])
        model = self._model.bound_to(columns)
        batch = ArrayRows(X, columns, seed=self._seed).everything
        # As in fit: read-only views, and arrays without dimensions where there are floats.
        layout = self._layout if self._layout.fits(self.params_) else Layout.of(self.params_, self._layout.dtype)
        params = layout.views(layout.flatten(self.params_, "params_"))
        prediction = read_prediction(model.predictions(params, batch), batch.n)
        return self._check_prediction(prediction).astype(X.dtype, copy=False)

    def _prepare_check(
        self,
        X: MatrixLike,
        y: Array | None,
        sample_weight: ArrayLike | None,
        random_state: RandomState,
        metadata: Mapping[str, Any],
    ) -> tuple[Any, ...]:
        """What `check_gradient` needs."""
        methods = [method for method, _ in phases_of(get_optimizer(self.optimizer), self.max_iter)]
        continuing = hasattr(self, "params_")
        other, (objective, theta, rows) = self._prepare(
            X, y, sample_weight, random_state, methods, continuing, metadata
        )
        return objective, theta, _check_batch(rows[0]), other._seed

    def _prepare_sweep(
        self,
        X: MatrixLike,
        y: Array | None,
        sample_weight: ArrayLike | None,
        random_state: RandomState,
        optimizer: Any,
        metadata: Mapping[str, Any],
    ) -> tuple[Objective, Parameters, Rows]:
        """What `find_learning_rate` needs: what `fit` would start from, after the checks that it makes."""
        self._check_parameters()
        continuing = self.warm_start and hasattr(self, "params_")
        other, (objective, theta, rows) = self._prepare(
            X, y, sample_weight, random_state, [optimizer], continuing, metadata
        )
        other._inspect(objective, theta, rows[0])
        return objective, theta, rows[0]

    def _prepare_surface(
        self, X: MatrixLike, y: Array | None, sample_weight: ArrayLike | None, fit_params: Any
    ) -> tuple[Objective, Parameters, Rows]:
        """What `OptimizerPathDisplay` needs: the objective as it is, at the parameters that predict."""
        method = phases_of(get_optimizer(self.optimizer), self.max_iter)[-1][0]
        metadata = {name: fit_params[name] for name in self._metadata_names("partial_fit") & fit_params.keys()}
        _, (objective, _, rows) = self._prepare(X, y, sample_weight, self._seed, [method], True, metadata)
        layout = Layout.of(self.params_, self._layout.dtype)
        return objective, Parameters(layout, layout.flatten(self.params_)), rows[0]

    def _prepare(
        self,
        X: MatrixLike,
        y: Array | None,
        sample_weight: ArrayLike | None,
        random_state: RandomState,
        methods: Sequence[Any],
        continuing: bool,
        metadata: Mapping[str, Any],
    ) -> tuple[Any, tuple[Objective, Parameters, list[Rows]]]:
        """A copy that shares the callables, and what it has assembled; nothing of this estimator is changed."""
        other = copy.copy(self)
        other._draw_seed(random_state)
        X, columns, weight = other._read(X, y, sample_weight, reset=not continuing)
        columns |= read_metadata(metadata, self._metadata_names("partial_fit"), X.shape[0])
        return other, other._assemble(partial(ArrayRows, X, columns, _scaled(weight)), methods, continuing)


def _own(find: Callable[[Any], Any], given: Any) -> Any:
    """Return the object that a name stands for, or a copy of the one that was given."""
    found = find(given)
    return clone(found) if found is given else found


def _checksum(vector: Any) -> int:
    return zlib.crc32(vector)


def _floats_of(X: Any) -> list[Any]:
    """The dtypes that are kept. What is in a frame of polars or of nullable columns scikit-learn reads as the first."""
    return FLOATS[::-1] if {str(dtype) for dtype in getattr(X, "dtypes", ())} == {"Float32"} else FLOATS


def _warn_of_differencing(objective: Objective) -> None:
    """Say what blocks without an analytic gradient cost."""
    if objective.numerical:
        layout = objective.layout
        names = ", ".join(repr(layout.names[i]) for i in objective.numerical)
        n_entries = sum(math.prod(layout.shapes[i]) for i in objective.numerical)
        warnings.warn(
            f"numerical: the gradient of {names} is made of differences, at {2 * n_entries} evaluations of the loss a "
            "step. Derive it when the rest is right.",
            UserWarning,
            stacklevel=5,
        )


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
        "best_loss_": min(history.loss_curve, default=None),
        "n_iter_": history.n_iter,
        "n_steps_": history.n_steps,
    }


def _make_writeable(state: State) -> None:
    """Copy the slots that cannot be written: a file that joblib maps into memory is read-only."""
    for link in state.links:
        for name, slot in link.slots.items():
            if not slot.flags.writeable:
                link.slots[name] = np.array(slot)


def _check_batch(rows: Rows) -> Batch:
    """One batch of the training shape; a few rows where that is everything."""
    rows = rows.first
    return rows.sample(1, CHECK, batch_size=CHECKED_ROWS if rows.steps_per_epoch == 1 else None)[0]


def _monitored(rows: Rows) -> list[Batch]:
    """The rows on which the plain gradient form's loss is watched: a tenth, within limits."""
    n_batches = min(rows.steps_per_epoch / 10, MONITORED_ROWS / rows.batch_size)
    return rows.sample(max(1, math.ceil(n_batches)), MONITOR)


def read_weight(sample_weight: Any, X: Any, name: str = "sample_weight") -> Array | None:
    """Validate the weights of rows; None where none are given."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Real):
        sample_weight = np.full(X.shape[0], sample_weight)
    weight: Array = check_array(sample_weight, ensure_2d=False, dtype=X.dtype, input_name=name)
    if weight.ndim != 1:
        raise ValueError(f"{name} must be 1-d, one weight a row; got shape {weight.shape}.")
    check_consistent_length(X, weight)
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise ValueError(f"Negative values in {name}: row {row} has {weight[row]}. Weights must be >= 0.")
    return weight


def _canonical(X: Any) -> Any:
    """Return a CSR matrix with sorted indices and no place given twice: itself if it is so, else a copy."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def _scaled(weight: Array | None) -> Array | None:
    """Scale weights to mean 1, so that they count like repeated rows."""
    return None if weight is None else weight * scale_to_mean_one(len(weight), weight.sum())
