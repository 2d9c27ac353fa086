"""Under scikit-learn's `array_api_dispatch` torch tensors and other arrays stay what they are through fit and predict.

One of the worlds is a device of array-api-strict that NumPy cannot read, as it cannot read a GPU's memory: what is
silently converted fails there.
"""

import copy
import importlib.util
import os
import pickle

import numpy as np
import pytest
from models import USER_MODELS
from scipy.special import gammaln
from sklearn import config_context
from sklearn.utils import estimator_checks

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    check_gradient,
    infer,
)
from sk_analytic.callbacks import Checkpoint
from sk_analytic.elsewhere import Elsewhere, Place, copied_to_host, entered, on_host
from sk_analytic.exceptions import DivergenceError, ParameterStructureError
from sk_analytic.losses import LOSSES, Loss
from sk_analytic.optimizers import (
    SGD,
    Accumulate,
    Adam,
    Chain,
    ClipBlockNorm,
    ClipNorm,
    Cosine,
    ExponentialAverage,
    Lookahead,
    PerBlock,
    get_optimizer,
    get_optimizer_names,
    use_engine,
)
from sk_analytic.persistence import load_params, save_params

try:
    with config_context(array_api_dispatch=True):
        pass
except ImportError as no_dispatch:
    pytest.skip(str(no_dispatch), allow_module_level=True)

REQUIRED = os.environ.get("SK_ANALYTIC_REQUIRE_PARITY", "0") not in {"", "0"}


def need(package):
    """Import a package; skip without it, unless all references must be there."""
    return importlib.import_module(package) if REQUIRED else pytest.importorskip(package)


def torch_on(device):
    """Return what makes tensors on a device."""
    torch = need("torch")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return lambda values: torch.asarray(values, device=device)


def strict_on(device):
    """Return what makes arrays of array-api-strict on a device."""
    strict = need("array_api_strict")
    return lambda values: strict.asarray(values, device=strict.Device(device))


WORLDS = {
    "torch": lambda: torch_on("cpu"),
    "cuda": lambda: torch_on("cuda"),
    "strict": lambda: strict_on("CPU_DEVICE"),
    "another device": lambda: strict_on("device1"),
}


@pytest.fixture(params=WORLDS)
def there(request):
    """A function that brings NumPy arrays to a world, in which scikit-learn dispatches."""
    move = WORLDS[request.param]()
    with config_context(array_api_dispatch=True):
        yield move


def draw(dtype=np.float64):
    """X, y, labels of two and of three classes, and weights."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3)).astype(dtype)
    y = (np.tanh(X @ [1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=90)).astype(dtype)
    return X, y, (y > 0).astype(int), np.digitize(y, [-0.5, 0.5]), rng.uniform(size=90)


QUICK = {"batch_size": 16, "max_iter": 3, "tol": None, "random_state": 0}


def is_there(array, X):
    """Whether an array is of the kind of X, on its device."""
    return type(array) is type(X) and array.device == X.device


def assert_equal_there(found, expected, X):
    """An array is of the kind of X, and has the numbers and dtype of a NumPy array, up to rounding."""
    assert is_there(found, X)
    found = on_host(found)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance_of(X), atol=tolerance_of(X))


def tolerance_of(X):
    """How far numbers may differ that were computed in another order, in the precision of X."""
    return 1e3 * float(np.finfo(entered(X).dtype).eps)


METHODS = "predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform"


def assert_same_fit(elsewhere, here, X_there, X, metadata=None):
    """Two estimators have the same parameters and say the same, each in its own arrays."""
    layout = here._training.objective.layout
    for a, b in zip(layout.leaves(elsewhere.params_), layout.leaves(here.params_), strict=True):
        if isinstance(b, float):
            assert a == pytest.approx(b, rel=tolerance_of(X), abs=tolerance_of(X))
        else:
            assert_equal_there(a, b, X_there)
    for method in METHODS:
        if hasattr(here, method):
            assert_equal_there(getattr(elsewhere, method)(X_there), getattr(here, method)(X), X_there)


# The package's own formulas: default models, losses, rules

DEFAULTS = {
    "regressor": (AnalyticRegressor, 1),
    "classifier of two": (AnalyticClassifier, 2),
    "classifier of three": (AnalyticClassifier, 3),
    "density": (AnalyticDensity, None),
    "transformer": (AnalyticTransformer, None),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_model_is_trained_and_predicts_where_X_is(there, name, dtype):
    """With weights and a penalty, the gradient checked; every method returns what X is, and score a float."""
    cls, place = DEFAULTS[name]
    data = draw(dtype)
    X, y, weight = data[0], None if place is None else data[place], data[-1]
    here = cls(optimizer="adam", alpha=0.01, **QUICK).fit(X, y, sample_weight=weight)
    X_there, y_there = there(X), None if y is None else there(y)
    elsewhere = cls(optimizer="adam", alpha=0.01, **QUICK).fit(X_there, y_there, sample_weight=there(weight))
    assert elsewhere.gradient_report_.ok
    assert_same_fit(elsewhere, here, X_there, X)
    score = elsewhere.score(X_there, y_there, sample_weight=there(weight))
    assert isinstance(score, float)
    assert score == pytest.approx(here.score(X, y, sample_weight=weight), rel=1e-4)
    assert elsewhere.mean_loss(X_there, y_there) == pytest.approx(here.mean_loss(X, y), rel=1e-4)
    if hasattr(here, "coef_"):
        assert_equal_there(elsewhere.coef_, here.coef_, X_there)
        assert is_there(elsewhere.intercept_, X_there)
    if hasattr(here, "classes_"):
        assert is_there(elsewhere.classes_, X_there)
    if hasattr(here, "inverse_transform"):
        codes = here.transform(X)
        assert_equal_there(elsewhere.inverse_transform(there(codes)), here.inverse_transform(codes), X_there)
    if hasattr(here, "sample"):
        assert_equal_there(elsewhere.sample(4, random_state=0), here.sample(4, random_state=0), X_there)


OWN = {
    "squared_error": lambda y: y,
    "absolute_error": lambda y: y,
    "huber": lambda y: y,
    "quantile": lambda y: y,
    "log_loss": lambda y: (y > 0) * 1.0,
    "poisson": lambda y: np.round(np.exp(y)),
    "tweedie": lambda y: np.round(np.exp(y)),
    "gamma": np.exp,
}


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"negative_log_likelihood"}))
def test_every_loss_runs_where_X_is(there, name):
    """Each has one formula, written with NumPy's functions."""
    X, y, *_, weight = draw()
    y = OWN[name](y)
    here = AnalyticRegressor(loss=name, optimizer="sgd", **QUICK).fit(X, y, sample_weight=weight)
    elsewhere = AnalyticRegressor(loss=name, optimizer="sgd", **QUICK).fit(there(X), y, sample_weight=weight)
    assert_same_fit(elsewhere, here, there(X), X)
    assert elsewhere.score(there(X), there(y)) == pytest.approx(here.score(X, y), rel=1e-9)


class LogCosh(Loss):
    """A loss of the user's own, as the documentation has it."""

    def formula(self, y, prediction):
        residual = prediction - y
        return np.logaddexp(residual, -residual) - np.log(2), np.tanh(residual)


def test_a_loss_of_the_users_own_runs_where_X_is(there):
    """Written with NumPy's functions, without a word of other namespaces."""
    X, y, *_, weight = draw()
    here = AnalyticRegressor(loss=LogCosh(), optimizer="adam", **QUICK).fit(X, y, sample_weight=weight)
    elsewhere = AnalyticRegressor(loss=LogCosh(), optimizer="adam", **QUICK).fit(there(X), y, sample_weight=weight)
    assert_same_fit(elsewhere, here, there(X), X)


RULES = {name: get_optimizer(name) for name in get_optimizer_names() if hasattr(get_optimizer(name), "place")}
RULES |= {
    "measured": Chain([ClipNorm(0.1), ClipBlockNorm(0.05), Adam(Cosine(0.1, 10))]),
    "gated": Chain([Accumulate(2), Adam(), Lookahead(2, 0.3)]),
    "averaged": Chain([Adam(), ExponentialAverage(0.9)]),
    "by block": PerBlock({"coef": Adam()}, default=get_optimizer("sgd")),
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_runs_where_X_is(there, name):
    """Their formulas are the only ones: three epochs end where NumPy's do, and so do the slots."""
    X, y, *_ = draw()
    settings = {"optimizer": RULES[name], "check_gradient": False, **QUICK}
    here, elsewhere = AnalyticRegressor(**settings).fit(X, y), AnalyticRegressor(**settings).fit(there(X), there(y))
    assert_same_fit(elsewhere, here, there(X), X)
    links = zip(elsewhere.optimizer_state_.links, here.optimizer_state_.links, strict=True)
    for ours, theirs in links:
        for slot in theirs.slots:
            assert_equal_there(ours.slots[slot], theirs.slots[slot], there(X))


# Functions of the user's


class Seen:
    """Functions of a small network, written for any namespace, that note what they are given."""

    def __init__(self, kinds):
        self.kinds = kinds

    def see(self, *arrays):
        self.kinds.update(map(type, arrays))
        compat = pytest.importorskip("array_api_compat")
        return compat.array_namespace(arrays[0])

    def init(self, n_features, rng, X):
        self.see(X)
        return {"W": rng.normal(size=(n_features, 4)), "v": (rng.normal(size=4), 0.0)}

    def forward(self, params, X):
        (v, c), xp = params["v"], self.see(X, params["W"], *params["v"])
        return xp.matmul(xp.tanh(xp.matmul(X, params["W"])), v) + c

    def vjp(self, params, X):
        (v, c), xp = params["v"], self.see(X, params["W"], *params["v"])
        hidden = xp.tanh(xp.matmul(X, params["W"]))

        def pullback(d):
            self.see(d)
            inner = (1 - hidden * hidden) * d[:, None] * v[None, :]
            return {"W": xp.matmul(X.T, inner), "v": (xp.matmul(hidden.T, d), xp.sum(d))}

        return xp.matmul(hidden, v) + c, pullback

    def jacobian(self, params, X):
        (v, _), xp = params["v"], self.see(X, params["W"], *params["v"])
        hidden = xp.tanh(xp.matmul(X, params["W"]))
        inner = (1 - hidden * hidden) * v[None, :]
        return {"W": X[:, :, None] * inner[:, None, :], "v": (hidden, xp.ones_like(hidden[:, 0]))}

    def loss_and_gradient(self, params, X, y, sample_weight):
        xp = self.see(X, y, sample_weight)
        prediction, pullback = self.vjp(params, X)
        residual = prediction - y
        return xp.mean(sample_weight * residual * residual) / 2, pullback(sample_weight * residual / X.shape[0])

    def gradient(self, params, X, y, sample_weight):
        return self.loss_and_gradient(params, X, y, sample_weight)[1]

    def loss(self, params, X, y, sample_weight):
        return self.loss_and_gradient(params, X, y, sample_weight)[0]


def of_form(form, kinds):
    """The arguments of an estimator that has a gradient in a form, and its own loss beside `gradient`."""
    model = Seen(kinds)
    own = {"loss": model.loss} if form == "gradient" else {}
    return {"forward": model.forward, form: getattr(model, form), "init": model.init, **own}


@pytest.mark.parametrize("form", ["vjp", "jacobian", "loss_and_gradient", "gradient"])
def test_functions_of_the_users_get_arrays_of_X(there, form):
    """Parameters, rows, y, weights and derivatives, in every call: those of the gradient check and of `init` too."""
    X, y, *_, weight = draw()
    kinds = set()
    here = AnalyticRegressor(**of_form(form, set()), optimizer="adam", **QUICK).fit(X, y, sample_weight=weight)
    elsewhere = AnalyticRegressor(**of_form(form, kinds), optimizer="adam", **QUICK)
    elsewhere.fit(there(X), there(y), sample_weight=there(weight))
    assert elsewhere.gradient_report_.ok
    assert_same_fit(elsewhere, here, there(X), X)
    assert kinds == {type(there(X))}


def test_metadata_and_held_out_rows_follow_X(there):
    """Also those of X_val, in `fit`, `predict` and `score`."""
    X, y, *_, weight = draw()

    def forward(params, X, scale):
        assert type(X) is type(scale)
        return (X @ params["w"]) * scale

    def vjp(params, X, scale):
        return forward(params, X, scale), lambda d: {"w": X.T @ (d * scale)}

    def fitted(move):
        model = AnalyticRegressor(forward, vjp=vjp, init={"w": np.zeros(3)}, optimizer="adam", early_stopping=True)
        model.set_params(**QUICK)
        beside = {"scale": move(weight[:60]), "scale_val": move(weight[60:])}
        return model.fit(move(X[:60]), move(y[:60]), X_val=move(X[60:]), y_val=move(y[60:]), **beside)

    here, elsewhere = fitted(np.asarray), fitted(there)
    assert_equal_there(elsewhere.predict(there(X), scale=weight), here.predict(X, scale=weight), there(X))
    assert elsewhere.validation_scores_ == pytest.approx(here.validation_scores_, rel=1e-9)
    score = elsewhere.score(there(X), there(y), scale=there(weight))
    assert score == pytest.approx(here.score(X, y, scale=weight), rel=1e-9)


def test_y_and_weights_come_from_anywhere(there):
    """They follow X: NumPy's to a tensor, a tensor to NumPy's X."""
    X, y, *_, weight = draw()
    settings = {"optimizer": "adam", **QUICK}
    here = AnalyticRegressor(**settings).fit(X, y, sample_weight=weight)
    assert_same_fit(AnalyticRegressor(**settings).fit(there(X), y, sample_weight=weight), here, there(X), X)
    mixed = AnalyticRegressor(**settings).fit(X, there(y), sample_weight=there(weight))
    np.testing.assert_array_equal(mixed.coef_, here.coef_)


def test_labels_of_text_stay_text(there):
    """No other namespace has them: predictions are labels in a NumPy array, scores are arrays of X."""
    X, _, _, classes, _ = draw()
    labels = np.array(["low", "mid", "high"])[classes]
    model = AnalyticClassifier(optimizer="adam", **QUICK).fit(there(X), labels)
    predicted = model.predict(there(X))
    assert type(predicted) is np.ndarray
    assert set(predicted) <= set(labels)
    assert is_there(model.predict_proba(there(X)), there(X))
    assert 0.5 < model.score(there(X), labels) <= 1


def test_integers_become_floats(there):
    """As NumPy's do: float64, in the namespace of X."""
    X, y, *_ = draw()
    counts = np.round(5 * X).astype(int)
    here = AnalyticRegressor(optimizer="adam", **QUICK).fit(counts, y)
    elsewhere = AnalyticRegressor(optimizer="adam", **QUICK).fit(there(counts), there(y))
    assert_same_fit(elsewhere, here, there(counts.astype(float)), counts.astype(float))


def narrow(values):
    """Bring numbers to a device that has no float64, as Apple's has not; floats as float32."""
    strict = need("array_api_strict")
    values = values.astype(np.float32) if values.dtype.kind == "f" else values
    return strict.asarray(values, device=strict.Device("no_float64"))


@pytest.mark.parametrize("form", [None, "vjp", "loss_and_gradient"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_a_device_without_float64_has_float32(form, dtype):
    """Whatever the weights and metadata come as; the check of the gradient bears with its rounding."""
    X, y, *_, weight = draw(np.float32)
    X = (3 * X).astype(dtype)
    model = {} if form is None else of_form(form, set())
    with config_context(array_api_dispatch=True):
        elsewhere = AnalyticRegressor(**model, optimizer="adam", **QUICK).fit(narrow(X), y, sample_weight=weight)
        assert elsewhere.gradient_report_.ok
        predicted = elsewhere.predict(narrow(X))
        assert is_there(predicted, narrow(X))
        score = elsewhere.score(narrow(X), y)
    here = AnalyticRegressor(**model, optimizer="adam", **QUICK).fit(X.astype(np.float32), y, sample_weight=weight)
    np.testing.assert_allclose(copied_to_host(predicted), here.predict(X.astype(np.float32)), rtol=1e-3)
    assert score == pytest.approx(here.score(X.astype(np.float32), y), rel=1e-3)


# A training that goes on, copies


def test_training_goes_on_where_it_was(there):
    """By `partial_fit`, `warm_start`, after a pickle and of a copy."""
    X, y, *_ = draw()

    def trained(move):
        model = AnalyticRegressor(optimizer="adam", warm_start=True, **QUICK).partial_fit(move(X), move(y))
        model = pickle.loads(pickle.dumps(model.fit(move(X), move(y))))
        return copy.copy(model).partial_fit(move(X), move(y))

    assert_same_fit(trained(there), trained(np.asarray), there(X), X)


class Killed(Exception):
    """Ends a fit; what its process knew is not looked at again."""


LEFT = {"calls": np.inf}
"""How many calls of the function below are left."""


def line(params, X):
    """A linear model, which may end a fit."""
    LEFT["calls"] -= 1
    if LEFT["calls"] < 0:
        raise Killed
    return X @ params["w"], lambda d: {"w": X.T @ d}


@pytest.mark.skipif(importlib.util.find_spec("sklearn.callback") is None, reason="callbacks came with scikit-learn 1.9")
@pytest.mark.parametrize("averages", [False, True])
def test_a_fit_that_was_killed_resumes_from_its_checkpoint(there, tmp_path, monkeypatch, averages):
    """It ends with the numbers of a fit that was not."""
    X, y, *_ = draw()
    optimizer = Chain([Adam(), ExponentialAverage(0.9)]) if averages else "adam"
    settings = {**QUICK, "vjp": line, "init": {"w": np.zeros(3)}, "optimizer": optimizer, "max_iter": 6}
    settings["check_gradient"] = False
    whole = AnalyticRegressor(**settings).fit(there(X), there(y))
    resuming = AnalyticRegressor(**settings).set_callbacks(Checkpoint(tmp_path / "run.pickle", resume=True))
    monkeypatch.setitem(LEFT, "calls", 20)
    with pytest.raises(Killed):
        resuming.fit(there(X), there(y))
    monkeypatch.setitem(LEFT, "calls", 20)
    resumed = AnalyticRegressor(**settings).set_callbacks(Checkpoint(tmp_path / "run.pickle", resume=True))
    resumed.fit(there(X), there(y))
    np.testing.assert_array_equal(on_host(resumed.params_["w"]), on_host(whole.params_["w"]))
    assert is_there(resumed.params_["w"], there(X))


def test_parameters_are_saved_from_anywhere(there, tmp_path):
    """As NumPy arrays, which go back to where X is when they are put in the place of others."""
    X, y, *_ = draw()
    model = AnalyticRegressor(optimizer="adam", **QUICK).fit(there(X), there(y))
    before = on_host(model.predict(there(X)))
    save_params(tmp_path / "line.npz", model)
    model.params_ = load_params(tmp_path / "line.npz", like=model)
    assert type(model.params_["coef"]) is np.ndarray
    np.testing.assert_array_equal(on_host(model.predict(there(X))), before)


def test_divergence_leaves_the_last_finite_parameters(there):
    """An overflow is found where it happens, and undone."""
    X, y, *_ = draw()
    model = AnalyticRegressor(optimizer=SGD(1e12), **{**QUICK, "max_iter": 50})
    with pytest.raises(DivergenceError, match="The parameters are the last finite ones"):
        model.fit(there(X), there(y))
    assert np.isfinite(on_host(model.coef_)).all()


# NumPy


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("cls", USER_MODELS)
def test_the_switch_changes_no_bit_of_numpy(cls, optimizer):
    """Every estimator in every form, by a rule and by a full-batch method."""
    X, y, classes, *_, weight = draw()
    y = {AnalyticRegressor: y, AnalyticClassifier: classes}.get(cls)
    for form, model in {"default": {}, **USER_MODELS[cls]}.items():
        settings = {**model, "optimizer": optimizer, "check_gradient": "warn", "random_state": 0, "max_iter": 4}
        settings |= {"tol": None}
        off = cls(**settings).fit(X, y, sample_weight=weight)
        with config_context(array_api_dispatch=True):
            on = cls(**settings).fit(X, y, sample_weight=weight)
            said = [getattr(on, method)(X) for method in METHODS if hasattr(on, method)]
        layout = off._training.objective.layout
        for a, b in zip(layout.leaves(on.params_), layout.leaves(off.params_), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=form)
        for a, method in zip(said, (m for m in METHODS if hasattr(off, m)), strict=True):
            assert type(a) is np.ndarray
            np.testing.assert_array_equal(a, getattr(off, method)(X), err_msg=f"{form} {method}")


def test_without_the_switch_tensors_are_read_as_numpy():
    """As scikit-learn's estimators read them: what comes back is NumPy's."""
    torch = need("torch")
    X, y, *_ = draw()
    model = AnalyticRegressor(optimizer="adam", **QUICK).fit(torch.asarray(X), torch.asarray(y))
    assert type(model.predict(torch.asarray(X))) is np.ndarray
    np.testing.assert_array_equal(model.coef_, AnalyticRegressor(optimizer="adam", **QUICK).fit(X, y).coef_)


# What runs with NumPy arrays only


REFUSED = {
    "scipy": ({"optimizer": "lbfgs"}, r"optimizer=LBFGS\(\) only works with NumPy arrays\. .*np.asarray\(X\)"),
    "least squares": ({"optimizer": "trf"}, r"optimizer=TRF\(\) only works with NumPy arrays\. .*np.asarray\(X\)"),
    "bounds": ({"bounds": {"coef": (0, 1)}}, r"bounds, reparametrize and masks in fixed .*np.asarray\(X\)"),
    "maps": ({"reparametrize": {"coef": "log"}, "init": {"coef": np.ones(3), "intercept": 0.0}}, "reparametrize"),
    "masks": ({"fixed": {"coef": [True, False, False]}}, "masks in fixed"),
    "differences": ({"numerical": ["intercept"]}, r"numerical only works with NumPy arrays. Return the gradient"),
    "one sample": (
        {"forward": lambda params, X: X[:, 0], "gradient": lambda params, x, y, out: None, "init": {"w": np.zeros(3)}},
        r"gradient of a single sample .* only works with NumPy arrays\. Compute the gradient of whole batches",
    ),
    "scoring": ({"early_stopping": True, "scoring": "r2"}, r"Set scoring=None\. Alternatively: Pass NumPy arrays"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_numpy_is_refused_with_the_cure(there, name):
    """In one sentence, before anything is trained."""
    settings, message = REFUSED[name]
    X, y, *_ = draw()
    model = AnalyticRegressor(**{"optimizer": "adam", **QUICK, **settings})
    with pytest.raises(TypeError, match=message):
        model.fit(there(X), there(y))
    assert not hasattr(model, "params_")


@pytest.mark.parametrize("method", ["fit", "predict"])
def test_bad_rows_are_refused_in_the_usual_words(there, method):
    """NaN, another number of columns, and an X of one axis."""
    X, y, *_ = draw()
    model = AnalyticRegressor(optimizer="adam", **QUICK).fit(there(X), there(y))
    bad = X.copy()
    bad[3, 1] = np.nan
    arguments = (there(y),) if method == "fit" else ()
    with pytest.raises(ValueError, match="Input X contains NaN"):
        getattr(model, method)(there(bad), *arguments)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        getattr(model, method)(there(X[:, 0]), *arguments)
    if method == "predict":
        with pytest.raises(ValueError, match="X has 2 features, but AnalyticRegressor is expecting 3"):
            model.predict(there(X[:, :2]))


def test_records_and_text_are_refused_by_name(there):
    """No other namespace has them."""
    X, y, *_ = draw()

    def vjp(params, X, group):
        return X @ params["w"], lambda d: {"w": X.T @ d}

    model = AnalyticRegressor(vjp=vjp, init={"w": np.zeros(3)}, optimizer="adam", **QUICK)
    with pytest.raises(TypeError, match="group has dtype <U1, which .* does not support"):
        model.fit(there(X), there(y), group=np.full(90, "a"))


def test_a_dtype_that_numpy_does_not_have_is_refused():
    """bfloat16, which could not be checked nor scored."""
    torch = need("torch")
    X, y, *_ = draw()
    with config_context(array_api_dispatch=True), pytest.raises(TypeError, match=r"bfloat16.*Convert it to float32"):
        AnalyticRegressor(optimizer="adam").fit(torch.asarray(X).to(torch.bfloat16), y)


def test_sparse_tensors_are_refused():
    """scipy has the sparse matrices that can be trained on."""
    torch = need("torch")
    X, y, *_ = draw()
    with config_context(array_api_dispatch=True), pytest.raises(TypeError, match=r"sparse tensor.*X.to_dense\(\)"):
        AnalyticRegressor(optimizer="adam").fit(torch.asarray(X).to_sparse(), y)


def test_sparse_gradients_are_refused(there):
    """Blocks of which some rows have a gradient."""
    X, y, *_ = draw()

    def vjp(params, X):
        return (X @ params["w"][:, None])[:, 0], lambda d: {"w": ([0], (X.T @ d[:, None])[:1, :])}

    model = AnalyticRegressor(vjp=vjp, init={"w": np.zeros(3)}, optimizer="adam", check_gradient=False)
    with pytest.raises(
        ParameterStructureError, match="has a sparse gradient in parameter 'w', .*Return a dense gradient"
    ):
        model.fit(there(X), there(y))


def test_chunks_are_refused(there):
    """They are read chunk by chunk into NumPy arrays."""
    X, y, *_ = draw()
    with pytest.raises(TypeError, match=r"fit_chunks requires NumPy arrays.*np.asarray\(X\).*partial_fit"):
        AnalyticRegressor().fit_chunks([(there(X), there(y))])


def test_auto_is_adam(there):
    """Which runs anywhere."""
    X, y, *_ = draw()
    assert isinstance(AnalyticRegressor(**QUICK).fit(there(X), there(y)).optimizer_, Adam)


def test_a_function_that_returns_numpy_arrays_is_named(there):
    """For then it would not have run where X is."""
    X, y, *_ = draw()
    model = AnalyticRegressor(
        lambda params, X: np.ones(X.shape[0]),
        vjp=lambda params, X: (np.ones(X.shape[0]), lambda d: {"w": np.ones(3)}),
        init={"w": np.zeros(3)},
        optimizer="adam",
    )
    with pytest.raises(TypeError, match="forward returned a NumPy array, but X is an array of"):
        model.fit(there(X), there(y))


def test_an_error_in_a_pullback_names_it(there):
    """Where it was written, as for NumPy arrays."""
    X, y, *_ = draw()

    def pullback(d):
        raise ZeroDivisionError

    model = AnalyticRegressor(vjp=lambda params, X: (X[:, 0], pullback), init={"w": np.zeros(3)}, optimizer="adam")
    with pytest.raises(ZeroDivisionError) as caught:
        model.set_params(check_gradient=False).fit(there(X), there(y))
    assert any("<locals>.pullback (" in note for note in caught.value.__notes__)


def test_a_loss_of_functions_that_do_not_exist_there_is_refused():
    """scipy's special functions are none of the standard's."""
    strict = need("array_api_strict")

    class Counts(Loss):
        domain = None
        name = ""

        def formula(self, y, prediction):
            return gammaln(y + 1) + np.exp(prediction) - y * prediction, np.exp(prediction) - y

    y = Elsewhere(strict.asarray([1.0, 2.0]), Place.of(strict.asarray([1.0])))
    with pytest.raises((TypeError, RuntimeError), match=r"np.asarray\(X\)"):
        Counts().value_and_derivative(y, y)


def test_numba_says_that_it_does_not_run_there(there):
    """The rules run all the same."""
    need("numba")
    X, y, *_ = draw()
    with use_engine("numba"), pytest.warns(UserWarning, match=r"numba engine runs on NumPy arrays only: .*np.asarray"):
        model = AnalyticRegressor(optimizer="adam", **QUICK).fit(there(X), there(y))
    assert is_there(model.coef_, there(X))


def test_arrays_that_cannot_be_written_to_are_refused():
    """jax's, for one."""
    jax = pytest.importorskip("jax")
    X, y, *_ = draw()
    with config_context(array_api_dispatch=True), pytest.raises(TypeError, match=r"arrays are read-only.*np.asarray"):
        AnalyticRegressor(optimizer="adam").fit(jax.numpy.asarray(X), y)


@pytest.mark.parametrize("method", ["predict", "score", "mean_loss", "partial_fit"])
def test_arrays_of_another_place_are_refused(there, method):
    """NumPy's after others, others after NumPy's, and those of another device."""
    X, y, *_ = draw()
    strict = need("array_api_strict")
    elsewhere = AnalyticRegressor(optimizer="adam", **QUICK).fit(there(X), there(y))
    here = AnalyticRegressor(optimizer="adam", **QUICK).fit(X, y)
    on_third = strict.asarray(X, device=strict.Device("device2"))
    for model, other in ((elsewhere, X), (here, there(X)), (elsewhere, on_third)):
        arguments = (other,) if method == "predict" else (other, y)
        with pytest.raises(ValueError, match=r"must use the same namespace and the same device"):
            getattr(model, method)(*arguments)


# What looks at a model from the host


def test_the_gradient_check_calls_functions_from_the_host(there):
    """By its public function, of a right gradient and of a wrong one."""
    X, y, *_ = draw()
    model = AnalyticRegressor(**of_form("vjp", set()), optimizer="adam", **QUICK)
    assert check_gradient(model, there(X), there(y)).ok

    class Wrong(Seen):
        def vjp(self, params, X):
            prediction, pullback = super().vjp(params, X)
            return prediction, lambda d: pullback(2 * d)

    wrong = Wrong(set())
    with pytest.raises(ValueError, match="2"):
        AnalyticRegressor(wrong.forward, vjp=wrong.vjp, init=wrong.init, optimizer="adam").fit(there(X), there(y))


@pytest.mark.filterwarnings("ignore::sk_analytic.exceptions.InferenceWarning")  # a rule ends near the optimum
def test_inference_calls_functions_from_the_host(there):
    """Standard errors are NumPy's, the same as those of a fit on NumPy arrays."""
    X, y, *_ = draw()
    settings = {"optimizer": "adam", **QUICK, "max_iter": 300}
    here, elsewhere = AnalyticRegressor(**settings).fit(X, y), AnalyticRegressor(**settings).fit(there(X), there(y))
    expected = infer(here, X, y).standard_errors["coef"]
    np.testing.assert_allclose(infer(elsewhere, there(X), there(y)).standard_errors["coef"], expected, rtol=1e-8)


# scikit-learn's tag and check


def test_the_tag_says_what_can_be_known():
    """A default model has any arrays by a rule; a model object says so itself."""

    class Own:
        array_api_support = True
        init = {"w": np.zeros(3)}

        def vjp(self, params, X):
            return X @ params["w"], lambda d: {"w": X.T @ d}

    for model, expected in (
        (AnalyticRegressor(), True),
        (AnalyticRegressor(optimizer="lbfgs"), False),
        (AnalyticRegressor(**of_form("vjp", set())), False),
        (AnalyticRegressor(model=Own()), True),
        (AnalyticRegressor(model=Own(), optimizer="trf"), False),
    ):
        assert model.__sklearn_tags__().array_api_support is expected


@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
@pytest.mark.parametrize("cls", [AnalyticRegressor, AnalyticClassifier, AnalyticDensity])
def test_scikit_learns_check_of_values(cls, name):
    """Fitted attributes and predictions have NumPy's values.

    Not by Adam, which would divide the rounding of a gradient by itself: the default density begins at its optimum. Not
    of the transformer, whose score is a sum over columns: the check allows it an absolute rounding of 100 units.
    """
    need(name)
    estimator = cls(optimizer="sgd", tol=None, max_iter=3)
    estimator_checks.check_array_api_input_and_values(cls.__name__, estimator, name, dtype_name="float64")
