"""The four estimators: what they return, what they accept, and what holds between two ways of saying the same."""

import inspect
import itertools
import pickle
import re
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from models import MODEL_OBJECTS, USER_MODELS
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight
from threadpoolctl import threadpool_limits

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    check_gradient,
    find_learning_rate,
)
from sk_analytic.losses import Huber, Poisson
from sk_analytic.model.gradient_forms import GRADIENT_FORMS

# Whether an optimizer has come to its end is no matter where a fit is only begun.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The problems are tiny: threads would only wait for one another."""
    with threadpool_limits(1):
        yield


N, N_FEATURES = 40, 3
X = np.random.default_rng(0).normal(size=(N, N_FEATURES))
WEIGHT = np.random.default_rng(1).uniform(0, 3, size=N)
REPEATS = np.arange(N) % 4
NOISE = np.random.default_rng(2).normal(size=(N, 3))
SCORES = X @ [[1, 2, -1], [0.5, -1, 1], [-1, 1, 0.5]] + NOISE

TARGETS = {
    "regression": (AnalyticRegressor, SCORES[:, 0]),
    "regression of one column": (AnalyticRegressor, SCORES[:, :1]),
    "regression of several": (AnalyticRegressor, SCORES[:, :2]),
    "two classes": (AnalyticClassifier, (SCORES[:, 0] > 0).astype(int)),
    "three classes": (AnalyticClassifier, SCORES.argmax(axis=1)),
    "labels": (AnalyticClassifier, (SCORES > 0).astype(int)),
    "density": (AnalyticDensity, None),
    "codes": (AnalyticTransformer, None),
}
Y_BINARY, Y_CLASSES, Y_LABELS = (TARGETS[task][1] for task in ("two classes", "three classes", "labels"))
Y = TARGETS["regression"][1]
ESTIMATORS = [AnalyticRegressor, AnalyticClassifier, AnalyticDensity, AnalyticTransformer]
EACH_ESTIMATOR = pytest.mark.parametrize("cls", ESTIMATORS)
Y_OF = {AnalyticRegressor: Y, AnalyticClassifier: Y_CLASSES, AnalyticDensity: None, AnalyticTransformer: None}

# Every task with the default model and with the user's in each gradient form.
TASKS = {
    f"{task}, {form}": (cls(**settings), y)
    for task, (cls, y) in TARGETS.items()
    for form, settings in {"default": {}, **USER_MODELS[cls]}.items()
}
EACH_TASK = pytest.mark.parametrize(("estimator", "y"), TASKS.values(), ids=TASKS)
EACH_OPTIMIZER = pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])


def begun(estimator, X, y=None, *, sample_weight=None, **settings):
    """A fit of a few iterations."""
    named = {"optimizer": "adam"} if estimator.optimizer == "auto" else {}
    settings = named | {"max_iter": 3, "random_state": 0} | settings
    return clone(estimator).set_params(**settings).fit(X, y, sample_weight=sample_weight)


def far(optimizer):
    """Settings by which fits of one loss agree, whoever says it: a full-batch method sees θ in units of its own."""
    return {"max_iter": 200, "tol": 1e-12} if optimizer == "lbfgs" else {}


def leaves(params):
    """The leaves of a parameter structure, in its order."""
    if isinstance(params, dict):
        params = list(params.values())
    return [leaf for part in params for leaf in leaves(part)] if isinstance(params, list | tuple) else [params]


def outputs(estimator, X):
    """Everything that an estimator says of rows, by method."""
    methods = ("predict", "decision_function", "predict_proba", "score_samples", "transform")
    return {name: getattr(estimator, name)(X) for name in methods if hasattr(estimator, name)}


def assert_same_fit(ours, expected, **tolerance):
    """Two estimators have equal parameters; to rounding, if a tolerance is given."""
    for a, b in zip(leaves(ours.params_), leaves(expected.params_), strict=True):
        assert_allclose(a, b, **({"rtol": 0} | tolerance))


# A linear model by hand, the four gradient forms of half its squared error.


def linear(params, X):
    return X @ params["coef"] + params["intercept"]


def linear_loss(params, X, y):
    return 0.5 * np.mean((linear(params, X) - y) ** 2)


def linear_gradient(params, X, y, sample_weight=None):
    d = (linear(params, X) - y) / len(X)
    if sample_weight is not None:
        d = sample_weight * d
    return {"coef": X.T @ d, "intercept": d.sum()}


START = {"coef": np.array([0.5, -0.5, 0.1]), "intercept": 0.2}


def linear_regressor(**settings):
    return AnalyticRegressor(**{"forward": linear, "gradient": linear_gradient, "init": START} | settings)


# What comes out.

SHAPES = {
    "regression": {"predict": (N,)},
    "regression of one column": {"predict": (N, 1)},
    "regression of several": {"predict": (N, 2)},
    "two classes": {"predict": (N,), "decision_function": (N,), "predict_proba": (N, 2)},
    "three classes": {"predict": (N,), "decision_function": (N, 3), "predict_proba": (N, 3)},
    "labels": {"predict": (N, 3), "decision_function": (N, 3), "predict_proba": (N, 3)},
    "density": {"score_samples": (N,)},
    "codes": {"transform": (N, 2)},
}


@EACH_OPTIMIZER
@EACH_TASK
def test_outputs_have_the_shapes_of_the_task(estimator, y, optimizer, request):
    """In every gradient form; `predict` in the shape of the y of `fit`, whatever that of the prediction."""
    task = next(name for name in SHAPES if f"{name}," in request.node.callspec.id)
    fitted = begun(estimator, X, y, optimizer=optimizer)
    assert {name: output.shape for name, output in outputs(fitted, X).items()} == SHAPES[task]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@EACH_OPTIMIZER
@EACH_TASK
def test_floating_types_are_kept(estimator, y, optimizer, dtype):
    """θ and everything that is predicted have the dtype of X, also where y and the weights have another."""
    weight = np.ones(N) if dtype == np.float32 else np.ones(N, np.float32)
    fitted = begun(estimator, X.astype(dtype), y, sample_weight=weight, optimizer=optimizer)
    for leaf in leaves(fitted.params_):
        assert type(leaf) is float or leaf.dtype == dtype
    for name, output in outputs(fitted, X.astype(dtype)).items():
        is_label = name == "predict" and isinstance(fitted, AnalyticClassifier)
        assert output.dtype == (y.dtype if is_label else dtype)
    assert {type(loss) for loss in fitted.loss_curve_} == {float}


@EACH_ESTIMATOR
def test_whole_numbers_become_float64(cls):
    """X of integers is trained on as float64."""
    fitted = begun(cls(), np.round(10 * X).astype(int), Y_OF[cls])
    assert {np.asarray(leaf).dtype for leaf in leaves(fitted.params_)} == {np.dtype(float)}


@EACH_TASK
def test_callables_receive_rows_that_cannot_be_written_and_y_in_the_dtype_of_x(estimator, y):
    """What `fit` was given is as it was afterwards, although every callable had it in hand."""
    mine = X.copy(), None if y is None else y.copy(), WEIGHT.copy()
    begun(estimator, mine[0], mine[1], sample_weight=mine[2])
    for array, original in zip(mine, (X, y, WEIGHT), strict=True):
        assert_array_equal(array, original)


LINKS = {
    "squared_error": np.asarray,
    "poisson": np.exp,
    "gamma": np.exp,
    "tweedie": np.exp,
    "log_loss": expit,
    Poisson(link="identity"): np.asarray,
    linear_loss: np.asarray,
    None: np.asarray,
}


@pytest.mark.parametrize(
    ("loss", "inverse"), LINKS.items(), ids=[getattr(loss, "__name__", str(loss)) for loss in LINKS]
)
def test_predict_applies_the_inverse_of_the_losss_link(loss, inverse):
    """`forward` is on the link's scale, `predict` on that of y; with a loss of the user's own they are the same."""
    start = {"coef": np.array([0.1, -0.2, 0.3]), "intercept": 2.0}
    model = linear_regressor(loss=loss, init=start, fixed=("coef", "intercept"), check_gradient=False)
    fitted = begun(model, X, (Y_BINARY + 1.0) / 2)
    assert_allclose(fitted.predict(X), inverse(linear(start, X)))


# Classes.

LABELS = {
    "strings": np.array(["b", "a", "c"]),
    "objects": np.array(["b", "a", "c"], dtype=object),
    "numbers": np.array([7, -3, 12]),
    "floats": np.array([2.0, 1.0, 3.0]),
    "booleans": np.array([True, False]),
    "two strings": np.array(["yes", "no"]),
}


@EACH_OPTIMIZER
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_predicted_labels_are_those_that_came(labels, optimizer):
    """`classes_` are sorted, columns follow them, and `predict` returns labels of the same kind."""
    y = labels[Y_CLASSES % len(labels)]
    fitted = begun(AnalyticClassifier(), X, y, optimizer=optimizer, max_iter=100)
    assert_array_equal(fitted.classes_, np.unique(labels))
    predicted = fitted.predict(X)
    assert predicted.dtype == y.dtype
    assert_array_equal(predicted, fitted.classes_[fitted.predict_proba(X).argmax(axis=1)])
    assert fitted.score(X, y) == accuracy_score(y, predicted) > 0.6


def recorder(seen, inner):
    """A callable loss that keeps the y it received."""

    def loss(params, X, y):
        seen.append(y)
        return inner(params, X, y)

    return loss


@pytest.mark.parametrize(
    ("y", "received"),
    [
        (np.array(["b", "a", "c"])[Y_CLASSES], np.array([1, 0, 2])[Y_CLASSES]),
        (np.array([9, 5])[Y_BINARY], 1 - Y_BINARY),
        (Y_LABELS, Y_LABELS.astype(np.float32)),
    ],
    ids=["three classes", "two classes", "labels"],
)
def test_a_classifiers_callables_receive_indices_or_indicators(y, received):
    """y arrives as class indices 0 to K-1 of shape (n,); for labels as floats 0 and 1 of shape (n, K)."""
    seen = []
    model = AnalyticClassifier(
        lambda params, X: np.tile(params["b"], (len(X), 1)),
        lambda params, X, y: {"b": np.zeros_like(params["b"])},
        init=lambda n_outputs: {"b": np.zeros(n_outputs)},
        loss=recorder(seen, lambda params, X, y: 0.0),
    )
    begun(model, X.astype(np.float32), y, shuffle=False)
    assert_array_equal(seen[-1], received)
    assert seen[-1].dtype == received.dtype
    assert not seen[-1].flags.writeable


def column_scores(n_columns):
    """A linear model of so many score columns, whatever was asked for; 0 stands for scores of shape (n,)."""
    shape = (n_columns,) if n_columns else ()

    def init(n_features, rng):
        return {"W": rng.normal(size=(n_features, *shape)), "b": rng.normal(size=shape)}

    def vjp(params, X):
        return X @ params["W"] + params["b"], lambda d: {"W": X.T @ d, "b": d.sum(axis=0)}

    return AnalyticClassifier(vjp=vjp, init=init)


@EACH_OPTIMIZER
def test_two_score_columns_decide_by_their_difference(optimizer):
    """The decision is the second score minus the first, the probabilities are the softmax of both."""
    fitted = begun(column_scores(2), X, Y_BINARY, optimizer=optimizer)
    scores = X @ fitted.params_["W"] + fitted.params_["b"]
    assert_allclose(fitted.decision_function(X), scores[:, 1] - scores[:, 0])
    assert_allclose(fitted.predict_proba(X), softmax(scores, axis=1))
    assert_array_equal(fitted.predict(X), scores.argmax(axis=1))


@pytest.mark.parametrize("n_columns", [0, 1])
def test_one_score_is_the_log_odds_of_the_second_class(n_columns):
    """Of shape (n,) or (n, 1): the decision is the score, the probability its logistic function."""
    fitted = begun(column_scores(n_columns), X, Y_BINARY)
    scores = (X @ fitted.params_["W"] + fitted.params_["b"]).reshape(N)
    assert_allclose(fitted.decision_function(X), scores)
    assert_allclose(fitted.predict_proba(X), np.stack([expit(-scores), expit(scores)], axis=1))
    assert_array_equal(fitted.predict(X), scores > 0)


@pytest.mark.parametrize(
    ("n_columns", "y", "message"),
    [
        (0, Y_CLASSES, r"returned shape \(40,\) for 40 samples and 3 classes; expected \(40, 3\)"),
        (1, Y_CLASSES, r"returned shape \(40, 1\) for 40 samples and 3 classes; expected \(40, 3\)"),
        (3, Y_BINARY, r"returned shape \(40, 3\) .* 2 classes; expected \(40,\) or \(40, 1\) or \(40, 2\)"),
        (2, Y_LABELS, r"returned shape \(40, 2\) for 40 samples and 3 labels; expected \(40, 3\)"),
    ],
)
def test_scores_that_do_not_fit_the_classes_are_refused(n_columns, y, message):
    """Nothing is broadcast; the message has the shape that came and those that fit."""
    with pytest.raises(ValueError, match=message):
        column_scores(n_columns).fit(X, y)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e30])
@pytest.mark.parametrize("y", [Y_BINARY, np.arange(N) % 10], ids=["2 classes", "10 classes"])
def test_probabilities_sum_to_one_in_float32(y, scale):
    """Within a few roundings of a float32, for scores of any size."""
    n_outputs = 1 if len(np.unique(y)) == 2 else 10
    start = {"coef": np.resize([1, -1, 0.3], (N_FEATURES, n_outputs)).squeeze(), "intercept": np.zeros(n_outputs)}
    start["intercept"] = start["intercept"] if n_outputs > 1 else 0.0
    fitted = begun(AnalyticClassifier(init=start, fixed=tuple(start)), X.astype(np.float32), y)
    probabilities = fitted.predict_proba(np.float32(scale) * X.astype(np.float32))
    assert probabilities.dtype == np.float32
    assert_allclose(probabilities.sum(axis=1, dtype=float), 1, rtol=3e-7)
    assert probabilities.min() >= 0


@pytest.mark.parametrize("kind", [np.asarray, csr_array, np.ndarray.tolist], ids=["array", "sparse", "lists"])
def test_each_label_has_a_score_a_probability_and_a_decision_of_its_own(kind):
    """Labels may come as an array, sparse or as lists; probabilities are logistic, predictions 0 or 1."""
    fitted = begun(AnalyticClassifier(), X, kind(Y_LABELS))
    scores = fitted.decision_function(X)
    assert_allclose(scores, linear(fitted.params_, X))
    assert_allclose(fitted.predict_proba(X), expit(scores))
    assert_array_equal(fitted.predict(X), (scores > 0).astype(int))
    assert_array_equal(fitted.classes_, [0, 1, 2])
    assert fitted.score(X, Y_LABELS) == accuracy_score(Y_LABELS, fitted.predict(X))


CLASS_WEIGHTS = {
    "every class": {"a": 1.0, "b": 3.0, "c": 0.5},
    "some classes": {"b": 3.0},
    "balanced": "balanced",
}


@pytest.mark.parametrize("repeats", [np.ones(N, int), REPEATS], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("class_weight", CLASS_WEIGHTS.values(), ids=CLASS_WEIGHTS)
def test_class_weights_are_those_of_logistic_regression(class_weight, repeats):
    """The same objective has scikit-learn's coefficients; "balanced" counts a row of weight 2 as two rows."""
    y = np.array(["a", "b", "c"])[Y_CLASSES]
    X_repeated, y_repeated = np.repeat(X, repeats, axis=0), np.repeat(y, repeats)
    theirs = LogisticRegression(class_weight=class_weight, tol=1e-10, solver="newton-cholesky")
    theirs.fit(X_repeated, y_repeated)
    total = compute_sample_weight(class_weight, y_repeated).sum()
    ours = AnalyticClassifier(class_weight=class_weight, alpha=1 / total, optimizer="lbfgs", tol=1e-8)
    ours.fit(X, y, sample_weight=repeats)
    assert_allclose(ours.params_["coef"].T, theirs.coef_, rtol=1e-4)


@pytest.mark.parametrize("y", [Y_BINARY, Y_CLASSES, Y_LABELS], ids=["two classes", "three classes", "labels"])
def test_balanced_weights_count_repeated_rows(y):
    """Weighted rows and repeated ones have the same balanced weights, and so the same fit; labels too."""
    model = AnalyticClassifier(class_weight="balanced", optimizer="sgd", batch_size=1000)
    weighted = begun(model, X, y, sample_weight=REPEATS)
    repeated = begun(model, np.repeat(X, REPEATS, axis=0), np.repeat(y, REPEATS, axis=0))
    assert_same_fit(weighted, repeated, rtol=1e-9)


@EACH_OPTIMIZER
def test_class_weights_multiply_sample_weights(optimizer):
    """A fit with both is the fit with their product, to the bit."""
    both = begun(AnalyticClassifier(class_weight={0: 1, 1: 4, 2: 0.5}), X, Y_CLASSES, sample_weight=WEIGHT)
    product = begun(AnalyticClassifier(), X, Y_CLASSES, sample_weight=WEIGHT * np.array([1, 4, 0.5])[Y_CLASSES])
    assert_same_fit(both, product)


def test_callables_that_cannot_weigh_refuse_class_weights():
    """As for sample weights, the message says what to add."""
    model = AnalyticClassifier(
        lambda params, X: X @ params["w"],
        lambda params, X, y: {"w": X.T @ (expit(X @ params["w"]) - y) / len(X)},
        init={"w": np.zeros(N_FEATURES)},
        class_weight="balanced",
    )
    with pytest.raises(
        ValueError, match=r"sample_weight or class_weight.*gradient\(params, X, ..., sample_weight=None"
    ):
        model.fit(X, Y_BINARY)


# partial_fit.


def in_passes(estimator, X, y, n, *, sample_weight=None, **settings):
    """So many calls of partial_fit, each with all the rows."""
    model = clone(estimator).set_params(random_state=0, **settings)
    first = {"classes": np.unique(y)} if isinstance(model, AnalyticClassifier) and y.ndim == 1 else {}
    if isinstance(model, AnalyticClassifier) and y.ndim == 2:
        first = {"classes": np.arange(y.shape[1])}
    for _ in range(n):
        model.partial_fit(X, y, sample_weight=sample_weight, **first)
        first = {}
    return model


@EACH_TASK
def test_passes_of_partial_fit_are_the_epochs_of_fit(estimator, y):
    """Three calls with all the rows are a fit of three epochs, to the bit: the same orders, steps and losses."""
    passes = in_passes(estimator, X, y, 3, batch_size=16)
    epochs = begun(estimator, X, y, max_iter=3, batch_size=16)
    assert_same_fit(passes, epochs)
    assert passes.n_iter_ == epochs.n_iter_ == 3
    assert passes.n_steps_ == epochs.n_steps_ == 9
    assert passes.loss_curve_ == epochs.loss_curve_


@EACH_ESTIMATOR
def test_partial_fit_goes_on_after_fit_and_after_pickling(cls):
    """A pass after a fit and a reload is the next epoch."""
    fitted = begun(cls(), X, Y_OF[cls], max_iter=2)
    reloaded = pickle.loads(pickle.dumps(fitted)).partial_fit(X, Y_OF[cls])
    assert_same_fit(reloaded, begun(cls(), X, Y_OF[cls], max_iter=3))


@EACH_ESTIMATOR
def test_partial_fit_does_not_warn_that_one_pass_was_not_enough(cls, recwarn):
    """There is no number of epochs that it could have missed."""
    in_passes(cls(), X, Y_OF[cls], 1)
    assert not recwarn


@pytest.mark.parametrize(
    ("optimizer", "offered"), [("adam", True), ("sgd", True), ("lbfgs", False), ("newton-cg", False)]
)
@EACH_ESTIMATOR
def test_partial_fit_is_there_for_rules_only(cls, optimizer, offered):
    """A full-batch method needs all rows: the estimator then has no partial_fit, as MLPClassifier with lbfgs."""
    estimator = cls(optimizer=optimizer)
    assert hasattr(estimator, "partial_fit") is offered
    if not offered:
        with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as raised:
            estimator.partial_fit(X, Y_OF[cls])
        assert f"optimizer='{optimizer}' is a full-batch method, which does not support" in str(raised.value.__cause__)


@EACH_TASK
def test_partial_fit_takes_weights_as_they_are(estimator, y):
    """A row of weight 2 counts as two: a plain step with weights of 2 is twice as long as one with none."""
    estimator = clone(estimator).set_params(optimizer="sgd", optimizer__learning_rate=1e-3, alpha=0.0)

    def after(weight=None, learning_rate=1e-3):
        model = in_passes(estimator, X, y, 1)
        model.set_params(optimizer__learning_rate=learning_rate)
        return model.partial_fit(X[:20], None if y is None else y[:20], sample_weight=weight)

    heavy = after(weight=np.full(20, 2.0))
    assert_same_fit(heavy, after(learning_rate=2e-3), rtol=1e-12)
    assert any(np.any(a != b) for a, b in zip(leaves(after().params_), leaves(heavy.params_), strict=True))


@EACH_ESTIMATOR
def test_a_batch_of_weight_zero_is_no_step(cls):
    """It changes nothing and is not counted."""
    model = in_passes(cls(), X, Y_OF[cls], 1)
    before = [np.copy(leaf) for leaf in leaves(model.params_)]
    model.partial_fit(X, Y_OF[cls], sample_weight=np.zeros(N))
    assert model.n_steps_ == 1
    for leaf, old in zip(leaves(model.params_), before, strict=True):
        assert_array_equal(leaf, old)


def test_classes_that_come_later_are_announced_in_the_first_call():
    """A batch may lack classes; their order is sorted, whatever that of `classes`."""
    model = AnalyticClassifier(random_state=0)
    model.partial_fit(X[:5], np.full(5, "b"), classes=["c", "b", "a", "b"])
    model.partial_fit(X, np.array(["a", "b", "c"])[Y_CLASSES])
    assert_array_equal(model.classes_, ["a", "b", "c"])
    assert model.decision_function(X).shape == (N, 3)


PARTIAL_FIT_REFUSALS = {
    "no classes": ({}, [(Y_CLASSES, {})], r"classes must be passed in the first call to partial_fit"),
    "unseen label": (
        {},
        [(Y_BINARY, {"classes": [0, 1]}), (Y_CLASSES, {})],
        r"y has labels \[2\] that are not among the classes \[0 1\]",
    ),
    "other classes": (
        {},
        [(Y_BINARY, {"classes": [0, 1]}), (Y_BINARY, {"classes": [0, 1, 2]})],
        r"classes=\[0 1 2\] differs from the first call: \[0 1\]",
    ),
    "one class": ({}, [(0 * Y_BINARY, {"classes": [0]})], r"needs at least 2 classes; y has only one class, 0"),
    "balanced": ({"class_weight": "balanced"}, [(Y_BINARY, {"classes": [0, 1]})], r"'balanced' is not supported for"),
    "early stopping": ({"early_stopping": True}, [(Y_BINARY, {"classes": [0, 1]})], r"does not support early_stopping"),
    "labels after classes": (
        {},
        [(Y_CLASSES, {"classes": [0, 1, 2]}), (Y_LABELS, {})],
        r"y is an indicator matrix of labels; before, it was one class per sample",
    ),
    "classes after labels": (
        {},
        [(Y_LABELS, {"classes": [0, 1, 2]}), (Y_CLASSES, {})],
        r"y is one class per sample; before, it was an indicator matrix of labels",
    ),
    "fewer labels": (
        {},
        [(Y_LABELS, {"classes": [0, 1, 2]}), (Y_LABELS[:, :2], {})],
        r"y has 2 columns, one for each label, but the labels are \[0 1 2\]",
    ),
    "names for labels": (
        {},
        [(Y_LABELS, {"classes": ["a", "b", "c"]})],
        r"y has 3 columns, one for each label, but the labels are \['a' 'b' 'c'\]",
    ),
}


@pytest.mark.parametrize(
    ("settings", "calls", "message"), PARTIAL_FIT_REFUSALS.values(), ids=list(PARTIAL_FIT_REFUSALS)
)
def test_the_classifiers_partial_fit_refuses(settings, calls, message):
    """What it cannot learn from without having seen all rows; the message says what came and what there was."""
    model = AnalyticClassifier(**settings)
    for y, arguments in calls[:-1]:
        model.partial_fit(X, y, **arguments)
    y, arguments = calls[-1]
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y, **arguments)


def test_a_first_call_that_failed_does_not_count():
    """After it, `classes` are needed still."""
    model = AnalyticClassifier(init={"coef": np.zeros(N_FEATURES), "intercept": 0.0})
    with pytest.raises(ValueError, match="3 classes"):
        model.partial_fit(X, Y_BINARY, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(X, Y_BINARY)


@EACH_ESTIMATOR
def test_partial_fit_of_each_estimator_refuses_early_stopping(cls):
    """It has no rows to hold out."""
    with pytest.raises(ValueError, match="does not support early_stopping=True"):
        in_passes(cls(early_stopping=True), X, Y_OF[cls], 1)


def test_a_regressor_keeps_to_the_shape_of_its_targets():
    """In later calls y has as many columns as in the first."""
    model = AnalyticRegressor().partial_fit(X, SCORES)
    with pytest.raises(ValueError, match=r"the y that training began with had shape \(n_samples, 3\)"):
        model.partial_fit(X, Y)


# Densities and codes.


@pytest.mark.parametrize("form", ["default", *USER_MODELS[AnalyticDensity]])
def test_the_score_of_a_density_is_the_mean_log_density(form):
    """A float, weighted if asked; `score_samples` is what `forward` says."""
    fitted = begun(AnalyticDensity(**USER_MODELS[AnalyticDensity].get(form, {})), X)
    log_density = fitted.score_samples(X)
    assert type(fitted.score(X)) is float
    assert fitted.score(X) == pytest.approx(log_density.mean())
    assert fitted.score(X, sample_weight=WEIGHT) == pytest.approx(np.average(log_density, weights=WEIGHT))
    if fitted.forward is not None:
        assert_allclose(log_density, fitted.forward(fitted.params_, X, **fitted.model_params))


def test_a_density_has_one_number_a_row():
    """A second axis is refused."""
    model = AnalyticDensity(lambda params, X: X - params["m"], lambda params, X: {"m": np.zeros(3)}, {"m": np.zeros(3)})
    with pytest.raises(
        ValueError, match=r"returned shape \(40, 3\); a density returns one log-density per sample, of shape \(40,\)"
    ):
        model.fit(X)


@pytest.mark.parametrize("form", ["default", *USER_MODELS[AnalyticTransformer]])
def test_fit_transform_is_fit_and_transform(form):
    """To the bit, with names of the codes numbered after the class, and in a frame if asked."""
    model = AnalyticTransformer(**USER_MODELS[AnalyticTransformer].get(form, {}), max_iter=3, random_state=0)
    codes = clone(model).fit_transform(X)
    fitted = clone(model).fit(X)
    names = ["analytictransformer0", "analytictransformer1"]
    assert_array_equal(codes, fitted.transform(X))
    assert_array_equal(fitted.get_feature_names_out(), names)
    frame = clone(model).set_output(transform="pandas").fit_transform(X)
    assert list(frame.columns) == names
    assert_array_equal(frame, codes)


def test_model_parameters_decide_how_many_codes_there_are():
    """The default autoencoder has as many components as asked for; a code a row becomes a column."""
    assert begun(AnalyticTransformer(model_params={"n_components": 1}), X).transform(X).shape == (N, 1)
    narrow = AnalyticTransformer(
        lambda params, X: X @ params["w"], lambda params, X: {"w": params["w"] - 1}, {"w": np.zeros(3)}
    )
    assert begun(narrow, X).transform(X).shape == (N, 1)
    assert_array_equal(begun(narrow, X).get_feature_names_out(), ["analytictransformer0"])


# θ in every structure: the same linear model, packed in different ways.


class Linear(NamedTuple):
    coef: np.ndarray
    intercept: float


STRUCTURES = {
    "dict": (lambda c, b: {"coef": c, "intercept": b}, lambda p: (p["coef"], p["intercept"])),
    "tuple": (lambda c, b: (c, b), lambda p: p),
    "list": (lambda c, b: [c, b], lambda p: p),
    "named tuple": (Linear, lambda p: (p.coef, p.intercept)),
    "nested": (
        lambda c, b: {"slopes": [c[..., :1], {"rest": (c[..., 1:],)}], "intercept": b},
        lambda p: (np.concatenate([p["slopes"][0], p["slopes"][1]["rest"][0]]), p["intercept"]),
    ),
    "one array": (lambda c, b: np.concatenate([c, b[..., None]], axis=-1), lambda p: (p[:-1], p[-1])),
    "floats": (
        lambda c, b: {"a": c[..., 0], "b": c[..., 1], "c": c[..., 2], "intercept": b},
        lambda p: (np.array([p["a"], p["b"], p["c"]]), p["intercept"]),
    ),
    "matrix": (lambda c, b: [c[..., None], b[..., None]], lambda p: (p[0][:, 0], p[1][0])),
}


def packed_model(pack, unpack, form):
    """Linear regression on parameters in a structure, in a gradient form."""

    def forward(params, X):
        coef, intercept = unpack(params)
        return X @ coef + intercept

    def pull(X, d):
        return pack(X.T @ d, np.asarray(d.sum()))

    def vjp(params, X):
        return forward(params, X), lambda d: pull(X, d)

    def jacobian(params, X):
        return pack(X, np.ones(len(X)))

    def loss_and_gradient(params, X, y):
        residual = forward(params, X) - y
        return 0.5 * np.mean(residual**2), pull(X, residual / len(X))

    def gradient(params, X, y):
        return loss_and_gradient(params, X, y)[1]

    forms = {"vjp": vjp, "jacobian": jacobian, "loss_and_gradient": loss_and_gradient, "gradient": gradient}
    return {"forward": forward, form: forms[form]}


@EACH_OPTIMIZER
@pytest.mark.parametrize("form", GRADIENT_FORMS)
@pytest.mark.parametrize(("pack", "unpack"), STRUCTURES.values(), ids=STRUCTURES)
def test_every_structure_of_parameters_gives_the_same_fit(pack, unpack, form, optimizer):
    """`params_` come in the structure of `init`, with floats where those were; their values do not depend on it."""
    start = pack(np.zeros(N_FEATURES), np.zeros(()))
    settings = {"optimizer": optimizer, "batch_size": N, "alpha": 0.1} | far(optimizer)
    ours = begun(AnalyticRegressor(**packed_model(pack, unpack, form), init=start), X, Y, **settings)
    zero = {"coef": np.zeros(N_FEATURES), "intercept": 0.0}
    expected = begun(AnalyticRegressor(init=zero), X, Y, **settings | {"alpha": {"coef": 0.1, "intercept": 0.1}})
    coef, intercept = unpack(ours.params_)
    assert_allclose(coef, expected.params_["coef"], rtol=1e-9)
    assert_allclose(intercept, expected.params_["intercept"], rtol=1e-9)
    assert type(ours.params_) is type(start)
    for leaf, first in zip(leaves(ours.params_), leaves(start), strict=True):
        assert type(leaf) is (float if isinstance(first, np.generic) else np.ndarray)
        assert np.shape(leaf) == np.shape(first)


@EACH_OPTIMIZER
def test_python_floats_stay_python_floats(optimizer):
    """A model written with numbers, `math` and no array at all is one of its structures."""

    def forward(params, X):
        slope, level = params
        assert np.shape(slope) == ()
        return slope * X[:, 0] + level

    def gradient(params, X, y):
        residual = forward(params, X) - y
        return float(residual @ X[:, 0] / len(X)), float(residual.mean())

    fitted = begun(AnalyticRegressor(forward, gradient, init=(1.0, 0.0)), X, Y, optimizer=optimizer)
    assert {type(leaf) for leaf in fitted.params_} == {float}


# Blocks that are not trained.


@EACH_OPTIMIZER
@pytest.mark.parametrize("way", ["fixed", "None"])
@pytest.mark.parametrize("form", ["gradient", "loss_and_gradient", "vjp", "jacobian"])
def test_blocks_that_are_not_trained_stay_at_their_start(form, way, optimizer):
    """By `fixed` or by a leaf None: the block does not move, penalty or not, and the others do as without it."""
    pack, unpack = STRUCTURES["dict"]
    model = packed_model(pack, unpack, form)
    if way == "None":
        model = packed_model(lambda c, b: {"coef": c, "intercept": None}, unpack, form)
    start = {"coef": np.zeros(N_FEATURES), "intercept": 0.7}
    fitted = begun(
        AnalyticRegressor(**model, init=start, fixed=("intercept",) if way == "fixed" else ()),
        X,
        Y,
        optimizer=optimizer,
        batch_size=N,
        alpha=0.1,
        **far(optimizer),
    )
    without = begun(
        AnalyticRegressor(
            lambda params, X: X @ params["coef"] + 0.7,
            vjp=lambda params, X: (X @ params["coef"] + 0.7, lambda d: {"coef": X.T @ d}),
            init={"coef": np.zeros(N_FEATURES)},
        ),
        X,
        Y,
        optimizer=optimizer,
        batch_size=N,
        alpha=0.1,
        **far(optimizer),
    )
    assert fitted.params_["intercept"] == 0.7
    assert_allclose(fitted.params_["coef"], without.params_["coef"], rtol=1e-9)
    assert start == {"coef": pytest.approx(np.zeros(N_FEATURES)), "intercept": 0.7}


@EACH_OPTIMIZER
def test_fixed_reaches_into_nested_structures(optimizer):
    """A dotted name stands for a block or for all below it; positions may be numbers."""
    pack, unpack = STRUCTURES["nested"]
    start = pack(np.array([0.1, 0.2, 0.3]), np.zeros(()))
    model = AnalyticRegressor(**packed_model(pack, unpack, "vjp"), init=start, optimizer=optimizer)
    fitted = begun(model, X, Y, fixed=("slopes.1",))
    coef, intercept = unpack(fitted.params_)
    assert_array_equal(coef[1:], [0.2, 0.3])
    assert coef[0] != 0.1
    assert intercept != 0
    pack, unpack = STRUCTURES["tuple"]
    model = AnalyticRegressor(**packed_model(pack, unpack, "vjp"), init=pack(np.zeros(3), np.ones(())))
    assert begun(model, X, Y, fixed=(1,)).params_[1] == 1


# Arguments by name.


def test_callables_receive_what_they_name():
    """y, weights, rng and model parameters, each to those who ask; `init` learns about the data."""
    seen = {}

    def init(n_features, n_outputs, rng, X, y, sample_weight, scale):
        seen["init"] = (n_features, n_outputs, type(rng), X.shape, y.shape, sample_weight.mean(), scale)
        return {"coef": scale * np.ones(n_features), "intercept": 0.0}

    def forward(params, X, power=1):
        seen["forward"] = power
        return linear(params, X) ** power

    def gradient(params, X, y, sample_weight, rng, scale, unused="default"):
        seen["gradient"] = (y.shape, sample_weight.shape, type(rng), scale, unused)
        return linear_gradient(params, X, y, sample_weight)

    def loss(params, X, y, sample_weight=None):
        seen["loss"] = sample_weight
        return linear_loss(params, X, y)

    model_params = {"scale": 0.5, "power": 1.0}
    begun(AnalyticRegressor(forward, gradient, init, loss=loss, model_params=model_params), X, Y)
    assert seen["init"] == (N_FEATURES, 1, np.random.Generator, X.shape, Y.shape, 1.0, 0.5)
    assert seen["forward"] == 1.0
    assert seen["gradient"] == ((N,), (N,), np.random.Generator, 0.5, "default")
    assert seen["loss"] is None  # its default says that it needs no array of ones
    assert model_params == {"scale": 0.5, "power": 1.0}


@pytest.mark.parametrize(
    ("estimator", "y", "n_outputs"),
    [
        (AnalyticRegressor, Y, 1),
        (AnalyticRegressor, SCORES[:, :1], 1),
        (AnalyticRegressor, SCORES, 3),
        (AnalyticClassifier, Y_BINARY, 1),
        (AnalyticClassifier, Y_CLASSES, 3),
        (AnalyticClassifier, Y_LABELS[:, :2], 2),
        (AnalyticClassifier, Y_LABELS, 3),
    ],
)
def test_init_is_asked_for_as_many_outputs_as_the_task_has(estimator, y, n_outputs):
    """`n_outputs` is 1 for two classes, and is published as `n_outputs_`."""
    asked = []

    def init(n_features, n_outputs):
        asked.append(n_outputs)
        return {"coef": np.zeros((n_features, n_outputs)), "intercept": np.zeros(n_outputs)}

    fitted = begun(estimator(init=init), X, y)
    assert asked == [n_outputs]
    assert fitted.n_outputs_ == n_outputs


@EACH_ESTIMATOR
def test_the_seed_decides_everything_random(cls):
    """Starting parameters, orders and a callable's rng: the same seed gives the same fit, another one another."""

    def init(n_features, rng):
        return {"w": rng.normal(size=n_features)}

    def forward(params, X):
        return X @ params["w"] if cls is not AnalyticClassifier else np.outer(X @ params["w"], [1, 0, -1])

    def gradient(params, X, rng):
        return {"w": rng.normal(size=N_FEATURES)}

    model = cls(forward, gradient, init, loss=None)
    y = Y_OF[cls]
    assert_same_fit(begun(model, X, y, random_state=5), begun(model, X, y, random_state=5))
    ours, other = (begun(model, X, y, random_state=seed).params_["w"] for seed in (5, 6))
    assert np.all(ours != other)


# Losses.


@EACH_OPTIMIZER
def test_a_loss_of_the_users_own_is_what_is_watched(optimizer):
    """A callable loss beside `gradient` gives the curve, and what a full-batch method minimizes."""
    settings = {"optimizer": optimizer} | far(optimizer)
    ours = begun(linear_regressor(loss=linear_loss), X, Y, **settings)
    named = begun(linear_regressor(), X, Y, **settings)
    assert_same_fit(ours, named, rtol=1e-9)
    if optimizer == "adam":
        assert_allclose(ours.loss_curve_, named.loss_curve_)
    assert_allclose(ours.loss_, linear_loss(ours.params_, X, Y))


def test_a_loss_of_the_users_own_is_weighted_by_itself():
    """It has to accept sample_weight, and then its mean is the loss."""

    def weighted_loss(params, X, y, sample_weight):
        return 0.5 * np.mean(sample_weight * (linear(params, X) - y) ** 2)

    settings = {"sample_weight": WEIGHT, "optimizer": "lbfgs"} | far("lbfgs")
    fitted = begun(linear_regressor(loss=weighted_loss), X, Y, **settings)
    assert_same_fit(fitted, begun(linear_regressor(), X, Y, **settings), rtol=1e-9)
    with pytest.raises(ValueError, match=r"but loss does not accept sample_weight. Add the argument"):
        begun(linear_regressor(loss=linear_loss), X, Y, sample_weight=WEIGHT)


@pytest.mark.parametrize("form", ["vjp", "jacobian"])
def test_loss_objects_are_used_with_their_hyperparameters(form):
    """Huber(epsilon=0.1), its epsilon set by name, and the user's object left as it was."""
    pack, unpack = STRUCTURES["dict"]
    settings = {"init": START, "optimizer": "lbfgs"} | packed_model(pack, unpack, form)
    loss = Huber(epsilon=0.1)
    by_object = begun(AnalyticRegressor(loss=loss, **settings), X, Y)
    by_name = begun(AnalyticRegressor(loss="huber", **settings), X, Y, loss__epsilon=0.1)
    assert_same_fit(by_object, by_name)
    assert_allclose(by_object.loss_, loss.value(Y, linear(by_object.params_, X)).mean())
    default = begun(AnalyticRegressor(loss="huber", **settings), X, Y)
    assert np.all(default.params_["coef"] != by_object.params_["coef"])
    assert loss.epsilon == 0.1


def test_training_by_the_gradient_alone_needs_no_loss():
    """loss=None: the same steps, and no curve; the norm of the gradient decides when to stop."""
    silent = begun(linear_regressor(loss=None), X, Y, max_iter=2000, tol=1e-6)
    assert silent.loss_curve_ == []
    assert silent.loss_ is None
    assert silent.best_loss_ is None
    assert silent.n_iter_ < 2000
    assert_same_fit(silent, begun(linear_regressor(), X, Y, max_iter=silent.n_iter_, tol=0, n_iter_no_change=10**6))


LOSS_REFUSALS = {
    "a full-batch method without": (linear_regressor(loss=None, optimizer="lbfgs"), "needs the value of the loss"),
    "none to compose with": (AnalyticRegressor(loss=None), r"loss=None|got none"),
    "a callable to compose with": (AnalyticRegressor(loss=linear_loss), r"derivative.* A callable loss requires"),
    "an unknown name": (AnalyticRegressor(loss="hubber"), r"Unknown loss 'hubber'. Did you mean 'huber'"),
    "an epsilon below 0": (AnalyticRegressor(loss=Huber(epsilon=-1)), r"epsilon must be .* got -1"),
    "y outside the domain": (AnalyticRegressor(loss="gamma"), r"gamma: y\[\d+\] is -.*, outside the loss's domain"),
}


@pytest.mark.parametrize(("estimator", "message"), LOSS_REFUSALS.values(), ids=LOSS_REFUSALS)
def test_a_loss_that_cannot_serve_is_refused(estimator, message):
    """Before the first step, in words that show the way."""
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit(X, Y)


def test_early_stopping_of_a_transformer_needs_a_loss():
    """There is nothing else to score held-out rows by."""
    model = AnalyticTransformer(
        lambda params, X: X @ params["w"], lambda params, X: {"w": params["w"] - 1}, {"w": np.zeros(3)}
    )
    with pytest.raises(ValueError, match="There is no loss, because gradient was given with loss=None"):
        model.set_params(early_stopping=True).fit(X)


@EACH_OPTIMIZER
def test_sums_are_declared_by_reduction(optimizer):
    """A gradient and a loss that are sums over the rows, with reduction="sum", fit as their means do."""
    sums = linear_regressor(
        gradient=lambda params, X, y: {k: len(X) * g for k, g in linear_gradient(params, X, y).items()},
        loss=lambda params, X, y: len(X) * linear_loss(params, X, y),
        reduction="sum",
    )
    settings = {"optimizer": optimizer, "batch_size": 16, "alpha": 0.1}
    ours, expected = begun(sums, X, Y, **settings), begun(linear_regressor(loss=linear_loss), X, Y, **settings)
    assert_same_fit(ours, expected, rtol=1e-9)
    assert_allclose(ours.loss_curve_, expected.loss_curve_)


# Penalty.


def test_alpha_leaves_the_intercept_of_the_default_model_alone():
    """A number penalizes the slopes only; in a model of the user's all blocks."""
    settings = {"optimizer": "lbfgs", "tol": 1e-8, "max_iter": 100}
    default = begun(AnalyticRegressor(), X, Y + 5, alpha=2.0, **settings)
    assert_same_fit(default, begun(AnalyticRegressor(), X, Y + 5, alpha={"coef": 2.0}, **settings))
    users = begun(linear_regressor(), X, Y + 5, alpha=2.0, **settings)
    by_block = begun(linear_regressor(), X, Y + 5, alpha={"coef": 2.0, "intercept": 2.0}, **settings)
    assert_same_fit(users, by_block)
    assert abs(users.params_["intercept"]) < 0.5 * abs(default.params_["intercept"])


def test_alpha_by_block_is_solved_by_ridge_regression():
    """Each block has the strength of its own: the normal equations with that diagonal."""
    pack, unpack = STRUCTURES["floats"]
    strengths = {"a": 0.1, "b": 1.0, "intercept": 0.3}
    model = AnalyticRegressor(**packed_model(pack, unpack, "vjp"), init=pack(np.zeros(3), np.zeros(())))
    fitted = begun(model, X, Y, alpha=strengths, optimizer="lbfgs", tol=1e-10, max_iter=200)
    A = np.column_stack([X, np.ones(N)])
    solution = np.linalg.solve(A.T @ A / N + np.diag([0.1, 1.0, 0.0, 0.3]), A.T @ Y / N)
    assert_allclose(np.append(*unpack(fitted.params_)), solution, rtol=1e-6)
    penalty = 0.5 * np.array([0.1, 1.0, 0.0, 0.3]) @ solution**2
    assert_allclose(fitted.loss_, 0.5 * np.mean((A @ solution - Y) ** 2) + penalty)


def test_alpha_names_a_block_that_exists():
    """The message has the nearest name."""
    with pytest.raises(
        ValueError, match=r"alpha names the parameter 'coeff', which does not exist. Did you mean 'coef'"
    ):
        AnalyticRegressor(alpha={"coeff": 1.0}).fit(X, Y)


# Batches, seeds, and going on.


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
@EACH_TASK
def test_a_full_batch_method_sums_parts_of_batch_size(estimator, y, batch_size):
    """The parts of unequal size add up to one call with all the rows."""
    settings = {"sample_weight": WEIGHT, "optimizer": "lbfgs"}
    parts = begun(estimator, X, y, batch_size=batch_size, **settings)
    whole = begun(estimator, X, y, **settings)
    assert_same_fit(parts, whole, rtol=1e-7, atol=1e-12)
    assert parts.n_iter_ == whole.n_iter_


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "sizes"),
    [
        ("adam", "auto", {40}),
        ("adam", 16, {16, 8}),
        ("adam", 1000, {40}),
        ("lbfgs", "auto", {40}),
        ("lbfgs", 16, {16, 8}),
    ],
)
def test_callables_see_batches_of_batch_size(optimizer, batch_size, sizes):
    """In training; the last one has the rest of the rows. A full-batch method looks at single rows for its units."""
    seen = set()

    def gradient(params, X, y):
        seen.add(len(X))
        return linear_gradient(params, X, y)

    model = linear_regressor(gradient=gradient, check_gradient=False)
    begun(model, X, Y, optimizer=optimizer, batch_size=batch_size)
    assert seen - ({1} if optimizer == "lbfgs" else set()) == sizes


@EACH_ESTIMATOR
def test_a_warm_start_goes_on_where_the_last_fit_ended(cls):
    """Two fits of 2 and 3 epochs are one of 5, to the bit, curve and counts included."""
    model = clone(cls(warm_start=True, random_state=0, batch_size=16))
    model.set_params(max_iter=2).fit(X, Y_OF[cls])
    model.set_params(max_iter=3).fit(X, Y_OF[cls])
    whole = begun(cls(batch_size=16), X, Y_OF[cls], max_iter=5)
    assert_same_fit(model, whole)
    assert model.loss_curve_ == whole.loss_curve_
    assert (model.n_iter_, model.n_steps_) == (whole.n_iter_, whole.n_steps_) == (5, 15)


@EACH_ESTIMATOR
def test_a_cold_start_forgets_the_last_fit(cls):
    """Without warm_start a second fit is the first over again, whatever optimizer came before."""
    model = begun(cls(), X, Y_OF[cls], optimizer="lbfgs")
    model.set_params(optimizer="adam").fit(X, Y_OF[cls])
    fresh = begun(cls(), X, Y_OF[cls])
    assert_same_fit(model, fresh)
    assert vars(model).keys() == vars(fresh).keys()


@EACH_ESTIMATOR
def test_a_warm_start_takes_another_optimizer(cls):
    """Adam first, then lbfgs from there, then plain steps: θ, the curve and the counts go on."""
    model = begun(cls(warm_start=True), X, Y_OF[cls], max_iter=4)
    losses = [model.loss_]
    for optimizer in ("lbfgs", "sgd"):
        model.set_params(optimizer=optimizer).fit(X, Y_OF[cls])
        losses.append(model.loss_)
    assert len(model.loss_curve_) == model.n_iter_ > 4
    assert losses[1] <= losses[0] + 1e-12


def test_a_warm_start_refuses_other_features():
    """The parameters belong to the columns of the first fit."""
    model = begun(AnalyticRegressor(warm_start=True), X, Y)
    with pytest.raises(ValueError, match="X has 2 features, but AnalyticRegressor is expecting 3"):
        model.fit(X[:, :2], Y)


OTHER_TARGETS = {
    "a subset": (Y_CLASSES, Y_BINARY, r"y has the classes \[0 1\], but warm_start=True continues .* classes \[0 1 2\]"),
    "one class": (Y_CLASSES, 0 * Y_CLASSES, r"y has the classes \[0\], but warm_start=True continues .* \[0 1 2\]"),
    "more": (Y_BINARY, Y_CLASSES, r"y has the classes \[0 1 2\], but warm_start=True continues .* classes \[0 1\]"),
    "others": (Y_BINARY, np.array(["a", "b"])[Y_BINARY], r"y has the classes \['a' 'b'\], but .* classes \[0 1\]"),
    "fewer labels": (Y_LABELS, Y_LABELS[:, :2], r"y has the classes \[0 1\], but .* classes \[0 1 2\]"),
    "more labels": (Y_LABELS[:, :2], Y_LABELS, r"y has the classes \[0 1 2\], but .* classes \[0 1\]"),
    "labels for classes": (
        Y_CLASSES,
        Y_LABELS,
        "y is an indicator matrix of labels; before, it was one class per sample",
    ),
}


def as_arrays(model, y):
    return model.fit(X, y)


def as_chunks(model, y):
    return model.fit_chunks([(X[:20], y[:20]), (X[20:], y[20:])])


def as_a_sweep(model, y):
    return find_learning_rate(model, X, y, n_steps=10, random_state=0)


@pytest.mark.parametrize("again", [as_arrays, as_chunks, as_a_sweep])
@pytest.mark.parametrize(("first", "then", "message"), OTHER_TARGETS.values(), ids=OTHER_TARGETS)
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_a_warm_start_refuses_other_classes(first, then, message, again, class_weight):
    """Fewer as well as others, as MLPClassifier does; the message says what to do, and nothing is lost."""
    model = begun(AnalyticClassifier(warm_start=True, class_weight=class_weight), X, first)
    before = model.predict(X)
    with pytest.raises(ValueError, match=message) as refused:
        again(model, then)
    assert "set warm_start=False or train a clone" in str(refused.value)
    assert_array_equal(model.predict(X), before)
    assert as_arrays(model, first).n_iter_ == 2 * begun(model, X, first).n_iter_


def test_a_warm_start_agrees_with_scikit_learn_on_what_other_classes_are():
    """For every pair of sets of three classes: the one goes on where MLPClassifier does, and is refused likewise."""
    sets = [np.array(chosen) for n in (2, 3) for chosen in itertools.combinations(["a", "b", "c"], n)]
    for first, then in itertools.product(sets, repeat=2):
        raised = []
        for cls in (MLPClassifier, AnalyticClassifier):
            model = cls(max_iter=1, warm_start=True, random_state=0)
            model.fit(X, np.resize(first, N))
            try:
                model.fit(X, np.resize(then, N))
                raised.append(False)
            except ValueError:
                raised.append(True)
        assert raised[0] == raised[1] == (not np.array_equal(first, then))


def test_some_of_the_classes_suffice_where_all_have_been_said():
    """In partial_fit, in chunks that are given classes, in rows without weight, in X_val and in a check."""
    model = begun(AnalyticClassifier(warm_start=True), X, Y_CLASSES)
    model.partial_fit(X, Y_BINARY)
    model.fit_chunks([(X[:9], Y_BINARY[:9]), (X[9:], 0 * Y_BINARY[9:])], classes=[2, 0, 1])
    model.fit(X, Y_CLASSES, sample_weight=(Y_CLASSES < 2).astype(float))
    order = np.argsort(Y_CLASSES)
    model.fit_chunks([(X[order[:15]], Y_CLASSES[order[:15]]), (X[order[15:]], Y_CLASSES[order[15:]])])
    model.set_params(early_stopping=True).fit(X, Y_CLASSES, X_val=X, y_val=Y_BINARY)
    assert_array_equal(model.classes_, [0, 1, 2])
    assert check_gradient(model, X, Y_BINARY).ok


def test_a_warm_start_refuses_targets_of_another_shape():
    """The parameters belong to the outputs of the first fit."""
    model = begun(AnalyticRegressor(warm_start=True), X, Y)
    for again in (as_arrays, as_chunks):
        with pytest.raises(ValueError, match=r"had shape \(n_samples,\). To train on other targets, set warm_start=F"):
            again(model, np.stack([Y, Y], axis=1))


@EACH_OPTIMIZER
@EACH_TASK
def test_early_stopping_keeps_the_best_parameters_on_rows_held_out(estimator, y, optimizer):
    """A score an epoch; the parameters kept are those that reached the best, as a shorter fit had them."""
    settings = {"early_stopping": True, "validation_fraction": 0.3, "batch_size": 7, "tol": 0.0}
    fitted = begun(estimator, X, y, max_iter=8, optimizer=optimizer, **settings)
    best = int(np.argmax(fitted.validation_scores_))
    assert len(fitted.validation_scores_) == fitted.n_iter_
    shorter = begun(estimator, X, y, max_iter=best + 1, optimizer=optimizer, **settings)
    assert_same_fit(fitted, shorter)
    assert max(fitted.validation_scores_) == shorter.validation_scores_[-1]


@EACH_ESTIMATOR
def test_verbose_prints_a_line_an_epoch(cls, capsys):
    """With its number and the loss; nothing is printed without."""
    begun(cls(), X, Y_OF[cls])
    assert capsys.readouterr().out == ""
    begun(cls(verbose=1), X, Y_OF[cls])
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"Iteration (\d), loss = -?\d", line)[1] for line in lines] == ["1", "2", "3"]


# Weights.


@EACH_TASK
def test_weights_count_like_repeated_rows(estimator, y):
    """In a full batch, to rounding, in every gradient form; a row of weight 0 is not there."""
    settings = {"optimizer": "sgd", "batch_size": 1000, "max_iter": 10}
    weighted = begun(estimator, X, y, sample_weight=REPEATS, **settings)
    y_repeated = None if y is None else np.repeat(y, REPEATS, axis=0)
    repeated = begun(estimator, np.repeat(X, REPEATS, axis=0), y_repeated, **settings)
    assert_same_fit(weighted, repeated, rtol=1e-9, atol=1e-12)
    assert_allclose(weighted.loss_curve_, repeated.loss_curve_)


@EACH_TASK
def test_the_scale_of_weights_does_not_matter(estimator, y):
    """They are scaled to mean 1; in minibatches too, and equal weights are none."""
    small = begun(estimator, X, y, sample_weight=WEIGHT / 8, batch_size=16)
    large = begun(estimator, X, y, sample_weight=WEIGHT * 32, batch_size=16)
    assert_same_fit(small, large, rtol=1e-12)
    equal = begun(estimator, X, y, sample_weight=np.full(N, 0.5), batch_size=16)
    assert_same_fit(equal, begun(estimator, X, y, batch_size=16), rtol=1e-12)


# Fitted attributes, documentation, representation.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("task", [task for task in TARGETS if TARGETS[task][1] is not None])
def test_default_models_have_coefficients_as_scikit_learns_linear_models(task, dtype):
    """In their shapes, and with the same meaning: X @ coef_.T + intercept_ are the predictions or scores."""
    cls, y = TARGETS[task]
    fitted = begun(cls(), X.astype(dtype), y)
    theirs = LinearRegression() if cls is AnalyticRegressor else LogisticRegression()
    theirs = theirs.fit(X, y) if task != "labels" else LinearRegression().fit(X, y)
    assert np.shape(fitted.coef_) == np.shape(theirs.coef_)
    assert np.shape(fitted.intercept_) == np.shape(theirs.intercept_)
    assert fitted.coef_.dtype == dtype
    said = fitted.predict(X) if cls is AnalyticRegressor else fitted.decision_function(X)
    assert_allclose((X @ fitted.coef_.T + fitted.intercept_).reshape(said.shape), said, rtol=1e-5, atol=1e-6)


def test_coefficients_of_two_score_columns_are_their_difference():
    """As the decision is, where the user starts the default model with a column for each of two classes."""
    start = {"coef": np.zeros((N_FEATURES, 2)), "intercept": np.zeros(2)}
    fitted = begun(AnalyticClassifier(init=start), X, Y_BINARY)
    assert_allclose(fitted.coef_ @ X.T + fitted.intercept_, fitted.decision_function(X)[None])


@pytest.mark.parametrize("cls", [AnalyticRegressor, AnalyticClassifier])
def test_there_are_no_coefficients_without_a_fitted_default_model(cls):
    """The message says why, and where the parameters of a user's own model are."""
    for name in ("coef_", "intercept_"):
        with pytest.raises(
            AttributeError, match=f"{name} is only available for a fitted default model; .* is not fitted yet"
        ):
            getattr(cls(), name)
        with pytest.raises(AttributeError, match=f"{name} .* uses your own callables: read params_ instead"):
            getattr(begun(cls(**USER_MODELS[cls]["vjp"]), X, Y_OF[cls]), name)


def sections(cls):
    """The sections of a class's docstring, by title."""
    _, *parts = re.split(r"\n *([A-Z]\w+)\n *-+\n", inspect.getdoc(cls))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def documented(cls):
    """The names under Attributes in a class's docstring."""
    entries = re.findall(r"^(\w[\w, ]*?) : ", sections(cls)["Attributes"], flags=re.MULTILINE)
    return {name for entry in entries for name in entry.split(", ")}


def published(fitted):
    there = {*vars(fitted), *(name for name, value in inspect.getmembers(type(fitted)) if isinstance(value, property))}
    return {name for name in there if name.endswith("_") and not name.startswith("_") and hasattr(fitted, name)}


@EACH_ESTIMATOR
def test_every_fitted_attribute_is_documented(cls):
    """What fits of all kinds set ends in an underscore and stands in the docstring, and the reverse."""
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    found = published(begun(cls(early_stopping=True), frame, Y_OF[cls]))
    found |= published(begun(cls(optimizer="lbfgs"), X, Y_OF[cls]))
    found |= published(begun(cls(**MODEL_OBJECTS[cls]["gradient"]), X, Y_OF[cls]))
    assert found == documented(cls)


@EACH_OPTIMIZER
@EACH_TASK
def test_fitted_attributes_tell_what_happened(estimator, y, optimizer):
    """Counts and losses agree with each other."""
    fitted = begun(estimator, X, y, optimizer=optimizer, batch_size=16)
    assert fitted.n_features_in_ == N_FEATURES
    assert 1 <= fitted.n_iter_ <= 3
    assert len(fitted.loss_curve_) == fitted.n_iter_
    assert fitted.loss_ == fitted.loss_curve_[-1]
    assert fitted.best_loss_ == min(fitted.loss_curve_)
    assert fitted.validation_scores_ is None
    assert fitted.gradient_report_.ok
    if optimizer == "adam":
        assert fitted.n_steps_ == 3 * fitted.n_iter_
        assert fitted.optimizer_state_.step == fitted.n_steps_
    else:
        assert fitted.optimizer_state_ is None
        assert max(1, fitted.optimizer_result_.nit) == fitted.n_iter_
        assert_allclose(fitted.optimizer_result_.fun, fitted.loss_)


@EACH_ESTIMATOR
def test_feature_names_are_remembered(cls):
    """From a frame; later calls must have the same, and an array has none."""
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = begun(cls(), frame, Y_OF[cls])
    assert_array_equal(fitted.feature_names_in_, ["a", "b", "c"])
    assert not hasattr(begun(cls(), X, Y_OF[cls]), "feature_names_in_")
    method = next(iter(outputs(fitted, frame)))
    with pytest.raises(ValueError, match="feature names should match"):
        getattr(fitted, method)(frame[["c", "b", "a"]])


@EACH_ESTIMATOR
def test_the_representation_shows_what_was_set(cls):
    """The callables and settings that are no defaults, and nothing else; fitting does not change it."""
    assert repr(cls()) == f"{cls.__name__}()"
    assert repr(cls(alpha=0.5, optimizer="lbfgs")) == f"{cls.__name__}(alpha=0.5, optimizer='lbfgs')"
    model = cls(**next(iter(USER_MODELS[cls].values())))
    assert f"forward={model.forward.__name__}, " in repr(model)
    assert repr(begun(cls(), X, Y_OF[cls])) == repr(cls(optimizer="adam", max_iter=3, random_state=0))


@EACH_ESTIMATOR
def test_the_docstring_lists_every_parameter_once(cls):
    """Those of __init__, in its order."""
    listed = re.findall(r"^(\w+) : ", sections(cls)["Parameters"], flags=re.MULTILINE)
    assert listed == list(inspect.signature(cls).parameters)


@pytest.mark.parametrize(
    ("estimator", "loss", "message"),
    [
        (AnalyticRegressor, "negative_log_likelihood", "compares predictions alone; AnalyticRegressor has targets"),
        (AnalyticDensity, "squared_error", "compares predictions with y; AnalyticDensity has no y"),
        (AnalyticTransformer, "squared_error", "compares predictions with y; AnalyticTransformer has no y"),
    ],
)
def test_a_loss_that_does_not_fit_the_task_is_refused(estimator, loss, message):
    """A loss without targets for a task with them, or the reverse, would train nonsense."""
    with pytest.raises(ValueError, match=message):
        estimator(loss=loss).fit(X, Y)


@pytest.mark.parametrize("estimator", [AnalyticDensity, AnalyticTransformer])
def test_outputs_have_the_dtype_of_the_rows(estimator):
    """float32 rows give float32, also where the model was trained in float64."""
    fitted = begun(estimator(random_state=0), X, None)
    method = fitted.score_samples if estimator is AnalyticDensity else fitted.transform
    assert method(X.astype(np.float32)).dtype == np.float32
    assert method(X).dtype == np.float64


def test_a_density_cannot_be_scored_on_rows_without_weight():
    """The message says so; NumPy's own would not name the argument."""
    fitted = begun(AnalyticDensity(), X, None)
    with pytest.raises(ValueError, match="sample_weight is zero for every sample"):
        fitted.score(X, sample_weight=np.zeros(len(X)))


# What MLPClassifier has too.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_logarithms_of_probabilities(kind, dtype):
    """Those of `predict_proba`, in X's dtype; minus infinity, without a warning, where these are 0."""
    X = np.random.default_rng(0).normal(size=(60, 3)).astype(dtype)
    y = {"binary": X[:, 0] > 0, "multiclass": np.digitize(X[:, 0], [-1, 1]), "multilabel": (X[:, :2] > 0).astype(int)}
    model = AnalyticClassifier(max_iter=5, n_iter_no_change=np.inf, random_state=0).fit(X, y[kind])
    logs = model.predict_log_proba(X)
    assert logs.dtype == dtype
    np.testing.assert_array_equal(logs, np.log(model.predict_proba(X)))
    model.params_["coef"][...] = -1e4
    if kind == "binary":
        assert model.predict_log_proba(np.ones((1, 3), dtype))[0].tolist() == [0.0, -np.inf]


def test_logarithms_of_probabilities_pass_through_a_pipeline():
    """So do those of cross-validation."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(int)
    model = make_pipeline(StandardScaler(), AnalyticClassifier(max_iter=5, n_iter_no_change=np.inf, random_state=0))
    assert model.fit(X, y).predict_log_proba(X).shape == (60, 2)
    assert cross_val_predict(model, X, y, method="predict_log_proba").shape == (60, 2)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fixed_number_of_epochs_is_a_plan(early_stopping):
    """`n_iter_no_change=np.inf` trains max_iter epochs and warns of nothing; the best score is there."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    settings = {"max_iter": 40, "tol": 10.0, "n_iter_no_change": np.inf, "random_state": 0}
    model = AnalyticRegressor(optimizer="adam", early_stopping=early_stopping, **settings).fit(X, X[:, 0])
    assert model.n_iter_ == 40
    assert model.best_validation_score_ == (max(model.validation_scores_) if early_stopping else None)
    with pytest.raises(ValueError, match=r"n_iter_no_change must be a whole number in \[1, inf\) or inf; got 0"):
        AnalyticRegressor(n_iter_no_change=0).fit(X, X[:, 0])
