"""Steps on a θ whose blocks lie each in memory of their own: tensors of another library, say.

Nothing is copied into one vector. θ, the gradient, what flows and the slots are lists with one array for each block,
and a job is a run of neighboring blocks. `BlockState` is the state of such a θ. Its engine is either `ViewEngine`,
whose kernels are those of every other step, or `ReplayEngine`, which makes the recorded calls by the functions of
another library.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from ...typing import Array
from ..state import State
from .links import Fused, total
from .numba_kernel import engine_for
from .numpy_kernel import NumpyEngine
from .trace import Operations, trace

SHARED = 1 << 17
"""Entries for each thread at least: handing some to another takes as long as a few thousand of them."""


class BlockEngine:
    """Kernels over a list of blocks.

    Parameters
    ----------
    n_blocks : int
    """

    seconds = math.nan  # which is not within any limit: a step is never written down, since θ is not one array

    def __init__(self, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self._kernels: dict[Any, Any] = {}
        self._flow: list[Any] = [None] * n_blocks

    def kernel(self, fused: Fused, counts: tuple[int, ...]) -> Any:
        """Return the kernel of fused links, of which each takes so many coefficients."""
        key = tuple(link.index for link in fused.links), fused.key, counts
        if key not in self._kernels:
            arrays = [self._flow] if fused.uses_flow else []
            self._kernels[key] = self._make(fused, counts, arrays + [s for link in fused.links for s in link.arrays()])
        return self._kernels[key]

    def _make(self, fused: Fused, counts: tuple[int, ...], arrays: list[Any]) -> Any:
        raise NotImplementedError

    def new_slot(self, block: int, start: Any) -> Any:
        """Return the part of a slot that belongs to a block, filled with a number or with the block of θ."""
        raise NotImplementedError


class BlockState(State):
    """State over a list of blocks, of which each is one entry of θ as the programs count.

    Parameters
    ----------
    names : iterable of str
    engine : BlockEngine
    dtype : dtype, default=float64
        That in which formulas are traced.
    """

    def __init__(self, names: Iterable[str], engine: BlockEngine, dtype: DTypeLike = np.float64) -> None:
        names = tuple(names)
        super().__init__(names, [slice(i, i + 1) for i in range(len(names))], len(names), dtype)
        self._engine = engine

    def new_slot(self, start: Any, theta: Any) -> Any:
        """Return a list of arrays, filled with a number or with the blocks of θ."""
        starts = start if isinstance(start, list) else [start] * self.size
        return [self._engine.new_slot(block, value) for block, value in enumerate(starts)]

    def require_writable(self) -> None:
        """Do nothing: whoever made the blocks knows that they are."""


class _BlockKernel:
    """What all kernels over blocks have in common."""

    limit = math.inf
    measures: bool
    norms: bool

    def run(
        self, g: Sequence[Any], theta: list[Any], start: int, stop: int, coefficients: Sequence[Any]
    ) -> list[float]:
        """Run over the blocks from start to stop; return the sums of what was measured."""
        sums = [self._run_block(block, g[block], theta, coefficients) for block in range(start, stop)]
        return [total(column, self.norms) for column in zip(*sums, strict=True)] if self.measures else []

    def _run_block(self, block: int, g: Any, theta: list[Any], coefficients: Sequence[Any]) -> list[Any]:
        raise NotImplementedError


class ViewEngine(BlockEngine):
    """The engine of a list of vectors in NumPy's reach, which are written in place.

    Parameters
    ----------
    sizes : sequence of int
        Entries of each block.
    dtype : dtype
        Of all blocks.
    n_threads : int, default=1
        How many threads share a large block, once its kernels are compiled.
    """

    def __init__(self, sizes: Sequence[int], dtype: DTypeLike, n_threads: int = 1) -> None:
        super().__init__(len(sizes))
        self.sizes, self.dtype, self._n_threads = sizes, np.dtype(dtype), n_threads
        self._engine = engine_for(max(sizes), self.dtype)

    def _make(self, fused: Fused, counts: tuple[int, ...], arrays: list[Any]) -> Any:
        if fused.uses_flow:
            for block, size in enumerate(self.sizes):
                if self._flow[block] is None:
                    self._flow[block] = np.empty(size, self.dtype)
        return _ViewKernel(self._engine, fused, counts, arrays, self.sizes, self._n_threads)

    def new_slot(self, block: int, start: Any) -> Array:
        """Return a vector of the block's size."""
        return np.full(self.sizes[block], start, self.dtype)


class _ViewKernel(_BlockKernel):
    def __init__(
        self,
        engine: NumpyEngine,
        fused: Fused,
        counts: tuple[int, ...],
        arrays: list[Any],
        sizes: Sequence[int],
        n_threads: int,
    ) -> None:
        self.measures, self.norms, self._n_threads = fused.measures, fused.norms, n_threads
        self._make: Callable[[int], Any] = lambda block: engine.kernel_over(
            [array[block] for array in arrays], fused, counts, sizes[block]
        )
        self._of_blocks: dict[int, Any] = {}

    def _run_block(self, block: int, g: Any, theta: list[Any], coefficients: Sequence[Any]) -> list[float]:
        kernel = self._of_blocks.get(block)
        if kernel is None:
            kernel = self._of_blocks[block] = self._make(block)
        entries = theta[block]
        n_threads = min(self._n_threads, entries.size // SHARED)
        if n_threads > 1 and kernel.converts and not self.measures and g.flags.carray:
            _run_in_threads(n_threads, kernel, g, entries, coefficients)
            return []
        sums: list[float] = kernel.run(g, entries, 0, entries.size, coefficients)
        return sums


def _run_in_threads(n_threads: int, kernel: Any, g: Any, theta: Any, coefficients: Sequence[Any]) -> None:
    """Run a compiled kernel, which holds no lock and measures nothing, over equal parts of a block at a time."""
    kernel.write(kernel.coefficients, 0, *coefficients)
    ends = [theta.size * part // n_threads for part in range(n_threads + 1)]
    calls = [kernel.launch(theta, start, stop) for start, stop in itertools.pairwise(ends)]
    *others, (function, arguments) = calls
    pool = _pool(os.getpid(), n_threads - 1)
    running = [pool.submit(other, g, theta, *its) for other, its in others]
    function(g, theta, *arguments)
    for part in running:
        part.result()


@functools.lru_cache(1)
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Return the threads beside the one that calls; a forked process needs its own."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="sk_analytic")


class Library(Protocol):
    """What a replay needs of another library."""

    def call(self, function: Any, inputs: Sequence[Any], like: Any) -> Any:
        """Make one recorded call, on arrays and coefficients of the dtype of ``like``."""

    def coefficient(self, number: Any, like: Any) -> Any:
        """Return a coefficient in the dtype of an array."""

    def measured(self, values: Any, norms: bool) -> Any:
        """Return the sum, or the Euclidean norm, of some values as a number."""

    def full_like(self, array: Any, start: Any) -> Any:
        """Return a new array, filled with a number or with the values of another array."""


class ReplayEngine(BlockEngine):
    """The engine that makes the recorded calls by the functions of another library, into new arrays.

    Parameters
    ----------
    library : Library
    theta : list of array
        The blocks of θ, or arrays like them.
    """

    def __init__(self, library: Library, theta: Sequence[Any]) -> None:
        super().__init__(len(theta))
        self._library, self._theta = library, theta

    def _make(self, fused: Fused, counts: tuple[int, ...], arrays: list[Any]) -> Any:
        return _ReplayKernel(self._library, trace(fused, counts, np.dtype(np.float64)), arrays)

    def new_slot(self, block: int, start: Any) -> Any:
        """Return an array like the block."""
        return self._library.full_like(self._theta[block], start)


class _ReplayKernel(_BlockKernel):
    def __init__(self, library: Library, operations: Operations, arrays: list[Any]) -> None:
        self.measures, self.norms = bool(operations.sums), operations.norms
        self._library, self._operations = library, operations
        self._arrays = dict(zip(operations.arrays, arrays, strict=True))

    def _run_block(self, block: int, g: Any, theta: list[Any], coefficients: Sequence[Any]) -> list[Any]:
        like, lists = theta[block], {"theta": theta, **self._arrays}
        values = {name: blocks[block] for name, blocks in lists.items()}
        numbers = (self._library.coefficient(number, like) for number in coefficients)
        values |= {"g": g, **dict(zip(self._operations.coefficients, numbers, strict=True))}
        for call in self._operations.calls:
            values[call.result] = self._library.call(call.function, [values[name] for name in call.inputs], like)
        for result, to in self._operations.bound.items():
            lists[to][block] = values[result]
        return [self._library.measured(values[name], self.norms) for name in self._operations.sums]
