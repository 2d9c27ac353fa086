r"""
=========================================================
A Boltzmann machine, trained by a gradient without a loss
=========================================================

A restricted Boltzmann machine describes binary images :math:`v` by binary hidden units
:math:`h` that switch on or off together with groups of pixels. Its likelihood contains a
sum over all images, which is intractable. Its gradient can be estimated from samples, and
that is enough: with ``loss=None``, an estimator needs only ``gradient``.

This example trains the machine by persistent contrastive divergence [1]_, uses the hidden
units as features for a logistic regression, and searches over optimizers by the accuracy
of the whole pipeline.

.. [1] T. Tieleman (2008). Training restricted Boltzmann machines using approximations to
       the likelihood gradient. ICML, 1064-1071.
"""

# %%
# The gradient
# ------------
# The probability of an image together with the hidden units is proportional to
# :math:`e^{b^\top v + c^\top h + v^\top W h}`. Summed over all states of the hidden units,
# an image has the free energy
#
# .. math::
#     F(v) = -b^\top v - \sum_j \log\left(1 + e^{c_j + v^\top W_{\cdot j}}\right),
#     \qquad p(v) = \frac{e^{-F(v)}}{\sum_{v'} e^{-F(v')}}.
#
# Let :math:`\hat h = \sigma(c + W^\top v)` be the probabilities that the hidden units are
# on. The derivatives of the free energy are
#
# .. math::
#     \nabla_W F = -v \hat h^\top, \qquad \nabla_b F = -v, \qquad
#     \nabla_c F = -\hat h.
#
# The negative log-likelihood of an image is :math:`F(v) + \log \sum_{v'} e^{-F(v')}`. The
# derivative of the second term is minus the mean of :math:`\nabla F` over images drawn
# from the machine:
#
# .. math::
#     \nabla \ell(v) = \nabla F(v) - \mathrm{E}_{v' \sim p}\left[\nabla F(v')\right].
#
# Training thus lowers the free energy of the data and raises that of images drawn from
# the machine.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit, logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import Pipeline

from sk_analytic import AnalyticTransformer, Model, check_gradient
from sk_analytic.search import optimizer_grid


def free_energy(params, V):
    activation = V @ params["W"] + params["c"]
    return -V @ params["b"] - np.logaddexp(0, activation).sum(axis=1)


def hidden_probability(params, V):
    return expit(V @ params["W"] + params["c"])


def free_energy_gradient(params, V, weight):
    """Gradient of the weighted sum of the free energies."""
    weighted, h = -weight[:, None] * V, hidden_probability(params, V)
    return {"W": weighted.T @ h, "b": weighted.sum(axis=0), "c": -(weight @ h)}


# %%
# For a small machine, the sum over all images is feasible, so the exact gradient,
# including the expectation, can be checked:

rng = np.random.default_rng(0)
all_images = np.array(list(np.ndindex(2, 2, 2, 2, 2, 2)), dtype=float)
small = {
    "W": rng.normal(size=(6, 4)),
    "b": rng.normal(size=6),
    "c": rng.normal(size=4),
}


def exact_loss(params, X):
    return free_energy(params, X).mean() + logsumexp(-free_energy(params, all_images))


def exact_gradient(params, X):
    log_p = -free_energy(params, all_images)
    p = np.exp(log_p - logsumexp(log_p))
    of_data = free_energy_gradient(params, X, np.full(len(X), 1 / len(X)))
    of_model = free_energy_gradient(params, all_images, p)
    return {name: of_data[name] - of_model[name] for name in of_data}


report = check_gradient(
    loss=exact_loss, gradient=exact_gradient, params=small, X=all_images[:40]
)
print(report)

# %%
# Persistent contrastive divergence
# ---------------------------------
# For 64 pixels, the expectation is estimated from Markov chains. One step of Gibbs
# sampling draws the hidden units given the image, then the image given the hidden units.
# The chains persist: each batch continues them where the last batch left them. They
# are stored in the model object (:doc:`/guide/model_class`), not in its parameters.
# ``rng`` is the random generator of the step, so training with the same ``random_state``
# gives the same results.


def draw(probability, rng):
    """Zeros and ones, in the precision of their probabilities."""
    uniform = rng.random(probability.shape, probability.dtype)
    return (uniform < probability).astype(probability.dtype)


class RBM(Model):
    def __init__(self, n_hidden=100, n_chains=50):
        self.n_hidden = n_hidden
        self.n_chains = n_chains

    def init(self, X, rng):
        share = np.clip(X.mean(axis=0), 0.01, 0.99)
        self.chains_ = draw(np.tile(share, (self.n_chains, 1)), rng)
        return {
            "W": 0.01 * rng.normal(size=(X.shape[1], self.n_hidden)),
            "b": np.log(share / (1 - share)),
            "c": np.zeros(self.n_hidden),
        }

    def forward(self, params, X):
        return hidden_probability(params, X)

    def gibbs_step(self, params, V, rng):
        H = draw(hidden_probability(params, V), rng)
        return draw(expit(H @ params["W"].T + params["b"]), rng)

    def gradient(self, params, X, rng):
        self.chains_ = self.gibbs_step(params, self.chains_, rng)
        V = np.concatenate([X, self.chains_])
        n, m = len(X), len(self.chains_)
        return free_energy_gradient(params, V, np.repeat([1 / n, -1 / m], [n, m]))


# %%
# Search over optimizers
# ----------------------
# :class:`~sk_analytic.AnalyticTransformer` uses the output of ``forward`` as features. A
# pipeline passes them to a logistic regression. The grid contains names of optimizers and
# their learning rates. The images are in single precision, which makes training faster.
# The last 450 digits are held out.

X, y = load_digits(return_X_y=True)
X = (X >= 8).astype(np.float32)
X_train, y_train, X_test, y_test = X[:-450], y[:-450], X[-450:], y[-450:]

rbm = AnalyticTransformer(
    model=RBM(), loss=None, batch_size=50, max_iter=40, tol=None, random_state=0
)
classifier = LogisticRegression(max_iter=1000)
pipeline = Pipeline([("rbm", rbm), ("classifier", classifier)])
grid = optimizer_grid(
    {
        "sgd": {"learning_rate": [0.3]},
        "rmsprop": {"learning_rate": [0.01, 0.03]},
        "adam": {"learning_rate": [0.01]},
    },
    prefix="rbm__",
)
search = GridSearchCV(pipeline, grid, cv=3).fit(X_train, y_train)
for candidate, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{score:.3f}  {candidate}")

# %%
# Learned features
# ----------------
# The weights of a hidden unit are a filter on the image: blue pixels switch the unit off,
# red ones switch it on. The states of the Markov chains are images drawn from the machine.

fitted = search.best_estimator_["rbm"]
filters = fitted.params_["W"].T[:40].reshape(-1, 8, 8)
chains = fitted.model_.chains_[:40].reshape(-1, 8, 8)


def mosaic(images, columns=10):
    """Images of 8 x 8 pixels, side by side, with gaps."""
    tiles = np.pad(images, [(0, 0), (0, 1), (0, 1)], constant_values=np.nan)
    tiles = tiles.reshape(-1, columns, 9, 9).transpose(0, 2, 1, 3)
    return tiles.reshape(-1, columns * 9)[:-1, :-1]


_, (left, right) = plt.subplots(1, 2, figsize=(10, 2.3), layout="constrained")
limit = np.abs(filters).max()
left.imshow(mosaic(filters), cmap="RdBu_r", vmin=-limit, vmax=limit)
left.set_title("filters of 40 hidden units")
right.imshow(mosaic(chains), cmap="gray_r")
right.set_title("states of 40 Markov chains")
for ax in (left, right):
    ax.set_axis_off()
plt.show()

# %%
# The numbers below compare the held-out accuracy with that of the same classifier on the
# raw pixels, and on the features of scikit-learn's
# :class:`~sklearn.neural_network.BernoulliRBM` with the same number of hidden units and
# epochs.

peer = BernoulliRBM(100, batch_size=50, n_iter=40, random_state=0)
raw_accuracy = (
    LogisticRegression(max_iter=1000).fit(X_train, y_train).score(X_test, y_test)
)
peer_pipeline = Pipeline([("rbm", peer), ("classifier", classifier)])
peer_search = GridSearchCV(peer_pipeline, {"rbm__learning_rate": [0.1, 0.2]}, cv=3)
peer_accuracy = peer_search.fit(X_train, y_train).score(X_test, y_test)
accuracy = search.score(X_test, y_test)
print(f"raw pixels {raw_accuracy:.3f}")
print(f"BernoulliRBM {peer_accuracy:.3f}")
print(f"held-out accuracy {accuracy:.3f}")
