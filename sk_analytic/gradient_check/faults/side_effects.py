"""Faults of the callables themselves: they modify their arguments, depend on earlier calls, or return NaN."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ...data.telling import as_numbers
from ...typing import Array
from ..evaluation import Situation, Subject, take
from ..evidence import Case, quietly
from ..hypotheses import Cause, Diagnosis
from ..report import Finding
from ..verdict import Judgement, differs

MOST_LISTED = 5
INEXACT = (
    3e-2  # relative dependence on earlier calls that an inner iteration, started where the last one ended, may have
)


class ModifiedInPlace(Cause):
    identifier = "modified_in_place"
    meaning = "A callable writes to X, y or θ instead of to a copy."
    template = (
        "{who} writes to {name} in place ({count} of {size} values changed). In training, callables receive it "
        "read-only. Write to a copy, or make a new array: z = X - mean, not X -= mean."
    )


class HiddenSideEffect(Cause):
    identifier = "hidden_state"
    meaning = "The result depends on an earlier call: a buffer that is not cleared, activations kept from another θ."
    template = "The gradient depends on earlier calls: {how} In each call, compute it from the arguments only."


class GradientNotFinite(Cause):
    identifier = "gradient_not_finite"
    meaning = "The gradient is NaN or infinite although the loss is finite: log 0, 0/0, an overflow of exp."
    template = "The gradient is not finite, but the loss is ({value:.6g}): {where}.{rows}{warned} {hint}"
    hint = "Look for log(0), 0/0 or an overflowing exp; work with logarithms and shifted exponentials."


class ReusedBuffer(Cause):
    identifier = "reused_buffer"
    verdict = "right"
    meaning = "The gradient is right, but the next call overwrites its array. A fit copies it; keep no reference to it."
    template = (
        "Right, but each call overwrites the array that the previous one returned. A fit copies it; your own code "
        "must copy gradients too if it keeps them, in a list for example."
    )


def remark_on_buffers(situation: Situation, found: dict[int, Finding]) -> None:
    """Add a remark to the findings on right blocks whose gradient the next call writes over."""
    subject, layout = situation.subject, situation.subject.layout
    theta = subject.parameters(situation.vector)
    returned = quietly(lambda: subject.objective._evaluate(theta.structure, situation.batch)[1])
    first, later = np.zeros(layout.size), np.zeros(layout.size)
    if returned is None or quietly(lambda: layout.read_gradient(returned, first)) is None:
        return
    subject.gradient(subject.nearby(situation.vector, 0.3), situation.batch)
    layout.read_gradient(returned, later)
    for index, where in enumerate(layout.slices):
        if index in found and found[index].verdict == "right" and not np.array_equal(first[where], later[where]):
            cause, text = ReusedBuffer.identifier, ReusedBuffer.template
            found[index] = replace(found[index], cause=cause, explanation=text)


def written_to(subject: Subject, situation: Situation, original: Exception) -> list[Finding]:
    """Return findings on the arguments that the callables have written to.

    ``original`` is the error that a callable raised on read-only arrays. It is raised again if the callables fail on
    writable copies too, or write to none of them.
    """
    batch = situation.batch
    findings: list[Finding] = []
    for who, call in (("The loss", subject.objective.value), (_form(subject), subject.objective.contribution)):
        copies = batch.copy()
        theta = subject.parameters(situation.vector)
        vector = situation.vector.copy()
        theta.structure = subject.layout.views(vector, writeable=True)
        subject.n_evaluations += 1
        try:
            call(theta, copies)
        except Exception:
            raise original from None
        findings += _changes(subject, situation, who, copies, vector)
    if not findings:
        raise original
    return list({finding.block: finding for finding in findings}.values())


def _form(subject: Subject) -> str:
    return f"The callable given as {subject.objective.model.form}"


def _changes(subject: Subject, situation: Situation, who: str, copies: Any, vector: Array) -> Iterator[Any]:
    """Findings on every array that has changed."""
    layout, batch = subject.layout, situation.batch
    pairs = [("X", batch.X, copies.X)] + [(n, c, copies.columns[n]) for n, c in batch.columns.items()]
    if batch.sample_weight is not None:
        pairs.append(("sample_weight", batch.sample_weight, copies.sample_weight))
    before, after = layout.blocks(situation.vector), layout.blocks(vector)
    pairs += list(zip(layout.names, before, after, strict=True))
    for name, old, new in pairs:
        old, new = (array if issparse(array) else as_numbers(array) for array in (old, new))
        if old.dtype.kind not in "fiubc":
            continue
        changed = (
            old != new if issparse(old) or old.dtype.kind != "f" else (old != new) & ~(np.isnan(old) & np.isnan(new))
        )
        count = int(changed.sum())
        if count:
            text = ModifiedInPlace.template.format(who=who, name=name, count=count, size=old.size)
            yield Finding(name, old.shape, "wrong", ModifiedInPlace.identifier, {"n_changed": count}, text)


def depends_on_calls(situation: Situation, differing: Array) -> dict[int, Judgement]:
    """Find out how a gradient that differs between evaluations depends on earlier calls.

    Returns
    -------
    judgements : dict of int to Judgement
        For each block that differs: wrong if earlier calls explain it, else "cannot tell".
    """
    subject, layout = situation.subject, situation.subject.layout
    how = _how(situation)
    judgements = {}
    for index, where in enumerate(layout.slices):
        if differing[where].any():
            evidence = {"n_entries": int(differing[where].sum())}
            if how:
                diagnosis = HiddenSideEffect.explain(how=how)
                judgements[index] = Judgement("wrong", diagnosis.cause, evidence, diagnosis.explanation)
            else:
                text = "Two evaluations of the gradient at the same parameters differ, independent of earlier calls."
                judgements[index] = Judgement("cannot tell", "not_deterministic", evidence, text)
    subject.notes["how"] = how
    return judgements


def _how(situation: Situation) -> str:
    """Describe a dependence on earlier calls that can be reproduced; empty if there is none."""
    subject, layout = situation.subject, situation.subject.layout
    vectors = [subject.nearby(situation.vector, 0.3) for _ in range(2)]

    def after(call: Callable[..., Any], vector: Array) -> Array | Any:
        call(vector, situation.batch)
        return subject.gradient(situation.vector, situation.batch)

    def same(a: Array, b: Array) -> bool:
        return a is not None and b is not None and differs(a, b, layout) is None

    successive = [subject.gradient(situation.vector, situation.batch) for _ in range(4)]
    if any(g is None for g in successive):
        return ""
    steps = np.diff(successive, axis=0)
    if not same(successive[0], successive[1]) and same(steps[0], steps[1]) and same(steps[1], steps[2]):
        return "each call adds to the result of the one before, so a buffer is not cleared."
    if _carried_over(steps):
        return "each call carries over a share of the results before it, as momentum does."
    for call, words in (
        (subject.value, "the loss or forward was evaluated at, as if activations were kept from there."),
        (subject.gradient, "the gradient was evaluated at before, as if a buffer or a cache were used again."),
    ):
        first, again = after(call, vectors[0]), after(call, vectors[0])
        if not same(first, again):
            continue
        other, further = after(call, vectors[1]), after(call, vectors[1])
        if same(other, further) and _share(first, other) > INEXACT:
            return f"it changes with the θ that {words}"
    if same(successive[2], successive[3]) and _share(successive[0], successive[3]) > INEXACT:
        return "the first call returns another result than later ones."
    return ""


def _share(first: Array, second: Array) -> float:
    """How far two gradients are apart, relative to the larger."""
    largest = float(np.linalg.norm([np.linalg.norm(first), np.linalg.norm(second)], np.inf))
    return float(np.linalg.norm(first - second)) / (largest or 1.0)


def _carried_over(steps: Array) -> bool:
    """Whether the changes from call to call shrink or grow by one factor."""
    ratios = []
    for before, after in zip(steps[:-1], steps[1:], strict=True):
        ratio = float(before @ after) / float(before @ before) if before.any() else 0.0
        if not ratio or np.linalg.norm(after - ratio * before) > 1e-6 * np.linalg.norm(after):
            return False
        ratios.append(ratio)
    return abs(ratios[0] - ratios[1]) <= 1e-6 * abs(ratios[0])


def not_finite(case: Case) -> Diagnosis:
    """Return the diagnosis of a gradient that is not finite: entries, rows, and what NumPy warned of."""
    situation, subject = case.situation, case.subject
    bad = ~np.isfinite(case.analytic())
    places = [tuple(map(int, place)) for place in np.argwhere(bad)[:MOST_LISTED]]
    more = ", ..." if bad.sum() > len(places) else ""
    where = f"{int(bad.sum())} of {bad.size} entries" + (
        f", at {', '.join(map(str, places))}{more}" if bad.ndim and bad.sum() < bad.size else ""
    )
    rows = []
    if situation.n > 1:
        for row in range(min(situation.n, 200)):
            gradient = subject.gradient(situation.vector, take(situation.batch, [row]))
            if gradient is not None and not np.isfinite(case.analytic_of(gradient)).all():
                rows.append(row)
    shown = ", ".join(map(str, rows[:MOST_LISTED])) + (", ..." if len(rows) > MOST_LISTED else "")
    told = f" It comes from sample(s) {shown} of the batch." if rows and len(rows) < situation.n else ""
    warned = _warned(situation)
    evidence = {"n_entries": int(bad.sum()), "entries": places, "rows": rows, "warnings": warned}
    text = GradientNotFinite.template.format(
        value=situation.value,
        where=where,
        rows=told,
        warned=f" NumPy warns: {'; '.join(warned)}." if warned else "",
        hint=GradientNotFinite.hint,
    )
    return Diagnosis(GradientNotFinite.identifier, evidence, text)


def _warned(situation: Situation) -> list[str]:
    """NumPy's warnings while the gradient is evaluated."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn"):
        warnings.simplefilter("always")
        situation.subject.gradient(situation.vector, situation.batch)
    return sorted({f"{w.message} (line {w.lineno} of {w.filename.rpartition('/')[2]})" for w in caught})[:3]
