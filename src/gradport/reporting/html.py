"""Writes pages as HTML: a single file, or a page of a site. Neither loads anything from a network.

Jinja2 escapes all content of a page; Pygments highlights code and escapes it.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import posixpath
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any

from gradport.compat.extras import Extra, extra
from gradport.reporting.document import Link, Listing, Page
from gradport.reporting.text import plain

with extra(Extra.PAGES, "Pages"):
    import jinja2
    import markupsafe

__all__ = ["ASSETS", "asset", "render", "search_index", "single_file", "site_page"]

ASSETS = ("site.css", "site.js")
"""Files in the `assets` folder of a site, which every page uses."""


def single_file(page: Page) -> str:
    """The page as one file, with style, script and drawings inside."""
    style, script = (markupsafe.Markup(asset(name)) for name in ASSETS)
    return _render("alone.html.j2", page, style=style, script=script)


def site_page(page: Page) -> str:
    """The page of a site, whose assets are in `assets/` at the root, with `search.js` from `search_index`."""
    return _render("site.html.j2", page)


def search_index(pages: Iterable[Page]) -> str:
    """A script with the search words of each page; a script, because a page from a disk cannot fetch other files."""
    entries = [[page.title, f"{page.path}.html", page.summary, " ".join(page.words)] for page in pages]
    text = json.dumps([[plain(part) for part in entry] for entry in entries], ensure_ascii=True, separators=(",", ":"))
    return "window.GRADPORT_SEARCH = " + text.replace("<", "\\u003c") + ";\n"


@functools.cache
def asset(name: str) -> str:
    """The text of a template or asset."""
    return (importlib.resources.files("gradport.reporting") / "templates" / name).read_text("utf-8")


def render(template: str, *, raw: Mapping[str, str], **context: Any) -> str:
    """A template of its own, with texts that are escaped and `raw` parts that are not."""
    parts = {name: markupsafe.Markup(text) for name, text in raw.items()}
    return _environment().get_template(template).render(**context, **parts)


def _render(template: str, page: Page, **rest: Any) -> str:
    up = posixpath.relpath(".", posixpath.dirname(page.path) or ".")
    context = _environment().get_template(template)
    return context.render(page=page, up="" if up == "." else f"{up}/", href=functools.partial(_href, page), **rest)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gradport.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_clean,
    )
    environment.filters |= {
        "kind": lambda item: "Text" if isinstance(item, str) else type(item).__name__,
        "coloured": _colour,
        "share": _share,
        "drawn": markupsafe.Markup,
    }
    return environment


def _clean(value: Any) -> Any:
    """Removes control characters from text; HTML is unchanged, because it was made from such text."""
    return value if isinstance(value, markupsafe.Markup) or not isinstance(value, str) else plain(value)


def _href(page: Page, item: Any) -> str:
    here = posixpath.dirname(page.path) or "."
    if not isinstance(item, Link):
        return urllib.parse.quote(posixpath.relpath(item.path, here))
    anchor = f"L-{item.line}" if item.line is not None else item.anchor
    where = urllib.parse.quote(posixpath.relpath(f"{item.page}.html", here)) if item.page else ""
    return f"{where}#{urllib.parse.quote(anchor)}" if anchor else where


def _colour(listing: Listing) -> markupsafe.Markup:
    with extra(Extra.PAGES, "Pages with code"):
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import get_lexer_by_name

    class Bare(HtmlFormatter):  # type: ignore[misc]
        """A formatter without its own box, which the page has."""

        def wrap(self, source: Any) -> Any:
            return source

    spans = "" if listing.first is None else listing.prefix
    formatter = Bare(linespans=spans, linenostart=listing.first or 1, classprefix="t-")
    lexer = get_lexer_by_name(listing.language, stripnl=False)
    return markupsafe.Markup(highlight(plain(listing.text), lexer, formatter))


def _share(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    total = sum(counts.values()) or 1
    return [(outcome, count, 100 * count / total) for outcome, count in counts.items() if count]
