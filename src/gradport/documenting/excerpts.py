"""The source lines of Findings, so that a page shows them without the files."""

from __future__ import annotations

import dataclasses
import linecache
from collections.abc import Iterator

from gradport.evidence.evidence import Evidence, line_of

__all__ = ["with_excerpts"]

_AROUND = 12
"""Lines before and after."""

_MOST = 8


def with_excerpts(evidence: Evidence) -> Evidence:
    """The Evidence with `excerpts` in its `source`: `file`, `first` (a line number) and `text`, around the lines of the
    Subject, of Findings that did not pass, and of the first node that differs. Unreadable files are skipped."""
    wanted: dict[str, list[int]] = {}
    for file, line in _places(evidence):
        wanted.setdefault(file, []).append(line)
    excerpts = [one for file, lines in wanted.items() for one in _cut_excerpts(file, sorted(lines))]
    return dataclasses.replace(evidence, source={**evidence.source, "excerpts": excerpts[:_MOST]})


def _places(evidence: Evidence) -> Iterator[tuple[str, int]]:
    if evidence.source.get("file") and evidence.source.get("line"):
        yield evidence.source["file"], int(evidence.source["line"])
    locations = [finding.where for finding in evidence.findings if not finding.outcome.passes]
    locations += [node.get("place") for node in evidence.series.get("divergence", []) if node.get("first")]
    yield from (line for place in locations if (line := line_of(place)) is not None)


def _cut_excerpts(file: str, lines: list[int]) -> Iterator[dict[str, object]]:
    """An excerpt for each group of nearby lines."""
    text = linecache.getlines(file)
    spans: list[tuple[int, int]] = []
    for line in (line for line in lines if line <= len(text)):
        low, high = max(1, line - _AROUND), min(len(text), line + _AROUND)
        if spans and low <= spans[-1][1] + 1:
            low = spans.pop()[0]
        spans.append((low, high))
    yield from ({"file": file, "first": low, "text": "".join(text[low - 1 : high])} for low, high in spans)
