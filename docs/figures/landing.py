"""The pictures of the landing page: digits drawn from a density, a diagnosis, a curve with its band."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit
from sklearn.datasets import load_digits, load_iris

from sk_analytic import AnalyticDensity, AnalyticRegressor, Model, check_gradient, infer
from sk_analytic.optimizers import Adam
from sk_analytic.plotting import FittedCurveDisplay

BLUE, ORANGE = "#0072b2", "#d55e00"


class NADE(Model):
    def __init__(self, n_hidden=50):
        self.n_hidden = n_hidden

    def init(self, n_features, rng):
        U, W = 0.01 * rng.normal(size=(2, n_features, self.n_hidden))
        return np.zeros(n_features), np.zeros(self.n_hidden), U, W

    def hidden_and_scores(self, params, X):
        b, c, U, W = params
        terms = X[:, :, None] * W
        h = expit(c + terms.cumsum(axis=1) - terms)
        return h, b + (h * U).sum(axis=2)

    def forward(self, params, X):
        return -np.logaddexp(0, (1 - 2 * X) * self.hidden_and_scores(params, X)[1]).sum(axis=1)

    def gradient(self, params, X):
        h, s = self.hidden_and_scores(params, X)
        ds = (expit(s) - X) / len(X)
        da = ds[:, :, None] * params[2] * h * (1 - h)
        later = da.sum(axis=1, keepdims=True) - da.cumsum(axis=1)
        return ds.sum(axis=0), da.sum(axis=(0, 1)), np.einsum("ni,nih->ih", ds, h), np.einsum("ni,nih->ih", X, later)

    def sample(self, params, n_samples, rng):
        X = np.zeros((n_samples, len(params[0])))
        for i in range(X.shape[1]):
            X[:, i] = rng.random(n_samples) < expit(self.hidden_and_scores(params, X)[1][:, i])
        return X


def digits(axes):
    """Digits that a density has learned to draw."""
    nade = AnalyticDensity(model=NADE(), optimizer=Adam(0.02), batch_size=100, max_iter=60, tol=None, random_state=0)
    drawn = nade.fit(load_digits().data >= 8).sample(25, random_state=1).reshape(5, 5, 8, 8)
    axes.imshow(
        np.pad(drawn, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 1, 3).reshape(50, 50),
        cmap="gray_r",
        interpolation="nearest",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("digits drawn from the fitted density")


SOURCE = """\
def forward(params, X):
    a, k = params["a"], params["k"]
    return a * np.exp(-k * X[:, 0])

def jacobian(params, X):
    a, k = params["a"], params["k"]
    e = np.exp(-k * X[:, 0])
    return {"a": e, "k": -a * e}
"""


def diagnosis(axes):
    """What the check says of a wrong gradient."""
    shown = {"np": np}
    exec(SOURCE, shown)  # its derivative in k lacks a factor X[:, 0]
    x = np.linspace(0.1, 4, 30)[:, None]
    curve = AnalyticRegressor(shown["forward"], jacobian=shown["jacobian"], init={"a": 2.0, "k": 0.7})
    report = check_gradient(curve, x, np.exp(-x[:, 0]), random_state=0)
    axes.text(0.03, 0.95, SOURCE, family="monospace", fontsize=9, va="top", linespacing=1.35)
    for height, finding in zip((0.37, 0.25), report.findings, strict=True):
        right = finding.verdict == "right"
        axes.text(0.03, height, finding.block, family="monospace", fontsize=11, weight="bold")
        axes.text(0.13, height, finding.verdict.upper(), color=BLUE if right else ORANGE, fontsize=11, weight="bold")
        text = textwrap.fill(finding.explanation, 42)
        axes.text(0.03, height - 0.05, text, va="top", fontsize=9.5, linespacing=1.4)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    axes.set_xlabel("the report of the gradient check")


def power(params, X):
    return params["a"] * X[:, 0] ** params["b"]


def power_jacobian(params, X):
    by_a = X[:, 0] ** params["b"]
    return {"a": by_a, "b": params["a"] * by_a * np.log(X[:, 0])}


def band(axes):
    """A curve, and how well it is known."""
    length, width = load_iris().data[:, [2]], load_iris().data[:, 3]
    curve = AnalyticRegressor(power, jacobian=power_jacobian, init={"a": 1.0, "b": 1.0}).fit(length, width)
    result = infer(curve, length, width)
    FittedCurveDisplay.from_inference(result, length, width, ax=axes, line_kw={"color": BLUE})
    axes.set(xlabel="petal length (cm)", ylabel="petal width (cm)")
    errors = result.standard_errors
    text = ",  ".join(f"{name} = {curve.params_[name]:.3f} ± {errors[name]:.3f}" for name in ("a", "b"))
    axes.text(0.97, 0.05, "width = a · length$^b$\n" + text, ha="right", transform=axes.transAxes, fontsize=9)
    axes.legend(loc="upper left", fontsize=8)


for draw, title in ((digits, "Fit"), (diagnosis, "Check"), (band, "Report")):
    figure, axis = plt.subplots(figsize=(3.7, 3.3), layout="constrained")
    draw(axis)
    axis.set_title(title, loc="left", weight="bold")
