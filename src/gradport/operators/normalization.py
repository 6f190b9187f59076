"""Normalization: gradients that torch leaves to a kernel, and running statistics that are an average of all batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradport.compat.torch.modules import batch_norms_by
from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import decomposition

__all__ = ["averages_written"]

Pair = tuple[torch.Tensor, torch.Tensor]


@decomposition(
    _aten._weight_norm_interface_backward.default,
    samples=[sample(_aten._weight_norm.default, reals(3, 4), reals(3, 1))],
)
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


def averages_written() -> contextlib.AbstractContextManager[None]:
    """While open, such layers compute as they are written here."""
    return batch_norms_by(_normalize)


def _normalize(layer: Any, input: torch.Tensor, own: Callable[..., torch.Tensor]) -> torch.Tensor:
    if layer.momentum is not None or not layer.training or layer.running_mean is None:
        return own(layer, input)
    _average(layer, input.detach())
    return F.batch_norm(input, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)


def _average(layer: Any, input: torch.Tensor) -> None:
    """Moves the running statistics by one batch."""
    layer.num_batches_tracked.add_(1)
    share = 1 / layer.num_batches_tracked.to(layer.running_mean.dtype)
    axes = [0, *range(2, input.dim())]
    layer.running_mean.add_(share * (input.mean(axes) - layer.running_mean))
    layer.running_var.add_(share * (input.var(axes, correction=1) - layer.running_var))
