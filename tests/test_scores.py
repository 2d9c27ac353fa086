"""Scores that mean something: D² of losses by name, minus the mean loss of one's own, and that loss on other rows."""

import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor
from sklearn.metrics import (
    d2_absolute_error_score,
    d2_log_loss_score,
    d2_pinball_score,
    d2_tweedie_score,
    log_loss,
    mean_squared_error,
    r2_score,
)
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    ParameterStructureError,
    ReceivedArgumentError,
    neg_mean_loss,
)
from sk_analytic.losses import D2, Huber, Loss, Poisson, Quantile, SquaredError, Tweedie, get_loss, get_loss_names

# Fits are cut short here: a score is looked at, not convergence.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
N = 90
X = RNG.normal(size=(N, 3))
Y = X @ [1.0, -0.5, 0.2] + RNG.normal(size=N)
POSITIVE = np.exp(0.5 * Y)
COUNTS = RNG.poisson(POSITIVE).astype(float)
WEIGHTS = RNG.uniform(0, 3, N)
WEIGHTS[::10] = 0
EXPOSURE = RNG.uniform(0.5, 2.0, N)
EACH_WEIGHT = pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["equal", "weighted"])


class LogCosh(Loss):
    """A loss of the user's own that has D²."""

    def formula(self, y, prediction):
        residual = prediction - y
        return np.logaddexp(residual, -residual) - math.log(2), np.tanh(residual)


class Total(SquaredError):
    """Not a sum over rows, as far as anybody knows."""

    additive = False


# D².

METRICS = {
    "squared_error": ("squared_error", Y, r2_score),
    "absolute_error": ("absolute_error", Y, d2_absolute_error_score),
    "quantile": (
        Quantile(quantile=0.8),
        Y,
        # An older scikit-learn interpolates where there are no weights.
        lambda y, f, sample_weight: d2_pinball_score(
            y, f, alpha=0.8, sample_weight=np.ones(N) if sample_weight is None else sample_weight
        ),
    ),
    **{
        f"{loss}-{link}": (
            Tweedie(power=power, link=link) if loss == "tweedie" else get_loss(loss).set_params(link=link),
            y,
            lambda y, f, sample_weight, power=power: d2_tweedie_score(y, f, power=power, sample_weight=sample_weight),
        )
        for loss, power, y in [("poisson", 1, COUNTS), ("gamma", 2, POSITIVE), ("tweedie", 1.7, COUNTS)]
        for link in ("log", "identity")
    },
}


@EACH_WEIGHT
@pytest.mark.parametrize("name", METRICS)
def test_d2_is_that_of_scikit_learns_metrics(name, weight):
    """On y's own scale, weights included."""
    loss, y, metric = METRICS[name]
    start = {"coef": np.zeros(3), "intercept": 1.0}
    model = AnalyticRegressor(loss=loss, init=start, optimizer="lbfgs", max_iter=1).fit(X, y)
    expected = metric(y, model.predict(X), sample_weight=weight)
    assert model.score(X, y, weight) == pytest.approx(expected, rel=1e-9)
    assert 0 < abs(expected) < 10


def test_the_score_of_the_squared_error_is_r2_to_the_bit():
    """So that a search by ``"r2"`` and one by the score choose alike."""
    for y in (Y, np.c_[Y, COUNTS]):
        model = AnalyticRegressor(max_iter=3, random_state=0).fit(X, y)
        for weight in (None, WEIGHTS[WEIGHTS > 0]):
            rows = slice(None) if weight is None else WEIGHTS > 0
            predicted = model.predict(X[rows])
            assert model.score(X[rows], y[rows], weight) == r2_score(y[rows], predicted, sample_weight=weight)


@EACH_WEIGHT
@pytest.mark.parametrize(
    ("reference", "loss", "y"),
    [
        (PoissonRegressor(alpha=0), "poisson", COUNTS),
        (GammaRegressor(alpha=0), "gamma", POSITIVE),
        (TweedieRegressor(alpha=0, power=1.5), Tweedie(power=1.5), COUNTS),
    ],
    ids=["poisson", "gamma", "tweedie"],
)
def test_the_score_is_that_of_scikit_learns_glms(reference, loss, y, weight):
    """Of the same coefficients, on other rows than those of the fit."""
    reference.fit(X[:60], y[:60])
    model = AnalyticRegressor(loss=loss, max_iter=1).fit(X[:60], y[:60])
    model.params_ = {"coef": reference.coef_, "intercept": reference.intercept_}
    weight = None if weight is None else weight[60:]
    assert model.score(X[60:], y[60:], weight) == pytest.approx(reference.score(X[60:], y[60:], weight), rel=1e-9)


@EACH_WEIGHT
def test_d2_of_shares_is_that_of_the_log_loss(weight):
    """A regressor on the logit scale; certain labels have a loss of 0."""
    y = (Y > 0).astype(float)
    model = AnalyticRegressor(loss="log_loss", max_iter=2, random_state=0).fit(X, y)
    expected = d2_log_loss_score(y, model.predict(X), sample_weight=weight)
    assert model.score(X, y, weight) == pytest.approx(expected, rel=1e-9)


NAMED = [name for name in get_loss_names() if get_loss(name).domain is not None]


@EACH_WEIGHT
@pytest.mark.parametrize("loss", [*map(get_loss, NAMED), Huber(0.3), Tweedie(1.9), LogCosh()], ids=repr)
def test_d2_is_1_for_y_itself_and_0_for_the_best_constant(loss, weight):
    """Of every loss; no other constant is better."""
    y = (Y > 0).astype(float) if loss.link == "logit" else POSITIVE
    d2 = D2(loss, y, weight)
    constant = loss.best_constant(y, weight)
    itself = np.where(y > 0, 800.0, -800.0) if loss.link == "logit" else y if loss.link == "identity" else np.log(y)
    assert d2(itself) == pytest.approx(1, rel=1e-12)
    assert d2(np.full(N, constant)) == pytest.approx(0, abs=1e-12)
    others = constant + np.linspace(-1, 1, 41)
    assert max(d2(np.full(N, other)) for other in others if loss.link != "identity" or other > 0) < 1e-12
    assert 0 < d2(itself + 0.2 * (constant - itself)) <= 1


@pytest.mark.parametrize("loss", [Huber(0.5), LogCosh(), Poisson(), SquaredError(), Quantile(quantile=0.2)], ids=repr)
def test_d2_of_several_outputs_is_the_mean_of_theirs(loss):
    """As R² averages them, and in float32 as in float64."""
    y = np.c_[COUNTS, POSITIVE, 1e3 * POSITIVE]
    prediction = RNG.normal(size=y.shape)
    each = [D2(loss, column, WEIGHTS)(of_column) for column, of_column in zip(y.T, prediction.T, strict=True)]
    assert D2(loss, y, WEIGHTS)(prediction) == pytest.approx(np.mean(each))
    single = D2(loss, y.astype(np.float32), WEIGHTS)(prediction.astype(np.float32))
    assert single == pytest.approx(np.mean(each), rel=1e-4)


def test_rows_of_weight_0_are_as_if_they_were_not_there():
    """Whatever is in them."""
    wild = np.where(WEIGHTS == 0, 1e300, POSITIVE)
    prediction = np.where(WEIGHTS == 0, np.nan, Y)
    counts = WEIGHTS > 0
    for name in NAMED[:-1]:
        if name == "log_loss":
            continue
        alone = D2(get_loss(name), POSITIVE[counts], WEIGHTS[counts])(Y[counts])
        assert D2(get_loss(name), wild, WEIGHTS)(prediction) == alone


@pytest.mark.parametrize("name", NAMED)
def test_a_constant_y_has_d2_of_1_or_0(name):
    """1 for perfect predictions and else 0, as `r2_score` has it; no rounding of a mean makes it huge."""
    loss, y = get_loss(name), np.full(7, 0.1)
    itself = {"identity": y, "log": np.log(y), "logit": np.log(y / (1 - y))}[loss.link]
    d2 = D2(loss, y)
    assert d2(itself) == 1
    assert d2(itself + 0.5) == 0
    assert d2(np.array([math.inf] * 7)) != d2(itself)  # NaN


def test_counts_of_zeros_alone_are_no_error():
    """The best constant is minus infinity on the log scale."""
    assert D2(Poisson(), np.zeros(5))(np.zeros(5)) == 0


def test_a_loss_with_several_minima_is_compared_with_the_best_constant():
    """Two clusters, and a loss that ignores what is far: the larger cluster is the better constant."""

    class Welsch(Loss):
        def formula(self, y, prediction):
            r = prediction - y
            return 1 - np.exp(-r * r / 2), r * np.exp(-r * r / 2)

    y = np.r_[RNG.normal(size=20), RNG.normal(50, 1, size=40)]
    assert Welsch().best_constant(y) == pytest.approx(50, abs=1)
    grid = np.linspace(-3, 53, 5001)
    assert max(D2(Welsch(), y)(np.full(60, constant)) for constant in grid) < 1e-9


def test_a_loss_that_is_not_smallest_at_y_has_no_d2():
    """An error says how it is scored instead; then the score is minus the mean loss."""

    class Shifted(SquaredError):
        best_constant = Loss.best_constant

        def formula(self, y, prediction):
            return super().formula(y + 9.0, prediction)

    class Declared(Shifted):
        has_d2 = False

    with pytest.raises(ValueError, match=r"Shifted is smaller for the constant prediction .* Set has_d2 = False"):
        AnalyticRegressor(loss=Shifted()).fit(X, Y).score(X, Y)
    model = AnalyticRegressor(loss=Declared(), optimizer="lbfgs").fit(X, Y)
    assert model.score(X, Y) == -model.mean_loss(X, Y) == pytest.approx(-np.mean((model.predict(X) - Y - 9) ** 2) / 2)


def test_one_row_has_no_d2(recwarn):
    """NaN and a warning, as from `r2_score`."""
    model = AnalyticRegressor(max_iter=1).fit(X, Y)
    with pytest.warns(UndefinedMetricWarning, match="fewer than two samples"):
        assert math.isnan(model.score(X[:1], Y[:1]))
    with pytest.warns(UndefinedMetricWarning, match="fewer than two samples"):
        assert math.isnan(model.score(X, Y, np.eye(N)[0]))


def test_what_cannot_be_scored_is_an_error():
    """y outside the domain, of another shape, or absent; no weight; infinite predictions."""
    model = AnalyticRegressor(loss="poisson", max_iter=1).fit(X, COUNTS)
    with pytest.raises(ValueError, match=r"poisson: y\[3\] is -1.0, outside the loss's domain"):
        model.score(X, np.where(np.arange(N) == 3, -1.0, COUNTS))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.score(X, COUNTS[1:])
    with pytest.raises(ValueError, match=r"forward returned shape \(90,\), but y has shape \(90, 2\)"):
        model.score(X, np.c_[COUNTS, COUNTS])
    with pytest.raises(ValueError, match="zero for every sample: there is nothing to average"):
        model.score(X, COUNTS, np.zeros(N))
    with pytest.raises(NotFittedError):
        clone(model).score(X, COUNTS)
    endless = AnalyticRegressor(lambda p, X: X @ p + np.where(p[0] > 9, np.inf, 0), cubic_gradient, np.zeros(3))
    endless.set_params(check_gradient=False, max_iter=1).fit(X, Y).params_ = np.full(3, 10.0)
    with pytest.raises(ValueError, match="Input prediction contains infinity"):
        endless.score(X, Y)


def test_a_column_of_targets_goes_with_a_vector_of_predictions():
    """As in scikit-learn's metrics."""
    model = AnalyticRegressor(max_iter=1).fit(X, Y)
    assert model.score(X, Y[:, None]) == model.score(X, Y.tolist()) == r2_score(Y, model.predict(X))


# A loss of one's own.


def linear(params, X):
    return X @ params


def cubic(params, X, y, sample_weight=None):
    values = np.abs(linear(params, X) - y) ** 3
    return float(np.mean(values if sample_weight is None else sample_weight * values))


def cubic_gradient(params, X, y, sample_weight=None):
    r = linear(params, X) - y
    by_r = 3 * r * np.abs(r) * (1 if sample_weight is None else sample_weight)
    return X.T @ by_r / len(X)


def cubic_both(params, X, y, sample_weight=None):
    return cubic(params, X, y, sample_weight), cubic_gradient(params, X, y, sample_weight)


def cubic_sums(params, X, y, sample_weight=None):
    return len(X) * cubic(params, X, y, sample_weight), len(X) * cubic_gradient(params, X, y, sample_weight)


OWN = {
    "loss": {"gradient": cubic_gradient, "loss": cubic},
    "loss_and_gradient": {"loss_and_gradient": cubic_both},
    "none by name": {"loss_and_gradient": cubic_both, "loss": None},
    "sums": {"loss_and_gradient": cubic_sums, "reduction": "sum"},
    "differences": {"loss": cubic, "numerical": [0]},
}


@EACH_WEIGHT
@pytest.mark.filterwarnings("ignore:numerical:UserWarning")
@pytest.mark.parametrize("form", OWN)
def test_a_loss_of_ones_own_scores_by_itself(form, weight):
    """Minus the weighted mean of what the user's function says, whatever the name of a loss beside it."""
    model = AnalyticRegressor(linear, init=[np.zeros(3)], **OWN[form]) if form == "differences" else None
    model = model or AnalyticRegressor(linear, init=np.zeros(3), **OWN[form])
    if form == "differences":
        model.set_params(
            forward=lambda p, X: linear(p[0], X),
            loss=lambda p, X, y, sample_weight=None: cubic(p[0], X, y, sample_weight),
        )
    model.set_params(max_iter=2, random_state=0).fit(X[:60], Y[:60])
    rows = slice(60, None)
    weight = None if weight is None else weight[rows]
    expected = np.average(np.abs(model.predict(X[rows]) - Y[rows]) ** 3, weights=weight)
    assert model.mean_loss(X[rows], Y[rows], weight) == pytest.approx(expected)
    assert model.score(X[rows], Y[rows], weight) == -model.mean_loss(X[rows], Y[rows], weight)
    assert model.__sklearn_tags__().regressor_tags.poor_score


def test_without_any_loss_a_regressor_is_scored_by_r2():
    """There is nothing else to go by, and `mean_loss` says what to give."""
    model = AnalyticRegressor(linear, cubic_gradient, np.zeros(3), loss=None, max_iter=2).fit(X, Y)
    assert model.score(X, Y) == r2_score(Y, model.predict(X))
    with pytest.raises(ValueError, match=r"There is no loss, .* use loss_and_gradient"):
        model.mean_loss(X, Y)
    assert not model.__sklearn_tags__().regressor_tags.poor_score


@pytest.mark.parametrize("loss", [Total(), SquaredError()], ids=["total", "sum"])
def test_a_loss_that_is_no_sum_over_rows_scores_by_itself(loss):
    """It has no loss of a row; the same formula as a sum over rows has R²."""
    model = AnalyticRegressor(loss=loss, optimizer="lbfgs").fit(X, Y)
    squares = mean_squared_error(Y, model.predict(X)) / 2
    assert model.mean_loss(X, Y) == pytest.approx(squares)
    expected = r2_score(Y, model.predict(X)) if loss.additive else -squares
    assert model.score(X, Y) == pytest.approx(expected)
    if not loss.additive:
        with pytest.raises(ValueError, match="does not decompose over samples"):
            model.mean_loss(X, Y, WEIGHTS)


def test_a_loss_changed_in_a_warm_fit_changes_the_score():
    """The score is that of the last fit, and a loss that is set since then waits for the next."""
    model = AnalyticRegressor(linear, cubic_gradient, np.zeros(3), loss=cubic, warm_start=True, max_iter=2)
    model.fit(X, Y)
    assert model.score(X, Y) == -model.mean_loss(X, Y)
    model.set_params(gradient=None, vjp=lambda p, X: (X @ p, lambda d: X.T @ d), loss="squared_error")
    assert model.score(X, Y) == -model.mean_loss(X, Y)
    assert model.fit(X, Y).score(X, Y) == r2_score(Y, model.predict(X))
    model.set_params(vjp=None, gradient=cubic_gradient, loss=cubic).partial_fit(X, Y)
    assert model.score(X, Y) == -model.mean_loss(X, Y)


def test_weights_need_a_loss_that_knows_them():
    """As in `fit`."""
    model = AnalyticRegressor(linear, cubic_gradient, np.zeros(3), loss=lambda p, X, y: cubic(p, X, y, None)).fit(X, Y)
    with pytest.raises(ValueError, match="loss does not accept sample_weight"):
        model.score(X, Y, WEIGHTS)


# The training loss on other rows.


@EACH_WEIGHT
def test_the_mean_loss_is_that_of_the_objective_without_the_penalty(weight):
    """On the rows of the fit it is the last loss of a full-batch method, but for the penalty."""
    model = AnalyticRegressor(loss="huber", alpha=0.1, optimizer="lbfgs", tol=1e-9).fit(X, Y, weight)
    penalty = 0.05 * float(model.params_["coef"] @ model.params_["coef"])
    assert model.mean_loss(X, Y, weight) == pytest.approx(model.loss_ - penalty, rel=1e-6)


@EACH_WEIGHT
def test_the_mean_loss_of_a_classifier_is_the_log_loss(weight):
    """Of labels as they came, classes missing among them; class weights count in training alone."""
    labels = np.array(["no", "yes", "maybe"])[np.digitize(Y, [-0.5, 0.5])]
    model = AnalyticClassifier(class_weight={"yes": 9.0}, max_iter=3, random_state=0).fit(X, labels)
    for rows in (labels != "?", labels != "no", labels == "yes"):
        of_rows = None if weight is None else weight[rows]
        expected = log_loss(labels[rows], model.predict_proba(X[rows]), labels=model.classes_, sample_weight=of_rows)
        assert model.mean_loss(X[rows], labels[rows], of_rows) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"labels \['never'\] that are not among the classes"):
        model.mean_loss(X[:2], ["never", "yes"])
    assert model.class_weight == {"yes": 9.0}
    tags = np.c_[Y > 0, X[:, 0] > 0].astype(int)
    several = AnalyticClassifier(max_iter=3, random_state=0).fit(X, tags)
    expected = [log_loss(tags[:, k], several.predict_proba(X)[:, k], sample_weight=weight) for k in (0, 1)]
    assert several.mean_loss(X, tags, weight) == pytest.approx(sum(expected))


@EACH_WEIGHT
def test_the_mean_loss_of_a_density_and_a_transformer(weight):
    """The negative log-likelihood, and half the squared error of reconstruction, whose negative is the score."""
    density = AnalyticDensity(max_iter=2).fit(X[:60])
    assert density.mean_loss(X, sample_weight=weight) == pytest.approx(-density.score(X, sample_weight=weight))
    coder = AnalyticTransformer(max_iter=2, random_state=0).fit(X[:60])
    basis, mean = coder.params_["components"], coder.params_["mean"]
    squares = ((coder.transform(X) @ basis.T + mean - X) ** 2).sum(axis=1)
    assert coder.mean_loss(X, Y, weight) == pytest.approx(np.average(squares, weights=weight) / 2)
    assert coder.score(X, Y, weight) == -coder.mean_loss(X, Y, weight)


def test_a_transformer_without_a_loss_has_no_score():
    """Only a gradient was given; neither has an estimator that is not fitted a loss."""
    coder = AnalyticTransformer(linear, lambda params, X: 0 * params, np.eye(3), check_gradient=False, max_iter=1)
    assert not hasattr(coder.fit(X), "score")
    with pytest.raises(AttributeError, match="no attribute 'score'") as raised:
        coder.score(X)
    assert "gradient was given with loss=None. Pass a loss by name" in str(raised.value.__cause__)
    with pytest.raises(ValueError, match="There is no loss"):
        coder.mean_loss(X)
    assert hasattr(AnalyticTransformer(), "score")
    with pytest.raises(NotFittedError):
        AnalyticDensity().mean_loss(X)


def test_rows_are_read_as_in_fit():
    """Their features, y in the domain and in the shape of the fit, and weights; nothing is written to."""
    model = AnalyticRegressor(loss="poisson", max_iter=1).fit(X, COUNTS)
    before = pickle.dumps(model)
    for arrays, message in [
        ((X[:, :2], COUNTS), "X has 2 features, but AnalyticRegressor is expecting 3"),
        ((X, None), "requires y to be passed"),
        ((X, -COUNTS - 1), "outside the loss's domain"),
        ((X, np.c_[COUNTS, COUNTS]), "but the y that training began with had shape"),
        ((X, COUNTS, np.zeros(N)), "there is nothing to average"),
        ((X, COUNTS, -WEIGHTS), "Negative values in sample_weight"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.mean_loss(*arrays)
    with pytest.raises(ReceivedArgumentError, match="Metadata 'exposure' was passed"):
        model.mean_loss(X, COUNTS, exposure=EXPOSURE)
    assert pickle.dumps(model) == before


# Metadata, scorers, searches.


def rates(params, X, exposure):
    return X @ params + np.log(exposure)


def rates_gradient(params, X, y, exposure):
    return X.T @ (np.exp(rates(params, X, exposure)) - y) / len(X)


def rates_vjp(params, X, exposure):
    return rates(params, X, exposure), lambda d: X.T @ d


def deviance(params, X, y, exposure, origin=None):
    prediction = X @ params + np.log(exposure)
    return float(np.mean(np.exp(prediction) - y * prediction)) + (0 if origin is None else 1000 * float(origin[0]))


def both(params, X, y, exposure, origin=None):
    return deviance(params, X, y, exposure, origin), rates_gradient(params, X, y, exposure)


RATES = {
    "gradient": {"forward": rates, "gradient": rates_gradient, "loss": "poisson"},
    "vjp": {"vjp": rates_vjp, "loss": "poisson"},
    "loss": {"forward": linear, "gradient": rates_gradient, "loss": deviance},
    "loss_and_gradient": {"forward": linear, "loss_and_gradient": both},
}
EACH_RATES = pytest.mark.parametrize("form", RATES)


def counts(form, **settings):
    return AnalyticRegressor(init=np.zeros(3), optimizer="lbfgs", **RATES[form], **settings)


def poisson_loss(params, rows):
    return deviance(params, X[rows], COUNTS[rows], EXPOSURE[rows])


@EACH_RATES
def test_the_mean_loss_takes_metadata(form):
    """What the loss or `forward` names, also if the fit had more than is passed."""
    more = {"origin": np.zeros(N)} if form in ("loss", "loss_and_gradient") else {}
    model = counts(form).fit(X, COUNTS, exposure=EXPOSURE, **more)
    rows = slice(10, 40)
    got = model.mean_loss(X[rows], COUNTS[rows], exposure=EXPOSURE[rows])
    assert got == pytest.approx(poisson_loss(model.params_, rows))
    if more:
        shifted = model.mean_loss(X[rows], COUNTS[rows], exposure=EXPOSURE[rows], origin=np.ones(30))
        assert shifted == pytest.approx(got + 1000)
    with pytest.raises(ReceivedArgumentError, match="has an argument 'exposure'") as raised:
        model.mean_loss(X[rows], COUNTS[rows])
    assert any("neg_mean_loss.set_score_request(name=True)" in note for note in raised.value.__notes__)


@EACH_RATES
def test_the_scorer_gets_metadata_by_routing(form):
    """In cross-validation, several scorers at once, a search, and a pipeline in a search."""
    folds = KFold(3)
    settings = {"cv": folds, "params": {"exposure": EXPOSURE}, "error_score": "raise"}
    by_hand = [
        -poisson_loss(counts(form).fit(X[train], COUNTS[train], exposure=EXPOSURE[train]).params_, test)
        for train, test in folds.split(X)
    ]
    with config_context(enable_metadata_routing=True):
        model = counts(form).set_fit_request(exposure=True)
        scorer = neg_mean_loss.set_score_request(exposure=True)
        assert_allclose(cross_validate(model, X, COUNTS, scoring=scorer, **settings)["test_score"], by_hand)
        assert_allclose(cross_validate(model, X, COUNTS, scoring={"a": scorer}, **settings)["test_a"], by_hand)
        search = GridSearchCV(model, {"alpha": [0.0]}, scoring=scorer, cv=folds).fit(X, COUNTS, exposure=EXPOSURE)
        assert search.best_score_ == pytest.approx(np.mean(by_hand))
        assert search.score(X, COUNTS, exposure=EXPOSURE) == pytest.approx(
            -poisson_loss(search.best_estimator_.params_, slice(None))
        )
        pipeline = make_pipeline("passthrough", StandardScaler(with_mean=False, with_std=False), model)
        nested = GridSearchCV(pipeline, {}, scoring=scorer, cv=folds).fit(X, COUNTS, exposure=EXPOSURE)
        assert nested.best_score_ == pytest.approx(np.mean(by_hand))


@pytest.mark.parametrize("form", ["loss", "loss_and_gradient"])
def test_a_score_by_the_loss_requests_what_the_loss_names(form):
    """`forward` does without, and still `score` gets the exposure, for a search without a scorer."""
    with config_context(enable_metadata_routing=True):
        model = counts(form).set_fit_request(exposure=True).set_score_request(exposure=True)
        assert set(model.get_metadata_routing().score.requests) == {"exposure", "origin", "sample_weight"}
        results = cross_validate(model, X, COUNTS, params={"exposure": EXPOSURE}, cv=2, error_score="raise")
    half = N // 2
    first = counts(form).fit(X[half:], COUNTS[half:], exposure=EXPOSURE[half:])
    assert results["test_score"][0] == pytest.approx(-poisson_loss(first.params_, slice(half)))
    assert first.score(X, COUNTS, exposure=EXPOSURE) == pytest.approx(-poisson_loss(first.params_, slice(None)))


def test_the_scorer_is_a_scorer():
    """It works by itself in searches over densities, is weighted, copied and pickled, and shows what it requests."""
    search = GridSearchCV(AnalyticDensity(), {"alpha": [0.0, 1.0]}, scoring=neg_mean_loss).fit(X)
    assert search.cv_results_["mean_test_score"] == pytest.approx(
        GridSearchCV(AnalyticDensity(), {"alpha": [0.0, 1.0]}).fit(X).cv_results_["mean_test_score"]
    )
    by_hand = cross_validate(
        AnalyticRegressor(max_iter=2, random_state=0), X, Y, scoring=lambda model, X, y: -model.mean_loss(X, y)
    )["test_score"]
    found = cross_validate(AnalyticRegressor(max_iter=2, random_state=0), X, Y, scoring=neg_mean_loss)["test_score"]
    assert_allclose(found, by_hand)
    requesting = neg_mean_loss.set_score_request(exposure="time", sample_weight=True)
    assert repr(requesting) == "neg_mean_loss.set_score_request(exposure='time', sample_weight=True)"
    assert repr(pickle.loads(pickle.dumps(requesting))) == repr(requesting)
    assert repr(neg_mean_loss) == "neg_mean_loss"
    assert repr(clone(AnalyticRegressor(scoring=requesting)).scoring) == repr(requesting)


# Early stopping.

STOPPED = {
    "r2": (AnalyticRegressor(), Y),
    "poisson": (AnalyticRegressor(loss="poisson"), COUNTS),
    "huber": (AnalyticRegressor(loss="huber"), np.c_[Y, -Y]),
    "own": (AnalyticRegressor(linear, init=np.zeros(3), **OWN["loss"], alpha=0.1), Y),
    "own both": (AnalyticRegressor(linear, init=np.zeros(3), **OWN["loss_and_gradient"]), Y),
    "density": (AnalyticDensity(), None),
    "transformer": (AnalyticTransformer(alpha=0.1), None),
    "classes": (AnalyticClassifier(class_weight={True: 2.0}), Y > 0),
}


def stopped(name, **settings):
    model, y = STOPPED[name]
    settings = {"early_stopping": True, "max_iter": 3, "random_state": 0} | settings
    return clone(model).set_params(**settings), np.zeros(N) if y is None else y


@EACH_WEIGHT
@pytest.mark.parametrize("name", STOPPED)
def test_early_stopping_scores_as_score_does(name, weight):
    """Also by chunks that are held out, and by the scorer of the mean loss, with and without weights."""
    model, y = stopped(name)
    rows, others = slice(60), slice(60, None)
    weights = {} if weight is None else {"sample_weight": weight[rows], "sample_weight_val": weight[others]}
    of_others = None if weight is None else weight[others]
    for scoring, score in (
        (None, model.score),
        (neg_mean_loss, lambda *given: -model.mean_loss(*given)),
    ):
        model.set_params(scoring=scoring).fit(X[rows], y[rows], X_val=X[others], y_val=y[others], **weights)
        scored = of_others
        if name == "classes":  # their weights count in the rows that stop training
            scored = np.where(y[others], 2.0, 1.0) * (1 if of_others is None else of_others)
        expected = score(X[others], y[others], scored)
        assert max(model.validation_scores_) == pytest.approx(expected, rel=1e-9)


@EACH_WEIGHT
@pytest.mark.parametrize("scoring", [None, neg_mean_loss, lambda model, X, y: -model.mean_loss(X, y), "score"])
@pytest.mark.parametrize("name", STOPPED)
def test_held_out_chunks_are_scored_by_the_same_rule(name, scoring, weight):
    """The last of the chunks, without shuffling: by pieces as by all rows; a function without weights has none."""
    by_score = scoring in (None, "score")
    given = (lambda model, X, y: model.score(X, y)) if scoring == "score" else scoring
    model, y = stopped(name, shuffle=False, validation_fraction=0.5, scoring=given)
    model.set_params(**({"class_weight": None} if name == "classes" else {}))
    parts = [slice(start, start + 20) for start in (0, 20, 40, 60)]
    model.fit_chunks([(X[part], y[part]) + (() if weight is None else (weight[part],)) for part in parts])
    counts = slice(40, 80) if weight is None else np.flatnonzero(weight[:80] * (np.arange(80) >= 40))
    weighted = scoring is None or scoring is neg_mean_loss
    of_rows = weight[counts] if weighted and weight is not None else None
    expected = (
        model.score(X[counts], y[counts], of_rows) if by_score else -model.mean_loss(X[counts], y[counts], of_rows)
    )
    assert max(model.validation_scores_) == pytest.approx(expected, rel=1e-9)


def test_rows_of_chunks_are_no_array():
    """A scorer that looks at them is told what it can do."""
    model, y = stopped("r2", scoring=lambda model, X, y: -model.mean_loss(X, y + 1))
    with pytest.raises(TypeError, match="Held-out chunks are never joined"):
        model.fit_chunks([(X[:40], y[:40]), (X[40:], y[40:])])


def test_a_scorer_may_change_y():
    """Rows of arrays are read once more, with their metadata."""
    model = counts("gradient", early_stopping=True, random_state=0, max_iter=3)
    seen = {}

    def scorer(model, X, y):
        seen.update(same=model.mean_loss(X, y), copied=model.mean_loss(X, y.copy()), more=model.mean_loss(X, y + 1))
        return 0.0

    model.set_params(scoring=scorer).fit(X, COUNTS, exposure=EXPOSURE)
    assert seen["same"] == pytest.approx(seen["copied"])
    assert seen["more"] != pytest.approx(seen["same"])


@EACH_RATES
def test_held_out_rows_are_scored_with_their_metadata(form):
    """By the score, and by any function of the model; those of X_val are asked for if the score needs them."""
    rows = {"X_val": X[60:], "y_val": COUNTS[60:]}
    for scoring in (None, neg_mean_loss, lambda model, X, y: -model.mean_loss(X, y)):
        model = counts(form, early_stopping=True, scoring=scoring, max_iter=3)
        model.fit(X[:60], COUNTS[:60], exposure=EXPOSURE[:60], **rows, exposure_val=EXPOSURE[60:])
        expected = -poisson_loss(model.params_, slice(60, None))
        if scoring is None:
            expected = model.score(X[60:], COUNTS[60:], exposure=EXPOSURE[60:])
        assert max(model.validation_scores_) == pytest.approx(expected)
    with pytest.raises(ValueError, match="also pass exposure_val for X_val"):
        counts(form, early_stopping=True).fit(X[:60], COUNTS[:60], exposure=EXPOSURE[:60], **rows)


def test_one_row_is_enough_to_stop_by_a_loss_of_ones_own():
    """D² of one row is not defined, the loss is."""
    rows = {"X_val": X[:1], "y_val": Y[:1]}
    model, _ = stopped("own")
    assert len(model.fit(X, Y, **rows).validation_scores_) == 3
    with pytest.raises(ValueError, match="X_val has 1 sample, but the score needs 2"):
        stopped("r2")[0].fit(X, Y, **rows)


# What else is read, and what is refused.


def test_the_rows_that_stop_training_lie_in_the_domain_too():
    """A y_val outside it would make every score the same; one of weight 0 does not count."""
    y = np.exp(Y / 4)
    outside = np.where(np.arange(N) == 3, 0.0, y)
    model = AnalyticRegressor(loss="gamma", early_stopping=True, optimizer="adam", random_state=0, max_iter=3, tol=None)
    with pytest.raises(ValueError, match=r"gamma: y\[3\] is 0.0, outside the loss's domain") as raised:
        model.fit(X, y, X_val=X, y_val=outside)
    assert "X_val" in raised.value.__notes__[0]
    model.fit(X, y, X_val=X, y_val=outside, sample_weight_val=(outside > 0).astype(float))
    assert len(set(model.validation_scores_)) == 3


class AwayFromY(Loss):
    """Smallest where the prediction is beside y."""

    def formula(self, y, prediction):
        residual = prediction - y - 1
        return residual**2 / 2, residual


def test_a_loss_that_is_smaller_than_at_y_has_no_d2():
    """However good the constant is."""
    y = X @ [1.0, 2.0, 3.0]
    fitted = AnalyticRegressor(loss=AwayFromY()).fit(X, y)
    with pytest.raises(ValueError, match=r"AwayFromY is smaller for a prediction than .* Set has_d2 = False"):
        fitted.score(X, y)


def test_a_score_reads_y_as_fit_does():
    """Masked values and dates are refused, and integers compared as numbers."""
    fitted = AnalyticRegressor().fit(X, Y)
    with pytest.raises(ValueError, match="y is a masked array"):
        fitted.score(X, np.ma.array(Y, mask=Y > 1))
    with pytest.raises((TypeError, ValueError), match="date"):
        fitted.score(X, np.arange(N).astype("m8[s]"))
    both = AnalyticRegressor().fit(X, np.column_stack([Y, Y]))
    with pytest.raises(ParameterStructureError, match="but y has shape"):
        both.score(X, np.arange(N))


def test_a_search_is_scored_by_its_best_estimator():
    """So that cross-validation may be nested; what has no loss is named."""
    search = GridSearchCV(AnalyticRegressor(), {"alpha": [0.0, 1.0]}, scoring=neg_mean_loss)
    scores = cross_validate(search, X, Y, scoring=neg_mean_loss, error_score="raise")["test_score"]
    assert np.isfinite(scores).all()
    with pytest.raises(TypeError, match="PoissonRegressor has no method mean_loss"):
        neg_mean_loss(PoissonRegressor(), X, Y)


def test_without_any_score_a_fit_ends_before_the_first_step():
    """Nothing is published."""

    def of_both(params, X, y):
        return X.T @ (X @ params - y.sum(axis=1)) / len(X)

    model = AnalyticRegressor(lambda params, X: X @ params, of_both, np.zeros(3), loss=None, early_stopping=True)
    with pytest.raises(ValueError, match="There is no loss"):
        model.fit(X, np.column_stack([Y, Y]))
    assert not hasattr(model, "params_")


class Strange(Loss):
    domain = (0, 1)

    def formula(self, y, prediction):
        return prediction - y, np.ones_like(y)


class Probit(Strange):
    domain = None
    link = "probit"


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Strange(), "Strange: domain must be an Interval or None; got"),
        (Probit(), "Probit: link must be one of 'identity', 'log', 'logit'"),
        (Tweedie(power="a"), "Tweedie: power must be"),
        (Tweedie(power=None), "Tweedie: power must be"),
    ],
    ids=["domain", "link", "word", "none"],
)
def test_tags_say_nothing_of_wrong_losses_and_fit_does(loss, message):
    """A search asks for tags where no error is caught."""
    model = AnalyticRegressor(loss=loss)
    assert not model.__sklearn_tags__().target_tags.positive_only
    assert "AnalyticRegressor" in model._repr_html_()
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(X, Y)


def test_positive_targets_are_a_matter_of_the_loss_that_is_trained():
    """scikit-learn's checks ask for it."""
    assert AnalyticRegressor(loss="poisson").__sklearn_tags__().target_tags.positive_only
    assert not AnalyticRegressor(loss="huber").__sklearn_tags__().target_tags.positive_only
    own = AnalyticRegressor(loss="poisson", loss_and_gradient=lambda params, X, y: (0.0, None))
    assert not own.__sklearn_tags__().target_tags.positive_only
