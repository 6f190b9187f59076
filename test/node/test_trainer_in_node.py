"""The npm package trains a bundle in Node, in WebAssembly and natively, to the losses of torch with the same draws."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from gradport_runtime import Trainer
from gradport_runtime.draws import Place, draw_inputs

import gradport
from gradport.eager.halves import Gradients
from gradport.eager.randomness import draw_from
from gradport.eager.run import ones, run_eager
from gradport.eager.update import Update
from gradport.subject.ports import Role, Slot
from gradport.subject.subject import Subject

from ..training import models as training_models
from ..training.test_optimizers import LOOSE, OPTIMIZERS

pytestmark = pytest.mark.node

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = pathlib.Path(os.environ.get("GRADPORT_NODE_MODULES", ROOT / ".venv" / "node" / "node_modules"))
PACKAGE = ROOT / "runtime" / "js" / "dist" / "index.js"

STEPS = 20


def mlp():
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))


def wide():
    """A weight of more than 2**19 elements: the optimizer's step updates it in rows."""
    return torch.nn.Sequential(
        torch.nn.Linear(6, 1024), torch.nn.Tanh(), torch.nn.Linear(1024, 512), torch.nn.Linear(512, 4)
    )


def cnn():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Dropout(0.25),
        torch.nn.Flatten(),
        torch.nn.Linear(36, 4),
    )


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = torch.nn.GRU(3, 8, batch_first=True), torch.nn.Linear(8, 4)

    def forward(self, input):
        return self.head(self.gru(input)[0][:, -1])


class LowRank(torch.nn.Module):
    """A frozen linear layer with a LoRA adapter beside it."""

    def __init__(self, layer, rank=2):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down, self.up = (
            torch.nn.Linear(layer.in_features, rank, bias=False),
            torch.nn.Linear(rank, layer.out_features, bias=False),
        )
        torch.nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


class Adapted(torch.nn.Module):
    """A small transformer, frozen but for its adapters."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 32).requires_grad_(False)
        self.norm = torch.nn.RMSNorm(32).requires_grad_(False)
        self.q, self.v = LowRank(torch.nn.Linear(32, 32)), LowRank(torch.nn.Linear(32, 32))
        self.head = torch.nn.Linear(32, 4).requires_grad_(False)

    def forward(self, input):
        x = self.norm(self.embedding(input))
        y = torch.nn.functional.scaled_dot_product_attention(self.q(x), x, self.v(x))
        return self.head(x + y).mean(1)


CASES = {
    "MLP": (mlp, (6,), lambda p: torch.optim.AdamW(p, lr=1e-2)),
    "wide": (wide, (6,), lambda p: torch.optim.AdamW(p, lr=1e-3)),
    "CNN": (cnn, (1, 8, 8), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
    "GRU": (Recurrent, (5, 3), lambda p: torch.optim.Adam(p, lr=1e-2)),
    "LoRA": (Adapted, None, lambda p: torch.optim.AdamW(p, lr=1e-2)),
}


def batches_of(shape):
    generator = torch.Generator().manual_seed(0)
    rows = []
    for step in range(STEPS):
        count = 4 + step % 3
        x = (
            torch.randint(0, 50, (count, 7), generator=generator)
            if shape is None
            else torch.randn(count, *shape, generator=generator)
        )
        rows.append((x, torch.randint(0, 4, (count,), generator=generator)))
    return rows


def in_torch(trainer, subject, optimizer, batches):
    """The losses of torch from the starting state, with the draws of the Trainer."""
    gradients = Gradients(subject, optimizer)
    update = Update(optimizer, gradients.trained, None)
    placed = gradients.examples() | update.state | update.rates
    losses = []
    for step, (x, y) in enumerate(batches):
        batch = {Slot(Role.ARGUMENT, "input"): x, Slot(Role.TARGET, "target"): y}
        drawn = draw_inputs(
            trainer.bundle.models["gradients"], {"input": x.numpy(), "target": y.numpy()}, Place(7, step)
        )
        random = draw_from({name: torch.from_numpy(value) for name, value in drawn.items()})
        results = run_eager(gradients, placed | batch, ones, random)
        found = {slot.name: gradient for slot, gradient in results.gradients.items()}
        placed |= update(placed, found) | {slot: tensor.detach() for slot, tensor in results.new_state.items()}
        losses.append(float(results.loss.detach()))
    return losses


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    make, shape, optimizer_of = CASES[request.param]
    torch.manual_seed(0)
    model = make()
    optimizer = optimizer_of([parameter for parameter in model.parameters() if parameter.requires_grad])
    batches = batches_of(shape)
    x, y = batches[0]
    shapes = {"input": {0: "batch"}, "target": {0: "batch"}}
    loss = torch.nn.functional.cross_entropy
    subject = Subject(model, x, loss=loss, targets=y, dynamic_shapes=shapes)
    folder = tmp_path_factory.mktemp("node")
    gradport.export_training(subject, optimizer=optimizer, loss=loss).save(folder / "bundle")
    trainer = Trainer(folder / "bundle", seed=7)
    losses = in_torch(trainer, subject, optimizer, batches)
    (folder / "batches.json").write_text(
        json.dumps(
            [{"input": {"data": x.flatten().tolist(), "dims": list(x.shape)}, "target": y.tolist()} for x, y in batches]
        )
    )
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
