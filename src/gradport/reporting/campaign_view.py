"""A campaign in a terminal: its progress while it runs, and its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["count_line", "progress_view", "reason_table"]

_STYLES = {"ok": "green", "skipped": "dim", "no kernel": "dim", "refused": "yellow", "undecided": "yellow"}


def progress_view(
    total: int, done: int, failing: int, rate: float, seconds_left: float | None, working: Mapping[str, str]
) -> RenderableType:
    """The state of a running campaign: a bar, counts, rate, time left, and a line for each worker."""
    left = "" if seconds_left is None else f", {_duration(seconds_left)} left"
    line = Text(f"{done} of {total} cases, ")
    line.append(f"{failing} not ok", "bold red" if failing else "")
    line.append(f", {rate:.1f} a second{left}")
    table = Table.grid(padding=(0, 2))
    table.add_row(ProgressBar(total=max(total, 1), completed=done, width=20), line)
    for at, (_, case) in enumerate(sorted(working.items()), 1):
        table.add_row(Text(f"worker {at}", "dim"), Text(case or "waits", overflow="ellipsis", no_wrap=True))
    return table


def count_line(counts: Mapping[str, int], resumed: int) -> RenderableType:
    """The number of cases of each outcome."""
    line = Text(f"{sum(counts.values())} cases: ")
    for at, (outcome, count) in enumerate(counts.items()):
        line.append(", " if at else "")
        line.append(f"{count} {outcome}", _STYLES.get(outcome, "bold red"))
    if resumed:
        line.append(f" ({resumed} of them from the store, unchanged)", "dim")
    return line


def reason_table(reasons: Sequence[tuple[str, str, str, str, str]], most: int) -> RenderableType:
    """The first cases that are not ok: id, subject, column, outcome and message."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("id", "subject", "case", "outcome", "reason"):
        table.add_column(heading, overflow="fold")
    for id, subject, column, outcome, message in reasons[:most]:
        table.add_row(Text(id, "dim"), subject, column, Text(outcome, _STYLES.get(outcome, "bold red")), message)
    rest = len(reasons) - most
    return Group(table, *([Text(f"and {rest} more; see --html", "dim")] if rest > 0 else []))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
