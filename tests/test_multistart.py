"""Fits from several starts: which starts are drawn, how fits are compared, and what is said of those that fail."""

import pickle
import warnings

import numpy as np
import pytest
from models import LinearByVjp, NetworkByVjp, network_init, network_vjp, rates_forward, rates_init, rates_jacobian
from nist_problems import functions, read
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import scale
from subclasses import Network

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    DivergenceError,
    GradientCheckError,
    ParameterStructureError,
    fit_from_starts,
)

T = np.linspace(0, 5, 50)[:, None]


def wave(params, X):
    return params["height"] * np.sin(params["frequency"] * X[:, 0])


def wave_jacobian(params, X):
    angle = params["frequency"] * X[:, 0]
    return {"height": np.sin(angle), "frequency": params["height"] * X[:, 0] * np.cos(angle)}


WAVE = wave({"height": 2.0, "frequency": 3.0}, T)


def wave_model(**settings):
    """A curve whose sum of squares has many minima."""
    start = {"height": 1.0, "frequency": 1.0}
    defaults = {"forward": wave, "jacobian": wave_jacobian, "init": start, "random_state": 0, "max_iter": 50}
    return AnalyticRegressor(**{**defaults, **settings})


def drawn(result, name):
    """What was drawn for a block, the first start aside."""
    return np.array([start[name] for start in result.starts[1:]])


# What is found


def test_twenty_starts_find_what_one_misses():
    """The minimum of the wave that made the data; the fit from the first start alone ends elsewhere."""
    alone = wave_model().fit(T, WAVE)
    result = fit_from_starts(wave_model(), T, WAVE, bounds={"frequency": (0, 10)})
    assert alone.loss_ > 0.1
    assert_allclose(result.losses[0], alone.loss_, rtol=1e-12)
    assert result.best.params_["frequency"] == pytest.approx(3.0, rel=1e-8)
    assert result.best_loss == result.losses.min() < 1e-20
    assert result.n_best == np.sum(result.losses < 1e-12)


def test_a_silent_minimum_far_from_the_best_is_left():
    """The reaction rates of Puromycin: from 1 and 1, trf converges to a curve with a pole, worse than a constant."""
    conc = np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.10], 2)[:, None]
    rate = np.array([76.0, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200])

    def forward(params, X):
        return params["vmax"] * X[:, 0] / (params["k"] + X[:, 0])

    def jacobian(params, X):
        share = X[:, 0] / (params["k"] + X[:, 0])
        return {"vmax": share, "k": -params["vmax"] * share / (params["k"] + X[:, 0])}

    model = AnalyticRegressor(forward, jacobian=jacobian, init={"vmax": 1.0, "k": 1.0}, random_state=0)
    assert clone(model).fit(conc, rate).score(conc, rate) < -4
    result = fit_from_starts(model, conc, rate, bounds={"vmax": (0, 1000), "k": (0, 5)})
    assert result.best.params_["vmax"] == pytest.approx(212.6837, rel=1e-6)  # Bates and Watts, appendix A1.3
    assert result.n_best > 10


@pytest.mark.parametrize("name", ["DanWood", "Eckerle4", "MGH09", "Misra1a", "Nelson", "Rat42"])
def test_certified_minima_are_found_from_far_starts(name):
    """Twenty starts between 0 and twice the certified parameters end in the certified sum of squares."""
    problem = read(name)
    forward, jacobian = functions(name)

    def init(rng):
        return problem.parameters * rng.uniform(0, 2, problem.parameters.size)

    model = AnalyticRegressor(forward, jacobian=jacobian, init=init, random_state=0, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # far starts overflow, and a few fail
        result = fit_from_starts(model, problem.X, problem.y)
    residuals = forward(problem.parameters, problem.X) - problem.y
    assert result.best_loss <= 0.5 * np.mean(residuals**2) * (1 + 1e-9)


# Starts


def test_the_first_start_is_init_and_the_others_lie_around_it():
    """Between 0 and twice its entries, by default; absolutely around an entry that is 0."""
    start = {"a": np.array([2.0, -10.0]), "b": 0.0}

    def forward(params, X):
        return X @ params["a"] + params["b"]

    def jacobian(params, X):
        return {"a": X, "b": np.ones(len(X))}

    model = AnalyticRegressor(forward, jacobian=jacobian, init=start, check_gradient=False, random_state=0)
    X = np.random.default_rng(0).normal(size=(30, 2))
    y = X[:, 0]
    result = fit_from_starts(model, X, y, 100)
    assert_array_equal(result.starts[0]["a"], [2.0, -10.0])
    assert result.starts[0]["b"] == 0
    a, b = drawn(result, "a"), drawn(result, "b")
    for values, low, high in ((a[:, 0], 0, 4), (a[:, 1], -20, 0), (b, -1, 1)):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
        assert values.std() == pytest.approx((high - low) / 12**0.5, rel=0.1)  # a uniform distribution's
    assert result.n_best == 100
    narrow = fit_from_starts(model, X, y, 20, spread={"a": [0.1, 0.0]})
    assert_allclose(drawn(narrow, "a"), np.tile([2.0, -10.0], (19, 1)), atol=0.2)
    assert np.ptp(drawn(narrow, "a"), axis=0)[1] == 0
    assert_array_equal(drawn(narrow, "b"), b[:19])  # what is said of one block changes no other


def test_blocks_are_drawn_within_bounds():
    """Uniformly where both ends are given; by their spread, mirrored at the end, where one is."""
    result = fit_from_starts(wave_model(), T, WAVE, 40, spread=2.0, bounds={"frequency": (5, 6), "height": (0.5, None)})
    frequencies, heights = drawn(result, "frequency"), drawn(result, "height")
    assert 5 <= frequencies.min() < 5.1
    assert 5.9 < frequencies.max() <= 6
    assert 0.5 <= heights.min() < 0.7
    assert 2.5 < heights.max() <= 3
    assert result.starts[0] == {"height": 1.0, "frequency": 1.0}  # the estimator's own, wherever it lies


def test_an_init_that_draws_is_asked_anew():
    """By the seed of each start, without a spread unless one is given."""
    X, y = load_diabetes(return_X_y=True)
    model = AnalyticRegressor(
        vjp=network_vjp, init=network_init, optimizer="lbfgs", max_iter=5, random_state=3, tol=1e3
    )
    result = fit_from_starts(model, X, scale(y), 3)
    assert_array_equal(result.starts[0][0], network_init(10, 1, _rng_of(model, X, y))[0])
    assert len({start[0][0, 0] for start in result.starts}) == 3
    alike = fit_from_starts(model, X, scale(y), 3, spread={0: 1e-6})
    assert_allclose(alike.starts[2][0], result.starts[2][0], rtol=2e-6)
    assert not np.array_equal(alike.starts[2][0], result.starts[2][0])
    assert_array_equal(alike.starts[2][2], result.starts[2][2])


def _rng_of(model, X, y):
    """The generator that `init` receives in a fit."""
    received = []

    def init(n_features, n_outputs, rng):
        received.append(pickle.loads(pickle.dumps(rng)))
        return network_init(n_features, n_outputs, rng)

    clone(model).set_params(init=init).fit(X, scale(y))
    return received[0]


def test_blocks_that_are_not_trained_stay():
    """Fixed ones, and those whose gradient is None."""

    def jacobian(params, X):
        return {**wave_jacobian(params, X), "height": None}

    for model in (wave_model(fixed=("height",)), wave_model(jacobian=jacobian)):
        result = fit_from_starts(model, T, WAVE, 5)
        assert {start["height"] for start in result.starts} == {1.0}
        with pytest.raises(ValueError, match="spread names 'height', which is not trained"):
            fit_from_starts(model, T, WAVE, 5, spread={"height": 1.0})


# Reproducibility


@pytest.mark.parametrize("seed", [0, np.int64(0), np.random.RandomState(0)], ids=["int", "numpy", "generator"])
def test_the_seed_decides_everything(seed):
    """Also given as an argument, and whatever n_jobs and n_starts are; a generator is not advanced."""
    near = {"bounds": {"frequency": (2.8, 3.2)}}
    model = wave_model(random_state=seed, init={"height": 1.0, "frequency": 3.1})
    result = fit_from_starts(model, T, WAVE, 6, **near)
    others = [
        fit_from_starts(model, T, WAVE, 6, n_jobs=2 if seed == 0 else 1, **near),
        fit_from_starts(model, T, WAVE, 4, **near),
        fit_from_starts(clone(model).set_params(random_state=1), T, WAVE, 6, random_state=seed, **near),
    ]
    for other in others:
        n = len(other.losses)
        assert_array_equal(other.losses, result.losses[:n])
        assert other.starts == result.starts[:n]
        assert other.params == result.params[:n]
    assert fit_from_starts(model, T, WAVE, 6, random_state=7, **near).starts != result.starts


def test_the_best_fit_can_be_repeated():
    """From its start, by its random_state, in minibatches too."""
    X, y = load_iris(return_X_y=True)
    model = AnalyticClassifier(vjp=network_vjp, init=network_init, optimizer="adam", max_iter=3, tol=None)
    result = fit_from_starts(model, X, y, 4, spread=0.1, random_state=0)
    again = clone(result.best).set_params(init=result.starts[result.best_index]).fit(X, y)
    assert result.best_index > 0
    assert_array_equal(again.params_[0], result.best.params_[0])
    assert result.best.init is network_init


def test_the_estimator_is_not_changed():
    """Neither its parameters nor what it has learned, from which no start goes on."""
    model = wave_model(random_state=np.random.RandomState(0), warm_start=True).fit(T, WAVE)
    before = pickle.dumps([model.get_params()["random_state"], model.params_, model.init])
    result = fit_from_starts(model, T, WAVE, 3, bounds={"frequency": (2.9, 3.1)})
    assert pickle.dumps([model.get_params()["random_state"], model.params_, model.init]) == before
    assert result.best is not model
    assert_allclose(result.losses[0], clone(model).fit(T, WAVE).loss_, rtol=1e-12)


# Every estimator, and what is passed on


X, Y = load_iris(return_X_y=True)
EVERY = {
    "default regressor": (AnalyticRegressor(), Y.astype(float)),
    "default classifier": (AnalyticClassifier(alpha=0.1), Y),
    "weighted classes": (AnalyticClassifier(class_weight={0: 1, 1: 5, 2: 1}, alpha=0.1), Y),
    "density": (AnalyticDensity(), None),
    "transformer": (AnalyticTransformer(model_params={"n_components": 2}, max_iter=5, tol=None), None),
    "model object": (AnalyticRegressor(model=LinearByVjp()), Y.astype(float)),
    "model object that draws": (AnalyticRegressor(model=NetworkByVjp(), max_iter=5, tol=None), Y.astype(float)),
    "subclass": (Network(random_state=0), Y.astype(float)),
    "minibatches": (AnalyticRegressor(optimizer="adam", max_iter=3, tol=None, drop_last=True), Y.astype(float)),
    "early stopping": (AnalyticRegressor(optimizer="adam", early_stopping=True, max_iter=5, tol=None), Y.astype(float)),
}


@pytest.mark.parametrize(("model", "y"), EVERY.values(), ids=EVERY)
def test_every_estimator_is_fitted(model, y):
    """From starts that differ, each of which ends in finite parameters; the best of them is fitted."""
    model = clone(model)
    model.random_state = 0
    result = fit_from_starts(model, X, y, 3)
    assert type(result.best) is type(model)
    assert np.isfinite(result.losses).all()
    assert result.best_index == result.losses.argmin()
    assert result.best.n_iter_ == result.n_iter[result.best_index]
    assert pickle.dumps(result.starts[0]) != pickle.dumps(result.starts[1]) != pickle.dumps(result.starts[2])


def test_fits_are_compared_by_the_objective_over_all_rows():
    """Weights, classes' weights and penalty included; not by what the last epoch happened to have."""
    model = AnalyticClassifier(
        optimizer="adam", max_iter=2, tol=None, alpha=0.5, class_weight={0: 1, 1: 5, 2: 1}, random_state=0
    )
    weight = np.linspace(0.5, 2, len(Y))
    result = fit_from_starts(model, X, Y, 2, sample_weight=weight)
    for loss, params in zip(result.losses, result.params, strict=True):
        scores = X @ params["coef"] + params["intercept"]
        losses = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(Y)), Y]
        of_rows = np.average(losses, weights=weight * np.array([1, 5, 1])[Y])
        assert loss == pytest.approx(of_rows + 0.25 * np.sum(params["coef"] ** 2), rel=1e-12)


def test_arguments_of_fit_are_passed_on():
    """Metadata and weights of the rows, and a validation set with its own."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    exposure = rng.uniform(0.5, 2.0, 60)
    y = rng.poisson(exposure * np.exp(X @ [0.4, -0.3])).astype(float)
    model = AnalyticRegressor(
        rates_forward, jacobian=rates_jacobian, init=rates_init, loss="poisson", optimizer="adam", random_state=0
    ).set_params(early_stopping=True, max_iter=5, tol=None)
    given = {"exposure": exposure, "X_val": X[:9], "y_val": y[:9], "exposure_val": exposure[:9]}
    result = fit_from_starts(model, X, y, 2, sample_weight=exposure, **given)
    expected = clone(model).fit(X, y, sample_weight=exposure, **given)
    assert_array_equal(result.params[0]["w"], expected.params_["w"])


# What goes wrong


def test_starts_that_fail_are_recorded_and_count_for_nothing():
    """With their errors; one warning says how many and what the first of them raised."""

    def forward(params, X):
        if params["frequency"] > 1.5:
            raise ZeroDivisionError("too fast")
        return wave(params, X)

    with pytest.warns(
        UserWarning, match=r"\d+ of 10 starts failed and were ignored\. .* raised ZeroDivisionError: too fast"
    ) as caught:
        result = fit_from_starts(wave_model(forward=forward), T, WAVE, 10)
    assert len(caught) == 1
    assert 0 < result.n_failed < 10
    for number, error in enumerate(result.errors):
        failed = error is not None
        assert np.isnan(result.losses[number]) == failed == (result.params[number] is None)
        assert not failed or (type(error) is ZeroDivisionError and result.n_iter[number] == 0)
    assert f"{result.n_failed} failed" in repr(result)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_if_all_fail_it_is_the_error_of_the_first(n_jobs):
    """As a fit raises it: a wrong gradient, a loss that is not finite, an error that no worker can send."""

    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a)

    def odd(params, X):
        raise Odd("nowhere", 1)

    def wrong(params, X):
        return {"height": np.ones(len(X)), "frequency": np.ones(len(X))}

    def infinite(params, X):
        return np.full(len(X), np.inf)

    with pytest.raises(GradientCheckError, match="frequency") as raised:
        fit_from_starts(wave_model(jacobian=wrong), T, WAVE, 3, n_jobs=n_jobs)
    assert "In the first of 3 starts of fit_from_starts, all of which failed." in raised.value.__notes__
    with pytest.raises(DivergenceError, match="at the starting parameters"):
        fit_from_starts(wave_model(forward=infinite), T, WAVE, 3, n_jobs=n_jobs)
    with pytest.raises(RuntimeError, match="Odd: nowhere"):
        fit_from_starts(wave_model(forward=odd), T, WAVE, 3, n_jobs=n_jobs)


def test_the_warnings_of_the_best_fit_are_given_and_those_of_others_kept():
    """In one warning, of the category of the fit's."""
    with pytest.warns(
        ConvergenceWarning, match=r"The best of 4 starts, number \d, warned: .*has not converged"
    ) as caught:
        result = fit_from_starts(wave_model(max_iter=1), T, WAVE, 4)
    assert len(caught) == 1
    assert all("has not converged" in message for message in result.messages)
    far = wave_model(init={"height": 1.0, "frequency": 3.1}, max_iter=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fit_from_starts(far, T, WAVE, 20, bounds={"frequency": (0, 200)})
    assert result.messages[result.best_index] == ""
    assert any("has not converged" in message for message in result.messages)


WRONG = {
    "n_starts": ({"n_starts": 0}, ValueError, "n_starts must be a whole number"),
    "spread": ({"spread": -1.0}, ValueError, "spread must be 0 or larger, and finite; got -1.0"),
    "nan": ({"spread": np.nan}, ValueError, "spread must be 0 or larger"),
    "words": ({"spread": "wide"}, TypeError, "spread must be a number or an array of numbers; got 'wide'"),
    "block": ({"spread": {"freq": 1.0}}, ParameterStructureError, "'freq', which does not exist"),
    "shape": (
        {"spread": {"height": [1.0, 2.0]}},
        ValueError,
        r"spread of 'height' has shape \(2,\); expected a number",
    ),
    "dict": ({"bounds": (0, 1)}, TypeError, "bounds must be a dict by parameter name"),
    "pair": ({"bounds": {"height": 3.0}}, TypeError, r"bounds of 'height' must be a pair \(low, high\); got 3.0"),
    "order": ({"bounds": {"height": (1, 0)}}, ValueError, "bounds of 'height' must be low <= high"),
    "nan bound": ({"bounds": {"height": (np.nan, 0)}}, ValueError, "bounds of 'height' must be low <= high"),
    "unknown": ({"bounds": {"tau": (0, 1)}}, ParameterStructureError, "bounds names the parameter 'tau'"),
    "same": ({"spread": 0.0}, ValueError, "all starts would be the same"),
    "one point": ({"spread": 0.0, "bounds": {"height": (1, 1)}}, ValueError, "all starts would be the same"),
}


@pytest.mark.parametrize(("arguments", "error", "match"), WRONG.values(), ids=WRONG)
def test_errors_name_the_argument_and_the_block(arguments, error, match):
    """And come before anything is fitted."""
    with pytest.raises(error, match=match):
        fit_from_starts(wave_model(), T, WAVE, **arguments)


def test_without_a_loss_there_is_nothing_to_compare_by():
    """Nor for what is no estimator of this package."""
    model = AnalyticRegressor(
        wave, lambda params, X, y: {"height": 0.0, "frequency": 0.0}, {"height": 1.0, "frequency": 1.0}, loss=None
    )
    with pytest.raises(ValueError, match="fit_from_starts needs a loss"):
        fit_from_starts(model.set_params(optimizer="adam"), T, WAVE)
    with pytest.raises(TypeError, match=r"fit_from_starts takes an estimator of sk_analytic; got Pipeline"):
        fit_from_starts(make_pipeline(wave_model()), T, WAVE)
