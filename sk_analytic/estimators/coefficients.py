"""`coef_` and `intercept_` of the default linear model, where scikit-learn's selectors and its users look for them."""

from typing import Any

import numpy as np

from ..typing import Array


class CoefficientsMixin:
    """Attributes that are there where the fitted model is the default one; those of a user's own are in `params_`."""

    params_: Any

    @property
    def coef_(self) -> Array:
        """Coefficients of the default linear model, in scikit-learn's shape: a row an output."""
        return self._as_outputs(self._default_block("coef")).T

    @property
    def intercept_(self) -> Any:
        """Intercept of the default linear model, in scikit-learn's shape: a number an output."""
        return self._as_outputs(np.reshape(self._default_block("intercept"), (1, -1)))[0]

    def _as_outputs(self, prediction: Array) -> Array:
        """Return predictions in the shape in which scikit-learn has the outputs of linear models."""
        raise NotImplementedError

    def _default_block(self, name: str) -> Any:
        model = getattr(self, "_model", None)
        if model is None or not model.uses_defaults:
            state = "is not fitted yet" if model is None else "has callables of its own, whose parameters are params_"
            raise AttributeError(f"{name}_ belongs to a fitted default model; this {type(self).__name__} {state}.")
        return self.params_[name]
