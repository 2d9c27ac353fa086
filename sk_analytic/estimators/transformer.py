"""Representation learning: no targets, the prediction is what `transform` returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..elsewhere import on_host
from ..losses import Loss
from ..model.default_models import AUTOENCODER
from ..model.roles import functions_of
from ..typing import Array, F, LossFunction, MatrixLike
from .base import AnalyticEstimator
from .lazy import lazily
from .samples import FLOATS
from .settings import shares_parameters, where_given
from .targets import Targets, TransformerTargets


def has_loss(estimator: Any) -> bool:
    """Raise unless there is a loss to score by."""
    functions = functions_of(estimator)
    if functions["gradient"] is not None and functions["loss"] is None:
        raise AttributeError(
            f"{type(estimator).__name__} has no score, because gradient was given with loss=None. Pass a loss by name "
            "or as a function, loss(params, X, ...), or use loss_and_gradient."
        )
    return True


with_loss: Callable[[F], F] = available_if(has_loss)
"""Decorates `score`: it is there if there is a loss."""


@shares_parameters(
    forward="output of `transform`, of shape (n,) or (n, k)",
    default="a tied linear autoencoder (``components``, ``mean``)",
    score="minus `mean_loss`",
    parameters="""
    inverse : callable, default=None
        ``inverse(params, Z) -> X`` maps the output of `forward` back to samples, for `inverse_transform`.""",
)
class AnalyticTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, AnalyticEstimator):
    """Representation learning with a model whose gradient you derived by hand.

    Without callables it is a tied linear autoencoder with two components, which span the principal subspace. Set
    another number of components with ``model_params={"n_components": 5}``.

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
    _may_score_by_loss = True

    def __init__(
        self,
        *args: Any,
        loss: str | Loss | LossFunction | None = None,
        inverse: Callable[..., ArrayLike] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*args, loss=loss, **settings)
        self.inverse = inverse

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _new_targets(self) -> Targets:
        return TransformerTargets()

    def fit_transform(self, X: MatrixLike, y: object | None = None, **fit_params: Any) -> Array:
        """Train the model and return the output of `forward` for the samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : None, default=None
            Ignored; present for compatibility with scikit-learn's pipelines.
        **fit_params : dict
            Further arguments of `fit`: weights, a validation set, metadata. `transform` receives the metadata that
            `forward` names.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features_out)
            Codes, in the dtype of X if that is floating.
        """
        self.fit(X, y, **fit_params)
        named = self._metadata_names("transform")
        return self.transform(X, **{name: values for name, values in fit_params.items() if name in named})

    @lazily
    def transform(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the output of `forward` for the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features_out)
            Codes, in the dtype of X if that is floating.
        """
        return self._predictions(X, metadata).reshape(-1, self._n_features_out)

    @with_loss
    def score(
        self, X: MatrixLike, y: object | None = None, sample_weight: ArrayLike | None = None, **metadata: Any
    ) -> float:
        """Return minus the mean loss of the samples; see `mean_loss`. Available if there is a loss.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : None, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the loss and to `forward` if they name it.

        Returns
        -------
        score : float
            Larger is better.
        """
        return -self.mean_loss(X, y, sample_weight, **metadata)

    @where_given("inverse")
    @lazily
    def inverse_transform(self, X: ArrayLike, **metadata: Any) -> Array:
        """Reconstruct samples from their codes.

        Available for the default autoencoder, a model object with a method ``inverse``, and callables with an
        `inverse`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            Codes, as `transform` returns them.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the inverse if it names it.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Reconstructed samples, in the dtype of the parameters.

        Raises
        ------
        ParameterStructureError
            If the inverse returns an array of another shape.
        """
        check_is_fitted(self)
        codes: Array = check_array(on_host(X), dtype=FLOATS, input_name="X")
        if codes.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {codes.shape[1]} columns, but transform returns {self._n_features_out}. Pass its output."
            )
        inverse = self._training.objective.model.inverse
        names = () if inverse is None else inverse.nameable
        return self._rows_of("inverse", self._with_metadata(codes, metadata, names))
