"""Activations and their gradients, where the exporter's lowering or decomposition differs from torch at a kink."""

from __future__ import annotations

import math

import onnx_ir as ir
import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.precision import kind_of, narrow, scalar, widen
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import decomposition, lowering, op

__all__: list[str] = []


@decomposition(_aten.hardtanh_backward.default, samples=[sample(F.hardtanh, reals("n", 4))])
def hardtanh_backward(grad_output: torch.Tensor, self: torch.Tensor, min_val: float, max_val: float) -> torch.Tensor:
    """The cotangent strictly between the limits; zero at the limits, outside and at nan. The exporter's decomposition
    passes the cotangent at the limits. (At nan torch's kernel passes it or not: its vectorized loop and the loop for
    the remaining elements differ.)

    The result of the forward is compared, not its argument: the next layer keeps the result in any case, so that the
    argument needs no memory until the backward.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardtanh.html
    """
    result = F.hardtanh(self, min_val, max_val)
    return torch.where((result > min_val) & (result < max_val), grad_output, torch.zeros_like(grad_output))


@decomposition(
    _aten.hardshrink_backward.default,
    samples=[sample(lambda x, y: torch.ops.aten.hardshrink_backward(y, x, 0.5), reals("n", 4), reals("n", 4))],
)
def hardshrink_backward(grad_out: torch.Tensor, self: torch.Tensor, lambd: float) -> torch.Tensor:
    """The cotangent outside the limits; zero between them, at them and at nan.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardshrink.html
    """
    return torch.where((self < -lambd) | (self > lambd), grad_out, torch.zeros_like(grad_out))


@decomposition(_aten.hardswish_backward.default, samples=[sample(F.hardswish, reals("n", 4, low=-4.0, high=4.0))])
def hardswish_backward(grad_output: torch.Tensor, self: torch.Tensor) -> torch.Tensor:
    """The cotangent for x >= 3, zero for x <= -3, the cotangent times x / 3 + 1/2 between.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardswish.html
    """
    inside = grad_output * (self / 3 + 0.5)
    return torch.where(self >= 3, grad_output, torch.where(self <= -3, torch.zeros_like(inside), inside))


@lowering(
    _aten.gelu_backward.default,
    samples=[
        sample(F.gelu, reals("n", 4)),
        sample(lambda x: F.gelu(x, approximate="tanh"), reals("n", 4)),
        sample(F.gelu, reals(3, 4, dtype=torch.float16)),
    ],
)
def gelu_backward(grad_output: ir.Value, self: ir.Value, approximate: str = "none") -> ir.Value:
    """The cotangent times the slope of `x P(x)`: `P(x) + x p(x)` with the normal distribution P and its density p, or
    that of `x (1 + tanh(u)) / 2` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`.

    Source: D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units", 2016; https://arxiv.org/abs/1606.08415
    """
    x, kind = widen(self), kind_of(self)
    half, one = scalar(0.5, kind), scalar(1.0, kind)
    square = op.Mul(x, x)
    if approximate == "none":
        share = op.Mul(op.Add(op.Erf(op.Mul(x, scalar(math.sqrt(0.5), kind))), one), half)
        density = op.Mul(op.Exp(op.Mul(square, scalar(-0.5, kind))), scalar(1 / math.sqrt(2 * math.pi), kind))
    else:
        root = math.sqrt(2 / math.pi)
        cubic = op.Add(op.Mul(square, scalar(0.044715 * root, kind)), scalar(root, kind))
        bent = op.Tanh(op.Mul(x, cubic))
        share = op.Mul(op.Add(bent, one), half)
        steep = op.Add(op.Mul(square, scalar(3 * 0.044715 * root / 2, kind)), scalar(root / 2, kind))
        density = op.Mul(op.Sub(one, op.Mul(bent, bent)), steep)
    slope = op.Add(share, op.Mul(x, density))
    return narrow(op.Mul(widen(grad_output), slope), self)


@decomposition(_aten.sigmoid.default, samples=[sample(torch.sigmoid, reals("n", 4))])
def sigmoid(x: torch.Tensor) -> torch.Tensor:
    """`1 / (1 + exp(-x))`: ONNX Runtime's Sigmoid has a relative error of 57 % near x = -16, and is not faster.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.sigmoid.html
    """
    x = x if x.is_floating_point() or x.is_complex() else x.to(torch.get_default_dtype())
    return (1 + (-x).exp()).reciprocal()


@decomposition(_aten.silu.default, samples=[sample(F.silu, reals("n", 4))])
def silu(x: torch.Tensor) -> torch.Tensor:
    """`x sigmoid(x)`.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.SiLU.html
    """
    return x / (1 + (-x).exp())


@decomposition(
    _aten.relu.default,
    samples=[sample(lambda x, k: x * torch.relu(k), reals("n", 4), integers("n", 4, low=-3, dtype=torch.int32))],
)
def relu(x: torch.Tensor) -> torch.Tensor:
    """ReLU of integers by comparison: ONNX Runtime's Relu supports few integer types.

    Source: https://onnx.ai/onnx/operators/onnx__Relu.html
    """
    return NotImplemented if x.is_floating_point() else torch.where(x > 0, x, torch.zeros_like(x))
