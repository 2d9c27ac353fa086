"""From rows to what is trained: the callables bound, the objective, the starting θ, and a look at them."""

from __future__ import annotations

import copy
import math
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from numpy.typing import ArrayLike
from sklearn.base import clone

from ..data.arrays import ArrayRows
from ..data.batch import CHECK, INIT, Batch
from ..data.rows import Rows
from ..exceptions import ParameterStructureError, noted
from ..gradient_check.report import GradientReport
from ..losses import Loss, get_loss
from ..model.callables import Model
from ..model.gradient_forms import GRADIENT_FORMS
from ..objective import Objective
from ..optimizers import get_optimizer
from ..optimizers.phases import phases_of
from ..optimizers.scipy_methods import FullBatch
from ..parameters import Layout, Parameters, listed_shapes
from ..typing import Array, MatrixLike, RandomState
from .data import DataEstimator, scaled_weight

CHECKED_ROWS = 50  # for the gradient check where a batch is everything


class AssembledEstimator(DataEstimator):
    """Binds the callables to rows and lays out θ."""

    params_: Any  # in the user's structure
    gradient_report_: GradientReport

    _n_init_outputs = 1
    _layout: Any  # of the parameters that the last fit ended with
    _training_vector: Any = None  # where training stands, where that is not what `params_` hold
    _published: int  # checksum of what they held then

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
        if first.sample_weight is not None:
            objective.require_weighable()
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
        loss: Loss = own(get_loss, self.loss)
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
            theta = self._read_params(dtype)
            if self._training_vector is not None and self._are_params_as_published():
                return Parameters(theta.layout, self._training_vector.astype(dtype))
            return theta
        sizes = {"n_features": rows.X.shape[1], "n_outputs": self._n_init_outputs}
        start = rows.with_columns(sizes, (self._seed, INIT, 0, 0))
        structure = model.starting_params(start)
        layout = Layout.of(structure, dtype, "init")
        if model.default_init is not None:
            expected = Layout.of(model.default_init(None, start), dtype)
            if set(layout.names) != set(expected.names):
                raise ParameterStructureError(
                    f"init has blocks {', '.join(map(repr, layout.names))}. No callables are given, and the default "
                    f"model has {listed_shapes(expected.shape_of())}: start from those, or give forward and a gradient."
                )
        return Parameters(layout, layout.flatten(structure, "init"))

    def _read_params(self, dtype: Any = None) -> Parameters:
        """``params_``, which the user may have set by hand, in the layout of the fit."""
        layout: Layout = self._layout if dtype is None else self._layout.astype(dtype)
        try:
            return Parameters(layout, layout.flatten(self.params_, "params_"))
        except ParameterStructureError as error:
            came, fitted = Layout.of(self.params_, role="params_").shape_of(), layout.shape_of()
            if came == fitted:
                raise
            raise ParameterStructureError(
                f"params_ has {listed_shapes(came)}; the fit had {listed_shapes(fitted)}. What is set by hand has the "
                "blocks and shapes of the fit; others are where a new training begins: init=params."
            ) from error

    def _are_params_as_published(self) -> bool:
        """Whether ``params_`` are what the last fit put there, and not the user's own."""
        return checksum(self._read_params().vector) == self._published

    def _inspect(self, objective: Objective, theta: Parameters, rows: Rows) -> None:
        """Before the first step: does the prediction fit, is the gradient right?"""
        batch = batch_to_check(rows)
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

    def _second_opinion(self, objective: Objective, theta: Parameters, start: Parameters, rows: Rows) -> str:
        """What the gradient check says, where training started and where it failed."""
        from ..gradient_check import second_opinion

        return second_opinion(objective, (start, theta), batch_to_check(rows), seed=self._seed)

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
        return objective, theta, batch_to_check(rows[0]), other._seed

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
        return objective, self._read_params(), rows[0]

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
        columns |= self._read_metadata(metadata, self._metadata_names("partial_fit"), X.shape[0])
        return other, other._assemble(partial(ArrayRows, X, columns, scaled_weight(weight)), methods, continuing)


def own(find: Callable[[Any], Any], given: Any) -> Any:
    """Return the object that a name stands for, or a copy of the one that was given."""
    found = find(given)
    return clone(found) if found is given else found


def checksum(vector: Any) -> int:
    """Return a number that tells whether the values of a vector are still the same."""
    return zlib.crc32(vector)


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


def batch_to_check(rows: Rows) -> Batch:
    """One batch of the training shape; a few rows where that is everything."""
    rows = rows.first
    return rows.sample(1, CHECK, batch_size=CHECKED_ROWS if rows.steps_per_epoch == 1 else None)[0]
