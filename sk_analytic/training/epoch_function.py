"""The compiled function of an epoch: gather, gradient, checks, update, batch after batch, without the interpreter.

Its text (`EpochSource`) is a module of its own, which the engine's cache keeps. The user's function is handed over as a
pointer, so that what is cached does not depend on it. Whatever is not as it should be ends the function before the
step, and `Loop` takes that step, so that all messages are its own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data.arrays import ArrayRows
from ..data.batch import read_only
from ..model.callables import Receiver
from ..model.containers import shown
from ..model.per_sample import OUT
from ..objective import Objective
from ..optimizers.engine.many_steps import ManySteps, NotCompiledError
from ..optimizers.engine.numba_kernel import is_cached, load
from ..parameters import Parameters
from ..typing import Array
from .epoch_source import Constant, EpochSource

GATHERED_BYTES = 1 << 15
"""Rows of several batches are gathered at once, so that their way from memory takes the time of one."""

NO_ORDER = np.empty(0, np.int64)


def is_compiled(function: Any) -> bool:
    """Whether a function is one of numba's; numba is not imported for that."""
    numba = sys.modules.get("numba")
    return numba is not None and isinstance(function, numba.core.dispatcher.Dispatcher)


class Taken(NamedTuple):
    """What a call of the function has come to: the first step that is left, and sums over those taken.

    Attributes
    ----------
    step : int
    n_updates, n_samples : int
    loss, norm : float
        Sums over the samples, those handed over included.
    first : tuple of float or None
        Loss and norm of the gradient in the first step.
    """

    step: int
    n_updates: int
    n_samples: int
    loss: float
    norm: float
    first: tuple[float, float] | None


class EpochFunction:
    """Steps of an objective, an optimizer and rows of a kind, compiled.

    Parameters
    ----------
    objective : Objective
    theta : Parameters
    steps : ManySteps
    rows : ArrayRows
    total : ndarray or None
        To which the gradients are added, times the samples of their batches.
    huge : float
        Size of a squared gradient with which a step is left to `Loop`.

    Raises
    ------
    NotCompiledError
        If they cannot be.
    """

    def __init__(
        self,
        objective: Objective,
        theta: Parameters,
        steps: ManySteps,
        rows: ArrayRows,
        total: Array | None,
        huge: float,
    ) -> None:
        import numba
        from numba import types
        from numba.experimental import function_type

        if not hasattr(function_type, "_get_jit_address"):
            raise NotCompiledError(f"numba {numba.__version__} loses exceptions; upgrade it to 0.61 or later")
        self._huge, self.steps = huge, steps
        self.failed: Exception | None = None  # what the last call raised
        layout, gradient = theta.layout, objective.model.gradient
        self._function = gradient.function
        g, own = np.zeros((2, layout.size), layout.dtype)
        self._arguments = {"params": theta.structure, "g": g, "theta": theta.vector}
        if total is not None:
            self._arguments["total"] = total
        self._received = _received(gradient, rows)
        self._gathered = _gathered(self._received, rows)
        self.is_weighted = rows.everything.sample_weight is not None
        constants = ((i, given) for i, given in enumerate(self._received) if isinstance(given, Constant))
        self._arguments |= {f"k{i}": constant.value for i, constant in constants}
        if gradient.is_per_sample:
            self._arguments |= {"own": own, "out": layout.views(own, writeable=True)}
        if objective.penalties:
            self._arguments["alphas"] = np.array([alpha for _, alpha in objective.penalties], layout.dtype)
        for number, kernel in enumerate(steps.kernels):
            self._arguments |= {f"s{number}_{i}": slot for i, slot in enumerate(kernel.slots)}
        self._entry: Any = None
        self._show(rows, self._arrays_of(rows))
        pointer = types.FunctionType(self._compiled(gradient.is_per_sample))
        given = {**self._arguments, **self._of_rows, **self._counters(None, 0, 0)}
        self._kinds = _kinds_of(self._of_rows)
        self._signature = (pointer, *map(_type_of, (*given.values(), *steps.tables(1))))
        names = ["gradient", *given, *(f"t{number}" for number in range(len(steps.kernels)))]
        self.source = EpochSource(
            objective,
            layout,
            steps.kernels,
            self._received,
            {name: self._of_rows[f"a{number}"].ndim - 1 for number, name in enumerate(self._gathered)},
            is_shuffled=self._is_shuffled,
            is_weighted=self.is_weighted,
            is_totalled=total is not None,
            returned=pointer.signature.return_type,
        ).written(self._signature, names)

    # What the user's function is handed.

    def _compiled(self, is_per_sample: bool) -> Any:
        """Compile the user's function for what it is handed, if it is not yet; return its signature."""
        handed = []
        for given in self._received:
            if isinstance(given, Constant):
                handed.append(_type_of(given.value))
            elif given in ("params", OUT):
                handed.append(_type_of(self._arguments[given]))
            else:
                batch = self._batch_of(given)
                handed.append(_type_of(batch[0] if is_per_sample else batch))
        signature = tuple(handed)
        try:
            self._function.compile(signature)
        except Exception:
            signature = ()  # the loop calls it next, and says what is wrong
        if signature not in self._function.overloads:
            raise NotCompiledError("it is not compiled for the types of its arguments; decorate it without a signature")
        return self._function.overloads[signature].signature

    def _batch_of(self, name: str) -> Array:
        """An array like those that a batch has under a name."""
        position = self._gathered.index(name)
        where = f"r{position}" if self._is_shuffled else f"a{position}"
        given: Array = self._of_rows[where][:1]
        return given

    # The rows.

    def fits(self, rows: ArrayRows) -> bool:
        """Whether other rows are of the same kind; if so they are the next ones."""
        if rows is self._rows:
            return True
        of_rows = self._arrays_of(rows)
        if _kinds_of(of_rows) != self._kinds:
            return False
        self._show(rows, of_rows)
        return True

    @property
    def n_steps(self) -> int:
        """Steps of an epoch of the rows."""
        return self._rows.steps_per_epoch

    def _show(self, rows: ArrayRows, of_rows: dict[str, Array]) -> None:
        self._rows, self._of_rows, self._is_shuffled = rows, of_rows, rows.shuffle
        self._at_once = len(of_rows["b0"]) // rows.batch_size if rows.shuffle else 1

    def _arrays_of(self, rows: ArrayRows) -> dict[str, Array]:
        """What the function is handed of rows: arrays, and buffers for what is gathered of them."""
        batch = rows.everything
        arrays = [batch.argument(name) for name in self._gathered]
        of_rows = {f"a{number}": array for number, array in enumerate(arrays)}
        if rows.shuffle:
            n = _n_at_once(arrays, rows) * rows.batch_size
            buffers = [np.empty((n, *array.shape[1:]), array.dtype) for array in arrays]
            of_rows |= {f"b{number}": buffer for number, buffer in enumerate(buffers)}
            of_rows |= {f"r{number}": read_only(buffer) for number, buffer in enumerate(buffers)}
        elif not all(array.flags.c_contiguous for array in arrays):
            raise NotCompiledError("X, y, the weights or metadata are not in C order; pass np.ascontiguousarray(X)")
        return of_rows

    def _counters(self, order: Array | None, first: int, stop: int) -> dict[str, Any]:
        rows = self._rows
        return {
            "order": NO_ORDER if order is None else order,
            "first": first,
            "last": stop,
            "batch_size": rows.batch_size,
            "n_samples": rows.n_samples,
            "at_once": self._at_once,
            "huge": self._huge,
            "sums": np.zeros(4),
            "counts": np.zeros(3, np.int64),
        }

    # Its life.

    @property
    def is_cached(self) -> bool:
        """Whether another process has compiled it, as far as classes of its arguments are those of modules."""
        kind = type(self._arguments["params"])
        is_of_module = getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind
        return is_cached(self.source) and is_of_module and kind.__module__ != "__main__"

    @property
    def is_ready(self) -> bool:
        """Whether it was loaded."""
        return self._entry is not None

    def load(self) -> None:
        """Load or compile it, once."""
        if self.is_ready:
            return
        function: Any = load(self.source)
        if not hasattr(function, "compile"):
            raise RuntimeError("its compiler is disabled by NUMBA_DISABLE_JIT")
        from numba.core.errors import NumbaError

        try:
            function.compile(self._signature)
        except NumbaError as error:
            said = str(error).splitlines()[-1]
            raise NotCompiledError(f"numba cannot call it from another compiled function ({said})") from None
        self._entry = function.overloads[self._signature].entry_point

    def take(self, epoch: int, first: int, stop: int, loss: float, norm: float, had_first: bool) -> Taken:
        """Take steps of an epoch, as many as are as they should be.

        Parameters
        ----------
        epoch, first, stop : int
            Of the rows' own steps.
        loss, norm : float
            Sums over the samples before.
        had_first : bool
            Whether there was a step before.
        """
        tables = self.steps.tables(stop - first)
        counters = self._counters(self._rows.order(epoch), first, first + self.steps.n)
        counters["sums"][:2] = loss, norm
        sums, counts = counters["sums"], counters["counts"]
        counts[0] = first
        self.failed = None
        try:
            self._entry(self._function, *self._arguments.values(), *self._of_rows.values(), *counters.values(), *tables)
        except Exception as error:  # the loop takes the step again, and says where it was
            self.failed = error
        step, n_updates, n_samples = counts.tolist()
        self.steps.take(n_updates)
        loss, norm, *start = sums.tolist()
        first_step = (start[0], start[1]) if n_updates and not had_first else None
        return Taken(step, n_updates, n_samples, loss, norm, first_step)


def _type_of(value: Any) -> Any:
    from numba import typeof

    try:
        return typeof(value)
    except Exception as error:  # which numba has many of
        raise NotCompiledError(f"numba does not support the type of an argument ({str(error).strip()})") from None


def _kinds_of(of_rows: dict[str, Array]) -> list[Any]:
    return [*of_rows, *map(_type_of, of_rows.values())]


def _n_at_once(arrays: Sequence[Array], rows: ArrayRows) -> int:
    """Of how many batches the rows are gathered at once."""
    row_bytes = sum(array.nbytes // max(1, len(array)) for array in arrays) or 1
    return max(1, GATHERED_BYTES // (row_bytes * rows.batch_size))


def _received(gradient: Receiver, rows: ArrayRows) -> list[str | Constant]:
    """What a function receives by position: the name of what changes, or a constant."""
    _, _, *parameters = inspect.signature(gradient.function.py_func).parameters.values()
    received: list[str | Constant] = ["params", "X"]
    is_weighted = rows.everything.sample_weight is not None
    for parameter in parameters:
        name = parameter.name
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise NotCompiledError(f"its argument {name!r} cannot be passed by position; name it without a star")
        if name == "rng":
            raise NotCompiledError("it receives rng, which is created for each batch; draw the numbers before the fit")
        if name in gradient.fixed:
            value = gradient.fixed[name]
            if not _is_constant(value):
                raise NotCompiledError(
                    f"model_params[{name!r}] has a list, a dict or a set, which it could modify; pass a tuple or an "
                    "array"
                )
            received.append(Constant(value))
        elif name == "sample_weight" and parameter.default is None and not is_weighted:
            received.append(Constant(None))
        else:
            is_given = name in gradient.wanted or (name == OUT and gradient.is_per_sample)
            received.append(name if is_given else Constant(shown(parameter.default)))
    return received


def _is_constant(value: Any) -> bool:
    """Whether a value cannot be written to, if its arrays are read-only."""
    return all(map(_is_constant, value)) if isinstance(value, tuple) else not isinstance(value, list | dict | set)


def _gathered(received: Sequence[str | Constant], rows: ArrayRows) -> list[str]:
    """The names of what is gathered by rows; the weights too, of which some must count in each batch."""
    batch = rows.everything
    names = [given for given in received if isinstance(given, str) and given not in ("params", OUT)]
    if batch.sample_weight is not None and "sample_weight" not in names:
        names.append("sample_weight")
    for name in names:
        if not isinstance(batch.argument(name), np.ndarray):
            raise NotCompiledError(f"{name} is sparse; pass {name}.toarray() if it fits into memory")
    return names
