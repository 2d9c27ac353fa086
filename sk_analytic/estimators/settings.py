"""What the four estimators take: their parameters, with the documentation that they share."""

from __future__ import annotations

import copyreg
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import check_scoring
from sklearn.utils.metaestimators import available_if

from ..display import block, labelled
from ..hyperparameters import NamedParametersMixin
from ..importable import require_importable
from ..losses import Loss, get_loss
from ..optimizers import get_optimizer
from ..optimizers.base import Optimizer
from ..optimizers.phases import Phases
from ..optimizers.scipy_methods import FullBatch
from ..typing import (
    F,
    Forward,
    Gradient,
    Jacobian,
    LossAndGradient,
    LossFunction,
    Params,
    RandomState,
    Vjp,
)
from ..validation import Interval, Range, check_range
from .routing import RoutesMetadata


def trains_by_batches(estimator: EstimatorSettings) -> bool:
    """Raise unless the optimizer is one that partial_fit can go on with; a wrong name is for fit to refuse."""
    try:
        optimizer = get_optimizer(estimator.optimizer)
    except (TypeError, ValueError):
        return True
    if isinstance(optimizer, FullBatch | Phases):
        kind = "a full-batch method" if isinstance(optimizer, FullBatch) else "a sequence of methods for one fit"
        raise AttributeError(
            f"optimizer={estimator.optimizer!r} is {kind}, which has no partial_fit: choose a minibatch rule such as "
            "'adam', or call fit with all rows."
        )
    return True


in_batches: Callable[[F], F] = available_if(trains_by_batches)
"""Decorates `partial_fit`: it is there where the optimizer goes from batch to batch."""

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
        rows of a block alone. Exactly one of the four gradient forms is given.
    init : callable or structure, default=None
        The starting parameters (dict, tuple, list, named tuple, nested or one array), or a function of
        those of ``n_features, n_outputs, rng, X, y, sample_weight`` and the model parameters that it names.
    loss_and_gradient : callable, default=None
        ``loss_and_gradient(params, X, y) -> (loss, grads)``: likewise, sharing the work with the value.
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
        Further arguments of the callables, by name; in a grid ``model_params__n_hidden``.
    reduction : {{"mean", "sum"}}, default="mean"
        What `gradient`, `loss_and_gradient` and a callable loss return, over the rows of the batch.
    fixed : iterable of str, default=()
        Blocks that are not trained: dict keys, fields of a named tuple or positions in another one, joined by
        dots where nested.
    numerical : iterable of str, default=()
        Blocks for which there is no analytic gradient yet: theirs is made of differences of the loss, at two
        evaluations an entry in every step. A dict may leave them out; elsewhere their leaf is None.
    alpha : float or dict, default=0.0
        Strength of the penalty ``alpha / 2 * sum of squares`` of all blocks (but not of the intercept of a
        default model), or by block name.
    optimizer : str or Optimizer, default="adam"
        A name (see :func:`~sk_analytic.get_optimizer_names`) or an object; its hyperparameters can be set
        as ``optimizer__learning_rate``. The rate of "adam" is 0.01 here: the 0.001 usual elsewhere
        undertrains in 200 epochs of a small data set.
    batch_size : int or "auto", default="auto"
        Rows of a minibatch; "auto" is min(200, n_samples). For a full-batch optimizer "auto" is one call
        with all rows, and a number the size of the parts that are summed.
    max_iter : int, default=200
        Epochs; iterations of a full-batch optimizer.
    shuffle : bool, default=True
        Whether to draw a new order of the rows for each epoch.
    tol : float, default=1e-4
        An epoch that does not gain more is no improvement. For full-batch optimizers the tolerance on the
        gradient.
    n_iter_no_change : int, default=10
        Training stops after more than so many epochs in a row without improvement of the training loss, of
        the validation score, or of the gradient's norm where there is no loss. NaN is no improvement.
    early_stopping : bool, default=False
        Whether to score rows that do not train after each epoch, and keep the best parameters: rows held out
        here (each class in its share), or the ``X_val`` of `fit`.
    scoring : str or callable, default=None
        What scores them: a name (see :func:`sklearn.metrics.get_scorer_names`) or a callable
        ``scorer(estimator, X, y)``; larger is better. It receives weights and metadata of the rows if it names
        them, and is called once before the first step. By default {score}.
    validation_fraction : float, default=0.1
        Share of the rows held out for early stopping.
    check_gradient : bool or "warn", default=True
        Whether to compare the analytic gradient with differences of the loss before the first step. A wrong
        one is an error, or a warning.
    random_state : int, RandomState instance or None, default=None
        Seed of the starting parameters, the orders, the split and the callables' ``rng``.
    warm_start : bool, default=False
        Whether `fit` goes on from where the last one ended: parameters, optimizer state, epochs, and the count of
        epochs without improvement if that had not yet stopped it. Two fits of 50 epochs then are one of 100, to
        the bit, also if the estimator was in a file meanwhile. A full-batch optimizer begins anew at the
        parameters: what it knew of the curvature is not kept.
    verbose : int, default=0
        Whether to print a line an epoch.{parameters}

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
        Its state; None for a full-batch optimizer.
    optimizer_result_ : scipy.optimize.OptimizeResult
        What a full-batch optimizer returned.
    gradient_report_ : GradientReport
        What the gradient check found.
    n_features_in_ : int
        Features seen in fit.
    feature_names_in_ : ndarray of str
        Their names, where X had some.{attributes}
"""


def shares_parameters(*, parameters: str = "", attributes: str = "", **words: Any) -> Callable[[Any], Any]:
    """Fill ``{shared}`` in a class's docstring: the four estimators have most parameters in common."""

    def fill(cls: Any) -> Any:
        default = inspect.signature(cls.__init__).parameters["loss"].default
        loss = "None" if default is None else f'"{default}"'
        shared = SHARED_DOC.format(loss=loss, parameters=parameters, attributes=attributes, **words)
        if cls.__doc__:  # python -OO has none
            cls.__doc__ = inspect.cleandoc(cls.__doc__).replace("{shared}", inspect.cleandoc(shared))
        return cls

    return fill


class EstimatorSettings(RoutesMetadata, NamedParametersMixin, BaseEstimator):
    """Parameters, and what can be said of them before there are data."""

    _named = {"optimizer": get_optimizer, "loss": get_loss}
    _dictionaries = ("model_params",)
    _default_model: Mapping[str, Callable[..., Any]]
    _ranges: Mapping[str, Range] = {
        "reduction": ("mean", "sum"),
        "max_iter": Interval(1, np.inf, integral=True),
        "shuffle": bool,
        "tol": Interval(0, np.inf),
        "n_iter_no_change": Interval(1, np.inf),
        "early_stopping": bool,
        "validation_fraction": Interval(0, 1, closed="neither"),
        "check_gradient": (True, False, "warn"),
        "warm_start": bool,
    }

    def __init__(
        self,
        forward: Forward | None = None,
        gradient: Gradient | None = None,
        init: Params | Callable[..., Params] | None = None,
        *,
        loss_and_gradient: LossAndGradient | None = None,
        vjp: Vjp | None = None,
        jacobian: Jacobian | None = None,
        loss: str | Loss | LossFunction | None = "squared_error",
        model_params: dict[str, Any] | None = None,
        reduction: str = "mean",
        fixed: Iterable[str | int] = (),
        numerical: Iterable[str | int] = (),
        alpha: float | dict[str, float] = 0.0,
        optimizer: str | Optimizer | FullBatch | Phases = "adam",
        batch_size: int | str = "auto",
        max_iter: int = 200,
        shuffle: bool = True,
        tol: float = 1e-4,
        n_iter_no_change: float = 10,
        early_stopping: bool = False,
        scoring: str | Callable[..., float] | None = None,
        validation_fraction: float = 0.1,
        check_gradient: bool | str = True,
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int = 0,
    ) -> None:
        self.forward = forward
        self.gradient = gradient
        self.init = init
        self.loss_and_gradient = loss_and_gradient
        self.vjp = vjp
        self.jacobian = jacobian
        self.loss = loss
        self.model_params = model_params
        self.reduction = reduction
        self.fixed = fixed
        self.numerical = numerical
        self.alpha = alpha
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.scoring = scoring
        self.validation_fraction = validation_fraction
        self.check_gradient = check_gradient
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def _check_parameters(self) -> None:
        for name, allowed in self._ranges.items():
            check_range(type(self).__name__, name, getattr(self, name), allowed)
        if not (self.batch_size == "auto" or Interval(1, np.inf, integral=True).admits(self.batch_size)):
            raise ValueError(
                f"{type(self).__name__}: batch_size must be 'auto' or a whole number in [1, inf); "
                f"got {self.batch_size!r}."
            )
        if self.scoring is not None:
            if not (isinstance(self.scoring, str) or callable(self.scoring)):
                raise ValueError(
                    f"{type(self).__name__}: scoring must be the name of a scorer, a callable or None; "
                    f"got {self.scoring!r}."
                )
            check_scoring(self, scoring=self.scoring)
        if not isinstance(self.verbose, bool):
            check_range(type(self).__name__, "verbose", self.verbose, Interval(0, np.inf, integral=True))

    # pickle, copy and what rests on them ask the first of these, and copy functions in their own ways; skops asks the
    # second.

    @classmethod
    def _default_loss(cls) -> Any:
        return inspect.signature(cls.__init__).parameters["loss"].default

    def _loss_is_callable(self) -> bool:
        return callable(self.loss) and not isinstance(self.loss, type)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[Any, ...]:
        require_importable(self)
        return self.__reduce_ex__(2)

    def _sk_visual_block_(self) -> Any:
        optimizer = get_optimizer(self.optimizer)
        return block("parallel", labelled({"optimizer": optimizer}))
