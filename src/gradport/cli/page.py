"""Writes the results of a command as a self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradport.cli.session import Session, require_writable
from gradport.reporting.files import write_text

__all__ = ["require_place", "write_page"]


def require_place(html: Path | None) -> None:
    """Checks, before long work, that the page can be written.

    Raises:
        OutputError: it cannot be written.
    """
    if html is not None:
        require_writable(html.parent)


def write_page(
    current: Session, html: Path | None, title: str, evidences: Sequence[tuple[str, Any]], *, model: str = ""
) -> None:
    """Writes a page of Evidences, each with its source, unless `html` is None.

    Raises:
        OutputError: the page cannot be written.
    """
    if html is None:
        return
    from gradport.documenting import with_excerpts
    from gradport.reporting.run import run_html

    named = [(source, with_excerpts(evidence)) for source, evidence in evidences]
    write_text(html, run_html(title, named, model=model))
    current.result.setdefault("files", []).append(str(html))
    current.say(f"wrote {html}")
