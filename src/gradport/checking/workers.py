"""Workers: the subject's code runs in child processes, so that a crash, an exit or a hang costs only one rule.

A worker is a fork of this process: it has all objects, and its changes to them stay in the worker. It runs the rules in
order and sends the Findings back. If it dies, the parent records the failure and starts a new worker for the remaining
rules. All rules run in this process without fork, with CUDA in use (which does not survive a fork), and where a child
cannot run a backward.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import os
import pickle
import select
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any

import torch

from gradport.checking.ask import ask_rule, report_endless, report_late
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Rule
from gradport.checking.warm import warm_up
from gradport.compat.quiet import quiet
from gradport.compat.torch.selftest import require_hooks
from gradport.eager.inputs import memory
from gradport.eager.joint import Joint
from gradport.errors import CompatibilityError, Error, TargetError
from gradport.evidence.evidence import Finding, Outcome, Severity
from gradport.isolation.child import Watch, fork, freeze_inherited, limit_processor_time, run_in_child
from gradport.isolation.effort import Deadline, Effort
from gradport.subject.signature import place_of_gradient

__all__ = ["Examination", "RuleResults", "examine"]

_SLOW_RULE = 3000.0
"""Limit of processor time for a rule, as a multiple of one call on the example; a rule makes some hundred calls."""

_GRACE = 5.0
"""Seconds of processor time beyond a rule's limit, after which the worker is killed: it hangs in compiled code."""

_TRIES = 3
"""A child that is forked without the handlers of libraries hangs if another thread holds a lock just then."""


@dataclasses.dataclass(frozen=True)
class Examination:
    """The settings from which a worker makes its Trial.

    Attributes:
        joint: the subject with the gradients to check.
        seed: of all random numbers.
        effort: the amount of work.
        deadline: the time after which no rule starts.
        limit: seconds of processor time for a rule; more if one call of the subject is slow.
    """

    joint: Joint
    seed: int
    effort: Effort
    deadline: Deadline
    limit: float


@dataclasses.dataclass
class RuleResults:
    """The results of all rules.

    Attributes:
        findings: the Findings of each rule that ran.
        broken: the reason if forward and backward do not run on the example, so that no rule can run; else "".
    """

    findings: dict[str, list[Finding]] = dataclasses.field(default_factory=dict)
    broken: str = ""


def examine(examination: Examination, rules: Sequence[Rule]) -> RuleResults:
    """Runs the rules, in workers if possible.

    Raises:
        CompatibilityError: gradport does not work with this torch.
        TargetError: the subject rejects its own example.
    """
    results = RuleResults()
    if _can_fork(examination.joint):
        if any(rule.compiles for rule in rules):
            warm_up()
        _Parent(examination, results).run(_share_rules(rules))
    else:
        _run_rules(examination, rules, lambda message: _store_message(message, results))
    return results


def _can_fork(joint: Joint) -> bool:
    on_cpu = all(tensor.device.type == "cpu" for tensor in joint.examples().values())
    debugging = os.environ.get("GRADPORT_DEBUG")  # a debugger needs one process
    return (
        hasattr(os, "fork")
        and on_cpu
        and not torch.cuda.is_initialized()
        and not debugging
        and (not torch.accelerator.is_available() or _backward_runs_after_fork())
    )


def _backward_runs_after_fork() -> bool:
    """Whether a child can run a backward; it cannot after a backward here if the system lacks `_Fork`."""

    def run_backward(writing: int) -> None:
        with contextlib.suppress(RuntimeError):
            torch.ones(1, requires_grad=True).sum().backward()
            os.write(writing, b".")

    return any(run_in_child(run_backward, _GRACE) == (b".", 0) for _ in range(_TRIES))


def _share_rules(rules: Sequence[Rule]) -> list[list[Rule]]:
    """The rules of each worker: two parallel workers if torch has more than one thread."""
    alongside = [rule for rule in rules if rule.alongside]
    others = [rule for rule in rules if not rule.alongside]
    if torch.get_num_threads() < 2 or not alongside or not others:
        return [list(rules)] if rules else []
    return [others, alongside]


# --- messages of a worker: ("incompatible", text), ("rejected", text), ("broken", text), ("started", rule, limit),
# ("finished", rule, Findings, memories)

Message = tuple[Any, ...]


def _run_rules(examination: Examination, rules: Sequence[Rule], send: Callable[[Message], None]) -> None:
    """Runs the rules in order in this process."""
    try:
        require_hooks()  # not in the parent, whose first backward can forbid one in its children
    except CompatibilityError as error:
        send(("incompatible", str(error)))
        return
    try:
        trial = Trial(examination.joint, seed=examination.seed, effort=examination.effort)
        trial.outputs(examination.joint.examples())
    except Error as error:
        send(("rejected", str(error)))
        return
    try:
        called = time.process_time()
        trial.seeded_outputs(examination.joint.examples())
        once = time.process_time() - called
    except TargetError as error:
        send(("broken", str(error)))
        return
    limit = max(examination.limit, _SLOW_RULE * once) * max(examination.effort.budget, 1.0)
    for rule in rules:
        if examination.deadline.is_over:
            send(("finished", rule.name, [report_late(rule.name, examination.deadline)], []))
            continue
        send(("started", rule.name, limit))
        with memory.record_changes() as memories, quiet():
            findings = ask_rule(trial, rule, limit)
        send(("finished", rule.name, findings, memories))


def _store_message(message: Message, into: RuleResults) -> None:
    """Stores a worker's message in the results.

    Raises:
        CompatibilityError: gradport does not work with this torch.
        TargetError: the subject rejects its own example.
    """
    kind, *rest = message
    if kind == "incompatible":
        raise CompatibilityError(rest[0])
    if kind == "rejected":
        raise TargetError(rest[0])
    if kind == "broken":
        into.broken = rest[0]
    if kind == "finished":
        name, findings, memories = rest
        into.findings[name] = findings
        memory.replay(memories)


class _Parent:
    """Starts workers, receives their messages, and replaces workers that die."""

    def __init__(self, examination: Examination, results: RuleResults) -> None:
        self._examination = examination
        self._results = results
        self._workers: list[_Worker] = []

    def run(self, shares: Sequence[Sequence[Rule]]) -> None:
        try:
            for rules in shares:
                self._workers.append(_Worker(self._examination, rules))
            while self._workers:
                ready, _, _ = select.select([worker.pipe for worker in self._workers], [], [], 1.0)
                for worker in list(self._workers):
                    if worker.pipe in ready:
                        self._listen(worker)
                    elif worker.watch.is_blocked():
                        self._replace(worker, worker.end())
        finally:
            for worker in self._workers:
                worker.end()

    def _listen(self, worker: _Worker) -> None:
        message = worker.receive()
        if message is None:
            self._replace(worker, worker.end())
            return
        _store_message(message, self._results)

    def _replace(self, worker: _Worker, end: str | None) -> None:
        """Records how a worker ended, and starts a new one for its remaining rules."""
        self._workers.remove(worker)
        if self._results.broken:
            return
        left = [rule for rule in worker.rules if rule.name not in self._results.findings]
        if not left:
            return
        if worker.running is None:
            self._results.broken = _report_death(self._examination.joint, end, "on its own example")
            return
        lost, *rest = left
        self._results.findings[lost.name] = [_report_lost(lost.name, end, self._examination.joint, worker.limit)]
        if rest:
            self._workers.append(_Worker(self._examination, rest))


class _Worker:
    """One child process and the pipe from it.

    Attributes:
        rules: the rules that it runs.
        running: the rule that is running; None before the first.
        limit: the rule's limit of processor time in seconds.
        watch: detects a worker that no longer computes.
    """

    def __init__(self, examination: Examination, rules: Sequence[Rule]) -> None:
        self.rules = list(rules)
        self.running: str | None = None
        self.limit = examination.limit
        self.pipe, child_end = Pipe(duplex=False)
        self._pid = fork()
        if self._pid == 0:
            _run_worker(examination, rules, child_end)
        child_end.close()
        self.watch = Watch(self._pid)

    def receive(self) -> Message | None:
        """The worker's next message; None if it has ended."""
        try:
            message: Message = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            return None
        if message[0] == "started":
            self.running, self.limit = message[1], message[2]
        return message

    def end(self) -> str | None:
        """Ends the worker and returns the signal or exit code with which it had died before; None if it was still
        running or had exceeded its processor time."""
        self.pipe.close()
        with contextlib.suppress(ChildProcessError):
            status = self._exit_status()
            if status is None:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                return None
            if os.WIFSIGNALED(status):
                number = os.WTERMSIG(status)
                return None if number == signal.SIGXCPU else signal.Signals(number).name
            return f"exit code {os.waitstatus_to_exitcode(status)}"
        return None

    def _exit_status(self) -> int | None:
        for _ in range(50):  # the pipe closes a moment before the exit status is available
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                return status
            time.sleep(0.01)
        return None


def _run_worker(examination: Examination, rules: Sequence[Rule], pipe: Connection) -> None:
    """Runs the rules in a forked child and exits; never returns."""
    code = 0
    try:
        freeze_inherited()
        faulthandler.disable()
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        torch.set_num_threads(1)  # the parent's threads do not exist after a fork

        def send(message: Message) -> None:
            if message[0] == "started":
                limit_processor_time(message[2] + _GRACE)
            pipe.send_bytes(pickle.dumps(message))

        _run_rules(examination, rules, send)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        code = 70
    finally:
        os._exit(code)


def _report_death(joint: Joint, end: str | None, where: str) -> str:
    if end is None:
        return f"{joint.subject.name} does not return {where}: it waits for something, or loops."
    what = f"calls exit ({end})" if end.startswith("exit") else f"kills its process ({end})"
    advice = (
        "raise an exception instead"
        if end.startswith("exit")
        else "its compiled code accesses invalid memory; check sizes, strides and values before the call"
    )
    return f"{joint.subject.name} {what} {where}: {advice}."


def _report_lost(rule: str, end: str | None, joint: Joint, limit: float) -> Finding:
    """The Finding for a rule on which a worker died or had to be killed."""
    if end is None:
        return report_endless(rule, joint, limit)
    return Finding(
        key=f"{rule}/crash",
        rule=rule,
        outcome=Outcome.FAILED,
        kind="crash",
        severity=Severity.ERROR,
        where=place_of_gradient(joint.subject.target),
        message=_report_death(joint, end, "on the inputs of this rule"),
    )
