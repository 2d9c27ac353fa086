"""Faults of a gradient that belongs to another θ, another value, or another model."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...data.batch import Batch
from ...finite_differences import extrapolated, size_of
from ...typing import Array
from ..evaluation import Situation, dense, replaced, take
from ..evidence import Case, Fit, Way, quietly
from ..hypotheses import Diagnosis, Hypothesis
from .contributions import Contributions, of_contributions
from .factors import as_factor

INDEPENDENT = 1e-9  # relative change of the gradient that counts as none


class Stale(Hypothesis):
    identifier = "stale_parameters"
    meaning = "The gradient belongs to another θ: it uses old parameters, from a closure or a cache."
    template = "{what} (agreement {agreement:.1g}). Are old {names} kept in a closure, a cache or an object?"
    rank = 30

    def ways(self, case: Case) -> Iterator[Way]:
        layout, start = case.subject.layout, case.start
        if np.array_equal(start, case.situation.vector):
            return
        words = {"what": "It is the derivative at another θ, the starting parameters", "names": "parameters"}
        yield Way(words, case.derivative_at(lambda s: s.at(start)))
        for index, name in enumerate(layout.names) if len(layout.names) > 1 else ():
            words = {"what": f"It is the derivative for {name} as it was at the start", "names": f"values of {name}"}
            yield Way(words, case.derivative_at(lambda s, i=index: _with_block(s, i, s.block(i, start))))
        for index in case.others:
            name = layout.names[index]
            for axis, spread in as_factor(case.shape, layout.shapes[index]):
                words = {"what": f"It has old values of {name} as a factor{axis}", "names": f"values of {name}"}

                def repaired(s: Situation, i: int = index, spread: Any = spread) -> Any:
                    with np.errstate(all="ignore"):
                        return case.analytic(s) * spread(s.block(i, s.vector) / s.block(i, start))

                yield Way(words, case.repaired(repaired))


def _with_block(situation: Situation, index: int, values: Any) -> Situation:
    """The situation with other values in a block."""
    vector = situation.vector.copy()
    situation.block(index, vector)[...] = values
    return situation.at(vector)


class Constant(Hypothesis):
    identifier = "constant_gradient"
    meaning = "The gradient does not depend on θ, though the derivative does."
    template = "The gradient does not change with θ, although the derivative does. Does it use other parameters?"
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
    meaning = "The gradient ignores a block, such as a bias, as if it were zero or one."
    template = "It is the derivative for {other} = {value:g} (agreement {agreement:.1g}): {other} is ignored."
    rank = 32

    def ways(self, case: Case) -> Iterator[Way]:
        for index in [*case.others, case.index]:
            for value in (0.0, 1.0):
                words = {"other": case.subject.layout.names[index], "value": value}
                yield Way(words, case.derivative_at(lambda s, i=index, v=value: _with_block(s, i, v)))


class OfInputs(Hypothesis):
    """Base of the causes where loss and gradient do not see the same data: one of them sees it changed.

    With a change c, either the gradient is the derivative of the loss at c(data), or it would be the derivative of the
    loss if it got c(data) itself.
    """

    name = "X"
    rank = 33

    def changes(self, case: Case) -> Iterator[tuple[str, Callable[[Array], Array]]]:
        """Words for what may be seen instead, and the change."""
        raise NotImplementedError

    def ways(self, case: Case) -> Iterator[Way]:
        """Every change, in the gradient and in the loss."""
        for shown, change in self.changes(case):

            def changed(s: Situation, change: Callable[[Array], Array] = change) -> Situation | None:
                with np.errstate(all="ignore"):
                    data = change(dense(s.batch) if self.name == "X" else s.batch.y)
                is_sound = data.dtype.kind not in "fc" or np.isfinite(data).all()
                return s.of(replaced(s.batch, **{self.name: data})) if is_sound else None

            def gradient(s: Situation, changed: Callable[[Situation], Any] = changed) -> Array | None:
                there = changed(s)
                return None if there is None or there.gradient is None else case.analytic(there)

            yield Way({"what": f"It would be right if it got {shown}", self.name: shown}, case.repaired(gradient))
            words = {"what": f"It is the derivative of the loss for {shown}", self.name: shown}
            yield Way(words, case.derivative_at(changed))


class OtherInputs(OfInputs):
    identifier = "other_inputs"
    meaning = "Loss and gradient do not use the same X: shifted, reversed, centered or scaled features."
    template = "{what} (agreement {agreement:.1g}). Do loss and gradient use the same X?"

    def changes(self, case: Case) -> Iterator[tuple[str, Callable[[Array], Array]]]:
        X = dense(case.situation.batch)
        if X.ndim != 2 or not X.size or X.dtype.kind != "f":
            return
        yield "features shifted by +1", lambda X: np.roll(X, 1, axis=1)
        yield "features shifted by -1", lambda X: np.roll(X, -1, axis=1)
        yield "features shifted by +1, the first zero", lambda X: np.pad(X, ((0, 0), (1, 0)))[:, :-1]
        yield "features shifted by -1, the last zero", lambda X: np.pad(X, ((0, 0), (0, 1)))[:, 1:]
        yield "features in reverse order", lambda X: X[:, ::-1]
        yield "centered X", lambda X: X - X.mean(axis=0)
        yield "standardized X", lambda X: (X - X.mean(axis=0)) / X.std(axis=0)
        yield "X divided by its standard deviations", lambda X: X / X.std(axis=0)
        yield "samples of X divided by their norm", lambda X: X / np.linalg.norm(X, axis=1, keepdims=True)
        yield "X with its sign flipped", lambda X: -X
        yield "1 - X", lambda X: 1 - X
        yield "the first sample of X in place of all", lambda X: np.broadcast_to(X[:1], X.shape)


class LabelCoding(OfInputs):
    identifier = "label_coding"
    meaning = "Loss and gradient encode labels differently: -1/+1, 0/1, or classes starting at 1."
    template = "{what} (agreement {agreement:.1g}). Use the same label encoding in both."
    name = "y"
    rank = 19

    def changes(self, case: Case) -> Iterator[tuple[str, Callable[[Array], Array]]]:
        y = case.situation.batch.y
        levels = None if y is None or y.dtype.kind not in "fiu" else set(np.unique(y).tolist())
        if levels == {0, 1}:
            yield "labels -1/+1, but y has 0/1", lambda y: 2 * y - 1
        if levels == {-1, 1}:
            yield "labels 0/1, but y has -1/+1", lambda y: (y + 1) // 2
        if levels and levels <= set(range(max(len(levels) + 1, 2))):
            yield "class indices larger by 1", lambda y: y + 1
            yield "class indices smaller by 1", lambda y: y - 1
        if levels in ({0, 1}, {-1, 1}):
            yield "labels with the sign flipped", lambda y: -y if (y < 0).any() else 1 - y


class OtherTargets(OfInputs):
    identifier = "other_targets"
    meaning = "Loss and gradient do not use the same y: another order of the samples, another shape, its mean."
    template = "{what} (agreement {agreement:.1g}). Do loss and gradient use the same y?"
    name = "y"

    def changes(self, case: Case) -> Iterator[tuple[str, Callable[[Array], Array]]]:
        y = case.situation.batch.y
        if y is None or y.dtype.kind not in "fiu":
            return
        if y.ndim == 2 and y.shape[1] == 1:
            yield "y of shape (n,): a column (n, 1) is broadcast against (n,)", lambda y: y[:, 0]
            yield "the mean of y, as if (n, 1) and (n,) had been broadcast", lambda y: np.full(y.shape, y.mean())
        if y.ndim == 1:
            yield "y of shape (n, 1)", lambda y: y[:, None]
            yield "the mean of y, as if (n, 1) and (n,) had been broadcast", lambda y: np.full(y.shape, y.mean())
        yield "y shifted by +1 sample", lambda y: np.roll(y, 1, axis=0)
        yield "y shifted by -1 sample", lambda y: np.roll(y, -1, axis=0)
        yield "y in reverse order", lambda y: y[::-1]
        yield "y with its sign flipped", lambda y: -y
        yield "y of zeros", np.zeros_like
        if y.dtype.kind == "f":
            yield "centered y", lambda y: y - y.mean(axis=0)
            yield "standardized y", lambda y: (y - y.mean(axis=0)) / y.std(axis=0)
            yield "the logarithm of y", np.log
            yield "exp(y)", np.exp


class ForwardAndVjp(Hypothesis):
    identifier = "forward_vjp_disagree"
    about_loss = True
    meaning = "`forward` and `vjp` do not return the same prediction; the pullback belongs to that of `vjp`."
    template = (
        "forward and vjp disagree on the prediction (by up to {gap:.3g}). The gradient is right for that of vjp "
        "(agreement {agreement:.1g}), so check forward."
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
    def _prediction(case: Case, vector: Array) -> Array | Any:
        case.subject.spend()
        theta, model = case.subject.parameters(vector), case.subject.objective.model
        return quietly(lambda: np.asarray(model.gradient(theta.structure, case.situation.batch)[0], float))

    def _value(self, case: Case, vector: Array, batch: Batch) -> float:
        prediction = self._prediction(case, vector)
        return np.nan if prediction is None else case.subject.objective.named_loss(prediction, batch)[0]


class LossMismatch(Hypothesis):
    identifier = "loss_disagrees"
    about_loss = True
    meaning = "`loss_and_gradient` returns another loss than `loss`; the gradient belongs to the loss that it returns."
    template = (
        "loss and loss_and_gradient disagree: {ours:.8g} and {own:.8g}. The gradient is right for the latter "
        "(agreement {agreement:.1g}), so check loss."
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
        subject = case.subject
        loss = quietly(lambda: subject.objective.contribution(subject.parameters(vector), batch).loss)
        return np.nan if loss is None else loss


def _against(case: Case, value: Callable[..., Any]) -> Fit | None:
    """Compare the analytic gradient with differences of another value."""
    batch = case.situation.batch
    slopes = []
    for array in case.directions:
        direction = case.situation.direction(case.index, array)
        slopes.append(case.situation.along(direction, lambda vector: value(vector, batch)).refine(most=3))
    true, error = np.array(slopes).T
    given = Way({}, lambda s, count: (true[:count], error[:count], case.project(case.analytic())[:count]))
    return case.compare(given, at=[case.situation])


class LogarithmForgotten(Hypothesis):
    identifier = "log_forgotten"
    about_loss = True
    meaning = "The loss is a sum of terms (probabilities), but the gradient is that of the sum of their logarithms."
    template = (
        "The loss is a sum of terms, but the gradient is that of the sum of their logarithms ({how}; agreement "
        "{agreement:.1g}). Look for a missing logarithm in the loss: the logarithm of a product of probabilities is "
        "the sum of their logarithms."
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

        def predict(c: Contributions) -> Any:
            derivative = c.derivative()
            if derivative is None:
                return None
            with np.errstate(all="ignore"):
                return c.combine(derivative / c.prediction.reshape(derivative.shape))

        fit = case.compare(Way({}, of_contributions(case, predict)))
        how = "the logarithm of each sample's prediction is missing"
        return None if fit is None else self.found(case, fit, {"how": how})

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
        how = f"the ratio of derivative to gradient is such a term in {len(good)} of {len(told)} compared entries"
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
