"""Workers: the subject's code runs in child processes, so that a crash, an exit or a hang costs one rule.

A worker is made by fork: it has everything, and what it does to the user's objects stays with it. It asks rule after
rule and sends the Findings back; where it dies, the parent notes that and makes a new one for the rest. Where there is
no fork, or CUDA is in use (which does not survive one), everything runs in this process.
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
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any

import torch

from gradport.checking.ask import ask_rule, endless, late
from gradport.checking.probes.trial import Trial
from gradport.checking.table import Rule
from gradport.checking.warm import warm_up
from gradport.compat.quiet import quiet
from gradport.eager.inputs import memory
from gradport.eager.joint import Joint
from gradport.errors import Error, TargetError
from gradport.evidence.evidence import Finding, Outcome, Severity
from gradport.isolation.child import Watch, freeze_inherited, limit_processor_time
from gradport.isolation.effort import Deadline, Effort
from gradport.subject.signature import place_of_gradient

__all__ = ["Examination", "RuleResults", "examine"]

_SLOW_RULE = 3000.0
"""Processor time that a rule may take, in times of one call of the example; a rule makes some hundreds."""

_GRACE = 5.0
"""Seconds of processor time beyond a rule's limit, after which it hangs in compiled code."""


@dataclasses.dataclass(frozen=True)
class Examination:
    """What is examined, and how: what a worker makes its Trial from.

    Attributes:
        joint: the subject with the gradients that are examined.
        seed: of all random numbers.
        effort: how much is tried.
        deadline: after it no rule is begun.
        limit: seconds of processor time for a rule; more where one call of the subject takes long.
    """

    joint: Joint
    seed: int
    effort: Effort
    deadline: Deadline
    limit: float


@dataclasses.dataclass
class RuleResults:
    """What came of it.

    Attributes:
        findings: of each rule that was asked.
        broken: why forward and backward do not run on the example, which leaves no rule anything to look at; else "".
    """

    findings: dict[str, list[Finding]] = dataclasses.field(default_factory=dict)
    broken: str = ""


def examine(examination: Examination, rules: Sequence[Rule]) -> RuleResults:
    """Asks the rules.

    Raises:
        TargetError: the subject rejects its own example.
    """
    found = RuleResults()
    if _can_fork(examination.joint):
        if any(rule.compiles for rule in rules):
            warm_up()
        _Parent(examination, found).run(_share_rules(rules))
    else:
        _ask_here(examination, rules, lambda message: _take(message, found))
    return found


def _can_fork(joint: Joint) -> bool:
    on_cpu = all(tensor.device.type == "cpu" for tensor in joint.examples().values())
    in_the_open = os.environ.get("GRADPORT_DEBUG")  # a debugger wants to see it
    return hasattr(os, "fork") and on_cpu and not torch.cuda.is_initialized() and not in_the_open


def _share_rules(rules: Sequence[Rule]) -> list[list[Rule]]:
    """The rules of each worker: two work beside each other where there is more than one core."""
    alongside = [rule for rule in rules if rule.alongside]
    others = [rule for rule in rules if not rule.alongside]
    if torch.get_num_threads() < 2 or not alongside or not others:
        return [list(rules)] if rules else []
    return [others, alongside]


# --- what a worker says: ("rejected", text), ("broken", text), ("asking", rule), ("told", rule, Findings, memories)

Message = tuple[Any, ...]


def _ask_here(examination: Examination, rules: Sequence[Rule], tell: Callable[[Message], None]) -> None:
    """Asks rule after rule in this process."""
    try:
        trial = Trial(examination.joint, seed=examination.seed, effort=examination.effort)
        trial.outputs(examination.joint.examples())
    except Error as error:
        tell(("rejected", str(error)))
        return
    try:
        called = time.process_time()
        trial.seeded_outputs(examination.joint.examples())
        once = time.process_time() - called
    except TargetError as error:
        tell(("broken", str(error)))
        return
    limit = max(examination.limit, _SLOW_RULE * once) * max(examination.effort.budget, 1.0)
    for rule in rules:
        if examination.deadline.is_over:
            tell(("told", rule.name, [late(rule.name, examination.deadline)], []))
            continue
        tell(("asking", rule.name, limit))
        with memory.record_changes() as memories, quiet():
            findings = ask_rule(trial, rule, limit)
        tell(("told", rule.name, findings, memories))


def _take(message: Message, found: RuleResults) -> None:
    """Notes what a worker said.

    Raises:
        TargetError: the subject rejects its own example.
    """
    kind, *rest = message
    if kind == "rejected":
        raise TargetError(rest[0])
    if kind == "broken":
        found.broken = rest[0]
    if kind == "told":
        name, findings, memories = rest
        found.findings[name] = findings
        memory.replay(memories)


class _Parent:
    """Makes workers, listens to them, and makes new ones where they die."""

    def __init__(self, examination: Examination, found: RuleResults) -> None:
        self._examination = examination
        self._found = found
        self._workers: list[_Worker] = []

    def run(self, shares: Sequence[Sequence[Rule]]) -> None:
        try:
            for rules in shares:
                self._workers.append(_Worker(self._examination, rules))
            while self._workers:
                ready, _, _ = select.select([worker.line for worker in self._workers], [], [], 1.0)
                for worker in list(self._workers):
                    if worker.line in ready:
                        self._listen(worker)
                    elif worker.watch.is_blocked():
                        self._replace(worker, worker.end())
        finally:
            for worker in self._workers:
                worker.end()

    def _listen(self, worker: _Worker) -> None:
        message = worker.hear()
        if message is None:
            self._replace(worker, worker.end())
            return
        _take(message, self._found)

    def _replace(self, worker: _Worker, end: str | None) -> None:
        """Notes how a worker ended, and makes another one for the rules that it has not asked."""
        self._workers.remove(worker)
        if self._found.broken:
            return
        left = [rule for rule in worker.rules if rule.name not in self._found.findings]
        if not left:
            return
        if worker.asking is None:
            self._found.broken = _report_death(self._examination.joint, end, "on its own example")
            return
        lost, *rest = left
        self._found.findings[lost.name] = [_lost(lost.name, end, self._examination.joint, worker.limit)]
        if rest:
            self._workers.append(_Worker(self._examination, rest))


class _Worker:
    """One child process and the line from it.

    Attributes:
        rules: what it was made to ask.
        asking: the rule that it is asking; None before the first.
        limit: seconds of processor time that the rule has.
        watch: whether it still computes.
    """

    def __init__(self, examination: Examination, rules: Sequence[Rule]) -> None:
        self.rules = list(rules)
        self.asking: str | None = None
        self.limit = examination.limit
        self.line, theirs = Pipe(duplex=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that threads do not survive a fork; a worker starts none
            self._pid = os.fork()
        if self._pid == 0:
            _live(examination, rules, theirs)
        theirs.close()
        self.watch = Watch(self._pid)

    def hear(self) -> Message | None:
        """What the worker says next; None where it is gone."""
        try:
            message: Message = pickle.loads(self.line.recv_bytes())
        except (EOFError, OSError):
            return None
        if message[0] == "asking":
            self.asking, self.limit = message[1], message[2]
        return message

    def end(self) -> str | None:
        """Ends the worker; how it had ended before by itself, None where it had not or had used up its time."""
        self.line.close()
        with contextlib.suppress(ChildProcessError):
            status = self._ended_by_itself()
            if status is None:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                return None
            if os.WIFSIGNALED(status):
                number = os.WTERMSIG(status)
                return None if number == signal.SIGXCPU else signal.Signals(number).name
            return f"exit code {os.waitstatus_to_exitcode(status)}"
        return None

    def _ended_by_itself(self) -> int | None:
        for _ in range(50):  # a crash shows at the line a moment before it shows here
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                return status
            time.sleep(0.01)
        return None


def _live(examination: Examination, rules: Sequence[Rule], line: Connection) -> None:
    """A worker's life; it never returns."""
    code = 0
    try:
        freeze_inherited()
        faulthandler.disable()
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        torch.set_num_threads(1)  # the parent's threads are not here

        def tell(message: Message) -> None:
            if message[0] == "asking":
                limit_processor_time(message[2] + _GRACE)
            line.send_bytes(pickle.dumps(message))

        _ask_here(examination, rules, tell)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        code = 70
    finally:
        os._exit(code)


def _report_death(joint: Joint, end: str | None, where: str) -> str:
    if end is None:
        return f"{joint.subject.name} does not come to an end {where}: it waits for something, or loops."
    what = f"calls exit ({end})" if end.startswith("exit") else f"kills its process ({end})"
    advice = (
        "raise an exception instead"
        if end.startswith("exit")
        else "its compiled code reads or writes where it must not; check sizes, strides and values before they go there"
    )
    return f"{joint.subject.name} {what} {where}: {advice}."


def _lost(rule: str, end: str | None, joint: Joint, limit: float) -> Finding:
    """A worker died on a rule, or had to be ended."""
    if end is None:
        return endless(rule, joint, limit)
    return Finding(
        key=f"{rule}/crash",
        rule=rule,
        outcome=Outcome.FAILED,
        kind="crash",
        severity=Severity.ERROR,
        where=place_of_gradient(joint.subject.target),
        message=_report_death(joint, end, "on the inputs of this rule"),
    )
