"""Ctrl-C, delayed until an update of θ, or of the attributes of an estimator, is complete."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any, Self


class Interrupts:
    """Replaces the handler of SIGINT during a fit, in the main thread.

    A signal that arrives while a KeyboardInterrupt is leaving the fit is delayed too, so that the cleanup of the fit is
    not interrupted.

    Attributes
    ----------
    updating : bool
        Whether θ is being updated. A signal that arrives meanwhile is delayed.
    held : tuple or None
        The delayed signal, for which the loop calls `deliver` after the update.
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
        """Delay signals from now on."""
        self.updating = True
        return self

    def release(self) -> None:
        """Stop delaying signals, and deliver the delayed one."""
        self.updating = False
        if self.held is not None:
            self.deliver()

    def deliver(self) -> None:
        """Deliver the delayed signal."""
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
