"""examples/web in a real Chromium: a visitor draws, labels, trains, undoes, reloads and downloads.

`make test-browser` builds the page. The server has nothing but files, in a folder below its root, and sends the policy
of the page as a header too, which also binds the worker.
"""

import functools
import http.server
import pathlib
import re
import shutil
import threading
import zipfile

import numpy as np
import onnxruntime
import pytest

ROOT = pathlib.Path(__file__).parents[2]
BUILT = ROOT / "examples" / "web" / "dist"

# Not a digit: the network has to learn what the visitor calls it.
ZIGZAG = [[(0.2, 0.2), (0.35, 0.8), (0.5, 0.2), (0.65, 0.8), (0.8, 0.2)]]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    assert (BUILT / "index.html").is_file(), "run make test-browser"
    folder = tmp_path_factory.mktemp("web")
    shutil.copytree(BUILT, folder / "some" / "folder")
    policy = re.search(r'content="(default-src[^"]+)"', (BUILT / "index.html").read_text("utf-8"))[1]

    class Files(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Content-Security-Policy", policy)
            super().end_headers()

        def log_message(self, *what):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/some/folder/"
    server.shutdown()


class Page:
    """What a visitor does and sees."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def load(self, **how):
        self.browser.open(self.address, **how)
        self.wait(lambda: self.text("#status") not in ("", "Loading the network."))

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser.driver, 120, poll_frequency=0.05).until(lambda _: condition())

    def text(self, selector):
        return self.browser.find(selector).text

    def guess(self):
        """The guessed digit, and the percentage of each."""
        self.wait(lambda: self.browser.find("#guesses").get_attribute("aria-busy") == "false")
        shares = [text.removesuffix("%") for text in self.browser.texts(".percent")]
        return int(re.search(r"Looks like a (\d)", self.text("#guess"))[1]), [int(share) for share in shares]

    def draw(self, strokes, kind="mouse"):
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        pad = self.browser.find("#pad")
        size = pad.size["width"]
        pen = ActionChains(self.browser.driver, duration=20, devices=[PointerInput(kind, kind)]).w3c_actions
        for stroke in strokes:
            for at, (x, y) in enumerate(stroke):
                pen.pointer_action.move_to(pad, int((x - 0.5) * size), int((y - 0.5) * size))
                if at == 0:
                    pen.pointer_action.pointer_down()
            pen.pointer_action.pointer_up()
        pen.perform()

    def press(self, name):
        self.browser.driver.find_element("xpath", f"//button[normalize-space()='{name}']").click()

    def label(self, digit):
        self.browser.find(f"#guesses li:nth-child({digit + 1}) button").click()

    def train(self):
        self.press("Train")
        self.wait(lambda: self.text("#status").startswith("Trained"))

    def losses(self):
        """Heights of the line of the visitor's drawings in the chart, from the bottom."""
        points = self.browser.find("#loss polyline.own").get_attribute("points")
        return [-float(point.partition(",")[2]) for point in points.split()]

    def undo(self):
        self.press("Undo")
        self.wait(lambda: self.text("#status").startswith("Went back"))


@pytest.fixture
def page(browser, address):
    """The page of somebody who has not been here before; fails on console messages and requests to other hosts."""
    host = address.partition("/some")[0]
    browser.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": host, "storageTypes": "all"})
    browser.driver.get("about:blank")
    browser.complaints(), browser.requests()
    yield Page(browser, address)
    assert browser.complaints() == []
    asked = browser.requests()
    assert asked and [url for url in asked if not url.startswith((address, "blob:"))] == []


def test_a_drawing_is_learned_and_unlearned(page):
    page.load()
    page.draw(ZIGZAG)
    before = page.guess()
    digit = (before[0] + 5) % 10
    page.label(digit)
    page.train()
    learned, losses = page.guess(), page.losses()
    assert learned[0] == digit and losses[-1] < losses[0]
    page.train()
    assert page.guess()[0] == digit and len(page.losses()) > len(losses)
    page.undo()
    assert page.guess() == learned and page.losses() == losses
    page.undo()
    assert page.guess() == before and not page.browser.find("#undo").is_enabled()


def test_a_reload_goes_on_and_the_download_runs(page, tmp_path):
    page.load()
    page.draw(ZIGZAG)
    page.label(5)
    page.train()
    trained, losses = page.guess(), page.losses()
    page.load()
    assert page.text("#count") == "1 drawing" and "40 steps" in page.text("#status") and page.losses() == losses
    page.draw(ZIGZAG)
    assert page.guess() == trained
    page.browser.driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    page.press("Download model")
    page.wait((tmp_path / "digits.zip").is_file)
    with zipfile.ZipFile(tmp_path / "digits.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    seen = "return [...document.getElementById('preview').getContext('2d').getImageData(0, 0, 16, 16).data]"
    image = np.array(page.browser.run(seen), np.float32).reshape(1, 16, 16, 4)[..., 0] / 255
    (logits,) = onnxruntime.InferenceSession(tmp_path / "digits.onnx").run(None, {"image": image[None]})
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum() * 100
    assert shares.argmax() == trained[0] and shares == pytest.approx(trained[1], abs=2)


def test_training_stops_when_asked(page):
    page.load()
    page.draw(ZIGZAG)
    page.label(5)
    page.press("Train")
    page.wait(lambda: page.text("#pace").startswith("Step"))
    page.press("Stop")
    page.wait(lambda: page.text("#status").startswith("Trained"))
    assert int(re.search(r"Trained (\d+) steps", page.text("#status"))[1]) < 40


def test_the_keyboard_draws_labels_and_deletes(page):
    from selenium.webdriver.common.keys import Keys

    page.load()
    pad = page.browser.find("#pad")
    pad.send_keys(Keys.SPACE, *[Keys.ARROW_DOWN] * 12, Keys.SPACE)
    assert page.guess()[0] in range(10)
    pad.send_keys("1")
    assert page.text("#count") == "1 drawing"
    pad.send_keys("7")
    assert page.text(".group-digit") == "7"
    thumbnail = page.browser.find(".thumbnail")
    assert thumbnail.get_attribute("aria-label") == "Delete drawing 1 of 7"
    thumbnail.send_keys(Keys.ENTER)
    assert page.text("#count") == "0 drawings"
    pad.send_keys(Keys.ESCAPE)
    page.wait(lambda: page.text("#guess") == "Draw a digit first")


def test_everything_can_be_deleted(page):
    page.load()
    page.draw(ZIGZAG)
    page.label(5)
    page.press("Delete all")
    page.press("Delete")
    page.wait(lambda: page.text("#status") == "Everything is deleted.")
    files = """const names = [];
    for await (const name of (await navigator.storage.getDirectory()).keys()) names.push(name);
    return names"""
    assert page.browser.driver.execute_script(f"return (async () => {{ {files} }})()") == []
    page.load()
    assert page.text("#count") == "0 drawings"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_a_phone_and_is_accessible(page, dark):
    page.load(width=360, dark=dark)
    page.draw(ZIGZAG, "touch")
    page.label(3)
    page.draw(ZIGZAG, "touch")
    page.guess()
    assert page.browser.run("return document.documentElement.scrollWidth") == 360
    assert page.browser.violations() == []
    page.browser.run("document.getElementById('confirm').showModal()")
    assert page.browser.violations() == []
