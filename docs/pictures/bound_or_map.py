"""The picture of bounds and maps: the parameter that each makes, and the path to an optimum on the boundary."""

import numpy as np
from matplotlib import pyplot as plt

from sk_analytic import AnalyticRegressor


def forward(params, X):
    """A line with a parameter that must not be negative."""
    return params["a"] * X[:, 0]


def jacobian(params, X):
    """Its derivative."""
    return {"a": X[:, 0]}


def path(X, y, **constraint):
    """The values of the parameter after each epoch of gradient descent."""
    start = {"a": np.array(1.0)}
    model = AnalyticRegressor(forward, jacobian=jacobian, init=start, shuffle=False, **constraint)
    model.set_params(optimizer="sgd", optimizer__learning_rate=0.3, batch_size=len(X), check_gradient=False)
    values = [1.0]
    for _ in range(30):
        model.partial_fit(X, y)
        values.append(float(model.params_["a"]))
    return values


def draw():
    """Draw the picture."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1))
    y = -0.3 * X[:, 0] + 0.1 * rng.normal(size=200)
    z = np.linspace(-3, 3, 301)
    _, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    left.plot(z, np.maximum(z, 0), color="C1", label="bounds=(0, None)")
    left.plot(z, np.exp(z), "--", color="C0", label='"log"')
    left.plot(z, 1 / (1 + np.exp(-z)), "-.", color="C2", label='"logit"')
    left.set(xlabel="number that the optimizer moves", ylabel="parameter", ylim=(-0.2, 3.2))
    for constraint, style in (({"bounds": {"a": (0, None)}}, "C1o-"), ({"reparametrize": {"a": "log"}}, "C0s--")):
        label = "bounds=(0, None)" if "bounds" in constraint else '"log"'
        right.plot(path(X, y, **constraint), style, markersize=4, label=label)
    right.set(xlabel="epoch", ylabel="parameter", ylim=(-0.07, 1.05))
    for axes in (left, right):
        axes.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9)
