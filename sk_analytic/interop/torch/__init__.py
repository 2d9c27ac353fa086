"""Use torch modules and optimizers in the estimators, and the update rules and fitted models of this package in torch.

Requires torch.
"""

from .export import to_torch
from .gradients import TorchModule, load_params
from .optimizer import TorchOptimizer
from .optimizer import adopted as adopted  # for sk_analytic.optimizers
from .rules import RuleOptimizer

__all__ = ["RuleOptimizer", "TorchModule", "TorchOptimizer", "load_params", "to_torch"]
