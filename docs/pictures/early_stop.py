"""The picture of early stopping: training and validation loss, and the epoch whose parameters are kept."""

import numpy as np
from matplotlib import pyplot as plt

from sk_analytic import AnalyticClassifier, neg_mean_loss
from sk_analytic.optimizers import Adam


def draw():
    """Draw the picture."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 60))
    y = (X[:, :5].sum(axis=1) + 1.0 * rng.normal(size=300) > 0).astype(int)
    model = AnalyticClassifier(
        optimizer=Adam(learning_rate=0.01),
        early_stopping=True,
        validation_fraction=0.3,
        n_iter_no_change=15,
        scoring=neg_mean_loss,
        random_state=0,
    ).fit(X, y)
    epochs = np.arange(1, model.n_iter_ + 1)
    validation = -np.array(model.validation_scores_)
    best = int(validation.argmin())
    _, axes = plt.subplots(figsize=(6.4, 3.3), layout="constrained")
    axes.plot(epochs, model.loss_curve_, "--", color="C0", label="training loss")
    axes.plot(epochs, validation, color="C1", label="validation loss")
    axes.axvline(epochs[best], ymax=0.52, color="0.5", linewidth=1, zorder=0)
    axes.plot(epochs[best], validation[best], "o", color="C1")
    place = {"textcoords": "offset points", "xytext": (0, 40), "ha": "center", "fontsize": 9}
    axes.annotate("the parameters of\nthis epoch are kept", (epochs[best], validation[best]), **place)
    axes.set(xlabel="epoch", ylabel="loss", xlim=(1, epochs[-1] + 1))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)
