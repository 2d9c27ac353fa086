"""Density estimation: no targets, the prediction is a log-density."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..exceptions import ParameterStructureError
from ..losses import Loss
from ..model.default_models import GAUSSIAN
from ..optimizers.base import Optimizer
from ..optimizers.phases import Phases
from ..optimizers.scipy_methods import FullBatch
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
from .data import read_weight
from .settings import shares_parameters
from .untargeted import UntargetedEstimator


@shares_parameters(
    forward="the log-density of each row, (n,), in nats",
    default="a diagonal Gaussian (``mean``, ``log_scale``)",
    score="mean log-density",
)
class AnalyticDensity(UntargetedEstimator):
    """Density estimation by a model whose gradient was derived by hand.

    Without callables it is a Gaussian with a diagonal covariance, its scales kept above a thousandth of
    the data's.

    {shared}

    Examples
    --------
    An exponential distribution, the gradient of its mean negative log-likelihood by hand:

    >>> import numpy as np
    >>> from sk_analytic import AnalyticDensity
    >>> def forward(params, X):
    ...     return params["log_rate"] - np.exp(params["log_rate"]) * X[:, 0]
    >>> def gradient(params, X):
    ...     return {"log_rate": np.exp(params["log_rate"]) * X.mean() - 1}
    >>> X = np.array([[0.5], [1.5], [0.2], [1.8]])
    >>> model = AnalyticDensity(forward, gradient, init={"log_rate": 1.0}, optimizer="lbfgs")
    >>> round(model.fit(X).params_["log_rate"], 4) + 0.0
    0.0
    """

    _default_model = GAUSSIAN

    def __init__(
        self,
        forward: Forward | None = None,
        gradient: Gradient | None = None,
        init: Params | Callable[..., Params] | None = None,
        *,
        loss_and_gradient: LossAndGradient | None = None,
        vjp: Vjp | None = None,
        jacobian: Jacobian | None = None,
        loss: str | Loss | LossFunction | None = "negative_log_likelihood",
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

    def _check_prediction(self, prediction: Array) -> Array:
        if prediction.ndim != 1:
            raise ParameterStructureError(
                f"forward returned shape {prediction.shape}; a density has one log-density a row, ({len(prediction)},)."
            )
        return prediction

    def score_samples(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the log-density of each row, in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Of X's dtype if that is floating. `score` is its mean.
        """
        return self._predictions(X, metadata)

    def score(
        self, X: MatrixLike, y: object | None = None, sample_weight: ArrayLike | None = None, **metadata: Any
    ) -> float:
        """Return the mean log-density of the rows, in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : None, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        score : float
            Larger is better.
        """
        log_density = self.score_samples(X, **metadata)
        weight = read_weight(sample_weight, log_density)
        if weight is not None and not weight.any():
            raise ValueError("sample_weight is zero in every row: there is nothing to average.")
        return float(np.average(log_density, weights=weight))

    def _score_of(self, prediction: Array, y: Any, sample_weight: Array | None) -> float:
        return float(np.average(prediction, weights=sample_weight))
