"""Right gradients that look suspicious: kinks, extreme scales, low precision, noise, saturation, size."""

import numpy as np
from scipy.special import expit, softmax

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer

from .patients import (
    Curve,
    Gaussian,
    Hidden,
    Nade,
    Poisson,
    Recurrent,
    Relu,
    Sigmoid,
    Softmax,
    Survival,
    TwoOutputs,
)

HEALTHY = {}


def healthy(plant):
    """Register what makes a right gradient, as arguments of `check_gradient`."""
    HEALTHY[plant.__name__] = plant
    return plant


def _regressor(model, **callables):
    callables.setdefault("forward", model.forward)
    return {"estimator": AnalyticRegressor(init=model.params, **callables), "X": model.X, "y": model.y}


for _model in (Hidden, Relu, Sigmoid):
    for _form in ("gradient", "loss_and_gradient", "vjp"):
        HEALTHY[f"{_model.__name__}_{_form}"] = lambda model=_model, form=_form: _regressor(
            model, **{form: getattr(model, form)}
        )
for _model in (Curve, TwoOutputs):
    HEALTHY[f"{_model.__name__}_jacobian"] = lambda model=_model: _regressor(model, jacobian=model.jacobian)
for _form in ("gradient", "vjp"):
    HEALTHY[f"Softmax_{_form}"] = lambda form=_form: {
        "estimator": AnalyticClassifier(Softmax.forward, init=Softmax.params, **{form: getattr(Softmax, form)}),
        "X": Softmax.X,
        "y": Softmax.y,
    }
for _model in (Nade, Gaussian):
    HEALTHY[_model.__name__] = lambda model=_model: {
        "estimator": AnalyticDensity(model.forward, model.gradient, model.params),
        "X": model.X,
    }
HEALTHY["Poisson"] = lambda: _regressor(Poisson, loss_and_gradient=Poisson.loss_and_gradient)
HEALTHY["Recurrent"] = lambda: _regressor(Recurrent, vjp=Recurrent.vjp)
HEALTHY["Survival"] = lambda: {
    "loss": Survival.loss,
    "gradient": Survival.gradient,
    "params": Survival.params,
    "X": Survival.X,
    "y": Survival.y,
}


@healthy
def weighted_softmax():
    estimator = AnalyticClassifier(Softmax.forward, Softmax.weighted_gradient, Softmax.params)
    weights = np.random.default_rng(1).uniform(0, 3, 40)
    return {"estimator": estimator, "X": Softmax.X, "y": Softmax.y, "sample_weight": weights}


@healthy
def relu_at_its_kink():
    """Biases and features of zero: every unit sits exactly where its slope jumps."""

    def loss(params):
        return float(np.sum(np.maximum(params["b"], 0)) + 0.5 * np.sum(params["w"] ** 2))

    def gradient(params):
        return {"b": (params["b"] > 0).astype(float), "w": params["w"].copy()}

    return {"loss": loss, "gradient": gradient, "params": {"b": np.zeros(5), "w": np.ones(3)}}


@healthy
def relu_net_from_zero():
    params = {k: np.zeros_like(v) for k, v in Relu.params.items()}
    return {"estimator": AnalyticRegressor(Relu.forward, Relu.gradient, params), "X": Relu.X, "y": Relu.y}


@healthy
def wide_relu_net():
    """Thousands of kinks within any step."""
    draw = np.random.default_rng(2)
    params = {"W1": draw.normal(size=(5, 2000)), "b1": draw.normal(size=2000), "W2": draw.normal(size=2000), "b2": 0.0}
    return {"estimator": AnalyticRegressor(Relu.forward, vjp=Relu.vjp, init=params), "X": Relu.X, "y": Relu.y}


@healthy
def absolute_error():
    """A loss of kinks alone."""

    def gradient(params, X, y):
        s = np.sign(X @ params["w"] + params["b"] - y) / len(X)
        return {"w": X.T @ s, "b": float(s.sum())}

    estimator = AnalyticRegressor(Poisson.forward, gradient, Poisson.params, loss="absolute_error")
    return {"estimator": estimator, "X": Poisson.X, "y": Poisson.y}


@healthy
def lasso_at_zero():
    """A penalty with its kink where θ starts."""
    X, y = Poisson.X, Poisson.y

    def loss(w):
        return 0.5 * float(np.mean((X @ w - y) ** 2)) + float(np.abs(w).sum())

    def gradient(w):
        return X.T @ (X @ w - y) / len(X) + np.sign(w)

    return {"loss": loss, "gradient": gradient, "params": np.zeros(5)}


def _scaled(factor):
    def loss(params, X, y):
        return factor * float(np.mean((X @ params["w"] - y) ** 2))

    def gradient(params, X, y):
        return {"w": 2 * factor * X.T @ (X @ params["w"] - y) / len(X)}

    return {"loss": loss, "gradient": gradient, "params": {"w": Poisson.params["w"]}, "X": Poisson.X, "y": Poisson.y}


@healthy
def loss_of_1e8():
    return _scaled(1e8)


@healthy
def loss_of_1e_minus_8():
    return _scaled(1e-8)


@healthy
def loss_of_1e_minus_30():
    return _scaled(1e-30)


def _blocks_of_scales(scales):
    """Blocks of θ on different scales; each matters in its own measure."""

    def loss(params):
        return float(sum(np.sum(np.cos(params[f"w{i}"] / s) + params[f"w{i}"] / s) for i, s in enumerate(scales)))

    def gradient(params):
        return {f"w{i}": (1 - np.sin(params[f"w{i}"] / s)) / s for i, s in enumerate(scales)}

    draw = np.random.default_rng(3)
    return {
        "loss": loss,
        "gradient": gradient,
        "params": {f"w{i}": s * draw.normal(size=3) for i, s in enumerate(scales)},
    }


@healthy
def parameters_of_1e8_and_1e_minus_8():
    return _blocks_of_scales((1e8, 1.0, 1e-8))


@healthy
def features_of_1e6():
    X = Poisson.X * np.array([1e6, 1, 1e-6, 1e3, 1e-3])
    estimator = AnalyticRegressor(random_state=0)
    return {"estimator": estimator, "X": X, "y": X[:, 0] + Poisson.y}


@healthy
def blocks_of_unequal_gradient():
    """One block's gradient is 1e10 times another's."""

    def loss(params):
        return float(1e8 * np.sum(params["a"] ** 4) + 1e-2 * np.sum(params["b"] ** 4))

    def gradient(params):
        return {"a": 4e8 * params["a"] ** 3, "b": 4e-2 * params["b"] ** 3}

    return {"loss": loss, "gradient": gradient, "params": {"a": np.array([1.0, 2.0]), "b": np.array([0.5, 1.0])}}


@healthy
def float32_loss():
    def loss(params, X, y):
        return float(np.float32(Hidden.loss_and_gradient(params, X, y)[0]))

    return {"loss": loss, "gradient": Hidden.gradient, "params": Hidden.params, "X": Hidden.X, "y": Hidden.y}


def _narrow(structure):
    return {k: np.asarray(v, np.float32) for k, v in structure.items()}


@healthy
def float32_everywhere_inside():
    def vjp(params, X):
        out, pullback = Hidden.vjp(_narrow(params), X.astype(np.float32))
        return out, lambda d: _narrow(pullback(d.astype(np.float32)))

    return _regressor(Hidden, forward=lambda params, X: vjp(params, X)[0], vjp=vjp)


@healthy
def float32_gradient_alone():
    def gradient(params, X, y):
        return _narrow(Hidden.gradient(_narrow(params), X.astype(np.float32), y.astype(np.float32)))

    return _regressor(Hidden, gradient=gradient)


@healthy
def float16_parameters():
    def loss(x):
        return float(np.sum(np.sin(x.astype(np.float16).astype(float))))

    return {"loss": loss, "gradient": np.cos, "params": np.array([0.3, 0.7, 1.4])}


@healthy
def float32_estimator():
    X, y = Hidden.X.astype(np.float32), Hidden.y.astype(np.float32)
    return {"estimator": AnalyticRegressor(Hidden.forward, vjp=Hidden.vjp, init=Hidden.params), "X": X, "y": y}


@healthy
def stochastic_gradient():
    """An unbiased estimate from some of the rows, by the generator that it is given."""

    def gradient(params, X, y, rng):
        rows = rng.integers(0, len(X), len(X) // 2)
        return Hidden.gradient(params, X[rows], y[rows])

    return _regressor(Hidden, gradient=gradient)


@healthy
def stochastic_gradient_of_its_own_generator():
    chance = np.random.default_rng(5)

    def gradient(params, X, y):
        rows = chance.integers(0, len(X), len(X) // 2)
        return Hidden.gradient(params, X[rows], y[rows])

    return _regressor(Hidden, gradient=gradient)


@healthy
def dropout_with_common_numbers():
    """Loss and gradient draw the same mask from the generator that both are given."""

    def loss_and_gradient(params, X, y, rng):
        mask = rng.random(X.shape) < 0.7
        return Hidden.loss_and_gradient(params, X * mask, y)

    return _regressor(Hidden, loss_and_gradient=loss_and_gradient)


@healthy
def noisy_loss():
    chance = np.random.default_rng(6)

    def loss(x):
        return float(np.sum(x**2)) + 1e-3 * chance.normal()

    return {"loss": loss, "gradient": lambda x: 2 * x, "params": np.array([1.0, -2.0, 0.5])}


@healthy
def loss_with_deterministic_noise():
    """An inner iteration that stops early: rough at small scales, the same when asked again."""

    def loss(x):
        return float(np.sum(x**2)) + 1e-6 * float(np.sin(1e9 * x.sum()))

    return {"loss": loss, "gradient": lambda x: 2 * x, "params": np.array([1.0, -2.0, 0.5])}


@healthy
def staircase():
    """A loss in steps has no derivative that differences could find."""

    def loss(x):
        return float(np.floor(x * 50).sum())

    return {"loss": loss, "gradient": lambda x: np.full_like(x, 50.0), "params": np.array([1.0, -2.0, 0.5])}


@healthy
def saturated_softmax():
    params = {"W": Softmax.params["W"] * 300, "b": Softmax.params["b"]}
    estimator = AnalyticClassifier(Softmax.forward, Softmax.gradient, params)
    labels = np.argmax(Softmax.forward(params, Softmax.X), axis=1)
    return {"estimator": estimator, "X": Softmax.X, "y": labels}


@healthy
def saturated_units():
    params = {**Sigmoid.params, "b1": np.full(6, 60.0)}
    return {"estimator": AnalyticRegressor(Sigmoid.forward, vjp=Sigmoid.vjp, init=params), "X": Hidden.X, "y": Hidden.y}


@healthy
def probabilities_clipped_in_the_loss():
    """A loss kept from log 0 by 1e-12, which the gradient rightly leaves out."""

    def loss(params, X, y):
        p = softmax(Softmax.forward(params, X), axis=1)[np.arange(len(X)), y]
        return -float(np.mean(np.log(p + 1e-12)))

    return {"loss": loss, "gradient": Softmax.gradient, "params": Softmax.params, "X": Softmax.X, "y": Softmax.y}


@healthy
def ill_conditioned():
    """A Hilbert matrix."""
    H = 1 / (np.arange(12)[:, None] + np.arange(12) + 1.0)
    return {
        "loss": lambda x: 0.5 * float(x @ H @ x),
        "gradient": lambda x: H @ x,
        "params": np.random.default_rng(7).normal(size=12),
    }


@healthy
def rosenbrock_at_its_minimum():
    from scipy.optimize import rosen, rosen_der

    return {"loss": rosen, "gradient": rosen_der, "params": np.ones(6)}


@healthy
def at_the_optimum():
    """The gradient is zero to rounding."""
    X, y = Hidden.X, Hidden.y
    w = np.linalg.lstsq(X, y, rcond=None)[0]
    return {
        "loss": lambda w: 0.5 * float(np.mean((X @ w - y) ** 2)),
        "gradient": lambda w: X.T @ (X @ w - y) / len(X),
        "params": w,
    }


@healthy
def large_constant_in_the_loss():
    """The derivative drowns in the rounding of the loss."""
    return {
        "loss": lambda x: 1e12 + float(np.sum(x**3)),
        "gradient": lambda x: 3 * x**2,
        "params": np.array([1.0, -2.0, 0.5]),
    }


@healthy
def fast_oscillation():
    return {
        "loss": lambda x: float(np.sum(np.sin(1000 * x))),
        "gradient": lambda x: 1000 * np.cos(1000 * x),
        "params": np.array([0.3, 0.7, 1.1]),
    }


@healthy
def near_a_pole():
    return {
        "loss": lambda x: float(np.sum(-np.log(x))),
        "gradient": lambda x: -1 / x,
        "params": np.array([1e-6, 1.0, 1e-3]),
    }


@healthy
def loss_not_finite_nearby():
    """Defined only above a bound that the first point sits on."""
    return {
        "loss": lambda x: float(np.sum(np.sqrt(x - 1))),
        "gradient": lambda x: 0.5 / np.sqrt(x - 1),
        "params": np.array([1.0, 1.0, 1.0]),
    }


@healthy
def a_million_parameters():
    draw = np.random.default_rng(8)
    target = draw.normal(size=(1000, 1000))
    return {
        "loss": lambda params: 0.5 * float(np.mean((params["W"] - target) ** 2)) + float(np.sum(params["b"] ** 2)),
        "gradient": lambda params: {"W": (params["W"] - target) / target.size, "b": 2 * params["b"]},
        "params": {"W": draw.normal(size=(1000, 1000)), "b": draw.normal(size=10)},
    }


@healthy
def one_parameter():
    return {"loss": lambda x: x**4, "gradient": lambda x: 4 * x**3, "params": 0.7}


@healthy
def one_row():
    return {
        "estimator": AnalyticRegressor(Hidden.forward, Hidden.gradient, Hidden.params),
        "X": Hidden.X[:1],
        "y": Hidden.y[:1],
    }


@healthy
def one_row_of_a_density():
    return {"estimator": AnalyticDensity(Nade.forward, Nade.gradient, Nade.params), "X": Nade.X[:1]}


@healthy
def fifty_blocks():
    draw = np.random.default_rng(9)
    params = {f"w{i}": draw.normal(size=3) * 10.0 ** (i % 5 - 2) for i in range(50)}
    return {
        "loss": lambda p: float(sum(np.sum(np.tanh(v) ** 2) for v in p.values())),
        "gradient": lambda p: {k: 2 * np.tanh(v) * (1 - np.tanh(v) ** 2) for k, v in p.items()},
        "params": params,
    }


@healthy
def block_without_influence():
    """A block that the loss does not contain, its gradient rightly zero."""
    return {
        "loss": lambda p: float(np.sum(p["a"] ** 2)),
        "gradient": lambda p: {"a": 2 * p["a"], "unused": np.zeros(3)},
        "params": {"a": np.array([1.0, 2.0]), "unused": np.ones(3)},
    }


@healthy
def default_models():
    return {"estimator": AnalyticTransformer(), "X": Hidden.X}


@healthy
def default_density_on_constant_columns():
    X = np.column_stack([Hidden.X, np.zeros(40)])
    return {"estimator": AnalyticDensity(), "X": X}


@healthy
def gradient_in_a_reused_buffer():
    """The same array is returned each time, rightly filled anew."""
    buffer = np.zeros(3)

    def gradient(x):
        buffer[:] = 2 * x
        return buffer

    return {"loss": lambda x: float(np.sum(x**2)), "gradient": gradient, "params": np.array([1.0, -2.0, 0.5])}


@healthy
def gradient_of_a_logistic_density_by_its_complement():
    def forward(params, X):
        return np.log(expit(X @ params["w"])) + 0.0

    def gradient(params, X):
        return {"w": -(X * expit(-X @ params["w"])[:, None]).mean(axis=0)}

    return {"estimator": AnalyticDensity(forward, gradient, {"w": np.full(5, 0.1)}), "X": Hidden.X}
