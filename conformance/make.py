"""Writes the conformance bundle, its expected results, and the broken variants."""

import json
import pathlib
import shutil
import tempfile

import numpy as np
import torch
from gradport_runtime import Trainer
from gradport_runtime.draws import Place, draw

import gradport

HERE = pathlib.Path(__file__).parent
SEED, STEPS = 7, 10

BROKEN = [
    {"name": "a newer format", "path": ["format"], "value": 2, "code": "format-newer"},
    {"name": "no format", "path": ["format"], "code": "manifest-invalid"},
    {"name": "no models", "path": ["models"], "code": "manifest-invalid"},
    {"name": "no apply", "path": ["models", "apply"], "code": "model-missing"},
    {"name": "a file above", "path": ["models", "apply", "file"], "value": "../apply.onnx", "code": "path-outside"},
    {"name": "an absolute file", "path": ["models", "apply", "file"], "value": "/apply.onnx", "code": "path-outside"},
    {"name": "a drive", "path": ["models", "apply", "file"], "value": "C:apply.onnx", "code": "path-outside"},
    {"name": "an unknown dtype", "path": ["state", 0, "dtype"], "value": "object", "code": "manifest-invalid"},
    {"name": "an empty schedule", "path": ["schedule", "lr"], "value": [], "code": "manifest-invalid"},
    {"name": "another identity", "path": ["identity"], "value": "other", "code": "other-bundle"},
    {"name": "one state more", "path": ["state", 0, "name"], "value": "other", "code": "state-differs"},
    {"name": "another shape", "path": ["state", 0, "shape"], "value": [1], "code": "state-differs"},
    {"name": "a manifest cut off", "file": "training.json", "keep": 100, "code": "manifest-invalid"},
    {"name": "an empty state", "file": "state.safetensors", "keep": 0, "code": "file-damaged"},
    {"name": "a state without tensors", "file": "state.safetensors", "keep": 12, "code": "file-damaged"},
    {"name": "a state cut off", "file": "state.safetensors", "keep": -4, "code": "file-damaged"},
]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.norm = torch.nn.Linear(4, 6, bias=False), torch.nn.BatchNorm1d(6)
        self.drop, self.head = torch.nn.Dropout(0.25), torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.drop(torch.tanh(self.norm(self.hidden(x)))))


def accuracy(result, target):
    return (result.argmax(-1) == target).float().mean()


def export(folder):
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=5)
    x, y = torch.randn(5, 4), torch.randint(0, 3, (5,))
    gradport.export_training(
        model,
        x,
        optimizer=optimizer,
        loss=torch.nn.functional.cross_entropy,
        targets=y,
        metrics={"accuracy": accuracy},
        scheduler=scheduler,
        steps=8,
        clip_grad_norm=1.0,
        dynamic_shapes={"x": {0: "batch"}, "target": {0: "batch"}},
    ).save(folder)


def batches():
    rng = np.random.default_rng(0)
    counts = [3 + step % 3 for step in range(STEPS)]
    return [
        {"x": rng.standard_normal((count, 4)).astype(np.float32), "target": rng.integers(0, 3, count)}
        for count in counts
    ]


def main():
    with tempfile.TemporaryDirectory() as scratch:
        export(f"{scratch}/bundle")
        shutil.rmtree(HERE / "bundle", ignore_errors=True)
        shutil.copytree(f"{scratch}/bundle", HERE / "bundle")
    trainer = Trainer(HERE / "bundle", seed=SEED)
    rows = batches()
    results = [trainer.step(batch) for batch in rows]
    evaluated, outputs = trainer.evaluate(rows[-1]), trainer.predict(x=rows[-1]["x"])["output"]
    steps = {
        "seed": SEED,
        "batches": [{"x": b["x"].tolist(), "target": b["target"].tolist()} for b in rows],
        "losses": [one["loss"] for one in results],
        "accuracy": [one["accuracy"] for one in results],
        "evaluated": evaluated,
        "outputs": outputs.tolist(),
        "accumulated": trainer.accumulate(rows[:2])["loss"],
    }
    place = Place(2**40 + 5, step=3, micro_batch=1, rank=2)
    drawn = [
        {
            "distribution": kind,
            "dtype": dtype,
            "number": 5,
            "values": draw(kind, (9,), np.dtype(dtype), 5, place).tolist(),
        }
        for kind in ("uniform", "normal")
        for dtype in ("float32", "float64")
    ]
    place = {"seed": str(place.seed), "step": place.step, "micro_batch": place.micro_batch, "rank": place.rank}
    for name, value in {"steps": steps, "draws": {"place": place, "draws": drawn}, "broken": BROKEN}.items():
        (HERE / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
