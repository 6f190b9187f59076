"""Sweeps: exports and verifies one Subject under many settings; the result is a matrix."""

from __future__ import annotations

import copy
import dataclasses
import enum
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from gradport.eager.inputs import with_example
from gradport.errors import Error, SpecError
from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity, environment
from gradport.exporting.export import export
from gradport.isolation.effort import Deadline, as_seconds
from gradport.subject.given import Arguments, Keywords, Target
from gradport.subject.leaves import map_leaves
from gradport.subject.signature import source_of
from gradport.subject.spec import DTYPES, short_dtype
from gradport.subject.subject import ABOUT, Subject, as_subject
from gradport.verifying.verify import verify

__all__ = ["CellOutcome", "Setting", "settings", "sweep"]


class CellOutcome(enum.StrEnum):
    """The outcome of one cell: an Outcome, or the reason why the cell has none."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNDECIDED = "undecided"
    ERROR = "error"
    REFUSED = "refused"
    NO_KERNEL = "no kernel"


@dataclasses.dataclass(frozen=True)
class Setting:
    """One cell of a sweep; None keeps the value of the Subject."""

    opset: int | None = None
    dtype: torch.dtype | None = None
    dynamic: bool | None = None
    functions: str | None = None
    runtime: str | None = None

    def __str__(self) -> str:
        parts = [
            f"opset{self.opset}" if self.opset is not None else "",
            short_dtype(self.dtype) if self.dtype is not None else "",
            {True: "dynamic", False: "static", None: ""}[self.dynamic],
            self.functions or "",
            self.runtime or "",
        ]
        return "-".join(filter(None, parts)) or "default"

    def apply(self, subject: Subject) -> Subject:
        """The Subject in this setting's dtype, and without dynamic dimensions if the setting is static.

        Raises:
            SpecError: the setting is dynamic and the Subject has no dynamic dimension.
        """
        subject = with_example(subject)
        if self.dtype is not None:
            subject = _cast_subject(subject, self.dtype)
        if self.dynamic is False:
            return subject.replace(dynamic_shapes=None)
        if self.dynamic and not subject.dynamic_shapes:
            raise SpecError(f"{subject.name} has no dynamic dimension; set dynamic_shapes, or omit dynamic.")
        return subject

    def export_program(self, subject: Subject, **options: Any) -> Any:
        """Exports a Subject returned by `apply` and returns its Program."""
        if self.opset is not None:
            options["opset_version"] = self.opset
        if self.functions is not None:
            options["functions"] = self.functions
        return export(subject, **options)


def settings(
    opsets: Sequence[int] = (),
    dtypes: Sequence[torch.dtype | str] = (),
    dynamic: Sequence[bool] = (),
    functions: Sequence[str] = (),
    runtimes: Sequence[str] = (),
) -> list[Setting]:
    """All combinations; an empty axis keeps the value of the Subject. A dtype may be a short name (`f16`).

    Raises:
        SpecError: a dtype is unknown.
    """
    known = [_dtype(dtype) for dtype in dtypes]
    axes: list[list[Any]] = [list(axis) or [None] for axis in (opsets, known, dynamic, functions, runtimes)]
    return [Setting(*cell) for cell in itertools.product(*axes)]


def sweep(
    subject: Target,
    args: Arguments = (),
    kwargs: Keywords = None,
    *,
    opsets: Sequence[int] = (),
    dtypes: Sequence[torch.dtype] = (),
    dynamic: Sequence[bool] = (),
    functions: Sequence[str] = (),
    runtimes: Sequence[str] = (),
    budget: float = 1.0,
    time_limit: float | str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda what: None,
    **export_options: Any,
) -> Evidence:
    """Exports and verifies a Subject under every combination of settings.

    Args:
        subject, args, kwargs: as for `export`.
        opsets, dtypes, dynamic, functions, runtimes: the axes; an empty axis keeps the value of the Subject.
        budget: factor of the amount of work for each cell.
        time_limit: seconds, or a text such as "30s", after which no further cell starts; the remaining cells are
            undecided.
        seed: of the inputs.
        progress: called with the name of each cell before it starts.
        **export_options: other arguments of `export` (wrt, loss, targets, random, ...).

    Returns:
        Evidence with one Finding for each cell and the matrix in `series["sweep"]`: a list of cells with the value
        on each axis, the outcome ("ok", "failed", "undecided", "refused", "no kernel"), the worst figure in ULPs
        and the reason.
    """
    about = {key: export_options.pop(key) for key in ABOUT if key in export_options}
    described = as_subject(subject, args, kwargs, **about)
    cells = settings(opsets, dtypes, dynamic, functions, runtimes)
    deadline = Deadline(as_seconds(time_limit))
    rows = []
    for setting in cells:
        if deadline.is_over:
            rows.append(_late_cell(setting, deadline))
            continue
        progress(str(setting))
        rows.append(_cell(described, setting, budget, seed, export_options))
    file, line = source_of(described.target)
    return Evidence(
        subject=described.name,
        findings=tuple(_findings(rows, f"{file}:{line}" if file else None)),
        series={"sweep": rows},
        source={"file": file, "line": line},
        environment=environment(),
    )


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    known = getattr(torch, DTYPES.get(dtype, dtype), None) if isinstance(dtype, str) else dtype
    if not isinstance(known, torch.dtype):
        raise SpecError(f"{dtype!r} is not a dtype; known dtypes are {', '.join(DTYPES)}.")
    return known


def _axes(setting: Setting) -> dict[str, Any]:
    return {
        "opset": setting.opset,
        "dtype": None if setting.dtype is None else short_dtype(setting.dtype),
        "dynamic": setting.dynamic,
        "functions": setting.functions,
        "runtime": setting.runtime,
    }


def _late_cell(setting: Setting, deadline: Deadline) -> dict[str, Any]:
    message = f"The time limit of {deadline.seconds:g} s was over before this cell."
    return {
        **_axes(setting),
        "cell": str(setting),
        "outcome": CellOutcome.UNDECIDED,
        "figure": None,
        "message": message,
    }


def _cell(subject: Subject, setting: Setting, budget: float, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    axes = _axes(setting)
    try:
        apply = setting.apply(subject)
        # `verify` below replaces the check of `export`: there, a missing kernel is not a failure
        program = setting.export_program(apply, verify=False, **options)
        names = None if setting.runtime is None else [setting.runtime]
        evidence = verify(program, apply, runtimes=names, budget=budget, seed=seed)
    except Error as error:
        return {**axes, "cell": str(setting), "outcome": CellOutcome.REFUSED, "figure": None, "message": str(error)}
    return {**axes, "cell": str(setting), **_outcome(evidence)}


def _outcome(evidence: Evidence) -> dict[str, Any]:
    compared = [f for f in evidence.findings if f.rule == "agrees-with-eager"]
    figures = [f.figure for f in compared if f.figure is not None]
    worst = next(
        (f for o in (Outcome.FAILED, Outcome.ERROR, Outcome.UNDECIDED) for f in evidence.findings if f.outcome == o),
        None,
    )
    lacking = next((f for f in evidence.findings if f.kind == "no kernel"), None)
    if lacking is not None and (worst is None or not compared):
        return {"outcome": CellOutcome.NO_KERNEL, "figure": None, "message": lacking.message}
    if worst is not None:
        return {"outcome": CellOutcome(worst.outcome), "figure": max(figures, default=None), "message": worst.message}
    if not compared:
        return {"outcome": CellOutcome.SKIPPED, "figure": None, "message": evidence.findings[0].message}
    return {"outcome": CellOutcome.OK, "figure": max(figures, default=None), "message": ""}


_OUTCOMES = {
    **{CellOutcome(outcome): outcome for outcome in Outcome},
    CellOutcome.REFUSED: Outcome.FAILED,
    CellOutcome.NO_KERNEL: Outcome.SKIPPED,
}
_SEVERITIES = {
    Outcome.OK: Severity.INFO,
    Outcome.SKIPPED: Severity.WARNING,
    Outcome.UNDECIDED: Severity.WARNING,
    Outcome.FAILED: Severity.ERROR,
    Outcome.ERROR: Severity.ERROR,
}


def _findings(cells: Sequence[Mapping[str, Any]], place: str | None) -> Iterator[Finding]:
    for cell in cells:
        outcome = _OUTCOMES[cell["outcome"]]
        message = "Exported and verified." if outcome == Outcome.OK else cell["message"]
        yield Finding(
            key=f"sweep/{cell['cell']}",
            rule="sweep",
            outcome=outcome,
            kind=cell["outcome"],
            severity=_SEVERITIES[outcome],
            figure=cell["figure"],
            unit="ULP" if cell["figure"] is not None else "",
            where=place,
            message=message,
        )


def _cast_subject(subject: Subject, dtype: torch.dtype) -> Subject:
    """Casts every floating-point tensor of the arguments, the targets and a copy of the module to a dtype."""

    def cast(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
            return leaf
        return leaf.detach().to(dtype).requires_grad_(leaf.requires_grad)

    target = subject.target
    if isinstance(target, torch.nn.Module):
        target = copy.deepcopy(target).to(dtype)
    return subject.replace(
        target=target,
        name=subject.name,
        args=map_leaves(cast, subject.args),
        kwargs=map_leaves(cast, subject.kwargs),
        targets=map_leaves(cast, subject.targets),
    )
