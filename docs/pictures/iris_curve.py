"""The picture of what `infer` returns: a curve with its bands, and the profile of a parameter."""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_iris

from sk_analytic import AnalyticRegressor, infer
from sk_analytic.plotting import FittedCurveDisplay, ProfileDisplay


def forward(params, X):
    """A power of the first column."""
    return params["a"] * X[:, 0] ** params["b"]


def jacobian(params, X):
    """Its derivatives."""
    power = X[:, 0] ** params["b"]
    return {"a": power, "b": params["a"] * power * np.log(X[:, 0])}


def draw():
    """Draw the picture."""
    petals = load_iris().data
    X, y = petals[:, [2]], petals[:, 3]
    curve = AnalyticRegressor(forward, jacobian=jacobian, init={"a": 1.0, "b": 1.0})
    result = infer(curve.fit(X, y), X, y)
    _, panels = plt.subplots(1, 2, figsize=(8.4, 3.9), layout="constrained")
    FittedCurveDisplay.from_inference(result, X, y, ax=panels[0])
    panels[0].set(xlabel="length of the petal (cm)", ylabel="width of the petal (cm)")
    ProfileDisplay.from_inference(result, parameters=["a"], axes=[panels[1]])
