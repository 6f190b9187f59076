"""Runs a function in a forked child process and reads its output: the child has the parent's memory.

The limits are of processor time, so that results do not depend on other load of the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import time
import warnings
from collections.abc import Callable

import torch

__all__ = ["Watch", "fork", "freeze_inherited", "limit_processor_time", "run_in_child"]

_FORK = "_Fork"
"""The fork of POSIX.1-2024 without handlers; some systems lack it."""

_BLOCKED = 120.0
"""Seconds without processor time after which a child counts as blocked."""


def run_in_child(body: Callable[[int], None], seconds: float) -> tuple[bytes, int] | None:
    """Runs `body` in a forked child.

    Args:
        body: takes the file descriptor to write to; the parent's threads do not exist in the child.
        seconds: limit of processor time; the child is killed after it.

    Returns:
        The written bytes and the exit status of `os.waitpid`; None without fork, or if the time ran out.
    """
    if not hasattr(os, "fork"):
        return None
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        try:
            freeze_inherited()
            limit_processor_time(seconds)
            body(writing)
        finally:
            os._exit(0)
    os.close(writing)
    written, watch = b"", Watch(child)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while not watch.is_blocked():
            if not select.select([pipe], [], [], 1.0)[0]:
                continue
            seen = pipe.read(64)
            if not seen:
                break
            written += seen
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return None
    return written, status


def fork() -> int:
    """Forks this process; the parent's threads do not exist in the child.

    With an accelerator on the machine, torch's autograd has threads for it after the first backward, and a handler of
    torch then forbids every backward in a child, also on the CPU. A backward on the CPU needs none of these threads, so
    there the fork is POSIX's `_Fork`, which calls no handlers of libraries.

    Returns:
        The child's process id; 0 in the child.

    https://pubs.opengroup.org/onlinepubs/9799919799/functions/_Fork.html
    """
    system = ctypes.PyDLL(None)  # holds the interpreter's lock, as os.fork does
    without_handlers = getattr(system, _FORK, None)
    if torch.accelerator.is_available() and without_handlers is not None:
        ctypes.pythonapi.PyOS_BeforeFork()
        child = int(without_handlers())
        if child == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
        return child
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns that threads do not survive a fork; a child needs none
        return os.fork()


def freeze_inherited() -> None:
    """Excludes inherited objects from garbage collection; a child calls this first.

    A destructor that joins threads, such as an ONNX Runtime session's, would wait for threads that do not exist here.
    """
    gc.freeze()


def limit_processor_time(seconds: float) -> None:
    """Kills this process (SIGXCPU) after that much processor time from now on."""
    import resource  # like fork, not on Windows

    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    with contextlib.suppress(ValueError):  # the system's own limit is lower
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 1, most))


class Watch:
    """Watches whether a process still computes.

    Args:
        pid: the process id.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._spent = 0.0
        self._at = time.monotonic()

    def is_blocked(self) -> bool:
        """Whether the process has not computed for a long time: it waits for a lock or for input."""
        spent, now = _processor_time(self._pid), time.monotonic()
        if spent is None or spent > self._spent:
            self._spent, self._at = spent or 0.0, now
            return False
        return now - self._at > _BLOCKED


def _processor_time(pid: int) -> float | None:
    """Processor time of a process in seconds; None if unknown."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
