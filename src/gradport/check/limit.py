"""A time limit for a rule: a subject that loops for ever on an edge value must not take the others with it."""

from __future__ import annotations

import contextlib
import signal
import threading
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
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
