"""Sample metadata: arrays besides X, y and the weights, passed by name, such as exposure or censoring times."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import scipy.sparse

from ..elsewhere import on_host
from ..exceptions import ReceivedArgumentError
from ..typing import Array
from .argument_names import OF_VALIDATION, meaning_of, meant

OF_FIT = ("X", "y", "sample_weight")  # arguments that may be taken for metadata
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("sigma", "yerr", "y_err"), "For known standard deviations of y, pass sample_weight={name}**-2."),
    **dict.fromkeys(("eval_set", "validation_data"), "Pass validation samples as X_val and y_val."),
    "callbacks": "Set callbacks on the estimator: set_callbacks(...).",
    **dict.fromkeys(("epochs", "n_epochs"), "Set the number of epochs on the estimator: set_params(max_iter=...)."),
    **dict.fromkeys(
        ("batch_size", "max_iter", "verbose"), "It is a parameter of the estimator: set_params({name}=...)."
    ),
}
"""Arguments of `fit` in other libraries, and what to do here; for messages."""


def read_metadata(
    metadata: Mapping[str, Any],
    names: Collection[str],
    n_samples: int,
    suffix: str = "",
    model_params: Collection[str] = (),
) -> dict[str, Array]:
    """Return metadata as arrays with one row for each row of X, without those that are None.

    The suffix ends the names in messages; those of ``model_params`` are given already.

    Raises
    ------
    ReceivedArgumentError
        For a name that no callable has, or that stands for something else.
    ValueError
        For another number of rows, and for what is no array of rows.
    """
    require_named(metadata, names, model_params)
    given = {name: values for name, values in metadata.items() if values is not None}
    return {name: _read_column(name + suffix, values, n_samples) for name, values in given.items()}


def require_named(metadata: Mapping[str, Any], names: Collection[str], model_params: Collection[str] = ()) -> None:
    """Raise if an argument was passed that no callable names, or whose name has another meaning."""
    for name, values in metadata.items():
        if name not in names and values is not None:
            raise ReceivedArgumentError(f"Metadata {name!r} was passed, {_objection(name, names, model_params)}")


def _objection(name: str, names: Collection[str], model_params: Collection[str]) -> str:
    """Say why a name is none of metadata here."""
    base = name.removesuffix(OF_VALIDATION)
    if base in model_params:
        return f"but model_params already has {base!r}. Pass it in one place only."
    if name == base or meaning_of(base):
        taken = meaning_of(name)
        if taken:
            return f"but the name is taken: {taken}."
        which = "but no callable used here names it"
    else:
        which = f"whose suffix refers to X_val, but no callable used here names {base!r}"
    suffix = name.removeprefix(base)
    hint = meant(name, [*names, *OF_FIT], suffix)
    if any(repr(argument + suffix) in hint for argument in OF_FIT):
        hint += " It is an argument of fit and score, not metadata."
    if not hint and name in ELSEWHERE:
        hint = " " + ELSEWHERE[name].format(name=name)
    return f"{which}.{hint} Names that the callables accept: {', '.join(sorted(names)) or 'none'}."


def _read_column(name: str, values: Any, n_samples: int) -> Array:
    if scipy.sparse.issparse(values):
        raise TypeError(f"{name} is sparse; metadata must be dense. Pass {name}.toarray().")
    # A series of a nullable dtype becomes an array of objects elsewhere.
    values = on_host(values)
    array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if array.ndim == 0:
        raise ValueError(
            f"{name} must have one value per sample; got {values!r}. Pass a value that all samples share as "
            f"model_params={{{name!r}: ...}}."
        )
    if len(array) != n_samples:
        raise ValueError(f"{name} has {len(array)} rows, but X has {n_samples}. Metadata must have one row per sample.")
    return array


def of_validation(metadata: Mapping[str, Any], names: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell apart what belongs to the rows of X from what, by its suffix, belongs to those of X_val."""
    held = {
        name: name.removesuffix(OF_VALIDATION)
        for name in metadata
        if name not in names and name.removesuffix(OF_VALIDATION) in names
    }
    training = {name: values for name, values in metadata.items() if name not in held}
    return training, {base: metadata[name] for name, base in held.items()}
