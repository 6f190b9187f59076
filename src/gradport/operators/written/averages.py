"""Batch normalization with `momentum=None`: the running statistics are the average of all batches. Torch reads the
count of batches as a number to weigh them, which no graph could; here the weight is a tensor.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from gradport.compat.torch.modules import batch_norms_by

__all__ = ["averages_written"]


def averages_written() -> contextlib.AbstractContextManager[None]:
    """While open, such layers compute as they are written here."""
    return batch_norms_by(_normalized)


def _normalized(layer: Any, input: torch.Tensor, own: Callable[..., torch.Tensor]) -> torch.Tensor:
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
