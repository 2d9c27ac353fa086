"""Plots of training: the loss, the validation score and the learning rate over epochs, in panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..readable import readable
from ..typing import Array
from .figure import line_style, pyplot
from .labels import DASHES, MARKERS, SMALL, legend_above, name_of, params_of, shortened, tell_apart
from .stack import Stack, stack_for

BELOW = SCORE, RATE = "validation score", "learning rate"  # panels below those of the loss
DECADES = 100.0  # ratio of the largest to the smallest loss from which an axis is logarithmic
N_MARKERS = 8  # of a curve, about
DARKER = 0.7  # than its line is what is written in its color
NAME = 11.0  # points of a row with names of phases
GAP = 4.0  # points between the frame and the first row
MOST_NAMES = 0.6  # of the height of a panel


@readable
class LossCurveDisplay:
    """Plot the training loss over epochs, with the validation score and the learning rate in panels below.

    All panels share the axis of epochs. To compare several estimators, pass the ``axes_`` of one display to the next:
    each estimator has one color and one marker in all panels, and panels are added as they are needed. Estimators of
    the same optimizer are labeled by the hyperparameters in which they differ.

    With several optimizers (`Phases`), a vertical line marks where each one took over. Every second phase is shaded,
    and the names of the optimizers are at the top of the first panel.

    An axis of losses is logarithmic if all losses are positive and the largest is more than 100 times the smallest. To
    change that, call ``display.ax_.set_yscale("linear")``.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Loss of each epoch.
    validation_scores : array-like of shape (n_epochs,), default=None
        Validation score of each epoch.
    learning_rates : dict of str to array-like of shape (n_epochs,), default=None
        Learning rate of each epoch, by the name of the parameter array; NaN if an epoch has none.
    phases : list of tuple (int, str), default=None
        For each optimizer, the number of epochs before it, and its name.
    estimator_name : str, default=None
        Label of the curve in the legend.
    ylabel : str, default="loss"
        Label of the axis of the loss.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The loss.
    score_line_ : matplotlib Line2D or None
        The validation scores.
    rate_lines_ : list of matplotlib Line2D
        The learning rates.
    phase_lines_ : list of matplotlib Line2D
        The lines in the panel of the loss where an optimizer took over.
    phase_spans_ : list of matplotlib Rectangle
        The shaded phases in the panel of the loss.
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        All panels, from top to bottom. Pass them as ``ax`` to the next display.
    ax_ : matplotlib Axes
        The panel of the loss.
    score_ax_ : matplotlib Axes or None
        The panel of the validation score.
    rate_ax_ : matplotlib Axes or None
        The panel of the learning rate.
    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    .. plot::

        from sklearn.datasets import load_diabetes
        from sklearn.preprocessing import scale
        from sk_analytic import AnalyticRegressor
        from sk_analytic.optimizers import SGD, Cosine
        from sk_analytic.plotting import LossCurveDisplay

        X, y = load_diabetes(return_X_y=True)
        common = {"early_stopping": True, "n_iter_no_change": 20, "random_state": 0}
        falling = SGD(Cosine(0.05, length=40, final=1e-4, unit="epoch"), momentum=0.9)
        display = None
        for optimizer in ("adam", falling):
            model = AnalyticRegressor(optimizer=optimizer, **common).fit(scale(X), scale(y))
            display = LossCurveDisplay.from_estimator(
                model, ax=display and display.axes_, learning_rate=True
            )
    """

    def __init__(
        self,
        loss_curve: Sequence[float],
        *,
        validation_scores: Sequence[float] | None = None,
        learning_rates: Mapping[str, ArrayLike] | None = None,
        phases: Sequence[tuple[int, str]] | None = None,
        estimator_name: str | None = None,
        ylabel: str = "loss",
    ) -> None:
        self.loss_curve = loss_curve
        self.validation_scores = validation_scores
        self.learning_rates = learning_rates
        self.phases = phases
        self.estimator_name = estimator_name
        self.ylabel = ylabel
        self._params: Mapping[str, Any] | None = None  # by which two estimators of one name are told apart

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: Any = None,
        name: str | None = None,
        validation: bool = True,
        learning_rate: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Plot the training of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator
            An estimator of this package, or another one with a ``loss_curve_``. For a pipeline, pass the last step.
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes to draw on: the ``axes_`` of another display, a single axes, which is divided into as many panels as
            needed, or one axes per panel. A new figure by default.
        name : str, default=None
            Label of the curve in the legend; the optimizer by default, with hyperparameters if another curve has the
            same one.
        validation : bool, default=True
            Whether to draw the validation scores, if there are any.
        learning_rate : bool, default=False
            Whether to draw the learning rates, if there are any.
        **kwargs : dict
            Keyword arguments of `matplotlib.axes.Axes.plot` for the loss.

        Returns
        -------
        display : LossCurveDisplay
            The plotted display. If training had no loss, the curve is the norm of the gradient.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no ``loss_curve_``, or if ``ax`` is not made of matplotlib Axes.
        ValueError
            If ``ax`` has too few axes for the panels.
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        pyplot()
        check_is_fitted(estimator)
        if not hasattr(estimator, "loss_curve_"):
            raise TypeError(
                f"{type(estimator).__name__} has no loss_curve_. For a pipeline or a search, pass the estimator inside "
                "it: pipeline[-1], search.best_estimator_."
            )
        history = getattr(getattr(estimator, "_training", None), "history", None)
        curve, ylabel = estimator.loss_curve_, "loss"
        if not curve and hasattr(estimator, "gradient_norm_curve_"):
            curve, ylabel = estimator.gradient_norm_curve_, "norm of the gradient"
        display = cls(
            curve,
            validation_scores=getattr(estimator, "validation_scores_", None),
            learning_rates=None if history is None else _by_rate(history.learning_rates, history.n_iter),
            phases=getattr(history, "phases", []),
            estimator_name=name or name_of(estimator),
            ylabel=ylabel,
        )
        display._params = None if name else params_of(estimator)
        return display.plot(ax, validation=validation, learning_rate=learning_rate, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        validation: bool = True,
        learning_rate: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes to draw on, as in `from_estimator`; a new figure by default.
        name : str, default=None
            Label of the curve in the legend; ``estimator_name`` by default.
        validation : bool, default=True
            Whether to draw the validation scores, if there are any.
        learning_rate : bool, default=False
            Whether to draw the learning rates, if there are any.
        **kwargs : dict
            Keyword arguments of `matplotlib.axes.Axes.plot` for the loss.

        Returns
        -------
        display : LossCurveDisplay
            This display.
        """
        curves: dict[str, Mapping[str, Any]] = {self.ylabel: {"": self.loss_curve}}
        if validation and self.validation_scores is not None and len(self.validation_scores):
            curves[SCORE] = {"": self.validation_scores}
        if learning_rate and self.learning_rates:
            curves[RATE] = self.learning_rates
        stack = stack_for(type(self).__name__, ax, len(curves))
        stack.need(type(self).__name__, list(curves), BELOW)
        name = self.estimator_name if name is None else name
        is_chosen = name != self.estimator_name or "label" in kwargs
        given = line_style(kwargs)
        if "color" not in given:
            given["color"] = stack.top._get_lines.get_next_color()
        number, stack.n_drawn = stack.n_drawn, stack.n_drawn + 1
        looks = {
            self.ylabel: {"label": name or "_"} | given,
            SCORE: {"label": "_", "color": given["color"]},
            RATE: {"label": "_", "color": given["color"], "drawstyle": "steps-mid"},
        }
        drawn = {panel: _draw(stack.names[panel], lines, number, looks[panel]) for panel, lines in curves.items()}
        self.axes_ = np.array(list(stack), dtype=object)
        self.ax_ = stack.names[self.ylabel]
        self.figure_ = self.ax_.figure
        self.score_ax_, self.rate_ax_ = (stack.names[panel] if panel in drawn else None for panel in (SCORE, RATE))
        (self.line_,) = drawn[self.ylabel]
        self.score_line_: Any = drawn.get(SCORE, [None])[0]
        self.rate_lines_: list[Any] = drawn.get(RATE, [])
        tell_apart(self.ax_, self.line_, name, None if is_chosen else self._params)
        self._draw_phases(stack, given["color"])
        _finish(stack)
        return self

    def _draw_phases(self, stack: Stack, color: Any) -> None:
        """Shade every second phase in all panels, draw a line where an optimizer took over, and name them."""
        from matplotlib.colors import to_rgb

        phases = list(self.phases or [])
        self.phase_lines_: list[Any] = []
        self.phase_spans_: list[Any] = []
        if len(phases) < 2:
            return
        ends = [begin for begin, _ in phases[1:]]
        n_epochs = max(len(self.loss_curve), *(ends or [0]))
        for ax in stack:
            is_main = ax is self.ax_
            for number, (begin, end) in enumerate(zip(ends, [*ends[1:], n_epochs], strict=True)):
                line = ax.axvline(begin + 0.5, linewidth=0.8, color=color, label="_phase", zorder=1)
                span = None
                if number % 2 == 0:
                    span = ax.axvspan(begin + 0.5, end + 0.5, color=color, alpha=0.1, linewidth=0, zorder=0)
                if is_main:
                    self.phase_lines_.append(line)
                    self.phase_spans_ += [] if span is None else [span]
        place = {"xycoords": stack.top.get_xaxis_transform(), "textcoords": "offset points", "va": "top"}
        place |= {"fontsize": SMALL, "color": tuple(DARKER * np.array(to_rgb(color)))}
        stack.rows.append(
            [stack.top.annotate(optimizer, (begin + 0.5, 1), (2, -GAP), **place) for begin, optimizer in phases]
        )


def _draw(ax: Any, curves: Mapping[str, Any], number: int, look: dict[str, Any]) -> list[Any]:
    """Draw the curves of a display in a panel: one, or several that differ in their dashes, with their names."""
    lines = []
    for values, (name, dashes) in zip(curves.values(), zip(curves, cycle(DASHES), strict=False), strict=True):
        several = {"label": shortened(name.split(", ")), "linestyle": dashes} if len(curves) > 1 else {}
        curve = np.asarray(values, dtype=np.float64)
        lines += ax.plot(_epochs(curve), curve, **(_markers(curve, number) | look | several))
    return lines


def _markers(values: Array, number: int) -> dict[str, Any]:
    """Return at which epochs to mark the curve of a display: at a few, and at those beside which there is no line."""
    known = np.isfinite(values)
    beside = np.r_[False, known[:-1]] | np.r_[known[1:], False]
    alone = np.flatnonzero(known & ~beside).tolist()
    marker, step = MARKERS[number % len(MARKERS)], max(1, len(values) // N_MARKERS)
    if marker:
        some = range(number * step // len(MARKERS) % step, len(values), step)
        return {"marker": marker, "markersize": 4, "markevery": sorted({*some, *alone})}
    return {"marker": "o", "markersize": 4, "markevery": alone} if alone else {}


def _finish(stack: Stack) -> None:
    """Scale the panels, and put names and legends where no curve is."""
    from matplotlib.ticker import MaxNLocator

    for name, ax in stack.names.items():
        ax.set_ylabel(name.replace(" ", "\n") if name in BELOW else name)  # low panels have room for one word
        _scale(ax, least=1.0 if name == RATE else DECADES)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if ax.xaxis.get_tick_params().get("labelbottom", True):
            ax.set_xlabel("epoch")
    _make_room(stack, _arrange(stack))
    for ax in stack:
        legend_above(ax)
    if len(stack.names) > 1:
        stack.top.figure.align_ylabels(list(stack))


def _scale(ax: Any, least: float) -> None:
    """Make an axis logarithmic if all curves are positive and span a ratio; linear if it was, and one is not."""
    lines = [line for line in ax.lines if line.get_label() != "_phase"]
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in lines])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > least * values.min():
        ax.set_yscale("log")
    elif len(values) and values.min() <= 0 and ax.get_yscale() == "log":
        ax.set_yscale("linear")


def _arrange(stack: Stack) -> float:
    """Move the names of phases into rows in which none overlaps another; return the height of the rows in points."""
    ax = stack.top
    left, right = ax.get_xlim()
    frame, dpi = ax.get_window_extent(), ax.figure.dpi
    n_rows = 0
    for texts in stack.rows:
        ends: list[float] = []  # of the last name in each row, in pixels
        for text in texts:
            begin = (text.xy[0] - left) / (right - left) * frame.width
            begin = max(0.0, begin)
            row = next((row for row, end in enumerate(ends) if end < begin), len(ends))
            ends[row : row + 1] = [begin + text.get_window_extent().width + dpi / 15]
            text.set_position((2, -GAP - (n_rows + row) * NAME))
        n_rows += len(ends)
    return n_rows * NAME + GAP if n_rows else 0.0


def _make_room(stack: Stack, points: float) -> None:
    """Scale the top panel so that all curves are below the names of phases, unless its limits are the user's."""
    ax = stack.top
    if stack.limits is not None and ax.get_ylim() == stack.limits:
        ax.set_autoscaley_on(True)
        ax.autoscale_view(scalex=False)
    if not points or not ax.get_autoscaley_on():
        return
    height = 72 * ax.get_window_extent().height / ax.figure.dpi
    share = min(points / height, MOST_NAMES)
    to_axis = ax.yaxis.get_transform()
    low, high = to_axis.transform(np.array(ax.get_ylim()))
    top = to_axis.inverted().transform(np.array([low + (high - low) / (1 - share)]))[0]
    if np.isfinite(top):
        stack.limits = ax.set_ylim(top=top)


def _epochs(values: Sequence[float] | Array) -> Array:
    return np.arange(1, len(values) + 1)


def _by_rate(recorded: dict[int, dict[str, float]], n_iter: int) -> dict[str, Array] | None:
    """Rates over all epochs, of blocks that always had the same one together, by the names of those blocks."""
    if not recorded:
        return None
    blocks = dict.fromkeys(block for rates in recorded.values() for block in rates)
    together: dict[tuple[float | None, ...], list[str]] = {}
    for block in blocks:
        rates = tuple(recorded.get(epoch, {}).get(block) for epoch in range(n_iter))
        together.setdefault(rates, []).append(block)
    return {", ".join(names): np.array(rates, dtype=float) for rates, names in together.items()}
