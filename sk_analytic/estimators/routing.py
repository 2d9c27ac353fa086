"""scikit-learn's metadata routing, with requests by instance.

scikit-learn reads the metadata that an estimator may request from the signatures of its class. Here they also depend
on the callables, and therefore on the instance.
"""

import inspect
from contextlib import nullcontext, suppress
from typing import Any

from sklearn.utils._metadata_requests import RequestMethod
from sklearn.utils.metadata_routing import UNUSED

from ..model.argument_names import OF_VALIDATION
from ..model.callables import by_role, metadata_names
from ..model.gradient_forms import GRADIENT_FORMS
from ..model.roles import functions_of
from ..readable import ReadableSignature

_PREDICTING = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score", "transform")
_ROUTED = ("fit", "partial_fit", *_PREDICTING, "inverse_transform")
_TRAINING = ("forward", "init", "loss", "inverse", *GRADIENT_FORMS)


class _RequestOfInstance:
    """``set_fit_request`` and its like, of one instance: its keywords are the names that its callables have."""

    def __init__(self, method: str) -> None:
        self.method = method

    def __get__(self, instance: Any, owner: Any) -> Any:
        asked = owner.__new__(owner) if instance is None else instance
        names = sorted(getattr(asked.get_metadata_routing(), self.method).requests)
        if not names and instance is not None:
            raise AttributeError(
                f"This {owner.__name__} has no set_{self.method}_request: none of its callables names metadata for "
                f"{self.method}."
            )
        request = RequestMethod(self.method, names).__get__(instance, owner)
        request.__signature__ = ReadableSignature.of(inspect.signature(request))
        return request


def request_by_instance(cls: Any) -> None:
    """Let ``set_fit_request`` and its like of a class be those of each instance."""
    for method in _ROUTED:
        name = f"set_{method}_request"
        if hasattr(cls, method) and isinstance(vars(cls).get(name), RequestMethod | None):
            setattr(cls, name, _RequestOfInstance(method))


def metadata_names_of(estimator: Any, method: str, lenient: bool = False) -> set[str]:
    """Names of the metadata that a method accepts, besides the arguments in its signature; see `metadata_names`."""
    functions: dict[str, Any] = {}
    with suppress(TypeError) if lenient else nullcontext():
        functions = functions_of(estimator)
    predictor = "vjp" if functions.get("forward") is None else "forward"
    roles: tuple[str, ...] = _TRAINING
    if not hasattr(type(estimator), "inverse_transform"):
        roles = tuple(role for role in _TRAINING if role != "inverse")
    if method == "inverse_transform":
        roles = ("inverse",)
    elif method == "mean_loss" or (method == "score" and estimator._may_score_by_loss):
        roles = (predictor, "loss", "loss_and_gradient")
    elif method in _PREDICTING:
        roles = (predictor,)
    named = {role: functions.get(role) for role in roles}
    loss = named.pop("loss", None)
    if not isinstance(loss, type):  # which would be a `Loss` that is not made yet
        named |= by_role(loss)
    names = metadata_names(named, getattr(estimator, "model_params", None), lenient)
    return names | {name + OF_VALIDATION for name in names} if method == "fit" else names


def complete(requests: Any, of_class: Any, estimator: Any) -> Any:
    """Return the requests that were made, for the names that there are now: callables may have been exchanged."""
    for method in _ROUTED:
        own = getattr(requests, method)
        names = {*getattr(of_class, method).requests}
        if hasattr(type(estimator), method):
            names |= metadata_names_of(estimator, method, lenient=True)
        for name in own.requests.keys() - names:
            own.add_request(param=name, alias=UNUSED)
        for name in sorted(names - own.requests.keys()):
            own.add_request(param=name, alias=None)
    return requests
