"""Model + loss + penalty + weights -> the contribution of a batch: every gradient form ends here.

The objective is the mean over rows of weight times loss, plus ``alpha/2`` times the sum of squares of
the penalised blocks. All scaling is done in this file and nowhere else.
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
    """What is minimised, and its gradient, over batches of rows.

    Parameters
    ----------
    model : Callables
        The user's callables.
    loss : Loss or None
        For the forms that have none of their own.
    layout : Layout
        Of θ.
    alpha : float or dict of str to float, default=0.0
        Strength of the penalty, of all blocks or by name.
    unpenalized : tuple of str, default=()
        Blocks that a plain number ``alpha`` leaves out.
    reduction : {"mean", "sum"}, default="mean"
        What `gradient`, `loss_and_gradient` and a callable loss return.
    fixed : iterable of str, default=()
        Blocks that are not trained.
    numerical : iterable of str, default=()
        Blocks without an analytic gradient: theirs is made of differences of the loss.
    additive : {True, False, "auto"}, default="auto"
        Whether the loss is a sum over rows, as far as that is known; a loss by name may know that it is none.
    needs_value : bool, default=False
        Whether each step needs the loss, at the cost of one more `forward` for the `gradient` form.

    Raises
    ------
    ValueError
        For a reduction or a loss that does not go with the form, a wrong ``alpha``, and a value that cannot
        be had.
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
                f"reduction='sum' goes with gradient and loss_and_gradient, not with {model.form}: "
                "it has no reduction of its own, since the loss by name is averaged here."
            )
        if reduction == "sum" and model.gradient is not None and model.gradient.is_per_sample:
            raise ValueError(
                f"reduction='sum' does not go with a {model.form} of one sample (it names the argument 'out'): the "
                "estimator averages over the samples of a batch. Leave reduction at 'mean'."
            )
        if loss is None and composes_loss:
            raise ValueError(
                f"{model.form} is composed with a loss that has a derivative; got none. Name one, such as "
                "loss='squared_error', or pass a Loss object. A callable loss goes with the gradient form."
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
                "numerical names blocks whose gradient is made of differences, but there is no loss. Name one, or pass "
                "your own, loss=function(params, X, ...)."
            )
        self._require_gradient()
        self._allocate()

    def _require_gradient(self) -> None:
        """Raise if there is no gradient, and blocks to be trained are not differenced either."""
        if self.model.gradient is not None:
            return
        left = set(range(len(self.layout.names))).difference(self.numerical, self.fixed)
        if left:
            names = ", ".join(repr(self.layout.names[index]) for index in sorted(left))
            raise ValueError(
                f"No gradient is given, and numerical leaves out {names}. Name every block in numerical, or in fixed "
                "if it is not to be trained; or give one of the gradient forms."
            )

    def _allocate(self) -> None:
        """Make what a step needs and neither a copy nor a pickle shares."""
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
        """Return the same objective but for some attributes, with memory of its own."""
        other = object.__new__(Objective)
        other.__setstate__({**self.__getstate__(), **changes})
        return other

    @property
    def sent_once(self) -> tuple[Any, ...]:
        """What may change of it after it was sent to where rows are, in place of which messages name it."""
        return (self.needs_value,)

    def astype(self, dtype: DTypeLike) -> Objective:
        """Return the same objective over vectors of another dtype."""
        return self._with(layout=self.layout.astype(dtype))

    def placed(self, place: Place | None) -> Objective:
        """Return the same objective over vectors of a place; over NumPy's if that is None."""
        return self._with(layout=self.layout.placed(place))

    def bound_to(self, columns: Mapping[str, Any]) -> Objective:
        """Return the objective whose value can be had with other row-wise data at hand than those of `fit`."""
        roles = (self.valued_by, "evaluation") if self.valued_by != "predictor" else ("predictor", "of_named_loss")
        return self._with(model=self.model.bound_to(columns, roles))

    @property
    def valued_by(self) -> str:
        """Which callable of the model says its value: one of the user's, or, for a loss by name, what predicts."""
        if self.model.loss is not None:
            return "loss"
        return "gradient" if self.model.gradient_form.has_own_loss else "predictor"

    @property
    def functions(self) -> tuple[Any, ...]:
        """What computes the loss and its gradient, for a comparison with another objective."""
        receivers = (self.model.forward, self.model.gradient, self.model.loss, self.model.of_named_loss)
        callables = [None if r is None else (r.role, r.function, r.settings) for r in receivers]
        return callables, self.loss, self.reduction

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What its value depends on beside θ and the samples, for a comparison with another objective."""
        return self.functions, self.penalties

    @property
    def has_value(self) -> bool:
        """Whether the loss can be had at all, beside the gradient."""
        return self.model.has_value or self.loss is not None

    @property
    def draws_random_numbers(self) -> bool:
        """Whether a callable that trains receives ``rng``, so that the loss is another one in each evaluation."""
        receivers = (self.model.gradient, self.model.forward, self.model.loss)
        return any("rng" in receiver.wanted for receiver in receivers if receiver is not None)

    def require_value(self) -> None:
        """Raise if an optimizer that needs the value of the loss cannot have it."""
        if not self.has_value:
            raise ValueError(
                "This optimizer needs the value of the loss, but there is none: the gradient form was given "
                "with loss=None. Name a loss, pass your own, or use loss_and_gradient."
            )

    def require_weighable(self) -> None:
        """Raise if rows are weighted, but the loss by name is one number for all of them."""
        if self.loss is not None and not self.loss.additive:
            raise ValueError(
                f"Rows are weighted (sample_weight or class_weight), but {type(self.loss).__name__} is no sum over "
                "rows (additive=False): there is no loss of a row to multiply by its weight. Fit without weights, or "
                "give loss_and_gradient, which receives sample_weight and can say what it means there."
            )

    @property
    def step_has_value(self) -> bool:
        """Whether a step gives the loss along with the gradient."""
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
        """Return a function of a batch that does what `contribution` and `finish` do, to the bit; for a loop.

        Parameters
        ----------
        theta : Parameters
            Whose vector is written in place between calls.

        Returns
        -------
        evaluate : callable
            ``evaluate(batch) -> Contribution`` with the penalty added. If nothing is to be learned from the batch, its
            gradient is None. The memory of the gradient is the objective's, and is written over by the next call.
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
        """Make a mean of a sum, clear the blocks that are fixed, pull back what is mapped, fill what is differenced.

        The gradient of a penalty is one of all rows, so what is given by rows does not stay so in a penalised block;
        nor in one that is mapped.
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
        """Return central differences of ``function(params, batch)``, a row for each entry of a block of the vector."""
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
        """The user's gradient with None for the blocks that are differenced, where a dict leaves them out."""
        if not self.numerical or not isinstance(grads, dict):
            return grads
        names = [self.layout.names[index] for index in self.numerical]
        keys = {str(key): key for key in self.layout.tree}
        return {**{keys[name]: None for name in names if name in keys}, **grads}

    def finished(self, theta: Parameters, contribution: Contribution) -> Contribution:
        """Return a contribution with the penalty added; one without a gradient as it is."""
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
        """Return the gradient of the penalty by the vector."""
        return self.finish(theta, Contribution(0.0, np.zeros(theta.layout.size), 1))[1]

    def curvature_of_penalty(self, theta: Parameters) -> Array:
        """Return the second derivative of the penalty in each entry of the vector, along straight lines of x."""
        curvature = np.zeros(theta.layout.size)
        for index, alpha in self.penalties:
            curvature[theta.layout.slices[index]] = alpha * theta.stretching(index) ** 2
        return curvature

    def penalty(self, theta: Parameters) -> float:
        """Return ``alpha/2`` times the sum of squares of the penalised blocks."""
        blocks = ((theta.block(index), alpha) for index, alpha in self.penalties)
        return 0.5 * sum(float((alpha * block).dot(block)) for block, alpha in blocks)

    def value(self, theta: Parameters, batch: Batch) -> float | Any:
        """Return the mean loss of a batch, without the penalty; None where no loss can be had."""
        if batch.is_empty:
            return 0.0 if self.has_value else None
        return self.loss_of(theta.structure, batch)

    def evaluated(self, theta: Parameters, batch: Batch) -> float | Any:
        """Return the same for samples that do not train, of which a model may have another loss."""
        evaluation = self.model.evaluation
        if evaluation is None or self.model.loss is not None or batch.is_empty:
            return self.value(theta, batch)
        return self.read_loss(evaluation(theta.structure, batch), f"the loss of {self.model.form}", batch)

    def loss_of(self, params: Any, batch: Batch) -> float | Any:
        """Return the mean loss at the user's structure of parameters, of a batch that is not empty."""
        if self.model.loss is not None:
            return self.read_loss(self.model.loss(params, batch), "loss", batch)
        if self.model.gradient_form.has_own_loss:
            return self._evaluate(params, batch)[0]
        if self.loss is None:
            return None
        return self.named_loss(self.predictions(params, batch), batch)[0]

    def mean_value(self, theta: Parameters, batches: Iterable[Batch]) -> float | None:
        """Return the mean loss of several batches and the penalty; None where no loss can be had."""
        return self.mean(theta, [(self.value(theta, batch), batch.n) for batch in batches])

    def mean(self, theta: Parameters, values: Sequence[tuple[float | Any, int]]) -> float | None:
        """Return the mean of pairs of a `value` and its number of rows, and the penalty; None if there is no loss."""
        if values[0][0] is None:
            return None
        total: float = sum(value * n for value, n in values) / sum(n for _, n in values)
        return total + self.penalty(theta)

    def predictions(self, params: Any, batch: Batch) -> Array:
        """Return what `forward` says of a batch, one row for each of its rows."""
        return read_prediction(self.model.predictions(params, batch), batch.n)

    def jacobian_gradient(self, params: Any, batch: Batch, derivative: Array) -> Any:
        """Return the gradient, in the user's structure, as a derivative in the prediction times the user's Jacobian."""
        flat = derivative.ravel()
        blocks = [
            None if leaf is None else (flat @ leaf).reshape(shape)
            for leaf, shape in zip(self.jacobian(params, batch, derivative.shape), self.layout.shapes, strict=True)
        ]
        return self.layout.unflatten(blocks)

    def jacobian(self, params: Any, batch: Batch, shape: Shape) -> list[Array | None]:
        """Return the user's Jacobian of a prediction of some shape: a matrix (n * k, size) a block, or None."""
        if self.model.gradient is None:
            return [None] * len(self.layout.names)
        jacobian = self._completed(self.model.gradient(params, batch))
        if len(shape) == 2 and shape[1] == 1 and not self._has_output_axis(jacobian):
            shape = shape[:1]
        leaves = self.layout.stacked(jacobian, shape)
        return [None if leaf is None else leaf.reshape(math.prod(shape), -1) for leaf in leaves]

    def _has_output_axis(self, jacobian: Any) -> bool:
        """Whether the leaves of a Jacobian for predictions (n, 1) have that second axis themselves."""
        for leaf, shape in zip(self.layout.leaves(jacobian, "jacobian"), self.layout.shapes, strict=True):
            if leaf is not None:
                return np.ndim(leaf) == len(shape) + 2
        return False

    def named_loss(self, prediction: Any, batch: Batch) -> tuple[float, Array]:
        """Return the mean loss of a batch by name, and its derivative in the prediction, weights included."""
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
        """Return the objective under another loss by name."""
        return self._with(loss=loss)

    def along(self, cotangent: Array) -> Objective:
        """Return the objective whose loss is the inner product of the predictions with a cotangent.

        So its gradient is the vector-Jacobian product of the model, of whatever form that is.
        """
        model = copy.copy(self.model)
        model.of_named_loss = None
        return self._with(loss=_InnerProduct(cotangent), model=model)

    def constant_prediction(self, theta: Parameters, batch: Batch) -> Array | None:
        """Return the prediction that is the mean of y for every row; None if no named loss compares them."""
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
        """Return what the loss by name receives of a batch beside y and prediction."""
        receiver = self.model.of_named_loss
        return {} if receiver is None else receiver.received(batch)

    def read_loss(self, loss: Any, role: str, batch: Batch) -> float:
        """Return a loss that the user computed, as a mean over the batch."""
        if not isinstance(loss, float):
            array = np.asarray(on_host(loss))
            if array.ndim or array.dtype.kind not in "fiu":
                came = f"an array of shape {array.shape}" if array.ndim else repr(loss)
                raise ParameterStructureError(
                    f"{role} must be one real number, the {self.reduction} over the batch; got {came}."
                )
        return float(loss) / batch.n if self.reduction == "sum" else float(loss)


class _InnerProduct:
    """A loss of which the mean, times the number of rows, is the inner product of the prediction with a cotangent."""

    additive = True

    def __init__(self, cotangent: Array) -> None:
        self.cotangent = cotangent

    def value_and_derivative(self, y: Any, prediction: Array) -> tuple[Array, Array]:
        """Return the product of each row, times the number of rows, and its derivative."""
        derivative = self.cotangent.astype(prediction.dtype) * len(prediction)
        return (derivative * prediction).reshape(len(prediction), -1).sum(axis=1), derivative


def evaluator(objective: Objective, theta: Parameters, rows: Rows) -> Callable[[int, int], Contribution]:
    """Return ``evaluate(epoch, step)``, the contribution of a step with the penalty added, wherever its rows live.

    Rows that come as batches into this process are evaluated by `Objective.bound`; others compute their contribution.
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
    """Return a prediction as a float array with a row for each row of X.

    Raises
    ------
    ParameterStructureError
        For another number of rows, more than two axes, or what is not real.
    """
    array: Any
    if type(prediction) is np.ndarray or isinstance(prediction, Elsewhere):
        array = prediction
    elif issparse(prediction):
        raise ParameterStructureError(
            f"forward returned a {type(prediction).__name__}; an array is needed: prediction.toarray()."
        )
    else:
        array = np.asarray(prediction)
    if array.dtype.kind != "f":
        if array.dtype.kind not in "iub":
            raise ParameterStructureError(f"forward returned dtype {array.dtype}; real numbers are needed.")
        array = array.astype(float)
    if array.ndim not in (1, 2) or array.shape[0] != n:
        raise ParameterStructureError(
            f"forward returned shape {array.shape} for {n} rows; expected ({n},) or ({n}, k)."
        )
    return array  # type: ignore[no-any-return]


def match_target(y: Any, prediction: Array) -> tuple[Any, Array]:
    """Return y and prediction in shapes that a loss can compare: (n, 1) goes with (n,), nothing is broadcast.

    Class indices y of shape (n,) go with scores of shape (n, K).
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
        f"forward returned shape {prediction.shape} where y has shape {y.shape}. "
        "They must agree (shapes (n,) and (n, 1) go together); nothing is broadcast."
    )


def _penalties(
    layout: Layout, alpha: float | dict[str, float], unpenalized: Sequence[str]
) -> tuple[tuple[int, float], ...]:
    """Pairs of block index and strength, those of strength 0 left out."""
    if not isinstance(alpha, dict):
        named = {name: alpha for name in layout.names if name not in unpenalized}
    else:
        named = alpha
    for name, strength in named.items():
        if not STRENGTH.admits(strength):
            raise ValueError(f"alpha must be a finite number that is not negative; got {strength!r} for {name!r}.")
    strengths = layout.of_blocks(named, "alpha")
    return tuple((index, float(strength)) for index, strength in strengths.items() if strength)
