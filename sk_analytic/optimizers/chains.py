"""Optimizers made of several links: chains, named chains, and a separate optimizer for each block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from ..display import block, labeled
from ..validation import nearest
from .base import Optimizer
from .composite import Composite, named, names_of, unnamed
from .engine.links import Placement
from .outside import adopted
from .scheduled import Scheduled


class _Composite(Composite, Optimizer):
    """An optimizer made of others, whose hyperparameters ``get_params`` and ``set_params`` reach by name."""

    def check(self) -> None:
        """Raise an error if a part is not a link or optimizer, or a hyperparameter is outside its range."""
        for item in self._given():
            if not _is_part(item):
                kind = item.__name__ if isinstance(item, type) else item.capitalize() if isinstance(item, str) else ""
                hint = f" Pass an instance: {kind}()." if kind else ""
                raise TypeError(f"{type(self).__name__} takes links and optimizers; got {item!r}.{hint}")
            item.check()

    def _given(self) -> Iterable[Any]:
        """Return the parts, whatever was given for them."""
        raise NotImplementedError


class Chain(_Composite):
    """Apply links in sequence: the output of each is the input of the next.

    Exactly one of them must be a rule, or an optimizer that contains one, such as `AdamW` or `PerBlock`.

    Parameters
    ----------
    links : list of Link or optimizer, or of tuple (str, Link or optimizer)
        Links in the order in which they are applied. Names are generated as by
        :func:`sklearn.pipeline.make_pipeline` unless given.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Adam, Chain, ClipNorm
    >>> optimizer = Chain([ClipNorm(1.0), Adam()])
    >>> optimizer.set_params(adam__learning_rate=0.5)
    Chain(links=[ClipNorm(), Adam(learning_rate=0.5)])
    >>> theta = np.array([1.0, 2.0])
    >>> state = optimizer.init(theta)
    >>> optimizer.update(state, theta, np.array([30.0, 40.0]))
    >>> theta.round(3)
    array([0.5, 1.5])
    """

    def __init__(self, links: Sequence[Any]) -> None:
        self.links = links

    def check(self) -> None:
        """Raise an error for an invalid part or hyperparameter, or a name that cannot be used."""
        super().check()
        names = names_of(self.links)
        for position, name in enumerate(names):
            if name in names[:position] or "__" in name or name == "links":
                reason = "is used twice" if name in names[:position] else "cannot be used in set_params"
                raise ValueError(f"Chain: the link name {name!r} {reason}. The names are: {', '.join(names)}.")

    def _given(self) -> Iterable[Any]:
        if not isinstance(self.links, list | tuple):
            raise TypeError(f"Chain takes a list of links and optimizers; got {self.links!r}.")
        return [adopted(unnamed(item)) for item in self.links]

    def _sk_visual_block_(self) -> Any:
        return block("serial", list(self._items().items()))

    def _items(self) -> dict[str, Any]:
        items = ((name, adopted(item)) for name, item in named(self.links).items())
        return {name: item for name, item in items if _is_part(item)}

    def _replace(self, name: str, item: Any) -> None:
        # The name belongs to the position, whatever link is in it.
        names = names_of(self.links)
        self.links = [(name, item) if name == own else old for own, old in zip(names, self.links, strict=True)]

    def place(self, blocks: dict[str, int]) -> list[Placement]:
        """Return the placements of the links, in sequence on the same blocks."""
        return [placement for item in self._given() for placement in item.place(blocks)]


class PerBlock(_Composite):
    """Use a separate optimizer or link for each parameter array, or group of them.

    It can be used inside a `Chain`, for example to clip the norm of the whole gradient first.

    Parameters
    ----------
    blocks : dict of {str or int: Link or optimizer}
        Maps the name of a parameter array, or the common part before the dot in the names of several, to
        its link or optimizer.
    default : Link or optimizer, default=None
        Link or optimizer for all other parameter arrays. If None, ``blocks`` must cover all of them.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD, Adam, PerBlock
    >>> theta = {"W": np.ones(2), "b": np.ones(1)}
    >>> optimizer = PerBlock({"W": Adam(1e-3)}, default=SGD(0.1))
    >>> state = optimizer.init(theta)
    >>> optimizer.update(state, theta, {"W": np.ones(2), "b": np.ones(1)})
    >>> theta
    {'W': array([0.999, 0.999]), 'b': array([0.9])}
    """

    def __init__(self, blocks: Mapping[Any, Any], default: Any = None) -> None:
        self.blocks = blocks
        self.default = default

    def _given(self) -> Iterable[Any]:
        if not isinstance(self.blocks, dict):
            raise TypeError(f"PerBlock takes a dict of parameter names; got {self.blocks!r}.")
        given = [*self.blocks.values(), *([] if self.default is None else [self.default])]
        return list(map(adopted, given))

    def _sk_visual_block_(self) -> Any:
        parts = self._items() | ({"default": self.default} if _is_part(self.default) else {})
        return block("parallel", labeled(parts))

    def _items(self) -> dict[str, Any]:
        if not isinstance(self.blocks, dict):
            return {}
        items = ((str(name), adopted(item)) for name, item in self.blocks.items())
        return {name: item for name, item in items if _is_part(item)}

    def _replace(self, name: str, item: Any) -> None:
        self.blocks = {key: item if str(key) == name else old for key, old in self.blocks.items()}

    def place(self, blocks: dict[str, int]) -> list[Placement]:
        """Return the placements of the links, each on its own blocks."""
        rest = dict(blocks)
        placements = []
        for name, item in self.blocks.items():
            own = {block: rest.pop(block) for block in list(rest) if _stands_for(name, block)}
            if not own:
                raise ValueError(self._no_block(name, blocks))
            placements += adopted(item).place(own)
        if rest and self.default is None:
            raise ValueError(
                f"PerBlock has no optimizer for parameter {next(iter(rest))!r}. Add it to blocks, or set default."
            )
        return placements + (adopted(self.default).place(rest) if rest else [])

    @staticmethod
    def _no_block(name: object, blocks: dict[str, int]) -> str:
        if any(_stands_for(name, block) for block in blocks):
            return f"PerBlock lists a parameter twice, the second time as {name!r}. Remove one of the two."
        listed = ", ".join(map(repr, blocks))
        return (
            f"PerBlock names the parameter {name!r}, which does not exist.{nearest(name, blocks)} There are: {listed}."
        )


class NamedChain(Scheduled, Optimizer):
    """Base class of named chains with flat hyperparameters, such as AdamW.

    Attributes
    ----------
    parts : tuple of type
        Classes of its links, in order. Each receives the hyperparameters of its signature.
    shared : tuple of str
        Hyperparameters that several parts take with the same meaning.
    settings : dict
        Hyperparameters of parts that the chain does not have under the same name, each with its value or with
        the name of the corresponding hyperparameter of the chain.
    own_defaults : tuple of str
        Hyperparameters whose default deliberately differs from that of their part.
    """

    parts: ClassVar[tuple[type[Scheduled], ...]] = ()
    shared: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[dict[str, Any]] = {}
    own_defaults: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        takers: dict[str, list[Any]] = {name: [] for name in (*cls._get_param_names(), *cls.settings)}
        cls.ranges = {}
        for part in cls.parts:
            for name in part._get_param_names():
                source = cls.settings.get(name, name)
                for key in {name, source} & takers.keys():
                    takers[key].append(part.__name__)
                if name in part.ranges and source in takers:
                    cls.ranges[source] = part.ranges[name]
        for name, names in takers.items():
            if not names or (len(names) > 1 and name not in cls.shared):
                reached = " and ".join(names) or "no part"
                raise TypeError(f"{cls.__name__}: {name} belongs to {reached}; it must belong to one, or be `shared`.")

    def links(self) -> list[Any]:
        """Return the parts with their hyperparameters.

        Returns
        -------
        links : list of Link
        """
        given = self.get_params(deep=False)
        sources = {name: name for name in given} | self.settings
        return [
            part(**{key: given.get(sources[key], sources[key]) for key in part._get_param_names() if key in sources})
            for part in self.parts
        ]

    def place(self, blocks: dict[str, int]) -> list[Placement]:
        """Return the placements of the links, in sequence on the same blocks."""
        owner = type(self).__name__
        placements = [placement for link in self.links() for placement in link.place(blocks)]
        return [placement._replace(owner=owner) for placement in placements]


def _is_part(item: object) -> bool:
    return hasattr(item, "place") and not isinstance(item, type)


def _stands_for(name: object, block: str) -> bool:
    return block == str(name) or block.startswith(f"{name}.")
