"""Which rows count, and in which order: weights of 0, weights of any size, rows held out, rows in the order of time."""

import numpy as np
import pytest
from models import USER_MODELS
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor, AnalyticTransformer
from sk_analytic.data.weights import AS_GIVEN, Extent, Weights
from sk_analytic.estimators.inputs import read_arrays
from sk_analytic.optimizers import Phases

# Fits are a few steps long.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N = 120
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = X @ [1.0, -2.0, 0.5] + RNG.normal(size=N)
LABELS = np.array(["low", "middle", "high"])[np.digitize(Y, [-1, 1])]
TAGS = np.c_[Y > 0, X[:, 0] > 0].astype(int)
WEIGHT = RNG.integers(0, 3, N) * RNG.uniform(0.5, 1.5, N)
COUNTED = WEIGHT > 0
TARGETS = {
    "regressor": (AnalyticRegressor(), Y),
    "classes": (AnalyticClassifier(), LABELS),
    "tags": (AnalyticClassifier(), TAGS),
    "density": (AnalyticDensity(init={"mean": np.ones(3), "log_scale": np.zeros(3), "smallest_scale": 0.001}), None),
    "codes": (AnalyticTransformer(init={"components": np.eye(3)[:, :2] + 0.1, "mean": np.zeros(3)}), None),
    "gradient": (AnalyticRegressor(**USER_MODELS[AnalyticRegressor]["gradient"]), Y),
    "vjp": (AnalyticRegressor(**USER_MODELS[AnalyticRegressor]["vjp"]), Y),
}
EACH_TARGET = pytest.mark.parametrize(("estimator", "y"), TARGETS.values(), ids=TARGETS)
SETTINGS = {
    "minibatches": {"batch_size": 25},
    "minibatches in order": {"batch_size": 25, "shuffle": False, "drop_last": True},
    "one batch": {"optimizer": "sgd", "batch_size": N},
    "full batch": {"optimizer": "lbfgs"},
    "full batch by parts": {"optimizer": "lbfgs", "batch_size": 25},
    "both": {"optimizer": Phases([("adam", 2), ("lbfgs", 2)]), "batch_size": 25},
    "held out": {"batch_size": 25, "early_stopping": True, "validation_fraction": 0.3},
    "held out, one batch": {"optimizer": "lbfgs", "early_stopping": True, "validation_fraction": 0.3},
    "last held out": {"batch_size": 25, "early_stopping": True, "validation_fraction": 0.3, "shuffle": False},
}
EACH_SETTING = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
GIVEN = {"early_stopping": True, "batch_size": 25, "max_iter": 3, "random_state": 0}


def begun(estimator, settings):
    return clone(estimator).set_params(max_iter=3, random_state=0, **settings)


def some(array, rows):
    return None if array is None else array[rows]


def vector(model):
    params = model.params_
    return np.concatenate([np.ravel(leaf) for leaf in (params.values() if isinstance(params, dict) else params)])


def assert_same_fit(ours, expected, **tolerance):
    tolerance = {"rtol": 1e-10, "atol": 1e-12} | tolerance
    assert_allclose(vector(ours), vector(expected), **tolerance)
    assert_allclose(ours.loss_curve_, expected.loss_curve_, **tolerance)
    assert_allclose(ours.validation_scores_ or [], expected.validation_scores_ or [], **tolerance)
    assert (ours.n_iter_, ours.n_steps_) == (expected.n_iter_, expected.n_steps_)


# Weights of 0.


@EACH_SETTING
@EACH_TARGET
def test_a_row_of_weight_0_is_absent(estimator, y, settings):
    """Steps, losses, what is held out and its scores are those of a fit without such rows; so of a single chunk."""
    model = begun(estimator, settings)
    ours = clone(model).fit(X, y, sample_weight=WEIGHT)
    assert_same_fit(ours, clone(model).fit(X[COUNTED], some(y, COUNTED), sample_weight=WEIGHT[COUNTED]))
    assert_same_fit(clone(model).fit_chunks([(X, y, WEIGHT)]), ours, rtol=0)


@pytest.mark.parametrize("settings", [{"batch_size": 25}, {"optimizer": "lbfgs"}], ids=["minibatches", "full batch"])
@pytest.mark.parametrize("early_stopping", [False, True])
@EACH_TARGET
def test_chunks_are_counted_by_the_rows_that_count(estimator, y, settings, early_stopping):
    """So that chunks, of which the last has no weight, are those without such rows and without that chunk."""
    weight = np.where(np.arange(N) < 90, WEIGHT, 0)
    cuts = [np.arange(start, start + 30) for start in range(0, N, 30)]
    model = begun(estimator, {"early_stopping": early_stopping, "validation_fraction": 0.4} | settings)
    ours = clone(model).fit_chunks([(X[c], some(y, c), weight[c]) for c in cuts])
    left = [c[weight[c] > 0] for c in cuts[:-1]]
    if y is LABELS:  # all of which a chunk may lack
        model.fit_chunks([(X[c], y[c], weight[c]) for c in left], classes=np.unique(y))
    else:
        model.fit_chunks([(X[c], some(y, c), weight[c]) for c in left])
    assert_same_fit(ours, model)


@pytest.mark.parametrize("scoring", [None, "given"])
@EACH_TARGET
def test_rows_of_weight_0_are_not_scored(estimator, y, scoring):
    """Not those of X_val either, though `forward` sees them: not in the score, nor by a scorer of the user's own."""
    seen = []

    def scorer(estimator, X, y):
        seen.append((X, y))
        method = next(m for m in ("predict", "score_samples", "transform") if hasattr(estimator, m))
        return -float(np.linalg.norm(np.unique(getattr(estimator, method)(X), return_inverse=True)[1]))

    def fit(rows):
        model = clone(estimator).set_params(scoring=scorer if scoring else None, **GIVEN)
        val = {"X_val": X[rows], "y_val": some(y, rows), "sample_weight_val": WEIGHT[rows]}
        return model.fit(X, y, sample_weight=np.ones(N), **val)

    ours, expected = fit(slice(None)), fit(COUNTED)
    assert_same_fit(ours, expected)
    if scoring:
        assert_array_equal(seen[0][0], X[COUNTED])
        assert y is None or len(seen[0][1]) == COUNTED.sum()


def test_chunks_held_out_are_scored_without_rows_of_weight_0():
    """By any scorer, which sees as many rows as count, and the weights that the user gave."""
    seen = []

    def scorer(estimator, X, y, sample_weight):
        seen.append((len(X), y, sample_weight))
        return -float(np.average((estimator.predict(X) - y) ** 2, weights=sample_weight))

    cuts = np.array_split(np.arange(N), 4)
    model = AnalyticRegressor(scoring=scorer, shuffle=False, validation_fraction=0.5, **GIVEN)
    model.fit_chunks([(X[c], Y[c], 1e3 * WEIGHT[c]) for c in cuts])
    held = np.r_[cuts[2], cuts[3]]
    held = held[WEIGHT[held] > 0]
    n, y, weight = seen[0]
    assert n == len(held)
    assert_array_equal(y, Y[held])
    assert_array_equal(weight, 1e3 * WEIGHT[held])
    assert max(model.validation_scores_) == pytest.approx(scorer(model, X[held], Y[held], WEIGHT[held]))


@pytest.mark.parametrize("estimator", [AnalyticRegressor(), AnalyticClassifier()])
def test_classes_whose_weight_is_0_are_not_held_out(estimator):
    """`class_weight` of 0 makes rows that do not count; a stratum has only such as do."""
    if isinstance(estimator, AnalyticRegressor):
        model, y, weight = estimator, Y, (LABELS != "middle").astype(float)
    else:
        model, y, weight = clone(estimator).set_params(class_weight={"low": 1, "middle": 0, "high": 1}), LABELS, None
    model = begun(model, {"early_stopping": True, "scoring": lambda estimator, X, y: float(len(X))})
    model.fit(X, y, sample_weight=weight)
    assert model.validation_scores_[0] == np.ceil(0.1 * (LABELS != "middle").sum())


def test_bagging_by_weights_holds_out_rows_that_count():
    """Bootstraps of a small table, each of which leaves a third of the rows out: none fails, all score enough rows."""
    scored = []

    def scorer(estimator, X, y):
        scored.append(len(X))
        return r2_score(y, estimator.predict(X))

    for seed in range(20):
        counts = np.bincount(np.random.default_rng(seed).integers(0, 12, 12), minlength=12).astype(float)
        model = AnalyticRegressor(early_stopping=True, validation_fraction=0.3, max_iter=1, scoring=scorer)
        model.fit(X[:12], Y[:12], sample_weight=counts)
        assert set(scored) == {int(np.ceil(0.3 * np.count_nonzero(counts)))}
        scored.clear()


def test_a_row_of_weight_0_reaches_a_model_of_all_rows():
    """Where a step takes all rows, the model may need each: a graph, of which some nodes have labels."""
    neighbors = np.eye(N) + np.eye(N, k=1) + np.eye(N, k=-1)

    def forward(params, X):
        return neighbors @ (X @ params)

    def gradient(params, X, y, sample_weight):
        return X.T @ neighbors.T @ (sample_weight * (forward(params, X) - y)) / len(X)

    model = AnalyticRegressor(forward, gradient, np.zeros(3), optimizer="lbfgs", tol=1e-10, max_iter=500)
    model.fit(X, Y, sample_weight=WEIGHT)
    root = np.sqrt(WEIGHT)
    exact = np.linalg.lstsq(root[:, None] * (neighbors @ X), root * Y, rcond=None)[0]
    assert_allclose(model.params_, exact, rtol=1e-6)


def test_callbacks_are_given_the_rows_that_train():
    """As the user gave them, without those held out and, in minibatches, without those of weight 0."""
    for settings in ({"early_stopping": True}, {"batch_size": 25}, {"optimizer": "lbfgs"}):
        model = begun(AnalyticRegressor(), settings)
        data = read_arrays(model, X, Y, WEIGHT, {})
        prepared = model._prepare(data, None)
        rows = prepared.rows[0].everything
        assert_array_equal(prepared.given.X, rows.X)
        assert_array_equal(prepared.given.metadata["sample_weight"] > 0, rows.sample_weight > 0)


@pytest.mark.parametrize(
    ("val", "message"),
    [
        (np.r_[1.0, np.zeros(N - 1)], "X_val has 1 sample with nonzero weight, but the score needs 2. Pass more."),
        (np.zeros(N), "sample_weight_val is zero for every sample to be scored."),
    ],
)
def test_rows_to_score_have_to_count(val, message):
    """R² of a single row is not defined."""
    with pytest.raises(ValueError, match=message):
        AnalyticRegressor(**GIVEN).fit(X, Y, X_val=X, y_val=Y, sample_weight_val=val)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_weights_that_are_all_0_are_refused(early_stopping):
    """In arrays as in chunks."""
    model = AnalyticRegressor(early_stopping=early_stopping)
    for fit, data in ((model.fit, (X, Y, np.zeros(N))), (model.fit_chunks, ([(X, Y, np.zeros(N))] * 3,))):
        with pytest.raises(ValueError, match="sample_weight is zero for every sample: there is nothing to learn from"):
            fit(*data)


# Weights of any size.

SIZES = {
    "subnormal": (5e-324, np.ceil(1000 * WEIGHT)),  # whole multiples of the smallest number: exact
    "tiny": (1e-200, WEIGHT),
    "large": (1e300, WEIGHT),
    "over sixty powers of ten": (1e-30, np.where(np.arange(N) % 2, WEIGHT, 1e-60 * WEIGHT)),
}
EACH_SIZE = pytest.mark.parametrize(("size", "weight"), SIZES.values(), ids=SIZES)


@EACH_SIZE
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("settings", ["full batch", "held out"])
@EACH_TARGET
def test_the_size_of_weights_does_not_matter(estimator, y, settings, dtype, size, weight):
    """They may be as small as 5e-324, as large as 1e300, and span what floats can: only their ratios count."""
    rows = X.astype(dtype)
    model = begun(estimator, SETTINGS[settings])
    ours = clone(model).fit(rows, y, sample_weight=size * weight)
    expected = clone(model).fit(rows, y, sample_weight=weight / weight.max())
    tolerance = {} if dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-5}
    assert_same_fit(ours, expected, **tolerance)
    assert np.isfinite(ours.loss_)


@EACH_SIZE
def test_the_size_of_weights_does_not_matter_to_chunks(size, weight):
    """Whose largest weights are of other sizes, nor to those held out."""
    weight = weight * np.repeat([1.0, 2.0**-30, 2.0**-3, 1.0], N // 4)
    if size == 5e-324:
        weight = np.ceil(weight)
    model = begun(AnalyticRegressor(), {"early_stopping": True, "validation_fraction": 0.4})
    cuts = np.array_split(np.arange(N), 4)
    ours, expected = (
        clone(model).fit_chunks([(X[c], Y[c], w[c]) for c in cuts]) for w in (size * weight, weight / weight.max())
    )
    assert_same_fit(ours, expected, rtol=1e-9)


@EACH_SIZE
@pytest.mark.parametrize("class_weight", ["balanced", {"low": 1e-3, "high": 5.0}])
def test_the_size_of_weights_does_not_matter_to_class_weights(class_weight, size, weight):
    """They are multiplied, and summed by class."""
    model = begun(AnalyticClassifier(class_weight=class_weight), {"batch_size": 25})
    expected = clone(model).fit(X, LABELS, sample_weight=weight / weight.max())
    assert_same_fit(clone(model).fit(X, LABELS, sample_weight=size * weight), expected)
    chunks = [(X[c], LABELS[c], size * weight[c]) for c in np.array_split(np.arange(N), 3)]
    by_chunks = begun(AnalyticClassifier(class_weight=class_weight), {"optimizer": "lbfgs"})
    whole = clone(by_chunks).fit(X, LABELS, sample_weight=weight / weight.max())
    assert_same_fit(by_chunks.fit_chunks(chunks), whole, rtol=1e-6)


@pytest.mark.parametrize("by_rows", [1e-200, 1e200])
def test_products_of_weights_do_not_leave_the_floats(by_rows):
    """Nor do those with weights of classes that are as small, or as large, themselves."""
    model = begun(AnalyticClassifier(), {"batch_size": 25})
    ours, expected = (
        clone(model).set_params(class_weight={"low": 1 * size, "middle": 2 * size, "high": 3 * size})
        for size in (by_rows, 1.0)
    )
    ours.fit(X, LABELS, sample_weight=by_rows * WEIGHT)
    assert_same_fit(ours, expected.fit(X, LABELS, sample_weight=WEIGHT))


@EACH_SIZE
def test_the_size_of_weights_does_not_matter_to_score(size, weight):
    """Of any estimator that takes them."""
    for estimator, y in (TARGETS["regressor"], TARGETS["classes"], TARGETS["density"]):
        model = begun(estimator, {}).fit(X, y)
        assert model.score(X, y, size * weight) == pytest.approx(model.score(X, y, weight), rel=1e-10)
    with pytest.raises(ValueError, match="sample_weight is zero for every sample: there is nothing to average"):
        model.score(X, sample_weight=np.zeros(N))


def test_scorers_receive_the_weights_as_they_were_given():
    """Whatever their size: a sum over rows is that of the user's numbers."""
    seen = []

    def scorer(estimator, X, y, sample_weight):
        seen.append(sample_weight)
        return 1.0

    weight = np.where(COUNTED, 1e300 * WEIGHT, 0)
    AnalyticRegressor(scoring=scorer, **GIVEN).fit(X, Y, X_val=X, y_val=Y, sample_weight_val=weight)
    assert_array_equal(seen[0], weight[COUNTED])


def test_partial_fit_takes_weights_as_they_are():
    """A row of weight 2 counts as two, so that a size that the dtype does not hold is refused."""
    model = AnalyticRegressor(optimizer="sgd", random_state=0)
    step = clone(model).partial_fit(X, Y, np.full(N, 2.0)).params_["coef"]
    assert_allclose(step, 2 * clone(model).partial_fit(X, Y).params_["coef"])
    with pytest.raises(ValueError, match="sample_weight is too large for float32, and partial_fit does not rescale it"):
        model.partial_fit(X.astype(np.float32), Y, np.full(N, 1e300))


@pytest.mark.parametrize("values", [np.zeros(3), np.array([0.0, 1e-320, 1e308]), np.array([3.0, 0.0, 0.1])])
def test_weights_are_numbers_below_1_and_a_power_of_two(values):
    """No digit is lost, none overflows, and what has a weight keeps one."""
    weights = Weights.of(values.copy())
    assert weights.values.max() < 1
    assert_array_equal(weights.values > 0, values > 0)
    assert_array_equal(weights.scaled(AS_GIVEN, np.float64)[values > 1e-300], values[values > 1e-300])
    assert_array_equal(weights.scaled(AS_GIVEN, np.float32) > 0, values > 0)


def test_extents_add_up():
    """Those of parts are that of the whole, though the parts have other exponents."""
    values = np.r_[np.full(5, 1e-320), np.full(7, 1e300), np.zeros(2), 2.0]
    parts = np.split(values, [5, 12, 14])
    joined = Extent.joined(Extent.of(len(part), Weights.of(part)) for part in parts)
    assert joined == Extent.of(len(values), Weights.of(values))
    assert (joined.n, joined.n_weighted) == (15, 13)


# The order of rows.


@EACH_TARGET
def test_without_shuffling_the_last_rows_are_held_out(estimator, y):
    """As by scikit-learn's own split without shuffling, so without strata; the others keep their order."""
    model = begun(estimator, {"shuffle": False, "early_stopping": True, "validation_fraction": 0.25, "batch_size": 20})
    ours = clone(model).fit(X, y)
    train, held = train_test_split(np.arange(N), test_size=0.25, shuffle=False)
    expected = clone(model).fit(X[train], some(y, train), X_val=X[held], y_val=some(y, held))
    assert_same_fit(ours, expected, rtol=0)


def test_rows_are_trained_on_in_the_given_order():
    """Batch after batch, the last rows held out, by minibatches as by a full-batch method in parts."""
    for optimizer in ("sgd", "lbfgs"):
        seen = []

        def gradient(params, X, y, seen=seen):
            seen.append(X[:, 0].copy())
            return X.T @ (X @ params - y) / len(X)

        model = AnalyticRegressor(lambda params, X: X @ params, gradient, np.zeros(3), optimizer=optimizer)
        model.set_params(shuffle=False, early_stopping=True, batch_size=20, check_gradient=False, max_iter=1)
        model.fit(X, Y)
        assert_array_equal(np.concatenate(seen[:6]), X[:108, 0])


@pytest.mark.parametrize("generator", [False, True], ids=["list", "generator function"])
def test_without_shuffling_the_last_chunks_are_held_out(generator):
    """Of a list, and of an iteration; of a single chunk, its last rows."""
    cuts = np.array_split(np.arange(N), 6)
    chunks = [(X[c], Y[c]) for c in cuts]
    model = begun(AnalyticRegressor(), {"shuffle": False, "early_stopping": True, "validation_fraction": 0.3})
    ours = clone(model).fit_chunks((lambda: iter(chunks)) if generator else chunks)
    held = np.concatenate(cuts[-2:])
    assert_same_fit(ours, clone(model).fit_chunks(chunks[:-2], X_val=X[held], y_val=Y[held]))
    assert_same_fit(clone(model).fit_chunks([(X, Y)]), clone(model).fit(X, Y), rtol=0)


def test_labels_need_not_come_in_each_part_without_shuffling():
    """Rows that are sorted by class are not stratified then: the last class alone is scored."""
    order = np.argsort(LABELS)
    model = begun(AnalyticClassifier(), {"shuffle": False, "early_stopping": True}).fit(X[order], LABELS[order])
    held = order[-12:]
    assert max(model.validation_scores_) == accuracy_score(LABELS[held], model.predict(X[held]))
    assert set(LABELS[held]) == {"middle"}


# The last batch.


def test_a_short_last_batch_can_be_left_out():
    """Of each epoch, in which shuffling puts other rows there; so that no row is left out for good."""
    sizes, seen = [], set()

    def gradient(params, X, y):
        sizes.append(len(X))
        seen.update(X[:, 0])
        return X.T @ (X @ params - y) / len(X)

    model = AnalyticRegressor(lambda params, X: X @ params, gradient, np.zeros(3), check_gradient=False, random_state=0)
    model.set_params(batch_size=50, drop_last=True, max_iter=10, tol=0).fit(X, Y)
    assert sizes == [50] * 20
    assert model.n_steps_ == 20
    assert seen == set(X[:, 0])
    sizes.clear()
    model.partial_fit(X, Y)
    assert sizes == [50] * 2


@pytest.mark.parametrize("batch_size", [70, 120, 1000])
def test_there_is_always_a_batch(batch_size):
    """Fewer rows than a batch are one; with one batch and a rest, shuffling chooses both anew."""
    model = AnalyticRegressor(batch_size=batch_size, random_state=0, max_iter=3)
    ours = clone(model).set_params(drop_last=True).fit(X, Y)
    assert ours.n_steps_ == 3
    if batch_size >= N:
        assert_same_fit(ours, model.fit(X, Y), rtol=0)
    else:
        batches = [ours._prepare(read_arrays(ours, X, Y, None, {}), None).rows[0].batch(epoch, 0) for epoch in (0, 1)]
        assert len(batches[0].X) == 70
        assert not np.array_equal(batches[0].X, batches[1].X)


def test_full_batch_methods_leave_no_row_out():
    """They sum all parts, the last one too."""
    model = AnalyticRegressor(optimizer="lbfgs", batch_size=50, tol=1e-10, max_iter=100)
    assert_same_fit(clone(model).set_params(drop_last=True).fit(X, Y), model.fit(X, Y), rtol=0)


def test_each_chunk_ends_with_a_whole_batch():
    """Chunks smaller than a batch are left out in every epoch, which a warning says."""
    chunks = [(X[:55], Y[:55]), (X[55:65], Y[55:65]), (X[65:], Y[65:])]
    start = {"coef": np.zeros(X.shape[1]), "intercept": 0.0}
    model = AnalyticRegressor(init=start, batch_size=20, drop_last=True, max_iter=3, random_state=0)
    with pytest.warns(UserWarning, match=r"leaves out 1 of 3 chunks in every epoch, .* batch_size=20: number 1 "):
        model.fit_chunks(chunks)
    assert model.n_steps_ == 3 * (2 + 2)
    expected = AnalyticRegressor(init=start, batch_size=20, max_iter=3, random_state=0, shuffle=False)
    expected.fit_chunks([(X[:40], Y[:40]), (X[65:105], Y[65:105])])
    with pytest.warns(UserWarning, match="drop_last"):
        assert_same_fit(model.set_params(shuffle=False).fit_chunks(chunks), expected)


def short(params, X, y):
    """Refuses a single row, as a statistic of the batch might."""
    if len(X) == 1:
        raise ZeroDivisionError("one row")
    return X.T @ (X @ params - y) / len(X)


@pytest.mark.parametrize("how", ["minibatches", "chunks", "parts", "not finite"])
def test_an_error_in_a_short_last_batch_says_so(how):
    """With the number of its rows and what to do; in any other batch nothing of this is said."""
    gradient = short
    if how == "not finite":

        def gradient(params, X, y):
            return X.T @ (X @ params - y) / np.float64(len(X) - 1 if len(X) == 1 else len(X))

    model = AnalyticRegressor(lambda params, X: X @ params, gradient, np.zeros(3), random_state=0, batch_size=119)
    if how == "parts":
        model.set_params(optimizer="lbfgs")
    with np.errstate(all="ignore"), pytest.raises((ZeroDivisionError, ValueError)) as caught:
        model.fit_chunks([(X, Y), (X, Y)]) if how == "chunks" else model.fit(X, Y)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "This batch has 1 sample, the remainder after batches of 119. Choose another batch_size, or" in told
    with pytest.raises(ZeroDivisionError) as caught:
        model.set_params(gradient=short, optimizer="adam", batch_size=1, check_gradient=False).fit(X, Y)
    assert "This batch has" not in "\n".join(caught.value.__notes__)


# What is wrong in rows that do not count.


@pytest.mark.parametrize(
    "settings",
    [{"batch_size": 25}, {"batch_size": N}, {"optimizer": "lbfgs"}, {"early_stopping": True}, {"chunked": True}],
    ids=["minibatches", "one batch", "full batch", "held out", "chunks"],
)
def test_targets_of_rows_that_do_not_count_may_lie_outside_the_domain(settings):
    """Weights of 0 mask what was not observed, whether the method sees such rows or not; others are still refused."""
    chunked = "chunked" in settings
    model = begun(AnalyticRegressor(loss="poisson"), {} if chunked else settings)
    parts = slice(0, 50), slice(50, N)
    masked = np.where(COUNTED, np.abs(Y), -1)

    def fit(y):
        if chunked:
            return clone(model).fit_chunks([(X[part], y[part], WEIGHT[part]) for part in parts])
        return clone(model).fit(X, y, WEIGHT)

    assert_allclose(fit(masked).coef_, fit(np.abs(Y)).coef_, rtol=1e-9)
    row = int(np.flatnonzero(COUNTED)[3])  # the number that the user knows it by
    masked[row] = -3
    with pytest.raises(ValueError, match=rf"poisson: y\[{row}\] is -3.0, outside the loss's domain"):
        fit(masked)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "newton-cg", "trf"])
def test_predictions_for_rows_that_do_not_count_may_be_anything(optimizer, value):
    """A loss by name leaves them out, in minibatches, in one batch and in full batch."""
    exposure = np.where(COUNTED, 0.5, value)

    def forward(params, X, exposure):
        return X @ params["w"] + exposure

    if optimizer == "trf":
        form = {"jacobian": lambda params, X: {"w": X}}
    else:
        form = {"vjp": lambda params, X, exposure: (forward(params, X, exposure), lambda d: {"w": X.T @ d})}
    for batch_size in (25, N):
        model = AnalyticRegressor(forward, init={"w": np.zeros(3)}, optimizer=optimizer, **form)
        model = begun(model, {"batch_size": batch_size})
        ours = clone(model).fit(X, Y, WEIGHT, exposure=exposure)
        expected = clone(model).fit(X, Y, WEIGHT, exposure=np.full(N, 0.5))
        assert_allclose(ours.params_["w"], expected.params_["w"], rtol=1e-9)
        assert_allclose(ours.loss_curve_, expected.loss_curve_)
