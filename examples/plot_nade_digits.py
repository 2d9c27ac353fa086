r"""
===============================================
Find the mistakes in a published gradient: NADE
===============================================

NADE, the neural autoregressive distribution estimator [1]_, writes the probability of a
binary image as a product over its pixels, each given the pixels before it:

.. math:: p(x) = \prod_d p(x_d \mid x_{<d}).

A published implementation of it contains three mistakes, and nobody noticed, because a
wrong gradient usually still trains. This example derives the gradient, lets
:func:`~sk_analytic.check_gradient` find the mistakes one after the other, measures what
the wrong gradient costs, and draws digits from the density. ``examples/nade_digits.py``
is the same model written as a class (:doc:`/guide/model_class`).

.. [1] H. Larochelle and I. Murray (2011). The Neural Autoregressive Distribution
       Estimator. AISTATS, PMLR 15, 29-37.
"""

# %%
# The model
# ---------
# Each of the :math:`D` pixels has a hidden layer of :math:`H` units, computed from the
# pixels before it:
#
# .. math::
#    h_d = \sigma\Big(c + \sum_{e<d} x_e W_e\Big), \qquad
#    p(x_d = 1 \mid x_{<d}) = \sigma(b_d + U_d \cdot h_d).
#
# The activation of :math:`h_{d+1}` is that of :math:`h_d` plus :math:`x_d W_d`, so all
# layers together cost no more than one ordinary layer. The parameters are the tuple
# ``(b, c, U, W)``.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit, log_expit
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_analytic import AnalyticDensity, check_gradient


def conditionals(params, X):
    """For each pixel, the hidden layer before it and the log-odds that it is ink."""
    b, c, U, W = params
    activation = np.tile(c, (len(X), 1))
    for d in range(len(b)):
        hidden = expit(activation)
        yield hidden, b[d] + hidden @ U[d]
        activation += X[:, d, None] * W[d]


def log_density(params, X):
    scores = np.stack([score for _, score in conditionals(params, X)], axis=1)
    return log_expit((2 * X - 1) * scores).sum(axis=1)


def init(n_features, rng, n_hidden):
    U, W = rng.normal(scale=0.01, size=(2, n_features, n_hidden))
    return np.zeros(n_features), np.zeros(n_hidden), U, W


# %%
# The gradient
# ------------
# The loss is the mean of :math:`-\log p(x)` over the :math:`n` samples of a batch. Its
# derivative with respect to the log-odds of pixel :math:`d` in one sample is
# :math:`\delta_d = (\sigma(b_d + U_d \cdot h_d) - x_d) / n`, and with respect to the
# activation of the hidden layer :math:`h_d`, it is
# :math:`\delta_d \, U_d \odot h_d \odot (1 - h_d)`. The activations of all later pixels
# contain :math:`x_d W_d`, so the gradient of :math:`W_d` contains the sum
#
# .. math:: a_d = \sum_{e>d} \delta_e \, U_e \odot h_e \odot (1 - h_e),
#
# which a loop accumulates from the last pixel to the first. The bias :math:`c` is part of
# all activations. One sample contributes
#
# .. math::
#    \nabla b_d = \delta_d, \qquad
#    \nabla U_d = \delta_d h_d, \qquad
#    \nabla W_d = x_d a_d, \qquad
#    \nabla c = \sum_e \delta_e \, U_e \odot h_e \odot (1 - h_e).


def gradient_by_loop(params, X, pixels):
    b, c, U, W = params
    hidden, scores = zip(*conditionals(params, X), strict=True)
    delta = (expit(np.stack(scores)) - X.T) / len(X)
    by_U, by_W = np.empty_like(U), np.empty_like(W)
    a = np.zeros_like(hidden[0])
    for d in pixels:
        by_U[d] = delta[d] @ hidden[d]
        by_W[d] = X[:, d] @ a
        a += delta[d][:, None] * U[d] * hidden[d] * (1 - hidden[d])
    return delta.sum(axis=1), a.sum(axis=0), by_U, by_W


def gradient(params, X):
    return gradient_by_loop(params, X, reversed(range(X.shape[1])))


# %%
# The density can be sampled pixel by pixel, for all images at once. ``conditionals`` reads
# a pixel only after it has returned the log-odds of that pixel, so the sampler can draw
# the pixel in between:


def sampler(params, n_samples, rng):
    X = np.zeros((n_samples, len(params[0])))
    for d, (_, score) in enumerate(conditionals(params, X)):
        X[:, d] = rng.random(n_samples) < expit(score)
    return X


# %%
# The data are scikit-learn's digits, 8 x 8 pixels, binarized. Training is faster
# in single precision.

X = (load_digits().data >= 8).astype(np.float32)
X_train, X_test = train_test_split(X, test_size=0.25, random_state=0)
nade = AnalyticDensity(
    log_density,
    gradient,
    init,
    sampler=sampler,
    model_params={"n_hidden": 50},
    optimizer="adam",
    batch_size=100,
    max_iter=60,
    tol=None,
    random_state=0,
)
report = check_gradient(nade, X_train[:100], random_state=0)
print(report)

# %%
# Three published mistakes
# ------------------------
# The published code differs from this in three places:
#
# 1. it evaluates the sum of the probabilities, not of their logarithms;
# 2. the first hidden layer is all ones in the density, but :math:`\sigma(c)` in the
#    gradient;
# 3. the loop that accumulates :math:`a_d` runs from the first pixel to the last.
#
# The code below reproduces these mistakes. ``faults`` lists those that
# are not yet repaired.


def published_log_density(params, X, faults):
    b, c, U, W = params
    layers, scores = zip(*conditionals(params, X), strict=True)
    scores = np.stack(scores, axis=1)
    if "first layer" in faults:
        scores[:, 0] = b[0] + np.ones_like(layers[0]) @ U[0]
    odds = (2 * X - 1) * scores
    return (expit(odds) if "no logarithm" in faults else log_expit(odds)).sum(axis=1)


def wrong_gradient(params, X, faults):
    pixels = range(X.shape[1])
    if "forwards" not in faults:
        pixels = reversed(pixels)
    return gradient_by_loop(params, X, pixels)


# %%
# ``check_gradient`` needs only a few small images and no training. Several mistakes in
# one parameter array mask each other, so repair one mistake and check again, as the loop
# below does. :doc:`/guide/is_my_gradient_right` lists the other mistakes that the check
# names.

repairs = {
    "log_forgotten": "no logarithm",
    "cumulative_sum": "forwards",
    "first_step": "first layer",
}
rng = np.random.default_rng(0)
small = X_train[:40, 18:26]
place = (rng.normal(size=8), rng.normal(size=4), *rng.normal(size=(2, 8, 4)))
faults, wrong_reports = set(repairs.values()), []
while faults:
    published = AnalyticDensity(
        published_log_density, wrong_gradient, place, model_params={"faults": faults}
    )
    wrong_reports.append(check_gradient(published, small, random_state=0))
    named = {finding.cause for finding in wrong_reports[-1].findings}
    cause = next(cause for cause in repairs if cause in named)
    faults = faults - {repairs[cause]}
    print(wrong_reports[-1], f"\n-> repaired: {cause}\n")

# %%
# What the wrong gradient costs
# -----------------------------
# With ``check_gradient=False``, the gradient with the forward loop trains without an error.
# Both gradients take 60 epochs of Adam, and the correct density evaluates both fits.

nade.fit(X_train)
wrong = clone(nade).set_params(
    gradient=wrong_gradient,
    model_params={"n_hidden": 50, "faults": {"forwards"}},
    check_gradient=False,
)
wrong.fit(X_train)

_, ax = plt.subplots(figsize=(6, 4), layout="constrained")
epochs = np.arange(1, 61)
ax.plot(epochs, wrong.loss_curve_, "C1--", label="published gradient")
ax.plot(epochs, nade.loss_curve_, "C0-", label="correct gradient")
ax.set(xlabel="epoch", ylabel="negative log-likelihood (nats per digit)")
ax.legend()
plt.show()

# %%
# Draw digits
# -----------

drawn = nade.sample(50, random_state=0)


def mosaic(X, columns=10):
    """Images of 8 x 8 pixels, side by side, with gaps."""
    gaps = [(0, 0), (0, 0), (0, 1), (0, 1)]
    tiles = np.pad(X.reshape(-1, columns, 8, 8), gaps, constant_values=0.2)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, columns * 9)[:-1, :-1]


_, axes = plt.subplots(2, 1, figsize=(7, 7.5), layout="constrained")
for ax, images, title in zip(
    axes,
    (X_test[:50], drawn),
    ("held-out digits", "digits drawn from NADE"),
    strict=True,
):
    ax.imshow(mosaic(images), cmap="gray_r")
    ax.set_title(title)
    ax.set_axis_off()
plt.show()

# %%
# The simplest density of binary images gives each pixel its own probability of ink,
# independent of the other pixels. The loop of the published gradient costs about half of
# what NADE gains over it, and longer training does not help much: with
# ``max_iter=150``, the held-out negative log-likelihood of the published gradient is still
# 20.6 nats per digit.

ink = (X_train.sum(axis=0) + 1) / (len(X_train) + 2)
independent = -(X_test @ np.log(ink) + (1 - X_test) @ np.log(1 - ink)).mean()
published_nats, nats = -wrong.score(X_test), -nade.score(X_test)
print("held-out negative log-likelihood, nats per digit:")
print(f"independent pixels {independent:.2f}")
print(f"published gradient {published_nats:.2f}")
print(f"correct gradient   {nats:.2f}")

# sphinx_gallery_thumbnail_number = 2
