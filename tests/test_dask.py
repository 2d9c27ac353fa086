"""Fits on a cluster: exact, the same call as on arrays, and nothing lost when workers die."""

import gc
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from models import USER_MODELS, rates_forward, rates_init, rates_vjp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
da = pytest.importorskip("dask.array", reason="dask.array is not installed")

import dask  # noqa: E402
from clusters import Workers  # noqa: E402
from test_chunks import SCORES, TASKS, WEIGHT, N, X, assert_same_fit, begun, cut  # noqa: E402

from sk_analytic import (  # noqa: E402
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    get_loss_names,
)
from sk_analytic.callback_support import CallbackSupportMixin  # noqa: E402
from sk_analytic.data import dask_rows  # noqa: E402
from sk_analytic.data.cluster import Actor, Cluster  # noqa: E402
from sk_analytic.data.dask_rows import DaskRows, apportioned  # noqa: E402

try:
    import dask.dataframe as dd
except ImportError:  # where pyarrow and numpy do not go together
    dd = None

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:An evaluation on the cluster takes:UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of dask's own sockets when a worker is killed
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LONGEST = 150  # seconds of a test
SIZES = [40, 3, 0, 30, 23]  # of chunks: uneven, and one without rows
ENDS = np.cumsum(SIZES)[:-1].tolist()


class _TooLongError(BaseException):
    """What no code takes for an error of its own."""


@pytest.fixture(autouse=True)
def _within_time():
    """End a test that hangs."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def too_long(*_):
        raise _TooLongError(f"The test took more than {LONGEST} seconds.")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def workers():
    """Two workers."""
    both = Workers(2)
    yield both
    both.close()


@pytest.fixture
def client(workers):
    """Their client."""
    workers.refill(2)
    return workers.client


def delayed(chunks):
    """Chunks that are loaded on the workers."""
    return [dask.delayed(chunk, pure=False) for chunk in chunks]


def local(estimator, *arrays):
    """What `fit_chunks` makes of the chunks in this process."""
    return estimator.fit_chunks(cut(*arrays, into=ENDS))


def collection(array, into=ENDS):
    """An array in chunks."""
    return da.concatenate([da.from_array(part, chunks=-1) for part in np.split(array, into) if len(part)])


# ---- full batch: to the bit ----


@pytest.mark.parametrize(("estimator", "y"), TASKS.values(), ids=TASKS)
def test_a_full_batch_is_that_of_chunks_in_this_process(client, estimator, y):
    """Every estimator and gradient form, uneven chunks and an empty one: the same bits."""
    given = (X, WEIGHT) if y is None else (X, y, WEIGHT)
    names = ("X", "sample_weight") if y is None else ("X", "y", "sample_weight")
    chunks = [dict(zip(names, chunk, strict=True)) for chunk in cut(*given, into=ENDS)]
    settings = {"optimizer": "lbfgs", "check_gradient": False}
    ours = begun(estimator, **settings).fit_chunks(delayed(chunks))
    assert_same_fit(ours, begun(estimator, **settings).fit_chunks(chunks))


@pytest.mark.parametrize("loss", get_loss_names())
def test_every_loss_by_name_is_that_of_chunks(client, loss):
    """To the last bit, and against one array to rounding."""
    y = np.exp(SCORES[:, 0] / 3)
    cls = {"log_loss": AnalyticClassifier, "negative_log_likelihood": AnalyticDensity}.get(loss, AnalyticRegressor)
    y = {"log_loss": SCORES.argmax(axis=1), "negative_log_likelihood": None}.get(loss, y)
    estimator = cls(loss=loss, optimizer="lbfgs")
    arrays = (X,) if y is None else (X, y)
    ours = begun(estimator).fit_chunks(delayed(cut(*arrays, into=ENDS)))
    assert_same_fit(ours, local(begun(estimator), *arrays))


@pytest.mark.parametrize("optimizer", ["lm", "trf", "dogbox", "bfgs", "trust-ncg"])
def test_other_full_batch_methods(client, optimizer):
    """Those of least squares get the triangles of chunks."""
    estimator = begun(AnalyticRegressor(**USER_MODELS[AnalyticRegressor]["jacobian"]), optimizer=optimizer)
    y = SCORES[:, :2]
    ours = begun(estimator, optimizer=optimizer).fit_chunks(delayed(cut(X, y, WEIGHT, into=ENDS)))
    assert_same_fit(ours, local(begun(estimator, optimizer=optimizer), X, y, WEIGHT))
    whole = begun(estimator, optimizer=optimizer).fit(X, y, WEIGHT)
    for name, block in whole.params_.items():
        assert_allclose(ours.params_[name], block, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_convex_loss_ends_where_it_does_on_one_array(client, dtype, alpha):
    """To 1e-12 of the largest coefficient in float64."""
    y = SCORES[:, 0] > 0
    settings = {"alpha": alpha or 1e-3, "optimizer": "trust-ncg", "tol": 1e-10 if dtype == np.float64 else 1e-4}
    ours = AnalyticClassifier(**settings).fit(collection(X.astype(dtype)), collection(y))
    whole = AnalyticClassifier(**settings).fit(X.astype(dtype), y)
    largest = np.abs(whole.coef_).max()
    assert ours.coef_.dtype == dtype
    assert np.abs(ours.coef_ - whole.coef_).max() <= (1e-12 if dtype == np.float64 else 1e-4) * largest


def test_parts_of_a_full_batch_and_a_penalty(client):
    """``batch_size`` is the size of the parts that are summed, in each chunk by itself."""
    settings = {"optimizer": "lbfgs", "batch_size": 7, "alpha": 0.1}
    ours = begun(AnalyticRegressor(**settings)).fit_chunks(delayed(cut(X, SCORES[:, 0], into=ENDS)))
    assert_same_fit(ours, local(begun(AnalyticRegressor(**settings)), X, SCORES[:, 0]))


def test_random_numbers_are_those_of_chunks(client):
    """Each chunk has its own."""

    def loss_and_gradient(params, X, y, rng):
        noisy = X + rng.normal(size=X.shape)
        residual = noisy @ params - y
        return 0.5 * np.mean(residual**2), noisy.T @ residual / len(X)

    settings = {"init": np.zeros(3), "optimizer": "lbfgs", "check_gradient": False, "additive": True}
    estimator = AnalyticRegressor(
        forward=lambda params, X: X @ params, loss=None, loss_and_gradient=loss_and_gradient, **settings
    )
    ours = begun(estimator).fit_chunks(delayed(cut(X, SCORES[:, 0], into=ENDS)))
    assert_same_fit(ours, local(begun(estimator), X, SCORES[:, 0]))


# ---- minibatches ----


def test_one_chunk_trains_as_fit_does(client):
    """The same rows in the same order: the same bits."""
    settings = {"optimizer": "adam", "batch_size": 20, "max_iter": 5, "tol": None, "random_state": 0}
    ours = AnalyticRegressor(**settings).fit(da.from_array(X, chunks=-1), da.from_array(SCORES[:, 0], chunks=-1))
    assert_same_fit(ours, AnalyticRegressor(**settings).fit(X, SCORES[:, 0]))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_a_step_takes_its_share_of_every_chunk(client, shuffle, drop_last):
    """Each row once in an epoch, in batches of one size with rows of all chunks, and in other orders in each epoch."""
    numbered = np.arange(float(N)).reshape(-1, 1)
    settings = {"batch_size": 20, "shuffle": shuffle, "drop_last": drop_last, "optimizer": "sgd", "tol": None}
    taken = []

    def gradient(params, X):
        return np.bincount(X[:, 0].astype(int), minlength=N) / len(X)

    model = AnalyticDensity(
        forward=lambda params, X: np.zeros(len(X)), gradient=gradient, init=np.zeros(N), loss=None, **settings
    )
    model.set_params(optimizer__learning_rate=1.0, max_iter=2, check_gradient=False, random_state=0)
    training_step = DaskRows.contribution

    def spied(self, objective, theta, epoch, step):
        found = training_step(self, objective, theta, epoch, step)
        taken.append(np.flatnonzero(found.gradient))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DaskRows, "contribution", spied)
        model.fit(collection(numbered))
    sizes = [20, 20, 20, 20] + ([] if drop_last else [16])
    assert [len(rows) for rows in taken] == 2 * sizes
    first, second = (np.concatenate(each) for each in (taken[: len(sizes)], taken[len(sizes) :]))
    assert len(set(first)) == len(set(second)) == sum(sizes)
    assert np.array_equal(first, second) != shuffle
    counts = tuple(size for size in SIZES if size)
    ends = np.array([apportioned(counts, n) for n in np.cumsum([0, *sizes])])
    for rows, expected in zip(taken[: len(sizes)], np.diff(ends, axis=0), strict=True):
        assert np.histogram(rows, [0, *np.cumsum(counts)])[0].tolist() == expected.tolist()


def test_shares_are_those_of_webster():
    """One row after the other, where (2 k + 1) / (2 rows) is smallest, the first of equals."""
    rng = np.random.default_rng(0)
    tables = [rng.integers(1, rng.integers(2, 60), size=rng.integers(1, 12)).tolist() for _ in range(60)]
    for counts in [*tables, [1000, 1, 1, 1], [1, 1, 1, 1000], [5, 5, 5]]:
        taken = [0] * len(counts)
        for n in range(min(sum(counts), 300) + 1):
            assert apportioned(tuple(counts), n) == taken
            if n < sum(counts):
                index = min(
                    (i for i, rows in enumerate(counts) if taken[i] < rows),
                    key=lambda i: (2 * taken[i] + 1) / counts[i],
                )
                taken[index] += 1
        assert apportioned(tuple(counts), sum(counts)) == counts


def test_the_bits_do_not_depend_on_who_computes(client, monkeypatch):
    """400 steps of Adam with the chunks on other workers, and all of them on one."""
    settings = {"optimizer": "adam", "batch_size": 12, "max_iter": 50, "tol": None, "random_state": 0}
    chunks = delayed(cut(X, SCORES[:, 0], WEIGHT, into=ENDS))
    first = AnalyticRegressor(**settings).fit_chunks(chunks)
    assert first.n_steps_ == 400

    def turned(self, numbers, workers):
        return {workers[-1]: list(numbers[::2]), workers[0]: list(numbers[1::2])}

    def on_one(self, numbers, workers):
        return {workers[0]: list(numbers)}

    for places in (turned, on_one):
        monkeypatch.setattr(DaskRows, "_assignment", places)
        assert_same_fit(AnalyticRegressor(**settings).fit_chunks(chunks), first)


def test_rows_sorted_by_label(client):
    """Every step has rows of all chunks, so that their order is no matter."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 4))
    label = (features @ [1.0, -1.0, 0.5, 0.0] + rng.normal(size=4000)) > 0
    settings = {"optimizer": "adam", "batch_size": 200, "max_iter": 3, "tol": None, "random_state": 0}
    ends = {}
    for name, order in {"sorted": np.argsort(label, kind="stable"), "shuffled": rng.permutation(4000)}.items():
        fitted = AnalyticClassifier(**settings).fit(
            da.from_array(features[order], chunks=(1000, 4)), da.from_array(label[order], chunks=1000)
        )
        ends[name] = fitted.mean_loss(features, label)
    assert ends["sorted"] == pytest.approx(ends["shuffled"], rel=0.05)


def test_row_gradients_stay_so(client):
    """An embedding of which a batch touches few rows: those that none of the chunks touches keep their momentum."""
    words = np.random.default_rng(0).integers(0, 30, size=(N, 1)).astype(float)

    def gradient(params, X, y):
        rows = X[:, 0].astype(int)
        return {"table": (rows, (params["table"][rows] - y) / len(X))}

    estimator = AnalyticRegressor(
        forward=lambda params, X: params["table"][X[:, 0].astype(int)],
        gradient=gradient,
        init={"table": np.zeros(30)},
        optimizer="adam",
        batch_size=8,
        tol=None,
    )
    one = begun(estimator).fit(da.from_array(words, chunks=-1), da.from_array(SCORES[:, 0], chunks=-1))
    assert_same_fit(one, begun(estimator).fit(words, SCORES[:, 0]))
    several = begun(estimator, batch_size=N).fit(collection(words), collection(SCORES[:, 0]))
    assert_same_fit(several, begun(estimator, batch_size=N).fit(words, SCORES[:, 0]), rtol=1e-12)


# ---- what the data may be ----


def test_collections_in_other_chunks_are_cut_alike(client):
    """Arrays, frames and series, of known lengths and not; arrays in memory too."""
    y, exposure = np.random.default_rng(0).poisson(np.exp(SCORES[:, 0] / 4)), np.exp(SCORES[:, 1] / 5)
    settings = {"forward": rates_forward, "vjp": rates_vjp, "init": rates_init, "loss": "poisson", "alpha": 0.1}
    estimator = AnalyticRegressor(**settings, optimizer="lbfgs", accept_sparse=True)
    whole = estimator.fit(X, y, WEIGHT, exposure=exposure).params_
    unknown = da.from_array(X, chunks=(20, 2))
    unknown = unknown[unknown[:, 0] < np.inf]
    sparse = da.from_array(X, chunks=(24, 3)).map_blocks(csr_matrix, dtype=float)
    targets = da.from_array(y, chunks=31)
    of_frames = []
    if dd is not None:
        frame, series = pd.DataFrame(X, columns=list("abc")), pd.Series(y)
        of_frames = [(dd.from_pandas(frame, npartitions=3), dd.from_pandas(series, npartitions=2))]
    for rows, target in [(collection(X), targets), (unknown, targets), (sparse, y), *of_frames]:
        fitted = estimator.fit(rows, target, collection(WEIGHT, [10]), exposure=da.from_array(exposure, chunks=50))
        assert_allclose(fitted.params_["w"], whole["w"], rtol=1e-6)
    assert np.isnan(unknown.chunks[0]).all()  # the user's own is as it was


def test_names_of_columns_are_learned(client):
    """From the first chunk; those of the others are compared."""
    if dd is None:
        pytest.skip("dask.dataframe needs a newer NumPy")
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = AnalyticRegressor().fit(dd.from_pandas(frame, npartitions=3), da.from_array(SCORES[:, 0], chunks=40))
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c"]
    predicted = fitted.predict(dd.from_pandas(frame, npartitions=2)).compute()
    assert_allclose(predicted, fitted.predict(frame), rtol=1e-10)


@pytest.mark.parametrize("class_weight", [None, "balanced", {"a": 1, "b": 3, "c": 0.5}])
def test_classes_of_all_chunks_are_known(client, class_weight):
    """Labels of any kind, of which a chunk may lack some; weights of classes are those of all rows."""
    order = np.argsort(SCORES.argmax(axis=1), kind="stable")
    rows, labels, weight = X[order], np.array(["a", "b", "c"])[SCORES.argmax(axis=1)[order]], WEIGHT[order]
    settings = {"class_weight": class_weight, "optimizer": "lbfgs", "alpha": 1e-2, "tol": 1e-8}
    ours = AnalyticClassifier(**settings).fit(collection(rows), collection(labels), collection(weight))
    whole = AnalyticClassifier(**settings).fit(rows, labels, weight)
    assert ours.classes_.tolist() == ["a", "b", "c"]
    assert_allclose(ours.coef_, whole.coef_, rtol=1e-6, atol=1e-8)
    assert_same_fit(ours, local(AnalyticClassifier(**settings), rows, labels, weight), rtol=1e-12)


def test_futures_and_mixed_chunks(client):
    """A future of the cluster, a delayed function, a tuple of delayed parts, an array in memory."""
    parts = cut(X, SCORES[:, 0], into=24)
    load = dask.delayed(lambda part: part, pure=False)
    chunks = [client.submit(tuple, parts[0]), load(parts[1]), tuple(map(load, parts[2])), parts[3]]
    estimator = AnalyticRegressor(optimizer="lbfgs", random_state=0)
    assert_same_fit(
        estimator.fit_chunks(chunks), AnalyticRegressor(optimizer="lbfgs", random_state=0).fit_chunks(parts)
    )


def test_auto_takes_all_rows_at_once(client):
    """A step costs a message, whatever its size."""
    fitted = AnalyticRegressor().fit(collection(X), collection(SCORES[:, 0]))
    assert type(fitted.optimizer_).__name__ == "LBFGS"
    assert_allclose(fitted.coef_, AnalyticRegressor(optimizer="lbfgs").fit(X, SCORES[:, 0]).coef_, rtol=1e-3)


# ---- early stopping ----


@pytest.mark.parametrize("scoring", [None, "neg_mean_absolute_error"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_share_of_every_chunk_is_held_out(client, shuffle, scoring):
    """It is scored as one, and the scores are those of the rows that are held out."""
    seen = []

    def keep(estimator, X, y):
        seen.append((np.asarray(estimator.predict(X)), y))
        return -float(np.mean(np.abs(seen[-1][0] - y)))

    settings = {"optimizer": "adam", "batch_size": 20, "max_iter": 6, "early_stopping": True, "shuffle": shuffle}
    settings |= {"validation_fraction": 0.25, "random_state": 0}
    ours = AnalyticRegressor(scoring=scoring, **settings).fit(collection(X), collection(SCORES[:, 0]))
    by_function = AnalyticRegressor(scoring=keep, **settings).fit(collection(X), collection(SCORES[:, 0]))
    held = seen[0][1]
    assert len(held) == N // 4
    rows = np.array([int(np.flatnonzero(SCORES[:, 0] == value)[0]) for value in held])
    in_each = np.histogram(rows, [0, *np.cumsum([size for size in SIZES if size])])[0]
    assert in_each.tolist() == apportioned(tuple(size for size in SIZES if size), N // 4)
    if scoring:
        assert ours.validation_scores_ == by_function.validation_scores_
    else:
        errors = [((y - predicted) ** 2).sum() for predicted, y in seen[1:]]
        expected = 1 - np.array(errors) / ((held - held.mean()) ** 2).sum()
        assert_allclose(ours.validation_scores_, expected, rtol=1e-10)
    if not shuffle:
        assert set(range(30, 40)) <= set(rows.tolist())


def test_held_out_rows_have_weights(client):
    """Rows of weight 0 are in neither part; the score is weighted."""
    weight = WEIGHT.copy()
    weight[::3] = 0
    settings = {"optimizer": "lbfgs", "early_stopping": True, "random_state": 0, "max_iter": 3}
    fitted = AnalyticClassifier(**settings).fit(collection(X), collection(SCORES.argmax(axis=1)), collection(weight))
    assert len(fitted.validation_scores_) == fitted.n_iter_
    density = AnalyticDensity(**settings).fit(collection(X), sample_weight=collection(weight))
    assert len(density.validation_scores_) == density.n_iter_


def test_a_validation_set_that_is_passed(client):
    """It is scored here, whether a collection or not."""
    settings = {"optimizer": "lbfgs", "early_stopping": True, "max_iter": 4}
    y = SCORES[:, 0]
    each = [
        AnalyticRegressor(**settings).fit(collection(X), collection(y), X_val=X_val, y_val=y_val).validation_scores_
        for X_val, y_val in [(X[:20], y[:20]), (da.from_array(X[:20]), da.from_array(y[:20]))]
    ]
    assert each[0] == each[1]


# ---- predictions ----


def test_predictions_are_lazy_and_those_of_arrays(client):
    """Of every method that maps rows to rows; dtype and shape are known before."""
    y, labels = SCORES[:, 0], SCORES.argmax(axis=1)
    rows = collection(X)
    fitted = {
        AnalyticRegressor().fit(X, y): ["predict"],
        AnalyticRegressor().fit(X, SCORES[:, :2]): ["predict"],
        AnalyticClassifier().fit(X, labels): ["predict", "predict_proba", "decision_function", "predict_log_proba"],
        AnalyticClassifier().fit(X, np.where(y > 0, "yes", "no")): ["predict", "decision_function"],
        AnalyticDensity().fit(X): ["score_samples"],
        AnalyticTransformer(max_iter=2, random_state=0).fit(X): ["transform"],
    }
    for estimator, methods in fitted.items():
        for method in methods:
            lazy, expected = getattr(estimator, method)(rows), getattr(estimator, method)(X)
            assert isinstance(lazy, da.Array)
            assert (lazy.shape, lazy.dtype, lazy.chunks[0]) == (expected.shape, expected.dtype, rows.chunks[0])
            found = lazy.compute()
            assert found.dtype == expected.dtype
            assert_allclose(found, expected, rtol=1e-13) if found.dtype.kind == "f" else assert_array_equal(
                found, expected
            )


def test_a_lazy_prediction_is_of_the_fit_that_was(client):
    """A later fit does not change it."""
    estimator = AnalyticRegressor().fit(X, SCORES[:, 0])
    expected, lazy = estimator.predict(X), estimator.predict(collection(X))
    estimator.fit(X, SCORES[:, 1])
    assert_allclose(lazy.compute(), expected, rtol=1e-13)


def test_scores_of_collections(client):
    """What they are of arrays."""
    y, labels = SCORES[:, 0], SCORES.argmax(axis=1)
    rows, weight = collection(X), collection(WEIGHT)
    for estimator, target in [
        (AnalyticRegressor(), y),
        (AnalyticClassifier(), labels),
        (AnalyticDensity(), None),
        (AnalyticRegressor(**USER_MODELS[AnalyticRegressor]["loss_and_gradient"]), SCORES[:, :2]),
    ]:
        fitted = estimator.fit(X, target)
        given = None if target is None else collection(target)
        assert fitted.score(rows, given, weight) == pytest.approx(fitted.score(X, target, WEIGHT), rel=1e-12)
        assert fitted.mean_loss(rows, given, weight) == pytest.approx(fitted.mean_loss(X, target, WEIGHT), rel=1e-12)


def test_metadata_of_lazy_predictions(client):
    """They are cut as X is, or refused with both chunkings."""
    exposure = np.exp(SCORES[:, 1] / 5)
    y = np.random.default_rng(0).poisson(exposure)
    model = AnalyticRegressor(forward=rates_forward, vjp=rates_vjp, init=rates_init, loss="poisson")
    model.fit(X, y, exposure=exposure)
    expected = model.predict(X, exposure=exposure)
    for given in (collection(exposure), da.from_array(exposure, chunks=17), exposure):
        assert_allclose(model.predict(collection(X), exposure=given).compute(), expected, rtol=1e-13)
    with pytest.raises(
        ValueError, match=r"exposure has 90 rows, in chunks of 90, but X has 96, in chunks of 40, 3, 30"
    ):
        model.predict(collection(X), exposure=da.from_array(exposure[:90], chunks=-1))


def test_it_is_an_ordinary_estimator_afterwards(client):
    """Its pickle is read, and predicts, where there is no dask."""
    fitted = AnalyticRegressor().fit(collection(X), collection(SCORES[:, 0]))
    code = """
        import pickle, sys
        class Nothing:
            def find_spec(self, name, *rest):
                if name.partition(".")[0] in ("dask", "distributed"):
                    raise ImportError(name)
        sys.meta_path.insert(0, Nothing())
        fitted, X = pickle.load(sys.stdin.buffer)
        sys.stdout.buffer.write(pickle.dumps(fitted.predict(X)))
    """
    given = pickle.dumps((fitted, X))
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], input=given, capture_output=True, check=True)
    assert_array_equal(pickle.loads(done.stdout), fitted.predict(X))


def test_dask_is_imported_only_where_it_is_used():
    """A fit of arrays does not need it."""
    code = "import sys, numpy as np; from sk_analytic import AnalyticRegressor; "
    code += "AnalyticRegressor().fit(np.eye(9), np.arange(9.0)).predict(np.eye(9)); "
    code += "assert not {'dask', 'distributed'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


# ---- what is refused ----


def test_without_a_cluster():
    """How to start one is said."""
    rows, y = da.from_array(X), da.from_array(SCORES[:, 0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed.Client, "current", classmethod(_no_client))
        with pytest.raises(RuntimeError, match="no client of a cluster to work on. Start one in this process"):
            AnalyticRegressor().fit(rows, y)


def _no_client(cls, allow_global=True):
    raise ValueError("No clients found")


def test_with_another_scheduler(client):
    """Threads of this process hold no rows."""
    with dask.config.set(scheduler="threads"), pytest.raises(RuntimeError, match="scheduler='threads'"):
        AnalyticRegressor().fit(collection(X), collection(SCORES[:, 0]))


def test_lengths_that_do_not_go_together(client):
    """Both chunkings are named."""
    with pytest.raises(
        ValueError, match=r"y has 90 rows, in chunks of 50, 40, but X has 96, in chunks of 40, 3, 30, 23"
    ):
        AnalyticRegressor().fit(collection(X), da.from_array(SCORES[:90, 0], chunks=50))


def test_a_collection_beside_an_array(client):
    """X says where the rows are."""
    with pytest.raises(TypeError, match="y is a dask Array, but X is a ndarray"):
        AnalyticRegressor().fit(X, collection(SCORES[:, 0]))


def test_what_works_in_memory_says_so(client):
    """Nothing is computed behind the user's back."""
    with pytest.raises(TypeError, match=r"X is a dask Array, but this method needs data in memory"):
        AnalyticRegressor().partial_fit(collection(X), collection(SCORES[:, 0]))


def test_a_wrong_row_is_named(client):
    """With the chunk that it is in."""
    y = np.abs(SCORES[:, 0])
    y[50] = -1.0
    with pytest.raises(ValueError, match=r"poisson: y\[7\] is -1.0, outside the loss's domain") as caught:
        AnalyticRegressor(loss="poisson").fit(collection(X), collection(y))
    assert "In chunk 2 (counted from 0)." in caught.value.__notes__


def test_an_error_on_a_worker_keeps_its_type_and_notes(client):
    """It comes as it would from here, with the chunk."""

    def vjp(params, X):
        if len(X) == 30 and params.any():
            raise ZeroDivisionError("nobody knows")
        return X @ params, lambda d: X.T @ d

    model = AnalyticRegressor(vjp=vjp, init=np.zeros(3), optimizer="lbfgs", check_gradient=False)
    with pytest.raises(ZeroDivisionError, match="nobody knows") as caught:
        model.fit(collection(X), collection(SCORES[:, 0]))
    assert "In chunk 2 (counted from 0)." in caught.value.__notes__
    assert model.params_.shape == (3,)  # the last iterate


def test_a_loss_that_is_no_sum_over_rows(client):
    """Declared, it is refused; else the comparison of halves finds it, in a full batch of several chunks too."""

    def loss_and_gradient(params, X):
        spread = X @ params
        centered = X - X.mean(axis=0)
        value = centered @ params
        return 0.5 * float(np.mean(value**2)) + 0.5 * float(params @ params) + 0 * spread[0], (
            centered.T @ value / len(X) + params
        )

    settings = {"forward": lambda params, X: X @ params, "loss": None, "init": np.ones(3)}
    model = AnalyticDensity(loss_and_gradient=loss_and_gradient, optimizer="lbfgs", **settings)
    with pytest.warns(UserWarning, match="The loss does not decompose over samples"):
        model.fit(collection(X))
    with pytest.raises(ValueError, match="does not decompose over samples"):
        model.set_params(additive=False).fit(collection(X))
    one = model.fit(da.from_array(X, chunks=-1))
    assert_allclose(one.params_, 0.0, atol=1e-3)


def test_it_says_when_messages_cost_more_than_the_work():
    """Once, after some calls; the first ones bring the objective, and do not count."""
    for computed, n_warnings in ((0.1, 1), (0.9, 0)):
        cost = dask_rows._Cost()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for call in range(30):
                cost.add(1.0, 0.0 if call < 2 else computed)
        told = [str(each.message) for each in caught]
        assert len(told) == n_warnings
        if told:
            assert "takes 1e+03 ms, of which the workers compute 1e+02 ms. The rest is communication" in told[0]


def test_the_objective_travels_once(client, monkeypatch):
    """A model parameter of 8 MB is not in the messages of the steps."""
    sizes = []
    ask = distributed.Client.sync

    def spied(self, function, *arguments, **settings):
        messages = arguments[0] if arguments and isinstance(arguments[0], dict) else {}
        sizes.extend(len(message) for message in messages.values() if isinstance(message, bytes))
        return ask(self, function, *arguments, **settings)

    monkeypatch.setattr(distributed.Client, "sync", spied)
    table = np.zeros(1_000_000)
    model = AnalyticRegressor(
        vjp=lambda params, X, table: (X @ params + table[0], lambda d: X.T @ d),
        model_params={"table": table},
        init=np.zeros(3),
        optimizer="adam",
        batch_size=20,
        max_iter=5,
        tol=None,
        early_stopping=True,
    )
    model.fit(collection(X), collection(SCORES[:, 0]))
    large = [size for size in sizes if size > table.nbytes]
    assert len(large) <= 4  # to each worker, for the rows that train and those that are scored
    assert sum(size < 10_000 for size in sizes) > 30


@pytest.mark.skipif(CallbackSupportMixin is None, reason="callbacks came with scikit-learn 1.9")
def test_a_callback_that_asks_for_the_rows(client):
    """They never come together: it is refused, and others are told as ever."""
    from sklearn.callback import ScoringMonitor

    from sk_analytic.callbacks import GradientMonitor

    given = collection(X), collection(SCORES[:, 0])
    model = AnalyticRegressor(optimizer="adam", max_iter=2).set_callbacks(ScoringMonitor(scoring="r2"))
    with pytest.raises(
        TypeError, match="A callback requests the samples of the fit, which are distributed over the workers"
    ):
        model.fit(*given)
    fitted = AnalyticRegressor(optimizer="adam", max_iter=2).set_callbacks(GradientMonitor()).fit(*given)
    assert fitted.n_iter_ == 2


# ---- local steps ----


def test_local_steps_train_as_far(client):
    """With five steps between the averages; each chunk takes its share of the rows in every step."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 4))
    y = rows @ [1.0, -2.0, 0.5, 0.0] + 0.1 * rng.normal(size=2000)
    settings = {"optimizer": "adam", "batch_size": 50, "max_iter": 12, "tol": None, "random_state": 0}
    given = da.from_array(rows, chunks=(500, 4)), da.from_array(y, chunks=500)
    local_ones, plain = (AnalyticRegressor(local_steps=k, **settings).fit(*given) for k in (5, 1))
    assert local_ones.n_steps_ == plain.n_steps_ == 480
    assert local_ones.loss_ == pytest.approx(plain.loss_, rel=0.1)
    again = AnalyticRegressor(local_steps=5, **settings).fit(*given)
    assert_same_fit(again, local_ones)


def test_local_steps_on_one_chunk_are_those_of_fit(client):
    """There is nothing to average."""
    settings = {"optimizer": "adam", "batch_size": 20, "max_iter": 5, "tol": None, "random_state": 0}
    given = da.from_array(X, chunks=-1), da.from_array(SCORES[:, 0], chunks=-1)
    ours = AnalyticRegressor(local_steps=3, **settings).fit(*given)
    for name, block in AnalyticRegressor(**settings).fit(X, SCORES[:, 0]).params_.items():
        assert_allclose(ours.params_[name], block, rtol=1e-14)


@pytest.mark.parametrize("kind", ["classes", "loss"])
def test_local_steps_on_chunks_that_differ(client, kind):
    """A warning says in what."""
    order = np.argsort(SCORES[:, 0])
    rows = da.from_array(np.tile(X[order], (10, 1)).reshape(10, N, 3).swapaxes(0, 1).reshape(-1, 3), chunks=(240, 3))
    y = np.repeat(SCORES[order, 0], 10)
    settings = {"optimizer": "adam", "batch_size": 200, "max_iter": 1, "tol": None, "local_steps": 2}
    if kind == "classes":
        labels = np.where(y > 0, "yes", "no").astype(object)
        with pytest.warns(UserWarning, match="The chunks differ in their proportions of class 'yes'"):
            AnalyticClassifier(**settings).fit(rows, da.from_array(labels, chunks=240))
    else:
        with pytest.warns(UserWarning, match="The chunks differ in the initial loss"):
            AnalyticRegressor(**settings).fit(rows, da.from_array(y, chunks=240))


def test_local_steps_without_a_loss(client):
    """The gradient alone judges."""
    model = AnalyticRegressor(
        forward=lambda params, X: X @ params,
        gradient=lambda params, X, y: X.T @ (X @ params - y) / len(X),
        init=np.zeros(3),
        loss=None,
        optimizer="adam",
        batch_size=20,
        max_iter=20,
        local_steps=2,
        random_state=0,
    )
    fitted = model.fit(collection(X), collection(SCORES[:, 0]))
    assert fitted.gradient_norm_curve_[-1] < fitted.gradient_norm_curve_[0]
    assert not fitted.loss_curve_


# ---- searches ----


def test_a_search_whose_fits_run_on_the_cluster(client):
    """joblib's backend sends the estimators, closures and all."""
    shift = 1.0

    def vjp(params, X):
        return X @ params + 0 * shift, lambda d: X.T @ d

    grid = {"optimizer": ["adam", "lbfgs"], "alpha": [0.0, 0.1]}
    search = GridSearchCV(AnalyticRegressor(vjp=vjp, init=np.zeros(3), random_state=0), grid, cv=3)
    with joblib.parallel_config(backend="dask"):
        search.fit(X, SCORES[:, 0])
    here = GridSearchCV(AnalyticRegressor(vjp=vjp, init=np.zeros(3), random_state=0), grid, cv=3).fit(X, SCORES[:, 0])
    assert_allclose(search.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"], rtol=1e-10)


# ---- workers die ----

KILLED = {
    "full batch": {"optimizer": "lbfgs", "max_iter": 30, "tol": None},
    "minibatch": {"optimizer": "adam", "batch_size": 100, "max_iter": 4, "tol": None},
    "early stopping": {"optimizer": "adam", "batch_size": 100, "max_iter": 4, "tol": None, "early_stopping": True},
    "local steps": {"optimizer": "adam", "batch_size": 100, "max_iter": 4, "tol": None, "local_steps": 3},
}


def load(number):
    """A chunk that is made where it is needed."""
    rng = np.random.default_rng(number)
    rows = rng.normal(size=(500, 4))
    return rows, rows @ [1.0, -2.0, 0.5, 0.0] + 0.1 * rng.normal(size=500)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("settings", KILLED.values(), ids=KILLED)
def test_a_worker_that_is_killed(workers, monkeypatch, settings, seed):
    """Before any of the messages of a fit: the same bits. What it costs say the benchmarks."""
    workers.refill(2)
    chunks = [dask.delayed(load, pure=False)(number) for number in range(4)]
    messages, ask = [], Cluster.ask

    def killing(self, requests):
        messages.append(len(requests))
        if len(messages) == deadly:
            workers.kill()
        return ask(self, requests)

    monkeypatch.setattr(Cluster, "ask", killing)
    deadly = None
    expected = AnalyticRegressor(random_state=0, **settings).fit_chunks(chunks)
    deadly = int(np.random.default_rng(seed).integers(1, len(messages) + 1))
    messages.clear()
    fitted = AnalyticRegressor(random_state=0, **settings).fit_chunks(chunks)
    assert len(workers.alive) == 1
    assert_same_fit(fitted, expected)


def test_a_worker_that_is_killed_while_data_are_read(workers, monkeypatch):
    """Its chunks are read elsewhere."""
    workers.refill(2)
    chunks = [dask.delayed(load, pure=False)(number) for number in range(4)]
    expected = AnalyticRegressor(**KILLED["full batch"]).fit_chunks(chunks)
    waits, wait = [], Cluster.wait

    def killing(self, futures, numbers=None):
        waits.append(len(futures))
        if len(waits) == 3:
            workers.kill()
        return wait(self, futures, numbers)

    monkeypatch.setattr(Cluster, "wait", killing)
    assert_same_fit(AnalyticRegressor(**KILLED["full batch"]).fit_chunks(chunks), expected)
    assert len(workers.alive) == 1


@pytest.mark.skipif(CallbackSupportMixin is None, reason="callbacks came with scikit-learn 1.9")
def test_all_workers_are_killed(workers, tmp_path):
    """An error within the time limit, the last θ is kept, and the fit goes on from its file to the same bits."""
    from sk_analytic.callbacks import Checkpoint

    workers.refill(2)
    settings = {"optimizer": "adam", "batch_size": 100, "max_iter": 6, "tol": None, "random_state": 0}
    chunks = [dask.delayed(load, pure=False)(number) for number in range(4)]
    expected = AnalyticRegressor(**settings).fit_chunks(chunks)
    model = AnalyticRegressor(worker_timeout=8.0, **settings)
    checkpoint = Checkpoint(tmp_path / "fit.pkl", resume=True)
    model.set_callbacks(checkpoint, _Killer(workers, epoch=3))
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"No answer from the cluster for worker_timeout=8 seconds"):
        model.fit_chunks(chunks)
    assert time.monotonic() - begin < 60
    assert model.n_iter_ >= 3
    assert np.isfinite(model.coef_).all()
    workers.refill(2)
    resumed = AnalyticRegressor(**settings).set_callbacks(Checkpoint(tmp_path / "fit.pkl", resume=True))
    assert_same_fit(resumed.fit_chunks(chunks), expected)


class _Killer:
    """A callback that kills all workers after an epoch."""

    def __init__(self, workers, epoch):
        self.workers, self.epoch, self.seen = workers, epoch, 0

    def on_fit_begin(self, *args, **settings):
        pass

    def setup(self, *args, **settings):
        pass

    def teardown(self, *args, **settings):
        pass

    def on_fit_task_begin(self, *args, **settings):
        pass

    def on_fit_task_end(self, *args, **settings):
        self.seen += 1
        if self.seen == self.epoch:
            for process in self.workers.alive:
                self.workers.kill(process)


def test_data_that_cannot_be_computed_again(workers, monkeypatch):
    """What was scattered is lost with its worker, and the error says so."""
    workers.refill(2)
    addresses = list(workers.client.nthreads())
    parts = [workers.client.scatter(load(number), workers=[addresses[number % len(addresses)]]) for number in range(4)]
    messages, ask = [], Cluster.ask

    def killing(self, requests):
        messages.append(len(requests))
        if len(messages) == 10:
            workers.kill()
        return ask(self, requests)

    monkeypatch.setattr(Cluster, "ask", killing)
    model = AnalyticRegressor(optimizer="adam", batch_size=50, max_iter=10, tol=None)
    with pytest.raises(RuntimeError, match=r"Chunks of the data were lost or cancelled and cannot be recomputed"):
        model.fit_chunks(parts)
    assert np.isfinite(model.coef_).all()


# ---- found by outsiders ----


def test_nothing_but_the_first_chunk_is_fetched(client, monkeypatch):
    """Rows that are trained on stay where they are, and nothing is left of a fit, though chunks were waited for."""
    fetched, gather = [], distributed.Client.gather

    def spied(self, futures, *arguments, **settings):
        fetched.append(len(futures))
        return gather(self, futures, *arguments, **settings)

    def slowly(block):
        time.sleep(0.3)
        return block

    rows = da.random.default_rng(0).normal(size=(4000, 50), chunks=(500, 50)).map_blocks(slowly)
    monkeypatch.setattr(distributed.Client, "gather", spied)
    gc.collect()
    gc.disable()  # what a cycle of references holds would stay on the workers until Python looks for cycles
    try:
        before = len(client.futures)
        AnalyticDensity(optimizer="adam", batch_size=500, max_iter=2, early_stopping=True).fit(rows)
        monkeypatch.undo()
        assert_released(client)
        assert_within(5, lambda: len(client.futures) <= before)  # another thread of the client's lets go of them
    finally:
        gc.enable()
    assert max(fetched) == 8  # what is known of each chunk


def assert_released(client):
    """No actor is left on the workers, or will be in a moment."""
    assert_within(5, lambda: not any(client.run(lambda dask_worker: len(dask_worker.state.actors)).values()))


def assert_within(seconds, holds):
    """Something becomes true in some seconds."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < seconds
        time.sleep(0.05)


class _OtherArgumentsError(Exception):
    def __init__(self, code, words):
        super().__init__(f"{code}: {words}")


class _LockedError(Exception):
    def __init__(self, words):
        super().__init__(words)
        self.lock = threading.Lock()


@pytest.mark.parametrize("kind", [_OtherArgumentsError, _LockedError, KeyboardInterrupt, RecursionError])
def test_errors_that_do_not_travel(client, kind):
    """Their words come, and the worker lives on; nothing of the fit stays there."""

    def vjp(params, X):
        if len(X) == 30 and params.any():
            raise kind(3, "bad data") if kind is _OtherArgumentsError else kind("bad data")
        return X @ params, lambda d: X.T @ d

    model = AnalyticRegressor(vjp=vjp, init=np.zeros(3), optimizer="lbfgs", check_gradient=False)
    with pytest.raises((RuntimeError, RecursionError), match="bad data") as caught:
        model.fit(collection(X), collection(SCORES[:, 0]))
    assert kind is KeyboardInterrupt or any("In chunk" in note for note in caught.value.__notes__)
    assert len(client.nthreads()) == 2
    assert_released(client)  # though the error, with its traceback, is still at hand


def test_failed_surveys_leave_nothing(client):
    """The error that the client keeps does not keep the rows."""
    y = SCORES[:, 0].copy()
    y[-1] = np.nan
    before = len(client.futures)
    for _ in range(3):
        with pytest.raises(ValueError, match="Input y contains NaN") as caught:
            AnalyticRegressor().fit(collection(X), collection(y))
        assert "In chunk 3 (counted from 0)." in caught.value.__notes__
        del caught
        gc.collect()
    assert_within(5, lambda: len(client.futures) <= before)


def test_what_cannot_be_sent_is_named(client):
    """A lock in a closure; in a function that only this process calls it is no matter."""
    lock = threading.Lock()

    def vjp(params, X):
        with lock:
            return X @ params, lambda d: X.T @ d

    with pytest.raises(TypeError, match=r"vjp cannot be sent to the workers of the cluster \(TypeError: cannot pickle"):
        AnalyticRegressor(vjp=vjp, init=np.zeros(3)).fit(collection(X), collection(SCORES[:, 0]))

    def scoring(estimator, X, y):
        with lock:
            return 0.0

    settings = {"early_stopping": True, "scoring": scoring, "max_iter": 2}
    AnalyticRegressor(**settings).fit(collection(X), collection(SCORES[:, 0]))


def test_predictions_of_empty_chunks_and_of_nothing_fitted(client):
    """After a filter some chunks are empty; without a fit nothing is computed."""
    fitted = AnalyticRegressor().fit(X, SCORES[:, 0])
    rows = collection(X)
    some = rows[rows[:, 0] > 1.5]
    assert_allclose(fitted.predict(some).compute(), fitted.predict(X[X[:, 0] > 1.5]), rtol=1e-12)
    loaded = []
    unloaded = da.from_delayed(dask.delayed(loaded.append)(1), (10, 3), float)
    with pytest.raises(Exception, match="not fitted"):
        AnalyticRegressor().predict(unloaded)
    fitted.predict(unloaded)
    assert loaded == []


def test_what_is_like_a_collection_but_none(client):
    """xarray's objects have the method of collections, and no graph if they lie in memory."""

    class Wrapped:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.array, dtype)

        def __dask_graph__(self):
            return None

        @property
        def shape(self):
            return self.array.shape

    assert_array_equal(
        AnalyticRegressor().fit(Wrapped(X), SCORES[:, 0]).coef_, AnalyticRegressor().fit(X, SCORES[:, 0]).coef_
    )


@pytest.mark.parametrize("wrong", ["delayed", "0-d", "future"])
def test_collections_without_rows(client, wrong):
    """They are no X; how to pass them is said."""
    given = {"delayed": dask.delayed(X), "0-d": collection(X).sum(), "future": client.submit(lambda: X)}[wrong]
    with pytest.raises(TypeError, match=r"X is a (dask|future)"):
        AnalyticRegressor().fit(given, SCORES[:, 0])


def test_delayed_chunks_that_do_not_come_in_a_list(client):
    """An iteration is gone through here, and its chunks cannot be delayed; what to_delayed returns is a list."""
    chunks = delayed(cut(X, into=ENDS))
    with pytest.raises(TypeError, match="Delayed chunks are processed on a cluster. Pass them in a list"):
        AnalyticDensity().fit_chunks(lambda: iter(chunks))
    of_array = AnalyticDensity(max_iter=2).fit_chunks(collection(X).to_delayed())
    assert_same_fit(of_array, AnalyticDensity(max_iter=2).fit(collection(X)))
    mixed = AnalyticDensity(optimizer="lbfgs", max_iter=2).fit_chunks([*chunks[:-1], lambda: X[ENDS[-1] :]])
    assert mixed.n_iter_ == 2


def test_an_error_in_loading_names_the_chunk(client):
    """As functions in this process do."""

    def broken(number):
        if number == 2:
            raise OSError("no file 2")
        return X

    with pytest.raises(OSError, match="no file 2") as caught:
        AnalyticDensity().fit_chunks([dask.delayed(broken)(number) for number in range(4)])
    assert "In chunk 2 (counted from 0)." in caught.value.__notes__


def test_the_mean_of_the_default_autoencoder_is_that_of_all_rows(client):
    """It has no gradient, so that the mean of the first chunk would stay; of chunks in this process too."""
    order = np.argsort(X[:, 0])
    settings = {"optimizer": "lbfgs", "random_state": 0, "max_iter": 5}
    whole = AnalyticTransformer(**settings).fit(X[order], sample_weight=WEIGHT[order]).params_["mean"]
    given = collection(X[order]), None, collection(WEIGHT[order])
    assert_allclose(AnalyticTransformer(**settings).fit(*given).params_["mean"], whole, rtol=1e-12)
    here = AnalyticTransformer(**settings).fit_chunks(
        [{"X": rows, "sample_weight": weight} for rows, weight in cut(X[order], WEIGHT[order], into=ENDS)]
    )
    assert_allclose(here.params_["mean"], whole, rtol=1e-12)


def test_rare_classes_are_held_out_in_their_share(client):
    """In each chunk; the only member of a class trains."""
    labels = np.repeat(["common", "rare"], [80, 16])
    labels[0] = "single"
    order = np.random.default_rng(0).permutation(N)
    seen = []

    def keep(estimator, X, y):
        seen.append(y)
        return 0.0

    settings = {"early_stopping": True, "scoring": keep, "validation_fraction": 0.25, "max_iter": 1}
    for seed in range(5):
        AnalyticClassifier(random_state=seed, **settings).fit(
            da.from_array(X[order], chunks=(48, 3)), da.from_array(labels[order], chunks=48)
        )
        held = seen[-1].tolist()
        assert held.count("single") == 0
        assert held.count("rare") in (3, 4, 5)


def test_a_fit_in_a_task_says_what_to_do(client):
    """It would wait for the thread that it has."""

    def fit():
        AnalyticRegressor(worker_timeout=5).fit(
            da.from_array(X, chunks=(48, 3)), da.from_array(SCORES[:, 0], chunks=48)
        )

    with pytest.raises(RuntimeError, match="worker_client"):
        client.submit(fit).result()


def test_workers_that_only_the_scheduler_reaches(client, monkeypatch):
    """Messages go through it, to the same bits."""

    async def never(self):
        return False

    expected = AnalyticRegressor(optimizer="lbfgs").fit(collection(X), collection(SCORES[:, 0]))
    monkeypatch.setattr(Actor, "_can_be_reached", never)
    assert_same_fit(AnalyticRegressor(optimizer="lbfgs").fit(collection(X), collection(SCORES[:, 0])), expected)


def test_local_steps_beside_a_loop_by_hand(client):
    """Two chunks, one so small that it has no rows in most steps, under plain gradient descent."""
    y, ends, batch_size, rate = SCORES[:, 0], [4, N], 12, 0.1
    settings = {"batch_size": batch_size, "shuffle": False, "max_iter": 2, "tol": None, "local_steps": 2}
    model = AnalyticRegressor(
        vjp=lambda params, X: (X @ params, lambda d: X.T @ d), init=np.zeros(3), optimizer="sgd", **settings
    ).set_params(optimizer__learning_rate=rate, optimizer__momentum=0.9)
    fitted = model.fit(collection(X, ends[:1]), collection(y, ends[:1]))
    theta, velocity = np.zeros(3), np.zeros(3)
    counts = (4, N - 4)
    for _ in range(2):
        for step in range(0, 8, 2):
            spans = [apportioned(counts, min(N, (step + k) * batch_size)) for k in range(3)]
            found = []
            for chunk, first in enumerate((0, 4)):
                own, v, n = theta.copy(), velocity.copy(), 0
                for k in range(2):
                    rows = slice(first + spans[k][chunk], first + spans[k + 1][chunk])
                    size = rows.stop - rows.start
                    if size:
                        v = 0.9 * v + X[rows].T @ (X[rows] @ own - y[rows]) / size
                        own, n = own - rate * v, n + size
                found.append((n, own, v))
            total = sum(n for n, *_ in found)
            theta = sum(n / total * own for n, own, _ in found)
            velocity = sum(n / total * v for n, _, v in found)
    assert_allclose(fitted.params_, theta, rtol=1e-12)
    assert fitted.n_steps_ == 16
    assert fitted.optimizer_state_.step == 16


# ---- beside scikit-learn ----


def test_logistic_regression_to_ten_digits(client):
    """The coefficients of scikit-learn's, with the same penalty."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 8))
    y = (rows @ rng.normal(size=8) + rng.logistic(size=3000)) > 0
    alpha = 1 / len(rows)
    ours = AnalyticClassifier(alpha=alpha, optimizer="lbfgs", tol=1e-11).fit(
        da.from_array(rows, chunks=(700, 8)), da.from_array(y, chunks=700)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = LogisticRegression(C=1.0, tol=1e-13, solver="newton-cholesky", max_iter=100).fit(rows, y)
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-10, atol=1e-10)
