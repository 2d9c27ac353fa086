"""A fitted model as a torch module that uses the user's gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from ..exported import Exported


def to_torch(estimator: Any, *, vjp_X: Callable[..., Any] | None = None) -> FittedModule:
    """Return the model of a fitted estimator as a torch module.

    The value and the gradient are computed by your functions in NumPy, on the host. The module can be part of other
    torch modules and can be trained further in torch.

    Parameters
    ----------
    estimator : AnalyticRegressor, AnalyticClassifier, AnalyticDensity or AnalyticTransformer
        Fitted estimator. Fitting it again does not change the module.
    vjp_X : callable, default=None
        ``vjp_X(params, X, cotangent) -> array like X``: the product of the cotangent, an array of the shape of the
        module's value, with the derivative with respect to X. It also receives ``y`` and metadata if it names them. If
        None, an X that requires a gradient raises an error.

    Returns
    -------
    module : torch.nn.Module
        For the `vjp` and `jacobian` forms, ``module(X)`` returns the output of ``forward``: raw scores of a classifier,
        log-densities, codes, or a regressor's predictions before the inverse link. For the `gradient` and
        `loss_and_gradient` forms, which do not differentiate the prediction, ``module(X, y)`` returns the mean loss
        without the penalty. Pass metadata, and ``sample_weight`` for the loss, by name.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ValueError
        If there is neither a prediction nor a loss to return, because `gradient` was given with ``loss=None``.

    Notes
    -----
    The module's parameters are those of ``params_``: ``module.params.W`` for ``params_["W"]``, and
    ``module.params.layer.W`` for ``params_["layer"]["W"]``. Fixed parameters do not require a gradient. `bounds` and
    `reparametrize` of the estimator do not apply in torch.

    Second derivatives are not supported. The backward pass reuses what `vjp` and `loss_and_gradient` returned in the
    forward pass.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.interop.torch import to_torch
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> line = AnalyticRegressor(optimizer="lbfgs", alpha=0).fit(X, [1.0, 3.0, 5.0])
    >>> module = to_torch(line)
    >>> prediction = module(torch.tensor([[4.0]], dtype=torch.float64))
    >>> prediction.sum().backward()
    >>> module.params.coef.grad
    tensor([4.], dtype=torch.float64)
    """
    return FittedModule(Exported(estimator, vjp_X))


class FittedModule(torch.nn.Module):
    """The model of a fitted estimator; see `to_torch`.

    Parameters
    ----------
    exported : Exported
    """

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        self._exported = exported
        self.params = torch.nn.Module()
        self._paths = [_path(name) for name in exported.names]
        for path, block, trained in zip(self._paths, exported.blocks(), exported.trained, strict=True):
            owner = self.params
            for part in path[:-1]:
                if part not in owner._modules:
                    owner.add_module(part, torch.nn.Module())
                owner = owner.get_submodule(part)
            owner.register_parameter(path[-1], torch.nn.Parameter(torch.from_numpy(block), requires_grad=trained))

    def forward(self, X: torch.Tensor, y: Any = None, **columns: Any) -> torch.Tensor:
        """Return the raw prediction, or the mean loss.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
        y : Tensor or array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets as for `fit`, if the module returns the mean loss.
        **columns : Tensor or array-like of shape (n_samples,) or (n_samples, k)
            Metadata of the model; also ``sample_weight`` if the module returns the mean loss.

        Returns
        -------
        value : Tensor of shape (n_samples,), (n_samples, k) or ()
            In the dtype of the parameters.
        """
        blocks = [functools.reduce(getattr, path, self.params) for path in self._paths]
        given = {name: column for name, column in {"y": y, **columns}.items() if column is not None}
        if torch.is_grad_enabled():
            for name, column in given.items():
                if isinstance(column, torch.Tensor) and column.requires_grad:
                    raise ValueError(f"The derivative with respect to {name} is not available. Pass {name}.detach().")
            if X.requires_grad:
                self._exported.require_vjp_X()
        arrays = {name: _array(column) for name, column in given.items()}
        value: torch.Tensor = _Value.apply(self._exported, arrays, X, *blocks)
        return value

    def extra_repr(self) -> str:
        """Return whether the value is a prediction or a loss, for the representation."""
        return "mean loss" if self._exported.is_loss else "raw prediction"


def _path(name: str) -> list[str]:
    """Return the names of modules, and of the parameter in the last of them, for a block."""
    return [part or "theta" for part in name.split(".")]


def _array(column: Any) -> Any:
    return column.detach().cpu().numpy() if isinstance(column, torch.Tensor) else column


class _Value(torch.autograd.Function):
    """The value at some parameters, and the products with its derivatives."""

    @staticmethod
    def forward(ctx: Any, exported: Exported, columns: Any, X: torch.Tensor, *blocks: torch.Tensor) -> torch.Tensor:
        """Return the value."""
        arrays = [_array(block) for block in blocks]
        if any(ctx.needs_input_grad[3:]):
            value, ctx.pullback = exported.linearized(arrays, _array(X), columns)
        else:
            value = exported.value(arrays, _array(X), columns)
        ctx.exported, ctx.columns = exported, columns
        ctx.save_for_backward(X, *blocks)
        return torch.as_tensor(value, device=blocks[0].device)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, cotangent: torch.Tensor) -> Any:
        """Return the gradients."""
        X, *blocks = ctx.saved_tensors  # which raises if one of them was written to
        given = _array(cotangent)
        grads: list[Any] = [None] * len(blocks)
        in_X = None
        if any(ctx.needs_input_grad[3:]):
            grads = [
                None if grad is None or not needed else torch.from_numpy(np.ascontiguousarray(grad)).to(block.device)
                for grad, needed, block in zip(ctx.pullback(given), ctx.needs_input_grad[3:], blocks, strict=True)
            ]
        if ctx.needs_input_grad[2]:
            product = ctx.exported.gradient_in_X([_array(block) for block in blocks], _array(X), ctx.columns, given)
            in_X = torch.from_numpy(product).to(device=X.device, dtype=X.dtype)
        return None, None, in_X, *grads
