"""Plots of analytic against numerical derivatives, entry by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..gradient_check import compare_entries
from ..gradient_check.check import of_callables
from ..hyperparameters import require_estimator
from ..readable import readable
from ..typing import MatrixLike, Params, RandomState
from .figure import pyplot

COLUMN, ROW = 4.2, 3.4  # inches of a panel
SMALLEST_ERROR, LARGEST_ERROR = 1e-10, 1e1  # the colours' range


@readable
class GradientCheckDisplay:
    """Plot analytic against numerical derivatives, entry by entry.

    For each block of θ, the left panel plots the analytic derivative of every entry against the numerical one: right
    entries lie on the identity line. The right panel shows the relative error of every entry in the shape of the
    block, so that a wrong row, column or triangle stands out. Large blocks are compared on an even grid of entries.

    Parameters
    ----------
    entries : list of Entries
        The compared entries, from `from_estimator` or `from_callables`.

    Attributes
    ----------
    entries : list of Entries
        For each block its ``block``, ``shape``, ``analytic``, ``numerical``, ``indices`` and ``relative_error``.
    figure_ : matplotlib.figure.Figure
        The figure.
    axes_ : ndarray of shape (n_blocks, 2)
        The panels.

    See Also
    --------
    sk_analytic.check_gradient : The verdicts and the diagnosis.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.plotting import GradientCheckDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> display = GradientCheckDisplay.from_estimator(
    ...     AnalyticRegressor(), X, X[:, 0], random_state=0
    ... )
    >>> [
    ...     (entries.block, bool(entries.relative_error.max() < 1e-6))
    ...     for entries in display.entries
    ... ]
    [('coef', True), ('intercept', True)]
    """

    def __init__(self, entries: Any) -> None:
        self.entries = entries

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        blocks: str | Iterable[str] | None = None,
        max_entries: int = 400,
        random_state: RandomState = None,
        plot: bool = True,
        **metadata: Any,
    ) -> GradientCheckDisplay:
        """Compare the gradient of an estimator and draw it.

        Parameters
        ----------
        estimator : estimator of this package
            Need not be fitted.
        X : array-like of shape (n_samples, n_features)
            A few dozen samples are enough.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets, if the estimator takes them.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        blocks : str or iterable of str, default=None
            Blocks to compare, by name; all by default.
        max_entries : int, default=400
            Largest number of entries to compare in a block; each takes at least four evaluations of the loss.
        random_state : int, RandomState instance or None, default=None
            Determines the starting parameters, and the point near them at which the gradients are compared.
        plot : bool, default=True
            Whether to draw if matplotlib is installed. The method `plot` draws in any case.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the samples, for the callables that name it.

        Returns
        -------
        display : GradientCheckDisplay
            The display, drawn if ``plot`` is True and matplotlib is installed.

        Raises
        ------
        TypeError
            If ``estimator`` is not one of this package.
        """
        require_estimator(cls.__name__, estimator)
        objective, theta, batch, seed = estimator._prepare_check(X, y, sample_weight, random_state, metadata)
        display = cls(compare_entries(objective, theta, batch, seed=seed, blocks=blocks, max_entries=max_entries))
        return display._drawn(plot)

    @classmethod
    def from_callables(
        cls,
        loss: Callable[..., Any],
        gradient: Callable[..., Any],
        params: Params,
        X: MatrixLike = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        blocks: str | Iterable[str] | None = None,
        max_entries: int = 400,
        random_state: int = 0,
        plot: bool = True,
        **metadata: Any,
    ) -> GradientCheckDisplay:
        """Compare the gradient of plain functions and draw it.

        Parameters
        ----------
        loss : callable
            ``loss(params, X, y) -> float``, or ``loss(params)``.
        gradient : callable
            ``gradient(params, X, y) -> grads``, or ``gradient(params)``.
        params : structure
            The parameters near which to compare.
        X : array-like of shape (n_samples, n_features), default=None
            Data, if the functions take it.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets, if the functions take them.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        blocks : str or iterable of str, default=None
            Blocks to compare, by name; all by default.
        max_entries : int, default=400
            Largest number of entries to compare in a block; each takes at least four evaluations of the loss.
        random_state : int, default=0
            Determines the point near ``params`` at which the gradients are compared.
        plot : bool, default=True
            Whether to draw if matplotlib is installed. The method `plot` draws in any case.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the samples, for the callables that name it.

        Returns
        -------
        display : GradientCheckDisplay
            The display, drawn if ``plot`` is True and matplotlib is installed.
        """
        objective, theta, batch = of_callables(loss, gradient, params, X, y, sample_weight, metadata)
        entries = compare_entries(objective, theta, batch, seed=random_state, blocks=blocks, max_entries=max_entries)
        return cls(entries)._drawn(plot)

    def _drawn(self, plot: bool) -> GradientCheckDisplay:
        """This display, drawn if that is asked for and possible."""
        if plot:
            try:
                pyplot()
            except ImportError:
                return self
            self.plot()
        return self

    def plot(self, *, axes: Any = None) -> GradientCheckDisplay:
        """Draw two panels for each block.

        Parameters
        ----------
        axes : ndarray of matplotlib Axes of shape (n_blocks, 2), default=None
            Where to draw; a new figure by default.

        Returns
        -------
        display : GradientCheckDisplay
            This display, with ``figure_`` and ``axes_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message names the extra.
        """
        plt = pyplot()
        n = len(self.entries)
        if axes is None:
            size = (2 * COLUMN, ROW * max(n, 1))
            self.figure_, axes = plt.subplots(n, 2, figsize=size, layout="constrained", squeeze=False)
        axes = np.asarray(axes, dtype=object).reshape(n, 2)
        self.axes_ = axes
        if n:
            self.figure_ = axes[0, 0].figure
        for entries, (left, right) in zip(self.entries, axes, strict=True):
            _draw_identity(left, entries)
            _draw_errors(right, entries)
        return self


def _draw_identity(ax: Any, entries: Any) -> None:
    """Plot analytic against numerical derivatives, and the identity line."""
    numerical, analytic = entries.numerical.ravel(), entries.analytic.ravel()
    finite = np.isfinite(numerical) & np.isfinite(analytic)
    both = np.concatenate([numerical[finite], analytic[finite]])
    low, high = (both.min(), both.max()) if both.size else (0.0, 1.0)
    margin = max(0.05 * (high - low), 0.05 * np.abs(both).max(initial=0.0)) or 1.0  # rounding is no difference
    ends = [low - margin, high + margin]
    ax.plot(ends, ends, color="0.6", linewidth=1, zorder=1)
    colours = np.where(entries.relative_error.ravel()[finite] > 1e-4, "#cf222e", "#1a7f37")
    ax.scatter(numerical[finite], analytic[finite], s=14, c=colours, zorder=2)
    ax.set(xlim=ends, ylim=ends, xlabel="numerical", ylabel="analytic", title=f"{entries.block}  {entries.shape}")
    ax.set_aspect("equal")


def _draw_errors(ax: Any, entries: Any) -> None:
    """Relative error by entry as a heat map in the shape of the block, axes beyond the second side by side."""
    from matplotlib.colors import LogNorm

    errors = entries.relative_error
    table = errors.reshape(errors.shape[0], -1) if errors.ndim > 1 else errors.reshape(1, -1)
    table = np.clip(np.nan_to_num(table, nan=LARGEST_ERROR, posinf=LARGEST_ERROR), SMALLEST_ERROR, LARGEST_ERROR)
    norm = LogNorm(SMALLEST_ERROR, LARGEST_ERROR)
    image = ax.imshow(table, norm=norm, cmap="RdYlGn_r", aspect="auto", interpolation="nearest")
    ax.set(title="relative error", xlabel=f"axis {max(errors.ndim - 1, 0)}", ylabel="axis 0" if errors.ndim > 1 else "")
    if errors.ndim < 2:
        ax.set_yticks([])
    _label_ticks(ax.xaxis, entries.indices[-1] if errors.ndim else np.zeros(1, int), table.shape[1])
    if errors.ndim > 1:
        _label_ticks(ax.yaxis, entries.indices[0], table.shape[0])
    ax.figure.colorbar(image, ax=ax)


def _label_ticks(axis: Any, indices: Any, length: int, most: int = 6) -> None:
    """Label a few of the compared entries by their index in the block."""
    if len(indices) == length:
        places = np.unique(np.linspace(0, length - 1, min(most, length)).astype(int))
        axis.set_ticks(places, [str(indices[place]) for place in places])
