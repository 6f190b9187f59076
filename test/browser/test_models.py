"""Models of several kinds train in Chromium to the losses of torch."""

import pytest

from ..training.cases import CASES, SEED, write_case
from .pages import ask, open_page, serve, write_page

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", [name for name in CASES if name != "wide"])
def test_a_bundle_trains_in_chromium_as_in_torch(name, browser, tmp_path):
    _, losses = write_case(name, tmp_path, verify=False)  # the tests in Node prove these bundles
    write_page(tmp_path)
    with serve(tmp_path) as address:
        open_page(browser.driver, address)
        found = ask(
            browser.driver,
            f"""const trainer = await start({{ seed: {SEED} }});
            const losses = [];
            for (const batch of batches) losses.push((await trainer.step(batch)).loss);
            return losses;""",
        )
    assert found == pytest.approx(losses, rel=1e-5)
