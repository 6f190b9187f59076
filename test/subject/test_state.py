"""Which parameters and buffers a target reaches, and the name of each."""

import torch
from torch import nn

import gradport

norm = nn.LayerNorm(3)
weight = torch.ones(3, requires_grad=True)


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(3)

    def forward(self, x):
        return self.norm(x)


class WithTheGlobalOne(Normalized):
    def forward(self, x):
        return self.norm(x) + norm(x)


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.weight * weight


def gradients(subject):
    program = gradport.export(subject, torch.randn(2, 3), wrt="all")
    return [spec.name for spec in program.outputs if spec.role == "gradient"]


def test_an_attribute_is_no_module_level_name():
    assert gradients(Normalized()) == ["grad_x", "grad_norm.weight", "grad_norm.bias"]


def test_a_module_level_module_beside_an_own_one_of_its_name_has_a_name_of_its_own():
    own, other = ["grad_norm.weight", "grad_norm.bias"], ["grad_norm_2.weight", "grad_norm_2.bias"]
    assert gradients(WithTheGlobalOne()) == ["grad_x", *own, *other]


def test_a_module_level_parameter_beside_an_own_one_of_its_name_has_a_name_of_its_own():
    assert gradients(Weighted()) == ["grad_x", "grad_weight", "grad_weight_2"]
