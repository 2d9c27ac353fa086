r"""
======================================
A neural density of handwritten digits
======================================

NADE, the neural autoregressive distribution estimator [1]_, writes the probability of a binary image
as a product over its pixels, each given the pixels before it:

.. math:: p(x) = \prod_d p(x_d \mid x_{<d})

All factors share the weights of a small network. This script defines the model as a class, with a
hyperparameter and four methods. The parameters are a tuple ``(b, c, U, W)``, and the gradient is a
tuple of arrays of the same shapes. :class:`~sk_analytic.AnalyticDensity` checks the gradient, trains
the model with minibatches and Adam, and draws digits from it. ``examples/plot_nade_digits.py`` derives
the gradient.

Run it with ``python nade_digits.py``; ``--help`` lists the options.

.. [1] H. Larochelle and I. Murray (2011). The Neural Autoregressive Distribution Estimator.
       AISTATS, PMLR 15, 29-37.
"""

import argparse

import numpy as np
from scipy.special import expit, log_expit
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_analytic import AnalyticDensity, Model

# %%
# The model
# ---------
# For pixel d of D, with a hidden layer of H units,
#
# .. math::
#    h_d = \sigma\Big(c + \sum_{e<d} x_e W_e\Big), \qquad
#    p(x_d = 1 \mid x_{<d}) = \sigma(b_d + U_d \cdot h_d).
#
# A loop over pixels with a whole batch in each step is the fastest way to compute this: its arrays of
# shape (n, H) fit in the cache, whereas one of shape (n, D, H) would not.


def conditionals(params, X):
    """Yield the hidden layer and the score of each pixel.

    Pixel d of X is read only after its score is yielded, so that a sampler can set it in between.

    Parameters
    ----------
    params : tuple of ndarray
        ``b`` (D,), ``c`` (H,), ``U`` (D, H) and ``W`` (D, H).
    X : ndarray of shape (n, D)
        Binary images, one per row.

    Yields
    ------
    hidden : ndarray of shape (n, H)
        The hidden layer, computed from the pixels before d.
    score : ndarray of shape (n,)
        The log-odds that pixel d is ink.
    """
    b, c, U, W = params
    activation = np.tile(c, (len(X), 1))
    for d in range(len(b)):
        hidden = expit(activation)
        yield hidden, b[d] + hidden @ U[d]
        activation += X[:, d, None] * W[d]


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
        """Return zero biases and small random weights, which differ between the hidden units."""
        U, W = rng.normal(scale=0.01, size=(2, n_features, self.n_hidden))
        return np.zeros(n_features), np.zeros(self.n_hidden), U, W

    def forward(self, params, X):
        """Return the log-density of each sample, in nats."""
        scores = np.stack([score for _, score in conditionals(params, X)], axis=1)
        return log_expit((2 * X - 1) * scores).sum(axis=1)

    def gradient(self, params, X):
        """Return the gradient of the mean negative log-likelihood, one array for each parameter."""
        b, c, U, W = params
        hidden, scores = zip(*conditionals(params, X), strict=True)
        delta = (expit(np.stack(scores)) - X.T) / len(X)
        gU, gW = np.empty_like(U), np.empty_like(W)
        # The sum of the derivatives with respect to the activations of later pixels:
        later = np.zeros((len(X), len(c)))
        for d in reversed(range(len(b))):
            gU[d] = delta[d] @ hidden[d]
            gW[d] = X[:, d] @ later
            later += delta[d][:, None] * U[d] * hidden[d] * (1 - hidden[d])
        return delta.sum(axis=1), later.sum(axis=0), gU, gW

    def sample(self, params, n_samples, rng):
        """Draw the pixels one after the other, for all images at once."""
        X = np.zeros((n_samples, len(params[0])))
        for d, (_, score) in enumerate(conditionals(params, X)):
            X[:, d] = rng.random(n_samples) < expit(score)
        return X


# %%
# A baseline
# ----------
# The simplest density of binary images gives each pixel its own probability of ink, independent of the
# other pixels. Laplace's rule of succession adds one image with ink in every pixel and one blank image,
# so that no probability is 0 or 1.


def independent_pixels(X_train, X_test):
    """Return the log-density of each sample of X_test, in nats, with independent pixels."""
    ink = (X_train.sum(axis=0) + 1) / (len(X_train) + 2)
    return X_test @ np.log(ink) + (1 - X_test) @ np.log(1 - ink)


# %%
# Train, compare and draw
# -----------------------


def load_images():
    """Return binarized digits of 8 x 8 pixels, a quarter of them held out."""
    X = (load_digits().data >= 8).astype(float)
    return train_test_split(X, test_size=0.25, random_state=0)


def train(X, epochs=60, seed=0):
    """Fit the density. With ``tol=None``, the fit takes all epochs."""
    density = AnalyticDensity(
        model=NADE(n_hidden=50),
        optimizer="adam",
        batch_size=100,
        max_iter=epochs,
        tol=None,
        random_state=seed,
        verbose=1,
    )
    return density.fit(X)


def mosaic(X, columns=10):
    """Arrange images of 8 x 8 pixels in one image, separated by gray lines."""
    gaps = [(0, 0), (0, 0), (0, 1), (0, 1)]
    tiles = np.pad(X.reshape(-1, columns, 8, 8), gaps, constant_values=0.2)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, columns * 9)[:-1, :-1]


def draw(held_out, sampled, path):
    """Save a figure of held-out and sampled digits, if matplotlib is installed."""
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        print(
            "matplotlib is not installed, so no figure was saved: pip install matplotlib"
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
    print(f"figure saved to {path}")


def parse_options(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Fit NADE to binarized digits, with a gradient derived by hand."
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the start, batches and samples"
    )
    parser.add_argument("--epochs", type=int, default=60, help="epochs of training")
    parser.add_argument(
        "--output", default="nade_digits.png", help="file for the figure"
    )
    return parser.parse_args(argv)


def main(argv=None):
    """Train, compare with the baseline, and draw samples."""
    options = parse_options(argv)
    X_train, X_test = load_images()
    print(f"training on {len(X_train)} digits, {len(X_test)} held out")
    density = train(X_train, options.epochs, options.seed)

    print("held-out negative log-likelihood, nats per digit:")
    print(f"  NADE                {-density.score(X_test):.2f}")
    print(f"  independent pixels  {-independent_pixels(X_train, X_test).mean():.2f}")

    draw(X_test[:100], density.sample(100, random_state=options.seed), options.output)


if __name__ == "__main__":
    main()
