"""Use optax in the estimators, and the update rules and fitted models of this package in jax.

Requires jax and optax.
"""

from .export import to_jax
from .optimizer import OptaxOptimizer
from .optimizer import adopted as adopted  # for sk_analytic.optimizers
from .rules import as_gradient_transformation, eval_params

__all__ = ["OptaxOptimizer", "as_gradient_transformation", "eval_params", "to_jax"]
