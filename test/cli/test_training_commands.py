"""`gradport export-training` and `gradport export-step`."""

import json

import numpy as np
import pytest
from gradport_runtime import Trainer
from typer.testing import CliRunner

import gradport
from gradport.cli.main import app

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)

def error(result, target):
    return (result.argmax(-1) != target).float().mean()
"""

INPUTS = ["x=f32[batch,4]", "--target", "i64[batch]@0..2", "--loss", "cross_entropy"]


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NET)
    return "nets.py:Net"


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_a_training_is_exported_and_trains(net, tmp_path):
    options = ["--metric", "accuracy", "--metric", "error=nets.py:error", "--scheduler", "LinearLR:total_iters=4"]
    found = run("export-training", net, *INPUTS, *options, "--steps", "5", "--optimizer", "SGD:lr=0.1", "--json")
    assert found.exit_code == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["metrics"] == ["accuracy", "error"]
    trainer = Trainer(tmp_path / "gradport-out" / "Net")
    numbers = trainer.step(x=np.zeros((5, 4), np.float32), target=[0, 1, 2, 0, 1])
    assert numbers["accuracy"] + numbers["error"] == pytest.approx(1)


def test_a_step_is_exported(net, tmp_path):
    found = run("export-step", net, *INPUTS, "--optimizer", "Adam:lr=1e-2,betas=(0.8,0.9)", "--clip-grad-norm", "1")
    assert found.exit_code == 0, found.stderr
    program = gradport.load(tmp_path / "gradport-out" / "Net.step.onnx")
    assert "optim.layer.weight.exp_avg" in program.state()


@pytest.mark.parametrize("command", ["export-training", "export-step"])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--optimizer", "Adom"], "torch.optim has no 'Adom'"),
        (["--optimizer", "Adam:lr=x"], "x is not a number"),
        (["--optimizer", "Adam:0.1"], "NAME=VALUE"),
        (["--optimizer", "Adam:rate=1"], "rate"),
        (["--optimizer", "SGD:lr=-1"], "Invalid learning rate"),
    ],
)
def test_an_optimizer_that_does_not_parse_is_a_usage_error(net, command, options, text):
    found = run(command, net, *INPUTS, *options)
    assert found.exit_code == 2 and text in found.stderr and found.stderr.count("\n") <= 2


def test_a_loss_is_asked_for(net):
    found = run("export-training", net, "x=f32[batch,4]")
    assert found.exit_code == 2 and "--loss" in found.stderr


def test_a_metric_that_does_not_parse_is_a_usage_error(net):
    found = run("export-training", net, *INPUTS, "--metric", "f1")
    assert found.exit_code == 2 and "NAME=module:attribute" in found.stderr
