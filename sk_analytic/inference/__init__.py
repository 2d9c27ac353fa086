"""Standard errors, intervals and tests for the parameters of a fitted estimator, after any optimizer.

`infer` reads ``params_``, evaluates gradients over the samples, and returns an `Inference`. Everything is computed in
the coordinates in which training moves, the entries of the vector of θ, and converted in one place, ``coordinates.py``.
"""

from .estimate import infer
from .result import Inference

__all__ = ["Inference", "infer"]
