"""What forward and backward both compute stands in the graph once."""

import torch

import gradport


def test_what_is_computed_twice_of_forward_and_backward_is_one():
    def model(x):
        return torch.nn.functional.gelu(x), torch.tanh(x) * torch.tanh(x)

    program = gradport.export(model, torch.randn(3), wrt="inputs")
    kinds = [node.op_type for node in program.model.graph]
    assert kinds.count("Tanh") == 1
    special = torch.tensor([float("nan"), float("inf"), 1.0])
    names = [spec.name for spec in program.inputs]
    found = program.run_named(dict(zip(names, (torch.randn(3), special, special), strict=True)))
    assert found["grad_x"].isfinite().tolist() == [False, False, True]


def test_calls_of_functions_are_counted():
    """Two calls with the same arguments stay two, and so do their inlined bodies."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, cotangent):
            return cotangent * 2

    def both(x):
        return Doubled.apply(x) + Doubled.apply(x)

    program = gradport.export(both, torch.randn(3), wrt="inputs")
    assert [info.uses for info in program.functions] == [2, 2]


def test_random_draws_are_not_shared():
    def noisy(x):
        return torch.rand_like(x) - torch.rand_like(x)

    program = gradport.export(noisy, torch.zeros(4), random="runtime")
    assert not torch.equal(program.run(torch.zeros(4))[0], torch.zeros(4))
