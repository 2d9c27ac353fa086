"""Try an installed sk_analytic: import it, fit each estimator, and see that nothing optional came along."""

import importlib.metadata
import pathlib
import re
import sys

import numpy as np

import sk_analytic
from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer


def requirements(name, *, of_extras=False):
    """Return the names of the distributions that one needs, or of those that only its extras ask for."""
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # needed on other systems only
        return set()
    return {re.match(r"[\w.-]+", line)[0].lower() for line in lines if ("extra ==" in line) == of_extras}


def runtime_packages():
    """Return the names of all distributions that come with a plain installation."""
    found, unseen = set(), {"sk-analytic"}
    while unseen:
        name = unseen.pop()
        found.add(name)
        unseen |= requirements(name) - found
    return found


def check_optional_packages():
    """Nothing that only an extra asks for is installed, so that nothing of it can have been imported."""
    optional = requirements("sk-analytic", of_extras=True) - runtime_packages()
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    imported = {name.partition(".")[0].lower().replace("_", "-") for name in sys.modules}
    surplus = sorted(optional & (installed | imported))
    assert not surplus, f"there, though only an extra needs it: {', '.join(surplus)}"


def linear_gradient(params, X, y):
    """Gradient of half the mean squared error of a linear model, by hand."""
    residual = X @ params["w"] + params["b"] - y
    return {"w": X.T @ residual / len(X), "b": residual.mean()}


def fit_every_estimator():
    """Fit the four estimators, by default models and by hand, on data whose answer is known."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X @ [1.0, -2.0, 0.5] + 3.0

    assert AnalyticRegressor(optimizer="lbfgs").fit(X, y).score(X, y) > 0.999
    by_hand = AnalyticRegressor(
        lambda params, X: X @ params["w"] + params["b"],
        linear_gradient,
        lambda n_features: {"w": np.zeros(n_features), "b": 0.0},
        batch_size=50,
        tol=None,  # without noise the loss would improve by a share of itself for ever
        random_state=0,
    )
    assert by_hand.fit(X, y).score(X, y) > 0.99
    labels = np.where(y > 3, "high", "low")
    assert AnalyticClassifier(optimizer="lbfgs", alpha=0.01).fit(X, labels).score(X, labels) > 0.95
    assert np.isfinite(AnalyticDensity(optimizer="lbfgs").fit(X).score(X))
    assert AnalyticTransformer(optimizer="lbfgs").fit_transform(X).shape == (200, 2)


if __name__ == "__main__":
    here = pathlib.Path(sys.prefix).resolve()
    assert pathlib.Path(sk_analytic.__file__).resolve().is_relative_to(here), sk_analytic.__file__
    assert sk_analytic.__version__ == importlib.metadata.version("sk-analytic")
    fit_every_estimator()
    check_optional_packages()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "scipy", "scikit-learn"))
    print(f"sk_analytic {sk_analytic.__version__} works with {versions}, and nothing optional is there.")
