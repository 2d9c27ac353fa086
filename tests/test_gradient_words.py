"""The words of the gradient check: what a reader is told of a common slip, in each form of the gradient."""

import re

import numpy as np
import pytest

from sk_analytic import AnalyticDensity, AnalyticRegressor, GradientCheckError, ParameterStructureError, check_gradient

N = 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
T = np.linspace(0.1, 3, N)[:, None]
Z = RNG.normal(size=(N, 1))
EXPOSURE = RNG.uniform(0.5, 3, N)
COUNTS = RNG.poisson(EXPOSURE * np.exp(X @ [0.3, -0.2, 0.1])).astype(float)


def told(estimator, *data, **metadata):
    """The report, its findings by parameter, and its text in one line."""
    report = check_gradient(estimator, *data, random_state=0, **metadata)
    return {finding.block: finding for finding in report.findings}, " ".join(str(report).split())


# A curve with a Jacobian or a pullback.


def curve(params, X):
    return params["A"] * np.sin(params["w"] * X[:, 0] + params["f"])


def curve_jacobian(params, X):
    angle = params["w"] * X[:, 0] + params["f"]
    along = params["A"] * np.cos(angle)
    return {"A": np.sin(angle), "w": X[:, 0] * along, "f": along}


def curve_of(form, change):
    """The estimator of the curve, its Jacobian changed, in a form."""

    def jacobian(params, X):
        return change(params, X, curve_jacobian(params, X))

    def vjp(params, X):
        rows = jacobian(params, X)
        return curve(params, X), lambda d: {name: d @ row for name, row in rows.items()}

    given = {"jacobian": jacobian, "vjp": vjp}[form]
    return AnalyticRegressor(curve, init={"A": 1.5, "w": 1.1, "f": 0.1}, **{form: given})


OF_CURVE = (T, 2 * np.sin(1.3 * T[:, 0] + 0.2))


def times(factor):
    return lambda params, X, rows: {name: factor * row for name, row in rows.items()}


# A Poisson regression with exposure.


def log_rate(params, X, exposure):
    return X @ params["coef"] + params["b"] + np.log(exposure)


def poisson_gradient(params, X, y, exposure):
    residual = np.exp(log_rate(params, X, exposure)) - y
    return {"coef": X.T @ residual / len(X), "b": residual.mean()}


def poisson(gradient=poisson_gradient, loss="poisson"):
    return AnalyticRegressor(log_rate, gradient, {"coef": np.array([0.1, 0.2, 0.3]), "b": 0.3}, loss=loss)


# Densities.


def exponential(params, X):
    return params["l"] - np.exp(params["l"]) * X[:, 0]


def gaussian(params, X):
    return -0.5 * ((X[:, 0] - params["m"]) * np.exp(-params["s"])) ** 2 - params["s"]


def gaussian_gradient(params, X):
    u = (X[:, 0] - params["m"]) * np.exp(-params["s"])
    return {"m": np.mean(-u * np.exp(-params["s"])), "s": np.mean(1 - u**2)}


def linear(params, X):
    return X @ params["coef"] + params["b"]


def linear_gradient(params, X, y):
    residual = linear(params, X) - y
    return {"coef": X.T @ residual / len(X), "b": residual.mean()}


LINE = {"coef": np.array([0.1, 0.2, 0.3]), "b": 0.3}


@pytest.mark.parametrize("start", [-0.5, 0.0, 0.7])
def test_a_missing_constant_of_a_scalar_is_no_penalty(start):
    """Sign(θ) of one number is a constant; the classic is a forgotten normalizing constant."""

    def gradient(params, X):
        return {"l": np.mean(np.exp(params["l"]) * X[:, 0])}

    findings, text = told(AnalyticDensity(exponential, gradient, {"l": start}), np.abs(Z))
    assert findings["l"].cause == "constant_term"
    assert "the constant 1," in text
    assert "normalizing constant" in text


@pytest.mark.parametrize("name", ["coef", "b"])
def test_a_superfluous_constant_is_a_constant(name):
    """In a vector as in a scalar, it is called a constant, and not a penalty."""

    def gradient(params, X, y, exposure):
        grads = poisson_gradient(params, X, y, exposure)
        return {**grads, name: grads[name] + 1}

    findings, text = told(poisson(gradient), X, COUNTS, exposure=EXPOSURE)
    assert findings[name].cause == "constant_term"
    assert "the constant 1" in text
    assert "penalty" not in text


@pytest.mark.parametrize(("factor", "error"), [(-1.0, 2.0), (2.0, 1.0), (0.5, 0.5), (48.0, 47.0), (0.0, 1.0)])
@pytest.mark.parametrize("form", ["jacobian", "vjp", "gradient"])
def test_the_relative_error_is_relative_to_the_numerical_derivative(form, factor, error):
    """It is 2 in all parameters for a flipped sign, however the terms of the derivative cancel."""
    if form == "gradient":
        model = AnalyticRegressor(linear, lambda p, X, y: times(factor)(p, X, linear_gradient(p, X, y)), LINE)
        findings, text = told(model, X, COUNTS)
    else:
        findings, text = told(curve_of(form, times(factor)), *OF_CURVE)
    assert all(finding.verdict == "wrong" for finding in findings.values())
    assert [f.evidence["relative_error"] for f in findings.values()] == pytest.approx([error] * len(findings), rel=1e-5)
    assert text.count(f"relative error {error:.3g} ") == len(findings)


def test_the_relative_error_is_infinite_if_the_derivative_is_zero():
    """A parameter that the loss does not depend on has no derivative to compare with."""

    def gradient(params, X, y):
        return {**linear_gradient(params, X, y), "unused": 1.0}

    findings, _ = told(AnalyticRegressor(linear, gradient, {**LINE, "unused": 0.5}), X, COUNTS)
    assert findings["unused"].evidence["relative_error"] == np.inf


@pytest.mark.parametrize(
    ("form", "question", "of"),
    [
        ("jacobian", "Is it the Jacobian of the residual y - forward? It must be that of forward.", "forward"),
        ("vjp", "Is it the pullback of the residual y - forward? It must be that of the pred", "the predictions"),
    ],
)
def test_a_flipped_sign_of_the_predictions_is_that_of_a_residual(form, question, of):
    """scipy's users pass the Jacobian of y - forward; the headline says what it is not the derivative of."""
    model = curve_of(form, times(-1))
    findings, text = told(model, *OF_CURVE)
    assert {finding.cause for finding in findings.values()} == {"sign"}
    assert question in text
    assert "minus the loss" not in text
    with pytest.raises(GradientCheckError, match=rf"is not the derivative of {of} in parameters 'A', 'w', 'f'\.\n"):
        model.fit(*OF_CURVE)


def test_a_flipped_sign_of_a_density_may_be_that_of_forward():
    """The gradient may be right, and `forward` return -log p."""
    start = {"m": 0.1, "s": 0.2}
    _, text = told(AnalyticDensity(lambda p, X: -gaussian(p, X), gaussian_gradient, start), Z)
    assert "Is it the gradient of minus the loss, or does forward return minus the log-density?" in text
    flipped = AnalyticRegressor(linear, lambda p, X, y: times(-1)(p, X, linear_gradient(p, X, y)), LINE)
    assert "Is it the gradient of minus the loss? [sign]" in told(flipped, X, COUNTS)[1]


def test_a_factor_of_two_is_a_square_in_a_gradient_only():
    """The square is in the loss, which a Jacobian does not differentiate."""
    for form in ("jacobian", "vjp"):
        findings, text = told(curve_of(form, times(2)), *OF_CURVE)
        assert {finding.cause for finding in findings.values()} == {"factor"}
        assert "square" not in text
    doubled = AnalyticRegressor(linear, lambda p, X, y: times(2)(p, X, linear_gradient(p, X, y)), LINE)
    assert "A square or its half" in told(doubled, X, COUNTS)[1]


def test_data_that_the_gradient_does_not_receive_are_named():
    """A comparison of the signatures; nothing is said if the gradient receives the same, or if the cause is known."""

    def without(params, X, y):
        return poisson_gradient(params, X, y, np.ones(len(X)))

    findings, text = told(poisson(without), X, COUNTS, exposure=EXPOSURE)
    assert findings["coef"].cause == "sample_factor"
    assert "forward receives 'exposure'; gradient does not." in text

    def unused(params, X, y, exposure):
        return without(params, X, y)

    assert "receives" not in told(poisson(unused), X, COUNTS, exposure=EXPOSURE)[1]

    def flipped(params, X, y):  # receives the exposure as a column of X
        return {name: -g for name, g in poisson_gradient(params, X[:, :3], y, X[:, 3]).items()}

    model = AnalyticRegressor(
        lambda params, X, exposure: log_rate(params, X[:, :3], exposure), flipped, LINE, loss="poisson"
    )
    findings, text = told(model, np.column_stack([X, EXPOSURE]), COUNTS, exposure=EXPOSURE)
    assert findings["coef"].cause == "sign"
    assert "receives" not in text
    assert told(poisson(), X, COUNTS, exposure=EXPOSURE)[0]["coef"].verdict == "right"


def test_a_jacobian_passed_as_a_gradient_is_recognized_by_its_shape():
    """The second position is that of the gradient."""
    model = AnalyticRegressor(curve, curve_jacobian, {"A": 1.5, "w": 1.1, "f": 0.1})
    said = r"Was the sum over the samples of the batch left out, or is it a Jacobian\? Then pass it as jacobian="
    with pytest.raises(ParameterStructureError, match=said):
        check_gradient(model, *OF_CURVE)


def test_a_mixture_without_responsibilities_is_told_in_words_of_any_model():
    """The ratio depends on sample and component; nothing of networks alone, and no -0."""
    means = np.array([[-2.0, 0.0], [0.0, 1.5], [2.0, -1.0]])
    points = np.concatenate([RNG.normal(size=(20, 2)) + mean for mean in means])

    def log_parts(params, X):
        return -0.5 * ((X[:, None] - params["mu"]) ** 2).sum(axis=2) - np.log(3)

    def forward(params, X):
        return np.log(np.exp(log_parts(params, X)).sum(axis=1))

    def gradient(params, X):
        return {"mu": -(X[:, None] - params["mu"]).mean(axis=0)}

    findings, text = told(AnalyticDensity(forward, gradient, {"mu": 0.8 * means + 0.1}), points)
    assert findings["mu"].cause == "activation_derivative"
    low, high = re.search(r"on the index along axis 0, between (\S+) and (\S+)\.", text).groups()
    assert low[0] != "-"
    assert 0 <= float(low) < float(high) <= 1
    assert "responsibility of a component in a mixture" in text


def test_of_a_single_number_no_correlation_is_told():
    """It would be 1 or -1; the number of samples in which the gradient is wrong is told instead."""

    def swapped(params, X, rows):
        angle = params["w"] * X[:, 0] + params["f"]
        return {**rows, "f": params["A"] * np.where(X[:, 0] > 1, np.sin(angle), np.cos(angle) ** 3)}

    findings, text = told(curve_of("jacobian", swapped), *OF_CURVE)
    assert findings["f"].cause == "unexplained"
    assert "correlate" not in text
    wrong, n = map(int, re.search(r"The gradient is wrong in (\d+) of (\d+) compared samples", text).groups())
    assert 0 < wrong <= n <= N


def test_a_term_that_does_not_depend_on_the_samples_is_located():
    """-1 instead of -2 in a log-scale, and the softmax of the weights of a mixture."""

    def forward(params, X):
        return gaussian(params, X) - params["s"]

    def gradient(params, X):
        return gaussian_gradient(params, X)

    findings, text = told(AnalyticDensity(forward, gradient, {"m": 0.1, "s": 0.2}), Z)
    assert (findings["m"].verdict, findings["s"].cause) == ("right", "constant_term")
    assert "the constant -1," in text


def test_the_words_of_the_check_are_those_of_its_readers():
    """A parameter array is a parameter in all that is printed."""
    from sk_analytic.gradient_check import Cause

    printed = [text for cause in Cause.table.values() for text in (cause.meaning, cause.template)]
    assert not [text for text in printed if re.search(r"\bblocks?\b", text, re.IGNORECASE)]
    report = check_gradient(curve_of("jacobian", times(-1)), *OF_CURVE, random_state=0)
    assert ">parameter</th>" in report._repr_html_()
