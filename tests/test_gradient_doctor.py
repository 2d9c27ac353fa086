"""The gradient doctor: what it says of faults and of right gradients, in which forms, at what cost."""

import json
import pickle
import re
import subprocess
import sys
import warnings
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from gradient_zoo.healthy import HEALTHY
from gradient_zoo.patients import Curve, Gaussian, Hidden, Nade, Poisson, Relu, Softmax
from gradient_zoo.registry import FAULTS
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sk_analytic import (
    AnalyticClassifier,
    AnalyticDensity,
    AnalyticRegressor,
    DivergenceError,
    GradientCheckError,
    check_gradient,
)
from sk_analytic.gradient_check import Cause, check, compare_entries, diagnose, examine, faults
from sk_analytic.gradient_check.check import of_callables
from sk_analytic.gradient_check.evidence import Way
from sk_analytic.gradient_check.hypotheses import Doubt, Hypothesis

ROOT = Path(__file__).parents[1]
SAYS_SIGN = r"(?s)analytic gradient is wrong.*sign is flipped"
DOUBTS = {name for name, cause in Cause.table.items() if issubclass(cause, Doubt)}
UNNAMED = {"nade_logistic_derivative_missing"}  # wrong, found in its blocks, and honestly not explained
SMALL = {"hazards_rounded_to_two_decimals", "softmax_rounded_to_four_decimals"}  # faults of a few in 10,000


def quick_report(seed=0, **arguments):
    """The report of the check before a fit."""
    if "estimator" in arguments:
        estimator = arguments.pop("estimator")
        columns = {name: arguments.pop(name, None) for name in ("X", "y", "sample_weight")}
        prepared = estimator._prepare_check(*columns.values(), random_state=seed, metadata=arguments)
        objective, theta, batch, seed = prepared
    else:
        names = ("loss", "gradient", "params", "X", "y", "sample_weight")
        objective, theta, batch = of_callables(*(arguments.get(name) for name in names), metadata={})
    return examine(objective, theta, batch, seed=seed)


@cache
def report_on(name):
    """The report on a planted fault."""
    return check_gradient(**FAULTS[name].plant(), random_state=0)


def module_of(path):
    """The module that a file outside the package holds."""
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The zoo of faults.


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """A hypothesis that fails with an error is an error here; in a user's fit it is noted and passed over."""
    monkeypatch.setattr(diagnose, "STRICT", True)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_in_its_blocks_and_named(name):
    """Exactly the faulty blocks are wrong (or doubted for the reason planted), and the cause is the one planted."""
    fault, report = FAULTS[name], report_on(name)
    planted_doubts = fault.causes & DOUBTS
    found = {f.block for f in report.findings if f.verdict == "wrong" or f.cause in planted_doubts}
    assert found == fault.blocks
    causes = {f.block: f.cause for f in report.findings if f.block in fault.blocks}
    if name not in UNNAMED:
        assert set(causes.values()) <= fault.causes, causes
    explanations = [f.explanation for f in report.findings if f.block in fault.blocks]
    assert all(explanations)
    assert any(fault.says in explanation for explanation in explanations), explanations


def test_the_zoo_is_as_large_as_it_should_be():
    """160 faults in 20 models, a third by Jacobian or vjp, a third with weights or outputs; nearly all named."""
    faults = FAULTS.values()
    assert len(faults) >= 160
    assert len({fault.model for fault in faults}) >= 20
    assert 3 * sum(fault.form in {"vjp", "jacobian"} for fault in faults) >= len(faults)
    assert 3 * sum(fault.has_weights_or_outputs for fault in faults) >= len(faults)
    assert len(UNNAMED) <= 0.01 * len(faults)
    assert len(HEALTHY) >= 20


def test_every_fault_of_the_table_is_planted_and_wins_in_two_models():
    """A cause that names nothing in the zoo would be one that nobody knows to be right."""
    won = {(f.cause, fault.model) for name, fault in FAULTS.items() for f in report_on(name).findings}
    for name in (name for name, cause in Cause.table.items() if cause.verdict == "wrong"):
        planted = {fault.model for fault in FAULTS.values() if name in fault.causes}
        assert len(planted) >= 2, name
        assert len({model for cause, model in won if cause == name}) >= 2, name


@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if not f.causes & DOUBTS and n not in SMALL])
def test_the_check_before_a_fit_finds_the_same_blocks(name, monkeypatch):
    """Looking at all blocks at once misses no fault and blames no right block, whatever the seed."""
    monkeypatch.setattr(check.Diagnoses, "findings", lambda self: {})  # the verdicts alone are compared
    fault = FAULTS[name]
    report = quick_report(seed=3, **fault.plant())
    assert set(report.wrong) == fault.blocks


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", HEALTHY)
def test_a_right_gradient_raises_no_alarm(name, seed):
    """Neither the full check nor the one before a fit calls a right gradient wrong."""
    if name == "a_million_parameters" and seed:
        pytest.skip("once is enough for what is only large")
    report = check_gradient(**HEALTHY[name](), random_state=seed)
    assert report.ok, str(report)
    quick = quick_report(seed=seed, **HEALTHY[name]())
    assert quick.ok, str(quick)


def test_an_approximation_is_no_fault():
    """One in a thousand that no fault explains is not called wrong: here the loss is discretized, the gradient not."""
    steps = 2000

    def loss(x):
        t = (np.arange(steps) + 0.0) / steps  # a left rectangle rule
        return float(np.sum(np.exp(np.outer(t, x) / 2)) / steps)

    def gradient(x):
        return np.exp(x / 2) / x - 2 * (np.exp(x / 2) - 1) / x**2

    report = check_gradient(loss=loss, gradient=gradient, params=np.array([0.5, 4.0, 2.0]), random_state=0)
    assert report.ok, str(report)


def test_several_faults_are_told_apart_by_block():
    """Each block gets its own diagnosis."""

    def gradient(params, X, y):
        g = Hidden.gradient(params, X, y)
        return {"W1": -g["W1"], "b1": 0 * g["b1"], "W2": 2 * g["W2"], "b2": g["b2"]}

    model = AnalyticRegressor(Hidden.forward, gradient, Hidden.params)
    report = check_gradient(model, Hidden.X, Hidden.y, random_state=0)
    assert [f.cause for f in report.findings] == ["sign", "left_at_zero", "factor", None]
    assert report.findings[2].evidence["factor"] == pytest.approx(2, rel=1e-6)


def test_no_explanation_is_claimed_where_none_fits():
    """A gradient of noise is wrong and unexplained, and the report describes the pattern."""
    noise = np.random.default_rng(0).normal(size=(5, 3))
    model = AnalyticClassifier(
        Softmax.forward,
        lambda params, X, y: {**Softmax.gradient(params, X, y), "W": noise * np.sum(params["W"] ** 2) * np.sum(X**3)},
        Softmax.params,
    )
    finding = check_gradient(model, Softmax.X, Softmax.y, random_state=0).findings[0]
    assert (finding.verdict, finding.cause) == ("wrong", "unexplained")
    assert "Analytic over numerical" in finding.explanation


# Plain functions.


def test_functions_of_theta_alone_need_no_lambda():
    """scipy's fun and jac are taken as they are, over a flat array; lambdas with X as well."""
    from scipy.optimize import rosen, rosen_der

    start = np.array([0.5, 1.2, 0.8])
    assert check_gradient(loss=rosen, gradient=rosen_der, params=start, random_state=0).ok
    report = check_gradient(
        loss=lambda params, X: rosen(params),
        gradient=lambda params, X: -rosen_der(params),
        params=start,
        random_state=0,
    )
    assert [(f.block, f.cause) for f in report.findings] == [("params", "sign")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": np.sum}, "gradient and params are missing"),
        ({"loss": np.sum, "gradient": np.cos}, "params is missing"),
        ({"estimator": AnalyticRegressor(), "loss": np.sum}, "not both"),
        ({"loss": 1, "gradient": np.cos, "params": np.ones(2)}, "loss must be callable"),
    ],
)
def test_what_is_missing_is_said(arguments, message):
    """An incomplete call names what it lacks."""
    with pytest.raises(TypeError, match=message):
        check_gradient(**arguments)


def test_blocks_can_be_chosen():
    """Only the blocks named are looked at; an unknown one is an error."""
    arguments = {"estimator": AnalyticRegressor(Hidden.forward, Hidden.gradient, Hidden.params), "X": Hidden.X}
    report = check_gradient(**arguments, y=Hidden.y, blocks=["b1", "W2"], random_state=0)
    assert [f.block for f in report.findings] == ["b1", "W2"]
    with pytest.raises(ValueError, match="'b3', which does not exist"):
        check_gradient(**arguments, y=Hidden.y, blocks="b3")


@pytest.mark.parametrize("n_directions", [0, -1, 1.5])
def test_a_direction_is_needed(n_directions):
    """Fewer than one, or half a direction, is refused by name."""
    with pytest.raises(ValueError, match="n_directions must be a whole number"):
        check_gradient(loss=lambda x: x @ x, gradient=lambda x: 2 * x, params=np.ones(2), n_directions=n_directions)


def test_without_a_loss_there_is_nothing_to_compare():
    """A gradient without any loss gives an empty report, and that is no alarm."""
    model = AnalyticRegressor(Hidden.forward, Hidden.gradient, Hidden.params, loss=None)
    report = check_gradient(model, Hidden.X, Hidden.y)
    assert report.ok
    assert not report.findings
    assert str(report).startswith("Nothing was checked: there is no loss to compare with")


def test_an_exception_of_a_callable_goes_on_unchanged():
    """An error in the user's own code is not swallowed by the check."""

    def gradient(x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        check_gradient(loss=np.sum, gradient=gradient, params=np.ones(2))


# Nothing of the user's is modified.


def test_nothing_of_the_users_is_modified():
    """Arrays, parameters and the estimator are as they were, even when a callable writes to what it gets."""

    def gradient(params, X, y):
        params["W1"] *= 2
        X += 1
        y -= 1
        return Hidden.gradient(params, X, y)

    X, y = Hidden.X.copy(), Hidden.y.copy()
    params = {k: np.array(v) for k, v in Hidden.params.items()}
    model = AnalyticRegressor(Hidden.forward, gradient, params)
    before = pickle.dumps((X, y, params, {k: v for k, v in model.get_params().items() if not callable(v)}))
    report = check_gradient(model, X, y, random_state=0)
    assert {f.block for f in report.findings if f.cause == "modified_in_place"} == {"X", "y", "W1"}
    assert pickle.dumps((X, y, params, {k: v for k, v in model.get_params().items() if not callable(v)})) == before
    assert set(vars(model)) == set(vars(clone(model)))


@pytest.mark.parametrize("role", ["forward", "gradient"])
def test_writing_in_place_is_named_before_a_fit(role):
    """Training hands over read-only arrays; who writes to them is told so by name, not by NumPy's message."""
    callables = {"forward": Hidden.forward, "gradient": Hidden.gradient}
    right = callables[role]

    def writing(params, X, y=None):
        X -= X.mean(axis=0)
        return right(params, X) if role == "forward" else right(params, X, y)

    def forward(params, X):
        return writing(params, X)

    callables[role] = forward if role == "forward" else writing
    model = AnalyticRegressor(init=Hidden.params, **callables)
    with pytest.raises(GradientCheckError, match=r"writes to X in place \(200 of 200 values changed\)"):
        model.fit(Hidden.X, Hidden.y)


# The report.


@pytest.fixture
def faulty_report():
    """A report with a right block and a wrong one."""
    return check_gradient(**FAULTS["softmax_sign_of_weights"].plant(), random_state=0)


def test_the_report_reads_well_in_a_terminal(faulty_report):
    """One aligned line a block; under a wrong one the explanation, indented, with the cause's identifier."""
    lines = str(faulty_report).splitlines()
    assert re.fullmatch(r"W   \(5, 3\)   WRONG   relative error [\d.]+", lines[0])
    assert lines[1].startswith("    The sign is flipped")
    assert "[sign]" in str(faulty_report)
    assert re.fullmatch(r"b   \(3,\)     right   \d?e?-?\d+", lines[-1])
    assert all(len(line) <= 110 for line in lines)


def test_the_report_is_plain_data(faulty_report):
    """The dict goes through JSON and says what the report says."""
    data = json.loads(json.dumps(faulty_report.to_dict()))
    assert data["ok"] is False
    assert [f["cause"] for f in data["findings"]] == ["sign", None]
    assert data["n_evaluations"] == faulty_report.n_evaluations
    assert pickle.loads(pickle.dumps(faulty_report)) == faulty_report


def test_the_report_is_a_table_in_a_notebook(faulty_report):
    """HTML with a row a block, and the names escaped."""
    html = faulty_report._repr_html_()
    assert html.count("<tr>") == 3
    assert "<code>sign</code>" in html
    report = check_gradient(
        loss=lambda p: float(np.sum(p["<b>"] ** 2)), gradient=lambda p: {"<b>": p["<b>"]}, params={"<b>": np.ones(3)}
    )
    assert "&lt;b&gt;" in report._repr_html_()


def test_every_kind_of_finding_survives_json():
    """Evidence with infinities, arrays and masks becomes plain data."""
    for name in ("overflow_of_an_exponential", "relu_mask_missing", "scipy_one_entry_wrong", "leaky_slope_forgotten"):
        json.dumps(check_gradient(**FAULTS[name].plant(), random_state=0).to_dict(), allow_nan=False)


def test_every_cause_is_in_the_docs_and_no_other():
    """The tables that the documentation includes have every identifier once, in the table of its verdict."""
    page = (ROOT / "docs" / "gradient_causes.rst").read_text("utf-8")
    assert re.findall(r"^\.\. include:: generated/(\w+)\.inc$", page, re.MULTILINE) == ["faults", "doubts", "remarks"]
    tables = module_of(ROOT / "docs" / "_extensions" / "tables.py")
    for verdict in ("wrong", "cannot tell", "right"):
        documented = re.findall(r"^   \* - ``(\w+)``$", tables.table_of_causes(verdict), re.MULTILINE)
        assert sorted(documented) == sorted(name for name, cause in Cause.table.items() if cause.verdict == verdict)


def test_every_cause_says_what_it_means():
    """A cause has an identifier, a meaning for the docs and a template; a hypothesis is one class and no other line."""
    for name, cause in Cause.table.items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert cause.meaning.endswith(".")
        assert cause.template
    assert all(issubclass(hypothesis, Cause) for hypothesis in Hypothesis.all_of_them)


def test_every_file_of_faults_is_found():
    """A new one is in the table as soon as it is in the folder, without a line elsewhere."""
    folder = Path(faults.__file__).parent
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert len(names) >= 8
    assert all(f"{faults.__name__}.{name}" in sys.modules for name in names)


def test_a_new_hypothesis_is_its_class_and_no_other_line():
    """Defining the class is enough for it to be tested, to be reported and to be in the documentation's table."""

    class Sevenfold(Hypothesis):
        identifier = "sevenfold"
        meaning = "It is seven times the derivative."
        template = "Seven times ({agreement:.1g})."
        rank = -5

        def ways(self, case):
            yield Way({}, case.repaired(lambda s: case.analytic(s) / 7))

    try:
        report = check_gradient(
            loss=lambda x: float(x @ x), gradient=lambda x: 14 * x, params=np.ones(3), random_state=0
        )
        assert report.findings[0].cause == "sevenfold"
        tables = module_of(ROOT / "docs" / "_extensions" / "tables.py")
        assert "It is seven times the derivative." in tables.table_of_causes("wrong")
    finally:
        Hypothesis.all_of_them.remove(Sevenfold)
        del Cause.table["sevenfold"]


# The picture.


def test_the_picture_shows_every_block():
    """Two panels a block: the identity line with all entries, the errors in the block's shape."""
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    from sk_analytic.plotting import GradientCheckDisplay

    plant = FAULTS["softmax_first_feature_skipped"].plant()
    display = GradientCheckDisplay.from_estimator(plant["estimator"], plant["X"], plant["y"], random_state=0)
    assert display.axes_.shape == (2, 2)
    weights = display.entries[0]
    assert weights.numerical.shape == (5, 3)
    np.testing.assert_array_equal(weights.relative_error[0], 1)
    assert weights.relative_error[1:].max() < 1e-6
    assert display.axes_[0, 1].images[0].get_array().shape == (5, 3)
    display.figure_.canvas.draw()
    plt.close(display.figure_)


def test_the_picture_of_an_estimator_at_other_parameters():
    """It compares where it is told, as `check_gradient` does."""
    from sk_analytic.plotting import GradientCheckDisplay

    X = np.linspace(-1, 1, 20)[:, None]
    parabola = AnalyticRegressor(
        lambda params, X: params["w"] ** 2 * X[:, 0],
        vjp=lambda params, X: (params["w"] ** 2 * X[:, 0], lambda d: {"w": 2 * params["w"] * (X[:, 0] @ d)}),
        init={"w": 1.0},
    )
    for w in (3.0, -5.0):  # the loss 0.5 w^4 mean(x^2) has the derivative 2 w^3 mean(x^2)
        display = GradientCheckDisplay.from_estimator(
            parabola, X, np.zeros(20), params={"w": w}, random_state=0, plot=False
        )
        np.testing.assert_allclose(display.entries[0].analytic, 2 * w**3 * np.mean(X**2), rtol=0.3)
    with pytest.raises(ValueError, match=r"params has shape \(2,\) in parameter 'w'"):
        GradientCheckDisplay.from_estimator(parabola, X, np.zeros(20), params={"w": np.ones(2)}, plot=False)


def test_the_picture_of_any_shape_of_block():
    """Numbers, rows, three axes and blocks too large to look at everywhere are drawn."""
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    from sk_analytic.plotting import GradientCheckDisplay

    params = {"n": 0.5, "v": np.ones(3), "t": np.ones((2, 3, 4)), "large": np.ones((60, 70))}
    display = GradientCheckDisplay.from_callables(
        lambda p: float(sum(np.sum(np.square(v)) for v in p.values())),
        lambda p: {k: 2 * v for k, v in p.items()},
        params,
        max_entries=100,
    )
    shapes = [entries.numerical.shape for entries in display.entries]
    assert shapes[:3] == [(), (3,), (2, 3, 4)]
    assert np.prod(shapes[3]) <= 100
    assert display.entries[3].indices[0][-1] == 59
    plt.close(display.figure_)
    again = GradientCheckDisplay(display.entries).plot(axes=plt.subplots(4, 2)[1])
    plt.close(again.figure_)


def test_without_matplotlib_the_message_names_the_extra(monkeypatch):
    """Comparing needs no matplotlib; drawing says what to install."""
    from sk_analytic.plotting import GradientCheckDisplay

    for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    display = GradientCheckDisplay.from_callables(np.sum, np.ones_like, np.ones(2))
    with pytest.raises(ImportError, match="pip install matplotlib"):
        display.plot()


def test_importing_the_package_imports_no_matplotlib():
    """The extra is loaded when something is drawn, not before."""
    code = "import sys, sk_analytic, sk_analytic.plotting; print('matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "False"


def test_entries_agree_with_the_gradient():
    """What the picture shows are the derivatives: equal by entry for a right gradient."""
    objective, theta, batch, seed = AnalyticRegressor(Hidden.forward, Hidden.gradient, Hidden.params)._prepare_check(
        Hidden.X, Hidden.y, None, 0, {}
    )
    for entries in compare_entries(objective, theta, batch, seed=seed):
        np.testing.assert_allclose(entries.analytic, entries.numerical, rtol=1e-6, atol=1e-9)


# At fit.


class Counted:
    """Calls of a function."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, params, X, y):
        self.calls += 1
        return self.function(params, X, y)


def test_a_wrong_gradient_stops_a_fit_with_the_diagnosis():
    """The error carries the report, and its text the cause in words."""
    plant = FAULTS["relu_mask_missing"].plant()
    with pytest.raises(GradientCheckError, match=r"one sign of the\s+unit's input") as caught:
        plant["estimator"].fit(plant["X"], plant["y"])
    assert {f.cause for f in caught.value.report.findings} == {"unit_sign", None}


def test_the_default_loss_is_named_where_the_cause_is_open():
    """If the user chose no loss and no fault explains the gradient, the error ends with how to pass a loss, or None."""
    plant = FAULTS["poisson_meant_but_the_default_compared_with"].plant()
    with pytest.raises(GradientCheckError, match="'poisson'") as caught:
        plant["estimator"].fit(plant["X"], plant["y"])
    assert {f.cause for f in caught.value.report.findings} == {"other_loss"}
    assert "default loss" not in str(caught.value)
    X = np.random.default_rng(0).normal(size=(40, 2))

    def gradient(params, X, y):  # of a loss without a name
        return X.T @ np.arctan(3 * (X @ params - y)) / len(y)

    with pytest.raises(
        GradientCheckError,
        match=r"\nThe gradient was checked against the default loss='squared_error'.*loss=None to skip the comparison",
    ):
        AnalyticRegressor(lambda params, X: X @ params, gradient, np.ones(2)).fit(X, np.sin(X[:, 0]))


def test_a_cause_that_several_blocks_share_is_told_once():
    """The others refer to the first."""
    plant = FAULTS["gaussian_gradient_of_the_log_likelihood"].plant()
    report = check_gradient(plant["estimator"], plant["X"], random_state=0)
    text = " ".join(str(report).split())
    assert text.count("The sign is flipped") == 1
    assert "The same as in 'mean'. [sign]" in text
    assert all("The sign is flipped" in finding.explanation for finding in report.findings)


def test_warn_trains_all_the_same():
    """check_gradient='warn' turns the error into a warning with the same text."""
    plant = FAULTS["hidden_square_without_half"].plant()
    model = plant["estimator"].set_params(check_gradient="warn", max_iter=1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    with pytest.warns(UserWarning, match="2 times the derivative"):
        model.fit(plant["X"], plant["y"])
    assert model.params_["W1"].shape == (5, 6)


def test_a_diverging_fit_is_told_whether_its_gradient_is_right():
    """The verdict joins the error, or the warning, of a training that diverges, even with the check turned off."""
    arguments = {"optimizer": "sgd", "optimizer__learning_rate": 1e12, "check_gradient": False, "random_state": 0}
    right = AnalyticRegressor(Relu.forward, vjp=Relu.vjp, init=Relu.params).set_params(**arguments)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="The analytic gradient was checked"):
        right.fit(Relu.X, Relu.y)
    plant = FAULTS["hidden_residual_turned_round"].plant()
    wrong = plant["estimator"].set_params(**arguments | {"optimizer__learning_rate": 0.1, "max_iter": 30})
    with np.errstate(all="ignore"), pytest.warns(ConvergenceWarning, match=SAYS_SIGN):
        wrong.fit(plant["X"], plant["y"])


def test_a_failed_line_search_is_told_whether_its_gradient_is_right():
    """The warning of a line search that finds no step says that the gradient is wrong."""
    plant = FAULTS["hidden_residual_turned_round"].plant()
    model = plant["estimator"].set_params(optimizer="lbfgs", check_gradient=False)
    with pytest.warns(ConvergenceWarning, match=SAYS_SIGN):
        model.fit(plant["X"], plant["y"])


# Partial gradients.


@pytest.mark.parametrize("leaf", ["absent", "none"])
def test_a_block_without_a_gradient_is_differenced(leaf):
    """With numerical=("W1",) the fit is that of the full gradient; the warning says what it costs."""

    def partial_gradient(params, X, y):
        grads = Hidden.gradient(params, X, y)
        del grads["W1"]
        return grads if leaf == "absent" else {**grads, "W1": None}

    settings = {"max_iter": 3, "random_state": 0, "tol": 0}
    full = AnalyticRegressor(Hidden.forward, Hidden.gradient, Hidden.params, **settings)
    model = AnalyticRegressor(Hidden.forward, partial_gradient, Hidden.params, numerical=("W1",), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        full.fit(Hidden.X, Hidden.y)
        with pytest.warns(UserWarning, match=r"'W1' is computed from finite differences, with 60 evaluations"):
            model.fit(Hidden.X, Hidden.y)
    np.testing.assert_allclose(model.params_["W1"], full.params_["W1"], rtol=1e-5)
    assert [f.block for f in model.gradient_report_.findings] == ["b1", "W2", "b2"]


@pytest.mark.parametrize("form", ["gradient", "vjp", "jacobian", "tuple"])
def test_differenced_blocks_in_every_form(form):
    """A derivation can be built up block by block in any form and structure."""
    settings = {"optimizer": "lbfgs", "max_iter": 5, "check_gradient": True}
    if form == "jacobian":

        def jacobian(params, X):
            return {k: v for k, v in Curve.jacobian(params, X).items() if k != "log_rate"}

        model = AnalyticRegressor(
            Curve.forward, jacobian=jacobian, init=Curve.params, numerical=["log_rate"], **settings
        )
        X, y = Curve.X, Curve.y
    elif form == "tuple":

        def gradient(params, X):
            gb, gc, gU, gW = Nade.gradient(params, X)
            return gb, None, gU, gW

        model = AnalyticDensity(Nade.forward, gradient, Nade.params, numerical=[1], **settings)
        X, y = Nade.X, None
    elif form == "vjp":

        def vjp(params, X):
            out, pullback = Hidden.vjp(params, X)
            return out, lambda d: {**pullback(d), "b1": None}

        model = AnalyticRegressor(vjp=vjp, init=Hidden.params, numerical=["b1"], **settings)
        X, y = Hidden.X, Hidden.y
    else:
        model = AnalyticDensity(
            Gaussian.forward,
            lambda params, X: {"mean": Gaussian.gradient(params, X)["mean"]},
            Gaussian.params,
            numerical=["log_scale"],
            **settings,
        )
        X, y = Gaussian.X, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.warns(UserWarning, match="is computed from finite differences"):
            model.fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_a_fault_beside_a_differenced_block_is_found():
    """The blocks that have a gradient are checked as ever."""

    def gradient(params, X, y):
        return {**Hidden.gradient(params, X, y), "b1": None, "W2": np.zeros(6)}

    model = AnalyticRegressor(Hidden.forward, gradient, Hidden.params, numerical=("b1",))
    with (
        pytest.warns(UserWarning, match="is computed from finite differences"),
        pytest.raises(GradientCheckError, match="in parameter 'W2'"),
    ):
        model.fit(Hidden.X, Hidden.y)


def test_differencing_needs_a_loss():
    """Without a loss there is nothing to difference."""
    model = AnalyticRegressor(Hidden.forward, Hidden.gradient, Hidden.params, loss=None, numerical=("b1",))
    with pytest.raises(ValueError, match="there is no loss"):
        model.fit(Hidden.X, Hidden.y)


# Cost.


def test_the_cost_of_a_verdict_does_not_grow_with_the_parameters():
    """A few dozen evaluations, however many parameters a block has."""
    evaluations = []
    for size in (10, 1000, 100_000):
        target = np.random.default_rng(0).normal(size=size)
        report = check_gradient(
            loss=lambda x, t=target: float(np.mean((x - t) ** 4)),
            gradient=lambda x, t=target: 4 * (x - t) ** 3 / len(t),
            params=np.zeros(size),
            random_state=0,
        )
        assert report.ok
        evaluations.append(report.n_evaluations)
    assert max(evaluations) <= 40


def test_one_wrong_entry_among_many_is_found_cheaply():
    """Bisection finds it without looking at the entries one by one."""
    target = np.random.default_rng(0).normal(size=(400, 500))

    def gradient(W):
        out = W - target
        out[123, 456] *= -1
        return out

    report = check_gradient(
        loss=lambda W: 0.5 * float(np.sum((W - target) ** 2)),
        gradient=gradient,
        params=np.ones((400, 500)),
        random_state=0,
    )
    finding = report.findings[0]
    assert finding.cause == "one_entry"
    assert finding.evidence["indices"] == [[123], [456]]
    assert report.n_evaluations < 1500


def test_weights_reach_the_check():
    """With weights the mean of weight times loss is compared; a right gradient stays right."""
    weights = np.random.default_rng(0).uniform(0, 2, 40)
    model = AnalyticRegressor(Poisson.forward, loss_and_gradient=Poisson.loss_and_gradient, init=Poisson.params)
    assert check_gradient(model, Poisson.X, Poisson.y, sample_weight=weights, random_state=0).ok
