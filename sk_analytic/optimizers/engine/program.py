"""Program: what the links do in one step, for a set of blocks.

A link that measures something needs all of what flows before it goes on. So a chain is cut there into passes over
θ. Within a pass the links of a block are fused into one kernel, and neighboring blocks that do the same run as one
`Job`. When all kernels are there, `Program.write` writes the step down as one Python function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...sparse_gradients import SparseGradient
from ...typing import Array
from ..state import StepInfo
from .links import BoundLink, Fused, Step, total
from .numpy_kernel import NumpyEngine, compiled

Chains = Mapping[int, Sequence[BoundLink]]
"""What each running block passes, by the index of the block."""


class Term:
    """One link on the blocks that share its count."""

    __slots__ = ("bound", "coefficients", "link", "now", "rule")

    def __init__(self, bound: BoundLink, now: StepInfo, rule: Any) -> None:
        self.bound, self.link, self.now, self.rule = bound, bound.link, now, rule
        self.coefficients: tuple[float, ...] = ()


class Job:
    """Neighboring blocks on which a pass does the same, with the same coefficients: one run of a kernel.

    Parameters
    ----------
    fused : Fused
    terms : list of Term
        For each of its links.
    where : slice
        Of θ.
    engine : NumpyEngine
    """

    is_one_kernel = True  # which can be written down

    def __init__(self, fused: Fused, terms: Sequence[Term], where: slice, engine: NumpyEngine) -> None:
        self.fused, self.terms, self.engine = fused, terms, engine
        self.start, self.stop = where.start, where.stop
        self.kernel: Any = None

    def extends_to(self, fused: Fused, terms: Sequence[Term], where: slice) -> bool:
        """Whether a block starts where this job ends, with the same terms from and to the same place."""
        return self.stop == where.start and self.terms == terms and self.fused == fused

    def run(self, theta: Array, g: Array) -> None:
        """Run the kernel, and add what was measured to its sums."""
        if self.kernel is None:
            self.kernel = self.engine.kernel(self.fused, tuple(len(term.coefficients) for term in self.terms))
        coefficients = [number for term in self.terms for number in term.coefficients]
        sums = self._launch(theta, g, coefficients)
        if self.fused.measures:
            now = self.terms[-1].now
            parts = zip(now.sums, sums, strict=True) if now.sums else None
            now.sums = [total(part, self.fused.norms) for part in parts] if parts else sums

    def _launch(self, theta: Array, g: Array, coefficients: list[float]) -> Any:
        return self.kernel.run(g, theta, self.start, self.stop, coefficients)


class SparseJob(Job):
    """A block of which some rows have a gradient: the kernel reads and writes these alone.

    ``given`` has the sparse gradients of this step by the index of the block.
    """

    is_one_kernel = False

    def __init__(
        self,
        fused: Fused,
        terms: Sequence[Term],
        where: slice,
        engine: NumpyEngine,
        block: int,
        given: Mapping[int, SparseGradient],
    ) -> None:
        super().__init__(fused, terms, where, engine)
        self.block, self.given = block, given

    def extends_to(self, fused: Fused, terms: Sequence[Term], where: slice) -> bool:
        """It is always alone."""
        return False

    def _launch(self, theta: Array, g: Array, coefficients: list[float]) -> Any:
        return self.kernel.run_sparse(self.given[self.block], theta, coefficients)


class OutsideJob(Job):
    """The step of another library's optimizer, on all of its blocks at once.

    It is taken in θ's own memory. If another link takes the proposed θ of a block, that flows on, and θ is put back.
    """

    is_one_kernel = False

    def __init__(self, term: Term, engine: NumpyEngine) -> None:
        self.terms: list[Term] = []
        self.stepper, self.engine, self.kernel = term.link, engine, term.link
        self._wheres: dict[int, slice] = {}
        self._given: list[slice] = []  # blocks whose gradient no link has passed on
        self._takes: list[slice] = []
        self._proposes: list[slice] = []

    def add(self, fused: Fused, term: Term, where: slice, block: int) -> None:
        """Take a block in."""
        if term not in self.terms:
            self.terms.append(term)
        self._wheres[block] = where
        (self._takes if fused.source == "flow" else self._given).append(where)
        if fused.target == "flow":
            self._proposes.append(where)

    def extends_to(self, fused: Fused, terms: Sequence[Term], where: slice) -> bool:
        """Its blocks are added one by one."""
        return False

    def run(self, theta: Array, g: Array) -> None:
        """Take the step."""
        if self._takes:
            flow = self.engine.flow()
            for where in self._given:
                flow[where] = g[where]
            g = flow
        before = [theta[where].copy() for where in self._proposes]
        self.stepper.step(theta, g, self._wheres)
        for where, kept in zip(self._proposes, before, strict=True):
            self.engine.flow()[where] = theta[where]
            theta[where] = kept
        for term in self.terms:
            term.now.rate = self.stepper.learning_rate


class Pass:
    """A pass over all blocks: which links begin, which run, what is measured for the next, by which jobs."""

    def __init__(self, begins: list[Term], runs: list[Term], measures: list[Term], jobs: list[Job]) -> None:
        self.begins, self.runs, self.measures, self.jobs = begins, runs, measures, jobs

    @property
    def is_one_kernel(self) -> bool:
        """Whether it is a single call of a kernel, which can be written down."""
        return len(self.jobs) == 1 and self.jobs[0].is_one_kernel

    def __call__(self, theta: Array, g: Array) -> None:
        """Count, ask for coefficients, run, and keep the sums."""
        for term in self.begins:
            term.now.t += 1
            term.now.rate = term.rule.learning_rate
        for term in self.runs:
            term.coefficients = term.link.coefficients(term.now)
        for term in self.measures:
            term.coefficients = term.link.scales(term.now)
            term.now.sums = None
        for job in self.jobs:
            job.run(theta, g)
        for term in self.measures:
            sums = term.now.sums
            term.now.sums = sums[0] if len(sums) == 1 else tuple(sums)


class Program:
    """One step of some blocks.

    Parameters
    ----------
    passes : list of Pass
    engine : NumpyEngine
    """

    def __init__(self, passes: list[Pass], engine: NumpyEngine) -> None:
        self.passes, self._engine = passes, engine
        self._limit = math.inf
        self._theta: Array | None = None
        self._written: Callable[[Array], None] | Any = None

    @property
    def limit(self) -> float:
        """Seconds of NumPy's work after which a kernel should be reconsidered; -inf before all kernels are there."""
        if any(job.kernel is None for pass_ in self.passes for job in pass_.jobs):
            return -math.inf
        kernels = [pass_.jobs[0].kernel for pass_ in self.passes if pass_.is_one_kernel]
        return min((kernel.limit for kernel in kernels), default=math.inf)

    @property
    def can_be_written(self) -> bool:
        """Whether all kernels are there, and none is to be reconsidered."""
        return self._engine.seconds <= self.limit

    def __call__(self, theta: Array, g: Array) -> None:
        """Update θ and the slots."""
        if self._theta is theta and self._engine.seconds <= self._limit:
            self._written(g)
        elif self.can_be_written:
            self._written, self._theta, self._limit = self.write(theta), theta, self.limit
            self._written(g)
        else:
            for pass_ in self.passes:
                pass_(theta, g)

    def write(self, theta: Array, writer: Writer | None = None) -> Callable[[Array], None]:
        """Return the step of one θ as one function of the gradient.

        Parameters
        ----------
        theta : ndarray
        writer : Writer, default=None
            Has what stands before the passes, and after.
        """
        writer = Writer() if writer is None else writer
        theta_name = writer.name("theta", theta)
        writer.converts_to = self._engine.dtype
        for pass_ in self.passes:
            if pass_.is_one_kernel:
                writer.write_pass(pass_, theta)
            else:
                writer.lines.append(f"{writer.name('run_pass', pass_)}({theta_name}, g)")
        return writer.function()


class Writer:
    """Writes a step down as one function: count, coefficients, pack, kernel."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.last_lines: list[str] = []
        self.converts_to: Any = None
        self._names: dict[int, str] = {}
        self._objects: dict[str, Any] = {}
        self._is_converted = False

    def name(self, kind: str, value: Any) -> str:
        """Return the name of an object in the function."""
        name = self._names.setdefault(id(value), f"{kind}_{len(self._names)}")
        self._objects[name] = value
        return name

    def write_pass(self, pass_: Pass, theta: Array) -> None:
        """Write down a pass of one job."""
        (job,) = pass_.jobs
        kernel = job.kernel
        for term in pass_.begins:
            now, rule = self.name("now", term.now), self.name("link", term.rule)
            self.lines += [f"{now}.t += 1", f"{now}.rate = {rule}.learning_rate"]
        measured = job.terms[-1] if job.fused.measures else None
        numbers = ", ".join(self._numbers(term, term is measured) for term in job.terms)
        self.lines.append(
            f"{self.name('pack', kernel.write)}({self.name('packed', kernel.coefficients)}, 0, {numbers})"
        )
        call = self._call(kernel, theta, job)
        if measured is None:
            self.lines.append(call)
        else:
            now = self.name("now", measured.now)
            self.lines += [f"sums = {call}", f"{now}.sums = sums[0] if len(sums) == 1 else tuple(sums)"]

    def _numbers(self, term: Term, is_measured: bool) -> str:
        link, now = self.name("link", term.link), self.name("now", term.now)
        if isinstance(term.link, Step):
            return f"{now}.rate"
        return f"*{link}.scales({now})" if is_measured else f"*{link}.coefficients({now})"

    def _call(self, kernel: Any, theta: Array, job: Job) -> str:
        if kernel.limit < math.inf:
            self.lines.append(f"{self.name('engine', job.engine)}.seconds += {kernel.seconds(job.start, job.stop)!r}")
        if kernel.converts and not self._is_converted:
            dtype, array = self.name("dtype", self.converts_to), self.name("array", np.array)
            self.lines.append(
                f"behaved = g if g.dtype is {dtype} and g.flags.carray else {array}(g, {dtype}, order='C')"
            )
            self._is_converted = True
        function, arguments = kernel.launch(theta, job.start, job.stop)
        names = [self.name("theta", theta), *(self.name("given", value) for value in arguments)]
        return f"{self.name('kernel', function)}({'behaved' if kernel.converts else 'g'}, {', '.join(names)})"

    def function(self) -> Callable[[Array], None]:
        """Return what was written."""
        body = "\n".join(f"        {line}" for line in [*self.lines, *self.last_lines, "return"])
        source = f"def bind({', '.join(self._objects)}):\n    def step(g):\n{body}\n    return step\n"
        namespace: dict[str, Any] = {}
        exec(compiled(source, "<step of an optimizer>"), namespace)
        step: Callable[[Array], None] = namespace["bind"](**self._objects)
        return step


def build(
    chains: Chains,
    rules: Sequence[Any],
    slices: Sequence[slice],
    engine: NumpyEngine,
    closed: frozenset[tuple[int, int]],
    given: Mapping[int, SparseGradient],
) -> Program:
    """Return the program of some blocks.

    Parameters
    ----------
    chains : dict of {int: sequence of BoundLink}
        By the index of the block, up to the first closed gate.
    rules : sequence of Rule
        That of each block.
    slices : sequence of slice
        Where each block lies in θ.
    engine : NumpyEngine
    closed : set of tuple (int, int)
        Links behind which the flow ends in this step, each with a block.
    given : dict of {int: SparseGradient}
        Filled before each step, with the same keys as now.
    """
    by_block = _terms(chains, rules)
    n_passes = 1 + max((terms[-1].bound.stage for terms in by_block.values()), default=0)
    passes = []
    for number in range(n_passes):
        jobs: list[Job] = []
        outside: dict[Any, OutsideJob] = {}
        for block, terms in by_block.items():
            own, fused = _fused(number, terms, ends=(terms[-1].bound.index, block) in closed)
            if not own:
                continue
            if own[0].bound.is_outside:
                if own[0].link not in outside:
                    jobs.append(outside.setdefault(own[0].link, OutsideJob(own[0], engine)))
                outside[own[0].link].add(fused, own[0], slices[block], block)
            elif block in given:
                jobs.append(SparseJob(fused, own, slices[block], engine, block, given))
            elif jobs and jobs[-1].extends_to(fused, own, slices[block]):
                jobs[-1].stop = slices[block].stop
            else:
                jobs.append(Job(fused, own, slices[block], engine))
        if jobs:
            passes.append(_pass(number, by_block.values(), jobs))
    return Program(passes, engine)


def _terms(chains: Chains, rules: Sequence[Any]) -> dict[int, list[Term]]:
    """Return the terms that each block takes part in."""
    nows = {
        link: {block: now for now, blocks in link.records for block in blocks}
        for link in dict.fromkeys(link for chain in chains.values() for link in chain)
    }
    found: dict[Any, Term] = {}
    terms: dict[int, list[Term]] = {}
    for block, chain in chains.items():
        keys = [(link, id(nows[link][block])) for link in chain]
        for link, key in zip(chain, keys, strict=True):
            if key not in found:
                found[key] = Term(link, nows[link][block], rules[block])
        terms[block] = [found[key] for key in keys]
    return terms


def _pass(number: int, by_block: Iterable[Sequence[Term]], jobs: list[Job]) -> Pass:
    """Return one pass over all blocks; a link that measures begins in the pass before its own."""
    terms = list(dict.fromkeys(term for terms in by_block for term in terms))
    measures = [term for term in terms if term.bound.measures and term.bound.stage == number + 1]
    runs = [term for term in terms if term.bound.stage == number]
    begins = [term for term in terms if term.bound.stage - term.bound.measures == number]
    # The engine's step does not count; its rule does.
    return Pass([term for term in begins if not isinstance(term.link, Step)], runs, measures, jobs)


def _fused(number: int, terms: Sequence[Term], ends: bool) -> tuple[list[Term], Fused]:
    """Return what a pass does for one block: the terms that take part, and their links fused."""
    own = [term for term in terms if term.bound.stage == number]
    is_last = all(term.bound.stage <= number for term in terms)
    target = None if not own or (is_last and ends) else "theta" if is_last else "flow"
    source = "flow" if any(term.bound.stage < number for term in terms) else "g"
    measured = [term for term in terms if term.bound.stage == number + 1 and term.bound.measures][:1]
    own += measured
    return own, Fused(tuple(term.bound for term in own), bool(measured), source, target)
