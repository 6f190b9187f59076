"""Normalization: gradients that torch implements as kernels, and running statistics that average over all batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradport.compat.torch.modules import override_batch_norms
from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import decomposition

__all__ = ["average_statistics"]

Pair = tuple[torch.Tensor, torch.Tensor]


@decomposition(
    _aten._weight_norm_interface_backward.default,
    samples=[sample(_aten._weight_norm.default, reals(3, 4), reals(3, 1))],
)
def weight_norm_backward(
    grad_w: torch.Tensor, saved_v: torch.Tensor, saved_g: torch.Tensor, saved_norms: torch.Tensor, dim: int
) -> Pair:
    """The gradients of v and g, where w = g v / |v| and |v| is the norm over all dimensions except `dim`.

    Source: T. Salimans, D. Kingma, "Weight Normalization", 2016, equation 3
    """
    own = dim % saved_v.dim()
    others = [axis for axis in range(saved_v.dim()) if axis != own]
    v, w = saved_v.to(saved_norms.dtype), grad_w.to(saved_norms.dtype)
    grad_g = (w * v).sum(others, keepdim=True) / saved_norms
    grad_v = saved_g / saved_norms * (w - v * (grad_g / saved_norms))
    return grad_v.to(saved_v.dtype), grad_g.to(saved_g.dtype)


@decomposition(
    _aten.native_layer_norm.default,
    samples=[sample(lambda x, k: F.layer_norm(x, (4,), 1.0 + k), reals("n", 4, dtype=torch.bfloat16), integers(4))],
)
def native_layer_norm(
    input: torch.Tensor,
    normalized_shape: Sequence[Any],
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> Any:
    """Computes in float32 if the dtypes differ (under autocast: half-precision input, float32 weights): ONNX's operator
    takes one dtype. With one dtype the operator stays.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html
    """
    dtypes = [tensor.dtype for tensor in (input, weight, bias) if tensor is not None]
    if len(set(dtypes)) == 1:
        return NotImplemented
    wide = torch.float32
    axes = list(range(input.dim() - len(normalized_shape), input.dim()))
    x = input.to(wide)
    mean = x.mean(axes, keepdim=True)
    rstd = ((x - mean).square().mean(axes, keepdim=True) + eps).rsqrt()
    normalized = (x - mean) * rstd
    normalized = normalized if weight is None else normalized * weight.to(wide)
    normalized = normalized if bias is None else normalized + bias.to(wide)
    return normalized.to(input.dtype), mean, rstd


def average_statistics() -> contextlib.AbstractContextManager[None]:
    """While open, BatchNorm layers without momentum average their statistics by the code in this file."""
    return override_batch_norms(_normalize)


def _normalize(layer: Any, input: torch.Tensor, own: Callable[..., torch.Tensor]) -> torch.Tensor:
    if layer.momentum is not None or not layer.training or layer.running_mean is None:
        return own(layer, input)
    _average(layer, input.detach())
    return F.batch_norm(input, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)


def _average(layer: Any, input: torch.Tensor) -> None:
    """Updates the running statistics with one batch."""
    layer.num_batches_tracked.add_(1)
    share = 1 / layer.num_batches_tracked.to(layer.running_mean.dtype)
    axes = [0, *range(2, input.dim())]
    layer.running_mean.add_(share * (input.mean(axes) - layer.running_mean))
    layer.running_var.add_(share * (input.var(axes, correction=1) - layer.running_var))
