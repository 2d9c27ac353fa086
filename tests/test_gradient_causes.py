"""What the doctor says: conventions of weights, Jacobians, mistakes of first-time users, and what it must not say."""

import re

import numpy as np
import pandas as pd
import pytest
from gradient_zoo.curves import CURVES, Plane, with_column
from gradient_zoo.likelihoods import Clicks, Counts, Couplings, Hazards, Process, Signs
from gradient_zoo.nets import Deep, Digits, Ratings, Switch, mutated
from gradient_zoo.patients import Hidden, Poisson, Relu, Softmax, data
from gradient_zoo.registry import altered, classifier, plain, regressor
from scipy.special import expit, softmax

from sk_analytic import AnalyticClassifier, AnalyticRegressor, GradientCheckError, check_gradient
from sk_analytic.gradient_check import Cause, diagnose
from sk_analytic.gradient_check.hypotheses import Hypothesis


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """A hypothesis that fails with an error is an error here."""
    monkeypatch.setattr(diagnose, "STRICT", True)


def causes_of(arguments, seed=0):
    """Cause by block, and the whole report."""
    report = check_gradient(**arguments, random_state=seed)
    return {f.block: f.cause for f in report.findings}, " ".join(str(report).split())


# Weights.

MEANS = {
    "the number of samples": lambda w, n: 1 / n,
    "the weights' sum": lambda w, n: 1 / w.sum(),
    "nothing": lambda w, n: 1.0,
}


@pytest.mark.parametrize("loss_divides_by", MEANS)
@pytest.mark.parametrize("gradient_divides_by", MEANS)
@pytest.mark.parametrize("ignored", [True, False], ids=["ignored", "taken"])
def test_conventions_of_weights_are_named_whatever_mean_the_loss_uses(loss_divides_by, gradient_divides_by, ignored):
    """Of every pair of conventions the report says which is in the gradient and which in the loss."""

    def loss(params, X, y, sample_weight):
        rows = np.logaddexp(0, X @ params["w"] + params["b"]) - y * (X @ params["w"] + params["b"])
        return float(sample_weight @ rows) * MEANS[loss_divides_by](sample_weight, len(X))

    def gradient(params, X, y, sample_weight):
        d = Clicks.by_row(params, X, y) * MEANS[gradient_divides_by](sample_weight, len(X))
        d = d if ignored else d * sample_weight
        return {"w": X.T @ d, "b": float(d.sum())}

    arguments = {"X": Clicks.X, "y": Clicks.y, "sample_weight": Clicks.sample_weight, "params": Clicks.params}
    causes, text = causes_of({"loss": loss, "gradient": gradient, **arguments})
    if loss_divides_by == gradient_divides_by and not ignored:
        assert set(causes.values()) == {None}
    elif ignored:
        assert set(causes.values()) == {"sample_weight_ignored"}
        assert "In the gradient the sample weights are ignored" in text
    else:  # a sum that should be a mean, or the reverse, is named as that
        assert set(causes.values()) <= {"sample_weight_misused", "sum_not_mean", "mean_not_sum"}


@pytest.mark.parametrize("role", ["loss", "gradient"])
def test_a_callable_that_does_not_take_the_weights_of_the_other_is_named(role):
    """Who lacks the argument is said, and that it is to be added."""

    def plain_loss(params, X, y):
        return Clicks.loss(params, X, y, np.ones(len(X)))

    def plain_gradient(params, X, y):
        return Clicks.gradient(params, X, y, np.ones(len(X)))

    callables = {"loss": Clicks.loss, "gradient": Clicks.gradient}
    callables[role] = {"loss": plain_loss, "gradient": plain_gradient}[role]
    arguments = {"X": Clicks.X, "y": Clicks.y, "sample_weight": Clicks.sample_weight, "params": Clicks.params}
    causes, text = causes_of({**callables, **arguments})
    assert set(causes.values()) <= {"sample_weight_ignored", "sample_weight_misused"}
    assert f"{role} does not accept sample_weight: add the argument." in text


# Samples, features and steps.


@pytest.mark.parametrize("form", ["vjp", "gradient"])
@pytest.mark.parametrize("column", [0, 2])
def test_a_mask_on_a_feature_is_no_step_of_a_recursion_and_no_unit(form, column):
    """In a net whose gradient is wrong where a feature is negative, the samples are told apart by that feature."""

    def vjp(params, X):
        out, pullback = Deep.vjp(params, X)
        return out, lambda d: pullback(np.where(X[:, column] >= 0, 1.0, 0.3)[:, None] * d)

    def gradient(params, X, y):
        out, pullback = vjp(params, X)
        return pullback((out - y) / len(X))

    causes, text = causes_of(regressor(Deep, **{form: {"vjp": vjp, "gradient": gradient}[form]}))
    assert set(causes.values()) == {"some_samples"}
    assert f"Right for samples where X[:, {column}] > 0" in text
    assert "0.3 times the derivative" in text
    assert "recursion" not in text


def test_samples_are_told_apart_by_a_level_of_y():
    """A branch on the class is named by the class, whatever is wrong there."""

    def gradient(params, X, y):
        delta = Softmax.delta(params, X, y) / len(X)
        delta[y == 2] = delta[y == 2][:, ::-1]
        return {"W": X.T @ delta, "b": delta.sum(axis=0)}

    causes, text = causes_of(classifier(gradient=gradient))
    assert set(causes.values()) == {"some_samples"}
    assert "Right for samples where y is not 2" in text


def test_a_feature_with_weights_of_its_own_is_no_step():
    """A fault that comes through the first feature of a net is said to come through that feature."""

    def gradient(params, X, y):
        z, h, out = Hidden.layers(params, X)
        wrong = z - 0.5 * np.outer(X[:, 0], params["W1"][0])
        back = np.outer((out - y) / len(X), params["W2"]) * (1 - np.tanh(wrong) ** 2)
        return {**Hidden.gradient(params, X, y), "b1": back.sum(axis=0)}

    causes, text = causes_of(regressor(gradient=gradient))
    assert causes["b1"] == "through_block"
    assert "The gradient is right if X[:, 0] is zero" in text
    assert "step" not in text


def test_the_first_of_many_is_not_called_a_recursion():
    """A wrong first row alone is at the end of an axis, and no more is said."""
    causes, text = causes_of(
        classifier(gradient=altered(Softmax.gradient, W=lambda g, p: g * [[0], [1], [1], [1], [1]]))
    )
    assert causes["W"] == "one_row"
    assert "first along axis 0: check the bounds of a slice or a loop" in text


# What must not be said.


def test_a_factorization_has_no_activation():
    """On one sample a row of a factor is one number for each unit: it could not have spoken against an activation."""

    def vjp(params, X):
        out, pullback = Ratings.vjp(params, X)
        return out, lambda d: {**pullback(d), "U": pullback(np.sin(3 * X[:, 1] + out) * d)["U"]}

    causes, text = causes_of(regressor(Ratings, vjp=vjp))
    assert causes["U"] not in {"activation_derivative", "unit_sign"}
    assert "activation" not in text


def test_a_net_of_tanh_has_no_mask_of_relu():
    """Half of the units of random samples left out is a pattern, and no side of their inputs."""

    def vjp(params, X):
        out, pullback = Hidden.vjp(params, X)
        odd = (np.abs(X * 1000).astype(int) % 2)[:, :1] ^ (np.abs(X * 777).astype(int) % 2)
        z, h, _ = Hidden.layers(params, X)
        keep = np.column_stack([odd, odd[:, :1]])

        def faulty(d):
            back = np.outer(d, params["W2"]) * (1 - h * h) * keep
            return {**pullback(d), "W1": X.T @ back, "b1": back.sum(axis=0)}

        return out, faulty

    causes, _ = causes_of(regressor(vjp=vjp))
    assert {causes["W1"], causes["b1"]} == {"unexplained"}


def wave(params, X, shape, seed):
    """Numbers that depend on data and parameters as no slip does."""
    total = sum(np.sum(p) for p in params.values())
    place = np.cos(np.random.default_rng(seed).normal(size=shape) + 0.7 * total)
    return np.multiply.outer(np.sin(2 * X.sum(axis=1) + total), place)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.__name__)
def test_nothing_is_named_in_a_jacobian_of_noise(curve):
    """With hundreds of hypotheses, none fits a smooth function of data and parameters by coincidence."""
    for seed, block in enumerate(curve.params):

        def column(params, X, block=block, seed=seed):
            right = np.asarray(curve.jacobian(params, X)[block], float)
            noise = wave(params, X, right.shape[1:], seed)
            return noise

        causes, text = causes_of(with_column(curve, **{block: column}), seed)
        assert causes[block] == "unexplained", text


@pytest.mark.parametrize("model", [Counts, Signs, Hazards, Process, Couplings], ids=lambda model: model.__name__)
def test_nothing_is_named_in_a_gradient_of_noise(model):
    """Neither in the likelihoods that people write for themselves."""
    for seed, block in enumerate(model.params):

        def noisy(params, X, *y, block=block, seed=seed):
            right = model.gradient(params, X, *y)
            return {**right, block: wave(params, X, np.shape(right[block]), seed).mean(axis=0)}

        gradient = noisy if model.y is not None else lambda params, X, noisy=noisy: noisy(params, X)
        if model.y is not None:

            def gradient(params, X, y, noisy=noisy):
                return noisy(params, X, y)

        causes, text = causes_of(plain(model, gradient=gradient), seed)
        assert causes[block] == "unexplained", text


# Mistakes of first-time users.


def with_weights(model, d, X):
    """The gradient of a linear model."""
    return {"w": X.T @ d, "b": float(d.sum())}


def linear(params, X):
    """The scores of a linear model."""
    return X @ params["w"] + params["b"]


LINEAR = {"w": np.array([0.5, -0.8, 0.3, 1.1]), "b": 0.2}
X4 = data(n=40, p=4, seed=5)
BINARY = np.random.default_rng(6).integers(0, 2, 40)


@pytest.mark.parametrize(
    ("loss", "inverse_link", "y", "says"),
    [
        ("log_loss", expit, BINARY, "forward returns probabilities"),
        ("poisson", np.exp, np.random.default_rng(7).poisson(1.2, 40).astype(float), "forward returns means"),
        ("gamma", np.exp, np.random.default_rng(8).gamma(2.0, size=40) + 0.1, "forward returns means"),
    ],
)
def test_forward_on_the_scale_of_predict_is_named(loss, inverse_link, y, says):
    """Probabilities or means where scores are wanted: the loss is wrong, the gradient right for scores."""
    derivative = {"gamma": lambda s, y: 1 - y * np.exp(-s)}.get(loss, lambda s, y: inverse_link(s) - y)

    def gradient(params, X, y):
        return with_weights(None, derivative(linear(params, X), y) / len(X), X)

    kind = AnalyticClassifier if loss == "log_loss" else AnalyticRegressor
    model = kind(lambda params, X: inverse_link(linear(params, X)), gradient, LINEAR, loss=loss)
    with pytest.raises(GradientCheckError) as caught:
        model.fit(X4, y)
    assert {f.cause for f in caught.value.report.findings} == {"forward_applies_link"}
    assert says in str(caught.value)


@pytest.mark.parametrize("names", [["no", "yes"], [0, 1], [False, True]], ids=str)
def test_labels_of_minus_one_and_one_are_named(names):
    """A gradient in -1/+1 gets 0/1 from a classifier, whatever the classes are called."""

    def gradient(params, X, y):
        return with_weights(None, -y * expit(-y * linear(params, X)) / len(X), X)

    causes, text = causes_of(
        {"estimator": AnalyticClassifier(linear, gradient, LINEAR), "X": X4, "y": np.array(names)[BINARY]}
    )
    assert set(causes.values()) == {"label_coding"}
    assert "labels -1/+1, but y has 0/1" in text


@pytest.mark.parametrize("model", [Digits, Hidden], ids=lambda model: model.__name__)
@pytest.mark.parametrize("form", ["vjp", "gradient"])
def test_the_derivative_of_a_logistic_unit_in_a_net_of_tanh_is_named_in_both_blocks(model, form):
    """Weights and the bias that shares the slip get the same name and the same words."""

    class Faulty(model):
        slope = staticmethod(lambda z, h: h * (1 - h))

    make = classifier if model is Digits else regressor
    causes, text = causes_of(make(model, **{form: getattr(Faulty, form)}))
    assert causes["W1"] == causes["b1"] == "activation_derivative"
    assert text.count("it has the factor h(1 - h) with h = tanh(z) instead of tanh'(z) = 1 - tanh²(z)") == 2


def test_a_cause_found_in_one_block_is_tried_on_the_others():
    """In a second layer no table of activations helps; the bias is off by the ratios that its weights have shown."""

    class Faulty(Deep):
        slope = staticmethod(lambda h: 1 - h)

    causes, text = causes_of(regressor(Deep, vjp=Faulty.vjp))
    assert {causes[block] for block in "AaBb"} == {"activation_derivative"}
    assert "the same ratios as in parameter 'B'" in text


@pytest.mark.parametrize(("zeros", "says"), [(0.0, "left as it was initialized"), (1e-17, "along the wrong axis")])
def test_a_bias_gradient_of_zeros_is_named_up_to_rounding(zeros, says):
    """Zero at once, or the sum of residuals over classes, which is zero up to rounding."""
    causes, text = causes_of(classifier(gradient=altered(Softmax.gradient, b=lambda g, p: np.full(3, zeros))))
    assert causes["b"] == "left_at_zero"
    assert says in text


def test_p_plus_y_is_named():
    """The most common slip of a softmax: labels are added."""

    def gradient(params, X, y):
        delta = (softmax(Softmax.forward(params, X), axis=1) + np.eye(3)[y]) / len(X)
        return {"W": X.T @ delta, "b": delta.sum(axis=0)}

    causes, text = causes_of(classifier(gradient=gradient))
    assert set(causes.values()) == {"output_derivative"}
    assert "P + Y is used instead of P - Y" in text


def test_a_frame_of_one_column_is_named():
    """y of shape (n, 1) is broadcast against predictions (n,), so that every sample meets the mean of y."""
    frame = pd.DataFrame({"target": 2 * X4[:, 0] + 0.3})

    def loss(params, X, y):
        return 0.5 * float(np.mean((linear(params, X)[:, None] - y) ** 2))

    def gradient(params, X, y):
        residual = linear(params, X) - y  # (n, n)
        return with_weights(None, residual.mean(axis=0) / len(X), X)

    causes, text = causes_of({"loss": loss, "gradient": gradient, "params": LINEAR, "X": X4, "y": frame})
    assert causes["w"] == "other_targets"
    assert "a column (n, 1) is broadcast against (n,)" in text


# Kinds of their own.


@pytest.mark.parametrize("divisor", [32, 100])
def test_a_constant_number_of_samples_is_named(divisor):
    """The factor changes with the batch size, so two sizes tell it from a constant factor."""

    def gradient(params, X, y):
        return {k: g * len(X) / divisor for k, g in Hidden.gradient(params, X, y).items()}

    causes, text = causes_of(regressor(gradient=gradient))
    assert set(causes.values()) == {"fixed_divisor"}
    assert f"divided by {divisor}" in text


def test_swapped_blocks_are_both_named():
    """Each of the two findings names both blocks; three in a circle are not called swapped."""

    def swapped(params, X, y):
        g = Hidden.gradient(params, X, y)
        return {**g, "b1": g["W2"], "W2": g["b1"]}

    report = check_gradient(**regressor(gradient=swapped), random_state=0)
    for finding in report.findings[1:3]:
        assert finding.cause == "blocks_swapped"
        assert "'b1'" in finding.explanation
        assert "'W2'" in finding.explanation
        assert "are swapped" in finding.explanation


@pytest.mark.parametrize("form", ["gradient", "loss_and_gradient"])
def test_an_array_that_the_next_call_writes_over_is_remarked(form):
    """It is right, and a fit copies it; only check_gradient says so."""
    buffers = {k: np.zeros_like(np.asarray(v, float)) for k, v in Hidden.params.items()}

    def gradient(params, X, y):
        for k, g in Hidden.gradient(params, X, y).items():
            buffers[k][...] = g
        return buffers

    def loss_and_gradient(params, X, y):
        return Hidden.loss_and_gradient(params, X, y)[0], gradient(params, X, y)

    callables = {form: {"gradient": gradient, "loss_and_gradient": loss_and_gradient}[form]}
    report = check_gradient(**regressor(**callables), random_state=0)
    assert report.ok
    assert {(f.verdict, f.cause) for f in report.findings} == {("right", "reused_buffer")}
    assert "each call overwrites the array" in str(report)
    right = check_gradient(**regressor(gradient=Hidden.gradient), random_state=0)
    assert {f.cause for f in right.findings} == {None}


def test_of_a_callable_that_writes_to_its_arguments_only_that_is_reported():
    """A gradient that follows from the modified data is no second finding."""

    def gradient(params, X, y):
        X *= 2
        return Hidden.gradient(params, X, y)

    report = check_gradient(**regressor(gradient=gradient), random_state=0)
    assert [(f.block, f.cause) for f in report.findings] == [("X", "modified_in_place")]


@pytest.mark.parametrize("decimals", [0, 1, 2, 3, 4])
def test_a_rounded_gradient_is_wrong_and_says_to_how_many_decimals(decimals):
    """It is not called float16, whose spacing it has not."""
    scale = 10.0 if not decimals else 1.0

    def loss(params, X, y):
        return scale * Counts.loss(params, X, y)

    def gradient(params, X, y):
        return {k: np.round(scale * g, decimals) for k, g in Counts.gradient(params, X, y).items()}

    arguments = {"X": Counts.X, "y": Counts.y, "params": Counts.params}
    causes, text = causes_of({"loss": loss, "gradient": gradient, **arguments})
    assert causes["w"] == "rounded"
    assert f"rounded to {decimals} decimals" in text
    assert "float16" not in text


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_dtype_is_named_if_the_numbers_have_its_spacing(dtype):
    """A gradient cast to it is not wrong; one of as few digits that are not a dtype's gets no name."""
    cast = regressor(
        gradient=lambda params, X, y: {k: np.asarray(g, dtype) for k, g in Hidden.gradient(params, X, y).items()}
    )
    causes, text = causes_of(cast)
    assert set(causes.values()) <= {"low_precision", None}
    assert "float16" in text or dtype is np.float32

    def few_digits(params, X, y):
        step = 2.0**-9
        return {
            k: np.exp(np.round(np.log(np.abs(g)) / step) * step) * np.sign(g)
            for k, g in Hidden.gradient(params, X, y).items()
        }

    _, text = causes_of(regressor(gradient=few_digits))
    assert "float" not in text


# The machinery.


def test_a_hypothesis_that_fails_is_an_error_in_tests_and_noted_in_a_fit(monkeypatch):
    """A fault of ours is raised here; a user's report has it among the evidence of what is not explained."""

    class Broken(Hypothesis):
        identifier = "broken"
        meaning = "It fails."
        rank = -9

        def test(self, case):
            raise IndexError("ours")

    def gradient(x):
        return np.sin(7 * x) + 3

    arguments = {"loss": lambda x: float(x @ x), "gradient": gradient, "params": np.ones(3), "random_state": 0}
    try:
        with pytest.raises(IndexError, match="ours"):
            check_gradient(**arguments)
        monkeypatch.setattr(diagnose, "STRICT", False)
        finding = check_gradient(**arguments).findings[0]
        assert finding.cause == "unexplained"
        assert finding.evidence["failed_hypotheses"] == {"broken": "IndexError('ours')"}
    finally:
        Hypothesis.all_of_them.remove(Broken)
        del Cause.table["broken"]


def test_two_classes_cannot_share_an_identifier():
    """The second would lose its meaning in the table."""
    with pytest.raises(TypeError, match="'sign' is Sign's already"):
        type("Again", (Cause,), {"identifier": "sign"})


def test_a_finding_says_how_many_numbers_agree():
    """A factor of a scalar block is held against other samples and another θ: one number each, and one is fitted."""
    report = check_gradient(**regressor(gradient=altered(Hidden.gradient, b2=lambda g, p: 3 * g)), random_state=0)
    evidence = report.findings[3].evidence
    assert evidence["n_numbers"] == 3
    assert evidence["factor"] == pytest.approx(3, rel=1e-6)


@pytest.mark.parametrize("model", [Relu, Switch], ids=lambda model: model.__name__)
def test_the_mask_of_relu_is_named_where_the_units_inputs_say_so(model):
    """What is wrong is one side of the inputs of the units, which X tells."""

    def change(grads, params, X):
        return {**grads, "W1": mask_free(params, X)}

    def mask_free(params, X):
        z = X @ params["W1"] + params["b1"]
        d = (model.forward(params, X) - model.y[: len(X)]) / len(X)
        return X.T @ (np.outer(d, params.get("W2", params.get("w2"))) * np.ones_like(z))

    class Faulty(model):
        slope = staticmethod(lambda z, h=None: np.ones_like(z))

    make = classifier if model is Switch else regressor
    causes, text = causes_of(make(model, vjp=Faulty.vjp))
    assert causes["W1"] == causes["b1"] == "unit_sign"
    assert "one sign of the unit's input" in text


def test_a_penalty_and_a_plane_keep_their_names():
    """Wider hypotheses do not take what simpler ones explain."""
    causes, _ = causes_of(regressor(Plane, jacobian=lambda p, X: {**Plane.jacobian(p, X), "w": -X}))
    assert causes == {"w": "sign", "b": None}
    penalized = altered(
        lambda params, X, y: Poisson.loss_and_gradient(params, X, y, np.ones(len(X)))[1],
        w=lambda g, p: g + 0.1 * p["w"],
    )
    causes, _ = causes_of(regressor(Poisson, gradient=penalized, loss="poisson"))
    assert causes["w"] == "penalty"
    causes, _ = causes_of(regressor(Deep, vjp=mutated(Deep.vjp, lambda g, p, X: {**g, "c": 2 * g["c"]})))
    assert causes["c"] == "factor"


@pytest.mark.parametrize("form", ["jacobian", "vjp"])
@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (lambda x: x, r"A factor X\[:, 0\] is missing"),
        (lambda x: np.log1p(x - 1), r"A factor log X\[:, 0\] is missing"),
        (lambda x: x**2, r"A factor X\[:, 0\]² is missing"),
    ],
)
def test_a_missing_factor_is_named_though_it_vanishes_in_some_samples(factor, words, form):
    """The time 0 of a decay, the length 1 of a power law: there the derivative is 0, and the wrong one is not."""
    x = np.array([0.0, 0.0, *np.linspace(0.2, 3, 20), 1.0, 1.0])[:, None]
    if "log" in words:
        x = x[2:]

    def forward(params, X):
        return params["a"] * np.exp(-params["k"] * factor(X[:, 0]))

    def jacobian(params, X):
        power = np.exp(-params["k"] * factor(X[:, 0]))
        return {"a": power, "k": -params["a"] * power}

    def vjp(params, X):
        leaves = jacobian(params, X)
        return forward(params, X), lambda d: {name: d @ leaf for name, leaf in leaves.items()}

    functions = {"jacobian": jacobian} if form == "jacobian" else {"vjp": vjp}
    model = AnalyticRegressor(forward, init={"a": 2.0, "k": 0.7}, **functions)
    report = check_gradient(model, x, np.cos(x[:, 0]), random_state=0)
    right, wrong = report.findings
    assert right.verdict == "right"
    assert re.match(words, wrong.explanation)
