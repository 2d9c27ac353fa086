"""The gradient doctor: is an analytic gradient the derivative of the loss, and if not, what is wrong?

::

    check.py           the steps of a check: `check_gradient`, `examine`
    additivity.py      whether a loss decomposes over samples, before minibatches are made of it
    fit_check.py       the check before a fit, and a second opinion when training fails
    verdict.py         right, wrong, or "cannot tell, because"
    diagnose.py        hypotheses tested on the blocks that failed
    hypotheses.py      the table of causes, and the bases of its entries
    faults/            the hypotheses, a file for each kind of fault
    evidence.py        one failed block, and the engine that weighs explanations
    evaluation.py      the objective under a budget, and the points at which it is evaluated
    differences.py     finite differences along a line, with their errors
    report.py          the findings as data, text and HTML
    entries.py         analytic and numerical gradient entry by entry, for plots
"""

from .additivity import MOST_ROWS, coupling
from .check import check_gradient, examine
from .entries import compare_entries
from .fit_check import require_right, second_opinion
from .hypotheses import Cause
from .report import Finding, GradientReport

__all__ = [
    "MOST_ROWS",
    "Cause",
    "Finding",
    "GradientReport",
    "check_gradient",
    "compare_entries",
    "coupling",
    "examine",
    "require_right",
    "second_opinion",
]
