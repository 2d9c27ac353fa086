"""The steps of a check: a verdict on every block first, then a diagnosis of those that failed."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse

from ..data.arrays import ArrayRows
from ..data.batch import CHECK, Batch, generator
from ..hyperparameters import require_estimator
from ..model.callables import Callables, metadata_names
from ..model.metadata import read_metadata
from ..objective import Objective
from ..parameters import Layout, Parameters
from ..readable import readable
from ..typing import Array, Params, RandomState
from ..validation import Interval, check_range
from .diagnose import Diagnoses
from .evaluation import Situation, Subject
from .faults.side_effects import depends_on_calls, remark_on_buffers, written_to
from .hypotheses import NotFinite, Unsettled
from .report import Finding, GradientReport
from .verdict import QUICK, Checker, Judgement, estimated, repeats

NEAR = 0.05  # how far from the starting θ to look, relative to the size of each entry
ENOUGH = 10  # evaluations that a check at another θ needs
FEWER = 6  # tenths of the rows to look at there
REFUTED = "Gradient and differences of the loss disagree here, but agree nearer to the given parameters."


@readable
def check_gradient(
    estimator: Any = None,
    X: Any = None,
    y: ArrayLike | None = None,
    *,
    loss: Callable[..., Any] | None = None,
    gradient: Callable[..., Any] | None = None,
    params: Params | None = None,
    sample_weight: ArrayLike | None = None,
    n_directions: int = 3,
    blocks: str | Iterable[str] | None = None,
    random_state: RandomState = None,
    **metadata: Any,
) -> GradientReport:
    """Check whether an analytic gradient is the derivative of the loss, and diagnose it if not.

    Pass an estimator of this package, with its callables in any form, or a ``loss`` and a ``gradient`` of your own.
    The gradient of each block (parameter array) is compared along random directions with central differences of the
    loss, in float64, at a point near the given parameters. Blocks that disagree are diagnosed. Arguments are not
    modified.

    Parameters
    ----------
    estimator : estimator of this package, default=None
        Estimator to check, at its ``params_`` if it is fitted, otherwise at its starting parameters.
    X : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
        Samples. A few dozen are enough and keep the check fast.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets, if the functions take them.
    loss : callable, default=None
        Loss to check without an estimator: ``loss(params, X, y) -> float``, or ``loss(params)`` if it takes no data.
        ``y`` and ``sample_weight`` are passed by name.
    gradient : callable, default=None
        Gradient of ``loss``: ``gradient(params, X, y) -> grads``, or ``gradient(params)``.
    params : structure, default=None
        Parameters near which to check: a dict, tuple, list or named tuple, possibly nested, or a single array.
        Required with ``loss``; with an estimator, they replace its own parameters.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights.
    n_directions : int, default=3
        Number of random directions to compare in each block.
    blocks : str or iterable of str, default=None
        Blocks to check, by name; all by default.
    random_state : int, RandomState instance or None, default=None
        Determines the starting parameters and the directions.
    **metadata : array-like of shape (n_samples,) or (n_samples, k)
        Sample metadata, passed to the callables that name it.

    Returns
    -------
    report : GradientReport
        ``report.ok`` is True if no block is wrong. Print the report for the diagnosis.

    See Also
    --------
    sk_analytic.plotting.GradientCheckDisplay : Plot the comparison entry by entry.

    Examples
    --------
    An estimator:

    >>> import numpy as np
    >>> from sk_analytic import AnalyticRegressor, check_gradient
    >>> X = np.arange(12.0).reshape(6, 2)
    >>> check_gradient(AnalyticRegressor(), X, X[:, 0], random_state=0).ok
    True

    Plain functions, here scipy's, with the wrong sign:

    >>> from scipy.optimize import rosen, rosen_der
    >>> report = check_gradient(
    ...     loss=rosen,
    ...     gradient=lambda x: -rosen_der(x),
    ...     params=np.ones(3) / 2,
    ...     random_state=0,
    ... )
    >>> report.findings[0].cause
    'sign'
    """
    from sklearn.utils import check_random_state

    check_range("check_gradient", "n_directions", n_directions, Interval(1, np.inf, integral=True))
    if estimator is not None:
        if loss is not None or gradient is not None:
            raise TypeError("check_gradient takes either an estimator, or loss and gradient, not both.")
        by_name = "check_gradient(loss=..., gradient=..., params=..., X=..., y=...)"
        require_estimator("check_gradient", estimator, f" Pass functions of your own by name: {by_name}.")
        objective, theta, batch, seed = estimator._prepare_check(X, y, sample_weight, random_state, metadata, params)
    else:
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        objective, theta, batch = of_callables(loss, gradient, params, X, y, sample_weight, metadata)
    return examine(objective, theta, batch, n_directions=n_directions, seed=seed, blocks=blocks)


def of_callables(
    loss: Callable[..., Any] | None,
    gradient: Callable[..., Any] | None,
    params: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    metadata: Mapping[str, Any],
) -> tuple[Objective, Parameters, Batch]:
    """Return the objective of plain callables, their parameters, and their data."""
    given = {"loss": loss, "gradient": gradient, "params": params}
    absent = [name for name, value in given.items() if value is None]
    if absent:
        raise TypeError(
            f"check_gradient needs an estimator, or loss, gradient and params; {' and '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} missing."
        )
    has_rows = X is not None
    X = X.tocsr() if issparse(X) else np.asarray(X) if has_rows else np.zeros((1, 0))
    columns = {} if y is None else {"y": np.asanyarray(y)}
    weight = None if sample_weight is None else np.asarray(sample_weight, float)
    functions = {role: _with_rows(role, given[role]) for role in ("loss", "gradient")}
    columns |= read_metadata(metadata, metadata_names(functions, None), X.shape[0])
    model = Callables(
        forward=None, forms={"gradient": functions["gradient"]}, loss=functions["loss"], columns=columns, init=params
    )
    layout = Layout.of(params, np.float64)
    objective = Objective(model, None, layout)
    return objective, Parameters(layout, layout.flatten(params)), ArrayRows(X, columns, weight).everything


def _with_rows(role: str, function: Any) -> Callable[..., Any]:
    """Return a callable of θ and X, also if the given one takes θ alone."""
    if not callable(function):
        raise TypeError(f"{role} must be callable; got {function!r}.")
    try:
        kinds = [p.kind for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        kinds = [inspect.Parameter.POSITIONAL_ONLY]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if kinds and all(kind in positional for kind in kinds) and len(kinds) == 1:
        return lambda params, X: function(params)
    whole: Callable[..., Any] = function
    return whole


def examine(
    objective: Objective,
    theta: Parameters,
    batch: Batch,
    *,
    n_directions: int | None = None,
    n_elsewhere: int | None = None,
    seed: int,
    blocks: str | Iterable[str] | None = None,
) -> GradientReport:
    """Check the blocks of an objective, in float64 whatever the training dtype.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
        Not changed.
    batch : Batch
        A few rows.
    n_directions : int or None, default=None
        Number of random directions in each block. With None, one direction goes through all blocks at once, which
        takes at most `QUICK` evaluations if they are right.
    n_elsewhere : int, default=None
        Rows to look at at another θ: all of them, or fewer, where a gradient for batches of one size is wrong. By
        default six tenths.
    seed : int
        Seed of the directions.
    blocks : str or iterable of str, default=None
        Blocks to check, by name; all by default.

    Returns
    -------
    report : GradientReport
    """
    if not objective.has_value:
        return GradientReport()
    double = objective.astype(np.float64)
    double.fixed = tuple(sorted({*double.fixed, *double.numerical}))
    chosen = None if blocks is None else double.layout.indices(blocks, "blocks")
    subject = Subject(double, generator(seed, CHECK), theta.astype(np.float64))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        to_be_read = batch.astype(np.float64).copy().read_only()  # as callables get it in training
        start = theta.as_given.vector.astype(np.float64)
        examination = _Examination(subject, start, to_be_read, chosen, n_elsewhere)
        return GradientReport(tuple(examination.findings(n_directions)), subject.n_evaluations)


class _Examination:
    """One check of one subject."""

    def __init__(
        self,
        subject: Subject,
        start: Array,
        batch: Batch,
        chosen: tuple[int, ...] | None,
        n_elsewhere: int | None,
    ) -> None:
        self.n_elsewhere = fewer(batch.n) if n_elsewhere is None else n_elsewhere
        self.subject, self.layout, self.start, self.chosen = subject, subject.layout, start, chosen
        self.at_start = Situation(subject, start, batch)
        self.about_inputs: list[Finding] = []
        self.situation = self._beside()

    def _beside(self) -> Situation:
        """A point near the start, at which symmetry or zeros may hide a fault; the start if the loss is not finite."""
        moved = Situation(self.subject, self.subject.nearby(self.start, NEAR), self.at_start.batch)
        for situation in (moved, self.at_start):
            if np.isfinite(situation.value):
                return situation
        return self.at_start

    def findings(self, n_directions: int | None) -> list[Finding]:
        """Findings on arrays that a callable wrote to, and one on each block with a gradient."""
        indices = self._open()
        if self.about_inputs or not indices:  # what follows from a callable that writes to its arguments is no news
            return self.about_inputs
        if not np.isfinite(self.situation.value):
            text = NotFinite.template.format("at the checked parameters")
            doubt = Judgement("cannot tell", NotFinite.identifier, {"relative_error": 0.0}, text)
            judgements = dict.fromkeys(indices, doubt)
        else:
            judgements = self._judge(indices, n_directions)
        found = {index: j.finding(self.layout, index) for index, j in judgements.items()}
        if n_directions is not None:
            remark_on_buffers(self.situation, found)
        failed = [i for i in indices if found[i].verdict == "wrong" and judgements[i].cause != "hidden_state"]
        if failed:
            found.update(Diagnoses(self.situation, self.start, failed, judgements).findings())
        return [found[i] for i in indices]

    def _open(self) -> list[int]:
        """Evaluate the gradient for the first time; return the blocks that it has."""
        subject, situation = self.subject, self.situation
        try:
            if not np.isfinite(situation.value):
                subject.objective.value(subject.parameters(self.start), situation.batch)  # for its error, if any
            subject.spend()
            contribution = subject.objective.contribution(subject.parameters(situation.vector), situation.batch)
        except Exception as error:
            if not _is_about_writing(error):
                raise
            self.about_inputs = written_to(subject, self.at_start, error)
            return []
        if contribution.gradient is None:
            return []
        situation.__dict__["gradient"] = subject.tangent(contribution.dense().gradient.copy())
        return [
            index
            for index, shape in enumerate(self.layout.shapes)
            if index not in contribution.missing and np.prod(shape) and (self.chosen is None or index in self.chosen)
        ]

    def _judge(self, indices: Iterable[int], n_directions: int | None) -> dict[int, Judgement]:
        """The judgement on each block: first whether evaluations repeat, then whether the gradient is right."""
        differing, undecided = repeats(self.situation), {}
        if differing is not None:
            undecided = {i: j for i, j in depends_on_calls(self.situation, differing).items() if i in indices}
        undecided.update(estimated(self.situation, [index for index in indices if index not in undecided]))
        checker = Checker(self.situation, [index for index in indices if index not in undecided])
        if not checker.indices:
            return undecided
        judgements = checker.quick() if n_directions is None else checker.each(n_directions)
        if n_directions is None and _any_wrong(judgements):
            judgements = checker.each(2)
        if _any_wrong(judgements):
            judgements = self._confirmed(judgements)
        else:
            judgements = self._elsewhere(checker, judgements, n_directions)
        return {**judgements, **undecided}

    def _confirmed(self, judgements: dict[int, Judgement]) -> dict[int, Judgement]:
        """The judgements, but that a block is wrong only if it is not right nearer to the start."""
        nearer = self.at_start.at((self.start + self.situation.vector) / 2)
        suspects = [index for index, judgement in judgements.items() if judgement.verdict == "wrong"]
        if not nearer.is_sound or np.array_equal(nearer.vector, self.situation.vector):
            return judgements
        there = Checker(nearer, suspects).each(1)
        cleared = {
            index: Judgement("cannot tell", Unsettled.identifier, judgements[index].evidence, REFUTED)
            for index in suspects
            if there[index].verdict == "right"
        }
        return {**judgements, **cleared}

    def _elsewhere(
        self, checker: Checker, judgements: dict[int, Judgement], n_directions: int | None
    ) -> dict[int, Judgement]:
        """The judgements at another θ, on fewer rows, if they are worse.

        A gradient kept from a first call is right at one θ only, one divided by a constant in batches of one size.
        """
        if n_directions is None and (self.subject.n_evaluations > QUICK - ENOUGH or not _all_right(judgements)):
            return judgements
        there = self._moved()
        if not there.is_sound or Checker(there, checker.indices).joint().verdict != "wrong":
            return judgements
        again = Checker(there, checker.indices).each(n_directions or 2)
        if _any_wrong(again):
            self.situation = there
        return again

    def _moved(self) -> Situation:
        """A situation at another θ, on the first of the rows if loss and gradient can be had on those alone."""
        some = self.situation.moved(NEAR, slice(0, self.n_elsewhere))
        return some if self.situation.n == 1 or some.is_sound else self.situation.moved(NEAR)


def fewer(n: int) -> int:
    """Return of how many of n rows to make a batch of another size."""
    return -(-FEWER * n // 10)


def _any_wrong(judgements: dict[int, Judgement]) -> bool:
    return any(judgement.verdict == "wrong" for judgement in judgements.values())


def _all_right(judgements: dict[int, Judgement]) -> bool:
    return all(judgement.verdict == "right" for judgement in judgements.values())


def _is_about_writing(error: Exception) -> bool:
    """Whether an error may come from writing to a read-only array."""
    text = str(error).lower()
    return "read-only" in text or "readonly" in text or "not writeable" in text or "not writable" in text
