"""The gradient doctor's verdicts: right gradients pass, faults are found in their block and only there, doubts pass."""

import copy
import json
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sk_analytic import AnalyticDensity, AnalyticRegressor, AnalyticTransformer, GradientReport, check_gradient
from sk_analytic.data.batch import Batch
from sk_analytic.exceptions import GradientCheckError
from sk_analytic.gradient_check import examine, require_right
from sk_analytic.losses import LogLoss, get_loss, get_loss_names
from sk_analytic.model.callables import Model
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
    model = Model(forward=forward, forms={form: function}, loss=own_loss, columns=("y",))
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
    penalised = Objective(objective.model, objective.loss, theta.layout, alpha=10.0)
    report = examine(penalised, theta, Batch(X, {"y": Y}), n_directions=2, seed=0)
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
    with pytest.raises(
        GradientCheckError, match=r"^Note. The analytic gradient \(gradient\) .* in block 'w'"
    ) as caught:
        require_right(objective, theta, batch, seed=0, preface="Note. ")
    assert not caught.value.report.ok
    assert "check_gradient='warn' or False trains all the same." in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), GradientCheckError)
    assert isinstance(caught.value, ValueError)
    assert require_right(*right, batch, seed=0).ok
    with pytest.warns(UserWarning, match="is not the derivative of the loss in block 'w'"):
        assert not require_right(objective, theta, batch, seed=0, only_warn=True).ok


def test_a_fit_refuses_a_wrong_gradient():
    """Before the first step; "warn" warns, and False trains without a look."""
    wrong = form_of("gradient", lambda leaves: leaves | {"w": flip(leaves["w"])})
    given = {"forward": forward, "gradient": wrong, "init": START, "max_iter": 5, "tol": 10, "n_iter_no_change": 1}
    with pytest.raises(GradientCheckError, match="in block 'w'"):
        AnalyticRegressor(**given).fit(X, Y)
    with pytest.warns(UserWarning, match="in block 'w'"):
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
