"""Early stopping: by any scorer, on rows held out here or passed by the user, with what belongs to them."""

import numpy as np
import pandas as pd
import pytest
from models import rates_forward, rates_gradient, rates_init, vector_forward, vector_gradient
from numpy.testing import assert_array_equal
from scipy.special import expit
from sklearn import config_context
from sklearn.metrics import get_scorer, make_scorer, mean_poisson_deviance
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    ReceivedArgumentError,
)

# Fits are cut short here: a score is looked at, not convergence.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
N = 80
X = RNG.normal(size=(N, 3))
Y = X @ [1.0, -0.5, 0.2] + RNG.normal(size=N)
LABELS = np.array(["no", "yes", "maybe"])[np.digitize(Y, [-0.5, 0.5])]
TAGS = np.c_[Y > 0, X[:, 0] > 0, X[:, 1] > 0].astype(int)
WEIGHTS = RNG.uniform(0, 3, N)
OTHERS = RNG.permutation(N)[:20]  # their features a little elsewhere: rows that training does not see
X_VAL = X[OTHERS] + 0.1
WEIGHTS_VAL = RNG.uniform(0, 3, 20)

ONE_EPOCH = {"early_stopping": True, "max_iter": 1, "random_state": 0}


def custom(estimator, X, y):
    """A scorer of the user's own, on anything the estimator has."""
    return estimator.params_["coef"].sum() + estimator.predict(X[3:9]).sum() - 2 * len(y)


TARGETS = {
    "regressor": (AnalyticRegressor, Y, ["r2", "neg_mean_absolute_error", "explained_variance", custom]),
    "outputs": (AnalyticRegressor, np.c_[Y, -Y], ["r2", "neg_mean_squared_error"]),
    "classes": (AnalyticClassifier, LABELS, ["accuracy", "neg_log_loss", "roc_auc_ovr", "f1_macro"]),
    "two": (AnalyticClassifier, LABELS == "yes", ["roc_auc", "neg_log_loss", "average_precision", "f1"]),
    "tags": (AnalyticClassifier, TAGS, ["accuracy", "f1_micro", "average_precision"]),
}
SCORED = [(name, scoring) for name, (_, _, scorings) in TARGETS.items() for scoring in scorings]


# Scorers.


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize(("name", "scoring"), SCORED, ids=[f"{n}-{getattr(s, '__name__', s)}" for n, s in SCORED])
def test_scores_are_those_of_the_scorer(name, scoring, weighted):
    """The score of the only epoch is what the scorer says of the fitted estimator, weights included."""
    cls, y, _ = TARGETS[name]
    validation = {"X_val": X_VAL, "y_val": y[OTHERS]}
    weights = {"sample_weight": WEIGHTS, "sample_weight_val": WEIGHTS_VAL} if weighted else {}
    model = cls(scoring=scoring, **ONE_EPOCH).fit(X, y, **validation, **weights)
    scorer = scoring if callable(scoring) else get_scorer(scoring)
    received = {"sample_weight": WEIGHTS_VAL} if weighted and scoring is not custom else {}
    assert model.validation_scores_ == [pytest.approx(scorer(model, X_VAL, y[OTHERS], **received), rel=1e-9)]


@pytest.mark.parametrize("name", TARGETS)
def test_by_default_the_score_is_the_estimators_own(name):
    """On rows that the user passes as on rows held out."""
    cls, y, _ = TARGETS[name]
    model = cls(**ONE_EPOCH).fit(X, y, WEIGHTS, X_val=X_VAL, y_val=y[OTHERS], sample_weight_val=WEIGHTS_VAL)
    assert model.validation_scores_ == [pytest.approx(model.score(X_VAL, y[OTHERS], WEIGHTS_VAL), rel=1e-9)]


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_best_parameters_are_restored(optimizer):
    """Those of the epoch with the best score: accuracy here falls again, and training ends."""
    model = AnalyticClassifier(optimizer=optimizer, scoring="neg_log_loss", tol=0.0, n_iter_no_change=3)
    model.set_params(early_stopping=True, random_state=0, alpha=0.0, max_iter=500)
    model.fit(X, LABELS, X_val=X_VAL, y_val=LABELS[OTHERS])
    scores = model.validation_scores_
    assert int(np.argmax(scores)) < len(scores) - 1
    assert get_scorer("neg_log_loss")(model, X_VAL, LABELS[OTHERS]) == pytest.approx(max(scores), rel=1e-9)


@pytest.mark.parametrize("kind", [float, np.array, np.atleast_2d, np.float32], ids=lambda kind: kind.__name__)
def test_a_score_is_one_number_in_any_array(kind):
    """As scikit-learn's own scoring takes it."""
    model = AnalyticRegressor(scoring=lambda estimator, X, y: kind(0.5), **ONE_EPOCH).fit(X, Y)
    assert model.validation_scores_ == [0.5]
    assert type(model.validation_scores_[0]) is float


def center(params, X):
    return X - params


def by_center(params, X):
    residual = params - X
    return 0.5 * float((residual**2).sum()) / len(X), residual.mean(axis=0)


@pytest.mark.parametrize(
    "model", [AnalyticDensity(), AnalyticTransformer(center, init=np.zeros(3), loss_and_gradient=by_center)]
)
def test_estimators_without_targets_take_scorers_of_the_users_own(model):
    """They are given None for y, as `fit` ignores it."""
    given = []

    def scorer(estimator, X, y):
        given.append((estimator, X, y))
        return float(np.mean(getattr(estimator, "score_samples", getattr(estimator, "transform", None))(X)))

    model.set_params(scoring=scorer, **ONE_EPOCH).fit(X, Y, X_val=X_VAL, y_val=Y[OTHERS])
    assert model.validation_scores_ == [pytest.approx(scorer(model, X_VAL, None), rel=1e-9)]
    assert all(y is None for _, _, y in given)
    assert type(given[0][0]) is type(model)
    assert given[0][0] is not model
    assert_array_equal(given[0][1], X_VAL)


def weighted_by_center(params, X, sample_weight):
    residual = sample_weight[:, None] * (params - X)
    return 0.5 * float((residual * (params - X)).sum()) / len(X), residual.mean(axis=0)


@pytest.mark.parametrize("given", [False, True], ids=["held out", "given"])
def test_the_scale_of_weights_makes_no_difference_to_a_transformer(given):
    """Its score is minus the weighted mean of the loss, as large as that of repeated rows."""
    rows = {"X_val": X_VAL, "sample_weight_val": 1000 * WEIGHTS_VAL} if given else {}
    settings = {"init": np.zeros(3), "loss_and_gradient": weighted_by_center} | ONE_EPOCH
    ours, thousandfold = (
        AnalyticTransformer(center, **settings).fit(X, sample_weight=factor * WEIGHTS, **rows) for factor in (1, 1000)
    )
    assert ours.validation_scores_ == [pytest.approx(thousandfold.validation_scores_[0], rel=1e-9)]
    if given:
        squares = ((X_VAL - ours.params_) ** 2).sum(axis=1)
        assert ours.validation_scores_ == [pytest.approx(-np.average(squares, weights=WEIGHTS_VAL) / 2)]


def test_a_scorer_is_called_once_and_then_after_each_epoch():
    """The first call is before the first step: what is wrong shows there."""
    seen = []

    def scorer(estimator, X, y):
        seen.append(estimator.params_["coef"].copy())
        return len(seen)

    model = AnalyticRegressor(scoring=scorer, early_stopping=True, max_iter=4, random_state=0).fit(X, Y)
    assert len(seen) == 5
    assert not seen[0].any()
    assert model.validation_scores_ == [2, 3, 4, 5]
    assert_array_equal(model.params_["coef"], seen[-1])


def test_a_scorer_of_the_users_own_receives_what_it_names():
    """Weights and metadata of the rows; what was not passed is not there."""
    received = []

    def scorer(estimator, X, y, sample_weight=None, site=None):
        received.append((sample_weight, site))
        return 0.0

    model = AnalyticRegressor(vector_forward, lambda p, X, y, site=None: 0 * p, np.zeros(3), loss=None)
    model.set_params(scoring=scorer, **ONE_EPOCH).fit(X, Y, site=np.arange(N), X_val=X_VAL, y_val=Y[OTHERS])
    assert received == [(None, None)] * 2
    rows = {"X_val": X_VAL, "y_val": Y[OTHERS], "sample_weight_val": [2.0] * 20, "site_val": OTHERS}
    model.fit(X, Y, site=np.arange(N), **rows)
    assert_array_equal(received[-1][0], np.full(20, 2.0))
    assert_array_equal(received[-1][1], OTHERS)


def weighted_by_site(y_true, y_pred, site, sample_weight=None):
    return float(np.sum(site)) + (1000.0 if sample_weight is None else 0.0)


def test_a_metric_receives_what_its_scorer_requests():
    """A scorer of scikit-learn's gets metadata that its metric names, under routing; a request of False is obeyed."""
    model = AnalyticRegressor(vector_forward, lambda p, X, y, site, sample_weight: 0 * p, np.zeros(3), loss=None)
    rows = {"site": np.arange(N), "X_val": X_VAL, "y_val": Y[OTHERS], "sample_weight_val": WEIGHTS_VAL}
    with config_context(enable_metadata_routing=True):
        for requests, score in (({}, OTHERS.sum()), ({"sample_weight": False}, OTHERS.sum() + 1000)):
            model.set_params(scoring=make_scorer(weighted_by_site).set_score_request(**requests), **ONE_EPOCH)
            assert model.fit(X, Y, **rows, site_val=OTHERS).validation_scores_ == [score]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'site'"):
        model.fit(X, Y, **rows, site_val=OTHERS)


# The rows: held out here, or given.

EXPOSURE = np.exp(X[:, 0])
COUNTS = RNG.poisson(EXPOSURE).astype(float)


def test_rows_held_out_keep_their_weights_and_metadata():
    """The score is that of the rows which the gradient never saw, with just their weights and exposure."""
    seen = set()

    def spy(params, X, y, exposure, sample_weight):
        seen.update(X[:, 0].tolist())
        return rates_gradient(params, X, y, exposure, sample_weight)

    model = AnalyticRegressor(rates_forward, spy, rates_init, loss="poisson", check_gradient=False, **ONE_EPOCH)
    model.set_params(scoring="neg_mean_poisson_deviance", validation_fraction=0.25)
    model.fit(X, COUNTS, WEIGHTS, exposure=EXPOSURE)
    out = np.array([value not in seen for value in X[:, 0].tolist()])
    assert out.sum() == 20
    predicted = model.predict(X[out], exposure=EXPOSURE[out])
    score = -mean_poisson_deviance(COUNTS[out], predicted, sample_weight=WEIGHTS[out])
    assert model.validation_scores_ == [pytest.approx(score, rel=1e-9)]


def test_metadata_of_given_rows_have_names_of_their_own():
    """``exposure_val`` belongs to the rows of X_val, and reaches `forward` when they are scored."""
    model = AnalyticRegressor(
        rates_forward, rates_gradient, rates_init, loss="poisson", scoring="neg_mean_poisson_deviance"
    )
    rows = {"X_val": X_VAL, "y_val": COUNTS[OTHERS], "exposure_val": np.exp(X_VAL[:, 0])}
    model.set_params(**ONE_EPOCH).fit(X, COUNTS, exposure=EXPOSURE, **rows)
    predicted = model.predict(X_VAL, exposure=rows["exposure_val"])
    score = -mean_poisson_deviance(COUNTS[OTHERS], predicted)
    assert model.validation_scores_ == [pytest.approx(score, rel=1e-9)]


def test_the_split_is_stratified_by_class_with_metadata():
    """Of 10 rare rows in 80, one is held out; labels of text, and a name for each row goes along."""
    rare = np.where(np.arange(N) < 10, "rare", "usual")
    seen = {}

    def spy(params, X, y, name):
        seen.update(zip(name.tolist(), y.tolist(), strict=True))
        return 0 * params

    model = AnalyticClassifier(vector_forward, spy, np.zeros(3), check_gradient=False, **ONE_EPOCH)
    model.fit(X, rare, name=[f"{label} {i}" for i, label in enumerate(rare)])
    assert len(seen) == 72
    assert sum(y == 0 for y in seen.values()) == 9
    assert all((y == 0) == name.startswith("rare") for name, y in seen.items())


def test_several_labels_a_row_are_not_stratified():
    """A combination of labels that one row alone has cannot be split; it need not be."""
    lonely = np.zeros((N, 3), int)
    lonely[0], lonely[::2, 1] = [1, 0, 1], 1
    model = AnalyticClassifier(**ONE_EPOCH).fit(X, lonely)
    assert len(model.validation_scores_) == 1


def test_with_rows_given_none_are_held_out():
    """Training sees all rows of X, and none of X_val; both in X's dtype."""
    n_seen, dtypes = [], set()

    def spy(params, X, y):
        n_seen.append(len(X))
        dtypes.add(X.dtype)
        return vector_gradient(params, X, y)

    def predict(params, X):
        dtypes.add(X.dtype)
        return vector_forward(params, X)

    settings = {"optimizer": "adam", "check_gradient": False, "scoring": "r2", **ONE_EPOCH}
    model = AnalyticRegressor(predict, spy, np.zeros(3), **settings)
    model.fit(X.astype(np.float32), Y, X_val=X_VAL, y_val=Y[OTHERS])
    assert n_seen == [N]
    assert dtypes == {np.dtype(np.float32)}


def test_names_of_columns_are_checked_in_given_rows():
    """Frames are welcome; another order of columns is scikit-learn's error, with a note of what it is about."""
    frame, frame_val = pd.DataFrame(X, columns=list("abc")), pd.DataFrame(X_VAL, columns=list("abc"))
    model = AnalyticRegressor(scoring=custom, **ONE_EPOCH)
    model.fit(frame, pd.Series(Y), X_val=frame_val, y_val=pd.Series(Y[OTHERS]))
    with pytest.raises(ValueError, match="Feature names must be in the same order") as raised:
        model.fit(frame, Y, X_val=frame_val[["b", "a", "c"]], y_val=Y[OTHERS])
    assert "concerns the validation set: X_val" in raised.value.__notes__[0]


def test_a_pipeline_transforms_given_rows():
    """``transform_input=["X_val"]``: the model is scored on rows scaled as those it learns from."""
    model = AnalyticRegressor(scoring="neg_mean_absolute_error", **ONE_EPOCH)
    with config_context(enable_metadata_routing=True):
        model.set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
        pipeline = Pipeline([("scale", StandardScaler()), ("model", model)], transform_input=["X_val"])
        pipeline.fit(10 * X + 3, Y, X_val=10 * X_VAL + 3, y_val=Y[OTHERS], sample_weight_val=WEIGHTS_VAL)
    score = get_scorer("neg_mean_absolute_error")(pipeline, 10 * X_VAL + 3, Y[OTHERS], sample_weight=WEIGHTS_VAL)
    assert pipeline[-1].validation_scores_ == [pytest.approx(score, rel=1e-9)]


def test_class_weights_count_in_given_rows_too():
    """As they do in rows held out; a class may be missing there."""
    two = np.flatnonzero(LABELS[OTHERS] != "maybe")
    model = AnalyticClassifier(class_weight={"yes": 3.0, "maybe": 2.0}, **ONE_EPOCH)
    model.fit(X, LABELS, X_val=X_VAL[two], y_val=LABELS[OTHERS][two])
    weights = np.where(LABELS[OTHERS][two] == "yes", 3.0, 1.0)
    expected = model.score(X_VAL[two], LABELS[OTHERS][two], weights)
    assert model.validation_scores_ == [pytest.approx(expected, rel=1e-9)]


# What is refused.

GIVEN = {"X_val": X_VAL, "y_val": Y[OTHERS]}
BESIDE = {"exposure_val": np.ones(20)}
REFUSED = {
    "early stopping is off": ({"early_stopping": False}, GIVEN, "X_val is passed to fit, but early_stopping is False"),
    "no targets": ({}, {"X_val": X_VAL}, "X_val is provided, but y_val was not provided"),
    "no rows": ({}, {"y_val": Y[OTHERS]}, "y_val is provided, but X_val was not provided"),
    "weights of no rows": ({}, {"sample_weight_val": WEIGHTS_VAL}, "sample_weight_val is provided, but X_val was not"),
    "metadata of no rows": ({}, {"exposure_val": WEIGHTS_VAL}, "exposure_val is provided, but X_val was not"),
    "metadata missing": ({}, GIVEN, "exposure is passed for the samples of X; also pass exposure_val for X_val"),
    "metadata too short": ({}, GIVEN | {"exposure_val": [1.0]}, "exposure_val has 1 rows, but X has 20"),
    "features": ({}, GIVEN | {"X_val": X_VAL[:, :2]}, "X has 2 features, but AnalyticRegressor is expecting 3"),
    "outputs": ({}, GIVEN | {"y_val": np.c_[Y, Y][OTHERS]}, r"y has shape \(20, 2\), but the y that .* \(n_samples,\)"),
    "lengths": ({}, GIVEN | {"y_val": Y}, "inconsistent numbers of samples"),
    "weights of zero": (
        {},
        GIVEN | BESIDE | {"sample_weight_val": np.zeros(20)},
        "sample_weight_val is zero for every sample",
    ),
    "one row": (
        {},
        {"X_val": X[:1], "y_val": Y[:1], "exposure_val": [1.0]},
        "X_val has 1 sample, but the score needs 2",
    ),
    "not a number": ({"scoring": lambda estimator, X, y: [1.0]}, {}, r"must return one number; got \[1.0\]"),
    "several numbers": ({"scoring": lambda estimator, X, y: np.ones(2)}, {}, "must return one number; got array"),
    "not for regressors": ({"scoring": "neg_log_loss"}, {}, "has none of the following attributes: predict_proba"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_the_first_step(case):
    """The error says what was wrong, and what was fitted before stays whole."""
    settings, rows, message = REFUSED[case]
    model = AnalyticRegressor(rates_forward, rates_gradient, rates_init, loss="poisson", random_state=0, max_iter=2)
    model.fit(X, COUNTS, exposure=EXPOSURE)
    before, losses = model.params_.copy(), list(model.loss_curve_)
    model.set_params(**{"early_stopping": True} | settings)
    with pytest.raises((ValueError, TypeError, AttributeError), match=message):
        model.fit(X, COUNTS, exposure=EXPOSURE, **rows)
    assert_array_equal(model.params_, before)
    assert model.loss_curve_ == losses


def test_a_label_that_training_does_not_have_is_refused():
    """Its probability could not be told."""
    with pytest.raises(ValueError, match=r"y has labels \['never'\] that are not among the classes"):
        AnalyticClassifier(**ONE_EPOCH).fit(X, LABELS, X_val=X_VAL[:1], y_val=["never"])


def test_partial_fit_takes_no_rows_to_score():
    """It does not stop early."""
    with pytest.raises(
        ReceivedArgumentError, match="Metadata 'X_val' was passed, .* the validation set of fit and fit_chunks"
    ):
        AnalyticRegressor().partial_fit(X, Y, X_val=X_VAL)


def test_probabilities_of_the_best_epoch_are_those_of_the_score():
    """With two score columns, text labels and weights, the logarithmic score is that of predict_proba."""
    model = AnalyticClassifier(scoring="neg_log_loss", **ONE_EPOCH | {"max_iter": 30})
    model.fit(X, LABELS == "yes", WEIGHTS, X_val=X_VAL, y_val=LABELS[OTHERS] == "yes", sample_weight_val=WEIGHTS_VAL)
    scores = expit(model.decision_function(X_VAL))
    hit = np.where(LABELS[OTHERS] == "yes", scores, 1 - scores)
    assert max(model.validation_scores_) == pytest.approx(np.average(np.log(hit), weights=WEIGHTS_VAL))
