"""Beside torch: gradients of its modules and its optimizers here. Importing this imports torch."""

from .gradients import TorchModule, load_params
from .optimizer import TorchOptimizer, adopted

__all__ = ["TorchModule", "TorchOptimizer", "load_params"]
