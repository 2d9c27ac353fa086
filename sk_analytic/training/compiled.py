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
from ..optimizers.engine.numba_kernel import SECONDS_TO_LOAD, TieredEngine, engine_for, give_up, is_loaded
from .epoch_function import EpochFunction
from .minibatches import Loop, Sums

SECONDS_TO_COMPILE = 4.0
SECONDS_A_PAIR = 5e-3
"""More to compile for each pair of leaves: numba passes tuples by value, which takes the compiler quadratic time."""
MOST_LEAVES = 64
"""Of the parameters; with more, numba compiles for minutes."""
SECONDS_TO_PREPARE = 3e-3
"""In each fit anew: to write the function down, which looks it up."""
SECONDS_SAVED = 3e-6
"""By a compiled step, roughly: counted, not timed, so that it is repeatable."""

PORTION = 1000  # steps of the interpreter between two looks at whether to compile
FEWEST_STEPS = 8  # of a call: for fewer, what surrounds it takes longer than the interpreter
SECONDS_A_CALL = 0.1  # of the compiled function, so that an interrupt is heard
MOST_STEPS = 1 << 15  # of a call, whose coefficients are in memory


class CompiledLoop(Loop):
    """Steps and epochs of `train` whose gradient is a function of numba."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._functions: list[EpochFunction] = []  # for the kinds of rows so far; chunks may be of several
        self._made_for: Any = None
        self._n_at_once = 16
        self._saved = 0.0  # seconds that compiled steps would have saved in this fit
        self._is_refused = False

    def sums(self, epoch: int, steps: range, sums: Sums) -> Sums:
        """Take some steps of an epoch, and return the sums over its samples so far."""
        if self._is_refused or not isinstance(self._engine, TieredEngine):
            return super().sums(epoch, steps, sums)
        begin = steps.start
        while begin < steps.stop:
            function = self._ready(epoch, begin)
            if function is None:
                stop = min(begin + self._portion, steps.stop)
                sums = super().sums(epoch, range(begin, stop), sums)
                self._engine.saved += (stop - begin) * SECONDS_SAVED
                self._saved += (stop - begin) * SECONDS_SAVED
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
            self.state._engine = engine_for(self.state.size, self.state.dtype)
        return self.state._engine

    def _ready(self, epoch: int, step: int) -> EpochFunction | None:
        """Return the function for a step; None if there is none, or not yet."""
        engine = self._engine
        self._portion = PORTION
        if self._is_refused:
            return None
        pays = engine.saved > self._limit and self._saved > SECONDS_TO_PREPARE
        if not (engine.eager or self._functions or pays):
            return None
        self.interrupts.updating = True  # numba may swallow an interrupt
        try:
            return self._made(epoch, step)
        except NotCompiledError as refused:  # the user can change that
            self._is_refused = True
            role = self.objective.model.form
            warnings.warn(
                f"{role} is a numba function, but epochs are not compiled: {refused}. Training gives the same results "
                "without compiled epochs, but is slower. To silence this warning, train within "
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
        if type(self.optimizer).update is not Optimizer.update:
            raise NotCompiledError(
                f"{type(self.optimizer).__name__} overrides update; derive it from Rule or Link, with a formula"
            )
        run = self.optimizer._run(self.state, self.theta.vector)
        rows = self._rows_of(epoch, step)
        n_left = rows.steps_per_epoch - self._own_step
        if n_left < FEWEST_STEPS:
            self._portion = n_left
            return None
        if self._made_for is not run:
            self._functions.clear()
        function = next((made for made in self._functions if made.fits(rows)), None) or self._new(run, rows)
        if not (function.is_ready or self._engine.eager or is_loaded(function.source)):
            compiling = SECONDS_TO_COMPILE + SECONDS_A_PAIR * len(self.theta.layout.names) ** 2
            self._limit = SECONDS_TO_LOAD if function.is_cached else compiling
            if self._engine.saved <= self._limit:
                return None
        function.load()
        return function

    def _new(self, run: Any, rows: ArrayRows) -> EpochFunction:
        """Write the function for a kind of rows down."""
        if self.objective.model.gradient_form.composes_loss:
            raise NotCompiledError("it is composed with the loss in Python; pass loss_and_gradient instead")
        if self.theta.is_mapped:
            raise NotCompiledError("some parameters are reparametrized; leave out reparametrize")
        if self.objective.numerical:
            raise NotCompiledError(
                "the gradient of the parameters in numerical is computed in Python; return their gradient"
            )
        if len(self.theta.layout.names) > MOST_LEAVES:
            raise NotCompiledError(
                f"there are {len(self.theta.layout.names)} parameter arrays, which would take numba minutes to "
                f"compile; join them into {MOST_LEAVES} or fewer"
            )
        steps = run.many_steps(self.objective.fixed)
        function = EpochFunction(self.objective, self.theta, steps, rows, self.total, self.huge)
        self._functions.append(function)
        self._made_for = run
        return function

    def _rows_of(self, epoch: int, step: int) -> ArrayRows:
        find = getattr(self.rows, "in_memory", None)
        if find is None:
            raise NotCompiledError(
                f"batches are created by {type(self.rows).__name__}; pass arrays, or chunks of arrays"
            )
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
