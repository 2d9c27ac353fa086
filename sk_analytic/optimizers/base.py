"""The contract of optimizers: links, rules, and how an optimizer takes a step.

A `Link` transforms its input entry by entry and passes the result to the next link. The first input is the
gradient. After the last link that gives a gradient, the engine takes the step ``theta - rate * g``; the links
after it receive the proposed θ. A `Rule` is a link with a learning rate and an optimizer by itself; optimizers made
of several links are in `chains`. Hyperparameters are kept here, what an optimizer remembers in its `State`.
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
"""Divisors, and values that must not be zero."""


class Link(Scheduled):
    """Base class of all links: rules, clipping, weight decay.

    A link transforms the gradient, or the proposed θ, entry by entry. To write one, subclass it with the
    hyperparameters in ``__init__`` and those of the attributes and methods below that it needs.

    Attributes
    ----------
    slots : dict
        Arrays of θ's size that the link keeps, by name. Values are the initial values: a number, the name of a
        hyperparameter, or ``"theta"``. Make it a property if it depends on hyperparameters.
    memory : dict
        Floats that the link keeps, by name. Values are the initial values: a number or the name of a
        hyperparameter.
    takes, gives : {"gradient", "theta"}
        Input and output of the link: the gradient, or the proposed θ.
    scope : {"block", "all"}
        Whether ``t``, ``memory`` and ``sums`` are kept for each parameter array (block) or for θ as a whole.
    eval_slot : str or None
        The slot used for prediction in place of θ.
    grows : str or None
        The entry of ``memory`` that grows until the link has found its scale. Until then, training does not count
        epochs without improvement.
    formula : callable
        Static ``formula(flow, theta, *slots, *coefficients) -> (flow, *slots)``, or ``flow`` alone if the link has
        no slots. ``flow`` is the input, ``theta`` is θ before the update. A formula may use arithmetic, comparisons
        and ``np.sqrt, abs, sign, minimum, maximum, where``. It must not use in-place operations, branches on a value,
        numeric literals, operations between two coefficients, or globals other than ``np``. Make it a property if
        hyperparameters choose among several formulas, so that each keeps only the slots that it uses.
    measures : callable or None
        Static ``measures(flow, theta, *slots, *scales)``: one array, or a tuple of arrays, whose sums the link
        receives as ``now.sums``. It costs one more pass over θ.
    norms : bool
        Whether ``now.sums`` holds the Euclidean norms of these arrays instead of their sums. The norms are correct
        even if a square would overflow or underflow θ's dtype.
    passes : callable or None
        Method ``passes(t) -> bool``: whether the links after this one run in its step number ``t``.
    stepper : callable or None
        Method ``stepper(state, theta, blocks, kept) -> Stepper`` of a link whose step another library takes instead of
        a formula; ``kept`` is its state so far, or None.
    accepts_sparse_grads : bool
        Whether rows of a parameter array that have no gradient may be skipped, in θ and in the slots. By default,
        a link allows it if it neither measures, nor averages θ, nor holds the gradient back. Set it to True if the
        link measures the gradient alone, because the gradient is zero in these rows.

    Notes
    -----
    ``formula`` and ``measures`` are called once, with symbols, to record their operations; an engine then runs the
    recorded program. Coefficients are cast to θ's dtype.
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
        """Whether rows of a parameter array that have no gradient may be skipped."""
        needs_all = self.measures is not None or self.passes is not None or self.eval_slot is not None
        return not needs_all and self.takes == "gradient"

    def coefficients(self, now: StepInfo) -> tuple[float, ...]:
        """Return the arguments of ``formula`` after the slots, as Python floats.

        Parameters
        ----------
        now : StepInfo
            The step number ``t`` of this link, its ``memory`` (update it here), ``sums``, and the learning rate
            ``rate``. In ``self``, schedules are replaced by their current values.

        Returns
        -------
        coefficients : tuple of float
        """
        return ()

    def scales(self, now: StepInfo) -> tuple[float, ...]:
        """Return the arguments of ``measures`` after the slots, as Python floats.

        Parameters
        ----------
        now : StepInfo
            As for `coefficients`, but without ``sums``.

        Returns
        -------
        scales : tuple of float
        """
        return ()

    def place(self, blocks: dict[str, int]) -> list[Placement]:
        """Return the placements of the links.

        Parameters
        ----------
        blocks : dict
            Names of the parameter arrays to place the links on, and their indices.

        Returns
        -------
        placements : list of Placement
        """
        return [Placement(self, tuple(blocks.values()), type(self).__name__)]


@readable
@trusted
class Optimizer:
    """Base class of optimizers: ``init`` creates a state, ``update`` takes one step.

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
            array. Each leaf must be writable and must not share memory with another, because `update` works in place.
        blocks : Layout, default=None
            ``names`` and ``slices`` of the parameter arrays in a vector. By default, a vector is one parameter array.

        Returns
        -------
        state : State

        Raises
        ------
        ValueError
            If a hyperparameter is outside its range, or links do not fit together.
        TypeError
            If ``formula`` or ``measures`` of a link is a bound method.
        ParameterStructureError
            If a leaf cannot be updated in place, or two leaves share memory.
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
        """Take one step, updating θ and the state in place.

        Parameters
        ----------
        state : State
            From `init`.
        theta : ndarray of shape (size,) or structure of arrays
            As given to `init`.
        grads : ndarray of shape (size,) or structure of arrays
            Same structure as ``theta``; only read. A parameter array whose gradient is ``None`` is not updated. If a
            leaf is a pair ``(rows, values)`` or a sparse matrix, only these rows of the array are updated, provided
            that all of its links support it; see the guide on sparse gradients.
        missing : tuple of int, default=()
            For vectors: indices of the parameter arrays that have no gradient.
        sparse_grads : tuple of SparseGradient, default=()
            For vectors: the gradients of parameter arrays in which only some rows have one. The values of ``grads``
            for these arrays are not read.

        Raises
        ------
        ParameterStructureError
            If the gradient does not fit, or leaves of ``theta`` cannot be updated. In that case, nothing is
            written.
        """
        try:
            optimizer, bound_to, step = state._bound
        except AttributeError:
            raise TypeError(
                f"update takes (state, theta, grads) in this order, with the state returned by init; got a "
                f"{type(state).__name__} as state. Unlike in optax, the gradient comes last."
            ) from None
        if theta is bound_to and self is optimizer and not missing and not sparse_grads and theta.flags.writeable:
            step(grads)
        elif state.layout is None:
            self._update_vector(state, theta, grads, missing, sparse_grads)
        else:
            self._update_structure(state, theta, *state.read_gradient(grads))
            state.step += 1

    def step_function(self, state: State, theta: Array) -> Callable[[Array], None]:
        """Return a function that takes one step of `update` for a fixed state and vector θ, given the gradient.

        It is equivalent to ``update(state, theta, g)`` and runs the same code, including changed hyperparameters,
        schedules and links such as `Accumulate`. It serves the training loop of this package; its signature is stable.

        Parameters
        ----------
        state : State
            From `init`.
        theta : ndarray of shape (size,)
            As given to `init`.

        Returns
        -------
        step : callable
            ``step(g)`` takes one step with a gradient of shape (size,), in which no parameter array is missing.

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
        """Return the parameters to predict with.

        Parameters
        ----------
        state : State
            From `init`.
        theta : ndarray of shape (size,) or structure of arrays
            As given to `init`.

        Returns
        -------
        answer : ndarray of shape (size,) or structure of arrays
            The slot that a link names in ``eval_slot``, such as an average, or ``theta`` itself.
        """
        if state.layout is None:
            return self._run(state, theta).eval_params(theta)
        vector = state.read(theta)
        answer = self._run(state, vector).eval_params(vector)
        return theta if answer is vector else state.layout.views(answer)

    def is_growing(self, state: State, theta: Any) -> bool:
        """Whether a link that starts with tiny steps, such as `Prodigy`, has increased its scale since the last call.

        Parameters
        ----------
        state : State
            From `init`.
        theta : ndarray of shape (size,)
            As given to `init`.

        Returns
        -------
        is_growing : bool
            False if no link declares ``grows``.
        """
        return self._run(state, theta).is_growing()

    def accepts(self, state: State, theta: Any, blocks: Layout | None = None) -> bool:
        """Whether this optimizer can continue from a state: same links, and a θ of the same structure.

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
        """Return the placements of the links.

        Parameters
        ----------
        blocks : dict
            Names of the parameter arrays to place the links on, and their indices.

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
    """Link with a learning rate. A rule is also an optimizer. Each parameter array passes through exactly one rule."""

    ranges = {"learning_rate": AMOUNT}
    learning_rate: Any
