"""Properties of `y` at the start of training, and what they imply for predictions: one class per kind of task.

`Targets` is learned from the first ``y``, kept with the training, and published as attributes such as ``classes_``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike
from sklearn.metrics import accuracy_score
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from ..data.chunks import Chunk
from ..data.parts import where_in
from ..data.weights import Weights
from ..elsewhere import chosen
from ..exceptions import ParameterStructureError
from ..losses import D2, Loss, SquaredError
from ..objective import match_target
from ..sparse_matrices import require_inside
from ..trust import trusted
from ..typing import Array
from ..validation import nearest
from .samples import dates_in, read_weight

ANEW = "To train on other targets, set warm_start=False or train a clone."


class Targets:
    """What an estimator without targets knows of its predictions."""

    n_outputs = 1  # what `init` is told
    smallest_held_out = 1
    scores_by_loss = False  # rather than by predictions
    by_class = False  # whether y has the index of one of several classes
    largest_score = math.inf

    @property
    def attributes(self) -> dict[str, Any]:
        """What is published of them."""
        return {}

    def check_prediction(self, prediction: Array) -> Array:
        """Return a prediction; raise if its shape does not fit the task."""
        return prediction

    @property
    def identity(self) -> dict[str, str]:
        """Return what identifies them beside the columns that the callables receive, by name."""
        return {}

    def learn(self, prediction: Array) -> None:
        """Take from the first prediction what only it can tell."""

    def total(self, y: Any, weights: Weights | None) -> Array:
        """Return the weighted sum of the targets of some samples, an entry for each output; zero if there are none."""
        return np.zeros(self.n_outputs)

    def original(self, y: Any) -> Any:
        """Return targets as the user gave them, None if there are none."""
        return y

    def strata(self, y: Any) -> Any:
        """Return what held-out samples are stratified by, or None."""
        return None

    def scorer(self, y: Any, sample_weight: Array | None, loss: Loss | None) -> Callable[[Array], float]:
        """Return ``score(prediction)``, larger is better."""
        raise NotImplementedError


@trusted
class DensityTargets(Targets):
    """No targets: the prediction is a log-density."""

    def check_prediction(self, prediction: Array) -> Array:
        """Return log-densities; raise if there is not one for each sample."""
        if prediction.ndim != 1:
            raise ParameterStructureError(
                f"forward returned shape {prediction.shape}; a density returns one log-density per sample, of shape "
                f"({len(prediction)},)."
            )
        return prediction

    def scorer(self, y: Any, sample_weight: Array | None, loss: Loss | None) -> Callable[[Array], float]:
        """Return a function that says the mean log-density."""
        return lambda prediction: float(np.average(prediction, weights=sample_weight))


@trusted
class TransformerTargets(Targets):
    """No targets: the prediction is what `transform` returns."""

    scores_by_loss = True
    n_columns = 0

    @property
    def attributes(self) -> dict[str, Any]:
        """The number of columns, where scikit-learn's mixin looks for it."""
        return {"_n_features_out": self.n_columns}

    def learn(self, prediction: Array) -> None:
        """Count the columns."""
        self.n_columns = _n_columns(prediction)

    def check_prediction(self, prediction: Array) -> Array:
        """Return codes; raise if the number of columns has changed."""
        if _n_columns(prediction) != self.n_columns:
            raise ParameterStructureError(
                f"forward returned shape {prediction.shape}; it had {self.n_columns} columns at the start of fit."
            )
        return prediction


def _n_columns(prediction: Array) -> int:
    return 1 if prediction.ndim == 1 else int(prediction.shape[1])


@trusted
class RegressionTargets(Targets):
    """Numbers, one or several a sample.

    What `forward` returns is compared with them, by a loss by name and by R², and has their shape; or only a loss of
    the user's own relates the two, which may then have any shapes.

    Parameters
    ----------
    shape : tuple of int
        Of the targets of a sample: () or (n_outputs,).
    fields : tuple of pairs of str, default=()
        Names and dtypes of the fields of records.
    compared : bool or None, default=True
        Whether predictions are compared with them; None if they are wherever the shapes agree.
    by_loss : bool, default=False
        Whether predictions are scored by minus the loss, even where they are compared.
    """

    predicted: tuple[int, ...] = ()  # the shape of the prediction of a sample,
    agrees: bool | None = None  # and whether it is that of its targets; None before the first prediction

    def __init__(
        self,
        shape: tuple[int, ...],
        fields: tuple[tuple[str, str], ...] = (),
        compared: bool | None = True,
        by_loss: bool = False,
    ) -> None:
        self.shape, self.fields, self.by_loss = shape, fields, by_loss
        self.compared = False if fields or len(shape) > 1 else compared  # no prediction has fields, or so many axes
        self.n_outputs = len(fields) or (shape[0] if shape else 1)

    @property
    def scores_by_loss(self) -> bool:  # type: ignore[override]
        """Whether only the loss says how good a prediction is."""
        return self.by_loss or self.compared is False or self.agrees is False

    @property
    def smallest_held_out(self) -> int:  # type: ignore[override]
        """How many samples a score needs: D² of one is not defined."""
        return 1 if self.scores_by_loss else 2

    @property
    def largest_score(self) -> float:  # type: ignore[override]
        """The score of perfect predictions."""
        return math.inf if self.scores_by_loss else 1.0

    @classmethod
    def read(
        cls, y: Array, known: RegressionTargets | None, compared: bool | None = True, by_loss: bool = False
    ) -> RegressionTargets:
        """Return what validated targets are; raise if ``known`` ones had another shape or other fields."""
        targets = cls(y.shape[1:], _fields_of(y), compared, by_loss)
        if known is None:
            return targets
        if targets.shape != known.shape:
            expected = str(("n_samples", *known.shape)).replace("'", "")
            raise ValueError(f"y has shape {y.shape}, but the y that training began with had shape {expected}. {ANEW}")
        if targets.fields != known.fields:
            here, before = (_listed(fields) for fields in (targets.fields, known.fields))
            raise ValueError(f"y has {here}, but the y that training began with had {before}. {ANEW}")
        if targets.compared == known.compared:
            targets.predicted, targets.agrees = known.predicted, known.agrees
        return targets

    @property
    def attributes(self) -> dict[str, Any]:
        """The number of outputs."""
        return {"n_outputs_": self.n_outputs}

    def total(self, y: Any, weights: Weights | None) -> Array:
        """Return the weighted sum of numbers; zero of records."""
        return super().total(y, weights) if self.fields else _sum(y, weights)

    def learn(self, prediction: Array) -> None:
        """Take from the first prediction its shape, and whether that is the shape of the targets."""
        self.predicted, self.agrees = prediction.shape[1:], not self.fields
        if self.compared is not True and self.agrees:  # else another shape is an error
            try:
                self._match(prediction)
            except ParameterStructureError:
                self.agrees = False

    def check_prediction(self, prediction: Array) -> Array:
        """Return predictions; raise if their shape does not match that of the targets, or of the first of them."""
        if self.agrees is None:
            self.learn(prediction)
        if self.agrees:
            self._match(prediction)
        elif prediction.shape[1:] != self.predicted:
            expected = str(("n_samples", *self.predicted)).replace("'", "")
            raise ParameterStructureError(
                f"forward returned shape {prediction.shape}; at the start of fit it had shape {expected}."
            )
        return prediction

    def _match(self, prediction: Array) -> None:
        match_target(np.empty((len(prediction), *self.shape)), prediction)

    def as_outputs(self, prediction: Array) -> Array:
        """Return predictions in the shape of the targets, if they agree."""
        return prediction if self.agrees is False else prediction.reshape(len(prediction), *self.shape)

    def on_their_scale(self, prediction: Array, loss: Loss | None) -> Array:
        """Return predictions on the scale of y."""
        prediction = self.as_outputs(prediction)
        return prediction if loss is None else loss.inverse_link(prediction)

    def scorer(self, y: Any, sample_weight: Array | None, loss: Loss | None) -> Callable[[Array], float]:
        """Return a function that says D², which without a loss is R²."""
        return D2(SquaredError() if loss is None else loss, y, sample_weight)


@trusted
class ClassTargets(Targets):
    """Classes, or several labels of 0 and 1 a sample.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        For several labels the indices of their columns.
    multilabel : bool
    """

    largest_score = 1.0

    def __init__(self, classes: Array, multilabel: bool) -> None:
        self.classes, self.multilabel = classes, multilabel
        self.is_binary = len(classes) == 2 and not multilabel
        self.n_outputs = 1 if self.is_binary else len(classes)
        self.by_class = not (self.is_binary or multilabel)

    def total(self, y: Any, weights: Weights | None) -> Array:
        """Return the weight that each class has, or the second of two, or each label."""
        if not self.by_class:
            return _sum(y, weights)
        return np.bincount(y, None if weights is None else weights.values, self.n_outputs).astype(np.float64)

    @classmethod
    def read(
        cls, y: Any, known: ClassTargets | None, dtype: DTypeLike, classes: Any = None, complete: bool = False
    ) -> tuple[ClassTargets, Array]:
        """Return what validated labels are, and the labels as the callables receive them.

        Parameters
        ----------
        y : array
        known : ClassTargets or None
            Those that training began with.
        dtype : dtype
            Of the labels of several columns.
        classes : array-like, default=None
            All that may come, as the user says.
        complete : bool, default=False
            Whether y is to have all of ``known``, as in a fit that goes on; else it may have some of them.
        """
        before = None if known is None else known.classes
        if classes is not None:
            classes = np.unique(classes)
            if before is not None and not np.array_equal(classes, before):
                raise ValueError(f"classes={classes} differs from the first call: {before}. {ANEW}")
            before = classes
        kind = type_of_target(y, input_name="y")
        multilabel = kind.startswith("multilabel")
        if known is not None and multilabel != known.multilabel:
            kinds = ("one class per sample", "an indicator matrix of labels")
            raise ValueError(f"y is {kinds[multilabel]}; before, it was {kinds[known.multilabel]}. {ANEW}")
        expected = None if complete else before
        found, encoded = _read_labels(y, expected, dtype) if multilabel else _read_classes(y, expected, kind)
        if complete and known is not None:
            known.require_same(found)
        if len(found) < 2 and not multilabel:
            raise ValueError(f"A classifier needs at least 2 classes; y has only one class, {found.tolist()[0]!r}.")
        return cls(found, multilabel), encoded

    def require_same(self, classes: Array) -> None:
        """Raise unless a continued fit has the classes with which training began."""
        if not np.array_equal(classes, self.classes):
            raise ValueError(
                f"y has the classes {classes}, but warm_start=True continues training on the classes {self.classes}. "
                f"Pass samples of exactly these classes. {ANEW} partial_fit accepts samples of some of them."
            )

    @property
    def attributes(self) -> dict[str, Any]:
        """Classes and the number of score columns."""
        return {"classes_": self.classes, "n_outputs_": self.n_outputs}

    @property
    def identity(self) -> dict[str, str]:
        """Return the labels, of which the callables receive indices."""
        return {"classes": str(self.classes.tolist())}

    def weights(
        self, class_weight: Any, encoded: Array, sample_weight: Weights | None, totals: Array | None, *, is_first: bool
    ) -> Array:
        """Return the weight of each sample by its class; for "balanced" a sample of weight w counts as w samples."""
        if not is_balanced(class_weight):
            several = isinstance(class_weight, list)
            by_index = [
                self._by_index(of_column, is_first) for of_column in (class_weight if several else [class_weight])
            ]
            # Every class is appended once: a chunk may lack one.
            every = np.repeat([[0], [1]], encoded.shape[1], axis=1) if self.multilabel else np.arange(len(self.classes))
            labels = np.concatenate([encoded.astype(int), every])
            by_sample: Array = compute_sample_weight(by_index if several else by_index[0], labels)
            return by_sample[: len(encoded)]
        columns = np.atleast_2d(encoded.T).astype(int)
        if totals is None:
            n = 2 if self.multilabel else len(self.classes)
            weights = None if sample_weight is None else sample_weight.values
            totals = np.array([np.bincount(column, weights=weights, minlength=n) for column in columns])
        by_column = [_balanced(of_column)[column] for of_column, column in zip(totals, columns, strict=True)]
        product: Array = np.prod(by_column, axis=0)
        return product

    def _by_index(self, class_weight: Any, is_first: bool) -> Any:
        """Return a dict of class weights by the index of the class; raise or warn if a class does not exist.

        It may be absent from a fold of data in which all others are weighted too, as in scikit-learn.
        """
        if not isinstance(class_weight, dict):
            return class_weight  # what else it may be says `compute_sample_weight`
        classes = np.arange(2) if self.multilabel else self.classes
        places = {label: index for index, label in enumerate(classes.tolist())}
        found = {label: places.get(label, _place(label, classes)) for label in class_weight}
        absent = next((label for label, index in found.items() if index is None), None)
        by_index = {index: class_weight[label] for label, index in found.items() if index is not None}
        if len(by_index) == len(class_weight):
            return by_index
        words = [word for word in places if isinstance(word, str)]
        message = (
            f"class_weight has a weight for {absent!r}, which is not a class.{nearest(absent, words)} The classes "
            f"are {'0 and 1, for each label' if self.multilabel else self.classes}."
        )
        if len(by_index) < len(classes):
            raise ValueError(message)
        if is_first:
            warnings.warn(message, UserWarning, stacklevel=8)
        return by_index

    def strata(self, y: Any) -> Any:
        """Return the classes, unless there are several labels."""
        return None if self.multilabel else y

    def check_prediction(self, prediction: Array) -> Array:
        """Return raw scores; raise if their columns do not fit the classes."""
        n, n_classes = len(prediction), len(self.classes)
        fitting: set[tuple[int, ...]] = {(n, n_classes)}
        if self.is_binary:
            fitting |= {(n,), (n, 1)}
        if prediction.shape not in fitting:
            raise ParameterStructureError(
                f"forward returned shape {prediction.shape} for {n} samples and {n_classes} "
                f"{'labels' if self.multilabel else 'classes'}; expected {' or '.join(map(str, sorted(fitting)))}."
            )
        return prediction

    def scores(self, prediction: Array) -> Array:
        """Return raw scores in scikit-learn's shape."""
        if self.multilabel:
            return prediction.reshape(len(prediction), len(self.classes))
        if self.is_binary and prediction.ndim == 2:
            return prediction[:, 1] - prediction[:, 0] if prediction.shape[1] == 2 else prediction[:, 0]
        return prediction

    def as_outputs(self, prediction: Array) -> Array:
        """Return raw scores with a column for each output."""
        return self.scores(prediction).reshape(len(prediction), -1)

    def decided(self, scores: Array) -> Array:
        """Return the labels of raw scores."""
        if self.multilabel:
            return (scores > 0).astype(int)
        labels: Array = chosen(self.classes, (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1))
        return labels

    def original(self, y: Any) -> Any:
        """Return labels as the user gave them."""
        return y.astype(int) if self.multilabel else self.classes[y]

    def scorer(self, y: Any, sample_weight: Array | None, loss: Loss | None) -> Callable[[Array], float]:
        """Return a function that says the accuracy."""
        labels = self.original(y)
        return lambda prediction: float(
            accuracy_score(labels, self.decided(self.scores(prediction)), sample_weight=sample_weight)
        )


def _sum(y: Array, weights: Weights | None) -> Array:
    """The sum of rows, in the units of their weights."""
    y = y.astype(np.float64, copy=False)
    if weights is not None:
        y = (weights.values * y.T).T
    return np.atleast_1d(y.sum(axis=0))


def _fields_of(y: Array) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(y.dtype[name])) for name in y.dtype.names or ())


def _listed(fields: tuple[tuple[str, str], ...]) -> str:
    return f"the fields {', '.join(f'{name} ({dtype})' for name, dtype in fields)}" if fields else "no fields"


def _place(label: Any, classes: Array) -> int | None:
    """Return the index of a label that is equal to a class, though another object: dates are of several types."""
    return (
        next((index for index, known in enumerate(classes) if known == label), None)
        if classes.dtype.kind in "mM"
        else None
    )


def is_balanced(class_weight: Any) -> bool:
    """Whether classes are to be weighted by their frequencies."""
    return isinstance(class_weight, str) and class_weight == "balanced"


def _read_labels(y: Any, known: Any, dtype: DTypeLike) -> tuple[Array, Array]:
    """Return the column indices and the indicator matrix of multilabel targets."""
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    if not ((y == 0) | (y == 1)).all():
        raise ValueError(
            f"An indicator matrix contains 0 and 1, with one column per label; y has the values {np.unique(y)}. If the "
            "larger one marks a label, pass (y == y.max()).astype(int)."
        )
    columns = np.arange(y.shape[1])
    if known is not None and not np.array_equal(known, columns):
        raise ValueError(f"y has {len(columns)} columns, one for each label, but the labels are {known}. {ANEW}")
    return columns, y.astype(dtype)


def _read_classes(y: Any, known: Any, kind: str) -> tuple[Array, Array]:
    """Return the classes and the index of each row's in them."""
    if kind not in ("binary", "multiclass"):
        require_labels(y)  # it would look at every label once more
    y = column_or_1d(y, warn=True)
    classes, indices = np.unique(y, return_inverse=True)
    if known is not None:
        unseen = np.setdiff1d(classes, known)
        if len(unseen):
            raise ValueError(f"y has labels {unseen} that are not among the classes {known}.")
        classes, indices = known, np.searchsorted(known, y)
    return classes, indices


def _balanced(totals: Array) -> Array:
    """Return the weight of each class, inversely proportional to its total; one that is absent has none."""
    mean = totals.sum() / np.count_nonzero(totals)
    by_class: Array = np.divide(mean, totals, out=np.zeros(len(totals)), where=totals > 0)
    return by_class


class Labels(NamedTuple):
    """The labels of chunks, and how many rows, or how much weight, each has; for multilabel targets each column's.

    Attributes
    ----------
    classes : ndarray
        In order; for multilabel targets the indices of the columns.
    totals : ndarray of shape (n_columns, n_classes)
        A row for each column of targets, with the total of each class, or of 0 and 1, divided by ``2**exponent``.
    exponent : int
    multilabel : bool
    """

    classes: Array
    totals: Array
    exponent: int
    multilabel: bool

    @classmethod
    def of(cls, chunk: Chunk, *, weighted: bool) -> Labels:
        """Return those of a chunk; X is not read."""
        y = chunk.y
        if y is None:
            raise ValueError(
                "The chunk has no y. A chunk of a classifier must be a tuple (X, y) or (X, y, sample_weight), or a "
                "dict with y."
            )
        require_inside(y, "y")
        weights = read_weight(chunk.sample_weight, chunk.X) if weighted else None
        multilabel = type_of_target(y, input_name="y").startswith("multilabel")
        if multilabel:
            classes, labels = _read_labels(y, None, int)
            columns, n = list(labels.T), 2
        else:
            require_labels(y)
            classes, indices = np.unique(column_or_1d(y, warn=True), return_inverse=True)
            columns, n = [indices], len(classes)
        values, exponent = (None, 0) if weights is None else (weights.values, weights.exponent)
        totals = np.array([np.bincount(column, weights=values, minlength=n) for column in columns], float)
        return cls(classes, totals, exponent, multilabel)

    @classmethod
    def joined(cls, by_number: Mapping[int, Labels]) -> Labels:
        """Return those of several chunks together."""
        first, *_ = several = list(by_number.values())
        for number, labels in by_number.items():
            n_labels = (len(each.classes) if each.multilabel else None for each in (labels, first))
            if len(set(n_labels)) > 1:
                error = ValueError(
                    "y differs in kind from the y of the first chunk. Each chunk must have one class per sample, or "
                    "each must have a column for each of the same labels."
                )
                error.add_note(where_in(number))
                raise error
        classes = first.classes if first.multilabel else np.unique(np.concatenate([each.classes for each in several]))
        exponent = max(labels.exponent for labels in several)
        totals: Array = sum(np.ldexp(each.of_classes(classes), each.exponent - exponent) for each in several)  # type: ignore[assignment]
        return cls(classes, totals, exponent, first.multilabel)

    def of_classes(self, classes: Array) -> Array:
        """Return the totals with a column for each of some classes."""
        if self.multilabel:
            return self.totals
        totals = np.zeros((1, len(classes)))
        known = np.isin(self.classes, classes)  # another is refused when its chunk is read
        totals[:, np.searchsorted(classes, self.classes[known])] = self.totals[:, known]
        return totals


def require_labels(y: Any) -> None:
    """Raise unless y has labels of classes."""
    try:
        check_classification_targets(y)
    except ValueError as error:
        if dates_in(y):
            error.add_note("y has dates or times as objects. Pass them as datetime64 or timedelta64, or as text.")
        raise


def require_loss_fits(loss: Loss, given: Any, columns: Mapping[str, Array], owner: str) -> None:
    """Raise if a loss by name compares what an estimator does not have, or y is outside its domain."""
    if (loss.domain is None) != ("y" not in columns):
        raise ValueError(
            f"loss={given!r} compares {'predictions alone' if loss.domain is None else 'predictions with y'}; "
            f"{owner} has {'targets' if 'y' in columns else 'no y'}. Choose another loss, or give "
            "gradient or loss_and_gradient, with a loss of your own or None."
        )
    if "y" in columns and columns["y"].dtype.names is None:  # a loss by name compares no records
        loss.check_domain(columns["y"])
