"""The page of a run: the result in one sentence and one bar, a table of all Subjects, then each Subject.

It is made only from Evidence. It is one file, which loads nothing from a network.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity, line_of
from gradport.evidence.series import Series, SweepCell
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
from gradport.reporting.finding_table import findings_table, outcome_text, worst_outcome
from gradport.reporting.html import single_file
from gradport.reporting.measured import divergence_figure, draw_blocks

__all__ = ["run_html", "run_page"]

_OUTCOMES = (Outcome.FAILED, Outcome.ERROR, Outcome.UNDECIDED, Severity.WARNING, Outcome.OK, Outcome.SKIPPED)

Named = Sequence[tuple[str, Evidence]]
"""Evidences, each with its source: a command, or the id of a test."""


def run_html(title: str, entries: Named, *, model: str = "") -> str:
    """The page as one file of HTML."""
    return single_file(run_page(title, entries, model=model))


def run_page(title: str, entries: Named, *, model: str = "") -> Page:
    """The page of many Evidences, or of one.

    Args:
        title: its title.
        entries: the Evidences with their sources.
        model: path of the model, relative to the page.
    """
    subjects = _by_subject(entries)
    sections = [Section("", [*_summary(subjects), *(_model(model) if model else [])])]
    if len(subjects) > 1:
        sections.append(Section("Subjects", [_table(subjects)]))
    places = _Places()
    for subject in subjects:
        blocks: list[Block] = []
        for source, evidence in subject.entries:
            blocks.append(Paragraph((Badge(worst_outcome([evidence])), f" {source}")))
            opened = not evidence.ok or len(entries) == 1
            findings = list(_findings(evidence, places))
            blocks.append(Details((f"{len(evidence.findings)} findings",), findings, open=opened))
        sections.append(Section(subject.heading, blocks))
    if entries:
        sections.append(Section("Environment", [_environment(entries)]))
    return Page("index", title, [], sections)


@dataclasses.dataclass(frozen=True)
class _Subject:
    """The Evidences about one Subject: a check, and a verification of its export.

    Attributes:
        heading: of its section.
        entries: the Evidences with their sources.
    """

    heading: str
    entries: Named

    @property
    def name(self) -> str:
        return self.entries[0][1].subject

    @property
    def evidences(self) -> list[Evidence]:
        return [evidence for _, evidence in self.entries]

    @property
    def findings(self) -> list[Finding]:
        return [finding for evidence in self.evidences for finding in evidence.findings]

    @property
    def outcome(self) -> Outcome:
        return worst_outcome(self.evidences)


def _by_subject(entries: Named) -> list[_Subject]:
    """Groups adjacent Evidences with the same name and without common Findings as one Subject."""
    groups: list[list[tuple[str, Evidence]]] = []
    for source, evidence in entries:
        last = groups[-1] if groups else []
        keys = {finding.key for _, other in last for finding in other.findings}
        same = bool(last) and last[0][1].subject == evidence.subject
        if same and keys.isdisjoint(finding.key for finding in evidence.findings):
            last.append((source, evidence))
        else:
            groups.append([(source, evidence)])
    return [_Subject(f"{number}. {group[0][1].subject}", group) for number, group in enumerate(groups, 1)]


def _summary(subjects: Sequence[_Subject]) -> Iterator[Block]:
    """The result in one sentence and one bar."""
    if not subjects:
        yield Paragraph(("Nothing was measured.",))
        return
    if len(subjects) == 1:
        yield Paragraph((_headline(subjects[0]),))
        counts = collections.Counter(outcome_text(finding) for finding in subjects[0].findings)
    else:
        counts = collections.Counter(str(subject.outcome) for subject in subjects)
        undecided = [subject.name for subject in subjects if subject.outcome is Outcome.UNDECIDED]
        bad = [subject.name for subject in subjects if subject.outcome in (Outcome.FAILED, Outcome.ERROR)]
        parts = [f"{counts[Outcome.OK]} of {len(subjects)} subjects ok"]
        parts += [f"{_names(bad)} {'is' if len(bad) == 1 else 'are'} not ok"] if bad else []
        parts += [f"{_names(undecided)} {'is' if len(undecided) == 1 else 'are'} undecided"] if undecided else []
        yield Paragraph((f"{'; '.join(parts)}.",))
    yield Bar({name: counts[name] for name in _OUTCOMES if counts[name]})


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")


def _headline(subject: _Subject) -> str:
    if subject.outcome is Outcome.OK:
        return f"All checks of {subject.name} are ok."
    state = "is undecided" if subject.outcome is Outcome.UNDECIDED else "is not ok"
    first = _first_bad(subject)
    return f"{subject.name} {state}: {first.message}" if first else f"{subject.name} {state}."


def _first_bad(subject: _Subject) -> Finding | None:
    """The Finding of the headline: the first with the Subject's outcome, else the first that does not pass."""
    bad = [finding for finding in subject.findings if not finding.outcome.passes]
    return next((finding for finding in bad if finding.outcome is subject.outcome), bad[0] if bad else None)


def _model(model: str) -> list[Block]:
    name = model.rpartition("/")[2]
    return [
        Paragraph(("The model: ", FileLink(name, model), "; ", Code(f"gradport view {name}"), " opens it in Netron."))
    ]


def _table(subjects: Sequence[_Subject]) -> Table:
    """A table with a row for each Subject; Subjects that are not ok come first."""
    rows: list[list[Line]] = []
    for subject in sorted(subjects, key=lambda subject: _OUTCOMES.index(subject.outcome)):
        first = _first_bad(subject)
        findings = subject.findings
        held = sum(finding.outcome is Outcome.OK for finding in findings)
        kinds = dict.fromkeys(f.kind for f in findings if f.rule == "differences" and f.kind)
        worst = max((f.figure for f in findings if f.unit == "ULP" and f.figure is not None), default=None)
        rows.append(
            [
                (Link(subject.name, anchor=Section(subject.heading, ()).anchor),),
                (Badge(subject.outcome),),
                (", ".join(kinds),),
                (f"{held} of {len(findings)}",),
                ("" if worst is None else f"{worst:.3g} ULP",),
                (first.message if first else "",),
            ]
        )
    head = ("subject", "outcome", "gradient", "findings ok", "worst error", "what is not ok")
    return Table(head, rows, searchable=True)


class _Places:
    """Numbers the excerpts of a page, so that each has distinct anchors."""

    def __init__(self) -> None:
        self._count = 0

    def next(self) -> str:
        """The prefix of the anchors of the next excerpt."""
        self._count += 1
        return f"L{self._count}"


def _findings(evidence: Evidence, places: _Places) -> Iterator[Block]:
    excerpts = [(places.next(), excerpt) for excerpt in evidence.source.get("excerpts", [])]
    anchor = _anchors(excerpts)
    href = lambda place: f"#{anchor(place)}" if anchor(place) else ""  # noqa: E731
    yield from draw_blocks(evidence, Series.DIVERGENCE, lambda nodes: [divergence_figure("", evidence, nodes, href)])
    yield from draw_blocks(evidence, Series.SWEEP, lambda cells: [_matrix(cells)])
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
    """A function from `file:line` to the anchor of this line; empty if no excerpt shows it."""

    def anchor(place: str) -> str:
        file, line = line_of(place) or ("", 0)
        for prefix, excerpt in excerpts:
            last = excerpt["first"] + excerpt["text"].count("\n")
            if file == excerpt["file"] and excerpt["first"] <= line <= last:
                return f"{prefix}-{line}"
        return ""

    return anchor


def _brief(place: str) -> str:
    """A path without the folder of installed packages."""
    return re.sub(r"^.*site-packages/", "", place)


def _matrix(cells: Sequence[SweepCell]) -> Table:
    axes = [a for a in ("opset", "dtype", "dynamic", "functions", "runtime") if any(c[a] is not None for c in cells)]  # type: ignore[literal-required]
    rows: list[list[Line]] = [
        [
            *((str(cell[axis]),) for axis in axes),  # type: ignore[literal-required]
            (Badge(cell["outcome"]),),
            ("" if cell["figure"] is None else f"{float(cell['figure']):.3g}",),
            (cell["message"],),
        ]
        for cell in cells
    ]
    return Table((*axes, "outcome", "ULPs", "why"), rows, searchable=True, caption="Every setting")


def _environment(entries: Named) -> Table:
    versions: dict[str, str] = {}
    for _, evidence in entries:
        versions |= {name: str(version) for name, version in evidence.environment.items()}
    return Table(("", ""), [((name,), (version,)) for name, version in versions.items()])
