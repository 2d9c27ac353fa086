"""The objective under examination, and the situations (a θ and some samples) in which it is evaluated.

Every evaluation goes through a `Subject`, which counts it, keeps within a budget, turns exceptions away from the
starting point into NaN, and never lets a callable write to the user's data.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..data.batch import Batch, read_only
from ..finite_differences import size_of
from ..objective import Objective
from ..parameters import Layout, Parameters
from ..typing import Array
from .differences import Differences

LEAST_SIZE = 1e-3  # of an entry as a step moves it, relative to the typical one of its block
MOST_DENSE = 10_000_000  # entries of a sparse X that are written out for a diagnosis


class SpentError(Exception):
    """The budget of evaluations or of time is used up."""


class Subject:
    """An objective in float64, with a budget.

    Parameters
    ----------
    objective : Objective
        Over float64.
    rng : numpy.random.Generator
        For directions.
    theta : Parameters
        Whose maps and bounds say where parameters can be, and which directions they can move in.
    """

    def __init__(self, objective: Objective, rng: np.random.Generator, theta: Parameters) -> None:
        self.objective, self.layout, self.rng = objective, objective.layout, rng
        self.theta = theta
        self.n_evaluations = 0
        self.limits = (np.inf, np.inf)
        self.notes: dict[Any, Any] = {}  # evidence from one case that others may use
        self.seen: deque[float] = deque(maxlen=8)  # values of the loss
        self.unrepeatable = 0.0  # by what two values of the loss at one θ were seen to differ

    def allow(self, n_evaluations: float, seconds: float) -> None:
        """Set the budget from here on; the time is the processor's, so that a busy machine changes nothing."""
        self.limits = (self.n_evaluations + n_evaluations, time.process_time() + seconds)

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up."""
        most, deadline = self.limits
        return self.n_evaluations >= most or time.process_time() > deadline

    def spend(self) -> None:
        """Count an evaluation."""
        if self.is_spent:
            raise SpentError
        self.n_evaluations += 1

    def parameters(self, vector: Array) -> Parameters:
        """Return θ as callables get it: read-only views."""
        return Parameters(self.layout, vector)

    def tangent(self, direction: Array) -> Array:
        """Return the nearest direction in which the parameters can move: what a gradient says of others is not used."""
        return self.theta.tangent(direction)

    def nearby(self, vector: Array, share: float) -> Array:
        """Return a vector near another, each entry moved by a share of its size, where the parameters can be."""
        theta = self.theta
        if theta.limits is None and not theta.is_mapped:
            return nearby(self.layout, vector, share, self.rng)
        there = theta.entered(vector)
        moved = nearby(there.layout, there.vector, share, self.rng)
        sizes = np.concatenate([sizes_of(block).ravel() for block in there.layout.blocks(there.vector)])
        return there.at(there.well_inside(moved, share * sizes)).as_given.vector

    def value(self, vector: Array, batch: Batch) -> float:
        """Return the loss; NaN if it cannot be evaluated."""
        self.spend()
        try:
            value: float = self.objective.value(self.parameters(vector), batch)
        except SpentError:
            raise
        except Exception:
            return np.nan
        self.seen.append(value)
        return value

    def gradient(self, vector: Array, batch: Batch) -> Array | Any:
        """Return the analytic gradient as a new vector; None if it cannot be evaluated."""
        self.spend()
        try:
            contribution = self.objective.contribution(self.parameters(vector), batch)
        except SpentError:
            raise
        except Exception:
            return None
        return None if contribution.gradient is None else self.tangent(contribution.dense().gradient.copy())

    def predictions(self, vector: Array, batch: Batch) -> Array | Any:
        """Return the predictions of `forward` as an array (n, k); None if they cannot be evaluated."""
        self.spend()
        try:
            prediction = self.objective.predictions(self.parameters(vector).structure, batch)
        except SpentError:
            raise
        except Exception:
            return None
        return prediction


class Situation:
    """A θ and some samples.

    Parameters
    ----------
    subject : Subject
    vector : ndarray of shape (layout.size,)
        θ.
    batch : Batch
        The samples.
    """

    def __init__(self, subject: Subject, vector: Array, batch: Batch) -> None:
        self.subject, self.vector, self.batch = subject, vector, batch

    @property
    def n(self) -> int:
        """Number of samples."""
        n: int = self.batch.n
        return n

    @cached_property
    def value(self) -> float:
        """The loss."""
        return self.subject.value(self.vector, self.batch)

    @cached_property
    def gradient(self) -> Array:
        """The analytic gradient, a vector, or None."""
        return self.subject.gradient(self.vector, self.batch)

    @property
    def is_sound(self) -> bool:
        """Whether loss and gradient exist and are finite."""
        return bool(np.isfinite(self.value)) and self.gradient is not None and bool(np.isfinite(self.gradient).all())

    def block(self, index: int, vector: Array | None = None) -> Array:
        """Return a block of the analytic gradient, or of another vector, in its shape."""
        layout = self.subject.layout
        vector = self.gradient if vector is None else vector
        return vector[layout.slices[index]].reshape(layout.shapes[index])

    def direction(self, index: int, array: Array) -> Array:
        """Return the vector that is an array in one block and zero elsewhere; under a map, the part that can move."""
        direction = np.zeros(self.subject.layout.size)
        direction[self.subject.layout.slices[index]] = np.ravel(array)
        return self.subject.tangent(direction)

    def along(self, direction: Array, value: Callable[..., Any] | None = None) -> Differences:
        """Return the differences of the loss, or of another function of θ, along a direction."""
        function = (lambda vector: self.subject.value(vector, self.batch)) if value is None else value
        here = self.value if value is None else value(self.vector)
        return Differences(lambda t: function(self.vector + t * direction), here)

    def slope(self, index: int, array: Array, scale: float = 0.0) -> tuple[float, float]:
        """Return the derivative of the loss along an array in one block, and its error."""
        return self.along(self.direction(index, array)).refine(scale=scale, most=3)

    def moved(self, share: float, rows: Any = None) -> Situation:
        """Return a situation at another θ near by, on some of the samples."""
        vector = self.subject.nearby(self.vector, share)
        return Situation(self.subject, vector, self.batch if rows is None else take(self.batch, rows))

    def at(self, vector: Array) -> Situation:
        """Return the situation with the same samples at another θ."""
        return Situation(self.subject, vector, self.batch)

    def of(self, batch: Batch) -> Situation:
        """Return the situation with other samples at the same θ."""
        return Situation(self.subject, self.vector, batch)


def nearby(layout: Layout, vector: Array, share: float, rng: np.random.Generator) -> Array:
    """Return a vector near another: each entry moved by a share of its size."""
    moved = vector.copy()
    for block in layout.blocks(moved):
        block += share * sizes_of(block) * rng.standard_normal(block.shape)
    return moved


def sizes_of(block: Array, least: float = 0.0) -> Array:
    """Return the size of each entry, but at least a share of the block's typical size, which zeros have."""
    typical = size_of(block)
    sizes = np.abs(block)
    return np.where(sizes > 0, np.maximum(sizes, least * typical), typical)


def take(batch: Batch, rows: Any) -> Batch:
    """Return some samples of a batch."""
    columns = {name: column[rows] for name, column in batch.columns.items()}
    weight = None if batch.sample_weight is None else batch.sample_weight[rows]
    some: Batch = Batch(batch.X[rows], columns, weight, batch.position).copy().read_only()
    return some


def columns_of(batch: Batch) -> dict[str, Array]:
    """Return what goes with X by name, records field by field."""
    columns: dict[str, Array] = {}
    for name, column in batch.columns.items():
        columns |= {f"{name}[{field!r}]": column[field] for field in column.dtype.names or ()} or {name: column}
    return columns


def replaced(batch: Batch, **parts: Any) -> Batch:
    """Return a batch with another ``X``, which is made as sparse as the batch's, ``y`` or ``sample_weight``."""
    columns = dict(batch.columns)
    if "y" in parts:
        columns["y"] = read_only(np.array(parts["y"]))
    X = batch.X
    if "X" in parts:
        X = read_only(type(X)(parts["X"]) if issparse(X) else np.array(parts["X"]))
    return Batch(X, columns, parts.get("sample_weight", batch.sample_weight), batch.position)


def dense(batch: Batch) -> Array:
    """Return X as a dense array; without features if a sparse X would fill the memory."""
    n, n_features = batch.X.shape
    if issparse(batch.X) and n * n_features > MOST_DENSE:
        return np.empty((n, 0))
    X: Array = batch.X.toarray() if issparse(batch.X) else batch.X
    return X
