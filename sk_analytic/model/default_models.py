"""The default models, which estimators use if no callables are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ..trust import trusted
from ..typing import Array, Grads, Pullback

Blocks: TypeAlias = dict[str, Array]  # a float of the user's structure is an array without dimensions here


def linear_init(n_features: int, n_outputs: int) -> dict[str, Any]:
    """Start a linear model at zero: ``coef`` of shape (n_features, [n_outputs]), ``intercept``."""
    shape = () if n_outputs == 1 else (n_outputs,)
    return {"coef": np.zeros((n_features, *shape)), "intercept": np.zeros(shape) if shape else 0.0}


def linear_forward(params: Blocks, X: Array) -> Array:
    """Return ``X @ coef + intercept``."""
    return X @ params["coef"] + params["intercept"]


def linear_vjp(params: Blocks, X: Array) -> tuple[Array, Pullback]:
    """Return the linear prediction and its pullback."""

    def pullback(d_prediction: Array) -> Grads:
        return {"coef": X.T @ d_prediction, "intercept": d_prediction.sum(axis=0)}

    return linear_forward(params, X), pullback


SMALLEST_SHARE = 1e-3  # of the data's overall scale: what the scale of a constant column is kept above


def gaussian_init(X: Array, sample_weight: Array | None = None) -> dict[str, Any]:
    """Start a diagonal Gaussian at its maximum likelihood.

    The third block, ``smallest_scale``, is data: it has no gradient. Columns that hardly vary (digits
    have constant ones) would otherwise send the likelihood to infinity.
    """
    mean = np.average(X, axis=0, weights=sample_weight)
    variance = np.average((X - mean) ** 2, axis=0, weights=sample_weight)
    smallest = SMALLEST_SHARE * (np.sqrt(variance.mean()) or 1.0)
    log_scale = 0.5 * np.log(np.maximum(variance - smallest**2, smallest**2))
    return {"mean": mean, "log_scale": log_scale, "smallest_scale": float(smallest)}


def _standardized(params: Blocks, X: Array) -> tuple[Array, Array, Array]:
    free = np.exp(2 * params["log_scale"])
    variance = free + params["smallest_scale"] ** 2
    return (X - params["mean"]) / np.sqrt(variance), variance, free


def _gaussian_log_density(z: Array, variance: Array) -> Array:
    log_density: Array = -0.5 * ((z * z).sum(axis=1) + np.log(2 * np.pi * variance).sum())
    return log_density


def gaussian_forward(params: Blocks, X: Array) -> Array:
    """Return the log-density of a Gaussian of variance ``exp(2 log_scale) + smallest_scale**2``."""
    z, variance, _ = _standardized(params, X)
    return _gaussian_log_density(z, variance)


def gaussian_vjp(params: Blocks, X: Array) -> tuple[Array, Pullback]:
    """Return the Gaussian log-density and its pullback."""
    z, variance, free = _standardized(params, X)

    def pullback(d_prediction: Array) -> Grads:
        by_log_scale = (d_prediction @ (z * z) - d_prediction.sum()) * free / variance
        return {"mean": d_prediction @ z / np.sqrt(variance), "log_scale": by_log_scale, "smallest_scale": None}

    return _gaussian_log_density(z, variance), pullback


def gaussian_sample(params: Blocks, n_samples: int, rng: np.random.Generator) -> Array:
    """Draw rows of the Gaussian."""
    scale = np.sqrt(np.exp(2 * params["log_scale"]) + params["smallest_scale"] ** 2)
    return rng.normal(params["mean"], scale, size=(n_samples, len(scale)))


def autoencoder_init(
    X: Array, n_features: int, rng: np.random.Generator, sample_weight: Array | None = None, n_components: int = 2
) -> dict[str, Any]:
    """Start a tied linear autoencoder at a random orthonormal basis.

    The ``mean`` of the rows is the best one whatever the basis, so it is data: it has no gradient. (Adam,
    which divides a gradient by its own size, would only shake it.)
    """
    n_components = min(n_components, n_features)
    components, _ = np.linalg.qr(rng.standard_normal((n_features, n_components)))
    return {"components": components, "mean": np.average(X, axis=0, weights=sample_weight)}


def autoencoder_forward(params: Blocks, X: Array) -> Array:
    """Return the codes ``(X - mean) @ components``."""
    return (X - params["mean"]) @ params["components"]


def autoencoder_inverse(params: Blocks, Z: Array) -> Array:
    """Return the rows that have the codes ``Z``."""
    return Z @ params["components"].T + params["mean"]


def autoencoder_loss_and_gradient(params: Blocks, X: Array, sample_weight: Array | None = None) -> tuple[float, Grads]:
    """Return half the squared error of reconstruction, ``(X - mean) @ components @ components.T``."""
    centered = X - params["mean"]
    components = params["components"]
    codes = centered @ components
    residual = codes @ components.T - centered
    weighted = residual if sample_weight is None else residual * sample_weight[:, None]
    n = X.shape[0]
    by_components = (centered.T @ (weighted @ components) + weighted.T @ codes) / n
    return 0.5 * float((weighted * residual).sum()) / n, {"components": by_components, "mean": None}


LINEAR: dict[str, Callable[..., Any]] = {"init": linear_init, "forward": linear_forward, "vjp": linear_vjp}
GAUSSIAN: dict[str, Callable[..., Any]] = {
    "init": gaussian_init,
    "forward": gaussian_forward,
    "vjp": gaussian_vjp,
    "sample": gaussian_sample,
}
AUTOENCODER: dict[str, Callable[..., Any]] = {
    "init": autoencoder_init,
    "forward": autoencoder_forward,
    "loss_and_gradient": autoencoder_loss_and_gradient,
    "inverse": autoencoder_inverse,
}
for _model in (LINEAR, GAUSSIAN, AUTOENCODER):
    for _function in _model.values():
        trusted(_function)
