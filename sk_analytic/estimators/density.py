"""Density estimation: no targets, the prediction is a log-density."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..dask_collections import in_memory
from ..data.batch import SAMPLE, Batch
from ..elsewhere import on_host
from ..losses import Loss
from ..model.default_models import GAUSSIAN
from ..typing import Array, LossFunction, MatrixLike, RandomState
from ..validation import Interval, check_range
from .base import AnalyticEstimator
from .lazy import lazily
from .problem import draw_seed
from .samples import score_weight
from .settings import shares_parameters, where_given
from .targets import DensityTargets, Targets


@shares_parameters(
    forward="log-density of each sample, of shape (n,), in nats",
    default="a diagonal Gaussian (``mean``, ``log_scale``)",
    score="the mean log-density",
    parameters="""
    sampler : callable, default=None
        ``sampler(params, n_samples, rng) -> X`` draws the samples that `sample` returns. A model object has a method
        ``sample`` instead.""",
)
class AnalyticDensity(AnalyticEstimator):
    """Density estimation with a model whose gradient you derived by hand.

    Without callables it is a Gaussian with a diagonal covariance, whose scales are kept above a thousandth of
    the scale of the data.

    {shared}

    Examples
    --------
    Fit an exponential distribution with a hand-written gradient of its mean negative log-likelihood:

    >>> import numpy as np
    >>> from sk_analytic import AnalyticDensity
    >>> def forward(params, X):
    ...     return params["log_rate"] - np.exp(params["log_rate"]) * X[:, 0]
    >>> def gradient(params, X):
    ...     return {"log_rate": np.exp(params["log_rate"]) * X.mean() - 1}
    >>> X = np.array([[0.5], [1.5], [0.2], [1.8]])
    >>> model = AnalyticDensity(
    ...     forward, gradient, init={"log_rate": 1.0}, optimizer="lbfgs"
    ... )
    >>> round(model.fit(X).params_["log_rate"], 4) + 0.0
    0.0

    Pass a `sampler` to draw samples from the fitted density:

    >>> def sampler(params, n_samples, rng):
    ...     return rng.exponential(np.exp(-params["log_rate"]), size=(n_samples, 1))
    >>> model.set_params(sampler=sampler).fit(X).sample(1000, random_state=0).mean().round(
    ...     1
    ... )
    np.float64(1.0)
    """

    _default_model = GAUSSIAN

    def __init__(
        self,
        *args: Any,
        loss: str | Loss | LossFunction | None = "negative_log_likelihood",
        sampler: Callable[..., ArrayLike] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*args, loss=loss, **settings)
        self.sampler = sampler

    def _new_targets(self) -> Targets:
        return DensityTargets()

    @lazily
    def score_samples(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the log-density of each sample, in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Log-densities, in the dtype of X if that is floating. `score` returns their mean.
        """
        return self._predictions(X, metadata)

    @where_given("sample")
    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> Array:
        """Draw samples from the density.

        Available for the default Gaussian, a model object with a method ``sample``, and callables with a `sampler`.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples to draw.
        random_state : int, RandomState instance or None, default=None
            Seed of the ``rng`` that the sampler receives. Pass an int for reproducible samples.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Samples, in the dtype of the parameters.

        Raises
        ------
        ParameterStructureError
            If the sampler returns an array of another shape.
        """
        check_is_fitted(self)
        check_range(type(self).__name__, "n_samples", n_samples, Interval(1, np.inf, integral=True))
        position = (draw_seed(random_state), SAMPLE, 0, 0)
        asked: dict[str, Any] = {"n_samples": int(n_samples)}
        batch = Batch(np.empty((n_samples, 0)), asked, position=position)
        return self._rows_of("sample", batch)

    def score(
        self, X: MatrixLike, y: object | None = None, sample_weight: ArrayLike | None = None, **metadata: Any
    ) -> float:
        """Return the mean log-density of the samples, in nats.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : None, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        score : float
            Larger is better.
        """
        sample_weight, log_density = map(on_host, in_memory(sample_weight, self.score_samples(X, **metadata)))
        return float(np.average(log_density, weights=score_weight(sample_weight, log_density)))
