"""Faults in the contributions of samples, classes, outputs and weights, and gradients of another loss."""

import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone

from ...losses import Loss, get_loss, get_loss_names
from ...typing import Array
from ..evaluation import columns_of
from ..evidence import Case, Fit, Way
from ..hypotheses import Diagnosis, Hypothesis, is_near
from .contributions import Contributions, Parts, of_contributions

WORST_CONDITION = 1e6
MOST_CLASSES = 30
OTHERS = "the others"
MOST_LEVELS = 6  # groups whose factors are fitted at once


class OfWeights(Hypothesis):
    """Base of the causes that another convention of weights explains: the loss has one, the gradient another."""

    rank = 20
    ignores = False

    def ways(self, case: Case) -> Iterator[Way]:
        """Every convention but the loss's own."""
        c = Contributions.of(case, case.situation)
        if case.situation.batch.sample_weight is None or c.rows is None:
            return
        for number, (how, _) in enumerate(c.conventions()):
            if how != c.how and how.startswith("are ignored") == self.ignores:
                words = {"how": how, "ours": c.how, "hint": self._hint(case)}
                yield Way(words, of_contributions(case, partial(self._sum, number)))

    @staticmethod
    def _sum(number: int, c: Contributions) -> Array | None:
        return None if c.rows is None else c.conventions()[number][1] @ c.rows

    @staticmethod
    def _hint(case: Case) -> str:
        """Which of the callables does not take weights."""
        model = case.subject.objective.model
        takes = {
            "loss": model.loss.weighs if model.loss is not None else True,
            model.form: model.gradient_form.composes_loss or model.gradient.weighs,
        }
        without = [role for role, does in takes.items() if not does]
        verb = "does" if len(without) == 1 else "do"
        return f" {' and '.join(without)} {verb} not accept sample_weight: add the argument." if without else ""


class WeightsIgnored(OfWeights):
    identifier = "sample_weight_ignored"
    meaning = "The gradient ignores the sample weights."
    template = (
        "In the gradient the sample weights {how} (agreement {agreement:.1g}); in the loss they {ours}. Weight the "
        "samples as in the loss.{hint}"
    )
    ignores = True


class WeightsOtherwise(OfWeights):
    identifier = "sample_weight_misused"
    meaning = (
        "The gradient uses the sample weights differently from the loss: twice, as roots, or with another divisor."
    )
    template = (
        "In the gradient the sample weights {how} (agreement {agreement:.1g}); in the loss they {ours}. Use one "
        "convention in both.{hint}"
    )


class OtherLoss(Hypothesis):
    identifier = "other_loss"
    meaning = "The gradient is that of another loss than the one it is compared with."
    template = "It is the gradient of the loss {name} (agreement {agreement:.1g}), compared here with {ours}.{hint}"
    rank = 22
    settings = {
        "huber": [{"epsilon": e} for e in (1.0, 0.5, 1.5, 2.0)],
        "quantile": [{"quantile": q} for q in (0.1, 0.25, 0.75, 0.9)],
        "tweedie": [{"power": p} for p in (1.1, 1.25, 1.9)],
    }

    def _losses(self) -> Iterator[Loss]:
        """Every loss by name, and some with common settings."""
        for name in sorted(get_loss_names(), key=lambda name: name in self.settings):  # the simple ones first
            yield get_loss(name)
            for setting in self.settings.get(name, []):
                yield clone(get_loss(name)).set_params(**setting)

    def ways(self, case: Case) -> Iterator[Way]:
        objective = case.subject.objective
        if objective.model.gradient_form.composes_loss:  # which differentiates the loss itself
            return
        ours = "a loss of your own" if objective.loss is None else repr(objective.loss)
        for loss in self._losses():
            if repr(loss) == repr(objective.loss):
                continue
            name = repr(loss.name) if repr(loss).endswith("()") else repr(loss)
            hint = f" Set loss={name} if you mean that one." if objective.loss is not None else ""

            def predict(c: Contributions, loss: Loss = loss) -> Any:
                derivative = c.derivative(loss)
                return None if derivative is None else c.combine(derivative)

            words = {"name": name, "ours": ours, "hint": hint, "loss": repr(loss)}
            yield Way(words, of_contributions(case, predict), n_free=1)


def _sigma(s: Array) -> Array:
    sigma: Array = 0.5 * (1 + np.tanh(s / 2))
    return sigma


class ForwardAppliesLink(Hypothesis):
    identifier = "forward_applies_link"
    about_loss = True
    meaning = "`forward` returns probabilities or means, but the loss expects scores; the gradient is right for scores."
    template = (
        "forward returns {what}, but the loss {loss} expects {expected}, for which the gradient is right (agreement "
        "{agreement:.1g}). Return the scores from forward; predict applies the inverse link."
    )
    rank = 21
    # What is returned, what is expected, the score by it, and the score's derivative by it.
    links: tuple[tuple[str, str, Callable[..., Any], Callable[..., Any]], ...] = (
        ("probabilities", "log-odds", lambda p: np.log(p / (1 - p)), lambda p: 1 / (p * (1 - p))),
        ("probabilities", "scores", np.log, lambda p: 1 / p),
        ("means", "their logarithms", np.log, lambda m: 1 / m),
    )

    def ways(self, case: Case) -> Iterator[Way]:
        loss = case.subject.objective.loss
        c = Contributions.of(case, case.situation)
        if loss is None or c.prediction is None or not (c.prediction > 0).all():
            return
        is_softmax = c.prediction.ndim == 2 and np.allclose(c.prediction.sum(axis=1), 1)
        number = {"logit": int(is_softmax), "log": 2}.get(loss.link)
        if number is None or (loss.link == "logit" and not (c.prediction < 1).all()):
            return
        what, expected, score, slope = self.links[number]
        words = {"what": what, "expected": expected, "loss": repr(loss.name)}
        for at in (score, lambda p: p):  # the form vjp differentiates the loss at what it returned

            def predict(c: Contributions, at: Any = at) -> Any:
                if c.prediction is None:
                    return None
                with np.errstate(all="ignore"):
                    derivative = c.derivative(prediction=at(c.prediction))
                    slopes = c.slopes * slope(c.prediction).reshape(c.batch.n, -1)[:, :, None]
                return None if derivative is None else c.combine(derivative, slopes)

            yield Way(words, of_contributions(case, predict), n_free=1)


class OutputDerivative(Hypothesis):
    identifier = "output_derivative"
    meaning = (
        "The derivative of the loss with respect to the prediction is wrong: the derivative of the link, or y, is "
        "missing or superfluous."
    )
    template = (
        "The derivative of the loss with respect to the prediction s is wrong: {what} (agreement {agreement:.1g})."
    )
    rank = 24

    # By words, the derivative in the prediction, of: the right one d, the prediction s.
    factors: tuple[tuple[str, Callable[[Array, Array], Array]], ...] = (
        ("a factor σ(s)(1 - σ(s)) is superfluous", lambda d, s: d * _sigma(s) * (1 - _sigma(s))),
        ("a factor 1 - tanh²(s) is superfluous", lambda d, s: d * (1 - np.tanh(s) ** 2)),
        ("a factor 1 - s² is superfluous", lambda d, s: d * (1 - s**2)),
        ("a factor s(1 - s) is superfluous", lambda d, s: d * s * (1 - s)),
        ("a factor exp(s) is superfluous", lambda d, s: d * np.exp(s)),
        ("a factor exp(s) is missing", lambda d, s: d * np.exp(-s)),
        ("a factor s is superfluous", lambda d, s: d * s),
        ("a factor s is missing", lambda d, s: d / s),
        ("only its sign is used", lambda d, s: np.sign(d)),
        ("its square is used", lambda d, s: d * d),
        ("the loss is left out, so it is the gradient of the mean prediction", lambda d, s: np.ones_like(s)),
    )
    # Of d, s, and y in the shape of s (one-hot for classes).
    of_targets: tuple[tuple[str, Callable[[Array, Array, Array], Array]], ...] = (
        ("P + Y is used instead of P - Y: y is added instead of subtracted", lambda d, s, y: d + 2 * y),
        ("y is left out", lambda d, s, y: d + y),
        ("the prediction is left out, only y is used", lambda d, s, y: -y),
        ("the scores s are used instead of their inverse link P, s - Y", lambda d, s, y: s - y),
        ("each output is treated by itself, σ(s) - Y instead of softmax", lambda d, s, y: _sigma(s) - y),
        ("the outputs are treated as one softmax", lambda d, s, y: _softmax(s) - y),
        ("softmax runs over the samples, along axis 0", lambda d, s, y: _softmax(s.T).T - y),
        ("tanh(s) is used instead of the inverse link P, tanh(s) - Y", lambda d, s, y: np.tanh(s) - y),
        ("exp(s) is used instead of the inverse link P, exp(s) - Y", lambda d, s, y: np.exp(s) - y),
    )
    # By words, another y, of: y, the number of outputs.
    other_y: tuple[tuple[str, Callable[[Array, int], Any]], ...] = (
        ("the index of the class is off by one", lambda y, k: (y + 1) % k if _is_classes(y, k) else None),
        ("the index of the class is off by one", lambda y, k: (y - 1) % k if _is_classes(y, k) else None),
        ("y is left out", lambda y, k: None if _is_classes(y, k) else np.zeros_like(y)),
        ("y has the wrong sign", lambda y, k: None if _is_classes(y, k) else -y),
        ("every sample is treated as y = 1", lambda y, k: None if _is_classes(y, k) else np.ones_like(y)),
        (
            "every sample has the mean of y, as if shapes (n, 1) and (n,) had been broadcast",
            lambda y, k: None if _is_classes(y, k) else np.broadcast_to(y.mean(axis=0), y.shape),
        ),
        ("y is shifted by one sample against X", lambda y, k: np.roll(y, 1, axis=0)),
        ("y is shifted by one sample against X", lambda y, k: np.roll(y, -1, axis=0)),
        ("the samples of y are in reverse order", lambda y, k: y[::-1]),
    )

    def ways(self, case: Case) -> Iterator[Way]:
        objective = case.subject.objective
        if objective.loss is None or objective.model.gradient_form.composes_loss:  # which differentiates it itself
            return
        if Contributions.of(case, case.situation).derivative() is None:
            return
        for what, of in self.of_targets:
            yield self._way(case, what, lambda c, d, s, of=of: None if c.targets is None else of(d, s, c.targets))
        for what, by in self.factors:
            yield self._way(case, what, lambda c, d, s, by=by: by(d, s))
        if case.situation.batch.y is None:
            return
        for what, other in self.other_y:
            yield self._way(case, what, lambda c, d, s, other=other: _at(c, other(c.batch.y, s.shape[1])))

    @staticmethod
    def _way(case: Case, what: str, derivative: Callable[..., Any]) -> Way:
        def predict(c: Contributions) -> Any:
            right = c.derivative()
            if right is None:
                return None
            with np.errstate(all="ignore"):
                wrong = derivative(c, right, c.prediction.reshape(c.batch.n, -1))
            return None if wrong is None else c.combine(wrong)

        return Way({"what": what}, of_contributions(case, predict), n_free=1)


def _is_classes(y: Array, n_outputs: int) -> bool:
    return y.dtype.kind in "iu" and y.ndim == 1 and n_outputs > 1


def _at(c: Contributions, y: Any) -> Any:
    return None if y is None else c.derivative(y=y)


def _softmax(s: Array) -> Array:
    shifted = np.exp(s - s.max(axis=1, keepdims=True))
    softmax: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return softmax


class RowsLeftOut(Hypothesis):
    identifier = "rows_left_out"
    meaning = "The gradient includes only some samples of the batch, chosen by position."
    template = (
        "{what} (agreement {agreement:.1g}). Look for a slice, the bounds of a loop, or a size other than that of the "
        "batch."
    )
    rank = 26

    def test(self, case: Case) -> Diagnosis | None:
        c = Contributions.of(case, case.situation)
        if c.rows is None or c.batch.n < 3:
            return None
        there = case.situation.moved(0.1, case.subject.rng.permutation(c.batch.n))  # others in the same positions
        for what, kept in self._choices(c.batch.n):
            chosen = np.zeros(c.batch.n)
            chosen[kept] = 1
            for divisor, words in ((1.0, ""), (chosen.sum() / c.batch.n, ", divided by their own number")):

                def predict(c: Contributions, kept: Array = chosen / divisor) -> Any:
                    return None if c.rows is None else (c.shares * kept) @ c.rows

                fit = case.compare(Way({}, of_contributions(case, predict)), at=[case.situation, there])
                if fit is not None:
                    rows = [int(i) for i in np.flatnonzero(chosen)]
                    return self.found(case, fit, {"what": what + words, "rows": rows})
        return None

    @staticmethod
    def _choices(n: int) -> Iterator[tuple[str, Any]]:
        """Words and rows that are kept: all but the first or last m, one alone, one missing, every other."""
        for m in range(1, n):
            yield f"It includes only the first {m} of the {n} samples", slice(m)
            yield f"It includes only the last {n - m} of the {n} samples", slice(m, n)
        for row in range(n):
            yield f"It includes only sample {row}", [row]
            yield f"It does not include sample {row}", [i for i in range(n) if i != row]
        for step in (2, 3, 4):
            yield f"It includes only samples at multiples of {step}", slice(None, None, step)


class OfGroups(Hypothesis):
    """Fits a factor for each of a few groups of contributions, and verifies them on other directions."""

    @abstractmethod
    def parts(self, c: Contributions) -> Iterator[tuple[str, dict[Any, Array]]]:
        """Pairs of a name for the grouping, and a dict of group to contributions; of one `Contributions`."""

    def test(self, case: Case) -> Diagnosis | None:
        first = Contributions.of(case, case.situation)
        for what, groups in self.parts(first):
            if not 2 <= len(groups) <= MOST_LEVELS:
                continue
            for factors in self._guesses(first, groups):
                fit = case.compare(Way({}, of_contributions(case, partial(self._sum, what, factors))))
                if fit is not None:
                    return self._named(case, what, factors, fit)
        return None

    def _sum(self, what: str, factors: dict[Any, float], c: Contributions) -> Any:
        """The groups of a name times their factors; a level that is not among a situation's samples adds nothing."""
        for name, groups in self.parts(c):
            if name == what and groups.keys() <= factors.keys():
                return sum(factors[label] * part for label, part in groups.items())
        return None if c.rows is None or OTHERS not in factors else factors[OTHERS] * (c.shares @ c.rows)

    def _guesses(self, c: Contributions, groups: dict[str, Array]) -> list[dict[str, float]]:
        """Factors by group: fitted, or where the block is too small for that, one group left out or turned round."""
        factors = self._factors(c, groups)
        if factors is not None:
            return [factors] if np.ptp(list(factors.values())) >= 1e-3 else []
        if len(c.case.elsewhere) < 2:
            return []
        return [{**dict.fromkeys(groups, 1.0), name: factor} for factor in (0.0, -1.0) for name in groups]

    @staticmethod
    def _factors(c: Contributions, groups: dict[str, Array]) -> dict[str, float] | None:
        """Least squares for the factor of each group."""
        matrix = np.stack(list(groups.values()), axis=1)
        half = max(len(groups) + 1, len(c.analytic) // 2)
        if half >= len(c.analytic) or np.linalg.cond(matrix[:half]) > WORST_CONDITION:
            return None
        factors = np.linalg.lstsq(matrix[:half], c.analytic[:half], rcond=None)[0]
        return {name: float(f) for name, f in zip(groups, np.where(abs(factors) < 1e-6, 0.0, factors), strict=True)}

    def _named(self, case: Case, what: str, factors: dict[str, float], fit: Fit) -> Diagnosis:
        off = {name: f for name, f in factors.items() if abs(f - 1) > 1e-4}
        listed = "; ".join(
            f"{name} {'not at all' if f == 0 else 'with the sign flipped' if is_near(f, -1) else f'times {f:.6g}'}"
            for name, f in off.items()
        )
        return self.found(case, fit, {"what": what, "listed": listed, "factors": factors})


class ClassLeftOut(OfGroups):
    identifier = "class_left_out"
    meaning = (
        "Samples of one class (a level of y or a column, a sign of y or the residual) are left out or off by a factor."
    )
    template = "Samples count by {what}: {listed} (agreement {agreement:.1g}). The others are right."
    rank = 27

    def parts(self, c: Contributions) -> Iterator[tuple[str, dict[Any, Array]]]:
        """Rows grouped by classes, levels and signs."""
        if c.rows is None:
            return
        weighted = c.shares[:, None] * c.rows
        for what, labels in self._labels(c):
            levels = {label: labels == label for label in np.unique(labels).tolist()}
            if len(levels) <= MOST_LEVELS:
                yield what, {f"{what} = {k}": m.astype(float) @ weighted for k, m in levels.items()}
            else:
                for k, mask in levels.items():
                    yield what, {f"{what} = {k}": mask.astype(float) @ weighted, OTHERS: ~mask @ weighted}

    @staticmethod
    def _labels(c: Contributions) -> Iterator[tuple[str, Array]]:
        columns = columns_of(c.batch)
        for name, column in [*columns.items()]:
            if column.ndim == 2 and column.shape[1] <= 4:
                columns.update({f"{name}[:, {k}]": column[:, k] for k in range(column.shape[1])})
        for name, column in columns.items():
            if column.ndim != 1 or column.dtype.kind not in "fiub":
                continue
            n_levels = len(np.unique(column))
            if n_levels <= MOST_CLASSES and (n_levels < len(column) or column.dtype.kind != "f"):
                yield name, column
            if column.dtype.kind == "f":
                yield f"sign({name})", np.sign(column)
        y, s = c.batch.y, c.prediction
        if y is not None and s is not None and s.shape == y.shape and y.ndim == 1 and y.dtype.names is None:
            yield "sign(prediction - y)", np.sign(s - y)
            yield "sign(prediction)", np.sign(s)
            yield "|prediction - y| > 1", (np.abs(s - y) > 1).astype(int)


class OutputLeftOut(OfGroups):
    identifier = "output_left_out"
    meaning = "The contribution of one output is left out or off by a factor."
    template = "Contributions count by {what}: {listed} (agreement {agreement:.1g}). The others are right."
    rank = 28

    def parts(self, c: Contributions) -> Iterator[tuple[str, dict[Any, Array]]]:
        """Contributions by output, all at once if they are few, else one against the others."""
        derivative = None if c.prediction is None else c.derivative()
        if derivative is None or derivative.shape[1] < 2:
            return
        outputs = np.einsum("n,nk,nkd->kd", c.shares, derivative, c.slopes)
        if len(outputs) <= MOST_LEVELS:
            yield "output", {f"output {k}": part for k, part in enumerate(outputs)}
        for k in range(len(outputs)):
            yield "output", {f"output {k}": outputs[k], OTHERS: outputs.sum(axis=0) - outputs[k]}


class OutputsSwapped(Hypothesis):
    identifier = "outputs_swapped"
    meaning = "The derivatives of the outputs are in another order than the outputs."
    template = "The derivatives of the outputs are in another order: that of output {k} is at output {place}."
    rank = 28

    def test(self, case: Case) -> Diagnosis | None:
        """Every output of every sample speaks for or against an order."""
        tables = [Contributions.of(case, s).parts for s in case.situations]
        if tables[0] is None or not 1 < tables[0].true.shape[1] <= MOST_LEVELS:
            return None
        for order in itertools.permutations(range(tables[0].true.shape[1])):
            if list(order) != sorted(order) and all(self._holds(parts, order) for parts in tables):
                place, k = next((place, k) for place, k in enumerate(order) if place != k)
                return self.explain(k=k, place=place, evidence={"order": list(order)})
        return None

    @staticmethod
    def _holds(parts: Parts | None, order: Sequence[int]) -> bool:
        if parts is None:
            return False
        left = np.abs(parts.claimed - parts.true[:, order])
        return bool((left <= 1e-5 * np.abs(parts.true).max() + parts.errors).all())
