"""Regression: targets are floats, predictions go through the inverse of the loss's link."""

from __future__ import annotations

from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from ..data.weights import Weights
from ..model.callables import is_function
from ..model.default_models import LINEAR
from ..model.roles import functions_of
from ..typing import Array, MatrixLike
from .base import AnalyticEstimator
from .coefficients import coefficients, intercepts
from .samples import read_weight, read_X_and_y, score_weight
from .settings import in_batches, shares_parameters
from .targets import RegressionTargets, Targets


@shares_parameters(
    forward="(n,) or (n, k), on the loss's link scale: logarithms of the mean for poisson, say",
    default='linear, ``X @ params["coef"] + params["intercept"]``',
    score="R²",
    attributes="""
    n_outputs_ : int
        Columns or fields of y.
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Coefficients; there only where no callables are given.
    intercept_ : float or ndarray of shape (n_outputs,)
        Likewise.""",
)
class AnalyticRegressor(RegressorMixin, AnalyticEstimator):
    """Regression by a model whose gradient was derived by hand.

    Without callables it is linear regression.

    {shared}

    Examples
    --------
    A curve with three parameters, its derivative by each given as a Jacobian:

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
    >>> model = AnalyticRegressor(forward, jacobian=jacobian, init=start, optimizer="lbfgs", tol=1e-8)
    >>> {name: round(value, 3) for name, value in model.fit(X, y).params_.items()}
    {'height': 2.0, 'rate': 1.5, 'floor': 0.5}
    """

    _default_model = LINEAR
    _default_takes_sparse = True

    coef_ = property(coefficients, doc="Coefficients of the default linear model, in scikit-learn's shape.")
    intercept_ = property(intercepts, doc="Intercept of the default linear model, in scikit-learn's shape.")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

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
            Rows; float32 and float64 are kept, everything else becomes float64.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets: finite numbers, which become floats of X's dtype. For a loss of your own (``loss`` a function or
            None, or ``loss_and_gradient``) they need not have the shape of the predictions, may have more axes,
            and may be a structured array, whose fields keep their dtypes and values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, scaled to mean 1: they count like repeated rows.
        X_val : array-like of shape (n_val, n_features), default=None
            Rows to score after each epoch with ``early_stopping=True``, in place of rows held out here. A
            pipeline transforms them as X with ``transform_input=["X_val"]``.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, for the callables that name it: ``exposure=...``, and with X_val
            ``exposure_val=...`` too.

        Returns
        -------
        self : AnalyticRegressor
            This estimator, trained.

        Raises
        ------
        GradientCheckError
            If the analytic gradient is plainly not the derivative of the loss.
        DivergenceError
            If a loss or gradient is not finite; ``params_`` are the last finite ones.
        """
        return self._fit_arrays(X, y, sample_weight, metadata, (X_val, y_val, sample_weight_val))

    @in_batches
    def partial_fit(  # type: ignore[override]
        self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None, **metadata: Any
    ) -> Self:
        """Train for one pass over some rows, going on from where the model is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets, as in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, taken as they are: a row of weight 2 counts as two.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, for the callables that name it.

        Returns
        -------
        self : AnalyticRegressor
            This estimator.
        """
        return self._partial_fit_arrays(X, y, sample_weight, metadata)

    def _read(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, known: Any = None
    ) -> tuple[Any, dict[str, Array], Weights | None, Targets]:
        compared = self._compares()
        X, y = read_X_and_y(self, X, y, reset=reset, compared=compared)
        return X, {"y": y}, read_weight(sample_weight, X), RegressionTargets.read(y, known, compared)

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

    def predict(self, X: MatrixLike, **metadata: Any) -> Array:
        """Predict the targets: `forward`, with the inverse of the loss's link.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the shape that y had in `fit`; what `forward` returned if that goes with no such shape.
        """
        prediction = self._predictions(X, metadata)
        targets: Any = self._training.targets
        return_value: Array = targets.on_their_scale(prediction, self._training.objective.loss)
        return return_value

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None, **metadata: Any) -> float:
        """Return R² of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        score : float
            1 for perfect predictions, 0 for those of the mean; the average over several outputs.
        """
        predicted = self.predict(X, **metadata)
        return float(r2_score(y, predicted, sample_weight=score_weight(sample_weight, predicted)))
