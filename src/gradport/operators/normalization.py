"""Normalization: gradients that torch implements as kernels, and running statistics that average over all batches."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from gradport.compat.torch.modules import override_batch_norms
from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import decomposition

__all__ = ["average_statistics"]

_HALVES = (torch.float16, torch.bfloat16)

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
    """Half precision, and dtypes that differ (under autocast: a half-precision input, float32 weights), in float32: the
    operator of ONNX takes one dtype, and gives the mean in float32. With one dtype the operator stays.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html
    """
    dtypes = {tensor.dtype for tensor in (input, weight, bias) if tensor is not None}
    if len(dtypes) == 1 and dtypes.isdisjoint(_HALVES):
        return NotImplemented
    wide = [None if tensor is None else _in_dtype(tensor, torch.float32) for tensor in (input, weight, bias)]
    normalized, mean, rstd = _aten.native_layer_norm.default(wide[0], normalized_shape, wide[1], wide[2], eps)
    return normalized.to(input.dtype), mean, rstd


@decomposition(
    _aten.native_layer_norm_backward.default,
    samples=[
        sample(lambda x, w, b: F.layer_norm(x, (4,), w, b), reals("n", 3, 4), reals(4), reals(4)),
        sample(lambda x, w: F.layer_norm(x, (3, 4), w), reals("n", 3, 4), reals(3, 4)),
        sample(lambda x: F.layer_norm(x, (3, 4)), reals(3, 4, dtype=torch.bfloat16)),
    ],
)
def native_layer_norm_backward(
    grad_out: torch.Tensor,
    input: torch.Tensor,
    normalized_shape: Sequence[int],
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    output_mask: Sequence[bool],
) -> tuple[torch.Tensor | None, ...]:
    """The gradients of input, weight and bias, with x the normalized input, w the weight and dy the cotangent:
    `rstd (dy w - mean(dy w) - x mean(dy w x))`, and the sums of `dy x` and of `dy` over the batch.

    Source: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016; https://arxiv.org/abs/1607.06450
    """
    own = list(range(input.dim() - len(normalized_shape), input.dim()))
    batch = list(range(own[0]))
    size = math.prod(normalized_shape)
    wide = torch.float32 if input.dtype in _HALVES else input.dtype
    dy = _in_dtype(grad_out, wide)
    normalized = (_in_dtype(input, wide) - mean) * rstd
    by_input = by_weight = by_bias = None
    if output_mask[0]:
        slope = dy if weight is None else dy * _in_dtype(weight, wide)
        constant = slope.sum(own, keepdim=True) / size
        linear = (slope * normalized).sum(own, keepdim=True) / size
        by_input = _in_dtype((slope - constant - normalized * linear) * rstd, input.dtype)
    if output_mask[1] and weight is not None:
        by_weight = _in_dtype(_sum(dy * normalized, batch), weight.dtype)
    if output_mask[2] and bias is not None:
        by_bias = _in_dtype(_sum(dy, batch), bias.dtype)
    return by_input, by_weight, by_bias


def _in_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _sum(tensor: torch.Tensor, axes: list[int]) -> torch.Tensor:
    """The sum over axes; without axes torch would sum over all."""
    return tensor.sum(axes) if axes else tensor.clone()


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
