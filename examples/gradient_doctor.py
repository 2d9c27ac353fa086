r"""
=========================================
Faults that train, found one by one
=========================================

A wrong gradient that was derived by hand usually still trains: the loss falls, only not as far. A published
NADE code with the very parameters ``(b, c, U, W)`` of :doc:`nade_digits` has three faults that nobody noticed.
Here they are planted in the right code, all at once, and :func:`~sk_analytic.check_gradient` is asked what is
wrong; what it names is repaired, and it is asked again, until it finds nothing.

1. The likelihood that is reported adds up the probabilities of the pixels, not their logarithms.
2. The running sum over pixels in the gradient of W goes forwards; it must go backwards.
3. The first hidden layer is :math:`\sigma(c)` in the gradient, and ones in the model that is evaluated.

Two slips in smaller models follow: a factor that is missing in a Jacobian, and a ``forward`` on the wrong scale.

Run it with ``python gradient_doctor.py``.
"""

import argparse

import numpy as np
from scipy.special import expit, log_expit
from sklearn.datasets import load_digits

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, check_gradient

# %%
# The model, with its faults
# --------------------------
# Each fault has a switch. With none of them this is the right model and the right gradient.


def scores(params, X, first_layer_of_ones):
    """Log-odds of every pixel, (n, D), and the hidden layers before each, (D, n, H)."""
    b, c, U, W = params
    activation = np.tile(c, (len(X), 1))
    hidden, out = [], []
    for d in range(len(b)):
        layer = np.ones_like(activation) if d == 0 and first_layer_of_ones else expit(activation)
        hidden.append(layer)
        out.append(b[d] + layer @ U[d])
        activation = activation + np.outer(X[:, d], W[d])
    return np.stack(out, axis=1), np.stack(hidden)


def make_forward(faults):
    """The log-density, as it is evaluated."""

    def forward(params, X):
        odds = (2 * X - 1) * scores(params, X, "first layer" in faults)[0]
        if "no logarithm" in faults:
            return expit(odds).sum(axis=1)
        return log_expit(odds).sum(axis=1)

    return forward


def make_gradient(faults):
    """The gradient of the mean negative log-likelihood, as it was derived."""

    def gradient(params, X):
        _, _, U, W = params
        odds, hidden = scores(params, X, first_layer_of_ones=False)
        delta = (expit(odds) - X).T / len(X)
        passed_back = delta[:, :, None] * U[:, None, :] * hidden * (1 - hidden)  # (D, n, H)
        forwards = np.cumsum(passed_back, axis=0)
        backwards = passed_back.sum(axis=0) - forwards  # the sum over the pixels that follow
        gW = np.einsum("nd,dnh->dh", X, forwards if "sum forwards" in faults else backwards)
        gU = np.einsum("dn,dnh->dh", delta, hidden)
        return delta.sum(axis=1), passed_back.sum(axis=(0, 1)), gU, gW

    return gradient


def init(n_features, rng, n_hidden):
    """Start beside zero, so that every term of the gradient is there."""
    b, c = rng.normal(scale=0.1, size=n_features), rng.normal(scale=0.1, size=n_hidden)
    U, W = rng.normal(scale=0.3, size=(2, n_features, n_hidden))
    return b, c, U, W


# %%
# Asking what is wrong
# --------------------
# The check needs no training and few rows: the top rows of a few digits here.


def examine(faults, X, n_hidden):
    """Return the report on the model with some faults."""
    density = AnalyticDensity(make_forward(faults), make_gradient(faults), init, model_params={"n_hidden": n_hidden})
    return check_gradient(density, X, random_state=0)


REPAIRS = {
    "log_forgotten": ("no logarithm", "add up the logarithms of the probabilities"),
    "cumulative_sum": ("sum forwards", "let the running sum go backwards"),
    "first_step": ("first layer", "let the first hidden layer be σ(c), as in the gradient"),
}


# %%
# Two more slips
# --------------
# A decay curve by its Jacobian, whose column of the rate lacks the factor x, and a logistic regression whose
# ``forward`` returns probabilities, where the log loss expects the log-odds.


def decay(params, X):
    """Amplitude times exp(-rate * x)."""
    return params["amplitude"] * np.exp(-params["rate"] * X[:, 0])


def decay_jacobian(params, X):
    """Derivatives of `decay`; the second lacks a factor."""
    e = np.exp(-params["rate"] * X[:, 0])
    return {"amplitude": e, "rate": -params["amplitude"] * e}  # * X[:, 0] belongs here


def probability(params, X):
    """What ``predict_proba`` returns, and not what the loss expects."""
    return expit(X @ params["coef"] + params["intercept"])


def logistic_gradient(params, X, y):
    """The gradient of the log loss, as in every textbook."""
    residual = (probability(params, X) - y) / len(X)
    return {"coef": X.T @ residual, "intercept": residual.sum()}


def examine_slips():
    """Return the reports on both."""
    x = np.linspace(0.1, 4, 30)[:, None]
    curve = AnalyticRegressor(decay, jacobian=decay_jacobian, init={"amplitude": 2.0, "rate": 0.7})
    X = np.random.default_rng(0).normal(size=(40, 3))
    coef = {"coef": np.array([0.5, -1.0, 0.3]), "intercept": 0.2}
    classifier = AnalyticClassifier(probability, logistic_gradient, coef)
    return (
        check_gradient(curve, x, 2 * np.exp(-0.8 * x[:, 0]), random_state=0),
        check_gradient(classifier, X, (X[:, 0] > 0).astype(int), random_state=0),
    )


def main(argv=None):
    """Ask, repair what is named, and ask again."""
    parser = argparse.ArgumentParser(description="The gradient doctor on a NADE with three faults.")
    parser.add_argument("--pixels", type=int, default=24, help="of each digit, from the top")
    parser.add_argument("--hidden", type=int, default=8, help="units")
    options = parser.parse_args(argv)
    X = (load_digits().data[:40, 8 : 8 + options.pixels] >= 8).astype(float)

    faults = {fault for fault, _ in REPAIRS.values()}
    while True:
        report = examine(faults, X, options.hidden)
        print(f"\n{report}\n")
        if report.ok:
            break
        named = {finding.cause for finding in report.findings} & set(REPAIRS)
        if not named:
            raise SystemExit("No fault was named.")
        cause = next(cause for cause in REPAIRS if cause in named)
        fault, repair = REPAIRS[cause]
        print(f"-> {cause}: {repair}")
        faults.remove(fault)
    print("The gradient is right.")
    for report in examine_slips():
        print(f"\n{report}\n\n-> {next(finding.cause for finding in report.findings if finding.cause)}")


if __name__ == "__main__":
    main()
