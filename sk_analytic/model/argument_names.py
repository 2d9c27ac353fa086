"""Names of arguments: those that each callable receives, and those that are free for metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..exceptions import ReceivedArgumentError
from ..validation import nearest
from .gradient_forms import GRADIENT_FORMS

IN_PLACE_OF_FORWARD = "vjp in place of forward"  # the role of a `vjp` that makes predictions

OF_LOSSES = ("formula", "value_and_derivative")  # the methods of a `Loss` that receive metadata

RECEIVABLE: dict[str, tuple[str, ...]] = {
    "forward": (),
    **dict.fromkeys(OF_LOSSES, ()),
    **{name: form.receives for name, form in GRADIENT_FORMS.items()},
    IN_PLACE_OF_FORWARD: ("rng",),
    "loss": ("y", "sample_weight", "rng"),
    "init": ("n_features", "n_outputs", "rng", "X", "y", "sample_weight"),
    "sample": ("n_samples", "rng"),
    "inverse": (),
}
"""Arguments that each callable may receive by name, besides metadata and model parameters."""

ROLES = ("init", "forward", *GRADIENT_FORMS, "loss", "sample", "inverse")
"""Roles of an estimator's functions: the names of its parameters, and of the methods of a model object."""

PARAMETERS = {"sample": "sampler"}
"""Parameters of an estimator that are not named by their role: it has a method of that name."""

RESERVED = frozenset({"params", *(name for names in RECEIVABLE.values() for name in names)})
"""The names that the estimator gives to callables itself."""

_BY_POSITION: dict[str, tuple[str, ...]] = {
    "init": (),
    "sample": ("params",),
    "inverse": ("params", "Z"),
    **dict.fromkeys(OF_LOSSES, ("y", "prediction")),
}

ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("param", "parameters", "theta"), "params"),
    **dict.fromkeys(("data", "features", "inputs", "x", "x_data", "xdata"), "X"),
    **dict.fromkeys(("label", "labels", "target", "targets", "y_data", "y_true", "ydata"), "y"),
    **dict.fromkeys(("sample_weights", "w", "weight", "weights"), "sample_weight"),
    **dict.fromkeys(("generator", "random_state", "seed"), "rng"),
    **dict.fromkeys(("d", "n_features_in", "n_inputs", "num_features"), "n_features"),
    **dict.fromkeys(("k", "n_classes", "n_targets", "num_outputs"), "n_outputs"),
    **dict.fromkeys(("n", "num_samples", "size"), "n_samples"),
}
"""Names of arguments in other libraries, in lower case, to ours; for messages."""

OF_VALIDATION = "_val"  # ends the name of what belongs to the rows of X_val


def by_position(role: str) -> tuple[str, ...]:
    """Return what a callable receives by position."""
    return _BY_POSITION.get(role, ("params", "X"))


def means(name: str) -> str:
    """Return the argument that a name unmistakably means, or the name itself."""
    return ELSEWHERE.get(name.lower(), name)


def meant(name: str, names: Iterable[str], suffix: str = "") -> str:
    """Return a hint at the one of some names that was probably meant by another, or nothing; all have the suffix."""
    known = [known + suffix for known in names]
    synonyms = {word + suffix: ours + suffix for word, ours in ELSEWHERE.items()}
    return nearest(name, known, {word: ours for word, ours in synonyms.items() if ours in known})


def meaning_of(name: str) -> str:
    """Return the meaning of a name that is not available for metadata; empty if the name is available."""
    if name in RESERVED:
        return "the estimator itself passes it to callables"
    if name == "classes":
        return "it is an argument of a classifier's partial_fit and fit_chunks"
    if name.endswith(OF_VALIDATION):
        return f"names that end in {OF_VALIDATION!r} belong to X_val, the validation set of fit and fit_chunks"
    return ""


def remedy(role: str, name: str) -> str:
    """Say how an argument without a default may come to its value."""
    settings = "give it a default, or add it to model_params."
    if name in RESERVED:
        return f"The name is taken: {meaning_of(name)}, but not to {role} here. Remove the argument, or rename it."
    if meaning_of(name):
        return f"The name is not available for metadata: {meaning_of(name)}. Rename it, {settings}"
    if role == "sample":
        return settings.capitalize()
    methods, requests = "fit", f"set_fit_request({name}=True)"
    if role == "inverse":
        methods, requests = "fit and inverse_transform", f"{requests} and set_inverse_transform_request({name}=True)"
    elif role in ("forward", IN_PLACE_OF_FORWARD):
        methods = "fit, predict and score"
        requests += f" and set_score_request({name}=True). Leave scoring out, since scorers call predict(X) alone"
    return (
        f"If it has one value per sample, pass it to {methods}: {name}=values. In a search, a pipeline or "
        f"cross-validation, request it: sklearn.set_config(enable_metadata_routing=True), then {requests}. Otherwise, "
        f"{settings}"
    )


def require_free(names: Iterable[object], columns: Iterable[str]) -> None:
    """Raise if a model parameter has a name that the estimator, or row-wise data, provides."""
    reserved = {*RESERVED, *columns}
    for name in names:
        if not isinstance(name, str) or name in reserved:
            raise ReceivedArgumentError(
                f"model_params has {name!r}, which is not available as a name. The estimator itself provides "
                f"{', '.join(sorted(reserved))}."
            )
