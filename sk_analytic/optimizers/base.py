"""The contract of optimizers: links, rules, and how an optimizer steps.

A `Link` maps, entry by entry, what flows in to what flows on. First the gradient flows; after the last
link that gives one, the engine takes the step ``theta - rate * g``; then the proposed θ flows. A `Rule`
is a link with a learning rate, and an optimizer by itself; what is made of several links is in `chains`.
Hyperparameters live here, what an optimizer remembers lives in its `State`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from ..parameters import Layout
from ..readable import readable
from ..sparse_gradients import SparseGradient
from ..trust import trusted
from ..typing import Array
from ..validation import Interval
from .engine.links import Placement, fits, placements_of
from .engine.run import Run
from .scheduled import Scheduled
from .state import State, StepInfo, Stepper

UNIT = Interval(0, 1, closed="left")
"""Decay rates of averages."""
AMOUNT = Interval(0, np.inf)
"""Rates, strengths, small additions to denominators."""
POSITIVE = Interval(0, np.inf, closed="neither")
"""What is divided by, or must not stand still."""


class Link(Scheduled):
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
    norms : bool
        Whether the link gets the Euclidean norms of these arrays in place of their sums. They are right also if
        a square is too large or too small for θ's dtype.
    passes : callable or None
        Method ``passes(t) -> bool``: whether in its run number ``t`` anything after the link runs.
    stepper : callable or None
        Method ``stepper(state, theta, blocks, kept) -> Stepper`` of a link whose step another library takes, in place
        of a formula; ``kept`` is what it remembered, or None.
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
    norms = False
    passes: ClassVar[Callable[..., bool] | None] = None
    stepper: ClassVar[Callable[..., Stepper] | None] = None

    @property
    def accepts_sparse_grads(self) -> bool:
        """Whether rows of a block that have no gradient may be left out."""
        needs_all = self.measures is not None or self.passes is not None or self.eval_slot is not None
        return not needs_all and self.takes == "gradient"

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return what ``formula`` takes after the slots, as Python floats.

        Parameters
        ----------
        now : StepInfo
            The run's number ``t``, ``memory`` (to be written here), ``sums``, ``rate``. In ``self``
            schedules are numbers.

        Returns
        -------
        coefficients : tuple of float
        """
        return ()

    def scales(self, now: StepInfo) -> tuple[float, ...]:
        """Return what ``measures`` takes after the slots, as Python floats.

        Parameters
        ----------
        now : StepInfo
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


@readable
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
            array. Each leaf must be writable, and share no memory with another: `update` works in place.
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
            For a leaf that cannot be updated in place, and for two that share memory.
        """
        state, vector = State.of(theta, blocks)
        state._run = Run(self, state, vector)
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

        Raises
        ------
        ParameterStructureError
            For a gradient that does not fit, and for leaves of ``theta`` that cannot be updated. Then nothing is
            written.
        """
        try:
            optimizer, bound_to, step = state._bound
        except AttributeError:
            raise TypeError(
                f"update takes (state, theta, grads), in this order, and the state comes from init; got a "
                f"{type(state).__name__} as state. In optax's order the gradient comes first."
            ) from None
        if theta is bound_to and self is optimizer and not missing and not sparse_grads and theta.flags.writeable:
            step(grads)
        elif state.layout is None:
            self._update_vector(state, theta, grads, missing, sparse_grads)
        else:
            self._update_structure(state, theta, *state.read_gradient(grads))
            state.step += 1

    def step_function(self, state: State, theta: Array) -> Callable[[Array], None]:
        """Return a function of the gradient that takes a step of `update` for one state and one vector θ.

        It does all that ``update(state, theta, g)`` does, by the same code: changed hyperparameters, schedules and
        gates included. It is made for the training loop of this package; its signature is stable.

        Parameters
        ----------
        state : State
            From `init`.
        theta : ndarray of shape (size,)
            As given to `init`.

        Returns
        -------
        step : callable
            ``step(g)`` takes one step along a gradient of shape (size,) that all blocks have.

        Examples
        --------
        >>> import numpy as np
        >>> from sk_analytic.optimizers import SGD
        >>> theta, optimizer = np.ones(2), SGD(learning_rate=0.5)
        >>> step = optimizer.step_function(optimizer.init(theta), theta)
        >>> step(np.array([1.0, 0.0]))
        >>> theta
        array([0.5, 1. ])
        """

        if type(self).update is not Optimizer.update:  # an optimizer of the user's own
            return functools.partial(self.update, state, theta)

        def step(g: Array) -> None:
            optimizer, bound_to, written = state._bound
            if theta is bound_to and self is optimizer:
                written(g)
            else:
                self.update(state, theta, g)

        return step

    def _update_vector(
        self,
        state: State,
        theta: Array,
        grads: Any,
        missing: Iterable[int] = (),
        sparse_grads: tuple[SparseGradient, ...] = (),
    ) -> None:
        if theta is not state._theta or not theta.flags.writeable:
            state.accept_theta(theta)
        g, own = state.accept_gradient(grads)
        sparse_grads = own or tuple(map(state.accept_sparse, sparse_grads))
        run, missing = self._run(state, theta), tuple(missing)
        if missing or sparse_grads:
            run.step_sparse(theta, g, missing, sparse_grads)
        elif g is grads and (written := run.written(theta, functools.partial(self._update_vector, state, theta))):
            state._bound = self, theta, written
            written(g)
            return
        else:
            run.step(theta, g, ())
        state.step += 1

    def _update_structure(
        self, state: State, theta: Any, g: Array, missing: tuple[int, ...], sparse_grads: tuple[SparseGradient, ...]
    ) -> None:
        if not sparse_grads:
            vector = state.read(theta)
            self._run(state, vector).step(vector, g, missing)
            state.write(theta)
            return
        run: Run | None = state._run
        if run is None or run.is_stale(self):
            run = self._run(state, state.read(theta))
        kept = {gradient.block for gradient in run.kept_sparse(sparse_grads)}
        vector = state.read(theta, kept)
        leaves = state.layout.leaves(theta, "theta")
        placed = (one._replace(theta=leaves[one.block]) if one.block in kept else one for one in sparse_grads)
        run.step_sparse(vector, g, missing, tuple(placed))
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
            return self._run(state, theta).eval_params(theta)
        vector = state.read(theta)
        answer = self._run(state, vector).eval_params(vector)
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
        return self._run(state, theta).is_growing()

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

    def _run(self, state: State, theta: Any) -> Run:
        run: Run | None = state._run
        if run is None or run.is_stale(self):
            state.unbind()
            run = state._run = Run(self, state, theta)
        return run


class Rule(Link, Optimizer):
    """A link with a learning rate, which alone is an optimizer; each block of θ passes exactly one."""

    ranges = {"learning_rate": AMOUNT}
    learning_rate: Any
