"""How long the page of 200 Functions takes to open in headless Chromium, and how much it weighs.

    make test-browser && python bench/page.py [--rounds 5]

One line: bytes, and the median over rounds of milliseconds until the load event has ended.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "test" / "browser"))

import conftest

from gradport.reporting.run import run_html


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(folder) / "page.html"
        page.write_text(run_html("two hundred", [(f"test_{n}", conftest._evidence(n)) for n in range(200)]), "utf-8")
        browser = conftest.Browser(f"{folder}/profile")
        times = []
        for _ in range(rounds):
            browser.open(page)
            times.append(browser.run("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
        browser.driver.quit()
        print(f"200 Functions: {page.stat().st_size} bytes, {statistics.median(times):.0f} ms")


if __name__ == "__main__":
    main()
