"""The picture of the losses that have a name, for one sample."""

import numpy as np
from matplotlib import pyplot as plt

from sk_analytic import get_loss
from sk_analytic.losses import Huber, Quantile, Tweedie


def draw():
    """Draw the picture."""
    _, panels = plt.subplots(1, 3, figsize=(8.4, 3.5), layout="constrained")
    f = np.linspace(-3, 3, 241)
    residuals = {
        "squared error": get_loss("squared_error"),
        "absolute error": get_loss("absolute_error"),
        "Huber, ε = 1": Huber(epsilon=1.0),
        "quantile 0.75": Quantile(quantile=0.75),
    }
    means = {
        "Poisson": get_loss("poisson"),
        "Tweedie, p = 1.5": Tweedie(power=1.5),
        "gamma": get_loss("gamma"),
    }
    styles = "-", "--", "-.", ":"
    for (name, loss), style in zip(residuals.items(), styles, strict=True):
        panels[0].plot(f, loss.value(np.zeros(len(f)), f), style, label=name)
    for (name, loss), style in zip(means.items(), styles, strict=False):
        values = loss.value(np.full(len(f), 2.0), f)
        panels[1].plot(f, values - values.min(), style, label=name)
    for label, style in zip((1, 0), styles, strict=False):
        panels[2].plot(f, get_loss("log_loss").value(np.full(len(f), label), f), style, label=f"log loss, y = {label}")
    panels[1].axvline(np.log(2), color="0.7", linewidth=1, zorder=0)
    for axes, name in zip(panels, ("residual r = f − y", "f = log mean, y = 2", "f = log-odds"), strict=True):
        axes.set(xlabel=name, ylim=(0, 3.5))
        columns = 2 if axes is panels[0] else 1
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False, fontsize=9)
    panels[0].set_ylabel("loss of the sample")
    panels[1].set_ylabel("loss above its minimum")
