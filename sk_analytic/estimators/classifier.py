"""Classification: labels become class indices, scores become probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score

from ..dask_collections import in_memory
from ..data.chunks import Source
from ..data.weights import Weights
from ..elsewhere import entered, on_host
from ..losses import LogLoss, Loss
from ..model.default_models import LINEAR
from ..typing import Array, LossFunction, MatrixLike
from .base import AnalyticEstimator
from .coefficients import coefficients, intercepts
from .lazy import lazily
from .samples import read_weight, read_X, score_weight
from .settings import in_batches, shares_parameters
from .targets import ClassTargets, Labels, Targets, is_balanced


@shares_parameters(
    forward="raw scores of shape (n,), (n, 1) or (n, 2) for two classes, else (n, K)",
    default='a linear model, ``X @ params["coef"] + params["intercept"]``',
    score="accuracy",
    parameters="""
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with the sample weights. "balanced" uses weights inversely proportional
        to class frequencies.""",
    attributes="""
    classes_ : ndarray of shape (n_classes,)
        Class labels; for multilabel targets, the column indices.
    n_outputs_ : int
        Number of score columns, as passed to `init`: 1 for two classes, otherwise the number of classes; for
        multilabel targets, the number of labels.
    coef_ : ndarray of shape (1, n_features) or (n_outputs, n_features)
        Coefficients of the default linear model's scores; only available if no callables are given.
    intercept_ : ndarray of shape (1,) or (n_outputs,)
        Intercept of the default linear model's scores; only available if no callables are given.""",
)
class AnalyticClassifier(ClassifierMixin, AnalyticEstimator):
    """Binary, multiclass or multilabel classification with a model whose gradient you derived by hand.

    Without callables it is a logistic regression. Callables receive ``y`` as class indices of shape (n,), starting at
    0; for multilabel targets, as floats 0 and 1 of shape (n, n_labels).

    {shared}

    Examples
    --------
    Softmax regression with a hand-written adjoint:

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
    >>> model = AnalyticClassifier(
    ...     vjp=vjp, init=init, optimizer="lbfgs", alpha=1e-2, random_state=0
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    _default_model = LINEAR
    _labels_of_fit = {"complete": True}
    _default_takes_sparse = True
    classes_: Any

    coef_ = property(coefficients, doc="Coefficients of the default linear model, in scikit-learn's shape.")
    intercept_ = property(intercepts, doc="Intercept of the default linear model, in scikit-learn's shape.")

    def __init__(
        self,
        *args: Any,
        loss: str | Loss | LossFunction | None = "log_loss",
        class_weight: dict[Any, float] | str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*args, loss=loss, **settings)
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(  # type: ignore[override]
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
            Training samples. float32 and float64 are kept; other dtypes are converted to float64. If X is a dask array
            or dataframe, each chunk is processed on the worker of the current client's cluster that holds it, together
            with y, weights and metadata.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels of any type, or a multilabel indicator matrix of 0 and 1.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, scaled to mean 1: a sample of weight 2 counts like the same sample twice.
        X_val : array-like of shape (n_val, n_features), default=None
            Validation samples to score after each epoch with ``early_stopping=True``, in place of samples held out
            from X. A pipeline created with ``transform_input=["X_val"]`` transforms them like X.
        y_val : array-like of shape (n_val,) or (n_val, n_labels), default=None
            Labels of the validation samples. Each must occur in y.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the validation samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the callables that name it: ``exposure=...``, and ``exposure_val=...`` for
            `X_val`.

        Returns
        -------
        self : AnalyticClassifier
            The fitted estimator.

        Raises
        ------
        GradientCheckError
            If the analytic gradient is clearly not the derivative of the loss.
        DivergenceError
            If the loss or the gradient is not finite. ``params_`` keeps the last finite parameters.
        """
        return self._fit_arrays(X, y, sample_weight, metadata, (X_val, y_val, sample_weight_val))

    @in_batches
    def partial_fit(  # type: ignore[override]
        self,
        X: MatrixLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        **metadata: Any,
    ) -> Self:
        """Train for one pass over a batch of samples, starting from the current parameters.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that can occur in any call. Required in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights, not rescaled: a sample of weight 2 counts as two.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to the callables that name it.

        Returns
        -------
        self : AnalyticClassifier
            The fitted estimator.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit, which does not see all samples. Compute the "
                "weights from a large sample with sklearn.utils.class_weight.compute_class_weight and pass a dict."
            )
        if classes is None and not hasattr(self, "params_"):
            raise ValueError("classes must be passed in the first call to partial_fit: all labels that can occur.")
        return self._partial_fit_arrays(X, y, sample_weight, metadata, classes=classes)

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
            A chunk is ``(X, y)``, ``(X, y, sample_weight)``, a dict of the arguments of `fit`,
            including sample metadata, or a function without arguments that loads one of these. Chunks without samples
            are skipped. Dask's delayed values, in a list, are processed on the workers that hold them. Pass a list (or
            another object with a length and an index), whose chunks are shuffled before each epoch; another
            object that can be iterated over repeatedly; or a generator function, which is called in every pass.
        classes : array-like of shape (n_classes,), default=None
            All labels. If None, an additional pass over the chunks collects them. ``class_weight="balanced"``
            needs this pass too, to count the classes.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Validation samples to score after each epoch with ``early_stopping=True``, in place of held-out chunks.
        y_val : array-like of shape (n_val,) or (n_val, n_labels), default=None
            Labels of the validation samples. Each must occur in the chunks.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the validation samples.
        **metadata : array-like of shape (n_val,) or (n_val, k)
            Metadata of the validation samples, passed to the callables that name it: ``exposure_val=...``.

        Returns
        -------
        self : AnalyticClassifier
            The fitted estimator.

        Raises
        ------
        TypeError
            If `chunks` can be iterated over only once, or does not contain chunks.
        ValueError
            If a chunk differs from the first in its features, its dtype, its kind of labels, or whether it has
            weights; or if it has other samples in a later pass. A note names the chunk.

        See Also
        --------
        partial_fit : Train for one pass over a single chunk.

        Notes
        -----
        Chunks are read, shuffled and held out as in :meth:`AnalyticRegressor.fit_chunks`. Early stopping holds out
        whole chunks, so the held-out samples are not stratified by class.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sk_analytic import AnalyticClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> chunks = [
        ...     (X[start : start + 600], y[start : start + 600])
        ...     for start in range(0, len(X), 600)
        ... ]
        >>> model = AnalyticClassifier(max_iter=20, tol=None, random_state=0)
        >>> model.fit_chunks(chunks, classes=range(10)).score(X, y) > 0.95
        True
        """
        return self._fit_chunks(chunks, metadata, (X_val, y_val, sample_weight_val), classes=classes)

    def _survey_labels(self, source: Source, known: Any, classes: Any = None) -> dict[str, Any]:
        balanced = is_balanced(self.class_weight)
        if classes is not None and not balanced:
            return {"classes": classes}
        each = source.map(partial(Labels.of, weighted=balanced))
        if not each:
            return {"classes": classes}
        labels = Labels.joined(each)
        if classes is None and known is not None:
            known.require_same(labels.classes)
        classes = labels.classes if classes is None else np.unique(classes)
        return {"classes": classes, "totals": labels.of_classes(classes) if balanced else None}

    def _read(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        reset: bool,
        known: Any = None,
        classes: Any = None,
        totals: Any = None,
        complete: bool = False,
    ) -> tuple[Any, dict[str, Array], Weights | None, Targets]:
        X, y = read_X(self, X, y, multi_output=True, reset=reset)
        targets, encoded = ClassTargets.read(y, known, X.dtype, classes, complete)
        weight = read_weight(sample_weight, X)
        if self.class_weight is not None:
            of_classes = targets.weights(self.class_weight, encoded, weight, totals, is_first=reset)
            by_class = read_weight(of_classes, X, "class_weight")
            weight = by_class if weight is None or by_class is None else weight.times(by_class)
        return X, {"y": encoded}, weight, targets

    def _check_loss(self, loss: Loss, columns: Mapping[str, Array]) -> None:
        if loss.link != "logit":
            raise ValueError(
                f"loss={self._trained_loss!r} does not apply to class scores. Use 'log_loss', a Loss of your own with "
                'link = "logit", or AnalyticRegressor.'
            )
        super()._check_loss(loss, columns)

    @lazily
    def decision_function(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the raw class scores.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes, the score of the second: the difference of the columns if the model returns two.
        """
        prediction = self._predictions(X, metadata)
        return self._class_targets.scores(prediction)

    @property
    def _class_targets(self) -> ClassTargets:
        targets: Any = self._training.targets
        return targets  # type: ignore[no-any-return]

    @lazily
    def predict_proba(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the probability of each class: the logistic function or the softmax of the scores.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Probabilities, with columns in the order of ``classes_``. Rows sum to 1, except for multilabel targets,
            whose labels have independent probabilities.
        """
        return self._on_scale_of_y(self._predictions(X, metadata))

    _link = "logit"

    def _on_scale_of_y(self, prediction: Array) -> Array:
        """Return the probabilities of classes."""
        scores = self._class_targets.scores(prediction)
        return LogLoss().inverse_link(scores) if self._class_targets.multilabel else LogLoss.probabilities(scores)

    @lazily
    def predict_log_proba(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``; minus infinity if a probability is too small for a float.
        """
        with np.errstate(divide="ignore"):
            log_probabilities: Array = np.log(entered(self.predict_proba(X, **metadata)))
            return log_probabilities

    @lazily
    def predict(self, X: MatrixLike, **metadata: Any) -> Array:
        """Return the most probable class of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Predicted labels, as passed to `fit`; for multilabel targets, 0 and 1.
        """
        scores = self.decision_function(X, **metadata)
        return self._class_targets.decided(entered(scores))

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None, **metadata: Any) -> float:
        """Return the accuracy of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Sample weights.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Sample metadata, passed to `forward` if it names it.

        Returns
        -------
        score : float
            Fraction of correctly classified samples; for multilabel targets, every label must be correct.
        """
        y, sample_weight, predicted = map(on_host, in_memory(y, sample_weight, self.predict(X, **metadata)))
        return float(accuracy_score(y, predicted, sample_weight=score_weight(sample_weight, predicted)))
