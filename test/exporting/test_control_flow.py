"""torch.cond, scan and while_loop become If, Scan and Loop, with their gradients."""

import pytest
import torch
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

import gradport

pytestmark = pytest.mark.corpus

KINDS = ("keep", "inline")


def operators(program):
    return {node.op_type for node in program.model.graph}


class Doubling(torch.autograd.Function):
    """Straight through, and twice."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, cotangent):
        return cotangent * 2


class Branches(torch.nn.Module):
    """One layer where the sum is positive, another where it is not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.one(x).sin(), lambda x: (self.other(x) * x).sqrt(), (x,))


class Nested(Branches):
    """A branch in a branch, several results, a Function of the user's own."""

    def forward(self, x):
        def inner(x):
            return torch.cond(x.max() > 1, lambda x: Doubling.apply(x), lambda x: x.exp(), (x,))

        first, second = torch.cond(
            x.sum() > 0, lambda x: (inner(x), self.one(x)), lambda x: (x * self.one.bias, x.clone()), (x,)
        )
        return {"first": first, "second": second}


class Cell(torch.nn.Module):
    """A recurrence of any length."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.input, self.state = torch.nn.Linear(3, 4), torch.nn.Linear(4, 4, bias=False)

    def forward(self, x):
        def step(state, row):
            state = (self.input(row) + self.state(state)).tanh()
            return state, state.clone()

        last, every = scan(step, x.new_zeros(x.shape[0], 4), x, dim=1)
        return last, every


@pytest.mark.parametrize("form", KINDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_cond_takes_either_branch(form, sign):
    x = sign * (torch.rand(4, 3) + 0.1)
    subject = gradport.Subject(Branches(), x, wrt="all", dynamic_shapes={"x": {0: "batch"}})
    program = gradport.export(subject, functions=form)
    assert "If" in operators(program)
    for other in (x, -x):
        names = [spec.name for spec in program.outputs]
        cotangent = torch.randn(4, 3)
        found = program.run_named({"x": other, "cotangent_output": cotangent})
        leaf = other.clone().requires_grad_()
        model = Branches()
        result = model(leaf)
        result.backward(cotangent)
        expected = [result.detach(), leaf.grad, *(p.grad for p in model.parameters())]
        for name, value in zip(names, expected, strict=True):
            torch.testing.assert_close(found[name], value, equal_nan=True, rtol=1e-4, atol=1e-6)


def test_what_is_not_taken_leaves_no_trace_in_the_gradient():
    """A square root of a negative number in the other branch would make its gradient nan."""
    program = gradport.export(Branches(), torch.rand(2, 3), wrt="all")
    found = program.run_named({"x": -torch.rand(2, 3), "cotangent_output": torch.ones(2, 3)})
    assert torch.equal(found["grad_one.weight"], torch.zeros(3, 3))


@pytest.mark.parametrize("form", ["keep", pytest.param("inline", marks=pytest.mark.slow)])
def test_branches_in_branches(form):
    subject = gradport.Subject(Nested(), torch.randn(2, 3), wrt="all")
    program = gradport.export(subject, functions=form)
    for x in (torch.full((2, 3), 1.6), torch.full((2, 3), 0.3), torch.full((2, 3), -1.0)):
        assert gradport.verify(program, subject, args=(x,), only=["agrees-with-eager"], budget=0.05).ok


def test_a_function_in_a_branch_keeps_its_backward():
    program = gradport.export(Nested(), torch.randn(2, 3), wrt="x")
    ones = {"cotangent_first": torch.ones(2, 3), "cotangent_second": torch.zeros(2, 3)}
    found = program.run_named({"x": torch.full((2, 3), 1.6), **ones})
    assert torch.equal(found["first"], torch.full((2, 3), 2.0))
    assert torch.equal(found["grad_x"], torch.full((2, 3), 2.0))


def test_scan_of_a_dynamic_length():
    shapes = {"x": {0: "batch", 1: "time"}}
    subject = gradport.Subject(Cell(), torch.randn(2, 5, 3), wrt="all", dynamic_shapes=shapes)
    program = gradport.export(subject, functions="inline")
    assert "Scan" in operators(program)
    sizes = {"batch": (1, 3), "time": (1, 2, 11)}
    assert gradport.verify(program, subject, sizes=sizes, only=["agrees-with-eager"], budget=0.05).ok


def test_scan_in_reverse():
    def running(start, x):
        return scan(lambda total, row: (total * 0.5 + row, (total * row).sin()), start, x, reverse=True)

    subject = gradport.Subject(running, (torch.randn(3), torch.randn(4, 3)), wrt="inputs")
    assert gradport.verify(gradport.export(subject), subject, only=["agrees-with-eager"], budget=0.05).ok


def test_scan_with_a_tree_of_states():
    """Both states begin as the same zeros, and the body splits a row: its gradient has copies in place of views."""

    def running(x):
        def step(carry, rows):
            left, right = rows["both"].split(2, -1)
            after = {"sum": carry["sum"] * right.tanh() + left, "other": carry["other"] + left * rows["both"][..., 1:3]}
            return after, (carry["sum"] * 2, (carry["other"] * right).sin())

        zeros = x.new_zeros(3, 2)
        return scan(step, {"sum": zeros, "other": zeros.clone()}, {"both": x})

    subject = gradport.Subject(running, (torch.randn(4, 3, 4),), wrt="inputs")
    assert gradport.verify(gradport.export(subject), subject, only=["agrees-with-eager"], budget=0.05).ok


def test_a_loop_that_begins_with_one_tensor_twice():
    def doubled(x):
        return while_loop(lambda a, b: a.sum() < 40, lambda a, b: (a + b, b * 2), (x, x.clone()))

    program = gradport.export(doubled, torch.ones(3))
    first, second = program.run(torch.ones(3))
    assert torch.equal(first, torch.full((3,), 16.0)) and torch.equal(second, torch.full((3,), 16.0))


@pytest.mark.slow
def test_edge_values_in_a_scan():
    subject = gradport.Subject(Cell(), torch.randn(2, 5, 3), wrt="all")
    assert gradport.verify(gradport.export(subject, functions="inline"), subject).ok


def halved(x):
    def small(count, x):
        return (x.abs().max() > 0.1) & (count < 20)

    return while_loop(small, lambda count, x: (count + 1, x / 2), (torch.tensor(0), x))


def test_while_loop_forward():
    program = gradport.export(halved, torch.rand(3))
    assert "Loop" in operators(program)
    count, x = program.run(torch.tensor([8.0, 1.0, 0.5]))
    assert int(count) == 7 and torch.equal(x, torch.tensor([8.0, 1.0, 0.5]) / 128)
    assert int(program.run(torch.zeros(3))[0]) == 0


def test_the_gradient_of_a_while_loop_is_refused():
    with pytest.raises(
        gradport.ExportError, match=r"while_loop_stack_output, which has no ONNX lowering at .*test_control"
    ):
        gradport.export(halved, torch.rand(3), wrt="x")


def test_random_numbers_in_a_branch_are_refused():
    def noisy(x):
        return torch.cond(x.sum() > 0, lambda x: x + torch.rand_like(x), lambda x: x.clone(), (x,))

    with pytest.raises(gradport.ExportError, match="draws random numbers"):
        gradport.export(noisy, torch.rand(3))


def test_a_step_through_a_branch():
    net = Branches()
    program = gradport.export_step(
        net,
        torch.rand(2, 3),
        optimizer=torch.optim.SGD(net.parameters(), 0.1),
        loss=lambda result, target: (result - target).square().mean(),
        targets=torch.rand(2, 3),
    )
    assert "new.one.weight" in [spec.name for spec in program.outputs]
