"""The page of a file: a card if it defines autograd Functions, else a short page.

A card begins with the result: the outcome, the kind of gradient, and the Findings that do not pass. Its other sections
come from the syntax tree and, for measured Functions, from the Evidence.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    "Card",
    "Survey",
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


@dataclasses.dataclass(frozen=True)
class Card:
    """A file with a page of its own: its survey, the other files of the root, and the Evidence of its Functions.

    Attributes:
        path: of the file, relative to the root.
        surveyed: all files of the root.
        measured: the Evidences of each Function of the file, by the Function's name.
    """

    path: str
    surveyed: Survey
    measured: Mapping[str, Sequence[Evidence]]

    @property
    def survey(self) -> FileSurvey:
        """The survey of the file."""
        return self.surveyed[self.path]

    def evidences(self, function: str) -> Sequence[Evidence]:
        """The Evidences of a Function; empty for one without inputs."""
        return self.measured.get(function, ())

    def line(self, number: int) -> Link:
        """A link to a line of the source."""
        return Link(f"line {number}", docs_page(self.path), line=number)

    def page(self) -> Page:
        """The page of the file."""
        survey = self.survey
        named = [entry["name"] for entry in (*survey.classes, *survey.functions)]
        return Page(
            docs_page(self.path),
            posixpath.basename(self.path),
            trail_of(self.path),
            _card(self) if is_card(survey) else _short_page(self),
            summary=f"{survey.module}. {opening(survey.docstring)}",
            words=[self.path, *named],
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


def _card(card: Card) -> list[Section]:
    survey = card.survey
    return [
        Section("Result", _each(card, lambda path, evidence: result_blocks(evidence))),
        Section("File metadata", [_metadata(card)]),
        Section("Purpose", [_purpose(survey)]),
        Section("Original source", [Details((f"{survey.lines} lines",), [Listing(survey.text, "python", 1)])]),
        Section("High-level overview", _overview(card)),
        Section("Detailed analysis", []),
        *_functions(card),
        Section("Role in the architecture", _role(survey)),
        Section("Dependencies", [_imports(survey)]),
        Section("Code patterns", [_patterns(survey)]),
        Section("Performance", _each(card, performance_blocks)),
        Section("Security", [_security(card)]),
        Section("Testing and usage", _testing(card)),
        Section("Related files", _related_functions(card)),
        Section("Cross-references", [_cross_references(card)]),
    ]


def _short_page(card: Card) -> list[Section]:
    survey = card.survey
    return [
        Section("File metadata", [_metadata(card)]),
        Section("Purpose", [_purpose(survey)]),
        Section("Classes and functions", _describe(survey)),
        Section("Role in the architecture", _role(survey)),
        Section("Dependencies", [_imports(survey)]),
        Section("Security", [_security(card)]),
        Section("Cross-references", [_cross_references(card)]),
    ]


def _metadata(card: Card) -> Table:
    survey = card.survey
    called = sum(len(places) for places in survey.called_by.values())
    rows: list[tuple[str, Line]] = [
        ("path", (Code(card.path),)),
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


def _overview(card: Card) -> list[Block]:
    items: list[Line] = []
    for entry in card.survey.classes:
        bases = f"({', '.join(entry['bases'])})" if entry["bases"] else ""
        items.append(("class ", Code(f"{entry['name']}{bases}"), ", ", card.line(entry["line"]), _says(entry)))
    for entry in card.survey.functions:
        code = Code(f"{entry['name']}{entry['signature']}")
        items.append(("function ", code, ", ", card.line(entry["line"]), _says(entry)))
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


def function_section(function: str, survey: FileSurvey, blocks: Sequence[Block] = ()) -> Section:
    """The heading of a Function's section; distinct from other sections, and from names that differ only in case."""
    title = f"class {function}"
    before = [entry["name"] for entry in survey.autograd]
    before = before[: before.index(function)]
    same = [one for one in before if Section(f"class {one}", ()).anchor == Section(title, ()).anchor]
    return Section(title, blocks, level=3, again=len(same))


def _functions(card: Card) -> Iterator[Section]:
    for entry in card.survey.autograd:
        blocks: list[Block] = [_what_it_is(card, entry)]
        evidences = card.evidences(entry["name"])
        for evidence in evidences:
            blocks += [*gradient_blocks(card.path, evidence), *onnx_blocks(card.path, evidence)]
        if not evidences:
            blocks.append(Paragraph((NOT_MEASURED,)))
        yield function_section(entry["name"], card.survey, blocks)


def _what_it_is(card: Card, entry: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, Line]] = [
        ("forward", (Code(f"{entry['name']}.forward{entry['signature']}"), ", ", card.line(entry["forward_line"]))),
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


def _security(card: Card) -> Block:
    survey = card.survey
    stops = survey.security
    if not stops:
        return Paragraph((f"None of these patterns: {', '.join(survey.security_patterns)}.",))
    place = card.line if is_card(survey) else "line {}".format
    return Bullets([(place(stop["line"]), f", {stop['pattern']}: ", Code(stop["code"])) for stop in stops])


def _testing(card: Card) -> list[Block]:
    blocks: list[Block] = []
    for function, tests in card.survey.tested_by.items():
        names: list[Inline] = [Code(f"{test['file']}::{test['test']}") for test in tests]
        where: Line = (" is exercised by ", *join_inline(names), ".") if names else (" is in none of the tests.",)
        blocks.append(Paragraph((Code(function), *where)))
    return blocks + _each(card, usage_blocks)


def _each(card: Card, blocks_of: Callable[[str, Evidence], Sequence[Block]]) -> list[Block]:
    """The blocks of every measured Function, and a note for the others."""
    blocks: list[Block] = []
    for entry in card.survey.autograd:
        evidences = card.evidences(entry["name"])
        for evidence in evidences:
            blocks += blocks_of(card.path, evidence)
        if not evidences:
            blocks.append(Paragraph((Code(entry["name"]), f": {NOT_MEASURED}")))
    return blocks


def _related_functions(card: Card) -> list[Block]:
    blocks: list[Block] = []
    for function, groups in card.survey.related.items():
        for what, places in groups.items():
            if places:
                links = [Link(place, docs_page(place.rpartition(":")[0])) for place in places]
                said = "near duplicates of " if what == "near duplicates" else f"{what} as "
                blocks.append(Paragraph((said, Code(function), ": ", *join_inline(links), ".")))
    folder = posixpath.dirname(card.path)
    neighbours = [other for other in card.surveyed if posixpath.dirname(other) == folder and other != card.path]
    blocks.append(Bullets([(Link(other, docs_page(other)),) for other in neighbours]))
    return blocks if neighbours else [*blocks[:-1], Paragraph(("There is no other file in the folder.",))]


def _cross_references(card: Card) -> Bullets:
    folder = posixpath.dirname(card.path)
    return Bullets(
        [
            (Link("keywords of this file", kw_page(card.path)),),
            (Link("the folder", posixpath.join(folder, "index")),),
            (Link("overview", posixpath.join(folder, "doc")),),
        ]
    )
