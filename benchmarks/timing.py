"""Two callables timed in turns: ABBA, each sample long enough for the clock, garbage collection off.

The clock is the processor time of this process, all of its threads together: on an idle machine that is what
a wall clock shows for work on one thread, and on a busy one it leaves out the turns of others.
"""

import gc
import math
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np

SAMPLE = 0.004  # seconds that a sample lasts at least: cheap calls are repeated within it
FEWEST = 3  # rounds, however long they take
MOST_CALLS = 20_000


class Quartiles(NamedTuple):
    """Median of some samples, and the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, samples):
        """Return the quartiles of an array."""
        return cls(*(float(q) for q in np.percentile(samples, (25, 50, 75))))


class Pair(NamedTuple):
    """What a comparison gave: seconds a call of each side, and the ratio round by round."""

    ours: float
    peer: float
    ratio: Quartiles


@contextmanager
def no_garbage_collection():
    """Collect what there is, then not again until the end."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def compare(ours, peer, *, repetitions, limit=30.0, sample=SAMPLE, clock=process_time):
    """Time two callables in turns.

    Parameters
    ----------
    ours, peer : callable
        Without arguments. Each has run once before, or is run here: what it does the first time does not count.
    repetitions : int
        Rounds.
    limit : float, default=30.0
        Seconds after which no new round begins once there are `FEWEST`.
    sample : float, default=SAMPLE
        Seconds that a sample lasts at least.
    clock : callable, default=process_time
        `perf_counter` where other processes do the work.

    Returns
    -------
    pair : Pair
        ``ratio`` is ours over the peer's, the median over rounds.
    """
    sides = [(side, _calls(side, sample, clock), clock) for side in (ours, peer)]
    seconds = [[], []]
    with no_garbage_collection():
        begun = perf_counter()
        for number in range(repetitions):
            for index in (0, 1) if number % 2 == 0 else (1, 0):
                seconds[index].append(_time(*sides[index]))
            if number + 1 >= FEWEST and perf_counter() - begun > limit:
                break
    ours_seconds, peer_seconds = map(np.array, seconds)
    return Pair(
        float(np.median(ours_seconds)), float(np.median(peer_seconds)), Quartiles.of(ours_seconds / peer_seconds)
    )


def per_call(function, *, repetitions=15, sample=SAMPLE):
    """Return the quartiles of the seconds that a call takes."""
    calls = _calls(function, sample, process_time)
    with no_garbage_collection():
        return Quartiles.of([_time(function, calls, process_time) for _ in range(repetitions)])


def _calls(function, sample, clock):
    """How many calls make a sample; the first call only warms up, and tells whether one is more than enough."""
    if _time(function, 1, clock) > 20 * sample:
        return 1
    calls, each = 1, _time(function, 1, clock)
    while calls * each < sample and calls < MOST_CALLS:
        calls = min(MOST_CALLS, max(2 * calls, math.ceil(sample / max(each, 1e-7))))
        each = _time(function, calls, clock)
    return calls


def _time(function, calls, clock):
    """Seconds a call."""
    if calls == 1:
        start = clock()
        function()
        return clock() - start
    turns = range(calls)
    start = clock()
    for _ in turns:
        function()
    return (clock() - start) / calls
