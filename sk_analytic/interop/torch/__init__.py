"""Beside torch: our rules as a ``torch.optim.Optimizer``, and fitted models as modules."""

from .export import to_torch
from .rules import RuleOptimizer

__all__ = ["RuleOptimizer", "to_torch"]
