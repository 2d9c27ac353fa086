"""The user's callables and the arguments that each receives.

After ``(params, X)`` a callable receives only the arguments that it names. A `Receiver` is one callable with
these names; `Callables` are all of an estimator, with the missing ones derived from the others.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext, suppress
from typing import Any

from scipy.sparse import issparse

from ..data.batch import Batch
from ..elsewhere import Place
from ..exceptions import ParameterStructureError, ReceivedArgumentError
from ..losses import Loss
from ..trust import trusted
from ..typing import Forward, LossFunction, Params
from ..validation import nearest
from . import default_models
from .argument_names import (
    IN_PLACE_OF_FORWARD,
    PARAMETERS,
    RECEIVABLE,
    by_position,
    meaning_of,
    means,
    meant,
    remedy,
    require_free,
)
from .boundary import Boundary
from .containers import Watch, shown
from .gradient_forms import DIFFERENCES, GRADIENT_FORMS, GradientForm
from .messages import describe, note, pair, shape_of
from .per_sample import OUT
from .signatures import Argument, arguments, first_names, takes_any_name


def metadata_names(functions: Mapping[str, Any], model_params: object, lenient: bool = False) -> set[str]:
    """Return the names under which callables may receive row-wise metadata: those that nothing else provides.

    Parameters
    ----------
    functions : dict of str to callable
        By role; what is not callable names nothing here: `fit` will say so.
    model_params : dict or None
    lenient : bool, default=False
        Whether a signature that cannot be read names nothing either, instead of raising.

    Returns
    -------
    names : set of str
    """
    given = model_params if isinstance(model_params, dict) else {}
    return {name for name in names_of(functions, lenient) if name not in given and not meaning_of(name)}


def by_role(loss: Any) -> dict[str, Any]:
    """Return what receives metadata of a loss, under its role: a function of the user's, or a method of a `Loss`."""
    if isinstance(loss, Loss):
        role = "formula" if type(loss).value_and_derivative is Loss.value_and_derivative else "value_and_derivative"
        return {role: getattr(loss, role)}
    return {} if loss is None else {"loss": loss}


def names_of(functions: Mapping[str, Any], lenient: bool = False) -> set[str]:
    """Return the names under which callables, by role, receive arguments; see `metadata_names`."""
    names: set[str] = set()
    for role, function in functions.items():
        if callable(function):
            with suppress(ReceivedArgumentError) if lenient else nullcontext():
                names |= arguments(role, function).keys()
    return names


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
    unnamed : collection of str, default=()
        Those of `model_params` that no callable names: they are for ``**kwargs``.

    Attributes
    ----------
    accepts : frozenset of str
        Every name in its signature.
    wanted : tuple of str
        What it receives from the batch at each call.
    is_per_sample : bool
        Whether it is called with one sample after the other, and writes a gradient to the argument ``out``.
    weighs : bool
        Whether weights of samples count in what it returns.
    takes_any_name : bool
        Whether it has ``**kwargs``.
    watch : Watch
        The containers that it is handed.
    metadata, nameable : frozenset of str
        Of these, the row-wise data beside y; and those that it would receive if they were there.

    Raises
    ------
    ReceivedArgumentError
        If it has an argument without a default that nothing provides.
    """

    place: Place | None = None  # of the arrays that it gets, if they are no NumPy arrays

    def __init__(
        self,
        role: str,
        function: Any,
        columns: Iterable[str],
        model_params: Mapping[str, Any],
        unnamed: Collection[str] = (),
    ) -> None:
        if not callable(function):
            raise TypeError(f"{PARAMETERS.get(role, role)} must be callable; got {function!r}.")
        self.role, self.function = role, function
        named = arguments(role, function)
        self.accepts = frozenset(named)
        extra = [name for name in columns if name != "y"]
        there = [n for n in RECEIVABLE[role] if n != "y" or "y" in columns] + extra
        self.takes_any_name = takes_any_name(role, function)
        received = {*named, *unnamed} if self.takes_any_name else named
        self._given = {name: value for name, value in model_params.items() if name in received}
        self.wanted = tuple(name for name in there if name in named and name != OUT)
        self.is_per_sample = OUT in there and OUT in named
        if self.is_per_sample:
            self._require_of_a_sample()
        self.weighs = self.is_per_sample or "sample_weight" in named
        self.metadata = frozenset(extra).intersection(named)
        self.nameable = frozenset(n for n in self.accepts if n not in self._given and not meaning_of(n))
        self._require_provided(named, [*there, *model_params])
        weight = named.get("sample_weight")
        self._weight_defaults_to_none = weight is not None and weight.defaults_to_none
        self._prepare()

    def _require_provided(self, named: Mapping[str, Argument], there: list[str]) -> None:
        """Raise if an argument has no default and nothing provides it; ``there`` is what is provided."""
        first = by_position(self.role)
        for name, argument in named.items():
            if not argument.has_default and name not in (*self.wanted, *self._given, *there):
                owner = getattr(self.function, "__self__", None)
                if owner is not None and hasattr(owner, name):
                    raise ReceivedArgumentError(
                        f"{self.role} has an argument {name!r}, which is an attribute of its object. Remove the "
                        f"argument and read self.{name} in {self.role}."
                    )
                hint = meant(name, [*first, *there])
                if any(repr(each) in hint for each in first):
                    hint += f" Its first arguments are {' and '.join(first)}: {self.role}({', '.join(first)}, ...)."
                raise ReceivedArgumentError(
                    f"{self.role} has an argument {name!r} that is not provided.{hint} "
                    f"Provided are: {', '.join([*first, *there]) or 'none'}. "
                    f"{remedy(self.role, name)}{self._of_first()}"
                )

    def _require_of_a_sample(self) -> None:
        """Raise if a function of one sample names what belongs to a batch."""
        for name, instead in (
            ("sample_weight", "the estimator multiplies the gradient of each sample by its weight"),
            ("rng", "random numbers belong to a batch"),
        ):
            if name in self.accepts:
                raise ReceivedArgumentError(
                    f"{self.role} has the argument {OUT!r}, so it is called for one sample at a time, but it also has "
                    f"{name!r}: {instead}. Remove {name!r}, or compute the gradient of whole batches, without "
                    f"{OUT!r}."
                )

    def _of_first(self) -> str:
        """Say what receives params and X, if the names of a callable's first arguments do not."""
        expected = by_position(self.role)
        first = first_names(self.role, self.function)[: len(expected)]
        if (
            not expected
            or len(first) < len(expected)
            or any(means(name) == each for name, each in zip(first, expected, strict=True))
        ):
            return ""
        return f" Its first arguments, {' and '.join(first)}, receive {' and '.join(expected)}."

    def _prepare(self) -> None:
        """Make what neither a copy nor a pickle shares: what it gets of model_params, and the way to call it."""
        self._fixed = {name: shown(value) for name, value in self._given.items()}
        self.watch = Watch(self._fixed)
        self._called = self.function
        if self.place is not None:
            self._called = Boundary(self.function, self.place, self.role, self._fixed.keys())
        self.call: Callable[[Any, Batch], Any]
        if "X" not in by_position(self.role) and self.role != "inverse":
            self.call = self._call_without_rows
        elif self._fixed or self.wanted not in ((), ("y",)):
            self.call = self._call_by_name
        else:
            self.call = self._with_y() if self.wanted else self._with_rows()

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in self.__dict__.items() if name not in ("call", "_called", "_fixed", "watch")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    @property
    def settings(self) -> dict[str, Any]:
        """The model parameters that it receives, by name."""
        return self._given

    @property
    def fixed(self) -> dict[str, Any]:
        """The same as it gets them: read-only, and its own copies of dicts and lists."""
        return self._fixed

    def bound_to(self, columns: Mapping[str, Any]) -> Receiver:
        """Return it with other row-wise data at hand."""
        if self.metadata == self.nameable & columns.keys():
            return self
        return Receiver(self.role, self.function, columns, self._given, self._given).placed(self.place)

    def placed(self, place: Place | None) -> Receiver:
        """Return it as one that gets and returns arrays of a place; a function of ours is written for all of them."""
        if place == self.place or getattr(self.function, "__module__", "") == default_models.__name__:
            return self
        other = copy.copy(self)
        other.place = place
        other._prepare()
        return other

    def __call__(self, params: Any, batch: Batch) -> Any:
        """Call it on a batch as ``function(params, X, ...)``, or with those of these that its role has by position.

        An exception of its own goes on unchanged, with a note saying who was called. `call`, an attribute, does the
        same in one frame less. If it writes to a dict or a list that it was handed, an error says so.
        """
        return self.call(params, batch)

    def require_unchanged(self, who: str = "") -> None:
        """Raise if a dict or a list that it was handed last was written to; by itself, unless it was another."""
        if not self.watch.is_intact():
            who = who or f"The callable given as {self.role}"
            raise ParameterStructureError(f"{who} wrote to {self.watch.change()} It is {describe(self.function)}.")

    def forget(self) -> None:
        """Let go of the parameters that it was handed last."""
        self.watch.forget()

    # The ways to call it: most callables receive nothing by name, or y alone, and need no dict in each call.

    def _with_rows(self) -> Callable[[Any, Batch], Any]:
        function, explain, watch, require_unchanged = self._called, self._explain, self.watch, self.require_unchanged

        def call(params: Any, batch: Batch) -> Any:
            if params is not watch.seen:
                watch.see(params)
            try:
                returned = function(params, batch.X)
            except Exception as error:
                explain(error, params, batch)
                raise
            for items, who in watch.held:
                if [*map(id, items)] != who:
                    require_unchanged()
            return returned

        return call

    def _with_y(self) -> Callable[[Any, Batch], Any]:
        function, explain, watch, require_unchanged = self._called, self._explain, self.watch, self.require_unchanged

        def call(params: Any, batch: Batch) -> Any:
            y = batch.columns["y"]
            if params is not watch.seen:
                watch.see(params)
            try:
                returned = function(params, batch.X, y=y)
            except Exception as error:
                explain(error, params, batch)
                raise
            for items, who in watch.held:
                if [*map(id, items)] != who:
                    require_unchanged()
            return returned

        return call

    def _call_by_name(self, params: Any, batch: Batch) -> Any:
        received = self.received(batch)
        if params is not self.watch.seen:
            self.watch.see(params)
        try:
            returned = self._called(params, batch.X, **received)
        except Exception as error:
            self._explain(error, params, batch)
            raise
        self.require_unchanged()
        return returned

    def call_one(self, params: Any, batch: Batch, row: int, out: Any) -> Any:
        """Call it on one sample, as ``function(params, x, ..., out=out)``."""
        received = self._fixed | {name: batch.columns[name][row] for name in self.wanted}
        if params is not self.watch.seen:
            self.watch.see(params)
        try:
            returned = self.function(params, batch.X[row], **received, out=out)
        except Exception as error:
            self._explain(error, params, batch)
            error.add_note(f"It was called for sample {row} of the batch (counted from 0).")
            raise
        self.require_unchanged()
        return returned

    def _call_without_rows(self, params: Any, batch: Batch) -> Any:
        received = self.received(batch)
        positional = (params,) if by_position(self.role) else ()
        try:
            returned = self._called(*positional, **received)
        except Exception as error:
            self._explain(error, params, batch)
            raise
        self.require_unchanged()
        return returned

    def _explain(self, error: Exception, params: Any, batch: Batch) -> None:
        """Say who was called, with which shapes, and what a sparse X is."""
        note(error, f"the callable given as {self.role}", self.function)
        given = dict(zip(by_position(self.role), (params, batch.X), strict=False))
        given |= {name: value for name, value in self.received(batch).items() if name not in self._fixed}
        shapes = ", ".join(f"{name} {shape_of(value)}" for name, value in given.items())
        error.add_note(f"It received {shapes}.{self._of_first()}")
        if self.takes_any_name and isinstance(error, TypeError):
            error.add_note(
                f"{self.role} has the signature {inspect.signature(self.function)} and received by name: "
                f"{', '.join([*self._fixed, *self.wanted]) or 'nothing'}. Its **kwargs receive only the entries of "
                "model_params that no callable names. If it is decorated, use functools.wraps in the decorator."
            )
        if issparse(batch.X) and isinstance(error, TypeError | ValueError | AttributeError):
            error.add_note(
                f"X is a sparse {type(batch.X).__name__} here. Use X.shape[0], X @ W and X.T @ d, which support it. "
                "If a callable needs a dense array, pass X.toarray() to the estimator and set accept_sparse=False."
            )

    def received(self, batch: Batch) -> dict[str, Any]:
        """Return what it receives by name."""
        received = self._fixed.copy()
        for name in self.wanted:
            if name == "sample_weight" and batch.sample_weight is None and self._weight_defaults_to_none:
                continue
            received[name] = batch.argument(name)
        return received


@trusted
class Callables:
    """The callables of one estimator.

    Parameters
    ----------
    forward : callable or None
        Prediction; where there is none, a `vjp` gives it.
    forms : dict of str to callable
        The gradient, under the name of its form; exactly one, or none with ``by_differences``.
    loss : callable or None
        A loss of the user's own.
    named_loss : Loss or None
        A loss by name.
    columns : iterable of str
        Names of the row-wise data at hand.
    model_params : dict or None
        Arguments by name for whoever accepts them.
    init : callable or structure
        Maker of the starting θ, or the starting θ itself.
    by_differences : bool, default=False
        Whether there may be no gradient, because differences of the loss take its place.
    sample, inverse : callable, default=None
        What the model can do beside predicting.
    of : object, default=None
        The model object whose methods they are.

    Attributes
    ----------
    forward : Receiver or None
    predictor : Receiver or None
        `forward`, or the `vjp` in its place.
    form : str
        Name of the gradient form.
    gradient : Receiver or None
        None where all is differenced.
    loss : Receiver or None
    evaluation : Receiver or None
        What says the loss of samples that do not train, if a ``loss_and_gradient`` has one in its attribute
        ``evaluated``: as of a network with layers that act in training only.
    of_named_loss : Receiver or None
        The method of a loss by name that receives metadata; None if it receives none.
    """

    def __init__(
        self,
        *,
        forward: Forward | None,
        forms: Mapping[str, Callable[..., Any] | None],
        loss: LossFunction | None = None,
        named_loss: Loss | None = None,
        columns: Iterable[str] = (),
        model_params: dict[str, Any] | None = None,
        init: Any = None,
        by_differences: bool = False,
        sample: Callable[..., Any] | None = None,
        inverse: Callable[..., Any] | None = None,
        of: Any = None,
    ) -> None:
        self.of = of
        model_params = _checked_model_params(model_params, columns)
        self.form = _only_form(forms, by_differences)
        given = forms.get(self.form)
        functions = {"forward": forward, self.form: given, "init": init, "sample": sample, "inverse": inverse}
        names = names_of({**functions, **by_role(loss if named_loss is None else named_loss)}, lenient=True)
        unnamed = [name for name in model_params if name not in names]

        def bound(role: str, function: Any, columns: Iterable[str] = columns) -> Receiver | None:
            return None if function is None else Receiver(role, function, columns, model_params, unnamed)

        metadata = [name for name in columns if name != "y"]
        self.gradient: Any = bound(self.form, given)
        self.forward = bound("forward", forward, metadata)
        self.predictor: Any = self.forward
        if forward is None and self.gradient_form.predicts:
            self.predictor = bound(IN_PLACE_OF_FORWARD, given, metadata)
        self.loss = bound("loss", loss)
        self.evaluation = bound(self.form, getattr(given, "evaluated", None))
        self.named_loss = named_loss
        self.of_named_loss: Receiver | None = None
        for role, method in by_role(named_loss).items():
            if names_of({role: method}, lenient=True):
                self.of_named_loss = bound(role, method, metadata)
        self.init: Any = bound("init", init) if callable(init) else init
        self.sample = bound("sample", sample, ())
        self.inverse = bound("inverse", inverse, metadata)
        of_training = (self.gradient, self.forward, self.loss, self.of_named_loss, self.init)
        receivers = [r for r in (*of_training, self.sample, self.inverse) if isinstance(r, Receiver)]
        if unnamed and not any(r.takes_any_name for r in receivers):
            raise ReceivedArgumentError(
                f"model_params has {unnamed[0]!r}, which no callable accepts.{nearest(unnamed[0], names)} "
                f"Accepted names: {', '.join(sorted(names)) or 'none'}."
            )

    @property
    def has_value(self) -> bool:
        """Whether the loss can be evaluated without a named loss."""
        return self.gradient_form.gives_value or self.loss is not None

    @property
    def gradient_form(self) -> GradientForm:
        """The form of the gradient, with all that depends on it."""
        return GRADIENT_FORMS.get(self.form, DIFFERENCES)

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
        loss: LossFunction | None = None,
        by_differences: bool = False,
        **rest: Any,
    ) -> Callables:
        """Bind an estimator's callables; where none are given, those of its default model.

        Parameters
        ----------
        forward, forms, init, loss, by_differences : as in `Callables`
        default : dict
            ``init``, ``forward``, one gradient form, and what the default model can do beside.
        **rest : dict
            The other arguments of `Callables`.

        Returns
        -------
        model : Callables
            ``model.uses_defaults`` tells whether the callables are the default ones.
        """
        rest |= {"loss": loss, "by_differences": by_differences}
        if runs_default({"forward": forward, **forms}):
            rest |= {
                role: default[role] for role in ("sample", "inverse") if role in default and rest.get(role) is None
            }
            of_its_loss = loss is None or not by_differences  # else a loss of the user's is differenced
            chosen = {form: default.get(form) for form in GRADIENT_FORMS if of_its_loss}
            model = cls(
                forward=default["forward"], forms=chosen, init=default["init"] if init is None else init, **rest
            )
            model.uses_defaults = True
            if init is not None:
                model.default_init = Receiver("init", default["init"], rest.get("columns", ()), {})
            return model
        if init is None:
            raise TypeError(
                "init is required if callables are given. Pass the starting parameters, or a function that returns "
                "them and names any of n_features, n_outputs, rng, X, y."
            )
        model = cls(forward=forward, forms=forms, init=init, **rest)
        if forward is None and not model.gradient_form.predicts:
            raise TypeError(f"forward is required with {model.form}, to make predictions.")
        return model

    def placed(self, place: Place | None) -> Callables:
        """Return the model with the user's functions as those that get and return arrays of a place."""
        other = copy.copy(self)
        for role in ("gradient", "forward", "predictor", "loss", "init", "sample", "inverse"):
            if isinstance(receiver := getattr(self, role), Receiver):
                setattr(other, role, receiver.placed(place))
        return other

    def forget(self) -> None:
        """Let go of the parameters that the callables were handed last."""
        for receiver in (self.gradient, self.forward, self.loss, self.predictor):
            if receiver is not None:
                receiver.forget()

    def predictions(self, params: Any, batch: Batch) -> Any:
        """Return `forward` on a batch; derived from `vjp` where there is no `forward`."""
        returned = self.predictor(params, batch)
        return returned if self.forward is not None else pair(returned, self.form, "(prediction, pullback)")[0]

    def bound_to(self, columns: Mapping[str, Any], roles: Iterable[str] = ("predictor",)) -> Callables:
        """Return the model with other row-wise data at hand than those of `fit`, for some of its callables."""
        receivers = {role: getattr(self, role) for role in roles if getattr(self, role) is not None}
        bound = {role: receiver.bound_to(columns) for role, receiver in receivers.items()}
        if all(bound[role] is receiver for role, receiver in receivers.items()):
            return self
        other = copy.copy(self)
        vars(other).update(bound)
        return other

    def starting_params(self, batch: Batch) -> Params:
        """Return the starting θ; ``batch`` has what `init` can receive."""
        start: Params = self.init(None, batch) if isinstance(self.init, Receiver) else self.init
        return start


def is_function(loss: Any) -> bool:
    """Whether a loss is a function of the user's, rather than a name, an object or a class."""
    return callable(loss) and not isinstance(loss, type)


def runs_default(functions: Mapping[str, Any]) -> bool:
    """Whether an estimator runs its default model: of its functions by role, none predicts and none is a gradient."""
    return all(functions.get(role) is None for role in ("forward", *GRADIENT_FORMS))


def _only_form(forms: Mapping[str, object], by_differences: bool) -> str:
    given = [name for name in GRADIENT_FORMS if forms.get(name) is not None]
    if len(given) == 1:
        return given[0]
    if not given and by_differences:
        return DIFFERENCES.name
    came = f"got {' and '.join(given)}" if given else "got none"
    hint = "" if given else " To start without one, name all parameters in numerical, to use finite differences."
    raise TypeError(f"Pass exactly one analytic gradient, as one of {', '.join(GRADIENT_FORMS)}; {came}.{hint}")


def _checked_model_params(model_params: object, columns: Iterable[str]) -> dict[str, Any]:
    if model_params is None:
        return {}
    if not isinstance(model_params, dict):
        raise TypeError(f"model_params must be a dict of arguments by name, or None; got {model_params!r}.")
    require_free(model_params, columns)
    return dict(model_params)
