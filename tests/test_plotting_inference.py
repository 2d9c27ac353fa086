"""Pictures of an inference, and the profiles that they draw: the numbers beside least squares and statsmodels."""

import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from matplotlib import pyplot as plt
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import least_squares
from scipy.sparse import csr_array
from scipy.stats import chi2, f, norm, t
from sklearn.utils import Bunch
from test_constraints import X as TIMES
from test_constraints import Y as DECAY
from test_constraints import curve

from sk_analytic import AnalyticClassifier, AnalyticRegressor, infer
from sk_analytic.exceptions import InferenceWarning
from sk_analytic.maps import Logit
from sk_analytic.plotting import FittedCurveDisplay, IntervalsDisplay, PairsDisplay, ProfileDisplay

N = 80
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)) @ [[1.0, 0.5, 0.0], [0.0, 1.0, 0.7], [0.0, 0.0, 1.0]]
Y = X @ [1.0, -2.0, 0.5] + 3 + RNG.normal(size=N)
FULL = np.column_stack([X, np.ones(N)])
LABELS = (X @ [0.5, 0.0, 1.0] + RNG.logistic(size=N) > 0).astype(int)
DISPLAYS = [IntervalsDisplay, ProfileDisplay, PairsDisplay]


@pytest.fixture(autouse=True)
def _drawn_nowhere():
    """Without a window, and closed afterwards."""
    mpl.use("Agg")
    yield
    plt.close("all")


def with_jacobian(y=Y, **settings):
    """A linear model with an intercept, fitted by least squares."""

    def forward(params, X):
        return X @ params["coef"] + params["intercept"]

    def jacobian(params, X):
        return {"coef": X, "intercept": np.ones(len(X))}

    init = {"coef": np.zeros(3), "intercept": 0.0}
    return AnalyticRegressor(forward, jacobian=jacobian, init=init, **settings).fit(X, y)


@pytest.fixture(scope="module")
def linear():
    return infer(with_jacobian(), X, Y)


@pytest.fixture(scope="module")
def logistic():
    return infer(AnalyticClassifier(optimizer="lbfgs").fit(X, LABELS), X, LABELS, polish=True)


@pytest.fixture(scope="module")
def half_open():
    """A rate that the rows do not bound from above, as the curve has fallen before the second of them."""
    X = np.arange(6.0)[:, None]
    y = np.array([2.0, 0.02, -0.1, 0.1, 0.03, -0.05])

    def forward(params, X):
        return params["a"] * np.exp(-params["b"] * X[:, 0])

    def jacobian(params, X):
        e = np.exp(-params["b"] * X[:, 0])
        return {"a": e, "b": -params["a"] * X[:, 0] * e}

    return infer(AnalyticRegressor(forward, jacobian=jacobian, init={"a": 1.5, "b": 2.0}).fit(X, y), X, y)


def least_loss(held, y=Y):
    """The sum of squares of a linear model with some entries held, and all entries there."""
    theta = np.zeros(4)
    others = [entry for entry in range(4) if entry not in held]
    theta[list(held)] = list(held.values())
    theta[others] = np.linalg.lstsq(FULL[:, others], y - FULL @ theta, rcond=None)[0]
    return float(np.sum((y - FULL @ theta) ** 2)), theta


def in_order(result):
    return np.r_[result.params["coef"].ravel(), np.ravel(result.params["intercept"])]


# ---- profiles as numbers ----


@pytest.mark.parametrize("name", ["coef[1]", "intercept"])
def test_a_profile_is_the_least_loss_with_a_parameter_held(linear, name):
    """Of least squares by numpy, in units of the residuals' variance; the others are where numpy's are."""
    profile = linear.profile(name, level=0.9, n_points=8)
    entry = linear.names.index(name)
    least, best = least_loss({})
    for value, rise, params in zip(profile.value, profile.rise, profile.params, strict=True):
        loss, theta = least_loss({entry: value})
        assert rise == pytest.approx((loss - least) / (least / (N - 4)), abs=1e-6)
        assert_allclose(params, theta, atol=1e-4)
    assert len(profile.value) == 8
    assert_array_equal(profile.params[:, entry], profile.value)
    assert_allclose(profile.root, (profile.value - best[entry]) / linear._errors[entry], atol=1e-5)
    assert_allclose(profile.root[[0, -1]], t.ppf([0.05, 0.95], N - 4), rtol=1e-4)


def test_a_profile_of_a_likelihood_is_that_of_statsmodels(logistic):
    """The other coefficients fitted anew, the log-likelihood at its quantile of the normal distribution at the ends."""
    full = sm.add_constant(X)
    best = sm.Logit(LABELS, full).fit(disp=0, method="newton", tol=1e-13).llf
    profile = logistic.profile("coef[2]", level=0.95, n_points=5)
    for value, rise in zip(profile.value, profile.rise, strict=True):
        others = np.delete(full, 3, axis=1)
        held = sm.GLM(LABELS, others, family=sm.families.Binomial(), offset=value * X[:, 2]).fit(tol=1e-13)
        assert rise == pytest.approx(2 * (best - held.llf), abs=1e-5)
    assert_allclose(profile.root[[0, -1]], norm.ppf([0.025, 0.975]), rtol=1e-4)
    assert_allclose(
        profile.value[[0, -1]],
        logistic.confidence_intervals(0.95, "profile", parameters="coef[2]")[0],
        rtol=1e-6,
    )


@pytest.mark.parametrize("maps", [{"tau": "log"}, {"tau": Logit(0, 5), "height": "log"}], ids=str)
def test_a_profile_under_maps_is_that_without(maps):
    """In the user's own numbers: the same rise at the same values, and all parameters in them."""
    plain = infer(curve(optimizer="trf").fit(TIMES, DECAY), TIMES, DECAY)
    mapped = infer(curve(optimizer="trf", reparametrize=maps).fit(TIMES, DECAY), TIMES, DECAY)
    expected, found = plain.profile("tau", n_points=41), mapped.profile("tau", n_points=41)
    assert_allclose(found.value[[0, -1]], expected.value[[0, -1]], rtol=1e-5)
    assert_allclose(np.interp(expected.value, found.value, found.root), expected.root, atol=2e-3)
    assert_allclose(found.params[[0, -1]], expected.params[[0, -1]], rtol=1e-4)


def test_a_profile_goes_on_where_another_parameter_meets_its_bound():
    """There the loss is minimized on the bound, as scipy does; the end of the interval was infinite."""
    low, high = np.array([0.0, 0.0]), np.array([2.0, 1.35])
    model = curve(optimizer="trf", bounds={"height": (0, high[0]), "tau": (0, high[1])}).fit(TIMES, DECAY)
    result = infer(model, TIMES, DECAY)

    def rise(entry, value):
        other = 1 - entry

        def residuals(x):
            p = np.array([value, x[0]] if entry == 0 else [x[0], value])
            return p[0] * np.exp(-TIMES[:, 0] / p[1]) - DECAY

        tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
        start = result._estimate[other] * 0.99
        found = least_squares(residuals, [start], bounds=([low[other]], [high[other]]), **tight)
        at = np.sum((result._estimate[0] * np.exp(-TIMES[:, 0] / result._estimate[1]) - DECAY) ** 2)
        return (2 * found.cost - at) / result.scale

    for entry, name in enumerate(["height", "tau"]):
        profile = result.profile(name, level=0.95, n_points=7)
        for value, found in zip(profile.value, profile.rise, strict=True):
            assert found == pytest.approx(rise(entry, value), abs=2e-4)
        assert profile.value[-1] == high[entry]
        ends = result.confidence_intervals(0.95, "profile", parameters=name)[0]
        assert ends[1] == high[entry]
        assert_allclose(profile.value[[0, -1]], ends, rtol=1e-6)
        assert profile.root[0] == pytest.approx(t.ppf(0.025, result.df), rel=1e-4)
    assert (profile.params <= high).all()


def test_rounding_moves_no_parameter_over_its_bound():
    """Whatever the bound is, an interval that reaches it ends there."""
    for high in 2 + np.linspace(0, 0.01, 8):
        result = infer(curve(optimizer="trf", bounds={"height": (0, high)}).fit(TIMES, DECAY), TIMES, DECAY)
        assert result.confidence_intervals(0.999, "profile", parameters="height")[0, 1] == high
        assert result.profile("height", 0.999, n_points=3).value[-1] == high


def test_an_open_profile_ends_with_the_wald_interval(half_open):
    """Without reaching the level."""
    profile = half_open.profile("b", level=0.95)
    assert profile.value[-1] == pytest.approx(half_open.confidence_intervals(0.95)[1, 1], rel=1e-9)
    assert profile.root[-1] < 1
    assert profile.root[0] == pytest.approx(t.ppf(0.025, half_open.df), rel=1e-4)


def test_a_profile_that_cannot_be_is_refused(linear):
    """By name, size, kind of covariance, and if the parameter has no standard error."""
    with pytest.raises(ValueError, match=r"takes the name of one entry; 'coef' has 3: coef\[0\], coef\[1\], coef\[2\]"):
        linear.profile("coef")
    with pytest.raises(ValueError, match="no parameter 'intercpt'. Did you mean 'intercept'"):
        linear.profile("intercpt")
    with pytest.raises(ValueError, match="profile: n_points must be a whole number in"):
        linear.profile("intercept", n_points=2)
    with pytest.raises(ValueError, match="profile: level must be a number in"):
        linear.profile("intercept", level=1.0)
    with pytest.raises(ValueError, match="treats the loss as a likelihood, but covariance='HC0' does not"):
        infer(with_jacobian(), X, Y, covariance="HC0").profile("intercept")
    fixed = infer(with_jacobian(fixed="intercept"), X, Y)
    with pytest.raises(
        ValueError, match="There is no profile of intercept, which is fixed, on a bound, or not identified"
    ):
        fixed.profile("intercept")


def test_a_profile_says_that_a_smaller_loss_is_near():
    """Where the parameters were set by hand; the warning names the caller's line."""
    model = with_jacobian()
    model.params_ = {**model.params_, "intercept": model.params_["intercept"] + 0.1}
    with pytest.warns(InferenceWarning, match="standard errors from the optimum"):
        result = infer(model, X, Y)
    with pytest.warns(InferenceWarning, match=r"A smaller loss was found on the profile of coef\[0\]") as caught:
        result.profile("coef[0]", n_points=3)
    assert caught[0].filename == __file__


# ---- intervals ----


def spans(display):
    """The ends of the lines, and the heights at which they are drawn."""
    segments = np.array(display.lines_.get_segments())
    return segments[:, :, 0], segments[:, 0, 1]


@pytest.mark.parametrize("method", ["wald", "profile", "bootstrap"])
def test_intervals_are_drawn_where_they_are(linear, method):
    """A dot at each estimate, a line from end to end, the first parameter on top."""
    settings = {"n_resamples": 20, "random_state": 0}
    display = IntervalsDisplay.from_inference(linear, level=0.9, method=method, **settings)
    ends, heights = spans(display)
    assert_allclose(ends, linear.confidence_intervals(0.9, method, **settings))
    assert_array_equal(heights, range(4))
    assert_allclose(display.points_.get_xdata(), in_order(linear))
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == linear.names
    assert display.ax_.get_ylim() == (3.5, -0.5)
    word = {"wald": "Wald"}.get(method, method)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [f"90 % {word}"]
    assert display.figure_ is display.ax_.figure


def test_relative_intervals_are_in_standard_errors(linear):
    """So those of a linear model have the quantiles of t as their ends, whatever the units are."""
    display = IntervalsDisplay.from_inference(linear, method="profile", relative=True)
    assert_allclose(spans(display)[0], np.tile(t.ppf([0.025, 0.975], N - 4), (4, 1)), rtol=1e-4)
    assert_array_equal(display.points_.get_xdata(), np.zeros(4))
    assert "standard errors" in display.ax_.get_xlabel()


def test_results_stand_below_each_other(linear):
    """Parameters are matched by name, others come below; every result has its color and its place in the row."""
    first = IntervalsDisplay.from_inference(linear, parameters=["intercept", "coef[1]"])
    second = IntervalsDisplay.from_inference(
        linear, parameters="coef", ax=first.ax_, name="second", line_kw={"color": "red"}
    )
    assert [label.get_text() for label in first.ax_.get_yticklabels()] == ["intercept", "coef[1]", "coef[0]", "coef[2]"]
    assert_array_equal(second.points_.get_ydata(), [2, 1, 3])
    heights = [
        (display.points_.get_transform() - first.ax_.transData).transform((0, 1))[1] for display in (first, second)
    ]
    assert heights == pytest.approx([1 - 0.175, 1 + 0.175])
    assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == ["95 % Wald", "second"]
    assert second.points_.get_color() == "red" != first.points_.get_color()
    assert_allclose(second.lines_.get_color(), [[1, 0, 0, 1]])


def test_what_has_no_interval_is_hollow():
    """Held or not identified: an estimate without a line."""
    same = np.column_stack([X[:, 0], X[:, 0], X[:, 1]])
    with pytest.warns(InferenceWarning, match="Not identified"):
        result = infer(with_jacobian(fixed="intercept").set_params(fixed="intercept").fit(same, Y), same, Y)
    for relative in (False, True):
        display = IntervalsDisplay.from_inference(result, relative=relative)
        assert_array_equal(display.points_.get_ydata(), [2])
        assert_array_equal(display.hollow_.get_ydata(), [0, 1, 3])
        assert len(display.lines_.get_segments()) == 1
        assert display.hollow_.get_markerfacecolor() == "white"
        assert np.isfinite(display.hollow_.get_xdata()).all()
        display.figure_.canvas.draw()


def test_an_open_end_is_an_arrow(half_open):
    """From the estimate to the edge of the axes; the other end is a line."""
    with pytest.warns(InferenceWarning, match="The profile interval is open for b"):
        display = IntervalsDisplay.from_inference(half_open, method="profile")
    [arrow] = display.arrows_
    assert arrow.xy == (1, 1.0)
    assert arrow.xyann == (half_open.params["b"], 1.0)
    ends, _ = spans(display)
    assert ends[1, 1] == half_open.params["b"]
    assert ends[1, 0] < ends[1, 1]
    display.figure_.canvas.draw()
    edge = arrow.arrow_patch.get_window_extent().x1
    assert edge == pytest.approx(display.ax_.get_window_extent().x1, abs=8)


def test_intervals_can_be_drawn_from_numbers():
    """And an interval open at both ends has two arrows."""
    display = IntervalsDisplay(["a", "b"], [1.0, 2.0], [[0.0, 3.0], [-np.inf, np.inf]]).plot()
    assert len(display.arrows_) == 2
    assert display.ax_.get_legend() is None
    assert display.plot(name="again").ax_.get_legend() is not None


# ---- profiles ----


@pytest.mark.parametrize("scale", ["root", "rise"])
def test_profiles_are_drawn_through_their_points(logistic, scale):
    """In a panel for each parameter, with Wald's line and the ends of the profile intervals on the levels."""
    levels = (0.8, 0.95)
    display = ProfileDisplay.from_inference(logistic, levels=levels, scale=scale, n_points=9)
    assert [ax.get_xlabel() for ax in display.axes_] == logistic.names
    intervals = [logistic.confidence_intervals(level, "profile") for level in levels]
    power = {"root": 1, "rise": 2}[scale]
    for entry, (line, wald, marks) in enumerate(zip(display.lines_, display.wald_lines_, display.marks_, strict=True)):
        points = logistic.profile(logistic.names[entry], 0.95, n_points=9)
        drawn = dict(line.get_xydata().tolist())
        assert_allclose([drawn[value] for value in points.value], points.root**power, atol=1e-9)
        expected = np.array([interval[entry] for interval in intervals]).ravel()
        assert_allclose(marks.get_xdata(), expected, rtol=2e-3)
        quantiles = np.array([[-1, 1]]) * norm.ppf([[0.9], [0.975]])
        assert_allclose(marks.get_ydata(), quantiles.ravel() ** power)
        distance = (wald.get_xdata() - in_order(logistic)[entry]) / logistic._errors[entry]
        assert_allclose(wald.get_ydata(), distance**power, atol=1e-9)
    written = [text.get_text() for text in display.axes_[0].texts]
    assert written == {"root": ["80 %", "80 %", "95 %", "95 %"], "rise": ["80 %", "95 %"]}[scale]
    quantiles = norm.ppf([0.9, 0.975])
    expected = {"root": [quantiles[0], -quantiles[0], quantiles[1], -quantiles[1]], "rise": quantiles**2}[scale]
    assert_allclose([text.xy[1] for text in display.axes_[0].texts], expected)
    name = {"root": "signed root deviance", "rise": "increase in deviance"}[scale]
    assert display.axes_[0].get_ylabel() == name
    assert display.figure_ is display.axes_[0].figure


def test_a_second_profile_stands_in_the_same_panels(linear):
    """Levels and Wald are written once."""
    first = ProfileDisplay.from_inference(linear, parameters="coef", n_points=5)
    second = ProfileDisplay.from_inference(
        linear, parameters="coef", n_points=5, axes=first.axes_, name="again", line_kw={"color": "red"}
    )
    assert second.axes_.tolist() == first.axes_.tolist()
    texts = [text.get_text() for text in first.axes_[0].get_legend().get_texts()]
    assert texts == ["profile", "Wald", "again"]
    assert len(first.axes_[0].texts) == 6
    assert second.lines_[0].get_color() == second.marks_[0].get_color() == "red"
    with pytest.raises(ValueError, match="ProfileDisplay: axes must be 4 axes, one for each parameter; got 3"):
        ProfileDisplay.from_inference(linear, axes=first.axes_)


def test_an_open_profile_has_no_mark_where_it_is_open(half_open):
    """And its panel is as wide as the profile, not as Wald's line."""
    display = ProfileDisplay.from_inference(half_open, levels=(0.95,))
    assert [len(marks.get_xdata()) for marks in display.marks_] == [2, 1]
    values = display.curves[1].value
    assert display.axes_[1].get_xlim()[0] > values[0] - (values[-1] - values[0])


# ---- pairs ----


def test_on_an_ellipse_the_loss_rises_by_the_quantile_of_f(linear):
    """Of 2 and n - p degrees of freedom, with the other parameters fitted anew by numpy: the joint region."""
    display = PairsDisplay.from_inference(linear, parameters=["coef[2]", "coef[0]", "intercept"], levels=[0.9, 0.5])
    entries = [2, 0, 3]
    least, _ = least_loss({})
    for (row, column), lines in display.lines_.items():
        for level, line in zip((0.5, 0.9), lines, strict=True):
            for x, y in line.get_xydata()[::30]:
                loss, _ = least_loss({entries[column]: x, entries[row]: y})
                assert (loss - least) / linear.scale == pytest.approx(2 * f.ppf(level, 2, N - 4), rel=1e-6)
    assert set(display.lines_) == {(1, 0), (2, 0), (2, 1)}
    assert display.axes_.shape == (3, 3)
    assert display.axes_[0, 1] is display.axes_[1, 2] is None
    assert [ax.get_xlabel() for ax in display.axes_[2]] == ["coef[2]", "coef[0]", "intercept"]
    assert [ax.get_ylabel() for ax in display.axes_[1:, 0]] == ["coef[0]", "intercept"]


def test_ellipses_of_a_likelihood_have_the_quantile_of_chi_squared(logistic):
    """By the covariance of the pair."""
    display = PairsDisplay.from_inference(logistic, parameters=["coef[0]", "coef[1]"], levels=0.95)
    points = display.ellipses[0, 1][0.95] - in_order(logistic)[:2]
    inverse = np.linalg.inv(logistic.covariance[:2, :2])
    assert_allclose(np.einsum("ni,ij,nj->n", points, inverse, points), chi2.ppf(0.95, 2), rtol=1e-9)


def test_ellipses_under_a_map_are_those_of_what_is_trained():
    """That of a positive time stays positive: it is an ellipse in its logarithm. Bounds cut it."""
    settings = {"optimizer": "trf", "bounds": {"height": (0, 2.0)}}
    mapped = infer(curve(**settings, reparametrize={"tau": "log"}).fit(TIMES, DECAY), TIMES, DECAY)
    points = PairsDisplay.from_inference(mapped, levels=0.99).ellipses[0, 1][0.99]
    assert points[:, 0].max() == 2.0
    kept = points[:, 0] < 2.0
    estimate = np.array([mapped.params["height"], np.log(mapped.params["tau"])])
    per_unit = np.diag([1.0, 1 / mapped.params["tau"]])
    inverse = np.linalg.inv(per_unit @ mapped.covariance @ per_unit)
    there = np.column_stack([points[kept, 0], np.log(points[kept, 1])]) - estimate
    assert_allclose(np.einsum("ni,ij,nj->n", there, inverse, there), 2 * f.ppf(0.99, 2, mapped.df), rtol=1e-6)


def test_the_diagonal_has_profiles_and_the_panels_their_traces(logistic):
    """As `profile` gives them, and named; without, Wald's parabolas."""
    names = ["coef[2]", "coef[0]"]
    display = PairsDisplay.from_inference(logistic, parameters=names, diagonal="profile", n_points=7)
    across, up = display.trace_lines_[1, 0]
    for name, line in zip(names, (across, up), strict=True):
        assert_allclose(line.get_xydata(), logistic.profile(name, 0.95, n_points=7).params[:, [2, 0]])
    drawn = dict(display.profile_lines_[1].get_xydata().tolist())
    points = logistic.profile("coef[0]", 0.95, n_points=7)
    assert_allclose([drawn[value] for value in points.value], points.rise, atol=1e-9)
    given = ["best coef[0] given coef[2]", "best coef[2] given coef[0]"]
    assert labels(display.axes_[0, 0]) == ["profile", "Wald", *given]
    looks = {(line.get_color(), line.get_linestyle()) for line in (across, up)}
    assert len(looks) == 2
    assert not looks & {(line.get_color(), line.get_linestyle()) for line in display.axes_[0, 0].lines}
    assert display.axes_[0, 0].get_ylabel() == "increase in deviance"
    three = PairsDisplay.from_inference(logistic, parameters="coef", diagonal="profile", n_points=5)
    assert labels(three.axes_[0, 0])[2:] == ["best y-value given x-value", "best x-value given y-value"]
    wald = PairsDisplay.from_inference(logistic, parameters=names)
    assert wald.trace_lines_[1, 0] == []
    values, rises = wald.profile_lines_[0].get_data()
    assert_allclose(rises, ((values - in_order(logistic)[2]) / logistic._errors[2]) ** 2, atol=1e-9)


@pytest.mark.parametrize("levels", [(0.68, 0.95), (0.5, 0.8, 0.99)], ids=str)
@pytest.mark.parametrize("correlation", [0.0, 0.7, -0.7, 0.995, -0.995])
def test_ellipses_are_labeled_by_their_levels(correlation, levels):
    """Within the frame: on the ellipse if no other line is there, otherwise beside all of them with a line to it."""
    rows = RNG.normal(size=(N, 2))
    rows[:, 1] = -correlation * rows[:, 0] + np.sqrt(1 - correlation**2) * rows[:, 1]
    y = rows @ [1.0, 2.0] + RNG.normal(size=N)

    def forward(params, X):
        return X @ params["coef"]

    model = AnalyticRegressor(forward, jacobian=lambda params, X: {"coef": X}, init={"coef": np.zeros(2)}).fit(rows, y)
    display = PairsDisplay.from_inference(infer(model, rows, y), levels=levels, diagonal="profile", n_points=5)
    ax = display.axes_[1, 0]
    display.figure_.canvas.draw()
    renderer, frame = display.figure_.canvas.get_renderer(), ax.get_window_extent()
    assert [text.get_text() for text in ax.texts] == [f"{100 * level:.4g} %" for level in levels]
    boxes = []
    for number, text in enumerate(ax.texts):
        own = display.lines_[1, 0][number].get_xydata()
        assert np.isclose(own, text.xy, rtol=1e-12).all(axis=1).any()
        box = mpl.text.Text.get_window_extent(text, renderer)
        boxes.append(box)
        assert frame.x0 < box.x0 < box.x1 < frame.x1
        assert frame.y0 < box.y0 < box.y1 < frame.y1
        for line in ax.lines:
            drawn = np.asarray(line.get_xydata(), dtype=float)
            points = ax.transData.transform(drawn)
            within = (box.min < points).all(axis=1) & (points < box.max).all(axis=1)
            is_own = len(drawn) == len(own) and (drawn == own).all()
            assert not within.any() or is_own
    assert not any(one.overlaps(other) for at, one in enumerate(boxes) for other in boxes[:at])
    if abs(correlation) != 0.7:
        assert {text.arrow_patch is not None for text in ax.texts} == {correlation != 0}


def test_ellipses_that_are_not_finite_have_no_labels():
    """Nor are they an error; the levels of more than seven parameters are only on the diagonal."""
    ellipses = {(0, 1): {0.5: np.full((4, 2), np.nan), 0.9: np.full((4, 2), np.inf)}}
    curves = [(np.arange(5.0), np.arange(-2, 3.0))] * 2
    display = PairsDisplay(["a", "b"], [2.0, 2.0], ellipses, curves, {0.5: 1.0, 0.9: 2.0}).plot()
    assert not display.axes_[1, 0].texts
    many = np.random.default_rng(0).normal(size=(30, 8))
    y = many.sum(axis=1) + np.random.default_rng(1).normal(size=30)
    model = AnalyticRegressor(optimizer="lbfgs", tol=1e-9).fit(many, y)
    for parameters, has_labels in (["coef"], False), ([f"coef[{k}]" for k in range(7)], True):
        display = PairsDisplay.from_inference(infer(model, many, y), parameters=parameters)
        assert bool(display.axes_[1, 0].texts) == has_labels
        assert display.axes_[1, 1].texts


def test_two_results_stand_in_the_same_pairs(linear):
    """Each in its color, by name."""
    first = PairsDisplay.from_inference(linear, parameters="coef", name="one")
    robust = infer(with_jacobian(), X, Y, covariance="HC3")
    second = PairsDisplay.from_inference(robust, parameters="coef", name="two", axes=first.axes_)
    assert first.lines_[1, 0][0].get_color() != second.lines_[1, 0][0].get_color()
    assert [text.get_text() for text in first.axes_[0, 0].get_legend().get_texts()] == ["one", "two"]
    with pytest.raises(ValueError, match=r"axes must have shape \(4, 4\)"):
        PairsDisplay.from_inference(linear, axes=first.axes_)
    with pytest.raises(ValueError, match="contains an entry twice"):
        PairsDisplay.from_inference(linear, parameters=["coef", "coef[0]"])


# ---- all of them ----


@pytest.mark.parametrize("display", [ProfileDisplay, PairsDisplay])
def test_parameters_without_an_error_are_left_out_or_refused(display):
    """Left out of all; refused by name."""
    result = infer(with_jacobian(fixed="intercept"), X, Y)
    assert list(display.from_inference(result).names) == ["coef[0]", "coef[1]", "coef[2]"]
    with pytest.raises(ValueError, match=f"{display.__name__}: intercept cannot be plotted without a standard error"):
        display.from_inference(result, parameters=["coef", "intercept"])
    with pytest.raises(ValueError, match=f"{display.__name__}: levels must be a number in"):
        display.from_inference(result, levels=(0.5, 95))
    with pytest.raises(ValueError, match=f"{display.__name__}: levels must have at least one"):
        display.from_inference(result, levels=())


@pytest.mark.parametrize("display", DISPLAYS)
def test_styles_are_looked_at_before_work_is_done(linear, display, monkeypatch):
    """As are choices; nothing is evaluated for an error of spelling."""

    def never(*args, **kwargs):
        raise AssertionError

    for method in ("confidence_intervals", "_curves", "_away"):
        monkeypatch.setattr(type(linear), method, never)
    with pytest.raises(AttributeError, match="linewidht"):
        display.from_inference(linear, line_kw={"linewidht": 3})
    choice = {IntervalsDisplay: "relative", ProfileDisplay: "scale", PairsDisplay: "diagonal"}[display]
    with pytest.raises(ValueError, match=f"{display.__name__}: {choice} must be"):
        display.from_inference(linear, **{choice: "log"})
    with pytest.raises(ValueError, match="There is no parameter 'slope'"):
        display.from_inference(linear, parameters="slope")
    with pytest.raises(ValueError, match=rf"{display.__name__}: parameters=\[\] names no entry. Available: coef\[0\]"):
        display.from_inference(linear, parameters=[])


@pytest.mark.parametrize("display", [*DISPLAYS, FittedCurveDisplay])
def test_an_estimator_is_no_inference(display):
    """The message says how to get one."""
    with pytest.raises(TypeError, match=rf"{display.__name__} requires an Inference, .*Pass infer\(model, X, y\)"):
        display.from_inference(AnalyticRegressor(), *([X] if display is FittedCurveDisplay else []))


@pytest.mark.parametrize("display", [*DISPLAYS, FittedCurveDisplay])
def test_without_matplotlib_the_message_names_the_extra(linear, display, monkeypatch):
    """Before anything is evaluated."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        display.from_inference(linear, *([X] if display is FittedCurveDisplay else []))


def overlaps(texts, renderer):
    """Pairs of texts of a figure that touch each other."""
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    boxes = [(text, box.x0, box.x1, box.y0, box.y1) for text, box in boxes if text.strip() and box.width]
    return [
        (a[0], b[0])
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if a[1] < b[2] and b[1] < a[2] and a[3] < b[4] and b[3] < a[4]
    ]


@pytest.mark.parametrize("n", [1, 4, 12])
@pytest.mark.parametrize("display", DISPLAYS)
def test_no_text_overlaps_another(display, n):
    """For up to 12 parameters of very different size, far from zero, with long names."""
    size = 10.0 ** np.resize([-6, 0, 5, 2], n)
    rows = np.random.default_rng(1).normal(size=(60, n)) / size
    y = rows.sum(axis=1) + np.random.default_rng(2).normal(size=60)

    def forward(params, X):
        return X @ params["first_layer.W"]

    def jacobian(params, X):
        return {"first_layer.W": X}

    model = AnalyticRegressor(forward, jacobian=jacobian, init={"first_layer.W": np.zeros(n)}).fit(rows, y)
    settings = {"n_points": 5} if display is ProfileDisplay else {}
    drawn = display.from_inference(infer(model, rows, y), **settings)
    figure = drawn.figure_
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = []
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            ticks = [label for tick in axis.get_major_ticks() for label in (tick.label1,) if label.get_visible()]
            low, high = sorted(axis.get_view_interval())
            kept = [
                label
                for tick, label in zip(axis.get_major_ticks(), ticks, strict=False)
                if low <= tick.get_loc() <= high
            ]
            texts += [*kept, axis.label, *([axis.offsetText] if axis.offsetText.get_visible() else [])]
        texts += ax.texts
    if display is PairsDisplay and n == 12:  # numbers at 45°, whose boxes overlap and whose letters do not
        texts = [text for text in texts if text.get_rotation() != 45]
    assert overlaps(texts, renderer) == []


@pytest.mark.parametrize("display", [*DISPLAYS, FittedCurveDisplay])
def test_letters_are_not_smaller_than_small(linear, display):
    """Matplotlib's size "small" is the smallest, in ticks, labels, levels and legends."""
    settings = {"diagonal": "profile", "n_points": 5} if display is PairsDisplay else {}
    data = [X, Y] if display is FittedCurveDisplay else []
    figure = display.from_inference(linear, *data, **settings).figure_
    figure.canvas.draw()
    texts = [text for text in figure.findobj(mpl.text.Text) if text.get_text().strip() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= 8.3


def labels(ax):
    return [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("display", [IntervalsDisplay, ProfileDisplay])
def test_results_of_one_name_are_told_apart(display):
    """By the covariance, or by what differs in the models; each has a marker of its own."""
    model = with_jacobian()
    results = [infer(model, X, Y, covariance=kind) for kind in ("hessian", "gauss_newton")]
    if display is IntervalsDisplay:
        first = display.from_inference(results[0])
        second = display.from_inference(results[1], ax=first.ax_)
        ax, lines, name = first.ax_, [first.points_, second.points_], "95 % Wald"
    else:
        first = display.from_inference(results[0], n_points=5)
        second = display.from_inference(results[1], n_points=5, axes=first.axes_)
        ax, lines, name = first.axes_[0], [first.marks_[0], second.marks_[0]], "profile"
        assert [drawn.lines_[0].get_marker() for drawn in (first, second)] == [line.get_marker() for line in lines]
    written = [f"{name} (covariance='{kind}')" for kind in ("hessian", "gauss_newton")]
    assert [label for label in labels(ax) if label != "Wald"] == written
    assert lines[0].get_marker() != lines[1].get_marker()
    assert lines[0].get_color() != lines[1].get_color()


def test_pairs_of_two_results_differ_in_more_than_color(linear):
    """By the marker of estimates and ellipses."""
    first = PairsDisplay.from_inference(linear, parameters="coef", name="one")
    second = PairsDisplay.from_inference(linear, parameters="coef", name="two", axes=first.axes_)
    for pair, lines in first.lines_.items():
        assert {line.get_marker() for line in lines} != {line.get_marker() for line in second.lines_[pair]}
    assert first.profile_lines_[0].get_marker() != second.profile_lines_[0].get_marker()


@pytest.mark.parametrize("display", [IntervalsDisplay, ProfileDisplay, FittedCurveDisplay])
def test_legends_stand_above_the_axes(linear, display):
    """Where they hide nothing."""
    drawn = display.from_inference(linear, *([X, Y] if display is FittedCurveDisplay else []))
    ax = drawn.axes_[0] if display is ProfileDisplay else drawn.ax_
    drawn.figure_.canvas.draw()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1


# ---- fitted curves ----


def band(collection, n_grid):
    """The ends of a band as it is drawn."""
    vertices = collection.get_paths()[0].vertices
    return vertices[1 : n_grid + 1, 1], vertices[n_grid + 2 : -1, 1][::-1]


def test_bands_are_those_of_statsmodels(linear):
    """Of the mean and of observations, with the other features at their medians; the points are the data."""
    display = FittedCurveDisplay.from_inference(linear, X, Y, feature=1, n_grid=9, level=0.9)
    rows = np.tile(np.median(X, axis=0), (9, 1))
    rows[:, 1] = display.grid
    predicted = sm.OLS(Y, FULL).fit().get_prediction(np.column_stack([rows, np.ones(9)]))
    assert_allclose(display.lines_[0].get_ydata(), predicted.predicted_mean, rtol=1e-6)
    bands = [display.mean_bands_[0], display.observation_bands_[0]]
    for drawn, is_observation in zip(bands, (False, True), strict=True):
        ends = np.sort(band(drawn, 9), axis=0)
        assert_allclose(ends.T, predicted.conf_int(obs=is_observation, alpha=0.1), rtol=1e-6)
    assert_array_equal(display.points_[0].get_xydata(), np.column_stack([X[:, 1], Y]))
    assert display.grid[0] < X[:, 1].min() < X[:, 1].max() < display.grid[-1]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("x1", "y")
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["fitted curve", "90 % confidence band", "90 % prediction band", "data"]


def test_a_probability_is_drawn_for_a_classifier(logistic):
    """Of the second of two classes, with the band of statsmodels; no band of observations."""
    labels = np.array(["no", "yes"])[LABELS]
    result = infer(AnalyticClassifier(optimizer="lbfgs").fit(X, labels), X, labels, polish=True)
    display = FittedCurveDisplay.from_inference(result, X, labels, feature=2, n_grid=7, at={0: 0.5})
    rows = np.tile(np.median(X, axis=0), (7, 1))
    rows[:, 0], rows[:, 2] = 0.5, display.grid
    reference = sm.Logit(LABELS, FULL).fit(disp=0, method="newton", tol=1e-13)
    predicted = reference.get_prediction(np.column_stack([rows, np.ones(7)]))
    linear_part = np.column_stack([rows, np.ones(7)]) @ reference.params
    assert_allclose(display.lines_[0].get_ydata(), 1 / (1 + np.exp(-linear_part)), rtol=1e-5)
    assert_allclose(np.sort(band(display.mean_bands_[0], 7), axis=0).T, predicted.conf_int(), rtol=1e-4)
    assert display.observation_bands_ == [None]
    assert_array_equal(display.points_[0].get_ydata(), LABELS)
    assert display.ax_.get_ylabel() == "probability of class yes"
    other = FittedCurveDisplay.from_inference(result, X, labels, feature=2, n_grid=7, at={0: 0.5}, target="no")
    assert_allclose(other.lines_[0].get_ydata(), 1 - display.lines_[0].get_ydata())
    assert_array_equal(other.points_[0].get_ydata(), 1 - LABELS)
    with pytest.raises(ValueError, match="target='maybe' is not one of 'no', 'yes'"):
        FittedCurveDisplay.from_inference(result, X, labels, target="maybe")
    with pytest.raises(ValueError, match="interval='observation' requires the squared error"):
        FittedCurveDisplay.from_inference(result, X, labels, band="observation")


def test_several_classes_have_a_curve_each():
    """They sum to 1; their samples stand in rows above."""
    labels = np.digitize(X[:, 0] + RNG.normal(size=N), [-1, 1])
    with pytest.warns(InferenceWarning, match="Not identified"):  # the scores of classes but for a constant
        result = infer(AnalyticClassifier(optimizer="lbfgs").fit(X, labels), X, labels, polish=True)
    display = FittedCurveDisplay.from_inference(result, X, labels)
    assert_allclose(sum(line.get_ydata() for line in display.lines_), 1)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["class 0", "class 1", "class 2"]
    for number, points in enumerate(display.points_):
        assert_array_equal(points.get_xdata(), X[labels == number, 0])
        assert (points.get_ydata() > 1).all()
    one = FittedCurveDisplay.from_inference(result, X, labels, target=1)
    assert_allclose(one.lines_[0].get_ydata(), display.lines_[1].get_ydata())


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_a_data_frame_have_names(linear, library):
    """In `feature` and in `at`, on the axes, and in what predictions get."""
    frames = pytest.importorskip(library)
    names = ["age", "mass", "height"]
    frame = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    model = with_jacobian()
    result = infer(model.fit(frame, Y), frame, Y)
    display = FittedCurveDisplay.from_inference(
        result, frame, pd.Series(Y, name="speed"), feature="mass", at={"age": 2.0}, n_grid=5
    )
    plain = FittedCurveDisplay.from_inference(linear, X, Y, feature=1, at={0: 2.0}, n_grid=5)
    assert_allclose(display.lines_[0].get_ydata(), plain.lines_[0].get_ydata())
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("mass", "speed")
    with pytest.raises(ValueError, match=r"there is no feature 'mas'. Did you mean 'mass'\? X has: age, mass"):
        FittedCurveDisplay.from_inference(result, frame, Y, feature="mas")
    with pytest.raises(ValueError, match="at contains 'mass', the feature of the curve"):
        FittedCurveDisplay.from_inference(result, frame, Y, feature="mass", at={"mass": 2.0})


def test_features_that_do_not_exist_are_refused(linear):
    """By name of an array, and by index."""
    with pytest.raises(ValueError, match="no feature 'mass': X has 3 columns without names"):
        FittedCurveDisplay.from_inference(linear, X, Y, feature="mass")
    with pytest.raises(ValueError, match="there is no feature 3: X has 3"):
        FittedCurveDisplay.from_inference(linear, X, Y, feature=3)
    with pytest.raises(ValueError, match="there is no feature 5: X has 3"):
        FittedCurveDisplay.from_inference(linear, X, Y, at={5: 1.0})
    with pytest.raises(ValueError, match=r"there is no feature 0.5: X has 3"):
        FittedCurveDisplay.from_inference(linear, X, Y, feature=0.5)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        FittedCurveDisplay.from_inference(linear, X, Y[:-1])
    with pytest.raises(ValueError, match=r"X must be of shape .*, not empty; got \(0, 3\)"):
        FittedCurveDisplay.from_inference(linear, X[:0])
    with pytest.raises(ValueError, match="grid must have at least two values"):
        FittedCurveDisplay.from_inference(linear, X, Y, grid=[1.0])


def test_a_sparse_matrix_is_held_at_its_medians(linear):
    """Most of which are zero."""
    rows = np.where(np.abs(X) > 1, X, 0)
    result = infer(AnalyticRegressor(optimizer="lbfgs", tol=1e-9).fit(csr_array(rows), Y), csr_array(rows), Y)
    display = FittedCurveDisplay.from_inference(result, csr_array(rows), Y, n_grid=5)
    expected = result.params["coef"][0] * display.grid + result.params["intercept"]
    assert_allclose(display.lines_[0].get_ydata(), expected)
    assert_array_equal(display.points_[0].get_xdata(), rows[:, 0])


def test_metadata_go_to_the_curve():
    """At their median, or at the number that is given."""
    exposure = np.linspace(0.5, 1.5, N)

    def forward(params, X, exposure):
        return exposure * (X @ params["coef"])

    def jacobian(params, X, exposure):
        return {"coef": X * exposure[:, None]}

    model = AnalyticRegressor(forward, jacobian=jacobian, init={"coef": np.zeros(3)}).fit(X, Y, exposure=exposure)
    result = infer(model, X, Y, exposure=exposure)
    held = X.copy()
    held[:] = np.median(X, axis=0)
    for given, value in ((exposure, np.median(exposure)), (2.0, 2.0)):
        display = FittedCurveDisplay.from_inference(result, X, Y, n_grid=N, exposure=given)
        held[:, 0] = display.grid
        assert_allclose(display.lines_[0].get_ydata(), value * (held @ result.params["coef"]))
    with pytest.raises(ValueError, match="exposure must be a number, or have one row for each of the 80 samples"):
        FittedCurveDisplay.from_inference(result, X, Y, exposure=exposure[:7])


def test_outputs_have_a_curve_each():
    """Or one of them, with its data."""
    both = np.column_stack([Y, -2 * Y])
    result = infer(AnalyticRegressor(optimizer="lbfgs", tol=1e-9).fit(X, both), X, both)
    display = FittedCurveDisplay.from_inference(result, X, both, n_grid=4)
    assert_allclose(display.lines_[1].get_ydata(), -2 * display.lines_[0].get_ydata(), rtol=1e-6)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["y 0", "y 1"]
    second = FittedCurveDisplay.from_inference(result, X, both, n_grid=4, target=1)
    assert_array_equal(second.points_[0].get_ydata(), -2 * Y)
    assert second.ax_.get_ylabel() == "y 1"


def test_curves_differ_in_more_than_color(linear):
    """In dashes and in the markers of the data."""
    first = FittedCurveDisplay.from_inference(linear, X, Y, name="one")
    second = FittedCurveDisplay.from_inference(linear, X, Y, name="two", ax=first.ax_)
    assert first.lines_[0].get_linestyle() != second.lines_[0].get_linestyle()
    assert first.points_[0].get_marker() != second.points_[0].get_marker()


def test_curves_of_several_models_stand_on_one_axes(linear):
    """By name, in colors of their own, without what is not asked for."""
    first = FittedCurveDisplay.from_inference(linear, X, Y, name="one", band="mean")
    second = FittedCurveDisplay.from_inference(
        linear, X, grid=[0.0, 1.0, 3.0], name="two", band=None, ax=first.ax_, line_kw={"color": "red"}
    )
    assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == ["one", "two"]
    assert first.observation_bands_ == second.mean_bands_ == second.observation_bands_ == second.points_ == [None]
    assert_array_equal(second.lines_[0].get_xdata(), [0, 1, 3])
    assert second.lines_[0].get_color() == "red"


def test_a_positive_feature_has_no_negative_grid():
    """A concentration starts at 0, not below; a feature of one value has a range around it."""
    result = infer(curve(optimizer="trf").fit(TIMES, DECAY), TIMES, DECAY)
    times = np.append(TIMES, [[0.01]], axis=0)
    assert FittedCurveDisplay.from_inference(result, times).grid[0] == 0
    assert FittedCurveDisplay.from_inference(result, TIMES).grid[0] > 0
    assert np.ptp(FittedCurveDisplay.from_inference(result, np.ones((3, 1))).grid) > 0


def test_a_curve_can_be_drawn_from_numbers(linear):
    """With the styles that are given; a wrong one is an error before anything is computed."""
    display = FittedCurveDisplay(
        np.arange(3.0), [Bunch(value=np.arange(3.0), mean=(np.zeros(3), np.ones(3)), observation=None)]
    ).plot(band_kw={"color": "green"}, name="numbers")
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["numbers"]
    assert_allclose(display.mean_bands_[0].get_facecolor()[0, :3], [0, 128 / 255, 0])
    for wrong in ("line_kw", "band_kw", "points_kw"):
        with pytest.raises(AttributeError, match="colour"):
            FittedCurveDisplay.from_inference(linear, X, **{wrong: {"colour": "red"}})


def test_a_new_observation_has_no_band_where_each_has_a_variance_of_its_own():
    """With precision weights the scale is the variance of a y of weight 1: of which a new one is not known."""
    weight = np.linspace(1, 100, len(TIMES))
    model = curve(optimizer="trf").fit(TIMES, DECAY, sample_weight=weight)
    result = infer(model, TIMES, DECAY, sample_weight=weight, weights="precision", scale=1)
    with pytest.raises(ValueError, match="'observation' does not support weights='precision'.*Use interval='mean'"):
        result.predict(TIMES, interval="observation")
    display = FittedCurveDisplay.from_inference(result, TIMES)
    assert display.mean_bands_[0] is not None
    assert display.observation_bands_[0] is None
    with pytest.raises(ValueError, match="'observation' does not support"):
        FittedCurveDisplay.from_inference(result, TIMES, band="both")
