"""The pages of a folder: its files, their imports, and the keywords of each file."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from gradport.evidence.evidence import Evidence, Outcome
from gradport.evidence.survey import FileSurvey
from gradport.reporting.card import Survey, docs_page, function_section, is_card, kw_page, opening, patterns, trail_of
from gradport.reporting.document import (
    Badge,
    Block,
    Bullets,
    Code,
    Inline,
    Line,
    Link,
    Page,
    Paragraph,
    Section,
    Table,
    join_inline,
)
from gradport.reporting.graphs import Edge, graph_figure

__all__ = ["folders_of", "index", "keywords", "overview"]

Measured = Mapping[str, Sequence[Evidence]]


def folders_of(surveyed: Survey) -> dict[str, list[str]]:
    """The files of each folder, including all parent folders."""
    by_folder: dict[str, list[str]] = {"": []}
    for path in surveyed:
        folder = posixpath.dirname(path)
        parts = folder.split("/") if folder else []
        for count in range(len(parts)):
            by_folder.setdefault("/".join(parts[: count + 1]), [])
        by_folder[folder].append(path)
    return by_folder


def index(folder: str, folders: Mapping[str, Sequence[str]], surveyed: Survey, measured: Measured) -> Page:
    """The page with the files of a folder and their outcomes, then its subfolders."""
    rows: list[list[Line]] = [
        [
            (Link(posixpath.basename(path), docs_page(path)),),
            (opening(surveyed[path].docstring),),
            join_inline(_functions(path, surveyed[path]), none=""),
            _outcome(path, surveyed[path], measured),
        ]
        for path in sorted(folders[folder], key=lambda path: (not is_card(surveyed[path]), path))
    ]
    inside = sorted(other for other in folders if other and posixpath.dirname(other) == folder)
    blocks: list[Block] = []
    if rows:
        blocks.append(Table(("file", "what it is", "Functions", "outcome"), rows, searchable=len(rows) > 5))
    if inside:
        rows = [
            [
                (Link(f"{posixpath.basename(other)}/", posixpath.join(other, "index")),),
                *_count_below(other, surveyed, measured),
            ]
            for other in inside
        ]
        blocks.append(Table(("folder", "Functions below it", "outcome"), rows))
    blocks.append(Paragraph((Link("overview", posixpath.join(folder, "doc")),)))
    return Page(posixpath.join(folder, "index"), _title(folder), _trail(folder), [Section("", blocks)], "a folder")


def overview(folder: str, surveyed: Survey) -> Page:
    """The page with the purpose of a folder and the imports between its files."""
    inside = {path: survey for path, survey in surveyed.items() if posixpath.dirname(path) == folder}
    edges = [
        Edge(posixpath.basename(importer), posixpath.basename(path))
        for path, survey in inside.items()
        for importer in survey.imported_by
        if importer in inside
    ]
    purpose = next((e.docstring for p, e in inside.items() if posixpath.basename(p) == "__init__.py"), "")
    blocks: list[Block] = [_imports(folder, edges)]
    if edges and not isinstance(blocks[0], Bullets):
        summary = f"{len(edges)} imports between {len({e.start for e in edges} | {e.end for e in edges})} files."
        blocks.append(Paragraph((summary,)))
    sections = [
        Section("Purpose", [Paragraph((purpose or "Its __init__.py has no docstring.",))]),
        Section("Imports", blocks),
        Section("Cross-references", [Bullets([(Link("its files", posixpath.join(folder, "index")),)])]),
    ]
    title = f"Overview of {_title(folder)}"
    return Page(posixpath.join(folder, "doc"), title, _trail(folder), sections, opening(purpose))


def keywords(path: str, survey: FileSurvey) -> Page:
    """The page with every class, function, operator and concept of a file, and their lines."""
    shown = is_card(survey)

    def place(line: int) -> Link:
        return Link(f"line {line}", docs_page(path), line=line if shown else None)

    words: list[tuple[str, Line]] = []
    for entry in survey.classes:
        words.append((entry["name"], (Code(entry["name"]), " (class): ", place(entry["line"]))))
        for method in entry["methods"]:
            name = f"{entry['name']}.{method['name']}"
            words.append((name, (Code(name), " (method): ", place(method["line"]))))
    for entry in survey.functions:
        words.append((entry["name"], (Code(entry["name"]), " (function): ", place(entry["line"]))))
    operators: dict[str, list[str]] = {}
    for entry in survey.autograd:
        for name in entry["operators"]:
            operators.setdefault(name, []).append(entry["name"])
    for name, users in operators.items():
        line = (Code(name), " (operator): ", *join_inline([_about(u, path, survey) for u in users]))
        words.append((name, line))
    for concept in sorted({pattern for entry in survey.autograd for pattern in patterns(entry)}):
        words.append((concept, (f"{concept} (concept): ", Link("the card", docs_page(path), "code-patterns"))))
    items = [line for _, line in sorted(words, key=lambda word: word[0].lower())]
    blocks: list[Block] = [Bullets(items) if items else Paragraph(("It defines nothing.",))]
    blocks.append(Bullets([(Link("the page of the file", docs_page(path)),)]))
    title = f"Keywords of {posixpath.basename(path)}"
    return Page(kw_page(path), title, trail_of(path), [Section("", blocks)], "keywords", [w for w, _ in words])


def _title(folder: str) -> str:
    return folder or "all files"


def _trail(folder: str) -> list[Link]:
    return trail_of(folder) if folder else []


def _about(function: str, path: str, survey: FileSurvey) -> Link:
    return Link(function, docs_page(path), function_section(function, survey).anchor)


def _functions(path: str, survey: FileSurvey) -> list[Inline]:
    return [_about(entry["name"], path, survey) for entry in survey.autograd]


def _outcome(path: str, survey: FileSurvey, measured: Measured) -> Line:
    names = [entry["name"] for entry in survey.autograd]
    return _count_ok([one for name in names for one in measured.get(f"{path}:{name}", ())]) if names else ("",)


def _count_ok(ones: Sequence[Evidence]) -> Line:
    """The number of Evidences that are ok."""
    if not ones:
        return ("not measured",)
    return (
        Badge(Outcome.OK if all(one.ok for one in ones) else Outcome.FAILED),
        f" {sum(o.ok for o in ones)} of {len(ones)}",
    )


def _count_below(folder: str, surveyed: Survey, measured: Measured) -> tuple[Line, Line]:
    """The number of Functions below a folder, and the number of measured Functions that are ok."""
    count = sum(len(e.autograd) for path, e in surveyed.items() if path.startswith(f"{folder}/"))
    ones = [one for key, ones in measured.items() if key.startswith(f"{folder}/") for one in ones]
    return (str(count) if count else "",), _count_ok(ones) if count else ("",)


def _imports(folder: str, edges: Sequence[Edge]) -> Block:
    if not edges:
        return Paragraph(("Its files do not import each other.",))
    boxes = list(dict.fromkeys(name for edge in edges for name in (edge.start, edge.end)))
    name = posixpath.join(folder, "doc.svg")
    description = f"Imports in {_title(folder)}: an arrow leads to the imported file."
    figure = graph_figure(name, boxes, edges, description)
    if figure is not None:
        return figure
    return Bullets(
        [
            (Code(start), " imports ", *join_inline([Code(edge.end) for edge in edges if edge.start == start]))
            for start in dict.fromkeys(edge.start for edge in edges)
        ]
    )
