"""Faults of a right gradient that was treated afterwards: clipped, normalized, projected, scaled slice by slice."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...typing import Array, Shape
from ..evaluation import Situation
from ..evidence import CHOSEN_ON, Case, Way
from ..hypotheses import Diagnosis, Hypothesis
from ..verdict import decimals_of

MOST_SLICES = 64


class Rescaled(Hypothesis):
    identifier = "rescaled"
    meaning = (
        "The direction is right but the length is not: clipped by norm, normalized, or scaled by a varying number."
    )
    template = (
        "The direction is right but the length is wrong, by a factor that varies{norm}. Is it clipped or normalized?"
    )
    rank = 35

    def test(self, case: Case) -> Diagnosis | None:
        if case.size < 3:
            return None
        factors = []
        for situation in case.situations:
            true, error = case.sketch(situation)
            claimed = case.project(case.analytic(situation), case.directions[: len(true)])
            factor = float(claimed @ true) / float(true @ true)
            left = np.linalg.norm(claimed - factor * true)
            if not factor > 0 or left > 2e-5 * np.linalg.norm(claimed) + 5 * factor * np.linalg.norm(error):
                return None
            factors.append(factor)
        if len(factors) < 2 or np.ptp(factors) < 1e-4 * max(factors):
            return None
        lengths = [float(np.linalg.norm(case.analytic(s))) for s in case.situations]
        norm = f": its norm is {lengths[0]:.6g} everywhere" if np.ptp(lengths) < 1e-6 * max(lengths) else ""
        return self.explain(norm=norm, evidence={"factors": factors, "norms": lengths})


class Clipped(Hypothesis):
    identifier = "clipped"
    meaning = "The entries of the gradient are clipped at a bound."
    template = "{n} of {of} entries are at the bound {bound:.6g}; the others are right. The gradient is clipped."
    rank = 38

    def test(self, case: Case) -> Diagnosis | None:
        analytic = case.analytic()
        bound = float(np.abs(analytic).max())
        at_bound = np.abs(analytic) == bound
        n = int(at_bound.sum())
        if not bound or n < 2 or not self._right_elsewhere(case, at_bound) or not self._beyond(case, at_bound, bound):
            return None
        return self.explain(n=n, of=case.size, bound=bound, evidence={"bound": bound, "n_entries": n})

    @staticmethod
    def _right_elsewhere(case: Case, at_bound: Array) -> bool:
        free = case.directions * ~at_bound
        true, error = case.slopes(case.situation, free)
        left = np.linalg.norm(case.project(case.analytic(), free) - true)
        return bool(left <= 1e-5 * np.linalg.norm(true) + 5 * np.linalg.norm(error))

    @staticmethod
    def _beyond(case: Case, at_bound: Array, bound: float) -> bool:
        """Whether the derivative lies beyond the bound, on the same side, in a few entries that are at it."""
        for entry in np.flatnonzero(at_bound)[:CHOSEN_ON]:
            unit = np.zeros(case.size)
            unit[entry] = case.scale
            true, error = case.situation.slope(case.index, unit)
            sign = np.sign(case.analytic().ravel()[entry])
            if not sign * true >= bound * case.scale * (1 - 1e-5) - 5 * error:
                return False
        return True


class Rounded(Hypothesis):
    identifier = "rounded"
    meaning = "The gradient is rounded to a few decimals."
    template = "Every entry is rounded to {decimals} decimals; otherwise it is right. Round only for printing."
    rank = -3

    def test(self, case: Case) -> Diagnosis | None:
        decimals = decimals_of(np.concatenate([np.ravel(case.analytic(s)) for s in case.situations]))
        if decimals is None:
            return None
        true, error = case.sketch()
        left = np.abs(case.project(case.analytic()) - true)
        most = 0.5 * 10.0**-decimals * np.abs(case.directions).reshape(len(true), -1).sum(axis=1)
        if not (left <= most + error).all():
            return None
        return self.explain(decimals=decimals, evidence={"decimals": decimals})


class Projected(Hypothesis):
    identifier = "projected"
    meaning = "The gradient is the derivative made symmetric, centered, or averaged along an axis."
    template = "It is the derivative {how} (agreement {agreement:.1g})."
    rank = 13

    @staticmethod
    def projections(shape: Shape) -> Iterator[tuple[str, Any]]:
        """Words and symmetric projections of an array of the shape, or of a stack of them."""
        if len(shape) == 2 and shape[0] == shape[1] > 1:
            yield "made symmetric", lambda d: (d + d.swapaxes(-1, -2)) / 2
            yield "plus its transpose", lambda d: d + d.swapaxes(-1, -2)
            yield "made antisymmetric", lambda d: (d - d.swapaxes(-1, -2)) / 2
        axes = tuple(range(-len(shape), 0))
        for chosen in [axes, *((axis,) for axis in axes if len(axes) > 1)]:
            where = "all entries" if chosen == axes else f"axis {chosen[0] + len(shape)}"
            if np.prod([shape[axis] for axis in chosen]) > 1:
                yield f"minus its mean over {where}", lambda d, c=chosen: d - d.mean(axis=c, keepdims=True)
                yield (
                    f"averaged over {where}",
                    lambda d, c=chosen: np.broadcast_to(d.mean(axis=c, keepdims=True), d.shape),
                )
                yield (
                    f"summed over {where}",
                    lambda d, c=chosen: np.broadcast_to(d.sum(axis=c, keepdims=True), d.shape),
                )

    def ways(self, case: Case) -> Iterator[Way]:
        """A symmetric projection of the derivative has its slopes along projected directions."""
        for how, project in self.projections(case.shape) if case.size > 2 else ():

            def numbers(situation: Situation, count: int, project: Any = project) -> Any:
                directions = case.directions_at(situation)[:count]
                projected = np.ascontiguousarray(project(directions))
                return *case.slopes(situation, projected), case.project(case.analytic(situation), directions)

            yield Way({"how": how}, numbers)


class SliceFactors(Hypothesis):
    identifier = "slice_factors"
    meaning = (
        "Each slice along an axis is off by its own constant factor: features or units scaled in only one of the two."
    )
    template = (
        "Each slice along axis {axis} is off by its own constant factor, {listed} (agreement {agreement:.1g}). Is "
        "something scaled in the loss but not in the gradient, or vice versa, such as standardized features?"
    )
    rank = 43

    def ways(self, case: Case) -> Iterator[Way]:
        """The factors come from one slope each; all other directions, samples and θ speak for or against them."""
        for axis, length in enumerate(case.shape):
            factors = self._factors(case, axis, length) if 1 < length <= MOST_SLICES and case.elsewhere else None
            if factors is None:
                continue
            spread = factors.reshape([-1 if a == axis else 1 for a in range(len(case.shape))])
            listed = ", ".join(f"{r:.4g}" for r in factors[:5]) + (", ..." if length > 5 else "")
            words = {"axis": axis, "listed": listed, "factors": factors.tolist()}
            yield Way(words, case.repaired(lambda s, f=spread: case.analytic(s) / f))

    @staticmethod
    def _factors(case: Case, axis: int, length: int) -> Array | None:
        """Analytic over true derivative by slice."""
        factors = np.ones(length)
        for place in range(length):
            array = np.zeros(case.shape)
            where = (slice(None),) * axis + (place,)
            array[where] = case.directions[place % CHOSEN_ON][where]
            claimed = float((case.analytic() * array).sum())
            true, _ = case.situation.slope(case.index, array)
            if not claimed or not np.isfinite(true) or not true:
                return None
            factors[place] = claimed / true
        return factors
