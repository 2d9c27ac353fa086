"""From what the user passes to rows: validation, weights, rows to be scored."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import validate_data

from ..callback_support import GivenRows
from ..data.arrays import ArrayRows, scale_to_mean_one
from ..data.rows import Rows
from ..exceptions import noted
from ..model.argument_names import OF_VALIDATION
from ..model.gradient_forms import GRADIENT_FORMS
from ..model.metadata import of_validation, read_metadata
from ..typing import Array, MatrixLike, RandomState
from .settings import EstimatorSettings

FLOATS = [np.float64, np.float32]


class DataEstimator(EstimatorSettings):
    """Reads X, y, weights and metadata, and holds out rows."""

    _smallest_held_out = 1
    _scores_by_loss = False  # rather than by predictions
    _default_takes_sparse = False  # whether the default model leaves a sparse X sparse
    _seed: int

    def _read(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None
    ) -> tuple[Any, dict[str, Array], Array | None]:
        """Validate rows; return X, the columns that go with it, and the weights or None."""
        raise NotImplementedError

    def _stratify(self, y: Any) -> Any:
        return None

    def _takes_sparse(self) -> bool:
        """Whether X may be sparse: what callables of the user's make of it is theirs to know."""
        has_own = self.forward is not None or any(getattr(self, form) is not None for form in GRADIENT_FORMS)
        return has_own or self._default_takes_sparse

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._takes_sparse()
        return tags

    def _read_X(self, X: MatrixLike, *args: Any, reset: bool, **settings: Any) -> Any:
        """Validate X, and y where that is given, as `validate_data` does; a sparse X is read as CSR."""
        sparse = "csr" if self._takes_sparse() else False
        read = validate_data(self, X, *args, accept_sparse=sparse, dtype=_floats_of(X), reset=reset, **settings)
        return (_canonical(read[0]), *read[1:]) if args else _canonical(read)

    def _from_arrays(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        metadata: Mapping[str, Any],
        validation: tuple[Any, Any, Any] = (None, None, None),
        continuing: bool,
        incremental: bool,
        classes: Any = None,
    ) -> tuple[Any, ...]:
        """Read arrays: a maker of rows, held-out rows or None, and what callbacks may see of them."""
        names = self._metadata_names("partial_fit")
        metadata, held_metadata = of_validation(metadata, names)
        scored = {name: metadata[name] for name in self._metadata_names("score") & metadata.keys()}
        given = GivenRows(X, y, {"sample_weight": sample_weight, **scored})
        X, columns, weight = self._read(X, y, sample_weight, reset=not continuing, classes=classes)
        columns |= self._read_metadata(metadata, names, X.shape[0])
        if not continuing:
            self._draw_seed(self.random_state)
        held_out = self._given_to_validate(X, columns, validation, held_metadata)
        return self._arranged(X, columns, weight, held_out, given=given, continuing=continuing, incremental=incremental)

    def _arranged(
        self,
        X: Any,
        columns: Mapping[str, Array],
        weight: Array | None,
        held_out: Any = None,
        *,
        given: Any,
        continuing: bool,
        incremental: bool,
    ) -> tuple[Any, ...]:
        """Hold out rows if none are given, and scale weights: a maker of rows, those, and what callbacks may see."""
        after_holding_out = self.early_stopping and held_out is None
        if after_holding_out:
            (X, columns, weight), held_out, given.chosen = self._split(X, columns, weight)
        if not incremental:
            weight = scaled_weight(weight, after_holding_out)
        elif not continuing and weight is not None:
            scale_to_mean_one(len(weight), weight.sum())  # for its error: they are taken as they are
        return partial(ArrayRows, X, columns, weight), held_out, given

    def _read_metadata(
        self, metadata: Mapping[str, Any], names: Collection[str], n_samples: int, suffix: str = ""
    ) -> dict[str, Array]:
        """Validate metadata; a message knows what `model_params` give."""
        given = self.model_params if isinstance(self.model_params, dict) else ()
        return read_metadata(metadata, names, n_samples, suffix, given)

    def _draw_seed(self, random_state: RandomState) -> None:
        self._seed = int(check_random_state(random_state).randint(2**31 - 1))

    def _given_to_validate(
        self, X: Any, columns: Mapping[str, Array], validation: tuple[Any, Any, Any], metadata: Mapping[str, Any]
    ) -> ArrayRows | None:
        """Return the rows that were passed to be scored, as an `ArrayRows`; None where there are none."""
        X_val, y_val, weight = validation
        beside = {"y_val": y_val, "sample_weight_val": weight}
        beside |= {name + OF_VALIDATION: values for name, values in metadata.items()}
        if X_val is None:
            for name, values in beside.items():
                if values is not None:
                    raise ValueError(
                        f"{name} is provided, but X_val was not provided: what ends in {OF_VALIDATION!r} goes with it."
                    )
            return None
        if y_val is None and "y" in columns:
            raise ValueError("X_val is provided, but y_val was not provided.")
        if not self.early_stopping:
            raise ValueError("X_val is passed to fit, but early_stopping is False: set early_stopping=True.")
        with noted("This is about the validation set: X_val, y_val and what goes with them."):
            X_val, columns_val, weight = self._read(X_val, y_val, weight, reset=False)
            columns_val |= self._read_metadata(metadata, metadata, X_val.shape[0], OF_VALIDATION)
        for name in sorted(columns_val.keys() - columns.keys()):
            raise ValueError(f"{name + OF_VALIDATION} is passed for the rows of X_val; pass {name} for those of X.")
        scored_by_loss = self._scores_by_loss and self.scoring is None
        received = self._metadata_names("partial_fit" if scored_by_loss else "predict")
        for name in sorted(received & columns.keys() - columns_val.keys()):
            raise ValueError(f"{name} is passed for the rows of X; pass {name + OF_VALIDATION} for those of X_val.")
        held_out = ArrayRows(X_val.astype(X.dtype, copy=False), columns_val, weight, seed=self._seed)
        self._require_scorable(held_out, given=True)
        return held_out

    def _split(self, X: Any, columns: Mapping[str, Array], weight: Array | None) -> tuple[Any, ...]:
        """Return the training rows, the held-out ones as an `ArrayRows`, and the indices of the former."""
        try:
            train_rows, held_rows = train_test_split(
                np.arange(X.shape[0]),
                test_size=self.validation_fraction,
                random_state=self._seed,
                stratify=self._stratify(columns.get("y")),
            )
        except ValueError as error:
            error.add_note(f"early_stopping=True holds out validation_fraction={self.validation_fraction} of the rows.")
            raise

        def part(rows: Any) -> tuple[Any, ...]:
            named = {name: column[rows] for name, column in columns.items()}
            return X[rows], named, None if weight is None else weight[rows]

        held_out = ArrayRows(*part(held_rows), seed=self._seed)
        self._require_scorable(held_out)
        return part(train_rows), held_out, train_rows

    def _require_scorable(self, held_out: Rows, given: bool = False) -> None:
        n, needed = held_out.n_samples, self._smallest_held_out if self.scoring is None else 1
        if n < needed:
            held = (
                f"early_stopping=True holds out validation_fraction={self.validation_fraction} of the rows: {n} of them"
            )
            there = f"X_val has {n} rows" if given else held
            raise ValueError(f"{there}, and the score needs {needed}. {'Pass' if given else 'Hold out'} more.")
        if not held_out.sum_of_weights:
            weights = "sample_weight_val" if given else "sample_weight"
            rows = "row" if given else "row that early_stopping=True holds out"
            raise ValueError(f"{weights} is zero in every {rows} to be scored.")


def _floats_of(X: Any) -> list[Any]:
    """The dtypes that are kept. What is in a frame of polars or of nullable columns scikit-learn reads as the first."""
    return FLOATS[::-1] if {str(dtype) for dtype in getattr(X, "dtypes", ())} == {"Float32"} else FLOATS


def read_weight(sample_weight: Any, X: Any, name: str = "sample_weight") -> Array | None:
    """Validate the weights of rows; None where none are given."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Real):
        sample_weight = np.full(X.shape[0], sample_weight)
    weight: Array = check_array(sample_weight, ensure_2d=False, dtype=X.dtype, input_name=name)
    if weight.ndim != 1:
        raise ValueError(f"{name} must be 1-d, one weight a row; got shape {weight.shape}.")
    check_consistent_length(X, weight)
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise ValueError(f"Negative values in {name}: row {row} has {weight[row]}. Weights must be >= 0.")
    return weight


def _canonical(X: Any) -> Any:
    """Return a CSR matrix with sorted indices and no place given twice: itself if it is so, else a copy."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def scaled_weight(weight: Array | None, after_holding_out: bool = False) -> Array | None:
    """Scale weights to mean 1, so that they count like repeated rows; see `scale_to_mean_one`."""
    return None if weight is None else weight * scale_to_mean_one(len(weight), weight.sum(), after_holding_out)
