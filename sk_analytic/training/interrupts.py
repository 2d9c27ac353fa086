"""Ctrl-C, held back until an update of θ, or what an estimator publishes, is complete."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any, Self


class Interrupts:
    """Stands in for the handler of SIGINT around a fit, in the main thread.

    A signal that comes while a KeyboardInterrupt is on its way out of the fit is held back too: what ends the fit is
    not interrupted by the next one.

    Attributes
    ----------
    updating : bool
        Whether θ is being updated: a signal that comes meanwhile is held back.
    held : tuple or None
        What came; the loop calls `deliver` for it after the update.
    """

    def __init__(self) -> None:
        self.updating = False
        self.held: tuple[Any, ...] | None = None
        self.previous: Any = None
        self._outside: BaseException | None = None

    def __enter__(self) -> Self:
        self._outside = sys.exception()  # the user may call fit where another interrupt is handled
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self.previous = handler
                signal.signal(signal.SIGINT, self._received)
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
        if self.held is not None:
            self.deliver()

    def hold(self) -> Self:
        """Hold signals back from now on."""
        self.updating = True
        return self

    def release(self) -> None:
        """Let signals through again, first the one that was held back."""
        self.updating = False
        if self.held is not None:
            self.deliver()

    def deliver(self) -> None:
        """Hand on what was held back."""
        held, self.held = self.held, None
        self.previous(*held)  # type: ignore[misc]

    def _received(self, signum: int, frame: Any) -> None:
        if self.updating or self._is_under_way():
            self.held = (signum, frame)
        else:
            self.previous(signum, frame)

    def _is_under_way(self) -> bool:
        """Whether a KeyboardInterrupt is being handled here."""
        error = sys.exception()
        while error is not None and error is not self._outside and not isinstance(error, KeyboardInterrupt):
            error = error.__context__
        return isinstance(error, KeyboardInterrupt) and error is not self._outside
