"""Plots of training: the loss, the validation score and the learning rate over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..readable import readable
from ..typing import Array
from .figure import axes_for, pyplot

OUTWARD = 55  # points by which a third axis is moved outward if the second is taken


@readable
class LossCurveDisplay:
    """Plot the training loss over epochs, with the validation score and the learning rate on their own axes.

    To compare several estimators, pass the ``ax_`` of the first display to the next: each gets its own colour, and they
    share the axes of scores and rates. With several optimizers (`Phases`), a vertical line marks where one took over.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Loss of each epoch.
    validation_scores : array-like of shape (n_epochs,), default=None
        Validation score of each epoch.
    learning_rates : dict of str to array-like of shape (n_epochs,), default=None
        Learning rate of each epoch, by the names of its blocks; NaN if an epoch has none.
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
        Where an optimizer took over.
    ax_ : matplotlib Axes
        Of the loss.
    score_ax_ : matplotlib Axes or None
        Of the validation score, on the right.
    rate_ax_ : matplotlib Axes or None
        Of the learning rate, on the right and logarithmic.
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
            display = LossCurveDisplay.from_estimator(model, ax=display and display.ax_, learning_rate=True)
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
            An estimator of this package, or another one with a ``loss_curve_``. Of a pipeline, pass the last step.
        ax : matplotlib Axes, default=None
            Axes to draw on, such as the ``ax_`` of another display; those of a new figure by default.
        name : str, default=None
            Label of the curve in the legend; the optimizer by default.
        validation : bool, default=True
            Whether to draw the validation scores, if there are any.
        learning_rate : bool, default=False
            Whether to draw the learning rates, if there are any.
        **kwargs : dict
            Keyword arguments of `matplotlib.axes.Axes.plot` for the loss.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn. If training had no loss, the curve is the norm of the gradient.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no ``loss_curve_``.
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        pyplot()
        check_is_fitted(estimator)
        if not hasattr(estimator, "loss_curve_"):
            raise TypeError(
                f"{type(estimator).__name__} has no loss_curve_. For a pipeline or a search give the estimator inside: "
                "pipeline[-1], search.best_estimator_."
            )
        history = getattr(getattr(estimator, "_training", None), "history", None)
        curve, ylabel = estimator.loss_curve_, "loss"
        if not curve and hasattr(estimator, "gradient_norm_curve_"):
            curve, ylabel = estimator.gradient_norm_curve_, "norm of the gradient"
        phases = getattr(history, "phases", [])
        display = cls(
            curve,
            validation_scores=getattr(estimator, "validation_scores_", None),
            learning_rates=None if history is None else _by_rate(history.learning_rates, history.n_iter),
            phases=phases,
            estimator_name=name or ", ".join(optimizer for _, optimizer in phases) or type(estimator).__name__,
            ylabel=ylabel,
        )
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
        ax : matplotlib Axes, default=None
            Axes to draw on; those of a new figure by default.
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
        self.ax_ = axes_for(ax)
        self.figure_ = self.ax_.figure
        name = self.estimator_name if name is None else name
        (self.line_,) = self.ax_.plot(_epochs(self.loss_curve), self.loss_curve, **{"label": name, **kwargs})
        self.ax_.set(xlabel="epoch", ylabel=self.ylabel)
        colour = {"color": self.line_.get_color()}
        self.score_ax_: Any = None
        self.score_line_: Any = None
        if validation and self.validation_scores is not None and len(self.validation_scores):
            scores = self.validation_scores
            self.score_ax_ = _beside(self.ax_, "validation score (dashed)")
            (self.score_line_,) = self.score_ax_.plot(_epochs(scores), scores, linestyle="--", **colour)
        self.rate_ax_: Any = None
        self.rate_lines_: list[Any] = []
        if learning_rate and self.learning_rates:
            self.rate_ax_ = _beside(self.ax_, "learning rate (dotted)")
            self._draw_rates({label: np.asarray(rates) for label, rates in self.learning_rates.items()}, colour)
        self.phase_lines_ = [self._draw_phase(begin, name, colour) for begin, name in (self.phases or [])[1:]]
        if name:
            self.ax_.legend()
        return self

    def _draw_rates(self, rates_of: dict[str, Array], colour: dict[str, Any]) -> None:
        for label, rates in rates_of.items():
            (line,) = self.rate_ax_.plot(_epochs(rates), rates, linestyle=":", drawstyle="steps-mid", **colour)
            self.rate_lines_.append(line)
            if len(rates_of) > 1:
                last = np.flatnonzero(np.isfinite(rates))[-1]
                self.rate_ax_.annotate(label, (last + 1, rates[last]), ha="right", va="bottom", size="small", **colour)
        if all(np.nanmin(rates) > 0 for rates in rates_of.values()):
            self.rate_ax_.set_yscale("log")

    def _draw_phase(self, begin: int, optimizer: str, colour: dict[str, Any]) -> Any:
        """A line where an optimizer took over from another one, with its name."""
        place = {"xycoords": self.ax_.get_xaxis_transform(), "rotation": 90, "ha": "left", "va": "top"}
        self.ax_.annotate(f" {optimizer} ", (begin + 0.5, 1), size="small", **place, **colour)
        return self.ax_.axvline(begin + 0.5, linewidth=0.8, **colour)


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


def _beside(ax: Any, label: str) -> Any:
    """Return the axis of a label to the right of another one; all displays on that one share it."""
    twins = [twin for twin in ax.get_shared_x_axes().get_siblings(ax) if twin is not ax]
    for twin in twins:
        if twin.get_ylabel() == label:
            return twin
    twin = ax.twinx()
    twin.set_ylabel(label)
    if twins:
        twin.spines["right"].set_position(("outward", OUTWARD))
    return twin
