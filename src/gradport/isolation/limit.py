"""A limit of processor time: code that loops for ever on an edge value must not take the rest with it.

Processor time, unlike time on the wall, does not depend on what else the machine does.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["TimeUp", "limit_time"]


class TimeUp(BaseException):
    """The limit was reached. Not an Exception, so that no subject's code catches it."""


@contextlib.contextmanager
def limit_time(seconds: float) -> Iterator[None]:
    """Raises TimeUp inside after that many seconds of processor time, where signals can do that (the main thread, not
    Windows).

    It interrupts Python code; compiled code that hangs is only interrupted when it returns.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGPROF, ring)
    left = signal.setitimer(signal.ITIMER_PROF, seconds)[0]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, left)  # somebody else's profiler goes on
        signal.signal(signal.SIGPROF, before)
