"""The measured results of one Function as blocks of a page: its gradient, its ONNX, its speed, and how to reproduce it.

Each figure has a description; its numbers are in the Evidence beside the page.
"""

from __future__ import annotations

import collections
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gradport.errors import SpecError
from gradport.evidence.evidence import Evidence, line_of
from gradport.evidence.series import Curves, Errors, Form, Jacobian, Node, Onnx, Series, Timings, read_series
from gradport.reporting.document import (
    Badge,
    Block,
    Code,
    Details,
    Figure,
    FileLink,
    Line,
    Listing,
    Paragraph,
    Table,
    join_inline,
)
from gradport.reporting.finding_table import findings_table, outcome_text, worst_outcome
from gradport.reporting.graphs import Edge, graph_figure
from gradport.reporting.plots import (
    curve_plot,
    describe_divergence,
    divergence_plot,
    error_plot,
    jacobian_plot,
    timing_plot,
)

__all__ = [
    "divergence_figure",
    "draw_blocks",
    "evidence_file",
    "gradient_blocks",
    "onnx_blocks",
    "performance_blocks",
    "result_blocks",
    "usage_blocks",
]


_LONGEST = 80
"""Maximum number of characters of a Subject's name in a file name; file systems allow about 250 in total."""


def evidence_file(path: str, evidence: Evidence) -> str:
    """The path of a Function's Evidence, relative to the root."""
    return f"{_stem(path, evidence)}.json"


def draw_blocks(evidence: Evidence, series: Series, draw: Callable[[Any], Iterable[Block]]) -> list[Block]:
    """The blocks of a series; empty without the series, a sentence if the series is invalid."""
    if not evidence.series.get(series):
        return []
    try:
        return list(draw(read_series(evidence, series)))
    except SpecError as error:
        return [Paragraph((f"Not drawn: {error}",))]


def result_blocks(evidence: Evidence) -> list[Block]:
    """The outcome and the kind of gradient, then the Findings that do not pass."""
    kinds = [finding for finding in evidence.findings if finding.rule == "differences"]
    bad = [finding for finding in evidence.findings if not finding.outcome.passes and finding not in kinds]
    outcome = worst_outcome([evidence])
    head: Line = (Badge(outcome), " ", Code(evidence.subject))
    if "refused" in evidence.series:
        head = (*head, ". ONNX: ", Badge("refused"), f": {evidence.series['refused']}")
    return [
        Paragraph(head),
        *(Paragraph((Badge(one.outcome), f" {one.kind}: " if one.kind else ": ", one.message)) for one in kinds),
        *([findings_table(bad, f"Findings about {evidence.subject} that do not pass")] if bad else []),
    ]


def gradient_blocks(path: str, evidence: Evidence) -> Iterator[Block]:
    """What the gradient is: its curves, its Jacobian's error, and every Finding."""
    yield from draw_blocks(evidence, Series.CURVES, lambda curves: _curves(path, evidence, curves))
    yield from draw_blocks(evidence, Series.JACOBIAN, lambda jacobian: [_jacobian(path, evidence, jacobian)])
    counts = collections.Counter(outcome_text(finding) for finding in evidence.findings)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    every = findings_table(evidence.findings, f"All findings about {evidence.subject}")
    yield Details((f"{len(evidence.findings)} findings: {summary}",), [every])
    yield from (Paragraph((f"Without {name}: {why}",)) for name, why in evidence.series.get("left_out", {}).items())


def onnx_blocks(path: str, evidence: Evidence) -> Iterator[Block]:
    """The ONNX model: a graph of its functions, its size, its errors and eager's, and its forms."""
    series = evidence.series
    if series.get("refused"):
        yield Paragraph((Badge("refused"), ": ", series["refused"]))
        return
    name = f"{_stem(path, evidence)}.divergence.svg"
    yield from draw_blocks(evidence, Series.ONNX, lambda onnx: _structure(path, evidence, onnx))
    yield from draw_blocks(evidence, Series.ERRORS, lambda errors: [_errors(path, evidence, errors)])
    yield from draw_blocks(
        evidence, Series.DIVERGENCE, lambda nodes: [divergence_figure(name, evidence, nodes, _line_of(evidence))]
    )
    yield from draw_blocks(evidence, Series.FORMS, _forms)


def _line_of(evidence: Evidence) -> Callable[[str], str]:
    """A function from `file:line` to the anchor of this line on the card, which shows the Function's file."""

    def href(place: str) -> str:
        file, line = line_of(place) or ("", 0)
        return f"#L-{line}" if file and file == evidence.source.get("file") else ""

    return href


def performance_blocks(path: str, evidence: Evidence) -> list[Block]:
    """Time by size, memory, and the lower bound from the machine's memory bandwidth."""
    if evidence.series.get(Series.TIMINGS):
        return draw_blocks(evidence, Series.TIMINGS, lambda timings: _timings(path, evidence, timings))
    why = evidence.series.get("left_out", {}).get("timings") or evidence.series.get("refused") or "it was left out"
    return [Paragraph((Code(evidence.subject), f": not measured: {why}"))]


def _timings(path: str, evidence: Evidence, timings: Timings) -> list[Block]:
    ways = list(dict.fromkeys(row["way"] for row in timings["rows"]))
    sizes = sorted({row["bytes"] for row in timings["rows"]})
    description = (
        f"{evidence.subject}: milliseconds of forward, and of forward and backward, over the bytes that go in and out, "
        f"on {timings['threads']} thread; dotted, the time to move them once at "
        f"{timings['bandwidth'] / 1e9:.1f} GB/s, which this machine's memory copies at."
    )
    blocks: list[Block] = [
        Figure(f"{_stem(path, evidence)}.timings.svg", timing_plot(description, timings), description),
        Table(
            ("bytes", *(f"{way}, {said}" for way in ways for said in ("forward", "both"))),
            [[(f"{size:,}",), *_times(timings, ways, size)] for size in sizes],
            caption=f"Milliseconds of {evidence.subject}, the minimum of five alternating rounds",
        ),
    ]
    if timings["memory"]:
        used = ", ".join(f"{way} {used / 2**20:.1f} MiB" for way, used in timings["memory"].items())
        blocks.append(Paragraph((f"Additional memory at the largest size: {used}.",)))
    return blocks


def usage_blocks(path: str, evidence: Evidence) -> list[Block]:
    """A code snippet with its output, the commands that reproduce the figures, and the Evidence file."""
    blocks: list[Block] = []
    ran = evidence.series.get("snippet", {})
    if ran.get("ok") and "code" in ran:
        blocks += [Listing(ran["code"]), Paragraph(("Output of this code at the time of the measurement:",))]
        blocks.append(Listing(ran.get("printed", ""), "text"))
    elif ran:
        blocks.append(Paragraph((f"No snippet: {ran.get('reason', 'it did not run')}.",)))
    commands = evidence.source.get("commands", [])
    if commands:
        blocks.append(Paragraph(("These commands reproduce all figures:",)))
        blocks.append(Listing("\n".join(f"$ {command}" for command in commands), "console"))
    versions = ", ".join(f"{name} {version}" for name, version in evidence.environment.items())
    its_file = FileLink("Its Evidence", evidence_file(path, evidence))
    return [*blocks, Paragraph((f"Measured with {versions}. ", its_file))]


def divergence_figure(name: str, evidence: Evidence, nodes: Sequence[Node], href: Callable[[str], str]) -> Figure:
    """The error along the graph; `href` returns the link of the first node's mark, from the user's line."""
    first = next((node for node in nodes if node.get("first")), None)
    place = str(first.get("place") or "") if first else ""
    description = f"{evidence.subject}: {describe_divergence(nodes)}"
    return Figure(name, divergence_plot(description, nodes, href(place) if place else ""), description)


def _stem(path: str, evidence: Evidence) -> str:
    """The start of the names of files about one Evidence: its Function and, if different, its own name, shortened; a
    checksum keeps the names distinct."""
    function = str(evidence.source.get("card", "")).rpartition(":")[2]
    whole = evidence.subject if evidence.subject.startswith(function) else f"{function}.{evidence.subject}"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", whole)[:_LONGEST]
    return f"{path}_{name}" if name == whole else f"{path}_{name}-{zlib.crc32(whole.encode('utf-8', 'replace')):08x}"


def _curves(path: str, evidence: Evidence, curves: Curves) -> list[Figure]:
    """One for each argument."""
    every = enumerate([curves, *curves.get("others", ())])
    return [_curve(f"{_stem(path, evidence)}.curves{number or ''}.svg", evidence, each) for number, each in every]


def _curve(name: str, evidence: Evidence, curves: Curves) -> Figure:
    marks = [
        f"{what} at {', '.join(f'{float(place):g}' for place in places)}"
        for what, places in (("kinks", curves["kinks"]), ("jumps", curves.get("jumps", ())))
        if places
    ]
    description = (
        f"{evidence.subject}: forward, its derivative by differences and the authored backward along a line "
        f"({curves.get('along', 'every input')}); {' and '.join(marks) or 'no kink and no jump was met'}."
    )
    return Figure(name, curve_plot(description, curves), description)


def _jacobian(path: str, evidence: Evidence, jacobian: Jacobian) -> Figure:
    errors = [abs(float(error)) for row in jacobian["errors"] for error in row]
    description = (
        f"{evidence.subject}: error of each entry of the authored Jacobian of {jacobian['output']} by "
        f"{jacobian['argument']} against differences of the forward, over the largest entry; "
        f"the largest error of {len(errors)} is {max(errors):.2g}."
    )
    return Figure(f"{_stem(path, evidence)}.jacobian.svg", jacobian_plot(description, jacobian), description)


def _structure(path: str, evidence: Evidence, onnx: Onnx) -> Iterator[Block]:
    yield Paragraph(
        (
            f"ONNX at opset {onnx['opset']}: {onnx['nodes']} nodes, {onnx['bytes']} bytes; takes ",
            *join_inline([Code(name) for name in onnx["inputs"]]),
            ", gives ",
            *join_inline([Code(name) for name in onnx["outputs"]]),
            "; operators ",
            *join_inline(
                [Code(f"{name} x{count}" if count > 1 else name) for name, count in onnx["operators"].items()]
            ),
            ".",
        )
    )
    boxes: dict[str, str] = {}
    for function in onnx["functions"]:
        box = f"{_short(function['name'])}, {function['nodes']} nodes"
        boxes[function["name"]] = f"{box} ({len(boxes)})" if box in boxes.values() else box
    edges = [
        Edge(boxes[function["name"]], boxes[reader], ", ".join(handed))
        for function in onnx["functions"]
        for reader, handed in function["passes"].items()
        if reader in boxes
    ]
    description = f"{evidence.subject}: its local functions, and what a forward hands to its backward."
    graph = graph_figure(f"{_stem(path, evidence)}.functions.svg", list(boxes.values()), edges, description)
    if graph is not None:
        yield graph


def _short(name: str) -> str:
    """A function's name without the hash of its body."""
    return re.sub(r"\.[0-9a-f]{8}$", "", name)


def _errors(path: str, evidence: Evidence, errors: Errors) -> Figure:
    eager, onnxruntime = (_worst(errors["edges"], counts) for counts in (errors["eager"], errors["onnxruntime"]))
    description = (
        f"{evidence.subject}: how many of {sum(errors['eager'])} elements of all results stand how many ULPs of the "
        f"largest value from float64; eager at most {eager:g}, ONNX Runtime at most {onnxruntime:g}."
    )
    return Figure(f"{_stem(path, evidence)}.errors.svg", error_plot(description, errors), description)


def _worst(edges: Sequence[Any], counts: Sequence[int]) -> float:
    """The upper end of the last non-empty bin."""
    return next((float(edge) for edge, count in reversed([*zip(edges, counts, strict=True)]) if count), 0.0)


def _forms(cells: Sequence[Form]) -> Iterator[Block]:
    opsets = sorted({cell["opset"] for cell in cells})
    kinds = list(dict.fromkeys(cell["functions"] for cell in cells))
    by_place = {(cell["functions"], cell["opset"]): cell for cell in cells}
    rows: list[list[Line]] = [
        [(kind,), *((Badge(by_place[kind, opset]["outcome"]),) for opset in opsets)] for kind in kinds
    ]
    caption = "Forms and opsets: exported, and compared with eager"
    yield Table(("form", *(f"opset {opset}" for opset in opsets)), rows, caption=caption)
    reasons = dict.fromkeys(cell["message"] for cell in cells if cell["message"])
    if reasons:
        yield Details(("Why some are refused",), [Paragraph((reason,)) for reason in reasons])


def _times(timings: Timings, ways: Sequence[str], size: int) -> Iterator[Line]:
    known = {(r["way"], r["phase"], r["bytes"]): r["milliseconds"] for r in timings["rows"]}
    for way in ways:
        for phase in ("forward", "both"):
            taken = known.get((way, phase, size))
            yield ("" if taken is None else f"{taken:.3g}",)
