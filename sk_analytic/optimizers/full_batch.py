"""Methods of scipy.optimize that take all rows at once, under the names of the other optimizers.

A method is its class: scipy's name for it, scipy's own options as hyperparameters, and which of them is
its tolerance on the gradient.
"""

import numpy as np
import scipy.optimize

from ..named import Hyperparameters, Interval

COUNT = Interval(1, np.inf, closed="left", integral=True)


class FullBatch(Hyperparameters):
    """Base of the full-batch methods: its hyperparameters are scipy's options.

    Attributes
    ----------
    method : str
        scipy's name.
    tolerance : str
        The option that is a tolerance on the gradient, for ``tol``.
    iterations : str
        The option that is the largest number of iterations, for ``max_iter``.
    """

    method: str
    tolerance = "gtol"
    iterations = "maxiter"

    def minimize(self, fun, x0, *, jac=True, max_iter=200, tol=1e-4, callback=None):
        """Minimise a function.

        Parameters
        ----------
        fun : callable
            ``fun(x) -> (value, gradient)``, or the value alone where ``jac`` is a callable.
        x0 : ndarray of shape (size,)
            Where to start; is not written to.
        jac : bool or callable, default=True
            The gradient, as :func:`scipy.optimize.minimize` takes it.
        max_iter : int, default=200
            Largest number of iterations.
        tol : float, default=1e-4
            Tolerance on the gradient, in the method's own measure: the largest entry for L-BFGS.
        callback : callable, default=None
            Called after each iteration, as scipy does: ``callback(x)``, or with the result so far where its
            parameter is called ``intermediate_result``. ``StopIteration`` ends the run.

        Returns
        -------
        result : scipy.optimize.OptimizeResult
            As scipy returns it, with ``x``, ``fun``, ``jac``, ``success``, ``status``, ``message`` and ``nit``.
        """
        self.check()
        options = {**self.options(), self.iterations: max_iter, self.tolerance: tol}
        return scipy.optimize.minimize(fun, x0, jac=jac, method=self.method, callback=callback, options=options)

    def options(self):
        """Return scipy's options, without those that are None and so left to scipy.

        Returns
        -------
        options : dict
        """
        return {name: value for name, value in self.get_params(deep=False).items() if value is not None}


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

    def __init__(self, maxcor=10, ftol=0.0, maxfun=None, maxls=20):
        self.maxcor = maxcor
        self.ftol = ftol
        self.maxfun = maxfun
        self.maxls = maxls

    def options(self):
        """Return scipy's options."""
        return super().options() | {"maxfun": np.inf if self.maxfun is None else self.maxfun}
