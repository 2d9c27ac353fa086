"""Who called a fit: the user, or code that fits one model after another."""

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_FIT_MANY = ("sklearn", "joblib", "sk_analytic.plotting", "sk_analytic.search")
_HAND_ON = ("sklearn.base", "sklearn.callback", "sklearn.utils")
_HAND_ON_THE_LAST = (
    ("sklearn.pipeline", "Pipeline.fit"),
    ("sklearn.pipeline", "Pipeline.fit_transform"),
    ("sklearn.pipeline", "Pipeline.fit_predict"),
    ("sklearn.compose._target", "TransformedTargetRegressor.fit"),
)
"""Functions whose own call ends with the fit: the last step of a pipeline is a fit that its user started."""


def is_users_own() -> bool:
    """Whether the user started the fit that is under way here.

    Not so in a search, cross-validation or ensemble, in a step of a pipeline before the last one, and in a worker.
    """
    is_worker = multiprocessing.parent_process() or threading.current_thread() is not threading.main_thread()
    return not is_worker and next(_loops(), None) is None


def is_told_apart() -> bool:
    """Whether the fit that is under way here has a path of tasks that no other fit of the same call has.

    scikit-learn's searches and pipelines tell callbacks which of their fits each is; its ensembles and
    cross-validation do not, so that all their fits look like one that stands alone.
    """
    frames = list(_loops())
    named = [frame for frame in frames if _is_in(frame, ("sklearn",))]
    # A method that calls that of its parent, as `fit` of a successive halving, leaves the tasks to it.
    owners = [id(frame.f_locals["self"]) for frame in named if _has_context(frame) and "self" in frame.f_locals]
    known = [_has_context(frame) or id(frame.f_locals.get("self")) in owners for frame in named]
    return not frames or (bool(named) and all(known))


def _loops() -> Iterator[FrameType]:
    """The frames around this one that fit several models, from the innermost."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        hands_on = _is_in(frame, _HAND_ON) or (_module(frame), frame.f_code.co_qualname) in _HAND_ON_THE_LAST
        if _is_in(frame, _FIT_MANY) and not hands_on:
            yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _is_in(frame: FrameType, packages: tuple[str, ...]) -> bool:
    return any(f"{_module(frame)}.".startswith(f"{package}.") for package in packages)


def _has_context(frame: FrameType) -> bool:
    return any(type(value).__name__ == "CallbackContext" for value in frame.f_locals.values())
