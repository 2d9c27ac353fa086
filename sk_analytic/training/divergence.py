"""Divergence: which parameter is not finite, and the likeliest cause."""

from __future__ import annotations

import math

import numpy as np

from ..parameters import Layout, Parameters
from ..typing import Array

HINTS = {
    "start": (
        "This is the first step, at the starting parameters. Look for log(0), 0/0 or an overflowing exp in the "
        "callable, and check the scale of X, y and the starting values."
    ),
    "grown": (
        "The parameters have grown by a factor of {growth:.2g} since the start. The learning rate is probably too "
        "large. Decrease it, scale X, or clip the gradient: Chain([ClipNorm(1.0), ...])."
    ),
    "later": (
        "The parameters were of moderate size. Look for log(0), 0/0 or an overflowing exp in the callable. A "
        "smaller learning rate or clipping, Chain([ClipNorm(1.0), ...]), may avoid it."
    ),
}


def not_finite(theta: Parameters, loss: float | None, gradient: Array, where: str) -> str | None:
    """Return a message that names the parameters that are not finite; None if all are finite."""
    if math.isfinite(float(np.vdot(gradient, gradient)) + (loss or 0.0)):
        return None
    blocks = not_finite_blocks(theta.layout, gradient)
    if blocks:
        value = "" if loss is None else f", the loss is {loss:.6g}"
        return f"The gradient is not finite {where}: parameter {blocks}{value}."
    if loss is not None and not math.isfinite(loss):
        return f"The loss is {loss} {where}, but the gradient is finite."
    return None


def not_finite_blocks(layout: Layout, vector: Array) -> str:
    """Return the names of the parameters with non-finite entries, and the number of these."""
    counts = {
        name: int((~np.isfinite(block)).sum()) for name, block in zip(layout.names, layout.blocks(vector), strict=True)
    }
    return ", ".join(f"{name!r} ({count} entries)" for name, count in counts.items() if count)
