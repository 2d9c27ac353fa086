"""Missing or superfluous factors and terms: a parameter, a column of X, the prediction, their inverse or square.

A factor that is another block shows in the block as a whole. One that depends on the sample shows where the parts of
the samples stand side by side (see ``contributions.py``): claimed over true part is the factor, sample by sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...typing import Array, Shape
from ..evaluation import Situation, columns_of, dense
from ..evidence import Case, Fit, Way
from ..hypotheses import Diagnosis, Hypothesis, is_near
from .contributions import Contributions

FEWEST_SAMPLES = 4
MOST_COLUMNS = 12
AGREES = 2e-5  # relative difference up to which a part is what a factor predicts
VANISHES = 1e-6  # parts that are this much smaller than the largest tell nothing

POWERS = ((1, ""), (2, "²"), (0.5, "^½"))


def as_factor(shape: Shape, other: Shape) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Ways in which a block may be a factor of another: as a number, by entry along an axis, or entry by entry."""
    if not other:
        yield "", lambda block: block
    elif other == shape:
        yield " by entry", lambda block: block
    elif len(other) == 1 and other[0] > 1:
        for axis, length in enumerate(shape):
            if length == other[0]:
                spread = [-1 if a == axis else 1 for a in range(len(shape))]
                yield f" by entry along axis {axis}", lambda block, s=spread: block.reshape(s)


class SampleParts:
    """The parts of a case's samples and outputs at one situation, and what they may depend on.

    Attributes
    ----------
    true, claimed : ndarray of shape (m, n_directions)
        The parts that tell something, one a sample and output.
    errors : ndarray of shape (m,)
    is_zero : ndarray of bool of shape (m,)
        Where the true part alone is zero.
    ratio : ndarray of shape (m,) or None
        Claimed over true part, infinite where that is zero; None if a part has no single one.
    """

    def __init__(self, case: Case, situation: Situation, parts: Any) -> None:
        self.case, self.situation = case, situation
        n, k, n_directions = parts.true.shape
        true, claimed = parts.true.reshape(-1, n_directions), parts.claimed.reshape(-1, n_directions)
        errors = 3 * np.linalg.norm(parts.errors.reshape(-1, n_directions), axis=1)
        size = np.maximum(np.linalg.norm(true, axis=1), np.linalg.norm(claimed, axis=1))
        self.tells = size > VANISHES * size.max(initial=0.0)
        self.rows = np.repeat(np.arange(n), k)[self.tells]
        self.true, self.claimed, self.errors = true[self.tells], claimed[self.tells], errors[self.tells]
        self.prediction = Contributions.of(case, situation).prediction
        self._square = np.einsum("md,md->m", self.true, self.true)
        self.is_zero = self._square <= self.errors**2
        self.ratio = self._ratio()

    @classmethod
    def of(cls, case: Case) -> list[SampleParts]:
        """Return those at all situations of a case, its own first; empty if samples have no parts. Made once."""
        if "_sample_parts" not in case.__dict__:
            parts = [Contributions.of(case, s).parts for s in case.situations[:1]]
            if parts[0] is not None:
                parts += [Contributions.of(case, s).parts for s in case.elsewhere]
            whole = len(parts) == len(case.situations) and all(p is not None for p in parts)
            case.__dict__["_sample_parts"] = (
                [cls(case, s, p) for s, p in zip(case.situations, parts, strict=True)] if whole else []
            )
        return cls.made(case)

    @staticmethod
    def made(case: Case) -> list[SampleParts]:
        """Return those that a hypothesis has made already; empty if none has."""
        made: list[SampleParts] = case.__dict__.get("_sample_parts", [])
        return made

    def _ratio(self) -> Array | None:
        if self.is_zero.all():
            return None
        with np.errstate(all="ignore"):
            along: Array = np.einsum("md,md->m", self.claimed, self.true) / self._square
        ratio = np.where(self.is_zero, np.inf, along)
        return ratio if self.agrees(ratio) else None

    def agrees(self, factor: Any) -> bool:
        """Whether each claimed part is the true one times its factor, which is infinite where the true one is zero."""
        right = self.right(np.where(np.isfinite(factor), factor, 0.0))
        return bool((right | (self.is_zero & ~np.isfinite(factor))).all())

    def right(self, factor: Any = 1.0) -> Array:
        """Return a mask of the claimed parts that are the true ones times their factors."""
        expected = self.true * np.reshape(factor, (-1, 1))
        left = np.linalg.norm(self.claimed - expected, axis=1)
        scale = np.maximum(np.linalg.norm(expected, axis=1), np.linalg.norm(self.claimed, axis=1))
        right: Array = left <= AGREES * scale + self.errors * np.maximum(1.0, np.abs(np.reshape(factor, -1)))
        return right

    def columns(self) -> Iterator[tuple[str, Array]]:
        """Names and values of what differs between samples."""
        batch = self.situation.batch
        X = dense(batch)
        if X.ndim == 2 and X.dtype.kind in "fiu":
            for j in range(min(X.shape[1], MOST_COLUMNS)):
                yield f"X[:, {j}]", X[self.rows, j].astype(float)
        s = self.prediction
        if s is not None and s.size == self.tells.size:
            yield "s (the prediction)", s.reshape(-1)[self.tells]
        for name, column in columns_of(batch).items():
            if column.ndim == 1 and column.dtype.kind in "fiub":
                yield name, column[self.rows].astype(float)

    def numbers(self) -> Iterator[tuple[str, float]]:
        """Names and values of the parameters that are single numbers."""
        layout = self.case.subject.layout
        for index, (name, shape) in enumerate(zip(layout.names, layout.shapes, strict=True)):
            if not np.prod(shape) > 1:
                yield name, float(self.situation.block(index, self.situation.vector).ravel()[0])

    def pairs(self) -> Iterator[tuple[str, Array, str, float]]:
        """Every column with every number, and their logarithms: names and values."""
        columns, numbers = list(self.columns()), list(self.numbers())
        pairs = [(name, v, number, p) for name, v in columns for number, p in numbers]
        yield from pairs
        yield from ((f"log {name}", np.log(v), f"log {number}", np.log(p)) for name, v, number, p in pairs)

    def factors(self) -> Iterator[tuple[str, Array]]:
        """Names and values of what may be a factor, the simplest first."""
        columns = list(self.columns())
        yield from columns
        for name, v in columns:
            yield f"log {name}", np.log(v)
            yield f"exp({name})", np.exp(v)
            yield f"(1 - {name})", 1 - v
            yield f"{name}(1 - {name})", v * (1 - v)
            yield f"(1 - tanh²({name}))", 1 - np.tanh(v) ** 2
            yield f"σ({name})(1 - σ({name}))", 0.25 / np.cosh(v / 2) ** 2
        for name, v, number, p in self.pairs():
            yield f"({name} + {number})", v + p
            yield f"({name} - {number})", v - p
        for i, (name, v) in enumerate(columns):
            for other, w in columns[i + 1 :]:
                yield f"{name} {other}", v * w
                yield f"{name} / {other}", v / w


class OfParts(Hypothesis):
    """Base of the causes that predict the claimed part of each sample, up to a constant.

    The constant is fitted on the case's own samples. It must be the same at another θ, or be the parameter's power that
    it turns out to be.
    """

    def predictions(self, parts: SampleParts) -> Iterator[tuple[str, Array]]:
        """Words, and what the claimed part is of, by sample, up to a constant."""
        raise NotImplementedError

    def by_parts(self, case: Case) -> Diagnosis | None:
        """Return the diagnosis by the first prediction that holds for every sample at every situation."""
        tables = SampleParts.of(case)
        if not tables or len(tables) < 2 or len(tables[0].true) < FEWEST_SAMPLES:
            return None
        with np.errstate(all="ignore"):
            streams = [self.predictions(parts) for parts in tables]
            for predicted in zip(*streams, strict=True):
                constants: list[Any] = []
                for parts, (_, values) in zip(tables, predicted, strict=True):
                    constants.append(self.constant(parts, values))
                    if constants[-1] is None:
                        break
                power = None if None in constants else _power(tables, np.array(constants))
                if power is not None:
                    return self.named(predicted[0][0], *power, len(tables[0].true))
        return None

    def constant(self, parts: SampleParts, values: Array) -> float | None:
        """The constant with which a prediction holds for every sample of a situation, or None."""
        raise NotImplementedError

    def named(self, words: str, constant: float, power: str, n: int) -> Diagnosis:
        """Return the diagnosis."""
        raise NotImplementedError


def _power(tables: list[SampleParts], constants: Array) -> tuple[float, str] | None:
    """The constant that is the same everywhere, and the power of a parameter that it must be divided by for that."""
    if np.ptp(constants) <= 1e-4 * np.abs(constants).max():
        return float(constants[0]), ""
    for numbers in zip(*(parts.numbers() for parts in tables), strict=True):
        name, values = numbers[0][0], np.array([value for _, value in numbers])
        for exponent, words in ((1.0, "{}"), (-1.0, "1/{}"), (2.0, "{}²"), (-2.0, "1/{}²")):
            left = constants / values**exponent
            if np.ptp(left) <= 1e-4 * np.abs(left).max():
                return float(left[0]), words.format(name)
    return None


class MissingFactor(OfParts):
    identifier = "missing_factor"
    meaning = (
        "A factor is missing, superfluous, inverted or squared: a parameter, a column of X, the prediction, or a "
        "simple function of them."
    )
    template = "{what}{where} ({support})."
    rank = 25

    functions: tuple[tuple[str, Callable[[Array], Array]], ...] = (
        ("A factor {} is missing", lambda b: b),
        ("A factor {} is superfluous", lambda b: 1 / b),
        ("A factor {}² is missing", lambda b: b * b),
        ("A factor {}² is superfluous", lambda b: 1 / b**2),
        ("A factor exp({}) is missing", np.exp),
        ("A factor exp({}) is superfluous", lambda b: np.exp(-b)),
        ("A factor exp(2 {}) is missing", lambda b: np.exp(2 * b)),
        ("A factor exp(2 {}) is superfluous", lambda b: np.exp(-2 * b)),
        ("A factor exp({}/2) is missing", lambda b: np.exp(b / 2)),
        ("A factor exp({}/2) is superfluous", lambda b: np.exp(-b / 2)),
        ("A factor √{} is missing", np.sqrt),
        ("A factor √{} is superfluous", lambda b: 1 / np.sqrt(b)),
    )

    def ways(self, case: Case) -> Iterator[Way]:
        """Every other block as a factor, or one in the place of another; then with a constant."""
        layout = case.subject.layout
        yield from self._exchanged(case)
        for n_free in (0, 1):
            for index in case.others:
                name = layout.names[index]
                for where, spread in as_factor(case.shape, layout.shapes[index]):
                    for what, function in self.functions:

                        def repaired(s: Situation, i: int = index, f: Any = function, spread: Any = spread) -> Any:
                            with np.errstate(all="ignore"):
                                return case.analytic(s) * spread(f(s.block(i, s.vector)))

                        words = {"what": what.format(name), "where": where, "other": name}
                        yield Way(words, case.repaired(repaired), n_free)

    def found(self, case: Case, fit: Fit, words: dict[str, Any]) -> Diagnosis:
        """With the agreement as support."""
        return super().found(case, fit, words | {"support": f"agreement {fit.agreement:.1g}"})

    @staticmethod
    def _exchanged(case: Case) -> Iterator[Way]:
        layout = case.subject.layout
        for index, other in itertools.permutations(range(len(layout.names)), 2):
            for where, spread in as_factor(case.shape, layout.shapes[index]):
                if layout.shapes[index] == layout.shapes[other]:

                    def repaired(s: Situation, i: int = index, o: int = other, spread: Any = spread) -> Any:
                        with np.errstate(all="ignore"):
                            return case.analytic(s) * spread(s.block(o, s.vector) / s.block(i, s.vector))

                    what = f"The factor {layout.names[index]} is used instead of {layout.names[other]}"
                    yield Way({"what": what, "where": where, "other": layout.names[other]}, case.repaired(repaired))

    def test(self, case: Case) -> Diagnosis | None:
        return super().test(case) or self.by_parts(case)

    def predictions(self, parts: SampleParts) -> Iterator[tuple[str, Array]]:
        for name, values in parts.factors():
            for power, sign in POWERS:
                shown = f"{name}{sign}"
                yield f"A factor {shown} is missing", values**-power
                yield f"A factor {shown} is superfluous", values**power
        for name, v, number, p in parts.pairs():
            for sign, both in (("+", v + p), ("-", v - p)):
                yield f"{name} is used instead of {name} {sign} {number}", v / both
                yield f"{name} {sign} {number} is used instead of {name}", both / v

    def constant(self, parts: SampleParts, values: Array) -> float | None:
        """Claimed over true part, over the factor, if that is one number."""
        is_known = ~parts.is_zero  # elsewhere a missing factor is zero, and what it is divided by is infinite
        if parts.ratio is None or (np.isfinite(values) != is_known).any() or not values.all():
            return None
        constant = float(np.median((parts.ratio / values)[is_known]))
        varies = np.ptp(values[is_known]) > 1e-3 * np.abs(values[is_known]).max()
        return constant if varies and constant and parts.agrees(constant * values) else None

    def named(self, words: str, constant: float, power: str, n: int) -> Diagnosis:
        words += f", and a factor {power} is superfluous" if power else ""
        where = "" if is_near(abs(constant), 1) else f", and another of {constant:.6g} is superfluous"
        where += ", and the sign is flipped" if is_near(constant, -1) else ""
        evidence = {"factor": constant, "n_numbers": n}
        return self.explain(what=words, where=where, support=f"{n} samples compared", evidence=evidence)


class MissingTerm(OfParts):
    identifier = "missing_term"
    meaning = "The derivative of each sample lacks a term or has one too many: a constant, a column of X, a parameter."
    template = "{what} in the derivative of each sample ({n} samples compared)."
    rank = 29

    def test(self, case: Case) -> Diagnosis | None:
        return self.by_parts(case)

    def predictions(self, parts: SampleParts) -> Iterator[tuple[str, Array]]:
        ones = np.ones(len(parts.true))
        yield "", ones
        columns = list(parts.columns())
        for name, values in columns:
            yield name, values
            yield f"{name}²", values**2
            yield f"log {name}", np.log(values)
        for i, (name, v) in enumerate(columns):
            for other, w in columns[i + 1 :]:
                yield f"{name} {other}", v * w

    def constant(self, parts: SampleParts, values: Array) -> float | None:
        """Claimed minus true part, over the term, if that is one number for all samples and directions."""
        directions = parts.case.directions_at(parts.situation)
        along = directions.reshape(len(directions), -1).sum(axis=1)
        if not np.isfinite(values).all():
            return None
        excess, term = parts.claimed - parts.true, np.outer(values, along)
        square = float((term * term).sum())
        constant = float((excess * term).sum()) / square if square else 0.0
        left = np.linalg.norm(excess - constant * term, axis=1)
        scale = np.linalg.norm(parts.true, axis=1) + np.linalg.norm(parts.claimed, axis=1)
        return constant if constant and (left <= AGREES * scale + parts.errors).all() else None

    def named(self, words: str, constant: float, power: str, n: int) -> Diagnosis:
        term = " ".join(part for part in (power, words) if part)
        size = "" if is_near(abs(constant), 1) and term else f"{abs(constant):.6g}"
        shown = " times ".join(part for part in (size, term) if part)
        what = f"A term {shown} is {'superfluous' if constant > 0 else 'missing'}"
        return self.explain(what=what, n=n, evidence={"factor": constant, "n_numbers": n})
