"""Normalizations with given or own statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gradport.importing.table import translation

Tensor = torch.Tensor


def _channels(x: Tensor, values: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (x.dim() - 2))


@translation("BatchNormalization")
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    /,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> Tensor | tuple[Tensor, ...]:
    """With the given statistics; in training mode with those of the batch, and running statistics beside the result."""
    if not training_mode and (mean.requires_grad or variance.requires_grad):
        inverse = torch.rsqrt(_channels(x, variance) + epsilon)
        return (x - _channels(x, mean)) * inverse * _channels(x, scale) + _channels(x, bias)
    if not training_mode:
        return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    own_mean, own_variance = x.mean(axes), x.var(axes, correction=0)
    result = (x - _channels(x, own_mean)) / torch.sqrt(_channels(x, own_variance) + epsilon)
    result = result * _channels(x, scale) + _channels(x, bias)
    running = (mean * momentum + own_mean * (1 - momentum), variance * momentum + own_variance * (1 - momentum))
    return result, *running


@translation("InstanceNormalization")
def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, /, *, epsilon: float = 1e-5) -> Tensor:
    axes = list(range(2, x.dim()))
    centred = x - x.mean(axes, keepdim=True)
    spread = torch.sqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
    return centred / spread * _channels(x, scale) + _channels(x, bias)


@translation("GroupNormalization", since=21)
def group_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    /,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """Scale and bias of each channel."""
    return F.group_norm(x, num_groups, scale, bias, epsilon)


@translation("GroupNormalization", since=18)
def group_normalization_by_group(
    x: Tensor, scale: Tensor, bias: Tensor, /, *, num_groups: int, epsilon: float = 1e-5
) -> Tensor:
    """Scale and bias of each group."""
    each = x.shape[1] // num_groups
    return F.group_norm(x, num_groups, scale.repeat_interleave(each), bias.repeat_interleave(each), epsilon)


@translation("LayerNormalization")
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    /,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, the mean, and the inverse of the standard deviation; computed in float32 for narrower dtypes."""
    wide = x.float() if stash_type == 1 and x.dtype in (torch.float16, torch.bfloat16) else x
    axes = list(range(axis % x.dim(), x.dim()))
    mean = wide.mean(axes, keepdim=True)
    centred = wide - mean
    inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
    result = (centred * inverse).to(x.dtype) * scale
    return result if bias is None else result + bias, mean, inverse


@translation("RMSNormalization")
def rms_normalization(
    x: Tensor, scale: Tensor, /, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    wide = x.float() if stash_type == 1 and x.dtype in (torch.float16, torch.bfloat16) else x
    axes = list(range(axis % x.dim(), x.dim()))
    return (wide * torch.rsqrt((wide * wide).mean(axes, keepdim=True) + epsilon)).to(x.dtype) * scale


@translation("LpNormalization")
def lp_normalization(x: Tensor, /, *, axis: int = -1, p: int = 2) -> Tensor:
    """A vector of norm zero stays zero."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)


@translation("MeanVarianceNormalization")
def mean_variance_normalization(x: Tensor, /, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    chosen = list(axes)
    mean = x.mean(chosen, keepdim=True)
    variance = (x * x).mean(chosen, keepdim=True) - mean * mean
    return (x - mean) / (variance.sqrt() + 1e-9)


@translation("LRN")
def local_response_normalization(
    x: Tensor, /, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Tensor:
    """Over neighbouring channels: floor((size - 1) / 2) before, the rest after."""
    before = (size - 1) // 2
    squares = F.pad((x * x).movedim(1, -1), (before, size - 1 - before)).unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return x / (bias + alpha / size * squares) ** beta
