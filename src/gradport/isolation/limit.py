"""A limit of processor time: stops code that loops forever on an edge value.

Processor time, unlike wall-clock time, does not depend on other load of the machine.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["TimeUp", "limit_time"]


class TimeUp(BaseException):
    """The limit was reached. A BaseException, so that user code with `except Exception` does not catch it."""


@contextlib.contextmanager
def limit_time(seconds: float) -> Iterator[None]:
    """Raises TimeUp inside the context after that much processor time; only in the main thread, not on Windows.

    It interrupts Python code; compiled code is interrupted only when it returns.
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
        signal.setitimer(signal.ITIMER_PROF, left)  # restores a profiler's timer
        signal.signal(signal.SIGPROF, before)
