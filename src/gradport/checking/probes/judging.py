"""Makes Findings about a Trial in one place, so that all have the same form."""

from __future__ import annotations

from gradport.checking.probes.trial import Trial
from gradport.evidence.evidence import Finding, Outcome, Severity

__all__ = ["judge", "note", "skip", "warn"]


def judge(
    trial: Trial,
    rule: str,
    about: str,
    held: bool,
    message: str,
    *,
    kind: str = "",
    figure: float | None = None,
    unit: str = "",
    input: str | None = None,
) -> Finding:
    """A Finding that is ok or failed."""
    return Finding(
        key=f"{rule}/{about}" if about else rule,
        rule=rule,
        outcome=Outcome.OK if held else Outcome.FAILED,
        kind=kind,
        severity=Severity.INFO if held else Severity.ERROR,
        figure=figure,
        unit=unit,
        input=input,
        where=trial.where(),
        message=message,
    )


def note(trial: Trial, rule: str, about: str, message: str, *, kind: str = "", figure: float | None = None) -> Finding:
    """A Finding for information, not a mistake."""
    return Finding(
        f"{rule}/{about}", rule, Outcome.OK, kind, Severity.INFO, figure, where=trial.where(), message=message
    )


def warn(trial: Trial, rule: str, about: str, message: str, *, kind: str, figure: float | None = None) -> Finding:
    """A warning: something fails elsewhere, and it is not the author's mistake."""
    return Finding(
        f"{rule}/{about}", rule, Outcome.OK, kind, Severity.WARNING, figure, where=trial.where(), message=message
    )


def skip(trial: Trial, rule: str, about: str, reason: str) -> Finding:
    """A skipped Finding with its reason."""
    key = f"{rule}/{about}" if about else rule
    return Finding(key, rule, Outcome.SKIPPED, where=trial.where(), message=f"Skipped: {reason}.")
