"""Pictures of a training: what the curves show, on which axes, and what is said without matplotlib.

That of a gradient beside its differences is tested with the gradient doctor.
"""

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


def test_validation_scores_and_rates_have_axes_of_their_own():
    """Beside that of the loss, in the colour of its line."""
    model = fitted(SGD(Cosine(0.1, length=6, unit="epoch")), early_stopping=True)
    display = LossCurveDisplay.from_estimator(model, learning_rate=True)
    assert_array_equal(heights(display.score_line_), model.validation_scores_)
    [line] = display.rate_lines_
    assert_allclose(heights(line), [Cosine(0.1, length=6, unit="epoch")(0, epoch) for epoch in range(6)])
    assert display.rate_ax_.get_yscale() == "log"
    assert len({display.ax_, display.score_ax_, display.rate_ax_}) == 3
    assert {line.get_color() for line in (display.line_, display.score_line_)} == {line.get_color()}
    alone = LossCurveDisplay.from_estimator(model, validation=False)
    assert alone.score_ax_ is alone.score_line_ is alone.rate_ax_ is None


def test_several_estimators_share_all_axes():
    """A colour each; the axes of scores and rates are made once."""
    first = LossCurveDisplay.from_estimator(fitted(early_stopping=True), learning_rate=True, name="one")
    second = LossCurveDisplay.from_estimator(
        fitted("sgd", early_stopping=True), ax=first.ax_, learning_rate=True, name="two"
    )
    assert (second.ax_, second.score_ax_, second.rate_ax_) == (first.ax_, first.score_ax_, first.rate_ax_)
    assert len(first.figure_.axes) == 3
    assert first.line_.get_color() != second.line_.get_color()
    assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == ["one", "two"]


def test_a_line_stands_where_an_optimizer_took_over():
    """With its name; there are no rates of a full-batch method."""
    model = fitted(Phases([(Adam(0.1), 4), ("lbfgs", 5), ("sgd", 3)]))
    display = LossCurveDisplay.from_estimator(model, learning_rate=True)
    n_full_batch = model.n_iter_ - 7
    assert [line.get_xdata()[0] for line in display.phase_lines_] == [4.5, 4.5 + n_full_batch]
    assert [text.get_text().strip() for text in display.ax_.texts] == ["LBFGS", "SGD"]
    assert display.estimator_name == "Adam, LBFGS, SGD"
    [line] = display.rate_lines_
    assert_array_equal(heights(line), [0.1] * 4 + [np.nan] * n_full_batch + [0.01] * 3)


def test_blocks_of_different_rates_have_lines_of_their_own():
    """With the names of the blocks; those that always have the same one share a line."""
    model = fitted(PerBlock({"coef": Adam(0.1)}, default=SGD(0.02)))
    display = LossCurveDisplay.from_estimator(model, learning_rate=True)
    assert {text.get_text(): text.xy[1] for text in display.rate_ax_.texts} == {"coef": 0.1, "intercept": 0.02}
    assert len(display.rate_lines_) == 2
    assert list(LossCurveDisplay.from_estimator(fitted()).learning_rates) == ["coef, intercept"]


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
    assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == ["Adam", "second"]


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
        (("coef[0]", "bias"), "There is no block 'bias'.*There are: 'coef'"),
        (
            ("coef", "intercept"),
            r"'coef' is no single entry of block 'coef', which has shape \(3,\): 'coef\[0\]' is one",
        ),
        (("coef[3]", "intercept"), r"'coef\[3\]' is no single entry"),
        (("coef[0, 1]", "intercept"), r"'coef\[0, 1\]' is no single entry"),
        (("coef[0]", "coef[-3]"), r"params must be two different entries; \('coef\[0\]', 'coef\[-3\]'\) is one"),
        (("coef[0]", "intercept[0]"), r"'intercept\[0\]' is no single entry of block 'intercept'.*'intercept' is one"),
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
        "There is no block 'rat'": {"params": ("rat", "height"), "surface": False},
        "unexpected keyword argument 'linewidht'": {"line_kw": {"linewidht": 3}, "surface": False},
        "Metadata 'linewidth' was passed": {"linewidth": 3, "surface": False},
        "The surface needs the value of the loss, but there is none.*surface=False": {},
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
        TypeError, match=f"(?s){display.__name__} takes an estimator of sk_analytic.*pass the last step"
    ):
        display.from_estimator(make_pipeline(StandardScaler(), curve()), TIMES, DECAY)


def test_densities_have_paths_too():
    """Without targets."""
    display = OptimizerPathDisplay.from_estimator(
        AnalyticDensity(optimizer="lbfgs"), X, params=("mean[0]", "log_scale[0]"), n_grid=4
    )
    assert np.isfinite(display.surface).all()


def test_without_matplotlib_the_message_names_the_extra(monkeypatch):
    """Before anything is trained or drawn."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        LossCurveDisplay.from_estimator(fitted())
    with pytest.raises(ImportError, match="pip install matplotlib"):
        OptimizerPathDisplay.from_estimator(curve(), TIMES, DECAY)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        LossCurveDisplay([1.0]).plot()
