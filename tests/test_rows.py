"""Rows of arrays in memory: every row once an epoch, the same order under the same seed, views without copies."""

import itertools

import numpy as np
import pytest
from models import linear_gradient
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, csr_matrix

from sk_analytic.data import arrays as rows_module
from sk_analytic.data.arrays import ArrayRows
from sk_analytic.data.batch import CALLABLE, CHECK, INIT, MONITOR, SHUFFLE, Batch, generator
from sk_analytic.data.rows import BatchedRows
from sk_analytic.model.callables import Callables
from sk_analytic.objective import Objective
from sk_analytic.optimizers import Adam
from sk_analytic.parameters import Layout, Parameters
from sk_analytic.training.minibatches import History, Monitor, train

# Number of rows and size of a batch: one row, one batch, batches that fit, and a last one of 1, 3 or 7 rows.
SIZES = [(1, 1), (1, 5), (10, 10), (10, 20), (12, 4), (13, 4), (11, 4), (57, 10), (100, 1), (10, None)]
EACH_SIZE = pytest.mark.parametrize(("n", "batch_size"), SIZES)
SHUFFLED = pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
WEIGHTED = pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])


def arrays_of(n, dtype=np.float64):
    """X, y and weights in which every row is told by its number."""
    number = np.arange(n, dtype=dtype)
    return np.stack([number, number + 0.25, -number], axis=1), {"y": 10 * number, "group": np.arange(n)}, number + 1


def rows_of(n, batch_size, *, shuffle=True, weighted=True, seed=5, dtype=np.float64):
    X, columns, weight = arrays_of(n, dtype)
    return ArrayRows(X, columns, weight if weighted else None, batch_size=batch_size, shuffle=shuffle, seed=seed)


def batches(rows, epoch=0):
    """The batches of an epoch, copied: each is valid until the next only."""
    for step in range(rows.steps_per_epoch):
        batch = rows.batch(epoch, step)
        weight = None if batch.sample_weight is None else batch.sample_weight.copy()
        yield Batch(batch.X.copy(), {k: v.copy() for k, v in batch.columns.items()}, weight, batch.position)


def order(rows, epoch=0):
    """Numbers of the rows in the order of an epoch."""
    return [int(number) for batch in batches(rows, epoch) for number in batch.X[:, 0]]


def small_cache(monkeypatch, n_bytes):
    monkeypatch.setattr(rows_module, "GATHERED_BYTES", n_bytes)


# ---- epochs ----


@EACH_SIZE
@SHUFFLED
@WEIGHTED
@pytest.mark.parametrize("n_bytes", [0, 24 * 25, 1 << 18], ids=["a step at once", "some", "an epoch"])
def test_every_row_comes_once_an_epoch(monkeypatch, n, batch_size, shuffle, weighted, n_bytes):
    """With its own y, metadata and weight; however many rows are gathered at once."""
    small_cache(monkeypatch, n_bytes)
    rows = rows_of(n, batch_size, shuffle=shuffle, weighted=weighted)
    for epoch in (0, 1, 7):
        assert sorted(order(rows, epoch)) == list(range(n))
        for batch in batches(rows, epoch):
            number = batch.X[:, 0]
            assert_array_equal(batch.X, np.stack([number, number + 0.25, -number], axis=1))
            assert_array_equal(batch.y, 10 * number)
            assert_array_equal(batch.columns["group"], number)
            assert (batch.sample_weight is not None) == weighted
            if weighted:
                assert_array_equal(batch.sample_weight, number + 1)


@EACH_SIZE
@SHUFFLED
def test_all_batches_but_the_last_are_full(n, batch_size, shuffle):
    """At most two shapes, so that a compiled callable is compiled at most twice; the last has the rest."""
    rows = rows_of(n, batch_size, shuffle=shuffle)
    sizes = [batch.n for batch in batches(rows)]
    assert len(sizes) == rows.steps_per_epoch == -(-n // min(batch_size or n, n))
    assert set(sizes[:-1]) <= {batch_size}
    assert sum(sizes) == n
    assert 0 < sizes[-1] <= rows.batch_size <= n


def test_no_rows_are_no_steps():
    """An epoch over nothing is over at once."""
    rows = ArrayRows(np.empty((0, 3)), {"y": np.empty(0)}, batch_size=4, shuffle=True)
    assert (rows.n_samples, rows.steps_per_epoch) == (0, 0)
    assert rows.everything.is_empty


@pytest.mark.parametrize("n_bytes", [0, 24 * 25, 1 << 18])
def test_the_order_depends_on_seed_and_epoch_alone(monkeypatch, n_bytes):
    """Whatever ran before, and however many rows are gathered at once: a repeat or a resume meets the same rows."""
    expected = {(seed, epoch): order(rows_of(57, 10, seed=seed), epoch) for seed in (5, 6) for epoch in range(3)}
    assert len({tuple(found) for found in expected.values()}) == 6
    small_cache(monkeypatch, n_bytes)
    for seed in (5, 6):
        rows = rows_of(57, 10, seed=seed)
        for epoch in (2, 0, 1, 1, 2):
            assert order(rows, epoch) == expected[seed, epoch]


def test_steps_may_be_taken_in_any_order(monkeypatch):
    """Steps of several epochs, back and forth: each is the batch of its place."""
    small_cache(monkeypatch, 24 * 25)
    rows, again = rows_of(57, 10), rows_of(57, 10)
    expected = {(e, s): batch.X for e in range(2) for s, batch in enumerate(batches(again, e))}
    for epoch, step in [(0, 5), (0, 0), (1, 3), (0, 3), (1, 5), (1, 0), (0, 5), (0, 5), (1, 5)]:
        assert_array_equal(rows.batch(epoch, step).X, expected[epoch, step])


def test_shuffling_mixes():
    """No row keeps its neighbors: orders are permutations, not rotations or blocks."""
    found = order(rows_of(1000, 100))
    assert found != sorted(found)
    assert np.mean(np.abs(np.diff(found)) == 1) < 0.05
    assert abs(np.corrcoef(found, range(1000))[0, 1]) < 0.2


@pytest.mark.parametrize("shuffle", [False, True])
def test_without_shuffling_or_with_one_batch_rows_stay_in_order(shuffle):
    """A single batch has no order to draw."""
    assert order(rows_of(10, 3, shuffle=False)) == list(range(10))
    assert order(rows_of(10, 10, shuffle=shuffle)) == list(range(10))


# ---- memory ----


@EACH_SIZE
def test_unshuffled_batches_are_views(n, batch_size):
    """Of the user's arrays: nothing is copied."""
    X, columns, weight = arrays_of(n)
    rows = ArrayRows(X, columns, weight, batch_size=batch_size)
    for batch in [rows.batch(0, step) for step in range(rows.steps_per_epoch)] + [rows.everything]:
        assert np.shares_memory(batch.X, X)
        assert np.shares_memory(batch.y, columns["y"])
        assert np.shares_memory(batch.sample_weight, weight)


def test_shuffled_batches_are_views_on_buffers_that_are_reused(monkeypatch):
    """Nothing is allocated in a step: the memory of the first epoch serves all."""
    small_cache(monkeypatch, 24 * 25)
    rows = rows_of(57, 10)
    addresses = [
        {rows.batch(epoch, step).X.__array_interface__["data"][0] for step in range(rows.steps_per_epoch)}
        for epoch in range(3)
    ]
    assert addresses[0] == addresses[1] == addresses[2]
    assert len(addresses[0]) == 2


@SHUFFLED
@WEIGHTED
def test_what_is_handed_out_is_read_only(shuffle, weighted):
    """A callable cannot write to rows, gathered or not, nor to those that are kept for good."""
    rows = rows_of(13, 4, shuffle=shuffle, weighted=weighted)
    handed = [rows.batch(0, step) for step in range(rows.steps_per_epoch)]
    for batch in [*handed, rows.everything, *rows.sample(1, CHECK), *rows.sample(99, MONITOR)]:
        for array in (batch.X, *batch.columns.values(), *([batch.sample_weight] if weighted else [])):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0


KINDS = {
    "Fortran order": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "every other row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "reversed": lambda X: X[::-1][::-1],
    "reversed for good": lambda X: X[::-1],
    "read-only": rows_module.read_only,
    "broadcast": lambda X: np.broadcast_to(X[:, :1], (len(X), 3)),
    "single precision": lambda X: X.astype(np.float32),
    "wide": lambda X: np.repeat(X, 50, axis=1),
    "without columns": lambda X: X[:, :0],
    "with more axes": lambda X: np.stack([X, X], axis=2),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@SHUFFLED
def test_rows_are_right_whatever_their_memory_looks_like(monkeypatch, kind, shuffle):
    """The rows of an epoch are the array's own, in its dtype; the array is not written to."""
    small_cache(monkeypatch, 24 * 25)
    X = kind(arrays_of(57)[0])
    before, writeable, number = X.copy(), X.flags.writeable, np.arange(57)
    rows = ArrayRows(X, {"y": number}, batch_size=10, shuffle=shuffle, seed=1)
    for epoch in range(2):
        for batch in batches(rows, epoch):
            assert batch.X.dtype == X.dtype
            assert_array_equal(batch.X, before[batch.y])
    assert_array_equal(X, before)
    assert X.flags.writeable is writeable


def test_memory_mapped_rows_are_read_where_they_lie(tmp_path):
    """In order they are views on the file, shuffled they are gathered from it, batch by batch."""
    X = arrays_of(57)[0]
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    for shuffle in (False, True):
        rows = ArrayRows(mapped, {"y": np.arange(57)}, batch_size=10, shuffle=shuffle)
        for step in range(rows.steps_per_epoch):
            batch = rows.batch(0, step)
            assert np.shares_memory(batch.X, mapped) is not shuffle
            assert_array_equal(batch.X, X[batch.y])


CSR = pytest.mark.parametrize("kind", [csr_matrix, csr_array])


def sparse_of(n, kind, *, dtype=np.float64, width=30, seed=0):
    """A CSR matrix with empty rows and full ones."""
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, width)) < rng.random((n, 1)) ** 3, rng.normal(size=(n, width)), 0).astype(dtype)
    X[1:2] = 0
    return kind(X)


@EACH_SIZE
@SHUFFLED
@CSR
@pytest.mark.parametrize("n_bytes", [0, 3000, 1 << 20], ids=["a step at once", "some", "an epoch"])
def test_batches_of_a_csr_matrix_are_those_of_the_array(monkeypatch, n, batch_size, shuffle, kind, n_bytes):
    """The same rows in the same order, as matrices of X's own class that scipy finds nothing wrong with."""
    monkeypatch.setattr(rows_module, "GATHERED_CSR_BYTES", n_bytes)
    X = sparse_of(n, kind)
    settings = {"batch_size": batch_size, "shuffle": shuffle, "seed": 1}
    number = {"y": np.arange(n)}
    rows, dense = ArrayRows(X, number, **settings), ArrayRows(X.toarray(), number, **settings)
    for epoch in (0, 3, 1):
        for step in range(rows.steps_per_epoch):
            batch, expected = rows.batch(epoch, step), dense.batch(epoch, step)
            assert type(batch.X) is kind
            batch.X.check_format(full_check=True)
            assert batch.X.has_canonical_format
            assert (batch.X.dtype, batch.X.shape) == (X.dtype, expected.X.shape)
            assert_array_equal(batch.X.toarray(), expected.X)
            assert_array_equal(batch.y, expected.y)
    samples = zip(rows.sample(2, CHECK), dense.sample(2, CHECK), strict=True)
    for ours, theirs in [(rows.everything, dense.everything), *samples]:
        assert_array_equal(ours.X.toarray(), theirs.X)


@CSR
@SHUFFLED
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_a_csr_matrix_keeps_its_dtypes_and_cannot_be_written(kind, shuffle, dtype, index):
    """Neither through a batch nor through all rows; read-only arrays and wide indices will do; X stays what it was."""
    X = sparse_of(57, kind, dtype=dtype)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    for array in (X.data, X.indices, X.indptr):
        array.flags.writeable = False
    before = X.copy()
    rows = ArrayRows(X, {}, batch_size=10, shuffle=shuffle)
    for handed in (rows.batch(0, 0).X, rows.batch(0, 5).X, rows.everything.X, rows.sample(1, CHECK)[0].X):
        assert handed.dtype == dtype
        assert handed.indices.dtype == handed.indptr.dtype
        for write in (lambda X: X.data.fill(0), lambda X: X.indices.fill(0), lambda X: X.indptr.fill(0)):
            with pytest.raises(ValueError, match="read-only"):
                write(handed)
        handed.data = np.zeros(3)  # what a callable does to the object itself is not done to X
    assert (before != X).nnz == 0
    assert (rows.batch(0, 0).X != ArrayRows(before, {}, batch_size=10, shuffle=shuffle).batch(0, 0).X).nnz == 0


@CSR
def test_slices_of_a_csr_matrix_are_views(kind):
    """In order, and all rows: nothing is copied but where each row begins."""
    X = sparse_of(57, kind)
    rows = ArrayRows(X, {}, batch_size=10)
    for batch in [*(rows.batch(0, step) for step in range(rows.steps_per_epoch)), rows.everything]:
        assert np.shares_memory(batch.X.data, X.data)
        assert np.shares_memory(batch.X.indices, X.indices)


def test_a_csr_matrix_with_repeated_places_is_not_called_canonical():
    """Its batches say so, as it does itself."""
    X = csr_matrix((np.ones(4), np.array([1, 1, 0, 2]), np.array([0, 2, 3, 4])), shape=(3, 3))
    for shuffle in (False, True):
        batch = ArrayRows(X, {}, batch_size=1, shuffle=shuffle).batch(0, 0)
        assert not batch.X.has_canonical_format
        assert batch.X.toarray().sum() in (1, 2)


@pytest.mark.parametrize("layout", ["C", "F"])
def test_gathering_copies_no_more_than_the_gathered_rows(monkeypatch, layout):
    """An array of any memory order is never copied as a whole: a step's memory does not grow with the rows."""
    import tracemalloc

    small_cache(monkeypatch, 0)
    peaks = []
    for n in (1_000, 100_000):
        X = np.zeros((n, 8), order=layout)
        rows = ArrayRows(X, {}, batch_size=50, shuffle=True)
        rows.batch(0, 0)
        tracemalloc.start()
        rows.batch(0, 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] < 100_000


# ---- samples ----


@EACH_SIZE
@WEIGHTED
@pytest.mark.parametrize("n_batches", [1, 2, 1000])
def test_a_sample_is_rows_without_repetition_in_training_shapes(n, batch_size, weighted, n_batches):
    """So many batches of the full size, or all rows in order if there are no more."""
    rows = rows_of(n, batch_size, weighted=weighted)
    sample = rows.sample(n_batches, MONITOR)
    numbers = [int(number) for batch in sample for number in batch.X[:, 0]]
    assert len(set(numbers)) == len(numbers) == min(n, n_batches * rows.batch_size)
    assert {batch.n for batch in sample[:-1]} <= {rows.batch_size}
    if len(numbers) < n:
        assert sample[-1].n == rows.batch_size
    else:
        assert numbers == list(range(n))
    for batch in sample:
        assert_array_equal(batch.y, 10 * batch.X[:, 0])
        assert batch.sample_weight is None or np.array_equal(batch.sample_weight, batch.X[:, 0] + 1)


def test_a_sample_is_fixed_by_seed_and_purpose():
    """The same rows whenever it is asked for; others for another purpose or seed."""

    def sampled(rows, purpose):
        return [batch.X[:, 0].tolist() for batch in rows.sample(2, purpose)]

    rows = rows_of(57, 10)
    first = sampled(rows, MONITOR)
    order(rows, 3)
    assert sampled(rows, MONITOR) == first == sampled(rows_of(57, 10), MONITOR)
    assert sampled(rows, CHECK) != first
    assert sampled(rows_of(57, 10, seed=6), MONITOR) != first


def test_a_sample_stays_while_training_goes_on():
    """Its rows are copies, not views on the buffers of the steps."""
    rows = rows_of(57, 10)
    sample = rows.sample(1, CHECK, batch_size=7)[0]
    before = sample.X.copy()
    order(rows, 0)
    assert sample.n == 7
    assert_array_equal(sample.X, before)
    assert not np.shares_memory(sample.X, rows.everything.X)


@pytest.mark.parametrize("batch_size", [1, 7, 57, 100])
def test_a_sample_may_have_batches_of_its_own_size(batch_size):
    """For a check on a few rows where a batch is everything."""
    sample = rows_of(57, None).sample(1, CHECK, batch_size=batch_size)
    assert [batch.n for batch in sample] == [min(batch_size, 57)]


# ---- batches ----


@EACH_SIZE
@SHUFFLED
def test_everything_is_all_rows_in_order(n, batch_size, shuffle):
    """One batch, with all that goes with the rows."""
    X, columns, weight = arrays_of(n)
    everything = ArrayRows(X, columns, weight, batch_size=batch_size, shuffle=shuffle).everything
    assert everything.n == n
    assert_array_equal(everything.X, X)
    assert_array_equal(everything.y, columns["y"])
    assert_array_equal(everything.sample_weight, weight)


def test_positions_of_batches_are_their_own():
    """Seed, purpose, epoch and step: no two batches of a fit draw the same numbers for a callable."""
    rows = rows_of(57, 10)
    positions = [batch.position for epoch in range(3) for batch in batches(rows, epoch)]
    positions += [batch.position for purpose in (CHECK, MONITOR) for batch in rows.sample(3, purpose)]
    assert positions[0] == (5, CALLABLE, 0, 0)
    draws = {generator(*position).random() for position in positions}
    assert len(draws) == len(positions) == len(set(positions))


def test_a_generator_depends_on_its_position_alone():
    """The same numbers at the same place, others at every other."""
    places = list(itertools.product([0, 1], [INIT, SHUFFLE, CALLABLE, CHECK, MONITOR], range(3), range(3)))
    first, again = ([generator(*place).random() for place in order] for order in (places, reversed(places)))
    assert first == again[::-1]
    assert len(set(first)) == len(places)


def test_a_batch_gives_arguments_by_name():
    """Columns by their names, ones for weights that were not given, X and a generator."""
    X, columns, weight = arrays_of(4, np.float32)
    batch, weighted = Batch(X, columns), Batch(X, columns, weight)
    assert batch.argument("y") is batch.y is columns["y"]
    assert batch.argument("group") is columns["group"]
    assert batch.argument("X") is X
    assert weighted.argument("sample_weight") is weight
    assert_array_equal(batch.argument("sample_weight"), np.ones(4))
    assert batch.argument("sample_weight").dtype == np.float32
    assert isinstance(batch.argument("rng"), np.random.Generator)
    assert Batch(X, {}).y is None


@pytest.mark.parametrize(
    ("n", "weight", "is_empty"),
    [
        (0, None, True),
        (0, np.empty(0), True),
        (2, np.zeros(2), True),
        (2, np.array([0.0, 1e-300]), False),
        (2, None, False),
    ],
)
def test_a_batch_is_empty_without_rows_or_weight(n, weight, is_empty):
    """Then there is nothing to learn from it."""
    assert Batch(np.ones((n, 3)), {}, weight).is_empty is is_empty


def test_a_batch_with_more_columns_leaves_the_first_alone():
    """`init` gets sizes by name, at a position of its own."""
    X, columns, weight = arrays_of(4)
    batch = Batch(X, columns, weight)
    more = batch.with_columns({"n_features": 3}, (1, INIT, 0, 0))
    assert more.argument("n_features") == 3
    assert more.X is X
    assert more.sample_weight is weight
    assert more.position == (1, INIT, 0, 0)
    assert "n_features" not in columns
    assert batch.position != more.position


def test_astype_casts_what_is_floating():
    """X, y and weights change their precision, class indices stay whole numbers."""
    X, columns, weight = arrays_of(4, np.float32)
    batch = Batch(X, columns, weight, (1, CHECK, 0, 2)).astype(np.float64)
    assert {batch.X.dtype, batch.y.dtype, batch.sample_weight.dtype} == {np.dtype(np.float64)}
    assert batch.columns["group"].dtype == columns["group"].dtype
    assert batch.position == (1, CHECK, 0, 2)
    assert X.dtype == np.float32
    assert Batch(X, {}).astype(np.float64).sample_weight is None


# ---- rows of one's own ----

SLOPES = np.array([[2.0], [-1.0]])


class Simulator(BatchedRows):
    """Rows that are drawn when they are needed, and never twice."""

    def __init__(self, batch_size, steps_per_epoch):
        super().__init__(batch_size, steps_per_epoch)
        self.asked = []

    def batch(self, epoch, step):
        self.asked.append((epoch, step))
        rng = generator(3, epoch, step)
        X = rng.normal(size=(self.batch_size, 2))
        return Batch(X, {"y": X @ SLOPES + 0.1 * rng.normal(size=(self.batch_size, 1))})


def trained(rows, n_epochs):
    """The parameters after some epochs, and the history."""
    start = {"W": np.zeros((2, 1)), "b": np.zeros(1)}
    layout = Layout.of(start)
    theta = Parameters(layout, layout.flatten(start))
    model = Callables(forward=lambda params, X: X @ params["W"], forms={"gradient": linear_gradient}, columns=("y",))
    optimizer, history = Adam(0.05), History()
    state = optimizer.init(theta.vector, blocks=layout)
    train(Objective(model, None, layout), theta, optimizer, state, rows, Monitor(history, tol=0.0), max_iter=n_epochs)
    return theta, history


def test_a_simulator_trains_on_fresh_rows_in_every_step():
    """A class with `batch` alone is rows: no step sees the rows of another, and the slopes are found."""
    rows = Simulator(batch_size=32, steps_per_epoch=20)
    theta, history = trained(rows, 15)
    assert rows.asked == list(itertools.product(range(15), range(20)))
    assert (history.n_iter, history.n_steps) == (15, 300)
    assert_allclose(theta.structure["W"], SLOPES, atol=0.05)


def test_a_simulator_repeats_to_the_bit():
    """Rows depend on epoch and step alone."""
    one, other = (trained(Simulator(8, 5), 3)[0] for _ in range(2))
    assert_array_equal(one.vector, other.vector)


def test_what_follows_from_batches():
    """Their number, what is mapped over them, and a sample that is kept."""
    rows = Simulator(8, 5)
    assert rows.n_samples == 40
    assert rows.first is rows
    assert rows.map(lambda batch: batch.n) == [8] * 5
    assert_array_equal(rows.everything.X, rows.batch(0, 0).X)
    for size, n in ((None, 8), (3, 3), (20, 8)):
        sample = rows.sample(2, MONITOR, batch_size=size)
        assert [batch.position for batch in sample] == [(0, MONITOR, 0, 0), (0, MONITOR, 0, 1)]
        for step, batch in enumerate(sample):
            assert_array_equal(batch.X, rows.batch(0, step).X[:n])
            assert_array_equal(batch.y, rows.batch(0, step).y[:n])
    assert len(rows.sample(9, MONITOR)) == 5
    with pytest.raises(TypeError, match="batch"):
        BatchedRows(1, 1)
