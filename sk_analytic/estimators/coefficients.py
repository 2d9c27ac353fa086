"""`coef_` and `intercept_` of the default linear model, as scikit-learn's feature selectors expect them."""

from typing import Any

import numpy as np

from ..elsewhere import bare
from ..typing import Array


def coefficients(estimator: Any) -> Array:
    """Coefficients of a fitted default model, in scikit-learn's shape: a row for each output."""
    return bare(_as_outputs(estimator, _default_block(estimator, "coef")).T)  # type: ignore[no-any-return]


def intercepts(estimator: Any) -> Any:
    """Intercept of a fitted default model, in scikit-learn's shape: a number for each output."""
    found = _as_outputs(estimator, np.reshape(_default_block(estimator, "intercept"), (1, -1)))[0]
    return bare(found)


def _as_outputs(estimator: Any, block: Array) -> Array:
    outputs: Array = estimator._training.targets.as_outputs(block)
    return outputs


def _default_block(estimator: Any, name: str) -> Any:
    training = getattr(estimator, "_training", None)
    if training is None or not training.objective.model.uses_defaults:
        reason = "is not fitted yet" if training is None else "uses your own callables: read params_ instead"
        raise AttributeError(
            f"{name}_ is only available for a fitted default model; this {type(estimator).__name__} {reason}."
        )
    layout, block = training.objective.layout, estimator.params_[name]
    if layout.place is None:
        return block
    return layout.place.taken_in(np.asarray(block, layout.dtype) if isinstance(block, float) else block)
