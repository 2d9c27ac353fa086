"""What a saved estimator's file may name of this package: each class or function enters where it is defined.

Exported subclasses of a few bases enter by themselves (`enter_subclass`), everything else by the decorator `trusted`.
What is defined outside the package never enters: a user trusts it by passing it to `trusted_types`.
"""

import sys
from collections.abc import Iterator
from typing import Any, TypeVar

PACKAGE = __name__.partition(".")[0]

Item = TypeVar("Item")

_named: list[Any] = []
_subclasses: list[type] = []


def trusted(item: Item) -> Item:
    """Enter a class or function of this package, as a decorator: estimators hold it, and their files name it."""
    if not _is_own(item):
        raise ValueError(f"{item!r} is not defined in {PACKAGE}.")
    _named.append(item)
    return item


def enter_subclass(cls: type) -> None:
    """Enter a subclass of what estimators are and hold, if this package exports it."""
    if _is_own(cls):
        _subclasses.append(cls)


def trusted_items() -> Iterator[Any]:
    """Yield the classes and functions that have entered."""
    yield from _named
    yield from filter(_is_exported, _subclasses)


def _is_own(item: Any) -> bool:
    return f"{item.__module__}.".startswith(f"{PACKAGE}.")


def _is_exported(cls: type) -> bool:
    """Whether the module of a class, or a package around it, has it in ``__all__``."""
    parts = cls.__module__.split(".")
    around = (sys.modules.get(".".join(parts[:n])) for n in range(1, len(parts) + 1))
    return any(cls.__name__ in getattr(m, "__all__", ()) and getattr(m, cls.__name__, None) is cls for m in around)
