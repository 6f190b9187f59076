"""Processes that start and end in groups, and report line by line what they do."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE = 10.0
"""Seconds between the request to end a group and the kill."""

Events = queue.Queue[tuple["Group", str | None]]
"""Lines of all groups in the order of arrival; None: a process of the group has closed its output."""


class Group:
    """The processes of one machine: the first one leads a process group, which holds the children of all of them too.

    Attributes:
        name: names the log file.
        address: where the first process serves; None if it does not serve.
        log: the file that takes all lines.
        ended: whether `kill` or `end` was called.
    """

    def __init__(self, name: str, address: str | None, events: Events, folder: Path, env: Mapping[str, str]) -> None:
        self.name, self.address, self.log, self.ended = name, address, folder / f"{name}.log", False
        self._events, self._env = events, env
        self._members: list[subprocess.Popen[str]] = []

    def start(self, command: Sequence[str]) -> None:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._env,
            process_group=self._members[0].pid if self._members else 0,
        )
        self._members.append(process)
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def kill(self) -> None:
        """Ends all processes at once, as a power cut does."""
        self.ended = True
        self._signal(signal.SIGKILL)
        for process in self._members:
            process.wait()

    def end(self) -> None:
        """Asks all processes to end, and kills those that do not."""
        if self.ended:
            return
        self.ended = True
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in self._members:
                process.wait(GRACE)
        self.kill()  # children may outlive the processes that started them

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._members:
                os.killpg(self._members[0].pid, number)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with open(self.log, "a", encoding="utf-8") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                self._events.put((self, line.rstrip("\n")))
        self._events.put((self, None))
