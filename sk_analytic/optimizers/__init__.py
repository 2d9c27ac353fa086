"""Optimizers: update rules, links to combine with them, schedules, full-batch methods, phases."""

# The names are collected from the modules: to add an optimizer, add its class.

from . import averages, base, chains, phases, rules, schedules, scipy_methods, transforms
from .averages import *  # noqa: F403
from .base import *  # noqa: F403
from .chains import *  # noqa: F403
from .engine.numba_kernel import use_engine
from .phases import *  # noqa: F403
from .registry import get_optimizer, get_optimizer_names
from .rules import *  # noqa: F403
from .schedules import *  # noqa: F403
from .scipy_methods import *  # noqa: F403
from .table import classes_of
from .transforms import *  # noqa: F403

__all__ = ["get_optimizer", "get_optimizer_names", "use_engine"]
_MODULES = averages, base, chains, scipy_methods, phases, rules, schedules, transforms
__all__ += [name for module in _MODULES for name in classes_of(module)]
