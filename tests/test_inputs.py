"""Containers and dtypes of other libraries: X, y, weights and metadata in them give what plain arrays give."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer

RNG = np.random.default_rng(0)
N = 60
X = RNG.integers(-8, 9, (N, 3)) / 4  # exact in every dtype
Y = X @ [1.0, -0.5, 0.25] + RNG.integers(-4, 5, N) / 4
OUTPUTS = np.c_[Y, -Y, X[:, 0] ** 2]
WORDS = np.array(["blue", "red", "green"])[np.digitize(Y, [-0.5, 0.5])]
TAGS = np.c_[Y > 0, X[:, 0] * Y > 0, X[:, 1] > 0].astype(int)
WEIGHTS = RNG.integers(1, 4, N) / 1.0
NAMES = ["a", "b", "c"]

SETTINGS = {"batch_size": 16, "random_state": 0, "tol": 0.1, "n_iter_no_change": 2}
TARGETS = {AnalyticRegressor: Y, AnalyticClassifier: WORDS, AnalyticDensity: None, AnalyticTransformer: None}


class ArrayLike:
    """Nothing but what NumPy asks for."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)

    def __len__(self):
        return len(self.array)

    @property
    def shape(self):
        return self.array.shape


def output(model, rows):
    for method in ("decision_function", "predict", "score_samples", "transform"):
        if hasattr(model, method):
            return getattr(model, method)(rows)
    raise TypeError(model)


FRAMES = {
    "pandas": pd.DataFrame(X, columns=NAMES),
    "pandas, nullable": pd.DataFrame(X, columns=NAMES).astype("Float64"),
    "pandas, with integers and truth values": pd.DataFrame({"a": X[:, 0], "b": X[:, 1] > 0, "c": range(N)}),
    "pandas, nullable integers": pd.DataFrame(4 * X, columns=NAMES).astype("Int64"),
    "pandas, columns by number": pd.DataFrame(X, index=np.arange(N)[::-1]),
    "polars": pl.DataFrame(X, schema=NAMES),
    "polars, with integers and truth values": pl.DataFrame({"a": X[:, 0], "b": X[:, 1] > 0, "c": range(N)}),
    "array-like": ArrayLike(X),
    "tuples": tuple(map(tuple, X.tolist())),
}


def as_array(frame):
    """The rows as plain floats."""
    return np.asarray(frame.to_numpy() if hasattr(frame, "to_numpy") else frame, dtype=float)


@pytest.mark.filterwarnings("ignore:X has feature names, but:UserWarning")
@pytest.mark.filterwarnings("ignore:.*No epoch improved on the first")  # of so few held-out rows
@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("cls", TARGETS)
def test_frames_give_what_arrays_give(cls, kind):
    """To the bit, in `fit`, `partial_fit`, prediction, and as the rows of early stopping."""
    frame, rows = FRAMES[kind], as_array(FRAMES[kind])
    y = TARGETS[cls]
    for settings in ({}, {"early_stopping": True}):
        validation = [{"X_val": r, "y_val": y} if settings else {} for r in (frame, rows)]
        ours, plain = (
            cls(**SETTINGS | settings).fit(r, y, **v) for r, v in zip((frame, rows), validation, strict=True)
        )
        assert_array_equal(output(ours, frame), output(plain, rows))
    ours, plain = (clone(m).set_params(early_stopping=False).fit(r, y) for m, r in ((ours, frame), (plain, rows)))
    assert_array_equal(output(ours.partial_fit(frame, y), frame), output(plain.partial_fit(rows, y), rows))


def column_kinds(array):
    """The same column in other containers, numbers in other dtypes too."""
    kinds = {
        "list": array.tolist(),
        "tuple": tuple(array.tolist()),
        "pandas": pd.Series(array, index=np.arange(N)[::-1]),
        "polars": pl.Series(array.tolist()),
        "array-like": ArrayLike(array),
    }
    if array.dtype.kind == "f":
        kinds["pandas, nullable"] = pd.Series(array, dtype="Float64")
        kinds["float32"] = array.astype(np.float32)
    elif array.dtype.kind == "U":
        kinds["pandas, text"] = pd.Series(array, dtype="string")
        kinds["pandas, categories"] = pd.Series(array, dtype="category")
        kinds["objects"] = array.astype(object)
    else:
        kinds["pandas, nullable"] = pd.Series(array, dtype="Int64")
        kinds["truth values"] = array.astype(bool)
        kinds["pandas, nullable truth values"] = pd.Series(array.astype(bool), dtype="boolean")
    return kinds


COLUMNS = {
    "numbers": (AnalyticRegressor, Y),
    "words": (AnalyticClassifier, WORDS),
    "two classes": (AnalyticClassifier, TAGS[:, 0]),
}
CASES = [(name, kind) for name, (_, y) in COLUMNS.items() for kind in column_kinds(y)]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_columns_of_targets_give_what_arrays_give(name, kind):
    """Rows count, not an index; predictions are plain arrays in the kind of the labels."""
    cls, y = COLUMNS[name]
    ours, plain = (cls(**SETTINGS).fit(X, targets) for targets in (column_kinds(y)[kind], y))
    assert_array_equal(output(ours, X), output(plain, X))
    assert type(ours.predict(X)) is np.ndarray
    assert ours.predict(X).tolist() == plain.predict(X).tolist()
    assert ours.score(X, column_kinds(y)[kind]) == pytest.approx(plain.score(X, y))


@pytest.mark.parametrize("kind", column_kinds(WEIGHTS))
@pytest.mark.parametrize("cls", TARGETS)
def test_columns_of_weights_give_what_arrays_give(cls, kind):
    """In `fit`, `partial_fit` and `score`."""
    y, weights = TARGETS[cls], column_kinds(WEIGHTS)[kind]
    ours, plain = (cls(**SETTINGS).fit(X, y, sample_weight=w) for w in (weights, WEIGHTS))
    assert_array_equal(output(ours, X), output(plain, X))
    ours.partial_fit(X, y, sample_weight=weights)
    plain.partial_fit(X, y, sample_weight=WEIGHTS)
    assert_array_equal(output(ours, X), output(plain, X))
    if hasattr(ours, "score"):
        assert ours.score(X, y, sample_weight=weights) == plain.score(X, y, sample_weight=WEIGHTS)


TABLES = {
    "pandas": lambda table: pd.DataFrame(table, columns=["p", "q", "r"]),
    "pandas, nullable": lambda table: pd.DataFrame(table).convert_dtypes(),
    "polars": lambda table: pl.DataFrame(table, schema=["p", "q", "r"]),
    "lists": lambda table: table.tolist(),
    "Fortran": np.asfortranarray,
    "float32": lambda table: table.astype(np.float32),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(("cls", "y"), [(AnalyticRegressor, OUTPUTS), (AnalyticClassifier, TAGS)])
def test_tables_of_targets_give_what_arrays_give(cls, y, kind):
    """Several outputs and several labels."""
    ours, plain = (cls(**SETTINGS).fit(X, targets) for targets in (TABLES[kind](y), y))
    assert_array_equal(ours.predict(X), plain.predict(X))
    assert ours.n_outputs_ == 3
    if kind != "pandas, nullable":  # which scikit-learn's accuracy cannot read as several labels
        assert ours.score(X, TABLES[kind](y)) == pytest.approx(plain.score(X, y))


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_array, sparse.csr_matrix, sparse.lil_array])
def test_labels_may_be_a_sparse_indicator_matrix(kind):
    """As scikit-learn's binarizers give it."""
    ours, plain = (AnalyticClassifier(**SETTINGS).fit(X, targets) for targets in (kind(TAGS), TAGS))
    assert_array_equal(ours.predict(X), plain.predict(X))
    assert ours.score(X, kind(TAGS)) == plain.score(X, TAGS)


# Several outputs, several labels.


def test_several_outputs_are_as_many_regressions():
    """The linear model of three outputs is scikit-learn's."""
    model = AnalyticRegressor(optimizer="lbfgs", tol=1e-9).fit(X, OUTPUTS)
    assert_allclose(model.predict(X), LinearRegression().fit(X, OUTPUTS).predict(X), rtol=1e-5, atol=1e-6)
    assert model.score(X, OUTPUTS) == pytest.approx(LinearRegression().fit(X, OUTPUTS).score(X, OUTPUTS))


def test_several_labels_have_independent_logits():
    """Each label is a logistic regression of its own; probabilities are those of the label, and need not sum to 1."""
    model = AnalyticClassifier(alpha=0.1, optimizer="lbfgs", tol=1e-9).fit(X, TAGS)
    for label, column in enumerate(TAGS.T):
        alone = LogisticRegression(C=1 / (0.1 * N), tol=1e-9).fit(X, column)
        assert_allclose(model.predict_proba(X)[:, label], alone.predict_proba(X)[:, 1], rtol=1e-4)
        assert_array_equal(model.predict(X)[:, label], alone.predict(X))
    assert model.decision_function(X).shape == (N, 3)
    assert_array_equal(model.classes_, [0, 1, 2])


# float32, names, output.


@pytest.mark.parametrize("cls", TARGETS)
def test_float32_frames_stay_float32(cls):
    """Of pandas, its nullable columns too, and of polars: θ and the predictions are float32."""
    narrow = pd.DataFrame(X.astype(np.float32), columns=NAMES)
    for frame in (narrow, narrow.astype("Float32"), pl.DataFrame(X.astype(np.float32), schema=NAMES)):
        model = cls(**SETTINGS).fit(frame, TARGETS[cls])
        assert {np.asarray(leaf).dtype for leaf in model.params_.values() if np.ndim(leaf)} == {np.dtype(np.float32)}
        assert output(model, frame).dtype == np.float32


@pytest.mark.parametrize("cls", TARGETS)
def test_feature_names_are_checked(cls):
    """In each method that reads rows: another order, other names, names where there were none."""
    frame, y = FRAMES["pandas"], TARGETS[cls]
    model = cls(**SETTINGS).fit(frame, y)
    assert model.feature_names_in_.tolist() == NAMES
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        output(model, frame[NAMES[::-1]])
    with pytest.raises(ValueError, match="feature names should match those that were passed during fit"):
        model.partial_fit(frame.rename(columns={"a": "z"}), y)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        output(model, X)
    with pytest.warns(UserWarning, match="X has feature names, but"):
        output(cls(**SETTINGS).fit(X, y), frame)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_gives_frames(library):
    """With the names of the transformer's outputs, and the index of the rows."""
    model = AnalyticTransformer(**SETTINGS).set_output(transform=library)
    rows = pd.DataFrame(X, columns=NAMES, index=np.arange(N)[::-1]) if library == "pandas" else FRAMES["polars"]
    codes = model.fit_transform(rows)
    assert type(codes) is {"pandas": pd.DataFrame, "polars": pl.DataFrame}[library]
    assert list(codes.columns) == model.get_feature_names_out().tolist()
    assert_array_equal(codes.to_numpy(), model.set_output(transform="default").transform(rows))
    if library == "pandas":
        assert_array_equal(codes.index, rows.index)


def test_categories_and_text_are_no_features():
    """The error is NumPy's, or scikit-learn's; nothing is guessed."""
    for frame in (pd.DataFrame({"a": WORDS}), pd.DataFrame({"a": pd.Categorical(WORDS)}), pl.DataFrame({"a": WORDS})):
        with pytest.raises(ValueError, match="could not convert string to float"):
            AnalyticRegressor().fit(frame, Y)


def test_missing_values_are_refused_in_nullable_dtypes():
    """What is missing is NaN, of which scikit-learn's error speaks."""
    holes = FRAMES["pandas, nullable"].copy()
    holes.iloc[3, 1] = pd.NA
    with pytest.raises(ValueError, match="contains NaN"):
        AnalyticRegressor().fit(holes, Y)
    with pytest.raises(ValueError, match="contains NaN"):
        AnalyticRegressor().fit(X, pd.Series(Y, dtype="Float64").where(np.arange(N) != 5))
