"""`infer`: from a fitted estimator and its samples to an `Inference`."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..data.batch import MONITOR
from ..data.weights import Extent
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
    "Use polish=True to finish the optimization, or train longer, with a smaller tol or optimizer='lbfgs'. If training "
    "had converged, check that X, y and sample_weight are those of the fit."
)
CONVERGED = (
    "The fit had converged, so X, y, sample_weight or the metadata are probably not those of the fit. If they are, use "
    "polish=True to finish the optimization."
)
SUMMED = (
    "Your gradient is that of the sum over samples, not of the mean. The curvature is therefore too large by a factor "
    "of n_samples, and standard errors are wrong. Divide loss and gradient by the number of samples, or set "
    "reduction='sum', and fit again."
)
STUCK = (
    "polish=True did not reach it: along some directions the loss is almost flat, or unbounded below. Fit fewer "
    "parameters, add a penalty (alpha), or try other starts."
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
    weights: str | None = None,
    scale: float | str = "auto",
    polish: bool = False,
    **metadata: Any,
) -> Inference:
    r"""Return the parameters of a fitted estimator with standard errors, intervals and tests.

    Inference works after any optimizer and for any gradient form, because it needs only ``params_`` and the estimator's
    functions. The estimator is not changed.

    Parameters
    ----------
    model : estimator of this package
        Fitted estimator.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The samples on which it was fitted.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets, if the estimator takes them.
    chunks : sequence, iterable or callable, default=None
        Chunks as for ``fit_chunks``, in place of X and y.
    covariance : str, default="auto"
        Estimator of the covariance:

        ================== =========================================================================================
        "hessian"          Inverse of the Hessian, computed from differences of the gradient.
        "gauss_newton"     Inverse of :math:`J^T \kappa J`, the Hessian of the model linearized at the estimate. J is
                           the derivative of the predictions and :math:`\kappa` the second derivative of the loss with
                           respect to them, 1 for the squared error. For the vjp and jacobian forms.
        "opg"              Inverse of the sum of outer products of the per-sample gradients.
        "sandwich", "HC0"  The outer products between two inverse Hessians. Valid even if the likelihood is
                           misspecified or variances are unequal.
        "HC1"              HC0 times n / (n - p).
        "HC2", "HC3"       HC0 with outer products divided by 1 - h or its square, where h is the leverage of a sample.
                           For the vjp and jacobian forms with one prediction per sample.
        "cluster"          Sandwich with gradients summed over the samples of a cluster, times
                           :math:`\frac{C}{C - 1} \frac{n - 1}{n - p}` for C clusters, as in statsmodels.
        ================== =========================================================================================

        The outer matrices of a sandwich are Hessians, or Gauss-Newton matrices for the squared error with vjp or
        jacobian. "auto" is "cluster" with groups; "sandwich" for sampling weights; "gauss_newton" for the squared error
        with vjp or jacobian; "hessian" for likelihoods: log_loss, poisson, gamma, tweedie, negative_log_likelihood, and
        a loss of your own, which is assumed to be a negative log-likelihood in nats; "sandwich" for other named losses.
    groups : array-like of shape (n_samples,), default=None
        Cluster label of each sample, of any type. For chunks, in the order of their samples.
    sample_weight : array-like of shape (n_samples,), default=None
        Sample weights, the same as in `fit`. They are not scaled to mean 1.
    weights : {"frequency", "precision", "sampling"}, default=None
        Meaning of the weights, required if there are weights other than 0 and 1, because standard errors depend on it.
        "frequency": a sample of weight 2 counts as two samples. "precision": variances are inversely proportional to
        the weights, as in weighted least squares, ``curve_fit(sigma=weight**-0.5)``. "sampling": weights are inverse
        sampling probabilities; the covariance is a sandwich.
    scale : float or "auto", default="auto"
        "auto" estimates the variance of the residuals for the squared error, with n - p degrees of freedom, and
        Pearson's dispersion for gamma and tweedie; it is 1 for every other loss. A number is taken as known;
        1 corresponds to ``curve_fit(absolute_sigma=True)``.
    polish : bool, default=False
        Whether to finish the optimization, by trf or lbfgs and then Newton steps. ``result.params`` is the optimum;
        the estimator keeps its own parameters.
    **metadata : array-like of shape (n_samples,) or (n_samples, k)
        Sample metadata, passed to the callables that name it.

    Returns
    -------
    result : Inference
        Estimates, standard errors and further inference.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If the covariance is not available for the gradient form or the loss, if groups has another length, or if there
        are weights without their meaning.
    DivergenceError
        If the gradient is not finite next to the estimate.

    Warns
    -----
    InferenceWarning
        If a result is unreliable: the parameters are far from the optimum, directions are not identified, or the
        Hessian is not positive definite. ``result.warnings`` has the messages.

    Notes
    -----
    The objective is the mean loss over samples; covariances refer to n times the mean. With a penalty (``alpha``) the
    curvature is that of the penalized objective, as in a posterior. Estimates are then biased towards zero, and
    intervals contain the true values less often than ``level``.

    The Hessian takes four evaluations of the gradient for each entry, at steps of :math:`\min(10^{-3} / \sqrt{H_{jj}},
    3 \cdot 10^{-4} |\theta_j|)` in units of the loss, and two more to find the step.

    Intervals use t quantiles for the squared error, with n - p degrees of freedom (C - 1 for clusters), unless
    ``scale`` is known, and normal quantiles for other losses.

    "absolute_error" and "quantile" have no Hessian. The density of the residuals at 0 replaces it, estimated with an
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
    covariance: gauss_newton, 150 samples, scale 0.04587, t with 148 degrees of freedom, ...
    <BLANKLINE>
    parameter  estimate  standard error  statistic  p value  95 % from       to
    a          0.184047         0.01681      10.95  ...
    b           1.37873         0.05552      24.83  ...
    """
    require_estimator("infer", model)
    _require_meaning(weights)
    check_range("infer", "covariance", covariance, KINDS)
    if scale != "auto":
        check_range("infer", "scale", scale, POSITIVE)
    if (X is None) == (chunks is None):
        raise TypeError("infer requires X (and y, if the estimator takes it) or chunks, but not both.")
    if chunks is not None and (y is not None or sample_weight is not None):
        raise TypeError("infer: pass y and sample_weight in the chunks, as (X, y, sample_weight).")
    objective, theta, rows, data = model._prepare_inference(X, y, sample_weight, chunks, metadata)
    weights = weights or _meaning_of_weights(model, sample_weight, data.extent)
    problem = Problem(objective, theta, rows, data, weights, codes_of(groups, data))
    if len(problem.free) > MOST_ENTRIES:
        n = len(problem.free)
        raise ValueError(
            f"infer: the covariance of {n} entries would take {n * n * 8e-9:.3g} GB; infer supports up to "
            f"{MOST_ENTRIES} entries. Hold parameters fixed (fixed=), or use a bootstrap of your own."
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
        f"Your own loss is assumed to be a negative log-likelihood in nats, but the per-sample gradients vary "
        f"{ratio:.2g} times as much as its curvature implies: standard errors are wrong by about the square root of "
        "that factor. Use covariance='sandwich', a named squared error, or scale, which multiplies the covariance."
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


def _require_meaning(weights: Any) -> None:
    """Raise if something is not the meaning of weights, or None."""
    if not (weights is None or isinstance(weights, str)):
        raise TypeError(
            "infer: weights must be 'frequency', 'precision' or 'sampling', the meaning of the weights. Pass the "
            "weights themselves as sample_weight."
        )
    if weights is not None:
        check_range("infer", "weights", weights, WEIGHTS)


def _meaning_of_weights(model: Any, sample_weight: Any, extent: Extent) -> str:
    """Return what weights mean where all meanings agree, or where a warning follows; raise elsewhere."""
    values = np.asarray(1.0 if sample_weight is None else sample_weight)
    agree = math.ldexp(extent.total, extent.exponent) == extent.n_weighted and np.isin(values, (0, 1)).all()
    if not agree and getattr(model, "class_weight", None) is None:
        raise ValueError(
            "infer: standard errors depend on the meaning of the weights, which sample_weight does not tell. Pass "
            "weights='frequency' if a sample of weight 2 stands for two samples, 'precision' if it has half the "
            "variance (sample_weight=sigma**-2), or 'sampling' if it was half as likely to be drawn."
        )
    return "frequency"


def _about_weights(model: Any, sample_weight: Any, weights: str) -> list[str]:
    """Return what is to be said of weights that are no numbers of rows."""
    if getattr(model, "class_weight", None) is not None and weights != "sampling":
        return [
            "class_weight multiplies the sample weights, and weights count as copies of samples here, so standard "
            "errors do not refer to the data. Use weights='sampling', or fit without class_weight."
        ]
    values = np.asarray(0.0 if sample_weight is None else sample_weight, dtype=np.float64)
    if weights != "frequency" or (np.abs(values - np.rint(values)) <= WHOLE * np.abs(values)).all():
        return []
    return [
        "sample_weight has non-integer values, but weights='frequency' counts a sample of weight 2 as two samples, so "
        "standard errors depend on the sum of the weights. Use weights='precision' for weights by known variances, and "
        "weights='sampling' for survey weights."
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
        f"On the edge of a map: {listed}. The estimate is at the limit of its reparametrize map, such as 0 under "
        "'log', where intervals are meaningless. If the optimum may lie on the edge, use bounds in place of the map; "
        "if it may lie beyond, remove the map."
    ]


def _about_the_estimate(result: Inference, model: Any, scale: float | str) -> list[str]:
    """Return what is to be said of where the parameters are."""
    problem = result._problem
    found = []
    if math.isnan(result.scale):
        weighted = problem.weights == "frequency" and result.n_obs != problem.data.extent.n
        counted = (
            f"Frequency weights add up to {result.n_obs:.4g}, so they count as that many samples, which"
            if weighted
            else f"{result.n_obs:g} samples"
        )
        found.append(
            f"{counted} are too few for {result._information.rank} parameters: the variance of the "
            "residuals cannot be estimated, so there are no standard errors. "
            + ("Pass weights=, the meaning of the weights." if weighted else "Pass scale, or more samples.")
        )
    elif problem.is_squared and scale == "auto" and result.scale <= (ROUNDING * problem.largest) ** 2:
        found.append(
            "The residuals are rounding errors: the curve passes through all samples, so standard errors are "
            "meaningless."
        )
    elif result.distance > FAR:
        has_converged = getattr(getattr(model, "optimizer_result_", None), "success", False)
        found.append(
            f"The parameters are {result.distance:.2g} standard errors from the optimum, so standard errors and "
            "intervals are unreliable. " + (STUCK if problem.is_polished else CONVERGED if has_converged else EARLY)
        )
    return found
