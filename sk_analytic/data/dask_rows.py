"""Rows of dask collections: partitions that lie on the workers of a cluster, and are evaluated where they lie.

`Partitions` are validated rows as futures, which the scheduler makes anew from the graph of the collection when a
worker dies. `DaskRows` are the rows of some of them, as training takes them: an actor on each worker holds those that
lie there, a call carries θ, epoch and step, and the answers are summed in the order of the partitions.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import math
import pickle
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import cloudpickle
import dask
import numpy as np
from distributed import Client, Future, KilledWorker, wait
from scipy.sparse import issparse

from ..contribution import Contribution, Sum, added, mean_of
from ..exceptions import noted
from ..parameters import Parameters
from ..typing import Array, T
from .arrays import ArrayRows, n_batches
from .batch import CALLABLE, HELD_OUT, SHUFFLE, Batch, generator
from .chunks import Arrangement, Survey, Surveyed, drawn_from, where_in
from .rows import BatchedRows, BatchObjective
from .telling import is_telling
from .weights import AS_GIVEN, Scale, Weights

MOST_LOST = 5  # workers in one evaluation
LOOK = 0.2  # seconds after which an answer that has not come is a reason to see whether its worker is alive
FIRST_CALLS, TIMED_CALLS = 2, 10  # calls that are not timed, as they bring the objective, and that are
LOST = (
    "Data of the collection were lost with a worker, and cannot be made anew: they were scattered there, or persisted "
    "by a client that is gone. Build the collection of files, or of functions that load its chunks."
)
_Answers: TypeAlias = list[tuple[list[int], Any]]
Token: TypeAlias = tuple[Any, ...]
HOW_TO_START = "Start one in this process: from dask.distributed import Client; client = Client()."


class Cluster:
    """The client of a cluster, and how long to wait for an answer.

    Parameters
    ----------
    client : distributed.Client
    limit : float
        Seconds without any answer after which a wait ends with an error.
    """

    def __init__(self, client: Client, limit: float) -> None:
        self.client, self.limit = client, limit

    @classmethod
    def current(cls, limit: float) -> Cluster:
        """Return that of the current client; raise if there is none, or if it is not what dask would compute with."""
        try:
            client = Client.current()
        except ValueError:
            raise RuntimeError(
                f"The data are a dask collection, and there is no client of a cluster to train on. {HOW_TO_START} "
                "Data that fit into memory are passed as arrays: X.compute()."
            ) from None
        if client.asynchronous:
            raise RuntimeError(
                "The current client of dask is asynchronous, and fit waits for its results. Use a synchronous one: "
                "Client(cluster)."
            )
        chosen = dask.config.get("scheduler", None)
        if isinstance(chosen, str) and chosen.lower() not in ("distributed", "dask.distributed"):
            raise RuntimeError(
                f"dask is set to compute with scheduler={chosen!r}, within this process, where rows cannot be held "
                "between steps. Remove that setting, so that dask computes on the cluster of the current client."
            )
        return cls(client, limit)

    def submit(self, function: Callable[..., Any], *arguments: Any, **where: Any) -> Future:
        """Return the future of a call on some worker."""
        return self.client.submit(function, *arguments, pure=False, **where)

    def homes(self, n: int) -> list[dict[str, Any]]:
        """Return where to put each of n chunks, neighbours together; a worker that is gone is no hindrance."""
        workers = self.workers()
        return [{"workers": [workers[k * len(workers) // n]], "allow_other_workers": True} for k in range(n)]

    def value(self, value: object) -> Future:
        """Return a value as a future that can be made anew, unlike what is scattered."""
        return self.submit(pickle.loads, cloudpickle.dumps(value))

    def wait(self, futures: Sequence[Future]) -> None:
        """Wait for futures, as long as one after the other ends; raise what the first one raised, if one has."""
        left = set(futures)
        try:
            while left:
                left = wait(left, timeout=self.limit, return_when="FIRST_COMPLETED").not_done
        except TimeoutError:
            raise self._out_of_time(f"{len(left)} of {len(futures)} chunks are not ready") from None
        except CancelledError as error:
            raise RuntimeError(LOST) from error
        for future in futures:
            if future.status == "error":
                raise future.exception()

    def results(self, futures: Sequence[Future]) -> list[Any]:
        """Wait for futures, and return their results."""
        self.wait(futures)
        try:
            found: list[Any] = self.client.sync(self._gathered, list(futures))
        except TimeoutError:
            raise self._out_of_time("chunks that were ready are lost, or cannot be fetched") from None
        except CancelledError as error:
            raise RuntimeError(LOST) from error
        return found

    async def _gathered(self, futures: list[Future]) -> list[Any]:
        gathered: list[Any] = await asyncio.wait_for(self.client.gather(futures, asynchronous=True), self.limit)
        return gathered

    def workers(self) -> list[str]:
        """Return the addresses of the workers; wait until there is one."""
        begin = time.monotonic()
        while not (found := list(self.client.nthreads())):
            if time.monotonic() - begin > self.limit:
                raise self._out_of_time("the cluster has no worker")
            time.sleep(LOOK)
        return sorted(found)

    def _out_of_time(self, what: str) -> TimeoutError:
        return TimeoutError(
            f"Nothing has come from the cluster for worker_timeout={self.limit:g} seconds: {what}. Look at the workers "
            "in the dashboard of dask, and set worker_timeout to more than the longest evaluation takes."
        )

    def settle(self, actors: Iterable[_Actor]) -> None:
        """Wait until actors are there, or their workers gone; raise if one cannot be made."""
        begin = time.monotonic()
        while left := [actor for actor in actors if actor.future.status == "pending"]:
            alive = self.workers()
            for actor in left:
                if actor.address not in alive:
                    actor.future.cancel()
            with suppress(TimeoutError):
                wait([actor.future for actor in left], timeout=LOOK)
            if time.monotonic() - begin > self.limit:
                raise self._out_of_time("rows are not put on their workers")
        for actor in actors:
            if actor.future.status == "error":
                error = actor.future.exception()
                if not (isinstance(error, KilledWorker) or "holding Actor was lost" in str(error)):
                    raise error

    def ask(self, messages: Mapping[_Actor, bytes]) -> dict[_Actor, bytes | None]:
        """Send each actor a message; return the answers, None of an actor that is lost."""
        answers: dict[_Actor, bytes | None] = self.client.sync(self._ask, messages)
        return answers

    async def _ask(self, messages: Mapping[_Actor, bytes]) -> dict[_Actor, bytes | None]:
        calls = {asyncio.ensure_future(actor.call(message)): actor for actor, message in messages.items()}
        left, latest = set(calls), time.monotonic()
        try:
            while left:
                done, left = await asyncio.wait(left, timeout=LOOK)
                if done:
                    latest = time.monotonic()
                for call in [call for call in left if calls[call].is_lost]:
                    left.discard(call)
                    call.cancel()
                if left and time.monotonic() - latest > self.limit:
                    raise self._out_of_time(f"no answer from {', '.join(calls[call].address for call in left)}")
        finally:
            for call in left:
                call.cancel()
        return {actor: None if call.cancelled() or not call.done() else call.result() for call, actor in calls.items()}


class _Actor:
    """A `_Holder` on a worker, by which it is called.

    Parameters
    ----------
    cluster : Cluster
    future : Future
        Of the actor.
    address : str
        Of its worker.
    numbers : list of int
        Of the partitions that it holds.
    """

    def __init__(self, cluster: Cluster, future: Future, address: str, numbers: list[int]) -> None:
        self.future, self.address, self.numbers = future, address, numbers
        self.shared: set[Token] = set()  # what it knows
        self._client = cluster.client
        self._is_direct: bool | None = None  # whether the worker can be reached from here, once that is known

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler knows that its worker is gone."""
        return self.future.status in ("error", "cancelled", "lost")

    async def call(self, message: bytes) -> bytes | None:
        """Send a message and return the answer; None if there is no such actor any more."""
        request = {"function": "call", "actor": self.future.key, "args": [message], "kwargs": {}}
        try:
            if self._is_direct is None:
                self._is_direct = await self._can_be_reached()
            if self._is_direct:
                answer = await self._client.rpc(self.address).actor_execute(**request)
            else:
                answer = await self._client.scheduler.proxy(worker=self.address, msg={"op": "actor_execute", **request})
        except (OSError, KeyError):  # the connection is broken, or there is no such worker
            return None
        said: bytes | None = answer["result"] if answer["status"] == "OK" else None
        return said

    async def _can_be_reached(self) -> bool:
        """Whether the worker answers to this process, and not to the scheduler alone."""
        with suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._client.rpc(self.address).identity(), LOOK)
            return True
        return False


class _Holder:
    """Holds the rows of some partitions on a worker, and says what is asked of them.

    It is called by messages of bytes, which take half the time of dask's own serialization of several arguments.

    Parameters
    ----------
    arrangement : Arrangement
    numbers : list of int
        Of the partitions.
    places : list of int
        Which they are, of those that are trained on.
    *parts : tuple
        X, columns and weights of each.
    """

    def __init__(self, arrangement: Arrangement, numbers: Sequence[int], places: Sequence[int], *parts: Any) -> None:
        self._arrangement, self._places = arrangement, places
        self._rows = {n: arrangement.arrange(n, *aligned(part)) for n, part in zip(numbers, parts, strict=True)}
        self._orders: dict[Any, tuple[int, Array]] = {}  # of the rows of a partition, by its place: epoch and order
        self._shared: dict[Token, Any] = {}

    def call(self, message: bytes) -> bytes:
        """Return the answer to a message: seconds that it took, and what came or the error."""
        begin = time.perf_counter()
        try:
            name, arguments = _Unpickler(io.BytesIO(message), self._shared).load()
            answer: Any = getattr(self, name)(*arguments)
        except Exception as error:
            answer = _Failed(error)
        answered = time.perf_counter() - begin, answer
        try:
            return pickle.dumps(answered, pickle.HIGHEST_PROTOCOL)
        except Exception:  # of what only a function of the user's defines
            said: bytes = cloudpickle.dumps(answered)
            return said

    def learn(self, token: Token, value: Any) -> None:
        """Take in what messages will speak of."""
        self._shared[token] = value

    def totals(self, objective: Any, theta: Parameters) -> list[Sum]:
        """Return the contributions of all rows, added as far as the partitions here are neighbours."""
        return self._added(self._told(number, lambda rows: rows.total(objective, theta)) for number in self._rows)

    def _added(self, parts: Iterable[Contribution]) -> list[Sum]:
        return added(Sum.of(part, place) for part, place in zip(parts, self._places, strict=True))

    def shares(
        self, objective: Any, theta: Parameters, epoch: int, step: int, spans: Mapping[int, tuple[int, int]]
    ) -> list[Sum]:
        """Return likewise the contributions of the share that a step takes of each partition."""

        def of_share(rows: ArrayRows, own: tuple[int, int]) -> Contribution:
            share = self._share(rows, epoch=epoch, step=step, begin=own[0], end=own[1])
            contribution: Contribution = objective.contribution(theta, share)
            return contribution

        return self._added(self._told(number, partial(of_share, own=spans[number])) for number in self._rows)

    def local(
        self,
        function: Callable[..., Any],
        objective: Any,
        theta: Parameters,
        epoch: int,
        step: int,
        spans: Mapping[int, Sequence[tuple[int, int]]],
    ) -> list[Any]:
        """Return what a function says of the objective, θ and the shares that some steps take of each partition."""

        def of_steps(rows: ArrayRows, own: Sequence[tuple[int, int]]) -> Any:
            share = partial(self._share, rows, epoch=epoch)
            shares = _Shares([partial(share, step=step + k, begin=b, end=e) for k, (b, e) in enumerate(own)])
            return function(objective, theta.copy(), shares)

        return [self._told(number, partial(of_steps, own=spans[number])) for number in self._rows]

    def map(self, function: Callable[[Batch], Any]) -> list[Any]:
        """Return what a function says of the rows of each partition."""
        return [self._told(number, lambda rows: function(rows.everything)) for number in self._rows]

    def take(self, drawn: Mapping[int, Array]) -> list[Any]:
        """Return some of the rows that have a weight, of each partition that is asked for them."""
        return [rows.take_eligible(drawn[n]) if n in drawn else None for n, rows in self._rows.items()]

    def _told(self, number: int, function: Callable[[ArrayRows], Any]) -> Any:
        """What a function says of the rows of a partition."""
        with noted(where_in(number)), np.errstate(all="ignore"):  # what is not finite is found where it arrives
            return function(self._rows[number])

    def _share(self, rows: ArrayRows, *, epoch: int, step: int, begin: int, end: int) -> Batch:
        """The rows of a step, of those of a partition in the order of an epoch."""
        chosen: Any = slice(begin, end)
        seed = self._arrangement.seed
        if self._arrangement.shuffle:
            known, order = self._orders.get(rows.place, (None, None))
            if known != epoch or order is None:
                order = generator(seed, SHUFFLE, epoch, *rows.place).permutation(rows.n_samples)
                self._orders[rows.place] = epoch, order
            chosen = order[begin:end]
        batch = Batch(*rows.take(chosen), position=(seed, CALLABLE, epoch, step, *rows.place))
        shown: Batch = batch.read_only()
        return shown


class _Shares(BatchedRows):
    """What some steps take of a partition, as rows of their own.

    Parameters
    ----------
    batches : list of callable
        Each returns the batch of a step.
    """

    def __init__(self, batches: Sequence[Callable[[], Batch]]) -> None:
        self._batches = batches
        self.steps_per_epoch = len(batches)
        self.n_samples = self.batch_size = 0  # which no step asks for

    def batch(self, epoch: int, step: int) -> Batch:
        return self._batches[step]()


class _Failed(NamedTuple):
    """An error on a worker."""

    error: Exception


class _Pickler(cloudpickle.Pickler):
    """Writes a token in place of what is shared, and keeps that.

    Parameters
    ----------
    file : file
    lesson : object, default=None
        What is written in full though it is shared.
    """

    def __init__(self, file: Any, lesson: object = None) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._lesson = lesson
        self.met: dict[Token, Any] = {}

    def persistent_id(self, obj: Any) -> Token | None:
        if not hasattr(type(obj), "travels_once") or obj is self._lesson:
            return None
        token = (id(obj), *obj.travels_once)
        self.met[token] = obj
        return token


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, shared: Mapping[Token, Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, pid: Token) -> Any:
        return self._shared[pid]


def _dumps(value: object, lesson: object = None) -> tuple[bytes, dict[Token, Any]]:
    """Write a value; return also what is shared in it, by its token."""
    file = io.BytesIO()
    pickler = _Pickler(file, lesson)
    pickler.dump(value)
    return file.getvalue(), pickler.met


class Partitions(Surveyed):
    """Validated rows on the workers of a cluster, by the number of the partition.

    Parameters
    ----------
    cluster : Cluster
    parts : dict of int to Future
        Each X, columns and weights or None.
    read : Future
        What has read them, and can sum their y.
    """

    def __init__(self, cluster: Cluster, parts: Mapping[int, Future], read: Future) -> None:
        self.cluster, self._read = cluster, read
        futures = [cluster.submit(_surveyed, read, part, number) for number, part in parts.items()]
        surveys = dict(zip(parts, cluster.results(futures), strict=True))
        self.surveys = {number: survey for number, survey in surveys.items() if survey.extent.n}
        self.parts = {number: parts[number] for number in self.surveys}
        for number, survey in self.surveys.items():
            with noted(where_in(number)):
                survey.kind.require_like(next(iter(self.surveys.values())).kind)
        self._fetched: dict[int, Any] = {}

    def arrays(self, number: int) -> Any:
        if number not in self._fetched:
            (part,) = self.cluster.results([self.parts[number]])
            self._fetched[number] = aligned(part)
        return self._fetched[number]

    def rows(self, numbers: Sequence[int], **settings: Any) -> DaskRows:
        return DaskRows(self, numbers, **settings)

    def split(self, share: float, shuffle: bool, seed: int) -> tuple[Partitions, Partitions]:
        """Return the rows to train on, and a share of every partition that is held out, of those that have a weight."""
        counts = [survey.extent.n_weighted for survey in self.surveys.values()]
        held = apportioned(counts, math.ceil(share * sum(counts))).tolist()
        both = []
        for is_held in (False, True):
            parts = {
                number: self.cluster.submit(_half, part, is_held, n, shuffle, seed, number)
                for (number, part), n in zip(self.parts.items(), held, strict=True)
            }
            both.append(Partitions(self.cluster, parts, self._read))
        return both[0], both[1]


def aligned(part: Any) -> Any:
    """Return X, columns and weights with arrays where the processor wants them, which a message does not care for.

    BLAS is slower elsewhere, and adds in another order.
    """
    X, columns, weights = part
    if issparse(X):
        for name in ("data", "indices", "indptr"):
            setattr(X, name, np.require(getattr(X, name), requirements="A"))
    else:
        X = np.require(X, requirements="A")
    named = {name: column if column.flags.aligned else column.copy() for name, column in columns.items()}
    if weights is not None and not weights.values.flags.aligned:
        weights = Weights(weights.values.copy(), weights.exponent)
    return X, named, weights


def _surveyed(read: Any, part: Any, number: int) -> Survey:
    X, columns, weights = part
    with noted(where_in(number)):
        return Survey.of(X, columns, weights, read.total(columns, weights))


def _half(part: Any, is_held: bool, n_held: int, shuffle: bool, seed: int, number: int) -> Any:
    """Of the rows of a part that have a weight, those that are held out, or the others."""
    X, columns, weights = part
    counted = np.arange(X.shape[0]) if weights is None else weights.counted
    order = counted
    if shuffle:
        order = generator(seed, HELD_OUT, *((number,) if number else ())).permutation(counted)
    n_train = len(counted) - n_held
    rows = np.sort(order[n_train:] if is_held else order[:n_train])
    named = {name: column[rows] for name, column in columns.items()}
    return X[rows], named, None if weights is None else weights.take(rows)


def apportioned(counts: Sequence[int], n: int) -> Array:
    """Return how many of n rows come from each partition, in proportion to their rows.

    One row more is taken where the share so far is smallest, by the method of Webster and Sainte-Laguë, as far as that
    needs to be done one by one: so the shares of n + 1 rows are those of n, and one more.

    References
    ----------
    .. [Balinski2001] M. Balinski and H. P. Young, "Fair Representation", 2nd edition, Brookings 2001, chapter 8.
    """
    rows = np.asarray(counts, dtype=np.int64)
    total = int(rows.sum())
    taken = (2 * rows * n + total) // max(1, 2 * total)  # the nearest whole numbers
    while (gap := n - int(taken.sum())) != 0:
        with np.errstate(divide="ignore"):
            at = (2 * taken + np.sign(gap)) / (2 * rows)  # where the next row, or the last, of each stands
        if gap > 0:
            taken[int(np.argmin(np.where(taken < rows, at, np.inf)))] += 1
        else:
            taken[len(rows) - 1 - int(np.argmax(np.where(taken > 0, at, -np.inf)[::-1]))] -= 1
    return taken


class DaskRows:
    """Rows of partitions on the workers of a cluster. A step takes its share of every partition.

    Parameters
    ----------
    partitions : Partitions
    numbers : list of int
        Which of them.
    scale, only_counted, drop_last, seed : see `ChunkRows`
    batch_size : int, default=None
        Rows of a step, from all partitions together; all by default.
    shuffle : bool, default=False
        Whether each epoch draws new orders of the rows in each partition.
    local_steps : int, default=1
        Steps that partitions take by themselves before their θ are averaged.

    Attributes
    ----------
    batch_size : int
        Rows that are evaluated together, at most.
    """

    def __init__(
        self,
        partitions: Partitions,
        numbers: Sequence[int],
        *,
        scale: Scale = AS_GIVEN,
        only_counted: bool = False,
        batch_size: int | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        local_steps: int = 1,
    ) -> None:
        self.local_steps = local_steps
        extents = {number: partitions.surveys[number].extent for number in numbers}
        if only_counted:
            extents = {number: extent.counted for number, extent in extents.items() if extent.n_weighted}
        self._extents = list(extents.values())
        self._counts = [extent.n for extent in self._extents]
        self.n_samples = sum(self._counts)
        self._n_of_a_step = min(batch_size or self.n_samples, self.n_samples)
        self.batch_size = min(self._n_of_a_step, max(self._counts))
        self.steps_per_epoch = n_batches(self.n_samples, self._n_of_a_step, drop_last)
        self.seed = seed
        self._partitions, self._numbers = partitions, list(extents)
        shuffle = shuffle and self._n_of_a_step < self.n_samples
        self._arrangement = Arrangement(batch_size, shuffle, drop_last, seed, scale, only_counted)
        self._actors: list[_Actor] = []
        self._shared: dict[Token, Any] = {}  # what has a token, which holds as long as it is held
        self._cost = _Cost()

    def __reduce__(self) -> Any:
        raise TypeError("Rows that lie on a cluster cannot be sent there, nor saved.")

    @property
    def first(self) -> ArrayRows:
        """The rows that `init` and the gradient check look at: those of the first partition, in this process."""
        return self._rows(self._numbers[0])

    @property
    def telling(self) -> ArrayRows:
        """The rows of the first partition from which anything can be learned: with weights, and not zeros alone."""
        for number, extent in zip(self._numbers, self._extents, strict=True):
            if extent.n_weighted and is_telling(self._partitions.arrays(number)[0]):
                return self._rows(number)
        return self.first

    def _rows(self, number: int) -> ArrayRows:
        arrangement = self._arrangement._replace(batch_size=self.batch_size)
        return arrangement.arrange(number, *self._partitions.arrays(number))

    def contribution(self, objective: BatchObjective, theta: Parameters, epoch: int, step: int) -> Contribution:
        """Return the objective's contribution of a step, the sum over the partitions in their order."""
        spans = {number: own[0] for number, own in self._spans(step, 1).items()}
        return self._sum(self._evaluated("shares", objective, theta, epoch, step, spans))

    def local(
        self, function: Callable[..., T], objective: Any, theta: Parameters, epoch: int, step: int, n_steps: int
    ) -> list[T]:
        """Return what ``function(objective, theta, rows)`` says of the shares that some steps take of each partition.

        Each has a θ and rows of its own.
        """
        spans = self._spans(step, n_steps)
        return self._by_number(self._evaluated("local", function, objective, theta, epoch, step, spans))

    def _spans(self, step: int, n_steps: int) -> dict[int, list[tuple[int, int]]]:
        """Where the shares of some steps begin and end, in the rows of each partition."""
        rows_so_far = ((step + k) * self._n_of_a_step for k in range(n_steps + 1))
        ends = np.array([apportioned(self._counts, min(n, self.n_samples)) for n in rows_so_far])
        return {
            number: list(itertools.pairwise(own.tolist())) for number, own in zip(self._numbers, ends.T, strict=True)
        }

    def total(self, objective: BatchObjective, theta: Parameters) -> Contribution:
        """Return the objective's contribution of all rows, the sum over the partitions in their order."""
        return self._sum(self._evaluated("totals", objective, theta)).dense()

    def map(self, function: Callable[[Batch], T]) -> list[T]:
        """Return what a function says of all rows, in a list with an entry for each partition."""
        return self._by_number(self._asked("map", function))

    def sample(self, n_batches: int, purpose: int, batch_size: int | None = None) -> list[Batch]:
        """Return a fixed random sample of the rows that have a weight, from all partitions; see `ChunkRows.sample`."""
        size = min(batch_size or self._n_of_a_step, self.n_samples)

        def taken(drawn: Mapping[int, Array]) -> list[Any]:
            answers = self._asked("take", {self._numbers[index]: rows for index, rows in drawn.items()})
            return [part for part in self._by_number(answers) if part is not None]

        return drawn_from(self._extents, taken, n_batches * size, size, purpose, self._arrangement)

    @property
    def n_chunks(self) -> int:
        """How many partitions have rows."""
        return len(self._numbers)

    def _sum(self, answers: _Answers) -> Contribution:
        """The contribution of all partitions: of one its own, which division by its rows would round."""
        return mean_of(itertools.chain.from_iterable(said for _, said in answers))

    def _by_number(self, answers: _Answers) -> list[Any]:
        """What the partitions say, in their order."""
        each = {number: part for numbers, said in answers for number, part in zip(numbers, said, strict=True)}
        return [each[number] for number in self._numbers]

    def _evaluated(self, name: str, *arguments: Any) -> _Answers:
        """What is said in an evaluation."""
        begin = time.perf_counter()
        answers = self._asked(name, *arguments)
        self._cost.add(time.perf_counter() - begin, self._seconds)
        return answers

    def _asked(self, name: str, *arguments: Any) -> _Answers:
        """What the holders say, beside the numbers of their partitions; what is lost on the way is asked for again."""
        answers: _Answers = []
        found: set[int] = set()
        message, shared = _dumps((name, arguments))
        self._seconds, n_lost = 0.0, 0
        while len(found) < len(self._numbers):
            self._place()
            asked = [actor for actor in self._actors if actor.numbers[0] not in found]
            self._teach(asked, shared)
            for actor, answer in self._partitions.cluster.ask(dict.fromkeys(asked, message)).items():
                if answer is None:
                    self._actors.remove(actor)
                    n_lost += 1
                    continue
                seconds, said = pickle.loads(answer)
                self._seconds = max(self._seconds, seconds)
                if isinstance(said, _Failed):
                    raise said.error
                answers.append((actor.numbers, said))
                found.update(actor.numbers)
            if n_lost > MOST_LOST:
                raise RuntimeError(
                    f"{n_lost} workers were lost in one evaluation, as if it were what ends them. Look into their "
                    "logs: most often the memory of a worker is too small for its rows and what the functions make of "
                    "them. Make the chunks of the collection smaller, or give the workers more memory."
                )
        return answers

    def _teach(self, actors: Sequence[_Actor], shared: Mapping[Token, Any]) -> None:
        """Send the actors what a message speaks of, so far as they do not know it."""
        for token, value in shared.items():
            pupils = [actor for actor in actors if token not in actor.shared]
            if not pupils:
                continue
            self._shared[token] = value
            lesson, within = _dumps(("learn", (token, value)), value)
            self._teach(pupils, within)
            for actor, answer in self._partitions.cluster.ask(dict.fromkeys(pupils, lesson)).items():
                said = None if answer is None else pickle.loads(answer)[1]
                if isinstance(said, _Failed):
                    said.error.add_note(f"The {type(value).__name__} of this fit could not be read on a worker.")
                    raise said.error
                actor.shared.add(token)  # one that is lost will not be asked

    def _place(self) -> None:
        """Put the partitions that no actor holds on workers: where they lie, unless others have less to do."""
        cluster, parts = self._partitions.cluster, self._partitions.parts
        while True:
            self._actors = [actor for actor in self._actors if not actor.is_lost]
            held = set(itertools.chain.from_iterable(actor.numbers for actor in self._actors))
            left = [number for number in self._numbers if number not in held]
            if not left:
                return
            cluster.wait([parts[number] for number in left])
            for address, numbers in self._shared_out(left, cluster.workers()).items():
                futures = [parts[number] for number in numbers]
                places = [self._numbers.index(number) for number in numbers]
                made = _Holder, self._arrangement, numbers, places
                future = cluster.submit(*made, *futures, actor=True, workers=[address])
                self._actors.append(_Actor(cluster, future, address, numbers))
            cluster.settle(self._actors)

    def _shared_out(self, numbers: Sequence[int], workers: Sequence[str]) -> dict[str, list[int]]:
        """The numbers of partitions by the address of a worker."""
        sizes = dict(zip(self._numbers, self._counts, strict=True))
        loads = dict.fromkeys(workers, 0)
        for actor in self._actors:
            loads[actor.address] = loads.get(actor.address, 0) + sum(sizes[number] for number in actor.numbers)
        parts = self._partitions.parts
        lie = self._partitions.cluster.client.who_has([parts[number] for number in numbers])
        fair = (self.n_samples + max(self._counts)) / len(workers)
        shares: dict[str, list[int]] = {}
        for number in sorted(numbers, key=lambda number: (-sizes[number], number)):
            least = min(workers, key=lambda worker: (loads[worker], worker))
            near = [worker for worker in lie.get(parts[number].key, ()) if worker in loads]
            there = min(near, key=lambda worker: (loads[worker], worker), default=least)
            chosen = there if loads[there] + sizes[number] <= fair else least
            loads[chosen] += sizes[number]
            shares.setdefault(chosen, []).append(number)
        return {worker: sorted(shares[worker]) for worker in shares}


class _Cost:
    """What the first calls cost: the time of their messages, and of what the workers compute."""

    def __init__(self) -> None:
        self._calls = 0
        self._total = self._computed = 0.0

    def add(self, seconds: float, computed: float) -> None:
        """Take in a call; warn after some of them if they are cheaper than their messages."""
        self._calls += 1
        if not FIRST_CALLS < self._calls <= FIRST_CALLS + TIMED_CALLS:
            return
        self._total, self._computed = self._total + seconds, self._computed + computed
        if self._calls < FIRST_CALLS + TIMED_CALLS or self._computed > self._total / 2:
            return
        computed, whole = 1e3 * self._computed / TIMED_CALLS, 1e3 * self._total / TIMED_CALLS
        warnings.warn(
            f"An evaluation on the cluster takes {whole:.2g} ms, of which the workers compute {computed:.2g} ms: the "
            "rest are messages. Larger batches, a full-batch optimizer such as 'lbfgs' or local_steps make more of "
            "each; rows that fit into memory are trained faster as arrays.",
            UserWarning,
            stacklevel=2,
        )
