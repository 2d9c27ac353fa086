"""The user's callables, bound once: who receives what.

After ``(params, X)`` a callable receives by name what it names, nothing else. A `Receiver` is one
callable with the names it asked for; a `Model` is all of them, with what is absent derived from what is
there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import MethodType
from typing import Any

from scipy.sparse import issparse

from ..data.batch import Batch
from ..exceptions import ReceivedArgumentError
from ..trust import trusted
from ..typing import Forward, LossFunction, Params
from ..validation import nearest
from .argument_names import IN_PLACE_OF_FORWARD, RECEIVABLE, by_position, meaning_of, remedy, require_free
from .gradient_forms import GRADIENT_FORMS, GradientForm
from .messages import note, pair, shape_of
from .signatures import Argument, arguments


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
                names |= arguments(role, function).keys()
    given = model_params if isinstance(model_params, dict) else {}
    return {name for name in names if name not in given and not meaning_of(name)}


_COMPARABLE = (str, bool, int, float, MethodType)


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
        named = arguments(role, function)
        self.accepts = frozenset(named)
        extra = [name for name in columns if name != "y"]
        there = [n for n in RECEIVABLE[role] if n != "y" or "y" in columns] + extra
        self._fixed = {name: value for name, value in model_params.items() if name in named}
        self.wanted = tuple(name for name in there if name in named)
        self.metadata = frozenset(extra).intersection(named)
        self.nameable = frozenset(n for n in self.accepts if n not in self._fixed and not meaning_of(n))
        self._require_provided(named, [*there, *model_params])
        weight = named.get("sample_weight")
        self._weight_defaults_to_none = weight is not None and weight.defaults_to_none
        self._prepare()

    def _require_provided(self, named: Mapping[str, Argument], there: list[str]) -> None:
        """Raise if an argument has no default and nothing provides it; ``there`` is what is provided."""
        for name, argument in named.items():
            if not argument.has_default and name not in (*self.wanted, *self._fixed):
                raise ReceivedArgumentError(
                    f"{self.role} asks for an argument {name!r} that nothing provides.{nearest(name, there)} "
                    f"There is, by name: {', '.join([*by_position(self.role), *there]) or 'nothing'}. "
                    f"{remedy(self.role, name)}"
                )

    def _prepare(self) -> None:
        """Choose the way to call it, which neither a copy nor a pickle shares."""
        self.call: Callable[[Any, Batch], Any]
        if self.role == "init":
            self.call = self._call_init
        elif self._fixed or self.wanted not in ((), ("y",)):
            self.call = self._call_by_name
        else:
            self.call = self._with_y() if self.wanted else self._with_rows()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "call"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def is_like(self, other: Receiver | None) -> bool:
        """Whether another calls the same function with the same fixed arguments."""
        if other is None or self._fixed.keys() != other._fixed.keys():
            return False
        pairs = [(self.function, other.function), *((v, other._fixed[k]) for k, v in self._fixed.items())]
        return all(a is b or (isinstance(a, _COMPARABLE) and a == b) for a, b in pairs)

    def bound_to(self, columns: Mapping[str, Any]) -> Receiver:
        """Return it with other row-wise data at hand."""
        if self.metadata == columns.keys():
            return self
        return Receiver(self.role, self.function, columns, self._fixed)

    def __call__(self, params: Any, batch: Batch) -> Any:
        """Call it on a batch as ``function(params, X, ...)``; `init` has no arguments by position.

        An exception of its own goes on unchanged, with a note saying who was called. `call`, an attribute, does the
        same in one frame less.
        """
        return self.call(params, batch)

    # The ways to call it: most callables receive nothing by name, or y alone, and need no dict in each call.

    def _with_rows(self) -> Callable[[Any, Batch], Any]:
        function, explain = self.function, self._explain

        def call(params: Any, batch: Batch) -> Any:
            try:
                return function(params, batch.X)
            except Exception as error:
                explain(error, params, batch)
                raise

        return call

    def _with_y(self) -> Callable[[Any, Batch], Any]:
        function, explain = self.function, self._explain

        def call(params: Any, batch: Batch) -> Any:
            y = batch.columns["y"]
            try:
                return function(params, batch.X, y=y)
            except Exception as error:
                explain(error, params, batch)
                raise

        return call

    def _call_by_name(self, params: Any, batch: Batch) -> Any:
        received = self._received(batch)
        try:
            return self.function(params, batch.X, **received)
        except Exception as error:
            self._explain(error, params, batch)
            raise

    def _call_init(self, params: Any, batch: Batch) -> Any:
        received = self._received(batch)
        try:
            return self.function(**received)
        except Exception as error:
            self._explain(error, params, batch)
            raise

    def _explain(self, error: Exception, params: Any, batch: Batch) -> None:
        """Say who was called, with which shapes, and what a sparse X is."""
        note(error, f"the callable given as {self.role}", self.function)
        given = {} if self.role == "init" else {"params": params, "X": batch.X}
        given |= {name: value for name, value in self._received(batch).items() if name not in self._fixed}
        error.add_note(f"It was given {', '.join(f'{name} {shape_of(value)}' for name, value in given.items())}.")
        if issparse(batch.X) and isinstance(error, TypeError | ValueError | AttributeError):
            error.add_note(
                f"X is sparse here, a {type(batch.X).__name__}, as it was given: callables for it use X.shape[0], "
                "X @ W and X.T @ d. For those that need an array, pass X.toarray()."
            )

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
        if forward is None and self.gradient_form.predicts:
            self.predictor = Receiver(IN_PLACE_OF_FORWARD, forms[self.form], metadata, model_params)
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
        return self.gradient_form.gives_value or self.loss is not None

    @property
    def gradient_form(self) -> GradientForm:
        """The form of the gradient, with all that depends on it."""
        return GRADIENT_FORMS[self.form]

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
        if forward is None and not model.gradient_form.predicts:
            raise TypeError(f"forward is needed beside {model.form}: it makes the predictions.")
        return model

    def predictions(self, params: Any, batch: Batch) -> Any:
        """Return `forward` on a batch; derived from `vjp` where there is no `forward`."""
        returned = self.predictor(params, batch)
        return returned if self.forward is not None else pair(returned, self.form, "(prediction, pullback)")[0]

    def is_like(self, other: Model) -> bool:
        """Whether another has the same functions for the loss and its gradient."""
        ours, theirs = ((m.gradient, m.forward, m.loss) for m in (self, other))
        pairs = zip(ours, theirs, strict=True)
        return self.form == other.form and all(a is b if a is None else a.is_like(b) for a, b in pairs)

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
    require_free(model_params, columns)
    return dict(model_params)
