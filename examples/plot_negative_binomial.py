r"""
====================================================
Negative binomial regression of overdispersed counts
====================================================

A Poisson regression assumes that the variance of a count equals its mean. Real counts
usually vary more, and the standard errors of a Poisson regression are then far too
small. Negative binomial regression has one more parameter, the dispersion
:math:`\alpha`:

.. math::
    \mathrm{E}[y] = \mu, \qquad \mathrm{Var}[y] = \mu + \alpha \mu^2, \qquad
    \log\mu = x^\top w + b.

The losses by name have no trainable parameters. Therefore, this example defines the
likelihood and its gradient, trains :math:`w`, :math:`b` and :math:`\alpha` together, and
compares the standard errors with those of a Poisson regression. The counts are the
disease progression scores of scikit-learn's diabetes data: whole numbers from 25 to 346.
"""

# %%
# The gradient
# ------------
# With :math:`k = 1/\alpha`, the negative log-likelihood of a sample is
#
# .. math::
#     \ell = \log\Gamma(k) + \log y! - \log\Gamma(y + k)
#            - y \log\frac{\mu}{\mu + k} - k \log\frac{k}{\mu + k}.
#
# Its derivative with respect to the score :math:`s = \log\mu` is the residual, scaled
# down where the variance is large:
#
# .. math:: \frac{\partial\ell}{\partial s} = \frac{\mu - y}{1 + \alpha\mu}.
#
# For :math:`\alpha`, differentiate with respect to :math:`k` first,
#
# .. math::
#     \frac{\partial\ell}{\partial k} = \psi(k) - \psi(y + k)
#         + \log\frac{\mu + k}{k} + \frac{y - \mu}{\mu + k},
#
# where :math:`\psi` is the digamma function, and multiply by
# :math:`dk / d\alpha = -k^2`.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import digamma, gammaln
from sklearn.datasets import load_diabetes

from sk_analytic import AnalyticRegressor, check_gradient, infer


def mean_count(params, X):
    return np.exp(X @ params["w"] + params["b"])


def loss_and_gradient(params, X, y):
    mu, alpha = mean_count(params, X), params["alpha"]
    k = 1 / alpha
    loss = (
        gammaln(k) + gammaln(y + 1) - gammaln(y + k)
        - y * np.log(mu / (mu + k)) - k * np.log(k / (mu + k))
    )  # fmt: skip
    by_score = (mu - y) / (1 + alpha * mu) / len(y)
    by_k = digamma(k) - digamma(y + k) + np.log1p(mu / k) + (y - mu) / (mu + k)
    gradient = {
        "w": X.T @ by_score,
        "b": by_score.sum(),
        "alpha": -(k**2) * by_k.mean(),
    }
    return loss.mean(), gradient


# %%
# Fit
# ---
# The dispersion is positive. ``reparametrize={"alpha": "log"}`` trains its logarithm
# and applies the chain rule, so the functions above do not change. The features are
# standardized, so a coefficient is the change of :math:`\log\mu` per standard
# deviation.

data = load_diabetes()
X = data.data / data.data.std(axis=0)
y = data.target
regression = AnalyticRegressor(
    mean_count,
    loss_and_gradient=loss_and_gradient,
    init={"w": np.zeros(X.shape[1]), "b": 5.0, "alpha": 1.0},
    reparametrize={"alpha": "log"},
)
report = check_gradient(regression, X, y, random_state=0)
print(report)

# %%
# The gradient is correct. ``fit`` maximizes the likelihood, and
# :func:`~sk_analytic.infer` computes standard errors from its second derivatives:

regression.fit(X, y)
result = infer(regression, X, y)
print(result)

# %%
# Compare with a Poisson regression
# ---------------------------------
# ``loss="poisson"`` selects a Poisson regression. Its default standard errors assume
# :math:`\mathrm{Var}[y] = \mu`, but here the variance is about 20 times the mean:

poisson = AnalyticRegressor(loss="poisson").fit(X, y)
naive = infer(poisson, X, y)
mean = poisson.predict(X)
print(f"variance over mean: {np.mean((y - mean) ** 2 / mean):.1f}")

# %%
# A sandwich covariance (:doc:`/guide/inference`) estimates the variance from the
# residuals. With it, the intervals of the same Poisson fit are almost as wide as those
# of the negative binomial regression.

robust = infer(poisson, X, y, covariance="sandwich")

rows = np.arange(len(data.feature_names))
_, ax = plt.subplots(figsize=(7, 5), layout="constrained")
for shift, style, name, fit, block in (
    (-0.22, "C0o", "Poisson", naive, "coef"),
    (0.0, "C1s", "Poisson, sandwich", robust, "coef"),
    (0.22, "kD", "negative binomial", result, "w"),
):
    half_width = 1.96 * fit.standard_errors[block]
    ax.errorbar(fit.params[block], rows + shift, xerr=half_width, fmt=style, label=name)
ax.axvline(0, color="0.6", linewidth=1)
ax.set(yticks=rows, yticklabels=data.feature_names)
ax.set(xlabel="coefficient per standard deviation, with 95 % interval")
ax.invert_yaxis()
ax.legend()
plt.show()

# %%
# The default standard errors of the Poisson regression make too many coefficients
# significant:

z_poisson = naive.params["coef"] / naive.standard_errors["coef"]
z_negative_binomial = result.params["w"] / result.standard_errors["w"]
for name, z in (("Poisson", z_poisson), ("negative binomial", z_negative_binomial)):
    print(f"{name}: {np.sum(np.abs(z) > 1.96)} of {len(z)} coefficients with p < 0.05")

# %%
# The confidence interval of the dispersion is computed for :math:`\log\alpha`, so its
# limits are positive.

alpha, error = result.params["alpha"], result.standard_errors["alpha"]
low, high = result.confidence_intervals(parameters="alpha")[0]
log_likelihood = -regression.loss_ * len(y)
print(f"log-likelihood {log_likelihood:.3f}")
print(f"dispersion {alpha:.4f} ± {error:.4f}, 95 % interval {low:.4f} to {high:.4f}")
