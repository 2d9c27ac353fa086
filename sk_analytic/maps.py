"""Maps that keep a parameter within a constraint, for ``reparametrize``.

Your functions, ``params_``, penalties and files use the constrained parameter x. The optimizer trains an unconstrained
array z, with ``x = constrain(z)``. A map consists of this function, its inverse, and the pullback of a gradient, which
applies the chain rule.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.linalg import helmert
from scipy.special import expit

from .hyperparameters import Hyperparameters, lookup
from .typing import Array


class Map(Hyperparameters):
    """Base class of maps. To define a map, subclass it and implement three methods.

    A map is smooth and invertible: ``unconstrain(constrain(z))`` is z. Settings, such as the limits of `Logit`, are
    arguments of ``__init__``. Before a fit, the ``pullback`` of a user-defined map is checked against finite
    differences of ``constrain``.

    Attributes
    ----------
    name : str
        The name for ``reparametrize={"sigma": "log"}``.

    See Also
    --------
    ElementwiseMap : Base class of maps that work entry by entry.

    Examples
    --------
    The numbers on a circle around zero, by their angle:

    >>> import numpy as np
    >>> from sk_analytic.maps import Map
    >>> class Circle(Map):
    ...     def constrain(self, z):
    ...         return np.array([np.cos(z), np.sin(z)])
    ...     def unconstrain(self, x):
    ...         return np.arctan2(x[1], x[0])
    ...     def pullback(self, z, gradient):
    ...         return np.cos(z) * gradient[1] - np.sin(z) * gradient[0]
    >>> Circle().constrain(Circle().unconstrain(np.array([0.0, 1.0]))).round(12)
    array([0., 1.])
    """

    name = ""

    def constrain(self, z: Array) -> Array:
        """Return the parameters x at z.

        Parameters
        ----------
        z : ndarray
            Unconstrained values; do not modify them.

        Returns
        -------
        x : ndarray
            Same shape as the parameter.
        """
        raise NotImplementedError(f"{type(self).__name__} needs the method constrain(z).")

    def unconstrain(self, x: Array) -> Array:
        """Return z at the parameters x.

        Parameters
        ----------
        x : ndarray
            Same shape as the parameter.

        Returns
        -------
        z : ndarray
            Unconstrained values. Their shape must depend only on that of ``x``.

        Raises
        ------
        ValueError
            If x violates the constraint. The message says what x must be, such as "must be positive".
        """
        raise NotImplementedError(f"{type(self).__name__} needs the method unconstrain(x).")

    def pullback(self, z: Array, gradient: Array) -> Array:
        """Return the gradient with respect to z, given that with respect to ``x = constrain(z)``.

        Parameters
        ----------
        z : ndarray
            Point at which to evaluate.
        gradient : ndarray
            Gradient with respect to x, of the shape of the parameter. Do not modify it.

        Returns
        -------
        gradient : ndarray
            Gradient with respect to z, of the shape of ``z``.
        """
        raise NotImplementedError(f"{type(self).__name__} needs the method pullback(z, gradient).")

    def tangent(self, direction: Array) -> Array:
        """Return the nearest direction in which x can move. It is the same at every x.

        Parameters
        ----------
        direction : ndarray
            Same shape as the parameter.

        Returns
        -------
        direction : ndarray
            The direction itself, unless x has fewer degrees of freedom than entries; in the simplex, directions sum to
            zero.
        """
        return direction

    def pull_rows(self, z: Array, rows: Array) -> Array:
        """Return the pullbacks of several gradients.

        Parameters
        ----------
        z : ndarray
            Point at which to evaluate.
        rows : ndarray of shape (n, x.size)
            Gradients with respect to x, flattened.

        Returns
        -------
        rows : ndarray of shape (n, z.size)
            Gradients with respect to z, flattened.
        """
        shape = np.shape(self.constrain(z))
        units = np.eye(rows.shape[1])
        pulled: Array = rows @ np.array([np.ravel(self.pullback(z, unit.reshape(shape))) for unit in units])
        return pulled


class ElementwiseMap(Map):
    """Base class of elementwise, increasing maps, which define a derivative instead of a pullback.

    Attributes
    ----------
    domain : tuple of float
        Lower and upper limit of x, which x does not reach. ``bounds`` within these limits may be used with the map.
    """

    @property
    def domain(self) -> tuple[Any, Any]:
        """The limits of x."""
        return -np.inf, np.inf

    def derivative(self, z: Array) -> Array:
        """Return the derivative of each entry of x with respect to that of z.

        Parameters
        ----------
        z : ndarray
            Point at which to evaluate.

        Returns
        -------
        derivative : ndarray
            Same shape as ``z``.
        """
        raise NotImplementedError(f"{type(self).__name__} needs the method derivative(z).")

    def pullback(self, z: Array, gradient: Array) -> Array:
        """Return the gradient with respect to z, given that with respect to x.

        Parameters
        ----------
        z : ndarray
            Point at which to evaluate.
        gradient : ndarray
            Gradient with respect to x.

        Returns
        -------
        gradient : ndarray
            Its product with the derivative.
        """
        return gradient * self.derivative(z)

    def pull_rows(self, z: Array, rows: Array) -> Array:
        """Return the pullbacks of several gradients.

        Parameters
        ----------
        z : ndarray
            Point at which to evaluate.
        rows : ndarray of shape (n, x.size)
            Gradients with respect to x, flattened.

        Returns
        -------
        rows : ndarray of shape (n, z.size)
            Gradients with respect to z, flattened.
        """
        pulled: Array = rows * np.ravel(self.derivative(z))
        return pulled


class Log(ElementwiseMap):
    """Logarithm, for positive numbers such as scales, rates and variances.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.maps import Log
    >>> Log().unconstrain(np.array([1.0, 10.0])).round(3)
    array([0.   , 2.303])
    """

    name = "log"

    @property
    def domain(self) -> tuple[Any, Any]:
        """The limits of x."""
        return 0.0, np.inf

    def constrain(self, z: Array) -> Array:
        """Return the exponential."""
        x: Array = np.exp(z)
        return x

    def unconstrain(self, x: Array) -> Array:
        """Return the logarithm."""
        if not np.all(x > 0):
            raise ValueError("must be positive")
        z: Array = np.log(x)
        return z

    derivative = constrain


class Logit(ElementwiseMap):
    """Log-odds, for numbers between two limits, by default 0 and 1.

    Parameters
    ----------
    low : float or ndarray, default=0.0
        Lower limit, one number for all entries or an array.
    high : float or ndarray, default=1.0
        Upper limit, one number for all entries or an array.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.maps import Logit
    >>> Logit(-1.0, 1.0).constrain(np.array([-100.0, 0.0, 100.0]))
    array([-1.,  0.,  1.])
    """

    name = "logit"

    def __init__(self, low: float | Array = 0.0, high: float | Array = 1.0) -> None:
        self.low = low
        self.high = high

    def check(self) -> None:
        """Raise an error if a limit is not a number, or low is not less than high."""
        limits = np.asarray(self.low, dtype=float), np.asarray(self.high, dtype=float)
        if any(isinstance(limit, list | tuple) for limit in (self.low, self.high)):
            raise TypeError(f"Logit: low and high must be numbers or arrays; got {self.low!r} and {self.high!r}.")
        if not (all(np.isfinite(limit).all() for limit in limits) and np.all(limits[0] < limits[1])):
            raise ValueError(f"Logit: low must be less than high, both finite; got {self.low!r} and {self.high!r}.")

    @property
    def domain(self) -> tuple[Any, Any]:
        """The limits of x."""
        return self.low, self.high

    def constrain(self, z: Array) -> Array:
        """Return the number between the limits."""
        return np.asarray(self.low + (self.high - self.low) * expit(z))

    def unconstrain(self, x: Array) -> Array:
        """Return the logarithm of the odds."""
        if not (np.all(x > self.low) and np.all(x < self.high)):
            raise ValueError(f"must lie between {self.low} and {self.high}, and not on either")
        return np.asarray(np.log(x - self.low) - np.log(self.high - x))  # finite, however near a limit

    def derivative(self, z: Array) -> Array:
        """Return the derivative, which vanishes towards the limits."""
        return np.asarray((self.high - self.low) * (expit(z) * expit(-z)))


class Simplex(Map):
    r"""Isometric log-ratio, for positive numbers that sum to 1 along the last axis [Egozcue2003]_.

    .. math::

        x = \mathrm{softmax}(V z), \qquad z = V^\top \log x

    where the columns of V are orthonormal and orthogonal to the vector of ones. K proportions have K - 1 coordinates,
    and all proportions are treated alike.

    References
    ----------
    .. [Egozcue2003] J. Egozcue, V. Pawlowsky-Glahn, G. Mateu-Figueras and C. Barceló-Vidal, "Isometric logratio
       transformations for compositional data analysis", Mathematical Geology 35, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.maps import Simplex
    >>> Simplex().constrain(np.zeros(3))
    array([0.25, 0.25, 0.25, 0.25])
    """

    name = "simplex"

    def constrain(self, z: Array) -> Array:
        """Return the proportions."""
        scores = z @ _contrasts(z.shape[-1] + 1, z.dtype)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))  # in a third of the time of scipy.special.softmax
        shares /= shares.sum(axis=-1, keepdims=True)
        return np.asarray(shares)

    def unconstrain(self, x: Array) -> Array:
        """Return the coordinates of proportions."""
        if x.ndim == 0 or x.shape[-1] < 2:
            raise ValueError("must have two entries or more along its last axis")
        if not (np.all(x > 0) and np.allclose(x.sum(axis=-1), 1, rtol=0, atol=np.finfo(x.dtype).eps ** 0.5)):
            raise ValueError("must be positive and sum to 1 along its last axis")
        z: Array = np.log(x) @ _contrasts(x.shape[-1], x.dtype).T
        return z

    def pullback(self, z: Array, gradient: Array) -> Array:
        """Return the gradient with respect to the coordinates."""
        x = self.constrain(z)
        by_scores = x * (gradient - (x * gradient).sum(axis=-1, keepdims=True))
        pulled: Array = by_scores @ _contrasts(x.shape[-1], x.dtype).T
        return pulled

    def tangent(self, direction: Array) -> Array:
        """Return the direction without its mean."""
        return np.asarray(direction - direction.mean(axis=-1, keepdims=True))


class Ordered(Map):
    """First value and log-gaps, for numbers that increase along the last axis, such as cutpoints.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.maps import Ordered
    >>> Ordered().constrain(np.array([-1.0, 0.0, 0.0]))
    array([-1.,  0.,  1.])
    """

    name = "ordered"

    def constrain(self, z: Array) -> Array:
        """Return the increasing numbers."""
        steps = np.exp(z)
        steps[..., 0] = z[..., 0]
        return np.asarray(np.cumsum(steps, axis=-1))

    def unconstrain(self, x: Array) -> Array:
        """Return the first and the logarithms of the differences."""
        if x.ndim == 0:
            raise ValueError("must have an axis along which to increase")
        steps = np.diff(x, axis=-1)
        if not np.all(steps > 0):
            raise ValueError("must increase along its last axis")
        return np.concatenate([x[..., :1], np.log(steps)], axis=-1)

    def pullback(self, z: Array, gradient: Array) -> Array:
        """Return the gradient with respect to the first number and the logarithms of the differences."""
        pulled = np.cumsum(gradient[..., ::-1], axis=-1)[..., ::-1]
        pulled[..., 1:] *= np.exp(z[..., 1:])
        return pulled


class Cholesky(Map):
    """Lower triangular matrices with a positive diagonal, along the last two axes: Cholesky factors of a covariance.

    The coordinates are the entries on and below the diagonal, row by row, with logarithms on the diagonal. Entries
    above the diagonal are zero, and entries of a gradient there are ignored.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.maps import Cholesky
    >>> Cholesky().constrain(np.array([0.0, 2.0, 0.0]))
    array([[1., 0.],
           [2., 1.]])
    """

    name = "cholesky"

    def constrain(self, z: Array) -> Array:
        """Return the matrix."""
        size = int((8 * z.shape[-1] + 1) ** 0.5) // 2
        lower, on_diagonal = _triangle(size)
        entries = z.copy()
        entries[..., on_diagonal] = np.exp(z[..., on_diagonal])
        x = np.zeros((*z.shape[:-1], size * size), z.dtype)
        x[..., lower] = entries
        return x.reshape(*z.shape[:-1], size, size)

    def unconstrain(self, x: Array) -> Array:
        """Return the entries on and below the diagonal, with logarithms on the diagonal."""
        if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
            raise ValueError("must be a square matrix along its last two axes")
        size = x.shape[-1]
        diagonal = np.arange(size)
        if np.triu(x, 1).any() or not np.all(x[..., diagonal, diagonal] > 0):
            raise ValueError("must be zero above the diagonal and positive on it")
        lower, on_diagonal = _triangle(size)
        z: Array = x.reshape(*x.shape[:-2], -1)[..., lower]
        z[..., on_diagonal] = np.log(z[..., on_diagonal])
        return z

    def pullback(self, z: Array, gradient: Array) -> Array:
        """Return the gradient with respect to the coordinates."""
        lower, on_diagonal = _triangle(gradient.shape[-1])
        pulled: Array = gradient.reshape(*gradient.shape[:-2], -1)[..., lower]
        pulled[..., on_diagonal] *= np.exp(z[..., on_diagonal])
        return pulled

    def tangent(self, direction: Array) -> Array:
        """Return the direction without its entries above the diagonal."""
        return np.tril(direction)


@functools.lru_cache(maxsize=32)
def _contrasts(n: int, dtype: Any) -> Array:
    """Orthonormal rows, each orthogonal to the vector of ones: an (n - 1, n) matrix of Helmert."""
    rows: Array = helmert(n).astype(dtype)
    return rows


@functools.lru_cache(maxsize=32)
def _triangle(size: int) -> tuple[Array, Array]:
    """Return the indices of the lower triangle in the flat matrix, and of the diagonal among them."""
    rows, columns = np.tril_indices(size)
    return rows * size + columns, np.flatnonzero(rows == columns)


def get_map(name: object) -> Map:
    """Return a map by its name.

    Parameters
    ----------
    name : str or Map
        "log", "logit", "simplex", "ordered", "cholesky", or a map, which is returned unchanged.

    Returns
    -------
    map : Map
        With default settings if it was given by name.

    Raises
    ------
    ValueError
        If the name is unknown. The message suggests the nearest one.
    TypeError
        For any other object.

    Examples
    --------
    >>> from sk_analytic.maps import get_map
    >>> get_map("log")
    Log()
    """
    return lookup("map", MAPS, name, Map, _ELSEWHERE)


MAPS: Mapping[str, type[Map]] = {cls.name: cls for cls in (Log, Logit, Simplex, Ordered, Cholesky)}

_ELSEWHERE = {
    "exp": "log",
    "positive": "log",
    "softplus": "log",
    "sigmoid": "logit",
    "expit": "logit",
    "probability": "logit",
    "softmax": "simplex",
    "sorted": "ordered",
    "increasing": "ordered",
    "tril": "cholesky",
    "lower_triangular": "cholesky",
    "cholesky_factor": "cholesky",
}

__all__ = ["MAPS", "Map", "ElementwiseMap", "get_map"]
__all__ += [cls.__name__ for cls in MAPS.values()]
