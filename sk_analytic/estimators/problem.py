"""From samples to a training problem: the bound callables, the objective, the starting θ, and a first check of them."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from types import MethodType
from typing import Any

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured
from sklearn.base import clone
from sklearn.utils import check_random_state

from ..constraints import constrained, read_fixed
from ..data.batch import CHECK, INIT, MONITOR, Batch
from ..data.rows import BatchedRows, Rows
from ..data.telling import is_telling
from ..elsewhere import TO_HOST, structure_on_host
from ..exceptions import ParameterStructureError, noted
from ..hyperparameters import advice_on_hidden, is_auto
from ..least_squares import Residuals
from ..losses import Loss, get_loss, linked_mean
from ..model.argument_names import OF_VALIDATION, means
from ..model.callables import Callables, Receiver, is_function
from ..model.default_models import autoencoder_init
from ..model.gradient_forms import GRADIENT_FORMS
from ..model.roles import functions_of, require_complete, to_train
from ..objective import Objective
from ..optimizers.phases import phases_of
from ..optimizers.scipy_methods import FullBatch
from ..parameters import Layout, Parameters, listed_shapes
from ..training.session import Training
from ..typing import Array, RandomState

MOST, MOST_OF_LEAST_SQUARES = 200, 1000  # iterations
CHECKED_SAMPLES = 53  # for the gradient check if a batch is everything, and the model allows it; no usual batch size


def own(find: Callable[[Any], Any], given: Any) -> Any:
    """Return the object with a name, or a copy of the object that was passed."""
    found = find(given)
    return clone(found) if found is given else found


def draw_seed(random_state: RandomState) -> int:
    """Return the seed of everything random in a fit."""
    return _seed_of(random_state) if type(random_state) is int else _drawn(random_state)


def _drawn(random_state: RandomState) -> int:
    return int(check_random_state(random_state).randint(2**31 - 1))


_seed_of = functools.lru_cache(_drawn)  # a number always gives the same seed; making its generator takes 0.1 ms


def bind(settings: Any, columns: Iterable[str], before: Callables | None) -> Callables:
    """Bind the callables of an estimator to the columns at hand; a training that goes on keeps its model object."""
    model = to_train(settings.model, None if before is None else before.of)
    functions = functions_of(settings, model)
    if any(getattr(function, "__self__", None) is settings for function in functions.values()):
        settings_of_fit = settings._unfitted()  # what is set later is for a later fit
        functions = {role: rebound(function, settings, settings_of_fit) for role, function in functions.items()}
    by_differences = not isinstance(settings.numerical, Sized) or len(settings.numerical) > 0
    if model is not None:
        require_complete(settings, functions, by_differences)
    loss = functions["loss"]
    return Callables.bind(
        forward=functions["forward"],
        forms={form: functions[form] for form in GRADIENT_FORMS},
        init=functions["init"],
        default=settings._default_model,
        loss=loss if is_function(loss) else None,
        named_loss=_named_loss(settings),
        columns=columns,
        model_params=settings.model_params,
        by_differences=by_differences,
        sample=functions["sample"] if hasattr(type(settings), "sample") else None,
        inverse=functions["inverse"] if hasattr(type(settings), "inverse_transform") else None,
        of=model,
    )


def rebound(function: Any, old: object, new: object) -> Any:
    """Return the method of another object for one of an object, and everything else as it is."""
    is_method = isinstance(function, MethodType) and function.__self__ is old
    return MethodType(function.__func__, new) if is_method else function


def make_objective(settings: Any, model: Callables, layout: Layout) -> Objective:
    """Return what an estimator minimizes."""
    if model.named_loss is None and model.gradient_form.composes_loss:
        composed = "the default model" if model.uses_defaults else model.form
        raise ValueError(
            f"loss={settings._trained_loss!r} cannot be composed with {composed}, which needs the loss's derivative. "
            "Pass a loss by name or a Loss object. A callable loss requires gradient, or all parameters in numerical."
        )
    return Objective(
        model,
        model.named_loss,
        layout,
        alpha=settings.alpha,
        unpenalized=("intercept",) if model.uses_defaults else (),
        reduction=settings.reduction,
        fixed=read_fixed(layout, settings.fixed).blocks,
        numerical=settings.numerical,
        additive=settings.additive,
    )


def constrained_by(settings: Any, theta: Parameters) -> Parameters:
    """Return θ as the bounds, maps and masks of an estimator let training move it."""
    return constrained(theta, settings.fixed, settings.bounds, settings.reparametrize)


def _named_loss(settings: Any) -> Loss | None:
    """The loss by name, or None."""
    given = settings._trained_loss
    if given is None or is_function(given):
        return None
    loss: Loss = own(get_loss, given)
    loss.check()
    return loss


def criterion(settings: Any, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what epochs are judged by: the samples that train, or held-out ones and who scores them."""
    passed = {name: value for name, value in fingerprint.items() if name.endswith(OF_VALIDATION)}
    others = {name: value for name, value in fingerprint.items() if name not in passed}
    if not settings.early_stopping:
        return others
    held_out = passed or {**others, "validation_fraction": settings.validation_fraction, "shuffle": settings.shuffle}
    return {"scoring": settings.scoring, **held_out}


def require_weights_accepted(model: Callables, weight: Array | None) -> None:
    """Raise if samples are weighted, but a callable that returns means does not know of weights."""
    if weight is not None:
        require_accepts_weights(None if model.gradient_form.composes_loss else model.gradient, model.loss)


def require_accepts_weights(*receivers: Receiver | None) -> None:
    """Raise if a callable that returns means does not know of weights."""
    for receiver in receivers:
        if receiver is not None and not receiver.weighs:
            other = next((name for name in sorted(receiver.accepts) if means(name) == "sample_weight"), None)
            renamed = f" Rename its argument {other!r}, which does not receive them." if other else ""
            raise ValueError(
                f"Samples are weighted (sample_weight or class_weight), but {receiver.role} does not accept "
                f"sample_weight. Add the argument, {receiver.role}(params, X, ..., sample_weight=None), "
                f"and return {'' if receiver.role == 'loss' else 'the gradient of '}the mean over samples of weight "
                f"times loss.{renamed}"
            )


def require_suitable(
    objective: Objective, theta: Parameters, phases: Iterable[Any], rows: Iterable[Rows], weighted: bool
) -> None:
    """Raise if an objective cannot be had in the way in which methods or rows ask for it."""
    for method, _ in phases:
        if isinstance(method, FullBatch):
            if theta.limits is not None:
                method.require_bounded()
            objective.require_value()
            if method.residuals:
                Residuals(objective)  # raises for another form or loss
    if weighted:
        objective.require_weighable()
    if objective.additive is not False:
        return
    for each in rows:
        if each.batch_size < each.n_samples:
            loss = objective.loss
            declared = f"{type(loss).__name__}" if loss is not None and not loss.additive else "The loss"
            raise ValueError(
                f"{declared} does not decompose over samples (additive=False), so each step needs all of them. Use a "
                f"full-batch optimizer such as 'lbfgs', or batch_size >= {each.n_samples}. Chunks, including those of "
                "a dask collection, must be joined into one."
            )


def refuse_elsewhere(settings: Any, objective: Objective, theta: Parameters, optimizer: Any) -> None:
    """Raise if a fit uses something that only works with NumPy arrays, but X is an array of another namespace."""
    scipy_methods = [m for m, _ in phases_of(optimizer, 1) if isinstance(m, FullBatch)]
    if scipy_methods:
        what = f"optimizer={scipy_methods[0]!r} only works with NumPy arrays. Use a minibatch rule such as 'adam'."
    elif theta.is_mapped or theta.limits is not None:
        what = "bounds, reparametrize and masks in fixed only work with NumPy arrays. Leave them out."
    elif objective.model.gradient is not None and objective.model.gradient.is_per_sample:
        what = (
            f"{objective.model.form} of a single sample (with an argument 'out') only works with NumPy arrays. Compute "
            "the gradient of whole batches, without 'out'."
        )
    elif objective.numerical:
        what = "numerical only works with NumPy arrays. Return the gradient of every parameter."
    elif settings.early_stopping and settings.scoring is not None:
        what = "scoring only works with NumPy arrays. Set scoring=None."
    else:
        return
    raise TypeError(f"X is an array of {theta.layout.place}, but {what} Alternatively: {TO_HOST}")


def starting_theta(model: Callables, data: Any, seed: int) -> Parameters:
    """Return what `init` says, in the dtype of X; the intercept of a default model starts where y is."""
    first, n_outputs = data.first, data.targets.n_outputs
    dtype = first.X.dtype
    sizes = {"n_features": first.X.shape[1], "n_outputs": n_outputs}
    start = first.with_columns(sizes, (seed, INIT, 0, 0))
    structure: Any = model.starting_params(start)
    loss = model.named_loss
    if model.uses_defaults and model.default_init is None and loss is not None and loss.has_link:
        link = "log" if data.targets.by_class else loss.link  # of frequencies, which softmax makes of their logarithms
        start_of_y = linked_mean(link, data.mean_target, data.extent.n)
        structure["intercept"] = start_of_y.item() if n_outputs == 1 else start_of_y.ravel()
    if getattr(model.init, "function", None) is autoencoder_init:
        mean = data.mean_row  # which has no gradient: that of the first chunk would stay
        structure["mean"] = structure["mean"] if mean is None else mean
    layout = Layout.of(structure, dtype, "init")
    if model.default_init is not None:
        expected = Layout.of(model.default_init(None, start), dtype)
        if set(layout.names) != set(expected.names):
            raise ParameterStructureError(
                f"init has parameters {', '.join(map(repr, layout.names))}. No callables are given, and the default "
                f"model has {listed_shapes(expected.shape_of())}. Use these names and shapes in init, or pass forward "
                "and a gradient."
            )
    return Parameters(layout, layout.flatten(structure, "init"))


def read_params(layout: Layout, params: Any) -> Parameters:
    """Return ``params_``, which the user may have set, in the layout of the fit."""
    try:
        return Parameters(layout, layout.flatten(params, "params_"))
    except ParameterStructureError as error:
        params = params if layout.place is None else structure_on_host(params)
        came, fitted = Layout.of(params, role="params_").shape_of(), layout.shape_of()
        if came == fitted:
            raise
        raise ParameterStructureError(
            f"params_ has {listed_shapes(came)}; the fit had {listed_shapes(fitted)}. If you set params_, keep the "
            "names and shapes of the fit. To train from other parameters, pass them as init=params."
        ) from error


def iterations(settings: Any, optimizer: Any) -> int:
    """How many iterations or epochs a fit takes at most."""
    if not is_auto(settings.max_iter):
        return int(settings.max_iter)
    return MOST_OF_LEAST_SQUARES if isinstance(optimizer, FullBatch) and optimizer.residuals else MOST


def batching(settings: Any, method: Any, seed: int) -> dict[str, Any]:
    """How a method takes its samples."""
    full_batch = isinstance(method, FullBatch)
    batch_size: int | str | None = settings.batch_size
    if is_auto(batch_size):
        batch_size = None if full_batch else 200
    by_minibatches = {"shuffle": settings.shuffle, "drop_last": settings.drop_last}
    return {"batch_size": batch_size, "seed": seed} | ({} if full_batch else by_minibatches)


def no_step_takes_all(settings: Any, data: Any, optimizer: Any) -> bool:
    """Whether each step of a training has some of the samples only, so that no model can need all at once."""
    methods = [method for method, _ in phases_of(optimizer, iterations(settings, optimizer))]
    return not any(data.is_a_step(batching(settings, method, 0)["batch_size"]) for method in methods)


def look_at(settings: Any, training: Training, rows: Sequence[Rows]) -> None:
    """Before the first step: does the prediction fit, is the gradient right, is the loss a sum over rows?"""
    if training.objective.layout.place is not None:  # functions of the user's can be called from the host as well
        here = training.on_host()
        look_at(settings, here, [each.on_host() for each in rows])  # type: ignore[attr-defined]
        training.report, training.is_checked = here.report, here.is_checked
        return
    objective, theta, targets = training.objective, training.theta, training.targets
    check_gradient = settings.check_gradient
    first = rows[0].telling
    step = rows_of_a_step(first)
    prediction: Array | None = None
    try:
        with noted("While checking the callables, before the first step."):
            prediction = objective.predictions(theta.structure, step)
    except ValueError as error:
        if check_gradient is False or "read-only" not in str(error):
            raise  # else the check will say which of its arguments `forward` writes to
    else:
        targets.learn(prediction)
        targets.check_prediction(prediction)
    _warn_of_differencing(objective)
    if check_gradient is not False:
        from ..gradient_check import require_right

        batch = batch_to_check(objective, theta, first, step, prediction)
        training.report = require_right(
            objective,
            theta,
            batch,
            n_elsewhere=_of_another_size(first, batch),
            seed=training.seed,
            advice=_about_the_default_loss(settings, objective),
            only_warn=check_gradient == "warn",
        )
        training.is_checked = not objective.has_value or (bool(training.report.findings) and is_telling(batch.X))
        _warn_of_coupling(settings, training, rows)
    local = next((each for each in rows if each.local_steps > 1), None)
    if local is not None:
        from ..training.local_steps import warn_of_differences

        warn_of_differences(objective, theta, local, targets)


def _of_another_size(first: BatchedRows, batch: Batch) -> int | None:
    """How many rows of a batch to look at once more, in a number that training meets too; None if there is none.

    What is compiled for each shape, as by jax, is compiled for no other than that of batches and of the last one.
    """
    if first.batch_size >= first.n_samples:
        return batch.n if batch.n < first.n_samples else None
    last = first.n_of(0, first.steps_per_epoch - 1)
    return last if last < min(batch.n, first.batch_size) else None


def _warn_of_coupling(settings: Any, training: Training, rows: Sequence[Rows]) -> None:
    """Warn if the loss does not decompose over samples but there are several batches, unless ``additive`` is given."""
    several = [each for each in rows if each.batch_size < each.n_samples]
    if training.objective.additive != "auto" or not several:
        return
    from ..gradient_check import coupling

    first = several[0].telling
    size = first.batch_size
    batch = first.sample(1, MONITOR, batch_size=2 * size)[0]
    other_size = _of_another_size(first, batch)
    found = coupling(training.objective, training.theta, batch, size=size, other_size=other_size, seed=training.seed)
    if found is None:
        return
    loss, other = found.losses
    of_loss = "" if math.isnan(loss) else f" (the loss is {loss:.4g}, then {other:.4g})"
    what = "gradient" if found.block else "change along θ"
    where = f" in parameter {found.block!r}" if found.block else ""
    message = (
        f"The loss does not decompose over samples: its {what} on {found.n} samples changes by "
        f"{found.disagreement:.1%}{where} if they are in other batches{of_loss}. Batches of "
        f"{several[0].batch_size} samples therefore "
        f"train another loss. Use batch_size >= {several[0].n_samples} or a full-batch optimizer such as 'lbfgs', and "
        "declare additive=False. If you intend to train the loss of a batch, as with batch normalization, pass "
        "additive=True to skip this comparison."
    )
    warnings.warn(f"{message}{advice_on_hidden(type(settings), message)}", UserWarning, stacklevel=7)


def _about_the_default_loss(settings: Any, objective: Objective) -> str:
    """What to say if a report leaves the cause open: the gradient may belong to another loss than the default."""
    loss = settings._trained_loss
    if objective.model.gradient_form.gives_value or objective.loss is None or loss != settings._default_loss():
        return ""
    return (
        f"The gradient was checked against the default loss={loss!r}. If it is the gradient of another loss, pass that "
        "loss by name or as a function, loss(params, X, ...), or pass loss=None to skip the comparison."
    )


def second_opinion(training: Training) -> str:
    """What the gradient check says at the start of the phase, and where it failed."""
    from ..gradient_check import second_opinion as opinion_at

    training = training.on_host()
    thetas = (training.phase_start, training.theta)
    batch = batch_to_check(training.objective, training.phase_start, training.rows.telling)
    return f"{_about_fields(training)}{opinion_at(training.objective, thetas, batch, seed=training.seed)}"


def _about_fields(training: Training) -> str:
    """Say that records have values that are not finite, which nobody refused; nothing if they have none."""
    y = training.rows.first.everything.y
    if y is None or y.dtype.names is None:
        return ""
    finite = np.isfinite(structured_to_unstructured(np.asarray(y), dtype=np.float64).reshape(len(y), -1)).all(axis=1)
    n_wrong = np.count_nonzero(~finite)
    return "" if finite.all() else f"Fields of y have NaN or infinity in {n_wrong} of {len(y)} samples. "


def rows_of_a_step(first: BatchedRows) -> Batch:
    """The rows of a step as training takes them: all of them, or a sample of its size."""
    return first.everything if first.batch_size >= first.n_samples else first.sample(1, CHECK)[0]


def batch_to_check(
    objective: Objective,
    theta: Parameters,
    first: BatchedRows,
    step: Batch | None = None,
    prediction: Array | None = None,
) -> Batch:
    """The rows on which to check the gradient: those of a step, or a few of them if they can be looked at alone.

    ``step`` and ``prediction`` are the rows of a step and what `forward` says of them, if that is known.
    """
    step = rows_of_a_step(first) if step is None else step
    if objective.additive is False or first.batch_size < first.n_samples:
        return step
    few: Batch = first.sample(1, CHECK, batch_size=CHECKED_SAMPLES)[0]
    if few.n == step.n:
        return few
    return few if _stand_alone(objective, theta, few, step, first.drawn(few.n, CHECK), prediction) else step


def _stand_alone(
    objective: Objective, theta: Parameters, few: Batch, step: Batch, chosen: Array, prediction: Array | None
) -> bool:
    """Whether a few rows of a step have the predictions alone that they have among the others, and a loss.

    Not so where a model couples rows, or has a parameter for each.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            if prediction is None:
                prediction = objective.predictions(theta.structure, step)
            among, alone = prediction[chosen], objective.predictions(theta.structure, few)
            objective.value(theta, few)
            objective.contribution(theta, few)
        except Exception as error:
            return "read-only" in str(error)  # what the check will say, of a few rows as well
        size = np.abs(among).max(initial=0.0, where=np.isfinite(among))
        rounding = np.finfo(theta.vector.dtype).eps ** 0.5
        return alone.shape == among.shape and np.allclose(alone, among, rounding, rounding * size, equal_nan=True)


def _warn_of_differencing(objective: Objective) -> None:
    """Say what blocks without an analytic gradient cost."""
    differenced = [index for index in objective.numerical if index not in objective.fixed]
    if differenced:
        layout = objective.layout
        names = ", ".join(repr(layout.names[i]) for i in differenced)
        n_entries = sum(math.prod(layout.shapes[i]) for i in differenced)
        warnings.warn(
            f"numerical: the gradient of {names} is computed from finite differences, with {2 * n_entries} evaluations "
            "of the loss per step. Replace it by an analytic gradient once the rest of the model works.",
            UserWarning,
            stacklevel=7,
        )
