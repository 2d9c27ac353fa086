r"""
======================================================
A density of handwritten digits, its gradient by hand
======================================================

NADE, the neural autoregressive distribution estimator [1]_, writes the probability of a binary image
as a product over its pixels, each given the pixels before it:

.. math:: p(x) = \prod_d p(x_d \mid x_{<d})

A small network supplies every factor, and all of them share its weights. The model has a tractable
density, a gradient that fits on half a page, and digits can be drawn from it: no automatic
differentiation is needed, and none is used here. The parameters are a tuple ``(b, c, U, W)``, the
gradient is a tuple of the same shapes, and the model is a class with a hyperparameter and four
methods. :class:`~sk_analytic.AnalyticDensity` does the rest: minibatches, Adam, a check of the
gradient before the first step, progress, samples.

Run it with ``python nade_digits.py``; ``--help`` lists its options.

.. [1] H. Larochelle and I. Murray (2011). The Neural Autoregressive Distribution Estimator.
       AISTATS, PMLR 15, 29-37.
"""

import argparse
import warnings

import numpy as np
from scipy.special import expit, log_expit
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from sk_analytic import AnalyticDensity, Model
from sk_analytic.optimizers import Adam

# %%
# The model
# ---------
# For pixel d of D, with a hidden layer of H units,
#
# .. math::
#    h_d = \sigma\Big(c + \sum_{e<d} x_e W_e\Big), \qquad
#    p(x_d = 1 \mid x_{<d}) = \sigma(b_d + U_d \cdot h_d).
#
# The first hidden layer has seen nothing: it is :math:`\sigma(c)`. Every next one adds a single row
# of W to the activation, so all D layers together cost no more than one ordinary layer. A loop over
# pixels with a whole batch in each step is also the fastest way to compute them: its (n, H) matrices
# stay in the cache, where one array of (n, D, H) would not.


def conditionals(params, X):
    """Go through the pixels: the hidden layer that precedes pixel d, and the score of that pixel.

    Pixel d is read only after its score has been handed out, so that a sampler may fill it in between.

    Parameters
    ----------
    params : tuple of ndarray
        ``b`` (D,), ``c`` (H,), ``U`` (D, H) and ``W`` (D, H).
    X : ndarray of shape (n, D)
        Binary images, one a row.

    Yields
    ------
    hidden : ndarray of shape (n, H)
    score : ndarray of shape (n,)
        The log-odds that pixel d is ink.
    """
    b, c, U, W = params
    activation = np.tile(c, (len(X), 1))
    for d in range(len(b)):
        hidden = expit(activation)
        yield hidden, b[d] + hidden @ U[d]
        activation += np.outer(X[:, d], W[d])


# %%
# Its gradient
# ------------
# The loss is the mean of :math:`-\log p(x)` over the n rows of a batch. Its derivative in one row's
# score of pixel d is :math:`\delta_d = (\sigma(\text{score}_d) - x_d) / n`. The pixels after d share
# the activation to which d has added, and together they ask of it
#
# .. math:: a_d = \sum_{e>d} \delta_e \, U_e \odot h_e \odot (1 - h_e),
#
# a running sum, walking back from the last pixel. A row's part of the gradient is then
#
# .. math::
#    \nabla b_d = \delta_d, \qquad
#    \nabla U_d = \delta_d h_d, \qquad
#    \nabla W_d = x_d a_d, \qquad
#    \nabla c = a_0.
#
# Nothing but the sum over rows remains to be done, and the matrix products below do it.
#
# Digits are drawn by ancestral sampling: toss pixel 1, show it to the hidden layer, toss pixel 2, and
# so on; all the images at once.


class NADE(Model):
    """The neural autoregressive distribution estimator of binary images.

    Parameters
    ----------
    n_hidden : int, default=50
        Hidden units.
    """

    def __init__(self, n_hidden=50):
        self.n_hidden = n_hidden

    def init(self, n_features, rng):
        """Start with unbiased pixels; the small random weights tell the hidden units apart."""
        U, W = rng.normal(scale=0.01, size=(2, n_features, self.n_hidden))
        return np.zeros(n_features), np.zeros(self.n_hidden), U, W

    def forward(self, params, X):
        """Log-density of each row, in nats."""
        scores = np.stack([score for _, score in conditionals(params, X)], axis=1)
        return log_expit((2 * X - 1) * scores).sum(axis=1)

    def gradient(self, params, X):
        """Gradient of the mean negative log-likelihood of a batch, one array for each parameter."""
        b, c, U, W = params
        hidden, scores = zip(*conditionals(params, X), strict=True)
        delta = (expit(np.stack(scores)) - X.T) / len(X)
        gU, gW = np.empty_like(U), np.empty_like(W)
        later = np.zeros((len(X), len(c)))
        for d in reversed(range(len(b))):
            gU[d] = delta[d] @ hidden[d]
            gW[d] = X[:, d] @ later
            later += np.outer(delta[d], U[d]) * hidden[d] * (1 - hidden[d])
        return delta.sum(axis=1), later.sum(axis=0), gU, gW

    def sample(self, params, n_samples, rng):
        """Draw images of zeros and ones."""
        X = np.zeros((n_samples, len(params[0])))
        for d, (_, score) in enumerate(conditionals(params, X)):
            X[:, d] = rng.random(n_samples) < expit(score)
        return X


# %%
# What to compare with
# --------------------
# The simplest density of binary images knows how often each pixel is ink and nothing of how pixels
# go together. Laplace's rule, one imagined image with ink everywhere and one without, keeps the
# pixels that are always blank from being impossible.


def independent_pixels(X_train, X_test):
    """Log-density of each row of X_test, in nats, if the pixels were independent."""
    ink = (X_train.sum(axis=0) + 1) / (len(X_train) + 2)
    return X_test @ np.log(ink) + (1 - X_test) @ np.log(1 - ink)


# %%
# The whole story
# ---------------


def load_images():
    """Binarized 8 x 8 digits, a quarter of them held out."""
    X = (load_digits().data >= 8).astype(float)
    return train_test_split(X, test_size=0.25, random_state=0)


def train(X, epochs=60, seed=0):
    """Fit the density. With as much patience as there are epochs, it runs them all."""
    density = AnalyticDensity(
        model=NADE(n_hidden=50),
        optimizer=Adam(learning_rate=0.01),
        batch_size=100,
        max_iter=epochs,
        n_iter_no_change=epochs,
        random_state=seed,
        verbose=1,
    )
    with warnings.catch_warnings():
        # The number of epochs is the plan, whether or not the loss would go on falling after them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return density.fit(X)


def mosaic(X, columns=10):
    """Lay 8 x 8 images out as one picture, with a gray line after each row and column."""
    tiles = np.pad(
        X.reshape(-1, columns, 8, 8),
        [(0, 0), (0, 0), (0, 1), (0, 1)],
        constant_values=0.2,
    )
    return tiles.transpose(0, 2, 1, 3).reshape(-1, columns * 9)[:-1, :-1]


def draw(held_out, sampled, path):
    """Write a picture of held-out digits beside sampled ones, if matplotlib is there to draw it."""
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        print(
            "matplotlib is not installed, so no picture was drawn: pip install matplotlib"
        )
        return
    figure, axes = plt.subplots(1, 2, figsize=(10, 5.3), layout="constrained")
    for ax, X, title in zip(
        axes, [held_out, sampled], ["held out", "sampled"], strict=True
    ):
        ax.imshow(mosaic(X), cmap="gray_r")
        ax.set_title(title)
        ax.set_axis_off()
    figure.savefig(path, dpi=120)
    print(f"picture written to {path}")


def parse_options(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="NADE on binarized digits, its gradient by hand."
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the start, the batches and the samples"
    )
    parser.add_argument(
        "--epochs", type=int, default=60, help="passes over the training digits"
    )
    parser.add_argument(
        "--output", default="nade_digits.png", help="where the picture goes"
    )
    return parser.parse_args(argv)


def main(argv=None):
    """Train, compare, sample, draw."""
    options = parse_options(argv)
    X_train, X_test = load_images()
    print(f"training on {len(X_train)} digits, {len(X_test)} held out")
    density = train(X_train, options.epochs, options.seed)

    print("held-out negative log-likelihood, nats a digit:")
    print(f"  NADE                {-density.score(X_test):.2f}")
    print(f"  independent pixels  {-independent_pixels(X_train, X_test).mean():.2f}")

    draw(X_test[:100], density.sample(100, random_state=options.seed), options.output)


if __name__ == "__main__":
    main()
