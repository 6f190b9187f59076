"""Rows of a campaign as files for other programs: CSV and JUnit."""

from __future__ import annotations

import csv
import io
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from gradport.campaigning.cases import CaseOutcome
from gradport.campaigning.store import Row
from gradport.reporting.files import write_text
from gradport.reporting.text import plain

__all__ = ["write_csv", "write_junit"]

_COLUMNS = (
    "subject",
    "column",
    "outcome",
    "kind",
    "figure",
    "unit",
    "message",
    "where",
    "seconds",
    "processor_seconds",
    "peak",
    "tries",
    "signal",
    "source",
    "action",
    "opset",
    "dtype",
    "functions",
    "dynamic",
    "runtime",
    "python",
    "finished",
    "id",
    "evidence",
)


def write_csv(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Writes a line for each row.

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow("peak_bytes" if name == "peak" else name for name in _COLUMNS)
    writer.writerows([plain(row[name]) if name == "where" else row[name] for name in _COLUMNS] for row in rows)
    write_text(path, text.getvalue())


def write_junit(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Writes a JUnit file: a suite for each source, a test case for each row.

    Raises:
        OutputError: the file cannot be written.
    """
    root = ET.Element("testsuites", name="gradport campaign")
    for source in dict.fromkeys(row.source for row in rows):
        own = [row for row in rows if row.source == source]
        failures = sum(row.outcome is CaseOutcome.FAILED for row in own)
        passed = sum(row.outcome.passes for row in own)
        counts = {"tests": len(own), "failures": failures, "errors": len(own) - passed - failures}
        suite = ET.SubElement(root, "testsuite", {"name": source, **{name: str(n) for name, n in counts.items()}})
        for row in own:
            _add_case(suite, row)
    write_text(path, ET.tostring(root, encoding="unicode", xml_declaration=True))


def _add_case(suite: ET.Element, row: Row) -> None:
    case = ET.SubElement(suite, "testcase", classname=plain(row.subject), name=row.column, time=f"{row.seconds:.3f}")
    if row.outcome in (CaseOutcome.SKIPPED, CaseOutcome.NO_KERNEL):
        ET.SubElement(case, "skipped", message=plain(row.message))
    elif not row.outcome.passes:
        tag = "failure" if row.outcome is CaseOutcome.FAILED else "error"
        element = ET.SubElement(case, tag, type=str(row.outcome), message=plain(row.message))
        element.text = plain("\n".join(filter(None, (row.where, row.output))))
