"""Frozen weights are mapped once for all models; a damaged file is refused."""

import json
import pathlib
import shutil
import subprocess
import sys

import gradport_runtime
import numpy as np
import pytest
import torch
from gradport_runtime import BundleError, Trainer

import gradport

SIDE, LAYERS = 512, 12


class Adapter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(SIDE, SIDE, bias=False).requires_grad_(False)
        self.down, self.up = torch.nn.Linear(SIDE, 2, bias=False), torch.nn.Linear(2, SIDE, bias=False)

    def forward(self, x):
        return torch.tanh(self.layer(x) + self.up(self.down(x)))


def export(folder, layers=LAYERS, frozen=None):
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(Adapter() for _ in range(layers)))
    gradport.export_training(
        model,
        torch.randn(4, SIDE),
        optimizer=torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1),
        loss=lambda result: result.square().mean(),
        frozen=frozen,
        verify=False,
    ).save(folder)
    return folder


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    return export(tmp_path_factory.mktemp("frozen") / "bundle")


@pytest.mark.parametrize("frozen", [None, "float16", "int8", "int4"])
def test_shared_weights_give_the_numbers_of_external_data(frozen, tmp_path):
    folder = export(tmp_path / "bundle", 2, frozen)
    batch = {"input": np.random.default_rng(0).standard_normal((4, SIDE)).astype(np.float32)}
    shared = [Trainer(folder).step(batch)["loss"], Trainer(folder).evaluate(batch)["loss"]]
    manifest = json.loads((folder / "training.json").read_text())
    assert manifest["models"]["gradients"].pop("initializers")
    assert manifest["models"]["evaluate"].pop("initializers")
    (folder / "training.json").write_text(json.dumps(manifest))
    assert [Trainer(folder).step(batch)["loss"], Trainer(folder).evaluate(batch)["loss"]] == shared


INT4 = {
    "a shape that does not fit": '{"NAME": [3, 5]}',
    "a negative size": '{"NAME": [-512, -512]}',
    "no numbers": '{"NAME": ["a"]}',
    "not JSON": "{",
    "a list": "[]",
    "no shape": "{}",
}


@pytest.mark.parametrize("text", INT4.values(), ids=INT4)
def test_damaged_shapes_of_int4_are_refused(text, tmp_path):
    folder = export(tmp_path / "bundle", 1, "int4")
    header, data = header_of(folder / "frozen.safetensors")
    (name,) = json.loads(header["__metadata__"]["int4"])
    header["__metadata__"]["int4"] = text.replace("NAME", name)
    write(folder / "frozen.safetensors", header, data)
    with pytest.raises(gradport_runtime.Error) as refusal:
        Trainer(folder).step(input=np.zeros((4, SIDE), np.float32))
    assert refusal.value.code == ("runtime" if text == "{}" else "file-damaged")


@pytest.fixture
def copy(adapted, tmp_path):
    shutil.copytree(adapted, tmp_path / "bundle")
    return tmp_path / "bundle"


def header_of(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def first(header):
    return next(entry for name, entry in header.items() if name != "__metadata__")


CHANGES = {
    "offsets past the end": lambda header: first(header).update(data_offsets=[0, 1 << 40]),
    "negative offsets": lambda header: first(header).update(data_offsets=[-8, 8]),
    "a shape that does not fit": lambda header: first(header).update(shape=[3, 5]),
    "an unknown dtype": lambda header: first(header).update(dtype="X1"),
    "a tensor that is missing": lambda header: header.pop(next(name for name in header if name != "__metadata__")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_damaged_header_is_refused(copy, change):
    header, data = header_of(copy / "frozen.safetensors")
    change(header)
    write(copy / "frozen.safetensors", header, data)
    with pytest.raises(BundleError) as refusal:
        Trainer(copy).step(input=np.zeros((4, SIDE), np.float32))
    assert refusal.value.code == "file-damaged"


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, (2).to_bytes(8, "little") + b"[]"], ids=["empty", "long", "a list"])
def test_a_file_without_a_header_is_refused(copy, data):
    (copy / "frozen.safetensors").write_bytes(data)
    with pytest.raises(BundleError) as refusal:
        Trainer(copy).step(input=np.zeros((4, SIDE), np.float32))
    assert refusal.value.code == "file-damaged"


MEASURE = """
import sys
import numpy as np
from gradport_runtime import Trainer

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

batch = {"input": np.zeros((4, int(sys.argv[2])), np.float32)}
base = peak()
trainer = Trainer(sys.argv[1], threads=1)
for _ in range(3):
    trainer.step(batch)
trained = peak() - base
trainer.evaluate(batch)
print(trained, peak() - base)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_evaluating_raises_the_peak_by_a_fifth_at_most(adapted):
    command = [sys.executable, "-c", MEASURE, str(adapted), str(SIDE)]
    trained, evaluated = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    weights = 4 * SIDE * SIDE * LAYERS / 1024
    assert trained < 3 * weights  # one copy, and the rest of a small training
    assert evaluated <= 1.2 * trained
