"""Samples in dask collections, evaluated on the workers of a cluster that hold them.

`Partitions` are validated rows as futures, which the scheduler computes again from the graph of the collection when a
worker dies. `DaskRows` are the rows of some of them, as training takes them: an actor on each worker holds those that
lie there, a call carries θ, epoch and step, and the answers are summed in a fixed order.
"""

from __future__ import annotations

import heapq
import itertools
import math
import pickle
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from distributed import Future

from ..contribution import Contribution, mean_of
from ..exceptions import noted
from ..parameters import Parameters
from ..typing import Array, T
from .arrays import ArrayRows, n_batches
from .batch import HELD_OUT, Batch, generator
from .cluster import Actor, Cluster
from .dask_worker import Failed, Holder, Token, aligned, message
from .parts import Arrangement, PartRows, Survey, Surveyed, place_of, where_in
from .rows import BatchObjective

MOST_LOST = 5  # workers in one evaluation
FIRST_CALLS, TIMED_CALLS = 2, 10  # calls that are not timed, as they bring the objective, and that are

Answers: TypeAlias = list[tuple[list[int], Any]]  # what actors say, beside the numbers of their chunks


class Partitions(Surveyed):
    """Validated rows on the workers of a cluster, by the number of the chunk.

    Parameters
    ----------
    cluster : Cluster
    parts : dict of int to Future
        Each X, columns and weights or None.
    read : Future
        What has read them, and can sum their y.
    fetched : dict, default=None
        Parts that are known in this process.
    identified : bool, default=True
        Whether to find out what identifies them.
    """

    def __init__(
        self,
        cluster: Cluster,
        parts: Mapping[int, Future],
        read: Future,
        *,
        fetched: Mapping[int, Any] | None = None,
        identified: bool = True,
    ) -> None:
        self.cluster, self._read = cluster, read
        futures = [cluster.submit(_survey, read, part, number, identified) for number, part in parts.items()]
        surveys = dict(zip(parts, cluster.results(futures, list(parts)), strict=True))
        self.surveys = {number: survey for number, survey in surveys.items() if survey.extent.n}
        self.parts = {number: parts[number] for number in self.surveys}
        for number, survey in self.surveys.items():
            with noted(where_in(number)):
                survey.kind.require_like(next(iter(self.surveys.values())).kind)
        self._fetched = dict(fetched or {})

    def arrays(self, number: int) -> Any:
        if number not in self._fetched:
            (part,) = self.cluster.results([self.parts[number]], [number])
            self._fetched = {number: aligned(part)}  # one at a time
        return self._fetched[number]

    def rows(self, numbers: Sequence[int], *, local_steps: int = 1, **settings: Any) -> DaskRows:
        return DaskRows(self, numbers, Arrangement(**settings), local_steps)

    def split(self, share: float, shuffle: bool, seed: int) -> tuple[Partitions, Partitions]:
        """Return the rows to train on, and a share of every chunk that is held out, of those that have a weight.

        What is split is given up, so that workers do not hold it beside its halves.
        """
        counts = [survey.extent.n_weighted for survey in self.surveys.values()]
        held = apportioned(tuple(counts), math.ceil(share * sum(counts)))
        both = []
        for is_held in (False, True):
            parts = {
                number: self.cluster.submit(_half, self._read, part, is_held, n, shuffle, seed, number)
                for (number, part), n in zip(self.parts.items(), held, strict=True)
            }
            both.append(Partitions(self.cluster, parts, self._read, identified=False))
        self.release()
        return both[0], both[1]

    def release(self) -> None:
        """Release the memory of the workers."""
        for part in self.parts.values():
            part.release()
        self.parts, self._fetched = {}, {}


def _survey(read: Any, part: Any, number: int, identified: bool) -> Survey:
    X, columns, weights = part
    with noted(where_in(number)):
        return Survey.of(X, columns, weights, read.total(columns, weights), identified=identified)


def _half(read: Any, part: Any, is_held: bool, n_held: int, shuffle: bool, seed: int, number: int) -> Any:
    """Of the rows of a part that have a weight, those that are held out, each class in its share, or the others."""
    X, columns, weights = part
    counted = np.arange(X.shape[0]) if weights is None else weights.counted
    if shuffle:
        labels = read.targets.strata(columns.get("y"))
        order = generator(seed, HELD_OUT, *place_of(number)).permutation(counted)
        _, classes = np.unique(np.zeros(len(order)) if labels is None else labels[order], return_inverse=True)
        shares = apportioned(tuple(np.bincount(classes).tolist()), n_held)
        held = np.concatenate([order[:0], *(order[classes == k][:n] for k, n in enumerate(shares))])
    else:
        held = counted[len(counted) - n_held :]
    rows = np.sort(held) if is_held else np.setdiff1d(counted, held)
    named = {name: column[rows] for name, column in columns.items()}
    return X[rows], named, None if weights is None else weights.take(rows)


@lru_cache(maxsize=64)  # the end of a step is where the next begins
def apportioned(counts: tuple[int, ...], n: int) -> list[int]:
    """Return how many of n rows come from each chunk, in proportion to their rows.

    By the method of Webster and Sainte-Laguë, beginning at the rounded quotas: the shares of n + 1 rows are those of n,
    and one more.

    References
    ----------
    .. [Balinski2001] M. Balinski and H. P. Young, "Fair Representation", 2nd edition, Brookings 2001, chapter 8.
    """
    total = sum(counts)
    taken = [(2 * rows * n + total) // max(1, 2 * total) for rows in counts]  # the nearest whole numbers
    gap = n - sum(taken)
    # The times at which the next row of each chunk is due or, if too many were taken, minus those of the last one.
    step = 1 if gap > 0 else -1
    ahead = [
        (step * (2 * k + step) / (2 * rows), step * index)
        for index, (k, rows) in enumerate(zip(taken, counts, strict=True))
        if gap and (k < rows if gap > 0 else k > 0)
    ]
    heapq.heapify(ahead)
    for _ in range(abs(gap)):
        _, place = ahead[0]
        index = step * place
        taken[index] += step
        if taken[index] < counts[index] if gap > 0 else taken[index] > 0:
            heapq.heapreplace(ahead, (step * (2 * taken[index] + step) / (2 * counts[index]), place))
        else:
            heapq.heappop(ahead)
    return taken


class DaskRows(PartRows):
    """Rows of chunks on the workers of a cluster. A step takes its share of every chunk.

    Parameters
    ----------
    partitions : Partitions
    numbers : list of int
        Which of them.
    arrangement : Arrangement
        The batch size is that of a step, which takes its share of it from every chunk.
    local_steps : int, default=1
        Steps that chunks take by themselves before their θ are averaged.

    Attributes
    ----------
    batch_size : int
        Rows that are evaluated together, at most.
    """

    def __init__(
        self,
        partitions: Partitions,
        numbers: Sequence[int],
        arrangement: Arrangement,
        local_steps: int = 1,
    ) -> None:
        super().__init__(partitions, numbers, arrangement)
        self._partitions, self.local_steps = partitions, local_steps
        self._counts = tuple(extent.n for extent in self._extents)
        self._n_of_a_step = min(arrangement.batch_size or self.n_samples, self.n_samples)
        self.batch_size = min(self._n_of_a_step, max(self._counts))
        self.steps_per_epoch = n_batches(self.n_samples, self._n_of_a_step, arrangement.drop_last)
        is_shuffled = arrangement.shuffle and self._n_of_a_step < self.n_samples
        self._arrangement = arrangement._replace(shuffle=is_shuffled)
        self._actors: list[Actor] = []
        self._n_lost = 0
        self._stored: dict[Token, Any] = {}  # what has a token, which holds as long as it is held
        self._cost = _Cost()

    def __reduce__(self) -> Any:
        raise TypeError("Samples on a cluster cannot be pickled.")

    def release(self) -> None:
        """Release the memory of the workers, even if a traceback keeps a reference to this object."""
        for actor in self._actors:
            actor.future.release()
        self._actors, self._stored = [], {}
        self._partitions.release()

    @property
    def n_chunks(self) -> int:
        """How many chunks have rows."""
        return len(self._numbers)

    def _rows(self, number: int) -> ArrayRows:
        arrangement = self._arrangement._replace(batch_size=self.batch_size)
        return arrangement.arrange(number, *self._partitions.arrays(number))

    def _taken(self, drawn: Mapping[int, Array]) -> list[Any]:
        return [part for part in self._by_number(self._asked("take", drawn)) if part is not None]

    def contribution(self, objective: BatchObjective, theta: Parameters, epoch: int, step: int) -> Contribution:
        """Return the objective's contribution of a step, summed over the chunks."""
        spans = {number: own[0] for number, own in self._spans(step, 1).items()}
        return self._sum(self._evaluated("shares", objective, theta, epoch, step, spans))

    def total(self, objective: BatchObjective, theta: Parameters) -> Contribution:
        """Return the objective's contribution of all samples, summed over the chunks."""
        return self._sum(self._evaluated("totals", objective, theta)).dense()

    def map(self, function: Callable[[Batch], T]) -> list[T]:
        """Apply a function to all chunks; return the list of results."""
        return self._by_number(self._asked("map", function))

    def local(
        self, function: Callable[..., T], objective: Any, theta: Parameters, epoch: int, step: int, n_steps: int
    ) -> list[T]:
        """Return what ``function(objective, theta, rows)`` says of the shares that some steps take of each chunk.

        Each has a θ and rows of its own.
        """
        spans = self._spans(step, n_steps)
        return self._by_number(self._evaluated("local", function, objective, theta, epoch, step, spans))

    def _spans(self, step: int, n_steps: int) -> dict[int, list[tuple[int, int]]]:
        """Where the shares of some steps begin and end, in the rows of each chunk."""
        rows_so_far = ((step + k) * self._n_of_a_step for k in range(n_steps + 1))
        ends = zip(*(apportioned(self._counts, min(n, self.n_samples)) for n in rows_so_far), strict=True)
        return {number: list(itertools.pairwise(own)) for number, own in zip(self._numbers, ends, strict=True)}

    @staticmethod
    def _sum(answers: Answers) -> Contribution:
        return mean_of(itertools.chain.from_iterable(sums for _, sums in answers))

    def _by_number(self, answers: Answers) -> list[Any]:
        """What the chunks say, in their order."""
        each = {number: part for numbers, parts in answers for number, part in zip(numbers, parts, strict=True)}
        return [each[number] for number in self._numbers]

    def _evaluated(self, name: str, *arguments: Any) -> Answers:
        """What is said in an evaluation."""
        begin = time.perf_counter()
        answers = self._asked(name, *arguments)
        self._cost.add(time.perf_counter() - begin, self._seconds)
        return answers

    def _asked(self, name: str, *arguments: Any) -> Answers:
        """What the actors say; what is lost on the way is asked for again."""
        answers: Answers = []
        found: set[int] = set()
        request, stored = message(name, arguments)
        self._seconds, self._n_lost = 0.0, 0
        while len(found) < len(self._numbers):
            self._ensure_actors(found)
            self._store(self._left(found), stored)
            for actor, answer in self._ask(self._left(found), request):  # some may have been lost on the way
                answers.append((actor.numbers, answer))
                found.update(actor.numbers)
        return answers

    def _left(self, found: set[int]) -> list[Actor]:
        """The actors that hold a chunk which has not been found yet."""
        return [actor for actor in self._actors if not found.issuperset(actor.numbers)]

    def _ask(self, actors: Sequence[Actor], request: bytes) -> list[tuple[Actor, Any]]:
        """What actors answer, without those that are lost; raise what one of them has raised."""
        answers = []
        for actor, answer in self._partitions.cluster.ask(dict.fromkeys(actors, request)).items():
            if answer is None:
                self._note_lost([actor])
                continue
            seconds, said = pickle.loads(answer)
            self._seconds = max(self._seconds, seconds)
            if isinstance(said, Failed):
                raise said.error
            answers.append((actor, said))
        return answers

    def _store(self, actors: Sequence[Actor], stored: Mapping[Token, Any]) -> None:
        """Send actors what a message has tokens of, so far as they do not have it."""
        for token, value in stored.items():
            missing = [actor for actor in actors if token not in actor.stored]
            if missing:
                self._stored[token] = value
                request, within = message("store", (token, value), value)
                self._store(missing, within)
                for actor, _ in self._ask([actor for actor in missing if actor in self._actors], request):
                    actor.stored.add(token)

    def _ensure_actors(self, found: set[int]) -> None:
        """Let actors hold all chunks that have not been found yet, each where it lies unless that is unfair."""
        cluster, parts = self._partitions.cluster, self._partitions.parts
        places = {number: place for place, number in enumerate(self._numbers)}
        while True:
            self._note_lost([actor for actor in self._actors if actor.is_lost])
            held = set(itertools.chain.from_iterable(actor.numbers for actor in self._actors))
            left = [number for number in self._numbers if number not in held | found]
            if not left:
                return
            cluster.wait([parts[number] for number in left], left)
            for address, numbers in self._assignment(left, cluster.workers()).items():
                futures = [parts[number] for number in numbers]
                made = Holder, self._arrangement, numbers, [places[number] for number in numbers]
                future = cluster.submit(*made, *futures, actor=True, workers=[address])
                self._actors.append(Actor(cluster.client, future, address, numbers))
            cluster.wait_for_actors(self._actors)

    def _note_lost(self, actors: Sequence[Actor]) -> None:
        """Forget actors; raise if too many were lost in one evaluation."""
        self._actors = [actor for actor in self._actors if actor not in actors]
        self._n_lost += len(actors)
        if self._n_lost > MOST_LOST:
            raise RuntimeError(
                f"{self._n_lost} workers were lost during one evaluation, so the evaluation itself probably kills "
                "them. Check their logs. Most often, the memory of a worker is too small for its samples and the "
                "intermediate arrays. Make the chunks of the collection smaller, or give the workers more memory."
            )

    def _assignment(self, numbers: Sequence[int], workers: Sequence[str]) -> dict[str, list[int]]:
        """The numbers of chunks by the address of a worker."""
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
    """Compares the time of the first calls with the time that their workers computed."""

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
            f"An evaluation on the cluster takes {whole:.2g} ms, of which the workers compute {computed:.2g} ms. The "
            "rest is communication. Use larger batches, a full-batch optimizer such as 'lbfgs', or local_steps. Data "
            "that fit into memory train faster as arrays.",
            UserWarning,
            stacklevel=2,
        )
