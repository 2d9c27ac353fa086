"""Regression: targets are floats, predictions go through the inverse of the loss's link."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils import assert_all_finite, check_consistent_length
from sklearn.utils.validation import check_is_fitted

from ..dask_collections import in_memory
from ..data.weights import Weights, y_that_counts
from ..elsewhere import on_host
from ..losses import Loss, get_loss
from ..model.callables import is_function
from ..model.default_models import LINEAR
from ..model.roles import functions_of
from ..objective import match_target
from ..typing import Array, MatrixLike
from .base import AnalyticEstimator
from .coefficients import coefficients, intercepts
from .lazy import lazily
from .samples import read_weight, read_X_and_y, read_y, score_weight
from .settings import in_batches, shares_parameters
from .targets import RegressionTargets, Targets


@shares_parameters(
    forward="predictions of shape (n,) or (n, k) on the link scale of the loss (poisson: log of the mean)",
    default='a linear model, ``X @ params["coef"] + params["intercept"]``',
    score="the method `score`",
    attributes="""
    n_outputs_ : int
        Number of columns or fields of y.
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Coefficients of the default linear model; only available if no callables are given.
    intercept_ : float or ndarray of shape (n_outputs,)
        Intercept of the default linear model; only available if no callables are given.""",
)
class AnalyticRegressor(RegressorMixin, AnalyticEstimator):
    """Regression with a model whose gradient you derived by hand.

    Without callables it is a linear regression.

    {shared}

    Examples
    --------
    Fit a curve with three parameters, whose derivatives are given as a Jacobian:

    >>> import numpy as np
    >>> from sk_analytic import AnalyticRegressor
    >>> def forward(params, X):
    ...     return params["height"] * np.exp(-params["rate"] * X[:, 0]) + params["floor"]
    >>> def jacobian(params, X):
    ...     decay = np.exp(-params["rate"] * X[:, 0])
    ...     by_rate = -params["height"] * X[:, 0] * decay
    ...     return {"height": decay, "rate": by_rate, "floor": np.ones(len(X))}
    >>> X = np.linspace(0, 4, 50)[:, None]
    >>> y = 2 * np.exp(-1.5 * X[:, 0]) + 0.5
    >>> start = {"height": 1.0, "rate": 1.0, "floor": 0.0}
    >>> model = AnalyticRegressor(
    ...     forward, jacobian=jacobian, init=start, optimizer="lbfgs", tol=1e-8
    ... )
    >>> {name: round(value, 3) for name, value in model.fit(X, y).params_.items()}
    {'height': 2.0, 'rate': 1.5, 'floor': 0.5}
    """

    _default_model = LINEAR
    _default_takes_sparse = True
    _may_score_by_loss = True

    coef_ = property(coefficients, doc="Coefficients of the default linear model, in scikit-learn's shape.")
    intercept_ = property(intercepts, doc="Intercept of the default linear model, in scikit-learn's shape.")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = self._scores_by_loss()  # scikit-learn's checks expect an R² else
        loss = self._loss_object()
        tags.target_tags.positive_only = loss is not None and loss.domain is not None and not loss.domain.admits(-1.0)
        return tags

    def _scores_by_loss(self) -> bool:
        """Whether `score` is minus the mean loss: if that is the user's own, or D² is not defined for it."""
        with suppress(Exception):  # which `fit` raises
            functions = functions_of(self)
            if is_function(functions["loss"]) or functions["loss_and_gradient"] is not None:
                return True
        loss = self._loss_object()
        return loss is not None and not loss.has_d2

    def _loss_object(self) -> Loss | None:
        """The loss by name that compares y with predictions, None if there is none or it is wrong."""
        with suppress(Exception):  # which `fit` raises
            if self._compares():
                loss: Loss = get_loss(self._trained_loss)
                loss.check()
                return loss
        return None

    def _check_loss(self, loss: Loss, columns: Mapping[str, Array]) -> None:
        if self._compares():  # else it says no more than the scale of predictions
            super()._check_loss(loss, columns)

    def fit(  # type: ignore[override]
        self,
        X: MatrixLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        **metadata: Any,
    ) -> Self:
        """Train the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples. float32 and float64 are kept; other dtypes are converted to float64. If X is a dask array
            or dataframe, each chunk is processed on the worker of the current client's cluster that holds it, together
            with y, weights and metadata.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target values: finite numbers, converted to floats of X's dtype. With a loss of your own (`loss` is a
            function or None, or `loss_and_gradient` is given), y may differ from the predictions in shape, have
            more axes, or be a structured array, whose fields keep their dtypes and values.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, scaled to mean 1: a sample of weight 2 counts like the same sample twice.
        X_val : array-like of shape (n_val, n_features), default=None
            Validation samples to score after each epoch with ``early_stopping=True``, in place of samples held out
            from X. A pipeline created with ``transform_input=["X_val"]`` transforms them like X.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Targets of the validation samples.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the validation samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the callables that name it: ``exposure=...``, and ``exposure_val=...`` for
            `X_val`.

        Returns
        -------
        self : AnalyticRegressor
            The fitted estimator.

        Raises
        ------
        GradientCheckError
            If the analytic gradient is clearly not the derivative of the loss.
        DivergenceError
            If the loss or the gradient is not finite. ``params_`` keeps the last finite parameters.
        """
        return self._fit_arrays(X, y, sample_weight, metadata, (X_val, y_val, sample_weight_val))

    @in_batches
    def partial_fit(  # type: ignore[override]
        self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None, **metadata: Any
    ) -> Self:
        """Train for one pass over a batch of samples, starting from the current parameters.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets, as in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, not rescaled: a sample of weight 2 counts as two.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the callables that name it.

        Returns
        -------
        self : AnalyticRegressor
            The fitted estimator.
        """
        return self._partial_fit_arrays(X, y, sample_weight, metadata)

    def _read(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, known: Any = None
    ) -> tuple[Any, dict[str, Array], Weights | None, Targets]:
        compared = self._compares()
        X, y = read_X_and_y(self, X, y, reset=reset, compared=compared)
        targets = RegressionTargets.read(y, known, compared, self._scores_by_loss())
        return X, {"y": y}, read_weight(sample_weight, X), targets

    def _compares(self) -> bool | None:
        """Whether predictions are compared with y: by a loss by name, or if there is nothing else to score them by.

        None if they are wherever their shapes allow it, as beside `loss_and_gradient`, for which a loss by name says no
        more than the scale of the predictions.
        """
        functions = functions_of(self)
        loss, has_own = functions["loss"], functions["loss_and_gradient"] is not None
        if is_function(loss):
            return False
        if loss is None:
            return False if has_own else None
        return None if has_own else True

    @lazily
    def predict(self, X: MatrixLike, **metadata: Any) -> Array:
        """Predict targets by applying the inverse link of the loss to the output of `forward`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions in the shape of the y passed to `fit`, or, if they do not fit that shape, as `forward`
            returned them.
        """
        return self._on_scale_of_y(self._predictions(X, metadata))

    def _on_scale_of_y(self, prediction: Array) -> Array:
        targets: Any = self._training.targets
        predicted: Array = targets.on_their_scale(prediction, self._training.objective.loss)
        return predicted

    @property
    def _link(self) -> str:
        loss = self._training.objective.loss
        return loss.link if loss is not None and loss.has_link else "identity"

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None, **metadata: Any) -> float:
        """Return D², the fraction of the loss explained by the predictions; R² for the squared error.

        For a loss of your own (a callable `loss`, or `loss_and_gradient`), return minus `mean_loss`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` and to a loss of your own if they name it.

        Returns
        -------
        score : float
            Larger is better. D² is 1 for perfect predictions and 0 for the best constant prediction: the mean for
            "squared_error", "poisson", "gamma" and "tweedie", the median for "absolute_error". Multiple outputs are
            averaged. The score of a single sample is NaN.

        Notes
        -----
        D² is defined as in :meth:`PoissonRegressor.score <sklearn.linear_model.PoissonRegressor.score>` and
        :func:`~sklearn.metrics.d2_absolute_error_score`. If ``loss=None``, the score is R². For a `Loss` object of
        your own without D² (see :class:`~sk_analytic.losses.Loss`), it is minus the mean loss.
        """
        check_is_fitted(self)
        training = self._training
        targets: Any = training.targets
        if targets.scores_by_loss:
            return -self.mean_loss(X, y, sample_weight, **metadata)
        y, sample_weight, prediction = map(on_host, in_memory(y, sample_weight, self._predicted(X, **metadata)))
        predicted = targets.as_outputs(prediction)
        assert_all_finite(predicted, input_name="prediction")
        y_true = read_y(y)
        check_consistent_length(y_true, predicted)
        y_true, predicted = match_target(y_true, predicted)
        weight, loss = score_weight(sample_weight, predicted), training.objective.loss
        if loss is not None:
            loss.check_domain(y_that_counts({"y": y_true}, weight)["y"])
        return float(targets.scorer(y_true, weight, loss)(predicted))
