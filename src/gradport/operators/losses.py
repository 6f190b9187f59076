"""Losses whose torch code branches on values, and gradients of losses that read one class per sample."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import integers, reals, sample
from gradport.operators.table import decomposition, replacement

__all__: list[str] = []


@replacement(
    F.gaussian_nll_loss, samples=[sample(F.gaussian_nll_loss, reals("n", 4), reals("n", 4), reals("n", 4, low=0.5))]
)
def gaussian_nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    var: torch.Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> torch.Tensor:
    """Half of `log var + (input - target)^2 / var`; `var` is clamped to at least eps, without change of its gradient.

    torch raises if a variance is negative; a graph cannot.

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


@decomposition(
    _aten.nll_loss_backward.default,
    _aten.nll_loss2d_backward.default,
    samples=[sample(F.cross_entropy, reals("n", 4), integers("n"))],
)
def nll_loss_backward(
    grad_output: torch.Tensor,
    self: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: torch.Tensor,
) -> torch.Tensor:
    """Minus the cotangent times the weight of the class, only at the class: no value is multiplied by zero.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html
    """
    axis = 1 if self.dim() > 1 else 0
    index = target.unsqueeze(axis)
    counted = index != ignore_index
    index = torch.where(counted, index, torch.zeros_like(index))
    share = grad_output / total_weight if reduction == 1 else grad_output
    if reduction == 0:
        share = share.unsqueeze(axis)
    if weight is not None:
        share = share * weight.index_select(0, index.reshape(-1)).reshape(index.shape)
    values = torch.where(counted, -share, torch.zeros((), dtype=self.dtype, device=self.device))
    return torch.zeros_like(self).scatter(axis, index, values.expand(index.shape))


@decomposition(_aten.smooth_l1_loss_backward.default, samples=[sample(F.smooth_l1_loss, reals("n", 4), reals("n", 4))])
def smooth_l1_loss_backward(
    grad_output: torch.Tensor, self: torch.Tensor, target: torch.Tensor, reduction: int, beta: float
) -> torch.Tensor:
    """The difference over beta if it is small, else its sign; nan stays nan.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.SmoothL1Loss.html
    """
    off = self - target
    share = grad_output / off.numel() if reduction == 1 else grad_output
    return share * torch.where(off.abs() >= beta, off.sign(), off / beta if beta else off)


@decomposition(
    _aten.soft_margin_loss.default,
    samples=[sample(lambda x, k: F.soft_margin_loss(x, 2.0 * k - 1), reals("n", 4), integers("n", 4, high=1))],
)
def soft_margin_loss(x: torch.Tensor, target: torch.Tensor, reduction: int = 1) -> torch.Tensor:
    """`log(1 + exp(-target x))`, reduced.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.SoftMarginLoss.html
    """
    loss = (-target * x).exp().log1p()
    return loss.mean() if reduction == 1 else loss.sum() if reduction == 2 else loss


@decomposition(
    _aten.soft_margin_loss_backward.default,
    samples=[sample(lambda x, k: F.soft_margin_loss(x, 2.0 * k - 1), reals("n", 4), integers("n", 4, high=1))],
)
def soft_margin_loss_backward(
    grad_output: torch.Tensor, self: torch.Tensor, target: torch.Tensor, reduction: int
) -> torch.Tensor:
    """`-target sigmoid(-target x)`, divided by the number of elements for a mean; does not subtract numbers near 1.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.SoftMarginLoss.html
    """
    slope = -target * torch.sigmoid(-target * self) * grad_output
    return slope / self.numel() if reduction == 1 else slope
