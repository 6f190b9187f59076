"""A time limit: what loops for ever on an edge value, or takes minutes, must not take the rest with it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["TimeUp", "limited"]


class TimeUp(BaseException):
    """The limit was reached. No Exception, so that no subject's code catches it."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TimeUp inside after that many seconds, where signals can do that (the main thread, not Windows).

    It interrupts Python code; a compiled extension that hangs is only interrupted when it comes back.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    left, started = signal.setitimer(signal.ITIMER_REAL, seconds)[0], time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        if left:  # somebody else's alarm goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - started), 1e-3))
