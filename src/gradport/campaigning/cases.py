"""Cases: one action on one Subject under one setting, and its outcome."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from typing import Any

__all__ = ["Action", "Case", "CaseOutcome", "Entry", "Options", "Result"]


class Action(enum.StrEnum):
    """What a case does."""

    CHECK = "check"
    VERIFY = "verify"
    RUN = "run"


class CaseOutcome(enum.StrEnum):
    """The outcome of a case: an Outcome of Evidence, or the reason why there is none."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNDECIDED = "undecided"
    ERROR = "error"
    REFUSED = "refused"
    NO_KERNEL = "no kernel"
    CRASHED = "crashed"
    TIME = "time limit"
    MEMORY = "memory limit"

    @property
    def passes(self) -> bool:
        """Whether a campaign with this outcome may be ok."""
        return self in (CaseOutcome.OK, CaseOutcome.SKIPPED, CaseOutcome.NO_KERNEL)


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings that all cases of a campaign share.

    Attributes:
        profile, budget: the amount of work of `check` and `verify`.
        seed: of inputs.
        time_limit: seconds of processor time of a case; None: no limit.
        memory_limit: bytes of a case; None: no limit.
        blocked: seconds without processor time after which a case counts as blocked.
        gradients: whether a Subject without `wrt` is exported with all its gradients.
    """

    profile: str = "default"
    budget: float = 1.0
    seed: int = 0
    time_limit: float | None = 60.0
    memory_limit: int | None = None
    blocked: float = 120.0
    gradients: bool = True


@dataclasses.dataclass(frozen=True)
class Case:
    """One cell of a campaign.

    Attributes:
        source: where the Subject comes from: a module, a file, a folder, a suite of torch, or pickled objects.
        subject: its name in the source.
        action: check it, export and verify it, or run a Task.
        opset, dtype, functions, dynamic, runtime: the setting; None keeps the value of the Subject.
        python: the interpreter; empty: that of the worker.
        task: the column of a Task.
    """

    source: str
    subject: str
    action: Action
    opset: int | None = None
    dtype: str | None = None
    functions: str | None = None
    dynamic: bool | None = None
    runtime: str | None = None
    python: str = ""
    task: str = ""

    @property
    def id(self) -> str:
        """A short hash: equal cases have equal ids in every campaign."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self)).encode()).hexdigest()[:16]

    @property
    def setting(self) -> str:
        """Action or Task, and setting, as the name of a column."""
        parts = [
            self.task or str(self.action),
            f"opset{self.opset}" if self.opset is not None else "",
            self.dtype or "",
            {True: "dynamic", False: "static", None: ""}[self.dynamic],
            self.functions or "",
            self.runtime or "",
            self.python,
        ]
        return " ".join(filter(None, parts))

    def to_dict(self) -> dict[str, Any]:
        """Its fields in JSON types."""
        return {**dataclasses.asdict(self), "action": str(self.action)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Case:
        """From `to_dict`."""
        return cls(**{**fields, "action": Action(fields["action"])})


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of a case.

    Attributes:
        outcome: see CaseOutcome.
        kind: the rule of the Finding that decides it.
        figure, unit: its measured number.
        message: one sentence; empty if all is ok.
        where: the line of the Subject.
        evidence: JSON of the Evidence; empty without one.
        seconds: of wall time.
        processor_seconds: of the case and the processes that it started.
        peak: bytes of memory beyond those before the case.
        tries: how often the case was started.
        signal: the signal that ended it; empty without one.
        output: the last lines that it wrote, of a case that ended early.
    """

    outcome: CaseOutcome
    kind: str = ""
    figure: float | None = None
    unit: str = ""
    message: str = ""
    where: str = ""
    evidence: str = ""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak: int = 0
    tries: int = 1
    signal: str = ""
    output: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Its fields in JSON types."""
        return {**dataclasses.asdict(self), "outcome": str(self.outcome)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Result:
        """From `to_dict`."""
        return cls(**{**fields, "outcome": CaseOutcome(fields["outcome"])})


@dataclasses.dataclass(frozen=True)
class Entry:
    """One Subject or Task of a source.

    Attributes:
        name: unique in its source.
        digest: a hash of its source code and example.
        column: of a Task.
        is_task: whether it is a Task.
        is_dynamic: whether it is a Subject with dynamic dimensions.
    """

    name: str
    digest: str
    column: str = ""
    is_task: bool = False
    is_dynamic: bool = False

    def to_list(self) -> list[Any]:
        """Its fields in JSON types."""
        return list(dataclasses.astuple(self))
