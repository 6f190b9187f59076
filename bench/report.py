"""Writes the tables of the docs from the store of `make campaign`.

    python bench/report.py campaign.db

docs/operators.md is written as a whole; the other tables stand between `<!-- NAME -->` and `<!-- end -->` in
docs/results.md and docs/check.md.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence

from tables import write_table

import gradport

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"

EDGES = ("edge-values", "ties")
"""Rules of inputs at which an operator may be right and differ from eager: nan, infinities, ties."""

ORDER = ("wrong", "refused", "undecided", "edges", "right")


def main() -> int:
    """Writes all tables whose suites are in the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    rows = gradport.Campaign(parser.parse_args().store).rows()
    by_suite = collections.defaultdict(list)
    for row in rows:
        by_suite[pathlib.Path(row.source).name].append(row)
    for suite, write in WRITERS.items():
        if by_suite[suite]:
            write(by_suite[suite])
            print(f"{suite}: {len(by_suite[suite])} cases", file=sys.stderr)
    return 0


def verdict(row: object) -> str:
    """right, wrong, edges, undecided, refused or skipped."""
    outcome, kind = row["outcome"], row["kind"]
    if outcome == "failed":
        return "edges" if kind in EDGES else "wrong"
    return {"ok": "right", "skipped": "skipped", "undecided": "undecided"}.get(outcome, "refused")


def told(row: object) -> str:
    """The message of a row as a cell of a table."""
    text = re.sub(r" at /[^\s;,]+| \(/[^\s)]+\)| at 0x[0-9a-f]+", "", " ".join(row["message"].split()))
    return text[:160].replace("|", "/")


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Markdown."""
    written = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return "\n".join([*written, *(f"| {' | '.join(map(str, line))} |" for line in lines)])


def operators(rows: Sequence[object]) -> None:
    """Each operator as the worst of its samples."""
    samples = collections.defaultdict(list)
    for row in rows:
        samples[row.subject.rpartition("/")[0]].append(row)
    worst = {name: min(own, key=lambda row: ORDER.index(verdict(row))) for name, own in samples.items()}
    counts = collections.Counter(verdict(row) for row in worst.values())
    lines = [
        "# Operators",
        "",
        f"Forward and vector-Jacobian product of {len(worst)} torch operators on their first samples ({len(rows)}):",
        ", ".join(f"{counts[one]} {one}" for one in reversed(ORDER)) + ". Made by `make campaign`.",
        "`edges`: right on these samples and random values; differs from eager at nan, inf, ties or singular matrices.",
        "",
        table(
            ("operator", "verdict", "reason"), [(f"`{n}`", verdict(row), told(row)) for n, row in sorted(worst.items())]
        ),
    ]
    (DOCS / "operators.md").write_text("\n".join(lines) + "\n", "utf-8")


def counted(rows: Sequence[object], columns: Sequence[str]) -> str:
    """Right, wrong, undecided and refused by column."""
    lines = []
    for column in columns:
        counts = collections.Counter(verdict(row) for row in rows if row.column == column)
        cells = counts["right"], counts["wrong"] + counts["edges"], counts["undecided"], counts["refused"]
        lines.append((column, *cells, sum(cells)))
    return table(("way", "right", "wrong", "undecided", "refused", "of"), lines)


def columns_of(rows: Sequence[object], order: Sequence[str]) -> list[str]:
    """The columns in this order, then the others: the store has them in the order in which the cases ended."""
    there = dict.fromkeys(row.column for row in rows)
    return [name for name in order if name in there] + sorted(name for name in there if name not in order)


def functions(rows: Sequence[object]) -> None:
    """Ways, and why ours were refused."""
    columns = columns_of(rows, ("forward", "keep", "inline", "opaque", "static"))
    write_table(DOCS / "results.md", "functions", counted(rows, columns))
    reasons = collections.defaultdict(list)
    for row in sorted(rows, key=lambda row: columns.index(row.column)):
        if not row.column.startswith("torch.onnx") and verdict(row) != "right":
            reasons[row.subject, told(row)].append(row.column)
    lines = [(f"`{name}`", ", ".join(ways), reason) for (name, reason), ways in reasons.items()]
    write_table(DOCS / "results.md", "functions-refused", table(("Function", "ways", "reason"), lines))


def models(rows: Sequence[object]) -> None:
    """gradport at each opset, and torch.onnx."""
    write_table(DOCS / "results.md", "models", counted(rows, columns_of(rows, ())))


def modules(rows: Sequence[object]) -> None:
    """Modules of torch.nn."""
    write_table(DOCS / "results.md", "modules", counted(rows, columns_of(rows, ())))


def optimizers(rows: Sequence[object]) -> None:
    """Optimizers of torch.optim."""
    write_table(DOCS / "results.md", "optimizers", counted(rows, columns_of(rows, ())))


def checkers(rows: Sequence[object]) -> None:
    """How many Functions each checker flags, of those that it can be asked about."""
    names = columns_of(rows, ("gradport", "gradcheck", "opcheck"))
    groups = ("wrong", "right", "wrong, held out", "right, held out")
    lines = []
    for group in groups:
        own = [row for row in rows if row.subject.partition(": ")[0] == group]
        cells = [[row for row in own if row.column == name and row.outcome != "skipped"] for name in names]
        flagged = [f"{sum(row.outcome == 'failed' for row in cell)} of {len(cell)}" for cell in cells]
        lines.append((f"{group} ({len({row.subject for row in own})})", *flagged))
    write_table(DOCS / "check.md", "checkers", table(("flagged", *names), lines))


def node_tests(rows: Sequence[object]) -> None:
    """The importers, then the opsets of gradport."""
    columns = columns_of(rows, ("gradport", "gradients", "onnx-ad"))
    write_table(DOCS / "results.md", "node-tests", counted(rows, columns))
    opsets = collections.defaultdict(collections.Counter)
    for row in rows:
        if row.column == "gradport":
            opsets[int(re.search(r"opset (\d+)", row.subject)[1])][verdict(row)] += 1
    heads = sorted(opsets)
    lines = [(kind, *(opsets[opset][kind] for opset in heads)) for kind in ("right", "wrong", "refused")]
    write_table(DOCS / "results.md", "node-opsets", table(("opset", *map(str, heads)), lines))


WRITERS: dict[str, Callable[[Sequence[object]], None]] = {
    "torch:operators": operators,
    "torch:modules": modules,
    "torch:optimizers": optimizers,
    "functions.py": functions,
    "models.py": models,
    "checkers.py": checkers,
    "node_tests.py": node_tests,
}


if __name__ == "__main__":
    sys.exit(main())
