"""Findings as rows of a table: the outcome, the figure, and the message."""

from __future__ import annotations

from collections.abc import Sequence

from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity
from gradport.reporting.document import Badge, Code, Line, Table

__all__ = ["figure_of_finding", "findings_table", "outcome_text", "worst_outcome"]


def findings_table(findings: Sequence[Finding], caption: str) -> Table:
    """A table with a row for each Finding."""
    rows: list[list[Line]] = [
        [
            (Badge(outcome_text(finding)),),
            (Code(finding.key),),
            (finding.kind,),
            (figure_of_finding(finding),),
            _message(finding),
        ]
        for finding in findings
    ]
    return Table(("outcome", "finding", "kind", "figure", "what it says"), rows, len(rows) > 8, caption)


def outcome_text(finding: Finding) -> str:
    """The outcome, or "warning"."""
    warns = finding.outcome is Outcome.OK and finding.severity is Severity.WARNING
    return Severity.WARNING if warns else finding.outcome


def worst_outcome(evidences: Sequence[Evidence]) -> Outcome:
    """The worst outcome; undecided is better than failed."""
    if all(evidence.ok for evidence in evidences):
        return Outcome.OK
    outcomes = {finding.outcome for evidence in evidences for finding in evidence.findings}
    return next((one for one in (Outcome.FAILED, Outcome.ERROR, Outcome.UNDECIDED) if one in outcomes), Outcome.FAILED)


def figure_of_finding(finding: Finding) -> str:
    """The number and its unit."""
    return "" if finding.figure is None else f"{finding.figure:.3g} {finding.unit}".rstrip()


def _message(finding: Finding) -> Line:
    shown = f" Shown by {finding.input}." if finding.input and not finding.outcome.passes else ""
    return (f"{finding.message}{shown}",)
