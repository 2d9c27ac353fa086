"""Representation learning: no targets, the prediction is what `transform` returns."""

from __future__ import annotations

from typing import Any

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from ..model.default_models import AUTOENCODER
from ..typing import Array, MatrixLike
from .base import AnalyticEstimator
from .settings import shares_parameters
from .targets import Targets, TransformerTargets


@shares_parameters(
    loss=None,
    forward="what `transform` returns, (n,) or (n, k)",
    default="a tied linear autoencoder (``components``, ``mean``)",
    score="minus the loss",
)
class AnalyticTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, AnalyticEstimator):
    """Representation learning by a model whose gradient was derived by hand.

    Without callables it is a tied linear autoencoder of two components (``model_params={"n_components":
    5}`` for another number): what it learns spans the principal components.

    {shared}

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sk_analytic import AnalyticTransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> codes = AnalyticTransformer(optimizer="lbfgs", random_state=0).fit_transform(X)
    >>> codes.shape
    (150, 2)
    """

    _default_model = AUTOENCODER

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _new_targets(self) -> Targets:
        return TransformerTargets()

    def fit_transform(self, X: MatrixLike, y: object | None = None, **fit_params: Any) -> Array:
        """Train the model and return what `forward` makes of the rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : None, default=None
            Ignored; present as scikit-learn's pipelines pass it.
        **fit_params : dict
            What `fit` takes beside: weights, a validation set, metadata. `transform` gets what `forward` names.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features_out)
            Of X's dtype if that is floating.
        """
        self.fit(X, y, **fit_params)
        named = self._metadata_names("transform")
        return self.transform(X, **{name: values for name, values in fit_params.items() if name in named})

    def transform(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return what `forward` makes of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features_out)
            Of X's dtype if that is floating.
        """
        return self._predictions(X, metadata).reshape(-1, self._n_features_out)
