"""What a child of this process, made by fork, says before it ends: it has everything and needs nothing sent.

Its limits are of processor time, so that what it gets done does not depend on what else the machine does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import time
import warnings
from collections.abc import Callable

__all__ = ["Watch", "limit_processor_time", "run_in_child", "settle"]

_BLOCKED = 120.0
"""Seconds without any processor time, after which a child is taken to wait for something that never comes."""


def run_in_child(body: Callable[[int], None], seconds: float) -> tuple[bytes, int] | None:
    """Runs `body` in a child.

    Args:
        body: takes the descriptor that it writes to; threads of the parent are not there.
        seconds: of processor time, after which the child is killed.

    Returns:
        What it wrote, and its exit status as `os.waitpid` gives it; None where there is no fork, or time ran out.
    """
    if not hasattr(os, "fork"):
        return None
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that threads do not survive a fork; a body starts none
        child = os.fork()
    if child == 0:
        try:
            settle()
            limit_processor_time(seconds)
            body(writing)
        finally:
            os._exit(0)
    os.close(writing)
    said, watch = b"", Watch(child)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while not watch.is_blocked():
            if not select.select([pipe], [], [], 1.0)[0]:
                continue
            seen = pipe.read(64)
            if not seen:
                break
            said += seen
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return None
    return said, status


def settle() -> None:
    """The first thing that a child does: what it inherited is never collected.

    A destructor that joins threads, as an ONNX Runtime session's does, would wait for threads that are not here.
    """
    gc.freeze()


def limit_processor_time(seconds: float) -> None:
    """Kills this process (SIGXCPU) when it has computed for that long from now on."""
    import resource  # not on Windows, nor is fork

    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    with contextlib.suppress(ValueError):  # the system's own limit is lower
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 1, most))


class Watch:
    """Looks whether a process still computes.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._spent = 0.0
        self._at = time.monotonic()

    def is_blocked(self) -> bool:
        """Whether it has not computed for a long time: it waits for a lock or for input."""
        spent, now = _processor_time(self._pid), time.monotonic()
        if spent is None or spent > self._spent:
            self._spent, self._at = spent or 0.0, now
            return False
        return now - self._at > _BLOCKED


def _processor_time(pid: int) -> float | None:
    """Seconds that a process has computed; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
