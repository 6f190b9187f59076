"""All pages of a folder, as Markdown and as a static site."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradport.evidence.evidence import Evidence
from gradport.reporting.card import Card, Survey
from gradport.reporting.document import Block, Details, Figure, Link, Page
from gradport.reporting.folder import Measured, folders_of, index, keywords, overview
from gradport.reporting.html import ASSETS, asset, search_index, site_page
from gradport.reporting.markdown import markdown
from gradport.reporting.measured import evidence_file

__all__ = ["SITE", "as_markdown", "as_site", "pages", "require_links"]

SITE = "_site"
"""The folder of the HTML pages, inside the folder of the Markdown pages."""


def pages(surveyed: Survey, measured: Measured) -> list[Page]:
    """All pages.

    Args:
        surveyed: the survey of each file by its path, from `survey_folder`.
        measured: the Evidences of single Functions, by `file:Function`.
    """
    folders = folders_of(surveyed)
    all_pages: list[Page] = []
    for folder in folders:
        all_pages += [index(folder, folders, surveyed, measured), overview(folder, surveyed)]
    for path, survey in surveyed.items():
        own = {entry["name"]: measured.get(f"{path}:{entry['name']}", ()) for entry in survey.autograd}
        all_pages += [Card(path, surveyed, own).page(), keywords(path, survey)]
    require_links(all_pages)
    return all_pages


def require_links(all_pages: Sequence[Page]) -> None:
    """Checks that every link leads to an existing page.

    Raises:
        ValueError: a link does not.
    """
    known = {page.path for page in all_pages}
    for page in all_pages:
        for link in _links(page):
            if link.page and link.page not in known:
                raise ValueError(f"the page {page.path} links to {link.page}, which is not there")


def _links(value: Any) -> Iterator[Link]:
    """All links of a page."""
    if isinstance(value, Link):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _links(getattr(value, field.name))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _links(item)


def as_markdown(all_pages: Sequence[Page], measured: Measured) -> dict[str, str]:
    """The text of each file by its path: Markdown pages, their figures, and the Evidence files."""
    texts = {f"{page.path}.md": markdown(page) for page in all_pages}
    for page in all_pages:
        texts |= {figure.name: _add_background(figure.svg) for figure in _figures(page) if not figure.mermaid}
    return texts | _evidence(measured)


def as_site(all_pages: Sequence[Page], measured: Measured) -> dict[str, str]:
    """The text of each file of the site by its path relative to the root."""
    texts = {f"{page.path}.html": site_page(page) for page in all_pages}
    texts |= {posixpath.join("assets", name): asset(name) for name in ASSETS}
    texts["assets/search.js"] = search_index(all_pages)
    return texts | _evidence(measured)


def _evidence(measured: Mapping[str, Sequence[Evidence]]) -> dict[str, str]:
    return {evidence_file(key.rpartition(":")[0], one): one.to_json() for key, ones in measured.items() for one in ones}


def _figures(page: Page) -> Iterator[Figure]:
    def inside(blocks: Sequence[Block]) -> Iterator[Figure]:
        for block in blocks:
            if isinstance(block, Figure):
                yield block
            elif isinstance(block, Details):
                yield from inside(block.blocks)

    for section in page.sections:
        yield from inside(section.blocks)


def _add_background(svg: str) -> str:
    """A drawing as a separate file with its own background, so that it is readable on any page."""
    return svg.replace("<svg", '<svg style="color:#1c2128;background:#ffffff"', 1)
