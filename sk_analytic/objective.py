"""Model, loss, penalty and weights combined into the contribution of a batch: all gradient forms end here.

The objective is the mean over samples of weight times loss, plus ``alpha/2`` times the sum of squares of the penalized
parameters. All scaling is done in this file and nowhere else.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from scipy.sparse import issparse

from .contribution import Contribution
from .data.batch import Batch
from .data.rows import BatchedRows, Rows, note_if_short
from .elsewhere import Elsewhere, Place, on_host
from .exceptions import ParameterStructureError
from .finite_differences import difference, size_of
from .losses import Loss, linked_mean
from .model.callables import Callables
from .parameters import NOTHING_SPECIAL, Layout, Parameters
from .sparse_gradients import SparseGradient, outside, spread
from .trust import trusted
from .typing import Array, Shape
from .validation import Interval

STRENGTH = Interval(0, np.inf)  # of a penalty


@trusted
class Objective:
    """The function that is minimized, and its gradient, over batches of samples.

    Parameters
    ----------
    model : Callables
        The user's callables.
    loss : Loss or None
        For the gradient forms without a loss of their own.
    layout : Layout
        Of θ.
    alpha : float or dict of str to float, default=0.0
        Strength of the penalty, for all parameters or by name.
    unpenalized : tuple of str, default=()
        Parameters that a single number ``alpha`` does not penalize.
    reduction : {"mean", "sum"}, default="mean"
        Reduction of `gradient`, `loss_and_gradient` and a callable loss.
    fixed : iterable of str, default=()
        Parameters that are not trained.
    numerical : iterable of str, default=()
        Parameters without an analytic gradient, for which finite differences of the loss are used.
    additive : {True, False, "auto"}, default="auto"
        Whether the loss is a sum over samples, if known. A loss by name may be known not to be.
    needs_value : bool, default=False
        Whether each step needs the loss, which costs one more `forward` for the `gradient` form.

    Raises
    ------
    ValueError
        If the reduction or loss does not apply to the gradient form, ``alpha`` is invalid, or a value is needed that
        cannot be computed.
    """

    def __init__(
        self,
        model: Callables,
        loss: Loss | Any,
        layout: Layout,
        *,
        alpha: float | dict[str, float] = 0.0,
        unpenalized: Sequence[str] = (),
        reduction: str = "mean",
        fixed: Iterable[str | int] = (),
        numerical: Iterable[str | int] = (),
        additive: bool | str = "auto",
        needs_value: bool = False,
    ) -> None:
        composes_loss = model.gradient_form.composes_loss
        if reduction == "sum" and (composes_loss or (model.gradient is None and model.loss is None)):
            raise ValueError(
                f"reduction='sum' applies to gradient and loss_and_gradient, not to {model.form}, because the named "
                "loss is averaged over the batch. Leave reduction at 'mean'."
            )
        if reduction == "sum" and model.gradient is not None and model.gradient.is_per_sample:
            raise ValueError(
                f"reduction='sum' does not apply to a {model.form} of one sample (it names the argument 'out'), "
                "because the estimator averages over the samples of a batch. Leave reduction at 'mean'."
            )
        if loss is None and composes_loss:
            raise ValueError(
                f"{model.form} is composed with a loss that has a derivative; got none. Use a name, such as "
                "loss='squared_error', or a Loss object. Only the gradient form works with a callable loss."
            )
        self.model, self.loss, self.layout = model, loss, layout
        self.additive = additive if isinstance(additive, str) else bool(additive)
        if loss is not None and not loss.additive:
            self.additive = False
        self.reduction, self.needs_value = reduction, needs_value
        self.penalties = _penalties(layout, alpha, unpenalized)
        self.fixed = layout.indices(fixed, "fixed")
        self.numerical = layout.indices(numerical, "numerical")
        if self.numerical and not self.has_value:
            raise ValueError(
                "numerical names parameters whose gradient is computed by differences of the loss, but there is no "
                "loss. Name one, or pass a function, loss=function(params, X, ...)."
            )
        self._require_gradient()
        self._allocate()

    def _require_gradient(self) -> None:
        """Raise if there is no analytic gradient, and not all trained parameters are in ``numerical``."""
        if self.model.gradient is not None:
            return
        left = set(range(len(self.layout.names))).difference(self.numerical, self.fixed)
        if left:
            names = ", ".join(repr(self.layout.names[index]) for index in sorted(left))
            raise ValueError(
                f"No gradient is given, and numerical leaves out {names}. Add every parameter to numerical, or to "
                "fixed if it is not trained, or pass one of the gradient forms."
            )

    def _allocate(self) -> None:
        """Allocate memory for steps, which is not shared with copies or pickled."""
        self._gradient = self.layout.empty()
        self._blocks = self.layout.blocks(self._gradient)
        self._evaluate = partial(self.model.gradient_form.evaluate, self)
        self._is_adjusted = bool(self.fixed or self.numerical or self.reduction == "sum")

    def __getstate__(self) -> dict[str, Any]:
        made = ("_gradient", "_blocks", "_evaluate", "_is_adjusted")
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate()

    def _with(self, **changes: Any) -> Objective:
        """Return a copy with some attributes changed, and with memory of its own."""
        other = object.__new__(Objective)
        other.__setstate__({**self.__getstate__(), **changes})
        return other

    @property
    def sent_once(self) -> tuple[Any, ...]:
        """Attributes that may change after the objective was sent to the workers."""
        return (self.needs_value,)

    def astype(self, dtype: DTypeLike) -> Objective:
        """Return the same objective over vectors of another dtype."""
        return self._with(layout=self.layout.astype(dtype))

    def placed(self, place: Place | None) -> Objective:
        """Return the same objective over vectors of a place; over NumPy's if that is None."""
        return self._with(layout=self.layout.placed(place))

    def bound_to(self, columns: Mapping[str, Any]) -> Objective:
        """Return an objective whose value can be computed with other sample metadata than in `fit`."""
        roles = (self.valued_by, "evaluation") if self.valued_by != "predictor" else ("predictor", "of_named_loss")
        return self._with(model=self.model.bound_to(columns, roles))

    @property
    def valued_by(self) -> str:
        """Role of the callable that gives the value: one of the user's or, for a named loss, the predictor."""
        if self.model.loss is not None:
            return "loss"
        return "gradient" if self.model.gradient_form.has_own_loss else "predictor"

    @property
    def functions(self) -> tuple[Any, ...]:
        """The functions that compute the loss and its gradient, to compare with another objective."""
        receivers = (self.model.forward, self.model.gradient, self.model.loss, self.model.of_named_loss)
        callables = [None if r is None else (r.role, r.function, r.settings) for r in receivers]
        return callables, self.loss, self.reduction

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What the value depends on apart from θ and the samples, to compare with another objective."""
        return self.functions, self.penalties

    @property
    def has_value(self) -> bool:
        """Whether the loss can be computed, apart from the gradient."""
        return self.model.has_value or self.loss is not None

    @property
    def draws_random_numbers(self) -> bool:
        """Whether a callable used in training receives ``rng``, so that each evaluation of the loss differs."""
        receivers = (self.model.gradient, self.model.forward, self.model.loss)
        return any("rng" in receiver.wanted for receiver in receivers if receiver is not None)

    def require_value(self) -> None:
        """Raise if an optimizer needs the value of the loss, but it cannot be computed."""
        if not self.has_value:
            raise ValueError(
                "This optimizer needs the value of the loss, but the gradient form was given with loss=None. Name a "
                "loss, pass a function, or use loss_and_gradient."
            )

    def require_weighable(self) -> None:
        """Raise if samples are weighted, but the named loss does not decompose over samples."""
        if self.loss is not None and not self.loss.additive:
            raise ValueError(
                f"{type(self.loss).__name__} does not decompose over samples (additive=False), so it cannot "
                "be weighted with sample_weight or class_weight. Fit without weights, or use loss_and_gradient, which "
                "receives sample_weight."
            )

    @property
    def step_has_value(self) -> bool:
        """Whether a step computes the loss along with the gradient."""
        return self.model.gradient_form.gives_value or self.needs_value

    def contribution(self, theta: Parameters, batch: Batch) -> Contribution:
        """Return the contribution of a batch; its gradient is valid until the next call."""
        if batch.is_empty:
            return Contribution(0.0, None, batch.n)
        loss, grads = self._evaluate(theta.structure, batch)
        missing, sparse_grads = self.layout.read_gradient(self._completed(grads), self._blocks, self.model.form)
        if not (self._is_adjusted or sparse_grads or theta.is_mapped):
            return Contribution(loss, self._gradient, batch.n, missing, sparse_grads)
        return Contribution(loss, *self._adjusted(theta, batch, missing, sparse_grads))

    def bound(self, theta: Parameters) -> Callable[[Batch], Contribution]:
        """Return a function of a batch that is equivalent to `contribution` and `finish`, bit for bit; for a loop.

        Parameters
        ----------
        theta : Parameters
            Its vector is written in place between calls.

        Returns
        -------
        evaluate : callable
            ``evaluate(batch) -> Contribution`` with the penalty added. If the batch has no weight, its gradient is
            None. The memory of the gradient belongs to the objective and is overwritten by the next call.
        """
        if self._is_adjusted or self.penalties:
            return lambda batch: self.finished(theta, self.contribution(theta, batch))
        evaluate, structure, form, is_mapped = self._evaluate, theta.structure, self.model.form, theta.is_mapped
        copied, read, blocks, gradient = self.layout.copied, self.layout.read_gradient, self._blocks, self._gradient
        new = tuple.__new__  # without the checks of a named tuple's own

        def evaluated(batch: Batch) -> Contribution:
            if not batch.n or (batch.sample_weight is not None and batch.is_empty):
                return Contribution(0.0, None, batch.n)
            loss, grads = evaluate(theta.structure if is_mapped else structure, batch)
            missing, sparse_grads = NOTHING_SPECIAL if copied(grads, blocks) else read(grads, blocks, form)
            if not is_mapped:
                return new(Contribution, (loss, gradient, batch.n, missing, sparse_grads))
            if sparse_grads:
                return Contribution(loss, *self._adjusted(theta, batch, missing, sparse_grads))
            return new(Contribution, (loss, theta.pulled_back(gradient), batch.n, missing, sparse_grads))

        return evaluated

    def _adjusted(
        self, theta: Parameters, batch: Batch, missing: tuple[int, ...], sparse_grads: tuple[SparseGradient, ...]
    ) -> tuple[Array, int, tuple[int, ...], tuple[SparseGradient, ...]]:
        """Turn a sum into a mean, clear fixed blocks, pull back mapped ones, fill in differences.

        A penalty has a gradient in all rows, so a sparse gradient becomes dense in a penalized block, and also in a
        mapped one.
        """
        if self.reduction == "sum":
            for where in outside(self.layout.size, sparse_grads):
                self._gradient[where] *= 1 / batch.n
            sparse_grads = tuple(gradient.times(1 / batch.n) for gradient in sparse_grads)
        if sparse_grads:
            others = {*self.fixed, *self.numerical}
            sparse_grads = tuple(g for g in sparse_grads if g.block not in others)
            whole = {index for index, _ in self.penalties} | theta.mapped_blocks
            spread(self._gradient, (g for g in sparse_grads if g.block in whole))
            places = theta.layout.slices
            sparse_grads = tuple(g._replace(where=places[g.block]) for g in sparse_grads if g.block not in whole)
        for index in self.fixed:
            self._blocks[index][...] = 0
        gradient = theta.pulled_back(self._gradient)
        if self.numerical:
            missing = tuple(index for index in missing if index not in self.numerical)
            for index in set(self.numerical).difference(self.fixed):
                gradient[theta.layout.slices[index]] = self.differences(self.loss_of, theta, batch, index)
        if self.fixed:
            missing = tuple(sorted({*missing, *self.fixed})) if missing else self.fixed
        return gradient, batch.n, missing, sparse_grads

    def differences(self, function: Callable[[Any, Batch], Any], theta: Parameters, batch: Batch, index: int) -> Array:
        """Return central differences of ``function(params, batch)``, one row per entry of a block of the vector."""
        there = theta.astype(np.float64)
        batch = batch if theta.vector.dtype == np.float64 else batch.astype(np.float64)
        block = there.vector[there.layout.slices[index]]
        size = size_of(block)

        def derivative(entry: int, here: float) -> Any:
            def at(t: float) -> Array:
                block[entry] = here + t
                return np.array(function(there.structure, batch))

            slope = difference(at, here, size)
            block[entry] = here
            return slope

        return np.array([derivative(entry, here) for entry, here in enumerate(block.tolist())])

    def _completed(self, grads: Any) -> Any:
        """Return the user's gradient, with None for differenced blocks that a dict leaves out."""
        if not self.numerical or not isinstance(grads, dict):
            return grads
        names = [self.layout.names[index] for index in self.numerical]
        keys = {str(key): key for key in self.layout.tree}
        return {**{keys[name]: None for name in names if name in keys}, **grads}

    def finished(self, theta: Parameters, contribution: Contribution) -> Contribution:
        """Return a contribution with the penalty added; without a gradient, return it unchanged."""
        if contribution.gradient is None or not self.penalties:
            return contribution
        loss, gradient = self.finish(theta, contribution)
        return contribution._replace(loss=loss, gradient=gradient)

    def finish(self, theta: Parameters, contribution: Contribution) -> tuple[float | Any, Array]:
        """Add the penalty, once.

        Returns
        -------
        loss : float or None
        gradient : ndarray of shape (layout.size,)
            The contribution's own memory.
        """
        loss, gradient, _, missing, _ = contribution
        if not self.penalties:
            return loss, gradient
        penalty, absent = 0.0, set(missing)
        for index, alpha in self.penalties:
            block = theta.block(index)
            slope = alpha * block
            penalty += float(slope.dot(block))
            if index not in absent:
                gradient[theta.layout.slices[index]] += theta.block_pulled_back(index, slope)
        return None if loss is None else loss + 0.5 * penalty, gradient

    def gradient_of_penalty(self, theta: Parameters) -> Array:
        """Return the gradient of the penalty with respect to the vector."""
        return self.finish(theta, Contribution(0.0, np.zeros(theta.layout.size), 1))[1]

    def curvature_of_penalty(self, theta: Parameters) -> Array:
        """Return the second derivative of the penalty with respect to each entry of the vector, linear in x."""
        curvature = np.zeros(theta.layout.size)
        for index, alpha in self.penalties:
            curvature[theta.layout.slices[index]] = alpha * theta.stretching(index) ** 2
        return curvature

    def penalty(self, theta: Parameters) -> float:
        """Return ``alpha/2`` times the sum of squares of the penalized blocks."""
        blocks = ((theta.block(index), alpha) for index, alpha in self.penalties)
        return 0.5 * sum(float((alpha * block).dot(block)) for block, alpha in blocks)

    def value(self, theta: Parameters, batch: Batch) -> float | Any:
        """Return the mean loss of a batch, without the penalty; None if no loss can be computed."""
        if batch.is_empty:
            return 0.0 if self.has_value else None
        return self.loss_of(theta.structure, batch)

    def evaluated(self, theta: Parameters, batch: Batch) -> float | Any:
        """Return the objective for samples that are not used in training, for which a model may have another loss."""
        evaluation = self.model.evaluation
        if evaluation is None or self.model.loss is not None or batch.is_empty:
            return self.value(theta, batch)
        return self.read_loss(evaluation(theta.structure, batch), f"the loss of {self.model.form}", batch)

    def loss_of(self, params: Any, batch: Batch) -> float | Any:
        """Return the mean loss of a batch that is not empty, for the user's structure of parameters."""
        if self.model.loss is not None:
            return self.read_loss(self.model.loss(params, batch), "loss", batch)
        if self.model.gradient_form.has_own_loss:
            return self._evaluate(params, batch)[0]
        if self.loss is None:
            return None
        return self.named_loss(self.predictions(params, batch), batch)[0]

    def mean_value(self, theta: Parameters, batches: Iterable[Batch]) -> float | None:
        """Return the mean loss of several batches plus the penalty; None if no loss can be computed."""
        return self.mean(theta, [(self.value(theta, batch), batch.n) for batch in batches])

    def mean(self, theta: Parameters, values: Sequence[tuple[float | Any, int]]) -> float | None:
        """Return the mean of pairs (`value`, number of samples) plus the penalty; None if there is no loss."""
        if values[0][0] is None:
            return None
        total: float = sum(value * n for value, n in values) / sum(n for _, n in values)
        return total + self.penalty(theta)

    def predictions(self, params: Any, batch: Batch) -> Array:
        """Return the predictions of `forward` for a batch, one for each sample."""
        return read_prediction(self.model.predictions(params, batch), batch.n)

    def jacobian_gradient(self, params: Any, batch: Batch, derivative: Array) -> Any:
        """Return the gradient, in the user's structure: the derivative in the prediction times the user's Jacobian."""
        flat = derivative.ravel()
        blocks = [
            None if leaf is None else (flat @ leaf).reshape(shape)
            for leaf, shape in zip(self.jacobian(params, batch, derivative.shape), self.layout.shapes, strict=True)
        ]
        return self.layout.unflatten(blocks)

    def jacobian(self, params: Any, batch: Batch, shape: Shape) -> list[Array | None]:
        """Return the user's Jacobian of a prediction: a matrix (n * k, size) for each block, or None."""
        if self.model.gradient is None:
            return [None] * len(self.layout.names)
        jacobian = self._completed(self.model.gradient(params, batch))
        if len(shape) == 2 and shape[1] == 1 and not self._has_output_axis(jacobian):
            shape = shape[:1]
        leaves = self.layout.stacked(jacobian, shape)
        return [None if leaf is None else leaf.reshape(math.prod(shape), -1) for leaf in leaves]

    def _has_output_axis(self, jacobian: Any) -> bool:
        """Whether the leaves of a Jacobian for predictions (n, 1) have the second axis."""
        for leaf, shape in zip(self.layout.leaves(jacobian, "jacobian"), self.layout.shapes, strict=True):
            if leaf is not None:
                return np.ndim(leaf) == len(shape) + 2
        return False

    def named_loss(self, prediction: Any, batch: Batch) -> tuple[float, Array]:
        """Return the mean of the named loss over a batch and its derivative in the prediction, including weights."""
        prediction = read_prediction(prediction, batch.n)
        y, matched = match_target(batch.y, prediction)
        values, derivative = self.loss.value_and_derivative(y, matched, **self.metadata_of(batch))
        if batch.sample_weight is None:
            value = float(np.add.reduce(values, dtype=np.float64)) / batch.n  # which float32 may have no number for
            derivative = derivative * (1 / batch.n)
        else:
            self.require_weighable()
            share = batch.sample_weight / batch.n
            with np.errstate(invalid="ignore"):
                value = float(np.add.reduce(values * share, dtype=np.float64))
                derivative = derivative * (share if derivative.ndim == 1 else share[:, None])
            if not math.isfinite(value):  # samples of weight 0 count for nothing, whatever their loss is
                counts = share != 0
                value = float(np.add.reduce(values[counts] * share[counts], dtype=np.float64))
                derivative[~counts] = 0
        return value, derivative if matched is prediction else derivative.reshape(prediction.shape)

    def with_loss(self, loss: Any) -> Objective:
        """Return the objective with another named loss."""
        return self._with(loss=loss)

    def along(self, cotangent: Array) -> Objective:
        """Return the objective whose loss is the inner product of the predictions with a cotangent.

        Its gradient is the vector-Jacobian product of the model, for any gradient form.
        """
        model = copy.copy(self.model)
        model.of_named_loss = None
        return self._with(loss=_InnerProduct(cotangent), model=model)

    def constant_prediction(self, theta: Parameters, batch: Batch) -> Array | None:
        """Return the constant prediction at the mean of y; None if there is no named loss with a link."""
        if self.loss is None or self.valued_by != "predictor" or not self.loss.has_link or batch.y is None:
            return None
        here = self.predictions(theta.structure, batch)
        n_outputs = here[0].size
        is_index = batch.y.dtype.kind in "iu" and n_outputs > 1
        y = np.eye(n_outputs)[batch.y] if is_index else batch.y.reshape(batch.n, -1)
        mean = np.average(y, axis=0, weights=batch.sample_weight)
        constant = linked_mean("log" if is_index else self.loss.link, mean, batch.n)
        return np.broadcast_to(constant, (batch.n, n_outputs)).reshape(here.shape).astype(here.dtype)

    def metadata_of(self, batch: Batch) -> dict[str, Any]:
        """Return what the named loss receives of a batch besides y and prediction."""
        receiver = self.model.of_named_loss
        return {} if receiver is None else receiver.received(batch)

    def read_loss(self, loss: Any, role: str, batch: Batch) -> float:
        """Return a loss computed by the user as a mean over the batch."""
        if not isinstance(loss, float):
            array = np.asarray(on_host(loss))
            if array.ndim or array.dtype.kind not in "fiu":
                came = f"an array of shape {array.shape}" if array.ndim else repr(loss)
                raise ParameterStructureError(
                    f"{role} must be one real number, the {self.reduction} over the batch; got {came}."
                )
        return float(loss) / batch.n if self.reduction == "sum" else float(loss)


class _InnerProduct:
    """Loss whose mean, times the number of samples, is the inner product of the prediction with a cotangent."""

    additive = True

    def __init__(self, cotangent: Array) -> None:
        self.cotangent = cotangent

    def value_and_derivative(self, y: Any, prediction: Array) -> tuple[Array, Array]:
        """Return the product for each sample, times the number of samples, and its derivative."""
        derivative = self.cotangent.astype(prediction.dtype) * len(prediction)
        return (derivative * prediction).reshape(len(prediction), -1).sum(axis=1), derivative


def evaluator(objective: Objective, theta: Parameters, rows: Rows) -> Callable[[int, int], Contribution]:
    """Return ``evaluate(epoch, step)``, which computes the contribution of a step with the penalty added.

    If the samples are in this process, `Objective.bound` is used; otherwise the workers compute the contribution.
    """
    if isinstance(rows, BatchedRows) and type(rows).contribution is BatchedRows.contribution:
        return _evaluator(objective.bound(theta), rows)
    return lambda epoch, step: objective.finished(theta, rows.contribution(objective, theta, epoch, step))


def _evaluator(evaluate: Callable[[Batch], Contribution], rows: BatchedRows) -> Callable[[int, int], Contribution]:
    batch_of = rows.batch

    def evaluated(epoch: int, step: int) -> Contribution:
        batch = batch_of(epoch, step)
        try:
            return evaluate(batch)
        except Exception as error:
            note_if_short(error, rows, epoch, step)
            raise

    return evaluated


def read_prediction(prediction: Any, n: int) -> Array:
    """Return a prediction as a float array with one row per sample.

    Raises
    ------
    ParameterStructureError
        If it has another number of rows, more than two axes, or is not real.
    """
    array: Any
    if type(prediction) is np.ndarray or isinstance(prediction, Elsewhere):
        array = prediction
    elif issparse(prediction):
        raise ParameterStructureError(
            f"forward returned a {type(prediction).__name__}; an array is needed. Use toarray()."
        )
    else:
        array = np.asarray(prediction)
    if array.dtype.kind != "f":
        if array.dtype.kind not in "iub":
            raise ParameterStructureError(f"forward returned dtype {array.dtype}; real numbers are needed.")
        array = array.astype(float)
    if array.ndim not in (1, 2) or array.shape[0] != n:
        raise ParameterStructureError(
            f"forward returned shape {array.shape} for {n} samples; expected ({n},) or ({n}, k)."
        )
    return array  # type: ignore[no-any-return]


def match_target(y: Any, prediction: Array) -> tuple[Any, Array]:
    """Return y and prediction in shapes that a loss can compare: (n, 1) matches (n,), nothing is broadcast.

    Class indices y of shape (n,) match scores of shape (n, K).
    """
    if y is None or y.shape == prediction.shape:
        return y, prediction
    if y.shape[0] == prediction.shape[0]:
        if prediction.ndim == 2 and prediction.shape[1] == 1 and y.ndim == 1:
            return y, prediction[:, 0]
        if y.ndim == 2 and y.shape[1] == 1 and prediction.ndim == 1:
            return y[:, 0], prediction
        if y.ndim == 1 and y.dtype.kind in "iu" and prediction.ndim == 2:
            return y, prediction
    raise ParameterStructureError(
        f"forward returned shape {prediction.shape}, but y has shape {y.shape}. They must agree ((n,) and (n, 1) are "
        "compatible); arrays are not broadcast."
    )


def _penalties(
    layout: Layout, alpha: float | dict[str, float], unpenalized: Sequence[str]
) -> tuple[tuple[int, float], ...]:
    """Return pairs of block index and strength, without those of strength 0."""
    if not isinstance(alpha, dict):
        named = {name: alpha for name in layout.names if name not in unpenalized}
    else:
        named = alpha
    for name, strength in named.items():
        if not STRENGTH.admits(strength):
            raise ValueError(f"alpha must be a finite, non-negative number; got {strength!r} for {name!r}.")
    strengths = layout.of_blocks(named, "alpha")
    return tuple((index, float(strength)) for index, strength in strengths.items() if strength)
