"""Bundles in every runtime: the largest relative difference of the losses of 20 steps from torch, with the same draws.

make test-node test-browser       # installs the runtimes
python bench/runtimes.py
"""

import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "test" / room) for room in ("browser", "training")]

from cases import CASES, SEED, write_case  # noqa: E402
from conftest import Browser  # noqa: E402
from gradport_runtime import Trainer  # noqa: E402
from pages import ask, open_page, serve, write_page  # noqa: E402

MODULES = ROOT / ".venv" / "node" / "node_modules"
ENTRIES = {
    "Node, WebAssembly": MODULES / "onnxruntime-web/dist/ort.node.min.mjs",
    "Node, native": MODULES / "onnxruntime-node/dist/index.js",
}


def in_python(folder, batches):
    trainer = Trainer(folder / "bundle", seed=SEED)
    return [trainer.step(input=x.numpy(), target=y.numpy())["loss"] for x, y in batches]


def in_node(folder, entry):
    script, package = ROOT / "test/node/train_bundle.mjs", ROOT / "runtime/js/dist/index.js"
    command = ["node", script, entry.as_uri(), folder / "bundle", folder / "batches.json", package]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)["losses"]


def in_chromium(folder, driver):
    write_page(folder)
    with serve(folder) as address:
        open_page(driver, address)
        return ask(
            driver,
            f"""const trainer = await start({{ seed: {SEED} }});
            const losses = [];
            for (const batch of batches) losses.push((await trainer.step(batch)).loss);
            return losses;""",
        )


def difference(found, expected):
    return max(abs(one - other) / abs(other) for one, other in zip(found, expected, strict=True))


def main():
    print(f"| model | Python | {' | '.join(ENTRIES)} | Chromium |")
    print("| --- " * (len(ENTRIES) + 3) + "|")
    with tempfile.TemporaryDirectory() as profile:
        driver = Browser(profile).driver
        for name in CASES:
            with tempfile.TemporaryDirectory() as scratch:
                folder = pathlib.Path(scratch)
                batches, losses = write_case(name, folder, verify=False)
                found = [in_python(folder, batches)]
                found += [in_node(folder, entry) for entry in ENTRIES.values()]
                found.append(in_chromium(folder, driver))
                print(f"| {name} | {' | '.join(f'{difference(one, losses):.1e}' for one in found)} |", flush=True)
        driver.quit()


if __name__ == "__main__":
    main()
