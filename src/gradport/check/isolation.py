"""Isolation: rules that feed a subject what may crash or hang it run in one child process, which is used again.

The child works while the parent asks the other rules. It gets the subject by cloudpickle; what cannot be carried there
is examined in the parent, within the limit that signals give.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib
import importlib.machinery
import importlib.util
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle
import torch

from gradport.check.ask import asked, endless
from gradport.check.rules import RULES, Rule
from gradport.check.trial import Trial
from gradport.evidence import Finding
from gradport.joint import Joint

__all__ = ["Isolated", "Request", "serve"]

_GRACE = 10.0
"""Seconds beyond its limit after which a rule is taken to hang in compiled code; the first one waits for imports."""

_LARGEST = 1 << 28
"""Bytes above which a subject is not copied into the child."""

_BOOT = "import sys; sys.path[:] = {path!r}; from gradport.check.isolation import serve; serve({fd})"


@dataclasses.dataclass(frozen=True)
class Request:
    """Rules to ask of a subject in the child: what a Trial is made from."""

    subject: Any
    seed: int
    budget: float | None
    thorough: bool
    rules: tuple[str, ...]
    limit: float


class Isolated:
    """Asks rules of a Trial in the child, from now until `findings` is called.

    Args:
        trial: what is asked about.
        rules: which rules.
        limit: seconds for each.
    """

    def __init__(self, trial: Trial, rules: Sequence[Rule], limit: float) -> None:
        self._limit = limit
        self._trial = trial
        self._rules = list(rules)
        self._child = _submitted(trial, self._rules, limit)
        self._threads = torch.get_num_threads()
        if self._child is not None:  # two that both take every core wait for each other
            torch.set_num_threads(max(self._threads // 2, 1))

    def findings(self) -> dict[str, list[Finding]]:
        """The Findings of each rule; waits for them."""
        torch.set_num_threads(self._threads)
        found: dict[str, list[Finding]] = {}
        waiting = list(self._rules)
        child = self._child
        while waiting and child is not None:
            answer = child.answer(self._limit)
            if isinstance(answer, str):  # it could not be carried after all
                break
            rule = waiting.pop(0)
            if answer is None:
                found[rule.name] = [_lost(rule.name, child.end(), self._trial, self._limit)]
                child = _submitted(self._trial, waiting, self._limit)
                continue
            found[rule.name] = [dataclasses.replace(one, where=self._trial.where()) for one in answer]
        if child is not None:
            _idle.append(child)
        return found | {rule.name: asked(self._trial, rule, self._limit) for rule in waiting}


class _Child:
    """One child process and the line to it."""

    def __init__(self) -> None:
        mine, theirs = socket.socketpair()
        boot = _BOOT.format(path=sys.path, fd=theirs.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-c", boot],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(max(torch.get_num_threads() // 2, 1))},
        )
        theirs.close()
        self._line = Connection(mine.detach())
        atexit.register(self.end)

    def ask(self, request: bytes) -> bool:
        """Sends a request; False where the child is gone."""
        try:
            self._line.send_bytes(pickle.dumps(sys.path))
            self._line.send_bytes(request)
        except OSError:
            return False
        return True

    def answer(self, limit: float) -> list[Finding] | str | None:
        """The Findings of the next rule; text where it could not be asked; None where the child died or hangs."""
        try:
            if not self._line.poll(limit + _GRACE):
                return None
            answer: list[Finding] | str = pickle.loads(self._line.recv_bytes())
        except (EOFError, OSError):
            return None
        return answer

    def end(self) -> str | None:
        """Ends the child; the name of the signal that it died of before, or None."""
        atexit.unregister(self.end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)  # a crash shows at the line a moment before it shows here
        code = self._process.poll()
        self._process.kill()
        self._process.wait()
        self._line.close()
        if code is None:
            return None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


_idle: list[_Child] = []


def _submitted(trial: Trial, rules: Sequence[Rule], limit: float) -> _Child | None:
    """A child that was asked these rules, or None where the subject cannot be carried."""
    if not rules:
        return None
    request = _pickled(trial, rules, limit)
    if request is None:
        return None
    while _idle:
        child = _idle.pop()
        if child.ask(request):
            return child
        child.end()
    child = _Child()
    return child if child.ask(request) else None


def _pickled(trial: Trial, rules: Sequence[Rule], limit: float) -> bytes | None:
    examples = trial.joint.examples().values()
    if sum(tensor.numel() * tensor.element_size() for tensor in examples) > _LARGEST:
        return None
    subject = trial.joint.subject
    request = Request(subject, trial.seed, trial.left, trial.thorough, tuple(rule.name for rule in rules), limit)
    with _by_value(subject.target):
        try:
            return bytes(cloudpickle.dumps(request))
        except Exception:  # whatever a user's object raises that will not be pickled
            return None


@contextlib.contextmanager
def _by_value(target: Any) -> Iterator[None]:
    """Modules that the child cannot import by name (a file given by path, a test module) travel whole."""
    module = sys.modules.get(getattr(target, "__module__", None) or type(target).__module__)
    if module is None or module.__name__ == "__main__" or _is_importable(module):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_importable(module: types.ModuleType) -> bool:
    """Whether a new process finds this very file by the module's name; parents already loaded here prove nothing."""
    parts = module.__name__.split(".")
    loaded = sys.modules.pop(parts[0], None)  # else the answer is read from there
    try:
        spec = importlib.util.find_spec(parts[0])
    except (ImportError, ValueError):
        return False
    finally:
        if loaded is not None:
            sys.modules[parts[0]] = loaded
    for depth in range(2, len(parts) + 1):
        if spec is None:
            return False
        name = ".".join(parts[:depth])
        spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec is not None and spec.origin == getattr(module, "__file__", None)


def _lost(rule: str, end: str | None, trial: Trial, limit: float) -> Finding:
    """The child died on a rule, or had to be ended."""
    if end is None:
        return endless(rule, trial, limit)
    return Finding(
        key=f"{rule}/crash",
        rule=rule,
        outcome="failed",
        kind="crash",
        severity="error",
        where=trial.where(),
        message=f"The process died ({end}) while {trial.joint.subject.name} ran on the inputs of this rule: its "
        "compiled code reads or writes where it must not; check sizes, strides and values before they go there.",
    )


def serve(fd: int) -> None:
    """The child's life: a request in, a list of Findings out for each of its rules, until the line is closed.

    What our own code raises goes back as text, so that the parent asks again where a traceback can be seen.
    """
    importlib.import_module("gradport.check")  # fills the table of rules
    assert threading.current_thread() is threading.main_thread()
    line = Connection(fd)
    while True:
        try:
            sys.path[:] = pickle.loads(line.recv_bytes())
            received = line.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            request: Request = pickle.loads(received)
            trial = Trial(Joint(request.subject), seed=request.seed, budget=request.budget, thorough=request.thorough)
            for name in request.rules:
                line.send_bytes(pickle.dumps(asked(trial, RULES[name], request.limit)))
        except Exception as error:
            line.send_bytes(pickle.dumps(f"{type(error).__name__}: {error}"))
