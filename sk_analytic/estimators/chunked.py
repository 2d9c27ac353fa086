"""`fit_chunks`: what the four estimators do with data that do not fit into memory."""

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Self

from numpy.typing import ArrayLike

from ..callback_support import GivenRows
from ..data.arrays import scale_to_mean_one
from ..data.batch import HELD_OUT, generator
from ..data.chunks import ChunkRows, Chunks, Source
from ..data.rows import Rows
from ..losses import get_loss
from ..model.argument_names import OF_VALIDATION
from ..model.metadata import of_validation
from ..typing import Array, MatrixLike
from .base import AnalyticEstimator


class ChunkedEstimator(AnalyticEstimator):
    """The shared base, able to read chunks."""

    def fit_chunks(
        self,
        chunks: Any,
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
            A chunk is ``X``, ``(X, y)``, ``(X, y, sample_weight)``, a dict with the arguments of `fit` by name,
            metadata of the rows included, or a function without arguments that loads one of these; chunks
            without rows are skipped. They come as a list (or another object with a length and an index), whose
            order is drawn anew for each epoch; as any other object that can be iterated over again and again;
            or as a generator function, called in every pass.
        X_val : {array-like, sparse matrix} of shape (n_val, n_features), default=None
            Rows to score after each epoch with ``early_stopping=True``, in place of chunks held out here.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Their targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Their weights.
        **metadata : array-like of shape (n_val,) or (n_val, k)
            Further data of theirs, for the callables that name it: ``exposure_val=...``.

        Returns
        -------
        self : estimator
            This estimator, trained.

        Raises
        ------
        TypeError
            If the chunks can be gone through only once, or are none.
        ValueError
            If a chunk does not go with the first: in features, dtype, shape of y, whether X is sparse, or whether it
            has weights; if it has other rows in another pass. A note names the chunk.

        See Also
        --------
        partial_fit : One pass over one chunk, whatever comes next.

        Notes
        -----
        A first pass reads every chunk once: it validates and counts the rows, looks whether y lies in the domain
        of the loss, and sums the weights, which are scaled to mean 1 over all rows. Then training goes through
        the chunks in every epoch, or in every evaluation of a full-batch method, which adds up sums over the
        chunks in their order. One chunk is held at a time, and validated whenever it is read.

        A batch lies within one chunk: each chunk ends with a shorter one where ``batch_size`` does not divide its
        rows. The order of rows and chunks depends on the seed, the epoch and the number of the chunk only. One
        chunk gives what `fit` gives, to the last bit.

        ``init`` receives the rows of the first chunk, on which the gradient is checked too. With
        ``early_stopping=True`` some chunks are held out, ``validation_fraction`` of their number; they are
        scored together. If there is a single chunk, rows of it are held out as in `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from sk_analytic import AnalyticRegressor
        >>> def load(number):
        ...     X = np.random.default_rng(number).normal(size=(200, 3))
        ...     return X, X @ [1.0, -2.0, 0.5]
        >>> def chunks():
        ...     for number in range(5):
        ...         yield load(number)
        >>> model = AnalyticRegressor(tol=1e-6, random_state=0).fit_chunks(chunks)
        >>> model.params_["coef"].round(2)
        array([ 1. , -2. ,  0.5])
        """
        validation = X_val, y_val, sample_weight_val
        return self._fit(partial(self._from_chunks, chunks, validation=validation, metadata=metadata))

    def _from_chunks(
        self,
        chunks: Any,
        *,
        validation: Any,
        metadata: Mapping[str, Any],
        continuing: bool,
        incremental: bool,
        **labels: Any,
    ) -> tuple[Any, ...]:
        """Read chunks: a maker of rows, held-out rows or None, and that callbacks see none of them."""
        names = self._metadata_names("partial_fit")
        metadata, metadata_val = of_validation(metadata, names)
        for name in metadata:
            raise TypeError(
                f"fit_chunks takes no {name!r}: what goes with the rows of a chunk stands in it, "
                f"{{'X': X, {name!r}: ...}}; what goes with X_val is called {name + OF_VALIDATION!r}."
            )
        read_chunks = self._survey(Source(chunks), names, continuing, labels)
        if not continuing:
            self._draw_seed(self.random_state)
        numbers = list(read_chunks.extents)
        held_out: Rows | None = None
        if any(given is not None for given in (*validation, *metadata_val.values())):
            X, columns, _ = read_chunks.arrays(numbers[0])
            held_out = self._given_to_validate(X, columns, validation, metadata_val)
            del X, columns  # so that the chunk can be let go
        elif self.early_stopping and len(numbers) == 1:
            arrays = read_chunks.arrays(numbers[0])
            return self._arranged(*arrays, given=GivenRows(), continuing=continuing, incremental=incremental)
        elif self.early_stopping:
            numbers, held_out = self._hold_out(read_chunks)
        extents = [read_chunks.extents[number] for number in numbers]
        after_holding_out = len(numbers) < len(read_chunks.extents)
        scale = scale_to_mean_one(sum(e.n for e in extents), sum(e.sum_of_weights for e in extents), after_holding_out)
        return partial(ChunkRows, read_chunks, numbers, scale=scale), held_out, GivenRows()

    def _survey(self, source: Source, names: Collection[str], continuing: bool, labels: dict[str, Any]) -> Chunks:
        """Go through the chunks once, or twice where labels have to be known first; return them, validated."""
        labels = self._survey_labels(source, continuing, **labels)

        def read(X: Any, y: Any, sample_weight: Any, metadata: Mapping[str, Any], *, reset: bool) -> tuple[Any, ...]:
            X, columns, weight = self._read(X, y, sample_weight, reset=reset and not continuing, **labels)
            return X, columns | self._read_metadata(metadata, names, X.shape[0]), weight

        chunks = Chunks(source, read)
        chunks.survey(self._look_at_targets())
        if self.verbose:
            n_samples = sum(extent.n for extent in chunks.extents.values())
            print(f"First pass: {len(chunks.extents)} chunks, {n_samples} rows", flush=True)
        return chunks

    def _survey_labels(self, source: Source, continuing: bool) -> dict[str, Any]:
        """Return what `_read` has to know of all chunks before it can read one."""
        return {}

    def _look_at_targets(self) -> Callable[[Mapping[str, Array]], object]:
        """Return a function that raises if the targets of a chunk do not go with the loss."""
        if self.loss is None or self._loss_is_callable():
            return lambda columns: None
        loss: Any = get_loss(self.loss)
        loss.check()
        return partial(self._check_loss, loss)

    def _hold_out(self, chunks: Chunks) -> tuple[list[int], ChunkRows]:
        """Return the numbers of the chunks for training, and the others as rows."""
        numbers = list(chunks.extents)
        n_held_out = math.ceil(self.validation_fraction * len(numbers))
        if n_held_out == len(numbers):
            raise ValueError(
                f"early_stopping=True with validation_fraction={self.validation_fraction} would hold out all of the "
                f"{n_held_out} chunks. Make more, smaller chunks, or hold out less."
            )
        held_out = set(generator(self._seed, HELD_OUT).choice(numbers, n_held_out, replace=False).tolist())
        rows = ChunkRows(chunks, [number for number in numbers if number in held_out], seed=self._seed)
        self._require_scorable(rows)
        return [number for number in numbers if number not in held_out], rows
