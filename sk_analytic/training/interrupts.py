"""Ctrl-C, held back until an update of θ is complete."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self


class Interrupts:
    """Lets Ctrl-C wait until an update of θ is complete.

    Entered twice: around a fit, where it stands in for the handler of SIGINT (in the main thread only),
    and around each update, during which the signal is held back.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.held: tuple[Any, ...] | None = None
        self.previous: Any = None

    def __enter__(self) -> Self:
        if self.depth == 0 and threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self.previous = handler
                signal.signal(signal.SIGINT, self._received)
        self.depth += 1
        return self

    def __exit__(self, *exception: Any) -> None:
        self.depth -= 1
        if self.depth == 0 and self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
        if self.held is not None:
            held, self.held = self.held, None
            self.previous(*held)

    def _received(self, signum: int, frame: Any) -> None:
        if self.depth > 1:
            self.held = (signum, frame)
        else:
            self.previous(signum, frame)
