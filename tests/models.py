"""Models as a user would bring them: functions of a module, or objects, with gradients derived by hand.

``USER_MODELS[AnalyticRegressor]["vjp"]`` holds the arguments of an estimator. Between them they have all four
gradient forms, parameters as dict, tuple, list, named tuple and single array, several outputs, sample weights,
model parameters, both reductions, and leaves without a gradient. All of them take a sparse X. ``MODEL_OBJECTS``
holds the same models as objects.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, logsumexp, softmax

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer, Model


def dense(X):
    """X as an array: for what a sparse matrix has no operation for."""
    return X.toarray() if issparse(X) else X


def shares(X, sample_weight):
    """What each row contributes to the mean over rows, as a column."""
    n = X.shape[0]
    return np.full((n, 1), 1 / n, X.dtype) if sample_weight is None else sample_weight[:, None] / n


# Linear: a dict. Its gradients have their keys in another order, which is allowed.


def linear_init(n_features, n_outputs):
    return {"W": np.zeros((n_features, n_outputs)), "b": np.zeros(n_outputs)}


def linear_forward(params, X):
    return X @ params["W"] + params["b"]


def linear_vjp(params, X):
    def pullback(d):
        return {"b": d.sum(axis=0), "W": X.T @ d}

    return linear_forward(params, X), pullback


def linear_jacobian(params, X):
    each = np.eye(len(params["b"]))
    return {"b": np.broadcast_to(each, (X.shape[0], *each.shape)), "W": np.einsum("if,jk->ijfk", dense(X), each)}


def linear_squared_error(params, X, y, sample_weight=None):
    """Loss and gradient of half the squared error, summed over outputs."""
    residual = linear_forward(params, X) - y.reshape(X.shape[0], -1)
    d = shares(X, sample_weight) * residual
    return 0.5 * float((d * residual).sum()), linear_vjp(params, X)[1](d)


def linear_loss(params, X, y, sample_weight=None):
    return linear_squared_error(params, X, y, sample_weight)[0]


def linear_gradient(params, X, y, sample_weight=None):
    return linear_squared_error(params, X, y, sample_weight)[1]


def linear_sum_gradient(params, X, y, sample_weight):
    """The gradient of the sum over rows, for ``reduction="sum"``."""
    return {name: X.shape[0] * leaf for name, leaf in linear_gradient(params, X, y, sample_weight).items()}


# Linear, in other parameters: a single vector, and scikit-learn's names for any number of outputs.


def vector_forward(params, X):
    return X @ params


def vector_gradient(params, X, y):
    """Gradient of half the mean squared error."""
    return X.T @ (vector_forward(params, X) - y) / len(X)


def coef_forward(params, X):
    return X @ params["coef"] + params["intercept"]


def coef_pull(X, d):
    return {"coef": X.T @ d, "intercept": d.sum(axis=0)}


def coef_vjp(params, X):
    return coef_forward(params, X), lambda d: coef_pull(X, d)


def coef_jacobian(params, X):
    each = np.ones(()) if np.ndim(params["intercept"]) == 0 else np.eye(len(params["intercept"]))
    axes = "if,->if" if each.ndim == 0 else "if,jk->ijfk"
    return {"coef": np.einsum(axes, X, each), "intercept": np.broadcast_to(each, (len(X), *each.shape))}


# Counts with an exposure: its logarithm is added to a linear score. Poisson regression of rates with the exposure as
# weight has the same maximum.


def rates_init(n_features):
    return {"w": np.zeros(n_features), "b": 0.0}


def rates_forward(params, X, exposure):
    return X @ params["w"] + params["b"] + np.log(exposure)


def rates_vjp(params, X, exposure):
    return rates_forward(params, X, exposure), lambda d: {"w": X.T @ d, "b": d.sum()}


def rates_jacobian(params, X):
    return {"w": X, "b": np.ones(len(X))}


def rates_loss_and_gradient(params, X, y, exposure, sample_weight):
    score, pullback = rates_vjp(params, X, exposure)
    mean = np.exp(score)
    return float(np.mean(sample_weight * (mean - y * score))), pullback(sample_weight * (mean - y) / len(X))


def rates_gradient(params, X, y, exposure, sample_weight):
    return rates_loss_and_gradient(params, X, y, exposure, sample_weight)[1]


def rates_loss(params, X, y, exposure, sample_weight):
    return rates_loss_and_gradient(params, X, y, exposure, sample_weight)[0]


# One hidden layer: a tuple.


def network_init(n_features, n_outputs, rng, n_hidden=5):
    V = rng.normal(size=(n_features, n_hidden)) / np.sqrt(n_features)
    W = rng.normal(size=(n_hidden, n_outputs)) / np.sqrt(n_hidden)
    return V, np.zeros(n_hidden), W, np.zeros(n_outputs)


def network_forward(params, X):
    V, a, W, b = params
    return np.tanh(X @ V + a) @ W + b


def network_vjp(params, X):
    V, a, W, b = params
    h = np.tanh(X @ V + a)

    def pullback(d):
        da = (d @ W.T) * (1 - h * h)
        return X.T @ da, da.sum(axis=0), h.T @ d, d.sum(axis=0)

    return h @ W + b, pullback


def network_squared_error(params, X, y, sample_weight=None):
    prediction, pullback = network_vjp(params, X)
    residual = prediction - y.reshape(X.shape[0], -1)
    d = shares(X, sample_weight) * residual
    return 0.5 * float((d * residual).sum()), pullback(d)


# Classes from scores: one column for two classes, K for K classes or K labels.


def log_loss(scores, y):
    """Loss of each row, as a column, and its derivative in the scores."""
    if scores.shape[1] == 1 or y.ndim == 2:
        y = y.reshape(len(scores), -1)
        return (np.logaddexp(0, scores) - y * scores).sum(axis=1, keepdims=True), expit(scores) - y
    rows = np.arange(len(y))
    loss = logsumexp(scores, axis=1) - scores[rows, y]
    d = softmax(scores, axis=1)
    d[rows, y] -= 1
    return loss[:, None], d


def linear_log_loss_gradient(params, X, y, sample_weight=None):
    scores, pullback = linear_vjp(params, X)
    return pullback(shares(X, sample_weight) * log_loss(scores, y)[1])


def network_log_loss(params, X, y, sample_weight=None):
    scores, pullback = network_vjp(params, X)
    loss, d = log_loss(scores, y)
    share = shares(X, sample_weight)
    return float((share * loss).sum()), pullback(share * d)


# Densities, the same for every column: a named tuple for the logistic, one array for the Gaussian. A scale is
# kept above `smallest`, so that one row or a constant column has a likelihood.


class Location(NamedTuple):
    mean: np.ndarray
    log_scale: np.ndarray


def logistic_init(X, sample_weight=None):
    mean = np.average(dense(X), axis=0, weights=sample_weight)
    return Location(mean, np.zeros_like(mean))


def logistic_forward(params, X, smallest):
    scale = np.exp(params.log_scale) + smallest
    z = np.abs(dense(X) - params.mean) / scale
    return -(z + 2 * np.log1p(np.exp(-z)) + np.log(scale)).sum(axis=1)


def logistic_jacobian(params, X, smallest):
    free = np.exp(params.log_scale)
    scale = free + smallest
    z = (dense(X) - params.mean) / scale
    slope = np.tanh(z / 2)
    return Location(mean=slope / scale, log_scale=(z * slope - 1) * free / scale)


def logistic_vjp(params, X, smallest):
    jacobian = logistic_jacobian(params, X, smallest)
    return logistic_forward(params, X, smallest), lambda d: Location(*(d @ leaf for leaf in jacobian))


def logistic_negative_log_likelihood(params, X, smallest, sample_weight=None):
    log_density, pullback = logistic_vjp(params, X, smallest)
    share = shares(X, sample_weight)[:, 0]
    return -float(share @ log_density), pullback(-share)


def gaussian_init(X, sample_weight=None):
    mean = np.average(dense(X), axis=0, weights=sample_weight)
    return np.stack([mean + 0.5, np.zeros_like(mean)])


def gaussian_forward(params, X, smallest):
    mean, log_scale = params
    variance = np.exp(2 * log_scale) + smallest**2
    return -0.5 * ((dense(X) - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)


def gaussian_gradient(params, X, smallest, sample_weight=None):
    """Gradient of the mean negative log-density."""
    mean, log_scale = params
    free = np.exp(2 * log_scale)
    variance = free + smallest**2
    share = shares(X, sample_weight)
    centered = dense(X) - mean
    by_mean = -share * centered / variance
    by_log_scale = share * (1 - centered**2 / variance) * free / variance
    return np.stack([by_mean.sum(axis=0), by_log_scale.sum(axis=0)])


# An autoencoder: a list of encoder, decoder and the mean of the data, which is not trained.


def autoencoder_init(X, n_features, rng, sample_weight=None, n_components=2):
    encoder, decoder = rng.normal(size=(2, n_features, n_components)) / np.sqrt(n_features)
    return [encoder, decoder, np.average(dense(X), axis=0, weights=sample_weight)]


def autoencoder_forward(params, X):
    encoder, _, mean = params
    return (dense(X) - mean) @ encoder


def autoencoder_loss(params, X, sample_weight=None):
    return autoencoder_loss_and_gradient(params, X, sample_weight)[0]


def autoencoder_gradient(params, X, sample_weight=None):
    return autoencoder_loss_and_gradient(params, X, sample_weight)[1]


def autoencoder_loss_and_gradient(params, X, sample_weight=None):
    """Half the squared error of reconstruction, and its gradient."""
    encoder, decoder, mean = params
    centered = dense(X) - mean
    codes = centered @ encoder
    residual = codes @ decoder.T - centered
    d = shares(X, sample_weight) * residual
    return 0.5 * float((d * residual).sum()), [centered.T @ (d @ decoder), d.T @ codes, None]


_linear = {"forward": linear_forward, "init": linear_init}
_network = {"forward": network_forward, "init": network_init, "alpha": 0.1}
_logistic = {"forward": logistic_forward, "init": logistic_init, "model_params": {"smallest": 0.01}}
_gaussian = {"forward": gaussian_forward, "init": gaussian_init, "model_params": {"smallest": 0.01}}
_autoencoder = {"forward": autoencoder_forward, "init": autoencoder_init}

USER_MODELS: dict[type, dict[str, dict]] = {
    AnalyticRegressor: {
        "gradient": _linear | {"gradient": linear_sum_gradient, "reduction": "sum"},
        "loss_and_gradient": _network | {"loss_and_gradient": network_squared_error},
        "vjp": _network | {"vjp": network_vjp, "model_params": {"n_hidden": 3}},
        "jacobian": _linear | {"jacobian": linear_jacobian},
    },
    AnalyticClassifier: {
        "gradient": _linear | {"gradient": linear_log_loss_gradient},
        "loss_and_gradient": _network | {"loss_and_gradient": network_log_loss},
        "vjp": {"init": linear_init, "vjp": linear_vjp},
        "jacobian": _linear | {"jacobian": linear_jacobian},
    },
    AnalyticDensity: {
        "gradient": _gaussian | {"gradient": gaussian_gradient},
        "loss_and_gradient": _logistic | {"loss_and_gradient": logistic_negative_log_likelihood},
        "vjp": _logistic | {"vjp": logistic_vjp},
        "jacobian": _logistic | {"jacobian": logistic_jacobian},
    },
    AnalyticTransformer: {
        "gradient": _autoencoder | {"gradient": autoencoder_gradient, "loss": autoencoder_loss},
        "loss_and_gradient": _autoencoder | {"loss_and_gradient": autoencoder_loss_and_gradient},
    },
}
for _forms in USER_MODELS.values():
    for _model in _forms.values():
        _model["accept_sparse"] = True


class NeedsArrays:
    """A function that cannot work with sparse rows, as one with ``X * w`` and ``len(X)`` cannot."""

    def __init__(self, function):
        self.__wrapped__ = function  # where `inspect.signature` finds the arguments

    def __call__(self, *args, **named):
        if any(map(issparse, [*args, *named.values()])):
            raise AssertionError("a sparse matrix has come to a function that needs arrays")
        return self.__wrapped__(*args, **named)


def needing_arrays(model):
    """The same model, of functions that need arrays, which they do not declare: they are as most functions are."""
    wrapped = {name: NeedsArrays(value) if callable(value) else value for name, value in model.items()}
    return {name: value for name, value in wrapped.items() if name != "accept_sparse"}


# The same as classes. What was among the model parameters is a hyperparameter.


class LinearModel(Model):
    accept_sparse = True
    init = staticmethod(linear_init)
    forward = staticmethod(linear_forward)


class LinearByGradient(LinearModel):
    gradient = staticmethod(linear_gradient)


class LinearByLogLoss(LinearModel):
    gradient = staticmethod(linear_log_loss_gradient)


class LinearByJacobian(LinearModel):
    jacobian = staticmethod(linear_jacobian)


class LinearByVjp(Model):
    """Without `forward`, which its vjp replaces."""

    accept_sparse = True
    init = staticmethod(linear_init)
    vjp = staticmethod(linear_vjp)


class NetworkModel(Model):
    accept_sparse = True

    def __init__(self, n_hidden=5):
        self.n_hidden = n_hidden

    def init(self, n_features, n_outputs, rng):
        return network_init(n_features, n_outputs, rng, self.n_hidden)

    def forward(self, params, X):
        return network_forward(params, X)


class NetworkBySquaredError(NetworkModel):
    def loss_and_gradient(self, params, X, y, sample_weight=None):
        return network_squared_error(params, X, y, sample_weight)


class NetworkByLogLoss(NetworkModel):
    def loss_and_gradient(self, params, X, y, sample_weight=None):
        return network_log_loss(params, X, y, sample_weight)


class NetworkByVjp(NetworkModel):
    def vjp(self, params, X):
        return network_vjp(params, X)


class LogisticModel(Model):
    accept_sparse = True

    def __init__(self, smallest=0.01):
        self.smallest = smallest

    def init(self, X, sample_weight=None):
        return logistic_init(X, sample_weight)

    def forward(self, params, X):
        return logistic_forward(params, X, self.smallest)

    def sample(self, params, n_samples, rng):
        return rng.logistic(params.mean, np.exp(params.log_scale) + self.smallest, size=(n_samples, len(params.mean)))


class LogisticByLikelihood(LogisticModel):
    def loss_and_gradient(self, params, X, sample_weight=None):
        return logistic_negative_log_likelihood(params, X, self.smallest, sample_weight)


class LogisticByVjp(LogisticModel):
    def vjp(self, params, X):
        return logistic_vjp(params, X, self.smallest)


class LogisticByJacobian(LogisticModel):
    def jacobian(self, params, X):
        return logistic_jacobian(params, X, self.smallest)


class GaussianByGradient(Model):
    accept_sparse = True

    def __init__(self, smallest=0.01):
        self.smallest = smallest

    def init(self, X, sample_weight=None):
        return gaussian_init(X, sample_weight)

    def forward(self, params, X):
        return gaussian_forward(params, X, self.smallest)

    def gradient(self, params, X, sample_weight=None):
        return gaussian_gradient(params, X, self.smallest, sample_weight)


class AutoencoderModel(Model):
    accept_sparse = True

    def __init__(self, n_components=2):
        self.n_components = n_components

    def init(self, X, n_features, rng, sample_weight=None):
        return autoencoder_init(X, n_features, rng, sample_weight, self.n_components)

    def forward(self, params, X):
        return autoencoder_forward(params, X)

    def inverse(self, params, Z):
        _, decoder, mean = params
        return Z @ decoder.T + mean


class AutoencoderByGradient(AutoencoderModel):
    gradient = staticmethod(autoencoder_gradient)
    loss = staticmethod(autoencoder_loss)


class AutoencoderByLossAndGradient(AutoencoderModel):
    loss_and_gradient = staticmethod(autoencoder_loss_and_gradient)


MODEL_OBJECTS: dict[type, dict[str, dict]] = {
    AnalyticRegressor: {
        "gradient": {"model": LinearByGradient()},
        "loss_and_gradient": {"model": NetworkBySquaredError(), "alpha": 0.1},
        "vjp": {"model": NetworkByVjp(n_hidden=3), "alpha": 0.1},
        "jacobian": {"model": LinearByJacobian()},
    },
    AnalyticClassifier: {
        "gradient": {"model": LinearByLogLoss()},
        "loss_and_gradient": {"model": NetworkByLogLoss(), "alpha": 0.1},
        "vjp": {"model": LinearByVjp()},
        "jacobian": {"model": LinearByJacobian()},
    },
    AnalyticDensity: {
        "gradient": {"model": GaussianByGradient()},
        "loss_and_gradient": {"model": LogisticByLikelihood()},
        "vjp": {"model": LogisticByVjp()},
        "jacobian": {"model": LogisticByJacobian()},
    },
    AnalyticTransformer: {
        "gradient": {"model": AutoencoderByGradient()},
        "loss_and_gradient": {"model": AutoencoderByLossAndGradient()},
    },
}
