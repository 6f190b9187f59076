"""The page of two Evidences: Findings that are better, worse, new or gone, and slower timings."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from gradport.evidence.changes import KINDS, Change
from gradport.evidence.evidence import Evidence, Finding
from gradport.reporting.document import Badge, Bar, Block, Code, Line, Page, Paragraph, Section, Table
from gradport.reporting.finding_table import figure_of_finding, outcome_text
from gradport.reporting.html import single_file

__all__ = ["difference_html", "difference_page"]


def difference_html(before: Evidence, after: Evidence, changes: Sequence[Change]) -> str:
    """The page as one file of HTML."""
    return single_file(difference_page(before, after, changes))


def difference_page(before: Evidence, after: Evidence, changes: Sequence[Change]) -> Page:
    """The page with the result of `compare`, and the differences of the environments."""
    counts = collections.Counter(change.kind for change in changes)
    spoken = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    blocks: list[Block] = [Paragraph((f"{spoken}." if changes else "Nothing changed.",))]
    if changes:
        blocks += [Bar({kind: counts[kind] for kind in KINDS if counts[kind]}), _table(changes)]
    title = f"{before.subject} before and after"
    if before.subject != after.subject:
        title = f"{before.subject} and {after.subject}"
    return Page("index", title, [], [Section("", blocks), Section("Environment", [_environments(before, after)])])


def _table(changes: Sequence[Change]) -> Table:
    rows: list[list[Line]] = [
        [(Badge(c.kind),), (Code(c.key),), _side(c.before), _side(c.after), (c.message,)] for c in changes
    ]
    return Table(("change", "what", "before", "after", "in words"), rows, searchable=True)


def _side(finding: Finding | None) -> Line:
    return ("",) if finding is None else (Badge(outcome_text(finding)), f" {figure_of_finding(finding)}")


def _environments(before: Evidence, after: Evidence) -> Block:
    names = {**before.environment, **after.environment}
    rows: list[list[Line]] = [
        [(name,), (str(before.environment.get(name, "")),), (str(after.environment.get(name, "")),)]
        for name in names
        if before.environment.get(name) != after.environment.get(name)
    ]
    if not rows:
        return Paragraph(("Both were measured with the same versions.",))
    return Table(("", "before", "after"), rows)
