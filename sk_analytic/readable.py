"""Signatures that `help` and editors show one parameter a line, with types by the names that the source gives them.

Python breaks the lines of a long signature from 3.13 on, and leaves out the quotes of an annotation from 3.14 on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from .typing import T

PACKAGE = __name__.partition(".")[0]
WIDTH = 80  # of a signature in one line


class Written(str):
    """An annotation as it is written in the source, shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class ReadableSignature(inspect.Signature):
    """A signature that is shown in one line if that is short, else one parameter a line."""

    __slots__ = ()

    @classmethod
    def of(cls, signature: inspect.Signature) -> ReadableSignature:
        """Return a signature with its annotations as they are written, where the module keeps them so."""
        parameters = [p.replace(annotation=_written(p.annotation)) for p in signature.parameters.values()]
        return cls(parameters, return_annotation=_written(signature.return_annotation))

    def __str__(self) -> str:
        return self.format(max_width=WIDTH)

    def format(self, *, max_width: int | None = None, **_: Any) -> str:
        """Return it as text, over several lines if one would have more characters than ``max_width``."""
        returns = self.return_annotation
        end = "" if returns is self.empty else f" -> {inspect.formatannotation(returns)}"
        items = list(self._items())
        line = f"({', '.join(items)}){end}"
        if max_width is None or len(line) <= max_width:
            return line
        return "\n".join(["(", *(f"    {item}," for item in items), f"){end}"])

    def _items(self) -> Iterator[str]:
        """The parameters as text, with the marks ``/`` and ``*`` between their kinds."""
        parameters = list(self.parameters.values())
        for before, parameter in zip([None, *parameters], [*parameters, None], strict=True):
            kind, last = (None if p is None else p.kind for p in (parameter, before))
            if last is inspect.Parameter.POSITIONAL_ONLY and kind is not last:
                yield "/"
            keyword_only = inspect.Parameter.KEYWORD_ONLY
            if kind is keyword_only and last not in (keyword_only, inspect.Parameter.VAR_POSITIONAL):
                yield "*"
            if parameter is not None:
                yield str(_with_named_default(parameter))


def _with_named_default(parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter whose default, if that is a function, is shown by its name instead of its address."""
    default = parameter.default
    return parameter.replace(default=Written(default.__name__)) if inspect.isroutine(default) else parameter


def _written(annotation: Any) -> Any:
    return Written(annotation) if isinstance(annotation, str) else annotation


def readable(item: T) -> T:
    """Give a function, or those of a class body, signatures that read well, unless they are the user's; a decorator."""
    for member in list(vars(item).values()) if isinstance(item, type) else [item]:
        inner = getattr(member, "__func__", member)  # of static and class methods
        function: Any = getattr(inner, "fn", inner)  # behind `available_if`
        if inspect.isfunction(function) and function.__module__.partition(".")[0] == PACKAGE:
            signature = ReadableSignature.of(inspect.signature(function))
            function.__signature__ = signature  # type: ignore[attr-defined]
    return item
