"""A fitted model as a NumPy function of its parameters and X, for export to another library.

Its value is the prediction for the ``vjp`` and ``jacobian`` forms, and the mean loss of the samples for the
``gradient`` and ``loss_and_gradient`` forms. Its derivatives are computed by the objective of the fit, so that fixed
parameters, `numerical` ones and sparse gradients are treated as in `fit`.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..data.batch import Batch
from ..estimators.base import AnalyticEstimator
from ..estimators.inputs import read_to_score
from ..estimators.samples import read_X
from ..objective import Objective, read_prediction
from ..parameters import Layout, Parameters
from ..sparse_gradients import spread
from ..typing import Array

_ONE_AT_A_TIME = threading.RLock()  # a library may call from several threads; the user's functions are bound once

Pullback = Callable[[Any], list[Any]]


class Exported:
    """A fitted estimator's model, for another library.

    Parameters
    ----------
    estimator : AnalyticEstimator
        Fitted estimator. Fitting it again has no effect.
    vjp_X : callable, default=None
        ``vjp_X(params, X, cotangent, ...) -> array like X``: the product of a cotangent of the value with the
        derivative with respect to X. It also receives ``y`` and metadata if it names them.

    Attributes
    ----------
    is_loss : bool
        Whether the value is the mean loss.
    params : object
        ``params_``, in the user's structure.
    names : tuple of str
        Names of its blocks.
    trained : list of bool
        Whether each block is trained (not fixed).
    """

    def __init__(self, estimator: Any, vjp_X: Callable[..., Any] | None = None) -> None:
        if not isinstance(estimator, AnalyticEstimator):
            hint = " Pass its last step." if hasattr(estimator, "steps") else ""
            raise TypeError(f"Only estimators of sk_analytic can be exported; got {type(estimator).__name__}.{hint}")
        check_is_fitted(estimator)
        if vjp_X is not None and not callable(vjp_X):
            raise TypeError(f"vjp_X must be a function (params, X, cotangent) -> array like X; got {vjp_X!r}.")
        self._estimator = copy.copy(estimator)
        self._objective: Objective = self._estimator._training.objective
        form = self._objective.model.gradient_form
        self.is_loss = not form.composes_loss and not (form.is_matrix and self._objective.loss is not None)
        if self.is_loss and not self._objective.has_value:
            raise ValueError(
                f"A model with the {form.name} form is exported as its mean loss, but this one was fitted with "
                "loss=None. Pass a loss by name or as a function, loss(params, X, ...), and fit again."
            )
        self.vjp_X = vjp_X
        self.params = self._theta.to_structure()
        self.names = self._layout.names
        self.trained = [index not in self._objective.fixed for index in range(len(self.names))]

    def __deepcopy__(self, memo: Any) -> Exported:
        return self  # nothing of it changes

    @property
    def _layout(self) -> Layout:
        return self._objective.layout

    @property
    def _theta(self) -> Parameters:
        theta: Parameters = self._estimator._read_params()
        return theta

    def blocks(self) -> list[Array]:
        """Return ``params_`` as new arrays, one for each block."""
        return [block.copy() for block in self._layout.blocks(self._theta.vector)]

    def leaves(self, params: Any) -> list[Any]:
        """Return the leaves of parameters in the order of the blocks."""
        return self._layout.leaves(params, "params")

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Return the user's structure with the given leaves."""
        return self._layout.unflatten(leaves)

    def value(self, blocks: Sequence[Array], X: Any, columns: Mapping[str, Any]) -> Array:
        """Return the value at some parameters.

        Parameters
        ----------
        blocks : sequence of ndarray
            In the order of `names`; their dtype is that of the value.
        X : array-like of shape (n_samples, n_features)
        columns : dict
            ``y``, ``sample_weight`` and metadata, as `mean_loss` takes them; without a loss metadata alone.

        Returns
        -------
        value : ndarray of shape (), (n_samples,) or (n_samples, k)
        """
        with _ONE_AT_A_TIME:
            objective, theta, batch = self._at(blocks, X, columns)
            return self._value(objective, theta, batch)

    def linearized(self, blocks: Sequence[Array], X: Any, columns: Mapping[str, Any]) -> tuple[Array, Pullback]:
        """Return the value, and a function of a cotangent that returns its products with the blocks' derivatives.

        A gradient that comes along with the value is evaluated once for both.
        """
        with _ONE_AT_A_TIME:
            objective, theta, batch = self._at(blocks, X, columns)
            objective = _with_kept_gradient(objective, theta, batch)
            value = self._value(objective, theta, batch)

        def pullback(cotangent: Any) -> list[Any]:
            with _ONE_AT_A_TIME:
                return self._product(objective, theta, batch, np.asarray(cotangent))

        return value, pullback

    def gradient_in_X(self, blocks: Sequence[Array], X: Any, columns: Mapping[str, Any], cotangent: Any) -> Array:
        """Return the product of a cotangent with the derivative with respect to X."""
        self.require_vjp_X()
        with _ONE_AT_A_TIME:
            _, theta, batch = self._at(blocks, X, columns)
            named = inspect.signature(self.vjp_X).parameters  # type: ignore[arg-type]
            extra = {name: column for name, column in batch.columns.items() if name in named}
            product = np.asarray(self.vjp_X(theta.structure, batch.X, np.asarray(cotangent), **extra))  # type: ignore[misc]
        if product.shape != batch.X.shape or product.dtype.kind not in "fiu":
            raise ValueError(
                f"vjp_X returned {product.dtype} of shape {product.shape}; expected real numbers of X's shape "
                f"{batch.X.shape}."
            )
        return product.astype(theta.vector.dtype)

    def require_vjp_X(self) -> None:
        """Raise if there is no derivative with respect to X."""
        if self.vjp_X is None:
            raise ValueError(
                "The derivative with respect to X is not available. Pass it to the export, "
                "vjp_X=function(params, X, cotangent) -> array like X, or stop the gradient before X: X.detach() in "
                "torch, jax.lax.stop_gradient(X) in jax."
            )

    def _at(self, blocks: Sequence[Array], X: Any, columns: Mapping[str, Any]) -> tuple[Objective, Parameters, Batch]:
        """Return the objective in the dtype of the blocks, θ, and the samples, bound to each other."""
        dtype = np.result_type(*blocks)
        layout = self._layout.astype(dtype)
        for name, block, shape in zip(layout.names, blocks, layout.shapes, strict=True):
            if block.shape != shape:
                raise ValueError(f"Parameter {name!r} has shape {block.shape}; in the fit it had {shape}.")
        theta = Parameters(layout, np.concatenate([np.ravel(block) for block in blocks]).astype(dtype))
        batch = self._samples(X, dict(columns)).astype(dtype).read_only()
        model = self._objective.model.bound_to(batch.columns, ("predictor", "forward", "gradient", "loss"))
        return self._objective.astype(dtype)._with(model=model), theta, batch

    def _samples(self, X: Any, columns: dict[str, Any]) -> Batch:
        if not self.is_loss:
            model = self._objective.model
            names = model.predictor.nameable | (set() if model.gradient is None else model.gradient.nameable)
            for name in {"y", "sample_weight"} & columns.keys() - names:
                raise TypeError(
                    f"This model returns a prediction, which does not depend on {name}. Apply a loss to the prediction."
                )
            batch: Batch = self._estimator._with_metadata(read_X(self._estimator, X, reset=False), columns, names)
            return batch
        y, weight = columns.pop("y", None), columns.pop("sample_weight", None)
        rows, _ = read_to_score(self._estimator, X, y, weight, columns)
        (batch,) = rows.map(lambda batch: batch)
        return batch

    def _value(self, objective: Objective, theta: Parameters, batch: Batch) -> Array:
        if self.is_loss:
            value = np.array(objective.value(theta, batch))
        else:
            prediction = read_prediction(objective.model.predictions(theta.structure, batch), batch.n)
            value = np.array(self._estimator._training.targets.check_prediction(prediction))
        return value.astype(theta.vector.dtype)

    def _product(self, objective: Objective, theta: Parameters, batch: Batch, cotangent: Array) -> list[Any]:
        """Return the gradient of the inner product of the value with a cotangent, None for blocks that have none."""
        contribution = (objective if self.is_loss else objective.along(cotangent)).contribution(theta, batch)
        if contribution.gradient is None:
            return [np.zeros(shape, theta.layout.dtype) for shape in theta.layout.shapes]
        gradient = contribution.gradient.copy()
        spread(gradient, contribution.sparse_grads)
        blocks = theta.layout.blocks(gradient * cotangent.astype(gradient.dtype) if self.is_loss else gradient)
        return [None if index in contribution.missing else block for index, block in enumerate(blocks)]


class _Kept:
    """Stands for the user's gradient at one point, where it was evaluated already."""

    def __init__(self, receiver: Any, params: Any, batch: Batch) -> None:
        self._receiver, self._returned = receiver, receiver.call(params, batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._receiver, name)

    def call(self, params: Any, batch: Batch) -> Any:
        """Return what it returned."""
        return self._returned

    __call__ = call


def _with_kept_gradient(objective: Objective, theta: Parameters, batch: Batch) -> Objective:
    """Return an objective whose gradient is evaluated now, and only once, if that gives the value too.

    Differences need the value at other points.
    """
    form = objective.model.gradient_form
    if objective.numerical or not (form.predicts or form.has_own_loss):
        return objective
    model = copy.copy(objective.model)
    model.gradient = _Kept(model.gradient, theta.structure, batch)
    if form.predicts:
        model.forward, model.predictor = None, model.gradient
    return objective._with(model=model)
