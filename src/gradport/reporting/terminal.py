"""Evidence and Programs as tables in a terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gradport.evidence.evidence import Evidence, Finding, Outcome, Severity
from gradport.evidence.series import Series, read_series
from gradport.reporting.finding_table import outcome_text

if TYPE_CHECKING:
    from gradport.model.program import Program

__all__ = ["evidence_table", "functions_table", "interface_table", "rules_table", "sweep_table"]

_MARKS: dict[str, tuple[str, str]] = {
    Outcome.OK: ("ok", "green"),
    Outcome.FAILED: ("FAILED", "bold red"),
    Outcome.ERROR: ("ERROR", "bold red"),
    Outcome.UNDECIDED: ("undecided", "yellow"),
    Outcome.SKIPPED: ("skipped", "dim"),
    Severity.WARNING: ("warning", "yellow"),
}


def evidence_table(title: str, evidence: Evidence) -> RenderableType:
    """A table with a row for each Finding; below it all Findings that are not ok, in full."""
    table = _table(title)
    for heading in ("", "rule", "about", "kind", "figure"):
        table.add_column(heading, justify="right" if heading == "figure" else "left", overflow="fold")
    for finding in evidence.findings:
        mark, style = _mark(finding)
        table.add_row(Text(mark, style), finding.rule, _about(finding), finding.kind, _figure(finding))
    not_ok = [f for f in evidence.findings if f.outcome != Outcome.OK or f.severity == Severity.WARNING]
    judged = evidence.series.get("criterion")
    criterion = (
        [Text(f"\nright: {judged['factor']:g} times eager's error against float64, or {judged['floor']}", "dim")]
        if judged
        else []
    )
    return Group(table, *criterion, *(_paragraph(finding) for finding in not_ok))


def functions_table(program: Program) -> RenderableType:
    """A table with a row for each local function of a custom Function."""
    table = _table("Functions")
    for heading in ("name", "phase", "domain", "uses", "source"):
        table.add_column(heading, justify="right" if heading == "uses" else "left", overflow="fold")
    for info in program.functions:
        table.add_row(info.name, info.phase, info.domain, str(info.uses), _source(info.file, info.line))
    if not program.functions:
        table.add_row("none", "", "", "", "")
    return table


def interface_table(program: Program) -> RenderableType:
    """A table with a row for each graph input and output."""
    from gradport.subject.spec import short_dtype

    table = _table(f"Graph (ai.onnx opset {program.opset})")
    for heading in ("", "name", "tensor", "role", "of"):
        table.add_column(heading, overflow="fold")
    for direction, specs in (("in", program.inputs), ("out", program.outputs)):
        for spec in specs:
            shape = f"{short_dtype(spec.dtype)}[{','.join(map(str, spec.shape))}]"
            table.add_row(direction, spec.name, Text(shape), spec.role, spec.of or "")
    return table


def rules_table(questions: Mapping[str, str]) -> RenderableType:
    """A table with a row for each rule of `check`."""
    table = _table("Rules")
    for heading in ("rule", "asks"):
        table.add_column(heading, overflow="fold")
    for name, question in questions.items():
        table.add_row(name, question)
    return table


def sweep_table(title: str, evidence: Evidence) -> RenderableType:
    """The matrix of a sweep: a row for each setting without the opset, a column for each opset."""
    cells: list[dict[str, Any]] = read_series(evidence, Series.SWEEP)
    axes = [axis for axis in ("dtype", "dynamic", "functions", "runtime") if any(c[axis] is not None for c in cells)]
    opsets = list(dict.fromkeys(cell["opset"] for cell in cells))
    table = _table(title)
    for axis in axes:
        table.add_column(axis)
    for opset in opsets:
        table.add_column("outcome" if opset is None else f"opset {opset}")
    rows: dict[tuple[str, ...], dict[int | None, Text]] = {}
    for cell in cells:
        row = tuple(_axis(axis, cell[axis]) for axis in axes)
        rows.setdefault(row, {})[cell["opset"]] = _cell(cell)
    for row, by_opset in rows.items():
        table.add_row(*row, *(by_opset.get(opset, Text("")) for opset in opsets))
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        if cell["message"]:
            reasons.setdefault(cell["message"], []).append(cell["cell"])
    return Group(table, *(Text(f"\n{', '.join(where)}: {message}") for message, where in reasons.items()))


def _axis(axis: str, value: object) -> str:
    return {True: "dynamic", False: "static"}[bool(value)] if axis == "dynamic" else str(value)


def _cell(cell: Mapping[str, Any]) -> Text:
    mark, style = _MARKS.get(cell["outcome"], (cell["outcome"], "yellow"))
    figure = "" if cell["figure"] is None else f" {cell['figure']:.2g} ULP"
    return Text(mark + figure, style)


def _table(title: str) -> Table:
    return Table(title=Text(title, "bold"), title_justify="left", box=None, pad_edge=False, header_style="dim")


def _source(file: str | None, line: int | None) -> str:
    """File and line, with a short path for the user's own files and installed packages."""
    if file is None:
        return ""
    inside = os.path.relpath(file) if os.path.abspath(file).startswith(os.getcwd() + os.sep) else file
    return f"{inside.rpartition('site-packages' + os.sep)[2]}:{line}"


def _about(finding: Finding) -> str:
    return finding.key.removeprefix(finding.rule).lstrip("/")


def _figure(finding: Finding) -> str:
    return "" if finding.figure is None else f"{finding.figure:.2g} {finding.unit}"


def _mark(finding: Finding) -> tuple[str, str]:
    return _MARKS[outcome_text(finding)]


def _paragraph(finding: Finding) -> Text:
    mark, style = _mark(finding)
    lines = [f"{mark} {finding.key}: {finding.message}"]
    if finding.outcome != Outcome.SKIPPED:
        lines += [f"   shown by {finding.input}"] if finding.input else []
        lines += [f"   at {finding.where}"] if finding.where else []
        lines[0] = "\n" + lines[0]
    return Text("\n".join(lines), style.replace("bold ", ""))
