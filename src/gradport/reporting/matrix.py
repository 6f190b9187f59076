"""The page of a campaign: a matrix of subjects and settings that opens and filters at once, also for many cases."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gradport.reporting.html import asset, render
from gradport.reporting.text import plain

__all__ = ["Cell", "matrix_html"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One case of the matrix.

    Attributes:
        subject, column: its place.
        outcome: its outcome.
        message: one sentence; empty if it is ok.
        seconds, processor_seconds: its time.
        peak: bytes of memory.
        figure: its measured number with its unit, or empty.
        where: the line of the Subject, or empty.
        evidence: the file of its Evidence in the folder, or empty.
        id: of the case.
        output: the last lines that it wrote, or empty.
        change: a kind of difference from an earlier campaign, or empty.
        difference: the difference as a sentence, or empty.
        python: the interpreter, or empty.
    """

    subject: str
    column: str
    outcome: str
    message: str = ""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak: int = 0
    figure: str = ""
    where: str = ""
    evidence: str = ""
    id: str = ""
    output: str = ""
    change: str = ""
    difference: str = ""
    python: str = ""


def matrix_html(
    title: str,
    cells: Sequence[Cell],
    *,
    counts: Mapping[str, int],
    versions: str,
    store: str,
    folder: str,
    compared: bool,
) -> str:
    """One page that loads nothing from a network.

    Args:
        title: of the page.
        cells: all cases.
        counts: cases by outcome.
        versions: of the environment, as text.
        store: the store's path in the command that repeats a case.
        folder: where the Evidence lies, relative to the page.
        compared: whether the cells have differences.
    """
    style = asset("site.css") + asset("campaign.css")
    return render(
        "campaign.html.j2",
        title=title,
        counts=dict(counts),
        versions=versions,
        compared=compared,
        raw={"style": style, "script": asset("campaign.js"), "data": _as_json(_compact(cells, store, folder))},
    )


def _compact(cells: Sequence[Cell], store: str, folder: str) -> dict[str, Any]:
    """The cells with an index for every text that repeats."""
    subjects, columns, outcomes, changes = (
        _Index(getattr(cell, name) for cell in cells if getattr(cell, name))
        for name in ("subject", "column", "outcome", "change")
    )
    messages = _Index(["", *(cell.message for cell in cells)])
    listed = [
        [
            subjects[cell.subject],
            columns[cell.column],
            outcomes[cell.outcome],
            messages[cell.message],
            changes[cell.change] if cell.change else -1,
            [
                round(cell.seconds, 2),
                round(cell.processor_seconds, 2),
                round(cell.peak / 2**20),
                cell.figure,
                plain(cell.where),
                cell.evidence,
                cell.id,
                plain(cell.output[-1000:]),
                plain(cell.difference),
                cell.python,
            ],
        ]
        for cell in cells
    ]
    return {
        "subjects": [plain(name) for name in subjects],
        "columns": list(columns),
        "outcomes": list(outcomes),
        "changes": list(changes),
        "messages": [plain(message) for message in messages],
        "cells": listed,
        "store": store,
        "folder": folder,
    }


class _Index(dict[str, int]):
    """Numbers for texts, in the order of their first appearance."""

    def __init__(self, texts: Any) -> None:
        super().__init__()
        for text in texts:
            self.setdefault(text, len(self))


def _as_json(data: Any) -> str:
    """JSON inside a script element: `<` would end it."""
    return json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
