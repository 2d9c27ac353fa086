"""Objects made of named parts, which ``get_params`` and ``set_params`` reach by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from ..hyperparameters import Hyperparameters, unknown_hyperparameter


class Composite(Hyperparameters):
    """Hyperparameters of an object and of its named parts."""

    def _items(self) -> dict[str, Any]:
        """Return the parts by name; leave out invalid ones, which `check` reports."""
        raise NotImplementedError

    def _replace(self, name: str, item: Any) -> None:
        """Replace the part of that name."""
        raise NotImplementedError

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, by default including those of the parts.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parts and their parameters.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        for name, item in self._items().items() if deep else ():
            params.setdefault(name, item)
            params.update((f"{name}__{key}", value) for key, value in item.get_params().items())
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, parts, and parameters of parts.

        Parameters
        ----------
        **params : dict
            Names as in `get_params`.

        Returns
        -------
        self : object
            This object.
        """
        own = self.get_params(deep=False)
        nested: dict[str, dict[str, Any]] = {}
        for key in sorted(params, key=lambda key: key not in own):  # what holds the parts comes first
            name, _, rest = key.partition("__")
            if name not in own and name not in self._items():
                raise ValueError(unknown_hyperparameter(type(self).__name__, name, [*own, *self._items()]))
            if rest:
                nested.setdefault(name, {})[rest] = params[key]
            elif name in own:
                setattr(self, name, params[key])
            elif self._items()[name] is not params[key]:
                self._replace(name, params[key])
        for name, changes in nested.items():
            (getattr(self, name) if name in own else self._items()[name]).set_params(**changes)
        return self


def names_of(items: Sequence[Any]) -> list[str]:
    """Return the names of the items of a list, as :func:`sklearn.pipeline.make_pipeline` gives them.

    They are the class names in lower case, numbered if one occurs twice, or the name given with an
    item as a pair.
    """
    kinds = [type(unnamed(item)).__name__.lower() for item in items]
    return [
        item[0] if _is_named(item) else kind if kinds.count(kind) == 1 else f"{kind}-{1 + kinds[:i].count(kind)}"
        for i, (item, kind) in enumerate(zip(items, kinds, strict=True))
    ]


def named(items: object) -> dict[str, Any]:
    """Return the items of a list by name; empty if it is not a list."""
    return dict(zip(names_of(items), map(unnamed, items), strict=True)) if isinstance(items, list | tuple) else {}


def unnamed(item: Any) -> Any:
    """Return an item of a list without the name that it may have been given."""
    return item[1] if _is_named(item) else item


def _is_named(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
