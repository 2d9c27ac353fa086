"""Row-wise metadata: what the callables name reaches them by rows, from every method, and through scikit-learn."""

import inspect
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from models import (
    rates_forward,
    rates_gradient,
    rates_init,
    rates_jacobian,
    rates_loss,
    rates_loss_and_gradient,
    rates_vjp,
    vector_forward,
    vector_gradient,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import expit
from sklearn import config_context
from sklearn.base import clone
from sklearn.ensemble import StackingRegressor
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LinearRegression, PoissonRegressor
from sklearn.metrics import get_scorer, make_scorer, mean_poisson_deviance
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    ReceivedArgumentError,
    check_gradient,
)
from sk_analytic.plotting import GradientCheckDisplay
from sk_analytic.search import find_learning_rate

RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=(N, 2))
EXPOSURE = RNG.uniform(0.5, 2.0, N)
COUNTS = RNG.poisson(EXPOSURE * np.exp(X @ [0.4, -0.3] + 0.2)).astype(float)


FORMS = {
    "gradient": {"forward": rates_forward, "gradient": rates_gradient, "loss": "poisson"},
    "gradient and loss": {"forward": rates_forward, "gradient": rates_gradient, "loss": rates_loss},
    "loss_and_gradient": {"forward": rates_forward, "loss_and_gradient": rates_loss_and_gradient, "loss": "poisson"},
    "vjp": {"vjp": rates_vjp, "loss": "poisson"},
    "jacobian": {"forward": rates_forward, "jacobian": rates_jacobian, "loss": "poisson"},
}


def counts(form="gradient", **settings):
    return AnalyticRegressor(init=rates_init, **{"random_state": 0} | FORMS[form] | settings)


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


# By hand.


@pytest.mark.parametrize("weights", [None, RNG.uniform(0, 2, N)], ids=["equal", "weighted"])
@pytest.mark.parametrize("form", FORMS)
def test_an_offset_gives_the_regression_of_rates(form, weights):
    """Full batches in every gradient form end where scikit-learn's Poisson regression does."""
    model = counts(form, optimizer="lbfgs", tol=1e-9, max_iter=500).fit(X, COUNTS, weights, exposure=EXPOSURE)
    theirs = PoissonRegressor(alpha=0, tol=1e-9, max_iter=500)
    theirs.fit(X, COUNTS / EXPOSURE, EXPOSURE * (1 if weights is None else weights))
    assert_allclose([*model.params_["w"], model.params_["b"]], [*theirs.coef_, theirs.intercept_], rtol=1e-5)
    if form != "gradient and loss":  # a loss of the user's own has no link
        assert_allclose(model.predict(X, exposure=EXPOSURE), EXPOSURE * theirs.predict(X), rtol=1e-5)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_and_metadata_stay_together(early_stopping):
    """Each callable gets, in every call of every method, the metadata of just the rows that it gets."""
    beside = {"label": np.array([f"row {i}" for i in range(N)]), "pair": np.c_[X[:, 0], -X[:, 0]]}
    row_of = {value: i for i, value in enumerate(X[:, 0].tolist())}
    seen = {}

    def follows(role, X, label, pair):
        rows = [row_of[value] for value in X[:, 0].tolist()]
        assert_array_equal(label, beside["label"][rows])
        assert_array_equal(pair, beside["pair"][rows])
        assert label.dtype == beside["label"].dtype
        assert not label.flags.writeable
        seen.setdefault(role, []).append(len(X))

    def init(X, label, pair):
        follows("init", X, label, pair)
        return np.zeros(2)

    def forward(params, X, label, pair):
        follows("forward", X, label, pair)
        return vector_forward(params, X)

    def gradient(params, X, y, label, pair):
        follows("gradient", X, label, pair)
        return vector_gradient(params, X, y)

    settings = {"batch_size": 7, "max_iter": 2, "tol": 0, "early_stopping": early_stopping, "random_state": 0}
    model = AnalyticRegressor(forward, gradient, init, loss="squared_error", **settings)
    with pytest.warns(match="epochs was reached"):
        model.fit(X, COUNTS, **beside)
    batches = seen["gradient"][-2 * (8 if early_stopping else 9) :]
    assert set(batches) == ({7, 5} if early_stopping else {7, 4})
    model.set_params(early_stopping=False).partial_fit(X, COUNTS, **beside)
    assert sum(seen["gradient"][-9:]) == N
    for method in (model.predict, lambda X, **metadata: model.score(X, COUNTS, **metadata)):
        del seen["forward"]
        method(X, **beside)
        assert seen["forward"] == [N]
    assert set(seen) == {"init", "forward", "gradient"}


COLUMNS = {
    "list": EXPOSURE.tolist(),
    "float32": EXPOSURE.astype(np.float32),
    "two columns": np.c_[EXPOSURE, EXPOSURE],
    "text": ["a", "bc"] * (N // 2),
    "bool": EXPOSURE > 1,
    "pandas, in its order": pd.Series(EXPOSURE, index=np.arange(N)[::-1]),
    "pandas, nullable": pd.Series(np.arange(N), dtype="Int64"),
    "pandas, categories": pd.Series(["a", "b"] * (N // 2), dtype="category"),
    "polars": pl.Series(EXPOSURE),
    "infinite": np.full(N, np.inf),
}
DTYPES = {"pandas, nullable": np.dtype(np.int64), "pandas, categories": np.dtype(object)}


@pytest.mark.parametrize("kind", COLUMNS)
def test_metadata_keep_their_dtype(kind):
    """Metadata are the callables' own business: no dtype and no value is refused, and rows count, not an index."""
    received = []

    def forward(params, X, extra):
        received.append(extra)
        return vector_forward(params, X)

    model = AnalyticRegressor(forward, vector_gradient, np.zeros(2))
    model.fit(X, COUNTS, extra=COLUMNS[kind]).predict(X, extra=COLUMNS[kind])
    expected = np.asarray(COLUMNS[kind])
    assert received[-1].dtype == DTYPES.get(kind, expected.dtype)
    assert received[-1].tolist() == expected.tolist()


def shifted(params, X, shift=0.0):
    return X @ params + shift


def shifted_gradient(params, X, y, shift=0.0):
    return X.T @ (shifted(params, X, shift) - y) / len(X)


def test_metadata_with_a_default_may_be_left_out():
    """What has a default is passed or not, in each method anew; also after pickling."""
    shift = np.arange(N, dtype=float)
    model = AnalyticRegressor(shifted, shifted_gradient, np.zeros(2), optimizer="lbfgs", tol=1e-7)
    with_shift = clone(model).fit(X, COUNTS + shift, shift=shift)
    without = clone(model).fit(X, COUNTS, shift=None)
    for fitted in (with_shift, without, pickle.loads(pickle.dumps(with_shift)), pickle.loads(pickle.dumps(without))):
        assert_allclose(fitted.predict(X), X @ np.linalg.lstsq(X, COUNTS, rcond=None)[0], rtol=1e-5)
        assert_array_equal(fitted.predict(X, shift=shift), fitted.predict(X) + shift)


def test_a_classifier_receives_metadata_in_all_its_methods():
    """An offset of the log-odds; labels of any kind."""

    def forward(params, X, offset):
        return X @ params + offset

    def gradient(params, X, y, offset):
        return X.T @ (expit(forward(params, X, offset)) - y) / len(X)

    offset = 10 * np.sign(X[:, 0])
    labels = np.where(offset > 0, "yes", "no")
    model = AnalyticClassifier(forward, gradient, np.zeros(2), n_iter_no_change=1, tol=1.0, random_state=0)
    model.fit(X, labels, offset=offset).partial_fit(X, labels, offset=offset)
    assert model.score(X, labels, offset=offset) == 1
    assert_array_equal(model.predict(X, offset=-offset) == labels, False)
    scores = model.decision_function(X, offset=offset)
    assert_allclose(model.predict_proba(X, offset=offset)[:, 1], expit(scores))


def test_a_density_receives_metadata_in_all_its_methods():
    """Gaussian rows, each with a scale of its own: the mean is that of weights 1 / scale²."""

    def forward(params, X, scale):
        z = (X[:, 0] - params["mean"]) / scale
        return -0.5 * z**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)

    def gradient(params, X, scale):
        return {"mean": float(np.mean((params["mean"] - X[:, 0]) / scale**2))}

    model = AnalyticDensity(forward, gradient, {"mean": 0.0}, optimizer="lbfgs", tol=1e-9)
    model.fit(X, scale=EXPOSURE)
    assert model.params_["mean"] == pytest.approx(np.average(X[:, 0], weights=EXPOSURE**-2), rel=1e-6)
    density = model.score_samples(X, scale=EXPOSURE)
    assert_array_equal(density, forward(model.params_, X, EXPOSURE))
    assert model.score(X, scale=EXPOSURE) == pytest.approx(density.mean())
    model.set_params(optimizer="sgd").partial_fit(X, scale=EXPOSURE)


def encode(params, X, gain):
    return gain[:, None] * (X @ params)


def reconstruct(params, X, gain):
    residual = X @ params @ params.T - X
    by_params = X.T @ residual @ params + residual.T @ X @ params
    return 0.5 * float((residual**2).sum()) / len(X), by_params / len(X)


def test_a_transformer_receives_metadata_also_in_fit_transform():
    """`fit_transform` is `fit` and `transform`, with the same metadata in both."""
    model = AnalyticTransformer(encode, init=np.eye(2), loss_and_gradient=reconstruct)
    codes = model.fit_transform(X, gain=EXPOSURE)
    assert_array_equal(codes, model.transform(X, gain=EXPOSURE))
    weighted = clone(model).fit_transform(X, sample_weight=None, gain=2 * EXPOSURE)
    assert_array_equal(weighted, 2 * codes)


def test_tools_take_metadata():
    """The gradient doctor, its picture and the sweep of rates look at the same objective as `fit`."""
    model = counts()
    assert check_gradient(model, X, COUNTS, exposure=EXPOSURE).ok
    weighted = {"exposure": EXPOSURE, "sample_weight": np.ones(N)}
    assert check_gradient(loss=rates_loss, gradient=rates_gradient, params=rates_init(2), X=X, y=COUNTS, **weighted).ok
    sweep = find_learning_rate(model, X, COUNTS, exposure=EXPOSURE, random_state=0)
    assert sweep.losses[0] == pytest.approx(np.mean(EXPOSURE - COUNTS * np.log(EXPOSURE)))
    for display in (
        GradientCheckDisplay.from_estimator(model, X, COUNTS, exposure=EXPOSURE, plot=False),
        GradientCheckDisplay.from_callables(
            rates_loss, rates_gradient, rates_init(2), X, COUNTS, **weighted, plot=False
        ),
    ):
        for entries in display.entries:
            assert_allclose(entries.analytic, entries.numerical, rtol=1e-6, atol=1e-9)
    with pytest.raises(ReceivedArgumentError, match="Metadata 'exposur' was passed"):
        check_gradient(model, X, COUNTS, exposur=EXPOSURE)


@pytest.mark.parametrize(
    "beside", [np.arange(N) % 3, np.array(["a", "b"] * 30), [None, "x"] * 30], ids=["numbers", "text", "objects"]
)
def test_metadata_of_any_kind_do_not_hinder_a_diagnosis(beside):
    """A wrong sign is found and named, whatever else goes with the rows."""

    def squared_error(params, X, y, beside):
        return 0.5 * float(np.mean((X @ params - y) ** 2))

    def wrong(params, X, y, beside):
        return -vector_gradient(params, X, y)

    report = check_gradient(loss=squared_error, gradient=wrong, params=np.ones(2), X=X, y=COUNTS, beside=beside)
    assert [finding.cause for finding in report.findings] == ["sign"]


# What is refused.

REFUSED = {
    "left out in fit": (
        lambda model: model.fit(X, COUNTS),
        "gradient has an argument 'exposure' that is not provided.*pass it to fit: exposure=",
    ),
    "left out in predict": (
        lambda model: model.predict(X),
        "forward has an argument 'exposure' that is not provided.*pass it to fit, predict and score: exposure=",
    ),
    "misspelt": (
        lambda model: model.fit(X, COUNTS, exposur=EXPOSURE),
        "Metadata 'exposur' was passed, but no callable used here names it. Did you mean 'exposure'.*: exposure",
    ),
    "standard deviations": (
        lambda model: model.fit(X, COUNTS, exposure=EXPOSURE, sigma=EXPOSURE),
        r"'sigma' was passed, .* For known standard deviations of y, pass sample_weight=sigma\*\*-2",
    ),
    "a validation set": (
        lambda model: model.fit(X, COUNTS, exposure=EXPOSURE, eval_set=[(X, COUNTS)]),
        "'eval_set' was passed, .* Pass validation samples as X_val and y_val",
    ),
    "weights by their name elsewhere": (
        lambda model: model.fit(X, COUNTS, exposure=EXPOSURE, weights=EXPOSURE),
        "'weights' was passed, .* Did you mean 'sample_weight'. It is an argument of fit and score, not metadata",
    ),
    "weights of the rows of X_val by their name elsewhere": (
        lambda model: model.fit(X, COUNTS, exposure=EXPOSURE, weights_val=EXPOSURE),
        "'weights_val' was passed, .* Did you mean 'sample_weight_val'. It is an argument of fit",
    ),
    "weights in score": (
        lambda model: model.score(X, COUNTS, exposure=EXPOSURE, Sample_Weights=EXPOSURE),
        "'Sample_Weights' was passed, .* Did you mean 'sample_weight'",
    ),
    "metadata in another case": (
        lambda model: model.fit(X, COUNTS, Exposure=EXPOSURE),
        "'Exposure' was passed, .* Did you mean 'exposure'. Names that the callables accept: exposure",
    ),
    "targets of a chunk": (
        lambda model: model.fit_chunks([{"X": X, "Y": COUNTS, "exposure": EXPOSURE}]),
        "'Y' was passed, .* Did you mean 'y'",
    ),
    "misspelt in predict": (
        lambda model: model.predict(X, exposure=EXPOSURE, groups=EXPOSURE),
        "Metadata 'groups' was passed, .*Names that the callables accept: exposure",
    ),
    "named by the default model": (
        lambda model: AnalyticTransformer().fit(X, n_components=3),
        "Metadata 'n_components' was passed, .*Names that the callables accept: none",
    ),
    "given by model_params too": (
        lambda model: model.set_params(model_params={"exposure": 1.0}).fit(X, COUNTS, exposure=EXPOSURE),
        "Metadata 'exposure' was passed, but model_params already has 'exposure'",
    ),
    "given by model_params to the rows of X_val": (
        lambda model: model.set_params(model_params={"exposure": 1.0}).fit(X, COUNTS, exposure_val=EXPOSURE),
        "Metadata 'exposure_val' was passed, but model_params already has 'exposure'",
    ),
    "misspelt for the rows of X_val": (
        lambda model: model.fit(X, COUNTS, exposure=EXPOSURE, exposur_val=EXPOSURE),
        "'exposur_val' was passed, whose suffix refers to X_val, .* 'exposur'. Did you mean 'exposure_val'",
    ),
    "only for the rows of X_val": (
        lambda model: model.set_params(early_stopping=True).fit(
            X, COUNTS, X_val=X, y_val=COUNTS, exposure_val=EXPOSURE
        ),
        "exposure_val is passed for the samples of X_val; also pass exposure for X",
    ),
    "rows to score where none are taken": (
        lambda model: model.partial_fit(X, COUNTS, exposure=EXPOSURE, X_val=X),
        "'X_val' was passed, but the name is taken: .* the validation set of fit and fit_chunks",
    ),
    "an argument of other methods": (
        lambda model: model.fit(X, COUNTS, exposure=EXPOSURE, classes=EXPOSURE),
        "'classes' was passed, but the name is taken: it is an argument of a classifier's partial_fit",
    ),
    "a name of the estimator's own": (
        lambda model: model.predict(X, exposure=EXPOSURE, sample_weight=EXPOSURE),
        "'sample_weight' was passed, but the name is taken: the estimator itself passes it",
    ),
    "one number": (
        lambda model: model.fit(X, COUNTS, exposure=2.0),
        "exposure must have one value per sample; got 2.0. .*model_params={'exposure': ...}",
    ),
    "too short": (
        lambda model: model.partial_fit(X, COUNTS, exposure=EXPOSURE[1:]),
        "exposure has 59 rows, but X has 60",
    ),
    "too long in score": (
        lambda model: model.score(X[1:], COUNTS[1:], exposure=EXPOSURE),
        "exposure has 60 rows, but X has 59",
    ),
    "sparse": (
        lambda model: model.fit(X, COUNTS, exposure=sparse.csr_array(EXPOSURE[:, None])),
        "exposure is sparse; metadata must be dense",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_metadata_that_do_not_fit_are_refused(case):
    """The error says which name, what came, and what there is; the model stays as it was."""
    call, message = REFUSED[case]
    model = counts().fit(X, COUNTS, exposure=EXPOSURE)
    before = pickle.dumps(model.params_)
    with pytest.raises((TypeError, ValueError), match=message):
        call(model)
    assert pickle.dumps(model.params_) == before
    model.predict(X, exposure=EXPOSURE)


@pytest.mark.parametrize("name", ["classes", "X_val", "exposure_val"])
def test_a_name_that_is_taken_cannot_be_metadata(name):
    """Asking for it is refused, also beside the name that it ends, and it cannot be requested; model_params have it."""

    class Taking:
        __signature__ = inspect.signature(eval(f"lambda params, X, exposure, {name}: 0"))

        def __call__(self, params, X, exposure, **taken):
            return exposure * params * taken[name], lambda d: d @ exposure * taken[name]

    model = AnalyticRegressor(vjp=Taking(), init=np.ones(()), optimizer="lbfgs")
    with pytest.raises(
        ReceivedArgumentError, match=f"vjp has an argument '{name}' .* The name is not available for metadata"
    ):
        model.fit(X, COUNTS, exposure=EXPOSURE)
    assert [*requested(model, "predict")] == ["exposure"]
    model.set_params(model_params={name: 2.0}).fit(X, 2 * EXPOSURE, exposure=EXPOSURE)
    assert_allclose(model.params_, 1.0)


def test_metadata_for_functions_that_hide_their_names_show_the_signature():
    """The names cannot be known, which is what the error says; requests are as if there were none."""

    def hiding(function):
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    model = counts(forward=hiding(rates_forward), gradient=hiding(rates_gradient))
    for call in (model.fit, model.partial_fit):
        with pytest.raises(ReceivedArgumentError, match=r"has the signature \(\*args, \*\*kwargs\).* functools.wraps"):
            call(X, COUNTS, exposure=EXPOSURE)
    assert requested(model, "predict") == {}


# Requests.


def requested(model, method):
    return getattr(model.get_metadata_routing(), method).requests


VALIDATION = {"X_val": None, "y_val": None, "sample_weight_val": None}


def test_requests_are_those_of_the_callables(routing):
    """By instance: what `fit` can request is what any callable names; `predict` and `score` what `forward` names."""
    model = AnalyticClassifier(
        rates_forward,
        lambda params, X, y, groups: 0,
        lambda start: 0,
        model_params={"start": 1},
        loss=lambda p, X, late=0: 0,
    )
    names = {"exposure", "groups", "late"}
    own = dict.fromkeys(names) | {f"{name}_val": None for name in names}
    assert requested(model, "fit") == {"sample_weight": None} | VALIDATION | own
    assert requested(model, "partial_fit") == {"sample_weight": None, "classes": None} | dict.fromkeys(names)
    assert requested(model, "score") == {"sample_weight": None, "exposure": None}
    for method in ("predict", "predict_proba", "decision_function"):
        assert requested(model, method) == {"exposure": None}
    assert requested(AnalyticClassifier(), "fit") == {"sample_weight": None} | VALIDATION
    assert requested(AnalyticClassifier(vjp=rates_vjp), "predict") == {"exposure": None}
    assert requested(AnalyticTransformer(encode), "transform") == {"gain": None}
    assert requested(AnalyticRegressor(forward=3, gradient=print, loss="poisson"), "predict") == {}


def test_requests_are_set_by_name(routing):
    """Keywords of the setters are an instance's; a setter is there where there is something to set."""
    model = counts()
    assert set(inspect.signature(model.set_score_request).parameters) == {"self", "exposure", "sample_weight"}
    model.set_fit_request(exposure=True, sample_weight="weights").set_predict_request(exposure="time")
    assert requested(model, "fit")["exposure"] is True
    assert requested(model, "fit")["sample_weight"] == "weights"
    assert requested(model, "predict") == {"exposure": "time"}
    assert not hasattr(AnalyticRegressor(), "set_predict_request")
    assert not hasattr(model, "set_transform_request")
    with pytest.raises(AttributeError, match="none of its callables names metadata for predict"):
        AnalyticRegressor().set_predict_request(exposure=True)
    with pytest.raises(TypeError, match="Unexpected args: {'groups'} in fit"):
        model.set_fit_request(groups=True)
    AnalyticRegressor.set_fit_request(model, sample_weight=False)
    assert requested(model, "fit")["sample_weight"] is False


def test_requests_are_carried_along(routing):
    """By clones and pickles; a request for a name that no callable has any more does not count."""
    model = counts().set_fit_request(exposure=True).set_partial_fit_request(exposure=False)
    for copied in (clone(model), pickle.loads(pickle.dumps(model))):
        assert requested(copied, "fit")["exposure"] is True
        assert requested(copied, "partial_fit")["exposure"] is False
    other = clone(model).set_params(forward=None, gradient=None)
    assert requested(other, "fit") == {"sample_weight": None} | VALIDATION


def test_a_setter_of_a_subclass_is_kept():
    """What a user's subclass defines itself is not replaced, where scikit-learn does not do that."""

    class Plain(LinearRegression):
        def set_fit_request(self, **requests):
            return requests

    if type(inspect.getattr_static(Plain, "set_fit_request")).__name__ != "function":
        pytest.skip("this scikit-learn replaces it in every estimator")

    class Own(AnalyticRegressor):
        def set_fit_request(self, **requests):
            return requests

    assert Own().set_fit_request(anything=True) == {"anything": True}


def test_requests_need_routing_to_be_enabled():
    """scikit-learn's own error."""
    with pytest.raises(RuntimeError, match="only available when metadata routing is enabled"):
        counts().set_fit_request(exposure=True)


# Through scikit-learn.


def test_metadata_go_through_a_search(routing):
    """Folds get their rows' exposure in `fit` and in `score`; the scores are those of a loop by hand."""
    model = counts(optimizer="lbfgs").set_fit_request(exposure=True).set_score_request(exposure=True)
    search = GridSearchCV(model, {"alpha": [0.0, 1.0]}, cv=KFold(3)).fit(X, COUNTS, exposure=EXPOSURE)
    by_hand = [
        clone(model)
        .fit(X[train], COUNTS[train], exposure=EXPOSURE[train])
        .score(X[test], COUNTS[test], exposure=EXPOSURE[test])
        for train, test in KFold(3).split(X)
    ]
    assert_array_equal([search.cv_results_[f"split{i}_test_score"][0] for i in range(3)], by_hand)
    best = search.best_estimator_
    assert search.score(X, COUNTS, exposure=EXPOSURE) == best.score(X, COUNTS, exposure=EXPOSURE)


def test_metadata_go_through_a_pipeline(routing):
    """Also into `predict`; a step that requests nothing gets nothing."""
    model = (
        counts().set_fit_request(exposure="time").set_predict_request(exposure=True).set_score_request(exposure=True)
    )
    pipeline = make_pipeline(StandardScaler(), model).fit(X, COUNTS, time=EXPOSURE)
    scaled = StandardScaler().fit_transform(X)
    alone = counts().fit(scaled, COUNTS, exposure=EXPOSURE)
    assert_array_equal(pipeline.predict(X, exposure=EXPOSURE), alone.predict(scaled, exposure=EXPOSURE))
    assert pipeline.score(X, COUNTS, exposure=EXPOSURE) == alone.score(scaled, COUNTS, exposure=EXPOSURE)


def test_a_transformer_gets_metadata_in_a_pipeline(routing):
    """The pipeline calls `fit_transform` in training and `transform` afterwards."""
    coder = AnalyticTransformer(encode, init=np.eye(2), loss_and_gradient=reconstruct)
    coder.set_fit_request(gain=True).set_transform_request(gain=True)
    pipeline = make_pipeline(coder, LinearRegression()).fit(X, COUNTS, gain=EXPOSURE)
    codes = clone(coder).fit(X, gain=EXPOSURE).transform(X, gain=EXPOSURE)
    expected = LinearRegression().fit(codes, COUNTS).predict(codes)
    assert_allclose(pipeline.predict(X, gain=EXPOSURE), expected, rtol=1e-10)


def test_weights_go_through_pipelines_searches_and_stacks(routing):
    """Zero weights hide rows: the result is that of the other rows alone."""
    weights = (np.arange(N) < 40).astype(float)
    wild = np.where(weights == 1, COUNTS, 1e3)
    linear = AnalyticRegressor(optimizer="lbfgs", alpha=1e-3, tol=1e-7)
    linear.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    alone = clone(linear).fit(X[:40], wild[:40])
    scorer = get_scorer("r2").set_score_request(sample_weight=True)
    folds = KFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(make_pipeline("passthrough", linear), {}, scoring=scorer, cv=folds)
    inside = make_pipeline("passthrough", GridSearchCV(linear, {}, cv=folds))
    for model in (search, inside):
        assert_allclose(model.fit(X, wild, sample_weight=weights).predict(X), alone.predict(X), rtol=1e-5)
    by_hand = [
        clone(linear).fit(X[train], wild[train], weights[train]).score(X[test], wild[test], sample_weight=weights[test])
        for train, test in folds.split(X)
    ]
    for results in (search.cv_results_, inside[-1].cv_results_):
        assert_allclose(results["mean_test_score"], np.mean(by_hand))
    stack = StackingRegressor([("linear", linear)], final_estimator=clone(linear), cv=KFold(2))
    stack.fit(X, wild, sample_weight=weights)
    assert_allclose(stack.estimators_[0].predict(X), clone(linear).fit(X[:40], wild[:40]).predict(X), rtol=1e-5)
    assert np.abs(stack.predict(X)).max() < 100


def test_a_request_that_is_not_made_is_an_error_of_scikit_learn(routing):
    """Nothing is dropped silently: neither weights nor metadata."""
    with pytest.raises(UnsetMetadataPassedError, match=r"\['?exposure'?\] are passed but are not explicitly set"):
        GridSearchCV(counts(), {}).fit(X, COUNTS, exposure=EXPOSURE)


def test_without_routing_a_search_passes_metadata_to_fit_alone():
    """That is enough where `forward` does without; else `score` says what it lacks."""
    model = AnalyticRegressor(
        vector_forward, lambda params, X, y, site: vector_gradient(params, X, y), np.zeros(2), optimizer="lbfgs"
    )
    search = GridSearchCV(model, {"alpha": [0.0]}, cv=KFold(3)).fit(X, COUNTS, site=np.arange(N))
    assert_array_equal(search.predict(X), clone(model).fit(X, COUNTS, site=np.arange(N)).predict(X))
    with pytest.raises(ReceivedArgumentError, match="forward has an argument 'exposure'"):
        GridSearchCV(counts(), {}, error_score="raise").fit(X, COUNTS, exposure=EXPOSURE)


PASSING = {
    "cross_val_score": lambda model: cross_val_score(model, X, COUNTS, params={"exposure": EXPOSURE}),
    "cross_validate": lambda model: cross_validate(model, X, COUNTS, params={"exposure": EXPOSURE}),
    "cross_val_predict": lambda model: cross_val_predict(model, X, COUNTS, params={"exposure": EXPOSURE}),
    "a search": lambda model: GridSearchCV(model, {}).fit(X, COUNTS, exposure=EXPOSURE),
    "a search without": lambda model: GridSearchCV(model, {}).fit(X, COUNTS),
    "a pipeline": lambda model: (
        make_pipeline(StandardScaler(), model).fit(X, COUNTS, analyticregressor__exposure=EXPOSURE).score(X, COUNTS)
    ),
}


@pytest.mark.parametrize("form", ["gradient", "vjp"])
@pytest.mark.parametrize("tool", PASSING)
def test_without_routing_the_message_shows_the_way(tool, form):
    """As an error, or in the warning that scikit-learn makes of one: how to enable routing, and what to request."""
    told = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            PASSING[tool](counts(form))
        except (ReceivedArgumentError, ValueError) as error:  # where all fits fail, scikit-learn quotes the first
            told.append(str(error))
    told += [str(warning.message) for warning in caught]
    way = "request it: sklearn.set_config(enable_metadata_routing=True), then set_fit_request(exposure=True)"
    if tool != "a search without":
        way += " and set_score_request(exposure=True). Leave scoring out"
    assert any(way in text for text in told), told


@pytest.mark.parametrize("tool", [tool for tool in PASSING if tool not in ("a search without", "a pipeline")])
def test_without_a_request_scikit_learn_names_the_method_to_request_for(tool, routing):
    """First that of `fit`, and then that of what scores."""
    with pytest.raises(UnsetMetadataPassedError, match=r"\['?exposure'?\] are passed .*set_fit_request"):
        PASSING[tool](counts())
    if tool != "cross_val_predict":  # which passes nothing to predict
        # The oldest scikit-learn names the method of `fit` there too.
        with pytest.raises(UnsetMetadataPassedError, match=r"\['?exposure'?\] are passed .*set_(score|fit)_request"):
            PASSING[tool](counts().set_fit_request(exposure=True))


def test_a_scorer_predicts_without_metadata(routing):
    """The limit of scikit-learn's searches that the guide tells of: a scorer by name cannot pass them to `predict`."""
    model = counts().set_fit_request(exposure=True)
    with pytest.raises(ReceivedArgumentError, match="pass it to fit, predict and score"):
        cross_val_score(
            model,
            X,
            COUNTS,
            scoring=make_scorer(mean_poisson_deviance, greater_is_better=False),
            params={"exposure": EXPOSURE},
            error_score="raise",
        )
