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


# Dates and spans of time.

DAYS = np.datetime64("2024-01-01") + np.arange(N)
DATES = {
    "datetime64": DAYS,
    "nanoseconds": DAYS.astype("M8[ns]"),
    "timedelta64": DAYS - DAYS[0],
    "several": np.c_[DAYS, DAYS],
    "series": pd.Series(DAYS.astype("M8[ns]")),
    "series, with a zone": pd.Series(pd.date_range("2024-01-01", periods=N, tz="UTC")),
    "series of spans": pd.Series((DAYS - DAYS[0]).astype("m8[s]")),
    "series of periods": pd.Series(pd.period_range("2024-01", periods=N, freq="D")),
    "frame": pd.DataFrame({"day": DAYS.astype("M8[ns]")}),
    "polars": pl.Series(DAYS.astype("M8[ms]")),
    "array-like": ArrayLike(DAYS),
    "objects": DAYS.astype(object),
    "list of objects": DAYS.astype(object).tolist(),
    "list": list(DAYS),
    "spans as objects": (DAYS - DAYS[0]).astype(object),
}


@pytest.mark.parametrize("kind", DATES)
def test_dates_are_no_numbers(kind):
    """As y, X or weights they are refused, as their unit is an accident; the error says how to choose one."""
    values = DATES[kind]
    model = AnalyticRegressor(max_iter=1)
    fits = {
        "y": lambda: model.fit(X, values),
        "X": lambda: model.fit(pd.DataFrame({"day": np.asarray(values)}) if np.ndim(values) == 1 else values, Y),
        "sample_weight": lambda: model.fit(X, Y, sample_weight=values),
    }
    for name, fit in fits.items():
        with pytest.raises(ValueError, match=rf"{name} has dates or times .* \({name} - start\) / np.timedelta64"):
            fit()
    with pytest.raises(ValueError, match="y has dates or times") as caught:
        model.set_params(early_stopping=True).fit(X, Y, X_val=X, y_val=values)
    assert "This concerns the validation set: X_val, y_val and their weights and metadata." in caught.value.__notes__
    with pytest.raises(ValueError, match="y has dates or times"):
        model.set_params(early_stopping=False).fit_chunks([(X, values)])


def test_a_column_of_dates_is_no_feature():
    """Beside numbers, in a frame."""
    frame = pd.DataFrame({"a": X[:, 0], "day": DAYS.astype("M8[ns]")})
    with pytest.raises(ValueError, match=r"X has dates or times \(datetime64\[ns\]\)"):
        AnalyticRegressor().fit(frame, Y)
    model = AnalyticRegressor(max_iter=1, tol=10, n_iter_no_change=np.inf).fit(X[:, :2], Y)
    with pytest.raises(ValueError, match="X has dates or times"):
        model.predict(frame)


@pytest.mark.parametrize("unit", ["M8[D]", "M8[ns]", "m8[D]", "m8[ns]"])
@pytest.mark.parametrize("container", [np.asarray, pd.Series], ids=["array", "series"])
def test_labels_may_be_dates(unit, container):
    """They come back as they were: of `fit`, `partial_fit` and chunks, whose labels are collected first."""
    labels = DAYS[:3][np.digitize(Y, [-0.5, 0.5])]
    labels = (labels - DAYS[0] if unit[0] == "m" else labels).astype(unit)
    y = container(labels)
    settings = {"random_state": 0, "max_iter": 3, "n_iter_no_change": np.inf, "class_weight": None}
    halves = [(X[i::2], y[i::2]) for i in range(2)]
    ours = AnalyticClassifier(**settings, optimizer="lbfgs", tol=10)
    models = {
        "fit": ours.fit(X, y),
        "chunks": clone(ours).fit_chunks(halves),
        "chunks, balanced": clone(ours).set_params(class_weight="balanced").fit_chunks(halves),
        "partial_fit": AnalyticClassifier(**settings).partial_fit(X, y, classes=np.unique(y)),
    }
    for model in models.values():
        stored = np.asarray(y).dtype
        assert model.classes_.dtype == model.predict(X).dtype == stored
        assert_array_equal(model.classes_, np.unique(labels))
        assert model.score(X, y) > 0.3


def test_dates_as_objects_are_no_labels():
    """scikit-learn takes them for an unknown kind of target; a note says what to pass."""
    with pytest.raises(ValueError, match="Unknown label type") as caught:
        AnalyticClassifier().fit(X, DAYS[:2].astype(object)[np.arange(N) % 2])
    assert "y has dates or times as objects. Pass them as datetime64 or timedelta64" in caught.value.__notes__[0]


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("labels", [["a", "bcd"], [1, 2], [True, False]], ids=["text", "numbers", "truth"])
def test_labels_of_chunks_are_those_of_fit(labels, class_weight):
    """In dtype and order, though a chunk may lack one, or has shorter text."""
    y = np.array(labels)[(Y > 0).astype(int)]
    order = np.argsort(Y > 0, kind="stable")
    model = AnalyticClassifier(class_weight=class_weight, optimizer="lbfgs", tol=1e-8, max_iter=500)
    ours = clone(model).fit_chunks([(X[c], y[c].tolist()) for c in np.array_split(order, 3)])
    expected = model.fit(X, y)
    assert ours.classes_.dtype == expected.classes_.dtype
    assert_array_equal(ours.classes_, expected.classes_)
    assert_allclose(ours.coef_, expected.coef_, rtol=1e-4)


# Sparse matrices that point outside of themselves.


def broken(kind, form):
    matrix = getattr(sparse, f"{form}_{kind}")(np.where(X > 0, X, 0))
    if form != "lil":
        matrix.sum_duplicates()
    return matrix


def spoiled(matrix, attribute, where, value):
    getattr(matrix, attribute)[where] = value
    return matrix


BREAKS = {
    "csr, too large": ("csr", "indices", 3, 7, "CSR matrix: it has the column index 7, but 3 columns"),
    "csr, negative": ("csr", "indices", 3, -2, "CSR matrix: it has the column index -2, but 3 columns"),
    "csr, indptr falls": ("csr", "indptr", 3, 10_000, "CSR matrix: indptr must rise from 0 to at most"),
    "csr, indptr begins later": ("csr", "indptr", 0, 1, "CSR matrix: indptr must rise from 0"),
    "csr, indptr too far": ("csr", "indptr", -1, 10_000, "CSR matrix: indptr must rise from 0"),
    "csc, too large": ("csc", "indices", 3, 60, "CSC matrix: it has the row index 60, but 60 rows"),
    "csc, indptr too far": ("csc", "indptr", -1, 10_000, "CSC matrix: indptr must rise from 0"),
    "coo, row": ("coo", "row", 3, 61, "COO matrix: it has the row index 61, but 60 rows"),
    "coo, column": ("coo", "col", 3, -1, "COO matrix: it has the column index -1, but 3 columns"),
    "bsr, too large": ("bsr", "indices", 3, 5, "BSR matrix: it has the column index 5, but 3 columns of blocks"),
    "bsr, indptr too far": ("bsr", "indptr", -1, 10_000, "BSR matrix: indptr must rise from 0"),
    "lil, too large": ("lil", "rows", 3, [0, 1, 9], "LIL matrix: it has the column index 9, but 3 columns"),
}


@pytest.mark.parametrize("kind", ["matrix", "array"])
@pytest.mark.parametrize("case", BREAKS)
def test_broken_sparse_matrices_are_refused(case, kind):
    """Compiled code would read memory that is not theirs: in every method, and in y where labels have columns."""
    form, attribute, where, value, message = BREAKS[case]
    X_broken = spoiled(broken(kind, form), attribute, where, value)
    whole = broken(kind, "csr")
    model = AnalyticRegressor(**SETTINGS)
    model.fit(whole, Y)
    for call in (
        lambda: model.fit(X_broken, Y),
        lambda: model.partial_fit(X_broken, Y),
        lambda: model.fit_chunks([(X_broken, Y)]),
        lambda: clone(model).set_params(early_stopping=True).fit(whole, Y, X_val=X_broken, y_val=Y),
        lambda: model.predict(X_broken),
        lambda: model.score(X_broken, Y),
    ):
        with pytest.raises(ValueError, match=f"X is a broken {message}"):
            call()
    labels = AnalyticClassifier(**SETTINGS)
    tags = getattr(sparse, f"{form}_{kind}")(np.where(X > 0, 1, 0))
    for call in (lambda y: labels.fit(X, y), lambda y: labels.fit_chunks([(X, y)])):
        with pytest.raises(ValueError, match=f"y is a broken {message}"):
            call(spoiled(tags.copy(), attribute, where, value))


def test_sparse_matrices_that_are_whole_are_taken():
    """Without rows of values at the ends, with more room than values, with repeated places; and none is changed."""
    matrix = sparse.csr_matrix(np.where(X > 0, X, 0))
    roomy = matrix.copy()
    roomy.data = np.r_[roomy.data, np.zeros(5)]
    roomy.indices = np.r_[roomy.indices, np.full(5, 99, roomy.indices.dtype)]
    expected = AnalyticRegressor(**SETTINGS).fit(matrix, Y)
    ours = AnalyticRegressor(**SETTINGS).fit(roomy, Y)
    assert_array_equal(ours.coef_, expected.coef_)
    assert len(roomy.indices) == matrix.nnz + 5
    AnalyticRegressor(**SETTINGS).fit(sparse.csr_matrix((N, 3)), Y)


# What X cannot be, and metadata can.


def mean_of_images(params, X, images):
    return np.nanmean(images, axis=(1, 2)) * params["scale"] + X @ params["w"]


def images_vjp(params, X, images):
    means = np.nanmean(images, axis=(1, 2))
    return mean_of_images(params, X, images), lambda d: {"scale": means @ d, "w": X.T @ d}


IMAGES = np.where(RNG.random((N, 4, 4)) < 0.1, np.nan, RNG.random((N, 4, 4)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (IMAGES, "Found array with dim 3"),
        (np.where(X > 1, np.nan, X), "Input X contains NaN"),
        (np.where(X > 1, np.inf, X), "Input X contains infinity"),
        (IMAGES.tolist(), "Found array with dim 3"),
        (pd.DataFrame(np.where(X > 1, np.nan, X)), "Input X contains NaN"),
    ],
    ids=["three axes", "NaN", "infinity", "lists", "frame"],
)
def test_what_x_cannot_be_metadata_can(rows, message):
    """A note says so in every method, in one line, with how it is passed and received; and so it works."""
    model = AnalyticRegressor(mean_of_images, vjp=images_vjp, init={"scale": 0.0, "w": np.zeros(3)}, **SETTINGS)
    model.fit(X, Y, images=IMAGES)
    for call in (
        lambda: model.fit(rows, Y, images=IMAGES),
        lambda: model.partial_fit(rows, Y, images=IMAGES),
        lambda: model.fit_chunks([{"X": rows, "y": Y, "images": IMAGES}]),
        lambda: model.predict(rows, images=IMAGES),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        [note] = [note for note in caught.value.__notes__ if "as metadata" in note]
        assert "fit(X, y, images=images)" in note
        assert "forward(params, X, images)" in note
        assert "\n" not in note
    with pytest.raises(ValueError, match="Input y contains NaN") as caught:
        model.fit(X, np.where(Y > 1, np.nan, Y), images=IMAGES)
    assert not getattr(caught.value, "__notes__", [])


# An estimator in its own fit.


@pytest.mark.parametrize("inside", ["init", "forward", "gradient", "loss", "chunks", "scoring"])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_chunks"])
def test_a_fit_cannot_be_begun_in_the_midst_of_itself(inside, method):
    """What the inner one publishes the outer one would write over; a clone may be trained anywhere."""
    model = AnalyticRegressor(max_iter=1, tol=10, n_iter_no_change=np.inf, random_state=0)
    begin = {
        "fit": lambda estimator: estimator.fit(X, Y),
        "partial_fit": lambda estimator: estimator.partial_fit(X, Y),
        "fit_chunks": lambda estimator: estimator.fit_chunks([(X, Y)]),
    }[method]
    inner = None

    def also(place, returned):
        if place == inside and inner is not None:
            begin(inner)
        return returned

    callables = {
        "forward": lambda params, X: also("forward", X @ params),
        "gradient": lambda params, X, y: also("gradient", X.T @ (X @ params - y) / len(X)),
        "loss": lambda params, X, y: also("loss", 0.5 * np.mean((X @ params - y) ** 2)),
        "init": lambda n_features: also("init", np.zeros(n_features)),
    }
    if inside == "scoring" and method == "partial_fit":
        return  # which knows no early stopping
    model.set_params(**callables, early_stopping=inside == "scoring")
    model.set_params(scoring=lambda estimator, X, y: also("scoring", 0.0))

    def train():
        return model.fit_chunks([lambda: also("chunks", (X, Y))] * 2) if inside == "chunks" else model.fit(X, Y)

    inner = model
    with pytest.raises(RuntimeError, match="This AnalyticRegressor is already being fitted: one of its functions"):
        train()
    inner = AnalyticRegressor(max_iter=1, tol=10, n_iter_no_change=np.inf)
    assert train() is model
