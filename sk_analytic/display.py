"""How estimators and the objects in their parameters are shown: in one line, and as HTML in a notebook.

scikit-learn draws the diagram; this module says which objects contain which, and where our documentation is.
"""

import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from sklearn import get_config

C = TypeVar("C", bound=type)

DOCUMENTATION = "https://sk-analytic.readthedocs.io/en/latest"
LINE = 120  # characters
SHORT = 20  # a value is not cut to less
DEPTH = 5  # of nesting that is shown
SMALL = 4  # entries of an array that is shown whole


def shows_what_was_set(cls: C) -> C:
    """Let the estimators of a class show what was set, functions by their names, and say where they are documented."""
    decorated: Any = cls

    def _doc_link_url_param_generator(self: Any) -> dict[str, str]:
        return {"path": public_path(type(self))}

    def __repr__(self: Any, N_CHAR_MAX: int = LINE) -> str:
        parts = [(f"{name}=", shown(value)) for name, value in _set_params(self).items()]
        if not get_config()["print_changed_only"]:
            return _wrapped(type(self).__name__, [name + value for name, value in parts])
        return _fitted(type(self).__name__, parts, N_CHAR_MAX)

    def _get_params_html(self: Any, deep: bool = True, *args: Any, **kwargs: Any) -> Any:
        # The table of the diagram takes what is no argument of __init__ for set by the user, and what is inside has a
        # table of its own.
        return super(decorated, self)._get_params_html(False, *args, **kwargs)

    decorated._shows_what_was_set = True
    decorated._doc_link_module = "sk_analytic"
    decorated._doc_link_template = DOCUMENTATION + "/generated/{path}.html"
    for method in (_doc_link_url_param_generator, __repr__, _get_params_html):
        setattr(decorated, method.__name__, method)
    return cls


def public_path(cls: type) -> str:
    """Return the path under which users import a class."""
    names = cls.__module__.split(".")
    modules = [".".join(names[:n]) for n in range(1, len(names) + 1)]
    public = (name for name in modules if getattr(sys.modules.get(name), cls.__name__, None) is cls)
    return f"{next(public, cls.__module__)}.{cls.__name__}"


def block(kind: str, parts: Sequence[tuple[str | None, Any]]) -> Any:
    """Return a block of scikit-learn's diagram for pairs of a name and a part, in "parallel" or "serial"."""
    names, items = zip(*parts, strict=True) if parts else ((), ())
    return _visual_block()(kind, list(items), names=list(names), name_details=[str(item) for item in items])


def single_block(item: Any) -> Any:
    """Return a block of scikit-learn's diagram for an estimator of which no parts are shown."""
    return _visual_block()("single", item, names=type(item).__name__, name_details=str(item))


def _visual_block() -> Any:
    try:
        from sklearn.utils._repr_html.estimator import _VisualBlock
    except ImportError:  # scikit-learn < 1.7
        from sklearn.utils._estimator_html_repr import _VisualBlock
    return _VisualBlock


def labeled(parts: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """Return parts by name as pairs for `block`: the name that prefixes their parameters, a colon, and the class."""
    return [(f"{name}: {type(part).__name__}", part) for name, part in parts.items()]


def _set_params(item: Any) -> dict[str, Any]:
    """The parameters that differ from their defaults, in order; all of them if scikit-learn is set to show all."""
    params: dict[str, Any] = item.get_params(deep=False)
    if not get_config()["print_changed_only"]:
        return params
    defaults = {name: parameter.default for name, parameter in inspect.signature(type(item)).parameters.items()}
    defaults |= getattr(item, "_default_settings", {})  # of what ``**settings`` takes
    names = [*(name for name in defaults if name in params), *(name for name in params if name not in defaults)]
    return {
        name: params[name] for name in names if name not in defaults or not _is_default(params[name], defaults[name])
    }


def _is_default(value: Any, default: Any) -> bool:
    if value is default:
        return True
    plain = (bool, int, float, str, tuple, type(None))
    return type(value) is type(default) and isinstance(value, plain) and repr(value) == repr(default)


def _fitted(name: str, parts: list[tuple[str, str]], length: int) -> str:
    """One line, its longest values cut as far as it would be too long, and at last its end."""
    longest = max((len(value) for _, value in parts), default=0)
    for room in range(max(longest, SHORT), SHORT - 1, -1):
        line = f"{name}({', '.join(label + _cut(value, room) for label, value in parts)})"
        if len(line) <= length:
            return line
    return f"{line[: length - 4].rpartition(', ')[0]}, ...)"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 3]}..."


def _wrapped(name: str, parts: list[str]) -> str:
    """All parameters, over several lines as scikit-learn has them."""
    text = f"{name}({', '.join(parts)})"
    return textwrap.fill(
        text, 80, subsequent_indent=" " * (len(name) + 1), break_long_words=False, break_on_hyphens=False
    )


def shown(value: Any, depth: int = 0) -> str:
    """Return a value in one line, without addresses: functions by name, large arrays by shape."""
    if depth > DEPTH:
        return "..."
    inner = functools.partial(shown, depth=depth + 1)
    if isinstance(value, functools.partial):
        arguments = [*map(inner, value.args), *(f"{key}={inner(item)}" for key, item in value.keywords.items())]
        return f"partial({', '.join([inner(value.func), *arguments])})"
    if callable(value) and hasattr(value, "__name__"):
        owner = getattr(value, "__self__", None)
        return value.__name__ if owner is None or inspect.ismodule(owner) else f"{_class_of(owner)}.{value.__name__}"
    if hasattr(type(value), "_shows_what_was_set"):
        return f"{type(value).__name__}({', '.join(f'{k}={inner(v)}' for k, v in _set_params(value).items())})"
    if isinstance(value, np.ndarray) and (value.ndim > 1 or value.size > SMALL):
        return f"<array {value.shape}>"
    if type(value) is dict:
        return f"{{{', '.join(f'{key!r}: {inner(item)}' for key, item in value.items())}}}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = zip(value._fields, value, strict=True)
        return f"{type(value).__name__}({', '.join(f'{field}={inner(item)}' for field, item in fields)})"
    if type(value) in (list, tuple):
        opening, closing = "[]" if type(value) is list else "()"
        return f"{opening}{', '.join(map(inner, value))}{',' * (closing == ')' and len(value) == 1)}{closing}"
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)).split())


def _class_of(owner: Any) -> str:
    return owner.__name__ if isinstance(owner, type) else type(owner).__name__
