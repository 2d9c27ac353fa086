"""Random problems beside a plain loop of NumPy, which does by hand what the guide says of training.

A seed draws a model, the structure of its parameters, the form of its gradient, a loss, weights, penalties, blocks that
stay, batches, an optimizer and the way in which training is called. `reference` trains it again, in float64, from the
formulas of the papers, and knows nothing of the package.
"""

import contextlib
import math
import warnings
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array, issparse
from sklearn.exceptions import ConvergenceWarning

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer, losses, optimizers

SHUFFLE, CHUNKS = 1, 5  # the purposes of random numbers, of which the order in an epoch is drawn
PROBLEMS, TESTS = 480, 12

METHODS = {
    AnalyticRegressor: "predict",
    AnalyticClassifier: "decision_function",
    AnalyticDensity: "score_samples",
    AnalyticTransformer: "transform",
}


# ---- models: a prediction of blocks by name, and what pulls a derivative in it back to them ----


def dense(X):
    return X.toarray() if issparse(X) else X


class Line:
    """Linear in one array and an offset, with one output or several."""

    names = ("W", "b")

    @staticmethod
    def start(rng, p, k):
        return {"W": 0.5 * rng.normal(size=(p, *k)), "b": 0.5 * rng.normal(size=k)}

    @staticmethod
    def predict(blocks, X):
        return X @ blocks["W"] + blocks["b"]

    @staticmethod
    def pull(blocks, X, d):
        return {"W": X.T @ d, "b": d.sum(axis=0)}

    @staticmethod
    def jacobian(blocks, X):
        n, X = X.shape[0], dense(X)
        if np.ndim(blocks["b"]) == 0:
            return {"W": X, "b": np.ones(n, X.dtype)}
        each = np.eye(len(blocks["b"]), dtype=X.dtype)
        return {"W": np.einsum("if,jk->ijfk", X, each), "b": np.broadcast_to(each, (n, *each.shape))}


class Net:
    """One hidden layer of three units."""

    names = ("V", "a", "W", "b")

    @staticmethod
    def start(rng, p, k):
        return {"V": rng.normal(size=(p, 3)), "a": 0.3 * rng.normal(size=3)} | Line.start(rng, 3, k)

    @staticmethod
    def hidden(blocks, X):
        return np.tanh(X @ blocks["V"] + blocks["a"])

    @staticmethod
    def predict(blocks, X):
        return Line.predict(blocks, Net.hidden(blocks, X))

    @staticmethod
    def pull(blocks, X, d):
        H = Net.hidden(blocks, X)
        by_hidden = (np.outer(d, blocks["W"]) if d.ndim == 1 else d @ blocks["W"].T) * (1 - H * H)
        return {"V": X.T @ by_hidden, "a": by_hidden.sum(axis=0)} | Line.pull(blocks, H, d)

    @staticmethod
    def jacobian(blocks, X):
        H, X = Net.hidden(blocks, X), dense(X)
        slope = 1 - H * H
        if np.ndim(blocks["b"]) == 0:
            by_a = slope * blocks["W"]
            by_V = X[:, :, None] * by_a[:, None, :]
        else:
            by_a = slope[:, None, :] * blocks["W"].T
            by_V = X[:, None, :, None] * by_a[:, :, None, :]
        return {"V": by_V, "a": by_a} | Line.jacobian(blocks, H)


class Gaussian:
    """The log-density of independent columns."""

    names = ("mean", "log_scale")

    @staticmethod
    def start(rng, p, k):
        return {"mean": rng.normal(size=p), "log_scale": 0.3 * rng.normal(size=p)}

    @staticmethod
    def scaled(blocks, X):
        return (dense(X) - blocks["mean"]) / np.exp(blocks["log_scale"])

    @staticmethod
    def predict(blocks, X):
        constant = blocks["log_scale"].sum() + X.dtype.type(0.5 * math.log(2 * math.pi) * X.shape[1])
        return -(Gaussian.scaled(blocks, X) ** 2).sum(axis=1) / 2 - constant

    @staticmethod
    def jacobian(blocks, X):
        z = Gaussian.scaled(blocks, X)
        return {"mean": z / np.exp(blocks["log_scale"]), "log_scale": z * z - 1}

    @staticmethod
    def pull(blocks, X, d):
        return {name: d @ leaf for name, leaf in Gaussian.jacobian(blocks, X).items()}


class Coder:
    """Codes of two components; the loss is of what they reconstruct, and no function of the codes."""

    names = ("C",)

    @staticmethod
    def start(rng, p, k):
        return {"C": 0.5 * rng.normal(size=(p, 2))}

    @staticmethod
    def predict(blocks, X):
        return X @ blocks["C"]

    @staticmethod
    def residual(blocks, X):
        return X @ blocks["C"] @ blocks["C"].T - dense(X)

    @staticmethod
    def loss(y, blocks, X):
        return (Coder.residual(blocks, X) ** 2).sum(axis=1) / 2

    @staticmethod
    def pull_loss(blocks, X, share):
        d = share[:, None] * Coder.residual(blocks, X)
        return {"C": X.T @ (d @ blocks["C"]) + d.T @ (X @ blocks["C"])}


# ---- losses: value of each row, and derivative in its predictions ----


def in_entries(formula):
    """A loss that is a sum over outputs."""

    def loss(y, f):
        values, slope = formula(y, f)
        return values if values.ndim == 1 else values.sum(axis=1), slope

    return loss


def huber(y, f, epsilon=0.8):
    r = f - y
    return np.where(abs(r) <= epsilon, r * r / 2, epsilon * abs(r) - epsilon**2 / 2), np.clip(r, -epsilon, epsilon)


def quantile(y, f, q=0.3):
    return np.where(y >= f, q * (y - f), (1 - q) * (f - y)), np.where(y > f, -q, np.where(y < f, 1 - q, 0.0))


def tweedie(y, f, p=1.5):
    up, down = np.exp((2 - p) * f), y * np.exp((1 - p) * f)
    return up / (2 - p) - down / (1 - p), up - down


def binary(y, f):
    return np.log1p(np.exp(f)) - y * f, 1 / (1 + np.exp(-f)) - y


def multinomial(y, f):
    shares = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    chosen = np.eye(f.shape[1], dtype=f.dtype)[y]
    return -np.log((shares * chosen).sum(axis=1)), shares - chosen


class Case(NamedTuple):
    """A loss as the package knows it, beside the formula; what its y are like."""

    loss: object
    formula: object
    cls: type = AnalyticRegressor
    draw: object = lambda rng, f: f + rng.normal(size=f.shape)
    mean: object = lambda f: f


def positive(rng, f):
    return np.exp(0.3 * rng.normal(size=f.shape))


CASES = [
    Case("squared_error", in_entries(lambda y, f: ((f - y) ** 2 / 2, f - y))),
    Case("absolute_error", in_entries(lambda y, f: (abs(f - y), np.sign(f - y)))),
    Case(losses.Huber(epsilon=0.8), in_entries(huber)),
    Case(losses.Quantile(quantile=0.3), in_entries(quantile)),
    Case("poisson", in_entries(lambda y, f: (np.exp(f) - y * f, np.exp(f) - y)), draw=positive, mean=np.exp),
    Case("gamma", in_entries(lambda y, f: (f + y * np.exp(-f), 1 - y * np.exp(-f))), draw=positive, mean=np.exp),
    Case(losses.Tweedie(power=1.5), in_entries(tweedie), draw=positive, mean=np.exp),
    Case("log_loss", binary, AnalyticClassifier, lambda rng, f: np.arange(len(f)) % 2),
    Case("log_loss", multinomial, AnalyticClassifier, lambda rng, f: np.arange(len(f)) % f.shape[1]),
    Case("negative_log_likelihood", lambda y, f: (-f, -np.ones_like(f)), AnalyticDensity, lambda rng, f: None),
    Case(None, None, AnalyticTransformer, lambda rng, f: None),
]


# ---- structures of parameters ----


class LineOf(NamedTuple):
    W: object
    b: object


class NetOf(NamedTuple):
    V: object
    a: object
    W: object
    b: object


class GaussianOf(NamedTuple):
    mean: object
    log_scale: object


class CoderOf(NamedTuple):
    C: object


NAMED = {named._fields: named for named in (LineOf, NetOf, GaussianOf, CoderOf)}
STRUCTURES = ("dict", "numbers", "tuple", "list", "named", "nested", "array")


class Structure:
    """How blocks stand in the user's parameters."""

    def __init__(self, kind, blocks):
        self.kind, self.names = kind, tuple(blocks)
        self.shapes = {name: np.shape(block) for name, block in blocks.items()}
        half = (len(self.names) + 1) // 2
        self.first, self.rest = self.names[:half], self.names[half:]

    def pack(self, blocks):
        """Blocks by name as the user has them; of a dict in another order of keys."""
        leaves = [blocks[name] for name in self.names]
        if self.kind == "array":
            lead = leaves[0].ndim - len(self.shapes[self.names[0]])
            return np.concatenate([np.reshape(leaf, (*np.shape(leaf)[:lead], -1)) for leaf in leaves], axis=-1)
        if self.kind == "nested":
            return {"first": {name: blocks[name] for name in self.first}} | (
                {"rest": [blocks[name] for name in self.rest]} if self.rest else {}
            )
        make = {"tuple": tuple, "list": list, "named": lambda leaves: NAMED[self.names](*leaves)}
        return make[self.kind](leaves) if self.kind in make else {name: blocks[name] for name in reversed(self.names)}

    def unpack(self, params):
        """Blocks by name of the user's structure."""
        if self.kind == "array":
            ends = np.cumsum([math.prod(shape) for shape in self.shapes.values()])[:-1]
            parts = np.split(params, ends)
            return {n: np.reshape(part, shape) for part, (n, shape) in zip(parts, self.shapes.items(), strict=True)}
        if self.kind == "nested":
            return {**params["first"], **dict(zip(self.rest, params.get("rest", ()), strict=True))}
        if self.kind in ("dict", "numbers"):
            return {name: params[name] for name in self.names}
        return dict(zip(self.names, params, strict=True))

    def label(self, name):
        """What the estimator calls a block."""
        if self.kind == "nested":
            return f"first.{name}" if name in self.first else f"rest.{self.rest.index(name)}"
        return self.names.index(name) if self.kind in ("tuple", "list") else name


# ---- optimizers: formulas of the papers, on the vector of what is trained ----


def sgd(mu=0.0, tau=0.0, nesterov=False):
    def direction(g, theta, t, s):
        s["b"] = g if t == 1 else mu * s["b"] + (1 - tau) * g
        return g + mu * s["b"] if nesterov else s["b"]

    return direction


def adagrad(start=0.1, decay=0.05, epsilon=1e-8):
    def direction(g, theta, t, s):
        s["v"] = s.get("v", start) + g**2
        return g / (np.sqrt(s["v"]) + epsilon) / (1 + (t - 1) * decay)

    return direction


def rmsprop(rho=0.9, epsilon=1e-6, mu=0.0, centered=False):
    def direction(g, theta, t, s):
        s["v"] = rho * s.get("v", 0) + (1 - rho) * g**2
        s["m"] = rho * s.get("m", 0) + (1 - rho) * g
        step = g / (np.sqrt(s["v"] - s["m"] ** 2 if centered else s["v"]) + epsilon)
        s["b"] = mu * s.get("b", 0) + step
        return s["b"]

    return direction


def adadelta(rho=0.8, epsilon=1e-4):
    def direction(g, theta, t, s):
        s["v"] = rho * s.get("v", 0) + (1 - rho) * g**2
        step = np.sqrt(s.get("u", 0) + epsilon) / np.sqrt(s["v"] + epsilon) * g
        s["u"] = rho * s.get("u", 0) + (1 - rho) * step**2
        return step

    return direction


def averages(g, s, b1, b2):
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g**2
    return s["m"], s["v"]


def adam(b1=0.8, b2=0.95, epsilon=1e-6, amsgrad=False, decay=0.0):
    def direction(g, theta, t, s):
        m, v = averages(g, s, b1, b2)
        v = s["largest"] = np.maximum(s.get("largest", 0), v) if amsgrad else v
        return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + epsilon) + decay * theta

    return direction


def adamax(b1=0.8, b2=0.95, epsilon=1e-6):
    def direction(g, theta, t, s):
        m, _ = averages(g, s, b1, b2)
        s["u"] = np.maximum(b2 * s.get("u", 0), abs(g) + epsilon)
        return m / (1 - b1**t) / s["u"]

    return direction


def nadam(b1=0.8, b2=0.95, epsilon=1e-6, psi=0.1):
    def direction(g, theta, t, s):
        m, v = averages(g, s, b1, b2)
        now, following = (b1 * (1 - 0.5 * 0.96 ** (i * psi)) for i in (t, t + 1))
        s["product"] = s.get("product", 1) * now
        lookahead = following * m / (1 - s["product"] * following) + (1 - now) * g / (1 - s["product"])
        return lookahead / (np.sqrt(v / (1 - b2**t)) + epsilon)

    return direction


def radam(b1=0.8, b2=0.9, epsilon=1e-6):
    def direction(g, theta, t, s):
        m, v = averages(g, s, b1, b2)
        m = m / (1 - b1**t)
        longest = 2 / (1 - b2) - 1
        length = longest - 2 * t * b2**t / (1 - b2**t)
        if length <= 5:
            return m
        r = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5
        return r * m * np.sqrt(1 - b2**t) / (np.sqrt(v) + epsilon)

    return direction


def adabelief(b1=0.8, b2=0.95, epsilon=1e-6, inside=1e-6):
    def direction(g, theta, t, s):
        m, _ = averages(g, s, b1, b2)
        s["s"] = b2 * s.get("s", 0) + (1 - b2) * (g - m) ** 2 + inside
        return m / (1 - b1**t) / (np.sqrt(s["s"] / (1 - b2**t)) + epsilon)

    return direction


def lion(b1=0.8, b2=0.95):
    def direction(g, theta, t, s):
        mixed = b1 * s.get("m", 0) + (1 - b1) * g
        s["m"] = b2 * s.get("m", 0) + (1 - b2) * g
        return np.sign(mixed)

    return direction


ADAM = {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-6}
RULES = [
    ("SGD", {}, sgd()),
    ("SGD", {"momentum": 0.7}, sgd(0.7)),
    ("SGD", {"momentum": 0.7, "dampening": 0.4}, sgd(0.7, 0.4)),
    ("SGD", {"momentum": 0.6, "nesterov": True}, sgd(0.6, nesterov=True)),
    ("Adagrad", {"initial_accumulator_value": 0.1, "lr_decay": 0.05, "epsilon": 1e-8}, adagrad()),
    ("RMSprop", {"rho": 0.9, "epsilon": 1e-6}, rmsprop()),
    ("RMSprop", {"rho": 0.9, "epsilon": 1e-2, "momentum": 0.5, "centered": True}, rmsprop(0.9, 1e-2, 0.5, True)),
    ("Adadelta", {"rho": 0.8, "epsilon": 1e-4}, adadelta()),
    ("Adam", ADAM, adam()),
    ("Adam", ADAM | {"amsgrad": True}, adam(amsgrad=True)),
    ("AdamW", ADAM | {"weight_decay": 0.2}, adam(decay=0.2)),
    ("Adamax", ADAM, adamax()),
    ("NAdam", ADAM | {"momentum_decay": 0.1}, nadam()),
    ("RAdam", ADAM | {"beta_2": 0.9}, radam()),
    ("AdaBelief", ADAM | {"epsilon_root": 1e-6}, adabelief()),
    ("Lion", {"beta_1": 0.8, "beta_2": 0.95}, lion()),
]


class Fading(optimizers.Schedule):
    """A rate that falls with the steps and with the epochs."""

    def __init__(self, start):
        self.start = start

    def __call__(self, step, epoch):
        return self.start / (1 + 0.1 * step) * 0.8**epoch


# ---- a problem ----


class Problem:
    """What a seed draws."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        self.seed = seed
        self.case = case = CASES[rng.integers(len(CASES))]
        self.draw_model()
        self.form = self.draw_form()
        self.dtype = np.dtype(rng.choice([np.float64, np.float64, np.float64, np.float32]))
        self.draw_data()
        self.structure = Structure(rng.choice(STRUCTURES), self.start)
        self.draw_blocks()
        self.reduction = rng.choice(["mean", "sum"]) if self.form in ("gradient", "loss_and_gradient") else "mean"
        self.batch_size = int(rng.choice([1 if self.n < 15 else 4, 5, 7, self.n, self.n + 3]))
        self.shuffle = bool(rng.integers(2))
        self.epochs = int(rng.integers(1, 5))
        self.random_state = int(rng.integers(1000))
        self.draw_optimizer()
        self.way = rng.choice(["fit", "fit", "fit", "warm_start", "partial_fit", "list of chunks", "chunks one by one"])
        self.pieces = np.split(np.arange(self.n), np.sort(rng.choice(np.arange(2, self.n - 1), 2, replace=False)))
        if case.cls is AnalyticClassifier:  # a piece of a fit knows all labels
            self.pieces = [np.arange(self.n)[i::2] for i in range(2)]
        self.loss = "by name" if case.loss is not None else "of their own"
        if self.form == "gradient":
            self.loss = str(rng.choice(["none", "of their own", "of their own", self.loss]))
        if self.weight is not None:
            self.weight[[rows[0] for rows in self.pieces]] = 1.0  # there is something to learn in each

    def draw_model(self):
        rng, case = self.rng, self.case
        self.k = () if case.formula is binary or rng.integers(3) else (int(rng.integers(2, 4)),)
        if case.formula is multinomial:
            self.k = (3,)
        if case.cls is AnalyticRegressor or case.cls is AnalyticClassifier:
            self.model = (Line, Net)[rng.integers(2)]
        else:
            self.model, self.k = (Gaussian if case.cls is AnalyticDensity else Coder), ()
        self.p = int(rng.integers(1, 5))
        self.start = self.model.start(rng, self.p, self.k)

    def draw_form(self):
        forms = ["gradient", "loss_and_gradient"] + ["vjp", "jacobian"] * (self.model is not Coder)
        return str(self.rng.choice(forms))

    def draw_data(self):
        rng, dtype = self.rng, self.dtype
        self.n = int(rng.integers(8, 30))
        X = rng.normal(size=(self.n, self.p))
        self.sparse = self.model in (Line, Net) and not rng.integers(4)
        if self.sparse:
            X *= rng.random(X.shape) < 0.6
        self.X = X.astype(dtype)
        y = self.case.draw(rng, self.model.predict(self.start, X))
        self.y = y if y is None or y.dtype.kind == "i" else y.astype(dtype)
        self.offset = rng.normal(size=self.n) if self.model in (Line, Net) and not self.k and rng.integers(2) else None
        weights = [None, None, rng.uniform(0.2, 2, self.n), rng.integers(1, 4, self.n).astype(float)]
        self.weight = weights[rng.integers(4)]

    def draw_blocks(self):
        """Which blocks are fixed, which have no gradient, and how strongly each is penalized."""
        rng, names = self.rng, list(self.start)
        rng.shuffle(names)
        several = self.structure.kind != "array" and len(names) > 1
        self.fixed = names[:1] if several and not rng.integers(3) else []
        self.absent = names[1:2] if several and len(names) > 2 and not rng.integers(3) else []
        self.trained = [name for name in self.start if name not in (*self.fixed, *self.absent)]
        strengths = dict.fromkeys(self.start, 0.0)
        kind = rng.integers(3)
        if kind:
            chosen = strengths if kind == 1 or self.structure.kind == "array" else names[-1:]
            strengths |= dict.fromkeys(chosen, 0.3)
        self.strengths = strengths
        self.alpha = 0.3 if kind == 1 else 0.0
        if kind == 2:
            whole = self.structure.kind == "array"
            self.alpha = {"params": 0.3} if whole else {self.structure.label(name): 0.3 for name in names[-1:]}

    def draw_optimizer(self):
        rng = self.rng
        name, settings, self.direction = RULES[rng.integers(len(RULES))]
        rate = 0.3 if name == "Adadelta" else 0.02
        self.rate = Fading(rate) if not rng.integers(4) else lambda step, epoch: rate
        given = self.rate if isinstance(self.rate, Fading) else rate
        self.max_norm = 0.5 if not rng.integers(3) else math.inf
        self.decay = 0.1 if not rng.integers(5) else 0.0
        rule = getattr(optimizers, name)(learning_rate=given, **settings)
        links = [optimizers.ClipNorm(self.max_norm)] * (self.max_norm < math.inf)
        links += [optimizers.WeightDecay(self.decay)] * (self.decay > 0)
        self.optimizer = optimizers.Chain([*links, rule]) if links else rule

    def __repr__(self):
        hidden = ("rng", "X", "y", "offset", "weight", "start", "pieces", "direction", "rate", "trained", "structure")
        shown = {name: value for name, value in vars(self).items() if name not in hidden}
        weights = "none" if self.weight is None else f"{self.weight.min():.2g} to {self.weight.max():.2g}"
        shown |= {"structure": self.structure.kind, "weights": weights, "offset": self.offset is not None}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    # What the user's functions return.

    def rows(self, blocks, X, y, offset):
        """The loss of each row, and what turns the shares of rows into the gradient."""
        if self.model is Coder:
            return Coder.loss(y, blocks, X), lambda share: Coder.pull_loss(blocks, X, share)
        values, slope = self.case.formula(y, self.model.predict(blocks, X) + offset)
        return values, lambda share: self.model.pull(blocks, X, slope * (share if slope.ndim == 1 else share[:, None]))

    def callables(self):
        structure, absent = self.structure, self.absent

        def leaves(blocks):
            return structure.pack({name: None if name in absent else leaf for name, leaf in blocks.items()})

        def forward(params, X, offset=0.0):
            return self.model.predict(structure.unpack(params), X) + offset

        def loss_and_gradient(params, X, y=None, sample_weight=None, offset=0.0):
            values, pull = self.rows(structure.unpack(params), X, y, offset)
            share = np.ones(X.shape[0], X.dtype) if sample_weight is None else sample_weight
            share = share if self.reduction == "sum" else share / X.dtype.type(X.shape[0])
            return float(share @ values), leaves(pull(share))

        def gradient(params, X, y=None, sample_weight=None, offset=0.0):
            return loss_and_gradient(params, X, y, sample_weight, offset)[1]

        def loss(params, X, y=None, sample_weight=None, offset=0.0):
            return loss_and_gradient(params, X, y, sample_weight, offset)[0]

        def vjp(params, X, offset=0.0):
            blocks = structure.unpack(params)
            prediction = self.model.predict(blocks, X) + offset
            return prediction, lambda d: leaves(self.model.pull(blocks, X, d))

        def jacobian(params, X):
            return leaves(self.model.jacobian(structure.unpack(params), X))

        given = {"gradient": gradient, "loss_and_gradient": loss_and_gradient, "vjp": vjp, "jacobian": jacobian}
        of = {"by name": self.case.loss, "of their own": loss if self.form == "gradient" else None, "none": None}
        return {"forward": forward, self.form: given[self.form], "loss": of[self.loss]}

    # Training by the package.

    def estimator(self):
        start = {name: block.copy() for name, block in self.start.items()}
        if self.structure.kind == "numbers":
            start = {name: float(block) if np.ndim(block) == 0 else block for name, block in start.items()}
        return self.case.cls(
            **self.callables(),
            init=self.structure.pack(start),
            accept_sparse=self.sparse,
            reduction=self.reduction,
            fixed=[self.structure.label(name) for name in self.fixed],
            alpha=self.alpha,
            optimizer=self.optimizer,
            batch_size=self.batch_size,
            max_iter=self.epochs,
            shuffle=self.shuffle,
            tol=None,
            check_gradient=self.seed % 10 == 0,
            random_state=self.random_state,
        )

    def arguments(self, rows=slice(None)):
        X = csr_array(self.X[rows]) if self.sparse else self.X[rows]
        beside = {"y": self.y, "sample_weight": self.weight, "offset": self.offset}
        return {"X": X} | {name: array[rows] for name, array in beside.items() if array is not None}

    def trained_by_the_package(self):
        model = self.estimator()
        classes = {"classes": np.unique(self.y)} if self.case.cls is AnalyticClassifier else {}
        if self.way == "partial_fit":
            for rows in self.pieces:
                model.partial_fit(**self.arguments(rows), **classes)
        elif self.way == "warm_start":
            model.set_params(warm_start=True).fit(**self.arguments()).fit(**self.arguments())
        elif "chunks" in self.way:
            chunks = [self.arguments(rows) for rows in self.pieces]
            model.fit_chunks(chunks if self.way == "list of chunks" else lambda: iter(chunks), **classes)
        else:
            model.fit(**self.arguments())
        return model

    # The same by hand.

    def orders(self):
        """For each epoch its batches: the numbers of the rows of each."""
        seed = np.random.RandomState(self.random_state).randint(2**31 - 1)

        def permutation(n, *position):
            return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=position)).permutation(n)

        def batches(rows, epoch, *place):
            if self.shuffle and self.batch_size < len(rows):
                rows = rows[permutation(len(rows), SHUFFLE, epoch, *place)]
            return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]

        if self.way == "partial_fit":
            return [batches(rows, epoch) for epoch, rows in enumerate(self.pieces)]
        epochs = range(2 * self.epochs if self.way == "warm_start" else self.epochs)
        if "chunks" not in self.way:
            return [batches(np.arange(self.n), epoch) for epoch in epochs]
        found = []
        for epoch in epochs:
            order = range(len(self.pieces))
            if self.way == "list of chunks" and self.shuffle:
                order = permutation(len(order), CHUNKS, epoch)
            found.append([b for i in order for b in batches(self.pieces[i], epoch, *([i] if i else []))])
        return found

    def trained_by_hand(self):
        """The blocks, the curve of the objective and that of the gradient's norm, and how often θ was updated."""
        X = self.X.astype(float)
        y = self.y.astype(float) if self.y is not None and self.y.dtype.kind == "f" else self.y
        weight = np.ones(self.n) if self.weight is None else self.weight
        if self.way != "partial_fit":
            weight = weight * self.n / weight.sum()
        blocks = {name: block.astype(self.dtype).astype(float) for name, block in self.start.items()}
        shapes = {name: blocks[name].shape for name in self.trained}
        memory, t, curve, norms = {}, 0, [], []
        for epoch, batches in enumerate(self.orders()):
            values, sizes, counts = [], [], []
            for rows in batches:
                share = weight[rows] / len(rows)
                if not share.any():
                    continue
                offset = 0.0 if self.offset is None else self.offset[rows]
                losses, pull = self.rows(blocks, X[rows], None if y is None else y[rows], offset)
                grads = pull(share)
                penalty = sum(self.strengths[name] / 2 * (block**2).sum() for name, block in blocks.items())
                g = flat({name: grads[name] + self.strengths[name] * blocks[name] for name in self.trained})
                theta = flat({name: blocks[name] for name in self.trained})
                values.append(share @ losses + penalty)
                sizes.append(np.sqrt(g @ g))
                counts.append(len(rows))
                t += 1
                g = g * min(1.0, self.max_norm / max(sizes[-1], 1e-300)) + self.decay * theta
                theta = theta - self.rate(t - 1, epoch) * self.direction(g, theta, t, memory)
                ends = np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1]
                parts = zip(shapes, np.split(theta, ends), strict=True)
                blocks |= {name: part.reshape(shapes[name]) for name, part in parts}
            curve.append(np.average(values, weights=counts))
            norms.append(np.average(sizes, weights=counts))
        return blocks, curve, norms, t


def flat(blocks):
    return np.concatenate([np.ravel(block) for block in blocks.values()])


def compare(problem):
    """Raise if what the package trains is not what the loop does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a loss may rise in so few steps
        model = problem.trained_by_the_package()
    blocks, curve, norms, n_steps = problem.trained_by_hand()
    close = {"rtol": 1e-8, "atol": 1e-9} if problem.dtype == np.float64 else {"rtol": 2e-3, "atol": 2e-4}
    came = problem.structure.unpack(model.params_)
    for name, block in blocks.items():
        assert_allclose(came[name], block, **close, err_msg=f"block {name}")
    for name in (*problem.fixed, *problem.absent):
        assert (came[name] == problem.start[name].astype(problem.dtype)).all(), f"block {name} has moved"
    assert (model.n_iter_, model.n_steps_) == (len(curve), n_steps)
    assert_allclose(model.gradient_norm_curve_, norms, **close, err_msg="norm of the gradient")
    if problem.form != "gradient":  # which is watched on a sample of the rows
        assert_allclose(model.loss_curve_, curve, **close, err_msg="loss")
    given = problem.arguments()
    beside = {"offset": given["offset"]} if "offset" in given else {}
    prediction = problem.model.predict(blocks, problem.X.astype(float)) + beside.get("offset", 0.0)
    said = getattr(model, METHODS[problem.case.cls])(given["X"], **beside)
    mean = problem.case.mean if problem.loss == "by name" else np.asarray  # any other has no link
    assert_allclose(said, mean(prediction), **close, err_msg="prediction")


@pytest.mark.parametrize("part", range(TESTS))
def test_training_is_what_a_plain_loop_does(part):
    """Parameters, curves, counts and predictions; of a failure, the notes show the problem that was drawn."""
    for seed in range(part, PROBLEMS, TESTS):
        problem = Problem(seed)
        with noted(f"Problem({seed}): {problem!r}"):
            compare(problem)


@contextlib.contextmanager
def noted(text):
    try:
        yield
    except Exception as error:
        error.add_note(text)
        raise
