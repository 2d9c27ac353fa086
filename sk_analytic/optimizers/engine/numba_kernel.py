"""Kernels of numba: recorded operations as one compiled loop over the entries.

The loop is a module of its own, which lies in a cache folder under the hash of its text. So what numba keeps
on disk belongs to what the formulas do: an edited formula is another text, and a new process loads what an
earlier one compiled. The text is compared before it is run. Compiling takes longer than many a fit, so a
kernel is compiled only when the work done by NumPy would have paid for it. Both engines round alike, to the
bit, so that nobody sees the change but by the clock.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import importlib.util
import math
import os
import pathlib
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from ...typing import Array, DType
from .links import total
from .numpy_kernel import PIECE, Kernel, NumpyEngine, norm_of, pieces_of, sum_of
from .trace import Call, Operations, copied, where

ENGINES = ("auto", "numpy", "numba")

SECONDS_A_CALL = 4e-7
SECONDS_AN_ENTRY = 3e-10
"""What NumPy needs for one elementwise call, roughly: the work is counted, not timed, so that it is repeatable."""
SECONDS_TO_COMPILE = 1.2
SECONDS_TO_LOAD = 0.4

# What each call is in a loop over entries. NumPy's maximum and minimum pass on what is not a number.
EXPRESSIONS = {
    np.add: "{} + {}",
    np.subtract: "{} - {}",
    np.multiply: "{} * {}",
    np.divide: "{} / {}",
    np.negative: "-{}",
    np.positive: "{}",
    np.square: "{0} * {0}",
    np.sqrt: "sqrt({})",
    np.absolute: "abs({})",
    np.sign: "(one if {0} > zero else (-one if {0} < zero else (zero if {0} == zero else {0})))",
    np.maximum: "({0} if {0} >= {1} or {0} != {0} else {1})",
    np.minimum: "({0} if {0} <= {1} or {0} != {0} else {1})",
    np.greater: "{} > {}",
    np.greater_equal: "{} >= {}",
    np.less: "{} < {}",
    np.less_equal: "{} <= {}",
    np.equal: "{} == {}",
    np.not_equal: "{} != {}",
    np.logical_and: "({} and {})",
    np.logical_or: "({} or {})",
    np.logical_not: "(not {})",
    where: "({1} if {0} else {2})",
    copied: "{}",
}

VARIABLE = "SK_ANALYTIC_ENGINE"
"""Of the environment: the engine where `use_engine` chose none, in threads and other processes too."""

_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("engine", default=None)
_failures: list[str] = []  # why numba is not used any more in this process
_folders: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends
_loaded: dict[str, Callable[..., Any]] = {}  # functions by the hash of their text: code, not scratch


@contextlib.contextmanager
def use_engine(name: str) -> Iterator[None]:
    """Context manager that chooses the engine for optimizer states created inside it.

    Parameters
    ----------
    name : {"auto", "numpy", "numba"}
        "auto" starts with NumPy and switches to numba, if installed, when compilation has become worthwhile.
        "numba" compiles immediately.

    Yields
    ------
    None
        The choice applies until the end of the ``with`` block.

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If numba is requested but not installed.

    Notes
    -----
    The choice applies to the current thread. The environment variable ``SK_ANALYTIC_ENGINE`` sets the engine for all
    threads and processes, outside such a block. If numba fails for any reason, NumPy takes over, with the same results
    and one warning per process.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_analytic.optimizers import Adam, use_engine
    >>> theta, optimizer = np.ones(3), Adam(learning_rate=0.5)
    >>> with use_engine("numpy"):
    ...     state = optimizer.init(theta)
    >>> optimizer.update(state, theta, np.ones(3))
    >>> theta.round(6)
    array([0.5, 0.5, 0.5])
    """
    _require(name)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def _require(name: str, where: str = "") -> None:
    if name not in ENGINES:
        raise ValueError(f"Unknown engine {name!r}{where}. There are: {', '.join(map(repr, ENGINES))}.")
    if name == "numba" and not is_installed():
        raise ImportError(
            "The engine 'numba' requires numba, which is not installed: pip install numba, or in a clone "
            'pip install -e ".[numba]".'
        )


def is_asked_for() -> bool:
    """Whether numba was chosen by name."""
    return (_chosen.get() or os.environ.get(VARIABLE)) == "numba"


@functools.cache
def is_installed() -> bool:
    """Whether numba can be imported; it is not imported for that."""
    return "numba" in sys.modules or importlib.util.find_spec("numba") is not None


def write_loop(operations: Operations) -> str | None:
    """Write operations down as a module with a compiled loop, ``kernel``; None if `loop_lines` has none."""
    lines = loop_lines(operations, "kernel")
    return None if lines is None else "\n".join([*preamble(operations.dtype), COMPILED, *lines, ""])


def loop_lines(operations: Operations, function: str) -> list[str] | None:
    """Write operations down as a function with a loop over entries.

    Parameters
    ----------
    operations : Operations
    function : str
        Its name.

    Returns
    -------
    lines : list of str or None
        Of ``function(g, theta, *arrays, *measured, c, start, stop)``; None for a call that has no expression here.
    """
    calls, sums, used = operations.calls, operations.sums, operations.used
    if any(call.function not in EXPRESSIONS for call in calls):
        return None
    arguments = ["g", "theta", *operations.arrays]
    measured = [f"m{i}" for i in range(len(sums))]
    values = {name: f"{name}_" for name in arguments}
    lines = [f"    {name} = c[{name[1:]}]" for name in operations.coefficients if name in used]
    # From 0, so that no index can be negative: numba's way round for those would keep LLVM from vectors.
    lines += [f"    {name} = {name}[start:stop]" for name in arguments if name in {*used, *operations.bound.values()}]
    lines.append("    for i in range(stop - start):")
    lines += [f"        {name}_ = {name}[i]" for name in arguments if name in used]
    for call in calls:
        inputs = [_as_number(values.get(name, name), name, call, operations.dtypes) for name in call.inputs]
        lines.append(f"        {call.result} = {EXPRESSIONS[call.function].format(*inputs)}")
    written = [*operations.bound.items(), *zip(sums, measured, strict=True)]
    lines += [f"        {to}[i] = {values.get(name, name)}" for name, to in written]
    return [f"def {function}({', '.join([*arguments, *measured, 'c', 'start', 'stop'])}):", *lines]


COMPILED = "@njit(cache=True, error_model='numpy', nogil=True)"


def preamble(dtype: DType) -> list[str]:
    """Return the first lines of a module for numba."""
    kind = f"numpy.{np.dtype(dtype).name}"
    return [
        f'"""One pass of an optimizer, for numba {version("numba")}."""',
        "import numpy",
        "from numba import njit",
        "from math import sqrt",
        f"one, zero = {kind}(1), {kind}(0)",
    ]


def _as_number(value: str, name: str, call: Call, dtypes: Mapping[str, DType]) -> str:
    """A truth value that is computed with becomes 1 or 0 of θ's dtype; numba would make it a float64."""
    is_truth = np.dtype(dtypes[name]).kind == "b"
    computes = call.function in {np.add, np.subtract, np.multiply, np.divide, copied}
    return f"(one if {value} else zero)" if is_truth and computes else value


def _key(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:24]


def cache_folder() -> pathlib.Path:
    """Return where compiled kernels are kept: numba's own folder if one is set, else the user's cache."""
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "sk_analytic"


def is_loaded(source: str) -> bool:
    """Whether a kernel was compiled or loaded in this process."""
    return _key(source) in _loaded


def _path(source: str) -> pathlib.Path:
    return cache_folder() / f"pass_{_key(source)}.py"


def is_cached(source: str) -> bool:
    """Whether a kernel was compiled by another process."""
    return _holds(_path(source), source)


def _holds(path: pathlib.Path, source: str) -> bool:
    try:
        return path.read_bytes() == source.encode()
    except OSError:
        return False


def load(source: str) -> Callable[..., Any]:
    """Return the compiled function of a module's text; it is compiled when first called, unless it is cached."""
    key = _key(source)
    if key not in _loaded:
        path = _written(_path(source), source)
        module = types.ModuleType(f"sk_analytic.optimizers._{path.stem}")
        module.__file__ = str(path)
        sys.modules[module.__name__] = module  # where numba looks for it when it loads what it compiled
        exec(compile(source, str(path), "exec"), vars(module))  # this text, whatever may lie there by now
        _loaded[key] = module.kernel
    return _loaded[key]


def _written(path: pathlib.Path, source: str) -> pathlib.Path:
    """Write a module where it is not yet; in a temporary folder where the cache cannot be written."""
    if _holds(path, source):  # its time stamp is part of numba's key
        return path
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(source.encode())
        os.replace(file.name, path)
        return path
    except OSError:
        _folders.append(tempfile.TemporaryDirectory(prefix="sk_analytic_"))
        path = pathlib.Path(_folders[-1].name) / path.name
        path.write_bytes(source.encode())
        return path


class TieredKernel(Kernel):
    """A kernel that begins with NumPy and is compiled when that would have paid.

    Compiled, what is measured is written down entry by entry and summed by NumPy, in the same pieces and the same
    order: so the sums are the same, to the bit. Sparse gradients stay with NumPy: few entries as a rule.

    Parameters
    ----------
    engine : TieredEngine
        Counts the work of all kernels over one θ.
    *made_of
        As for `Kernel`.
    """

    def __init__(self, engine: TieredEngine, *made_of: Any) -> None:
        super().__init__(*made_of)
        self._engine, self._compiled = engine, self._function
        self._compiled_launches: dict[Any, Any] = {}
        self.limit = SECONDS_TO_LOAD
        if engine.eager or _loaded:
            self._consider()

    def seconds(self, start: int, stop: int) -> float:
        """Return how long NumPy needs, by the rough count above."""
        return len(self.operations.calls) * (SECONDS_A_CALL + (stop - start) * SECONDS_AN_ENTRY)

    def run(self, g: Array, theta: Array, start: int, stop: int, coefficients: Sequence[float]) -> list[float]:
        """Run over the entries from start to stop; return the sums of what was measured."""
        if self.limit < math.inf:
            self._engine.seconds += self.seconds(start, stop)
            if self._engine.seconds > self.limit:
                self._consider()
        if self.converts and (g.dtype != theta.dtype or not g.flags.carray):
            g = np.array(g, theta.dtype, order="C")
        return super().run(g, theta, start, stop, coefficients)

    def launch(self, theta: Array, start: int, stop: int) -> tuple[Callable[..., Any], list[Any]]:
        """Return what runs over the entries from start to stop: a function, and its arguments after g and θ."""
        if not self.converts:
            return super().launch(theta, start, stop)
        key = start, stop, theta.flags.carray
        if key not in self._compiled_launches:
            sums = self._sums
            measure = norm_of if self.operations.norms else sum_of
            arguments = [*self.arrays, *sums, self.coefficients, start, stop]
            function = _entry(self._compiled, [theta, theta, *arguments])
            with_sums = self._summed, [function, arguments[:-2], sums, measure, start, stop]
            self._compiled_launches[key] = with_sums if sums else (function, arguments)
        found: tuple[Any, list[Any]] = self._compiled_launches[key]
        return found

    @cached_property
    def _sums(self) -> list[Array]:
        return [np.empty(PIECE, self.operations.dtype) for _ in self.operations.sums]

    def _summed(
        self,
        g: Array,
        theta: Array,
        function: Any,
        arguments: list[Any],
        sums: list[Array],
        measure: Callable[[Array], float],
        start: int,
        stop: int,
    ) -> list[float]:
        measured = []
        for piece in pieces_of(start, stop):
            function(g, theta, *arguments, piece.start, piece.stop)
            n = piece.stop - piece.start
            measured.append([measure(entries[:n]) for entries in sums])
        return [total(column, self.operations.norms) for column in zip(*measured, strict=True)]

    def _consider(self) -> None:
        """Go over to the compiled loop, or go on with NumPy: for good if there is none, or if numba fails."""
        self.limit = math.inf
        if _failures:
            return
        try:
            source = write_loop(self.operations)
            if source is not None:
                self._choose(source)
        except Exception as error:  # whatever is wrong with numba, its cache or the disk: NumPy gives the same numbers
            give_up(error)

    def _choose(self, source: str) -> None:
        engine = self._engine
        limit = SECONDS_TO_LOAD if is_cached(source) else SECONDS_TO_COMPILE
        if not (engine.eager or is_loaded(source) or engine.seconds > limit):
            self.limit = limit
            return
        compiled = load(source)
        like = np.empty(1, self.operations.dtype)
        n_arrays = 2 + len(self.arrays) + len(self.operations.sums)
        _entry(compiled, [*[like] * n_arrays, self.coefficients, 0, 1])  # what can fail fails here, not in a step
        self._compiled, self.converts = compiled, True


def give_up(error: Exception) -> None:
    """Leave the updates to NumPy from now on in this process; say so once."""
    _failures.append(f"{type(error).__name__}: {error}")
    _loaded.clear()
    warnings.warn(
        f"numba failed ({_failures[0]}). NumPy runs the updates from now on, more slowly but with the same results. "
        f"To disable numba, set the environment variable {VARIABLE}=numpy.",
        RuntimeWarning,
        stacklevel=2,
    )


def _entry(function: Any, arguments: list[Any]) -> Callable[..., Any]:
    """Return the machine code of a compiled function for such arguments: numba's choice among types is left out.

    It checks dtypes and dimensions of what it gets, but takes every array for contiguous, aligned and writable.
    """
    if not hasattr(function, "compile"):
        raise RuntimeError("its compiler is disabled by NUMBA_DISABLE_JIT")
    arrays = [value for value in arguments if isinstance(value, np.ndarray)]
    if not all(array.flags.carray for array in arrays):
        return function  # type: ignore[no-any-return]
    from numba import typeof

    signature = tuple(map(typeof, arguments))
    function.compile(signature)
    entry = getattr(function.overloads.get(signature), "entry_point", None)
    return function if entry is None else entry  # type: ignore[no-any-return]


class TieredEngine(NumpyEngine):
    """The engine where numba is installed: NumPy first, compiled kernels when they pay.

    Parameters
    ----------
    size : int
        Entries of θ.
    dtype : dtype
        Of θ.
    eager : bool, default=False
        Whether to compile at once.
    """

    def __init__(self, size: int, dtype: DType, eager: bool = False) -> None:
        super().__init__(size, dtype)
        self.eager = eager
        self.saved = 0.0  # seconds that compiled epochs would have saved

    def _kernel(self, *made_of: Any) -> Kernel:
        return TieredKernel(self, *made_of)


def engine_for(size: int, dtype: DType) -> NumpyEngine:
    """Return the engine that `use_engine` has chosen, for a θ of some size and dtype."""
    name = _chosen.get()
    if name is None:
        name = os.environ.get(VARIABLE) or "auto"
        _require(name, f", which the environment variable {VARIABLE} names")
    if name == "numpy" or _failures or not is_installed():
        return NumpyEngine(size, dtype)
    return TieredEngine(size, dtype, eager=name == "numba")


__all__ = ["use_engine"]
