"""The cluster of the current dask client: waits with a time limit, and actors that are called together."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import cloudpickle
import dask
from distributed import Client, Future, get_worker, wait
from distributed.threadpoolexecutor import thread_state

from .parts import where_in

POLL = 0.2  # seconds after which an answer that has not come is a reason to see whether its worker is alive
PROBE = 2.0  # seconds in which a worker answers that can be reached from here


class Cluster:
    """The client of a cluster, and how long to wait for an answer.

    Parameters
    ----------
    client : distributed.Client
    limit : float
        Number of seconds without any answer after which an error is raised.
    """

    def __init__(self, client: Client, limit: float) -> None:
        self.client, self.limit = client, limit

    @classmethod
    def current(cls, limit: float) -> Cluster:
        """Return that of the current client; raise if there is none, or if it is not what dask would compute with."""
        if _is_in_a_task():
            raise RuntimeError(
                "fit of a dask collection was called within a task of the cluster, which would wait for itself. Call "
                "it inside `with distributed.worker_client():`."
            )
        try:
            client = Client.current()
        except ValueError:
            raise RuntimeError(
                "The data is a dask collection, but there is no client of a cluster to work on. Start one in this "
                "process: from dask.distributed import Client; client = Client(). If the data fits into memory, pass "
                "arrays: X.compute()."
            ) from None
        if client.asynchronous:
            raise RuntimeError(
                "The current client of dask is asynchronous, but fit waits for its results. Use a synchronous one: "
                "Client(cluster)."
            )
        chosen = dask.config.get("scheduler", None)
        if isinstance(chosen, str) and chosen.lower() not in ("distributed", "dask.distributed"):
            raise RuntimeError(
                f"dask is set to compute with scheduler={chosen!r}, within this process, where samples cannot be held "
                "between steps. Remove that setting, so that dask uses the cluster of the current client."
            )
        cluster = cls(client, limit)
        cluster.workers()  # raises if there are none
        return cluster

    def submit(self, function: Callable[..., Any], *arguments: Any, **where: Any) -> Future:
        """Return the future of a call on some worker."""
        return self.client.submit(function, *arguments, pure=False, **where)

    def value(self, value: object) -> Future:
        """Return a value as a future that can be computed again, unlike what is scattered."""
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1PB"}):  # the graph is no user's
            return self.submit(pickle.loads, cloudpickle.dumps(value))

    def workers(self) -> list[str]:
        """Return the addresses of the workers; wait until there is one."""
        patience = Patience(self.limit)
        while not (found := list(self.client.nthreads())):
            patience.check(0, "the cluster has no worker")
            time.sleep(POLL)
        return sorted(found)

    def wait(self, futures: Sequence[Future], numbers: Sequence[int] | None = None) -> None:
        """Wait for futures, as long as one after the other ends; raise what the first one raised, if one has.

        Parameters
        ----------
        futures : list of Future
        numbers : list of int, default=None
            Of the chunks that they are of, for notes.
        """
        patience = Patience(self.limit)
        while left := [future for future in futures if future.status in ("pending", "lost")]:
            if any(future.status == "error" for future in futures):
                break
            _wait_for_a_moment(left)
            patience.check(len(left), f"{len(left)} of {len(futures)} chunks are not ready")
        for index, future in enumerate(futures):
            if future.status == "error":
                raise _apart(future.exception(), None if numbers is None else numbers[index])
            if future.status == "cancelled":
                raise self._lost()

    def results(self, futures: Sequence[Future], numbers: Sequence[int] | None = None) -> list[Any]:
        """Wait for futures, and return their results."""
        self.wait(futures, numbers)
        try:
            found: list[Any] = self.client.sync(self._gathered, list(futures))
        except TimeoutError:
            raise out_of_time(self.limit, "chunks that were ready are lost, or cannot be fetched") from None
        except CancelledError:
            raise self._lost() from None
        return found

    async def _gathered(self, futures: list[Future]) -> list[Any]:
        gathered: list[Any] = await asyncio.wait_for(self.client.gather(futures, asynchronous=True), self.limit)
        return gathered

    def _lost(self) -> RuntimeError:
        if self.client.status != "running":
            return RuntimeError(f"The connection to the cluster was lost: its client is {self.client.status}.")
        return RuntimeError(
            "Chunks of the data were lost or cancelled and cannot be recomputed: they were scattered to a worker "
            "that is gone, or the client that persisted them was closed or restarted. Build the collection from files "
            "or from functions that load its chunks, and start again with a complete one."
        )

    def wait_for_actors(self, actors: Iterable[Actor]) -> None:
        """Wait until actors are there, or their workers gone; raise if one cannot be made."""
        patience = Patience(self.limit)
        while left := [actor for actor in actors if actor.future.status == "pending"]:
            alive = self.workers()
            for actor in left:
                if actor.address not in alive:
                    actor.future.cancel()  # it may be on that worker only
            pending = [actor.future for actor in left if actor.address in alive]
            _wait_for_a_moment(pending)
            patience.check(len(left), "samples have not been placed on their workers")
        for actor in actors:
            if actor.future.status == "error" and actor.address in self.workers():
                raise _apart(actor.future.exception())

    def ask(self, messages: Mapping[Actor, bytes]) -> dict[Actor, bytes | None]:
        """Send each actor a message; return the answers, None of an actor that is lost."""
        answers: dict[Actor, bytes | None] = self.client.sync(self._ask, messages)
        return answers

    async def _ask(self, messages: Mapping[Actor, bytes]) -> dict[Actor, bytes | None]:
        calls = {asyncio.ensure_future(actor.call(message)): actor for actor, message in messages.items()}
        left, patience = set(calls), Patience(self.limit)
        try:
            while left:
                _, left = await asyncio.wait(left, timeout=POLL)
                for call in [call for call in left if calls[call].is_lost]:
                    left.discard(call)
                    call.cancel()
                patience.check(len(left), f"no answer from {', '.join(calls[call].address for call in left)}")
        finally:
            for call in left:
                call.cancel()
        return {actor: call.result() if _has_ended(call) else None for call, actor in calls.items()}


def _wait_for_a_moment(futures: list[Future]) -> None:
    """Wait until futures have ended, or for the time after which to look again."""
    try:
        wait(futures, timeout=POLL)
    except (TimeoutError, CancelledError) as error:
        error.__traceback__ = None  # dask keeps the error in a frame of it, a cycle that holds the futures and chunks


def _is_in_a_task() -> bool:
    """Whether this is a thread of a worker's, which has not left the pool of those that compute."""
    try:
        get_worker()
    except ValueError:
        return False
    return bool(getattr(thread_state, "proceed", False))


def _apart(error: BaseException, number: int | None = None) -> BaseException:
    """Return a copy of an error that the client keeps, whose traceback would keep what is in our frames.

    Notes say in which chunk it was, and what to do about a module that workers lack.
    """
    try:
        error = copy.copy(error)
    except Exception:  # one that is made of other arguments than it has
        error = error.with_traceback(None)
    notes = getattr(error, "__notes__", [])
    if number is not None and not any("In chunk" in note for note in notes):
        error.add_note(where_in(number))
    if isinstance(error, ModuleNotFoundError):
        error.add_note(
            "A worker of the cluster cannot import it, because functions of a module are sent by name. Install the "
            "module on the workers, or send it: client.upload_file('module.py')."
        )
    return error


def _has_ended(call: asyncio.Future[Any]) -> bool:
    return call.done() and not call.cancelled()


class Patience:
    """Counts the seconds since there was progress.

    Parameters
    ----------
    limit : float
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._latest, self._n_left = limit, time.monotonic(), -1

    def check(self, n_left: int, what: str) -> None:
        """Raise if as many are left as a limit of seconds ago, with what was waited for."""
        now = time.monotonic()
        if n_left != self._n_left:
            self._latest, self._n_left = now, n_left
        if now - self._latest > self._limit:
            raise out_of_time(self._limit, what)


def out_of_time(limit: float, what: str) -> TimeoutError:
    """Return the error at the end of patience."""
    return TimeoutError(
        f"No answer from the cluster for worker_timeout={limit:g} seconds: {what}. Look at the workers in the "
        "dashboard of dask, and set worker_timeout to more than the time to load or evaluate a chunk."
    )


class Actor:
    """An object on a worker, which is called by messages of bytes.

    Parameters
    ----------
    client : distributed.Client
    future : Future
        Of the actor.
    address : str
        Of its worker.
    numbers : list of int
        Of the chunks that it holds.

    Attributes
    ----------
    stored : set
        Tokens of what it was sent to keep.
    """

    def __init__(self, client: Client, future: Future, address: str, numbers: list[int]) -> None:
        self.future, self.address, self.numbers = future, address, numbers
        self.stored: set[Any] = set()
        self._client = client
        # Whether the worker can be reached from here, once that is known.
        self._is_direct: bool | None = False if client.direct_to_workers is False else None

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler has reported its worker as gone."""
        return self.future.status in ("error", "cancelled", "lost")

    async def call(self, message: bytes) -> bytes | None:
        """Send a message and return the answer; None if there is no such actor any more."""
        request: dict[str, Any] = {"function": "call", "actor": self.future.key, "args": [message], "kwargs": {}}
        try:
            if self._is_direct is None:
                self._is_direct = await self._can_be_reached()
            if self._is_direct:
                answer = await self._client.rpc(self.address).actor_execute(**request)
            else:
                answer = await self._client.scheduler.proxy(worker=self.address, msg={"op": "actor_execute", **request})
        except (OSError, KeyError):  # the connection is broken, or there is no such worker
            return None
        if answer["status"] != "OK":
            raise answer["exception"]
        said: bytes = answer["result"]
        return said

    async def _can_be_reached(self) -> bool:
        """Whether the worker answers to this process, and not to the scheduler alone."""
        with suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._client.rpc(self.address).identity(), PROBE)
            return True
        return False
