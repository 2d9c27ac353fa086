"""Names of the types that signatures speak of: what users write and receive, and arrays inside.

`Params` and what belongs to it are for annotations of your own functions, and of variables. In a function that
indexes its parameters, the type of your own structure says more: ``dict[str, NDArray[np.float64]]``, a named tuple.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Forward", "Gradient", "Grads", "Jacobian", "LossAndGradient", "LossFunction", "Params", "Pullback", "Vjp"]

Params: TypeAlias = NDArray[Any] | float | Mapping[str, "Params"] | Sequence["Params"]
"""Parameters as a user writes them: arrays and numbers in dicts, tuples, lists, named tuples, nested, or one array."""

Grads: TypeAlias = ArrayLike | None | Mapping[str, "Grads"] | Sequence["Grads"]
"""A gradient in the structure of its parameters; a leaf None is not trained. Leaves may come from elsewhere."""

# What follows ``(params, X)`` in a user's functions is received by name, so that no two of them have one signature.
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
"""An array inside the package. Its dtype is that of X, float32 or float64, unless words say otherwise."""

Arrays: TypeAlias = tuple[NDArray[Any], ...]
"""Several of them."""

Number: TypeAlias = float | Any
"""A number, or a schedule in its place. The Any stands for the latter: where hyperparameters are used in a step,
schedules are numbers already, and a union with `Schedule` would deny that."""

MatrixLike: TypeAlias = ArrayLike | Any
"""X as users give it: an array, or what no types are known of, a sparse matrix or a frame."""

RandomState: TypeAlias = int | np.random.RandomState | None

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Shape: TypeAlias = tuple[int, ...]
DType: TypeAlias = np.dtype[Any]
