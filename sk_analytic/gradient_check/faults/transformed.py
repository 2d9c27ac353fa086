"""Faults that are a transformation of the whole block: the true derivative is T(analytic gradient)."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...losses import NegativeLogLikelihood
from ...objective import Objective
from ...typing import Array
from ..evaluation import Situation, dense, replaced, take
from ..evidence import Case, Fit, Way
from ..hypotheses import Diagnosis, Hypothesis, is_near

NOTHING = 1e-10  # a block this much smaller than the whole gradient, and than its derivative, is rounding


class LeftAtZero(Hypothesis):
    identifier = "left_at_zero"
    meaning = "The gradient of the parameter is zero everywhere, but the derivative of the loss is not."
    template = "The gradient of this parameter is zero everywhere{how}"
    rank = 0

    def test(self, case: Case) -> Diagnosis | None:
        size = float(np.abs(case.analytic()).max())
        if size > NOTHING * np.abs(case.situation.gradient).max():
            return None
        how = ". Was it left as it was initialized, or is it detached?"
        if size:
            if np.linalg.norm(case.project(case.analytic())) > NOTHING * np.linalg.norm(case.sketch()[0]):
                return None
            how = ", up to rounding. Is it summed along the wrong axis, over outputs whose derivatives cancel?"
        return self.explain(how=how)


class NotInLoss(Hypothesis):
    identifier = "not_in_loss"
    about_loss = True
    meaning = "The loss does not depend on the parameter, although the parameter has a gradient."
    template = "The loss does not depend on this parameter. Was it forgotten in the loss (in forward)?"
    rank = 0

    def test(self, case: Case) -> Diagnosis | None:
        situation = case.situation
        for array in case.directions[:2]:
            along = situation.along(situation.direction(case.index, array))
            if any(along.at(t) != situation.value for t in (1.0, -1.0, 0.1, -0.1)):
                return None
        return self.explain()


class Sign(Hypothesis):
    identifier = "sign"
    meaning = "The sign is flipped."
    template = "The sign is flipped (agreement {agreement:.1g} after flipping it). {question}"
    rank = 1

    def ways(self, case: Case) -> Iterator[Way]:
        yield Way({"question": self._question(case.subject.objective)}, case.repaired(lambda s: -case.analytic(s)))

    @staticmethod
    def _question(objective: Objective) -> str:
        """Ask for the likely slip: what the gradient may be the derivative of instead."""
        form, of_log_density = objective.model.gradient_form, isinstance(objective.loss, NegativeLogLikelihood)
        if form.composes_loss:
            what = "Jacobian" if form.is_matrix else "pullback"
            other = "minus the log-density" if of_log_density else "the residual y - forward"
            return f"Is it the {what} of {other}? It must be that of {form.differentiates}."
        also = ", or does forward return minus the log-density" if of_log_density else ""
        return f"Is it the gradient of minus the loss{also}?"


class OfRowCount(Hypothesis):
    """Base of the causes that need several numbers of rows as evidence."""

    rank = 2

    def test(self, case: Case) -> Diagnosis | None:
        return super().test(case) if len({s.n for s in case.situations}) > 1 else None


class SumNotMean(OfRowCount):
    identifier = "sum_not_mean"
    meaning = "It is the gradient of the sum over the samples of the batch instead of their mean."
    template = (
        "It is the gradient of the sum over the {n} samples of the batch, not of their mean (agreement {agreement:.1g} "
        "after dividing, on other numbers of samples too). Divide by the number of samples, or set reduction='sum'."
    )

    def ways(self, case: Case) -> Iterator[Way]:
        yield Way({"n": case.situation.n}, case.repaired(lambda s: case.analytic(s) / s.n))


class MeanNotSum(OfRowCount):
    identifier = "mean_not_sum"
    meaning = "It is divided by the number of samples once too often."
    template = (
        "It is too small by a factor of the number of samples, {n} here (agreement {agreement:.1g} after multiplying, "
        "on other numbers of samples too). It is divided by that number twice: by the callable and by {who}."
    )

    def ways(self, case: Case) -> Iterator[Way]:
        objective = case.subject.objective
        who = {"mean": "a mean within", "sum": "reduction='sum'"}[objective.reduction]
        if objective.model.gradient_form.predicts:
            who = "the derivative of the loss that the pullback receives, which already includes 1/n"
        yield Way({"n": case.situation.n, "who": who}, case.repaired(lambda s: case.analytic(s) * s.n))


class FixedDivisor(OfRowCount):
    identifier = "fixed_divisor"
    meaning = "It is divided by a constant instead of the number of samples, so it is right for one batch size at most."
    template = (
        "It is the sum over the samples divided by {divisor:.6g}, whatever their number (agreement {agreement:.1g}): "
        "with other numbers of samples the factor changes. Divide by len(X)."
    )

    def ways(self, case: Case) -> Iterator[Way]:
        yield Way({}, case.repaired(lambda s: case.analytic(s) / s.n), n_free=1)

    def found(self, case: Case, fit: Fit, words: dict[str, Any]) -> Diagnosis:
        """The factor is that of the sum."""
        return super().found(case, fit._replace(factor=1.0), {"divisor": 1 / fit.factor})


class Factor(Hypothesis):
    identifier = "factor"
    meaning = "It is off by a constant factor."
    template = "It is {factor:.6g} times the derivative (agreement {agreement:.1g} after dividing).{hint}"
    rank = 3

    def ways(self, case: Case) -> Iterator[Way]:
        yield Way({}, case.repaired(case.analytic), n_free=1)

    def found(self, case: Case, fit: Fit, words: dict[str, Any]) -> Diagnosis:
        """With a hint at where such a factor comes from."""
        return super().found(case, fit, {"hint": self._hint(case, fit.factor)})

    @staticmethod
    def _hint(case: Case, ratio: float) -> str:
        is_of_loss = not case.subject.objective.model.gradient_form.composes_loss
        if is_of_loss and (is_near(abs(ratio), 2) or is_near(abs(ratio), 0.5)):
            return " A square or its half, differentiated as the other?"
        sizes = {"features": case.situation.batch.X.shape[-1] if case.situation.batch.X.ndim > 1 else 1}
        y = case.situation.batch.y
        if y is not None and y.ndim == 2:
            sizes["outputs"] = y.shape[1]
        for what, size in sizes.items():
            if size > 1 and (is_near(abs(ratio), size) or is_near(abs(ratio), 1 / size)):
                return f" That is the number of {what}."
        return ""


class Transposed(Hypothesis):
    identifier = "transposed"
    meaning = "The axes of the parameter are swapped, or it was reshaped in another order."
    template = "It is the derivative with axes in the order {order} (agreement {agreement:.1g}).{hint}"
    rank = 5

    def ways(self, case: Case) -> Iterator[Way]:
        shape = case.shape
        for order in itertools.permutations(range(len(shape))):
            if order != tuple(range(len(shape))) and tuple(shape[i] for i in order) == shape:
                back = tuple(np.argsort(order))
                words = {"order": order, "hint": " Transpose it."}
                yield Way(words, case.repaired(lambda s, back=back: case.analytic(s).transpose(back)), n_free=1)
        words = {"order": "of another reshape", "hint": " It was flattened in one order and shaped in another."}
        for came, wanted in (("F", "C"), ("C", "F")) if len(shape) > 1 else ():
            yield Way(
                words,
                case.repaired(
                    lambda s, came=came, wanted=wanted: case.analytic(s).ravel(wanted).reshape(shape, order=came)
                ),
                n_free=1,
            )


class Reversed(Hypothesis):
    identifier = "reversed"
    meaning = "The entries are in reverse order along an axis."
    template = "Its entries are in reverse order along {where} (agreement {agreement:.1g} after reversing them)."
    rank = 6

    def ways(self, case: Case) -> Iterator[Way]:
        for count in (1, 2):
            for axes in itertools.combinations(range(len(case.shape)), count):
                if all(case.shape[axis] > 1 for axis in axes):
                    words = {"axes": axes, "where": " and ".join(f"axis {axis}" for axis in axes)}
                    yield Way(words, case.repaired(lambda s, axes=axes: np.flip(case.analytic(s), axes)), n_free=1)


class Shifted(Hypothesis):
    identifier = "shifted"
    meaning = "The entries are shifted by one or two places along an axis."
    template = "Its entries are shifted by {by} along axis {axis} (agreement {agreement:.1g}). Is an index off by one?"
    rank = 7

    def ways(self, case: Case) -> Iterator[Way]:
        for axis, length in enumerate(case.shape):
            for by in (1, -1, 2, -2):
                if length > 2 and (length - abs(by)) * (case.size // length) >= 3:
                    yield Way({"axis": axis, "by": -by}, self._overlap(case, axis, by))

    @staticmethod
    def _overlap(case: Case, axis: int, by: int) -> Any:
        """Compare the entries that overlap after the shift; those shifted in at the end are unknown."""
        ends = [slice(None)] * (axis + 1) + [slice(by, None) if by < 0 else slice(0, by)]

        def numbers(situation: Situation, count: int) -> Any:
            directions = case.directions_at(situation)[:count].copy()
            directions[tuple(ends)] = 0
            moved = np.roll(case.analytic(situation), by, axis)
            return *case.slopes(situation, directions), case.project(moved, directions)

        return numbers


class BlocksSwapped(Hypothesis):
    identifier = "blocks_swapped"
    meaning = "The gradient of another parameter is returned for this one."
    template = "{what} (agreement {agreement:.1g}).{hint}"
    rank = 8

    def ways(self, case: Case) -> Iterator[Way]:
        layout = case.subject.layout
        for other in (i for i in case.others if int(np.prod(layout.shapes[i])) == case.size):
            for hint, arrange in self._arrangements(case, layout.shapes[other]):
                words = {"other": layout.names[other], "hint": hint, "what": self._words(case, other)}
                yield Way(words, case.repaired(lambda s, o=other, a=arrange: a(s.block(o))), n_free=1)

    @staticmethod
    def _arrangements(case: Case, shape: tuple[int, ...]) -> Iterator[Any]:
        yield "", lambda block: block.reshape(case.shape)
        if len(shape) > 1 and shape[::-1] == case.shape:
            yield " It is also transposed.", np.transpose

    @staticmethod
    def _words(case: Case, other: int) -> str:
        """Whether the two stand in one another's place."""
        situation, names = case.situation, case.subject.layout.names
        shape = case.subject.layout.shapes[other]
        here = case.analytic()
        here = here.T if shape == here.T.shape else here.reshape(shape)
        for array in case.subject.rng.standard_normal((2, *shape)):
            true, error = situation.slope(other, array)
            if abs(float((here * array).sum()) - true) > 1e-4 * abs(true) + 5 * error:
                return (
                    "It is the derivative with respect to another parameter; that of this parameter is at "
                    f"{names[other]!r}"
                )
        return f"The gradients of {case.name!r} and {names[other]!r} are swapped"


class CumulativeSum(Hypothesis):
    identifier = "cumulative_sum"
    meaning = "A cumulative sum that runs in the wrong direction, is missing, or does not belong there."
    template = "The analytic gradient equals the derivative {what} along axis {axis} (agreement {agreement:.1g}{hint}"
    rank = 9

    def ways(self, case: Case) -> Iterator[Way]:
        """The derivative summed up, or before it is summed up, from either end."""
        for axis, length in enumerate(case.shape):
            for end, flip in (("first", False), ("last", True)) if length > 1 else ():

                def turned(array: Array, axis: int = axis, flip: bool = flip) -> Array:
                    return np.flip(array, axis) if flip else array

                def summed(s: Situation, turn: Any = turned, axis: int = axis) -> Any:
                    return turn(np.cumsum(turn(case.analytic(s)), axis))

                def differenced(s: Situation, turn: Any = turned, axis: int = axis) -> Any:
                    analytic = turn(case.analytic(s))
                    return turn(np.diff(analytic, axis=axis, prepend=np.zeros_like(analytic.take([0], axis))))

                hint = f" after taking differences). Remove the cumulative sum that runs from the {end} entry."
                yield Way({"what": "summed up", "axis": axis, "hint": hint}, case.repaired(differenced), n_free=1)
                hint = f"). Sum it up along the axis, from the {end} entry."
                words = {"what": "before a cumulative sum", "axis": axis, "hint": hint}
                yield Way(words, case.repaired(summed), n_free=1)

    def test(self, case: Case) -> Diagnosis | None:
        whole = super().test(case)
        if whole is not None:
            return whole
        situations = [case.situation, *_rows_of_ones(case)]
        for axis, length in enumerate(case.shape):
            if length < 4:
                continue
            for situation in situations:
                diagnosis = self._along(case, situation, axis)
                if diagnosis:
                    return diagnosis
        return None

    def _along(self, case: Case, situation: Situation, axis: int) -> Diagnosis | None:
        """Compare first differences along an axis: a sum that runs the other way changes their sign.

        Depending on the end at which the sum begins, they are shifted by one place at most.
        """
        if situation.gradient is None:
            return None
        length = case.shape[axis]
        inner = np.moveaxis(case.directions, axis + 1, 1)[:, : length - 3]
        padded = np.zeros((len(inner), length - 1, *inner.shape[2:]))
        padded[:, 1:-1] = inner
        directions = np.moveaxis(-np.diff(padded, axis=1, prepend=0, append=0), 1, axis + 1)
        true, errors = case.slopes(situation, directions)
        analytic = np.moveaxis(case.analytic(situation), axis, 0)
        steps = np.diff(analytic, axis=0)
        flat = inner.reshape(len(inner), -1)
        own = flat @ steps[1:-1].ravel()
        plain, _ = case.slopes(situation, case.directions[:2])
        flipped = np.linalg.norm(case.project(case.analytic(situation), case.directions[:2]) + plain)
        is_right = not np.linalg.norm(own - true) > 1e-4 * np.linalg.norm(true)
        if is_right or flipped <= 1e-2 * np.linalg.norm(plain) or not steps.any():
            return None
        way = "backwards" if np.linalg.norm(analytic[0]) <= np.linalg.norm(analytic[-1]) else "forwards"
        hint = f" after reversing). Look for a cumulative sum that should run the other way, {way}."
        for shift, what, hint, claimed in (
            *(
                (shift, "summed in reverse order", hint, -(flat @ steps[1 + shift : length - 2 + shift].ravel()))
                for shift in (0, -1, 1)
            ),
            (1, "before a cumulative sum", "). Sum it up along the axis.", flat @ analytic[1:-2].ravel()),
            (2, "before a cumulative sum", "). Sum it up along the axis.", flat @ analytic[2:-1].ravel()),
        ):
            words = {"what": what, "axis": axis, "hint": hint, "shift": shift}
            given = Way(words, lambda s, count, c=claimed: (true[:count], errors[:count], c[:count]), n_free=1)
            fit = case.compare(given, at=[situation])
            if fit and abs(abs(fit.factor) - 1) < 1e-4 and (fit.factor > 0 or "reverse" not in what):
                return self.found(case, fit, words)
        return None


def _rows_of_ones(case: Case) -> list[Situation]:
    """A single sample with every feature 1, which removes a factor x_d from the terms of a sum."""
    batch = case.situation.batch
    one = take(batch, [0])
    X = dense(one)
    if X.dtype.kind != "f" or not X.size:
        return []
    return [case.situation.of(replaced(one, X=np.ones_like(X)))]


class Parametrization(Hypothesis):
    identifier = "parametrization"
    meaning = "The gradient is with respect to a function of θ (log θ, 1/θ, θ², exp θ, ...) instead of θ."
    template = (
        "It is the gradient with respect to {of} instead of θ = {name} (agreement {agreement:.1g} after the chain "
        "rule: times {times}).{hint}"
    )
    rank = 10

    # The true derivative is the analytic one times this function of θ, up to a constant.
    chain = (
        ("log θ", "1/θ", lambda t: 1 / t),
        ("1/θ", "-1/θ²", lambda t: -1 / t**2),
        ("θ²/2", "θ", lambda t: t),
        ("sqrt θ", "1/(2 sqrt θ)", lambda t: 0.5 / np.sqrt(t)),
        ("θ³", "3 θ²", lambda t: 3 * t**2),
        ("exp θ (θ is its logarithm)", "exp θ", np.exp),
        ("exp -θ", "-exp -θ", lambda t: -np.exp(-t)),
        ("exp 2θ (θ is the logarithm of its root)", "2 exp 2θ", lambda t: 2 * np.exp(2 * t)),
        ("exp -2θ", "-2 exp -2θ", lambda t: -2 * np.exp(-2 * t)),
        ("exp θ/2", "exp(θ/2)/2", lambda t: 0.5 * np.exp(t / 2)),
        ("1/sqrt θ", "-θ^(-3/2)/2", lambda t: -0.5 * t**-1.5),
        ("1/θ²", "-2/θ³", lambda t: -2 / t**3),
        ("the logistic function of θ", "σ(θ) (1 - σ(θ))", lambda t: 0.25 / np.cosh(t / 2) ** 2),
        ("log(1 + exp θ)", "σ(θ)", lambda t: 0.5 * (1 + np.tanh(t / 2))),
        ("logit θ", "1/(θ (1 - θ))", lambda t: 1 / (t * (1 - t))),
        ("tanh θ", "1 - tanh² θ", lambda t: 1 - np.tanh(t) ** 2),
    )

    def ways(self, case: Case) -> Iterator[Way]:
        for of, times, slope in self.chain:
            words = {"of": of, "times": times, "name": case.name, "hint": self._hint(case, times)}
            yield Way(words, case.repaired(lambda s, f=slope: case.analytic(s) * f(case.theta(s))), n_free=1)

    @staticmethod
    def _hint(case: Case, times: str) -> str:
        factors = {"1/θ": "is superfluous", "θ": "is missing"}
        return f" In other words, a factor {case.name} {factors[times]}." if times in factors else ""


class Penalty(Hypothesis):
    identifier = "penalty"
    meaning = "The derivative of a penalty on θ is missing from the gradient, or the penalty from the loss."
    template = "It {what} {term} (agreement {agreement:.1g}): the derivative of a penalty {where}.{hint}"
    rank = 11

    def ways(self, case: Case) -> Iterator[Way]:
        """True derivative minus analytic one = strength times a function of θ, with one strength everywhere.

        Where all θ have one sign, it says no more than that the difference is constant.
        """
        yield Way({"term": "θ", "of": "strength/2 * sum of squares"}, case.differs_by(case.theta), n_free=1)
        signs = np.concatenate([np.sign(case.theta(situation)).ravel() for situation in case.situations])
        if {-1.0, 1.0} <= set(signs.tolist()):
            words = {"term": "sign(θ)", "of": "strength * sum of absolute values"}
            yield Way(words, case.differs_by(lambda s: np.sign(case.theta(s))), n_free=1)

    def found(self, case: Case, fit: Fit, words: dict[str, Any]) -> Diagnosis:
        """The factor is the strength."""
        lacks, strength = fit.factor > 0, f"{abs(fit.factor):.6g}"
        words |= {
            "what": f"lacks the term {strength} times" if lacks else f"has an extra term, {strength} times",
            "where": words["of"]
            + (" that is in the loss but not in the gradient" if lacks else " that is not in the loss"),
            "hint": "" if lacks else " The estimator adds the derivative of its own alpha.",
            "strength": fit.factor,
        }
        return super().found(case, fit._replace(factor=1.0), words)
