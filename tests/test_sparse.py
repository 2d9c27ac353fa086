"""Sparse X: estimators take it as CSR, hand it to the callables as it is, and come to what they come to with arrays."""

import tracemalloc

import numpy as np
import pytest
from models import (
    USER_MODELS,
    NeedsArrays,
    linear_forward,
    linear_gradient,
    linear_init,
    linear_loss,
    linear_vjp,
    needing_arrays,
)
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.base import clone

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    check_gradient,
    find_learning_rate,
)
from sk_analytic.exceptions import GradientCheckError, ParameterStructureError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = np.where(rng.random((120, 9)) < 0.3, rng.normal(size=(120, 9)), 0)
Y = X @ rng.normal(size=9) + 0.1 * rng.normal(size=120)
LABELS = (Y > 0).astype(int)
WEIGHT = rng.random(120)
TARGETS = {AnalyticRegressor: Y, AnalyticClassifier: LABELS, AnalyticDensity: None, AnalyticTransformer: None}
PREDICTIONS = {
    AnalyticRegressor: "predict",
    AnalyticClassifier: "decision_function",
    AnalyticDensity: "score_samples",
    AnalyticTransformer: "transform",
}
MODELS = {
    f"{cls.__name__}-{form}": (cls, model)
    for cls in (AnalyticRegressor, AnalyticClassifier)
    for form, model in {"default": {}, **USER_MODELS[cls]}.items()
}


def repeated(X):
    """A CSR matrix with every value given in two parts."""
    C = sparse.csr_matrix(X)
    return sparse.csr_matrix((np.repeat(C.data / 2, 2), np.repeat(C.indices, 2), 2 * C.indptr), shape=C.shape)


FORMATS = {
    "csr_matrix": sparse.csr_matrix,
    "csr_array": sparse.csr_array,
    "csc_matrix": sparse.csc_matrix,
    "csc_array": sparse.csc_array,
    "coo_array": sparse.coo_array,
    "lil_matrix": sparse.lil_matrix,
    "unsorted": lambda X: sparse.csr_array(X[:, ::-1])[:, ::-1],
    "repeated": repeated,
}


def answer(estimator, X):
    return getattr(estimator, PREDICTIONS[type(estimator)])(X)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize(("cls", "model"), MODELS.values(), ids=MODELS)
def test_a_fit_on_csr_is_a_fit_on_the_array(cls, model, optimizer):
    """The same parameters, losses and predictions, weights and all, for every form of the gradient."""
    settings = {**model, "optimizer": optimizer, "max_iter": 15, "batch_size": 50, "random_state": 0}
    dense = cls(**settings).fit(X, TARGETS[cls], sample_weight=WEIGHT)
    fitted = cls(**settings).fit(sparse.csr_array(X), TARGETS[cls], sample_weight=WEIGHT)
    assert_allclose(fitted.loss_curve_, dense.loss_curve_, rtol=1e-9)
    assert_allclose(answer(fitted, sparse.csr_array(X)), answer(dense, X), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("make", FORMATS.values(), ids=FORMATS)
def test_every_format_is_read_as_canonical_csr(make):
    """Callables meet sorted rows without a place given twice, in X's family of classes; X itself stays as it was."""
    given = make(X)
    before = given.copy()
    seen = []

    def forward(params, X):
        seen.append((type(X), X.has_canonical_format, X.has_sorted_indices))
        return linear_forward(params, X)

    settings = {"accept_sparse": True, "max_iter": 3, "random_state": 0}
    fitted = AnalyticRegressor(forward, vjp=linear_vjp, init=linear_init, **settings)
    dense = AnalyticRegressor(vjp=linear_vjp, init=linear_init, max_iter=3, random_state=0).fit(X, Y)
    assert_allclose(fitted.fit(given, Y).predict(given), dense.predict(X), rtol=1e-9, atol=1e-12)
    kind = sparse.csr_array if isinstance(given, sparse.sparray) else sparse.csr_matrix
    assert set(seen) == {(kind, True, True)}
    for name in ("data", "indices", "indptr"):
        if hasattr(before, name):
            np.testing.assert_array_equal(getattr(given, name), getattr(before, name))


@pytest.mark.parametrize("cls", [AnalyticRegressor, AnalyticClassifier])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_default_model_stays_sparse(cls, optimizer, monkeypatch):
    """From fit to prediction nothing is written out as an array; float32 is kept."""

    def refuse(self, *args, **kwargs):
        raise AssertionError("made dense")

    for kind in (sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, sparse.csc_array):
        monkeypatch.setattr(kind, "toarray", refuse)
        monkeypatch.setattr(kind, "todense", refuse)
    S = sparse.csr_matrix(X, dtype=np.float32)
    fitted = cls(optimizer=optimizer, max_iter=5, early_stopping=True, random_state=0).fit(S, TARGETS[cls], WEIGHT)
    assert answer(fitted, S).dtype == fitted.params_["coef"].dtype == np.float32
    assert np.isfinite(fitted.score(S, TARGETS[cls]))


@pytest.mark.parametrize(("bad", "message"), [(np.nan, "Input X contains NaN"), (1j, "Complex data not supported")])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict"])
def test_what_no_array_may_hold_no_sparse_matrix_may(bad, message, method):
    """What is not finite, or not real, is refused before anything is trained."""
    given = sparse.csr_array(X + bad * (X != 0))
    model = AnalyticRegressor(random_state=0)
    if method == "predict":
        model.fit(X, Y)
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(*([given] if method == "predict" else [given, Y]))


def test_sparse_labels_go_with_sparse_rows():
    """An indicator matrix of labels may be sparse beside X."""
    labels = np.stack([LABELS, 1 - LABELS, X[:, 0] > 0], axis=1).astype(int)
    fitted = AnalyticClassifier(random_state=0).fit(sparse.csr_array(X), sparse.csr_array(labels))
    assert fitted.predict(sparse.csr_array(X)).shape == labels.shape


@pytest.mark.parametrize("cls", [AnalyticDensity, AnalyticTransformer])
def test_default_models_that_center_refuse_sparse_rows(cls):
    """They would make X dense: the error says so before anything is trained. With callables for it X is taken."""
    for accept_sparse in ("auto", False, True):
        model = cls(accept_sparse=accept_sparse)
        assert not model.__sklearn_tags__().input_tags.sparse
        with pytest.raises(TypeError, match="dense data is required. Use '.toarray\\(\\)'") as refused:
            model.fit(sparse.csr_array(X))
        assert f"The default model of {cls.__name__} subtracts the mean" in refused.value.__notes__[-1]
    settings = {"max_iter": 3, "batch_size": 50, "random_state": 0}
    for model in USER_MODELS[cls].values():
        fitted = cls(**model, **settings).fit(sparse.csr_array(X))
        assert fitted.__sklearn_tags__().input_tags.sparse
        assert_allclose(answer(fitted, sparse.csr_matrix(X)), answer(cls(**model, **settings).fit(X), X), rtol=1e-9)


# ---- functions that need arrays ----

NEEDING_ARRAYS = {
    f"{cls.__name__}-{form}": cls(**needing_arrays(model), max_iter=2, random_state=0)
    for cls, forms in USER_MODELS.items()
    for form, model in forms.items()
}


def beside(estimator):
    """What `fit` of an estimator takes beside X."""
    y = TARGETS[type(estimator)]
    return {} if y is None else {"y": y}


def stopped_early(estimator, S):
    y = beside(estimator)
    held = {f"{name}_val": values for name, values in y.items()}
    return clone(estimator).set_params(early_stopping=True).fit(X, X_val=S, **y, **held)


WAYS = {
    "fit": lambda estimator, S: estimator.fit(S, **beside(estimator)),
    "partial_fit": lambda estimator, S: estimator.partial_fit(
        S, **beside(estimator), **({"classes": [0, 1]} if isinstance(estimator, AnalyticClassifier) else {})
    ),
    "fit_chunks": lambda estimator, S: estimator.fit_chunks([{"X": S, **beside(estimator)}]),
    "the second chunk": lambda estimator, S: estimator.fit_chunks(
        [{"X": part, **beside(estimator)} for part in (X, S)]
    ),
    "X_val": stopped_early,
    "predict": lambda estimator, S: answer(clone(estimator).fit(X, **beside(estimator)), S),
    "check_gradient": lambda estimator, S: check_gradient(estimator, S, **beside(estimator)),
    "find_learning_rate": lambda estimator, S: find_learning_rate(estimator, S, **beside(estimator)),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("estimator", NEEDING_ARRAYS.values(), ids=NEEDING_ARRAYS)
def test_functions_meet_no_sparse_rows_that_they_have_not_declared(estimator, way):
    """Sparse X is refused in scikit-learn's words before a function is called, and the tag says so."""
    model = clone(estimator)
    assert not model.__sklearn_tags__().input_tags.sparse
    with pytest.raises(TypeError, match="Sparse data was passed.*, but dense data is required") as refused:
        way(model, sparse.csr_array(X))
    assert any("accept_sparse=True" in note for note in refused.value.__notes__)
    assert not hasattr(model, "params_")


@pytest.mark.parametrize(("cls", "model"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("accept_sparse", [True, False])
def test_what_is_declared_holds(cls, model, accept_sparse):
    """For functions that could have either, and for default models: True takes sparse rows and False refuses them."""
    estimator = cls(**{**model, "accept_sparse": accept_sparse}, max_iter=2, random_state=0)
    assert estimator.__sklearn_tags__().input_tags.sparse == accept_sparse
    if accept_sparse:
        assert estimator.fit(sparse.csr_array(X), TARGETS[cls]).n_steps_
    else:
        with pytest.raises(TypeError, match="dense data is required"):
            estimator.fit(sparse.csr_array(X), TARGETS[cls])


def init_of_X(X):
    return {"coef": X.mean(axis=0), "intercept": 0.0}


BESIDE_THE_DEFAULT = {
    "loss": {"loss": NeedsArrays(linear_loss), "numerical": ["coef", "intercept"], "max_iter": 1},
    "init": {"init": NeedsArrays(init_of_X)},
}


@pytest.mark.parametrize("settings", BESIDE_THE_DEFAULT.values(), ids=BESIDE_THE_DEFAULT)
def test_a_function_beside_the_default_model_may_need_arrays_too(settings):
    """A loss, or an `init` that names X, gets sparse rows only if it is declared; other starts do not matter."""
    model = AnalyticRegressor(**settings)
    assert not model.__sklearn_tags__().input_tags.sparse
    with pytest.raises(TypeError, match="dense data is required"):
        model.fit(sparse.csr_array(X), Y)
    assert model.set_params(accept_sparse=True).__sklearn_tags__().input_tags.sparse
    for start in ({"coef": np.zeros(9), "intercept": 0.0}, lambda n_features: {"coef": np.zeros(9), "intercept": 0.0}):
        assert AnalyticRegressor(init=start, max_iter=2).fit(sparse.csr_array(X), Y).n_steps_


def test_partial_fit_goes_on_with_sparse_rows():
    """Chunk after chunk, as with arrays."""
    sparse_one, dense = AnalyticRegressor(random_state=0), AnalyticRegressor(random_state=0)
    for part in (slice(0, 60), slice(60, None)):
        sparse_one.partial_fit(sparse.csr_matrix(X)[part], Y[part])
        dense.partial_fit(X[part], Y[part])
    assert_allclose(sparse_one.params_["coef"], dense.params_["coef"], rtol=1e-9)


def test_a_callable_that_needs_an_array_is_told():
    """Its own error goes on, with a note on what X is and what to do."""
    model = AnalyticRegressor(
        lambda params, X: X @ params["W"] + np.zeros(len(X)),
        lambda params, X, y: {"W": X.T @ (X @ params["W"] - y) / len(X)},
        {"W": np.zeros(9)},
        accept_sparse=True,
    )
    with pytest.raises(TypeError, match="ambiguous") as raised:
        model.fit(sparse.csr_matrix(X), Y)
    assert any("a sparse csr_matrix" in note and "accept_sparse=False" in note for note in raised.value.__notes__)


def test_a_prediction_is_an_array():
    """A sparse one is refused by an error that says how to make it one."""
    model = AnalyticTransformer(
        lambda params, X: X @ sparse.csr_array(params["W"]),
        lambda params, X: {"W": None},
        {"W": np.eye(9)},
        loss=None,
        accept_sparse=True,
    )
    with pytest.raises(ParameterStructureError, match=r"forward returned a csr_array; an array is needed"):
        model.fit(sparse.csr_array(X))


# ---- the gradient check ----


def wrong(change):
    """The gradient of a linear model with X changed on the way."""

    def gradient(params, X, y):
        return linear_gradient(params, change(X), y)

    return gradient


def negated(X):
    return -X


def shifted(X):
    return sparse.csr_array(np.roll(X.toarray(), 1, axis=1))


def scaled_in_place(X):
    X.data *= 2
    return X


FAULTS = {
    "sign of X": (negated, "other_inputs"),
    "shifted features": (shifted, "other_inputs"),
    "written to": (scaled_in_place, "modified_in_place"),
}


@pytest.mark.parametrize(("change", "cause"), FAULTS.values(), ids=FAULTS)
def test_faults_are_found_on_csr(change, cause):
    """The check and its diagnosis work on sparse rows as they do on arrays."""
    settings = {"loss": linear_loss, "accept_sparse": True, "random_state": 0}
    model = AnalyticRegressor(linear_forward, wrong(change), linear_init, **settings)
    with pytest.raises(GradientCheckError) as raised:
        model.fit(sparse.csr_array(X), Y)
    assert cause in [finding.cause for finding in raised.value.report.findings]


def test_a_right_gradient_is_right_on_csr():
    """Of an estimator, and of plain functions on any format."""
    assert check_gradient(AnalyticRegressor(), sparse.csr_matrix(X), Y, random_state=0).ok
    params = {"W": np.ones((9, 1)), "b": np.zeros(1)}
    for given in (sparse.csc_array(X), sparse.coo_matrix(X)):
        report = check_gradient(loss=linear_loss, gradient=linear_gradient, params=params, X=given, y=Y, random_state=0)
        assert report.ok
        assert report.findings


def test_what_was_right_on_arrays_is_looked_at_again_on_csr():
    """A callable may do well with the one and not with the other."""

    def gradient(params, X, y):
        return linear_gradient(params, -X if sparse.issparse(X) else X, y)

    settings = {"accept_sparse": True, "random_state": 0, "max_iter": 2}
    model = AnalyticRegressor(linear_forward, gradient, linear_init, **settings).fit(X, Y)
    with pytest.raises(GradientCheckError):
        model.fit(sparse.csr_array(X), Y)


def test_a_wide_matrix_is_diagnosed_without_being_written_out():
    """A wrong gradient over a hundred thousand features is found, and named, in little memory."""
    wide = sparse.csr_array(sparse.random(200, 100_000, 1e-4, "csr", None, np.random.default_rng(0)))
    target = wide @ np.ones(100_000)

    def gradient(params, X, y):
        return {"w": -(X.T @ (X @ params["w"] - y)) / X.shape[0]}

    settings = {"accept_sparse": True, "random_state": 0}
    model = AnalyticRegressor(lambda params, X: X @ params["w"], gradient, {"w": np.zeros(100_000)}, **settings)
    tracemalloc.start()
    with pytest.raises(GradientCheckError) as raised:
        model.fit(wide, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert raised.value.report.findings[0].cause == "sign"
    assert peak < 150e6  # written out in float64, X alone is 160 MB


# ---- tools and memory ----


def test_the_learning_rate_is_found_on_csr():
    """The sweep starts from the same batches, and suggests the same rate."""
    search = {"n_steps": 30, "random_state": 0}
    found = find_learning_rate(AnalyticRegressor(), sparse.csr_array(X), Y, **search)
    expected = find_learning_rate(AnalyticRegressor(), X, Y, **search)
    assert_allclose(found.losses, expected.losses, rtol=1e-7)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
def test_a_fit_copies_no_csr_matrix(kind):
    """Beside X, a fit takes what grows with the number of rows alone (order, targets), not with their values."""
    peaks = []
    for per_row in (20, 100):
        n, d = 20_000, 400
        wide = np.random.default_rng(0)
        indices = wide.integers(0, d // per_row, (n, per_row)) + np.arange(per_row) * (d // per_row)
        S = kind((wide.normal(size=n * per_row), indices.ravel(), per_row * np.arange(n + 1)), shape=(n, d))
        model = AnalyticRegressor(max_iter=1, random_state=0)
        y = S @ np.ones(d)
        tracemalloc.start()
        model.fit(S, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.05 * S.data.nbytes
    assert peaks[1] < 0.15 * S.data.nbytes
