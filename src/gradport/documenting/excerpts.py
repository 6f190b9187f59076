"""The lines of source that Findings speak of, so that a page can show them where the files are not."""

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
    """The same with `excerpts` in its `source`: `file`, `first` (a line number) and `text`, for every place that the
    Subject, a Finding that does not hold or the first node that departs stands at, as far as its file can be read."""
    wanted: dict[str, list[int]] = {}
    for file, line in _places(evidence):
        wanted.setdefault(file, []).append(line)
    excerpts = [one for file, lines in wanted.items() for one in _of(file, sorted(lines))]
    return dataclasses.replace(evidence, source={**evidence.source, "excerpts": excerpts[:_MOST]})


def _places(evidence: Evidence) -> Iterator[tuple[str, int]]:
    if evidence.source.get("file") and evidence.source.get("line"):
        yield evidence.source["file"], int(evidence.source["line"])
    told = [finding.where for finding in evidence.findings if not finding.outcome.passes]
    told += [node.get("place") for node in evidence.series.get("divergence", []) if node.get("first")]
    yield from (found for place in told if (found := line_of(place)) is not None)


def _of(file: str, lines: list[int]) -> Iterator[dict[str, object]]:
    """An excerpt for each group of lines that stand near each other."""
    text = linecache.getlines(file)
    spans: list[tuple[int, int]] = []
    for line in (line for line in lines if line <= len(text)):
        low, high = max(1, line - _AROUND), min(len(text), line + _AROUND)
        if spans and low <= spans[-1][1] + 1:
            low = spans.pop()[0]
        spans.append((low, high))
    yield from ({"file": file, "first": low, "text": "".join(text[low - 1 : high])} for low, high in spans)
