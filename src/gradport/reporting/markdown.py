"""Writes pages as Markdown for GitHub, MkDocs and Sphinx. The content of a page is untrusted: all of it is escaped."""

from __future__ import annotations

import posixpath
import re
import urllib.parse

from gradport.evidence.evidence import Outcome
from gradport.reporting.document import (
    Badge,
    Bar,
    Block,
    Bullets,
    Code,
    Details,
    Figure,
    FileLink,
    Inline,
    Line,
    Link,
    Listing,
    Page,
    Paragraph,
    Section,
    Table,
)
from gradport.reporting.text import plain

__all__ = ["markdown"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~!$])")


def markdown(page: Page) -> str:
    """The page as Markdown; figures are separate files."""
    trail = [*(_inline(link, page) for link in page.trail), _text(page.title)]
    parts = [f"# {_text(page.title)}", " / ".join(trail)]
    for section in page.sections:
        parts += [_heading(section), *(_block(block, page) for block in section.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(section: Section) -> str:
    return f"{'#' * section.level} {_text(section.title)}" if section.title else ""


def _block(block: Block, page: Page) -> str:
    match block:
        case Paragraph(line):
            return _line(line, page).strip()
        case Bullets(items):
            return "\n".join(f"- {' '.join(_line(item, page).split())}" for item in items)
        case Table():
            return _table(block, page)
        case Listing(text, language):
            return _fence(text, language)
        case Figure():
            return _figure(block, page)
        case Bar(counts):
            return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) + "."
        case Details(summary, blocks):
            inside = "\n\n".join(_block(inner, page) for inner in blocks)
            return f"**{_line(summary, page)}**\n\n{inside}"


def _line(line: Line, page: Page) -> str:
    return "".join(_inline(item, page) for item in line)


def _inline(item: Inline, page: Page) -> str:
    match item:
        case Code(text):
            return _code(text)
        case Badge(outcome):
            return (
                f"**{_text(outcome)}**"
                if outcome in (Outcome.FAILED, Outcome.ERROR, Outcome.UNDECIDED)
                else _text(outcome)
            )
        case Link(label):
            return f"[{_code(label)}]({_target(item, page)})"
        case FileLink(label, path):
            return f"[{_code(label)}]({_relative(path, page)})"
        case _:
            return _text(item)


def _target(link: Link, page: Page) -> str:
    anchor = "original-source" if link.line is not None else link.anchor
    where = _relative(f"{link.page}.md", page) if link.page else ""
    return f"{where}{'#' if anchor else ''}{anchor}" or "#"


def _relative(path: str, page: Page) -> str:
    return urllib.parse.quote(posixpath.relpath(path, posixpath.dirname(page.path) or "."))


def _table(table: Table, page: Page) -> str:
    head = f"| {' | '.join(_text(name) for name in table.head)} |"
    rule = f"|{' --- |' * len(table.head)}"
    rows = [f"| {' | '.join(_cell(cell, page) for cell in row)} |" for row in table.rows]
    caption = [f"{_text(table.caption)}\n"] if table.caption else []
    return "\n".join([*caption, head, rule, *rows])


def _cell(line: Line, page: Page) -> str:
    """A line in a table cell, where a bar in code would start the next cell."""
    items = (_inline(item, page) for item in line)
    coded = (
        text if isinstance(item, str) else text.replace("|", r"\|") for item, text in zip(line, items, strict=True)
    )
    return " ".join("".join(coded).split()) or " "


def _figure(figure: Figure, page: Page) -> str:
    if figure.mermaid:
        return f"```mermaid\n{figure.mermaid}\n```"
    return f"![{_text(figure.description)}]({_relative(figure.name, page)})"


def _text(text: str) -> str:
    """Escapes text for Markdown and HTML, also at the start of a line; removes indentation, which would mean code."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    first, *rest = _SPECIAL.sub(r"\\\1", safe).split("\n")
    return "\n".join([_flush(first), *(_flush(line.strip()) for line in rest)])


def _flush(line: str) -> str:
    """Escapes the start of a line that would be a list, a rule or a heading."""
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", re.sub(r"^([-+=])", r"\\\1", line))


def _code(text: str) -> str:
    """Inline code, with a fence of more backticks than in the code."""
    shown = " ".join(plain(text).split()) or " "
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _fence(text: str, language: str) -> str:
    """A block of code, with a fence of more backticks than in the code."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{plain(text).rstrip()}\n{fence}"
