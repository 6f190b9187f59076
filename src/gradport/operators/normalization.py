"""Normalization: gradients that torch implements as kernels, and running statistics that average over all batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from gradport.compat.torch.modules import override_batch_norms
from gradport.compat.torch.operators import aten as _aten
from gradport.operators.axes import numbers
from gradport.operators.precision import narrow, shaped, widen
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import decomposition, lowering, op

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


@lowering(
    _aten.native_layer_norm_backward.default,
    samples=[
        sample(lambda x, w, b: F.layer_norm(x, (4,), w, b), reals("n", 3, 4), reals(4), reals(4)),
        sample(lambda x, w: F.layer_norm(x, (3, 4), w), reals("n", 3, 4), reals(3, 4)),
        sample(lambda x: F.layer_norm(x, (3, 4)), reals(3, 4, dtype=torch.bfloat16)),
    ],
)
def native_layer_norm_backward(
    grad_out: ir.Value,
    input: ir.Value,
    normalized_shape: Sequence[Any],
    mean: ir.Value,
    rstd: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    output_mask: Sequence[bool],
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The gradients of input, weight and bias, with x the normalized input, w the weight and dy the cotangent:
    `rstd (dy w - mean(dy w) - x mean(dy w x))`, and the sums of `dy x` and of `dy` over the batch.

    Source: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016; https://arxiv.org/abs/1607.06450
    """
    x, dy = widen(input), widen(grad_out)
    rank = len(input.shape or ())
    own, batch = numbers(range(rank - len(normalized_shape), rank)), range(rank - len(normalized_shape))
    normalized = shaped(op.Mul(shaped(op.Sub(x, widen(mean)), x), widen(rstd)), x)
    slope = dy if weight is None else shaped(op.Mul(dy, widen(weight)), x)
    constant = op.ReduceMean(slope, own)
    linear = op.ReduceMean(shaped(op.Mul(slope, normalized), x), own)
    without = shaped(op.Sub(shaped(op.Sub(slope, constant), x), shaped(op.Mul(normalized, linear), x)), x)
    product = shaped(op.Mul(dy, normalized), x)
    by_weight, by_bias = (
        op.ReduceSum(value, numbers(batch), keepdims=0) if batch else value for value in (product, dy)
    )
    return (narrow(op.Mul(without, widen(rstd)), input), narrow(by_weight, weight), narrow(by_bias, bias))


def _in_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


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
