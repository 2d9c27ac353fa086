"""Faults in the contributions of samples, classes, outputs and weights, and gradients of another loss."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import clone

from ...losses import Loss, get_loss, get_loss_names
from ...typing import Array
from ..evaluation import Situation
from ..evidence import Case, Fit
from ..hypotheses import Diagnosis, Hypothesis
from .contributions import Contributions
from .transformed import is_near

WORST_CONDITION = 1e6
MOST_CLASSES = 30
MOST_LEVELS = 6  # groups whose factors are fitted at once


class OfContributions(Hypothesis):
    """Base of the causes that predict the analytic gradient from the contributions."""

    def fit(self, case: Case, predict: Callable[..., Any], free: bool = False, everywhere: bool = True) -> Fit | None:
        """Test a prediction of the analytic gradient, ``predict(contributions) -> numbers`` or None."""

        def sketch(situation: Situation) -> Any:
            contributions = Contributions.of(case, situation)
            predicted = predict(contributions)
            if predicted is None or not np.isfinite(predicted).all():
                return None
            return predicted, contributions.analytic, contributions.error

        return case.compare(sketch, free, everywhere)


class WeightsIgnored(OfContributions):
    identifier = "sample_weight_ignored"
    meaning = "The sample weights are not in the gradient."
    template = "It is the gradient without the sample weights (agreement {:.1g}). Weight the samples as in the loss."
    rank = 20

    def test(self, case: Case) -> Diagnosis | None:
        if case.situation.batch.sample_weight is None:
            return None
        fit = self.fit(case, lambda c: None if c.rows is None else c.rows.mean(axis=0))
        return None if fit is None else self.explain(fit.agreement, evidence=fit.evidence)


class WeightsOtherwise(OfContributions):
    identifier = "sample_weight_misused"
    meaning = "The sample weights are applied twice, as their root, or divided by their sum instead of their number."
    template = "The sample weights {how} (agreement {agreement:.1g}). Expected: the mean of weight times loss."
    rank = 20
    ways = (
        ("are applied twice", lambda w, n: w * w / n),
        ("come in as their square roots", lambda w, n: np.sqrt(w) / n),
        ("divide instead of multiplying", lambda w, n: 1 / w / n),
        ("are divided by their sum instead of the number of samples", lambda w, n: w / w.sum()),
        ("are ignored, and the sum over the samples divided by the weights' sum", lambda w, n: np.ones(n) / w.sum()),
        ("are applied twice, and divided by their sum", lambda w, n: w * w / w.sum()),
    )

    def test(self, case: Case) -> Diagnosis | None:
        if case.situation.batch.sample_weight is None:
            return None
        for how, make in self.ways:

            def predict(c: Contributions, make: Callable[..., Any] = make) -> Any:
                with np.errstate(all="ignore"):
                    return None if c.rows is None else make(c.batch.sample_weight, c.batch.n) @ c.rows

            fit = self.fit(case, predict)
            if fit is not None:
                return self.explain(how=how, agreement=fit.agreement, evidence={**fit.evidence, "how": how})
        return None


class OtherLoss(OfContributions):
    identifier = "other_loss"
    meaning = "The gradient is right for another loss than the one it is compared with."
    template = (
        "It is the gradient of the loss {name} (agreement {agreement:.1g}){factor}, compared here with {ours}.{hint}"
    )
    rank = 22
    settings = {
        "huber": [{"epsilon": e} for e in (1.0, 0.5, 1.5, 2.0)],
        "quantile": [{"quantile": q} for q in (0.1, 0.25, 0.75, 0.9)],
        "tweedie": [{"power": p} for p in (1.1, 1.25, 1.9)],
    }

    def _losses(self) -> Iterator[Loss]:
        """Every loss by name, and some with common settings."""
        for name in get_loss_names():
            yield get_loss(name)
            for setting in self.settings.get(name, []):
                yield clone(get_loss(name)).set_params(**setting)

    def test(self, case: Case) -> Diagnosis | None:
        objective = case.subject.objective
        ours = "a loss of your own" if objective.loss is None else repr(objective.loss)
        for loss in self._losses():
            name = repr(loss.name) if repr(loss).endswith("()") else repr(loss)
            if repr(loss) == repr(objective.loss):
                continue

            def predict(c: Contributions, loss: Loss = loss) -> Any:
                derivative = c.derivative(loss)
                return None if derivative is None else c.combine(derivative)

            fit = self.fit(case, predict, free=True)
            if fit is not None and fit.factor:
                factor = "" if is_near(fit.factor, 1) else f", times {fit.factor:.6g}"
                hint = f" Set loss={name} if you mean that one." if objective.loss is not None else ""
                evidence = {**fit.evidence, "loss": repr(loss)}
                return self.explain(
                    name=name, agreement=fit.agreement, factor=factor, ours=ours, hint=hint, evidence=evidence
                )
        return None


class OutputDerivative(OfContributions):
    identifier = "output_derivative"
    meaning = (
        "The derivative of the loss in the prediction is wrong: the link's derivative, or y, is missing or too much."
    )
    template = "The loss is differentiated wrongly at the prediction s: {what} (agreement {agreement:.1g})."
    rank = 24

    @staticmethod
    def ways(c: Contributions) -> Iterator[tuple[str, Array]]:
        """Pairs of words and derivative in the prediction."""
        d, s = c.derivative(), c.prediction.reshape(c.batch.n, -1)
        if d is None:
            return
        sigma = 0.5 * (1 + np.tanh(s / 2))
        for what, factor in (
            ("a factor σ(s)(1 - σ(s)) too much", sigma * (1 - sigma)),
            ("a factor 1 - tanh²(s) too much", 1 - np.tanh(s) ** 2),
            ("a factor 1 - s² too much", 1 - s**2),
            ("a factor s(1 - s) too much", s * (1 - s)),
            ("a factor exp(s) too much", np.exp(s)),
            ("a factor exp(s) is missing", np.exp(-s)),
            ("a factor s too much", s),
            ("a factor s is missing", 1 / s),
            ("its sign alone is used", 1 / np.abs(d)),
            ("its square is used", d),
        ):
            yield what, d * factor
        y = c.batch.y
        if y is not None and y.dtype.kind in "iu" and s.shape[1] > 1:
            for by in (1, -1):
                derivative = c.derivative(y=(y + by) % s.shape[1])
                if derivative is not None:
                    yield "the index of the class is off by one", derivative
        if y is not None:
            means = np.broadcast_to(y.mean(axis=0), y.shape)
            for what, other in (
                ("y is left out", np.zeros_like(y)),
                ("y has the wrong sign", -y),
                ("every sample is treated as y = 1", np.ones_like(y)),
                ("every sample has the mean of y, as if shapes (n, 1) and (n,) had been broadcast", means),
            ):
                binary = y.dtype.kind in "iu" and s.shape[1] == 1
                derivative = c.derivative(y=other) if y.dtype.kind == "f" or binary else None
                if derivative is not None:
                    yield what, derivative
            for by in (1, -1):
                derivative = c.derivative(y=np.roll(y, by, axis=0))
                if derivative is not None:
                    yield "the rows of y are one place off those of X", derivative
            derivative = c.derivative(y=y[::-1])
            if derivative is not None:
                yield "the rows of y are in the opposite order to those of X", derivative
        yield "there is no loss: it is the gradient of the mean prediction", np.ones_like(s)

    def test(self, case: Case) -> Diagnosis | None:
        first = Contributions.of(case, case.situation)
        if first.prediction is None or case.subject.objective.loss is None:
            return None
        for number, (what, _) in enumerate(self.ways(first)):

            def predict(c: Contributions, number: int = number) -> Any:
                if c.prediction is None:
                    return None
                ways = list(self.ways(c))
                return c.combine(ways[number][1]) if number < len(ways) else None

            fit = self.fit(case, predict, free=True)
            if fit is not None:
                return self.explain(what=what, agreement=fit.agreement, evidence={**fit.evidence, "what": what})
        return None


class RowsLeftOut(OfContributions):
    identifier = "rows_left_out"
    meaning = "Only some of the batch's samples are in the gradient, by their position."
    template = (
        "{what} (agreement {agreement:.1g}). Look for a slice, a loop's bounds, or a size that is not the batch's."
    )
    rank = 26

    def test(self, case: Case) -> Diagnosis | None:
        c = Contributions.of(case, case.situation)
        if c.rows is None or c.batch.n < 3:
            return None
        for what, kept in self._choices(c.batch.n):
            chosen = np.zeros(c.batch.n)
            chosen[kept] = 1
            for divisor, words in ((1.0, ""), (chosen.sum() / c.batch.n, ", divided by their own number")):
                predicted = ((c.row_weights * chosen) @ c.rows) / divisor
                fit = case.compare(lambda s, p=predicted: (p, c.analytic, c.error), False, everywhere=False)
                if fit is not None:
                    evidence = {**fit.evidence, "rows": [int(i) for i in np.flatnonzero(chosen)]}
                    return self.explain(what=what + words, agreement=fit.agreement, evidence=evidence)
        return None

    @staticmethod
    def _choices(n: int) -> Iterator[tuple[str, Any]]:
        """Words and rows that are kept: all but the first or last m, one alone, one missing, every other."""
        for m in range(1, n):
            yield f"Only the first {m} of the {n} rows are in it", slice(m)
            yield f"Only the last {n - m} of the {n} rows are in it", slice(m, n)
        for row in range(n):
            yield f"Only row {row} is in it", [row]
            yield f"Row {row} is not in it", [i for i in range(n) if i != row]
        for step in (2, 3, 4):
            yield f"Only every row at a multiple of {step} is in it", slice(None, None, step)


class OfGroups(OfContributions):
    """Fits a factor for each of a few groups of contributions, and verifies them on other directions."""

    @abstractmethod
    def parts(self, c: Contributions) -> Iterator[tuple[str, dict[Any, Array]]]:
        """Pairs of a name for the grouping, and a dict of group to contributions; of one `Contributions`."""

    def test(self, case: Case) -> Diagnosis | None:
        first = Contributions.of(case, case.situation)
        for number, (what, groups) in enumerate(self.parts(first)):
            if not 2 <= len(groups) <= MOST_LEVELS:
                continue
            for factors in self._guesses(first, groups):

                def predict(c: Contributions, number: int = number, factors: dict[str, float] = factors) -> Any:
                    parts = list(self.parts(c))
                    if number >= len(parts) or not parts[number][1].keys() <= factors.keys():
                        return None
                    return sum(factors[name] * part for name, part in parts[number][1].items())

                fit = self.fit(case, predict)
                if fit is not None:
                    return self._found(what, factors, fit)
        return None

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

    def _found(self, what: str, factors: dict[str, float], fit: Fit) -> Diagnosis:
        off = {name: f for name, f in factors.items() if abs(f - 1) > 1e-4}
        listed = "; ".join(
            f"{name} {'not at all' if f == 0 else 'with the sign flipped' if is_near(f, -1) else f'times {f:.6g}'}"
            for name, f in off.items()
        )
        evidence = {**fit.evidence, "factors": {str(name): f for name, f in factors.items()}}
        return self.explain(what=what, listed=listed, agreement=fit.agreement, evidence=evidence)


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
        weighted = c.row_weights[:, None] * c.rows
        for what, labels in self._labels(c):
            levels = {label: labels == label for label in np.unique(labels).tolist()}
            if len(levels) <= MOST_LEVELS:
                yield what, {f"{what} = {k}": m.astype(float) @ weighted for k, m in levels.items()}
            else:
                for k, mask in levels.items():
                    yield what, {f"{what} = {k}": mask.astype(float) @ weighted, "the others": ~mask @ weighted}

    @staticmethod
    def _labels(c: Contributions) -> Iterator[tuple[str, Array]]:
        columns = dict(c.batch.columns)
        for name, column in c.batch.columns.items():
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
        if y is not None and s is not None and s.shape == y.shape and y.ndim == 1:
            yield "sign(prediction - y)", np.sign(s - y)
            yield "sign(prediction)", np.sign(s)
            yield "|prediction - y| > 1", (np.abs(s - y) > 1).astype(int)


class OutputLeftOut(OfGroups):
    identifier = "output_left_out"
    meaning = "The part that goes through one output is left out or off by a factor."
    template = "It counts by {what}: {listed} (agreement {agreement:.1g}). The others are right."
    rank = 28

    def parts(self, c: Contributions) -> Iterator[tuple[str, dict[Any, Array]]]:
        """Contributions by output, all at once if they are few, else one against the others."""
        derivative = None if c.prediction is None else c.derivative()
        if derivative is None or derivative.shape[1] < 2:
            return
        outputs = np.einsum("n,nk,nkd->kd", c.row_weights, derivative, c.slopes)
        if len(outputs) <= MOST_LEVELS:
            yield "output", {f"output {k}": part for k, part in enumerate(outputs)}
        for k in range(len(outputs)):
            yield "output", {f"output {k}": outputs[k], "the others": outputs.sum(axis=0) - outputs[k]}
