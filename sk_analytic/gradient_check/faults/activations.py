"""Faults that depend on a sample and a unit: activations and their derivatives.

On a single sample, the gradient of a hidden unit's weights is one number per unit times the unit's inputs. So if the
derivative of its activation is wrong, true and analytic gradient have one ratio per sample and unit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...typing import Array
from ..evaluation import Situation, dense, take
from ..evidence import Case
from ..hypotheses import Diagnosis, Hypothesis

MOST_ROWS, MOST_UNITS = 8, 24
SAME = 1e-4
TOLD = 0.4  # share of samples and units that a mask must leave something of


class Ratios:
    """True over analytic derivative by row and unit, along one axis of a block.

    Attributes
    ----------
    axis : int
        The units' axis.
    units : ndarray of int
        The compared units.
    table, errors : ndarray of shape (n_rows, n_units)
        Ratios and their errors; infinite where the gradient alone is zero, NaN where both are.
    spare : int
        Number of ratios that explain more than one entry, so that another entry could have spoken against them.
    """

    def __init__(self, axis: int, units: Array, table: Array, errors: Array, spare: int) -> None:
        self.axis, self.units, self.table, self.errors, self.spare = axis, units, table, errors, spare

    @property
    def told(self) -> Array:
        """The ratios that exist."""
        return self.table[~np.isnan(self.table)]

    def agree(self, predicted: Array | float) -> Array:
        """Return a mask of the existing ratios that agree with a prediction for all."""
        there = ~np.isnan(self.table)
        table, errors, predicted = self.table[there], self.errors[there], np.broadcast_to(predicted, there.shape)[there]
        with np.errstate(invalid="ignore"):
            near = np.isfinite(table) & (np.abs(table - predicted) <= SAME * np.abs(table) + errors)
        agree: Array = near | (np.isinf(table) & np.isinf(predicted))
        return agree

    @property
    def varies_with_rows(self) -> bool:
        """Whether a unit's ratio is not the same in all rows."""
        finite = np.isfinite(self.told)
        largest = np.abs(self.told[finite]).max(initial=0.0)
        return self._varies(self.table.T, largest)

    @property
    def varies_with_units(self) -> bool:
        """Whether the ratios of a row are not the same in all units."""
        return self._varies(self.table, np.abs(self.told[np.isfinite(self.told)]).max(initial=0.0))

    @staticmethod
    def _varies(lines: Array, largest: float) -> bool:
        told = (line[~np.isnan(line)] for line in lines)
        return any(len(line) and not line.max() - line.min() <= 1e-3 * largest for line in told)

    def show(self, case: Case) -> None:
        """Note the ratios of a block for others of the same units, a bias say."""
        case.subject.notes.setdefault("unit ratios", []).append((case.name, case.shape[self.axis], self))

    def shown_by(self, case: Case) -> str:
        """Return the name of another block that has shown the same ratios; empty if there is none."""
        for name, n_units, other in case.subject.notes.get("unit ratios", []):
            if name == case.name or n_units != case.shape[self.axis] or other.table.shape != self.table.shape:
                continue
            both = ~np.isnan(other.table) & ~np.isnan(self.table)
            with np.errstate(invalid="ignore"):
                left = np.abs(other.table - self.table)[both]
            tolerance = (SAME * np.abs(self.table) + self.errors + other.errors)[both]
            alike = (left <= tolerance) | (other.table[both] == self.table[both])
            if np.array_equal(other.units, self.units) and both.sum() > 3 and alike.all():
                return str(name)
        return ""

    @classmethod
    def of(cls, case: Case) -> list[Ratios]:
        """Return those of a case, one for each axis that has them; computed once."""
        if "_ratios" not in case.__dict__:
            found = [cls._along(case, axis) for axis in range(len(case.shape))]
            case.__dict__["_ratios"] = [r for r in found if r is not None]
        ratios: list[Ratios] = case.__dict__["_ratios"]
        return ratios

    @classmethod
    def _along(cls, case: Case, axis: int) -> Ratios | None:
        batch, length = case.situation.batch, case.shape[axis]
        if batch.n < 2 or length < 2:
            return None
        rng = case.subject.rng
        units = np.sort(rng.choice(length, min(MOST_UNITS, length), replace=False))
        rows = np.arange(min(MOST_ROWS, batch.n))
        table, spare = np.full((2, len(rows), len(units)), np.nan), 0
        for i, row in enumerate(rows):
            one = case.situation.of(take(batch, [row]))
            if one.gradient is None:
                return None
            floor = np.abs(case.analytic(one)).max(initial=0) * case.scale * 1e-9
            for j, unit in enumerate(units):
                ratio = cls._ratio(case, one, axis, unit, floor)
                if ratio is None:
                    return None
                table[:, i, j] = ratio
                slab = np.take(case.analytic(one), unit, axis)
                spare += int(np.isfinite(ratio[0]) and np.count_nonzero(np.abs(slab) * case.scale > floor) > 1)
        return cls(axis, units, table[0], table[1], spare) if np.isfinite(table[0]).sum() > 3 else None

    @staticmethod
    def _ratio(case: Case, one: Situation, axis: int, unit: int, floor: float) -> tuple[float, float] | None:
        """The ratio in one unit on one row, and its error; None if two directions disagree on it."""
        ratios = []
        for array in case.directions[: 2 if len(case.shape) > 1 else 1]:
            part = np.zeros(case.shape)
            where = (slice(None),) * axis + (unit,)
            part[where] = array[where]
            claimed = float((case.analytic(one) * part).sum())
            true, error = one.slope(case.index, part)
            if abs(claimed) <= floor:
                return (np.nan, np.nan) if abs(true) <= 1e4 * floor + 10 * error else (np.inf, 0.0)
            ratios.append((true / claimed, (3 * error + floor) / abs(claimed)))
        (first, error), (second, other) = ratios[0], ratios[-1]
        return ratios[0] if abs(first - second) <= SAME * abs(first) + error + other else None


def unit_inputs(case: Case, ratios: Ratios) -> Iterator[Any]:
    """Possible inputs of the units of a first layer: X times a block, plus another block or nothing."""
    layout, situation = case.subject.layout, case.situation
    X = dense(situation.batch)[: len(ratios.table)]
    if X.ndim != 2:
        return
    n_units = case.shape[ratios.axis]
    blocks = [situation.block(i, situation.vector) for i in range(len(layout.names))]
    biases = [np.zeros(n_units), *(b for b in blocks if b.shape == (n_units,))]
    for weights in (b for b in blocks if b.ndim == 2):
        for matrix in (weights, weights.T):
            if matrix.shape == (X.shape[1], n_units):
                for bias in biases:
                    yield (X @ matrix + bias)[:, ratios.units]


class UnitSign(Hypothesis):
    identifier = "unit_sign"
    meaning = "Wrong for one sign of a unit's input: a mask as of ReLU is missing, superfluous, or has another slope."
    template = (
        "For each sample and unit, the gradient is either right or {what} ({n_wrong} of {n} compared, along axis "
        "{axis}): one sign of the unit's input is handled wrongly. Check the mask that the activation (ReLU) applies."
    )
    rank = 48
    again = True  # the mask found in the weights serves the bias

    def test(self, case: Case) -> Diagnosis | None:
        for ratios in Ratios.of(case):
            wrong = ratios.told[~ratios.agree(1.0)]
            if not 2 <= len(wrong) < len(ratios.told) or not self._is_mask(case, ratios):
                continue
            ratio = float(np.median(wrong))
            if (ratios.agree(1.0) | ratios.agree(ratio)).all():
                ratios.show(case)
                evidence = {"ratio": ratio, "n_wrong": len(wrong), "axis": ratios.axis}
                return self.explain(
                    what=self._words(0.0 if ratios.agree(0.0).sum() == len(wrong) else ratio),
                    n_wrong=len(wrong),
                    n=len(ratios.told),
                    axis=ratios.axis,
                    evidence=evidence,
                )
        return None

    @staticmethod
    def _is_mask(case: Case, ratios: Ratios) -> bool:
        """Whether what is wrong may be one side of the units' inputs: of those, where X tells them, it must be."""
        if not ratios.varies_with_rows or not ratios.varies_with_units or len(ratios.told) < TOLD * ratios.table.size:
            return False
        wrong, told = ~ratios.agree(1.0), ~np.isnan(ratios.table)
        sides = [(z > 0)[told] for z in unit_inputs(case, ratios)]
        if sides:
            return any((side == wrong).all() or (side != wrong).all() for side in sides)
        return 2 * ratios.spare > len(ratios.told) or bool(ratios.shown_by(case))

    @staticmethod
    def _words(ratio: float) -> str:
        if ratio == 0:
            return "nonzero although the derivative is zero"
        return "zero although the derivative is not" if np.isinf(ratio) else f"{1 / ratio:.4g} times the derivative"


def _slopes(z: Array) -> dict[str, Array]:
    """Derivatives of activations at a unit's input, by name, and derivatives that are common slips."""
    with np.errstate(all="ignore"):
        sigma = 0.5 * (1 + np.tanh(z / 2))
        return {
            "1": np.ones_like(z),
            "tanh'(z) = 1 - tanh²(z)": 1 - np.tanh(z) ** 2,
            "σ'(z) = σ(z)(1 - σ(z))": sigma * (1 - sigma),
            "relu'(z)": (z > 0).astype(float),
            "σ(z)": sigma,
            "tanh(z)": np.tanh(z),
            "h(1 - h) with h = tanh(z)": np.tanh(z) * (1 - np.tanh(z)),
            "1 - h² with h = relu(z)": 1 - np.maximum(z, 0) ** 2,
            "exp(z)": np.exp(z),
            "cos(z)": np.cos(z),
            "1 - z²": 1 - z**2,
            "z (1 - z)": z * (1 - z),
            "1 - z": 1 - z,
            "z": z,
            "1 - tanh(z)": 1 - np.tanh(z),
            "1 - σ(z)": 1 - sigma,
            "1 - σ²(z)": 1 - sigma**2,
            "1 + tanh²(z)": 1 + np.tanh(z) ** 2,
            "1 - tanh²(tanh(z))": 1 - np.tanh(np.tanh(z)) ** 2,
            "σ'(σ(z))": 0.25 / np.cosh(sigma / 2) ** 2,
        }


class FeatureScaling(Hypothesis):
    identifier = "feature_scaling"
    meaning = "Loss and gradient use features on different scales: shifted or scaled by constants in one of them."
    template = (
        "Loss and gradient use different features: {who} uses {line} instead of x, one expression for each feature "
        "along axis {axis}. Is X centered or scaled in only one of them?"
    )
    rank = 48

    def test(self, case: Case) -> Diagnosis | None:
        X = dense(case.situation.batch)
        for ratios in Ratios.of(case):
            if X.ndim != 2 or case.shape[ratios.axis] != X.shape[1] or not ratios.varies_with_rows:
                continue
            seen = X[: len(ratios.table), ratios.units]
            with np.errstate(all="ignore"):
                both = (("the loss", seen * ratios.table), ("the gradient", seen / ratios.table))
            for who, other in both:
                told = ~np.isnan(other)
                lines = [self._line(x[t], o[t]) for x, o, t in zip(seen.T, other.T, told.T, strict=True) if t.any()]
                if lines and all(lines):
                    slopes, shifts = np.array(lines).T
                    shown = ", ".join(f"{a:.4g} x {b:+.4g}" for a, b in lines[:3]) + (", ..." if len(lines) > 3 else "")
                    evidence = {"slopes": slopes.tolist(), "shifts": shifts.tolist()}
                    return self.explain(who=who, line=shown, axis=ratios.axis, evidence=evidence)
        return None

    @staticmethod
    def _line(x: Array, other: Array) -> Any:
        """Slope and shift of the line on which all points lie, or None."""
        if len(x) < 4 or np.ptp(x) == 0:
            return None
        line = np.polyfit(x, other, 1)
        close = np.abs(np.polyval(line, x) - other) <= 1e-4 * (np.abs(other).max() + np.abs(x).max())
        return tuple(line) if close.all() else None


class Activation(Hypothesis):
    identifier = "activation_derivative"
    meaning = (
        "The gradient that reaches a unit is off by one factor per sample: the derivative of its activation, or a "
        "later one, is wrong."
    )
    template = "The ratio of true to analytic gradient depends only on sample and unit along axis {axis}{what}.{hint}"
    rank = 49
    again = True  # the ratios found in the weights serve the bias

    def test(self, case: Case) -> Diagnosis | None:
        for ratios in Ratios.of(case):
            if len(ratios.told) < 4 or not ratios.varies_with_rows:
                continue
            diagnosis = self._named(case, ratios)
            if diagnosis is None and np.isfinite(ratios.told).all():
                diagnosis = self._noted(case, ratios) or self._unnamed(case, ratios)
            if diagnosis is not None:
                return diagnosis
        return None

    def _unnamed(self, case: Case, ratios: Ratios) -> Diagnosis | None:
        """One ratio for all inputs of a unit, whatever it comes from: only if most explain more than one entry."""
        if 2 * ratios.spare <= len(ratios.told) or not ratios.varies_with_units:
            return None
        low, high = float(ratios.told.min()), float(ratios.told.max())
        what = f", between {low:.3g} and {high:.3g}, the same for all of the unit's inputs"
        hint = (
            " The gradient that reaches the unit from the output is wrong. Check the derivative of its activation, of "
            "the loss or link after it, and whether a path was left out."
        )
        ratios.show(case)
        evidence = {"axis": ratios.axis, "smallest": low, "largest": high}
        return self.explain(axis=ratios.axis, what=what, hint=hint, evidence=evidence)

    def _noted(self, case: Case, ratios: Ratios) -> Diagnosis | None:
        """The ratios that another block of the same units has shown."""
        name = ratios.shown_by(case)
        if not name:
            return None
        what = f", the same ratios as in parameter {name!r}"
        return self.explain(axis=ratios.axis, what=what, hint="", evidence={"axis": ratios.axis, "as": name})

    def _named(self, case: Case, ratios: Ratios) -> Diagnosis | None:
        """The two activations' derivatives whose ratio it is, for units that see X."""
        for z in unit_inputs(case, ratios):
            slopes = _slopes(z)
            for (used, has), (wanted, needs) in itertools.permutations(slopes.items(), 2):
                with np.errstate(all="ignore"):
                    predicted = needs / has
                if ratios.agree(predicted).all():
                    what = f": it has the factor {used} instead of {wanted} (z is the unit's input)"
                    evidence = {"axis": ratios.axis, "used": used, "wanted": wanted}
                    return self.explain(axis=ratios.axis, what=what, hint="", evidence=evidence)
        return None
