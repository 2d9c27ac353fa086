"""The arguments that a user's callable names, read once for each function in a process."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from ..exceptions import ReceivedArgumentError
from .argument_names import by_position, means
from .messages import describe


class Argument(NamedTuple):
    """An argument of a signature, without its default itself: that might keep the function alive."""

    name: str
    kind: Any
    has_default: bool
    defaults_to_none: bool

    @property
    def is_positional(self) -> bool:
        """Whether it can be given by position."""
        return self.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

    @property
    def is_nameable(self) -> bool:
        """Whether it can be given by name."""
        return self.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


# Of plain functions, whose arguments do not change; a function goes when its user lets it go.
_KNOWN: WeakKeyDictionary[FunctionType, tuple[Argument, ...]] = WeakKeyDictionary()


def arguments(role: str, function: Any) -> dict[str, Argument]:
    """Return the arguments that a callable receives by name in its role.

    Raises
    ------
    ReceivedArgumentError
        If its signature cannot be read, hides what it receives behind ``*args, **kwargs``, has no room for what comes
        by position, or needs more than that by position.
    """
    parameters = _signature(role, function)
    expected = by_position(role)
    _require_order(role, expected, parameters, function)
    positional = [p for p in parameters if p.is_positional]
    is_variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    if is_variadic and takes_any_name(role, function) and len(positional) < max(len(expected), 1):
        raise ReceivedArgumentError(
            f"{role} has the signature {inspect.signature(function)}, which does not name its arguments: "
            f"{describe(function)}. If it is decorated, use functools.wraps in the decorator; otherwise name the "
            f"arguments, {role}({', '.join(expected) or 'n_features'}, ...)."
        )
    if len(positional) < len(expected) and not is_variadic:
        raise ReceivedArgumentError(
            f"{role} is called as {role}({', '.join(expected)}, ...), but {describe(function)} takes {len(positional)} "
            "positional arguments."
        )
    after = f" after ({', '.join(expected)})" if expected else ""
    for p in positional[len(expected) :]:
        if p.kind is inspect.Parameter.POSITIONAL_ONLY and not p.has_default:
            raise ReceivedArgumentError(
                f"{role} takes {p.name!r} as a positional-only argument, but arguments{after} "
                f"are passed by name: {describe(function)}."
            )
    taken = positional[: len(expected)]
    return {p.name: p for p in parameters if p.is_nameable and p not in taken}


def _require_order(role: str, expected: tuple[str, ...], parameters: tuple[Argument, ...], function: Any) -> None:
    """Raise if the names of arguments say plainly that what comes by position has another place."""
    named = [p.name for p in parameters if p.is_positional or p.is_nameable]
    is_variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    if "params" not in expected or not named or is_variadic or not _is_out_of_order(named, "X" in expected):
        return
    if named[0] == "self":
        cure = f"Pass the method of an object, model.{getattr(function, '__name__', role)}, not that of its class."
    else:
        places = {name: place for place, name in enumerate(expected)}
        ordered = sorted(named, key=lambda name: places.get(means(name), len(places)))
        cure = f"Write {role}({', '.join(ordered if 'params' in map(means, named) else [*expected, named[0]])})."
    raise ReceivedArgumentError(
        f"{role} has the arguments ({', '.join(named)}), but it is called as {role}({', '.join(expected)}, ...): "
        f"{' and '.join(expected)} are passed first, by position, and the rest by name. {cure} It is "
        f"{describe(function)}."
    )


def _is_out_of_order(named: list[str], takes_X: bool) -> bool:
    """Whether names of arguments say plainly that they are in another order than (params, X, ...).

    `x` and `w` do not, nor `x, X, theta`: x may be the parameters, as in scipy.optimize, and theta a setting.
    """
    first, *others = map(means, named)
    if first == "params":
        return takes_X and others[:1] != ["X"] and "X" in named[2:]
    if first == "y" or not {"params", "parameters"}.isdisjoint(named):
        return True
    return first == "X" and others[:1] != ["X"] and "params" in others


def first_names(role: str, function: Any) -> list[str]:
    """Return the names of the arguments that a callable can be given by position."""
    return [p.name for p in _signature(role, function) if p.is_positional]


def takes_any_name(role: str, function: Any) -> bool:
    """Whether a callable has ``**kwargs``."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in _signature(role, function))


def _signature(role: str, function: Any) -> tuple[Argument, ...]:
    if type(function) is not FunctionType:
        return _read(role, function)
    known = _KNOWN.get(function)
    if known is None:
        known = _KNOWN[function] = _read(role, function)
    return known


def _read(role: str, function: Any) -> tuple[Argument, ...]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ReceivedArgumentError(
            f"The arguments of {role} cannot be read: {error}. Wrap it in a function that names them."
        ) from error
    return tuple(
        Argument(p.name, p.kind, p.default is not p.empty, p.default is None) for p in signature.parameters.values()
    )
