"""Optimizers by name."""

from __future__ import annotations

from typing import Any

from .phases import Phases
from .table import optimizer_of, optimizers_by_name


def get_optimizer(optimizer: object) -> Any:
    """Return an optimizer by its name.

    Parameters
    ----------
    optimizer : str or optimizer
        One of `get_optimizer_names`, or an instance, which is returned unchanged. A ``GradientTransformation`` of optax
        becomes an :class:`~sk_analytic.interop.jax.OptaxOptimizer`.

    Returns
    -------
    optimizer : Optimizer, FullBatch or Phases
        With default hyperparameters if a name was given.

    Raises
    ------
    ValueError
        If the name is unknown. The message suggests the nearest one.
    TypeError
        For any other object, including a link that is not a rule.

    Examples
    --------
    >>> from sk_analytic.optimizers import get_optimizer
    >>> get_optimizer("adam").set_params(learning_rate=0.1)
    Adam(learning_rate=0.1)
    """
    return optimizer if isinstance(optimizer, Phases) else optimizer_of(optimizer)


def get_optimizer_names() -> list[str]:
    """Return the names of all optimizers that `get_optimizer` accepts.

    Returns
    -------
    names : list of str
        In alphabetical order.

    Examples
    --------
    >>> from sk_analytic.optimizers import get_optimizer_names
    >>> "adam" in get_optimizer_names()
    True
    """
    return sorted(optimizers_by_name())
