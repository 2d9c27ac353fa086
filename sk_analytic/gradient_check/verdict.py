"""Right, wrong, or "cannot tell, because": the verdict on each block, before any diagnosis.

One random direction through all blocks at once, in which every entry counts, clears a right gradient in a few
evaluations whatever the number of blocks. If it does not, every block gets its own directions.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..data.batch import CALLABLE, Batch
from ..parameters import Layout
from ..typing import Array
from .differences import EPS, FIRST_STEP, Differences, Ladder, Rung, noise_in, norm, spacing_of
from .evaluation import LEAST_SIZE, Situation, sizes_of
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
CLOSE = 1e-3  # relative error up to which a difference is good enough for that,
ROUGHLY = 0.1  # and the same if no step gives a better one
WRONG = 1e-4  # relative difference from which they plainly disagree
ROUGH = 1e-2  # relative difference that low precision may explain
KEPT = 0.1  # share of a disagreement that the error of a difference may have to speak for the gradient
ROUGH_SHARES = (4 * EPS, 1e-6, 1e-3)  # of each entry, as steps at which the gradient may be rough
REPEATABLE = 1e-9  # relative difference between two evaluations that is rounding (threads, order of sums)
QUICK = 30  # evaluations of the check before a fit of a right gradient
ONE_BY_ONE = 300  # more evaluations if all blocks together cannot be told
A_BLOCK = 9  # evaluations of a block that is right
COMPLEX_STEP = 1e-30
FAINTEST, FAINT_GRADIENT = 1e-3, 1e4  # share of the largest slope that an entry is raised to; times its resolution
FAINT_LOSS = 1e11  # the same relative to the loss, times its resolution
IMPRECISE = {c.identifier for c in (Cancellation, Noise, NotDeterministic, NotFinite, Unsettled)}


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


def judge(situation: Situation, direction: Array, most: int = 4) -> Judgement:
    """Compare the analytic derivative along a direction with differences of the loss.

    A few differences settle a right gradient. If they do not, a `Ladder` of steps does: a gradient is wrong only if
    differences at several steps agree in contradicting it, and those at no other step agree with it.

    Parameters
    ----------
    situation : Situation
        The θ and the samples.
    direction : ndarray
        The direction.
    most : int, default=4
        Largest number of steps to try at first.

    Returns
    -------
    judgement : Judgement
    """
    chosen = direction != 0
    terms = situation.gradient[chosen] * direction[chosen]
    analytic, scale = float(terms.sum()), norm(terms)  # the terms of the sum may cancel
    differences = situation.along(direction)
    numerical, error = differences.refine(analytic, scale, most=most)
    comparison = _Comparison(situation, direction, differences, analytic, scale)
    if np.isinf(scale) > np.isinf(analytic) or not (np.isfinite(numerical) or np.isfinite(analytic)):
        return comparison.cannot_tell(NotFinite.explain("next to the checked parameters"), numerical, error)
    if not np.isfinite(analytic):
        evidence = {**comparison.evidence(numerical, error), "relative_error": np.inf}
        text = "The gradient is not finite, but the loss is."
        return Judgement("wrong", "gradient_not_finite", evidence, text)
    return comparison.at_first_sight(numerical, error) or comparison.by_ladder(numerical, error)


class _Comparison:
    """An analytic derivative along a direction, compared with differences of the loss."""

    def __init__(
        self, situation: Situation, direction: Array, differences: Differences, analytic: float, scale: float
    ) -> None:
        self.situation, self.direction, self.differences = situation, direction, differences
        self.analytic, self.terms = analytic, scale

    def scale(self, numerical: float) -> float:
        """What differences are relative to: the larger of the two sides."""
        return max(self.terms, abs(numerical)) if np.isfinite(numerical) else self.terms

    def evidence(self, numerical: float, error: float) -> dict[str, Any]:
        """The numbers of a finding."""
        scale = self.scale(numerical)
        return {
            "analytic": self.analytic,
            "numerical": numerical,
            "error": error,
            "relative_error": abs(self.analytic - numerical) / scale if scale else 0.0,
        }

    def right(self, numerical: float, error: float, **more: float) -> Judgement:
        return Judgement("right", None, self.evidence(numerical, error) | more)

    def cannot_tell(self, doubt: Diagnosis, numerical: float, error: float) -> Judgement:
        return Judgement("cannot tell", doubt.cause, self.evidence(numerical, error), doubt.explanation)

    def at_first_sight(self, numerical: float, error: float) -> Judgement | None:
        """The judgement if a few differences, or a complex step, are enough."""
        if not np.isfinite(numerical):
            return None
        scale, difference = self.scale(numerical), abs(self.analytic - numerical)
        zero = not scale and all(abs(slope) <= own_error for own_error, slope, _ in self.differences.estimates.values())
        if difference <= RIGHT * scale + error and (error <= CLOSE * scale if scale else zero):
            return self.right(numerical, error)
        better = complex_slope(self.situation, self.direction)
        if better is not None and abs(better - numerical) <= 3 * error:
            left = abs(better - self.analytic)
            if left <= RIGHT * self.terms:
                share = left / self.terms if self.terms else 0.0
                return self.right(numerical, error, complex_step=better, relative_error=share)
        resolution = self.differences.resolution
        if resolution > 1e-10 and difference <= ROUGH * scale:
            return self.cannot_tell(_low_precision("loss", resolution), numerical, error)
        return None

    def by_ladder(self, numerical: float, error: float) -> Judgement:
        """The judgement after steps of every size."""
        ladder = self._ladder()
        rungs = ladder.rungs
        if not rungs and not np.isfinite(numerical):
            return self.cannot_tell(NotFinite.explain("next to the checked parameters"), numerical, error)
        plateau = ladder.plateau()
        if not plateau:
            best = min(rungs, key=lambda rung: rung.error, default=Rung(FIRST_STEP, numerical, error))
            return self._without_plateau(ladder, best)
        found = min(plateau, key=lambda rung: rung.error)
        numerical, error = found.derivative, found.error
        scale, difference = self.scale(numerical), abs(self.analytic - numerical)
        agreeing = ladder.agrees(RIGHT * self.terms, min(CLOSE * self.terms, KEPT * difference))
        if agreeing is not None:
            return self.right(agreeing.derivative, agreeing.error)
        alike = (r.step for r in rungs if abs(r.derivative - numerical) <= KEPT * difference)
        doubt = self._doubt(ladder, max(alike), difference, scale)
        if doubt is not None:
            return self.cannot_tell(doubt, numerical, error)
        evidence = self.evidence(numerical, error) | {
            "noise": ladder.noise / found.step,
            "order": self.differences.order(self.analytic, found.step),
        }
        explanation = (
            f"Along a random direction the analytic gradient gives {self.analytic:.8g}; "
            f"differences of the loss give {numerical:.8g} (error about {error:.1g})."
        )
        return Judgement("wrong", "mismatch", evidence, explanation)

    def _ladder(self) -> Ladder:
        """The ladder of this line, which knows how far the rounding of θ goes."""
        vector, gradient, direction = self.situation.vector, self.situation.gradient, self.direction
        chosen = direction != 0
        theta, along, slopes = vector[chosen], direction[chosen], gradient[chosen]

        def shift(t: float) -> float:
            return float(slopes @ ((theta + t * along - theta) - t * along))

        counting = np.nonzero(theta)
        unit = norm(theta * slopes) / self.terms if self.terms else np.abs(theta / along)[counting].min(initial=1.0)
        unit = EPS * unit if 0 < unit < np.inf else EPS
        subject = self.situation.subject
        return Ladder(self.differences, self.analytic, unit, shift, subject.unrepeatable, _quantum(subject.seen))

    def _without_plateau(self, ladder: Ladder, best: Rung) -> Judgement:
        """The judgement if no neighboring steps contradict the gradient: right if one of them shows it."""
        agreeing = ladder.agrees(RIGHT * self.terms, ROUGHLY * self.terms if self.terms else np.inf)
        if agreeing is not None:
            return self.right(agreeing.derivative, agreeing.error)
        numerical, error = best.derivative, best.error
        scale, difference = self.scale(numerical), abs(self.analytic - numerical)
        if self.situation.subject.unrepeatable:
            return self.cannot_tell(_unrepeatable(self.situation), numerical, error)
        if difference <= RIGHT * scale + error:
            doubt = Cancellation.explain(value=self.differences.here, error=error)
        elif ladder.has_kink(difference):
            doubt = Kink.explain()
        elif difference <= 10 * error:
            doubt = Noise.explain(error=error / scale)
        else:
            doubt = Unsettled.explain()
        return self.cannot_tell(doubt, numerical, error)

    def _doubt(self, ladder: Ladder, widest: float, difference: float, scale: float) -> Diagnosis | None:
        """What may explain a difference that steps up to the widest agree on; None if it is a fault."""
        if ladder.has_kink(difference):
            return Kink.explain()
        most = min(KEPT * difference, ROUGHLY * self.terms)
        if any(ladder.meets(rung, RIGHT * self.terms, most, times=3) for rung in ladder.rungs):
            return Unsettled.explain()
        resolution = gradient_resolution(self.situation, self.direction, widest, scale, difference)
        if resolution:
            return _low_precision("gradient", resolution)
        return Slight.explain(share=difference / scale) if difference <= WRONG * scale else None


def _quantum(values: Iterable[float]) -> float:
    """The unit of decimals to which all values are rounded; 0.0 if there are none, or more than six."""
    seen = np.array([value for value in values if np.isfinite(value)])
    return next((10.0**-k for k in range(7) if seen.size and np.array_equal(np.round(seen, k), seen)), 0.0)


def _low_precision(what: str, resolution: float) -> Diagnosis:
    digits, where = _precision(resolution)
    return LowPrecision.explain(what=what, digits=digits, where=where)


def _precision(resolution: float) -> tuple[int, str]:
    """Digits, and words for where they are lost: a dtype is named if the numbers have its own spacing."""
    for dtype in (np.float16, np.float32):
        if resolution == np.finfo(dtype).eps:
            return np.finfo(dtype).precision, f", as if computed in {np.dtype(dtype).name} inside the callable"
    return max(1, round(-float(np.log10(resolution)))), ""


def _unrepeatable(situation: Situation) -> Diagnosis:
    about = f", by up to {situation.subject.unrepeatable:.1g} of {situation.value:.6g}"
    return Diagnosis(NotDeterministic.identifier, {}, NotDeterministic.template.format("loss", about))


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


def gradient_resolution(
    situation: Situation, direction: Array, widest: float, scale: float, difference: float
) -> float:
    """Return the relative spacing of the analytic gradient's numbers if that explains a difference, else 0.

    ``widest`` is the step along the direction up to which the derivative stays the same.
    """
    gradient = situation.gradient[direction != 0]
    if decimals_of(gradient) is not None:
        return 0.0
    gradient = gradient[gradient != 0]
    for dtype in (np.float16, np.float32):
        if gradient.size and np.array_equal(gradient, gradient.astype(dtype)):
            eps = float(np.finfo(dtype).eps)
            few = np.unique(gradient).size <= 3  # numbers that may be round by chance: no more than their own rounding
            if difference <= min((2 if few else 1e4) * eps, ROUGH) * scale:
                return eps
    sizes = [sizes_of(block, LEAST_SIZE).ravel() for block in situation.subject.layout.blocks(situation.vector)]
    by_size, most = np.concatenate(sizes) * np.sign(direction), 0.1 * widest * np.abs(direction)
    for share in ROUGH_SHARES if difference <= ROUGH * scale else ROUGH_SHARES[:-1]:
        sigma = _roughness(situation, direction, np.clip(share * by_size, -most, most))
        if 1e-9 * scale < sigma and difference <= 10 * sigma:
            return sigma / scale
    return 0.0


def _roughness(situation: Situation, direction: Array, step: Array) -> float:
    """The noise of the analytic derivative along a direction, at equal steps of θ."""
    slopes = []
    for k in range(-3, 4):
        there = situation.subject.gradient(situation.vector + k * step, situation.batch)
        if there is None or not np.isfinite(there).all():
            return 0.0
        slopes.append(float(there @ direction))
    return noise_in(slopes)


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
        self.sizes = [sizes_of(block, LEAST_SIZE).ravel() for block in self.layout.blocks(situation.vector)]

    def each(self, n_directions: int) -> dict[int, Judgement]:
        """Return the judgement on every block, each along its own directions."""
        return {i: self.one(i, n_directions) for i in self.indices}

    def one(self, index: int, n_directions: int) -> Judgement:
        """Return the most severe judgement on a block, along no more directions than it takes to find it wrong."""
        worst = self._along([index])[0]
        for turn in range(1, n_directions):
            if worst.verdict == "wrong":
                break
            faint = turn % 2 == 1
            other = self._along([index], faint=faint)[0]
            if other.verdict == "wrong" or not faint:  # what is too faint to be told is no doubt about the others
                worst = max(worst, other, key=Judgement.severity)
        return worst

    def joint(self) -> Judgement:
        """Return the judgement on all blocks at once, along one direction."""
        return self._along(self.indices, most=2)[0]

    def quick(self) -> dict[int, Judgement]:
        """Return the judgement on every block, in few evaluations unless all together disagree.

        If all blocks together are plainly wrong, every block gets that judgement: check them one by one with `each`.
        """
        joint, direction = self._along(self.indices, most=3)
        left = abs(joint.evidence["analytic"] - joint.evidence["numerical"]) + joint.evidence["error"]
        shares = [norm(self._part(index, direction)) for index in self.indices]
        if joint.verdict == "wrong" or (joint.verdict == "right" and left <= WRONG * min(shares)):
            return dict.fromkeys(self.indices, joint)
        judgements = dict.fromkeys(self.indices, joint)  # of blocks that the budget does not suffice for
        if len(self.indices) == 1:
            return judgements
        n_evaluations = self.subject.n_evaluations
        most = QUICK if joint.verdict == "right" and n_evaluations < QUICK else n_evaluations + ONE_BY_ONE
        for _, index in sorted(zip(shares, self.indices, strict=True)):
            if self.subject.n_evaluations + A_BLOCK > most:
                break
            judgements[index] = self._along([index], most=2)[0]
        return judgements

    def _along(self, indices: list[int], most: int = 4, faint: bool = False) -> tuple[Judgement, Array]:
        """Judge some blocks along a direction in which all entries, or the faint ones, count alike; return it, too.

        If that is too fine for the loss, it is one in which each entry moves by its size; so it is if little is wrong,
        because only there the steps of a gradient in low precision show.
        """
        direction = self.subject.tangent(self._direction(indices, faint))
        judgement = judge(self.situation, direction, most)
        slight = judgement.verdict == "wrong" and judgement.evidence["relative_error"] <= ROUGH
        if slight or (self._too_fine(judgement) and not faint):
            wide = self.subject.tangent(self._sized(indices))
            again = judge(self.situation, wide, most)
            if again.cause == LowPrecision.identifier if slight else again.verdict != "cannot tell":
                return again, wide
        return judgement, direction

    def _too_fine(self, judgement: Judgement) -> bool:
        """Whether the loss is too inexact for the direction of a judgement."""
        if judgement.cause == LowPrecision.identifier:
            return spacing_of(self.subject.seen) > EPS
        return judgement.cause in IMPRECISE

    def _part(self, index: int, direction: Array) -> Array:
        """What each entry of a block adds to the derivative along a direction."""
        where = self.layout.slices[index]
        part: Array = self.situation.gradient[where] * direction[where]
        return part

    def _sized(self, indices: Iterable[int]) -> Array:
        """A random direction, in which each entry moves by about its size, none of them by close to nothing."""
        direction = np.zeros(self.layout.size)
        for index in indices:
            draw = self.rng.uniform(-1, 1, self.sizes[index].size)
            direction[self.layout.slices[index]] = (draw + np.copysign(0.5, draw)) * self.sizes[index]
        return direction

    def _direction(self, indices: Iterable[int], faint: bool = False) -> Array:
        """A random direction, in which entries of a steep gradient move by less than their size.

        Each adds as much to the derivative as the least of them if it moves by its size, but for what would be lost in
        the rounding of the loss or of the gradient; such faint ones have a direction of their own. The entries of a
        block together count as much as those of another.
        """
        direction, slopes = self._sized(indices), np.abs(self.situation.gradient)
        for index in indices:
            where = self.layout.slices[index]
            slopes[where] *= (where.stop - where.start) ** 0.5
        own = slopes * np.concatenate([sizes_of(b).ravel() for b in self.layout.blocks(self.situation.vector)])
        slopes = np.where(np.isfinite(slopes), slopes * np.concatenate(self.sizes), 0.0)
        moved = (direction != 0) & np.isfinite(own)
        level = self._level(own[moved])
        if faint and (slopes[moved] < level).any():
            direction[slopes >= level] = 0
            level = self._level(own[moved & (slopes < level)])
        return direction * (level / np.maximum(slopes, level)) if level else direction

    def _level(self, slopes: Array) -> float:
        """What an entry is to add to the derivative, given what each adds if it moves by its size."""
        most = float(slopes.max(initial=0.0))
        gradient = self.situation.gradient
        by_gradient = max(FAINTEST, FAINT_GRADIENT * spacing_of(gradient[:: 1 + gradient.size // 1000])) * most
        by_loss = FAINT_LOSS * spacing_of(self.subject.seen) * abs(self.situation.value)
        return min(most, max(float(slopes.min(initial=most)), by_gradient, by_loss))


def repeats(situation: Situation) -> Array | None:
    """Evaluate the loss and the gradient again; return which entries of the gradient differ, or None.

    By how much the loss differs is noted: it is noise.
    """
    subject = situation.subject
    elsewhere = subject.nearby(situation.vector, 0.01)
    subject.value(elsewhere, situation.batch)  # so that anything kept from a call changes
    gradient = subject.gradient(situation.vector, situation.batch)
    again = subject.value(situation.vector, situation.batch)
    apart = abs(again - situation.value)
    if not apart <= REPEATABLE * abs(situation.value):
        subject.unrepeatable = apart
    return differs(situation.gradient, gradient, subject.layout)


def estimated(situation: Situation, indices: Iterable[int]) -> dict[int, Judgement]:
    """Return the doubt about each block whose gradient is random, from `rng`, if the loss is not.

    Loss and gradient that draw from one generator are those of one draw; such a gradient is checked as any other.
    """
    subject, batch = situation.subject, situation.batch
    if "rng" not in subject.objective.model.gradient.wanted:
        return {}
    seed, _, epoch, step = (*batch.position, 0, 0, 0)[:4]
    other = situation.of(Batch(batch.X, batch.columns, batch.sample_weight, (seed, CALLABLE, epoch, step + 1)))
    differing = differs(situation.gradient, other.gradient, subject.layout)
    if differing is None or abs(other.value - situation.value) > REPEATABLE * abs(situation.value):
        return {}
    text = "The gradient is random, an estimate of the derivative: a single draw cannot show that it is wrong."
    return {
        index: Judgement("cannot tell", NotDeterministic.identifier, {"n_entries": int(differing[where].sum())}, text)
        for index, where in enumerate(subject.layout.slices)
        if index in indices and differing[where].any()
    }


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
