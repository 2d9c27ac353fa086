"""Errors and the warning class of the package, and notes on the origin of an error.

::

    ValueError
    ├── DivergenceError            a loss, gradient or parameter is not finite
    ├── GradientCheckError         an analytic gradient is wrong
    └── ParameterStructureError    the structure, shape or dtype of θ or a gradient does not fit
    TypeError
    └── ReceivedArgumentError      a callable names an argument that is not provided, or the reverse
    UserWarning
    └── InferenceWarning           a standard error or an interval is not reliable
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
    """Raised if a loss or a gradient is not finite. The step is not applied.

    The estimator keeps the last finite parameters in ``params_``.
    """


class Report(Protocol):
    """The findings of a gradient check, as `GradientReport` has them."""

    @property
    def ok(self) -> bool:
        """Whether no parameter has a wrong gradient."""
        ...

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of the parameters with a wrong gradient."""
        ...

    @property
    def findings(self) -> tuple[Any, ...]:
        """One `Finding` for each parameter."""
        ...

    @property
    def n_evaluations(self) -> int:
        """Number of evaluations of the loss or the gradient."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        ...


class GradientCheckError(ValueError):
    """Raised if an analytic gradient disagrees with finite differences of the loss.

    Parameters
    ----------
    message : str
        Report as text.
    report : GradientReport, default=None
        Report as an object.

    Attributes
    ----------
    report : GradientReport
        The findings for each parameter.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message, report)
        self.report = report

    def __str__(self) -> str:
        return str(self.args[0])


class ParameterStructureError(ValueError):
    """Raised if a parameter structure, or a gradient for it, does not fit. The message names the parameter."""


class ReceivedArgumentError(TypeError):
    """Raised if a callable names an argument that is not provided, or no callable accepts one that is passed."""


class InferenceWarning(UserWarning):
    """Warns that a standard error, interval or covariance of `infer` is not reliable. The message gives the reason."""


@contextmanager
def noted(where: str) -> Iterator[None]:
    """Add a note on its origin to any exception."""
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise
