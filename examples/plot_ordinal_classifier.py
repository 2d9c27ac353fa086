r"""
============================================
Ordered classes: the proportional-odds model
============================================

Quartiles, school grades and stages of a disease are classes with an order. A classifier
that ignores the order needs a weight vector for every class. The proportional-odds model
[1]_ needs one weight vector and a cutpoint between each pair of neighboring classes:

.. math:: P(y \le k \mid x) = \sigma(c_k - x^\top w), \qquad c_1 < c_2 < \dots < c_{K-1}.

This example fits the model to the quartiles of disease progression in the diabetes data,
as an :class:`~sk_analytic.AnalyticClassifier` with ordered cutpoints.

.. [1] P. McCullagh (1980). Regression models for ordinal data. Journal of the Royal
       Statistical Society B, 42, 109-142.
"""

# %%
# The model as scores of classes
# ------------------------------
# The model of a classifier returns one score per class, and the default loss,
# ``"log_loss"``, turns scores into probabilities by a softmax. Log-probabilities are such
# scores, because the softmax of :math:`\log p` is :math:`p`. So the function below returns
# the logarithms of
#
# .. math:: p_k = \sigma(u_k) - \sigma(l_k), \qquad
#           u_k = c_k - x^\top w, \quad l_k = c_{k-1} - x^\top w,
#
# with :math:`l_1 = -\infty` and :math:`u_K = \infty`. A difference of two sigmoids is
# inaccurate if both are close to 1. This form is accurate:
#
# .. math:: \log p_k = \log\sigma(u_k) + \log\sigma(-l_k)
#                      + \log\big(1 - e^{-(u_k - l_k)}\big).
#
# The gradient
# ------------
# Let :math:`r_k = 1 / (e^{u_k - l_k} - 1)`, which is 0 for the first and the last class.
# The derivatives of the three terms are
#
# .. math::
#     \frac{\partial \log p_k}{\partial u_k} = \sigma(-u_k) + r_k, \qquad
#     \frac{\partial \log p_k}{\partial l_k} = -\sigma(l_k) - r_k.
#
# Each cutpoint :math:`c_k` is the upper end of class :math:`k` and the lower end of class
# :math:`k + 1`, so its gradient is the sum of the derivatives with respect to
# :math:`u_k` and :math:`l_{k+1}`. Both ends contain :math:`-x^\top w`, and in the sum of
# their derivatives :math:`r_k` cancels:
#
# .. math:: \frac{\partial \log p_k}{\partial (x^\top w)} = \sigma(u_k) + \sigma(l_k) - 1.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit, log_expit
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from sk_analytic import AnalyticClassifier, check_gradient, infer


def init(n_features, n_outputs):
    cutpoints = np.arange(n_outputs - 1) - (n_outputs - 2) / 2
    return {"w": np.zeros(n_features), "cutpoints": cutpoints}


def vjp(params, X):
    cutpoints = params["cutpoints"]
    ends = cutpoints - (X @ params["w"])[:, None]  # between classes k and k + 1
    below, above = expit(ends), expit(-ends)
    gaps = np.diff(cutpoints)

    log_p = np.zeros((len(X), len(cutpoints) + 1))
    log_p[:, :-1] += log_expit(ends)
    log_p[:, 1:] += log_expit(-ends)
    log_p[:, 1:-1] += np.log(-np.expm1(-gaps))

    def pullback(d):
        r = np.zeros(len(cutpoints) + 1)
        r[1:-1] = 1 / np.expm1(gaps)
        by_upper = d[:, :-1] * (above + r[:-1])
        by_lower = -d[:, 1:] * (below + r[1:])
        by_score = (d[:, 1:] * below).sum(axis=1) - (d[:, :-1] * above).sum(axis=1)
        return {"w": X.T @ by_score, "cutpoints": (by_upper + by_lower).sum(axis=0)}

    return log_p, pullback


# %%
# Fit
# ---
# ``reparametrize={"cutpoints": "ordered"}`` trains the first cutpoint and the
# logarithms of the gaps (:doc:`/guide/constraints`), so the cutpoints remain in order. The
# gradient above is still with respect to the cutpoints; the library applies the chain
# rule.

data = load_diabetes()
X = data.data / data.data.std(axis=0)
quartile = np.digitize(data.target, np.quantile(data.target, [0.25, 0.5, 0.75]))
ordinal = AnalyticClassifier(
    vjp=vjp, init=init, reparametrize={"cutpoints": "ordered"}, tol=1e-6
)
report = check_gradient(ordinal, X, quartile, random_state=0)
print(report)

# %%
# Since the loss is a likelihood, :func:`~sk_analytic.infer` returns standard errors.
# ``exp(w)`` is an odds ratio: the factor on the odds of a higher quartile per standard
# deviation of the feature.

ordinal.fit(X, quartile)
result = infer(ordinal, X, quartile)
print(result)

# %%
# Four classes along one score
# ----------------------------
# The score :math:`x^\top w` orders the patients, and the cutpoints, the dashed lines,
# divide it into four intervals. The marks below the curves are the patients, in one line
# per quartile.

score = X @ ordinal.params_["w"]
grid = np.linspace(score.min(), score.max(), 200)
direction = ordinal.params_["w"] / np.sum(ordinal.params_["w"] ** 2)
probability = ordinal.predict_proba(grid[:, None] * direction)

colors = plt.get_cmap("viridis")(np.linspace(0.0, 0.9, 4))
_, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for k, color in enumerate(colors):
    ax.plot(grid, probability[:, k], color=color, label=f"quartile {k + 1}")
    own = score[quartile == k]
    ax.plot(own, np.full(len(own), -0.05 - 0.04 * k), "|", color=color)
for cutpoint in ordinal.params_["cutpoints"]:
    ax.axvline(cutpoint, color="0.5", linestyle="--", linewidth=1)
ax.set(xlabel="score $x^\\top w$", ylabel="probability", yticks=np.linspace(0, 1, 6))
ax.legend()
plt.show()

# %%
# Compare with multinomial regression
# -----------------------------------
# Multinomial logistic regression has 4 x 11 parameters, this model 13.
# :func:`~sklearn.model_selection.cross_val_score` compares the two estimators. The smaller
# model has the lower log loss on held-out patients:

multinomial = LogisticRegression(C=np.inf, max_iter=5000)
losses = {
    name: -cross_val_score(model, X, quartile, cv=10, scoring="neg_log_loss").mean()
    for name, model in (("proportional odds", ordinal), ("multinomial", multinomial))
}
for name, loss in losses.items():
    print(f"{name}: held-out log loss {loss:.4f}")

# %%
# The maximum of the likelihood agrees with ``OrderedModel`` of statsmodels:

log_likelihood = -ordinal.loss_ * len(quartile)
print(f"log-likelihood {log_likelihood:.4f}")
