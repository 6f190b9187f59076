"""A page as data: sections of paragraphs, tables, listings and figures. `markdown` and `html` each write it out.

What a page says is decided once, in the modules that build it; how text is escaped is decided in the two that write.
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
    """An outcome: held, failed, skipped, undecided, error, or another word."""

    outcome: str


@dataclasses.dataclass(frozen=True)
class Link:
    """A link to a page of the same set.

    Attributes:
        label: what is clicked.
        page: path of the page below the root, without a suffix; empty: this page.
        anchor: of a section, as `Section.anchor` gives it.
        line: of the source that the page shows; takes the anchor's place.
    """

    label: str
    page: str = ""
    anchor: str = ""
    line: int | None = None


@dataclasses.dataclass(frozen=True)
class FileLink:
    """A link to a file that lies beside the pages, by its path below the root."""

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
    """A table; one that is `searchable` can be sorted and filtered where there is a script.

    Attributes:
        head: the headings; all empty for a table of names and values.
        rows: a line for each cell.
        searchable: whether a person will want to look for rows.
        caption: what it shows.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Line]]
    searchable: bool = False
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """Code.

    Attributes:
        text: of it.
        language: as Pygments calls it.
        first: number of its first line, where links lead to its lines.
        prefix: of the lines' anchors, which are this, a hyphen and the line's number.
    """

    text: str
    language: str = "python"
    first: int | None = None
    prefix: str = "L"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        name: of the file that holds it, below the root.
        svg: the drawing.
        description: what it shows, for those who do not see it.
        mermaid: the same as a Mermaid graph, which Markdown takes instead.
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
    """Blocks that are shown when they are asked for."""

    summary: Line
    blocks: Sequence[Block]
    open: bool = False


Block = Paragraph | Bullets | Table | Listing | Figure | Bar | Details


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]
    level: int = 2
    again: int = 0

    @property
    def anchor(self) -> str:
        """What a link to it says: the one that GitHub, MkDocs and Sphinx give the heading, `again` where it has a
        namesake above it."""
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
        words: further words that it is found by.
    """

    path: str
    title: str
    trail: Sequence[Link]
    sections: Sequence[Section]
    summary: str = ""
    words: Sequence[str] = ()


def join_inline(items: Sequence[Inline], between: str = ", ", *, none: str = "none") -> Line:
    """A line of items with text between them."""
    found: list[Inline] = []
    for item in items:
        found += [between, item] if found else [item]
    return tuple(found) or (none,)
