"""The user's callables, bound once: who receives what. And the models used where nothing is given.

After ``(params, X)`` a callable receives by name what it names, nothing else. A `Receiver` is one
callable with the names it asked for; a `Model` is all of them, with what is absent derived from what is
there.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import issparse

from ..data.arrays import Batch
from ..exceptions import ReceivedArgumentError
from ..parameters import GRADIENT_FORMS
from ..trust import trusted
from ..typing import Array, Forward, Grads, LossFunction, Params, Pullback
from ..validation import nearest

# What each callable may receive by name, beside metadata and model parameters. Weights reach `vjp` and
# `jacobian` through the derivative of the loss, so that they would count twice if received there too.
_RECEIVABLE = {
    "forward": (),
    "gradient": ("y", "sample_weight", "rng"),
    "loss_and_gradient": ("y", "sample_weight", "rng"),
    "vjp": ("y", "rng"),
    "vjp in place of forward": ("rng",),
    "jacobian": ("y", "rng"),
    "loss": ("y", "sample_weight", "rng"),
    "init": ("n_features", "n_outputs", "rng", "X", "y", "sample_weight"),
}
_RESERVED = {"params", *(name for names in _RECEIVABLE.values() for name in names)}

OF_VALIDATION = "_val"  # ends the name of what belongs to the rows of X_val


def meaning_of(name: str) -> str:
    """Say what a name stands for that is not free for metadata; nothing for one that is."""
    if name in _RESERVED:
        return "it is one of those that the estimator gives to callables itself"
    if name == "classes":
        return "it is an argument of a classifier's partial_fit and fit_chunks"
    if name.endswith(OF_VALIDATION):
        return f"what ends in {OF_VALIDATION!r} belongs to X_val, rows to stop early by, which fit and fit_chunks take"
    return ""


def metadata_names(functions: Mapping[str, Any], model_params: object) -> set[str]:
    """Return the names under which callables may receive row-wise metadata: those that nothing else provides.

    Parameters
    ----------
    functions : dict of str to callable
        By role; what is not callable, or has no signature to read, names nothing here: `fit` will say so.
    model_params : dict or None

    Returns
    -------
    names : set of str
    """
    names: set[str] = set()
    for role, function in functions.items():
        if callable(function):
            with suppress(ReceivedArgumentError):
                names |= _arguments(role, function, _by_position(role)).keys()
    given = model_params if isinstance(model_params, dict) else {}
    return {name for name in names if name not in given and not meaning_of(name)}


@trusted
class Receiver:
    """A callable together with the arguments that it receives by name.

    Parameters
    ----------
    role : str
        The estimator's parameter it was given as: ``"forward"``, ``"gradient"``, …
    function : callable
        The user's.
    columns : iterable of str
        Names of the row-wise data at hand: ``"y"``, metadata.
    model_params : dict
        Fixed arguments for those that name them.

    Attributes
    ----------
    accepts : frozenset of str
        Every name in its signature.
    wanted : tuple of str
        What it receives from the batch at each call.
    metadata, nameable : frozenset of str
        Of these, the row-wise data beside y; and those that it would receive if they were there.

    Raises
    ------
    ReceivedArgumentError
        If it has an argument without a default that nothing provides.
    """

    def __init__(self, role: str, function: Any, columns: Iterable[str], model_params: Mapping[str, Any]) -> None:
        if not callable(function):
            raise TypeError(f"{role} must be callable; got {function!r}.")
        self.role, self.function = role, function
        by_position = _by_position(role)
        arguments = _arguments(role, function, by_position)
        self.accepts = frozenset(arguments)
        extra = [name for name in columns if name != "y"]
        there = [n for n in _RECEIVABLE[role] if n != "y" or "y" in columns] + extra
        self._fixed = {name: value for name, value in model_params.items() if name in arguments}
        self.wanted = tuple(name for name in there if name in arguments)
        self.metadata = frozenset(extra).intersection(arguments)
        self.nameable = frozenset(n for n in self.accepts if n not in self._fixed and not meaning_of(n))
        for name, parameter in arguments.items():
            if parameter.default is parameter.empty and name not in (*self.wanted, *self._fixed):
                raise ReceivedArgumentError(
                    f"{role} asks for an argument {name!r} that nothing provides."
                    f"{nearest(name, [*there, *model_params])} There is, by name: "
                    f"{', '.join([*by_position, *there, *model_params]) or 'nothing'}. "
                    f"{_remedy(role, name)}"
                )
        weight = arguments.get("sample_weight")
        self._weight_defaults_to_none = weight is not None and weight.default is None

    def bound_to(self, columns: Mapping[str, Any]) -> Receiver:
        """Return it with other row-wise data at hand."""
        if self.metadata == columns.keys():
            return self
        return Receiver(self.role, self.function, columns, self._fixed)

    def __call__(self, params: Any, batch: Batch) -> Any:
        """Call it on a batch as ``function(params, X, ...)``; `init` has no arguments by position.

        An exception of its own goes on unchanged, with a note saying who was called.
        """
        received = self._received(batch) if self.wanted else self._fixed
        try:
            if self.role == "init":
                return self.function(**received)
            return self.function(params, batch.X, **received)
        except Exception as error:
            note(error, f"the callable given as {self.role}", self.function)
            if issparse(batch.X) and isinstance(error, TypeError | ValueError | AttributeError):
                error.add_note(
                    f"X is sparse here, a {type(batch.X).__name__}, as it was given: callables for it use X.shape[0], "
                    "X @ W and X.T @ d. For those that need an array, pass X.toarray()."
                )
            raise

    def _received(self, batch: Batch) -> dict[str, Any]:
        """What it receives by name."""
        received = self._fixed.copy()
        for name in self.wanted:
            if name == "sample_weight" and batch.sample_weight is None and self._weight_defaults_to_none:
                continue
            received[name] = batch.argument(name)
        return received


@trusted
class Model:
    """The callables of one estimator.

    Parameters
    ----------
    forward : callable or None
        Prediction; where there is none, a `vjp` gives it.
    forms : dict of str to callable
        The gradient, under the name of its form; exactly one.
    loss : callable or None
        A loss of the user's own.
    columns : iterable of str
        Names of the row-wise data at hand.
    model_params : dict or None
        Arguments by name for whoever accepts them.
    init : callable or structure
        Maker of the starting θ, or the starting θ itself.

    Attributes
    ----------
    forward : Receiver or None
    predictor : Receiver or None
        `forward`, or the `vjp` in its place.
    form : str
        Name of the gradient form.
    gradient : Receiver
    loss : Receiver or None
    """

    def __init__(
        self,
        *,
        forward: Forward | None,
        forms: Mapping[str, Callable[..., Any] | None],
        loss: LossFunction | None = None,
        columns: Iterable[str] = (),
        model_params: dict[str, Any] | None = None,
        init: Any = None,
    ) -> None:
        model_params = _checked_model_params(model_params, columns)
        self.form = _only_form(forms)
        self.gradient = Receiver(self.form, forms[self.form], columns, model_params)
        metadata = [name for name in columns if name != "y"]
        self.forward = None if forward is None else Receiver("forward", forward, metadata, model_params)
        self.predictor: Any = self.forward
        if forward is None and self.form == "vjp":
            self.predictor = Receiver("vjp in place of forward", forms["vjp"], metadata, model_params)
        self.loss = None if loss is None else Receiver("loss", loss, columns, model_params)
        self.init = Receiver("init", init, columns, model_params) if callable(init) else init
        receivers = [self.gradient, self.forward, self.loss, self.init]
        accepted = set().union(*(r.accepts for r in receivers if isinstance(r, Receiver)))
        for name in model_params:
            if name not in accepted:
                raise ReceivedArgumentError(
                    f"model_params has {name!r}, which no callable accepts.{nearest(name, accepted)} "
                    f"They accept: {', '.join(sorted(accepted)) or 'nothing by name'}."
                )

    @property
    def has_value(self) -> bool:
        """Whether the loss can be had beside the gradient without one that is named."""
        return self.form != "gradient" or self.loss is not None

    uses_defaults = False
    default_init: Receiver | None = None  # the default model's, where the start is the user's: it knows the blocks

    @classmethod
    def bind(
        cls,
        *,
        forward: Forward | None,
        forms: Mapping[str, Callable[..., Any] | None],
        init: Any,
        default: Mapping[str, Callable[..., Any]],
        **rest: Any,
    ) -> Model:
        """Bind an estimator's callables; where none are given, those of its default model.

        Parameters
        ----------
        forward, forms, init : as in `Model`
        default : dict
            ``init``, ``forward`` and one gradient form.
        **rest : dict
            The other arguments of `Model`.

        Returns
        -------
        model : Model
            ``model.uses_defaults`` tells whether the callables are the default ones.
        """
        if forward is None and all(form is None for form in forms.values()):
            chosen = {form: default.get(form) for form in GRADIENT_FORMS}
            model = cls(
                forward=default["forward"], forms=chosen, init=default["init"] if init is None else init, **rest
            )
            model.uses_defaults = True
            if init is not None:
                model.default_init = Receiver("init", default["init"], rest.get("columns", ()), {})
            return model
        if init is None:
            raise TypeError(
                "init is needed where callables are given: the starting parameters, or a function of those of "
                "n_features, n_outputs, rng, X, y that it names."
            )
        model = cls(forward=forward, forms=forms, init=init, **rest)
        if forward is None and model.form != "vjp":
            raise TypeError(f"forward is needed beside {model.form}: it makes the predictions.")
        return model

    def predictions(self, params: Any, batch: Batch) -> Any:
        """Return `forward` on a batch; derived from `vjp` where there is no `forward`."""
        returned = self.predictor(params, batch)
        return returned if self.forward is not None else pair(returned, "vjp", "(prediction, pullback)")[0]

    def bound_to(self, columns: Mapping[str, Any]) -> Model:
        """Return the model that predicts with other row-wise data at hand than those of `fit`."""
        predictor = self.predictor.bound_to(columns)
        if predictor is self.predictor:
            return self
        other = copy.copy(self)
        other.predictor = predictor
        return other

    def starting_params(self, batch: Batch) -> Params:
        """Return the starting θ; ``batch`` has what `init` can receive."""
        start: Params = self.init(None, batch) if isinstance(self.init, Receiver) else self.init
        return start


def pair(returned: Any, role: str, expected: str) -> Sequence[Any]:
    """Return what a callable returned, if that is a pair."""
    if type(returned) is tuple and len(returned) == 2:
        return returned
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        kind = f"{len(returned)} items" if isinstance(returned, tuple | list) else type(returned).__name__
        raise TypeError(f"{role} must return the pair {expected}; got {kind}.")
    return returned


def note(error: Exception, where: str, function: object) -> None:
    """Add to an exception from a callable of the user's where it was raised."""
    error.add_note(f"Raised inside {where}: {describe(function)}")


def describe(function: object) -> str:
    """Return a callable's name and place, for messages."""
    name = getattr(function, "__qualname__", None) or repr(function)
    code = getattr(function, "__code__", None)
    return f"{name} ({code.co_filename}, line {code.co_firstlineno})" if code else name


def _remedy(role: str, name: str) -> str:
    """How an argument without a default may come to its value."""
    elsewhere = "Give it a default, or name it in model_params."
    if name in _RESERVED:
        return f"The name is taken: {meaning_of(name)}, and {role} gets none here. Leave it out, or rename it."
    if meaning_of(name):
        return f"As metadata the name is taken: {meaning_of(name)}. Rename it. {elsewhere}"
    methods = "fit, predict and score" if role in ("forward", "vjp in place of forward") else "fit"
    return f"Where it has a value for each row, pass it to {methods}: {name}=values. {elsewhere}"


def _by_position(role: str) -> tuple[str, ...]:
    """What a callable receives by position."""
    return () if role == "init" else ("params", "X")


def _arguments(role: str, function: Callable[..., Any], by_position: tuple[str, ...]) -> dict[str, inspect.Parameter]:
    """The parameters of a callable that are received by name."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ReceivedArgumentError(
            f"The arguments of {role} cannot be read: {error}. Wrap it in a function that names them."
        ) from error
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    is_variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(positional) < len(by_position) and not is_variadic:
        raise ReceivedArgumentError(
            f"{role} is called as {role}(params, X, ...); {describe(function)} takes {len(positional)} "
            "arguments by position."
        )
    taken = positional[: len(by_position)]
    for p in positional[len(by_position) :]:
        if p.kind is p.POSITIONAL_ONLY and p.default is p.empty:
            raise ReceivedArgumentError(
                f"{role} takes {p.name!r} by position only, but arguments{' after (params, X)' if by_position else ''} "
                f"are given by name: {describe(function)}."
            )
    return {p.name: p for p in parameters if p not in taken and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _only_form(forms: Mapping[str, object]) -> str:
    given = [name for name in GRADIENT_FORMS if forms.get(name) is not None]
    if len(given) == 1:
        return given[0]
    came = f"got {' and '.join(given)}" if given else "got none"
    raise TypeError(f"Exactly one analytic gradient is needed, as one of {', '.join(GRADIENT_FORMS)}; {came}.")


def _checked_model_params(model_params: object, columns: Iterable[str]) -> dict[str, Any]:
    if model_params is None:
        return {}
    if not isinstance(model_params, dict):
        raise TypeError(f"model_params must be a dict of arguments by name, or None; got {model_params!r}.")
    reserved = {*_RESERVED, *columns}
    for name in model_params:
        if not isinstance(name, str) or name in reserved:
            raise ReceivedArgumentError(
                f"model_params has {name!r}, which is no free argument name. The estimator provides "
                f"{', '.join(sorted(reserved))} itself."
            )
    return dict(model_params)


# The default models: what an estimator is where no callables are given.


Blocks: TypeAlias = dict[str, Array]  # a float of the user's structure is an array without dimensions here


def linear_init(n_features: int, n_outputs: int) -> dict[str, Any]:
    """Start a linear model at zero: ``coef`` of shape (n_features, [n_outputs]), ``intercept``."""
    shape = () if n_outputs == 1 else (n_outputs,)
    return {"coef": np.zeros((n_features, *shape)), "intercept": np.zeros(shape) if shape else 0.0}


def linear_forward(params: Blocks, X: Array) -> Array:
    """Return ``X @ coef + intercept``."""
    return X @ params["coef"] + params["intercept"]


def linear_vjp(params: Blocks, X: Array) -> tuple[Array, Pullback]:
    """Return the linear prediction and its pullback."""

    def pullback(d_prediction: Array) -> Grads:
        return {"coef": X.T @ d_prediction, "intercept": d_prediction.sum(axis=0)}

    return linear_forward(params, X), pullback


SMALLEST_SHARE = 1e-3  # of the data's overall scale: what the scale of a constant column is kept above


def gaussian_init(X: Array, sample_weight: Array | None = None) -> dict[str, Any]:
    """Start a diagonal Gaussian at its maximum likelihood.

    The third block, ``smallest_scale``, is data: it has no gradient. Columns that hardly vary (digits
    have constant ones) would otherwise send the likelihood to infinity.
    """
    mean = np.average(X, axis=0, weights=sample_weight)
    variance = np.average((X - mean) ** 2, axis=0, weights=sample_weight)
    smallest = SMALLEST_SHARE * (np.sqrt(variance.mean()) or 1.0)
    log_scale = 0.5 * np.log(np.maximum(variance - smallest**2, smallest**2))
    return {"mean": mean, "log_scale": log_scale, "smallest_scale": float(smallest)}


def _standardized(params: Blocks, X: Array) -> tuple[Array, Array, Array]:
    free = np.exp(2 * params["log_scale"])
    variance = free + params["smallest_scale"] ** 2
    return (X - params["mean"]) / np.sqrt(variance), variance, free


def _gaussian_log_density(z: Array, variance: Array) -> Array:
    log_density: Array = -0.5 * ((z * z).sum(axis=1) + np.log(2 * np.pi * variance).sum())
    return log_density


def gaussian_forward(params: Blocks, X: Array) -> Array:
    """Return the log-density of a Gaussian of variance ``exp(2 log_scale) + smallest_scale**2``."""
    z, variance, _ = _standardized(params, X)
    return _gaussian_log_density(z, variance)


def gaussian_vjp(params: Blocks, X: Array) -> tuple[Array, Pullback]:
    """Return the Gaussian log-density and its pullback."""
    z, variance, free = _standardized(params, X)

    def pullback(d_prediction: Array) -> Grads:
        by_log_scale = (d_prediction @ (z * z) - d_prediction.sum()) * free / variance
        return {"mean": d_prediction @ z / np.sqrt(variance), "log_scale": by_log_scale, "smallest_scale": None}

    return _gaussian_log_density(z, variance), pullback


def autoencoder_init(
    X: Array, n_features: int, rng: np.random.Generator, sample_weight: Array | None = None, n_components: int = 2
) -> dict[str, Any]:
    """Start a tied linear autoencoder at a random orthonormal basis.

    The ``mean`` of the rows is the best one whatever the basis, so it is data: it has no gradient. (Adam,
    which divides a gradient by its own size, would only shake it.)
    """
    n_components = min(n_components, n_features)
    components, _ = np.linalg.qr(rng.standard_normal((n_features, n_components)))
    return {"components": components, "mean": np.average(X, axis=0, weights=sample_weight)}


def autoencoder_forward(params: Blocks, X: Array) -> Array:
    """Return the codes ``(X - mean) @ components``."""
    return (X - params["mean"]) @ params["components"]


def autoencoder_loss_and_gradient(params: Blocks, X: Array, sample_weight: Array | None = None) -> tuple[float, Grads]:
    """Return half the squared error of reconstruction, ``(X - mean) @ components @ components.T``."""
    centred = X - params["mean"]
    components = params["components"]
    codes = centred @ components
    residual = codes @ components.T - centred
    weighted = residual if sample_weight is None else residual * sample_weight[:, None]
    n = X.shape[0]
    by_components = (centred.T @ (weighted @ components) + weighted.T @ codes) / n
    return 0.5 * float((weighted * residual).sum()) / n, {"components": by_components, "mean": None}


LINEAR: dict[str, Callable[..., Any]] = {"init": linear_init, "forward": linear_forward, "vjp": linear_vjp}
GAUSSIAN: dict[str, Callable[..., Any]] = {"init": gaussian_init, "forward": gaussian_forward, "vjp": gaussian_vjp}
AUTOENCODER: dict[str, Callable[..., Any]] = {
    "init": autoencoder_init,
    "forward": autoencoder_forward,
    "loss_and_gradient": autoencoder_loss_and_gradient,
}

for function in (*LINEAR.values(), *GAUSSIAN.values(), *AUTOENCODER.values()):
    trusted(function)
