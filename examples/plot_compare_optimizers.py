r"""
=========================================
Choose an optimizer and its learning rate
=========================================

This example compares three ways to choose an optimizer and its learning rate, on one
network for handwritten digits:

- **Grid search**: the name of the optimizer and its hyperparameters are parameters of the
  estimator, so one grid covers them all.
- **Learning rate sweep**: :func:`~sk_analytic.search.find_learning_rate` increases the
  learning rate from step to step of one short run, and suggests a value [1]_.
- **No tuning**: DoG [2]_ and Prodigy [3]_ estimate the distance to the solution and set
  their step sizes accordingly. Schedule-free AdamW [4]_ has a learning rate, but requires
  no schedule for it.

.. [1] L. Smith (2017). Cyclical learning rates for training neural
       networks. WACV.
.. [2] M. Ivgi, O. Hinder and Y. Carmon (2023). DoG is SGD's best
       friend. ICML.
.. [3] K. Mishchenko and A. Defazio (2024). Prodigy: an expeditiously adaptive
       parameter-free learner. ICML.
.. [4] A. Defazio et al. (2024). The road less scheduled.
       NeurIPS.
"""

# %%
# The network and its adjoint
# ---------------------------
# The network has one hidden layer, :math:`h = \tanh(x V + a)`, and class scores
# :math:`s = h W + b`, where :math:`x`, :math:`h` and :math:`s` have one row per sample.
# Let :math:`D` be the derivative of the loss with respect to :math:`s`. The default loss
# of a classifier, ``"log_loss"``, provides it. With
# :math:`\Delta = (D W^\top) \odot (1 - h^2)`, the gradient is
#
# .. math::
#     \nabla W = h^\top D, \qquad \nabla b = \textstyle\sum_i D_i, \qquad
#     \nabla V = x^\top \Delta, \qquad \nabla a = \textstyle\sum_i \Delta_i.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier

from sk_analytic import AnalyticClassifier, check_gradient
from sk_analytic.search import find_learning_rate, optimizer_grid


def init(n_features, n_outputs, rng, n_hidden):
    V = rng.normal(size=(n_features, n_hidden)) / np.sqrt(n_features)
    W = rng.normal(size=(n_hidden, n_outputs)) / np.sqrt(n_hidden)
    return {"V": V, "a": np.zeros(n_hidden), "W": W, "b": np.zeros(n_outputs)}


def vjp(params, X):
    h = np.tanh(X @ params["V"] + params["a"])

    def pullback(D):
        Delta = (D @ params["W"].T) * (1 - h**2)
        return {
            "V": X.T @ Delta,
            "a": Delta.sum(axis=0),
            "W": h.T @ D,
            "b": D.sum(axis=0),
        }

    return h @ params["W"] + params["b"], pullback


X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
network = AnalyticClassifier(
    vjp=vjp,
    init=init,
    model_params={"n_hidden": 30},
    batch_size=100,
    max_iter=30,
    tol=None,
    random_state=0,
)
report = check_gradient(network, X_train, y_train, random_state=0)
print(report)

# %%
# Grid search
# -----------
# Each optimizer has its own hyperparameters, such as the momentum of SGD, and its own
# range of sensible learning rates. :func:`~sk_analytic.search.optimizer_grid` builds one
# dict per optimizer. ``tol=None`` disables the convergence criterion, so that every fit
# takes all 30 epochs.

grid = optimizer_grid(
    {
        "sgd": {"momentum": [0.0, 0.9], "learning_rate": [0.01, 0.1, 1.0]},
        "adagrad": {"learning_rate": [0.01, 0.1, 0.3]},
        "adam": {"learning_rate": [0.001, 0.01, 0.1]},
        "lion": {"learning_rate": [0.0001, 0.001, 0.01]},
    }
)
search = GridSearchCV(network, grid, cv=3).fit(X_train, y_train)
accuracy_by_search = search.score(X_test, y_test)
n_fits = search.n_splits_ * len(search.cv_results_["params"]) + 1
print(f"{n_fits} fits; the best: {search.best_params_}")

# %%
# The best learning rates differ by a factor of up to 100, so a comparison at one common
# learning rate would be meaningless.

curves = {}
for candidate, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    momentum = candidate.get("optimizer__momentum")
    name = candidate["optimizer"] + (" with momentum" if momentum else "")
    rate = candidate["optimizer__learning_rate"]
    curves.setdefault(name, []).append((rate, 1 - score))

_, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for (name, points), style in zip(
    curves.items(), ("C0o--", "C0o-", "C1s-", "kD-", "C4^-"), strict=True
):
    ax.loglog(*zip(*sorted(points), strict=True), style, label=name)
ax.set(xlabel="learning rate", ylabel="cross-validated error rate")
ax.legend()
plt.show()

# %%
# Learning rate sweep
# -------------------
# The sweep takes at most 100 steps, fewer than eight epochs, and suggests a
# learning rate for the optimizer of the estimator.

sweep = find_learning_rate(
    clone(network).set_params(optimizer="adam"), X_train, y_train
)
print(f"suggested learning rate: {sweep.suggested:.3f}")
sweep.plot()
plt.show()

# %%
# Comparison
# ----------
# DoG, Prodigy and schedule-free AdamW train with their defaults. The grid search confirms
# Adam's default learning rate of 0.01. The training losses differ by a factor of more than
# 50, but the held-out accuracies differ by little more than 0.01. See :doc:`/guide/search` and
# :doc:`/guide/optimizers`.

models = {
    "adam, grid search": search.best_estimator_,
    "adam, sweep": clone(network).set_params(optimizer="adam", **sweep.params),
    "schedule-free": clone(network).set_params(optimizer="schedule_free_adamw"),
    "dog": clone(network).set_params(optimizer="dog"),
    "prodigy": clone(network).set_params(optimizer="prodigy"),
}
_, ax = plt.subplots(figsize=(9, 4), layout="constrained")
styles = ("C0-", "C1-", "C4-.", "k-", "k:")
for (name, model), style in zip(models.items(), styles, strict=True):
    model.fit(X_train, y_train)
    label = f"{name}: {model.score(X_test, y_test):.3f}"
    ax.semilogy(np.arange(1, 31), model.loss_curve_, style, label=label)
ax.set(xlabel="epoch", ylabel="training loss")
ax.legend(title="held-out accuracy", loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %%
# scikit-learn's :class:`~sklearn.neural_network.MLPClassifier` with the same
# architecture and number of epochs of Adam is undertrained at its default learning rate
# of 0.001. At 0.01 it reaches about the same accuracy.

for rate in (0.001, 0.01):
    peer = MLPClassifier(
        30, activation="tanh", batch_size=100, max_iter=30, learning_rate_init=rate,
        tol=0, n_iter_no_change=30, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(X_train, y_train)
    print(f"MLPClassifier, learning rate {rate}: {peer.score(X_test, y_test):.3f}")
print(f"grid search, held-out accuracy: {accuracy_by_search:.3f}")

# sphinx_gallery_thumbnail_number = 3
