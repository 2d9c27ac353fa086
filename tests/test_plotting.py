"""Pictures of a training and of a gradient check: what is shown, in which panels, and what is said without matplotlib.

The numbers of a gradient check are tested with the gradient doctor.
"""

import pickle
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from models import linear_forward, linear_gradient, linear_init
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_analytic import AnalyticDensity, AnalyticRegressor
from sk_analytic.callbacks import Checkpoint, LearningRateLog
from sk_analytic.optimizers import SGD, Adam, Cosine, PerBlock, Phases
from sk_analytic.plotting import GradientCheckDisplay, LossCurveDisplay, OptimizerPathDisplay

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.1


@pytest.fixture(autouse=True)
def _drawn_nowhere():
    """Without a window, and closed afterwards."""
    mpl.use("Agg")
    yield
    plt.close("all")


def fitted(optimizer="adam", max_iter=6, **settings):
    return AnalyticRegressor(optimizer=optimizer, max_iter=max_iter, random_state=0, batch_size=20, **settings).fit(
        X, Y
    )


def heights(line):
    return line.get_ydata()


def legend(ax):
    """The labels of a legend, each in one line."""
    return [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]


def overlaps(items):
    """Pairs of what is drawn whose boxes, as the renderer has them, touch."""
    boxes = [(item, item.get_window_extent()) for item in items]
    return [
        (a, b)
        for at, (a, one) in enumerate(boxes)
        for b, other in boxes[:at]
        if one.x0 < other.x1 - 0.5 and other.x0 < one.x1 - 0.5 and one.y0 < other.y1 - 0.5 and other.y0 < one.y1 - 0.5
    ]


def written(figure):
    """All that is written in a figure and seen: numbers on axes, labels, titles, texts."""
    found = []
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            found += [label for tick in ticks for label in (tick.label1, tick.label2)]
            found += [axis.label, axis.offsetText]
        found += [*ax.texts, ax.title, ax._left_title]
    return [text for text in found if text.get_visible() and text.get_text()]


# ---- loss curves ----


def test_the_loss_is_drawn_over_epochs():
    """From epoch 1 on, under the optimizer's name."""
    model = fitted()
    display = LossCurveDisplay.from_estimator(model, linewidth=3)
    assert_array_equal(display.line_.get_xdata(), [1, 2, 3, 4, 5, 6])
    assert_array_equal(heights(display.line_), model.loss_curve_)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("epoch", "loss")
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["Adam"]
    assert display.line_.get_linewidth() == 3
    assert display.score_ax_ is display.rate_ax_ is None
    assert (display.rate_lines_, display.phase_lines_) == ([], [])
    assert display.figure_ is display.ax_.figure


def test_validation_scores_and_rates_have_panels_of_their_own():
    """Below that of the loss and over the same epochs, in the color of its line."""
    model = fitted(SGD(Cosine(0.1, length=6, unit="epoch")), early_stopping=True)
    display = LossCurveDisplay.from_estimator(model, learning_rate=True)
    assert_array_equal(heights(display.score_line_), model.validation_scores_)
    [line] = display.rate_lines_
    assert_allclose(heights(line), [Cosine(0.1, length=6, unit="epoch")(0, epoch) for epoch in range(6)])
    assert display.rate_ax_.get_yscale() == "log"
    assert list(display.axes_) == display.figure_.axes == [display.ax_, display.score_ax_, display.rate_ax_]
    labels = ["loss", "validation\nscore", "learning\nrate"]
    assert [ax.get_ylabel() for ax in display.axes_] == labels
    assert [ax.get_xlabel() for ax in display.axes_] == ["", "", "epoch"]
    display.figure_.canvas.draw()
    boxes = [ax.get_window_extent() for ax in display.axes_]
    assert len({(round(box.x0), round(box.x1)) for box in boxes}) == 1
    assert boxes[0].y0 > boxes[1].y1 > boxes[1].y0 > boxes[2].y1
    assert len({ax.get_xlim() for ax in display.axes_}) == 1
    assert {line.get_color() for line in (display.line_, display.score_line_)} == {line.get_color()}
    alone = LossCurveDisplay.from_estimator(model, validation=False)
    assert alone.score_ax_ is alone.score_line_ is alone.rate_ax_ is None


@pytest.mark.parametrize("given", ["axes_", "ax_", "rate_ax_"])
def test_several_estimators_share_all_panels(given):
    """A color and a marker each, in all panels; any of the panels leads to all of them."""
    first = LossCurveDisplay.from_estimator(fitted(early_stopping=True), learning_rate=True, name="one")
    second = LossCurveDisplay.from_estimator(
        fitted("sgd", early_stopping=True), ax=getattr(first, given), learning_rate=True, name="two"
    )
    assert list(second.axes_) == list(first.axes_) == first.figure_.axes
    looks = [
        {(line.get_color(), line.get_marker()) for line in (d.line_, d.score_line_, *d.rate_lines_)}
        for d in (first, second)
    ]
    assert [len(some) for some in looks] == [1, 1]
    assert not looks[0] & looks[1]
    assert first.line_.get_marker() != second.line_.get_marker()
    assert legend(first.ax_) == ["one", "two"]


def test_panels_are_added_as_they_are_needed():
    """The second estimator has scores, the third has no loss; a panel is never made twice."""
    first = LossCurveDisplay.from_estimator(fitted())
    assert first.figure_.axes == list(first.axes_) == [first.ax_]
    second = LossCurveDisplay.from_estimator(fitted(early_stopping=True), ax=first.axes_)
    assert list(second.axes_) == [first.ax_, second.score_ax_]
    gradient_only = AnalyticRegressor(linear_forward, linear_gradient, linear_init, loss=None, max_iter=3).fit(X, Y)
    third = LossCurveDisplay.from_estimator(gradient_only, ax=second.axes_, learning_rate=True)
    assert list(third.axes_) == [first.ax_, third.ax_, second.score_ax_, third.rate_ax_]
    assert third.ax_.get_ylabel() == "norm of the gradient"
    assert third.score_ax_ is None
    assert len({display.line_.get_color() for display in (first, second, third)}) == 3
    tops = [ax.get_position().y1 for ax in third.axes_]
    assert tops == sorted(tops, reverse=True)
    assert sum(ax.get_xlabel() == "epoch" for ax in third.axes_) == 1


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_one_axes_is_divided(layout):
    """Within its place; what is beside it stays."""
    figure, (left, right) = plt.subplots(1, 2, layout=layout)
    display = LossCurveDisplay.from_estimator(fitted(early_stopping=True), ax=right, learning_rate=True)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert len(figure.axes) == 4
    figure.canvas.draw()
    for ax in display.axes_:
        assert ax.get_position().x0 > left.get_position().x1
        assert ax.get_position().y0 >= left.get_position().y0 - 0.02
    assert_array_equal(figure.get_size_inches(), plt.rcParams["figure.figsize"])


def test_an_array_of_axes_gives_each_panel_its_own():
    """In the order of the panels; too few or too many are an error, and so is what is no axes."""
    model = fitted(early_stopping=True)
    axes = plt.subplots(3, 1, sharex=True)[1]
    display = LossCurveDisplay.from_estimator(model, ax=axes, learning_rate=True)
    assert list(display.axes_) == list(axes)
    with pytest.raises(ValueError, match=r"draws 3 panels, so ax must be one axes or an array of 3; got 2"):
        LossCurveDisplay.from_estimator(model, ax=plt.subplots(2)[1], learning_rate=True)
    two = LossCurveDisplay.from_estimator(model, ax=plt.subplots(2)[1]).axes_
    with pytest.raises(ValueError, match=r"draws 3 panels \(loss, validation score, learning rate\).*room for 2"):
        LossCurveDisplay.from_estimator(model, ax=two, learning_rate=True)
    free = plt.figure().add_axes((0.1, 0.1, 0.8, 0.8))
    with pytest.raises(ValueError, match=r"draws 2 panels.*room for 1.*plt.subplots"):
        LossCurveDisplay.from_estimator(model, ax=free)
    assert LossCurveDisplay.from_estimator(model, ax=free, validation=False).ax_ is free
    with pytest.raises(TypeError, match="ax must be a matplotlib Axes or an array of them; got 3"):
        LossCurveDisplay.from_estimator(model, ax=3)


def test_phases_are_shaded_and_named():
    """A line where an optimizer took over, in all panels; there are no rates of a full-batch method."""
    model = fitted(Phases([(Adam(0.1), 4), ("lbfgs", 5), ("sgd", 3)]))
    display = LossCurveDisplay.from_estimator(model, learning_rate=True)
    n_full_batch = model.n_iter_ - 7
    assert [line.get_xdata()[0] for line in display.phase_lines_] == [4.5, 4.5 + n_full_batch]
    [span] = display.phase_spans_
    assert (span.get_x(), span.get_width()) == (4.5, n_full_batch)
    assert len(display.rate_ax_.patches) == 1
    assert [text.get_text() for text in display.ax_.texts] == ["Adam", "LBFGS", "SGD"]
    assert display.estimator_name == "Adam, LBFGS, SGD"
    [line] = display.rate_lines_
    assert_array_equal(heights(line), [0.1] * 4 + [np.nan] * n_full_batch + [0.01] * 3)


@pytest.mark.parametrize("is_log", [False, True])
def test_names_of_short_phases_do_not_overlap(is_log):
    """Of two estimators, within the frame and above the curves, linear and logarithmic; the legend is elsewhere."""
    phases = [(0, "Adam"), (1, "RMSprop"), (2, "Adafactor"), (40, "LBFGS"), (41, "SGD")]
    curves = [np.arange(50, 0, -1.0), np.arange(60, 0, -1.0)]
    if is_log:
        curves = [np.exp(curve / 4) for curve in curves]
    first = LossCurveDisplay(curves[0], phases=phases, estimator_name="one").plot()
    second = LossCurveDisplay(curves[1], phases=phases, estimator_name="two").plot(first.axes_)
    assert first.ax_.get_yscale() == ("log" if is_log else "linear")
    second.figure_.canvas.draw()
    texts = [*second.ax_.texts, second.ax_.get_legend()]
    assert len(texts) == 11
    assert overlaps(texts) == []
    frame = second.ax_.get_window_extent()
    names = [text.get_window_extent() for text in second.ax_.texts]
    assert all(box.y1 < frame.y1 for box in names)
    assert texts[-1].get_window_extent().y0 > frame.y1
    highest = second.ax_.transData.transform([0, max(curve.max() for curve in curves)])[1]
    assert all(box.y0 > highest for box in names)


def test_room_for_names_leaves_limits_of_the_user():
    """Those that were set before, or between two displays."""
    phases = [(0, "Adam"), (2, "LBFGS")]
    ax = plt.subplots()[1]
    ax.set_ylim(0, 7)
    first = LossCurveDisplay([3.0, 2, 1], phases=phases).plot(ax)
    assert ax.get_ylim() == (0, 7)
    first = LossCurveDisplay([3.0, 2, 1], phases=phases).plot()
    low, high = first.ax_.get_ylim()
    assert high - 3 > 1 - low
    first.ax_.set_ylim(0, 8)
    LossCurveDisplay([9.0, 2, 1]).plot(first.axes_)
    assert first.ax_.get_ylim() == (0, 8)
    second = LossCurveDisplay([3.0, 2, 1], phases=phases).plot()
    LossCurveDisplay([90.0, 2, 1], phases=phases).plot(second.axes_)
    assert second.ax_.get_ylim()[1] > 90


def test_rates_of_different_blocks_have_lines_of_their_own():
    """With the names of the blocks; those that always have the same one share a line, and a short label."""
    model = fitted(PerBlock({"coef": Adam(0.1)}, default=SGD(0.02)))
    display = LossCurveDisplay.from_estimator(model, learning_rate=True)
    drawn = {line.get_label(): heights(line)[0] for line in display.rate_lines_}
    assert drawn == {"coef": 0.1, "intercept": 0.02}
    assert legend(display.rate_ax_) == ["coef", "intercept"]
    assert len({line.get_linestyle() for line in display.rate_lines_}) == 2
    assert list(LossCurveDisplay.from_estimator(fitted()).learning_rates) == ["coef, intercept"]
    many = {", ".join(f"layers.{layer}.weight" for layer in range(40)): [0.1], "bias": [0.2]}
    display = LossCurveDisplay([1.0], learning_rates=many).plot(learning_rate=True)
    assert legend(display.rate_ax_) == ["layers.0.weight, layers.1.weight and 38 more", "bias"]


def test_estimators_of_one_optimizer_are_told_apart():
    """By the hyperparameters that differ; if none does, by other parameters, and at last by number."""
    rates = (0.1, 0.2, Cosine(0.3, length=7))
    display = None
    for rate in rates:
        display = LossCurveDisplay.from_estimator(fitted(SGD(rate)), ax=display and display.axes_)
    display = LossCurveDisplay.from_estimator(fitted("adam"), ax=display.axes_)
    assert legend(display.ax_) == [
        "SGD (learning_rate=0.1)",
        "SGD (learning_rate=0.2)",
        "SGD (learning_rate=Cosine(initial=0.3, length=7))",
        "Adam",
    ]
    schedules = [SGD(Cosine(0.3, length=length)) for length in (5, 6)]
    first = LossCurveDisplay.from_estimator(fitted(schedules[0]))
    LossCurveDisplay.from_estimator(fitted(schedules[1]), ax=first.axes_)
    assert legend(first.ax_) == ["SGD (learning_rate__length=5)", "SGD (learning_rate__length=6)"]
    first = LossCurveDisplay.from_estimator(fitted(alpha=0.0))
    LossCurveDisplay.from_estimator(fitted(alpha=1.0), ax=first.axes_)
    assert legend(first.ax_) == ["Adam (alpha=0.0)", "Adam (alpha=1.0)"]
    first = LossCurveDisplay.from_estimator(fitted())
    LossCurveDisplay.from_estimator(fitted(), ax=first.axes_)
    assert legend(first.ax_) == ["Adam #1", "Adam #2"]
    chosen = LossCurveDisplay.from_estimator(fitted(), name="Adam")
    LossCurveDisplay.from_estimator(fitted(SGD(0.1)), ax=chosen.axes_, name="Adam")
    assert legend(chosen.ax_) == ["Adam", "Adam"]


def test_a_figure_can_be_pickled():
    """Also if what tells its curves apart cannot be."""

    def forward(params, X):
        return linear_forward(params, X)

    model = AnalyticRegressor(forward, linear_gradient, linear_init, max_iter=2)
    with pytest.raises(Exception, match="local object"):
        pickle.dumps(model)
    display = LossCurveDisplay.from_estimator(model.fit(X, Y))
    again = pickle.loads(pickle.dumps(display.figure_))
    assert legend(again.axes[0]) == legend(display.ax_)


def test_five_legends_hide_no_curve():
    """They stand above the frame, within the figure, and one that is too long is broken."""
    display = None
    for number in range(5):
        display = LossCurveDisplay([3.0, 2.0], estimator_name=f"{number}: " + "a long name " * 9).plot(
            display and display.axes_
        )
    display.figure_.canvas.draw()
    box, frame = display.ax_.get_legend().get_window_extent(), display.ax_.get_window_extent()
    assert box.y0 >= frame.y1
    assert box.y1 <= display.figure_.bbox.y1
    assert box.x1 <= display.figure_.bbox.x1
    assert len({line.get_marker() for line in display.ax_.lines}) == 5


@pytest.mark.parametrize(
    ("curve", "scale"),
    [
        ([5.0, 4, 3], "linear"),
        ([1e12, 3.0, 1e-3], "log"),
        ([1e12, np.nan, np.inf, 1.0], "log"),
        ([1e3, 1.0, 0.0], "linear"),
        ([1e3, -1e3], "linear"),
        ([np.nan, np.nan], "linear"),
        ([], "linear"),
    ],
    ids=str,
)
def test_a_loss_that_spans_decades_has_a_logarithmic_axis(curve, scale):
    """Unless it is not positive somewhere, or nowhere finite."""
    display = LossCurveDisplay(curve).plot()
    assert display.ax_.get_yscale() == scale
    display.figure_.canvas.draw()


def test_a_second_loss_that_is_negative_makes_the_axis_linear_again():
    """A logarithmic axis would hide it."""
    first = LossCurveDisplay([1e6, 1.0]).plot()
    assert first.ax_.get_yscale() == "log"
    LossCurveDisplay([1.0, -1.0]).plot(first.axes_)
    assert first.ax_.get_yscale() == "linear"


def test_an_epoch_without_neighbors_is_a_dot():
    """One epoch alone, and one between others that have no loss; its tick is a whole number."""
    display = LossCurveDisplay([0.5]).plot()
    assert (display.line_.get_marker(), display.line_.get_markevery()) == ("o", [0])
    assert [tick for tick in display.ax_.get_xticks() if 0.5 < tick < 1.5] == [1]
    display = LossCurveDisplay([3.0, 2.0, np.nan, 1.0, np.nan]).plot()
    assert display.line_.get_markevery() == [3]


def test_what_went_on_is_one_curve():
    """Fits that go on from one another, and partial_fit, are one phase."""
    model = fitted(warm_start=True).fit(X, Y).partial_fit(X, Y)
    display = LossCurveDisplay.from_estimator(model, learning_rate=True)
    assert len(heights(display.line_)) == len(heights(display.rate_lines_[0])) == 13
    assert not display.phase_lines_


def test_without_a_loss_the_norm_of_the_gradient_is_drawn():
    """And called so."""
    model = AnalyticRegressor(linear_forward, linear_gradient, linear_init, loss=None, max_iter=3).fit(X, Y)
    display = LossCurveDisplay.from_estimator(model)
    assert_array_equal(heights(display.line_), model.gradient_norm_curve_)
    assert display.ax_.get_ylabel() == "norm of the gradient"


def test_another_estimator_with_a_loss_curve_stands_beside_ours():
    """scikit-learn's own, for comparison."""
    theirs = MLPRegressor(max_iter=5, random_state=0).fit(X, Y)
    display = LossCurveDisplay.from_estimator(theirs, ax=LossCurveDisplay.from_estimator(fitted()).ax_)
    assert_array_equal(heights(display.line_), theirs.loss_curve_)
    assert display.estimator_name == "MLPRegressor"


def test_curves_can_be_drawn_without_an_estimator():
    """From numbers, and again on other axes."""
    display = LossCurveDisplay([3.0, 2.0], learning_rates={"": [0.1, 0.0]}).plot(learning_rate=True)
    assert display.ax_.get_legend() is None
    assert display.rate_ax_.get_yscale() == "linear"
    assert display.plot(name="again").ax_.get_legend() is not None


def test_what_has_no_curve_is_refused():
    """With the way to the estimator that has one."""
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(AnalyticRegressor())
    with pytest.raises(TypeError, match=r"Pipeline has no loss_curve_.*pipeline\[-1\]"):
        LossCurveDisplay.from_estimator(make_pipeline(fitted()).fit(X, Y))
    with pytest.raises(TypeError, match="LinearRegression has no loss_curve_"):
        LossCurveDisplay.from_estimator(LinearRegression().fit(X, Y))


# ---- paths ----


def curve_forward(params, X):
    return params["height"] * np.exp(-params["rate"] * X[:, 0])


def curve_vjp(params, X):
    decay = np.exp(-params["rate"] * X[:, 0])

    def pullback(d):
        return {"height": d @ decay, "rate": -params["height"] * (d @ (X[:, 0] * decay))}

    return params["height"] * decay, pullback


TIMES = np.linspace(0, 3, 40)[:, None]
DECAY = curve_forward({"height": 2.5, "rate": 1.3}, TIMES)
START = {"height": 1.0, "rate": 0.5}


def curve(optimizer="adam", **settings):
    settings = {"max_iter": 8, "random_state": 0, "batch_size": 10} | settings
    return AnalyticRegressor(curve_forward, vjp=curve_vjp, init=START, optimizer=optimizer, **settings)


@pytest.mark.parametrize("optimizer", ["adam", "asgd", "lbfgs", Phases([("sgd", 3), ("bfgs", 4)])], ids=str)
def test_the_path_is_that_of_a_fit(optimizer):
    """From the start to what the estimator predicts by, in every epoch; the estimator itself is left as it was."""
    estimator = curve(optimizer)
    display = OptimizerPathDisplay.from_estimator(estimator, TIMES, DECAY)
    assert not hasattr(estimator, "params_")
    assert display.names == ("height", "rate")
    trained = curve(optimizer).fit(TIMES, DECAY)
    assert display.path.shape == (trained.n_iter_ + 1, 2)
    assert_array_equal(display.path[0], [1.0, 0.5])
    if optimizer == "adam":
        for n in (1, 5):
            ended = curve(max_iter=n).fit(TIMES, DECAY).params_
            assert_allclose(display.path[n], [ended["height"], ended["rate"]], rtol=1e-12)
    assert_array_equal(display.line_.get_xydata(), display.path)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("height", "rate")


def test_the_surface_is_the_objective():
    """Loss and penalty at each point of the grid, which reaches beyond the path."""
    display = OptimizerPathDisplay.from_estimator(curve(alpha=0.1), TIMES, DECAY, n_grid=7)
    for column, height in enumerate(display.grid[0]):
        for row, rate in enumerate(display.grid[1]):
            residual = curve_forward({"height": height, "rate": rate}, TIMES) - DECAY
            expected = 0.5 * np.mean(residual**2) + 0.05 * (height**2 + rate**2)
            assert display.surface[row, column] == pytest.approx(expected)
    for values, along in zip(display.grid, display.path.T, strict=True):
        assert values[0] < along.min()
        assert values[-1] > along.max()
    assert display.contour_ is not None


def test_the_other_parameters_stay_where_they_ended():
    """Entries of arrays are named with their index; the third is what was learned, and rows are weighted."""
    weight = np.linspace(0, 2, len(X))
    model = AnalyticRegressor(optimizer="lbfgs", tol=1e-8)
    display = OptimizerPathDisplay.from_estimator(
        model, X, Y, params=("coef[2]", "intercept"), sample_weight=weight, n_grid=5
    )
    coef = model.fit(X, Y, sample_weight=weight).params_["coef"]
    assert display.names == ("coef[2]", "intercept")
    prediction = X[:, :2] @ coef[:2] + X[:, 2] * display.grid[0][3] + display.grid[1][1]
    assert display.surface[1, 3] == pytest.approx(0.5 * np.average((prediction - Y) ** 2, weights=weight))


def test_of_many_rows_some_are_looked_at():
    """About so many as are asked for: the surface is nearly the same."""
    many = np.resize(X, (3000, 3)) + 0.01 * np.random.default_rng(1).normal(size=(3000, 3))
    settings = {"params": ("coef[0]", "coef[1]"), "n_grid": 4}
    model = AnalyticRegressor(max_iter=2, random_state=0, optimizer=SGD(0.01))
    y = many @ [1.0, -2.0, 0.5]
    some = OptimizerPathDisplay.from_estimator(model, many, y, **settings)
    every = OptimizerPathDisplay.from_estimator(model, many, y, max_rows=3000, **settings)
    assert (some.surface != every.surface).any()
    assert_allclose(some.surface, every.surface, rtol=0.2)


def test_two_paths_stand_over_one_surface():
    """The second without contours of its own; each is named."""
    first = OptimizerPathDisplay.from_estimator(curve(), TIMES, DECAY, n_grid=5)
    second = OptimizerPathDisplay.from_estimator(
        curve("lbfgs"), TIMES, DECAY, ax=first.ax_, surface=False, name="second", line_kw={"color": "red"}
    )
    assert second.surface is second.contour_ is None
    assert second.line_.get_color() == "red"
    assert legend(first.ax_) == ["Adam", "second", "start", "end"]


@pytest.mark.parametrize("surface_at", [0, 1, 2, None])
def test_all_paths_are_in_the_frame(surface_at):
    """Whenever the surface is drawn, and what is drawn before it is under it too."""
    optimizers = [SGD(0.01), SGD(0.3, momentum=0.98), "lbfgs"]
    ax, displays = None, []
    for number, optimizer in enumerate(optimizers):
        model = curve(optimizer, max_iter=30)
        displays.append(
            OptimizerPathDisplay.from_estimator(
                model, TIMES, DECAY, ax=ax, surface=number == surface_at, n_grid=4, name=str(optimizer)
            )
        )
        ax = displays[-1].ax_
    ax.figure.canvas.draw()
    limits = np.array([ax.get_xlim(), ax.get_ylim()])
    for display in displays:
        assert (display.path > limits[:, 0]).all()
        assert (display.path < limits[:, 1]).all()
    if surface_at is not None:
        for number, display in enumerate(displays):
            reached = [
                values[0] <= along.min() and along.max() <= values[-1]
                for values, along in zip(displays[surface_at].grid, display.path.T, strict=True)
            ]
            assert all(reached) or number > surface_at
            grid = np.array(displays[surface_at].grid)
            assert (grid[:, 0] >= limits[:, 0] - 1e-9).all()
            assert (grid[:, -1] <= limits[:, 1] + 1e-9).all()


def test_limits_of_the_user_stay():
    """Also if a path leaves them."""
    ax = plt.subplots()[1]
    ax.set_xlim(0, 1)
    display = OptimizerPathDisplay.from_estimator(curve(), TIMES, DECAY, ax=ax, n_grid=3)
    assert ax.get_xlim() == (0, 1)
    assert ax.get_ylim()[0] < display.path[:, 1].min()


def test_a_path_that_does_not_move_or_is_not_finite_can_be_drawn():
    """Its frame is that of the points which can be drawn."""
    still = OptimizerPathDisplay(np.ones((3, 2)), ("a", "b")).plot()
    assert still.ax_.get_xlim()[0] < 1 < still.ax_.get_xlim()[1]
    gone = OptimizerPathDisplay(np.array([[0, 0], [1, 1e300], [np.nan, np.inf]]), ("a", "b")).plot()
    assert gone.ax_.get_xlim()[0] < 0
    assert gone.ax_.get_xlim()[1] > 1
    assert OptimizerPathDisplay(np.full((2, 2), np.nan), ("a", "b")).plot().line_ is not None


def test_two_optimizers_of_one_class_are_told_apart():
    """By label, color and marker."""
    first = OptimizerPathDisplay.from_estimator(curve(SGD(0.1)), TIMES, DECAY, n_grid=3)
    assert legend(first.ax_) == ["SGD", "start", "end"]
    second = OptimizerPathDisplay.from_estimator(
        curve(SGD(0.1, momentum=0.5)), TIMES, DECAY, ax=first.ax_, surface=False
    )
    assert legend(first.ax_) == ["SGD (momentum=0.0)", "SGD (momentum=0.5)", "start", "end"]
    assert first.line_.get_color() != second.line_.get_color()
    assert first.line_.get_marker() != second.line_.get_marker()
    ends = [line.get_color() for line in first.ax_.lines if line.get_label() == "_end"]
    assert ends == [first.line_.get_color(), second.line_.get_color()]
    sizes = [line.get_markersize() for line in first.ax_.lines if line.get_label() == "_end"]
    assert sizes[0] > sizes[1]  # so that both are seen if they are at the same place


def test_dots_of_a_slow_path_do_not_merge():
    """However many epochs there are, and also if none of them moves."""
    path = np.linspace(0, 1, 5000)[:, None] ** [1, 2]
    display = OptimizerPathDisplay(path, ("a", "b"), estimator_name="slow").plot()
    assert display.line_.get_markevery() > 0.01
    assert len(display.line_.get_xydata()) == 5000
    for still in (np.ones((9, 2)), np.ones((1, 2))):
        OptimizerPathDisplay(still, ("a", "b")).plot(display.ax_)
    display.ax_.set_xscale("log")
    display.figure_.canvas.draw()


@pytest.mark.parametrize("values", [np.full((3, 3), np.nan), np.full((3, 3), 1e9), 1e9 + np.eye(3) * 1e-7])
def test_a_surface_without_heights_is_no_error(values):
    """Nothing finite, flat, or flat to rounding."""
    grid = (np.arange(3.0),) * 2
    display = OptimizerPathDisplay(np.eye(2), ("a", "b"), grid=grid, surface=values).plot()
    display.figure_.canvas.draw()
    assert (display.contour_ is None) == np.isnan(values).all()


def test_where_a_model_overflows_there_is_no_contour():
    """Beside the path nothing is promised."""
    display = OptimizerPathDisplay(
        np.zeros((2, 2)),
        ("a", "b"),
        grid=(np.arange(3.0),) * 2,
        surface=np.array([[1, 2, np.inf], [2, np.nan, 3], [1, 1, 1.0]]),
    )
    assert display.plot().contour_ is not None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (None, r"params must name two entries of the 4 in 'coef' \(3,\), 'intercept' \(\)"),
        ("coef", "params must be two names of entries; got 'coef'"),
        (("coef[0]", "bias"), "There is no parameter 'bias'.*Available: 'coef'"),
        (
            ("coef", "intercept"),
            r"'coef' is not a single entry of 'coef', which has shape \(3,\). Use an entry such as 'coef\[0\]'",
        ),
        (("coef[3]", "intercept"), r"'coef\[3\]' is not a single entry"),
        (("coef[0, 1]", "intercept"), r"'coef\[0, 1\]' is not a single entry"),
        (("coef[0]", "coef[-3]"), r"params must be two different entries; got \('coef\[0\]', 'coef\[-3\]'\)"),
        (("coef[0]", "intercept[0]"), r"'intercept\[0\]' is not a single entry of 'intercept'.*such as 'intercept'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_params_must_be_two_entries(params, message):
    """The message has the blocks, or the way to write an entry."""
    with pytest.raises(ValueError, match=message):
        OptimizerPathDisplay.from_estimator(AnalyticRegressor(max_iter=1), X, Y, params=params)


def exposed(params, X, exposure):
    return curve_forward(params, X) * exposure


def exposed_gradient(params, X, y, exposure):
    d = (exposed(params, X, exposure) - y) * exposure / len(X)
    return curve_vjp(params, X)[1](d)


def test_what_fit_takes_goes_to_fit():
    """Metadata of the rows reach the surface too; validation rows do not."""
    exposure = np.linspace(0.5, 1.5, 40)
    y = DECAY * exposure
    model = AnalyticRegressor(exposed, gradient=exposed_gradient, init=START, max_iter=3, early_stopping=True)
    validation = {"X_val": TIMES[::2], "y_val": y[::2], "exposure_val": exposure[::2]}
    display = OptimizerPathDisplay.from_estimator(model, TIMES, y, n_grid=4, exposure=exposure, **validation)
    assert len(display.path) == 4
    params = {"height": display.grid[0][2], "rate": display.grid[1][1]}
    expected = 0.5 * np.mean((exposed(params, TIMES, exposure) - y) ** 2)
    assert display.surface[1, 2] == pytest.approx(expected)


def test_nothing_is_trained_before_what_can_be_refused():
    """An entry, a style, an argument and a surface that cannot be had are errors before the first epoch."""
    watched = []

    def gradient(params, X, y):
        watched.append(params)
        return curve_vjp(params, X)[1](curve_forward(params, X) - y)

    model = AnalyticRegressor(curve_forward, gradient=gradient, init=START, loss=None, check_gradient=False, max_iter=2)
    refused = {
        "There is no parameter 'rat'": {"params": ("rat", "height"), "surface": False},
        "unexpected keyword argument 'linewidht'": {"line_kw": {"linewidht": 3}, "surface": False},
        "Metadata 'linewidth' was passed": {"linewidth": 3, "surface": False},
        "The surface needs a loss, .*surface=False": {},
    }
    for message, settings in refused.items():
        with pytest.raises((ValueError, TypeError, AttributeError), match=message):
            OptimizerPathDisplay.from_estimator(model, TIMES, DECAY, **settings)
    assert len(watched) <= len(refused)  # one look at each start
    assert OptimizerPathDisplay.from_estimator(model, TIMES, DECAY, surface=False).path.shape == (3, 2)


def test_callbacks_of_the_estimator_see_nothing_of_a_picture(tmp_path):
    """A checkpoint of the user's stays as it was, a log has no more rows, and what is watched is in no file."""
    pytest.importorskip("sklearn.callback")
    log, file = LearningRateLog(), tmp_path / "model.pkl"
    model = curve().set_callbacks(log, Checkpoint(file)).fit(TIMES, DECAY)
    written, rows = file.read_bytes(), log.get_logs("all")
    OptimizerPathDisplay.from_estimator(model, TIMES, DECAY, n_grid=3)
    assert (file.read_bytes(), log.get_logs("all")) == (written, rows)
    assert len(model._skl_callbacks) == 2


@pytest.mark.parametrize("display", [OptimizerPathDisplay, GradientCheckDisplay])
def test_of_a_pipeline_the_last_step_is_asked_for(display):
    """Before it is trained."""
    with pytest.raises(
        TypeError, match=f"(?s){display.__name__} takes an estimator of sk_analytic.*pass its last step"
    ):
        display.from_estimator(make_pipeline(StandardScaler(), curve()), TIMES, DECAY)


def test_densities_have_paths_too():
    """Without targets."""
    display = OptimizerPathDisplay.from_estimator(
        AnalyticDensity(optimizer="lbfgs"), X, params=("mean[0]", "log_scale[0]"), n_grid=4
    )
    assert np.isfinite(display.surface).all()


# ---- gradient checks ----


def checked(n_blocks, wrong=(), shapes=((5, 3), (4,), (), (2, 3, 4), (30, 40), (2000,)), **settings):
    """The picture of a gradient of squares over some blocks of long names, of which some have a wrong first row."""
    rng = np.random.default_rng(0)
    names = [f"layers.{number}.attention.output.weight" for number in range(n_blocks)]
    params = {name: rng.uniform(1, 2, size=shapes[number % len(shapes)]) for number, name in enumerate(names)}

    def gradient(params):
        grads = {name: np.array(2.0 * value) for name, value in params.items()}
        for number in wrong:
            grad = grads[names[number]]
            grad[slice(1) if grad.ndim else ...] *= -1
        return grads

    def loss(params):
        return float(sum(np.sum(np.square(value)) for value in params.values()))

    return GradientCheckDisplay.from_callables(loss, gradient, params, max_entries=100, **settings)


def test_wrong_entries_differ_in_shape_and_lightness_from_right_ones():
    """Crosses beside dots, in both panels, and in the words above."""
    display = checked(2, wrong=[0])
    left, right = display.axes_[0]
    dots, crosses = left.collections
    assert (len(dots.get_offsets()), len(crosses.get_offsets())) == (12, 3)
    assert dots.get_paths()[0].vertices.shape != crosses.get_paths()[0].vertices.shape
    [marks] = right.lines
    assert_array_equal(marks.get_xydata(), [[0, 0], [1, 0], [2, 0]])
    assert left.get_title(loc="left").endswith("weight (5, 3)\n3 of 15 entries differ")
    assert display.axes_[1, 0].get_title(loc="left").endswith("weight (4,)\nall 4 entries agree")
    [image] = right.images
    shades = luminance(image.cmap(np.linspace(0, 1, 20)))
    assert (np.diff(shades) > 0).all()
    assert abs(luminance(image.cmap(image.norm(1.0))) - luminance(image.cmap(image.norm(1e-8)))) > 0.25
    legends = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    assert legends == ["agrees", "differs: relative error above 1e\N{MINUS SIGN}4"]


def luminance(rgba):
    """Relative luminance (WCAG 2.2) of colors."""
    rgb = np.asarray(rgba)[..., :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("n_blocks", [1, 3, 4, 13])
def test_no_text_of_a_gradient_check_overlaps_another(n_blocks):
    """With long names, blocks of any shape, and entries of any size."""
    display = checked(n_blocks, wrong=range(0, n_blocks, 2))
    display.figure_.canvas.draw()
    assert display.axes_.shape == (n_blocks, 2)
    assert overlaps(written(display.figure_)) == []


def test_many_blocks_stand_beside_each_other():
    """The figure of 40 blocks is not 40 rows high; the space that no block needs is empty."""
    display = checked(40, shapes=((2,),))
    width, height = display.figure_.get_size_inches()
    assert height < 3 * width
    assert len({ax.get_subplotspec().rowspan.start for ax in display.axes_.flat}) == 14
    assert len(display.figure_.axes) == 81  # and the color bar


def test_letters_are_not_smaller_than_small():
    """Matplotlib's size "small" is the smallest, in gradient checks, paths and losses."""
    path = OptimizerPathDisplay(np.eye(2), ("a", "b"), estimator_name="one").plot()
    loss = LossCurveDisplay([3.0, 2.0, 1.0], phases=[(0, "a"), (1, "b")], estimator_name="one").plot()
    for display in (path, loss, checked(2, wrong=[0]), checked(13, wrong=[0])):
        display.figure_.canvas.draw()
        texts = [text for text in display.figure_.findobj(mpl.text.Text) if text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts if text.get_visible()) >= 8.3


def test_a_single_entry_has_no_heat_map():
    """A number is titled by its name only. Two numbers share a row, and numbers alone have no color bar."""
    display = checked(3, wrong=[1], shapes=((), (1, 1), (2,)))
    assert [right is None for right in display.axes_[:, 1]] == [True, True, False]
    titles = [left.get_title(loc="left") for left in display.axes_[:, 0]]
    assert titles[0].endswith("weight\nthe entry agrees")
    assert titles[1].endswith("weight (1, 1)\nthe entry differs")
    assert [ax.get_subplotspec().rowspan.start for ax in display.axes_[:, 0]] == [0, 0, 1]
    assert len(display.figure_.axes) == 5
    numbers = checked(3, shapes=((),))
    assert len(numbers.figure_.axes) == 3
    figure, axes = plt.subplots(3, 2)
    given = GradientCheckDisplay(display.entries).plot(axes=axes)
    assert [ax.axison for ax in axes[:, 1]] == [False, False, True]
    assert given.axes_[0, 1] is None
    given.plot(axes=given.axes_)


@pytest.mark.parametrize("size", [1e-9, 0.02, 1.0, 1e3, 1e7])
def test_numbers_of_a_gradient_check_are_written_in_full(size):
    """There is no common factor beside the axis, and different ticks have different numbers."""
    rng = np.random.default_rng(0)
    params = {"a": size * rng.uniform(1, 1.3, size=5), "b": size * np.array(1.234)}
    display = GradientCheckDisplay.from_callables(
        lambda p: float(sum(np.sum(np.square(v)) for v in p.values())),
        lambda p: {name: 2.0 * value for name, value in p.items()},
        params,
    )
    display.figure_.canvas.draw()
    for ax in display.axes_[:, 0]:
        for axis in (ax.xaxis, ax.yaxis):
            assert not axis.offsetText.get_text()
            low, high = axis.get_view_interval()
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            texts = [tick.label1.get_text() for tick in ticks]
            assert len(texts) == len(set(texts)) > 1
            values = [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]
            assert_allclose(values, [tick.get_loc() for tick in ticks], rtol=1e-9, atol=1e-9 * size)


def test_derivatives_that_are_not_finite_are_wrong():
    """They have no place on the identity line, and a cross on the heat map."""
    display = GradientCheckDisplay.from_callables(
        lambda p: float(np.sum(p["a"] ** 2)), lambda p: {"a": np.array([np.nan, 2 * p["a"][1]])}, {"a": np.ones(2)}
    )
    left, right = display.axes_[0]
    assert [len(drawn.get_offsets()) for drawn in left.collections] == [1, 0]
    assert_array_equal(right.lines[0].get_xydata(), [[0, 0]])
    assert left.get_title(loc="left").endswith("1 of 2 entries differ")


def test_given_panels_have_one_color_bar():
    """Whose space is taken from the heat maps."""
    entries = checked(2).entries
    figure, axes = plt.subplots(2, 2)
    display = GradientCheckDisplay(entries).plot(axes=axes)
    assert display.figure_ is figure
    assert len(figure.axes) == 5


def test_without_matplotlib_the_message_names_the_extra(monkeypatch):
    """Before anything is trained or drawn."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        LossCurveDisplay.from_estimator(fitted())
    with pytest.raises(ImportError, match="pip install matplotlib"):
        OptimizerPathDisplay.from_estimator(curve(), TIMES, DECAY)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        LossCurveDisplay([1.0]).plot()
