"""Reading X and weights: validation by scikit-learn, with a short way for arrays that need none."""

from __future__ import annotations

import datetime
import math
import numbers
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import validate_data

from ..data.weights import Weights
from ..elsewhere import Elsewhere, Place, entered, on_host, place_of
from ..sparse_matrices import require_inside
from ..typing import Array, MatrixLike

FLOATS = [np.float64, np.float32]

AS_METADATA = (
    "Pass data with more axes, or with meaningful NaN, as metadata: fit(X, y, images=images) passes them to "
    "functions that name them, such as forward(params, X, images)."
)
AS_FIELDS = (
    "If NaN or infinity are meaningful (a missing response, an open interval), pass a structured array, "
    "np.rec.fromarrays([lower, upper], names='lower, upper'), whose values are not validated."
)
BESIDE_X = "Encode text as numbers, or pass it to your functions as metadata: fit(X, y, name=values)."
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
    if isinstance(X, Elsewhere):
        read = read_X(reader, on_host(X), *args, reset=reset, **settings)
        return (X.place.taken_in(read[0]), *read[1:]) if args else X.place.taken_in(read)
    X = on_host(X)
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
    except TypeError as error:
        if "dense data is required" in str(error):
            error.add_note(reader._why_dense())
        raise
    return (_canonical(read[0]), *read[1:]) if args else _canonical(read)


def entered_as_in_fit(estimator: Any, X: Any, method: str) -> Any:
    """Return X as `entered` does; raise unless it is where X of `fit` was."""
    X = entered(X)
    if "_training" in vars(estimator):
        require_place_of_fit(estimator, estimator._training, place_of(X), method)
    return X


def require_place_of_fit(estimator: Any, training: Any, here: Place | None, method: str) -> None:
    """Raise unless an X that is at a place, or None for NumPy, goes with that of `fit`."""
    there = training.objective.layout.place
    if here != there:
        raise ValueError(
            f"Inputs passed to {type(estimator).__name__}.{method}() must use the same namespace and the same device "
            f"as those passed to fit(): X is {here or 'read as a NumPy array'}, and was {there or 'a NumPy array'}. "
            "Move X there, or fit again. Arrays of other namespaces are read as NumPy arrays unless scikit-learn's "
            "array_api_dispatch is on."
        )


def read_X_and_y(reader: Any, X: MatrixLike, y: Any, *, reset: bool, compared: bool | None) -> tuple[Any, Array]:
    """Validate X and numeric targets; ``compared`` tells whether a loss by name will compare them with predictions.

    Plain numbers become floats of X's dtype and must be finite, as scikit-learn asks of a regressor. Records, and rows
    of more than one axis, can be had by losses of the user's own. Of records neither dtypes nor values change, and NaN
    and infinity are theirs to judge.
    """
    y = _require_readable(y)
    fields = getattr(getattr(y, "dtype", None), "names", None)
    if fields is None and (compared or _n_axes(y) <= 2):
        return _read_plain(reader, X, y, reset=reset, compared=compared)
    X = read_X(reader, X, reset=reset)
    if fields is None:
        _require_no_dates(y, "y")
        y = check_array(y, ensure_2d=False, allow_nd=True, dtype=X.dtype, input_name="y", estimator=reader)
    else:
        _require_numbers(y.dtype, "y")
        if compared:
            raise ValueError(
                f"y has the fields {', '.join(fields)}, which a named loss cannot compare with predictions. Pass one "
                f"of them, y[{fields[0]!r}], or a loss of your own, as a function or with loss_and_gradient."
            )
    check_consistent_length(X, y)
    return X, y


def read_y(y: Any) -> Array:
    """Validate numeric targets without X, which become floats."""
    y = _require_readable(y)
    _require_no_dates(y, "y")
    read: Array = check_array(y, ensure_2d=False, dtype=FLOATS, input_name="y")
    return read


def _read_plain(reader: Any, X: MatrixLike, y: Any, *, reset: bool, compared: bool | None) -> tuple[Any, Array]:
    try:
        X, y = read_X(reader, X, y, multi_output=True, y_numeric=True, reset=reset)
        return X, y.astype(X.dtype, copy=False)
    except (TypeError, ValueError) as error:
        lengths = {len(row) for row in y if hasattr(row, "__len__")} if isinstance(y, list | tuple) else set()
        if "Input y contains" in str(error) and not compared:
            error.add_note(AS_FIELDS)
        elif "could not convert string" in str(error):
            error.add_note(f"y must contain numbers. {BESIDE_X}")
        elif "inhomogeneous" in str(error) and len(lengths) > 1:
            error.add_note(
                f"The rows of y have between {min(lengths)} and {max(lengths)} values. Pad them to the same length."
            )
        raise


def _require_readable(y: Any) -> Any:
    """Return targets, records as an array; raise for a container that has no rows of numbers, or would lose some."""
    if issparse(y):
        raise TypeError("Sparse data was passed for y, but dense data is required. Use y.toarray().")
    if isinstance(y, Mapping):
        raise TypeError(
            f"y is a {type(y).__name__}; it must be an array with one row per sample. For named columns, pass a "
            "structured array: np.rec.fromarrays([time, event], names='time, event')."
        )
    if isinstance(y, np.ma.MaskedArray):
        if np.ascontiguousarray(np.ma.getmaskarray(y)).view(bool).any():
            raise ValueError(
                "y is a masked array, whose masked values would count as numbers. Remove these samples, or replace the "
                "masked values by a number: y.filled(value)."
            )
        return y.data
    is_list_of_records = isinstance(y, list | tuple) and len(y) > 0 and isinstance(y[0], np.void)
    return np.asarray(y) if is_list_of_records else y


def _require_numbers(dtype: Any, name: str) -> None:
    """Raise if records have a field, or one within it, that holds anything but real numbers and truth values."""
    if dtype.names is None:
        if dtype.kind in "mM":
            raise ValueError(
                f"{name} has dates or times ({dtype}), which need a unit. Convert them to numbers: (dates - start) / "
                "np.timedelta64(1, 'D') for days since a start."
            )
        if dtype.kind not in "fiub":
            raise ValueError(f"{name} has dtype {dtype}; a field of y must contain numbers or booleans. {BESIDE_X}")
    elif not dtype.names:
        raise ValueError(f"{name} has no fields.")
    for field in dtype.names or ():
        _require_numbers(dtype[field].base, f"{name}[{field!r}]")


def _n_axes(X: Any) -> int:
    """The number of axes of what may be no array; of rows of several lengths 1."""
    return 1 + _n_axes(X[0]) if isinstance(X, list | tuple) and len(X) else getattr(X, "ndim", 0)


def _require_no_dates(values: Any, name: str) -> None:
    """Raise for dates and spans of time, which would become numbers of a unit that nobody chose."""
    found = dates_in(values)
    if found:
        raise ValueError(
            f"{name} has dates or times ({found[0]}), which need a unit. Convert them to numbers: "
            f"({name} - start) / np.timedelta64(1, 'D') for days since a start, {name} / np.timedelta64(1, 's') for "
            "durations in seconds."
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
    if type(values) not in (np.ndarray, Elsewhere) or values.ndim not in (1, 2) or not values.size:
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
        raise ValueError(f"{name} must be 1-d, one weight per sample; got shape {weight.shape}.")
    check_consistent_length(X, weight)
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise ValueError(f"Negative values in {name}: sample {row} has {weight[row]}. Weights must be >= 0.")
    return Weights.of(weight)


def score_weight(sample_weight: Any, prediction: Array) -> Array | None:
    """Validate the weights of samples to be scored, and scale them by the largest; None if none are given."""
    weights = read_weight(sample_weight, prediction)
    require_any(weights)
    return None if weights is None else weights.values


def require_any(weights: Weights | None) -> None:
    """Raise if there are weights, and all are 0."""
    if weights is not None and not len(weights.counted):
        raise ValueError("sample_weight is zero for every sample: there is nothing to average.")


def _canonical(X: Any) -> Any:
    """Return a CSR matrix with sorted indices and no place given twice: itself if it is so, else a copy."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X
