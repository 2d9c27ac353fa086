"""Arrays that share memory: which of them have an entry in common.

The time is that of sorting the arrays by where they lie. Entries are compared only where arrays are interleaved, as the
columns of a matrix are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .typing import Array


def shared_by(leaves: Iterable[Any]) -> tuple[int, int] | None:
    """Return the positions of two leaves that have memory in common, or None.

    Parameters
    ----------
    leaves : iterable of object
        What is not an array, and an array of another library that cannot be written to, has no memory that could be
        shared. The same holds for a read-only array whose entries repeat each other, such as a broadcast number.

    Returns
    -------
    positions : tuple of int or None
        Of two leaves; twice the same position if a leaf has an entry twice.
    """
    arrays = {position: array for position, leaf in enumerate(leaves) if (array := _memory(leaf)) is not None}
    spans = sorted((*_span(array), position) for position, array in arrays.items())
    for start, end, position in spans:
        if arrays[position].nbytes > end - start:
            return position, position
    for group in _interleaved(spans):
        pair = _with_common_entry([arrays[position] for position in group])
        if pair is not None:
            return tuple(sorted(group[index] for index in pair))  # type: ignore[return-value]
    return None


def overlaps_itself(array: Array) -> bool:
    """Whether an array has fewer entries in memory than its shape says."""
    start, end = _span(array)
    return array.nbytes > end - start


def _memory(leaf: Any) -> Array | None:
    """The array whose memory a leaf holds, if another leaf can share it."""
    if type(leaf) is np.ndarray:
        array = leaf
    elif not hasattr(leaf, "shape") or isinstance(leaf, np.generic):
        return None
    else:
        array = np.asarray(leaf)
        if not isinstance(leaf, np.ndarray) and not array.flags.writeable:
            return None
    if not array.size or (not array.flags.writeable and overlaps_itself(array)):
        return None
    return array


def _span(array: Array) -> tuple[int, int]:
    """Where the memory of an array begins and ends."""
    start: int = array.__array_interface__["data"][0]
    if array.flags.forc:
        return start, start + array.nbytes
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)]
    return start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0) + array.itemsize


def _interleaved(spans: Sequence[tuple[int, int, int]]) -> Iterator[list[int]]:
    """Yield the groups of positions, each of two at least, whose spans reach into each other."""
    group: list[int] = []
    reached = 0
    for start, end, position in spans:
        if start >= reached:
            if len(group) > 1:
                yield group
            group = []
        group.append(position)
        reached = max(reached, end)
    if len(group) > 1:
        yield group


def _with_common_entry(arrays: Sequence[Array]) -> tuple[int, int] | None:
    """Return the indices of two arrays of which an entry lies in the same place, or None."""
    places = np.concatenate([_places(array) for array in arrays])
    owner = np.repeat(np.arange(len(arrays)), [array.size for array in arrays])
    order = np.argsort(places, kind="stable")
    places, owner = places[order], owner[order]
    sizes = np.array([array.itemsize for array in arrays])
    common = np.flatnonzero(np.diff(places) < sizes[owner[:-1]])
    return (int(owner[common[0]]), int(owner[common[0] + 1])) if common.size else None


def _places(array: Array) -> Array:
    """Where each entry of an array begins."""
    places = np.array(array.__array_interface__["data"][0])
    for n, step in zip(array.shape, array.strides, strict=True):
        places = np.add.outer(places, np.arange(n) * step)
    return places.reshape(-1)
