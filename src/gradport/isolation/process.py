"""A process that answers requests under limits: one JSON object a line, over pipes of its own.

The program may write to its output, call exit, crash, hang or start processes: a request that fails costs this request
only. Limits count the work of one request: processor time of the process and its children, and the memory that they
need beyond the memory at the start of the request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gradport.compat.extras import Extra, extra

__all__ = ["Answer", "End", "Limits", "Process"]

_OUTPUT = 4000
"""Bytes of the program's output that are kept, from its end."""

_TICK = 0.1
"""Seconds between two looks at a process that computes."""


class End(enum.StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    DIED = "died"
    TIME = "time"
    MEMORY = "memory"
    BLOCKED = "blocked"


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of one request.

    Attributes:
        seconds: of processor time; None: no limit.
        memory: bytes beyond those at the start of the request; None: no limit.
        blocked: seconds without any processor time after which the process counts as blocked.
    """

    seconds: float | None = None
    memory: int | None = None
    blocked: float = 120.0


@dataclasses.dataclass(frozen=True)
class Answer:
    """The end of a request.

    Attributes:
        end: how it ended.
        value: the answer; None without one.
        status: the exit status of a process that died; negative: the number of a signal.
        output: the last lines that the program wrote.
        seconds: of wall time.
        processor_seconds: as far as they were seen; only of a request without an answer.
        peak: bytes, likewise.
    """

    end: End
    value: Any = None
    status: int | None = None
    output: str = ""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak: int = 0


class Process:
    """Runs a program that reads requests and writes answers.

    Args:
        command: the program; the numbers of the two file descriptors, to read and to write, are its last arguments.
        environment: variables that replace or extend those of this process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with extra(Extra.CAMPAIGN, "Campaigns"):
            import psutil

        their_requests, self._requests = os.pipe()
        self._answers, their_answers = os.pipe()
        descriptors = (their_requests, their_answers)
        try:
            self._process = subprocess.Popen(
                [*command, *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._watched = psutil.Process(self._process.pid)
        self._buffer = b""
        self._output = b""
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    @property
    def is_alive(self) -> bool:
        """Whether the process can take a request."""
        return self._process.poll() is None

    @property
    def memory(self) -> int:
        """Resident bytes of the process, without its children."""
        return _memory([self._watched])

    def ask(self, request: Any, limits: Limits) -> Answer:
        """Sends a request and waits for its answer. The process is dead after any end but ANSWERED."""
        self._output = b""
        try:
            _write_all(self._requests, json.dumps(request).encode() + b"\n")
        except OSError:
            return self._death(End.DIED, _Watch(self._watched, limits))
        return self.receive(limits)

    def receive(self, limits: Limits) -> Answer:
        """Waits for an answer. The process is dead after any end but ANSWERED."""
        watch = _Watch(self._watched, limits)
        wait = _TICK / 10
        while True:
            if select.select([self._answers], [], [], wait)[0]:
                chunk = os.read(self._answers, 1 << 16)
                self._buffer += chunk
                line, newline, rest = self._buffer.partition(b"\n")
                if newline:
                    self._buffer = rest
                    return Answer(End.ANSWERED, json.loads(line), None, self._last_lines())
                if not chunk:
                    return self._death(End.DIED, watch)
                continue
            if not self.is_alive:  # a process that it forked may hold the pipe open
                return self._death(End.DIED, watch)
            end = watch.broken_limit()
            if end is not None:
                return self._death(end, watch)
            wait = _TICK

    def stop_children(self) -> None:
        """Kills the processes that the program started."""
        _kill(_family(self._watched)[1:])

    def close(self) -> None:
        """Kills the process and its children."""
        _kill(_family(self._watched))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for descriptor in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._requests = self._answers = -1
        self._reader.join(1.0)

    def _death(self, end: End, watch: _Watch) -> Answer:
        if end is End.DIED:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)  # its pipe closes a moment before its end
        status = self._process.poll()
        self.close()
        status = self._process.returncode if status is None else status
        return Answer(end, None, status, self._last_lines(), watch.seconds, watch.spent, watch.peak)

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError), self._process.stdout as stream:
            while chunk := os.read(stream.fileno(), 1 << 16):
                self._output = (self._output + chunk)[-_OUTPUT:]

    def _last_lines(self) -> str:
        return self._output.decode("utf-8", "replace").strip()


class _Watch:
    """Compares the work since the start of a request with its limits."""

    def __init__(self, root: Any, limits: Limits) -> None:
        self._root, self._limits = root, limits
        self._time, self._memory = _time([root]), _memory([root])  # between requests it has no children
        self._started = self._at = time.monotonic()
        self.spent, self.peak = 0.0, 0

    @property
    def seconds(self) -> float:
        """Wall time since the start of the request."""
        return time.monotonic() - self._started

    def broken_limit(self) -> End | None:
        """The limit that the request broke; None if it broke none."""
        family, limits = _family(self._root), self._limits
        spent, now = _time(family) - self._time, time.monotonic()
        if spent > self.spent:
            self.spent, self._at = spent, now
        self.peak = max(self.peak, _memory(family) - self._memory)
        if limits.seconds is not None and spent > limits.seconds:
            return End.TIME
        if limits.memory is not None and self.peak > limits.memory:
            return End.MEMORY
        return End.BLOCKED if now - self._at > limits.blocked else None


def _family(root: Any) -> list[Any]:
    """The process, then its descendants."""
    import psutil

    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return [root]


def _time(family: Sequence[Any]) -> float:
    """Seconds of processor time, with those of children that have ended."""
    import psutil

    total = 0.0
    for process in family:
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def _memory(family: Sequence[Any]) -> int:
    import psutil

    total = 0
    for process in family:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _kill(processes: Sequence[Any]) -> None:
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
