"""Faults that are a transformation of the whole block: the true derivative is T(analytic gradient)."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ...typing import Array, Shape
from ..evaluation import Situation, dense, replaced, take
from ..evidence import Case, Fit
from ..hypotheses import Diagnosis, Hypothesis

NICE = 1e-6  # how close a factor must be to a number to be called that


def is_near(factor: float, number: float) -> bool:
    """Whether a factor is a number, to the accuracy of differences."""
    return abs(factor - number) <= NICE * abs(number) + 1e-12


class LeftAtZero(Hypothesis):
    identifier = "left_at_zero"
    meaning = "The gradient of the block is zero everywhere; the derivative of the loss is not."
    template = "The gradient of this block is zero everywhere. Was it left as it was initialised, or is it detached?"
    rank = 0

    def test(self, case: Case) -> Diagnosis | None:
        return None if case.analytic().any() else self.explain()


class NotInLoss(Hypothesis):
    identifier = "not_in_loss"
    about_loss = True
    meaning = "The loss does not depend on the block at all, though it has a gradient."
    template = "The loss does not change with this block at all. Was it forgotten in the loss (in forward)?"
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
    template = "The sign is flipped (agreement {:.1g} after flipping it). Is it the gradient of minus the loss?"
    rank = 1

    def test(self, case: Case) -> Diagnosis | None:
        fit = case.explain(lambda s: -case.analytic(s))
        return None if fit is None else self.explain(fit.agreement, evidence=fit.evidence)


class SumNotMean(Hypothesis):
    identifier = "sum_not_mean"
    meaning = "It is the gradient of the sum over the samples of the batch instead of their mean."
    template = (
        "It is the gradient of the sum over the {n} samples of the batch, not of their mean (agreement {agreement:.1g} "
        "after dividing, on other numbers of samples too). Divide by the number of samples, or set reduction='sum'."
    )
    rank = 2

    def test(self, case: Case) -> Diagnosis | None:
        if case.situation.n < 2 or len({s.n for s in (case.situation, *case.elsewhere)}) < 2:
            return None
        fit = case.explain(lambda s: case.analytic(s) / s.n)
        return None if fit is None else self.explain(n=case.situation.n, agreement=fit.agreement, evidence=fit.evidence)


class MeanNotSum(Hypothesis):
    identifier = "mean_not_sum"
    meaning = "It is divided by the number of samples once too often."
    template = (
        "It is too small by the number of samples, {n} here (agreement {agreement:.1g} after multiplying, on other "
        "numbers of samples too). It is divided by that number once too often: by the callable and by {who}."
    )
    rank = 2

    def test(self, case: Case) -> Diagnosis | None:
        if case.situation.n < 2 or len({s.n for s in (case.situation, *case.elsewhere)}) < 2:
            return None
        fit = case.explain(lambda s: case.analytic(s) * s.n)
        objective = case.subject.objective
        who = {"mean": "a mean within", "sum": "reduction='sum'"}[objective.reduction]
        if objective.model.gradient_form.predicts:
            who = "the derivative of the loss that the pullback receives, which has the 1/n already"
        return (
            None
            if fit is None
            else self.explain(n=case.situation.n, agreement=fit.agreement, who=who, evidence=fit.evidence)
        )


class Factor(Hypothesis):
    identifier = "factor"
    meaning = "It is off by a constant factor."
    template = "It is {ratio:.6g} times the derivative (agreement {agreement:.1g} after dividing).{hint}"
    rank = 3

    def test(self, case: Case) -> Diagnosis | None:
        fit = case.explain(case.analytic, free=True)
        if not fit or not fit.factor:
            return None
        ratio = 1 / fit.factor
        evidence = {**fit.evidence, "factor": ratio}
        return self.explain(ratio=ratio, agreement=fit.agreement, hint=self._hint(case, ratio), evidence=evidence)

    @staticmethod
    def _hint(case: Case, ratio: float) -> str:
        if is_near(abs(ratio), 2) or is_near(abs(ratio), 0.5):
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
    meaning = "The axes of the block are swapped, or it was reshaped in another order."
    template = "It is the derivative with axes in the order {order} (agreement {agreement:.1g}).{hint}"
    rank = 5

    def test(self, case: Case) -> Diagnosis | None:
        shape = case.shape
        for order in itertools.permutations(range(len(shape))):
            if order != tuple(range(len(shape))) and tuple(shape[i] for i in order) == shape:
                back = tuple(np.argsort(order))
                fit = case.explain(lambda s, back=back: case.analytic(s).transpose(back), free=True)
                if fit is not None:
                    return self._found(order, fit, " Transpose it.")
        if len(shape) > 1:
            for came, wanted in (("F", "C"), ("C", "F")):
                fit = case.explain(
                    lambda s, came=came, wanted=wanted: case.analytic(s).ravel(wanted).reshape(shape, order=came),
                    free=True,
                )
                if fit is not None:
                    return self._found(
                        "of another reshape", fit, " It was flattened in one order and shaped in another."
                    )
        return None

    def _found(self, order: object, fit: Fit, hint: str) -> Diagnosis:
        if not is_near(fit.factor, 1):
            hint += f" It is also off by the factor {1 / fit.factor:.6g}."
        return self.explain(order=order, agreement=fit.agreement, hint=hint, evidence=fit.evidence)


class Reversed(Hypothesis):
    identifier = "reversed"
    meaning = "The entries are in the opposite order along an axis."
    template = "Its entries are in the opposite order along {axes} (agreement {agreement:.1g} after reversing them)."
    rank = 6

    def test(self, case: Case) -> Diagnosis | None:
        axes = range(len(case.shape))
        for count in (1, 2):
            for chosen in itertools.combinations(axes, count):
                if all(case.shape[axis] > 1 for axis in chosen):
                    fit = case.explain(lambda s, chosen=chosen: np.flip(case.analytic(s), chosen), free=True)
                    if fit is not None:
                        where = " and ".join(f"axis {axis}" for axis in chosen)
                        return self.explain(
                            axes=where, agreement=fit.agreement, evidence={**fit.evidence, "axes": chosen}
                        )
        return None


class Shifted(Hypothesis):
    identifier = "shifted"
    meaning = "The entries are off by one or two places along an axis."
    template = "Its entries are {by} place(s) off along axis {axis} (agreement {agreement:.1g}). An index off by one?"
    rank = 7

    def test(self, case: Case) -> Diagnosis | None:
        for axis, length in enumerate(case.shape):
            for by in (1, -1, 2, -2):
                if length > 2:
                    diagnosis = self._along(case, axis, by)
                    if diagnosis:
                        return diagnosis
        return None

    def _along(self, case: Case, axis: int, by: int) -> Diagnosis | None:
        """Compare the entries that overlap after the shift; those shifted in at the end are unknown."""
        if (case.shape[axis] - abs(by)) * (case.size // case.shape[axis]) < 3:
            return None
        directions = case.directions.copy()
        ends = [slice(None)] * (axis + 1) + [slice(by, None) if by < 0 else slice(0, by)]
        directions[tuple(ends)] = 0
        fit: Any = None
        for situation in (*case.elsewhere, case.situation):
            fit = case.explain(lambda s: np.roll(case.analytic(s), by, axis), directions=directions, at=situation)
            if fit is None:
                return None
        evidence = {**fit.evidence, "axis": axis, "by": -by}
        return self.explain(by=-by, axis=axis, agreement=fit.agreement, evidence=evidence)


class BlocksSwapped(Hypothesis):
    identifier = "blocks_swapped"
    meaning = "The gradient of another block is in the place of this one's."
    template = (
        "It is the derivative by another block; this block's own is under {other!r} (agreement {agreement:.1g}).{hint}"
    )
    rank = 8

    def test(self, case: Case) -> Diagnosis | None:
        layout = case.subject.layout
        same_size = [i for i in case.others if int(np.prod(layout.shapes[i])) == case.size]
        for other in same_size:
            for order, hint in (("C", ""), ("F", " It is also transposed.")):
                fit = case.explain(lambda s, o=other, r=order: s.block(o).reshape(case.shape, order=r), free=True)
                if fit is not None:
                    name = layout.names[other]
                    evidence = {**fit.evidence, "other": name}
                    return self.explain(other=name, agreement=fit.agreement, hint=hint, evidence=evidence)
        return None


class CumulativeSum(Hypothesis):
    identifier = "cumulative_sum"
    meaning = "A cumulative sum that runs in the wrong direction, is missing, or does not belong there."
    template = "The analytic gradient equals the derivative {what} along axis {axis} (agreement {agreement:.1g}{hint}"
    rank = 9
    hint = " after reversing). Look for a cumulative sum that should run {way}."

    def test(self, case: Case) -> Diagnosis | None:
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
        true, error = case.sketch(situation, directions)
        analytic = np.moveaxis(case.analytic(situation), axis, 0)
        steps = np.diff(analytic, axis=0)
        flat = inner.reshape(len(inner), -1)
        own = flat @ steps[1:-1].ravel()
        mismatch = float(np.linalg.norm(own - true))
        plain, _ = case.sketch(situation, case.directions[:2])
        flipped = np.linalg.norm(case.project(case.analytic(situation), case.directions[:2]) + plain)
        if not mismatch > 1e-4 * np.linalg.norm(true) or flipped <= 1e-2 * np.linalg.norm(plain):
            return None
        for shift in (0, -1, 1):
            part = steps[1 + shift : length - 2 + shift]
            predicted = -(flat @ part.ravel())
            fit = case.compare(lambda s, p=predicted: (p, true, error), True, False, mismatch)
            if fit and abs(abs(fit.factor) - 1) < 1e-4 and fit.factor > 0 and self._is_sum(steps):
                hint = " after reversing). Look for a cumulative sum that should run the other way, {}.".format(
                    "backwards" if self._runs_forward(case, situation, axis) else "forwards"
                )
                evidence = {**fit.evidence, "axis": axis, "shift": shift}
                return self.explain(
                    what="summed in the opposite order",
                    axis=axis,
                    agreement=fit.agreement,
                    hint=hint,
                    evidence=evidence,
                )
        for what, hint, predicted in (
            ("before a cumulative sum", "). Sum it up along the axis.", flat @ analytic[1:-2].ravel()),
            ("before a cumulative sum", "). Sum it up along the axis.", flat @ analytic[2:-1].ravel()),
        ):
            fit = case.compare(lambda s, p=predicted: (p, true, error), True, False, mismatch)
            if fit and abs(abs(fit.factor) - 1) < 1e-4:
                evidence = {**fit.evidence, "axis": axis}
                return self.explain(what=what, axis=axis, agreement=fit.agreement, hint=hint, evidence=evidence)
        return None

    @staticmethod
    def _is_sum(steps: Array) -> bool:
        return bool(steps.any())

    @staticmethod
    def _runs_forward(case: Case, situation: Situation, axis: int) -> bool:
        """Whether the analytic gradient starts small and grows: the sum runs from the first entry."""
        analytic = np.moveaxis(case.analytic(situation), axis, 0)
        return bool(np.linalg.norm(analytic[0]) <= np.linalg.norm(analytic[-1]))


def _rows_of_ones(case: Case) -> list[Situation]:
    """A single sample with every feature 1, which removes a factor x_d from the terms of a sum."""
    batch = case.situation.batch
    one = take(batch, [0])
    X = dense(one)
    if X.dtype.kind != "f" or not X.size:
        return []
    return [case.situation.of(replaced(one, X=np.ones_like(X)))]


class Parametrisation(Hypothesis):
    identifier = "parametrisation"
    meaning = "The gradient is by a function of θ (log θ, 1/θ, θ², exp θ, ...) instead of θ."
    template = (
        "It is the gradient by {of} instead of θ (agreement {agreement:.1g} after the chain rule: times {times}).{hint}"
    )
    rank = 10

    # The true derivative is the analytic one times this function of θ, up to a constant.
    chain = (
        ("log θ", "1/θ", lambda t: 1 / t),
        ("1/θ", "-1/θ²", lambda t: -1 / t**2),
        ("θ²", "2 θ", lambda t: 2 * t),
        ("sqrt θ", "1/(2 sqrt θ)", lambda t: 0.5 / np.sqrt(t)),
        ("θ³", "3 θ²", lambda t: 3 * t**2),
        ("exp θ (θ is its logarithm)", "exp θ", np.exp),
        ("exp -θ", "-exp -θ", lambda t: -np.exp(-t)),
        ("exp 2θ (θ is the logarithm of its root)", "2 exp 2θ", lambda t: 2 * np.exp(2 * t)),
        ("exp -2θ", "-2 exp -2θ", lambda t: -2 * np.exp(-2 * t)),
        ("exp θ/2", "exp(θ/2)/2", lambda t: 0.5 * np.exp(t / 2)),
        ("log of a logarithm", "exp -θ", lambda t: np.exp(-t)),
        ("1/sqrt θ", "-θ^(-3/2)/2", lambda t: -0.5 * t**-1.5),
        ("1/θ²", "-2/θ³", lambda t: -2 / t**3),
        ("the logistic function of θ", "σ(θ) (1 - σ(θ))", lambda t: 0.25 / np.cosh(t / 2) ** 2),
        ("log(1 + exp θ)", "σ(θ)", lambda t: 0.5 * (1 + np.tanh(t / 2))),
        ("logit θ", "1/(θ (1 - θ))", lambda t: 1 / (t * (1 - t))),
        ("tanh θ", "1 - tanh² θ", lambda t: 1 - np.tanh(t) ** 2),
        ("log10 θ or another constant times log θ", "1/θ", lambda t: 1 / t),
    )

    def test(self, case: Case) -> Diagnosis | None:
        for of, times, slope in self.chain:
            fit = case.explain(lambda s, f=slope: case.analytic(s) * f(case.theta(s)), free=True)
            if fit is not None:
                near = is_near(fit.factor, 1)
                hint = "" if near else f" It is also off by the factor {1 / fit.factor:.6g}."
                evidence = {**fit.evidence, "of": of}
                return self.explain(of=of, times=times, agreement=fit.agreement, hint=hint, evidence=evidence)
        return None


class BlockFactor(Hypothesis):
    identifier = "block_ignored"
    meaning = "The gradient leaves a block (a bias, say) out of account, as if it were zero or one."
    template = (
        "{what} (agreement {agreement:.1g}): true over analytic derivative is {ratio}, by entry along axis {axis}."
    )
    rank = 12

    def test(self, case: Case) -> Diagnosis | None:
        layout, start = case.subject.layout, case.start
        for index in case.others:
            name = layout.names[index]
            for axis in self._axes(case.shape, layout.shapes[index]):
                for what, ratio, power, old in (
                    (f"A factor {name} is missing", f"{name}", 1, 0),
                    (f"A factor {name} is too much", f"1/{name}", -1, 0),
                    (f"A factor {name}² is missing", f"{name}²", 2, 0),
                    (f"It has old values of {name} as a factor", f"{name} now over {name} at the start", 1, -1),
                ):

                    def predict(s: Situation, i: int = index, a: int = axis, p: int = power, o: int = old) -> Any:
                        with np.errstate(all="ignore"):
                            factor = s.block(i, s.vector) ** p * s.block(i, start) ** o
                        return case.analytic(s) * self._spread(factor, case.shape, a)

                    fit = case.explain(predict, free=not old)
                    if fit is not None:
                        diagnosis = self.explain(
                            what=what,
                            ratio=ratio,
                            axis=axis,
                            agreement=fit.agreement,
                            evidence={**fit.evidence, "other": name},
                        )
                        return diagnosis._replace(cause="stale_parameters") if old else diagnosis
        return None

    @staticmethod
    def _axes(shape: Shape, other: tuple[int, ...]) -> list[int]:
        """Axes along which a block of another shape may be a factor, by entry."""
        if len(other) != 1 or other[0] < 2:
            return []
        return [axis for axis, length in enumerate(shape) if length == other[0]]

    @staticmethod
    def _spread(factor: Array, shape: Shape, axis: int) -> Array:
        return factor.reshape([-1 if a == axis else 1 for a in range(len(shape))])


class Penalty(Hypothesis):
    identifier = "penalty"
    meaning = "The derivative of a penalty on θ is missing from the gradient, or the penalty from the loss."
    template = "It {what} {term} (agreement {agreement:.1g}): the derivative of a penalty {where}.{hint}"
    rank = 11
    terms = (
        ("θ", "strength/2 * sum of squares", lambda t: t),
        ("sign(θ)", "strength * sum of absolute values", np.sign),
        ("1 in every entry", "strength * sum", np.ones_like),
    )

    def test(self, case: Case) -> Diagnosis | None:
        for term, of, feature in self.terms:
            fit = self._fit(case, feature)
            if fit is not None:
                lacks = fit.factor > 0
                what = f"lacks {abs(fit.factor):.6g} times" if lacks else f"has {abs(fit.factor):.6g} times too much of"
                where = f"{of} that is in the loss and not in the gradient" if lacks else f"{of} that the loss lacks"
                alpha = " The estimator adds the derivative of its own alpha." if not lacks else ""
                return self.explain(
                    what=what, term=term, where=where, agreement=fit.agreement, hint=alpha, evidence=fit.evidence
                )
        return None

    @staticmethod
    def _fit(case: Case, feature: Callable[[Array], Any]) -> Fit | None:
        """True derivative minus analytic one = strength times a function of θ, with one strength everywhere."""

        def sketch(situation: Situation) -> Any:
            true, error = case.sketch(situation)
            directions = case.directions[: len(true)]
            missing = true - case.project(case.analytic(situation), directions)
            return case.project(feature(case.theta(situation)), directions), missing, error + 1e-9 * np.abs(true)

        return case.compare(sketch, free=True)
