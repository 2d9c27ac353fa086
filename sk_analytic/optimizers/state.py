"""The state of an optimizer, apart from its hyperparameters.

`State` is all that a resumed run needs, and all that is pickled. Programs, engine and scratch memory are rebuilt from
it and the optimizer when first needed.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from ..elsewhere import Elsewhere, bare
from ..exceptions import ParameterStructureError
from ..parameters import Layout, read_leaf, require_apart
from ..shared_memory import overlaps_itself
from ..sparse_gradients import SparseGradient, are_rows, is_sparse_gradient, read_sparse
from ..trust import trusted
from ..typing import Array, Shape

FLUSHED_AT_ONCE = 16384
"""Entries, so that what is computed on the way stays in the cache."""


@trusted
class StepInfo:
    """Information on a step for `Link.coefficients`. A link keeps one for all blocks that advance together.

    Attributes
    ----------
    t : int
        Number of steps of the link on these blocks, including this one: 1 in the first.
    memory : dict
        Floats that the link declares in its ``memory``; may be modified.
    sums : float or tuple of float
        Sums of the values of ``measures``, or their norms if the link sets ``norms``.
    rate : float
        Learning rate of the rule for these blocks.
    """

    __slots__ = ("memory", "rate", "sums", "t")

    def __init__(self, memory: dict[str, float] | None = None) -> None:
        self.t = 0
        self.memory = memory or {}
        self.sums: Any = 0.0
        self.rate = 0.0

    def copy(self) -> StepInfo:
        """Return a copy, for blocks whose step counts begin to differ."""
        twin = StepInfo(dict(self.memory))
        twin.t, twin.sums, twin.rate = self.t, self.sums, self.rate
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        for name, value in kept.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"StepInfo(t={self.t}, memory={self.memory})"


@trusted
class LinkState:
    """What one link in its place remembers.

    Attributes
    ----------
    kind : str
        Class of the link.
    blocks : tuple of int
        Blocks that pass it.
    slots : dict of ndarray
        Its arrays, each of the size and dtype of θ.
    records : list of tuple (StepInfo, tuple of int)
        Each with the blocks that it belongs to.
    is_rule : bool
        Whether it is the link that has the learning rate.
    """

    def __init__(
        self,
        kind: str,
        blocks: tuple[int, ...],
        slots: dict[str, Array],
        records: list[tuple[StepInfo, tuple[int, ...]]],
        is_rule: bool = False,
    ) -> None:
        self.kind, self.blocks, self.slots, self.records, self.is_rule = kind, blocks, slots, records, is_rule

    def copy(self, change: Callable[[Array], Array] = np.copy) -> LinkState:
        """Return what it remembers now; ``change`` is made to each slot."""
        slots = {name: change(slot) for name, slot in self.slots.items()}
        return LinkState(self.kind, self.blocks, slots, [(now.copy(), own) for now, own in self.records], self.is_rule)

    def not_finite(self, names: Sequence[str], slices: Sequence[slice]) -> tuple[str, list[str]]:
        """Name the first array, or number, that is not finite, and its blocks; empty if all are."""
        for name, slot in self.slots.items():
            if not is_finite(slot):
                where = zip(names, slices, strict=True)
                return f"{self.kind}.{name}", [b for b, entries in where if not np.isfinite(slot[entries]).all()]
        for now, blocks in self.records:
            for name, value in now.memory.items():
                if not math.isfinite(value):
                    return f"{self.kind}.{name}", [names[block] for block in blocks]
        return "", []

    def arrays(self) -> Iterable[Array]:
        """Return the arrays that are written in each step."""
        return self.slots.values()

    def average(self, others: Sequence[LinkState], shares: Sequence[float]) -> None:
        """Become the average of several of the same steps, this one among them."""
        for name, slot in self.slots.items():
            slot[...] = sum(share * other.slots[name] for share, other in zip(shares, others, strict=True))
        for index, (now, _) in enumerate(self.records):
            for name in now.memory:
                each = (other.records[index][0].memory[name] for other in others)
                now.memory[name] = sum(share * value for share, value in zip(shares, each, strict=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind}, slots={list(self.slots)}, records={self.records})"


class Stepper(Protocol):
    """An optimizer of another library, bound to the blocks of one θ.

    Attributes
    ----------
    learning_rate : float
        That of its last step; NaN if it is not known.
    """

    learning_rate: float

    def step(self, theta: Array, g: Array, blocks: Collection[int]) -> None:
        """Write a step of these blocks into θ."""

    def remembered(self) -> Any:
        """Return what it remembers now, in containers of arrays and numbers that go on unchanged."""

    def by_block(self) -> Iterator[tuple[str, tuple[int, ...], Array]]:
        """Yield what it remembers of entries: a name, the blocks that it is of, and an array, live."""

    def eval_params(self, theta: Array) -> Array:
        """Return the θ that predicts."""


@trusted
class OutsideState(LinkState):
    """What an optimizer of another library remembers, which it keeps itself as long as it steps.

    Attributes
    ----------
    kept : object
        What it remembered when this state was copied or written to a file; None before its first step.
    stepper : Stepper or None
        The live one; neither copied nor pickled.
    """

    kept: Any = None
    stepper: Stepper | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether it has said that its steps have a lower precision than θ."""
        return self.stepper is not None and getattr(self.stepper, "is_narrow", False)

    def remembered(self) -> Any:
        """Return what it remembers now."""
        return self.kept if self.stepper is None else self.stepper.remembered()

    def copy(self, change: Callable[[Array], Array] = np.copy) -> OutsideState:
        """Return what it remembers now."""
        twin = OutsideState(self.kind, self.blocks, {}, [(now.copy(), own) for now, own in self.records], self.is_rule)
        twin.kept = self.remembered()
        return twin

    def not_finite(self, names: Sequence[str], slices: Sequence[slice]) -> tuple[str, list[str]]:
        """Name the first array that is not finite, and its blocks; empty if all are."""
        for name, blocks, array in self.stepper.by_block() if self.stepper is not None else ():
            if not is_finite(array.reshape(-1)):
                return f"{self.kind}.{name}", [names[block] for block in blocks]
        return "", []

    def arrays(self) -> Iterable[Array]:
        """Return the arrays that are written in each step."""
        return [array.reshape(-1) for _, _, array in self.stepper.by_block()] if self.stepper is not None else []

    def average(self, others: Sequence[Any], shares: Sequence[float]) -> None:
        """Become the average of several of the same steps, this one among them."""
        self.kept = _averaged([other.kept for other in others], shares, self.kept)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "kept": self.remembered(), "stepper": None}


def _averaged(trees: Sequence[Any], shares: Sequence[float], own: Any) -> Any:
    """The average of containers of arrays of floats; what else is in them is one's own."""
    if isinstance(own, np.ndarray) and own.dtype.kind == "f":
        parts = (share * np.asarray(tree, own.dtype) for share, tree in zip(shares, trees, strict=True))
        return sum(parts, np.zeros_like(own))
    if isinstance(own, dict):
        return {key: _averaged([tree[key] for tree in trees], shares, value) for key, value in own.items()}
    if isinstance(own, list | tuple):
        items = [_averaged(parts, shares, part) for *parts, part in zip(*trees, own, strict=True)]
        return type(own)(*items) if hasattr(own, "_fields") else type(own)(items)
    return own


@trusted
class State:
    """State of an optimizer for one θ. After pickling, it continues bit for bit.

    Attributes
    ----------
    step : int
        Number of calls of ``update`` so far.
    epoch : int
        Number of complete passes over the data so far; set by the training loop, read by schedules.
    loss_curve : list of float
        Losses of the epochs so far; set by the training loop, read by schedules. In an estimator with early
        stopping, minus the validation scores.
    names : tuple of str
        Names of the parameter arrays (blocks).
    slices : tuple of slice
        Position of each block in the vector θ.
    size : int
        Number of entries of θ.
    dtype : dtype
        Dtype of θ and the slots.
    layout : Layout or None
        Structure of θ; None if θ is a vector.
    blocks : Layout or None
        Structure of θ if it is known, also if θ is a vector.
    links : list of LinkState
        States of the links, in order.
    grown : list of float or None
        Scales of links that start with tiny steps, at the last call of `Optimizer.is_growing`.
    notes : dict
        Cache of values that schedules computed from the loss curve; not pickled.
    """

    _leaves: list[Any]

    def __init__(
        self, names: Iterable[str], slices: Iterable[slice], size: int, dtype: DTypeLike, layout: Layout | Any = None
    ) -> None:
        self.names, self.slices, self.size, self.dtype = tuple(names), tuple(slices), size, np.dtype(dtype)
        self.shape = (size,)
        self.layout = self.blocks = layout
        self.step = self.epoch = 0
        self.loss_curve: list[float] = []
        self.links: list[LinkState] = []
        self.grown: list[float] | None = None
        self._drop_scratch()

    @classmethod
    def of(cls, theta: Any, blocks: Layout | None = None) -> tuple[State, Array]:
        """Return a state without links for a θ; also θ as a vector."""
        if blocks is not None or is_vector(theta):
            names, slices = (("",), (slice(0, theta.size),)) if blocks is None else (blocks.names, blocks.slices)
            state = cls(names, slices, theta.size, theta.dtype)
            state.blocks = blocks
            state.accept_theta(theta)
            return state, theta
        layout = Layout.of(theta, role="theta")
        state = cls(layout.names, layout.slices, layout.size, layout.dtype, layout)
        return state, state.read(theta)

    def is_like(self, other: State) -> bool:
        """Whether another state is of the same blocks, in the same dtype."""
        ours, theirs = ((s.names, s.slices, s.dtype, s.layout) for s in (self, other))
        return ours == theirs

    @property
    def learning_rates(self) -> dict[str, float]:
        """The learning rate of each block in the last update, by name; 0.0 before the first.

        Blocks of an optimizer that does not report its learning rate, as most of optax, are left out.
        """
        records = [record for link in self.links if link.is_rule for record in link.records]
        rates = {block: float(now.rate) for now, blocks in records for block in blocks}
        return {self.names[block]: rates[block] for block in sorted(rates) if not math.isnan(rates[block])}

    def copy(self) -> State:
        """Return the state as it is now, which shares nothing with this one that is written."""
        return self._twin(np.copy)

    def snapshot(self) -> State:
        """Return the state as it is now, to be read: its slots are read-only views, which go on changing."""
        return self._twin(_read_only)

    def _twin(self, change: Callable[[Array], Array]) -> State:
        twin = copy.copy(self)
        twin.loss_curve = list(self.loss_curve)
        twin.links = [link.copy(change) for link in self.links]
        return twin

    def return_to(self, other: State) -> None:
        """Become what another state of the same θ is, which is not to be used any more."""
        for name, value in other.__getstate__().items():
            setattr(self, name, value)
        self._drop_scratch()

    @staticmethod
    def averaged(states: Sequence[State], shares: Sequence[float]) -> State:
        """Return the average of states that have taken the same steps from the same one, with shares that sum to 1.

        Their counters are those of the one that took the most steps: a small chunk has no rows in some.
        """
        average = max(states, key=lambda state: state.step).copy()
        for place, link in enumerate(average.links):
            others = [state.links[place] for state in states]
            if any([own for _, own in other.records] != [own for _, own in link.records] for other in others):
                raise ValueError(
                    f"The state of {link.kind} cannot be averaged, because the chunks updated different parameters. "
                    "Return a gradient for every parameter in each batch."
                )
            link.average(others, shares)
        return average

    def steps_taken(self) -> tuple[int | None, float]:
        """Return the number of steps of the rules so far, and the largest rate of the last ones.

        Calls of ``update`` that a link holds back are no steps; an optimizer of the user's own may keep no records.
        """
        n_steps: int | None = None
        rate = 0.0
        for link in self.links:
            if link.is_rule:
                for now, _ in link.records:
                    n_steps = now.t if n_steps is None or now.t > n_steps else n_steps
                    rate = max(rate, abs(now.rate))
        return n_steps, rate

    def not_finite(self) -> tuple[str, list[str]]:
        """Name the first array, or number, of a link that is not finite, and its blocks; empty if all are."""
        found = (link.not_finite(self.names, self.slices) for link in self.links)
        return next(((name, blocks) for name, blocks in found if name), ("", []))

    def flush_denormals(self) -> None:
        """Set entries of slots that are too small for full precision to zero.

        Averages of entries without a gradient for many steps, such as those of dead pixels and unused rows, fall below
        the smallest normal number: Adam's after some 900 steps in float32, after 7,000 in float64. Many processors are
        far slower with such denormal numbers. The estimators call this method after each epoch; call it regularly in a
        custom training loop. Read-only slots, such as those of a `snapshot`, are not changed.

        Examples
        --------
        >>> import numpy as np
        >>> from sk_analytic.optimizers import SGD
        >>> theta, optimizer = np.ones(2), SGD(momentum=0.9)
        >>> state = optimizer.init(theta)
        >>> optimizer.update(state, theta, np.array([1.0, 1e-310]))
        >>> state.flush_denormals()
        >>> state.links[0].slots
        {'velocity': array([1., 0.])}
        """
        smallest = np.finfo(self.dtype).tiny
        for slot in (slot for link in self.links for slot in link.arrays() if slot.flags.writeable):
            for start in range(0, slot.size, FLUSHED_AT_ONCE):
                entries = slot[start : start + FLUSHED_AT_ONCE]
                entries[np.abs(entries) < smallest] = 0

    def forget_losses(self) -> None:
        """Let schedules compare later losses with none of the present ones, which were judged by something else."""
        self.loss_curve[-1:] = [math.inf for _ in self.loss_curve[-1:]]
        self.notes.clear()

    def restart(self) -> None:
        """Reset the counts of steps and epochs that schedules use; keep the state of the links."""
        self.step = self.epoch = 0
        self.loss_curve = []

    def new_slot(self, start: Any, theta: Any) -> Any:
        """Return memory like that of θ, filled with a number or with θ."""
        return np.full_like(theta, start, dtype=self.dtype, subok=False)

    def require_writable(self) -> None:
        """Raise if what links remember cannot be written to."""
        if not all(slot.flags.writeable for link in self.links for slot in link.slots.values()):
            raise ParameterStructureError(
                "The state is read-only, like optimizer_state_ of an estimator. Take steps with a copy, "
                "copy.deepcopy(state)."
            )

    def accept_theta(self, theta: Any) -> None:
        """Look at θ given as a vector, once for each array.

        Raises
        ------
        ParameterStructureError
            If it cannot be written in place, or has another shape or dtype than at ``init``.
        """
        if not is_vector(theta) or theta.shape != self.shape or theta.dtype != self.dtype:
            raise ParameterStructureError(
                f"theta is {_describe(theta)}; the state was created for an array of shape {self.shape} and "
                f"dtype {self.dtype}."
            )
        if not theta.flags.writeable:
            raise ParameterStructureError("theta is read-only, but update writes it in place. Pass a copy.")
        if isinstance(theta, np.ndarray) and overlaps_itself(theta):
            raise ParameterStructureError("theta has entries that share memory. Pass a copy.")
        self._theta: Any = theta

    @property
    def owner(self) -> Any:
        """The array that has the memory in which θ, a vector, lies."""
        return self._theta if self._theta.base is None else self._theta.base

    def accept_gradient(self, grads: Any) -> tuple[Array, tuple[SparseGradient, ...]]:
        """Return a gradient for a vector θ as an array of θ's dtype, and as sparse gradients; raise if it does not fit.

        A gradient in the memory that θ lies in is copied: θ is written piece by piece. Nothing is written here.
        """
        if len(self.names) == 1 and is_sparse_gradient(grads):
            sparse = read_sparse(grads, 0, self.slices[0], self.shape, self.dtype, self.names[0], "gradient")
            return np.zeros(self.shape, self.dtype), (sparse,)
        if type(grads) in (np.ndarray, Elsewhere) and grads.dtype is self.dtype and grads.shape == self.shape:
            array = grads
        else:
            array = read_leaf(grads, "", self.shape, "gradient").astype(self.dtype, copy=False)
        return (array.copy() if array is self._theta or array.base is self.owner else array), ()

    def accept_sparse(self, gradient: SparseGradient) -> SparseGradient:
        """Return a sparse gradient for a vector θ as `read_sparse` makes it; raise if it does not fit."""
        block, where, shape, rows, values, _ = gradient
        if values.dtype is self.dtype and values.shape == (rows.size, shape[1]) and are_rows(rows, shape[0]):
            return gradient
        return read_sparse((rows, values), block, where, shape, self.dtype, self.names[block], "gradient")

    def read(self, theta: Any, apart: Collection[int] = ()) -> Array:
        """Return a structure as a vector, after a look at whether it can be written back.

        The blocks ``apart`` are not copied: the step is taken on their leaves.
        """
        leaves = self.layout.leaves(theta, "theta")
        for name, shape, leaf in zip(self.names, self.layout.shapes, leaves, strict=True):
            self._require_writable(name, shape, leaf)
        if len(leaves) != len(self._leaves) or not all(map(operator.is_, leaves, self._leaves)):
            require_apart(self.names, leaves, "theta")
            self._leaves = leaves
        vector, blocks = self._buffer("theta")
        _copy(leaves, blocks, apart)
        return vector

    def read_gradient(self, grads: Any) -> tuple[Array, tuple[int, ...], tuple[SparseGradient, ...]]:
        """Return the gradient as a vector, the blocks for which it has none, and sparse gradients."""
        vector, blocks = self._buffer("gradient")
        return vector, *self.layout.read_gradient(grads, blocks)

    def write(self, theta: Any, apart: Collection[int] = ()) -> None:
        """Write the vector that `read` returned into the leaves of the structure."""
        _copy(self._buffer("theta")[1], self.layout.leaves(theta, "theta"), apart)

    def _buffer(self, name: str) -> tuple[Array, list[Array]]:
        """A vector for the structure, and the views on it that are its blocks."""
        if name not in self._buffers:
            vector = np.empty(self.size, self.dtype)
            self._buffers[name] = vector, self.layout.blocks(vector)
        return self._buffers[name]

    def _require_writable(self, name: str, shape: Shape, leaf: Any) -> None:
        if not isinstance(leaf, np.ndarray):
            reason = f"it is of type {type(leaf).__name__}; use an array, np.array({leaf!r})"
        elif leaf.shape != shape:
            reason = f"it has shape {leaf.shape}, and had {shape} at init"
        elif leaf.dtype not in (np.float32, np.float64):
            reason = f"its dtype is {leaf.dtype}; float32 or float64 is needed"
        elif leaf.dtype != self.dtype:
            reason = (
                f"its dtype is {leaf.dtype}, but that of the parameters is {self.dtype}; use the same dtype for all"
            )
        elif not leaf.flags.writeable:
            reason = "it is a read-only array; pass a copy"
        else:
            return
        raise ParameterStructureError(f"Parameter {name!r} of theta cannot be updated in place: {reason}.")

    def unbind(self) -> None:
        """Forget the written step: an optimizer, the vector θ and the function for which it holds."""
        self._bound: tuple[Any, Any, Any] = (None, None, None)

    def _drop_scratch(self) -> None:
        self._run: Any = None
        self._engine: Any = None
        self.unbind()
        self._theta = None
        self._leaves = []  # those that were found not to share memory
        self._buffers: dict[str, tuple[Array, list[Array]]] = {}
        self.notes: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "notes" and not name.startswith("_")}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        vars(self).update(kept)
        self._drop_scratch()

    def __repr__(self) -> str:
        return f"State(step={self.step}, epoch={self.epoch}, links={self.links})"


def _copy(sources: Iterable[Any], targets: Iterable[Any], apart: Collection[int]) -> None:
    """Copy all blocks but some."""
    for block, (source, target) in enumerate(zip(sources, targets, strict=True)):
        if block not in apart:
            target[...] = source


def is_finite(vector: Array) -> bool:
    """Whether all entries are finite; the square, which is faster, may overflow where none is infinite."""
    return math.isfinite(np.vdot(vector, vector)) or bool(np.isfinite(vector).all())


def _read_only(slot: Array) -> Array:
    view = slot.view()
    view.flags.writeable = False
    return bare(view)  # type: ignore[no-any-return]


def is_vector(theta: Any) -> bool:
    """Whether θ is a vector that can be updated as it is."""
    return isinstance(theta, np.ndarray | Elsewhere) and theta.ndim == 1 and theta.dtype in (np.float32, np.float64)


def _describe(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)} and dtype {value.dtype}"
    return f"of type {type(value).__name__}"
