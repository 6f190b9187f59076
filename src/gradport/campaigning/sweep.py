"""Sweeps: exports and verifies one Subject under many settings in this process; the result is a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from gradport.campaigning.cases import Case, CaseOutcome, Entry, Options, Result
from gradport.campaigning.planning import Axes, Source, plan_cases
from gradport.campaigning.running import run_case, setting_of
from gradport.campaigning.settings import settings
from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity, environment
from gradport.isolation.effort import Deadline, as_seconds
from gradport.subject.given import Arguments, Keywords, Target
from gradport.subject.signature import source_of
from gradport.subject.subject import ABOUT, as_subject

__all__ = ["sweep"]


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
    axes = Axes(settings(opsets, dtypes, dynamic, functions, runtimes), checks=False)
    options = Options(budget=budget, seed=seed, gradients=False)
    deadline = Deadline(as_seconds(time_limit))
    rows = []
    for one in plan_cases(Source("here"), "", [Entry(described.name, "", is_dynamic=True)], {}, axes, options):
        if not deadline.is_over:
            progress(one.column)
            result = run_case(one.case, described, options, **export_options)
        else:
            late = f"The time limit of {deadline.seconds:g} s was over before this cell."
            result = Result(CaseOutcome.UNDECIDED, message=late)
        rows.append(_cell(one.case, result))
    file, line = source_of(described.target)
    return Evidence(
        subject=described.name,
        findings=tuple(_findings(rows, f"{file}:{line}" if file else None)),
        series={"sweep": rows},
        source={"file": file, "line": line},
        environment=environment(),
    )


def _cell(case: Case, result: Result) -> dict[str, Any]:
    axes = {axis: getattr(case, axis) for axis in ("opset", "dtype", "dynamic", "functions", "runtime")}
    measured = {"outcome": result.outcome, "figure": result.figure, "message": result.message}
    return {**axes, "cell": str(setting_of(case)), **measured}


_OUTCOMES = {
    **{CaseOutcome(outcome): outcome for outcome in Outcome},
    CaseOutcome.REFUSED: Outcome.FAILED,
    CaseOutcome.NO_KERNEL: Outcome.SKIPPED,
}
"""The outcome of a Finding for each outcome of a cell."""

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
