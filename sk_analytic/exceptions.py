"""The error classes of the package, its one class of warnings, and a note on where an error came from.

::

    ValueError
    ├── DivergenceError            a loss, gradient or parameter that is not finite
    ├── GradientCheckError         an analytic gradient that is wrong
    └── ParameterStructureError    θ or a gradient whose structure, shape or kind does not fit
    TypeError
    └── ReceivedArgumentError      a callable names an argument that is not provided, or the reverse
    UserWarning
    └── InferenceWarning           a standard error or an interval that does not mean what it should
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

__all__ = [
    "DivergenceError",
    "GradientCheckError",
    "InferenceWarning",
    "ParameterStructureError",
    "ReceivedArgumentError",
]


class DivergenceError(ValueError):
    """A loss or a gradient was not finite, so the step was not applied.

    The estimator keeps the last finite parameters in ``params_``.
    """


class Report(Protocol):
    """The findings of a gradient check, as `GradientReport` has them."""

    @property
    def ok(self) -> bool:
        """Whether no block is wrong."""
        ...

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of the wrong blocks."""
        ...

    @property
    def findings(self) -> tuple[Any, ...]:
        """One `Finding` a block."""
        ...

    @property
    def n_evaluations(self) -> int:
        """How often the loss or the gradient was evaluated."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        ...


class GradientCheckError(ValueError):
    """An analytic gradient disagrees with differences of the loss.

    Parameters
    ----------
    message : str
        The report in words.
    report : GradientReport, default=None
        The report as data.

    Attributes
    ----------
    report : GradientReport
        The findings, block by block.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message, report)
        self.report = report

    def __str__(self) -> str:
        return str(self.args[0])


class ParameterStructureError(ValueError):
    """A parameter structure, or a gradient for one, does not fit: the message names the block."""


class ReceivedArgumentError(TypeError):
    """A callable asks for an argument that is not provided, or no callable accepts one that is given."""


class InferenceWarning(UserWarning):
    """A standard error, an interval or a covariance of `infer` does not mean what it should: the message says why."""


@contextmanager
def noted(where: str) -> Iterator[None]:
    """Add a note on where it came from to an exception."""
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise
