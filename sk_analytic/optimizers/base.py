"""The contract of optimizers: links in a row, and what is made of them.

A `Link` maps, entry by entry, what flows in to what flows on. First the gradient flows; after the last
link that gives one, the engine takes the step ``theta - rate * g``; then the proposed θ flows. A `Rule`
is a link with a learning rate, and an optimizer by itself; `Chain`, `NamedChain` and `PerBlock` are
made of several links. Hyperparameters live here, what an optimizer remembers lives in its `State`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..display import block, labelled
from ..hyperparameters import Hyperparameters
from ..parameters import Layout
from ..sparse_gradients import SparseGradient
from ..trust import trusted
from ..typing import Array
from ..validation import Interval, check_range, nearest
from .composite import Composite, named, names_of, unnamed
from .plan import Placement, Plan, fits, placements_of
from .schedules import Schedule
from .state import Now, State

UNIT = Interval(0, 1, closed="left")
"""Decay rates of averages."""
AMOUNT = Interval(0, np.inf)
"""Rates, strengths, small additions to denominators."""
POSITIVE = Interval(0, np.inf, closed="neither")
"""What is divided by, or must not stand still."""


class _Scheduled(Hyperparameters):
    """Hyperparameters of which each may be a `Schedule`."""

    def check(self) -> None:
        """Raise a ValueError that names the first hyperparameter outside its range."""
        for name in self.get_params(deep=False):
            value = getattr(self, name)
            if isinstance(value, Schedule):
                value.check()
            elif callable(value):
                raise TypeError(
                    f"{type(self).__name__}: {name} is a function, {value!r}. What changes with the step is a "
                    "Schedule: one of sk_analytic.optimizers, or a class of your own with __call__(step, epoch)."
                )
            elif name in self.ranges:
                check_range(type(self).__name__, name, value, self.ranges[name])


class Link(_Scheduled):
    """One map of what flows, entry by entry: the base of rules, clipping, decay.

    A new link is its class: hyperparameters in ``__init__``, then whichever of these it needs.

    Attributes
    ----------
    slots : dict
        Its arrays of θ's size, by name, with their start: a number, the name of a hyperparameter, or
        ``"theta"``. A property where it depends on hyperparameters.
    memory : dict
        Floats that it remembers, by name, with their start: a number or the name of a hyperparameter.
    takes, gives : {"gradient", "theta"}
        What flows in and what flows on: the gradient, or the proposed θ.
    scope : {"block", "all"}
        Whether ``t``, ``memory`` and ``sums`` are a block's own or θ's.
    eval_slot : str or None
        The slot that predicts in θ's stead.
    grows : str or None
        The entry of ``memory`` that grows until the link has found its scale; training is patient until then.
    formula : callable
        Static ``formula(flow, theta, *slots, *coefficients) -> (flow, *slots)``, or the flow alone where
        there are no slots. Arithmetic, comparisons and ``np.sqrt, abs, sign, minimum, maximum, where``;
        nothing in place, no branch on a value, no literal, nothing between two coefficients, no global
        but ``np``. ``theta`` is θ before the update. A property where hyperparameters choose among
        several, because one for all would cost some of them a slot.
    measures : callable or None
        Static ``measures(flow, theta, *slots, *scales)``: one array, or a tuple of arrays, whose sums the
        link gets as ``now.sums``. It costs one more pass over θ.
    passes : callable or None
        Method ``passes(t) -> bool``: whether in its run number ``t`` anything after the link runs.
    accepts_sparse_grads : bool
        Whether rows of a block that have no gradient may be left out: θ, slots and all. By default a link may leave
        them out if it does not measure, average θ or hold the flow back; what measures the gradient alone, in which
        these rows are zero, says so.

    Notes
    -----
    ``formula`` and ``measures`` are called with symbols, once, to learn what they do; an engine then runs
    it. Coefficients are cast to θ's dtype.
    """

    slots: Any = {}
    memory: Any = {}
    takes = "gradient"
    gives = "gradient"
    scope = "block"
    eval_slot: str | None = None
    grows: str | None = None
    formula: Any
    measures: Any = None
    passes: ClassVar[Callable[..., bool] | None] = None

    @property
    def accepts_sparse_grads(self) -> bool:
        """Whether rows of a block that have no gradient may be left out."""
        needs_all = self.measures is not None or self.passes is not None or self.eval_slot is not None
        return not needs_all and self.takes == "gradient"

    def coefficients(self, now: Now) -> tuple[float, ...]:
        """Return what ``formula`` takes after the slots, as Python floats.

        Parameters
        ----------
        now : Now
            The run's number ``t``, ``memory`` (to be written here), ``sums``, ``rate``. In ``self``
            schedules are numbers.

        Returns
        -------
        coefficients : tuple of float
        """
        return ()

    def scales(self, now: Now) -> tuple[float, ...]:
        """Return what ``measures`` takes after the slots, as Python floats.

        Parameters
        ----------
        now : Now
            As for `coefficients`, but ``sums`` is not there yet.

        Returns
        -------
        scales : tuple of float
        """
        return ()

    def place(self, blocks: dict[str, int]) -> list[Placement]:
        """Return where the links stand.

        Parameters
        ----------
        blocks : dict
            Names of the blocks to stand on, and their indices.

        Returns
        -------
        placements : list of Placement
        """
        return [Placement(self, tuple(blocks.values()), type(self).__name__)]


@trusted
class Optimizer:
    """What steps: ``init`` a state, then ``update`` θ by gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import SGD
    >>> theta = {"slope": np.array([1.0, 2.0]), "offset": np.array(0.5)}
    >>> optimizer = SGD(learning_rate=0.1)
    >>> state = optimizer.init(theta)
    >>> optimizer.update(state, theta, {"slope": np.array([1.0, 0.0]), "offset": None})
    >>> theta
    {'slope': array([0.9, 2. ]), 'offset': array(0.5)}
    """

    def init(self, theta: Any, blocks: Layout | None = None) -> State:
        """Return a new state.

        Parameters
        ----------
        theta : ndarray of shape (size,) or structure of arrays
            A dict, tuple, list, named tuple or nested structure of float arrays of one dtype, or one
            array. Each leaf must be writable: `update` works in place.
        blocks : Layout, default=None
            ``names`` and ``slices`` of the blocks of a vector, which otherwise is one block.

        Returns
        -------
        state : State

        Raises
        ------
        ValueError
            For a hyperparameter outside its range, and for links that do not fit together.
        TypeError
            For a link whose ``formula`` or ``measures`` is a bound method.
        ParameterStructureError
            For a leaf that cannot be updated in place.
        """
        state, vector = State.of(theta, blocks)
        state._plan = Plan(self, state, vector)
        return state

    def update(
        self,
        state: State,
        theta: Any,
        grads: Any,
        *,
        missing: Iterable[int] = (),
        sparse_grads: tuple[SparseGradient, ...] = (),
    ) -> None:
        """Take one step: write θ and the state in place.

        Parameters
        ----------
        state : State
            From `init`.
        theta : ndarray of shape (size,) or structure of arrays
            As given to `init`.
        grads : ndarray of shape (size,) or structure of arrays
            Of the form of ``theta``; is only read. Blocks whose leaf is ``None`` stay as they are. A leaf that is a
            pair ``(rows, values)`` or a sparse matrix updates these rows of its block alone, if all links that the
            block passes can do that; see the guide on sparse gradients.
        missing : tuple of int, default=()
            For vectors: indices of the blocks that have no gradient.
        sparse_grads : tuple of SparseGradient, default=()
            For vectors: the gradients of blocks of which only some rows have one; what ``grads`` holds in these
            blocks is not read.
        """
        if state.layout is None:
            if theta is not state._theta:
                state.accept_theta(theta)
            if type(grads) is not np.ndarray or grads.shape != state.shape:
                grads, own = state.accept_gradient(grads)
                sparse_grads = sparse_grads or own
            plan = self._plan(state, theta)
            if sparse_grads:
                plan.run_sparse(theta, grads, tuple(missing), sparse_grads)
            else:
                plan.run(theta, grads, tuple(missing))
        else:
            self._update_structure(state, theta, *state.read_gradient(grads))
        state.step += 1

    def _update_structure(
        self, state: State, theta: Any, g: Array, missing: tuple[int, ...], sparse_grads: tuple[SparseGradient, ...]
    ) -> None:
        if not sparse_grads:
            vector = state.read(theta)
            self._plan(state, vector).run(vector, g, missing)
            state.write(theta)
            return
        plan: Plan | None = state._plan
        if plan is None or plan.is_stale(self):
            plan = self._plan(state, state.read(theta))
        kept = {gradient.block for gradient in plan.kept_sparse(sparse_grads)}
        vector = state.read(theta, kept)
        leaves = state.layout.leaves(theta, "theta")
        placed = (one._replace(theta=leaves[one.block]) if one.block in kept else one for one in sparse_grads)
        plan.run_sparse(vector, g, missing, tuple(placed))
        state.write(theta, kept)

    def eval_params(self, state: State, theta: Any) -> Any:
        """Return the θ that predicts.

        Parameters
        ----------
        state : State
            From `init`.
        theta : ndarray of shape (size,) or structure of arrays
            As given to `init`.

        Returns
        -------
        answer : ndarray of shape (size,) or structure of arrays
            The slot that a link names in ``eval_slot`` (an average, say), or ``theta`` itself.
        """
        if state.layout is None:
            return self._plan(state, theta).eval_params(theta)
        vector = state.read(theta)
        answer = self._plan(state, vector).eval_params(vector)
        return theta if answer is vector else state.layout.views(answer)

    def is_growing(self, state: State, theta: Any) -> bool:
        """Whether a link that begins with tiny steps has still been finding its scale since the last call.

        Parameters
        ----------
        state : State
            From `init`.
        theta : ndarray of shape (size,)
            As given to `init`.

        Returns
        -------
        is_growing : bool
            False for links that do not say what ``grows``.
        """
        return self._plan(state, theta).is_growing()

    def accepts(self, state: State, theta: Any, blocks: Layout | None = None) -> bool:
        """Whether a state is of this optimizer's links and of a θ like this one, so that it can go on.

        Parameters
        ----------
        state : State
            From `init` of this or another optimizer.
        theta : ndarray of shape (size,) or structure of arrays
            As for `init`.
        blocks : Layout, default=None
            As for `init`.

        Returns
        -------
        accepts : bool
        """
        fresh, _ = State.of(theta, blocks)
        return fresh.is_like(state) and fits(placements_of(self, fresh), state)

    def place(self, blocks: dict[str, int]) -> list[Placement]:
        """Return where the links stand.

        Parameters
        ----------
        blocks : dict
            Names of the blocks to stand on, and their indices.

        Returns
        -------
        placements : list of Placement
        """
        raise NotImplementedError

    def _plan(self, state: State, theta: Any) -> Plan:
        plan: Plan | None = state._plan
        if plan is None or plan.is_stale(self):
            plan = state._plan = Plan(self, state, theta)
        return plan


class Rule(Link, Optimizer):
    """A link with a learning rate, which alone is an optimizer; each block of θ passes exactly one."""

    ranges = {"learning_rate": AMOUNT}
    learning_rate: Any


class _Composite(Composite, Optimizer):
    """An optimizer made of others, which ``get_params`` and ``set_params`` reach by their names."""

    def check(self) -> None:
        """Raise an error that names what is no link or optimizer, or a hyperparameter outside its range."""
        for item in self._given():
            if not _is_part(item):
                kind = item.__name__ if isinstance(item, type) else item.capitalize() if isinstance(item, str) else ""
                hint = f" Pass an instance: {kind}()." if kind else ""
                raise TypeError(f"{type(self).__name__} is made of links and optimizers; got {item!r}.{hint}")
            item.check()

    def _given(self) -> Iterable[Any]:
        """Return the parts, whatever was given for them."""
        raise NotImplementedError


class Chain(_Composite):
    """Links in a row: what one gives, the next takes.

    Exactly one of them is a rule; an optimizer such as `AdamW` or `PerBlock` may stand for it.

    Parameters
    ----------
    links : list of Link or optimizer, or of tuple (str, Link or optimizer)
        In the order in which the gradient passes them. They are named as by
        :func:`sklearn.pipeline.make_pipeline` unless a name is given.

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
        """Raise an error that names a wrong part, a wrong hyperparameter, or a name that cannot be reached."""
        super().check()
        names = names_of(self.links)
        for position, name in enumerate(names):
            if name in names[:position] or "__" in name or name == "links":
                reason = "stands twice" if name in names[:position] else "cannot be reached by set_params"
                raise ValueError(f"Chain: the name {name!r} of a link {reason}. The names are: {', '.join(names)}.")

    def _given(self) -> Iterable[Any]:
        if not isinstance(self.links, list | tuple):
            raise TypeError(f"Chain takes a list of links and optimizers; got {self.links!r}.")
        return [unnamed(item) for item in self.links]

    def _sk_visual_block_(self) -> Any:
        return block("serial", list(self._items().items()))

    def _items(self) -> dict[str, Any]:
        return {name: item for name, item in named(self.links).items() if _is_part(item)}

    def _replace(self, name: str, item: Any) -> None:
        # The name stays that of the place, whatever stands in it now.
        names = names_of(self.links)
        self.links = [(name, item) if name == own else old for own, old in zip(names, self.links, strict=True)]

    def place(self, blocks: dict[str, int]) -> list[Placement]:
        """Return where the links stand: one after the other, on the same blocks."""
        return [placement for item in self._given() for placement in item.place(blocks)]


class PerBlock(_Composite):
    """One optimizer or link for some blocks of θ, another for others.

    In a `Chain` it stands where a link stands: clip the norm of all of θ, then go on block by block.

    Parameters
    ----------
    blocks : dict of {str or int: Link or optimizer}
        Maps the name of a block, or what stands before the dot in the names of several, to what it passes.
    default : Link or optimizer, default=None
        What all other blocks pass; without it there must not be any.

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
            raise TypeError(f"PerBlock takes a dict of block names; got {self.blocks!r}.")
        return [*self.blocks.values(), *([] if self.default is None else [self.default])]

    def _sk_visual_block_(self) -> Any:
        parts = self._items() | ({"default": self.default} if _is_part(self.default) else {})
        return block("parallel", labelled(parts))

    def _items(self) -> dict[str, Any]:
        if not isinstance(self.blocks, dict):
            return {}
        return {str(name): item for name, item in self.blocks.items() if _is_part(item)}

    def _replace(self, name: str, item: Any) -> None:
        self.blocks = {key: item if str(key) == name else old for key, old in self.blocks.items()}

    def place(self, blocks: dict[str, int]) -> list[Placement]:
        """Return where the links stand: each on its own blocks."""
        rest = dict(blocks)
        placements = []
        for name, item in self.blocks.items():
            own = {block: rest.pop(block) for block in list(rest) if _stands_for(name, block)}
            if not own:
                raise ValueError(self._no_block(name, blocks))
            placements += item.place(own)
        if rest and self.default is None:
            raise ValueError(f"PerBlock has nothing for block {next(iter(rest))!r}, and no default.")
        return placements + (self.default.place(rest) if rest else [])

    @staticmethod
    def _no_block(name: object, blocks: dict[str, int]) -> str:
        if any(_stands_for(name, block) for block in blocks):
            return f"PerBlock names a block twice, the second time as {name!r}."
        listed = ", ".join(map(repr, blocks))
        return f"PerBlock names the block {name!r}, which does not exist.{nearest(name, blocks)} There are: {listed}."


class NamedChain(_Scheduled, Optimizer):
    """A chain with a name of its own and flat hyperparameters, such as AdamW.

    Attributes
    ----------
    parts : tuple of type
        The classes of its links, in their order. Each gets the hyperparameters that it names.
    shared : tuple of str
        Hyperparameters that several parts take, in the same meaning.
    settings : dict
        Hyperparameters of parts that the chain does not have under that name, each with its value or with
        the name of the chain's hyperparameter that it takes.
    own_defaults : tuple of str
        Hyperparameters whose default is meant to differ from that of their part.
    """

    parts: ClassVar[tuple[type[_Scheduled], ...]] = ()
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
                raise TypeError(f"{cls.__name__}: {name} reaches {reached}; it must reach one, or be `shared`.")

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
        """Return where the links stand: one after the other, on the same blocks."""
        owner = type(self).__name__
        placements = [placement for link in self.links() for placement in link.place(blocks)]
        return [placement._replace(owner=owner) for placement in placements]


def _is_part(item: object) -> bool:
    return hasattr(item, "place") and not isinstance(item, type)


def _stands_for(name: object, block: str) -> bool:
    return block == str(name) or block.startswith(f"{name}.")
