"""Losses by name: the value and derivative for each sample, without weights or a mean.

A loss is one elementwise formula. `Loss` adds what all losses share: a single floating type, the sum over several
outputs, the domain of ``y`` and the link. Weights, means and penalties belong to the objective. `D2` turns a loss into
a score.
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
    """Base class of losses: values and derivatives for each sample, a link, a domain.

    To define a loss, subclass it and implement ``formula(y, prediction)``, which returns the elementwise value and
    its derivative with respect to ``prediction``. Both arguments are float arrays of the same shape and dtype;
    do not modify them. If the loss of a sample is not the sum over its entries, override `value_and_derivative`
    instead. If the loss is not a sum over samples (Cox, a Gaussian process), also set ``additive = False``; it is
    then always called with all samples.

    Either method receives the sample metadata that it names after ``prediction``: ``fit(X, y, event=event)`` passes
    it to ``formula(y, prediction, event)``.

    Attributes
    ----------
    name : str
        Name of the loss, as in ``loss="huber"``.
    link : {"identity", "log", "logit"}
        Scale of the prediction. ``inverse_link(prediction)`` is on the scale of y.
    domain : Interval or None
        Allowed values of ``y``. None for a loss without ``y``.
    additive : bool
        Whether the loss of a batch is the sum over its samples.
    has_d2 : bool
        Whether regressors are scored by D², the fraction of the loss explained by their predictions, rather than
        by minus the mean loss. By default True if the loss has a ``formula`` of y and prediction alone and one of
        the three links. Set it to False if the loss is not smallest when the prediction equals y.

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
        """Compute the elementwise value and derivative.

        Parameters
        ----------
        y : ndarray
            True values.
        prediction : ndarray of the same shape and dtype
            Predictions, on the scale of the link.
        *args, **metadata : array-like of shape (n,) or (n, k)
            Sample metadata. A subclass names the metadata that it uses.

        Returns
        -------
        values : ndarray of the same shape
            The loss of each entry.
        derivative : ndarray of the same shape
            Its derivative with respect to the prediction.
        """
        raise NotImplementedError(f"{type(self).__name__} must define formula(y, prediction) -> (values, derivative).")

    def value_and_derivative(
        self, y: ArrayLike | None, prediction: ArrayLike, *args: Any, **metadata: Any
    ) -> tuple[Array, Array]:
        """Compute the value for each sample and its derivative with respect to the prediction.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k)
            True values, in the domain of the loss.
        prediction : array-like of the same shape
            Predictions, on the scale of the link. The results have their floating type.
        *args, **metadata : array-like of shape (n,) or (n, k)
            Sample metadata, for a `formula` that names it.

        Returns
        -------
        values : ndarray of shape (n,)
            Loss of each sample, summed over its k outputs. Infinite if it overflows.
        derivative : ndarray of the prediction's shape
            Derivative of each sample's loss with respect to its predictions, as a new array.

        Raises
        ------
        ValueError
            If the shapes differ. Arrays are not broadcast.
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
        """Compute the value for each sample.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k)
            True values.
        prediction : array-like of the same shape
            Predictions, on the scale of the link.
        *args, **metadata : array-like of shape (n,) or (n, k)
            Sample metadata, for a loss that names it.

        Returns
        -------
        values : ndarray of shape (n,)
            Loss of each sample.
        """
        return self.value_and_derivative(y, prediction, *args, **metadata)[0]

    def derivative(self, y: ArrayLike | None, prediction: ArrayLike, *args: Any, **metadata: Any) -> Array:
        """Compute the derivative of each sample's loss with respect to the prediction.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k)
            True values.
        prediction : array-like of the same shape
            Predictions, on the scale of the link.
        *args, **metadata : array-like of shape (n,) or (n, k)
            Sample metadata, for a loss that names it.

        Returns
        -------
        derivative : ndarray of the prediction's shape
            One value per prediction.
        """
        return self.value_and_derivative(y, prediction, *args, **metadata)[1]

    def inverse_link(self, prediction: ArrayLike) -> Array:
        """Map predictions to the scale of y.

        Parameters
        ----------
        prediction : array-like
            Predictions, on the scale of the link.

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
        """Whether predictions are on the scale of `link`, so that a mean of y can be expressed on it."""
        return type(self).inverse_link is Loss.inverse_link and self.domain is not None

    @property
    def has_d2(self) -> bool:
        """Whether regressors are scored by D²."""
        if not self.additive or type(self).formula is Loss.formula or not self.has_link:
            return False
        return len(inspect.signature(self.formula).parameters) == 2

    def best_constant(self, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the constant prediction with the smallest mean loss.

        D² compares predictions with it. It is computed numerically; override it if a closed form is known.

        Parameters
        ----------
        y : array-like of shape (n,)
            True values.
        sample_weight : array-like of shape (n,), default=None
            Sample weights.

        Returns
        -------
        constant : float
            On the scale of the link.

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
        """Raise an error if a hyperparameter, the link or the domain is invalid."""
        super().check()
        name = type(self).__name__
        if type(self).inverse_link is Loss.inverse_link and self.link not in _LINKS:
            raise ValueError(
                f"{name}: link must be one of {', '.join(map(repr, _LINKS))}, or the class must define inverse_link; "
                f"got {self.link!r}."
            )
        if self.domain is not None and not isinstance(self.domain, Interval):
            raise TypeError(
                f"{name}: domain must be an Interval or None; got {self.domain!r}. For counts, use Interval(0, np.inf) "
                "from sk_analytic.validation import Interval."
            )

    def check_domain(self, y: ArrayLike) -> None:
        """Raise an error if ``y`` has an entry outside the domain of the loss.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, k), or None
            True values.

        Raises
        ------
        ValueError
            If an entry is outside. The message names the loss, the first such entry, the domain, and losses that
            accept all of ``y``.
        """
        if self.domain is None:
            return
        y = np.asarray(y)
        outside = ~self.domain.holds(y)
        if outside.any():
            row = tuple(np.argwhere(outside)[0].tolist())
            raise ValueError(
                f"{self._title()}: y[{', '.join(map(str, row))}] is {y[row]}, outside the loss's domain {self.domain}. "
                f"Correct the sample{_alternatives(y)}."
            )

    def _title(self) -> str:
        return self.name or type(self).__name__


def link_of_mean(loss: Loss, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Return the best constant for the deviances of exponential families."""
    return float(linked(loss.link, _mean(np.asarray(y, dtype=np.float64), sample_weight)))


class SquaredError(Loss):
    r"""Half the squared error.

    :math:`\frac12 (f - y)^2`. The link is the identity, y any real number, and no constant is dropped. Equal to the
    loss of :class:`~sklearn.linear_model.LinearRegression` and :class:`~sklearn.linear_model.Ridge`, up to scaling.

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
    r"""Absolute error, which is minimized by the median.

    :math:`|f - y|`. The link is the identity, y any real number, and no constant is dropped. The derivative at the
    kink is 0. Twice the loss of :class:`~sklearn.linear_model.QuantileRegressor` at its default quantile.

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

    :math:`\frac12 r^2` if :math:`|r| \le \varepsilon`, otherwise :math:`\varepsilon |r| - \frac12
    \varepsilon^2`, where :math:`r = f - y`. The link is the identity, y any real number, and no constant is dropped.
    Half the loss of :class:`~sklearn.linear_model.HuberRegressor` with sigma = 1. There, ``epsilon`` is in units of
    the estimated sigma; here, in units of y.

    Parameters
    ----------
    epsilon : float, default=1.35
        Residual at which the loss becomes linear, in units of y. Must be greater than 0.

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
    r"""Pinball loss, which is minimized by a quantile.

    :math:`q\,(y - f)` if :math:`y \ge f`, otherwise :math:`(1 - q)(f - y)`. The link is the identity, y any real
    number, and no constant is dropped. The derivative at the kink is 0. Equal to the loss of
    :class:`~sklearn.linear_model.QuantileRegressor`.

    Parameters
    ----------
    quantile : float, default=0.5
        Quantile to predict, between 0 and 1.

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
    r"""Half the Tweedie deviance, for variances that grow as a power of the mean.

    For the mean :math:`\mu`, :math:`s = \log \mu` and a power p other than 1 and 2, it is

    .. math:: \frac{e^{(2-p)s}}{2-p} - y\,\frac{e^{(1-p)s}}{1-p},

    with the limits :math:`e^s - y s` at 1 (Poisson) and :math:`s + y e^{-s}` at 2 (gamma). The dropped
    constant is the same expression at :math:`\mu = y`, with the opposite sign. The domain of y is all real
    numbers for p up to 0, :math:`y \ge 0` for :math:`1 \le p < 2`, and :math:`y > 0` from 2 on. Equal to the loss of
    :class:`~sklearn.linear_model.TweedieRegressor`.

    Parameters
    ----------
    power : float, default=1.5
        Power of the mean to which the variance is proportional: 0 normal, 1 Poisson, between 1 and 2
        compound Poisson-gamma, 2 gamma, 3 inverse Gaussian. No distribution exists between 0 and 1.
    link : {"log", "identity"}, default="log"
        Whether ``forward`` returns the logarithm of the mean or the mean. The mean must be positive, except for
        power 0. If it is below 0, the loss is NaN.

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
        """Allowed values of ``y``, which depend on the power."""
        if self.power <= 0:
            return REALS
        return Interval(0, np.inf, closed="left" if self.power < 2 else "neither")

    def check(self) -> None:
        """Raise a ValueError that names the first hyperparameter outside its range."""
        super().check()
        if 0 < self.power < 1:
            raise ValueError(
                f"{type(self).__name__}: power must not lie between 0 and 1, for which no Tweedie distribution exists; "
                f"got {self.power!r}. Use 0 for the normal or 1 for the Poisson distribution."
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

        If both exponentials overflow, only the factor does, which avoids inf - inf.
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
        """Return a power of the mean, as the float 1.0 if the exponent is 0."""
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
    r"""Poisson loss: `Tweedie` with power 1.

    :math:`e^f - y f` with the log link, :math:`f - y \log f` with the identity link, for :math:`y \ge 0`. The
    constant :math:`\log y!` is dropped. Equal to the loss of :class:`~sklearn.linear_model.PoissonRegressor`.

    Parameters
    ----------
    link : {"log", "identity"}, default="log"
        Whether ``forward`` returns the logarithm of the mean or the mean, which must not be negative.

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
    r"""Half the gamma deviance: `Tweedie` with power 2.

    :math:`f + y e^{-f}` with the log link, :math:`\log f + y / f` with the identity link, for :math:`y > 0`. The
    constant :math:`-\log y - 1` is dropped. Equal to the loss of :class:`~sklearn.linear_model.GammaRegressor`.

    Parameters
    ----------
    link : {"log", "identity"}, default="log"
        Whether ``forward`` returns the logarithm of the mean or the mean, which must be positive.

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
    r"""Log loss from raw scores: binary, multinomial or multilabel, depending on the shapes.

    ======== ========== ============================================================================
    y        prediction value for a sample
    ======== ========== ============================================================================
    (n,)     (n,)       binary: :math:`\log(1 + e^f) - y f`
    (n,)     (n, K)     multinomial, K of 2 or more: :math:`\log \sum_k e^{f_k} - f_y`, for a class
                        index y
    (n, K)   (n, K)     multilabel: the sum of the binary values of all labels
    ======== ========== ============================================================================

    The link is the logit (softmax for the multinomial form). y holds class indices from 0, or numbers in [0, 1], such
    as labels 0 and 1 or proportions. No constant is dropped. Equal to the loss of
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
        """Compute the value for each sample and its derivative with respect to the scores.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, K)
            Class indices, or a number in [0, 1] for each score.
        prediction : array-like of shape (n,) or (n, K)
            Raw scores. The results have their floating type.

        Returns
        -------
        values : ndarray of shape (n,)
            Loss of each sample.
        derivative : ndarray of the prediction's shape
            Derivative of each sample's loss with respect to its scores.

        Raises
        ------
        ValueError
            If the shapes match none of the three forms.
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
        """Raise an error if ``y`` holds neither class indices nor numbers in [0, 1].

        Parameters
        ----------
        y : array-like of shape (n,) or (n, K)
            Integers of shape (n,) are class indices.

        Raises
        ------
        ValueError
            If an entry is neither. The message names the first such entry.
        """
        y = np.asarray(y)
        is_index = y.ndim == 1 and y.dtype.kind in "iu"
        super().check_domain(np.minimum(y, 1) if is_index else y)

    @staticmethod
    def probabilities(prediction: ArrayLike) -> Array:
        """Convert the raw scores of a binary or multinomial model into class probabilities.

        For a multilabel model, use `inverse_link`.

        Parameters
        ----------
        prediction : array-like of shape (n,), (n, 1) or (n, K)
            Raw scores. A single column scores the second of two classes.

        Returns
        -------
        probabilities : ndarray of shape (n, 2) or (n, K)
            Probabilities in the prediction's floating type, computed in float64. Each row sums to 1 up to rounding.

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
    """Negative log-density of each sample, for density models.

    ``-f`` in nats for the log-density ``f``. There is no ``y`` and no link, and no constant is dropped. Equal to minus
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
        """Compute the value for each sample and its derivative with respect to the log-density.

        Parameters
        ----------
        y : None
            Ignored.
        prediction : array-like of shape (n,)
            Log-density of each sample.

        Returns
        -------
        values : ndarray of shape (n,)
            Loss of each sample; infinite if the density is 0.
        derivative : ndarray of the prediction's shape
            Filled with -1.
        """
        prediction = _as_floating(prediction)
        if isinstance(prediction, Elsewhere):
            return _row_sums(-prediction), np.full_like(prediction, -1)
        return _row_sums(-prediction), np.full(prediction.shape, -1, prediction.dtype)


class D2:
    """D², the fraction of a loss explained by predictions, averaged over outputs.

    ``1 - (L(prediction) - L(y)) / (L(constant) - L(y))``, where L is the mean loss and ``constant`` is the best
    constant prediction. For the squared error, D² equals R². For the others, it equals the score of scikit-learn's GLMs
    and its metrics ``d2_tweedie_score``, ``d2_absolute_error_score`` and ``d2_pinball_score``. If y is constant, D²
    is 1 for perfect predictions and 0 otherwise, as in `r2_score`.

    Parameters
    ----------
    loss : Loss
        A loss for which ``has_d2`` is True.
    y : ndarray of shape (n,) or (n, k)
    sample_weight : ndarray of shape (n,), default=None
        Samples with weight 0 are left out.
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
        """Return D² of predictions on the link's scale, of the same shape as y; NaN if one is not finite."""
        if not np.isfinite(prediction[self._counts]).all():
            return math.nan
        if len(self._y) < 2:
            warnings.warn(
                "D² is not defined for fewer than two samples with a non-zero weight.",
                UndefinedMetricWarning,
                stacklevel=3,
            )
            return math.nan
        left = self._excess(self._values(prediction[self._counts].astype(np.float64).reshape(self._y.shape)))
        self._require_least(left, "a prediction")
        with np.errstate(all="ignore"):
            explained = np.where(self._unexplained > 0, 1 - left / self._unexplained, left == 0)
        explained[~np.isfinite(self._unexplained)] = math.nan
        return float(explained.mean())

    def _require_least(self, excess: Array, what: str) -> None:
        """Raise if predictions have a smaller loss than y itself, by more than rounding."""
        if (excess < -1e-9 * self._size).any():
            raise ValueError(
                f"{type(self.loss).__name__} is smaller for {what} than for predictions equal to y, so D² is not "
                "defined. Set has_d2 = False in the class; the score is then minus the mean loss."
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
"""Names of losses in other libraries, mapped to the names here; for messages."""


def get_loss(loss: object) -> Loss:
    """Return a loss by its name.

    Parameters
    ----------
    loss : str or Loss
        One of `get_loss_names`, or a loss, which is returned unchanged.

    Returns
    -------
    loss : Loss
        With default hyperparameters if a name was given.

    Raises
    ------
    ValueError
        If the name is unknown. The message suggests the nearest one.
    TypeError
        For any other object.

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
        Names that `get_loss` and the ``loss`` of an estimator accept.

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
"""Size from which a prediction is processed in parts, and of each part, so that intermediates stay in the cache."""


def _row_by_row(
    formula: Callable[[Array, Array], tuple[Array, Array]], y: Array, prediction: Array, at_once: bool = False
) -> tuple[Array, Array]:
    """Value and derivative for each sample; many samples are processed in parts, unless they depend on each other."""
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
    """Return words that name the losses whose domain contains all of y, if there are any."""
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
    """Transform numbers from the scale of y to that of a link, and make infinite values finite."""
    with np.errstate(all="ignore"):
        transformed: Array = np.clip(_LINKS[link](y), np.finfo(np.float64).min, np.finfo(np.float64).max)
    return transformed


def linked_mean(link: str, mean: Array, n_samples: int) -> Array:
    """Return the mean of y on the scale of a link, at which scikit-learn's generalized linear models start.

    A mean on the edge of the link's domain, as for an absent class, counts as half a sample.
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
