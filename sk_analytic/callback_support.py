"""A fit as callbacks of scikit-learn see it: a tree of tasks, one for the fit and one for each epoch below it.

`sklearn.callback` came with scikit-learn 1.9. Below it the estimators fit as ever, and only setting a callback is an
error.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import sklearn
from sklearn.utils import _safe_indexing

from .typing import F

__all__ = [
    "OF_A_FIT",
    "WITHOUT_EFFECT",
    "CallbackSupport",
    "FitTasks",
    "GivenRows",
    "RemoteRows",
    "checkpoints",
    "member_of",
    "require_callbacks",
    "with_callbacks",
]

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:  # scikit-learn < 1.9
    CallbackSupportMixin = _with_callbacks = None


def with_callbacks(method: F) -> F:
    """Let callbacks be torn down after a method, however it ends; as it is where scikit-learn has none."""
    decorated: F = method if _with_callbacks is None else _with_callbacks(method)
    return decorated


class WithoutCallbacks:
    """Stands in for scikit-learn's mixin where there is none yet."""

    def set_callbacks(self, *callbacks: Any) -> NoReturn:
        """Raise an error: callbacks need scikit-learn 1.9.

        Parameters
        ----------
        *callbacks : callback instances
            Ignored.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            f"Callbacks require scikit-learn 1.9 or newer; this is {sklearn.__version__}. Use verbose=1 to print "
            "progress after each epoch with any version."
        )


CallbackSupport: Any = CallbackSupportMixin or WithoutCallbacks


def require_callbacks() -> None:
    """Raise where scikit-learn has no callbacks."""
    if CallbackSupportMixin is None:
        WithoutCallbacks().set_callbacks()


def checkpoints(estimator: Any) -> list[Any]:
    """Return the callbacks of an estimator that write its fit to a file."""
    return [callback for callback in getattr(estimator, "_skl_callbacks", []) if hasattr(callback, "resumed")]


def member_of(estimator: Any, fingerprint: dict[str, Any], seed: int | None) -> str:
    """Return a short name for one of many fits, the same whenever the same program is run again."""
    settings = {**estimator._all_params(), **estimator.get_params()}
    for name in ("random_state", *WITHOUT_EFFECT):
        settings.pop(name, None)
    kind = type(estimator).__qualname__
    plain = {
        name: value
        if isinstance(value, bool | int | float | str | None)
        else getattr(value, "__qualname__", type(value).__name__)
        for name, value in settings.items()
    }
    return f"{zlib.crc32(repr((kind, plain, seed, sorted(fingerprint.items()))).encode()):08x}"


WITHOUT_EFFECT = ("verbose", "warm_start", "worker_timeout")
"""Parameters of an estimator that do not change the result of a fit."""

OF_A_FIT = ("_parent_callback_ctx", "_callback_fit_ctx", "_skl_callbacks_to_teardown", "_tasks", "_member")
"""Attributes that an estimator has during a fit with callbacks, and that no copy of it may keep.

The first is set and removed by the search or pipeline around the fit.
"""


class GivenRows:
    """The training samples of a fit, in the containers that the user passed.

    Parameters
    ----------
    X, y : array-like or None
        As passed to `fit`; None if callbacks do not receive them.
    beside : dict, default=None
        Weights and metadata of the samples, by name; None for those that were not passed.

    Attributes
    ----------
    chosen : ndarray of int or None
        The rows that were not held out; None for all.
    """

    def __init__(self, X: Any = None, y: Any = None, beside: Mapping[str, Any] | None = None) -> None:
        self._X, self._y, self._beside = X, y, beside or {}
        self.chosen: Any = None

    @property
    def X(self) -> Any:
        """The rows."""
        return self._part(self._X)

    @property
    def y(self) -> Any:
        """Their targets."""
        return self._part(self._y)

    @property
    def metadata(self) -> dict[str, Any] | None:
        """Weights and metadata of the samples; None if there are none."""
        return {name: self._part(values) for name, values in self._beside.items() if values is not None} or None

    def _part(self, values: Any) -> Any:
        return values if values is None or self.chosen is None else _safe_indexing(values, self.chosen)


class RemoteRows(GivenRows):
    """Rows on a cluster, which no callback gets."""

    def _part(self, values: Any) -> NoReturn:
        raise TypeError(
            "A callback requests the samples of the fit, which are distributed over the workers of a cluster. Use "
            "callbacks that do not need X and y, such as GradientMonitor and Checkpoint. To score held-out samples, "
            "use early_stopping=True."
        )

    @property
    def metadata(self) -> dict[str, Any] | None:
        """What goes with them."""
        return self._part(None)


class FitTasks:
    """Tells callbacks when a fit and its epochs begin and end.

    Parameters
    ----------
    estimator : estimator
        In whose fit they are told; has callbacks.
    max_epochs : int
        More there cannot be.
    given : GivenRows
    publish : callable
        ``publish()`` brings the estimator's public attributes up to date.
    snapshot : callable
        ``snapshot()`` returns the attributes of the estimator as if the fit had stopped; only called for a callback
        that asks for it.
    gradient : callable
        ``gradient()`` returns the present gradient in θ's structure.
    """

    def __init__(
        self,
        estimator: Any,
        max_epochs: int | None,
        given: GivenRows,
        *,
        publish: Callable[[], None],
        snapshot: Callable[[], dict[str, Any]],
        gradient: Callable[[], Any],
    ) -> None:
        self._estimator, self._publish, self._snapshot, self.gradient = estimator, publish, snapshot, gradient
        self._data = {"X": lambda: given.X, "y": lambda: given.y, "metadata": lambda: given.metadata}
        estimator._skl_callbacks_to_teardown = []  # scikit-learn expects it also if an interrupt comes before it is set
        self._root = estimator._init_callback_context(max_subtasks=max_epochs)
        self._epoch: Any = None

    def begin_fit(self) -> None:
        """Begin the fit; the estimator has no attributes of it yet."""
        self._root.call_on_fit_task_begin(
            estimator=self._estimator, reconstruction_attributes=self._snapshot, **self._data
        )

    def begin(self, name: str) -> None:
        """Begin an epoch, unless one has begun."""
        if self._epoch is None:
            self._epoch = self._root.subcontext(task_name=name)
            self._call(self._epoch.call_on_fit_task_begin)

    def end(self) -> bool:
        """End the epoch; return whether a callback asks to stop."""
        epoch, self._epoch = self._epoch, None
        return bool(self._call(epoch.call_on_fit_task_end))

    def break_off(self) -> None:
        """End a task that has begun and came to nothing, so that for every beginning there is an end."""
        if self._epoch is not None:
            self._epoch.call_on_fit_task_end(estimator=self._estimator)
            self._epoch = None

    def finish(self) -> None:
        """End the fit; the estimator is fitted."""
        self.break_off()
        self._root.call_on_fit_task_end(estimator=self._estimator, reconstruction_attributes={}, **self._data)

    def _call(self, hooks: Callable[..., Any]) -> Any:
        self._publish()
        return hooks(estimator=self._estimator, reconstruction_attributes=self._snapshot, **self._data)
