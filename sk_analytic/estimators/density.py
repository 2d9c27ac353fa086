"""Density estimation: no targets, the prediction is a log-density."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..model.default_models import GAUSSIAN
from ..typing import Array, MatrixLike
from .base import AnalyticEstimator
from .samples import score_weight
from .settings import shares_parameters
from .targets import DensityTargets, Targets


@shares_parameters(
    loss="negative_log_likelihood",
    forward="the log-density of each row, (n,), in nats",
    default="a diagonal Gaussian (``mean``, ``log_scale``)",
    score="mean log-density",
)
class AnalyticDensity(AnalyticEstimator):
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

    def _new_targets(self) -> Targets:
        return DensityTargets()

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
        return float(np.average(log_density, weights=score_weight(sample_weight, log_density)))
