"""The public API as mypy sees it in a user's code: checked by scripts/types, never run."""

from typing import NamedTuple, assert_type

import numpy as np
from numpy.typing import NDArray

import sk_analytic
from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    Grads,
    Model,
    Params,
    check_gradient,
    find_learning_rate,
    fit_from_starts,
    get_loss,
)
from sk_analytic.gradient_check import Finding, GradientReport
from sk_analytic.losses import Huber, Loss
from sk_analytic.optimizers import SGD, Adam, Chain, ClipNorm, Exponential, Phases, get_optimizer_names
from sk_analytic.optimizers.state import State
from sk_analytic.typing import Pullback

Floats = NDArray[np.float64]
X, y = np.zeros((5, 2)), np.zeros(5)


# Functions with the type of the user's own structure.


def forward(params: dict[str, Floats], X: Floats) -> Floats:
    return X @ params["w"] + params["b"]


def gradient(params: dict[str, Floats], X: Floats, y: Floats, sample_weight: Floats | None = None) -> Grads:
    residual = forward(params, X) - y
    return {"w": X.T @ residual / len(X), "b": None}


def vjp(params: dict[str, Floats], X: Floats) -> tuple[Floats, Pullback]:
    return forward(params, X), lambda d: {"w": X.T @ d, "b": d.sum()}


def init(n_features: int, rng: np.random.Generator) -> Params:
    return {"w": rng.normal(size=n_features), "b": 0.0}


class Curve(NamedTuple):
    height: float
    rates: Floats


class Line(Model):
    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def init(self, n_features: int) -> Params:
        return {"w": np.zeros(n_features)}

    def forward(self, params: dict[str, Floats], X: Floats) -> Floats:
        return self.scale * X @ params["w"]

    def jacobian(self, params: dict[str, Floats], X: Floats) -> dict[str, Floats]:
        return {"w": self.scale * X}


# What `Params` holds, and what it does not.

one_array: Params = np.zeros(3)
nested: Params = {"layers": [{"W": np.zeros((2, 2)), "b": np.zeros(2)}, (1.0, np.zeros(2))], "scale": 1}
named: Params = Curve(1.0, np.zeros(2))
wrong_kind: Params = {1.0, 2.0}  # type: ignore[assignment]

# Estimators take such functions; fit returns the estimator itself, so that calls can be chained.

regressor = AnalyticRegressor(forward, gradient, init, optimizer=Adam(learning_rate=Exponential(0.1, decay=0.9)))
assert_type(regressor.fit(X, y), AnalyticRegressor)
assert_type(regressor.fit(X, y).partial_fit(X, y), AnalyticRegressor)
assert_type(regressor.fit(X, y, sample_weight=np.ones(5)).score(X, y), float)
AnalyticRegressor(vjp=vjp, init={"w": np.zeros(2), "b": 0.0}, loss=Huber(epsilon=1.5), fixed=["b"], alpha={"w": 0.1})
AnalyticRegressor(optimizer=Phases([("adam", 20), ("lbfgs", 100)]), batch_size="auto")
AnalyticRegressor(model=Line(), optimizer="lm")
AnalyticRegressor(max_iter=[1])  # type: ignore[arg-type]
AnalyticRegressor(optimizer=0.1)  # type: ignore[arg-type]
AnalyticRegressor(learning_rate=0.1)  # type: ignore[call-arg]

classifier = AnalyticClassifier(class_weight="balanced").fit(X, y)
assert_type(classifier, AnalyticClassifier)
probabilities: Floats = classifier.predict_proba(X)
labels: NDArray[np.str_] = classifier.predict(X)
weights: dict[str, Floats] = classifier.params_
assert_type(classifier.n_iter_, int)
assert_type(classifier.loss_curve_, list[float])
log_density: Floats = AnalyticDensity().fit(X).score_samples(X)
rows: Floats = AnalyticDensity().fit(X).sample(3, random_state=0)
codes: Floats = AnalyticTransformer().fit_transform(X)

# A loop of the user's own.

theta = {"w": np.zeros(2), "b": np.zeros(())}
optimizer = Chain([ClipNorm(1.0), SGD(learning_rate=0.1)])
state = optimizer.init(theta)
assert_type(state, State)
optimizer.update(state, theta, gradient(theta, X, y))

# Tools.

assert_type(check_gradient(regressor, X, y), GradientReport)
assert_type(check_gradient(loss=np.sum, gradient=np.ones_like, params=np.ones(3)).findings, tuple[Finding, ...])
assert_type(find_learning_rate(regressor, X, y).suggested, float | None)
assert_type(fit_from_starts(regressor, X, y).best_loss, float)
assert_type(get_loss("huber"), Loss)
assert_type(get_optimizer_names(), list[str])
assert_type(sk_analytic.__version__, str)
