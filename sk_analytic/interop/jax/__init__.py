"""Beside jax and optax: our rules as a ``GradientTransformation``, and fitted models as functions."""

from .export import to_jax
from .rules import as_gradient_transformation, eval_params

__all__ = ["as_gradient_transformation", "eval_params", "to_jax"]
