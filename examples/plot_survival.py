r"""
=====================================================
Survival times: Weibull and Cox with censored samples
=====================================================

In a study of survival times, some subjects have not had the event when the study ends.
Their times are censored: it is only known that the event comes later. Dropping them or
treating them as events would bias the result. Both likelihoods below treat them correctly.
The target is a structured array with two fields, the time and whether the event was
observed. The loss receives it as it was passed to ``fit``.

- The **Weibull** model is parametric and predicts whole distributions.
- The **Cox** model uses only the order of events, and makes no assumption about the shape
  of the distribution. Its partial likelihood does not decompose over samples, which
  ``additive=False`` declares.

The data are simulated, so the true coefficients are known. The coefficients of both models
describe the same effects, so the two fits can be compared.
"""

# %%
# Data
# ----
# Lifetimes follow a Weibull distribution with shape 1.5. Each feature changes the
# logarithm of the time scale. The study ends at different times for different subjects.

import matplotlib.pyplot as plt
import numpy as np

from sk_analytic import AnalyticRegressor, check_gradient, infer

rng = np.random.default_rng(0)
n, true_w, true_shape = 600, np.array([0.8, -0.5, 0.0]), 1.5
X = rng.normal(size=(n, 3))
lifetime = np.exp(X @ true_w + 2) * rng.weibull(true_shape, size=n)
end_of_study = rng.uniform(0, 25, size=n)

y = np.empty(n, dtype=[("time", float), ("event", bool)])
y["time"] = np.minimum(lifetime, end_of_study)
y["event"] = lifetime <= end_of_study
print(f"{y['event'].mean():.0%} of the subjects had the event")

# %%
# Weibull
# -------
# The model predicts the logarithm of the time scale, :math:`s = x^\top w + b`. Let
# :math:`\rho` be the shape and :math:`z = \rho (\log t - s)`. The probability of surviving
# time :math:`t` is :math:`e^{-e^z}`. The log-likelihood of a censored sample is the
# logarithm of this probability. For a sample with an event (:math:`\delta = 1`), the
# logarithm of the hazard :math:`\rho e^z / t` is added. The negative log-likelihood is
#
# .. math:: \ell = e^z - \delta (\log\rho + z - \log t).
#
# Since :math:`\partial z / \partial s = -\rho` and
# :math:`\partial z / \partial \rho = z / \rho`,
#
# .. math::
#     \frac{\partial\ell}{\partial s} = \rho (\delta - e^z), \qquad
#     \frac{\partial\ell}{\partial\rho} = \frac{(e^z - \delta) z - \delta}{\rho}.


def log_scale(params, X):
    return X @ params["w"] + params["b"]


def weibull_loss_and_gradient(params, X, y):
    rho, event, log_time = params["rho"], y["event"], np.log(y["time"])
    z = rho * (log_time - log_scale(params, X))
    loss = np.exp(z) - event * (np.log(rho) + z - log_time)
    by_score = rho * (event - np.exp(z)) / len(X)
    by_rho = ((np.exp(z) - event) * z - event) / rho
    return loss.mean(), {"w": X.T @ by_score, "b": by_score.sum(), "rho": by_rho.mean()}


weibull = AnalyticRegressor(
    log_scale,
    loss_and_gradient=weibull_loss_and_gradient,
    init={"w": np.zeros(3), "b": 0.0, "rho": 1.0},
    reparametrize={"rho": "log"},
)
weibull_report = check_gradient(weibull, X, y, random_state=0)
print(weibull_report)
weibull_result = infer(weibull.fit(X, y), X, y)
print(weibull_result)

# %%
# Cox
# ---
# The hazard of a subject is a common function of time, multiplied by :math:`e^s` with
# :math:`s = x^\top w`. If one of the subjects at risk has an event at time
# :math:`t_i`, this is subject :math:`i` with probability :math:`e^{s_i} / R_i`, where
# :math:`R_i` is the sum over all subjects at risk. The loss is
#
# .. math::
#     L = -\frac1n \sum_{i:\,\delta_i = 1} \Big(s_i - \log R_i\Big), \qquad
#     R_i = \sum_{j:\,t_j \ge t_i} e^{s_j}.
#
# Subject :math:`j` is at risk at every event up to its own time, so
#
# .. math::
#     \frac{\partial L}{\partial s_j} =
#     -\frac1n \Big(\delta_j - e^{s_j} \sum_{i:\,\delta_i = 1,\, t_i \le t_j} \frac1{R_i}\Big).
#
# If the samples are sorted by time, both sums are cumulative sums, in opposite
# directions. (All times here are different; equal times require a correction.)


def score(params, X):
    return X @ params["w"]


def cox_loss_and_gradient(params, X, y):
    order = np.argsort(y["time"])
    X, event = X[order], y["event"][order]
    s = score(params, X)
    risk = np.exp(s)
    at_risk = np.cumsum(risk[::-1])[::-1]
    loss = -np.mean(event * (s - np.log(at_risk)))
    by_score = -(event - risk * np.cumsum(event / at_risk)) / len(X)
    return loss, {"w": X.T @ by_score}


cox = AnalyticRegressor(
    score,
    loss_and_gradient=cox_loss_and_gradient,
    init={"w": np.zeros(3)},
    additive=False,
)
cox_report = check_gradient(cox, X, y, random_state=0)
print(cox_report)
cox_result = infer(cox.fit(X, y), X, y)
print(cox_result)

# %%
# Compare the effects
# -------------------
# A Weibull model has proportional hazards: its hazard contains the factor
# :math:`e^{-\rho s}`, so Cox's coefficients estimate :math:`-\rho w`. ``delta`` computes
# the standard errors of these products by the delta method. The intervals of the Cox model
# are hardly wider, although it makes no assumption about the shape of the distribution.
#
# The figure on the right compares the Weibull model with Kaplan-Meier estimates, in three
# groups of predicted lifetime. The steps are the Kaplan-Meier estimates, and the dashed
# lines are the means of the predicted survival curves.


def hazard_coefficients(params):
    return -params["rho"] * params["w"]


as_hazards = weibull_result.delta(hazard_coefficients)
rows = np.arange(3)
_, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
left.errorbar(
    cox_result.params["w"],
    rows - 0.1,
    xerr=1.96 * cox_result.standard_errors["w"],
    fmt="C0o",
    label="Cox",
)
left.errorbar(
    as_hazards.value,
    rows + 0.1,
    xerr=1.96 * as_hazards.standard_error,
    fmt="C1s",
    label="Weibull",
)
left.plot(-true_shape * true_w, rows, "k|", markersize=24, zorder=0, label="true")
left.set(yticks=rows, yticklabels=[f"feature {i}" for i in rows])
left.set(xlabel="log hazard ratio, with 95 % interval")
left.invert_yaxis()
left.legend(loc="lower left")


def survival(time, scale, shape):
    return np.exp(-((time / scale) ** shape))


def kaplan_meier(y):
    """Event times, and the share that survives each of them."""
    y = np.sort(y, order="time")
    at_risk = np.arange(len(y), 0, -1)
    alive = np.cumprod(1 - y["event"] / at_risk)
    return y["time"], alive


predicted_scale = np.exp(weibull.predict(X))
times = np.linspace(0, 25, 200)
thirds = np.digitize(predicted_scale, np.quantile(predicted_scale, [1 / 3, 2 / 3]))
groups = (("short", "C0"), ("medium", "C1"), ("long", "k"))
for third, (name, color) in enumerate(groups):
    own = thirds == third
    right.step(*kaplan_meier(y[own]), where="post", color=color, label=name)
    model = survival(times[:, None], predicted_scale[own], weibull.params_["rho"])
    right.plot(times, model.mean(axis=1), "--", color=color)
right.set(xlabel="time", ylabel="share that survives", xlim=(0, 25))
right.legend(title="predicted lifetime")
plt.show()

# %%
# The concordance index summarizes the ranking: the share of comparable pairs in which
# the subject with the earlier event has the higher predicted risk. Random predictions
# have an index of 0.5.


def concordance(risk, y):
    earlier = y["event"][:, None] & (y["time"][:, None] < y["time"])
    return np.mean((risk[:, None] > np.asarray(risk))[earlier])


index = concordance(cox.predict(X), y)
rho, rho_error = weibull_result.params["rho"], weibull_result.standard_errors["rho"]
print(f"Weibull shape {rho:.3f} ± {rho_error:.3f}; the true shape is {true_shape}")
print(f"concordance index {index:.3f}")
