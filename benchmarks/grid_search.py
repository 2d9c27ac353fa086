"""A GridSearchCV of 24 candidates on digits, against the same grid over MLPClassifier.

Everything as a user would leave it, the gradient check included; both must find an equally good candidate.
"""

import sys
from time import process_time

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier

from sk_analytic import AnalyticClassifier
from sk_analytic.optimizers import Adam

from .figures import Figure
from .models import digits_data, glorot, network_classification, network_forward
from .timing import compare

ROW = "grid_search"
EPOCHS = 10
FOLDS = 3
SAME_SCORE = 0.02  # of the best candidate's accuracy


def init(n_features, n_outputs, n_hidden):
    """Return the start of a network."""
    return tuple(glorot([n_features, n_hidden, n_outputs], float))


def measure(options):
    """Yield the figure of the search."""
    X, y = digits_data(options.dtypes[0])
    n = 300 if options.quick else len(y)
    X, y = X[:n], y[:n]
    batches, rates, alphas, widths = [32, 200], [1e-3, 3e-3, 1e-2], [0.0, 1e-4], [32, 64]
    if options.quick:
        batches, rates, alphas = [200], [1e-2], [0.0]
    ours = AnalyticClassifier(
        _forward,
        loss_and_gradient=_loss_and_gradient,
        init=init,
        optimizer=Adam(),
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS + 1,
        random_state=0,
    )
    our_grid = {
        "model_params": [{"n_hidden": width} for width in widths],
        "optimizer__learning_rate": rates,
        "alpha": alphas,
        "batch_size": batches,
    }
    theirs = MLPClassifier(max_iter=EPOCHS, n_iter_no_change=EPOCHS + 1, random_state=0)
    their_grid = {
        "hidden_layer_sizes": [(width,) for width in widths],
        "learning_rate_init": rates,
        "alpha": alphas,
        "batch_size": batches,
    }
    scores = {}

    def search(name, estimator, grid):
        scores[name] = GridSearchCV(estimator, grid, cv=FOLDS, error_score="raise").fit(X, y).best_score_

    started = process_time()
    pair = compare(
        lambda: search("ours", ours, our_grid), lambda: search("theirs", theirs, their_grid), **options.pairing
    )
    n_candidates = int(np.prod([len(values) for values in our_grid.values()]))
    yield Figure.of(
        ROW,
        f"digits n={n}, {n_candidates} candidates, {FOLDS} folds, {EPOCHS} epochs",
        "sklearn MLP",
        pair,
        difference=float(abs(scores["ours"] - scores["theirs"])),
        tolerance=0.2 if options.quick else SAME_SCORE,
        note=f"accuracy {scores['ours']:.3f} and {scores['theirs']:.3f}, {process_time() - started:.0f} s in all",
    )


def _forward(params, X):
    return network_forward(params, X)


def _loss_and_gradient(params, X, y):
    return network_classification(params, X, y)


if __name__ == "__main__":
    from .command import main

    main([ROW, *sys.argv[1:]])
