"""Full-batch methods and phases inside an estimator."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from sk_analytic import AnalyticRegressor, DivergenceError, get_optimizer, get_optimizer_names
from sk_analytic.model.default_models import linear_forward, linear_init
from sk_analytic.optimizers import LBFGS, SGD, Adam, Phases
from sk_analytic.optimizers.scipy_methods import FullBatch

METHODS = [name for name in get_optimizer_names() if isinstance(get_optimizer(name), FullBatch)]
ALPHA = 0.01


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X, y


def linear_jacobian(params, X):
    return {"coef": X, "intercept": np.ones(len(X))}


def curve(params, X):
    return params["height"] * np.exp(-params["rate"] * X[:, 0])


def curve_jacobian(params, X):
    decay = np.exp(-params["rate"] * X[:, 0])
    return {"height": decay, "rate": -params["height"] * X[:, 0] * decay}


def linear(**settings):
    return AnalyticRegressor(linear_forward, jacobian=linear_jacobian, init=linear_init, **settings)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_optimum(method, weighted, diabetes):
    """With and without weights, penalized, each method ends at the coefficients of Ridge."""
    X, y = diabetes
    weight = np.random.default_rng(0).integers(0, 4, len(y)).astype(float) if weighted else None
    total = len(y) if weight is None else weight.sum()
    expected = Ridge(alpha=ALPHA * total).fit(X, y, weight)
    model = linear(optimizer=method, tol=1e-6, alpha={"coef": ALPHA}, max_iter=5000).fit(X, y, weight)
    np.testing.assert_allclose(model.params_["coef"], expected.coef_, rtol=1e-4)
    assert model.optimizer_result_.success
    assert model.n_iter_ == len(model.loss_curve_)
    assert model.loss_ == pytest.approx(model.optimizer_result_.fun)


@pytest.mark.parametrize("method", METHODS)
def test_fixed_blocks_stay(method, diabetes):
    """A fixed block keeps its start to the bit, whatever the method does with a column of zeros."""
    X, y = diabetes
    model = linear(optimizer=method, fixed=("intercept",), tol=1e-4, max_iter=1000).fit(X, y)
    assert model.params_["intercept"] == 0.0
    assert np.abs(model.params_["coef"]).max() > 100


@pytest.mark.parametrize("method", METHODS)
def test_early_stopping_works_with_every_method(method, diabetes):
    """The best parameters on the held-out rows are kept."""
    X, y = diabetes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = linear(optimizer=method, early_stopping=True, random_state=0, max_iter=30).fit(X, y)
    assert len(model.validation_scores_) == model.n_iter_
    assert max(model.validation_scores_) > 0.3


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
def test_least_squares_methods_fit_curves(method):
    """A curve with two parameters is found to many digits, in float32 as far as that goes."""
    X = np.linspace(0, 3, 40)[:, None]
    y = 2.5 * np.exp(-1.3 * X[:, 0])
    start = {"height": 1.0, "rate": 0.5}
    model = AnalyticRegressor(curve, jacobian=curve_jacobian, init=start, optimizer=method, tol=1e-10).fit(X, y)
    assert model.params_ == pytest.approx({"height": 2.5, "rate": 1.3}, rel=1e-7)
    narrow = clone(model).set_params(tol=1e-5).fit(X.astype(np.float32), y)
    assert narrow.params_ == pytest.approx({"height": 2.5, "rate": 1.3}, rel=1e-3)


def test_least_squares_methods_say_what_they_need(diabetes):
    """Another gradient form or loss is an error that names both and shows the way."""
    X, y = diabetes
    with pytest.raises(ValueError, match="needs the jacobian form and loss='squared_error'; got vjp"):
        AnalyticRegressor(optimizer="lm").fit(X, y)
    with pytest.raises(ValueError, match=r"got jacobian and Huber\(\)"):
        linear(optimizer="trf", loss="huber").fit(X, y)


@pytest.mark.parametrize("method", ["bfgs", "tnc", "slsqp", "newton-cg", "trust-constr"])
def test_iterations_are_limited(method, diabetes):
    """`max_iter` is the number of iterations; the warning says what to do."""
    X, y = diabetes
    with pytest.warns(ConvergenceWarning, match="Increase max_iter or tol"):
        model = linear(optimizer=method, max_iter=2, tol=1e-12).fit(X, y)
    assert model.n_iter_ == 2


def wrong_gradient(params, X, y):
    residual = linear_forward(params, X) - y
    return {"coef": -(X.T @ residual) / len(y), "intercept": -residual.mean()}


def test_a_line_search_that_fails_at_once_points_to_the_gradient(diabetes):
    """The warning says that the gradient is probably wrong, and how to find out."""
    X, y = diabetes
    model = AnalyticRegressor(
        linear_forward, wrong_gradient, linear_init, optimizer="lbfgs", check_gradient=False, tol=1e-8
    )
    with pytest.warns(ConvergenceWarning, match=r"gradient is nearly always wrong. Run check_gradient"):
        model.fit(X, y)
    assert np.isfinite(model.params_["coef"]).all()


def test_a_start_that_is_not_finite_is_an_error():
    """A start where the loss overflows is refused with the block's name, and nothing is fitted."""
    X = np.full((5, 1), -1.0)
    model = AnalyticRegressor(curve, jacobian=curve_jacobian, init={"height": 1.0, "rate": 1e4}, optimizer="lbfgs")
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="starting parameters"):
        model.fit(X, np.ones(5))


def test_gradient_only_training_needs_a_loss(diabetes):
    """A full-batch method with loss=None is an error that shows the way."""
    X, y = diabetes
    model = AnalyticRegressor(linear_forward, wrong_gradient, linear_init, loss=None, optimizer="bfgs")
    with pytest.raises(ValueError, match="Name a loss, pass a function, or use loss_and_gradient"):
        model.fit(X, y)


class TestPhases:
    """One optimizer after another."""

    def test_phases_go_on_where_the_one_before_ended(self, diabetes):
        """Two phases equal a fit and a warm start by another optimizer, in one curve."""
        X, y = diabetes
        settings = {"random_state": 0, "n_iter_no_change": 1000, "tol": 1e-6}
        model = AnalyticRegressor(optimizer=Phases([(Adam(1.0), 30), ("lbfgs", 500)]), **settings).fit(X, y)
        second = AnalyticRegressor(optimizer=Adam(1.0), max_iter=30, warm_start=True, **settings)
        with pytest.warns(ConvergenceWarning):
            second.fit(X, y)
        second.set_params(optimizer="lbfgs", max_iter=500).fit(X, y)
        np.testing.assert_array_equal(model.params_["coef"], second.params_["coef"])
        assert model.loss_curve_ == second.loss_curve_
        assert model.n_iter_ > 30

    def test_hyperparameters_of_a_phase_can_be_searched(self, diabetes):
        """In a grid a phase is called by its optimizer's name; a name becomes its object."""
        X, y = diabetes
        phases = Phases([("adam", 3), ("lbfgs", 50)])
        start = {"coef": np.zeros(X.shape[1]), "intercept": 0.0}
        model = AnalyticRegressor(init=start, optimizer=phases, random_state=0, tol=1e-3)
        search = GridSearchCV(model, {"optimizer__adam__learning_rate": [0.1, 1.0]}, cv=3).fit(X, y)
        assert search.best_estimator_.optimizer.phases[0][0].learning_rate in (0.1, 1.0)
        assert phases.phases[0] == ("adam", 3)

    def test_the_same_optimizer_twice_is_numbered(self):
        """Names that come twice get numbers, as make_pipeline gives them."""
        phases = Phases([("sgd", 3), (SGD(), 5)])
        assert {"sgd-1__learning_rate", "sgd-2__learning_rate"} <= set(phases.get_params())
        phases.set_params(**{"sgd-2__learning_rate": 0.5})
        assert phases.phases[1][0].learning_rate == 0.5

    def test_there_is_no_partial_fit(self):
        """A fit by phases is one fit."""
        assert not hasattr(AnalyticRegressor(optimizer=Phases([("adam", 3)])), "partial_fit")

    @pytest.mark.parametrize(
        ("phases", "error", "message"),
        [
            ([], TypeError, "takes a list of pairs"),
            ("adam", TypeError, "takes a list of pairs"),
            (["adam"], TypeError, "A phase is a pair of an optimizer and its number of iterations; got 'adam'"),
            ([("adamm", 5)], ValueError, "Did you mean 'adam'"),
            ([("adam", 0)], ValueError, "the number of iterations must be a whole number in"),
            ([(Phases([("adam", 1)]), 2)], TypeError, "Phases cannot contain Phases"),
            ([(Adam(-1.0), 2)], ValueError, "Adam: learning_rate must be"),
        ],
    )
    def test_wrong_phases_are_refused(self, phases, error, message, diabetes):
        """Each mistake is named before anything is trained; get_params and repr still work."""
        model = AnalyticRegressor(optimizer=Phases(phases))
        assert repr(model)
        model.get_params()
        with pytest.raises(error, match=message):
            model.fit(*diabetes)
        assert not hasattr(model, "params_")

    def test_objects_are_not_shared_with_the_user(self, diabetes):
        """A fit does not write to the optimizer that was given."""
        method = LBFGS()
        before = repr(method)
        AnalyticRegressor(optimizer=Phases([(method, 100)]), tol=1e-2).fit(*diabetes)
        assert repr(method) == before


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox", "lbfgs"])
def test_blocks_without_a_derivative_are_differenced(method, diabetes):
    """A block listed in `numerical` reaches the optimum by every method, least squares included."""
    X, y = diabetes

    def half_jacobian(params, X):
        return {"coef": X, "intercept": None}

    model = AnalyticRegressor(
        linear_forward, jacobian=half_jacobian, init=linear_init, numerical=("intercept",), optimizer=method
    )
    with pytest.warns(UserWarning, match="differences"):
        model.set_params(tol=1e-6, max_iter=2000).fit(X, y)
    assert model.params_["intercept"] == pytest.approx(y.mean(), rel=1e-5)


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
def test_success_where_it_started_is_a_failure(method, diabetes):
    """With a Jacobian of the wrong sign every step is refused; that is not convergence."""
    X, y = diabetes

    def turned(params, X):
        return {name: -block for name, block in linear_jacobian(params, X).items()}

    model = AnalyticRegressor(linear_forward, jacobian=turned, init=linear_init, optimizer=method)
    with pytest.warns(ConvergenceWarning, match="gradient is nearly always wrong"):
        model.set_params(check_gradient=False).fit(X, y)
    assert model.optimizer_result_.nit == 0


@pytest.mark.parametrize("method", ["bfgs", "cg", "newton-cg"])
def test_options_that_scipy_does_not_have_yet_stay_at_its_defaults(method, diabetes, monkeypatch):
    """The oldest scipy does not know c1 and c2: it is not passed them, and other values name the version."""
    monkeypatch.setattr("sk_analytic.optimizers.scipy_methods.SCIPY", (1, 11))
    assert linear(optimizer=method, tol=1.0).fit(*diabetes).optimizer_.options().keys().isdisjoint({"c1", "c2"})
    with pytest.raises(ValueError, match=r"c2=0.5 requires scipy 1.12 or later; this is .* where c2 is 0.[49]"):
        linear(optimizer=method).set_params(optimizer__c2=0.5).fit(*diabetes)
    monkeypatch.setattr("sk_analytic.optimizers.scipy_methods.SCIPY", (1, 12))
    assert get_optimizer(method).set_params(c2=0.5).options()["c2"] == 0.5


def test_an_error_that_scipy_would_take_for_a_wish_to_stop_goes_on(diabetes):
    """`StopIteration` from the user's functions is theirs, in the evaluations and in the scoring."""
    calls = iter(range(12))

    def forward(params, X):
        next(calls)
        return X @ params["coef"]

    def vjp(params, X):
        return X @ params["coef"], lambda d: {"coef": X.T @ d}

    model = AnalyticRegressor(
        forward, vjp=vjp, init={"coef": np.zeros(10)}, optimizer="lbfgs", early_stopping=True, check_gradient=False
    )
    with pytest.raises(StopIteration):
        model.set_params(tol=1e-12, random_state=0).fit(*diabetes)
