"""The npm package trains a bundle in Node, in WebAssembly and natively, to the losses of torch with the same draws."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from gradport_runtime import Trainer
from gradport_runtime.draws import Place

from ..training import models as training_models
from ..training.cases import CASES, SEED, STEPS, write_case
from ..training.test_optimizers import LOOSE, OPTIMIZERS

pytestmark = pytest.mark.node

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = pathlib.Path(os.environ.get("GRADPORT_NODE_MODULES", ROOT / ".venv" / "node" / "node_modules"))
PACKAGE = ROOT / "runtime" / "js" / "dist" / "index.js"


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    batches, losses = write_case(request.param, folder)
    trainer = Trainer(folder / "bundle", seed=SEED)
    found = [trainer.step(input=x.numpy(), target=y.numpy())["loss"] for x, y in batches]
    assert found == pytest.approx(losses, rel=1e-5)
    return folder, losses, trainer, batches[-1]


ENTRIES = {
    "onnxruntime-web": "onnxruntime-web/dist/ort.node.min.mjs",
    "onnxruntime-node": "onnxruntime-node/dist/index.js",
}


@pytest.mark.parametrize("runtime", ENTRIES)
def test_it_passes_the_conformance_folder(runtime):
    folder = ROOT / "conformance"
    command = ["node", HERE / "conformance.mjs", (MODULES / ENTRIES[runtime]).as_uri(), folder, PACKAGE]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=HERE)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    steps, draws, broken = (json.loads((folder / f"{name}.json").read_text()) for name in ("steps", "draws", "broken"))
    assert [one["loss"] for one in found["results"]] == pytest.approx(steps["losses"], rel=1e-5)
    assert [one["accuracy"] for one in found["results"]] == pytest.approx(steps["accuracy"])
    assert found["evaluated"] == pytest.approx(steps["evaluated"], rel=1e-4)
    assert found["outputs"] == pytest.approx(np.array(steps["outputs"]).ravel().tolist(), abs=1e-4)
    assert found["accumulated"] == pytest.approx(steps["accumulated"], rel=1e-4)
    for values, one in zip(found["drawn"], draws["draws"], strict=True):
        assert values == (one["values"] if one["distribution"] == "uniform" else pytest.approx(one["values"], rel=2e-7))
    assert found["codes"] == [change["code"] for change in broken]


@pytest.mark.parametrize("runtime", ENTRIES)
def test_a_bundle_trains_as_in_torch(case, runtime):
    folder, losses, trainer, (x, y) = case
    path = MODULES / ENTRIES[runtime]
    command = ["node", HERE / "train_bundle.mjs", path.as_uri(), folder / "bundle", folder / "batches.json", PACKAGE]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=HERE)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["losses"] == pytest.approx(losses, rel=1e-5)
    assert found["evaluated"]["loss"] == pytest.approx(
        trainer.evaluate(input=x.numpy(), target=y.numpy())["loss"], rel=1e-4
    )
    outputs = trainer.predict(input=x.numpy())
    for name, values in found["outputs"].items():
        assert values == pytest.approx(outputs[name].reshape(-1)[:8].tolist(), abs=1e-4)
    assert found["same"] and found["stored"] == len(trainer.state())
    assert found["codes"] == {"missing": "input-missing", "unknown": "input-unknown", "shape": "input-shape"}
    assert found["inference"]["name"].startswith("weights-") and not ran.stderr


@pytest.fixture(scope="module")
def optimizers(tmp_path_factory):
    """A bundle of the same model under every optimizer, the batches, and the losses of torch."""
    folder = tmp_path_factory.mktemp("optimizers")
    rows = [training_models.batch_of(training_models.mlp(), seed=seed) for seed in range(STEPS)]
    losses = {}
    for name, make in OPTIMIZERS.items():
        model = training_models.mlp()
        training_models.trained(model, make(list(model.parameters())), verify=False).save(folder / name)
        model = training_models.mlp()
        losses[name] = training_models.train_in_torch(model, make(list(model.parameters())), rows)
    said = [{"input": {"data": x.flatten().tolist(), "dims": list(x.shape)}, "target": y.tolist()} for x, y in rows]
    (folder / "batches.json").write_text(json.dumps(said))
    return folder, losses


@pytest.mark.parametrize("runtime", ENTRIES)
def test_every_optimizer_trains_as_in_torch(optimizers, runtime):
    folder, losses = optimizers
    command = ["node", HERE / "train_many.mjs", (MODULES / ENTRIES[runtime]).as_uri(), folder / "batches.json", PACKAGE]
    ran = subprocess.run([*map(str, command), *(str(folder / name) for name in losses)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for name, found in zip(losses, json.loads(ran.stdout), strict=True):
        assert found == pytest.approx(losses[name], rel=LOOSE.get(name, 1e-5)), name


VECTORS = """
import { draw, philox, shapeOf } from PACKAGE;
const place = { seed: 123456789012345n, step: 3, microBatch: 1, rank: 2 };
console.log(JSON.stringify({
  philox: [[0, 0, 0, 0], [4294967295, 4294967295, 4294967295, 4294967295]].map((c) => philox(c, [c[0], c[1]])),
  draws: ["uniform", "normal"].flatMap((kind) =>
    ["float16", "float32", "float64"].map((dtype) => [...draw(kind, 37, dtype, 5, place)])),
  shapes: shapeOf(["a * 2 + 1", "max(a, b) // 2", "(a - b) % 3", "-a + b * b"], new Map([["a", 5], ["b", 7]])),
}));
"""


def test_draws_and_sizes_are_those_of_python(tmp_path):
    from gradport_runtime.draws import draw, philox
    from gradport_runtime.shapes import shape_of

    file = tmp_path / "vectors.mjs"
    file.write_text(VECTORS.replace("PACKAGE", json.dumps(PACKAGE.as_uri())))
    ran = subprocess.run(["node", file], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    counters = np.array([[0] * 4, [2**32 - 1] * 4], np.uint32)
    assert found["philox"] == [philox(c[None], (int(c[0]), int(c[1])))[0].tolist() for c in counters]
    place = Place(123456789012345, 3, 1, 2)
    cases = [(kind, dtype) for kind in ("uniform", "normal") for dtype in ("float16", "float32", "float64")]
    for (kind, dtype), values in zip(cases, found["draws"], strict=True):
        own = draw(kind, (37,), np.dtype(dtype), 5, place)
        if kind == "uniform":
            assert values == (own.view(np.uint16) if dtype == "float16" else own).tolist()
        elif dtype != "float16":
            assert values == pytest.approx(own.tolist(), rel=1e-6 if dtype == "float32" else 1e-14)
    assert tuple(found["shapes"]) == shape_of(
        ["a * 2 + 1", "max(a, b) // 2", "(a - b) % 3", "-a + b * b"], {"a": 5, "b": 7}
    )


def test_the_snippets_of_the_tutorial_run(tmp_path):
    """Export in Python, then training in JavaScript, as docs/tutorials/bundle.md has them."""
    from sklearn.datasets import load_digits

    page = (ROOT / "docs" / "tutorials" / "bundle.md").read_text()
    export, script = (re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)[1] for language in ("python", "js"))
    assert script.count("\n") < 25
    subprocess.run([sys.executable, "-c", export], check=True, cwd=tmp_path)
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    said = {"images": (images[order] / 16).tolist(), "labels": labels[order].tolist()}
    (tmp_path / "digits.json").write_text(json.dumps(said))
    (tmp_path / "train.mjs").write_text(script)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "gradport").symlink_to(ROOT / "runtime" / "js")
    for name in ("onnxruntime-web", "onnxruntime-common"):
        (tmp_path / "node_modules" / name).symlink_to(MODULES / name)
    ran = subprocess.run(["node", "train.mjs"], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert float(re.search(r"accuracy: ([\d.]+)", ran.stdout)[1]) > 0.9
    assert Trainer(tmp_path / "digits", resume=tmp_path / "digits.safetensors").steps == 46 * 5
