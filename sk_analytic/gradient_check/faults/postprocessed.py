"""Faults of a right gradient that was treated afterwards: clipped, normalised, projected, scaled slice by slice."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...typing import Array, Shape
from ..evidence import CHOSEN_ON, Case
from ..hypotheses import Diagnosis, Hypothesis

MOST_SLICES = 64


class Rescaled(Hypothesis):
    identifier = "rescaled"
    meaning = (
        "The direction is right and the length is not: clipped by its norm, normalised, or scaled by a varying number."
    )
    template = (
        "The direction is right, the length is not, and not by a constant factor{norm}. Is it clipped or normalised?"
    )
    rank = 4

    def test(self, case: Case) -> Diagnosis | None:
        if case.size < 3:
            return None
        factors = []
        for situation in (case.situation, *case.elsewhere):
            true, error = case.sketch(situation)
            claimed = case.project(case.analytic(situation), case.directions[: len(true)])
            factor = float(claimed @ true) / float(true @ true)
            left = np.linalg.norm(claimed - factor * true)
            if not factor > 0 or left > 2e-5 * np.linalg.norm(claimed) + 5 * factor * np.linalg.norm(error):
                return None
            factors.append(factor)
        if len(factors) < 2 or np.ptp(factors) < 1e-4 * max(factors):
            return None
        lengths = [float(np.linalg.norm(case.analytic(s))) for s in (case.situation, *case.elsewhere)]
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
        if not bound or not 1 < at_bound.sum() < case.size:
            return None
        free = case.directions * ~at_bound
        true, error = case.sketch(case.situation, free)
        left = np.linalg.norm(case.project(analytic, free) - true)
        if left > 1e-5 * np.linalg.norm(true) + 5 * np.linalg.norm(error):
            return None
        n = int(at_bound.sum())
        return self.explain(n=n, of=case.size, bound=bound, evidence={"bound": bound, "n_entries": n})


class Rounded(Hypothesis):
    identifier = "rounded"
    meaning = "The gradient is rounded to a few decimals."
    template = "Every entry is rounded to {decimals} decimals; otherwise it is right. Round only for printing."
    rank = 37

    def test(self, case: Case) -> Diagnosis | None:
        analytic = case.analytic()
        decimals = next((k for k in range(9) if np.array_equal(np.round(analytic, k), analytic)), None)
        if decimals is None or case.size < 2:
            return None
        true, error = case.sketch()
        left = np.abs(case.project(analytic) - true)
        most = 0.5 * 10.0**-decimals * np.abs(case.directions).reshape(len(true), -1).sum(axis=1)
        return (
            self.explain(decimals=decimals, evidence={"decimals": decimals}) if (left <= most + error).all() else None
        )


class Projected(Hypothesis):
    identifier = "projected"
    meaning = "The gradient is the derivative made symmetric, centred, or averaged along an axis."
    template = "It is the derivative {how} (agreement {agreement:.1g})."
    rank = 13

    @staticmethod
    def ways(shape: Shape) -> Iterator[tuple[str, Any]]:
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

    def test(self, case: Case) -> Diagnosis | None:
        claimed = case.project(case.analytic())
        for how, project in self.ways(case.shape):
            directions = np.ascontiguousarray(project(case.directions))
            fit = case.match(claimed, case.situation, directions)
            if fit and case.size > 2:
                return self.explain(how=how, agreement=fit.agreement, evidence={**fit.evidence, "how": how})
        return None


class SliceFactors(Hypothesis):
    identifier = "slice_factors"
    meaning = "Each slice along an axis is off by its own constant factor: features or units scaled on one side only."
    template = (
        "Each slice along axis {axis} is off by its own constant factor, {listed} (agreement {agreement:.1g}). Is "
        "something scaled in the loss and not in the gradient, or the reverse, such as standardised features?"
    )
    rank = 43

    def test(self, case: Case) -> Diagnosis | None:
        for axis, length in enumerate(case.shape):
            if not 1 < length <= MOST_SLICES or not case.elsewhere:
                continue
            factors = self._factors(case, axis, length)
            if factors is None:
                continue
            spread = factors.reshape([-1 if a == axis else 1 for a in range(len(case.shape))])
            fit = case.explain(lambda s, f=spread: case.analytic(s) * f)
            if fit is not None:
                ratios = 1 / factors
                listed = ", ".join(f"{r:.4g}" for r in ratios[:5]) + (", ..." if length > 5 else "")
                evidence = {"agreement": fit.agreement, "axis": axis, "factors": ratios.tolist()}
                return self.explain(axis=axis, listed=listed, agreement=fit.agreement, evidence=evidence)
        return None

    @staticmethod
    def _factors(case: Case, axis: int, length: int) -> Array | None:
        """True over analytic derivative by slice."""
        factors = np.ones(length)
        for place in range(length):
            array = np.zeros(case.shape)
            where = (slice(None),) * axis + (place,)
            array[where] = case.directions[place % CHOSEN_ON][where]
            claimed = float((case.analytic() * array).sum())
            true, _ = case.situation.slope(case.index, array)
            if not claimed or not np.isfinite(true) or not true:
                return None
            factors[place] = true / claimed
        return factors
