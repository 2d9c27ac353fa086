"""Reading X and weights: validation by scikit-learn, with a short way for arrays that need none."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import validate_data

from ..data.arrays import scale_to_mean_one
from ..typing import Array, MatrixLike

FLOATS = [np.float64, np.float32]


def read_X(reader: Any, X: MatrixLike, *args: Any, reset: bool, **settings: Any) -> Any:
    """Validate X, and y if it is given, as `validate_data` does; a sparse X is read as CSR.

    What there is to say of the columns of X is set on ``reader`` if ``reset``, and compared with it otherwise.
    """
    plain: Any = X
    if all(map(_is_plain, (X, *args))) and plain.ndim == 2 and _fits(reader, plain, reset):
        if reset:
            reader.n_features_in_ = plain.shape[1]
            reader.__dict__.pop("feature_names_in_", None)
        if not args:
            return X
        if len(args[0]) == len(plain):
            return X, *args
    sparse = "csr" if reader._takes_sparse() else False
    read = validate_data(reader, X, *args, accept_sparse=sparse, dtype=_floats_of(X), reset=reset, **settings)
    return (_canonical(read[0]), *read[1:]) if args else _canonical(read)


def _is_plain(values: Any) -> bool:
    """Whether values are an array of whole numbers or finite floats: nothing is to be converted."""
    if type(values) is not np.ndarray or values.ndim not in (1, 2) or not values.size:
        return False
    if values.dtype not in FLOATS:
        return values.dtype.kind in "iu" and values.ndim == 1
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(values.sum())


def _fits(reader: Any, X: Array, reset: bool) -> bool:
    """Whether X has the columns that the reader knows; one that knows their names has a warning to give."""
    known = reader.__dict__
    return reset or ("feature_names_in_" not in known and known.get("n_features_in_") == X.shape[1])


def _floats_of(X: Any) -> list[Any]:
    """The dtypes that are kept. What is in a frame of polars or of nullable columns scikit-learn reads as the first."""
    return FLOATS[::-1] if {str(dtype) for dtype in getattr(X, "dtypes", ())} == {"Float32"} else FLOATS


def read_weight(sample_weight: Any, X: Any, name: str = "sample_weight") -> Array | None:
    """Validate the weights of samples; None if none are given."""
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
    """Scale weights to mean 1, so that they count like repeated samples; see `scale_to_mean_one`."""
    return None if weight is None else weight * scale_to_mean_one(len(weight), weight.sum(), after_holding_out)
