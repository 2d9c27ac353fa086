"""Losses by name: the value and derivative of each row, without weights and without a mean.

A loss is one formula, entry by entry; `Loss` adds what is common to all: one floating type, the sum
over several outputs, the domain of ``y`` and the link. Weights, means and penalties are the
objective's. `D2` makes a score of a loss.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, softmax
from sklearn.exceptions import UndefinedMetricWarning

from . import elsewhere
from .elsewhere import Elsewhere
from .hyperparameters import Hyperparameters, lookup
from .typing import Array
from .validation import Interval, Range

REALS = Interval(-np.inf, np.inf)


class Loss(Hyperparameters):
    """What every loss is: per-row values and derivatives, a link, a domain.

    A loss of your own is a subclass with a ``formula(y, prediction)`` that returns the value and the
    derivative in ``prediction``, entry by entry; both arguments are float arrays of one shape and dtype,
    not to be written to. A loss whose rows are more than the sum of their entries overrides
    `value_and_derivative` instead; one that is not a sum over rows (Cox, a Gaussian process) also says
    ``additive = False``, and is then always called with all rows.

    Either method receives metadata of the rows that it names after ``prediction``: ``fit(X, y, event=event)`` hands
    them to ``formula(y, prediction, event)``.

    Attributes
    ----------
    name : str
        What stands for the loss: ``loss="huber"``.
    link : {"identity", "log", "logit"}
        The scale of the prediction: ``inverse_link(prediction)`` is on y's own.
    domain : Interval or None
        Where ``y`` may lie; None for a loss that has no ``y``.
    additive : bool
        Whether the loss of a batch is the sum over its rows.
    has_d2 : bool
        Whether a regressor is scored by D², the share of the loss that its predictions explain, or by minus
        the mean loss. True for a ``formula`` of y and prediction alone on one of the three links. A loss that is not
        smallest where the prediction is y sets it to False.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> from sk_analytic.losses import Loss
    >>> class LogCosh(Loss):
    ...     def formula(self, y, prediction):
    ...         residual = prediction - y
    ...         return np.logaddexp(residual, -residual) - math.log(2), np.tanh(residual)
    >>> values, derivative = LogCosh().value_and_derivative(
    ...     np.array([1.0, 2.0]), np.array([1.0, 3.0])
    ... )
    >>> values.round(3), derivative.round(3)
    (array([0.   , 0.434]), array([0.   , 0.762]))
    """

    name = ""
    link = "identity"
    domain: Interval | None = REALS
    additive = True

    def formula(self, y: Array, prediction: Array, *args: Any, **metadata: Any) -> tuple[Array, Array]:
        """Value and derivative, entry by entry.

        Parameters
        ----------
        y : ndarray
            What was observed.
        prediction : ndarray of the same shape and dtype
            What was predicted, on the link's scale.
        *args, **metadata : array-like of shape (n,) or (n, k)
            Further data of the rows: a subclass names what it receives, and nothing else.

        Returns
        -------
        values : ndarray of the same shape
            The loss of each entry.
        derivative : ndarray of the same shape
            Its derivative in the prediction.
        """
        raise NotImplementedError(f"{type(self).__name__} must define formula(y, prediction) -> (values, derivative).")

    def value_and_derivative(
        self, y: ArrayLike | None, prediction: ArrayLike, *args: Any, **metadata: Any
    ) -> tuple[Array, Array]:
        """Value of each row, and its derivative in the prediction.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k)
            What was observed, in the loss's domain.
        prediction : array-like of the same shape
            What was predicted, on the link's scale. Its floating type is that of the results.
        *args, **metadata : array-like of shape (n,) or (n, k)
            Further data of the rows, for a `formula` that names it.

        Returns
        -------
        values : ndarray of shape (n,)
            The loss of each row: the sum over its k outputs. Infinite where that overflows.
        derivative : ndarray of the prediction's shape
            The derivative of each row's value in each of its predictions; an array of its own.

        Raises
        ------
        ValueError
            If the shapes differ: nothing is broadcast.
        """
        prediction = _as_floating(prediction)
        if type(y) is not np.ndarray or y.dtype is not prediction.dtype:
            y = _as_array(y).astype(prediction.dtype, copy=False)
        if y.shape != prediction.shape:
            raise ValueError(
                f"{self._title()}: y has shape {y.shape}, but the prediction has shape {prediction.shape}."
            )

        def summed(y: Array, prediction: Array) -> tuple[Array, Array]:
            values, derivative = self.formula(y, prediction, *args, **metadata)
            return _row_sums(values), derivative

        return _row_by_row(summed, y, prediction, at_once=not self.additive or bool(args or metadata))

    def value(self, y: ArrayLike | None, prediction: ArrayLike, *args: Any, **metadata: Any) -> Array:
        """Value of each row.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k)
            What was observed.
        prediction : array-like of the same shape
            What was predicted, on the link's scale.
        *args, **metadata : array-like of shape (n,) or (n, k)
            Further data of the rows, for a loss that names it.

        Returns
        -------
        values : ndarray of shape (n,)
            The loss of each row.
        """
        return self.value_and_derivative(y, prediction, *args, **metadata)[0]

    def derivative(self, y: ArrayLike | None, prediction: ArrayLike, *args: Any, **metadata: Any) -> Array:
        """Derivative of each row's value in the prediction.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k)
            What was observed.
        prediction : array-like of the same shape
            What was predicted, on the link's scale.
        *args, **metadata : array-like of shape (n,) or (n, k)
            Further data of the rows, for a loss that names it.

        Returns
        -------
        derivative : ndarray of the prediction's shape
            One number a prediction.
        """
        return self.value_and_derivative(y, prediction, *args, **metadata)[1]

    def inverse_link(self, prediction: ArrayLike) -> Array:
        """Turn a prediction into what it predicts, on y's own scale.

        Parameters
        ----------
        prediction : array-like
            On the link's scale.

        Returns
        -------
        mean : ndarray of the same shape
            The prediction itself (identity), its exponential (log), or the probability (logit).
        """
        prediction = _as_floating(prediction)
        with np.errstate(all="ignore"):
            inverse: Array = _INVERSE_LINKS[self.link](prediction)
            return inverse

    @property
    def has_link(self) -> bool:
        """Whether predictions are on the scale of `link`, so that means of y have a place among them."""
        return type(self).inverse_link is Loss.inverse_link and self.domain is not None

    @property
    def has_d2(self) -> bool:
        """Whether a regressor is scored by D²."""
        if not self.additive or type(self).formula is Loss.formula or not self.has_link:
            return False
        return len(inspect.signature(self.formula).parameters) == 2

    def best_constant(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the constant prediction of the smallest mean loss.

        D² compares predictions with it. It is found numerically; a subclass that knows it overrides this.

        Parameters
        ----------
        y : array-like of shape (n,)
            What was observed.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.

        Returns
        -------
        constant : float
            On the link's scale.

        Examples
        --------
        >>> from sk_analytic.losses import Huber, Poisson
        >>> round(Huber(epsilon=1.0).best_constant([0.0, 1.0, 50.0]), 6)
        1.0
        >>> Poisson().best_constant([0.0, 2.0])
        0.0
        """
        y = np.asarray(y, dtype=np.float64)
        weights: Any = sample_weight

        def mean_loss(constant: float) -> float:
            return float(np.average(self.value(y, np.full(y.shape, constant)), weights=weights))

        # Several minima are possible: the search begins around the best of some constants.
        grid = linked(self.link, np.append(np.quantile(y, np.linspace(0, 1, 17)), _mean(y, sample_weight)))
        grid = np.unique(grid if self.link == "identity" else grid.clip(-EXTREME, EXTREME))
        losses = [mean_loss(constant) for constant in grid.tolist()]
        best = int(np.argmin(losses))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        if low == high:
            return float(low)
        found = minimize_scalar(
            mean_loss, bounds=(low, high), method="bounded", options={"xatol": 1e-9 * (high - low), "maxiter": 200}
        )
        return float(found.x if found.fun < losses[best] else grid[best])

    def check(self) -> None:
        """Raise if a hyperparameter, the link or the domain is none."""
        super().check()
        name = type(self).__name__
        if type(self).inverse_link is Loss.inverse_link and self.link not in _LINKS:
            raise ValueError(
                f"{name}: link must be one of {', '.join(map(repr, _LINKS))}, or the class have an inverse_link of its "
                f"own; got {self.link!r}."
            )
        if self.domain is not None and not isinstance(self.domain, Interval):
            raise TypeError(
                f"{name}: domain must be an Interval or None; got {self.domain!r}. For counts, from "
                "sk_analytic.validation, it is Interval(0, np.inf)."
            )

    def check_domain(self, y: ArrayLike) -> None:
        """Raise if an entry of ``y`` lies outside the loss's domain.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k), or None
            What was observed.

        Raises
        ------
        ValueError
            The message names the loss, the first such entry, the domain, and losses that admit all of ``y``.
        """
        if self.domain is None:
            return
        y = np.asarray(y)
        outside = ~self.domain.holds(y)
        if outside.any():
            row = tuple(np.argwhere(outside)[0].tolist())
            raise ValueError(
                f"{self._title()}: y[{', '.join(map(str, row))}] is {y[row]}, outside the loss's domain {self.domain}. "
                f"Correct the row{_alternatives(y)}."
            )

    def _title(self) -> str:
        return self.name or type(self).__name__


def link_of_mean(loss: Loss, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The best constant of the deviances of exponential families."""
    return float(linked(loss.link, _mean(np.asarray(y, dtype=np.float64), sample_weight)))


class SquaredError(Loss):
    r"""Half the squared error.

    :math:`\frac12 (f - y)^2`, link identity, all real y, no constant dropped. The same as
    :class:`~sklearn.linear_model.LinearRegression` and :class:`~sklearn.linear_model.Ridge`, up to their
    scaling.

    Examples
    --------
    >>> from sk_analytic.losses import SquaredError
    >>> SquaredError().value_and_derivative([1.0, 2.0], [1.0, 5.0])
    (array([0. , 4.5]), array([0., 3.]))
    """

    name = "squared_error"
    best_constant = link_of_mean

    def formula(self, y: Array, prediction: Array) -> tuple[Array, Array]:
        residual = prediction - y
        values = residual * residual
        values *= 0.5
        return values, residual


class AbsoluteError(Loss):
    r"""Absolute error, whose minimum is the median.

    :math:`|f - y|`, link identity, all real y, no constant dropped. The derivative at the kink is 0. Twice
    the loss of :class:`~sklearn.linear_model.QuantileRegressor` at its default quantile.

    Examples
    --------
    >>> from sk_analytic.losses import AbsoluteError
    >>> AbsoluteError().value_and_derivative([1.0, 2.0], [1.0, 5.0])
    (array([0., 3.]), array([0., 1.]))
    """

    name = "absolute_error"

    def formula(self, y: Array, prediction: Array) -> tuple[Array, Array]:
        residual = prediction - y
        slope = np.sign(residual)
        return slope * residual, slope

    def best_constant(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        return _quantile(y, 0.5, sample_weight)


class Huber(Loss):
    r"""Squared error for small residuals, absolute error for large ones.

    :math:`\frac12 r^2` where :math:`|r| \le \varepsilon`, else :math:`\varepsilon |r| - \frac12
    \varepsilon^2`, with :math:`r = f - y`; link identity, all real y, no constant dropped. Half the loss of
    :class:`~sklearn.linear_model.HuberRegressor` for a scale sigma of 1: there ``epsilon`` counts in units of
    the sigma that it estimates, here in those of y.

    Parameters
    ----------
    epsilon : float, default=1.35
        The residual at which the loss becomes linear, in units of y. Greater than 0.

    Examples
    --------
    >>> from sk_analytic.losses import Huber
    >>> Huber(epsilon=2.0).value_and_derivative([1.0, 2.0], [2.0, 5.0])
    (array([0.5, 4. ]), array([1., 2.]))
    """

    name = "huber"
    ranges = {"epsilon": Interval(0, np.inf, closed="neither")}

    def __init__(self, epsilon: float = 1.35) -> None:
        self.epsilon = epsilon

    def formula(self, y: Array, prediction: Array) -> tuple[Array, Array]:
        epsilon = float(self.epsilon)  # a NumPy scalar would widen float32
        residual = prediction - y
        slope = np.minimum(np.maximum(residual, -epsilon), epsilon)
        residual -= 0.5 * slope
        residual *= slope
        return residual, slope


class Quantile(Loss):
    r"""The pinball loss, whose minimum is a quantile.

    :math:`q\,(y - f)` where :math:`y \ge f`, else :math:`(1 - q)(f - y)`; link identity, all real y, no
    constant dropped. The derivative at the kink is 0. The same as
    :class:`~sklearn.linear_model.QuantileRegressor`.

    Parameters
    ----------
    quantile : float, default=0.5
        The quantile to predict, between 0 and 1.

    Examples
    --------
    >>> from sk_analytic.losses import Quantile
    >>> Quantile(quantile=0.75).value_and_derivative([1.0, 2.0], [0.0, 4.0])
    (array([0.75, 0.5 ]), array([-0.75,  0.25]))
    """

    name = "quantile"
    ranges = {"quantile": Interval(0, 1, closed="neither")}

    def __init__(self, quantile: float = 0.5) -> None:
        self.quantile = quantile

    def formula(self, y: Array, prediction: Array) -> tuple[Array, Array]:
        quantile = float(self.quantile)
        residual = prediction - y
        slope = np.minimum(np.maximum(np.sign(residual), -quantile), 1 - quantile)
        residual *= slope
        return residual, slope

    def best_constant(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        return _quantile(y, self.quantile, sample_weight)


class Tweedie(Loss):
    r"""Half the Tweedie deviance: variances that grow like a power of the mean.

    With the mean :math:`\mu` and :math:`s = \log \mu`, for a power p other than 1 and 2

    .. math:: \frac{e^{(2-p)s}}{2-p} - y\,\frac{e^{(1-p)s}}{1-p},

    and the limits :math:`e^s - y s` at 1, Poisson's, and :math:`s + y e^{-s}` at 2, Gamma's. The dropped
    constant is the same expression at :math:`\mu = y`, with its sign changed. Domain of y: all real
    numbers for p up to 0, :math:`y \ge 0` for :math:`1 \le p < 2`, :math:`y > 0` from 2 on. The same as
    :class:`~sklearn.linear_model.TweedieRegressor`.

    Parameters
    ----------
    power : float, default=1.5
        The power of the mean to which the variance is proportional: 0 normal, 1 Poisson, between 1 and 2
        compound Poisson-gamma, 2 gamma, 3 inverse Gaussian. None exists between 0 and 1.
    link : {"log", "identity"}, default="log"
        What ``forward`` returns: the logarithm of the mean, or the mean. A mean must be positive (for power 0,
        any number); one below 0 makes the value NaN.

    Examples
    --------
    >>> from sk_analytic.losses import Tweedie
    >>> Tweedie(power=1.5).value_and_derivative([0.0, 1.0], [0.0, 0.0])
    (array([2., 4.]), array([1., 0.]))
    >>> Tweedie(power=1.5, link="identity").value_and_derivative([0.0, 1.0], [1.0, 1.0])
    (array([2., 4.]), array([1., 0.]))
    """

    name = "tweedie"
    best_constant = link_of_mean
    ranges: Mapping[str, Range] = {"link": ("log", "identity"), "power": REALS}

    def __init__(self, power: float = 1.5, link: str = "log") -> None:
        self.power = power
        self.link = link

    @property
    def domain(self) -> Interval:  # type: ignore[override]
        """Where ``y`` may lie: it depends on the power."""
        if self.power <= 0:
            return REALS
        return Interval(0, np.inf, closed="left" if self.power < 2 else "neither")

    def check(self) -> None:
        """Raise a ValueError that names the first hyperparameter outside its range."""
        super().check()
        if 0 < self.power < 1:
            raise ValueError(
                f"{type(self).__name__}: power must not lie between 0 and 1, where no Tweedie distribution exists; "
                f"got {self.power!r}. 0 is the normal, 1 the Poisson distribution."
            )

    def formula(self, y: Array, prediction: Array) -> tuple[Array, Array]:
        power = float(self.power)
        common, up, down = self._terms(power, y, prediction)
        if power == 1:
            values = up - y * self._log_mean(prediction)
        elif power == 2:
            values = self._log_mean(prediction) + down
        else:
            values = common * (up * (1 / (2 - power)) - down * (1 / (1 - power)))
        if self.link == "identity":
            common, up, down = self._terms(power + 1, y, prediction)
        derivative = up - down
        if not isinstance(common, float):
            derivative *= common
        return values, derivative

    def _terms(self, power: float, y: Array, prediction: Array) -> tuple[Any, Any, Any]:
        """exp((2 - p) s) and y exp((1 - p) s), without their common factor, which comes first.

        Where both exponentials would overflow, only the factor does: no inf - inf.
        """
        if power <= 1:
            return self._mean_to(1 - power, prediction), self._mean_to(1, prediction), y
        if power < 2:
            common, up, down = 1.0, self._mean_to(2 - power, prediction), y * self._mean_to(1 - power, prediction)
        else:
            common, up, down = self._mean_to(2 - power, prediction), 1.0, y * self._mean_to(-1, prediction)
        if self.power < 2:
            down[y == 0] = 0.0  # also where the exponential is infinite
        return common, up, down

    def _mean_to(self, rate: float, prediction: Array) -> Any:
        """Return a power of the mean; 1.0, a float, where that is all it is."""
        if rate == 0:
            return 1.0
        if self.link == "identity":
            return prediction if rate == 1 else np.exp(rate * np.log(prediction))
        return np.exp(prediction if rate == 1 else rate * prediction)

    def _log_mean(self, prediction: Array) -> Array:
        if self.link == "log":
            return prediction
        log: Array = np.maximum(np.log(prediction), np.finfo(prediction.dtype).min)  # finite, so that 0 log 0 is 0
        return log


class Poisson(Tweedie):
    r"""Poisson likelihood: `Tweedie` at power 1.

    :math:`e^f - y f` on the log link, :math:`f - y \log f` on the identity link, :math:`y \ge 0`; the
    constant :math:`\log y!` is dropped. The same as :class:`~sklearn.linear_model.PoissonRegressor`.

    Parameters
    ----------
    link : {"log", "identity"}, default="log"
        What ``forward`` returns: the logarithm of the mean, or the mean, which must not be negative.

    Examples
    --------
    >>> from sk_analytic.losses import Poisson
    >>> Poisson().value_and_derivative([0.0, 3.0], [0.0, 0.0])
    (array([1., 1.]), array([ 1., -2.]))
    """

    name = "poisson"
    ranges = {"link": ("log", "identity")}
    power = 1

    def __init__(self, link: str = "log") -> None:
        self.link = link


class Gamma(Tweedie):
    r"""Half the gamma deviance: `Tweedie` at power 2.

    :math:`f + y e^{-f}` on the log link, :math:`\log f + y / f` on the identity link, :math:`y > 0`; the
    constant :math:`-\log y - 1` is dropped. The same as :class:`~sklearn.linear_model.GammaRegressor`.

    Parameters
    ----------
    link : {"log", "identity"}, default="log"
        What ``forward`` returns: the logarithm of the mean, or the mean, which must be positive.

    Examples
    --------
    >>> from sk_analytic.losses import Gamma
    >>> Gamma().value_and_derivative([1.0, 3.0], [0.0, 0.0])
    (array([1., 3.]), array([ 0., -2.]))
    """

    name = "gamma"
    ranges = {"link": ("log", "identity")}
    power = 2

    def __init__(self, link: str = "log") -> None:
        self.link = link


class LogLoss(Loss):
    r"""Log loss of classes, from raw scores: binary, multinomial or multilabel by the shapes.

    ======== ========== ============================================================================
    y        prediction value of a row
    ======== ========== ============================================================================
    (n,)     (n,)       binary: :math:`\log(1 + e^f) - y f`
    (n,)     (n, K)     multinomial, K of 2 or more: :math:`\log \sum_k e^{f_k} - f_y`, for a class
                        index y
    (n, K)   (n, K)     multilabel: the binary value of each label, summed
    ======== ========== ============================================================================

    Link logit (softmax for the multinomial form). Class indices from 0, or y in [0, 1]: a share, such as
    a label of 0 or 1. No constant is dropped. The same as
    :class:`~sklearn.linear_model.LogisticRegression`.

    Examples
    --------
    >>> from sk_analytic.losses import LogLoss
    >>> values, derivative = LogLoss().value_and_derivative([0, 1], [0.0, 0.0])
    >>> values.round(4), derivative
    (array([0.6931, 0.6931]), array([ 0.5, -0.5]))
    >>> values, derivative = LogLoss().value_and_derivative([2], [[0.0, 0.0, 0.0]])
    >>> values.round(4), derivative.round(4)
    (array([1.0986]), array([[ 0.3333,  0.3333, -0.6667]]))
    """

    name = "log_loss"
    best_constant = link_of_mean
    link = "logit"
    domain = Interval(0, 1)

    def value_and_derivative(self, y: ArrayLike | None, prediction: ArrayLike) -> tuple[Array, Array]:
        """Value of each row, and its derivative in the scores.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, K)
            Class indices, or a share in [0, 1] for each score.
        prediction : array-like of shape (n,) or (n, K)
            Raw scores. Their floating type is that of the results.

        Returns
        -------
        values : ndarray of shape (n,)
            The loss of each row.
        derivative : ndarray of the prediction's shape
            The derivative of each row's value in its scores.

        Raises
        ------
        ValueError
            If the shapes are none of the three forms.
        """
        y, prediction = y if type(y) is np.ndarray else _as_array(y), _as_floating(prediction)
        if y.ndim == 1 and prediction.ndim == 2 and prediction.shape[1] > 1 and len(y) == len(prediction):
            if isinstance(prediction, Elsewhere):
                return self._by_comparison(y, prediction)
            y = y.astype(np.intp, copy=False)
            is_moderate = np.vdot(prediction, prediction) < MODERATE.get(prediction.dtype.char, 0.0)
            return _moderate_softmax(y, prediction) if is_moderate else _row_by_row(self._multinomial, y, prediction)
        return super().value_and_derivative(y, prediction)

    def formula(self, y: Array, prediction: Array) -> tuple[Array, Array]:
        positive = np.maximum(prediction, 0)
        one, zero = np.exp(prediction - positive), np.exp(-positive)  # as their probabilities; the larger is 1
        values = positive - y * prediction + np.log1p(one * zero)
        return values, (one * (1 - y) - zero * y) / (one + zero)

    @staticmethod
    def _by_comparison(y: Any, scores: Any) -> tuple[Array, Array]:
        is_own = np.stack([y == k for k in range(scores.shape[1])], axis=1).astype(scores.dtype)
        scores = scores - scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        total = shares.sum(axis=1, keepdims=True)
        return np.log(total)[:, 0] - (scores * is_own).sum(axis=1), shares / total - is_own

    @staticmethod
    def _multinomial(y: Array, scores: Array) -> tuple[Array, Array]:
        shares = scores.T.copy()  # classes first: NumPy is several times faster along the long axis
        at = np.arange(len(y))
        at += y * len(y)
        own = shares.reshape(-1)
        shares -= np.maximum.reduce(shares, axis=0)
        values = -own[at]
        np.exp(shares, out=shares)
        total = np.add.reduce(shares, axis=0)
        values += np.log(total)
        shares /= total
        own[at] -= 1
        return values, np.ascontiguousarray(shares.T)

    def check_domain(self, y: ArrayLike) -> None:
        """Raise if ``y`` holds neither class indices nor numbers in [0, 1].

        Parameters
        ----------
        y : array-like of shape (n,) or (n, K)
            Integers of shape (n,) are class indices.

        Raises
        ------
        ValueError
            The message names the first entry that is neither.
        """
        y = np.asarray(y)
        is_index = y.ndim == 1 and y.dtype.kind in "iu"
        super().check_domain(np.minimum(y, 1) if is_index else y)

    @staticmethod
    def probabilities(prediction: ArrayLike) -> Array:
        """Turn the raw scores of a binary or multinomial model into probabilities of the classes.

        Those of a multilabel model are `inverse_link`'s.

        Parameters
        ----------
        prediction : array-like of shape (n,), (n, 1) or (n, K)
            Raw scores; one column scores the second of two classes.

        Returns
        -------
        probabilities : ndarray of shape (n, 2) or (n, K)
            Of the prediction's floating type, computed in float64; each row sums to 1 within its rounding.

        Examples
        --------
        >>> from sk_analytic.losses import LogLoss
        >>> LogLoss.probabilities([0.0, 1000.0])
        array([[0.5, 0.5],
               [0. , 1. ]])
        """
        prediction = _as_floating(prediction)
        scores = prediction.astype(np.float64, copy=False)
        if scores.ndim == 2 and scores.shape[1] > 1:
            shares = elsewhere.softmax(scores) if isinstance(scores, Elsewhere) else softmax(scores, axis=1)
        else:
            score = scores.reshape(-1)
            shares = np.stack([_expit(-score), _expit(score)], axis=1)
        probabilities: Array = shares.astype(prediction.dtype, copy=False)
        return probabilities


class NegativeLogLikelihood(Loss):
    """The negative log-density of each row, for density models.

    ``-f`` in nats for the log-density ``f``; there is no ``y``, no link and no constant. The same as minus
    ``score_samples`` of :class:`~sklearn.neighbors.KernelDensity` and
    :class:`~sklearn.mixture.GaussianMixture`.

    Examples
    --------
    >>> from sk_analytic.losses import NegativeLogLikelihood
    >>> NegativeLogLikelihood().value_and_derivative(None, [-1.5, -2.0])
    (array([1.5, 2. ]), array([-1., -1.]))
    """

    name = "negative_log_likelihood"
    domain = None

    def value_and_derivative(self, y: ArrayLike | None, prediction: ArrayLike) -> tuple[Array, Array]:
        """Value of each row, and its derivative in the log-density.

        Parameters
        ----------
        y : None
            Not looked at.
        prediction : array-like of shape (n,)
            Log-density of each row.

        Returns
        -------
        values : ndarray of shape (n,)
            The loss of each row; infinite where the density is 0.
        derivative : ndarray of the prediction's shape
            Minus 1 everywhere.
        """
        prediction = _as_floating(prediction)
        if isinstance(prediction, Elsewhere):
            return _row_sums(-prediction), np.full_like(prediction, -1)
        return _row_sums(-prediction), np.full(prediction.shape, -1, prediction.dtype)


class D2:
    """D², the share of a loss that predictions of one y explain, averaged over outputs.

    ``1 - (L(prediction) - L(y)) / (L(constant) - L(y))`` with the mean losses of the predictions, of y itself and of
    the best constant. For the squared error that is R²; for the others it is what scikit-learn's GLMs return as their
    score, and its metrics ``d2_tweedie_score``, ``d2_absolute_error_score``, ``d2_pinball_score``. If y is constant, D²
    is 1 for perfect predictions and else 0, as in `r2_score`.

    Parameters
    ----------
    loss : Loss
        One that `has_d2`.
    y : ndarray of shape (n,) or (n, k)
    sample_weight : ndarray of shape (n,), default=None
        Rows of weight 0 are left out.
    """

    def __init__(self, loss: Loss, y: Array, sample_weight: Array | None = None) -> None:
        self.loss = loss
        self._counts = slice(None) if sample_weight is None else np.flatnonzero(sample_weight)
        self._weight = None if sample_weight is None else sample_weight[self._counts]
        y = y[self._counts].astype(np.float64)
        self._y = y.reshape(len(y), -1)
        if len(y) < 2:
            return
        self._least = self._values(linked(loss.link, self._y))
        constants = [loss.best_constant(column, self._weight) for column in self._y.T]
        values = self._values(np.tile(constants, (len(y), 1)))
        self._unexplained = self._excess(values)
        self._size = len(y) * (np.abs(values).max(axis=0) + np.abs(self._least).max(axis=0))
        self._require_least(self._unexplained, f"the constant prediction {constants[0]:.4g}")

    def __call__(self, prediction: Array) -> float:
        """Return D² of predictions on the link's scale, which have the shape of y; NaN if one is not finite."""
        if not np.isfinite(prediction[self._counts]).all():
            return math.nan
        if len(self._y) < 2:
            warnings.warn(
                "D² is not defined for less than two samples with a weight.", UndefinedMetricWarning, stacklevel=3
            )
            return math.nan
        left = self._excess(self._values(prediction[self._counts].astype(np.float64).reshape(self._y.shape)))
        self._require_least(left, "a prediction")
        with np.errstate(all="ignore"):
            explained = np.where(self._unexplained > 0, 1 - left / self._unexplained, left == 0)
        explained[~np.isfinite(self._unexplained)] = math.nan
        return float(explained.mean())

    def _require_least(self, excess: Array, what: str) -> None:
        """Raise if predictions have a smaller loss than y itself has, by more than rounding."""
        if (excess < -1e-9 * self._size).any():
            raise ValueError(
                f"{type(self.loss).__name__} is smaller for {what} than where the prediction is y, so that D² is not "
                "defined. Set has_d2 = False in the class: the score is then minus the mean loss."
            )

    def _values(self, prediction: Array) -> Array:
        """The loss of each entry."""
        columns = zip(self._y.T, prediction.T, strict=True)
        return np.stack([self.loss.value(y, of_column) for y, of_column in columns], axis=1)

    def _excess(self, values: Array) -> Array:
        """The sum by which losses exceed those of y itself, for each output."""
        with np.errstate(all="ignore"):
            excess = values - self._least
            if self._weight is not None:
                excess *= self._weight[:, None]
            total: Array = excess.sum(axis=0)
        return total


_ELSEWHERE = {
    "mse": "squared_error",
    "l2": "squared_error",
    "least_squares": "squared_error",
    "mae": "absolute_error",
    "l1": "absolute_error",
    "smooth_l1": "huber",
    "pinball": "quantile",
    "bce": "log_loss",
    "cross_entropy": "log_loss",
    "crossentropy": "log_loss",
    "logistic": "log_loss",
    "nll": "negative_log_likelihood",
}
"""Losses as other libraries call them, to our names; for messages."""


def get_loss(loss: object) -> Loss:
    """Return the loss that a name stands for.

    Parameters
    ----------
    loss : str or Loss
        One of `get_loss_names`, or a loss, which is returned as it is.

    Returns
    -------
    loss : Loss
        With default hyperparameters for a name.

    Raises
    ------
    ValueError
        For an unknown name; the message has the nearest.
    TypeError
        For anything that is neither a name nor a loss.

    Examples
    --------
    >>> from sk_analytic.losses import get_loss
    >>> get_loss("huber").set_params(epsilon=1.5)
    Huber(epsilon=1.5)
    """
    return lookup("loss", LOSSES, loss, Loss, _ELSEWHERE)


def get_loss_names() -> list[str]:
    """Return the names of all losses, sorted.

    Returns
    -------
    names : list of str
        What `get_loss` and the ``loss`` of an estimator accept.

    Examples
    --------
    >>> from sk_analytic.losses import get_loss_names
    >>> get_loss_names()[:3]
    ['absolute_error', 'gamma', 'huber']
    """
    return sorted(LOSSES)


def _as_array(values: Any) -> Array:
    return values if isinstance(values, Elsewhere) else np.asarray(values)  # type: ignore[return-value]


def _as_floating(prediction: ArrayLike) -> Array:
    if type(prediction) is not np.ndarray:
        prediction = _as_array(prediction)
    return prediction if prediction.dtype.kind == "f" else prediction.astype(np.float64)


MANY_ENTRIES, ENTRIES_AT_ONCE = 1 << 19, 1 << 16
"""Of a prediction that is taken in parts, and of a part: what a formula makes on its way then stays in the cache."""


def _row_by_row(
    formula: Callable[[Array, Array], tuple[Array, Array]], y: Array, prediction: Array, at_once: bool = False
) -> tuple[Array, Array]:
    """Value and derivative of each row; many rows are taken in parts, where none is looked at for another."""
    with np.errstate(all="ignore"):  # an overflow is an inf, which the training loop looks for
        if at_once or prediction.size <= MANY_ENTRIES or isinstance(prediction, Elsewhere):
            return formula(y, prediction)
        n = len(prediction)
        values, derivative = np.empty(n, prediction.dtype), np.empty(prediction.shape, prediction.dtype)
        size = max(1, ENTRIES_AT_ONCE * n // prediction.size)
        for start in range(0, n, size):
            part = slice(start, start + size)
            values[part], derivative[part] = formula(y[part], prediction[part])
        return values, derivative


MODERATE = {"d": 9e4, "f": 1600.0}
"""By dtype, the sum of the squares of all scores up to which no exponential and no share of one can leave the range."""


def _moderate_softmax(y: Array, scores: Array) -> tuple[Array, Array]:
    """Multinomial log loss and derivative of scores of which the largest need not be taken off: of small batches."""
    shares = scores.T.copy()  # classes first, as in the general way
    np.exp(shares, out=shares)
    shares /= _ones(len(shares), shares.dtype.char).dot(shares)
    at = y * len(y)
    at += _row_numbers(len(y))
    flat = shares.reshape(-1)
    own = flat[at]
    values = np.log(own)
    np.negative(values, values)
    own -= 1
    flat[at] = own
    return values, np.ascontiguousarray(shares.T)


@lru_cache(maxsize=16)
def _ones(n: int, dtype: str) -> Array:
    """Read-only ones: their product with a small matrix is a faster sum."""
    ones = np.ones(n, dtype)
    ones.flags.writeable = False
    return ones


@lru_cache(maxsize=16)
def _row_numbers(n: int) -> Array:
    numbers = np.arange(n)
    numbers.flags.writeable = False
    return numbers


def _row_sums(values: Array) -> Array:
    return values if values.ndim == 1 else np.einsum("ij->i", values)  # for few columns, faster than sum


def _alternatives(y: Array) -> str:
    """Words on the losses whose domain holds all of y, if there are any."""
    domains = {name: LOSSES[name]().domain for name in sorted(LOSSES)}
    fitting = [repr(name) for name, domain in domains.items() if domain is not None and domain.holds(y).all()]
    return ", or choose a loss that admits it: " + ", ".join(fitting) if fitting else ""


def _expit(score: Array) -> Array:
    shares: Array = elsewhere.expit(score) if isinstance(score, Elsewhere) else expit(score)
    return shares


_LINKS: dict[str, Callable[..., Any]] = {
    "identity": np.asarray,
    "log": lambda y: np.log(np.maximum(y, 0)),
    "logit": logit,
}
_INVERSE_LINKS: dict[str, Callable[..., Any]] = {"identity": _as_floating, "log": np.exp, "logit": _expit}
EXTREME = 700.0  # on the log and logit link: about the logarithms of the smallest and the largest number


def linked(link: str, y: Array) -> Array:
    """Return numbers of y's own scale on that of a link; infinite ones become finite, where a loss has its limit."""
    with np.errstate(all="ignore"):
        transformed: Array = np.clip(_LINKS[link](y), np.finfo(np.float64).min, np.finfo(np.float64).max)
    return transformed


def linked_mean(link: str, mean: Array, n_samples: int) -> Array:
    """Return the mean of y on the scale of a link, at which scikit-learn's generalized linear models start.

    A mean on the edge of the link's domain, as of a class that is absent, counts as half a row.
    """
    half = 0.5 / n_samples
    if link != "identity":
        mean = np.where(mean <= 0, half, mean)
    if link == "logit":
        mean = np.where(mean >= 1, 1 - half, mean)
    return linked(link, mean)


def _mean(y: Array, sample_weight: Any) -> Any:
    """The weighted mean, which of equal numbers is that number, without rounding."""
    with np.errstate(over="ignore"):
        return np.clip(np.average(y, weights=sample_weight), y.min(), y.max())


def _quantile(y: ArrayLike, quantile: float, sample_weight: ArrayLike | None) -> float:
    """The smallest entry of y up to which there is a share of the weight."""
    y = np.asarray(y, dtype=np.float64)
    order = np.argsort(y)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    reached = np.cumsum(weight[order])
    place = int(np.searchsorted(reached, quantile * reached[-1]))
    return float(y[order[min(place, len(y) - 1)]])


LOSSES: dict[str, type[Loss]] = {
    member.name: member
    for member in list(vars().values())
    if isinstance(member, type) and issubclass(member, Loss) and member is not Loss
}

__all__ = ["LOSSES", "Loss", "get_loss", "get_loss_names"]
__all__ += [cls.__name__ for cls in LOSSES.values()]
