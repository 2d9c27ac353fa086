"""Links in their places: which blocks pass them, in which order, and with which part of the state.

The links that a block passes, in their order, are its *chain*.
"""

from __future__ import annotations

import copy
import numbers
import types
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...typing import Array
from ...validation import Interval, Range
from ..scalars import hypot
from ..schedules import Schedule
from ..state import LinkState, OutsideState, State, StepInfo


class Placement(NamedTuple):
    """A link, the blocks that pass it, and whose link it is, for messages."""

    link: Any
    blocks: tuple[int, ...]
    owner: str


class Step:
    """The engine's own link: the step against what flows, and the only place of rate and sign."""

    slots: dict[str, float] = {}
    measures = None
    norms = False
    stepper = None
    accepts_sparse_grads = True

    @staticmethod
    def coefficients(now: StepInfo) -> tuple[float, ...]:
        """Return the rate of the rule."""
        return (now.rate,)

    @staticmethod
    def formula(g: Array, theta: Array, rate: float) -> Array:
        """Return the proposed θ."""
        return theta - rate * g


class BoundLink:
    """A link in its place, with its part of the state.

    Attributes
    ----------
    declared : Link
        The link as the user has it.
    link : Link
        The same, with numbers in the place of schedules.
    stage : int
        The pass in which it runs.
    key : tuple
        What decides the operations of the link.
    """

    def __init__(self, link: Any, state: LinkState, owner: str, index: Any, stage: int = 0) -> None:
        self.declared, self.owner, self.index = link, owner, index
        self.state, self.blocks, self.records, self.slots = state, state.blocks, state.records, state.slots
        self.stage = stage
        self.schedules = {name: value for name, value in vars(link).items() if isinstance(value, Schedule)}
        self.measures = link.measures is not None
        self.is_outside = link.stepper is not None
        self.link = copy.copy(link) if self.schedules else link
        if not self.is_outside:
            _require_static(link)
            self.key: tuple[Any, ...] = link.formula, link.measures, link.norms, tuple(link.slots)

    def arrays(self) -> list[Array]:
        """Return the slots in the order in which the formula takes them."""
        return [self.slots[name] for name in self.key[-1]]

    def resolve(self, state: State) -> None:
        """Replace schedules by their values for this step."""
        for name, schedule in self.schedules.items():
            value = schedule.at(state)
            allowed = self.link.ranges.get(name)
            if not _is_admissible(value, allowed):
                expected = f"a number in {allowed}" if allowed else "a number"
                raise ValueError(
                    f"{self.owner}: the schedule {schedule!r} of {name} gave {value!r} at step {state.step}, "
                    f"epoch {state.epoch}; expected {expected}."
                )
            setattr(self.link, name, value)

    def split(self, running: Collection[int]) -> bool:
        """Part the blocks that run from those in lockstep with them that do not; return whether any were."""
        if self.declared.scope == "all":
            return False
        kept: list[Any] = []
        parted: list[Any] = []
        for now, blocks in self.records:
            going = tuple(block for block in blocks if block in running)
            if going and going != blocks:
                resting = tuple(block for block in blocks if block not in running)
                parted += [(now, going), (now.copy(), resting)]
            else:
                kept.append((now, blocks))
        self.records[:] = kept + parted
        return bool(parted)

    def fill_slots(self, state: State, theta: Any) -> None:
        """Give the link the slots and the memory that it declares and does not have yet."""
        if isinstance(self.state, OutsideState):
            kept = self.state.remembered()
            self.link = self.state.stepper = self.declared.stepper(state, theta, self.blocks, kept)
            return
        for name, start in self.declared.slots.items():
            if isinstance(start, np.ndarray):  # a constant of the link, and nothing that it remembers
                if name in self.slots and self.slots[name].flags.writeable:
                    self.slots[name][...] = start  # which kernels of the engine hold
                else:
                    self.slots[name] = start.astype(state.dtype)
            elif name not in self.slots:
                self.slots[name] = state.new_slot(theta if start == "theta" else self._number(start), theta)
        for name, start in self.declared.memory.items():
            for now, _ in self.records:
                now.memory.setdefault(name, self._number(start))

    def _number(self, start: Any) -> float:
        return float(getattr(self.link, start) if isinstance(start, str) else start)


def total(parts: Iterable[float], norms: bool) -> float:
    """Return what was measured in parts, sums or norms, as one number."""
    return hypot(*parts) if norms else sum(parts)


def _require_static(link: Any) -> None:
    """Raise if a function that is traced once has access to hyperparameters, which may change."""
    for name in ("formula", "measures"):
        if isinstance(getattr(link, name), types.MethodType):
            giver = "coefficients" if name == "formula" else "scales"
            raise TypeError(
                f"{type(link).__name__}.{name} is a bound method. Make it a @staticmethod, without self, and return "
                f"hyperparameters from `{giver}`. If they choose among several formulas, make {name} a property that "
                "returns one of these functions."
            )


def _is_admissible(value: Any, allowed: Range | None) -> bool:
    if not isinstance(allowed, Interval):
        return isinstance(value, numbers.Real | np.bool_) and not np.isnan(float(value))
    # Nearly all values take the short way; `admits` is as long as a whole step of a small θ.
    inside = type(value) is float and not allowed.integral and allowed.low < value < allowed.high
    return inside or allowed.admits(value)


def is_rule(link: Any) -> bool:
    """Whether it is the link that has the learning rate."""
    return hasattr(link, "learning_rate")


def placements_of(optimizer: Any, state: State) -> list[Placement]:
    """Return where the links of an optimizer stand on the blocks of a state."""
    placements = optimizer.place({name: index for index, name in enumerate(state.names)})
    return [placement for placement in placements if placement.blocks]


def fits(placements: Iterable[Placement], state: State) -> bool:
    """Whether a state is that of these links."""
    placements = list(placements)
    ours = [(kind_of(placement.link), placement.blocks) for placement in placements]
    return ours == [(link.kind, link.blocks) for link in state.links] and all(
        placement.link.continues(state, link)
        for placement, link in zip(placements, state.links, strict=True)
        if isinstance(link, OutsideState)
    )


def kind_of(link: Any) -> str:
    """Return what a state calls the link that made it."""
    return str(getattr(link, "kind", type(link).__name__))


def bind(optimizer: Any, state: State, theta: Any) -> tuple[list[BoundLink], list[tuple[BoundLink, ...]]]:
    """Return the links of an optimizer bound to a state, whose parts are made if absent; and each block's chain.

    The engine's `Step` stands in the chains, and is not among the links.
    """
    placements = placements_of(optimizer, state)
    chains = _chains(placements, len(state.names))
    checked: dict[Any, Any] = {}  # by chain: neighbors mostly have the same
    for chain, name in zip(chains, state.names, strict=True):
        if chain not in checked:
            checked[chain] = check_chain([placements[index].link for index in chain], name)
    if not state.links:
        rules = [placements[chain[checked[chain][0]]].link for chain in chains]
        state.links = [_new_state(placement, rules) for placement in placements]
    elif not fits(placements, state):
        kinds = ", ".join(link.kind for link in state.links)
        raise ValueError(f"The state was created by {kinds}; {optimizer!r} cannot continue it. Create one with init.")
    bound = [
        BoundLink(placement.link, link_state, placement.owner, index)
        for index, (placement, link_state) in enumerate(zip(placements, state.links, strict=True))
    ]
    for one in bound:
        one.resolve(state)
        one.fill_slots(state, theta)
    _set_stages(bound, len(state.names))
    steps: dict[tuple[int, int], BoundLink] = {}
    whole = {}
    for chain, (rule, position) in checked.items():
        whole[chain] = _with_step([bound[index] for index in chain], rule, position, steps)
    return bound, [whole[chain] for chain in chains]


def _chains(placements: Sequence[Placement], n_blocks: int) -> list[tuple[int, ...]]:
    """Return for each block the indices of the links that it passes."""
    chains: list[list[int]] = [[] for _ in range(n_blocks)]
    for index, placement in enumerate(placements):
        for block in placement.blocks:
            chains[block].append(index)
    return list(map(tuple, chains))


def _with_step(
    chain: list[BoundLink], rule: int, position: int | None, steps: dict[tuple[int, int], BoundLink]
) -> tuple[BoundLink, ...]:
    """Return a chain with the engine's step, which shares the counts of the rule and runs with the link before."""
    if position is None:
        return tuple(chain)
    own, stage = chain[rule], chain[position - 1].stage
    if (own.index, stage) not in steps:
        shared = LinkState("Step", own.blocks, {}, own.records)
        steps[own.index, stage] = BoundLink(Step(), shared, "Step", ("step", own.index), stage)
    return (*chain[:position], steps[own.index, stage], *chain[position:])


def _set_stages(bound: Iterable[BoundLink], n_blocks: int) -> None:
    """Number the passes: a link that measures runs in the one after all that its blocks passed before.

    The step of another library has a pass of its own.
    """
    reached = [0] * n_blocks
    is_open = [True] * n_blocks  # nothing stands in that pass yet
    for link in bound:
        own = link.is_outside and not all(is_open[block] for block in link.blocks)
        link.stage = max(reached[block] for block in link.blocks) + (link.measures or own)
        for block in link.blocks:
            reached[block], is_open[block] = link.stage + link.is_outside, link.is_outside


def _new_state(placement: Placement, rules: Sequence[Any]) -> LinkState:
    """Return what a link remembers before its first run, still without arrays."""
    link, blocks, _ = placement
    # What a link measures differs from block to block, and so may what it remembers; else all that pass the
    # same rule, and so have the same rate, are in lockstep.
    groups: dict[Any, list[int]] = {}
    for block in blocks:
        group = None if link.scope == "all" else block if link.measures else id(rules[block])
        groups.setdefault(group, []).append(block)
    records = [(StepInfo(), tuple(group)) for group in groups.values()]
    kind = LinkState if link.stepper is None else OutsideState
    return kind(kind_of(link), blocks, {}, records, is_rule=is_rule(link))


def check_chain(links: Sequence[Any], name: str) -> tuple[int, int | None]:
    """Check the order of the links that one block passes.

    Parameters
    ----------
    links : list of Link
        In their order.
    name : str
        Of the block, for messages.

    Returns
    -------
    rule : int
        Position of the rule.
    step : int or None
        Position of the link before which the engine's step stands; None if a rule gives θ itself.

    Raises
    ------
    ValueError
        If there is no rule or more than one, or if the order does not fit.
    """
    kinds = [kind_of(link) for link in links]
    shown = f"{', '.join(kinds) or 'nothing'}" + (f" (parameter {name!r})" if name else "")
    rules = [position for position, link in enumerate(links) if is_rule(link)]
    if len(rules) != 1:
        what = " and ".join(kinds[rule] for rule in rules) or "none"
        raise ValueError(f"Each parameter needs exactly one rule (SGD, Adam, ...); found {what} in: {shown}.")
    flow, step = "gradient", None
    for position, link in enumerate(links):
        if link.takes == "theta" and flow == "gradient":
            if position < rules[0]:
                rule = kinds[rules[0]]
                raise ValueError(
                    f"{kinds[position]} takes the proposed θ, so it must come after the rule {rule}; got {shown}."
                )
            step, flow = position, "theta"
        if link.takes != flow or (link.takes, link.gives) == ("theta", "gradient"):
            raise ValueError(
                f"{kinds[position]} takes the gradient, but {kinds[position - 1]} gives θ: {shown}. Put "
                f"{kinds[position]} before {kinds[position - 1]}."
            )
        flow = link.gives
    return rules[0], len(links) if flow == "gradient" else step


class Fused(NamedTuple):
    """The links of one pass over a block: one kernel runs them.

    Attributes
    ----------
    links : tuple of BoundLink
    measures : bool
        Whether the last link does not run, but measures what comes to it.
    source : {"g", "flow"}
        Where the flow comes from: the gradient, or the pass before.
    target : {"flow", "theta", None}
        Where it goes to.
    """

    links: tuple[BoundLink, ...]
    measures: bool
    source: str
    target: str | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal if the operations are equal."""
        return tuple(link.key for link in self.links), self.measures, self.source, self.target

    @property
    def norms(self) -> bool:
        """Whether norms are measured, in place of sums."""
        return bool(self.links[-1].declared.norms)

    @property
    def uses_flow(self) -> bool:
        """Whether it reads or writes what flows from one pass to the next."""
        return "flow" in {self.source, self.target}

    def __str__(self) -> str:
        return ", ".join(type(link.declared).__name__ for link in self.links)
