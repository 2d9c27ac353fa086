"""`Model`: optional base class of model objects, which documents their methods for readers and editors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from ..display import shows_what_was_set
from ..typing import Forward, Gradient, Jacobian, LossAndGradient, LossFunction, Params, Vjp


@shows_what_was_set
class Model(BaseEstimator):
    """Base class of model objects, which keep the functions and hyperparameters of a model in one class.

    The hyperparameters are the arguments of ``__init__``, as in every scikit-learn estimator: an estimator with
    ``model=NADE(n_hidden=50)`` has a parameter ``model__n_hidden``. A model object does not store the trained
    parameters; its methods receive them, in the structure that ``init`` returned. After ``(params, X)`` a method
    receives the arguments that it names, of y, sample_weight, rng and the metadata passed to `fit`.

    Deriving from this class is optional. Any object with these methods works; if it is a scikit-learn
    :class:`~sklearn.base.BaseEstimator`, it can also be cloned and searched.

    Attributes
    ----------
    init : callable or structure
        ``init(...) -> params``, which receives the arguments that it names, of ``n_features, n_outputs, rng, X, y,
        sample_weight``; or the starting parameters themselves.
    forward : callable
        ``forward(params, X) -> prediction``. A `vjp` can replace it.
    gradient, loss_and_gradient, vjp, jacobian : callable
        The analytic gradient, in exactly one of the four forms.
    loss : callable, str or Loss
        ``loss(params, X, y) -> float``, or any other value of the estimator's parameter `loss`, which it replaces.
    sample : callable
        ``sample(params, n_samples, rng) -> X``, for :meth:`AnalyticDensity.sample`.
    inverse : callable
        ``inverse(params, Z) -> X``, for :meth:`AnalyticTransformer.inverse_transform`.
    accept_sparse : bool
        Whether the methods support sparse X, passed as a CSR matrix.

    Examples
    --------
    A linear model whose offset is a hyperparameter:

    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from sk_analytic import AnalyticRegressor, Model
    >>> class Linear(Model):
    ...     def __init__(self, offset=0.0):
    ...         self.offset = offset
    ...     def init(self, n_features):
    ...         return {"coef": np.zeros(n_features)}
    ...     def forward(self, params, X):
    ...         return X @ params["coef"] + self.offset
    ...     def jacobian(self, params, X):
    ...         return {"coef": X}
    >>> X, y = load_diabetes(return_X_y=True)
    >>> estimator = AnalyticRegressor(model=Linear(offset=152.0), optimizer="lbfgs")
    >>> estimator.fit(X, y).score(X, y) > 0.5
    True
    >>> estimator.get_params()["model__offset"]
    152.0
    """

    # For editors and type checkers: an object has none of these unless its class defines it.
    init: Callable[..., Params] | Params
    forward: Forward
    gradient: Gradient
    loss_and_gradient: LossAndGradient
    vjp: Vjp
    jacobian: Jacobian
    loss: LossFunction | Any
    sample: Callable[..., ArrayLike]
    inverse: Callable[..., ArrayLike]
    accept_sparse: bool
