"""The picture of a peak on a sloping background: data and fit, and what outliers do to two losses."""

import numpy as np
from matplotlib import pyplot as plt

from sk_analytic import AnalyticRegressor
from sk_analytic.losses import Huber


def forward(params, X):
    """A peak on a background."""
    z = (X[:, 0] - params["center"]) / params["width"]
    background = params["background"][0] + params["background"][1] * X[:, 0]
    return params["height"] * np.exp(-0.5 * z**2) + background


def jacobian(params, X):
    """Its derivatives."""
    z = (X[:, 0] - params["center"]) / params["width"]
    peak = np.exp(-0.5 * z**2)
    by_center = params["height"] * peak * z / params["width"]
    columns = np.stack([np.ones(len(X)), X[:, 0]], axis=1)
    return {"height": peak, "center": by_center, "width": by_center * z, "background": columns}


def draw():
    """Draw the picture."""
    rng = np.random.default_rng(0)
    X = np.linspace(0, 10, 400)[:, None]
    truth = {"height": 2.0, "center": 4.0, "width": 0.5, "background": np.array([1.0, 0.2])}
    y = forward(truth, X) + 0.1 * rng.normal(size=400)
    start = {"height": 1.0, "center": 5.0, "width": 1.0, "background": np.zeros(2)}
    model = AnalyticRegressor(forward, jacobian=jacobian, init=start)

    _, panels = plt.subplots(1, 2, figsize=(8.4, 3.2), sharex=True, sharey=True, layout="constrained")
    panels[0].plot(X[:, 0], y, ".", color="0.6", markersize=4, label="data")
    panels[0].plot(X[:, 0], model.fit(X, y).predict(X), color="C0", linewidth=2, label="fit")
    y[::20] += 2.5
    panels[1].plot(X[:, 0], y, ".", color="0.6", markersize=4, label="data with outliers")
    panels[1].plot(X[:, 0], model.fit(X, y).predict(X), "--", color="C1", linewidth=2, label="squared error")
    robust = model.set_params(loss=Huber(epsilon=0.1)).fit(X, y)
    panels[1].plot(X[:, 0], robust.predict(X), color="C0", linewidth=2, label="Huber loss")
    for axes in panels:
        axes.set(xlabel="x")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9)
    panels[0].set(ylabel="y", ylim=(0.5, 6.5))
