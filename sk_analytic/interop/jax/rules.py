"""Update rules of this package as an ``optax.GradientTransformation``.

A step is built while jax traces it: the passes of the program, and in them the recorded operations of the formulas,
repeated by functions of ``jax.numpy``. There is one formula for each rule, here as in NumPy and in numba.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...optimizers.driven import driven
from ...optimizers.engine.blocks import BlockState, ReplayEngine
from ...optimizers.engine.links import bind
from ...optimizers.engine.program import build
from ...optimizers.engine.run import eval_params as evaluated
from ...optimizers.engine.run import traits, until_closed
from ...optimizers.engine.trace import copied, where
from ...optimizers.schedules import Schedule
from ...optimizers.state import StepInfo
from .scalars import Scalar, Scalars, as_number, number_dtype

MOST_GATES = 6
"""Links such as `Accumulate` that open independently of each other: a step is compiled for each combination."""


class LinkValues(NamedTuple):
    """What one link remembers, as a tree of jax.

    Attributes
    ----------
    step : tuple of Array
        Number of runs, for each group of blocks in lockstep.
    memory : tuple of dict
        Numbers, likewise.
    slots : dict
        By name, each of the structure of the parameters.
    """

    step: tuple[Any, ...]
    memory: tuple[dict[str, Any], ...]
    slots: dict[str, Any]


class RuleState(NamedTuple):
    """State of a rule under optax: the number of steps, and what each link remembers."""

    step: Any
    links: tuple[LinkValues, ...]


def as_gradient_transformation(optimizer: Any = "adam") -> optax.GradientTransformation:
    """Return an update rule or chain of this package as a ``GradientTransformation`` of optax.

    Its ``update(grads, state, params)`` requires the parameters, and returns the change of the parameters, which
    ``optax.apply_updates`` adds. It works under ``jax.jit``, in ``lax.scan`` and in ``optax.chain``.

    Parameters
    ----------
    optimizer : str or Optimizer, default="adam"
        A name from `get_optimizer_names`, or an instance, which is copied.

    Returns
    -------
    transformation : optax.GradientTransformation
        Its ``init`` returns the state, and its ``update`` the change of the parameters and the new state.

    Raises
    ------
    TypeError
        If the optimizer is not an update rule or a chain, such as L-BFGS.
    ValueError
        If a schedule counts epochs or depends on the loss, which optax does not report to the transformation.

    Notes
    -----
    The formulas are the same as in the estimators. The arrays of the state have the dtypes of the parameters.
    Coefficients are computed in float64 if ``jax_enable_x64`` is set, and otherwise in float32, in which Adam's
    corrections of the first steps lose up to four digits, as they do in optax.

    Coefficients and schedules of your own may branch on the step number. If they require it as a Python float, as
    ``math.sin`` does, jax calls them on the host in each step (``jax.pure_callback``); ``np.sin`` is compiled.

    `PerBlock` refers to parameters by the path of a leaf, such as ``"params.Dense_0"``.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from sk_analytic.interop.jax import as_gradient_transformation
    >>> from sk_analytic.optimizers import Lion
    >>> transformation = as_gradient_transformation(Lion(learning_rate=0.5))
    >>> params = {"slope": jnp.array([1.0, 2.0])}
    >>> state = transformation.init(params)
    >>> grads = {"slope": jnp.array([3.0, -1.0])}
    >>> updates, state = jax.jit(transformation.update)(grads, state, params)
    >>> optax.apply_updates(params, updates)["slope"].tolist()
    [0.5, 2.5]
    """
    steps = _Steps(driven(optimizer, "optax"))
    return optax.GradientTransformation(steps.init, steps.update)


def eval_params(optimizer: Any, state: RuleState, params: Any) -> Any:
    """Return the parameters to predict with: averages if a link keeps them, otherwise ``params``.

    Parameters
    ----------
    optimizer : str or Optimizer
        The optimizer that was passed to `as_gradient_transformation`.
    state : RuleState
        State of the transformation.
    params : object
        Current parameters.

    Returns
    -------
    params : object
        Parameters in the same structure.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sk_analytic.interop.jax import as_gradient_transformation, eval_params
    >>> params = jnp.array([1.0])
    >>> state = as_gradient_transformation("schedule_free_sgd").init(params)
    >>> eval_params("schedule_free_sgd", state, params).tolist()
    [1.0]
    """
    return _Steps(driven(optimizer, "optax")).eval_params(state, params)


class _Steps:
    """``init`` and ``update`` of a transformation."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def init(self, params: Any) -> RuleState:
        """Return a new state."""
        bound = _Bound(self._optimizer, *_named(params), Scalars())
        return RuleState(jnp.zeros((), jnp.int32), bound.values(jax.tree.structure(params)))

    def update(self, updates: Any, state: RuleState, params: Any = None) -> tuple[Any, RuleState]:
        """Return the new parameters minus the present ones, and the new state."""
        if params is None:
            raise ValueError(
                "The update rules of sk_analytic require the parameters: call update(grads, state, params)."
            )
        names, theta = _named(params)
        structure = jax.tree.structure(params)
        if jax.tree.structure(updates) != structure:
            raise ValueError(
                f"The gradients have the structure {jax.tree.structure(updates)}; the parameters have {structure}."
            )
        g = [
            grad.astype(leaf.dtype)
            for grad, leaf in zip(map(jnp.asarray, jax.tree.leaves(updates)), theta, strict=True)
        ]
        new, links = self._advance(names, theta, g, state)
        changes = [after - before for after, before in zip(new, theta, strict=True)]
        return jax.tree.unflatten(structure, changes), RuleState(state.step + 1, links)

    def _advance(self, names: Sequence[str], theta: list[Any], g: list[Any], state: RuleState) -> tuple[Any, Any]:
        """Take the step that the gates let pass: each combination of them is a branch of its own."""
        gates = _Bound(self._optimizer, names, theta, Scalars(), state).gates()
        if len(gates) > MOST_GATES:
            raise ValueError(
                f"{len(gates)} links, such as Accumulate, skip steps independently of each other; at most {MOST_GATES} "
                "can be compiled."
            )
        structure = jax.tree.structure(state.links)

        def step(closed: frozenset[Any], operands: Any) -> tuple[Any, Any]:
            theta, g, state = operands
            bound = _Bound(self._optimizer, names, list(theta), Scalars(), state)
            return bound.step(g, closed), bound.values(None, structure)

        def choose(closed: frozenset[Any], left: list[Any], operands: Any) -> tuple[Any, Any]:
            if not left:
                return step(closed, operands)
            (is_open, places), *rest = left
            return jax.lax.cond(  # type: ignore[no-any-return]
                is_open, lambda o: choose(closed, rest, o), lambda o: choose(closed | places, rest, o), operands
            )

        return choose(frozenset(), gates, (theta, g, state))

    def eval_params(self, state: RuleState, params: Any) -> Any:
        """Return the parameters that predict."""
        names, theta = _named(params)
        bound = _Bound(self._optimizer, names, theta, Scalars(), state)
        return jax.tree.unflatten(jax.tree.structure(params), evaluated(bound.links, bound.state, theta))


def _named(params: Any) -> tuple[list[str], list[Any]]:
    """Return the leaves of the parameters as arrays, and their names."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    names = [".".join(str(_key(part)) for part in path) for path, _ in leaves]
    arrays = [jnp.asarray(leaf) for _, leaf in leaves]
    if not arrays:
        raise ValueError(f"The parameters have no leaves; got {params!r}.")
    for name, array in zip(names, arrays, strict=True):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"Parameter {name!r} has dtype {array.dtype}; expected real floats.")
    return names, arrays


def _key(part: Any) -> Any:
    for attribute in ("key", "idx", "name"):
        if hasattr(part, attribute):
            return getattr(part, attribute)
    return part


class _Bound:
    """The links of an optimizer, bound to what a state of optax has for them."""

    def __init__(
        self,
        optimizer: Any,
        names: Sequence[str],
        theta: list[Any],
        scalars: Scalars,
        kept: RuleState | None = None,
    ) -> None:
        self.theta, self.scalars = theta, scalars
        self._engine = ReplayEngine(_Jax(scalars), theta)
        self.state = BlockState(names, self._engine)
        self.links, self.chains = bind(optimizer, self.state, theta)
        if any(link.declared.passes is not None for link in self.links):
            self._part()
        if kept is not None:
            self._take(kept)

    def _part(self) -> None:
        """Count for each block by itself, so that the state has one structure whatever a gate lets pass."""
        for link in self.links:
            if link.declared.scope != "all":
                link.records[:] = [(now.copy(), (block,)) for now, blocks in link.records for block in blocks]

    def _take(self, kept: RuleState) -> None:
        """Put the values of a state in their places, and this step's numbers in that of schedules."""
        for link, values in zip(self.links, kept.links, strict=True):
            for name, tree in values.slots.items():
                link.slots[name][:] = jax.tree.leaves(tree)
            for (now, _), step, memory in zip(link.records, values.step, values.memory, strict=True):
                symbols: Any = now  # which has numbers, but for coefficients under jit
                symbols.t = self.scalars.of(step)
                symbols.memory = {name: self.scalars.of(value) for name, value in memory.items()}
        count = self.scalars.of(kept.step)
        rates = {id(s): self._scheduled(s, count) for link in self.links for s in link.schedules.values()}
        for link in self.links:
            for name, schedule in link.schedules.items():
                setattr(link.link, name, rates[id(schedule)])
            link.link = _Branching(link.link, self.scalars, link.schedules)

    def _scheduled(self, schedule: Any, count: Scalar) -> Any:
        try:
            return self.scalars.run(lambda: schedule.at(_Count(count)))
        except Exception:  # whatever it needs the number for: the host has it

            def on_host(step: Any) -> Any:
                return np.asarray(schedule.at(_Count(int(step))), number_dtype())

            shape = jax.ShapeDtypeStruct((), number_dtype())
            return self.scalars.of(jax.pure_callback(on_host, shape, count.value, vmap_method="sequential"))

    def gates(self) -> list[tuple[Any, frozenset[Any]]]:
        """Return whether each gate opens in this step, with the gate and its blocks; those in lockstep together."""
        found: dict[Any, tuple[Any, set[Any]]] = {}
        nows = {(link.index, block): now for link in self.links for now, blocks in link.records for block in blocks}
        for block, chain in enumerate(self.chains):
            passed: tuple[Any, ...] = ()
            for link in (link for link in chain if getattr(link.declared, "passes", None) is not None):
                passed = *passed, link.index
                now = nows[link.index, block]
                if passed not in found:
                    opens = self.scalars.run(functools.partial(_opens, link.link, now))
                    found[passed] = as_number(opens) != 0, set()
                found[passed][1].add((link.index, block))
        return [(opens, frozenset(places)) for opens, places in found.values()]

    def step(self, g: Sequence[Any], closed: frozenset[Any]) -> list[Any]:
        """Return the new θ; the links have their new values then."""
        rules = [traits(chain)[0] for chain in self.chains]
        chains = {block: until_closed(chain, closed, block) for block, chain in enumerate(self.chains)}
        program = build(chains, rules, self.state.slices, self._engine, closed, {})  # type: ignore[arg-type]
        program(self.theta, g)  # type: ignore[arg-type]
        return self.theta

    def values(self, params: Any, structure: Any = None) -> tuple[LinkValues, ...]:
        """Return what the links remember, with slots of the structure of the parameters, or of a whole state."""
        links = []
        for link in self.links:
            step = tuple(jnp.asarray(_plain(now.t), jnp.int32) for now, _ in link.records)
            memory = tuple({k: as_number(value) for k, value in now.memory.items()} for now, _ in link.records)
            slots = (
                dict(link.slots)
                if params is None
                else {name: jax.tree.unflatten(params, values) for name, values in link.slots.items()}
            )
            links.append(LinkValues(step, memory, slots))
        return tuple(links) if structure is None else jax.tree.unflatten(structure, jax.tree.leaves(tuple(links)))


def _opens(gate: Any, now: StepInfo) -> Any:
    return gate.passes(now.t + 1)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Scalar) else value


class _Count:
    """What a schedule sees of a state: the number of steps."""

    epoch = 0
    loss_curve: Sequence[float] = ()

    def __init__(self, step: Any) -> None:
        self.step = step
        self.notes: dict[Any, Any] = {}


class _Branching:
    """A link whose coefficients are had for symbols: compiled if they can be, else asked of the host."""

    def __init__(self, link: Any, scalars: Scalars, schedules: Mapping[str, Schedule]) -> None:
        self._link, self._scalars, self._schedules = link, scalars, schedules

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def coefficients(self, now: StepInfo) -> tuple[Any, ...]:
        """Return the coefficients, and write to the memory."""
        return self._ask("coefficients", now)

    def scales(self, now: StepInfo) -> tuple[Any, ...]:
        """Return the scales."""
        return self._ask("scales", now)

    def _ask(self, method: str, now: StepInfo) -> tuple[Any, ...]:
        def ask() -> tuple[Any, dict[str, Any]]:
            twin = now.copy()
            return tuple(getattr(self._link, method)(twin)), twin.memory

        try:
            numbers, memory = self._scalars.run(ask)
        except Exception:  # whatever it needs floats for: the host has them
            numbers, memory = self._on_host(method, now)
        now.memory = memory
        return numbers  # type: ignore[no-any-return]

    def _on_host(self, method: str, now: StepInfo) -> tuple[Any, dict[str, Any]]:
        sums = now.sums if isinstance(now.sums, tuple) else (now.sums,)
        given = (
            _plain(now.t),
            {name: as_number(value) for name, value in now.memory.items()},
            [as_number(0.0 if value is None else value) for value in sums],
            as_number(now.rate),
            {name: as_number(getattr(self._link, name)) for name in self._schedules},
        )

        def ask(t: Any, memory: Any, sums: Any, rate: Any, settings: Any) -> tuple[tuple[float, ...], StepInfo]:
            link, info = copy.copy(self._link), StepInfo({name: float(value) for name, value in memory.items()})
            vars(link).update({name: float(value) for name, value in settings.items()})
            info.t, info.rate = int(t), float(rate)
            info.sums = tuple(map(float, sums)) if isinstance(now.sums, tuple) else float(sums[0])
            return getattr(link, method)(info), info

        def on_host(*given: Any) -> Any:
            numbers, info = ask(*given)
            return np.array(numbers, dtype), {name: np.asarray(v, dtype) for name, v in info.memory.items()}

        dtype = number_dtype()
        first = {name: schedule(0, 0) for name, schedule in self._schedules.items()}
        sample = 1, dict.fromkeys(now.memory, 1.0), [1.0] * len(sums), 1.0, first
        count = len(ask(*sample)[0])
        number = jax.ShapeDtypeStruct((), dtype)
        shapes = jax.ShapeDtypeStruct((count,), dtype), dict.fromkeys(now.memory, number)
        numbers, memory = jax.pure_callback(on_host, shapes, *given, vmap_method="sequential")
        of = self._scalars.of
        return tuple(of(numbers[i]) for i in range(count)), {name: of(value) for name, value in memory.items()}


class _Jax:
    """The functions of ``jax.numpy`` for recorded calls."""

    def __init__(self, scalars: Scalars) -> None:
        self._scalars = scalars

    def call(self, function: Any, inputs: Any, like: Any) -> Any:
        """Make one recorded call."""
        if function is copied:
            return inputs[0].astype(like.dtype)
        return jnp.where(*inputs) if function is where else getattr(jnp, function.__name__)(*inputs)

    def coefficient(self, number: Any, like: Any) -> Any:
        """Return a number as an array without dimensions."""
        return jnp.asarray(_plain(number), like.dtype)

    def measured(self, values: Any, norms: bool) -> Any:
        """Return the sum or the norm, in single precision at least; the norm scaled, so that nothing overflows."""
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        if not norms:
            return self._scalars.of(as_number(jnp.sum(values)))
        largest = jnp.max(jnp.abs(values), initial=0)
        is_usual = (largest > 0) & jnp.isfinite(largest)
        scaled = values / jnp.where(is_usual, largest, 1)
        return self._scalars.of(as_number(jnp.where(is_usual, largest * jnp.sqrt(jnp.sum(scaled * scaled)), largest)))

    def full_like(self, array: Any, start: Any) -> Any:
        """Return a new array filled with a number or with another array's values."""
        return jnp.array(start) if isinstance(start, jax.Array) else jnp.full_like(array, start)


__all__ = ["LinkValues", "RuleState", "as_gradient_transformation", "eval_params"]
