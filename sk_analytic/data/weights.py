"""Sample weights of any size: numbers below 1 and a common power of two, so that no sum overflows or vanishes.

Powers of two change no digit of a number: weights of usual size are what they would be without them, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..typing import Array


class Scale(NamedTuple):
    """What weights are multiplied with: ``factor * 2**-exponent``."""

    factor: float = 1.0
    exponent: int = 0


AS_GIVEN = Scale()


@dataclass(frozen=True)
class Weights:
    """The weights of some samples, ``values * 2**exponent``.

    Attributes
    ----------
    values : ndarray of shape (n,)
        In float64; the largest is in [0.5, 1), or all are 0.
    exponent : int
    """

    values: Array
    exponent: int = 0

    @classmethod
    def of(cls, values: Array, exponent: int = 0) -> Weights:
        """Return weights that are finite and not negative, as numbers below 1."""
        own = int(np.frexp(values.max(initial=0.0))[1])
        return cls(_kept(np.ldexp(values, -own), values), exponent + own)

    @property
    def counted(self) -> Array:
        """The numbers of the samples that have a weight."""
        return np.flatnonzero(self.values)

    def take(self, samples: Any) -> Weights:
        """Return those of some samples."""
        return Weights.of(self.values[samples], self.exponent)

    def copy(self) -> Weights:
        """Return weights that share no memory with these."""
        return Weights(self.values.copy(), self.exponent)

    def times(self, other: Weights) -> Weights:
        """Return the products with other weights of the same samples."""
        products = _kept(self.values * other.values, np.minimum(self.values, other.values))
        return Weights.of(products, self.exponent + other.exponent)

    def scaled(self, scale: Scale, dtype: DTypeLike) -> Array:
        """Return them on a scale; those too large for the dtype are infinite."""
        with np.errstate(over="ignore"):
            values = np.ldexp(self.values, self.exponent - scale.exponent) * scale.factor
            return _kept(values.astype(dtype, copy=False), self.values)


def _kept(values: Array, before: Array) -> Array:
    """Make the smallest number of those that have become 0: a sample that has a weight keeps one."""
    values[(values == 0) & (before > 0)] = np.finfo(values.dtype).tiny
    return values


def mean_of(totals: Iterable[Array], extents: Sequence[Extent]) -> Array:
    """Return the mean over the samples of several extents, given the sum of each in units of its weights."""
    whole = Extent.joined(extents)
    pairs = zip(totals, extents, strict=True)
    total: Any = sum(np.ldexp(total, extent.exponent - whole.exponent) for total, extent in pairs)
    return np.asarray(total / whole.total)


def y_that_counts(columns: Mapping[str, Array], weight: Array | None) -> Mapping[str, Array]:
    """Return columns of samples in which ``y`` of those of weight 0 is that of the first one that has a weight."""
    if weight is None or "y" not in columns or not weight.any():
        return columns
    chosen = np.where(weight != 0, np.arange(len(weight)), np.flatnonzero(weight)[0])
    return {**columns, "y": columns["y"][chosen]}


class Extent(NamedTuple):
    """How much some samples hold: their number, how many have a weight, and ``total * 2**exponent``, the sum of it."""

    n: int
    n_weighted: int
    total: float
    exponent: int

    @classmethod
    def of(cls, n: int, weights: Weights | None) -> Extent:
        """Measure samples."""
        if weights is None:
            return cls(n, n, float(n), 0)
        counted = weights.counted
        return cls(n, len(counted), float(weights.values[counted].sum()), weights.exponent)

    @classmethod
    def joined(cls, extents: Iterable[Extent]) -> Extent:
        """Measure the samples of several extents together."""
        extents = list(extents)
        exponent = max((extent.exponent for extent in extents if extent.n_weighted), default=0)
        total = sum(float(np.ldexp(extent.total, extent.exponent - exponent)) for extent in extents)
        return cls(sum(e.n for e in extents), sum(e.n_weighted for e in extents), total, exponent)

    @property
    def counted(self) -> Extent:
        """The extent of those that have a weight."""
        return self._replace(n=self.n_weighted)

    @property
    def largest(self) -> Scale:
        """The scale on which the largest weight is about 1."""
        return Scale(1.0, self.exponent)

    def to_mean_one(self) -> Scale:
        """The scale on which weights have mean 1, so that they count like repeated samples; raise if all are 0."""
        if not self.n_weighted:
            raise ValueError("sample_weight is zero for every sample: there is nothing to learn from.")
        return Scale(self.n / self.total, self.exponent)
