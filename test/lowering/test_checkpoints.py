"""Activation checkpointing arrives in ONNX: blocks are run anew, and the memory of a run falls as it does in torch."""

import collections
import subprocess
import sys

import onnx
import onnxruntime
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import gradport

STYLES = {"reentrant": True, "not reentrant": False}


class Blocks(torch.nn.Module):
    """Residual blocks; `style` says how each is checkpointed, None: not at all."""

    def __init__(self, count, width, style, dropout=0.0):
        super().__init__()
        self.style = style
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(width, 4 * width),
                torch.nn.GELU(),
                torch.nn.Dropout(dropout),
                torch.nn.Linear(4 * width, width),
            )
            for _ in range(count)
        )

    def forward(self, x):
        for block in self.blocks:
            x = x + (block(x) if self.style is None else checkpoint(block, x, use_reentrant=STYLES[self.style]))
        return x


class Megatron(torch.autograd.Function):
    """A checkpoint of a user's own."""

    @staticmethod
    def forward(ctx, x, block):
        ctx.block = block
        ctx.save_for_backward(x)
        return block(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            y = ctx.block(again)
        torch.autograd.backward(y, g)
        return again.grad, None


class OwnCheckpoints(Blocks):
    def forward(self, x):
        for block in self.blocks:
            x = x + Megatron.apply(x, block)
        return x


def squared(result):
    return result.square().mean()


def exported(net, shape, **options):
    x = torch.randn(shape, requires_grad=True, generator=torch.Generator().manual_seed(0))
    return gradport.export(net, x, wrt="parameters", loss=squared, **options)


def count(program, *operators):
    found = collections.Counter(node.op_type for node in program.model.graph.all_nodes())
    for function in program.model.functions.values():
        found.update(node.op_type for node in function.graph.all_nodes())
    return sum(found[operator] for operator in operators)


@pytest.mark.parametrize("style", STYLES)
def test_every_block_is_run_anew(style):
    plain = exported(Blocks(3, 8, None), (2, 8))
    anew = exported(Blocks(3, 8, style), (2, 8))
    assert count(plain, "Gemm") == 6
    assert count(anew, "Gemm") == 9  # torch stops once everything that was saved is there again
    assert count(anew, "IsNaN") == 3


@pytest.mark.parametrize("form", ["keep", "inline"])
def test_a_checkpoint_of_a_users_own_is_run_anew(form):
    program = exported(OwnCheckpoints(2, 8, None), (2, 8), functions=form)
    assert count(program, "IsNaN") == 2


@pytest.mark.parametrize("style", STYLES)
def test_dropout_inside_is_the_same_in_both_runs(style):
    torch.manual_seed(0)
    net = Blocks(2, 8, style, dropout=0.5)
    program = exported(net, (4, 8))  # the proof holds it against eager with the same draws
    assert len(program.random) == 2
    x = torch.randn(4, 8)
    plain = Blocks(2, 8, None, dropout=0.5)
    plain.load_state_dict(net.state_dict())
    draws = program.draw(0)
    found = program.run(x, *draws)
    expected = exported(plain, (4, 8)).run(x, *draws)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_custom_function_inside_of_a_checkpoint_stays_a_function_of_its_own():
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin() * 2

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * x.cos()

    def net(x):
        for _ in range(2):
            x = checkpoint(lambda y: Scaled.apply(y) * y, x, use_reentrant=False)
        return x

    x = torch.randn(3, 4)
    program = gradport.export(net, x, wrt="inputs")
    assert sorted({(info.phase, info.uses) for info in program.functions}) == [("backward", 2), ("forward", 4)]


def test_nothing_is_gated_where_nothing_is_checkpointed():
    assert count(exported(Blocks(2, 8, None), (2, 8)), "IsNaN") == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_passes_the_gate_unchanged(value):
    torch.manual_seed(0)
    net = Blocks(2, 8, "not reentrant")
    program = exported(net, (2, 8))
    x = torch.randn(2, 8)
    x[0, 0] = value
    found = program.run(x)
    squared(net(x.requires_grad_())).backward()
    for gradient, parameter in zip(found[1:], net.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, equal_nan=True)


PEAK = """
import re, sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
x = numpy.random.default_rng(0).standard_normal((16, 128, 64), dtype=numpy.float32)
def kib(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark begins anew
before = kib("VmRSS")
session.run(None, {"x": x})
print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    "level",
    [
        "ORT_ENABLE_ALL",
        *(pytest.param(f"ORT_{name}", marks=pytest.mark.corpus) for name in ("ENABLE_BASIC", "DISABLE_ALL")),
    ],
)
def test_a_run_in_stock_onnx_runtime_needs_less_memory(level, tmp_path):
    """Twelve blocks; in torch the checkpointed net needs about a fifth."""
    peaks = {}
    for style in (None, "not reentrant"):
        path = tmp_path / f"{style}.onnx"
        torch.manual_seed(0)
        program = exported(Blocks(12, 64, style), (16, 128, 64), verify=False)
        program.save(path)
        command = [sys.executable, "-c", PEAK, str(path), level]
        peaks[style] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peaks["not reentrant"] < 0.5 * peaks[None], peaks


def test_the_session_of_a_checkpointed_model_runs_the_blocks_twice(tmp_path):
    """ONNX Runtime's own passes do not merge what was recomputed."""
    products = {}
    for style in (None, "reentrant", "not reentrant"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 4
        exported(Blocks(3, 8, style), (2, 8)).save(tmp_path / "net.onnx")
        onnxruntime.InferenceSession(tmp_path / "net.onnx", options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
        products[style] = sum(node.op_type in ("Gemm", "FusedGemm", "MatMul", "FusedMatMul") for node in nodes)
    assert products["reentrant"] == products["not reentrant"] == products[None] + 3
