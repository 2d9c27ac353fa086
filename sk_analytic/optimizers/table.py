"""The table of optimizers that have a name, drawn from the classes in the modules."""

import functools
from types import ModuleType
from typing import Any

from ..hyperparameters import lookup
from . import base, rules, scipy_methods
from .outside import adopted


def classes_of(module: ModuleType) -> dict[str, Any]:
    """Return the public classes that a module, or a package with its modules, defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and f"{value.__module__}.".startswith(f"{module.__name__}.") and name[0] != "_"
    }


def optimizers_by_name() -> dict[str, Any]:
    """Return the class for each name: the class's own in lower case, or its attribute ``name``."""
    return _table_of(*(tuple(vars(module)) for module in (rules, scipy_methods)))


@functools.lru_cache(1)
def _table_of(*names: tuple[str, ...]) -> dict[str, Any]:
    """Return the table of modules that have these names: it is drawn once, unless something is added."""
    classes = [*classes_of(rules).values(), *classes_of(scipy_methods).values()]
    return {vars(c).get("name", c.__name__.lower()): c for c in classes if c is not scipy_methods.FullBatch}


def optimizer_of(name: object) -> Any:
    """Return the optimizer for a name or an instance; see `get_optimizer`."""
    if isinstance(name, scipy_methods.FullBatch):
        return name
    return lookup("optimizer", optimizers_by_name(), adopted(name), base.Optimizer)
