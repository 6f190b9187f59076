"""Compares two campaigns case by case."""

from __future__ import annotations

import dataclasses
import enum
import math
import statistics
from collections.abc import Iterator, Sequence

from gradport.campaigning.store import Row

__all__ = ["Difference", "Kind", "compare_rows"]

_LEAST_RATIO = 1.5
_LEAST_SECONDS = 0.1
"""A case is slower only if its time grew by this factor and by these seconds."""

_DEVIATIONS = 5.0
"""And by more than this many deviations of all cases: the noise of the two runs."""


class Kind(enum.StrEnum):
    """Kinds of differences, the worst first."""

    BROKEN = "broken"
    SLOWER = "slower"
    GONE = "gone"
    CHANGED = "changed"
    NEW = "new"
    FASTER = "faster"
    REPAIRED = "repaired"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One case that differs.

    Attributes:
        kind: broken and repaired: from or to ok; changed: from one reason to another; slower and faster: in processor
            time, by more than the noise of all cases; new and gone.
        subject, column: its place in the matrix.
        before, after: the rows; None where the case does not exist.
        message: one sentence.
    """

    kind: Kind
    subject: str
    column: str
    before: Row | None
    after: Row | None
    message: str


def compare_rows(before: Sequence[Row], after: Sequence[Row]) -> tuple[Difference, ...]:
    """The differences between two campaigns, the worst first.

    Cases are matched by source, subject, action and setting.
    """
    old, new = {row.id: row for row in before}, {row.id: row for row in after}
    shift, noise = _noise([(old[id], new[id]) for id in old.keys() & new.keys()])
    found = [
        difference
        for id in {**old, **new}
        if (difference := _difference(old.get(id), new.get(id), shift, noise)) is not None
    ]
    order = list(Kind)
    return tuple(sorted(found, key=lambda one: (order.index(one.kind), one.subject, one.column)))


def _difference(before: Row | None, after: Row | None, shift: float, noise: float) -> Difference | None:
    row = after or before
    assert row is not None
    for kind, message in _kinds(before, after, shift, noise):
        return Difference(kind, row.subject, row.column, before, after, message)
    return None


def _kinds(before: Row | None, after: Row | None, shift: float, noise: float) -> Iterator[tuple[Kind, str]]:
    if before is None or after is None:
        yield (Kind.NEW, f"new: {_told(after)}") if after is not None else (Kind.GONE, f"gone: it was {_told(before)}")
        return
    if before.outcome != after.outcome:
        passes = before.outcome.passes, after.outcome.passes
        kind = {(True, False): Kind.BROKEN, (False, True): Kind.REPAIRED}.get(passes, Kind.CHANGED)
        yield kind, f"{before.outcome}, now {_told(after)}"
        return
    ratio, seconds = _ratio(before, after), after.processor_seconds - before.processor_seconds
    if before.outcome.passes and ratio is not None and abs(seconds) > _LEAST_SECONDS:
        limit = max(math.log(_LEAST_RATIO), _DEVIATIONS * noise)
        if abs(ratio - shift) > limit and (ratio > shift) == (seconds > 0):
            times = f"{before.processor_seconds:.2g} s, now {after.processor_seconds:.2g} s of processor time"
            yield (Kind.SLOWER if ratio > shift else Kind.FASTER), times


def _told(row: Row | None) -> str:
    assert row is not None
    return str(row.outcome) + (f": {row.message}" if row.message else "")


def _noise(pairs: Sequence[tuple[Row, Row]]) -> tuple[float, float]:
    """The median of the logarithms of all ratios, and their deviation from it (1.4826 times the median deviation)."""
    ratios = [ratio for before, after in pairs if (ratio := _ratio(before, after)) is not None]
    if len(ratios) < 3:
        return 0.0, 0.0
    shift = statistics.median(ratios)
    return shift, 1.4826 * statistics.median(abs(ratio - shift) for ratio in ratios)


def _ratio(before: Row, after: Row) -> float | None:
    """The logarithm of the ratio of two times; None where one is zero."""
    if before.processor_seconds <= 0 or after.processor_seconds <= 0:
        return None
    return math.log(after.processor_seconds / before.processor_seconds)
