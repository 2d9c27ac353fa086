"""From links in a row to passes over θ.

Each block of θ passes a row of links. A link that measures something needs all of what flows before it
goes on, so the row is cut there; between two cuts the links of a block form one `Leg`, which an engine
runs in one pass. Neighbouring blocks that do the same run as one.

All this is worked out once for every set of blocks that take part in a step (an `_Itinerary`), so that
a step only asks the links for their coefficients and runs the kernels.
"""

from __future__ import annotations

import copy
import numbers
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..hyperparameters import Hyperparameters
from ..sparse_gradients import SparseGradient, spread
from ..typing import Array
from ..validation import Interval, Range
from .compiled import engine_for
from .engines import MOST_KEPT
from .schedules import Schedule
from .state import LinkState, Now, State

if TYPE_CHECKING:
    from .engines import NumpyEngine


class Placement(NamedTuple):
    """A link, the blocks that pass it, and whose link it is, for messages."""

    link: Any
    blocks: tuple[int, ...]
    owner: str


class Step:
    """The engine's own link: the step against what flows, and the only place of rate and sign."""

    slots: dict[str, float] = {}
    measures = None
    accepts_sparse_grads = True

    @staticmethod
    def coefficients(now: Now) -> tuple[float, ...]:
        """Return the rate of the rule."""
        return (now.rate,)

    @staticmethod
    def formula(g: Array, theta: Array, rate: float) -> Array:
        """Return the proposed θ."""
        return theta - rate * g


class Leg(NamedTuple):
    """What a kernel does: the links of one pass, what is measured at its end, where the flow goes.

    Attributes
    ----------
    members : tuple of (link, list of ndarray)
        Each link with its slots.
    measures : bool
        Whether the last member does not run, but measures what comes to it.
    source : {"g", "flow"}
        Where the flow comes from: the gradient, or the pass before.
    target : {"flow", "theta", None}
        Where it goes to.
    key : tuple
        Equal for legs that can share a kernel.
    """

    members: tuple[Any, ...]
    measures: bool
    source: str
    target: str | None
    key: tuple[Any, ...]

    @property
    def uses_flow(self) -> bool:
        """Whether it reads or writes what flows from one pass to the next."""
        return "flow" in {self.source, self.target}

    def __str__(self) -> str:
        return ", ".join(type(link).__name__ for link, _ in self.members)


class _Placed:
    """A link in its place, with its part of the state."""

    def __init__(self, link: Any, state: LinkState, owner: str, index: Any) -> None:
        _require_static(link)
        self.declared, self.owner, self.index = link, owner, index
        self.blocks, self.records, self.slots = state.blocks, state.records, state.slots
        self.stage = 0
        self.schedules = {name: value for name, value in vars(link).items() if isinstance(value, Schedule)}
        self.measures = link.measures is not None
        # In `self` of coefficients, schedules are numbers: a copy of the link has them.
        self.link = copy.copy(link) if self.schedules else link

    @property
    def key(self) -> tuple[Any, ...]:
        """What decides the calls that a link makes, and on which arrays."""
        return self.index, self.declared.formula, self.declared.measures, tuple(self.declared.slots)

    def arrays(self) -> list[Array]:
        """Return the slots in the order in which the formula takes them."""
        return [self.slots[name] for name in self.declared.slots]

    def begins_in(self, stage: int) -> int | None:
        """Return the pass in which a run counts; the engine's step does not count, its rule does."""
        return None if isinstance(self.declared, Step) else stage - self.measures

    def resolve(self, state: State) -> None:
        """Put this step's numbers in the place of schedules."""
        resolve(self.link, self.schedules, state, self.owner)

    def now(self, block: int) -> Now:
        """Return the moment that a block shares."""
        return next(now for now, blocks in self.records if block in blocks)

    def split(self, running: Collection[int]) -> bool:
        """Part the blocks that run from those in lockstep with them that do not; return whether any were."""
        if self.declared.scope == "all":
            return False
        before = len(self.records)
        for now, blocks in list(self.records):
            going = tuple(block for block in blocks if block in running)
            if going and going != blocks:
                resting = tuple(block for block in blocks if block not in running)
                self.records.remove((now, blocks))
                self.records += [(now, going), (now.copy(), resting)]
        return len(self.records) > before


class _Run:
    """One run of a link on the blocks of one moment."""

    __slots__ = ("coefficients", "link", "now", "placed", "rule")

    def __init__(self, placed: _Placed, now: Now, rule: _Placed) -> None:
        self.placed, self.link, self.now, self.rule = placed, placed.link, now, rule
        self.coefficients: tuple[float, ...] = ()


class _Segment:
    """Neighbouring blocks on which a pass does the same, with the same coefficients."""

    def __init__(self, leg: Leg, runs: Sequence[_Run], measured: _Run | Any, where: slice, engine: NumpyEngine) -> None:
        self.leg, self.runs, self.measured, self.engine = leg, runs, measured, engine
        self.start, self.stop = where.start, where.stop
        self.kernel: Any = None

    def precedes(self, other: _Segment) -> bool:
        """Whether another segment goes on where this one ends, with the same runs to the same target."""
        ours, theirs = (
            (segment.runs, segment.measured, segment.leg.source, segment.leg.target) for segment in (self, other)
        )
        return self.stop == other.start and ours == theirs

    def run(self, g: Array, theta: Array) -> None:
        """Run the pass, and add what was measured to its sums."""
        coefficients: list[float] = []
        for run in self.runs:
            coefficients += run.coefficients
        kernel = self.kernel or self._compile()
        sums = kernel.run(g, theta, self.start, self.stop, coefficients)
        if self.measured is not None:
            self._keep(sums)

    def _keep(self, sums: Any) -> None:
        total = self.measured.now.sums
        self.measured.now.sums = [a + b for a, b in zip(total, sums, strict=True)] if total else sums

    def _compile(self) -> Any:
        self.kernel = self.engine.kernel(self.leg, [run.coefficients for run in self.runs])
        return self.kernel


class _RowsSegment(_Segment):
    """A block of which some rows have a gradient: a pass reads and writes these alone.

    ``given`` has the gradient of this step by the index of the block.
    """

    def __init__(
        self,
        leg: Leg,
        runs: Sequence[_Run],
        measured: _Run | Any,
        where: slice,
        engine: NumpyEngine,
        block: int,
        given: Any,
    ) -> None:
        super().__init__(leg, runs, measured, where, engine)
        self.block, self.given = block, given

    def precedes(self, other: _Segment) -> bool:
        """It is always alone."""
        return False

    def run(self, g: Array, theta: Array) -> None:
        """Run the pass on the rows, and add what was measured to its sums."""
        coefficients: list[float] = [number for run in self.runs for number in run.coefficients]
        kernel = self.kernel or self._compile()
        sums = kernel.run_rows(self.given[self.block], theta, coefficients)
        if self.measured is not None:
            self._keep(sums)


class _Stage:
    """A pass over all blocks: which links begin, which run, what is measured for the next."""

    def __init__(self, begins: Any, runs: Sequence[_Run], measures: Any, segments: list[_Segment]) -> None:
        self.begins, self.runs, self.measures, self.segments = begins, runs, measures, segments

    def run(self, g: Array, theta: Array) -> None:
        """Count, ask for coefficients, run, and keep the sums."""
        for run in self.begins:
            run.now.t += 1
            run.now.rate = run.rule.learning_rate
        for run in self.runs:
            run.coefficients = run.link.coefficients(run.now)
        for run in self.measures:
            run.coefficients = run.link.scales(run.now)
            run.now.sums = None
        for segment in self.segments:
            segment.run(g, theta)
        for run in self.measures:
            sums = run.now.sums
            run.now.sums = sums[0] if len(sums) == 1 else tuple(sums)


class Plan:
    """How the steps of an optimizer run on a state.

    Parameters
    ----------
    optimizer : Optimizer
    state : State
        Slots that a changed hyperparameter asks for are added to it.
    theta : ndarray of shape (state.size,)
        The vector from which slots may start.
    """

    def __init__(self, optimizer: Any, state: State, theta: Array) -> None:
        optimizer.check()
        self.optimizer, self.state = optimizer, state
        self._watched = [(vars(part), _snapshot(part)) for part in _parts(optimizer)]
        self._placed = self._place(optimizer, theta)
        self._scheduled = [placed for placed in self._placed if placed.schedules]
        self._gates = [placed for placed in self._placed if placed.declared.passes is not None]
        self._steps: dict[int, _Placed] = {}
        self._n_stages = self._set_stages()
        self._rows = [self._row(block, *checked) for block, checked in enumerate(self._checked)]
        self._itineraries: dict[Any, list[_Stage]] = {}
        self._by_rows = [all(placed.link.accepts_sparse_grads for _, placed in row) for row in self._rows]
        self._given: dict[int, SparseGradient] = {}  # the gradients by rows of this step
        if state._engine is None:
            state._engine = engine_for(state.size, state.dtype)
        self._engine = state._engine

    def is_stale(self, optimizer: Any) -> bool:
        """Whether this is a plan of another optimizer, or one of its hyperparameters changed."""
        for live, kept in self._watched:
            if live != kept:
                return True
        return self.optimizer is not optimizer

    def run(self, theta: Array, g: Array, missing: tuple[int, ...], sparse_grads: tuple[int, ...] = ()) -> None:
        """Update θ and the slots by one step; see `run_sparse` for the blocks ``sparse_grads``."""
        for placed in self._scheduled:
            placed.resolve(self.state)
        key = missing, self._closed() if self._gates else frozenset(), sparse_grads
        for stage in self._itineraries.get(key) or self._itinerary(*key):
            stage.run(g, theta)

    def kept_sparse(self, sparse_grads: tuple[SparseGradient, ...]) -> tuple[SparseGradient, ...]:
        """Return those of the gradients by rows for which the other rows of their blocks can be left out."""
        return tuple(gradient for gradient in sparse_grads if self._by_rows[gradient.block])

    def run_sparse(
        self, theta: Array, g: Array, missing: tuple[int, ...], sparse_grads: tuple[SparseGradient, ...]
    ) -> None:
        """Update θ and the slots by one step, of some blocks in the given rows only.

        Where a link needs all rows of a block, the others have a gradient of zero.
        """
        kept = self.kept_sparse(sparse_grads)
        if len(kept) < len(sparse_grads):
            g = np.array(g)
            spread(g, (gradient for gradient in sparse_grads if not self._by_rows[gradient.block]))
        self._given.clear()
        self._given.update((gradient.block, gradient) for gradient in kept)
        self.run(theta, g, missing, tuple(self._given))

    def is_growing(self) -> bool:
        """Whether what links let grow has grown by more than a tenth since the last call."""
        grown = [
            now.memory[placed.declared.grows]
            for placed in self._placed
            if placed.declared.grows
            for now, _ in placed.records
        ]
        before, self.state.grown = self.state.grown, grown
        return bool(grown) and (before is None or any(b > 1.1 * a for a, b in zip(before, grown, strict=False)))

    def eval_params(self, theta: Array) -> Array:
        """Return θ, with what links answer in its stead."""
        for placed in self._placed:
            slot = placed.slots.get(placed.declared.eval_slot)
            if slot is not None and len(placed.blocks) == len(self.state.names):
                theta = slot
            elif slot is not None:
                theta = theta.copy()
                for where in (self.state.slices[block] for block in placed.blocks):
                    theta[where] = slot[where]
        return theta

    def _place(self, optimizer: Any, theta: Array) -> list[_Placed]:
        """Return the links in their places, each with its part of the state, which is made if absent."""
        state = self.state
        placements = placements_of(optimizer, state)
        rows = [[one.link for one in placements if block in one.blocks] for block in range(len(state.names))]
        self._checked = [check_row(row, name) for row, name in zip(rows, state.names, strict=True)]
        if not state.links:
            rules = [row[rule] for row, (rule, _) in zip(rows, self._checked, strict=True)]
            state.links = [_new_state(placement, rules) for placement in placements]
        elif not fits(placements, state):
            kinds = ", ".join(link.kind for link in state.links)
            raise ValueError(f"The state was made by {kinds}; {optimizer!r} cannot go on with it. Make one by init.")
        placed = [
            _Placed(placement.link, link_state, placement.owner, index)
            for index, (placement, link_state) in enumerate(zip(placements, state.links, strict=True))
        ]
        for one in placed:
            one.resolve(state)
            _fill_slots(one, state, theta)
        return placed

    def _row(self, block: int, rule: int, position: int | None) -> list[Any]:
        """Return what a block passes, each with its stage; the engine's step included."""
        placed = [placed for placed in self._placed if block in placed.blocks]
        row = [(one.stage, one) for one in placed]
        if position is not None:
            row.insert(position, (row[position - 1][0], self._step_of(placed[rule])))
        return row

    def _step_of(self, rule: Any) -> _Placed:
        """Return the engine's step for the blocks of a rule, whose moments it shares."""
        if rule.index not in self._steps:
            shared = LinkState("Step", rule.blocks, {}, rule.records)
            self._steps[rule.index] = _Placed(Step(), shared, "Step", ("step", rule.index))
        return self._steps[rule.index]

    def _set_stages(self) -> int:
        """Number the passes: a link that measures runs in the one after all that its blocks passed before."""
        reached = [0] * len(self.state.names)
        for placed in self._placed:
            placed.stage = max(reached[block] for block in placed.blocks) + placed.measures
            for block in placed.blocks:
                reached[block] = placed.stage
        return max(reached) + 1

    def _closed(self) -> frozenset[tuple[int, int]]:
        """Return the gates that will not let the flow pass in this step."""
        return frozenset(
            (gate.index, block)
            for gate in self._gates
            for now, blocks in gate.records
            if not gate.link.passes(now.t + 1)
            for block in blocks
        )

    def _itinerary(
        self, missing: tuple[int, ...], closed: frozenset[tuple[int, int]], sparse_grads: tuple[int, ...]
    ) -> list[_Stage]:
        """Work out the passes for the blocks that have a gradient.

        Some end at a closed gate, and some have their gradient by rows.
        """
        rows = {
            block: _until_closed(row, closed, block) for block, row in enumerate(self._rows) if block not in missing
        }
        running: dict[Any, set[int]] = {}
        for block, row in rows.items():
            for _, placed in row:
                running.setdefault(placed, set()).add(block)
        # Itineraries that were made for larger groups in lockstep no longer hold. The step's are its rule's.
        splits = [placed.split(running[placed]) for placed in self._placed if placed in running]
        if any(splits) or len(self._itineraries) >= MOST_KEPT:
            self._itineraries.clear()
        visits = self._visits(rows)
        stages = [self._stage(number, visits, closed, sparse_grads) for number in range(self._n_stages)]
        self._itineraries[missing, closed, sparse_grads] = stages = [stage for stage in stages if stage.segments]
        return stages

    def _visits(self, rows: Any) -> dict[int, list[Any]]:
        """Return the runs that each block takes part in, each with its stage."""
        runs: dict[Any, _Run] = {}
        visits: dict[int, list[Any]] = {}
        for block, row in rows.items():
            rule = next(placed for _, placed in self._rows[block] if _is_rule(placed.declared)).link
            visits[block] = []
            for stage, placed in row:
                now = placed.now(block)
                run = runs.setdefault((placed, id(now)), _Run(placed, now, rule))
                visits[block].append((stage, run))
        return visits

    def _stage(
        self, number: int, visits: Any, closed: frozenset[tuple[int, int]], sparse_grads: tuple[int, ...]
    ) -> _Stage:
        """Return one pass over all blocks."""
        found = dict.fromkeys(visit for row in visits.values() for visit in row)
        begins = [run for stage, run in found if run.placed.begins_in(stage) == number]
        runs = [run for stage, run in found if stage == number]
        measures = [run for stage, run in found if stage == number + 1 and run.placed.measures]
        return _Stage(begins, runs, measures, self._segments(number, visits, closed, sparse_grads))

    def _segments(
        self, number: int, visits: Any, closed: frozenset[tuple[int, int]], sparse_grads: tuple[int, ...]
    ) -> list[_Segment]:
        """Return the segments of a pass; neighbours that do the same are one."""
        segments: list[_Segment] = []
        for block, row in visits.items():
            leg, runs, measured = _leg(number, row, ends=(row[-1][1].placed.index, block) in closed)
            if not runs:
                continue
            placed = leg, runs, measured, self.state.slices[block], self._engine
            segment = _RowsSegment(*placed, block, self._given) if block in sparse_grads else _Segment(*placed)
            if block not in sparse_grads and segments and segments[-1].precedes(segment):
                segments[-1].stop = segment.stop
            else:
                segments.append(segment)
        return segments


def _require_static(link: Any) -> None:
    """Raise if what is called once, to learn what it does, could see the hyperparameters, which may change."""
    for name in ("formula", "measures"):
        if isinstance(getattr(link, name), types.MethodType):
            giver = "coefficients" if name == "formula" else "scales"
            raise TypeError(
                f"{type(link).__name__}.{name} is a bound method: make it a @staticmethod, without self. "
                f"Hyperparameters reach it through `{giver}`; where they choose among several formulas, it is a "
                "property that returns one of these functions."
            )


def _leg(number: int, row: Any, ends: Any) -> tuple[Leg, list[_Run], _Run | Any]:
    """Return what a pass does for one block: its leg, its runs, and the run that measures."""
    members = [run for stage, run in row if stage == number]
    measured = next((run for stage, run in row if stage == number + 1 and run.placed.measures), None)
    is_last = all(stage <= number for stage, _ in row)
    target = None if not members or (is_last and ends) else "theta" if is_last else "flow"
    source = "flow" if any(stage < number for stage, _ in row) else "g"
    runs = members if measured is None else [*members, measured]
    key = tuple(run.placed.key for run in runs), measured is None, source, target
    described = tuple((run.placed.declared, run.placed.arrays()) for run in runs)
    return Leg(described, measured is not None, source, target, key), runs, measured


def _until_closed(row: list[Any], closed: frozenset[tuple[int, int]], block: int) -> list[Any]:
    """Return a row up to the first gate that is closed for the block."""
    for position, (_, placed) in enumerate(row):
        if (placed.index, block) in closed:
            return row[: position + 1]
    return row


def check_row(links: Sequence[Any], name: str) -> tuple[int, int | None]:
    """Look at the links that one block passes.

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
    kinds = [type(link).__name__ for link in links]
    shown = f"{', '.join(kinds) or 'nothing'}" + (f" (block {name!r})" if name else "")
    rules = [position for position, link in enumerate(links) if _is_rule(link)]
    if len(rules) != 1:
        what = " and ".join(kinds[rule] for rule in rules) or "none"
        raise ValueError(f"Every block of θ passes exactly one rule (SGD, Adam, ...); found {what} in: {shown}.")
    flow, step = "gradient", None
    for position, link in enumerate(links):
        if link.takes == "theta" and flow == "gradient":
            if position < rules[0]:
                rule = kinds[rules[0]]
                raise ValueError(
                    f"{kinds[position]} takes the proposed θ, so it stands after the rule {rule}: {shown}."
                )
            step, flow = position, "theta"
        if link.takes != flow or (link.takes, link.gives) == ("theta", "gradient"):
            raise ValueError(f"{kinds[position]} takes the gradient; after {kinds[position - 1]} flows θ: {shown}.")
        flow = link.gives
    return rules[0], len(links) if flow == "gradient" else step


def placements_of(optimizer: Any, state: State) -> list[Placement]:
    """Return where the links of an optimizer stand on the blocks of a state."""
    placements = optimizer.place({name: index for index, name in enumerate(state.names)})
    return [placement for placement in placements if placement.blocks]


def fits(placements: Iterable[Placement], state: State) -> bool:
    """Whether a state is that of these links."""
    ours = [(type(placement.link).__name__, placement.blocks) for placement in placements]
    return ours == [(link.kind, link.blocks) for link in state.links]


def resolve(link: Any, schedules: Mapping[str, Schedule], state: State, owner: str) -> None:
    """Set the hyperparameters of a link that are schedules to this step's numbers."""
    for name, schedule in schedules.items():
        value = schedule.at(state)
        allowed = link.ranges.get(name)
        if not _is_admissible(value, allowed):
            expected = f"a number in {allowed}" if allowed else "a number"
            raise ValueError(
                f"{owner}: the schedule {schedule!r} of {name} gave {value!r} at step {state.step}, "
                f"epoch {state.epoch}; expected {expected}."
            )
        setattr(link, name, value)


def _is_admissible(value: Any, allowed: Range | None) -> bool:
    if not isinstance(allowed, Interval):
        return isinstance(value, numbers.Real | np.bool_) and not np.isnan(float(value))
    # Nearly all values take the short way; `admits` is as long as a whole step of a small θ.
    inside = type(value) is float and not allowed.integral and allowed.low < value < allowed.high
    return inside or allowed.admits(value)


def _new_state(placement: Placement, rules: Any) -> LinkState:
    """Return what a link remembers before its first run; `_fill_slots` adds the arrays."""
    link, blocks, _ = placement
    # What a link measures differs from block to block, and so may what it remembers; else all that pass the
    # same rule, and so have the same rate, are in lockstep.
    groups: dict[Any, tuple[Any, ...]] = {}
    for block in blocks:
        group = None if link.scope == "all" else block if link.measures else id(rules[block])
        groups[group] = (*groups.get(group, ()), block)
    records = [(Now(), group) for group in groups.values()]
    return LinkState(type(link).__name__, blocks, {}, records, is_rule=_is_rule(link))


def _fill_slots(placed: _Placed, state: State, theta: Array) -> None:
    """Give a link the slots and the memory that it declares and does not have yet."""
    for name, start in placed.declared.slots.items():
        if name not in placed.slots:
            value = theta if start == "theta" else _number(start, placed.link)
            placed.slots[name] = np.full(state.size, value, state.dtype)
    for now, _ in placed.records:
        for name, start in placed.declared.memory.items():
            now.memory.setdefault(name, _number(start, placed.link))


def _number(start: Any, link: Any) -> float:
    return float(getattr(link, start) if isinstance(start, str) else start)


def _is_rule(link: Any) -> bool:
    return hasattr(link, "learning_rate")


def _parts(value: Any) -> Iterator[Hyperparameters]:
    """Yield the objects of hyperparameters of which something is made, itself first."""
    if isinstance(value, Hyperparameters):
        yield value
        value = list(vars(value).values())
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for child in value:
            yield from _parts(child)


def _snapshot(part: Hyperparameters) -> dict[str, Any]:
    """Return the hyperparameters of an object, with lists and dicts as they are now."""
    kept = vars(part).items()
    return {name: copy.copy(value) if isinstance(value, list | dict) else value for name, value in kept}
