"""Reading X and weights: validation by scikit-learn, with a short way for arrays that need none."""

from __future__ import annotations

import datetime
import math
import numbers
import re
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import validate_data

from ..data.weights import Weights
from ..sparse_matrices import require_inside
from ..typing import Array, MatrixLike

FLOATS = [np.float64, np.float32]

AS_METADATA = (
    "Data of more axes, and NaN where it means something, can come beside X: fit(X, y, images=images) hands them to "
    "functions that name them, forward(params, X, images)."
)
DATES = re.compile("date|time|duration|period")  # how the names of their dtypes begin
DATE_TYPES = (datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)


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
    for name, values in zip(("X", "y"), (X, *args), strict=False):
        require_inside(values, name)
        if name == "X" or settings.get("y_numeric"):
            _require_no_dates(values, name)
    sparse = "csr" if reader._takes_sparse() else False
    try:
        read = validate_data(reader, X, *args, accept_sparse=sparse, dtype=_floats_of(X), reset=reset, **settings)
    except ValueError as error:
        if "Input X contains" in str(error) or _n_axes(X) > 2:
            error.add_note(AS_METADATA)
        raise
    return (_canonical(read[0]), *read[1:]) if args else _canonical(read)


def _n_axes(X: Any) -> int:
    """The number of axes of what may be no array; of rows of several lengths 1."""
    return 1 + _n_axes(X[0]) if isinstance(X, list | tuple) and len(X) else getattr(X, "ndim", 0)


def _require_no_dates(values: Any, name: str) -> None:
    """Raise for dates and spans of time, which would become numbers of a unit that nobody chose."""
    found = dates_in(values)
    if found:
        raise ValueError(
            f"{name} has dates or times ({found[0]}), which are numbers only in a unit. Choose one: "
            f"({name} - start) / np.timedelta64(1, 'D') for days since a start, {name} / np.timedelta64(1, 's') for "
            "spans in seconds."
        )


def dates_in(values: Any) -> list[str]:
    """Return the names of the types of dates and spans of time in an array-like; of objects, the first row is seen."""
    if not isinstance(values, list | tuple) and not hasattr(values, "dtype") and not hasattr(values, "dtypes"):
        values = np.asarray(values)
    dtypes = getattr(values, "dtypes", getattr(values, "dtype", "object"))
    several = hasattr(dtypes, "__iter__") and not isinstance(dtypes, str)
    names = [str(dtype) for dtype in dict.fromkeys(dtypes if several else [dtypes])]
    found = [name for name in names if DATES.match(name.lower())]
    first = _first_row(values) if "object" in names else []
    return found + [type(value).__name__ for value in first if isinstance(value, DATE_TYPES)]


def _first_row(values: Any) -> list[Any]:
    if not getattr(values, "ndim", 1) or issparse(values) or not len(values):
        return []
    row = values.iloc[0] if hasattr(values, "iloc") else values[0]
    return list(row) if hasattr(row, "__len__") and not isinstance(row, str) else [row]


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


def read_weight(sample_weight: Any, X: Any, name: str = "sample_weight") -> Weights | None:
    """Validate the weights of samples; None if none are given."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Real):
        sample_weight = np.full(X.shape[0], sample_weight)
    _require_no_dates(sample_weight, name)
    weight: Array = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name=name)
    if weight.ndim != 1:
        raise ValueError(f"{name} must be 1-d, one weight a row; got shape {weight.shape}.")
    check_consistent_length(X, weight)
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise ValueError(f"Negative values in {name}: row {row} has {weight[row]}. Weights must be >= 0.")
    return Weights.of(weight)


def score_weight(sample_weight: Any, prediction: Array) -> Array | None:
    """Validate the weights of samples to be scored, and scale them by the largest; None if none are given."""
    weights = read_weight(sample_weight, prediction)
    require_any(weights)
    return None if weights is None else weights.values


def require_any(weights: Weights | None) -> None:
    """Raise if there are weights, and all are 0."""
    if weights is not None and not len(weights.counted):
        raise ValueError("sample_weight is zero in every row: there is nothing to average.")


def _canonical(X: Any) -> Any:
    """Return a CSR matrix with sorted indices and no place given twice: itself if it is so, else a copy."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X
