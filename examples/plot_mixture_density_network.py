r"""
=================================================
A mixture density network: predict a distribution
=================================================

Least squares predicts a mean. If a target has several likely values for the same
:math:`x`, as in most inverse problems, their mean may be the least likely value of all. A
mixture density network [1]_ predicts a whole distribution instead: for each :math:`x`, the
weights, means and scales of a Gaussian mixture.

This example derives the gradient of the mixture's likelihood and the backward pass of one
hidden layer.

.. [1] C. Bishop (1994). Mixture density networks. Technical report NCRG/94/004, Aston
       University.
"""

# %%
# Data: an inverse problem
# ------------------------
# In Bishop's example, :math:`x` is a function of :math:`y` plus noise,
# :math:`x = y + 0.3 \sin(2 \pi y) + \text{noise}`. The inverse problem, to predict
# :math:`y` from :math:`x`, has up to three solutions.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import norm
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from sk_analytic import AnalyticRegressor, check_gradient

rng = np.random.default_rng(0)
noise = 0.05


def curve(y):
    return y + 0.3 * np.sin(2 * np.pi * y)


y = rng.uniform(size=2000)
X = (curve(y) + noise * rng.normal(size=2000))[:, None]
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# The gradient
# ------------
# The network has hidden units :math:`h = \tanh(x V + c)` and three outputs per
# component :math:`k`: a logit :math:`a_k`, a mean :math:`m_k`, and the logarithm
# :math:`s_k` of a scale. With :math:`\pi = \mathrm{softmax}(a)` and
# :math:`z_k = (y - m_k) e^{-s_k}`, the negative log-likelihood of a sample is
#
# .. math::
#     \ell = -\log \sum_k \pi_k \,
#            \frac{e^{-z_k^2 / 2}}{\sqrt{2\pi} \, e^{s_k}}.
#
# Let :math:`r_k` be the share of component :math:`k` in that sum, its responsibility for
# the sample. The derivatives with respect to the outputs are
#
# .. math::
#     \frac{\partial\ell}{\partial a_k} = \pi_k - r_k, \qquad
#     \frac{\partial\ell}{\partial m_k} = -r_k z_k e^{-s_k}, \qquad
#     \frac{\partial\ell}{\partial s_k} = r_k (1 - z_k^2).
#
# Backpropagation gives the derivatives with respect to the parameters. Let :math:`W` and
# :math:`b` be the weights and biases of the outputs, and :math:`D` the derivatives with
# respect to all outputs, with one row per sample. With
# :math:`\Delta = (D W^\top) \odot (1 - h^2)`,
#
# .. math::
#     \nabla W = h^\top D, \qquad \nabla b = \textstyle\sum_i D_i, \qquad
#     \nabla V = x^\top \Delta, \qquad \nabla c = \textstyle\sum_i \Delta_i.


def init(y, rng, n_hidden, n_components):
    means = np.quantile(y, (np.arange(n_components) + 0.5) / n_components)
    start = [np.zeros(n_components), means, np.full(n_components, np.log(y.std()))]
    return {
        "V": 4 * rng.normal(size=(1, n_hidden)),
        "c": 2 * rng.normal(size=n_hidden),
        "W": 0.1 * rng.normal(size=(n_hidden, 3 * n_components)),
        "b": np.concatenate(start),
    }


def forward(params, X):
    """Logits, means and log-scales, side by side."""
    return np.tanh(X @ params["V"] + params["c"]) @ params["W"] + params["b"]


def log_parts(outputs, y):
    """Logarithm of each component's part in the density of y, and z."""
    a, m, s = np.split(outputs, 3, axis=1)
    z = (y[:, None] - m) * np.exp(-s)
    return log_softmax(a, axis=1) - 0.5 * z**2 - s - 0.5 * np.log(2 * np.pi), z


def loss_and_gradient(params, X, y):
    h = np.tanh(X @ params["V"] + params["c"])
    outputs = h @ params["W"] + params["b"]
    a, _, s = np.split(outputs, 3, axis=1)
    parts, z = log_parts(outputs, y)
    r = softmax(parts, axis=1)
    by_outputs = [softmax(a, axis=1) - r, -r * z * np.exp(-s), r * (1 - z**2)]
    D = np.concatenate(by_outputs, axis=1) / len(X)
    Delta = (D @ params["W"].T) * (1 - h**2)
    gradient = {
        "V": X.T @ Delta,
        "c": Delta.sum(axis=0),
        "W": h.T @ D,
        "b": D.sum(axis=0),
    }
    return -logsumexp(parts, axis=1).mean(), gradient


# %%
# Fit
# ---
# With a custom loss, ``forward`` of a regressor may return any array with one row per
# sample. Here, ``predict`` returns the parameters of the mixture, and ``score`` the mean
# log-likelihood. With ``tol=None``, L-BFGS takes a fixed number of iterations.

network = AnalyticRegressor(
    forward,
    loss_and_gradient=loss_and_gradient,
    init=init,
    model_params={"n_hidden": 20, "n_components": 3},
    optimizer="lbfgs",
    max_iter=500,
    tol=None,
    random_state=0,
)
report = check_gradient(network, X_train, y_train, random_state=0)
print(report)
network.fit(X_train, y_train)
log_likelihood = network.score(X_test, y_test)

# %%
# With one component, the same code is a nonlinear regression with a noise level that
# depends on :math:`x`:

gaussian = clone(network).set_params(model_params__n_components=1)
gaussian.fit(X_train, y_train)

# %%
# The data are simulated, so the best possible prediction is known. Since :math:`y` is
# uniform, the density of :math:`y` given :math:`x` is proportional to the density of
# :math:`x` given :math:`y`, by Bayes' rule. No model has a larger expected log-likelihood.


def true_density(y, x):
    likelihood = norm.pdf(x, curve(y), noise)
    grid = np.linspace(0, 1, 2001)
    evidence = norm.pdf(x[..., None], curve(grid), noise).mean(axis=-1)
    return likelihood / evidence


best = np.log(true_density(y_test, X_test[:, 0])).mean()

# %%
# The predicted distributions
# ---------------------------
# Where there are three branches, the mean of the mixture lies between them, far from most
# of the data. The components of the mixture follow the branches.

x_grid, y_grid = np.linspace(-0.1, 1.1, 200), np.linspace(-0.1, 1.1, 200)
outputs = network.predict(x_grid[:, None])
density = np.stack(
    [np.exp(logsumexp(log_parts(outputs, np.full(200, y))[0], axis=1)) for y in y_grid]
)
a, m, _ = np.split(outputs, 3, axis=1)
mean = (softmax(a, axis=1) * m).sum(axis=1)

_, (left, right) = plt.subplots(
    1, 2, figsize=(10, 4.5), sharex=True, sharey=True, layout="constrained"
)
left.plot(X_test[:, 0], y_test, ".", color="0.6", label="held-out samples")
left.plot(x_grid, mean, color="C1", linewidth=2, label="mean of the mixture")
left.set(xlabel="x", ylabel="y")
left.legend(loc="upper left")
mesh = right.pcolormesh(x_grid, y_grid, np.sqrt(density), cmap="Blues", rasterized=True)
right.figure.colorbar(mesh, label="square root of the predicted density")
right.plot(x_grid, mean, color="C1", linewidth=2)
right.set(xlabel="x")
plt.show()

# %%
# The mean log-likelihood of the held-out samples, in nats:

print(f"one Gaussian {gaussian.score(X_test, y_test):.3f}")
print(f"true density {best:.3f}")
print(f"mixture of three {log_likelihood:.3f}")
