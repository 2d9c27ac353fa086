"""The check before a fit: a wrong gradient is an error, and functions that were found right are not checked again."""

import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, TypeAlias

from ..data.batch import Batch
from ..exceptions import GradientCheckError
from ..objective import Objective
from ..parameters import Parameters
from .check import examine
from .report import GradientReport

MOST = 1000
Key: TypeAlias = tuple[Any, ...]

_found_right: OrderedDict[Key, Any] = OrderedDict()


def require_right(
    objective: Objective, theta: Parameters, batch: Batch, *, seed: int, preface: str = "", only_warn: bool = False
) -> GradientReport:
    """Raise `GradientCheckError` if a block is plainly wrong; return the report otherwise.

    Functions that were right before, on data of the same shape, are not evaluated again.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
        Not changed.
    batch : Batch
        A few rows.
    seed : int
        Seed of the fit.
    preface : str, default=""
        Text before the report.
    only_warn : bool, default=False
        Whether to warn of a wrong block instead of raising.

    Returns
    -------
    report : GradientReport
    """
    key = key_of(objective, batch)
    report: GradientReport | None = None if key is None else recall(key)
    if report is None:
        report = examine(objective, theta, batch, n_directions=None, seed=seed)
        if key is not None and report.findings and all(finding.verdict == "right" for finding in report.findings):
            keep(key, report)
    if report.ok:
        return report
    wrong = ", ".join(map(repr, report.wrong))
    message = (
        f"{preface}The analytic gradient ({objective.model.form}) is not the derivative of the loss in block "
        f"{wrong}.\n{report}"
    )
    if not only_warn:
        raise GradientCheckError(f"{message}\ncheck_gradient='warn' or False trains all the same.", report)
    warnings.warn(message, UserWarning, stacklevel=7)
    return report


def second_opinion(objective: Objective, thetas: Iterable[Parameters], batch: Batch, *, seed: int) -> str:
    """Return a sentence on the gradient at some θ, the last of them where training failed; empty without a loss."""
    verdicts: set[str] = set()
    for theta in thetas:
        try:
            report = examine(objective, theta, batch, n_directions=None, seed=seed)
        except Exception:
            continue
        if not report.ok:
            return f"The analytic gradient is wrong:\n{report}"
        verdicts.update(finding.verdict for finding in report.findings)
    if not verdicts:
        return ""
    if "right" in verdicts:
        return "The analytic gradient was checked and is right."
    return "The check cannot tell whether the analytic gradient is right."


def key_of(objective: Objective, batch: Batch) -> Key | None:
    """Return everything that the result of a check depends on, or None if that is unknown.

    Functions are compared by identity. Every copy of an estimator creates new bound methods and partials, so results
    for them are not kept.
    """
    model = objective.model
    receivers = [r for r in (model.gradient, model.forward, model.loss) if r is not None]
    if not all(isinstance(r.function, types.FunctionType | types.BuiltinFunctionType) for r in receivers):
        return None
    settings = [sorted(r._fixed.items()) for r in receivers]
    if not all(isinstance(v, int | float | str | None) for setting in settings for _, v in setting):
        return None
    layout = objective.layout
    loss = objective.loss
    arrays = {"X": batch.X, **batch.columns}
    return (
        tuple((r.role, weakref.ref(r.function)) for r in receivers),
        repr(settings),
        None if loss is None else (type(loss), repr(sorted(loss.get_params().items()))),
        (objective.reduction, objective.fixed, objective.numerical),
        (layout.names, layout.shapes),
        tuple((name, type(array), array.shape, str(array.dtype)) for name, array in arrays.items()),
        batch.sample_weight is not None,
    )


def is_known(objective: Objective, batch: Batch) -> bool:
    """Whether the gradient was found right before, on data of this shape."""
    key = key_of(objective, batch)
    return key is not None and recall(key) is not None


def recall(key: Key) -> Any:
    """Return what was found of functions before, or None."""
    return _found_right.get(key)


def keep(key: Key, found: object) -> None:
    """Keep what was found of functions that were right."""
    _found_right[key] = found
    while len(_found_right) > MOST:
        _found_right.popitem(last=False)


def forget() -> None:
    """Forget all earlier checks, so that the next fit is checked again."""
    _found_right.clear()
