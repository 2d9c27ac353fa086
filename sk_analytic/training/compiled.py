"""Epochs without the interpreter, if the user's gradient is a function of numba and so much work is left that it pays.

`CompiledLoop` is `Loop` as long as that does not pay, for the steps that are not as they should be, and for good if an
epoch cannot be compiled.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

from ..data.arrays import ArrayRows
from ..optimizers.base import Optimizer
from ..optimizers.engine.many_steps import NotCompiledError
from ..optimizers.engine.numba_kernel import SECONDS_TO_LOAD, TieredEngine, give_up, is_loaded
from .epoch_function import EpochFunction
from .minibatches import Loop, Sums

SECONDS_TO_COMPILE = 4.0
SECONDS_SAVED = 3e-6
"""By a compiled step, roughly: counted, not timed, so that it is repeatable."""

PORTION = 1000  # steps of the interpreter between two looks at whether to compile
SECONDS_A_CALL = 0.1  # of the compiled function, so that an interrupt is heard
MOST_STEPS = 4096  # of a call, whose coefficients are in memory


class CompiledLoop(Loop):
    """Steps and epochs of `train` whose gradient is a function of numba."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._function: EpochFunction | None = None
        self._made_for: Any = None
        self._n_at_once = 16
        self._is_refused = type(self.optimizer).update is not Optimizer.update  # an optimizer of the user's own

    def sums(self, epoch: int, steps: range, sums: Sums) -> Sums:
        """Take some steps of an epoch, and return the sums over its samples so far."""
        if self._is_refused or not isinstance(self._engine, TieredEngine):
            return super().sums(epoch, steps, sums)
        begin = steps.start
        while begin < steps.stop:
            function = self._ready(epoch, begin)
            if function is None:
                stop = min(begin + PORTION, steps.stop)
                sums = super().sums(epoch, range(begin, stop), sums)
                self._engine.saved += (stop - begin) * SECONDS_SAVED
                begin = stop
                continue
            begin, sums = self._call(function, epoch, range(begin, steps.stop), sums)
            if self._is_left:  # a step that is not as it should be
                sums = super().sums(epoch, range(begin, begin + 1), sums)
                begin += 1
                if function.failed is not None:  # and the interpreter finds nothing wrong
                    self._is_refused = True
                    give_up(function.failed)
                    return super().sums(epoch, range(begin, steps.stop), sums)
        return sums

    @property
    def _engine(self) -> Any:
        if self.state._engine is None:  # of a state from a file, before its first step
            self.optimizer._run(self.state, self.theta.vector)
        return self.state._engine

    def _ready(self, epoch: int, step: int) -> EpochFunction | None:
        """Return the function for a step; None if there is none, or not yet."""
        engine = self._engine
        if self._is_refused:
            return None
        if not engine.eager and self._function is None and engine.saved <= self._limit:
            return None
        self.interrupts.updating = True  # numba may swallow an interrupt
        try:
            return self._made(epoch, step)
        except NotCompiledError as refused:
            self._is_refused = True
            role = self.objective.model.form
            warnings.warn(
                f"{role} is a function of numba, but epochs are not compiled: {refused}. They are trained by the "
                "interpreter, with the same numbers, more slowly. To do without this warning, train within "
                "optimizers.use_engine('numpy').",
                UserWarning,
                stacklevel=6,
            )
        except Exception as error:  # whatever is wrong with numba, its cache or the disk
            self._is_refused = True
            give_up(error)
        finally:
            self.interrupts.updating = False
            if self.interrupts.held is not None:
                self.interrupts.deliver()
        return None

    _limit = SECONDS_TO_LOAD

    def _made(self, epoch: int, step: int) -> EpochFunction | None:
        run = self.optimizer._run(self.state, self.theta.vector)
        rows = self._rows_of(epoch, step)
        if self._function is not None and self._made_for is run and self._function.fits(rows):
            return self._function
        if self.theta.is_mapped:
            raise NotCompiledError("some parameters are reparametrized: leave reparametrize out")
        if self.objective.numerical:
            raise NotCompiledError("numerical names parameters whose gradient is made of differences")
        steps = run.many_steps(self.objective.fixed)
        function = EpochFunction(self.objective, self.theta, steps, rows, self.total, self.huge)
        if not (self._engine.eager or is_loaded(function.source)):
            self._limit = SECONDS_TO_LOAD if function.is_cached else SECONDS_TO_COMPILE
            if self._engine.saved <= self._limit:
                return None
        function.load()
        self._function, self._made_for = function, run
        return function

    def _rows_of(self, epoch: int, step: int) -> ArrayRows:
        find = getattr(self.rows, "in_memory", None)
        if find is None:
            raise NotCompiledError(f"batches are made by {type(self.rows).__name__}: pass arrays, or chunks of them")
        rows, self._own_step = find(epoch, step)
        return rows  # type: ignore[no-any-return]

    def _call(self, function: EpochFunction, epoch: int, steps: range, sums: Sums) -> tuple[int, Sums]:
        """Take steps by the function; return the first that is left, and the sums."""
        first = self._own_step
        stop = first + min(self._n_at_once, len(steps), function.n_steps - first)
        begin = time.perf_counter()
        self.interrupts.updating = True
        try:
            taken = function.take(epoch, first, stop, sums.loss or 0.0, sums.norm, self.first is not None)
            self.history.n_steps += taken.n_updates
        finally:
            self.interrupts.updating = False
        if self.interrupts.held is not None:
            self.interrupts.deliver()
        seconds = time.perf_counter() - begin
        self._is_left = taken.step < stop
        if not self._is_left:
            self._n_at_once = max(
                1, min(MOST_STEPS, 4 * self._n_at_once, int(SECONDS_A_CALL * (stop - first) / seconds))
            )
        has_loss = self.objective.step_has_value
        if taken.first is not None:
            self.first = (taken.first[0] if has_loss else None, taken.first[1])
        loss = taken.loss if has_loss and sums.loss is not None else None
        return steps.start + taken.step - first, Sums(loss, taken.norm, sums.n + taken.n_samples)
