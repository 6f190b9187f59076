"""Losses whose original asks about values."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from gradport.operators.written.registry import written


@written(F.gaussian_nll_loss)
def gaussian_nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    var: torch.Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> torch.Tensor:
    """Half of `log var + (input - target)^2 / var`, the variance at least eps and constant where it is not.

    The original raises where a variance is negative, which a graph cannot.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GaussianNLLLoss.html
    """
    width = var * torch.ones_like(input) if isinstance(var, float) else var
    if width.dim() == input.dim() - 1 and width.shape != input.shape:
        width = width.unsqueeze(-1)
    width = width + (width.clamp(min=eps) - width).detach()
    loss = 0.5 * (width.log() + (input - target) ** 2 / width)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss
