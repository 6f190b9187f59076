"""What cannot be carried is refused by name, with its line, before a file is written; a wrong file is caught."""

import numpy as np
import pytest
import torch

import gradport
from gradport.operators import table

from . import functions as fn

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def refused(target, args=(X,), error=gradport.ExportError, **options):
    with pytest.raises(error) as caught:
        gradport.export(target, args, wrt=options.pop("wrt", "inputs"), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def function(forward, backward=lambda ctx, g: g):
    return type(
        "Made", (torch.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    )


def test_a_branch_on_a_value():
    def forward(ctx, x):
        if x.sum() > 0:
            return x * 2
        return x

    message = refused(function(forward))
    assert "decides on a tensor's value" in message
    assert "test_refusals.py:" in message


def test_a_loop_on_a_value():
    def forward(ctx, x):
        y = x
        while y.abs().max() > 0.1:
            y = y / 2
        return y

    assert "decides on a tensor's value" in refused(function(forward))


def test_an_item_used_as_a_number_follows_the_input():
    def forward(ctx, x):
        return x * x.max().item()

    made = function(forward, lambda ctx, g: g * 3)
    assert gradport.verify(gradport.export(made, X, wrt="inputs"), made, X).ok


def test_an_item_used_as_a_size_is_refused():
    def forward(ctx, x):
        return x.new_ones(int(x.abs().max().item()) + 1).sum() * x

    assert "decides on a tensor's value" in refused(function(forward))


def test_a_draw_without_a_rule():
    message = refused(function(lambda ctx, x: x * torch.multinomial(x.sigmoid(), 1)))
    assert "draws random numbers" in message
    assert "pass the random tensor in" in message


def test_random_numbers_from_outside_torch():
    message = refused(function(lambda ctx, x: x * float(np.random.default_rng().normal())))
    assert "draws random numbers or keeps state outside torch" in message


def test_numpy_in_a_forward_is_never_baked_in():
    def forward(ctx, x):
        return torch.from_numpy(np.tanh(x.detach().numpy()))

    message = refused(function(forward, lambda ctx, g: g))
    assert "numpy" in message


def test_a_loop_over_a_dynamic_dimension():
    def forward(ctx, x):
        return torch.stack([x[i] * (i + 1) for i in range(int(x.shape[0]))])

    message = refused(function(forward), dynamic_shapes=({0: "batch"},))
    assert "fixes the dynamic dimension 'batch' at 4" in message


def test_a_branch_on_a_size():
    def forward(ctx, x):
        return x * 2 if x.shape[0] > 3 else x * 3

    message = refused(function(forward), dynamic_shapes=({0: "batch"},))
    assert "branches on the dynamic dimension 'batch'" in message


def test_two_dimensions_that_the_code_ties_together():
    message = refused(lambda x, y: x + y, (X, X), dynamic_shapes=({0: "a"}, {0: "b"}))
    assert "ties the dimensions 'a' and 'b' together" in message


def test_a_function_that_needs_cuda():
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    message = refused(function(lambda ctx, x: x.cuda()), error=gradport.TargetError)
    assert "needs CUDA" in message
    assert "test_refusals.py:" in message


def test_inputs_that_the_forward_rejects():
    message = refused(fn.Newer, (X, X), error=gradport.TargetError)
    assert "rejects its inputs" in message
    assert "x: float32[4, 3], w: float32[4, 3]" in message


def test_arguments_that_the_forward_does_not_take():
    message = refused(fn.Clamp, (X, X, X), error=gradport.TargetError)
    assert "Clamp" in message
    assert "functions.py:" in message


@pytest.mark.parametrize(
    ("backward", "reason"),
    [
        (lambda ctx, g: (g, g), "incorrect number of gradients"),
        (lambda ctx, g: g.sum(0)[:2], "invalid gradient at index 0"),
    ],
)
def test_a_backward_that_gives_the_wrong_number_or_shape_of_gradients(backward, reason):
    message = refused(function(lambda ctx, x: x * 2, backward), error=gradport.TargetError)
    assert reason in message
    assert "return one gradient for each argument" in message


def test_an_operator_without_a_lowering_is_named_with_its_line():
    def forward(ctx, x):
        return torch.linalg.ldl_factor(x @ x.T)[0]

    message = refused(function(forward, lambda ctx, g: torch.zeros(4, 3)))
    assert "linalg" in message
    assert "test_refusals.py:" in message


@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr])
def test_a_sparse_tensor(make):
    assert "makes a sparse tensor" in refused(lambda x: make(x).to_dense() * 2)
    assert "is a sparse" in refused(lambda x, y: x * 2, (X, make(X)), wrt="x")


def test_nothing_differentiable():
    message = refused(lambda x: x.round().int(), wrt="inputs")
    assert "has no gradient with respect to x" in message


def test_a_target_that_cannot_be_called():
    assert "cannot be called" in refused(3, error=gradport.TargetError)


def test_the_proof_catches_a_planted_wrong_lowering(monkeypatch):
    """Exp is lowered slightly wrong, and the file is not handed out."""
    monkeypatch.setattr(table, "_ROWS", list(table._ROWS))

    @table.lowering(torch.ops.aten.exp.default)
    def wrong(self):
        return table.op.Mul(table.op.Exp(self), table.op.CastLike(table.op.Constant(value_float=1.001), self))

    message = refused(fn.Swish)
    assert "the output 'output' differs from eager" in message
    assert "relative 0.000" in message
    assert "The first operator that differs is aten.exp.default in the forward of Swish at" in message
    unproved = gradport.export(fn.Swish, X, wrt="inputs", verify=False)
    evidence = gradport.verify(unproved, fn.Swish, X)
    assert not evidence.ok
    assert {f.outcome for f in evidence.findings if f.rule == "agrees-with-eager"} == {"failed"}


def test_the_proof_catches_a_planted_lost_gradient(monkeypatch):
    """A replacement without a gradient: eager has one."""
    monkeypatch.setattr(table, "_ROWS", list(table._ROWS))

    @table.replacement(torch.hypot)
    def lost(self, other):
        return (self.detach().square() + other.square()).sqrt()

    def length(x, y):
        return torch.hypot(x, y)

    with pytest.raises(gradport.ExportError, match=r"eager has the gradient 'grad_x', and torch's trace has none"):
        gradport.export(length, (torch.rand(3), torch.rand(3)), wrt="inputs")


def test_values_that_leave_torch_through_a_list_never_become_constants():
    def forward(ctx, x):
        return x * torch.tensor(x.detach().tolist())

    program = gradport.export(function(forward), X, wrt="inputs")
    other = X.flip(0) + 1
    assert torch.allclose(program.run(other, torch.ones_like(X))[0], other * other)


def test_a_state_that_changes_from_call_to_call_is_caught():
    calls = []

    def forward(ctx, x):
        calls.append(1)
        return x * len(calls)

    assert "keeps state outside torch" in refused(function(forward))


def test_a_lazy_module_is_called_first():
    with pytest.raises(gradport.SpecError, match="The parameter 'weight' of a lazy module has no shape yet"):
        gradport.export(torch.nn.LazyLinear(3), torch.randn(2, 4), wrt="all")
