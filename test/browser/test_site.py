"""The pages in a real browser: sort, filter, search, themes, narrow screens, paper, and no request to any network."""

import pathlib

import pytest

KINDS = [
    "index",
    "doc",
    "autograd_helper.py_docs",
    "identity_models.py_docs",
    "test_models.py_docs",
    "test_models.py_kw",
]


@pytest.mark.parametrize("look", [{}, {"dark": True}, {"width": 390}], ids=["light", "dark", "narrow"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_page_of_the_site_is_inaccessible(quiet, site, kind, look):
    assert quiet.open(site / f"{kind}.html", **look).violations() == []


@pytest.mark.parametrize("look", [{}, {"dark": True}, {"width": 390}], ids=["light", "dark", "narrow"])
def test_the_page_of_a_run_is_accessible(quiet, report, look):
    assert quiet.open(report, **look).violations() == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_a_phone(quiet, site, kind):
    quiet.open(site / f"{kind}.html", width=390)
    assert quiet.run("return document.documentElement.scrollWidth") <= 390


def test_the_page_of_a_run_is_not_wider_than_a_phone(quiet, report):
    quiet.open(report, width=390)
    assert quiet.run("return document.documentElement.scrollWidth") <= 390


def test_search_finds_and_leads_there(quiet, site):
    quiet.open(site / "index.html")
    quiet.find("#query").send_keys("CustomFunction helper")
    assert "autograd_helper.py" in quiet.texts("#found a")
    quiet.find("#found a").click()
    assert pathlib.PurePosixPath(quiet.driver.current_url).name.startswith("autograd_helper.py_")


def test_search_by_keys_alone(quiet, site):
    from selenium.webdriver.common.keys import Keys

    quiet.open(site / "index.html")
    quiet.find("body").send_keys("/")
    quiet.driver.switch_to.active_element.send_keys("test_lazy_import.py" + Keys.ENTER)
    assert "test_lazy_import.py" in quiet.driver.current_url


def test_search_for_nothing_says_so(quiet, site):
    quiet.open(site / "index.html")
    quiet.find("#query").send_keys("no such thing anywhere")
    assert quiet.texts("#found li") == ["Nothing is called that."]


def names(browser):
    return browser.run(
        "return [...document.querySelectorAll('table.searchable')[0].tBodies[0].rows].filter(r => !r.hidden)"
        ".map(r => r.cells[0].innerText.trim())"
    )


def test_a_table_sorts_both_ways_and_by_number(quiet, report):
    quiet.open(report)
    quiet.find("table.searchable th button").click()
    assert names(quiet)[:3] == ["Function0", "Function1", "Function2"]
    quiet.find("table.searchable th button").click()
    assert names(quiet)[:2] == ["Function199", "Function198"]
    assert quiet.find("table.searchable th").get_attribute("aria-sort") == "descending"


def test_a_table_is_filtered_by_text_and_by_outcome(quiet, report):
    from selenium.webdriver.support.ui import Select

    quiet.open(report)
    quiet.find(".filter input").send_keys("function19")
    assert names(quiet) == ["Function19", *(f"Function{n}" for n in range(190, 200))]
    assert quiet.texts(".filter output")[0] == "11 of 200"
    quiet.find(".filter input").clear()
    Select(quiet.find(".filter select")).select_by_visible_text("failed")
    assert names(quiet) == [f"Function{n}" for n in (7, 57, 107, 157)]


def test_a_link_opens_what_it_leads_to(quiet, report):
    quiet.open(report)
    quiet.run("[...document.querySelectorAll('a')].find(a => a.innerText === 'Function57').click()")
    assert quiet.run("return document.getElementById('58-function57') !== null")
    place = quiet.run("return [...document.querySelectorAll('details[open] p a')].pop().getAttribute('href')")
    quiet.run("location.hash = arguments[0]", place)
    assert quiet.run("return document.querySelector(':target').offsetHeight") > 0


def background(browser):
    return browser.run("return getComputedStyle(document.body).backgroundColor")


def test_light_and_dark_follow_the_system_and_the_button(quiet, site):
    quiet.open(site / "index.html")
    light = background(quiet)
    quiet.open(site / "index.html", dark=True)
    assert background(quiet) != light
    quiet.find("#theme").click()  # auto to light
    assert quiet.find("#theme").text == "Theme: light" and background(quiet) == light
    quiet.open(site / "doc.html", dark=True)
    assert background(quiet) == light, "the choice is kept from page to page"
    quiet.find("#theme").click(), quiet.find("#theme").click()
    assert quiet.find("#theme").text == "Theme: auto"


def test_paper_shows_what_is_folded(quiet, report):
    quiet.open(report)
    folded = quiet.run("return document.querySelectorAll('details:not([open])').length")
    assert folded > 100
    assert quiet.pdf().startswith(b"%PDF")
    assert quiet.run("return document.querySelectorAll('details:not([open])').length") == 0


def test_hostile_names_are_text(quiet, site, report):
    for page in (site / "identity_models.py_docs.html", report):
        quiet.open(page)
        assert quiet.run("return document.querySelectorAll('img').length") == 0
        text = quiet.run("return document.body.textContent")
        assert "<img src=x onerror=alert(1)>" in text
        assert "\x07" not in text and "\u202e" not in text and "\ufffd" in text


def test_a_page_works_without_its_script(site):
    text = (site / "index.html").read_text()
    before = text.partition("<script")[0]
    assert "autograd_helper.py_docs.html" in before and 'id="search" hidden' in before


def test_two_hundred_functions_open_at_once(quiet, report):
    """Under a second on an idle machine (bench/page.py measures it); here only that nothing hangs."""
    assert report.stat().st_size < 5e6
    quiet.open(report)
    assert quiet.run("return performance.getEntriesByType('navigation')[0].loadEventEnd") < 10_000
