"""`python -m gradport.campaigning.child READ WRITE`: runs cases one after the other, as a worker's requests ask.

Every line that it reads is a request, every line that it writes an answer, both JSON. The first line that it writes has
the versions of this environment.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["PROTOCOL", "main"]

PROTOCOL = 1

_PARENT_DEATH = 1
"""PR_SET_PDEATHSIG of Linux: this process ends with its worker."""

_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of Linux: orphans of a case become children of this process, which can end them."""


def main(reading: int, writing: int) -> None:
    """Answers requests until there are no more."""
    own = os.getpid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
        ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    sources: dict[str, bytes] = {}
    with os.fdopen(reading, "rb", buffering=0) as requests:
        _write(writing, _hello())
        for line in _lines(requests):
            request = json.loads(line)
            if "pickled" in request:
                sources[request["source"]] = base64.b64decode(request["pickled"])
            answer = _measured(lambda request=request: _respond(request, sources))  # type: ignore[misc]
            if os.getpid() != own:  # the case forked, and this is the copy
                os._exit(0)
            _write(writing, answer)


def _lines(stream: Any) -> Iterator[bytes]:
    buffer = b""
    while chunk := stream.read(1 << 16):
        *lines, buffer = (buffer + chunk).split(b"\n")
        yield from lines


def _write(descriptor: int, answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def _hello() -> dict[str, Any]:
    """The versions; libraries are imported here, so that no case pays for it."""
    import gradport.campaigning.running  # noqa: F401
    from gradport.evidence.evidence import environment

    return {"protocol": PROTOCOL, "versions": environment()}


def _respond(request: dict[str, Any], sources: dict[str, bytes]) -> dict[str, Any]:
    """The answer to one request; whatever the user's code raises is an answer too."""
    from gradport.campaigning.cases import CaseOutcome, Result
    from gradport.errors import Error

    try:
        return _list(request, sources) if "list" in request else _run(request, sources)
    except Error as error:
        if "list" in request:
            return {"error": str(error)}
        return {"result": Result(CaseOutcome.REFUSED, message=str(error)).to_dict()}
    except BaseException as error:  # SystemExit too: it ends the case only
        message = f"{type(error).__name__}: {error}"[:400]
        if "list" in request:
            return {"error": message}
        outcome = CaseOutcome.CRASHED if isinstance(error, SystemExit) else CaseOutcome.ERROR
        return {"result": Result(outcome, message=message).to_dict()}


def _list(request: dict[str, Any], sources: dict[str, bytes]) -> dict[str, Any]:
    from gradport.campaigning.sources import entries, load

    source, pickled = request["source"], sources.get(request["source"])
    if request.get("loads"):
        if load(source, pickled):
            _warm_up()
        return {}
    found = entries(source, pickled)
    return {"entries": [one.to_list() for one in found]}


def _warm_up() -> None:
    """Exports and checks a small function: the first use of torch's tracer takes seconds, which belong to no case."""
    import torch

    from gradport.campaigning.cases import Action, Case, Options
    from gradport.campaigning.running import run_case
    from gradport.subject.subject import Subject

    subject = Subject(torch.sin, torch.ones(2, requires_grad=True), wrt="inputs")
    for action in (Action.VERIFY, Action.CHECK):
        run_case(Case("", "", action), subject, Options(profile="quick", budget=0.1))


def _run(request: dict[str, Any], sources: dict[str, bytes]) -> dict[str, Any]:
    from gradport.campaigning.cases import Case, Options
    from gradport.campaigning.running import run_case
    from gradport.campaigning.sources import find

    case = Case.from_dict(request["case"])
    found = find(case.source, case.subject, case.task, sources.get(case.source))
    return {"result": run_case(case, found, Options(**request["options"])).to_dict()}


def _measured(respond: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer with the seconds and the memory that it took, and whether processes are left."""
    started, before, memory = time.monotonic(), _processor_seconds(), _resident()
    _reset_peak()
    answer = respond()
    used = {
        "seconds": time.monotonic() - started,
        "processor_seconds": _processor_seconds() - before,
        "peak": max(_peak() - memory, 0),
    }
    return {**answer, "used": used, "children": _has_children()}


def _processor_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _has_children() -> bool:
    """Whether processes that the case started still run; ended ones are taken note of."""
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                return True
    return False


def _resident() -> int:
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(field: str) -> int:
    """A size of this process in bytes; 0 where the system has no such file."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def _reset_peak() -> None:
    """Sets the peak to the current memory (https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
