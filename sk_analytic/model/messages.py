"""Descriptions of the user's callables and of their return values, for messages."""

from collections.abc import Mapping, Sequence
from typing import Any


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


def shape_of(value: Any) -> str:
    """Return the shapes of what an argument holds, for messages."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {shape_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shape_of, value)) + "]"
    shape = getattr(value, "shape", None)
    return repr(tuple(shape)) if shape is not None else repr(value) if isinstance(value, int | float) else "(no array)"
