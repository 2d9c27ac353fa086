"""What estimators without targets share: X alone is read; y is there for pipelines, and ignored."""

from functools import partial
from typing import Any, Self

from numpy.typing import ArrayLike

from ..typing import Array, MatrixLike
from .chunked import ChunkedEstimator
from .data import read_weight
from .settings import in_batches


class UntargetedEstimator(ChunkedEstimator):
    """Base of the density and the transformer."""

    def fit(
        self,
        X: MatrixLike,
        y: object | None = None,
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
        y : None, default=None
            Ignored; present as scikit-learn's pipelines pass it.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, scaled to mean 1: they count like repeated rows.
        X_val : array-like of shape (n_val, n_features), default=None
            Rows to score after each epoch with ``early_stopping=True``, in place of rows held out here. A
            pipeline transforms them as X with ``transform_input=["X_val"]``.
        y_val : None, default=None
            Ignored, as y is.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, for the callables that name it: ``exposure=...``, and with X_val
            ``exposure_val=...`` too.

        Returns
        -------
        self : estimator
            This estimator, trained.

        Raises
        ------
        GradientCheckError
            If the analytic gradient is plainly not the derivative of the loss.
        DivergenceError
            If a loss or gradient is not finite; ``params_`` are the last finite ones.
        """
        validation = (X_val, None, sample_weight_val)
        return self._fit(partial(self._from_arrays, X, None, sample_weight, metadata=metadata, validation=validation))

    @in_batches
    def partial_fit(
        self, X: MatrixLike, y: object | None = None, sample_weight: ArrayLike | None = None, **metadata: Any
    ) -> Self:
        """Train for one pass over some rows, going on from where the model is.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : None, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, taken as they are: a row of weight 2 counts as two.
        **metadata : array-like of shape (n_samples,) or (n_samples, k)
            Further data of the rows, for the callables that name it.

        Returns
        -------
        self : estimator
            This estimator.
        """
        return self._fit(partial(self._from_arrays, X, None, sample_weight, metadata=metadata), incremental=True)

    def _read(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None
    ) -> tuple[Any, dict[str, Array], Array | None]:
        X = self._read_X(X, reset=reset)
        return X, {}, read_weight(sample_weight, X)
