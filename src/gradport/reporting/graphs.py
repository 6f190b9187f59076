"""Draws graphs: boxes in columns and arrows between them, laid out by networkx; and the same as Mermaid."""

from __future__ import annotations

import dataclasses
import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from gradport.compat.extras import Extra, extra
from gradport.reporting.document import Figure
from gradport.reporting.plots import figure_of, svg
from gradport.reporting.text import plain

__all__ = ["Edge", "graph_figure"]

_MOST = 60
"""Maximum number of arrows of a readable graph."""

_LABEL = 28
"""Maximum number of characters in a line of a label."""

_LETTER, _PAD, _ROW = 0.078, 0.2, 0.55
"""Sizes in inches: a character in a box, the margin of a box, the distance of rows."""


@dataclasses.dataclass(frozen=True)
class Edge:
    """An arrow from one box to another, with a label."""

    start: str
    end: str
    label: str = ""


def graph_figure(name: str, boxes: Sequence[str], edges: Sequence[Edge], description: str) -> Figure | None:
    """The graph as a figure; None without boxes, or with too many arrows."""
    if not boxes or len(edges) > _MOST:
        return None
    return Figure(name, _draw(boxes, edges, description), description, _mermaid(boxes, edges))


def _mermaid(boxes: Sequence[str], edges: Sequence[Edge]) -> str:
    place = {box: f"n{index}" for index, box in enumerate(boxes)}
    lines = ["graph LR", *(f'  {place[box]}["{_word(box)}"]' for box in boxes)]
    for edge in edges:
        label = f'|"{_word(edge.label)}"|' if edge.label else ""
        lines.append(f"  {place[edge.start]} -->{label} {place[edge.end]}")
    return "\n".join(lines)


def _word(text: str) -> str:
    return re.sub(r"[^\w .,:/()-]", "?", plain(" ".join(text.split())))


def _draw(boxes: Sequence[str], edges: Sequence[Edge], description: str) -> str:
    floors = _floors(boxes, edges)
    columns: dict[int, list[str]] = {}
    for box in sorted(boxes, key=lambda box: (floors[box], boxes.index(box))):
        columns.setdefault(floors[box], []).append(box)
    labels = {edge: "\n".join(textwrap.wrap(edge.label, _LABEL)) for edge in edges}
    widths = [max(len(box) for box in column) * _LETTER + 2 * _PAD for column in columns.values()]
    gaps = [_gap(labels[edge] for edge in edges if floors[edge.start] == floor) for floor in columns]
    lefts = list(itertools.accumulate((w + g for w, g in zip(widths, gaps, strict=True)), initial=0.0))
    rows = _ROW * (1 + max(label.count("\n") for label in labels.values()) / 4 if labels else 1)
    places = {
        box: (lefts[floor] + widths[floor] / 2, rows * ((len(column) - 1) / 2 - row))
        for floor, column in columns.items()
        for row, box in enumerate(column)
    }
    height = rows * max(len(column) for column in columns.values())
    with figure_of(description, lefts[-1], height + 2 * _PAD) as figure:
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))  # so that a unit is an inch
        axes.set_axis_off()
        axes.set_xlim(0.0, lefts[-1])
        axes.set_ylim(-height / 2 - _PAD, height / 2 + _PAD)
        frame = {"boxstyle": "round,pad=0.4", "facecolor": "none", "edgecolor": "#0b5cad"}
        framed = {
            box: axes.text(x, y, plain(box), ha="center", va="center", fontsize=8, bbox=frame, parse_math=False)
            for box, (x, y) in places.items()
        }
        for edge in edges:
            start, end = places[edge.start], places[edge.end]
            arrow: dict[str, Any] = {"arrowstyle": "->", "color": "#808081", "shrinkA": 2, "shrinkB": 2}
            arrow |= {"patchA": framed[edge.start].get_bbox_patch(), "patchB": framed[edge.end].get_bbox_patch()}
            if start[0] == end[0]:
                arrow["connectionstyle"] = "arc3,rad=0.5"
            axes.annotate("", end, start, arrowprops=arrow)
            if edge.label:
                floor = floors[edge.start]
                x = lefts[floor] + widths[floor] + gaps[floor] / 2  # beside the box, where no box of any floor stands
                share = (x - start[0]) / (end[0] - start[0]) if end[0] != start[0] else 0.5
                y = start[1] + share * (end[1] - start[1]) + 0.05
                axes.text(x, y, plain(labels[edge]), ha="center", va="bottom", fontsize=7, parse_math=False)
        return svg(figure, description)


def _floors(boxes: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The column of each box: right of all boxes with an arrow to it."""
    with extra(Extra.PAGES, "Pages with graphs"):
        import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(boxes)
    graph.add_edges_from((edge.start, edge.end) for edge in edges if edge.start != edge.end)
    floors: dict[str, int] = {}
    acyclic = networkx.condensation(graph)
    for floor, generation in enumerate(networkx.topological_generations(acyclic)):
        floors |= {box: floor for component in generation for box in acyclic.nodes[component]["members"]}
    return floors


def _gap(labels: Iterable[str]) -> float:
    """The space right of a column in inches: the widest line of a label."""
    widest = max((len(line) for label in labels for line in label.splitlines()), default=0)
    return max(0.5, widest * _LETTER + _PAD)
