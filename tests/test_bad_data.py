"""Data and parameters that are wrong or unusual: a clear error, or the right result; and nothing is written to."""

import hashlib
import inspect

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from models import (
    USER_MODELS,
    linear_forward,
    linear_gradient,
    linear_init,
    linear_loss,
    linear_squared_error,
    linear_vjp,
    vector_forward,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.losses import Huber, Loss
from sk_analytic.optimizers import Adam, Chain, ClipNorm

# Most fits here are cut short on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CLASSES = list(USER_MODELS)
WITH_TARGETS = [AnalyticRegressor, AnalyticClassifier]
OUTPUT = {
    AnalyticRegressor: "predict",
    AnalyticClassifier: "predict_proba",
    AnalyticDensity: "score_samples",
    AnalyticTransformer: "transform",
}

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=40)
LABELS = (Y > 0).astype(int)


def target(cls):
    return LABELS if cls is AnalyticClassifier else Y


def make(cls, form="default", **settings):
    model = {} if form == "default" else USER_MODELS[cls][form]
    return cls(**{"max_iter": 5, "random_state": 0} | model | settings)


def output(estimator, rows=X):
    return getattr(estimator, OUTPUT[type(estimator)])(rows)


def train(estimator, method, X, y, **rest):
    """`fit`, or the first `partial_fit`, which a classifier tells its classes."""
    if method == "partial_fit" and isinstance(estimator, AnalyticClassifier):
        rest["classes"] = [0, 1]
    return getattr(estimator, method)(X, y, **rest)


def changed(array, index, value):
    array = np.array(array, dtype=np.result_type(array, type(value)))
    array[index] = value
    return array


# Each way of training: by batches, chunk by chunk, over all rows.
TRAINING = [("fit", "adam"), ("partial_fit", "adam"), ("fit", "lbfgs")]


# X


BAD_X = {
    "NaN": (changed(X, (3, 1), np.nan), ValueError, "Input X contains NaN"),
    "infinite": (changed(X, (3, 1), np.inf), ValueError, "Input X contains infinity"),
    "minus infinite": (changed(X, (3, 1), -np.inf), ValueError, "Input X contains infinity"),
    "NaN in float32": (changed(X, (3, 1), np.nan).astype(np.float32), ValueError, "Input X contains NaN"),
    "no rows": (X[:0], ValueError, r"Found array with 0 sample\(s\)"),
    "no columns": (X[:, :0], ValueError, r"Found array with 0 feature\(s\)"),
    "one axis": (X[:, 0], ValueError, "Expected 2D array, got 1D array instead"),
    "three axes": (X[:, :, None], ValueError, "Found array with dim 3"),
    "complex": (X + 1j, ValueError, "Complex data not supported"),
    "words": (np.full((40, 3), "a"), ValueError, "could not convert string to float"),
    "nothing": (None, ValueError, "Expected 2D array, got scalar array"),
}


@pytest.mark.parametrize(("method", "optimizer"), TRAINING)
@pytest.mark.parametrize(("bad", "error", "message"), BAD_X.values(), ids=BAD_X)
@pytest.mark.parametrize("cls", CLASSES)
def test_wrong_rows_are_refused(cls, bad, error, message, method, optimizer):
    """Whatever is wrong with X is said before anything is trained."""
    estimator = make(cls, optimizer=optimizer)
    with pytest.raises(error, match=message):
        train(estimator, method, bad, target(cls)[: len(bad)] if isinstance(bad, np.ndarray) else target(cls))
    assert not hasattr(estimator, "params_")


@pytest.mark.parametrize(("bad", "error", "message"), BAD_X.values(), ids=BAD_X)
@pytest.mark.parametrize("cls", CLASSES)
def test_wrong_rows_are_refused_after_training(cls, bad, error, message):
    """In prediction, scoring and transformation too."""
    estimator = make(cls).fit(X, target(cls))
    with pytest.raises(error, match=message):
        output(estimator, bad)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_number_of_columns_must_stay(cls):
    """In prediction, in partial_fit, and in fit with warm_start."""
    estimator = make(cls, warm_start=True).fit(X, target(cls))
    for call in (
        lambda: output(estimator, X[:, :2]),
        lambda: train(estimator, "partial_fit", X[:, :2], target(cls)),
        lambda: estimator.fit(X[:, :2], target(cls)),
    ):
        with pytest.raises(ValueError, match=f"X has 2 features, but {cls.__name__} is expecting 3 features as input"):
            call()
    assert estimator.set_params(warm_start=False).fit(X[:, :2], target(cls)).n_features_in_ == 2


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("cls", [AnalyticRegressor, AnalyticDensity, AnalyticTransformer])
def test_one_row_is_enough(cls, optimizer):
    """But for a classifier, which needs two classes."""
    for form in ("default", *USER_MODELS[cls]):
        estimator = make(cls, form, optimizer=optimizer).fit(X[:1], Y[:1])
        assert np.isfinite(output(estimator)).all()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("cls", CLASSES)
def test_a_batch_larger_than_the_rows_is_all_rows(cls, optimizer):
    """batch_size=1000 of 40 rows is batch_size=40."""
    large, all_rows = (make(cls, optimizer=optimizer, batch_size=size).fit(X, target(cls)) for size in (1000, 40))
    assert_array_equal(output(large), output(all_rows))
    assert large.n_steps_ == all_rows.n_steps_


def layouts(folder):
    """The same rows in other arrangements of memory, kinds of array and frames."""
    read_only = X.copy()
    read_only.flags.writeable = False
    every_other = np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2]
    file = folder / "rows"
    np.memmap(file, np.float64, "w+", shape=X.shape)[:] = X
    joblib.dump(X, folder / "rows.joblib")
    return {
        "read-only": read_only,
        "strided": every_other,
        "reversed": X[::-1].copy()[::-1],
        "Fortran": np.asfortranarray(X),
        "big-endian": X.astype(">f8"),
        "np.memmap": np.memmap(file, np.float64, "r", shape=X.shape),
        "joblib memmap": joblib.load(folder / "rows.joblib", mmap_mode="r"),
        "lists": X.tolist(),
        "object": X.astype(object),
        "pandas": pd.DataFrame(X, columns=["a", "b", "c"]),
        "polars": pl.DataFrame(X, schema=["a", "b", "c"]),
    }


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("form", ["default", "gradient"])
def test_the_arrangement_of_memory_makes_no_difference(cls, form, optimizer, tmp_path):
    """Read-only, strided, Fortran, mapped, lists, frames: the same result, and what was given is unchanged."""
    settings = {"optimizer": optimizer, "batch_size": 15}
    expected = output(make(cls, form, **settings).fit(X, target(cls)))
    for name, rows in layouts(tmp_path).items():
        result = output(make(cls, form, **settings).fit(rows, target(cls)), rows)
        assert_allclose(result, expected, rtol=1e-9, err_msg=name)
        assert_array_equal(np.asarray(rows, dtype=float), X, err_msg=name)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.float16])
@pytest.mark.parametrize("cls", CLASSES)
def test_other_numbers_become_float64(cls, dtype):
    """Integers, truth values and half precision are trained on as float64."""
    rows = (X > 0).astype(dtype) if dtype is bool else np.abs(4 * X).astype(dtype)
    narrow, wide = (make(cls).fit(r, target(cls)) for r in (rows, rows.astype(float)))
    assert_array_equal(output(narrow, rows), output(wide, rows.astype(float)))
    assert output(narrow, rows).dtype == np.float64


@pytest.mark.parametrize("frame", [pd.DataFrame(X, columns=["a", "b", "c"]), pl.DataFrame(X, ["a", "b", "c"])])
@pytest.mark.parametrize("cls", CLASSES)
def test_frames_give_their_names(cls, frame):
    """And predictions insist on them, in their order."""
    if not hasattr(StandardScaler().fit(frame), "feature_names_in_"):
        pytest.skip("this scikit-learn cannot read the names of so young a polars")
    estimator = make(cls).fit(frame, target(cls))
    assert estimator.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        output(estimator, frame[["b", "a", "c"]])


# y


BAD_Y = {
    "NaN": (changed(Y, 3, np.nan), changed(LABELS, 3, np.nan), "Input y contains NaN"),
    "infinite": (changed(Y, 3, np.inf), changed(LABELS, 3, np.inf), "Input y contains infinity"),
    "too short": (Y[:-1], LABELS[:-1], r"inconsistent numbers of samples: \[40, 39\]"),
    "too long": (np.r_[Y, 0], np.r_[LABELS, 0], r"inconsistent numbers of samples: \[40, 41\]"),
    "nothing": (None, None, "requires y to be passed, but the target y is None"),
    "three axes": (np.zeros((40, 2, 2)), np.zeros((40, 2, 2)), "Found array with dim 3|Unknown label type"),
}


@pytest.mark.parametrize(("method", "optimizer"), TRAINING)
@pytest.mark.parametrize(("numbers", "labels", "message"), BAD_Y.values(), ids=BAD_Y)
@pytest.mark.parametrize("cls", WITH_TARGETS)
def test_wrong_targets_are_refused(cls, numbers, labels, message, method, optimizer):
    """Whatever is wrong with y is said before anything is trained."""
    estimator = make(cls, optimizer=optimizer)
    with pytest.raises(ValueError, match=message):
        train(estimator, method, X, labels if cls is AnalyticClassifier else numbers)
    assert not hasattr(estimator, "params_")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(40, int), "needs at least 2 classes; y has only one class, 0"),
        (np.full(40, "a"), "needs at least 2 classes; y has only one class, 'a'"),
        (Y, "Unknown label type: continuous"),
        (np.stack([2 * LABELS - 1] * 2, axis=1), r"An indicator matrix contains 0 and 1, .* has the values \[-1  1\]"),
        (np.stack([LABELS, 2 * LABELS], axis=1), r"y should be a 1d array, got an array of shape \(40, 2\)"),
    ],
)
def test_targets_that_are_no_classes_are_refused(y, message):
    """One class, numbers, several columns of classes."""
    with pytest.raises(ValueError, match=message):
        make(AnalyticClassifier).fit(X, y)


def test_targets_outside_the_domain_of_the_loss_are_refused():
    """The first such row is named, with its value and the domain."""
    row = int(np.argmax(Y < 0))
    with pytest.raises(ValueError, match=rf"poisson: y\[{row}\] is -[0-9.]+, outside the loss's domain \[0, inf\)"):
        make(AnalyticRegressor, loss="poisson").fit(X, Y)


@pytest.mark.parametrize("form", ["default", *USER_MODELS[AnalyticRegressor]])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_one_column_of_targets_is_a_vector(form, optimizer):
    """y of shape (n, 1) gives the fit of shape (n,), and predictions in its own shape; nothing is broadcast."""
    flat, column = (make(AnalyticRegressor, form, optimizer=optimizer).fit(X, y) for y in (Y, Y[:, None]))
    assert flat.predict(X).shape == (40,)
    assert column.predict(X).shape == (40, 1)
    assert_allclose(column.predict(X)[:, 0], flat.predict(X), rtol=1e-12)


def test_one_column_of_labels_is_a_vector():
    """A classifier takes it with scikit-learn's warning."""
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        column = make(AnalyticClassifier).fit(X, LABELS[:, None])
    assert_array_equal(column.predict(X), make(AnalyticClassifier).fit(X, LABELS).predict(X))


@pytest.mark.parametrize("kind", [list, pd.Series, pl.Series])
@pytest.mark.parametrize("cls", WITH_TARGETS)
def test_kinds_of_targets_make_no_difference(cls, kind):
    """Lists and series of either library."""
    y = target(cls)
    assert_array_equal(output(make(cls).fit(X, kind(y))), output(make(cls).fit(X, y)))


BAD_CHUNKS = {
    "unseen label": ({"y": LABELS + 1}, r"y has labels \[2\] that are not among the classes \[0 1\]"),
    "other classes": ({"y": LABELS, "classes": [0, 1, 2]}, r"classes=\[0 1 2\] differs from the first call"),
    "several labels": (
        {"y": np.stack([LABELS] * 3, axis=1)},
        "y is an indicator matrix of labels; before, it was one class per sample",
    ),
}


@pytest.mark.parametrize(("chunk", "message"), BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_a_later_chunk_must_fit_the_first(chunk, message):
    """Labels that were not announced, other classes, another kind of target; the model stays as it was."""
    classifier = make(AnalyticClassifier).partial_fit(X, LABELS, classes=[0, 1])
    before = output(classifier)
    with pytest.raises(ValueError, match=message):
        classifier.partial_fit(X, **chunk)
    assert_array_equal(output(classifier), before)


def test_the_first_chunk_announces_the_classes():
    """Without them, or with a label beyond them, it is an error; one class in the chunk is none."""
    with pytest.raises(ValueError, match="classes must be passed in the first call to partial_fit"):
        make(AnalyticClassifier).partial_fit(X, LABELS)
    with pytest.raises(ValueError, match=r"y has labels \[5\] that are not among the classes \[0 1\]"):
        make(AnalyticClassifier).partial_fit(X, 5 * LABELS, classes=[0, 1])
    classifier = make(AnalyticClassifier).partial_fit(X, np.zeros(40, int), classes=[0, 1])
    assert output(classifier).shape == (40, 2)


def test_targets_of_a_later_chunk_keep_their_shape():
    """Two columns after one are an error that says both."""
    regressor = make(AnalyticRegressor).partial_fit(X, Y)
    with pytest.raises(
        ValueError, match=r"y has shape \(40, 2\), but the y that training began with .* \(n_samples,\)"
    ):
        regressor.partial_fit(X, np.stack([Y, Y], axis=1))


# Weights of rows


BAD_WEIGHTS = {
    "negative": (changed(np.ones(40), 5, -1.0), "Negative values in sample_weight: sample 5 has -1.0"),
    "NaN": (changed(np.ones(40), 5, np.nan), "Input sample_weight contains NaN"),
    "infinite": (changed(np.ones(40), 5, np.inf), "Input sample_weight contains infinity"),
    "all zero": (np.zeros(40), "sample_weight is zero for every sample: there is nothing to learn from"),
    "too short": (np.ones(39), r"inconsistent numbers of samples: \[40, 39\]"),
    "two axes": (np.ones((40, 2)), r"sample_weight must be 1-d, one weight per sample; got shape \(40, 2\)"),
    "a column": (np.ones((40, 1)), r"sample_weight must be 1-d, one weight per sample; got shape \(40, 1\)"),
    "a word": ("balanced", "could not convert string to float: 'balanced'"),
}


@pytest.mark.parametrize(("method", "optimizer"), TRAINING)
@pytest.mark.parametrize(("weight", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
@pytest.mark.parametrize("cls", CLASSES)
def test_wrong_weights_are_refused(cls, weight, message, method, optimizer):
    """Whatever is wrong with the weights is said before anything is trained."""
    estimator = make(cls, optimizer=optimizer)
    with pytest.raises(ValueError, match=message):
        train(estimator, method, X, target(cls), sample_weight=weight)
    assert not hasattr(estimator, "params_")


@pytest.mark.parametrize("cls", CLASSES)
def test_a_later_chunk_without_weight_changes_nothing(cls):
    """All rows of weight 0 are no error there: no step is taken."""
    estimator = train(make(cls), "partial_fit", X, target(cls))
    before, n_steps = output(estimator), estimator.n_steps_
    estimator.partial_fit(X, target(cls), sample_weight=np.zeros(40))
    assert_array_equal(output(estimator), before)
    assert estimator.n_steps_ == n_steps


@pytest.mark.parametrize("form", ["default", "gradient", "loss_and_gradient"])
@pytest.mark.parametrize("cls", CLASSES)
def test_rows_of_weight_zero_are_left_out(cls, form):
    """They may hold anything finite, in a full batch."""
    rows = np.vstack([X, 100 * X[:5]])
    y = np.r_[target(cls), target(cls)[:5]]
    weight = np.r_[np.ones(40), np.zeros(5)]
    weighted = make(cls, form, optimizer="lbfgs").fit(rows, y, sample_weight=weight)
    assert_allclose(output(weighted), output(make(cls, form, optimizer="lbfgs").fit(X, target(cls))), rtol=1e-7)


def test_one_weight_for_all_rows_is_none():
    """A number counts for every row, and the scale of weights does not matter."""
    one, other = (make(AnalyticRegressor).fit(X, Y, sample_weight=weight) for weight in (2.0, None))
    assert_array_equal(output(one), output(other))


def unweighted(function):
    return lambda params, X, y, unused=None: function(params, X, y)


def test_weights_by_another_name_are_recognized():
    """An optional argument `weights` would stay at its default: the error says that it receives nothing."""

    def gradient(params, X, y, weights=None):
        return linear_gradient(params, X, y, weights)

    model = AnalyticRegressor(linear_forward, gradient, linear_init, max_iter=2)
    with pytest.raises(ValueError, match="Rename its argument 'weights', which does not receive them"):
        model.fit(X, Y, sample_weight=np.ones(len(X)))


@pytest.mark.parametrize("role", ["gradient", "loss_and_gradient", "loss"])
def test_weights_must_reach_the_callables(role):
    """A callable that does not accept sample_weight cannot heed it; the error shows the argument."""
    callables = {"gradient": linear_gradient, "loss": linear_loss}
    if role == "loss_and_gradient":
        callables = {"loss_and_gradient": linear_squared_error}
    callables[role] = unweighted(callables[role])
    estimator = AnalyticRegressor(linear_forward, init=linear_init, **callables, max_iter=2)
    with pytest.raises(ValueError, match=rf"{role} does not accept sample_weight. Add the argument, {role}\("):
        estimator.fit(X, Y, sample_weight=np.ones(40))
    estimator.fit(X, Y)


class Total(Loss):
    """Half the sum of squares as one number, as a loss would give it that cannot be told apart by rows."""

    additive = False

    def value_and_derivative(self, y, prediction):
        residual = prediction - y
        return 0.5 * np.vdot(residual, residual), residual


class TotalCodes(Loss):
    """Likewise, of codes alone."""

    additive, domain = False, None

    def value_and_derivative(self, y, prediction):
        return 0.5 * np.vdot(prediction, prediction), prediction.copy()


BY_VJP = {"forward": linear_forward, "vjp": linear_vjp, "init": linear_init}
BY_GRADIENT = {"forward": linear_forward, "gradient": linear_gradient, "init": linear_init}


@pytest.mark.parametrize("check_gradient", [True, False])
@pytest.mark.parametrize("callables", [{}, BY_VJP, BY_GRADIENT], ids=["default", "vjp", "gradient"])
def test_weights_do_not_go_with_a_loss_that_is_one_number(callables, check_gradient):
    """There is no loss of a row to be weighted; without weights it is the loss that it says."""
    settings = {"optimizer": "lbfgs", "tol": 1e-8, "check_gradient": check_gradient}
    model = AnalyticRegressor(**callables, loss=Total(), **settings)
    with pytest.raises(
        ValueError, match=r"Total does not decompose over samples \(additive=False\), so it cannot be weighted"
    ):
        model.fit(X, Y, sample_weight=np.ones(40))
    assert not hasattr(model, "params_")
    expected = AnalyticRegressor(**callables, **settings).fit(X, Y)
    assert_allclose(model.fit(X, Y).loss_, expected.loss_)


def test_a_loss_that_is_one_number_does_not_score_weighted_rows():
    """Weights of held-out rows alone are no better."""
    model = AnalyticTransformer(
        vector_forward,
        vjp=lambda params, X: (X @ params, lambda d: X.T @ d),
        init=np.ones((X.shape[1], 1)),
        loss=TotalCodes(),
        early_stopping=True,
        batch_size=40,
    )
    with pytest.raises(ValueError, match="TotalCodes does not decompose over samples"):
        model.fit(X, X_val=X, sample_weight_val=np.ones(40))


def test_held_out_rows_are_some_of_those_with_a_weight():
    """With a single one there is nothing to hold out, and the error says so."""
    weight = np.r_[1.0, np.zeros(39)]
    for cls in (AnalyticRegressor, AnalyticDensity, AnalyticTransformer):
        with pytest.raises(ValueError, match="With n_samples=1, .* the resulting train set will be empty") as caught:
            make(cls, early_stopping=True).fit(X, Y, sample_weight=weight)
        assert "holds out validation_fraction=0.1 of the 1 samples with nonzero weight." in caught.value.__notes__[0]


# Shapes that callables return


BAD_SHAPES = {
    "a row too many": (lambda f: np.vstack([f, f[:1]]), r"returned shape \(41, 1\) for 40 samples; expected \(40,\)"),
    "rows first to last": (lambda f: f.T, r"returned shape \(1, 40\) for 40 samples; expected \(40,\) or \(40, k\)"),
    "a number": (lambda f: 0.0, r"returned shape \(\) for 40 samples"),
    "three axes": (lambda f: f[None], r"returned shape \(1, 40, 1\) for 40 samples"),
    "three columns": (lambda f: np.hstack([f] * 3), r"returned shape \(40, 3\)"),
    "nothing": (lambda f: None, "returned dtype object; real numbers are needed"),
    "complex numbers": (lambda f: f + 0j, "returned dtype complex128; real numbers are needed"),
    "words": (lambda f: np.full(40, "a"), "returned dtype <U1; real numbers are needed"),
}


@pytest.mark.parametrize("role", ["forward", "vjp"])
@pytest.mark.parametrize(("change", "message"), BAD_SHAPES.values(), ids=BAD_SHAPES)
@pytest.mark.parametrize("cls", WITH_TARGETS)
def test_predictions_of_another_shape_are_refused(cls, change, message, role):
    """Nothing is broadcast to the targets; the error has both shapes, and comes before the first step."""

    def forward(params, X):
        return change(linear_forward(params, X))

    def vjp(params, X):
        prediction, pullback = linear_vjp(params, X)
        return change(prediction), pullback

    callables = {"forward": forward, "vjp": linear_vjp} if role == "forward" else {"vjp": vjp}
    estimator = make(cls, init=linear_init, batch_size=20, **callables)
    with pytest.raises(ValueError, match=message.replace("40", "20").replace("41", "21")):
        estimator.fit(X[:40], target(cls))
    assert not hasattr(estimator, "params_")


@pytest.mark.filterwarnings("ignore:The gradient of parameter .* is float32:UserWarning")  # as it then is
@pytest.mark.parametrize("change", [np.ravel, np.ndarray.tolist, np.float32], ids=["(n,)", "lists", "float32"])
def test_predictions_that_fit_are_taken(change):
    """(n,) goes with (n, 1), and what is no float64 array becomes one."""

    def vjp(params, X):
        prediction, pullback = linear_vjp(params, X)
        return change(prediction), lambda d: pullback(d.reshape(len(X), 1))

    regressor = make(AnalyticRegressor, vjp=vjp, init=linear_init).fit(X, Y)
    expected = make(AnalyticRegressor, vjp=linear_vjp, init=linear_init).fit(X, Y)
    assert_allclose(regressor.predict(X), expected.predict(X), rtol=1e-5)


# Parameters


START = {"W": np.zeros((3, 1)), "b": np.zeros(1)}
CALLABLES = {"forward": linear_forward, "vjp": linear_vjp, "init": linear_init}

BAD_PARAMETERS = [
    ("forward", 3, "forward must be callable; got 3"),
    (
        "forward",
        lambda params: 0,
        r"forward is called as forward\(params, X, ...\), but .* takes 1 positional arguments",
    ),
    ("forward", lambda params, X, shape: 0, "forward has an argument 'shape' that is not provided"),
    ("gradient", linear_gradient, "Pass exactly one analytic gradient, .*; got gradient and vjp"),
    ("gradient", 3, "got gradient and vjp"),
    ("loss_and_gradient", 3, "got loss_and_gradient and vjp"),
    ("jacobian", 3, "got vjp and jacobian"),
    ("vjp", "vjp", "vjp must be callable; got 'vjp'"),
    ("vjp", None, "Pass exactly one analytic gradient, as one of gradient, .*; got none"),
    ("init", None, "init is required if callables are given"),
    ("init", "zeros", "init has dtype <U5 in parameter 'params'; real floats are needed"),
    ("init", {}, "The parameters contain no numbers"),
    ("init", START | {"b": None}, "init has None in parameter 'b'; a float array or a float is needed"),
    ("init", START | {"b": np.array(["a"])}, "init has dtype <U1 in parameter 'b'; real floats are needed"),
    ("init", START | {"b": np.zeros(1, complex)}, "init has dtype complex128 in parameter 'b'"),
    ("init", START | {"b": np.zeros(1, object)}, "init has dtype object in parameter 'b'"),
    ("init", START | {"b": np.array([np.nan])}, "init has values that are not finite in parameter 'b'"),
    ("init", lambda shape: START, "init has an argument 'shape' that is not provided"),
    ("loss", "huberr", "Unknown loss 'huberr'. Did you mean 'huber'?"),
    ("loss", 3, "loss must be a name or an instance of Loss; got 3"),
    ("loss", Huber, r"loss must be a name or an instance of Loss; got .* Pass an instance: Huber\(\)"),
    ("loss", Huber(epsilon=-1), "Huber: epsilon must be a number in .*; got -1"),
    ("loss", None, "loss=None cannot be composed with vjp"),
    ("loss", linear_loss, "cannot be composed with vjp, which needs the loss's derivative"),
    ("model", 3, "model must be an object with some of the methods init, .*; got 3, which has none of them"),
    ("model", Huber, r"model=Huber is a class. Pass an instance: model=Huber\(\)"),
    ("model_params", [1], r"model_params must be a dict of arguments by name, or None; got \[1\]"),
    ("model_params", {"n_hiden": 3}, "model_params has 'n_hiden', which no callable accepts"),
    ("model_params", {"y": 3}, "model_params has 'y', which is not available as a name"),
    ("model_params", {1: 3}, "model_params has 1, which is not available as a name"),
    ("reduction", "avg", "reduction must be one of 'mean', 'sum'; got 'avg'"),
    ("additive", "no", "additive must be one of True, False, 'auto'; got 'no'"),
    ("reduction", "sum", "reduction='sum' applies to gradient and loss_and_gradient, not to vjp"),
    ("fixed", ("w",), "fixed names the parameter 'w', which does not exist.*There are: W, b"),
    ("fixed", 3, "fixed names the parameter 3, which does not exist"),
    ("numerical", ("w",), "numerical names the parameter 'w', which does not exist"),
    ("bounds", {"w": (0, 1)}, "bounds names the parameter 'w', which does not exist"),
    ("reparametrize", {"w": "log"}, "reparametrize names the parameter 'w', which does not exist"),
    ("accept_sparse", "csr", "accept_sparse must be one of True, False, 'auto'; got 'csr'"),
    ("accept_sparse", 1, "accept_sparse must be one of True, False, 'auto'; got 1"),
    ("alpha", -1.0, "alpha must be a finite, non-negative number; got -1.0"),
    ("alpha", np.nan, "alpha must be a finite, non-negative number; got nan"),
    ("alpha", "big", "alpha must be a finite, non-negative number; got 'big'"),
    ("alpha", True, "alpha must be a finite, non-negative number; got True"),
    ("alpha", {"w": 1.0}, "alpha names the parameter 'w', which does not exist"),
    ("optimizer", "adamm", "Unknown optimizer 'adamm'. Did you mean 'adam"),
    ("optimizer", None, "optimizer must be a name or an instance of Optimizer; got None"),
    ("optimizer", Adam, r"optimizer must be a name or an instance of Optimizer; got .* Pass an instance: Adam\(\)"),
    ("optimizer", Adam(learning_rate=-1), r"Adam: learning_rate must be a number in \[0, inf\); got -1"),
    ("optimizer", ClipNorm(1.0), r"optimizer must be a name or an instance of Optimizer; got ClipNorm\("),
    ("batch_size", 0, r"batch_size must be 'auto' or a whole number in \[1, inf\); got 0"),
    ("batch_size", 10.0, "batch_size must be 'auto' or a whole number in .*; got 10.0"),
    ("batch_size", "all", "batch_size must be 'auto' or a whole number in .*; got 'all'"),
    ("max_iter", 0, r"max_iter must be 'auto' or a whole number in \[1, inf\); got 0"),
    ("max_iter", 2.5, "max_iter must be 'auto' or a whole number in .*; got 2.5"),
    ("shuffle", "yes", "shuffle must be True or False; got 'yes'"),
    ("drop_last", 1, "drop_last must be True or False; got 1"),
    ("tol", -1e-3, r"tol must be a number in \[0, inf\) or None; got -0.001"),
    ("tol", "none", "tol must be a number in .* or None; got 'none'"),
    ("n_iter_no_change", 0, r"n_iter_no_change must be a whole number in \[1, inf\) or inf; got 0"),
    ("early_stopping", 1, "early_stopping must be True or False; got 1"),
    ("scoring", "r3", "The 'scoring' parameter of check_scoring must be a str among .* Got 'r3' instead"),
    ("scoring", 3, "scoring must be the name of a scorer, a callable or None; got 3"),
    ("scoring", ["r2"], r"scoring must be the name of a scorer, a callable or None; got \['r2'\]"),
    ("scoring", r2_score, "scoring value .* looks like it is a metric function rather than a scorer"),
    ("validation_fraction", 0.0, r"validation_fraction must be a number in \(0, 1\); got 0.0"),
    ("validation_fraction", 1.0, r"validation_fraction must be a number in \(0, 1\); got 1.0"),
    ("local_steps", 0, r"local_steps must be a whole number in \[1, inf\); got 0"),
    ("worker_timeout", 0.0, r"worker_timeout must be a number in \(0, inf\); got 0.0"),
    ("check_gradient", "maybe", "check_gradient must be one of True, False, 'warn'; got 'maybe'"),
    ("random_state", "seed", "'seed' cannot be used to seed a numpy.random.RandomState"),
    ("random_state", -1, r"Seed must be between 0 and 2\*\*32 - 1"),
    ("warm_start", None, "warm_start must be True or False; got None"),
    ("verbose", "loud", r"verbose must be a whole number in \[0, inf\); got 'loud'"),
    ("verbose", -1, r"verbose must be a whole number in \[0, inf\); got -1"),
]
OF_ONE = [
    (AnalyticDensity, "sampler", 3, "sampler must be callable; got 3"),
    (AnalyticTransformer, "inverse", "decode", "inverse must be callable; got 'decode'"),
]
BAD_CLASS_WEIGHTS = [
    ("class_weight", "even", "class_weight.* Got 'even' instead"),
    ("class_weight", {0: -1.0}, "Negative values in class_weight: sample [0-9]+ has -1.0"),
    ("class_weight", {7: 1.0}, r"class_weight has a weight for 7, which is not a class. The classes are \[0 1\]"),
    ("class_weight", {0: 1.0, "1": 1.0}, "class_weight has a weight for '1', which is not a class"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_PARAMETERS)
def test_wrong_parameters_are_refused(name, value, message):
    """The constructor and set_params store anything; fit says which parameter is wrong, and what it must be."""
    estimator = AnalyticRegressor(**CALLABLES).set_params(**{name: value})
    assert estimator.get_params()[name] is value
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(X, Y)
    assert not hasattr(estimator, "params_")


@pytest.mark.parametrize(("cls", "name", "value", "message"), OF_ONE)
def test_wrong_parameters_of_one_estimator_are_refused(cls, name, value, message):
    """Those that the others do not have."""
    with pytest.raises(TypeError, match=message):
        cls(**{name: value}).fit(X)


def test_a_chain_without_a_rule_is_refused():
    """Clipping alone takes no step."""
    with pytest.raises(ValueError, match="needs exactly one rule .*; found none in: ClipNorm"):
        AnalyticRegressor(**CALLABLES, optimizer=Chain([ClipNorm(1.0)])).fit(X, Y)


@pytest.mark.parametrize(("name", "value", "message"), BAD_CLASS_WEIGHTS)
def test_wrong_class_weights_are_refused(name, value, message):
    """A word, a negative weight, a class that does not exist."""
    with pytest.raises(ValueError, match=message):
        AnalyticClassifier(**{name: value}).fit(X, LABELS)


def test_a_class_that_is_absent_may_have_a_weight_if_all_others_have_one():
    """A fold of data may lack a class: as in scikit-learn, with a warning; in `fit_chunks` one for all chunks."""
    settings = {"max_iter": 2, "tol": None, "random_state": 0}
    model = AnalyticClassifier(class_weight={0: 1.0, 1: 2.0, 7: 5.0}, **settings)
    expected = AnalyticClassifier(class_weight={0: 1.0, 1: 2.0}, **settings)
    chunks = [(X[:20], LABELS[:20]), (X[20:], LABELS[20:])]
    for fit in (
        lambda model: model.fit(X, LABELS),
        lambda model: model.fit_chunks(chunks),
        lambda model: model.partial_fit(X, LABELS, classes=[0, 1]).partial_fit(X, LABELS),
    ):
        with pytest.warns(UserWarning, match="a weight for 7, which is not a class") as caught:
            fit(model)
        assert sum("not a class" in str(warning.message) for warning in caught) == 1
        assert_array_equal(model.coef_, fit(clone(expected)).coef_)
        model = clone(model)


@pytest.mark.parametrize("as_key", [lambda label: label, lambda label: label.item()], ids=["NumPy", "datetime"])
@pytest.mark.parametrize("unit", ["datetime64[D]", "datetime64[us]", "timedelta64[D]"])
def test_classes_that_are_dates_have_weights(unit, as_key):
    """By the labels of NumPy, or the equal ones of `datetime`."""
    y = LABELS.astype(int).astype(unit)
    weights = {as_key(np.unique(y)[0]): 1.0, as_key(np.unique(y)[1]): 3.0}
    settings = {"optimizer": "lbfgs", "max_iter": 500}
    ours = AnalyticClassifier(class_weight=weights, **settings).fit(X, y)
    expected = AnalyticClassifier(class_weight={0: 1.0, 1: 3.0}, **settings).fit(X, LABELS)
    assert_array_equal(ours.coef_, expected.coef_)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_parameter_has_a_wrong_value_in_the_table(cls):
    """A new parameter needs a line there."""
    tried = {name for name, _, _ in BAD_PARAMETERS + BAD_CLASS_WEIGHTS} | {name for _, name, _, _ in OF_ONE}
    assert set(inspect.signature(cls).parameters) <= tried


# Nothing of the user's is written to.


def fingerprint(*arrays):
    return [hashlib.sha256(np.ascontiguousarray(array)).hexdigest() for array in arrays]


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cls", CLASSES)
def test_data_are_never_written_to(cls, dtype, optimizer):
    """X, y and weights after training, going on and predicting are what they were, whichever form was used."""
    rows, y, weight = X.astype(dtype), target(cls).copy(), np.linspace(0.5, 1.5, 40)
    before = fingerprint(rows, y, weight)
    for form in ("default", *USER_MODELS[cls]):
        estimator = make(cls, form, optimizer=optimizer, batch_size=15, alpha=0.1, warm_start=True)
        output(estimator.fit(rows, y, sample_weight=weight).fit(rows, y, sample_weight=weight), rows)
        if optimizer == "adam":
            estimator.partial_fit(rows, y, sample_weight=weight)
        assert fingerprint(rows, y, weight) == before, form


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_start_is_never_written_to(optimizer):
    """Starting parameters given as arrays serve any number of fits."""
    start = {"W": np.ones((3, 1)), "b": np.ones(1)}
    estimator = make(AnalyticRegressor, "gradient", init=start, optimizer=optimizer)
    first = output(estimator.fit(X, Y))
    assert all((leaf == 1).all() for leaf in start.values())
    assert estimator.init is start
    assert_array_equal(output(estimator.fit(X, Y)), first)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_returned_gradients_are_never_written_to(optimizer, reduction):
    """A callable may hand out its own arrays, writeable ones even: scaling and penalty happen elsewhere."""
    own = {"W": np.full((3, 1), 0.01), "b": np.full(1, 0.01)}
    before = fingerprint(*own.values())

    def loss_and_gradient(params, X):
        return 0.01 * float(sum(leaf.sum() for leaf in params.values())), own

    estimator = AnalyticRegressor(linear_forward, init=linear_init, loss_and_gradient=loss_and_gradient)
    estimator.set_params(reduction=reduction, alpha=0.1, fixed="b", optimizer=optimizer, batch_size=15, max_iter=5)
    estimator.set_params(check_gradient=False).fit(X, Y)
    assert fingerprint(*own.values()) == before
    assert (estimator.params_["W"] < 0).all()
    assert (estimator.params_["b"] == 0).all()


def test_what_callables_receive_is_read_only():
    """A callable that writes into its rows, targets, weights or parameters is told so by numpy."""
    for part in ("X", "y", "sample_weight", "W"):

        def gradient(params, X, y, sample_weight, part=part):
            received = {"X": X, "y": y, "sample_weight": sample_weight, "W": params["W"]}
            received[part][...] = 0

        estimator = AnalyticRegressor(linear_forward, gradient, linear_init, check_gradient=False, batch_size=15)
        with pytest.raises(ValueError, match="read-only"):
            estimator.fit(X, Y, sample_weight=np.ones(40))


def test_parameters_of_the_estimator_are_never_written_to():
    """Training works on copies of optimizer, loss and model parameters."""
    given = {"optimizer": Adam(0.1), "loss": Huber(1.5), "model_params": {"n_hidden": 3}}
    estimator = make(AnalyticRegressor, "vjp", **given).fit(X, Y)
    assert all(getattr(estimator, name) is value for name, value in given.items())
    assert (repr(given["optimizer"]), repr(given["loss"])) == ("Adam(learning_rate=0.1)", "Huber(epsilon=1.5)")
    assert given["model_params"] == {"n_hidden": 3}
    assert estimator.optimizer_ is not given["optimizer"]
