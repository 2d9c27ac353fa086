"""Compiled epochs: a gradient that is a function of numba, beside the interpreter's loop, jax, and scikit-learn.

Logistic regression and a network of 64 units on 20 features, whole fits of several epochs. ``sample`` is the gradient
of one sample, written in place.
"""

import math
import sys

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPRegressor

from sk_analytic import AnalyticClassifier, AnalyticRegressor
from sk_analytic.optimizers import SGD, Adam

from . import peers
from .figures import Figure
from .ours import on_engine, order
from .timing import compare

ROW = "compiled"
N_FEATURES, N_UNITS, RATE = 20, 64, 1e-3
N_STEPS = 60_000  # in a fit of batches of 1, fewer of larger ones
LOOP = {1: 1 / 5, 32: 1 / 2.5, 200: 1 / 1.3}
JAX = {("logistic", 32): 0.6, ("network", 32): 0.7, ("network", 200): 0.8, ("network", 1000): 0.95}
MLP = {32: 1 / 14, 200: 1 / 6, 1000: 1 / 3.5}


def measure(options):
    """Yield a figure for each model, batch size, dtype and peer."""
    if peers.find("numba") is None:
        yield Figure(ROW, "all", note=peers.why_missing("numba"))
        return
    for dtype in map(np.dtype, options.dtypes):
        if options.picks("sample") and options.meets("SGDClassifier"):
            yield _beside_sgd_classifier(options, dtype)
        for name, sizes in (("logistic", (1, 32, 200)), ("network", (32, 200, 1000))):
            for batch_size in options.batch_sizes_or(sizes, (32,)) if options.picks(name) else ():
                yield from _of_model(options, name, dtype, batch_size)


def _data(name, n, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, N_FEATURES))
    score = X @ rng.normal(size=N_FEATURES) + rng.normal(size=n)
    y = score > 0 if name == "logistic" else np.maximum(score, 0)
    return X.astype(dtype), y.astype(np.int64 if name == "logistic" else dtype)


def _start(name, dtype):
    rng = np.random.default_rng(1)
    if name == "logistic":
        return np.zeros(N_FEATURES, dtype), np.zeros((), dtype)
    W = rng.normal(size=(N_FEATURES, N_UNITS)) * math.sqrt(2 / N_FEATURES)
    v = rng.normal(size=N_UNITS) * math.sqrt(2 / N_UNITS)
    return W.astype(dtype), np.zeros(N_UNITS, dtype), v.astype(dtype), np.zeros((), dtype)


def logistic(params, X, y):
    """Log loss of a linear model, and its gradient."""
    w, b = params
    z = np.dot(X, w) + b[()]
    slope = np.empty_like(z)
    loss, total = 0.0, 0.0
    for i in range(z.size):
        raised = math.exp(-abs(z[i]))
        probability = (1 if z[i] >= 0 else raised) / (1 + raised)
        loss += math.log1p(raised) + max(z[i], 0) - y[i] * z[i]
        slope[i] = (probability - y[i]) / z.size
        total += slope[i]
    return loss / z.size, (np.dot(slope, X), total)


def logistic_of_a_sample(params, x, y, out):
    """The same of one sample, whose gradient is written to out."""
    w, b = params
    z = b[()]
    for j in range(x.size):
        z += x[j] * w[j]
    raised = math.exp(-abs(z))
    slope = (1 if z >= 0 else raised) / (1 + raised) - y
    for j in range(x.size):
        out[0][j] = slope * x[j]
    out[1][()] = slope
    return math.log1p(raised) + max(z, 0) - y * z


def network(params, X, y):
    """Half the mean squared error of a network with one layer of rectified units, and its gradient."""
    W, b, v, c = params
    hidden = np.dot(X, W)
    for i in range(hidden.shape[0]):
        for j in range(hidden.shape[1]):
            hidden[i, j] = max(hidden[i, j] + b[j], 0)
    slope = np.dot(hidden, v)
    loss, total = 0.0, 0.0
    for i in range(slope.size):
        residual = slope[i] + c[()] - y[i]
        loss += residual * residual
        slope[i] = residual / slope.size
        total += slope[i]
    grad_v = np.dot(slope, hidden)
    grad_b = np.zeros_like(b)
    for i in range(hidden.shape[0]):
        for j in range(hidden.shape[1]):
            hidden[i, j] = slope[i] * v[j] if hidden[i, j] > 0 else 0
            grad_b[j] += hidden[i, j]
    return 0.5 * loss / slope.size, (np.dot(X.T, hidden), grad_b, grad_v, total)


def _forward(params, X):
    if len(params) == 2:
        return X @ params[0] + params[1]
    W, b, v, c = params
    return np.maximum(X @ W + b, 0) @ v + c


FUNCTIONS = {"logistic": logistic, "network": network, "sample": logistic_of_a_sample}
_compiled = {}


def _njit(name):
    if name not in _compiled:
        _compiled[name] = peers.find("numba").njit(error_model="numpy")(FUNCTIONS[name])
    return _compiled[name]


def _fit(name, X, y, batch_size, epochs, optimizer):
    """Return a function that fits, and returns the loss of the last epoch."""
    make = AnalyticRegressor if name == "network" else AnalyticClassifier
    estimator = make(
        _forward,
        loss_and_gradient=_njit(name),
        init=_start("network" if name == "network" else "logistic", X.dtype),
        optimizer=optimizer,
        batch_size=batch_size,
        max_iter=epochs,
        tol=None,
        random_state=0,
        check_gradient=False,
    )
    return lambda: estimator.fit(X, y).loss_curve_[-1]


def _sizes(options, batch_size):
    n_steps = N_STEPS / (100 if options.quick else 1) / (1 + batch_size / 16)
    n = 2_000 if options.quick else 100_000 if batch_size == 1 else 20_000
    return n, max(2, round(n_steps * batch_size / n))


def _beside_sgd_classifier(options, dtype):
    n = 2_000 if options.quick else 100_000
    X, y = _data("logistic", n, dtype)
    ours = on_engine("numba", _fit("sample", X, y, 1, 5, SGD(learning_rate=0.01)))
    settings = {"loss": "log_loss", "alpha": 0.0, "learning_rate": "constant", "eta0": 0.01, "max_iter": 5}
    peer = SGDClassifier(**settings, tol=None, random_state=0)
    ours()
    pair = compare(ours, lambda: peer.fit(X, y), **options.pairing)
    case = f"sample {dtype} logistic, {n} rows, batch 1, SGD"
    return Figure.of(ROW, case, "SGDClassifier", pair, goal=1.5 if dtype == np.float64 else None)


def _of_model(options, name, dtype, batch_size):
    n, epochs = _sizes(options, batch_size)
    X, y = _data(name, n, dtype)
    case = f"{name} {dtype} batch {batch_size}, {epochs} epochs of {n} rows, Adam"
    fit = _fit(name, X, y, batch_size, epochs, Adam(learning_rate=RATE))
    ours, loop = on_engine("numba", fit), on_engine("numpy", fit)
    is_wide = dtype == np.float64
    found = ours()
    same = {"difference": abs(found - loop()) / abs(found), "tolerance": 0.0 if is_wide else 1e-6}
    if options.meets("the interpreter's loop"):
        pair = compare(ours, loop, **options.pairing)
        goal = LOOP.get(batch_size, 1.05) if name == "logistic" else 1.05
        yield Figure.of(ROW, case, "the interpreter's loop", pair, goal=goal if is_wide else None, **same)
    if options.meets("jax"):
        if peers.find("jax") is None:
            yield Figure(ROW, case, "jax", note=peers.why_missing("jax"))
        else:
            theirs = _scan(name, X, y, batch_size, epochs)
            near = {"difference": abs(found - theirs()) / abs(found), "tolerance": 1e-9 if is_wide else 1e-3}
            goal = JAX.get((name, batch_size)) if is_wide else None
            yield Figure.of(
                ROW, case, "jax, jit and lax.scan", compare(ours, theirs, **options.pairing), goal=goal, **near
            )
    if name == "network" and options.meets("MLPRegressor"):
        settings = {"hidden_layer_sizes": (N_UNITS,), "batch_size": batch_size, "max_iter": epochs, "alpha": 0}
        peer = MLPRegressor(**settings, tol=0, n_iter_no_change=epochs + 1, random_state=0)
        pair = compare(ours, lambda: peer.fit(X, y), **options.pairing)
        yield Figure.of(ROW, case, "MLPRegressor", pair, goal=MLP.get(batch_size) if is_wide else None)


def _scan(name, X, y, batch_size, epochs):
    """Return the same fit in jax: an epoch is one compiled scan over its batches, in our order."""
    jax = peers.find("jax")
    jnp = jax.numpy
    n_full = len(y) // batch_size
    X_there, y_there = jnp.asarray(X), jnp.asarray(y)

    def loss(params, X, y):
        if name == "logistic":
            z = X @ params[0] + params[1]
            return jnp.mean(jnp.logaddexp(0, z) - y * z)
        W, b, v, c = params
        return 0.5 * jnp.mean((jnp.maximum(X @ W + b, 0) @ v + c - y) ** 2)

    def step(carry, rows):
        params, mean, square, t = carry
        value, grads = jax.value_and_grad(loss)(params, X_there[rows], y_there[rows])
        t = t + 1
        mean = jax.tree.map(lambda m, g: m + 0.1 * (g - m), mean, grads)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, grads)
        first, second = 1 - 0.9**t, 1 - 0.999**t

        def moved(p, m, s):
            return p - RATE * (m / first) / (jnp.sqrt(s / second) + 1e-8)

        return (jax.tree.map(moved, params, mean, square), mean, square, t), value

    @jax.jit
    def epoch(carry, order):
        carry, losses = jax.lax.scan(step, carry, order[: n_full * batch_size].reshape(n_full, batch_size))
        if n_full * batch_size == len(y):
            return carry, losses.mean()
        carry, last = step(carry, order[n_full * batch_size :])
        return carry, (losses.sum() * batch_size + last * (len(y) - n_full * batch_size)) / len(y)

    def fit():
        params = tuple(map(jnp.asarray, _start(name, X.dtype)))
        zeros = jax.tree.map(jnp.zeros_like, params)
        carry = params, zeros, zeros, jnp.zeros((), X.dtype)
        for number in range(epochs):
            carry, value = epoch(carry, order(number, len(y)))
        return float(value)

    return fit


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
