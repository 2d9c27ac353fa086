"""The examples of the gallery: each runs, its gradients pass the check, and its numbers are those of others.

An example is run once, in one test. While it runs, `check_gradient` is watched: every gradient that the example
defines must have been called in a check that found all of it right, and every one that it calls wrong in a check that
found a fault. Then the numbers are compared with scipy, scikit-learn, statsmodels or lifelines, or with the truth that
data were drawn from.
"""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_examples import load_example

import sk_analytic

EXAMPLES = Path(__file__).parents[1] / "examples"
GALLERY = sorted(path.stem for path in EXAMPLES.glob("plot_*.py"))
FORMS = ("gradient", "loss_and_gradient", "vjp", "jacobian")

# A gradient that is an estimate by random numbers has no derivative to be compared with. Its mean is tested below.
STOCHASTIC = {"plot_rbm_features": {"RBM.gradient"}}


class WatchedCheck:
    """`check_gradient`, which remembers the functions of a file that ran in checks that passed, and in others."""

    def __init__(self, path):
        self.path = str(path)
        self.check = sk_analytic.check_gradient
        self.right, self.wrong = set(), set()

    def __call__(self, *args, **settings):
        called = set()

        def record(frame, event, _):
            if event == "call" and frame.f_code.co_filename == self.path:
                called.add(frame.f_code.co_qualname)

        sys.setprofile(record)
        try:
            report = self.check(*args, **settings)
        finally:
            sys.setprofile(None)
        passed = all(finding.verdict == "right" for finding in report.findings)
        (self.right if passed else self.wrong).update(called)
        return report


def defined_gradients(path):
    """Qualified names of the functions and methods of a file that are named as a gradient is."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for inner in [node, *getattr(node, "body", [])] if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef) and inner.name.endswith(FORMS):
                names.add(inner.name if inner is node else f"{node.name}.{inner.name}")
    return names


def last_numbers(text):
    """The numbers of the last line that an example prints."""
    return [float(number) for number in re.findall(r"-?\d+\.\d+(?:e[-+]\d+)?", text.splitlines()[-1])]


def check_curve_uncertainty(example, printed):
    """Covariance and estimates are those of curve_fit; the profile interval ends where F reaches its quantile."""
    from scipy.optimize import curve_fit
    from scipy.stats import t

    x, y = example.length[:, 0], example.width
    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
    values, covariance = curve_fit(lambda x, a, b: a * x**b, x, y, [1, 1], **tight)
    assert_allclose([example.result.params["a"], example.result.params["b"]], values, rtol=1e-6)
    assert_allclose(example.result.covariance, covariance, rtol=1e-5)
    assert_allclose(last_numbers(printed)[:2], [values[1], covariance[1, 1] ** 0.5], atol=5e-4)

    def squares(b):
        power = x**b
        return np.sum((y - power * (power @ y) / (power @ power)) ** 2)

    rise = [squares(end) / squares(values[1]) - 1 for end in (example.low, example.high)]
    assert_allclose(148 * np.array(rise), t.ppf(0.975, 148) ** 2, rtol=1e-3)
    assert abs(example.centered_result.correlation[0, 1]) < 0.05 < abs(example.result.correlation[0, 1])


def check_negative_binomial(example, printed):
    """Likelihood, dispersion and standard errors are those of statsmodels."""
    sm = pytest.importorskip("statsmodels.api")
    model = sm.NegativeBinomial(example.y, sm.add_constant(example.X))
    expected = model.fit(method="bfgs", maxiter=1000, gtol=1e-6, disp=0)
    assert example.log_likelihood == pytest.approx(expected.llf, abs=1e-3)
    assert last_numbers(printed)[:2] == pytest.approx([expected.params[-1], expected.bse[-1]], abs=1e-4)
    assert_allclose(example.result.standard_errors["w"], expected.bse[1:-1], rtol=1e-2)
    assert (example.naive.standard_errors["coef"] < 0.5 * example.robust.standard_errors["coef"]).all()


def check_ordinal_classifier(example, printed):
    """The likelihood is that of OrderedModel, and the order helps on held-out patients."""
    ordinal_model = pytest.importorskip("statsmodels.miscmodels.ordinal_model")
    model = ordinal_model.OrderedModel(example.quartile, example.X, distr="logit")
    expected = model.fit(method="bfgs", gtol=1e-6, maxiter=1000, disp=0)
    assert last_numbers(printed)[0] == pytest.approx(expected.llf, abs=2e-4)
    assert_allclose(example.result.standard_errors["w"], expected.bse[:10], rtol=1e-2)
    assert_allclose(example.ordinal.predict_proba(example.X), expected.predict(), atol=1e-3)
    assert example.losses["proportional odds"] < example.losses["multinomial"]


def check_survival(example, printed):
    """Coefficients, errors and concordance are those of lifelines; the truth lies within three standard errors."""
    lifelines = pytest.importorskip("lifelines")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(example.X).assign(time=example.y["time"], event=example.y["event"])
    cox = lifelines.CoxPHFitter().fit(frame, "time", "event")
    assert_allclose(example.cox_result.params["w"], cox.params_, atol=1e-4)
    assert_allclose(example.cox_result.standard_errors["w"], cox.standard_errors_, rtol=1e-3)
    weibull = lifelines.WeibullAFTFitter().fit(frame, "time", "event")
    assert_allclose(example.weibull_result.params["w"], weibull.params_["lambda_"].iloc[:3], atol=1e-3)
    assert np.log(example.rho) == pytest.approx(weibull.params_["rho_"].iloc[0], abs=1e-3)
    assert last_numbers(printed)[0] == pytest.approx(cox.concordance_index_, abs=1e-3)
    for estimate, error, true in (
        (example.rho, example.rho_error, example.true_shape),
        (example.weibull_result.params["w"], example.weibull_result.standard_errors["w"], example.true_w),
    ):
        assert (np.abs(estimate - true) < 3 * error).all()


def check_gaussian_process(example, printed):
    """The marginal likelihood is that of scikit-learn, and the trap is called by its name."""
    assert last_numbers(printed)[0] == pytest.approx(-478.4263, abs=2e-4)
    assert example.log_marginal_likelihood == pytest.approx(example.reference.log_marginal_likelihood_value_, abs=1e-3)
    assert [finding.cause for finding in example.wrong_report.findings] == ["parametrization"] * 3
    theirs = example.reference.predict(example.X[:20])
    assert_allclose(example.best.predict(example.X[:20]), theirs, atol=1e-2)


def check_factorization_machine(example, printed):
    """Errors lie just above the floors of the simulation, and zeros that are written out change nothing."""
    (error,) = last_numbers(printed)
    assert example.noise < error < 1.15 * example.noise
    without_vectors = np.sqrt(example.noise**2 + example.rank * 0.7**4)
    assert example.error_of_biases == pytest.approx(without_vectors, rel=0.05)

    def written_out(params, X, y, ridge):
        loss, gradient = example.loss_and_gradient(params, X, y, ridge)
        for name in ("user", "item", "p", "q"):
            rows, values = gradient[name]
            gradient[name] = np.zeros_like(params[name])
            np.add.at(gradient[name], rows, values)
        return loss, gradient

    short = sk_analytic.AnalyticRegressor(**example.machine.get_params(deep=False)).set_params(max_iter=1)
    short.fit(example.X_train, example.y_train)
    dense = sk_analytic.AnalyticRegressor(**short.get_params(deep=False)).set_params(loss_and_gradient=written_out)
    dense.fit(example.X_train, example.y_train)
    for name in ("user", "item", "p", "q"):
        assert_allclose(dense.params_[name], short.params_[name], rtol=1e-9, atol=1e-12)


def check_mixture_density_network(example, printed):
    """The score is the mixture's likelihood by scipy, above that of one Gaussian and below that of the truth."""
    from scipy.special import softmax
    from scipy.stats import norm

    a, m, s = np.split(example.network.predict(example.X_test), 3, axis=1)
    density = (softmax(a, axis=1) * norm.pdf(example.y_test[:, None], m, np.exp(s))).sum(axis=1)
    (printed_value,) = last_numbers(printed)
    assert printed_value == pytest.approx(np.log(density).mean(), abs=1e-3)
    assert example.gaussian.score(example.X_test, example.y_test) + 0.5 < printed_value
    assert example.best - 0.15 < printed_value < example.best


def check_compare_optimizers(example, printed):
    """The search is scikit-learn's, and its best network as good as MLPClassifier."""
    from sklearn.model_selection import cross_val_score

    best = example.clone(example.network).set_params(**example.search.best_params_)
    direct = cross_val_score(best, example.X_train, example.y_train, cv=3).mean()
    assert example.search.best_score_ == pytest.approx(direct)
    assert example.n_fits == 46
    peer = example.peer.score(example.X_test, example.y_test)
    for model in example.models.values():
        assert model.score(example.X_test, example.y_test) > peer - 0.02
    assert last_numbers(printed)[0] > 0.96


def check_custom_adjoint(example, printed):
    """The Huber fit is that of scipy's least_squares, which differentiates by differences."""
    from scipy.optimize import least_squares

    def residuals(log_conductivity):
        return example.vjp({"conductivity": np.exp(log_conductivity)}, example.X)[0] - example.y

    settings = {"loss": "huber", "f_scale": 0.2, "xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    expected = np.exp(least_squares(residuals, np.zeros(example.n_layers), **settings).x)
    assert_allclose(example.fits["Huber"].params_["conductivity"], expected, rtol=1e-3)
    assert last_numbers(printed)[0] == pytest.approx(np.sqrt(np.mean((expected / example.true - 1) ** 2)), abs=1e-3)
    assert example.errors["Huber"] < 0.25 * example.errors["squared error"]


def check_larger_than_memory(example, printed):
    """Chunks, cluster and memory agree, the truth is found, and chunks take a fraction of the memory."""
    assert example.same
    assert last_numbers(printed)[0] < 1e-6
    assert example.chunked_peak < 0.2 * example.whole_peak
    for name, true in example.true.items():
        assert_allclose(example.distributed.params_[name], true, atol=0.03)


def check_nade_digits(example, printed):
    """The density is that of the main job; the doctor names the published faults; the wrong gradient costs nats."""
    other = load_example("nade_digits").NADE()
    rng = np.random.default_rng(0)
    params = (*rng.normal(size=(2, 5)), *rng.normal(size=(2, 5, 5)))
    X = (rng.random((20, 5)) < 0.5).astype(float)
    assert_allclose(example.log_density(params, X), other.forward(params, X))
    for ours, theirs in zip(example.gradient(params, X), other.gradient(params, X), strict=True):
        assert_allclose(ours, theirs)
    causes = [{finding.cause for finding in report.findings} for report in example.wrong_reports]
    for named, cause in zip(causes, ("log_forgotten", "cumulative_sum", "first_step"), strict=True):
        assert cause in named
    assert 17.5 < last_numbers(printed)[0] < 17.9
    assert example.published_nats > example.nats + 2
    assert example.independent == pytest.approx(25.30, abs=0.005)


def check_rbm_features(example, printed):
    """The features reach BernoulliRBM's accuracy; the mean of many estimates is the exact gradient."""
    (accuracy,) = last_numbers(printed)
    assert accuracy >= max(0.880, example.peer_accuracy - 0.02)
    assert accuracy > example.raw_accuracy
    model, rng, X = example.RBM(n_hidden=4, n_chains=2000), np.random.default_rng(0), example.all_images[:40]
    model.init(X, rng)
    estimates = [model.gradient(example.small, X, rng) for _ in range(120)][20:]
    exact = example.exact_gradient(example.small, X)
    for name, block in exact.items():
        mean = np.mean([estimate[name] for estimate in estimates], axis=0)
        assert_allclose(mean, block, atol=0.01)


CHECKS = {name: globals()[name.replace("plot_", "check_")] for name in GALLERY}


@pytest.fixture(autouse=True)
def no_window(monkeypatch):
    """Figures are drawn, and shown nowhere."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.extend(plt.get_fignums()) or plt.close("all"))
    yield figures
    plt.close("all")


@pytest.mark.parametrize("name", GALLERY)
def test_example_of_the_gallery(name, monkeypatch, capsys, no_window):
    """It runs, shows a figure, has its gradients checked, and ends in the right number."""
    if "import dask" in (EXAMPLES / f"{name}.py").read_text(encoding="utf-8"):
        pytest.importorskip("distributed", reason="dask.distributed is not installed")
    watched = WatchedCheck(EXAMPLES / f"{name}.py")
    monkeypatch.setattr(sk_analytic, "check_gradient", watched)
    example = load_example(name)
    printed = capsys.readouterr().out

    gradients = defined_gradients(EXAMPLES / f"{name}.py") - STOCHASTIC.get(name, set())
    planted = {gradient for gradient in gradients if "wrong" in gradient}
    assert gradients - planted, "an example has a gradient"
    assert planted <= watched.wrong
    assert gradients - planted <= watched.right
    assert no_window, "an example shows a figure"
    CHECKS[name](example, printed)


@pytest.mark.parametrize("name", GALLERY)
def test_example_is_read_in_a_narrow_column(name):
    """Code is at most 88 characters wide, and the file begins with a title and an introduction."""
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    docstring = tree.body[0]
    code = [line for line in text.splitlines()[docstring.end_lineno :] if not line.startswith("#")]
    assert max(map(len, code)) <= 88
    bar, title, same_bar, *introduction = ast.get_docstring(tree).splitlines()
    assert set(bar) == {"="}
    assert bar == same_bar
    assert len(bar) >= len(title)
    assert any(introduction)


def test_gallery_has_a_header():
    """The page of the gallery has its introduction, with a title."""
    assert (EXAMPLES / "GALLERY_HEADER.rst").read_text(encoding="utf-8").startswith("Gallery\n=======\n")
