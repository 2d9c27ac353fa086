"""The diagnosis: hypotheses tested on each block that failed, then the fewest causes that explain them all."""

import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..typing import Array
from .evaluation import Situation, SpentError, take
from .evidence import Case
from .faults.localized import FirstStep, LastStep, pattern
from .faults.side_effects import not_finite
from .hypotheses import Cause, Diagnosis, Hypothesis, Slight, Unexplained
from .report import Finding
from .verdict import Checker, Judgement

MANY = 10**9
APPROXIMATE = 2e-3  # relative difference that an approximation may have, if no fault explains it
BLOCK_BUDGET = (12000, 15.0)  # evaluations and seconds for the diagnosis of a block
TOTAL_SECONDS = 60.0
FEW_ROWS = 48  # are enough for a diagnosis if the fault shows on them
STRICT = False  # whether a hypothesis that fails with an error is one; the tests set it
ELSEWHERE = ((0.15, 0.6), (0.1, 0.35))  # how far θ is moved, and the share of the rows, to verify on


class Diagnoses:
    """Hypotheses tested on each failed block."""

    def __init__(self, situation: Situation, start: Array, failed: list[int], judgements: dict[int, Judgement]) -> None:
        self.subject, self.start, self.failed, self.judgements = situation.subject, start, failed, judgements
        self.situation = self._fewer_rows(situation)
        self.elsewhere = self._elsewhere()
        self.failed_hypotheses: dict[str, str] = {}

    def _fewer_rows(self, situation: Situation) -> Situation:
        """A situation with the first samples only, if the same blocks fail on those as well."""
        if situation.n <= FEW_ROWS or not situation.is_sound:
            return situation
        fewer = situation.of(take(situation.batch, np.arange(FEW_ROWS)))
        if not fewer.is_sound:
            return situation
        again = Checker(fewer, self.failed).each(1)
        same = all(j.verdict == "wrong" and _alike(j.evidence, self.judgements[i].evidence) for i, j in again.items())
        return fewer if same else situation

    def _elsewhere(self) -> list[Situation]:
        """Situations to verify on, with other samples and another θ; those that cannot be evaluated are left out."""
        situations, n = [], self.situation.n
        for share, part in ELSEWHERE:
            count = max(1, min(n - 1, round(part * n))) if n > 1 else n
            some = self.subject.rng.permutation(n)[:count] if n > 1 else None
            for smaller, rows in ((1.0, some), (0.1, some), (0.1, None)):
                moved = self.situation.moved(share * smaller, rows)
                if moved.is_sound:
                    situations.append(moved)
                    break
        return situations

    def findings(self) -> dict[int, Finding]:
        """The findings on the failed blocks."""
        self.subject.allow(MANY, TOTAL_SECONDS)
        cases = {index: Case(self.situation, index, self.elsewhere, self.start) for index in self.failed}
        found: dict[int, Diagnosis | None] = {index: self._first(case) for index, case in cases.items()}
        for index, case in cases.items():
            if found[index] is None:
                found[index] = self._first(case, again=True)
        found = self._fewest_causes(cases, found)
        found = _same_end(found)
        return {index: self._finding(case, found[index], found) for index, case in cases.items()}

    def _fewest_causes(self, cases: dict[int, Case], found: dict[int, Diagnosis | None]) -> dict[int, Diagnosis | None]:
        """Prefer a cause that explains more blocks, if it explains this one too: one slip has many effects."""
        counts = Counter(d.cause for d in found.values() if d is not None)
        for index, case in cases.items():
            own = found[index]
            for cause, count in counts.most_common():
                if own is not None and (own.cause == cause or count <= counts[own.cause]):
                    break
                other = self._ask(case, [h for h in Hypothesis.all_of_them if h.identifier == cause])
                if other is not None:
                    found[index] = other
                    break
        return found

    def _first(self, case: Case, again: bool = False) -> Diagnosis | None:
        """The simplest hypothesis that explains the case."""
        if not np.isfinite(case.analytic()).all():
            return not_finite(case)
        return self._ask(case, [h for h in Hypothesis.all_of_them if h.again or not again])

    def _ask(self, case: Case, hypotheses: Iterable[type[Hypothesis]]) -> Diagnosis | None:
        """The first of some hypotheses that explains the case, within the budget of a block."""
        self.subject.allow(*BLOCK_BUDGET)
        for hypothesis in hypotheses:
            try:
                diagnosis = hypothesis().test(case)
            except SpentError:
                if self.subject.is_spent:
                    return None
                continue
            except Exception as error:  # a fault of ours must not end a user's fit
                if STRICT:
                    raise
                self.failed_hypotheses[hypothesis.identifier] = repr(error)
                continue
            if diagnosis:
                return diagnosis
        return None

    def _first_repair(self, found: dict[int, Diagnosis | None]) -> str:
        """A hint at another block that shows a fault of the loss itself."""
        about_loss = {h.identifier for h in Hypothesis.all_of_them if h.about_loss}
        for index, diagnosis in found.items():
            if diagnosis is not None and diagnosis.cause in about_loss:
                name = self.subject.layout.names[index]
                return f" Parameter {name!r} shows a fault in the loss itself: fix that first."
        return ""

    def _finding(self, case: Case, diagnosis: Diagnosis | None, found: dict[int, Diagnosis | None]) -> Finding:
        judgement = self.judgements[case.index]
        share = judgement.evidence["relative_error"]
        if diagnosis is None and share <= APPROXIMATE:
            text = Slight.template.format(share=share)
            return Finding(case.name, case.shape, "cannot tell", Slight.identifier, judgement.evidence, text)
        if diagnosis is None:
            self.subject.allow(2000, 5.0)
            try:
                words, evidence = pattern(case)
            except SpentError:
                words, evidence = judgement.explanation, {}
            if self.failed_hypotheses:
                evidence["failed_hypotheses"] = self.failed_hypotheses
            diagnosis = Unexplained.explain(words + self._first_repair(found), evidence=evidence)
        error = self._relative_error(case, judgement)
        numbers = {**judgement.evidence, "relative_error": error, **diagnosis.evidence}
        explanation = diagnosis.explanation
        if Cause.table[diagnosis.cause].is_open:
            explanation += self._unreceived()
        return Finding(case.name, case.shape, "wrong", diagnosis.cause, numbers, explanation)

    def _relative_error(self, case: Case, judgement: Judgement) -> float:
        """The difference of the derivatives relative to the numerical ones, over all directions of a case.

        That of the judgement is relative to the terms of a sum, which may cancel.
        """
        self.subject.allow(2000, 5.0)
        analytic, numerical = (np.array([judgement.evidence[name]]) for name in ("analytic", "numerical"))
        errors = np.zeros(1)
        with contextlib.suppress(SpentError):
            true, their_errors = case.sketch()
            if np.isfinite(true).all():
                analytic, numerical, errors = case.project(case.analytic()), true, their_errors
        if not np.isfinite(analytic).all() or not np.linalg.norm(numerical) > np.linalg.norm(errors):
            return float("inf")
        return float(np.linalg.norm(analytic - numerical) / np.linalg.norm(numerical))

    def _unreceived(self) -> str:
        """Name the data that loss or `forward` receive by name and the gradient does not."""
        model = self.subject.objective.model
        names = set(model.gradient.wanted)
        for role, receiver in (("forward", model.forward), ("loss", model.loss)):
            lacking = [name for name in getattr(receiver, "wanted", ()) if name not in names and name != "rng"]
            if lacking:
                return f" {role} receives {', '.join(map(repr, lacking))}; {model.form} does not."
        return ""


def _alike(evidence: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a fault is about as large."""
    return bool(evidence["relative_error"] > 0.1 * other["relative_error"])


def _same_end(found: dict[int, Diagnosis | None]) -> dict[int, Diagnosis | None]:
    """If one block fails through the first (last) step, name that for others that fail at that end of an axis."""
    shows = "Another parameter shows that a recursion's {} step is wrong."
    for step, end in ((FirstStep, "first"), (LastStep, "last")):
        through = any(d is not None and d.cause == step.identifier for d in found.values())
        for index, diagnosis in found.items():
            if through and diagnosis is not None and diagnosis.evidence.get("end") == end:
                found[index] = diagnosis._replace(
                    cause=step.identifier,
                    explanation=f"{diagnosis.explanation} {shows.format(end)}",
                )
    return found
