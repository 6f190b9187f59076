"""The order in which ONNX Runtime computes the gradients of a network."""

import itertools
import json

import onnx_ir as ir
import onnxruntime
import torch
from torch import nn

import gradport


def order_of(program, feeds, folder):
    """The names of all nodes in the order in which ONNX Runtime runs them."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(ir.to_proto(program.model).SerializeToString(), options)
    session.run(None, feeds)
    with open(session.end_profiling()) as file:
        events = json.load(file)
    nodes = [event for event in events if event["name"].endswith("_kernel_time")]
    return [event["name"].removesuffix("_kernel_time") for event in sorted(nodes, key=lambda event: event["ts"])]


def test_each_weight_gradient_is_computed_as_soon_as_it_can_be(tmp_path):
    """The gradients of the last layers first, each before the input gradients of the layers before it."""
    model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(3, 3), nn.Tanh())))
    x = torch.randn(5, 3)
    program = gradport.export(model, (x,), wrt="parameters", loss=torch.sum, functions="inline")
    order = order_of(program, {program.inputs[0].name: x.numpy()}, tmp_path)
    producers = {value.name: value.producer().name for value in program.model.graph.outputs}
    places = [order.index(producers[f"grad_{layer}.weight"]) for layer in (6, 4, 2, 0)]
    assert places == sorted(places)
    assert max(b - a for a, b in itertools.pairwise(places)) < len(order) / 3
