"""The object that holds samples on a worker of a cluster, and the messages by which it is called.

A message is pickled here, which takes half the time of dask's own serialization of several arguments. In place of an
objective, which is the same in all messages of a fit, it has a token.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import cloudpickle
import numpy as np

from ..contribution import Contribution, Sum, added
from ..exceptions import noted
from ..parameters import Parameters
from ..typing import Array
from .arrays import ArrayRows
from .batch import CALLABLE, SHUFFLE, Batch, generator
from .parts import Arrangement, where_in
from .rows import BatchedRows

Token: TypeAlias = tuple[Any, ...]


class Holder:
    """Holds the samples of some chunks on a worker and answers calls.

    Parameters
    ----------
    arrangement : Arrangement
    numbers : list of int
        Of the chunks.
    places : list of int
        Which they are, of those that are trained on.
    *parts : tuple
        X, columns and weights of each.
    """

    def __init__(self, arrangement: Arrangement, numbers: Sequence[int], places: Sequence[int], *parts: Any) -> None:
        self._arrangement, self._places = arrangement, places
        self._rows = {n: arrangement.arrange(n, *aligned(part)) for n, part in zip(numbers, parts, strict=True)}
        self._orders: dict[int, tuple[int, Array]] = {}  # of the rows of a chunk: epoch and order
        self._stored: dict[Token, Any] = {}

    def call(self, request: bytes) -> bytes:
        """Return the answer to a message: seconds that it took, and what came or the error."""
        begin = time.perf_counter()
        try:
            name, arguments = _Unpickler(io.BytesIO(request), self._stored).load()
            answer: Any = getattr(self, name)(*arguments)
        except BaseException as error:  # none may end the worker
            answer = Failed(_that_travels(error))
        return _written((time.perf_counter() - begin, answer))

    def store(self, token: Token, value: Any) -> None:
        """Keep what messages will speak of."""
        self._stored[token] = value

    def totals(self, objective: Any, theta: Parameters) -> list[Sum]:
        """Return the contributions of all rows, added as far as the chunks here are neighbors."""
        return self._added(self._of(number, lambda rows: rows.total(objective, theta)) for number in self._rows)

    def shares(
        self, objective: Any, theta: Parameters, epoch: int, step: int, spans: Mapping[int, tuple[int, int]]
    ) -> list[Sum]:
        """Return likewise the contributions of the share that a step takes of each chunk."""

        def of_share(number: int) -> Contribution:
            share = partial(self._share, number, epoch, step, *spans[number])
            contribution: Contribution = self._of(number, lambda rows: objective.contribution(theta, share(rows)))
            return contribution

        return self._added(map(of_share, self._rows))

    def _added(self, parts: Iterable[Contribution]) -> list[Sum]:
        return added(Sum.of(part, place) for part, place in zip(parts, self._places, strict=True))

    def local(
        self,
        function: Callable[..., Any],
        objective: Any,
        theta: Parameters,
        epoch: int,
        step: int,
        spans: Mapping[int, Sequence[tuple[int, int]]],
    ) -> list[Any]:
        """Return what a function says of the objective, θ and the shares that some steps take of each chunk."""

        def of_steps(number: int, rows: ArrayRows) -> Any:
            share = partial(self._share, number, epoch)
            batches = [partial(share, step + k, begin, end, rows) for k, (begin, end) in enumerate(spans[number])]
            return function(objective, theta.copy(), _Shares(step, batches))

        return [self._of(number, partial(of_steps, number)) for number in self._rows]

    def map(self, function: Callable[[Batch], Any]) -> list[Any]:
        """Apply a function to the samples of each chunk; return the list of results."""
        return [self._of(number, lambda rows: function(rows.everything)) for number in self._rows]

    def take(self, drawn: Mapping[int, Array]) -> list[Any]:
        """Return some of the rows that have a weight, of each chunk that is asked for them."""
        return [rows.take_eligible(drawn[n]) if n in drawn else None for n, rows in self._rows.items()]

    def _of(self, number: int, function: Callable[[ArrayRows], Any]) -> Any:
        """Apply a function to the samples of a chunk."""
        with noted(where_in(number)), np.errstate(all="ignore"):  # what is not finite is found where it arrives
            return function(self._rows[number])

    def _share(self, number: int, epoch: int, step: int, begin: int, end: int, rows: ArrayRows) -> Batch:
        """The rows of a step, of those of a chunk in the order of an epoch."""
        chosen: Any = slice(begin, end)
        seed = self._arrangement.seed
        if self._arrangement.shuffle:
            known, order = self._orders.get(number, (None, None))
            if known != epoch or order is None:
                order = generator(seed, SHUFFLE, epoch, *rows.place).permutation(rows.n_samples)
                self._orders[number] = epoch, order
            chosen = order[begin:end]
        batch = Batch(*rows.take(chosen), position=(seed, CALLABLE, epoch, step, *rows.place))
        shown: Batch = batch.read_only()
        return shown


class _Shares(BatchedRows):
    """What some steps take of a chunk, as rows of their own.

    Parameters
    ----------
    first : int
        The first step.
    batches : list of callable
        Each returns the batch of a step.
    """

    def __init__(self, first: int, batches: Sequence[Callable[[], Batch]]) -> None:
        self.first_step, self._batches = first, batches
        self.steps_per_epoch = first + len(batches)
        self.n_samples = self.batch_size = 0  # which no step asks for

    def batch(self, epoch: int, step: int) -> Batch:
        return self._batches[step - self.first_step]()


def aligned(part: Any) -> Any:
    """Return X, columns and weights as aligned arrays.

    Those that came in a message may not be, for which BLAS is slower and sums in another order.
    """
    X, columns, weights = part
    named = {name: column if column.flags.aligned else column.copy() for name, column in columns.items()}
    if weights is not None and not weights.values.flags.aligned:
        weights = weights.copy()
    return _aligned_rows(X), named, weights


def _aligned_rows(X: Any) -> Any:
    arrays = (X.data, X.indices, X.indptr) if hasattr(X, "indptr") else (X,)
    return X if all(array.flags.aligned for array in arrays) else X.copy()


class Failed(NamedTuple):
    """An error on a worker."""

    error: Exception


def _that_travels(error: BaseException) -> Exception:
    """Return an error, or one of the same words if it cannot be pickled, or not be made again, or is none to send."""
    try:
        if not isinstance(error, Exception):
            raise TypeError
        pickle.loads(cloudpickle.dumps(error))
        return error
    except Exception:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            plain.add_note(note)
        return plain


def _written(answer: tuple[float, Any]) -> bytes:
    try:
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except Exception:  # what only a function of the user's defines
        try:
            written: bytes = cloudpickle.dumps(answer)
        except Exception as error:
            message = f"The return value of a function of the model or of a scorer cannot be pickled: {error}"
            written = pickle.dumps((answer[0], Failed(TypeError(message))))
        return written


class _Pickler(cloudpickle.Pickler):
    """Writes a token in place of what is stored, and keeps that.

    Parameters
    ----------
    file : file
    payload : object, default=None
        What is written in full though it has a token.
    """

    def __init__(self, file: Any, payload: object = None) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._payload = payload
        self.met: dict[Token, Any] = {}

    def persistent_id(self, obj: Any) -> Token | None:
        if not hasattr(type(obj), "sent_once") or obj is self._payload:
            return None
        token = (id(obj), *obj.sent_once)
        self.met[token] = obj
        return token


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, stored: Mapping[Token, Any]) -> None:
        super().__init__(file)
        self._stored = stored

    def persistent_load(self, pid: Token) -> Any:
        return self._stored[pid]


def message(name: str, arguments: Sequence[Any], payload: object = None) -> tuple[bytes, dict[Token, Any]]:
    """Return what calls a method of a `Holder`, and what it has to have stored for that, by its token."""
    file = io.BytesIO()
    pickler = _Pickler(file, payload)
    try:
        pickler.dump((name, tuple(arguments)))
    except Exception as error:
        error.add_note("A function of the model, or an object it refers to, cannot be sent to the cluster's workers.")
        raise
    return file.getvalue(), pickler.met
