"""Gradient transformations of optax as optimizers: jax computes the update of all blocks in one compiled call."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...optimizers.outside import OutsideRule, resolved
from ...optimizers.state import State
from ...parameters import Layout
from ...typing import Array


class OptaxOptimizer(OutsideRule):
    """Optimizer that uses a gradient transformation of optax.

    The estimators, `Chain` and `PerBlock` convert a ``GradientTransformation`` to this class, so you can pass it
    directly. Pass a function such as ``optax.adam`` and its arguments instead if the optimizer is to be pickled, or if
    a search is to set the arguments.

    Parameters
    ----------
    transformation : GradientTransformation or callable
        A transformation such as ``optax.adam(1e-3)`` or ``optax.chain(...)``, which may use schedules of optax; or a
        function that returns one, such as ``optax.adam``. Its update may depend on the gradient and the parameters. It
        must not require the loss, or further evaluations within a step.
    **settings : dict
        Arguments of the function by name, such as ``learning_rate``. They are hyperparameters of this optimizer.

    Notes
    -----
    The transformation receives the parameters in the user's structure or, in a `PerBlock`, as a dict of its parameter
    arrays by name. A parameter array without a gradient in a batch is passed a gradient of zeros and is not updated.
    Sparse gradients are converted to dense ones.

    ``optimizer_state_.learning_rates`` has the learning rate if it is passed as ``learning_rate`` in ``settings``, or
    set by ``optax.inject_hyperparams``.

    jax computes in float32 unless ``jax.config.update("jax_enable_x64", True)`` was called before.

    Examples
    --------
    >>> import jax
    >>> import numpy as np
    >>> import optax
    >>> from sk_analytic import AnalyticRegressor
    >>> jax.config.update("jax_enable_x64", True)
    >>> X = np.linspace(-1, 1, 20).reshape(-1, 1)
    >>> rate = optax.cosine_decay_schedule(0.3, 200)
    >>> optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    >>> model = AnalyticRegressor(optimizer=optimizer, max_iter=200, tol=None)
    >>> model = model.fit(X, 2 * X[:, 0] + 1)
    >>> model.predict([[0.5]]).round(2)
    array([2.])
    """

    maker = "transformation"

    def __init__(self, transformation: Any, **settings: Any) -> None:
        self.transformation = transformation
        self.settings = settings

    @property
    def eval_slot(self) -> str | None:  # type: ignore[override]
        """``"average"``, the slot to predict with, if ``optax.contrib.schedule_free`` is used; otherwise None."""
        try:
            state = self.made(State((), (), 0, np.float64)).init(jnp.zeros(1))
        except Exception:  # it is for some structure of parameters, which is not this
            return None
        return "average" if _averages(state) else None

    @property
    def kind(self) -> str:
        """Name of the optimizer in its state and in messages."""
        return "OptaxOptimizer" if _is_transformation(self.transformation) else super().kind

    def check(self) -> None:
        """Raise a TypeError if this is not a transformation, or for settings that the function does not accept."""
        if not _is_transformation(self.transformation):
            super().check()
        elif self.settings:
            name = next(iter(self.settings))
            raise TypeError(
                f"OptaxOptimizer: {name} cannot be set, because the transformation is already created. Pass the "
                "function that creates it and its arguments: OptaxOptimizer(optax.adam, learning_rate=...)."
            )

    def made(self, state: Any) -> Any:
        """Return the transformation.

        Parameters
        ----------
        state : State
            State of the optimizer, from which schedules take their values.

        Returns
        -------
        transformation : GradientTransformation
        """
        if _is_transformation(self.transformation):
            return self.transformation
        made = self.transformation(**resolved(self.settings, state))
        if not _is_transformation(made):
            raise TypeError(f"{self.kind}: the function must return a GradientTransformation; got {made!r}.")
        return made

    def stepper(self, state: Any, theta: Array, blocks: tuple[int, ...], kept: Any) -> OptaxStepper:
        """Return the transformation for some blocks of θ, starting from its earlier state if there is one."""
        return OptaxStepper(self, state, theta, blocks, kept)

    def continues(self, state: Any, kept: Any) -> bool:
        """Whether its state has the structure and the shapes of an earlier state."""
        remembered = kept.remembered()
        if remembered is None:
            return True
        structure = _Structure(state, kept.blocks)
        try:
            fresh = jax.eval_shape(self.made(state).init, structure.of(np.zeros(state.size, state.dtype)))
        except Exception:  # whatever it may raise, it cannot go on
            return False
        ours, theirs = ([np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (fresh, remembered))
        return ours == theirs and jax.tree.structure(fresh) == jax.tree.structure(remembered)


class _Structure:
    """The blocks of a vector as the pytree that a transformation sees."""

    def __init__(self, state: Any, blocks: tuple[int, ...]) -> None:
        self.slices, self.blocks, self.names = state.slices, blocks, state.names
        layout = state.blocks
        self.layout = layout if isinstance(layout, Layout) and len(blocks) == len(state.names) else None
        self.shapes = getattr(layout, "shapes", None) or [(where.stop - where.start,) for where in state.slices]
        self.is_vector = layout is None and len(blocks) == len(state.names) == 1

    def of(self, vector: Array, present: Collection[int] | None = None) -> Any:
        """Return a pytree of copies; blocks that are not present are zeros."""
        leaves = []
        for block in self.blocks:
            part = vector[self.slices[block]].reshape(self.shapes[block])
            leaves.append(jnp.array(part if present is None or block in present else np.zeros_like(part)))
        if self.is_vector:
            return leaves[0]
        if self.layout is not None:
            return self.layout.unflatten(leaves)
        return {self.names[block]: leaf for block, leaf in zip(self.blocks, leaves, strict=True)}

    def leaves(self, tree: Any) -> list[Any]:
        """Return the leaves of such a pytree in the order of the blocks."""
        if self.is_vector:
            return [tree]
        return self.layout.leaves(tree) if self.layout is not None else [tree[self.names[b]] for b in self.blocks]


class OptaxStepper:
    """A transformation of optax on some blocks of one θ.

    Parameters
    ----------
    declared : OptaxOptimizer
    state : State
    theta : ndarray of shape (size,)
    blocks : tuple of int
    kept : pytree or None
        What `remembered` returned.
    """

    accepts_sparse_grads = False

    def __init__(self, declared: OptaxOptimizer, state: Any, theta: Array, blocks: tuple[int, ...], kept: Any) -> None:
        self._declared, self._state, self._blocks = declared, state, blocks
        self._structure = _Structure(state, blocks)
        transformation = declared.made(state)
        self._update = _compiled(transformation.update)
        self._remembered = transformation.init(self._structure.of(theta)) if kept is None else kept
        self.learning_rate = 0.0
        self.is_narrow = jax.dtypes.canonicalize_dtype(theta.dtype) != theta.dtype
        if self.is_narrow:
            warnings.warn(
                f"{declared.kind}: jax computes in float32, but the parameters are {theta.dtype}, so the steps have "
                'only single precision. Call jax.config.update("jax_enable_x64", True) before any other use of jax, or '
                "pass X in float32.",
                UserWarning,
                stacklevel=7,
            )

    def step(self, theta: Array, g: Array, blocks: Collection[int]) -> None:
        """Write a step of these blocks into θ."""
        of = self._structure.of
        try:
            updates, self._remembered = self._update(of(g, blocks), self._remembered, of(theta))
        except TypeError as error:
            error.add_note(
                f"{self._declared.kind} was called with gradient, state and parameters. Transformations that require "
                "extra arguments (value, grad, value_fn) are not supported."
            )
            raise
        self.learning_rate = self._rate()
        for block, update in zip(self._blocks, self._structure.leaves(updates), strict=True):
            if block in blocks:
                theta[self._structure.slices[block]] += np.asarray(update).reshape(-1)

    def _rate(self) -> float:
        """The learning rate of the last step, if it is known."""
        found = [part.hyperparams["learning_rate"] for part in _parts(self._remembered) if _has_rate(part)]
        if found:
            return float(found[0])
        rate = self._declared.settings.get("learning_rate", math.nan)
        return float(rate(self._state.step) if callable(rate) else rate)

    def remembered(self) -> Any:
        """Return what it remembers now, as arrays of NumPy: those of jax never change, so that nothing is copied."""
        return jax.tree.map(_in_numpy, self._remembered)

    def by_block(self) -> Iterator[tuple[str, tuple[int, ...], Array]]:
        """Yield what it remembers of entries: arrays of the shape of a block."""
        shapes = {self._structure.shapes[block] for block in self._blocks}
        for path, leaf in jax.tree_util.tree_leaves_with_path(self._remembered):
            if np.ndim(leaf) and np.shape(leaf) in shapes and jnp.issubdtype(leaf.dtype, jnp.floating):
                yield jax.tree_util.keystr(path), self._blocks, np.asarray(leaf)

    def eval_params(self, theta: Array) -> Array:
        """Return θ, or the average that ``optax.contrib.schedule_free`` keeps."""
        averages = _averages(self._remembered)
        if not averages:
            return theta
        average = optax.contrib.schedule_free_eval_params(averages[0], self._structure.of(theta))
        theta = theta.copy()
        for block, leaf in zip(self._blocks, self._structure.leaves(average), strict=True):
            theta[self._structure.slices[block]] = np.asarray(leaf).reshape(-1)
        return theta

    def coefficients(self, now: Any) -> tuple[float, ...]:
        """There is no formula."""
        return ()


def adopted(optimizer: Any) -> Any:
    """Return an `OptaxOptimizer` for a transformation of optax; return anything else unchanged."""
    if type(optimizer).__name__ == "MultiSteps":  # which is no tuple of functions itself
        optimizer = optimizer.gradient_transformation()
    return OptaxOptimizer(optimizer) if _is_transformation(optimizer) else optimizer


def _is_transformation(value: Any) -> bool:
    return isinstance(value, optax.GradientTransformation)


@functools.lru_cache(64)
def _compiled(update: Callable[..., Any]) -> Any:
    """The update of a transformation, compiled once however often an estimator begins to train with it."""
    return jax.jit(update)


def _parts(tree: Any) -> Iterator[Any]:
    """Yield the named tuples of a state."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, list | tuple):
        if hasattr(tree, "_fields"):
            yield tree
        for part in tree:
            yield from _parts(part)


def _averages(tree: Any) -> list[Any]:
    """The parts of a state from which ``optax.contrib.schedule_free_eval_params`` takes the average."""
    return [part for part in _parts(tree) if hasattr(part, "z") and hasattr(part, "b1")]


def _has_rate(part: Any) -> bool:
    return "learning_rate" in (getattr(part, "hyperparams", None) or {})


def _in_numpy(leaf: Any) -> Any:
    is_plain = isinstance(leaf, jax.Array) and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return np.asarray(leaf) if is_plain else leaf
