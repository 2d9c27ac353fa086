"""The picture of the losses of three optimizers, on raw features and on standardized ones."""

import warnings

from matplotlib import pyplot as plt
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from sk_analytic import AnalyticClassifier

OPTIMIZERS = {"SGD": ("sgd", "-"), "Adam": ("adam", "--"), "L-BFGS": ("lbfgs", "-.")}


def draw():
    """Draw the picture."""
    X, y = load_wine(return_X_y=True)
    data = {"raw features": X, "standardized features": StandardScaler().fit_transform(X)}
    _, panels = plt.subplots(1, 2, figsize=(8.4, 3.4), sharex=True, sharey=True, layout="constrained")
    for axes, (title, features) in zip(panels, data.items(), strict=True):
        for name, (optimizer, style) in OPTIMIZERS.items():
            model = AnalyticClassifier(optimizer=optimizer, max_iter=100, tol=None, random_state=0)
            with warnings.catch_warnings():  # SGD diverges on the raw features
                warnings.simplefilter("ignore", ConvergenceWarning)
                curve = model.fit(features, y).loss_curve_
            axes.plot(range(1, len(curve) + 1), curve, style, label=name)
        axes.set_title(title, fontsize=11)
        axes.set(xlim=(1, 100), ylim=(1e-3, 1e4), yscale="log", xlabel="epoch or iteration")
    panels[0].set_ylabel("training loss")
    panels[1].legend(loc="upper right", frameon=False, fontsize=10)
