"""Types for annotations: of users' functions and their arguments, and of arrays inside the package.

Use `Params` and the types below it to annotate your own functions and variables. In a function that indexes its
parameters, annotate your own structure instead, such as ``dict[str, NDArray[np.float64]]`` or a named tuple.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Forward", "Gradient", "Grads", "Jacobian", "LossAndGradient", "LossFunction", "Params", "Pullback", "Vjp"]

Params: TypeAlias = NDArray[Any] | float | Mapping[str, "Params"] | Sequence["Params"]
"""Type of parameters: arrays and numbers in a (possibly nested) dict, tuple, list or named tuple, or a single array."""

Grads: TypeAlias = ArrayLike | None | Mapping[str, "Grads"] | Sequence["Grads"]
"""Type of a gradient, in the structure of its parameters. A leaf None is not trained."""

# The arguments after ``(params, X)`` are passed by name, so users' functions have different signatures.
Forward: TypeAlias = Callable[..., ArrayLike]
"""``forward(params, X) -> prediction``."""
Gradient: TypeAlias = Callable[..., Grads]
"""``gradient(params, X, y) -> grads``."""
LossAndGradient: TypeAlias = Callable[..., tuple[float, Grads]]
"""``loss_and_gradient(params, X, y) -> (loss, grads)``."""
Pullback: TypeAlias = Callable[[NDArray[Any]], Grads]
"""``pullback(d_prediction) -> grads``."""
Vjp: TypeAlias = Callable[..., tuple[ArrayLike, Pullback]]
"""``vjp(params, X) -> (prediction, pullback)``."""
Jacobian: TypeAlias = Callable[..., Grads]
"""``jacobian(params, X) -> J``, leaf by leaf."""
LossFunction: TypeAlias = Callable[..., float]
"""``loss(params, X, y) -> float``."""

Array: TypeAlias = NDArray[Any]
"""An array inside the package. Its dtype is that of X, float32 or float64, unless stated otherwise."""

Arrays: TypeAlias = tuple[NDArray[Any], ...]
"""Several arrays."""

Number: TypeAlias = float | Any
"""A number, or a schedule in place of a number. The schedule is typed as Any, because schedules are already replaced by
numbers where a step uses hyperparameters."""

MatrixLike: TypeAlias = ArrayLike | Any
"""X as users pass it: an array, a sparse matrix or a dataframe; the last two have no known type."""

RandomState: TypeAlias = int | np.random.RandomState | None

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Shape: TypeAlias = tuple[int, ...]
DType: TypeAlias = np.dtype[Any]
