"""Models that need all rows at once, and losses that are no sum over rows: looked at, declared, found out."""

import functools

import numpy as np
import pytest
from models import USER_MODELS
from scipy.linalg import cho_factor, cho_solve

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    AnalyticTransformer,
    DivergenceError,
    GradientCheckError,
    ParameterStructureError,
    check_gradient,
)
from sk_analytic.data.arrays import ArrayRows
from sk_analytic.estimators.problem import CHECKED_SAMPLES
from sk_analytic.gradient_check import coupling
from sk_analytic.losses import SquaredError
from sk_analytic.search import find_learning_rate

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),  # fits are a few steps long
    pytest.mark.filterwarnings("ignore:numerical. the gradient of:UserWarning"),  # which is meant here
]

N = 150
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = X @ [1.0, -2.0, 0.5] + RNG.normal(size=N)


# Models with something for each row.

KERNEL = np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(axis=2))
GRAPH = np.minimum(1, np.eye(N) + np.eye(N, k=1) + np.eye(N, k=-1)) / 3


def kernel_forward(params, X, K):
    return K @ params["a"]


def kernel_gradient(params, X, y, K):
    return {"a": K.T @ (K @ params["a"] - y) / len(X)}


def graph_forward(params, X, G):
    return G @ (X @ params["w"])


def graph_vjp(params, X, G):
    return graph_forward(params, X, G), lambda d: {"w": X.T @ (G.T @ d)}


def graph_jacobian(params, X, G):
    return {"w": G @ X}


def offsets_forward(params, X):
    return params["a"] + X @ params["w"]


def offsets_loss_and_gradient(params, X, y):
    residual = offsets_forward(params, X) - y
    loss = (0.5 * residual @ residual + params["a"] @ params["a"]) / len(X)
    return loss, {"a": (residual + 2 * params["a"]) / len(X), "w": X.T @ residual / len(X)}


def linear_forward(params, X):
    return X @ params["w"]


def smooth_loss_and_gradient(params, X, y, G):
    """Predictions are those of each row; the loss couples them along a graph."""
    f = linear_forward(params, X)
    rough = f - G @ f
    loss = (0.5 * (f - y) @ (f - y) + 0.5 * rough @ rough) / len(X)
    return loss, {"w": X.T @ (f - y + rough - G.T @ rough) / len(X)}


def centered_vjp(params, X):
    """Predictions depend on the others in the batch, of whatever size."""
    Z = X - X.mean(axis=0)
    return Z @ params["w"], lambda d: {"w": Z.T @ d}


W = {"w": np.full(3, 0.1)}
MODELS = {
    "kernel": {"forward": kernel_forward, "gradient": kernel_gradient, "init": {"a": np.zeros(N)}, "K": KERNEL},
    "graph": {"forward": graph_forward, "vjp": graph_vjp, "init": W, "G": GRAPH},
    "graph, jacobian": {"forward": graph_forward, "jacobian": graph_jacobian, "init": W, "G": GRAPH},
    "a parameter a row": {
        "forward": offsets_forward,
        "loss_and_gradient": offsets_loss_and_gradient,
        "init": {"a": np.zeros(N), **W},
    },
    "loss over a graph": {
        "forward": linear_forward,
        "loss_and_gradient": smooth_loss_and_gradient,
        "init": W,
        "G": GRAPH,
    },
    "centered": {"vjp": centered_vjp, "init": W},
}


def model_of(name, **settings):
    callables = dict(MODELS[name])
    given = {key: callables.pop(key) for key in ("K", "G") if key in callables}
    return AnalyticRegressor(**callables, model_params=given or None, **{"random_state": 0, "max_iter": 5} | settings)


@pytest.mark.parametrize("check", [True, "warn", False])
@pytest.mark.parametrize("settings", [{"optimizer": "lbfgs"}, {"batch_size": N}], ids=["lbfgs", "one batch"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_all_rows_can_be_fitted(name, settings, check):
    """The first look hands it the rows of a step, and its gradient is found right on them."""
    model = model_of(name, check_gradient=check, **settings).fit(X, Y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert not check or all(finding.verdict == "right" for finding in model.gradient_report_.findings)


def doubled(grads):
    return {name: 2 * leaf for name, leaf in grads.items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_gradient_of_a_model_of_all_rows_is_found(name):
    """Nothing of the check is lost with the few rows."""
    model = model_of(name, optimizer="lbfgs")
    form = next(form for form in ("gradient", "loss_and_gradient", "vjp", "jacobian") if getattr(model, form))
    right = getattr(model, form)

    @functools.wraps(right)
    def wrong(*args, **named):
        returned = right(*args, **named)
        if form == "loss_and_gradient":
            return returned[0], doubled(returned[1])
        return (returned[0], lambda d: doubled(returned[1](d))) if form == "vjp" else doubled(returned)

    with pytest.raises(GradientCheckError, match="is not the derivative of"):
        model.set_params(**{form: wrong}).fit(X, Y)


@pytest.mark.parametrize("name", MODELS)
def test_whatever_looks_at_a_model_hands_it_all_rows(name):
    """`check_gradient`, a sweep of rates, and the second opinion after a failure."""
    model = model_of(name, batch_size=N, optimizer="sgd")
    assert check_gradient(model, X, Y, random_state=0).ok
    assert find_learning_rate(model, X, Y, n_steps=10, random_state=0).losses.size
    model.set_params(optimizer__learning_rate=1e200, max_iter=50)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError) as caught:
        model.fit(X, Y)
    assert "The analytic gradient is wrong" not in str(caught.value)


def test_rows_that_stand_alone_are_looked_at_in_few():
    """Of a thousand rows some are checked, and some measured alone: one evaluation has all of them."""
    rows, y = np.tile(X, (7, 1)), np.tile(Y, 7)
    sizes = []

    def gradient(params, X, y):
        sizes.append(len(X))
        return {"w": X.T @ (X @ params["w"] - y) / len(X)}

    AnalyticRegressor(linear_forward, gradient, W, optimizer="lbfgs", max_iter=1, tol=1e9).fit(rows, y)
    assert sizes.count(len(rows)) == 1  # of the optimizer's own
    assert set(sizes) == {1, CHECKED_SAMPLES, len(rows)}  # division by a constant, the number of all rows, shows on few


def test_held_out_rows_of_a_model_of_all_rows_are_told_of():
    """Of another number than those of a step: the error says which rows they are."""
    with pytest.raises(ParameterStructureError, match=r"forward returned shape \(150,\) for 40 samples") as caught:
        model_of("kernel", optimizer="lbfgs", early_stopping=True).fit(X, Y, X_val=X[:40], y_val=Y[:40])
    assert "While scoring the 40 held-out samples, with early_stopping=True." in caught.value.__notes__


# Losses that are no sum over rows.

EVENT = (np.random.default_rng(1).random(N) < 0.7).astype(float)
TIME = np.exp(-0.5 * Y)


def cox(params, X, y, event):
    """Half the work of a survival analysis: minus the partial log-likelihood, without ties."""
    order = np.argsort(-y)
    X, event = X[order], event[order]
    score = X @ params["w"]
    at_risk = np.cumsum(np.exp(score))
    mean = np.cumsum(X * np.exp(score)[:, None], axis=0) / at_risk[:, None]
    loss = -float((event * (score - np.log(at_risk))).sum()) / len(X)
    return loss, {"w": -(event[:, None] * (X - mean)).sum(axis=0) / len(X)}


def cox_gradient(params, X, y, event):
    return cox(params, X, y, event)[1]


def cox_loss(params, X, y, event):
    return cox(params, X, y, event)[0]


def process(params, X, y):
    """Minus the log-likelihood of a Gaussian process with white noise, per row; its variances are learned."""
    K = np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(axis=2))
    signal, noise = np.exp(params["log"])
    factor = cho_factor(signal * K + noise * np.eye(len(X)))
    alpha = cho_solve(factor, y)
    slopes = [0.5 * (np.trace(cho_solve(factor, D)) - alpha @ D @ alpha) for D in (signal * K, noise * np.eye(len(X)))]
    loss = 0.5 * y @ alpha + np.log(np.diag(factor[0])).sum()
    return loss / len(X), {"log": np.array(slopes) / len(X)}


def penalized_sum(params, X, y):
    """A penalty beside a sum over rows counts once a batch."""
    residual = X @ params["w"] - y
    return 0.5 * residual @ residual + 20 * params["w"] @ params["w"], {"w": X.T @ residual + 40 * params["w"]}


COUPLED = {
    "cox": ({"loss_and_gradient": cox}, {"event": EVENT}),
    "cox, gradient and loss": ({"gradient": cox_gradient, "loss": cox_loss}, {"event": EVENT}),
    "cox, gradient alone": ({"gradient": cox_gradient, "loss": None}, {"event": EVENT}),
    "cox, numerical": ({"loss_and_gradient": cox, "numerical": ["w"]}, {"event": EVENT}),
    "gaussian process": (
        {"loss_and_gradient": process, "init": {"log": np.zeros(2)}, "forward": lambda params, X: np.zeros(len(X))},
        {},
    ),
    "penalized sum": ({"loss_and_gradient": penalized_sum, "reduction": "sum"}, {}),
    "centered": ({"forward": None, "vjp": centered_vjp}, {}),
}
EACH_COUPLED = pytest.mark.parametrize("name", COUPLED)


def coupled(name, **settings):
    callables, metadata = COUPLED[name]
    settings = {"forward": linear_forward, "init": W, "max_iter": 2, "random_state": 0} | callables | settings
    return AnalyticRegressor(**settings), metadata


@EACH_COUPLED
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "settings", [{"batch_size": 50}, {"batch_size": 1}, {"batch_size": 40, "optimizer": "lbfgs"}], ids=str
)
def test_a_loss_that_is_no_sum_over_rows_is_found_out(name, dtype, settings):
    """Before the first step in batches, with the disagreement in numbers and what to do; once each fit."""
    model, metadata = coupled(name, **settings)
    if model.loss is None and "optimizer" in settings:
        return  # which needs a loss
    if name == "centered" and settings["batch_size"] == 1:
        return  # one row has no gradient at all
    message = (
        rf"does not decompose over samples: its .* on \d+ samples changes by [0-9.]+%.* other batches.*"
        rf" Use batch_size >= {N} or"
    )
    for _ in range(2):
        with pytest.warns(UserWarning, match=message) as caught:
            model.fit(X.astype(dtype), TIME, **metadata)
        assert len([w for w in caught if "does not decompose over samples" in str(w.message)]) == 1
    assert {warning.filename for warning in caught} == {__file__}


@EACH_COUPLED
def test_one_that_takes_all_rows_is_right(name):
    """Nothing is compared, and nothing said, where all rows are one step."""
    model, metadata = coupled(name, optimizer="adam", batch_size=N)
    model.fit(X, TIME, **metadata)
    if model.loss is not None:
        model.set_params(optimizer="lbfgs", batch_size="auto").fit(X, TIME, **metadata)


@EACH_COUPLED
def test_it_can_be_declared(name):
    """Then batches are an error, in `fit`, `partial_fit` and `fit_chunks`; all rows at once are not."""
    model, metadata = coupled(name, batch_size=50, additive=False)
    chunk = {"X": X[:75], "y": TIME[:75]} | {key: column[:75] for key, column in metadata.items()}
    for call in (
        lambda: model.fit(X, TIME, **metadata),
        lambda: model.partial_fit(X, TIME, **metadata),
        lambda: model.set_params(batch_size="auto").fit_chunks([chunk, chunk]),
    ):
        with pytest.raises(
            ValueError, match=rf"The loss does not decompose over samples \(additive=False\), .* batch_size >= {N}"
        ):
            call()
    model.set_params(batch_size=N).fit(X, TIME, **metadata)
    assert all(finding.verdict == "right" for finding in model.gradient_report_.findings)


@EACH_COUPLED
def test_batches_can_be_meant(name):
    """As with batch normalization: `additive=True` trains by them, and nothing is compared."""
    model, metadata = coupled(name, batch_size=50, additive=True)
    assert len(model.fit(X, TIME, **metadata).loss_curve_) == (0 if model.loss is None else 2)


def test_chunks_are_batches_too():
    """Also for a full-batch method, which sums over them."""
    model, _ = coupled("cox", optimizer="lbfgs")
    with pytest.warns(UserWarning, match="does not decompose over samples"):
        model.fit_chunks([{"X": X[i::2], "y": TIME[i::2], "event": EVENT[i::2]} for i in range(2)])


def test_the_numbers_are_those_of_both_ways_to_part_the_rows():
    """For a single batch of two rows: Cox's likelihood of one row is 1, whatever θ."""
    model, metadata = coupled("cox", batch_size=1)
    message = r"on 2 samples .* by 200.0% in parameter 'w' if .* batches .the loss is [0-9.e-]+, then [0-9.]+"
    with pytest.warns(UserWarning, match=message):
        model.fit(X, TIME, event=np.ones(N))


class Whole(SquaredError):
    """A loss by name that says itself that it needs all rows."""

    additive = False


def test_a_loss_by_name_says_it_itself():
    """Whatever the estimator's parameter says."""
    for additive in ("auto", True, False):
        with pytest.raises(ValueError, match="Whole does not decompose over samples"):
            AnalyticRegressor(loss=Whole(), additive=additive, batch_size=50).fit(X, Y)


# No false alarm.


def weighted_mean(params, X, y, sample_weight):
    """Divided by the weights of the batch, as many would have it."""
    residual = X @ params["w"] - y
    share = sample_weight / sample_weight.sum()
    return 0.5 * float(share @ residual**2), {"w": X.T @ (share * residual)}


def penalized_mean(params, X, y):
    residual = X @ params["w"] - y
    return 0.5 * np.mean(residual**2) + 2 * params["w"] @ params["w"] + 7.0, {
        "w": X.T @ residual / len(X) + 4 * params["w"]
    }


def plain_sum(params, X, y):
    """With a constant, which has no derivative."""
    residual = X @ params["w"] - y
    return 0.5 * float(residual @ residual) + 7.0, {"w": X.T @ residual}


def single(params, X, y):
    """In single precision within."""
    X, y, w = (array.astype(np.float32) for array in (X, y, params["w"]))
    residual = X @ w - y
    return float(0.5 * np.mean(residual**2)), {"w": X.T @ residual / len(X)}


def drops_out(params, X, y, rng):
    kept = rng.integers(0, 2, len(X))
    residual = (X @ params["w"] - y) * kept
    return float(np.mean(residual**2)), {"w": 2 * X.T @ residual / len(X)}


def drops_out_in_secret(params, X, y):
    return drops_out(params, X, y, np.random.default_rng())


def dead(params, X, y):
    """A block that matters only by rounding."""
    residual = X @ params["w"] + 1e-17 * params["b"] - y
    return 0.5 * np.mean(residual**2), {"w": X.T @ residual / len(X), "b": np.array(1e-17 * residual.mean())}


def picky(params, X, y):
    """Takes batches of 50 only."""
    assert len(X) in (50, N)
    return penalized_mean(params, X, y)


RIGHT = {
    "weighted mean": (weighted_mean, {}, {}),
    "penalized mean": (penalized_mean, {}, {}),
    "sum": (plain_sum, {"reduction": "sum"}, {}),
    "sum that is not declared": (lambda params, X, y: plain_sum(params, X, y)[1], {"loss": None}, {}),
    "single precision": (single, {}, {}),
    "random": (drops_out, {}, {}),
    "random in secret": (drops_out_in_secret, {"check_gradient": "warn"}, {}),
    "a dead block": (dead, {"init": {**W, "b": 0.5}}, {}),
    "fixed": (penalized_mean, {"fixed": ["w"]}, {}),
    "numerical": (penalized_mean, {"numerical": ["w"]}, {}),
    "batches of one size": (picky, {}, {}),
    "penalty by alpha": (plain_sum, {"reduction": "sum", "alpha": 3.0}, {}),
}


@pytest.mark.filterwarnings("ignore:.*is not the derivative of:UserWarning")
@pytest.mark.filterwarnings("ignore:The gradient could not be checked:UserWarning")
@pytest.mark.filterwarnings("ignore:The gradient of parameter 'w' is float32:UserWarning")  # as it does
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", RIGHT)
def test_a_sum_over_rows_is_not_suspected(name, dtype):
    """Nor what cannot be told: warnings are errors here."""
    function, settings, metadata = RIGHT[name]
    form = "gradient" if settings.get("loss", "") is None else "loss_and_gradient"
    model = AnalyticRegressor(linear_forward, init=W, **{form: function}, batch_size=50, max_iter=1, random_state=0)
    model.set_params(**settings).fit(X.astype(dtype), Y, sample_weight=1 + EVENT if "weight" in name else None)


@pytest.mark.parametrize("cls", USER_MODELS)
def test_no_model_of_the_tests_is_suspected(cls):
    """In all forms, with weights and without, dense and in single precision."""
    y = {AnalyticClassifier: (Y > 0).astype(int), AnalyticRegressor: Y}.get(cls)
    for settings in ({}, *USER_MODELS[cls].values()):
        for rows in (X, X.astype(np.float32)):
            cls(**settings, batch_size=20, max_iter=1, random_state=0).fit(rows, y)


def test_without_the_check_nothing_is_asked():
    """`check_gradient=False` promises no further calls."""
    calls = []

    def gradient(params, X, y):
        calls.append(len(X))
        return {"w": X.T @ (X @ params["w"] - y) / len(X)}

    AnalyticRegressor(linear_forward, gradient, W, batch_size=50, max_iter=1, random_state=0, check_gradient=False).fit(
        X, Y
    )
    assert calls == [50] * 3


def test_partial_fit_asks_once():
    """Before its first step."""
    model, metadata = coupled("cox", batch_size=50)
    with pytest.warns(UserWarning, match="does not decompose over samples"):
        model.partial_fit(X, TIME, **metadata)
    model.partial_fit(X, TIME, **metadata)


@pytest.mark.parametrize("estimator", [AnalyticDensity(), AnalyticTransformer(), AnalyticClassifier()])
def test_default_models_are_known_to_be_sums(estimator):
    """Their functions are not evaluated for it."""
    y = (Y > 0).astype(int) if isinstance(estimator, AnalyticClassifier) else None
    model = estimator.set_params(batch_size=20, max_iter=1).fit(X, y)
    objective = model._training.objective
    objective.contribution = lambda *arguments: pytest.fail("is evaluated")
    assert coupling(objective, model._training.theta, ArrayRows(X, {}).everything, seed=0) is None
