"""Bounds, maps and held entries: the user sees x, training moves z, in every gradient form and by every optimizer."""

import copy
import pickle
import warnings
from typing import NamedTuple

import numpy as np
import pytest
from scipy.optimize import nnls, rosen, rosen_der
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    ParameterStructureError,
    check_gradient,
    find_learning_rate,
    fit_from_starts,
    get_optimizer,
    get_optimizer_names,
    trusted_types,
)
from sk_analytic.callbacks import Checkpoint
from sk_analytic.constraints import constrained, read_fixed
from sk_analytic.maps import MAPS, Cholesky, ElementwiseMap, Log, Logit, Map, Ordered, Simplex, get_map
from sk_analytic.optimizers import (
    SGD,
    Adam,
    Chain,
    ClipNorm,
    Exponential,
    ExponentialAverage,
    FullBatch,
    Lookahead,
    PerBlock,
    PolyakAverage,
)
from sk_analytic.parameters import Layout, Parameters

RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 4.0, (60, 1))
Y = 2.0 * np.exp(-X[:, 0] / 1.3) + 0.05 * RNG.standard_normal(60)
START = {"height": 1.0, "tau": 1.0}


# A decay, in each gradient form.


def decay(params, X):
    return params["height"] * np.exp(-X[:, 0] / params["tau"])


def decay_jacobian(params, X):
    share = np.exp(-X[:, 0] / params["tau"])
    return {"height": share, "tau": params["height"] * share * X[:, 0] / params["tau"] ** 2}


def decay_vjp(params, X):
    leaves = decay_jacobian(params, X)
    return decay(params, X), lambda d: {name: d @ leaf for name, leaf in leaves.items()}


def decay_loss_and_gradient(params, X, y):
    residual = decay(params, X) - y
    leaves = decay_jacobian(params, X)
    return 0.5 * float(residual @ residual) / len(y), {name: residual @ leaf / len(y) for name, leaf in leaves.items()}


def decay_gradient(params, X, y):
    return decay_loss_and_gradient(params, X, y)[1]


FORMS = {
    "gradient": {"gradient": decay_gradient},
    "loss_and_gradient": {"loss_and_gradient": decay_loss_and_gradient},
    "vjp": {"vjp": decay_vjp},
    "jacobian": {"jacobian": decay_jacobian},
    "numerical": {"numerical": ("height", "tau")},
}


def curve(form="jacobian", **settings):
    """The decay, from its usual start."""
    return AnalyticRegressor(decay, init=settings.pop("init", START), random_state=0, **FORMS[form], **settings)


# Maps.


ROTATION = np.array([[0.6, -0.8], [0.8, 0.6]])


class Rotated(Map):
    """A map of one's own: positive numbers by the logarithms, turned."""

    def constrain(self, z):
        return np.exp(ROTATION @ z)

    def unconstrain(self, x):
        return ROTATION.T @ np.log(x)

    def pullback(self, z, gradient):
        return ROTATION.T @ (gradient * np.exp(ROTATION @ z))


class Cube(ElementwiseMap):
    """One of one's own that maps each entry by itself."""

    def constrain(self, z):
        return z**3

    def unconstrain(self, x):
        return np.cbrt(x)

    def derivative(self, z):
        return 3 * z**2


POINTS = {
    "log": (Log(), RNG.uniform(0.5, 2, (3, 2))),
    "log of a number": (Log(), np.array(2.0)),
    "logit": (Logit(), RNG.uniform(0.1, 0.9, 4)),
    "logit with limits": (Logit(-1.0, np.array([2.0, 3.0])), np.array([0.5, 2.5])),
    "simplex": (Simplex(), RNG.dirichlet(np.ones(4), size=2)),
    "ordered": (Ordered(), np.sort(RNG.normal(size=(2, 5)), axis=-1)),
    "cholesky": (Cholesky(), np.tril(RNG.uniform(1, 2, (2, 3, 3)))),
    "own": (Rotated(), np.array([0.5, 2.0])),
    "own, elementwise": (Cube(), np.array([0.5, -2.0])),
}


@pytest.mark.parametrize("name", POINTS)
def test_a_map_comes_back(name):
    """unconstrain is the inverse of constrain, up to rounding."""
    map, x = POINTS[name]
    np.testing.assert_allclose(map.constrain(map.unconstrain(x)), x, rtol=1e-14)


@pytest.mark.parametrize("name", POINTS)
def test_the_pullback_of_a_map_is_its_derivative(name):
    """Against central differences, entry by entry of z; and pull_rows is the pullback of each row."""
    map, x = POINTS[name]
    z, rows = np.asarray(map.unconstrain(x)), RNG.normal(size=(3, x.size))
    numerical = np.empty((3, z.size))
    for entry in range(z.size):
        step = np.zeros(z.size)
        step[entry] = 1e-5
        step = step.reshape(z.shape)
        numerical[:, entry] = rows @ np.ravel(map.constrain(z + step) - map.constrain(z - step)) / 2e-5
    pulled = [np.ravel(map.pullback(z, row.reshape(x.shape))) for row in rows]
    np.testing.assert_allclose(pulled, numerical, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(map.pull_rows(z, rows), pulled, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", POINTS)
def test_a_map_only_moves_along_its_tangents(name):
    """What the pullback says of a gradient and of its tangent is the same; a tangent is its own."""
    map, x = POINTS[name]
    z, gradient = np.asarray(map.unconstrain(x)), RNG.normal(size=x.shape)
    tangent = map.tangent(gradient)
    np.testing.assert_allclose(map.pullback(z, tangent), map.pullback(z, gradient), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(map.tangent(tangent), tangent)


WRONG_STARTS = {
    "log": [0.0, 1.0],
    "logit": [0.5, 1.0],
    "simplex": [0.5, 0.6],
    "ordered": [1.0, 1.0],
    "cholesky": [[1.0, 0.5], [0.0, 1.0]],
}


@pytest.mark.parametrize("name", WRONG_STARTS)
def test_a_start_that_a_map_cannot_reach_is_refused(name):
    """The message names the block, what it must be, and what it is."""
    start = {"w": np.array(WRONG_STARTS[name])}
    model = AnalyticDensity(
        loss_and_gradient=lambda params, X: (float((params["w"] ** 2).sum()), {"w": 2 * params["w"]}),
        forward=lambda params, X: np.zeros(len(X)),
        init=start,
        reparametrize={"w": name},
    )
    message = r"Parameter 'w' must .* under reparametrize=\{'w': .*\(\)\}, but starts at \["
    with pytest.raises(ParameterStructureError, match=message):
        model.fit(X)


def test_names_of_maps():
    """A name stands for a map with its defaults; what other libraries call it is understood."""
    assert isinstance(get_map("log"), Log)
    assert set(MAPS) == {"log", "logit", "simplex", "ordered", "cholesky"}
    with pytest.raises(ValueError, match="Unknown map 'exp'. Did you mean 'log'?"):
        get_map("exp")
    with pytest.raises(TypeError, match=r"Pass an instance: Log\(\)"):
        get_map(Log)
    with pytest.raises(ValueError, match="low must be less than high"):
        curve(reparametrize={"tau": Logit(2, 1)}).fit(X, Y)


# What training moves.


def structures():
    """A θ with a block for each map, one without, and one of which entries are held."""
    blocks = {name.replace(" ", "_"): x for name, (_, x) in POINTS.items()}
    maps = {name.replace(" ", "_"): map for name, (map, _) in POINTS.items()}
    order = ["plain", *blocks, "held"]
    blocks |= {"plain": np.array([0.3, -1.0, 2.0]), "held": np.array([[1.0, 1.5], [1.2, 1.9]])}
    mask = np.array([[True, False], [False, False]])
    return {name: blocks[name] for name in order}, maps | {"held": "log"}, {"held": mask}


class Problem:
    """A loss of all blocks, with its gradient, and one without an analytic gradient."""

    def __init__(self, names):
        self.names = names
        rng = np.random.default_rng(1)
        self.weights = {name: rng.normal(size=np.shape(x)) for name, x in structures()[0].items()}

    def forward(self, params, X):
        return X[:, 0] * sum(float((self.weights[name] * params[name]).sum()) for name in self.names)

    def jacobian(self, params, X):
        return {name: X[:, 0].reshape(-1, *[1] * np.ndim(params[name])) * self.weights[name] for name in self.names}

    def vjp(self, params, X):
        return self.forward(params, X), lambda d: {n: float(d @ X[:, 0]) * self.weights[n] for n in self.names}

    def loss_and_gradient(self, params, X, y):
        residual = self.forward(params, X) - y
        slope = float(residual @ X[:, 0]) / len(y)
        return 0.5 * float(residual @ residual) / len(y), {n: slope * self.weights[n] for n in self.names}

    def gradient(self, params, X, y):
        return self.loss_and_gradient(params, X, y)[1]


def prepared(form, **settings):
    """The training of a problem of all maps, before its first step, and its rows."""
    blocks, maps, masks = structures()
    problem = Problem(list(blocks))
    given = {"forward": problem.forward} if form != "loss_and_gradient" else {"forward": problem.forward}
    given |= {"numerical": tuple(blocks)} if form == "numerical" else {form: getattr(problem, form)}
    model = AnalyticRegressor(**given, init=blocks, reparametrize=maps, fixed=masks, alpha=0.3, **settings)
    training, rows = model._prepare_start(X, Y, None, {}, goes_on=False, seed=0)
    return training, rows[0]


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_by_what_is_moved(form):
    """Each form, every map, held entries and the penalty at once: against differences of the value, to 1e-7."""
    training, rows = prepared(form, optimizer="adam")
    objective, theta = training.objective, training.theta
    batch = rows.everything
    loss, gradient = objective.finish(theta, objective.contribution(theta, batch))
    gradient = gradient.copy()
    assert loss == pytest.approx(objective.mean_value(theta, [batch]), rel=1e-12) or loss is None
    for entry in range(theta.vector.size):

        def value(t, entry=entry):
            moved = theta.vector.copy()
            moved[entry] += t
            return objective.mean_value(theta.at(moved), [batch])

        numerical = (8 * (value(1e-4) - value(-1e-4)) - (value(2e-4) - value(-2e-4))) / 12e-4
        assert gradient[entry] == pytest.approx(numerical, rel=1e-7, abs=1e-7)


def test_residuals_by_what_is_moved():
    """The Jacobian of the residuals, the penalty's among them, is that by z."""
    from sk_analytic.least_squares import Residuals

    for form, settings in (("jacobian", {}), ("jacobian", {"numerical": ("simplex", "held")})):
        training, rows = prepared(form, optimizer="trf", **settings)
        theta, terms = training.theta, Residuals(training.objective)
        residuals, matrix, missing = terms.tangents(theta, rows)
        assert missing == ()
        np.testing.assert_array_equal(residuals, terms.values(theta, rows))
        assert matrix.shape[1] == theta.vector.size
        for entry in range(theta.vector.size):
            step = np.zeros(theta.vector.size)
            step[entry] = 1e-5
            ends = [terms.values(theta.at(theta.vector + sign * step), rows) for sign in (1, -1)]
            np.testing.assert_allclose(matrix[:, entry], (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-7)


def test_the_user_sees_x():
    """Callables get x, with read-only arrays; the held entry is its start to the bit."""
    blocks, _, masks = structures()
    training, _ = prepared("vjp", optimizer="adam")
    seen = training.theta.structure
    for name, x in blocks.items():
        np.testing.assert_allclose(seen[name], x, rtol=1e-14)
        assert not seen[name].flags.writeable
    assert np.array_equal(seen["held"][masks["held"]], blocks["held"][masks["held"]])
    training.theta.vector[...] += 0.1
    moved = training.theta.structure
    assert not np.allclose(moved["log"], blocks["log"])
    assert np.array_equal(moved["held"][masks["held"]], blocks["held"][masks["held"]])
    np.testing.assert_allclose(moved["simplex"].sum(axis=-1), 1.0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "trf"])
def test_maps_do_not_change_the_optimum(form, optimizer):
    """The minimum is inside, so a fit through a map ends where one without ends."""
    if optimizer == "trf" and form != "jacobian":
        pytest.skip("trf takes the jacobian form")
    if optimizer == "adam":
        settings = {"batch_size": len(X), "max_iter": 1500, "tol": None}
        settings["optimizer"] = Adam(Exponential(0.1, decay=0.99))
    else:
        settings = {"optimizer": optimizer, "tol": 1e-8}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "numerical")
        mapped = curve(form, reparametrize={"tau": "log", "height": Logit(0, 5)}, **settings).fit(X, Y)
        reference = curve("jacobian", optimizer="trf").fit(X, Y)
    for name, value in reference.params_.items():
        assert mapped.params_[name] == pytest.approx(value, rel=1e-5)
        assert type(mapped.params_[name]) is float
    np.testing.assert_array_equal(mapped.predict(X), decay(mapped.params_, X))


def test_the_penalty_is_of_x():
    """alpha counts x: the optimum of log(x) penalized is that of x penalized."""
    plain = curve(optimizer="trf", alpha=0.05).fit(X, Y)
    mapped = curve(optimizer="trf", alpha=0.05, reparametrize={"tau": "log"}).fit(X, Y)
    assert mapped.params_["tau"] == pytest.approx(plain.params_["tau"], rel=1e-8)
    assert mapped.loss_ == pytest.approx(plain.loss_, rel=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "schedule_free_adamw", "lbfgs", "trf"])
def test_two_fits_are_one(optimizer):
    """50 iterations and 50 more are 100, to the bit, though T(T⁻¹(x)) is not x to the bit."""
    if optimizer not in get_optimizer_names():
        optimizer = next(name for name in get_optimizer_names() if "free" in name)
    settings = {"optimizer": optimizer, "tol": None, "reparametrize": {"tau": "log", "height": Logit(0, 7)}}
    if isinstance(get_optimizer(optimizer), FullBatch):
        settings |= {"warm_start": True}
        once = curve(max_iter=3, **settings).fit(X, Y)
        stored = pickle.loads(pickle.dumps(once))
        again, also = once.fit(X, Y), stored.fit(X, Y)
    else:
        also = curve(max_iter=40, **settings).fit(X, Y)
        again = curve(max_iter=20, warm_start=True, **settings).fit(X, Y)
        again = pickle.loads(pickle.dumps(again)).fit(X, Y)
    assert again.params_ == also.params_
    assert np.array_equal(again._training.theta.vector, also._training.theta.vector)


POWER = {"left": 10**9}


def until_the_power_is_cut(params, X):
    POWER["left"] -= 1
    if not POWER["left"]:
        raise RuntimeError("power cut")
    return decay_vjp(params, X)


def test_resumed_from_a_checkpoint_to_the_bit(tmp_path, monkeypatch):
    """A fit that was broken off goes on with the z of its file."""
    settings = {"optimizer": "adam", "max_iter": 12, "tol": None, "reparametrize": {"tau": "log"}, "batch_size": 10}

    def model():
        return AnalyticRegressor(decay, vjp=until_the_power_is_cut, init=START, random_state=0, **settings)

    pytest.importorskip("sklearn.callback")
    monkeypatch.setitem(POWER, "left", 10**9)
    whole = model().fit(X, Y)
    monkeypatch.setitem(POWER, "left", 40)
    with pytest.raises(RuntimeError, match="power cut"):
        model().set_callbacks(Checkpoint(tmp_path / "fit.pkl", every=1)).fit(X, Y)
    monkeypatch.setitem(POWER, "left", 10**9)
    resumed = model().set_callbacks(Checkpoint(tmp_path / "fit.pkl", every=1, resume=True)).fit(X, Y)
    assert resumed.params_ == whole.params_
    assert resumed.n_iter_ == 12


def test_parameters_set_by_hand_are_where_it_goes_on():
    """partial_fit begins at the x of params_, and keeps what the optimizer remembers."""
    model = curve("vjp", optimizer="adam", max_iter=50, tol=None, reparametrize={"tau": "log"}).fit(X, Y)
    state = model.optimizer_state_.step
    model.params_ = {"height": 1.5, "tau": 2.0}
    np.testing.assert_array_equal(model.predict(X), decay({"height": 1.5, "tau": 2.0}, X))
    model.partial_fit(X, Y)
    assert abs(model.params_["tau"] - 2.0) < 0.1
    assert model.optimizer_state_.step == state + 1
    model.params_ = {"height": 1.5, "tau": -2.0}
    with pytest.raises(ParameterStructureError, match="Parameter 'tau' must be positive"):
        model.partial_fit(X, Y)


@pytest.mark.parametrize(("map", "target"), [("log", -5.0), (Logit(0, 1.5), 9.0), (Logit(-100, 0.001), 9.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("held", [False, True])
def test_what_is_driven_to_the_edge_stays_inside(map, target, dtype, held):
    """However far z is, x is no number that the map cannot reach: the fit goes on, and can be checked.

    Entries that are held may lie where the map cannot go.
    """
    start = np.array([[0.0005, 0.0005], [-200.0, 0.0005]], dtype)
    free = np.array([[True, True], [False, True]]) if held else np.ones((2, 2), dtype=bool)
    start = start if held else np.full((2, 2), 0.0005, dtype)

    def vjp(w, X):
        return X * w.sum(), lambda d: np.full_like(w, np.vdot(d, X))

    settings = {"reparametrize": {"params": map}, "fixed": {"params": ~free}, "init": start, "tol": None}
    data = np.ones((20, 1), dtype)
    model = AnalyticRegressor(
        lambda w, X: vjp(w, X)[0][:, 0], vjp=lambda w, X: (vjp(w, X)[0][:, 0], lambda d: vjp(w, X)[1](d[:, None])),
        optimizer=SGD(1e3), max_iter=300, warm_start=True, check_gradient=False, random_state=0, **settings,
    )  # fmt: skip
    y = np.full(20, 1000 * target, dtype)
    for _ in range(2):
        model.fit(data, y)
    low, high = get_map(map).domain
    assert ((model.params_ > low) & (model.params_ < high))[free].all()
    assert (model.params_ == start)[~free].all()
    edge = low if target < 0 else high
    np.testing.assert_allclose(model.params_[free], edge, atol=1e-4)
    assert check_gradient(model, data, y).ok
    model.set_params(reparametrize={"params": get_map(map)}, optimizer=SGD(1e-9)).partial_fit(data, y)


def test_another_map_begins_anew():
    """A warm fit under another map goes on from the same x."""
    model = curve("vjp", optimizer=SGD(1e-12), max_iter=2, tol=None, warm_start=True).fit(X, Y)
    for maps in ({"tau": "log"}, {"tau": Logit(0, 9)}, {"tau": "log", "height": "log"}, None):
        model.set_params(reparametrize=maps).fit(X, Y)
        assert model.params_["tau"] == pytest.approx(1.0, abs=1e-9)
        assert model.params_["height"] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), None])
@pytest.mark.parametrize("goes_on", ["fit", "partial_fit"])
def test_other_bounds_hold_from_then_on(through, goes_on):
    """A run that goes on under other bounds is put between these, whatever the optimizer remembers."""
    model = curve("vjp", optimizer="adam", max_iter=20, tol=None, warm_start=True, bounds={"height": (0, 1.19)})
    model.fit(X, Y)
    assert model.params_["height"] == 1.19
    model = model if through is None else through(model)
    for high in (1.25, 1.3, 1.22, 1.28):
        if model.params_["height"] > high:
            model.params_ = {**model.params_, "height": high}
        model.set_params(bounds={"height": (0, high)})
        for _ in range({"fit": 1, "partial_fit": 20}[goes_on]):
            getattr(model, goes_on)(X, Y)
        assert model.params_["height"] == high


def test_files_of_skops_hold_constraints():
    """What is saved of maps, masks and bounds is of this package, and goes on to the bit."""
    io = pytest.importorskip("skops.io")
    for settings in (
        {"reparametrize": {"tau": "log", "height": Logit(0, 7)}, "bounds": {"height": (0.5, 1.5)}},
        {"fixed": {"height": True}, "bounds": {"tau": (0.5, 1.5)}},
    ):
        model = curve("vjp", optimizer="adam", max_iter=3, tol=None, **settings).fit(X, Y)
        loaded = io.loads(io.dumps(model), trusted=trusted_types(decay, decay_vjp))
        assert loaded.partial_fit(X, Y).params_ == model.partial_fit(X, Y).params_


def test_a_search_over_maps():
    """reparametrize and bounds are parameters as others: cloned, searched, shown."""
    model = curve(optimizer="trf", reparametrize={"tau": "log"})
    assert clone(model).get_params()["reparametrize"] == {"tau": "log"}
    grid = {"reparametrize": [None, {"tau": "log"}], "bounds": [None, {"height": (0, 5)}]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y)
    assert np.ptp(search.cv_results_["mean_test_score"]) < 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    """Under maps and bounds too, θ has the dtype of X."""
    start = {"height": np.array([1.0]), "tau": np.array([1.0])}
    settings = {"reparametrize": {"tau": "log"}, "bounds": {"height": (0.5, 1.7)}, "optimizer": "adam", "tol": None}

    def vjp(params, X):
        prediction, pull = decay_vjp({name: block[0] for name, block in params.items()}, X)
        return prediction.astype(X.dtype), lambda d: {n: np.array([g], X.dtype) for n, g in pull(d).items()}

    model = AnalyticRegressor(
        lambda params, X: vjp(params, X)[0], vjp=vjp, init=start, max_iter=200, random_state=0, **settings
    ).fit(X.astype(dtype), Y)
    assert {block.dtype for block in model.params_.values()} == {np.dtype(dtype)}
    assert dtype(0.5) <= model.params_["height"] <= dtype(1.7)


def test_chunks_and_early_stopping():
    """One chunk gives what fit gives, to the bit; the best parameters are published in x."""
    settings = {"optimizer": "adam", "reparametrize": {"tau": "log"}, "bounds": {"height": (0, 1.9)}, "tol": None}
    whole = curve("vjp", max_iter=30, **settings).fit(X, Y)
    assert curve("vjp", max_iter=30, **settings).fit_chunks([(X, Y)]).params_ == whole.params_
    several = curve("vjp", max_iter=30, **settings).fit_chunks([(X[:30], Y[:30]), (X[30:], Y[30:])])
    assert several.params_["tau"] > 0
    assert several.params_["height"] <= 1.9
    stopped = curve("vjp", max_iter=60, early_stopping=True, **settings).fit(X, Y)
    assert stopped.best_validation_score_ == max(stopped.validation_scores_)
    np.testing.assert_array_equal(stopped.predict(X), decay(stopped.params_, X))
    copied = copy.copy(stopped)
    assert copied.params_ == stopped.params_


# Bounds.


def bounded_methods():
    return [name for name in get_optimizer_names() if getattr(get_optimizer(name), "bounded", False)]


def test_which_methods_know_bounds():
    """scipy's that take them; the others refuse, and name those."""
    assert bounded_methods() == sorted(["dogbox", "lbfgs", "slsqp", "tnc", "trf", "trust-constr"])
    full_batch = [name for name in get_optimizer_names() if isinstance(get_optimizer(name), FullBatch)]
    for name in set(full_batch) - set(bounded_methods()):
        message = "does not support bounds. These do: 'lbfgs', 'tnc', 'slsqp', 'trust-constr'.*'trf' and 'dogbox'"
        with pytest.raises(ValueError, match=message):
            curve(optimizer=name, bounds={"tau": (0, None)}).fit(X, Y)
        with pytest.raises(ValueError, match="does not support bounds"):
            get_optimizer(name).minimize(lambda x: (x @ x, 2 * x), np.ones(2), bounds=(0, 1))


X_DIABETES, Y_DIABETES = load_diabetes(return_X_y=True)
Y_DIABETES = Y_DIABETES - Y_DIABETES.mean()
NNLS, _ = nnls(X_DIABETES, Y_DIABETES)


def nonnegative(optimizer, **settings):
    return AnalyticRegressor(
        lambda coef, X: X @ coef,
        jacobian=lambda coef, X: X,
        init=np.ones(10),
        bounds={"params": (0, None)},
        optimizer=optimizer,
        random_state=0,
        **settings,
    ).fit(X_DIABETES, Y_DIABETES)


@pytest.mark.parametrize(
    "optimizer", ["trf", "dogbox", "lbfgs", "tnc", pytest.param("slsqp", id="slsqp"), "trust-constr"]
)
def test_nonnegative_least_squares(optimizer):
    """scikit-learn's diabetes data: scipy's nnls, with five coefficients on the bound exactly."""
    tol = {"trf": 1e-4, "dogbox": 1e-4, "slsqp": 1e-8}.get(optimizer, 1e-10)
    coef = nonnegative(optimizer, tol=tol).params_
    reached = {"trf": 1e-10, "dogbox": 1e-10, "trust-constr": 1e-7}.get(optimizer, 1e-8)
    np.testing.assert_allclose(coef, NNLS, atol=reached * NNLS.max())
    assert (coef[NNLS == 0] == 0).all()


def test_nonnegative_least_squares_by_steps():
    """A rule, all rows a step: the projection right after it gives the same to 1e-6."""
    coef = nonnegative(Adam(Exponential(20.0, decay=0.998)), batch_size=442, max_iter=9000, tol=None).params_
    np.testing.assert_allclose(coef, NNLS, atol=1e-6 * NNLS.max())
    assert (coef[NNLS == 0] == 0).all()


@pytest.mark.parametrize("optimizer", [*bounded_methods(), "adam"])
def test_equal_bounds_hold_an_entry(optimizer):
    """An entry that bounds leave no room, or all of them, is as one that is fixed."""
    tol = None if optimizer == "adam" else 1e-8
    settings = {"init": {"height": 1.5, "tau": 1.0}, "optimizer": optimizer, "tol": tol}
    fixed = curve(fixed=("height",), **settings).fit(X, Y).params_
    held = curve(bounds={"height": (1.5, 1.5), "tau": (0.1, None)}, **settings).fit(X, Y).params_
    assert held["height"] == 1.5
    assert held["tau"] == pytest.approx(fixed["tau"], rel=1e-6)
    assert curve(bounds={"height": (1.5, 1.5), "tau": (1, 1)}, **settings).fit(X, Y).params_ == settings["init"]


@pytest.mark.parametrize("wide", [1e3, 1e20, 1e300])
@pytest.mark.parametrize("optimizer", bounded_methods())
def test_wide_bounds_are_as_none(optimizer, wide):
    """Bounds that are far away say nothing of the size of a step."""
    free = curve(optimizer=optimizer, bounds={"tau": (1e-3, None)}, tol=1e-8).fit(X, Y)
    model = curve(optimizer=optimizer, bounds={"tau": (1e-3, wide), "height": (-wide, wide)}, tol=1e-8).fit(X, Y)
    assert model.params_ == pytest.approx(free.params_, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["lbfgs", "tnc", "slsqp", "trust-constr"])
def test_bounds_of_a_plain_function(optimizer):
    """Rosenbrock's function with x[1] <= 0.5 has its minimum at a known point on that bound."""
    called = []

    def function(x):
        called.append(x.copy())
        return rosen(x), rosen_der(x)

    method = get_optimizer(optimizer)
    result = method.minimize(function, np.array([-1.0, 0.2]), bounds=(-2, [2, 0.5]), tol=1e-8, max_iter=500)
    # d/dx of 100 (1/2 - x²)² + (1 - x)² vanishes
    expected = next(r.real for r in np.roots([400, 0, -198, -2]) if abs(r.imag) < 1e-12 and r.real > 0)
    assert result.success
    np.testing.assert_allclose(result.x, [expected, 0.5], rtol=1e-6)
    assert result.x[1] == 0.5
    assert result.held.tolist() == [False, True]
    assert all((point >= -2).all() and (point <= [2, 0.5]).all() for point in called)


@pytest.mark.parametrize("optimizer", ["lbfgs", "tnc", "slsqp", "trust-constr"])
def test_equal_bounds_of_a_plain_function(optimizer):
    """The other entries are minimized alone."""
    method = get_optimizer(optimizer)
    result = method.minimize(lambda x: (0.5 * float((x - 2) @ (x - 2)), x - 2), np.ones(2), bounds=([1, 0], [1, 5]))
    np.testing.assert_allclose(result.x, [1, 2], atol=1e-4)


REFUSE_BOUNDS = {"asgd", "bfgs", "cg", "lm", "newton-cg", "trust-ncg", "trust-krylov"} | {
    name for name in get_optimizer_names() if "free" in name
}


@pytest.mark.parametrize("name", get_optimizer_names())
def test_every_optimizer_stays_inside_or_refuses(name):
    """Callables are never called outside of the bounds, and what is published lies between them."""
    seen = []

    def jacobian(params, X):
        seen.append((params["height"], params["tau"]))
        return decay_jacobian(params, X)

    bounds = {"height": (0.9, 1.4), "tau": (0.7, None)}
    model = AnalyticRegressor(
        lambda params, X: seen.append((params["height"], params["tau"])) or decay(params, X),
        jacobian=jacobian,
        init=START,
        bounds=bounds,
        optimizer=name,
        max_iter=60,
        batch_size=20 if not isinstance(get_optimizer(name), FullBatch) else "auto",
        random_state=0,
        check_gradient=False,
    )
    if name in REFUSE_BOUNDS:
        with pytest.raises(ValueError, match="bounds"):
            model.fit(X, Y)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, Y)
    heights, taus = np.array(seen, dtype=float).T
    assert heights.min() >= 0.9
    assert heights.max() <= 1.4
    assert taus.min() >= 0.7
    assert 0.9 <= model.params_["height"] <= 1.4
    assert model.params_["tau"] >= 0.7


@pytest.mark.parametrize(
    "link", [Lookahead(3), PolyakAverage(), ExponentialAverage(0.9)], ids=lambda link: type(link).__name__
)
def test_averages_stay_inside(link):
    """They average what has been put back between the bounds."""
    optimizer = Chain([ClipNorm(1.0), SGD(0.5, momentum=0.9), link])
    model = curve("vjp", optimizer=optimizer, bounds={"height": (1.0, 1.1)}, max_iter=20, tol=None).fit(X, Y)
    assert 1.0 <= model.params_["height"] <= 1.1
    unbounded = curve("vjp", optimizer=optimizer, max_iter=20, tol=None).fit(X, Y)
    assert unbounded.params_["height"] > 1.1


def test_bounds_per_block_and_entry():
    """Arrays give each entry its own, and blocks that pass other optimizers have theirs."""
    rng = np.random.default_rng(0)
    X, target = rng.normal(size=(50, 3)), np.array([3.0, -3.0, 3.0])
    model = AnalyticRegressor(
        lambda params, X: X @ params["w"] + params["b"],
        vjp=lambda params, X: (X @ params["w"] + params["b"], lambda d: {"w": X.T @ d, "b": d.sum()}),
        init={"w": np.zeros(3), "b": 0.0},
        bounds={
            "w": (np.array([-1.0, -2.0, -np.inf]), np.array([1.0, 2.0, np.inf])),
            "b": (0, 0),
        },
        optimizer=PerBlock({"w": Chain([SGD(0.05), PolyakAverage(start=300)])}, default=Adam()),
        max_iter=200,
        tol=None,
        random_state=0,
    ).fit(X, X @ target + 1)
    assert model.params_["w"][0] == 1.0
    assert model.params_["w"][1] == -2.0
    assert model.params_["w"][2] > 2
    assert model.params_["b"] == 0.0


def test_bounds_with_rows_of_a_gradient():
    """A table of which a batch touches few rows keeps its sparse updates, and stays inside."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, (400, 1)).astype(float)
    y = np.linspace(-1, 1, 50)[X[:, 0].astype(int)]

    def vjp(params, X):
        rows = X[:, 0].astype(int)
        unique, inverse = np.unique(rows, return_inverse=True)
        scale, table = params["scale"], params["table"]

        def pullback(d):
            values = np.bincount(inverse, d * scale)
            return {"scale": d @ table[rows, 0], "table": (unique, values[:, None])}

        return scale * table[rows, 0], pullback

    def fitted(**settings):
        return AnalyticRegressor(
            lambda params, X: vjp(params, X)[0],
            vjp=vjp,
            init={"scale": 1.0, "table": np.full((50, 1), 0.1)},
            optimizer=SGD(2.0),
            batch_size=20,
            max_iter=40,
            tol=None,
            random_state=0,
            **settings,
        ).fit(X, y)

    bounded = fitted(bounds={"table": (0, None)}, fixed=("scale",))
    assert (bounded.params_["table"] >= 0).all()
    assert (bounded.params_["table"][:20] == 0).all()
    free = fitted(fixed=("scale",))
    np.testing.assert_allclose(bounded.params_["table"][30:], free.params_["table"][30:], rtol=1e-12)
    # A map before the table moves its place in the vector, one of the table itself makes its gradient whole.
    mapped = fitted(reparametrize={"scale": "log"}, fixed={"scale": True})
    np.testing.assert_array_equal(mapped.params_["table"], free.params_["table"])
    positive = fitted(reparametrize={"table": "log"}, fixed=("scale",))
    assert (positive.params_["table"] > 0).all()
    np.testing.assert_allclose(positive.params_["table"][40:, 0], np.linspace(-1, 1, 50)[40:], atol=0.15)


def test_bounds_beside_a_map():
    """Bounds on x hold under a map of each entry, to the last digit; together mapped entries cannot have any."""
    for optimizer in ("trf", "lbfgs", SGD(0.1)):
        model = curve(optimizer=optimizer, reparametrize={"tau": "log"}, bounds={"tau": (0.1, 1.2)}, batch_size=60)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, Y)
        assert model.params_["tau"] == 1.2
    with pytest.raises(ParameterStructureError, match=r"bounds and reparametrize both name parameter 'w'.*Simplex\(\)"):
        AnalyticRegressor(
            lambda params, X: X[:, 0] * params["w"][0],
            vjp=lambda params, X: (X[:, 0] * params["w"][0], lambda d: {"w": np.array([d @ X[:, 0], 0.0])}),
            init={"w": np.array([0.5, 0.5])},
            reparametrize={"w": "simplex"},
            bounds={"w": (0, 0.7)},
        ).fit(X, Y)


WRONG_BOUNDS = {
    "below": (
        {"tau": (2.0, None)},
        "Training starts outside the bounds of parameter 'tau': 1 is not between 2 and inf",
    ),
    "above": (
        {"tau": (None, 0.5)},
        "Training starts outside the bounds of parameter 'tau': 1 is not between -inf and 0.5",
    ),
    "crossed": ({"tau": (2, 1)}, "bounds has low > high in parameter 'tau': 2 > 1"),
    "nan": ({"tau": (np.nan, 1)}, "bounds has NaN for parameter 'tau'. Use None for no bound"),
    "unknown": ({"taus": (0, 1)}, "bounds names the parameter 'taus', which does not exist. Did you mean 'tau'?"),
    "no pair": ({"tau": 0}, r"bounds must have a pair \(low, high\) for parameter 'tau'"),
    "shape": ({"tau": ([0, 0], 3)}, r"bounds has \[0, 0\] for parameter 'tau'; expected None, a number, or an array"),
    "text": ({"tau": ("0", "x")}, "bounds has 'x' for parameter 'tau'"),
}


@pytest.mark.parametrize("name", WRONG_BOUNDS)
@pytest.mark.parametrize("optimizer", ["adam", "trf"])
def test_wrong_bounds(name, optimizer):
    """Named, with the block, what came, and what to do; before anything is trained."""
    bounds, message = WRONG_BOUNDS[name]
    model = curve(optimizer=optimizer, bounds=bounds)
    with pytest.raises(ParameterStructureError, match=message):
        model.fit(X, Y)
    assert not hasattr(model, "params_")


def test_the_more_specific_name_counts():
    """What is said of a block goes before what is said of all of a layer, in either order, as for alpha."""
    theta = Layout.of({"layers": [{"W": np.full(2, 0.5), "b": np.full(1, 0.5)}]})
    theta = Parameters(theta, np.full(3, 0.5))
    for order in (slice(None), slice(None, None, -1)):
        names = ["layers", "layers.0.W"][order]
        given = {"layers": ((0, 1), "log", True), "layers.0.W": ((0.2, 0.7), Logit(0, 2), False)}
        bounds, maps, fixed = ({name: given[name][i] for name in names} for i in range(3))
        low, high = constrained(theta, (), bounds, None).limits
        np.testing.assert_array_equal([low, high], [[0.2, 0.2, 0], [0.7, 0.7, 1]])
        kinds = [type(block.map) for block in constrained(theta, (), None, maps)._mapped]
        assert kinds == [Logit, Log]
        assert read_fixed(theta.layout, fixed).blocks == ("layers.0.b",)


def test_wrong_kinds():
    """Neither bounds nor reparametrize nor a mask is anything but what it says."""
    with pytest.raises(TypeError, match="bounds must be a dict of parameter names"):
        curve(bounds=(0, 1)).fit(X, Y)
    with pytest.raises(TypeError, match="reparametrize must be a dict of parameter names"):
        curve(reparametrize="log").fit(X, Y)
    with pytest.raises(
        ParameterStructureError, match="reparametrize names the parameter 'sigma', which does not exist"
    ):
        curve(reparametrize={"sigma": "log"}).fit(X, Y)
    with pytest.raises(ParameterStructureError, match="fixed has a mask of dtype float64"):
        curve(fixed={"tau": 1.0}).fit(X, Y)


def parameters(structure):
    layout = Layout.of(structure)
    return Parameters(layout, layout.flatten(structure))


# Held entries.


def test_held_entries_stay():
    """A mask holds entries of a block to the bit, by any optimizer; all of a mask is the whole block."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), rng.normal(size=80)
    start, mask = np.array([0.1, 0.7, -0.3]), np.array([False, True, False])
    expected = np.linalg.lstsq(X[:, ~mask], y - 0.7 * X[:, 1], rcond=None)[0]
    for optimizer in ("trf", "lbfgs", "slsqp", Adam(Exponential(0.1, decay=0.98))):
        model = AnalyticRegressor(
            lambda coef, X: X @ coef,
            jacobian=lambda coef, X: X,
            init=start,
            fixed={"params": mask},
            optimizer=optimizer,
            tol=1e-10 if isinstance(optimizer, str) else None,
            max_iter=600,
            batch_size="auto" if isinstance(optimizer, str) else 80,
            random_state=0,
        ).fit(X, y)
        assert model.params_[1] == 0.7
        np.testing.assert_allclose(model.params_[~mask], expected, rtol=1e-5)
    whole = curve(optimizer="trf", fixed={"height": True}).fit(X := globals()["X"], Y)
    named = curve(optimizer="trf", fixed=("height",)).fit(X, Y)
    assert whole.params_ == named.params_
    assert whole.params_["height"] == 1.0
    nothing = curve(optimizer="trf", fixed={"height": False}).fit(X, Y)
    assert nothing.params_ == curve(optimizer="trf").fit(X, Y).params_


def test_entries_of_a_block_that_is_mapped_together_cannot_be_held():
    """One share of a simplex does not move without the others."""
    model = AnalyticRegressor(
        lambda params, X: X[:, 0] * params["w"][0],
        vjp=lambda params, X: (X[:, 0] * params["w"][0], lambda d: {"w": np.array([d @ X[:, 0], 0.0])}),
        init={"w": np.array([0.5, 0.5])},
        reparametrize={"w": "simplex"},
        fixed={"w": np.array([True, False])},
    )
    with pytest.raises(ParameterStructureError, match="couples its entries. Fix the whole parameter"):
        model.fit(X, Y)
    model.set_params(fixed=("w",)).fit(X, Y)
    assert model.params_["w"].tolist() == [0.5, 0.5]


# Maps of one's own.


class Forgetful(Cube):
    def unconstrain(self, x):
        return x


class Wrong(Cube):
    def derivative(self, z):
        return z**2


class Misshapen(Rotated):
    def pullback(self, z, gradient):
        return super().pullback(z, gradient)[:1]


@pytest.mark.parametrize(
    ("map", "message"),
    [
        (Forgetful(), r"Forgetful\(\) does not undo itself in parameter 'w'"),
        (Wrong(), r"Wrong\(\).pullback is not the derivative of its constrain in parameter 'w'"),
        (Misshapen(), r"Misshapen\(\).pullback returned shape \(1,\) in parameter 'w'; expected that of z, \(2,\)"),
    ],
)
def test_a_wrong_map_is_found(map, message):
    """Before the first step, as a wrong gradient is."""
    with pytest.raises(ParameterStructureError, match=message):
        constrained(parameters({"w": np.array([2.0, 3.0])}), (), None, {"w": map})


def test_a_map_of_ones_own():
    """Ten lines: it trains as the built-in ones do."""
    model = AnalyticRegressor(
        lambda params, X: decay({"height": params["w"][0], "tau": params["w"][1]}, X),
        jacobian=lambda params, X: {
            "w": np.stack(list(decay_jacobian({"height": params["w"][0], "tau": params["w"][1]}, X).values()), axis=1)
        },
        init={"w": np.ones(2)},
        reparametrize={"w": Rotated()},
        optimizer="trf",
    ).fit(X, Y)
    reference = curve(optimizer="trf").fit(X, Y).params_
    np.testing.assert_allclose(model.params_["w"], list(reference.values()), rtol=1e-8)


# The doctor.


def covariance_loss(params, X):
    """Negative log-likelihood of a Gaussian by the Cholesky factor of its covariance, and its gradient: np.tril."""
    factor = params["L"]
    white = np.linalg.solve(factor, X.T)
    loss = 0.5 * float((white**2).sum()) / len(X) + float(np.log(np.abs(np.diag(factor))).sum())
    outer = np.linalg.solve(factor.T, white @ white.T) / len(X)
    return loss, {"L": np.tril(np.diag(1 / np.diag(factor)) - outer)}


def mixture_loss(params, X):
    """A loss of shares, whose gradient has any multiple of ones added to it."""
    w = params["w"]
    return float(-(np.array([0.5, 0.3, 0.2]) * np.log(w)).sum()), {"w": -np.array([0.5, 0.3, 0.2]) / w + 7.0}


def density(loss_and_gradient, **settings):
    return AnalyticDensity(
        lambda params, X: np.zeros(len(X)), loss_and_gradient=loss_and_gradient, random_state=0, **settings
    )


def test_the_doctor_compares_where_a_map_can_move():
    """np.tril of a gradient is right under "cholesky", a constant more under "simplex"; a wrong entry is wrong."""
    rng = np.random.default_rng(0)
    covariance = np.array([[2.0, 0.6], [0.6, 1.0]])
    data = rng.multivariate_normal(np.zeros(2), covariance, 300)
    model = density(covariance_loss, init={"L": np.eye(2)}, reparametrize={"L": "cholesky"}, tol=1e-8).fit(data)
    assert model.gradient_report_.ok
    assert model.gradient_report_.findings[0].verdict == "right"
    np.testing.assert_allclose(model.params_["L"] @ model.params_["L"].T, data.T @ data / 300, rtol=1e-6)
    assert check_gradient(model, data).ok
    shares = density(mixture_loss, init={"w": np.full(3, 1 / 3)}, reparametrize={"w": "simplex"}, tol=1e-10).fit(data)
    np.testing.assert_allclose(shares.params_["w"], [0.5, 0.3, 0.2], rtol=1e-6)
    assert check_gradient(shares, data).ok

    def wrong(params, X):
        loss, grads = covariance_loss(params, X)
        return loss, {"L": grads["L"] * np.array([[1.0, 1.0], [-1.0, 1.0]])}

    report = check_gradient(density(wrong, init={"L": np.eye(2)}, reparametrize={"L": "cholesky"}), data)
    assert not report.ok and report.wrong == ["L"] or report.wrong == ("L",)


@pytest.mark.parametrize("name", ["simplex", "cholesky", "ordered", "log"])
@pytest.mark.parametrize(("planted", "cause"), [(1.0, None), (-1.0, "sign"), (2.0, "factor")])
def test_the_doctor_names_a_fault_under_a_map(name, planted, cause):
    """The derivatives that it compares are those along which the map can move, outside of which there is no loss."""
    start = {"simplex": [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], "cholesky": [[1.0, 0, 0], [0.3, 2, 0], [-0.4, 0.5, 1]]}
    start = np.array(start.get(name, [[0.1, 0.2, 0.5], [0.3, 1.0, 1.5]]))
    features = np.random.default_rng(1).standard_normal((50, start.size))

    def loss_and_gradient(params, X):
        w = params["w"]
        if name == "simplex" and not np.allclose(w.sum(axis=-1), 1, rtol=0, atol=1e-12):
            raise ValueError("no shares")
        residual = X @ w.ravel() + X**2 @ w.ravel() ** 2 - 1
        slopes = X.T @ np.tanh(residual) + 2 * w.ravel() * (X.T**2 @ np.tanh(residual))
        return float(np.mean(np.log(np.cosh(residual)))), {"w": planted * slopes.reshape(w.shape) / len(X)}

    report = check_gradient(density(loss_and_gradient, init={"w": start}, reparametrize={"w": name}), features)
    assert report.findings[0].cause == cause, report
    assert report.ok == (cause is None)


def test_the_doctor_is_asked_where_parameters_can_be():
    """params that bounds or maps exclude are an error that names them."""
    model = curve("vjp", bounds={"height": (0, 1.5)}, reparametrize={"tau": "log"})
    assert check_gradient(model, X, Y, params={"height": 1.5, "tau": 2.0}).ok
    with pytest.raises(ParameterStructureError, match="params lies outside the bounds of parameter 'height': 2 is not"):
        check_gradient(model, X, Y, params={"height": 2.0, "tau": 1.0})
    with pytest.raises(ParameterStructureError, match=r"Parameter 'tau' must be positive under reparametrize"):
        check_gradient(model, X, Y, params={"height": 1.0, "tau": -1.0})


def test_the_doctor_stays_inside():
    """At a start on a bound, and beside it, the loss is asked for where it is defined."""
    seen = []

    def loss_and_gradient(params, X):
        rate = params["rate"]
        seen.append(rate)
        with np.errstate(all="ignore"):
            return float(rate - X[:, 0].mean() * np.log1p(rate)), {"rate": 1 - X[:, 0].mean() / (1 + rate)}

    model = density(loss_and_gradient, init={"rate": 0.0}, bounds={"rate": (0, None)}, tol=1e-8).fit(X)
    assert model.gradient_report_.findings[0].verdict == "right"
    assert model.params_["rate"] == pytest.approx(X.mean() - 1, rel=1e-6)


# Around a fit.


def test_the_learning_rate_is_found_under_constraints():
    """The sweep takes the steps of the fit: through maps, inside bounds."""
    model = curve("vjp", optimizer="adam", reparametrize={"tau": "log"}, bounds={"height": (0, 5)}, batch_size=10)
    assert find_learning_rate(model, X, Y, random_state=0).suggested > 0


def test_several_starts_under_constraints():
    """Starts obey maps, bounds and masks: drawn between the estimator's own bounds, through maps beside them."""
    settings = {"reparametrize": {"tau": "log"}, "bounds": {"height": (0.5, 1.5)}}
    result = fit_from_starts(curve(optimizer="trf", **settings), X, Y, 6, random_state=0)
    taus = np.array([start["tau"] for start in result.starts])
    heights = np.array([start["height"] for start in result.starts])
    assert (taus > 0).all()
    assert np.ptp(np.log(taus)) > 0.5
    assert (np.abs(np.log(taus)) < 1).all()
    assert ((heights >= 0.5) & (heights <= 1.5)).all()
    assert np.ptp(heights) > 0.2
    assert result.n_best == 6
    assert result.best.params_["height"] == 1.5
    with pytest.raises(ValueError, match="bounds of 'height' exceed the bounds of the estimator"):
        fit_from_starts(curve(optimizer="trf", **settings), X, Y, 6, bounds={"height": (0.5, 3)})
    held = fit_from_starts(curve(optimizer="trf", fixed={"height": True}), X, Y, 4, random_state=0)
    assert {start["height"] for start in held.starts} == {1.0}


def test_classifiers_and_tuples():
    """Blocks of a tuple and of a named tuple by position or field; a classifier too."""

    class Line(NamedTuple):
        slope: np.ndarray
        offset: float

    def vjp(params, X):
        return X @ params[0] + params[
            1
        ], lambda d: type(params)(*(X.T @ d, d.sum())) if isinstance(params, Line) else (X.T @ d, d.sum())

    labels = (np.median(Y) < Y).astype(int)
    for start, names in ((Line(np.full(1, -1.0), 0.5), ("slope", "offset")), ((np.full(1, -1.0), 0.5), (0, 1))):
        model = AnalyticClassifier(
            lambda params, X: vjp(params, X)[0],
            vjp=vjp,
            init=start,
            bounds={names[0]: (-2.0, 0.0)},
            reparametrize={names[1]: "log"},
            optimizer="lbfgs",
        ).fit(X, labels)
        assert model.params_[0] == -2.0
        assert model.params_[1] > 0
        assert type(model.params_) is type(start)


def test_a_whole_array_is_a_block():
    """θ that is one array has the name "params"."""
    model = AnalyticRegressor(
        lambda p, X: decay({"height": p[0], "tau": p[1]}, X),
        jacobian=lambda p, X: np.stack(list(decay_jacobian({"height": p[0], "tau": p[1]}, X).values()), axis=1),
        init=np.ones(2),
        reparametrize={"params": "log"},
    ).fit(X, Y)
    np.testing.assert_allclose(model.params_, list(curve().fit(X, Y).params_.values()), rtol=1e-7)


def test_nothing_of_the_users_is_modified():
    """Neither starts nor bounds nor masks are written to."""
    start = {"height": np.array([1.0]), "tau": np.array([1.0])}
    low, mask = np.array([0.0]), np.array([False])
    kept = copy.deepcopy((start, low, mask))

    def vjp(params, X):
        prediction, pull = decay_vjp({name: block[0] for name, block in params.items()}, X)
        return prediction, lambda d: {name: np.array([g]) for name, g in pull(d).items()}

    AnalyticRegressor(
        lambda params, X: vjp(params, X)[0],
        vjp=vjp,
        init=start,
        bounds={"height": (low, None)},
        fixed={"tau": mask},
        reparametrize={"tau": "log"},
        optimizer="adam",
        max_iter=5,
        tol=None,
    ).fit(X, Y)
    assert kept[0] == start
    assert kept[1] == low
    assert kept[2] == mask
