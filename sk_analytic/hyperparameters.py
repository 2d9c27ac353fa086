"""Objects given by name: their hyperparameters, and nested parameters that reach through the name.

One mechanism serves ``optimizer``, ``loss`` and ``model_params`` of the estimators. `lookup` finds the object for a
name. `Hyperparameters` is the base class of such objects: settings with declared ranges. `NamedParametersMixin` lets
``get_params`` and ``set_params`` reach through a name as if the object had been given, and keeps the parameters that a
subclass hides in step with its own.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Self

from sklearn.base import BaseEstimator

from .display import shows_what_was_set
from .equality import is_same
from .readable import readable
from .trust import enter_subclass
from .typing import T
from .validation import Range, check_range, nearest

AUTO = "auto"
"""Stands for an object that `fit` chooses."""


def is_auto(value: object) -> bool:
    """Whether an object is to be chosen."""
    return isinstance(value, str) and value == AUTO


class SignatureOfInit:
    """The signature of a class: that of its ``__init__``, though it has a ``__new__`` too, which takes anything."""

    def __get__(self, instance: Any, owner: Any) -> inspect.Signature:
        if owner.__init__ is object.__init__:
            return inspect.Signature()
        signature = inspect.signature(owner.__init__)
        _, *parameters = signature.parameters.values()
        return signature.replace(parameters=parameters, return_annotation=signature.empty)


def takes_any(cls: Any) -> bool:
    """Whether the constructor of a class takes keywords that it does not name."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("lr", "eta", "eta0", "step_size", "learning_rate_init"), ("learning_rate", "initial", "every")),
    **dict.fromkeys(("init_value", "base_lr"), ("initial",)),
    **dict.fromkeys(("max_lr", "peak_value"), ("peak",)),
    **dict.fromkeys(("betas", "b1", "beta1"), ("beta_1",)),
    **dict.fromkeys(("b2", "beta2"), ("beta_2",)),
    **dict.fromkeys(("eps", "delta"), ("epsilon",)),
    **dict.fromkeys(("gamma", "decay_rate"), ("factor", "decay", "rho")),
    **dict.fromkeys(("alpha", "decay", "rho"), ("rho", "weight_decay")),
    **dict.fromkeys(("wd", "l2"), ("weight_decay",)),
    **dict.fromkeys(("t_max", "total_steps", "decay_steps", "transition_steps", "max_iter"), ("length", "every")),
    **dict.fromkeys(("eta_min", "min_lr", "end_value"), ("final", "minimum")),
    **dict.fromkeys(("max_grad_norm", "clip_norm", "clipnorm"), ("max_norm",)),
    **dict.fromkeys(("clip_value", "clipvalue", "max_delta"), ("max_value",)),
    **dict.fromkeys(("history_size", "memory_size", "m"), ("maxcor",)),
}
"""Names of hyperparameters in other libraries, to ours, of which an object has one at most; for messages."""


@readable
@shows_what_was_set
class Hyperparameters(BaseEstimator):
    """Base class of objects that can be given by name. They consist of hyperparameters, each with its allowed range.

    ``ranges`` maps a hyperparameter to an `Interval`, to a tuple of choices or to ``bool``; those not listed take any
    value. As everywhere in scikit-learn, ``__init__`` and ``set_params`` only store values; `check` validates them when
    the object is used.
    """

    ranges: Mapping[str, Range] = {}
    __signature__ = SignatureOfInit()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        enter_subclass(cls)
        readable(cls)

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Refuse names that other libraries have, with ours."""
        known = cls._get_param_names()
        unknown = [name for name in settings if name not in known]
        if unknown and not takes_any(cls):  # which reads the signature
            raise TypeError(unknown_hyperparameter(cls.__name__, unknown[0], known))
        made: Self = super().__new__(cls)
        return made

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:
        names: list[str] = super()._get_param_names()  # reads the signature, which takes longer than many a step
        return names

    def check(self) -> None:
        """Raise a ValueError that names the first hyperparameter outside its range."""
        for name, allowed in self.ranges.items():
            check_range(type(self).__name__, name, getattr(self, name), allowed)

    def set_params(self, **params: Any) -> Self:
        """Set hyperparameters. For an unknown name, the error suggests the nearest one.

        Parameters
        ----------
        **params : dict
            Hyperparameters by name.

        Returns
        -------
        self : object
            This object.
        """
        known = list(self.get_params(deep=False))
        for key in params:
            name, delimiter, _ = key.partition("__")
            if name not in known:
                raise ValueError(unknown_hyperparameter(type(self).__name__, name, known))
            value = params.get(name, getattr(self, name))
            if delimiter and not hasattr(value, "set_params"):
                raise ValueError(_no_parameters(name, value, [key]))
        super().set_params(**params)
        return self


def require_estimator(owner: str, value: Any, otherwise: str = "") -> None:
    """Raise an error if a value is not an estimator of this package, with a hint at the likely mistake."""
    if hasattr(value, "_prepare_check") and not isinstance(value, type):
        return
    if isinstance(value, type):
        otherwise = f" Pass an instance: {value.__name__}()."
    elif hasattr(value, "steps"):
        otherwise = " For a pipeline, pass its last step, and X as transformed by the steps before it."
    raise TypeError(f"{owner} takes an estimator of sk_analytic; got {value!r}.{otherwise}")


def unknown_hyperparameter(owner: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown hyperparameter of an object."""
    listed = ", ".join(sorted(known)) or "none at all"
    return f"{owner} has no hyperparameter {name!r}.{_meant(name, known)} It has: {listed}."


def _meant(name: str, known: Iterable[str]) -> str:
    """The hint at the hyperparameter that is meant by a name, of another library or misspelled; empty if unknown."""
    known = list(known)
    ours = [own for own in ELSEWHERE.get(name.lower(), ()) if own in known]
    return nearest(name, known, {name.lower(): ours[0]} if ours else None)


def unknown_parameter(cls: Any, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown parameter of an estimator."""
    meant = cls._elsewhere.get(name.lower(), name).partition("__")[0]
    if meant in cls._hidden_names():
        hint = _set_by_class(cls, [meant])
    else:
        hint = nearest(name, known, cls._elsewhere)
    return f"{cls.__name__} has no parameter {name!r}.{hint} It has: {', '.join(known) or 'none'}."


def advice_on_hidden(cls: Any, text: str) -> str:
    """Say which parameters in the text of a message a class does not take but sets itself; empty if there are none."""
    named = [name for name in sorted(cls._hidden_names()) if re.search(_as_parameter(name), text)]
    return _set_by_class(cls, named) if named else ""


def _as_parameter(name: str) -> str:
    """A pattern for the name of a parameter, and not for the word that it may be: the loss, but ``loss=``."""
    return rf"\b{name}\b" if "_" in name or name == "optimizer" else rf"\b{name}="


def _set_by_class(cls: Any, names: list[str]) -> str:
    them = "it" if len(names) == 1 else "them"
    return f" {cls.__name__} sets {' and '.join(names)} itself: its __init__ passes {them} to super().__init__."


def _no_parameters(name: str, value: object, keys: Iterable[str]) -> str:
    if isinstance(value, type):
        return f"{name}={value.__name__} is a class. Pass an instance: {name}={value.__name__}()."
    return f"{name}={value!r} has no parameters of its own; cannot set {', '.join(keys)}."


def lookup(
    kind: str,
    table: Mapping[str, type[T]],
    value: object,
    base: type[T],
    elsewhere: Mapping[str, str] | None = None,
) -> T:
    """Return the object of a name, or the instance that is given instead.

    Parameters
    ----------
    kind : str
        The kind of object, for messages: ``"optimizer"``, ``"loss"``.
    table : dict
        Names to classes.
    value : str or instance of `base`
        The user's argument.
    base : type
        Class of the objects.
    elsewhere : dict, default=None
        Names in other libraries, mapped to those in ``table``.

    Returns
    -------
    found : instance of `base`
        For a name, a new object with default hyperparameters. Otherwise ``value`` itself.

    Raises
    ------
    ValueError
        If the name is not in the table. The message suggests the nearest one.
    TypeError
        If ``value`` is neither a name nor an instance.
    """
    if isinstance(value, str):
        if value not in table:
            names = ", ".join(map(repr, sorted(table)))
            raise ValueError(f"Unknown {kind} {value!r}.{nearest(value, table, elsewhere)} There are: {names}.")
        return table[value]()
    if isinstance(value, base):
        return value
    hint = f" Pass an instance: {value.__name__}()." if isinstance(value, type) else ""
    raise TypeError(f"{kind} must be a name or an instance of {base.__name__}; got {value!r}.{hint}")


@readable
@shows_what_was_set
class NamedParametersMixin(BaseEstimator):
    """``get_params`` and ``set_params`` that reach through names and dictionaries.

    ``_named`` maps a parameter to the function that finds the object for its name, and
    ``_dictionaries`` lists the parameters that are dicts of further parameters.

    A subclass may define an ``__init__`` with other parameters, which stores these and passes the arguments that it
    derives from them to ``super().__init__``. It then hides the other parameters of its base. These are attributes,
    but not parameters for `get_params` and `clone`, because ``__init__`` determines them. Whenever one of the
    subclass's own parameters is set, by `set_params` or as an attribute, ``__init__`` is called again with all of
    them. If it raises, nothing is changed. A hidden parameter may be assigned, for example by ``fit``, and keeps that
    value until then.
    """

    _named: Mapping[str, Callable[[Any], Any]] = {}
    _elsewhere: Mapping[str, str] = {}  # what other libraries call a parameter, to our name
    _dictionaries: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        enter_subclass(cls)

    @classmethod
    @functools.cache
    def _hidden_names(cls) -> frozenset[str]:
        """Parameters that the constructor of a base class takes, but not that of the class."""
        constructors = [vars(base).get("__init__") for base in cls.__mro__]
        taken = [
            parameter.name
            for constructor in constructors
            if isinstance(constructor, FunctionType)
            for parameter in [*inspect.signature(constructor).parameters.values()][1:]
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        return frozenset(taken) - {*cls._get_param_names()}

    @classmethod
    @functools.cache
    def _leading_names(cls) -> frozenset[str]:
        """Parameters of the class, if they determine hidden ones."""
        return frozenset(cls._get_param_names()) if cls._hidden_names() else frozenset()

    def _all_params(self) -> dict[str, Any]:
        """Parameters by name, including those that the class hides."""
        hidden = {name: vars(self)[name] for name in sorted(self._hidden_names()) if name in vars(self)}
        return {**self.get_params(deep=False), **hidden}

    if not TYPE_CHECKING:  # with it, type checkers would let any attribute be assigned

        def __setattr__(self, name: str, value: Any) -> None:
            """Assign an attribute; a parameter that determines hidden ones is set as by `set_params`."""
            if name in self._leading_names() and self._would_change(name, value):
                self._assign({name: value})
            else:
                super().__setattr__(name, value)

    def _would_change(self, name: str, value: Any) -> bool:
        """Whether an assignment changes a parameter of a complete estimator, rather than initializing it."""
        is_made = self._leading_names() <= vars(self).keys() and _IN_INIT not in vars(self)
        return is_made and vars(self)[name] is not value

    def _assign(self, values: Mapping[str, Any]) -> None:
        """Set parameters and the hidden ones that ``__init__`` derives from them."""
        if not self._hidden_names():
            for name, value in values.items():
                setattr(self, name, value)
            return
        own = {name: getattr(self, name) for name in self._get_param_names()}
        before = self.__dict__.copy()
        self.__dict__[_IN_INIT] = True
        try:
            type(self).__init__(self, **{**own, **values})
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        del self.__dict__[_IN_INIT]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, including those of objects given by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include nested parameters such as ``optimizer__learning_rate``.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            for name, value in list(params.items()):
                params.update((f"{name}__{key}", nested) for key, nested in self._behind(name, value).items())
        return params

    def _behind(self, name: str, value: Any) -> dict[str, Any]:
        """Parameters of an object, a name or a dict; none if it is invalid, which `fit` reports."""
        if name in self._dictionaries:
            return value if isinstance(value, dict) else {}
        if isinstance(value, type):
            return {}
        try:
            found = self._named[name](value) if name in self._named and isinstance(value, str) else value
            return dict(found.get_params()) if hasattr(found, "get_params") else {}
        except Exception:  # whatever an object of the user's may raise
            return {}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, including those of objects given by name.

        ``set_params(optimizer__learning_rate=0.1)`` replaces the optimizer's name with an instance and sets its
        learning rate. Dictionaries and values are replaced, never modified. If a subclass has an ``__init__`` with
        parameters of its own, ``__init__`` is called again to update those that it passes to its base.

        Parameters
        ----------
        **params : dict
            Parameter names and their values. Nested names contain a double underscore.

        Returns
        -------
        self : estimator
            This estimator.

        Raises
        ------
        ValueError
            If a parameter does not exist. The message suggests the nearest name.
        """
        known = self._get_param_names()
        nested: dict[str, dict[str, Any]] = {}
        plain = {}
        for key, value in params.items():
            name, delimiter, rest = key.partition("__")
            if name not in known:
                raise ValueError(unknown_parameter(type(self), name, known))
            if delimiter:
                nested.setdefault(name, {})[rest] = value
            else:
                plain[name] = value
        for name, changes in nested.items():
            plain[name] = self._changed(name, plain[name] if name in plain else getattr(self, name), changes)
        if plain:
            self._assign(plain)
        return self

    def _changed(self, name: str, value: Any, changes: dict[str, Any]) -> Any:
        """Return the value of a parameter after changes to its nested parameters."""
        if name in self._dictionaries and (value is None or isinstance(value, dict)):
            merged = {**(value or {}), **changes}
            unchanged = value is not None and is_same(value, merged)
            return value if unchanged else merged
        if isinstance(value, str) and name in self._named:
            if is_auto(value):
                raise ValueError(
                    f"{name}='auto' is chosen by fit, so its parameters cannot be set beforehand. Choose one "
                    f"explicitly: set_params({name}='adam', {name}__{next(iter(changes))}=...)."
                )
            found = self._named[name](value)
            current = found.get_params()
            if is_same({key: current.get(key, _ABSENT) for key in changes}, changes):
                return value
            self._refuse_unknown(name, value, changes, current)
            return found.set_params(**changes)
        if not hasattr(value, "set_params") or isinstance(value, type):
            raise ValueError(_no_parameters(name, value, [f"{name}__{key}" for key in changes]))
        self._refuse_unknown(name, value, changes, value.get_params())
        return value.set_params(**changes)

    @staticmethod
    def _refuse_unknown(name: str, value: Any, changes: Iterable[str], current: Mapping[str, Any]) -> None:
        for key in changes:
            is_of_a_new_object = "__" in key and key.partition("__")[0] in changes
            if key not in current and not is_of_a_new_object:
                message = unknown_hyperparameter(f"{name}={value!r}", key, current)
                if not _meant(key, current):  # one that another object has
                    message += (
                        f" To search over several, give each its own dict: [{{'{name}': [...], "
                        f"'{name}__{key}': [...]}}, {{'{name}': [{value!r}]}}]."
                    )
                raise ValueError(message)


_ABSENT = object()
_IN_INIT = "_in_init"  # an attribute, while `__init__` is called again
