"""Gradients of losses that read one class of each sample."""

from __future__ import annotations

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.table import decomposition

__all__: list[str] = []


@decomposition(_aten.nll_loss_backward.default, _aten.nll_loss2d_backward.default)
def nll_loss_backward(
    grad_output: torch.Tensor,
    self: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: torch.Tensor,
) -> torch.Tensor:
    """Minus the cotangent and the weight of the class, at the class alone: nothing is multiplied by a zero.

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


@decomposition(_aten.smooth_l1_loss_backward.default)
def smooth_l1_loss_backward(
    grad_output: torch.Tensor, self: torch.Tensor, target: torch.Tensor, reduction: int, beta: float
) -> torch.Tensor:
    """The difference over beta where it is small, else its sign; nan where it is nan.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.SmoothL1Loss.html
    """
    off = self - target
    share = grad_output / off.numel() if reduction == 1 else grad_output
    return share * torch.where(off.abs() >= beta, off.sign(), off / beta if beta else off)
