"""Right, wrong, or "cannot tell, because": the verdict on each block, before any diagnosis.

One random direction through all blocks at once, each scaled so that it counts, clears a right gradient
in a few evaluations whatever the number of blocks. If it does not, every block gets its own directions.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..finite_differences import size_of
from ..parameters import Layout
from ..typing import Array
from .differences import Differences
from .evaluation import Situation, SpentError, nearby
from .hypotheses import (
    Cancellation,
    Diagnosis,
    Kink,
    LowPrecision,
    Noise,
    NotDeterministic,
    NotFinite,
    Slight,
    Unsettled,
)
from .report import Finding

RIGHT = 1e-5  # relative difference up to which the two derivatives agree
WRONG = 1e-4  # relative difference from which they plainly disagree
ROUGH = 1e-2  # relative difference that low precision may explain
ROUGHNESS_SPACINGS = (1e-6, 1e-3)
REPEATABLE = 1e-9  # relative difference between two evaluations that is rounding (threads, order of sums)
QUICK = 30  # evaluations of the check before a fit
SMALLEST_SHARE = 1e-3  # how far a block of large gradient is scaled down in the common direction
COMPLEX_STEP = 1e-30


class Judgement(NamedTuple):
    """The verdict along one direction."""

    verdict: str
    cause: str | None
    evidence: dict[str, Any]
    explanation: str = ""

    def severity(self) -> tuple[int, float]:
        """Sort key: the most severe judgement is the largest."""
        return ("right", "cannot tell", "wrong").index(self.verdict), self.evidence["relative_error"]

    def finding(self, layout: Layout, index: int) -> Finding:
        """Return it as the finding on a block."""
        return Finding(layout.names[index], layout.shapes[index], *self)


def judge(
    differences: Differences, analytic: float, scale: float, situation: Situation, direction: Array, most: int = 4
) -> Judgement:
    """Compare a claimed directional derivative with differences of the loss.

    Parameters
    ----------
    differences : Differences
        Of the loss along the direction.
    analytic : float
        The claimed derivative.
    scale : float
        Size of the claim: the norm of the terms of its sum, which may cancel.
    situation : Situation
        The θ and the samples, for a complex step.
    direction : ndarray
        The direction.
    most : int, default=4
        Largest number of steps to try.

    Returns
    -------
    judgement : Judgement
    """
    numerical, error = differences.refine(analytic, scale, most=most)
    scale = max(scale, abs(numerical)) if np.isfinite(numerical) else scale
    difference = abs(analytic - numerical)
    evidence = {
        "analytic": analytic,
        "numerical": numerical,
        "error": error,
        "relative_error": difference / scale if scale else 0.0,
    }

    if not np.isfinite(numerical) or np.isinf(scale) > np.isinf(analytic):
        return _cannot_tell(NotFinite.explain("beside the parameters of the check"), evidence)
    if not np.isfinite(analytic):
        explanation = "The gradient is not finite where the loss is."
        return Judgement("wrong", "gradient_not_finite", {**evidence, "relative_error": np.inf}, explanation)
    if difference <= RIGHT * scale + error and (error <= 0.1 * scale or not scale):
        return Judgement("right", None, evidence)
    better = complex_slope(situation, direction)
    if better is not None and abs(better - analytic) <= RIGHT * scale and abs(better - numerical) <= 3 * error:
        share = abs(better - analytic) / scale if scale else 0.0
        return Judgement("right", None, {**evidence, "complex_step": better, "relative_error": share})
    if difference <= RIGHT * scale + error:
        return _cannot_tell(Cancellation.explain(value=differences.here, error=error), evidence)
    if differences.has_kink(difference):
        return _cannot_tell(Kink.explain(), evidence)
    evidence["noise"] = noise = differences.noise()
    doubt = _doubt(differences, difference, scale, max(error, noise), situation, direction)
    if doubt is not None:
        return _cannot_tell(doubt, evidence)
    evidence["order"] = differences.order(analytic)
    explanation = (
        f"Along a random direction the analytic gradient gives {analytic:.8g}; "
        f"differences of the loss give {numerical:.8g} (error about {max(error, noise):.1g})."
    )
    return Judgement("wrong", "mismatch", evidence, explanation)


def _cannot_tell(doubt: Diagnosis, evidence: dict[str, Any]) -> Judgement:
    return Judgement("cannot tell", doubt.cause, evidence, doubt.explanation)


def _doubt(
    differences: Differences, difference: float, scale: float, error: float, situation: Situation, direction: Array
) -> Diagnosis | None:
    """Return the first imprecision that explains a difference, on either side; None if it is a fault."""
    if differences.resolution > 1e-10 and difference <= ROUGH * scale:
        digits, where = _precision(differences.resolution)
        return LowPrecision.explain(what="loss", digits=digits, where=where)
    if difference <= 10 * error:
        return Noise.explain(error=error / scale)
    if not differences.settle(difference):
        return Unsettled.explain()
    if difference <= ROUGH * scale and (resolution := gradient_resolution(situation, direction, scale, difference)):
        digits, where = _precision(resolution)
        return LowPrecision.explain(what="gradient", digits=digits, where=where)
    return Slight.explain(share=difference / scale) if difference <= WRONG * scale else None


def _precision(resolution: float) -> tuple[int, str]:
    """Digits, and words for where they are lost: a dtype is named if the numbers have its own spacing."""
    for dtype in (np.float16, np.float32):
        if resolution == np.finfo(dtype).eps:
            return np.finfo(dtype).precision, f", as if computed in {np.dtype(dtype).name} inside the callable"
    return max(1, round(-float(np.log10(resolution)))), ""


def complex_slope(situation: Situation, direction: Array) -> float | None:
    """Return the derivative by a complex step, or None. It is exact to rounding if the callables are analytic.

    ``abs``, a comparison or a cast silently invalidate it, so it can only confirm a gradient, never condemn one.
    """
    subject, batch = situation.subject, situation.batch
    objective = subject.objective
    structure = subject.layout.views(situation.vector + 1j * COMPLEX_STEP * direction)
    try:
        if objective.model.loss is not None:
            value = np.imag(objective.model.loss(structure, batch)) / COMPLEX_STEP
            value = value / (batch.n if objective.reduction == "sum" else 1)
        elif objective.loss is not None and objective.loss.additive:
            prediction = np.asarray(objective.model.predictions(structure, batch))
            if prediction.shape[0] != batch.n:
                return None
            _, derivative = objective.named_loss(prediction.real.copy(), batch)
            value = np.sum(derivative * prediction.imag) / COMPLEX_STEP
        else:
            return None
    except Exception:
        return None
    finally:
        subject.n_evaluations += 1
    return float(value) if np.isfinite(value) else None


def gradient_resolution(situation: Situation, direction: Array, scale: float, difference: float) -> float:
    """Return the relative spacing of the analytic gradient's numbers if that explains a difference, else 0."""
    gradient = situation.gradient[direction != 0]
    if decimals_of(gradient) is not None:
        return 0.0
    gradient = gradient[gradient != 0]
    for dtype in (np.float16, np.float32):
        if gradient.size and np.array_equal(gradient, gradient.astype(dtype)):
            eps = float(np.finfo(dtype).eps)
            few = np.unique(gradient).size <= 3  # numbers that may be round by chance: no more than their own rounding
            if difference <= (2 if few else 1e4) * eps * scale:
                return eps
    for spacing in ROUGHNESS_SPACINGS:
        slopes = []
        for k in range(-4, 5):
            there = situation.subject.gradient(situation.vector + spacing * k * direction, situation.batch)
            if there is None or not np.isfinite(there).all():
                return 0.0
            slopes.append(float(there @ direction))
        sigma = float(np.sqrt(np.mean(np.diff(slopes, n=4) ** 2) / 70))
        if 1e-9 * scale < sigma and difference <= 10 * sigma:
            return sigma / scale
    return 0.0


def decimals_of(entries: Array) -> int | None:
    """Return the number of decimals to which all entries are rounded, if that is no chance; None otherwise."""
    few = np.unique(np.abs(entries[entries != 0])).size < 2
    return None if few else next((k for k in range(7) if np.array_equal(np.round(entries, k), entries)), None)


class Checker:
    """The verdicts on all blocks at one situation.

    Parameters
    ----------
    situation : Situation
        The θ and the samples.
    indices : iterable of int
        The blocks to judge.
    """

    def __init__(self, situation: Situation, indices: Iterable[int]) -> None:
        self.situation, self.subject, self.layout = situation, situation.subject, situation.subject.layout
        self.indices = list(indices)
        self.rng = self.subject.rng
        self.sizes = [size_of(block) for block in self.layout.blocks(situation.vector)]

    def each(self, n_directions: int) -> dict[int, Judgement]:
        """Return the judgement on every block, each along its own directions."""
        return {i: self.one(i, n_directions) for i in self.indices}

    def one(self, index: int, n_directions: int) -> Judgement:
        """Return the most severe judgement on a block."""
        return max((self._along(self._direction([index])) for _ in range(n_directions)), key=Judgement.severity)

    def quick(self, n_directions: int = 2) -> dict[int, Judgement]:
        """Return the judgement on every block, in few evaluations.

        If all blocks together are plainly wrong, every block gets that judgement: check them one by one with `each`.
        """
        common = {index: self._share(index) for index in self.indices}
        weights = _weights(common)
        least = min((s * weights[i] for i, s in common.items() if s > 0), default=0.0)
        joint = Judgement("right", None, {"relative_error": 0.0, "error": np.inf})
        for _ in range(n_directions):
            joint = self._along(self._direction(self.indices, weights), most=2)
            left = abs(joint.evidence["analytic"] - joint.evidence["numerical"]) + joint.evidence["error"]
            if joint.verdict == "wrong":
                break
            if joint.verdict != "right" or not left <= WRONG * least:
                return self._one_by_one(joint, common)
        return dict.fromkeys(self.indices, joint)

    def joint(self) -> Judgement:
        """Return the judgement on all blocks at once, along one direction."""
        common = {index: self._share(index) for index in self.indices}
        return self._along(self._direction(self.indices, _weights(common)), most=2)

    def _one_by_one(self, joint: Judgement, common: dict[int, float]) -> dict[int, Judgement]:
        """Judge block by block if all together are not clear; blocks beyond the budget get the joint judgement."""
        judgements = {}
        for index in sorted(self.indices, key=common.__getitem__):
            try:
                judgements[index] = self.one(index, 1)
            except SpentError:
                judgements[index] = joint
        return judgements

    def _share(self, index: int) -> float:
        """Typical size of a block's part of the derivative along a random direction."""
        return _norm(self.situation.block(index).ravel()) * self.sizes[index]

    def _direction(self, indices: Iterable[int], weights: dict[int, float] | None = None) -> Array:
        direction = np.zeros(self.layout.size)
        for index in indices:
            where = self.layout.slices[index]
            draw = self.rng.standard_normal(where.stop - where.start)
            direction[where] = draw * self.sizes[index] * (1.0 if weights is None else weights[index])
        return direction

    def _along(self, direction: Array, most: int = 4) -> Judgement:
        gradient = self.situation.gradient
        chosen = direction != 0
        terms = gradient[chosen] * direction[chosen]
        analytic, scale = float(terms.sum()), _norm(terms)
        differences = self.situation.along(direction)
        return judge(differences, analytic, scale, self.situation, direction, most)


def _norm(terms: Array) -> float:
    """The Euclidean norm, which does not overflow unless the largest term does."""
    largest = float(np.abs(terms).max(initial=0.0))
    return largest * float(np.linalg.norm(terms / largest)) if 0 < largest < np.inf else largest


def _weights(common: dict[int, float]) -> dict[int, float]:
    """By block, its weight in a common direction, so that all count alike."""
    smallest = min((s for s in common.values() if s > 0), default=0.0)
    return {i: np.clip(smallest / s, SMALLEST_SHARE, 1.0) if s > 0 else 1.0 for i, s in common.items()}


def repeats(situation: Situation) -> tuple[Judgement | None, Array | None]:
    """Evaluate the loss and the gradient again, and compare.

    Returns
    -------
    judgement : Judgement or None
        A doubt, if the loss differs.
    differing : ndarray of bool or None
        Entries of the gradient that differ.
    """
    subject = situation.subject
    elsewhere = nearby(subject.layout, situation.vector, 0.01, subject.rng)
    subject.value(elsewhere, situation.batch)  # so that anything kept from a call changes
    gradient = subject.gradient(situation.vector, situation.batch)
    again = subject.value(situation.vector, situation.batch)
    if not abs(again - situation.value) <= REPEATABLE * abs(situation.value):
        evidence = {"first": situation.value, "second": again, "relative_error": 0.0}
        text = NotDeterministic.template.format("loss", f" ({situation.value:.8g} and {again:.8g})")
        return Judgement("cannot tell", NotDeterministic.identifier, evidence, text), None
    return None, differs(situation.gradient, gradient, subject.layout)


def differs(first: Array | Any, second: Array, layout: Layout) -> Array | None:
    """Entries in which two gradients differ by more than rounding, or None."""
    if second is None:
        return None
    out = np.zeros(first.size, bool)
    for where in layout.slices:
        a, b = first[where], second[where]
        scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
        out[where] = ~((np.abs(a - b) <= 1e3 * REPEATABLE * scale) | (a == b) | (np.isnan(a) & np.isnan(b)))
    return out if out.any() else None
