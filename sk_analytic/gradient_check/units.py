"""Faults that depend on a row and a unit: activations and their derivatives.

On a single row, what reaches a hidden unit's weights is one number per unit times the unit's inputs. So
if the derivative of its activation is wrong, true and analytic gradient have one ratio per row and unit.
"""

import itertools

import numpy as np

from .causes import Hypothesis
from .subject import take

MOST_ROWS, MOST_UNITS = 8, 24
SAME = 1e-4


class Ratios:
    """True over analytic derivative by row and unit, along one axis of a block.

    Attributes
    ----------
    axis : int
        The units' axis.
    table : ndarray of shape (n_rows, n_units)
        Ratios; infinite where the gradient alone is zero, NaN where both are.
    """

    def __init__(self, axis, units, table):
        self.axis, self.units, self.table = axis, units, table

    @property
    def told(self):
        """The ratios there are."""
        return self.table[~np.isnan(self.table)]

    @classmethod
    def of(cls, case):
        """Return those of a case, one for each axis that has them; looked for once."""
        if "_ratios" not in case.__dict__:
            found = [cls._along(case, axis) for axis in range(len(case.shape))]
            case.__dict__["_ratios"] = [r for r in found if r is not None]
        return case.__dict__["_ratios"]

    @classmethod
    def _along(cls, case, axis):
        batch, length = case.situation.batch, case.shape[axis]
        if batch.n < 2 or length < 2:
            return None
        rng = case.subject.rng
        units = np.sort(rng.choice(length, min(MOST_UNITS, length), replace=False))
        rows = np.arange(min(MOST_ROWS, batch.n))
        table = np.full((len(rows), len(units)), np.nan)
        for i, row in enumerate(rows):
            one = case.situation.of(take(batch, [row]))
            if one.gradient is None:
                return None
            floor = np.abs(case.analytic(one)).max(initial=0) * case.scale * 1e-7
            for j, unit in enumerate(units):
                ratio = cls._ratio(case, one, axis, unit, floor)
                if ratio is None:
                    return None
                table[i, j] = ratio
        return cls(axis, units, table) if np.isfinite(table).sum() > 3 else None

    @staticmethod
    def _ratio(case, one, axis, unit, floor):
        """The ratio in one unit on one row; None if two directions disagree on it."""
        ratios = []
        for array in case.directions[: 2 if len(case.shape) > 1 else 1]:
            part = np.zeros(case.shape)
            where = (slice(None),) * axis + (unit,)
            part[where] = array[where]
            claimed = float((case.analytic(one) * part).sum())
            true, error = one.slope(case.index, part)
            small = floor + 10 * error
            if abs(true) <= small and abs(claimed) <= small:
                return np.nan
            ratios.append(0.0 if abs(true) <= small else np.inf if abs(claimed) <= small else true / claimed)
        if len(ratios) == 2 and ratios[0] != ratios[1] and not abs(ratios[0] - ratios[1]) <= SAME * abs(ratios[0]):
            return None
        return ratios[0]


class UnitSign(Hypothesis):
    identifier = "unit_sign"
    meaning = "Wrong on one side of a unit's input: a mask as of ReLU is missing, too much, or has another slope."
    template = (
        "By row and unit it is either right or {what} ({n_wrong} of {n} looked at, along axis {axis}): one sign of the "
        "unit's input is treated wrongly. Look at the mask that the activation (ReLU) puts on the gradient."
    )
    rank = 48

    def test(self, case):
        for ratios in Ratios.of(case):
            told = ratios.told
            wrong = told[~(np.abs(told - 1) <= SAME)]
            if not 0 < len(wrong) < len(told):
                continue
            if len(wrong) > 1 and (np.all(wrong == wrong[0]) or np.ptp(wrong) <= SAME * abs(wrong[0])):
                by_unit = [np.ptp(c[np.isfinite(c)]) if np.isfinite(c).any() else 0 for c in ratios.table.T]
                if not max(by_unit) and np.isfinite(wrong[0]):
                    continue
                what = self._words(wrong[0])
                evidence = {"ratio": float(wrong[0]), "n_wrong": len(wrong), "axis": ratios.axis}
                return self.explain(what=what, n_wrong=len(wrong), n=len(told), axis=ratios.axis, evidence=evidence)
        return None

    @staticmethod
    def _words(ratio):
        if ratio == 0:
            return "not zero where the derivative is"
        return "zero where the derivative is not" if np.isinf(ratio) else f"{1 / ratio:.4g} times the derivative"


def _slopes(z):
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


class Activation(Hypothesis):
    identifier = "activation_derivative"
    meaning = "The derivative of an activation is missing, taken twice, at another place, or of another activation."
    template = "True and analytic gradient have one ratio per row and unit along axis {axis}{what}.{hint}"
    rank = 49

    def test(self, case):
        for ratios in Ratios.of(case):
            told = ratios.told
            if len(told) < 4 or not np.isfinite(told).all() or np.ptp(told) <= 1e-3 * np.abs(told).max():
                continue
            named = self._named(case, ratios)
            if named is not None:
                return named
            if len(case.shape) > 1:
                low, high = float(told.min()), float(told.max())
                what = f", between {low:.3g} and {high:.3g}, the same for all of the unit's inputs"
                hint = " So acts the derivative of an activation that is missing, or taken twice, or wrong."
                evidence = {"axis": ratios.axis, "smallest": low, "largest": high}
                return self.explain(axis=ratios.axis, what=what, hint=hint, evidence=evidence)
        return None

    def _named(self, case, ratios):
        """The two activations' derivatives whose ratio it is, for units that see X."""
        for z in self._inputs(case, ratios):
            slopes = _slopes(z)
            for (used, has), (wanted, needs) in itertools.permutations(slopes.items(), 2):
                with np.errstate(all="ignore"):
                    predicted = needs / has
                there = ~np.isnan(ratios.table)
                left = np.abs(predicted - ratios.table)[there]
                if (left <= SAME * np.abs(ratios.table[there])).all():
                    what = f": it has the factor {used} where {wanted} belongs (z is the unit's input)"
                    evidence = {"axis": ratios.axis, "used": used, "wanted": wanted}
                    return self.explain(axis=ratios.axis, what=what, hint="", evidence=evidence)
        return None

    @staticmethod
    def _inputs(case, ratios):
        """What units of a first layer may have as input: X times a block, plus another block or nothing."""
        layout, situation = case.subject.layout, case.situation
        X = situation.batch.X[: len(ratios.table)]
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
