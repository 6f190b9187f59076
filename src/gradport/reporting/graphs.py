"""Graphs drawn: boxes on floors and arrows between them, laid out by networkx; and the same as Mermaid."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from gradport.compat.extras import Extra, extra
from gradport.reporting.document import Figure
from gradport.reporting.plots import figure_of, svg
from gradport.reporting.text import plain

__all__ = ["Edge", "graph_figure"]

_MOST = 60
"""Arrows that a person can still follow."""


@dataclasses.dataclass(frozen=True)
class Edge:
    """An arrow from one box to another, and what goes along it."""

    start: str
    end: str
    label: str = ""


def graph_figure(name: str, boxes: Sequence[str], edges: Sequence[Edge], description: str) -> Figure | None:
    """The graph as a figure; None where it has no box, or too many arrows to be of use."""
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
    with extra(Extra.PAGES, "Pages with graphs"):
        import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(boxes)
    graph.add_edges_from((edge.start, edge.end) for edge in edges if edge.start != edge.end)
    floors: dict[str, int] = {}
    acyclic = networkx.condensation(graph)
    for floor, generation in enumerate(networkx.topological_generations(acyclic)):
        floors |= {box: floor for component in generation for box in acyclic.nodes[component]["members"]}
    columns: dict[int, list[str]] = {}
    for box in sorted(boxes, key=lambda box: (floors[box], boxes.index(box))):
        columns.setdefault(floors[box], []).append(box)
    tallest = max(len(column) for column in columns.values())
    places = {
        box: (float(floor), (len(column) - 1) / 2 - row)
        for floor, column in columns.items()
        for row, box in enumerate(column)
    }
    widest = max(len(box) for box in boxes)
    width = min(max(3.0, len(columns) * (0.6 + 0.075 * widest)), 14.0)
    with figure_of(description, width, max(1.0, 0.55 * tallest + 0.5)) as figure:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(-tallest / 2 - 0.2, tallest / 2 + 0.2)
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
                middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12)
                axes.text(*middle, plain(edge.label), ha="center", fontsize=7, parse_math=False)
        return svg(figure, description)
