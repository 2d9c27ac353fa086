"""Beside torch: our rules as a ``torch.optim.Optimizer``, and fitted models as modules."""

from .rules import RuleOptimizer

__all__ = ["RuleOptimizer"]
