"""Elimination over the rows of a matrix of dynamic size: each step is the body of a scan.

Rows that are not computed yet are zero in the state, so a product over all rows is a product over the computed rows.
The forms for a fixed size are in `triangular`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["cholesky", "is_dynamic", "lu_factor", "order", "solve"]

Tensors = tuple[torch.Tensor, ...]


def is_dynamic(*sizes: Any) -> bool:
    """Whether a size is symbolic."""
    return any(isinstance(size, torch.SymInt) for size in sizes)


def _scan(
    step: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    state: torch.Tensor,
    over: Sequence[torch.Tensor],
    fixed: Sequence[torch.Tensor] = (),
) -> Tensors:
    """Scans `step(state, *items of over, *fixed) -> (state, row)`; returns the last state and the rows."""
    results: Tensors = torch.ops.higher_order.scan(lambda *each: list(step(*each)), [state], list(over), tuple(fixed))
    return results


def _places(like: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.arange(like.shape[axis], device=like.device)


def lu_factor(matrix: torch.Tensor, pivot: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """L and U in one matrix, and the pivots, counted from 1 (Golub and Van Loan, "Matrix Computations", 3.4.1)."""
    count = torch.sym_min(matrix.shape[-2], matrix.shape[-1])

    def step(matrix: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        number, across = _places(matrix, -2), _places(matrix, -1)
        here = k.reshape(1)
        chosen = here.expand(*matrix.shape[:-2], 1)
        if pivot:
            column = matrix.index_select(-1, here).squeeze(-1)
            chosen = torch.where(number >= k, column.abs(), -torch.ones_like(column)).argmax(-1, keepdim=True)
            swapped = torch.where(number == k, chosen, torch.where(number == chosen, k, number))
            matrix = matrix.gather(-2, swapped.unsqueeze(-1).expand(matrix.shape))
        row, column = matrix.index_select(-2, here), matrix.index_select(-1, here)
        head = row.index_select(-1, here)
        below = (number > k).unsqueeze(-1)
        factor = torch.where(below, column / torch.where(head == 0, torch.ones_like(head), head), 0.0)
        reduced = matrix - factor * torch.where(across > k, row, torch.zeros_like(row))
        return torch.where(below & (across == k), factor, reduced), chosen + 1

    packed, pivots = _scan(
        step, matrix.clone(memory_format=torch.contiguous_format), [torch.arange(count, device=matrix.device)]
    )
    return packed, pivots.squeeze(-1).movedim(0, -1).to(torch.int32)


def order(pivots: torch.Tensor, rows: Any) -> torch.Tensor:
    """The row that the pivots move to each place."""
    batch = pivots.shape[:-1]
    start = torch.arange(rows, device=pivots.device).expand(*batch, rows).clone()

    def step(order: torch.Tensor, k: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        number = _places(order, -1)
        swapped = torch.where(number == k, other, torch.where(number == other, k, number))
        return order.gather(-1, swapped.expand(order.shape)), k.reshape(1).clone()

    others = (pivots.to(torch.int64) - 1).movedim(-1, 0).unsqueeze(-1)
    return _scan(step, start, [torch.arange(pivots.shape[-1], device=pivots.device), others])[0]


def solve(matrix: torch.Tensor, right: torch.Tensor, *, upper: bool, unit: bool) -> torch.Tensor:
    """`matrix^-1 right` of a triangular matrix; reads only that triangle (as above, 3.1)."""
    batch = torch.broadcast_shapes(matrix.shape[:-2], right.shape[:-2])
    matrix, right = matrix.expand(*batch, *matrix.shape[-2:]), right.expand(*batch, *right.shape[-2:])

    def step(
        solution: torch.Tensor, i: torch.Tensor, matrix: torch.Tensor, right: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        here, number = i.reshape(1), _places(solution, -2).unsqueeze(-1)
        read = matrix.index_select(-2, here)
        diagonal = read.index_select(-1, here)
        row = right.index_select(-2, here) - read @ solution
        row = row if unit else row / diagonal
        return torch.where(number == i, row, solution), here.clone()

    size = matrix.shape[-1]
    places = torch.arange(size, device=matrix.device)
    return _scan(step, right.new_zeros(right.shape), [size - 1 - places if upper else places], [matrix, right])[0]


def cholesky(matrix: torch.Tensor) -> torch.Tensor:
    """The lower triangular factor, one column at a time (as above, 4.2.5)."""

    def step(lower: torch.Tensor, j: torch.Tensor, matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        here, number = j.reshape(1), _places(matrix, -1)
        column = matrix.index_select(-1, here) - lower @ lower.index_select(-2, here).mT
        head = column.index_select(-2, here).sqrt()
        column = torch.where((number >= j).unsqueeze(-1), column / head, torch.zeros_like(column))
        return torch.where(number == j, column, lower), here.clone()

    places = torch.arange(matrix.shape[-1], device=matrix.device)
    return _scan(step, matrix.new_zeros(matrix.shape), [places], [matrix])[0]
