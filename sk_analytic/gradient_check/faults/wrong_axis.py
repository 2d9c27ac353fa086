"""Sums over the wrong axis, or a product without its transpose; the shapes fit only because two sizes coincide."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...typing import Array
from ..evaluation import Situation, dense
from ..evidence import Case, Way
from ..hypotheses import Hypothesis
from .contributions import Contributions

MOST_ENTRIES = 256


class WrongAxis(Hypothesis):
    identifier = "wrong_axis"
    meaning = "A sum over the wrong axis, or a missing transpose; the shapes fit only because two sizes coincide."
    template = (
        "{what} (agreement {agreement:.1g}). The shapes fit only because this batch has {n} samples, as many as the "
        "parameter has entries along axis 0."
    )
    rank = 18

    def ways(self, case: Case) -> Iterator[Way]:
        """Every sample's derivative by every entry tells what sums along another axis would be."""
        n = case.situation.n
        if case.size == 1 or case.shape[0] != n or case.size > MOST_ENTRIES:
            return
        if len(case.shape) == 1:
            words = {"n": n, "what": "It is summed over the entries of each sample, not over the samples"}
            yield Way(words, self._numbers(case, lambda rows, X: rows.sum(axis=1)), n_free=1)
        elif len(case.shape) == 2 and dense(case.situation.batch).shape == (n, n):
            words = {"n": n, "what": "It is X @ d instead of X.T @ d"}
            yield Way(words, self._numbers(case, self._not_transposed), n_free=1)

    @staticmethod
    def _numbers(case: Case, gradient: Any) -> Any:
        """The claim that a function of all samples' derivatives by all entries is the gradient, up to a constant."""
        entry_by_entry = copy.copy(case)
        entry_by_entry.__dict__.pop("_contributions", None)
        entry_by_entry._sketches = {}
        entry_by_entry.directions = np.eye(case.size).reshape(case.size, *case.shape) * case.scale
        entry_by_entry.elsewhere = []
        made: dict[int, Any] = {}

        def numbers(situation: Situation, count: int) -> Any:
            if situation.n != case.shape[0]:
                return None
            if id(situation) not in made:
                entry_by_entry.situation = situation
                rows = Contributions(entry_by_entry, situation).rows
                X = dense(situation.batch)
                made[id(situation)] = None if rows is None else gradient(rows.reshape(-1, *case.shape), X) / case.scale
            expected = made[id(situation)]
            if expected is None:
                return None
            directions = case.directions_at(situation)[:count]
            _, errors = (part[:count] for part in case.sketch(situation))
            return case.project(expected, directions), errors, case.project(case.analytic(situation), directions)

        return numbers

    @staticmethod
    def _not_transposed(rows: Array, X: Array) -> Array:
        """Each sample's derivative is x (a column) times d (a row); without the transpose X @ d is left."""
        largest = np.argmax(np.abs(X), axis=1)
        n = np.arange(len(X))
        d = rows[n, largest] / X[n, largest][:, None]
        product: Array = X @ d
        return product
