r"""
======================================
Fit a curve, with confidence intervals
======================================

The petals of an iris grow wider as they grow longer, but not in proportion. A power
law describes the relation:

.. math:: f(x) = a \, x^b

If :math:`b = 1`, petals of all sizes have the same shape. If :math:`b > 1`, long petals
are also relatively wide. The question is therefore whether a confidence interval of
:math:`b` excludes 1. This example fits the curve with its Jacobian, computes standard
errors, compares them with :func:`scipy.optimize.curve_fit`, and ends with profile
likelihood intervals.
"""

# %%
# The curve and its Jacobian
# --------------------------
# Least squares requires the derivative of each prediction with respect to each parameter:
#
# .. math::
#     \frac{\partial f}{\partial a} = x^b, \qquad
#     \frac{\partial f}{\partial b} = a \, x^b \log x.
#
# The parameters are a dict, and the Jacobian is a dict with the same keys. Each entry
# has one value per sample.

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import curve_fit
from sklearn.datasets import load_iris

from sk_analytic import AnalyticRegressor, check_gradient, infer
from sk_analytic.plotting import FittedCurveDisplay, IntervalsDisplay, ProfileDisplay


def power_law(params, X):
    return params["a"] * X[:, 0] ** params["b"]


def jacobian(params, X):
    power = X[:, 0] ** params["b"]
    return {"a": power, "b": params["a"] * power * np.log(X[:, 0])}


# %%
# :func:`~sk_analytic.check_gradient` compares the Jacobian with finite differences of
# the curve:

petals = load_iris().data
length, width = petals[:, [2]], petals[:, 3]
start = {"a": 1.0, "b": 1.0}
curve = AnalyticRegressor(power_law, jacobian=jacobian, init=start)
report = check_gradient(curve, length, width, random_state=0)
print(report)

# %%
# Standard errors
# ---------------
# ``fit`` recognizes a Jacobian with squared error as a least-squares problem and
# chooses the method ``"trf"``. :func:`~sk_analytic.infer` then linearizes the curve at
# the optimum. With residual variance :math:`\hat\sigma^2` and Jacobian :math:`J`, the
# covariance of the estimates is :math:`\hat\sigma^2 (J^\top J)^{-1}`.

curve.fit(length, width)
result = infer(curve, length, width)
print(result)

# %%
# :func:`~scipy.optimize.curve_fit` reaches the same covariance if its tolerances are
# tightened:

values, covariance = curve_fit(
    lambda x, a, b: a * x**b,
    length[:, 0],
    width,
    [1, 1],
    ftol=1e-15,
    xtol=1e-15,
    gtol=1e-15,
)
difference = np.abs(result.covariance / covariance - 1).max()
print(f"largest relative difference from curve_fit: {difference:.1e}")

# %%
# The inner band is the 95 % confidence interval of the mean width at each length. The
# outer band is the 95 % prediction interval of the width of a new petal.

display = FittedCurveDisplay.from_inference(result, length, width)
display.ax_.set(xlabel="petal length (cm)", ylabel="petal width (cm)")
plt.show()

# %%
# Reparametrize the curve
# -----------------------
# The estimates of :math:`a` and :math:`b` are almost perfectly correlated: a larger
# :math:`b` can be compensated for by a smaller :math:`a`.

print(f"correlation of a and b: {result.correlation[0, 1]:.3f}")

# %%
# The reason is that :math:`a` is the width at a length of 1 cm, at the left end of the
# data. Replace it by the width :math:`w` at a length :math:`x_0`:
#
# .. math::
#     f(x) = w \left(\frac{x}{x_0}\right)^b, \qquad
#     \frac{\partial f}{\partial w} = \left(\frac{x}{x_0}\right)^b, \qquad
#     \frac{\partial f}{\partial b} = w \left(\frac{x}{x_0}\right)^b \log\frac{x}{x_0}.
#
# ``model_params`` passes :math:`x_0` to both functions. The curve does not change, and
# neither does :math:`b` or its standard error. The correlation depends on :math:`x_0`, and
# almost vanishes at 5.1 cm.


def centered_power_law(params, X, x0):
    return params["w"] * (X[:, 0] / x0) ** params["b"]


def centered_jacobian(params, X, x0):
    power = (X[:, 0] / x0) ** params["b"]
    return {"w": power, "b": params["w"] * power * np.log(X[:, 0] / x0)}


centered = AnalyticRegressor(
    centered_power_law,
    jacobian=centered_jacobian,
    init={"w": 1.0, "b": 1.0},
    model_params={"x0": 5.1},
)
print(check_gradient(centered, length, width, random_state=0))
centered_result = infer(centered.fit(length, width), length, width)
print(centered_result)
print(f"correlation of w and b: {centered_result.correlation[0, 1]:.3f}")

# %%
# Profile likelihood intervals
# ----------------------------
# A Wald interval is symmetric: the estimate plus and minus about two standard errors.
# It is exact only if the curve is linear in its parameters. A profile interval moves one
# parameter, optimizes the others, and ends where the likelihood has dropped by a critical
# amount. :class:`~sk_analytic.plotting.ProfileDisplay` shows the difference: the closer
# the curve follows the dashed line, the better the Wald interval.

ProfileDisplay.from_inference(result)
plt.show()

# %%
# Here, the two kinds of intervals agree to within about a fifth of a standard error. The
# next figure shows them for both parameters, in units of the standard error:

intervals = IntervalsDisplay.from_inference(result, relative=True)
IntervalsDisplay.from_inference(
    result, relative=True, method="profile", ax=intervals.ax_
)
plt.show()

# %%
# The profile interval of :math:`b` excludes 1: long petals are relatively wide.
# :doc:`/guide/inference` describes robust standard errors, bootstraps and more.

low, high = result.confidence_intervals(parameters="b", method="profile")[0]
b, error = result.params["b"], result.standard_errors["b"]
print(f"b = {b:.3f} ± {error:.3f}, 95 % profile interval {low:.3f} to {high:.3f}")
