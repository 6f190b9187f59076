"""Two Evidences of one Subject: what got better, what got worse, what is new and what is gone."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator

from gradport.evidence.evidence import Evidence, Finding, Outcome

__all__ = ["KINDS", "Change", "compare"]

KINDS = ("worse", "gone", "slower", "new", "larger", "smaller", "faster", "better")
"""Kinds of changes, the worst first."""

_RANK = {Outcome.OK: 3, Outcome.SKIPPED: 2, Outcome.UNDECIDED: 1, Outcome.FAILED: 0, Outcome.ERROR: 0}

_PACE = 1.5
"""Times that differ less are what a busy machine makes of the same code."""

_NOTABLE = 2.0
"""A figure that is so many times another is a change of its own."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        key: of the Finding.
        kind: "better" or "worse" (its outcome), "larger" or "smaller" (its figure, by a factor of two at least), "new"
            or "gone"; of a timing "slower" or "faster", by half at least.
        before, after: the Findings; None where there is none, and of a timing, whose key is `timings/<way>/<phase>`.
        message: one sentence.
    """

    key: str
    kind: str
    before: Finding | None
    after: Finding | None
    message: str


def compare(before: Evidence, after: Evidence) -> tuple[Change, ...]:
    """What changed from one Evidence to another, Finding by Finding, worst first.

    Findings are matched by their keys, which are stable across runs; what is the same is left out. Timings are matched
    by way, phase and sizes, and told as the median of their ratios.
    """
    old = {finding.key: finding for finding in before.findings}
    new = {finding.key: finding for finding in after.findings}
    found = [change for key in {**old, **new} if (change := _change(key, old.get(key), new.get(key))) is not None]
    found += _paces(before, after)
    return tuple(sorted(found, key=lambda change: KINDS.index(change.kind)))


def _change(key: str, before: Finding | None, after: Finding | None) -> Change | None:
    if before is None or after is None:
        present = after or before
        assert present is not None
        kind = "new" if before is None else "gone"
        return Change(key, kind, before, after, f"{key} is {kind}: {present.outcome}. {present.message}")
    if _RANK[before.outcome] != _RANK[after.outcome]:
        kind = "better" if _RANK[after.outcome] > _RANK[before.outcome] else "worse"
        return Change(key, kind, before, after, f"{key} was {before.outcome} and is {after.outcome}: {after.message}")
    if before.figure and after.figure and before.unit == after.unit and _differ(before.figure, after.figure):
        ratio = after.figure / before.figure
        if not 1 / _NOTABLE < ratio < _NOTABLE:
            kind = "larger" if ratio > 1 else "smaller"
            said = f"{key} was {before.figure:.3g} and is {after.figure:.3g} {after.unit}".rstrip()
            return Change(key, kind, before, after, f"{said}.")
    return None


def _differ(before: float, after: float) -> bool:
    """Whether two figures are to be compared: equal infinities and nan twice are the same."""
    return before != after and not (math.isnan(before) and math.isnan(after))


def _paces(before: Evidence, after: Evidence) -> Iterator[Change]:
    old, new = _times(before), _times(after)
    ratios: dict[tuple[str, str], list[float]] = {}
    for key in old.keys() & new.keys():
        ratios.setdefault(key[:2], []).append(new[key] / old[key])
    for (way, phase), found in sorted(ratios.items()):
        ratio = statistics.median(found)
        if not 1 / _PACE < ratio < _PACE:
            what = f"timings/{way}/{phase}"
            kind = "slower" if ratio > 1 else "faster"
            yield Change(what, kind, None, None, f"{what} takes {ratio:.2f} times as long as before.")


def _times(evidence: Evidence) -> dict[tuple[str, str, str], float]:
    rows = evidence.series.get("timings", {}).get("rows", [])
    return {
        (row["way"], row["phase"], str(sorted(row["sizes"].items()))): float(row["milliseconds"])
        for row in rows
        if 0 < float(row["milliseconds"]) < math.inf
    }
