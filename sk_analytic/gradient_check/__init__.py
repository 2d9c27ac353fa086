"""The gradient doctor: is an analytic gradient the derivative of the loss, and if not, what is wrong?

::

    doctor.py          the way through a check: `check_gradient`, `require_right`
    diagnosis.py       hypotheses tested on the blocks that failed
    report.py          what it finds, as data, text and HTML
    verdict.py         right, wrong, or "cannot tell, because"
    differences.py     numerical derivatives along a line, with their errors
    subject.py         what is evaluated, counted and kept from being written to
    case.py            one failed block: what a hypothesis must explain
    causes.py          the table of causes, and the two bases of its entries
    transforms.py, shapes.py, rows.py, elsewhere.py, places.py, units.py, state.py
                       the hypotheses, by the kind of fault
    memory.py          what was found right in this process
    entries.py         entry by entry, for pictures
"""

from .check import check_gradient, examine, require_right, second_opinion
from .entries import compare_entries
from .hypotheses import Cause
from .memory import forget
from .report import Finding, GradientReport

__all__ = [
    "Cause",
    "Finding",
    "GradientReport",
    "check_gradient",
    "compare_entries",
    "examine",
    "forget",
    "require_right",
    "second_opinion",
]
