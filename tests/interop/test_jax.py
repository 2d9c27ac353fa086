"""Beside jax: its gradients as user callables, and transformations of optax as our optimizers."""

import pickle
import warnings

import cloudpickle
import numpy as np
import pytest
from needed import require
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

require("jax", "optax")
import jax
import jax.numpy as jnp
import optax

from sk_analytic import AnalyticClassifier, AnalyticDensity, AnalyticRegressor
from sk_analytic.estimators.problem import CHECKED_SAMPLES
from sk_analytic.interop.jax import OptaxOptimizer
from sk_analytic.optimizers import Adam, Chain, ClipNorm, PerBlock, PolyakAverage, get_optimizer

rng = np.random.default_rng(0)
X = rng.normal(size=(130, 3))
Y = X @ [1.0, -2.0, 0.5] + 3 + 0.1 * rng.normal(size=130)
START = {"W": np.full((3, 1), 0.1), "b": 0.0}


@pytest.fixture(autouse=True)
def double():
    """Double precision, and what it was before afterwards."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def forward(params, X):
    return X @ params["W"] + params["b"]


def loss(params, X, y):
    return jnp.mean((forward(params, X)[:, 0] - y) ** 2) / 2


def vjp(params, X):
    return jax.vjp(lambda params: forward(params, X), params)


FORMS = {
    "grad": {"gradient": jax.grad(loss)},
    "value_and_grad": {"loss_and_gradient": jax.value_and_grad(loss)},
    "vjp": {"vjp": vjp},
    "jacrev": {"jacobian": jax.jacrev(forward)},
}
FORMS |= {f"jit {name}": {form: jax.jit(function)} for name, given in FORMS.items() for form, function in given.items()}
EACH_FORM = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def by_hand(params, X, y):
    residual = (X @ params["W"])[:, 0] + params["b"] - y
    return float(residual @ residual) / len(X) / 2, {"W": X.T @ residual[:, None] / len(X), "b": residual.mean()}


def regressor(**settings):
    defaults = {"batch_size": 32, "max_iter": 5, "tol": None, "random_state": 0, "init": START, "optimizer": "adam"}
    if not settings.keys() & {"gradient", "loss_and_gradient", "vjp", "jacobian"}:
        defaults["loss_and_gradient"] = by_hand
    return AnalyticRegressor(forward, **(defaults | settings))


def assert_same(one, other):
    assert one.loss_curve_ == other.loss_curve_
    for name in one.params_:
        assert_array_equal(one.params_[name], other.params_[name])


# Gradients.


@EACH_FORM
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_gradients_of_jax_train_as_those_by_hand(form, dtype, optimizer):
    """In every form: leaves are arrays of jax, which can only be read, one of them without axes."""
    if optimizer == "lbfgs" and not all(hasattr(function, "lower") for function in form.values()):
        return  # the function that is compiled beside, a hundred times as slow
    settings = {"optimizer": optimizer, "max_iter": 2 if optimizer == "adam" else 100}
    theirs = regressor(**form, **settings).fit(X.astype(dtype), Y.astype(dtype))
    ours = regressor(**settings).fit(X.astype(dtype), Y.astype(dtype))
    assert [finding.verdict for finding in theirs.gradient_report_.findings] == ["right", "right"]
    tolerance = 1e-6 if dtype == np.float64 else 2e-3
    assert_allclose(theirs.params_["W"], ours.params_["W"], rtol=tolerance)
    assert theirs.params_["W"].dtype == dtype


@pytest.mark.parametrize("start", [np.zeros(4), (np.zeros(3), 0.0), [np.zeros(3), np.zeros(1)]], ids=repr)
def test_every_structure_of_parameters_comes_back(start):
    def predicted(params, X):
        if isinstance(params, tuple | list):
            return X @ params[0] + params[1]
        return X @ params[:3] + params[3]

    def loss(params, X, y):
        return jnp.mean((predicted(params, X) - y) ** 2) / 2

    model = AnalyticRegressor(predicted, jax.jit(jax.grad(loss)), start, optimizer="lbfgs", tol=None).fit(X, Y)
    assert model.score(X, Y) > 0.99


def test_a_gradient_of_jax_is_read_where_it_lies(monkeypatch):
    """Reading a leaf makes no copy before that into the vector."""
    from sk_analytic.parameters import read_leaf

    leaf = jnp.arange(3.0)
    assert np.shares_memory(read_leaf(leaf, "w", (3,), "gradient"), np.asarray(leaf))


def test_densities_and_classifiers():
    def log_density(params, X):
        scaled = (X - params["mean"]) * jnp.exp(-params["log_scale"])
        return -0.5 * (scaled**2).sum(axis=1) - params["log_scale"].sum() - 1.5 * jnp.log(2 * jnp.pi)

    def pulls_back(params, X):
        return jax.vjp(lambda params: log_density(params, X), params)

    init = {"mean": np.zeros(3), "log_scale": np.zeros(3)}
    density = AnalyticDensity(vjp=jax.jit(pulls_back), init=init, optimizer="lbfgs").fit(X)
    assert_allclose(density.params_["mean"], X.mean(axis=0), atol=1e-3)

    def scores(params, X):
        return jax.vjp(lambda params: X @ params, params)

    y = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    classifier = AnalyticClassifier(vjp=scores, init=np.zeros((3, 3)), optimizer="lbfgs", alpha=0.1).fit(X, y)
    assert classifier.score(X, y) > 0.6


def shapes_of_a_fit(form, n, **settings):
    """The shapes for which a function is compiled in a fit, and how often it is compiled."""
    traced = []

    def counted(function):
        def counting(params, X, *args, **kwargs):
            traced.append(X.shape)  # runs when it is compiled, and never again
            return function(params, X, *args, **kwargs)

        counting.__signature__ = __import__("inspect").signature(function)
        return jax.jit(counting)

    ((name, function),) = FORMS[form].items()
    regressor(**{name: counted(function)}, **settings).fit(np.resize(X, (n, 3)), np.resize(Y, n))
    return traced


@pytest.mark.parametrize("form", ["grad", "value_and_grad", "vjp", "jacrev"])
@pytest.mark.parametrize(
    ("n", "settings"),
    [
        (130, {"batch_size": 32}),
        (128, {"batch_size": 32}),
        (130, {"batch_size": 32, "drop_last": True}),
        (1050, {"batch_size": "auto"}),
        (201, {"batch_size": "auto"}),
        (130, {"batch_size": "auto"}),
        (130, {"batch_size": 1}),
        (130, {"batch_size": 32, "early_stopping": True, "scoring": "r2"}),
        (130, {"batch_size": 32, "alpha": 0.1, "bounds": {"W": (-1, 1)}, "fixed": ["b"]}),
    ],
    ids=str,
)
def test_jit_compiles_a_gradient_for_two_shapes_at_most(form, n, settings):
    """Those of full batches and of the last one, or of another size: check, monitoring and scores add none."""
    traced = shapes_of_a_fit(form, n, **settings)
    assert 1 <= len(traced) <= 2, traced
    assert len(set(traced)) == len(traced)


def test_without_the_check_one_shape_is_compiled_if_batches_are_alike():
    traced = shapes_of_a_fit("value_and_grad", 128, batch_size=32, check_gradient=False)
    assert traced == [(32, 3)]


def test_the_shapes_of_a_full_batch_are_as_documented():
    """All samples, a few that are checked, and single ones to find the units."""
    traced = shapes_of_a_fit("value_and_grad", 1050, batch_size="auto", optimizer="lbfgs")
    assert {shape[0] for shape in traced} <= {1050, CHECKED_SAMPLES, 200, 1}


@pytest.mark.parametrize("form", [FORMS[f"jit {name}"] for name in ("grad", "value_and_grad", "vjp", "jacrev")])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", optax.adam(0.01)], ids=["adam", "lbfgs", "optax"])
def test_single_precision_under_float64_is_one_warning(form, optimizer):
    """With the cure, once a fit; none for float32 data."""
    jax.config.update("jax_enable_x64", False)
    model = regressor(**form, optimizer=optimizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y)
    assert len(caught) == 1
    assert "float32" in str(caught[0].message)
    assert 'jax.config.update("jax_enable_x64", True)' in str(caught[0].message)
    regressor(**form, optimizer=optimizer).fit(X.astype(np.float32), Y.astype(np.float32))


def test_the_warning_is_about_precision_whatever_computes():
    """A model in NumPy of the right dtype is never told; one that computes in float32 is."""

    def narrow(params, X, y):
        value, grads = by_hand(params, X, y)
        return value, {name: np.float32(leaf) for name, leaf in grads.items()}

    with pytest.warns(
        UserWarning, match=r"The gradient of parameter 'b' is float32, but .* float64.*pass X in float32"
    ):
        regressor(loss_and_gradient=narrow).fit(X, Y)
    regressor(loss_and_gradient=narrow).fit(X.astype(np.float32), Y)
    regressor().fit(X, Y)


# Optimizers of optax.

TRANSFORMATIONS = {
    "adam": optax.adam(0.05),
    "by a function": OptaxOptimizer(optax.adam, learning_rate=0.05),
    "schedule": optax.adam(optax.cosine_decay_schedule(0.05, 40)),
    "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.05, weight_decay=0.1)),
    "momentum": optax.sgd(0.05, momentum=0.9, nesterov=True),
    "injected": optax.inject_hyperparams(optax.sgd)(learning_rate=optax.exponential_decay(0.1, 5, 0.9)),
    "by label": optax.multi_transform({"fast": optax.sgd(0.1), "slow": optax.sgd(0.01)}, {"W": "slow", "b": "fast"}),
    "accumulation": optax.MultiSteps(optax.adam(0.05), 2),
    "schedule free": optax.contrib.schedule_free_adamw(0.05),
    "muon": optax.contrib.muon(0.05),
    "ours around": Chain([ClipNorm(1.0), optax.adam(0.05), PolyakAverage()]),
    "for a block": PerBlock({"W": optax.adam(0.05)}, default=Adam(0.01)),
}
EACH = pytest.mark.parametrize("optimizer", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)


@pytest.mark.parametrize(
    "name", ["adam", "schedule", "chain", "momentum", "injected", "by label", "accumulation", "muon"]
)
def test_steps_are_those_of_bare_optax(name):
    theta = {"W": rng.normal(size=(3, 2)), "b": np.zeros(())}
    transformation = TRANSFORMATIONS[name]
    bare = {key: jnp.array(value) for key, value in theta.items()}
    memory = transformation.init(bare)
    optimizer = get_optimizer(transformation)
    state = optimizer.init(theta)
    update = jax.jit(transformation.update)
    for _ in range(50):
        grads = {"W": rng.normal(size=(3, 2)), "b": np.ones(())}
        updates, memory = update(grads, memory, bare)
        bare = optax.apply_updates(bare, updates)
        optimizer.update(state, theta, grads)
    for key, value in bare.items():
        assert_allclose(theta[key], value, rtol=1e-12, atol=1e-13)


@EACH
def test_a_fit_that_goes_on_is_the_fit_that_was_not_interrupted(optimizer):
    """By warm start and through cloudpickle, which takes the closures of optax; schedules go on too."""
    whole = regressor(optimizer=optimizer, max_iter=10).fit(X, Y)
    assert whole.loss_curve_[-1] < whole.loss_curve_[0]
    part = regressor(optimizer=optimizer, max_iter=4, warm_start=True).fit(X, Y)
    copied = cloudpickle.loads(cloudpickle.dumps(part))
    for each in (part, copied):
        assert_same(each.set_params(max_iter=6).fit(X, Y), whole)


def test_pickle_takes_a_function_of_optax_and_no_closure():
    """What a transformation is made of has no import path; the function that makes it has."""
    model = regressor(optimizer=TRANSFORMATIONS["by a function"], max_iter=4, warm_start=True).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    assert_same(again.fit(X, Y), model.fit(X, Y))
    with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):
        pickle.dumps(regressor(optimizer=optax.adam(0.1)))


def test_another_transformation_begins_anew():
    model = regressor(optimizer=optax.adam(0.05), warm_start=True).fit(X, Y)
    model.set_params(optimizer=optax.sgd(0.01, momentum=0.9)).fit(X, Y)
    assert len(model.loss_curve_) == 10


def test_schedule_free_predicts_by_its_average():
    optimizer = get_optimizer(optax.contrib.schedule_free_sgd(0.1))
    theta = {"w": np.ones(2)}
    bare, transformation = {"w": jnp.ones(2)}, optimizer.transformation
    memory, state = transformation.init(bare), optimizer.init(theta)
    for _ in range(5):
        updates, memory = transformation.update({"w": jnp.ones(2)}, memory, bare)
        bare = optax.apply_updates(bare, updates)
        optimizer.update(state, theta, {"w": np.ones(2)})
    assert_allclose(
        optimizer.eval_params(state, theta)["w"], optax.contrib.schedule_free_eval_params(memory, bare)["w"]
    )
    with pytest.raises(ValueError, match="OptaxOptimizer averages points that may lie outside the bounds"):
        regressor(optimizer=optax.contrib.schedule_free_sgd(0.1), bounds={"W": (-1, 1)}).fit(X, Y)


def test_bounds_and_fixed_parameters_hold():
    settings = {"bounds": {"W": (-1.0, 1.0)}, "fixed": ["b"], "max_iter": 100}
    model = regressor(optimizer=optax.adam(0.05), **settings).fit(X, Y)
    ours = regressor(optimizer=Adam(0.05), **settings).fit(X, Y)
    assert model.params_["b"] == 0.0
    assert model.params_["W"].min() == -1.0
    assert_allclose(model.params_["W"], ours.params_["W"], rtol=1e-9)


def test_settings_of_a_function_are_hyperparameters():
    model = regressor(optimizer=OptaxOptimizer(optax.adam, learning_rate=0.1))
    assert repr(model.optimizer) == "OptaxOptimizer(transformation=adam, learning_rate=0.1)"
    search = GridSearchCV(model, {"optimizer__learning_rate": [1e-4, 0.1]}, cv=2, scoring="r2").fit(X, Y)
    assert search.best_params_ == {"optimizer__learning_rate": 0.1}
    assert search.best_estimator_.optimizer_state_.learning_rates == {"W": 0.1, "b": 0.1}
    assert clone(model).optimizer.settings == {"learning_rate": 0.1}
    clone(regressor(optimizer=optax.adam(0.1))).fit(X, Y)


def test_rates_are_known_if_they_are_told():
    model = regressor(optimizer=TRANSFORMATIONS["injected"]).fit(X, Y)
    assert_allclose(model.optimizer_state_.learning_rates["W"], 0.1 * 0.9 ** (24 / 5), rtol=1e-6)
    by_schedule = OptaxOptimizer(optax.sgd, learning_rate=optax.exponential_decay(0.1, 5, 0.9))
    model = regressor(optimizer=by_schedule).fit(X, Y)
    assert_allclose(model.optimizer_state_.learning_rates["W"], 0.1 * 0.9 ** (24 / 5), rtol=1e-6)
    assert regressor(optimizer=optax.adam(0.1)).fit(X, Y).optimizer_state_.learning_rates == {}


WRONG = {
    "a search within the step": (optax.lbfgs(), "missing 3 required keyword-only arguments"),
    "setting": (OptaxOptimizer(optax.adam, learning_rat=1), "no hyperparameter 'learning_rat'. Did you mean 'learning"),
    "made already": (
        OptaxOptimizer(optax.adam(0.1), b1=0.5),
        "b1 cannot be set, because the transformation is already created",
    ),
    "no transformation": (OptaxOptimizer(3), "transformation must be callable; got 3"),
    "returns": (OptaxOptimizer(dict), "must return a GradientTransformation; got {}"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_optimizer_is_refused(name):
    optimizer, message = WRONG[name]
    with pytest.raises(TypeError, match=message):
        regressor(optimizer=optimizer).fit(X, Y)
