"""A training step that gradport exported trains in Node, in WebAssembly and natively, to torch's losses."""

import copy
import json
import os
import pathlib
import subprocess

import pytest
import torch
import torch.nn.functional as F

import gradport

pytestmark = pytest.mark.node

HERE = pathlib.Path(__file__).parent
MODULES = pathlib.Path(os.environ.get("GRADPORT_NODE_MODULES", HERE.parents[1] / ".venv" / "node" / "node_modules"))

STEPS = 10
LR = 1e-2


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.GELU(), torch.nn.Linear(16, 4))

    def forward(self, x):
        return self.layers(x)


class Transformer(torch.nn.Module):
    """Two layers, causal, over tokens."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 16)
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = torch.nn.Linear(16, 11)

    def forward(self, tokens):
        mask = torch.nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.encoder(self.embedding(tokens), mask=mask, is_causal=True))


def of_classes(result, target):
    return F.cross_entropy(result.flatten(0, -2), target.flatten())


def mlp_batches(generator):
    return [
        (torch.randn(8, 6, generator=generator), torch.randint(0, 4, (8,), generator=generator)) for _ in range(STEPS)
    ]


def token_batches(generator):
    rows = [torch.randint(0, 11, (4, 8), generator=generator) for _ in range(STEPS)]
    return [(row[:, :-1].contiguous(), row[:, 1:].contiguous()) for row in rows]


CASES = {"mlp": (Mlp, mlp_batches, "x"), "transformer": (Transformer, token_batches, "tokens")}


def losses_in_torch(net, batches):
    optimizer = torch.optim.AdamW(net.parameters(), LR)
    losses = []
    for x, target in batches:
        loss = of_classes(net(x), target)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def as_json(tensor):
    dtype = "int64" if tensor.dtype == torch.int64 else "float32"
    return {"dtype": dtype, "dims": list(tensor.shape), "data": tensor.flatten().tolist()}


@pytest.fixture(scope="module", params=CASES)
def trained(request, tmp_path_factory):
    """The folder with an exported step, and torch's losses."""
    make, batches_of, name = CASES[request.param]
    torch.manual_seed(0)
    net = make()
    batches = batches_of(torch.Generator().manual_seed(1))
    folder = tmp_path_factory.mktemp(request.param)
    program = exported(copy.deepcopy(net), batches[0])
    program.save(folder / "step.onnx")
    feeds = [{name: as_json(x), "target": as_json(y), "lr": as_json(torch.tensor(LR))} for x, y in batches]
    (folder / "feeds.json").write_text(json.dumps(feeds))
    return folder, losses_in_torch(net, batches)


def exported(net, batch):
    optimizer = torch.optim.AdamW(net.parameters(), LR)
    return gradport.export_step(net, batch[0], optimizer=optimizer, loss=of_classes, targets=batch[1])


@pytest.mark.parametrize("package", ["onnxruntime-node", "onnxruntime-web"])
def test_ten_steps_give_the_losses_of_torch(trained, package, tmp_path):
    folder, expected = trained
    script = tmp_path / "run_steps.mjs"
    script.write_text((HERE / "run_steps.mjs").read_text("utf-8"))
    (tmp_path / "node_modules").symlink_to(MODULES)
    command = ["node", script, package, folder / "step.onnx", folder / "step.safetensors", folder / "feeds.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < expected[0]
    assert done.stderr == ""
