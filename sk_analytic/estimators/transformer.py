"""Representation learning: no targets, the prediction is what `transform` returns."""

from collections.abc import Callable, Iterable
from typing import Any

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from ..data.rows import Rows
from ..exceptions import ParameterStructureError
from ..losses import Loss
from ..model.default_models import AUTOENCODER
from ..objective import Objective
from ..optimizers.base import Optimizer
from ..optimizers.phases import Phases
from ..optimizers.scipy_methods import FullBatch
from ..parameters import Parameters
from ..typing import (
    Array,
    Forward,
    Gradient,
    Jacobian,
    LossAndGradient,
    LossFunction,
    MatrixLike,
    Params,
    RandomState,
    Vjp,
)
from .settings import shares_parameters
from .untargeted import UntargetedEstimator


@shares_parameters(
    forward="what `transform` returns, (n,) or (n, k)",
    default="a tied linear autoencoder (``components``, ``mean``)",
    score="minus the loss",
)
class AnalyticTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, UntargetedEstimator):
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

    def __init__(
        self,
        forward: Forward | None = None,
        gradient: Gradient | None = None,
        init: Params | Callable[..., Params] | None = None,
        *,
        loss_and_gradient: LossAndGradient | None = None,
        vjp: Vjp | None = None,
        jacobian: Jacobian | None = None,
        loss: str | Loss | LossFunction | None = None,
        model_params: dict[str, Any] | None = None,
        reduction: str = "mean",
        fixed: Iterable[str | int] = (),
        numerical: Iterable[str | int] = (),
        alpha: float | dict[str, float] = 0.0,
        optimizer: str | Optimizer | FullBatch | Phases = "adam",
        batch_size: int | str = "auto",
        max_iter: int = 200,
        shuffle: bool = True,
        tol: float = 1e-4,
        n_iter_no_change: float = 10,
        early_stopping: bool = False,
        scoring: str | Callable[..., float] | None = None,
        validation_fraction: float = 0.1,
        check_gradient: bool | str = True,
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            forward,
            gradient,
            init,
            loss_and_gradient=loss_and_gradient,
            vjp=vjp,
            jacobian=jacobian,
            loss=loss,
            model_params=model_params,
            reduction=reduction,
            fixed=fixed,
            numerical=numerical,
            alpha=alpha,
            optimizer=optimizer,
            batch_size=batch_size,
            max_iter=max_iter,
            shuffle=shuffle,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            scoring=scoring,
            validation_fraction=validation_fraction,
            check_gradient=check_gradient,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _learn_from_prediction(self, prediction: Array) -> None:
        self._n_features_out = 1 if prediction.ndim == 1 else prediction.shape[1]

    def _check_prediction(self, prediction: Array) -> Array:
        columns = 1 if prediction.ndim == 1 else prediction.shape[1]
        if columns != self._n_features_out:
            raise ParameterStructureError(
                f"forward returned shape {prediction.shape}; it had {self._n_features_out} columns at the start of fit."
            )
        return prediction

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

    _scores_by_loss = True

    def _validation_score(self, objective: Objective, theta: Parameters, rows: Rows) -> float:
        values = rows.map(lambda batch: (objective.value(theta, batch), batch.n))
        if values[0][0] is None:
            raise ValueError("early_stopping=True needs a loss to score by: pass your own, or use loss_and_gradient.")
        mean_weight = rows.sum_of_weights / rows.n_samples  # weights of these rows are not scaled yet
        loss: Any = objective.mean(theta, [(value / mean_weight, n) for value, n in values])
        return -float(loss)
