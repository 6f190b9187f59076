"""On a kink the exported gradient is the one that eager takes there, not the one of the other side."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import gradport

pytestmark = pytest.mark.corpus

KINKS = [-6.0, -3.0, -2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 6.0, 20.0]

ELEMENTWISE = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "hardtanh-limits": lambda x: F.hardtanh(x, -0.5, 2.0),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "threshold": lambda x: F.threshold(x, 1.0, 0.5),
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "softplus": F.softplus,
    "softplus-threshold": lambda x: F.softplus(x, 1.0, 2.0),
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "prelu": lambda x: F.prelu(x, torch.tensor(0.25)),
    "abs": torch.abs,
    "sign": lambda x: torch.sign(x) * x,
    "clamp": lambda x: x.clamp(-1.0, 2.0),
    "clamp_min": lambda x: x.clamp(min=0.5),
    "clamp_max": lambda x: x.clamp_max(0.5),
    "clamp-tensor": lambda x: x.clamp(torch.tensor(-1.0), torch.tensor(2.0)),
    "maximum": lambda x: torch.maximum(x, torch.tensor(1.0)),
    "minimum": lambda x: torch.minimum(x, torch.tensor(1.0)),
    "maximum-of-itself": lambda x: torch.maximum(x, x.flip(0)),
    "where": lambda x: torch.where(x > 0, x * 2, x),
    "pow-zero": lambda x: x.pow(0),
    "pow-two": lambda x: x.pow(2.0),
    "fmod": lambda x: torch.fmod(x, 1.5),
    "remainder": lambda x: torch.remainder(x, 1.5),
    "xlogy": lambda x: torch.special.xlogy(x.abs().detach(), x.abs() + 1) + x,
    "copysign": lambda x: torch.copysign(x, x.flip(0)),
    "heaviside": lambda x: torch.heaviside(x.detach(), torch.tensor(0.5)) * x,
    "hypot": lambda x: torch.hypot(x, x.flip(0)),
    "nan_to_num": lambda x: torch.nan_to_num(x),
}

REDUCING = {
    "max": torch.max,
    "min": torch.min,
    "amax": lambda x: x.amax(0),
    "amin": lambda x: x.amin(0),
    "max-dim": lambda x: x.max(0).values,
    "median": lambda x: x.median(),
    "norm": lambda x: x.norm(),
    "norm-one": lambda x: x.norm(1),
    "norm-inf": lambda x: x.norm(float("inf")),
    "sort": lambda x: x.sort(0).values * torch.arange(4.0),
    "cummax": lambda x: x.cummax(0).values,
    "prod": lambda x: x.prod(0),
    "huber": lambda x: F.huber_loss(x, torch.zeros(4)),
    "smooth_l1": lambda x: F.smooth_l1_loss(x, torch.zeros(4)),
    "l1": lambda x: F.l1_loss(x, torch.ones(4)),
    "hinge": lambda x: F.hinge_embedding_loss(x, torch.tensor([1.0, -1.0, 1.0, -1.0])),
    "margin_ranking": lambda x: F.margin_ranking_loss(x, x.flip(0).detach(), torch.ones(4)),
    "max_pool1d": lambda x: F.max_pool1d(x.reshape(1, 1, 4), 2, 1),
    "max_pool1d-padded": lambda x: F.max_pool1d(x.reshape(1, 1, 4), 3, 1, 1),
    "cdist": lambda x: torch.cdist(x.reshape(2, 2), x.reshape(2, 2)),
}


def agree(function, at):
    x = torch.tensor(at)
    program = gradport.export(function, torch.randn(4), wrt="inputs", functions="inline")
    leaf = x.clone().requires_grad_()
    output = function(leaf)
    cotangent = torch.linspace(0.5, 2.0, output.numel()).reshape(output.shape)
    output.backward(cotangent)
    got, gradient = program.run(x, cotangent)
    torch.testing.assert_close(got, output.detach(), equal_nan=True)
    torch.testing.assert_close(gradient, leaf.grad, equal_nan=True)


@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(max_examples=3, deadline=None)
@given(start=st.integers(0, 4))
def test_elementwise(name, start):
    for at in range(start, len(KINKS) - 3, 4):
        agree(ELEMENTWISE[name], KINKS[at : at + 4])


@pytest.mark.parametrize("name", REDUCING)
@settings(max_examples=4, deadline=None)
@given(at=st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=4, max_size=4))
def test_ties(name, at):
    agree(REDUCING[name], at)
