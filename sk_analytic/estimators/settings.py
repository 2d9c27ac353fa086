"""The parameters that the four estimators share: their documentation, their ranges, and what checks them."""

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

from ..hyperparameters import advice_on_hidden, is_auto, unknown_parameter
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
"""Parameters as other libraries call them, to ours; for messages."""


def trains_by_batches(estimator: Any) -> bool:
    """Raise unless the optimizer is one that partial_fit can go on with; a wrong name is for fit to refuse."""
    try:
        optimizer = None if is_auto(estimator.optimizer) else get_optimizer(estimator.optimizer)
    except (TypeError, ValueError):
        return True
    if isinstance(optimizer, FullBatch | Phases):
        kind = "a full-batch method" if isinstance(optimizer, FullBatch) else "a sequence of methods for one fit"
        raise AttributeError(
            f"optimizer={estimator.optimizer!r} is {kind}, which has no partial_fit: choose a minibatch rule such as "
            f"'adam', or call fit with all rows.{advice_on_hidden(type(estimator), 'optimizer')}"
        )
    return True


in_batches: Callable[[F], F] = available_if(trains_by_batches)
"""Decorates `partial_fit`: it is there where the optimizer goes from batch to batch."""


def where_given(role: str) -> Callable[[F], F]:
    """Return a decorator: a method is there where an estimator, or its default model, has a function of a role."""

    def is_given(estimator: Any) -> bool:
        functions = functions_of(estimator)
        if functions[role] is None and not (runs_default(functions) and role in estimator._default_model):
            raise AttributeError(
                f"This {type(estimator).__name__} has no function for that: give {PARAMETERS.get(role, role)}, or a "
                f"model object with the method {role}."
            )
        return True

    decorator: Callable[[F], F] = available_if(is_given)
    return decorator


SHARED_DOC = """
    Parameters
    ----------
    forward : callable, default=None
        ``forward(params, X) -> prediction``: {forward}.
        Further arguments are received by name. Where neither it nor a gradient is given, the model is
        {default}; a `vjp` may stand in for it.
    gradient : callable, default=None
        ``gradient(params, X, y) -> grads``: gradient of the mean loss of the batch, in the structure of
        the parameters; a leaf ``None`` is not trained, a pair ``(rows, values)`` or a sparse matrix updates some
        rows of a block alone. With an argument ``out``, ``gradient(params, x, y, out)``, it writes the gradient of one
        sample there. Exactly one of the four gradient forms is given, unless `numerical` names all blocks.
    init : callable or structure, default=None
        The starting parameters (dict, tuple, list, named tuple, nested or one array), or a function of
        those of ``n_features, n_outputs, rng, X, y, sample_weight`` and the model parameters that it names.
    model : object, default=None
        In place of callables, an object whose methods they are: `init`, `forward`, one of the four gradient forms,
        `loss`, ``sample``, ``inverse``, as far as it has them; see :class:`Model`. They receive what they name after
        ``self``. Of a scikit-learn object, `fit` trains a copy, and ``model__n_hidden`` is a parameter here.
    loss_and_gradient : callable, default=None
        ``loss_and_gradient(params, X, y) -> (loss, grads)``: the mean loss of the batch and its gradient together, so
        that they can share work; or ``loss_and_gradient(params, x, y, out) -> loss`` of one sample.
    vjp : callable, default=None
        ``vjp(params, X) -> (prediction, pullback)`` with ``pullback(d_prediction) -> grads``: adjoint of
        `forward`, composed with `loss`.
    jacobian : callable, default=None
        ``jacobian(params, X) -> J`` in the structure of the parameters, each leaf of shape
        (n, [k,] ...block): derivative of `forward`, composed with `loss`.
    loss : str, Loss, callable or None, default={loss}
        A name (see :func:`~sk_analytic.get_loss_names`), an object such as ``Huber(epsilon=1.5)``,
        ``loss(params, X, y) -> float`` (mean over the batch), or None. The forms `vjp` and `jacobian` are
        composed with it; for `gradient` it serves monitoring and the gradient check.
    model_params : dict, default=None
        Further arguments of the callables that name them; those that none names go to every ``**kwargs``. In a grid,
        ``model_params__n_hidden``. Arrays arrive read-only.
    reduction : {{"mean", "sum"}}, default="mean"
        What `gradient`, `loss_and_gradient` and a callable loss return, over the rows of the batch.
    additive : bool or "auto", default="auto"
        Whether the loss is a sum over rows (or their mean), as minibatches require. With False, a fit that does not
        take all rows in one step is refused. "auto" compares the gradient of some rows with those of their halves
        before the first minibatch, and warns if they disagree; True and ``check_gradient=False`` skip this.
    accept_sparse : bool or "auto", default="auto"
        Whether the callables can work with sparse X. If True, they receive it as CSR matrices; if False, a sparse X
        raises an error. "auto" is True for the default model of a regressor or a classifier and for a model object with
        the attribute ``accept_sparse = True``, and False if a callable of your own receives X.
    fixed : iterable of str, or dict of {{str: bool or ndarray of bool}}, default=()
        Blocks to hold fixed: dict keys, fields of a named tuple or positions in another one, joined by dots where
        nested. A dict maps a block to a mask of its shape: True holds an entry at its starting value.
    numerical : iterable of str, default=()
        Blocks for which there is no analytic gradient yet: theirs is made of differences of the loss, at two
        evaluations an entry in every step. A dict may leave them out; elsewhere their leaf is None. If all blocks are
        named, no gradient form is needed.
    bounds : dict of {{str: tuple (low, high)}}, default=None
        Lower and upper bounds of blocks, by name. Each is a number, an array that broadcasts to the block, or None for
        no bound. Training must start within them. "lbfgs", "tnc", "slsqp", "trust-constr", "trf" and "dogbox" support
        bounds natively; minibatch rules project the parameters onto them after each step.
    reparametrize : dict of {{str: str or Map}}, default=None
        Maps that keep a block within a constraint, by name: "log" for positive numbers, "logit" for numbers between 0
        and 1, "simplex" for shares that sum to 1, "ordered" for increasing cutpoints, "cholesky" for lower triangular
        factors of covariances, or a :class:`~sk_analytic.maps.Map`. The callables, ``params_``, `alpha` and `bounds`
        contain the parameters themselves; their gradient is pulled back through the map.
    alpha : float or dict, default=0.0
        Strength of the penalty ``alpha / 2 * sum of squares`` of all blocks (but not of the intercept of a
        default model), or by block name.
    optimizer : str or Optimizer, default="auto"
        A name (see :func:`~sk_analytic.get_optimizer_names`) or an object, whose hyperparameters can be set as
        ``optimizer__learning_rate``; or "auto", by which `fit` chooses, as ``optimizer_`` shows:

        1. "adam" in `partial_fit`, for chunks in this process, where a callable draws random numbers (``rng``), where
           there is no loss but a gradient, and where `batch_size` is a number smaller than n_samples;
        2. "trf" for the form `jacobian` with the squared error, if the Jacobian has at most ten million entries;
        3. L-BFGS, ``LBFGS(maxcor=30)``, if rows times parameters are at most five million, or
           if the loss is no sum over rows, and for dask collections, of which each step costs a message;
        4. "adam" for all else.

        The rate of "adam" is 0.01: the 0.001 of other libraries undertrains small data sets in the default 200 epochs.
    batch_size : int or "auto", default="auto"
        Rows of a minibatch; "auto" is min(200, n_samples). For a full-batch optimizer "auto" is one call
        with all rows, and a number the size of the parts that are summed.
    max_iter : int or "auto", default="auto"
        Epochs; iterations of a full-batch optimizer. "auto" is 200, and 1000 for the least-squares methods "lm", "trf"
        and "dogbox", whose iterations are cheap, and a thousand of which some curves need.
    shuffle : bool, default=True
        Whether to shuffle the rows before each epoch, and to draw those that `early_stopping` holds out. With False
        everything keeps the order in which it was given, and the last rows are held out.
    drop_last : bool, default=False
        Whether to leave out the last minibatch of an epoch if it has fewer than `batch_size` rows; with
        `shuffle`, these are other rows in each epoch. No effect on a full-batch optimizer, which sums all rows.
    tol : float or None, default=1e-4
        Smallest improvement that counts, as a share of the best loss so far, or of what has been gained since the
        first epoch if that is less. For full-batch optimizers the tolerance on the gradient over its spread from row to
        row, which does not depend on units; for the least-squares methods that on the relative offset, how far from
        right angles residuals are to the tangents of the curve.
        With None, ``max_iter`` epochs are the plan, and there is no warning that they were not enough; a full-batch
        optimizer takes ``max_iter`` iterations, or fewer if it can go no further.
    n_iter_no_change : int or inf, default=10
        Number of epochs without improvement to wait before stopping: of the validation score with `early_stopping`,
        else of the training loss, or of the gradient's norm if there is no loss. A score of NaN is no improvement,
        and epochs without an update do not count. With ``np.inf``, as with ``tol=None``, ``max_iter``
        epochs are the plan.
    early_stopping : bool, default=False
        Whether to score rows that do not train after each epoch, and keep the best parameters: rows held out
        here (each class in its share; the last rows with ``shuffle=False``), or the ``X_val`` of `fit`.
    scoring : str or callable, default=None
        What scores them: a name (see :func:`sklearn.metrics.get_scorer_names`) or a callable
        ``scorer(estimator, X, y)``; larger is better. It receives weights and metadata of the rows if it names
        them, and is called once before the first step. By default {score}.
    validation_fraction : float, default=0.1
        Share of the rows held out for early stopping.
    local_steps : int, default=1
        Of a dask collection, how many steps of a minibatch rule each chunk takes by itself before the parameters and
        the optimizer's state are averaged, as in local SGD. With 1, each step takes its share of every chunk.
    worker_timeout : float, default=300.0
        Seconds to wait for the workers of a cluster while none of them answers; longer than an evaluation takes.
    check_gradient : bool or "warn", default=True
        Whether to compare the analytic gradient with differences of the loss before the first step, and before a
        warm fit or `partial_fit` if the functions have changed. A wrong one is an error, or a warning.
    random_state : int, RandomState instance or None, default=None
        Seed of the starting parameters, the orders, the split and the callables' ``rng``.
    warm_start : bool, default=False
        Whether `fit` continues from where the last one ended: parameters, optimizer state, epochs, and the count of
        epochs without improvement if that had not yet stopped it. The count restarts if the loss, the penalty,
        the samples or the scoring have changed. The classes of a classifier must be those of the last fit. Two fits
        of 50 epochs are then one of 100, bit for bit, also if the estimator was saved and loaded in between. A
        full-batch optimizer restarts from the parameters, without what it knew of the curvature.
    verbose : int, default=0
        Print progress after each epoch.{parameters}

    Attributes
    ----------
    params_ : structure
        The trained parameters, in the user's structure.
    loss_curve_ : list of float
        The objective (loss and penalty) of each epoch: the mean over its steps. For the plain `gradient`
        form, which gives no loss, that of a fixed sample of rows at the end of each epoch.
    loss_, best_loss_ : float or None
        The last and the smallest entry of `loss_curve_`.
    validation_scores_ : list of float or None
        With early stopping, the score of the rows that do not train, epoch by epoch.
    best_validation_score_ : float or None
        The largest of them.
    gradient_norm_curve_ : list of float
        The norm of the gradient in each epoch: the mean over its steps, or that at the iterate of a full-batch
        optimizer.
    n_iter_ : int
        Epochs since the parameters were initialised; iterations of a full-batch optimizer.
    n_steps_ : int
        Updates of the parameters.
    optimizer_ : Optimizer
        The optimizer used.
    optimizer_state_ : object or None
        Its state, read-only; ``copy.deepcopy`` of it can be trained further. None for a full-batch optimizer.
    optimizer_result_ : scipy.optimize.OptimizeResult
        What a full-batch optimizer returned.
    model_ : object
        The model object that was trained, where one was given.
    gradient_report_ : GradientReport
        What the gradient check found.
    n_features_in_ : int
        Features seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had some.{attributes}
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
        Documentation of what it has beside.
    **words : str
        What the documentation says of `forward`, the default model and the score.
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
            raise TypeError(f"{cls.__name__} takes no {name!r} when it is made. {_how_to_set(cls, settings, name)}")
        if _takes_any(cls):
            raise TypeError(
                f"{cls.__name__} receives {name!r} in the ** of its __init__, where get_params does not see it and "
                f"clone and searches would lose it. Name it in the signature: __init__(self, ..., {name}=...)."
            )
        nested = ELSEWHERE.get(name, "")
        can_be_set = nested.partition("__")[0] in known and "__" in nested
        optimizer = settings.get("optimizer", inspect.signature(cls).parameters.get("optimizer"))
        is_chosen = is_auto(getattr(optimizer, "default", optimizer)) and nested.startswith("optimizer__")
        made = f"{cls.__name__}({'optimizer=' + repr('adam') if is_chosen else ''})"
        how = f" {made}.set_params({nested}=...) sets it, or pass an object." if can_be_set else ""
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
    return f"{made}.set_params({name}={settings[name]!r}) sets it, or pass an object as {owner!r}."


class SignatureOfInit:
    """The signature of a class: that of its ``__init__``, though it has a ``__new__`` too, which takes anything."""

    def __get__(self, instance: Any, owner: Any) -> inspect.Signature:
        signature = inspect.signature(owner.__init__)
        _, *parameters = signature.parameters.values()
        return signature.replace(parameters=parameters, return_annotation=signature.empty)


@functools.cache
def _parameters_of(cls: Any) -> frozenset[str]:
    """Names of the parameters of a class."""
    return frozenset(cls._get_param_names())


def _takes_any(cls: Any) -> bool:
    """Whether the constructor of a class takes keywords that it does not name."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def check_settings(estimator: Any) -> None:
    """Raise if a parameter of an estimator is outside its range."""
    owner = type(estimator).__name__
    if not vars(estimator).keys() >= RANGES.keys():
        raise TypeError(f"{owner}.__init__ has to call super().__init__(...), which sets the parameters of its base.")
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
