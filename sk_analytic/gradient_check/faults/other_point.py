"""Faults of a gradient that belongs to another θ, another value, or another model."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...data.batch import Batch
from ...finite_differences import extrapolated, size_of
from ...typing import Array
from ..evaluation import Situation, dense, replaced, take
from ..evidence import Case, Fit
from ..hypotheses import Diagnosis, Hypothesis
from .contributions import Contributions

INDEPENDENT = 1e-9  # relative change of the gradient that counts as none


class Stale(Hypothesis):
    identifier = "stale_parameters"
    meaning = "The gradient belongs to another θ: it uses old parameters, in a closure or a cache."
    template = "It is the derivative at another θ: {where} (agreement {agreement:.1g}).{hint}"
    rank = 30

    def test(self, case: Case) -> Diagnosis | None:
        for words, vector, names in self._places(case):
            if np.array_equal(vector, case.situation.vector):
                continue
            fit = self._fit(case, vector)
            if fit is not None:
                hint = f" Are old {names} kept in a closure, a cache or an object?"
                evidence = {**fit.evidence, "where": words}
                return self.explain(where=words, agreement=fit.agreement, hint=hint, evidence=evidence)
        return None

    @staticmethod
    def _places(case: Case) -> Iterator[Any]:
        layout, here = case.subject.layout, case.situation.vector
        yield "the starting parameters", case.start, "parameters"
        for index, name in enumerate(layout.names):
            vector = here.copy()
            vector[layout.slices[index]] = case.start[layout.slices[index]]
            if len(layout.names) > 1:
                yield f"{name} as it was at the start", vector, f"values of {name}"

    @staticmethod
    def _fit(case: Case, vector: Array) -> Fit | None:
        """The analytic gradient here against the true one there."""
        return case.match(case.project(case.analytic()), case.situation.at(vector), case.directions)


class Constant(Hypothesis):
    identifier = "constant_gradient"
    meaning = "The gradient does not depend on θ, though the derivative does."
    template = "It does not change with θ at all, though the derivative does. Does it use other parameters?"
    rank = 31

    def test(self, case: Case) -> Diagnosis | None:
        same = [s for s in (case.situation.moved(0.3), case.situation.moved(0.3)) if s.is_sound]
        if not same or any(_changes(case.analytic(s), case.analytic()) for s in same):
            return None
        true, error = case.sketch()
        there, _ = case.sketch(same[0])
        change = np.linalg.norm(there - true[: len(there)])
        if change <= 1e-4 * np.linalg.norm(true) + 10 * np.linalg.norm(error):
            return None
        return self.explain()


class BlockIgnored(Hypothesis):
    identifier = "block_ignored"
    meaning = "The gradient leaves a block (a bias, say) out of account, as if it were zero or one."
    template = (
        "It is the derivative for {other} = {value:g} (agreement {agreement:.1g}): {other} is left out of account."
    )
    rank = 32

    def test(self, case: Case) -> Diagnosis | None:
        layout, here = case.subject.layout, case.situation.vector
        for index in [*case.others, case.index]:
            for value in (0.0, 1.0):
                vector = here.copy()
                vector[layout.slices[index]] = value
                fit = Stale._fit(case, vector)
                if fit is not None:
                    name = layout.names[index]
                    evidence = {**fit.evidence, "other": name}
                    return self.explain(other=name, value=value, agreement=fit.agreement, evidence=evidence)
        return None


class OtherInputs(Hypothesis):
    identifier = "other_inputs"
    meaning = "The gradient belongs to another X: shifted, reversed, centred or scaled features."
    template = "It is the derivative for {words} (agreement {agreement:.1g}). Do loss and gradient see the same X?"
    rank = 33

    def test(self, case: Case) -> Diagnosis | None:
        X = dense(case.situation.batch)
        if X.ndim != 2 or not X.size or X.dtype.kind != "f":
            return None
        for words, other in self._inputs(X):
            if np.isfinite(other).all() and not np.array_equal(other, X):
                there = case.situation.of(replaced(case.situation.batch, X=other))
                fit = case.match(case.project(case.analytic()), there, case.directions)
                if fit is not None:
                    return self.explain(words=words, agreement=fit.agreement, evidence={**fit.evidence, "X": words})
        return None

    @staticmethod
    def _inputs(X: Array) -> Iterator[Any]:
        """Pairs of words and an X that may have been used instead."""
        with np.errstate(all="ignore"):
            yield "features one place on", np.roll(X, 1, axis=1)
            yield "features one place back", np.roll(X, -1, axis=1)
            shifted = np.zeros_like(X)
            shifted[:, 1:] = X[:, :-1]
            yield "features one place on, the first zero", shifted
            shifted = np.zeros_like(X)
            shifted[:, :-1] = X[:, 1:]
            yield "features one place back, the last zero", shifted
            yield "features in the opposite order", X[:, ::-1]
            yield "centred X", X - X.mean(axis=0)
            yield "standardised X", (X - X.mean(axis=0)) / X.std(axis=0)
            yield "X divided by its standard deviations", X / X.std(axis=0)
            yield "rows of X divided by their norm", X / np.linalg.norm(X, axis=1, keepdims=True)
            yield "X with its sign flipped", -X
            yield "1 - X", 1 - X
            yield "X at its first row only", np.broadcast_to(X[:1], X.shape)


class ForwardAndVjp(Hypothesis):
    identifier = "forward_vjp_disagree"
    about_loss = True
    meaning = "`forward` and `vjp` do not return the same prediction; the pullback belongs to that of `vjp`."
    template = (
        "forward and vjp disagree on the prediction (by up to {gap:.3g}). The gradient is right for that of vjp "
        "(agreement {agreement:.1g}), so look at forward."
    )
    rank = -2

    def test(self, case: Case) -> Diagnosis | None:
        objective = case.subject.objective
        if not objective.model.gradient_form.predicts or objective.model.forward is None:
            return None
        there = self._prediction(case, case.situation.vector)
        here = case.subject.predictions(case.situation.vector, case.situation.batch)
        if there is None or here is None or (there.shape == here.shape and np.allclose(there, here, 1e-9, 1e-12)):
            return None
        gap = float(np.abs(there - here).max()) if there.shape == here.shape else np.inf
        fit = _against(case, lambda vector, batch: self._value(case, vector, batch))
        return (
            None
            if fit is None
            else self.explain(gap=gap, agreement=fit.agreement, evidence={**fit.evidence, "gap": gap})
        )

    @staticmethod
    def _prediction(case: Case, vector: Array) -> Array | None:
        case.subject.spend()
        try:
            theta = case.subject.parameters(vector)
            return np.asarray(case.subject.objective.model.gradient(theta.structure, case.situation.batch)[0], float)
        except Exception:
            return None

    def _value(self, case: Case, vector: Array, batch: Batch) -> float:
        prediction = self._prediction(case, vector)
        return np.nan if prediction is None else case.subject.objective.named_loss(prediction, batch)[0]


class LossMismatch(Hypothesis):
    identifier = "loss_disagrees"
    about_loss = True
    meaning = "`loss_and_gradient` returns another loss than `loss`; the gradient belongs to its own."
    template = (
        "loss and loss_and_gradient disagree: {ours:.8g} and {own:.8g}. The gradient is right for the latter "
        "(agreement {agreement:.1g}), so look at loss."
    )
    rank = -1

    def test(self, case: Case) -> Diagnosis | None:
        objective = case.subject.objective
        if not objective.model.gradient_form.has_own_loss or objective.model.loss is None:
            return None
        own = self._value(case, case.situation.vector, case.situation.batch)
        fit = _against(case, lambda vector, batch: self._value(case, vector, batch))
        ours = case.situation.value
        evidence = {"loss": ours, "loss_and_gradient": own}
        return (
            None
            if fit is None
            else self.explain(ours=ours, own=own, agreement=fit.agreement, evidence={**fit.evidence, **evidence})
        )

    @staticmethod
    def _value(case: Case, vector: Array, batch: Batch) -> float:
        case.subject.spend()
        try:
            return case.subject.objective.contribution(case.subject.parameters(vector), batch).loss
        except Exception:
            return np.nan


def _against(case: Case, value: Callable[..., Any]) -> Fit | None:
    """Compare the analytic gradient with differences of another value."""
    batch = case.situation.batch
    slopes = []
    for array in case.directions:
        direction = case.situation.direction(case.index, array)
        slopes.append(case.situation.along(direction, lambda vector: value(vector, batch)).refine(most=3))
    true, error = np.array(slopes).T
    if not np.isfinite(true).all():
        return None
    predicted = case.project(case.analytic())
    return case.compare(lambda s: (predicted, true, error), everywhere=False)


class LogarithmForgotten(Hypothesis):
    identifier = "log_forgotten"
    about_loss = True
    meaning = "The loss adds up terms (probabilities) where the gradient belongs to the sum of their logarithms."
    template = (
        "The loss adds up terms where the gradient belongs to the sum of their logarithms ({how}; agreement "
        "{agreement:.1g}). Look for a logarithm missing in the loss: of a product of probabilities it is the sum of "
        "their logarithms."
    )
    rank = 23
    again = True  # the terms found in one block serve the others
    entries = 8
    most_terms = 100

    def test(self, case: Case) -> Diagnosis | None:
        if not case.situation.n or case.subject.objective.model.gradient_form.is_matrix:
            return None
        return self._whole(case) or self._by_entry(case) or self._by_sum(case)

    def _whole(self, case: Case) -> Diagnosis | None:
        """The loss is minus the density itself, row by row."""
        objective = case.subject.objective
        if objective.loss is None or case.situation.batch.y is not None:
            return None

        def sketch(situation: Situation) -> Any:
            c = Contributions.of(case, situation)
            derivative = c.derivative()
            if derivative is None:
                return None
            with np.errstate(all="ignore"):
                predicted = c.combine(derivative / c.prediction.reshape(derivative.shape))
            return (predicted, c.analytic, c.error) if np.isfinite(predicted).all() else None

        fit = case.compare(sketch)
        how = "the logarithm of each sample's prediction is still to be taken"
        return None if fit is None else self.explain(how=how, agreement=fit.agreement, evidence=fit.evidence)

    def _by_entry(self, case: Case) -> Diagnosis | None:
        """If the loss is -p(θ) and the gradient that of -log p(θ), their ratio is p, whose derivative is the loss's."""
        if case.size < 2:
            return None
        one = case.situation.of(take(case.situation.batch, [0]))
        chosen = np.unique(np.linspace(0, case.size - 1, self.entries).astype(int))
        told: list[float] = []
        for k, entry in enumerate(chosen):
            error = self._error(case, one, entry)
            told += [] if error is None else [error]
            if k == 2 and not any(e < 1e-4 for e in told):
                return None
        good = [e for e in told if e < 1e-4]
        if len(good) < 3 or len(good) < 0.7 * len(told):
            return None
        case.subject.notes.setdefault("terms", []).append(case.index)
        evidence = {"agreement": max(good), "entries": [int(e) for e in chosen]}
        how = f"the derivative over the gradient is such a term in {len(good)} of {len(told)} compared entries"
        return self.explain(how=how, agreement=max(good), evidence=evidence)

    def _error(self, case: Case, one: Situation, entry: int) -> float | None:
        """Relative difference between the ratio's derivative and the loss's, in one entry of one row."""
        step = 1e-2 * case.scale
        points: dict[float, tuple[float, float]] = {}
        for k in (-1, -0.5, 0, 0.5, 1):
            term = self._term(case.index, one, entry, k * step)
            if term is None or not np.isfinite(term).all():
                return None
            points[k * step] = term
        true, ratio = points[0]
        if abs(true) < 1e-9 or abs(ratio - 1) < 1e-6:
            return None
        return float(abs(abs(extrapolated(lambda t: points[t][1], step) / true) - 1))

    @staticmethod
    def _term(index: int, one: Situation, entry: int, shift: float = 0.0) -> tuple[float, float] | None:
        """The derivative by one entry, and its ratio to the gradient, with that entry shifted."""
        where = one.subject.layout.slices[index]
        vector = one.vector.copy()
        vector[where.start + entry] += shift
        there = one.at(vector)
        unit = np.zeros(where.stop - where.start)
        unit[entry] = scale = size_of(one.vector[where])
        if there.gradient is None or not there.gradient[where.start + entry]:
            return None
        true = there.slope(index, unit)[0] / scale
        return true, true / there.gradient[where.start + entry]

    def _by_sum(self, case: Case) -> Diagnosis | None:
        """The terms that another block has shown, their logarithms added up, have this block's gradient."""
        sizes = case.subject.layout.shapes
        owners = [i for i in case.subject.notes.get("terms", []) if 2 <= np.prod(sizes[i]) <= self.most_terms]
        if not owners or owners[0] == case.index:
            return None
        one = case.situation.of(take(case.situation.batch, [0]))
        owner, size = owners[0], int(np.prod(sizes[owners[0]]))

        def total(vector: Array) -> float:
            terms = [self._term(owner, one.at(vector), entry) for entry in range(size)]
            ratios = [t[1] for t in terms if t is not None and t[1] > 0]
            return np.nan if len(ratios) < len(terms) else -sum(np.log(ratio) for ratio in ratios)

        step = 1e-2
        errors = []
        for array in case.directions[:2]:
            direction = one.direction(case.index, array)
            at = {t: total(one.vector + t * direction) for t in (-step, -step / 2, step / 2, step)}
            derivative = extrapolated(at.__getitem__, step)
            claimed = float(one.gradient @ direction)
            errors.append(abs(derivative - claimed) / max(abs(derivative), abs(claimed), 1e-300))
        if not max(errors) < 1e-3:
            return None
        name = case.subject.layout.names[owner]
        how = f"the terms that block {name!r} shows, their logarithms added, have this gradient"
        return self.explain(how=how, agreement=max(errors), evidence={"agreement": max(errors)})


def _changes(there: Array, here: Array) -> bool:
    """Whether two gradients of a block differ by more than rounding."""
    return bool(np.abs(there - here).max(initial=0) > INDEPENDENT * size_of(here))
