"""Gradients of activations, where a lowering or decomposition elsewhere differs from torch at a kink."""

from __future__ import annotations

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.table import decomposition

__all__: list[str] = []


@decomposition(_aten.hardtanh_backward.default)
def hardtanh_backward(grad_output: torch.Tensor, self: torch.Tensor, min_val: float, max_val: float) -> torch.Tensor:
    """The cotangent strictly between the limits, zero on them, outside and at nan: the exporter's own lets it pass on
    them. (In torch a nan lets it pass or not, as it falls into the vector part of the kernel or behind it.)

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardtanh.html
    """
    return torch.where((self > min_val) & (self < max_val), grad_output, torch.zeros_like(grad_output))


@decomposition(_aten.hardshrink_backward.default)
def hardshrink_backward(grad_out: torch.Tensor, self: torch.Tensor, lambd: float) -> torch.Tensor:
    """The cotangent outside of the limits, zero between and on them, and at nan.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardshrink.html
    """
    return torch.where((self < -lambd) | (self > lambd), grad_out, torch.zeros_like(grad_out))


@decomposition(_aten.hardswish_backward.default)
def hardswish_backward(grad_output: torch.Tensor, self: torch.Tensor) -> torch.Tensor:
    """The cotangent from 3 up, zero from -3 down, times x / 3 + 1/2 between.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardswish.html
    """
    inside = grad_output * (self / 3 + 0.5)
    return torch.where(self >= 3, grad_output, torch.where(self <= -3, torch.zeros_like(inside), inside))
