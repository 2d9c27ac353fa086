"""Faults in part of a block: an entry, a row, a column, a triangle; and faults that enter through another block.

Directions within a slice tell whether it is right. Slices are searched by halving, so that a few wrong
ones among a million entries are found in a few dozen evaluations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ...typing import Array, Shape
from ..evaluation import Situation, SpentError, dense, replaced
from ..evidence import Case, Way
from ..hypotheses import Diagnosis, Hypothesis, is_near
from .factors import SampleParts

SMALL = 48  # entries that are compared one by one
SAMPLE = 6  # slices that are tried first: if all are wrong, the search ends
MOST_PARTS = 200  # directions spent on one axis
MOST_COLUMNS = 12
AGREES = 3e-6


class Places:
    """Where in a block the gradient is wrong.

    Attributes
    ----------
    mask : ndarray of bool or None
        The wrong entries; None if the whole block is wrong, or if they cannot be told apart.
    indices : tuple of list of int
        By axis, the indices of the wrong slices.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.situation = case, case.situation
        self.budget = 6 * MOST_PARTS
        self.norm = case.mismatch
        self.mask: Any = self._find()
        self.indices: tuple[Any, ...] = ()
        if self.mask is not None:
            self.indices = tuple(np.unique(axis).tolist() for axis in np.nonzero(self.mask))

    @classmethod
    def of(cls, case: Case) -> Places:
        """Return those of a case; searched for once."""
        if "_places" not in case.__dict__:
            case.__dict__["_places"] = cls(case)
        places: Places = case.__dict__["_places"]
        return places

    def _find(self) -> Array | None:
        case = self.case
        if case.size <= SMALL:
            mask = np.array([self.is_wrong(unit) for unit in np.eye(case.size, dtype=bool)]).reshape(case.shape)
            return mask if mask.any() and not mask.all() else None
        masks = [mask for mask in (self._rectangle(), self._triangle()) if mask is not None]
        return min(masks, key=np.sum, default=None)

    def _triangle(self) -> Array | None:
        """A diagonal or triangle outside of which all is right."""
        for mask in _triangles(self.case.shape):
            if self.is_wrong(mask) and not self.is_wrong(~mask):
                return mask
        return None

    def _rectangle(self) -> Array | None:
        """The wrong slices along each axis, if all entries outside them are right."""
        shape = self.case.shape
        mask = np.ones(shape, bool)
        for axis, length in enumerate(shape):
            wrong = self._slices(axis, length)
            if wrong is not None:
                chosen = np.zeros(length, bool)
                chosen[wrong] = True
                mask &= chosen.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        return None if mask.all() or not mask.any() or self.is_wrong(~mask) else mask

    def _slices(self, axis: int, length: int) -> list[int] | None:
        """Indices of the wrong slices along an axis, by halving; None if all are wrong, or too many to tell."""
        sample = self.case.subject.rng.choice(length, min(SAMPLE, length), replace=False)
        if length > SAMPLE and all(self.is_wrong(self._slab(axis, [i])) for i in sample):
            return None
        wrong: list[int] = []
        pending = [np.arange(length)]
        for _ in range(MOST_PARTS):
            if not pending:
                return sorted(wrong) if 0 < len(wrong) < length else None
            part = pending.pop()
            if self.is_wrong(self._slab(axis, part)):
                if len(part) == 1:
                    wrong.append(int(part[0]))
                else:
                    pending += np.array_split(part, 2)
        return None

    def _slab(self, axis: int, indices: Any) -> Array:
        mask = np.zeros(self.case.shape, bool)
        mask[(slice(None),) * axis + (indices,)] = True
        return mask

    def is_wrong(self, mask: Array) -> bool:
        """Whether the gradient is wrong along a random direction in some entries; a second one is asked if not."""
        mask = np.reshape(mask, self.case.shape)
        return any(self._differs(mask) for _ in range(2 if mask.sum() > 1 else 1))

    def _differs(self, mask: Array) -> bool:
        self.budget -= 1
        if self.budget < 0:
            raise SpentError
        case = self.case
        array = case.subject.rng.standard_normal(case.shape) * case.scale * mask
        analytic = case.analytic()
        claimed, scale = float((analytic * array).sum()), float(np.linalg.norm(analytic * array))
        true, error = self.situation.slope(case.index, array, scale=scale)
        if not np.isfinite(true):
            return False
        share = 1e-7 * self.norm  # negligible beside the whole fault
        return abs(claimed - true) > AGREES * max(scale, abs(true)) + 3 * error + share

    def relation(self) -> tuple[str, float | None]:
        """Describe the gradient in the wrong places; return the factor too, if it is off by one."""
        case, mask = self.case, self.mask
        analytic = case.analytic() * mask
        if not analytic.any():
            return "zero there", 0.0
        draws = case.subject.rng.standard_normal((4, *case.shape)) * case.scale * mask
        true, error = case.slopes(case.situation, draws)
        claimed = case.project(analytic, draws)
        if np.linalg.norm(true) <= 1e-6 * np.linalg.norm(claimed) + 5 * np.linalg.norm(error):
            return "nonzero there, although the derivative is zero", np.inf
        factor = float(claimed @ true) / float(true @ true)
        if int(mask.sum()) > 1 and np.linalg.norm(claimed - factor * true) <= 1e-5 * np.linalg.norm(claimed) + 5 * abs(
            factor
        ) * np.linalg.norm(error):
            return f"{'minus ' if is_near(factor, -1) else f'{factor:.6g} times '}the derivative there", factor
        if int(mask.sum()) == 1:
            return f"{factor:.6g} times the derivative there", factor
        return "different there", None


def _triangles(shape: Shape) -> Iterator[Array]:
    """Masks of square blocks: diagonal, triangles with and without it."""
    if len(shape) == 2 and shape[0] == shape[1] > 1:
        full = np.ones(shape, bool)
        for mask in (np.eye(shape[0], dtype=bool), np.triu(full, 1), np.tril(full, -1)):
            yield mask
            yield ~mask


class OnlySomePlaces(Hypothesis):
    """Base of the causes that locate the fault within the block."""

    rank = 40

    def fits(self, places: Places, shape: Shape) -> str | None:
        """Whether the places are of this kind; words for them if so."""
        raise NotImplementedError

    def test(self, case: Case) -> Diagnosis | None:
        places = Places.of(case)
        if places.mask is None:
            return None
        words = self.fits(places, case.shape)
        if words is None:
            return None
        what, factor = places.relation()
        end, hint = _end(places, case.shape)
        evidence = {
            "indices": [list(map(int, i)) for i in places.indices],
            "n_entries": int(places.mask.sum()),
            "factor": factor,
            "end": end,
        }
        return self.explain(words=words, what=what, hint=hint, evidence=evidence)


def _end(places: Places, shape: Shape) -> tuple[str, str]:
    """Which end of an axis the places are at, "first" or "last", and a hint: slices, loops and recursions end there."""
    for axis, (chosen, length) in enumerate(zip(places.indices, shape, strict=True)):
        if len(chosen) == 1 and length > 2 and chosen[0] in (0, length - 1):
            end = "last" if chosen[0] else "first"
            return end, f" It is the {end} along axis {axis}: check the bounds of a slice or a loop."
    return "", ""


class OneEntry(OnlySomePlaces):
    identifier = "one_entry"
    meaning = "A single entry of the parameter is wrong."
    template = "Only {words} is wrong: the gradient is {what}.{hint}"

    def fits(self, places: Places, shape: Shape) -> str | None:
        if places.mask.sum() == 1:
            return f"entry {tuple(i[0] for i in places.indices)}"
        return None


class OneRow(OnlySomePlaces):
    identifier = "one_row"
    meaning = "Only one row (slice along the first axis) or a few are wrong."
    template = "Only {words} wrong: the gradient is {what}.{hint}"

    def fits(self, places: Places, shape: Shape) -> str | None:
        return _slices_along(places, shape, 0, "row")


class OneColumn(OnlySomePlaces):
    identifier = "one_column"
    meaning = "Only one column (slice along the last axis) or a few are wrong."
    template = "Only {words} wrong: the gradient is {what}.{hint}"

    def fits(self, places: Places, shape: Shape) -> str | None:
        return _slices_along(places, shape, len(shape) - 1, "column") if len(shape) > 1 else None


def _slices_along(places: Places, shape: Shape, axis: int, word: str) -> str | None:
    """Words for a few whole slices along an axis."""
    if len(shape) < 2:
        return None
    chosen = places.indices[axis]
    whole = all(len(i) == n for a, (i, n) in enumerate(zip(places.indices, shape, strict=True)) if a != axis)
    full = places.mask.sum() == len(chosen) * (places.mask.size // shape[axis])
    if not whole or not full or len(chosen) > max(1, shape[axis] // 2):
        return None
    return f"{word} {chosen[0]} is" if len(chosen) == 1 else f"{word}s {_listed(chosen)} are"


class SomeEntries(OnlySomePlaces):
    identifier = "some_entries"
    meaning = "Some entries of the parameter are wrong: a triangle, a diagonal, a rectangle, or scattered ones."
    template = "Only {words} wrong: the gradient is {what}.{hint}"
    rank = 41

    def fits(self, places: Places, shape: Shape) -> str | None:
        if len(shape) == 2 and shape[0] == shape[1]:
            full = np.ones(shape, bool)
            for name, mask in (
                ("the diagonal is", np.eye(shape[0], dtype=bool)),
                ("the off-diagonal entries are", ~np.eye(shape[0], dtype=bool)),
                ("the upper triangle is", np.triu(full, 1)),
                ("the upper triangle with the diagonal is", np.triu(full)),
                ("the lower triangle is", np.tril(full, -1)),
                ("the lower triangle with the diagonal is", np.tril(full)),
            ):
                if np.array_equal(mask, places.mask):
                    return name
        count = int(places.mask.sum())
        if 2 * count > places.mask.size:
            return None
        where = " and ".join(f"{_listed(i)} along axis {a}" for a, i in enumerate(places.indices))
        return f"{count} of {places.mask.size} entries ({where}) are"


def _listed(indices: Sequence[int], most: int = 6) -> str:
    """A list of indices for a sentence, long ones shortened."""
    if len(indices) > 2 and indices == list(range(indices[0], indices[-1] + 1)):
        return f"{indices[0]} to {indices[-1]}"
    shown = ", ".join(map(str, indices[:most]))
    return f"{shown}, ..." if len(indices) > most else shown


def heals(case: Case, situation: Situation | None) -> bool:
    """Whether the block is right in a changed situation, though its gradient is not gone there."""
    if situation is None or situation.gradient is None or not np.isfinite(situation.gradient).all():
        return False
    directions = case.directions[:3]
    claimed = case.project(case.analytic(situation), directions)
    if not np.linalg.norm(claimed) > 1e-3 * np.linalg.norm(case.project(case.analytic(), directions)):
        return False
    true, error = case.slopes(situation, directions)
    return bool(np.linalg.norm(claimed - true) <= AGREES * np.linalg.norm(true) + 5 * np.linalg.norm(error))


def without_block(situation: Situation, index: int, place: Any = slice(None), axis: int = 0) -> Situation:
    """Return the situation with a block, or a slice of it, at zero."""
    vector = situation.vector.copy()
    situation.block(index, vector)[(slice(None),) * axis + (place,) if place != slice(None) else ...] = 0
    return situation.at(vector)


def without_column(situation: Situation, place: int) -> Situation:
    """Return the situation with a column of X at zero."""
    X = dense(situation.batch).copy()
    X[:, place] = 0
    return situation.of(replaced(situation.batch, X=X))


class Through(Hypothesis):
    """Base of the causes where the fault enters through the end of another block, or of X.

    The first step is named only if the gradient is right without it at two θ, and not without the second or a middle
    one. What has weights of its own by feature is no step, but a feature.
    """

    rank = 45
    again = True
    first = True

    def test(self, case: Case) -> Diagnosis | None:
        for words, length, without in self._axes(case):
            end, *others = (0, 1, length // 2) if self.first else (length - 1, length - 2, length // 2)
            if (
                heals(case, without(case.situation, end))
                and not any(heals(case, without(case.situation, other)) for other in others)
                and all(heals(case, without(there, end)) for there in case.elsewhere[:1])
            ):
                return self.explain(words.format(end), evidence={"through": words.format(end)})
        return None

    @staticmethod
    def _axes(case: Case) -> Iterator[tuple[str, int, Callable[..., Situation]]]:
        """Words for a place on an axis, its length, and what sets a place to zero: in other blocks, and in X."""
        layout = case.subject.layout
        for index in case.others:
            for axis, length in enumerate(layout.shapes[index]):
                if length > 2 and not _weighs_features(case.situation, index, axis):
                    words = f"{layout.names[index]}[{', '.join([':'] * axis + ['{}'])}]"
                    yield words, length, lambda s, place, i=index, a=axis: without_block(s, i, place, a)
        X = dense(case.situation.batch)
        weights = ((i, axis) for i, shape in enumerate(layout.shapes) for axis in range(len(shape)))
        if X.ndim == 2 and X.shape[1] > 2 and not any(_weighs_features(case.situation, *place) for place in weights):
            yield "X[:, {}]", X.shape[1], without_column


def _weighs_features(situation: Situation, index: int, axis: int) -> bool:
    """Whether the slices of a block along an axis are weights of features, which do not matter where those are zero."""
    shape, X = situation.subject.layout.shapes[index], dense(situation.batch)
    if X.ndim != 2 or shape[axis] != X.shape[1]:
        return False
    for place in (0, shape[axis] // 2):
        array = np.zeros(shape)
        array[(slice(None),) * axis + (place,)] = 1.0
        slope, _ = situation.slope(index, array)
        gone, error = without_column(situation, place).slope(index, array)
        if abs(gone) > 1e-6 * abs(slope) + 10 * error:
            return False
    return True


class FirstStep(Through):
    identifier = "first_step"
    meaning = "The first step of a recursion or loop is missing, or differs between loss and gradient."
    template = (
        "The gradient is right if {} is zero, so the fault enters through the first step. Check how the "
        "recursion starts, in the loss and in the gradient."
    )


class LastStep(Through):
    identifier = "last_step"
    meaning = "The last step of a recursion or loop is missing, or differs between loss and gradient."
    template = (
        "The gradient is right if {} is zero, so the fault enters through the last step. Check how the "
        "recursion ends, in the loss and in the gradient."
    )
    first = False


class ThroughBlock(Hypothesis):
    identifier = "through_block"
    meaning = "The fault enters through another parameter, or a column of X: if that is zero, the gradient is right."
    template = "The gradient is right if {} is zero, so the part that depends on it is wrong or missing."
    rank = 47
    again = True  # what heals one block may be the block that is wrong itself

    def test(self, case: Case) -> Diagnosis | None:
        """One feature alone, or else one block, whose zeros heal the block; its own count if they heal another."""
        layout, noted = case.subject.layout, case.subject.notes.setdefault("through", set())
        blocks = [*case.others, *([case.index] if case.name in noted else [])]
        X = dense(case.situation.batch)
        columns = range(X.shape[1]) if X.ndim == 2 and 1 < X.shape[1] <= MOST_COLUMNS else ()
        for places in (
            [(f"X[:, {j}]", without_column(case.situation, j)) for j in columns],
            [(layout.names[index], without_block(case.situation, index)) for index in blocks],
        ):
            healing = [words for words, situation in places if heals(case, situation)]
            if len(healing) == 1:
                noted.add(healing[0])
                return self.explain(healing[0], evidence={"through": healing[0]})
        return None


class Permuted(Hypothesis):
    identifier = "permuted"
    meaning = "The slices of the parameter along an axis are in another order."
    template = (
        "Its slices along axis {axis} are in another order (agreement {agreement:.1g} after sorting them): {listed}."
    )
    rank = 39

    def ways(self, case: Case) -> Iterator[Way]:
        for axis, length in enumerate(case.shape):
            order = self._order(case, axis, length) if 2 < length <= 64 else None
            if order is not None:
                listed = f"slice {order[0]} belongs at 0, {order[1]} at 1, {order[2]} at 2 ..."
                words = {"axis": axis, "order": order, "listed": listed}
                yield Way(words, case.repaired(lambda s, a=axis, o=order: np.take(case.analytic(s), o, axis=a)))

    @staticmethod
    def _order(case: Case, axis: int, length: int) -> list[int] | None:
        """For each slice, which slice of the gradient matches its derivative; None if it is no permutation."""
        rest = tuple(n for a, n in enumerate(case.shape) if a != axis)
        draw = case.subject.rng.standard_normal(rest) * case.scale
        claimed = np.moveaxis(case.analytic(), axis, 0).reshape(length, -1) @ np.ravel(draw)
        order = []
        for place in range(length):
            array = np.zeros((length, *rest))
            array[place] = draw
            true, error = case.situation.slope(case.index, np.moveaxis(array, 0, axis))
            nearest = int(np.abs(claimed - true).argmin())
            if abs(claimed[nearest] - true) > 1e-5 * np.abs(claimed).max() + 3 * error:
                return None
            order.append(nearest)
        return order if sorted(order) == list(range(length)) and order != sorted(order) else None


def pattern(case: Case) -> tuple[str, dict[str, Any]]:
    """Describe a fault that nothing explains: where it is, and how the ratio of the derivatives is spread."""
    places = None
    with contextlib.suppress(SpentError):
        places = Places.of(case)
    true, _ = case.sketch()
    claimed = case.project(case.analytic())
    cosine = float(claimed @ true) / max(float(np.linalg.norm(claimed) * np.linalg.norm(true)), 1e-300)
    words = [_ratios(case)]
    if places is not None and places.mask is not None:
        where = " and ".join(f"{_listed(i)} along axis {a}" for a, i in enumerate(places.indices))
        words.append(f"{int(places.mask.sum())} of {case.size} entries are wrong, {where}.")
    elif case.size > 1:
        words.append("The whole parameter array is wrong.")
    if case.size > 1:  # of a single number, they are proportional
        words.append(f"Analytic and numerical derivatives along random directions correlate to {cosine:.3f}.")
    words.extend(_in_samples(case))
    zeros = float(np.mean(case.analytic() == 0))
    if zeros:
        words.append(f"{zeros:.0%} of the analytic entries are zero.")
    return " ".join(words), {"cosine": cosine}


def _in_samples(case: Case) -> Iterator[str]:
    """In how many samples the gradient is wrong, if they have derivatives of their own."""
    for parts in SampleParts.made(case)[:1]:
        wrong = np.unique(parts.rows[~parts.right()])
        yield f"The gradient is wrong in {wrong.size} of {case.situation.n} compared samples."


def _ratios(case: Case, most: int = 24) -> str:
    """How analytic over numerical is spread over a sample of entries."""
    chosen = case.subject.rng.choice(case.size, min(most, case.size), replace=False)
    ratios = []
    for entry in chosen:
        unit = np.zeros(case.size)
        unit[entry] = case.scale
        true, error = case.situation.slope(case.index, unit)
        if np.isfinite(true) and abs(true) > 10 * error:
            ratios.append(case.analytic().ravel()[entry] * case.scale / true)
    if not ratios:
        return "The derivatives of single entries are too small to form ratios."
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
    of = f"{len(ratios)} of {case.size} entries" if case.size > 1 else "the only entry"
    if len(ratios) == 1:
        return f"Analytic over numerical derivative is {middle:.3g} in {of}."
    return f"Analytic over numerical derivative is {low:.3g} to {high:.3g} (median {middle:.3g}) in {of}."
