"""Classification: labels become class indices, scores become probabilities."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_array, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from ..data.chunks import Chunk, Source
from ..exceptions import ParameterStructureError
from ..losses import LogLoss, Loss
from ..model.default_models import LINEAR
from ..optimizers.base import Optimizer
from ..optimizers.phases import Phases
from ..optimizers.scipy_methods import FullBatch
from ..typing import (
    Array,
    Forward,
    Gradient,
    Jacobian,
    LossAndGradient,
    LossFunction,
    MatrixLike,
    Params,
    RandomState,
    Vjp,
)
from .chunked import ChunkedEstimator
from .coefficients import CoefficientsMixin
from .data import FLOATS, read_weight
from .settings import in_batches, shares_parameters


@shares_parameters(
    forward="raw scores, (n,), (n, 1) or (n, 2) for two classes, else (n, K)",
    default='linear, ``X @ params["coef"] + params["intercept"]``',
    score="accuracy",
    parameters="""
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied onto those of the rows; "balanced" is inversely proportional to
        their frequencies.""",
    attributes="""
    classes_ : ndarray of shape (n_classes,)
        The labels; for multilabel targets the indices of the columns.
    n_outputs_ : int
        Score columns that `init` was asked for: 1 for two classes, else their number; the number of labels
        for multilabel targets.
    coef_ : ndarray of shape (1, n_features) or (n_outputs, n_features)
        Coefficients of the scores of `decision_function`; there only where no callables are given.
    intercept_ : ndarray of shape (1,) or (n_outputs,)
        Likewise.""",
)
class AnalyticClassifier(ClassifierMixin, CoefficientsMixin, ChunkedEstimator):
    """Classification by a model whose gradient was derived by hand: binary, multiclass or multilabel.

    Without callables it is logistic regression. A callable receives ``y`` as class indices from 0, of
    shape (n,); for multilabel targets as 0 and 1, floats of shape (n, n_labels).

    {shared}

    Examples
    --------
    Softmax regression, its adjoint written by hand:

    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sk_analytic import AnalyticClassifier
    >>> def init(n_features, n_outputs):
    ...     return {"W": np.zeros((n_features, n_outputs)), "b": np.zeros(n_outputs)}
    >>> def vjp(params, X):
    ...     def pullback(d_scores):
    ...         return {"W": X.T @ d_scores, "b": d_scores.sum(axis=0)}
    ...     return X @ params["W"] + params["b"], pullback
    >>> X, y = load_iris(return_X_y=True)
    >>> model = AnalyticClassifier(vjp=vjp, init=init, optimizer="lbfgs", alpha=1e-2, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    _default_model = LINEAR
    _default_takes_sparse = True
    _multilabel: bool
    classes_: Any

    def __init__(
        self,
        forward: Forward | None = None,
        gradient: Gradient | None = None,
        init: Params | Callable[..., Params] | None = None,
        *,
        loss_and_gradient: LossAndGradient | None = None,
        vjp: Vjp | None = None,
        jacobian: Jacobian | None = None,
        loss: str | Loss | LossFunction | None = "log_loss",
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
        class_weight: dict[Any, float] | str | None = None,
    ) -> None:
        super().__init__(
            forward,
            gradient,
            init,
            loss_and_gradient=loss_and_gradient,
            vjp=vjp,
            jacobian=jacobian,
            loss=loss,
            model_params=model_params,
            reduction=reduction,
            fixed=fixed,
            numerical=numerical,
            alpha=alpha,
            optimizer=optimizer,
            batch_size=batch_size,
            max_iter=max_iter,
            shuffle=shuffle,
            tol=tol,
            n_iter_no_change=n_iter_no_change,
            early_stopping=early_stopping,
            scoring=scoring,
            validation_fraction=validation_fraction,
            check_gradient=check_gradient,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        **metadata: Any,
    ) -> Self:
        """Train the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; float32 and float64 are kept, everything else becomes float64.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels of any kind, or an indicator matrix of 0 and 1.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, scaled to mean 1: they count like repeated rows.
        X_val : array-like of shape (n_val, n_features), default=None
            Rows to score after each epoch with ``early_stopping=True``, in place of rows held out here. A
            pipeline transforms them as X with ``transform_input=["X_val"]``.
        y_val : array-like of shape (n_val,) or (n_val, n_labels), default=None
            Their labels, all of which are among those of y.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, for the callables that name it: ``exposure=...``, and with X_val
            ``exposure_val=...`` too.

        Returns
        -------
        self : AnalyticClassifier
            This estimator, trained.

        Raises
        ------
        GradientCheckError
            If the analytic gradient is plainly not the derivative of the loss.
        DivergenceError
            If a loss or gradient is not finite; ``params_`` are the last finite ones.
        """
        validation = (X_val, y_val, sample_weight_val)
        return self._fit(partial(self._from_arrays, X, y, sample_weight, metadata=metadata, validation=validation))

    @in_batches
    def partial_fit(
        self,
        X: MatrixLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        **metadata: Any,
    ) -> Self:
        """Train for one pass over some rows, going on from where the model is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever come; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, taken as they are: a row of weight 2 counts as two.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, for the callables that name it.

        Returns
        -------
        self : AnalyticClassifier
            This estimator.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit, which does not see all rows. Compute "
                "the weights on a large sample by sklearn.utils.compute_class_weight and pass them as a dict."
            )
        if classes is None and not hasattr(self, "params_"):
            raise ValueError("classes must be passed in the first call to partial_fit: all labels that will come.")
        return self._fit(
            partial(self._from_arrays, X, y, sample_weight, classes=classes, metadata=metadata), incremental=True
        )

    def fit_chunks(
        self,
        chunks: Any,
        classes: ArrayLike | None = None,
        *,
        X_val: MatrixLike = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        **metadata: Any,
    ) -> Self:
        """Train the model on data that do not fit into memory, one chunk at a time.

        Parameters
        ----------
        chunks : sequence, iterable or callable
            A chunk is ``(X, y)``, ``(X, y, sample_weight)``, a dict with the arguments of `fit` by name,
            metadata of the rows included, or a function without arguments that loads one of these; chunks
            without rows are skipped. They come as a list (or another object with a length and an index), whose
            order is drawn anew for each epoch; as any other object that can be iterated over again and again;
            or as a generator function, called in every pass.
        classes : array-like of shape (n_classes,), default=None
            All labels. Without it they are collected in a pass of its own over the chunks; so are the
            frequencies of classes for ``class_weight="balanced"``.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Rows to score after each epoch with ``early_stopping=True``, in place of chunks held out here.
        y_val : array-like of shape (n_val,) or (n_val, n_labels), default=None
            Their labels, all of which are among those of the chunks.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.
        **metadata : array-like of shape (n_val,) or (n_val, k)
            Further data of theirs, for the callables that name it: ``exposure_val=...``.

        Returns
        -------
        self : AnalyticClassifier
            This estimator, trained.

        Raises
        ------
        TypeError
            If the chunks can be gone through only once, or are none.
        ValueError
            If a chunk does not go with the first: in features, dtype, labels, or whether it has weights; if it
            has other rows in another pass. A note names the chunk.

        See Also
        --------
        partial_fit : One pass over one chunk, whatever comes next.

        Notes
        -----
        As for the other estimators: see :meth:`AnalyticRegressor.fit_chunks`. Early stopping holds out chunks, so
        that classes are not stratified.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sk_analytic import AnalyticClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> chunks = [(X[start : start + 600], y[start : start + 600]) for start in range(0, len(X), 600)]
        >>> model = AnalyticClassifier(max_iter=20, tol=0.05, random_state=0)
        >>> model.fit_chunks(chunks, classes=range(10)).score(X, y) > 0.95
        True
        """
        validation = X_val, y_val, sample_weight_val
        return self._fit(partial(self._from_chunks, chunks, validation=validation, metadata=metadata, classes=classes))

    def _survey_labels(self, source: Source, continuing: bool, classes: Any = None) -> dict[str, Any]:
        if classes is None and continuing:
            classes = self.classes_
        balanced = self._is_balanced()
        if classes is not None and not balanced:
            return {"classes": classes}
        labels = Labels()
        source.each(partial(labels.add, weighted=balanced))
        classes = labels.classes if classes is None else np.unique(classes)
        return {"classes": classes, "totals": labels.totals(classes) if balanced else None}

    def _is_balanced(self) -> bool:
        return isinstance(self.class_weight, str) and self.class_weight == "balanced"

    def _read(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None, totals: Any = None
    ) -> tuple[Any, dict[str, Array], Array | None]:
        X, y = self._read_X(X, y, multi_output=True, reset=reset)
        known = None if reset else self.classes_
        if classes is not None:
            classes = np.unique(classes)
            if known is not None and not np.array_equal(classes, known):
                raise ValueError(f"classes={classes} is not what it was in the first call: {known}.")
            known = classes
        kind = type_of_target(y, input_name="y")
        multilabel = kind.startswith("multilabel")
        if not reset and multilabel != self._multilabel:
            kinds = ("one class a row", "an indicator matrix of labels")
            raise ValueError(f"y is {kinds[multilabel]}; before, it was {kinds[self._multilabel]}.")
        self._multilabel = multilabel
        self.classes_, targets = _read_labels(y, known, X.dtype) if multilabel else _read_classes(y, known, kind)
        n_classes = len(self.classes_)
        self.n_outputs_ = self._n_init_outputs = 1 if n_classes == 2 and not self._multilabel else n_classes
        weight = read_weight(sample_weight, X)
        if self.class_weight is not None:
            by_class = read_weight(self._weights_by_class(y, targets, weight, totals), X, "class_weight")
            weight = by_class if weight is None else weight * by_class
        return X, {"y": targets}, weight

    def _weights_by_class(self, y: Any, targets: Array, weight: Array | None, totals: Any) -> Array:
        """Return the weight of each row by its class; for "balanced" a row of weight w counts as w rows."""
        if not self._is_balanced():
            # Every class stands behind the rows once: a chunk may lack one.
            every = np.repeat([[0], [1]], targets.shape[1], axis=1) if self._multilabel else self.classes_
            y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
            by_row: Array = compute_sample_weight(self.class_weight, np.concatenate([y, every]))
            return by_row[: len(targets)]
        columns = np.atleast_2d(targets.T).astype(int)
        if totals is None:
            n = 2 if self._multilabel else len(self.classes_)
            totals = np.array([np.bincount(column, weights=weight, minlength=n) for column in columns])
        by_column = [_balanced(of_column)[column] for of_column, column in zip(totals, columns, strict=True)]
        product: Array = np.prod(by_column, axis=0)
        return product

    def _stratify(self, y: Any) -> Any:
        return None if self._multilabel else y

    def _check_loss(self, loss: Loss, columns: Mapping[str, Array]) -> None:
        if loss.link != "logit":
            raise ValueError(
                f"loss={self.loss!r} is no loss of class scores: predictions would be decided at 0 and probabilities "
                "made of them. Use 'log_loss', a Loss of your own with link = \"logit\", or AnalyticRegressor."
            )
        super()._check_loss(loss, columns)

    def _check_prediction(self, prediction: Array) -> Array:
        n, n_classes = len(prediction), len(self.classes_)
        fitting: set[tuple[int, ...]] = {(n, n_classes)}
        if not self._multilabel and n_classes == 2:
            fitting |= {(n,), (n, 1)}
        if prediction.shape not in fitting:
            raise ParameterStructureError(
                f"forward returned shape {prediction.shape} for {n} rows and {n_classes} "
                f"{'labels' if self._multilabel else 'classes'}; expected {' or '.join(map(str, sorted(fitting)))}."
            )
        return prediction

    def decision_function(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the raw scores.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes that of the second: the difference where the model gives two columns.
        """
        return self._scores(self._predictions(X, metadata))

    def _scores(self, prediction: Array) -> Array:
        """Raw scores in scikit-learn's shape."""
        if self._multilabel:
            return prediction.reshape(len(prediction), len(self.classes_))
        if len(self.classes_) == 2 and prediction.ndim == 2:
            return prediction[:, 1] - prediction[:, 0] if prediction.shape[1] == 2 else prediction[:, 0]
        return prediction

    def _as_outputs(self, prediction: Array) -> Array:
        return self._scores(prediction).reshape(len(prediction), -1)

    def predict_proba(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the probability of each class, by the logistic function or softmax of the scores.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; rows sum to 1, but for multilabel targets, where each label has
            its own.
        """
        scores = self.decision_function(X, **metadata)
        return LogLoss().inverse_link(scores) if self._multilabel else LogLoss.probabilities(scores)

    def predict(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels as they came; for multilabel targets 0 and 1.
        """
        return self._decided(self.decision_function(X, **metadata))

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None, **metadata: Any) -> float:
        """Return the accuracy of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, where `forward` names it.

        Returns
        -------
        score : float
            Share of the rows that are right; for multilabel targets, in every label.
        """
        return float(accuracy_score(y, self.predict(X, **metadata), sample_weight=sample_weight))

    def _decided(self, scores: Array) -> Array:
        if self._multilabel:
            return (scores > 0).astype(int)
        labels: Array = self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)]
        return labels

    def _targets(self, y: Any) -> Any:
        return y.astype(int) if self._multilabel else self.classes_[y]

    def _score_of(self, prediction: Array, y: Any, sample_weight: Array | None) -> float:
        decided = self._decided(self._scores(prediction))
        return float(accuracy_score(self._targets(y), decided, sample_weight=sample_weight))


def _read_labels(y: Any, known: Any, dtype: DTypeLike) -> tuple[Array, Array]:
    """Return the column indices and the indicator matrix of multilabel targets."""
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    if not ((y == 0) | (y == 1)).all():
        raise ValueError(
            f"An indicator matrix has 0 and 1, one column a label; y has the values {np.unique(y)}. Where the larger "
            "one marks a label, pass (y == y.max()).astype(int)."
        )
    columns = np.arange(y.shape[1])
    if known is not None and not np.array_equal(known, columns):
        raise ValueError(f"y has {len(columns)} labels, whose classes are their columns {columns}; there are {known}.")
    return columns, y.astype(dtype)


def _read_classes(y: Any, known: Any, kind: str) -> tuple[Array, Array]:
    """Return the classes and the index of each row's in them."""
    if kind not in ("binary", "multiclass"):
        check_classification_targets(y)  # it would look at every label once more
    y = column_or_1d(y, warn=True)
    classes, indices = np.unique(y, return_inverse=True)
    if known is not None:
        unseen = np.setdiff1d(classes, known)
        if len(unseen):
            raise ValueError(f"y has labels {unseen} that are not among the classes {known}.")
        classes, indices = known, np.searchsorted(known, y)
    if len(classes) < 2:
        raise ValueError(f"A classifier needs at least 2 classes; y has only one class, {classes.tolist()[0]!r}.")
    return classes, indices


def _balanced(totals: Array) -> Array:
    """Return the weight of each class, inversely proportional to its total; one that is absent has none."""
    mean = totals.sum() / np.count_nonzero(totals)
    by_class: Array = np.divide(mean, totals, out=np.zeros(len(totals)), where=totals > 0)
    return by_class


class Labels:
    """The labels of chunks, and how many rows, or how much weight, each has; for multilabel targets each column's."""

    def __init__(self) -> None:
        self._totals: Any = None

    def add(self, chunk: Chunk, *, weighted: bool) -> None:
        """Take in a chunk; its X is looked at only if weights have to be read in X's dtype."""
        weight = None
        if weighted and chunk.sample_weight is not None:
            X = check_array(chunk.X, dtype=FLOATS, accept_sparse=True)
            weight = read_weight(chunk.sample_weight, X)
        y = chunk.y
        if y is None:
            raise ValueError("There is no y: a chunk of a classifier is a tuple (X, y) or (X, y, sample_weight).")
        if type_of_target(y, input_name="y").startswith("multilabel"):
            columns = _read_labels(y, None, int)[1].T
            self._add(np.array([np.bincount(column, weights=weight, minlength=2) for column in columns]))
        else:
            check_classification_targets(y)
            labels, indices = np.unique(column_or_1d(y, warn=True), return_inverse=True)
            self._add(dict(zip(labels.tolist(), np.bincount(indices, weights=weight), strict=True)))

    def _add(self, totals: Any) -> None:
        if self._totals is None:
            self._totals = totals
        elif isinstance(totals, dict) and isinstance(self._totals, dict):
            for label, total in totals.items():
                self._totals[label] = self._totals.get(label, 0) + total
        elif np.shape(totals) == np.shape(self._totals) and not isinstance(totals, dict):
            self._totals = self._totals + totals
        else:
            raise ValueError(
                "y is not of the kind that it was in the chunks before: one class a row, or the same labels."
            )

    @property
    def classes(self) -> Any:
        """All that were seen, in order; for multilabel targets the indices of the columns."""
        if self._totals is None:
            return None
        return np.unique(list(self._totals)) if isinstance(self._totals, dict) else np.arange(len(self._totals))

    def totals(self, classes: Any) -> Any:
        """Return a row for each column of targets, with the total of each class, or of 0 and 1."""
        if isinstance(self._totals, dict):
            return np.array([[self._totals.get(label, 0) for label in classes.tolist()]])
        return self._totals
