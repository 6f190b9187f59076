"""Gradients by what a module inside returns, and such results as outputs."""

import pytest
import torch

import gradport

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network(inplace=False):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.ReLU(inplace=inplace),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 5),
    )


def score(logits):
    return logits[:, 1].sum()


@pytest.mark.parametrize("inplace", [False, True])
def test_grad_cam(inplace):
    net = network(inplace)
    program = gradport.export(
        net, IMAGE, wrt="0.output", outputs=["0.output"], loss=score, dynamic_shapes=({0: "batch"},)
    )
    assert [(s.name, s.role) for s in program.outputs] == [
        ("loss", "loss"),
        ("0.output", "activation"),
        ("grad_0.output", "gradient"),
    ]
    image = torch.randn(5, 3, 8, 8)
    _, activation, gradient = program.run(image)
    features = net[0](image)
    torch.testing.assert_close(activation, features.detach())
    kept = features.detach().requires_grad_()
    score(net[1:](kept.clone())).backward()
    torch.testing.assert_close(gradient, kept.grad)


def test_beside_parameters_and_without_a_loss():
    net = network()
    program = gradport.export(net, IMAGE, wrt=["2.output", "4.weight"])
    assert [s.name for s in program.outputs] == ["output", "grad_2.output", "grad_4.weight"]
    assert gradport.verify(program, net, IMAGE).ok


class Twice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)
        self.rnn = torch.nn.GRU(3, 2, batch_first=True)

    def forward(self, x):
        return self.rnn(self.layer(self.layer(x).tanh()))[0].sum((1, 2))


def test_the_second_call_and_a_leaf_of_a_tuple():
    net, x = Twice(), torch.randn(2, 4, 3)
    program = gradport.export(net, x, wrt=["layer.output", "layer.output#1", "rnn.output.0"], loss=torch.sum)
    assert gradport.verify(program, net, x, loss=torch.sum).ok
    first, second, third = program.run(x)[1:]
    assert not torch.allclose(first, second)
    assert torch.equal(third, torch.ones(2, 4, 2))


def test_what_is_no_activation_is_named():
    with pytest.raises(gradport.SpecError, match="does not exist"):
        gradport.export(network(), IMAGE, wrt="9.output", loss=score)
    with pytest.raises(gradport.SpecError, match="does not exist"):
        gradport.export(network(), IMAGE, wrt="0.output#1", loss=score)
