"""What verification elsewhere is known to get wrong, each as a test of ours."""

import onnx_ir as ir
import pytest
import torch

import gradport
from gradport.evidence.tolerance import compare

from ..exporting import functions as fn
from . import planting

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def same(actual, eager):
    return compare(actual, eager, lambda: eager.double() if eager.is_floating_point() else None)


def test_an_all_nan_output_is_not_accurate():
    assert not same(torch.full((3,), float("nan")), torch.ones(3)).ok


def test_where_everything_is_nan_nothing_was_compared():
    program = gradport.export(lambda x: x * float("nan"), X)
    evidence = gradport.verify(program, lambda x: x * float("nan"), X)
    assert {f.outcome for f in evidence.findings if f.rule == "agrees-with-eager"} == {"undecided"}


def test_a_shape_is_not_broadcast_away():
    found = same(torch.ones(3, 1), torch.ones(3))
    assert not found.ok
    assert "[3, 1]" in found.reason


def test_a_difference_of_uint8_does_not_wrap():
    found = same(torch.tensor([255], dtype=torch.uint8), torch.tensor([0], dtype=torch.uint8))
    assert not found.ok
    assert "255" in found.reason


def test_empty_against_empty_is_no_infinity():
    assert same(torch.ones(0, 3), torch.ones(0, 3)).ulps == 0.0


def test_equal_infinities_are_no_nan():
    found = same(torch.tensor([float("inf"), 1.0]), torch.tensor([float("inf"), 1.0]))
    assert found.ok
    assert found.ulps == 0.0


def test_a_surplus_input_is_an_error():
    program = gradport.export(lambda a: a * 2, X)
    with pytest.raises(gradport.SpecError, match="neither by name nor by position"):
        gradport.verify(program, lambda a, b: a * 2, (X, X))


def test_none_among_the_outputs_is_taken():
    class Some(torch.nn.Module):
        def forward(self, x):
            return x * 2, None, x + 1

    evidence = gradport.verify(gradport.export(Some(), X), Some(), X)
    assert evidence.ok
    assert {f.key.rpartition("/")[2] for f in evidence.findings if f.unit == "ULP"} == {"output_0", "output_2"}


def test_it_is_the_users_module_that_is_compared_with():
    module = torch.nn.Linear(3, 2)
    program = gradport.export(module, X, wrt="parameters")
    with torch.no_grad():
        module.weight.mul_(1.1)
    assert not gradport.verify(program, module, X, runtimes=["onnxruntime"], budget=0.1).ok


def test_a_second_verification_agrees_with_the_first():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            x.mul_(2)
            return x + self.calls

    module, x = Counting(), X.clone()
    program = gradport.export(module, x)
    first, second = (gradport.verify(program, module, x) for _ in range(2))
    assert first.ok and second.ok
    assert first.findings == second.findings
    assert torch.equal(x, X)
    assert module.calls == 0


def test_permuted_outputs_are_found():
    class Two(torch.nn.Module):
        def forward(self, x):
            return x + 1, x * 2

    model = planting.copied(gradport.export(Two(), X))
    first, second = model.graph.outputs
    first.name, second.name = "spare", first.name
    first.name = "output_1"
    assert not gradport.verify(model, Two(), X, runtimes=["onnxruntime"], budget=0.1).ok


def test_an_opset_that_was_replaced_in_silence_is_found():
    model = planting.copied(gradport.export(fn.Swish, X, opset_version=20))
    model.graph.opset_imports[""] = 21
    for function in model.functions.values():
        function.opset_imports[""] = 21
    evidence = gradport.verify(model, fn.Swish, X)
    (finding,) = [f for f in evidence.findings if f.rule == "versions"]
    assert finding.outcome == "failed"
    assert "opset 20 was requested, but the file has 21" in finding.message


def test_an_ir_version_that_does_not_know_the_opset_is_found():
    model = planting.copied(gradport.export(fn.Swish, X, opset_version=23))
    model.ir_version = 8
    evidence = gradport.verify(model, fn.Swish, X)
    assert next(f for f in evidence.findings if f.rule == "versions").outcome == "failed"


def test_an_over_specialised_dimension_is_found():
    model = planting.copied(gradport.export(fn.Swish, X, wrt="inputs", dynamic_shapes=({0: "batch"},)))
    model.graph.outputs[0].shape = ir.Shape([4, 3])
    evidence = gradport.verify(model, fn.Swish, X, dynamic_shapes={"x": {0: "batch"}})
    finding = next(f for f in evidence.findings if f.key == "shapes/declared")
    assert (finding.outcome, finding.kind) == ("failed", "over-specialised")
    assert "'output'" in finding.message
