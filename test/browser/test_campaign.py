"""The page of a campaign in Chromium: 20,000 cases open and filter at once; what a person clicks says enough."""

import pytest

import gradport
from gradport.campaigning.cases import Action, Case, CaseOutcome, Options, Result
from gradport.campaigning.planning import Planned
from gradport.campaigning.store import Store

from .conftest import HOSTILE

OPENS = 2000
FILTERS = 100
"""Milliseconds of the page's own clock; the page needs about a tenth of each."""

OUTCOMES = [*[CaseOutcome.OK] * 15, *list(CaseOutcome)[1:6]]


def write(place, count, changed=()):
    with Store(place, writes=True) as store:
        for number in range(count):
            subject = HOSTILE if number == 0 else f"Function{number:04d}"
            for opset in range(18, 26):
                for at, form in enumerate(("keep", "inline") if opset % 2 else ("keep", "inline", "opaque")):
                    case = Case("ops.py", subject, Action.VERIFY, opset, None, form)
                    outcome = OUTCOMES[(number * 7 + opset * 3 + at) % len(OUTCOMES)]
                    outcome = CaseOutcome.FAILED if (number, opset) in changed else outcome
                    message = "" if outcome.passes else f"The gradient of x is wrong at x[{number}]."
                    result = Result(
                        outcome, message=HOSTILE if number == 0 else message, output=HOSTILE, evidence=EVIDENCE
                    )
                    store.add(Planned(case, case.setting, "", {"torch": "2.13.0"}), result, Options())


EVIDENCE = gradport.Evidence("Function", (gradport.Finding("a", "a", "failed", message="wrong"),)).to_json()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    write(folder / "old.db", 1000)
    write(folder / "new.db", 1000, changed={(500, 18), (501, 19)})
    gradport.Campaign(folder / "new.db").to_html(folder / "c.html", earlier=folder / "old.db")
    return folder / "c.html"


def choose(browser, name, value):
    return browser.run(
        """const place = document.getElementById(arguments[0]), started = performance.now();
        place.value = arguments[1];
        place.dispatchEvent(new Event("input"));
        document.body.offsetHeight;
        return performance.now() - started;""",
        name,
        value,
    )


def test_twenty_thousand_cases_open_and_filter_at_once(quiet, page):
    quiet.open(page)
    assert quiet.run("return document.documentElement.dataset.ready") == "yes"
    assert quiet.run("return performance.getEntriesByType('navigation')[0].loadEventEnd") < OPENS
    assert quiet.texts("#shown") == ["1000 of 1000 subjects"]
    assert len(quiet.texts("#body th")) < 100  # the rest is not in the page
    took = min(choose(quiet, "find", f"Function00{number}") for number in range(10, 20))
    assert took < FILTERS and quiet.texts("#shown") == ["1 of 1000 subjects"]
    choose(quiet, "find", "")
    assert choose(quiet, "outcome", "1") < 5 * FILTERS
    assert quiet.texts("#shown") != ["1000 of 1000 subjects"]


def test_the_last_subject_is_reached_by_scrolling(quiet, page):
    quiet.open(page)
    quiet.run("document.getElementById('matrix').scrollTop = 1e9")
    quiet.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert quiet.texts("#body th")[-1] == "Function0999"


def test_what_changed_is_found_and_a_case_says_enough(quiet, page):
    quiet.open(page)
    names = quiet.run("return [...document.getElementById('change').options].map(o => o.textContent)")
    broken = next(number for number, name in enumerate(names) if name.startswith("broken"))
    choose(quiet, "change", str(broken - 1))
    assert set(quiet.texts("#body th")) <= {"Function0500", "Function0501"} and quiet.texts("#body th")
    quiet.run("document.querySelector('#matrix .is-broken').click()")
    (text,) = quiet.texts("#case")
    assert "The gradient of x is wrong at x[50" in text and "now failed" in text
    assert "gradport campaign repeat new.db" in text
    link = quiet.find("#case a").get_attribute("href")
    assert link.startswith("file:") and link.endswith(".html")
    quiet.open(link.removeprefix("file://"))
    assert "wrong" in quiet.find("body").text


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (400, False)])
def test_everyone_can_read_it(quiet, page, width, dark):
    quiet.open(page, width=width, dark=dark)
    quiet.run("document.querySelector('#matrix button:not(.ok)').click()")
    assert quiet.violations() == []
    assert quiet.run("return document.documentElement.scrollWidth <= innerWidth")
