"""Scoring held-out samples during training, also with scikit-learn's scorers."""

import inspect
import numbers
import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from sklearn import get_config
from sklearn.metrics import check_scoring

from ..data.arrays import ArrayRows, joined
from ..data.batch import Batch
from ..data.rows import Rows
from ..data.weights import y_that_counts
from ..elsewhere import on_host
from ..exceptions import noted
from ..losses import Loss
from ..objective import Objective
from ..parameters import Parameters
from ..typing import Array


class HeldOut(NamedTuple):
    """Samples to score. Samples with weight 0 do not count.

    The user's weights are ``2**exponent`` times the weights of the rows.
    """

    rows: Rows
    exponent: int = 0


def default_score(targets: Any, objective: Objective, held_out: HeldOut) -> Callable[[Parameters], float]:
    """Return ``score(theta)`` for held-out samples, which equals the estimator's `score`; larger is better."""
    rows = held_out.rows
    of_predictions: Any = None  # once it is needed, so that an error in it is noted too

    def by_predictions(theta: Parameters) -> float:
        nonlocal of_predictions
        if of_predictions is None:
            columns, weight = _beside(rows)
            of_predictions = targets.scorer(columns.get("y"), weight, objective.loss)

        def prediction(batch: Batch) -> Any:
            return _counted(targets.check_prediction(objective.predictions(theta.structure, batch)), batch)

        return float(of_predictions(on_host(np.concatenate(rows.map(prediction)))))

    def score(theta: Parameters) -> float:
        with noted(f"While scoring the {rows.n_samples} held-out samples, with early_stopping=True."):
            return -mean_loss(objective, theta, rows) if targets.scores_by_loss else by_predictions(theta)

    return score


def require_loss(objective: Objective) -> None:
    """Raise if there is no loss."""
    if not objective.has_value:
        raise ValueError(
            "There is no loss, because gradient was given with loss=None. Pass a loss by name or as a function, "
            "loss(params, X, ...), or use loss_and_gradient."
        )


def check_domain(loss: Loss, batch: Batch) -> None:
    """Raise if y of a row that has a weight is outside the domain of a loss by name."""
    columns = {"y": on_host(batch.y)}
    loss.check_domain(y_that_counts(columns, on_host(batch.sample_weight))["y"])


def mean_loss(objective: Objective, theta: Parameters, rows: Rows, *, weighted: bool = True) -> float:
    """Return the mean of the loss over rows, without the penalty; unweighted, over those that have a weight."""
    require_loss(objective)

    def part(batch: Batch) -> tuple[float, float]:
        if not weighted:
            counted = {name: _counted(column, batch) for name, column in batch.columns.items()}
            batch = Batch(_counted(batch.X, batch), counted, position=batch.position)
        weight = batch.sample_weight
        return objective.evaluated(theta, batch) * batch.n, batch.n if weight is None else weight.sum(dtype=np.float64)

    total, weight = np.sum(rows.map(part), axis=0)
    return float(total / weight)


def _counted(array: Any, batch: Batch) -> Any:
    """Return a copy of what belongs to the rows of a batch, without the rows whose weight is 0; None if it is None."""
    if array is None or batch.sample_weight is None or batch.sample_weight.all():
        return None if array is None else array.copy()
    return array[batch.sample_weight > 0]


def score_by(scoring: Any, estimator: Any, training: Any, held_out: HeldOut) -> Callable[[Parameters], float]:
    """Return ``score(theta)``: the score that a scorer gives an estimator with these parameters.

    In each call, the scorer receives a new copy of the estimator, with a copy of θ as its ``params_``. A scorer calls
    ``predict(X)`` without metadata, so the copy adds the metadata of the held-out samples, which are already
    validated.

    Parameters
    ----------
    scoring : str or callable
        Name of a scorer, or ``scorer(estimator, X, y)``.
    estimator : AnalyticEstimator
        Estimator that is being trained. It is not changed.
    training : Training
        Its training so far.
    held_out : HeldOut
        Samples to score. Held-out chunks are never joined: for them, X is a `HeldOutChunks`.

    Returns
    -------
    score : callable
        ``score(theta) -> float``. It raises a TypeError for a scorer that does not return a number.
    """
    scorer = check_scoring(estimator, scoring=scoring)
    rows = held_out.rows
    columns, weight = _beside(rows)
    weight = None if weight is None else np.ldexp(weight, held_out.exponent)
    metadata_of_rows = {name: column for name, column in columns.items() if name != "y"}
    X: Any = HeldOutChunks(rows)
    if isinstance(rows, ArrayRows):
        everything = rows.everything
        X = everything.X if weight is None or len(weight) == everything.n else _counted(everything.X, everything)
    objective, targets = training.objective, training.targets
    y = targets.original(columns.get("y"))
    arguments = _received(scorer, metadata_of_rows, weight)

    def score(theta: Parameters) -> float:
        own = theta.as_given.copy()
        view = estimator._as_fitted(training, own)
        published = own.layout.leaves(view.params_)
        view.__dict__.pop("feature_names_in_", None)  # the rows are arrays, without names

        def parameters() -> Parameters:
            is_own = all(map(operator.is_, own.layout.leaves(view.params_, "params_"), published))
            return own if is_own else view._read_params()

        def predictions(asked: Any, metadata: Mapping[str, Any]) -> Array:
            params = parameters().structure

            def prediction(batch: Batch) -> Array:
                checked = targets.check_prediction(objective.predictions(params, batch))
                counted: Array = _counted(checked, batch)
                return counted

            if asked is X and not metadata:
                return np.concatenate(rows.map(prediction))
            predicted: Array = type(view)._predictions(view, asked, metadata)
            return predicted

        def loss(asked: Any, asked_y: Any, asked_weight: Any, metadata: Mapping[str, Any]) -> float:
            if asked is X and not metadata:
                if asked_y is y and (asked_weight is None or asked_weight is weight):
                    return mean_loss(objective, parameters(), rows, weighted=asked_weight is not None)
                metadata = metadata_of_rows
            return float(type(view)._mean_loss(view, asked, asked_y, asked_weight, metadata))

        view._predictions, view._mean_loss = predictions, loss
        try:
            value = scorer(view, X, y, **arguments)
        finally:
            # A copy that the scorer keeps holds no rows, and one that it drops is gone at once.
            del view._predictions, view._mean_loss
        if hasattr(value, "item"):  # an array of one number is one, as in scikit-learn's own scoring
            with suppress(ValueError):
                value = value.item()
        if not isinstance(value, numbers.Real):
            raise TypeError(f"scoring={scoring!r} must return one number; got {value!r}.")
        return float(value)

    return score


class HeldOutChunks:
    """Placeholder for the X of held-out chunks, which the estimator's methods accept.

    They predict for, or evaluate the loss of, each chunk in turn.
    """

    def __init__(self, rows: Rows) -> None:
        n_counted = sum(rows.map(lambda batch: len(_counted(batch.X, batch))))
        self.shape = (n_counted, rows.first.everything.X.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *args: Any, **settings: Any) -> Any:
        raise TypeError(
            "Held-out chunks are never joined, so X is not an array here. Pass X to the estimator's predict, score "
            "or mean_loss, with the y and sample_weight that the scorer received."
        )


def _beside(rows: Rows) -> tuple[dict[str, Array], Array | None]:
    """What goes with the rows that count: columns by name, and the weights or None."""

    def copied(batch: Batch) -> tuple[dict[str, Array], Array | None]:  # a view would hold the whole chunk
        columns = {name: _counted(column, batch) for name, column in batch.columns.items()}
        columns = {name: on_host(column) for name, column in columns.items()}
        return columns, on_host(_counted(batch.sample_weight, batch))

    batches = rows.map(copied)
    columns = {name: joined([columns[name] for columns, _ in batches]) for name in batches[0][0]}
    return columns, None if batches[0][1] is None else np.concatenate([weight for _, weight in batches])


def _received(scorer: Any, metadata: Mapping[str, Any], weight: Array | None) -> dict[str, Any]:
    """The weights and metadata of the rows that a scorer receives by name.

    A scorer made by scikit-learn names what its metric does, but for what its requests exclude or call by
    another name; without metadata routing it takes weights alone.
    """
    metric = getattr(scorer, "_score_func", None)
    there = metadata if metric is None or get_config()["enable_metadata_routing"] else {}
    if weight is not None:
        there = {**there, "sample_weight": weight}
    requests = {} if metric is None else scorer.get_metadata_routing().score.requests
    received = {}
    for name in inspect.signature(scorer if metric is None else metric).parameters:
        request = requests.get(name)
        source = request if isinstance(request, str) else name
        if request is not False and source in there:
            received[name] = there[source]
    return received
