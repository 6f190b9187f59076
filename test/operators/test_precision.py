"""A Python number in a float64 graph has the precision of float64."""

import pytest
import torch
import torch.nn.functional as F

import gradport

C = 0.999

COMPUTED = {
    "add": lambda x: x + C,
    "subtract-from": lambda x: C - x,
    "multiply": lambda x: x * C,
    "divide": lambda x: C / x,
    "power": lambda x: x**C,
    "power-of-a-number": lambda x: C**x,
    "clamp": lambda x: x.clamp(0.4, C),
    "full": lambda x: x * torch.full((3, 4), C, dtype=x.dtype),
    "full_like": lambda x: x * torch.full_like(x, C),
    "where": lambda x: torch.where(x > C, x, C),
    "masked_fill": lambda x: x.masked_fill(x > 0.7, C),
    "lerp": lambda x: torch.lerp(x, x * 2, C),
    "smooth_l1": lambda x: F.smooth_l1_loss(x, x * 0, beta=C),
    "attention": lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None], scale=C),
    "sigmoid": torch.sigmoid,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_number_is_not_rounded_to_float32(name):
    x = torch.rand(3, 4, dtype=torch.float64) + 0.3
    program = gradport.export(COMPUTED[name], x, wrt="inputs")
    leaf = x.clone().requires_grad_()
    output = COMPUTED[name](leaf)
    output.backward(torch.ones_like(output))
    got, gradient = program.run(x, torch.ones_like(output))
    torch.testing.assert_close(got, output.detach(), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("x", [-16.0, -30.0, -88.0, 0.0, 40.0])
def test_a_sigmoid_is_exact_where_it_is_small(x):
    value = torch.tensor([x])
    (got,) = gradport.export(torch.sigmoid, value).run(value)
    torch.testing.assert_close(got, value.sigmoid(), rtol=1e-5, atol=0.0)


def test_limits_of_mixed_types():
    x = torch.tensor([-1.0, 0.5, 70.0])
    (got,) = gradport.export(lambda x: x.clamp(1e-6, 50), x).run(x)
    torch.testing.assert_close(got, x.clamp(1e-6, 50))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer_norm_with_a_bias_alone_has_a_gradient_in_half_precision(dtype):
    x, bias = torch.randn(5, 4, dtype=dtype), torch.randn(4, dtype=dtype)
    program = gradport.export(lambda x, b: F.layer_norm(x, (4,), None, b), (x, bias), wrt="inputs")
    found = program.run(x, bias, torch.ones(5, 4, dtype=dtype))
    torch.testing.assert_close(found[2], torch.full((4,), 5.0, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer_norm_in_half_precision_has_a_gradient(dtype):
    x, weight, bias = (torch.randn(shape, dtype=dtype) for shape in ((5, 3, 4), (4,), (4,)))
    program = gradport.export(lambda x, w, b: F.layer_norm(x, (4,), w, b), (x, weight, bias), wrt="inputs")
    tensors = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    output = F.layer_norm(x, (4,), weight, bias)
    output.backward(torch.ones_like(output))
    found = program.run(*(tensor.detach() for tensor in tensors), torch.ones_like(output))
    for got, wanted in zip(found, (output.detach(), *(tensor.grad for tensor in tensors)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0.05, atol=0.05)
