"""Whatever a page holds comes out as the same text, in Markdown and in HTML, and as nothing else."""

import html.parser
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gradport.reporting.document import Badge, Bullets, Code, Listing, Page, Paragraph, Section, Table
from gradport.reporting.html import search_index, single_file, site_page
from gradport.reporting.markdown import markdown
from gradport.reporting.text import plain

TRICKS = """<b>x</b> @ a|b @ ` @ ``x`` @ [a](b) @ ![a](b) @ # a @ - a @ 1. a @ 1) a @ > a @ *** @ a_b_c @ &lt; @ &amp
@ http://a.b @ <http://a.b> @ [^1] @ ~~a~~ @ {{ a }} @ {% a %} @ + a @ $a$ @ --- @ === @ \\ @ a\\|b
@ <!-- @ ]]> @ ``` @ ~~~"""
TEXT = st.text(min_size=1, max_size=60) | st.sampled_from(
    [*(trick.strip() for trick in TRICKS.split("@")), "    code", "a\n\nb", "a  \nb", "=\n=", "a\n---", "\ta"]
)


def squeezed(text):
    return " ".join(plain(text).split())


class _Text(html.parser.HTMLParser):
    """The text of a document, and the tags that are in it."""

    def __init__(self, text):
        super().__init__()
        self.data, self.tags, self._deaf = [], set(), 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self._deaf += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._deaf -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._deaf:
            self.data.append(data)

    def text(self):
        return squeezed("".join(self.data))


def page(*blocks):
    return Page("page", "title", [], [Section("section", blocks)])


def rendered(text):
    return _Text(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))


@given(TEXT)
@example("x" * 500)
def test_a_paragraph_says_the_same_in_markdown(text):
    found = rendered(markdown(page(Paragraph((text,)))))
    assert found.text() == squeezed(f"title title section {text}")
    assert found.tags <= {"h1", "h2", "p", "br"}


@given(TEXT, TEXT)
def test_a_table_keeps_its_cells_in_markdown(one, other):
    made = rendered(markdown(page(Table(("a", "b"), [[(one,), (Code(other),)]]))))
    assert (
        {"table", "td", "code"} <= made.tags <= {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "code"}
    )
    assert made.text() == squeezed(f"title title section a b {one} {other}")


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_a_list_has_its_items_in_markdown(items):
    text = MarkdownIt("commonmark").render(markdown(page(Bullets([(item,) for item in items]))))
    assert text.count("<li>") == len(items)


@given(TEXT)
def test_a_listing_is_what_it_was_in_markdown(text):
    assert rendered(markdown(page(Listing(text)))).text() == squeezed(f"title title section {text}")


@given(TEXT)
def test_everything_says_the_same_in_html(text):
    found, tame = (_Text(single_file(page(*everything(said)))) for said in (text, "x"))
    assert found.text().count(squeezed(text)) >= 6
    assert found.tags == tame.tags


def everything(text):
    yield from (Paragraph((text, Code(text), Badge(text))), Table((text,), [[(text,)]]), Listing(text, "text"))


@given(TEXT)
def test_a_title_is_text_everywhere(text):
    found = site_page(Page("a/b", text, [], []))
    assert _Text(found).text().count(squeezed(text)) >= 2
    assert set(re.findall(r'src="([^"]*)"', found)) == {"../assets/search.js", "../assets/site.js"}


@given(TEXT)
def test_the_search_index_is_a_script_that_no_text_ends(text):
    assert "<" not in search_index([Page("p", text, [], [], text, [text])])


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\x7f", "\x85", "\u200f", "\u202e", "\u2066", "\ufeff", "\ud800"]
)
def test_what_controls_is_replaced(character):
    for text in (markdown(page(Paragraph((character,)))), single_file(page(Paragraph((character,))))):
        assert character not in text and "\ufffd" in text
        text.encode()
