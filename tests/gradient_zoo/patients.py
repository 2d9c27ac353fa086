"""The models whose gradients are faulted: softmax regression, a hidden layer, NADE, counts, survival, curves.

Each is right as it stands, which the other zoo checks. A fault replaces one of their pieces.
"""

import numpy as np
from scipy.special import expit, log_expit, logsumexp, softmax

rng = np.random.default_rng(7)


def data(n=40, p=5, seed=0):
    """Rows of features on different scales, none of them zero."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, p)) * np.linspace(0.5, 1.5, p) + 0.1


class Softmax:
    """Softmax regression: W (p, K), b (K,)."""

    X = data()
    K = 3
    y = np.random.default_rng(1).integers(0, 3, 40)
    params = {"W": np.random.default_rng(2).normal(size=(5, 3)), "b": np.array([0.2, -0.4, 0.3])}

    @staticmethod
    def forward(params, X):
        return X @ params["W"] + params["b"]

    @classmethod
    def delta(cls, params, X, y):
        return softmax(cls.forward(params, X), axis=1) - np.eye(cls.K)[y]

    @classmethod
    def gradient(cls, params, X, y):
        delta = cls.delta(params, X, y)
        return {"W": X.T @ delta / len(X), "b": delta.mean(axis=0)}

    @classmethod
    def weighted_gradient(cls, params, X, y, sample_weight):
        delta = cls.delta(params, X, y) * sample_weight[:, None]
        return {"W": X.T @ delta / len(X), "b": delta.mean(axis=0)}

    @classmethod
    def vjp(cls, params, X):
        return cls.forward(params, X), lambda d: {"W": X.T @ d, "b": d.sum(axis=0)}

    @classmethod
    def loss(cls, params, X, y):
        s = cls.forward(params, X)
        return float(np.mean(logsumexp(s, axis=1) - s[np.arange(len(X)), y]))


class Hidden:
    """Regression with one hidden layer: W1 (p, H), b1 (H,), W2 (H,), b2 ()."""

    X = data(seed=3)
    y = np.random.default_rng(4).normal(size=40)
    params = {
        "W1": np.random.default_rng(5).normal(size=(5, 6)),
        "b1": np.random.default_rng(6).normal(size=6),
        "W2": np.random.default_rng(7).normal(size=6),
        "b2": 0.3,
    }
    activation = staticmethod(np.tanh)
    slope = staticmethod(lambda z, h: 1 - h * h)

    @classmethod
    def layers(cls, params, X):
        z = X @ params["W1"] + params["b1"]
        h = cls.activation(z)
        return z, h, h @ params["W2"] + params["b2"]

    @classmethod
    def forward(cls, params, X):
        return cls.layers(params, X)[2]

    @classmethod
    def vjp(cls, params, X):
        z, h, out = cls.layers(params, X)

        def pullback(d):
            back = np.outer(d, params["W2"]) * cls.slope(z, h)
            return {"W1": X.T @ back, "b1": back.sum(axis=0), "W2": h.T @ d, "b2": float(d.sum())}

        return out, pullback

    @classmethod
    def gradient(cls, params, X, y):
        out, pullback = cls.vjp(params, X)
        return pullback((out - y) / len(X))

    @classmethod
    def loss_and_gradient(cls, params, X, y):
        out, pullback = cls.vjp(params, X)
        return 0.5 * float(np.mean((out - y) ** 2)), pullback((out - y) / len(X))


class Relu(Hidden):
    """The same with rectified units."""

    activation = staticmethod(lambda z: np.maximum(z, 0))
    slope = staticmethod(lambda z, h: (z > 0).astype(float))


class Sigmoid(Hidden):
    """The same with logistic units."""

    activation = staticmethod(expit)
    slope = staticmethod(lambda z, h: h * (1 - h))


class Nade:
    """NADE on binary rows: b (D,), c (H,), U (D, H), W (D, H); a tuple."""

    X = (np.random.default_rng(8).random((30, 7)) < 0.6).astype(float)
    y = None
    params = tuple(np.random.default_rng(9).normal(scale=0.7, size=s) for s in ((7,), (4,), (7, 4), (7, 4)))

    @staticmethod
    def steps(params, X):
        b, c, U, W = params
        a = np.tile(c, (len(X), 1))
        for d in range(len(b)):
            h = expit(a)
            yield h, b[d] + h @ U[d]
            a = a + np.outer(X[:, d], W[d])

    @classmethod
    def scores(cls, params, X):
        return np.stack([s for _, s in cls.steps(params, X)], axis=1)

    @classmethod
    def forward(cls, params, X):
        return log_expit((2 * X - 1) * cls.scores(params, X)).sum(axis=1)

    @classmethod
    def gradient(cls, params, X, order=None, start=0, slope=lambda h: h * (1 - h)):
        b, c, U, _ = params
        hidden, scores = zip(*cls.steps(params, X), strict=True)
        delta = (expit(np.stack(scores)) - X.T) / len(X)
        gU, gW, later = np.zeros_like(U), np.zeros_like(U), np.zeros((len(X), len(c)))
        for d in reversed(range(start, len(b))):
            gU[d] = delta[d] @ hidden[d]
            gW[d] = X[:, d] @ later
            later = later + np.outer(delta[d], U[d]) * slope(hidden[d])
        return delta.sum(axis=1), later.sum(axis=0), gU, gW


class Poisson:
    """Counts with a log link, a loss and gradient of one's own: w (p,), b ()."""

    X = data(seed=10) * 0.5
    y = np.random.default_rng(11).poisson(1.5, 40).astype(float)
    params = {"w": np.random.default_rng(12).normal(size=5) * 0.5, "b": 0.2}

    @staticmethod
    def forward(params, X):
        return X @ params["w"] + params["b"]

    @classmethod
    def loss_and_gradient(cls, params, X, y, sample_weight):
        s = cls.forward(params, X)
        mu = np.exp(s)
        delta = sample_weight * (mu - y) / len(X)
        loss = float(np.mean(sample_weight * (mu - y * s)))
        return loss, {"w": X.T @ delta, "b": float(delta.sum())}


class Survival:
    """Weibull survival with censoring, plain functions: θ = (w (p,), log_shape ()); y = (time, event)."""

    X = data(seed=13) * 0.4
    y = np.column_stack([
        np.random.default_rng(14).exponential(1.0, 40) + 0.05,
        np.random.default_rng(15).integers(0, 2, 40).astype(float),
    ])  # fmt: skip
    params = (np.random.default_rng(16).normal(size=5) * 0.5, 0.2)

    @staticmethod
    def parts(params, X, y):
        w, log_shape = params
        shape, time, event = np.exp(log_shape), y[:, 0], y[:, 1]
        scaled = np.log(time) - X @ w  # log of time over scale
        hazard = np.exp(shape * scaled)
        return shape, scaled, hazard, event

    @classmethod
    def loss(cls, params, X, y):
        shape, scaled, hazard, event = cls.parts(params, X, y)
        return float(np.mean(hazard - event * (np.log(shape) + shape * scaled - np.log(y[:, 0]))))

    @classmethod
    def gradient(cls, params, X, y):
        shape, scaled, hazard, event = cls.parts(params, X, y)
        by_w = -X.T @ (shape * (hazard - event)) / len(X)
        by_shape = np.mean(hazard * scaled - event * (1 / shape + scaled)) * shape
        return by_w, by_shape


class Curve:
    """A decay curve by its Jacobian: amplitude, log_rate, offset, each a number."""

    X = np.linspace(0.1, 4, 25)[:, None]
    y = 2 * np.exp(-0.8 * X[:, 0]) + 0.5 + 0.1 * np.random.default_rng(17).normal(size=25)
    params = {"amplitude": 1.5, "log_rate": -0.4, "offset": 0.7}

    @staticmethod
    def forward(params, X):
        return params["amplitude"] * np.exp(-np.exp(params["log_rate"]) * X[:, 0]) + params["offset"]

    @staticmethod
    def jacobian(params, X):
        rate = np.exp(params["log_rate"])
        decay = np.exp(-rate * X[:, 0])
        return {
            "amplitude": decay,
            "log_rate": -params["amplitude"] * decay * X[:, 0] * rate,
            "offset": np.ones(len(X)),
        }


class Gaussian:
    """A density: mean (p,), log_scale (p,)."""

    X = data(seed=18)
    y = None
    params = {"mean": np.random.default_rng(19).normal(size=5), "log_scale": np.full(5, 0.3) + 0.1 * np.arange(5)}

    @staticmethod
    def forward(params, X):
        z = (X - params["mean"]) / np.exp(params["log_scale"])
        return -0.5 * (z * z).sum(axis=1) - params["log_scale"].sum() - 0.5 * X.shape[1] * np.log(2 * np.pi)

    @staticmethod
    def gradient(params, X):
        scale = np.exp(params["log_scale"])
        z = (X - params["mean"]) / scale
        return {"mean": -z.mean(axis=0) / scale, "log_scale": 1 - (z * z).mean(axis=0)}


class TwoOutputs:
    """Linear regression with two outputs by its Jacobian: W (p, 2), b (2,)."""

    X = data(seed=20)
    y = np.random.default_rng(21).normal(size=(40, 2))
    params = {"W": np.random.default_rng(22).normal(size=(5, 2)), "b": np.array([0.1, -0.2])}

    @staticmethod
    def forward(params, X):
        return X @ params["W"] + params["b"]

    @staticmethod
    def jacobian(params, X):
        eye = np.eye(2)
        return {"W": np.einsum("np,ko->nkpo", X, eye), "b": np.broadcast_to(eye, (len(X), 2, 2))}


class Recurrent:
    """A recurrent net over 6 steps of one feature each, read at the end: Wx (H,), Wh (H, H), v (H,)."""

    X = data(n=30, p=6, seed=23)
    y = np.random.default_rng(24).normal(size=30)
    params = {
        "Wx": np.random.default_rng(25).normal(size=4),
        "Wh": np.random.default_rng(26).normal(size=(4, 4)) * 0.5,
        "v": np.random.default_rng(27).normal(size=4),
    }

    @classmethod
    def states(cls, params, X):
        states = [np.zeros((len(X), 4))]
        for t in range(X.shape[1]):
            states.append(np.tanh(np.outer(X[:, t], params["Wx"]) + states[-1] @ params["Wh"]))
        return states

    @classmethod
    def forward(cls, params, X):
        return cls.states(params, X)[-1] @ params["v"]

    @classmethod
    def vjp(cls, params, X, first=0):
        states = cls.states(params, X)

        def pullback(d):
            back, gx, gh = np.outer(d, params["v"]), np.zeros(4), np.zeros((4, 4))
            for t in reversed(range(first, X.shape[1])):
                back = back * (1 - states[t + 1] ** 2)
                gx = gx + back.T @ X[:, t]
                gh = gh + states[t].T @ back
                back = back @ params["Wh"].T
            return {"Wx": gx, "Wh": gh, "v": states[-1].T @ d}

        return states[-1] @ params["v"], pullback
