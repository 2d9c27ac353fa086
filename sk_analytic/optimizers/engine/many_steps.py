"""Many steps at once: what a compiled epoch needs of an optimizer, in place of a call in each step.

`ManySteps` has the kernels of the common step, the arrays they run over, and a table of the coefficients of each: a
line a step. Tables are made by the same `Link.coefficients` as single steps. Those of this package do only arithmetic
with the count of steps, as a rule, so that they are called once for all, with the `Counts` of all steps in the place of
one. Those of the user's own may do anything, a draw of random numbers too, and are called step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from ...typing import Array
from .links import BoundLink, Step
from .numpy_kernel import code_of
from .program import Job, Program, Term
from .trace import Operations


class NotCompiledError(Exception):
    """Why an epoch is not compiled, and what to do about it, in words after which a full stop follows."""


class MixedError(ValueError):  # no TypeError: `scalars` would take it for a symbol
    """Of the counts of several steps one number is asked for, and they differ."""


class Counts(np.ndarray):
    """The counts of several steps, for arithmetic that rounds as that of Python's numbers does."""

    def _only(self) -> Any:
        first = self.flat[0]
        if (np.asarray(self) != first).any():
            raise MixedError
        return first

    def __bool__(self) -> bool:
        return bool(self._only())

    def __float__(self) -> float:
        return float(self._only())

    def __int__(self) -> int:
        return int(self._only())

    __index__ = __int__

    def __pow__(self, exponent: Any, modulo: None = None) -> Any:
        return _powers(self, exponent)

    def __rpow__(self, base: Any, modulo: None = None) -> Any:
        return _powers(base, self)


def _powers(base: Any, exponent: Any) -> Any:
    """Powers entry by entry as Python computes them; NumPy's may differ in the last digit."""
    size = max(np.size(base), np.size(exponent))
    bases, exponents = (
        repeat(value) if np.ndim(value) == 0 else np.asarray(value).tolist() for value in (base, exponent)
    )
    return np.fromiter(map(pow, bases, exponents), np.float64, size).view(Counts)


class ManyRuns(NamedTuple):
    """A kernel that runs in every step.

    Attributes
    ----------
    operations : Operations
    slots : list of ndarray
        As the operations name them.
    start, stop : int
        Its entries of θ.
    """

    operations: Operations
    slots: list[Array]
    start: int
    stop: int


def _is_arithmetic(term: Term) -> bool:
    """Whether the coefficients of a link depend on the count of steps alone, and by arithmetic with it."""
    if isinstance(term.link, Step):
        return True
    is_ours = type(term.link).__module__.partition(".")[0] == __name__.partition(".")[0]
    return is_ours and not term.bound.declared.memory


class ManySteps:
    """The common step of an optimizer, many times.

    Parameters
    ----------
    state : State
    scheduled : list of BoundLink
        Those of its links whose hyperparameters change from step to step.
    program : Program

    Attributes
    ----------
    kernels : list of ManyRuns
        One for each job of the step.
    n : int
        Lines of the tables that were asked for last.
    """

    def __init__(self, state: Any, scheduled: Sequence[BoundLink], program: Program) -> None:
        self._state, self._scheduled = state, scheduled
        (self._pass,) = program.passes
        self._jobs: list[Job] = self._pass.jobs
        self._terms = list(dict.fromkeys(term for job in self._jobs for term in job.terms))
        self._nows = list({id(term.now): term.now for term in self._terms}.values())
        columns = self._columns(1)
        if not self.n:
            raise NotCompiledError("the coefficients of its first step raise an error, which follows")
        self.kernels = []
        for job in self._jobs:
            counts = tuple(len(columns[term]) for term in job.terms)
            operations = code_of(job.fused, counts, state.dtype).operations
            slots = [slot for link in job.fused.links for slot in link.arrays()]
            self.kernels.append(ManyRuns(operations, slots, job.start, job.stop))

    def tables(self, n: int) -> list[Array]:
        """Return the coefficients of each kernel in the next steps, a line a step; none counts as taken yet.

        There are only `n` lines if those of a later step cannot be had: a schedule that fails there, for instance.
        """
        columns = self._columns(n)
        return [self._table(self.n, [column for term in job.terms for column in columns[term]]) for job in self._jobs]

    def _table(self, n: int, columns: Sequence[Any]) -> Array:
        table = np.empty((n, len(columns)), self._state.dtype)
        for position, column in enumerate(columns):
            table[:, position] = column
        return table

    def take(self, n: int) -> None:
        """Count n of the steps whose coefficients were asked for last as taken."""
        if n == self.n:
            self._place(self._after)
        elif n:
            self._place(self._before)
            self._one_by_one(n, self._terms)

    def _columns(self, n: int) -> dict[Term, list[Any]]:
        """Ask for the coefficients of the next steps, by links; all counts are left as they are."""
        self._before = self._where()
        try:
            columns = self._ask(n)
        except Exception:  # of the first step that is left: whoever takes it meets the error
            n = self._n_before_error(n)
            columns = self._ask(n)
        self.n, self._after = n, self._where()
        self._place(self._before)
        return columns

    def _n_before_error(self, n: int) -> int:
        """Return for how many of the next steps there are coefficients."""
        self._place(self._before)
        steps = 0
        with suppress(Exception):
            while steps < n:
                self._one_by_one(1, self._terms)
                steps += 1
        self._place(self._before)
        return steps

    def _ask(self, n: int) -> dict[Term, list[Any]]:
        return self._one_by_one(n, self._terms) if self._scheduled else self._at_once(n)

    def _where(self) -> Any:
        return self._state.step, [(now.t, now.rate, dict(now.memory)) for now in self._nows]

    def _place(self, where: Any) -> None:
        self._state.step, each = where
        for now, (t, rate, memory) in zip(self._nows, each, strict=True):
            now.t, now.rate = t, rate
            now.memory.update(memory)

    def _one_by_one(self, n: int, terms: Sequence[Term]) -> dict[Term, list[Any]]:
        """Ask for the coefficients of each step."""
        asked: list[Callable[..., tuple[float, ...]]] = [term.link.coefficients for term in terms]
        lines: list[list[tuple[float, ...]]] = [[] for _ in terms]
        begins = [(term.now, term.rule) for term in self._pass.begins]
        for _ in range(n):
            for link in self._scheduled:
                link.resolve(self._state)
            for now, rule in begins:
                now.t += 1
                now.rate = rule.learning_rate
            for coefficients, term, kept in zip(asked, terms, lines, strict=True):
                kept.append(coefficients(term.now))
            self._state.step += 1
        return {term: list(zip(*kept, strict=True)) for term, kept in zip(terms, lines, strict=True)}

    def _at_once(self, n: int) -> dict[Term, list[Any]]:
        """Ask for the coefficients of all steps by one call, of each link for which that means the same."""
        columns: dict[Term, list[Any]] = {}
        for term in self._pass.begins:
            term.now.rate = term.rule.learning_rate
        for term in self._terms:
            if n > 1 and _is_arithmetic(term):
                before = term.now.t
                counts: Any = np.arange(before + 1, before + n + 1).view(Counts)
                term.now.t = counts
                # Whatever does not work for several counts, division by zero too, is asked one by one.
                with suppress(Exception), np.errstate(all="raise"):
                    columns[term] = list(term.link.coefficients(term.now))
                term.now.t = before
        left = [term for term in self._terms if term not in columns]
        if left:
            return columns | self._one_by_one(n, left)
        for term in self._pass.begins:
            term.now.t += n
        self._state.step += n
        return columns
