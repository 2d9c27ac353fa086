"""The picture of a density: the data, the fitted density, and samples drawn from it."""

import numpy as np
from matplotlib import pyplot as plt
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.datasets import load_iris

from sk_analytic import AnalyticDensity, Model


class NormalMixture(Model):
    """A mixture of normal distributions with independent columns.

    Parameters
    ----------
    n_components : int, default=2
    """

    def __init__(self, n_components=2):
        self.n_components = n_components

    def init(self, X):
        """Return components at quantiles of the data."""
        k = self.n_components
        means = np.quantile(X, (np.arange(k) + 0.5) / k, axis=0)
        return {"logits": np.zeros(k), "mean": means, "log_scale": np.tile(np.log(X.std(axis=0)), (k, 1))}

    def vjp(self, params, X):
        """Return the log-density of each row, and its pullback."""
        z = (X[:, None] - params["mean"]) / np.exp(params["log_scale"])
        normal = -0.5 * z**2 - params["log_scale"] - 0.5 * np.log(2 * np.pi)
        each = log_softmax(params["logits"]) + normal.sum(axis=2)

        def pullback(d):
            share = d[:, None] * softmax(each, axis=1)
            return {
                "logits": share.sum(axis=0) - d.sum() * softmax(params["logits"]),
                "mean": np.einsum("nk,nkd->kd", share, z) / np.exp(params["log_scale"]),
                "log_scale": np.einsum("nk,nkd->kd", share, z**2 - 1),
            }

        return logsumexp(each, axis=1), pullback

    def sample(self, params, n_samples, rng):
        """Return rows of random components."""
        k = rng.choice(self.n_components, size=n_samples, p=softmax(params["logits"]))
        return rng.normal(params["mean"][k], np.exp(params["log_scale"][k]))


def draw():
    """Draw the picture."""
    X = load_iris().data[:, [2, 0]]
    density = AnalyticDensity(model=NormalMixture(3), optimizer="lbfgs", random_state=0).fit(X)
    samples = density.sample(len(X), random_state=0)
    ends = X.min(axis=0) - 0.7, X.max(axis=0) + 0.7
    grid = np.stack(np.meshgrid(*np.linspace(*ends, 120).T), axis=-1)
    heights = density.score_samples(grid.reshape(-1, 2)).reshape(120, 120)
    _, panels = plt.subplots(1, 3, figsize=(8.4, 3.1), sharex=True, sharey=True, layout="constrained")
    panels[0].scatter(*X.T, s=9, color="C0")
    levels = np.arange(-8, 0.5, 0.5)
    filled = panels[1].contourf(*grid.transpose(2, 0, 1), heights, levels=levels, cmap="Blues", extend="max")
    panels[1].figure.colorbar(filled, ax=panels[1], ticks=[-8, -6, -4, -2, 0])
    panels[2].scatter(*samples.T, s=13, color="C1", marker="^", linewidths=0)
    titles = f"data, {len(X)} irises", "fitted log-density", f"{len(samples)} samples from the fit"
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=11)
        axes.set(xlim=(ends[0][0], ends[1][0]), ylim=(ends[0][1], ends[1][1]), xlabel="petal length (cm)")
    panels[0].set_ylabel("sepal length (cm)")
