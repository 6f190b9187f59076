"""`gradport compare BEFORE.json AFTER.json`: the changes between two Evidences."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated

import typer

from gradport.cli.evidence import read_evidence
from gradport.cli.options import Html, Json
from gradport.cli.page import require_place
from gradport.cli.session import session
from gradport.reporting.files import write_text

__all__ = ["compare"]


def compare(
    before: Annotated[pathlib.Path, typer.Argument(help="Evidence of the earlier run.", show_default=False)],
    after: Annotated[pathlib.Path, typer.Argument(help="Evidence of the later run.", show_default=False)],
    *,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """List what got better and what got worse between two Evidences; exit 1 if something got worse."""
    with session("compare", as_json) as current:
        from gradport.evidence.changes import compare as run_compare

        require_place(html)
        old, new = read_evidence(before), read_evidence(after)
        changes = run_compare(old, new)
        for change in changes:
            current.say(f"{change.kind}: {change.message}")
        if not changes:
            current.say("Nothing changed.")
        current.result |= {
            "ok": not any(change.kind in ("worse", "gone") for change in changes),
            "changes": [dataclasses.asdict(change) for change in changes],
        }
        if html is not None:
            from gradport.reporting.difference import difference_html

            write_text(html, difference_html(old, new, changes))
            current.say(f"wrote {html}")
