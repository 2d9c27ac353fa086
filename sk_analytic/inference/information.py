"""A curvature as scaled directions: its inverse over those that are known, and which are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ..typing import Array

FLAT, ROOT_FLAT, NUMERICAL_FLAT = 1e-11, 1e-13, 1e-8  # scaled curvatures, singular values that are rounding
MOST_NOISE = 1e-6  # of a Hessian that may hide a curvature
MOVES = 1e-6  # share of a gradient along a direction; less is rounding


class Information(NamedTuple):
    """A curvature as the squares of scaled directions, of which some may be unknown.

    Attributes
    ----------
    scale : ndarray of shape (p,)
        What entries are multiplied with.
    vectors : ndarray of shape (p, p)
        Directions in scaled entries, as columns.
    values : ndarray of shape (p,)
        Curvatures along them.
    flat, negative : ndarray of bool of shape (p,)
        Which of them are 0 but for rounding, and which are negative.
    noise : float
        The rounding of values, relative to the scaled curvature of an entry.
    is_root : bool
        Whether they are squares of singular values.
    """

    scale: Array
    vectors: Array
    values: Array
    flat: Array
    negative: Array
    noise: float
    is_root: bool

    @classmethod
    def of_root(cls, root: Array, flat: float) -> Information:
        """Return that of R'R, whose small curvatures R knows better than the product does."""
        scale = nonzero(np.linalg.norm(root, axis=0))
        _, values, directions = np.linalg.svd(root / scale, full_matrices=True)
        known = np.zeros(len(scale))
        known[: len(values)] = values[: len(scale)]
        is_flat = known <= flat * known.max(initial=0.0)
        return cls(scale, directions.T, known**2, is_flat, np.zeros(len(scale), dtype=bool), flat, True)

    @classmethod
    def of_matrix(cls, matrix: Array) -> Information:
        """Return that of a matrix from differences, whose asymmetry tells how much of it is noise."""
        scale = nonzero(np.sqrt(np.abs(np.diag(matrix))))
        scaled = matrix / scale / scale[:, None]
        noise = float(np.abs(scaled - scaled.T).max(initial=0.0))
        values, vectors = np.linalg.eigh((scaled + scaled.T) / 2)
        smallest = min(max(FLAT, 10 * noise), MOST_NOISE)
        return cls(scale, vectors, values, np.abs(values) <= smallest, values < -smallest, noise, False)

    def times(self, factor: float) -> Information:
        """Return a multiple."""
        return self._replace(values=self.values * factor)

    @property
    def known(self) -> Array:
        """Which directions have a curvature that is positive."""
        return ~(self.flat | self.negative)

    @property
    def rank(self) -> int:
        """How many these are."""
        return int(np.count_nonzero(self.known))

    @property
    def inverse_root(self) -> Array:
        """A matrix with R'R the inverse, over the directions that are known."""
        root: Array = (self.vectors[:, self.known] / np.sqrt(self.values[self.known])).T / self.scale
        return root

    def solve(self, gradients: Array) -> Array:
        """Return the inverse, over the directions that are known, times rows of gradients."""
        root = self.inverse_root
        solved: Array = gradients @ root.T @ root
        return solved

    def moves(self, derivative: Array) -> Array:
        """Return which rows of a derivative by the entries move along directions that are not known."""
        scaled = derivative / self.scale
        unknown = np.linalg.norm(scaled @ self.vectors[:, ~self.known], axis=-1)
        moves: Array = unknown > MOVES * np.linalg.norm(scaled, axis=-1)
        return moves


def nonzero(scale: Array) -> Array:
    """Return scales, 1 for what has none."""
    return np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)


def triangle(parts: Iterable[Array], n_columns: int) -> Array:
    """Return R with R'R the sum of the products of parts with themselves."""
    found: Array = np.empty((0, n_columns))
    for part in parts:
        found = np.asarray(np.linalg.qr(np.concatenate([found, part]), mode="r"))
    return found


def roots_of(curvature: Array) -> Array:
    """Return the symmetric roots of positive matrices of shape (n, k, k)."""
    values, vectors = np.linalg.eigh(curvature)
    if values.size and values.min() < -MOVES * np.abs(values).max():
        raise ValueError(
            "covariance='gauss_newton' needs a loss that is convex in the prediction, but this one is concave for some "
            "samples. Use covariance='hessian'."
        )
    roots: Array = np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(values.clip(0)), vectors)
    return roots


def four_point(at: Callable[[float], Any]) -> Any:
    """Return the derivative of ``at(t)`` at 0 in units of t, from t = -2, -1, 1, 2; the error falls with t**4."""
    return (8 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / 12
