"""A page as data: sections of paragraphs, tables, listings and figures. `markdown` and `html` write it.

The modules that build pages define the content; only the two modules that write pages escape text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = [
    "Badge",
    "Bar",
    "Block",
    "Bullets",
    "Code",
    "Details",
    "Figure",
    "FileLink",
    "Inline",
    "Line",
    "Link",
    "Listing",
    "Page",
    "Paragraph",
    "Section",
    "Table",
    "join_inline",
]


@dataclasses.dataclass(frozen=True)
class Code:
    """A name or a piece of code within a line."""

    text: str


@dataclasses.dataclass(frozen=True)
class Badge:
    """An outcome: ok, failed, skipped, undecided, error, or another word."""

    outcome: str


@dataclasses.dataclass(frozen=True)
class Link:
    """A link to a page of the same set.

    Attributes:
        label: the text of the link.
        page: path of the page relative to the root, without a suffix; empty: this page.
        anchor: the `Section.anchor` of a section.
        line: a line of the source on the page; replaces the anchor.
    """

    label: str
    page: str = ""
    anchor: str = ""
    line: int | None = None


@dataclasses.dataclass(frozen=True)
class FileLink:
    """A link to a file beside the pages, by its path relative to the root."""

    label: str
    path: str


Inline = str | Code | Badge | Link | FileLink

Line = tuple[Inline, ...]


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A line of text."""

    line: Line


@dataclasses.dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[Line]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; with `searchable` it can be sorted and filtered by a script.

    Attributes:
        head: the headings; all empty for a table of names and values.
        rows: a line for each cell.
        searchable: whether readers search for rows.
        caption: a description.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Line]]
    searchable: bool = False
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """Code.

    Attributes:
        text: the code.
        language: its name in Pygments.
        first: the number of its first line, if links lead to its lines.
        prefix: the prefix of the lines' anchors, followed by a hyphen and the line number.
    """

    text: str
    language: str = "python"
    first: int | None = None
    prefix: str = "L"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        name: its file, relative to the root.
        svg: the drawing.
        description: a description for readers who cannot see it.
        mermaid: the same as a Mermaid graph, used in Markdown.
    """

    name: str
    svg: str
    description: str
    mermaid: str = ""


@dataclasses.dataclass(frozen=True)
class Bar:
    """Counts of outcomes as one bar."""

    counts: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Details:
    """Blocks that are hidden until the reader opens them."""

    summary: Line
    blocks: Sequence[Block]
    open: bool = False


Block = Paragraph | Bullets | Table | Listing | Figure | Bar | Details


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and its blocks."""

    title: str
    blocks: Sequence[Block]
    level: int = 2
    again: int = 0

    @property
    def anchor(self) -> str:
        """The anchor that GitHub, MkDocs and Sphinx give the heading; `again` if an earlier section has the same
        heading."""
        kept = "".join(letter for letter in self.title.lower() if letter.isalnum() or letter in " -_")
        return kept.replace(" ", "-") + (f"-{self.again}" if self.again else "")


@dataclasses.dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        path: below the root, without a suffix.
        title: its heading.
        trail: the pages above it.
        sections: in their order.
        summary: one line about it, for the search.
        words: further words for the search.
    """

    path: str
    title: str
    trail: Sequence[Link]
    sections: Sequence[Section]
    summary: str = ""
    words: Sequence[str] = ()


def join_inline(items: Sequence[Inline], between: str = ", ", *, none: str = "none") -> Line:
    """Joins items with text between them."""
    joined: list[Inline] = []
    for item in items:
        joined += [between, item] if joined else [item]
    return tuple(joined) or (none,)
