"""Methods of scipy.optimize that take all rows at once, under the names of the other optimizers.

A method is its class: scipy's name for it, scipy's own options as hyperparameters, and which of them is
its tolerance on the gradient. Where scipy has no such option, or does not count iterations, the run is
watched and ended from outside.
"""

import inspect
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import numpy as np
import scipy
import scipy.optimize
from scipy.optimize import OptimizeResult

from ..hyperparameters import Hyperparameters
from ..typing import Array
from ..validation import Interval

COUNT = Interval(1, np.inf, closed="left", integral=True)
POSITIVE = Interval(0, np.inf, closed="neither")
SHARE = Interval(0, 1, closed="neither")
SCIPY = tuple(int(part) for part in scipy.__version__.split(".")[:2])
WOLFE_SINCE = {"c1": (1, 12), "c2": (1, 12)}

ENDED = {
    "gradient": (0, True, "No entry of the gradient is larger than tol."),
    "iterations": (1, False, "Maximum number of iterations has been exceeded."),
    "callback": (99, False, "The callback asked to end."),
}


Function: TypeAlias = Callable[[Array], tuple[float, Array]]  # value and gradient


class FullBatch(Hyperparameters):
    """Base of the full-batch methods: its hyperparameters are scipy's options.

    Attributes
    ----------
    method : str
        scipy's name.
    tolerance : str or None
        The option that is a tolerance on the gradient, for ``tol``; None where scipy has none.
    iterations : str or None
        The option that is the largest number of iterations, for ``max_iter``; None where scipy has none.
    hessian_products : bool
        Whether it needs products with the Hessian: they are central differences of the gradient.
    residuals : bool
        Whether it needs the residuals and their Jacobian instead of a gradient.
    since : dict of str to tuple
        Options that the oldest scipy of all did not have, with the first version that did. Before it their
        defaults, which are scipy's, are the only values.
    """

    method: str
    tolerance: str | None = "gtol"
    iterations: str | None = "maxiter"
    hessian_products = False
    residuals = False
    since: dict[str, tuple[int, int]] = {}

    def check(self) -> None:
        """Raise a ValueError that names the first hyperparameter outside its range, or too young for this scipy."""
        super().check()
        for name in self._too_young():
            value, default = getattr(self, name), inspect.signature(type(self)).parameters[name].default
            if value != default:
                raise ValueError(
                    f"{type(self).__name__}: {name}={value!r} needs scipy {'.'.join(map(str, self.since[name]))} or "
                    f"later; this is {scipy.__version__}, where {name} is {default!r}."
                )

    def _too_young(self) -> list[str]:
        return [name for name, version in self.since.items() if version > SCIPY]

    def init(self, theta: object, blocks: object | None = None) -> NoReturn:
        """Refuse to make a state: a full-batch method takes no steps.

        Parameters
        ----------
        theta : object
            Not used.
        blocks : object, default=None
            Not used.

        Raises
        ------
        TypeError
            Always; the message shows what to call instead.
        """
        raise TypeError(
            f"{type(self).__name__} is a full-batch method, which takes no steps of its own: call "
            "minimize(fun, x0), or use a rule such as Adam in a loop."
        )

    def minimize(
        self,
        fun: Function,
        x0: Array,
        *,
        max_iter: int = 200,
        tol: float = 1e-4,
        callback: Callable[[OptimizeResult], object] | None = None,
    ) -> OptimizeResult:
        """Minimise a function.

        Parameters
        ----------
        fun : callable
            ``fun(x) -> (value, gradient)``.
        x0 : ndarray of shape (size,)
            Where to start; is not written to.
        max_iter : int, default=200
            Largest number of iterations.
        tol : float, default=1e-4
            Tolerance on the gradient, in the method's own measure: the largest entry for most.
        callback : callable, default=None
            Called after each iteration with an OptimizeResult that has ``x``, ``fun`` and ``jac``; the run ends
            where it returns True. Its exceptions go on unchanged, `StopIteration` too, which scipy would take for
            that.

        Returns
        -------
        result : scipy.optimize.OptimizeResult
            Of scipy, with ``x``, ``fun``, ``jac``, ``success``, ``status``, ``message`` and ``nit``.
        """
        self.check()
        watch = _Watch(
            fun,
            callback,
            tol=tol if self.tolerance is None else None,
            max_iter=max_iter if self.iterations is None else None,
        )
        limits = {self.iterations: max_iter, self.tolerance: tol}
        options = self.options() | {name: value for name, value in limits.items() if name is not None}
        products = {"hessp": watch.hessian_product} if self.hessian_products else {}
        try:
            return scipy.optimize.minimize(
                watch, x0, jac=True, method=self.method, callback=watch.iterated, options=options, **products
            )
        except _Ended as ended:
            return watch.result(ended)

    def options(self) -> dict[str, Any]:
        """Return scipy's options, without those that are left to scipy: None, or unknown to an old one.

        Returns
        -------
        options : dict
        """
        too_young = self._too_young()
        values = self.get_params(deep=False).items()
        return {name: value for name, value in values if value is not None and name not in too_young}


class _Ended(Exception):
    """Carries out of scipy why a run was ended from outside, or an error; no method of scipy's catches it."""

    def __init__(self, why: str = "", error: StopIteration | None = None) -> None:
        super().__init__(why)
        self.why, self.error = why, error


class _Watch:
    """A function under a method of scipy's: remembers its last values, looks at each iterate.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> (value, gradient)``.
    callback : callable or None
    tol : float or None
        End the run when no entry of the gradient is larger.
    max_iter : int or None
        End the run after so many iterations.
    """

    def __init__(
        self,
        fun: Any,
        callback: Callable[[OptimizeResult], object] | None,
        *,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> None:
        self.fun, self.callback, self.tol, self.max_iter = fun, callback, tol, max_iter
        self.evaluated: Any = None
        self.iterate: Any = None
        self.nit = self.nfev = 0

    def __call__(self, x: Array) -> tuple[float, Array]:
        value, gradient = self.fun(x)
        self.nfev += 1
        self.evaluated = OptimizeResult(x=np.array(x), fun=value, jac=np.array(gradient))
        return value, gradient

    def hessian_product(self, x: Array, p: Array) -> Array:
        """Return a product with the Hessian, from central differences of the gradient."""
        norm = np.linalg.norm(p)
        if not norm:
            return np.zeros_like(p)
        step = np.cbrt(np.finfo(float).eps) * max(1.0, np.linalg.norm(x)) / norm
        above, below = (self.fun(x + sign * step * p)[1] for sign in (1, -1))
        product: Array = (above - below) / (2 * step)
        return product

    def iterated(self, x: Any, *state: Any) -> None:
        """Take in an iterate; end the run where scipy would not."""
        x = getattr(x, "x", x)
        # What was evaluated last is the iterate, unless a step was refused after it.
        for known in (self.evaluated, self.iterate):
            if known is not None and (known.x == x).all():
                self.iterate = known
                break
        else:
            self(x)
            self.iterate = self.evaluated
        self.nit += 1
        if self.callback is not None:
            try:
                is_over = self.callback(OptimizeResult(self.iterate, nit=self.nit))
            except StopIteration as error:  # it came from what the callback calls
                raise _Ended(error=error) from None
            if is_over is True:
                raise _Ended("callback")
        if self.tol is not None and np.abs(self.iterate.jac).max() <= self.tol:
            raise _Ended("gradient")
        if self.max_iter is not None and self.nit >= self.max_iter:
            raise _Ended("iterations")

    def result(self, ended: _Ended) -> OptimizeResult:
        """Return the iterate as the result of a run that was ended; raise if by an error."""
        if ended.error is not None:
            raise ended.error from None
        status, success, message = ENDED[ended.why]
        return OptimizeResult(
            self.iterate, nit=self.nit, nfev=self.nfev, njev=self.nfev, status=status, success=success, message=message
        )


class LBFGS(FullBatch):
    """Quasi-Newton method of limited memory [Byrd1995]_: scipy's L-BFGS-B, without bounds.

    It ends when no entry of the gradient is larger than ``tol``. The other two ways in which scipy's ends
    early are all but closed here: ``ftol`` (2.2e-9 in scipy) would stop a small ``tol`` long before its
    time, and so would ``maxfun``.

    Parameters
    ----------
    maxcor : int, default=10
        Steps whose change of the gradient is remembered.
    ftol : float, default=0.0
        Smallest relative decrease of the objective with which it goes on.
    maxfun : int, default=None
        Largest number of evaluations; by default ``max_iter`` is the only limit.
    maxls : int, default=20
        Largest number of evaluations in one line search.

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
    ranges = {"maxcor": COUNT, "ftol": Interval(0, np.inf), "maxls": COUNT}

    def __init__(self, maxcor: int = 10, ftol: float = 0.0, maxfun: int | None = None, maxls: int = 20) -> None:
        self.maxcor = maxcor
        self.ftol = ftol
        self.maxfun = maxfun
        self.maxls = maxls

    def options(self) -> dict[str, Any]:
        """Return scipy's options."""
        return super().options() | {"maxfun": np.inf if self.maxfun is None else self.maxfun}


class BFGS(FullBatch):
    """Quasi-Newton method with a full matrix [Nocedal2006]_, section 6.1: for some hundred parameters.

    Parameters
    ----------
    xrtol : float, default=0.0
        Smallest relative step with which it goes on.
    c1 : float, default=1e-4
        Armijo's parameter of the line search; to set it needs scipy 1.12.
    c2 : float, default=0.9
        Curvature parameter of the line search, likewise.

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
    """Nonlinear conjugate gradients of Polak and Ribière [Nocedal2006]_, section 5.2; memory of a few θ.

    Parameters
    ----------
    c1 : float, default=1e-4
        Armijo's parameter of the line search; to set it needs scipy 1.12.
    c2 : float, default=0.4
        Curvature parameter of the line search, likewise.

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
    """Newton's method, its equations solved by conjugate gradients [Nocedal2006]_, section 7.1.

    Products with the Hessian are central differences of the analytic gradient: two evaluations each.

    Parameters
    ----------
    xtol : float, default=1e-10
        Smallest average step with which it goes on; scipy's 1e-5 would stop a small ``tol`` early.
    c1 : float, default=1e-4
        Armijo's parameter of the line search; to set it needs scipy 1.12.
    c2 : float, default=0.9
        Curvature parameter of the line search, likewise.

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
    """Truncated Newton method [Nash1984]_, without bounds.

    Parameters
    ----------
    eta : float, default=0.25
        Severity of the line search.
    stepmx : float, default=0
        Largest step of the line search; 0 lets it grow.
    ftol : float, default=0.0
        Smallest decrease of the objective with which it goes on.
    xtol : float, default=0.0
        Smallest step with which it goes on.

    References
    ----------
    .. [Nash1984] S. Nash, "Newton-type minimization via the Lanczos method", SIAM Journal on Numerical
       Analysis 21, 1984.
    """

    method = "TNC"
    iterations = None
    tolerance = None  # scipy's gtol is one on a rescaled gradient
    ranges = {"eta": SHARE, "stepmx": Interval(0, np.inf), "ftol": Interval(0, np.inf), "xtol": Interval(0, np.inf)}

    def __init__(self, eta: float = 0.25, stepmx: float = 0, ftol: float = 0.0, xtol: float = 0.0) -> None:
        self.eta = eta
        self.stepmx = stepmx
        self.ftol = ftol
        self.xtol = xtol

    def options(self) -> dict[str, Any]:
        """Return scipy's options; the number of evaluations has no limit of its own."""
        return super().options() | {"maxfun": 2**31 - 1, "gtol": 0.0}


class SLSQP(FullBatch):
    """Sequential least squares programming [Kraft1988]_, without constraints: for some hundred parameters.

    Parameters
    ----------
    ftol : float, default=1e-30
        Smallest decrease of the objective with which it goes on; scipy's 1e-6 would stop a small ``tol``
        early.

    References
    ----------
    .. [Kraft1988] D. Kraft, "A software package for sequential quadratic programming", DFVLR-FB 88-28, 1988.
    """

    method = "SLSQP"
    tolerance = None
    ranges = {"ftol": POSITIVE}

    def __init__(self, ftol: float = 1e-30) -> None:
        self.ftol = ftol


class _TrustRegion(FullBatch):
    """Newton steps inside a region in which the quadratic model is trusted."""

    hessian_products = True
    ranges = {"initial_trust_radius": POSITIVE, "max_trust_radius": POSITIVE, "eta": Interval(0, 0.25, closed="left")}

    def __init__(self, initial_trust_radius: float = 1.0, max_trust_radius: float = 1000.0, eta: float = 0.15) -> None:
        self.initial_trust_radius = initial_trust_radius
        self.max_trust_radius = max_trust_radius
        self.eta = eta


class TrustNCG(_TrustRegion):
    """Trust region, its subproblem solved by conjugate gradients [Nocedal2006]_, section 7.1.

    Products with the Hessian are central differences of the analytic gradient: two evaluations each.

    Parameters
    ----------
    initial_trust_radius : float, default=1.0
        Length of the first step at most.
    max_trust_radius : float, default=1000.0
        Length of any step at most.
    eta : float, default=0.15
        Share of the promised decrease that a step must make.

    References
    ----------
    .. [Nocedal2006] J. Nocedal and S. Wright, "Numerical optimization", second edition, Springer 2006.
    """

    name = "trust-ncg"
    method = "trust-ncg"


class TrustKrylov(FullBatch):
    """Trust region, its subproblem solved in a Krylov space to high accuracy [Lenders2018]_.

    Products with the Hessian are central differences of the analytic gradient: two evaluations each.

    Parameters
    ----------
    inexact : bool, default=False
        Whether the subproblem may be solved less accurately: fewer products, more iterations.

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
    """Trust region with a quasi-Newton matrix [Conn2000]_, without constraints: for some hundred parameters.

    Parameters
    ----------
    xtol : float, default=1e-12
        Trust radius below which it stops.
    initial_tr_radius : float, default=1.0
        Length of the first step at most.

    References
    ----------
    .. [Conn2000] A. Conn, N. Gould and P. Toint, "Trust-region methods", SIAM 2000.
    """

    name = "trust-constr"
    method = "trust-constr"
    ranges = {"xtol": POSITIVE, "initial_tr_radius": POSITIVE}

    def __init__(self, xtol: float = 1e-12, initial_tr_radius: float = 1.0) -> None:
        self.xtol = xtol
        self.initial_tr_radius = initial_tr_radius

    def minimize(self, fun: Function, x0: Array, **settings: Any) -> OptimizeResult:
        """Minimise a function, as the other methods do; ``jac`` is scipy's ``grad`` here too.

        Parameters
        ----------
        fun : callable
            ``fun(x) -> (value, gradient)``.
        x0 : ndarray of shape (size,)
            Where to start; is not written to.
        **settings : dict
            Further arguments of `FullBatch.minimize`.

        Returns
        -------
        result : scipy.optimize.OptimizeResult
            Of scipy.
        """
        result = super().minimize(fun, x0, **settings)
        result.jac = result.get("grad", result.jac)
        return result


class _ResidualWatch(_Watch):
    """A least-squares problem under a method of scipy's, which asks for the Jacobian once an iterate."""

    def __init__(
        self,
        problem: Any,
        callback: Callable[[OptimizeResult], object] | None,
        *,
        tol: float,
        max_iter: int,
    ) -> None:
        super().__init__(None, callback, tol=tol, max_iter=max_iter)
        self.problem = problem
        self.latest: Any = None

    def residuals(self, x: Array) -> Array:
        """Return the residuals, whose squares are summed."""
        self.nfev += 1
        self.latest = np.array(x), self.problem.residuals(x)
        residuals: Array = self.latest[1]
        return residuals

    def jacobian(self, x: Array) -> Array:
        """Return the derivative of the residuals; look at the iterate before, the start too."""
        r = self.latest[1] if np.array_equal(self.latest[0], x) else self.problem.residuals(x)
        jacobian: Array = self.problem.residual_jacobian(x)
        if self.evaluated is not None and np.array_equal(self.evaluated.x, x):
            return jacobian  # scipy asks twice at the start, and some versions of it at the end
        is_start = self.evaluated is None
        self.evaluated = OptimizeResult(x=np.array(x), fun=0.5 * float(r @ r), jac=jacobian.T @ r)
        if not is_start:
            self.iterated(x)
        elif np.abs(self.evaluated.jac).max() <= self.tol:
            self.iterate = self.evaluated
            raise _Ended("gradient")
        return jacobian


class _LeastSquares(FullBatch):
    """Base of the methods of scipy.optimize.least_squares: for the `jacobian` form and squared errors."""

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
    ) -> OptimizeResult:
        """Minimise half a sum of squares.

        Parameters
        ----------
        fun : object
            With ``fun.residuals(x)``, of shape (m,), and ``fun.residual_jacobian(x)``, of shape (m, size).
        x0 : ndarray of shape (size,)
            Where to start; is not written to.
        max_iter : int, default=200
            Largest number of iterations.
        tol : float, default=1e-4
            Tolerance on the largest entry of the gradient.
        callback : callable, default=None
            As for the other methods.

        Returns
        -------
        result : scipy.optimize.OptimizeResult
            Of scipy; but ``fun`` and ``jac`` are half the sum of squares and its gradient.
        """
        self.check()
        watch = _ResidualWatch(fun, callback, tol=tol, max_iter=max_iter)
        try:
            result = scipy.optimize.least_squares(
                watch.residuals,
                x0,
                jac=watch.jacobian,
                method=self.method,
                gtol=1e-15,
                max_nfev=10**9,
                **self.options(),
            )
        except _Ended as ended:
            return watch.result(ended)
        result.fun, result.jac, result.nit = result.cost, result.grad, watch.nit
        return result


class LM(_LeastSquares):
    """Levenberg and Marquardt's method [More1978]_, as in MINPACK: for least squares with a Jacobian.

    Parameters
    ----------
    ftol : float, default=1e-15
        Smallest relative decrease with which it goes on; scipy's 1e-8 would stop a small ``tol`` early.
    xtol : float, default=1e-15
        Smallest relative step with which it goes on, likewise.

    References
    ----------
    .. [More1978] J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Numerical Analysis,
       Lecture Notes in Mathematics 630, Springer 1978.
    """

    method = "lm"


class TRF(_LeastSquares):
    """Trust region reflective method [Branch1999]_, without bounds: for least squares with a Jacobian.

    Parameters
    ----------
    ftol : float, default=1e-15
        Smallest relative decrease with which it goes on; scipy's 1e-8 would stop a small ``tol`` early.
    xtol : float, default=1e-15
        Smallest relative step with which it goes on, likewise.

    References
    ----------
    .. [Branch1999] M. Branch, T. Coleman and Y. Li, "A subspace, interior, and conjugate gradient method for
       large-scale bound-constrained minimization problems", SIAM Journal on Scientific Computing 21, 1999.
    """

    method = "trf"


class Dogbox(_LeastSquares):
    """Dogleg method in rectangular trust regions [Voglis2004]_: for least squares with a Jacobian.

    Parameters
    ----------
    ftol : float, default=1e-15
        Smallest relative decrease with which it goes on; scipy's 1e-8 would stop a small ``tol`` early.
    xtol : float, default=1e-15
        Smallest relative step with which it goes on, likewise.

    References
    ----------
    .. [Voglis2004] C. Voglis and I. Lagaris, "A rectangular trust region dogleg approach for unconstrained and
       bound constrained nonlinear optimization", WSEAS International Conference on Applied Mathematics, 2004.
    """

    method = "dogbox"
