"""Compares two Evidences of one Subject: Findings that are better, worse, new or gone."""

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
"""Ratio of times below which a difference may come from a busy machine."""

_NOTABLE = 2.0
"""Ratio of two figures from which a difference is a change."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        key: of the Finding.
        kind: "better" or "worse" (its outcome), "larger" or "smaller" (its figure, by a factor of 2 or more), "new"
            or "gone"; for a timing "slower" or "faster", by a factor of 1.5 or more.
        before, after: the Findings, or None; None for a timing, whose key is `timings/<way>/<phase>`.
        message: one sentence.
    """

    key: str
    kind: str
    before: Finding | None
    after: Finding | None
    message: str


def compare(before: Evidence, after: Evidence) -> tuple[Change, ...]:
    """The changes from one Evidence to another, worst first.

    Findings are matched by their keys, which are stable across runs; equal Findings are omitted. Timings are matched by
    way, phase and sizes, and compared by the median of their ratios.
    """
    old = {finding.key: finding for finding in before.findings}
    new = {finding.key: finding for finding in after.findings}
    changes = [change for key in {**old, **new} if (change := _change(key, old.get(key), new.get(key))) is not None]
    changes += _timing_changes(before, after)
    return tuple(sorted(changes, key=lambda change: KINDS.index(change.kind)))


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
            message = f"{key} was {before.figure:.3g} and is {after.figure:.3g} {after.unit}".rstrip()
            return Change(key, kind, before, after, f"{message}.")
    return None


def _differ(before: float, after: float) -> bool:
    """Whether two figures differ; equal infinities and two nan do not."""
    return before != after and not (math.isnan(before) and math.isnan(after))


def _timing_changes(before: Evidence, after: Evidence) -> Iterator[Change]:
    old, new = _times(before), _times(after)
    ratios: dict[tuple[str, str], list[float]] = {}
    for key in old.keys() & new.keys():
        ratios.setdefault(key[:2], []).append(new[key] / old[key])
    for (way, phase), each in sorted(ratios.items()):
        ratio = statistics.median(each)
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
