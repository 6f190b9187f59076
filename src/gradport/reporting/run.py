"""The page of a run: what held in one sentence and one bar, a table of all Subjects, then each of them.

Evidence is all that it is drawn from. It stands alone: one file, which asks nothing of any network.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity, line_of
from gradport.reporting.document import (
    Badge,
    Bar,
    Block,
    Code,
    Details,
    FileLink,
    Line,
    Link,
    Listing,
    Page,
    Paragraph,
    Section,
    Table,
)
from gradport.reporting.findings import findings_table, outcome_text
from gradport.reporting.html import alone
from gradport.reporting.measured import divergence_figure, draw_blocks

__all__ = ["run_html", "run_page"]

_OUTCOMES = (Outcome.FAILED, Outcome.ERROR, Outcome.UNDECIDED, Severity.WARNING, Outcome.OK, Outcome.SKIPPED)

Named = Sequence[tuple[str, Evidence]]
"""Evidences, each with what it comes from: a command, or the id of a test."""


def run_html(title: str, found: Named, *, model: str = "") -> str:
    """The page as one file of HTML."""
    return alone(run_page(title, found, model=model))


def run_page(title: str, found: Named, *, model: str = "") -> Page:
    """The page of many Evidences, or of one.

    Args:
        title: of it.
        found: what is shown.
        model: path of the model that it is about, relative to the page.
    """
    sections = [Section("", [*_summary(found), *(_model(model) if model else [])])]
    if len(found) > 1:
        sections.append(Section("Subjects", [_table(found)]))
    places = _Places()
    for number, (source, evidence) in enumerate(found, 1):
        blocks = list(_subject(number, evidence, places))
        folded = Details((f"{len(evidence.findings)} findings",), blocks, open=not evidence.ok or len(found) == 1)
        lead = Paragraph((Badge(Outcome.OK if evidence.ok else Outcome.FAILED), f" {source}"))
        sections.append(Section(_heading(number, evidence), [lead, folded]))
    if found:
        sections.append(Section("Environment", [_environment(found)]))
    return Page("index", title, [], sections)


def _heading(number: int, evidence: Evidence) -> str:
    return f"{number}. {evidence.subject}"


def _summary(found: Named) -> Iterator[Block]:
    """What held and what did not, in one sentence and one bar."""
    bad = [evidence for _, evidence in found if not evidence.ok]
    if not found:
        yield Paragraph(("Nothing was measured.",))
        return
    if len(found) == 1:
        yield Paragraph((_of_one(found[0][1]),))
        counts = collections.Counter(outcome_text(finding) for finding in found[0][1].findings)
    else:
        names = ", ".join(evidence.subject for evidence in bad[:3]) + (" and others" if len(bad) > 3 else "")
        does = "does" if len(bad) == 1 else "do"
        yield Paragraph((f"{len(found) - len(bad)} of {len(found)} hold" + (f"; {names} {does} not." if bad else "."),))
        counts = collections.Counter(Outcome.OK if evidence.ok else Outcome.FAILED for _, evidence in found)
    yield Bar({name: counts[name] for name in _OUTCOMES if counts[name]})


def _of_one(evidence: Evidence) -> str:
    if evidence.ok:
        return f"All that was asked of {evidence.subject} holds."
    first = _first_bad(evidence)
    return f"{evidence.subject} does not hold: {first.message}" if first else f"{evidence.subject} does not hold."


def _first_bad(evidence: Evidence) -> Finding | None:
    return next((f for f in evidence.findings if not f.outcome.passes), None)


def _model(model: str) -> list[Block]:
    name = model.rpartition("/")[2]
    return [
        Paragraph(("The model: ", FileLink(name, model), "; ", Code(f"gradport view {name}"), " opens it in Netron."))
    ]


def _table(found: Named) -> Table:
    rows: list[list[Line]] = []
    for number, (source, evidence) in enumerate(found, 1):
        first = _first_bad(evidence)
        outcome = Outcome.OK if evidence.ok else first.outcome if first else Outcome.FAILED
        link = Link(evidence.subject, anchor=Section(_heading(number, evidence), ()).anchor)
        held = sum(finding.outcome == Outcome.OK for finding in evidence.findings)
        kinds = dict.fromkeys(f.kind for f in evidence.findings if f.rule == "differences" and f.kind)
        worst = max((f.figure for f in evidence.findings if f.unit == "ULP" and f.figure is not None), default=None)
        rows.append(
            [
                (link,),
                (Badge(outcome),),
                (", ".join(kinds),),
                (str(held),),
                ("" if worst is None else f"{worst:.3g}",),
                (source,),
                (first.message if first else "",),
            ]
        )
    head = ("subject", "outcome", "gradient", "ok", "worst ULPs", "from", "what does not hold")
    return Table(head, rows, searchable=True)


class _Places:
    """Numbers the excerpts of a page, so that each has anchors of its own."""

    def __init__(self) -> None:
        self._count = 0

    def next(self) -> str:
        """The prefix of the anchors of one more excerpt."""
        self._count += 1
        return f"L{self._count}"


def _subject(number: int, evidence: Evidence, places: _Places) -> Iterator[Block]:
    excerpts = [(places.next(), excerpt) for excerpt in evidence.source.get("excerpts", [])]
    anchor = _anchors(excerpts)
    if evidence.series.get("divergence"):
        href = lambda place: f"#{anchor(place)}" if anchor(place) else ""  # noqa: E731
        yield from draw_blocks("divergence", lambda: [divergence_figure("", evidence, href)])
    if evidence.series.get("sweep"):
        yield from draw_blocks("matrix", lambda: [_matrix(evidence.series["sweep"])])
    for finding in evidence.findings:
        place = anchor(finding.where or "")
        if not finding.outcome.passes and finding.where:
            where = Link(_brief(finding.where), anchor=place) if place else Code(_brief(finding.where))
            shown = f" Shown by {finding.input}." if finding.input else ""
            yield Paragraph((Badge(finding.outcome), f" {finding.message}{shown} At ", where, "."))
    yield findings_table(evidence.findings, f"Findings about {evidence.subject}")
    for prefix, excerpt in excerpts:
        yield Paragraph((Code(_brief(excerpt["file"])), f", from line {excerpt['first']}:"))
        yield Listing(excerpt["text"], "python", excerpt["first"], prefix)


def _anchors(excerpts: Sequence[tuple[str, Mapping[str, Any]]]) -> Callable[[str], str]:
    """From `file:line` to the anchor of that line, or nothing where no excerpt shows it."""

    def anchor(place: str) -> str:
        file, line = line_of(place) or ("", 0)
        for prefix, excerpt in excerpts:
            last = excerpt["first"] + excerpt["text"].count("\n")
            if file == excerpt["file"] and excerpt["first"] <= line <= last:
                return f"{prefix}-{line}"
        return ""

    return anchor


def _brief(place: str) -> str:
    """A path without what leads to the packages of an environment."""
    return re.sub(r"^.*site-packages/", "", place)


def _matrix(cells: Sequence[Mapping[str, Any]]) -> Table:
    axes = [a for a in ("opset", "dtype", "dynamic", "functions", "runtime") if any(c[a] is not None for c in cells)]
    rows: list[list[Line]] = [
        [
            *((str(cell[axis]),) for axis in axes),
            (Badge(cell["outcome"]),),
            ("" if cell["figure"] is None else f"{float(cell['figure']):.3g}",),
            (cell["message"],),
        ]
        for cell in cells
    ]
    return Table((*axes, "outcome", "ULPs", "why"), rows, searchable=True, caption="Every setting")


def _environment(found: Named) -> Table:
    versions: dict[str, str] = {}
    for _, evidence in found:
        versions |= {name: str(version) for name, version in evidence.environment.items()}
    return Table(("", ""), [((name,), (version,)) for name, version in versions.items()])
