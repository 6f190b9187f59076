"""A file that leaves the machine names source lines relative to their project, and no folder of the machine."""

import os
import pathlib

import onnx
import torch

import gradport

HERE = os.path.dirname(os.path.abspath(__file__))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x):
        return torch.tanh(Doubled.apply(self.layer(x)))


def test_an_exported_file_has_relative_source_lines(tmp_path):
    program = gradport.export(Net(), torch.randn(2, 3), wrt="parameters")
    program.save(tmp_path / "net.onnx")
    assert HERE.encode() not in (tmp_path / "net.onnx").read_bytes()
    places = {
        entry.value
        for node in onnx.load(tmp_path / "net.onnx").graph.node
        for entry in node.metadata_props
        if entry.key == "gradport.place"
    }
    assert places and all(place.startswith("test/exporting/test_paths.py:") for place in places)


def test_a_bundle_names_no_folder_and_others_can_read_it(tmp_path):
    model = Net()
    training = gradport.export_training(
        model,
        torch.randn(2, 3),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        loss=lambda y: y.square().mean(),
        output_names=["scores"],
        verify=False,
    )
    training.save(tmp_path / "bundle")
    plain = tmp_path / "plain"
    plain.write_text("")
    for file in pathlib.Path(tmp_path / "bundle").iterdir():
        assert HERE.encode() not in file.read_bytes(), file.name
        assert file.stat().st_mode == plain.stat().st_mode, file.name
    manifest = training.manifest["models"]
    assert [port["name"] for port in manifest["predict"]["outputs"]] == ["scores"]
    assert manifest["gradients"]["outputs"][0]["name"] == manifest["evaluate"]["outputs"][0]["name"] == "loss"
