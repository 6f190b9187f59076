"""Runs cases in child processes: of this environment or of another one, which has its own torch."""

from __future__ import annotations

import atexit
import base64
import dataclasses
import shutil
import signal
import sys
from typing import Any

from gradport.campaigning.cases import Case, CaseOutcome, Entry, Options, Result
from gradport.campaigning.child import PROTOCOL
from gradport.errors import SpecError, TargetError
from gradport.isolation.process import Answer, End, Limits, Process

__all__ = ["list_source", "run_isolated", "stop", "versions_of"]

_LISTING = Limits(seconds=900.0)
_STARTING = Limits(seconds=300.0)

_TRIES = 2
"""A case that kills its process twice is not tried a third time: a process may die by what an earlier case left."""

_LARGEST = 2 << 30
"""Bytes of a process between two cases above which it is replaced."""

_OUTCOMES = {End.DIED: CaseOutcome.CRASHED, End.TIME: CaseOutcome.TIME, End.MEMORY: CaseOutcome.MEMORY}


class _Child:
    """A child process of one environment, started at the first request and after a death."""

    def __init__(self, python: str) -> None:
        self._python = python or sys.executable
        self._process: Process | None = None
        self._loaded: set[str] = set()
        self.versions: dict[str, str] = {}

    def ask(self, request: dict[str, Any], pickled: bytes | None, limits: Limits) -> Answer:
        """Sends a request, with the pickled source if this process does not have it."""
        process = self._started()
        source = request["source"]
        if source not in self._loaded:  # the import of a source is not the work of its first case
            load: dict[str, Any] = {"list": True, "source": source, "loads": "case" in request}
            if pickled is not None:
                load["pickled"] = base64.b64encode(pickled).decode()
            answer = process.ask(load, _LISTING)
            if answer.end is not End.ANSWERED or "list" in request:
                return self._checked(answer)
            self._loaded.add(source)
        return self._checked(process.ask(request, limits))

    def _checked(self, answer: Answer) -> Answer:
        """An answer, after which the process can take the next request."""
        process = self._process
        if answer.end is not End.ANSWERED or process is None:
            self.stop()
            return answer
        if answer.value["children"]:
            process.stop_children()
        if process.memory > _LARGEST:
            self.stop()
        return answer

    def start(self) -> None:
        """Starts the process, if it does not run.

        Raises:
            SpecError: it is not a Python with gradport.
        """
        if self._process is not None and self._process.is_alive:
            return
        self.stop()
        if shutil.which(self._python) is None:
            raise SpecError(f"{self._python}: Python not found; give the path of an interpreter that has gradport.")
        command = [self._python, "-m", "gradport.campaigning.child"]
        process = Process(command, {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"})
        hello = process.receive(_STARTING)
        if hello.end is not End.ANSWERED or hello.value.get("protocol") != PROTOCOL:
            process.close()
            raise SpecError(
                f"{self._python} does not run cases: install this version of gradport there. "
                f"{(hello.output.splitlines() or ['It wrote nothing.'])[-1]}"
            )
        self.versions = hello.value["versions"]
        self._process = process

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.close()
        self._process, self._loaded = None, set()

    def _started(self) -> Process:
        self.start()
        assert self._process is not None
        return self._process


_children: dict[str, _Child] = {}
"""The children of this worker, one for each environment. They live as long as the worker."""


def run_isolated(case: Case, options: Options, pickled: bytes | None = None) -> Result:
    """The outcome of a case; a crash, an exit, a hang or too much memory is an outcome.

    Args:
        case: the case.
        options: the amount of work and the limits.
        pickled: the objects of its source, if the source is sent with the case.
    """
    child = _child(case.python)
    request = {"source": case.source, "case": case.to_dict(), "options": dataclasses.asdict(options)}
    limits = Limits(options.time_limit, options.memory_limit, options.blocked)
    for tries in range(1, _TRIES + 1):
        answer = child.ask(request, pickled, limits)
        if answer.end is End.ANSWERED:
            used = answer.value["used"]
            return dataclasses.replace(Result.from_dict(answer.value["result"]), tries=tries, **used)
        if answer.end is not End.DIED:
            break
    return _ended(answer, options, tries)


def list_source(source: str, python: str, pickled: bytes | None = None) -> list[Entry]:
    """The Subjects and Tasks of a source in an environment; the user's code runs in a child process.

    Raises:
        TargetError: the source cannot be imported, or its import ends the process.
        SpecError: the environment has no gradport.
    """
    answer = _child(python).ask({"list": True, "source": source}, pickled, _LISTING)
    if answer.end is not End.ANSWERED:
        last = (answer.output.splitlines() or ["no output"])[-1]
        raise TargetError(f"The import of {source} ends the process ({_cause(answer)}): {last}.")
    if "error" in answer.value:
        raise TargetError(answer.value["error"])
    return [Entry(*fields) for fields in answer.value["entries"]]


def versions_of(python: str) -> dict[str, str]:
    """The versions of an environment.

    Raises:
        SpecError: it has no gradport.
    """
    child = _child(python)
    child.start()
    return child.versions


def stop() -> None:
    """Ends all children of this process."""
    for child in _children.values():
        child.stop()
    _children.clear()


atexit.register(stop)


def _child(python: str) -> _Child:
    return _children.setdefault(python, _Child(python))


def _ended(answer: Answer, options: Options, tries: int) -> Result:
    """The result of a case that did not answer."""
    cause = _cause(answer)
    messages = {
        End.DIED: f"The case ends its process ({cause}).",
        End.TIME: f"The case needs more than {options.time_limit:g} s of processor time."
        if options.time_limit is not None
        else "",
        End.MEMORY: f"The case needs more than {(options.memory_limit or 0) / 2**20:.0f} MiB.",
        End.BLOCKED: f"The case did not compute for {options.blocked:g} s: it waits for a lock, for input or for time.",
    }
    return Result(
        _OUTCOMES.get(answer.end, CaseOutcome.TIME),
        str(answer.end),
        message=messages[answer.end],
        tries=tries,
        signal=cause if answer.status is not None and answer.status < 0 and answer.end is End.DIED else "",
        output=answer.output,
        seconds=answer.seconds,
        processor_seconds=answer.processor_seconds,
        peak=answer.peak,
    )


def _cause(answer: Answer) -> str:
    """A signal's name or an exit status."""
    status = answer.status
    if status is not None and status < 0:
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal {-status}"
    return f"exit status {status}"
