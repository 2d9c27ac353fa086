"""Faults that are a term which does not depend on the samples: a constant, the derivative of a normalizing constant."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..evaluation import Situation, take
from ..evidence import Case, Fit, Way
from ..hypotheses import Diagnosis, Hypothesis

FEWEST_IN_HALVES = 8  # samples
VARIES = 1e-3  # relative difference between the derivatives of the halves


class ConstantTerm(Hypothesis):
    identifier = "constant_term"
    meaning = (
        "A constant is missing or superfluous in every entry, whatever θ and the samples are, such as the derivative "
        "of a normalizing constant."
    )
    template = (
        "Analytic minus numerical derivative is the constant {constant:.6g}{where}, whatever θ and the samples are "
        "(agreement {agreement:.1g}). Is a term missing or superfluous, as the derivative of a normalizing constant?"
    )
    rank = 12

    def ways(self, case: Case) -> Iterator[Way]:
        """True derivative minus analytic one = one number in all entries everywhere."""
        ones = np.ones(case.shape)
        yield Way({"where": "" if case.size == 1 else " in every entry"}, case.differs_by(lambda s: ones), n_free=1)

    def found(self, case: Case, fit: Fit, words: dict[str, Any]) -> Diagnosis:
        """The factor is the constant."""
        return super().found(case, fit._replace(factor=1.0), words | {"constant": -fit.factor})


class DataIndependentTerm(Hypothesis):
    identifier = "data_independent_term"
    meaning = (
        "A term that does not depend on the samples is missing or superfluous, such as the derivative of a normalizing "
        "constant."
    )
    template = (
        "Analytic minus numerical derivative{where} does not depend on the samples (agreement {agreement:.1g}). Is a "
        "term missing or superfluous that is the same for every sample, as the derivative of a normalizing constant is?"
    )
    rank = 90

    def ways(self, case: Case) -> Iterator[Way]:
        """The difference is the same in both halves of the samples, though the derivative is not."""
        halves: dict[int, list[Situation]] = {}

        def numbers(situation: Situation, count: int) -> Any:
            if situation.n < FEWEST_IN_HALVES:
                return None
            half = situation.n // 2
            both = halves.setdefault(
                id(situation),
                [situation.of(take(situation.batch, rows)) for rows in (slice(0, half), slice(half, None))],
            )
            directions = case.directions_at(situation)[:count]
            true, differences, errors = [], [], []
            for part in both:
                slopes, error = case.slopes(part, directions)
                true.append(slopes)
                differences.append(slopes - case.project(case.analytic(part), directions))
                errors.append(error + 1e-9 * np.abs(slopes))
            if np.linalg.norm(true[0] - true[1]) < VARIES * np.linalg.norm(true[0]):
                return None
            return differences[0], errors[0] + errors[1], differences[1]

        yield Way({}, numbers)

    def found(self, case: Case, fit: Fit, words: dict[str, Any]) -> Diagnosis:
        """For a single number, with its value."""
        value = -case.difference(case.situation, 1)[0][0] / case.project(np.ones(case.shape))[0]
        return super().found(case, fit, words | {"where": f", {value:.6g}," if case.size == 1 else ""})
