"""Divergence: which block is not finite, and what is the likeliest cause."""

from __future__ import annotations

import math

import numpy as np

from ..parameters import Layout, Parameters
from ..typing import Array

HINTS = {
    "start": (
        "It is the first step, at the starting parameters: look for log(0), 0/0 or an overflowing exp in the "
        "callable, and at the scale of X, y and the starting values."
    ),
    "grown": (
        "The parameters had grown {growth:.2g} times over since the start: the learning rate is probably too "
        "large. Lower it, scale X, or clip the gradient: Chain([ClipNorm(1.0), ...])."
    ),
    "later": (
        "The parameters were of moderate size: look for log(0), 0/0 or an overflowing exp in the callable; a "
        "smaller learning rate or clipping, Chain([ClipNorm(1.0), ...]), may avoid the place."
    ),
}


def not_finite(theta: Parameters, loss: float | None, gradient: Array, where: str) -> str | None:
    """Return a message that names what is not finite, block by block; None if everything is."""
    if math.isfinite(float(np.vdot(gradient, gradient)) + (loss or 0.0)):
        return None
    blocks = not_finite_blocks(theta.layout, gradient)
    if blocks:
        value = "" if loss is None else f", the loss is {loss:.6g}"
        return f"The gradient is not finite {where}: block {blocks}{value}."
    if loss is not None and not math.isfinite(loss):
        return f"The loss is {loss} {where}, though the gradient is finite."
    return None


def not_finite_blocks(layout: Layout, vector: Array) -> str:
    """Names of the blocks with entries that are not finite, with their number."""
    counts = {
        name: int((~np.isfinite(block)).sum()) for name, block in zip(layout.names, layout.blocks(vector), strict=True)
    }
    return ", ".join(f"{name!r} ({count} entries)" for name, count in counts.items() if count)
