"""The findings of a check as data, text and HTML: one finding per block, one report per check."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..readable import readable
from ..trust import trusted

AGREEMENT = re.compile(r"agreement [\d.e+-]+")  # what differs between blocks with one cause
COLORS = {"right": "#1a7f37", "wrong": "#cf222e", "cannot tell": "#9a6700"}


@readable
@trusted
@dataclass(frozen=True)
class Finding:
    """Finding on one block (parameter array).

    Parameters
    ----------
    block : str
        Name of the block, or of the data that a callable has written to: ``"X"``, ``"y"``.
    shape : tuple of int
        Shape of the block.
    verdict : {"right", "wrong", "cannot tell"}
        Result of the check. "cannot tell" does not mean that the gradient is wrong; ``cause`` gives the reason.
    cause : str or None
        Identifier from the :ref:`table of causes <gradient-causes>`; None if the gradient is right, unless there is a
        remark.
    evidence : dict
        The ``analytic`` and ``numerical`` derivatives along the direction that disagreed most, the
        estimated ``error`` of the numerical one, their ``relative_error``, and values that depend on the cause, such
        as ``factor`` or ``agreement``.
    explanation : str
        Diagnosis in words.
    """

    block: str
    shape: tuple[int, ...]
    verdict: str
    cause: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    explanation: str = ""

    def __str__(self) -> str:
        return "\n".join([self._head(), *self._body()])

    def _head(self, widths: Sequence[int] = (0, 0)) -> str:
        """The line about the block, its first columns padded to widths."""
        verdict = self.verdict.upper() if self.verdict == "wrong" else self.verdict
        head = f"{self.block:<{widths[0]}}   {self.shape!s:<{widths[1]}}   {verdict}"
        error = self.evidence.get("relative_error")
        if error is None:
            return head
        return f"{head}   {error:.1g}" if self.verdict == "right" else f"{head}   relative error {error:.3g}"

    def _body(self) -> list[str]:
        lines = f"{self.explanation} [{self.cause}]" if self.cause else self.explanation
        return [f"    {line}" for line in _wrapped(lines)] if lines else []


@readable
@trusted
@dataclass(frozen=True)
class GradientReport:
    """Report of a gradient check, shown as text in a terminal and as a table in a notebook.

    Parameters
    ----------
    findings : tuple of Finding
        One finding for each block (parameter array) that has a gradient.
    n_evaluations : int
        Number of evaluations of the loss or the gradient.
    """

    findings: tuple[Finding, ...] = ()
    n_evaluations: int = 0

    @property
    def ok(self) -> bool:
        """True if no block is wrong."""
        return not self.wrong

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of the blocks whose gradient is wrong.

        Returns
        -------
        names : tuple of str
            Names, in the order of the findings.
        """
        return tuple(finding.block for finding in self.findings if finding.verdict == "wrong")

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data that can be written to JSON.

        Returns
        -------
        report : dict
            Dict with keys ``ok``, ``n_evaluations`` and ``findings``, a list of dicts of their attributes.
        """
        findings = [_plain(vars(finding)) for finding in self.findings]
        return {"ok": self.ok, "n_evaluations": self.n_evaluations, "findings": findings}

    def __str__(self) -> str:
        if not self.findings:
            return "Nothing was checked: there is no loss to compare with, or no parameter with a gradient."
        widths = [max(len(str(getattr(f, name))) for f in self.findings) for name in ("block", "shape")]
        lines: list[str] = []
        said: dict[str, str] = {}  # what was said of a block
        for finding in self.findings:
            text = AGREEMENT.sub("", finding.explanation)
            lines.append(finding._head(widths))
            if finding.cause and text in said:
                lines.append(f"    The same as in {said[text]!r}. [{finding.cause}]")
            else:
                lines += finding._body()
            said.setdefault(text, finding.block)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(_html_line(finding) for finding in self.findings)
        heads = "".join(
            f'<th style="text-align:left">{h}</th>' for h in ("block", "shape", "verdict", "error", "cause")
        )
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _html_line(finding: Finding) -> str:
    error = finding.evidence.get("relative_error")
    verdict = f'<b style="color:{COLORS[finding.verdict]}">{finding.verdict}</b>'
    what = html.escape(finding.explanation)
    if finding.cause:
        what = f"<code>{html.escape(finding.cause)}</code> {what}"
    cells = [
        f"<b>{html.escape(finding.block)}</b>",
        html.escape(str(finding.shape)),
        verdict,
        "" if error is None else f"{error:.2g}",
        what,
    ]
    return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"


def _wrapped(text: str, width: int = 84) -> list[str]:
    """Lines of at most ``width`` characters, broken between words."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line] if line else lines


def _plain(value: Any) -> Any:
    """Plain data with the same content; numbers that are not finite become text, which JSON can hold."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else str(float(value))
    return value if value is None or isinstance(value, str) else str(value)
