"""A gradient inside a model's forward, however the author spells it, is carried as eager runs it."""

import pytest
import torch
import torch.autograd.functional as autograd_functional

import gradport

pytestmark = pytest.mark.corpus


def total(net, x):
    return net(x).sum()


def with_backward(net, x):
    x = x.detach().requires_grad_()
    total(net, x).backward()
    return x.grad


def with_backward_create_graph(net, x):
    x.requires_grad_()
    total(net, x).backward(create_graph=True)
    return x.grad


def hessian_vector_product(net, x):
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(total(net, x), x, create_graph=True)
    return torch.autograd.grad((gradient * x.detach()).sum(), x, create_graph=True)[0]


def under_no_grad(net, x):
    with torch.no_grad(), torch.enable_grad():
        y = x.detach().requires_grad_()
        return torch.autograd.grad(total(net, y), y)[0]


def energy_and_forces(net, x):
    x.requires_grad_()
    energy = net(x)
    return energy, -torch.autograd.grad(energy.sum(), x, create_graph=True)[0]


def by_a_hook(net, x):
    x.requires_grad_()
    seen = []
    middle = torch.tanh(net(x))
    middle.register_hook(lambda cotangent: seen.append(cotangent))
    middle.sum().backward()
    return seen[0], x.grad


def per_sample(net, x):
    parameters = {name: parameter.detach() for name, parameter in net.named_parameters()}

    def one(parameters, row):
        return torch.func.functional_call(net, parameters, (row,)).sum()

    return torch.func.vmap(torch.func.grad(one), (None, 0))(parameters, x)["0.weight"]


# whether it works for every size of the batch; those that do not loop over the elements of the output in Python
SPELLINGS = {
    "autograd.grad": (True, lambda net, x: torch.autograd.grad(total(net, x.requires_grad_()), x)[0]),
    "func.grad": (True, lambda net, x: torch.func.grad(lambda y: total(net, y))(x)),
    "func.grad_and_value": (True, lambda net, x: torch.func.grad_and_value(lambda y: total(net, y))(x)),
    "func.vjp": (True, lambda net, x: torch.func.vjp(net, x)[1](torch.ones(x.shape[0], 1))[0]),
    "func.jvp": (True, lambda net, x: torch.func.jvp(net, (x,), (torch.ones_like(x),))[1]),
    "func.jacrev": (True, lambda net, x: torch.func.jacrev(net)(x)),
    "func.jacfwd": (True, lambda net, x: torch.func.jacfwd(net)(x)),
    "func.hessian": (True, lambda net, x: torch.func.hessian(lambda y: total(net, y))(x)),
    "vmap of jacrev": (True, lambda net, x: torch.func.vmap(torch.func.jacrev(net))(x)),
    "vmap of hessian": (True, lambda net, x: torch.func.vmap(torch.func.hessian(lambda y: net(y).sum()))(x)),
    "functional.jacobian": (False, lambda net, x: autograd_functional.jacobian(net, x)),
    "functional.hessian": (False, lambda net, x: autograd_functional.hessian(lambda y: total(net, y), x)),
    "functional.hvp": (
        True,
        lambda net, x: autograd_functional.hvp(lambda y: total(net, y), x, torch.ones_like(x))[1],
    ),
    "functional.vhp": (
        True,
        lambda net, x: autograd_functional.vhp(lambda y: total(net, y), x, torch.ones_like(x))[1],
    ),
    "functional.vjp": (True, lambda net, x: autograd_functional.vjp(net, x, torch.ones(x.shape[0], 1))[1]),
    "functional.jvp": (True, lambda net, x: autograd_functional.jvp(net, x, torch.ones_like(x))[1]),
    "backward": (True, with_backward),
    "backward(create_graph=True)": (True, with_backward_create_graph),
    "Hessian-vector product": (True, hessian_vector_product),
    "under no_grad": (True, under_no_grad),
    "energy and forces": (True, energy_and_forces),
    "a hook": (True, by_a_hook),
    "per sample": (True, per_sample),
}


class Spelled(torch.nn.Module):
    """A net, and what is computed with it."""

    def __init__(self, spelling):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self.spelling = spelling

    def forward(self, x):
        return self.spelling(self.net, x)


@pytest.mark.parametrize("name", SPELLINGS)
def test_spelling(name):
    dynamic, spelling = SPELLINGS[name]
    model = Spelled(spelling)
    result = model(torch.randn(2, 3))
    first = result[0] if isinstance(result, tuple) else result
    subject = gradport.Subject(
        model,
        torch.randn(5, 3),
        wrt="parameters" if first.requires_grad else None,  # the training gradient through the gradient
        dynamic_shapes={"x": {0: "batch"}} if dynamic else None,
    )
    program = gradport.export(subject, functions="inline")
    assert gradport.verify(program, subject, sizes={"batch": (1, 7)} if dynamic else None).ok


def test_a_loop_over_the_output_is_not_specialised_in_silence():
    model = Spelled(SPELLINGS["functional.jacobian"][1])
    with pytest.raises(gradport.ExportError, match=r"fixes the dynamic dimension 'batch' at 5.*test_spellings\.py"):
        gradport.export(model, torch.randn(5, 3), dynamic_shapes={"x": {0: "batch"}})
