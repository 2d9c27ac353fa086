"""Model + loss + penalty + weights -> partial sums over rows: every gradient form ends here.

The objective is the mean over rows of weight times loss, plus ``alpha/2`` times the sum of squares of
the penalised blocks. All scaling is done in this file and nowhere else.
"""

from functools import reduce
from typing import NamedTuple

import numpy as np

from .exceptions import ParameterStructureError


class Partial(NamedTuple):
    """What some rows contribute, as means over them; partials of several batches are merged.

    ``gradient`` is None where nothing is to be learned (no rows, or weights all zero), and ``loss``
    where the gradient form gives none. ``missing`` are the indices of blocks without a gradient.
    """

    loss: float | None
    gradient: np.ndarray | None
    n: int
    missing: tuple[int, ...] = ()


def merge(partials):
    """Return the partial of all the rows of several, summed in their order.

    The gradients of later batches may reuse the memory of earlier ones: the sum is kept apart.
    """
    return reduce(_add, partials, Partial(0.0, None, 0))


def _add(total, part):
    n = total.n + part.n
    if part.gradient is None:
        kept = total.n / n if n else 0.0
        gradient = None if total.gradient is None else np.multiply(total.gradient, kept, out=total.gradient)
        loss = None if total.loss is None else total.loss * kept
        return Partial(loss, gradient, n, total.missing)
    loss = None if part.loss is None or total.loss is None else (total.loss * total.n + part.loss * part.n) / n
    if total.gradient is None:
        return Partial(loss, part.gradient * (part.n / n), n, part.missing)
    total.gradient *= total.n / n
    total.gradient += part.gradient * (part.n / n)
    return Partial(loss, total.gradient, n, tuple(sorted({*total.missing} & {*part.missing})))


class Objective:
    """What is minimised, and its gradient, over batches of rows.

    Parameters
    ----------
    model : Model
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
    needs_value : bool, default=False
        Whether each step needs the loss, at the cost of one more `forward` for the `gradient` form.

    Raises
    ------
    ValueError
        For a reduction that does not go with the form, a wrong ``alpha``, and a value that cannot be had.
    """

    def __init__(
        self, model, loss, layout, *, alpha=0.0, unpenalized=(), reduction="mean", fixed=(), needs_value=False
    ):
        if reduction == "sum" and model.form in ("vjp", "jacobian"):
            raise ValueError(
                f"reduction='sum' goes with gradient and loss_and_gradient, not with {model.form}: "
                "it has no reduction of its own, since the loss by name is averaged here."
            )
        self.model, self.loss, self.layout = model, loss, layout
        self.reduction, self.needs_value = reduction, needs_value
        self.penalties = _penalties(layout, alpha, unpenalized)
        self.fixed = layout.indices(fixed, "fixed")
        self._evaluate = f"_by_{model.form}"
        if needs_value and not self.has_value:
            raise ValueError(
                "This optimizer needs the value of the loss, but there is none: the gradient form was given "
                "with loss=None. Name a loss, pass your own, or use loss_and_gradient."
            )
        self._allocate()

    def _allocate(self):
        self._gradient = np.empty(self.layout.size, self.layout.dtype)
        self._blocks = self.layout.blocks(self._gradient)

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k not in ("_gradient", "_blocks")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._allocate()

    def astype(self, dtype):
        """Return the same objective over vectors of another dtype."""
        other = object.__new__(Objective)
        other.__setstate__({**self.__getstate__(), "layout": self.layout.astype(dtype)})
        return other

    @property
    def has_value(self):
        """Whether the loss can be had at all, beside the gradient."""
        return self.model.form != "gradient" or self.model.loss is not None or self.loss is not None

    @property
    def step_has_value(self):
        """Whether a step gives the loss along with the gradient."""
        return self.model.form != "gradient" or self.needs_value

    def partial(self, theta, batch):
        """Return the contribution of a batch; its gradient is valid until the next call."""
        if batch.is_empty:
            return Partial(0.0, None, batch.n)
        loss, grads = getattr(self, self._evaluate)(theta.structure, batch)
        missing = self.layout.gather(grads, self._blocks, self.model.form)
        if self.fixed:
            missing = tuple(sorted({*missing, *self.fixed}))
            for index in self.fixed:
                self._blocks[index][...] = 0
        if self.reduction == "sum":
            self._gradient *= 1 / batch.n
        return Partial(loss, self._gradient, batch.n, missing)

    def finish(self, theta, partial):
        """Add the penalty, once.

        Returns
        -------
        loss : float or None
        gradient : ndarray of shape (layout.size,)
            The partial's own memory.
        """
        loss, gradient = partial.loss, partial.gradient
        for index, alpha in self.penalties:
            where = self.layout.slices[index]
            if index not in partial.missing:
                gradient[where] += alpha * theta.vector[where]
        return None if loss is None else loss + self.penalty(theta), gradient

    def penalty(self, theta):
        """Return ``alpha/2`` times the sum of squares of the penalised blocks."""
        total = 0.0
        for index, alpha in self.penalties:
            block = theta.vector[self.layout.slices[index]]
            total += 0.5 * alpha * float(block.dot(block))
        return total

    def value(self, theta, batch):
        """Return the mean loss of a batch, without the penalty; None where no loss can be had."""
        return 0.0 if batch.is_empty else self._value(theta.structure, batch)

    def _value(self, params, batch):
        if self.model.loss is not None:
            return self._scalar(self.model.loss(params, batch), "loss", batch)
        if self.model.form == "loss_and_gradient":
            return self._by_loss_and_gradient(params, batch)[0]
        if self.loss is None:
            return None
        return self._named_loss(self.predictions(params, batch), batch)[0]

    def mean_value(self, theta, batches):
        """Return the mean loss of several batches and the penalty; None where no loss can be had."""
        values = [(self.value(theta, batch), batch.n) for batch in batches]
        if values[0][0] is None:
            return None
        return sum(value * n for value, n in values) / sum(n for _, n in values) + self.penalty(theta)

    def predictions(self, params, batch):
        """Return what `forward` says of a batch, one row for each of its rows."""
        return read_prediction(self.model.predictions(params, batch), batch.n)

    # The four gradient forms. Each returns the mean loss of the batch, or None, and the gradient of it.

    def _by_gradient(self, params, batch):
        loss = self._value(params, batch) if self.needs_value else None
        return loss, self.model.gradient(params, batch)

    def _by_loss_and_gradient(self, params, batch):
        loss, grads = _pair(self.model.gradient(params, batch), "loss_and_gradient", "(loss, grads)")
        return self._scalar(loss, "the loss of loss_and_gradient", batch), grads

    def _by_vjp(self, params, batch):
        prediction, pullback = _pair(self.model.gradient(params, batch), "vjp", "(prediction, pullback)")
        if not callable(pullback):
            raise TypeError(f"vjp must return (prediction, pullback) with a callable pullback; got {pullback!r}.")
        loss, derivative = self._named_loss(read_prediction(prediction, batch.n), batch)
        return loss, self.layout.unwrap(pullback(derivative))

    def _by_jacobian(self, params, batch):
        loss, derivative = self._named_loss(self.predictions(params, batch), batch)
        jacobian = self.model.gradient(params, batch)
        if derivative.ndim == 2 and derivative.shape[1] == 1 and not self._has_output_axis(jacobian):
            derivative = derivative[:, 0]
        leaves = self.layout.stacked(jacobian, derivative.shape)
        flat = derivative.ravel()
        blocks = [
            None if leaf is None else (flat @ leaf.reshape(flat.size, -1)).reshape(shape)
            for leaf, shape in zip(leaves, self.layout.shapes, strict=True)
        ]
        return loss, self.layout.fill(blocks)

    def _has_output_axis(self, jacobian):
        """Whether the leaves of a Jacobian for predictions (n, 1) have that second axis themselves."""
        for leaf, shape in zip(self.layout.leaves(jacobian, "jacobian"), self.layout.shapes, strict=True):
            if leaf is not None:
                return np.ndim(leaf) == len(shape) + 2
        return False

    def _named_loss(self, prediction, batch):
        """Mean loss of a batch by name, and its derivative in the prediction, weights included."""
        y, matched = match_target(batch.y, prediction)
        values, derivative = self.loss.value_and_derivative(y, matched)
        weight = batch.sample_weight
        if weight is not None:
            values = values * weight
            derivative = derivative * (weight if derivative.ndim == 1 else weight[:, None])
        derivative = derivative / batch.n
        return float(values.sum()) / batch.n, derivative.reshape(prediction.shape)

    def _scalar(self, loss, role, batch):
        if np.ndim(loss) or not np.isrealobj(loss):
            raise ParameterStructureError(
                f"{role} must be one real number, the {self.reduction} over the batch; got shape {np.shape(loss)}."
            )
        return float(loss) / (batch.n if self.reduction == "sum" else 1)


def _pair(returned, role, expected):
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        kind = f"{len(returned)} items" if isinstance(returned, tuple | list) else type(returned).__name__
        raise TypeError(f"{role} must return the pair {expected}; got {kind}.")
    return returned


def read_prediction(prediction, n):
    """Return a prediction as a float array with a row for each row of X.

    Raises
    ------
    ParameterStructureError
        For another number of rows, more than two axes, or what is not real.
    """
    array = prediction if type(prediction) is np.ndarray else np.asarray(prediction)
    if array.dtype.kind != "f":
        if array.dtype.kind not in "iub":
            raise ParameterStructureError(f"forward returned dtype {array.dtype}; real numbers are needed.")
        array = array.astype(float)
    if array.ndim not in (1, 2) or array.shape[0] != n:
        raise ParameterStructureError(
            f"forward returned shape {array.shape} for {n} rows; expected ({n},) or ({n}, k)."
        )
    return array


def match_target(y, prediction):
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


def _penalties(layout, alpha, unpenalized):
    """Pairs of block index and strength, those of strength 0 left out."""
    if not isinstance(alpha, dict):
        named = {name: alpha for name in layout.names if name not in unpenalized}
    else:
        named = alpha
    strengths = {}
    for name, strength in named.items():
        if isinstance(strength, bool) or not np.isreal(strength) or not 0 <= float(strength) < np.inf:
            raise ValueError(f"alpha must be a finite number that is not negative; got {strength!r} for {name!r}.")
        strengths.update(dict.fromkeys(layout.indices(name, "alpha"), float(strength)))
    return tuple((index, strength) for index, strength in strengths.items() if strength)
