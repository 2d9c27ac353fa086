"""Samples in parts, each of which was read once: what chunks in this process and on a cluster have in common."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from ..typing import Array
from .arrays import ArrayRows, draw, sampled, stacked
from .batch import Batch, identity
from .rows import Rows
from .telling import is_telling
from .weights import AS_GIVEN, Extent, Scale, Weights


def where_in(number: int) -> str:
    """Return a note that names a chunk."""
    return f"In chunk {number} (counted from 0)."


def place_of(number: int) -> tuple[int, ...]:
    """Return where a part stands in positions of random numbers: the first has none, like rows without parts."""
    return (number,) if number else ()


class Kind(NamedTuple):
    """Properties that validated chunks must share."""

    dtype: Any
    is_sparse: bool
    is_weighted: bool
    names: str

    @classmethod
    def of(cls, X: Any, columns: Mapping[str, Array], weights: Weights | None) -> Kind:
        """Return that of some rows."""
        return cls(X.dtype, issparse(X), weights is not None, ", ".join(sorted(columns)) or "X alone")

    def require_like(self, first: Kind) -> None:
        """Raise if a chunk differs from the first in dtype, sparsity, weights or columns."""
        if self.dtype != first.dtype:
            raise ValueError(
                f"This chunk has X of dtype {self.dtype}; the first had {first.dtype}. Convert it when loading."
            )
        if self.is_sparse != first.is_sparse:
            here, there = ("sparse", "dense") if self.is_sparse else ("dense", "sparse")
            raise ValueError(f"This chunk has a {here} X; in the first it was {there}. Convert it when loading.")
        if self.is_weighted != first.is_weighted:
            raise ValueError(
                f"This chunk has {'' if self.is_weighted else 'no '}sample weights, unlike the first. For unweighted "
                "samples, pass weights of 1."
            )
        if self.names != first.names:
            raise ValueError(f"This chunk has columns {self.names}; the first had {first.names}.")


class Survey(NamedTuple):
    """What is known of rows that were read once: how much they hold, what identifies them, the sum of y, and more."""

    extent: Extent
    identity: dict[str, str]
    kind: Kind
    is_telling: bool
    total: Array

    @classmethod
    def of(
        cls, X: Any, columns: Mapping[str, Array], weights: Weights | None, total: Array, *, identified: bool = True
    ) -> Survey:
        """Return that of some rows, of which the sum of y is known."""
        found = identity(X, columns, weights) if identified else {}
        return cls(Extent.of(X.shape[0], weights), found, Kind.of(X, columns, weights), is_telling(X), total)


class Surveyed:
    """Rows in parts, each of which was read once.

    Attributes
    ----------
    surveys : dict of int to Survey
        By the number of the part; those without rows are left out.
    """

    surveys: dict[int, Survey]

    @property
    def extents(self) -> dict[int, Extent]:
        """How much each holds."""
        return {number: survey.extent for number, survey in self.surveys.items()}

    def arrays(self, number: int) -> Any:
        """Return the X, columns and weights or None of a part, in this process."""
        raise NotImplementedError

    def rows(self, numbers: Sequence[int], **settings: Any) -> Rows:
        """Return the rows of some of them."""
        raise NotImplementedError


class Arrangement(NamedTuple):
    """How steps are taken within a chunk, and what its weights are multiplied with.

    Attributes
    ----------
    scale : Scale
        What weights are multiplied with.
    only_counted : bool
        Whether to leave out the rows of weight 0.
    batch_size : int or None
        Number of samples in a batch; all by default.
    shuffle : bool
        Whether to shuffle the samples before each epoch.
    drop_last : bool
        Whether to leave out the last batch if it is shorter than the others.
    seed : int
        Seed of the fit.
    """

    scale: Scale = AS_GIVEN
    only_counted: bool = False
    batch_size: int | None = None
    shuffle: bool = False
    drop_last: bool = False
    seed: int = 0

    def arrange(self, number: int, X: Any, columns: Mapping[str, Array], weights: Weights | None) -> ArrayRows:
        """Return the rows of a chunk; those of chunk 0 come in the order in which `fit` would take them."""
        if self.only_counted and weights is not None and not weights.values.all():
            counted = weights.counted
            X, columns = X[counted], {name: column[counted] for name, column in columns.items()}
            weights = weights.take(counted)
        weight = None if weights is None else weights.scaled(self.scale, X.dtype)
        return ArrayRows(
            X,
            columns,
            weight,
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            drop_last=self.drop_last,
            seed=self.seed,
            place=place_of(number),
        )


class PartRows:
    """Samples in several parts, wherever these are.

    Parameters
    ----------
    parts : Surveyed
    numbers : list of int
        Which of them.
    arrangement : Arrangement
    """

    n_samples: int
    _n_of_a_step: int  # rows

    def __init__(self, parts: Surveyed, numbers: Sequence[int], arrangement: Arrangement) -> None:
        self._surveys, self._arrangement, self.seed = parts.surveys, arrangement, arrangement.seed
        self._choose(numbers)

    def _choose(self, numbers: Sequence[int]) -> None:
        """Take these parts and no others."""
        extents = [self._surveys[number].extent for number in numbers]
        self._numbers = list(numbers)
        self._extents = [extent.counted for extent in extents] if self._arrangement.only_counted else extents
        self.n_samples = sum(extent.n for extent in self._extents)

    def _rows(self, number: int) -> ArrayRows:
        """The rows of a part, in this process."""
        raise NotImplementedError

    def _taken(self, drawn: Mapping[int, Array]) -> list[Any]:
        """X, columns and weights of some of the rows that have a weight, of parts by their number."""
        raise NotImplementedError

    @property
    def first(self) -> ArrayRows:
        """The samples used by `init` and the gradient check: those of the first chunk."""
        return self._rows(self._numbers[0])

    @property
    def telling(self) -> ArrayRows:
        """The rows of the first chunk from which anything can be learned: with weights, and not zeros alone."""
        for number, extent in zip(self._numbers, self._extents, strict=True):
            if extent.n_weighted and self._surveys[number].is_telling:
                return self._rows(number)
        return self.first

    def sample(self, n_batches: int, purpose: int, batch_size: int | None = None) -> list[Batch]:
        """Return a fixed random subset of the samples with non-zero weight, from all chunks; see `ArrayRows.sample`."""
        size = min(batch_size or self._n_of_a_step, self.n_samples)
        ends = list(itertools.accumulate((extent.n_weighted for extent in self._extents), initial=0))
        drawn = draw(ends[-1], n_batches * size, self.seed, purpose)
        places = {}
        for number, (begin, end) in zip(self._numbers, itertools.pairwise(ends), strict=True):
            here = np.flatnonzero((drawn >= begin) & (drawn < end))
            if len(here):
                places[number] = here, drawn[here] - begin
        parts = self._taken({number: rows for number, (_, rows) in places.items()})
        rows = stacked(parts).take(np.argsort(np.concatenate([here for here, _ in places.values()])))
        return sampled(rows, size, ends[-1] / self.n_samples, (self.seed, purpose), self._arrangement.drop_last)
