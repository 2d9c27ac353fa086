"""From samples to what is trained: the callables bound, the objective, the starting θ, and a first look at them."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sklearn.base import clone
from sklearn.utils import check_random_state

from ..data.batch import CHECK, INIT, Batch
from ..data.chunks import ChunkRows
from ..data.rows import Rows
from ..data.telling import is_telling
from ..exceptions import ParameterStructureError, noted
from ..losses import Loss, get_loss
from ..model.callables import Model
from ..model.gradient_forms import GRADIENT_FORMS
from ..objective import Objective
from ..optimizers.scipy_methods import FullBatch
from ..parameters import Layout, Parameters, listed_shapes
from ..training.session import Training
from ..typing import Array, RandomState

CHECKED_SAMPLES = 50  # for the gradient check if a batch is everything


def own(find: Callable[[Any], Any], given: Any) -> Any:
    """Return the object that a name stands for, or a copy of the one that was given."""
    found = find(given)
    return clone(found) if found is given else found


def draw_seed(random_state: RandomState) -> int:
    """Return the seed of everything random in a fit."""
    return _seed_of(random_state) if type(random_state) is int else _drawn(random_state)


def _drawn(random_state: RandomState) -> int:
    return int(check_random_state(random_state).randint(2**31 - 1))


_seed_of = functools.lru_cache(_drawn)  # a number always gives the same seed; making its generator takes 0.1 ms


def bind(settings: Any, columns: Iterable[str]) -> Model:
    """Bind the callables of an estimator to the columns at hand."""
    return Model.bind(
        forward=settings.forward,
        forms={form: getattr(settings, form) for form in GRADIENT_FORMS},
        init=settings.init,
        default=settings._default_model,
        loss=settings.loss if settings._loss_is_callable() else None,
        columns=columns,
        model_params=settings.model_params,
    )


def make_objective(settings: Any, model: Model, columns: Mapping[str, Array], layout: Layout) -> Objective:
    """Return what an estimator minimises."""
    return Objective(
        model,
        _named_loss(settings, columns, model),
        layout,
        alpha=settings.alpha,
        unpenalized=("intercept",) if model.uses_defaults else (),
        reduction=settings.reduction,
        fixed=settings.fixed,
        numerical=settings.numerical,
    )


def _named_loss(settings: Any, columns: Mapping[str, Array], model: Model) -> Loss | None:
    """The loss by name, or None; its domain is looked at here, once a fit."""
    if settings.loss is None or settings._loss_is_callable():
        if model.gradient_form.composes_loss:
            composed = "the default model" if model.uses_defaults else model.form
            raise ValueError(
                f"loss={settings.loss!r} cannot be composed with {composed}, which needs the loss's derivative: give a "
                "name or a Loss object. A callable loss goes with gradient."
            )
        return None
    loss: Loss = own(get_loss, settings.loss)
    loss.check()
    settings._check_loss(loss, columns)
    return loss


def require_weights_accepted(model: Model, weight: Array | None) -> None:
    """Raise if samples are weighted, but a callable that returns means does not know of weights."""
    if weight is None:
        return
    receivers = [model.gradient] if not model.gradient_form.composes_loss else []
    for receiver in [*receivers, *([model.loss] if model.loss is not None else [])]:
        if "sample_weight" not in receiver.accepts:
            raise ValueError(
                f"Rows are weighted (sample_weight or class_weight), but {receiver.role} does not accept "
                f"sample_weight: add the argument to it, {receiver.role}(params, X, ..., sample_weight=None), "
                f"and return {'' if receiver.role == 'loss' else 'the gradient of '}the mean over rows of weight "
                "times loss."
            )


def require_suitable(objective: Objective, phases: Iterable[Any], rows: Iterable[Rows], weighted: bool) -> None:
    """Raise if an objective cannot be had in the way in which methods or rows ask for it."""
    if any(isinstance(method, FullBatch) for method, _ in phases):
        objective.require_value()
    if weighted:
        objective.require_weighable()
    loss = objective.loss
    if loss is None or loss.additive:
        return
    for each in rows:
        if each.steps_per_epoch > 1:
            raise ValueError(
                f"{type(loss).__name__} is no sum over rows, so it needs all of them at once: use a "
                f"full-batch optimizer such as 'lbfgs', or batch_size >= {each.n_samples}; of chunks, one chunk."
            )


def starting_theta(model: Model, first: Batch, seed: int, n_outputs: int) -> Parameters:
    """Return what `init` says, in the dtype of X."""
    dtype = first.X.dtype
    sizes = {"n_features": first.X.shape[1], "n_outputs": n_outputs}
    start = first.with_columns(sizes, (seed, INIT, 0, 0))
    structure = model.starting_params(start)
    layout = Layout.of(structure, dtype, "init")
    if model.default_init is not None:
        expected = Layout.of(model.default_init(None, start), dtype)
        if set(layout.names) != set(expected.names):
            raise ParameterStructureError(
                f"init has blocks {', '.join(map(repr, layout.names))}. No callables are given, and the default "
                f"model has {listed_shapes(expected.shape_of())}: start from those, or give forward and a gradient."
            )
    return Parameters(layout, layout.flatten(structure, "init"))


def read_params(layout: Layout, params: Any) -> Parameters:
    """Return ``params_``, which the user may have set, in the layout of the fit."""
    try:
        return Parameters(layout, layout.flatten(params, "params_"))
    except ParameterStructureError as error:
        came, fitted = Layout.of(params, role="params_").shape_of(), layout.shape_of()
        if came == fitted:
            raise
        raise ParameterStructureError(
            f"params_ has {listed_shapes(came)}; the fit had {listed_shapes(fitted)}. What is set by hand has the "
            "blocks and shapes of the fit; others are where a new training begins: init=params."
        ) from error


def batching(settings: Any, method: Any, seed: int) -> dict[str, Any]:
    """How a method takes its samples."""
    full_batch = isinstance(method, FullBatch)
    batch_size: int | str | None = settings.batch_size
    if batch_size == "auto":
        batch_size = None if full_batch else 200
    return {"batch_size": batch_size, "shuffle": settings.shuffle and not full_batch, "seed": seed}


def look_at(settings: Any, training: Training, rows: Rows) -> None:
    """Before the first step: does the prediction fit, is the gradient right?"""
    objective, theta, targets = training.objective, training.theta, training.targets
    check_gradient = settings.check_gradient
    batch = rows.first.everything.head(CHECKED_SAMPLES).read_only() if check_gradient is False else batch_to_check(rows)
    try:
        with noted("In the first look at the callables, before the first step."):
            prediction = objective.predictions(theta.structure, batch)
    except ValueError as error:
        if check_gradient is False or "read-only" not in str(error):
            raise  # else the check will say which of its arguments `forward` writes to
    else:
        targets.learn(prediction)
        targets.check_prediction(prediction)
    _warn_of_differencing(objective)
    if check_gradient is False:
        return
    from ..gradient_check import require_right

    training.report = require_right(
        objective,
        theta,
        batch,
        seed=training.seed,
        preface=_preface(settings, objective),
        only_warn=check_gradient == "warn",
    )
    training.is_checked = not objective.has_value or (bool(training.report.findings) and is_telling(batch.X))


def _preface(settings: Any, objective: Objective) -> str:
    """What to say before the report on a wrong gradient: it may belong to another loss than the default."""
    if objective.model.gradient_form.gives_value or objective.loss is None or settings.loss != settings._default_loss():
        return ""
    return (
        f"The gradient was compared with loss={settings.loss!r}, which is the default. If it belongs to another "
        "loss, name that, pass your own, loss=function(params, X, ...), or pass None for no comparison. "
    )


def second_opinion(training: Training) -> str:
    """What the gradient check says at the start of the phase, and where it failed."""
    from ..gradient_check import second_opinion as opinion_at

    thetas = (training.phase_start, training.theta)
    return opinion_at(training.objective, thetas, batch_to_check(training.rows), seed=training.seed)


def batch_to_check(rows: Rows) -> Batch:
    """One batch of the training shape; a few samples if that is everything."""
    first = rows.telling if isinstance(rows, ChunkRows) else rows.first
    return first.sample(1, CHECK, batch_size=CHECKED_SAMPLES if first.steps_per_epoch == 1 else None)[0]


def _warn_of_differencing(objective: Objective) -> None:
    """Say what blocks without an analytic gradient cost."""
    if objective.numerical:
        layout = objective.layout
        names = ", ".join(repr(layout.names[i]) for i in objective.numerical)
        n_entries = sum(math.prod(layout.shapes[i]) for i in objective.numerical)
        warnings.warn(
            f"numerical: the gradient of {names} is made of differences, at {2 * n_entries} evaluations of the loss a "
            "step. Derive it when the rest is right.",
            UserWarning,
            stacklevel=6,
        )
