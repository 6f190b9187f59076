"""Order statistics, by sorting; of tied values the index is torch's."""

from __future__ import annotations

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import booleans, reals, sample
from gradport.operators.table import decomposition

__all__: list[str] = []


def _pick(
    values: torch.Tensor, places: torch.Tensor, rank: torch.Tensor, dim: int, keepdim: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    value, place = values.gather(dim, rank), places.gather(dim, rank)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


@decomposition(_aten.sort.stable, samples=[sample(lambda x: torch.sort(x, dim=1, stable=True).values, reals("n", 4))])
def sort(
    self: torch.Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted values and their indices: ONNX's TopK keeps the order of equal values.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.sort.html, https://onnx.ai/onnx/operators/onnx__TopK.html
    """
    return torch.sort(self, dim, descending)


@decomposition(
    _aten.max.dim,
    samples=[sample(lambda x, mask: x * mask.max(1, keepdim=True).values, reals("n", 4), booleans("n", 4))],
)
def max_dim(self: torch.Tensor, dim: int, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The maximum of booleans, converted to integers, which ONNX can compare.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.max.html
    """
    if self.dtype != torch.bool:
        return NotImplemented
    value, place = torch.max(self.to(torch.int64), dim, keepdim)
    return value.to(torch.bool), place


@decomposition(
    _aten.min.dim,
    samples=[sample(lambda x, mask: x * mask.min(1, keepdim=True).values, reals("n", 4), booleans("n", 4))],
)
def min_dim(self: torch.Tensor, dim: int, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """As above.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.min.html
    """
    if self.dtype != torch.bool:
        return NotImplemented
    value, place = torch.min(self.to(torch.int64), dim, keepdim)
    return value.to(torch.bool), place


@decomposition(_aten.kthvalue.default, samples=[sample(lambda x: torch.kthvalue(x, 2, dim=1).values, reals("n", 4))])
def kthvalue(self: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The k-th smallest element along a dimension, and its index.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.kthvalue.html
    """
    if self.dim() == 0:
        return self.clone(), torch.zeros((), dtype=torch.int64, device=self.device)
    values, places = torch.sort(self, stable=True, dim=dim)
    value, place = values.select(dim, k - 1), places.select(dim, k - 1)
    return (value.unsqueeze(dim), place.unsqueeze(dim)) if keepdim else (value, place)


@decomposition(_aten.median.dim, samples=[sample(lambda x: torch.median(x, dim=1).values, reals("n", 4))])
def median_dim(self: torch.Tensor, dim: int, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The lower median along a dimension, and its index; nan and its first index if there is a nan.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.median.html
    """
    if self.dim() == 0:
        return self.clone(), torch.zeros((), dtype=torch.int64, device=self.device)
    value, place = kthvalue(self, (self.shape[dim] + 1) // 2, dim, True)
    if self.is_floating_point():
        broken = self.isnan()
        first = broken.to(torch.int64).argmax(dim, keepdim=True)
        any_broken = broken.any(dim, keepdim=True)
        value = torch.where(any_broken, torch.full_like(value, float("nan")), value)
        place = torch.where(any_broken, first, place)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


@decomposition(_aten.median.default, samples=[sample(torch.median, reals("n", 4))])
def median(self: torch.Tensor) -> torch.Tensor:
    """The lower median of all elements.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.median.html
    """
    return median_dim(self.reshape(-1), 0)[0]


@decomposition(_aten.nanmedian.dim, samples=[sample(lambda x: torch.nanmedian(x, dim=1).values, reals("n", 4))])
def nanmedian_dim(self: torch.Tensor, dim: int, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The lower median of the elements that are not nan.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nanmedian.html
    """
    if self.dim() == 0:
        return self.clone(), torch.zeros((), dtype=torch.int64, device=self.device)
    if not self.is_floating_point():
        return median_dim(self, dim, keepdim)
    broken = self.isnan()
    count = (~broken).to(torch.int64).sum(dim, keepdim=True)
    values, places = torch.sort(torch.where(broken, torch.full_like(self, float("inf")), self), stable=True, dim=dim)
    value, place = _pick(values, places, ((count - 1).clamp(min=0)) // 2, dim, True)
    value = torch.where(count == 0, torch.full_like(value, float("nan")), value)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


@decomposition(_aten.nanmedian.default, samples=[sample(torch.nanmedian, reals("n", 4))])
def nanmedian(self: torch.Tensor) -> torch.Tensor:
    """The lower median of all elements that are not nan.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nanmedian.html
    """
    return nanmedian_dim(self.reshape(-1), 0)[0]


@decomposition(
    _aten.mode.default, samples=[sample(lambda x: torch.mode(x.round(), dim=1).values * x.sum(1), reals("n", 5))]
)
def mode(self: torch.Tensor, dim: int = -1, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The most frequent value (of several the smallest), and the last index of it.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.mode.html
    """
    if self.dim() == 0:
        return self.clone(), torch.zeros((), dtype=torch.int64, device=self.device)
    last = self.movedim(dim, -1)
    values, places = torch.sort(last, stable=True, dim=-1)
    count = (values.unsqueeze(-1) == values.unsqueeze(-2)).to(torch.int64).sum(-1)
    rank = count.argmax(-1, keepdim=True)  # the first run of the largest count: the smallest value
    rank = rank + count.gather(-1, rank) - 1
    value, place = values.gather(-1, rank).movedim(-1, dim), places.gather(-1, rank).movedim(-1, dim)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))
