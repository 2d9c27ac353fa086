"""Objects that are given by name: their hyperparameters, and parameters that reach through a name.

One mechanism serves ``optimizer``, ``loss`` and ``model_params`` of the estimators. `lookup` finds the object of a
name. `Hyperparameters` is the base of such objects: settings with declared ranges. `NamedParametersMixin` lets
``get_params`` and ``set_params`` reach through a name as if the object had been given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from sklearn.base import BaseEstimator

from .display import shows_what_was_set
from .equality import is_same
from .readable import readable
from .trust import enter_subclass
from .typing import T
from .validation import Range, check_range, nearest


@readable
@shows_what_was_set
class Hyperparameters(BaseEstimator):
    """What a name stands for: an object of hyperparameters only, each with its range.

    ``ranges`` maps a hyperparameter to an `Interval`, to a tuple of choices or to ``bool``; those not listed take any
    value. As everywhere in scikit-learn, ``__init__`` and ``set_params`` only store values; `check` validates them when
    the object is used.
    """

    ranges: Mapping[str, Range] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        enter_subclass(cls)
        readable(cls)

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
        """Set hyperparameters. An unknown name raises an error that suggests the nearest.

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
    """Raise if a value is not an estimator of this package, with a hint at the likely slip."""
    if hasattr(value, "_prepare_check") and not isinstance(value, type):
        return
    if isinstance(value, type):
        otherwise = f" Pass an instance: {value.__name__}()."
    elif hasattr(value, "steps"):
        otherwise = " Of a pipeline, pass the last step, and X as the steps before it transform it."
    raise TypeError(f"{owner} takes an estimator of sk_analytic; got {value!r}.{otherwise}")


def unknown_hyperparameter(owner: str, name: str, known: Iterable[str]) -> str:
    """Message for a hyperparameter that an object does not have."""
    listed = ", ".join(sorted(known)) or "none at all"
    return f"{owner} has no hyperparameter {name!r}.{nearest(name, known)} It has: {listed}."


def unknown_parameter(cls: Any, name: str, known: Iterable[str]) -> str:
    """Message for a parameter that an estimator does not have."""
    return (
        f"{cls.__name__} has no parameter {name!r}.{nearest(name, known, cls._elsewhere)} It has: {', '.join(known)}."
    )


def _no_parameters(name: str, value: object, keys: Iterable[str]) -> str:
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
        What other libraries call them, to our names.

    Returns
    -------
    found : instance of `base`
        For a name, a new object with default hyperparameters; otherwise ``value`` itself.

    Raises
    ------
    ValueError
        If the name is not in the table; the message suggests the nearest.
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
    """

    _named: Mapping[str, Callable[[Any], Any]] = {}
    _elsewhere: Mapping[str, str] = {}  # what other libraries call a parameter, to our name
    _dictionaries: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        enter_subclass(cls)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get parameters, including those of the objects behind names.

        Parameters
        ----------
        deep : bool, default=True
            Whether to list ``optimizer__learning_rate`` and the like too.

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
        """Parameters of an object, a name or a dict; none if something is wrong, which `fit` will report."""
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
        """Set parameters, including those of the object behind a name.

        ``set_params(optimizer__learning_rate=0.1)`` replaces the optimizer's name by its object and sets the rate of
        that. Dictionaries and values are replaced, never modified.

        Parameters
        ----------
        **params : dict
            Parameter names, nested ones with a double underscore, and their values.

        Returns
        -------
        self : estimator
            This estimator.

        Raises
        ------
        ValueError
            If a parameter does not exist; the message suggests the nearest name.
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
        for name, value in plain.items():
            setattr(self, name, value)
        for name, changes in nested.items():
            setattr(self, name, self._changed(name, getattr(self, name), changes))
        return self

    def _changed(self, name: str, value: Any, changes: dict[str, Any]) -> Any:
        """Return the value of a parameter after changes to what lies behind it."""
        if name in self._dictionaries and (value is None or isinstance(value, dict)):
            merged = {**(value or {}), **changes}
            unchanged = value is not None and is_same(value, merged)
            return value if unchanged else merged
        if isinstance(value, str) and name in self._named:
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
                owner = f"{name}={value!r}"
                raise ValueError(
                    unknown_hyperparameter(owner, key, current)
                    + f" In a grid over several, give each a dict of its own: [{{'{name}': [...], "
                    f"'{name}__{key}': [...]}}, {{'{name}': [{value!r}]}}]."
                )


_ABSENT = object()
