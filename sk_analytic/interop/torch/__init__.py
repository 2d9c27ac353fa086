"""Beside torch: gradients of its modules and its optimizers here. Importing this imports torch."""

from .gradients import TorchModule, load_params
from .optimizer import TorchOptimizer
from .optimizer import adopted as adopted  # for sk_analytic.optimizers

__all__ = ["TorchModule", "TorchOptimizer", "load_params"]
