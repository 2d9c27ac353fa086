"""Optimizers: rules that step, the links that stand beside them, schedules, full-batch methods, phases.

All names here are drawn from the classes in the modules: a new one is its class, and no other line.
"""

from types import ModuleType
from typing import Any

from ..hyperparameters import lookup
from . import averages, base, phases, rules, schedules, scipy_methods, transforms
from .averages import *  # noqa: F403
from .base import *  # noqa: F403
from .compiled import use_engine
from .phases import *  # noqa: F403
from .rules import *  # noqa: F403
from .schedules import *  # noqa: F403
from .scipy_methods import *  # noqa: F403
from .transforms import *  # noqa: F403


def _classes(module: ModuleType) -> dict[str, Any]:
    """Return the public classes that a module, or a package with its modules, defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and f"{value.__module__}.".startswith(f"{module.__name__}.") and name[0] != "_"
    }


def _table() -> dict[str, Any]:
    """Return the class for each name: the class's own in lower case, or its attribute ``name``."""
    classes = [*_classes(rules).values(), *_classes(scipy_methods).values()]
    return {vars(c).get("name", c.__name__.lower()): c for c in classes if c is not scipy_methods.FullBatch}


def get_optimizer(optimizer: object) -> Any:
    """Return the optimizer that a name or an instance stands for.

    Parameters
    ----------
    optimizer : str or optimizer
        One of `get_optimizer_names`, or an instance, which is returned as it is.

    Returns
    -------
    optimizer : Optimizer, FullBatch or Phases
        With its default hyperparameters where a name was given.

    Raises
    ------
    ValueError
        For an unknown name; the message has the nearest.
    TypeError
        For anything else, a link that is no rule included.

    Examples
    --------
    >>> from sk_analytic.optimizers import get_optimizer
    >>> get_optimizer("adam").set_params(learning_rate=0.1)
    Adam(learning_rate=0.1)
    """
    if isinstance(optimizer, scipy_methods.FullBatch | phases.Phases):
        return optimizer
    return lookup("optimizer", _table(), optimizer, base.Optimizer)


def get_optimizer_names() -> list[str]:
    """Return the names that `get_optimizer` knows.

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
    return sorted(_table())


__all__ = ["get_optimizer", "get_optimizer_names", "use_engine"]
_MODULES = averages, base, scipy_methods, phases, rules, schedules, transforms
__all__ += [name for module in _MODULES for name in _classes(module)]
