"""Torch modules as models, with gradients from autograd.

The module is called as a function of its parameters, so it is never modified. Its buffers are copied into the model.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from ...exceptions import ParameterStructureError
from ...model.base import Model
from ...typing import Array
from ...validation import nearest


class Form:
    """A gradient form that a `TorchModule` offers, as an attribute of its class.

    Parameters
    ----------
    with_criterion : bool
        Whether the form is available with a criterion, or without one.
    """

    def __init__(self, with_criterion: bool) -> None:
        self.with_criterion = with_criterion

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, owner: Any = None) -> Any:
        if model is None:
            return self
        if (model.criterion is not None) != self.with_criterion:
            needs = "requires a criterion" if self.with_criterion else "is not available with a criterion"
            raise AttributeError(f"TorchModule: {self.name} {needs}.")
        return Function(model, self.name)


class TorchModule(Model):
    """A torch module as the model of an estimator, with its gradient from autograd.

    Pass it as `model`. Without a criterion, it provides a ``vjp``, which the estimator composes with its named loss.
    With a criterion, it provides a ``loss_and_gradient``. These methods, ``forward`` and ``init`` can also be passed to
    an estimator as separate functions.

    Parameters
    ----------
    module : torch.nn.Module
        Module that is called as ``module(X)``. Training starts from the values of its parameters and does not modify
        it. Parameters with ``requires_grad=False`` are not trained.
    criterion : callable, default=None
        ``criterion(prediction, y)`` returns the mean loss of the batch, as a tensor of one number: a function from
        ``torch.nn.functional``, a module such as ``torch.nn.HuberLoss()``, or a function of your own. If y and the
        prediction differ only by an axis of length 1, y is reshaped like the prediction. If the criterion names
        ``sample_weight`` or metadata of ``fit``, it receives them as tensors.

    Attributes
    ----------
    buffers_ : dict of str to tensor
        Buffers of the layers, such as the running averages of batch normalization.

    Raises
    ------
    TypeError
        In ``vjp``, if a layer, such as dropout, computes something else in training than in evaluation: a named loss is
        computed from predictions, which are made in evaluation mode. Pass a criterion instead.

    See Also
    --------
    load_params : Copy fitted parameters into a module.

    Notes
    -----
    The parameters are a dict with the module's own names, such as ``"0.weight"``. Parameters, buffers and the other
    tensors of the module have the dtype of X. Gradients are computed in training mode, predictions in evaluation mode.
    Dropout draws from the estimator's ``rng``, so fits are reproducible, resume exactly and can be checked; the state
    of torch's own generator does not change.

    Batch normalization couples the samples of a batch, so pass ``additive=True``. Its running averages include the
    evaluations of the gradient check. With early stopping, they are those of the last epoch, not of the best one.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.interop.torch import TorchModule
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)
    ... )
    >>> X = np.linspace(-2, 2, 50).reshape(-1, 1)
    >>> model = AnalyticRegressor(model=TorchModule(net), optimizer="lbfgs", tol=None)
    >>> model = model.fit(X, np.sin(2 * X[:, 0]))
    >>> bool(model.score(X, np.sin(2 * X[:, 0])) > 0.999)
    True
    >>> list(model.params_)
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    buffers_: dict[str, torch.Tensor]
    vjp: Any = Form(with_criterion=False)
    loss_and_gradient: Any = Form(with_criterion=True)

    def __init__(self, module: torch.nn.Module, criterion: Callable[..., Any] | None = None) -> None:
        self.module = module
        self.criterion = criterion

    def init(self) -> dict[str, Array]:
        """Return the values of the module's trained parameters by name, and reset ``buffers_`` to the module's buffers.

        Returns
        -------
        params : dict of str to ndarray
            Copies of the parameters.
        """
        self._require_module()
        self.buffers_ = {name: buffer.detach().clone() for name, buffer in self.module.named_buffers()}
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in _trained(self.module).items()}

    def forward(self, params: Mapping[str, Any], X: Any) -> Array:
        """Return the predictions, in evaluation mode.

        Parameters
        ----------
        params : dict of str to ndarray
            Parameters by the module's names.
        X : ndarray of shape (n_samples, n_features)
            Samples, passed to the module as a tensor with its own memory.

        Returns
        -------
        prediction : ndarray
        """
        with torch.no_grad():
            prediction: Array = self._called({name: _shown(block) for name, block in params.items()}, X, False).numpy()
        return prediction

    def _vjp(self, params: Mapping[str, Any], X: Any) -> tuple[Array, Callable[[Array], dict[str, Any]]]:
        leaves = _leaves(params)
        prediction = self._called(leaves, X, True)

        def pullback(derivative: Array) -> dict[str, Any]:
            return _gradient(prediction, leaves, torch.from_numpy(np.ascontiguousarray(derivative, _dtype(prediction))))

        return prediction.detach().numpy(), pullback

    def _loss_and_gradient(
        self, params: Mapping[str, Any], X: Any, y: Any = None, rng: Any = None, **received: Any
    ) -> tuple[float, dict[str, Any]]:
        leaves = _leaves(params)
        with _drawing_from(rng):
            loss = self._loss(self._called(leaves, X, True), y, received)
        return loss.item(), _gradient(loss, leaves, None)

    def _evaluated(self, params: Mapping[str, Any], X: Any, y: Any = None, rng: Any = None, **received: Any) -> float:
        with torch.no_grad():
            prediction = self._called({name: _shown(block) for name, block in params.items()}, X, False)
            return float(self._loss(prediction, y, received).item())

    def _loss(self, prediction: torch.Tensor, y: Any, received: Mapping[str, Any]) -> torch.Tensor:
        targets = () if y is None else (_like(_tensor(y, prediction.dtype), prediction),)
        more = {name: _tensor(value, prediction.dtype) for name, value in received.items()}
        loss = self.criterion(prediction, *targets, **more)  # type: ignore[misc]
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            came = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(loss)
            raise TypeError(f"TorchModule: criterion must return a tensor of one number, the mean loss; got {came}.")
        return loss

    def _called(self, params: Mapping[str, torch.Tensor], X: Any, training: bool) -> torch.Tensor:
        """The module at some parameters, in one of its modes."""
        dtype = next(iter(params.values())).dtype
        beside = self._beside(dtype)
        arguments = (torch.tensor(X, dtype=dtype),)  # a copy: layers may write to what they are given
        returned = functional_call(self._in_mode(training), {**beside, **params}, arguments)
        if not isinstance(returned, torch.Tensor):
            raise TypeError(f"TorchModule: module(X) must return a tensor; got {type(returned).__name__}.")
        return returned

    def _beside(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """What the module needs beside the trained parameters, in their dtype."""
        if not hasattr(self, "buffers_"):
            self.init()
        made, frozen = self.__dict__.get("_frozen", (None, {}))
        if made != dtype:  # the gradient check computes in float64
            trained = _trained(self.module)
            everything = self.module.named_parameters()
            frozen = {name: _cast(tensor.detach(), dtype) for name, tensor in everything if name not in trained}
            self._frozen = dtype, frozen
            self.buffers_ = {name: _cast(buffer, dtype) for name, buffer in self.buffers_.items()}
        return {**frozen, **self.buffers_}

    def _in_mode(self, training: bool) -> torch.nn.Module:
        """A copy of the module in training or evaluation mode."""
        modes = self.__dict__.setdefault("_modes", {})
        if training not in modes:
            modes[training] = copy.deepcopy(self.module).train(training)
        module: torch.nn.Module = modes[training]
        return module

    def _require_module(self) -> None:
        if not isinstance(self.module, torch.nn.Module):
            raise TypeError(f"TorchModule takes a torch.nn.Module; got {self.module!r}.")
        if not _trained(self.module):
            raise ValueError(
                "TorchModule: the module has no parameter with requires_grad=True, so there is nothing to train."
            )

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_modes", "_frozen")}


class Function:
    """A gradient form of a `TorchModule` as a function, whose signature names what it receives.

    Parameters
    ----------
    model : TorchModule
    name : {"vjp", "loss_and_gradient", "evaluated"}
    """

    def __init__(self, model: TorchModule, name: str) -> None:
        self.model, self.name = model, name

    def __call__(self, params: Any, X: Any, **received: Any) -> Any:
        if self.name != "vjp":
            return getattr(self.model, f"_{self.name}")(params, X, **received)
        layer = _differing(self.model.module)
        if layer:
            raise TypeError(
                f"TorchModule: {layer} acts only in training mode, so a named loss, which is computed from predictions "
                "in evaluation mode, is not the loss that is trained. Pass a criterion to TorchModule, such as "
                "torch.nn.functional.mse_loss."
            )
        return self.model._vjp(params, X)

    @property
    def evaluated(self) -> Any:
        """The loss in evaluation mode, for samples that are not used in training."""
        if self.name != "loss_and_gradient":
            raise AttributeError(self.name)
        return Function(self.model, "evaluated")

    @property
    def __signature__(self) -> inspect.Signature:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in ("params", "X")]
        if self.name != "vjp":
            parameters += _of_criterion(self.model.criterion)
            if _draws(self.model.module):
                parameters.append(inspect.Parameter("rng", inspect.Parameter.KEYWORD_ONLY))
        return inspect.Signature(parameters)


def load_params(module: torch.nn.Module, estimator: Any) -> torch.nn.Module:
    """Copy fitted parameters into a torch module, in the module's dtype.

    Parameters
    ----------
    module : torch.nn.Module
        Module to write to.
    estimator : fitted estimator or dict of str to array
        Estimator, or parameters by name. If the estimator's model is a `TorchModule`, its buffers are copied too.

    Returns
    -------
    module : torch.nn.Module
        The same module.

    Raises
    ------
    ParameterStructureError
        If the module has no parameter of a name, a trained parameter is missing, or a shape differs. In that case,
        nothing is written.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sk_analytic.interop.torch import load_params
    >>> params = {"weight": np.array([[1.0, 2.0]]), "bias": np.zeros(1)}
    >>> layer = load_params(torch.nn.Linear(2, 1), params)
    >>> layer(torch.ones(1, 2)).item()
    3.0
    """
    params = dict(getattr(estimator, "params_", estimator))
    model = getattr(estimator, "model_", None)
    buffers = getattr(model, "buffers_", {}) if isinstance(model, TorchModule) else {}
    own = dict(module.named_parameters()) | dict(module.named_buffers())
    absent = [name for name in _trained(module) if name not in params]
    if absent:
        raise ParameterStructureError(
            f"The parameters have no {absent[0]!r}; they have: {', '.join(map(repr, params))}."
        )
    for name, value in {**params, **buffers}.items():
        if name not in own:
            raise ParameterStructureError(
                f"The module has no {name!r}.{nearest(name, own)} It has: {', '.join(map(repr, own))}."
            )
        if tuple(own[name].shape) != np.shape(value):
            raise ParameterStructureError(
                f"{name!r} has shape {np.shape(value)}; in the module it has {tuple(own[name].shape)}."
            )
    with torch.no_grad():
        for name, value in {**params, **buffers}.items():
            own[name].copy_(torch.as_tensor(np.array(value)) if not isinstance(value, torch.Tensor) else value)
    return module


def _trained(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}


class _Alias:
    """The memory of a read-only array for torch, which has no tensors that can only be read."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _shown(block: Any) -> torch.Tensor:
    """A tensor on the memory of a block."""
    block = np.asarray(block)
    if block.dtype.kind != "f":
        raise TypeError(f"TorchModule: parameters have dtype {block.dtype}; expected real floats.")
    return torch.from_numpy(block if block.flags.writeable else np.asarray(_Alias(block)))


def _leaves(params: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: _shown(block).requires_grad_() for name, block in params.items()}


def _gradient(output: torch.Tensor, leaves: Mapping[str, torch.Tensor], derivative: Any) -> dict[str, Any]:
    """The gradient by name; None where the output does not depend on a parameter, as in ``grad`` of torch."""
    grads = torch.autograd.grad(output, list(leaves.values()), derivative, allow_unused=True)
    return {name: None if grad is None else grad.numpy() for name, grad in zip(leaves, grads, strict=True)}


def _dtype(tensor: torch.Tensor) -> Any:
    return np.float64 if tensor.dtype == torch.float64 else np.float32


def _tensor(value: Any, dtype: torch.dtype) -> Any:
    """A copy of data as a tensor: floats in the dtype of the parameters, whole numbers as torch's classes are."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        return value
    return torch.tensor(value, dtype=dtype if value.dtype.kind == "f" else torch.int64)


def _like(y: Any, prediction: torch.Tensor) -> Any:
    """y in the shape of the prediction, if an axis of length 1 is all that differs."""
    squeezed = [[n for n in shape if n != 1] for shape in (getattr(y, "shape", (0,)), prediction.shape)]
    if squeezed[0] == squeezed[1] and y.is_floating_point():
        return y.reshape(prediction.shape)
    return y


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _of_criterion(criterion: Any) -> list[inspect.Parameter]:
    """What a criterion receives by name: y, and what else it names without a default that is torch's own."""
    function = criterion.forward if isinstance(criterion, torch.nn.Module) else criterion
    given = [
        p for p in inspect.signature(function).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    named = [p.replace(kind=p.KEYWORD_ONLY) for p in given[2:] if p.default is p.empty or p.name == "sample_weight"]
    return [inspect.Parameter("y", inspect.Parameter.KEYWORD_ONLY), *named] if len(given) > 1 else named


def _draws(module: torch.nn.Module) -> bool:
    return any(_is_random(layer) for layer in module.modules())


def _is_random(layer: torch.nn.Module) -> bool:
    """Whether a layer draws random numbers in training."""
    of_own = getattr(layer, "p", 0) if isinstance(layer, torch.nn.modules.dropout._DropoutNd) else 0
    inner = getattr(layer, "dropout", 0)
    return bool(of_own) or isinstance(layer, torch.nn.RReLU) or (isinstance(inner, float) and inner > 0)


def _differing(module: torch.nn.Module) -> str:
    """Name the first layer that does something else in training than in evaluation; empty if none is known to."""
    kinds = torch.nn.modules.batchnorm._BatchNorm
    for name, layer in module.named_modules():
        if _is_random(layer) or (isinstance(layer, kinds) and layer.track_running_stats):
            return f"{type(layer).__name__} ({name!r})" if name else type(layer).__name__
    return ""


class _drawing_from:
    """Let torch draw what follows from a generator, and then go on as before."""

    def __init__(self, rng: Any) -> None:
        self.rng = rng

    def __enter__(self) -> None:
        if self.rng is not None:
            self.before = torch.get_rng_state()
            torch.manual_seed(int(self.rng.integers(2**63)))

    def __exit__(self, *error: Any) -> None:
        if self.rng is not None:
            torch.set_rng_state(self.before)
