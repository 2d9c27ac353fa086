"""The result of `infer`: parameters, their uncertainties, and functions of both."""

from __future__ import annotations

import html
import math
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.parallel import Parallel, delayed

from ..exceptions import DivergenceError, InferenceWarning
from ..finite_differences import difference, size_of
from ..readable import readable
from ..typing import Array, MatrixLike, RandomState
from ..validation import Interval, check_range, nearest
from .coordinates import entries_of, names_moved, names_of, structure_of, to_user
from .covariances import CURVATURE, robust
from .information import Information
from .intervals import FARTHEST, profile_curve, profile_interval, refit
from .optimum import decrement, units_for_refits
from .problem import Problem
from .words import messages_of

LOWER = 1e-3  # a fall of twice the log-likelihood that is no rounding
FAILED = 0.05  # share of failed refits that is worth a warning
WIDTH = 88  # characters of a printed line, as in a gradient report

LEVEL = Interval(0, 1, closed="neither")
COUNT = Interval(2, np.inf, integral=True)
POINTS = Interval(3, np.inf, integral=True)


@readable
class Inference:
    """Result of `infer`: parameters, their uncertainties, and functions of both.

    Parameters
    ----------
    problem : Problem
        The fitted objective over all samples, at the estimates. `infer` creates these arguments.
    information : Information
        Curvature of the objective.
    kind : str
        Kind of covariance.
    scale : float
        Factor of the model-based covariance.
    df : float
        Degrees of freedom.
    model : estimator
        Copy of the estimator, fitted at the estimates.

    Attributes
    ----------
    params : structure
        Estimates, in the structure of ``params_``; with ``polish=True``, the optimum.
    standard_errors : structure
        Standard errors in the same structure. 0 for parameters held fixed (``fixed``, or without a gradient), as in
        lmfit and statsmodels: the other errors are conditional on their values. NaN for entries that the samples do
        not identify, or that are on a bound.
    covariance, correlation : ndarray of shape (n_entries, n_entries)
        Covariance and correlation of all entries of all parameters, in the order of ``names``.
    names : list of str
        Names of the entries: ``"w[3]"``, ``"layer.W[1, 2]"``, and ``"tau"`` for a number.
    kind : str
        Kind of covariance: ``"hessian"``, ``"gauss_newton"``, ``"opg"``, ``"HC0"`` to ``"HC3"`` or ``"cluster"``.
    scale : float
        Factor of the model-based covariance: the variance of the residuals for the squared error, the
        dispersion for gamma and tweedie, 1 for likelihoods, or the value passed to `infer`. Robust covariances do not
        use it.
    df : float
        Degrees of freedom of the t distribution for intervals and tests; infinite for the normal distribution.
    n_obs : float
        Number of samples, or the sum of frequency weights.
    distance : float
        Distance from the optimum in standard errors: :math:`\\sqrt{n\\, g^T H^{-1} g}` for the gradient g and the
        Hessian H of the mean loss in units of ``scale``. For robust kinds, the largest step of an entry to the optimum,
        in its standard errors.
    warnings : list of str
        Messages of all warnings.

    See Also
    --------
    infer : Compute the result from a fitted estimator.
    """

    params: Any
    standard_errors: Any
    names: list[str]
    kind: str
    scale: float
    df: float
    n_obs: float
    distance: float
    warnings: list[str]

    def __init__(
        self, problem: Problem, information: Information, kind: str, scale: float, df: float, model: Any
    ) -> None:
        self._problem, self._information, self._model = problem, information, model
        self.kind, self.scale, self.df, self.n_obs = kind, scale, df, problem.n_obs
        layout = problem.layout
        theta = problem.theta(problem.vector)
        given = theta.as_given.layout
        self.names = names_of(given)
        self.params, self._estimate = structure_of(theta), entries_of(theta)
        if kind in CURVATURE:
            root = information.inverse_root * math.sqrt(scale / problem.total)
            self._free_covariance = root.T @ root
        else:
            self._free_covariance = robust(problem, kind, information)
        whole = np.zeros((layout.size, layout.size))
        whole[np.ix_(problem.free, problem.free)] = self._free_covariance
        covariance = to_user(theta, to_user(theta, whole).T)
        embedded = np.eye(layout.size)[problem.free]
        has_none = information.moves(to_user(theta, embedded).T)
        has_none |= to_user(theta, np.eye(layout.size)[problem.bounded]).any(axis=0)
        covariance[has_none], covariance[:, has_none] = math.nan, math.nan
        self.covariance: Array = covariance
        self._errors = np.sqrt(np.diag(covariance))
        self.standard_errors = given.to_structure(self._errors.copy())
        self.distance = self._distance()
        self.warnings = [*problem.prices, *messages_of(problem, kind, information, names_moved(theta, self.names))]

    def _distance(self) -> float:
        problem, information = self._problem, self._information
        if self.kind in CURVATURE:
            return decrement(problem, information) / math.sqrt(self.scale) if self.scale else math.nan
        step = information.solve(problem.gradient_at_end[problem.free])
        errors = np.sqrt(np.diag(self._free_covariance))
        known = (errors > 0) & ~information.moves(np.eye(len(errors)))
        return float(np.abs(step[known] / errors[known]).max(initial=0.0))

    @property
    def correlation(self) -> Array:
        """Correlation of all pairs of entries; NaN for entries without a standard error."""
        errors = np.where(self._errors > 0, self._errors, math.nan)
        correlation: Array = self.covariance / errors / errors[:, None]
        return correlation

    # Intervals.

    def confidence_intervals(
        self,
        level: float = 0.95,
        method: str = "wald",
        *,
        parameters: str | Iterable[str] | None = None,
        n_resamples: int = 999,
        n_jobs: int | None = None,
        random_state: RandomState = None,
    ) -> Array:
        """Return confidence intervals of the parameters.

        Parameters
        ----------
        level : float, default=0.95
            Confidence level.
        method : {"wald", "profile", "bootstrap"}, default="wald"
            "wald": estimate and standard error times a quantile of the t or normal distribution, clipped to the bounds.
            If `reparametrize` maps each entry by itself, the interval is symmetric in the unconstrained parameter, so
            that of a positive parameter is positive. "profile": the values for which the loss, minimized over all other
            entries, rises by no more than the quantile allows; the interval need not be symmetric, and may be open.
            "bootstrap": percentiles of the optima over resampled samples, or over resampled clusters if there are
            groups. Each refit uses trf or lbfgs, whichever optimizer trained the estimator.
        parameters : str or iterable of str, default=None
            Names of parameters or of entries; all by default.
        n_resamples : int, default=999
            Number of bootstrap resamples.
        n_jobs : int, default=None
            Number of processes for profiles and resamples, as in scikit-learn. The result does not depend on it.
        random_state : int, RandomState instance or None, default=None
            Seed of the bootstrap.

        Returns
        -------
        intervals : ndarray of shape (n_parameters, 2)
            Lower and upper ends, in the order of ``names`` or of ``parameters``; infinite if a profile is open.

        Raises
        ------
        ValueError
            If a name is unknown, or the method is not available for this fit.

        Warns
        -----
        InferenceWarning
            If a profile is open or has found a smaller loss, or if refits failed.
        """
        check_range("confidence_intervals", "level", level, LEVEL)
        check_range("confidence_intervals", "method", method, ("wald", "profile", "bootstrap"))
        entries = self._entries(parameters)
        if method == "wald":
            return self._wald(level)[entries]
        if method == "profile":
            return self._profiles(entries, level, n_jobs)
        check_range("confidence_intervals", "n_resamples", n_resamples, COUNT)
        return self._bootstrap(level, n_resamples, n_jobs, random_state)[entries]

    def _entries(self, parameters: str | Iterable[str] | None) -> list[int]:
        """Return the numbers of entries that are named."""
        if parameters is None:
            return list(range(len(self.names)))
        layout = self._problem.start.as_given.layout
        found: list[int] = []
        for name in [parameters] if isinstance(parameters, str) else parameters:
            if name in self.names:
                found.append(self.names.index(name))
            elif name in layout.names:
                where = layout.slices[layout.names.index(name)]
                found += range(where.start, where.stop)
            else:
                known = [*self.names, *layout.names]
                raise ValueError(
                    f"There is no parameter {name!r}.{nearest(name, known)} Available: {', '.join(layout.names)}."
                )
        return found

    def _quantile(self, level: float) -> float:
        share = (1 + level) / 2
        return float(stats.t.ppf(share, self.df) if math.isfinite(self.df) else stats.norm.ppf(share))

    def _wald(self, level: float) -> Array:
        return self._away(self._quantile(level) * np.array([-1.0, 1.0])).T

    def _away(self, n_errors: Array) -> Array:
        """Return all parameters at some numbers of standard errors from their estimates, no further than bounds allow.

        Those that are mapped each by itself are moved by the standard errors of what is trained.
        """
        problem = self._problem
        theta = problem.theta(problem.vector)
        moved = self._estimate + np.multiply.outer(n_errors, self._errors)
        alone = theta.mapped_alone & (self._errors > 0)
        if alone.any():
            step = np.zeros(problem.layout.size)
            step[problem.free] = np.sqrt(np.diag(self._free_covariance))
            of_moved = [theta.at(problem.vector + n * step).as_given.vector for n in n_errors]
            moved[:, alone] = np.array(of_moved)[:, alone]
        found: Array = moved.clip(*theta.limits_as_given)
        return found

    def profile(self, parameter: str, level: float = 0.99, *, n_points: int = 21) -> Bunch:
        """Return the profile of a parameter: the loss minimized over all others, at several values of this one.

        Parameters
        ----------
        parameter : str
            Name of an entry, such as ``"tau"`` or ``"w[3]"``.
        level : float, default=0.99
            Confidence level of the profile interval that the points span. If the interval is open on a side, the points
            extend to the Wald interval.
        n_points : int, default=21
            Number of points, at least 3: the estimate, and half of the others on each side. Points at
            which the loss is not finite are left out.

        Returns
        -------
        profile : Bunch
            Arrays of shape (n_points,): ``value`` of the parameter, increasing; ``rise``, twice the increase of the
            negative log-likelihood relative to the estimate (for the squared error, the increase of the sum of squares
            in units of ``scale``); and ``root``, its square root, negative below the estimate. The profile interval of
            a level ends where ``root`` is plus or minus the quantile; if ``root`` is a straight line, the Wald interval
            is the same. ``params`` of shape (n_points, n_entries) has all parameters, in the order of ``names``.

        Raises
        ------
        ValueError
            If the name is not that of a single entry, the parameter has no standard error, or the fit has no profiles.

        Warns
        -----
        InferenceWarning
            If a smaller loss was found.

        See Also
        --------
        sk_analytic.plotting.ProfileDisplay : Plot profiles.

        Examples
        --------
        >>> import numpy as np
        >>> from sk_analytic import AnalyticRegressor, infer
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = X @ [2.0, 1.0] + 3 + 0.1 * rng.normal(size=200)
        >>> profile = infer(AnalyticRegressor().fit(X, y), X, y).profile(
        ...     "coef[1]", level=0.95, n_points=3
        ... )
        >>> profile.value.round(3), profile.root.round(2)
        (array([0.998, 1.012, 1.026]), array([-1.97,  0.  ,  1.97]))
        """
        check_range("profile", "level", level, LEVEL)
        entries = self._entries(parameter)
        if len(entries) != 1:
            raise ValueError(
                f"profile takes the name of one entry; {parameter!r} has {len(entries)}: "
                f"{', '.join(self.names[entry] for entry in entries[:3])}{', ...' * (len(entries) > 3)}."
            )
        return self._curves(entries, level, n_points)[0]

    # Functions of the parameters.

    def delta(self, function: Callable[[Any], ArrayLike]) -> Bunch:
        """Return a function of the parameters with its standard error, by the delta method.

        Parameters
        ----------
        function : callable
            ``function(params) -> number or array``; it receives the parameters in the user's structure. Its derivative
            is computed by finite differences.

        Returns
        -------
        result : Bunch
            ``value``, ``standard_error`` of the same shape, and ``covariance`` of its entries (a number for a number).
            Errors are NaN if the value depends on a direction that is not identified.

        Examples
        --------
        >>> import numpy as np
        >>> from sk_analytic import AnalyticRegressor, infer
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = X @ [2.0, 1.0] + 3 + 0.1 * rng.normal(size=200)
        >>> result = infer(AnalyticRegressor().fit(X, y), X, y)
        >>> ratio = result.delta(lambda params: params["coef"][0] / params["coef"][1])
        >>> round(ratio.value, 2), round(ratio.standard_error, 3)
        (1.97, 0.016)
        """
        problem = self._problem
        value, derivative = self._derivative(lambda vector: function(structure_of(problem.theta(vector))))
        covariance = derivative @ self._free_covariance @ derivative.T
        lost = self._lost(derivative)
        covariance[lost], covariance[:, lost] = math.nan, math.nan
        errors = np.sqrt(np.diag(covariance)).reshape(value.shape)
        if not value.ndim:
            return Bunch(value=float(value), standard_error=float(errors), covariance=float(covariance[0, 0]))
        return Bunch(value=value, standard_error=errors, covariance=covariance)

    def _derivative(self, function: Callable[[Array], ArrayLike]) -> tuple[Array, Array]:
        """Return a function of θ's vector at the estimate, and its derivative by the free entries, (m, p)."""
        problem = self._problem
        value = np.array(function(problem.vector.copy()), dtype=np.float64)
        sizes = np.concatenate([np.full(b.size, size_of(b.ravel())) for b in problem.layout.blocks(problem.vector)])

        def along(entry: int) -> Array:
            def at(t: float) -> Array:
                vector = problem.vector.copy()
                vector[entry] += t
                return np.array(function(vector), dtype=np.float64).reshape(-1)

            slope: Array = difference(at, float(problem.vector[entry]), float(sizes[entry]))
            return slope

        return value, np.stack([along(entry) for entry in problem.free.tolist()], axis=1)

    def _lost(self, derivative: Array) -> Array:
        """Return which rows of a derivative have no error; warn if there are any."""
        lost = self._information.moves(derivative)
        if lost.any():
            warnings.warn(
                f"{np.count_nonzero(lost)} of {len(lost)} values depend on directions that are not identified (see "
                "result.warnings), so their errors are NaN.",
                InferenceWarning,
                stacklevel=3,
            )
        return lost

    def predict(self, X: MatrixLike, interval: str | None = None, level: float = 0.95, **metadata: Any) -> Bunch:
        """Predict with standard errors and, optionally, intervals.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        interval : {None, "mean", "observation"}, default=None
            "mean": confidence interval of the prediction, within the range of the link (between 0 and 1 for a
            probability). "observation": prediction interval of a new y, for the squared error only; residuals are
            assumed to be normal with variance ``scale``. Not with precision weights, because the variance of the new y
            is unknown.
        level : float, default=0.95
            Level of the interval.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        prediction : Bunch
            ``value``, the output of ``predict`` for a regressor, of ``predict_proba`` for a classifier, and of
            `forward` for the other estimators; ``standard_error``, ``low`` and ``high`` of the same shape. ``low``
            and ``high`` are None without an interval.
        """
        check_range("predict", "interval", interval, (None, "mean", "observation"))
        check_range("predict", "level", level, LEVEL)
        problem = self._problem
        if interval == "observation" and not problem.is_squared:
            raise ValueError(
                "predict: interval='observation' requires the squared error, whose scale is the variance of y. Use "
                "interval='mean' for other losses."
            )
        if interval == "observation" and not problem.has_observations:
            raise ValueError(
                "predict: interval='observation' does not support weights='precision', because the variance of a new y "
                "is scale divided by its own weight, which is not given. Use interval='mean', and add that variance to "
                "standard_error**2."
            )
        predicted = self._model._prepare_prediction(X, metadata)
        value, derivative = self._derivative(lambda vector: predicted(problem.theta(vector).structure))
        variance = np.einsum("mp,pq,mq->m", derivative, self._free_covariance, derivative)
        variance[self._lost(derivative)] = math.nan
        variance = variance.reshape(value.shape)
        found = Bunch(value=value, standard_error=np.sqrt(variance), low=None, high=None)
        if interval is not None:
            link = "identity" if interval == "observation" else self._model._link
            error = np.sqrt(variance + self.scale) if interval == "observation" else found.standard_error
            found.low, found.high = _ends(link, value, self._quantile(level) * error)
        return found

    # Tables.

    def to_frame(self, level: float = 0.95) -> Any:
        """Return a pandas DataFrame with one row per entry.

        Parameters
        ----------
        level : float, default=0.95
            Level of the intervals, which are Wald intervals.

        Returns
        -------
        frame : pandas.DataFrame
            Columns ``estimate``, ``standard_error``, ``statistic`` (their ratio), ``p_value`` (two-sided, for a
            true value of 0), ``low`` and ``high``, indexed by ``names``.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("Inference.to_frame requires pandas: pip install pandas") from error
        return pd.DataFrame(self._columns(level), index=pd.Index(self.names, name="parameter"))

    def _columns(self, level: float = 0.95) -> dict[str, Array]:
        check_range("to_frame", "level", level, LEVEL)
        estimate, errors = self._estimate, self._errors
        statistic = estimate / np.where(errors > 0, errors, math.nan)
        tail = stats.t(self.df).sf if math.isfinite(self.df) else stats.norm.sf
        low, high = self._wald(level).T
        return {
            "estimate": estimate.copy(),
            "standard_error": errors.copy(),
            "statistic": statistic,
            "p_value": 2 * tail(np.abs(statistic)),
            "low": low,
            "high": high,
        }

    @property
    def _title(self) -> str:
        distribution = "normal" if math.isinf(self.df) else f"t with {self.df:g} degrees of freedom"
        n_samples = self._problem.data.extent.n_weighted
        counted = f"{self.n_obs:g} samples"
        if self.n_obs != n_samples:
            counted = f"{self.n_obs:g} observations (frequency weights of {n_samples} samples)"
        return (
            f"covariance: {self.kind}, {counted}, scale {self.scale:.4g}, {distribution}, "
            f"{self.distance:.2g} standard errors from the optimum"
        )

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """The table as text: its heads, and a row for each entry."""
        columns = self._columns()
        heads = ["parameter", "estimate", "standard error", "statistic", "p value", "95 % from", "to"]
        forms = [".6g", ".4g", ".4g", ".2g", ".5g", ".5g"]
        rows = zip(self.names, *columns.values(), strict=True)
        return heads, [
            [name, *(f"{v:{form}}" for v, form in zip(values, forms, strict=True))] for name, *values in rows
        ]

    def __str__(self) -> str:
        heads, rows = self._cells()
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in [heads, *rows]
        ]
        notes = [f"[{number}] {message}" for number, message in enumerate(self.warnings, 1)]
        paragraphs = [textwrap.fill(text, WIDTH, subsequent_indent="    ") for text in [self._title, *notes]]
        return "\n".join([paragraphs[0], "", *lines, *([""] if notes else []), *paragraphs[1:]])

    def __repr__(self) -> str:
        return f"Inference({len(self.names)} parameters, {self._title})"

    def _repr_html_(self) -> str:
        heads, rows = self._cells()
        line = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        notes = "".join(f"<li>{html.escape(message)}</li>" for message in self.warnings)
        listed = f"<ol>{notes}</ol>" if notes else ""
        return (
            f"<table><caption>{html.escape(self._title)}</caption><thead><tr>{line}</tr></thead>"
            f"<tbody>{body}</tbody></table>{listed}"
        )

    # Intervals by profiles and by resamples.

    def _to_profile(self, profiled: Sequence[int], level: float) -> tuple[dict[int, int], list[tuple[Any, ...]]]:
        """Return the places of the entries that move parameters, and what their profiles are made of; or raise."""
        problem = self._problem
        if self.kind not in CURVATURE:
            raise ValueError(
                f"method='profile' treats the loss as a likelihood, but covariance={self.kind!r} does not. Use "
                "method='wald' or 'bootstrap', or covariance='auto'."
            )
        if not problem.objective.has_value:
            raise ValueError("method='profile' needs a loss, but there is none. Pass a loss by name or as a function.")
        places = self._places()
        coupled = [self.names[entry] for entry in profiled if entry not in places]
        if coupled:
            raise ValueError(
                f"method='profile' varies one entry and minimizes over the others, but {', '.join(coupled)} cannot "
                "vary alone, because reparametrize maps it together with others. Use method='wald' or 'bootstrap', or "
                "choose other entries with parameters=."
            )
        settings = problem, self._information, problem.total / self.scale, self._quantile(level)
        errors = np.sqrt(np.diag(self._free_covariance))
        return places, [(*settings, places[entry], float(errors[places[entry]])) for entry in profiled]

    def _curves(self, entries: Sequence[int], level: float, n_points: int, n_jobs: int | None = None) -> list[Bunch]:
        """Return points of profiles; see `profile`."""
        check_range("profile", "n_points", n_points, POINTS)
        without = [self.names[entry] for entry in entries if not self._errors[entry] > 0]
        if without:
            raise ValueError(
                f"There is no profile of {', '.join(without)}, which is fixed, on a bound, or not identified, and so "
                "has no standard error. Choose other parameters."
            )
        _, settings = self._to_profile(entries, level)
        found = Parallel(n_jobs=n_jobs)(delayed(profile_curve)(*setting, n_points) for setting in settings)
        lower = [self.names[entry] for entry, (*_, lowest) in zip(entries, found, strict=True) if lowest < -LOWER]
        if lower:
            _warn(_about_lower(lower))
        curves = []
        for entry, (rises, points, _) in zip(entries, found, strict=True):
            params = np.array([entries_of(self._problem.theta(self._problem.moved(x))) for x in points])
            order = np.argsort(params[:, entry])
            rises, params = rises[order], params[order]
            values = params[:, entry].copy()
            roots = np.sign(values - self._estimate[entry]) * np.sqrt(rises.clip(0))
            curves.append(Bunch(value=values, rise=rises, root=roots, params=params))
        return curves

    def _profiles(self, entries: Sequence[int], level: float, n_jobs: int | None) -> Array:
        profiled = [entry for entry in entries if self._errors[entry] > 0]
        places, settings = self._to_profile(profiled, level)
        found = Parallel(n_jobs=n_jobs)(delayed(profile_interval)(*setting) for setting in settings)
        found = [
            one._replace(**{end: self._given(entry, places[entry], getattr(one, end)) for end in ("low", "high")})
            for entry, one in zip(profiled, found, strict=True)
        ]
        intervals = self._wald(level)[entries]  # of those that are held or not identified
        by_entry = dict(zip(profiled, found, strict=True))
        for row, entry in enumerate(entries):
            if entry in by_entry:
                intervals[row] = by_entry[entry].low, by_entry[entry].high
        by_name = {self.names[entry]: interval for entry, interval in by_entry.items()}
        is_open = [name for name, interval in by_name.items() if math.isinf(interval.high - interval.low)]
        if is_open:
            _warn(
                f"The profile interval is open for {', '.join(is_open)}: up to {FARTHEST:g} standard errors away, or "
                f"as far as the loss is defined, the loss does not rise enough for level {level:g}. The samples do not "
                "bound the parameter."
            )
        rough = [name for name, interval in by_name.items() if not interval.has_converged]
        if rough:
            _warn(
                f"The profile of {', '.join(rough)} is approximate: lbfgs did not reach the minimum over the other "
                "entries at an end of the interval, which may therefore be too short."
            )
        lower = [name for name, interval in by_name.items() if interval.lowest < -LOWER]
        if lower:
            _warn(_about_lower(lower))
        return intervals

    def _places(self) -> dict[int, int]:
        """The places among the free entries that move one parameter each, which nothing else moves; by parameter."""
        problem = self._problem
        moves = to_user(problem.theta(problem.vector), np.eye(problem.layout.size))[problem.free] != 0
        alone = moves.sum(axis=1) == 1
        entries = {place: int(np.argmax(moves[place])) for place in np.flatnonzero(alone).tolist()}
        return {entry: place for place, entry in entries.items() if moves[:, entry].sum() == 1}

    def _given(self, entry: int, place: int, moved: float) -> float:
        """The value of a parameter where the entry that moves it has some value."""
        problem = self._problem
        vector = problem.vector.copy()
        vector[problem.free[place]] = moved
        with np.errstate(all="ignore"):
            return float(problem.theta(vector).as_given.vector[entry])

    def _bootstrap(self, level: float, n_resamples: int, n_jobs: int | None, random_state: RandomState) -> Array:
        problem = self._problem
        if not hasattr(problem.data, "take"):
            raise ValueError("method='bootstrap' resamples arrays and does not support chunks. Use method='wald'.")
        if not problem.objective.has_value:
            raise ValueError(
                "method='bootstrap' needs a loss, but there is none. Pass a loss by name or as a function."
            )
        seeds = np.random.SeedSequence(check_random_state(random_state).randint(2**31 - 1)).spawn(n_resamples)
        units = units_for_refits(problem)
        refits = Parallel(n_jobs=n_jobs)(delayed(refit)(problem, seed, units) for seed in seeds)
        found = [entries_of(problem.theta(vector)) for vector, _ in refits if vector is not None]
        failures = [message for _, message in refits if message]
        if len(found) < 2:
            raise DivergenceError(f"All refits of the bootstrap failed. The first: {failures[0]}")
        if len(failures) > FAILED * n_resamples:
            _warn(
                f"{len(failures)} of {n_resamples} refits failed or did not converge; "
                f"{n_resamples - len(found)} of them are left out. The first: {failures[0]}"
            )
        ends = [50 * (1 - level), 50 * (1 + level)]
        intervals: Array = np.percentile(np.array(found), ends, axis=0).T
        intervals[np.isnan(self._errors)] = math.nan
        return intervals


def _about_lower(names: Sequence[str]) -> str:
    return (
        f"A smaller loss was found on the profile of {', '.join(names)}, so the parameters are not at the optimum. Use "
        "polish=True, or another start."
    )


def _warn(message: str) -> None:
    """Warn of an interval, for the caller of `confidence_intervals`; of a profile, for that of `profile`."""
    warnings.warn(message, InferenceWarning, stacklevel=4)


def _ends(link: str, value: Array, half: Array) -> tuple[Array, Array]:
    """Return the ends of intervals that are symmetric on a link; ``half`` their half lengths for the identity."""
    with np.errstate(all="ignore"):
        if link == "log":
            factor = np.exp(half / value)
            return value / factor, value * factor
        if link == "logit":
            ends = (expit(logit(value) + sign * half / (value * (1 - value))) for sign in (-1, 1))
            low, high = (np.where(half == 0, value, end) for end in ends)
            return low, high
    return value - half, value + half
