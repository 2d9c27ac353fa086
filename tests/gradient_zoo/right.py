"""Right gradients of losses that differences of a fixed step cannot follow, each with a second derivation of its own.

A case is a loss and a gradient of plain Python, their parameters, and ``truth``: the loss once more, in a form that
takes complex numbers, from which `derivative` computes the gradient by a complex step, exact to rounding. Where the
loss has kinks, steps or is computed in low precision, ``truth`` is the smooth branch that the parameters lie on.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import special
from scipy.special import digamma, expit, gammaln, i0e, i1e, log_ndtr, logsumexp

COMPLEX_STEP = 1e-30
RIGHT = {}
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(40, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 * DRAW.normal(size=40)
GRID = np.linspace(0.1, 2.0, 30)


class Case(NamedTuple):
    """A right gradient; ``accuracy`` is that of the gradient beside the truth, relative to the block's largest."""

    loss: Any
    gradient: Any
    params: Any
    truth: Any
    accuracy: float

    @property
    def arguments(self):
        """The arguments of `check_gradient`."""
        return {"loss": self.loss, "gradient": self.gradient, "params": self.params}


def add(name, loss, gradient, params, truth=None, accuracy=1e-7):
    """Enter a case; a single block may be an array."""
    assert name not in RIGHT
    RIGHT[name] = Case(loss, gradient, params, truth or loss, accuracy)


def derivative(truth, params):
    """The gradient of a loss that takes complex numbers, entry by entry, in the structure of the parameters."""
    if not isinstance(params, dict):
        return derivative(lambda p: truth(p["_"]), {"_": params})["_"]
    out = {name: np.zeros(np.shape(value)) for name, value in params.items()}
    for name, gradient in out.items():
        for place in np.ndindex(gradient.shape):
            moved = {other: np.array(value, complex) for other, value in params.items()}
            moved[name][place] += 1j * COMPLEX_STEP
            gradient[place] = np.imag(truth(moved)) / COMPLEX_STEP
    return out


# ---- oscillation ----

P = np.array([0.31, -0.72, 1.13, 0.05])

for _e in range(2, 10):
    _k = 10.0**_e
    add(
        f"sine of 1e{_e} p",
        lambda p, k=_k: np.sin(k * p).sum(),
        lambda p, k=_k: k * np.cos(k * p),
        P,
        accuracy=1e-16 * 10**_e,
    )
    add(
        f"ripple of wave number 1e{_e} on a parabola",
        lambda p, k=_k: (p**2 + np.sin(k * p) / k).sum(),
        lambda p, k=_k: 2 * p + np.cos(k * p),
        P,
        accuracy=1e-16 * 10**_e,
    )
for _k in (1e3, 1e5, 1e7):
    add(
        f"plain block beside a block of wave number {_k:.0e}",
        lambda p, k=_k: (p["a"] ** 2).sum() + np.cos(k * p["b"]).sum() + p["a"][0] * p["b"][0],
        lambda p, k=_k: {
            "a": 2 * p["a"] + np.array([p["b"][0], 0.0]),
            "b": -k * np.sin(k * p["b"]) + np.array([p["a"][0], 0.0]),
        },
        {"a": np.array([0.4, -1.1]), "b": np.array([0.9, 0.2])},
        accuracy=1e-16 * _k,
    )
add("chirp", lambda p: np.sin(1e5 * p**2).sum(), lambda p: 2e5 * p * np.cos(1e5 * p**2), P, accuracy=1e-10)
add(
    "frequencies of 1 to 1e6 in one block",
    lambda p: np.sin(p * 10.0 ** np.arange(7)).sum(),
    lambda p: 10.0 ** np.arange(7) * np.cos(p * 10.0 ** np.arange(7)),
    np.linspace(0.3, 1.4, 7),
    accuracy=1e-9,
)


TIMES = np.linspace(0, 1000, 200)


def _signal(p):
    return p[0] * np.sin(p[1] * TIMES + p[2])


_SIGNAL = _signal(np.array([1.0, 6.28, 0.2]))


def _signal_gradient(p):
    r, inner = 2 * (_signal(p) - _SIGNAL) / TIMES.size, p[1] * TIMES + p[2]
    return np.array([r @ np.sin(inner), r @ (p[0] * TIMES * np.cos(inner)), r @ (p[0] * np.cos(inner))])


add(
    "frequency of a long signal",
    lambda p: ((_signal(p) - _SIGNAL) ** 2).mean(),
    _signal_gradient,
    np.array([0.8, 6.3, 0.0]),
)


# ---- cancellation ----

COUNTS = DRAW.poisson(30, size=40).astype(float)


def _negative_binomial(p, lgamma=gammaln):
    mean, size = np.exp(p[0]), np.exp(p[1])
    terms = lgamma(COUNTS + size) - lgamma(size) - gammaln(COUNTS + 1)
    return -(terms + size * np.log(size / (size + mean)) + COUNTS * np.log(mean / (size + mean))).mean()


def _negative_binomial_gradient(p):
    mean, size = np.exp(p[0]), np.exp(p[1])
    by_mean = COUNTS / mean - (COUNTS + size) / (size + mean)
    by_size = (
        digamma(COUNTS + size) - digamma(size) + np.log(size / (size + mean)) + 1 - (size + COUNTS) / (size + mean)
    )
    return -np.array([by_mean.mean() * mean, by_size.mean() * size])


for _e, _accuracy in ((1, 1e-9), (3, 1e-8), (5, 1e-5), (7, 1e-1)):
    add(
        f"negative binomial of size 1e{_e}",
        _negative_binomial,
        _negative_binomial_gradient,
        np.array([3.3, np.log(10.0**_e)]),
        lambda p: _negative_binomial(p, special.loggamma),
        _accuracy,
    )


def _beta(p, lgamma=gammaln):
    of_counts = -(p[0] - 1) * np.log(0.3) - (p[1] - 1) * np.log(0.7)
    return of_counts + lgamma(p[0]) + lgamma(p[1]) - lgamma(p.sum())


for _a in (1e2, 1e6):
    add(
        f"beta distribution of parameters {_a:.0e}",
        _beta,
        lambda p: digamma(p) - digamma(p.sum()) - np.log([0.3, 0.7]),
        np.array([_a, 2 * _a]),
        lambda p: _beta(p, special.loggamma),
        1e-6,
    )
for _kappa in (1e1, 1e4, 1e6):
    add(
        f"von Mises of concentration {_kappa:.0e}",
        lambda p: -p[0] * np.cos(GRID * 1e-3 - p[1]).mean() + np.log(i0e(p[0])) + p[0],
        lambda p: np.array(
            [i1e(p[0]) / i0e(p[0]) - np.cos(GRID * 1e-3 - p[1]).mean(), -p[0] * np.sin(GRID * 1e-3 - p[1]).mean()]
        ),
        np.array([_kappa, 5e-4]),
        lambda p: (
            -p[0] * np.cos(GRID * 1e-3 - p[1]).mean() + p[0]
            + np.log(np.exp(p[0] * (np.cos(np.linspace(0, 2 * np.pi, 40000, endpoint=False)) - 1)).mean())
        ),
        1e-6,
    )  # fmt: skip
add(
    "log-sum-exp at 1e6",
    lambda p: logsumexp(1e6 + p) + 0.0,
    lambda p: special.softmax(1e6 + p),
    P,
    lambda p: np.log(np.exp(p).sum()),
    1e-8,
)
add(
    "log-sum-exp of scores of size 1e6",
    lambda p: logsumexp(1e6 * p) - 1e6 * p[0],
    lambda p: 1e6 * (special.softmax(1e6 * p) - np.array([1.0, 0, 0])),
    np.array([0.5, 0.5000012, 0.4999993]),
    lambda p: np.log(np.exp(1e6 * (p - 0.5)).sum()) - 1e6 * (p[0] - 0.5),
    1e-8,
)
for _offset in (1e4, 1e6, 1e8):
    add(
        f"squares about {_offset:.0e}",
        lambda p, m=_offset: ((p - m) ** 2).sum(),
        lambda p, m=_offset: 2 * (p - m),
        _offset + P,
    )
add(
    "variance as a difference of means of squares",
    lambda p: ((1e5 + p * GRID) ** 2).mean() - (1e5 + p * GRID).mean() ** 2,
    lambda p: 2 * p * (GRID**2).mean() - 2 * p * GRID.mean() ** 2,
    1.7,
    lambda p: p**2 * (GRID**2).mean() - p**2 * GRID.mean() ** 2,
    1e-8,
)
add(
    "probit far in its tail",
    lambda p: -log_ndtr(p).sum(),
    lambda p: -np.exp(-(p**2) / 2 - np.log(2 * np.pi) / 2 - log_ndtr(p)),
    np.array([-25.0, -30.0, -8.0]),
    lambda p: -(np.log(special.erfcx(-p / np.sqrt(2)) / 2) - p**2 / 2).sum(),
    1e-8,
)
add(
    "difference of large exponentials",
    lambda p: np.exp(20 + p[0]) - np.exp(20 + p[1]) + p[0] * p[1],
    lambda p: np.array([np.exp(20 + p[0]) + p[1], -np.exp(20 + p[1]) + p[0]]),
    np.array([0.7, 0.7000001]),
)
add(
    "Poisson likelihood of counts of 1e9",
    lambda p: (np.exp(p) - 1e9 * p + gammaln(1e9 + 1)).sum(),
    lambda p: np.exp(p) - 1e9,
    np.log(1e9) + np.array([1e-3, -2e-3]),
    accuracy=1e-6,
)


def _log_det(p):
    A = np.diag(10.0 ** -np.arange(6)) + np.outer(p, p) * 1e-3
    return np.log(np.linalg.det(A)) if np.iscomplexobj(p) else np.linalg.slogdet(A)[1]


add(
    "determinant of an ill-conditioned matrix",
    _log_det,
    lambda p: 2e-3 * np.linalg.solve(np.diag(10.0 ** -np.arange(6)) + np.outer(p, p) * 1e-3, p),
    np.linspace(0.3, 1.4, 6),
    accuracy=1e-6,
)


# ---- condition inside a block ----

for _e in (4, 8, 12):
    _s = np.logspace(-_e / 2, _e / 2, 5)
    add(
        f"cosines of scales over 1e{_e}",
        lambda p, s=_s: (np.cos(p / s) + p / s).sum(),
        lambda p, s=_s: (1 - np.sin(p / s)) / s,
        _s * np.array([0.4, -1.2, 0.8, 0.3, -0.6]),
    )
    add(
        f"parabolas of scales over 1e{_e}",
        lambda p, s=_s: ((p / s - 1) ** 2).sum(),
        lambda p, s=_s: 2 * (p / s - 1) / s,
        _s * np.array([0.4, -1.2, 0.8, 0.3, -0.6]),
    )
    add(
        f"curvatures over 1e{_e}",
        lambda p, s=_s: (s * p**4).sum(),
        lambda p, s=_s: 4 * s * p**3,
        np.array([0.4, -1.2, 0.8, 0.3, -0.6]),
    )
    add(
        f"logistic regression on features of scales over 1e{_e}",
        lambda p, s=_s[::2]: (np.log1p(np.exp(-(X * s) @ p))).mean(),
        lambda p, s=_s[::2]: -((X * s).T @ expit(-(X * s) @ p)) / 40,
        0.5 / _s[::2],
        accuracy=1e-9,
    )
for _mu, _sigma in ((1e3, 1e-2), (1e6, 1e-3)):
    _z = _mu + _sigma * DRAW.normal(size=20)
    add(
        f"normal likelihood of mean {_mu:.0e} and deviation {_sigma:.0e} in one array",
        lambda p, z=_z: (((z - p[0]) / p[1]) ** 2 / 2 + np.log(p[1])).mean(),
        lambda p, z=_z: np.array([-((z - p[0]) / p[1] ** 2).mean(), -((z - p[0]) ** 2 / p[1] ** 3).mean() + 1 / p[1]]),
        np.array([_mu + 0.3 * _sigma, 1.2 * _sigma]),
        accuracy=1e-6,
    )


YEARS = np.linspace(1900, 2000, 20)


def _growth(p):
    return p[0] / (1 + np.exp(-p[1] * (YEARS - p[2])))


_GROWN = _growth(np.array([1e6, 0.05, 1960.0]))


def _growth_gradient(p):
    share = 1 / (1 + np.exp(-p[1] * (YEARS - p[2])))
    r = 2 * (_growth(p) - _GROWN) / YEARS.size
    slope = p[0] * share * (1 - share)
    return np.array([r @ share, r @ (slope * (YEARS - p[2])), r @ (-slope * p[1])])


add("logistic growth", lambda p: ((_growth(p) - _GROWN) ** 2).mean(), _growth_gradient, np.array([8e5, 0.06, 1955.0]))

_T = np.linspace(280, 360, 15)


def _arrhenius(p):
    return p[0] * np.exp(-p[1] / (8.314 * _T))


_RATES = _arrhenius(np.array([1e12, 8e4]))
add(
    "Arrhenius law",
    lambda p: ((_arrhenius(p) / _RATES - 1) ** 2).mean(),
    lambda p: np.array(
        [
            (2 * (_arrhenius(p) / _RATES - 1) * _arrhenius(p) / p[0] / _RATES).mean(),
            (2 * (_arrhenius(p) / _RATES - 1) * _arrhenius(p) / (-8.314 * _T) / _RATES).mean(),
        ]
    ),
    np.array([2e12, 8.2e4]),
)
add(
    "Hilbert matrix",
    lambda p: 0.5 * p @ special_hilbert(p.size) @ p,
    lambda p: special_hilbert(p.size) @ p,
    np.random.default_rng(7).normal(size=12),
)


def special_hilbert(n):
    """The Hilbert matrix."""
    return 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0)


add(
    "an entry of 1e-9 beside entries of 1e9",
    lambda p: np.cos(p[0] / 1e9) + np.cos(p[1] / 1e-9) + np.cos(p[2] / 1e9) * np.sin(p[1] / 1e-9),
    lambda p: np.array(
        [
            -np.sin(p[0] / 1e9) / 1e9,
            (-np.sin(p[1] / 1e-9) + np.cos(p[2] / 1e9) * np.cos(p[1] / 1e-9)) / 1e-9,
            -np.sin(p[2] / 1e9) / 1e9 * np.sin(p[1] / 1e-9),
        ]
    ),
    np.array([2e9, 1e-9, -1e9]),
)


# ---- poles near the start ----

for _d in (1e-2, 1e-3, 1e-5, 1e-7):
    add(
        f"rational function {_d:.0e} beside its pole",
        lambda p: (1 / (1 + p[0] + p[1] * GRID[0])).sum() + (p**2).sum(),
        lambda p: 2 * p - np.array([1.0, GRID[0]]) / (1 + p[0] + p[1] * GRID[0]) ** 2,
        np.array([-1.0 - 0.5 * GRID[0] + _d, 0.5]),
        accuracy=1e-16 / _d,
    )


def _rational(p):
    return (p[0] + p[1] * GRID) / (1 + p[2] * GRID + p[3] * GRID**2)


def _rational_gradient(p):
    below = 1 + p[2] * GRID + p[3] * GRID**2
    value = (p[0] + p[1] * GRID) / below
    r = 2 * (value - np.sin(GRID)) / GRID.size
    by_value = [(r / below).sum(), (r * GRID / below).sum()]
    return np.array([*by_value, -(r * value * GRID / below).sum(), -(r * value * GRID**2 / below).sum()])


for _c in (-0.9, -1.02, -1.4):
    add(
        f"rational regression with a pole among the data, {_c}",
        lambda p: ((_rational(p) - np.sin(GRID)) ** 2).mean(),
        _rational_gradient,
        np.array([0.1, 0.9, _c, 0.02]),
        accuracy=1e-9,
    )
add(
    "tangent beside its pole",
    lambda p: np.tan(p).sum(),
    lambda p: 1 / np.cos(p) ** 2,
    np.pi / 2 - np.array([1e-2, 1e-4, 0.5]),
)
add("logarithm beside zero", lambda p: -np.log(p).sum(), lambda p: -1 / p, np.array([1e-12, 1e-6, 1.0]))
add("square root beside zero", lambda p: np.sqrt(p).sum(), lambda p: 0.5 / np.sqrt(p), np.array([1e-14, 1e-5, 2.0]))
add(
    "Lennard-Jones potential on its wall",
    lambda p: (p**-12.0 - p**-6.0).sum(),
    lambda p: -12 * p**-13.0 + 6 * p**-7.0,
    np.array([0.2, 0.9, 3.0]),
)
add(
    "barrier beside its bound",
    lambda p: (p**2).sum() - 1e-3 * np.log(1 - p).sum(),
    lambda p: 2 * p + 1e-3 / (1 - p),
    np.array([1 - 1e-7, 0.3, 1 - 1e-3]),
    accuracy=1e-6,
)
add(
    "gamma function beside a pole",
    lambda p: special.gamma(p).sum(),
    lambda p: special.gamma(p) * digamma(p),
    np.array([-1.0001, -2.001, 0.01]),
    lambda p: (np.exp(special.loggamma(p + 3)) / (p * (p + 1) * (p + 2))).sum(),
    1e-6,
)


# ---- float32 and float16 inside ----


def _net(p, X=X):
    return np.tanh(X @ p["W"]) @ p["v"]


def _net_loss(p, X=X):
    return ((_net(p, X) - Y) ** 2).mean()


def _net_gradient(p, X=X):
    h = np.tanh(X @ p["W"])
    r = 2 * (h @ p["v"] - Y.astype(h.dtype)) / len(X)
    return {"W": X.T @ (np.outer(r, p["v"]) * (1 - h * h)), "v": h.T @ r}


def _cast(p, dtype):
    return {name: np.asarray(value, dtype) for name, value in p.items()}


NET = {"W": DRAW.normal(size=(3, 5)), "v": DRAW.normal(size=5)}
X32 = X.astype(np.float32)
add("float32 in the loss", lambda p: float(np.float32(_net_loss(p))), _net_gradient, NET, _net_loss)
add("float32 parameters in the loss", lambda p: _net_loss(_cast(p, np.float32)), _net_gradient, NET, _net_loss)
add("float32 in the gradient", _net_loss, lambda p: _net_gradient(_cast(p, np.float32), X32), NET, accuracy=1e-5)
add(
    "float32 in both",
    lambda p: float(((_net(_cast(p, np.float32), X32) - Y.astype(np.float32)) ** 2).mean()),
    lambda p: _net_gradient(_cast(p, np.float32), X32),
    NET,
    _net_loss,
    1e-5,
)


def _far_residual(p, X=X):
    return _net(p, X) - (Y + 100).astype(X.dtype)


def _far_gradient(p):
    p = _cast(p, np.float32)
    h, r = np.tanh(X32 @ p["W"]), 2 * _far_residual(p, X32) / 40
    return {"W": X32.T @ (np.outer(r, p["v"]) * (1 - h * h)), "v": h.T @ r}


add(
    "float32 in both, at a loss of 1e4",
    lambda p: float((_far_residual(_cast(p, np.float32), X32) ** 2).mean()),
    _far_gradient,
    NET,
    lambda p: (_far_residual(p) ** 2).mean(),
    1e-5,
)
add("float16 in the gradient", _net_loss, lambda p: _cast(_net_gradient(p), np.float16), NET, accuracy=1e-2)
add("float16 in the loss", lambda p: float(np.float16(_net_loss(p))), _net_gradient, NET, _net_loss)
add(
    "float32 sum of a million terms",
    lambda p: float(np.add.reduce((np.float32(p[0]) * X32_LONG + np.float32(p[1])) ** 2)),
    lambda p: np.array(
        [(2 * (p[0] * X_LONG + p[1]) * X_LONG).sum(), (2 * (p[0] * X_LONG + p[1])).sum()],
    ),
    np.array([0.3, 1.2]),
    lambda p: ((p[0] * X_LONG + p[1]) ** 2).sum(),
)
X_LONG = np.random.default_rng(1).normal(size=20000)
X32_LONG = X_LONG.astype(np.float32)


# ---- kinks ----

add(
    "absolute values",
    lambda p: np.abs(p).sum(),
    np.sign,
    np.array([1e-9, -1e-4, 0.3]),
    lambda p: (np.sign(p.real) * p).sum(),
)
add(
    "absolute values at zero",
    lambda p: np.abs(p).sum(),
    lambda p: np.sign(p) + 0.0,
    np.array([0.0, 0.0, 0.3]),
    lambda p: p[2],
)
add(
    "rectifiers at zero",
    lambda p: np.maximum(p, 0).sum() + (p**2).sum(),
    lambda p: (p > 0) + 2 * p,
    np.array([0.0, 1e-12, -1e-12, 0.4]),
    lambda p: (p**2).sum() + p[1] + p[3],
)
_RELU = {"W": DRAW.normal(size=(3, 200)), "a": np.zeros(200), "v": DRAW.normal(size=200)}


def _relu_loss(p):
    z = X @ p["W"] + p["a"]
    return ((np.where(z.real > 0, z, 0) @ p["v"] - Y) ** 2).mean()


def _relu_gradient(p):
    z = X @ p["W"] + p["a"]
    r = 2 * (np.maximum(z, 0) @ p["v"] - Y) / 40
    d = np.outer(r, p["v"]) * (z > 0)
    return {"W": X.T @ d, "a": d.sum(axis=0), "v": np.maximum(z, 0).T @ r}


add("rectifiers, many", _relu_loss, _relu_gradient, _RELU)
add("maximum of entries", np.max, lambda p: (p == p.max()) + 0.0, np.array([1.0, 1.0000001, 0.2]), lambda p: p[1])
add("median absolute deviation", lambda p: np.median(np.abs(Y - X @ p)), None, np.array([0.9, -1.8, 0.4]))
add(
    "hinge at its margin",
    lambda p: np.maximum(0, 1 - np.sign(Y) * (X @ p)).mean(),
    lambda p: -(X.T @ (np.sign(Y) * (np.sign(Y) * (X @ p) < 1))) / 40,
    np.linalg.lstsq(X[:3], np.sign(Y[:3]), rcond=None)[0],
    lambda p: (np.where(1 - np.sign(Y) * (X @ p).real > 0, 1 - np.sign(Y) * (X @ p), 0)).mean(),
    1.0,  # three margins are 1 up to rounding, so either side is right
)
add(
    "clipped predictions",
    lambda p: ((np.clip(X @ p, -1, 1) - Y) ** 2).mean(),
    lambda p: X.T @ (2 * (np.clip(X @ p, -1, 1) - Y) * (np.abs(X @ p) < 1)) / 40,
    np.array([0.9, -1.8, 0.4]),
    lambda p: ((np.where(np.abs((X @ p).real) < 1, X @ p, np.sign((X @ p).real)) - Y) ** 2).mean(),
)


def _median_gradient(p):
    r = Y - X @ p
    middle = np.argsort(np.abs(r))[19:21]
    return -(np.sign(r[middle])[:, None] * X[middle]).mean(axis=0)


def _median_truth(p):
    r = Y - X @ p
    middle = np.argsort(np.abs(r.real))[19:21]
    return (np.sign(r[middle].real) * r[middle]).mean()


RIGHT["median absolute deviation"] = RIGHT["median absolute deviation"]._replace(
    gradient=_median_gradient, truth=_median_truth
)


# ---- rounding and noise ----


def _hash_noise(p, size):
    """Noise that is the same at the same parameters, and independent beside them."""
    rng = np.random.default_rng(np.frombuffer(np.asarray(p).tobytes(), np.uint32))
    return size * rng.standard_normal()


def _smooth(p):
    return (np.sin(p) * np.arange(1, 5)).sum() + p[0] * p[1]


def _smooth_gradient(p):
    return np.cos(p) * np.arange(1, 5) + np.array([p[1], p[0], 0, 0])


for _digits in (1, 2, 4, 7, 10):
    add(
        f"loss rounded to {_digits} decimals",
        lambda p, d=_digits: np.round(_smooth(p), d),
        _smooth_gradient,
        P,
        _smooth,
    )
for _size in (1e-12, 1e-9, 1e-7, 1e-4, 1e-2):
    add(
        f"loss with noise of {_size:.0e}",
        lambda p, s=_size: _smooth(p) + _hash_noise(p, s),
        _smooth_gradient,
        P,
        _smooth,
    )
add(
    "loss and gradient with noise of 1e-7",
    lambda p: _smooth(p) + _hash_noise(p, 1e-7),
    lambda p: _smooth_gradient(p) + _hash_noise(p, 1e-7) * np.arange(4),
    P,
    _smooth,
    1e-6,
)
_OWN = np.random.default_rng(5)
add(
    "loss and gradient with noise of 1e-7 from a generator",
    lambda p: _smooth(p) + 1e-7 * _OWN.normal(),
    lambda p: _smooth_gradient(p) + 1e-7 * _OWN.normal(size=4),
    P,
    _smooth,
    1e-5,
)
add(
    "loss with noise of 1e-3 from a generator",
    lambda p: _smooth(p) + 1e-3 * _OWN.normal(),
    _smooth_gradient,
    P,
    _smooth,
)
for _k in (1e5, 1e8):
    add(
        f"loss with a ripple of 1e-7 and wave number {_k:.0e} that the gradient leaves out",
        lambda p, k=_k: _smooth(p) + 1e-7 * np.sin(k * p.sum()),
        _smooth_gradient,
        P,
        _smooth,
    )


def _kepler(p, tolerance):
    """Solve E - e sin E = m by Newton's method, which stops at a tolerance."""
    E = np.array(p[1] + 0 * p)
    for _ in range(50):
        step = (E - p[0] * np.sin(E) - p[1]) / (1 - p[0] * np.cos(E))
        E = E - step
        if np.abs(step).max() < tolerance:
            break
    return E[0]


for _tolerance in (1e-12, 1e-6):
    add(
        f"Kepler's equation, solved to {_tolerance:.0e}",
        lambda p, t=_tolerance: _kepler(p, t) ** 2,
        lambda p, t=_tolerance: (
            2 * _kepler(p, t) / (1 - p[0] * np.cos(_kepler(p, t))) * np.array([np.sin(_kepler(p, t)), 1.0])
        ),
        np.array([0.6, 1.1]),
        lambda p: _kepler(p, 0.0) ** 2,
        1e-6,
    )


# ---- tiny and huge losses ----

for _c in (1e-200, 1e-30, 1e12, 1e200):
    add(
        f"loss of {_c:.0e}",
        lambda p, c=_c: c * (np.sin(p) * np.arange(1, 5)).sum(),
        lambda p, c=_c: c * np.cos(p) * np.arange(1, 5),
        P,
    )
for _c in (1e6, 1e12, 1e15):
    add(f"loss beside a constant of {_c:.0e}", lambda p, c=_c: _smooth(p) + c, _smooth_gradient, P, _smooth)
add("zero at the minimum", lambda p: (p**4).sum(), lambda p: 4 * p**3, np.zeros(3))
add("minimum at 1e-8", lambda p: ((p - 1e-8) ** 2).sum(), lambda p: 2 * (p - 1e-8), np.zeros(3))
add("steep exponential", lambda p: np.exp(50 * p).sum(), lambda p: 50 * np.exp(50 * p), np.array([1.0, -1.0, 10.0]))
add(
    "double exponential",
    lambda p: np.exp(np.exp(p)).sum(),
    lambda p: np.exp(p + np.exp(p)),
    np.array([1.0, 3.0, 5.0]),
)
