"""Whether functions and classes are found again by their import paths, under which skops stores them."""

import functools
import sys
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

import numpy as np


def require_importable(estimator: Any) -> None:
    """Raise if an estimator holds a function or class that could not be found again by its import path.

    skops would write its name all the same, and find nothing, or another function of that name, when it loads.
    """
    for name, value in vars(estimator).items():
        for reason in _unreachable_within(value, set()):
            raise TypeError(
                f"This {type(estimator).__name__} cannot be saved by skops: {name} holds {reason}. skops stores the "
                "import path of a function or class and nothing of its code. Define it at the top level of a module, "
                "or save the estimator by cloudpickle, which copies functions by value."
            )


def _unreachable_within(value: Any, seen: set[int]) -> Iterator[str]:
    """Yield what has no import path, in a value and all that it is made of."""
    if id(value) in seen or isinstance(value, np.ndarray):
        return
    seen.add(id(value))
    reason = unreachable(value if isinstance(value, FunctionType | type) else type(value))
    if reason:
        yield reason
        return
    for part in _parts(value):
        yield from _unreachable_within(part, seen)


def _parts(value: Any) -> list[Any]:
    """What an object is made of, as far as skops goes into it."""
    if isinstance(value, FunctionType | type):
        return []
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    state = value.__getstate__()
    return _parts(state) if isinstance(state, dict | tuple) else []


def unreachable(item: Any) -> str | None:
    """Say what a function or class is that its import path does not lead to; None if it does."""
    if not isinstance(item, FunctionType | type) or item.__module__ == "builtins":
        return None
    module = sys.modules.get(item.__module__)
    if getattr(module, item.__name__, None) is item:
        return None
    kind = (
        "a lambda" if item.__name__ == "<lambda>" else "the function" if isinstance(item, FunctionType) else "the class"
    )
    shown = "" if item.__name__ == "<lambda>" else f" {item.__qualname__}"
    code = getattr(item, "__code__", None)
    where = f" ({code.co_filename}, line {code.co_firstlineno})" if code else f" of {item.__module__}"
    return f"{kind}{shown}{where}"
