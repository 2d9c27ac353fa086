"""Gradients of one sample, written in place: ``gradient(params, x, y, out)``, and their mean over a batch.

Such a function needs no memory of its own, which pays where it is compiled and batches are small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..data.batch import Batch
from ..exceptions import ParameterStructureError

OUT = "out"
"""The argument that makes a gradient one of a single sample."""


def mean_over_samples(receiver: Any, layout: Any, params: Any, batch: Batch, gives_value: bool) -> tuple[Any, Any]:
    """Return the mean loss of a batch, or None, and its mean gradient, by a function of one sample.

    Parameters
    ----------
    receiver : Receiver
        Of a function that names ``out``.
    layout : Layout
        Of the gradient.
    params : structure
        θ as the function receives it.
    batch : Batch
        Its weights multiply the gradients of the samples.
    gives_value : bool
        Whether the function returns the loss of the sample.

    Returns
    -------
    loss : float or None
    grads : structure
    """
    if issparse(batch.X):
        raise TypeError(
            f"{receiver.role} names the argument {OUT!r}, so it receives one row of X at a time, as an array; X is a "
            "sparse matrix. Pass X.toarray(), or write a gradient of whole batches, without that argument."
        )
    total, own = np.zeros((2, layout.size), layout.dtype)
    out = layout.views(own, writeable=True)
    loss = 0.0
    for row in range(batch.n):
        own[...] = 0
        returned = receiver.call_one(params, batch, row, out)
        weight = None if batch.sample_weight is None else batch.sample_weight[row]
        total += own if weight is None else layout.dtype.type(weight) * own
        if gives_value:
            value = _read_loss(returned, receiver.role)
            loss += value if weight is None else float(weight) * value
        elif returned is not None and returned is not out:
            raise TypeError(
                f"{receiver.role} names the argument {OUT!r}, so it must write the gradient of one sample there and "
                f"return nothing; it returned {returned!r}. If it returns the gradient of a batch, rename the argument."
            )
    total /= batch.n
    return (loss / batch.n if gives_value else None), layout.views(total)


def _read_loss(returned: Any, role: str) -> float:
    array = np.asarray(returned)
    if array.ndim or array.dtype.kind not in "fiu":
        raise ParameterStructureError(
            f"{role} names the argument {OUT!r}, so it must write the gradient of one sample there and return the loss "
            f"of that sample, one real number; it returned {returned!r}."
        )
    return float(array)
