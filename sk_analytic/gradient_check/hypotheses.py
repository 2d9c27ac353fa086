"""The table of causes: every identifier that a finding may carry, with its meaning.

A cause is a class, and defining the class enters it into the table. A `Doubt` is a reason why the check cannot tell. A
`Hypothesis` is a fault that can be tested for: it gets a `Case` (see ``evidence.py``) and returns a `Diagnosis` if it
explains the numbers, else None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from .evidence import Case


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
    verdict : {"wrong", "cannot tell"}
        The verdict of a finding with this cause.
    rank : int
        Lower ones come first in the table. Faults of the callables themselves, which are looked for before any
        hypothesis, keep the default.
    """

    identifier: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    template: ClassVar[str] = "{}"
    verdict: ClassVar[str] = "wrong"
    rank: ClassVar[int] = -10
    table: ClassVar[dict[str, type[Cause]]] = {}

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if cls.identifier:
            known = cls.table.setdefault(cls.identifier, cls)
            cls.table[cls.identifier] = min(known, cls, key=lambda cause: cause.rank)

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

    def test(self, case: Case) -> Diagnosis | None:
        """Return a `Diagnosis` if this explains the case, else None."""
        raise NotImplementedError


class Doubt(Cause):
    """A reason why the check cannot tell."""

    verdict = "cannot tell"


class NotFinite(Doubt):
    identifier = "not_finite"
    meaning = "The loss itself is not finite at the parameters of the check, or beside them."
    template = "The loss is not finite {}."


class NotDeterministic(Doubt):
    identifier = "not_deterministic"
    meaning = "Two evaluations of the loss, or of the gradient, at the same parameters differ."
    template = "Two evaluations of the {} at the same parameters differ{}."


class Kink(Doubt):
    identifier = "kink"
    meaning = "The loss has a kink at the parameters of the check: its one-sided derivatives differ."
    template = "The loss has a kink here: its one-sided derivatives differ."


class Noise(Doubt):
    identifier = "noise"
    meaning = "The loss is too noisy for its differences to be told from the analytic gradient."
    template = "Differences of the loss are too inexact (error about {error:.1g} of the derivative): it is noisy."


class Cancellation(Doubt):
    identifier = "cancellation"
    meaning = "The derivative is too small beside the loss: rounding swamps its differences."
    template = (
        "The derivative is so small beside the loss ({value:.3g}) that its differences drown in rounding "
        "(error about {error:.1g})."
    )


class Unsettled(Doubt):
    identifier = "unsettled"
    meaning = "Differences at several steps do not converge: the loss is rough or steps at small scales."
    template = "Differences of the loss at several steps do not agree among themselves: it is rough here."


class Slight(Doubt):
    identifier = "slight_difference"
    meaning = "The two differ by little, and no fault explains it: an approximation on one side, perhaps."
    template = (
        "Gradient and differences of the loss differ by a share of {share:.1g} that no known fault explains: too "
        "little to call it wrong. Is one of them an approximation (an inner iteration, a discretisation, a small "
        "constant)?"
    )


class LowPrecision(Doubt):
    identifier = "low_precision"
    meaning = "The loss or the gradient is computed in lower precision (float32, float16) inside the callable."
    template = (
        "The {what} carries only {digits} digits or so{where}; up to that it agrees. Look for a cast, a buffer of "
        "another dtype, or rounding."
    )


class Unexplained(Cause):
    identifier = "unexplained"
    rank = 100
    meaning = "The gradient is wrong and no hypothesis explains how; the explanation describes the pattern."
    template = "No known fault explains it. {}"
