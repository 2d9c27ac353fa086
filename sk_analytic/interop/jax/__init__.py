"""Beside jax: optax's transformations here. Importing this imports jax and optax."""

from .optimizer import OptaxOptimizer, adopted

__all__ = ["OptaxOptimizer"]
