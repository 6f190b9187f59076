"""Every page of a folder, once as Markdown and once as a static site."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradport.evidence.evidence import Evidence
from gradport.reporting.card import Survey, card
from gradport.reporting.document import Block, Details, Figure, Link, Page
from gradport.reporting.folder import Measured, folders_of, index, keywords, overview
from gradport.reporting.html import ASSETS, asset, of_site, search_index
from gradport.reporting.markdown import markdown
from gradport.reporting.measured import evidence_file

__all__ = ["SITE", "as_markdown", "as_site", "pages", "require_links"]

SITE = "_site"
"""The folder of the HTML pages, below that of the Markdown."""


def pages(surveyed: Survey, measured: Measured) -> list[Page]:
    """Every page.

    Args:
        surveyed: the Evidence of each file by its path, as `survey_folder` gives it.
        measured: what was measured of single Functions, by `file:Function`.
    """
    folders = folders_of(surveyed)
    found: list[Page] = []
    for folder in folders:
        found += [index(folder, folders, surveyed, measured), overview(folder, surveyed)]
    for path, evidence in surveyed.items():
        own = {entry["name"]: measured.get(f"{path}:{entry['name']}", ()) for entry in evidence.source["autograd"]}
        found += [card(path, surveyed, own), keywords(path, evidence)]
    require_links(found)
    return found


def require_links(made: Sequence[Page]) -> None:
    """Every link leads to a page that is there.

    Raises:
        ValueError: one does not.
    """
    known = {page.path for page in made}
    for page in made:
        for link in _links(page):
            if link.page and link.page not in known:
                raise ValueError(f"the page {page.path} links to {link.page}, which is not there")


def _links(value: Any) -> Iterator[Link]:
    """Every link within a page."""
    if isinstance(value, Link):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _links(getattr(value, field.name))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _links(item)


def as_markdown(made: Sequence[Page], measured: Measured) -> dict[str, str]:
    """The text of each file by its path: Markdown, the figures it shows, and the Evidence it was drawn from."""
    texts = {f"{page.path}.md": markdown(page) for page in made}
    for page in made:
        texts |= {figure.name: _standing_alone(figure.svg) for figure in _figures(page) if not figure.mermaid}
    return texts | _evidence(measured)


def as_site(made: Sequence[Page], measured: Measured) -> dict[str, str]:
    """The text of each file of the site by its path below its root."""
    texts = {f"{page.path}.html": of_site(page) for page in made}
    texts |= {posixpath.join("assets", name): asset(name) for name in ASSETS}
    texts["assets/search.js"] = search_index(made)
    return texts | _evidence(measured)


def _evidence(measured: Mapping[str, Sequence[Evidence]]) -> dict[str, str]:
    return {
        evidence_file(key.rpartition(":")[0], one): one.to_json() for key, found in measured.items() for one in found
    }


def _figures(page: Page) -> Iterator[Figure]:
    def inside(blocks: Sequence[Block]) -> Iterator[Figure]:
        for block in blocks:
            if isinstance(block, Figure):
                yield block
            elif isinstance(block, Details):
                yield from inside(block.blocks)

    for section in page.sections:
        yield from inside(section.blocks)


def _standing_alone(svg: str) -> str:
    """A drawing that is no part of a page, on paper of its own, so that it can be read on any ground."""
    return svg.replace("<svg", '<svg style="color:#1c2128;background:#ffffff"', 1)
