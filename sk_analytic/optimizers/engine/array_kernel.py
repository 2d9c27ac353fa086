"""Kernels of other namespaces: recorded operations run one after the other on whole arrays, where these are.

Nothing is written down or compiled: NumPy's functions run those of the array's namespace (see `elsewhere`). A step
takes some microseconds more for each operation than a NumPy kernel, which large arrays, and those on a GPU, do not
notice.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ...elsewhere import Elsewhere, norm
from .numba_kernel import is_asked_for
from .numpy_kernel import Kernel, NumpyEngine
from .trace import Operations, trace


class ArrayKernel(Kernel):
    """Fused links, run operation by operation."""

    def __init__(self, operations: Operations, arrays: list[Any]) -> None:
        self.operations, self.arrays, self.coefficients = operations, arrays, None  # type: ignore[assignment]
        self.write = self._take_numbers

    def _take_numbers(self, coefficients: Any, offset: int, *numbers: float) -> None:
        self._numbers = numbers

    def launch(self, theta: Any, start: int, stop: int) -> tuple[Any, list[Any]]:
        """Return what runs over the entries from start to stop: a function, and its argument after g and θ."""
        return self._over, [slice(start, stop)]

    def _over(self, g: Any, theta: Any, where: slice) -> list[float]:
        operations = self.operations
        arrays = {"theta": theta[where], **{n: a[where] for n, a in zip(operations.arrays, self.arrays, strict=True)}}
        values = {"g": g[where], **arrays, **dict(zip(operations.coefficients, self._numbers, strict=True))}
        for call in operations.calls:
            values[call.result] = call.function(*(values[name] for name in call.inputs))
        measure = norm if operations.norms else Elsewhere.sum
        sums = [measure(values[name]) for name in operations.sums]
        for name, to in operations.bound.items():
            arrays[to][...] = values[name]
        return sums


class ArrayEngine(NumpyEngine):
    """Kernels over one θ of another namespace."""

    def __init__(self, theta: Any) -> None:
        super().__init__(theta.size, theta.dtype)
        self._theta = theta

    def _make(self, fused: Any, counts: tuple[int, ...]) -> ArrayKernel:
        arrays = [slot for link in fused.links for slot in link.arrays()]
        if fused.uses_flow:
            arrays.insert(0, self._flow_array())
        return ArrayKernel(trace(fused, counts, self.dtype), arrays)

    def _flow_array(self) -> Any:
        if self._flow is None:
            self._flow = np.empty_like(self._theta)
        return self._flow


def array_engine_for(theta: Any) -> ArrayEngine:
    """Return the engine for a θ of another namespace; say so if numba was asked for."""
    if is_asked_for():
        warnings.warn(
            "The numba engine runs on NumPy arrays only: the rules of this fit run in the namespace of X. To use it, "
            "pass X = np.asarray(X).",
            UserWarning,
            stacklevel=2,
        )
    return ArrayEngine(theta)
