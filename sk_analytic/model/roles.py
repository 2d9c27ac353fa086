"""The functions of an estimator, one for each role, from its own parameters or from its model object."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from sklearn.base import BaseEstimator, clone

from ..display import shown
from ..equality import is_same
from ..validation import nearest
from .argument_names import PARAMETERS, ROLES
from .gradient_forms import GRADIENT_FORMS

PREDICTS = ("forward", *(name for name, form in GRADIENT_FORMS.items() if form.predicts))
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("grad", "gradients", "grads", "jac", "backward"), "gradient"),
    **dict.fromkeys(("predict", "call", "log_density", "log_prob", "logpdf", "transform"), "forward"),
    **dict.fromkeys(("value_and_grad", "value_and_gradient", "fun_and_grad"), "loss_and_gradient"),
    **dict.fromkeys(("initialize", "init_params", "start", "reset_parameters"), "init"),
    **dict.fromkeys(("inverse_transform", "decode"), "inverse"),
}
"""Names of methods in other libraries, to ours; for messages."""


def functions_of(settings: Any, trained: Any = None) -> dict[str, Any]:
    """Return what an estimator has in each role, None where nothing: its own parameters, and what its model object has.

    ``loss`` may be a name or an object too, and ``init`` the starting parameters. Methods are those of the model object
    that a fit trains, if it is given.

    Raises
    ------
    TypeError
        If ``model`` is no model, or gives what another parameter gives too.
    """
    own = {role: getattr(settings, PARAMETERS.get(role, role), None) for role in ROLES}
    model = getattr(settings, "model", None) if trained is None else trained
    if model is None:
        _require_no_model(own["forward"])
        return own
    given = methods_of(model)
    for role in given:
        _require_one(settings, role, own[role])
    for form in GRADIENT_FORMS if given.keys() & GRADIENT_FORMS.keys() else ():
        _require_one(settings, form, own[form], next(name for name in GRADIENT_FORMS if name in given))
    return {**own, **given, "init": given.get("init") if own["init"] is None else own["init"]}


def _require_no_model(forward: Any) -> None:
    """Raise if a model object was given by position, where an estimator takes `forward`."""
    if forward is not None and not callable(forward) and any(hasattr(forward, role) for role in ROLES):
        raise TypeError(f"forward={shown(forward)} is a model object, not a function. Pass it as model=.")


def methods_of(model: Any) -> dict[str, Any]:
    """Return what a model object has, by role; raise if it is none."""
    if isinstance(model, type):
        raise TypeError(f"model={model.__name__} is a class. Pass an instance: model={model.__name__}().")
    methods = {role: _method_of(model, role) for role in ROLES}
    given = {role: method for role, method in methods.items() if method is not None}
    if not given:
        raise TypeError(
            f"model must be an object with some of the methods {', '.join(ROLES)}; got {shown(model)}, which has none "
            f"of them.{_meant(model)}"
        )
    for role in given.keys() - {"init", "loss"}:
        if not callable(given[role]):
            raise TypeError(f"model={shown(model)} has {role}={shown(given[role])}, which must be callable.")
    return given


def _method_of(model: Any, role: str) -> Any:
    """The model object's attribute for a role, or None; an error raised in a property is passed on."""
    try:
        return getattr(model, role)
    except AttributeError as error:
        if isinstance(inspect.getattr_static(model, role, None), property):
            error.add_note(f"Raised in the property {role} of model={shown(model)}.")
            raise
        return None


def _require_one(settings: Any, role: str, own: Any, method: str = "") -> None:
    """Raise if a parameter of the estimator and a method of its model have the same role."""
    if own is None or (role == "init" and not callable(own)):  # parameters to start from, in place of the model's
        return
    if role == "loss" and is_same(own, settings._default_loss()):
        return
    name, method = PARAMETERS.get(role, role), method or role
    raise TypeError(
        f"{name}={shown(own)} and model={shown(settings.model)} are both given, but the model has the method {method}. "
        "Pass only one of the two."
    )


def require_complete(settings: Any, functions: Mapping[str, Any], by_differences: bool) -> None:
    """Raise if a model object lacks, and no parameter beside it gives, what the estimator needs."""
    model = settings.model
    missing = [] if functions["init"] is not None else ["init"]
    if all(functions[role] is None for role in PREDICTS):
        missing.append(" or ".join(PREDICTS))
    forms = [form for form in GRADIENT_FORMS if functions[form] is not None]
    if not forms and not by_differences:
        missing.append(f"one of {', '.join(GRADIENT_FORMS)}")
    has = f"model={shown(model)} has {', '.join(methods_of(model))}"
    if missing:
        raise TypeError(f"{has}. {type(settings).__name__} also needs {'; '.join(missing)}.{_meant(model)}")
    if len(forms) > 1:
        raise TypeError(f"{has}. Keep exactly one of {', '.join(forms)}, so that it is clear which gradient to use.")


def _meant(model: Any) -> str:
    """A hint at the first method of a model object that seems to be one of ours under another name."""
    if type(model).__module__ in ("builtins", "numpy"):
        return ""
    names = (name for name in dir(model) if not name.startswith("_") and not hasattr(BaseEstimator, name))
    found = ((name, inspect.getattr_static(model, name, None)) for name in names if name not in ROLES)
    others: Iterable[str] = (name for name, item in found if callable(getattr(item, "__func__", item)))
    hints = ((name, nearest(name, ROLES, ELSEWHERE)) for name in others)
    return next((f" It has a method {name!r}.{hint}" for name, hint in hints if hint), "")


def to_train(model: Any, before: Any) -> Any:
    """Return the model object that a fit trains: a copy of a scikit-learn object, any other itself.

    A training that goes on keeps its own, with what that has learned beside its hyperparameters, if these are the same.
    """
    if before is not None and is_same(model, before):
        return before
    return clone(model) if isinstance(model, BaseEstimator) else model
