"""Writes the results of a test suite: `gradport.json` and one page, `gradport.html`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from gradport.evidence.evidence import Evidence
from gradport.reporting.run import run_html

__all__ = ["write_suite"]


def write_suite(entries: Sequence[tuple[str, dict[str, Any]]], folder: str) -> None:
    """Writes both files.

    Args:
        entries: for each assertion the id of its test and the Evidence from `Evidence.to_dict`.
        folder: the output folder; created if missing.
    """
    where = pathlib.Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    rows = [{"test": test, **evidence} for test, evidence in entries]
    (where / "gradport.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), "utf-8")
    named = [(test, Evidence.from_json(json.dumps(evidence))) for test, evidence in entries]
    (where / "gradport.html").write_text(run_html("gradport", named), "utf-8")
