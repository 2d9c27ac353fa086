"""Run: what an update calls.

A `Run` belongs to one optimizer with its present hyperparameters and to one state. It keeps a `Program` for each set
of blocks that has taken part in a step. For the common step, all blocks of a vector, the program is written down with
all that surrounds it: whether a hyperparameter changed, schedules, the count of steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ...elsewhere import Elsewhere
from ...exceptions import ParameterStructureError
from ...hyperparameters import Hyperparameters
from ...sparse_gradients import SparseGradient, spread
from ...typing import Array
from ..state import State
from .array_kernel import array_engine_for
from .links import BoundLink, bind, is_rule
from .many_steps import ManySteps, NotCompiledError
from .numba_kernel import engine_for
from .numpy_kernel import MOST_KEPT
from .program import Program, Writer, build

INLINE = 16
"""Objects of hyperparameters that are compared in the written step itself; more of them in a loop."""


class Run:
    """How the steps of an optimizer run on a state.

    Parameters
    ----------
    optimizer : Optimizer
    state : State
        Slots that a changed hyperparameter asks for are added to it.
    theta : ndarray of shape (state.size,)
        The vector from which slots may start.

    Attributes
    ----------
    leaves_out : list of bool
        For each block, whether rows without a gradient can be left out.
    """

    def __init__(self, optimizer: Any, state: State, theta: Array) -> None:
        optimizer.check()
        self.optimizer, self.state = optimizer, state
        self._watched = [(vars(part), _snapshot(part)) for part in parts_of(optimizer)]
        self._links, self._chains = bind(optimizer, state, theta)
        self._scheduled = [link for link in self._links if link.schedules]
        self._gates = [link for link in self._links if link.declared.passes is not None]
        of_chain = {chain: traits(chain) for chain in dict.fromkeys(self._chains)}
        self._rules = [of_chain[chain][0] for chain in self._chains]
        self.leaves_out = [of_chain[chain][1] for chain in self._chains]
        self._programs: dict[Any, Program] = {}
        self._given: dict[int, SparseGradient] = {}  # the sparse gradients of this step
        if state._engine is None:
            is_elsewhere = isinstance(theta, Elsewhere)
            state._engine = array_engine_for(theta) if is_elsewhere else engine_for(state.size, state.dtype)
        self._engine = state._engine

    def is_stale(self, optimizer: Any) -> bool:
        """Whether this is a run of another optimizer, or one of its hyperparameters changed."""
        return self.optimizer is not optimizer or self._has_changed()

    def _has_changed(self) -> bool:
        return any(live != kept for live, kept in self._watched)

    def step(self, theta: Any, g: Any, missing: tuple[int, ...], sparse_grads: tuple[int, ...] = ()) -> None:
        """Update θ and the slots by one step; see `step_sparse` for the blocks ``sparse_grads``."""
        for link in self._scheduled:
            link.resolve(self.state)
        key = missing, self._closed() if self._gates else frozenset(), sparse_grads
        program = self._programs.get(key) or self._program(*key)
        program(theta, g)

    def kept_sparse(self, sparse_grads: tuple[SparseGradient, ...]) -> tuple[SparseGradient, ...]:
        """Return those of the sparse gradients for which the other rows of their blocks can be left out."""
        return tuple(gradient for gradient in sparse_grads if self.leaves_out[gradient.block])

    def step_sparse(
        self, theta: Array, g: Array, missing: tuple[int, ...], sparse_grads: tuple[SparseGradient, ...]
    ) -> None:
        """Update θ and the slots by one step, of some blocks in the given rows only.

        Where a link needs all rows of a block, the others have a gradient of zero.
        """
        kept = self.kept_sparse(sparse_grads)
        if len(kept) < len(sparse_grads):
            g = np.array(g)
            spread(g, (gradient for gradient in sparse_grads if not self.leaves_out[gradient.block]))
        self._given.clear()
        self._given.update((gradient.block, gradient) for gradient in kept)
        self.step(theta, g, missing, tuple(self._given))

    def written(self, theta: Array, otherwise: Callable[[Array], None]) -> Callable[[Array], None] | None:
        """Return the common step as one function of the gradient, or None if it cannot be written, or not yet.

        Parameters
        ----------
        theta : ndarray of shape (state.size,)
        otherwise : callable
            What the function calls instead if its gradient is of another kind, or something changed.
        """
        program = self._programs.get(((), frozenset(), ()))
        if self._gates or program is None or not program.can_be_written:
            return None
        writer = Writer()
        name = writer.name
        conditions = [
            f"type(g) is not {name('kind', np.ndarray if isinstance(theta, np.ndarray) else type(theta))}",
            f"g.shape != {name('shape', self.state.shape)}",
            f"g.dtype is not {name('dtype', self.state.dtype)} and g.dtype != {name('dtype', self.state.dtype)}",
            f"g is {name('theta', theta)} or g.base is {name('owner', self.state.owner)}",
            *self._changes(writer),
        ]
        if (limit := program.limit) < np.inf:
            conditions.append(f"{name('engine', self._engine)}.seconds > {limit!r}")
        writer.lines = [f"if {' or '.join(conditions)}:", f"    return {name('otherwise', otherwise)}(g)"]
        state = name("state", self.state)
        writer.lines += [f"{name('bound', link)}.resolve({state})" for link in self._scheduled]
        writer.last_lines = [f"{state}.step += 1"]
        return program.write(theta, writer)

    def many_steps(self, missing: tuple[int, ...]) -> ManySteps:
        """Return the step of some blocks for a compiled epoch.

        Raises
        ------
        NotCompiledError
            If a step is more than one kernel after the other with coefficients that are known before.
        """
        for link in self._links:
            name = type(link.declared).__name__
            if link.is_outside:
                raise NotCompiledError(f"{link.declared!r} is an optimizer of another library; use one of sk_analytic")
            if link.measures:
                raise NotCompiledError(f"{name} measures the gradient before each step; leave it out of the optimizer")
            if link.declared.passes is not None:
                raise NotCompiledError(f"{name} does not pass on every gradient; leave it out of the optimizer")
        key = missing, frozenset[tuple[int, int]](), ()
        program = self._programs.get(key) or self._program(*key)
        if not program.passes:
            raise NotCompiledError("all parameters are fixed, so there is nothing to train")
        return ManySteps(self.state, self._scheduled, program)

    def _changes(self, writer: Writer) -> list[str]:
        """Return conditions that hold once a hyperparameter has changed."""
        if len(self._watched) > INLINE:
            return [f"{writer.name('has_changed', self._has_changed)}()"]
        return [f"{writer.name('live', live)} != {writer.name('kept', kept)}" for live, kept in self._watched]

    def is_growing(self) -> bool:
        """Whether what links let grow has grown by more than a tenth since the last call."""
        grown = [
            now.memory[link.declared.grows] for link in self._links if link.declared.grows for now, _ in link.records
        ]
        before, self.state.grown = self.state.grown, grown
        return bool(grown) and (before is None or any(b > 1.1 * a for a, b in zip(before, grown, strict=False)))

    def eval_params(self, theta: Any) -> Any:
        """Return θ, with what links answer in its stead."""
        return eval_params(self._links, self.state, theta)

    def _closed(self) -> frozenset[tuple[int, int]]:
        """Return the gates that will not let the flow pass in this step."""
        return frozenset(
            (gate.index, block)
            for gate in self._gates
            for now, blocks in gate.records
            if not gate.link.passes(now.t + 1)
            for block in blocks
        )

    def _program(
        self, missing: tuple[int, ...], closed: frozenset[tuple[int, int]], sparse_grads: tuple[int, ...]
    ) -> Program:
        """Make the program of the blocks that have a gradient, some of them in some rows only."""
        self.state.require_writable()
        absent = frozenset(missing)
        if unknown := absent.difference(range(len(self._chains))):
            raise ParameterStructureError(
                f"missing has parameter {min(unknown)}; theta has parameters 0 to {len(self._chains) - 1}."
            )
        chains = {
            block: until_closed(chain, closed, block) if closed else chain
            for block, chain in enumerate(self._chains)
            if block not in absent
        }
        running: dict[BoundLink, set[int]] = {}
        for block, chain in chains.items():
            for link in chain:
                running.setdefault(link, set()).add(block)
        # Programs that were made for larger groups in lockstep no longer hold. The step's are its rule's.
        splits = [link.split(running[link]) for link in self._links if link in running]
        if any(splits) or len(self._programs) >= MOST_KEPT:
            self._programs.clear()
            self.state.unbind()
        given = self._given if sparse_grads else {}
        program = build(chains, self._rules, self.state.slices, self._engine, closed, given)
        self._programs[missing, closed, sparse_grads] = program
        return program


def eval_params(links: Iterable[BoundLink], state: State, theta: Any) -> Any:
    """Return θ, with what links answer in its stead."""
    for link in links:
        if link.is_outside:
            theta = link.link.eval_params(theta)
            continue
        slot = link.slots.get(link.declared.eval_slot)
        if slot is not None and len(link.blocks) == len(state.names):
            theta = slot
        elif slot is not None:
            theta = theta.copy()
            for where in (state.slices[block] for block in link.blocks):
                theta[where] = slot[where]
    return theta


def traits(chain: tuple[BoundLink, ...]) -> tuple[Any, bool]:
    """Return the rule of a chain, and whether all its links can leave rows without a gradient out."""
    rule = next(link.link for link in chain if is_rule(link.declared))
    return rule, all(link.link.accepts_sparse_grads for link in chain)


def until_closed(chain: tuple[BoundLink, ...], closed: Any, block: int) -> tuple[BoundLink, ...]:
    """Return a chain up to the first gate that is closed for the block."""
    for position, link in enumerate(chain):
        if (link.index, block) in closed:
            return chain[: position + 1]
    return chain


def parts_of(value: Any) -> Iterator[Hyperparameters]:
    """Yield the objects of hyperparameters of which something is made, itself first."""
    if isinstance(value, Hyperparameters):
        yield value
        value = list(vars(value).values())
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for child in value:
            yield from parts_of(child)


def _snapshot(part: Hyperparameters) -> dict[str, Any]:
    """Return the hyperparameters of an object, with lists and dicts as they are now."""
    kept = vars(part).items()
    return {name: copy.copy(value) if isinstance(value, list | dict) else value for name, value in kept}
