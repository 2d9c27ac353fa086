"""Subclasses as a library would ship them: an ``__init__`` of their own, found by their import path."""

import numpy as np
from models import (
    LogisticByVjp,
    linear_forward,
    linear_init,
    linear_vjp,
    network_forward,
    network_init,
    network_vjp,
)

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer


class Network(AnalyticRegressor):
    """One hidden layer, by fixed callables; all else of the base is hidden."""

    def __init__(self, n_hidden=5, penalty=0.1, random_state=None):
        super().__init__(
            network_forward,
            init=network_init,
            vjp=network_vjp,
            accept_sparse=True,
            model_params={"n_hidden": n_hidden},
            alpha=penalty,
            optimizer="lbfgs",
            max_iter=300,
            random_state=random_state,
        )
        self.n_hidden = n_hidden
        self.penalty = penalty


class LogisticDensity(AnalyticDensity):
    """Independent logistic columns, by a model object; the optimizer is the user's."""

    def __init__(self, smallest=0.01, optimizer="adam", max_iter=200, random_state=None):
        super().__init__(
            model=LogisticByVjp(smallest), optimizer=optimizer, max_iter=max_iter, random_state=random_state
        )
        self.smallest = smallest


class Wide(Network):
    """A subclass of a subclass."""

    def __init__(self, width=2, random_state=None):
        super().__init__(n_hidden=10 * width, random_state=random_state)
        self.width = width


class Doing(Network):
    """Adds behavior, and no parameters."""

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.n_rows_ = len(X)
        return self

    def predict(self, X):
        return np.maximum(super().predict(X), 0)


class Logged:
    """A mixin with a parameter of its own."""

    def __init__(self, log_every=1):
        self.log_every = log_every


class LoggedNetwork(Logged, Network):
    """Two bases with constructors, each called with what it takes."""

    def __init__(self, pace=1, n_hidden=5):
        Logged.__init__(self, log_every=10 * pace)
        Network.__init__(self, n_hidden=n_hidden)
        self.pace = pace


class Balanced(AnalyticClassifier):
    """Its callables are methods, which read the parameters from the estimator; class weights are hidden."""

    def __init__(self, scale=1.0, balanced=True):
        super().__init__(
            self.scores,
            init=linear_init,
            vjp=self.pull,
            class_weight="balanced" if balanced else None,
            optimizer="lbfgs",
            alpha=0.01,
        )
        self.scale = scale
        self.balanced = balanced

    def scores(self, params, X):
        return linear_forward(params, self.scale * X)

    def pull(self, params, X):
        return linear_vjp(params, self.scale * X)


class Counts(AnalyticRegressor):
    """The default model with another default of one parameter."""

    def __init__(self, loss="poisson", max_iter=50, random_state=None):
        super().__init__(loss=loss, max_iter=max_iter, random_state=random_state)


class Codes(AnalyticTransformer):
    """A validating constructor, against scikit-learn's convention, around the default autoencoder."""

    def __init__(self, n_components=2, n_at_most=5, random_state=None):
        if not n_components <= n_at_most:
            raise ValueError("too many components")
        super().__init__(model_params={"n_components": n_components}, random_state=random_state, max_iter=3, tol=None)
        self.n_components = n_components
        self.n_at_most = n_at_most
