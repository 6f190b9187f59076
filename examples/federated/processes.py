"""Processes that start and end in groups, and tell line by line what they do."""

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
"""Seconds that a group has between being asked to end and being killed."""

Events = queue.Queue[tuple["Group", str | None]]
"""Lines of groups in the order of arrival; None: a process of the group has closed its output."""


class Group:
    """Processes of one machine, so to speak: the first is the leader of a process group, which holds their children too.

    Attributes:
        name: names the log file.
        ended: whether `kill` or `end` was called.
    """

    def __init__(self, name: str, events: Events, folder: Path, env: Mapping[str, str]) -> None:
        self.name, self.ended = name, False
        self._events, self._env = events, env
        self._members: list[subprocess.Popen[str]] = []
        self.log = folder / f"{name}.log"

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
        """Ends all processes of the group at once, as a power cut would."""
        self.ended = True
        if self._members:
            self._signal(signal.SIGKILL)
            for process in self._members:
                process.wait()

    def end(self) -> None:
        """Asks all processes of the group to end, and kills those that do not."""
        if self._members and not self.ended:
            self.ended = True
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                for process in self._members:
                    process.wait(GRACE)
        self.kill()  # also what the leader left behind

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._members[0].pid, number)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with open(self.log, "a", encoding="utf-8") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                self._events.put((self, line.rstrip("\n")))
        self._events.put((self, None))
