"""A bundle trains in a real Chromium, in a worker, from a server that has nothing but files."""

import json

import numpy as np
import pytest
import torch
from gradport_runtime import Trainer

import gradport

from .pages import ask, open_page, serve, write_page

STEPS = 20


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.BatchNorm2d(4)
        self.drop, self.head = torch.nn.Dropout(0.2), torch.nn.Linear(4 * 6 * 6, 3)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.conv(x)))).flatten(1))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a site, and the losses that the Trainer in Python has."""
    folder = tmp_path_factory.mktemp("site")
    torch.manual_seed(0)
    model = Net()
    x, y = torch.randn(5, 1, 8, 8), torch.randint(0, 3, (5,))
    gradport.export_training(
        model,
        x,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
        loss=torch.nn.functional.cross_entropy,
        targets=y,
        dynamic_shapes={"x": {0: "batch"}, "target": {0: "batch"}},
    ).save(folder / "bundle")
    rng = np.random.default_rng(0)
    batches = [
        {"x": rng.standard_normal((4 + n % 3, 1, 8, 8)).astype(np.float32), "target": rng.integers(0, 3, 4 + n % 3)}
        for n in range(STEPS + 1)
    ]
    said = [
        {"x": {"data": b["x"].ravel().tolist(), "dims": b["x"].shape}, "target": b["target"].tolist()} for b in batches
    ]
    (folder / "batches.json").write_text(json.dumps(said))
    write_page(folder)
    trainer = Trainer(folder / "bundle", seed=11)
    losses = [trainer.step(batch)["loss"] for batch in batches]
    return folder, losses, trainer.predict(x=batches[0]["x"])["output"]


@pytest.fixture(scope="module")
def address(site):
    with serve(site[0]) as address:
        yield address


@pytest.fixture
def page(browser, address):
    driver = browser.driver

    def load():
        open_page(driver, address)

    load()
    return driver, load


def test_a_page_trains_saves_reloads_and_goes_on(page, site):
    _, losses, outputs = site
    driver, reload = page
    found = ask(
        driver,
        f"""const trainer = await start({{ seed: 11 }});
        const losses = [];
        for (const batch of batches.slice(0, {STEPS})) losses.push((await trainer.step(batch)).loss);
        await gradport.store("checkpoint.safetensors", await trainer.save());
        return {{ losses, steps: trainer.steps }};""",
    )
    assert found["losses"] == pytest.approx(losses[:STEPS], rel=1e-5) and found["steps"] == STEPS
    reload()
    found = ask(
        driver,
        f"""const trainer = await start({{ resume: await gradport.recall("checkpoint.safetensors") }});
        const {{ loss }} = await trainer.step(batches[{STEPS}]);
        const {{ output }} = await trainer.predict({{ x: batches[0].x }});
        const model = await trainer.export();
        await gradport.forget("checkpoint.safetensors");
        return {{ loss, output: [...output.data], size: model.data.length,
                 gone: await gradport.recall("checkpoint.safetensors") === undefined }};""",
    )
    assert found["loss"] == pytest.approx(losses[STEPS], rel=1e-5)
    assert found["output"] == pytest.approx(outputs.ravel().tolist(), abs=1e-4)
    assert found["size"] > 0 and found["gone"]


def test_a_checkpoint_brings_an_earlier_state_back(page):
    driver, _ = page
    found = ask(
        driver,
        """const trainer = await start({ seed: 11 });
        const checkpoint = await trainer.save();
        const first = await trainer.step(batches[0]);
        await trainer.restore(checkpoint);
        const restored = trainer.steps;
        const again = await trainer.step(batches[0]);
        return { restored, first: first.loss, again: again.loss };""",
    )
    assert found["restored"] == 0 and found["again"] == found["first"]


def test_memory_does_not_grow_in_500_steps(page):
    driver, _ = page
    found = ask(
        driver,
        """const worker = new Worker("worker.js", { type: "module" });
        const trainer = await gradport.connect(worker, "bundle/", {});
        const memory = () => new Promise((done) => {
          const listen = ({ data }) => data.memory !== undefined && done(data.memory);
          worker.addEventListener("message", listen);
          worker.postMessage("memory");
        });
        for (let n = 0; n < 20; n++) await trainer.step(batches[0]);
        const before = await memory();
        for (let n = 0; n < 500; n++) await trainer.step(batches[n % batches.length]);
        return [before, await memory()];""",
    )
    before, after = found
    assert before > 0 and after == before


def test_the_page_stays_responsive(page):
    """Timers of the page run while the worker trains."""
    driver, _ = page
    ticks = ask(
        driver,
        """const trainer = await start({});
        let ticks = 0;
        const timer = setInterval(() => ticks++, 1);
        for (let n = 0; n < 50; n++) await trainer.step(batches[0]);
        clearInterval(timer);
        return ticks;""",
    )
    assert ticks > 10


def test_a_fault_reaches_the_page_with_its_code(page):
    driver, _ = page
    code = ask(driver, 'const t = await start({}); return t.step({ x: batches[0].x }).then(() => "", (e) => e.code);')
    assert code == "input-missing"


def test_a_file_that_comes_late_is_asked_for_again(page, site):
    """A network may fail for a moment."""
    folder, (driver, _) = site[0] / "bundle", page
    (folder / "gradients.onnx").rename(folder / "late.onnx")
    step = "window.late.step(batches[0]).then(() => 'stepped', (error) => error.code)"
    first = ask(driver, f"window.late = await start({{}}); return {step};")
    (folder / "late.onnx").rename(folder / "gradients.onnx")
    assert (first, ask(driver, f"return {step};")) == ("file-missing", "stepped")


def test_nothing_is_asked_of_another_host(page, browser, address):
    driver, reload = page
    browser.requests()
    reload()
    ask(driver, "const trainer = await start({}); await trainer.step(batches[0]);")
    host = address.rpartition("/")[0]
    assert all(url.startswith((host, "data:", "blob:")) for url in browser.requests())
