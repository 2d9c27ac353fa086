"""Faults that differ between samples: right for some and wrong for others, or off by one factor per sample."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...typing import Array
from ..evaluation import columns_of
from ..evidence import Case
from ..hypotheses import Diagnosis, Hypothesis
from .factors import SampleParts

MOST_LEVELS = 10
BITS = 10  # by how much the pattern of wrong samples must be more surprising than the rule that explains it


class SomeSamples(Hypothesis):
    identifier = "some_samples"
    meaning = "Right for some samples and wrong for others, depending on a value of X, y or the prediction."
    template = (
        "Right for samples where {right}, wrong for the other {n_wrong} of {n} samples{what}. Look for a mask or a "
        "branch that depends on it."
    )
    rank = 44

    def test(self, case: Case) -> Diagnosis | None:
        tables = SampleParts.of(case)
        if not tables:
            return None
        parts = tables[0]
        rows = np.unique(parts.rows)
        wrong = np.isin(rows, parts.rows[~parts.right()])
        n, n_wrong = len(rows), int(wrong.sum())
        if not 2 <= n_wrong <= n - 2:
            return None
        rules = list(self._rules(parts, rows))
        surprise = math.log2(math.comb(n, n_wrong)) - math.log2(max(1, sum(cost for *_, cost in rules)))
        for words, right, _ in rules:
            if surprise >= BITS and np.array_equal(right, ~wrong):
                what, factor = self._relation(parts, rows[wrong])
                evidence = {"n_wrong": n_wrong, "n": n, "rows": rows[wrong].tolist(), "factor": factor}
                return self.explain(right=words, n_wrong=n_wrong, n=n, what=what, evidence=evidence)
        return None

    def _rules(self, parts: SampleParts, rows: Array) -> Iterator[tuple[str, Array, int]]:
        """Words, the samples that a rule picks, and how many rules of its kind there are."""
        first = np.array([int(np.argmax(parts.rows == row)) for row in rows])
        wrong = np.isin(rows, parts.rows[~parts.right()])
        for name, column in self._columns(parts):
            values = column[first]
            levels = np.unique(values)
            if len(levels) < len(values):
                last = {value: row for row, value in enumerate(values.tolist())}
                is_last = np.array([last[value] == row for row, value in enumerate(values.tolist())])
                words = f"{name} does not occur again later (assignment by index overwrites; np.add.at adds)"
                yield words, is_last, 1
            for level in levels if len(levels) <= MOST_LEVELS else ():
                yield f"{name} is not {level:g}", values != level, 2
                yield f"{name} is {level:g}", values == level, 2
            low, high = values[wrong], values[~wrong]
            for above, below, words in ((high, low, ">"), (low, high, "<")):
                cut = _between(float(below.max()), float(above.min()))
                if cut is not None:
                    yield f"{name} {words} {cut:g}", (values > cut) == (words == ">"), len(levels)

    @staticmethod
    def _columns(parts: SampleParts) -> Iterator[tuple[str, Array]]:
        columns = dict(parts.columns())
        yield from columns.items()
        y, s = columns.get("y"), columns.get("s (the prediction)")
        if y is not None and s is not None and s.shape == y.shape:
            yield "prediction - y", s - y
            yield "|prediction - y|", np.abs(s - y)
        for name, column in columns_of(parts.situation.batch).items():
            if column.ndim == 2 and column.dtype.kind in "fiub":
                for k in range(min(column.shape[1], MOST_LEVELS)):
                    yield f"{name}[:, {k}]", column[parts.rows, k].astype(float)

    @staticmethod
    def _relation(parts: SampleParts, rows: Array) -> tuple[str, float | None]:
        """What the gradient is on the wrong samples, if that is one number times the derivative."""
        wrong = np.isin(parts.rows, rows)
        true, claimed = parts.true[wrong], parts.claimed[wrong]
        square = float((true * true).sum())
        factor = float((claimed * true).sum()) / square if square else np.inf
        if not np.linalg.norm(claimed - factor * true) <= 1e-4 * np.linalg.norm(true):
            return "", None
        if abs(factor) < 1e-6:
            return ", which are left out", 0.0
        return f", where the gradient is {factor:.4g} times the derivative", factor


def _between(low: float, high: float) -> float | None:
    """The roundest number between two, or None if there is no gap."""
    if not low < high:
        return None
    if low < 0 <= high or low <= 0 < high:
        return 0.0
    for digits in range(-6, 8):
        cut = round((low + high) / 2, digits)
        if low < cut < high:
            return cut
    return (low + high) / 2


class SampleFactor(Hypothesis):
    identifier = "sample_factor"
    meaning = (
        "The contribution of each sample is off by its own factor, the same in all entries: the derivative of the "
        "loss, of the link or of a step after the parameter is wrong."
    )
    template = (
        "For each sample the gradient is a multiple of the derivative, {low:.3g} to {high:.3g} times, the same in all "
        "entries ({n} contributions compared). The derivative of the loss, of the link or of a step after this "
        "parameter is wrong."
    )
    rank = 46
    again = True
    is_open = True

    def test(self, case: Case) -> Diagnosis | None:
        """Each factor explains all directions of its sample; for a single number, another block must have shown it."""
        tables = SampleParts.of(case)
        if not tables or any(parts.ratio is None or parts.is_zero.any() for parts in tables):
            return None
        parts, ratio = tables[0], np.asarray(tables[0].ratio)
        shown = case.subject.notes.get("sample factors")
        if case.size < 2:
            if shown is None or not np.isin(parts.rows, shown[0]).all():
                return None
            if not parts.agrees(shown[1][np.searchsorted(shown[0], parts.rows)]):
                return None
        elif np.unique(parts.rows).size == len(parts.rows):
            case.subject.notes["sample factors"] = (parts.rows, ratio)
        low, high = float(ratio.min()), float(ratio.max())
        if len(parts.true) < 4 or high - low <= 1e-3 * max(abs(low), abs(high)):
            return None
        return self.explain(low=low, high=high, n=len(parts.true), evidence={"smallest": low, "largest": high})
