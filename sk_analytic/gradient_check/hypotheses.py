"""The table of causes: every identifier that a finding may carry, with its meaning.

A cause is a class, and defining the class enters it into the table. A `Doubt` is a reason why the check cannot tell. A
`Hypothesis` is a fault that can be tested for. Most are data: the ways in which they may hold, each a prediction of
numbers with its count of free ones, which a `Case` (see ``evidence.py``) weighs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from .evidence import Case, Fit, Way

NICE = 1e-6  # how close a factor must be to a number to be called that


def is_near(factor: float, number: float) -> bool:
    """Whether a factor is a number, to the accuracy of differences."""
    return abs(factor - number) <= NICE * abs(number) + 1e-12


class Diagnosis(NamedTuple):
    """A hypothesis that explains the numbers.

    Attributes
    ----------
    cause : str
        Its identifier.
    evidence : dict
        The numbers behind it.
    explanation : str
        The diagnosis in words, with the likely slip.
    """

    cause: str
    evidence: dict[str, Any]
    explanation: str


class Cause:
    """One entry of the table.

    Attributes
    ----------
    identifier : str
        The ``cause`` of a finding.
    meaning : str
        One sentence for the documentation.
    template : str
        The explanation, with placeholders for the evidence.
    verdict : {"wrong", "cannot tell", "right"}
        The verdict of a finding with this cause; if right, it is a remark.
    rank : int
        Lower ones come first in the table. Faults of the callables themselves, which are looked for before any
        hypothesis, keep the default.
    is_open : bool
        Whether it leaves open what the slip is, so that the reader is told of other possible reasons.
    """

    identifier: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    template: ClassVar[str] = "{}"
    verdict: ClassVar[str] = "wrong"
    rank: ClassVar[int] = -10
    is_open: ClassVar[bool] = False
    table: ClassVar[dict[str, type[Cause]]] = {}

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if cls.identifier:
            if cls.identifier in cls.table:
                raise TypeError(
                    f"{cls.__name__}: {cls.identifier!r} is {cls.table[cls.identifier].__name__}'s already."
                )
            cls.table[cls.identifier] = cls

    @classmethod
    def explain(cls, *places: Any, evidence: dict[str, Any] | None = None, **named: Any) -> Diagnosis:
        """Return the diagnosis with the template filled in."""
        return Diagnosis(cls.identifier, evidence or {}, cls.template.format(*places, **named))


class Hypothesis(Cause):
    """A fault that can be tested for.

    Attributes
    ----------
    rank : int
        Simple ones are tested first; among equals, in the order of definition.
    about_loss : bool
        Whether it is a fault of the loss, not of the gradient.
    again : bool
        Whether to test once more after all blocks, because it uses evidence from other blocks.
    """

    rank: ClassVar[int] = 50
    again: ClassVar[bool] = False
    about_loss: ClassVar[bool] = False
    all_of_them: ClassVar[list[type[Hypothesis]]] = []

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if cls.identifier:
            cls.all_of_them.append(cls)
            cls.all_of_them.sort(key=lambda hypothesis: hypothesis.rank)

    def ways(self, case: Case) -> Iterator[Way]:
        """Ways in which it may hold, the most likely first."""
        raise NotImplementedError

    def test(self, case: Case) -> Diagnosis | None:
        """Return a `Diagnosis` if this explains the case, else None: by the first way that fits."""
        for way in self.ways(case):
            fit = case.compare(way)
            if fit is not None:
                return self.found(case, fit, way.words)
        return None

    def found(self, case: Case, fit: Fit, words: dict[str, Any]) -> Diagnosis:
        """Return the diagnosis for a way that fits: its words and numbers in the template."""
        diagnosis = self.explain(**{"hint": "", **fit.evidence, **words}, evidence={**fit.evidence, **words})
        if is_near(abs(fit.factor), 1) or "{factor" in self.template:
            return diagnosis
        also = f"It is also off by a factor of {fit.factor:.6g}."
        return diagnosis._replace(explanation=f"{diagnosis.explanation} {also}")


class Doubt(Cause):
    """A reason why the check cannot tell."""

    verdict = "cannot tell"


class NotFinite(Doubt):
    identifier = "not_finite"
    meaning = "The loss is not finite at the checked parameters, or next to them."
    template = "The loss is not finite {}."


class NotDeterministic(Doubt):
    identifier = "not_deterministic"
    meaning = "Two evaluations of the loss, or of the gradient, at the same parameters differ."
    template = "Two evaluations of the {} at the same parameters differ{}."


class Kink(Doubt):
    identifier = "kink"
    meaning = "The loss has a kink at the checked parameters: its one-sided derivatives differ."
    template = "The loss has a kink here: its one-sided derivatives differ."


class Noise(Doubt):
    identifier = "noise"
    meaning = "The loss is too noisy to compare its differences with the analytic gradient."
    template = "The loss is noisy: its differences are too inexact (error about {error:.1g} of the derivative)."


class Cancellation(Doubt):
    identifier = "cancellation"
    meaning = "The derivative is too small relative to the loss: rounding dominates its differences."
    template = (
        "The derivative is so small relative to the loss ({value:.3g}) that rounding dominates its differences "
        "(error about {error:.1g})."
    )


class Unsettled(Doubt):
    identifier = "unsettled"
    meaning = "Differences at several steps do not converge: the loss is rough or jumps at small scales."
    template = "The loss is rough here: its differences at several steps do not agree."


class Slight(Doubt):
    identifier = "slight_difference"
    meaning = "Gradient and differences of the loss differ slightly, and no fault explains it: one may be approximate."
    template = (
        "Gradient and differences of the loss differ by a relative {share:.1g}, which no known fault explains and "
        "which is too little to call the gradient wrong. Is one of them an approximation (an inner iteration, a "
        "discretization, a small constant)?"
    )


class LowPrecision(Doubt):
    identifier = "low_precision"
    meaning = "The loss or the gradient is computed in lower precision (float32, float16) inside the callable."
    template = (
        "The {what} has only about {digits} digits{where}, and agrees to that precision. Look for a cast, a buffer of "
        "another dtype, or rounding."
    )


class Unexplained(Cause):
    identifier = "unexplained"
    rank = 100
    is_open = True
    meaning = "The gradient is wrong and no hypothesis explains how; the explanation describes the pattern."
    template = "No known fault explains it. {}"
