"""Pairs of indices, and distances of pairs: at dynamic sizes the number of pairs is an expression of the sizes.

torch builds pairs with kernels that need plain numbers, or with a mask whose count depends on data. Here a formula
gives the number of pairs, and the number of rows that end before a pair gives its row."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F

from gradport.compat.torch.operators import aten as _aten
from gradport.operators.samples import reals, sample
from gradport.operators.table import constant, decomposition, replacement

__all__: list[str] = []

_DIRECT = "donot_use_mm_for_euclid_dist"

_triu_indices, _tril_indices = torch.triu_indices, torch.tril_indices
_combinations, _pdist, _cdist = torch.combinations, torch.pdist, torch.cdist


@replacement(
    torch.triu_indices,
    samples=[sample(lambda x: x[tuple(torch.triu_indices(x.shape[0], x.shape[0]))], reals("n", "n"))],
)
def triu_indices(row: Any, col: Any, offset: int = 0, **options: Any) -> torch.Tensor:
    """Rows and columns of the upper triangle, [2, count].

    Source: https://docs.pytorch.org/docs/stable/generated/torch.triu_indices.html
    """
    if not any(isinstance(size, torch.SymInt) for size in (row, col)):
        return _triu_indices(row, col, offset, **options)
    count = _above(row, col, offset)
    rows = torch.arange(row)
    first = (rows + offset).clamp(min=0)
    return _list_pairs(count, row, first, (col - first).clamp(min=0), options)


@replacement(
    torch.tril_indices,
    samples=[sample(lambda x: x[tuple(torch.tril_indices(x.shape[0], x.shape[0]))], reals("n", "n"))],
)
def tril_indices(row: Any, col: Any, offset: int = 0, **options: Any) -> torch.Tensor:
    """Rows and columns of the lower triangle, [2, count].

    Source: https://docs.pytorch.org/docs/stable/generated/torch.tril_indices.html
    """
    if not any(isinstance(size, torch.SymInt) for size in (row, col)):
        return _tril_indices(row, col, offset, **options)
    count = row * col - _above(row, col, offset + 1)
    rows = torch.arange(row)
    width = torch.minimum((rows + offset + 1).clamp(min=0), torch.zeros_like(rows) + col)
    return _list_pairs(count, row, torch.zeros_like(rows), width, options)


def _above(row: Any, col: Any, offset: int) -> Any:
    """The number of elements (i, j) of a matrix with j - i >= offset."""
    if offset < 0:
        whole = torch.sym_min(row, -offset)  # rows whose columns are all in the triangle
        return whole * col + _above(row - whole, col, 0)
    longest, shortest = torch.sym_max(col - offset, 0), torch.sym_max(col - offset - row, 0)
    return longest * (longest + 1) // 2 - shortest * (shortest + 1) // 2


def _list_pairs(count: Any, row: Any, first: torch.Tensor, width: torch.Tensor, options: Any) -> torch.Tensor:
    """The pairs row by row; row i has `width[i]` columns from column `first[i]`."""
    ends = width.cumsum(0)
    ended = torch.zeros(count + 1, dtype=torch.int64).index_add(0, ends, torch.ones_like(ends))
    rows = ended.cumsum(0)[:count]
    columns = torch.arange(count) - (ends - width)[rows] + first[rows]
    return torch.stack([rows, columns]).to(options.get("dtype") or torch.int64)


@replacement(torch.combinations, samples=[sample(torch.combinations, reals("n"))])
def combinations(input: torch.Tensor, r: int = 2, with_replacement: bool = False) -> torch.Tensor:
    """Combinations of the elements, [count, r]; at a dynamic length only pairs (r = 2).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.combinations.html
    """
    length = input.shape[0]
    if isinstance(length, torch.SymInt):
        if r != 2:
            return _combinations(input, r, with_replacement)
        rows, columns = triu_indices(length, length, 0 if with_replacement else 1)
        return torch.stack([input[rows], input[columns]], 1)
    chosen = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = torch.tensor(list(chosen(range(length), r)), dtype=torch.int64).reshape(-1, r)
    return input[places]


@replacement(torch.pdist, torch.nn.functional.pdist, samples=[sample(F.pdist, reals("n", 3))])
def pdist(input: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    """Distances of all pairs of rows, [n (n - 1) / 2].

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pdist.html
    """
    if not isinstance(input.shape[0], torch.SymInt):
        return _pdist(input, p)
    rows, columns = triu_indices(input.shape[0], input.shape[0], 1)
    return torch.linalg.vector_norm(input[rows] - input[columns], p, -1)


@replacement(torch.cdist, samples=[sample(torch.cdist, reals("n", 3), reals("m", 3))])
def cdist(x1: torch.Tensor, x2: torch.Tensor, p: float = 2.0, compute_mode: Any = None) -> torch.Tensor:
    """Distances of all rows of `x1` to all rows of `x2`. Above 25 rows torch's default computes them by a matrix
    product: the same distances, rounded differently. At dynamic sizes the direct form is used for all sizes.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cdist.html
    """
    usual = compute_mode in (None, "use_mm_for_euclid_dist_if_necessary")
    symbolic = any(isinstance(size, torch.SymInt) for size in (x1.shape[-2], x2.shape[-2]))
    if usual and symbolic:
        compute_mode = _DIRECT
    return _cdist(x1, x2, p, compute_mode or "use_mm_for_euclid_dist_if_necessary")


@decomposition(_aten._cdist_forward.default, samples=[sample(torch.cdist, reals("n", 3), reals("m", 3))])
def cdist_forward(x1: torch.Tensor, x2: torch.Tensor, p: float, compute_mode: int | None) -> torch.Tensor:
    """The p-norm of every difference.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cdist.html
    """
    return _norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p)


@decomposition(_aten._cdist_backward.default, samples=[sample(torch.cdist, reals("n", 3), reals("m", 3))])
def cdist_backward(
    grad: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor, p: float, cdist_forward: torch.Tensor
) -> torch.Tensor:
    """The gradient of the first argument: the derivative of the norm of each difference, summed over the second.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.cdist.html;
    the subgradient at a distance of zero is zero
    """
    difference = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    return (grad.unsqueeze(-1) * _derivative(difference, cdist_forward.unsqueeze(-1), p)).sum(-2)


@decomposition(_aten._pdist_forward.default, samples=[sample(F.pdist, reals("n", 3))])
def pdist_forward(self: torch.Tensor, p: float = 2) -> torch.Tensor:
    """The p-norm of the difference of each row to every later row.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pdist.html
    """
    first, second = _pairs(self)
    return _norm(self.index_select(0, first) - self.index_select(0, second), p)


@decomposition(_aten._pdist_backward.default, samples=[sample(F.pdist, reals("n", 3))])
def pdist_backward(grad: torch.Tensor, self: torch.Tensor, p: float, pdist_forward: torch.Tensor) -> torch.Tensor:
    """As `cdist_backward`; each pair contributes to both of its rows.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pdist.html
    """
    first, second = _pairs(self)
    difference = self.index_select(0, first) - self.index_select(0, second)
    share = grad.unsqueeze(-1) * _derivative(difference, pdist_forward.unsqueeze(-1), p)
    return torch.zeros_like(self).index_add(0, first, share).index_add(0, second, -share)


def _pairs(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    count = int(rows.shape[0])
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    return constant([i for i, _ in pairs], torch.int64), constant([j for _, j in pairs], torch.int64)


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
        extreme = difference.sign() * (difference.abs() == distance).to(difference.dtype)
        return torch.where(distance.isnan(), distance, extreme)
    apart = distance != 0
    safe = torch.where(apart, distance, torch.ones_like(distance))
    if p == 2:
        return torch.where(apart, difference / safe, zero)
    size = difference.abs()
    moved = apart & (size != 0)
    grown = torch.where(moved, size, torch.ones_like(size)).pow(p - 1) * difference.sign() / safe.pow(p - 1)
    return torch.where(moved, grown, zero)
