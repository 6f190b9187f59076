"""Running maxima, minima, products and log-sums along a dimension.

At a fixed size they take a logarithmic number of steps: step s combines each element with the element 2^s places before
it (Hillis and Steele, "Data parallel algorithms", 1986). At a dynamic size the number of steps is unknown, so each
element reduces all elements before it, in quadratic memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import reals, sample
from gradport.operators.table import decomposition

__all__: list[str] = []

_SHORT = 64

Pair = tuple[torch.Tensor, torch.Tensor]


def _shift(x: torch.Tensor, dim: int, by: int, fill: torch.Tensor) -> torch.Tensor:
    """`x` shifted by `by` places along `dim`; the first places get `fill`."""
    head = fill.expand_as(x).narrow(dim, 0, by)
    return torch.cat([head, x.narrow(dim, 0, x.shape[dim] - by)], dim)


def _extreme(x: torch.Tensor, dim: int, keeps_later: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Pair:
    """The running extreme and its index; `keeps_later(later, earlier)` is true where the later value stays."""
    if x.dim() == 0:
        return x.clone(), torch.zeros((), dtype=torch.int64, device=x.device)
    size = x.shape[dim]
    shape = [1] * x.dim()
    shape[dim] = size
    place = torch.arange(size, device=x.device).reshape(shape).expand_as(x)
    by = 1
    while by < size:
        first = torch.arange(size, device=x.device).reshape(shape) < by
        earlier, there = _shift(x, dim, by, x.narrow(dim, 0, 1)), _shift(place, dim, by, place.narrow(dim, 0, 1))
        stays = first | keeps_later(x, earlier)
        x, place = torch.where(stays, x, earlier), torch.where(stays, place, there)
        by *= 2
    return x, place


@decomposition(_aten.cummax.default, samples=[sample(lambda x: torch.cummax(x, 1).values, reals("n", 4))])
def cummax(self: torch.Tensor, dim: int) -> Pair:
    """The running maximum and its last index; a nan stays.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cummax.html
    """
    return _extreme(self, dim, lambda later, earlier: (later >= earlier) & ~earlier.isnan() | later.isnan())


@decomposition(_aten.cummin.default, samples=[sample(lambda x: torch.cummin(x, 1).values, reals("n", 4))])
def cummin(self: torch.Tensor, dim: int) -> Pair:
    """The running minimum and its last index; a nan stays.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cummin.html
    """
    return _extreme(self, dim, lambda later, earlier: (later <= earlier) & ~earlier.isnan() | later.isnan())


def _scan(
    x: torch.Tensor,
    dim: int,
    neutral: float,
    join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    reduce: Callable[[torch.Tensor, int], torch.Tensor],
) -> torch.Tensor:
    if x.dim() == 0:
        return x.clone()
    by, size, fill = 1, x.shape[dim], torch.full_like(x, neutral)
    if isinstance(size, torch.SymInt):
        return _reduce_before(x, dim % x.dim(), neutral, reduce)
    while by < size:
        x = join(x, _shift(x, dim, by, fill))
        by *= 2
    return x


def _reduce_before(
    x: torch.Tensor, dim: int, neutral: float, reduce: Callable[[torch.Tensor, int], torch.Tensor]
) -> torch.Tensor:
    """Reduces elements 0 to i for each i: the rows of a lower triangle, filled up with `neutral`."""
    place = torch.arange(x.shape[dim], device=x.device)
    before = place.unsqueeze(1) >= place
    for _ in range(x.dim() - 1 - dim):
        before = before.unsqueeze(-1)
    return reduce(torch.where(before, x.unsqueeze(dim), torch.full_like(x, neutral).unsqueeze(dim)), dim + 1)


@decomposition(_aten.logcumsumexp.default, samples=[sample(lambda x: torch.logcumsumexp(x, 1), reals("n", 4))])
def logcumsumexp(self: torch.Tensor, dim: int) -> torch.Tensor:
    """The logarithm of the running sum of exponentials; each step factors the larger value out. Along a short dimension
    it is one reduction with one rounding: its gradient subtracts exponentials of the result.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.logcumsumexp.html
    """
    if self.dim() and not isinstance(self.shape[dim], torch.SymInt) and self.shape[dim] <= _SHORT:
        return _reduce_before(self, dim % self.dim(), float("-inf"), torch.logsumexp)
    return _scan(self, dim, float("-inf"), torch.logaddexp, torch.logsumexp)


@decomposition(_aten.cumprod.default, samples=[sample(lambda x: torch.cumprod(x, 1), reals("n", 4))])
def cumprod(self: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The running product.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cumprod.html
    """
    if dtype is None and not (self.is_floating_point() or self.is_complex()):
        dtype = torch.int64
    return _scan(self if dtype is None else self.to(dtype), dim, 1.0, torch.mul, torch.prod)
