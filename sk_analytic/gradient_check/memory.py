"""Functions already found right in this process, on data of the same shape: they are not checked again."""

import types
import weakref
from collections import OrderedDict
from typing import Any, TypeAlias

from ..data.batch import Batch
from ..objective import Objective
from .report import GradientReport

MOST = 1000
Key: TypeAlias = tuple[Any, ...]

_found_right: OrderedDict[Key, GradientReport] = OrderedDict()


def key_of(objective: Objective, batch: Batch) -> Key | None:
    """Return what a check depends on, or None where that cannot be known.

    Functions stand for themselves while they live; a bound method or a partial is made anew by every copy
    of its estimator and is not remembered.
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


def recall(key: Key | None) -> GradientReport | None:
    """Return the report on what was found right, or None."""
    return None if key is None else _found_right.get(key)


def remember(key: Key | None, report: GradientReport) -> None:
    """Keep a report if every block in it is right."""
    if key is None or not report.findings or any(finding.verdict != "right" for finding in report.findings):
        return
    _found_right[key] = report
    while len(_found_right) > MOST:
        _found_right.popitem(last=False)


def forget() -> None:
    """Forget everything: the next fit is checked again."""
    _found_right.clear()
