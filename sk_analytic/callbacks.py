"""Callbacks: checkpoints, norms of gradients and updates, learning rates.

They follow the protocol of `sklearn.callback`, so they require scikit-learn 1.9 or newer, and read the public
attributes that an estimator has during its fit. One instance can serve many clones, as in a search: its records are
stored by the path of the fit's tasks.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import os
import pickle
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .callback_support import WITHOUT_EFFECT, require_callbacks
from .equality import is_same
from .exceptions import noted
from .hyperparameters import is_auto
from .parameters import Layout
from .persistence import replacing, temporary
from .readable import readable
from .typing import Array
from .validation import Interval, check_range

__all__ = ["Checkpoint", "GradientMonitor", "LearningRateLog"]

COUNT = Interval(1, np.inf, integral=True)
DUMPED_BY = ("pickle", "_pickle", "cloudpickle", "dill", "joblib", "skops")


class _Callback:
    """The protocol's four hooks, with nothing to do.

    scikit-learn passes a callback on to the estimators inside of another if it has ``max_propagation_depth``, and then
    refuses it on these themselves. Ours may be set on either, so they have it as long as the other is fitted.
    """

    def __init__(self) -> None:
        require_callbacks()

    def setup(self, estimator: Any, context: Any) -> None:
        """Propagate the callback to the estimators of this package inside a search or a pipeline.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit.

        Raises
        ------
        TypeError
            If it contains no estimator of this package.
        """
        if not _is_ours(estimator):
            if next(_ours_in(estimator), None) is None:
                raise TypeError(
                    f"{type(self).__name__} works only with estimators of sk_analytic; {type(estimator).__name__} "
                    "contains none."
                )
            self.max_propagation_depth = None

    def teardown(self, estimator: Any, context: Any) -> None:
        """Undo `setup`.

        Parameters
        ----------
        estimator : estimator
            The fitted estimator.
        context : CallbackContext
            Context of the fit.
        """
        vars(self).pop("max_propagation_depth", None)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit or the epoch that begins.
        """

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Do nothing.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit or the epoch that ends.
        """


@readable
class Checkpoint(_Callback):
    """Write the estimator to a file during training, so that an interrupted fit can be resumed.

    The file always contains a complete estimator: it is written under a temporary name and then renamed. The saved
    estimator predicts as if the fit had ended at that epoch; it contains no samples and no callbacks. With
    ``resume=True``, running the same program again resumes the fit from the file, bit for bit, except that a
    full-batch method restarts from the parameters it had reached. If the fit in the file is complete, `fit` returns its
    result at once. A fit that is killed, interrupted by Ctrl-C or ended by an error leaves the last file written.

    Parameters
    ----------
    path : str or path
        File to write. If the file exists, its permissions are kept; if it is a symbolic link, its target is replaced.
        The fits of a search or a pipeline add the ids of their task to the file's name: ``model.pkl`` becomes
        ``model-0-3.pkl`` in the fourth fit of a grid search. Fits that scikit-learn does not number, in an ensemble
        or in `cross_val_score`, add a checksum of their parameters, seed and data: ``model-1f0c93e2.pkl``.
    every : int, default=1
        Number of epochs between two writes. The end of the fit is always written.
    dump : callable, default=pickle.dump
        ``dump(estimator, file)``. The standard library's pickle does not support lambdas and nested functions;
        ``cloudpickle.dump`` does. ``joblib.dump`` and ``skops.io.dump`` work too.
    resume : bool, default=False
        Whether `fit` resumes from the file if it exists. The file must come from a fit with the same parameters
        (except ``verbose``, ``warm_start`` and ``worker_timeout``) and the same data, which are compared by a checksum.
        Otherwise `fit` raises an error that says what differs, before training.
    load : callable, default=pickle.load
        ``load(file) -> estimator``, the counterpart of ``dump``: ``joblib.load``, or for skops
        ``lambda file: skops.io.load(file, trusted=...)``. Loading a pickle can execute arbitrary code: resume only from
        files that you trust.

    Raises
    ------
    ValueError
        In `fit`, if the file contains a fit with other parameters or data, or one that cannot be resumed.
    OSError, PicklingError, TypeError, ...
        In `fit`, before the first epoch, if the file cannot be written or ``dump`` cannot write the estimator.

    Examples
    --------
    >>> import pickle, tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_diabetes
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.callbacks import Checkpoint
    >>> X, y = load_diabetes(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.pkl")
    ...     model = AnalyticRegressor(optimizer="lbfgs").set_callbacks(
    ...         Checkpoint(path, every=10)
    ...     )
    ...     model = model.fit(X, y)
    ...     again = pickle.loads(path.read_bytes())
    >>> again.n_iter_ == model.n_iter_
    True
    """

    def __init__(
        self,
        path: str | Path,
        *,
        every: int = 1,
        dump: Callable[..., object] = pickle.dump,
        resume: bool = False,
        load: Callable[..., Any] = pickle.load,
    ) -> None:
        super().__init__()
        check_range("Checkpoint", "every", every, COUNT)
        check_range("Checkpoint", "resume", resume, bool)
        self.path = Path(path)
        self.every = every
        self.dump = dump
        self.resume = resume
        self.load = load

    def resumed(self, estimator: Any, fingerprint: dict[str, Any], seed: int | None) -> Any:
        """Return the estimator saved in the file of this fit, if the file exists.

        Parameters
        ----------
        estimator : estimator
            The estimator to be fitted.
        fingerprint : dict
            Properties that identify its data, by name.
        seed : int or None
            Seed drawn from its ``random_state``; None if that is None.

        Returns
        -------
        earlier : estimator or None
            The saved estimator, or None if there is no file.
        """
        context = getattr(estimator, "_parent_callback_ctx", None)
        path = _of_member(estimator, self._path_of_ids([] if context is None else _path(context)[1:]))
        if not path.exists():
            return None
        reading = f"Checkpoint was reading {path} to resume from it. Remove the file to train from the start."
        with open(path, "rb") as file, noted(reading):
            earlier = self.load(file)
        require_same_fit(earlier, estimator, fingerprint, seed, path)
        return earlier

    def setup(self, estimator: Any, context: Any) -> None:
        """Write the estimators inside a search or a pipeline once, to fail early if that is not possible.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit.
        """
        super().setup(estimator, context)
        if not _is_ours(estimator):
            for inside in _ours_in(estimator):
                self._try_to_write(inside, self.path)

    def path_of(self, context: Any) -> Path:
        """Return the path to which the fit of a task is written.

        Parameters
        ----------
        context : CallbackContext
            Context of the fit, or of one of its epochs.

        Returns
        -------
        path : Path
            The path of the callback, extended by the ids of the task if the fit is part of another.
        """
        return self._path_of_ids(_path(context)[1 : -1 if _is_epoch(context) else None])

    def _path_of_ids(self, ids: list[int]) -> Path:
        return _extended(self.path, *map(str, ids))

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Write the estimator once before its first epoch, to fail early if that is not possible.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit or the epoch that begins.
        """
        if _is_ours(estimator) and not _is_epoch(context):
            self._try_to_write(estimator, _of_member(estimator, self.path_of(context)))

    def _try_to_write(self, estimator: Any, path: Path) -> None:
        """Write an estimator as it is before it is fitted, to a file that is removed at once.

        A ``dump`` of the user's own may do more than write, so it is not called for this.
        """
        dump = self.dump.func if isinstance(self.dump, functools.partial) else self.dump
        if str(getattr(dump, "__module__", "")).partition(".")[0] not in DUMPED_BY:
            with temporary(path):
                return
        bare = copy.copy(estimator).set_callbacks()
        parameters = bare._all_params()
        for name in [name for name in vars(bare) if name not in parameters]:
            delattr(bare, name)
        with temporary(path) as unfinished:
            self._dump(bare, unfinished, f"Checkpoint tested whether it can write {path}, before the first epoch.")

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any = None) -> None:
        """Write the estimator, if it is due.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit or the epoch that ends.
        fitted_estimator : estimator, default=None
            The estimator to write.
        """
        if fitted_estimator is None or not _is_ours(estimator):
            return
        if (context.task_id + 1) % self.every if _is_epoch(context) else not fitted_estimator._training.finished:
            return  # after Ctrl-C in the middle of an epoch, the file of the last whole one resumes exactly
        path = _of_member(estimator, self.path_of(context))
        # Other callbacks have the same object, so that a copy must do without them.
        bare = copy.copy(fitted_estimator).set_callbacks()
        with replacing(path) as unfinished:
            self._dump(bare, unfinished, f"Checkpoint was writing {path}; the previous file is unchanged.")

    def _dump(self, estimator: Any, path: Path, note: str) -> None:
        try:
            with open(path, "wb") as file:
                self.dump(estimator, file)
        except BaseException as error:
            error.add_note(note)
            if self.dump is pickle.dump and isinstance(error, pickle.PicklingError | AttributeError | TypeError):
                error.add_note("Use dump=cloudpickle.dump for lambdas and nested functions.")
            raise


def _of_member(estimator: Any, path: Path) -> Path:
    """The path of a fit, with its name among many if scikit-learn has no number for it."""
    member = vars(estimator).get("_member")
    return path if member is None else _extended(path, member)


def _extended(path: Path, *parts: str) -> Path:
    return path.with_stem("-".join([path.stem, *parts]))


def require_same_fit(earlier: Any, estimator: Any, fingerprint: dict[str, Any], seed: int | None, path: Path) -> None:
    """Raise unless a file contains a fit with an estimator's parameters and data."""
    cure = "Use another path, or remove the file to train from the start."
    training = getattr(earlier, "_training", None)
    if _path_of_class(earlier) != _path_of_class(estimator) or training is None:
        raise ValueError(
            f"{path} does not contain a fit of {type(estimator).__name__}; got {type(earlier).__name__}. {cure}"
        )
    if training.fingerprint is None:
        raise ValueError(f"{path} was written during partial_fit, which fit cannot resume. {cure}")
    ours, theirs = estimator._all_params(), earlier._all_params()
    found = estimator._named  # a name means the same as its object
    for name, value in ours.items():
        before = theirs.get(name, "absent")
        if name == "random_state":
            same = (before is None) if seed is None else seed == training.seed
        elif name in found and isinstance(value, str) != isinstance(before, str):
            given, other = (
                found[name](item) if isinstance(item, str) and not is_auto(item) else item for item in (value, before)
            )
            same = is_same(given, other)
        else:
            same = name in WITHOUT_EFFECT or is_same(value, before)
        if not same:
            longer = (
                " To train that fit for more epochs, load the estimator from the file, and call its fit with "
                "warm_start=True."
                if name == "max_iter"
                else ""
            )
            raise ValueError(f"{path} contains a fit with {name}={before!r}, but now {name}={value!r}. {cure}{longer}")
    for name in sorted({*fingerprint, *training.fingerprint}):
        before, now = (data.get(name, "absent") for data in (training.fingerprint, fingerprint))
        if before != now:
            raise ValueError(f"{path} contains a fit on other data: {name} was {before}, and now is {now}. {cure}")


def _path_of_class(item: Any) -> tuple[str, str]:
    """Where the class of an object is defined: cloudpickle copies those of a script or a notebook."""
    return type(item).__module__, type(item).__qualname__


class _Log(_Callback):
    """Rows that one instance and its copies in other processes write, under the path of the task.

    They are lines of one temporary file: whoever has its name can append to it, whatever process or thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open("")

    def _open(self, lines: str) -> None:
        descriptor, self._file = tempfile.mkstemp(prefix="sk_analytic-", suffix=".jsonl")
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(lines)
        self._process = os.getpid()
        weakref.finalize(self, _remove, self._file, self._process)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lines": Path(self._file).read_text(encoding="utf-8")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        lines = state.pop("_lines")
        vars(self).update(state)
        if self._process == os.getpid() or not os.path.exists(self._file):
            self._open(lines)  # a copy of its own; else one in a worker, which writes where the original reads

    def setup(self, estimator: Any, context: Any) -> None:
        """Record the run, even if it ends before anything is logged.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit.
        """
        super().setup(estimator, context)
        self._append({"run_id": str(context.root_uuid)})

    def _write(self, estimator: Any, context: Any, **values: Any) -> None:
        path = _path(context)
        row = {
            "run_id": str(context.root_uuid),
            "task_id_path": path,
            "parent_task_id_path": path[:-1],
            "estimator_name": context.estimator_name,
            "n_iter": estimator.n_iter_,
            **values,
        }
        self._append(row)

    def _append(self, line: dict[str, Any]) -> None:
        if not os.path.exists(self._file):  # the process that loaded this copy has outlived that of the original
            self._open("")
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, f"{json.dumps(line)}\n".encode())  # at once, so that lines do not mix
        finally:
            os.close(descriptor)

    def get_logs(self, select: Any = "most_recent") -> Any:
        """Return the logged values, one dict per epoch.

        Parameters
        ----------
        select : {"most_recent", "all"}, default="most_recent"
            Runs to return: the latest fit (or the latest search or pipeline, with all its fits), or all runs.
            A fit that failed in its first epoch, or logged nothing, is a run without entries.

        Returns
        -------
        rows : list of dict
            One dict per epoch, in the order of the tasks within a run. ``run_id``, ``task_id_path`` (ids from the root
            of the run to the epoch), ``parent_task_id_path`` (to the fit), ``estimator_name`` and ``n_iter`` identify
            the epoch. ``pandas.json_normalize`` converts the list to a table.
        """
        check_range(type(self).__name__, "select", select, ("most_recent", "all"))
        runs: dict[str, list[Any]] = {}
        for line in Path(self._file).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows = runs.setdefault(row["run_id"], [])
            if "task_id_path" in row:  # else it only says that a fit of the run began
                rows.append(row | {name: tuple(row[name]) for name in ("task_id_path", "parent_task_id_path")})
        chosen = list(runs.values()) if select == "all" else list(runs.values())[-1:]
        return [row for rows in chosen for row in sorted(rows, key=lambda row: row["task_id_path"])]


@readable
class LearningRateLog(_Log):
    """Log the learning rate of each parameter array after each epoch.

    The logged value is the learning rate of the last step in the epoch, as given by the schedule. It does not include
    the scale that DoG and Prodigy estimate. Full-batch methods have no learning rate, so nothing is logged for them.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.callbacks import LearningRateLog
    >>> from sk_analytic.optimizers import Adam, Exponential
    >>> X, y = load_diabetes(return_X_y=True)
    >>> log = LearningRateLog()
    >>> optimizer = Adam(Exponential(0.1, decay=0.5, unit="epoch"))
    >>> model = AnalyticRegressor(
    ...     optimizer=optimizer,
    ...     loss="huber",
    ...     max_iter=20,
    ...     n_iter_no_change=2,
    ...     random_state=0,
    ... )
    >>> model = model.set_callbacks(log).fit(X, y)
    >>> [row["learning_rate"]["coef"] for row in log.get_logs()][:3]
    [0.1, 0.05, 0.025]
    """

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Log the learning rates of an epoch.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit or the epoch that ends.
        """
        if _is_ours(estimator) and _is_epoch(context) and estimator.optimizer_state_ is not None:
            self._write(estimator, context, learning_rate=estimator.optimizer_state_.learning_rates)


@readable
class GradientMonitor(_Log):
    """Log the norms of the gradient and of the update of each parameter array after each epoch.

    The gradient is that of the loss without the penalty, at the end of the epoch and on the same samples each time (a
    tenth of all, or about a thousand). This costs one more evaluation per epoch. A parameter array is dead if every
    entry of its gradient is zero: changing it does not change the loss, as behind units that are all inactive.

    Notes
    -----
    Each entry of `get_logs` has, by the name of the parameter array: ``gradient_norm``, the Euclidean norm, and
    ``update_ratio``, the norm of the change in the epoch over the norm of the parameters at its end (0 if both are
    zero); and ``dead``, a list of names. Parameters without a gradient, because they are fixed or left out, have no
    gradient norm and are not dead.

    Examples
    --------
    A layer whose units are never active:

    >>> import numpy as np
    >>> from sk_analytic import AnalyticRegressor
    >>> from sk_analytic.callbacks import GradientMonitor
    >>> def vjp(params, X):
    ...     h = np.maximum(X @ params["W"] + params["a"], 0)
    ...     def pullback(d):
    ...         da = np.outer(d, params["v"]) * (h > 0)
    ...         return {"W": X.T @ da, "a": da.sum(axis=0), "v": h.T @ d, "b": d.sum()}
    ...     return h @ params["v"] + params["b"], pullback
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> start = {
    ...     "W": np.full((3, 4), 0.1),
    ...     "a": np.full(4, -5.0),
    ...     "v": np.ones(4),
    ...     "b": 0.0,
    ... }
    >>> monitor = GradientMonitor()
    >>> model = AnalyticRegressor(
    ...     vjp=vjp, init=start, max_iter=30, tol=None, random_state=0
    ... )
    >>> model = model.set_callbacks(monitor).fit(X, X[:, 0] + 1)
    >>> monitor.get_logs()[-1]["dead"]
    ['W', 'a', 'v']
    """

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Store the parameters at the beginning of an epoch.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit or the epoch that begins.
        """
        if _is_ours(estimator) and _is_epoch(context):
            layout = Layout.of(estimator.params_)
            self._before[_key(context)] = layout, layout.flatten(estimator.params_)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Log the norms of an epoch.

        Parameters
        ----------
        estimator : estimator
            The estimator being fitted.
        context : CallbackContext
            Context of the fit or the epoch that ends.
        """
        if not _is_ours(estimator) or not _is_epoch(context):
            return
        layout, before = self._before.pop(_key(context), (None, None))
        if layout is None:  # an interrupt came before the epoch could begin
            return
        now = layout.flatten(estimator.params_)
        leaves = zip(layout.names, layout.leaves(estimator.gradient_), strict=True)
        norms = {name: float(np.linalg.norm(np.ravel(leaf))) for name, leaf in leaves if leaf is not None}
        self._write(
            estimator,
            context,
            gradient_norm=norms,
            update_ratio=dict(zip(layout.names, _ratios(layout, now - before, now), strict=True)),
            dead=[name for name, norm in norms.items() if not norm],
        )

    def teardown(self, estimator: Any, context: Any) -> None:
        """Discard the parameters stored for an epoch that did not end.

        Parameters
        ----------
        estimator : estimator
            The fitted estimator.
        context : CallbackContext
            Context of the fit.
        """
        super().teardown(estimator, context)
        fit = _key(context)
        for key in [key for key in self._before if key[: len(fit)] == fit]:
            del self._before[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_before": {}}


def _path(context: Any) -> Any:
    """Ids of the tasks from the root to this one."""
    ids = [context.task_id]
    while (context := context.parent) is not None:
        ids.insert(0, context.task_id)
    return ids


def _key(context: Any) -> tuple[Any, ...]:
    return context.root_uuid, *_path(context)


def _is_ours(estimator: Any) -> bool:
    """Whether an estimator is one of this package, as callbacks that are passed on see others too."""
    return hasattr(estimator, "_prepare_check")


def _ours_in(value: Any) -> Iterator[Any]:
    """The estimators of this package in the parameters of another, and in the grids of a search."""
    if _is_ours(value):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(_ours_in, value.values()))
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(map(_ours_in, value))
    elif hasattr(value, "get_params") and not isinstance(value, type):
        yield from _ours_in(value.get_params(deep=False))


def _is_epoch(context: Any) -> bool:
    """Whether a task of an estimator that trains is one of its epochs: the fit itself has tasks below it."""
    return bool(context.max_subtasks == 0)


def _ratios(layout: Layout, change: Array, theta: Array) -> list[float]:
    """Norm of a change over that of what was changed, block by block; 0 where both are zero."""
    norms = ([float(np.linalg.norm(vector[where])) for where in layout.slices] for vector in (change, theta))
    return [part / whole if part else 0.0 for part, whole in zip(*norms, strict=True)]


def _remove(file: str, process: int) -> None:
    """Remove the file of a log with the log; a process that was forked has only inherited it."""
    if os.getpid() == process and os.path.exists(file):
        os.unlink(file)
