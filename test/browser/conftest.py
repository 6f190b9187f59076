"""Debian's Chromium, driven by selenium, and pages for it. `make test-browser` installs both, and axe-core."""

import base64
import dataclasses
import json
import os
import pathlib
import shutil

import pytest

import gradport
from gradport.documenting import survey_folder, with_excerpts
from gradport.measuring.measure import measure
from gradport.reporting.run import run_html
from gradport.reporting.site import as_site, pages

ROOT = pathlib.Path(__file__).parents[2]
AXE = ROOT / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --hide-scrollbars"""


def pytest_collection_modifyitems(items):
    for item in items:
        if pathlib.Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


class Browser:
    """A window, what its console said, and what it asked of the network."""

    def __init__(self, folder):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in (*FLAGS.split(), f"--user-data-dir={folder}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        self.driver.set_script_timeout(300)  # a machine that does other work as well is slow, and no test may see it
        self.driver.set_page_load_timeout(300)

    def open(self, path, *, width=1280, dark=False):
        from selenium.webdriver.support.ui import WebDriverWait

        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(path if str(path).startswith("http:") else pathlib.Path(path).as_uri())
        # chromedriver has been seen to come back while a long page was still being read
        loaded = "return document.readyState"
        WebDriverWait(self.driver, 300).until(lambda driver: driver.execute_script(loaded) == "complete")
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())", selector)

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """Every address that was asked for since the last call."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def violations(self):
        """What axe-core finds; each with what it is about."""
        self.run(AXE.read_text("utf-8"))
        found = self.driver.execute_async_script("axe.run({preload: false}).then(r => arguments[0](r.violations))")
        return [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in found]

    def pdf(self):
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    assert shutil.which("chromium") and shutil.which("chromedriver") and AXE.is_file(), "run make test-browser"
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.driver.quit()


@pytest.fixture
def quiet(browser):
    """Fails where the console said anything, or a request left the disk."""
    browser.complaints(), browser.requests()
    yield browser
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:"))] == []


HOSTILE = "<img src=x onerror=alert(1)> \u202eltr \x07 שלום " + "long" * 200


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site of test/onnx, the helper measured, and a Function whose names and texts are hostile."""
    import autograd_helper

    os.environ["OMP_NUM_THREADS"] = "1"
    surveyed = survey_folder(ROOT / "test" / "onnx")
    subject = gradport.Subject(autograd_helper.CustomFunction, gradport.tensor("f32[batch:4,6]"))
    evidence = measure(subject, budget=1.0)
    finding = gradport.Finding("hostile", "differences", "failed", input=HOSTILE, message=HOSTILE)
    hostile = dataclasses.replace(evidence, subject=HOSTILE, findings=(*evidence.findings, finding))
    measured = {"autograd_helper.py:CustomFunction": [evidence], "identity_models.py:CustomFunction": [hostile]}
    return written(tmp_path_factory.mktemp("site"), as_site(pages(surveyed, measured), measured))


def written(folder, texts):
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """The page of a run over 200 Functions, of which some do not hold."""
    where = tmp_path_factory.mktemp("report") / "gradport.html"
    found = [(f"tests/test_all.py::test_{number}", _evidence(number)) for number in range(200)]
    where.write_text(run_html("two hundred", found), "utf-8")
    return where


def _evidence(number):
    findings = [
        gradport.Finding(
            f"rule{n}/x", f"rule{n}", "ok", "derivative", "info", float(n), "ULP", message="It holds. " * 6
        )
        for n in range(30)
    ]
    series = {}
    if number % 50 == 7:
        where = f"{__file__}:{10 + number % 40}"
        findings.append(gradport.Finding("agrees/x", "agrees", "failed", where=where, input=HOSTILE, message=HOSTILE))
        series["divergence"] = [
            {
                "node": f"n{n}",
                "op": "Mul",
                "half": "forward" if n < 20 else "backward",
                "place": where,
                "relative": 0.0 if n < 25 else 0.5,
                "first": n == 25,
            }
            for n in range(40)
        ]
    return with_excerpts(gradport.Evidence(f"Function{number}", tuple(findings), series))
