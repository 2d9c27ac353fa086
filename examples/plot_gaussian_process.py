r"""
=======================================================
Gaussian process hyperparameters and the log-scale trap
=======================================================

The hyperparameters of a Gaussian process maximize its marginal likelihood, and the
gradient of that likelihood is in every textbook [1]_. Implementations add one detail:
they train :math:`\log\theta` instead of :math:`\theta`, because lengths and variances are
positive. If a derivative with respect to :math:`\log\theta` is mistaken for one with
respect to :math:`\theta`, it still has the right sign in every entry and is zero at the
same optima. Training then seems to work, but is slow, and line searches fail for no
apparent reason.

This example derives the gradient for a kernel with one relevance per feature, lets
:func:`~sk_analytic.check_gradient` find the mistake, and reaches the same marginal
likelihood as :class:`~sklearn.gaussian_process.GaussianProcessRegressor` on the diabetes
data.

.. [1] C. Rasmussen and C. Williams (2006). Gaussian Processes for Machine Learning,
       equation 5.9. MIT Press.
"""

# %%
# The gradient
# ------------
# The covariance of targets :math:`i` and :math:`j` is
#
# .. math::
#     K_{ij} = v \, E_{ij} + \sigma \, [i = j], \qquad
#     E_{ij} = \exp\Big(-\frac12 \sum_d r_d \, (x_{id} - x_{jd})^2\Big),
#
# with a variance :math:`v`, a noise variance :math:`\sigma` and a relevance
# :math:`r_d \ge 0` for each feature. (Most texts write :math:`r_d = 1 / \ell_d^2` with a
# length :math:`\ell_d`. A feature without influence has an infinite length, but a
# relevance of 0.) The negative log marginal likelihood is
#
# .. math::
#     L = \frac12 y^\top K^{-1} y + \frac12 \log\det K + \frac{n}{2} \log 2\pi.
#
# With :math:`a = K^{-1} y` and :math:`G = \frac12 (K^{-1} - a a^\top)`, its derivative
# with respect to any parameter :math:`\theta` is
# :math:`\sum_{ij} G_{ij} \, \partial K_{ij} / \partial\theta`. The derivatives of the
# covariance are
#
# .. math::
#     \frac{\partial K}{\partial v} = E, \qquad
#     \frac{\partial K}{\partial \sigma} = I, \qquad
#     \frac{\partial K_{ij}}{\partial r_d} = -\frac{v}{2} E_{ij} (x_{id} - x_{jd})^2.
#
# The last one does not require an :math:`n \times n` matrix per feature. Let
# :math:`M = v \, G \odot E`. This matrix is symmetric, so
#
# .. math::
#     \frac{\partial L}{\partial r_d} =
#     -\frac12 \sum_{ij} M_{ij} (x_{id} - x_{jd})^2 =
#     \sum_{ij} x_{id} M_{ij} x_{jd} - \sum_i x_{id}^2 \sum_j M_{ij}.

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import inv
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.preprocessing import scale

from sk_analytic import AnalyticRegressor, check_gradient, fit_from_starts
from sk_analytic.plotting import GradientCheckDisplay


def correlation(params, X, Z):
    root = np.sqrt(params["relevance"])
    return np.exp(-0.5 * cdist(X * root, Z * root, "sqeuclidean"))


def loss_and_gradient(params, X, y):
    E = correlation(params, X, X)
    K = params["variance"] * E + params["noise"] * np.eye(len(X))
    inverse = inv(K)
    a = inverse @ y
    log_det = np.linalg.slogdet(K).logabsdet
    loss = 0.5 * (y @ a + log_det + len(X) * np.log(2 * np.pi))

    G = 0.5 * (inverse - np.outer(a, a))
    M = params["variance"] * G * E
    gradient = {
        "relevance": np.sum(X * (M @ X), axis=0) - M.sum(axis=1) @ X**2,
        "variance": np.sum(G * E),
        "noise": np.trace(G),
    }
    return loss, gradient


# %%
# A prediction is the mean of the process given the training data. ``model_params`` passes
# the training data to ``posterior_mean``:


def posterior_mean(params, X, X_train, y_train):
    K = params["variance"] * correlation(params, X_train, X_train)
    K += params["noise"] * np.eye(len(X_train))
    to_train = params["variance"] * correlation(params, X, X_train)
    return to_train @ np.linalg.solve(K, y_train)


data = load_diabetes()
X, y = scale(data.data), scale(data.target)
process = AnalyticRegressor(
    posterior_mean,
    loss_and_gradient=loss_and_gradient,
    init={"relevance": np.full(10, 0.1), "variance": 1.0, "noise": 0.5},
    bounds={"relevance": (0, None)},
    reparametrize={"variance": "log", "noise": "log"},
    model_params={"X_train": X, "y_train": y},
    reduction="sum",
    additive=False,
)

# %%
# ``reduction="sum"`` declares that the loss is a total, not a mean. ``additive=False``
# declares that it does not decompose over samples, so every evaluation receives all
# samples. A relevance may be 0 but not negative, which ``bounds`` ensures. The two
# variances must be positive, so ``reparametrize`` trains their logarithms
# (:doc:`/guide/constraints`). The gradient above is with respect to the parameters
# themselves; the library applies the chain rule.
#
# The mistake
# -----------
# scikit-learn's kernels return derivatives with respect to :math:`\log\theta`. The
# function below returns such derivatives as if they were with respect to :math:`\theta`:
# each one is the correct derivative multiplied by its parameter.


def wrong_loss_and_gradient(params, X, y):
    loss, gradient = loss_and_gradient(params, X, y)
    return loss, {name: params[name] * by_theta for name, by_theta in gradient.items()}


place = {"relevance": np.linspace(0.02, 0.2, 10), "variance": 1.5, "noise": 0.6}
trapped = clone(process).set_params(
    loss_and_gradient=wrong_loss_and_gradient, init=place
)
wrong_report = check_gradient(trapped, X[:100], y[:100], random_state=0)
print(wrong_report)

# %%
# The report names the mistake in each parameter array. The figure compares every entry
# with finite differences; a correct entry lies on the diagonal.

GradientCheckDisplay.from_estimator(trapped, X[:100], y[:100], random_state=0)
plt.show()

# %%
# The gradient derived above passes:

report = check_gradient(process, X[:100], y[:100], params=place, random_state=0)
print(report)

# %%
# Several optima
# --------------
# A marginal likelihood can have several optima.
# :func:`~sk_analytic.fit_from_starts` fits from several starting points and keeps the
# best. If several starts agree, the optimum is probably global. ``init`` draws the
# relevances between 0 and 0.2, so that the correlations of the targets at the start are
# neither close to 0 nor close to 1.


def draw_start(rng):
    return {"relevance": rng.uniform(0, 0.2, size=10), "variance": 1.0, "noise": 0.5}


process.set_params(init=draw_start, random_state=0)
found = fit_from_starts(process, X, y, 3)
best = found.best
log_marginal_likelihood = -best.loss_ * len(X)
print(f"log marginal likelihoods {np.round(-found.losses * len(X), 4)}")

# %%
# Which features matter
# ---------------------
# The prediction changes quickly along a relevant feature. The serum measurement s5 is the
# most relevant feature. The relevances of s2 and s4 are exactly 0: given the other
# features, they have no influence.

_, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.bar(data.feature_names, best.params_["relevance"], color="C0")
ax.set(ylabel="relevance (per standard deviation squared)")
plt.show()

# %%
# :class:`~sklearn.gaussian_process.GaussianProcessRegressor` reaches the same value
# with the same kernel:

kernel = ConstantKernel() * RBF(np.ones(10)) + WhiteKernel()
reference = GaussianProcessRegressor(kernel, alpha=0.0).fit(X, y)
print(f"scikit-learn: {reference.log_marginal_likelihood_value_:.4f}")
print(f"log marginal likelihood {log_marginal_likelihood:.4f}")

# sphinx_gallery_thumbnail_number = 2
