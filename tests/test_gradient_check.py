"""The gradient doctor's verdicts: right gradients pass, faults are found in their block and only there, doubts pass."""

import copy
import json
import pickle

import numpy as np
import pytest
from gradient_zoo.right import RIGHT, derivative
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone

from sk_analytic import AnalyticDensity, AnalyticRegressor, AnalyticTransformer, GradientReport, check_gradient
from sk_analytic.data.batch import Batch
from sk_analytic.data.telling import telling_rows
from sk_analytic.exceptions import GradientCheckError
from sk_analytic.gradient_check import examine, require_right
from sk_analytic.gradient_check.check import of_callables
from sk_analytic.gradient_check.verdict import QUICK
from sk_analytic.losses import LogLoss, get_loss, get_loss_names
from sk_analytic.model.callables import Callables
from sk_analytic.model.gradient_forms import GRADIENT_FORMS
from sk_analytic.objective import Objective
from sk_analytic.parameters import Layout, Parameters

RNG = np.random.default_rng(0)
N, K = 20, 4
X = RNG.normal(size=(N, 3))
Y = RNG.normal(size=N)
START = {"V": RNG.normal(size=(3, K)), "S": RNG.normal(size=(K, K)), "w": RNG.normal(size=K), "b": 0.3}
EACH_FORM = pytest.mark.parametrize("form", GRADIENT_FORMS)
SEEDS = pytest.mark.parametrize("seed", range(4))


# A network of two layers, its blocks a matrix, a square matrix, a vector and a float.


def layers(params, X):
    h = np.tanh(X @ params["V"])
    return h, np.tanh(h @ params["S"])


def forward(params, X):
    return layers(params, X)[1] @ params["w"] + params["b"]


def adjoint(params, X, d):
    h, g = layers(params, X)
    d_g = np.multiply.outer(d, params["w"]) * (1 - g * g)
    d_h = (d_g @ params["S"].T) * (1 - h * h)
    return {"V": X.T @ d_h, "S": h.T @ d_g, "w": g.T @ d, "b": d.sum()}


def jacobian(params, X):
    rows = [adjoint(params, X[i : i + 1], np.ones(1)) for i in range(len(X))]
    return {name: np.array([row[name] for row in rows]) for name in START}


def form_of(form, change=lambda leaves: leaves):
    """The network's squared error in a form, with a change of what holds the derivatives."""

    def gradient(params, X, y, sample_weight=None):
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        return change(adjoint(params, X, weight * (forward(params, X) - y) / len(X)))

    def loss_and_gradient(params, X, y, sample_weight=None):
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        return 0.5 * np.mean(weight * (forward(params, X) - y) ** 2), gradient(params, X, y, sample_weight)

    return {
        "gradient": gradient,
        "loss_and_gradient": loss_and_gradient,
        "vjp": lambda params, X: (forward(params, X), lambda d: change(adjoint(params, X, d))),
        "jacobian": lambda params, X: change(jacobian(params, X)),
    }[form]


def objective_of(form, function, loss="squared_error", start=START, forward=forward, own_loss=None, dtype=np.float64):
    layout = Layout.of(start, dtype)
    model = Callables(forward=forward, forms={form: function}, loss=own_loss, columns=("y",))
    theta = Parameters(layout, layout.flatten(start))
    return Objective(model, None if loss is None else get_loss(loss), layout), theta


def report_of(form, function, seed=0, y=Y, weight=None, n_directions=2, **options):
    objective, theta = objective_of(form, function, **options)
    return examine(objective, theta, Batch(X, {"y": y}, weight), n_directions=n_directions, seed=seed)


def verdicts(report):
    return {finding.block: finding.verdict for finding in report.findings}


def alarms(report):
    return [finding for finding in report.findings if finding.verdict == "wrong"]


# ---- right gradients ----


@EACH_FORM
@SEEDS
@pytest.mark.parametrize("n_directions", [2, None], ids=["block by block", "all at once"])
@pytest.mark.parametrize("weight", [None, np.arange(N) / 10], ids=["unweighted", "weighted"])
def test_a_right_gradient_is_right_in_every_block(form, seed, n_directions, weight):
    """Each form, with weights and without; the differences agree to many digits."""
    report = report_of(form, form_of(form), seed, weight=weight, n_directions=n_directions)
    assert report.ok
    assert verdicts(report) == dict.fromkeys(START, "right")
    for finding in report.findings:
        assert finding.cause is None
        assert finding.shape == np.shape(START[finding.block])
        assert finding.evidence["relative_error"] < 1e-5
        assert finding.evidence["analytic"] == pytest.approx(finding.evidence["numerical"], rel=1e-4, abs=1e-7)


@SEEDS
@pytest.mark.parametrize("name", get_loss_names())
def test_a_right_gradient_passes_with_every_loss(name, seed):
    """Whatever the loss by name, kinks included: no block is called wrong."""
    loss = get_loss(name)
    y = np.abs(Y) + 0.1 if loss.domain is not None and loss.domain.low == 0 else Y
    y = (Y > 0).astype(float) if isinstance(loss, LogLoss) else y
    assert report_of("vjp", form_of("vjp"), seed, loss=name, y=y).ok


@SEEDS
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e3, 1e8])
def test_a_right_gradient_is_right_at_every_scale(scale, seed):
    """Steps are relative to the size of a block: tiny and huge parameters are judged alike."""
    start = {"W": scale * np.ones(3), "b": scale}
    report = report_of(
        "vjp",
        lambda params, X: (
            (X @ params["W"] + params["b"]) / scale,
            lambda d: {"W": X.T @ d / scale, "b": d.sum() / scale},
        ),
        seed,
        start=start,
        forward=None,
    )
    assert verdicts(report) == {"W": "right", "b": "right"}


@pytest.mark.parametrize("estimator", [AnalyticRegressor(), AnalyticDensity(), AnalyticTransformer()], ids=repr)
@SEEDS
def test_default_models_pass(estimator, seed):
    """And float32 rows are checked in float64."""
    for dtype in (np.float64, np.float32):
        report = check_gradient(estimator, X.astype(dtype), Y.astype(dtype), random_state=seed)
        assert set(verdicts(report).values()) == {"right"}


# ---- faults ----


def flip(leaf):
    return -leaf


def double(leaf):
    return 2 * leaf


def drop(leaf):
    return 0 * leaf


def slightly_too_large(leaf):
    return 1.001 * leaf


def one_wrong_entry(leaf):
    wrong = np.array(leaf)
    wrong[..., -1] *= 1.5
    return wrong


def noisy(leaf):
    return leaf + 0.01 * np.random.default_rng(3).normal(size=np.shape(leaf)) * np.abs(leaf).max()


def transpose(leaf):
    return np.swapaxes(leaf, -1, -2)


GROSS = [(fault, block) for fault in (flip, double, drop) for block in START] + [(transpose, "S")]
GROSS += [(noisy, block) for block in START] + [(one_wrong_entry, block) for block in ("w", "S", "V")]
SUBTLE = [(slightly_too_large, block) for block in START]  # the quick check, one direction through all, may miss them
CHECKS = [(*case, 2) for case in GROSS + SUBTLE] + [(*case, None) for case in GROSS]


@EACH_FORM
@pytest.mark.parametrize(
    ("fault", "block", "n_directions"),
    CHECKS,
    ids=[f"{fault.__name__} {block} {'quick' if n is None else n}" for fault, block, n in CHECKS],
)
def test_a_fault_is_found_in_its_block_and_only_there(form, fault, block, n_directions):
    """The block at fault is wrong, with the two derivatives as evidence; all the others are right."""
    function = form_of(form, lambda leaves: leaves | {block: fault(leaves[block])})
    report = report_of(form, function, n_directions=n_directions)
    assert verdicts(report) == dict.fromkeys(START, "right") | {block: "wrong"}
    assert not report.ok
    (finding,) = alarms(report)
    assert finding.cause
    assert finding.explanation
    assert finding.evidence["relative_error"] > 1e-4
    assert finding.evidence["analytic"] != finding.evidence["numerical"]


def test_two_faults_are_found_at_once():
    """Each in its own block."""
    change = {"V": flip, "b": double}
    function = form_of(
        "gradient", lambda leaves: leaves | {name: fault(leaves[name]) for name, fault in change.items()}
    )
    assert {finding.block for finding in alarms(report_of("gradient", function))} == {"V", "b"}


@EACH_FORM
def test_a_forgotten_chain_rule_is_found(form):
    """The derivative of the outer tanh left out: both blocks below it are wrong, those above are right."""

    def adjoint(params, X, d):
        h, g = layers(params, X)
        d_g = np.multiply.outer(d, params["w"])
        d_h = (d_g @ params["S"].T) * (1 - h * h)
        return {"V": X.T @ d_h, "S": h.T @ d_g, "w": g.T @ d, "b": d.sum()}

    def stacked(params, X):
        rows = [adjoint(params, X[i : i + 1], np.ones(1)) for i in range(len(X))]
        return {name: np.array([row[name] for row in rows]) for name in START}

    def residual(params, X, y):
        return (forward(params, X) - y) / len(X)

    function = {
        "gradient": lambda params, X, y: adjoint(params, X, residual(params, X, y)),
        "loss_and_gradient": lambda params, X, y: (
            0.5 * len(X) * np.sum(residual(params, X, y) ** 2),
            adjoint(params, X, residual(params, X, y)),
        ),
        "vjp": lambda params, X: (forward(params, X), lambda d: adjoint(params, X, d)),
        "jacobian": stacked,
    }[form]
    assert verdicts(report_of(form, function)) == {"V": "wrong", "S": "wrong", "w": "right", "b": "right"}


def test_a_gradient_of_another_loss_is_wrong_everywhere():
    """A gradient of the squared error held against the absolute error, and of a sum against a mean."""
    report = report_of("gradient", form_of("gradient"), loss="absolute_error")
    assert {finding.block for finding in alarms(report)} == set(START)
    report = report_of("gradient", form_of("gradient", lambda leaves: {k: N * v for k, v in leaves.items()}))
    assert {finding.block for finding in alarms(report)} == set(START)


def test_a_gradient_that_is_not_finite_where_the_loss_is_is_wrong():
    """NaN in one entry of one block."""
    function = form_of("gradient", lambda leaves: leaves | {"w": np.where(np.arange(K) == 1, np.nan, leaves["w"])})
    report = report_of("gradient", function)
    assert verdicts(report) == dict.fromkeys(START, "right") | {"w": "wrong"}


def test_a_fault_that_zeros_hide_at_the_start_is_found():
    """Where θ starts at zero, so does a gradient with the wrong factor of θ: the check looks beside it."""
    start = {"W": np.zeros(3)}

    def vjp(params, X):
        W = params["W"]
        return X @ W**2, lambda d: {"W": 3 * W * (X.T @ d)}

    report = report_of("vjp", vjp, start=start, forward=None)
    assert verdicts(report) == {"W": "wrong"}


# ---- no false alarms ----


def relu_network(params, X):
    h = np.maximum(X @ params["V"] + params["a"], 0)

    def pullback(d):
        d_h = np.multiply.outer(d, params["w"]) * (h > 0)
        return {"V": X.T @ d_h, "a": d_h.sum(axis=0), "w": h.T @ d}

    return h @ params["w"], pullback


RELU_STARTS = {
    "all zero": {"V": np.zeros((3, 5)), "a": np.zeros(5), "w": np.zeros(5)},
    "weights of a usual start": {"V": RNG.normal(size=(3, 5)), "a": np.zeros(5), "w": RNG.normal(size=5)},
    "many units, so that some are near their kink": {
        "V": RNG.normal(size=(3, 300)),
        "a": np.zeros(300),
        "w": RNG.normal(size=300),
    },
}


@pytest.mark.parametrize("start", RELU_STARTS.values(), ids=RELU_STARTS)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("n_directions", [2, None])
def test_kinks_of_the_model_are_no_fault(start, seed, n_directions):
    """A rectifier is right, or cannot be told."""
    assert report_of("vjp", relu_network, seed, start=start, forward=None, n_directions=n_directions).ok


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("loss", ["absolute_error", "quantile", "huber"])
def test_kinks_of_the_loss_are_no_fault(loss, seed):
    """Residuals that are zero at the start, and as many close to it."""

    def vjp(params, X):
        return X @ params["W"], lambda d: {"W": X.T @ d}

    for near in (0.0, 1e-6, 1e-3):
        y = X @ np.ones(3) + near * RNG.normal(size=N)
        assert report_of("vjp", vjp, seed, start={"W": np.ones(3)}, forward=None, loss=loss, y=y).ok


@SEEDS
@pytest.mark.parametrize("n_directions", [2, None])
def test_a_stochastic_gradient_is_no_fault(seed, n_directions):
    """One that draws from `rng` estimates the derivative: it cannot be told from one draw."""

    def gradient(params, X, y, rng):
        full = form_of("gradient")(params, X, y)
        return {name: leaf + rng.normal(size=np.shape(leaf)) for name, leaf in full.items()}

    report = report_of("gradient", gradient, seed, n_directions=n_directions)
    assert report.ok
    assert set(verdicts(report).values()) == {"cannot tell"}


@SEEDS
@pytest.mark.parametrize("form", ["loss_and_gradient", "vjp"])
def test_common_random_numbers_are_no_fault(seed, form):
    """Dropout by `rng`: value and gradient of the same draw agree, another draw differs."""

    def vjp(params, X, rng):
        kept = rng.random(X.shape) < 0.5
        return (X * kept) @ params["W"], lambda d: {"W": (X * kept).T @ d}

    def loss_and_gradient(params, X, y, rng):
        prediction, pullback = vjp(params, X, rng)
        return 0.5 * np.mean((prediction - y) ** 2), pullback((prediction - y) / len(X))

    function = {"vjp": vjp, "loss_and_gradient": loss_and_gradient}[form]
    assert report_of(form, function, seed, start={"W": np.ones(3)}, forward=None).ok


@SEEDS
@pytest.mark.parametrize("n_directions", [2, None])
def test_a_loss_that_is_not_repeatable_is_no_fault(seed, n_directions):
    """Noise from a generator of the user's own, in the loss or in the gradient: cannot be told."""
    noise = np.random.default_rng(seed)

    def loss(params, X, y):
        return np.mean((forward(params, X) - y) ** 2) + noise.normal()

    report = report_of("gradient", form_of("gradient"), seed, loss=None, own_loss=loss, n_directions=n_directions)
    assert report.ok
    assert set(verdicts(report).values()) == {"cannot tell"}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("form", ["vjp", "gradient", "loss_and_gradient"])
@pytest.mark.parametrize("n_directions", [2, None])
def test_single_precision_inside_the_callables_is_no_fault(form, offset, seed, n_directions):
    """A cast to float32 in the model makes differences inexact; a large residual makes that worse."""

    def single(params, X):
        return {name: np.asarray(leaf, np.float32) for name, leaf in params.items()}, X.astype(np.float32)

    def narrow_forward(params, X):
        return forward(*single(params, X))

    def pulled(params, X, d):
        return adjoint(*single(params, X), np.asarray(d, np.float32))

    def gradient(params, X, y):
        return pulled(params, X, (narrow_forward(params, X) - y) / len(X))

    function = {
        "vjp": lambda params, X: (narrow_forward(params, X), lambda d: pulled(params, X, d)),
        "gradient": gradient,
        "loss_and_gradient": lambda params, X, y: (
            np.float32(0.5) * np.mean((narrow_forward(params, X) - y.astype(np.float32)) ** 2),
            gradient(params, X, y),
        ),
    }[form]
    report = report_of(form, function, seed, forward=narrow_forward, y=Y + offset, n_directions=n_directions)
    assert alarms(report) == []


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("offset", [1e6, 1e10, 1e14])
def test_a_large_constant_in_the_loss_is_no_fault(offset, seed):
    """Differences drown in rounding: cannot be told, or right where a complex step shows it."""

    def loss(params, X, y):
        return 0.5 * np.mean((forward(params, X) - y) ** 2) + offset

    assert report_of("gradient", form_of("gradient"), seed, loss=None, own_loss=loss).ok


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("n_directions", [2, None])
def test_a_loss_that_is_not_finite_is_no_fault(value, n_directions):
    """Then there is nothing to compare with: cannot be told."""
    report = report_of(
        "loss_and_gradient", lambda params, X, y: (value, {"W": np.ones(3)}), start={"W": np.ones(3)}, forward=None,
        n_directions=n_directions,
    )  # fmt: skip
    assert verdicts(report) == {"W": "cannot tell"}
    assert report.findings[0].cause == "not_finite"


def test_a_loss_that_is_finite_only_at_the_start_is_no_fault():
    """A start on the edge of what is allowed, such as a scale of 0."""

    def loss_and_gradient(params, X):
        return (0.0 if (params["W"] == 1).all() else np.inf), {"W": np.ones(3)}

    report = report_of("loss_and_gradient", loss_and_gradient, start={"W": np.ones(3)}, forward=None)
    assert verdicts(report) == {"W": "cannot tell"}


@EACH_FORM
def test_blocks_without_a_gradient_are_not_judged(form):
    """A leaf None, and a block that is fixed, have no finding; the others are right."""
    report = report_of(form, form_of(form, lambda leaves: leaves | {"S": None}))
    assert verdicts(report) == dict.fromkeys(["V", "w", "b"], "right")
    objective, theta = objective_of(form, form_of(form, lambda leaves: leaves | {"w": flip(leaves["w"])}))
    fixed = Objective(objective.model, objective.loss, theta.layout, fixed=["w"])
    report = examine(fixed, theta, Batch(X, {"y": Y}), n_directions=2, seed=0)
    assert verdicts(report) == dict.fromkeys(["V", "S", "b"], "right")


def test_blocks_without_numbers_are_not_judged():
    """An empty block has no derivative."""
    report = report_of(
        "vjp",
        lambda params, X: (X @ params["W"], lambda d: {"W": X.T @ d, "nothing": np.empty((0, 2))}),
        start={"W": np.ones(3), "nothing": np.empty((0, 2))},
        forward=None,
    )
    assert verdicts(report) == {"W": "right"}


def test_without_a_loss_nothing_is_checked():
    """`loss=None` with the gradient form: an empty report, which is ok and says so."""
    report = report_of("gradient", form_of("gradient", lambda leaves: {k: -v for k, v in leaves.items()}), loss=None)
    assert report.findings == ()
    assert report.ok


def test_rows_without_weight_teach_nothing():
    """A batch whose weights are all zero has no gradient: no findings."""
    assert report_of("gradient", form_of("gradient"), weight=np.zeros(N)).ok


def test_the_penalty_is_not_part_of_the_comparison():
    """It is the house's own; the user's gradient is that of the loss alone."""
    objective, theta = objective_of("gradient", form_of("gradient"))
    penalized = Objective(objective.model, objective.loss, theta.layout, alpha=10.0)
    report = examine(penalized, theta, Batch(X, {"y": Y}), n_directions=2, seed=0)
    assert verdicts(report) == dict.fromkeys(START, "right")


# ---- what the user has is left alone ----


@EACH_FORM
@pytest.mark.parametrize("change", [lambda leaves: leaves, lambda leaves: leaves | {"w": flip(leaves["w"])}])
def test_nothing_of_the_users_is_changed(form, change):
    """θ, rows, weights, gradients that are kept by the callable, and the position of the batch stay as they were."""
    kept = []

    def keeping(leaves):
        kept.append((leaves, copy.deepcopy(leaves)))
        return leaves

    objective, theta = objective_of(form, form_of(form, lambda leaves: keeping(change(leaves))))
    batch = Batch(X.copy(), {"y": Y.copy()}, np.ones(N), position=(1, 2, 3, 4))
    vector = theta.vector.copy()
    examine(objective, theta, batch, n_directions=2, seed=0)
    assert_array_equal(theta.vector, vector)
    assert theta.layout == objective.layout
    assert objective.layout.dtype == np.float64
    assert batch.position == (1, 2, 3, 4)
    assert_array_equal(batch.X, X)
    assert_array_equal(batch.y, Y)
    assert_array_equal(batch.sample_weight, 1)
    for ours, before in kept:
        for name in START:
            assert_array_equal(ours[name], before[name])


def test_an_estimator_is_not_changed():
    """Neither its parameters nor what it was fitted with; it need not be fitted at all."""
    estimator = AnalyticRegressor(forward, init=START, loss_and_gradient=form_of("loss_and_gradient"))
    before = dict(vars(estimator))
    assert check_gradient(estimator, X, Y, random_state=0).ok
    assert vars(estimator) == before
    fitted = AnalyticRegressor(optimizer="lbfgs").fit(X, Y)
    before, coef = dict(vars(fitted)), fitted.params_["coef"].copy()
    assert check_gradient(fitted, X, Y, random_state=0).ok
    assert vars(fitted) == before
    assert_array_equal(fitted.params_["coef"], coef)


def test_a_check_repeats_itself():
    """The same seed, the same numbers; global random numbers are not touched."""
    state = np.random.get_state()[1].copy()  # noqa: NPY002  it is the legacy one that must not move
    first, again, other = (str(report_of("gradient", form_of("gradient"), seed).to_dict()) for seed in (1, 1, 2))
    assert first == again != other
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


# ---- reports ----


@pytest.fixture(scope="module")
def wrong_report():
    return report_of("gradient", form_of("gradient", lambda leaves: leaves | {"S": transpose(leaves["S"])}))


def test_a_report_is_plain_data(wrong_report):
    """`to_dict` goes to JSON and back; a report pickles."""
    data = json.loads(json.dumps(wrong_report.to_dict()))
    assert data["ok"] is False
    assert [finding["block"] for finding in data["findings"]] == list(START)
    assert [finding["verdict"] for finding in data["findings"]] == ["right", "wrong", "right", "right"]
    assert data["findings"][1]["shape"] == [K, K]
    assert {"analytic", "numerical", "error", "relative_error"} <= data["findings"][0]["evidence"].keys()
    assert str(pickle.loads(pickle.dumps(wrong_report))) == str(wrong_report)


def test_a_printed_report_shows_what_is_wrong(wrong_report):
    """A line a block, the wrong one with its cause in words."""
    text = str(wrong_report)
    assert all(name in text for name in START)
    assert "WRONG" in text
    assert "(4, 4)" in text
    assert wrong_report.findings[1].explanation.split(".")[0] in " ".join(text.split())
    assert str(GradientReport())
    assert GradientReport().ok
    assert GradientReport().to_dict()["findings"] == []


def wrong_and_right(form="gradient"):
    return objective_of(form, form_of(form, lambda leaves: leaves | {"w": flip(leaves["w"])})), objective_of(
        form, form_of(form)
    )


def test_require_right_raises_with_the_report():
    """The error names the form and the block, holds the report, and says how to train all the same."""
    (objective, theta), right = wrong_and_right()
    batch = Batch(X, {"y": Y})
    with pytest.raises(GradientCheckError, match=r"^The analytic gradient \(gradient\) .* in parameter 'w'") as caught:
        require_right(objective, theta, batch, seed=0, advice="Note.")
    assert not caught.value.report.ok
    assert "To train anyway, set check_gradient='warn' or False." in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), GradientCheckError)
    assert isinstance(caught.value, ValueError)
    assert require_right(*right, batch, seed=0).ok
    with pytest.warns(UserWarning, match="is not the derivative of the loss in parameter 'w'"):
        assert not require_right(objective, theta, batch, seed=0, only_warn=True).ok


def test_a_fit_refuses_a_wrong_gradient():
    """Before the first step; "warn" warns, and False trains without a look."""
    wrong = form_of("gradient", lambda leaves: leaves | {"w": flip(leaves["w"])})
    given = {"forward": forward, "gradient": wrong, "init": START, "max_iter": 5, "tol": 10, "n_iter_no_change": 1}
    with pytest.raises(GradientCheckError, match="in parameter 'w'"):
        AnalyticRegressor(**given).fit(X, Y)
    with pytest.warns(UserWarning, match="in parameter 'w'"):
        assert not AnalyticRegressor(**given, check_gradient="warn").fit(X, Y).gradient_report_.ok
    AnalyticRegressor(**given, check_gradient=False).fit(X, Y)
    right = AnalyticRegressor(**(given | {"gradient": form_of("gradient")})).fit(X, Y)
    assert right.gradient_report_.ok


@pytest.mark.parametrize("role", ["forward", "gradient", "vjp"])
def test_an_exception_of_the_users_at_the_start_goes_on(role):
    """A callable that raises has no gradient to judge: its error is the message."""

    def raising(params, X):
        raise ZeroDivisionError("boom")

    given = {"forward": forward, "gradient": form_of("gradient"), "init": START} | {role: raising}
    if role == "vjp":
        del given["gradient"]
    with pytest.raises(ZeroDivisionError, match="boom") as caught:
        check_gradient(AnalyticRegressor(**given), X, Y)
    assert f"given as {role}" in caught.value.__notes__[0]


# ---- right gradients that differences of a fixed step cannot follow ----


@pytest.fixture
def quiet():
    """A loss in a rough place may overflow beside it."""
    with np.errstate(all="ignore"):
        yield


def quick_report(loss, gradient, params, seed, rows=None):
    """The report of the check before a fit."""
    columns = {} if rows is None else {"X": rows}
    objective, theta, batch = of_callables(loss, gradient, params, columns.get("X"), None, None, {})
    return examine(objective, theta, batch, seed=seed)


def only_real(loss):
    """A loss that refuses complex numbers, so that no complex step can speak for the gradient."""

    def of_floats(params):
        leaves = params.values() if isinstance(params, dict) else [params]
        if any(map(np.iscomplexobj, leaves)):
            raise TypeError
        return loss(params)

    return of_floats


@pytest.mark.parametrize("name", RIGHT)
def test_the_gradients_of_the_zoo_are_right(name, quiet):
    """By a complex step in the loss, or in the smooth branch that the parameters lie on."""
    case = RIGHT[name]
    params = case.params if isinstance(case.params, dict) else {"": np.asarray(case.params, float)}
    whole = case.params if isinstance(case.params, dict) else params[""]
    true, ours = derivative(case.truth, whole), case.gradient(whole)
    for block in params:
        a, b = (true[block], ours[block]) if block else (true, ours)
        assert_allclose(b, a, rtol=0, atol=case.accuracy * (np.abs(a).max() or 1))


def test_the_zoo_of_right_gradients_is_as_large_as_it_should_be():
    """At least 80, of eight kinds."""
    assert len(RIGHT) >= 80


@pytest.mark.parametrize("prepare", [lambda loss: loss, only_real], ids=["as it is", "real only"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_of_the_zoo_raises_no_alarm(name, prepare, quiet):
    """Neither in `check_gradient` nor before a fit, whatever the seed."""
    case = RIGHT[name]
    loss = prepare(case.loss)
    for seed in range(3):
        report = check_gradient(loss=loss, gradient=case.gradient, params=case.params, random_state=seed)
        assert report.ok, f"{seed}: {report}"
        quick = quick_report(loss, case.gradient, case.params, seed)
        assert quick.ok, f"{seed}: {quick}"


PLAINLY_RIGHT = ["sine of 1e6 p", "ripple of wave number 1e6 on a parabola", "frequencies of 1 to 1e6 in one block"]
PLAINLY_RIGHT += ["negative binomial of size 1e3", "von Mises of concentration 1e+06", "log-sum-exp at 1e6"]
PLAINLY_RIGHT += ["cosines of scales over 1e12", "normal likelihood of mean 1e+06 and deviation 1e-03 in one array"]
PLAINLY_RIGHT += [
    "rational function 1e-07 beside its pole",
    "logarithm beside zero",
    "logistic growth",
    "Arrhenius law",
]


@pytest.mark.parametrize("name", PLAINLY_RIGHT)
def test_what_can_be_followed_is_right_and_not_only_no_alarm(name, quiet):
    """Steps adapt to the scale of each entry, down to what rounding allows."""
    case = RIGHT[name]
    for seed in range(3):
        report = check_gradient(
            loss=only_real(case.loss), gradient=case.gradient, params=case.params, random_state=seed
        )
        assert set(verdicts(report).values()) == {"right"}, str(report)


def changed(gradient, change):
    """A gradient with a change of its first block."""

    def wrong(params):
        full = gradient(params)
        if not isinstance(full, dict):
            return change(np.array(full, float))
        first = next(iter(full))
        return full | {first: change(np.array(full[first], float))}

    return wrong


# Where even a flipped sign drowns in rounding or noise, or is one of two slopes at a kink.
UNDECIDABLE = ("rectifiers at zero", "beside a constant of 1e+15", "scores of size 1e6", "rounded to 1 ", "1e-02")
DECIDABLE = [name for name in RIGHT if not any(part in name for part in UNDECIDABLE)]


@pytest.mark.parametrize("change", [flip, double, drop])
@pytest.mark.parametrize("name", [n for n in DECIDABLE if "rounded to" not in n and "float16" not in n])
def test_a_plain_fault_is_found_where_differences_are_hard(name, change, quiet, monkeypatch):
    """A sign, a factor or a block left at zero, in the same losses: checked in full, one seed of two is enough."""
    if change is drop and name == "negative binomial of size 1e7":
        pytest.skip("its derivative is as small as its rounding")
    monkeypatch.setattr("sk_analytic.gradient_check.check.Diagnoses", NoDiagnosis)
    case = RIGHT[name]
    gradient = changed(case.gradient, change)
    reports = [
        check_gradient(loss=case.loss, gradient=gradient, params=case.params, random_state=seed) for seed in range(2)
    ]
    assert not all(report.ok for report in reports), "\n".join(map(str, reports))


class NoDiagnosis:
    """Instead of the diagnosis, which is another matter than the verdict."""

    def __init__(self, *args):
        pass

    def findings(self):
        return {}


@pytest.mark.parametrize("change", [flip, double])
@pytest.mark.parametrize(
    "name",
    ["loss rounded to 2 decimals", "float16 in the loss", "float16 in the gradient", "loss with noise of 1e-07"]
    + ["loss and gradient with noise of 1e-7", "loss and gradient with noise of 1e-7 from a generator"]
    + ["float32 in both, at a loss of 1e4"],
)
def test_noise_hides_no_flipped_sign_and_no_factor(name, change, quiet, monkeypatch):
    """Steps as large as the noise asks tell those, if a factor and a sign is all that they need to tell."""
    monkeypatch.setattr("sk_analytic.gradient_check.check.Diagnoses", NoDiagnosis)
    case = RIGHT[name]
    for seed in range(3):
        report = check_gradient(
            loss=case.loss, gradient=changed(case.gradient, change), params=case.params, random_state=seed
        )
        assert not report.ok, f"{seed}: {report}"


# ---- faults that are small or rare ----


@EACH_FORM
@pytest.mark.parametrize("block", START)
@pytest.mark.parametrize("n_directions", [2, None], ids=["block by block", "all at once"])
def test_one_percent_in_one_block_is_found(form, block, n_directions):
    """Whatever the seed."""
    function = form_of(form, lambda leaves: leaves | {block: 1.01 * leaves[block]})
    for seed in range(5):
        report = report_of(form, function, seed, n_directions=n_directions)
        assert report.wrong == (block,)


@pytest.mark.parametrize("check", ["full", "before a fit"])
def test_ten_percent_in_one_entry_of_ten_thousand_is_found(check, monkeypatch):
    """No entry of a direction is close to zero, so none escapes by chance."""
    monkeypatch.setattr("sk_analytic.gradient_check.check.Diagnoses", NoDiagnosis)
    rng = np.random.default_rng(0)
    target, start, place = rng.normal(size=(100, 100)), rng.normal(size=(100, 100)), (17, 42)

    def gradient(W):
        full = np.sinh(W - target)
        full[place] *= 1.1
        return full

    def loss(W):
        return np.cosh(W - target).sum()

    for seed in range(20):
        if check == "full":
            report = check_gradient(loss=loss, gradient=gradient, params=start, random_state=seed)
        else:
            report = quick_report(loss, gradient, start, seed)
        assert report.wrong == ("params",), f"{seed}: {report}"


@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
@pytest.mark.parametrize("check", ["full", "before a fit"])
def test_a_small_entry_beside_huge_ones_is_found(size, check):
    """Of a small scale, or of a small slope: it is stepped, and compared, by its own."""
    scales = np.array([size, 1.0, 1 / size])

    def halved(gradient, place):
        def wrong(p):
            full = gradient(p)
            full[place] /= 2
            return full

        return wrong

    cases = [
        (lambda p: np.cosh(p / scales).sum(), lambda p: np.sinh(p / scales) / scales, 0.7 * scales),
        (lambda p: (scales**0.5 * np.cosh(p)).sum(), lambda p: scales**0.5 * np.sinh(p), np.array([0.7, -1.1, 0.9])),
    ]
    for loss, gradient, params in cases[: 2 if size < 1e9 else 1]:  # there, the second is lost in the loss's rounding
        for place in range(3):
            for seed in range(3):
                wrong = halved(gradient, place)
                if check == "full":
                    report = check_gradient(loss=loss, gradient=wrong, params=params, random_state=seed)
                else:
                    report = quick_report(loss, wrong, params, seed)
                assert report.wrong == ("params",), f"{place}, {seed}: {report}"


@pytest.mark.parametrize("form", ["gradient", "loss_and_gradient"])
@pytest.mark.parametrize("n_directions", [2, None])
def test_division_by_a_constant_number_of_rows_is_found(form, n_directions):
    """Right in batches of one size only: the check looks at another size as well."""

    def gradient(params, X, y):
        return adjoint(params, X, (forward(params, X) - y) / N)

    def loss_and_gradient(params, X, y):
        return 0.5 * np.mean((forward(params, X) - y) ** 2), gradient(params, X, y)

    function = {"gradient": gradient, "loss_and_gradient": loss_and_gradient}[form]
    assert set(report_of(form, function, n_directions=n_directions).wrong) == set(START)


def test_a_model_for_a_fixed_number_of_rows_is_checked_on_those():
    """One with a parameter for each row, say, which has no smaller batch."""
    start = {"w": np.ones(3), "offset": RNG.normal(size=N)}

    def vjp(params, X):
        return X @ params["w"] + params["offset"], lambda d: {"w": X.T @ d, "offset": d}

    assert verdicts(report_of("vjp", vjp, start=start, forward=None)) == dict.fromkeys(start, "right")


def test_a_gradient_rounded_to_decimals_is_in_no_low_precision():
    """Only numbers with the spacing of a dtype are said to be computed in it; decimals are a fault."""
    rounded = form_of("gradient", lambda leaves: {name: np.round(leaf, 2) for name, leaf in leaves.items()})
    report = report_of("gradient", rounded)
    assert {finding.block for finding in report.findings if finding.cause == "low_precision"} == set()
    assert "V" in report.wrong
    half = form_of("gradient", lambda leaves: {k: np.float16(v).astype(float) for k, v in leaves.items()})
    finding = report_of("gradient", half).findings[0]
    assert (finding.verdict, finding.cause) == ("cannot tell", "low_precision")
    assert "as if computed in float16" in finding.explanation


@EACH_FORM
def test_a_right_gradient_costs_between_15_and_29_evaluations(form):
    """Before a fit; more are made only if something disagrees."""
    for seed in range(10):
        report = report_of(form, form_of(form), seed, n_directions=None)
        assert 10 <= report.n_evaluations <= QUICK


# ---- gradients that draw from `rng` ----


def dropout(params, X, y, rng):
    kept = X * (rng.random(X.shape) < 0.5)
    residual = kept @ params["W"] + params["b"] - y
    return 0.5 * np.mean(residual**2), {"W": kept.T @ residual / len(X), "b": residual.mean()}


@SEEDS
@pytest.mark.parametrize("n_directions", [2, None])
def test_loss_and_gradient_of_one_draw_are_checked_as_ever(seed, n_directions):
    """A flipped sign, or a factor, is wrong there as well."""
    start = {"W": np.array([0.5, -1.0, 2.0]), "b": 0.1}
    report = report_of("loss_and_gradient", dropout, seed, start=start, forward=None, n_directions=n_directions)
    assert verdicts(report) == {"W": "right", "b": "right"}

    def flipped(params, X, y, rng):
        loss, gradient = dropout(params, X, y, rng)
        return loss, gradient | {"W": -gradient["W"]}

    report = report_of("loss_and_gradient", flipped, seed, start=start, forward=None, n_directions=n_directions)
    assert verdicts(report) == {"W": "wrong", "b": "right"}


@SEEDS
def test_blocks_without_chance_are_checked_beside_random_ones(seed):
    """The loss knows nothing of `rng`: only what the gradient draws cannot be told."""

    def gradient(params, X, y, rng):
        full = form_of("gradient")(params, X, y)
        return full | {"V": full["V"] + rng.normal(size=full["V"].shape), "w": -full["w"]}

    expected = dict.fromkeys(START, "right") | {"V": "cannot tell", "w": "wrong"}
    assert verdicts(report_of("gradient", gradient, seed)) == expected


def test_a_fit_says_if_nothing_could_be_checked():
    """One warning, if the gradient is an estimate in every block; none otherwise."""

    def estimate(params, X, y, rng):
        rows = rng.integers(0, len(X), len(X) // 2)
        return linear_gradient(params, X[rows], y[rows])

    model = linear_model().set_params(gradient=estimate)
    with pytest.warns(UserWarning, match=r"could not be checked in any block\. The gradient is random"):
        model.fit(X, Y)
    assert [finding.cause for finding in model.gradient_report_.findings] == ["not_deterministic"]
    model.set_params(gradient=linear_gradient).fit(X, Y)


# ---- which rows, and when ----


def linear(params, X):
    return X @ params["w"]


def linear_gradient(params, X, y):
    return {"w": X.T @ (X @ params["w"] - y) / len(X)}


def wrong_for(rows_of):
    """A gradient with a flipped sign for some rows."""

    def gradient(params, X, y):
        residual = X @ params["w"] - y
        return {"w": X.T @ np.where(rows_of(X, y), -residual, residual) / len(X)}

    return gradient


@pytest.mark.parametrize("batch_size", ["auto", 100])
@pytest.mark.parametrize("seed", range(5))
def test_a_fault_in_a_rare_class_is_found(batch_size, seed):
    """One row in a thousand, at random among them; and an extreme of a column."""
    rng = np.random.default_rng(seed)
    many = rng.normal(size=(2000, 3))
    y = rng.integers(0, 3, 2000).astype(float)
    y[rng.choice(2000, 2, replace=False)] = 7
    optimizer = "lbfgs" if batch_size == "auto" else "adam"
    settings = {"optimizer": optimizer, "batch_size": batch_size, "max_iter": 1, "random_state": seed}
    for fault in (wrong_for(lambda X, y: y == 7), wrong_for(lambda X, y: X[:, 1] >= many[:, 1].max())):
        with pytest.raises(GradientCheckError, match="in parameter 'w'"):
            AnalyticRegressor(linear, fault, {"w": np.ones(3)}, **settings).fit(many, y)


def test_rows_to_check_are_of_every_class_with_the_extremes():
    """And drawn from those with a weight, of which there are as many as asked for."""
    rng = np.random.default_rng(0)
    many = rng.normal(size=(5000, 4))
    y = rng.integers(0, 5, 5000)
    y[[17, 4000]] = 9
    eligible = np.setdiff1d(np.arange(5000), [17])
    for matrix in (many, csr_array(many), csr_matrix(many)):
        rows = telling_rows(matrix, {"y": y}, eligible, 50, np.random.default_rng(1))
        assert len(rows) == len(set(rows)) == 50
        assert set(rows) <= set(eligible)
        assert set(y[rows]) == {0, 1, 2, 3, 4, 9}
        assert np.abs(many[rows]).max(axis=0) == pytest.approx(np.abs(many[eligible]).max(axis=0))
    rows = telling_rows(many, {"y": many[:, 0]}, eligible, 50, np.random.default_rng(1))
    assert {many[rows].min(), many[rows].max()} == {many[eligible].min(), many[eligible].max()}
    assert_array_equal(telling_rows(many, {}, eligible[:30], 50, rng), eligible[:30])
    wide = rng.normal(size=(60, 4000))
    assert len(telling_rows(wide, {}, np.arange(60), 50, rng)) == 50
    assert len(telling_rows(np.zeros((60, 0)), {}, np.arange(60), 50, rng)) == 50


def test_a_redefined_helper_is_noticed():
    """A gradient is checked in every fit: what it calls, or a global that it uses, may have changed."""
    helpers = {"sign": 1}
    model = linear_model().set_params(
        gradient=lambda params, X, y: {"w": helpers["sign"] * linear_gradient(params, X, y)["w"]}
    )
    clone(model).fit(X, Y)
    helpers["sign"] = -1
    with pytest.raises(GradientCheckError, match="in parameter 'w'"):
        clone(model).fit(X, Y)


def flipped_gradient(params, X, y):
    return {"w": -linear_gradient(params, X, y)["w"]}


def linear_model(**settings):
    settings = {"max_iter": 5, "tol": 10, "n_iter_no_change": 1, "random_state": 0} | settings
    return AnalyticRegressor(linear, linear_gradient, {"w": np.ones(3)}, **settings)


@pytest.mark.parametrize("way", ["fit", "partial_fit", "fit_chunks"])
def test_a_gradient_that_is_set_later_is_checked_like_a_first_one(way):
    """Before a warm fit goes on; the last parameters are kept, and the same functions are not checked again."""

    def go_on(model):
        return model.fit_chunks([(X, Y)]) if way == "fit_chunks" else getattr(model, way)(X, Y)

    calls = []

    def counting(params, X, y):
        calls.append(1)
        return linear_gradient(params, X, y)

    model = go_on(linear_model(warm_start=True))
    kept = model.params_["w"].copy()
    with pytest.raises(GradientCheckError, match="in parameter 'w'"):
        go_on(model.set_params(gradient=flipped_gradient))
    assert_array_equal(model.params_["w"], kept)
    with pytest.warns(UserWarning, match="in parameter 'w'"):
        assert not go_on(model.set_params(check_gradient="warn")).gradient_report_.ok
    go_on(model.set_params(gradient=counting, check_gradient=True))
    first = len(calls)
    go_on(model)
    assert len(calls) - first < first
    with pytest.raises(GradientCheckError, match="in parameter 'w'"):
        go_on(model.set_params(loss="absolute_error"))


@pytest.mark.parametrize("nothing", ["weights", "zeros"])
def test_a_first_chunk_that_tells_nothing_is_not_the_one_to_check_on(nothing):
    """One whose weights, or whose features, are all zero: the next that tells something is."""

    def weighted(params, X, y, sample_weight):
        return {"w": -X.T @ (sample_weight * (X @ params["w"] - y)) / len(X)}

    rows = [(0 * X, Y, np.ones(N)) if nothing == "zeros" else (X, Y, np.zeros(N)), (X, Y, np.ones(N))]
    wrong = linear_model().set_params(gradient=weighted)
    for chunks in (rows, [lambda part=part: part for part in rows], lambda: iter(rows)):
        with pytest.raises(GradientCheckError, match="in parameter 'w'"):
            clone(wrong).fit_chunks(chunks)
    if nothing == "zeros":  # weights of zero are refused in a first call
        model = clone(wrong).partial_fit(*rows[0])
        with pytest.raises(GradientCheckError, match="in parameter 'w'"):
            model.partial_fit(*rows[1])


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("batch_size", [10, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256])
def test_a_batch_size_in_the_gradient_is_found(batch_size, optimizer):
    """Whatever usual one it is: what is checked has another number of rows."""
    X = np.random.default_rng(0).normal(size=(1000, 3))

    def loss_and_gradient(params, X, y):
        error = X @ params["w"] - y
        return 0.5 * np.mean(error**2), {"w": X.T @ error / batch_size}

    model = AnalyticRegressor(
        lambda params, X: X @ params["w"],
        loss_and_gradient=loss_and_gradient,
        init={"w": np.zeros(3)},
        optimizer=optimizer,
        batch_size=40,
    )
    with pytest.raises(GradientCheckError, match=rf"sum over the samples divided by {batch_size}, whatever"):
        model.fit(X, X @ [1.0, 2.0, 3.0])
