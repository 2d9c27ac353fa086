"""Ctrl-C, held back until an update of θ is complete."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self


class Interrupts:
    """Stands in for the handler of SIGINT around a fit, in the main thread.

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

    def __enter__(self) -> Self:
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

    def deliver(self) -> None:
        """Hand on what was held back."""
        held, self.held = self.held, None
        self.previous(*held)  # type: ignore[misc]

    def _received(self, signum: int, frame: Any) -> None:
        if self.updating:
            self.held = (signum, frame)
        else:
            self.previous(signum, frame)
