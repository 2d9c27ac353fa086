"""Beside jax: optax's transformations here. Importing this imports jax and optax."""

from .optimizer import OptaxOptimizer
from .optimizer import adopted as adopted  # for sk_analytic.optimizers

__all__ = ["OptaxOptimizer"]
