"""The parameters that the four estimators share: documentation, ranges and checks."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.utils.metaestimators import available_if

from ..hyperparameters import advice_on_hidden, is_auto, takes_any, unknown_parameter
from ..model.argument_names import PARAMETERS
from ..model.callables import runs_default
from ..model.roles import functions_of
from ..optimizers import get_optimizer
from ..optimizers.phases import Phases
from ..optimizers.scipy_methods import FullBatch
from ..readable import readable
from ..typing import F
from ..validation import Interval, Range, check_range

RANGES: Mapping[str, Range] = {
    "reduction": ("mean", "sum"),
    "additive": (True, False, "auto"),
    "accept_sparse": (True, False, "auto"),
    "shuffle": bool,
    "drop_last": bool,
    "tol": (Interval(0, np.inf), None),
    "n_iter_no_change": (Interval(1, np.inf, integral=True), np.inf),
    "early_stopping": bool,
    "validation_fraction": Interval(0, 1, closed="neither"),
    "local_steps": Interval(1, np.inf, integral=True),
    "worker_timeout": Interval(0, np.inf, closed="neither"),
    "check_gradient": (True, False, "warn"),
    "warm_start": bool,
}


ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("learning_rate", "lr", "learning_rate_init", "eta0", "step_size"), "optimizer__learning_rate"),
    **dict.fromkeys(("epochs", "n_epochs", "max_epochs", "n_iter", "maxiter"), "max_iter"),
    **dict.fromkeys(("weight_decay", "l2", "reg", "penalty"), "alpha"),
    **dict.fromkeys(("solver", "opt", "method"), "optimizer"),
    **dict.fromkeys(("seed", "rng"), "random_state"),
    **dict.fromkeys(("params", "theta", "x0", "p0"), "init"),
    "patience": "n_iter_no_change",
    "fun": "loss",
    "jac": "gradient",
    "grad": "gradient",
}
"""Names of parameters in other libraries, to ours; for messages."""


def trains_by_batches(estimator: Any) -> bool:
    """Raise unless partial_fit can continue with the optimizer; fit raises for a wrong name."""
    try:
        optimizer = None if is_auto(estimator.optimizer) else get_optimizer(estimator.optimizer)
    except (TypeError, ValueError):
        return True
    if isinstance(optimizer, FullBatch | Phases):
        kind = "a full-batch method" if isinstance(optimizer, FullBatch) else "a sequence of methods for one fit"
        raise AttributeError(
            f"optimizer={estimator.optimizer!r} is {kind}, which does not support partial_fit. Use a minibatch "
            f"optimizer such as 'adam', or call fit with all samples.{advice_on_hidden(type(estimator), 'optimizer')}"
        )
    return True


in_batches: Callable[[F], F] = available_if(trains_by_batches)
"""Decorates `partial_fit`: it is available if the optimizer trains on minibatches."""


def where_given(role: str) -> Callable[[F], F]:
    """Return a decorator: a method is available if an estimator, or its default model, has a function of a role."""

    def is_given(estimator: Any) -> bool:
        functions = functions_of(estimator)
        if functions[role] is None and not (runs_default(functions) and role in estimator._default_model):
            raise AttributeError(
                f"This {type(estimator).__name__} has no function for {role!r}. Pass {PARAMETERS.get(role, role)}, or "
                f"a model object with the method {role}."
            )
        return True

    decorator: Callable[[F], F] = available_if(is_given)
    return decorator


SHARED_DOC = """
    Parameters
    ----------
    forward : callable, default=None
        ``forward(params, X) -> prediction``: {forward}.
        It receives further arguments by name. If neither `forward` nor a gradient is given, the estimator uses
        {default}. A `vjp` can replace `forward`.
    gradient : callable, default=None
        ``gradient(params, X, y) -> grads``: gradient of the mean loss of the batch, in the structure of
        the parameters. A leaf ``None`` is not trained; a pair ``(rows, values)`` or a sparse matrix updates only some
        rows of a parameter array. With an argument ``out``, ``gradient(params, x, y, out)`` writes the gradient of a
        single sample into ``out``. Pass exactly one of the four gradient forms, unless `numerical` names all
        parameters.
    init : callable or structure, default=None
        Starting parameters (a dict, tuple, list or named tuple, possibly nested, or a single array), or a function that
        returns them. The function receives the arguments that it names, of ``n_features, n_outputs, rng, X, y,
        sample_weight`` and the keys of `model_params`.
    model : object, default=None
        An object whose methods replace the callables: `init`, `forward`, one of the four gradient forms, `loss`,
        ``sample`` and ``inverse``, as needed; see :class:`Model`. Each method receives the arguments that it names
        after ``self``. If the object is a scikit-learn :class:`~sklearn.base.BaseEstimator`, `fit` trains a copy of it,
        and its hyperparameters can be set as ``model__n_hidden``.
    loss_and_gradient : callable, default=None
        ``loss_and_gradient(params, X, y) -> (loss, grads)`` returns the mean loss of the batch and its gradient
        together, so that they can share work. ``loss_and_gradient(params, x, y, out) -> loss`` does so for a single
        sample and writes its gradient into ``out``.
    vjp : callable, default=None
        ``vjp(params, X) -> (prediction, pullback)`` with ``pullback(d_prediction) -> grads``: `forward` and its
        adjoint, which is composed with `loss`.
    jacobian : callable, default=None
        ``jacobian(params, X) -> J``: derivative of `forward`, in the structure of the parameters. Each leaf has the
        shape of the parameter array, preceded by (n_samples,) or (n_samples, n_outputs). It is composed with `loss`.
    loss : str, Loss, callable or None, default={loss}
        A name (see :func:`~sk_analytic.get_loss_names`), an object such as ``Huber(epsilon=1.5)``, a function
        ``loss(params, X, y) -> float`` that returns the mean over the batch, or None. `vjp` and `jacobian` are
        composed with the loss; with `gradient`, the loss is used only for monitoring and the gradient check.
    model_params : dict, default=None
        Further arguments, passed to the callables that name them. Arguments that no callable names are passed to every
        ``**kwargs``. In a parameter grid, use ``model_params__n_hidden``. Arrays are passed read-only.
    reduction : {{"mean", "sum"}}, default="mean"
        Whether `gradient`, `loss_and_gradient` and a callable `loss` return the mean or the sum over the samples of the
        batch.
    additive : bool or "auto", default="auto"
        Whether the loss is a sum or mean over samples, as minibatches require. If False, a fit must use all samples in
        each step; otherwise it raises an error. "auto" compares the gradient of some samples with the gradients of
        their two halves before the first minibatch, and warns if they disagree. True and ``check_gradient=False`` skip
        this comparison.
    accept_sparse : bool or "auto", default="auto"
        Whether the callables can work with sparse X. If True, they receive it as CSR matrices; if False, a sparse X
        raises an error. "auto" is True for the default model of a regressor or a classifier and for a model object with
        the attribute ``accept_sparse = True``, and False if a callable of your own receives X.
    fixed : iterable of str, or dict of {{str: bool or ndarray of bool}}, default=()
        Parameters to hold fixed, by name: dict keys, fields of a named tuple, or positions in a tuple or list; join
        nested names with dots. A dict maps each name to a mask in the shape of the parameter array: True holds an
        entry at its starting value.
    numerical : iterable of str, default=()
        Parameters without an analytic gradient, by name. Their gradient is computed from finite differences of the
        loss, with two evaluations per entry in every step. A dict of gradients may omit them; in other structures, set
        their leaf to None. If all parameters are named, no gradient form is needed.
    bounds : dict of {{str: tuple (low, high)}}, default=None
        Lower and upper bounds of parameters, by name. Each bound is a number, an array that broadcasts to the
        parameter array, or None for no bound. The starting parameters must satisfy the bounds. "lbfgs", "tnc",
        "slsqp", "trust-constr", "trf" and "dogbox" support bounds natively; minibatch rules project the parameters
        onto them after each step.
    reparametrize : dict of {{str: str or Map}}, default=None
        Maps that keep parameters within a constraint, by name: "log" for positive numbers, "logit" for numbers between
        0 and 1, "simplex" for shares that sum to 1, "ordered" for increasing cutpoints, "cholesky" for lower triangular
        factors of covariances, or a :class:`~sk_analytic.maps.Map`. The callables, ``params_``, `alpha` and `bounds`
        refer to the constrained parameters; their gradient is pulled back through the map.
    alpha : float or dict, default=0.0
        Strength of the L2 penalty ``alpha / 2 * sum of squares``. A float applies to all parameters except the
        intercept of a default model; a dict gives the strength by parameter name.
    optimizer : str or Optimizer, default="auto"
        A name (see :func:`~sk_analytic.get_optimizer_names`) or an object. Set its hyperparameters as
        ``optimizer__learning_rate``. With "auto", `fit` chooses the first that applies, and ``optimizer_`` shows it:

        1. "adam" in `partial_fit`, in `fit_chunks` without a dask cluster, and, with ``array_api_dispatch``, for torch
           tensors and other array API arrays on any device, because the full-batch methods run in NumPy;
        2. "adam" if a callable draws random numbers (``rng``), if there is a gradient but no loss, or if `batch_size`
           is a number smaller than n_samples;
        3. "trf" for the `jacobian` form with the squared error, if the Jacobian has at most ten million entries;
        4. L-BFGS, ``LBFGS(maxcor=30)``, if n_samples times the number of parameters is at most five million, if the
           loss does not decompose over samples (``additive=False``), or if the data are on a dask cluster, where every
           step takes a round trip to the workers;
        5. "adam" otherwise.

        The default learning rate of "adam" is 0.01. Other libraries default to 0.001, which undertrains small data sets
        in the default 200 epochs.
    batch_size : int or "auto", default="auto"
        Number of samples in a minibatch; "auto" is min(200, n_samples). A full-batch optimizer evaluates all samples in
        one call by default, or in parts of this size, which are summed.
    max_iter : int or "auto", default="auto"
        Maximum number of epochs, or of iterations of a full-batch optimizer. "auto" is 200, and 1000 for the
        least-squares methods "lm", "trf" and "dogbox", because their iterations are cheap and some curves need a
        thousand.
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch and before holding some out for `early_stopping`. If False,
        samples keep their order and the last ones are held out.
    drop_last : bool, default=False
        Whether to drop the last minibatch of an epoch if it has fewer than `batch_size` samples. With `shuffle`, the
        dropped samples differ between epochs. Full-batch optimizers ignore it, as they sum over all samples.
    tol : float or None, default=1e-4
        Smallest improvement that counts, relative to the best loss so far, or to the total decrease since the
        first epoch if that is smaller. For full-batch optimizers, tolerance on the gradient relative to its spread over
        samples, which does not depend on units; for the least-squares methods, tolerance on the relative offset, which
        measures how far the residuals are from being orthogonal to the tangents of the curve. If None, training runs
        for ``max_iter`` epochs without a warning about convergence; a full-batch optimizer takes ``max_iter``
        iterations, or fewer if it cannot make further progress.
    n_iter_no_change : int or inf, default=10
        Number of epochs without improvement to wait before stopping. The monitored value is the validation score with
        `early_stopping`, otherwise the training loss, or the norm of the gradient if there is no loss. A NaN score
        does not count as an improvement; epochs without an update are not counted. If ``np.inf``, training runs for
        ``max_iter`` epochs, as with ``tol=None``.
    early_stopping : bool, default=False
        Whether to score validation samples after each epoch, stop when their score no longer improves, and keep the
        best parameters. The validation samples are held out from the training data (stratified by class; the last
        samples if ``shuffle=False``) or passed to `fit` as ``X_val``.
    scoring : str or callable, default=None
        Score of the validation samples: a name (see :func:`sklearn.metrics.get_scorer_names`) or a callable
        ``scorer(estimator, X, y)``; larger is better. A callable receives sample weights and metadata if it names
        them, and is called once before the first step. If None, {score} is used.
    validation_fraction : float, default=0.1
        Fraction of the samples to hold out for early stopping.
    local_steps : int, default=1
        For dask collections, number of steps of a minibatch rule that each chunk takes on its own before the parameters
        and the optimizer's state are averaged, as in local SGD. With 1, each minibatch is drawn from all chunks.
    worker_timeout : float, default=300.0
        Seconds to wait for the workers of a cluster while none of them answers. Must exceed the time of an evaluation.
    check_gradient : bool or "warn", default=True
        Whether to compare the analytic gradient with finite differences of the loss before the first step, and before a
        warm-started `fit` or `partial_fit` if the functions have changed. A wrong gradient raises an error, or a
        warning with "warn".
    random_state : int, RandomState instance or None, default=None
        Seed for the starting parameters, the shuffling, the validation split and the ``rng`` that callables receive.
    warm_start : bool, default=False
        Whether `fit` continues where the last one ended: it keeps the parameters, the optimizer's state, the number of
        epochs, and the count of epochs without improvement unless that count had stopped the fit. The count restarts if
        the loss, the penalty, the samples or the scoring have changed. A classifier must see the same classes as in the
        last fit. Two fits of 50 epochs equal one of 100, bit for bit, even if the estimator was saved and loaded
        in between. A full-batch optimizer restarts from the parameters, without its curvature estimate.
    verbose : int, default=0
        If nonzero, print progress after each epoch.{parameters}

    Attributes
    ----------
    params_ : structure
        Trained parameters, in the user's structure.
    loss_curve_ : list of float
        Objective (loss and penalty) of each epoch, averaged over its steps. The plain `gradient` form does not return a
        loss; for it, the objective of a fixed subset of the samples at the end of each epoch.
    loss_, best_loss_ : float or None
        Last and smallest value of `loss_curve_`.
    validation_scores_ : list of float or None
        Score of the validation samples after each epoch, with early stopping.
    best_validation_score_ : float or None
        Largest value of `validation_scores_`.
    gradient_norm_curve_ : list of float
        Norm of the gradient in each epoch, averaged over its steps; for a full-batch optimizer, at each iterate.
    n_iter_ : int
        Number of epochs since the parameters were initialized, or of iterations of a full-batch optimizer.
    n_steps_ : int
        Number of parameter updates.
    optimizer_ : Optimizer
        The optimizer used.
    optimizer_state_ : object or None
        State of the optimizer, read-only; use ``copy.deepcopy`` to train it further. None for a full-batch optimizer.
    optimizer_result_ : scipy.optimize.OptimizeResult
        Result of a full-batch optimizer.
    model_ : object
        The trained model object, if `model` was given.
    gradient_report_ : GradientReport
        Result of the gradient check.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of str
        Names of features seen during fit, if X has feature names.{attributes}
"""


def shares_parameters(
    *, loss: Any = inspect.Parameter.empty, parameters: str = "", attributes: str = "", **words: Any
) -> Callable[[Any], Any]:
    """Give a class the constructor that the estimators share, and its documentation in the place of ``{shared}``.

    Parameters
    ----------
    loss : str or None, optional
        Its default loss, if not that of the constructor.
    parameters, attributes : str, default=""
        Documentation of its further parameters and attributes.
    **words : str
        Text on `forward`, the default model and the score.
    """

    def fill(cls: Any) -> Any:
        if loss is not inspect.Parameter.empty:
            cls.__init__ = _with_default_loss(cls.__init__, loss)
        if "settings" in inspect.signature(cls.__init__).parameters:  # **settings, which it passes on
            cls.__init__.__signature__ = _extended(super(cls, cls).__init__, cls.__init__)
        default = inspect.signature(cls.__init__).parameters["loss"].default
        named = "None" if default is None else f'"{default}"'
        text = SHARED_DOC.format(loss=named, parameters=parameters, attributes=attributes, **words)
        readable(cls)
        if cls.__doc__:  # python -OO has none
            cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("{shared}", inspect.cleandoc(text))
        return cls

    return fill


def _with_default_loss(init: Any, loss: str | None) -> Any:
    """Return a constructor with another default loss."""
    twin: Any = types.FunctionType(init.__code__, init.__globals__, init.__name__, init.__defaults__, init.__closure__)
    twin.__kwdefaults__ = {**init.__kwdefaults__, "loss": loss}
    twin.__annotations__, twin.__qualname__ = init.__annotations__, init.__qualname__
    return twin


def _extended(shared: Any, own: Any) -> inspect.Signature:
    """Return the signature of a constructor that adds parameters to the shared ones, or gives them other defaults."""
    parameters = dict(inspect.signature(shared).parameters)
    parameters |= {p.name: p for p in inspect.signature(own).parameters.values() if p.kind is p.KEYWORD_ONLY}
    return inspect.Signature(list(parameters.values()))


def refuse_unknown(cls: Any, settings: Mapping[str, Any]) -> None:
    """Raise if an estimator is made with a parameter that its class does not have."""
    if not settings:  # also while the class is made, and may get another constructor
        return
    known = _parameters_of(cls)
    for name in sorted(settings.keys() - known):
        owner = name.partition("__")[0]
        if owner in known:  # of what is behind a name or an object
            raise TypeError(
                f"{cls.__name__} does not accept {name!r} on construction. {_how_to_set(cls, settings, name)}"
            )
        if takes_any(cls):
            raise TypeError(
                f"{cls.__name__} receives {name!r} through **kwargs of its __init__, where get_params does not see it, "
                f"so clone and searches would lose it. Name it in the signature: __init__(self, ..., {name}=...)."
            )
        nested = ELSEWHERE.get(name, "")
        can_be_set = nested.partition("__")[0] in known and "__" in nested
        optimizer = settings.get("optimizer", inspect.signature(cls).parameters.get("optimizer"))
        is_chosen = is_auto(getattr(optimizer, "default", optimizer)) and nested.startswith("optimizer__")
        made = f"{cls.__name__}({'optimizer=' + repr('adam') if is_chosen else ''})"
        how = f" Set it by {made}.set_params({nested}=...), or pass an object." if can_be_set else ""
        raise TypeError(f"{unknown_parameter(cls, name, sorted(known))}{how}")


def _how_to_set(cls: Any, settings: Mapping[str, Any], name: str) -> str:
    """Say how to set a parameter of an optimizer or a loss, or why it cannot be set on the one that is used."""
    own = {known: copy.deepcopy(value) for known, value in settings.items() if known in _parameters_of(cls)}
    owner = name.partition("__")[0]
    try:
        cls(**own).set_params(**{name: settings[name]})
    except (TypeError, ValueError) as error:
        return str(error)
    made = f"{cls.__name__}({f'{owner}=...' if owner in own else ''})"
    return f"Set it by {made}.set_params({name}={settings[name]!r}), or pass an object as {owner!r}."


@functools.cache
def _parameters_of(cls: Any) -> frozenset[str]:
    """Names of the parameters of a class."""
    return frozenset(cls._get_param_names())


def check_settings(estimator: Any) -> None:
    """Raise if a parameter of an estimator is outside its range."""
    owner = type(estimator).__name__
    if not vars(estimator).keys() >= RANGES.keys():
        raise TypeError(
            f"{owner}.__init__ must call super().__init__(...), which sets the parameters of its base class."
        )
    for name, allowed in RANGES.items():
        check_range(owner, name, getattr(estimator, name), allowed)
    for name in ("batch_size", "max_iter"):
        value = getattr(estimator, name)
        if not (is_auto(value) or Interval(1, np.inf, integral=True).admits(value)):
            raise ValueError(f"{owner}: {name} must be 'auto' or a whole number in [1, inf); got {value!r}.")
    scoring = estimator.scoring
    if scoring is not None:
        if not (isinstance(scoring, str) or callable(scoring)):
            raise ValueError(f"{owner}: scoring must be the name of a scorer, a callable or None; got {scoring!r}.")
        check_scoring(estimator, scoring=scoring)
    if not isinstance(estimator.verbose, bool):
        check_range(owner, "verbose", estimator.verbose, Interval(0, np.inf, integral=True))
    if not is_auto(estimator.optimizer):
        get_optimizer(estimator.optimizer).check()
