"""Distances between all pairs of rows, and their gradients."""

from __future__ import annotations

import math

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.table import decomposition, fixed

__all__: list[str] = []


@decomposition(_aten._cdist_forward.default)
def cdist(x1: torch.Tensor, x2: torch.Tensor, p: float, compute_mode: int | None) -> torch.Tensor:
    """The p-norm of every difference.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cdist.html
    """
    return _norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p)


@decomposition(_aten._cdist_backward.default)
def cdist_backward(
    grad: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor, p: float, cdist: torch.Tensor
) -> torch.Tensor:
    """The gradient of the first argument: the derivative of the norm of each difference, summed over the second.

    Source: as above; the subgradient at a distance of zero is zero
    """
    difference = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    return (grad.unsqueeze(-1) * _derivative(difference, cdist.unsqueeze(-1), p)).sum(-2)


@decomposition(_aten._pdist_forward.default)
def pdist(self: torch.Tensor, p: float = 2) -> torch.Tensor:
    """The p-norm of the difference of each row to every later one.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pdist.html
    """
    first, second = _pairs(self)
    return _norm(self.index_select(0, first) - self.index_select(0, second), p)


@decomposition(_aten._pdist_backward.default)
def pdist_backward(grad: torch.Tensor, self: torch.Tensor, p: float, pdist: torch.Tensor) -> torch.Tensor:
    """As for `cdist`; each pair gives to both of its rows.

    Source: as above
    """
    first, second = _pairs(self)
    difference = self.index_select(0, first) - self.index_select(0, second)
    given = grad.unsqueeze(-1) * _derivative(difference, pdist.unsqueeze(-1), p)
    return torch.zeros_like(self).index_add(0, first, given).index_add(0, second, -given)


def _pairs(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    count = int(rows.shape[0])
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    return fixed([i for i, _ in pairs], torch.int64), fixed([j for _, j in pairs], torch.int64)


def _norm(difference: torch.Tensor, p: float) -> torch.Tensor:
    if difference.shape[-1] == 0:
        return difference.sum(-1)
    if p == 0:
        return (difference != 0).to(difference.dtype).sum(-1)
    if math.isinf(p):
        return difference.abs().amax(-1)
    if p == 1:
        return difference.abs().sum(-1)
    if p == 2:
        return (difference * difference).sum(-1).sqrt()
    return difference.abs().pow(p).sum(-1).pow(1 / p)


def _derivative(difference: torch.Tensor, distance: torch.Tensor, p: float) -> torch.Tensor:
    zero = torch.zeros_like(difference)
    if p == 0:
        return zero
    if p == 1:
        return torch.where(difference.isnan(), difference, difference.sign())
    if math.isinf(p):
        taken = difference.sign() * (difference.abs() == distance).to(difference.dtype)
        return torch.where(distance.isnan(), distance, taken)
    apart = distance != 0
    safe = torch.where(apart, distance, torch.ones_like(distance))
    if p == 2:
        return torch.where(apart, difference / safe, zero)
    size = difference.abs()
    moved = apart & (size != 0)
    grown = torch.where(moved, size, torch.ones_like(size)).pow(p - 1) * difference.sign() / safe.pow(p - 1)
    return torch.where(moved, grown, zero)
