"""The page of a file: a card if it defines autograd Functions, else a short page.

A card begins with the result: the outcome, the kind of gradient, and the Findings that do not pass. Its other sections
come from the syntax tree and, for measured Functions, from the Evidence.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradport.evidence.evidence import Evidence
from gradport.evidence.survey import FileSurvey
from gradport.reporting.document import (
    Block,
    Bullets,
    Code,
    Details,
    Inline,
    Line,
    Link,
    Listing,
    Page,
    Paragraph,
    Section,
    Table,
    join_inline,
)
from gradport.reporting.measured import gradient_blocks, onnx_blocks, performance_blocks, result_blocks, usage_blocks

__all__ = [
    "Survey",
    "card",
    "docs_page",
    "function_section",
    "is_card",
    "kw_page",
    "opening",
    "patterns",
    "trail_of",
]

Survey = Mapping[str, FileSurvey]
"""The survey of each file, by its path relative to the root."""

NOT_MEASURED = "Not measured: no inputs given."


def docs_page(path: str) -> str:
    """The page of a file."""
    return f"{path}_docs"


def kw_page(path: str) -> str:
    """The keywords of a file."""
    return f"{path}_kw"


def is_card(survey: FileSurvey) -> bool:
    """Whether a file defines a Function."""
    return bool(survey.autograd)


def card(path: str, surveyed: Survey, measured: Mapping[str, Sequence[Evidence]]) -> Page:
    """The page of one file.

    Args:
        path: of the file.
        surveyed: all files.
        measured: the Evidences of each Function of the file, by the Function's name.
    """
    survey = surveyed[path]
    sections = _card(path, surveyed, measured) if is_card(survey) else _short_page(path, surveyed)
    named = [entry["name"] for entry in (*survey.classes, *survey.functions)]
    return Page(
        docs_page(path),
        posixpath.basename(path),
        trail_of(path),
        sections,
        summary=f"{survey.module}. {opening(survey.docstring)}",
        words=[path, *named],
    )


def trail_of(path: str) -> list[Link]:
    """The indexes of the folders above a path."""
    parts = posixpath.dirname(path).split("/") if posixpath.dirname(path) else []
    return [Link("all", "index"), *(Link(part, "/".join([*parts[: n + 1], "index"])) for n, part in enumerate(parts))]


def opening(text: str) -> str:
    """The first line of a docstring; empty without one."""
    return (text.strip().splitlines() or [""])[0]


def patterns(entry: Mapping[str, Any]) -> list[str]:
    """The code patterns of an autograd Function."""
    names = ["separate setup_context" if "setup_context" in entry["has"] else "ctx in forward"]
    names += ["saves tensors for backward"] if entry["saved"] else ["saves nothing for backward"]
    names += ["stores values on ctx"] if entry["kept_on_ctx"] else []
    names += ["once differentiable"] if entry["once_differentiable"] else []
    return names + [f"has {name}" for name in entry["has"] if name != "setup_context"]


def _card(path: str, surveyed: Survey, measured: Mapping[str, Sequence[Evidence]]) -> list[Section]:
    survey = surveyed[path]
    return [
        Section("Result", _each(path, survey, measured, lambda path, one: result_blocks(one))),
        Section("File metadata", [_metadata(path, survey)]),
        Section("Purpose", [_purpose(survey)]),
        Section("Original source", [Details((f"{survey.lines} lines",), [Listing(survey.text, "python", 1)])]),
        Section("High-level overview", _overview(path, survey)),
        Section("Detailed analysis", []),
        *_functions(path, survey, measured),
        Section("Role in the architecture", _role(survey)),
        Section("Dependencies", [_imports(survey)]),
        Section("Code patterns", [_patterns(survey)]),
        Section("Performance", _each(path, survey, measured, performance_blocks)),
        Section("Security", [_security(path, survey)]),
        Section("Testing and usage", _testing(path, survey, measured)),
        Section("Related files", _related_functions(path, surveyed)),
        Section("Cross-references", [_cross_references(path)]),
    ]


def _short_page(path: str, surveyed: Survey) -> list[Section]:
    survey = surveyed[path]
    return [
        Section("File metadata", [_metadata(path, survey)]),
        Section("Purpose", [_purpose(survey)]),
        Section("Classes and functions", _describe(survey)),
        Section("Role in the architecture", _role(survey)),
        Section("Dependencies", [_imports(survey)]),
        Section("Security", [_security(path, survey)]),
        Section("Cross-references", [_cross_references(path)]),
    ]


def _metadata(path: str, survey: FileSurvey) -> Table:
    called = sum(len(places) for places in survey.called_by.values())
    rows: list[tuple[str, Line]] = [
        ("path", (Code(path),)),
        ("module", (Code(survey.module),)),
        ("size", (f"{survey.bytes} bytes, {survey.lines} lines",)),
        ("classes", (str(len(survey.classes)),)),
        ("functions", (str(len(survey.functions)),)),
        ("imports", (str(len(survey.imports)),)),
        ("imported by", (f"{len(survey.imported_by)} files here",)),
    ]
    if is_card(survey):
        rows += [
            ("autograd Functions", join_inline([Code(entry["name"]) for entry in survey.autograd])),
            ("their apply", (f"stands in {called} places here",)),
        ]
    return Table(("", ""), [((name,), value) for name, value in rows])


def _purpose(survey: FileSurvey) -> Paragraph:
    return Paragraph((survey.docstring or "The file has no docstring.",))


def _overview(path: str, survey: FileSurvey) -> list[Block]:
    items: list[Line] = []
    for entry in survey.classes:
        bases = f"({', '.join(entry['bases'])})" if entry["bases"] else ""
        items.append(("class ", Code(f"{entry['name']}{bases}"), ", ", _at(path, entry["line"]), _says(entry)))
    for entry in survey.functions:
        code = Code(f"{entry['name']}{entry['signature']}")
        items.append(("function ", code, ", ", _at(path, entry["line"]), _says(entry)))
    return [Bullets(items)] if items else [Paragraph(("No classes and no functions.",))]


def _describe(survey: FileSurvey) -> list[Block]:
    """Classes with their methods, and functions, each with the first line of its docstring, without links."""
    items: list[Line] = []
    for entry in survey.classes:
        bases = f"({', '.join(entry['bases'])})" if entry["bases"] else ""
        items.append(("class ", Code(f"{entry['name']}{bases}"), f", line {entry['line']}", _says(entry)))
        items += [
            (Code(f"{entry['name']}.{method['name']}{method['signature']}"), f", line {method['line']}", _says(method))
            for method in entry["methods"]
        ]
    for entry in survey.functions:
        items.append(
            ("function ", Code(f"{entry['name']}{entry['signature']}"), f", line {entry['line']}", _says(entry))
        )
    return [Bullets(items)] if items else [Paragraph(("No classes and no functions.",))]


def _says(entry: Mapping[str, Any]) -> str:
    return f": {opening(entry['docstring'])}" if entry["docstring"] else ""


def _at(path: str, line: int) -> Link:
    return Link(f"line {line}", docs_page(path), line=line)


def function_section(function: str, survey: FileSurvey, blocks: Sequence[Block] = ()) -> Section:
    """The heading of a Function's section; distinct from other sections, and from names that differ only in case."""
    title = f"class {function}"
    before = [entry["name"] for entry in survey.autograd]
    before = before[: before.index(function)]
    same = [one for one in before if Section(f"class {one}", ()).anchor == Section(title, ()).anchor]
    return Section(title, blocks, level=3, again=len(same))


def _functions(path: str, survey: FileSurvey, measured: Mapping[str, Sequence[Evidence]]) -> Iterator[Section]:
    for entry in survey.autograd:
        blocks: list[Block] = [_what_it_is(path, entry)]
        for evidence in measured.get(entry["name"], ()):
            blocks += [*gradient_blocks(path, evidence), *onnx_blocks(path, evidence)]
        if not measured.get(entry["name"]):
            blocks.append(Paragraph((NOT_MEASURED,)))
        yield function_section(entry["name"], survey, blocks)


def _what_it_is(path: str, entry: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, Line]] = [
        ("forward", (Code(f"{entry['name']}.forward{entry['signature']}"), ", ", _at(path, entry["forward_line"]))),
        ("arguments", join_inline([Code(name) for name in entry["arguments"]])),
        ("takes a gradient", _differentiable(entry["differentiable"])),
        ("saved for backward", join_inline([Code(name) for name in entry["saved"]])),
        ("kept on ctx", join_inline([Code(name) for name in entry["kept_on_ctx"]])),
        (
            "twice differentiable",
            ("no: once_differentiable" if entry["once_differentiable"] else "as far as its backward is",),
        ),
        ("has", join_inline([Code(name) for name in entry["has"]])),
        ("calls", join_inline([Code(name) for name in entry["operators"]])),
    ]
    return Table(("", ""), [((name,), value) for name, value in rows])


def _differentiable(arguments: Sequence[str] | None) -> Line:
    if arguments is None:
        return ("its returns do not say so by themselves",)
    return join_inline([Code(name) for name in arguments])


def _role(survey: FileSurvey) -> list[Block]:
    importers = [Link(other, docs_page(other)) for other in survey.imported_by]
    blocks: list[Block] = [
        Paragraph(("Imported by ", *join_inline(importers), ".") if importers else ("No surveyed file imports it.",))
    ]
    for function, places in survey.called_by.items():
        calls = [Link(f"{p['file']}:{p['line']}", docs_page(p["file"])) for p in places]
        where: Line = (" stands at ", *join_inline(calls), ".") if calls else (" stands nowhere here.",)
        blocks.append(Paragraph((Code(f"{function}.apply"), *where)))
    return blocks


def _imports(survey: FileSurvey) -> Block:
    names = [
        (Code(f"{entry['module']}{'.' if entry['name'] else ''}{entry['name']}"), f", line {entry['line']}")
        for entry in survey.imports
    ]
    return Bullets(names) if names else Paragraph(("It imports nothing.",))


def _patterns(survey: FileSurvey) -> Bullets:
    return Bullets([(Code(entry["name"]), f": {'; '.join(patterns(entry))}") for entry in survey.autograd])


def _security(path: str, survey: FileSurvey) -> Block:
    stops = survey.security
    if not stops:
        return Paragraph((f"None of these patterns: {', '.join(survey.security_patterns)}.",))
    line = (lambda at: _at(path, at)) if is_card(survey) else (lambda at: f"line {at}")
    return Bullets([(line(stop["line"]), f", {stop['pattern']}: ", Code(stop["code"])) for stop in stops])


def _testing(path: str, survey: FileSurvey, measured: Mapping[str, Sequence[Evidence]]) -> list[Block]:
    blocks: list[Block] = []
    for function, tests in survey.tested_by.items():
        names: list[Inline] = [Code(f"{test['file']}::{test['test']}") for test in tests]
        where: Line = (" is exercised by ", *join_inline(names), ".") if names else (" is in none of the tests.",)
        blocks.append(Paragraph((Code(function), *where)))
    return blocks + _each(path, survey, measured, usage_blocks)


def _each(path: str, survey: FileSurvey, measured: Mapping[str, Sequence[Evidence]], blocks_of: Any) -> list[Block]:
    """The blocks of every measured Function, and a note for the others."""
    blocks: list[Block] = []
    for entry in survey.autograd:
        for evidence in measured.get(entry["name"], ()):
            blocks += blocks_of(path, evidence)
        if not measured.get(entry["name"]):
            blocks.append(Paragraph((Code(entry["name"]), f": {NOT_MEASURED}")))
    return blocks


def _related_functions(path: str, surveyed: Survey) -> list[Block]:
    blocks: list[Block] = []
    for function, groups in surveyed[path].related.items():
        for what, places in groups.items():
            if places:
                links = [Link(place, docs_page(place.rpartition(":")[0])) for place in places]
                said = "near duplicates of " if what == "near duplicates" else f"{what} as "
                blocks.append(Paragraph((said, Code(function), ": ", *join_inline(links), ".")))
    folder = posixpath.dirname(path)
    neighbours = [other for other in surveyed if posixpath.dirname(other) == folder and other != path]
    blocks.append(Bullets([(Link(other, docs_page(other)),) for other in neighbours]))
    return blocks if neighbours else [*blocks[:-1], Paragraph(("There is no other file in the folder.",))]


def _cross_references(path: str) -> Bullets:
    folder = posixpath.dirname(path)
    return Bullets(
        [
            (Link("keywords of this file", kw_page(path)),),
            (Link("the folder", posixpath.join(folder, "index")),),
            (Link("overview", posixpath.join(folder, "doc")),),
        ]
    )
