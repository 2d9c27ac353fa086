"""Tools for searches: a learning rate range test, fits from several starts, and parameter grids over optimizers.

`find_learning_rate` takes the steps of a fit while the learning rate rises, and reads a learning rate off the loss
curve. `fit_from_starts` fits from several random starting parameters and keeps the best fit.
`optimizer_grid` writes the list of dicts that a search over optimizers with different hyperparameters needs.
"""

from __future__ import annotations

import copy
import itertools
import numbers
import pickle
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

from .data.batch import STARTS, generator
from .data.rows import Rows
from .exceptions import DivergenceError
from .hyperparameters import is_auto, require_estimator, unknown_hyperparameter
from .objective import Objective
from .optimizers import Exponential, FullBatch, Phases, get_optimizer
from .optimizers.projection import projected
from .parameters import Layout, Parameters
from .readable import readable
from .training.minibatches import steps
from .typing import Array, MatrixLike, Params, RandomState
from .validation import Interval, check_range, nearest

__all__ = ["LearningRateSweep", "MultistartFit", "find_learning_rate", "fit_from_starts", "optimizer_grid"]

SHARE_OF_FALL = 0.95  # where the curve has made so much of its whole fall, training is fastest
CAUTION = 0.5  # the share of that rate which is suggested: hardly slower, and better on held-out rows
EXPLODED = 10  # the sweep ends when a loss has risen by so many times the largest fall so far
BEGINNING = 0.1  # share of the sweep in which the rate is taken to be too small to matter
NOTHING = 1e-6  # a fall of the loss, relative to it, that may be rounding
VANISHED = 1e-12  # what is left of the loss of the first start where a model without noise is found

_POSITIVE = Interval(0, np.inf, closed="neither")
_RANGES = {
    "low": _POSITIVE,
    "high": _POSITIVE,
    "n_steps": Interval(10, np.inf, integral=True),
    "smoothing": Interval(0, 1, closed="left"),
    "n_starts": Interval(1, np.inf, integral=True),
}


@readable
@dataclass(frozen=True, eq=False, repr=False)
class LearningRateSweep:
    """Result of `find_learning_rate`. The parameters are also attributes.

    Parameters
    ----------
    parameter : str
        Name of the swept parameter of the estimator, such as ``"optimizer__learning_rate"``.
    rates : ndarray of shape (n_steps_taken,)
        Learning rate of each step, increasing.
    losses : ndarray of shape (n_steps_taken,)
        Objective (mean loss and penalty) of each step's batch, before the step.
    smoothed_losses : ndarray of shape (n_steps_taken,)
        Smoothed losses, from which the suggestion is read.
    suggested : float or None
        Suggested learning rate; None if the loss did not fall at any learning rate.
    ended : {"high", "exploded", "not finite"}
        Why the sweep ended: it reached ``high``, the loss exploded, or the next loss, gradient or parameters were not
        finite.
    optimizer : str or None, default=None
        ``"adam"`` if the estimator has ``optimizer="auto"``, because Adam was swept; otherwise None.
    """

    parameter: str
    rates: np.ndarray
    losses: np.ndarray
    smoothed_losses: np.ndarray
    suggested: float | None
    ended: str
    optimizer: str | None = None

    @property
    def params(self) -> dict[str, Any]:
        """Suggested parameters as a dict, for ``estimator.set_params(**sweep.params)``.

        Raises
        ------
        ValueError
            If there is no suggestion.
        """
        if self.suggested is None:
            raise ValueError(
                f"No learning rate to suggest: the loss did not fall at any from {self.rates[0]:.3g} to "
                f"{self.rates[-1]:.3g}. If it rose, use a smaller low; if it did not change, use a larger high."
            )
        named = {} if self.optimizer is None else {"optimizer": self.optimizer}
        return {**named, self.parameter: self.suggested}

    def plot(self, ax: Any = None) -> Any:
        """Plot the losses, the smoothed losses and the suggestion against the learning rate.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to plot on. If None, new axes are created.

        Returns
        -------
        ax : matplotlib.axes.Axes
            Axes with a logarithmic learning rate. The loss axis is cut off above the region of interest.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot as plt
        except ImportError as error:
            raise ImportError(
                "LearningRateSweep.plot requires matplotlib: pip install matplotlib, or in a clone "
                'pip install -e ".[plot]"'
            ) from error
        if ax is None:
            ax = plt.figure(layout="constrained").add_subplot()
        ax.semilogx(self.rates, self.losses, ".", color="0.7", label="batch")
        ax.semilogx(self.rates, self.smoothed_losses, label="smoothed")
        if self.suggested is not None:
            ax.axvline(self.suggested, color="0.3", linestyle="--", label=f"suggested: {self.suggested:.2g}")
        bottom, top = _visible(self.losses, self.smoothed_losses)
        ax.set(xlabel="learning rate", ylabel="loss", ylim=(bottom, top))
        ax.legend()
        return ax

    def __repr__(self) -> str:
        suggested = None if self.suggested is None else f"{self.suggested:.3g}"
        return (
            f"LearningRateSweep({self.parameter}, suggested={suggested}, {len(self.rates)} steps from "
            f"{self.rates[0]:.3g} to {self.rates[-1]:.3g}, ended={self.ended!r})"
        )


@readable
def find_learning_rate(
    estimator: Any,
    X: MatrixLike,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    parameter: str | None = None,
    low: float = 1e-6,
    high: float = 100.0,
    n_steps: int = 100,
    smoothing: float = 0.04,
    random_state: RandomState = None,
    **metadata: Any,
) -> LearningRateSweep:
    r"""Suggest a learning rate from one short run in which it rises with every step [Smith2017]_.

    The run takes the steps of a fit: it uses the estimator's starting parameters, batches, objective and optimizer,
    with the learning rate :math:`\eta_k = \eta_\text{low} (\eta_\text{high} / \eta_\text{low})^{k / (n - 1)}` in step
    k of n. The loss does not change while the learning rate is too small, falls when it is suitable, and rises when it
    is too large. The sweep ends early if the loss explodes or is no longer finite. The estimator is not changed.

    Parameters
    ----------
    estimator : estimator of this package
        Estimator with a minibatch optimizer. It need not be fitted. With ``warm_start=True`` the sweep starts, like
        `fit`, from the parameters of the last fit, but with a new optimizer state.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Training samples; all are used, even with ``early_stopping=True``. Scale them as for `fit`, because the best
        learning rate depends on the scale.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets, if the estimator takes them.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights.
    parameter : str, default=None
        Name of the estimator's parameter to sweep, if the optimizer has several learning rates:
        ``"optimizer__W__learning_rate"`` for the parameter array ``"W"`` of a `PerBlock`. The others are not changed.
    low, high : float, default=1e-6, 100.0
        Smallest and largest learning rate of the sweep.
    n_steps : int, default=100
        Number of steps. The sweep makes as many passes over the samples as needed.
    smoothing : float, default=0.04
        Standard deviation of the Gaussian that smooths the losses, as a fraction of ``n_steps``.
    random_state : int, RandomState instance or None, default=None
        Seed for the starting parameters, the shuffling and the ``rng`` that callables receive. If None, that of the
        estimator is used; with an integer there, the sweep starts exactly as `fit` does.
    **metadata : array-like of shape (n_samples,) or (n_samples, k)
        Sample metadata, passed to the callables that name it.

    Returns
    -------
    sweep : LearningRateSweep
        The suggestion is ``sweep.suggested``; apply it with ``estimator.set_params(**sweep.params)``.

    Raises
    ------
    TypeError
        If ``estimator`` is not an estimator of this package.
    ValueError
        If the optimizer has no learning rate to sweep, or there is no loss.
    DivergenceError
        If the loss or the gradient is not finite at the starting parameters.

    Warns
    -----
    UserWarning
        If the loss is still falling at the end of the sweep.

    Notes
    -----
    The suggestion is half of the smallest learning rate at which the smoothed curve has made 95 % of its fall, from
    its left end to its minimum. There is no suggestion if the fall is smaller than the scatter of the losses about
    the curve.

    This rule was chosen by measurement. The reference is the fall of the loss in a fit with the best of 25 learning
    rates. After 30, 100 and 200 epochs of 10 models with 4 optimizers (Adam, RMSprop, SGD with and without momentum),
    the suggested learning rate missed 2.0 % of that fall on average on training samples, and 2.5 % on held-out samples.
    The point of steepest descent missed 3.0 and 2.5 %, a tenth of the learning rate at the minimum 3.9 and 2.4 %, the
    learning rate without halving 1.4 and 5.2 %, and 0.01 for everything 11 and 13 %. After 10, 30 and 100 epochs of 13
    models with 9 optimizers, it missed 5 % on training samples; steepest descent and the tenth missed 10 %.

    The suggestion is too large for rules whose step is proportional to the norm of the parameters (LAMB, LARS) or to
    the distance traveled (DoG, Prodigy): from a start near zero, they hardly move during the sweep.

    The rising learning rate replaces a schedule. The plain `gradient` form does not return a loss, so each step calls
    `forward` once more.

    References
    ----------
    .. [Smith2017] L. Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.search import find_learning_rate
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = AnalyticRegressor(optimizer="adam", random_state=0, max_iter=1000)
    >>> sweep = find_learning_rate(model, X, y, high=1000.0)
    >>> bool(
    ...     sweep.suggested > 1
    ... )  # far from 0.01: coefficients of several hundreds start at 0
    True
    >>> model = model.set_params(**sweep.params).fit(X, y)
    >>> round(model.score(X, y), 1)
    0.5
    """
    for name, value in {"low": low, "high": high, "n_steps": n_steps, "smoothing": smoothing}.items():
        check_range("find_learning_rate", name, value, _RANGES[name])
    if not low < high:
        raise ValueError(f"find_learning_rate: low must be less than high; got low={low}, high={high}.")
    require_estimator("find_learning_rate", estimator)
    named = "adam" if is_auto(estimator.optimizer) else None
    optimizer = clone(get_optimizer(named or estimator.optimizer))
    parameter = _swept_parameter(optimizer, parameter)
    growth = (high / low) ** (1 / (n_steps - 1))
    optimizer.set_params(**{parameter.removeprefix(_OPTIMIZER): Exponential(low, decay=growth)})
    if random_state is None:
        random_state = copy.deepcopy(estimator.random_state)
    objective, theta, rows = estimator._prepare_sweep(X, y, sample_weight, random_state, optimizer, metadata)
    losses, ended = _sweep(objective, theta, rows, optimizer, n_steps)
    rates = low * growth ** np.arange(len(losses))
    smoothed, suggested = _read_off(rates, losses, n_steps, smoothing)
    if ended == "high" and suggested and smoothed[-1] == smoothed.min():
        warnings.warn(f"The loss still falls at high={high}; the best learning rate may be larger.", stacklevel=2)
    return LearningRateSweep(parameter, rates, losses, smoothed, suggested, ended, named)


_OPTIMIZER = "optimizer__"


def _swept_parameter(optimizer: Any, asked: str | None) -> str:
    """Return the estimator's name for the rate that is swept; an error where there is none, or a choice."""
    kind = type(optimizer).__name__
    if isinstance(optimizer, FullBatch):
        raise ValueError(f"{kind} is a full-batch method, which chooses its step lengths and has no learning rate.")
    if isinstance(optimizer, Phases):
        raise ValueError(
            "Each phase has its own learning rate. Pass an estimator whose optimizer is that of a single phase."
        )
    rates = [f"{_OPTIMIZER}{name}" for name in optimizer.get_params() if name.split("__")[-1] == "learning_rate"]
    if asked is not None:
        if asked not in rates:
            raise ValueError(f"parameter={asked!r} is not a learning rate.{nearest(asked, rates)} {_listed(rates)}")
        return asked
    if not rates:
        raise ValueError(f"{optimizer!r} has no learning rate, as it contains no rule.")
    if len(rates) > 1:
        raise ValueError(f"{kind} has {len(rates)} learning rates. Choose one with parameter=. {_listed(rates)}")
    return rates[0]


def _listed(rates: Iterable[str]) -> str:
    return f"Available: {', '.join(map(repr, rates)) or 'none'}."


def _sweep(objective: Objective, theta: Parameters, rows: Rows, optimizer: Any, n_steps: int) -> tuple[Array, str]:
    """Return the loss of each step, and why there are no more."""
    if not objective.has_value:
        raise ValueError(
            "find_learning_rate needs a loss, but gradient was given with loss=None. Pass a loss by name or as a "
            "function, or use loss_and_gradient."
        )
    objective.needs_value = True
    optimizer = projected(optimizer, theta)
    state = optimizer.init(theta.vector, blocks=theta.layout)
    losses: list[float] = []
    lowest = np.inf
    try:
        with np.errstate(all="ignore"):
            for loss in itertools.islice(steps(objective, theta, optimizer, state, rows), n_steps):
                losses.append(loss)
                lowest = min(lowest, loss)
                if loss > _ceiling(losses, lowest, n_steps):
                    return np.array(losses), "exploded"
    except DivergenceError:
        if not losses:
            raise
        return np.array(losses), "not finite"
    return np.array(losses), "high"


def _ceiling(losses: Sequence[float] | Array, lowest: float, n_steps: int) -> float:
    """Return the loss above which the sweep ends; infinite while the rate is too small to matter.

    Measured from the lowest loss, in units of the fall so far, or of the scatter between batches.
    """
    n = max(3, int(BEGINNING * n_steps))
    if len(losses) <= n:
        return np.inf
    beginning = np.array(losses[:n])
    level = beginning.mean()
    return float(lowest + EXPLODED * max(level - lowest, np.ptp(beginning), 0.01 * abs(level)))


@np.errstate(over="ignore", invalid="ignore")
def _read_off(rates: Array, losses: Array, n_steps: int, smoothing: float) -> tuple[Array, float | None]:
    """Return the smoothed curve, and the rate that it suggests."""
    # One loss beyond all bounds would otherwise hide what is near it.
    bounded = np.minimum(losses, _ceiling(losses, losses.min(), n_steps))
    smoothed = gaussian_filter1d(bounded, smoothing * n_steps, mode="nearest") if smoothing else bounded
    lowest = int(smoothed.argmin())
    fall = smoothed[0] - smoothed[lowest]
    scatter = (bounded - smoothed)[: lowest + 1].std()
    if fall <= max(scatter, NOTHING * abs(smoothed[0])):
        return smoothed, None
    fastest = rates[np.argmax(smoothed <= smoothed[0] - SHARE_OF_FALL * fall)]
    return smoothed, float(CAUTION * fastest)


def _visible(losses: Array, smoothed: Array) -> tuple[float, float]:
    """Return the ends of the axis of losses: from the minimum to somewhat above the beginning."""
    beginning = losses[: max(3, int(BEGINNING * len(losses)))]
    bottom, top = min(smoothed.min(), losses.min()), max(smoothed[0], beginning.max())
    margin = 0.1 * (top - bottom) or 1.0
    return bottom - margin, top + 3 * margin


@readable
@dataclass(frozen=True, eq=False, repr=False)
class MultistartFit:
    """Result of `fit_from_starts`. The parameters are also attributes; the first start has index 0.

    Parameters
    ----------
    best : estimator
        The fit with the smallest loss.
    best_index : int
        Index of its start.
    n_best : int
        Number of starts that reached the smallest loss, to a relative 1e-6.
    losses : ndarray of shape (n_starts,)
        Objective (mean loss and penalty) over all samples at the end of each fit; NaN for failed fits.
    params : list
        Final parameters of each fit, in the structure of ``params_``; None for failed fits.
    starts : list
        Starting parameters of each fit, in the same structure. Pass ``init=result.starts[i]`` to start there again.
    n_iter : ndarray of shape (n_starts,)
        Number of iterations or epochs of each fit; 0 for failed fits.
    messages : list of str
        Warnings of each fit; an empty string if there were none.
    errors : list
        Exception raised by each fit, or None.
    """

    best: Any
    best_index: int
    n_best: int
    losses: np.ndarray
    params: list[Params | None]
    starts: list[Params | None]
    n_iter: np.ndarray
    messages: list[str]
    errors: list[Exception | None]

    @property
    def best_loss(self) -> float:
        """Smallest value of ``losses``."""
        return float(self.losses[self.best_index])

    @property
    def n_failed(self) -> int:
        """Number of starts whose fit raised an error."""
        return sum(error is not None for error in self.errors)

    def __repr__(self) -> str:
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        return (
            f"MultistartFit({len(self.losses)} starts, best_loss={self.best_loss:.6g} from start {self.best_index}, "
            f"reached by {self.n_best}{failed})"
        )


@readable
def fit_from_starts(
    estimator: Any,
    X: MatrixLike,
    y: ArrayLike | None = None,
    n_starts: int = 20,
    *,
    spread: float | Mapping[str, ArrayLike] | None = None,
    bounds: Mapping[str, tuple[ArrayLike | None, ArrayLike | None]] | None = None,
    sample_weight: ArrayLike | None = None,
    n_jobs: int | None = None,
    random_state: RandomState = None,
    **fit_params: Any,
) -> MultistartFit:
    """Fit a model from several starting parameters and keep the best fit.

    If a loss has several minima, the starting parameters decide which one a fit reaches. The first start is the
    estimator's own ``init``; the others are drawn at random. A clone is fitted from each start; the estimator itself is
    not changed.

    Parameters
    ----------
    estimator : estimator of this package
        Estimator to fit. The parameters of an earlier fit are not used.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Training samples.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets, if the estimator takes them.
    n_starts : int, default=20
        Number of starts, including the first.
    spread : float or dict, default=None
        Spread of the starts around ``init``, relative to the size of each entry: with 1, an entry x of ``init`` is
        drawn from the uniform distribution between 0 and 2x. For entries that are 0, the spread is absolute. A dict
        gives a number or an array for each parameter by name. Other parameters have a spread of 1, or of 0 if ``init``
        receives ``rng`` and so draws each start itself. For a parameter under ``reparametrize``, the spread applies
        to the unconstrained value: for "log" with 1, starts differ by a factor between 1/e and e.
    bounds : dict, default=None
        Pairs ``(low, high)`` of numbers or arrays, by parameter name, between which starts are drawn uniformly. If one
        end is None or infinite, the entry is drawn by its ``spread`` and reflected at the other end. If None, the
        bounds of the estimator are used. They restrict the starts, not the fits.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights.
    n_jobs : int, default=None
        Number of fits to run in parallel, as in scikit-learn. The result does not depend on it.
    random_state : int, RandomState instance or None, default=None
        Determines the starts, and the ``random_state`` of the estimator for each start. If None, that of the estimator
        is used.
    **fit_params : dict
        Further arguments of `fit`: sample metadata, ``X_val``, ``y_val``.

    Returns
    -------
    result : MultistartFit
        The best fit is ``result.best``; ``result.losses`` and ``result.params`` have the results of all fits.

    Raises
    ------
    TypeError
        If ``estimator`` is not one of this package, or bounds or spread are not numbers.
    ValueError
        If there is no loss to compare fits by, if all starts would be equal, or if bounds or spread name a parameter
        that does not exist, is held fixed or has another shape.
    Exception
        If all fits fail; the exception of the first is raised.

    Warns
    -----
    UserWarning
        If some fits fail. They are ignored.
    ConvergenceWarning
        If the best fit has not converged. Other warnings of the best fit keep their category.

    Notes
    -----
    Starts are drawn from a uniform distribution because it is bounded: up to ``spread=1`` no entry changes its sign,
    which scales and rates must not do. If even the order of magnitude is unknown, fit the logarithm, or let ``init``
    draw the start: ``init=lambda rng: {"rate": 10 ** rng.uniform(-3, 3)}``.

    Parameters that are ``fixed``, or have no gradient, stay at ``init``.

    Fits are compared by the objective (loss and penalty) over all samples of X, including those that
    ``early_stopping`` holds out. ``result.best`` has the ``random_state`` of its start: a clone of it with
    ``init=result.starts[result.best_index]`` repeats the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic import AnalyticRegressor, fit_from_starts
    >>> def forward(params, X):
    ...     return np.sin(params["frequency"] * X[:, 0])
    >>> def jacobian(params, X):
    ...     return {"frequency": X[:, 0] * np.cos(params["frequency"] * X[:, 0])}
    >>> X = np.linspace(0, 5, 50)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = AnalyticRegressor(
    ...     forward, jacobian=jacobian, init={"frequency": 1.0}, random_state=0
    ... )
    >>> round(model.fit(X, y).params_["frequency"], 3)  # a local minimum
    0.674
    >>> result = fit_from_starts(model, X, y, 10, bounds={"frequency": (0, 10)})
    >>> round(result.best.params_["frequency"], 3)
    3.0
    """
    check_range("fit_from_starts", "n_starts", n_starts, _RANGES["n_starts"])
    require_estimator("fit_from_starts", estimator)
    model = clone(estimator)
    if random_state is not None:
        model.random_state = random_state
    seeds = check_random_state(copy.deepcopy(model.random_state)).randint(2**31 - 1, size=n_starts).tolist()
    if not isinstance(model.random_state, numbers.Integral):
        model.random_state = seeds[0]
    data = _Data(X, y, sample_weight, fit_params)
    objective, begin, rows = data.prepared(model)
    if not objective.has_value:
        raise ValueError(
            "fit_from_starts needs a loss to compare fits by, but gradient was given with loss=None. Pass a loss by "
            "name or as a function, or use loss_and_gradient."
        )
    draws_itself = "rng" in getattr(objective.model.init, "accepts", ())
    held, first_loss = _look_at_start(objective, begin, rows)
    ranges = _Ranges.read(begin, spread, _bounds_of(bounds), held, default=0.0 if draws_itself else 1.0)
    if n_starts > 1 and not draws_itself and not ranges.vary:
        raise ValueError(
            "fit_from_starts: all starts would be the same. Pass a spread or bounds for a parameter that is trained, "
            "or let init receive rng."
        )
    first = model.random_state
    jobs = [(first, _Start(None, seeds[0])), *((seed, _Start(ranges, seed)) for seed in seeds[1:])]
    attempts = Parallel(n_jobs=n_jobs)(delayed(_attempt)(model, data, *job) for job in jobs)
    return _compared(attempts, max(NOTHING, 16 * float(np.finfo(begin.vector.dtype).eps)), VANISHED * abs(first_loss))


def _bounds_of(bounds: Any) -> Mapping[str, Any]:
    """Return the bounds between which starts are drawn."""
    if bounds is not None and not isinstance(bounds, Mapping):
        raise TypeError(
            f"fit_from_starts: bounds must be a dict by parameter name, such as {{'tau': (0.1, 10)}}; got {bounds!r}."
        )
    return bounds or {}


OF_A_VALIDATION_SET = ("X_val", "y_val", "sample_weight_val")


class _Data(NamedTuple):
    """What `fit` is given, by `fit_from_starts`."""

    X: Any
    y: Any
    sample_weight: Any
    others: Mapping[str, Any]

    def prepared(self, model: Any) -> tuple[Objective, Parameters, Rows]:
        """Return the objective, where a fit of a model would begin or has ended, and all rows."""
        metadata = {name: value for name, value in self.others.items() if name not in OF_A_VALIDATION_SET}
        prepared: tuple[Objective, Parameters, Rows] = model._prepare_starts(
            self.X, self.y, self.sample_weight, metadata
        )
        return prepared

    def fit(self, model: Any) -> None:
        """Fit a model, whose own `fit` may know of no weights."""
        weights = {} if self.sample_weight is None else {"sample_weight": self.sample_weight}
        model.fit(self.X, self.y, **weights, **self.others)


def _look_at_start(objective: Objective, begin: Parameters, rows: Rows) -> tuple[set[int], float]:
    """Return the blocks that are not trained, and the loss; what cannot be had at the first start, a fit will say."""
    held = set(objective.fixed)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            held.update(objective.contribution(begin, rows.telling.everything).missing)
            loss = _objective_over(rows, objective, begin)
        except Exception:
            return held, 0.0
    return held, loss if np.isfinite(loss) else 0.0


def _objective_over(rows: Rows, objective: Objective, theta: Parameters) -> float:
    """Return the mean loss and the penalty over all rows."""
    values = rows.map(lambda batch: (objective.value(theta, batch), batch.n))
    loss = objective.mean(theta, values)
    return np.nan if loss is None else float(loss)


class _Ranges(NamedTuple):
    """Where each entry of θ is drawn: around the start by a relative spread, between an end and another, or both."""

    spread: Array
    low: Array
    high: Array

    @classmethod
    def read(cls, begin: Parameters, spread: Any, bounds: Mapping[str, Any], held: set[int], default: float) -> _Ranges:
        """Read what the user says of the blocks of a start; those that are held stay where they are."""
        layout = begin.as_given.layout
        own = np.full(layout.size, default)
        ends = tuple(np.array(limit, dtype=np.float64) for limit in begin.limits_as_given)
        if isinstance(spread, Mapping):
            for index, value in layout.of_blocks(spread, "spread").items():
                _write(own, layout, held, "spread", index, value)
        elif spread is not None:
            own[:] = _numbers_of(spread, (), "spread")
        if not (np.isfinite(own) & (own >= 0)).all():
            raise ValueError(f"fit_from_starts: spread must be 0 or larger, and finite; got {spread!r}.")
        for index, pair in layout.of_blocks(bounds, "bounds").items():
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                name = layout.names[index]
                raise TypeError(f"fit_from_starts: bounds of {name!r} must be a pair (low, high); got {pair!r}.")
            for end, value, infinite in zip(ends, pair, (-np.inf, np.inf), strict=True):
                _write(end, layout, held, "bounds", index, infinite if value is None else value)
        low, high = ends
        _require_allowed(layout, low, high, *begin.limits_as_given)
        for name, where in zip(layout.names, layout.slices, strict=True):
            if not (low[where] <= high[where]).all():
                raise ValueError(f"fit_from_starts: bounds of {name!r} must be low <= high; got {bounds!r}.")
        for index in held:
            own[layout.slices[index]] = 0
        return cls(own, low, high)

    @property
    def vary(self) -> bool:
        """Whether an entry can differ from one start to another."""
        return bool((np.where(self._is_between, self.high > self.low, self.spread > 0)).any())

    @property
    def _is_between(self) -> Array:
        return np.isfinite(self.low) & np.isfinite(self.high)

    def draw(self, begin: Parameters, rng: np.random.Generator) -> Parameters:
        """Draw a start; one number for each entry, so that what is said of a block changes no other.

        What is not between two ends is drawn where training moves: under a map, so that it obeys the constraint.
        """
        given, share = begin.as_given, rng.uniform(-1.0, 1.0, begin.as_given.layout.size)
        drawn, around = given.copy(), self._around(begin, share, rng)
        around = np.where((around < self.low) & (self.spread > 0), 2 * self.low - around, around)
        around = np.where((around > self.high) & (self.spread > 0), 2 * self.high - around, around)
        between = self._is_between
        low, high = (np.where(between, end, 0.0) for end in (self.low, self.high))
        within = np.clip(low + 0.5 * (1 + share) * (high - low), low, high)
        drawn.vector[...] = np.where(between, within, around)
        return begin.entered(drawn.vector)

    def _around(self, begin: Parameters, share: Array, rng: np.random.Generator) -> Array:
        """Draw around a start; return the user's own numbers."""
        shares = rng.uniform(-1.0, 1.0, begin.vector.size) if begin.is_mapped else share
        moved = begin.vector + begin.spread(self.spread) * shares
        x: Array = begin.at(moved.astype(begin.vector.dtype)).as_given.vector.astype(np.float64)
        return x


def _require_allowed(layout: Layout, low: Array, high: Array, least: Array, most: Array) -> None:
    """Raise if starts could be drawn outside of the bounds of the estimator."""
    for name, where in zip(layout.names, layout.slices, strict=True):
        if (low[where] < least[where]).any() or (high[where] > most[where]).any():
            raise ValueError(
                f"fit_from_starts: bounds of {name!r} exceed the bounds of the estimator, and a fit must start within "
                "them. Narrow the bounds of the starts, or widen those of the estimator."
            )


def _write(out: Array, layout: Layout, held: set[int], argument: str, index: int, value: Any) -> None:
    """Write what was given for a block into a vector; raise if the block is held, or it does not fit."""
    block = layout.names[index]
    if index in held:
        raise ValueError(f"fit_from_starts: {argument} names {block!r}, which is not trained. Leave it out.")
    out[layout.slices[index]] = _numbers_of(value, layout.shapes[index], argument, block).ravel()


def _numbers_of(value: Any, shape: tuple[int, ...], argument: str, name: str = "") -> Array:
    """Return what was given for a block, in its shape."""
    of_block = f" of {name!r}" if name else ""
    try:
        given = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"fit_from_starts: {argument}{of_block} must be a number or an array of numbers; got {value!r}."
        ) from None
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        raise ValueError(
            f"fit_from_starts: {argument}{of_block} has shape {given.shape}; expected a number or shape {shape}."
        ) from None


class _Start:
    """Where a fit begins: drawn around θ from `init`, or there; it remembers where that was."""

    def __init__(self, ranges: _Ranges | None, seed: int) -> None:
        self.ranges, self.seed = ranges, seed
        self.begun: Any = None

    def __call__(self, theta: Parameters) -> Parameters:
        """Return the start, in place of another."""
        if self.ranges is not None:
            theta = self.ranges.draw(theta, generator(self.seed, STARTS))
        self.begun = theta.copy().to_structure()
        return theta


class _Attempt(NamedTuple):
    """A fit from one start, and how it ended."""

    start: Any
    model: Any = None
    loss: float = np.nan
    warned: tuple[tuple[type[Warning], str], ...] = ()
    error: Exception | None = None


def _attempt(estimator: Any, data: _Data, random_state: int, start: _Start) -> _Attempt:
    """Fit from a start, whatever happens."""
    model, failed = clone(estimator), None
    model.random_state = random_state
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model._other_start = start
            try:
                data.fit(model)
            finally:
                del model._other_start
            objective, theta, rows = data.prepared(model)
            loss = _objective_over(rows, objective, theta)
            if not np.isfinite(loss):
                raise DivergenceError(f"The final loss over all samples is {loss}.")
        except Exception as error:
            failed, loss, model = _portable(error), np.nan, None
    warned = tuple({(warning.category, str(warning.message)): None for warning in caught})
    return _Attempt(start.begun, model, loss, warned, failed)


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent from a worker: itself, or its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _compared(attempts: Sequence[_Attempt], relative: float, absolute: float) -> MultistartFit:
    """Return the attempts with the best of them; raise if there is none, warn if something has to be said."""
    losses = np.array([attempt.loss for attempt in attempts])
    failed = {number: attempt.error for number, attempt in enumerate(attempts) if attempt.error is not None}
    if len(failed) == len(attempts):
        if len(attempts) > 1:
            failed[0].add_note(f"In the first of {len(attempts)} starts of fit_from_starts, all of which failed.")
        raise failed[0]
    for error in failed.values():
        error.__traceback__ = error.__cause__ = error.__context__ = None  # they hold the data
    best = int(np.nanargmin(losses))
    _warn(attempts, best, failed)
    return MultistartFit(
        best=attempts[best].model,
        best_index=best,
        n_best=int(np.sum(losses - losses[best] <= relative * abs(losses[best]) + absolute)),
        losses=losses,
        params=[None if attempt.model is None else attempt.model.params_ for attempt in attempts],
        starts=[attempt.start for attempt in attempts],
        n_iter=np.array([0 if attempt.model is None else attempt.model.n_iter_ for attempt in attempts]),
        messages=["\n".join(message for _, message in attempt.warned) for attempt in attempts],
        errors=[attempt.error for attempt in attempts],
    )


def _warn(attempts: Sequence[_Attempt], best: int, failed: Mapping[int, Exception]) -> None:
    """Warn once, of what the best fit warned of and of fits that failed."""
    said: list[str] = []
    category: type[Warning] = UserWarning
    warned = attempts[best].warned
    if warned:
        categories = [category for category, _ in warned]
        category = ConvergenceWarning if ConvergenceWarning in categories else categories[0]
        texts = " ".join(text for _, text in warned)
        said.append(f"The best of {len(attempts)} starts, number {best}, warned: {texts}")
    if failed:
        number, error = next(iter(failed.items()))
        said.append(
            f"{len(failed)} of {len(attempts)} starts failed and were ignored. Number {number} raised "
            f"{type(error).__name__}: {error}"
        )
    if said:
        warnings.warn(" ".join(said), category, stacklevel=4)


@readable
def optimizer_grid(optimizers: dict[str, dict[str, Any]], prefix: str = "", **common: Any) -> list[dict[str, Any]]:
    """Return a parameter grid that combines each hyperparameter only with the optimizers that have it.

    A single dict for all optimizers would try the momentum of ``"sgd"`` with ``"adam"``, which raises an error.
    Searches accept a list of dicts instead, one per optimizer; this function writes it.

    Parameters
    ----------
    optimizers : dict of str to dict
        For each optimizer by name, a dict of its hyperparameters and the values to try; ``{}`` for the
        defaults.
    prefix : str, default=""
        Prefix of ``optimizer`` in the parameters of the searched estimator: ``"clf__"`` for the step
        ``"clf"`` of a pipeline.
    **common : list, array or distribution
        Values of hyperparameters for all of the optimizers that have them. Values in ``optimizers`` take precedence.

    Returns
    -------
    grid : list of dict
        Parameter grid for :class:`~sklearn.model_selection.GridSearchCV`, or, if it contains distributions from
        :mod:`scipy.stats`, for :class:`~sklearn.model_selection.RandomizedSearchCV`.

    Raises
    ------
    ValueError
        If an optimizer or a hyperparameter does not exist (the message suggests the nearest name), if none of the
        optimizers has a hyperparameter in ``common``, or if a list of values is empty.
    TypeError
        If values are not a list, an array or a distribution.

    Examples
    --------
    >>> from sk_analytic.search import optimizer_grid
    >>> grid = optimizer_grid(
    ...     {"sgd": {"momentum": [0.0, 0.9]}, "lbfgs": {}}, learning_rate=[0.01, 0.1]
    ... )
    >>> for settings in grid:
    ...     print(settings)
    {'optimizer': ['sgd'], 'optimizer__learning_rate': [0.01, 0.1],
     'optimizer__momentum': [0.0, 0.9]}
    {'optimizer': ['lbfgs']}
    """
    if prefix and not prefix.endswith("__"):
        raise ValueError(f"prefix must end with two underscores, {prefix.rstrip('_') + '__'!r}; got {prefix!r}.")
    known = {name: _hyperparameters_of(name) for name in _checked_optimizers(optimizers)}
    _require_reached(common, known)
    return [
        {f"{prefix}optimizer": [name]}
        | {f"{prefix}optimizer__{key}": values for key, values in _settings(name, own, common, known[name]).items()}
        for name, own in optimizers.items()
    ]


def _checked_optimizers(optimizers: Any) -> Any:
    if not isinstance(optimizers, dict) or not optimizers:
        raise TypeError(
            f"optimizer_grid takes a dict such as {{'adam': {{'learning_rate': [0.01, 0.1]}}}}; got {optimizers!r}."
        )
    for name, own in optimizers.items():
        if not isinstance(name, str) or not isinstance(own, dict):
            raise TypeError(f"optimizers must map names to dicts of hyperparameters; got {name!r}: {own!r}.")
    return optimizers


def _hyperparameters_of(name: str) -> list[str]:
    return list(get_optimizer(name).get_params())


def _require_reached(common: Iterable[str], known: Mapping[str, Iterable[str]]) -> None:
    everywhere = list(dict.fromkeys(itertools.chain.from_iterable(known.values())))
    for key in common:
        if key not in everywhere:
            names = ", ".join(map(repr, known))
            raise ValueError(
                f"None of {names} has a hyperparameter {key!r}.{nearest(key, everywhere)} To search a parameter of the "
                "estimator itself, such as batch_size, add it to each dict: "
                "[settings | {'batch_size': [...]} for settings in grid]."
            )


def _settings(name: str, own: dict[str, Any], common: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Return the values to try with one optimizer, by the name of the hyperparameter."""
    for key in own:
        if key not in known:
            raise ValueError(unknown_hyperparameter(f"optimizer {name!r}", key, known))
    settings = {key: values for key, values in common.items() if key in known} | own
    for key, values in settings.items():
        _check_values(name, key, values)
    return settings


def _check_values(name: str, key: str, values: Any) -> None:
    if hasattr(values, "rvs"):
        return
    is_array = isinstance(values, np.ndarray) and values.ndim == 1
    if not is_array and (isinstance(values, str) or not isinstance(values, Sequence)):
        raise TypeError(
            f"{key} of optimizer {name!r} must be a list or a 1-d array of values to try, or a distribution (with a "
            f"method rvs); got {values!r}."
        )
    if not len(values):
        raise ValueError(f"{key} of optimizer {name!r} has no values to try.")
