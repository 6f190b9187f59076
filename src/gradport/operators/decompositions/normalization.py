"""Normalization whose gradient torch leaves to a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.table import decomposition

__all__: list[str] = []

Pair = tuple[torch.Tensor, torch.Tensor]


@decomposition(_aten._weight_norm_interface_backward.default)
def weight_norm_backward(
    grad_w: torch.Tensor, saved_v: torch.Tensor, saved_g: torch.Tensor, saved_norms: torch.Tensor, dim: int
) -> Pair:
    """The gradients of v and g, where w = g v / |v| and |v| is taken over all dimensions but `dim`.

    Source: T. Salimans, D. Kingma, "Weight Normalization", 2016, equation 3
    """
    kept = dim % saved_v.dim()
    others = [axis for axis in range(saved_v.dim()) if axis != kept]
    v, w = saved_v.to(saved_norms.dtype), grad_w.to(saved_norms.dtype)
    grad_g = (w * v).sum(others, keepdim=True) / saved_norms
    grad_v = saved_g / saved_norms * (w - v * (grad_g / saved_norms))
    return grad_v.to(saved_v.dtype), grad_g.to(saved_g.dtype)


@decomposition(_aten.native_layer_norm.default)
def native_layer_norm(
    input: torch.Tensor,
    normalized_shape: Sequence[Any],
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> Any:
    """In float32 where a half-precision input has float32 weights, as autocast gives them; ONNX's operator takes one
    type. Else it stays an operator.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html
    """
    given = [tensor.dtype for tensor in (input, weight, bias) if tensor is not None]
    if len(set(given)) == 1:
        return NotImplemented
    wide = torch.float32
    axes = list(range(input.dim() - len(normalized_shape), input.dim()))
    x = input.to(wide)
    mean = x.mean(axes, keepdim=True)
    rstd = ((x - mean).square().mean(axes, keepdim=True) + eps).rsqrt()
    found = (x - mean) * rstd
    found = found if weight is None else found * weight.to(wide)
    found = found if bias is None else found + bias.to(wide)
    return found.to(input.dtype), mean, rstd
