"""`infer`: from a fitted estimator and its rows to an `Inference`."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..data.batch import MONITOR
from ..exceptions import InferenceWarning
from ..hyperparameters import require_estimator
from ..losses import Tweedie
from ..readable import readable
from ..typing import MatrixLike
from ..validation import Interval, check_range
from .covariances import KINDS, codes_of, has_rows, information_of, require_possible, resolved
from .information import Information
from .optimum import polished
from .problem import Problem
from .result import Inference

WEIGHTS = ("frequency", "precision", "sampling")
MOST_ENTRIES = 10_000  # of a covariance, 800 MB
FAR = 0.1  # standard errors from the optimum that are worth a warning
UNLIKE = 5.0  # how many times as large a variance may be as one that it should equal
ROWS, ROWS_PER_ENTRY = 500, 10  # that this is judged by
WHOLE = 1e-6  # how far a weight that counts rows may be from a whole number
BENT = 1e3  # how many times as far as by its own standard error a mapped parameter may move
FEW = 20  # rows that show whether gradients are summed
ROUNDING = 1e-13  # residuals relative to predictions
EARLY = (
    "Use polish=True, which finishes the optimization in the result, or train longer, with a smaller tol or "
    "optimizer='lbfgs'. If training had converged, check that X, y and sample_weight are those of the fit."
)
SUMMED = (
    "The gradient of your loss is that of the sum over rows, not of their mean, so its curvature is too large by the "
    "number of rows and standard errors are wrong. Divide loss and gradient by the number of rows, or set "
    "reduction='sum', and fit again."
)
STUCK = (
    "polish=True did not reach it: the loss has directions along which it is almost flat, or falls without end. Fit "
    "fewer parameters or add a penalty (alpha), or try other starts."
)
POSITIVE = Interval(0, np.inf, closed="neither")


@readable
def infer(
    model: Any,
    X: MatrixLike = None,
    y: ArrayLike | None = None,
    *,
    chunks: Any = None,
    covariance: str = "auto",
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    weights: str = "frequency",
    scale: float | str = "auto",
    polish: bool = False,
    **metadata: Any,
) -> Inference:
    r"""Return the parameters of a fitted estimator with standard errors, intervals and tests.

    It works after any optimizer and for any gradient form: it needs only ``params_`` and the estimator's functions. The
    estimator is not changed.

    Parameters
    ----------
    model : estimator of this package
        Fitted.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The samples on which it was fitted.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets, if the estimator takes them.
    chunks : sequence, iterable or callable, default=None
        Chunks as for ``fit_chunks``, in place of X and y.
    covariance : str, default="auto"
        ================== =========================================================================================
        "hessian"          The inverse of the Hessian, from differences of the gradient.
        "gauss_newton"     The inverse of :math:`J^T \kappa J`, the Hessian of a model linear around the estimate. J is
                           the derivative of the predictions, :math:`\kappa` the second derivative of the loss in
                           them, 1 for the squared error. For the vjp and jacobian forms.
        "opg"              The inverse of the sum of outer products of the gradients of rows.
        "sandwich", "HC0"  The outer products between two inverse Hessians. Valid also if the likelihood is wrong or
                           variances are unequal.
        "HC1"              HC0 times n / (n - p).
        "HC2", "HC3"       HC0 with outer products divided by 1 - h or its square, h the leverage of a row. For the
                           forms of "gauss_newton" with one prediction a row.
        "cluster"          A sandwich with gradients summed over the rows of a cluster, times
                           :math:`\frac{C}{C - 1} \frac{n - 1}{n - p}` for C clusters, as in statsmodels.
        ================== =========================================================================================

        The outer matrices of a sandwich are Hessians, or Gauss-Newton's for the squared error with vjp or jacobian.
        "auto" is "cluster" with groups; "sandwich" for sampling weights; "gauss_newton" for the squared error with vjp
        or jacobian; "hessian" for likelihoods: log_loss, poisson, gamma, tweedie, negative_log_likelihood, and a loss
        of your own, which is taken for a negative log-likelihood in nats; "sandwich" for the other losses by name.
    groups : array-like of shape (n_samples,), default=None
        The cluster of each row, as labels of any kind. With chunks, in their order.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, the same as in `fit`. They are not scaled to mean 1.
    weights : {"frequency", "precision", "sampling"}, default="frequency"
        The meaning of the weights. "frequency": a row of weight 2 is two rows. "precision": variances are inversely
        proportional to them, as in weighted least squares, ``curve_fit(sigma=weight**-0.5)``. "sampling": inverse
        probabilities of being drawn; the covariance is a sandwich.
    scale : float or "auto", default="auto"
        "auto": the variance of the residuals for the squared error, by n - p degrees of freedom; Pearson's dispersion
        for gamma and tweedie; 1 for every other loss. A number is taken for known, as 1 is with
        ``curve_fit(absolute_sigma=True)``.
    polish : bool, default=False
        Whether to finish the optimization, by trf or lbfgs and then Newton steps. ``result.params`` has the optimum;
        the estimator keeps its own parameters.
    **metadata : array-like of shape (n_samples,) or (n_samples, k)
        Further data of the rows, for the callables that name them.

    Returns
    -------
    result : Inference

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        For a covariance that the form of the gradient or the loss cannot give, and for groups of another length.
    DivergenceError
        If the gradient is not finite next to the estimate.

    Warns
    -----
    InferenceWarning
        If a number does not mean what it should: the parameters are far from the optimum, directions are not
        identified, the Hessian is not positive definite. ``result.warnings`` has the texts.

    Notes
    -----
    The objective is the mean loss over rows; covariances belong to n times that. With a penalty (``alpha``) the
    curvature is that of the penalized objective, as in a posterior. Estimates are then biased towards zero, and
    intervals contain the true values less often than ``level`` says.

    The Hessian takes four evaluations of the gradient for each entry, at steps of :math:`\min(10^{-3} / \sqrt{H_{jj}},
    3 \cdot 10^{-4} |\theta_j|)` in units of the loss, and two that find them.

    The squared error has t quantiles, with n - p degrees of freedom (by clusters C - 1), unless ``scale`` is known;
    other losses have normal ones.

    "absolute_error" and "quantile" have no Hessian: the density of the residuals at 0 takes its place, by an
    Epanechnikov kernel at the bandwidth of Hall and Sheather, as in statsmodels' ``QuantReg``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sk_analytic import AnalyticRegressor, infer
    >>> def forward(params, X):
    ...     return params["a"] * X[:, 0] ** params["b"]
    >>> def jacobian(params, X):
    ...     power = X[:, 0] ** params["b"]
    ...     return {"a": power, "b": params["a"] * power * np.log(X[:, 0])}
    >>> data = load_iris().data
    >>> X, y = data[:, 2:3], data[:, 3]
    >>> model = AnalyticRegressor(
    ...     forward, jacobian=jacobian, init={"a": 1.0, "b": 1.0}
    ... ).fit(X, y)
    >>> print(infer(model, X, y))
    covariance: gauss_newton, 150 rows, scale 0.04587, t with 148 degrees of freedom, ...
    <BLANKLINE>
    parameter  estimate  standard error  statistic  p value  95 % from       to
    a          0.184047         0.01681      10.95  ...
    b           1.37873         0.05552      24.83  ...
    """
    require_estimator("infer", model)
    if not isinstance(weights, str):
        raise TypeError(
            "infer: weights says what the weights mean: 'frequency', 'precision' or 'sampling'. Pass the weights "
            "themselves as sample_weight."
        )
    check_range("infer", "covariance", covariance, KINDS)
    check_range("infer", "weights", weights, WEIGHTS)
    if scale != "auto":
        check_range("infer", "scale", scale, POSITIVE)
    if (X is None) == (chunks is None):
        raise TypeError("infer takes X, and y if the estimator does, or chunks in their place.")
    if chunks is not None and (y is not None or sample_weight is not None):
        raise TypeError("infer: y and sample_weight of chunks are in them: (X, y, sample_weight).")
    objective, theta, rows, data = model._prepare_inference(X, y, sample_weight, chunks, metadata)
    problem = Problem(objective, theta, rows, data, weights, codes_of(groups, data))
    if len(problem.free) > MOST_ENTRIES:
        n = len(problem.free)
        raise ValueError(
            f"infer: the covariance of {n} entries would take {n * n * 8e-9:.3g} GB, and infer is for up to "
            f"{MOST_ENTRIES} of them. Name blocks to hold in fixed, or resample and refit yourself."
        )
    kind = resolved(problem, covariance, weights)
    require_possible(problem, kind, weights)
    information = polished(problem, kind) if polish else information_of(problem, kind)
    found = _scale(problem, information, scale)
    if kind == "opg":
        information = information.times(1 / found)
    df = math.inf
    if problem.is_squared and scale == "auto":
        df = problem.n_obs * problem.n_outputs - information.rank
    if problem.is_squared and problem.codes is not None:
        df = float(problem.codes.max())
    twin = model._as_fitted(model._training, problem.theta(problem.vector))
    result = Inference(problem, information, kind, found, df, twin)
    result.warnings += [*_about_weights(model, sample_weight, weights), *_about_maps(result)]
    result.warnings += _about_the_estimate(result, model, scale)
    if problem.loss is None and kind != "opg" and has_rows(problem):
        if _is_sum(problem):
            result.warnings.append(SUMMED)
        elif kind == "hessian" and scale == "auto":
            result.warnings += _about_a_likelihood(problem, information)
    for message in result.warnings[len(problem.prices) :]:
        warnings.warn(message, InferenceWarning, stacklevel=2)
    return result


def _scale(problem: Problem, information: Information, scale: float | str) -> float:
    """Return what a covariance of the model is multiplied with."""
    if not isinstance(scale, str):
        return float(scale)
    has_dispersion = isinstance(problem.loss, Tweedie) and problem.loss.power != 1
    return problem.dispersion(information.rank) if problem.is_squared or has_dispersion else 1.0


def _about_a_likelihood(problem: Problem, information: Information) -> list[str]:
    """Return what is to be said of a loss of the user's own, if it can be no log-likelihood in nats.

    Of such a one, the mean outer product of the gradients of rows is about the Hessian.
    """
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = problem.rows.sample(1, MONITOR, batch_size=ROWS)[0]
            scores = problem.scores(problem.vector, batch)
    except Exception:  # of functions that take no single row
        return []
    ratio = float(np.einsum("np,np->", scores, information.solve(scores))) / batch.n / max(1, information.rank)
    if batch.n < ROWS_PER_ENTRY * information.rank or 1 / UNLIKE < ratio < UNLIKE or not math.isfinite(ratio):
        return []
    return [
        f"The loss is your own and was taken for a negative log-likelihood in nats, but the gradients of rows vary "
        f"{ratio:.2g} times as much as its curvature says: standard errors are wrong by about the root of that. Use "
        "covariance='sandwich'; a squared error by name; or scale, which multiplies the covariance."
    ]


def _is_sum(problem: Problem) -> bool:
    """Return whether the gradient of some rows is the sum of theirs, where it should be the mean."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = problem.rows.sample(1, MONITOR, batch_size=FEW)[0]
            return problem.is_sum(problem.vector, batch)
    except Exception:  # of functions that take no single row
        return False


def _about_weights(model: Any, sample_weight: Any, weights: str) -> list[str]:
    """Return what is to be said of weights that are no numbers of rows."""
    if getattr(model, "class_weight", None) is not None and weights != "sampling":
        return [
            "class_weight multiplies the weights of rows, and weights count as copies of rows here: standard errors "
            "are those of other data. Use weights='sampling', or fit without class_weight."
        ]
    values = np.asarray(0.0 if sample_weight is None else sample_weight, dtype=np.float64)
    if weights != "frequency" or (np.abs(values - np.rint(values)) <= WHOLE * np.abs(values)).all():
        return []
    return [
        "sample_weight has values that are not whole numbers, but weights='frequency' counts a row of weight 2 as two "
        "rows: standard errors depend on the sum of the weights. Weights by known variances are weights='precision', "
        "those of a survey weights='sampling'."
    ]


def _about_maps(result: Inference) -> list[str]:
    """Return what is to be said of parameters that have run to an edge of their maps, where standard errors are huge.

    There a parameter that is moved by the standard error of what is trained goes elsewhere than by its own.
    """
    problem, errors = result._problem, result._errors
    alone = problem.theta(problem.vector).mapped_alone & (errors > 0)
    if not alone.any():
        return []
    with np.errstate(all="ignore"):
        low, high = result._away(np.array([-1.0, 1.0]))
        ratio = (high - low) / (2 * errors)
        at_edge = alone & ~((ratio > 1 / BENT) & (ratio < BENT))
    if not at_edge.any():
        return []
    listed = ", ".join(result.names[entry] for entry in np.flatnonzero(at_edge).tolist())
    return [
        f"On the edge of a map: {listed}. The estimate has run to where reparametrize ends, such as 0 under 'log', and "
        "intervals mean nothing there. If the optimum may lie on the edge, use bounds in place of the map; if it may "
        "lie beyond, leave the map out."
    ]


def _about_the_estimate(result: Inference, model: Any, scale: float | str) -> list[str]:
    """Return what is to be said of where the parameters are."""
    problem = result._problem
    found = []
    if math.isnan(result.scale):
        weighted = problem.weights == "frequency" and result.n_obs != problem.data.extent.n
        counted = (
            f"Frequency weights add up to {result.n_obs:.4g}, so they count as so many rows, which"
            if weighted
            else f"{result.n_obs:g} rows"
        )
        found.append(
            f"{counted} are too few for {result._information.rank} parameters: the variance of the "
            "residuals cannot be estimated, so there are no standard errors. "
            + ("Say by weights= what the weights mean." if weighted else "Pass scale, or more rows.")
        )
    elif problem.is_squared and scale == "auto" and result.scale <= (ROUNDING * problem.largest) ** 2:
        found.append(
            "The residuals are rounding errors: the curve passes through all rows, and standard errors mean nothing."
        )
    elif result.distance > FAR:
        found.append(
            f"The parameters are {result.distance:.2g} standard errors from the optimum, so standard errors and "
            "intervals are not those of the optimum. " + (STUCK if problem.is_polished else EARLY)
        )
    return found
