"""Models as a careful scientist writes them in NumPy, and data to fit them to.

The same callables serve our estimators and the bare loop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits


class Callables(NamedTuple):
    """A model in the forms that the library takes."""

    forward: Callable
    loss_and_gradient: Callable
    vjp: Callable


@dataclass(frozen=True)
class Problem:
    """Data, a model and a starting point: what every side of a comparison gets."""

    name: str
    X: np.ndarray
    y: np.ndarray
    start: tuple
    model: Callables
    n_classes: int = 0
    batch_size: int = 200
    epochs: int = 5
    rate: float = 1e-3

    def loss(self, params):
        """Return the mean loss over all rows, in float64."""
        params = tuple(np.asarray(block, dtype=float) for block in params)
        return float(self.model.loss_and_gradient(params, self.X.astype(float), self.y)[0])


# A network of one hidden layer, relu, as MLPRegressor and MLPClassifier have it.


def relu_layer(X, W, b):
    """Return a hidden layer."""
    hidden = X @ W
    hidden += b
    return np.maximum(hidden, 0, out=hidden)


def outer(d, v):
    """Return the products of a column and a row: by BLAS, in half the time of broadcasting."""
    return np.dot(d[:, None], v[None, :])


def column_sums(rows):
    """Return the sum of each column: by BLAS, which is faster than ``sum(axis=0)`` for narrow rows."""
    return np.ones(len(rows), rows.dtype) @ rows


def network_forward(params, X):
    """Return the network's outputs."""
    W, b, V, c = params
    return relu_layer(X, W, b) @ V + c


def network_vjp(params, X):
    """Return the outputs and their pullback."""
    W, b, V, c = params
    hidden = relu_layer(X, W, b)

    def pullback(d):
        d_hidden = outer(d, V) if d.ndim == 1 else d @ V.T
        d_hidden *= hidden > 0
        return X.T @ d_hidden, column_sums(d_hidden), hidden.T @ d, column_sums(d)

    return hidden @ V + c, pullback


def half_squared_error(y, prediction):
    """Return the mean and its derivative."""
    residual = prediction - y
    n = len(y)
    return residual @ residual / (2 * n), residual / n


def cross_entropy(y, scores):
    """Return the mean cross-entropy of softmax and its derivative; the scores are shifted in place."""
    n = len(y)
    rows = np.arange(n)
    scores -= scores.max(axis=1, keepdims=True)
    shares = np.exp(scores)
    total = shares.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - scores[rows, y])
    shares /= total
    shares[rows, y] -= 1
    shares /= n
    return loss, shares


def network_regression(params, X, y):
    """Return half the mean squared error and its gradient."""
    prediction, pullback = network_vjp(params, X)
    loss, d = half_squared_error(y, prediction)
    return loss, pullback(d)


def network_classification(params, X, y):
    """Return the mean cross-entropy and its gradient."""
    scores, pullback = network_vjp(params, X)
    loss, d = cross_entropy(y, scores)
    return loss, pullback(d)


# The same with two hidden layers, for θ of any size.


def deep_forward(params, X):
    """Return the network's output."""
    W1, b1, W2, b2, v, c = params
    return relu_layer(relu_layer(X, W1, b1), W2, b2) @ v + c


def deep_vjp(params, X):
    """Return the output and its pullback."""
    W1, b1, W2, b2, v, c = params
    first = relu_layer(X, W1, b1)
    second = relu_layer(first, W2, b2)

    def pullback(d):
        d_second = outer(d, v)
        d_second *= second > 0
        d_first = d_second @ W2.T
        d_first *= first > 0
        return (
            X.T @ d_first,
            column_sums(d_first),
            first.T @ d_second,
            column_sums(d_second),
            second.T @ d,
            d.sum(),
        )

    return second @ v + c, pullback


def deep_regression(params, X, y):
    """Return half the mean squared error and its gradient."""
    prediction, pullback = deep_vjp(params, X)
    loss, d = half_squared_error(y, prediction)
    return loss, pullback(d)


# Linear regression.


def linear_forward(params, X):
    """Return the prediction."""
    w, b = params
    return X @ w + b


def linear_vjp(params, X):
    """Return the prediction and its pullback."""
    w, b = params
    return X @ w + b, lambda d: (X.T @ d, d.sum())


def linear_regression(params, X, y):
    """Return half the mean squared error and its gradient."""
    w, b = params
    residual = X @ w + b - y
    n = len(y)
    return residual @ residual / (2 * n), (X.T @ residual / n, residual.mean())


REGRESSION_NETWORK = Callables(network_forward, network_regression, network_vjp)
CLASSIFICATION_NETWORK = Callables(network_forward, network_classification, network_vjp)
DEEP_NETWORK = Callables(deep_forward, deep_regression, deep_vjp)
LINEAR = Callables(linear_forward, linear_regression, linear_vjp)


# Data and starting points.


def smooth_data(n, d, dtype, seed=0):
    """Return rows, and targets that a small network can learn."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    direction, other = rng.standard_normal((2, d)) / np.sqrt(d)
    y = np.sin(2 * (X @ direction)) + 0.5 * (X @ other) + 0.1 * rng.standard_normal(n)
    return X, y.astype(dtype)


def digits_data(dtype):
    """Return scikit-learn's digits, scaled to [0, 1]."""
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(dtype), y


def glorot(sizes, dtype, seed=0, factor=6.0):
    """Return weights and biases, layer by layer, as scikit-learn's MLP draws them from this seed."""
    rng = np.random.RandomState(seed)
    blocks = []
    for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
        bound = np.sqrt(factor / (fan_in + fan_out))
        blocks.append(rng.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
        blocks.append(rng.uniform(-bound, bound, fan_out).astype(dtype))
    return blocks


def regression_problem(n, dtype, *, d=20, hidden=64, **settings):
    """Return a regression by a network of one hidden layer."""
    X, y = smooth_data(n, d, dtype)
    W, b, V, c = glorot([d, hidden, 1], dtype)
    return Problem("regression", X, y, (W, b, V[:, 0].copy(), c[0]), REGRESSION_NETWORK, **settings)


def digits_problem(dtype, *, hidden=64, **settings):
    """Return the classification of digits by a network of one hidden layer."""
    X, y = digits_data(dtype)
    start = tuple(glorot([X.shape[1], hidden, 10], dtype))
    return Problem("digits", X, y, start, CLASSIFICATION_NETWORK, n_classes=10, **settings)


def problem_of_size(size, n, dtype, **settings):
    """Return a regression whose θ has about `size` entries: linear up to 100, else two equal hidden layers."""
    if size <= 100:
        d = max(1, size - 1)
        X, y = smooth_data(n, d, dtype)
        return Problem("linear", X, y, (np.zeros(d, dtype), np.zeros((), dtype)), LINEAR, **settings)
    d = 20
    hidden = max(1, round((-(d + 3) + np.sqrt((d + 3) ** 2 + 4 * (size - 1))) / 2))
    X, y = smooth_data(n, d, dtype)
    W1, b1, W2, b2, V, c = glorot([d, hidden, hidden, 1], dtype)
    return Problem("network", X, y, (W1, b1, W2, b2, V[:, 0].copy(), c[0]), DEEP_NETWORK, **settings)


def count(params: Any):
    """Return the number of entries of θ."""
    return sum(np.size(block) for block in params)
