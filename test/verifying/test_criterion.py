"""The criterion: float64 is the oracle, eager's own error the measure, branches are counted, and all of it is said."""

import pytest
import torch

import gradport

X = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))


def findings(module, x, **options):
    evidence = gradport.verify(gradport.export(module, x, **options), module, x, runtimes=["onnxruntime"])
    return evidence, {f.key.rpartition("/")[2]: f for f in evidence.findings if f.rule == "agrees-with-eager"}


class Grid(torch.nn.Module):
    """Rounds to tenths, at ties wherever the input is one."""

    def forward(self, x):
        return torch.floor(x * 10) / 10


def test_where_float64_decides_otherwise_too_often_it_is_undecided():
    on_ties = (torch.arange(100) / 100).reshape(10, 10)
    evidence, found = findings(Grid(), on_ties)
    assert found["output"].outcome == "undecided"
    assert "of its elements float64 takes another branch" in found["output"].message
    assert not evidence.ok


def test_a_few_other_branches_are_said_and_hold():
    x = X.clone()
    x[0, 0] = 0.7  # 10 * 0.7 is 7 in float32 and less in float64
    _, found = findings(Grid(), x)
    assert found["output"].outcome == "ok"
    assert "0.05% of its elements" in found["output"].message


def test_one_comparison_that_tips_over_leaves_a_deep_gradient_decided():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layers = torch.nn.Sequential(
                *(layer for _ in range(8) for layer in (torch.nn.Linear(50, 50), torch.nn.ReLU()))
            )

        def forward(self, x):
            return self.layers(x)

    evidence, _ = findings(Net(), X, wrt="parameters")
    assert evidence.ok


def test_a_float64_subject_is_held_to_the_floor_alone():
    class Rough(torch.nn.Module):
        def forward(self, x):
            return (x + 1e10) - 1e10

    x = torch.randn(5, dtype=torch.float64)
    evidence = gradport.verify(gradport.export(lambda x: x * 1, x), Rough(), x)
    assert not evidence.ok


def test_a_subject_that_does_not_run_in_float64_says_so():
    class Single(torch.nn.Module):
        def forward(self, x):
            assert torch.jit.is_tracing() or x.dtype == torch.float32
            return x.sin() * 1.0000005

    program = gradport.export(lambda x: x.sin(), X)
    evidence = gradport.verify(program, Single(), X, runtimes=["onnxruntime"])
    (found,) = [f for f in evidence.findings if f.rule == "agrees-with-eager"]
    assert found.outcome == "ok"
    assert "does not run in float64" in found.message


def test_the_factor_the_floor_and_the_worst_element_are_printed():
    evidence, found = findings(torch.nn.Sequential(torch.nn.Tanh()), X)
    assert evidence.series["criterion"]["factor"] == 8
    assert "ULPs" in evidence.series["criterion"]["floor"]
    assert "and eager gives" in found["output"].message


@pytest.mark.parametrize("operator", ["tanh", "sigmoid", "exp", "log", "softmax", "gelu", "silu", "erf", "matmul"])
def test_correct_single_operators_hold(operator):
    calls = {
        "softmax": lambda x: x.softmax(-1),
        "gelu": torch.nn.functional.gelu,
        "silu": torch.nn.functional.silu,
        "log": lambda x: (x.abs() + 1).log(),
        "matmul": lambda x: x @ x.mT,
    }
    call = calls.get(operator, lambda x: getattr(torch, operator)(x))
    evidence = gradport.verify(gradport.export(call, X, wrt="inputs"), call, X)
    assert evidence.ok, [f.message for f in evidence.findings if f.outcome not in ("ok", "skipped")]


def test_a_dtype_without_kernels_is_neither_right_nor_wrong():
    class Scaled(torch.nn.Module):
        def forward(self, x):
            return x.reciprocal()

    x = torch.rand(3, dtype=torch.bfloat16) + 1
    program = gradport.export(Scaled(), x, verify=False)
    evidence = gradport.verify(program, Scaled(), x)
    (finding,) = [f for f in evidence.findings if f.key == "runs/onnxruntime"]
    assert (finding.outcome, finding.kind) == ("skipped", "no kernel")
