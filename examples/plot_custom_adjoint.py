r"""
=============================================
The adjoint of a heat equation, with any loss
=============================================

The prediction of many scientific models is the solution of an equation. Differentiating
through the solver would be slow. The adjoint method avoids this: one more solve, of the
transposed equation, returns the gradient with respect to all parameters [1]_.

This example writes the adjoint of a heat equation once, as ``vjp``, and combines it with
two losses by name. Some measurements are outliers, so the choice of the loss matters: the
outliers bias least squares, but hardly affect the fit with the Huber loss.

.. [1] G. Strang (2007). Computational Science and Engineering, section 8.7.
       Wellesley-Cambridge Press.
"""

# %%
# The model: heat through a layered wall
# --------------------------------------
# A wall consists of 12 layers with unknown conductivities. One heater at a time is switched
# on inside the wall, and sensors measure the temperature. Both faces of the wall have
# temperature 0. The temperatures :math:`u` at the points of a grid solve the equation
#
# .. math:: A(k) \, u = f, \qquad A(k) = B^\top \mathrm{diag}(k) \, B,
#
# where :math:`B` takes the difference along each edge :math:`e` between neighboring grid
# points, :math:`k_e` is the conductivity of the layer that contains the edge, and
# :math:`f` is 1 at the heater and 0 elsewhere. Each sample of ``X`` consists of two grid
# points, that of the heater and that of the sensor. ``y`` is the measured temperature.
#
# The adjoint
# -----------
# If :math:`k` changes by :math:`dk`, then :math:`dA \, u + A \, du = 0`, so
# :math:`du = -A^{-1} B^\top \mathrm{diag}(dk) \, B u`. Let :math:`d` be the derivative of
# the loss with respect to :math:`u`. The loss changes by
#
# .. math::
#     d^\top du = -(\underbrace{A^{-1} d}_{\lambda})^\top B^\top \mathrm{diag}(dk) \, B u
#     \qquad\Longrightarrow\qquad
#     \frac{\partial L}{\partial k_e} = -(B \lambda)_e \, (B u)_e.
#
# (:math:`A` is symmetric; otherwise :math:`\lambda` would solve the transposed equation.)
# The derivative with respect to the conductivity of a layer is the sum over the edges of
# the layer and over the heaters. The derivatives of all layers together cost one more
# solve with a matrix that is already factorized. Finite differences would have to
# factorize a new matrix for each layer.

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.base import clone

from sk_analytic import AnalyticRegressor, check_gradient

n_layers, per_layer = 12, 5
n_edges = n_layers * per_layer
n_points = n_edges - 1
layer_of_edge = np.repeat(np.arange(n_layers), per_layer)
B = np.eye(n_edges, n_points) - np.eye(n_edges, n_points, k=-1)


def vjp(params, X):
    heater, sensor = X.T.astype(int)
    A = B.T @ (params["conductivity"][layer_of_edge, None] * B)
    factor = cho_factor(A)
    u = cho_solve(factor, np.eye(n_points))  # one column per heater

    def pullback(d):
        by_u = np.zeros_like(u)
        np.add.at(by_u, (sensor, heater), d)
        adjoint = cho_solve(factor, by_u)
        by_edge = -((B @ adjoint) * (B @ u)).sum(axis=1)
        by_layer = np.bincount(layer_of_edge, by_edge, minlength=n_layers)
        return {"conductivity": by_layer}

    return u[sensor, heater], pullback


# %%
# Data with outliers
# ------------------
# The 600 simulated measurements have noise of standard deviation 0.1. In addition, one
# measurement in ten is too high by a random amount.

rng = np.random.default_rng(0)
true = np.exp(rng.uniform(np.log(0.5), np.log(5), size=n_layers))
X = rng.integers(n_points, size=(600, 2))
temperature, _ = vjp({"conductivity": true}, X)
y = temperature + 0.1 * rng.normal(size=600)
outlier = rng.random(600) < 0.1
y[outlier] += rng.exponential(1.0, size=outlier.sum())

# %%
# One adjoint, two losses
# -----------------------
# The pullback receives the derivative of the loss with respect to the predictions, so the
# code above does not depend on the loss. :doc:`/guide/vjp` describes this form of the
# gradient. ``reparametrize`` keeps the conductivities positive.

model = AnalyticRegressor(
    vjp=vjp,
    init={"conductivity": np.ones(n_layers)},
    reparametrize={"conductivity": "log"},
    random_state=0,
)
report = check_gradient(model, X, y, random_state=0)
print(report)

# %%
# The Huber loss is linear in residuals larger than ``epsilon``, here two standard
# deviations of the noise. This limits the influence of an outlier.

fits = {
    "squared error": clone(model).fit(X, y),
    "Huber": clone(model).set_params(loss="huber", loss__epsilon=0.2).fit(X, y),
}
errors = {
    name: np.sqrt(np.mean((fit.params_["conductivity"] / true - 1) ** 2))
    for name, fit in fits.items()
}

# %%
# The estimated conductivities
# ----------------------------
# The outliers bias the least-squares estimates of several layers. The estimates with the
# Huber loss are close to the true conductivities.

edges = np.arange(n_layers + 1) + 0.5
_, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
ax.stairs(true, edges, color="0.8", fill=True, label="true")
for (name, fit), color, line in zip(
    fits.items(), ("C1", "C0"), ("--", "-"), strict=True
):
    found = fit.params_["conductivity"]
    ax.stairs(found, edges, color=color, linestyle=line, linewidth=2, label=name)
ax.set(xlabel="layer", ylabel="conductivity", xticks=np.arange(1, n_layers + 1))
ax.legend()
plt.show()

# %%
# The numbers below are root mean squares, over the layers, of the relative error of the
# conductivity.

print(f"squared error: relative error {errors['squared error']:.3f}")
print(f"Huber: relative error {errors['Huber']:.3f}")
