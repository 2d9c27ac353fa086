"""Chunks of data larger than memory, of which one is held in memory at a time.

`Source` reads what the user passed, again in every pass. `Chunks` holds the validated chunk that was read last.
`ChunkRows` gives training the samples of some of the chunks.
"""

from __future__ import annotations

import itertools
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sklearn.utils.validation import _num_samples

from ..contribution import Contribution, merge
from ..dask_collections import is_remote
from ..exceptions import noted
from ..parameters import Parameters
from ..typing import Array, T
from .arrays import ArrayRows, n_batches
from .batch import CALLABLE, CHUNKS, Batch, generator
from .parts import Arrangement, Kind, PartRows, Survey, Surveyed, where_in
from .rows import BatchedRows, BatchObjective, note_if_short
from .weights import Extent

FORMS = (
    "a list of chunks or of functions that load one, a generator function, or another object that can be iterated "
    "over repeatedly"
)


class Chunk(NamedTuple):
    """A chunk, as the arguments of `fit`."""

    X: Any
    y: Any = None
    sample_weight: Any = None
    metadata: Any = MappingProxyType({})

    @property
    def n(self) -> int | None:
        """Number of rows of X; None if X is not array-like, for which validation raises an error later."""
        try:
            n: int = _num_samples(self.X)
            return n
        except TypeError:
            return None

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows."""
        return self.n == 0


class Source:
    """The user's chunks, numbered from 0: items of a sequence, or of a new iteration in each pass.

    Parameters
    ----------
    chunks : sequence, iterable or callable
        See `fit_chunks`.

    Raises
    ------
    TypeError
        If ``chunks`` is of another kind, or can be iterated over only once.
    """

    def __init__(self, chunks: Any) -> None:
        self._chunks = chunks
        if isinstance(chunks, str | bytes | Mapping) or hasattr(chunks, "shape"):
            raise TypeError(
                f"chunks is a single {type(chunks).__name__}; expected {FORMS}. Pass a single chunk as [(X, y)]."
            )
        self.is_sequence = all(hasattr(type(chunks), name) for name in ("__len__", "__getitem__"))
        if not self.is_sequence and not hasattr(chunks, "__iter__") and not callable(chunks):
            raise TypeError(f"chunks is {chunks!r}; expected {FORMS}.")
        if hasattr(chunks, "__next__"):
            raise TypeError(
                f"chunks is a {type(chunks).__name__}, which can be iterated over only once, but every epoch reads all "
                "chunks. Pass the generator function itself, without calling it, or a list of functions that load one."
            )
        self._iterator: Any = None
        self._position = 0
        self._n: Any = len(chunks) if self.is_sequence else None  # of chunks; of an iteration, when it has ended once

    def chunk(self, number: int) -> Chunk | None:
        """Return a chunk, or None if there are no more."""
        with noted(where_in(number)):
            item = self._indexed(number) if self.is_sequence else self._iterated(number)
            if item is _NONE_LEFT:
                return None
            if is_remote(item):
                raise TypeError(
                    "Delayed chunks are processed on a cluster. Pass them in a list, not by a function or an iterator."
                )
            return as_chunk(item() if callable(item) else item)

    def map(self, function: Callable[[Chunk], T]) -> dict[int, T]:
        """Apply a function to each chunk with samples in a separate pass; return the results by chunk number."""
        said: dict[int, T] = {}
        for number in self.numbers():
            self._note(said, function, number)
        return said

    def _note(self, said: dict[int, T], function: Callable[[Chunk], T], number: int) -> None:
        chunk = self.chunk(number)
        if chunk is not None and not chunk.is_empty:
            with noted(where_in(number)):
                said[number] = function(chunk)

    def survey(self, read: Any) -> Chunks:
        """Read all chunks once; see `Chunks`."""
        return Chunks(self, read)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the chunks; in a first iteration one too many, because its end is not known before."""
        for number in itertools.count():
            if self._n is not None and number >= self._n:
                return
            yield number

    def _indexed(self, number: int) -> Any:
        return self._chunks[number] if number < self._n else _NONE_LEFT

    def _iterated(self, number: int) -> Any:
        if self._iterator is None or self._position > number:
            self._begin()
        for _ in range(number - self._position):
            self._next()
        item = self._next()
        if item is _NONE_LEFT and self._n is None:
            self._n = number
        return item

    def _next(self) -> Any:
        self._position += 1
        return next(self._iterator, _NONE_LEFT)

    def _begin(self) -> None:
        if self._position == self._n and self._next() is not _NONE_LEFT:
            raise ValueError(
                f"chunks has more than the {self._n} chunks of the first pass. Return the same in every pass."
            )
        close = getattr(self._iterator, "close", None)
        if close is not None:  # a generator that was not gone through to its end may hold a file
            close()
        self._iterator, self._position = None, 0
        iterable = self._chunks if hasattr(self._chunks, "__iter__") else self._chunks()
        if not hasattr(iterable, "__iter__"):
            raise TypeError(
                f"chunks is a function that returned {iterable!r}, which is not iterable. A generator function must "
                "yield chunks; pass a function that loads one chunk in a list, [load]."
            )
        self._iterator = iter(iterable)


_NONE_LEFT = object()


def as_chunk(item: Any) -> Chunk:
    """Return what was given as a chunk: X alone, a tuple, or the arguments of `fit` by name."""
    if isinstance(item, Mapping):
        if "X" not in item:
            raise TypeError(f"A chunk given as a dict must have the arguments of fit, including X; got {list(item)}.")
        named = {name: item[name] for name in _ARGUMENTS if name in item}
        return Chunk(**named, metadata={name: item[name] for name in item if name not in named})
    if isinstance(item, tuple):
        if not 1 <= len(item) <= len(_ARGUMENTS):
            raise TypeError(f"{_WHAT_A_CHUNK_IS}; got a tuple of {len(item)}.")
        return Chunk(*item)
    if isinstance(item, list) and any(getattr(part, "ndim", 0) > 1 for part in item):
        raise TypeError(f"{_WHAT_A_CHUNK_IS}; got a list of arrays. Pass a tuple.")
    chunk = Chunk(item)
    if chunk.n is None:
        raise TypeError(f"{_WHAT_A_CHUNK_IS}; got {item!r}.")
    return chunk


_ARGUMENTS = ("X", "y", "sample_weight")
_WHAT_A_CHUNK_IS = "A chunk is X, (X, y), (X, y, sample_weight) or a dict"


class Chunks(Surveyed):
    """The chunks of a fit. The one read last is held in memory; each is validated whenever it is read.

    Parameters
    ----------
    source : Source
    read : callable
        ``read(X, y, sample_weight, metadata, reset=)`` returns the validated X, columns and weights or None;
        ``reset`` for the first chunk. ``read.total(columns, weights)`` raises if y cannot be used, and returns its sum.
    """

    def __init__(self, source: Source, read: Any) -> None:
        self.source, self._read = source, read
        self.surveys = {}
        self._without_rows: list[int] = []
        # What is held at the moment, if anything: the number of a chunk, its arrays, and its rows under some settings.
        self._number: Any
        self._arrays: Any
        self._rows: Any
        self._arrangement: Any
        for number in source.numbers():
            self._drop()
            self._survey_one(number)
        if not self.surveys:
            raise ValueError("chunks has no samples.")
        with_rows = list(self.surveys)
        self._read_together = {number: [number] for number in with_rows}
        for number in self._without_rows:  # with the next that has rows, or with the last
            self._read_together[with_rows[min(bisect_right(with_rows, number), len(with_rows) - 1)]].append(number)

    def _survey_one(self, number: int) -> None:
        chunk = self.source.chunk(number)
        if chunk is None:
            return
        if chunk.is_empty:
            self._without_rows.append(number)
            return
        with noted(where_read(number, chunk)):
            arrays = self._read(*chunk, reset=not self.surveys)
            X, columns, weights = arrays
            survey = Survey.of(X, columns, weights, self._read.total(columns, weights))
            self._require_alike(survey.kind)
        self.surveys[number] = survey
        self._number, self._arrays = number, arrays

    def arrays(self, number: int) -> Any:
        if number != self._number:
            self._drop()  # before the next is read: so no two are held at a time
            self._arrays = self._load(number)
            self._number = number
        return self._arrays

    def _load(self, number: int) -> Any:
        """Read a chunk again, and the empty chunks read together with it, which must still be empty."""
        chunks = {other: self._again(other) for other in sorted(self._read_together[number])}
        with noted(where_read(number, chunks[number])):
            arrays = self._read(*chunks[number], reset=False)
            self._require_alike(Kind.of(*arrays))
        return arrays

    def _again(self, number: int) -> Chunk:
        chunk = self.source.chunk(number)
        n = self.surveys[number].extent.n if number in self.surveys else 0
        if chunk is None:
            raise ValueError(
                f"Chunk {number} (counted from 0) is missing; it existed in the first pass. The same chunks must come "
                "in every pass, so a function must return a new iterator in each call."
            )
        with noted(where_read(number, chunk)):
            if chunk.n != n:
                raise ValueError(
                    f"The chunk has {chunk.n} samples; it had {n} when it was first read. It must hold the same "
                    "samples in every pass."
                )
        return chunk

    def _drop(self) -> None:
        self._number = self._arrays = self._rows = self._arrangement = None

    def _require_alike(self, kind: Kind) -> None:
        if self.surveys:
            kind.require_like(next(iter(self.surveys.values())).kind)

    def rows(self, numbers: Sequence[int], **settings: Any) -> ChunkRows:
        return ChunkRows(self, numbers, Arrangement(**settings))

    def arranged(self, number: int, arrangement: Arrangement) -> ArrayRows:
        """Return the rows of a chunk, ready for steps."""
        if number != self._number or arrangement is not self._arrangement:
            X, columns, weight = self.arrays(number)
            self._arrangement = arrangement
            self._rows = arrangement.arrange(number, X, columns, weight)
        rows: ArrayRows = self._rows
        return rows


def where_read(number: int, chunk: Any) -> str:
    """Return a note on the chunk and how it was read."""
    where = where_in(number)
    if chunk.y is None and chunk.sample_weight is None and not chunk.metadata:
        where += " It was read as X alone. To pass targets, use a tuple (X, y)."
    return where


class ChunkRows(PartRows, BatchedRows):
    """Rows of chunks that are read one after the other; a batch lies within a chunk.

    Parameters
    ----------
    chunks : Chunks
    numbers : list of int
        Which of them.
    arrangement : Arrangement
        Of each of them. Without a batch size a batch has all rows of the largest. With ``shuffle`` each epoch also
        draws the order of the chunks, if they are a sequence; with ``drop_last`` it leaves out chunks that have fewer
        rows than a batch.
    """

    def __init__(self, chunks: Chunks, numbers: Sequence[int], arrangement: Arrangement) -> None:
        super().__init__(chunks, numbers, arrangement)
        largest = max(extent.n for extent in self._extents)
        self.batch_size = self._n_of_a_step = min(arrangement.batch_size or largest, largest)
        if arrangement.drop_last:
            self._choose(_of_a_batch(dict(zip(numbers, self._extents, strict=True)), self.batch_size))
        self._chunks, self._arrangement = chunks, arrangement._replace(batch_size=self.batch_size)
        self._steps = [n_batches(extent.n, self.batch_size, arrangement.drop_last) for extent in self._extents]
        self.steps_per_epoch = sum(self._steps)
        self.shuffle = arrangement.shuffle and self.steps_per_epoch > 1
        self._planned: int | None = None  # epoch

    def contribution(self, objective: BatchObjective, theta: Parameters, epoch: int, step: int) -> Contribution:
        """Return the objective's contribution of one batch."""
        batch = self.batch(epoch, step)
        try:
            return objective.contribution(theta, batch)
        except Exception as error:
            note_if_short(error, self, epoch, step)
            error.add_note(where_in(self._place(step)[0]))
            raise

    def n_of(self, epoch: int, step: int) -> int:
        """Return the number of samples in a step."""
        rows, own_step = self.in_memory(epoch, step)
        return rows.n_of(epoch, own_step)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the samples of a step; valid until the next call."""
        rows, own_step = self.in_memory(epoch, step)
        batch = rows.batch(epoch, own_step)
        batch.position = (self.seed, CALLABLE, epoch, step)
        return batch

    def in_memory(self, epoch: int, step: int) -> tuple[ArrayRows, int]:
        """Return the rows of the chunk that a step comes from, and which of the chunk's own steps it is."""
        if epoch != self._planned:
            self._plan(epoch)
        number, own_step = self._place(step)
        return self._rows(number), own_step

    def total(self, objective: BatchObjective, theta: Parameters) -> Contribution:
        """Return the objective's contribution of all samples, summed over the batches of all chunks."""
        parts = (self._applied(lambda rows: rows.total(objective, theta), number) for number in self._numbers)
        return merge(parts)

    def _plan(self, epoch: int) -> None:
        """Draw the order of the chunks in an epoch, and count where the steps of each begin."""
        order: Any = range(len(self._numbers))
        if self.shuffle and self._chunks.source.is_sequence:
            order = generator(self.seed, CHUNKS, epoch).permutation(len(order))
        self._order = [self._numbers[index] for index in order]
        self._starts = [0, *itertools.accumulate(self._steps[index] for index in order)]
        self._planned = epoch

    def _place(self, step: int) -> tuple[int, int]:
        """The number of the chunk of a step, and which of the chunk's own steps it is."""
        index = bisect_right(self._starts, step) - 1
        return self._order[index], step - self._starts[index]

    def _rows(self, number: int) -> ArrayRows:
        return self._chunks.arranged(number, self._arrangement)

    def map(self, function: Callable[[Batch], T]) -> list[T]:
        """Apply a function to all chunks; return the list of results."""
        return [self._applied(lambda rows: function(rows.everything), number) for number in self._numbers]

    def _applied(self, function: Callable[[ArrayRows], T], number: int) -> T:
        with noted(where_in(number)):
            return function(self._rows(number))

    def _taken(self, drawn: Mapping[int, Array]) -> list[Any]:
        return [self._rows(number).take_eligible(rows) for number, rows in drawn.items()]


def _of_a_batch(extents: Mapping[int, Extent], batch_size: int) -> Sequence[int]:
    """Return the chunks that have rows for a batch; warn of those that are left out in every epoch."""
    too_small = [number for number, extent in extents.items() if extent.n < batch_size]
    if too_small:
        listed = ", ".join(map(str, too_small[:5])) + (", ..." if len(too_small) > 5 else "")
        warnings.warn(
            f"drop_last=True leaves out {len(too_small)} of {len(extents)} chunks in every epoch, because they have "
            f"fewer samples than batch_size={batch_size}: number {listed} (counted from 0). Make the chunks larger or "
            "batch_size smaller.",
            UserWarning,
            stacklevel=10,
        )
    return [number for number in extents if number not in too_small]
