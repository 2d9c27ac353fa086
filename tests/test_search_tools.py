"""The rate finder and the grid helper: what they promise, and what they refuse."""

import copy
import pickle
import sys
import warnings

import numpy as np
import pytest
import scipy.stats
from models import network_init, network_vjp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, ParameterGrid, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    DivergenceError,
    GradientCheckError,
    ReceivedArgumentError,
    get_optimizer,
    get_optimizer_names,
)
from sk_analytic.optimizers import (
    SGD,
    Adam,
    AdamW,
    Chain,
    ClipNorm,
    Exponential,
    FullBatch,
    PerBlock,
    Phases,
    WeightDecay,
)
from sk_analytic.search import LearningRateSweep, find_learning_rate, optimizer_grid

DIABETES = load_diabetes(return_X_y=True)
MINIBATCH = [name for name in get_optimizer_names() if not isinstance(get_optimizer(name), FullBatch)]
COMPOSITES = {
    "chain": (Chain([ClipNorm(1.0), Adam()]), "optimizer__adam__learning_rate"),
    "chain with a name": (Chain([("clip", ClipNorm()), ("rule", SGD(0.1))]), "optimizer__rule__learning_rate"),
    "chain of a named chain": (Chain([ClipNorm(1.0), AdamW()]), "optimizer__adamw__learning_rate"),
    "chain with decay": (Chain([SGD(), WeightDecay(1e-3)]), "optimizer__sgd__learning_rate"),
    "scheduled": (Adam(Exponential(0.1, decay=0.9)), "optimizer__learning_rate"),
}
# A sweep that is cut short, or a rule whose steps grow with the parameters.
STILL_FALLS = pytest.mark.filterwarnings("ignore:The loss still falls:UserWarning")


def from_zero(n_features):
    """The mean of y is left to be found."""
    return {"coef": np.zeros(n_features), "intercept": 0.0}


def regressor(**settings):
    """Linear regression whose best rates are far from any default: y is about 150."""
    return AnalyticRegressor(**{"init": from_zero, "optimizer": "adam", "random_state": 0, **settings})


# The sweep


@STILL_FALLS
@pytest.mark.parametrize("name", MINIBATCH)
def test_every_minibatch_rule_is_swept(name):
    """Its rate rises from low, its loss is recorded step by step, and the curve is as long as the sweep."""
    X, y = load_iris(return_X_y=True)
    sweep = find_learning_rate(AnalyticClassifier(optimizer=name, batch_size=50, random_state=0), X, y, high=10.0)
    assert sweep.parameter == "optimizer__learning_rate"
    assert sweep.rates[0] == 1e-6
    assert (np.diff(sweep.rates) > 0).all()
    assert len(sweep.rates) == len(sweep.losses) == len(sweep.smoothed_losses) > 10
    assert np.isfinite(sweep.losses).all()


@STILL_FALLS
@pytest.mark.parametrize(("optimizer", "parameter"), COMPOSITES.values(), ids=COMPOSITES)
def test_rate_of_a_composite_is_reached_by_its_nested_name(optimizer, parameter):
    """The name is one that set_params takes, and the suggestion arrives there."""
    model = regressor(optimizer=optimizer)
    sweep = find_learning_rate(model, *DIABETES)
    assert sweep.parameter == parameter
    tuned = clone(model).set_params(**sweep.params)
    assert tuned.get_params()[parameter] == sweep.suggested


@STILL_FALLS
def test_of_several_rates_one_is_swept_and_the_others_stay():
    """With PerBlock the caller says which; what is swept then is another rate for each choice."""
    model = regressor(optimizer=PerBlock({"coef": Adam(0.1)}, default=SGD(0.1)))
    names = ["optimizer__coef__learning_rate", "optimizer__default__learning_rate"]
    sweeps = [find_learning_rate(model, *DIABETES, parameter=name) for name in names]
    assert [sweep.parameter for sweep in sweeps] == names
    assert sweeps[0].losses[0] == sweeps[1].losses[0]
    assert not np.array_equal(sweeps[0].losses, sweeps[1].losses)


@STILL_FALLS
def test_rates_are_equally_spaced_in_their_logarithm():
    """They end at high, but for an explosion."""
    sweep = find_learning_rate(regressor(), *DIABETES, low=1e-3, high=10.0, n_steps=41)
    assert sweep.ended == "high"
    assert_allclose(np.log10(sweep.rates), np.linspace(-3, 1, 41), atol=1e-12)


def test_sweep_begins_where_fit_begins():
    """The first batch and starting parameters are those of the fit: at a negligible rate all losses are."""
    X, y = DIABETES
    model = AnalyticRegressor(
        vjp=network_vjp, init=network_init, optimizer="sgd", batch_size=100, shuffle=True, random_state=3, max_iter=1
    )
    sweep = find_learning_rate(model, X, y, low=1e-12, high=1e-11, n_steps=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = model.set_params(optimizer__learning_rate=1e-12).fit(X, y)
    rows = [100, 100, 100, 100, 42]
    assert_allclose(np.average(sweep.losses[:5], weights=rows), fitted.loss_curve_[0], rtol=1e-9)


@STILL_FALLS
def test_sweep_is_what_the_optimizer_does_at_those_rates():
    """On one batch of all rows, the losses are those of updates by hand."""
    X, y = DIABETES
    sweep = find_learning_rate(regressor(optimizer="sgd", batch_size=len(X)), X, y, low=1e-3, high=0.5, n_steps=20)
    coef, intercept = np.zeros(X.shape[1]), 0.0
    for rate, loss in zip(sweep.rates, sweep.losses, strict=True):
        residual = X @ coef + intercept - y
        assert loss == pytest.approx(0.5 * residual @ residual / len(X), rel=1e-9)
        coef = coef - rate * X.T @ residual / len(X)
        intercept = intercept - rate * residual.mean()


def test_penalty_is_part_of_the_losses():
    """What is recorded is the objective."""
    start = {"coef": np.ones(10), "intercept": 0.0}
    plain, penalized = (find_learning_rate(regressor(init=start, alpha=alpha), *DIABETES) for alpha in (0.0, 2.0))
    assert penalized.losses[0] == pytest.approx(plain.losses[0] + 10, rel=1e-9)


def test_weights_count():
    """Rows of weight 0 are as good as absent."""
    X, y = DIABETES
    X, y = X[:200], y[:200]
    strange = np.r_[y, y + 1000], np.r_[np.ones(200), np.zeros(200)]
    model = regressor(batch_size=400)
    weighted = find_learning_rate(model, np.r_[X, X], strange[0], sample_weight=strange[1])
    assert_allclose(weighted.losses, find_learning_rate(model, X, y).losses, rtol=1e-7)


def test_estimator_is_not_changed():
    """Neither parameters nor fitted attributes nor the state of a generator in random_state."""
    X, y = DIABETES
    model = regressor(optimizer=Chain([ClipNorm(1.0), Adam()]), random_state=np.random.RandomState(0), max_iter=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    for estimator in (model, clone(model)):
        before = pickle.dumps(estimator)
        find_learning_rate(estimator, X, y)
        assert pickle.dumps(estimator) == before


def test_rows_are_not_changed():
    """Read-only rows serve."""
    X, y = (array.copy() for array in DIABETES)
    for array in (X, y):
        array.flags.writeable = False
    find_learning_rate(regressor(), X, y)
    assert_array_equal(X, DIABETES[0])


def test_fitted_estimator_is_swept_from_its_start_unless_warm():
    """As fit does: only with warm_start does it go on from the parameters that were learned."""
    X, y = DIABETES
    model = regressor(optimizer="lbfgs").fit(X, y).set_params(optimizer="adam")
    fresh = find_learning_rate(clone(model), X, y)
    assert_array_equal(find_learning_rate(model, X, y).losses, fresh.losses)
    warm = find_learning_rate(model.set_params(warm_start=True), X, y)
    assert warm.losses[0] < 0.2 * fresh.losses[0]


@pytest.mark.parametrize("seed", [0, np.random.RandomState(7)], ids=["int", "generator"])
def test_same_seed_same_sweep(seed):
    """random_state decides everything, and stands in for the estimator's."""
    X, y = load_iris(return_X_y=True)
    model = AnalyticClassifier(vjp=network_vjp, init=network_init, batch_size=20)
    one, two = (find_learning_rate(model, X, y, random_state=copy.deepcopy(seed)) for _ in range(2))
    assert_array_equal(one.losses, two.losses)
    assert one.suggested == two.suggested
    own = find_learning_rate(clone(model).set_params(random_state=copy.deepcopy(seed)), X, y)
    assert_array_equal(own.losses, one.losses)
    assert not np.array_equal(find_learning_rate(model, X, y, random_state=1).losses[:5], one.losses[:5])


def test_float32_stays():
    """The sweep of float32 rows trains in float32, to nearly the same curve."""
    X, y = DIABETES
    single = find_learning_rate(regressor(), X.astype(np.float32), y.astype(np.float32))
    double = find_learning_rate(regressor(), X, y)
    assert_allclose(single.losses[:60], double.losses[:60], rtol=1e-4)


def test_density_and_transformer_need_no_targets():
    """They are swept on rows alone."""
    X = load_iris().data
    sweep = find_learning_rate(AnalyticTransformer(random_state=0), X)
    assert 1e-6 < sweep.suggested < 10
    start = {"mean": np.zeros(4), "log_scale": np.zeros(4), "smallest_scale": 1e-3}
    assert 1e-6 < find_learning_rate(AnalyticDensity(init=start, random_state=0), X).suggested < 10


# Its end


def test_sweep_ends_early_where_the_loss_explodes():
    """The rates above are not tried, and the suggestion is well below."""
    X, y = DIABETES
    sweep = find_learning_rate(regressor(optimizer="sgd"), scale(X), y)
    assert sweep.ended == "exploded"
    assert sweep.rates[-1] < 10
    assert sweep.losses[-1] > 5 * sweep.losses[0]
    assert sweep.suggested < sweep.rates[-1] / 3


def overflowing(params, X, y):
    """A loss that is infinite as soon as the coefficients are larger than 1, and its gradient before."""
    residual = X @ params["w"] - y
    loss = np.inf if np.abs(params["w"]).max() > 1 else 0.5 * float(residual @ residual) / len(X)
    return loss, {"w": X.T @ residual / len(X)}


def test_losses_that_are_not_finite_end_the_sweep():
    """There is no error, and what came before is kept."""
    X, y = DIABETES
    model = AnalyticRegressor(
        lambda params, X: X @ params["w"],
        loss_and_gradient=overflowing,
        init={"w": np.zeros(10)},
        random_state=0,
    )
    sweep = find_learning_rate(model, X, y)
    assert sweep.ended == "not finite"
    assert 0.05 < sweep.rates[-1] < 10
    assert np.isfinite(sweep.losses).all()


def test_overflow_in_a_callable_warns_of_nothing():
    """Large rates are tried on purpose: exp may overflow without a word."""
    X, y = np.arange(200.0)[:, None], np.arange(200.0)
    sweep = find_learning_rate(AnalyticRegressor(loss="poisson", optimizer="adam", random_state=0), X, y)
    assert sweep.ended != "high"


def test_nothing_to_learn_gives_no_suggestion():
    """The default density starts at its optimum: what falls by chance is no suggestion, and params says so."""
    for batch_size in ("auto", 20, 50):
        model = AnalyticDensity(batch_size=batch_size, random_state=0)
        sweep = find_learning_rate(model, load_iris().data)
        assert sweep.suggested is None
        assert "suggested=None" in repr(sweep)
        with pytest.raises(ValueError, match=r"did not fall at any from 1e-06 to .*smaller low"):
            sweep.params


def test_loss_that_still_falls_at_the_end_is_a_warning():
    """The suggestion is then limited by high, and the message says so."""
    with pytest.warns(UserWarning, match=r"still falls at high=1.0; the best learning rate may be larger"):
        sweep = find_learning_rate(regressor(batch_size=442), *DIABETES, high=1.0)
    assert 0.2 < sweep.suggested <= 0.5


# The suggestion


def training_loss(model, X, y, rate):
    """The objective over all rows after 50 epochs at a rate; infinite where it diverges."""
    model = clone(model).set_params(optimizer__learning_rate=rate, max_iter=50, n_iter_no_change=50, tol=0.0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model.fit(X, y)
        except DivergenceError:
            return np.inf
    return find_learning_rate(
        model.set_params(warm_start=True, batch_size=len(X), shuffle=False), X, y, low=1e-12, high=1e-11, n_steps=10
    ).losses[0]


X_CANCER, Y_CANCER = load_breast_cancer(return_X_y=True)
X_DIGITS, Y_DIGITS = load_digits(return_X_y=True)
TRAINED = {
    "digits, network, adam": (
        AnalyticClassifier(
            vjp=network_vjp, init=network_init, model_params={"n_hidden": 20}, optimizer="adam", alpha=1e-3
        ),
        X_DIGITS / 16,
        Y_DIGITS,
    ),
    "cancer, linear, momentum": (
        AnalyticClassifier(optimizer=SGD(momentum=0.9), alpha=0.01),
        scale(X_CANCER),
        Y_CANCER,
    ),
    "diabetes, linear, sgd": (AnalyticRegressor(optimizer="sgd", batch_size=100), scale(DIABETES[0]), DIABETES[1]),
}


@pytest.mark.parametrize("case", TRAINED.values(), ids=TRAINED)
def test_suggested_rate_trains_nearly_as_well_as_the_best(case):
    """Its loss is within a quarter of the best that six rates from 1e-4 to 10 reach."""
    model, X, y = case
    model = clone(model).set_params(random_state=0)
    sweep = find_learning_rate(model, X, y)
    best = min(training_loss(model, X, y, rate) for rate in np.logspace(-4, 1, 6))
    assert training_loss(model, X, y, sweep.suggested) < 1.25 * best


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_suggestion_follows_the_scale_of_the_problem(factor):
    """Adam's best rate is in the units of the parameters: with y times larger, the suggestion is too."""
    X, y = scale(DIABETES[0]), scale(DIABETES[1])
    at_one = find_learning_rate(regressor(), X, y, low=1e-8, high=1e6, n_steps=200).suggested
    scaled = find_learning_rate(regressor(), X, factor * y, low=1e-8, high=1e6, n_steps=200).suggested
    assert factor / 2 < scaled / at_one < factor * 2


def test_suggestion_is_read_off_the_smoothed_curve():
    """It is half of the first rate at which 95 % of the fall is done."""
    sweep = find_learning_rate(regressor(), *DIABETES)
    smoothed = sweep.smoothed_losses
    at = int(np.flatnonzero(sweep.rates == 2 * sweep.suggested)[0])
    done = (smoothed[0] - smoothed) / (smoothed[0] - smoothed.min())
    assert done[at] >= 0.95
    assert (done[:at] < 0.95).all()


def test_without_smoothing_the_curve_is_the_losses():
    """smoothing=0 leaves them as they are."""
    sweep = find_learning_rate(regressor(), *DIABETES, smoothing=0)
    assert_array_equal(sweep.losses, sweep.smoothed_losses)


# What it refuses


@pytest.mark.parametrize("name", [name for name in get_optimizer_names() if name not in MINIBATCH])
def test_full_batch_methods_have_no_rate(name):
    """The error says why."""
    with pytest.raises(ValueError, match=r"is a full-batch method, which chooses its step lengths"):
        find_learning_rate(regressor(optimizer=name), *DIABETES)


WRONG_OPTIMIZERS = {
    "phases": (Phases([("adam", 2), ("sgd", 2)]), {}, r"Each phase has its own learning rate"),
    "several rates": (
        PerBlock({"coef": Adam()}, default=SGD()),
        {},
        r"PerBlock has 2 learning rates. Choose one with parameter=.*'optimizer__coef__learning_rate'",
    ),
    "no rule": (Chain([ClipNorm()]), {}, r"Chain.* has no learning rate, as it contains no rule"),
    "no such rate": (
        Chain([ClipNorm(), Adam()]),
        {"parameter": "optimizer__adm__learning_rate"},
        r"is not a learning rate. Did you mean 'optimizer__adam__learning_rate'\?",
    ),
    "another parameter": (Adam(), {"parameter": "optimizer__beta_1"}, r"'optimizer__beta_1' is not a learning rate"),
    "unknown name": ("adem", {}, r"Unknown optimizer 'adem'. Did you mean 'adam'\?"),
    "wrong hyperparameter": (Adam(beta_1=2.0), {}, r"Adam: beta_1 must be a number in \[0, 1\)"),
    "two rules": (
        Chain([("a", Adam()), ("b", SGD())]),
        {"parameter": "optimizer__a__learning_rate"},
        r"exactly one rule",
    ),
}


@pytest.mark.parametrize(("optimizer", "settings", "message"), WRONG_OPTIMIZERS.values(), ids=WRONG_OPTIMIZERS)
def test_wrong_optimizers_are_refused(optimizer, settings, message):
    """With the nearest name, where a name is wrong."""
    with pytest.raises(ValueError, match=message):
        find_learning_rate(regressor(optimizer=optimizer), *DIABETES, **settings)


WRONG_SETTINGS = {
    "low": ({"low": 0.0}, r"low must be a number in \(0, inf\); got 0.0"),
    "high": ({"high": np.inf}, r"high must be a number in \(0, inf\)"),
    "order": ({"low": 1.0, "high": 0.1}, r"low must be less than high; got low=1.0, high=0.1"),
    "n_steps": ({"n_steps": 3}, r"n_steps must be a whole number in \[10, inf\); got 3"),
    "smoothing": ({"smoothing": -1.0}, r"smoothing must be a number in \[0, 1\)"),
}


@pytest.mark.parametrize(("settings", "message"), WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_wrong_settings_are_refused(settings, message):
    """Each by its name, with what came."""
    with pytest.raises(ValueError, match=message):
        find_learning_rate(regressor(), *DIABETES, **settings)


WRONG_ESTIMATORS = {
    "pipeline": (make_pipeline(StandardScaler(), AnalyticRegressor()), r"For a pipeline, pass its last step"),
    "class": (AnalyticRegressor, r"Pass an instance: AnalyticRegressor\(\)"),
    "other": (StandardScaler(), r"takes an estimator of sk_analytic; got StandardScaler"),
}


@pytest.mark.parametrize(("estimator", "message"), WRONG_ESTIMATORS.values(), ids=WRONG_ESTIMATORS)
def test_what_is_no_estimator_of_ours_is_refused(estimator, message):
    """The message shows what to pass instead."""
    with pytest.raises(TypeError, match=message):
        find_learning_rate(estimator, *DIABETES)


def linear_forward(params, X):
    return X @ params["w"]


def linear_gradient(params, X, y):
    return {"w": X.T @ (linear_forward(params, X) - y) / len(X)}


LINEAR = {"forward": linear_forward, "gradient": linear_gradient, "init": {"w": np.zeros(10)}}


def test_gradient_form_is_swept_on_the_values_of_its_loss():
    """The plain gradient gives no loss, so forward is called for it: the curve is that of the default model."""
    X, y = scale(DIABETES[0]), DIABETES[1]
    start = {"coef": np.zeros(10), "intercept": 0.0}
    default = find_learning_rate(regressor(init=start, fixed=("intercept",)), X, y)
    assert_allclose(find_learning_rate(regressor(**LINEAR), X, y).losses, default.losses, rtol=1e-9)


def test_gradient_without_any_loss_is_refused():
    """The message shows the ways out."""
    with pytest.raises(ValueError, match=r"needs a loss, but .* loss=None. Pass a loss"):
        find_learning_rate(regressor(**LINEAR, loss=None), *DIABETES)


def test_wrong_gradient_is_found_before_the_sweep():
    """The checks of a fit are made here too, and can be left out in the same way."""
    wrong = {**LINEAR, "gradient": lambda params, X, y: {"w": -linear_gradient(params, X, y)["w"]}}
    with pytest.raises(GradientCheckError, match="'w'"):
        find_learning_rate(regressor(**wrong), *DIABETES)
    assert find_learning_rate(regressor(**wrong, check_gradient=False), *DIABETES).suggested is None


def test_loss_that_is_not_finite_at_the_start_is_an_error():
    """There is no curve then, and the rate is not the cause."""
    model = regressor(**{**LINEAR, "loss_and_gradient": lambda params, X, y: (np.nan, params), "gradient": None})
    with pytest.raises(DivergenceError, match=r"loss is nan"):
        find_learning_rate(model.set_params(check_gradient=False), *DIABETES)


def test_errors_of_the_data_and_the_model_are_those_of_fit():
    """No targets for a regressor, model parameters that nobody takes."""
    with pytest.raises(ValueError, match="requires y to be passed"):
        find_learning_rate(regressor(), DIABETES[0])
    with pytest.raises(ReceivedArgumentError, match="'n_hiden'"):
        find_learning_rate(regressor(**LINEAR, model_params={"n_hiden": 3}), *DIABETES)
    with pytest.raises(ValueError, match="batch_size must be 'auto' or a whole number"):
        find_learning_rate(regressor(batch_size=0), *DIABETES)


# Its picture


@pytest.fixture
def plt(monkeypatch):
    """Draw without a window, whatever display the machine has."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    yield pyplot
    pyplot.close("all")


def test_plot_shows_the_curve_and_the_suggestion(plt):
    """On axes given or new, with a logarithmic rate, and an explosion that hides nothing."""
    sweep = find_learning_rate(regressor(optimizer="sgd"), scale(DIABETES[0]), DIABETES[1])
    given = plt.figure().add_subplot()
    assert sweep.plot(given) is given
    ax = sweep.plot()
    assert ax is not given
    assert ax.get_xscale() == "log"
    assert f"suggested: {sweep.suggested:.2g}" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert sweep.losses.min() > ax.get_ylim()[0]
    assert sweep.losses[0] < ax.get_ylim()[1] < sweep.losses[-1]
    ax.figure.canvas.draw()


def test_plot_without_a_suggestion(plt):
    """The curve is drawn, without a line."""
    sweep = find_learning_rate(AnalyticDensity(random_state=0), load_iris().data)
    assert len(sweep.plot().get_legend().get_texts()) == 2


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    """The sweep itself needs none."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    sweep = find_learning_rate(regressor(), *DIABETES)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        sweep.plot()


def test_sweep_shows_itself_in_a_line_and_pickles():
    """Arrays are not spelled out."""
    sweep = find_learning_rate(regressor(), *DIABETES)
    assert repr(sweep).startswith("LearningRateSweep(optimizer__learning_rate, suggested=")
    assert "\n" not in repr(sweep)
    twin = pickle.loads(pickle.dumps(sweep))
    assert isinstance(twin, LearningRateSweep)
    assert_array_equal(twin.losses, sweep.losses)


# The grid


def test_each_hyperparameter_is_tried_where_it_exists():
    """Own values stand with their optimizer, common ones with all that have them; own ones come first."""
    grid = optimizer_grid(
        {"adam": {"beta_1": [0.9, 0.95]}, "sgd": {"momentum": [0.0, 0.9], "learning_rate": [0.5]}, "lbfgs": {}},
        learning_rate=[0.01, 0.1],
        epsilon=[1e-8],
    )
    assert grid == [
        {
            "optimizer": ["adam"],
            "optimizer__learning_rate": [0.01, 0.1],
            "optimizer__epsilon": [1e-8],
            "optimizer__beta_1": [0.9, 0.95],
        },
        {"optimizer": ["sgd"], "optimizer__learning_rate": [0.5], "optimizer__momentum": [0.0, 0.9]},
        {"optimizer": ["lbfgs"]},
    ]


@pytest.mark.parametrize("prefix", ["", "clf__", "model__clf__"])
def test_prefix_stands_before_every_key(prefix):
    """Without one, the keys are the estimator's own."""
    (settings,) = optimizer_grid({"sgd": {"momentum": [0.9]}}, prefix=prefix)
    assert list(settings) == [f"{prefix}optimizer", f"{prefix}optimizer__momentum"]


@pytest.mark.parametrize("name", get_optimizer_names())
def test_grid_sets_every_hyperparameter_of_every_optimizer(name):
    """Each candidate can be set, on an estimator that has another optimizer."""
    defaults = get_optimizer(name).get_params()
    grid = optimizer_grid({name: {key: [value] for key, value in defaults.items()}})
    (candidate,) = ParameterGrid(grid)
    model = regressor(optimizer=SGD(momentum=0.3)).set_params(**candidate)
    assert get_optimizer(model.optimizer).get_params() == defaults


def test_grid_in_a_search_over_a_pipeline():
    """Every combination that exists is tried once, and none that does not."""
    X, y = DIABETES
    grid = optimizer_grid(
        {"adam": {}, "sgd": {"momentum": [0.0, 0.9]}, "lbfgs": {}},
        prefix="analyticregressor__",
        learning_rate=np.array([0.03, 0.1]),
    )
    pipeline = make_pipeline(StandardScaler(), regressor(max_iter=60))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    tried = search.cv_results_["params"]
    assert len(tried) == 2 + 2 * 2 + 1
    assert [p["analyticregressor__optimizer"] for p in tried].count("sgd") == 4
    assert search.best_score_ > 0.4
    assert search.best_params_["analyticregressor__optimizer"] != "adam"  # a rate of 0.1 is far too small


def test_grid_with_distributions_in_a_randomized_search():
    """Rates are drawn from where they exist, for each optimizer that has one."""
    X, y = DIABETES
    grid = optimizer_grid({"adam": {}, "sgd": {"momentum": scipy.stats.uniform(0, 0.9)}}, learning_rate=RATES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = RandomizedSearchCV(
            regressor(max_iter=20), grid, n_iter=8, cv=3, random_state=0, error_score="raise"
        ).fit(X, y)
    drawn = search.cv_results_["params"]
    assert {p["optimizer"] for p in drawn} == {"adam", "sgd"}
    assert all(1e-3 <= p["optimizer__learning_rate"] <= 0.1 for p in drawn)
    assert all(("optimizer__momentum" in p) == (p["optimizer"] == "sgd") for p in drawn)


RATES = scipy.stats.loguniform(1e-3, 1e-1)


def test_schedules_are_values_like_others():
    """A list may hold numbers and schedules."""
    (settings,) = optimizer_grid({"adam": {"learning_rate": (0.1, Exponential(0.1, decay=0.9, unit="epoch"))}})
    for candidate in ParameterGrid(settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            regressor(max_iter=2).set_params(**candidate).fit(*DIABETES)


def test_what_was_given_is_not_changed():
    """Neither the dicts nor their lists."""
    given = {"adam": {"beta_1": [0.9]}, "sgd": {}}
    before = copy.deepcopy(given)
    optimizer_grid(given, learning_rate=[0.1])
    assert given == before


WRONG_GRIDS = {
    "hyperparameter": (
        {"sgd": {"momentun": [0.9]}},
        {},
        ValueError,
        r"optimizer 'sgd' has no hyperparameter 'momentun'. Did you mean 'momentum'\?",
    ),
    "of another": ({"adam": {"momentum": [0.9]}}, {}, ValueError, r"optimizer 'adam' has no hyperparameter 'momentum'"),
    "common": (
        {"adam": {}, "sgd": {}},
        {"learning_rat": [0.1]},
        ValueError,
        r"None of 'adam', 'sgd' has a hyperparameter 'learning_rat'. Did you mean 'learning_rate'\?",
    ),
    "of the estimator": ({"adam": {}}, {"batch_size": [32]}, ValueError, r"add it to each dict"),
    "optimizer": ({"adem": {}}, {}, ValueError, r"Unknown optimizer 'adem'. Did you mean 'adam'\?"),
    "prefix": ({"adam": {}}, {"prefix": "clf_"}, ValueError, r"prefix must end with two underscores, 'clf__'; got"),
    "number": ({"adam": {"learning_rate": 0.1}}, {}, TypeError, r"learning_rate of optimizer 'adam' .* got 0.1"),
    "word": ({"adam": {"learning_rate": "0.1"}}, {}, TypeError, r"must be a list or a 1-d array"),
    "matrix": ({"adam": {"learning_rate": np.ones((2, 2))}}, {}, TypeError, r"must be a list or a 1-d array"),
    "empty": ({"adam": {}}, {"learning_rate": []}, ValueError, r"learning_rate of optimizer 'adam' has no values"),
    "no dict": (["adam"], {}, TypeError, r"takes a dict such as .* got \['adam'\]"),
    "nothing": ({}, {}, TypeError, r"takes a dict such as"),
    "no dict inside": (
        {"adam": [0.1]},
        {},
        TypeError,
        r"names to dicts of hyperparameters; got 'adam': \[0.1\]",
    ),
    "no name": ({Adam(): {}}, {}, TypeError, r"names to dicts of"),
}


@pytest.mark.parametrize(("optimizers", "settings", "error", "message"), WRONG_GRIDS.values(), ids=WRONG_GRIDS)
def test_wrong_grids_are_refused(optimizers, settings, error, message):
    """Before any search begins, with the nearest name where a name is wrong."""
    with pytest.raises(error, match=message):
        optimizer_grid(optimizers, **settings)
