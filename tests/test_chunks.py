"""`fit_chunks`: chunks that stream give what `fit` gives, one of them held at a time."""

import tracemalloc
import weakref
from functools import partial

import numpy as np
import pandas as pd
import pytest
from models import USER_MODELS
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.metrics import accuracy_score, get_scorer, r2_score
from sklearn.utils import compute_class_weight

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.data.arrays import ArrayRows
from sk_analytic.data.batch import HELD_OUT, MONITOR, generator
from sk_analytic.data.chunks import Source
from sk_analytic.data.weights import Weights
from sk_analytic.optimizers import Phases

# Whether an optimizer has come to its end is no matter where a fit is only begun.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N = 96
X = np.random.default_rng(0).normal(size=(N, 3))
WEIGHT = np.random.default_rng(1).uniform(0, 3, size=N)
SCORES = X @ [[1, 2, -1], [0.5, -1, 1], [-1, 1, 0.5]] + np.random.default_rng(2).normal(size=(N, 3))
TARGETS = {
    "regression": (AnalyticRegressor, SCORES[:, 0]),
    "regression of several": (AnalyticRegressor, SCORES[:, :2]),
    "two classes": (AnalyticClassifier, np.where(SCORES[:, 0] > 0, "yes", "no")),
    "three classes": (AnalyticClassifier, SCORES.argmax(axis=1)),
    "labels": (AnalyticClassifier, (SCORES > 0).astype(int)),
    "density": (AnalyticDensity, None),
    "codes": (AnalyticTransformer, None),
}
Y, Y_CLASSES, Y_LABELS = (TARGETS[task][1] for task in ("regression", "three classes", "labels"))
TASKS = {
    f"{task}, {form}": (cls(**settings), y)
    for task, (cls, y) in TARGETS.items()
    for form, settings in {"default": {}, **USER_MODELS[cls]}.items()
}
SETTINGS = {
    "adam": {"batch_size": 20},
    "adam, one batch an epoch": {"batch_size": N},
    "adam, in order": {"batch_size": 20, "shuffle": False},
    "adam, early stopping": {"batch_size": 20, "early_stopping": True, "validation_fraction": 0.3},
    "lbfgs": {"optimizer": "lbfgs"},
    "lbfgs by parts": {"optimizer": "lbfgs", "batch_size": 20},
    "lbfgs, early stopping": {"optimizer": "lbfgs", "early_stopping": True},
    "both in turn": {"optimizer": Phases([("adam", 2), ("lbfgs", 2)]), "batch_size": 20},
}
EACH_TASK = pytest.mark.parametrize(("estimator", "y"), TASKS.values(), ids=TASKS)
EACH_SETTING = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)

# Ways to hand over the same chunks; each may be gone through again and again.
SOURCES = {
    "list": list,
    "loaders": lambda chunks: [partial(tuple, chunk) for chunk in chunks],
    "dicts": lambda chunks: [dict(zip(("X", "y", "sample_weight"), chunk, strict=False)) for chunk in chunks],
    "generator function": lambda chunks: lambda: (chunk for chunk in chunks),
    "iterable": lambda chunks: dict(enumerate(chunks)).values(),
}
EACH_SOURCE = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def cut(*arrays, into):
    """Chunks of arrays; what is None is None in each."""
    at = into if isinstance(into, list) else np.arange(into, N, into)
    parts = [[None] * (len(at) + 1) if array is None else np.split(array, at) for array in arrays]
    return list(zip(*parts, strict=True))


def leaves(params):
    """The leaves of a parameter structure, in its order."""
    if isinstance(params, dict):
        params = list(params.values())
    return [leaf for part in params for leaf in leaves(part)] if isinstance(params, list | tuple) else [params]


def assert_same_fit(ours, expected, **tolerance):
    """Parameters and everything that was recorded are equal; to rounding, if a tolerance is given."""
    tolerance = {"rtol": 0} | tolerance
    for a, b in zip(leaves(ours.params_), leaves(expected.params_), strict=True):
        assert_allclose(a, b, **tolerance)
    assert_allclose(ours.loss_curve_, expected.loss_curve_, **tolerance)
    assert_allclose(ours.validation_scores_ or [], expected.validation_scores_ or [], **tolerance)
    assert (ours.n_iter_, ours.n_steps_) == (expected.n_iter_, expected.n_steps_)


def begun(estimator, **settings):
    """An estimator that runs a few iterations only."""
    named = {"optimizer": "adam"} if estimator.optimizer == "auto" else {}
    return clone(estimator).set_params(**(named | {"max_iter": 4, "random_state": 0} | settings))


def from_one_start(estimator, y):
    """For a full batch; where `init` looks at X, with what it makes of all rows: it would receive the first chunk."""
    model = begun(estimator, optimizer="lbfgs", max_iter=2)
    if y is not None and estimator.init is not None:
        return model
    return model.set_params(init=begun(estimator, optimizer__learning_rate=0.0, optimizer="sgd").fit(X, y).params_)


# ---- the same numbers as `fit` ----


@EACH_SETTING
@EACH_TASK
def test_one_chunk_gives_what_fit_gives(estimator, y, settings):
    """To the last bit: for every task, gradient form, way of training and early stopping; weights included."""
    expected = begun(estimator, **settings).fit(X, y, sample_weight=WEIGHT)
    assert_same_fit(begun(estimator, **settings).fit_chunks([(X, y, WEIGHT)]), expected)


@EACH_SETTING
@pytest.mark.parametrize("task", TARGETS)
def test_one_chunk_without_weights_gives_what_fit_gives(task, settings):
    """Likewise, for the default models."""
    cls, y = TARGETS[task]
    expected = begun(cls(), **settings).fit(X, y)
    assert_same_fit(begun(cls(), **settings).fit_chunks([(X, y)]), expected)


@EACH_SOURCE
def test_one_chunk_gives_what_fit_gives_however_it_comes(source):
    """And in float32."""
    data = X.astype(np.float32), Y.astype(np.float32), WEIGHT.astype(np.float32)
    model = begun(AnalyticRegressor(batch_size=20))
    assert_same_fit(clone(model).fit_chunks(source([data])), clone(model).fit(*data))


@pytest.mark.parametrize("class_weight", [None, "balanced", {1: 3.0}], ids=str)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
def test_one_chunk_gives_what_fit_gives_with_class_weights(class_weight, weight):
    """They are computed over all chunks, and there is one."""
    model = begun(AnalyticClassifier(class_weight=class_weight, batch_size=20))
    assert_same_fit(
        clone(model).fit_chunks([(X, Y_CLASSES, weight)]), clone(model).fit(X, Y_CLASSES, sample_weight=weight)
    )


@EACH_TASK
def test_parts_of_a_full_batch_may_be_chunks(estimator, y):
    """A sum over chunks is the sum over parts of as many rows, in the same order: to the last bit."""
    model = from_one_start(estimator, y)
    expected = clone(model).set_params(batch_size=32).fit(X, y)
    assert_same_fit(clone(model).fit_chunks(cut(X, y, into=32)), expected)


@EACH_SOURCE
def test_sums_over_chunks_do_not_depend_on_how_these_come(source):
    """Each way of handing them over gives the parts of a full batch."""
    model = from_one_start(AnalyticRegressor(), Y)
    expected = clone(model).set_params(batch_size=32).fit(X, Y)
    assert_same_fit(clone(model).fit_chunks(source(cut(X, Y, into=32))), expected)


@EACH_TASK
def test_chunks_of_any_size_sum_to_the_full_batch(estimator, y):
    """To rounding, with weights, which are scaled over all chunks and not in each."""
    model = from_one_start(estimator, y)
    chunks = cut(X, y, WEIGHT, into=[10, 11, 60])
    expected = clone(model).fit(X, y, sample_weight=WEIGHT)
    assert_same_fit(clone(model).fit_chunks(chunks), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", ["csr", "data frame", "list"])
@pytest.mark.parametrize(
    "settings", [{"batch_size": 10, "shuffle": False}, {"optimizer": "lbfgs"}], ids=["adam", "lbfgs"]
)
def test_chunks_may_be_whatever_fit_takes(form, settings):
    """Sparse matrices, data frames with their names, and lists of rows."""
    make = {"csr": csr_array, "data frame": partial(pd.DataFrame, columns=["a", "b", "c"]), "list": np.ndarray.tolist}
    table = np.where(X > 0, X, 0.0)
    model = begun(AnalyticRegressor(), **settings)
    chunks = [(make[form](part), y) for part, y in cut(table, Y, into=30)]
    fitted = clone(model).fit_chunks(chunks)
    assert_same_fit(fitted, clone(model).fit_chunks(cut(table, Y, into=30)), rtol=1e-9)
    assert list(getattr(fitted, "feature_names_in_", "")) == (["a", "b", "c"] if form == "data frame" else [])


def test_a_sparse_chunk_is_sampled_like_a_dense_one():
    """The plain gradient form's loss is watched on rows of all chunks, which are put together."""
    settings = USER_MODELS[AnalyticRegressor]["gradient"]
    model = begun(AnalyticRegressor(**settings), batch_size=10)
    dense, sparse = (
        clone(model).fit_chunks([(make(part), y) for part, y in cut(X, SCORES[:, :2], into=30)])
        for make in (np.asarray, csr_array)
    )
    assert_same_fit(sparse, dense, rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["lm", "trf", "dogbox"])
def test_least_squares_has_the_residuals_of_all_chunks(optimizer):
    """They and their Jacobian are stacked; the penalty stands below them once."""
    settings = USER_MODELS[AnalyticRegressor]["jacobian"]
    model = AnalyticRegressor(**settings, optimizer=optimizer, alpha=0.1, tol=1e-10, random_state=0)
    fitted = clone(model).fit_chunks(cut(X, SCORES[:, :2], WEIGHT, into=[10, 50]))
    expected = clone(model).fit(X, SCORES[:, :2], sample_weight=WEIGHT)
    for a, b in zip(leaves(fitted.params_), leaves(expected.params_), strict=True):
        assert_allclose(a, b, rtol=1e-7, atol=1e-9)


@EACH_SOURCE
def test_unshuffled_chunks_of_whole_batches_are_the_batches_of_fit(source):
    """Steps are counted through the chunks, as the position of a callable's `rng` shows."""

    def gradient(params, X, y, rng):
        return {"w": X.T @ (X @ params["w"] - y) / len(X) + rng.normal(size=3)}

    model = begun(
        AnalyticRegressor(lambda params, X: X @ params["w"], gradient, {"w": np.zeros(3)}, loss=None),
        batch_size=8,
        shuffle=False,
        check_gradient=False,
    )
    assert_same_fit(clone(model).fit_chunks(source(cut(X, Y, into=24))), clone(model).fit(X, Y))


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_chunks_without_rows_are_skipped(optimizer):
    """Wherever they stand."""
    nothing = (X[:0], Y[:0])
    model = begun(AnalyticRegressor(batch_size=20, shuffle=False), optimizer=optimizer)
    chunks = cut(X, Y, into=40)
    with_empty = [nothing, chunks[0], nothing, *chunks[1:], nothing]
    assert_same_fit(clone(model).fit_chunks(with_empty), clone(model).fit_chunks(chunks))


@EACH_SOURCE
def test_warm_start_goes_on_where_training_ended(source):
    """Twice k epochs are 2k epochs: orders, optimizer state and counters are kept."""
    chunks = source(cut(X, Y, into=40))
    model = begun(AnalyticRegressor(batch_size=16, warm_start=True), max_iter=3)
    assert_same_fit(model.fit_chunks(chunks).fit_chunks(chunks), begun(model, max_iter=6).fit_chunks(chunks))


def test_a_failed_fit_loses_nothing():
    """What was fitted before stays whole."""
    model = begun(AnalyticRegressor()).fit(X, Y)
    before = model.__dict__.copy()
    with pytest.raises(ValueError, match="2 features"):
        model.fit_chunks([(X, Y), (X[:, :2], Y)])
    assert model.__dict__ == before


# ---- labels ----


@EACH_SOURCE
@pytest.mark.parametrize("class_weight", [None, "balanced", {2: 3.0}], ids=str)
@pytest.mark.parametrize("classes", [None, [2, 0, 1]], ids=["collected", "given"])
def test_a_chunk_may_lack_classes(source, class_weight, classes):
    """Labels, and weights by class, are those of all chunks."""
    order = np.argsort(Y_CLASSES, kind="stable")
    chunks = source(cut(X[order], Y_CLASSES[order], into=12))
    model = begun(AnalyticClassifier(class_weight=class_weight, optimizer="lbfgs"))
    fitted = clone(model).fit_chunks(chunks, classes=classes)
    assert_array_equal(fitted.classes_, [0, 1, 2])
    assert_same_fit(fitted, clone(model).fit(X, Y_CLASSES), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("class_weight", ["balanced", [{1: 3.0}, {0: 0.5}, {0: 1, 1: 2}]], ids=["balanced", "dicts"])
def test_labels_of_several_columns_are_weighted_over_all_chunks(class_weight, weight):
    """Also where a chunk has a column of zeros."""
    order = np.lexsort(Y_LABELS.T)
    arrays = [None if array is None else array[order] for array in (X, Y_LABELS, weight)]
    model = begun(AnalyticClassifier(class_weight=class_weight, optimizer="lbfgs"))
    fitted = clone(model).fit_chunks(cut(*arrays, into=12))
    expected = clone(model).fit(X, Y_LABELS, sample_weight=weight)
    assert_same_fit(fitted, expected, rtol=1e-8, atol=1e-11)


def test_balanced_weights_are_those_of_scikit_learn():
    """A dict with what `compute_class_weight` says of all rows does the same."""
    weights = compute_class_weight("balanced", classes=np.arange(3), y=Y_CLASSES)
    model = begun(AnalyticClassifier(optimizer="lbfgs"))
    by_dict, balanced = (
        clone(model).set_params(class_weight=class_weight).fit_chunks(cut(X, Y_CLASSES, into=30))
        for class_weight in (dict(enumerate(weights)), "balanced")
    )
    assert_same_fit(balanced, by_dict, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("classes", "passes"), [(None, 2), ([0, 1, 2], 1)], ids=["collected", "given"])
def test_classes_that_are_given_save_a_pass(classes, passes):
    """Two epochs in order, after a pass that validates and, without them, one that collects them."""
    calls = []

    def load(number):
        calls.append(number)
        return X[number::3], Y_CLASSES[number::3]

    begun(AnalyticClassifier(shuffle=False, check_gradient=False), max_iter=2).fit_chunks(
        [partial(load, number) for number in range(3)], classes=classes
    )
    looked_at = [0]  # by `init` and the first look at the callables; the first epoch goes on with it
    assert calls == [0, 1, 2] * passes + looked_at + [1, 2] + [0, 1, 2]


# ---- order ----


class Read:
    """Takes chunks as they are."""

    def __call__(self, X, y, weight, metadata, reset):
        return X, {}, None if weight is None else Weights.of(weight)

    def total(self, columns, weights):
        return np.zeros(1)


def rows_of(chunks, *, seed=0, shuffle=True, batch_size=10):
    """Rows of some chunks of X alone."""
    read = Source(chunks).survey(Read())
    return read.rows(list(read.extents), batch_size=batch_size, shuffle=shuffle, seed=seed)


def numbered(sizes=(35, 20, 41, 4)):
    """Chunks whose first column counts the rows through, and whose second is the number of the chunk."""
    number = np.repeat(np.arange(len(sizes)), sizes)
    table = np.column_stack([np.arange(len(number)), number]).astype(float)
    return np.split(table, np.cumsum(sizes)[:-1])


def order(rows, epoch=0):
    """The rows of an epoch, as they come."""
    return np.concatenate([rows.batch(epoch, step).X for step in range(rows.steps_per_epoch)]).copy()


@EACH_SOURCE
def test_an_epoch_has_every_row_once_and_chunk_after_chunk(source):
    """Rows are mixed within their chunk; the chunks of a sequence are, too."""
    chunks = numbered()
    rows = rows_of(source([(chunk,) for chunk in chunks]))
    assert (rows.n_samples, rows.steps_per_epoch, rows.batch_size) == (100, 12, 10)
    orders = [order(rows, epoch) for epoch in range(6)]
    visited = set()
    for found in orders:
        assert_array_equal(np.sort(found[:, 0]), np.arange(100))
        begins = np.flatnonzero(np.diff(found[:, 1], prepend=-1))
        visited.add(tuple(found[begins, 1]))
        assert sorted(found[begins, 1]) == [0, 1, 2, 3]
    assert (len(visited) > 1) == rows._chunks.source.is_sequence
    within = {tuple(found[found[:, 1] == 0, 0]) for found in orders}
    assert len(within) == 6
    assert tuple(range(35)) not in within


def test_the_order_depends_on_seed_epoch_and_chunk_alone():
    """Whatever ran before: steps may be taken back and forth, and other chunks may have other sizes."""
    expected = {(seed, epoch): order(rows_of(numbered(), seed=seed), epoch) for seed in (5, 6) for epoch in range(3)}
    assert len({tuple(found[:, 0]) for found in expected.values()}) == 6
    for seed in (5, 6):
        rows = rows_of(numbered(), seed=seed)
        for epoch in (2, 0, 1, 1, 2):
            assert_array_equal(order(rows, epoch), expected[seed, epoch])
        ends = np.cumsum([0] + [rows.batch(1, step).n for step in range(12)])
        for step in (5, 0, 11, 3, 3, 10):
            assert_array_equal(rows.batch(1, step).X, expected[seed, 1][ends[step] : ends[step + 1]])
    of_two = order(rows_of(numbered((7, 20)), seed=5), 2)
    shared = expected[5, 2]
    assert_array_equal(
        of_two[of_two[:, 1] == 1, 0] - 7, shared[shared[:, 1] == 1, 0] - 35
    )  # chunk 1 has 20 rows in both


def test_chunks_of_equal_size_have_orders_of_their_own():
    """Row i of one is not where row i of the other is."""
    found = order(rows_of(numbered((30, 30))))
    first, second = (found[found[:, 1] == number, 0] % 30 for number in (0, 1))
    assert not np.array_equal(first, second)


@EACH_SOURCE
def test_without_shuffling_everything_comes_in_order(source):
    """In every epoch."""
    rows = rows_of(source([(chunk,) for chunk in numbered()]), shuffle=False)
    for epoch in (0, 1):
        assert_array_equal(order(rows, epoch)[:, 0], np.arange(100))


def test_a_sample_is_drawn_from_all_chunks():
    """As from the rows in one place: the same rows, in the same order and batches."""
    chunks, weight = numbered(), np.arange(100) % 7.0
    whole = ArrayRows(np.concatenate(chunks), {}, weight, batch_size=10, seed=3)
    rows = rows_of(list(zip(chunks, [None] * 4, np.split(weight, [35, 55, 96]), strict=True)), seed=3)
    for n_batches in (1, 2, 1000):
        for ours, expected in zip(rows.sample(n_batches, MONITOR), whole.sample(n_batches, MONITOR), strict=True):
            assert_array_equal(ours.X, expected.X)
            assert_array_equal(ours.sample_weight, expected.sample_weight)
            assert ours.position == expected.position


# ---- one chunk at a time ----


class Loads:
    """Loaders of chunks that raise if one before is still held when the next is loaded, and count."""

    def __init__(self, chunks):
        self.chunks, self.calls, self.held = chunks, [], []

    def __call__(self, number):
        assert [held for held in self.held if held() is not None] == []
        arrays = [None if array is None else array.copy() for array in self.chunks[number]]
        self.held = [weakref.ref(array) for array in arrays if array is not None]
        self.calls.append(number)
        return tuple(arrays)

    def loaders(self):
        """A sequence."""
        return [partial(self, number) for number in range(len(self.chunks))]

    def __iter__(self):
        """An iteration that holds nothing itself."""
        return map(self, range(len(self.chunks)))


@pytest.mark.parametrize(
    "settings",
    [*SETTINGS.values(), {"early_stopping": True, "scoring": "neg_mean_absolute_error"}],
    ids=[*SETTINGS, "adam, early stopping by a scorer"],
)
@pytest.mark.parametrize("form", ["loss_and_gradient", "gradient", "vjp", "jacobian"])
@pytest.mark.parametrize("as_sequence", [True, False])
def test_one_chunk_is_held_at_a_time(as_sequence, form, settings):
    """Whatever else is done with the rows: surveys, checks, samples, scores."""
    loads = Loads(cut(X, SCORES[:, :2], WEIGHT, into=24))
    model = begun(AnalyticRegressor(**USER_MODELS[AnalyticRegressor][form]), **settings)
    model.fit_chunks(loads.loaders() if as_sequence else loads)
    assert set(loads.calls) == set(range(4))
    assert loads.calls[:4] == [0, 1, 2, 3]


def test_least_squares_holds_one_chunk_at_a_time():
    """Its residuals and their Jacobian are all that is kept of a chunk."""
    loads = Loads(cut(X, SCORES[:, :2], into=24))
    AnalyticRegressor(**USER_MODELS[AnalyticRegressor]["jacobian"], optimizer="lm").fit_chunks(loads.loaders())


def test_a_single_chunk_is_read_once():
    """It stays where it is."""
    loads = Loads([(X, Y)])
    begun(AnalyticRegressor(batch_size=20)).fit_chunks(loads.loaders())
    assert loads.calls == [0]


def test_the_peak_is_hardly_more_than_a_chunk():
    """Ten chunks in two epochs; the parameters are small."""
    n, d = 10_000, 100

    def load(number):
        X = np.random.default_rng(number).standard_normal((n, d))
        return X, X[:, 0]

    model = AnalyticRegressor(max_iter=2, random_state=0)
    tracemalloc.start()
    try:
        model.fit_chunks([partial(load, number) for number in range(10)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.15 * 8 * n * d


def test_pieces_of_a_memory_map_are_not_copied(tmp_path):
    """Only the rows of a few batches are ever in memory of ours."""
    n, d = 20_000, 50
    mapped = np.memmap(tmp_path / "X", dtype=np.float64, mode="w+", shape=(n, d))
    mapped[:] = np.random.default_rng(0).normal(size=(n, d))
    y = np.asarray(mapped[:, 0]).copy()
    chunks = list(zip(np.array_split(mapped, 10), np.array_split(y, 10), strict=True))
    tracemalloc.start()
    try:
        fitted = begun(AnalyticRegressor()).fit_chunks(chunks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.15 * mapped.nbytes
    assert fitted.score(mapped, y) > 0


# ---- early stopping ----


@EACH_SOURCE
@pytest.mark.parametrize(
    ("estimator", "y", "metric"),
    [(AnalyticRegressor(), Y, r2_score), (AnalyticClassifier(), Y_CLASSES, accuracy_score)],
    ids=["regressor", "classifier"],
)
def test_held_out_chunks_are_scored_together(source, estimator, y, metric):
    """A share of the chunks, drawn by the seed, that training never sees; the best parameters are kept."""
    seen = []

    def gradient(params, X, y, sample_weight):
        seen.extend(X[:, 0])
        residual = X @ params - (y if y.dtype.kind == "f" else np.eye(3)[y]).reshape(len(X), -1)
        return X.T @ (sample_weight[:, None] * residual) / len(X)

    columns = 3 if y is Y_CLASSES else 1
    model = begun(
        estimator,
        forward=lambda params, X: X @ params,
        gradient=gradient,
        init=np.zeros((3, columns)),
        early_stopping=True,
        validation_fraction=0.3,
        batch_size=10,
        max_iter=20,
        check_gradient=False,
    ).fit_chunks(source(cut(X, y, WEIGHT, into=12)))
    held_out = ~np.isin(X[:, 0], seen)
    assert held_out.sum() == 36  # 0.3 of 8 chunks, rounded up
    assert set(np.add.reduceat(held_out, np.arange(0, N, 12))) == {0, 12}
    score = metric(y[held_out], model.predict(X[held_out]), sample_weight=WEIGHT[held_out])
    assert max(model.validation_scores_) == pytest.approx(score, rel=1e-12)


def test_the_seed_chooses_the_chunks_to_hold_out():
    """The same with the same seed, others with another."""
    chunks = cut(X, Y, into=12)
    scores = [
        begun(AnalyticRegressor(early_stopping=True), random_state=seed).fit_chunks(chunks).validation_scores_
        for seed in (0, 0, 1)
    ]
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize(
    ("chunks", "settings", "message"),
    [
        (cut(X, Y, into=48), {"validation_fraction": 0.9}, "would hold out all of the 2 chunks"),
        (cut(X[:3], Y[:3], into=[1, 2]), {}, "holds out 1 sample, but the score needs 2"),
        ([(X[:40], Y[:40], np.zeros(40))] * 2 + [(X, Y, np.zeros(N))], {}, "sample_weight is zero for every sample"),
    ],
    ids=["all", "too few rows", "no weight"],
)
def test_chunks_that_cannot_be_held_out_are_refused(chunks, settings, message):
    """Before anything is trained."""
    with pytest.raises(ValueError, match=message):
        begun(AnalyticRegressor(early_stopping=True), **settings).fit_chunks(chunks)


@EACH_SOURCE
@pytest.mark.parametrize("metric", ["neg_mean_absolute_error", "neg_median_absolute_error"])
def test_any_scorer_scores_held_out_chunks(source, metric):
    """As it would their rows in one place."""
    model = begun(AnalyticRegressor(early_stopping=True, validation_fraction=0.3, scoring=metric))
    fitted = clone(model).fit_chunks(source(cut(X, Y, WEIGHT, into=12)))
    held_out = generator(fitted._training.seed, HELD_OUT).choice(8, 3, replace=False)
    rows = np.isin(np.arange(N) // 12, held_out)
    scored = get_scorer(metric)(fitted, X[rows], Y[rows], sample_weight=WEIGHT[rows])
    assert max(fitted.validation_scores_) == pytest.approx(scored, rel=1e-12)


@EACH_SOURCE
def test_rows_of_the_users_own_may_be_scored_instead(source):
    """Then every chunk trains, and the scores are those of `fit`."""
    validation = {"X_val": X[60:], "y_val": Y[60:], "sample_weight_val": WEIGHT[60:]}
    model = begun(AnalyticRegressor(early_stopping=True, batch_size=10, shuffle=False), max_iter=8)
    fitted = clone(model).fit_chunks(source(cut(X[:60], Y[:60], into=[20, 40])), **validation)
    assert_same_fit(fitted, clone(model).fit(X[:60], Y[:60], **validation))


# ---- metadata ----


def rate_loss_and_gradient(params, X, y, exposure):
    """Of a Poisson rate, with an exposure a row."""
    mean = exposure * np.exp(X @ params)
    return float((mean - y * np.log(mean)).mean()), X.T @ (mean - y) / len(X)


def rate_forward(params, X, exposure):
    return np.log(exposure) + X @ params


RATE = AnalyticRegressor(
    rate_forward, loss_and_gradient=rate_loss_and_gradient, init=np.zeros(3), loss="poisson", batch_size=10
)
COUNTS, EXPOSURE = np.random.default_rng(3).poisson(2, size=N).astype(float), WEIGHT + 0.5


def test_metadata_stands_in_the_chunks():
    """One chunk gives what `fit` gives; callables receive the values of their rows."""
    expected = begun(RATE).fit(X, COUNTS, exposure=EXPOSURE)
    one = [{"X": X, "y": COUNTS, "exposure": EXPOSURE}]
    assert_same_fit(begun(RATE).fit_chunks(one), expected)
    several = [{"X": part, "y": y, "exposure": exposure} for part, y, exposure in cut(X, COUNTS, EXPOSURE, into=30)]
    whole = begun(RATE, optimizer="lbfgs", batch_size="auto").fit(X, COUNTS, exposure=EXPOSURE)
    fitted = begun(RATE, optimizer="lbfgs", batch_size="auto").fit_chunks(several)
    assert_same_fit(fitted, whole, rtol=1e-8)
    scored = begun(RATE, early_stopping=True).fit_chunks(several)
    assert len(scored.validation_scores_) == scored.n_iter_
    validation = {"X_val": X[:30], "y_val": COUNTS[:30], "exposure_val": EXPOSURE[:30]}
    assert len(begun(RATE, early_stopping=True).fit_chunks(several, **validation).validation_scores_) == 4


@pytest.mark.parametrize(
    ("chunks", "passed", "message"),
    [
        ([{"X": X, "y": COUNTS, "exposure": EXPOSURE}] * 2, {"exposure": EXPOSURE}, "in the chunk, .*'exposure_val'"),
        ([{"X": X, "y": COUNTS, "exposure": EXPOSURE}] * 2, {"exposure_val": EXPOSURE}, "X_val was not provided"),
        (
            [{"X": X, "y": COUNTS, "exposure": EXPOSURE}, (X, COUNTS)],
            {},
            "(?s)This chunk has columns y; the first had exposure, y.*chunk 1 ",
        ),
        ([{"X": X, "y": COUNTS, "exposure": EXPOSURE[1:]}], {}, "(?s)exposure has 95 rows.*chunk 0 "),
    ],
    ids=["beside the chunks", "of no rows", "missing", "too few"],
)
def test_wrong_metadata_is_refused(chunks, passed, message):
    """With the number of the chunk where it is one."""
    with pytest.raises((TypeError, ValueError), match=message):
        begun(RATE).fit_chunks(chunks, **passed)


# ---- monitoring ----


def test_verbose_tells_of_the_first_pass(capsys):
    """Then a line an epoch, as in `fit`."""
    begun(AnalyticRegressor(verbose=1), max_iter=2).fit_chunks(cut(X, Y, into=30))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "First pass: 4 chunks, 96 samples"
    assert [line.split(",")[0] for line in lines[1:]] == ["Iteration 1", "Iteration 2"]


def test_the_gradient_is_checked_on_the_first_chunk():
    """A wrong one is an error before the first step."""
    settings = USER_MODELS[AnalyticRegressor]["gradient"]

    def wrong(params, X, y, sample_weight=None):
        return {name: -leaf for name, leaf in settings["gradient"](params, X, y, sample_weight).items()}

    with pytest.raises(ValueError, match="sign"):
        AnalyticRegressor(**{**settings, "gradient": wrong}).fit_chunks(cut(X, SCORES[:, :2], into=30))


def test_init_receives_the_first_chunk():
    """Its rows, its targets and its scaled weights."""
    received = []

    def init(X, y, n_features, n_outputs):
        received.append((X, y))
        return {"coef": np.zeros(n_features), "intercept": 0.0}

    begun(AnalyticRegressor(init=init)).fit_chunks(cut(X, Y, into=30))
    ((X_received, y_received),) = received
    assert_array_equal(X_received, X[:30])
    assert_array_equal(y_received, Y[:30])


# ---- what is refused ----


def generated():
    """A generator function."""
    yield from cut(X, Y, into=40)


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        (generated(), TypeError, "generator, which can be iterated over only once.*function itself, without calling"),
        (iter([(X, Y)]), TypeError, "only once"),
        (X, TypeError, r"a single ndarray; expected a list.*single chunk as \[\(X, y\)\]"),
        ({"X": X, "y": Y}, TypeError, "a single dict"),
        ("X", TypeError, "a single str"),
        (3, TypeError, "chunks is 3; expected a list"),
        (lambda: 3, TypeError, "returned 3, which is not iterable"),
        ([], ValueError, "no samples"),
        ([(X[:0], Y[:0])], ValueError, "no samples"),
        ([(X, Y), (X, Y, None, None)], TypeError, "(?s)got a tuple of 4.*chunk 1 "),
        ([(X, Y), {"x": X, "y": Y}], TypeError, r"(?s)including X; got \['x', 'y'\].*chunk 1 "),
        ([(X, Y), {"X": X, "y": Y, "z": Y}], TypeError, "(?s)'z' was passed, but no callable.*chunk 1 "),
        ([(X, Y), [X, Y]], TypeError, "(?s)Pass a tuple.*chunk 1 "),
        ([(X, Y), None], TypeError, "(?s)got None.*chunk 1 "),
        ((X, Y), ValueError, "(?s)requires y.*In chunk 0 .*read as X alone"),
        ([(X, Y), (X[:, :2], Y)], ValueError, "(?s)2 features.*chunk 1 "),
        ([(X, Y), (X, Y[:50])], ValueError, "(?s)inconsistent numbers.*chunk 1 "),
        ([(X, Y), (X, SCORES[:, :2])], ValueError, r"(?s)y has shape \(96, 2\).*chunk 1 "),
        ([(X, Y), (X, np.where(Y > 2, np.nan, Y))], ValueError, "(?s)y contains NaN.*chunk 1 "),
        ([(X, Y), (X.astype(np.float32), Y)], ValueError, "(?s)dtype float32; the first had float64.*chunk 1 "),
        ([(X, Y), (X, Y, WEIGHT)], ValueError, "(?s)This chunk has sample weights, unlike.*chunk 1 "),
        ([(X, Y, WEIGHT), (X, Y)], ValueError, "(?s)This chunk has no sample weights, unlike.*chunk 1 "),
        ([(X, Y, WEIGHT), (X, Y, -WEIGHT)], ValueError, "(?s)Negative values.*chunk 1 "),
        ([(X, Y, 0 * WEIGHT)] * 2, ValueError, "sample_weight is zero for every sample"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) > 1 else "",
)
def test_wrong_chunks_are_refused(chunks, error, message):
    """The message says what came and what to do, a note in which chunk."""
    with pytest.raises(error, match=message):
        begun(AnalyticRegressor()).fit_chunks(chunks)


def test_targets_outside_the_domain_of_the_loss_are_refused():
    """In whichever chunk they are."""
    with pytest.raises(ValueError, match="poisson: y") as caught:
        begun(AnalyticRegressor(loss="poisson")).fit_chunks([(X, abs(Y)), (X, Y)])
    assert caught.value.__notes__ == ["In chunk 1 (counted from 0)."]


@pytest.mark.parametrize(
    ("chunks", "classes", "message"),
    [
        ([(X, Y_CLASSES), (X, Y_CLASSES + 1)], [0, 1, 2], r"(?s)labels \[3\] that are not among.*chunk 1 "),
        ([(X, Y_CLASSES), (X, Y_LABELS)], None, "(?s)differs in kind.*chunk 1 "),
        ([(X, Y_CLASSES), X], None, "(?s)no y.*chunk 1 "),
        ([(X, 0 * Y_CLASSES)] * 2, None, "at least 2 classes"),
        ([(X, Y_CLASSES), (X, Y)], None, "(?s)Unknown label type.*chunk 1 "),
    ],
    ids=["unseen", "another kind", "none", "one class", "floats"],
)
def test_wrong_labels_are_refused(chunks, classes, message):
    """Likewise."""
    with pytest.raises(ValueError, match=message):
        begun(AnalyticClassifier()).fit_chunks(chunks, classes=classes)


def changing(first, later):
    """A generator function that yields something else from its second call on."""
    calls = []

    def chunks():
        calls.append(0)
        yield from first if len(calls) == 1 else later

    return chunks


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ([(X, Y), (X[:90], Y[:90])], "(?s)has 90 samples; it had 96 when.*chunk 1 "),
        ([(X, Y), (X[:0], Y[:0])], "(?s)has 0 samples; it had 96"),
        ([(X, Y)], "Chunk 1 .*is missing"),
        ([(X, Y)] * 3, "more than the 2 chunks"),
        ([(X, Y), (X.astype(np.float32), Y)], "(?s)dtype float32; the first had float64.*chunk 1 "),
    ],
    ids=["fewer rows", "none", "fewer chunks", "more chunks", "another dtype"],
)
def test_chunks_that_change_between_passes_are_refused(later, message):
    """Training would otherwise go on with other rows than were counted."""
    with pytest.raises(ValueError, match=message):
        begun(AnalyticRegressor()).fit_chunks(changing([(X, Y), (X, Y)], later))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("as_sequence", [True, False])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_chunk_without_rows_has_to_stay_so(place, as_sequence, optimizer):
    """Its rows would never be read, whichever chunks come before and after."""
    passes = [(X[:0], Y[:0]), (X, Y)]
    chunks = [partial(tuple, (X, Y))] * 2
    chunks.insert(place, lambda: passes.pop(0) if len(passes) > 1 else passes[0])
    source = chunks if as_sequence else lambda: (load() for load in chunks)
    with pytest.raises(ValueError, match=f"(?s)has 96 samples; it had 0 when.*chunk {place} "):
        begun(AnalyticRegressor(), optimizer=optimizer).fit_chunks(source)


SPARSE_AND_DENSE = [(csr_array(X), SCORES[:, :2]), (X, SCORES[:, :2])]


@pytest.mark.parametrize("form", USER_MODELS[AnalyticRegressor])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("between_passes", [False, True])
def test_chunks_are_sparse_all_or_none(form, order, between_passes):
    """A batch is of one kind, whatever the form of the gradient; the chunk is named."""
    first, other = SPARSE_AND_DENSE[::order]
    chunks = changing([first, first], [first, other]) if between_passes else [first, other]
    model = begun(AnalyticRegressor(**USER_MODELS[AnalyticRegressor][form]))
    with pytest.raises(
        ValueError, match="(?s)a (sparse X; in the first it was dense|dense X; in the first it was sparse).*chunk 1 "
    ):
        model.fit_chunks(chunks)


@pytest.mark.parametrize("fails_at", [0, 2, 3, 6], ids=["survey", "survey, later", "first epoch", "second epoch"])
def test_what_a_loader_raises_comes_through_with_the_number_of_its_chunk(fails_at):
    """Whenever it is called."""
    calls = []

    def load(number):
        calls.append(number)
        if len(calls) == fails_at + 1:
            raise OSError("disk")
        return X[number::3], Y[number::3]

    with pytest.raises(OSError, match="disk") as caught:
        begun(AnalyticRegressor()).fit_chunks([partial(load, number) for number in range(3)])
    assert f"In chunk {calls[-1]} (counted from 0)." in caught.value.__notes__


def test_what_a_callable_raises_names_the_chunk():
    """Beside epoch and batch."""

    def gradient(params, X, y):
        if X[0, 0] == 2:
            raise RuntimeError("2")
        return X.sum(axis=0)

    model = AnalyticRegressor(
        lambda params, X: X @ params, gradient, np.zeros(2), loss=None, check_gradient=False, shuffle=False
    )
    tables = [np.full((5, 2), number) for number in (1.0, 2.0)]
    with pytest.raises(RuntimeError) as caught:
        model.fit_chunks([(table, table[:, 0]) for table in tables])
    assert "In chunk 1 (counted from 0)." in caught.value.__notes__
    assert "In epoch 0, batch 1 (both counted from 0)." in caught.value.__notes__


def test_a_loss_that_is_no_sum_over_rows_needs_one_chunk():
    """The error says so before the first step."""
    from sk_analytic.losses import SquaredError

    class Whole(SquaredError):
        additive = False

    model = begun(AnalyticRegressor(loss=Whole(), optimizer="lbfgs"))
    model.fit_chunks([(X, Y)])
    with pytest.raises(ValueError, match="does not decompose over samples.*Chunks.* must be joined"):
        model.fit_chunks(cut(X, Y, into=40))


def test_generators_are_closed_before_they_are_begun_anew():
    """So that a file that one holds open is closed: none is left half way but the last."""
    state = {"open": 0, "most": 0}

    def chunks():
        state["open"] += 1
        state["most"] = max(state["most"], state["open"])
        try:
            yield from cut(X, Y, into=40)
        finally:
            state["open"] -= 1

    begun(AnalyticRegressor(early_stopping=True)).fit_chunks(chunks)
    assert state == {"open": state["open"], "most": 1}
