"""The progress of a campaign in a terminal."""

import io

from rich.console import Console

from gradport.reporting.campaign_view import count_line, progress_view, reason_table


def shown(view):
    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    console.print(view)
    return console.file.getvalue()


def test_progress_has_counts_rate_time_left_and_what_each_worker_does():
    view = progress_view(160, 20, 3, 1.25, 100.0, {"tcp://a": "Swish: check", "tcp://b": ""})
    first, second, third = shown(view).splitlines()
    assert "20 of 160 cases, 3 not ok, 1.2 a second, 1 min 40 s left" in first
    assert second.split() == ["worker", "1", "Swish:", "check"] and third.split() == ["worker", "2", "waits"]
    assert "left" not in shown(progress_view(2, 0, 0, 0.0, None, {}))


def test_counts_and_reasons():
    assert "3 cases: 2 ok, 1 failed (2 of them from the store, unchanged)" in shown(
        count_line({"ok": 2, "failed": 1}, 2)
    )
    text = shown(reason_table([("1a2b3c4d", "Swish", "check", "failed", f"reason {number}") for number in range(5)], 2))
    assert "reason 1" in text and "reason 2" not in text and "and 3 more; see --html" in text
