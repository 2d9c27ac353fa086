r"""
=======================
Learning without tuning
=======================

The learning rate is the one hyperparameter that no fit can do without, and its good values differ by
orders of magnitude between models. Three ways to it are compared here, on three data sets and with the same
number of epochs each:

- **search**: Adam, its rate chosen from a grid by cross-validation, which costs as many fits as there are
  rates and folds;
- **sweep**: :func:`~sk_analytic.search.find_learning_rate` reads the rate off a hundred steps in which it
  rises [1]_;
- **none at all**: DoG [2]_ and Prodigy [3]_ estimate the distance that θ has to go and set the rate
  themselves. The schedule-free rules [4]_ do have a rate, but need no schedule of its decay; they are run at
  their defaults, and at the rate that a sweep finds for them.

Adam's default of 0.01 is right for two of the data sets and hopeless for the third, where y is about 150 and
the parameters have a long way to go. The search, the sweep, DoG and Prodigy all find out by themselves.

Run it with ``python learning_without_tuning.py``; ``--help`` lists its options.

.. [1] L. Smith (2017). Cyclical learning rates for training neural networks. WACV.
.. [2] M. Ivgi, O. Hinder and Y. Carmon (2023). DoG is SGD's best friend. ICML.
.. [3] K. Mishchenko and A. Defazio (2024). Prodigy: an expeditiously adaptive parameter-free learner. ICML.
.. [4] A. Defazio et al. (2024). The road less scheduled. NeurIPS.
"""

import argparse
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import StandardScaler

from sk_analytic import AnalyticClassifier, AnalyticRegressor, DivergenceError, get_optimizer_names
from sk_analytic.search import find_learning_rate

# %%
# Three models
# ------------
# Logistic regression and least squares are what the estimators are where nothing is given to them. For the
# digits there is a network with one hidden layer, its adjoint by hand: with
# :math:`h = \tanh(x V + a)` and scores :math:`h W + b`, what comes back through the hidden layer is
# :math:`\Delta W^\top \odot (1 - h^2)`.


def init(n_features, n_outputs, rng, n_hidden):
    """Start with small random weights, so that no hidden unit is saturated."""
    V = rng.normal(size=(n_features, n_hidden)) / np.sqrt(n_features)
    W = rng.normal(size=(n_hidden, n_outputs)) / np.sqrt(n_hidden)
    return {"V": V, "a": np.zeros(n_hidden), "W": W, "b": np.zeros(n_outputs)}


def vjp(params, X):
    """Scores of the classes, and the way back."""
    h = np.tanh(X @ params["V"] + params["a"])

    def pullback(d):
        dh = (d @ params["W"].T) * (1 - h * h)
        return {"V": X.T @ dh, "a": dh.sum(axis=0), "W": h.T @ d, "b": d.sum(axis=0)}

    return h @ params["W"] + params["b"], pullback


def problems(epochs):
    """Model, rows and targets by the name of the data set. All models train for the same number of epochs."""
    plan = {"max_iter": epochs, "n_iter_no_change": epochs, "tol": 0.0, "batch_size": 100, "random_state": 0}
    network = AnalyticClassifier(vjp=vjp, init=init, model_params={"n_hidden": 30}, **plan)
    return {
        "digits": (network, *load_digits(return_X_y=True)),
        "breast cancer": (AnalyticClassifier(alpha=0.01, **plan), *load_breast_cancer(return_X_y=True)),
        "diabetes": (AnalyticRegressor(**plan), *load_diabetes(return_X_y=True)),
    }


# %%
# Three ways to a rate
# --------------------
# Each takes a model and rows for training, and returns the model trained, with the number of fits that this
# took. A sweep is a hundred steps: fewer than ten epochs of the digits.

RATES = [0.001, 0.01, 0.1, 1.0, 10.0]
FOLDS = 5
PARAMETER_FREE = ["dog", "prodigy"]
SCHEDULE_FREE = ["schedule_free_sgd", "schedule_free_adamw"]


def by_search(model, X, y):
    """Choose the rate from the grid by cross-validation."""
    # At the largest rates a fit may diverge. It then counts as the worst.
    search = GridSearchCV(model, {"optimizer__learning_rate": RATES}, cv=FOLDS, error_score=-np.inf)
    return search.fit(X, y).best_estimator_, len(RATES) * FOLDS + 1


def by_sweep(model, X, y):
    """Take the rate that a sweep suggests."""
    sweep = find_learning_rate(model, X, y)
    return clone(model).set_params(**sweep.params).fit(X, y), 1


def by_itself(model, X, y):
    """Leave everything at its default."""
    return clone(model).fit(X, y), 1


def ways():
    """Optimizer and way to its rate, by what the table calls them; optimizers that are not there are left out."""
    wanted = {"adam, search": ("adam", by_search), "adam, sweep": ("adam", by_sweep), "adam, 0.01": ("adam", by_itself)}
    wanted |= {name: (name, by_itself) for name in PARAMETER_FREE + SCHEDULE_FREE}
    wanted |= {f"{name}, sweep": (name, by_sweep) for name in SCHEDULE_FREE}
    there = get_optimizer_names()
    for name in PARAMETER_FREE + SCHEDULE_FREE:
        if name not in there:
            print(f"There is no optimizer {name!r} in this version, so it is not compared.")
    return {title: way for title, way in wanted.items() if way[0] in there}


# %%
# The comparison
# --------------


def compare(epochs):
    """Train every model in every way.

    Returns
    -------
    results : dict of str to dict
        For each data set, by the title of the way: score on the held-out quarter (accuracy or R²), fits,
        loss curve; None where training diverged.
    """
    results = {}
    for data, (model, X, y) in problems(epochs).items():
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
        scaler = StandardScaler().fit(X_train)
        X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
        results[data] = {}
        for title, (optimizer, way) in ways().items():
            try:
                trained, fits = way(clone(model).set_params(optimizer=optimizer), X_train, y_train)
            except DivergenceError:
                results[data][title] = None
                continue
            results[data][title] = trained.score(X_test, y_test), fits, trained.loss_curve_
    return results


def table(results):
    """Return the lines of a table: held-out score and last training loss, a column a data set."""
    titles = list(next(iter(results.values())))
    width = max(map(len, titles))
    lines = [f"{'':{width}}  {'fits':>4}" + "".join(f"  {data:>17}" for data in results)]
    lines.append(f"{'':{width}}  {'':4}" + "".join(f"  {'score':>8} {'loss':>8}" for _ in results))
    for title in titles:
        cells = [results[data][title] for data in results]
        fits = next((str(cell[1]) for cell in cells if cell), "1")
        shown = [f"{'diverged':>17}" if cell is None else f"{cell[0]:8.3f} {cell[2][-1]:8.4g}" for cell in cells]
        lines.append(f"{title:{width}}  {fits:>4}" + "".join(f"  {cell}" for cell in shown))
    return lines


def draw(results, path):
    """Write a picture of the loss curves, if matplotlib is there to draw it."""
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        print("matplotlib is not installed, so no picture was drawn: pip install matplotlib")
        return
    figure, axes = plt.subplots(1, len(results), figsize=(13, 4), layout="constrained")
    for ax, (data, ways_of) in zip(axes, results.items(), strict=True):
        for index, (title, result) in enumerate(ways_of.items()):
            if result is not None:
                ax.loglog(range(1, len(result[2]) + 1), result[2], color=f"C{index}", label=title)
        ax.set(title=data, xlabel="epoch")
    axes[0].set_ylabel("training loss")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=120)
    print(f"picture written to {path}")


def parse_options(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Learning rates by search, by a sweep, and by rules without one.")
    parser.add_argument("--epochs", type=int, default=100, help="passes over the training rows in each fit")
    parser.add_argument("--output", default="learning_without_tuning.png", help="where the picture goes")
    return parser.parse_args(argv)


def main(argv=None):
    """Compare, print, draw."""
    options = parse_options(argv)
    with warnings.catch_warnings():
        # The number of epochs is the plan, whether or not the loss would go on falling after them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        results = compare(options.epochs)
    print("\n".join(table(results)))
    draw(results, options.output)


if __name__ == "__main__":
    main()
