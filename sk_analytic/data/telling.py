"""Samples that would reveal a fault: of every class, the extremes of every column, and others at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured
from scipy.sparse import issparse

from ..typing import Array

MOST_COLUMNS, MOST_ENTRIES = 500, 50_000  # of X that are looked through for extremes,
MOST_TARGETS = 1_000_000  # and entries of y for classes
CLASSES = 0.5  # largest share of the rows that are drawn for the classes,
EXTREMES = 0.75  # and for the classes and extremes


def telling_rows(X: Any, columns: Mapping[str, Array], rows: Array, n: int, rng: np.random.Generator) -> Array:
    """Draw some rows: one of every class, those with the extremes of every column, and others at random.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features)
    columns : dict of str to ndarray
        ``y`` is a class if it has few values.
    rows : ndarray of int
        The numbers of those to draw from. Of very many rows or columns, a random part is looked through.
    n : int
        How many to draw; all if there are no more.
    rng : numpy.random.Generator

    Returns
    -------
    numbers : ndarray of int
        In ascending order.
    """
    if n >= len(rows):
        return rows
    y = as_numbers(columns["y"]) if "y" in columns else None
    some = _some(np.arange(X.shape[1]), MOST_COLUMNS, 0, rng)
    seen = _some(rows, MOST_ENTRIES // max(1, len(some)), n, rng)
    chosen: dict[int, None] = {}
    if y is not None:
        _add(chosen, _of_classes(y, _some(rows, MOST_TARGETS, n, rng), n), CLASSES * n)
        _add(chosen, _extremes(y.reshape(len(y), -1), seen), EXTREMES * n)
    _add(chosen, _extremes(X, seen, some), EXTREMES * n)
    _add(chosen, rng.permutation(rows), n)
    return np.sort(np.array(list(chosen)))


def is_telling(X: Any) -> bool:
    """Whether X has anything but zeros; without columns it has nothing to tell by."""
    return not X.shape[1] or bool(X.count_nonzero() if issparse(X) else X.any())


def as_numbers(array: Array) -> Array:
    """Return records as finite floats, a column for each number of theirs; any other array as it is."""
    if array.dtype.names is None:
        return array
    values = structured_to_unstructured(np.asarray(array), dtype=np.float64)
    return np.where(np.isfinite(values), values, 0.0)


def _some(numbers: Array, most: int, least: int, rng: np.random.Generator) -> Array:
    most = max(most, least)
    return numbers if len(numbers) <= most else np.sort(rng.choice(numbers, most, replace=False))


def _add(chosen: dict[int, None], rows: Iterable[int], most: float) -> None:
    """Add rows to those chosen, up to a number."""
    for row in rows:
        if len(chosen) >= int(most):
            return
        chosen.setdefault(int(row))


def _of_classes(y: Array, rows: Array, n: int) -> Array:
    """A row of each value of y, the rarest first, if it has few."""
    if y.ndim != 1 or y.dtype.kind not in "fiub" or len(np.unique(y[rows[: 4 * n]])) > n:
        return rows[:0]
    _, first, counts = np.unique(y[rows], return_index=True, return_counts=True)
    return rows[first[np.argsort(counts, kind="stable")]]


def _extremes(X: Any, rows: Array, some: Array | slice = slice(None)) -> Array:
    """Rows with the largest and the smallest entry of some columns, those farthest from their means first."""
    if X.dtype.kind not in "fiub" or not X.shape[1]:
        return rows[:0]
    values = _dense(X[rows][:, some]).astype(np.float64)
    values /= np.maximum(np.abs(values).max(axis=0, initial=0.0), np.finfo(np.float64).tiny)  # no square overflows
    places = np.concatenate([values.argmax(axis=0), values.argmin(axis=0)])
    spread = np.where(values.std(axis=0) > 0, values.std(axis=0), np.inf)
    far = np.abs(values[places, np.tile(np.arange(values.shape[1]), 2)] - np.tile(values.mean(axis=0), 2))
    found: Array = rows[places[np.argsort(-far / np.tile(spread, 2), kind="stable")]]
    return found


def _dense(X: Any) -> Array:
    """A few rows and columns as an array of floats."""
    if not issparse(X):
        return np.asarray(X, float)
    values, filled = np.zeros(X.shape), X.tocoo()
    values[filled.row, filled.col] = filled.data
    return values
