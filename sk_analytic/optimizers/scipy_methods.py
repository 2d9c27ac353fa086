"""Full-batch methods of scipy.optimize, available by name like the other optimizers.

Each class states scipy's name of the method, scipy's options as hyperparameters, and which of them is the tolerance
on the gradient. If scipy has no such option, or does not count iterations, the `Run` that watches the method stops it
from outside.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

import numpy as np
import scipy
import scipy.optimize
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult

from ..hyperparameters import Hyperparameters
from ..typing import Array
from ..validation import Interval
from .scipy_run import ResidualRun, Run

COUNT = Interval(1, np.inf, closed="left", integral=True)
POSITIVE = Interval(0, np.inf, closed="neither")
SHARE = Interval(0, 1, closed="neither")
OF_BARRIERS = 0.03  # of a tolerance
INSIDE = 1e-6  # how far from a bound a method that stays inside begins
SCIPY = tuple(int(part) for part in scipy.__version__.split(".")[:2])
STOPPING = ("ftol", "xtol", "xrtol", "maxfun")  # options by which scipy ends, besides the gradient
WOLFE_SINCE = {"c1": (1, 12), "c2": (1, 12)}

Function: TypeAlias = Callable[[Array], tuple[float, Array]]  # value and gradient


class FullBatch(Hyperparameters):
    """Base class of the full-batch methods. Its hyperparameters are scipy's options.

    Attributes
    ----------
    method : str
        Name of the method in scipy.
    tolerance : str or None
        Option of scipy that is a tolerance on the gradient, set from ``tol``. None if scipy has no such option.
    iterations : str or None
        Option of scipy that limits the iterations, set from ``max_iter``. None if scipy has no such option.
    hessian_products : bool
        Whether the method needs products with the Hessian, computed as central differences of the gradient.
    bounded : bool
        Whether the method supports bounds.
    residuals : bool
        Whether the method needs the residuals and their Jacobian instead of a gradient.
    since : dict of str to tuple
        Options that the oldest supported scipy lacks, with the first version that has them. In older versions,
        only their default, which is scipy's, is allowed.
    """

    method: str
    tolerance: str | None = "gtol"
    iterations: str | None = "maxiter"
    hessian_products = False
    bounded = False
    residuals = False
    since: dict[str, tuple[int, int]] = {}

    def check(self) -> None:
        """Raise a ValueError for the first hyperparameter outside its range or not supported by this scipy."""
        super().check()
        for name in self._too_young():
            value, default = getattr(self, name), self._defaults()[name].default
            if value != default:
                raise ValueError(
                    f"{type(self).__name__}: {name}={value!r} requires scipy {'.'.join(map(str, self.since[name]))} or "
                    f"later; this is {scipy.__version__}, where {name} is {default!r}."
                )

    @classmethod
    def _defaults(cls) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(cls).parameters

    def stopping_options(self) -> dict[str, Any]:
        """Return the options that let scipy stop before the gradient is small, unless they have their defaults.

        Returns
        -------
        options : dict
        """
        defaults = self._defaults()
        chosen = {name: getattr(self, name) for name in STOPPING if name in defaults}
        return {name: value for name, value in chosen.items() if value != defaults[name].default}

    def _too_young(self) -> list[str]:
        return [name for name, version in self.since.items() if version > SCIPY]

    def init(self, theta: object, blocks: object | None = None) -> NoReturn:
        """Raise an error: a full-batch method takes no single steps.

        Parameters
        ----------
        theta : object
            Not used.
        blocks : object, default=None
            Not used.

        Raises
        ------
        TypeError
            Always. The message shows what to call instead.
        """
        raise TypeError(
            f"{type(self).__name__} is a full-batch method and takes no single steps. Call minimize(fun, x0), or use a "
            "rule such as Adam in a loop."
        )

    def minimize(
        self,
        fun: Function,
        x0: Array,
        *,
        max_iter: int = 200,
        tol: float = 1e-4,
        callback: Callable[[OptimizeResult], object] | None = None,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> OptimizeResult:
        """Minimize a function.

        A method that stops before the gradient is small is restarted from its last point as long as that makes
        progress. A trial point with a non-finite value is rejected. If an option such as ``ftol`` is set, the method
        stops by it.

        Parameters
        ----------
        fun : callable
            ``fun(x) -> (value, gradient)``.
        x0 : ndarray of shape (size,)
            Initial guess; not modified.
        max_iter : int, default=200
            Maximum number of iterations.
        tol : float, default=1e-4
            Tolerance on the largest absolute entry of the gradient. ``trust-ncg`` and ``trust-krylov`` continue until
            the Euclidean norm is as small.
        callback : callable, default=None
            Called after each iteration with an OptimizeResult that has ``x``, ``fun`` and ``jac``. Return True to
            stop. Exceptions are propagated, including `StopIteration`, which scipy would treat as a request to stop.
        bounds : tuple (low, high) of array-like, default=None
            Lower and upper limits, scalars or one per entry; -inf and inf for none. ``fun`` is not called outside. For
            an entry on a bound, a gradient that pushes it against the bound counts as zero.

        Returns
        -------
        result : scipy.optimize.OptimizeResult
            Result of scipy, with ``x``, ``fun``, ``jac``, ``success``, ``status``, ``message`` and ``nit``. ``success``
            is True if no entry of the gradient is larger than ``tol`` or than its rounding error. ``rounding``, if
            present, is the largest rounding error. ``held`` marks the entries held by a bound.

        Raises
        ------
        ValueError
            If the method does not support bounds. The message lists the methods that do.
        DivergenceError
            If the start is not finite, the values decrease without bound, or the arithmetic of the method overflows.
        """
        self.check()
        limits = self._limits(bounds, x0)
        return Run(self, fun, callback, tol=tol, max_iter=max_iter, limits=limits).minimize(x0)

    def _limits(self, bounds: Any, x0: Array) -> tuple[Array, Array] | None:
        """Bounds as two vectors."""
        if bounds is None:
            return None
        self.require_bounded()
        low, high = (np.broadcast_to(np.asarray(limit, dtype=np.float64), np.shape(x0)) for limit in bounds)
        if not (low <= high).all():
            raise ValueError(f"bounds must have low <= high in each entry; got {low} and {high}.")
        return low, high

    def require_bounded(self) -> None:
        """Raise if the method does not support bounds.

        Raises
        ------
        ValueError
            With the names of the methods that do.
        """
        if not self.bounded:
            raise ValueError(
                f"{type(self).__name__} does not support bounds. These do: 'lbfgs', 'tnc', 'slsqp', 'trust-constr', "
                "for squared errors with a Jacobian 'trf' and 'dogbox', and all minibatch rules. Alternatively, "
                "reparametrize the parameter: reparametrize={'name': 'log'}."
            )

    def _solve(self, run: Run, x0: Array, max_iter: int) -> OptimizeResult:
        """Call scipy."""
        limits = {self.iterations: max_iter, self.tolerance: self._tolerance_of(run)}
        options = self.options() | {name: value for name, value in limits.items() if name is not None}
        products = {"hessp": run.hessian_product} if self.hessian_products else {}
        return scipy.optimize.minimize(
            run.value_and_gradient,
            x0,
            jac=True,
            method=self.method,
            callback=run.iterated,
            options=options,
            **products,
            **self._bounds(run),
        )

    def _tolerance_of(self, run: Run) -> float:
        """The tolerance on the gradient that scipy is told."""
        return run.tol * run.scale

    def _bounds(self, run: Run) -> dict[str, Any]:
        """Bounds as scipy takes them, if there are any."""
        if run.limits is None:
            return {}
        return {"bounds": scipy.optimize.Bounds(*run.limits, keep_feasible=True)}

    def options(self) -> dict[str, Any]:
        """Return scipy's options, without those that are None or unknown to an old scipy.

        Returns
        -------
        options : dict
        """
        too_young = self._too_young()
        values = self.get_params(deep=False).items()
        return {name: value for name, value in values if value is not None and name not in too_young}


class LBFGS(FullBatch):
    """Limited-memory quasi-Newton method [Byrd1995]_: scipy's L-BFGS-B. Supports bounds.

    It stops when no entry of the gradient is larger than ``tol``. scipy's other two stopping criteria are disabled
    by default, because ``ftol`` (2.2e-9 in scipy) and ``maxfun`` would stop it long before a small ``tol`` is
    reached.

    Parameters
    ----------
    maxcor : int, default=10
        Number of past steps that approximate the Hessian.
    ftol : float, default=0.0
        Stop if the relative decrease of the objective is not larger than this.
    maxfun : int, default=None
        Maximum number of evaluations. By default, ``max_iter`` is the only limit.
    maxls : int, default=20
        Maximum number of evaluations in one line search.

    References
    ----------
    .. [Byrd1995] R. Byrd, P. Lu, J. Nocedal and C. Zhu, "A limited memory algorithm for bound constrained
       optimization", SIAM Journal on Scientific Computing 16, 1995.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import LBFGS
    >>> result = LBFGS().minimize(lambda x: (0.5 * x @ x, x), np.ones(3), tol=1e-8)
    >>> result.x
    array([0., 0., 0.])
    """

    method = "L-BFGS-B"
    bounded = True
    ranges = {"maxcor": COUNT, "ftol": Interval(0, np.inf), "maxls": COUNT}

    def __init__(
        self,
        maxcor: int = 10,
        ftol: float = 0.0,
        maxfun: int | None = None,
        maxls: int = 20,
    ) -> None:
        self.maxcor = maxcor
        self.ftol = ftol
        self.maxfun = maxfun
        self.maxls = maxls

    def options(self) -> dict[str, Any]:
        """Return scipy's options."""
        return super().options() | {"maxfun": np.inf if self.maxfun is None else self.maxfun}


class BFGS(FullBatch):
    """Quasi-Newton method with a dense Hessian approximation [Nocedal2006]_, section 6.1.

    Suitable for up to a few hundred parameters.

    Parameters
    ----------
    xrtol : float, default=0.0
        Stop if the relative step is not larger than this.
    c1 : float, default=1e-4
        Parameter of the Armijo condition in the line search. Other values require scipy 1.12.
    c2 : float, default=0.9
        Parameter of the curvature condition in the line search. Other values require scipy 1.12.

    References
    ----------
    .. [Nocedal2006] J. Nocedal and S. Wright, "Numerical optimization", second edition, Springer 2006.
    """

    method = "BFGS"
    ranges = {"xrtol": Interval(0, np.inf), "c1": SHARE, "c2": SHARE}
    since = WOLFE_SINCE

    def __init__(self, xrtol: float = 0.0, c1: float = 1e-4, c2: float = 0.9) -> None:
        self.xrtol = xrtol
        self.c1 = c1
        self.c2 = c2


class CG(FullBatch):
    """Nonlinear conjugate gradients of Polak and Ribière [Nocedal2006]_, section 5.2; stores a few vectors only.

    Parameters
    ----------
    c1 : float, default=1e-4
        Parameter of the Armijo condition in the line search. Other values require scipy 1.12.
    c2 : float, default=0.4
        Parameter of the curvature condition in the line search. Other values require scipy 1.12.

    References
    ----------
    .. [Nocedal2006] J. Nocedal and S. Wright, "Numerical optimization", second edition, Springer 2006.
    """

    method = "CG"
    ranges = {"c1": SHARE, "c2": SHARE}
    since = WOLFE_SINCE

    def __init__(self, c1: float = 1e-4, c2: float = 0.4) -> None:
        self.c1 = c1
        self.c2 = c2


class NewtonCG(FullBatch):
    """Newton's method with conjugate gradients for the linear system [Nocedal2006]_, section 7.1.

    Products with the Hessian are central differences of the analytic gradient: two evaluations each.

    Parameters
    ----------
    xtol : float, default=1e-10
        Stop if the average step is not larger than this. scipy's 1e-5 would stop before a small ``tol`` is reached.
    c1 : float, default=1e-4
        Parameter of the Armijo condition in the line search. Other values require scipy 1.12.
    c2 : float, default=0.9
        Parameter of the curvature condition in the line search. Other values require scipy 1.12.

    References
    ----------
    .. [Nocedal2006] J. Nocedal and S. Wright, "Numerical optimization", second edition, Springer 2006.
    """

    name = "newton-cg"
    method = "Newton-CG"
    tolerance = None
    hessian_products = True
    ranges = {"xtol": Interval(0, np.inf), "c1": SHARE, "c2": SHARE}
    since = WOLFE_SINCE

    def __init__(self, xtol: float = 1e-10, c1: float = 1e-4, c2: float = 0.9) -> None:
        self.xtol = xtol
        self.c1 = c1
        self.c2 = c2


class TNC(FullBatch):
    """Truncated Newton method [Nash1984]_. Supports bounds.

    Parameters
    ----------
    eta : float, default=0.25
        Severity of the line search.
    stepmx : float, default=0
        Maximum step of the line search. With 0, the method chooses it; it may grow during the call.
    ftol : float, default=0.0
        Stop if the decrease of the objective is not larger than this.
    xtol : float, default=0.0
        Stop if the step is not larger than this.

    References
    ----------
    .. [Nash1984] S. Nash, "Newton-type minimization via the Lanczos method", SIAM Journal on Numerical
       Analysis 21, 1984.
    """

    method = "TNC"
    bounded = True
    iterations = None
    tolerance = None  # scipy's gtol is one on a rescaled gradient
    ranges = {"eta": SHARE, "stepmx": Interval(0, np.inf), "ftol": Interval(0, np.inf), "xtol": Interval(0, np.inf)}

    def __init__(self, eta: float = 0.25, stepmx: float = 0, ftol: float = 0.0, xtol: float = 0.0) -> None:
        self.eta = eta
        self.stepmx = stepmx
        self.ftol = ftol
        self.xtol = xtol

    def options(self) -> dict[str, Any]:
        """Return scipy's options, without a limit on the number of evaluations."""
        return super().options() | {"maxfun": 2**31 - 1, "gtol": 0.0}

    def _solve(self, run: Run, x0: Array, max_iter: int) -> OptimizeResult:
        """Call scipy with entries scaled by their size; its default is the width of the bounds.

        Entries with low = high are an exception: scipy removes them, but would not remove their scales.
        """
        if run.limits is None or np.equal(*run.limits).any():
            return super()._solve(run, x0, max_iter)
        options = self.options() | {"scale": 1 + np.abs(x0), "offset": x0.copy()}
        bounds = self._bounds(run)
        return scipy.optimize.minimize(
            run.value_and_gradient, x0, jac=True, method=self.method, callback=run.iterated, options=options, **bounds
        )


class SLSQP(FullBatch):
    """Sequential least squares programming [Kraft1988]_, for up to a few hundred parameters. Supports bounds.

    Parameters
    ----------
    ftol : float, default=1e-30
        Stop if the decrease of the objective is not larger than this. scipy's 1e-6 would stop before a small
        ``tol`` is reached.

    References
    ----------
    .. [Kraft1988] D. Kraft, "A software package for sequential quadratic programming", DFVLR-FB 88-28, 1988.
    """

    method = "SLSQP"
    bounded = True
    tolerance = None
    iterations = None  # some versions end before the derivative at the last iterate
    ranges = {"ftol": POSITIVE}

    def __init__(self, ftol: float = 1e-30) -> None:
        self.ftol = ftol

    def _solve(self, run: Run, x0: Array, max_iter: int) -> OptimizeResult:
        """Call scipy. Its callback reports trial points, but it asks for the derivative only at iterates."""
        options = self.options() | {"maxiter": max_iter + 1}
        bounds = self._bounds(run)
        return scipy.optimize.minimize(run.value, x0, jac=run.derivative, method=self.method, options=options, **bounds)


class _TrustRegion(FullBatch):
    """Newton steps inside a region in which the quadratic model is trusted."""

    hessian_products = True
    ranges = {"initial_trust_radius": POSITIVE, "max_trust_radius": POSITIVE, "eta": Interval(0, 0.25, closed="left")}

    def __init__(self, initial_trust_radius: float = 1.0, max_trust_radius: float = 1000.0, eta: float = 0.15) -> None:
        self.initial_trust_radius = initial_trust_radius
        self.max_trust_radius = max_trust_radius
        self.eta = eta


class TrustNCG(_TrustRegion):
    """Trust-region Newton method with conjugate gradients for the subproblem [Nocedal2006]_, section 7.1.

    Products with the Hessian are central differences of the analytic gradient: two evaluations each.

    Parameters
    ----------
    initial_trust_radius : float, default=1.0
        Initial trust radius, which limits the first step.
    max_trust_radius : float, default=1000.0
        Maximum trust radius, which limits every step.
    eta : float, default=0.15
        Fraction of the predicted decrease that a step must achieve to be accepted.

    References
    ----------
    .. [Nocedal2006] J. Nocedal and S. Wright, "Numerical optimization", second edition, Springer 2006.
    """

    name = "trust-ncg"
    method = "trust-ncg"


class TrustKrylov(FullBatch):
    """Trust-region Newton method with an accurate Krylov subproblem solver [Lenders2018]_.

    Products with the Hessian are central differences of the analytic gradient: two evaluations each.

    Parameters
    ----------
    inexact : bool, default=False
        Whether to solve the subproblem less accurately, with fewer Hessian products but more iterations.

    References
    ----------
    .. [Lenders2018] F. Lenders, C. Kirches and A. Potschka, "trlib: a vector-free implementation of the GLTR
       method for iterative solution of the trust region problem", Optimization Methods and Software 33, 2018.
    """

    name = "trust-krylov"
    method = "trust-krylov"
    hessian_products = True
    ranges = {"inexact": bool}

    def __init__(self, inexact: bool = False) -> None:
        self.inexact = inexact


class TrustConstr(FullBatch):
    """Trust-region method with a quasi-Newton Hessian [Conn2000]_, for up to a few hundred parameters. Supports bounds.

    Bounds are approached from inside by barriers [Byrd1999]_. Entries that end next to a bound are set to it.

    Parameters
    ----------
    xtol : float, default=1e-12
        Stop if the trust radius is smaller than this.
    initial_tr_radius : float, default=1.0
        Initial trust radius, which limits the first step.
    barrier_tol : float, default=1e-12
        Stop if the barrier parameter is smaller than this, with bounds only. scipy's 1e-8 would end farther from them.

    References
    ----------
    .. [Conn2000] A. Conn, N. Gould and P. Toint, "Trust-region methods", SIAM 2000.
    .. [Byrd1999] R. Byrd, M. Hribar and J. Nocedal, "An interior point algorithm for large-scale nonlinear
       programming", SIAM Journal on Optimization 9, 1999.
    """

    name = "trust-constr"
    method = "trust-constr"
    bounded = True
    ranges = {"xtol": POSITIVE, "initial_tr_radius": POSITIVE, "barrier_tol": POSITIVE}

    def __init__(self, xtol: float = 1e-12, initial_tr_radius: float = 1.0, barrier_tol: float = 1e-12) -> None:
        self.xtol = xtol
        self.initial_tr_radius = initial_tr_radius
        self.barrier_tol = barrier_tol

    def _solve(self, run: Run, x0: Array, max_iter: int) -> OptimizeResult:
        """Call scipy, from inside the bounds."""
        if run.limits is not None:
            low, high = run.limits
            room = np.minimum(INSIDE, (high - low) / 4)
            x0 = np.clip(x0, low + room, high - room)
        result = super()._solve(run, x0, max_iter)
        if run.limits is not None:
            run.put_on_bounds()
            if run.iterate.distance > run.tol and run.nit < run.max_iter:
                self._solve_along(run, np.asarray(~run.iterate.held), run.max_iter - run.nit)
        return result

    def _solve_along(self, run: Run, free: Array, max_iter: int) -> None:
        """Continue with the entries held by bounds fixed, because the barriers have shifted the others slightly."""
        start = run.iterate.x.copy()

        def whole(x: Array) -> Array:
            start[free] = x
            return start

        def value_and_gradient(x: Array) -> tuple[float, Array]:
            value, gradient = run.value_and_gradient(whole(x))
            return value, gradient[free]

        scipy.optimize.minimize(
            value_and_gradient,
            start[free],
            jac=True,
            method=self.method,
            callback=lambda x, *state: run.iterated(whole(x)),
            options=self.options() | {"maxiter": max_iter, "gtol": run.tol * run.scale},
        )

    def _tolerance_of(self, run: Run) -> float:
        """Tolerance for scipy, tightened if there are bounds, because barriers contribute to the gradient it checks."""
        return super()._tolerance_of(run) * (1.0 if run.limits is None else OF_BARRIERS)


class _LeastSquares(FullBatch):
    """Base class of the methods of scipy.optimize.least_squares, for squared errors and the `jacobian` form."""

    tolerance = iterations = None
    residuals = True
    ranges = {"ftol": POSITIVE, "xtol": POSITIVE}

    def __init__(self, ftol: float = 1e-15, xtol: float = 1e-15) -> None:
        self.ftol = ftol
        self.xtol = xtol

    def minimize(
        self,
        fun: Any,
        x0: Array,
        *,
        max_iter: int = 200,
        tol: float = 1e-4,
        callback: Callable[[OptimizeResult], object] | None = None,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> OptimizeResult:
        """Minimize half the sum of squared residuals.

        Parameters
        ----------
        fun : object
            Object with ``fun.residuals(x)``, the residuals of shape (m,), and ``fun.residual_jacobian(x)``, a tuple of
            the residuals and their Jacobian of shape (m, size). Both may be rotated by the same orthogonal matrix,
            because only inner products matter.
        x0 : ndarray of shape (size,)
            Initial guess; not modified.
        max_iter : int, default=200
            Maximum number of iterations.
        tol : float, default=1e-4
            Tolerance on the relative offset: the norm of the residuals' projection onto the columns of the Jacobian,
            relative to their norm. Gauss-Newton steps then follow as long as they reduce it.
        callback : callable, default=None
            As for the other methods.
        bounds : tuple (low, high) of array-like, default=None
            As for the other methods. The offset is computed from the entries that no bound holds.

        Returns
        -------
        result : scipy.optimize.OptimizeResult
            Result of scipy, with ``fun`` and ``jac`` replaced by half the sum of squares and its gradient, and with the
            ``offset``.
        """
        self.check()
        limits = self._limits(bounds, x0)
        return ResidualRun(self, fun, callback, tol=tol, max_iter=max_iter, limits=limits).minimize(x0)

    def _solve(self, run: Any, x0: Array, max_iter: int) -> OptimizeResult:
        """Call scipy with the smallest tolerances that it allows; the run stops it."""
        return scipy.optimize.least_squares(
            run.residuals,
            x0,
            jac=run.jacobian,
            method=self.method,
            gtol=1e-15,
            max_nfev=10**9,
            **self.options(),
            **self._bounds(run),
        )


class LM(_LeastSquares):
    """Levenberg-Marquardt method as in MINPACK [More1978]_, for least squares with a Jacobian.

    Parameters
    ----------
    ftol : float, default=1e-15
        Stop if the relative decrease is not larger than this. scipy's 1e-8 would stop before a small ``tol`` is
        reached.
    xtol : float, default=1e-15
        Stop if the relative step is not larger than this. scipy's 1e-8 would stop before a small ``tol`` is reached.

    References
    ----------
    .. [More1978] J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Numerical Analysis,
       Lecture Notes in Mathematics 630, Springer 1978.
    """

    method = "lm"

    def _solve(self, run: Any, x0: Array, max_iter: int) -> OptimizeResult:
        """Call scipy, whose `lm` requires at least as many residuals as parameters."""
        n_residuals = len(run.iterate.residuals)
        if n_residuals < x0.size:
            raise ValueError(
                f"LM needs at least as many residuals as free parameters; got {n_residuals} residuals (one for each "
                f"output of a sample and each penalized entry) for {x0.size} parameters. Use 'trf', or hold some "
                "parameters fixed with fixed=."
            )
        return super()._solve(run, x0, max_iter)


class TRF(_LeastSquares):
    """Trust-region reflective method [Branch1999]_, for least squares with a Jacobian. Supports bounds.

    Iterates stay inside the bounds. Entries that end next to a bound are set to it before the Gauss-Newton steps.

    Parameters
    ----------
    ftol : float, default=1e-15
        Stop if the relative decrease is not larger than this. scipy's 1e-8 would stop before a small ``tol`` is
        reached.
    xtol : float, default=1e-15
        Stop if the relative step is not larger than this. scipy's 1e-8 would stop before a small ``tol`` is reached.

    References
    ----------
    .. [Branch1999] M. Branch, T. Coleman and Y. Li, "A subspace, interior, and conjugate gradient method for
       large-scale bound-constrained minimization problems", SIAM Journal on Scientific Computing 21, 1999.
    """

    method = "trf"
    bounded = True


class Dogbox(_LeastSquares):
    """Dogleg method in rectangular trust regions [Voglis2004]_, for least squares with a Jacobian. Supports bounds.

    Parameters
    ----------
    ftol : float, default=1e-15
        Stop if the relative decrease is not larger than this. scipy's 1e-8 would stop before a small ``tol`` is
        reached.
    xtol : float, default=1e-15
        Stop if the relative step is not larger than this. scipy's 1e-8 would stop before a small ``tol`` is reached.

    References
    ----------
    .. [Voglis2004] C. Voglis and I. Lagaris, "A rectangular trust region dogleg approach for unconstrained and
       bound constrained nonlinear optimization", WSEAS International Conference on Applied Mathematics, 2004.
    """

    method = "dogbox"
    bounded = True
