"""The check before a fit: a wrong gradient is an error; and the second opinion when training fails."""

import warnings
from collections.abc import Iterable

from ..data.batch import Batch
from ..exceptions import GradientCheckError
from ..objective import Objective
from ..parameters import Parameters
from .check import examine
from .hypotheses import NotDeterministic, Unexplained
from .report import GradientReport

UNCLEAR = (Unexplained.identifier, "sample_factor")  # causes that another loss may have


def require_right(
    objective: Objective,
    theta: Parameters,
    batch: Batch,
    *,
    n_elsewhere: int | None = None,
    seed: int,
    advice: str = "",
    only_warn: bool = False,
) -> GradientReport:
    """Raise `GradientCheckError` if a block is plainly wrong; return the report otherwise.

    A warning says so if no block can be checked because the gradient is random.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
        Not changed.
    batch : Batch
        A few rows.
    n_elsewhere : int, default=None
        See `examine`.
    seed : int
        Seed of the fit.
    advice : str, default=""
        Text after a report that leaves the cause open.
    only_warn : bool, default=False
        Whether to warn of a wrong block instead of raising.

    Returns
    -------
    report : GradientReport
    """
    report = examine(objective, theta, batch, n_directions=None, n_elsewhere=n_elsewhere, seed=seed)
    if report.ok:
        if report.findings and all(finding.cause == NotDeterministic.identifier for finding in report.findings):
            message = f"The gradient could not be checked in any block. {report.findings[0].explanation}"
            warnings.warn(message, UserWarning, stacklevel=7)
        return report
    wrong = ", ".join(map(repr, report.wrong))
    form = objective.model.gradient_form
    of = "the predictions" if form.composes_loss or form.is_matrix else "the loss"
    message = (
        f"The analytic gradient ({objective.model.form}) is not the derivative of {of} in "
        f"parameter{'s' if len(report.wrong) > 1 else ''} {wrong}.\n{report}"
    )
    if advice and any(finding.cause in UNCLEAR for finding in report.findings if finding.verdict == "wrong"):
        message += f"\n{advice}"
    if not only_warn:
        raise GradientCheckError(f"{message}\nTo train anyway, set check_gradient='warn' or False.", report)
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
