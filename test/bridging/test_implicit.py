"""Gradients of solutions: a deep equilibrium layer, Newton's method, and the adjoint of an adaptive ODE solver."""

import importlib.util
import pathlib

import pytest
import torch

import gradport
from gradport.bridging import implicit, iterate

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "implicit"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loops(program):
    graphs = [program.model.graph, *(function.graph for function in program.model.functions.values())]
    return sum(node.op_type == "Loop" for graph in graphs for node in graph.all_nodes())


def test_a_deep_equilibrium_layer():
    """Against eager's adjoint, and against the derivative of many unrolled steps."""
    torch.manual_seed(0)
    model = example("equilibrium").Equilibrium(4, 6)
    x = torch.randn(3, 4, requires_grad=True)
    leaves = [x, *model.parameters()]
    gradients = torch.autograd.grad(model(x).square().sum(), leaves)
    z = torch.zeros(3, 6)
    for _ in range(200):
        z = model.step(z, x)
    expected = torch.autograd.grad(z.square().sum(), leaves)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    program = gradport.export(model, x.detach(), wrt="all", dynamic_shapes={"x": {0: "batch"}})
    assert loops(program) == 2
    found = program.run(x.detach(), 2 * model(x).detach())
    for one, other in zip(found[1:], gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert gradport.check(model, x.detach(), profile="quick").ok


def test_a_root_by_newton():
    root = example("newton").root
    a, b = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.3, -1.0, 2.0])
    subject = gradport.Subject(
        lambda a, b: root(a, b), (a, b), wrt="inputs", inputs={"a": (0.5, 3.0), "b": (-2.0, 2.0)}
    )
    program = gradport.export(subject, dynamic_shapes={"a": {0: "n"}, "b": {0: "n"}})
    assert loops(program) == 2
    z, da, db = program.run(a, b, torch.ones(3))
    torch.testing.assert_close(z**3 + a * z, b, rtol=1e-5, atol=1e-5)
    slope = 3 * z * z + a
    torch.testing.assert_close(da, -z / slope, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(db, 1 / slope, rtol=1e-4, atol=1e-5)
    assert gradport.check(subject, profile="quick").ok


def test_the_adjoint_of_an_adaptive_solver():
    """The continuous adjoint agrees with differences to the tolerance of the solver."""
    torch.manual_seed(0)
    model, z = example("ode").Flow(), torch.randn(2, 3)
    program = gradport.export(model, z, wrt="all", dynamic_shapes={"z": {0: "batch"}})
    assert loops(program) == 2
    _, dz, dweight, _ = program.run(z, torch.ones(2, 3))

    def total(z, weight):
        steps = 400
        for _ in range(steps):
            middle = z + torch.tanh(z @ weight + model.bias) / (2 * steps)
            z = z + torch.tanh(middle @ weight + model.bias) / steps
        return z.sum()

    leaves = z.clone().requires_grad_(), model.weight.detach().clone().requires_grad_()
    expected = torch.autograd.grad(total(*leaves), leaves)
    torch.testing.assert_close(dz, expected[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(dweight, expected[1], rtol=1e-3, atol=1e-3)


def test_a_residual_of_another_shape_is_refused():
    solution = implicit(lambda x: x[:2], lambda z, x: x - 1)
    with pytest.raises(ValueError, match=r"residual has the shape \(3,\), not \(2,\)"):
        solution(torch.randn(3))


def test_a_zero_cotangent_gives_zero():
    root = implicit(lambda b: b.sign() * b.abs() ** (1 / 3), lambda z, b: z**3 - b)
    b = torch.tensor([8.0, 1.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(root(b), b, torch.zeros(2))
    assert gradient.tolist() == [0.0, 0.0]


def test_iterate_ends_at_its_limit():
    (x,) = iterate(lambda x: x > 0, lambda x: (x + 1,), (torch.tensor(1.0),), iterations=7)
    assert float(x) == 8.0
